"""A program: every layer forward and backward on meshes of eight simulated devices, compared with one device.

    python -m tests.nn.on_meshes Linear Embedding

It prints a JSON object: for each layer and each way to lay it out, "" or what went wrong.
"""

import contextlib
import functools
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

import graphnode as gn
from graphnode import nn

P = jax.P
BATCH: Final = 8


def cached_mamba2() -> nn.Mamba2:
    """A layer that goes on with a sequence: the cache alone has no call."""
    layer = nn.Mamba2(8, head_size=4, state_size=2, num_groups=2)
    layer.init_cache(BATCH)
    return layer


# Each is called with arrays of these shapes, behind an axis for the batch, which is laid out over devices.
LAYERS: dict[str, tuple[Callable[[], Any], tuple[tuple[int, ...], ...]]] = {
    "Activation": (lambda: nn.Activation(jax.nn.gelu), ((8,),)),
    "AdaptiveAvgPool": (lambda: nn.AdaptiveAvgPool((2, 1)), ((4, 2, 8),)),
    "AdaptiveMaxPool": (lambda: nn.AdaptiveMaxPool(2), ((4, 8),)),
    "AvgPool": (lambda: nn.AvgPool(2, padding=1, count_include_pad=False), ((4, 8),)),
    "BatchNorm": (lambda: nn.BatchNorm(8), ((8,),)),
    "Bidirectional": (lambda: nn.Bidirectional(nn.RNN(nn.GRUCell(8, 8)), nn.RNN(nn.RNNCell(8, 8))), ((4, 8),)),
    "Bilinear": (lambda: nn.Bilinear(8, 8, 8), ((8,), (8,))),
    "ContextCache": (lambda: nn.ContextCache(8, 4, 4, 8), ((2, 4, 8), (2, 4, 8))),
    "Conv": (lambda: nn.Conv(8, 8, (3, 3), padding="REFLECT"), ((4, 4, 8),)),
    "ConvTranspose": (lambda: nn.ConvTranspose(8, 8, 3, strides=2, transpose_kernel=True), ((4, 8),)),
    "Dropout": (lambda: nn.Dropout(0.5, rngs=gn.Rngs(1)), ((8,),)),
    "Einsum": (lambda: nn.Einsum("...i,ihd->...hd", (8, 4, 8), (4, 8)), ((8,),)),
    "Embedding": (lambda: nn.Embedding(16, 8), ((4,),)),
    "ExponentialSynapse": (lambda: nn.ExponentialSynapse(8, 8), ((8,),)),
    "GRUCell": (lambda: nn.GRUCell(8, 8), ((8,), (8,))),
    "GatedMLP": (lambda: nn.GatedMLP(8, 16), ((4, 8),)),
    "GroupNorm": (lambda: nn.GroupNorm(8, num_groups=2), ((4, 8),)),
    "Identity": (nn.Identity, ((8,),)),
    "InstanceNorm": (lambda: nn.InstanceNorm(8), ((4, 8),)),
    "KeyValueCache": (lambda: nn.KeyValueCache(8, 4, 4, 8), ((2, 4, 8), (2, 4, 8))),
    "LIF": (lambda: nn.LIF(8), ((8,),)),
    "LRU": (lambda: nn.LRU(8, 8), ((4, 8),)),
    "LSTMCell": (lambda: nn.LSTMCell(8, 8), ((8,), (8,), (8,))),
    "LayerNorm": (lambda: nn.LayerNorm(8), ((4, 8),)),
    "Linear": (lambda: nn.Linear(8, 16), ((4, 8),)),
    "LoRALinear": (lambda: nn.LoRALinear(8, 16, rank=8), ((4, 8),)),
    "WeightNormLinear": (lambda: nn.WeightNormLinear(8, 16), ((4, 8),)),
    "MLP": (lambda: nn.MLP(8, 16, 8, depth=2), ((4, 8),)),
    "Mamba2": (lambda: nn.Mamba2(8, head_size=4, state_size=2, num_groups=2, chunk_size=2), ((5, 8),)),
    "Mamba2Cache": (cached_mamba2, ((3, 8),)),
    "MaxPool": (lambda: nn.MaxPool((2, 2), strides=2), ((4, 4, 8),)),
    "MinPool": (lambda: nn.MinPool((2, 2), strides=2), ((4, 4, 8),)),
    "MixtureOfExperts": (lambda: nn.MixtureOfExperts(8, 16, 4), ((4, 8),)),
    "MultiHeadAttention": (
        lambda: nn.MultiHeadAttention(16, 4, num_kv_heads=2, is_causal=True, rotary_base=100.0),
        ((4, 16),),
    ),
    "MultiHeadAttention, written out": (
        lambda: nn.MultiHeadAttention(
            16,
            4,
            num_kv_heads=2,
            value_head_size=8,
            is_causal=True,
            window=3,
            soft_cap=5.0,
            normalize_qk=True,
            rotary=nn.Rotary(fraction=0.5),
            score_bias=nn.RelativePositionBias(4),
        ),
        ((4, 16),),
    ),
    "PReLU": (lambda: nn.PReLU(8), ((4, 8),)),
    "RGLRU": (lambda: nn.RGLRU(8, 2), ((4, 8),)),
    "RMSNorm": (lambda: nn.RMSNorm(8), ((4, 8),)),
    "RNN": (lambda: nn.RNN(nn.GRUCell(8, 8)), ((4, 8),)),
    "RNNCell": (lambda: nn.RNNCell(8, 8), ((8,), (8,))),
    "RollingCache": (lambda: nn.RollingCache(8, 4, 4, 8), ((2, 4, 8), (2, 4, 8))),
    "RollingCache, ragged": (lambda: nn.RollingCache(8, 4, 4, 8, ragged=True), ((2, 4, 8), (2, 4, 8))),
    "KeyValueCache, ragged": (lambda: nn.KeyValueCache(8, 4, 4, 8, ragged=True), ((2, 4, 8), (2, 4, 8))),
    "Sequential": (lambda: nn.Sequential([nn.Linear(8, 8), nn.Activation(jnp.tanh), nn.Linear(8, 8)]), ((8,),)),
    "SpectralNormLinear": (lambda: nn.SpectralNormLinear(8, 16), ((4, 8),)),
    "TransformerBlock": (lambda: nn.TransformerBlock(8, 2, norm="RMSNorm"), ((4, 8),)),
    "TransformerBlock, parallel": (
        lambda: nn.TransformerBlock(8, 2, mlp=nn.GatedMLP(8, 8), parallel=True, norm_position="both"),
        ((4, 8),),
    ),
    "TransformerStack": (
        lambda: nn.TransformerStack([nn.TransformerBlock(8, 2) for _ in range(2)], remat=True),
        ((4, 8),),
    ),
    "EncoderDecoder": (
        lambda: nn.EncoderDecoder(
            nn.TransformerStack([nn.TransformerBlock(8, 2)]),
            nn.TransformerStack([nn.TransformerBlock(8, 2, cross_attention=nn.MultiHeadAttention(8, 2))]),
        ),
        ((4, 8), (4, 8)),
    ),
}
# One example at a time, so that the batch is an axis of `gn.vmap`; their own States have no batch.
ONE_EXAMPLE: Final = {"ExponentialSynapse", "LIF"}
# The States of these that are no parameters have an axis of the batch.
# That of Mamba 2 has no such methods: a layer with one is called.
CACHES: Final = {name for name in LAYERS if "Cache" in name} - {"Mamba2Cache"}
OWN_BATCH: Final = {*ONE_EXAMPLE, *CACHES, "Mamba2Cache"}
# Under `shard_map`, each device has statistics, and random numbers, of its own part of the batch.
OF_ITS_PART: Final = {"BatchNorm", "Dropout"}

