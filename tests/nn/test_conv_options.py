"""Spread inputs, masks and groups of convolutions; a transposed one is what JAX makes of the convolution."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.peers import drawn, numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow

MASK = np.random.default_rng(0).random((3, 2, 6)) > 0.4


def conv(*sizes: Any, **options: Any) -> nn.Conv:
    return nn.Conv(*sizes, use_bias=False, w_init=drawn, **options)


def transposed(*sizes: Any, **options: Any) -> nn.ConvTranspose:
    return nn.ConvTranspose(*sizes, use_bias=False, w_init=drawn, transpose_kernel=True, **options)


class Pair(NamedTuple):
    """A convolution, and the layer that transposes it."""

    forward: nn.Conv
    back: nn.ConvTranspose
    shape: tuple[int, ...]
    """Of the input of the convolution."""


TRANSPOSED: dict[str, Pair] = {
    "groups": Pair(conv(4, 6, 3, groups=2, strides=2), transposed(6, 4, 3, groups=2, strides=2), (8, 4)),
    "groups over two axes": Pair(
        conv(4, 2, (3, 2), groups=2, dilation=(2, 1)), transposed(2, 4, (3, 2), groups=2, dilation=(2, 1)), (5, 4, 4)
    ),
    "around": Pair(conv(2, 3, 3, padding="CIRCULAR"), transposed(3, 2, 3, padding="CIRCULAR"), (6, 2)),
    "around, an even window": Pair(
        conv(2, 3, 4, strides=2, padding="CIRCULAR"), transposed(3, 2, 4, strides=2, padding="CIRCULAR"), (8, 2)
    ),
    # PyTorch's padding of 1 is one of 2 * (3 - 1) - 1 zeros around the spread input.
    "more behind": Pair(
        conv(2, 3, 3, strides=2, dilation=2, padding=1),
        transposed(3, 2, 3, strides=2, dilation=2, padding=3, output_padding=1),
        (8, 2),
    ),
    "masked": Pair(
        conv(4, 6, 3, groups=2, mask=jnp.asarray(MASK)), transposed(6, 4, 3, groups=2, mask=jnp.asarray(MASK)), (8, 4)
    ),
}
PADDINGS: tuple[Any, ...] = ("SAME", "VALID", "CAUSAL", ((2, 1),))


@functools.cache
def outcomes() -> dict[str, Any]:
    """What all of them give, and what is expected, compiled once."""

    def called(pairs: Any, spread: Any, plain: Any, x: jax.Array) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, (forward, back) in pairs.items():
            y, pullback = jax.vjp(forward, numbers(*TRANSPOSED[name].shape))
            around = numbers(*y.shape, seed=1)
            found[name] = back(around), pullback(around)[0]
        masked = pairs["masked"][1]
        found["gradient"] = gn.grad(lambda layer: layer(numbers(5, 6)).sum())(masked)["weight"].value
        zeros = jnp.zeros((13, 2)).at[::3].set(x)
        for padding in PADDINGS:
            found[str(padding)] = spread[str(padding)](x), plain[str(padding)](zeros)
        return found

    spread = {str(p): conv(2, 3, 3, input_dilation=3, strides=2, padding=p) for p in PADDINGS}
    plain = {str(p): conv(2, 3, 3, strides=2, padding=p) for p in PADDINGS}
    pairs = {name: (pair.forward, pair.back) for name, pair in TRANSPOSED.items()}
    return gn.jit(called)(pairs, spread, plain, numbers(5, 2))


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_is_the_gradient_of_the_convolution(name: str):
    """With one weight: in groups, around the borders, with more padding behind and with a mask."""
    pair = TRANSPOSED[name]
    assert pair.back.weight.value.shape == pair.forward.weight.value.shape
    found, expected = outcomes()[name]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_input_dilation_puts_zeros_between_the_elements(padding: Any):
    """Paddings by their names are those of the input that is spread."""
    found, expected = outcomes()[str(padding)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_weight_without_flip_has_the_inputs_of_a_group():
    """And is that of a convolution over the spread input."""
    back = nn.ConvTranspose(4, 6, 3, groups=2, use_bias=False, w_init=drawn)
    assert back.weight.value.shape == (3, 2, 6)
    np.testing.assert_allclose(back(numbers(5, 4)), conv(4, 6, 3, groups=2)(numbers(5, 4)), rtol=1e-5)


def test_what_is_masked_has_no_gradient():
    """Whatever the weight is there."""
    np.testing.assert_array_equal(np.asarray(outcomes()["gradient"]) != 0, MASK)


SIZES = "expected an integer of at least 0 or a tuple of 1; found"
REFUSED: dict[str, tuple[Any, str]] = {
    "a spread input around the borders": (
        lambda: nn.Conv(1, 1, 3, input_dilation=2, padding="CIRCULAR"),
        "Conv.padding: expected zeros around an input with input_dilation; found 'CIRCULAR'",
    ),
    "another mask": (
        lambda: nn.Conv(4, 6, 3, groups=2, mask=jnp.ones((3, 4, 6))),
        "Conv.mask: expected shape (3, 2, 6) of the weight; found (3, 4, 6)",
    ),
    "another mask of a transposed one": (
        lambda: nn.ConvTranspose(4, 6, 3, mask=jnp.ones(3)),
        "ConvTranspose.mask: expected shape (3, 4, 6) of the weight; found (3,)",
    ),
    "groups": (
        lambda: nn.ConvTranspose(4, 6, 3, groups=4),
        "ConvTranspose.groups: expected a positive integer that divides out_size=6; found 4",
    ),
    "less behind": (
        lambda: nn.ConvTranspose(4, 6, 3, output_padding=-1),
        f"ConvTranspose.output_padding: {SIZES} -1",
    ),
}


@pytest.mark.parametrize(("made", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(made: Any, text: str):
    """The layer, what would do, and what was found."""
    with pytest.raises(gn.ContractError) as caught:
        made()
    assert str(caught.value) == text
