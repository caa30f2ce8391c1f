"""Give the numbers in a model another dtype, in place: all States that a filter selects, or none."""

import functools
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ._describe import describe
from ._errors import ContractError, FilterError, listed
from ._filters import Filter, as_filter
from ._graph._binding_cache import binding_of
from ._paths import path_str
from ._signals import store_all
from ._split import states
from ._state import ParamState, contract_faults, value_to_store
from ._statetree import StateTree


def cast(
    node: object, /, dtype: DTypeLike, filter: Filter | EllipsisType = ParamState
) -> None:
    """Give States another floating dtype, in place: `gn.cast(model, jnp.bfloat16)` halves the memory of parameters.

    Floating arrays alone are cast; integers, booleans, complex numbers and keys stay. The
    States keep their identity, shapes and shardings; an array that has the dtype is kept.
    What a layer computes in is its field `dtype`, and stays. So does the memory of an
    optimizer: `gn.cast([model, optimizer], dtype, ...)` casts both.

    Args:
        node: A node, or a pytree of nodes.
        dtype: A floating dtype; `float` is JAX's default.
        filter: Which States; `...` for all.

    Raises:
        ContractError: The field of a State declares another dtype; names all. Nothing was
            written.
        FilterError: The filter selects nothing.
        TypeError: `dtype` is not a floating dtype; or `node` is a state tree, which
            holds values that do not change.
        ValueError: JAX is not set to compute in this dtype, as float64 by default.
        TraceError: A transformation runs that the States are not part of. Nothing was
            written.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gn.cast(model, jnp.bfloat16)
        >>> model.weight.value.dtype
        dtype(bfloat16)

    See also: `update_states`, which writes values and keeps their dtypes; `clone`, for a
    copy to cast.
    """
    target = _checked_dtype(dtype)
    _refuse_state_trees(node)
    selected = states(node, filter)
    name = binding_of(node).graphdef.type.__name__
    if not selected:
        raise FilterError(
            f"gn.cast: no State of {name} is selected by {as_filter(filter)!r}"
        )
    values = [
        jax.tree.map(lambda leaf: _cast_leaf(leaf, target), state.value)
        for state in selected.values()
    ]
    faults: list[str] = []
    for (path, state), value in zip(selected.items(), values, strict=True):
        # A contract says `Linear.weight: expected ...`; here the path says where.
        faults += [
            f"{path_str(path)}: {fault.partition(': ')[2]}"
            for fault in contract_faults(state, value)
        ]
    if faults:
        raise ContractError(
            f"cannot cast States of {name} to {target.name}: {listed(faults)}"
        )
    contents = [
        value_to_store(state, value, functools.partial(path_str, path))
        for (path, state), value in zip(selected.items(), values, strict=True)
    ]
    store_all(list(selected.values()), contents)


# Any: any leaf of a value.
def _cast_leaf(leaf: Any, dtype: np.dtype[Any]) -> Any:
    """A floating array in another dtype; any other leaf as it is, and an array that has the dtype."""
    before = getattr(leaf, "dtype", None)
    if before is None or before == dtype or not jnp.issubdtype(before, jnp.floating):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        make: Any = jax.ShapeDtypeStruct  # JAX does not type it
        return make(leaf.shape, dtype, sharding=leaf.sharding)
    return leaf.astype(dtype)


# Any: whatever a caller gives.
def _checked_dtype(dtype: Any) -> np.dtype[Any]:
    """The argument `dtype` of `cast`.

    Raises:
        TypeError: It is not a floating dtype.
        ValueError: JAX would take another one in its place.
    """
    if dtype is float:
        return jax.dtypes.canonicalize_dtype(float)  # JAX's default
    try:
        # NumPy takes None for float64.
        found = None if dtype is None else jnp.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        text = describe(dtype) if found is None else found.name
        raise TypeError(
            f"gn.cast: dtype is a floating dtype, such as jnp.bfloat16; found {text}"
        )
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(
            f"gn.cast: JAX computes in no {found.name} unless it is told to, by "
            "jax.config.update('jax_enable_x64', True)"
        )
    result: np.dtype[Any] = found
    return result


def _refuse_state_trees(node: object) -> None:
    """Raise if values are given in place of a node.

    Raises:
        TypeError: Says what can be written instead.
    """
    if isinstance(node, StateTree):
        raise TypeError(
            "gn.cast takes a node, whose States it writes; found a StateTree. Make another one: jax.tree.map(lambda "
            "array: array.astype(dtype), tree), or cast a gn.clone of the node"
        )
