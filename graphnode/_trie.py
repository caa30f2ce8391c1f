"""`Trie`: paths that share their beginnings, kept flat, with references that lead to what has a path already.

In: for each entry its parent and key, which entries are leaves (States, or nodes), and
the references between entries. Out: what stands at a path, which paths lead to a leaf,
and which leaves patterns fit. A reference leads *back* if every path to where it starts
has come through what it leads to (a parent pointer, the closing edge of a ring): an
exact path may go over it, a pattern does not. That depends on the graph alone, not on
the order of names. Where two entries refer to each other, and each can be reached
without the other, neither leads back, and patterns go round; so what paths bring is
carried along until nothing new comes. Mostly there is no such ring, and each edge is
gone over once:

    model = AE(enc=layer, dec=Decoder(tied=layer))

    entries      0 "" > 1 dec > 2 tied > 3 weight        names come by text: "dec" before "enc"
    references   0 --enc--> 2                            so `enc.weight` is the State at `dec.tied.weight`
"""

import heapq
import itertools
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Final, TypeAlias, TypeVar

from ._caches import Answers
from ._paths import Key, Path, key_order, path_str
from ._patterns import Automaton, Pattern

A = TypeVar("A")

# From an entry, by a key, to an entry.
Reference: TypeAlias = tuple[int, Key, int]

# The entries in an order, the place of each in it, and where each leads by which key.
_Flow: TypeAlias = tuple[list[int], list[int], list[list[tuple[Key, int]]]]

# How an automaton came to an entry: from which one, from which places, by which key.
_Step: TypeAlias = tuple[int, int, Key]


# Of so many paths of a leaf each is looked at where paths are listed; there may be 2^n.
MOST_PATHS: Final = 64


