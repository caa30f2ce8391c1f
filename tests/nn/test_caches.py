"""Caches of attention: with a position for each text, of a window, and of a context."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.peers import drawn, numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow


def attention(**options: Any) -> nn.MultiHeadAttention:
    return nn.MultiHeadAttention(8, 2, w_init=drawn, b_init=drawn, **options)


@gn.jit
def step(layer: nn.MultiHeadAttention, x: jax.Array, context: Any = None, lengths: Any = None) -> jax.Array:
    return layer(x, context, lengths=lengths)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-4, atol=1e-5)


def lengths_of(*lengths: int) -> jax.Array:
    return jnp.asarray(lengths, jnp.int32)


# A position for each text


@pytest.mark.parametrize("window", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_texts_of_several_lengths_go_on_together(window: int | None):
    """Each gives what it gives alone: prompts with padding behind, then token by token; one of them pauses."""
    layer = attention(is_causal=True, rotary_base=50.0, window=window)
    x = numbers(2, 6, 8)
    alone = np.asarray(step(layer, x))
    cache = layer.init_cache(2, None if window else 7, ragged=True)
    prompt = step(layer, x[:, :4], lengths=lengths_of(2, 4))
    close(prompt[0, :2], alone[0, :2])
    close(prompt[1], alone[1, :4])
    assert cache.position.value.tolist() == [2, 4]
    for first, second, counts in ((2, 4, (1, 1)), (3, 5, (1, 0)), (4, 5, (1, 1))):
        y = step(layer, jnp.stack([x[0, [first]], x[1, [second]]]), lengths=lengths_of(*counts))
        close(y[0, 0], alone[0, first])
        if counts[1]:
            close(y[1, 0], alone[1, second])
    assert cache.position.value.tolist() == [5, 6]


def test_a_text_without_room_is_refused_or_nan():
    """Eagerly it is an error that tells of the fullest; compiled, that text is NaN and the others are not."""
    layer = attention(is_causal=True)
    cache = layer.init_cache(2, 3, ragged=True)
    x = numbers(2, 2, 8)
    step(layer, x, lengths=lengths_of(1, 2))
    with pytest.raises(gn.ContractError) as caught:
        layer(x, lengths=lengths_of(2, 2))
    assert str(caught.value) == (
        "MultiHeadAttention.cache (KeyValueCache): expected at most 3 tokens, its length; found 2 tokens and 2 more"
    )
    assert cache.position.value.tolist() == [1, 2]
    y = step(layer, x, lengths=lengths_of(2, 2))
    assert np.isnan(np.asarray(y)).all(axis=(1, 2)).tolist() == [False, True]
    assert bool(jnp.isnan(step(layer, x[:, :1], lengths=lengths_of(0, 0))[1]).all())


def test_padding_is_not_kept():
    """Nothing of it, not even NaN, comes to those that follow."""
    layer = attention(is_causal=True)
    cache = layer.init_cache(1, 4, ragged=True)
    x = numbers(1, 2, 8).at[:, 1].set(jnp.nan)
    step(layer, x, lengths=lengths_of(1))
    assert float(jnp.abs(cache.keys.value[:, 1:]).max()) == 0.0


@pytest.mark.parametrize("cls", [nn.KeyValueCache, nn.RollingCache])
def test_lengths_are_for_ragged_caches(cls: Any):
    """Others have one position for all."""
    cache, one = cls(1, 3, 1, 2), jnp.ones((1, 1, 1, 2))
    with pytest.raises(gn.ContractError) as caught:
        cache.append(one, one, lengths_of(1))
    assert str(caught.value) == (
        f"{cls.__name__}: expected no lengths, as all rows have one position; make it with ragged=True"
    )


# Windows


MORE_CUTS: list[Any] = [pytest.param(cuts, marks=pytest.mark.slow) for cuts in (range(1, 9), [1], [])]


@pytest.mark.parametrize("cuts", [[2, 7, 8], *MORE_CUTS], ids=str)
def test_a_rolling_cache_is_attention_with_a_window(cuts: Any):
    """Token by token and in chunks that are shorter or longer than the window; it is never full."""
    layer = attention(is_causal=True, window=3, score_bias=nn.ALiBi(2))
    x = numbers(2, 9, 8)
    expected = step(layer, x)
    cache = layer.init_cache(2)
    assert (type(cache), cache.length) == (nn.RollingCache, 3)
    for _ in range(2):
        close(jnp.concatenate([step(layer, part) for part in jnp.split(x, list(cuts), 1)], 1), expected)
        assert int(cache.position.value) == 9
        cache.reset()


def test_a_rolling_cache_needs_a_window():
    """And causal attention: nothing else forgets."""
    for options in ({"is_causal": True}, {"window": 3}):
        with pytest.raises(gn.ContractError) as caught:
            attention(**options).init_cache(1)
        assert str(caught.value) == (
            "MultiHeadAttention: expected a length of the cache, as only causal attention with a window forgets; found "
            "none"
        )


def test_a_mask_is_refused_by_a_rolling_cache():
    """Before anything is written."""
    layer = attention(is_causal=True, window=3)
    cache = layer.init_cache(1)
    with pytest.raises(gn.ContractError) as caught:
        layer(numbers(1, 1, 8), mask=jnp.ones((1, 1, 1, 3), bool))
    assert str(caught.value) == (
        "MultiHeadAttention: mask: expected none with a RollingCache, whose entries change their places; found bool of "
        "shape (1, 1, 1, 3)"
    )
    assert int(cache.position.value) == 0


def test_positions_of_cached_keys_are_not_known():
    """So a bias of the distance cannot go by positions of the caller."""
    layer = attention(is_causal=True, score_bias=nn.ALiBi(2))
    layer.init_cache(1, 3)
    with pytest.raises(gn.ContractError) as caught:
        layer(numbers(1, 1, 8), positions=jnp.zeros(1, jnp.int32))
    assert str(caught.value) == (
        "MultiHeadAttention: expected no positions with a cache in attention with a score_bias, as the cache does not "
        "keep them; found (1,)"
    )


# Contexts


@pytest.mark.slow  # compiles attention to contexts of several lengths
def test_contexts_of_several_lengths_are_kept():
    """A call with a context keeps them, one without attends to them: the same numbers, and no map of the context."""
    layer, x = attention(context_size=5), numbers(2, 3, 8)
    context, other = numbers(2, 4, 5, seed=1), numbers(2, 2, 5, seed=2)
    expected, of_other = step(layer, x, context), step(layer, x, other)
    ragged = step(layer, x, context, lengths_of(4, 1))
    layer.init_context_cache(2, 6)
    for given, wanted, lengths in ((context, expected, None), (other, of_other, None), (context, ragged, (4, 1))):
        close(step(layer, x, given, None if lengths is None else lengths_of(*lengths)), wanted)
        close(step(layer, x), wanted)
    jaxpr = gn.make_jaxpr(lambda layer, x: layer(x))(layer, x)
    assert str(jaxpr).count("dot_general") == 4  # queries, scores, values, output: two less


def test_a_context_that_is_not_there_yet_is_told():
    """Eagerly by an error; compiled, all is NaN; after a reset again."""
    layer, x = attention(), numbers(1, 1, 8)
    cache = layer.init_context_cache(1, 2)
    text = (
        "MultiHeadAttention.context_cache (ContextCache): expected keys and values of a context; found none yet. Call "
        "the layer with the context once, or write them"
    )
    for _ in range(2):
        with pytest.raises(gn.ContractError) as caught:
            layer(x)
        assert str(caught.value) == text
        assert bool(jnp.isnan(step(layer, x)).all())
        step(layer, x, x)
        assert not bool(jnp.isnan(step(layer, x)).any())
        cache.reset()


@pytest.mark.slow  # runs a scan that is not compiled
def test_stacked_layers_keep_contexts_of_several_lengths():
    """Not compiled, too: what they write in a scan is not known while it is traced."""
    x, context, lengths = numbers(2, 1, 8), numbers(2, 3, 8, seed=1), lengths_of(3, 1)
    blocks = [gn.nn.TransformerBlock(8, 2, cross_attention=attention()) for _ in range(2)]
    stack = gn.nn.TransformerStack([*blocks], scan=True)
    expected = stack(x, context, context_lengths=lengths)
    stack.init_context_cache(2, 4)
    close(stack(x, context, context_lengths=lengths), expected)
    close(stack(x), expected)


CONTEXTS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "a longer one": (
        ((1, 1, 8), (1, 3, 8)),
        {},
        ".context_cache (ContextCache): expected at most 2 elements, its length; found 3",
    ),
    "another batch": (((2, 1, 8), (2, 2, 8)), {}, ": x: expected the batch (1,) of its cache; found (2,)"),
    "lengths alone": (
        ((1, 1, 8),),
        {"lengths": lengths_of(1)},
        ": lengths: expected none without a context, as the cache keeps them; found (1,)",
    ),
}


@pytest.mark.parametrize(("shapes", "options", "text"), CONTEXTS.values(), ids=CONTEXTS)
def test_a_context_that_does_not_fit_is_refused(shapes: Any, options: dict[str, Any], text: str):
    """By its cache, of which nothing is written."""
    layer = attention()
    cache = layer.init_context_cache(1, 2)
    with pytest.raises(gn.ContractError) as caught:
        layer(*map(jnp.ones, shapes), **options)
    assert str(caught.value) == f"MultiHeadAttention{text}"
    assert cache.lengths.value.tolist() == [-1]


def test_causal_attention_keeps_no_context():
    """As it takes none."""
    with pytest.raises(gn.ContractError) as caught:
        attention(is_causal=True).init_context_cache(1, 2)
    assert str(caught.value) == (
        "MultiHeadAttention: expected no cache of a context in attention which is causal or has rotary positions; "
        "found init_context_cache"
    )
    layer = attention()
    layer.init_context_cache(1, 2)
    layer.init_cache(1, 2)
    with pytest.raises(gn.ContractError) as caught:
        layer(numbers(1, 1, 8))
    assert str(caught.value) == (
        "MultiHeadAttention: expected no cache of a context in attention which has a cache; found one"
    )


def test_heads_of_values_have_their_size_in_caches():
    """In each of the three."""
    layer = attention(value_head_size=3, window=2, is_causal=True)
    free = attention(value_head_size=3)
    for cache in (layer.init_cache(1, 2), layer.init_cache(1), free.init_context_cache(1, 2)):
        assert (cache.keys.value.shape, cache.values.value.shape) == ((1, 2, 2, 4), (1, 2, 2, 3))


# Loops that would overflow


def decode(layer: nn.MultiHeadAttention, x: jax.Array) -> tuple[nn.MultiHeadAttention, jax.Array]:
    return layer, layer(x)


def counted(layer: nn.MultiHeadAttention, x: jax.Array) -> None:
    def body(_: Any, layer: nn.MultiHeadAttention) -> nn.MultiHeadAttention:
        return decode(layer, x)[0]

    gn.fori_loop(0, 4, body, layer)


LOOPS: dict[str, Any] = {
    "scan": lambda layer, x: gn.scan(decode, layer, jnp.stack([x] * 4))[1],
    "scan of a length": lambda layer, x: gn.scan(lambda layer, _: decode(layer, x), layer, length=4)[1],
    "fori_loop": counted,
}


@pytest.mark.parametrize("is_compiled", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["compiled", "eager"])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_loop_that_must_overflow_is_refused_while_it_is_traced(loop: Any, is_compiled: bool):
    """Of more tokens than an empty cache has room for; nothing is written, and a longer cache is taken."""
    layer, x = attention(is_causal=True), numbers(1, 1, 8)
    cache = layer.init_cache(1, 3)
    with pytest.raises(gn.ContractError) as caught:
        (gn.jit(loop) if is_compiled else loop)(layer, x)
    assert str(caught.value).endswith(
        "layer.cache.position: expected at most 3, for which there is room; found 4 rounds that add 1 each"
    )
    assert int(cache.position.value) == 0
    layer.init_cache(1, 4)
    gn.eval_shape(loop, layer, x)


def test_calls_of_one_trace_are_added_up():
    """Without a loop of JAX, the calls of one compiled function must fit together."""
    layer, x = attention(is_causal=True), numbers(1, 2, 8)
    layer.init_cache(1, 3)
    with pytest.raises(gn.ContractError) as caught:
        gn.eval_shape(lambda layer, x: [layer(x), layer(x)], layer, x)
    assert str(caught.value).endswith("expected at most 3 tokens, its length; found 4 tokens")


def test_a_loop_over_layers_or_with_a_reset_is_taken():
    """A cache of its own in each round, or one that is emptied, does not overflow."""
    layer, x = attention(is_causal=True), numbers(1, 1, 8)
    layer.init_cache(1, 1)
    layers = gn.stack([layer, gn.clone(layer)])
    gn.eval_shape(lambda layers, x: gn.scan(lambda x, layer: (layer(x), None), x, layers)[0], layers, x)

    def renewed(layer: nn.MultiHeadAttention, x: jax.Array) -> tuple[nn.MultiHeadAttention, jax.Array]:
        assert layer.cache is not None
        layer.cache.reset()
        return layer, layer(x)

    gn.eval_shape(lambda layer, x: gn.scan(renewed, layer, jnp.stack([x] * 4))[1], layer, x)


def test_lengths_beyond_the_sequence_are_all_of_it():
    """With a cache as without: what was never written is not attended to."""
    x, context, lengths = numbers(2, 6, 8), numbers(2, 5, 8), jnp.array([3, 7])
    cross = nn.MultiHeadAttention(8, 2)
    expected = cross(x, context, lengths=lengths)
    cross.init_context_cache(2, 10)
    np.testing.assert_allclose(cross(x, context, lengths=lengths), expected, atol=1e-5)
    for window, room in ((None, 20), (4, None)):
        layer = nn.MultiHeadAttention(8, 2, is_causal=True, window=window)
        expected = layer(x)
        cache = layer.init_cache(2, room, ragged=True)
        layer(x[:, :4], lengths=jnp.array([4, 9]))
        np.testing.assert_array_equal(cache.position.value, [4, 4])
        np.testing.assert_allclose(layer(x[:, 4:]), expected[:, 4:], atol=1e-5)
