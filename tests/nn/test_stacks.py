"""Stacks of transformer blocks: in a loop and in a scan, with caches, and an encoder before a decoder."""

import functools
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.peers import drawn, numbers, permissive
from tests.nn.test_jaxprs import primitives

WIDTH = 4


def block(**options: Any) -> nn.TransformerBlock:
    options = {"is_causal": True, "rotary_base": 100.0, "hidden_size": 6, "w_init": drawn, **options}
    return nn.TransformerBlock(WIDTH, 2, **options)


def across(**options: Any) -> nn.TransformerBlock:
    return block(cross_attention=nn.MultiHeadAttention(WIDTH, 2, w_init=drawn), **options)


def stack(count: int = 3, make: Callable[[], nn.Block] = block, **options: Any) -> nn.TransformerStack:
    """With the same parameters, however it runs."""
    with gn.random.scope(jax.random.key(0)):
        return nn.TransformerStack([make() for _ in range(count)], norm=nn.RMSNorm(WIDTH), **options)


def pattern() -> nn.TransformerStack:
    """Two kinds of attention, one after the other."""
    local = nn.MultiHeadAttention(WIDTH, 2, is_causal=True, window=2, w_init=drawn)
    return nn.TransformerStack([nn.TransformerBlock(WIDTH, attention=local, w_init=drawn), block()])


@gn.jit
def call(model: nn.TransformerStack, *inputs: jax.Array) -> jax.Array:
    return model(*inputs)


@gn.jit
def gradients(model: nn.TransformerStack, *inputs: jax.Array) -> Any:
    return gn.grad(lambda model: jnp.sum(model(*inputs) ** 2))(model)


KINDS: dict[str, tuple[Callable[[], nn.Block], tuple[tuple[int, ...], ...]]] = {
    "decoder": (block, ((2, 5, WIDTH),)),
    "behind an encoder": (across, ((2, 5, WIDTH), (2, 3, WIDTH))),
    "a pattern": (pattern, ((2, 5, WIDTH),)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_computes_what_a_loop_does(kind: str):
    """Results and gradients; those of the scan are computed again."""
    make, shapes = KINDS[kind]
    inputs = [numbers(*shape) for shape in shapes]
    looped, scanned = stack(2, make), stack(2, make, scan=True, remat=True)
    np.testing.assert_allclose(call(scanned, *inputs), call(looped, *inputs), atol=1e-6)
    found, expected = gradients(scanned, *inputs), gradients(looped, *inputs)
    blocks = [jax.tree.leaves(expected["blocks"][at]) for at in range(2)]
    for leaf, *of_blocks in zip(jax.tree.leaves(found["blocks"]), *blocks, strict=True):
        np.testing.assert_allclose(leaf, np.stack(of_blocks), atol=1e-5)
    np.testing.assert_allclose(found["norm", "scale"].value, expected["norm", "scale"].value, atol=1e-5)


def test_a_scan_has_one_block_however_many_there_are():
    """A loop has as many as there are."""
    x = jax.ShapeDtypeStruct((2, 5, WIDTH), jnp.float32)

    def products(model: nn.TransformerStack) -> int:
        jaxpr = gn.make_jaxpr(lambda model, x: model(x))(model, x).jaxpr
        return list(primitives(jaxpr)).count("dot_general")

    one, three = products(gn.eval_shape(functools.partial(stack, 1))), products(gn.eval_shape(stack))
    assert three == 3 * one
    assert products(gn.eval_shape(functools.partial(stack, scan=True))) == one


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True], ids=["loop", "scan"])
@pytest.mark.parametrize(("make", "shapes"), KINDS.values(), ids=KINDS)
def test_a_text_that_is_continued_is_the_whole_text(make: Callable[[], nn.Block], shapes: Any, scan: bool):
    """With the caches that a stack gives its blocks; a context is read once."""
    x, *context = (numbers(*shape) for shape in shapes)
    model = stack(2, make, scan=scan)
    expected = call(model, x, *context)
    decoder = gn.view(model)
    decoder.init_cache(2, 6)
    if context:
        decoder.init_context_cache(2, 3)
    steps = [call(decoder, x[:, :2], *context), *[call(decoder, x[:, at : at + 1]) for at in range(2, 5)]]
    np.testing.assert_allclose(np.concatenate(steps, 1), expected, atol=1e-5)
    assert not gn.nodes(model, nn.KeyValueCache)


