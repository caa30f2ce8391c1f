"""Patterns: what a path may look like, compiled once; paths and globs, and what lies below them.

In: rows of keys, of which `*` stands for any characters within a key and `**` for zero
or more keys. Out: an automaton that is told one key after the other, for all patterns
at once.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from ._errors import PathError
from ._paths import Key, Path, split_pattern


class _AnyKeys:
    """Stands for zero or more keys."""

    def __repr__(self) -> str:
        return "**"

    def __reduce__(self) -> str:
        return "ANY_KEYS"  # the one there is


ANY_KEYS: Final = _AnyKeys()

# A key itself, what the text of a key looks like, or any number of keys.
Part: TypeAlias = "Key | re.Pattern[str] | _AnyKeys"


class Pattern:
    """A row of parts that the keys of a path fit one after the other. Hashable; equal if made of equal parts."""

    __slots__ = ("_identity", "parts")

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        self._identity = tuple(map(_identity_of, self.parts))

    @property
    def path(self) -> Path | None:
        """The one path that fits; `None` if there may be several."""
        keys = [part for part in self.parts if isinstance(part, str | int)]
        return tuple(keys) if len(keys) == len(self.parts) else None

    @property
    def prefix(self) -> Path | None:
        """The one path at and below which all fits; `None` if it is another kind of pattern."""
        *first, last = self.parts or ("",)
        return Pattern(first).path if last is ANY_KEYS else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


def _identity_of(part: Part) -> tuple[type[object], Part]:
    # With the type: True equals 1, and is not a position.
    return type(part), part


class Automaton:
    """Patterns as one automaton, which is in several places at once: the bits of one number.

    The places are a trie of parts, so that patterns that begin alike share them.
    `a.*.w`, `a.*.v` and `**.w`:

        0 --a--> 1 --*--> 2 --w--> 3
        |                 `--v--> 4
        `--**--> 5 --w--> 6            5 is entered with 0, by no key, and left by none

    Attributes:
        start: The places before any key.
    """

    __slots__ = ("_below", "_ends", "_entered", "_globs", "_loops", "_steps", "start")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._below: list[dict[tuple[type[object], Part], int]] = [{}]
        self._ends: dict[int, Pattern] = {}
        for pattern in patterns:
            self._add(pattern)
        self._globs = [
            [
                (part, target)
                for (_, part), target in below.items()
                if isinstance(part, re.Pattern)
            ]
            for below in self._below
        ]
        any_keys = _identity_of(ANY_KEYS)
        self._loops = frozenset(
            [below[any_keys] for below in self._below if any_keys in below]
        )
        # The places that one comes to with each: what stands for any number of keys may
        # stand for none.
        self._entered = [1 << place for place in range(len(self._below))]
        for place in reversed(range(len(self._below))):
            if any_keys in self._below[place]:
                self._entered[place] |= self._entered[self._below[place][any_keys]]
        self._steps: dict[tuple[int, Key], int] = {}
        self.start: int = self._entered[0]

    def _add(self, pattern: Pattern) -> None:
        place = 0
        for part in pattern.parts:
            below = self._below[place]
            place = below.setdefault(_identity_of(part), len(self._below))
            if place == len(self._below):
                self._below.append({})
        self._ends[place] = pattern

    def step(self, places: int, key: Key) -> int:
        """The places behind a key; worked out once, as graphs repeat themselves."""
        after = self._steps.get((places, key))
        if after is None:
            after = self._steps[places, key] = self._step(places, key)
        return after

    def _step(self, places: int, key: Key) -> int:
        after = 0
        for place in _bits(places):
            if place in self._loops:
                after |= self._entered[place]
            target = self._below[place].get(_identity_of(key))
            if target is not None:
                after |= self._entered[target]
            for glob, target in self._globs[place]:
                if glob.fullmatch(str(key)):
                    after |= self._entered[target]
        return after

    def accepted(self, places: int) -> list[Pattern]:
        """The patterns all of whose parts are behind the places."""
        return [self._ends[place] for place in _bits(places) if place in self._ends]

    def fitting(self, path: Path) -> list[Pattern]:
        """The patterns that a whole path fits."""
        places = self.start
        for key in path:
            places = self.step(places, key)
        return self.accepted(places)


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def pattern_of(
    path: Path | str, *, below: bool = False, inside: bool = False
) -> Pattern:
    """The pattern of a path, as keys or as a text with globs.

    Args:
        path: The keys, each of which stands for itself; or a text.
        below: Whether what lies below fits too.
        inside: Whether it may begin anywhere.

    Raises:
        PathError: The text does not parse.
    """
    parts: list[Part] = (
        list(map(_part, split_pattern(path))) if isinstance(path, str) else list(path)
    )
    if inside:
        parts.insert(0, ANY_KEYS)
    if below:
        parts.append(ANY_KEYS)
    return Pattern(parts)


def _part(token: tuple[Key, bool]) -> Part:
    key, is_glob = token
    if not is_glob:
        return key
    text = str(key)
    return (
        ANY_KEYS
        if text == "**"
        else re.compile(fnmatch.translate(text.replace("[", "[[]").replace("?", "[?]")))
    )


def is_glob(text: object) -> bool:
    """Whether something is a text that several paths may fit: it has a star that is not quoted."""
    if not isinstance(text, str) or "*" not in text:
        return False
    try:
        return any(glob for _, glob in split_pattern(text))
    except PathError:  # no path at all, but it may be a key
        return False
