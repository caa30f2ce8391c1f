"""What messages say of the types of values: dtype, shape and explicit sharding."""

from typing import Any

import jax

from .._describe import describe, shape_text
from ._result_nodes import ResultNode


def type_text(value: Any) -> str:
    """The type of a value: dtype and shape of an array, the tree of others with those in it."""
    leaves, treedef = jax.tree.flatten(value)
    texts = list(map(leaf_text, leaves))
    is_leaf = bool(leaves) and leaves[0] is value
    return texts[0] if is_leaf else f"{treedef} of {', '.join(texts)}"


def leaf_text(leaf: Any) -> str:
    """The type of an array: dtype and shape, and how it is laid out over an explicit mesh."""
    aval: Any = jax.typeof(leaf)
    text, sharding = shape_text(aval), getattr(aval, "sharding", None)
    # Nearly all arrays end here, and each trace notes the types of all States.
    if sharding is None or sharding.mesh.empty:
        return text
    axes = mesh_axes(leaf)
    return f"{text} as P({', '.join(map(repr, axes))})" if axes else text


def mesh_axes(leaf: Any) -> tuple[Any, ...]:
    """The axes of an explicit mesh that an array is laid out over, which are part of its type; none if it is not."""
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    axes = tuple(getattr(sharding, "spec", ()))
    return axes if any(axis is not None for axis in axes) else ()


def result_text(result: Any) -> str:
    """What a part of the result of a pure function is."""
    return "a node" if isinstance(result, ResultNode) else describe(result)


def pair_text(result: Any) -> str:
    """What a function returned that should have returned a tuple of another length."""
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return result_text(result)


def is_pair(result: Any) -> bool:
    """Whether a function returned a pair."""
    return isinstance(result, tuple) and len(result) == 2


def is_jax_type(leaf: object) -> bool:
    """Whether JAX computes with a leaf."""
    try:
        jax.typeof(leaf)
    except TypeError:
        return False
    return True
