"""Options of `MultiHeadAttention` beside attention written out with NumPy; what they refuse."""

import functools
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphnode as gn
from graphnode import nn
from tests.nn import attention_by_hand
from tests.nn.peers import BF16, drawn, numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow

BATCH, TIME, WIDTH = 2, 5, 8


def attention(**options: Any) -> nn.MultiHeadAttention:
    """Of 2 heads of 4 features."""
    return nn.MultiHeadAttention(WIDTH, 2, w_init=drawn, b_init=drawn, **options)


def sequence(time: int = TIME, seed: int = 0) -> jax.Array:
    return numbers(BATCH, time, WIDTH, seed=seed)


def compiled(layer: nn.MultiHeadAttention) -> str:
    """What a call computes."""
    return str(gn.make_jaxpr(lambda layer, x: layer(x))(layer, sequence()))


def random_mask(*shape: int) -> Any:
    """Some do not see each other, but each sees itself."""
    mask = np.random.default_rng(0).random(shape) < 0.5
    return mask | np.eye(shape[-2], shape[-1], dtype=bool)


OPTIONS: dict[str, dict[str, Any]] = {
    "scale, cap, causal window": {"scale": 1.5, "soft_cap": 0.5, "is_causal": True, "window": 2},
    "window on both sides, heads of values": {
        "window": (1, 2), "value_head_size": 3, "out_size": 6, "num_kv_heads": 1,
    },
    "window of a number, norms of all heads, some biases": {
        "window": 2, "query_norm": nn.LayerNorm(8, use_bias=False), "key_norm": nn.RMSNorm(8),
        "use_bias": ("query", "value"),
    },
    "norms, rotary": {"normalize_qk": True, "rotary_base": 50.0},
    "relative positions": {"score_bias": nn.RelativePositionBias(2, num_buckets=8, max_distance=6, w_init=drawn)},
    "ALiBi, causal, neighbours of a part": {
        "score_bias": nn.ALiBi(2), "is_causal": True, "rotary": nn.Rotary(50.0, pairs="neighbours", fraction=0.5),
    },
    "scaled rotations": {"rotary": nn.Rotary(50.0, scaling=nn.YarnScaling(4.0, 8))},
}  # fmt: skip


@gn.jit
def attend(layer: nn.MultiHeadAttention, *inputs: jax.Array, **others: Any) -> Any:
    """With weights, which are written out, and without."""
    return layer(*inputs, **others, return_weights=True), layer(*inputs, **others)


def compare(layer: nn.MultiHeadAttention, *inputs: jax.Array, **others: Any) -> None:
    """The result and the weights, which are written out, and the result without weights."""
    y, weights = attention_by_hand.attend(layer, *map(np.asarray, inputs), **others)
    (found, found_weights), plain = attend(layer, *inputs, **{name: jnp.asarray(one) for name, one in others.items()})
    np.testing.assert_allclose(np.asarray(found), y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(found_weights), weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(plain), y, rtol=1e-4, atol=1e-5)


# Each compiles two forms of attention.
QUICK = ("scale, cap, causal window", "window on both sides, heads of values", "ALiBi, causal, neighbours of a part")


@pytest.mark.parametrize(
    "options",
    [pytest.param(one, marks=[] if name in QUICK else pytest.mark.slow, id=name) for name, one in OPTIONS.items()],
)
def test_attention_is_what_one_writes_out(options: dict[str, Any]):
    """With each option, with a mask and what is added to the scores; with and without weights."""
    shape = (BATCH, 2, TIME, TIME)
    compare(attention(**options), sequence(), mask=random_mask(*shape), bias=np.asarray(numbers(*shape)))


def test_keys_and_values_are_of_different_sequences():
    """Values are made of their own one."""
    inputs = (sequence(), sequence(3, seed=1), sequence(3, seed=2))
    compare(attention(), *inputs, mask=random_mask(1, 1, TIME, 3))


@pytest.mark.parametrize("name", ["rotary", pytest.param("score_bias", marks=pytest.mark.slow)])
def test_positions_may_differ_by_row(name: str):
    """For rotations and for what is added by distance; they need not count up."""
    option: Any = {"rotary": nn.Rotary(50.0), "score_bias": nn.ALiBi(2)}[name]
    positions = np.asarray([[0, 1, 2, 3, 4], [3, 5, 7, 0, 1]], np.int32)
    compare(attention(**{name: option}), sequence(), positions=positions)


