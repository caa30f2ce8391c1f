"""All that there is to show of an object: a row of entries, parents first.

    Net(                 0   parent -1   end 5
      head=Linear(       1           0       4
        size=2,          2           1       3
        weight=...       3           1       4
      ),
      tail=<head>        4           0       5    target 1

What is below an entry is a slice of the row, so that two parts of a model are compared, and
the sizes in one are added up, without recursion. All forms are made from this row, which `_walk` makes.
"""

import dataclasses
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from .._paths import Key, as_key, path_str
from ._records import NO_SIZE, Size

MAX_KEY: Final = 200
ROOT: Final = 0


@dataclasses.dataclass(slots=True)
class Entry:
    """One value in what is shown.

    Attributes:
        label: What stands before it: `weight=`, `'a': `.
        step: Its step in paths.
        parent: The number of the entry that it is part of; -1 for the outermost.
        head: What stands before its parts, such as `Linear(`; the whole text of a plain value.
        tail: What stands after them; empty for a plain value.
        content: What it is compared by, beside its text: a plain value itself, the class of an
            object.
        is_static: Whether an array in it is a static value, which is compared by its numbers.
        size: How much a State holds; `None` where that is not known.
        target: The entry that this one is a repetition of; -1 for none.
        end: One more than the last number in it.
        length: How many parts it has; `None` where only looking at them would tell.
        left_out: Of how many parts of the entry above it stands in the place, as these were not
            looked at.
    """

    label: str
    step: object
    parent: int
    head: str
    tail: str = ""
    content: object = None
    is_static: bool = False
    size: Size | None = NO_SIZE
    target: int = -1
    end: int = -1
    length: int | None = 0
    left_out: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing in it to open: a number, a text, an array."""
        return not self.tail

    @property
    def comma(self) -> str:
        """What stands after the last part: a comma in a tuple of one, which would not be a tuple without."""
        return "," if self.head == "(" and self.length == 1 else ""

    @property
    def is_list(self) -> bool:
        """Whether it is a list, tuple or mapping, and not an object with a name."""
        return self.head in ("[", "(", "{")


class Tree(NamedTuple):
    """All that there is to show of an object.

    Attributes:
        entries: One for each value, parents first.
        totals: For each number, the parameters and bytes in all entries before it, and how many
            of them are of unknown size.
    """

    entries: list[Entry]
    totals: list[tuple[int, int, int]]

    def children(self, number: int) -> Iterator[int]:
        """The parts of an entry."""
        entries = self.entries
        at, end = number + 1, entries[number].end
        while at < end:
            yield at
            at = entries[at].end

    def size(self, number: int) -> tuple[int, int, bool]:
        """The parameters and bytes at and in an entry, each State at its first place; and whether that is all."""
        before, after = self.totals[number], self.totals[self.entries[number].end]
        unknown = after[2] - before[2]
        return after[0] - before[0], after[1] - before[1], not unknown

    def count(self, number: int) -> int:
        """How many parts an entry has, with those that were not looked at."""
        return sum(self.entries[child].left_out or 1 for child in self.children(number))

    def path(self, number: int) -> str:
        """Where an entry is, as a text; `self` for the outermost one."""
        steps: list[object] = []
        while number > ROOT:
            entry = self.entries[number]
            # The key of a flat mapping is a whole path.
            parts = entry.step if isinstance(entry.step, tuple) else (entry.step,)
            # That of a part without a name is `None`.
            steps += [step for step in reversed(parts) if step is not None]
            number = entry.parent
        keys: list[Key] = []
        for step in reversed(steps):
            key = as_key(step)
            keys.append(str(step) if key is None else key)
        text = path_str(tuple(keys))
        return f"...{text[-MAX_KEY:]}" if len(text) > MAX_KEY else text or "self"


def items_text(count: int) -> str:
    """What stands in the place of all items of a list: `... 12 items`."""
    plural = "" if count == 1 else "s"
    return f"... {count:,} item{plural}"


def totals_of(entries: list[Entry]) -> list[tuple[int, int, int]]:
    """For `Tree.totals`: sums over all entries before each."""

    def add(total: tuple[int, int, int], entry: Entry) -> tuple[int, int, int]:
        """The total with one entry more."""
        size = entry.size
        if size is None:
            return total[0], total[1], total[2] + 1
        # Most entries have no size, and are many.
        if size is NO_SIZE:
            return total
        return total[0] + size.parameters, total[1] + size.bytes, total[2]

    return list(accumulate(entries, add, initial=(0, 0, 0)))
