"""`Embedding`, `Einsum` and `Bilinear`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from graphnode import nn
from tests.nn.peers import BF16, compare, drawn, numbers, permissive, pure, pure_nnx, rngs

TOKENS = np.array([[0, 3, 3], [4, 1, 0]], np.int32)


@pytest.mark.parametrize("dtype", [None, BF16], ids=str)
def test_an_embedding_is_that_of_flax_both_ways(dtype: Any):
    """Vectors, the logits of `attend`, and gradients, in which a token that occurs twice counts twice."""

    def called(layer: Any, x: jax.Array) -> Any:
        return layer(jnp.asarray(TOKENS)), layer.attend(x)

    with permissive():
        other: Any = nnx.Embed(5, 4, dtype=dtype, embedding_init=drawn, rngs=rngs())
    one = nn.Embedding(5, 4, w_init=drawn, dtype=dtype)
    x = numbers(3, 4, dtype=dtype or jnp.float32)
    compare(pure(one, called), pure_nnx(other, called), x, names={"weight": "embedding"})


def test_tokens_out_of_range_give_nan():
    """As in `jnp.take`: not a vector of another token. Negative ones count from the end, as everywhere in NumPy."""
    layer = nn.Embedding(5, 2, w_init=drawn)
    y = layer(jnp.asarray([5, 4, -1, -5, -6]))
    assert jnp.isnan(y).all(1).tolist() == [True, False, False, False, True]
    assert y[1].tolist() == y[2].tolist()


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int16, jnp.int32], ids=lambda dtype: str(jnp.dtype(dtype)))
def test_tokens_may_be_any_integers(dtype: Any):
    """Of any integer dtype, and of any shape, also a scalar."""
    layer = nn.Embedding(5, 2, w_init=drawn)
    assert jax.eval_shape(layer, jax.ShapeDtypeStruct((), dtype)).shape == (2,)
    assert jax.eval_shape(layer, jax.ShapeDtypeStruct((3, 1, 2), dtype)).shape == (3, 1, 2, 2)


EINSUMS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...] | None, tuple[int, ...]]] = {
    "to heads": ("...i,ihd->...hd", (4, 2, 3), (2, 3), (2, 5, 4)),
    "from heads": ("...hd,hdo->...o", (2, 3, 4), (4,), (5, 2, 3)),
    "no bias": ("bi,io->bo", (4, 3), None, (2, 4)),
    "a batch of weights": ("bni, bio -> bno", (2, 4, 3), None, (2, 5, 4)),
    "swapped": ("ij,kj->ki", (3, 4), None, (2, 4)),
}


@pytest.mark.parametrize(("equation", "shape", "bias_shape", "inputs"), EINSUMS.values(), ids=EINSUMS)
def test_an_einsum_is_that_of_flax(
    equation: str, shape: tuple[int, ...], bias_shape: tuple[int, ...] | None, inputs: tuple[int, ...]
):
    """Result and gradients."""
    with permissive():
        other = nnx.Einsum(equation, shape, bias_shape, kernel_init=drawn, rngs=rngs())
    one = nn.Einsum(equation, shape, bias_shape, w_init=drawn)
    compare(pure(one), pure_nnx(other), numbers(*inputs), names={"weight": "kernel"})


def test_an_einsum_in_bfloat16_is_that_of_flax():
    """Input and parameters are cast first."""
    with permissive():
        other = nnx.Einsum("...i,ihd->...hd", (4, 2, 3), (2, 3), dtype=BF16, kernel_init=drawn, rngs=rngs())
    one = nn.Einsum("...i,ihd->...hd", (4, 2, 3), (2, 3), w_init=drawn, dtype=BF16)
    compare(pure(one), pure_nnx(other), numbers(2, 4), names={"weight": "kernel"})


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_a_bilinear_map_is_the_sum_over_all_pairs(use_bias: bool, batch: tuple[int, ...]):
    """As NumPy sums it."""
    layer = nn.Bilinear(3, 4, 2, use_bias=use_bias, w_init=drawn, b_init=drawn)
    left, right = numbers(*batch, 3), numbers(*batch, 4)
    expected = np.einsum("...i,ijk,...j->...k", left, layer.weight.value, right)
    if layer.bias is not None:
        expected = expected + np.asarray(layer.bias.value)
    np.testing.assert_allclose(np.asarray(layer(left, right)), expected, rtol=1e-5, atol=1e-5)
