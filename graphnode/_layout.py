"""`Layout`: the ordered paths and descriptions of the States of a structure, or of a part of it.

Kept as a trie, flat: entry `e` has a parent entry and a key, and some entries are leaves. Full paths are made when
asked for: a chain of n nodes has n entries, but n²/2 keys in its paths. Entries stand in canonical pre-order
(positions by number, names by text), none that no leaf needs, and are interned: equal layouts are identical, whatever
made them.
"""

import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ._paths import Key, Path, path_str
from ._pretty import MAX_KEY
from ._state import StateSpec

_LAYOUTS: "weakref.WeakValueDictionary[Hashable, Layout]" = weakref.WeakValueDictionary()
_LOCK = threading.RLock()


class Layout:
    """The paths and descriptions of some States, in canonical order. Interned; hash and equality are identity.

    Attributes:
        parents: The parent of each entry; -1 for the root, which is entry 0.
        keys: The key of each entry below its parent; the root's is not used.
        leaves: The entry of each State, ascending.
        specs: The description of each State.
    """

    __slots__ = ("__weakref__", "_children", "_memo", "keys", "leaves", "parents", "specs")

    parents: tuple[int, ...]
    keys: tuple[Key, ...]
    leaves: tuple[int, ...]
    specs: tuple[StateSpec, ...]
    _children: "dict[tuple[int, Key], int] | None"
    _memo: dict[Hashable, Any]

    def __len__(self) -> int:
        return len(self.leaves)

    def path(self, at: int) -> Path:
        """The path of State number `at`."""
        keys: list[Key] = []
        entry = self.leaves[at]
        while entry:
            keys.append(self.keys[entry])
            entry = self.parents[entry]
        return tuple(reversed(keys))

    def paths(self) -> Iterator[Path]:
        """The paths of all States, in order."""
        return map(self.path, range(len(self.leaves)))

    def entry(self, path: Iterable[Key], start: int = 0) -> int | None:
        """The entry at a path below `start`, or `None`."""
        children = self.children
        entry: int | None = start
        for key in path:
            # A bool equals 0 or 1 as a dict key, but is no position.
            if entry is None or isinstance(key, bool):
                return None
            entry = children.get((entry, key))
        return entry

    def index(self, path: Iterable[Key]) -> int | None:
        """The number of the State at a path, or `None`."""
        entry = self.entry(path)
        return None if entry is None else self.leaf_numbers.get(entry)

    @property
    def children(self) -> dict[tuple[int, Key], int]:
        """The entry below each entry and key; made once."""
        if self._children is None:
            self._children = {(self.parents[e], self.keys[e]): e for e in range(1, len(self.parents))}
        return self._children

    @property
    def below_entry(self) -> dict[int, list[int]]:
        """The entries below each entry, in order; made once."""
        return self.remember("below_entry", self._below_entry)  # type: ignore[no-any-return]

    def _below_entry(self) -> dict[int, list[int]]:
        below: dict[int, list[int]] = {}
        for entry in range(1, len(self.parents)):
            below.setdefault(self.parents[entry], []).append(entry)
        return below

    @property
    def leaf_numbers(self) -> dict[int, int]:
        """The number of the State at each leaf entry; made once."""
        return self.remember("leaf_numbers", lambda: {entry: at for at, entry in enumerate(self.leaves)})  # type: ignore[no-any-return]

    # Any: each question has an answer of its own type.
    def remember(self, question: Hashable, answer: Callable[[], Any]) -> Any:
        """The answer to a question about this layout, worked out once; bounded, so that no caller can fill memory."""
        found = self._memo.get(question, self)
        if found is self:
            found = answer()
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[question] = found
        return found

    def top_keys(self) -> tuple[Key, ...]:
        """The keys directly below the root, in order."""
        return self.remember("top", lambda: tuple(self.keys[e] for e, p in enumerate(self.parents) if p == 0))  # type: ignore[no-any-return]

    def below(self, key: Key) -> "tuple[Layout, int] | None":
        """The layout of what lies below a top key, and the number of its first State; `None` for no such key."""
        # With its type: `True` equals 1, and is no position.
        return self.remember(("below", type(key), key), lambda: self._below(key))  # type: ignore[no-any-return]

    def _below(self, key: Key) -> "tuple[Layout, int] | None":
        top = self.entry((key,))
        if top is None:
            return None
        # Pre-order: what lies below an entry is the run of entries up to the next one that is not.
        end = top + 1
        while end < len(self.parents) and self.parents[end] >= top:
            end += 1
        parents = tuple([-1] + [parent - top for parent in self.parents[top + 1 : end]])
        first = next(at for at, entry in enumerate(self.leaves) if entry >= top)
        leaves = tuple([entry - top for entry in self.leaves[first:] if entry < end])
        specs = self.specs[first : first + len(leaves)]
        return intern_layout(parents, ("", *self.keys[top + 1 : end]), leaves, specs), first

    def take(self, positions: Sequence[int]) -> "Layout":
        """The layout of some of the States, given by ascending numbers."""
        if len(positions) == len(self):
            return self
        leaves = {self.leaves[at]: self.specs[at] for at in positions}
        return layout_of_trie(self.parents, self.keys, leaves)[0]

    def positions_of(self, other: "Layout") -> tuple[int | None, ...]:
        """For each State of `other`, its number here, or `None`: worked out once for each pair."""
        return self.remember(other, lambda: self._positions_of(other))  # type: ignore[no-any-return]

    def _positions_of(self, other: "Layout") -> tuple[int | None, ...]:
        here: list[int | None] = [0]
        children = self.children
        for entry in range(1, len(other.parents)):
            parent = here[other.parents[entry]]
            here.append(None if parent is None else children.get((parent, other.keys[entry])))
        numbers = self.leaf_numbers
        found = (here[entry] for entry in other.leaves)
        return tuple([None if entry is None else numbers.get(entry) for entry in found])

    def __copy__(self) -> "Layout":
        return self

    def __deepcopy__(self, memo: object) -> "Layout":
        return self

    def __reduce__(self) -> tuple[Callable[..., "Layout"], tuple[object, ...]]:
        return intern_layout, (self.parents, self.keys, self.leaves, self.specs)

    def __repr__(self) -> str:
        texts = [path_str(self.path(at)) for at in range(min(len(self), 5))]
        short = [text if len(text) <= MAX_KEY else f"{text[:MAX_KEY]}..." for text in texts]
        shown = [f"{text}: {spec.cls.__name__}" for text, spec in zip(short, self.specs, strict=False)]
        return f"Layout({', '.join(shown)}{f', and {len(self) - 5} more' if len(self) > 5 else ''})"


