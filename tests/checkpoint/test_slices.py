"""Parts of what changes make of arrays: equal to the same part of the whole, and made of parts."""

import math
from collections.abc import Hashable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnode.checkpoint._expressions import Array, Expression, Made, Read, compute
from graphnode.checkpoint._slices import Box, part_of, shape_of

ARRAYS: dict[Hashable, Array] = {
    "a": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b": np.arange(24, 48, dtype=np.float32).reshape(2, 3, 4),
}
SHAPES = {key: array.shape for key, array in ARRAYS.items()}


def read_part(key: Hashable, box: Box) -> Array:
    return ARRAYS[key][box]


STARTS: list[Expression] = [
    Read("a"),
    Made("join", (Read("a"), Read("b")), (1,)),
    Made("stack", (Read("b"), Read("a")), (0,)),
]


@st.composite
def expressions(draw: st.DrawFn) -> Expression:
    """An array that some operations make of others."""
    expression = draw(st.sampled_from(STARTS))
    for _ in range(draw(st.integers(0, 4))):
        shape = shape_of(expression, SHAPES)
        kinds = ["stack", "sum", "reshape", "cast", "join", "transpose", "slice", "take"]
        kind = draw(st.sampled_from(kinds if shape else kinds[:4]))
        axis = draw(st.integers(0, max(len(shape) - (kind != "stack"), 0)))
        inputs: tuple[Expression, ...] = (expression,)
        arguments: tuple[object, ...] = (axis,)
        match kind:
            case "join" | "stack":
                inputs = (expression, expression)
            case "sum":
                inputs, arguments = (expression, expression), ()
            case "transpose":
                axes = range(len(shape))
                arguments = (*axes[axis:], *axes[:axis])
            case "slice":
                start = draw(st.integers(0, shape[axis] - 1))
                arguments = (axis, start, draw(st.integers(start + 1, shape[axis])))
            case "take":
                arguments = (axis, draw(st.integers(0, shape[axis] - 1)))
            case "reshape":
                arguments = (math.prod(shape), 1)
            case _:
                arguments = ("float64",)
        expression = Made(kind, inputs, arguments)
    return expression


@given(expressions(), st.data())
def test_a_part_is_that_of_the_whole(expression: Expression, data: st.DataObject):
    """Of whatever changes make, any box."""
    whole = compute(expression, ARRAYS.__getitem__)
    assert shape_of(expression, SHAPES) == whole.shape
    starts = [data.draw(st.integers(0, size - 1)) for size in whole.shape]
    box = tuple(
        [slice(start, data.draw(st.integers(start + 1, size))) for start, size in zip(starts, whole.shape, strict=True)]
    )
    part = part_of(expression, box, SHAPES, read_part)
    np.testing.assert_array_equal(part, whole[box], strict=True)


@pytest.mark.parametrize(
    ("expression", "box", "expected"),
    [
        (Made("transpose", (Read("a"),), (2, 0, 1)), (slice(1, 2), slice(0, 2), slice(0, 3)), ["a[0:2, 0:3, 1:2]"]),
        (Made("slice", (Read("a"),), (1, 1, 3)), (slice(0, 1), slice(1, 2), slice(0, 4)), ["a[0:1, 2:3, 0:4]"]),
        (Made("stack", (Read("a"), Read("b")), (0,)), (slice(1, 2), *[slice(0, 2)] * 3), ["b[0:2, 0:2, 0:2]"]),
        (
            Made("join", (Read("a"), Read("b")), (1,)),
            (slice(0, 2), slice(2, 5), slice(0, 4)),
            ["a[0:2, 2:3, 0:4]", "b[0:2, 0:2, 0:4]"],
        ),
        (Made("take", (Read("b"),), (0, 1)), (slice(0, 1), slice(0, 4)), ["b[1:2, 0:1, 0:4]"]),
        (Made("reshape", (Read("a"),), (6, 4)), (slice(0, 1), slice(0, 4)), ["a[0:2, 0:3, 0:4]"]),
    ],
)
def test_what_is_read_for_a_part(expression: Expression, box: Box, expected: list[str]):
    """No more than it needs; before a reshape, all."""
    seen: list[str] = []

    def read(key: Hashable, box: Box) -> Array:
        rows = ", ".join(f"{part.start}:{part.stop}" for part in box)
        seen.append(f"{key}[{rows}]")
        return ARRAYS[key][box]

    part_of(expression, box, SHAPES, read)
    assert seen == expected