# How the last two axes of each parameter are laid out.
WHOLE: Final = (None, None)
COLUMNS: Final = ("data", "model")
ROWS: Final = ("model", "data")
WAYS: dict[str, tuple[AxisType, tuple[str | None, str | None]]] = {
    "auto, data parallel": (AxisType.Auto, WHOLE),
    "auto, sharded": (AxisType.Auto, COLUMNS),
    "explicit, data parallel": (AxisType.Explicit, WHOLE),
    "explicit, columns": (AxisType.Explicit, COLUMNS),
    "explicit, rows": (AxisType.Explicit, ROWS),
}
SHARD_MAP: Final = "shard_map"


def inputs_of(name: str) -> list[jax.Array]:
    """Arrays to call a layer with."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = LAYERS[name][1]
    if name == "Embedding":
        return [jax.random.randint(keys[0], (BATCH, *shapes[0]), 0, 16)]
    return [jax.random.normal(key, (BATCH, *shape)) for key, shape in zip(keys, shapes, strict=False)]


def result(name: str, layer: Any, inputs: list[jax.Array]) -> Any:
    """What a layer gives."""
    if name == "LSTMCell":
        c, h, x = inputs
        return layer((c, h), x)
    if name == "ContextCache":
        layer.write(*inputs)
        return layer.read()[:2]
    if name in CACHES:
        return layer.append(*inputs)[:2]
    if name in ONE_EXAMPLE:
        return gn.vmap(each, in_axes=(gn.axes({gn.ParamState: None, ...: 0}), 0))(layer, inputs[0])
    return layer(*inputs)


def each(layer: Any, x: jax.Array) -> Any:
    """One example."""
    return layer(x)


def gradients(name: str, layer: Any, inputs: list[jax.Array]) -> Any:
    """The result, and the gradients of a number that depends on all of it."""

    def loss(layer: Any, inputs: list[jax.Array]) -> Any:
        y = result(name, layer, inputs)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(y)), y

    argnums = (0,) if name == "Embedding" else (0, 1)
    (_, y), found = gn.value_and_grad(loss, argnums=argnums, has_aux=True)(layer, inputs)
    return y, found


def made(name: str, *, deterministic: bool = False) -> Any:
    """A new layer, equal each time."""
    with gn.random.scope(jax.random.key(1)):
        layer = LAYERS[name][0]()
    if deterministic:
        layer.deterministic = True
    if name in ONE_EXAMPLE:
        gn.broadcast_states(layer, gn.Not(gn.ParamState), size=BATCH)
    return layer


def step(name: str, layer: Any, inputs: list[jax.Array]) -> Any:
    """The result, gradients of parameters and inputs, and the States that were written."""
    y, found = gn.jit(functools.partial(gradients, name))(layer, inputs)
    return host([y, found, values(layer)])


def values(layer: Any) -> list[Any]:
    """The States but for keys of random streams."""
    return [state.value for state in gn.states(layer, gn.Not(gn.RngState)).values()]


def host(tree: Any) -> list[np.ndarray]:
    """The arrays of a pytree, whole."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return [np.asarray(leaf) for leaf in leaves]


