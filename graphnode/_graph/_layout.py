"""`Layout`: the ordered paths and descriptions of the States of a structure, or of a part of it.

It is a flat trie: each entry has a parent entry and a key, and the entries of States are
leaves.

    net.a.bias, net.a.weight, net.c         entry     0    1    2       3         4
    and net.b is net.a                      parent   -1    0    1       1         0
                                            key           "a"  "bias"  "weight"  "c"
                                            leaves    2, 3, 4
                                            references  (0, "b", 1): from the root by "b" to entry 1

Full paths are made when they are asked for: a chain of n nodes has n entries, but n²/2
keys in its paths. Entries are in canonical pre-order (positions by number, names
alphabetically), and each of them leads to a leaf. So equal layouts can be interned: they
are identical, whatever made them.

A shared object has one entry, at its first path; further *references* lead to it (see
`_trie`). A tied and an untied model differ in them.
"""

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from .._caches import Interned
from .._paths import Key, Path, key_order, path_str
from .._public import named_in_pickles
from .._state import StateSpec
from .._trie import Reference, Trie, by_target, canonical

_LAYOUTS: "Interned[Hashable, Layout]" = Interned()
# In a `repr`
_MAX_STATES: Final = 5
_MAX_PATH: Final = 1_000


# An entry of one layout, and what a path to it leads to in another one.
_Pair: TypeAlias = tuple[int, int | None]


