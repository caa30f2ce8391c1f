"""The LLaMA-like model in flax.nnx, run in each way that its documentation has."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..llama import (
    EPSILON,
    LEARNING_RATE,
    NNX_LLAMA,
    NNX_LLAMA_CACHED,
    NNX_LLAMA_FUNCTIONAL,
    Decoder,
    LlamaSizes,
    LlamaWeights,
    MakesRunner,
    Runner,
    rotated,
    seen_by,
)

nnx: Any = importlib.import_module("flax.nnx")


class Attention(nnx.Module):  # type: ignore[misc]
    # Its own attention has no rotary positions.
    def __init__(self, sizes: LlamaSizes, rngs: Any) -> None:
        linear = partial(nnx.LinearGeneral, use_bias=False, rngs=rngs)
        self.query = linear(sizes.width, (sizes.heads, sizes.head_size))
        self.key = linear(sizes.width, (sizes.kv_heads, sizes.head_size))
        self.value = linear(sizes.width, (sizes.kv_heads, sizes.head_size))
        self.out = linear((sizes.heads, sizes.head_size), sizes.width, axis=(-2, -1))
        self.sizes = sizes
        self.keys = self.values = self.position = nnx.data(None)

    def init_cache(self) -> None:
        sizes = self.sizes
        shape = (sizes.batch, sizes.room, sizes.kv_heads, sizes.head_size)
        self.keys, self.values = nnx.Cache(jnp.zeros(shape)), nnx.Cache(jnp.zeros(shape))
        self.position = nnx.Cache(jnp.zeros((), jnp.int32))

    def __call__(self, x: jax.Array) -> jax.Array:
        start = 0 if self.position is None else self.position[...]
        positions = start + jnp.arange(x.shape[1], dtype=jnp.int32)
        query, key = rotated(self.query(x), positions), rotated(self.key(x), positions)
        value = self.value(x)
        if self.position is None:
            y = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        else:
            self.keys[...] = jax.lax.dynamic_update_slice_in_dim(self.keys[...], key, start, axis=1)
            self.values[...] = jax.lax.dynamic_update_slice_in_dim(self.values[...], value, start, axis=1)
            self.position[...] = start + x.shape[1]
            mask = seen_by(start, x.shape[1], self.sizes.room)
            y = jax.nn.dot_product_attention(query, self.keys[...], self.values[...], mask=mask)
        return self.out(y)  # type: ignore[no-any-return]


class Block(nnx.Module):  # type: ignore[misc]
    def __init__(self, sizes: LlamaSizes, rngs: Any) -> None:
        linear = partial(nnx.Linear, use_bias=False, rngs=rngs)
        self.attention_norm = nnx.RMSNorm(sizes.width, epsilon=EPSILON, rngs=rngs)
        self.attention = Attention(sizes, rngs)
        self.mlp_norm = nnx.RMSNorm(sizes.width, epsilon=EPSILON, rngs=rngs)
        self.gate, self.up = linear(sizes.width, sizes.hidden), linear(sizes.width, sizes.hidden)
        self.down = linear(sizes.hidden, sizes.width)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.attention_norm(x))
        h = self.mlp_norm(x)
        return x + self.down(jax.nn.silu(self.gate(h)) * self.up(h))  # type: ignore[no-any-return]


class Llama(nnx.Module):  # type: ignore[misc]
    def __init__(self, sizes: LlamaSizes) -> None:
        rngs = nnx.Rngs(0)
        self.tokens = nnx.Embed(sizes.tokens, sizes.width, rngs=rngs)
        self.blocks = nnx.List([Block(sizes, rngs) for _ in range(sizes.layers)])
        self.norm = nnx.RMSNorm(sizes.width, epsilon=EPSILON, rngs=rngs)
        self.head = nnx.Linear(sizes.width, sizes.tokens, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # type: ignore[no-any-return]


def model_of(sizes: LlamaSizes, weights: LlamaWeights) -> Llama:
    model = Llama(sizes)
    model.tokens.embedding.set_value(jnp.asarray(weights.tokens))
    model.norm.scale.set_value(jnp.asarray(weights.norm))
    model.head.kernel.set_value(jnp.asarray(weights.head))
    for layer, block in zip(model.blocks, weights.blocks, strict=True):
        layer.attention_norm.scale.set_value(jnp.asarray(block["attention_norm"]))
        layer.mlp_norm.scale.set_value(jnp.asarray(block["mlp_norm"]))
        holders = {**dict.fromkeys(("query", "key", "value", "out"), layer.attention)}
        for name in ("query", "key", "value", "out", "gate", "up", "down"):
            kernel = getattr(holders.get(name, layer), name).kernel
            kernel.set_value(jnp.asarray(block[name].reshape(kernel.shape)))
    return model


def decoder_model_of(sizes: LlamaSizes, weights: LlamaWeights) -> Llama:
    model = model_of(sizes, weights)
    for block in model.blocks:
        block.attention.init_cache()
    return model


def reset(model: Llama) -> None:
    for block in model.blocks:
        for cache in (block.attention.keys, block.attention.values, block.attention.position):
            cache.set_value(jnp.zeros_like(cache[...]))


def logits_of(model: Llama, tokens: jax.Array) -> jax.Array:
    return model(tokens)


def loss_of(model: Llama, batch: jax.Array) -> jax.Array:
    logits = model(batch[:, :-1])
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
    return losses.mean()


def train(model: Llama, optimizer: Any, batch: jax.Array) -> jax.Array:
    loss, gradients = nnx.value_and_grad(loss_of)(model, batch)
    optimizer.update(model, gradients)
    return loss  # type: ignore[no-any-return]


def pair_of(sizes: LlamaSizes, weights: LlamaWeights) -> tuple[Llama, Any]:
    model = model_of(sizes, weights)
    return model, nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)


def fresh(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A function that JAX has not seen."""

    def call(*arguments: Any) -> jax.Array:
        return function(*arguments)

    return call