class Trie:
    """Paths of leaves, in canonical pre-order: positions by number, names by text.

    Attributes:
        parents: The parent of each entry; -1 for the root, which is entry 0.
        keys: The key of each entry below its parent; the root's is not used.
        leaves: The entry of each leaf, ascending.
        references: Further references: the entry that each starts from, its key there,
            the entry that it leads to.
    """

    __slots__ = ("_answers", "_children", "keys", "leaves", "parents", "references")

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
        self._answers = Answers()

    def __len__(self) -> int:
        return len(self.leaves)

    def end_of(self, top: int) -> int:
        """Where the run of entries at and below one ends: in pre-order, at the next one that is not below it."""
        end = top + 1
        while end < len(self.parents) and self.parents[end] >= top:
            end += 1
        return end

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
            # A bool equals 0 or 1 as a dict key, but is not a position.
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
            below = {
                (self.parents[e], self.keys[e]): e for e in range(1, len(self.parents))
            }
            below.update(
                {(source, key): target for source, key, target in self.references}
            )
            self._children = below
        return self._children

    def other_paths(self, at: int) -> tuple[Path, ...]:
        """Further paths of a leaf, on which no entry stands twice and that do not lead back; 63 at most."""
        if not self.references:
            return ()
        entry = self.leaves[at]
        if not self._is_shared(entry):
            return ()
        paths = itertools.islice(self._paths_to(entry), MOST_PATHS)
        first = self.first_path(entry)
        return tuple([path for path in paths if path != first])

    def _is_shared(self, entry: int) -> bool:
        """Whether a reference leads to an entry or to what encloses it: it has one path if none does."""
        sources = self._sources
        while entry:
            if entry in sources:
                return True
            entry = self.parents[entry]
        return False

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
            paths += [
                (*self.first_path(source), key) for source, key, _ in self.references
            ]
        if self.references:
            paths += [
                path
                for at in range(len(self.leaves))
                for path in self._by_references(at)
            ]
        return list(map(path_str, paths))

    @property
    def all_sources(self) -> dict[int, list[tuple[int, Key]]]:
        """From where references lead to each entry, also those that lead back; made once."""
        return self.remember("all sources", lambda: by_target(self.references))

    @property
    def _sources(self) -> dict[int, list[tuple[int, Key]]]:
        """From where references lead to each entry, but for those that lead back; made once."""
        return self.remember("sources", lambda: by_target(self._forward))

    def matching(
        self, patterns: frozenset[Pattern]
    ) -> Mapping[Pattern, frozenset[int]]:
        """For each pattern, the numbers of the leaves of which some path fits; of all of them in one pass.

        A path goes over no reference that leads back. One that is written out is just
        walked; and what lies below it is reached from there without going through the
        entries on the way.
        """
        found: dict[Pattern, Iterable[int]] = {}
        for pattern in patterns:
            if pattern.path is not None:
                at = self.index(pattern.path)
                found[pattern] = () if at is None else (at,)
            elif pattern.prefix is not None and self._inward:
                reached = self.reached(pattern.prefix)
                found[pattern] = [
                    at for at, leaf in enumerate(self.leaves) if leaf in reached
                ]
        if len(found) < len(patterns):
            automaton = Automaton(patterns - found.keys())
            collected: dict[Pattern, list[int]] = {
                pattern: [] for pattern in patterns - found.keys()
            }
            for at, places in enumerate(self._places_of_leaves(automaton)):
                for pattern in automaton.accepted(places):
                    collected[pattern].append(at)
            found.update(collected)
        return {pattern: frozenset(numbers) for pattern, numbers in found.items()}

    def path_below(self, prefix: Path, at: int) -> Path | None:
        """A path of a leaf that begins with a given one; `None` if it is not reached from there."""
        reached = self.reached(prefix)
        if self.leaves[at] not in reached:
            return None
        below: list[Key] = []
        entry = self.leaves[at]
        while (step := reached[entry]) is not None:
            entry, key = step
            below.append(key)
        return (*prefix, *reversed(below))

    def reached(self, prefix: Path) -> dict[int, tuple[int, Key] | None]:
        """What the end of a path leads to, but for what is on the way there: from where, by which key."""
        way = [0]
        for key in prefix:
            child = self.children.get((way[-1], key))
            if child is None:
                return {}
            way.append(child)
        end, closed = way[-1], set(way)
        reached: dict[int, tuple[int, Key] | None] = {end: None}
        pending = [end]
        for entry in pending:  # grows
            for key, target in self.outgoing[entry]:
                if target not in reached and target not in closed:
                    reached[target] = entry, key
                    pending.append(target)
        return reached

    def _places_of_leaves(self, automaton: Automaton) -> list[int]:
        """For each leaf, the places that some path to it leads to: of all its paths together, of which 2^n may be."""
        places = [0] * len(self.parents)
        places[0] = automaton.start

        def carry(source: int, key: Key, target: int) -> bool:
            before = places[target]
            if places[source]:
                places[target] |= automaton.step(places[source], key)
            return places[target] != before

        self._carry(carry)
        return [places[leaf] for leaf in self.leaves]

    def escaping(self, pattern: Pattern) -> frozenset[int]:
        """The numbers of the leaves of which some path, going over no reference that leads back, does not fit it."""
        automaton = Automaton([pattern])
        outcomes = self._outcomes(automaton)
        return frozenset(
            [
                at
                for at, leaf in enumerate(self.leaves)
                if not all(map(automaton.accepted, outcomes[leaf]))
            ]
        )

    def witnesses(self, patterns: Iterable[Pattern]) -> list[list[Path]]:
        """For each leaf, one path for each combination of the patterns that fit some path of it."""
        outcomes = self._outcomes(Automaton(patterns))
        return [
            [self._witness(outcomes, leaf, places) for places in outcomes[leaf]]
            for leaf in self.leaves
        ]

    def _outcomes(self, automaton: Automaton) -> list[dict[int, _Step | None]]:
        """For each entry, the places that each of its paths leads to, and how: from which entry and places, by a key.

        One pass: of the paths, of which there may be 2^n in n entries, only the few
        different outcomes are kept.
        """
        outcomes: list[dict[int, _Step | None]] = [{} for _ in self.parents]
        outcomes[0][automaton.start] = None

        def carry(source: int, key: Key, target: int) -> bool:
            count = len(outcomes[target])
            for places in list(outcomes[source]):
                outcomes[target].setdefault(
                    automaton.step(places, key), (source, places, key)
                )
            return len(outcomes[target]) > count

        self._carry(carry)
        return outcomes

    def _witness(
        self, outcomes: Sequence[Mapping[int, _Step | None]], entry: int, places: int
    ) -> Path:
        keys: list[Key] = []
        while (step := outcomes[entry][places]) is not None:
            entry, places, key = step
            keys.append(key)
        return tuple(reversed(keys))

    def _carry(self, carry: Callable[[int, Key, int], bool]) -> None:
        """Go over all keys and references that do not lead back, until they bring nothing new.

        Args:
            carry: Takes what is at an entry over a key to another one; tells if
                anything new came there.
        """
        if not self.references:
            for entry in range(1, len(self.parents)):
                carry(self.parents[entry], self.keys[entry], entry)
            return
        order, places, outgoing = self._flow
        # No path goes round, and all that leads to an entry is before it in the order
        if not self._inward:
            for entry in order:
                for key, target in outgoing[entry]:
                    carry(entry, key, target)
            return
        pending = [0]
        waiting = {0}
        while pending:
            place = heapq.heappop(pending)
            waiting.remove(place)
            for key, target in outgoing[order[place]]:
                if carry(order[place], key, target) and places[target] not in waiting:
                    waiting.add(places[target])
                    heapq.heappush(pending, places[target])

    @property
    def _flow(self) -> _Flow:
        return self.remember("flow", self._made_flow)

    def _made_flow(self) -> _Flow:
        """The entries in reverse postorder, the place of each there, and where it leads, but for what leads back."""
        outgoing: list[list[tuple[Key, int]]] = [[] for _ in self.parents]
        for entry in range(1, len(self.parents)):
            outgoing[self.parents[entry]].append((self.keys[entry], entry))
        for source, key, target in self._forward:
            outgoing[source].append((key, target))
        finished: list[int] = []
        seen = {0}
        way = [(0, iter(outgoing[0]))]
        while way:
            entry, targets = way[-1]
            for _, target in targets:
                if target not in seen:
                    seen.add(target)
                    way.append((target, iter(outgoing[target])))
                    break
            else:
                finished.append(entry)
                way.pop()
        order = finished[::-1]
        places = [0] * len(order)
        for place, entry in enumerate(order):
            places[entry] = place
        return order, places, outgoing

    @property
    def outgoing(self) -> dict[int, list[tuple[Key, int]]]:
        """Where each entry leads by which key, over references too; made once."""
        return self.remember("outgoing", self._outgoing)

    def _outgoing(self) -> dict[int, list[tuple[Key, int]]]:
        outgoing: dict[int, list[tuple[Key, int]]] = {
            entry: [] for entry in range(len(self.parents))
        }
        for (entry, key), target in self.children.items():
            outgoing[entry].append((key, target))
        return outgoing

    @property
    def _inward(self) -> frozenset[Reference]:
        """The references to what the first path of their source goes through: all others lead nowhere back."""
        return self.remember("inward", self._made_inward)

    def _made_inward(self) -> frozenset[Reference]:
        ends = _ends(self.parents)
        return frozenset(
            [one for one in self.references if one[2] <= one[0] < ends[one[2]]]
        )

    @property
    def _forward(self) -> list[Reference]:
        """The references that do not lead back; made once."""
        return self.remember("forward", self._made_forward)

    def _made_forward(self) -> list[Reference]:
        inward = self._inward
        if all(target == 0 for _, _, target in inward):  # every path begins at the root
            return [one for one in self.references if one not in inward]
        encloses = _ancestry(self._dominators())
        return [
            one
            for one in self.references
            if one not in inward or not encloses(one[2], one[0])
        ]

    def _dominators(self) -> list[int]:
        """For each entry the last other one that every path to it goes through; -1 for the root.

        Georgiadis' SEMI-NCA. The entries are numbered as it wants them: as a
        depth-first search comes to them.
        """
        sources = self.all_sources
        ancestors = list(self.parents)
        lowest = list(range(len(self.parents)))
        semi = list(self.parents)

        def lowest_above(entry: int, limit: int) -> int:
            # Ways up are shortened as they are gone, so that none is gone twice.
            way: list[int] = []
            while ancestors[entry] > limit:
                way.append(entry)
                entry = ancestors[entry]
            for below in reversed(way):
                lowest[below] = min(lowest[below], lowest[ancestors[below]])
                ancestors[below] = ancestors[entry]
            return lowest[way[0] if way else entry]

        for entry in range(len(self.parents) - 1, 0, -1):
            for source, _ in sources.get(entry, ()):
                if source != entry:
                    semi[entry] = min(
                        semi[entry],
                        source if source < entry else lowest_above(source, entry),
                    )
            lowest[entry] = semi[entry]
        dominators = [-1] * len(self.parents)
        for entry in range(1, len(self.parents)):
            dominator = self.parents[entry]
            while dominator > semi[entry]:
                dominator = dominators[dominator]
            dominators[entry] = dominator
        return dominators

    @property
    def leaf_numbers(self) -> dict[int, int]:
        """The number of the leaf at each leaf entry; made once."""
        return self.remember(
            "leaf_numbers", lambda: {entry: at for at, entry in enumerate(self.leaves)}
        )

    # Any: each question has an answer of its own type.
    def remember(self, question: Hashable, work_out: Callable[[], A]) -> A:
        """The answer to a question about these paths, worked out once."""
        return self._answers.to(question, work_out)


