"""`MultiHeadAttention` beside flax's, `rotary` beside equinox's, and the key-value cache beside no cache."""

from typing import Any

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st

import graphnode as gn
from graphnode import nn
from tests.interrupting import interrupt_everywhere
from tests.nn.peers import BF16, compare, drawn, numbers, permissive, pure, pure_eqx, pure_nnx, rngs

PARTS = ("query", "key", "value", "out")
NAMES = {
    f"{part}.{ours}": f"{part}.{theirs}" for part in PARTS for ours, theirs in (("weight", "kernel"), ("bias", "bias"))
}


def attention(width: int, num_heads: int, **options: Any) -> nn.MultiHeadAttention:
    return nn.MultiHeadAttention(width, num_heads, w_init=drawn, b_init=drawn, **options)


def peer(width: int, num_heads: int, **options: Any) -> Any:
    inits: dict[str, Any] = {"kernel_init": drawn, "bias_init": drawn}
    with permissive():
        return nnx.MultiHeadAttention(num_heads, width, decode=False, rngs=rngs(), **inits, **options)


def tril(time: int) -> Any:
    return np.tril(np.ones((1, 1, time, time), bool))


def random_mask(*shape: int) -> Any:
    """Some do not see each other, but each sees itself."""
    mask = np.random.default_rng(0).random(shape) < 0.5
    return mask | np.eye(shape[-2], shape[-1], dtype=bool)