def test_rotary_base_is_short_for_rotary():
    """The same is computed."""
    short, long = attention(rotary_base=50.0), attention(rotary=nn.Rotary(50.0))
    assert compiled(short) == compiled(long)


def test_lengths_hide_the_end_of_each_row():
    """As the mask of padding does; of a context too."""
    lengths = np.asarray([2, 5], np.int32)
    mask = np.arange(TIME) < lengths[:, None, None, None]
    layer, x, context = attention(), sequence(3), sequence(seed=1)
    expected, _ = attention_by_hand.attend(layer, np.asarray(x), np.asarray(context), mask=mask)
    _, found = attend(layer, x, context, lengths=jnp.asarray(lengths))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)


def test_several_batch_axes_are_one():
    """Masks, biases, positions and lengths have them too."""
    layer = attention(rotary_base=50.0, soft_cap=2.0)
    x = numbers(2, 1, TIME, WIDTH)
    arrays: dict[str, Any] = {
        "mask": random_mask(2, 1, 2, TIME, TIME),
        "bias": np.asarray(numbers(1, 1, 1, TIME, TIME)),
        "positions": np.arange(10, dtype=np.int32).reshape(2, 1, TIME) % 7,
    }
    (y, weights), _ = attend(layer, x, **{name: jnp.asarray(array) for name, array in arrays.items()})
    arrays["bias"] = arrays["bias"][0]
    rows = {name: array if name == "bias" else array[:, 0] for name, array in arrays.items()}
    expected, its_weights = attention_by_hand.attend(layer, np.asarray(x[:, 0]), **rows)
    np.testing.assert_allclose(np.asarray(y[:, 0]), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(weights[:, 0]), its_weights, rtol=1e-4, atol=1e-5)


def test_a_score_bias_may_be_shared_by_layers():
    """As in T5: one node, whose weight is one parameter."""
    shared = nn.RelativePositionBias(2)
    model = nn.Sequential([attention(score_bias=shared) for _ in range(2)])
    weights = [path for path in gn.states(model, gn.ParamState) if "score_bias" in path]
    assert weights == [("layers", 0, "score_bias", "weight")]


# Dropout of weights


def test_dropped_weights_are_zero_and_the_others_larger():
    """What is collected is that of the dropped weights; those that are returned are whole."""
    layer = attention(dropout=nn.Dropout(0.5))
    x, rngs = sequence(), gn.Rngs(0)
    seen: list[jax.Array] = []

    class Recorded(nn.Dropout):
        def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
            seen.append(super().__call__(x, **options))
            return seen[0]

    layer.dropout = Recorded(0.5)
    y, weights = layer(x, rngs=rngs, return_weights=True)
    (dropped,) = seen
    np.testing.assert_allclose(np.asarray(dropped), np.where(dropped > 0, 2 * weights, 0), rtol=1e-6)
    assert 0.2 < float((dropped == 0).mean()) < 0.8
    values = attention_by_hand.of_heads(layer, "value", x)
    by_hand = np.einsum("bhts,bshd->bthd", np.asarray(dropped), values).reshape(BATCH, TIME, WIDTH)
    np.testing.assert_allclose(np.asarray(y), attention_by_hand.affine(layer.out, by_hand), rtol=1e-4, atol=1e-5)


def test_a_view_for_evaluation_drops_nothing():
    """And runs through JAX's function again, whose jaxpr is that of a layer without dropout."""
    layer = attention(dropout=nn.Dropout(0.5))
    plain = attention()
    view = gn.view(layer, deterministic=True)
    assert compiled(view) == compiled(plain)
    with pytest.raises(gn.RngError) as caught:
        layer(sequence())
    assert str(caught.value) == (
        "MultiHeadAttention.dropout (Dropout) has no rngs to draw from: pass rngs=gn.Rngs(0) to the layer or to the "
        "call, or deterministic=True to drop nothing"
    )


# A function of the user's


