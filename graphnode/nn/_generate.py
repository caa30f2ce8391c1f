"""`generate`, which writes texts with a language model: a loop around the model, and around `sample`."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from .._compat import Tracer
from .._declare._node import Node, plan_of
from .._describe import describe
from .._errors import ContractError, listed
from .._growth import grown_by
from .._inspect import iter_node, nodes
from .._keys import is_key
from .._paths import path_str
from .._split import clone
from .._view import view
from ..transforms import jit, while_loop
from ._cache import KeyValueCache
from ._checks import check_array, count, is_integer
from ._sample import Choice, Numbers, check_key, check_logits, choice_of, chosen
from ._spread import by_compiler, entries_of

Prompt: TypeAlias = Integer[Array, "batch time"]
Lengths: TypeAlias = Integer[Array, "batch"]
NextLogits: TypeAlias = Float[Array, "batch time vocabulary"]

_NAME = "gn.nn.generate"
_LARGEST = np.iinfo(np.int32).max


@runtime_checkable
class Decoder(Protocol):
    """What `generate` takes: a node that maps tokens to the logits of the next ones, and can be given caches.

    See also: `generate`, whose example has one.
    """

    def init_cache(
        self,
        batch_size: int,
        length: int,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> object:
        """Give all layers empty caches, in place of any that they have: from then on, a call continues the texts.

        Args:
            batch_size: Number of texts.
            length: How many tokens there has to be room for in each.
            dtype: Of what is kept; by default, that of the model.
            ragged: Whether each text has a position of its own; calls then take
                `lengths`.
        """

    # A property, as a strict pyrefly takes no method for one with `*args: Any`; and dots,
    # as a model may take further inputs.
    @property
    def __call__(self) -> Callable[..., jax.Array]:
        """From tokens of shape `[batch, time]` to logits of shape `[batch, time, vocabulary]`.

        Where texts have several lengths, it is called with `lengths`, too, of shape
        `[batch]`: how many of the tokens of each count, the first ones.
        """
        ...


class Generated(NamedTuple):
    """What `generate` has written."""

    tokens: jax.Array
    """The new tokens, int32 of shape `[batch, max_new_tokens]`, with `pad_token` behind the end of each text."""
    lengths: jax.Array
    """How many of each text count, with the stop token if there is one: int32 of shape `[batch]`."""


def generate(
    model: Decoder,
    prompt: Prompt,
    max_new_tokens: int,
    *,
    key: jax.Array | None = None,
    lengths: Lengths | None = None,
    temperature: float | jax.Array | None = None,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
    stop_tokens: Collection[int] = (),
    pad_token: int = 0,
    # Any: as the model's own call takes it.
    inputs: Mapping[str, Any] | None = None,
    cache_dtype: DTypeLike | None = None,
) -> Generated:
    """Let a language model continue texts: it reads the prompts at once, then each token as it is written.

    All is one compiled function, traced once for each model and each shape of the
    prompts; other values are not traced again. The loop in it ends when all texts have.
    Under `gn.jit` it becomes a part of the caller's function.

    The model is seen with `deterministic=True`, and as a copy that gets new caches of
    its own: nothing is written into the model itself. With a key, tokens are drawn;
    without one, each is the most probable one.

    Args:
        model: A node with `init_cache`; see `Decoder`.
        prompt: Tokens of shape `[batch, time]`, at least one of each text.
        max_new_tokens: How many tokens are written at most.
        key: What is drawn with: one key, or one for each text. Of one key, text `n`
            has `jax.random.fold_in(key, n)`; and its token `m` is drawn with that of
            the text, folded with `m`. So a text depends on no other one, and not on
            `max_new_tokens`.
        lengths: How many tokens of each prompt count, the first ones, if they differ;
            of shape `[batch]`.
        temperature: As in `sample`; by default 1 with a key, and 0 without.
        top_k: As in `sample`.
        top_p: As in `sample`.
        stop_tokens: Behind one of these, a text ends.
        pad_token: What stands behind the end.
        inputs: What the model is called with beside the prompt, by name: arrays for
            the first call alone, such as the context of an encoder-decoder, whose
            layers keep it in a `ContextCache`.
        cache_dtype: Of what the caches keep; by default, what the model decides.

    Returns:
        The new tokens without the prompts, and how many of them count: `Generated`.

    Raises:
        ContractError: A model without `init_cache`, or one that gives logits of another
            shape, or that calls one layer several times for a token, as a cache serves
            one place; prompts that are not integers or have no tokens; lengths that are not
            in `[1, time]`; what `sample` refuses. Lengths that are traced cannot be
            refused: a text whose length is none of these stays empty.

    Example:
        >>> class Bigrams(gn.nn.Module):
        ...     table: gn.nn.Embedding
        ...     def init_cache(self, batch_size, length, dtype=None, *, ragged=False):
        ...         pass  # it looks at the last token alone
        ...     def __call__(self, tokens, *, lengths=None):
        ...         return self.table(tokens)
        >>> next_one = 9 * jnp.roll(jnp.eye(5), 1, axis=1)
        >>> table = gn.nn.Embedding(5, 5, w_init=lambda key, shape, dtype: next_one)
        >>> gn.nn.generate(Bigrams(table), jnp.array([[0, 1]]), 4).tokens.tolist()
        [[2, 3, 4, 0]]

    See also: `sample`, for a loop of your own.
    """
    _check_model(model)
    prompt, lengths = _checked_prompt(prompt, lengths)
    batch = prompt.shape[0]
    max_new_tokens = count(f"{_NAME}: max_new_tokens", max_new_tokens)
    if temperature is None:
        is_drawn = key is not None or top_k is not None or top_p is not None
        temperature = 1.0 if is_drawn else 0.0
    choice = choice_of(_NAME, (batch,), temperature, top_k, top_p)
    check_key(_NAME, choice, key)
    key = _typed_key(key, batch)
    stops, pad = _stops_of(stop_tokens), _pad_of(pad_token)
    if inputs is not None and "lengths" in inputs:
        raise ContractError(
            f"{_NAME}: inputs: expected no lengths, which are an argument of their own; found {sorted(inputs)}"
        )
    if not batch or not max_new_tokens:
        empty = jnp.full((batch, max_new_tokens), pad, jnp.int32)
        return Generated(empty, jnp.zeros(batch, jnp.int32))
    if choice.temperature is None:
        # Nothing reads it: with it, this would be another program.
        key = None
    request = _Request(
        prompt, lengths, stops, pad, key, choice.temperature, choice.top_p
    )
    dtype = None if cache_dtype is None else jnp.dtype(cache_dtype)
    options = _Options(max_new_tokens, choice.top_k, dtype)
    return _written(model, request, dict(inputs or {}), options=options)


class _Request(NamedTuple):
    """The arguments of `generate` that are arrays, whose values may be others in each call."""

    prompt: jax.Array
    lengths: jax.Array | None
    stops: Numbers
    pad: np.int32
    key: jax.Array | None
    temperature: Numbers | None
    top_p: Numbers | None


class _Options(NamedTuple):
    """Those that decide what is compiled."""

    max_new_tokens: int
    top_k: int | None
    cache_dtype: np.dtype[Any] | None


class _Texts(NamedTuple):
    """What is carried from token to token."""

    tokens: jax.Array
    """Of shape `[batch, max_new_tokens]`: the new ones, then padding."""
    lengths: jax.Array
    """How many are written of each text."""
    last: jax.Array
    """The last token of each text, which is read next."""
    is_done: jax.Array
    """Which texts have ended."""
    number: jax.Array
    """Of the next token."""

    def with_tokens(self, new: jax.Array, stops: Numbers) -> "_Texts":
        """These with one more token of each text that goes on."""
        goes_on = ~self.is_done
        pad = jax.lax.dynamic_slice_in_dim(self.tokens, self.number, 1, axis=1)[:, 0]
        tokens = jax.lax.dynamic_update_slice_in_dim(
            self.tokens,
            jnp.where(goes_on, new, pad)[:, None],
            self.number,
            axis=1,
        )
        is_stop = (new[:, None] == stops[None, :]).any(axis=1)
        return _Texts(
            tokens,
            self.lengths + goes_on.astype(jnp.int32),
            # A text that has ended is read on, as the others need it, but not its
            # padding: that may be a number which no token has.
            jnp.where(goes_on, new, self.last),
            self.is_done | is_stop,
            self.number + 1,
        )


@jit(static_argnames="options")
def _written(
    model: Any, request: _Request, inputs: dict[str, Any], *, options: _Options
) -> Generated:
    """For `generate`: what is compiled. Any: a `Decoder` that is a node, which no type says; and what it takes."""
    decoder = _copy_of(model)
    batch, time = request.prompt.shape
    lengths = request.lengths
    settings: dict[str, Any] = {}
    if options.cache_dtype is not None:
        settings["dtype"] = options.cache_dtype
    if lengths is not None:
        settings["ragged"] = True
        lengths = lengths.astype(jnp.int32)
    # The last token is written, and never read.
    decoder.init_cache(batch, time + options.max_new_tokens - 1, **settings)
    pick = functools.partial(_picked, request, options.top_k)
    prompt = request.prompt.astype(jnp.int32)
    logits = _read(decoder, prompt, lengths, inputs)
    _check_reads_once(decoder, time)
    first = pick(0, logits)
    texts = _begun(request, options.max_new_tokens, first)

    def goes_on(carry: tuple[Any, _Texts]) -> jax.Array:
        """Whether a text has not ended, and there is room for more."""
        _, texts = carry
        return (texts.number < options.max_new_tokens) & ~texts.is_done.all()

    def write(carry: tuple[Any, _Texts]) -> tuple[Any, _Texts]:
        """Read the last token of each text, and write the next."""
        decoder, texts = carry
        counts: jax.Array | None = None
        if lengths is not None:
            counts = (~texts.is_done).astype(jnp.int32)
        logits = _read(decoder, texts.last[:, None], counts, {})
        new = pick(texts.number, logits)
        return decoder, texts.with_tokens(new, request.stops)

    _, texts = while_loop(goes_on, write, (decoder, texts))
    return Generated(texts.tokens, texts.lengths)


def _copy_of(model: Any) -> Any:
    """The model for evaluation, with States of its own, so that nothing is left in the model of the caller."""
    copy = clone(model)
    has_modes = any(
        "deterministic" in plan_of(type(node)).statics for _, node in iter_node(copy)
    )
    # A view refuses a name that no node has.
    return view(copy, deterministic=True) if has_modes else copy


def _read(
    decoder: Any,
    tokens: jax.Array,
    lengths: jax.Array | None,
    inputs: Mapping[str, Any],
) -> jax.Array:
    """Let the model read further tokens: the logits behind the last one of each text that counts.

    Raises:
        ContractError: The model gives something else than logits for each token.
    """
    by_length = {} if lengths is None else {"lengths": lengths}
    logits = decoder(tokens, **by_length, **inputs)
    batch, time = tokens.shape
    where = f"{_NAME}: logits of {type(decoder).__name__}"
    check_array(where, logits, NextLogits, batch=batch, time=time)
    check_logits(where, logits)
    if lengths is None or time == 1:
        last: jax.Array = logits[:, -1]
        return last

    def at_ends(logits: jax.Array, lengths: jax.Array) -> jax.Array:
        """Those behind the last token of each prompt."""
        places = jnp.clip(lengths - 1, 0, time - 1)[:, None, None]
        return jnp.take_along_axis(logits, places, axis=1)[:, 0]

    entries = entries_of(logits)
    out = None if entries is None else (entries[0], entries[2])
    return by_compiler(at_ends, out, logits, lengths)


def _check_reads_once(decoder: Any, time: int) -> None:
    """Raise if a cache got more than the prompt: the layer is called several times, as one that layers share.

    Each call would need a cache of its own. Of caches with a position for each text, it is
    not known.

    Raises:
        ContractError: Names the caches.
    """
    faults: list[str] = []
    for path, cache in nodes(decoder, KeyValueCache).items():
        grown = grown_by(cache.position.value)
        if grown > time:
            faults.append(f"{path_str(path)} got {grown}")
    if faults:
        raise ContractError(
            f"{_NAME}: model: expected caches to get the {time} tokens of the prompt once; {listed(faults)}. A layer "
            "that is called several times for a token, as one that several layers share, needs several caches"
        )


def _picked(
    request: _Request, top_k: int | None, number: jax.Array | int, logits: jax.Array
) -> jax.Array:
    """The token with this number of each text."""

    def pick(
        logits: jax.Array,
        key: jax.Array | None,
        number: jax.Array | int,
        temperature: jax.Array | None,
        top_p: jax.Array | None,
    ) -> jax.Array:
        """The tokens, each drawn with a key of its own."""
        if key is None:
            return chosen(logits, None, Choice(None, top_k, None))
        assert temperature is not None
        batch = logits.shape[:1]
        keys = jax.vmap(jax.random.fold_in, (0, None))(_keys_of(key, batch[0]), number)
        temperature = jnp.broadcast_to(temperature, batch)
        if top_p is not None:
            top_p = jnp.broadcast_to(top_p, batch)

        def of_text(
            logits: jax.Array,
            key: jax.Array,
            temperature: jax.Array,
            top_p: jax.Array | None,
        ) -> jax.Array:
            """The token of one text."""
            return chosen(logits, key, Choice(temperature, top_k, top_p))

        return jax.vmap(of_text)(logits, keys, temperature, top_p)

    entries = entries_of(logits)
    out = None if entries is None else entries[:1]
    return by_compiler(
        pick, out, logits, request.key, number, request.temperature, request.top_p
    )


def _keys_of(key: jax.Array, batch: int) -> jax.Array:
    """A key for each text."""
    if key.ndim:
        return key
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))


def _begun(request: _Request, max_new_tokens: int, first: jax.Array) -> _Texts:
    """All texts, with the first token of each."""
    batch, time = request.prompt.shape
    # All of them are made of the first tokens, and are laid out over devices as these are.
    padding = jnp.full_like(first, request.pad)
    tokens = jnp.broadcast_to(padding[:, None], (batch, max_new_tokens))
    is_done = jnp.zeros_like(first, dtype=bool)
    if request.lengths is not None:
        is_done = is_done | (request.lengths < 1) | (request.lengths > time)
    texts = _Texts(tokens, jnp.zeros_like(first), first, is_done, jnp.int32(0))
    return texts.with_tokens(first, request.stops)


# The checks


def _check_model(model: object) -> None:
    """Raise if a model is not a node that can be given caches."""
    if not isinstance(model, Node) or not isinstance(model, Decoder):
        raise ContractError(
            f"{_NAME}: model: expected a node with __call__(tokens) and init_cache(batch_size, length, dtype=None, *, "
            f"ragged=False), which gives all its layers caches; found {describe(model)}"
        )


def _checked_prompt(
    prompt: jax.Array, lengths: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """Prompts, and how many tokens of each count, as arrays.

    Raises:
        ContractError: They are not; a prompt has no tokens, as far as that is known.
    """
    prompt = jnp.asarray(prompt)
    check_array(f"{_NAME}: prompt", prompt, Prompt)
    batch, time = prompt.shape
    if not time:
        raise ContractError(
            f"{_NAME}: prompt: expected at least one token of each text, such as one for the beginning; found "
            f"{describe(prompt)}"
        )
    if lengths is None:
        return prompt, None
    lengths = jnp.asarray(lengths)
    where = f"{_NAME}: lengths"
    check_array(where, lengths, Lengths, batch=batch)
    if not isinstance(lengths, Tracer):
        numbers = np.asarray(lengths)
        if ((numbers < 1) | (numbers > time)).any():
            raise ContractError(
                f"{where}: expected 1 to {time} tokens of each prompt; found {numbers.tolist()}"
            )
    return prompt, lengths


def _typed_key(key: jax.Array | None, batch: int) -> jax.Array | None:
    """One key, or one for each text; a legacy one as a typed one.

    Raises:
        ContractError: It is neither.
    """
    if key is None:
        return None
    fault = ContractError(
        f"{_NAME}: key: expected one key, or one for each of {batch} texts, such as jax.random.key(0); found "
        f"{describe(key)}"
    )
    if not isinstance(key, jax.Array):
        raise fault
    # JAX's stubs give `wrap_key_data` no type.
    typed: jax.Array = key
    if key.dtype == jnp.uint32:
        typed = jax.random.wrap_key_data(key)
    if not is_key(typed) or typed.shape not in ((), (batch,)):
        raise fault
    return typed


def _stops_of(tokens: Collection[int]) -> np.ndarray:
    """The tokens that end a text, as an array.

    Raises:
        ContractError: They are not a tuple or other collection of integers.
    """
    if not isinstance(tokens, Collection) or not all(
        is_integer(token, 0) for token in tokens
    ):
        raise ContractError(
            f"{_NAME}: stop_tokens: expected a tuple of integers of at least 0; found {describe(tokens)}"
        )
    # Sorted, as sets have no order.
    return np.array(sorted(tokens), np.int32)


def _pad_of(token: int) -> np.int32:
    """The token that stands behind the end of a text.

    Raises:
        ContractError: It is not an integer of 32 bits.
    """
    if not is_integer(token, -_LARGEST) or token > _LARGEST:
        raise ContractError(
            f"{_NAME}: pad_token: expected an integer of 32 bits; found {describe(token)}"
        )
    return np.int32(token)
