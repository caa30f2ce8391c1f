"""The LLaMA-like model in equinox: of layers for one token or text, mapped over batches; caches go in and out."""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..llama import (
    EPSILON,
    EQX_LLAMA,
    LEARNING_RATE,
    Decoder,
    LlamaSizes,
    LlamaWeights,
    MakesRunner,
    Runner,
    rotated,
    seen_by,
)

eqx: Any = importlib.import_module("equinox")


class Attention(eqx.Module):  # type: ignore[misc]
    # Its own attention has no groups of heads.
    query: Any
    key: Any
    value: Any
    out: Any
    sizes: LlamaSizes = eqx.field(static=True)

    def __init__(self, sizes: LlamaSizes) -> None:
        keys = sizes.kv_heads * sizes.head_size
        linear = partial(eqx.nn.Linear, use_bias=False, key=jax.random.key(0))
        self.query, self.out = linear(sizes.width, sizes.width), linear(sizes.width, sizes.width)
        self.key, self.value = linear(sizes.width, keys), linear(sizes.width, keys)
        self.sizes = sizes

    def __call__(self, x: jax.Array, cache: Any, position: Any) -> tuple[jax.Array, Any]:
        size = self.sizes.head_size
        query, key, value = (
            jax.vmap(jax.vmap(layer))(x).reshape(*x.shape[:2], -1, size) for layer in (self.query, self.key, self.value)
        )
        positions = position + jnp.arange(x.shape[1], dtype=jnp.int32)
        query, key = rotated(query, positions), rotated(key, positions)
        if cache is None:
            y = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        else:
            key = jax.lax.dynamic_update_slice_in_dim(cache[0], key, position, axis=1)
            value = jax.lax.dynamic_update_slice_in_dim(cache[1], value, position, axis=1)
            cache = key, value
            mask = seen_by(position, x.shape[1], self.sizes.room)
            y = jax.nn.dot_product_attention(query, key, value, mask=mask)
        return jax.vmap(jax.vmap(self.out))(y.reshape(x.shape)), cache


class Block(eqx.Module):  # type: ignore[misc]
    attention_norm: Any
    attention: Attention
    mlp_norm: Any
    gate: Any
    up: Any
    down: Any

    def __init__(self, sizes: LlamaSizes) -> None:
        linear = partial(eqx.nn.Linear, use_bias=False, key=jax.random.key(0))
        self.attention_norm = eqx.nn.RMSNorm(sizes.width, eps=EPSILON, use_bias=False)
        self.attention = Attention(sizes)
        self.mlp_norm = eqx.nn.RMSNorm(sizes.width, eps=EPSILON, use_bias=False)
        self.gate, self.up = linear(sizes.width, sizes.hidden), linear(sizes.width, sizes.hidden)
        self.down = linear(sizes.hidden, sizes.width)

    def mlp(self, x: jax.Array) -> jax.Array:
        h = self.mlp_norm(x)
        return self.down(jax.nn.silu(self.gate(h)) * self.up(h))  # type: ignore[no-any-return]

    def __call__(self, x: jax.Array, cache: Any, position: Any) -> tuple[jax.Array, Any]:
        y, cache = self.attention(jax.vmap(jax.vmap(self.attention_norm))(x), cache, position)
        x = x + y
        return x + jax.vmap(jax.vmap(self.mlp))(x), cache


class Llama(eqx.Module):  # type: ignore[misc]
    tokens: Any
    blocks: list[Block]
    norm: Any
    head: Any

    def __init__(self, sizes: LlamaSizes) -> None:
        self.tokens = eqx.nn.Embedding(sizes.tokens, sizes.width, key=jax.random.key(0))
        self.blocks = [Block(sizes) for _ in range(sizes.layers)]
        self.norm = eqx.nn.RMSNorm(sizes.width, eps=EPSILON, use_bias=False)
        self.head = eqx.nn.Linear(sizes.width, sizes.tokens, use_bias=False, key=jax.random.key(0))

    def __call__(self, tokens: jax.Array, caches: Any = None, position: Any = 0) -> tuple[jax.Array, Any]:
        x = jax.vmap(jax.vmap(self.tokens))(tokens)
        kept = []
        for at, block in enumerate(self.blocks):
            x, cache = block(x, None if caches is None else caches[at], position)
            kept.append(cache)
        return jax.vmap(jax.vmap(lambda one: self.head(self.norm(one))))(x), kept


