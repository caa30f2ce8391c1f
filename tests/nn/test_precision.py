"""Layers compute in the precision of what they get: float64 stays float64, and half precision adds in float32."""

import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import graphnode as gn
from graphnode import nn
from tests.nn.by_hand import (
    BY_HAND,
    attention,
    block,
    block_after,
    block_both,
    block_output,
    block_parallel,
    block_stack,
    encoder_decoder,
    lstm,
)
from tests.nn.layers import CACHES, CASES, PARTS, arrays, make, marked
from tests.nn.peers import Numbers, numbers, permissive

# Each compiles by itself.
pytestmark = pytest.mark.slow

F64 = np.dtype("float64")
OPTIONS: dict[str, dict[str, Any]] = {
    # These are not called.
    **{name: {} for name in CASES if name not in PARTS | {"ContextCache", "Mamba2Cache"}},
    "AvgPool, zeros do not count": {"count_include_pad": False},
    "BatchNorm, deterministic": {"deterministic": True},
    "MultiHeadAttention, written out": {
        "context_size": 8, "window": 2, "soft_cap": 5.0, "value_head_size": 3, "normalize_qk": True,
        "rotary": nn.Rotary(scaling=nn.YarnScaling(2.0, 8)), "is_causal": True,
    },
    "MultiHeadAttention, causal, with rotary positions": {
        "context_size": 8, "is_causal": True, "rotary_base": 100.0,
    },
    "TransformerBlock, RMSNorm": {"norm": "RMSNorm", "is_causal": True, "rotary_base": 100.0},
}  # fmt: skip


@pytest.fixture(autouse=True)
def float64() -> Generator[None]:
    """JAX with float64."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


def wide(case: str) -> tuple[Any, list[Any]]:
    """A layer with parameters of float64, and inputs."""
    name = case.partition(",")[0]
    of_both: dict[str, Any] = BY_HAND[case][0] if case in BY_HAND else {}
    options = dict(OPTIONS.get(case, of_both))
    if "param_dtype" in CASES[name].dtypes or name == "ExponentialSynapse":
        options["param_dtype"] = F64
    if name in ("RNN", "Bidirectional"):
        rnns = [nn.RNN(make("RNNCell", param_dtype=F64)) for _ in range(2)]
        layer: Any = rnns[0] if name == "RNN" else nn.Bidirectional(*rnns)
    else:
        layer = make(name, **options)
    if name == "Sequential":
        layer.layers[0] = make("Linear", param_dtype=F64)
    if name in ("EncoderDecoder", "TransformerStack"):
        # Their blocks are made before them.
        for state in gn.states(layer, gn.ParamState).values():
            state.value = state.value.astype(F64)
    shapes = CASES[name].inputs[:1] if options.get("is_causal") else CASES[name].inputs
    if name == "LSTMCell":
        shapes = ((2, 4), (2, 3))
    if name in CACHES:
        shapes = ((1, 2, 2, 4),) * 2
    inputs = [numbers(*shape, seed=at, dtype=F64) for at, shape in enumerate(shapes)]
    return layer, [jnp.asarray([0, 2, 4], jnp.int32)] if name == "Embedding" else inputs


def call(layer: Any, *inputs: Any) -> Any:
    if isinstance(layer, nn.LSTMCell):
        hidden, x = inputs
        return layer((hidden, hidden), x)
    return layer.append(*inputs)[:2] if type(layer).__name__ in CACHES else layer(*inputs)


def dtypes(jaxpr: Any) -> Iterator[Any]:
    """The dtypes of all that is computed, at every depth."""
    for equation in jaxpr.eqns:
        yield from (one.aval.dtype for one in (*equation.invars, *equation.outvars))
        for param in equation.params.values():
            for one in param if isinstance(param, (tuple, list)) else (param,):
                inner = getattr(one, "jaxpr", one)
                if hasattr(inner, "eqns"):
                    yield from dtypes(inner)


@pytest.mark.parametrize("case", marked(OPTIONS))
def test_nothing_of_less_precision_is_computed_of_float64(case: str):
    """In no layer, forward or backward: not a sum, not a softmax, not an angle."""
    if case in CACHES:
        layer: Any = getattr(nn, case)(1, 3, 2, 4, dtype=F64)
        _, inputs = wide(case)
    else:
        layer, inputs = wide(case)

    def total(layer: Any, *inputs: Any) -> jax.Array:
        return sum((leaf.sum() for leaf in jax.tree.leaves(call(layer, *inputs))), jnp.zeros(()))

    argnums = [at + 1 for at, x in enumerate(inputs) if x.dtype == F64]
    has_parameters = bool(gn.states(layer, gn.ParamState))
    jaxpr = gn.make_jaxpr(gn.value_and_grad(total, tuple([0] * has_parameters + argnums)))(layer, *inputs)
    # Of complex numbers, that of their parts
    found = {jnp.finfo(dtype).dtype for dtype in dtypes(jaxpr.jaxpr) if jnp.issubdtype(dtype, jnp.inexact)}
    assert found == {F64}


def exact_attention(query: Any, key: Any, value: Any, mask: Any = None) -> jax.Array:
    """In NumPy's longest floats, by the formula."""
    q, k, v = (np.asarray(one).astype(np.longdouble) for one in (query, key, value))
    groups = q.shape[-2] // k.shape[-2]
    k, v = (np.repeat(one, groups, axis=-2) for one in (k, v))
    scores = np.einsum("...thd,...shd->...hts", q, k) / np.sqrt(np.longdouble(q.shape[-1]))
    if mask is not None:
        scores = np.where(mask, scores, -1e300)  # nobody: all alike
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return jnp.asarray(np.einsum("...hts,...shd->...thd", weights, v).astype(F64))


