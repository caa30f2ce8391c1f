"""The transformer in equinox: of layers for one example, and `jax.vmap` of the whole."""

import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..transformer import EPSILON, EQX_JIT, LEARNING_RATE, Affine, Block, Makes, Norm, Sizes, Trainer, Weights

eqx: Any = importlib.import_module("equinox")


class TransformerBlock(eqx.Module):  # type: ignore[misc]
    attention_norm: Any
    attention: Any
    mlp_norm: Any
    up: Any
    down: Any

    def __init__(self, sizes: Sizes, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        width = sizes.width
        self.attention_norm = eqx.nn.LayerNorm(width, eps=EPSILON)
        self.attention = eqx.nn.MultiheadAttention(
            sizes.heads,
            width,
            use_query_bias=True,
            use_key_bias=True,
            use_value_bias=True,
            use_output_bias=True,
            key=keys[0],
        )
        self.mlp_norm = eqx.nn.LayerNorm(width, eps=EPSILON)
        self.up = eqx.nn.Linear(width, sizes.hidden, key=keys[1])
        self.down = eqx.nn.Linear(sizes.hidden, width, key=keys[2])

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        h = jax.vmap(self.attention_norm)(x)
        x = x + self.attention(h, h, h, mask)
        h = jax.vmap(lambda one: self.down(jax.nn.gelu(self.up(self.mlp_norm(one)))))(x)
        return x + h  # type: ignore[no-any-return]


class Transformer(eqx.Module):  # type: ignore[misc]
    tokens: Any
    positions: jax.Array
    blocks: list[TransformerBlock]
    norm: Any

    def __init__(self, sizes: Sizes, key: jax.Array) -> None:
        first, *keys = jax.random.split(key, sizes.layers + 1)
        self.tokens = eqx.nn.Embedding(sizes.tokens, sizes.width, key=first)
        self.positions = jnp.zeros((sizes.length, sizes.width))
        self.blocks = [TransformerBlock(sizes, key) for key in keys]
        self.norm = eqx.nn.LayerNorm(sizes.width, eps=EPSILON)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = jax.vmap(self.tokens)(tokens) + self.positions
        mask = jnp.tril(jnp.ones((len(tokens), len(tokens)), bool))
        for block in self.blocks:
            x = block(x, mask)
        return jax.vmap(self.norm)(x) @ self.tokens.weight.T  # type: ignore[no-any-return]


def model_of(sizes: Sizes, weights: Weights) -> Any:
    model = Transformer(sizes, jax.random.key(0))
    blocks = [_block(*pair) for pair in zip(model.blocks, weights.blocks, strict=True)]
    return eqx.tree_at(
        lambda model: (model.tokens.weight, model.positions, model.blocks, model.norm),
        model,
        (jnp.asarray(weights.tokens), jnp.asarray(weights.positions), blocks, _norm(model.norm, weights.norm)),
    )


def _block(layer: TransformerBlock, block: Block) -> Any:
    attention = layer.attention
    affines = {
        "query_proj": _affine(attention.query_proj, block.query),
        "key_proj": _affine(attention.key_proj, block.key),
        "value_proj": _affine(attention.value_proj, block.value),
        "output_proj": _affine(attention.output_proj, block.out),
    }
    attention = eqx.tree_at(
        lambda attention: [getattr(attention, name) for name in affines], attention, list(affines.values())
    )
    return eqx.tree_at(
        lambda layer: (layer.attention_norm, layer.attention, layer.mlp_norm, layer.up, layer.down),
        layer,
        (
            _norm(layer.attention_norm, block.attention_norm),
            attention,
            _norm(layer.mlp_norm, block.mlp_norm),
            _affine(layer.up, block.up),
            _affine(layer.down, block.down),
        ),
    )


def _affine(layer: Any, affine: Affine) -> Any:
    values = (jnp.asarray(affine.kernel.T), jnp.asarray(affine.bias))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, values)


def _norm(layer: Any, norm: Norm) -> Any:
    values = (jnp.asarray(norm.scale), jnp.asarray(norm.bias))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, values)


def loss_of(model: Any, batch: jax.Array) -> jax.Array:
    logits = jax.vmap(model)(batch[:, :-1])
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
    return losses.mean()


def trainer(sizes: Sizes, weights: Weights, batch: jax.Array) -> Trainer:
    model = model_of(sizes, weights)
    transformation = optax.adam(LEARNING_RATE)
    memory = transformation.init(eqx.filter(model, eqx.is_inexact_array))

    # The first argument is the one that is not donated.
    def train(batch: jax.Array, model: Any, memory: Any) -> tuple[Any, Any, jax.Array]:
        loss, gradients = eqx.filter_value_and_grad(loss_of)(model, batch)
        updates, memory = transformation.update(gradients, memory, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), memory, loss

    step = eqx.filter_jit(train, donate="all-except-first")

    def call() -> jax.Array:
        nonlocal model, memory
        model, memory, loss = step(batch, model, memory)
        return loss  # type: ignore[no-any-return]

    return Trainer(
        step=call,
        trace=lambda: eqx.filter_make_jaxpr(train)(batch, model, memory),
        lower=lambda: step.lower(batch, model, memory).lowered,
    )


WAYS: Mapping[str, Makes] = {EQX_JIT: trainer}
