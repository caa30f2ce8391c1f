"""`Layout`: the ordered paths and descriptions of the States of a structure, or of a part of it.

Kept as a trie, flat: entry `e` has a parent entry and a key, and some entries are leaves. Full paths are made when
asked for: a chain of n nodes has n entries, but n²/2 keys in its paths. Entries stand in canonical pre-order
(positions by number, names by text), none that no leaf needs, and are interned: equal layouts are identical, whatever
made them.

What is shared has one entry, at its first path, and further *references* lead to it: from an entry, by a key. A tied
and an untied model differ in them. A reference to an entry that encloses its own source (a parent pointer, the closing
edge of a ring) leads *back*: an exact path may go over it, a pattern does not, so that no pattern means endlessly many
paths. Without these, entries and references are a graph without cycles:

    model = AE(enc=layer, dec=Decoder(tied=layer))

    entries      0 "" > 1 dec > 2 tied > 3 weight        names come by text: "dec" before "enc"
    references   0 --enc--> 2                            so `enc.weight` is the State at `dec.tied.weight`
"""

import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ._paths import Key, Path, path_str
from ._patterns import Pattern
from ._pretty import MAX_KEY
from ._state import StateSpec

_LAYOUTS: "weakref.WeakValueDictionary[Hashable, Layout]" = weakref.WeakValueDictionary()
_LOCK = threading.RLock()


# From an entry, by a key, to an entry.
Reference: TypeAlias = tuple[int, Key, int]


