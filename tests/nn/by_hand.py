"""What one would write by hand for each layer of `layers.py`: functions of the same arrays, by path, and inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def last(p: jax.Array, x: jax.Array) -> jax.Array:
    """A parameter of the last axis in the rank of `x`."""
    return jnp.expand_dims(p, range(x.ndim - 1))


def affine(p: Any, at: str, x: jax.Array) -> Any:
    y = x @ p[f"{at}weight"]
    return y + last(p[f"{at}bias"], y)


def layer_norm(p: Any, at: str, x: jax.Array) -> Any:
    x = x - x.mean(-1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
    return y * last(p[f"{at}scale"], y) + last(p[f"{at}bias"], y)


def group_norm(p: Any, x: jax.Array) -> Any:
    g = x.reshape(3, 5, 2, 2)
    g = g - g.mean((1, 3), keepdims=True)
    y = (g * jax.lax.rsqrt(jnp.square(g).mean((1, 3), keepdims=True) + 1e-6)).reshape(x.shape)
    return y * last(p["scale"], y) + last(p["bias"], y)


def instance_norm(p: Any, x: jax.Array) -> Any:
    x = x - x.mean(1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.square(x).mean(1, keepdims=True) + 1e-6)
    return y * last(p["scale"], y) + last(p["bias"], y)


def rms_norm(p: Any, x: jax.Array) -> Any:
    y = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
    return y * last(p["scale"], y)


def batch_norm(p: Any, x: jax.Array) -> Any:
    mean, var = x.mean(0), x.var(0)
    kept = [0.99 * p[name] + 0.01 * jax.lax.stop_gradient(new) for name, new in (("mean", mean), ("var", var))]
    y = (x - last(mean, x)) * last(jax.lax.rsqrt(var + 1e-5), x)
    return y * last(p["scale"], x) + last(p["bias"], x), kept


def deterministic_batch_norm(p: Any, x: jax.Array) -> Any:
    y = (x - last(p["mean"], x)) * last(jax.lax.rsqrt(p["var"] + 1e-5), x)
    return y * last(p["scale"], x) + last(p["bias"], x)


def conv(p: Any, x: jax.Array) -> Any:
    y = jax.lax.conv_general_dilated(
        x, p["weight"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
    )
    return y + last(p["bias"], y)


def conv_transpose(p: Any, x: jax.Array) -> Any:
    y = jax.lax.conv_transpose(
        x, p["weight"], (2,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"), transpose_kernel=True
    )
    return y + last(p["bias"], y)


def gru(p: Any, h: jax.Array, x: jax.Array) -> Any:
    y = x @ p["weight"]
    ir, iz, i_n = jnp.split(y + last(p["bias"], y), 3, -1)
    hr, hz, hn = jnp.split(h @ p["recurrent"], 3, -1)
    z = jax.nn.sigmoid(iz + hz)
    n = jnp.tanh(i_n + jax.nn.sigmoid(ir + hr) * (hn + last(p["candidate_bias"], hn)))
    h = (1 - z) * n + z * h
    return h, h


def lstm(p: Any, c: jax.Array, h: jax.Array, x: jax.Array) -> Any:
    y = x @ p["weight"] + h @ p["recurrent"]
    i, f, g, o = jnp.split(y + last(p["bias"], y), 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)


def rnn_cell(p: Any, h: jax.Array, x: jax.Array, at: str = "") -> Any:
    y = x @ p[f"{at}weight"] + h @ p[f"{at}recurrent"]
    return jnp.tanh(y + last(p[f"{at}bias"], y))


def rnn(p: Any, x: jax.Array) -> Any:
    def step(h: jax.Array, x: jax.Array) -> Any:
        h = rnn_cell(p, h, x, "cell.")
        return h, h

    return jnp.moveaxis(jax.lax.scan(step, jnp.zeros((2, 4)), jnp.moveaxis(x, -2, 0))[1], 0, -2)


def bidirectional(p: Any, x: jax.Array) -> Any:
    outputs: list[Any] = []
    for side in ("forward", "backward"):

        def step(h: jax.Array, x: jax.Array, side: str = side) -> Any:
            h = rnn_cell(p, h, x, f"{side}_rnn.cell.")
            return h, h

        row = jax.lax.scan(step, jnp.zeros((2, 4)), jnp.moveaxis(x, -2, 0), reverse=side == "backward")[1]
        outputs.append(jnp.moveaxis(row, 0, -2))
    return jnp.concatenate(outputs, -1)


# Products of matrices are faster than those over several batch axes, so whoever writes attention or a perceptron by
# hand joins the axes before, once.


def attention(
    p: Any, x: jax.Array, context: jax.Array, attend: Callable[..., jax.Array] = jax.nn.dot_product_attention
) -> Any:
    query = affine(p, "query.", x.reshape(6, 8)).reshape(2, 3, 4, 2)
    rows = context.reshape(14, 5)
    key, value = (affine(p, f"{part}.", rows).reshape(2, 7, 2, 2) for part in ("key", "value"))
    attended = attend(query, key, value)
    return affine(p, "out.", attended.reshape(6, 8)).reshape(2, 3, 8)


def block(p: Any, x: jax.Array, attend: Callable[..., jax.Array] = jax.nn.dot_product_attention) -> Any:
    rows = layer_norm(p, "attention_norm.", x).reshape(6, 4)
    parts = (affine(p, f"attention.{part}.", rows).reshape(2, 3, 2, 2) for part in ("query", "key", "value"))
    x = x + affine(p, "attention.out.", attend(*parts).reshape(6, 4)).reshape(2, 3, 4)
    rows = affine(p, "mlp.layers.0.", layer_norm(p, "mlp_norm.", x).reshape(6, 4))
    return x + affine(p, "mlp.layers.1.", jax.nn.gelu(rows)).reshape(2, 3, 4)


def mlp(p: Any, x: jax.Array) -> Any:
    x = jax.nn.relu(affine(p, "layers.0.", x))
    return affine(p, "layers.2.", jax.nn.relu(affine(p, "layers.1.", x)))


def einsum(p: Any, x: jax.Array) -> Any:
    return jnp.einsum("...i,ihd->...hd", x, p["weight"]) + p["bias"][None]


def bilinear(p: Any, left: jax.Array, right: jax.Array) -> Any:
    y = jnp.einsum("...i,ijk,...j->...k", left, p["weight"], right)
    return y + last(p["bias"], y)


def max_pool(p: Any, x: jax.Array) -> Any:
    images = x.reshape(1, 4, 4, 3)
    return jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").reshape(2, 2, 3)


def avg_pool(p: Any, x: jax.Array) -> Any:
    pads = ((0, 0), (1, 1), (0, 0))
    y = jax.lax.reduce_window(x.reshape(1, 3, 4), 0.0, jax.lax.add, (1, 2, 1), (1, 1, 1), pads)
    return y.reshape(4, 4) / 2


BY_HAND: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "Activation": ({}, lambda p, x: jax.nn.relu(x)),
    "AvgPool": ({}, avg_pool),
    "BatchNorm": ({}, batch_norm),
    "BatchNorm, deterministic": ({"deterministic": True}, deterministic_batch_norm),
    "Bidirectional": ({}, bidirectional),
    "Bilinear": ({}, bilinear),
    "Conv": ({}, conv),
    "ConvTranspose": ({}, conv_transpose),
    "Dropout": ({}, lambda p, x: x),
    "Einsum": ({}, einsum),
    "Embedding": ({}, lambda p, tokens: jnp.take(p["weight"], tokens, axis=0)),
    "GRUCell": ({}, gru),
    "GroupNorm": ({}, group_norm),
    "Identity": ({}, lambda p, x: x),
    "InstanceNorm": ({}, instance_norm),
    "LayerNorm": ({}, lambda p, x: layer_norm(p, "", x)),
    "Linear": ({}, lambda p, x: affine(p, "", x)),
    "Linear, no bias": ({"use_bias": False}, lambda p, x: x @ p["weight"]),
    "MLP": ({}, mlp),
    "MaxPool": ({}, max_pool),
    "MultiHeadAttention": ({}, attention),
    "PReLU": ({}, lambda p, x: jnp.where(x >= 0, x, last(p["negative_slope"], x) * x)),
    "RMSNorm": ({}, rms_norm),
    "RNN": ({}, rnn),
    "RNNCell": ({}, rnn_cell),
    "Sequential": ({}, lambda p, x: jnp.tanh(affine(p, "layers.0.", x))),
    "TransformerBlock": ({}, block),
}
