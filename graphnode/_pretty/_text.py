"""`gn.pformat`: an object as text."""

from typing import Any, Final

from .._arguments import wrong_argument
from ._screen import INDENT, Row, Screen
from ._walk import MAX_ALL, MAX_ENTRIES, tree_of

_MIN: Final = {"width": 20, "depth": 0, "lines": 1}


def pformat(
    value: object,
    /,
    *,
    width: int = 88,
    depth: int | None = None,
    lines: int | None = 48,
) -> str:
    """What `repr` shows of a node, State, state tree, graphdef or a container of them, in another size.

    A State is one line, with dtype and shape; no array is read. Neighbours in a list that
    are alike are one, with their number. An object that was shown before has its
    path behind it, as in `# = layers.0`. Options that are off, which is `None`, `False`
    or empty by default, are left out. Where there is more than fits, the deepest parts
    are closed first, then items are left out: `...` stands for them.

    Args:
        value: What is shown.
        width: The length of a line, but for comments.
        depth: How many levels are opened; by default, as many as half the width can
            indent.
        lines: How many lines there may be; `None` for any number, of up to a million
            parts.

    Raises:
        TypeError: `width`, `depth` or `lines` is not a whole number.
        ValueError: One of them is too small.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3, depth=3)
        >>> print(gn.pformat(model, depth=1))
        MLP(  # 195 parameters, 780 B
          in_size=2, hidden_size=8, out_size=3, depth=3, act=<function relu>,
          layers=[... 4 items]
        )
        >>> print(gn.pformat(model, depth=2))
        MLP(  # 195 parameters, 780 B
          in_size=2, hidden_size=8, out_size=3, depth=3, act=<function relu>,
          layers=[
            0: Linear(...),  # 24 parameters, 96 B
            1-2: Linear(...),  # 2 alike, each 72 parameters, 288 B
            3: Linear(...)  # 27 parameters, 108 B
          ]
        )
    """
    _check(width=width, depth=depth, lines=lines)
    tree = tree_of(value, MAX_ALL if lines is None else MAX_ENTRIES)
    screen = Screen(tree, width, depth, lines)
    return "\n".join(lines_of(screen))


# Any: a user may pass anything.
def _check(**options: Any) -> None:
    """Raise if an option is not a number, or too small."""
    for name, number in options.items():
        if number is None and name != "width":
            continue
        if not isinstance(number, int) or isinstance(number, bool):
            takes = f"an int {'' if name == 'width' else 'or None '}as {name}"
            raise TypeError(wrong_argument(takes, number, "gn.pformat"))
        if number < _MIN[name]:
            what = "number of lines" if name == "lines" else name
            raise ValueError(
                f"gn.pformat takes a {what} of {_MIN[name]} or more; found {number}"
            )


def lines_of(screen: Screen) -> list[str]:
    """The lines of a screen, from the top."""
    lines: list[str] = []
    # What is still to be written, the next line last; without recursion, as a depth may be asked for.
    todo: list[tuple[Row, str] | str] = [(screen.top, "")]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            lines.append(item)
            continue
        row, comma = item
        indent = INDENT * row.level
        rows = screen.opened.get(row.number) if row.is_closed else None
        if rows is None:
            line = f"{indent}{row.label}{row.text}{comma}"
        else:
            entry = screen.tree.entries[row.number]
            line = f"{indent}{row.label}{entry.head}"
            todo.append(f"{indent}{entry.tail}{comma}")
            *others, last = rows
            todo.append((last, entry.comma))
            todo += [(other, ",") for other in reversed(others)]
        lines.append(f"{line}  # {row.note}" if row.note else line)
    return lines