@pytest.mark.slow
def test_stacked_caches_are_those_of_each_block():
    """One more axis, of the role of the layers, and room for each text."""
    model = stack(scan=True)
    model.init_cache(2, 6, ragged=True)
    ((_, cache),) = gn.nodes(model, nn.KeyValueCache).items()
    assert cache.keys.value.shape == (3, 2, 6, 2, 2)
    assert cache.position.value.shape == (3, 2)
    lengths = jnp.array([1, 3])
    call = gn.jit(lambda model, x, lengths: model(x, lengths=lengths))
    call(model, numbers(2, 3, WIDTH), lengths)
    np.testing.assert_array_equal(cache.position.value, [[1, 3]] * 3)


@pytest.mark.slow
def test_blocks_of_a_scan_draw_numbers_of_their_own():
    """From the stream that they shared, and from that of a call, which goes on from block to block."""
    dropout = nn.Dropout(0.5, rngs=gn.Rngs(0))
    model = stack(make=lambda: block(dropout=dropout), scan=True)
    x = numbers(1, 5, WIDTH)
    assert not np.allclose(model(x), model(x))
    assert isinstance(model.blocks, nn.TransformerBlock)
    assert isinstance(model.blocks.dropout.rngs, gn.Rngs)
    keys = model.blocks.dropout.rngs.streams["default"].key.value
    assert len({str(jax.random.key_data(key)) for key in keys}) == 3
    rngs = gn.Rngs(1)
    first = model(x, rngs=rngs)
    assert int(rngs.streams["default"].count.value) == 6
    np.testing.assert_array_equal(first, model(x, rngs=gn.Rngs(1)))


@pytest.mark.slow
def test_a_scan_of_half_precision_carries_what_a_block_gives():
    """Parameters in float32 make float32 of it, as in a loop."""
    x = numbers(1, 5, WIDTH).astype(jnp.bfloat16)
    with permissive():
        assert call(stack(scan=True), x).dtype == call(stack(), x).dtype == jnp.float32
    half = functools.partial(block, dtype=jnp.bfloat16)
    for scan in (False, True):
        model = nn.TransformerStack([half(), half()], scan=scan)
        assert call(model, numbers(1, 5, WIDTH)).dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True], ids=["loop", "scan"])
def test_a_block_gives_its_dtype_whatever_its_parts_compute_in(scan: bool):
    """Attention that was made without a dtype, in blocks that have one."""

    def half() -> nn.TransformerBlock:
        attention = nn.MultiHeadAttention(WIDTH, 2, w_init=drawn)
        return nn.TransformerBlock(WIDTH, attention=attention, dtype=jnp.bfloat16)

    with permissive():
        model = nn.TransformerStack([half(), half()], scan=scan)
        assert call(model, numbers(1, 5, WIDTH)).dtype == jnp.bfloat16


@pytest.mark.slow
def test_a_stack_goes_through_pickles_views_and_checkpoints(tmp_path: Any):
    """Also a scanned one, whose blocks are one node."""
    model = stack(scan=True)
    x = numbers(1, 5, WIDTH)
    expected = call(model, x)
    np.testing.assert_array_equal(call(pickle.loads(pickle.dumps(model)), x), expected)
    gn.checkpoint.save(tmp_path / "model", model)
    np.testing.assert_array_equal(call(gn.checkpoint.load(tmp_path / "model", nn.TransformerStack), x), expected)


