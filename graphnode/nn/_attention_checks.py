"""Checks of `MultiHeadAttention`: of its fields, and of the arrays it is called with."""

# Any: the layer, which is declared to the right of this module; and what its fields may
# hold in spite of their types.
from typing import Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from .._declare._node import Node
from .._errors import ContractError
from ._checks import check_inputs, function, place, positive
from ._masks import reach
from ._rotary import is_counted

MapName: TypeAlias = Literal["query", "key", "value", "out"]
Queried: TypeAlias = Float[Array, "*batch time width"]
Context: TypeAlias = Float[Array, "*batch context context_size"]
Lengths: TypeAlias = Integer[Array, "*batch"]

MAPS: Final[tuple[MapName, ...]] = ("query", "key", "value", "out")


def names_with_bias(where: str, use_bias: Any) -> tuple[MapName, ...]:
    """The linear maps that have a bias.

    Raises:
        ContractError: Neither a boolean nor a tuple of their names.
    """
    if isinstance(use_bias, bool):
        return MAPS if use_bias else ()
    is_row = isinstance(use_bias, tuple)
    names: list[MapName] = [name for name in MAPS if is_row and name in use_bias]
    if not is_row or len(names) < len(use_bias):
        raise ContractError(
            f"{where}: expected a boolean, or a tuple of names among {', '.join(map(repr, MAPS))}; found {use_bias!r}"
        )
    return tuple(names)


def shown_biases(has_bias: dict[MapName, bool]) -> bool | tuple[MapName, ...]:
    """The way back: what `use_bias` was, from which of the maps have a bias."""
    names: list[MapName] = [name for name, is_there in has_bias.items() if is_there]
    return bool(names) if len(names) in (0, len(MAPS)) else tuple(names)


def check_scores(layer: Any, cls: str) -> None:
    """Raise if options of scores are not what they should be, or exclude each other; keep numbers as Python's.

    Raises:
        ContractError: Names the field.
    """
    if layer.window is not None:
        reach(f"{cls}.window", layer.window)
    for name in ("scale", "soft_cap"):
        value = getattr(layer, name)
        if value is not None:
            setattr(layer, name, positive(f"{cls}.{name}", value))
    if layer.attend is None:
        return
    function(f"{cls}.attend", layer.attend)
    for name in ("scale", "soft_cap", "dropout"):
        if getattr(layer, name) is not None:
            raise ContractError(
                f"{cls}.{name}: expected none beside attend, a function in place of it; found "
                f"{getattr(layer, name)!r}"
            )


def check_rotation(layer: Any, cls: str) -> None:
    """Raise if heads cannot be rotated, or are to be in two ways.

    Raises:
        ContractError: Names the field.
    """
    if layer.rotary_base is not None:
        layer.rotary_base = positive(f"{cls}.rotary_base", layer.rotary_base)
        if layer.rotary is not None:
            raise ContractError(
                f"{cls}.rotary_base: expected none beside rotary, which has a base; found {layer.rotary_base}"
            )
        if layer.head_size % 2:
            raise ContractError(
                f"{cls}.head_size: expected an even number for rotary positions; found {layer.head_size}"
            )
    if layer.rotary is not None:
        layer.rotary.rotated_features(f"{cls}.rotary", layer.head_size)


def check_no_norms(layer: Any, cls: str) -> None:
    """Raise if norms are given where the constructor is to make them.

    Raises:
        ContractError: Names the first one.
    """
    for name in ("query_norm", "key_norm"):
        if getattr(layer, name) is not None:
            raise ContractError(
                f"{cls}.normalize_qk: expected False beside {name}, which is what it makes; found True"
            )


