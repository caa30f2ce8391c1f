"""Fold equal siblings: neighbours in a list that are equal are one row, with a range for their positions.

    blocks.0   Block  6          blocks.0..23  24 × Block  144
    blocks.1   Block  6
    ...

They are equal if their rows say the same, if they are of one class and have equal static
values, and if all below them is equal. What is below them is folded with them. The numbers
are those of all of them together, so that a column still adds up.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .._paths import Path, path_str
from ._rows import Item, Row


class Line(NamedTuple):
    """A row as it is shown.

    Attributes:
        path: The text of the path, with a range for each list that is folded.
        times: How many rows it stands for.
        item: The row that is shown for all of them.
    """

    path: str
    times: int
    item: Item


def unfolded(items: Sequence[Item]) -> list[Line]:
    """A line for each row."""
    return [Line(path_str(item.row.path), 1, item) for item in items]


def folded(items: Sequence[Item]) -> list[Line]:
    """The lines of rows, equal siblings in one."""
    runs = _runs(items)
    lines: list[Line] = []
    places: dict[int, int] = {}
    for number, item in enumerate(items):
        # What is below a row that is left out is left out, too.
        if runs[number] == 0 or (item.parent >= 0 and item.parent not in places):
            continue
        above = lines[places[item.parent]] if item.parent >= 0 else None
        places[number] = len(lines)
        lines.append(_line(items, item, runs[number], above))
    return lines


def _line(items: Sequence[Item], item: Item, length: int, above: Line | None) -> Line:
    """The line of a row that stands for so many siblings, below another line."""
    start = "" if above is None else above.path
    edge = _edge(items, item)
    *keys, last = edge or ("",)
    text = path_str(edge)
    if length > 1 and isinstance(last, int):
        end = f"{last}..{last + length - 1}"
        text = ".".join([path_str(tuple(keys)), end]) if keys else end
    times = 1 if above is None else above.times
    path = ".".join([part for part in (start, text) if part])
    return Line(path, times * length, item)


def _edge(items: Sequence[Item], item: Item) -> Path:
    """The path of a row from the row that it is below."""
    above = items[item.parent].row.path if item.parent >= 0 else ()
    return item.row.path[len(above) :]


def _runs(items: Sequence[Item]) -> list[int]:
    """For each row, how many equal siblings it stands for: 0 for those that another one stands for."""
    signatures = _signatures(items)
    runs = [1] * len(items)
    # The last row of each list, and the first of its run. By list, as items of two of
    # them may be called in turn.
    latest: dict[tuple[int, Path], tuple[int, int]] = {}
    for number, item in enumerate(items):
        in_list = item.parent, item.row.path[:-1]
        before, first = latest.get(in_list, (-1, -1))
        is_next = before >= 0 and _follows(items, before, number)
        if is_next and signatures[before] == signatures[number]:
            runs[first] += 1
            runs[number] = 0
        else:
            first = number
        latest[in_list] = number, first
    return runs


def _follows(items: Sequence[Item], before: int, number: int) -> bool:
    """Whether a row is of the item after another one's in a list."""
    left, right = items[before].row.path, items[number].row.path
    if not left:
        return False
    last, key = left[-1], right[-1]
    return isinstance(last, int) and isinstance(key, int) and key == last + 1


def _signatures(items: Sequence[Item]) -> list[int]:
    """A number for each row, the same for rows of equal objects that say the same, as do all below them."""
    below: dict[int, list[Any]] = {}
    known: dict[Any, int] = {}
    signatures = [0] * len(items)
    # From the last one up, so that all below a row is numbered before it is.
    for number in reversed(range(len(items))):
        item = items[number]
        inside = tuple(below.pop(number, ()))
        content = (item.spec, _content(item.row), _links(item), inside)
        signatures[number] = known.setdefault(content, len(known))
        edge = _edge(items, item)
        below.setdefault(item.parent, []).append((edge, signatures[number]))
    return signatures


def _content(row: Row) -> tuple[Any, ...]:
    """What a row says, but for its path."""
    return (row.kind, row.shape, row.parameters, row.bytes, row.calls, row.flops)


def _links(item: Item) -> tuple[Any, ...]:
    """What an object shares with others, as seen from it."""
    start = item.row.path
    others = [_relative(path, start) for path in item.row.others]
    references = [(edge, _relative(path, start)) for edge, path in item.references]
    return tuple(others), tuple(references)


def _relative(path: Path, start: Path) -> tuple[int, Path]:
    """A path as seen from another one: how many keys up, then the rest."""
    length = 0
    while length < min(len(path), len(start)) and path[length] == start[length]:
        length += 1
    return len(start) - length, path[length:]
