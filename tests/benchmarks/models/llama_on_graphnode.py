"""The LLaMA-like model of the layers of `gn.nn`."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode import nn

from ..llama import (
    BASE,
    EPSILON,
    GN_LLAMA,
    LEARNING_RATE,
    Arrays,
    Decoder,
    LlamaSizes,
    LlamaWeights,
    MakesRunner,
    Runner,
)


class Llama(nn.Module):
    tokens: nn.Embedding
    decoder: nn.TransformerStack
    head: nn.Linear

    def __call__(self, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time tokens"]:
        return self.head(self.decoder(self.tokens(tokens)))


def block_of(sizes: LlamaSizes) -> nn.TransformerBlock:
    return nn.TransformerBlock(
        sizes.width,
        sizes.heads,
        num_kv_heads=sizes.kv_heads,
        is_causal=True,
        rotary_base=BASE,
        norm="RMSNorm",
        epsilon=EPSILON,
        use_bias=False,
        mlp=nn.GatedMLP(sizes.width, sizes.hidden),
    )


def model_of(sizes: LlamaSizes, weights: LlamaWeights) -> Llama:
    model = Llama(
        nn.Embedding(sizes.tokens, sizes.width),
        nn.TransformerStack(
            [block_of(sizes) for _ in range(sizes.layers)], norm=nn.RMSNorm(sizes.width, epsilon=EPSILON)
        ),
        nn.Linear(sizes.width, sizes.tokens, use_bias=False),
    )
    values = {
        "tokens": {"weight": weights.tokens},
        "decoder": {"blocks": dict(enumerate(map(_values, weights.blocks))), "norm": {"scale": weights.norm}},
        "head": {"weight": weights.head},
    }
    gn.update_states(model, jax.tree.map(jnp.asarray, values))
    return model


def _values(block: Arrays) -> dict[str, object]:
    return {
        "attention_norm": {"scale": block["attention_norm"]},
        "attention": {name: {"weight": block[name]} for name in ("query", "key", "value", "out")},
        "mlp_norm": {"scale": block["mlp_norm"]},
        "mlp": {name: {"weight": block[name]} for name in ("gate", "up", "down")},
    }


def loss_of(model: Llama, batch: jax.Array) -> jax.Array:
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(model(batch[:, :-1]), batch[:, 1:])
    return losses.mean()


def runner(sizes: LlamaSizes, weights: LlamaWeights, batch: jax.Array) -> Runner:
    model, trained = model_of(sizes, weights), model_of(sizes, weights)
    optimizer = gn.optim.Optimizer(trained, optax.adam(LEARNING_RATE))
    read = batch[:, :-1]

    @gn.jit
    def forward(model: Llama, tokens: jax.Array) -> jax.Array:
        return model(tokens)

    @gn.jit(donate=True)
    def train(model: Llama, optimizer: gn.optim.Optimizer, batch: jax.Array) -> jax.Array:
        loss, gradients = gn.value_and_grad(loss_of)(model, batch)
        optimizer.update(model, gradients)
        return loss

    return Runner(
        partial(forward, model, read),
        partial(forward.lower, model, read),
        partial(train, trained, optimizer, batch),
        partial(train.lower, trained, optimizer, batch),
        decoder(model, sizes),
    )


def decoder(model: Llama, sizes: LlamaSizes) -> Decoder:
    reader = gn.view(model)
    reader.decoder.init_cache(sizes.batch, sizes.room)
    caches = gn.nodes(reader, nn.KeyValueCache).values()

    @gn.jit(donate=True)
    def decode(model: Llama, tokens: jax.Array) -> jax.Array:
        return model(tokens)

    def reset() -> None:
        for cache in caches:
            cache.reset()

    token = jnp.zeros((sizes.batch, 1), jnp.int32)
    return Decoder(reset, partial(decode, reader), lambda: decode.lower(reader, token))


RUNNERS: Mapping[str, MakesRunner] = {GN_LLAMA: runner}