def unscanned_stack(p: Any, x: jax.Array) -> Any:
    """The blocks of a scan one after the other, as NumPy takes no tracers."""
    unstacked = {
        name.replace("blocks.", f"blocks.{at}."): array[at]
        for name, array in p.items()
        for at in range(2)
        if name.startswith("blocks.")
    }
    return block_stack({**unstacked, "norm.scale": p["norm.scale"]}, x, attend=exact_attention)


EXACT: dict[str, Callable[..., Any]] = {
    "MultiHeadAttention": functools.partial(attention, attend=exact_attention),
    "TransformerBlock": functools.partial(block, attend=exact_attention),
    "TransformerBlock, norms after": functools.partial(block_after, attend=exact_attention),
    "TransformerBlock, norms of the output": functools.partial(block_output, attend=exact_attention),
    "TransformerBlock, norms on both sides": functools.partial(block_both, attend=exact_attention),
    "TransformerBlock, parallel": functools.partial(block_parallel, attend=exact_attention),
    "TransformerStack": functools.partial(block_stack, attend=exact_attention),
    "TransformerStack, scanned": unscanned_stack,
    "EncoderDecoder": functools.partial(encoder_decoder, attend=exact_attention),
}


@pytest.mark.parametrize("case", marked(sorted(BY_HAND.keys() - {"Linear, no bias"})))
def test_float64_has_the_accuracy_of_float64(case: str):
    """Each layer is what one writes by hand, to 1e-12; attention is that of longer floats."""
    layer, inputs = wide(case)
    by_hand = EXACT.get(case, BY_HAND[case][1])
    by_hand = by_hand if case in EXACT else jax.jit(by_hand)
    expected = by_hand(arrays(layer), *inputs)
    found = gn.jit(call)(layer, *inputs)
    if case == "BatchNorm":
        found = found, [layer.mean.value, layer.var.value]
    if case == "RNNCell":
        expected = expected, expected  # what is carried on, and the output
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == F64
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-12, atol=1e-13)


def test_an_lstm_of_float64_has_its_accuracy():
    """Whose carry is a pair."""
    layer, (h, x) = wide("LSTMCell")
    (memory, output), _ = layer((h, h), x)
    expected = jax.jit(lstm)(arrays(layer), h, h, x)
    np.testing.assert_allclose(np.asarray((memory, output)), np.asarray(expected), rtol=1e-12, atol=1e-13)


ATTENTION: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...] | None]] = {
    "plain": ({}, (2, 5), None),
    "causal": ({"is_causal": True}, (2, 5), None),
    "grouped heads, causal, a mask": ({"num_kv_heads": 2, "is_causal": True}, (2, 5), (2, 4, 5, 5)),
    "one head of keys, a mask for all": ({"num_kv_heads": 1}, (2, 5), (1, 1, 1, 5)),
    "a mask for all heads, two batch axes": ({}, (2, 1, 5), (2, 1, 1, 5, 5)),
    "no batch axis, rotary": ({"rotary_base": 50.0}, (5,), (4, 5, 5)),
}


def masked(shape: tuple[int, ...] | None) -> "Numbers | None":
    """Some see each other; the first one sees nobody."""
    if shape is None:
        return None
    mask = np.random.default_rng(3).random(shape) < 0.6
    mask[..., 0, :] = mask.shape[-2] == 1
    return mask


def masked_call(mask: "Numbers | None", layer: nn.MultiHeadAttention, x: jax.Array) -> jax.Array:
    return layer(x, mask=None if mask is None else jnp.asarray(mask))


def attended_by(layer: nn.MultiHeadAttention, x: jax.Array, mask: "Numbers | None") -> jax.Array:
    apply: Callable[..., jax.Array] = gn.jit(functools.partial(masked_call, mask))
    return apply(layer, x)


