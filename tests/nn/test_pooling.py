"""The pooling layers beside flax's functions and equinox's layers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from graphnode import nn
from tests.nn.peers import BF16, compare, numbers, pure, pure_eqx

AVG = {"count_include_pad": False}
POOLS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], dict[str, Any]]] = {
    "1d": ((3,), (2, 7, 3), {}, {}),
    "1d, same": ((2,), (2, 7, 3), {"strides": 2, "padding": "SAME"}, {}),
    "2d": ((2, 3), (2, 6, 5, 3), {"strides": (2, 1), "padding": "SAME"}, {}),
    "2d, a number": ((3, 3), (2, 6, 5, 3), {"padding": 1, "strides": 2}, {"padding": ((1, 1), (1, 1))}),
    "2d, a number for each axis": ((3, 2), (2, 6, 5, 3), {"padding": (1, 0)}, {"padding": ((1, 1), (0, 0))}),
    "2d, pairs": ((3, 2), (2, 6, 5, 3), {"padding": ((1, 0), (0, 1))}, {}),
    "3d": ((2, 2, 3), (2, 3, 4, 5, 2), {"strides": (1, 2, 1)}, {}),
    "no batch axis": ((2, 3), (6, 5, 3), {}, {}),
    "two batch axes": ((2, 3), (2, 2, 6, 5, 3), {"padding": "SAME"}, {}),
}


def same_pool(
    name: str, function: str, window: tuple[int, ...], shape: tuple[int, ...], options: Any, theirs: Any, **more: Any
) -> None:
    """The layer and flax's function give the same; `theirs` are options that flax writes otherwise."""
    other = {**options, **theirs}
    strides = other.pop("strides", 1)
    each = strides if isinstance(strides, tuple) else (strides,) * len(window)

    def peer(x: jax.Array) -> Any:
        # flax takes one batch axis or none.
        images = x.reshape(-1, *x.shape[x.ndim - len(window) - 1 :])
        y = getattr(nnx, function)(images, window, each, **other, **more)
        return y.reshape(*x.shape[: x.ndim - len(window) - 1], *y.shape[1:])

    compare(pure(getattr(nn, name)(window, **options, **more)), pure_eqx(peer), numbers(*shape))


@pytest.mark.parametrize(("window", "shape", "options", "theirs"), POOLS.values(), ids=POOLS)
def test_max_pooling_is_that_of_flax(
    window: tuple[int, ...], shape: tuple[int, ...], options: dict[str, Any], theirs: dict[str, Any]
):
    """Result and gradient, for each kind of padding in one to three dimensions."""
    same_pool("MaxPool", "max_pool", window, shape, options, theirs)


@pytest.mark.parametrize("case", ["1d, same", "2d, pairs"])
def test_min_pooling_is_that_of_flax(case: str):
    """Result and gradient; what is added is never the smallest."""
    same_pool("MinPool", "min_pool", *POOLS[case])


def test_the_smallest_of_integers_is_one_of_them():
    """Padding is the largest that they have."""
    x = jnp.asarray([[3], [-5], [120]], jnp.int8)
    y = nn.MinPool(2, padding=1)(x)
    assert (y.dtype, y[:, 0].tolist()) == (jnp.int8, [3, -5, -5, 120])


@pytest.mark.parametrize("more", [{}, AVG], ids=["zeros count", "zeros do not count"])
@pytest.mark.parametrize(("window", "shape", "options", "theirs"), POOLS.values(), ids=POOLS)
def test_average_pooling_is_that_of_flax(
    window: tuple[int, ...], shape: tuple[int, ...], options: dict[str, Any], theirs: dict[str, Any], more: Any
):
    """Result and gradient; zeros that were added count or do not."""
    same_pool("AvgPool", "avg_pool", window, shape, options, theirs, **more)


ADAPTIVE: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "1d": ((3,), (7, 2)),
    "1d, global": ((1,), (7, 2)),
    "1d, all parts alike": ((3,), (6, 2)),
    "2d": ((3, 2), (7, 6, 2)),
    "2d, the same size": ((5, 4), (5, 4, 2)),
    "3d": ((2, 1, 3), (3, 4, 4, 2)),
}


@pytest.mark.parametrize("kind", ["Max", "Avg"])
@pytest.mark.parametrize(("out_size", "shape"), ADAPTIVE.values(), ids=ADAPTIVE)
def test_adaptive_pooling_is_that_of_equinox(kind: str, out_size: tuple[int, ...], shape: tuple[int, ...]):
    """Result and gradient, also where the parts are not all of one size, and over any batch axes."""
    layer = getattr(nn, f"Adaptive{kind}Pool")(out_size)
    one: Any = out_size if len(out_size) > 1 else sum(out_size)
    peer = getattr(eqx.nn, f"Adaptive{kind}Pool{len(out_size)}d")(one)

    def channels_last(peer: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(lambda one: jnp.moveaxis(peer(jnp.moveaxis(one, -1, 0)), 0, -1))(x)

    compare(pure(layer), pure_eqx(peer, channels_last), numbers(2, *shape))


def test_pooling_keeps_the_dtype():
    """Also bfloat16; the largest of integers and of booleans' integers is one of them."""
    x = numbers(4, 2, dtype=BF16)
    layers: list[Any] = [nn.MaxPool(2), nn.AvgPool(2), nn.AdaptiveMaxPool(2), nn.AdaptiveAvgPool(2)]
    assert {jax.eval_shape(layer, x).dtype for layer in layers} == {BF16}
    integers = np.array([[-5], [-7], [-6]], np.int32)
    assert nn.MaxPool(2, padding="SAME")(jnp.asarray(integers))[:, 0].tolist() == [-5, -6, -6]
    assert nn.AdaptiveMaxPool(2)(jnp.asarray(integers))[:, 0].tolist() == [-5, -6]


def test_an_integer_window_is_over_one_axis():
    """As for the kernel of a convolution: kept as a tuple."""
    layer = nn.MaxPool(2, strides=2)
    assert (layer.window, layer.strides) == ((2,), (2,))
    assert nn.AdaptiveAvgPool(3).out_size == (3,)
