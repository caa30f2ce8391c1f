"""silero-vad, which tells where somebody speaks: PyTorch, in ONNX; and another training of it, in safetensors."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.checkpoint import Changes, Rename, Reshape, Sum, Transpose
from tests.published.comparing import Source, assert_close, from_original
from tests.published.containers import Arrays, file_of, onnx_initializers


def conv(in_size: int, out_size: int, strides: int) -> gn.nn.Conv:
    return gn.nn.Conv(in_size, out_size, 3, strides=strides, padding=1)


class SileroVAD(gn.nn.Cell[tuple[jax.Array, jax.Array]]):
    """The spectrum of a piece of sound, four convolutions over it, and a cell that remembers the pieces before."""

    spectrum: gn.nn.Conv = gn.subnode(
        factory=lambda self: gn.nn.Conv(1, 258, 256, strides=128, padding="VALID", use_bias=False)
    )
    encoder: list[gn.nn.Conv] = gn.subnode(
        factory=lambda self: [conv(129, 128, 1), conv(128, 64, 2), conv(64, 64, 2), conv(64, 128, 1)]
    )
    lstm: gn.nn.LSTMCell = gn.subnode(factory=lambda self: gn.nn.LSTMCell(128, 128))
    head: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(128, 1))

    def initial_carry(self, batch: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
        return self.lstm.initial_carry(batch)

    def __call__(
        self, carry: tuple[jax.Array, jax.Array], piece: Float[Array, "576"]
    ) -> tuple[tuple[jax.Array, jax.Array], Float[Array, "1"]]:
        """What is carried on, and how likely somebody speaks."""
        padded = jnp.pad(piece, (0, 64), mode="reflect")
        real, imaginary = jnp.split(self.spectrum(padded[:, jnp.newaxis]), 2, axis=-1)
        x = jnp.sqrt(real**2 + imaginary**2)
        for layer in self.encoder:
            x = jax.nn.relu(layer(x))
        carry, output = self.lstm(carry, x[0])
        return carry, jax.nn.sigmoid(self.head(jax.nn.relu(output)))


OF_ONNX = [
    Rename("model.stft.forward_basis_buffer", "spectrum.weight"),
    Rename("model.encoder.*.reparam_conv.*", "encoder.*.*"),
    Rename("model.decoder.rnn.*", "lstm.*"),
    Rename("model.decoder.decoder.2.*", "head.*"),
]
OF_SAFETENSORS = [
    Rename("stft_conv.*", "spectrum.*"),
    *[Rename(f"conv{at + 1}.*", f"encoder.{at}.*") for at in range(4)],
    Rename("lstm_cell.*", "lstm.*"),
    Rename("final_conv.*", "head.*"),
]
# What both have in common. The cell of PyTorch has two biases.
LAYOUT = Changes([
    Rename("lstm.weight_ih", "lstm.weight"),
    Rename("lstm.weight_hh", "lstm.recurrent"),
    Sum(["lstm.bias_ih", "lstm.bias_hh"], "lstm.bias"),
    Transpose("**.weight"),
    Transpose("lstm.recurrent"),
    Reshape("head.weight", [128, 1], before=[1, 128, 1]),
])  # fmt: skip

ONNX = ("silero_vad", "data", "silero_vad_16k_op15.onnx")
SAFETENSORS = ("silero_vad", "data", "silero_vad_16k.safetensors")


@gn.jit
def listen(model: SileroVAD, pieces: Float[Array, "time 576"]) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """What is carried at the end, and how likely somebody speaks in each piece."""
    return gn.nn.RNN(model).run(pieces)


def outputs_of(model: SileroVAD, inputs: Arrays) -> Arrays:
    """As those of the originals, which carry the output before the memory."""
    (memory, output), probabilities = listen(model, jnp.asarray(inputs["pieces"]))
    carried = np.stack([output[jnp.newaxis, :8], memory[jnp.newaxis, :8]])[:, 0]
    return {"probabilities": np.asarray(probabilities[:, 0]), "carried": carried}


@from_original
def test_weights_of_onnx_give_what_onnx_runtime_gives(source: Source):
    """The initializers of the graph have the names of PyTorch."""
    model = gn.eval_shape(SileroVAD)
    gn.checkpoint.read(onnx_initializers(file_of(*ONNX)), into=model, changes=[*OF_ONNX, *LAYOUT])
    inputs, expected = source("silero_vad_onnx")
    assert_close(outputs_of(model, inputs), expected)


@from_original
def test_weights_of_safetensors_give_what_tinygrad_gives(source: Source):
    """The file is read as it is; its numbers are not those of the graph, but for the spectrum."""
    model = gn.eval_shape(SileroVAD)
    gn.checkpoint.read(file_of(*SAFETENSORS), into=model, changes=[*OF_SAFETENSORS, *LAYOUT])
    inputs, expected = source("silero_vad_safetensors")
    assert_close(outputs_of(model, inputs), expected)
