"""Tracebacks as users read them: without the frames of graphnode, as JAX leaves out its own.

JAX's switch is obeyed: with `JAX_TRACEBACK_FILTERING=off`, or
`jax.config.update("jax_traceback_filtering", "off")`, every frame stays.
"""

import functools
import os
from collections.abc import Callable
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE: Final = os.path.dirname(__file__) + os.sep


def hides_frames(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with graphnode's frames removed from the tracebacks of its errors."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        """The function that takes the place of `function`."""
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    return call


def hide_frames(error: BaseException) -> None:
    """Take the frames of graphnode out of the traceback of an error.

    A bare `raise` right after it does not add a frame for the function around it.
    """
    filtering: object = getattr(jax.config, "jax_traceback_filtering")  # noqa: B009  # stubs do not know it
    if filtering != "off":
        error.__traceback__ = _without_own_frames(error.__traceback__)


def _without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """For `hide_frames`: a traceback made anew from those entries that are not of graphnode's files."""
    entries: list[TracebackType] = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    # A traceback is a linked list, and rebuilt from its end.
    rest: TracebackType | None = None
    for entry in reversed(entries):
        if not entry.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest
