"""Patterns: compiled paths and globs, and an automaton that matches a path against many of them at once.

In a pattern `*` stands for any characters within a key, and `**` for zero or more keys.
The automaton reads the keys of a path one by one.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from ._errors import PathError
from ._paths import Key, Path, split_pattern


class _AnyKeys:
    """The part `**`: zero or more keys.

    A class of its own rather than an enum: patterns are hashed at every split with a
    filter by path, and the hash of an enum's member is a Python call.
    """

    def __repr__(self) -> str:
        return "**"

    def __reduce__(self) -> str:
        return "ANY_KEYS"  # the single instance


ANY_KEYS: Final = _AnyKeys()

# A key itself, a glob for the text of a key, or any number of keys.
Part: TypeAlias = "Key | re.Pattern[str] | _AnyKeys"


class Pattern:
    """A row of parts, which the keys of a path match one after the other. Equal and hashed by its parts."""

    __slots__ = ("_identity", "parts")

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        self._identity = tuple(map(_identity_of, self.parts))

    @property
    def path(self) -> Path | None:
        """The only path that matches, which is looked up without an automaton; `None` if there may be several."""
        keys = [part for part in self.parts if isinstance(part, str | int)]
        return tuple(keys) if len(keys) == len(self.parts) else None

    @property
    def prefix(self) -> Path | None:
        """The path at and below which everything matches; `None` for another kind of pattern.

        With parent pointers, what lies below is searched from the end of that path.
        """
        *first, last = self.parts or ("",)
        return Pattern(first).path if last is ANY_KEYS else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


def _identity_of(part: Part) -> tuple[type[object], Part]:
    """What parts are compared and looked up by."""
    # With the type: True equals 1, but is not a position.
    return type(part), part


class Automaton:
    """Patterns as one nondeterministic automaton: the set of its current states is the bits of a number.

    Its states are a trie of parts, shared by patterns that begin alike. `a.*.w`,
    `a.*.v` and `**.w`:

        0 --a--> 1 --*--> 2 --w--> (3)
        |                 `---v--> (4)      (n) accepts
        `--**--> 5 --w--> (6)

    As `**` may stand for no key, 5 is entered together with 0; as it may stand for
    many, every key leads from 5 to 5 again. The path `a.x.w`:

        start {0,5}   --a--> {1,5}   --x--> {2,5}   --w--> {3,5,6}: `a.*.w` and `**.w`

    Attributes:
        start: The states before the first key.
    """

    __slots__ = (
        "_accepting",
        "_edges",
        "_entered",
        "_globs",
        "_loops",
        "_steps",
        "start",
    )

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._edges: list[dict[tuple[type[object], Part], int]] = [{}]
        self._accepting: dict[int, Pattern] = {}
        for pattern in patterns:
            self._add_pattern(pattern)
        # Globs apart, as they cannot be looked up by key.
        self._globs = [
            [
                (part, target)
                for (_, part), target in edges.items()
                if isinstance(part, re.Pattern)
            ]
            for edges in self._edges
        ]
        any_keys = _identity_of(ANY_KEYS)
        self._loops = frozenset(
            [edges[any_keys] for edges in self._edges if any_keys in edges]
        )
        # The states that are entered together with each state. From the last one on:
        # an edge leads to a state with a higher number, whose bits are complete then.
        self._entered = [1 << state for state in range(len(self._edges))]
        for state in reversed(range(len(self._edges))):
            if any_keys in self._edges[state]:
                self._entered[state] |= self._entered[self._edges[state][any_keys]]
        self._steps: dict[tuple[int, Key], int] = {}
        self.start: int = self._entered[0]

    def _add_pattern(self, pattern: Pattern) -> None:
        """Extend the trie by a pattern: one state for each of its parts, where no earlier pattern has it."""
        state = 0
        for part in pattern.parts:
            edges = self._edges[state]
            state = edges.setdefault(_identity_of(part), len(self._edges))
            if state == len(self._edges):
                self._edges.append({})
        self._accepting[state] = pattern

    def step(self, states: int, key: Key) -> int:
        """The bits of the states after a key, from those before it. Cached, as graphs repeat both."""
        following = self._steps.get((states, key))
        if following is None:
            following = self._steps[states, key] = self._compute_step(states, key)
        return following

    def _compute_step(self, states: int, key: Key) -> int:
        """For `step`, which caches it: the states that a key leads to from any of some states.

        Args:
            states: The bits of the states before the key.
            key: The key.
        """
        following = 0
        for state in _bits(states):
            # `**` stays where it is, whatever the key.
            if state in self._loops:
                following |= self._entered[state]
            target = self._edges[state].get(_identity_of(key))
            if target is not None:
                following |= self._entered[target]
            for glob, target in self._globs[state]:
                if glob.fullmatch(str(key)):
                    following |= self._entered[target]
        return following

    def accepted(self, states: int) -> list[Pattern]:
        """The patterns that match a path after whose keys the automaton is in these states."""
        return [
            self._accepting[state]
            for state in _bits(states)
            if state in self._accepting
        ]

    def fitting(self, path: Path) -> list[Pattern]:
        """The patterns that match one whole path; a trie steps through all paths of a graph by itself."""
        states = self.start
        for key in path:
            states = self.step(states, key)
        return self.accepted(states)


def _bits(number: int) -> Iterator[int]:
    """The states in a set that is kept as the bits of a number: the positions of its ones, ascending."""
    while number:
        # In two's complement, only the lowest one remains.
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def pattern_of(
    path: Path | str, *, below: bool = False, inside: bool = False
) -> Pattern:
    """For filters by path, and keys such as `blocks.*.bias`: the pattern of a path, as keys or as a text.

    Args:
        path: The keys, each of which stands for itself; or a text.
        below: Whether whatever lies below matches too.
        inside: Whether it may begin anywhere in a path.

    Raises:
        PathError: The text does not parse.
    """
    parts: list[Part] = (
        list(map(_part_of, split_pattern(path)))
        if isinstance(path, str)
        else list(path)
    )
    if inside:
        parts.insert(0, ANY_KEYS)
    if below:
        parts.append(ANY_KEYS)
    return Pattern(parts)


def _part_of(token: tuple[Key, bool]) -> Part:
    """The part of a pattern for one token of `split_pattern`: a key, and whether it is a glob."""
    key, is_glob = token
    if not is_glob:
        return key
    text = str(key)
    if text == "**":
        return ANY_KEYS
    # To fnmatch `[` and `?` are special too; here only the star is.
    literal = text.replace("[", "[[]").replace("?", "[?]")
    return re.compile(fnmatch.translate(literal))


def is_glob(text: object) -> bool:
    """For mappings and look-ups by path: whether something is a text with an unquoted star: many paths may match."""
    if not isinstance(text, str) or "*" not in text:
        return False
    try:
        return any(glob for _, glob in split_pattern(text))
    except PathError:  # not a path, but it may be a key
        return False
