"""`KeyValueCache`, what attention keeps of the tokens that were decoded before."""

from dataclasses import KW_ONLY, InitVar
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .._compat import Tracer
from .._errors import ContractError
from .._fields import state, static
from .._growth import grown_by, note
from .._signals import write_all
from .._state import ShortTermState
from ._checks import check_inputs, place, size
from ._dtypes import scalar_type
from ._module import Module
from ._spread import by_compiler, entries_of, spread

KeptKeys: TypeAlias = Float[Array, "batch length num_heads head_size"]
Keys: TypeAlias = Float[Array, "batch time num_heads head_size"]
Values: TypeAlias = Float[Array, "batch time num_heads value_head_size"]
Lengths: TypeAlias = Int[Array, "batch"]


class Kept(NamedTuple):
    """What queries may attend to: entries of a cache."""

    keys: jax.Array
    """Of shape `[batch, entries, num_heads, head_size]`."""
    values: jax.Array
    """The same, with the values' size of heads."""
    places: jax.Array | None
    """The place of each in its sequence, of shape `[entries]`, or `[batch, entries]` if rows differ; if it is known."""


class KeyValueCache(Module):
    """Keys and values of the tokens so far, so that each is computed once while a text is decoded token by token.

    Args:
        batch_size: Number of texts.
        length: How many tokens there is room for.
        num_heads: Heads of the keys and values.
        head_size: Features of each.
        value_head_size: Features of each head of values; by default as many.
        ragged: Whether each text has a position of its own, so that texts of several
            lengths go on together: `append` then takes `lengths`.
        dtype: Of keys and values.

    Raises:
        ContractError: A size that is not a positive integer; entries of another shape;
            more than there is room for.

    Example:
        >>> cache = KeyValueCache(1, 8, 2, 4)
        >>> keys, values = cache.append(jnp.ones((1, 3, 2, 4)), jnp.ones((1, 3, 2, 4)))
        >>> keys.shape, int(cache.position.value)
        ((1, 8, 2, 4), 3)

    See also: `RollingCache`, for attention that sees a window; `ContextCache`, for
    another sequence.
    """

    batch_size: int
    """Number of texts."""
    length: int
    """How many tokens there is room for."""
    num_heads: int
    """Heads of the keys and values."""
    head_size: int
    """Features of each."""
    _: KW_ONLY
    value_head_size: int = static(factory=lambda self: self.head_size)
    """Features of each head of values."""
    ragged: bool = False
    """Whether each text has a position of its own."""
    dtype: InitVar[DTypeLike] = jnp.float32
    """Of keys and values."""
    keys: ShortTermState[
        Float[Array, "batch=batch_size length kv_heads=num_heads head=head_size"]
    ] = state(init=False)
    """Of each token; zero where there is none yet."""
    values: ShortTermState[
        Float[Array, "batch=batch_size length kv_heads=num_heads head=value_head_size"]
    ] = state(init=False)
    """Of each token; zero where there is none yet."""
    position: ShortTermState[Int[Array, "..."]] = state(init=False)
    """How many tokens there are; for each text, if they are ragged."""

    def __post_init__(self, dtype: DTypeLike) -> None:
        check_sizes(self)
        self.keys, self.values = empty_entries(self, dtype)
        self.position = empty_position(self)

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the keys still show, for `gn.config.to_config`."""
        return {"dtype": scalar_type(self.keys.value)}

    def append(
        self, keys: Keys, values: Values, lengths: Lengths | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Keep further keys and values; all of them, of shape `[batch_size, length, num_heads, head_size]`.

        A compiled function cannot raise where there is no room: then NaN is stored, and
        all that is computed of it is NaN.

        Args:
            keys: Of shape `[batch_size, time, num_heads, head_size]`.
            values: The same, with `value_head_size`.
            lengths: How many of the new tokens of each text count, the first ones; for
                a ragged cache. By default all.

        Raises:
            ContractError: Another shape, more tokens than there is room for; or lengths
                for a cache that is not ragged.
            TraceError: A JAX transformation runs that the cache was not passed into.
        """
        kept = self.extend(keys, values, lengths)
        return kept.keys, kept.values

    def extend(
        self, keys: Keys, values: Values, lengths: Lengths | None = None
    ) -> Kept:
        """As `append`, and the place of each entry in its sequence."""
        check_entries(self, keys, values, lengths)
        start, added = self.position.value, keys.shape[1]
        self._check_room(start, added, lengths)
        lengths = within(lengths, added)
        end = start + (added if lengths is None else lengths)
        has_room = end <= self.length

        def with_new(entries: jax.Array, new: jax.Array) -> jax.Array:
            """Entries with the new ones from `start` on; NaN in their place, if there is no room."""
            shape = (*has_room.shape, *[1] * (new.ndim - has_room.ndim))
            fits = jnp.broadcast_to(has_room.reshape(shape), new.shape)
            new = jnp.where(fits, new, jnp.nan).astype(entries.dtype)
            layout = entries_of(entries)
            if layout is not None:
                new = spread(new, layout)
            if not self.ragged:
                # It moves what would reach over the end back inside, over older entries.
                return jax.lax.dynamic_update_slice_in_dim(entries, new, start, axis=1)
            return with_rows(entries, new, at)

        if self.ragged:
            at = start[:, None] + jnp.arange(added, dtype=jnp.int32)[None, :]
            # A text without room gets its NaN at the end, where its last query looks.
            at = jnp.where(has_room[:, None], at, jnp.minimum(at, self.length - 1))
            at = without_padding(at, start, end, self.length)
        all_keys = with_new(self.keys.value, keys)
        all_values = with_new(self.values.value, values)
        write_all((self.keys, self.values, self.position), (all_keys, all_values, end))
        if lengths is None:
            # For a loop around this call, which may be too long.
            note(start, end, added, self.length)
        return Kept(all_keys, all_values, jnp.arange(self.length, dtype=jnp.int32))

    def _check_room(
        self, start: jax.Array, added: int, lengths: jax.Array | None
    ) -> None:
        """Raise if there is no room, as far as that is known while JAX traces."""
        # Traced, the position has no number: what this trace adds must fit into an empty
        # cache, at least.
        if isinstance(lengths, Tracer):
            return
        news = added if lengths is None else np.asarray(lengths)
        if isinstance(start, Tracer):
            total = grown_by(start) + int(np.max(news))
            text = f"{total} tokens"
        else:
            # Of the text that has the least room
            before, more = max(
                np.broadcast(np.asarray(start), news), key=lambda pair: sum(pair)
            )
            total, text = int(before + more), f"{before} tokens and {more} more"
        if total > self.length:
            raise ContractError(
                f"{place(self)}: expected at most {self.length} tokens, its length; found {text}"
            )

    def reset(self) -> None:
        """Begin anew, with the same room."""
        # Keys and values too: what an overflow left would stay, as the weight 0 of what
        # is not seen times NaN is NaN.
        reset_all(self.keys, self.values, self.position)


