"""The language model that is run, trained and decoded with by every library: its sizes, its weights, and what is timed.

A decoder as LLaMA's (Touvron et al. 2023, "LLaMA", section 2.2): norms before each part, rotary positions, heads of
queries that share those of keys and values, and a gated perceptron. Each library writes it with its own layers, and all
are given the same weights, so that all compute the same logits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .library import EQUINOX, GRAPHNODE, NNX, installed
from .transformer import Lowered

BY_HAND: Final = "JAX by hand"
GN_LLAMA: Final = GRAPHNODE
NNX_LLAMA: Final = "flax.nnx: `nnx.jit`"
NNX_LLAMA_CACHED: Final = "flax.nnx: `nnx.cached_partial`"
NNX_LLAMA_FUNCTIONAL: Final = "flax.nnx: `jax.jit` of `split` and `merge`"
EQX_LLAMA: Final = "equinox: `eqx.filter_jit`"

EPSILON: Final = 1e-6
BASE: Final = 10_000.0
LEARNING_RATE: Final = 1e-3

_MODULES: Final = {
    GRAPHNODE: ".models.llama_on_graphnode",
    BY_HAND: ".models.llama_by_hand",
    NNX: ".models.llama_on_nnx",
    EQUINOX: ".models.llama_on_equinox",
}
LLAMA_NAMES: Final = tuple(_MODULES)

Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class LlamaSizes:
    """How large the model and its batch are."""

    layers: int = 8
    width: int = 256
    heads: int = 8
    kv_heads: int = 2
    hidden: int = 688
    """Features in the middle of the perceptrons: 8/3 of the width, in multiples of 16."""
    tokens: int = 512
    batch: int = 2
    length: int = 128
    room: int = 512
    """How many tokens there is room for while a text is decoded."""

    @property
    def head_size(self) -> int:
        """Features of a head."""
        return self.width // self.heads


class LlamaWeights(NamedTuple):
    """All weights of a model; matrices map from their first axis to their second."""

    tokens: np.ndarray
    blocks: list[Arrays]
    norm: np.ndarray
    head: np.ndarray


def llama_weights(sizes: LlamaSizes) -> LlamaWeights:
    """Random weights, the same at every call; no scale is one, so that each is told apart."""
    rng = np.random.default_rng(0)
    width, keys = sizes.width, sizes.kv_heads * sizes.head_size

    def matrix(n_in: int, n_out: int) -> np.ndarray:
        return np.asarray(n_in**-0.5 * rng.standard_normal((n_in, n_out)), np.float32)

    def scale() -> np.ndarray:
        return np.asarray(1 + 0.1 * rng.standard_normal(width), np.float32)

    def block() -> Arrays:
        return {
            "attention_norm": scale(),
            "query": matrix(width, width),
            "key": matrix(width, keys),
            "value": matrix(width, keys),
            "out": matrix(width, width),
            "mlp_norm": scale(),
            "gate": matrix(width, sizes.hidden),
            "up": matrix(width, sizes.hidden),
            "down": matrix(sizes.hidden, width),
        }

    blocks = [block() for _ in range(sizes.layers)]
    return LlamaWeights(matrix(width, sizes.tokens).T, blocks, scale(), matrix(width, sizes.tokens))


def llama_batch(sizes: LlamaSizes) -> jax.Array:
    """Texts with one token more than the model sees: the last one is only predicted."""
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.integers(0, sizes.tokens, (sizes.batch, sizes.length + 1)), jnp.int32)


class Decoder(NamedTuple):
    """A model that keeps what it read."""

    reset: Callable[[], object]
    """Forgets it."""
    step: Callable[[jax.Array], jax.Array]
    """From one token of each text, of shape `[batch, 1]`, to the logits of the next one."""
    lower: Callable[[], Lowered]
    """Lowers a step."""


class Runner(NamedTuple):
    """A new model, and what is timed of it."""

    forward: Callable[[], jax.Array]
    """The logits of the batch without its last tokens."""
    lower_forward: Callable[[], Lowered]
    step: Callable[[], jax.Array]
    """Makes one step of training in place, and returns the loss before it."""
    lower_step: Callable[[], Lowered]
    decoder: Decoder


class MakesRunner(Protocol):
    """Makes a model of these sizes with these weights."""

    def __call__(self, sizes: LlamaSizes, weights: LlamaWeights, batch: jax.Array) -> Runner: ...


def load_runners() -> tuple[dict[str, MakesRunner], set[str]]:
    """The ways to run the model, by name, and the peers that are not installed."""
    runners: dict[str, MakesRunner] = {}
    missing = set(_MODULES)
    for name, module in installed(_MODULES):
        missing.remove(name)
        runners |= module.RUNNERS
    return runners, missing


def rotated(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Queries or keys of shape `[batch, time, heads, size]`, rotated by their positions: halves are pairs.

    For the libraries that have no such function.
    """
    half = x.shape[-1] // 2
    rates = (BASE ** (-np.arange(half) / half)).astype(np.float32)
    angles = positions.astype(jnp.float32)[:, None, None] * rates[None, None]
    cos, sin = jnp.cos(angles)[None], jnp.sin(angles)[None]
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def seen_by(position: "jax.Array | int", time: int, room: int) -> jax.Array:
    """Which entries of a cache each of `time` new tokens sees, of shape `[1, 1, time, room]`."""
    at = position + jnp.arange(time, dtype=jnp.int32)
    return (jnp.arange(room, dtype=jnp.int32)[None, :] <= at[:, None])[None, None]
