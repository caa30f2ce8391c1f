"""Walk through an object once, and note all that there is to show of it: a row of entries, parents first.

    Net(                 0   parent -1   end 5
      head=Linear(       1           0       4
        size=2,          2           1       3
        weight=...       3           1       4
      ),
      tail=<head>        4           0       5    target 1

What is below an entry is a slice of the row, so that two parts of a model are compared, and
the sizes in one are added up, without recursion. All forms are made from this row.
"""

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sized
from itertools import accumulate
from typing import Any, Final, NamedTuple

from .._paths import Key, as_key, path_str
from ._records import NO_SIZE, Pretty, Record, Size, Text, is_pretty
from ._shown import Shown
from ._values import is_array, value_text

# Looked at in a fifth of a second or so, and more than fills a screen.
MAX_ENTRIES: Final = 20_000
# Where all is asked for: ten seconds or so. More than that is no text for anybody.
MAX_ALL: Final = 1_000_000
# A longer tuple is opened, and not a text on one line.
_MAX_TUPLE: Final = 100
_MAX_KEY: Final = 200
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
    def is_list(self) -> bool:
        """Whether it is a list, tuple or mapping, and not an object with a name."""
        return self.head in ("[", "(", "{")


# A value that is still to be looked at, with its label and its step.
_Item = tuple[str, object, object]


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
        return f"...{text[-_MAX_KEY:]}" if len(text) > _MAX_KEY else text or "self"


def tree_of(value: object, max_entries: int = MAX_ENTRIES) -> Tree:
    """Look at an object and all that is in it, up to a number of entries."""
    return _Walk(max_entries).run(value)


class _Walk:
    """One walk: what was met so far, and the entries whose parts are still to come."""

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self.entries: list[Entry] = []
        self.open: list[tuple[int, Iterator[_Item], object]] = []
        # By the id of what is open: a list or dict in itself has no end.
        self.around: dict[int, int] = {}
        self.seen: dict[Hashable, int] = {}
        # Or a temporary object would go, and the next one might get its id.
        self.alive: list[object] = []

    def run(self, value: object) -> Tree:
        """Look at everything in `value`, without recursion."""
        self.add(-1, "", (), value)
        while self.open:
            parent, items, around = self.open[-1]
            try:
                item = next(items, None)
            except Exception as error:  # of a mapping of the user's
                text = f"<raises {type(error).__name__}>"
                item = ("", None, Text(text))
                self.open[-1] = parent, iter(()), around
            if item is None:
                self.close()
            elif len(self.entries) < self.max_entries:
                self.add(parent, *item)
            else:
                self.cut(parent, items)
                self.close()
        return Tree(self.entries, _totals(self.entries))

    def close(self) -> None:
        """Note that the parts of the innermost entry are at their end."""
        parent, _, around = self.open.pop()
        self.entries[parent].end = len(self.entries)
        self.around.pop(id(around), None)

    def cut(self, parent: int, items: Iterator[_Item]) -> None:
        """Leave out further parts of an entry: one that was just asked for, and the items after it."""
        entry = self.entries[parent]
        entry.end = len(self.entries)
        count = Tree(self.entries, []).count(parent)
        # It is counted here where it is not known, as of the fields of a graphdef.
        left = entry.length - count if entry.length is not None else 1 + _count(items)
        text = _text_of_rest(entry, count, left)
        end = len(self.entries) + 1
        rest = Entry("", None, parent, text, size=None, end=end, left_out=left)
        self.entries.append(rest)

    def add(self, parent: int, label: str, step: object, value: object) -> None:
        """Make the entry of a value; its parts are looked at later."""
        entry = Entry(label, step, parent, "", end=len(self.entries) + 1)
        entry.is_static = parent >= 0 and self.entries[parent].is_static
        items = self.describe(value, entry)
        number = len(self.entries)
        self.entries.append(entry)
        if items is not None:
            self.open.append((number, items, value))
            self.around[id(value)] = number

    # Any: of a list or tuple whatever is in it.
    def describe(self, value: Any, entry: Entry) -> Iterator[_Item] | None:
        """Write into an entry what a value is; the parts that it has, if they are to be looked at."""
        record = value if isinstance(value, Record) else None
        if record is None and is_pretty(value):
            record = _record_of(value)
        if record is not None:
            return self.describe_record(record, value, entry)
        if _is_opened(value):
            return self.describe_container(value, entry)
        entry.head = value_text(value)
        entry.content = _content(value, entry.is_static)
        return None

    # Any: whatever is in it.
    def describe_container(self, value: Any, entry: Entry) -> Iterator[_Item] | None:
        """For `describe`: of a list, tuple or mapping; one that is in itself has no parts there."""
        entry.head, entry.tail = _brackets(value)
        if id(value) in self.around:
            entry.target = self.around[id(value)]
            return None
        entry.length = len(value)
        if isinstance(value, Mapping):
            return ((_label(key), key, part) for key, part in value.items())
        return (("", at, part) for at, part in enumerate(value))

    def describe_record(
        self, record: Record, value: object, entry: Entry
    ) -> Iterator[_Item] | None:
        """For `describe`: of an object that has described itself; one that was met before has no parts here."""
        identity = id(value) if record.identity is None else record.identity
        entry.head, entry.tail = (f"{record.name}(", ")") if record.name else ("{", "}")
        entry.content = record.cls or type(value)
        # The fields of an object are static values, but for what has a record itself.
        entry.is_static = entry.is_static or bool(record.name)
        if identity in self.seen:
            entry.target = self.seen[identity]
            return None
        self.seen[identity] = len(self.entries)
        self.alive.append(value)
        entry.size = record.size
        fields = record.fields
        entry.length = len(fields) if isinstance(fields, Sized) else None
        label = _field_label if record.name else _label
        return ((label(key), key, part) for key, part in fields)


