"""`Layout`: the ordered paths and descriptions of the States of a structure, or of a part of it.

Kept as a trie, flat: entry `e` has a parent entry and a key, and some entries are
leaves. Full paths are made when asked for: a chain of n nodes has n entries, but n²/2
keys in its paths. Entries stand in canonical pre-order (positions by number, names by
text), none that no leaf needs, and are interned: equal layouts are identical, whatever
made them.

What is shared has one entry, at its first path, and further *references* lead to it
(see `_trie`): a tied and an untied model differ in them.
"""

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from .._caches import Interned
from .._paths import Key, Path, key_order, path_str
from .._pretty import MAX_KEY
from .._public import named_in_pickles
from .._state import StateSpec
from .._trie import Reference, Trie, by_target, canonical

_LAYOUTS: "Interned[Hashable, Layout]" = Interned()


# An entry of one layout, and what a path to it leads to in another one.
_Pair: TypeAlias = tuple[int, int | None]


class Positions(NamedTuple):
    """Where the States of one layout stand in another one.

    Attributes:
        numbers: For each State, the number of what its first path leads to; `None`
            where that is not a State.
        further: What further paths lead to, where that is something else: the State,
            the number, such a path.
    """

    numbers: tuple[int | None, ...]
    further: tuple[tuple[int, int | None, Path], ...]


