"""facenet-pytorch, which finds faces by three nets (Zhang et al. 2016, "Joint Face Detection"): PyTorch, in pickles."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.checkpoint import Change, Changes, Rename, Reshape, Transpose
from tests.published.comparing import Source, assert_close, assert_same, from_original
from tests.published.containers import Arrays, file_of, torch_pickle


class PReLU(gn.nn.Layer):
    """Multiplies negative numbers by a slope for each channel (He et al. 2015, "Delving Deep into Rectifiers")."""

    channels: int
    slope: gn.ParamState[Float[Array, "channels"]] = gn.state(jax.nn.initializers.constant(0.25))

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        return jnp.where(x > 0, x, x * self.slope.value[(jnp.newaxis,) * (x.ndim - 1)])


class Flatten(gn.nn.Layer):
    """Rows, columns and channels become one axis."""

    def __call__(self, x: Float[Array, "batch rows columns channels"]) -> Float[Array, "batch features"]:
        return x.reshape(len(x), -1)


class Net(gn.nn.Module):
    """Features of images; from them, whether there is a face, and where it is."""

    features: gn.nn.Sequential
    face: gn.nn.Layer
    places: list[gn.nn.Layer]

    def __call__(self, images: Float[Array, "batch rows columns 3"]) -> list[jax.Array]:
        """Boxes, and landmarks if the net has these; then how likely there is none and is one."""
        x = self.features(images)
        return [*[place(x) for place in self.places], jax.nn.softmax(self.face(x))]


def conv(in_size: int, out_size: int, size: int) -> gn.nn.Conv:
    return gn.nn.Conv(in_size, out_size, (size, size), padding="VALID")


def pool(size: int, padding: int = 0) -> gn.nn.MaxPool:
    """As PyTorch has it with `ceil_mode`: what is left over at the end is padded to one more window."""
    return gn.nn.MaxPool((size, size), strides=2, padding=((0, padding), (0, padding)))


def linear(in_size: int, out_size: int) -> gn.nn.Linear:
    return gn.nn.Linear(in_size, out_size)


def pnet() -> Net:
    layers: list[gn.nn.Layer] = [
        conv(3, 10, 3),
        PReLU(10),
        pool(2, 1),
        conv(10, 16, 3),
        PReLU(16),
        conv(16, 32, 3),
        PReLU(32),
    ]
    return Net(gn.nn.Sequential(layers), conv(32, 2, 1), [conv(32, 4, 1)])


def rnet() -> Net:
    layers = [conv(3, 28, 3), PReLU(28), pool(3, 1), conv(28, 48, 3), PReLU(48), pool(3), conv(48, 64, 2), PReLU(64)]
    top = [Flatten(), linear(3 * 3 * 64, 128), PReLU(128)]
    return Net(gn.nn.Sequential([*layers, *top]), linear(128, 2), [linear(128, 4)])


def onet() -> Net:
    layers = [conv(3, 32, 3), PReLU(32), pool(3, 1), conv(32, 64, 3), PReLU(64), pool(3), conv(64, 64, 3), PReLU(64)]
    top = [pool(2), conv(64, 128, 2), PReLU(128), Flatten(), linear(3 * 3 * 128, 256), PReLU(256)]
    return Net(gn.nn.Sequential([*layers, *top]), linear(256, 2), [linear(256, 4), linear(256, 10)])


NETS = {"pnet": pnet, "rnet": rnet, "onet": onet}
# In their order: the features, of which those without weights have no name; the face; the places.
NAMES = {
    "pnet": ("conv1 prelu1 - conv2 prelu2 conv3 prelu3", "conv4_1", ["conv4_2"]),
    "rnet": ("conv1 prelu1 - conv2 prelu2 - conv3 prelu3 - dense4 prelu4", "dense5_1", ["dense5_2"]),
    "onet": (
        *("conv1 prelu1 - conv2 prelu2 - conv3 prelu3 - conv4 prelu4 - dense5 prelu5", "dense6_1"),
        ["dense6_2", "dense6_3"],
    ),
}


def flattened(name: str, channels: int, out_size: int) -> list[Change]:
    """The features of the file are in the order columns, rows, channels: only the values show it."""
    size = 3 * 3 * channels
    return [
        Reshape(name, [out_size, 3, 3, channels], before=[out_size, size]),
        Transpose(name, [2, 1, 3, 0]),
        Reshape(name, [size, out_size], before=[3, 3, channels, out_size]),
    ]


def table(net: str) -> Changes:
    """From the names of the file."""
    features, face, places = NAMES[net]
    dense = {
        "pnet": [],
        "rnet": [*flattened("dense4.weight", 64, 128), Transpose("dense*_*.weight")],
        "onet": [*flattened("dense5.weight", 128, 256), Transpose("dense*_*.weight")],
    }
    return Changes([
        Transpose("conv*.weight", [2, 3, 1, 0]),
        *dense[net],
        Rename("prelu*.weight", "prelu*.slope"),
        *[Rename(f"{name}.*", f"features.layers.{at}.*") for at, name in enumerate(features.split()) if name != "-"],
        Rename(f"{face}.*", "face.*"),
        *[Rename(f"{name}.*", f"places.{at}.*") for at, name in enumerate(places)],
    ])  # fmt: skip


def arrays_of(net: str) -> Arrays:
    return torch_pickle(file_of("facenet_pytorch", "data", f"{net}.pt"))


def net_of_file(net: str) -> Net:
    """A net with the weights of its file."""
    model = gn.eval_shape(NETS[net])
    gn.checkpoint.read(arrays_of(net), into=model, changes=table(net))
    return model


@from_original
def test_the_nets_see_what_those_of_pytorch_see(source: Source):
    """Boxes, landmarks and probabilities."""
    inputs, expected = source("facenet")
    outputs: Arrays = {}
    for net in NETS:
        results = gn.jit(net_of_file(net))(jnp.asarray(inputs[net]))
        outputs |= {f"{net}.{at}": np.asarray(result) for at, result in enumerate(results)}
    assert_close(outputs, expected)


@pytest.mark.parametrize("net", NETS)
def test_the_way_back_gives_the_file(net: str, tmp_path: Path):
    """The same names, and the same numbers to the bit."""
    path = tmp_path / "net.npz"
    gn.checkpoint.write(net_of_file(net), path, changes=table(net).inverse())
    with np.load(path) as ours:
        assert_same(dict(ours), arrays_of(net))
