"""Copies of nodes with shapes in place of arrays: what a summary traces, in place of the user's model."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from .._compat import Tracer
from .._errors import DonationError, listed
from .._graph._binding import Binding
from .._graph._binding_cache import binding_of
from .._graph._unflatten import build
from .._paths import Path, path_str

N = TypeVar("N")


def abstract(root: N, name_of: Callable[[Path], str] = path_str) -> N:
    """A copy of a node, or of a pytree of nodes, with shapes in place of arrays; what is shared stays shared.

    Args:
        root: The node.
        name_of: What messages call the State at a path.

    Raises:
        DonationError: The memory of some States was given away; names all.
        StructureError: It is neither a node nor a pytree of nodes.
    """
    binding = binding_of(root)
    values = [state._value for state in binding.states]
    _check_memory(binding, values, name_of)
    copy: N = build(binding.graphdef, jax.tree.map(shape_of, values))
    return copy


# Any: a node or pytree of any class.
def model_of(model: Any) -> Any:
    """The model of a config, with shapes in place of arrays; anything else as it is."""
    # It needs pydantic, and who has a config has imported it.
    package = __name__.partition(".")[0]
    configs = sys.modules.get(f"{package}.config._summary")
    if configs is not None and isinstance(model, configs.Config):
        return configs.abstract_model(model)
    return model


def _check_memory(
    binding: Binding, values: list[Any], name_of: Callable[[Path], str]
) -> None:
    """Refuse States whose arrays are no longer there: it is not known that the next call has others like them."""
    faults = [
        f"{name_of(binding.graphdef.layout.path(at))}: its memory was given to another call, or deleted"
        for at, value in enumerate(values)
        if any(_is_deleted(leaf) for leaf in jax.tree.leaves(value))
    ]
    if faults:
        raise DonationError(
            f"{listed(faults)}; write a new value first, or restore the model"
        )


def _is_deleted(leaf: Any) -> bool:
    """Whether an array has lost its memory; a tracer has none to lose."""
    is_array = isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)
    return is_array and leaf.is_deleted()


# Any: a leaf of a State's value, and what stands for it.
def shape_of(leaf: Any) -> Any:
    """The shape and dtype of an array or number; any other leaf as it is."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    try:
        aval: Any = jax.typeof(leaf)
    except TypeError:
        return leaf
    # Over an explicit mesh the layout is part of the type, and code may depend on it.
    sharding = None if aval.sharding.mesh.empty else aval.sharding
    return shaped(aval.shape, aval.dtype, aval.weak_type, sharding)


# Any: symbolic sizes, and dtypes of keys, have no public classes.
def shaped(
    shape: Any,
    dtype: Any,
    weak_type: bool = False,
    sharding: jax.sharding.Sharding | None = None,
) -> jax.ShapeDtypeStruct:
    """A shape and dtype in place of an array."""
    return jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]  # JAX's own
        shape, dtype, weak_type=weak_type, sharding=sharding
    )
