"""Patterns: what a path may look like, compiled once; paths and globs, and what lies below them.

In: a row of keys, of which `*` stands for any characters within a key and `**` for zero or more keys. Out: a machine
that is told one key after the other. It is in several places at once, as the bits of one number: bit `i` for the first
`i` parts being behind it.
"""

import fnmatch
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from ._errors import PathError
from ._paths import Key, Path, split_pattern


class _AnyKeys:
    """Stands for zero or more keys."""

    def __repr__(self) -> str:
        return "**"


ANY_KEYS: Final = _AnyKeys()

# A key itself, what the text of a key looks like, or any number of keys.
Part: TypeAlias = "Key | re.Pattern[str] | _AnyKeys"


class Pattern:
    """A row of parts that the keys of a path fit one after the other. Hashable; equal if made of equal parts."""

    __slots__ = ("_identity", "last", "parts", "start")

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts: tuple[Part, ...] = tuple(parts)
        self.last: int = 1 << len(self.parts)
        self.start: int = self._skipping(1)
        # With the types: True equals 1, and is no position.
        self._identity = tuple([(type(part), part) for part in self.parts])

    @property
    def path(self) -> Path | None:
        """The one path that fits; `None` if there may be several."""
        keys = [part for part in self.parts if isinstance(part, str | int)]
        return tuple(keys) if len(keys) == len(self.parts) else None

    def step(self, places: int, key: Key) -> int:
        """The places behind a key."""
        after = 0
        for at, part in enumerate(self.parts):
            if not places >> at & 1:
                continue
            if part is ANY_KEYS:
                after |= 1 << at
            elif _fits(part, key):
                after |= 1 << (at + 1)
        return self._skipping(after)

    def accepts(self, places: int) -> bool:
        """Whether all parts are behind one of the places."""
        return bool(places & self.last)

    def fits(self, path: Path) -> bool:
        """Whether a whole path fits."""
        places = self.start
        for key in path:
            places = self.step(places, key)
        return self.accepts(places)

    def _skipping(self, places: int) -> int:
        """The places and those behind any number of keys, which may be none."""
        for at, part in enumerate(self.parts):
            if part is ANY_KEYS and places >> at & 1:
                places |= 1 << (at + 1)
        return places

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


def _fits(part: Part, key: Key) -> bool:
    if isinstance(part, re.Pattern):
        return part.fullmatch(str(key)) is not None
    return part == key and type(part) is type(key)


def pattern_of(path: Path | str, *, below: bool = False, inside: bool = False) -> Pattern:
    """The pattern of a path, as keys or as a text with globs.

    Args:
        path: The keys, each of which stands for itself; or a text.
        below: Whether what lies below fits too.
        inside: Whether it may begin anywhere.

    Raises:
        PathError: The text does not parse.
    """
    parts: list[Part] = list(map(_part, split_pattern(path))) if isinstance(path, str) else list(path)
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
    return ANY_KEYS if text == "**" else re.compile(fnmatch.translate(text.replace("[", "[[]").replace("?", "[?]")))


def is_glob(text: object) -> bool:
    """Whether something is a text that several paths may fit: it has a star that is not quoted."""
    if not isinstance(text, str) or "*" not in text:
        return False
    try:
        return any(glob for _, glob in split_pattern(text))
    except PathError:  # no path at all, but it may be a key
        return False