def laid_out(name: str, way: str) -> Any:
    """The same on a mesh."""
    kind, split = WAYS[way]
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    layer, inputs = made(name), inputs_of(name)
    for state in gn.states(layer, gn.Not(gn.RngState)).values():
        value = state.value
        own = split if isinstance(state, gn.ParamState) else WHOLE
        spec = [*[None] * (value.ndim - 2), *own[max(0, 2 - value.ndim) :]]
        # JAX's vmap over a mesh axis takes nothing else that is split by it.
        if name in ONE_EXAMPLE:
            spec = [None if entry == "data" else entry for entry in spec]
        if name in OWN_BATCH and value.ndim and not isinstance(state, gn.ParamState):
            spec[0] = "data"
        state.value = jax.device_put(value, NamedSharding(mesh, P(*spec)))
    inputs = [jax.device_put(x, NamedSharding(mesh, P("data"))) for x in inputs]
    with jax.set_mesh(mesh):
        return step(name, layer, inputs)


def mapped(name: str) -> Any:
    """The same under `shard_map`, where a function sees the part of the batch of one device."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    layer, inputs = made(name, deterministic=name in OF_ITS_PART), inputs_of(name)
    own = P("data") if name in OWN_BATCH else P()
    of_position = own if "ragged" in name else P()
    specs = gn.axes({gn.ParamState: P(), gn.PathIn("position", missing_ok=True): of_position, ...: own})
    of_gradients = (P(), P("data"))[: 1 if name == "Embedding" else 2]

    @gn.jit
    @gn.shard_map(mesh=mesh, in_specs=(specs, P("data")), out_specs=(P("data"), of_gradients))
    def run(layer: Any, inputs: list[jax.Array]) -> Any:
        return gradients(name, layer, inputs)

    y, found = run(layer, inputs)
    return host([y, found, values(layer)])


def outcome(expected: Any, run: Callable[[], Any]) -> str:
    """What went wrong, in words; empty if nothing did."""
    try:
        results = run()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        lines = [f"{frame.filename}:{frame.lineno}" for frame in where if "/graphnode/" in frame.filename]
        return f"{type(error).__name__}: {error} {lines[-3:]}"
    for at, (one, other) in enumerate(zip(expected, results, strict=True)):
        if one.shape != other.shape or not np.allclose(one, other, rtol=1e-4, atol=1e-5):
            return f"array {at} of {one.shape} differs by {np.abs(one - other).max()}"
    return ""


def main(names: list[str]) -> None:
    """Print what went wrong for each of the layers."""
    assert jax.device_count() == 8
    outcomes: dict[str, dict[str, str]] = {}
    for name in names:
        with contextlib.redirect_stdout(sys.stderr):
            expected = step(name, made(name), inputs_of(name))
            outcomes[name] = {way: outcome(expected, functools.partial(laid_out, name, way)) for way in WAYS}
            if name in OF_ITS_PART:
                expected = step(name, made(name, deterministic=True), inputs_of(name))
            outcomes[name][SHARD_MAP] = outcome(expected, functools.partial(mapped, name))
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:] or list(LAYERS))
