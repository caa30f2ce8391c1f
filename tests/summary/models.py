"""Small models for tests of summaries."""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode import nn


class Scale(gn.Node):
    """A product without a sum, annotated."""

    in_size: int
    out_size: int
    weight: gn.ParamState[Float[Array, "in_size out_size"]] = gn.state(jax.nn.initializers.ones)

    def __call__(self, x: Float[Array, "*batch in_size"]) -> Float[Array, "*batch out_size"]:
        return x @ self.weight.value


class Chain(gn.Node):
    """Layers one after another."""

    layers: list[Scale]

    def __call__(self, x: Float[Array, "batch size"]) -> Array:
        for layer in self.layers:
            x = layer(x)
        return x


class Coder(gn.Node):
    """Two methods, a shared part, and two inputs."""

    embed: nn.Embedding
    mix: Scale
    head: Scale

    def __call__(
        self, tokens: Int[Array, "batch time"], scale: Float[Array, "batch time 1"], *, flag: bool = False
    ) -> Array:
        encoded = self.encode(tokens) * scale
        return self.decode(encoded) if flag else encoded

    def encode(self, tokens: Int[Array, "batch time"]) -> Array:
        return self.mix(self.embed(tokens))

    def decode(self, x: Float[Array, "batch time size"]) -> Array:
        return self.head(x)


def abstract(*sizes: int) -> Chain:
    """A chain of layers with these sizes, without arrays."""
    return gn.eval_shape(lambda: chain(*sizes))


def chain(*sizes: int) -> Chain:
    """A chain of layers with these sizes."""
    return Chain([Scale(left, right) for left, right in itertools.pairwise(sizes)])


def coder() -> Coder:
    """A coder whose head is its mixer."""
    mix = Scale(4, 4)
    return Coder(nn.Embedding(10, 4), mix, mix)


def zeros(*shape: int) -> jax.Array:
    return jnp.zeros(shape)
