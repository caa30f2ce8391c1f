"""A part of an array that an expression stands for, made of parts of what it is made of.

    Transpose of "kernel", rows 0 to 4     reads columns 0 to 4 of "kernel"
    Stack of 24 layers, rows 6 to 12       reads layers 6 to 12

So each device of a mesh gets its part, and no array is whole in memory. Only what comes
before a reshape is read as a whole: its parts are no boxes there.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ._expressions import UNIONS, Array, Expression, Made, Read
from ._leaf import DTYPES
from ._shapes import inserted, with_size

Box: TypeAlias = tuple[slice, ...]
"""Of each axis, a start and a stop."""

Shapes: TypeAlias = Mapping[Hashable, tuple[int, ...]]
"""Those of the arrays of a source, by key."""


def part_of(
    expression: Expression,
    box: Box,
    shapes: Shapes,
    read: Callable[[Hashable, Box], Array],
) -> Array:
    """The part of an array that an expression stands for.

    Args:
        expression: The expression.
        box: The part.
        shapes: The shapes of the arrays that are read.
        read: Reads a part of one of them.
    """
    # What has one input is followed by a loop: a thousand rules may change one array.
    steps: list[Callable[[Array], Array]] = []
    while isinstance(expression, Made) and expression.kind not in UNIONS:
        (inner,) = expression.inputs
        box, step = _inner_box(expression, box, shape_of(inner, shapes))
        steps.append(step)
        expression = inner
    array = (
        read(expression.key, box)
        if isinstance(expression, Read)
        else _united(expression, box, shapes, read)
    )
    for step in reversed(steps):
        array = step(array)
    return array


def _inner_box(
    made: Made, box: Box, inner: tuple[int, ...]
) -> tuple[Box, Callable[[Array], Array]]:
    """For `part_of`: the part that is needed of the one input of an expression, and what makes the wanted part of it.

    Args:
        made: The expression.
        box: The wanted part.
        inner: The shape of the input.
    """
    arguments = made.arguments
    match made.kind:
        case "transpose":
            needed = dict(zip(arguments, box, strict=True))
            rows = tuple([needed[axis] for axis in range(len(box))])
            return rows, lambda array: array.transpose(arguments)
        case "slice":
            axis, start, _ = arguments
            rows = box[axis]
            moved = slice(start + rows.start, start + rows.stop)
            return (*box[:axis], moved, *box[axis + 1 :]), lambda array: array
        case "take":
            axis, at = arguments
            one = slice(at, at + 1)
            return inserted(box, axis, one), lambda array: array.squeeze(axis)
        case "reshape":
            # A view would keep all of it in memory.
            return whole(inner), lambda array: array.reshape(arguments)[box].copy()
        case "cast":
            dtype = DTYPES[arguments[0]]
            return box, lambda array: array.astype(dtype)
        case _:
            raise AssertionError(made.kind)


def _united(
    made: Made, box: Box, shapes: Shapes, read: Callable[[Hashable, Box], Array]
) -> Array:
    """For `part_of`: the part of what several arrays become one by: of those of them that have some of it."""
    if made.kind == "sum":
        return UNIONS["sum"]([part_of(one, box, shapes, read) for one in made.inputs])
    (axis,) = made.arguments
    rows = box[axis]
    if made.kind == "stack":
        others = (*box[:axis], *box[axis + 1 :])
        chosen = made.inputs[rows.start : rows.stop]
        return np.stack([part_of(one, others, shapes, read) for one in chosen], axis)
    parts: list[Array] = []
    start = 0
    for one in made.inputs:
        size = shape_of(one, shapes)[axis]
        own = slice(max(rows.start - start, 0), min(rows.stop - start, size))
        if own.start < own.stop:
            own_box = (*box[:axis], own, *box[axis + 1 :])
            parts.append(part_of(one, own_box, shapes, read))
        start += size
    return np.concatenate(parts, axis)


def whole(shape: Sequence[int]) -> Box:
    """The box that is all of an array."""
    return tuple([slice(0, size) for size in shape])


def shape_of(expression: Expression, shapes: Shapes) -> tuple[int, ...]:
    """The shape of what an expression stands for."""
    steps: list[Made] = []
    while isinstance(expression, Made) and expression.kind not in UNIONS:
        steps.append(expression)
        (expression,) = expression.inputs
    if isinstance(expression, Read):
        shape = shapes[expression.key]
    else:
        inputs = [shape_of(one, shapes) for one in expression.inputs]
        match expression.kind, expression.arguments:
            case "stack", (axis,):
                shape = inserted(inputs[0], axis, len(inputs))
            case "join", (axis,):
                shape = with_size(inputs[0], axis, sum([one[axis] for one in inputs]))
            case _:
                shape = inputs[0]
    for step in reversed(steps):
        match step.kind, step.arguments:
            case "transpose", axes:
                shape = tuple([shape[axis] for axis in axes])
            case "slice", (axis, start, stop):
                shape = with_size(shape, axis, stop - start)
            case "take", (axis, _):
                shape = (*shape[:axis], *shape[axis + 1 :])
            case "reshape", new:
                shape = tuple(new)
            case _:
                pass
    return shape
