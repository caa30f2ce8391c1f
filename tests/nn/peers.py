"""Layers beside those of flax and equinox: equal numbers go in, and all that comes out is compared.

A layer becomes a function of its parameters, by name, and of its inputs. So does its peer; `compare` gives both the
same numbers and compares results, written States, and gradients with respect to inputs and parameters. Both are
compiled together, once.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import graphnode as gn

Arrays: TypeAlias = dict[str, jax.Array]
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

BF16 = jnp.dtype("bfloat16")
# Rounding to bfloat16 between operations stays, as in eager calls: what is compared is compared bit for bit.
_EXACT: dict[str, bool | str] = {"xla_allow_excess_precision": False}


def numbers(*shape: int, seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    """Normal numbers, which NumPy draws: nothing is compiled."""
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(0, 0.7, size=shape).astype(jnp.dtype(dtype)))


def drawn(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """An initialiser that compiles nothing."""
    del key
    return numbers(*shape, dtype=dtype)


@contextlib.contextmanager
def permissive() -> Generator[None]:
    """JAX as it is by default, which the peers need."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def rngs() -> Any:
    """What a layer of flax draws its parameters from."""
    return nnx.Rngs(0)


class Pure(NamedTuple):
    """A layer as a function."""

    shapes: dict[str, Any]
    """Its parameters, by name."""
    apply: Callable[..., tuple[Any, Arrays]]
    """From parameters and inputs to the result and the States that are no parameters."""


def call(layer: Any, *inputs: jax.Array) -> Any:
    """What is compared if nothing else is said: a call."""
    return layer(*inputs)


def pure(layer: Any, called: Callable[..., Any] = call) -> Pure:
    """A layer of this library."""
    graphdef, params, rest = gn.treefy_split(layer, gn.ParamState, ...)

    def apply(arrays: Arrays, *inputs: jax.Array) -> tuple[Any, Arrays]:
        one = gn.treefy_merge(graphdef, _with(params, arrays), rest)
        result = called(one, *inputs)
        return result, _named(gn.treefy_states(one, gn.ParamState, ...)[1])

    return Pure(_named(params), apply)


def pure_nnx(layer: Any, called: Callable[..., Any] = call) -> Pure:
    """A layer of flax; `drawn` parameters are made without compiling."""
    split: Any = nnx.split(layer, nnx.Param, ...)
    graphdef, params, rest = split

    def apply(arrays: Arrays, *inputs: jax.Array) -> tuple[Any, Arrays]:
        with permissive():
            # Its variables must be made in the function that is traced, to be written in it.
            one: Any = nnx.merge(graphdef, _with(params, arrays), jax.tree.map(jnp.asarray, rest))
            return called(one, *inputs), _named(nnx.state(one, nnx.BatchStat))

    return Pure(_named(params), apply)


def pure_eqx(layer: Any, called: Callable[..., Any] = call) -> Pure:
    """A layer of equinox, which may be abstract, or a function."""

    def is_parameter(leaf: Any) -> bool:
        return eqx.is_inexact_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)

    params, rest = eqx.partition(layer, is_parameter)

    def apply(arrays: Arrays, *inputs: jax.Array) -> tuple[Any, Arrays]:
        with permissive():
            return called(eqx.combine(_with(params, arrays), rest), *inputs), {}

    return Pure(_named(params), apply)


def compare(
    one: Pure,
    other: Pure,
    *inputs: jax.Array,
    names: Callable[[Arrays], Arrays] | Mapping[str, str] | None = None,
    tolerance: float = 1e-5,
    ulps: float = 1,
    with_gradients: bool = True,
) -> Any:
    """Compare two layers: results, dtypes, written States, gradients with respect to parameters and inputs.

    Args:
        one: The layer, whose parameters get random numbers.
        other: Its peer.
        *inputs: Arrays of a floating-point dtype.
        names: The peer's parameters of the layer's; as a mapping, their names, and they are reshaped.
        tolerance: Of float32, relative and absolute.
        ulps: Of bfloat16.
        with_gradients: Whether gradients are compared.

    Returns:
        The layer's result.
    """
    arrays = {
        name: numbers(*leaf.shape, seed=at, dtype=leaf.dtype) for at, (name, leaf) in enumerate(one.shapes.items())
    }

    def converted(arrays: Arrays) -> Any:
        if callable(names):
            return names(arrays)
        of: Mapping[str, str] = {} if names is None else names
        return {
            of.get(name, name): array.reshape(other.shapes[of.get(name, name)].shape) for name, array in arrays.items()
        }

    def measured(apply: Callable[..., tuple[Any, Arrays]]) -> Any:
        if not with_gradients:
            return apply(arrays, *inputs)
        result, pullback, written = jax.vjp(apply, arrays, *inputs, has_aux=True)
        leaves, treedef = jax.tree.flatten(result)
        around = [numbers(*leaf.shape, seed=at + 99, dtype=leaf.dtype) for at, leaf in enumerate(leaves)]
        return result, written, pullback(jax.tree.unflatten(treedef, around))

    def both() -> tuple[Any, Any]:
        return measured(one.apply), measured(lambda arrays, *inputs: other.apply(converted(arrays), *inputs))

    found, expected = jax.jit(both, compiler_options=_EXACT)()
    assert_same(found, expected, tolerance=tolerance, ulps=ulps)
    return found[0]


def assert_same(found: Any, expected: Any, *, tolerance: float = 1e-5, ulps: float = 1) -> None:
    """The same tree of arrays with the same dtypes and nearly the same numbers."""
    structure: Any = jax.tree.structure(found)
    assert structure == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        one, other = (np.asarray(array.astype(jnp.float32)) for array in (a, b))
        if a.dtype == BF16:
            spacing = 2.0 ** (np.floor(np.log2(np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-6))) - 7)
            assert np.all(np.abs(one - other) <= ulps * spacing), f"{where}: {one} {other}"
        else:
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=where)


def _with(tree: Any, arrays: Arrays) -> Any:
    named = _named(tree)
    assert named.keys() == arrays.keys()
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in named])


def _named(tree: Any) -> dict[str, Any]:
    """The leaves by their paths, without the `.value` of a variable."""
    return {
        ".".join(str(_part(key)) for key in path if _part(key) != "value" or not hasattr(key, "name")): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _part(key: Any) -> Any:
    return next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name))