class Layout:
    """The paths and descriptions of some States, in canonical order. Interned; hash and equality are identity.

    Attributes:
        parents: The parent of each entry; -1 for the root, which is entry 0.
        keys: The key of each entry below its parent; the root's is not used.
        leaves: The entry of each State, ascending.
        specs: The description of each State.
        references: Further references: the entry that each starts from, its key there, the entry that it leads to.
    """

    __slots__ = ("__weakref__", "_children", "_memo", "keys", "leaves", "parents", "references", "specs")

    parents: tuple[int, ...]
    keys: tuple[Key, ...]
    leaves: tuple[int, ...]
    specs: tuple[StateSpec, ...]
    references: "tuple[Reference, ...]"
    _children: "dict[tuple[int, Key], int] | None"
    _memo: dict[Hashable, Any]

    def __len__(self) -> int:
        return len(self.leaves)

    def path(self, at: int) -> Path:
        """The path of State number `at`."""
        return self._path_of(self.leaves[at])

    def _path_of(self, entry: int) -> Path:
        keys: list[Key] = []
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
        """The entry that each entry and key lead to, over references too; made once."""
        if self._children is None:
            below = {(self.parents[e], self.keys[e]): e for e in range(1, len(self.parents))}
            below.update({(source, key): target for source, key, target in self.references})
            self._children = below
        return self._children

    @property
    def below_entry(self) -> dict[int, list[int]]:
        """The entries below each entry, in order; made once."""
        return self.remember("below_entry", self._below_entry)  # type: ignore[no-any-return]

    def _below_entry(self) -> dict[int, list[int]]:
        below: dict[int, list[int]] = {}
        holding = self.holding
        for entry in range(1, len(self.parents)):
            if entry in holding:
                below.setdefault(self.parents[entry], []).append(entry)
        return below

    @property
    def holding(self) -> "range | frozenset[int]":
        """The entries at or below which there is a State, not counting what references lead to; made once."""
        if not self.references:
            return range(len(self.parents))
        return self.remember("holding", self._holding)  # type: ignore[no-any-return]

    def _holding(self) -> frozenset[int]:
        holding = {0}
        for leaf in self.leaves:
            entry = leaf
            while entry not in holding:
                holding.add(entry)
                entry = self.parents[entry]
        return frozenset(holding)

    def other_paths(self, at: int) -> tuple[Path, ...]:
        """One more path of a State for each reference to it or to what encloses it; the first keys are canonical."""
        if not self.references:
            return ()
        return self.remember(("other paths", at), lambda: tuple(self._other_paths(at)))  # type: ignore[no-any-return]

    def _other_paths(self, at: int) -> Iterator[Path]:
        below: list[Key] = []
        entry = self.leaves[at]
        while entry:
            for source, key in self._references_to.get(entry, ()):
                yield (*self._path_of(source), key, *reversed(below))
            below.append(self.keys[entry])
            entry = self.parents[entry]

    def spellings(self) -> list[str]:
        """The paths of all States as texts, with further ones of what is shared: what a misspelt one may have meant."""
        texts = [path_str(path) for path in self.paths()]
        if self.references:
            texts += [path_str(path) for at in range(len(self.leaves)) for path in self.other_paths(at)]
        return texts

    def places(self, at: int) -> tuple[Path, ...]:
        """The paths of all references to a State itself, its own path first."""
        sources = self._references_to.get(self.leaves[at], ()) if self.references else ()
        return (self.path(at), *[(*self._path_of(source), key) for source, key in sources])

    @property
    def _references_to(self) -> dict[int, list[tuple[int, Key]]]:
        return self.remember("references to", self._by_target)  # type: ignore[no-any-return]

    def _by_target(self) -> dict[int, list[tuple[int, Key]]]:
        by_target: dict[int, list[tuple[int, Key]]] = {}
        for source, key, target in self.references:
            by_target.setdefault(target, []).append((source, key))
        return by_target

    def matching(self, pattern: Pattern) -> frozenset[int]:
        """The numbers of the States of which some path, going over no reference that leads back, fits a pattern."""
        return self.remember(("matching", pattern), lambda: self._ending(pattern, is_fit=True))  # type: ignore[no-any-return]

    def escaping(self, pattern: Pattern) -> frozenset[int]:
        """The numbers of the States of which some path, going over no reference that leads back, does not fit it."""
        return self.remember(("escaping", pattern), lambda: self._ending(pattern, is_fit=False))  # type: ignore[no-any-return]

    def _ending(self, pattern: Pattern, *, is_fit: bool) -> frozenset[int]:
        ends = self._ends_of(pattern)
        return frozenset(
            [
                at
                for at, leaf in enumerate(self.leaves)
                if any(pattern.accepts(places) is is_fit for places in ends[leaf])
            ]
        )

    def _ends_of(self, pattern: Pattern) -> list[set[int]]:
        """For each entry, the places in a pattern that its paths come to.

        One pass: of the paths, of which there may be 2^n in n entries, only the few different outcomes are kept.
        """
        ends: list[set[int]] = [set() for _ in self.parents]
        ends[0].add(pattern.start)
        outgoing = self._outgoing()
        for entry in self._topological_order():
            for key, target in outgoing.get(entry, ()):
                ends[target].update([pattern.step(places, key) for places in ends[entry]])
        return ends

    def _outgoing(self) -> dict[int, list[tuple[Key, int]]]:
        """Where each entry leads to, by key, but for references that lead back."""
        outgoing: dict[int, list[tuple[Key, int]]] = {}
        for entry in range(1, len(self.parents)):
            outgoing.setdefault(self.parents[entry], []).append((self.keys[entry], entry))
        for source, key, target in self._forward():
            outgoing.setdefault(source, []).append((key, target))
        return outgoing

    def _forward(self) -> list["Reference"]:
        """The references that do not lead back."""
        if not self.references:
            return []
        # Pre-order: what lies below an entry is the run of entries up to its end.
        ends = list(range(1, len(self.parents) + 1))
        for entry in range(len(self.parents) - 1, 0, -1):
            parent = self.parents[entry]
            ends[parent] = max(ends[parent], ends[entry])
        return [one for one in self.references if not one[2] <= one[0] < ends[one[2]]]

    def _topological_order(self) -> Iterable[int]:
        """The entries, each after all that lead to it."""
        forward = self._forward()
        if not forward:
            return range(len(self.parents))
        outgoing = self._outgoing()
        waiting = [1] * len(self.parents)
        for _, _, target in forward:
            waiting[target] += 1
        order = [0]
        for entry in order:  # grows
            for _, target in outgoing.get(entry, ()):
                waiting[target] -= 1
                if not waiting[target]:
                    order.append(target)
        return order

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
        return self.remember("top", lambda: tuple([self.keys[e] for e in self.below_entry.get(0, ())]))  # type: ignore[no-any-return]

    def below(self, key: Key) -> "tuple[Layout, int] | None":
        """The layout of what lies below a top key, and the number of its first State; `None` for no such key."""
        # With its type: `True` equals 1, and is no position.
        return self.remember(("below", type(key), key), lambda: self._below(key))  # type: ignore[no-any-return]

    def _below(self, key: Key) -> "tuple[Layout, int] | None":
        top = self.entry((key,))
        # At its own place alone: what a reference leads to stands elsewhere.
        if top is None or self.parents[top] != 0 or self.keys[top] != key or top not in self.holding:
            return None
        return self.below_an_entry(top)

    def below_an_entry(self, top: int) -> "tuple[Layout, int]":
        """The layout of what lies below an entry that holds States, and the number of its first State."""
        # Pre-order: what lies below an entry is the run of entries up to the next one that is not.
        end = top + 1
        while end < len(self.parents) and self.parents[end] >= top:
            end += 1
        parents = tuple([-1] + [parent - top for parent in self.parents[top + 1 : end]])
        first = next(at for at, entry in enumerate(self.leaves) if entry >= top)
        leaves = tuple([entry - top for entry in self.leaves[first:] if entry < end])
        specs = self.specs[first : first + len(leaves)]
        keys = ("", *self.keys[top + 1 : end])
        if not self.references:
            return intern_layout(parents, keys, leaves, specs), first
        inside = [
            (source - top, key, target - top)
            for source, key, target in self.references
            if top <= source < end and top <= target < end
        ]
        # What only a reference to the outside needed is not needed here.
        return layout_of_trie(parents, keys, dict(zip(leaves, specs, strict=True)), inside)[0], first

    def take(self, positions: Sequence[int]) -> "Layout":
        """The layout of some of the States, given by ascending numbers."""
        if len(positions) == len(self):
            return self
        leaves = {self.leaves[at]: self.specs[at] for at in positions}
        return layout_of_trie(self.parents, self.keys, leaves, self.references)[0]

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
        return intern_layout, (self.parents, self.keys, self.leaves, self.specs, self.references)

    def __repr__(self) -> str:
        texts = [path_str(self.path(at)) for at in range(min(len(self), 5))]
        short = [text if len(text) <= MAX_KEY else f"{text[:MAX_KEY]}..." for text in texts]
        shown = [f"{text}: {spec.cls.__name__}" for text, spec in zip(short, self.specs, strict=False)]
        return f"Layout({', '.join(shown)}{f', and {len(self) - 5} more' if len(self) > 5 else ''})"


