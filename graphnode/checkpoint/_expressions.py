"""Arrays as expressions of others: their shape and dtype are known, and they are made when they are asked for.

    Split("qkv", ["q", "k", "v"])      q = Made("slice", [Read("qkv")], (axis, start, stop))

Expressions are computed with NumPy, in memory of the host: most of them are views.
`evaluated` reads each array once, or a few at a time, and lets go of them before it reads
the next ones.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from ._leaf import DTYPES, Leaf

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """An array of the source, by what it is called there."""

    key: Hashable


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Made:
    """An array that is made of others.

    Attributes:
        kind: One of the keys of `_OPERATIONS` or `UNIONS`.
        inputs: What it is made of.
        arguments: Numbers that belong to the kind.
    """

    kind: str
    inputs: "tuple[Expression, ...]"
    arguments: tuple[Any, ...] = ()


Expression: TypeAlias = "Read | Made"


# In bytes. To ask a store for each of a thousand small arrays by itself would take longer than they do.
AT_ONCE: Final = 2**26


def _slice(array: Array, axis: int, start: int, stop: int) -> Array:
    """The part of an array along an axis."""
    return array[(slice(None),) * axis + (slice(start, stop),)]


_OPERATIONS: "dict[str, Callable[..., Array]]" = {
    "slice": _slice,
    "transpose": lambda array, *axes: array.transpose(axes),
    "reshape": lambda array, *shape: array.reshape(shape),
    "cast": lambda array, dtype: array.astype(DTYPES[dtype]),
    "take": lambda array, axis, at: array[(slice(None),) * axis + (at,)],
}
"""What makes an array of one, and of the arguments."""

UNIONS: "dict[str, Callable[..., Array]]" = {
    "join": np.concatenate,
    "stack": np.stack,
    "sum": lambda arrays: functools.reduce(np.add, arrays),
}
"""What makes an array of a list of several, and of the arguments."""


def keys_of(expression: Expression) -> Iterator[Hashable]:
    """The arrays of the source that an expression takes."""
    todo: list[Expression] = [expression]
    while todo:
        part = todo.pop()
        if isinstance(part, Read):
            yield part.key
        else:
            todo += reversed(part.inputs)


def compute(expression: Expression, read: Callable[[Hashable], Array]) -> Array:
    """The array that an expression stands for."""
    # What has one input is followed by a loop: a thousand rules may change one array.
    steps: list[Made] = []
    while isinstance(expression, Made) and len(expression.inputs) == 1:
        steps.append(expression)
        expression = expression.inputs[0]
    if isinstance(expression, Read):
        array = read(expression.key)
    else:
        inputs = [compute(part, read) for part in expression.inputs]
        array = UNIONS[expression.kind](inputs, *expression.arguments)
    for step in reversed(steps):
        if step.kind in UNIONS:
            array = UNIONS[step.kind]([array], *step.arguments)
        else:
            array = _OPERATIONS[step.kind](array, *step.arguments)
    return array


# Any: what becomes of an array, such as one on a device.
def evaluated(
    expressions: Sequence[Expression],
    sizes: Mapping[Hashable, int],
    read: "Callable[[Sequence[Hashable]], Mapping[Hashable, Array]]",
    finish: Callable[[int, Array], Any],
    at_once: int = AT_ONCE,
) -> list[Any]:
    """What becomes of the arrays that some expressions stand for.

    In memory are, beyond the results, the arrays that one of the expressions takes, or
    several that together are small.

    Args:
        expressions: The expressions.
        sizes: The bytes of each array of the source.
        read: Reads some of these.
        finish: Makes the result of the array of an expression, by its number; what it
            gives is kept, and the array is not.
        at_once: Bytes that are read together, unless one expression takes more.
    """
    needed = [dict.fromkeys(keys_of(part)) for part in expressions]
    # The parts of one array follow each other, so that it is read once.
    first_use: dict[Hashable, int] = {}
    for keys in needed:
        for key in keys:
            first_use.setdefault(key, len(first_use))
    order = sorted(
        range(len(expressions)),
        key=lambda at: min([first_use[key] for key in needed[at]], default=0),
    )
    results: list[Any] = [None] * len(expressions)
    start = 0
    while start < len(order):
        together = dict(needed[order[start]])
        total, end = _size(together, sizes), start + 1
        while end < len(order):
            further = needed[order[end]].keys() - together.keys()
            total += _size(further, sizes)
            # What is read anyway may serve one more.
            if further and total > at_once:
                break
            together.update(needed[order[end]])
            end += 1
        arrays = read(list(together))
        for at in order[start:end]:
            results[at] = finish(at, compute(expressions[at], arrays.__getitem__))
        # Before the next ones are read.
        del arrays
        start = end
    return results


def _size(keys: Iterable[Hashable], sizes: Mapping[Hashable, int]) -> int:
    """For `evaluated`: the bytes of some arrays."""
    return sum([sizes[key] for key in keys])


def bytes_of(leaf: Leaf) -> int:
    """The bytes of an array; 0 for what is none, or a key."""
    dtype = DTYPES.get(leaf.dtype)
    return 0 if dtype is None else math.prod(leaf.shape) * dtype.itemsize
