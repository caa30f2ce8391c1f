"""The LLaMA-like model in plain JAX: arrays in dicts, and functions."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from ..llama import (
    BY_HAND,
    EPSILON,
    LEARNING_RATE,
    Decoder,
    LlamaSizes,
    LlamaWeights,
    MakesRunner,
    Runner,
    rotated,
    seen_by,
)

Params: TypeAlias = dict[str, Any]
Cache: TypeAlias = dict[str, Any]


def params_of(weights: LlamaWeights) -> Params:
    params: Params = jax.tree.map(jnp.asarray, dict(weights._asdict()))
    return params


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    y = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + EPSILON)
    return y * scale[None, None]


def projected(p: Params, x: jax.Array, name: str, heads: int) -> jax.Array:
    # Batch and time as one axis: a matrix times a matrix.
    rows = x.reshape(-1, x.shape[-1])
    return jnp.reshape(rows @ p[name], (*x.shape[:-1], heads, -1))


def attention(p: Params, x: jax.Array, sizes: LlamaSizes, cache: Cache | None, position: Any) -> tuple[Any, Any]:
    query, key, value = (
        projected(p, x, name, heads)
        for name, heads in (("query", sizes.heads), ("key", sizes.kv_heads), ("value", sizes.kv_heads))
    )
    positions = position + jnp.arange(x.shape[1], dtype=jnp.int32)
    query, key = rotated(query, positions), rotated(key, positions)
    if cache is None:
        y = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    else:
        key = jax.lax.dynamic_update_slice_in_dim(cache["keys"], key, position, axis=1)
        value = jax.lax.dynamic_update_slice_in_dim(cache["values"], value, position, axis=1)
        cache = {"keys": key, "values": value}
        y = jax.nn.dot_product_attention(query, key, value, mask=seen_by(position, x.shape[1], sizes.room))
    return (y.reshape(-1, sizes.width) @ p["out"]).reshape(x.shape), cache


def mlp(p: Params, x: jax.Array) -> jax.Array:
    rows = x.reshape(-1, x.shape[-1])
    hidden = jax.nn.silu(rows @ p["gate"]) * (rows @ p["up"])
    return jnp.reshape(hidden @ p["down"], x.shape)


def logits_of(
    params: Params, tokens: jax.Array, sizes: LlamaSizes, caches: list[Any] | None = None, position: Any = 0
) -> tuple[jax.Array, list[Any]]:
    x = params["tokens"].at[tokens].get(mode="fill", fill_value=jnp.nan)
    kept = []
    for at, p in enumerate(params["blocks"]):
        cache = None if caches is None else caches[at]
        y, cache = attention(p, rms_norm(x, p["attention_norm"]), sizes, cache, position)
        x = x + y
        x = x + mlp(p, rms_norm(x, p["mlp_norm"]))
        kept.append(cache)
    rows = rms_norm(x, params["norm"]).reshape(-1, sizes.width)
    return (rows @ params["head"]).reshape(*tokens.shape, -1), kept


def runner(sizes: LlamaSizes, weights: LlamaWeights, batch: jax.Array) -> Runner:
    params = params_of(weights)
    read = batch[:, :-1]
    adam = optax.adam(LEARNING_RATE)
    state = [params, adam.init(params)]

    @jax.jit
    def forward(params: Params, tokens: jax.Array) -> jax.Array:
        return logits_of(params, tokens, sizes)[0]

    def loss_of(params: Params, batch: jax.Array) -> jax.Array:
        logits, _ = logits_of(params, batch[:, :-1], sizes)
        losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
        return losses.mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def train(params: Params, memory: Any, batch: jax.Array) -> tuple[Params, Any, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(params, batch)
        updates, memory = adam.update(gradients, memory, params)
        # Any: as optax types it, it may be any pytree.
        advanced: Any = optax.apply_updates(params, updates)
        return advanced, memory, loss

    def step() -> jax.Array:
        loss: jax.Array
        state[0], state[1], loss = train(state[0], state[1], batch)
        return loss

    # Their own: those of training are donated.
    copy = jax.tree.map(jnp.copy, params)
    return Runner(
        partial(forward, copy, read),
        partial(forward.lower, copy, read),
        step,
        lambda: train.lower(state[0], state[1], batch),
        decoder(copy, sizes),
    )


def decoder(params: Params, sizes: LlamaSizes) -> Decoder:
    shape = (sizes.batch, sizes.room, sizes.kv_heads, sizes.head_size)

    def empty() -> list[Any]:
        return [
            [{name: jnp.zeros(shape) for name in ("keys", "values")} for _ in range(sizes.layers)],
            jnp.zeros((), jnp.int32),
        ]

    kept = empty()

    @partial(jax.jit, donate_argnums=(1, 2))
    def decode(params: Params, caches: list[Any], position: Any, tokens: jax.Array) -> tuple[jax.Array, list[Any], Any]:
        logits, caches = logits_of(params, tokens, sizes, caches, position)
        return logits, caches, position + tokens.shape[1]

    def step(tokens: jax.Array) -> jax.Array:
        logits: jax.Array
        logits, kept[0], kept[1] = decode(params, kept[0], kept[1], tokens)
        return logits

    def reset() -> None:
        kept[:] = empty()

    token = jax.ShapeDtypeStruct((sizes.batch, 1), jnp.int32)
    return Decoder(reset, step, lambda: decode.lower(params, kept[0], kept[1], token))


RUNNERS: Mapping[str, MakesRunner] = {BY_HAND: runner}