class Layout(Trie):
    """The paths and descriptions of some States, in canonical order. Interned; hash and equality are identity.

    Attributes:
        parents: The parent of each entry; -1 for the root, which is entry 0.
        keys: The key of each entry below its parent; the root's is not used.
        leaves: The entry of each State, ascending.
        specs: The description of each State.
        references: Further references: the entry that each starts from, its key there,
            the entry that it leads to.
    """

    __slots__ = ("__weakref__", "specs")

    def __init__(
        self,
        parents: tuple[int, ...],
        keys: tuple[Key, ...],
        leaves: tuple[int, ...],
        specs: tuple[StateSpec, ...],
        references: tuple[Reference, ...],
    ) -> None:
        super().__init__(parents, keys, leaves, references)
        self.specs: tuple[StateSpec, ...] = specs

    @property
    def below_entry(self) -> dict[int, list[int]]:
        """The entries below each entry, in order; made once."""
        return self.remember("below_entry", self._below_entry)

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
        return self.remember("holding", self._holding)

    def _holding(self) -> frozenset[int]:
        holding = {0}
        for leaf in self.leaves:
            entry = leaf
            while entry not in holding:
                holding.add(entry)
                entry = self.parents[entry]
        return frozenset(holding)

    @property
    def is_of_a_state(self) -> bool:
        """Whether the root itself is a State, whose path is empty."""
        return self.leaves == (0,)

    def top_keys(self) -> tuple[Key | Path, ...]:
        """The keys directly below the root, in order; of a State alone its path, `()`."""
        return self.remember("top", self._top_keys)

    def _top_keys(self) -> tuple[Key | Path, ...]:
        if self.is_of_a_state:
            return ((),)
        return tuple([self.keys[entry] for entry in self.below_entry.get(0, ())])

    def below(self, key: Key) -> "tuple[Layout, int] | None":
        """The layout of what lies below a top key, and the number of its first State; `None` for no such key."""
        # With its type: `True` equals 1, and is not a position.
        return self.remember(("below", type(key), key), lambda: self._below(key))

    def _below(self, key: Key) -> "tuple[Layout, int] | None":
        top = self.entry((key,))
        # At its own place alone: what a reference leads to stands elsewhere.
        if (
            top is None
            or self.parents[top] != 0
            or self.keys[top] != key
            or top not in self.holding
        ):
            return None
        return self.below_an_entry(top)

    def below_an_entry(self, top: int) -> "tuple[Layout, int]":
        """The layout of what lies below an entry that holds States, and the number of its first State."""
        end = self.end_of(top)
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
        return layout_of_trie(
            parents, keys, dict(zip(leaves, specs, strict=True)), by_target(inside)
        )[0], first

    def part(self, path: Path) -> "tuple[Layout, Sequence[int]] | None":
        """The layout of all that is at or below a path, seen from there, and the numbers of its States here.

        What is shared belongs to it too; not what is on the way to it.
        """
        # With types: `True` equals 1, and is not a position.
        return self.remember(
            ("part", path, tuple(map(type, path))), lambda: self._part(path)
        )

    def _part(self, path: Path) -> "tuple[Layout, Sequence[int]] | None":
        top = self.entry(path)
        if top is None:
            return None
        if self.references and not self._stands_alone(path, top):
            return self._seen_from(path)
        if top not in self.holding:
            return None
        layout, first = self.below_an_entry(top)
        return layout, range(first, first + len(layout))

    def _stands_alone(self, path: Path, top: int) -> bool:
        """Whether what lies below the end of a path leads nowhere else, and was not on the way to it."""
        end = self.end_of(top)
        on_the_way = [self.entry(path[:length]) for length in range(len(path))]
        if any(entry is not None and top < entry < end for entry in on_the_way):
            return False
        return all(
            top <= target < end
            for source, _, target in self.references
            if top <= source < end
        )

    def _seen_from(self, path: Path) -> "tuple[Layout, Sequence[int]] | None":
        """As a walk from the end of a path finds it: what is met again has its first path from there."""
        reached = self.reached(path)
        parents, keys = list[int](), list[Key]()
        leaves, numbers = dict[int, StateSpec](), dict[int, int]()
        sources: dict[int, list[tuple[int, Key]]] = {}
        renumbered: dict[int, int] = {}
        todo: list[tuple[int, int, Key]] = [(next(iter(reached)), -1, "")]
        while todo:
            entry, parent, key = todo.pop()
            if entry in renumbered:
                sources.setdefault(renumbered[entry], []).append((parent, key))
                continue
            new = renumbered[entry] = len(parents)
            parents.append(parent)
            keys.append(key)
            at = self.leaf_numbers.get(entry)
            if at is not None:
                leaves[new], numbers[new] = self.specs[at], at
            below = sorted(
                self.outgoing[entry], key=lambda edge: key_order(edge[0]), reverse=True
            )
            todo += [(target, new, name) for name, target in below if target in reached]
        if not leaves:
            return None
        layout, order = layout_of_trie(parents, keys, leaves, sources)
        return layout, [numbers[new] for new in order]

    def take(self, positions: Sequence[int]) -> "Layout":
        """The layout of some of the States, given by ascending numbers."""
        if len(positions) == len(self):
            return self
        leaves = {self.leaves[at]: self.specs[at] for at in positions}
        return layout_of_trie(self.parents, self.keys, leaves, self.all_sources)[0]

    def positions_of(self, other: "Layout", start: int = 0) -> "Positions":
        """Where the States of `other` stand here, below an entry: worked out once for each pair."""
        return self.remember((other, start), lambda: self._positions_of(other, start))

    def _positions_of(self, other: "Layout", start: int) -> "Positions":
        here: list[int | None] = [start]
        children = self.children
        for entry in range(1, len(other.parents)):
            parent = here[other.parents[entry]]
            here.append(
                None if parent is None else children.get((parent, other.keys[entry]))
            )
        numbers = self.leaf_numbers
        found = (here[leaf] for leaf in other.leaves)
        first = tuple(
            [None if entry is None else numbers.get(entry) for entry in found]
        )
        further: dict[tuple[int, int | None], Path] = {}
        for (entry, target), path in self._elsewhere(other, here):
            at = other.leaf_numbers.get(entry)
            number = None if target is None else numbers.get(target)
            if at is not None and number != first[at]:
                further.setdefault((at, number), path())
        return Positions(
            first, tuple([(at, number, path) for (at, number), path in further.items()])
        )

    def _elsewhere(
        self, other: "Layout", here: Sequence[int | None]
    ) -> "Iterator[tuple[_Pair, Callable[[], Path]]]":
        """The entries of `other` with what else they are here by further paths, and such a path.

        Both are walked together, over each pair of entries once: of their paths there
        may be 2^n.

        Args:
            other: The layout whose entries are looked for.
            here: For each of them what its first path leads to.
        """
        children = self.children
        came: dict[_Pair, tuple[_Pair, Key]] = {}

        def follow(pair: _Pair, key: Key, target: int) -> bool:
            child = None if pair[1] is None else children.get((pair[1], key))
            is_new = child != here[target] and (target, child) not in came
            if is_new:
                came[target, child] = pair, key
            return is_new

        def path_to(pair: _Pair) -> Path:
            below: list[Key] = []
            while pair in came:
                pair, key = came[pair]
                below.append(key)
            return (*other.first_path(pair[0]), *reversed(below))

        for source, key, target in other.references:
            follow((source, here[source]), key, target)
        pending = list(came)
        for pair in pending:  # grows
            yield pair, functools.partial(path_to, pair)
            for key, target in other.outgoing[pair[0]]:
                if follow(pair, key, target):
                    pending.append(
                        (
                            target,
                            None if pair[1] is None else children.get((pair[1], key)),
                        )
                    )

    def __copy__(self) -> "Layout":
        return self

    def __deepcopy__(self, memo: object) -> "Layout":
        return self

    def __reduce__(self) -> tuple[Callable[..., "Layout"], tuple[object, ...]]:
        return intern_layout, (
            self.parents,
            self.keys,
            self.leaves,
            self.specs,
            self.references,
        )

    def __repr__(self) -> str:
        texts = [path_str(self.path(at)) for at in range(min(len(self), 5))]
        short = [
            text if len(text) <= MAX_KEY else f"{text[:MAX_KEY]}..." for text in texts
        ]
        shown = [
            f"{text}: {spec.cls.__name__}"
            for text, spec in zip(short, self.specs, strict=False)
        ]
        return f"Layout({', '.join(shown)}{f', and {len(self) - 5} more' if len(self) > 5 else ''})"


