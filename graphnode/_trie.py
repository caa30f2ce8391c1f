"""`Trie`: the paths of a graph, with shared beginnings stored once, and references for whatever has several paths.

A trie answers what is at a path, which paths lead to a leaf (a State, or a node), and
which leaves match a pattern. It is a row of entries, each with its parent and its
key, in canonical pre-order:

    model = AE(enc=layer, dec=Decoder(tied=layer))     layer: bias, weight

    entry    0     1      2       3       4
    key      ""    dec    tied    bias    weight       names sort as text: "dec" before "enc"
    parent   -1    0      1       2       2
    leaf                          no. 0   no. 1
                          ^
    reference  (0, "enc", 2)                           so `enc.weight` is leaf 1, at `dec.tied.weight`

A chain of n nodes has n entries, where full paths would hold n²/2 keys.

A reference leads *back* if every path to where it starts passes through its target: a
parent pointer, or the closing edge of a ring. An exact path may follow it, a pattern
does not. That depends on the graph alone, not on the order of names:

    0 --child--> 1 --parent--> 0     leads back: whoever is at 1 has come through 0
    0 --a--> 1, 0 --b--> 2           neither of 1 --peer--> 2 and 2 --peer--> 1 leads back:
                                     each end can be reached without the other

In the second graph patterns go round and round, so what they bring along is propagated
until nothing new arrives. Most graphs have no such ring, and each edge is followed
once.
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
    Set,
)
from typing import Final, TypeAlias, TypeVar

from ._caches import Answers
from ._paths import Key, Path, key_order, path_str
from ._patterns import Automaton, Pattern

A = TypeVar("A")

# From an entry, by a key, to an entry.
Reference: TypeAlias = tuple[int, Key, int]

# The entries in an order, the position of each in it, and where each leads by which key.
_Flow: TypeAlias = tuple[list[int], list[int], list[list[tuple[Key, int]]]]

# How an automaton came to an entry: from which one, in which states, by which key.
_Step: TypeAlias = tuple[int, int, Key]


# How many paths of a leaf are listed at most: n entries may have 2^n of them.
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
        """One past the last entry at or below `top`: in pre-order, a subtree is one run of entries.

        For layouts, which take out what lies below an entry.
        """
        end = top + 1
        while end < len(self.parents) and self.parents[end] >= top:
            end += 1
        return end

    def path(self, at: int) -> Path:
        """The path of leaf number `at`."""
        return self.first_path(self.leaves[at])

    def first_path(self, entry: int) -> Path:
        """The path of an entry that follows no reference."""
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
        """For look-ups: the number of the leaf at a path, any of its paths, or `None`."""
        entry = self.entry(path)
        return None if entry is None else self.leaf_numbers.get(entry)

    @property
    def children(self) -> dict[tuple[int, Key], int]:
        """The entry for each pair of an entry and a key, by parents and by references; computed once."""
        # In a slot, not by `remember`: every look-up of a path reads it.
        if self._children is None:
            children = {
                (self.parents[e], self.keys[e]): e for e in range(1, len(self.parents))
            }
            for source, key, target in self.references:
                children[source, key] = target
            self._children = children
        return self._children

    def other_paths(self, at: int) -> tuple[Path, ...]:
        """Further paths of a leaf, 63 at most: none visits an entry twice, or follows a reference that leads back."""
        if not self.references:
            return ()
        entry = self.leaves[at]
        if not self._is_shared(entry):
            return ()
        paths = itertools.islice(self._paths_to(entry), MOST_PATHS)
        first = self.first_path(entry)
        return tuple([path for path in paths if path != first])

    def _is_shared(self, entry: int) -> bool:
        """Whether a reference leads to an entry or to what encloses it; otherwise it has a single path.

        For `other_paths`, to spare most leaves the search.
        """
        sources = self._sources
        while entry:
            if entry in sources:
                return True
            entry = self.parents[entry]
        return False

    def _paths_to(self, entry: int) -> Iterator[Path]:
        """For `other_paths`: the paths of an entry, the first path first, by a search up to the root; none repeats."""
        if not entry:
            yield ()
            return
        below: list[Key] = []
        # The entries from the leaf up to here, each with the edges not tried yet.
        climb = {entry: iter(self._incoming(entry))}
        # A bound on the steps: with rings among the references, many climbs end where
        # they have been, and yield nothing.
        for _ in range(MOST_PATHS * (len(self.parents) + len(self.references))):
            if not climb:
                return
            edge = next(climb[next(reversed(climb))], None)
            if edge is None:
                climb.popitem()
                if below:
                    below.pop()
                continue
            source, key = edge
            if source == 0:
                yield (key, *reversed(below))
            elif source not in climb:
                below.append(key)
                climb[source] = iter(self._incoming(source))

    def _incoming(self, entry: int) -> list[tuple[int, Key]]:
        """For `_paths_to`: the edges to an entry: from its parent, then by references that do not lead back."""
        return [(self.parents[entry], self.keys[entry]), *self._sources.get(entry, ())]

    def _paths_by_reference(self, at: int) -> Iterator[Path]:
        """One further path of a leaf for each reference to it or to what encloses it.

        For messages: unlike `other_paths`, it never takes more than a path for each
        reference and leaf.
        """
        below: list[Key] = []
        entry = self.leaves[at]
        while entry:
            for source, key in self._sources.get(entry, ()):
                yield (*self.first_path(source), key, *reversed(below))
            below.append(self.keys[entry])
            entry = self.parents[entry]

    def spellings(self, *, inner: bool = False) -> list[str]:
        """The paths of all leaves as texts, further ones included: what a misspelt path is compared with.

        Args:
            inner: Whether to add the paths of what encloses leaves.
        """
        paths = list(self.paths())
        if inner:
            paths += map(self.first_path, range(1, len(self.parents)))
            for source, key, _ in self.references:
                paths.append((*self.first_path(source), key))
        if self.references:
            for at in range(len(self.leaves)):
                paths += self._paths_by_reference(at)
        return list(map(path_str, paths))

    @property
    def all_sources(self) -> dict[int, list[tuple[int, Key]]]:
        """Where the references to each entry start, and by which key; those that lead back too.

        For the layout of some of the States, which keeps all references, and for
        `_dominators`.
        """
        return self.remember("all sources", lambda: by_target(self.references))

    @property
    def _sources(self) -> dict[int, list[tuple[int, Key]]]:
        """Where the references to each entry start, and by which key; without those that lead back.

        For further paths of a leaf, which do not go round in a cycle.
        """
        return self.remember("sources", lambda: by_target(self._forward))

    def matching(
        self, patterns: frozenset[Pattern]
    ) -> Mapping[Pattern, frozenset[int]]:
        """For each pattern, the numbers of the leaves that have a matching path.

        Paths follow no reference that leads back. There are three ways to match. An
        exact path is looked up. With back references, what lies below a prefix is
        searched from its end, without passing through the entries on the way there. All
        other patterns go into one automaton, and through the trie in one pass.
        """
        matches: dict[Pattern, frozenset[int]] = {}
        for pattern in patterns:
            if pattern.path is not None:
                at = self.index(pattern.path)
                matches[pattern] = frozenset(() if at is None else (at,))
            elif pattern.prefix is not None and self._inward:
                matches[pattern] = self._leaves_below(pattern.prefix)
        remaining = patterns - matches.keys()
        if remaining:
            matches.update(self._matching_globs(remaining))
        return matches

    def _leaves_below(self, prefix: Path) -> frozenset[int]:
        """For `matching`: the numbers of the leaves at and below a path, without those on the way there."""
        reached = self.reached(prefix)
        return frozenset([at for at, leaf in enumerate(self.leaves) if leaf in reached])

    def _matching_globs(self, patterns: Set[Pattern]) -> dict[Pattern, frozenset[int]]:
        """For `matching`: the leaves that each pattern matches, by one pass of an automaton."""
        automaton = Automaton(patterns)
        numbers: dict[Pattern, list[int]] = {pattern: [] for pattern in patterns}
        for at, states in enumerate(self._states_at_leaves(automaton)):
            for pattern in automaton.accepted(states):
                numbers[pattern].append(at)
        return {pattern: frozenset(leaves) for pattern, leaves in numbers.items()}

    def path_below(self, prefix: Path, at: int) -> Path | None:
        """A path of a leaf that begins with `prefix`; `None` if the leaf cannot be reached from there.

        For `check_answers`, to name the path by which a filter such as `gn.Under`
        selects a leaf.
        """
        reached = self.reached(prefix)
        entry = self.leaves[at]
        if entry not in reached:
            return None
        below: list[Key] = []
        while (step := reached[entry]) is not None:
            entry, key = step
            below.append(key)
        return (*prefix, *reversed(below))

    def reached(self, prefix: Path) -> dict[int, tuple[int, Key] | None]:
        """The entries that a path leads on to, those on the path left out: what lies below its end.

        For `gn.Under` with parent pointers: what leads to a path can be reached from
        there, and is not below it.

        Returns:
            For each entry the edge by which it was reached, a source and a key; for the end of the path, `None`.
        """
        on_path = [0]
        for key in prefix:
            child = self.children.get((on_path[-1], key))
            if child is None:
                return {}
            on_path.append(child)
        # Closed: what lies on the way to the path is not below it.
        end, closed = on_path[-1], set(on_path)
        reached: dict[int, tuple[int, Key] | None] = {end: None}
        pending = [end]
        for entry in pending:  # the list grows: breadth-first
            for key, target in self.outgoing[entry]:
                if target not in reached and target not in closed:
                    reached[target] = entry, key
                    pending.append(target)
        return reached

    def _states_at_leaves(self, automaton: Automaton) -> list[int]:
        """For each leaf, the automaton's states after any path to it: the union, as there may be 2^n paths."""
        states = [0] * len(self.parents)
        states[0] = automaton.start

        def follow(source: int, key: Key, target: int) -> bool:
            """Bring the states at the source of an edge to its target; whether new ones arrived."""
            before = states[target]
            if states[source]:
                states[target] |= automaton.step(states[source], key)
            return states[target] != before

        self._propagate(follow)
        return [states[leaf] for leaf in self.leaves]

    def escaping(self, pattern: Pattern) -> frozenset[int]:
        """The numbers of the leaves with a path that does not match; it follows no reference that leads back.

        For `gn.Under(..., shared=False)`, which leaves these out.
        """
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
        """For each leaf, an example path (a witness) for each set of patterns that one of its paths matches.

        For `check_answers`: two filters with different answers contradict each other
        where each selects a leaf by a path of its own, and the message names both paths.
        """
        outcomes = self._outcomes(Automaton(patterns))
        return [
            [self._witness(outcomes, leaf, states) for states in outcomes[leaf]]
            for leaf in self.leaves
        ]

    def _outcomes(self, automaton: Automaton) -> list[dict[int, _Step | None]]:
        """For each entry, the states that each of its paths leads to, with the last step of one such path.

        Unlike `_states_at_leaves`, paths are kept apart. There may be 2^n of them in n
        entries, so only the few different outcomes are kept, in one pass.
        """
        outcomes: list[dict[int, _Step | None]] = [{} for _ in self.parents]
        outcomes[0][automaton.start] = None

        def follow(source: int, key: Key, target: int) -> bool:
            """Bring each outcome of the source of an edge to its target; whether new ones arrived."""
            count = len(outcomes[target])
            # A list: the edge may lead from an entry to itself.
            for states in list(outcomes[source]):
                outcomes[target].setdefault(
                    automaton.step(states, key), (source, states, key)
                )
            return len(outcomes[target]) > count

        self._propagate(follow)
        return outcomes

    def _witness(
        self, outcomes: Sequence[Mapping[int, _Step | None]], entry: int, states: int
    ) -> Path:
        """For `witnesses`: a path to an entry that leads to these states, read back from its end.

        Args:
            outcomes: What `_outcomes` gives.
            entry: The entry.
            states: One of its outcomes.
        """
        keys: list[Key] = []
        while (step := outcomes[entry][states]) is not None:
            entry, states, key = step
            keys.append(key)
        return tuple(reversed(keys))

    def _propagate(self, follow: Callable[[int, Key, int], bool]) -> None:
        """Follow every edge that does not lead back, until nothing new arrives anywhere.

        For `_states_at_leaves` and `_outcomes`: one pass for all paths, of which there
        may be 2^n.

        Args:
            follow: Brings what is known at an entry along an edge to its target;
                returns whether anything new arrived there.
        """
        if not self.references:
            for entry in range(1, len(self.parents)):
                follow(self.parents[entry], self.keys[entry], entry)
            return
        order, positions, outgoing = self._flow
        # Without rings, whatever leads to an entry comes before it in the order.
        if not self._inward:
            for entry in order:
                for key, target in outgoing[entry]:
                    follow(entry, key, target)
            return
        # A worklist, taken in reverse postorder: an entry waits until what leads to it
        # is done, so that few are visited more often than once.
        pending = [0]
        waiting = {0}
        while pending:
            position = heapq.heappop(pending)
            waiting.remove(position)
            source = order[position]
            for key, target in outgoing[source]:
                is_new = follow(source, key, target)
                if is_new and positions[target] not in waiting:
                    waiting.add(positions[target])
                    heapq.heappush(pending, positions[target])

    @property
    def _flow(self) -> _Flow:
        """The edges for `_propagate` in a good order: what `_compute_flow` gives, computed once."""
        return self.remember("flow", self._compute_flow)

    def _compute_flow(self) -> _Flow:
        """For `_flow`: entries in the order of `_propagate`: sources first, but for rings.

        Returns:
            The entries in reverse postorder; the position of each in it; and for each entry the edges from it that do
            not lead back.
        """
        outgoing: list[list[tuple[Key, int]]] = [[] for _ in self.parents]
        for entry in range(1, len(self.parents)):
            outgoing[self.parents[entry]].append((self.keys[entry], entry))
        for source, key, target in self._forward:
            outgoing[source].append((key, target))
        finished: list[int] = []
        seen = {0}
        # Depth-first without recursion, which a deep model would exhaust.
        stack = [(0, iter(outgoing[0]))]
        while stack:
            entry, targets = stack[-1]
            for _, target in targets:
                if target not in seen:
                    seen.add(target)
                    stack.append((target, iter(outgoing[target])))
                    break
            else:
                finished.append(entry)
                stack.pop()
        order = finished[::-1]
        positions = [0] * len(order)
        for position, entry in enumerate(order):
            positions[entry] = position
        return order, positions, outgoing

    @property
    def outgoing(self) -> dict[int, list[tuple[Key, int]]]:
        """For each entry, the entries that it leads to and by which keys, references included."""
        return self.remember("outgoing", self._compute_outgoing)

    def _compute_outgoing(self) -> dict[int, list[tuple[Key, int]]]:
        """For `outgoing`: for each entry, the entries that it leads to by which keys, references included."""
        outgoing: dict[int, list[tuple[Key, int]]] = {
            entry: [] for entry in range(len(self.parents))
        }
        for (entry, key), target in self.children.items():
            outgoing[entry].append((key, target))
        return outgoing

    @property
    def _inward(self) -> frozenset[Reference]:
        """The references to an entry on the first path of their source: only these can lead back.

        Most graphs have none, and need no search for cycles.
        """
        return self.remember("inward", self._compute_inward)

    def _compute_inward(self) -> frozenset[Reference]:
        """For `_inward`: the references whose target encloses their source, or is it."""
        ends = ends_of(self.parents)
        return frozenset(
            [
                (source, key, target)
                for source, key, target in self.references
                # By number: what an entry encloses is one range.
                if target <= source < ends[target]
            ]
        )

    @property
    def _forward(self) -> list[Reference]:
        """The references that do not lead back (to what every path to them passes): patterns follow these alone."""
        return self.remember("forward", self._compute_forward)

    def _compute_forward(self) -> list[Reference]:
        """For `_forward`: the references whose target does not dominate their source."""
        inward = self._inward
        # Every path passes through the root: the usual case, parent pointers to it,
        # needs no dominators.
        if all(target == 0 for _, _, target in inward):
            return [ref for ref in self.references if ref not in inward]
        dominates = _ancestry(self._dominators())
        return [
            (source, key, target)
            for source, key, target in self.references
            if (source, key, target) not in inward or not dominates(target, source)
        ]

    def _dominators(self) -> list[int]:
        """The immediate dominator of each entry: the last other entry that every path to it passes; -1 for the root.

        For `_compute_forward`: a reference to a dominator of its source leads back.
        Georgiadis' SEMI-NCA. It wants entries numbered as a depth-first search meets
        them, which pre-order is.
        """
        sources = self.all_sources
        ancestors = list(self.parents)
        lowest = list(range(len(self.parents)))
        semi = list(self.parents)

        def lowest_above(entry: int, limit: int) -> int:
            """The `eval` of SEMI-NCA: the lowest semidominator from `entry` up, above `limit`."""
            # Path compression, as in union-find: no climb is repeated.
            climb: list[int] = []
            while ancestors[entry] > limit:
                climb.append(entry)
                entry = ancestors[entry]
            for below in reversed(climb):
                lowest[below] = min(lowest[below], lowest[ancestors[below]])
                ancestors[below] = ancestors[entry]
            return lowest[climb[0] if climb else entry]

        # From the last entry, so that what lies below an entry is done before it.
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
            # In pre-order the dominators of the parent are complete already.
            while dominator > semi[entry]:
                dominator = dominators[dominator]
            dominators[entry] = dominator
        return dominators

    @property
    def leaf_numbers(self) -> dict[int, int]:
        """The number of the leaf at each leaf entry: from a place in the trie to a row of values."""
        return self.remember(
            "leaf_numbers", lambda: {entry: at for at, entry in enumerate(self.leaves)}
        )

    def remember(self, question: Hashable, compute: Callable[[], A]) -> A:
        """The answer to a question about these paths, such as what filters select, computed once."""
        return self._answers.to(question, compute)


