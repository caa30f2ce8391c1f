"""The arrays that a source has for some States, as changes make them, each where it is to be."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Sharding

from ._boxes import on_devices
from ._expressions import Array, Expression, evaluated, keys_of
from ._leaf import ARRAY, DTYPES, Leaf
from ._read import placed
from ._slices import part_of
from ._sources import Source


class WantedArray(NamedTuple):
    """An array for a State: how it is made, what it is, and where it is to be."""

    expression: Expression
    leaf: Leaf
    sharding: Sharding | None


def values_of(source: Source, wanted: Sequence[WantedArray]) -> list[Any]:
    """An array for each State; over several devices, each reads its part, if the source has parts."""
    values: list[Any] = [None] * len(wanted)
    whole: list[int] = []
    for at, one in enumerate(wanted):
        if _has_parts(source, one):
            values[at] = _by_parts(source, one)
        else:
            whole.append(at)

    def finish(rank: int, array: Array) -> Any:
        one = wanted[whole[rank]]
        return placed(array, one.leaf.kind, one.sharding)

    expressions = [wanted[at].expression for at in whole]
    results = evaluated(expressions, source.sizes, source.read, finish, source.at_once)
    for at, value in zip(whole, results, strict=True):
        values[at] = value
    return values


def _has_parts(source: Source, wanted: WantedArray) -> bool:
    """For `values_of`: whether an array is read part by part."""
    if wanted.sharding is None or len(wanted.sharding.device_set) == 1:
        return False
    keys = set(keys_of(wanted.expression))
    is_array = wanted.leaf.kind == ARRAY and math.prod(wanted.leaf.shape) > 0
    return is_array and keys <= source.shapes.keys()


def _by_parts(source: Source, wanted: WantedArray) -> jax.Array:
    """For `values_of`: an array over several devices, none of which gets more than its part."""
    assert source.read_part is not None
    assert wanted.sharding is not None
    read = functools.partial(
        part_of, wanted.expression, shapes=source.shapes, read=source.read_part
    )
    leaf = wanted.leaf
    return on_devices(leaf.shape, DTYPES[leaf.dtype], wanted.sharding, read)
