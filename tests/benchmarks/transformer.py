"""The transformer that every library trains: its sizes, its weights, and what a training step of it is.

A decoder-only transformer with learned positions, norms before each part, and one matrix for the embedding and the
logits (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"). Each library writes it with its own
layers, as its documentation says, and all are given the same weights, so that all compute the same loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from .library import EQUINOX, GRAPHNODE, NNX, installed

LEARNING_RATE: Final = 1e-3
EPSILON: Final = 1e-6
"""What norms add to the variance."""

GN_TRAIN: Final = "graphnode: `gn.jit(donate=True)`"
NNX_JIT: Final = "flax.nnx: `nnx.jit`"
NNX_CACHED: Final = "flax.nnx: `nnx.cached_partial`"
NNX_PARTIAL: Final = "flax.nnx: `nnx.jit_partial`"
NNX_FUNCTIONAL: Final = "flax.nnx: `jax.jit` of `split` and `merge`"
EQX_JIT: Final = "equinox: `eqx.filter_jit`"

_MODULES: Final = {
    GRAPHNODE: ".models.transformer_on_graphnode",
    NNX: ".models.transformer_on_nnx",
    EQUINOX: ".models.transformer_on_equinox",
}
MODEL_NAMES: Final = tuple(_MODULES)


@dataclass(frozen=True)
class Sizes:
    """How large the model and its batch are."""

    layers: int = 6
    width: int = 128
    heads: int = 4
    batch: int = 8
    length: int = 128
    tokens: int = 256
    """How many there are: all bytes."""

    @property
    def hidden(self) -> int:
        """Features in the middle of the perceptrons."""
        return 4 * self.width


class Affine(NamedTuple):
    """An affine map `x @ kernel + bias`."""

    kernel: np.ndarray
    bias: np.ndarray


class Norm(NamedTuple):
    """What normalised features are scaled and shifted by."""

    scale: np.ndarray
    bias: np.ndarray


class Block(NamedTuple):
    """The weights of one block."""

    attention_norm: Norm
    query: Affine
    key: Affine
    value: Affine
    out: Affine
    mlp_norm: Norm
    up: Affine
    down: Affine


class Weights(NamedTuple):
    """All weights of a model."""

    tokens: np.ndarray
    positions: np.ndarray
    blocks: list[Block]
    norm: Norm


def weights_of(sizes: Sizes) -> Weights:
    """Random weights, the same at every call; no bias is zero and no scale is one, so that each is told apart."""
    rng = np.random.default_rng(0)
    width = sizes.width

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def affine(n_in: int, n_out: int) -> Affine:
        return Affine(normal(n_in, n_out, scale=n_in**-0.5), normal(n_out, scale=0.1))

    def norm() -> Norm:
        return Norm(1 + normal(width, scale=0.1), normal(width, scale=0.1))

    def block() -> Block:
        query, key, value, out = [affine(width, width) for _ in range(4)]
        return Block(norm(), query, key, value, out, norm(), affine(width, sizes.hidden), affine(sizes.hidden, width))

    blocks = [block() for _ in range(sizes.layers)]
    return Weights(
        normal(sizes.tokens, width, scale=width**-0.5), normal(sizes.length, width, scale=0.02), blocks, norm()
    )


def batch_of(sizes: Sizes) -> jax.Array:
    """Texts with one token more than the model sees: the last one is only predicted."""
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.integers(0, sizes.tokens, (sizes.batch, sizes.length + 1)), jnp.int32)


class Lowered(Protocol):
    """What a step is lowered to: a `jax.stages.Lowered`, or a library's own of the same methods."""

    def as_text(self) -> str: ...
    def compile(self) -> Any: ...


class Trainer(NamedTuple):
    """A new model, its optimizer, and a step of training that JAX has not seen."""

    step: Callable[[], jax.Array]
    """Makes one step in place, and returns the loss before it."""
    trace: Callable[[], object]
    """Traces a step."""
    lower: Callable[[], Lowered]
    """Lowers a step."""


class Makes(Protocol):
    """Makes a model of these sizes with these weights, and what trains it on a batch."""

    def __call__(self, sizes: Sizes, weights: Weights, batch: jax.Array) -> Trainer: ...


def load_ways() -> tuple[dict[str, Makes], set[str]]:
    """The ways to train, by name, and the peers that are not installed."""
    ways: dict[str, Makes] = {}
    missing = set(_MODULES)
    for name, module in installed(_MODULES):
        missing.remove(name)
        ways |= module.WAYS
    return ways, missing
