"""Writing with a language model: how a token is drawn, and the loop around the model."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.devices import run_with_devices

VOCABULARY = 7
# The shapes of tokens that models were traced with.
TRACES: list[tuple[int, ...]] = []


def numbers() -> Any:
    """An initialiser of other numbers each time, so that texts do not repeat one token."""
    calls = itertools.count()

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        del key
        return jnp.asarray(np.random.default_rng([10, next(calls)]).normal(0, 1.5, shape).astype(dtype))

    return init


class Block(nn.Layer):
    """Attention and a perceptron, which need no more than the lengths."""

    attention: nn.MultiHeadAttention
    mlp: nn.MLP

    def __call__(self, x: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        x = x + self.attention(x, lengths=lengths)
        return x + self.mlp(x)


def make_block(init: Any) -> Block:
    attention = nn.MultiHeadAttention(4, 2, is_causal=True, rotary_base=50.0, w_init=init, b_init=init)
    return Block(attention, nn.MLP(4, 8, 4, w_init=init))


class Writer(nn.Module):
    """A decoder-only transformer, by hand."""

    embed: nn.Embedding
    blocks: list[Block]
    dropout: nn.Dropout
    reads: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(0)))
    """How often it was called, which is not to be seen outside."""

    def init_cache(self, batch_size: int, length: int, dtype: Any = None, *, ragged: bool = False) -> None:
        for block in self.blocks:
            block.attention.init_cache(batch_size, length, dtype, ragged=ragged)

    def __call__(self, tokens: jax.Array, *, lengths: jax.Array | None = None) -> jax.Array:
        TRACES.append(tokens.shape)
        self.reads.value += 1
        x = self.dropout(self.embed(tokens))
        for block in self.blocks:
            x = block(x, lengths)
        return self.embed.attend(x)


def make_writer() -> Writer:
    init = numbers()
    embed = nn.Embedding(VOCABULARY, 4, w_init=init)
    return Writer(embed, [make_block(init)], nn.Dropout(0.5, rngs=gn.Rngs(0)))


class Bigrams(nn.Module):
    """From each token to the logits of the next, by a table: it needs no cache."""

    table: nn.Embedding

    def init_cache(self, batch_size: int, length: int, dtype: Any = None, *, ragged: bool = False) -> None:
        pass

    def __call__(self, tokens: jax.Array, *, lengths: jax.Array | None = None) -> jax.Array:
        return self.table(tokens)


# To each token, the next one is the most probable.
BIGRAMS = Bigrams(nn.Embedding(5, 5, w_init=lambda *_: 4 * jnp.roll(jnp.eye(5), 1, axis=1)))
PROMPT = jnp.array([[1, 2, 3], [4, 5, 6]])
LENGTHS = jnp.array([2, 3])
KEY = jax.random.key(0)


def evaluated(writer: Writer) -> Writer:
    return gn.view(writer, deterministic=True)


@gn.jit
def read(model: Any, tokens: jax.Array) -> jax.Array:
    """All logits, without caches."""
    return model(tokens)  # type: ignore[no-any-return]  # a Decoder


def growing(
    model: Any, prompt: Any, lengths: Any, count: int, choose: Any = lambda row, at, logits: logits.argmax()
) -> Any:
    """Texts that a model writes without caches: in a causal model, what is behind the end changes nothing."""
    rows = np.arange(len(prompt))
    tokens = np.pad(np.asarray(prompt), [(0, 0), (0, count)])
    ends = np.array(lengths)
    for at in range(count):
        logits = np.asarray(read(model, jnp.asarray(tokens)))[rows, ends - 1]
        tokens[rows, ends] = [int(choose(row, at, logits[row])) for row in rows]
        ends += 1
    return [tokens[row, end - count : end].tolist() for row, end in enumerate(ends)]


def wrong(options: dict[str, Any], message: str) -> Any:
    """A case of what no type checker accepts."""
    return pytest.param(options, message, marks=pytest.mark.wrong_types)


# Drawing


# Of four tokens: 0.5, 0.3, 0.15 and 0.05.
LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


@functools.partial(gn.jit, static_argnames="top_k")
def many(logits: Any, temperature: Any, top_k: int | None, top_p: Any) -> jax.Array:
    """How often each token is drawn, in a thousand times."""
    rows = jnp.broadcast_to(jnp.asarray(logits), (1000, 4))
    tokens = nn.sample(rows, KEY, temperature=temperature, top_k=top_k, top_p=top_p)
    return jnp.bincount(tokens, length=4)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "tokens"),
    [
        pytest.param(1.0, 4, 0.5, [0], id="reached by one"),
        pytest.param(1.0, 4, 0.51, [0, 1], id="reached by two"),
        pytest.param(1.0, 4, 0.81, [0, 1, 2], id="reached by three"),
        pytest.param(1.0, 4, 1.0, [0, 1, 2, 3], id="all"),
        pytest.param(0.5, 4, 0.6, [0], id="temperature first: 0.68, 0.25, ..."),
        pytest.param(1.0, 4, 1e-6, [0], id="the first stays"),
        pytest.param(1.0, 2, 0.6, [0], id="top_k first: 0.625, 0.375", marks=pytest.mark.slow),
        pytest.param(1.0, 9, 0.81, [0, 1, 2], id="more than there are", marks=pytest.mark.slow),
        pytest.param(1.0, 2, None, [0, 1], id="two", marks=pytest.mark.slow),
        pytest.param(1.0, None, 0.51, [0, 1], id="without top_k", marks=pytest.mark.slow),
        pytest.param(0.0, None, None, [0], id="greedy", marks=pytest.mark.slow),
    ],
)
def test_drawn_are_the_tokens_that_stay(temperature: float, top_k: int | None, top_p: float | None, tokens: list[int]):
    """And all of them, in whatever order the logits stand; compiled once for all numbers."""
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        counts = np.asarray(many(LOGITS[order], temperature, top_k, top_p))
        assert sorted(order[at] for at in counts.nonzero()[0]) == tokens


@pytest.mark.slow
def test_tokens_are_drawn_by_their_probabilities():
    """Those of the softmax, also of what is left: in a thousand draws, to 0.05."""
    for options, expected in (
        ((1.0, None, None), [0.5, 0.3, 0.15, 0.05]),
        ((1.0, 4, 0.9), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        ((1.0, 2, None), [0.625, 0.375, 0, 0]),
        ((0.5, None, None), [0.685, 0.247, 0.062, 0.007]),
    ):
        np.testing.assert_allclose(np.asarray(many(LOGITS, *options)) / 1000, expected, atol=0.05)


@pytest.mark.slow
def test_of_equal_tokens_the_first_stay():
    """As many as asked for, and not all that are as probable as the last one."""
    for top_k, top_p, tokens in ((1, None, [0]), (2, None, [0, 1]), (4, 0.5, [0, 1])):
        assert np.asarray(many(np.zeros(4, np.float32), 1.0, top_k, top_p)).nonzero()[0].tolist() == tokens


def test_a_temperature_may_be_traced_and_differ_by_row():
    """Where it is 0, the most probable token is taken; a very small one does not overflow."""
    rows = jnp.asarray([[0, 0, 0, 1e-3], [6e3, 7e3, 8e3, 9e3], [0, 1, 2, 3]], jnp.float32)
    assert nn.sample(rows, temperature=0.0).tolist() == [3, 3, 3]
    draw = gn.jit(lambda temperature: nn.sample(rows, KEY, temperature=temperature))
    cold, warm = draw(jnp.array([0.0, 1e-36, 1e6])), draw(jnp.array([1e6, 1e6, 0.0]))
    assert (cold.dtype, cold.tolist()[:2], warm.tolist()[2]) == (jnp.int32, [3, 3], 3)
    # With this key, where all tokens are alike, others are drawn.
    assert 3 not in (int(warm[0]), int(cold[2]))


@pytest.mark.slow
def test_half_precision_is_drawn_in_float32():
    """Sums of probabilities lose nothing: of 1000 equal tokens, 500 reach one half."""
    tokens = nn.sample(jnp.zeros((500, 1000), jnp.bfloat16), KEY, top_p=0.5)
    assert 450 <= int(tokens.max()) <= 500


@pytest.mark.slow
def test_what_must_not_be_drawn_is_not():
    """Tokens at minus infinity, also where `top_k` or `top_p` would admit more."""
    logits = np.where(np.arange(4) < 2, -np.inf, LOGITS)
    for options in ((1.0, None, None), (2.0, 4, 1.0)):
        assert np.asarray(many(logits, *options)).nonzero()[0].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"key": None},
            "key: expected one to draw tokens with, such as jax.random.key(0), or temperature=0.0 for the most "
            "probable token; found None",
        ),
        ({"temperature": -1.0}, "temperature: expected a finite number of at least 0; found -1.0"),
        ({"temperature": np.inf}, "temperature: expected a finite number of at least 0; found inf"),
        (
            {"temperature": jnp.array([1.0, np.nan])},
            "temperature: expected a finite number of at least 0; found [1.0, nan]",
        ),
        (
            {"temperature": jnp.ones(3)},
            "temperature: expected a finite number of at least 0, or an array of shape (2,); found an array float32[3]",
        ),
        wrong(
            {"temperature": "hot"},
            "temperature: expected a finite number of at least 0, or an array of shape (2,); found str 'hot'"),
        ({"top_k": 0}, "top_k: expected a positive integer; found 0"),
        wrong({"top_k": 2.5}, "top_k: expected a positive integer; found 2.5"),
        ({"top_p": 0.0}, "top_p: expected a number above 0 and at most 1; found 0.0"),
        ({"top_p": 1.5}, "top_p: expected a number above 0 and at most 1; found 1.5"),
        wrong(
            {"logits": jnp.ones((2, 4), jnp.int32)},
            'logits: expected dtype Float of Float[Array, "*batch vocabulary"], found int32'),
        wrong(
            {"logits": jnp.ones(())},
            'logits: expected rank at least 1 of Float[Array, "*batch vocabulary"], found shape ()'),
        ({"logits": jnp.ones((2, 0))}, "logits: expected logits of at least one token; found an array float32[2,0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_with_is_refused(options: dict[str, Any], message: str):
    """With the parameter, what it takes and what was found."""
    arguments: dict[str, Any] = {"logits": jnp.ones((2, 4)), "key": KEY, **options}
    with pytest.raises(gn.ContractError) as caught:
        nn.sample(**arguments)
    assert str(caught.value) == f"gn.nn.sample: {message}"


# Whole texts


def test_texts_end_behind_their_stop_tokens():
    """Then comes padding; all values go through one trace, and nothing is left in the model."""
    writer = make_writer()
    before, graphdef = gn.treefy_states(writer), gn.graphdef(writer)
    whole = [[4, 0, 1, 1, 4, 0], [5, 1, 1, 0, 1, 5]]
    del TRACES[:]
    for stop, counts in ((9, (6, 6)), (0, (2, 4)), (5, (6, 1)), (1, (3, 2))):
        texts = nn.generate(writer, PROMPT, 6, lengths=LENGTHS, stop_tokens=(stop,), pad_token=-1)
        assert texts.lengths.tolist() == list(counts)
        assert texts.tokens.tolist() == [
            [*row[:length], *[-1] * (6 - length)] for row, length in zip(whole, counts, strict=True)
        ]
    assert TRACES == [(2, 3), (2, 1)]
    assert gn.graphdef(writer) is graphdef
    after = gn.treefy_states(writer)
    assert all(one is other for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["one length", "several"])
def test_texts_are_those_of_the_model_without_caches(lengths: jax.Array | None):
    """With caches that have one position for all prompts, or one for each; also by a view."""
    writer = evaluated(make_writer())
    found = nn.generate(writer, PROMPT, 6, lengths=lengths)
    assert found.tokens.tolist() == growing(writer, PROMPT, [3, 3] if lengths is None else lengths, 6)
    assert (found.tokens.dtype, found.lengths.dtype) == (jnp.int32, jnp.int32)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5])
def test_a_text_is_drawn_with_a_key_of_its_own(count: int):
    """Text `n` with the key folded with `n`, its token `m` with that folded with `m`; alone as beside others."""
    writer = make_writer()

    @jax.jit
    def choose(row: int, at: int, logits: Any) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(KEY, row), at)
        return nn.sample(logits, key, temperature=100.0, top_k=5, top_p=0.9)

    expected = growing(evaluated(writer), PROMPT, LENGTHS, count, choose)
    options: dict[str, Any] = {"temperature": 100.0, "top_k": 5, "top_p": 0.9}
    found = nn.generate(writer, PROMPT, count, key=KEY, lengths=LENGTHS, **options)
    assert found.tokens.tolist() == expected
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(2))
    for row, length in enumerate(LENGTHS.tolist()):
        alone = nn.generate(writer, PROMPT[row : row + 1, :length], count, key=keys[row : row + 1], **options)
        assert alone.tokens.tolist() == [expected[row]]


@pytest.mark.slow
def test_a_text_goes_on_as_it_began():
    """More tokens at most change none of those before."""
    short, long = (nn.generate(BIGRAMS, PROMPT % 5, count, key=KEY).tokens for count in (3, 6))
    assert long[:, :3].tolist() == short.tolist()


@pytest.mark.slow
def test_other_values_are_not_traced_again():
    """Numbers of sampling, keys, legacy ones too, and models of the same structure."""
    writer = make_writer()
    del TRACES[:]
    texts = []
    for model, key, temperature, top_p, stop in (
        (writer, KEY, 1.0, 0.9, 3),
        (writer, jax.random.PRNGKey(0), 1.0, 0.9, 3),
        (make_writer(), jax.random.key(1), 0.5, 0.5, 1),
    ):
        options: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "stop_tokens": [stop]}
        texts.append(nn.generate(model, PROMPT, 6, key=key, **options).tokens.tolist())
    assert TRACES == [(2, 3), (2, 1)]
    assert texts[0] == texts[1] != texts[2]


class Counted(Bigrams):
    """It tells when it runs."""

    def __call__(self, tokens: jax.Array, *, lengths: jax.Array | None = None) -> jax.Array:
        jax.debug.callback(lambda: RUNS.append(tokens.shape))
        return self.table(tokens)


RUNS: list[tuple[int, ...]] = []


@pytest.mark.slow
def test_the_loop_ends_when_all_texts_have():
    """The model reads the prompts, and then what is written but the last token of the longest text."""
    del RUNS[:]
    prompt = jnp.array([[1], [2]])
    found = nn.generate(Counted(BIGRAMS.table), prompt, 100, stop_tokens=(4,))
    jax.effects_barrier()
    assert found.lengths.tolist() == [3, 2]
    assert RUNS == [(2, 1)] * 3


@pytest.mark.slow
def test_the_temperature_is_1_with_a_key_and_0_without():
    """An array of temperatures is one for each text."""
    prompt = jnp.zeros((50, 1), int)
    greedy = nn.generate(BIGRAMS, prompt, 2).tokens
    assert greedy.tolist() == [[1, 2]] * 50
    assert nn.generate(BIGRAMS, prompt, 2, key=KEY, temperature=0.0).tokens.tolist() == greedy.tolist()
    drawn = nn.generate(BIGRAMS, prompt, 2, key=KEY).tokens
    same = nn.generate(BIGRAMS, prompt, 2, key=KEY, temperature=1.0).tokens
    assert drawn.tolist() == same.tolist() != greedy.tolist()
    mixed = jnp.where(jnp.arange(50) < 25, 0.0, 1.0)
    both = nn.generate(BIGRAMS, prompt, 2, key=KEY, temperature=mixed).tokens
    assert both.tolist() == [*greedy.tolist()[:25], *drawn.tolist()[25:]]


@pytest.mark.slow
def test_inside_of_a_function_it_is_a_part_of_it():
    """Under `gn.jit`, also of a partial; a text whose length is none of a prompt stays empty there."""
    write = gn.jit(lambda model, prompt, lengths: nn.generate(model, prompt, 4, lengths=lengths, stop_tokens=(0,)))
    found = write(BIGRAMS, jnp.array([[1, 2], [1, 2], [1, 2], [1, 2]]), jnp.array([1, 2, 0, 3]))
    assert found.tokens.tolist() == [[2, 3, 4, 0], [3, 4, 0, 0], [0] * 4, [0] * 4]
    assert found.lengths.tolist() == [4, 3, 0, 0]
    partial = gn.jit(functools.partial(nn.generate, max_new_tokens=3, stop_tokens=(4,)))
    assert partial(BIGRAMS, jnp.array([[1, 2]])).tokens.tolist() == [[3, 4, 0]]
    with jax.disable_jit():
        eager = nn.generate(BIGRAMS, jnp.array([[1, 2]]), 3)
    assert eager.tokens.tolist() == [[3, 4, 0]]


def test_nothing_is_written_where_nothing_is_asked_for():
    """No tokens, and no texts: empty results, for which the model is not called."""
    for prompt, count in ((PROMPT, 0), (PROMPT[:0], 4)):
        found = nn.generate(BIGRAMS, prompt, count)
        assert (found.tokens.shape, found.lengths.tolist()) == ((len(prompt), count), [0] * len(prompt))


class NoCache(nn.Module):
    """It has none to give."""

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return tokens


class Pooled(Bigrams):
    """It gives logits of the whole text."""

    def __call__(self, tokens: jax.Array, *, lengths: jax.Array | None = None) -> jax.Array:
        return self.table(tokens).mean(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        wrong(
            {"model": NoCache()},
            "model: expected a node with __call__(tokens) and init_cache(batch_size, length, dtype=None, *, "
            "ragged=False), which gives all its layers caches; found a NoCache",
        ),
        wrong(
            {"prompt": jnp.ones((2, 3))},
            'prompt: expected dtype Integer of Integer[Array, "batch time"], found float32',
        ),
        wrong(
            {"prompt": jnp.ones(3, int)}, 'prompt: expected rank 2 of Integer[Array, "batch time"], found shape (3,)'
        ),
        (
            {"prompt": jnp.ones((2, 0), jnp.int32)},
            "prompt: expected at least one token of each text, such as one for the beginning; found an array "
            "int32[2,0]",
        ),
        ({"max_new_tokens": -1}, "max_new_tokens: expected an integer of at least 0; found -1"),
        ({"lengths": jnp.array([0, 3])}, "lengths: expected 1 to 3 tokens of each prompt; found [0, 3]"),
        ({"lengths": jnp.array([1, 4])}, "lengths: expected 1 to 3 tokens of each prompt; found [1, 4]"),
        wrong({"lengths": jnp.array([1])}, 'lengths: expected batch = 2 of Integer[Array, "batch"], found shape (1,)'),
        (
            {"top_p": 0.9},
            "key: expected one to draw tokens with, such as jax.random.key(0), or temperature=0.0 for the most "
            "probable token; found None",
        ),
        ({"temperature": -1.0}, "temperature: expected a finite number of at least 0; found -1.0"),
        (
            {"key": jax.random.wrap_key_data(jnp.zeros((3, 2), jnp.uint32))},
            "key: expected one key, or one for each of 2 texts, such as jax.random.key(0); found an array key<fry>[3]",
        ),
        wrong({"key": 0}, "key: expected one key, or one for each of 2 texts, such as jax.random.key(0); found int 0"),
        wrong({"stop_tokens": 2}, "stop_tokens: expected a tuple of integers of at least 0; found int 2"),
        wrong({"stop_tokens": (2.5,)}, "stop_tokens: expected a tuple of integers of at least 0; found tuple (2.5,)"),
        ({"pad_token": 2**31}, "pad_token: expected an integer of 32 bits; found int 2147483648"),
        (
            {"inputs": {"lengths": LENGTHS, "context": LENGTHS}},
            "inputs: expected no lengths, which are an argument of their own; found ['context', 'lengths']",
        ),
        (
            {"model": Pooled(BIGRAMS.table)},
            'logits of Pooled: expected rank 3 of Float[Array, "batch time vocabulary"], found shape (2, 5)',
        ),
    ],
)
def test_what_cannot_be_written_with_is_refused(options: dict[str, Any], message: str):
    """Before anything is compiled, but for what only the model's own logits say."""
    arguments: dict[str, Any] = {"model": BIGRAMS, "prompt": PROMPT, "max_new_tokens": 2, **options}
    with pytest.raises(gn.ContractError) as caught:
        nn.generate(**arguments)
    assert str(caught.value) == f"gn.nn.generate: {message}"


