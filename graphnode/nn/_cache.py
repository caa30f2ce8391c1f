"""`KeyValueCache`, what attention keeps of the tokens that were decoded before."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .._compat import Tracer
from .._errors import ContractError
from .._fields import state
from .._signals import write_all
from .._state import ShortTermState
from ._checks import check_inputs, place, size
from ._dtypes import scalar_type
from ._module import Module
from ._spread import entries_of, spread

Kept: TypeAlias = Float[Array, "batch length num_heads head_size"]
Entries: TypeAlias = Float[Array, "batch time num_heads head_size"]


class KeyValueCache(Module):
    """Keys and values of the tokens so far, so that each is computed once while a text is decoded token by token.

    Args:
        batch_size: Number of texts.
        length: How many tokens there is room for.
        num_heads: Heads of the keys and values.
        head_size: Features of each.
        dtype: Of keys and values.

    Raises:
        ContractError: A size that is not a positive integer; entries of another shape;
            more than there is room for.

    Example:
        >>> cache = KeyValueCache(1, 8, 2, 4)
        >>> keys, values = cache.append(jnp.ones((1, 3, 2, 4)), jnp.ones((1, 3, 2, 4)))
        >>> keys.shape, int(cache.position.value)
        ((1, 8, 2, 4), 3)
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
    dtype: InitVar[DTypeLike] = jnp.float32
    """Of keys and values."""
    keys: ShortTermState[
        Float[Array, "batch=batch_size length kv_heads=num_heads head=head_size"]
    ] = state(init=False)
    """Of each token; zero where there is none yet."""
    values: ShortTermState[
        Float[Array, "batch=batch_size length kv_heads=num_heads head=head_size"]
    ] = state(init=False)
    """Of each token; zero where there is none yet."""
    position: ShortTermState[Int[Array, ""]] = state(init=False)
    """How many tokens there are."""

    def __post_init__(self, dtype: DTypeLike) -> None:
        self.batch_size = size("KeyValueCache.batch_size", self.batch_size)
        self.length = size("KeyValueCache.length", self.length)
        self.num_heads = size("KeyValueCache.num_heads", self.num_heads)
        self.head_size = size("KeyValueCache.head_size", self.head_size)
        shape = (self.batch_size, self.length, self.num_heads, self.head_size)
        self.keys = ShortTermState(jnp.zeros(shape, dtype))
        self.values = ShortTermState(jnp.zeros(shape, dtype))
        self.position = ShortTermState(jnp.zeros((), jnp.int32))

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the keys still show, for `gn.config.to_config`."""
        return {"dtype": scalar_type(self.keys.value)}

    def append(self, keys: Entries, values: Entries) -> tuple[jax.Array, jax.Array]:
        """Keep further keys and values; all of them, of shape `[batch_size, length, num_heads, head_size]`.

        A compiled function cannot raise where there is no room: then NaN is stored, and
        all that is computed of it is NaN.

        Raises:
            ContractError: Another shape, or more tokens than there is room for.
            TraceError: A JAX transformation runs that the cache was not passed into.
        """
        # With what is kept, which says the batch: under `shard_map`, it is a part of
        # `batch_size`.
        kept = self.keys.value
        check_inputs(
            self, kept=(kept, Kept), keys=(keys, Entries), values=(values, Entries)
        )
        start, added = self.position.value, keys.shape[1]
        self._check_room(start, added)
        # `dynamic_update_slice` moves what would reach over the end back inside, over
        # older entries.
        has_room = start + added <= self.length

        def with_new(entries: jax.Array, new: jax.Array) -> jax.Array:
            """Entries with the new ones from `start` on; NaN in their place, if there is no room."""
            new = jnp.where(has_room, new, jnp.nan).astype(entries.dtype)
            layout = entries_of(entries)
            if layout is not None:
                new = spread(new, layout)
            return jax.lax.dynamic_update_slice_in_dim(entries, new, start, axis=1)

        all_keys = with_new(self.keys.value, keys)
        all_values = with_new(self.values.value, values)
        write_all(
            (self.keys, self.values, self.position),
            (all_keys, all_values, start + added),
        )
        return all_keys, all_values

    def _check_room(self, start: jax.Array, added: int) -> None:
        """Raise if there is no room, as far as that is known while JAX traces."""
        # Traced, the position has no number: what is added must fit into an empty
        # cache, at least.
        if isinstance(start, Tracer):
            total, text = added, f"{added} tokens"
        else:
            total, text = int(start) + added, f"{int(start)} tokens and {added} more"
        if total > self.length:
            raise ContractError(
                f"{place(self)}: expected at most {self.length} tokens, its length; found {text}"
            )

    def reset(self) -> None:
        """Begin anew, with the same room."""
        # Keys and values too: what an overflow left would stay, as the weight 0 of what
        # is not seen times NaN is NaN.
        states = (self.keys, self.values, self.position)
        write_all(states, [jnp.zeros_like(state.value) for state in states])