def check_norms(layer: Any, cls: str) -> None:
    """Raise if norms of queries and keys are of another number of features.

    Raises:
        ContractError: Names the field.
    """
    counts = {"query_norm": layer.num_heads, "key_norm": layer.num_kv_heads}
    for name, num_heads in counts.items():
        norm = getattr(layer, name)
        if norm is None:
            continue
        of_head, of_all = layer.head_size, num_heads * layer.head_size
        if norm.width not in (of_head, of_all):
            raise ContractError(
                f"{cls}.{name}: expected a norm of {of_head} features, those of a head, or of {of_all}, those of all; "
                f"found width={norm.width}"
            )


def check_arrays(
    layer: Node,
    x: jax.Array,
    context: jax.Array | None,
    value: jax.Array | None,
    positions: jax.Array | None,
    lengths: jax.Array | None,
) -> None:
    """Raise if the arrays of a call are not of the shapes that they should have, or do not belong together.

    Raises:
        ContractError: They are not, or do not.
    """
    # Any: to type checkers, the annotations of arrays are not classes.
    arrays: dict[str, tuple[jax.Array, Any]] = {"x": (x, Queried)}
    if context is not None:
        arrays["context"] = (context, Context)
    if value is not None:
        arrays["value"] = (value, Context)
    if lengths is not None:
        arrays["lengths"] = (lengths, Lengths)
    check_inputs(layer, **arrays)
    if context is None and value is not None:
        raise ContractError(
            f"{place(layer)}: value: expected none without a context, of which keys are made; found {value.shape}"
        )
    if positions is None:
        return
    shape = x.shape[:-1]
    if positions.shape not in (shape, shape[-1:]) or not is_counted(positions):
        raise ContractError(
            f"{place(layer)}: positions: expected integers of shape {shape} or {shape[-1:]}; found "
            f"{positions.dtype} of shape {positions.shape}"
        )


def check_masks(
    layer: Node,
    query: jax.Array,
    context: int | None,
    *,
    mask: jax.Array | None,
    bias: jax.Array | None,
) -> None:
    """Raise if a mask or bias does not broadcast to the scores.

    Args:
        layer: The layer, to be named.
        query: The queries, of shape `[*batch, time, heads, head_size]`.
        context: How many elements are attended to; `None` if they change their places.
        mask: Who attends to whom.
        bias: What is added.

    Raises:
        ContractError: Another shape, or another dtype.
    """
    arrays = {"mask": (mask, jnp.bool_, "bool"), "bias": (bias, jnp.floating, "float")}
    for name, (array, kind, text) in arrays.items():
        if array is None:
            continue
        if context is None:
            raise ContractError(
                f"{place(layer)}: {name}: expected none with a RollingCache, whose entries change their places; "
                f"found {array.dtype} of shape {array.shape}"
            )
        shape = _scores_shape(query, context)
        if not _broadcasts(array, shape) or not jnp.issubdtype(array.dtype, kind):
            raise ContractError(
                f"{place(layer)}: {name}: expected {text} of shape {shape}, where any axis may have size 1; "
                f"found {array.dtype} of shape {array.shape}"
            )


def check_score_bias(
    layer: Node, query: jax.Array, context: int, bias: jax.Array
) -> None:
    """Raise if what a score bias gave does not broadcast to the scores.

    Raises:
        ContractError: Another shape, such as of another number of heads.
    """
    shape = _scores_shape(query, context)
    if not _broadcasts(bias, shape):
        raise ContractError(
            f"{place(layer)}: score_bias: expected it to give an array of shape {shape}, where any axis may have size "
            f"1; found {bias.shape}"
        )


def _scores_shape(query: jax.Array, context: int) -> tuple[int, ...]:
    """The shape of scores: `[*batch, heads, time, context]`."""
    return (*query.shape[:-3], query.shape[-2], query.shape[-3], context)


def _broadcasts(array: jax.Array, shape: tuple[int, ...]) -> bool:
    """Whether an array has as many axes as a shape, each of its size or of size 1."""
    return array.ndim == len(shape) and all(
        size in (1, expected) for size, expected in zip(array.shape, shape, strict=True)
    )