def test_a_layer_that_is_called_twice_is_refused():
    """One cache would get the tokens of both calls."""
    block = make_block(numbers())
    writer = Writer(nn.Embedding(VOCABULARY, 4, w_init=numbers()), [block, block], nn.Dropout(0.0))
    with pytest.raises(gn.ContractError) as caught:
        gn.eval_shape(lambda: nn.generate(writer, PROMPT, 9))
    assert str(caught.value) == (
        "gn.nn.generate: model: expected caches to get the 3 tokens of the prompt once; blocks.0.attention.cache got "
        "6. A layer that is called several times for a token, as one that several layers share, needs several caches"
    )


# Other models


class Recurrent(nn.Module):
    """A state-space layer, whose cache has one size."""

    embed: nn.Embedding
    mixer: nn.Mamba2

    def init_cache(self, batch_size: int, length: int, dtype: Any = None, *, ragged: bool = False) -> None:
        self.mixer.init_cache(batch_size, dtype)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.embed.attend(self.mixer(self.embed(tokens)))


@pytest.mark.slow
def test_a_state_space_model_writes():
    """What it carries goes through the loop."""
    init = numbers()
    model = Recurrent(nn.Embedding(VOCABULARY, 4, w_init=init), nn.Mamba2(4, head_size=4, state_size=2, w_init=init))
    found = nn.generate(model, PROMPT, 6)
    assert found.tokens.tolist() == growing(model, PROMPT, [3, 3], 6)
    assert len({*found.tokens.flatten().tolist()}) > 1
    assert model.mixer.cache is None


