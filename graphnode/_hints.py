"""Parts of messages: what was written, cut short; the name that was probably meant; an article."""

import difflib
from collections.abc import Iterable
from typing import Final, get_origin

_LONGEST: Final = 200


def did_you_mean(
    name: object, names: Iterable[str], *, cutoff: float = 0.6, longest: int = _LONGEST
) -> str:
    """`did you mean 'relu'?` where one of the names is close to what was written; else the empty text.

    Args:
        name: What was written.
        names: The existing names.
        cutoff: How similar a name has to be, from 0 to 1.
        longest: Longer names are not compared: difflib takes time by the product of
            their lengths.
    """
    if not isinstance(name, str) or len(name) > longest:
        return ""
    candidates = [other for other in names if len(other) <= longest]
    close = difflib.get_close_matches(name, candidates, 1, cutoff)
    return f"did you mean {close[0]!r}?" if close else ""


def bare_class_hint(*written: object) -> str:
    """`write Net: ...` where a class with parameters was written, such as `Net[int]`; else the empty text."""
    for part in written:
        origin = get_origin(part)
        if isinstance(origin, type):
            return f"write {origin.__name__}: a node does not know the parameters of its class"
    return ""


def similarity(name: str, other: str) -> float:
    """How alike two names are, from 0 to 1."""
    return difflib.SequenceMatcher(None, name, other, autojunk=False).ratio()


def with_hint(text: str, hint: str) -> str:
    """A text with a hint after it, if there is one."""
    return f"{text}; {hint}" if hint else text


def cut(text: str) -> str:
    """A text for a message, of at most 60 characters: the `repr` of a user's value may have any length."""
    return text if len(text) <= 60 else text[:57] + "..."


def with_article(name: str) -> str:
    """The name of a class with an article as it is spoken: `a Linear`, `an Embedding`, `an RNN`."""
    # `RNN` is spelled out, and starts with a vowel as it is spoken.
    is_spelled_out = name[:2].isupper()
    vowels = "AEFHILMNORSX" if is_spelled_out else "AEIO"
    return f"an {name}" if name[:1].upper() in vowels else f"a {name}"


def short(value: object) -> str:
    """A value from a file, for a message: containers by their type alone, long texts and numbers cut."""
    if isinstance(value, str):
        return repr(cut(value))
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return repr(value) if isinstance(value, int | float) else type(value).__name__