@pytest.mark.slow
def test_an_encoder_is_read_once_while_its_target_is_decoded():
    """Sources of two lengths; what is behind the end of one is not attended to."""
    with gn.random.scope(jax.random.key(0)):
        encoder = nn.TransformerStack([block(is_causal=False, rotary_base=None)])
        model = nn.EncoderDecoder(encoder, nn.TransformerStack([across(), across()], scan=True))
    source, target, lengths = numbers(2, 4, WIDTH), numbers(2, 3, WIDTH), jnp.array([4, 2])
    whole = model(source, target, source_lengths=lengths)
    for row, length in enumerate(lengths):
        alone = model(source[row, :length], target[row])
        np.testing.assert_allclose(whole[row], alone, atol=1e-5)
    decoder = gn.view(model)
    decoder.init_cache(2, 3, 4)
    steps = [decoder.decode(target[:, :1], decoder.encode(source, lengths=lengths), source_lengths=lengths)]
    steps += [decoder.decode(target[:, at : at + 1]) for at in (1, 2)]
    np.testing.assert_allclose(np.concatenate(steps, 1), whole, atol=1e-5)


def shared_bias() -> nn.TransformerStack:
    bias = nn.RelativePositionBias(2)
    make = lambda: nn.TransformerBlock(WIDTH, attention=nn.MultiHeadAttention(WIDTH, 2, score_bias=bias))  # noqa: E731
    return nn.TransformerStack([make(), make()], scan=True)


def stack_of_one_block() -> nn.TransformerStack:
    """At two places, as ALBERT's."""
    shared = block()
    return nn.TransformerStack([shared, shared])


class Mean(nn.Attention):
    """The mean of all elements."""

    def __call__(self, x: jax.Array, context: jax.Array | None = None, **options: Any) -> jax.Array:
        return jnp.broadcast_to((x if context is None else context).mean(-2, keepdims=True), x.shape)


class Recurrent(nn.Block):
    """A block without attention."""

    mixer: nn.LRU

    def __call__(self, x: jax.Array, context: jax.Array | None = None, **options: Any) -> jax.Array:
        return x + self.mixer(x)


X = jax.ShapeDtypeStruct((1, 3, WIDTH), jnp.float32)


