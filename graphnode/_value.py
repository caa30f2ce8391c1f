"""The values of States: pytrees whose containers belong to the State, and whose arrays are JAX's.

A value from outside, a caller's or another State's, gets new containers around the same
leaves, so that a write into one is never seen in the other. A plain array stays as it
is, which costs one test of its type.

    state.value = {"a": jax_array, "b": numpy_array}
    holds   another dict, the same jax_array, a copy of numpy_array as a JAX array
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import (
    all_leaves,
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_unflatten,
)

from ._compat import PLAIN, check_stand_ins
from ._errors import FieldError, listed
from ._hints import with_article
from ._static import GraphObject

# The dtype of gradients of integers: JAX has no such arrays itself, and uses those of
# NumPy.
_FLOAT0: Final = jax.dtypes.float0


def is_container(value: Any) -> bool:
    """Whether a value is a pytree that is not a leaf, and so may be written into.

    A State that holds one is marked, so that its value is copied when it is read.
    """
    if type(value) in PLAIN or value is None or isinstance(value, jax.Array):
        return False
    return not all_leaves((value,))


def rebuilt(value: Any) -> Any:
    """A value in new containers, so that a write into them shows nowhere else; leaves by identity."""
    if type(value) in PLAIN:
        return value
    leaves, treedef = tree_flatten(value)
    return tree_unflatten(treedef, leaves)


def all_rebuilt(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """For state trees: several values, each in new containers; the same tuple where all are plain arrays."""
    if PLAIN.issuperset(map(type, values)):
        return values
    return tuple(map(rebuilt, values))


def take_in(value: Any, owner: Callable[[], str]) -> Any:
    """The value as a State holds it: with new containers, and NumPy arrays as JAX arrays of the same dtype.

    Args:
        value: Any pytree.
        owner: Returns the name of the State for messages.

    Raises:
        FieldError: The value holds a State or a node, or a NumPy array whose dtype JAX
            would change; names all.
        TraceError: It holds what stood for a State in a trace that is over.
    """
    if type(value) in PLAIN:
        return value
    if isinstance(value, jax.Array):
        check_stand_ins((value,))
        return value
    leaves, treedef = tree_flatten(value)
    check_stand_ins(leaves)
    if any(isinstance(leaf, GraphObject | np.ndarray | np.generic) for leaf in leaves):
        faults = _value_faults(value)
        if faults:
            raise FieldError(f"{owner()}: {listed(faults)}")
        leaves = list(map(_as_jax, leaves))
    return tree_unflatten(treedef, leaves)


def take_in_all(values: Sequence[Any], owners: Sequence[str]) -> list[Any]:
    """Several values, each as a State holds it: new containers, and NumPy arrays as JAX arrays.

    Args:
        values: Any pytrees.
        owners: The names of their States, for messages.

    Raises:
        FieldError: As `take_in`, for all values at once.
    """
    contents: list[Any] = []
    faults: list[str] = []
    for value, owner in zip(values, owners, strict=True):
        try:
            contents.append(take_in(value, functools.partial(str, owner)))
        except FieldError as error:
            faults.append(str(error))
    if faults:
        raise FieldError(listed(faults))
    return contents


def _as_jax(leaf: Any) -> Any:
    """For `take_in`: a leaf as States hold it: a NumPy array or scalar as a JAX array, anything else as it is."""
    if not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype == _FLOAT0:
        return leaf
    return array_of(leaf)


def array_of(array: "np.ndarray[Any, np.dtype[Any]] | np.generic") -> jax.Array:
    """A NumPy array as a JAX array, unaffected by later writes of its owner."""
    # Copied here, as `jnp.asarray` may share the memory, and `jnp.array` copies in the
    # background, when the owner may have written to it.
    own = np.array(array, dtype=array.dtype.newbyteorder("="))
    # A constant: not a tracer, also inside a trace.
    with jax.ensure_compile_time_eval():
        return jnp.asarray(own)


def _value_faults(value: Any) -> list[str]:
    """For `take_in`: why a State cannot hold the leaves of a value: for each such leaf its key path, and why."""
    faults: list[str] = []
    for key_path, leaf in tree_flatten_with_path(value)[0]:
        fault = _leaf_fault(leaf)
        if fault is not None:
            faults.append(f"{keystr(key_path)}: {fault}" if key_path else fault)
    return faults


def _leaf_fault(leaf: Any) -> str | None:
    """For `_value_faults`: why a State cannot hold a leaf, or `None`."""
    if isinstance(leaf, GraphObject):
        name = type(leaf).__name__
        return (
            f"a State holds arrays, not {with_article(name)}: give its value, or declare a field of the node for the "
            f"{name}"
        )
    # Ahead of arrays, of which it is a subclass: JAX would drop the mask.
    if isinstance(leaf, np.ma.MaskedArray):
        return (
            "JAX has no masked arrays: hold the data and the mask, or array.filled(...)"
        )
    if not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype == _FLOAT0:
        return None
    dtype = leaf.dtype.newbyteorder("=")
    if not _is_jax_dtype(dtype):
        return f"JAX has no arrays of dtype {dtype}"
    jax_dtype = jax.dtypes.canonicalize_dtype(dtype)
    if jax_dtype == dtype:
        return None
    return (
        f"JAX would turn a NumPy array of {dtype} into {jax_dtype}: give array.astype({str(jax_dtype)!r}), or enable "
        f"jax_enable_x64 to keep {dtype}"
    )


def _is_jax_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether JAX has arrays of a NumPy dtype, `bfloat16` and other extensions included."""
    # The dtypes that JAX adds have the kind V, and count as numbers to JAX alone.
    return dtype.kind in "biufc" or jnp.issubdtype(dtype, np.number)
