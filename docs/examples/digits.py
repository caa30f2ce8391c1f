"""Train a small convolutional classifier on scikit-learn's handwritten digits.

The model is declared as graphnode nodes. Training is plain JAX: `treefy_split` gives pytrees, `jax.jit` and `jax.grad` work
on them, optax makes the updates, and `treefy_merge` gives the model back.

    python docs/examples/digits.py --help
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

import graphnode as gn

try:
    import matplotlib
    import optax
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f"digits.py needs {error.name}, which is not installed: pip install 'graphnode[examples]'")

TARGET = 0.96
"""The accuracy on held-out images below which the program fails."""

Images: TypeAlias = Float[Array, "batch 8 8 1"]
Labels: TypeAlias = Int[Array, "batch"]
Logits: TypeAlias = Float[Array, "batch 10"]
Scalar: TypeAlias = Float[Array, ""]


# The model


class Conv(gn.nn.Module):
    """A convolution of 3 by 3 pixels that keeps the size of the image, or divides it by `stride`."""

    n_in: int
    n_out: int
    stride: int = 1
    kernel: gn.ParamState[Float[Array, "3 3 n_in n_out"]] = gn.state(jax.nn.initializers.he_normal())
    bias: gn.ParamState[Float[Array, "n_out"]] = gn.state(jax.nn.initializers.zeros)

    def __call__(self, x: Float[Array, "batch height width n_in"]) -> Float[Array, "batch _ _ n_out"]:
        y = jax.lax.conv_general_dilated(
            x,
            self.kernel.value,
            window_strides=(self.stride, self.stride),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + self.bias.value


class Standardize(gn.nn.Module):
    """Shift and scale images by statistics of the training images, which are not trained."""

    mean: gn.BatchState[Float[Array, ""]] = gn.state(jax.nn.initializers.zeros)
    deviation: gn.BatchState[Float[Array, ""]] = gn.state(jax.nn.initializers.ones)

    def fit(self, images: Images) -> None:
        """Take the statistics of these images."""
        self.mean.value = images.mean()
        self.deviation.value = images.std()

    def __call__(self, x: Images) -> Images:
        return (x - self.mean.value) / self.deviation.value


class Classifier(gn.nn.Module):
    """Convolutions, each but the first halving the image, then a linear layer to the ten digits."""

    widths: tuple[int, ...]
    """Channels of each convolution."""
    standardize: Standardize = gn.subnode(default_factory=Standardize)
    convs: list[Conv] = gn.subnode(factory=lambda self: make_convs(self.widths))
    head: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(self.widths[-1], 10))

    def __call__(self, x: Images) -> Logits:
        x = self.standardize(x)
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        return self.head(x.mean(axis=(1, 2)))


def make_convs(widths: Sequence[int]) -> list[Conv]:
    """Convolutions from one channel through `widths`."""
    sizes = [1, *widths]
    return [Conv(n_in, n_out, 1 if at == 0 else 2) for at, (n_in, n_out) in enumerate(zip(sizes, widths))]


# The data


@dataclass(frozen=True)
class Digits:
    """Images of 8 by 8 pixels with values from 0 to 1, and the digits they show."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


def load(held_out: float) -> tuple[Digits, Digits]:
    """The images to train on and the held-out ones; the same for every seed, with equal shares of each digit."""
    data: Any = load_digits()
    parts = train_test_split(
        data.images[..., None] / 16, data.target, test_size=held_out, random_state=0, stratify=data.target
    )
    train_images, test_images, train_labels, test_labels = map(jnp.asarray, parts)
    return (
        Digits(train_images.astype(jnp.float32), train_labels.astype(jnp.int32)),
        Digits(test_images.astype(jnp.float32), test_labels.astype(jnp.int32)),
    )
