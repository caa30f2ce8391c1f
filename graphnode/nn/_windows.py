"""What layers that move a window over spatial axes share: padding, and the batch axes before.

From the `padding` of a layer as it was written, and an input with any number of batch
axes, to what JAX's convolutions and `reduce_window` take. The channels are the last axis
everywhere.
"""

import math
from typing import Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp

from .._declare._node import Node
from .._errors import ContractError
from ._checks import is_integer, place

Padding: TypeAlias = (
    Literal["SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL"]
    | int
    | tuple[int, ...]
    | tuple[tuple[int, int], ...]
)
"""A name, or how much is added: on both sides of all axes, of each axis, or before and after each axis."""
Amounts: TypeAlias = tuple[tuple[int, int], ...]
Named: TypeAlias = Literal["SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL"]

PADDINGS: Final[tuple[Named, ...]] = ("SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL")
# How the axes of input, weight and output are called, by the number of spatial axes.
DIMENSIONS: Final = {
    1: ("NHC", "HIO", "NHC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NHWDC", "HWDIO", "NHWDC"),
}
# What `jnp.pad` calls them.
_MODES: Final[dict[object, str]] = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


# Any: a field may hold whatever a caller passed in spite of its type.
def padding_of(
    where: str, padding: Any, rank: int, names: tuple[Named, ...]
) -> Named | Amounts:
    """For a layer's `padding`: `padding` as a name, or as amounts before and after each axis.

    Raises:
        ContractError: It is neither.
    """
    # "Before" has a meaning along one axis alone.
    admitted: list[Named] = [name for name in names if name != "CAUSAL" or rank == 1]
    if isinstance(padding, str):
        for name in admitted:
            if name == padding:
                return name
    # An integer is for all axes, and on both sides.
    each = padding if isinstance(padding, tuple) else (padding,) * rank
    pairs = [
        amount if isinstance(amount, tuple) else (amount, amount) for amount in each
    ]
    if len(pairs) != rank or not all(map(_is_pair, pairs)):
        expected = f"{', '.join(map(repr, admitted))}, an integer, or {rank} integers or pairs of them"
        raise ContractError(f"{where}: expected {expected}; found {padding!r}")
    return tuple((int(before), int(after)) for before, after in pairs)


def _is_pair(pair: tuple[object, ...]) -> bool:
    """For `padding_of`: whether it is what is added before and after an axis, two integers of at least 0."""
    return len(pair) == 2 and all(is_integer(amount, 0) for amount in pair)


def pad(
    x: jax.Array, padding: Named | Amounts, reach: tuple[int, ...]
) -> tuple[jax.Array, str | Amounts]:
    """`x` with what JAX's windows do not pad with themselves, and the padding that they do.

    Args:
        x: Of shape `[batch, *spatial, channels]`.
        padding: From `padding_of`.
        reach: The size of the dilated window less one, along each axis.
    """
    if padding == "CAUSAL":
        return x, tuple((size, 0) for size in reach)
    mode: Any = _MODES.get(padding)  # to numpy's stubs, one of its modes
    if mode is None:
        return x, padding
    # As "SAME" pads without strides: the odd element goes behind.
    around = [(size // 2, size - size // 2) for size in reach]
    return jnp.pad(x, ((0, 0), *around, (0, 0)), mode), "VALID"


def around_spread(
    x: jax.Array,
    padding: Named | Amounts,
    reach: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Named | Amounts:
    """The padding around an input whose elements are spread, with `"SAME"` and `"VALID"` as amounts.

    Args:
        x: Of shape `[batch, *spatial, channels]`, before it is spread.
        padding: From `padding_of`.
        reach: The size of the dilated window less one, along each axis.
        strides: Steps between windows.
        dilation: How far the elements are spread.
    """
    if padding not in ("SAME", "VALID"):
        return padding
    # An empty axis stays empty.
    sizes = [
        max((size - 1) * step + 1, 0)
        for size, step in zip(x.shape[1:-1], dilation, strict=True)
    ]
    window = [size + 1 for size in reach]
    pairs = jax.lax.padtype_to_pads(sizes, window, strides, padding)
    return tuple([(int(before), int(after)) for before, after in pairs])


def one_batch(layer: Node, x: jax.Array, rank: int) -> jax.Array:
    """`x` of shape `[*batch, *spatial, channels]`, with `rank` spatial axes, as `[batch, *spatial, channels]`.

    JAX's convolutions take one batch axis; `as_batch` is the way back.

    Raises:
        ContractError: It has fewer axes.
    """
    if x.ndim <= rank:
        expected = f"an input of shape (..., {'spatial, ' * rank}channels)"
        raise ContractError(f"{place(layer)}: expected {expected}; found {x.shape}")
    batch = x.shape[: x.ndim - rank - 1]
    # The product rather than -1, which JAX cannot infer in an empty batch.
    return x if len(batch) == 1 else x.reshape(math.prod(batch), *x.shape[len(batch) :])
