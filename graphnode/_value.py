"""What a State holds: a pytree whose containers are its own and whose arrays are JAX's.

Data in: a value from outside, a caller's or another State's. Data out: the same leaves
in new containers, so that a write into the one is never seen in the other. A plain
array is its own answer, and costs one test of its type.
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

from ._compat import PLAIN
from ._errors import FieldError, listed
from ._hints import with_article
from ._static import GraphObject

_FLOAT0: Final = jax.dtypes.float0


def is_container(value: Any) -> bool:
    """Whether a value has an inside that can be written to: any registered pytree that is not a leaf."""
    if type(value) in PLAIN or value is None or isinstance(value, jax.Array):
        return False
    return not all_leaves((value,))


def rebuilt(value: Any) -> Any:
    """The value with containers of its own; leaves by identity."""
    if type(value) in PLAIN:
        return value
    leaves, treedef = tree_flatten(value)
    return tree_unflatten(treedef, leaves)


def all_rebuilt(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values with containers of their own; the same tuple where all are plain arrays."""
    if PLAIN.issuperset(map(type, values)):
        return values
    return tuple(map(rebuilt, values))


def take_in(value: Any, owner: Callable[[], str]) -> Any:
    """The value as a State keeps it: containers are new, NumPy arrays become JAX arrays of the same dtype.

    Args:
        value: Any pytree.
        owner: Gives what messages call the State.

    Raises:
        FieldError: The value holds a State or a node, or a NumPy array whose dtype JAX
            would change; names all.
    """
    if type(value) in PLAIN or isinstance(value, jax.Array):
        return value
    leaves, treedef = tree_flatten(value)
    if any(isinstance(leaf, GraphObject | np.ndarray | np.generic) for leaf in leaves):
        faults = _faults(value)
        if faults:
            raise FieldError(f"{owner()}: {listed(faults)}")
        leaves = list(map(_as_jax, leaves))
    return tree_unflatten(treedef, leaves)


def take_in_all(values: Sequence[Any], owners: Sequence[str]) -> list[Any]:
    """Values as States keep them, each with the name of its State for messages.

    Raises:
        FieldError: As `take_in`, for all values at once.
    """
    kept: list[Any] = []
    faults: list[str] = []
    for value, owner in zip(values, owners, strict=True):
        try:
            kept.append(take_in(value, functools.partial(str, owner)))
        except FieldError as error:
            faults.append(str(error))
    if faults:
        raise FieldError(listed(faults))
    return kept


def _as_jax(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype == _FLOAT0:
        return leaf
    return array_of(leaf)


def array_of(array: "np.ndarray[Any, np.dtype[Any]] | np.generic") -> jax.Array:
    """An array of NumPy as one of JAX, whatever its owner writes to it from now on."""
    # JAX may share the memory that it is given, and `jnp.array` copies it in the
    # background, when its owner may have written to it. Nobody else has this copy.
    own = np.array(array, dtype=array.dtype.newbyteorder("="))
    # A constant: inside of a trace, too, it is not a tracer.
    with jax.ensure_compile_time_eval():
        return jnp.asarray(own)


def _faults(value: Any) -> list[str]:
    faults: list[str] = []
    for key_path, leaf in tree_flatten_with_path(value)[0]:
        fault = _fault(leaf)
        if fault is not None:
            faults.append(f"{keystr(key_path)}: {fault}" if key_path else fault)
    return faults


def _fault(leaf: Any) -> str | None:
    """Why a State cannot hold a leaf, or `None`."""
    if isinstance(leaf, GraphObject):
        name = type(leaf).__name__
        found = with_article(name)
        return f"a State holds arrays, not {found}: give its value, or declare a field of the node for the {name}"
    if isinstance(leaf, np.ma.MaskedArray):
        return (
            "JAX has no masked arrays: hold the data and the mask, or array.filled(...)"
        )
    if not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype == _FLOAT0:
        return None
    dtype = leaf.dtype.newbyteorder("=")
    if not _is_jax_dtype(dtype):
        return f"JAX has no arrays of dtype {dtype}"
    kept = jax.dtypes.canonicalize_dtype(dtype)
    if kept == dtype:
        return None
    return (
        f"JAX would turn a NumPy array of {dtype} into {kept}: give array.astype({str(kept)!r}), or enable "
        f"jax_enable_x64 to keep {dtype}"
    )


def _is_jax_dtype(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufc" or jnp.issubdtype(dtype, np.number)
