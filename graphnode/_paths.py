"""Paths: tuples of field names, dict keys and positions, with one reversible text form.

A text is keys joined by dots: `layers.0.weight`. An integer stands for a position; a
string key that is empty, holds a dot, a quote, a backslash, a star or a blank, or looks
like an integer is written as a JSON string: `table."0"."a.b"`.
"""

import json
import re
from typing import TypeAlias

import numpy as np

from ._errors import PathError

Key: TypeAlias = str | int
Path: TypeAlias = tuple[Key, ...]

_BARE = re.compile(r'[^\s."\\*]+')
_INTEGER = re.compile(r"-?[0-9]+")
# Unlike `_BARE` it takes stars, for globs.
_TOKEN = re.compile(r'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<bare>[^\s."\\]+)')


def key_order(key: Key) -> tuple[bool, Key]:
    """The sort key of keys in canonical order, in which structures are compared: positions before names."""
    # The bool comes first, as Python does not compare a text with an integer.
    return isinstance(key, str), key


def path_order(path: Path) -> list[tuple[bool, Key]]:
    """The sort key of paths in canonical order, for lists of differences and the leaves of a root."""
    return [key_order(key) for key in path]


def as_key(key: object) -> Key | None:
    """A key as paths have it, an integer of NumPy as `int`; `None` for what is not a key."""
    if isinstance(key, str):
        return key
    # A bool equals 0 or 1, and is not a position.
    if isinstance(key, bool) or not isinstance(key, int | np.integer):
        return None
    return int(key)


def key_str(key: Key) -> str:
    """The text of one key, quoted where it would otherwise read as something else."""
    if isinstance(key, int):
        # By way of `int`: a subclass may print as something else.
        return str(int(key))
    if _BARE.fullmatch(key) and not _INTEGER.fullmatch(key):
        return key
    # JSON, as it can be read back whatever the key holds.
    return json.dumps(key, ensure_ascii=False)


def path_str(path: Path, /) -> str:
    """The text form of a path.

    Args:
        path: Field names and dict keys as `str`, positions as `int`; `()` is the root.

    Returns:
        The keys joined by dots; the empty string for the root.

    Raises:
        TypeError: It is not a tuple of keys.

    Example:
        >>> path_str(("layers", 0, "weight"))
        'layers.0.weight'
        >>> path_str(("table", "0", "a.b"))
        'table."0"."a.b"'

    See also: `parse_path`, the inverse.
    """
    # Not any sequence: a text is a sequence of keys, too.
    if not isinstance(path, (tuple, list)):
        raise TypeError(
            f"gn.path_str takes a path, a tuple of keys; found {path!r}; gn.parse_path reads texts"
        )
    try:
        return ".".join(map(key_str, path))
    except TypeError:
        raise TypeError(
            f"gn.path_str: a key is a text or an integer; found {path!r}"
        ) from None


def parse_path(text: str, /) -> Path:
    """The path that a text stands for.

    Args:
        text: What `path_str` gives: keys joined by dots, unusual string keys in double
            quotes.

    Returns:
        The path; `()` for the empty string.

    Raises:
        PathError: The text does not follow the grammar; names the column.

    Example:
        >>> parse_path('layers.0."a.b"')
        ('layers', 0, 'a.b')

    See also: `path_str`, the inverse.
    """
    if not isinstance(text, str):
        raise TypeError(f"gn.parse_path takes a text; found {text!r}")
    return tuple([_key_of(text, token) for token in _tokens(text)])


def split_pattern(text: str) -> list[tuple[Key, bool]]:
    """For globs: the keys of a text, each with whether it is a glob: it holds a star, and is not quoted.

    Raises:
        PathError: The text does not follow the grammar of paths; names the column.
    """
    tokens = _tokens(text)
    return [
        (_key_of(text, token), token["bare"] is not None and "*" in token["bare"])
        for token in tokens
    ]


def _tokens(text: str) -> "list[re.Match[str]]":
    """For `parse_path` and `split_pattern`: the matches of `_TOKEN` for the keys of a text; its dots are checked.

    Raises:
        PathError: The text does not follow the grammar; names the column.
    """
    tokens: list[re.Match[str]] = []
    at = 0
    while text:
        token = _TOKEN.match(text, at)
        if token is None:
            raise _unparsable(
                text,
                at,
                "a key",
                "quote keys that hold blanks, dots, quotes or backslashes",
            )
        tokens.append(token)
        at = token.end()
        if at == len(text):
            break
        if text[at] != ".":
            raise _unparsable(text, at, "a dot", "separate keys by dots")
        at += 1
    return tokens


def _key_of(text: str, token: re.Match[str]) -> Key:
    """For `parse_path` and `split_pattern`: the key of a token. What `path_str` would not give back is refused."""
    bare = token["bare"]
    if bare is None:
        try:
            return str(json.loads(token["quoted"]))
        except json.JSONDecodeError as error:
            raise _unparsable(
                text, token.start(), "a quoted key", f"JSON says: {error.msg}"
            ) from None
    if not _INTEGER.fullmatch(bare):
        return bare
    if len(bare) > 4_000:  # Python itself refuses more than 4,300 digits, with no path
        raise _unparsable(
            text, token.start(), "an integer", "no position has so many digits"
        )
    # Such as `007` or `-0`, which `path_str` would not give back.
    if str(int(bare)) != bare:
        remedy = (
            f"write {int(bare)} for a position or {json.dumps(bare)} for a string key"
        )
        raise _unparsable(text, token.start(), "an integer", remedy)
    return int(bare)


def _unparsable(text: str, at: int, expected: str, remedy: str) -> PathError:
    """The error for a text that is not a path.

    Args:
        text: The text.
        at: Where it cannot go on, counted from 0.
        expected: What would have to be there.
        remedy: What would do.
    """
    rest = repr(text[at:]) if at < len(text) else "the end"
    return PathError(
        f"path {text!r} does not parse: expected {expected} at column {at + 1}, found {rest}; {remedy}"
    )


def is_path(text: str) -> bool:
    """Whether a text that may be a key may also be a path of several keys.

    For look-ups and mappings by path: only then may the text mean two things.
    """
    return "." in text or '"' in text