def test_a_function_attends_in_place_of_jax():
    """It gets heads, and causality and windows in the mask; JAX's own gives what the layer gives."""
    calls: list[dict[str, Any]] = []

    def record(query: Any, key: Any, value: Any, *, mask: Any, bias: Any) -> jax.Array:
        calls.append({"query": query.shape, "key": key.shape, "value": value.shape, "mask": mask, "bias": bias})
        return jax.nn.dot_product_attention(query, key, value, mask=mask, bias=bias)

    layer, x = attention(attend=record, is_causal=True, window=2, num_kv_heads=1), sequence()
    expected, _ = attention_by_hand.attend(layer, np.asarray(x))
    np.testing.assert_allclose(np.asarray(layer(x)), expected, rtol=1e-4, atol=1e-5)
    (call,) = calls
    seen = call.pop("mask")
    assert np.asarray(seen[0, 0]).astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1],
    ]  # fmt: skip
    assert call == {"query": (2, 5, 2, 4), "key": (2, 5, 1, 4), "value": (2, 5, 1, 4), "bias": None}


def test_a_function_is_named_in_a_file():
    """As activations are."""
    fused = jax.nn.dot_product_attention
    gn.config.register("fused_attention", fused)
    config = gn.config.loads(
        "{type: MultiHeadAttention, width: 8, num_heads: 2, attend: fused_attention}", nn.MultiHeadAttention
    )
    layer: Any = gn.config.build(config)
    assert layer.attend is fused
    assert gn.config.dump(gn.config.to_config(layer)).endswith("attend: fused_attention")


# What is compiled


def test_jax_is_called_where_it_has_the_option():
    """Scale, window, mask and bias are arguments of JAX's function, and nothing else is computed."""
    layer, x = attention(scale=1.5, window=(2, 1), is_causal=True, use_bias=False), sequence()
    mask, bias = jnp.asarray(random_mask(BATCH, 1, TIME, TIME)), numbers(1, 2, TIME, TIME)

    def by_hand(parts: Any, x: jax.Array) -> Any:
        rows = x.reshape(-1, WIDTH)
        query, key, value = (
            (rows @ parts[name]["weight"].value).reshape(BATCH, TIME, 2, 4) for name in ("query", "key", "value")
        )
        y = jax.nn.dot_product_attention(
            query, key, value, mask=mask, bias=bias, scale=1.5, is_causal=True, local_window_size=(2, 1)
        )
        return (y.reshape(-1, WIDTH) @ parts["out"]["weight"].value).reshape(x.shape)

    found = gn.make_jaxpr(lambda layer, x: layer(x, mask=mask, bias=bias))(layer, x)
    expected = jax.make_jaxpr(by_hand)(gn.treefy_states(layer), x)
    names = [[str(equation.primitive) for equation in jaxpr.jaxpr.eqns] for jaxpr in (found, expected)]
    assert sorted(names[0]) == sorted(names[1])


def test_what_is_written_out_is_in_float32():
    """Scores and softmax of bfloat16, as by JAX's function; weights have the dtype of the keys."""
    layer, x = attention(dtype=BF16), sequence()
    (y, weights), plain = attend(layer, x)
    assert y.dtype == weights.dtype == BF16
    y, plain = y.astype(jnp.float32), plain.astype(jnp.float32)
    np.testing.assert_allclose(np.asarray(y), np.asarray(plain), rtol=0.02, atol=0.02)
    assert "f32[2,2,5,5] = tanh" in compiled(attention(dtype=BF16, soft_cap=3.0))


# What is refused

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a window": (
        {"window": 0},
        "window: expected a positive integer, or a pair of integers of at least 0, before and after; found 0",
    ),
    "a pair": (
        {"window": (1, -1)},
        "window: expected a positive integer, or a pair of integers of at least 0, before and after; found (1, -1)",
    ),
    "a scale": ({"scale": 0.0}, "scale: expected a positive number; found 0.0"),
    "a cap": ({"soft_cap": -1.0}, "soft_cap: expected a positive number; found -1.0"),
    "a cap of a function": (
        {"attend": jax.nn.dot_product_attention, "soft_cap": 1.0},
        "soft_cap: expected none beside attend, a function in place of it; found 1.0",
    ),
    "a function": ({"attend": 1}, "attend: expected a function, such as jax.nn.relu; found 1"),
    "two rotations": (
        {"rotary": nn.Rotary(), "rotary_base": 2.0},
        "rotary_base: expected none beside rotary, which has a base; found 2.0",
    ),
    "norms twice": (
        {"normalize_qk": True, "key_norm": nn.RMSNorm(4)},
        "normalize_qk: expected False beside key_norm, which is what it makes; found True",
    ),
    "a norm of others": (
        {"query_norm": nn.RMSNorm(3)},
        "query_norm: expected a norm of 4 features, those of a head, or of 8, those of all; found width=3",
    ),
    "biases": (
        {"use_bias": ("query", "keys")},
        "use_bias: expected a boolean, or a tuple of names among 'query', 'key', 'value', 'out'; found ('query', "
        "'keys')",
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("options", "text"), BAD.values(), ids=BAD)
def test_an_option_that_is_wrong_is_refused(options: dict[str, Any], text: str):
    """With the field, what was found and what would do."""
    with pytest.raises(gn.ContractError) as caught:
        attention(**options)
    assert str(caught.value) == f"MultiHeadAttention.{text}"


