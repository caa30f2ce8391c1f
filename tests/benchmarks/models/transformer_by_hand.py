"""The transformer in JAX alone, laid out over a mesh by hand: a spec for each parameter, and constraints in the code.

The same mathematics as the layers of graphnode, and the same layouts: what a plan must not add anything to.
"""

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from ..transformer import EPSILON, LEARNING_RATE, Sizes, Weights

P: Any = jax.P  # JAX has no types for it


class Axes(NamedTuple):
    """What splits the axes: mesh axes, or `None`."""

    batch: Any = None
    embed: Any = None
    """Of parameters, not of activations."""
    heads: Any = None
    """The heads, and the hidden features of the perceptrons."""


Params: TypeAlias = dict[str, Any]
"""Parameters, or what belongs to each of them, in nested dicts."""


def nested(weights: Any) -> Any:
    """Weights in nested dicts. JAX sorts their keys, and XLA plans its memory by the order of the parameters."""
    if isinstance(weights, list):
        return [nested(item) for item in weights]
    return {name: nested(item) for name, item in weights._asdict().items()} if hasattr(weights, "_asdict") else weights


def specs_of(axes: Axes, sizes: Sizes) -> Params:
    """The spec of each parameter."""
    _, embed, heads = axes
    norm = {"scale": P(embed), "bias": P(embed)}
    inner = {"kernel": P(embed, heads), "bias": P(heads)}
    outer = {"kernel": P(heads, embed), "bias": P(embed)}
    block = {
        "attention_norm": norm,
        "query": inner,
        "key": inner,
        "value": inner,
        "out": outer,
        "mlp_norm": norm,
        "up": inner,
        "down": outer,
    }
    return {"tokens": P(None, embed), "positions": P(None, embed), "blocks": [block] * sizes.layers, "norm": norm}


def loss_of(params: Params, batch: jax.Array, mesh: Mesh, axes: Axes, heads: int) -> jax.Array:
    def laid_out(x: jax.Array, *entries: Any) -> jax.Array:
        constraint: Any = jax.lax.with_sharding_constraint  # JAX has no types for it
        return constraint(x, NamedSharding(mesh, P(*entries)))  # type: ignore[no-any-return]

    def attention(block: Params, x: jax.Array) -> jax.Array:
        query, key, value = [
            laid_out(_affine(block[name], x).reshape(*x.shape[:2], heads, -1), axes.batch, None, axes.heads, None)
            for name in ("query", "key", "value")
        ]
        attended = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        return _affine(block["out"], attended.reshape(x.shape))

    def perceptron(block: Params, x: jax.Array) -> jax.Array:
        hidden = laid_out(jax.nn.gelu(_affine(block["up"], x)), axes.batch, None, axes.heads)
        return _affine(block["down"], hidden)

    x = jnp.take(params["tokens"], batch[:, :-1], axis=0) + params["positions"]
    x = laid_out(x, axes.batch, None, None)
    for block in params["blocks"]:
        x = laid_out(x + attention(block, _norm(block["attention_norm"], x)), axes.batch, None, None)
        x = laid_out(x + perceptron(block, _norm(block["mlp_norm"], x)), axes.batch, None, None)
    logits = _norm(params["norm"], x) @ params["tokens"].T
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
    return losses.mean()


def _affine(params: Params, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"]  # type: ignore[no-any-return]


def _norm(params: Params, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    factor = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPSILON)
    return centred * (factor * params["scale"]) + params["bias"]  # type: ignore[no-any-return]


def compiled_by_hand(sizes: Sizes, weights: Weights, batch: jax.Array, mesh: Mesh, axes: Axes) -> jax.stages.Compiled:
    """A training step with adam, compiled for arrays that are laid out so; parameters and memory are donated."""
    params = nested(weights)
    transformation: Any = optax.adam(LEARNING_RATE)  # of which optax has a protocol that pyrefly does not see
    memory = jax.eval_shape(transformation.init, params)
    everywhere = NamedSharding(mesh, P())
    of_params = jax.tree.map(partial(NamedSharding, mesh), specs_of(axes, sizes), is_leaf=_is_spec)
    of_memory = optax.tree_map_params(
        transformation, lambda _, place: place, memory, of_params, transform_non_params=lambda _: everywhere
    )
    places = of_params, of_memory

    @partial(jax.jit, donate_argnums=(0, 1), out_shardings=(*places, everywhere))
    def step(params: Params, memory: Any, batch: jax.Array) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(params, batch, mesh, axes, sizes.heads)
        updates, memory = transformation.update(gradients, memory, params)
        return optax.apply_updates(params, updates), memory, loss

    arguments = jax.tree.map(_abstract, (params, memory), places)
    return step.lower(*arguments, _abstract(batch, NamedSharding(mesh, P(axes.batch)))).compile()


def _is_spec(value: object) -> bool:
    return isinstance(value, jax.sharding.PartitionSpec)


def _abstract(array: Any, place: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place)