def _ends(parents: Sequence[int]) -> list[int]:
    """Where the run of entries below each one ends: they are numbered in pre-order."""
    ends = list(range(1, len(parents) + 1))
    for entry in range(len(parents) - 1, 0, -1):
        ends[parents[entry]] = max(ends[parents[entry]], ends[entry])
    return ends


def _ancestry(parents: Sequence[int]) -> Callable[[int, int], bool]:
    """Whether one entry is another one, or above it, in a tree in which parents have lower numbers."""
    sizes = [1] * len(parents)
    for entry in range(len(parents) - 1, 0, -1):
        sizes[parents[entry]] += sizes[entry]
    numbers = [0] * len(parents)  # in pre-order
    following = [1] * len(parents)
    for entry in range(1, len(parents)):
        numbers[entry] = following[parents[entry]]
        following[parents[entry]] += sizes[entry]
        following[entry] = numbers[entry] + 1
    return lambda above, below: (
        numbers[above] <= numbers[below] < numbers[above] + sizes[above]
    )


def by_target(references: Iterable[Reference]) -> dict[int, list[tuple[int, Key]]]:
    """From where references lead to each entry, and by which key."""
    sources: dict[int, list[tuple[int, Key]]] = {}
    for source, key, target in references:
        sources.setdefault(target, []).append((source, key))
    return sources


def reference_order(reference: Reference) -> tuple[int, tuple[bool, Key]]:
    """What references of a trie are sorted by: where they start, and their key there."""
    source, key, _ = reference
    return source, key_order(key)


def canonical(
    parents: Sequence[int],
    keys: Sequence[Key],
    leaves: Collection[int],
    sources: Mapping[int, list[tuple[int, Key]]],
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
    references.sort(key=reference_order)
    return Trie(
        tuple(new_parents), tuple(new_keys), tuple(new_leaves), tuple(references)
    ), order
