"""Walk through an object once, without recursion, and note what there is to show of it."""

from collections.abc import Hashable, Iterator, Mapping, Sized
from typing import Any, Final

from ._records import Pretty, Record, Text, is_pretty
from ._shown import Shown
from ._tree import MAX_KEY, Entry, Tree, items_text, totals_of
from ._values import is_array, value_text

# Looked at in a fifth of a second or so, and more than fills a screen.
MAX_ENTRIES: Final = 20_000
# Where all is asked for: ten seconds or so. More than that is no text for anybody.
MAX_ALL: Final = 1_000_000
# The keys of a path that count as one entry: in flat mappings of deep graphs, paths are nearly all of the work.
_KEYS: Final = 16
# A tuple of more parts is opened, and not a text on one line.
_MAX_TUPLE: Final = 100

# A value that is still to be looked at, with its label and its step.
_Item = tuple[str, object, object]


def tree_of(value: object, max_entries: int = MAX_ENTRIES) -> Tree:
    """Look at an object and all that is in it, up to a number of entries."""
    return _Walk(max_entries).run(value)


class _Walk:
    """One walk: what was met so far, and the entries whose parts are still to come."""

    def __init__(self, max_entries: int) -> None:
        self.room = max_entries
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
            elif self.room > 0:
                self.add(parent, *item)
            else:
                self.cut(parent, items)
                self.close()
        return Tree(self.entries, totals_of(self.entries))

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
        known = entry.length
        left = 1 + _count(items) if known is None else max(known - count, 1)
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
        self.room -= 1 + (len(step) // _KEYS if isinstance(step, tuple) else 0)
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
        names = _field_names(value)
        # Named tuples of two classes are not alike, whatever they are called.
        entry.content = type(value) if names else None
        if id(value) in self.around:
            entry.target = self.around[id(value)]
            return None
        entry.length = len(value)
        if isinstance(value, Mapping):
            return ((_label(key), key, part) for key, part in value.items())
        if names:
            return (
                (_field_label(name), name, part)
                for name, part in zip(names, value, strict=False)
            )
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
    if isinstance(value, tuple):
        return not isinstance(value, Text) and _has_parts(value)
    return isinstance(value, (list, Mapping)) and bool(value)


def _has_parts(value: tuple[Any, ...]) -> bool:
    """Whether a tuple is shown part by part: with objects, arrays or lists in it, at any depth, or many parts."""
    todo = list(value)
    # No more of them, as tuples may hold each other many times over.
    for _ in range(_MAX_TUPLE):
        if not todo:
            return False
        part = todo.pop()
        if _is_part(part):
            return True
        if isinstance(part, tuple):
            todo += part
    return bool(todo)


def _is_part(value: object) -> bool:
    """For `_has_parts`: whether a value has a form of its own."""
    if isinstance(value, (Text, Record, list, Mapping)):
        return True
    return is_pretty(value) or is_array(value)


def _brackets(value: object) -> tuple[str, str]:
    """What stands around the parts of a list, tuple or mapping."""
    if isinstance(value, list):
        return "[", "]"
    if not isinstance(value, tuple):
        return "{", "}"
    return f"{type(value).__name__ if _field_names(value) else ''}(", ")"


def _field_names(value: object) -> tuple[str, ...]:
    """The names of the fields of a named tuple; none of anything else."""
    return getattr(value, "_fields", ()) if isinstance(value, tuple) else ()


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
    return f"{text[:MAX_KEY]}...: " if len(text) > MAX_KEY else f"{text}: "
