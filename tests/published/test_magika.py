"""magika, which tells kinds of files from their bytes: Flax, exported to ONNX by way of TensorFlow."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode.checkpoint import Changes, Rename, Reshape, Transpose
from tests.published.comparing import Source, assert_close, assert_same, from_original
from tests.published.containers import Arrays, file_of, onnx_initializers


class Magika(gn.nn.Module):
    """A vector for each byte, four of them at a time; a convolution, its largest features, a score for each kind."""

    embedding: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(257, 64))
    position_norm: gn.nn.LayerNorm = gn.subnode(factory=lambda self: gn.nn.LayerNorm(512))
    conv: gn.nn.Conv = gn.subnode(factory=lambda self: gn.nn.Conv(256, 512, 5, padding="VALID"))
    norm: gn.nn.LayerNorm = gn.subnode(factory=lambda self: gn.nn.LayerNorm(512))
    head: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(512, 214))

    def __call__(self, files: Int[Array, "batch 2048"]) -> Float[Array, "batch 214"]:
        x = jax.nn.gelu(self.embedding(jax.nn.one_hot(files, 257)))
        x = x.reshape(len(files), 512, 256)
        # Over the positions, each feature by itself.
        x = self.position_norm(x.swapaxes(1, 2)).swapaxes(1, 2)
        x = jax.nn.gelu(self.conv(x)).max(1)
        return jax.nn.softmax(self.head(self.norm(x)))


# The export kept the names of some layers, and gave others to what it had computed.
GRAPH = "jax2tf_get_logits_"
FLAX = f"{GRAPH}/pjit_get_logits_/MagikaV2"
TABLE = Changes([
    Rename(f"{GRAPH}/Const:0", "embedding.weight"),
    Rename(f"{FLAX}/Dense_0/Reshape:0", "embedding.bias"),
    Reshape("embedding.bias", [64], before=[1, 1, 64]),
    Rename(f"{FLAX}/LayerNorm_0/Reshape_2:0", "position_norm.scale"),
    Rename(f"{FLAX}/LayerNorm_0/Reshape_3:0", "position_norm.bias"),
    Reshape("position_norm.*", [512], before=[1, 512, 1]),
    Rename(f"{FLAX}/Conv_0/transpose_3:0", "conv.weight"),
    Reshape("conv.weight", [512, 256, 5], before=[512, 256, 5, 1]),
    Transpose("conv.weight"),
    Rename("const_fold_opt__209", "conv.bias"),
    Reshape("conv.bias", [512], before=[1, 512, 1]),
    Rename(f"{FLAX}/LayerNorm_1/Reshape_2:0", "norm.scale"),
    Rename(f"{FLAX}/LayerNorm_1/Reshape_3:0", "norm.bias"),
    Reshape("norm.*", [512], before=[1, 512]),
    Rename(f"{GRAPH}/Const_24:0", "head.weight"),
    Rename(f"{FLAX}/Dense_1/Reshape:0", "head.bias"),
    Reshape("head.bias", [214], before=[1, 214]),
])  # fmt: skip
# Numbers that are written in code elsewhere: of gelu, epsilon, and so on.
NUMBERS = [f"{GRAPH}/Const_*:0", "const_fold_opt__211", f"ConstantFolding/{FLAX}/LayerNorm_1/truediv_recip:0"]


def arrays_of_file() -> Arrays:
    return onnx_initializers(file_of("magika", "models", "standard_v3_3", "model.onnx"))


def model_of_file() -> Magika:
    """The net with the weights of the file."""
    model = gn.eval_shape(Magika)
    gn.checkpoint.read(arrays_of_file(), into=model, changes=TABLE, allow_unused=NUMBERS)
    return model


@from_original
def test_files_are_told_as_by_onnx_runtime(source: Source):
    """How likely each kind is."""
    inputs, expected = source("magika")
    outputs = gn.jit(model_of_file())(jnp.asarray(inputs["files"]))
    assert_close({"probabilities": np.asarray(outputs)}, expected)


def test_the_way_back_gives_the_file(tmp_path: Path):
    """The same names, and the same numbers to the bit; but for what is a single number."""
    path = tmp_path / "net.safetensors"
    gn.checkpoint.write(model_of_file(), path, changes=TABLE.inverse())
    theirs = {name: array for name, array in arrays_of_file().items() if array.size > 1}
    assert_same(safetensors.numpy.load_file(path), theirs)