def _record_of(value: Pretty) -> Record | None:
    """How an object describes itself; `None` if its `__pretty__` is something else, as that of pydantic."""
    try:
        record: object = value.__pretty__()
    except Exception as error:  # as of an object that is half made
        # No `repr`, which would come here again.
        text = Text(f"<__pretty__ raises {type(error).__name__}>")
        fault = Record(type(value).__name__, [(None, text)])
        return fault if isinstance(value, Shown) else None
    return record if isinstance(record, Record) else None


def _is_opened(value: object) -> bool:
    """Whether a value is shown part by part: not an empty container, nor a tuple that is a shape or a path."""
    if isinstance(value, list | Mapping):
        return bool(value)
    if not isinstance(value, tuple):
        return False
    if len(value) > _MAX_TUPLE:
        return True
    return any(isinstance(part, Text) or is_pretty(part) for part in value)


def _brackets(value: object) -> tuple[str, str]:
    """What stands around the parts of a list, tuple or mapping."""
    if isinstance(value, list):
        return "[", "]"
    return ("(", ")") if isinstance(value, tuple) else ("{", "}")


def _count(items: Iterator[_Item]) -> int:
    """How many items there still are."""
    try:
        return sum(1 for _ in items)
    except Exception:  # whatever is called for them
        return 0


def _text_of_rest(entry: Entry, count: int, left: int) -> str:
    """What stands for the parts of an entry that are left out after so many."""
    if count:
        return f"... {left:,} more"
    return items_text(left) if entry.is_list else "..."


def items_text(count: int) -> str:
    """What stands in the place of all items of a list: `... 12 items`."""
    plural = "" if count == 1 else "s"
    return f"... {count:,} item{plural}"


def _content(value: object, is_static: bool) -> object:
    """What a plain value is compared by, beside its text."""
    if isinstance(value, Text):
        # Of the text, what is printed may be cut.
        return value.text if value.value is None else value.value
    # An array in a list or dict of anybody's may be large, and is not read.
    return value if is_static or not is_array(value) else None


def _field_label(name: object) -> str:
    """What stands before the field of an object."""
    return "" if name is None else f"{name}="


def _label(key: object) -> str:
    """What stands before the item of a mapping: its key, cut where it is long."""
    text = value_text(key)
    return f"{text[:_MAX_KEY]}...: " if len(text) > _MAX_KEY else f"{text}: "


def _totals(entries: list[Entry]) -> list[tuple[int, int, int]]:
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