class Stacked(nn.Module):
    """Blocks that are one node, whose call is a scan."""

    embed: nn.Embedding
    blocks: Block
    count: int

    def init_cache(self, batch_size: int, length: int, dtype: Any = None, *, ragged: bool = False) -> None:
        cache = self.blocks.attention.init_cache(batch_size, length, dtype, ragged=ragged)
        gn.broadcast_states(cache, ..., self.count)

    def __call__(self, tokens: jax.Array, *, lengths: jax.Array | None = None) -> jax.Array:
        x, _ = gn.scan(lambda x, block: (block(x, lengths), None), self.embed(tokens), self.blocks)
        return self.embed.attend(x)


@pytest.mark.slow
def test_stacked_blocks_write_with_stacked_caches():
    """In a scan inside of the loop: the caches have the axis of the layers, too."""
    init = numbers()
    embed, blocks = nn.Embedding(VOCABULARY, 4, w_init=init), [make_block(init) for _ in range(2)]
    one_by_one = Writer(embed, blocks, nn.Dropout(0.0))
    model = Stacked(embed, gn.stack(blocks), 2)
    found = nn.generate(model, PROMPT, 6, lengths=LENGTHS)
    assert found.tokens.tolist() == growing(evaluated(one_by_one), PROMPT, LENGTHS, 6)
    assert len({*found.tokens.flatten().tolist()}) > 1
    assert not gn.nodes(model, nn.KeyValueCache)