class Positions(NamedTuple):
    """Where the States of one layout stand in another one.

    Attributes:
        numbers: For each State, the number of the State that its first path leads to in
            the other layout; `None` if there is none.
        further: Contradictions: the State, the number that another path of it leads to,
            and that path.
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
        """The entries below each entry, in order; made once.

        To print a state tree level by level, and to iterate over it.
        """
        return self.remember("below_entry", self._below_entry)

    def _below_entry(self) -> dict[int, list[int]]:
        """For `below_entry`: the entries below each entry, without those that only references need."""
        below: dict[int, list[int]] = {}
        holding = self.holding
        for entry in range(1, len(self.parents)):
            if entry in holding:
                below.setdefault(self.parents[entry], []).append(entry)
        return below

    @property
    def holding(self) -> "range | frozenset[int]":
        """The entries that are States, or have some below them by first paths; made once.

        The other entries are there only because a reference leads from or to them;
        `to_dict` and the keys leave them out.
        """
        if not self.references:
            return range(len(self.parents))
        return self.remember("holding", self._holding)

    def _holding(self) -> frozenset[int]:
        """For `holding`: the entries on the way from the root to a State, first paths only."""
        holding = {0}
        for leaf in self.leaves:
            entry = leaf
            # Up to the first entry that another State has marked: each entry is visited
            # once.
            while entry not in holding:
                holding.add(entry)
                entry = self.parents[entry]
        return frozenset(holding)

    @property
    def is_of_a_state(self) -> bool:
        """Whether the root itself is a State, whose path is empty.

        `treefy_states` of a State alone has no keys to go by: its one value stands at
        the root.
        """
        return self.leaves == (0,)

    def top_keys(self) -> tuple[Key | Path, ...]:
        """The keys directly below the root, in order; of a State alone its path, `()`.

        What iterating over a state tree gives, and what its length counts.
        """
        return self.remember("top", self._top_keys)

    def _top_keys(self) -> tuple[Key | Path, ...]:
        """For `top_keys`: the keys directly below the root, or `()` alone where the root is a State."""
        if self.is_of_a_state:
            return ((),)
        return tuple([self.keys[entry] for entry in self.below_entry.get(0, ())])

    def below(self, key: Key) -> "tuple[Layout, int] | None":
        """The layout of what lies below a top key, and the number of its first State; `None` for no such key.

        For `tree[key]` of a state tree: its values are a slice, from that number on.
        """
        # With its type: `True` equals 1, and is not a position.
        return self.remember(("below", type(key), key), lambda: self._below(key))

    def _below(self, key: Key) -> "tuple[Layout, int] | None":
        """For `below`: what lies below a top key; `None` for no such key, or for a reference."""
        top = self.entry((key,))
        if top is None or top not in self.holding:
            return None
        # Not by a reference: its target stands elsewhere.
        if self.parents[top] != 0 or self.keys[top] != key:
            return None
        return self.below_an_entry(top)

    def below_an_entry(self, top: int) -> "tuple[Layout, int]":
        """The layout of what lies below an entry that holds States, and the number of its first State.

        For `below` and `part`: a slice of the entries, with no walk over paths.
        """
        # Entries are in pre-order, so what lies below one is a slice.
        end = self.end_of(top)
        parents = tuple([-1] + [parent - top for parent in self.parents[top + 1 : end]])
        first = next(at for at, entry in enumerate(self.leaves) if entry >= top)
        leaves = tuple([entry - top for entry in self.leaves[first:] if entry < end])
        specs = self.specs[first : first + len(leaves)]
        keys = ("", *self.keys[top + 1 : end])
        if not self.references:
            # A slice of a canonical trie is canonical.
            return intern_layout(parents, keys, leaves, specs), first
        inside = [
            (source - top, key, target - top)
            for source, key, target in self.references
            if top <= source < end and top <= target < end
        ]
        # Entries that only references to the outside needed are left out.
        spec_by_leaf = dict(zip(leaves, specs, strict=True))
        layout, _ = layout_of_trie(parents, keys, spec_by_leaf, by_target(inside))
        return layout, first

    def part(self, path: Path) -> "tuple[Layout, Sequence[int]] | None":
        """The layout of all that is at or below a path, seen from there, and the numbers of its States here.

        For `tree[path]` of a state tree, with a path such as `encoder.layers`.

        That includes what references lead to, but not the objects on the way to the
        path.
        """
        # With types: `True` equals 1, and is not a position.
        question = ("part", path, tuple(map(type, path)))
        return self.remember(question, lambda: self._part(path))

    def _part(self, path: Path) -> "tuple[Layout, Sequence[int]] | None":
        """For `part`: what a path leads to, by a slice of the trie where that is enough, else by a walk."""
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
        """Whether no reference leaves what is below a path, and no entry below is on the way to the path.

        Then `_part` may cut out a slice: a walk that began there would have the same
        first paths.
        """
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
        """The layout that a walk from the end of a path would find: first paths may be others there.

        Where `_part` cannot cut out a slice: what is shared with the rest is below the
        path now, or in another order.
        """
        reached = self.reached(path)
        # The first that was reached is the end of the path itself.
        start = next(iter(reached))
        parents: list[int] = []
        keys: list[Key] = []
        leaves: dict[int, StateSpec] = {}
        numbers: dict[int, int] = {}
        sources: dict[int, list[tuple[int, Key]]] = {}
        renumbered: dict[int, int] = {}
        todo: list[tuple[int, int, Key]] = [(start, -1, "")]
        while todo:
            entry, parent, key = todo.pop()
            # Met before: a further reference.
            if entry in renumbered:
                sources.setdefault(renumbered[entry], []).append((parent, key))
                continue
            new = renumbered[entry] = len(parents)
            parents.append(parent)
            keys.append(key)
            number = self.leaf_numbers.get(entry)
            if number is not None:
                leaves[new] = self.specs[number]
                numbers[new] = number
            edges = [edge for edge in self.outgoing[entry] if edge[1] in reached]
            # The last is pushed first, so that the first is popped first.
            edges.sort(key=lambda edge: key_order(edge[0]), reverse=True)
            todo += [(target, new, name) for name, target in edges]
        if not leaves:
            return None
        layout, order = layout_of_trie(parents, keys, leaves, sources)
        return layout, [numbers[new] for new in order]

    def take(self, positions: Sequence[int]) -> "Layout":
        """The layout of some of the States, given by ascending numbers.

        For a group of States under a filter.
        """
        if len(positions) == len(self):
            # All of them: ascending numbers, so nothing was left out.
            return self
        leaves = {self.leaves[at]: self.specs[at] for at in positions}
        return layout_of_trie(self.parents, self.keys, leaves, self.all_sources)[0]

    def positions_of(self, other: "Layout", start: int = 0) -> "Positions":
        """Where the States of `other` stand here, below an entry: worked out once for each pair.

        For `gn.update_states` and `gn.treefy_merge`: to which State of a graph each
        value of a state tree belongs.
        """
        return self.remember((other, start), lambda: self._positions_of(other, start))

    def _positions_of(self, other: "Layout", start: int) -> "Positions":
        """For `positions_of`: first paths are looked up here, then all further paths compared with them."""
        # The entry here of each entry of the other, by its first path.
        here: list[int | None] = [start]
        # A parent comes before its children, so that its entry here is known.
        for entry in range(1, len(other.parents)):
            here.append(self._child(here[other.parents[entry]], other.keys[entry]))
        first = tuple([self._number(here[leaf]) for leaf in other.leaves])
        further: dict[tuple[int, int | None], Path] = {}
        for (entry, target), path in self._elsewhere(other, here):
            at = other.leaf_numbers.get(entry)
            number = self._number(target)
            if at is not None and number != first[at]:
                # One path is enough for a message.
                further.setdefault((at, number), path())
        return Positions(first, tuple([(*key, path) for key, path in further.items()]))

    def _child(self, entry: int | None, key: Key) -> int | None:
        """The entry at a key below an entry, also over a reference; `None` if there is none.

        For `positions_of`, which follows a path of another layout here, as far as it
        goes.
        """
        return None if entry is None else self.children.get((entry, key))

    def _number(self, entry: int | None) -> int | None:
        """The number of the State at an entry; `None` if there is no State.

        For `positions_of`: a path may lead here to a container, a node or nowhere.
        """
        return None if entry is None else self.leaf_numbers.get(entry)

    def _elsewhere(
        self, other: "Layout", here: Sequence[int | None]
    ) -> "Iterator[tuple[_Pair, Callable[[], Path]]]":
        """The entries of `other` that are something else here by further paths, each with such a path.

        For `positions_of`, so that values of a tied model are not put into an untied
        one unnoticed.

        Both layouts are walked together, over each pair of entries once: there may be
        2^n paths.

            other: a -> w, b -> the same w      here: a -> w, b -> w' (not tied)
            first path of w:  a.w, here w       further path:  b.w, here w': the pair (w, w')

        Args:
            other: The layout whose entries are looked for.
            here: For each of them the entry here that its first path leads to.
        """
        came_from: dict[_Pair, tuple[_Pair, Key]] = {}
        pending: list[_Pair] = []

        def follow(pair: _Pair, key: Key, target: int) -> None:
            """Take a step in both layouts; note the pair that it leads to, if that is a new contradiction."""
            child = (target, self._child(pair[1], key))
            if child[1] != here[target] and child not in came_from:
                came_from[child] = pair, key
                pending.append(child)

        def path_to(pair: _Pair) -> Path:
            """A path in `other` that leads to a pair: back to where it came from, up to a first path.

            For the message: only a pair that becomes a fault needs its path.
            """
            keys: list[Key] = []
            while pair in came_from:
                pair, key = came_from[pair]
                keys.append(key)
            return (*other.first_path(pair[0]), *reversed(keys))

        for source, key, target in other.references:
            follow((source, here[source]), key, target)
        for pair in pending:  # which `follow` appends to
            yield pair, functools.partial(path_to, pair)
            for key, target in other.outgoing[pair[0]]:
                follow(pair, key, target)

    def __copy__(self) -> "Layout":
        return self

    def __deepcopy__(self, memo: object) -> "Layout":
        return self

    def __reduce__(self) -> tuple[Callable[..., "Layout"], tuple[object, ...]]:
        # So that a layout that was pickled is the one that is there already.
        return intern_layout, (
            self.parents,
            self.keys,
            self.leaves,
            self.specs,
            self.references,
        )

    def __repr__(self) -> str:
        parts: list[str] = []
        for at, spec in enumerate(self.specs[:_MAX_STATES]):
            text = path_str(self.path(at))
            if len(text) > _MAX_PATH:
                text = f"{text[:_MAX_PATH]}..."
            parts.append(f"{text}: {spec.cls.__name__}")
        others = len(self) - _MAX_STATES
        if others > 0:
            parts.append(f"and {others} more")
        return f"Layout({', '.join(parts)})"


@named_in_pickles("_pickled_layout")
def intern_layout(
    parents: tuple[int, ...],
    keys: tuple[Key, ...],
    leaves: tuple[int, ...],
    specs: tuple[StateSpec, ...],
    references: tuple[Reference, ...] = (),
) -> Layout:
    """The one layout with these entries and references, which must be canonical.

    So that two are compared by identity, and what was found out for one holds for all
    that are equal.
    """
    content = (parents, keys, leaves, specs, references)
    return _LAYOUTS.of(content, lambda: Layout(*content))


def layout_of_trie(
    parents: Sequence[int],
    keys: Sequence[Key],
    leaves: Mapping[int, StateSpec],
    sources: Mapping[int, list[tuple[int, Key]]] = MappingProxyType({}),
) -> tuple[Layout, list[int]]:
    """The canonical layout of a trie in any order, and its leaves in that order: see `canonical`.

    To be canonical is what makes equal layouts identical, whatever order the paths were
    found in.
    """
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
        # References whose source and key have another target already.
        self._second_targets: list[Reference] = []

    def entry(self, path: Iterable[Key], start: int = 0) -> int:
        """The entry at a path below `start`, added if it is new.

        Or of what stands there already, so that paths with one beginning share its
        entries.
        """
        for key in path:
            entry = self._children.get((start, key))
            if entry is None:
                entry = len(self.parents)
                self.parents.append(start)
                self.keys.append(key)
                self._children[start, key] = entry
            start = entry
        return start

    def add_layout(self, layout: Layout) -> list[int]:
        """Add all States of a layout; returns their entries, in its order.

        For `a | b` of state trees: the values of both go to these entries.
        """
        here = [0]
        # A parent comes before its children.
        for entry in range(1, len(layout.parents)):
            parent = here[layout.parents[entry]]
            here.append(self.entry([layout.keys[entry]], parent))
        entries = [here[leaf] for leaf in layout.leaves]
        self.leaves.update(zip(entries, layout.specs, strict=True))
        for source, key, target in layout.references:
            first = self.references.setdefault((here[source], key), here[target])
            if first != here[target]:
                self._second_targets.append((here[source], key, here[target]))
        return entries

    def contradictions(self) -> list[str]:
        """Where the layouts that were added contradict each other: where a path leads, or what stands there.

        For `a | b` of state trees, which refuses them. Two trees may contradict each
        other in what is shared, too.
        """
        faults: list[str] = []
        for source, key, target in self._second_targets:
            first, second = (
                self._path_text(self.references[source, key]),
                self._path_text(target),
            )
            faults.append(
                f"{self._path_text(source, key)} is another path of {first} in one, and of {second} in the other"
            )
        for (source, key), target in self.references.items():
            if (source, key) in self._children:
                place, first = self._path_text(source, key), self._path_text(target)
                faults.append(
                    f"{place} is another path of {first} in one, and a place of its own in the other"
                )
        # Entries with something below them, by an edge or by a reference.
        inner = {*self.parents, *[source for source, _ in self.references]}
        faults += [
            f"{self._path_text(leaf)} is a State in one, and has States below it in the other"
            for leaf in inner.intersection(self.leaves)
        ]
        return sorted(faults)

    def _path_text(self, entry: int, *below: Key) -> str:
        """The path of an entry, or of a key below it, for messages.

        For `contradictions`.
        """
        keys = list(below)
        while entry:
            keys.insert(0, self.keys[entry])
            entry = self.parents[entry]
        return path_str(tuple(keys))

    def build(self) -> tuple[Layout, list[int]]:
        """The layout, and the entries of its leaves in canonical order.

        The entries tell which value goes to which place, since values come in the order
        in which they were added.
        """
        return layout_of_trie(self.parents, self.keys, self.leaves, self.sources())

    def sources(self) -> dict[int, list[tuple[int, Key]]]:
        """The source and key of each reference, by the entry that it leads to.

        For `layout_of_trie`, which goes from a shared object to the paths that lead to
        it.
        """
        references = self.references.items()
        return by_target([(*place, target) for place, target in references])