_MEMO_LIMIT = 128


def intern_layout(
    parents: tuple[int, ...],
    keys: tuple[Key, ...],
    leaves: tuple[int, ...],
    specs: tuple[StateSpec, ...],
    references: "tuple[Reference, ...]" = (),
) -> Layout:
    """The one layout with these entries and references, which must be canonical."""
    content = (parents, keys, leaves, specs, references)
    with _LOCK:
        layout = _LAYOUTS.get(content)
        if layout is None:
            layout = Layout()
            layout.parents, layout.keys, layout.leaves, layout.specs, layout.references = content
            layout._children = None
            layout._memo = {}
            _LAYOUTS[content] = layout
    return layout


def layout_of_trie(
    parents: Sequence[int],
    keys: Sequence[Key],
    leaves: Mapping[int, StateSpec],
    references: "Sequence[Reference]" = (),
) -> tuple[Layout, list[int]]:
    """The canonical layout of a trie in any order, and its leaves in that order.

    Args:
        parents: The parent of each entry, which stands before it; entry 0 is the root.
        keys: The key of each entry below its parent.
        leaves: The entries that are States.
        references: Further references; those that lead to no State are left out.
    """
    below: dict[int, list[int]] = {}
    sources = _sources_of(references)
    needed = {0}
    # The root encloses all States: what refers to it leads to them.
    pending = [*leaves, *(sources.get(0, ()) if leaves else ())]
    while pending:
        entry = pending.pop()
        while entry not in needed:
            needed.add(entry)
            below.setdefault(parents[entry], []).append(entry)
            pending += sources.get(entry, ())
            entry = parents[entry]
    new_parents: list[int] = []
    new_keys: list[Key] = []
    new_leaves: list[int] = []
    order: list[int] = []
    renumbered: dict[int, int] = {}
    todo = [(0, -1)]
    while todo:
        entry, parent = todo.pop()
        at = renumbered[entry] = len(new_parents)
        new_parents.append(parent)
        new_keys.append(keys[entry] if entry else "")
        if entry in leaves:
            new_leaves.append(at)
            order.append(entry)
        found = below.get(entry, [])
        found.sort(key=lambda e: _rank(keys[e]), reverse=True)
        todo.extend((child, at) for child in found)
    specs = tuple([leaves[entry] for entry in order])
    led = [(renumbered[s], key, renumbered[t]) for s, key, t in references if s in renumbered and t in renumbered]
    led.sort(key=lambda one: (one[0], _rank(one[1])))
    return intern_layout(tuple(new_parents), tuple(new_keys), tuple(new_leaves), specs, tuple(led)), order


def _sources_of(references: "Sequence[Reference]") -> dict[int, list[int]]:
    """The entries from which references lead to each entry."""
    sources: dict[int, list[int]] = {}
    for source, _, target in references:
        sources.setdefault(target, []).append(source)
    return sources


def _rank(key: Key) -> tuple[bool, Key]:
    return isinstance(key, str), key


class TrieBuilder:
    """Collects paths into a trie for `layout_of_trie`."""

    def __init__(self) -> None:
        self.parents: list[int] = [-1]
        self.keys: list[Key] = [""]
        self.leaves: dict[int, StateSpec] = {}
        self.references: dict[tuple[int, Key], int] = {}
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
        self.references.update({(here[source], key): here[target] for source, key, target in layout.references})
        return entries

    def build(self) -> tuple[Layout, list[int]]:
        """The layout, and the entries of its leaves in canonical order."""
        references = [(source, key, target) for (source, key), target in self.references.items()]
        return layout_of_trie(self.parents, self.keys, self.leaves, references)
