"""Try with a number what was found for symbolic sizes.

JAX proves what it says of symbolic sizes, with one exception: whether a size is equal to
another, or its remainder to a number, it denies where it does not know. A model that goes
by such a question takes one of its ways for all sizes.
"""

import operator
from typing import Final

from .._compat import SymbolicSize
from .._contract import Size
from ._errors import SHAPE_ERRORS, error_text
from ._rows import Activity
from ._trace import Invocation, activity_of

# What stands for symbolic sizes. Most questions about remainders are answered with yes.
A_SIZE: Final = 24

# What JAX writes in the text of a symbolic size.
_FUNCTIONS: Final = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
}


def with_exception(activity: Activity, with_numbers: Invocation) -> Activity:
    """What was found for symbolic sizes, with a note if it does not hold for `A_SIZE`.

    Args:
        activity: What was found.
        with_numbers: The call, with `A_SIZE` in place of the symbols.
    """
    try:
        tried = activity_of(with_numbers)
    except SHAPE_ERRORS as error:
        return _with_note(activity, f"the model fails: {error_text(error)}")
    if tried.calls.keys() != activity.calls.keys():
        return _with_note(activity, "other nodes are called")
    paths = tried.flops.keys() | activity.flops.keys()
    for path in paths:
        expected = _at_size(activity.flops.get(path, 0), activity.symbols)
        if expected != tried.flops.get(path, 0):
            return _with_note(activity, "there are other operations")
    return activity


def _with_note(activity: Activity, text: str) -> Activity:
    """What was found, with an exception to it."""
    are = " and ".join(activity.symbols)
    note = f"not for every size: where {are} is {A_SIZE}, {text}"
    return activity._replace(notes=(note, *activity.notes), holds=False)


def _at_size(flops: Size, symbols: tuple[str, ...]) -> int:
    """A number of operations with `A_SIZE` in place of the symbols."""
    if not isinstance(flops, SymbolicSize):
        return int(flops)
    # Not by JAX, which computes with 32 bits.
    formula = str(flops).replace("^", "**")
    value = eval(formula, {"__builtins__": _FUNCTIONS}, dict.fromkeys(symbols, A_SIZE))
    return int(value)
