"""How much of a file is read, and how much is reported: what the readers of all formats share."""

from typing import Final

MAX_BYTES: Final = 64 * 2**20
"""Of all files of a configuration together."""
MAX_DEPTH: Final = 6_000
"""Levels of lists and mappings in a file."""
MAX_DIGITS: Final = 1_000
"""Of an integer."""
MAX_FAULTS: Final = 1_000
"""Of a report: the others are counted."""
