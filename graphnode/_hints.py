"""What messages say of what was written: itself, cut short, or a name that it is nearly."""

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 200


def did_you_mean(
    name: object, names: Iterable[str], *, cutoff: float = 0.6, longest: int = _LONGEST
) -> str:
    """`did you mean 'relu'?` where one of the names is close to what was written; else the empty text.

    Args:
        name: What was written.
        names: What there is.
        cutoff: How close is close, from 0 to 1.
        longest: Of names that are compared: difflib takes the product of their lengths.
    """
    if not isinstance(name, str) or len(name) > longest:
        return ""
    close = difflib.get_close_matches(
        name, [known for known in names if len(known) <= longest], 1, cutoff
    )
    return f"did you mean {close[0]!r}?" if close else ""


def with_hint(text: str, hint: str) -> str:
    """What is wrong, and what would do, if anything is known."""
    return f"{text}; {hint}" if hint else text


def cut(text: str) -> str:
    """A text for a message, cut where it is long."""
    return text if len(text) <= 60 else text[:57] + "..."


def with_article(name: str) -> str:
    """The name of a class with an article as it is spoken: `a Linear`, `an Embedding`, `an RNN`."""
    is_spelled_out = name[:2].isupper()
    return (
        f"an {name}"
        if name[:1].upper() in ("AEFHILMNORSX" if is_spelled_out else "AEIO")
        else f"a {name}"
    )


def short(value: object) -> str:
    """A value that a file gave, for a message: never long, and never deep."""
    if isinstance(value, str):
        return repr(cut(value))
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return repr(value) if isinstance(value, int | float) else type(value).__name__