def ends_of(parents: Sequence[int]) -> list[int]:
    """For each entry, one past the last entry below it. Entries are in pre-order."""
    ends = list(range(1, len(parents) + 1))
    for entry in range(len(parents) - 1, 0, -1):
        ends[parents[entry]] = max(ends[parents[entry]], ends[entry])
    return ends


def _ancestry(parents: Sequence[int]) -> Callable[[int, int], bool]:
    """A test of whether one entry is another, or above it, in a tree whose parents have lower numbers.

    For `_compute_forward`, which asks it of dominators. The dominator tree is not in
    pre-order. It gets pre-order numbers here, by which what is below an entry is one
    range again.
    """
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
    """For each entry that references lead to: from which entries they start, and by which key."""
    sources: dict[int, list[tuple[int, Key]]] = {}
    for source, key, target in references:
        sources.setdefault(target, []).append((source, key))
    return sources


def reference_order(reference: Reference) -> tuple[int, tuple[bool, Key]]:
    """What references are sorted by, so that equal graphs have equal tries: where they start, and their key there."""
    source, key, _ = reference
    return source, key_order(key)


def canonical(
    parents: Sequence[int],
    keys: Sequence[Key],
    leaves: Collection[int],
    sources: Mapping[int, list[tuple[int, Key]]],
) -> tuple[Trie, list[int]]:
    """A trie in canonical order, from entries in any order: equal graphs have equal tries.

    Args:
        parents: The parent of each entry, which comes before it; entry 0 is the root.
        keys: The key of each entry below its parent.
        leaves: The entries that are leaves; entries that lead to no leaf are dropped.
        sources: From where further references lead to each entry.

    Returns:
        The trie; and for each of its leaves, in order, the entry that it was.
    """
    children = _needed_children(parents, leaves, sources)
    new_parents: list[int] = []
    new_keys: list[Key] = []
    new_leaves: list[int] = []
    old_leaves: list[int] = []
    renumbered: dict[int, int] = {}
    todo = [(0, -1)]
    while todo:
        entry, parent = todo.pop()
        at = renumbered[entry] = len(new_parents)
        new_parents.append(parent)
        # The root's key does not count, and must not tell two equal tries apart.
        new_keys.append(keys[entry] if entry else "")
        if entry in leaves:
            new_leaves.append(at)
            old_leaves.append(entry)
        # Reversed, as the last one is popped first.
        ordered = sorted(
            children.get(entry, ()), key=lambda e: key_order(keys[e]), reverse=True
        )
        todo.extend((child, at) for child in ordered)
    references = [
        (renumbered[source], key, renumbered[target])
        for target in sources.keys() & renumbered
        for source, key in sources[target]
        # What leads to no leaf was dropped, and its references with it.
        if source in renumbered
    ]
    references.sort(key=reference_order)
    return Trie(
        tuple(new_parents), tuple(new_keys), tuple(new_leaves), tuple(references)
    ), old_leaves


def _needed_children(
    parents: Sequence[int],
    leaves: Collection[int],
    sources: Mapping[int, list[tuple[int, Key]]],
) -> dict[int, list[int]]:
    """For `canonical`: the children of each entry that lead to leaves, or to references to such."""
    children: dict[int, list[int]] = {}
    # Climbs from the leaves, so that each entry is looked at once.
    needed = {0}
    # The root encloses all leaves: what refers to it leads to them.
    pending = [*leaves, *[source for source, _ in sources.get(0, ()) if leaves]]
    while pending:
        entry = pending.pop()
        while entry not in needed:
            needed.add(entry)
            children.setdefault(parents[entry], []).append(entry)
            pending += [source for source, _ in sources.get(entry, ())]
            entry = parents[entry]
    return children
