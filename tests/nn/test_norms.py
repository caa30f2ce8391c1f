"""The normalisations beside those of flax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from graphnode import nn
from tests.nn.peers import BF16, Pure, compare, numbers, permissive, pure, pure_nnx, rngs


def peer(name: str, *sizes: int | None, **options: Any) -> Any:
    """A normalisation of flax, which computes the variance as ours do."""
    with permissive():
        return getattr(nnx, name)(*sizes, use_fast_variance=False, rngs=rngs(), **options)


def both(name: str, *sizes: int, theirs: dict[str, Any] | None = None, **options: Any) -> tuple[Pure, Pure]:
    """The same normalisation of both libraries."""
    return pure(getattr(nn, name)(*sizes, **options)), pure_nnx(peer(name, *sizes, **(theirs or {}), **options))


CASES: dict[str, tuple[str, tuple[int | None, ...], tuple[int, ...], dict[str, Any]]] = {
    "LayerNorm": ("LayerNorm", (5,), (2, 3, 5), {}),
    "LayerNorm, another epsilon": ("LayerNorm", (5,), (2, 5), {"epsilon": 0.1}),
    "LayerNorm without scale": ("LayerNorm", (5,), (2, 5), {"use_scale": False}),
    "LayerNorm without bias": ("LayerNorm", (5,), (2, 5), {"use_bias": False}),
    "RMSNorm": ("RMSNorm", (5,), (2, 3, 5), {"epsilon": 0.1}),
    "RMSNorm without scale": ("RMSNorm", (5,), (2, 5), {"use_scale": False}),
    "GroupNorm": ("GroupNorm", (6, 2), (2, 3, 4, 6), {}),
    "GroupNorm without positions": ("GroupNorm", (6, 3), (2, 6), {"epsilon": 0.1}),
    "GroupNorm of instances": ("GroupNorm", (4, 4), (2, 3, 4), {"use_scale": False, "use_bias": False}),
    "GroupNorm without a batch": ("GroupNorm", (6, 2), (3, 6), {"batch_axes": 0}),
    "GroupNorm by the size": ("GroupNorm", (6, None), (2, 3, 6), {"group_size": 2}),
    "GroupNorm, two batch axes": ("GroupNorm", (6, 2), (2, 3, 4, 6), {"batch_axes": 2}),
}


@pytest.mark.parametrize(("name", "sizes", "shape", "options"), CASES.values(), ids=CASES)
def test_a_normalisation_is_that_of_flax(
    name: str, sizes: tuple[int | None, ...], shape: tuple[int, ...], options: dict[str, Any]
):
    """Result and gradients; groups are taken for each element of the batch axes."""
    batch_axes = options.get("batch_axes", 1)
    shared = {name: value for name, value in options.items() if name != "batch_axes"}

    def with_one_batch_axis(layer: Any, x: jax.Array) -> Any:
        return layer(x.reshape(-1, *shape[batch_axes:])).reshape(shape)

    other = pure_nnx(peer(name, *sizes, **shared), with_one_batch_axis)
    compare(pure(getattr(nn, name)(*sizes, **options)), other, 3 + 2 * numbers(*shape))


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm"])
def test_the_default_epsilon_is_that_of_flax(name: str):
    """Of numbers so small that it counts."""
    one, other = both(name, *((6, 2) if name == "GroupNorm" else (6,)))
    compare(one, other, 2e-3 * numbers(4, 6), with_gradients=False)


def test_a_scale_around_zero_counts_from_one():
    """It starts at 0, and is added to 1 in float32, where bfloat16 would round it away."""
    norm = nn.RMSNorm(2, zero_centered=True, param_dtype=BF16)
    assert norm.scale is not None
    assert norm.scale.value.tolist() == [0, 0]
    x = jnp.array([100.0, -700.0])
    assert norm(x).tolist() == nn.RMSNorm(2)(x).tolist()
    norm.scale.value = jnp.array([0.001, -1.0], BF16)
    small = float(norm.scale.value[0])
    assert norm(x).tolist() == pytest.approx([0.2 * (1 + small), 0.0], rel=1e-6)
    assert repr(nn.RMSNorm(2)).count("zero_centered") == 0


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm"])
def test_in_bfloat16_statistics_are_taken_in_float32(name: str):
    """A bfloat16 input gives what flax computes in bfloat16 with statistics in float32, to the last bit but one."""
    sizes = (6, 2) if name == "GroupNorm" else (6,)
    one, other = both(name, *sizes, dtype=BF16, param_dtype=BF16)
    x = (30 + numbers(64, 6)).astype(BF16)
    y = compare(one, other, x, with_gradients=False)
    assert y.dtype == BF16


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm"])
def test_the_statistics_of_bfloat16_numbers_are_exact_enough(name: str):
    """Of numbers far from 0, in which sums of bfloat16 would be off by far: what NumPy has in float64."""
    layer = getattr(nn, name)(*((6, 1) if name == "GroupNorm" else (6,)))
    x = (30 + numbers(64, 6)).astype(BF16)
    values = np.asarray(x.astype(jnp.float32)).astype(np.float64)
    axis = 0 if name == "BatchNorm" else 1
    mean = 0 if name == "RMSNorm" else values.mean(axis, keepdims=True)
    expected = (values - mean) / np.sqrt(np.square(values - mean).mean(axis, keepdims=True) + layer.epsilon)
    found = jax.jit(layer.__call__)(x) if name != "BatchNorm" else layer(x)
    np.testing.assert_allclose(np.asarray(found.astype(jnp.float32)), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3)], ids=str)
def test_batch_norm_is_that_of_flax_over_several_calls(shape: tuple[int, ...]):
    """Results, running averages after two calls in training, a deterministic call, and all gradients."""

    def ours(layer: Any, x: jax.Array) -> Any:
        return layer(x), layer(3 * x - 1), layer(x, deterministic=True)

    def theirs(layer: Any, x: jax.Array) -> Any:
        return layer(x), layer(3 * x - 1), layer(x, use_running_average=True)

    layer, other = nn.BatchNorm(3, momentum=0.8, epsilon=1e-3), peer("BatchNorm", 3, momentum=0.8, epsilon=1e-3)
    compare(pure(layer, ours), pure_nnx(other, theirs), 3 + 2 * numbers(*shape))


@pytest.mark.parametrize("options", [{"use_scale": False}, {"use_bias": False}], ids=str)
def test_batch_norm_without_some_parameters_is_that_of_flax(options: dict[str, Any]):
    """What is left out is left out in both."""
    compare(*both("BatchNorm", 3, **options), 3 + 2 * numbers(5, 3))


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 3)], ids=str)
def test_masked_elements_do_not_count_in_the_statistics(shape: tuple[int, ...]):
    """As in flax, whose mask has an axis of size 1 for the features: in results, averages and gradients."""
    mask = np.array([True, True, False, True, False, True]).reshape(shape[:-1])

    def ours(layer: Any, x: jax.Array) -> Any:
        return layer(x, mask=jnp.asarray(mask)), layer(2 * x, mask=jnp.asarray(~mask))

    def theirs(layer: Any, x: jax.Array) -> Any:
        return layer(x, mask=mask[..., None]), layer(2 * x, mask=~mask[..., None])

    one, other = nn.BatchNorm(3, momentum=0.8), peer("BatchNorm", 3, momentum=0.8)
    compare(pure(one, ours), pure_nnx(other, theirs), 3 + 2 * numbers(*shape))


def test_what_is_masked_may_be_anything():
    """NaN in padding reaches neither the averages nor the other results."""
    mask = jnp.asarray([True, True, True, False])
    one = pure(nn.BatchNorm(2), lambda layer, x: layer(x, mask=mask)[:3])
    arrays, bad = {name: numbers(2) for name in one.shapes}, numbers(4, 2).at[3].set(jnp.nan)
    for array in jax.tree.leaves(jax.jit(one.apply)(arrays, bad)):
        assert not np.isnan(array).any()


def test_a_mask_in_which_nothing_counts_leaves_the_averages():
    """The batch's mean and variance are 0 then, and nothing becomes NaN."""
    layer = nn.BatchNorm(2, epsilon=1.0)
    x = numbers(3, 2)
    y = layer(x, mask=jnp.zeros(3, bool))
    np.testing.assert_array_equal(np.asarray(y), np.asarray(x))
    assert (layer.mean.value.tolist(), layer.var.value.tolist()) == ([0.0, 0.0], [1.0, 1.0])


def test_a_deterministic_call_may_have_a_mask():
    """It has no effect, as no statistics are taken."""
    layer, x = nn.BatchNorm(2), numbers(3, 2)
    masked = layer(x, mask=jnp.zeros(3, bool), deterministic=True)
    assert masked.tolist() == layer(x, deterministic=True).tolist()
