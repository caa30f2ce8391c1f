"""`Conv` and `ConvTranspose` beside those of flax."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from graphnode import nn
from tests.nn.peers import BF16, compare, drawn, numbers, permissive, pure, pure_nnx, rngs

NAMES = {"weight": "kernel"}
# flax calls them otherwise.
OPTIONS = {"dilation": "kernel_dilation", "groups": "feature_group_count"}


def same_conv(layer: str, kernel: Any, shape: tuple[int, ...], dtype: Any = None, **options: Any) -> None:
    """The layer of both libraries with 4 and 6 channels gives the same."""
    one = getattr(nn, layer)(4, 6, kernel, w_init=drawn, b_init=drawn, dtype=dtype, **options)
    with permissive():
        theirs = {OPTIONS.get(name, name): value for name, value in options.items()}
        inits = {"kernel_init": drawn, "bias_init": drawn, "rngs": rngs()}
        other = getattr(nnx, layer)(4, 6, kernel, dtype=dtype, **inits, **theirs)
    compare(pure(one), pure_nnx(other), numbers(*shape, 4, dtype=dtype or jnp.float32), names=NAMES)


CONVS: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    "1d": (3, (2, 7), {}),
    "1d, of an even size": (4, (2, 7), {}),
    "1d, valid": (3, (2, 7), {"padding": "VALID", "strides": 2}),
    "1d, circular": (4, (2, 7), {"padding": "CIRCULAR", "dilation": 2}),
    "1d, reflect": (4, (2, 7), {"padding": "REFLECT", "strides": 2}),
    "1d, causal": (3, (2, 7), {"padding": "CAUSAL", "dilation": 2, "strides": 2}),
    "1d, no bias": (3, (2, 7), {"use_bias": False}),
    "2d": ((3, 3), (2, 6, 5), {"strides": 2, "dilation": (2, 1), "groups": 2}),
    "2d, valid": ((3, 2), (2, 6, 5), {"padding": "VALID", "strides": (1, 2)}),
    "2d, circular": ((3, 2), (2, 6, 5), {"padding": "CIRCULAR", "strides": (2, 1)}),
    "2d, reflect": ((2, 3), (2, 6, 5), {"padding": "REFLECT", "dilation": (1, 2)}),
    "2d, a number": ((3, 3), (2, 6, 5), {"padding": 2, "groups": 2}),
    "2d, a number for each axis": ((3, 3), (2, 6, 5), {"padding": (2, 1)}),
    "2d, pairs": ((3, 3), (2, 6, 5), {"padding": ((1, 2), (0, 3)), "strides": 2}),
    "3d": ((2, 3, 2), (2, 4, 3, 3), {"strides": (2, 1, 2)}),
    "3d, circular": ((2, 3, 2), (2, 4, 3, 3), {"padding": "CIRCULAR"}),
    "3d, reflect": ((2, 3, 2), (2, 4, 3, 3), {"padding": "REFLECT", "groups": 2}),
    "3d, pairs": ((2, 3, 2), (2, 4, 3, 3), {"padding": ((1, 0), (2, 1), (0, 0)), "dilation": 2}),
    "no batch axis": ((3, 3), (6, 5), {}),
    "two batch axes": ((3, 3), (2, 3, 6, 5), {"padding": "CIRCULAR"}),
}


@pytest.mark.parametrize(("kernel", "shape", "options"), CONVS.values(), ids=CONVS)
def test_a_convolution_is_that_of_flax(kernel: Any, shape: tuple[int, ...], options: dict[str, Any]):
    """Result and gradients, for each kind of padding in one to three dimensions."""
    same_conv("Conv", kernel, shape, **options)


TRANSPOSES: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    "1d": (3, (2, 5), {"strides": 2}),
    "1d, flipped": (3, (2, 5), {"strides": 2, "transpose_kernel": True}),
    "2d": ((3, 2), (2, 4, 3), {"strides": 2}),
    "2d, flipped, valid": ((3, 2), (2, 4, 3), {"strides": (2, 1), "padding": "VALID", "transpose_kernel": True}),
    "2d, pairs": ((3, 2), (2, 4, 3), {"strides": 2, "padding": ((1, 2), (0, 3))}),
    "2d, a number, dilated": ((3, 2), (2, 4, 3), {"padding": 1, "dilation": (1, 2), "use_bias": False}),
    "3d, no batch axis": ((2, 2, 3), (2, 3, 2), {"strides": 2}),
    "two batch axes": (3, (2, 3, 4), {"strides": 3, "padding": "VALID"}),
}


@pytest.mark.parametrize(("kernel", "shape", "options"), TRANSPOSES.values(), ids=TRANSPOSES)
def test_a_transposed_convolution_is_that_of_flax(kernel: Any, shape: tuple[int, ...], options: dict[str, Any]):
    """Result and gradients, with the weight of a convolution and with one of its own."""
    same_conv("ConvTranspose", kernel, shape, **options)


@pytest.mark.parametrize("layer", ["Conv", "ConvTranspose"])
def test_in_bfloat16_both_compute_the_same(layer: str):
    """Input and parameters are cast first, and result and gradients are those of flax."""
    same_conv(layer, 3, (2, 5), dtype=BF16)


def test_a_transposed_convolution_is_the_transpose_of_a_convolution():
    """With `transpose_kernel` and one weight, `<conv(x), y> = <x, transpose(y)>`."""
    conv = nn.Conv(2, 3, 4, strides=2, use_bias=False, w_init=drawn)
    back = nn.ConvTranspose(3, 2, 4, strides=2, use_bias=False, transpose_kernel=True, w_init=drawn)
    assert back.weight.value.shape == conv.weight.value.shape
    x, y = numbers(6, 2), numbers(3, 3)
    np.testing.assert_allclose(np.vdot(conv(x), y), np.vdot(x, back(y)), rtol=1e-5)


def test_a_padding_of_plain_numbers_is_kept_as_pairs():
    """However an amount is written, the structure is the same, so that nothing is compiled again."""
    same = [nn.Conv(1, 1, (3, 3), padding=padding).padding for padding in (1, (1, 1), ((1, 1), (1, 1)))]
    assert same == [((1, 1), (1, 1))] * 3
