"""What one would write by hand for each layer of `layers.py`: functions of the same arrays, by path, and inputs."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Attend: TypeAlias = Callable[..., jax.Array]


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


def gru_without_biases(p: Any, h: jax.Array, x: jax.Array) -> Any:
    ir, iz, i_n = jnp.split(x @ p["weight"], 3, -1)
    hr, hz, hn = jnp.split(h @ p["recurrent"], 3, -1)
    z = jax.nn.sigmoid(iz + hz)
    h = (1 - z) * jnp.tanh(i_n + jax.nn.sigmoid(ir + hr) * hn) + z * h
    return h, h


def lstm(p: Any, c: jax.Array, h: jax.Array, x: jax.Array) -> Any:
    y = x @ p["weight"] + h @ p["recurrent"]
    i, f, g, o = jnp.split(y + last(p["bias"], y), 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)


def rnn_cell(p: Any, h: jax.Array, x: jax.Array, at: str = "") -> Any:
    y = x @ p[f"{at}weight"] + h @ p[f"{at}recurrent"]
    return jnp.tanh(y + last(p[f"{at}bias"], y))


def rnn_cell_without_bias(p: Any, h: jax.Array, x: jax.Array) -> Any:
    h = jnp.tanh(x @ p["weight"] + h @ p["recurrent"])
    return h, h


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


def block(p: Any, x: jax.Array, attend: Attend = jax.nn.dot_product_attention, at: str = "") -> Any:
    x = x + block_attention(p, layer_norm(p, f"{at}attention_norm.", x), attend, at)
    return x + block_mlp(p, layer_norm(p, f"{at}mlp_norm.", x), at)


def block_attention(p: Any, x: jax.Array, attend: Attend = jax.nn.dot_product_attention, at: str = "") -> Any:
    return collected(p, x, x, f"{at}attention.", attend)


def collected(p: Any, x: jax.Array, context: jax.Array, at: str, attend: Attend = jax.nn.dot_product_attention) -> Any:
    sources = {"query": x.reshape(-1, 4)}
    sources["key"] = sources["value"] = sources["query"] if context is x else context.reshape(-1, 4)
    parts = [affine(p, f"{at}{part}.", rows).reshape(2, -1, 2, 2) for part, rows in sources.items()]
    return affine(p, f"{at}out.", attend(*parts).reshape(-1, 4)).reshape(x.shape)


def block_mlp(p: Any, x: jax.Array, at: str = "") -> Any:
    rows = affine(p, f"{at}mlp.layers.0.", x.reshape(-1, 4))
    return affine(p, f"{at}mlp.layers.1.", jax.nn.gelu(rows)).reshape(x.shape)


def block_after(p: Any, x: jax.Array, attend: Attend = jax.nn.dot_product_attention) -> Any:
    x = layer_norm(p, "attention_norm.", x + block_attention(p, x, attend))
    return layer_norm(p, "mlp_norm.", x + block_mlp(p, x))


def block_output(p: Any, x: jax.Array, attend: Attend = jax.nn.dot_product_attention) -> Any:
    x = x + layer_norm(p, "attention_norm.", block_attention(p, x, attend))
    return x + layer_norm(p, "mlp_norm.", block_mlp(p, x))


def block_both(p: Any, x: jax.Array, attend: Attend = jax.nn.dot_product_attention) -> Any:
    x = x + layer_norm(p, "attention_out_norm.", block_attention(p, layer_norm(p, "attention_norm.", x), attend))
    return x + layer_norm(p, "mlp_out_norm.", block_mlp(p, layer_norm(p, "mlp_norm.", x)))


def block_parallel(p: Any, x: jax.Array, attend: Attend = jax.nn.dot_product_attention) -> Any:
    attended = block_attention(p, layer_norm(p, "attention_norm.", x), attend)
    return x + (attended + block_mlp(p, layer_norm(p, "mlp_norm.", x)))


def cross_block(p: Any, x: jax.Array, context: jax.Array, at: str, attend: Attend) -> Any:
    x = x + block_attention(p, layer_norm(p, f"{at}attention_norm.", x), attend, at)
    x = x + collected(p, layer_norm(p, f"{at}cross_attention_norm.", x), context, f"{at}cross_attention.", attend)
    return x + block_mlp(p, layer_norm(p, f"{at}mlp_norm.", x), at)


def block_stack(p: Any, x: jax.Array, attend: Attend = jax.nn.dot_product_attention) -> Any:
    x = block(p, block(p, x, attend, "blocks.0."), attend, "blocks.1.")
    return rms_norm({"scale": p["norm.scale"]}, x)


def scanned_stack(p: Any, x: jax.Array) -> Any:
    blocks = {name: array for name, array in p.items() if name.startswith("blocks.")}
    x, _ = jax.lax.scan(lambda x, p: (block(p, x, at="blocks."), None), x, blocks)
    return rms_norm({"scale": p["norm.scale"]}, x)


def encoder_decoder(p: Any, source: jax.Array, target: jax.Array, attend: Attend = jax.nn.dot_product_attention) -> Any:
    context = block(p, source, attend, "encoder.blocks.0.")
    return layer_norm(p, "decoder.norm.", cross_block(p, target, context, "decoder.blocks.0.", attend))


def mlp(p: Any, x: jax.Array) -> Any:
    x = jax.nn.relu(affine(p, "layers.0.", x))
    return affine(p, "layers.2.", jax.nn.relu(affine(p, "layers.1.", x)))


def mlp_of_other_ends(p: Any, x: jax.Array) -> Any:
    x = jax.nn.relu(affine(p, "layers.0.", x))
    return jnp.tanh(jax.nn.relu(affine(p, "layers.1.", x)) @ p["layers.2.weight"])


def gated_mlp(p: Any, x: jax.Array) -> Any:
    return (jax.nn.silu(x @ p["gate.weight"]) * (x @ p["up.weight"])) @ p["down.weight"]


def einsum(p: Any, x: jax.Array) -> Any:
    return jnp.einsum("...i,ihd->...hd", x, p["weight"]) + p["bias"][None]


def bilinear(p: Any, left: jax.Array, right: jax.Array) -> Any:
    y = jnp.einsum("...i,ijk,...j->...k", left, p["weight"], right)
    return y + last(p["bias"], y)


def max_pool(p: Any, x: jax.Array) -> Any:
    images = x.reshape(1, 4, 4, 3)
    return jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").reshape(2, 2, 3)


def min_pool(p: Any, x: jax.Array) -> Any:
    pads = ((0, 0), (1, 1), (0, 0))
    return jax.lax.reduce_window(x.reshape(1, 3, 4), jnp.inf, jax.lax.min, (1, 2, 1), (1, 1, 1), pads).reshape(4, 4)


def avg_pool(p: Any, x: jax.Array) -> Any:
    pads = ((0, 0), (1, 1), (0, 0))
    y = jax.lax.reduce_window(x.reshape(1, 3, 4), 0.0, jax.lax.add, (1, 2, 1), (1, 1, 1), pads)
    return y.reshape(4, 4) / 2


# What `jax.lax.associative_scan` takes


def joined(first: Any, then: Any) -> Any:
    return first[0] * then[0], then[0] * first[1] + then[1]


def lru(p: Any, x: jax.Array) -> Any:
    decay = jnp.exp(jax.lax.complex(-jnp.exp(p["nu_log"]), jnp.exp(p["theta_log"])))
    real, imag = x @ p["B_real"], x @ p["B_imag"]
    gamma = last(jnp.exp(p["gamma_log"]), x)
    inputs = jax.lax.complex(real * gamma, imag * gamma)
    decays = jnp.broadcast_to(last(decay, x), inputs.shape)
    _, h = jax.lax.associative_scan(joined, (decays, inputs), axis=1)
    return h.real @ p["C_real"] - h.imag @ p["C_imag"] + last(p["skip"], x) * x


def rg_lru(p: Any, x: jax.Array) -> Any:
    def gate(name: str) -> jax.Array:
        y = jnp.einsum("bthi,hio->btho", x.reshape(2, 5, 2, 2), p[f"{name}_weight"]).reshape(x.shape)
        return jax.nn.sigmoid(y + last(p[f"{name}_bias"], y))

    rates = -8.0 * jax.nn.softplus(p["decay_log"])
    log_a = last(rates, x) * gate("decay")
    squares = jnp.maximum(-jnp.expm1(2 * log_a), 1e-37)
    inputs = jnp.sqrt(squares) * gate("input") * x
    return jax.lax.associative_scan(joined, (jnp.exp(log_a), inputs), axis=1)[1]


def experts(p: Any, x: jax.Array, multiply: Callable[..., jax.Array]) -> jax.Array:
    hidden = multiply(x, p["up"])
    return multiply(jax.nn.silu(multiply(x, p["gate"])) * hidden, p["down"])


def mixture(p: Any, x: jax.Array) -> Any:
    weights, chosen = jax.lax.top_k(jax.nn.softmax(x @ p["router"]), 2)
    weights = weights / weights.sum(-1, keepdims=True)
    tokens, flat = x.reshape(10, 4), chosen.reshape(10, 2).reshape(20)
    order = jnp.argsort(flat)
    sizes = jnp.bincount(flat, length=3).astype(jnp.int32)
    y = experts(p, tokens[order // 2], lambda rows, w: jax.lax.ragged_dot(rows, w, sizes))
    y = y[jnp.argsort(order)].reshape(10, 2, 4)
    return jnp.einsum("tkd,tk->td", y, weights.reshape(10, 2)).reshape(x.shape)


def mixture_with_room(p: Any, x: jax.Array) -> Any:
    weights, chosen = jax.lax.top_k(jax.nn.softmax(x @ p["router"]), 2)
    weights = weights / weights.sum(-1, keepdims=True)
    tokens, flat = x.reshape(10, 4), chosen.reshape(10, 2).T.reshape(20)
    one_hot = jax.nn.one_hot(flat, 3, dtype=jnp.int32)
    rank = jnp.sum(jnp.cumsum(one_hot, 0) * one_hot, 1, dtype=jnp.int32) - 1
    slots = jnp.where(rank < 10, flat * 10 + rank, jnp.int32(30))
    buffers = jnp.zeros((30, 4), x.dtype).at[slots].set(jnp.tile(tokens, (2, 1)), mode="drop")
    y = experts(p, buffers.reshape(3, 10, 4), lambda rows, w: rows @ w).reshape(30, 4)
    y = y.at[slots].get(mode="fill", fill_value=0).reshape(2, 10, 4).swapaxes(0, 1)
    return jnp.einsum("tkd,tk->td", y, weights.reshape(10, 2)).reshape(x.shape)


def mamba2(p: Any, u: jax.Array) -> Any:
    z, mixed, dt = jnp.split(u @ p["in_proj.weight"], (8, 28), -1)
    padded = jnp.pad(mixed, ((0, 0), (3, 0), (0, 0)))
    first, *rest = [padded[:, at : at + 5] * last(p["conv_weight"][at], u) for at in range(4)]
    mixed = first + rest[0] + rest[1] + rest[2]
    x, b, c = jnp.split(jax.nn.silu(mixed + last(p["conv_bias"], u)), (8, 14), -1)
    dt = jax.nn.softplus(dt + last(p["dt_bias"], u))
    # Two groups of two heads with two features; three chunks of two steps; three numbers of state.
    x = x.reshape(2, 5, 2, 2, 2)
    decays = (dt * last(-jnp.exp(p["A_log"]), u)).reshape(2, 5, 2, 2)
    y = ssd(x * dt.reshape(2, 5, 2, 2, 1), decays, b.reshape(2, 5, 2, 3), c.reshape(2, 5, 2, 3))
    y = (y + x * jnp.expand_dims(p["skip"].reshape(2, 2, 1), (0, 1))).reshape(2, 5, 8)
    groups = (y * jax.nn.silu(z)).reshape(2, 5, 2, 4)
    y = groups * jax.lax.rsqrt(jnp.square(groups).mean(-1, keepdims=True) + 1e-5)
    return (y.reshape(2, 5, 8) * last(p["norm_scale"], u)) @ p["out_proj.weight"]


def ssd(x: jax.Array, decays: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    def chunks(array: jax.Array) -> jax.Array:
        widths = [(0, 0), (0, 1), *[(0, 0)] * (array.ndim - 2)]
        return jnp.pad(array, widths).reshape(2, 3, 2, *array.shape[2:])

    x, decays, b, c = chunks(x), chunks(decays), chunks(b), chunks(c)
    forgotten = jnp.cumsum(decays, 2)
    total = forgotten[:, :, -1:]
    by_head = jnp.moveaxis(forgotten, 2, -1)
    between = by_head[..., :, None] - by_head[..., None, :]
    between = jnp.exp(jnp.where(jnp.tril(jnp.ones((2, 2), bool)), between, -jnp.inf))
    scores = jnp.einsum("zclgn,zcsgn->zcgls", c, b)[..., None, :, :] * between
    y = jnp.einsum("zcghls,zcsghp->zclghp", scores, x)
    sums = jnp.einsum("zcsghp,zcsgn->zcghpn", x * jnp.exp(total - forgotten)[..., None], b)
    remaining = jnp.exp(total).reshape(2, 3, 2, 2, 1, 1)
    _, states = jax.lax.associative_scan(joined, (remaining, sums), axis=1)
    states = jnp.pad(states, [(0, 0), (1, 0), *[(0, 0)] * 4])[:, :-1]
    y = y + jnp.einsum("zclgn,zcghpn->zclghp", c, states) * jnp.exp(forgotten)[..., None]
    return y.reshape(2, 6, 2, 2, 2)[:, :5]


def lora(p: Any, x: jax.Array) -> Any:
    y = x @ p["weight"]
    y = y + last(p["bias"], y)
    return y + 1.5 * (x @ p["lora_a"]) @ p["lora_b"]


def weight_norm(p: Any, x: jax.Array) -> Any:
    v = p["weight"]
    squares = (v * v).sum(0)
    lengths = jnp.sqrt(jnp.where(squares == 0, 1, squares))
    y = x @ (v * (p["scale"] / lengths)[None])
    return y + last(p["bias"], y)


def spectral_norm(p: Any, x: jax.Array) -> Any:
    v = p["weight"] @ p["u"]
    v = jax.lax.stop_gradient(v / (jnp.linalg.norm(v) + 1e-12))
    sigma = v @ (p["weight"] @ jax.lax.stop_gradient(p["u"]))
    y = x @ (p["weight"] / (sigma + 1e-12))
    return y + last(p["bias"], y)


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
    "GatedMLP": ({}, gated_mlp),
    "GRUCell, no biases": ({"use_bias": False}, gru_without_biases),
    "GroupNorm": ({}, group_norm),
    "GroupNorm, by the size": ({"num_groups": None, "group_size": 2}, group_norm),
    "Identity": ({}, lambda p, x: x),
    "InstanceNorm": ({}, instance_norm),
    "LayerNorm": ({}, lambda p, x: layer_norm(p, "", x)),
    "LRU": ({}, lru),
    "Linear": ({}, lambda p, x: affine(p, "", x)),
    "Linear, no bias": ({"use_bias": False}, lambda p, x: x @ p["weight"]),
    "LoRALinear": ({}, lora),
    "MLP": ({}, mlp),
    "Mamba2": ({}, mamba2),
    "MaxPool": ({}, max_pool),
    "MLP, of other ends": ({"use_final_bias": False, "final_act": jnp.tanh}, mlp_of_other_ends),
    "MinPool": ({}, min_pool),
    "MixtureOfExperts": ({}, mixture),
    "MixtureOfExperts, with a capacity": ({"capacity_factor": 2.0}, mixture_with_room),
    "MultiHeadAttention": ({}, attention),
    "PReLU": ({}, lambda p, x: jnp.where(x >= 0, x, last(p["negative_slope"], x) * x)),
    "RGLRU": ({}, rg_lru),
    "RMSNorm": ({}, rms_norm),
    "RNN": ({}, rnn),
    "RNNCell": ({}, rnn_cell),
    "RNNCell, no bias": ({"use_bias": False}, rnn_cell_without_bias),
    "Sequential": ({}, lambda p, x: jnp.tanh(affine(p, "layers.0.", x))),
    "SpectralNormLinear, deterministic": ({"deterministic": True}, spectral_norm),
    "TransformerBlock": ({}, block),
    "TransformerBlock, norms after": ({"norm_position": "after"}, block_after),
    "TransformerBlock, norms of the output": ({"norm_position": "output"}, block_output),
    "TransformerBlock, norms on both sides": ({"norm_position": "both"}, block_both),
    "TransformerBlock, parallel": ({"parallel": True}, block_parallel),
    "TransformerStack": ({}, block_stack),
    "TransformerStack, scanned": ({"scan": True}, scanned_stack),
    "EncoderDecoder": ({}, encoder_decoder),
    "WeightNormLinear": ({}, weight_norm),
}
