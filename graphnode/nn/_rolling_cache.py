"""`RollingCache`, what attention that sees a window keeps of the tokens that were decoded before."""

from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .._fields import state, static
from .._signals import write_all
from .._state import ShortTermState
from ._cache import (
    Kept,
    Keys,
    Lengths,
    Values,
    check_entries,
    check_sizes,
    empty_entries,
    empty_position,
    reset_all,
    with_rows,
    within,
    without_padding,
)
from ._dtypes import scalar_type
from ._module import Module
from ._spread import by_compiler, entries_of


class RollingCache(Module):
    """Keys and values of the latest tokens, for attention that sees no others: it is never full.

    Each token takes the place of the one that is `length` older:

        length 4, after 6 tokens      4 5 2 3

    Args:
        batch_size: Number of texts.
        length: How many tokens are kept, the size of the window.
        num_heads: Heads of the keys and values.
        head_size: Features of each.
        value_head_size: Features of each head of values; by default as many.
        ragged: Whether each text has a position of its own.
        dtype: Of keys and values.

    Raises:
        ContractError: A size that is not a positive integer; entries of another shape.

    Example:
        >>> cache = RollingCache(1, 4, 1, 1)
        >>> tokens = jnp.arange(6.0).reshape(1, 6, 1, 1)
        >>> _ = cache.append(tokens, tokens)
        >>> cache.keys.value.ravel().tolist()
        [4.0, 5.0, 2.0, 3.0]

    See also: `KeyValueCache`, which keeps all.
    """

    batch_size: int
    """Number of texts."""
    length: int
    """How many tokens are kept."""
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
    """Of each token that is kept; zero where there is none yet."""
    values: ShortTermState[
        Float[Array, "batch=batch_size length kv_heads=num_heads head=value_head_size"]
    ] = state(init=False)
    """Of each token that is kept; zero where there is none yet."""
    position: ShortTermState[Int[Array, "..."]] = state(init=False)
    """How many tokens there were; for each text, if they are ragged."""

    def __post_init__(self, dtype: DTypeLike) -> None:
        check_sizes(self)
        self.keys, self.values = empty_entries(self, dtype)
        self.position = empty_position(self)

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the keys still show, for `gn.config.to_config`."""
        return {"dtype": scalar_type(self.keys.value)}

    def append(
        self, keys: Keys, values: Values, lengths: Lengths | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Keep further keys and values, in place of the oldest.

        Args:
            keys: Of shape `[batch_size, time, num_heads, head_size]`.
            values: The same, with `value_head_size`.
            lengths: How many of the new tokens of each text count, the first ones; for
                a ragged cache. By default all.

        Returns:
            What the new tokens may attend to: keys and values of tokens before and of
            the new ones, and the position of each in its text, negative where there is
            none. After one token, these are the entries of the cache; after several,
            the entries of before and all new ones, as the first of them still see what
            the last ones replace.

        Raises:
            ContractError: Another shape; or lengths for a cache that is not ragged.
            TraceError: A JAX transformation runs that the cache was not passed into.
        """
        kept = self.extend(keys, values, lengths)
        assert kept.places is not None
        return kept.keys, kept.values, kept.places

    def extend(
        self, keys: Keys, values: Values, lengths: Lengths | None = None
    ) -> Kept:
        """As `append`, by names."""
        check_entries(self, keys, values, lengths)
        start, added = self.position.value, keys.shape[1]
        lengths = within(lengths, added)
        end = start + (added if lengths is None else lengths)
        old_keys, old_values = self.keys.value, self.values.value
        keys, values = keys.astype(old_keys.dtype), values.astype(old_values.dtype)
        new_keys = self._with_new(old_keys, keys, start, end)
        new_values = self._with_new(old_values, values, start, end)
        write_all((self.keys, self.values, self.position), (new_keys, new_values, end))
        if added == 1:
            return Kept(new_keys, new_values, self._places(end))
        news = start[..., None] + _row(added, start)
        return Kept(
            _joined(old_keys, keys),
            _joined(old_values, values),
            jnp.concatenate([self._places(start), news], -1),
        )

    def _places(self, end: jax.Array) -> jax.Array:
        """The place of each entry in its text, when there were `end` tokens: the last one that is kept there."""
        last = end[..., None] - 1
        return last - jnp.mod(last - _row(self.length, end), self.length)

    def _with_new(
        self, entries: jax.Array, new: jax.Array, start: jax.Array, end: jax.Array
    ) -> jax.Array:
        """Entries with the new tokens at their places."""
        length = self.length
        if self.ragged:
            places = start[:, None] + jnp.arange(new.shape[1], dtype=jnp.int32)[None, :]
            at = jnp.where(
                places >= end[:, None] - length, jnp.mod(places, length), length
            )
            return with_rows(entries, new, without_padding(at, start, end, length))
        # Earlier ones would be replaced at once.
        skipped = max(new.shape[1] - length, 0)
        new = new[:, skipped:]
        at = jnp.mod(
            start + skipped + jnp.arange(new.shape[1], dtype=jnp.int32), length
        )

        def put(entries: jax.Array, new: jax.Array, at: jax.Array) -> jax.Array:
            """All rows at the same places."""
            return entries.at[:, at].set(new, unique_indices=True)

        return by_compiler(put, entries_of(entries), entries, new, at)

    def reset(self) -> None:
        """Begin anew."""
        reset_all(self.keys, self.values, self.position)


def _row(count: int, position: jax.Array) -> jax.Array:
    """Numbers from 0, in the rank of one place for each position."""
    numbers = jnp.arange(count, dtype=jnp.int32)
    return jnp.expand_dims(numbers, range(position.ndim))


def _joined(old: jax.Array, new: jax.Array) -> jax.Array:
    """Entries of before, then new ones."""

    def join(old: jax.Array, new: jax.Array) -> jax.Array:
        """Along time."""
        return jnp.concatenate([old, new], 1)

    return by_compiler(join, entries_of(old), old, new)