@pytest.mark.parametrize(("options", "batch", "mask_shape"), ATTENTION.values(), ids=ATTENTION)
def test_attention_in_float64_is_that_of_longer_floats(
    options: dict[str, Any], batch: tuple[int, ...], mask_shape: tuple[int, ...] | None
):
    """With masks, grouped heads and any batch axes; who attends to nobody gets the mean, as in float32."""
    layer = make("MultiHeadAttention", **{"context_size": 8, "num_kv_heads": 4, **options}, param_dtype=F64)
    x, mask = numbers(*batch, 8, dtype=F64), masked(mask_shape)
    found = attended_by(layer, x, mask)
    query, key, value = (part(x).reshape(*batch, -1, layer.head_size) for part in (layer.query, layer.key, layer.value))
    if layer.rotary_base is not None:
        at = jnp.arange(batch[-1], dtype=jnp.int32)
        query, key = (nn.rotary(one, at, layer.rotary_base) for one in (query, key))
    seen = np.tril(np.ones((5, 5), bool)) if layer.is_causal else np.ones((5, 5), bool)
    attended = exact_attention(query, key, value, seen if mask is None else seen & mask)
    np.testing.assert_allclose(
        np.asarray(found), np.asarray(layer.out(attended.reshape(*batch, 8))), rtol=1e-12, atol=1e-14
    )
    half = make("MultiHeadAttention", **{"context_size": 8, "num_kv_heads": 4, **options})
    in_float32 = attended_by(half, x.astype(jnp.float32), mask)
    assert in_float32.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(found), np.asarray(in_float32), atol=2e-5)


@pytest.mark.parametrize("case", ["grouped heads, causal, a mask", "no batch axis, rotary"])
def test_gradients_of_attention_in_float64_are_those_of_differences(
    case: str,
):
    """Forward and backward, of inputs and parameters."""
    options, batch, mask_shape = ATTENTION[case]
    layer = make("MultiHeadAttention", **{"context_size": 8, "num_kv_heads": 4, **options}, param_dtype=F64)
    mask = masked(mask_shape)
    graphdef, params = gn.treefy_split(layer)

    @jax.jit
    def apply(params: Any, x: Any) -> Any:
        return gn.treefy_merge(graphdef, params)(x, mask=None if mask is None else jnp.asarray(mask))

    with permissive():
        check_grads(apply, (params, numbers(*batch, 8, dtype=F64)), order=1)


def test_rotary_angles_of_float64_have_its_accuracy():
    """Also at positions whose angles float32 cannot tell apart."""
    x, at = numbers(3, 1, 8, dtype=F64), np.array([0, 12_345, 99_991])
    y = nn.rotary(x, jnp.asarray(at, jnp.int32), 50.0)
    angles = at.astype(np.longdouble)[:, None, None] * np.longdouble(50.0) ** (-np.arange(4) / np.longdouble(4))
    first, second = np.split(np.asarray(x).astype(np.longdouble), 2, -1)
    cos, sin = np.cos(angles), np.sin(angles)
    expected = np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    np.testing.assert_allclose(np.asarray(y), expected.astype(F64), atol=1e-10)


def test_running_averages_may_have_more_precision_than_the_input():
    """They are float64 where JAX has it; a float32 input is normalised in float32."""
    layer = make("BatchNorm")
    assert layer.mean.value.dtype == F64
    x = numbers(5, 4)
    assert layer(x).dtype == layer(x, deterministic=True).dtype == jnp.float32


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
def test_a_sequence_of_more_precision_than_the_parameters_is_run_in_it(name: str):
    """What is carried has the dtype that a step gives, from the start on."""
    cell = make(name)
    x = numbers(2, 3, 3, dtype=F64)
    with permissive():
        carry, outputs = nn.RNN(cell).run(x)
        carried: Any = cell.initial_carry((2,))
        expected = x
        for at in range(3):
            carried, expected = cell(carried, x[:, at])
    assert outputs.dtype == F64
    assert jax.tree.map(jnp.shape, carry) == jax.tree.map(jnp.shape, carried)
    np.testing.assert_allclose(np.asarray(outputs[:, -1]), np.asarray(expected), rtol=1e-12, atol=1e-13)


LARGE: dict[str, dict[str, Any]] = {
    "AdaptiveAvgPool": {}, "AvgPool": {}, "AvgPool, zeros do not count": {"count_include_pad": False},
    "GroupNorm": {}, "LayerNorm": {}, "RMSNorm": {}, "BatchNorm": {},
}  # fmt: skip


@pytest.mark.parametrize("case", LARGE)
def test_sums_of_half_precision_do_not_overflow(case: str):
    """A mean of numbers that float16 has is one that float16 has, however many they are."""
    name = case.partition(",")[0]
    layer = make(name, **LARGE[case])
    x = jnp.full(CASES[name].inputs[0], 60_000, jnp.float16)
    y = layer(x)
    assert y.dtype == jnp.float16
    assert np.isfinite(y).all()
    if case == "AvgPool, zeros do not count":
        assert set(np.asarray(y).ravel().tolist()) == {60_000.0}


def test_a_mean_counts_beyond_what_half_precision_can():
    """A window of 300 elements, which bfloat16 counts to 256."""
    pool = nn.AvgPool(300, padding=((1, 0),), count_include_pad=False)
    assert set(np.asarray(pool(jnp.ones((300, 1), jnp.bfloat16)).astype(jnp.float32)).ravel().tolist()) == {1.0}
