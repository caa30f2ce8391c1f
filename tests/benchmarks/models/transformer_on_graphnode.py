"""The transformer in graphnode, trained as the guide to optimizers says."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

import graphnode as gn

from ..transformer import EPSILON, GN_TRAIN, LEARNING_RATE, Affine, Block, Makes, Sizes, Trainer, Weights


class Transformer(gn.nn.Module):
    length: int
    tokens: gn.nn.Embedding
    positions: gn.ParamState[Float[Array, "length width"]]
    blocks: list[gn.nn.TransformerBlock]
    norm: gn.nn.LayerNorm

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length tokens"]:
        x = self.tokens(tokens) + self.positions.value[None]
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(self.norm(x))


def model_of(sizes: Sizes, weights: Weights) -> Transformer:
    model = Transformer(
        sizes.length,
        gn.nn.Embedding(sizes.tokens, sizes.width),
        gn.ParamState(jnp.asarray(weights.positions)),
        [gn.nn.TransformerBlock(sizes.width, sizes.heads, is_causal=True) for _ in range(sizes.layers)],
        gn.nn.LayerNorm(sizes.width, epsilon=EPSILON),
    )
    values = {
        "tokens": {"weight": weights.tokens},
        "blocks": dict(enumerate(map(_block, weights.blocks))),
        "norm": weights.norm._asdict(),
    }
    gn.update_states(model, jax.tree.map(jnp.asarray, values))
    return model


def _block(block: Block) -> dict[str, object]:
    heads = {"query": block.query, "key": block.key, "value": block.value, "out": block.out}
    return {
        "attention_norm": block.attention_norm._asdict(),
        "attention": {name: _linear(affine) for name, affine in heads.items()},
        "mlp_norm": block.mlp_norm._asdict(),
        "mlp": {"layers": {0: _linear(block.up), 1: _linear(block.down)}},
    }


def _linear(affine: Affine) -> dict[str, object]:
    return {"weight": affine.kernel, "bias": affine.bias}


def loss_of(model: Transformer, batch: jax.Array) -> jax.Array:
    logits = model(batch[:, :-1])
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
    return losses.mean()


def train(model: Transformer, optimizer: gn.optim.Optimizer, batch: jax.Array) -> jax.Array:
    loss, gradients = gn.value_and_grad(loss_of)(model, batch)
    optimizer.update(model, gradients)
    return loss


def trainer(sizes: Sizes, weights: Weights, batch: jax.Array) -> Trainer:
    model = model_of(sizes, weights)
    optimizer = gn.optim.Optimizer(model, optax.adam(LEARNING_RATE))

    def fresh(model: Transformer, optimizer: gn.optim.Optimizer, batch: jax.Array) -> jax.Array:
        return train(model, optimizer, batch)

    step = gn.jit(fresh, donate=True)
    return Trainer(
        step=partial(step, model, optimizer, batch),
        trace=partial(gn.make_jaxpr(fresh), model, optimizer, batch),
        lower=partial(step.lower, model, optimizer, batch),
    )


WAYS: Mapping[str, Makes] = {GN_TRAIN: trainer}