def token_of(sizes: LlamaSizes) -> jax.Array:
    return jnp.zeros((sizes.batch, 1), jnp.int32)


def with_jit(sizes: LlamaSizes, weights: LlamaWeights, batch: jax.Array, *, is_cached: bool) -> Runner:
    model, pair, reader = model_of(sizes, weights), pair_of(sizes, weights), decoder_model_of(sizes, weights)
    options: dict[str, Any] = {"graph": True, "graph_updates": True} if is_cached else {}
    forward = nnx.jit(fresh(logits_of), **options)
    step = nnx.jit(fresh(train), donate_argnums=(0, 1), **options)
    decode = nnx.jit(fresh(logits_of), **options)
    bind = nnx.cached_partial if is_cached else partial
    read = batch[:, :-1]
    return Runner(
        partial(bind(forward, model), read),
        partial(forward.lower, model, read),
        partial(bind(step, *pair), batch),
        partial(step.lower, *pair, batch),
        Decoder(partial(reset, reader), bind(decode, reader), lambda: decode.lower(reader, token_of(sizes))),
    )


def functional(sizes: LlamaSizes, weights: LlamaWeights, batch: jax.Array) -> Runner:
    model_def, model_state = nnx.split(model_of(sizes, weights))
    pair_def, pair_state = nnx.split(pair_of(sizes, weights))
    reader = decoder_model_of(sizes, weights)
    reader_def, caches, rest = nnx.split(reader, nnx.Cache, ...)
    read = batch[:, :-1]
    kept = {"pair": pair_state, "caches": caches}

    @jax.jit
    def forward(state: Any, tokens: jax.Array) -> jax.Array:
        return nnx.merge(model_def, state)(tokens)  # type: ignore[no-any-return]

    @partial(jax.jit, donate_argnums=0)
    def step(state: Any, batch: jax.Array) -> tuple[Any, jax.Array]:
        model, optimizer = nnx.merge(pair_def, state)
        loss = train(model, optimizer, batch)
        return nnx.state((model, optimizer)), loss

    @partial(jax.jit, donate_argnums=0)
    def decode(caches: Any, rest: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        model = nnx.merge(reader_def, caches, rest)
        logits = model(tokens)
        return nnx.state(model, nnx.Cache), logits

    def train_step() -> jax.Array:
        kept["pair"], loss = step(kept["pair"], batch)
        return loss  # type: ignore[no-any-return]

    def decode_step(tokens: jax.Array) -> jax.Array:
        kept["caches"], logits = decode(kept["caches"], rest, tokens)
        return logits  # type: ignore[no-any-return]

    def forget() -> None:
        kept["caches"] = jax.tree.map(jnp.zeros_like, kept["caches"])

    return Runner(
        partial(forward, model_state, read),
        partial(forward.lower, model_state, read),
        train_step,
        lambda: step.lower(kept["pair"], batch),
        Decoder(forget, decode_step, lambda: decode.lower(kept["caches"], rest, token_of(sizes))),
    )


RUNNERS: Mapping[str, MakesRunner] = {
    NNX_LLAMA: partial(with_jit, is_cached=False),
    NNX_LLAMA_CACHED: partial(with_jit, is_cached=True),
    NNX_LLAMA_FUNCTIONAL: functional,
}
