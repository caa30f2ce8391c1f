"""Decide what of an object is opened, so that it fills a screen and no more.

Everything begins closed, as `Net(...)`. One level after the other is opened, as long as the
lines last: so the deepest parts stay closed, and a list that is too long for the screen shows
its first items, and how many there are more.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from ._fold import Group, groups_of
from ._records import NO_SIZE
from ._sizes import amount_text
from ._tree import ROOT, Tree, items_text

INDENT: Final = "  "
# Deeper nesting on one line is hard to read, even where it fits.
_MAX_FLAT: Final = 4


@dataclasses.dataclass(slots=True)
class Row:
    """One line, which may be opened.

    Attributes:
        level: How deep it is indented.
        label: What stands before it: `weight=`, or `0-11: `.
        text: The line where it is not opened, without the label.
        number: The entry that it shows.
        count: How many parts of the entry above it stands for.
        note: What is said of it in a comment.
        is_closed: Whether there is more of it to see.
    """

    level: int
    label: str
    text: str
    number: int
    count: int = 1
    note: str = ""
    is_closed: bool = False


class Screen:
    """What is shown of a tree in some lines of some width.

    Attributes:
        tree: All that there is.
        top: The row of the outermost object.
        opened: For each entry that is opened, the rows in it.
    """

    def __init__(
        self,
        tree: Tree,
        width: int,
        depth: int | None,
        lines: int | None,
        indent: str = INDENT,
    ) -> None:
        self.tree = tree
        self.width = width
        # By default, half of the width is left for what is not indentation.
        self.indent = len(indent)
        self.depth = width // (2 * self.indent) if depth is None else depth
        self.lines = len(tree.entries) * 2 + 2 if lines is None else lines
        self.opened: dict[int, list[Row]] = {}
        self.top = self.row(Group(ROOT, "", 1), 0)
        self.open_all()

    def open_all(self) -> None:
        """Open one level after the other, as long as the lines last."""
        left = self.lines - 1
        closed = deque([self.top])
        while closed:
            row = closed.popleft()
            if not row.is_closed or row.level >= self.depth:
                continue
            rows = self.rows_in(row, left)
            if not rows:
                continue
            left -= len(rows) + 1
            self.opened[row.number] = rows
            closed.extend(rows)

    def rows_in(self, row: Row, left: int) -> list[Row]:
        """The rows of an entry, if the lines that are left are enough for them; none otherwise."""
        rows = self.rows_of(row)
        if len(rows) < left:
            return rows
        # What fits into no half of a screen shows its beginning, and the outermost object always does.
        is_long = len(rows) > self.lines // 2 or row is self.top
        if not is_long or left < 4:
            return []
        rest = rows[left - 2 :]
        return [*rows[: left - 2], self.row_of_rest(rest)]

    def rows_of(self, row: Row) -> list[Row]:
        """All rows of an entry: one if all parts fit beside each other, else one for each, or for some plain ones."""
        groups = groups_of(self.tree, row.number)
        parts = [self.row(group, row.level + 1) for group in groups]
        for part in parts:
            # As of the one part of an object.
            if part.count == 1 and part.note == row.note:
                part.note = ""
        if not any(part.note or part.is_closed for part in parts):
            together = self.filled(parts)
            if len(together) == 1:
                return together
        return [line for run in self.plain_runs(parts) for line in self.filled(run)]

    def plain_runs(self, parts: list[Row]) -> Iterator[list[Row]]:
        """The parts in runs: those of plain values that follow each other, and each other one by itself."""
        for is_plain, run in groupby(parts, self.is_plain):
            if is_plain:
                yield list(run)
            else:
                yield from ([part] for part in run)

    def is_plain(self, part: Row) -> bool:
        """Whether a row is a plain value that has no comment."""
        return self.tree.entries[part.number].is_plain and not part.note

    def filled(self, parts: list[Row]) -> list[Row]:
        """As few rows as the parts fit into, beside each other."""
        rows = [dataclasses.replace(parts[0])]
        for part in parts[1:]:
            row = rows[-1]
            text = f"{row.text}, {part.label}{part.text}"
            if len(row.label) + len(text) > self.room(row.level):
                rows.append(dataclasses.replace(part))
            else:
                row.text, row.count = text, row.count + part.count
        return rows

    def row_of_rest(self, rows: list[Row]) -> Row:
        """The row that says how many parts of an entry are not shown."""
        count = sum(row.count for row in rows)
        return Row(rows[0].level, "", f"... {count:,} more", rows[0].number)

    def row(self, group: Group, level: int) -> Row:
        """The row of one part, on one line: all of it, if it fits."""
        number, label, count = group.first, group.label, group.count
        entry = self.tree.entries[number]
        if entry.left_out:
            return Row(level, label, entry.head, number, entry.left_out)
        room = self.room(level) - len(label)
        if entry.target >= 0:
            note = self.note(number, count)
            return Row(level, label, self.repeated(number, room), number, count, note)
        text = flat(self.tree, number, room, _MAX_FLAT)
        if text is not None:
            note = f"{count:,} alike" if count > 1 else ""
            return Row(level, label, text, number, count, note)
        if entry.is_plain:
            return Row(level, label, f"{entry.head[: room - 3]}...", number, count)
        note = self.note(number, count)
        if entry.end == number + 1:  # a long name, and nothing in it
            return Row(level, label, f"{entry.head}{entry.tail}", number, count, note)
        text = self.closed(number)
        return Row(level, label, text, number, count, note, is_closed=True)

    def closed(self, number: int) -> str:
        """The text of an entry that is not opened: `Net(...)`, `[... 12 items]`."""
        entry = self.tree.entries[number]
        if not entry.is_list:
            return f"{entry.head}...{entry.tail}"
        return f"{entry.head}{items_text(self.tree.count(number))}{entry.tail}"

    def room(self, level: int) -> int:
        """The columns of a line at a level; not too few, as a name has to be read."""
        comma = 1 if level else 0
        return max(self.width - self.indent * level - comma, 20)

    def repeated(self, number: int, room: int) -> str:
        """The text of an object that stands elsewhere: a State in full, as it is short."""
        entry = self.tree.entries[number]
        is_state = self.tree.entries[entry.target].size is not NO_SIZE
        text = flat(self.tree, entry.target, room, _MAX_FLAT) if is_state else None
        return text or f"{entry.head}...{entry.tail}"

    def note(self, number: int, count: int) -> str:
        """What is said of an entry: how many it stands for, how large it is, and where it stands in full."""
        notes = [f"{count:,} alike"] if count > 1 else []
        target = self.tree.entries[number].target
        if target >= 0:
            notes.append(f"= {self.tree.path(target)}")
        size = self.size_note(number)
        if size:
            notes.append(f"each {size}" if count > 1 else size)
        return ", ".join(notes)

    def size_note(self, number: int) -> str:
        """How large an entry is, with all that is in it."""
        parameters, size, is_all = self.tree.size(number)
        text = amount_text(parameters, size)
        return text if is_all or not text else f"more than {text}"


def flat(tree: Tree, number: int, room: int, height: int) -> str | None:
    """An entry and all that is in it on one line; `None` where that does not fit.

    Args:
        tree: All entries.
        number: The entry.
        room: The columns that there are.
        height: How many levels may be opened.
    """
    entry = tree.entries[number]
    # A repetition has a comment, and so a line of its own.
    if entry.target >= 0 or len(entry.head) + len(entry.tail) > room:
        return None
    if entry.is_plain:
        return entry.head
    if height == 0:
        return None
    parts: list[str] = []
    left = room - len(entry.head) - len(entry.comma) - len(entry.tail)
    for child in tree.children(number):
        label = tree.entries[child].label
        part = flat(tree, child, left - len(label), height - 1)
        if part is None:
            return None
        parts.append(f"{label}{part}")
        left -= len(parts[-1]) + len(", ")
    # The last part has no comma behind it.
    if left + len(", ") < 0:
        return None
    return f"{entry.head}{', '.join(parts)}{entry.comma}{entry.tail}"