# What caches share. Any: the fields of several classes, which have no base that a file
# could name.


def check_sizes(cache: Any) -> None:
    """Raise if a size of a cache is not a positive integer; keep them as numbers of Python."""
    cls = type(cache).__name__
    for name in ("batch_size", "length", "num_heads", "head_size", "value_head_size"):
        setattr(cache, name, size(f"{cls}.{name}", getattr(cache, name)))


def empty_entries(
    cache: Any, dtype: DTypeLike
) -> tuple[ShortTermState[jax.Array], ShortTermState[jax.Array]]:
    """Keys and values of an empty cache."""
    shape = (cache.batch_size, cache.length, cache.num_heads)
    keys = jnp.zeros((*shape, cache.head_size), dtype)
    values = jnp.zeros((*shape, cache.value_head_size), dtype)
    return ShortTermState(keys), ShortTermState(values)


def empty_position(cache: Any) -> ShortTermState[jax.Array]:
    """The position of an empty cache."""
    shape = (cache.batch_size,) if cache.ragged else ()
    return ShortTermState(jnp.zeros(shape, jnp.int32))


def check_entries(
    cache: Any, keys: jax.Array, values: jax.Array, lengths: jax.Array | None
) -> None:
    """Raise if new entries are not of a cache's shape, or have lengths that it does not take.

    Raises:
        ContractError: Names all that is wrong with the arrays; or lengths for a cache
            that is not ragged.
    """
    # With what is kept, which says the batch: under `shard_map`, it is a part of
    # `batch_size`.
    kept = cache.keys.value
    arrays: dict[str, tuple[jax.Array, Any]] = {
        "kept": (kept, KeptKeys),
        "keys": (keys, Keys),
        "values": (values, Values),
    }
    if lengths is not None:
        if not cache.ragged:
            raise ContractError(
                f"{place(cache)}: expected no lengths, as all rows have one position; make it with ragged=True"
            )
        arrays["lengths"] = (lengths, Lengths)
    check_inputs(cache, **arrays)


def within(lengths: jax.Array | None, time: int) -> jax.Array | None:
    """How many new entries of each row count: all of them if `lengths` says that more do, as without a cache."""
    return None if lengths is None else jnp.clip(lengths, 0, time)


def without_padding(
    at: jax.Array, start: jax.Array, end: jax.Array, length: int
) -> jax.Array:
    """Where new entries of each row go, of shape `[batch, time]`: what is behind its end goes nowhere."""
    times = jnp.arange(at.shape[1], dtype=jnp.int32)[None, :]
    return jnp.where(times < (end - start)[:, None], at, length)


def with_rows(entries: jax.Array, new: jax.Array, at: jax.Array) -> jax.Array:
    """Entries with new ones, each row at places of its own; those behind the end are left out."""

    def put(entries: jax.Array, new: jax.Array, at: jax.Array) -> jax.Array:
        """All rows at once."""
        rows = jnp.arange(at.shape[0], dtype=jnp.int32)[:, None]
        return entries.at[rows, at].set(new, mode="drop")

    return by_compiler(put, entries_of(entries), entries, new, at)


def reset_all(*states: ShortTermState[jax.Array]) -> None:
    """Set all values to zero."""
    write_all(states, [jnp.zeros_like(state.value) for state in states])