CALLS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "positions": (
        {},
        {"positions": jnp.zeros((TIME, 1), jnp.int32)},
        "MultiHeadAttention: positions: expected integers of shape (2, 5) or (5,); found int32 of shape (5, 1)",
    ),
    "positions of floats": (
        {},
        {"positions": jnp.zeros(TIME)},
        "MultiHeadAttention: positions: expected integers of shape (2, 5) or (5,); found float32 of shape (5,)",
    ),
    "a bias": (
        {},
        {"bias": jnp.zeros((2, TIME, TIME))},
        "MultiHeadAttention: bias: expected float of shape (2, 2, 5, 5), where any axis may have size 1; found float32 "
        "of shape (2, 5, 5)",
    ),
    "a value alone": (
        {},
        {"value": jnp.zeros((2, TIME, WIDTH))},
        "MultiHeadAttention: value: expected none without a context, of which keys are made; found (2, 5, 8)",
    ),
    "lengths": (
        {},
        {"lengths": jnp.zeros(3, jnp.int32)},
        'MultiHeadAttention: lengths: expected *batch = (2,) of Integer[Array, "*batch"], found shape (3,)',
    ),
    "a context and a window": (
        {"window": 2},
        {"context": jnp.zeros((2, TIME, WIDTH))},
        "MultiHeadAttention: expected no context in attention which has a window or a score_bias; found (2, 5, 8)",
    ),
    "heads of a score bias": (
        {"score_bias": nn.ALiBi(4)},
        {},
        "MultiHeadAttention: score_bias: expected it to give an array of shape (2, 2, 5, 5), where any axis may have "
        "size 1; found (1, 4, 5, 5)",
    ),
    "weights of a function": (
        {"attend": jax.nn.dot_product_attention},
        {"return_weights": True},
        "MultiHeadAttention: expected neither dropout nor return_weights beside attend, whose weights are not known",
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("options", "call", "text"), CALLS.values(), ids=CALLS)
def test_an_array_that_does_not_fit_is_refused(options: dict[str, Any], call: dict[str, Any], text: str):
    """With what would fit."""
    layer: Any = attention(**options)
    with pytest.raises(gn.ContractError) as caught:
        gn.eval_shape(functools.partial(layer, **call), jax.ShapeDtypeStruct((2, TIME, WIDTH), jnp.float32))
    assert str(caught.value) == text


@gn.jit
def step(layer: nn.MultiHeadAttention, x: jax.Array) -> jax.Array:
    return layer(x)


@pytest.mark.slow
@hypothesis.settings(max_examples=10)  # each compiles calls of its own
@hypothesis.given(
    st.fixed_dictionaries(
        {
            "num_kv_heads": st.sampled_from([1, 2]),
            "value_head_size": st.sampled_from([None, 3]),
            "scale": st.sampled_from([None, 1.5]),
            "soft_cap": st.sampled_from([None, 1.0]),
            "window": st.sampled_from([None, 1, 3, (2, 0)]),
            "rotary": st.sampled_from([None, nn.Rotary(50.0, fraction=0.5), nn.Rotary(10.0, pairs="neighbours")]),
            "score_bias": st.sampled_from([None, nn.ALiBi(2), nn.RelativePositionBias(2, w_init=drawn)]),
            "normalize_qk": st.booleans(),
        }
    )
)
def test_decoding_is_attention_without_a_cache(options: dict[str, Any]):
    """With each option, a chunk and then token by token, with a full cache and with a rolling one."""
    layer, x = attention(is_causal=True, **options), sequence()
    compare(layer, x)
    expected = np.asarray(step(layer, x))
    lengths = [TIME, None] if layer.window is not None else [TIME]
    for length in lengths:
        layer.init_cache(BATCH, length)
        found = jnp.concatenate([step(layer, part) for part in jnp.split(x, [2, 3, 4], 1)], 1)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)
