"""The transformer in flax.nnx, trained in each way that its documentation has.

`cached_partial` is in graph mode, the default; `jit_partial` is made for tree mode.
"""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..transformer import (
    EPSILON,
    LEARNING_RATE,
    NNX_CACHED,
    NNX_FUNCTIONAL,
    NNX_JIT,
    NNX_PARTIAL,
    Affine,
    Block,
    Makes,
    Norm,
    Sizes,
    Trainer,
    Weights,
)

nnx: Any = importlib.import_module("flax.nnx")


class TransformerBlock(nnx.Module):  # type: ignore[misc]
    def __init__(self, sizes: Sizes, rngs: Any) -> None:
        self.attention_norm = nnx.LayerNorm(sizes.width, epsilon=EPSILON, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(sizes.heads, sizes.width, decode=False, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(sizes.width, epsilon=EPSILON, rngs=rngs)
        self.up = nnx.Linear(sizes.width, sizes.hidden, rngs=rngs)
        self.down = nnx.Linear(sizes.hidden, sizes.width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.attention_norm(x), is_causal=True)
        return x + self.down(nnx.gelu(self.up(self.mlp_norm(x))))  # type: ignore[no-any-return]


class Transformer(nnx.Module):  # type: ignore[misc]
    def __init__(self, sizes: Sizes, rngs: Any) -> None:
        self.tokens = nnx.Embed(sizes.tokens, sizes.width, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((sizes.length, sizes.width)))
        self.blocks = nnx.List([TransformerBlock(sizes, rngs) for _ in range(sizes.layers)])
        self.norm = nnx.LayerNorm(sizes.width, epsilon=EPSILON, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.tokens(tokens) + self.positions[None]
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(self.norm(x))  # type: ignore[no-any-return]


def model_of(sizes: Sizes, weights: Weights) -> Transformer:
    model = Transformer(sizes, nnx.Rngs(0))
    model.tokens.embedding.set_value(jnp.asarray(weights.tokens))
    model.positions.set_value(jnp.asarray(weights.positions))
    for layer, block in zip(model.blocks, weights.blocks, strict=True):
        _set_block(layer, block)
    _set_norm(model.norm, weights.norm)
    return model


def _set_block(layer: TransformerBlock, block: Block) -> None:
    attention = layer.attention
    affines = {
        attention.query: block.query,
        attention.key: block.key,
        attention.value: block.value,
        attention.out: block.out,
        layer.up: block.up,
        layer.down: block.down,
    }
    for linear, affine in affines.items():
        _set_affine(linear, affine)
    _set_norm(layer.attention_norm, block.attention_norm)
    _set_norm(layer.mlp_norm, block.mlp_norm)


def _set_affine(layer: Any, affine: Affine) -> None:
    # An attention keeps the axes of heads and their features apart.
    layer.kernel.set_value(jnp.asarray(affine.kernel.reshape(layer.kernel.shape)))
    layer.bias.set_value(jnp.asarray(affine.bias.reshape(layer.bias.shape)))


def _set_norm(layer: Any, norm: Norm) -> None:
    layer.scale.set_value(jnp.asarray(norm.scale))
    layer.bias.set_value(jnp.asarray(norm.bias))


def loss_of(model: Transformer, batch: jax.Array) -> jax.Array:
    logits = model(batch[:, :-1])
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
    return losses.mean()


def train(model: Transformer, optimizer: Any, batch: jax.Array) -> jax.Array:
    loss, gradients = nnx.value_and_grad(loss_of)(model, batch)
    optimizer.update(model, gradients)
    return loss  # type: ignore[no-any-return]


def fresh() -> Any:
    def step(model: Transformer, optimizer: Any, batch: jax.Array) -> jax.Array:
        return train(model, optimizer, batch)

    return step


def pair_of(sizes: Sizes, weights: Weights) -> tuple[Transformer, Any]:
    model = model_of(sizes, weights)
    return model, nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)


def jit(sizes: Sizes, weights: Weights, batch: jax.Array) -> Trainer:
    pair = pair_of(sizes, weights)
    step = nnx.jit(fresh(), donate_argnums=(0, 1))
    return Trainer(partial(step, *pair, batch), partial(step.trace, *pair, batch), partial(step.lower, *pair, batch))


def cached_partial(sizes: Sizes, weights: Weights, batch: jax.Array) -> Trainer:
    pair = pair_of(sizes, weights)
    step = nnx.jit(fresh(), graph=True, graph_updates=True, donate_argnums=(0, 1))
    cached = nnx.cached_partial(step, *pair)
    return Trainer(partial(cached, batch), partial(step.trace, *pair, batch), partial(step.lower, *pair, batch))


def jit_partial(sizes: Sizes, weights: Weights, batch: jax.Array) -> Trainer:
    # To it, all that is given once is one argument.
    step = nnx.jit_partial(fresh(), *pair_of(sizes, weights), graph=False, donate_argnums=0)
    return Trainer(partial(step, batch), partial(step.trace, batch), partial(step.lower, batch))


def functional(sizes: Sizes, weights: Weights, batch: jax.Array) -> Trainer:
    graphdef, state = nnx.split(pair_of(sizes, weights))

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
        model, optimizer = nnx.merge(graphdef, state)
        loss = train(model, optimizer, batch)
        return nnx.state((model, optimizer)), loss

    def call() -> jax.Array:
        nonlocal state
        state, loss = step(state, batch)
        return loss  # type: ignore[no-any-return]

    return Trainer(call, lambda: step.trace(state, batch), lambda: step.lower(state, batch))


WAYS: Mapping[str, Makes] = {
    NNX_JIT: jit,
    NNX_CACHED: cached_partial,
    NNX_PARTIAL: jit_partial,
    NNX_FUNCTIONAL: functional,
}
