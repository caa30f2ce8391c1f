"""Try with numbers what was found for symbolic sizes.

JAX proves what it says of symbolic sizes, with one exception: whether a size is equal to
another, or its remainder to a number, it denies where it does not know. A model that goes
by such a question takes one of its ways for all sizes.
"""

import operator
from collections.abc import Mapping
from typing import Final

from .._compat import SymbolicSize
from .._contract import Size
from ._errors import SHAPE_ERRORS, error_text
from ._rows import Activity
from ._trace import Invocation, activity_of

# What stands for symbolic sizes: the remainders to 2, 3, 4, 6, 8 and 12 are 0, then 1.
SIZES: Final = (24, 25)

# What JAX writes in the text of a symbolic size.
_FUNCTIONS: Final = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
}


def with_exception(
    activity: Activity, with_numbers: Mapping[int, Invocation]
) -> Activity:
    """What was found for symbolic sizes, with a note if it does not hold for a number.

    Args:
        activity: What was found.
        with_numbers: The call with a number in place of the symbols, by the number.
    """
    for size, invocation in with_numbers.items():
        # Sizes of the caller's own stay symbolic.
        if invocation.inputs.symbols:
            continue
        text = _difference(activity, invocation, size)
        if text:
            return _with_note(activity, size, text)
    return activity


def _difference(activity: Activity, invocation: Invocation, size: int) -> str:
    """What is otherwise at a size; empty if nothing is."""
    try:
        tried = activity_of(invocation)
    except SHAPE_ERRORS as error:
        return f"the model fails: {error_text(error)}"
    if tried.calls.keys() != activity.calls.keys():
        return "other nodes are called"
    for path in tried.flops.keys() | activity.flops.keys():
        flops = activity.flops.get(path, 0)
        if _at_size(flops, activity.symbols, size) != tried.flops.get(path, 0):
            return "there are other operations"
    return ""


def _with_note(activity: Activity, size: int, text: str) -> Activity:
    """What was found, with an exception to it."""
    are = " and ".join(activity.symbols)
    note = f"not for every size: where {are} is {size}, {text}"
    return activity._replace(notes=((None, note), *activity.notes), holds=False)


def _at_size(flops: Size, symbols: tuple[str, ...], size: int) -> int:
    """A number of operations with another one in place of the symbols."""
    if not isinstance(flops, SymbolicSize):
        return int(flops)
    # Not by JAX, which computes with 32 bits.
    formula = str(flops).replace("^", "**")
    return int(
        eval(formula, {"__builtins__": _FUNCTIONS}, dict.fromkeys(symbols, size))
    )