CASES: dict[str, tuple[tuple[int, ...], dict[str, Any], dict[str, Any], Any, Any]] = {
    "plain": ((2, 3), {}, {}, None, None),
    "causal": ((2, 3), {"is_causal": True}, {}, None, tril(3)),
    "a mask": ((2, 3), {}, {}, random_mask(2, 4, 3, 3), random_mask(2, 4, 3, 3)),
    "a mask for all heads, causal": (
        (2, 3), {"is_causal": True}, {}, random_mask(2, 1, 3, 3), random_mask(2, 1, 3, 3) & tril(3),
    ),
    "a mask for all": ((2, 3), {}, {}, random_mask(1, 1, 1, 3), random_mask(1, 1, 1, 3)),
    "grouped heads": ((2, 3), {"num_kv_heads": 2}, {"num_kv_heads": 2}, None, None),
    "one head of keys, causal": (
        (2, 3), {"num_kv_heads": 1, "is_causal": True}, {"num_kv_heads": 1}, None, tril(3),
    ),
    "larger heads": ((2, 3), {"head_size": 3}, {"qkv_features": 12}, None, None),
    "no biases": ((1, 3), {"use_bias": False}, {"use_bias": False}, None, None),
    "no batch axis": ((3,), {}, {}, random_mask(4, 3, 3), random_mask(4, 3, 3)),
    "two batch axes": ((2, 2, 3), {"is_causal": True}, {}, None, tril(3)[None]),
    "two batch axes, a mask": (
        (2, 2, 3), {"num_kv_heads": 2}, {"num_kv_heads": 2}, random_mask(2, 1, 4, 3, 3), random_mask(2, 1, 4, 3, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("shape", "options", "theirs", "mask", "its_mask"), CASES.values(), ids=CASES)
def test_attention_is_that_of_flax(
    shape: tuple[int, ...], options: dict[str, Any], theirs: dict[str, Any], mask: Any, its_mask: Any
):
    """Result and gradients, with masks, grouped heads and any batch axes."""
    given = None if mask is None else jnp.asarray(mask)
    one = pure(attention(8, 4, **options), lambda layer, x: layer(x, mask=given))

    def called(layer: Any, x: jax.Array) -> Any:
        # flax takes exactly one batch axis with a mask.
        full = None if its_mask is None else np.broadcast_to(its_mask, (*shape[:-1], *its_mask.shape[-3:]))
        full = None if full is None else full.reshape(-1, *full.shape[-3:])
        return layer(x.reshape(-1, *x.shape[-2:]), mask=full).reshape(x.shape)

    # Masks and batch axes have no gradients of their own.
    with_gradients = mask is None and len(shape) == 2
    other = pure_nnx(peer(8, 4, **theirs), called)
    compare(one, other, numbers(*shape, 8), names=NAMES, with_gradients=with_gradients)


@hypothesis.settings(max_examples=3)
@hypothesis.given(
    num_heads=st.sampled_from([1, 2, 4]),
    groups=st.sampled_from([1, 2]),
    time=st.integers(1, 4),
    context=st.integers(1, 4),
    axes=st.tuples(*[st.booleans()] * 4),
)
def test_attention_to_a_context_is_that_of_flax(
    num_heads: int, groups: int, time: int, context: int, axes: tuple[bool, ...]
):
    """The context has its own size and length; each axis of the mask may have size 1."""
    kv_heads = max(1, num_heads // groups)
    whole = (2, num_heads, time, context)
    mask = random_mask(*[size if is_full else 1 for size, is_full in zip(whole, axes, strict=True)])
    one = attention(8, num_heads, num_kv_heads=kv_heads, context_size=5)
    other = peer(8, num_heads, num_kv_heads=kv_heads, in_kv_features=5)
    compare(
        pure(one, lambda layer, x, context: layer(x, context, mask=jnp.asarray(mask))),
        pure_nnx(other, lambda layer, x, context: layer(x, context, mask=np.broadcast_to(mask, whole))),
        numbers(2, time, 8),
        numbers(2, context, 5),
        names=NAMES,
    )


@pytest.mark.parametrize("is_causal", [False, True])
def test_in_bfloat16_the_softmax_is_in_float32(is_causal: bool):
    """With the same projections, the result is that of scores and softmax in float32, to the last bit or two."""
    layer, x = attention(8, 2, is_causal=is_causal, dtype=BF16), numbers(1, 6, 8, seed=3, dtype=BF16)

    def by_hand(layer: Any, x: jax.Array) -> Any:
        def heads(part: nn.Linear) -> Any:
            return part(x).astype(jnp.float32).reshape(1, 6, 2, 4)

        query, key, value = (heads(part) for part in (layer.query, layer.key, layer.value))
        scores = jnp.einsum("bthd,bchd->bhtc", query, key) / 2
        weights = jax.nn.softmax(jnp.where(jnp.asarray(tril(6) | (not is_causal)), scores, -jnp.inf))
        weights = weights.astype(BF16).astype(jnp.float32)
        return layer.out(jnp.einsum("bhtc,bchd->bthd", weights, value).reshape(1, 6, 8).astype(BF16))

    y = compare(pure(layer), pure(layer, by_hand), x, with_gradients=False, ulps=4)
    assert y.dtype == BF16


def test_in_bfloat16_attention_is_that_of_flax():
    """Dtypes and, within two units in the last place, results."""
    one, other = pure(attention(8, 2, dtype=BF16)), pure_nnx(peer(8, 2, dtype=BF16))
    compare(one, other, numbers(2, 3, 8, dtype=BF16), names=NAMES, ulps=2, with_gradients=False)


def test_an_element_that_attends_to_nobody_gets_a_mean():
    """Of all values, and no NaN."""
    layer, x = attention(4, 1), numbers(3, 4)
    mask = jnp.asarray([[[True] * 3, [False] * 3, [True] * 3]])
    y, expected = gn.jit(lambda layer: (layer(x, mask=mask), layer.out(layer.value(x).mean(0))))(layer)
    np.testing.assert_allclose(np.asarray(y[1]), np.asarray(expected), rtol=1e-4, atol=1e-5)


# Rotary positions


@pytest.mark.parametrize(("time", "size", "base"), [(5, 8, 10_000.0), (3, 2, 10.0)])
def test_rotary_is_that_of_equinox(time: int, size: int, base: float):
    """Result and gradient; all heads are rotated alike."""

    def heads(rotated: Any, x: jax.Array) -> Any:
        return jax.vmap(jax.vmap(rotated, 1, 1))(x)

    def ours(base: Any, x: jax.Array) -> jax.Array:
        return nn.rotary(x, jnp.arange(time, dtype=jnp.int32), base)

    with permissive():
        other = eqx.nn.RotaryPositionalEmbedding(size, theta=base)
    compare(pure_eqx(base, ours), pure_eqx(other, heads), numbers(2, time, 3, size))


def test_rotary_depends_on_distances_alone():
    """Products of queries and keys stay when all positions move on by the same number."""
    q, k = numbers(4, 2, 6), numbers(4, 2, 6, seed=1)

    def scores(start: int) -> Any:
        at = start + jnp.arange(4, dtype=jnp.int32)
        return jnp.einsum("thd,chd->htc", nn.rotary(q, at, 100.0), nn.rotary(k, at, 100.0))

    np.testing.assert_allclose(np.asarray(scores(0)), np.asarray(scores(7)), atol=1e-5)
    assert not np.allclose(np.asarray(scores(0)), np.einsum("thd,chd->htc", q, k))


def test_rotary_keeps_the_dtype_and_takes_angles_in_float32():
    """A bfloat16 array at a position that bfloat16 cannot count."""
    x, at = numbers(1, 1, 4, dtype=BF16), jnp.asarray([1001], jnp.int32)
    y = nn.rotary(x, at)
    assert y.dtype == BF16
    wide = nn.rotary(x.astype(jnp.float32), at)
    np.testing.assert_allclose(np.asarray(y.astype(jnp.float32)), np.asarray(wide), rtol=0.02, atol=0.02)


# The key-value cache


@gn.jit
def step(layer: nn.MultiHeadAttention, x: jax.Array) -> jax.Array:
    return layer(x)


CACHED: dict[str, dict[str, Any]] = {
    "plain": {},
    "rotary, grouped heads": {"num_kv_heads": 1, "rotary_base": 50.0},
}


@pytest.mark.parametrize("options", CACHED.values(), ids=CACHED)
def test_decoding_with_a_cache_is_attention_without(options: dict[str, Any]):
    """Token by token compiled, again after `reset`, in chunks, and as a scan."""
    layer = attention(8, 2, is_causal=True, **options)
    x = numbers(2, 4, 8)
    expected = np.asarray(step(layer, x))
    cache = layer.init_cache(2, 6)
    tokens = [x[:, at : at + 1] for at in range(4)]
    for _ in range(2):
        found = jnp.concatenate([step(layer, token) for token in tokens], 1)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
        assert int(cache.position.value) == 4
        cache.reset()
    found = jnp.concatenate([step(layer, x[:, :2]), step(layer, x[:, 2:3]), step(layer, x[:, 3:])], 1)
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
    cache.reset()

    def scanned(layer: nn.MultiHeadAttention, token: jax.Array) -> tuple[nn.MultiHeadAttention, jax.Array]:
        return layer, layer(token)

    again, outputs = gn.scan(scanned, layer, jnp.stack(tokens))
    np.testing.assert_allclose(np.asarray(jnp.concatenate(list(outputs), 1)), expected, atol=1e-5)
    assert again is layer
    assert int(cache.position.value) == 4


def test_attention_that_is_not_causal_sees_its_own_chunk():
    """All of the cache that is filled, and all new elements: in one chunk, as without a cache."""
    layer, x = attention(8, 2), numbers(2, 3, 8)
    expected = step(layer, x)
    layer.init_cache(2, 5)
    np.testing.assert_allclose(np.asarray(step(layer, x)), np.asarray(expected), atol=1e-5)


def test_a_mask_is_combined_with_the_cache():
    """The mask's last axis is the cache's length; what is not there yet is never seen."""
    layer, x = attention(8, 2, is_causal=True), numbers(2, 3, 8)
    mask = np.ones((2, 1, 3, 5), bool)
    mask[0, :, 1:, 0] = False

    @gn.jit
    def both(layer: nn.MultiHeadAttention, cached: nn.MultiHeadAttention) -> Any:
        parts = [
            cached(x[:, :2], mask=jnp.asarray(mask[:, :, :2])),
            cached(x[:, 2:], mask=jnp.asarray(mask[:, :, 2:])),
        ]
        return jnp.concatenate(parts, 1), layer(x, mask=jnp.asarray(mask[..., :3]))

    plain = attention(8, 2, is_causal=True)
    layer.init_cache(2, 5)
    found, expected = both(plain, layer)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-5)
    with pytest.raises(gn.ContractError) as caught:
        layer(x[:, :1], mask=jnp.ones((2, 1, 1, 3), bool))
    assert str(caught.value) == (
        "MultiHeadAttention: mask: expected bool of shape (2, 2, 1, 5), where any axis may have size 1; found bool of "
        "shape (2, 1, 1, 3)"
    )


def entries(time: int, batch: int = 1) -> jax.Array:
    return jnp.ones((batch, time, 1, 2))


def test_an_interrupted_append_has_kept_all_or_nothing():
    """A signal handler that raises anywhere in it leaves keys, values and position of before, or of afterwards."""
    cache = nn.KeyValueCache(1, 3, 1, 2)
    found: set[tuple[float, ...]] = set()

    def check() -> None:
        found.add((float(cache.keys.value.sum()), float(cache.values.value.sum()), float(cache.position.value)))
        cache.reset()

    for file in ("nn/_cache.py", "graphnode/_signals.py"):
        assert interrupt_everywhere(file, lambda: cache.append(entries(1), entries(1)), check) > 3
    assert found == {(0.0, 0.0, 0.0), (2.0, 2.0, 1.0)}


def test_more_tokens_than_there_is_room_for_are_refused():
    """Eagerly, before anything is written; and when compiled, if the chunk alone is too long."""
    cache = nn.KeyValueCache(1, 3, 1, 2)
    cache.append(entries(2), entries(2))
    before = [state.value for state in gn.states(cache).values()]
    with pytest.raises(gn.ContractError) as caught:
        cache.append(entries(2), entries(2))
    assert str(caught.value) == "KeyValueCache: expected at most 3 tokens, its length; found 2 tokens and 2 more"
    with pytest.raises(gn.ContractError) as caught:
        gn.jit(lambda cache: cache.append(entries(4), entries(4)))(cache)
    assert str(caught.value) == "KeyValueCache: expected at most 3 tokens, its length; found 4 tokens"
    assert all(state.value is value for state, value in zip(gn.states(cache).values(), before, strict=True))


def test_a_compiled_overflow_gives_nan():
    """Nobody can be told: all that is computed of the cache is NaN, until it is reset."""
    layer = attention(4, 2, is_causal=True)
    layer.init_cache(1, 2)
    x = numbers(1, 1, 4)
    is_nan = [bool(jnp.isnan(step(layer, x)).all()) for _ in range(3)]
    assert is_nan == [False, False, True]


def test_what_follows_an_overflow_is_nan_too():
    """Also the second call after it, and after a reset the numbers are right again."""
    layer = attention(4, 2, is_causal=True)
    cache = layer.init_cache(1, 2)
    x = numbers(1, 1, 4)
    first = step(layer, x)
    for _ in range(2):
        step(layer, x)
    assert bool(jnp.isnan(step(layer, x)).all())
    cache.reset()
    np.testing.assert_array_equal(np.asarray(step(layer, x)), np.asarray(first))


def test_a_cache_survives_split_and_merge():
    """It is a State like others: the copy goes on where the original was."""
    layer, x = attention(4, 2, is_causal=True), numbers(1, 3, 4)
    layer.init_cache(1, 3)
    step(layer, x[:, :2])
    copied = gn.treefy_merge(*gn.treefy_split(layer))
    np.testing.assert_array_equal(np.asarray(step(copied, x[:, 2:])), np.asarray(step(layer, x[:, 2:])))
    assert copied.cache is not layer.cache
    assert list(gn.states(layer, gn.ShortTermState)) == [("cache", "keys"), ("cache", "position"), ("cache", "values")]


def test_a_cache_is_taken_away_by_assigning_none():
    """Then the layer computes as before."""
    layer, x = attention(4, 2, is_causal=True), numbers(1, 2, 4)
    graphdef, expected = gn.graphdef(layer), step(layer, x)
    layer.init_cache(1, 2)
    layer.cache = None
    assert gn.graphdef(layer) is graphdef
    assert step(layer, x).tolist() == expected.tolist()


def test_a_cache_has_the_dtype_that_is_computed_in():
    """That of the call, or else that of the parameters, or what `init_cache` is told."""
    cases: list[tuple[dict[str, Any], Any, Any]] = [
        ({}, None, jnp.float32),
        ({"dtype": jnp.bfloat16}, None, jnp.bfloat16),
        ({"param_dtype": jnp.bfloat16}, None, jnp.bfloat16),
        ({}, jnp.bfloat16, jnp.bfloat16),
    ]
    for options, dtype, expected in cases:
        layer = attention(4, 2, is_causal=True, **options)
        cache = layer.init_cache(1, 2, dtype)
        assert cache.keys.value.dtype == cache.values.value.dtype == expected
        x: Any = jax.ShapeDtypeStruct((1, 1, 4), jnp.float32)
        if "param_dtype" not in options:
            wanted = options.get("dtype", jnp.float32)
            assert gn.eval_shape(lambda layer, x: layer(x), layer, x).dtype == wanted


REFUSED: dict[str, tuple[Any, str]] = {
    "another batch": (
        (2, 1, 1, 2),
        "expected batch = 1 of {contract}, found shape (2, 1, 1, 2)",
    ),
    "other heads": ((1, 1, 2, 2), "expected num_heads = 1 of {contract}, found shape (1, 1, 2, 2)"),
    "no axis of heads": ((1, 1, 2), "expected rank 4 of {contract}, found shape (1, 1, 2)"),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("shape", "text"), REFUSED.values(), ids=REFUSED)
def test_entries_of_another_shape_are_refused(shape: tuple[int, ...], text: str):
    """And nothing is written."""
    cache = nn.KeyValueCache(1, 3, 1, 2)
    before = [state.value for state in gn.states(cache).values()]
    with pytest.raises(gn.ContractError) as caught:
        cache.append(jnp.ones(shape), entries(1))
    contract = 'Float[Array, "batch time num_heads head_size"]'
    assert str(caught.value) == f"KeyValueCache: keys: {text.format(contract=contract)}"
    assert all(state.value is value for state, value in zip(gn.states(cache).values(), before, strict=True))


@pytest.mark.no_runtime_types
def test_keys_and_values_are_of_one_length():
    """Otherwise they would not belong to the same tokens."""
    cache = nn.KeyValueCache(1, 3, 1, 2)
    with pytest.raises(gn.ContractError) as caught:
        cache.append(entries(1), entries(2))
    contract = 'Float[Array, "batch time num_heads value_head_size"]'
    assert str(caught.value) == f"KeyValueCache: values: expected time = 1 of {contract}, found shape (1, 2, 1, 2)"


def test_a_sequence_of_another_batch_is_refused_by_the_cache_of_a_layer():
    """The path names the cache."""
    layer = attention(4, 2, is_causal=True)
    layer.init_cache(1, 2)
    with pytest.raises(gn.ContractError) as caught:
        layer(numbers(2, 1, 4))
    where, axes = "MultiHeadAttention.cache (KeyValueCache)", "batch time num_heads"
    assert str(caught.value) == (
        f'2 faults:\n  {where}: keys: expected batch = 1 of Float[Array, "{axes} head_size"], found shape (2, 1, 2, 2)'
        f'\n  {where}: values: expected batch = 1 of Float[Array, "{axes} value_head_size"], found shape (2, 1, 2, 2)'
    )
