"""Masks of attention, of which flax has three, and score biases and rotations beside the numbers of `transformers`."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import graphnode as gn
from graphnode import nn
from tests.nn.peers import permissive

# Each compiles by itself.
pytestmark = pytest.mark.slow

TOKENS = np.asarray([[1, 2, 0], [3, 0, 0]], np.int32)


def test_masks_are_those_of_flax():
    """Of the same shapes, and true where flax has 1."""
    x, more = jnp.asarray(TOKENS), (2, bool)
    with permissive():
        expected = [
            nnx.make_causal_mask(x),
            nnx.make_causal_mask(x, *more),
            nnx.make_attention_mask(x > 0, x > 0),
            nnx.make_attention_mask(x, x[:, :2], jnp.equal),
            nnx.combine_masks(nnx.make_causal_mask(x), None, nnx.make_attention_mask(x > 0, x > 0)),
        ]
    found: list[Any] = [
        nn.make_causal_mask(x),
        nn.make_causal_mask(x, 2),
        nn.make_attention_mask(x > 0, x > 0),
        nn.make_attention_mask(x, x[:, :2], jnp.equal),
        nn.combine_masks(nn.make_causal_mask(x), None, nn.make_attention_mask(x > 0, x > 0)),
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == bool
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other) > 0)


def test_a_window_counts_the_element_itself():
    """A number `n` is for those fewer than `n` away, a pair for how many before and after."""
    x = jnp.ones((1, 4))
    assert nn.make_window_mask(x, 2)[0, 0].astype(int).tolist() == [
        [1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1],
    ]  # fmt: skip
    np.testing.assert_array_equal(nn.make_window_mask(x, 2), nn.make_window_mask(x, (1, 1)))


def test_masks_that_are_none_are_combined_to_none():
    """And masks of several ranks are refused."""
    assert nn.combine_masks(None, None) is None
    with pytest.raises(gn.ContractError) as caught:
        nn.combine_masks(jnp.ones((1, 2), bool), jnp.ones((1, 1, 2), bool))
    assert str(caught.value) == "combine_masks: expected masks of one rank; found the shapes (1, 2), (1, 1, 2)"


# Rotations. The rates and magnitudes are those of `ROPE_INIT_FUNCTIONS` of transformers 5.24.

RATES: dict[str, tuple[nn.Rotary, list[float], float]] = {
    "linear": (
        nn.Rotary(scaling=nn.LinearScaling(4.0)),
        [0.25, 0.07905694, 0.025, 0.007905694, 0.0025, 0.00079056941, 0.00025, 7.905694e-05],
        1.0,
    ),
    "llama3": (
        nn.Rotary(500_000.0, scaling=nn.Llama3Scaling(8.0, original_length=64)),
        [1.0, 0.07940301, 0.004700753, 0.0009115831, 0.00017677668, 3.428102e-05, 6.647869e-06, 1.289173e-06],
        1.0,
    ),
    "llama3, of Llama 3.1": (
        nn.Rotary(500_000.0, scaling=nn.Llama3Scaling(8.0)),
        [1.0, 0.19392275, 0.03760603, 0.007292665, 0.000524846, 3.428102e-05, 6.647869e-06, 1.289173e-06],
        1.0,
    ),
    "yarn": (
        nn.Rotary(scaling=nn.YarnScaling(4.0, 64)),
        [1.0, 0.23717081, 0.05, 0.007905694, 0.0025, 0.00079056941, 0.00025, 7.905694e-05],
        1.138629436,
    ),
    "yarn, with a ramp over the end": (
        nn.Rotary(scaling=nn.YarnScaling(4.0, 200_000)),
        [1.0, 0.31622776, 0.1, 0.031622779, 0.01, 0.0031622779, 0.00085, 0.00022135946],
        1.138629436,
    ),
    "yarn, with a ramp": (
        nn.Rotary(scaling=nn.YarnScaling(8.0, 2048, beta_fast=16.0, beta_slow=2.0)),
        [
            1.0, 0.56234133, 0.31622776, 0.17782793, 0.1, 0.05623412, 0.024705294, 0.010002821, 0.0034375,
            0.00070292665, 0.00039528473, 0.00022228489, 0.000125, 7.0292662e-05, 3.9528473e-05, 2.2228492e-05,
        ],
        1.207944154,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rotate", "rates", "magnitude"), RATES.values(), ids=RATES)
def test_scaled_rates_are_those_of_transformers(rotate: nn.Rotary, rates: list[float], magnitude: float):
    """And so is what queries and keys are multiplied with."""
    np.testing.assert_allclose(rotate.rates(2 * len(rates)), rates, rtol=2e-6)
    assert rotate.scaling is not None
    assert rotate.scaling.magnitude() == pytest.approx(magnitude)


UNKNOWN: Any = "x"
ROTARY: dict[str, tuple[Any, str]] = {
    "a fraction": (
        lambda: nn.Rotary(fraction=1.5),
        "Rotary.fraction: expected a number above 0 and at most 1; found 1.5",
    ),
    "an odd head": (
        lambda: nn.Rotary()(jnp.ones((3, 1, 3)), jnp.arange(3)),
        "Rotary: expected an even number of features to be rotated; found 3, which is fraction=1.0 of 3",
    ),
    "pairs": (lambda: nn.Rotary(pairs=UNKNOWN), "Rotary.pairs: expected 'halves' or 'neighbours'; found 'x'"),
    "no even part": (
        lambda: nn.MultiHeadAttention(8, 2, rotary=nn.Rotary(fraction=0.75)),
        "MultiHeadAttention.rotary: expected an even number of features to be rotated; found 3, which is fraction=0.75 "
        "of 4",
    ),
    "positions": (
        lambda: nn.Rotary()(jnp.ones((3, 1, 2)), jnp.arange(2)),
        "Rotary: positions: expected integers of shape (3,) or (3,); found int32 of shape (2,)",
    ),
    "a factor": (lambda: nn.LinearScaling(0.0), "LinearScaling.factor: expected a positive number; found 0.0"),
    "frequencies": (
        lambda: nn.Llama3Scaling(2.0, high_freq_factor=1.0),
        "Llama3Scaling.high_freq_factor: expected a number above low_freq_factor=1.0; found 1.0",
    ),
    "turns": (
        lambda: nn.YarnScaling(2.0, 64, beta_fast=0.5),
        "YarnScaling.beta_fast: expected a number above beta_slow=1.0; found 0.5",
    ),
    "odd classes": (
        lambda: nn.RelativePositionBias(1, num_buckets=5),
        "RelativePositionBias.num_buckets: expected an even number, 4 at least; found 5",
    ),
    "one class": (
        lambda: nn.RelativePositionBias(1, num_buckets=1, bidirectional=False),
        "RelativePositionBias.num_buckets: expected 2 at least; found 1",
    ),
    "a short distance": (
        lambda: nn.RelativePositionBias(1, max_distance=8),
        "RelativePositionBias.max_distance: expected more than 8, as distances below that have a class each; found 8",
    ),
}  # fmt: skip


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("make", "text"), ROTARY.values(), ids=ROTARY)
def test_options_of_positions_are_checked(make: Any, text: str):
    """Where they are said, but for the size of heads, which the layer knows."""
    with pytest.raises(gn.ContractError) as caught:
        make()
    assert str(caught.value) == text


# Score biases. The classes are those of `T5Attention._relative_position_bucket` of transformers 5.24.

CLASSES: dict[str, tuple[dict[str, Any], list[int], list[int]]] = {
    "both directions": (
        {"num_buckets": 8, "max_distance": 20},
        [0, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3],
        [0, 5, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
    ),
    "one direction": (
        {"num_buckets": 8, "max_distance": 20, "bidirectional": False},
        [0, 1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7],
        [0] * 23,
    ),
    "of T5": (
        {},
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 10],
        [0, 17, 18, 19, 20, 21, 22, 23, 24, 24, 24, 24, 25, 25, 25, 25, 26, 26, 26, 26, 26, 26, 26],
    ),
}  # fmt: skip


@pytest.mark.slow  # operations of XLA for each number of classes
@pytest.mark.parametrize(("options", "before", "after"), CLASSES.values(), ids=CLASSES)
def test_classes_of_distances_are_those_of_t5(options: dict[str, Any], before: list[int], after: list[int]):
    """Of keys before a query, and after it."""
    bias = nn.RelativePositionBias(1, **options)
    bias.weight.value = jnp.arange(bias.num_buckets, dtype=jnp.float32)[:, None]
    far = jnp.asarray([22], jnp.int32)
    assert bias(far, 22 - jnp.arange(23, dtype=jnp.int32))[0, 0].tolist() == before
    assert bias(far, 22 + jnp.arange(23, dtype=jnp.int32))[0, 0].tolist() == after


def test_slopes_of_alibi_are_those_of_the_paper():
    """A geometric sequence for a power of 2; for 12 heads, that of 8 and every other one of 16."""
    near = jnp.asarray([0, 1], jnp.int32)
    slopes = {heads: (-nn.ALiBi(heads)(near, near)[:, 1, 0]).tolist() for heads in (8, 12)}
    assert slopes[8] == [2.0**-at for at in range(1, 9)]
    np.testing.assert_allclose(slopes[12], slopes[8] + [2.0 ** (0.5 - at) for at in range(1, 5)], rtol=1e-6)