_MEMO_LIMIT = 128


def intern_layout(
    parents: tuple[int, ...], keys: tuple[Key, ...], leaves: tuple[int, ...], specs: tuple[StateSpec, ...]
) -> Layout:
    """The one layout with these entries, which must be canonical."""
    content = (parents, keys, leaves, specs)
    with _LOCK:
        layout = _LAYOUTS.get(content)
        if layout is None:
            layout = Layout()
            layout.parents, layout.keys, layout.leaves, layout.specs = content
            layout._children = None
            layout._memo = {}
            _LAYOUTS[content] = layout
    return layout


def layout_of_trie(
    parents: Sequence[int], keys: Sequence[Key], leaves: Mapping[int, StateSpec]
) -> tuple[Layout, list[int]]:
    """The canonical layout of a trie in any order, and its leaves in that order.

    Args:
        parents: The parent of each entry, which stands before it; entry 0 is the root.
        keys: The key of each entry below its parent.
        leaves: The entries that are States.
    """
    below: dict[int, list[int]] = {}
    needed = {0}
    for leaf in leaves:
        entry = leaf
        while entry not in needed:
            needed.add(entry)
            below.setdefault(parents[entry], []).append(entry)
            entry = parents[entry]
    new_parents: list[int] = []
    new_keys: list[Key] = []
    new_leaves: list[int] = []
    order: list[int] = []
    todo = [(0, -1)]
    while todo:
        entry, parent = todo.pop()
        at = len(new_parents)
        new_parents.append(parent)
        new_keys.append(keys[entry] if entry else "")
        if entry in leaves:
            new_leaves.append(at)
            order.append(entry)
        found = below.get(entry, [])
        found.sort(key=lambda e: _rank(keys[e]), reverse=True)
        todo.extend((child, at) for child in found)
    specs = tuple([leaves[entry] for entry in order])
    return intern_layout(tuple(new_parents), tuple(new_keys), tuple(new_leaves), specs), order


def _rank(key: Key) -> tuple[bool, Key]:
    return isinstance(key, str), key


class TrieBuilder:
    """Collects paths into a trie for `layout_of_trie`."""

    def __init__(self) -> None:
        self.parents: list[int] = [-1]
        self.keys: list[Key] = [""]
        self.leaves: dict[int, StateSpec] = {}
        self._children: dict[tuple[int, Key], int] = {}

    def entry(self, path: Iterable[Key], start: int = 0) -> int:
        """The entry at a path below `start`, added if it is new."""
        for key in path:
            known = self._children.get((start, key))
            if known is None:
                known = len(self.parents)
                self.parents.append(start)
                self.keys.append(key)
                self._children[start, key] = known
            start = known
        return start

    def add_layout(self, layout: Layout) -> list[int]:
        """Add all States of a layout; gives their entries, in its order."""
        here = [0]
        for entry in range(1, len(layout.parents)):
            here.append(self.entry((layout.keys[entry],), here[layout.parents[entry]]))
        entries = [here[leaf] for leaf in layout.leaves]
        self.leaves.update(zip(entries, layout.specs, strict=True))
        return entries

    def build(self) -> tuple[Layout, list[int]]:
        """The layout, and the entries of its leaves in canonical order."""
        return layout_of_trie(self.parents, self.keys, self.leaves)
