"""The table of a summary: its cells as texts, and the same as plain text, HTML and for rich.

Which columns there are follows from what the rows are of: States, nodes, or both.
"""

import html
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from .._contract import Size
from .._paths import Path, path_str
from ._fold import Line
from ._rows import CallShapes, Row

# Of the inputs or outputs of a call: the pytrees of users may have any length.
_WIDEST: Final = 48
_MOST_CALLS: Final = 3

Cells: TypeAlias = dict[str, str]

_NUMBERS: Final = ("parameters", "bytes", "flops")


class Table(NamedTuple):
    """The texts of a table.

    Attributes:
        head: The names of the columns.
        body: The cells, by column.
        foot: Those of the last row, of the model as a whole.
        notes: Lines below the table.
    """

    head: tuple[str, ...]
    body: list[Cells]
    foot: list[Cells]
    notes: tuple[str, ...]

    def rows(self, cells: Sequence[Cells]) -> list[list[str]]:
        """Cells in the order of the columns."""
        return [[row.get(name, "") for name in self.head] for row in cells]


def columns(*, states: bool, nodes: bool, calls: bool) -> tuple[str, ...]:
    """The columns of a table.

    Args:
        states: Whether there are rows of States.
        nodes: Whether there are rows of nodes.
        calls: Whether it is known how the nodes are called.
    """
    shape = ("shape",) if states else ()
    shapes = ("inputs", "outputs") if nodes and calls else ()
    flops = ("flops",) if nodes and calls else ()
    return (
        "path",
        "class",
        *shape,
        *shapes,
        "parameters",
        "bytes",
        *flops,
        "shared with",
    )


def cells_of(line: Line) -> list[Cells]:
    """The cells of a row: one line, and one more for each further call."""
    row, count = line.item.row, line.times
    first = {
        "path": line.path,
        "class": f"{count} × {row.kind}" if count > 1 else row.kind,
        "shape": row.shape,
        **numbers_of(row, count),
        "shared with": _few(row.others),
    }
    return with_calls(first, row.calls)


def numbers_of(row: Row, count: int = 1) -> Cells:
    """The cells of a row's numbers, for so many rows that say the same."""
    cells = {
        "parameters": number_text(row.parameters, count),
        "bytes": number_text(row.bytes, count),
    }
    if row.flops is not None:
        cells["flops"] = number_text(row.flops, count)
    return cells


def number_text(number: Size, count: int = 1) -> str:
    """A number of parameters, bytes or operations, for so many rows; a formula in symbolic sizes as it is."""
    if isinstance(number, int):
        return f"{number * count:,}"
    return str(number) if count == 1 else f"{count}*({number})"


def with_calls(first: Cells, calls: Sequence[CallShapes]) -> list[Cells]:
    """The cells of a row with those of its calls, in as many lines."""
    lines = [
        {"inputs": _inputs_text(call), "outputs": _cut(call.outputs)} for call in calls
    ]
    if len(lines) > _MOST_CALLS:
        rest = f"and {len(lines) - _MOST_CALLS + 1} more"
        lines[_MOST_CALLS - 1 :] = [{"inputs": rest, "outputs": ""}]
    head, *tail = lines or [{}]
    return [{**first, **head}, *tail]


def _inputs_text(call: CallShapes) -> str:
    """What a method is called with, with its name unless the node itself is called."""
    text = _cut(call.inputs)
    return text if call.method == "__call__" else f"{call.method}({text})"


def _cut(text: str) -> str:
    """A text of limited width."""
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _few(paths: tuple[Path, ...], limit: int = 2) -> str:
    """The shortest of some paths, for a cell of the table: through the cycles of a graph there are many."""
    text = ", ".join(map(path_str, sorted(paths, key=len)[:limit]))
    return f"{text} and {len(paths) - limit} more" if len(paths) > limit else text


# The forms of a table


def text_of(table: Table) -> str:
    """A table as plain text."""
    body, foot = table.rows(table.body), table.rows(table.foot)
    rows = [list(table.head), *body, *foot]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # The rule is as long as the rows are before their blanks are taken away.
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head, *lines = [_padded(table.head, row, widths) for row in rows]
    lines[len(body) : len(body)] = [rule]
    return "\n".join([head, rule, *lines, *table.notes])


def _padded(head: Sequence[str], row: Sequence[str], widths: Sequence[int]) -> str:
    """A line of the table; numbers stand to the right."""
    cells = [
        cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
        for name, cell, width in zip(head, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def html_of(table: Table) -> str:
    """A table as HTML, for notebooks; every text is escaped."""
    head = "".join([f"<th>{html.escape(name)}</th>" for name in table.head])
    lines = ["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    lines += [_html_row(table.head, row, "td") for row in table.rows(table.body)]
    lines += ["</tbody>", "<tfoot>"]
    lines += [_html_row(table.head, row, "th") for row in table.rows(table.foot)]
    lines += ["</tfoot>", "</table>"]
    lines += [f"<p>{html.escape(note)}</p>" for note in table.notes]
    return "\n".join(lines)


def _html_row(head: Sequence[str], row: Sequence[str], tag: str) -> str:
    """A row of an HTML table; numbers stand to the right."""
    cells: list[str] = []
    for name, cell in zip(head, row, strict=True):
        side = "right" if name in _NUMBERS else "left"
        cells.append(f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>')
    return f"<tr>{''.join(cells)}</tr>"


class RichTable(NamedTuple):
    """A table for rich, which asks for its parts where it prints.

    Attributes:
        table: The table.
    """

    table: Table

    # Any: rich is an optional dependency.
    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """For rich: the table, then the lines below it."""
        from rich.text import Text

        yield _rich_table(self.table, options.max_width)
        for note in self.table.notes:
            yield Text(note)


# Any: rich is an optional dependency.
def _rich_table(table: Table, width: int) -> Any:
    """A table of rich. Where there is too little room, shapes and classes are cut, and numbers broken."""
    from rich.table import Table as OfRich
    from rich.text import Text

    rows = [*table.body, *table.foot]
    widths = {
        name: max([len(row.get(name, "")) for row in rows], default=0)
        for name in table.head
    }
    # A column that is empty takes the room of others.
    names = [name for name in table.head if widths[name] or name in _NUMBERS]
    whole = [name for name in names if name in {"path", *_NUMBERS}]
    # Each column has a frame of 3, and a sign at least.
    needed = sum(max(widths[name], len(name)) for name in whole) + 4 * len(names)
    is_enough = needed <= width
    shown = OfRich()
    for name in names:
        # A number that is cut would be another one.
        shown.add_column(
            name,
            justify="right" if name in _NUMBERS else "left",
            no_wrap=is_enough and name in whole,
            overflow="ellipsis" if is_enough else "fold",
        )
    for row in table.body:
        # As `Text`, since a path such as `layers[0]` would be read as markup.
        shown.add_row(*[Text(row.get(name, "")) for name in names])
    shown.add_section()
    for row in table.foot:
        shown.add_row(*[Text(row.get(name, "")) for name in names])
    return shown
