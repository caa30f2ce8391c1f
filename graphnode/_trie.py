"""`Trie`: paths that share their beginnings, kept flat, with references that lead to what has a path already.

In: for each entry its parent and key, which entries are leaves (States, or nodes), and the references between entries.
Out: what stands at a path, which paths lead to a leaf, and which leaves patterns fit. A reference to an entry that
encloses its own source (a parent pointer, the closing edge of a ring) leads *back*: an exact path may go over it, a
pattern does not, so that no pattern means endlessly many paths. Without these, entries and references are a graph
without cycles:

    model = AE(enc=layer, dec=Decoder(tied=layer))

    entries      0 "" > 1 dec > 2 tied > 3 weight        names come by text: "dec" before "enc"
    references   0 --enc--> 2                            so `enc.weight` is the State at `dec.tied.weight`
"""

import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ._paths import Key, Path, key_order, path_str
from ._patterns import Automaton, Pattern

# From an entry, by a key, to an entry.
Reference: TypeAlias = tuple[int, Key, int]

# How an automaton came to an entry: from which one, from which places, by which key.
_Step: TypeAlias = tuple[int, int, Key]

_MEMO_LIMIT = 128

# Of so many paths of a leaf each is looked at where paths are listed; there may be 2^n.
MOST_PATHS: Final = 64


class Trie:
    """Paths of leaves, in canonical pre-order: positions by number, names by text.

    Attributes:
        parents: The parent of each entry; -1 for the root, which is entry 0.
        keys: The key of each entry below its parent; the root's is not used.
        leaves: The entry of each leaf, ascending.
        references: Further references: the entry that each starts from, its key there, the entry that it leads to.
    """

    __slots__ = ("_children", "_memo", "keys", "leaves", "parents", "references")

    def __init__(
        self,
        parents: tuple[int, ...],
        keys: tuple[Key, ...],
        leaves: tuple[int, ...],
        references: tuple[Reference, ...],
    ) -> None:
        self.parents: tuple[int, ...] = parents
        self.keys: tuple[Key, ...] = keys
        self.leaves: tuple[int, ...] = leaves
        self.references: tuple[Reference, ...] = references
        self._children: dict[tuple[int, Key], int] | None = None
        self._memo: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.leaves)

    def path(self, at: int) -> Path:
        """The path of leaf number `at`."""
        return self.first_path(self.leaves[at])

    def first_path(self, entry: int) -> Path:
        """The path of an entry that goes over no reference."""
        keys: list[Key] = []
        while entry:
            keys.append(self.keys[entry])
            entry = self.parents[entry]
        return tuple(reversed(keys))

    def paths(self) -> Iterator[Path]:
        """The paths of all leaves, in order."""
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
        """The number of the leaf at a path, or `None`."""
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

    def other_paths(self, at: int) -> tuple[Path, ...]:
        """Further paths of a leaf, on which no entry stands twice and that do not lead back; 63 at most."""
        if not self.references:
            return ()
        entry = self.leaves[at]
        paths = itertools.islice(self._paths_to(entry), MOST_PATHS)
        first = self.first_path(entry)
        return tuple([path for path in paths if path != first])

    def _paths_to(self, entry: int) -> Iterator[Path]:
        """The paths of an entry, the first one first: from it up to the root, in all ways that meet no entry twice."""
        if not entry:
            yield ()
            return
        below: list[Key] = []
        way = {entry: iter(self._incoming(entry))}
        # Among references that go round, many ways up may end where they have been.
        for _ in range(MOST_PATHS * (len(self.parents) + len(self.references))):
            if not way:
                return
            step = next(way[next(reversed(way))], None)
            if step is None:
                way.popitem()
                if below:
                    below.pop()
                continue
            source, key = step
            if source == 0:
                yield (key, *reversed(below))
            elif source not in way:
                below.append(key)
                way[source] = iter(self._incoming(source))

    def _incoming(self, entry: int) -> list[tuple[int, Key]]:
        return [(self.parents[entry], self.keys[entry]), *self._sources.get(entry, ())]

    def _by_references(self, at: int) -> Iterator[Path]:
        """One further path of a leaf for each reference to it or to what encloses it."""
        below: list[Key] = []
        entry = self.leaves[at]
        while entry:
            for source, key in self._sources.get(entry, ()):
                yield (*self.first_path(source), key, *reversed(below))
            below.append(self.keys[entry])
            entry = self.parents[entry]

    def spellings(self, *, inner: bool = False) -> list[str]:
        """The paths of all leaves as texts, with further ones of what is shared: what a misspelt one may have meant.

        Args:
            inner: Whether also of what encloses leaves.
        """
        paths = list(self.paths())
        if inner:
            paths += map(self.first_path, range(1, len(self.parents)))
            paths += [(*self.first_path(source), key) for source, key, _ in self.references]
        if self.references:
            paths += [path for at in range(len(self.leaves)) for path in self._by_references(at)]
        return list(map(path_str, paths))

    @property
    def _sources(self) -> dict[int, list[tuple[int, Key]]]:
        """From where references lead to each entry, but for those that lead back; made once."""
        return self.remember("sources", lambda: by_target(self._forward()))  # type: ignore[no-any-return]

    def matching(self, patterns: frozenset[Pattern]) -> Mapping[Pattern, frozenset[int]]:
        """For each pattern, the numbers of the leaves of which some path fits; of all of them in one pass.

        A path goes over no reference that leads back, but for one that is a pattern by itself: that is just walked.
        """
        exact = {pattern: self.index(pattern.path) for pattern in patterns if pattern.path is not None}
        found = {pattern: set[int]() if at is None else {at} for pattern, at in exact.items()}
        found.update({pattern: set[int]() for pattern in patterns - exact.keys()})
        if len(exact) < len(patterns):
            automaton = Automaton(patterns - exact.keys())
            for at, places in enumerate(self._places_of_leaves(automaton)):
                for pattern in automaton.accepted(places):
                    found[pattern].add(at)
        return {pattern: frozenset(numbers) for pattern, numbers in found.items()}

    def _places_of_leaves(self, automaton: Automaton) -> list[int]:
        """For each leaf, the places that some path to it leads to: of all its paths together, of which 2^n may be."""
        places = [0] * len(self.parents)
        places[0] = automaton.start
        for source, key, target in self._edges():
            if places[source]:
                places[target] |= automaton.step(places[source], key)
        return [places[leaf] for leaf in self.leaves]

    def escaping(self, pattern: Pattern) -> frozenset[int]:
        """The numbers of the leaves of which some path, going over no reference that leads back, does not fit it."""
        automaton = Automaton([pattern])
        outcomes = self._outcomes(automaton)
        return frozenset(
            [at for at, leaf in enumerate(self.leaves) if not all(map(automaton.accepted, outcomes[leaf]))]
        )

    def witnesses(self, patterns: Iterable[Pattern]) -> list[list[Path]]:
        """For each leaf, one path for each combination of the patterns that fit some path of it."""
        outcomes = self._outcomes(Automaton(patterns))
        return [[self._witness(outcomes, leaf, places) for places in outcomes[leaf]] for leaf in self.leaves]

    def _outcomes(self, automaton: Automaton) -> list[dict[int, _Step | None]]:
        """For each entry, the places that each of its paths leads to, and how: from which entry and places, by a key.

        One pass: of the paths, of which there may be 2^n in n entries, only the few different outcomes are kept.
        """
        outcomes: list[dict[int, _Step | None]] = [{} for _ in self.parents]
        outcomes[0][automaton.start] = None
        for source, key, target in self._edges():
            for places in outcomes[source]:
                outcomes[target].setdefault(automaton.step(places, key), (source, places, key))
        return outcomes

    def _witness(self, outcomes: Sequence[Mapping[int, _Step | None]], entry: int, places: int) -> Path:
        keys: list[Key] = []
        while (step := outcomes[entry][places]) is not None:
            entry, places, key = step
            keys.append(key)
        return tuple(reversed(keys))

    def _edges(self) -> Iterator[Reference]:
        """Where each key leads, but for references that lead back; all that lead to an entry before those from it."""
        outgoing: dict[int, list[Reference]] = {}
        forward = self._forward()
        below = [(self.parents[entry], self.keys[entry], entry) for entry in range(1, len(self.parents))]
        if not forward:
            yield from below
            return
        waiting = [0] * len(self.parents)
        for edge in (*below, *forward):
            outgoing.setdefault(edge[0], []).append(edge)
            waiting[edge[2]] += 1
        order = [0]
        for entry in order:  # grows
            for edge in outgoing.get(entry, ()):
                yield edge
                waiting[edge[2]] -= 1
                if not waiting[edge[2]]:
                    order.append(edge[2])

    def _forward(self) -> list[Reference]:
        """The references that do not lead back."""
        if not self.references:
            return []
        # Pre-order: what lies below an entry is the run of entries up to its end.
        ends = list(range(1, len(self.parents) + 1))
        for entry in range(len(self.parents) - 1, 0, -1):
            parent = self.parents[entry]
            ends[parent] = max(ends[parent], ends[entry])
        return [one for one in self.references if not one[2] <= one[0] < ends[one[2]]]

    @property
    def leaf_numbers(self) -> dict[int, int]:
        """The number of the leaf at each leaf entry; made once."""
        return self.remember("leaf_numbers", lambda: {entry: at for at, entry in enumerate(self.leaves)})  # type: ignore[no-any-return]

    # Any: each question has an answer of its own type.
    def remember(self, question: Hashable, answer: Callable[[], Any]) -> Any:
        """The answer to a question about these paths, worked out once; bounded, so that no caller can fill memory."""
        found = self._memo.get(question, self)
        if found is self:
            found = answer()
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[question] = found
        return found


