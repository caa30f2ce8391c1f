"""g2p-en, which spells out how words sound: NumPy, in a `.npz`, trained in TensorFlow."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

import graphnode as gn
from graphnode.checkpoint import Changes, Join, Rename, Split, Sum, Transpose
from tests.published.comparing import Source, assert_close, from_original
from tests.published.containers import file_of

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
START, END = 2, 3
"""The numbers of the phonemes that stand for no sound."""


class Speller(gn.nn.Module):
    """A recurrent net over letters, and one that says a phoneme at a time from what the first carries."""

    letters: gn.nn.Embedding = gn.subnode(factory=lambda self: gn.nn.Embedding(29, 256))
    phonemes: gn.nn.Embedding = gn.subnode(factory=lambda self: gn.nn.Embedding(74, 256))
    encoder: gn.nn.GRUCell = gn.subnode(factory=lambda self: gn.nn.GRUCell(256, 256))
    decoder: gn.nn.GRUCell = gn.subnode(factory=lambda self: gn.nn.GRUCell(256, 256))
    head: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(256, 74))

    def __call__(self, word: Int[Array, "length"]) -> tuple[jax.Array, jax.Array]:
        """What the encoder carries at the end, and twenty phonemes."""
        start, _ = gn.nn.RNN(self.encoder).run(self.letters(word))

        def say(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            before, phoneme = carry
            after, output = self.decoder(before, self.phonemes(phoneme))
            phoneme = jnp.argmax(self.head(output))
            return (after, phoneme), phoneme

        _, phonemes = gn.scan(say, (start, jnp.argmax(jnp.arange(74) == START)), length=20)
        return start, phonemes


def cell(name: str) -> Changes:
    """The gates are in one order on both sides; but each has two biases there, and here only the candidate has."""
    return Changes([
        Rename(f"{name}.w_ih", f"{name}.weight"),
        Rename(f"{name}.w_hh", f"{name}.recurrent"),
        Split(f"{name}.b_ih", [f"{name}.gates", f"{name}.candidate"], sizes=[512, 256]),
        Split(f"{name}.b_hh", [f"{name}.more", f"{name}.candidate_bias"], sizes=[512, 256]),
        Sum([f"{name}.gates", f"{name}.more"], f"{name}.gates"),
        Join([f"{name}.gates", f"{name}.candidate"], f"{name}.bias", sizes=[512, 256]),
        Transpose(f"{name}.weight"),
        Transpose(f"{name}.recurrent"),
    ])  # fmt: skip


TABLE = Changes([
    Rename("enc_emb", "letters.weight"),
    Rename("dec_emb", "phonemes.weight"),
    Rename("enc_*", "encoder.*"),
    Rename("dec_*", "decoder.*"),
    *cell("encoder"),
    *cell("decoder"),
    Rename("fc_w", "head.weight"),
    Rename("fc_b", "head.bias"),
    Transpose("head.weight"),
])  # fmt: skip


@from_original
def test_words_sound_as_in_numpy(source: Source):
    """The phonemes of each word, up to the end of it; and what the encoder carries."""
    model = gn.eval_shape(Speller)
    gn.checkpoint.read(file_of("g2p_en", "checkpoint20.npz"), into=model, changes=TABLE)
    inputs, expected = source("g2p")
    phonemes = np.full((len(inputs["words"]), 20), -1)
    carried: list[jax.Array] = []
    for at, word in enumerate(inputs["words"]):
        numbers = [LETTERS.index(letter) for letter in str(word)]
        end, said = gn.jit(model)(jnp.array([*numbers, LETTERS.index("</s>")]))
        count = [*said.tolist(), END].index(END)
        phonemes[at, :count] = said[:count]
        carried.append(end[:8])
    assert_close({"phonemes": phonemes, "carried": np.stack(carried)}, expected)
