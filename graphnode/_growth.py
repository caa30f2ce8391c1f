"""Counters that grow while JAX traces, such as of the tokens in a cache: by how much one grows in a round of a loop.

A traced counter has no number. But where a function writes what it read plus a constant,
and nothing else, a loop of `n` rounds adds `n` times that constant, and can be refused
while it is traced if there is no room for so much:

    position          what a round reads
    position + 1      noted by the cache: (position, 1)
    position + 2      noted again: (position, 2)

A counter that is reset, or written in a branch, comes out as something that was not noted,
and nothing is said of it.
"""

import functools
import weakref
from typing import Any, Final, NamedTuple

from ._compat import Tracer


class Growth(NamedTuple):
    """How far a traced counter is from another one."""

    # Any: JAX has no public class of tracers that type checkers know.
    base: "weakref.ref[Any]"
    """The counter that was read first."""
    by: int
    """How much more it is."""
    room: int
    """How large the counter may become."""


# By the counter's identity, as tracers have no hash; with a reference that takes the entry
# away when the counter dies.
_GROWTHS: Final[dict[int, tuple["weakref.ref[Any]", Growth]]] = {}


def note(before: Any, after: Any, by: int, room: int) -> None:
    """Say that a traced counter is another one plus `by`; nothing is noted of numbers, which need no help.

    Args:
        before: The counter that was read.
        after: The counter that is written.
        by: How much more it is.
        room: How large it may become.
    """
    if not isinstance(before, Tracer) or not isinstance(after, Tracer):
        return
    known = _growth(before)
    base = weakref.ref(before) if known is None else known.base
    total = by if known is None else known.by + by
    key = id(after)
    # Not a closure over this module: its names may be gone when Python ends.
    forget = functools.partial(_forget, _GROWTHS, key)
    _GROWTHS[key] = (weakref.ref(after, forget), Growth(base, total, room))


def grown_by(counter: Any) -> int:
    """By how much a traced counter is known to have grown since it was first read; 0 for anything else."""
    known = _growth(counter)
    return 0 if known is None else known.by


def growth_since(before: Any, after: Any) -> Growth | None:
    """How a counter grew from what a round read to what it wrote; `None` if that was not noted."""
    known = _growth(after)
    return known if known is not None and known.base() is before else None


def _growth(counter: Any) -> Growth | None:
    """What was noted of a counter."""
    entry = _GROWTHS.get(id(counter))
    return None if entry is None or entry[0]() is not counter else entry[1]


def _forget(
    growths: dict[int, tuple["weakref.ref[Any]", Growth]],
    key: int,
    _: "weakref.ref[Any]",
) -> None:
    """Take out the entry of a counter that died."""
    growths.pop(key, None)
