"""expaloma, which gives atoms their charges: Equinox, whose file has arrays in order, and no names."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode.checkpoint import Changes, Rename, Stack, Transpose
from tests.published.comparing import Source, assert_close, assert_same, from_original
from tests.published.containers import file_of, npy_sequence

Atoms = Int[Array, "bonds"]


class Bonded(gn.nn.Module):
    """Features of an atom from its own and the mean of its neighbours' (Hamilton et al. 2017, "GraphSAGE")."""

    own: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(128, 128))
    neighbours: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(128, 128, use_bias=False))

    def __call__(self, x: Float[Array, "atoms 128"], senders: Atoms, receivers: Atoms) -> Float[Array, "atoms 128"]:
        count = len(x)
        sums = jax.ops.segment_sum(x[senders], receivers, count)
        degrees = jax.ops.segment_sum(jnp.ones(len(senders)), receivers, count)
        means = sums / jnp.maximum(degrees, 1)[:, jnp.newaxis]
        return jax.nn.relu(self.own(x) + self.neighbours(means))


class Charges(gn.nn.Module):
    """Layers that are stacked, as they are alike; then each molecule is given its charge, where that costs least."""

    start: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(116, 128))
    layers: Bonded = gn.subnode(factory=lambda self: gn.stack([Bonded() for _ in range(4)]))
    head: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(128, 2))

    def __call__(
        self,
        features: Float[Array, "atoms 116"],
        senders: Atoms,
        receivers: Atoms,
        molecules: Int[Array, "atoms"],
        totals: Float[Array, "molecules"],
    ) -> Float[Array, "atoms"]:
        x = jnp.tanh(self.start(features))
        x, _ = gn.scan(lambda x, layer: (layer(x, senders, receivers), None), x, self.layers)
        electronegativity, hardness = self.head(x).T
        softness = 1 / hardness
        wanted = totals + jax.ops.segment_sum(electronegativity * softness, molecules, len(totals))
        shares = wanted / jax.ops.segment_sum(softness, molecules, len(totals))
        charges: jax.Array = softness * (shares[molecules] - electronegativity)
        return charges


# By the order of the fields of the original. Numbers count the arrays of the file.
NAMES = [
    *("start.weight", "start.bias"),
    *(f"layers.{at}.{name}" for at in range(4) for name in ("own.weight", "own.bias", "neighbours.weight")),
    *("head.weight", "head.bias"),
]
TABLE = Changes([
    *[Rename(f"leaves.{at}", name) for at, name in enumerate(NAMES)],
    Transpose("**.weight"),
    Stack("layers.*.**", "layers.**"),
])  # fmt: skip

FILE = ("expaloma", "weights", "espaloma_v0_0_8.eqx")


def model_of_file() -> Charges:
    """The net with the weights of the file."""
    model = gn.eval_shape(Charges)
    gn.checkpoint.read(npy_sequence(file_of(*FILE)), into=model, changes=TABLE)
    return model


@from_original
def test_atoms_have_the_charges_that_equinox_gives_them(source: Source):
    """Of two molecules at once."""
    inputs, expected = source("expaloma")
    arrays = {name: jnp.asarray(array) for name, array in inputs.items()}
    charges = gn.jit(model_of_file())(**arrays, totals=jnp.array([1.0, 0.0]))
    assert_close({"charges": np.asarray(charges)}, expected)


def test_the_way_back_gives_the_file(tmp_path: Path):
    """The same numbers to the bit, in the same order."""
    path = tmp_path / "net.npz"
    gn.checkpoint.write(model_of_file(), path, changes=TABLE.inverse())
    with np.load(path) as ours:
        assert_same(dict(ours), npy_sequence(file_of(*FILE)))
