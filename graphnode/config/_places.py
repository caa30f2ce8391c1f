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