@named_in_pickles("_pickled_layout")
def intern_layout(
    parents: tuple[int, ...],
    keys: tuple[Key, ...],
    leaves: tuple[int, ...],
    specs: tuple[StateSpec, ...],
    references: tuple[Reference, ...] = (),
) -> Layout:
    """The one layout with these entries and references, which must be canonical."""
    content = (parents, keys, leaves, specs, references)
    return _LAYOUTS.of(content, lambda: Layout(*content))


def layout_of_trie(
    parents: Sequence[int],
    keys: Sequence[Key],
    leaves: Mapping[int, StateSpec],
    sources: Mapping[int, list[tuple[int, Key]]] = MappingProxyType({}),
) -> tuple[Layout, list[int]]:
    """The canonical layout of a trie in any order, and its leaves in that order: see `canonical`."""
    trie, order = canonical(parents, keys, leaves, sources)
    specs = tuple([leaves[entry] for entry in order])
    return intern_layout(
        trie.parents, trie.keys, trie.leaves, specs, trie.references
    ), order


class TrieBuilder:
    """Collects paths into a trie for `layout_of_trie`."""

    def __init__(self) -> None:
        self.parents: list[int] = [-1]
        self.keys: list[Key] = [""]
        self.leaves: dict[int, StateSpec] = {}
        self.references: dict[tuple[int, Key], int] = {}
        self._children: dict[tuple[int, Key], int] = {}
        self._two_targets: list[Reference] = []  # which contradict those that are kept

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
        for source, key, target in layout.references:
            first = self.references.setdefault((here[source], key), here[target])
            if first != here[target]:
                self._two_targets.append((here[source], key, here[target]))
        return entries

    def contradictions(self) -> list[str]:
        """What the layouts that were added say differently of one path: where it leads, or what stands there."""
        faults: list[str] = []
        for source, key, target in self._two_targets:
            first, second = self._text(self.references[source, key]), self._text(target)
            faults.append(
                f"{self._text(source, key)} is another path of {first} in one, and of {second} in the other"
            )
        for (source, key), target in self.references.items():
            if (source, key) in self._children:
                place, first = self._text(source, key), self._text(target)
                faults.append(
                    f"{place} is another path of {first} in one, and a place of its own in the other"
                )
        inner = {*self.parents, *[source for source, _ in self.references]}
        faults += [
            f"{self._text(leaf)} is a State in one, and has States below it in the other"
            for leaf in inner.intersection(self.leaves)
        ]
        return sorted(faults)

    def _text(self, entry: int, *below: Key) -> str:
        """The path of an entry, or of a key below it, for messages."""
        keys = list(below)
        while entry:
            keys.insert(0, self.keys[entry])
            entry = self.parents[entry]
        return path_str(tuple(keys))

    def build(self) -> tuple[Layout, list[int]]:
        """The layout, and the entries of its leaves in canonical order."""
        return layout_of_trie(self.parents, self.keys, self.leaves, self.sources())

    def sources(self) -> dict[int, list[tuple[int, Key]]]:
        """From where references lead to each entry, and by which key."""
        return by_target(
            [(source, key, target) for (source, key), target in self.references.items()]
        )
