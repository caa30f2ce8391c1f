"""Places of files, and how much of a file is read: what the readers of all formats share."""

from typing import Final, NamedTuple

MAX_BYTES: Final = 64 * 2**20
"""Of all files of a configuration together."""
MAX_DEPTH: Final = 6_000
MAX_DIGITS: Final = 1_000
"""Of an integer."""
MAX_FAULTS: Final = 1_000
"""Of a report: the others are counted."""


class Place(NamedTuple):
    """A line and a column of a file, from 1; 0 where they are not known."""

    line: int
    column: int


def short(value: object) -> str:
    """A value that a file gave, for a message: never long, and never deep."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return repr(value) if isinstance(value, int | float) else type(value).__name__
