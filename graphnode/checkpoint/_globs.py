"""Globs of names, taken apart and put together: what a star stands for in one stands in another.

    blocks.*.mlp.**                fits   blocks.3.mlp.up.weight     stars 3, runs up.weight
    layers.*.ff.**                 gives  layers.3.ff.up.weight

    Transformer/block_*/mlp/*      fits   Transformer/block_3/mlp/kernel
    blocks.*.mlp.*                 gives  blocks.3.mlp.kernel

The names of other programs are paths where they read as such. Some have slashes for dots,
and are one key: there a star ends at a slash, and `**` does not.
"""

import re
from typing import Final, NamedTuple, TypeAlias

from .._errors import PathError
from .._paths import Key, Path, parse_path, path_str, split_pattern
from .._patterns import Pattern, pattern_of

_STARS = re.compile(r"(\*\*|\*)")
_INTEGER = re.compile(r"0|[1-9][0-9]*")
_ONE: Final = "*"
_ANY: Final = "**"
_INSIDE: Final = {_ONE: "([^/]*)", _ANY: "(.*)"}


class _Mixed(NamedTuple):
    """A key with stars in it, as texts and stars in turn; and the expression that it is."""

    pieces: tuple[str, ...]
    expression: "re.Pattern[str]"


_Part: TypeAlias = "Key | _Mixed | None"  # None: `**`


class Captures(NamedTuple):
    """What the stars of a glob stand for in a name, from left to right.

    Attributes:
        stars: For each `*`.
        runs: For each `**`: keys, or a part of a key with slashes.
    """

    stars: tuple[Key, ...]
    runs: "tuple[Path | str, ...]"


class Glob:
    """A path or glob.

    Attributes:
        text: As it is written.
        pattern: For an automaton. It may fit more, as it lets a star go past a slash.
        stars: How many `*` it has.
        runs: How many `**` it has.

    Raises:
        PathError: The text is neither.
    """

    __slots__ = ("_parts", "pattern", "runs", "stars", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.pattern: Pattern = pattern_of(text)
        self._parts = tuple([_part(key, is_glob) for key, is_glob in _keys_of(text)])
        pieces = [
            piece
            for part in self._parts
            for piece in (part.pieces if isinstance(part, _Mixed) else ())
        ]
        self.stars = pieces.count(_ONE)
        self.runs = pieces.count(_ANY) + self._parts.count(None)

    @property
    def literal(self) -> Path | None:
        """The only path that it fits; `None` for a glob."""
        return self.pattern.path

    def match(self, path: Path) -> Captures | None:
        """What its stars stand for in a path; `None` where it does not fit."""
        found = self._match(0, path, 0)
        if found is None:
            return None
        return Captures(tuple(found[0]), tuple(found[1]))

    def _match(
        self, at: int, path: Path, start: int
    ) -> "tuple[list[Key], list[Path | str]] | None":
        """For `match`: the captures of the parts from one on, in the keys from one on; by recursion at each `**`."""
        stars: list[Key] = []
        runs: list[Path | str] = []
        for rank in range(at, len(self._parts)):
            part = self._parts[rank]
            if part is None:
                for end in range(start, len(path) + 1):
                    rest = self._match(rank + 1, path, end)
                    if rest is not None:
                        run: Path | str = path[start:end]
                        return [*stars, *rest[0]], [*runs, run, *rest[1]]
                return None
            if start == len(path):
                return None
            key = path[start]
            start += 1
            if not isinstance(part, _Mixed):
                if type(key) is not type(part) or key != part:
                    return None
                continue
            if part.pieces == (_ONE,) and isinstance(key, int):
                stars.append(key)
                continue
            fit = part.expression.fullmatch(str(key))
            if fit is None:
                return None
            kinds = [piece for piece in part.pieces if piece in _INSIDE]
            for kind, text in zip(kinds, fit.groups(), strict=True):
                if kind == _ONE:
                    stars.append(text)
                else:
                    runs.append(text)
        return None if start < len(path) else (stars, runs)

    def path(self, captures: Captures) -> Path:
        """The path that it gives when its stars stand for what those of another glob, of as many, did."""
        stars, runs = iter(captures.stars), iter(captures.runs)
        keys: list[Key] = []
        for part in self._parts:
            if part is None:
                keys += _as_keys(next(runs))
            elif not isinstance(part, _Mixed):
                keys.append(part)
            elif part.pieces == (_ONE,):
                keys.append(_as_key(next(stars)))
            else:
                texts = [
                    str(next(stars))
                    if piece == _ONE
                    else _as_text(next(runs))
                    if piece == _ANY
                    else piece
                    for piece in part.pieces
                ]
                keys.append("".join(texts))
        return tuple(keys)

    def __repr__(self) -> str:
        return repr(self.text)


def _keys_of(text: str) -> list[tuple[Key, bool]]:
    """For `Glob`: its keys, each with whether it has stars; of a name that is no path, itself."""
    if not isinstance(text, str):
        raise PathError(f"expected a path or glob; found {text!r}")
    return split_pattern(text)


def _part(key: Key, is_glob: bool) -> _Part:
    """For `Glob`: one key of its text."""
    if not is_glob:
        return key
    if key == _ANY:
        return None
    pieces = tuple([piece for piece in _STARS.split(str(key)) if piece])
    source = "".join([_INSIDE.get(piece) or re.escape(piece) for piece in pieces])
    return _Mixed(pieces, re.compile(source))


def _as_key(capture: Key) -> Key:
    """For `Glob.path`: a whole key; digits are a position, as in a path."""
    if isinstance(capture, str) and _INTEGER.fullmatch(capture):
        return int(capture)
    return capture


def _as_keys(run: "Path | str") -> Path:
    """For `Glob.path`: what `**` stands for, as keys."""
    if not isinstance(run, str):
        return run
    return tuple(map(_as_key, run.split("/"))) if run else ()


def _as_text(run: "Path | str") -> str:
    """For `Glob.path`: what `**` stands for, as a part of a key with slashes."""
    return run if isinstance(run, str) else "/".join(map(str, run))


def path_of_name(name: str) -> Path:
    """The name of an array as a path; one that is none, such as `007`, as a single key."""
    try:
        path = parse_path(name)
    except PathError:
        return (name,)
    return path if path_str(path) == name else (name,)


def name_of_path(path: Path) -> str:
    """The name of an array in the file of another program; `path_of_name` is the inverse."""
    if len(path) == 1:
        return str(path[0])
    return path_str(path)