def by_target(references: Iterable[Reference]) -> dict[int, list[tuple[int, Key]]]:
    """From where references lead to each entry, and by which key."""
    sources: dict[int, list[tuple[int, Key]]] = {}
    for source, key, target in references:
        sources.setdefault(target, []).append((source, key))
    return sources


def canonical(
    parents: Sequence[int], keys: Sequence[Key], leaves: Collection[int], sources: Mapping[int, list[tuple[int, Key]]]
) -> tuple[Trie, list[int]]:
    """The canonical form of a trie in any order, and its leaves in that order.

    Args:
        parents: The parent of each entry, which stands before it; entry 0 is the root.
        keys: The key of each entry below its parent.
        leaves: The entries that are leaves; only what leads to one is kept.
        sources: From where further references lead to each entry.
    """
    below: dict[int, list[int]] = {}
    needed = {0}
    # The root encloses all leaves: what refers to it leads to them.
    pending = [*leaves, *[source for source, _ in sources.get(0, ()) if leaves]]
    while pending:
        entry = pending.pop()
        while entry not in needed:
            needed.add(entry)
            below.setdefault(parents[entry], []).append(entry)
            pending += [source for source, _ in sources.get(entry, ())]
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
        found.sort(key=lambda e: key_order(keys[e]), reverse=True)
        todo.extend((child, at) for child in found)
    references = [
        (renumbered[source], key, renumbered[target])
        for target in sources.keys() & renumbered
        for source, key in sources[target]
        if source in renumbered
    ]
    references.sort(key=lambda one: (one[0], key_order(one[1])))
    return Trie(tuple(new_parents), tuple(new_keys), tuple(new_leaves), tuple(references)), order