def shape_of(model: nn.Block, *inputs: Any, **options: Any) -> Any:
    """Of what a call gives, without computing it."""

    def call(*inputs: Any) -> jax.Array:
        return model(*inputs, **options)

    return gn.eval_shape(call, *inputs).shape


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no heads": (
        lambda: nn.TransformerBlock(4),
        "TransformerBlock.num_heads: expected a number of heads, as no attention is given; found None",
    ),
    "a position of norms": (
        lambda: block(norm_position="between"),
        "TransformerBlock.norm_position: expected 'before' or 'after' or 'output' or 'both'; found 'between'",
    ),
    "parallel, norms after": (
        lambda: block(parallel=True, norm_position="after"),
        "TransformerBlock.parallel: expected False with norm_position='after', which normalises after each part; "
        "found True",
    ),
    "parallel, norms after, by a view": (
        lambda: shape_of(gn.view(block(norm_position="after"), parallel=True), X),
        "TransformerBlock.parallel: expected False with norm_position='after', which normalises after each part; "
        "found True",
    ),
    "a position of norms, by a view": (
        lambda: shape_of(gn.view(block(), norm_position="post"), X),
        "TransformerBlock.norm_position: expected 'before' or 'after' or 'output' or 'both'; found 'post'",
    ),
    "the activation of a perceptron that is given": (
        lambda: block(act=jax.nn.gelu, mlp=nn.GatedMLP(WIDTH, 6)),
        "TransformerBlock.act: expected none, as mlp is given, which says that itself; found 'gelu'",
    ),
    "a cache for several places": (
        lambda: stack_of_one_block().init_cache(1, 3),
        "TransformerStack.init_cache: expected blocks with attention of their own, as one cache would get what is at "
        "several places; found blocks.0.attention and blocks.1.attention, which are one",
    ),
    "other heads": (
        lambda: nn.TransformerBlock(WIDTH, 4, attention=nn.MultiHeadAttention(WIDTH, 2)),
        "TransformerBlock.num_heads: expected 2, as attention has; found 4",
    ),
    "heads of what has none": (
        lambda: nn.TransformerBlock(WIDTH, 4, attention=Mean()),
        "TransformerBlock.num_heads: expected None, as attention has none; found 4",
    ),
    "an option of attention that is given": (
        lambda: nn.TransformerBlock(WIDTH, attention=Mean(), is_causal=True),
        "TransformerBlock.is_causal: expected none, as attention is given, which says that itself; found True",
    ),
    "another size in the middle": (
        lambda: block(mlp=nn.GatedMLP(WIDTH, 8)),
        "TransformerBlock.hidden_size: expected 8, as mlp has; found 6",
    ),
    "a norm that is not called": (
        lambda: block(mlp_out_norm=nn.RMSNorm(WIDTH)),
        "TransformerBlock.mlp_out_norm: expected None, as norm_position='before' has one norm for each part; found an "
        "RMSNorm",
    ),
    "a norm of no part": (
        lambda: block(cross_attention_norm=nn.RMSNorm(WIDTH)),
        "TransformerBlock.cross_attention_norm: expected None, as there is no cross_attention; found an RMSNorm",
    ),
    "a context": (
        lambda: shape_of(block(), X, X),
        "TransformerBlock: context: expected None, as there is no cross_attention; found an array of shape (1, 3, 4)",
    ),
    "lengths of a context": (
        lambda: shape_of(block(), X, context_lengths=jnp.array([1])),
        "TransformerBlock: context_lengths: expected None, as there is no cross_attention; found an array of shape "
        "(1,)",
    ),
    "no context": (
        lambda: shape_of(stack(1, across), X),
        "TransformerStack.blocks.0 (TransformerBlock): context: expected an array, as the cross_attention keeps none "
        "in a cache; found None",
    ),
    "a cache of no context": (
        lambda: stack(1).init_context_cache(1, 3),
        "TransformerStack.blocks.0 (TransformerBlock): expected a cross_attention, which a cache of a context is for; "
        "found None",
    ),
    "attention without a cache": (
        lambda: nn.TransformerBlock(WIDTH, attention=Mean()).init_cache(1, 3),
        "TransformerBlock.attention (Mean) has no cache: its class has no init_cache",
    ),
    "attention without a cache of a context": (
        lambda: nn.TransformerBlock(WIDTH, 2, cross_attention=Mean()).init_context_cache(1, 3),
        "TransformerBlock.cross_attention (Mean) has no cache of a context: its class has no init_context_cache",
    ),
    "a block without a cache": (
        lambda: nn.TransformerStack([Recurrent(nn.LRU(WIDTH, 2))]).init_cache(1, 3),
        "TransformerStack.blocks.0 (Recurrent) has no cache: its class has no init_cache",
    ),
    "a block without a cache of a context": (
        lambda: nn.TransformerStack([Recurrent(nn.LRU(WIDTH, 2))]).init_context_cache(1, 3),
        "TransformerStack.blocks.0 (Recurrent) has no cache of a context: its class has no init_context_cache",
    ),
    "no blocks": (
        lambda: nn.TransformerStack([]),
        "TransformerStack.blocks: expected a list of at least one block; found none",
    ),
    "one block": (
        lambda: nn.TransformerStack(block()),
        "TransformerStack.blocks: expected a list of at least one block; found a TransformerBlock",
    ),
    "what would be tied no more": (
        shared_bias,
        "TransformerStack.scan: expected blocks that share no States, as each gets a copy of its own in a stack; found "
        "blocks.0.attention.score_bias.weight and blocks.1.attention.score_bias.weight",
    ),
}


@pytest.mark.parametrize(("refused", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(refused: Callable[[], object], text: str):
    """Before anything is computed."""
    with pytest.raises(gn.ContractError) as caught:
        refused()
    assert str(caught.value) == text


def test_blocks_may_be_of_any_class():
    """Attention, perceptron and block that a user declares."""
    parts = nn.TransformerBlock(WIDTH, attention=Mean(), mlp=nn.MixtureOfExperts(WIDTH, 6, 3))
    model = nn.TransformerStack([parts, Recurrent(nn.LRU(WIDTH, 2))])
    assert shape_of(model, X) == X.shape
    assert not model.is_scanned
    assert model.num_layers == 2