def model_of(sizes: LlamaSizes, weights: LlamaWeights) -> Llama:
    def places(model: Llama) -> list[Any]:
        found = [model.tokens.weight, model.norm.weight, model.head.weight]
        for block in model.blocks:
            attention = block.attention
            linears = [attention.query, attention.key, attention.value, attention.out, block.gate, block.up, block.down]
            found += [block.attention_norm.weight, block.mlp_norm.weight, *[linear.weight for linear in linears]]
        return found

    values = [weights.tokens, weights.norm, weights.head.T]
    for block in weights.blocks:
        values += [block["attention_norm"], block["mlp_norm"]]
        values += [block[name].T for name in ("query", "key", "value", "out", "gate", "up", "down")]
    return eqx.tree_at(places, Llama(sizes), [jnp.asarray(value) for value in values])  # type: ignore[no-any-return]


def loss_of(model: Llama, batch: jax.Array) -> jax.Array:
    logits, _ = model(batch[:, :-1])
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
    return losses.mean()


def runner(sizes: LlamaSizes, weights: LlamaWeights, batch: jax.Array) -> Runner:
    model, read = model_of(sizes, weights), batch[:, :-1]
    adam = optax.adam(LEARNING_RATE)
    trained = model_of(sizes, weights)
    kept = [trained, adam.init(eqx.filter(trained, eqx.is_inexact_array))]

    @eqx.filter_jit  # type: ignore[untyped-decorator]
    def forward(model: Llama, tokens: jax.Array) -> jax.Array:
        return model(tokens)[0]

    @eqx.filter_jit(donate="all")  # type: ignore[untyped-decorator]
    def train(model: Llama, memory: Any, batch: jax.Array) -> tuple[Llama, Any, jax.Array]:
        loss, gradients = eqx.filter_value_and_grad(loss_of)(model, batch)
        updates, memory = adam.update(gradients, memory, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), memory, loss

    def step() -> jax.Array:
        # All is donated: the batch is made anew, as a loader does.
        kept[0], kept[1], loss = train(kept[0], kept[1], jnp.copy(batch))
        return loss  # type: ignore[no-any-return]

    return Runner(
        partial(forward, model, read),
        lambda: forward.lower(model, read).lowered,
        step,
        lambda: train.lower(kept[0], kept[1], batch).lowered,
        decoder(model, sizes),
    )


def decoder(model: Llama, sizes: LlamaSizes) -> Decoder:
    shape = (sizes.batch, sizes.room, sizes.kv_heads, sizes.head_size)

    def empty() -> list[Any]:
        return [[(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(sizes.layers)], jnp.zeros((), jnp.int32)]

    kept = empty()

    # The first argument is kept, the others are donated.
    @eqx.filter_jit(donate="all-except-first")  # type: ignore[untyped-decorator]
    def decode(inputs: tuple[Llama, jax.Array], caches: Any, position: Any) -> tuple[jax.Array, Any, Any]:
        model, tokens = inputs
        logits, caches = model(tokens, caches, position)
        return logits, caches, position + tokens.shape[1]

    def step(tokens: jax.Array) -> jax.Array:
        logits, kept[0], kept[1] = decode((model, tokens), kept[0], kept[1])
        return logits  # type: ignore[no-any-return]

    def reset() -> None:
        kept[:] = empty()

    token = jnp.zeros((sizes.batch, 1), jnp.int32)
    return Decoder(reset, step, lambda: decode.lower((model, token), kept[0], kept[1]).lowered)


RUNNERS: Mapping[str, MakesRunner] = {EQX_LLAMA: runner}