class Translator(nn.Module):
    """Attention to a context, which is mapped once."""

    writer: Writer
    cross: nn.MultiHeadAttention

    def init_cache(self, batch_size: int, length: int, dtype: Any = None, *, ragged: bool = False) -> None:
        self.writer.init_cache(batch_size, length, dtype, ragged=ragged)
        self.cross.init_context_cache(batch_size, 8, dtype)

    def __call__(self, tokens: jax.Array, context: jax.Array | None = None) -> jax.Array:
        x = self.writer.embed(tokens)
        x = x + self.cross(x, context)
        for block in self.writer.blocks:
            x = block(x)
        return self.writer.embed.attend(x)


@pytest.mark.slow
def test_a_context_is_given_once():
    """The first call alone has it, and what the caches keep may be of another dtype."""
    init = numbers()
    model = Translator(make_writer(), nn.MultiHeadAttention(4, 2, context_size=3, w_init=init, b_init=init))
    context = 3 * init(KEY, (2, 5, 3), jnp.float32)

    @gn.jit
    def first(model: Translator, tokens: jax.Array) -> jax.Array:
        return model(tokens, context)[:, -1].argmax(-1)

    tokens = PROMPT
    for _ in range(3):
        tokens = jnp.concatenate([tokens, first(model, tokens)[:, None]], 1)
    for dtype in (None, jnp.float16):
        found = nn.generate(model, PROMPT, 3, inputs={"context": context}, cache_dtype=dtype)
        assert found.tokens.tolist() == tokens[:, 3:].tolist()
    other = nn.generate(model, PROMPT, 3, inputs={"context": -context})
    assert other.tokens.tolist() != tokens[:, 3:].tolist()
    assert model.cross.context_cache is None


ON_A_MESH = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
import graphnode as gn
from graphnode import nn
from tests.nn.test_generate import KEY, make_writer

P = jax.P
writer = make_writer()
prompt = jnp.arange(24).reshape(8, 3) % 7
lengths = jnp.arange(8) % 3 + 1
options = {"key": KEY, "top_k": 5, "top_p": 0.9, "stop_tokens": (3,)}
alone = nn.generate(writer, prompt, 5, lengths=lengths, **options)
greedy = nn.generate(writer, prompt, 5)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        model = gn.clone(writer)
        gn.update_states(model, jax.device_put(gn.treefy_states(model), everywhere))
        rows, counts = jax.device_put((prompt, lengths), split)
        texts = nn.generate(model, rows, 5, lengths=counts, **options)
        assert texts.tokens.sharding.is_equivalent_to(split, 2), (kind, texts.tokens.sharding)
        assert texts.tokens.tolist() == alone.tokens.tolist(), kind
        assert texts.lengths.tolist() == alone.lengths.tolist(), kind
        assert nn.generate(model, rows, 5).tokens.tolist() == greedy.tokens.tolist(), kind
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
with jax.set_mesh(mesh):
    write = gn.shard_map(
        lambda model, prompt: nn.generate(model, prompt, 5, stop_tokens=(9,)).tokens,
        in_specs=(P(), P("data")),
        out_specs=P("data"),
    )
    assert gn.jit(write)(writer, prompt).tolist() == greedy.tokens.tolist()
"""


@pytest.mark.slow
def test_texts_are_the_same_on_a_mesh():
    """With texts split over devices, by automatic and explicit axes, and under `shard_map`."""
    run_with_devices(ON_A_MESH, 8)
