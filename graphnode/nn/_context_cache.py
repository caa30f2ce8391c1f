"""`ContextCache`, what attention keeps of another sequence, which is the same at each call."""

from dataclasses import KW_ONLY, InitVar
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .._compat import Tracer
from .._errors import ContractError
from .._fields import state, static
from .._signals import write_all
from .._state import ShortTermState
from ._cache import Kept, Keys, Lengths, Values, check_sizes, empty_entries
from ._checks import check_inputs, place
from ._dtypes import scalar_type
from ._module import Module
from ._spread import entries_of, spread

KeptKeys: TypeAlias = Float[Array, "batch room num_heads head_size"]

# The length of what was not written yet: 0 is that of an empty context.
_NONE = -1


class ContextCache(Module):
    """Keys and values of a sequence that is attended to again and again, such as the encoder's while a text is decoded.

    Args:
        batch_size: Number of sequences.
        length: How many elements there is room for.
        num_heads: Heads of the keys and values.
        head_size: Features of each.
        value_head_size: Features of each head of values; by default as many.
        dtype: Of keys and values.

    Raises:
        ContractError: A size that is not a positive integer; entries of another shape;
            more than there is room for; a read before anything was written.

    Example:
        >>> cache = ContextCache(1, 8, 2, 4)
        >>> cache.write(jnp.ones((1, 3, 2, 4)), jnp.ones((1, 3, 2, 4)))
        >>> cache.lengths.value.tolist()
        [3]

    See also: `KeyValueCache`, for a sequence that grows.
    """

    batch_size: int
    """Number of sequences."""
    length: int
    """How many elements there is room for."""
    num_heads: int
    """Heads of the keys and values."""
    head_size: int
    """Features of each."""
    _: KW_ONLY
    value_head_size: int = static(factory=lambda self: self.head_size)
    """Features of each head of values."""
    dtype: InitVar[DTypeLike] = jnp.float32
    """Of keys and values."""
    keys: ShortTermState[
        Float[Array, "batch=batch_size length kv_heads=num_heads head=head_size"]
    ] = state(init=False)
    """Of each element; zero where there is none."""
    values: ShortTermState[
        Float[Array, "batch=batch_size length kv_heads=num_heads head=value_head_size"]
    ] = state(init=False)
    """Of each element; zero where there is none."""
    lengths: ShortTermState[Int[Array, "batch=batch_size"]] = state(init=False)
    """How many elements each sequence has; -1 before anything was written."""

    def __post_init__(self, dtype: DTypeLike) -> None:
        check_sizes(self)
        self.keys, self.values = empty_entries(self, dtype)
        self.lengths = ShortTermState(jnp.full(self.batch_size, _NONE, jnp.int32))

    def __init_vars__(self) -> dict[str, object]:
        """The init variable that the keys still show, for `gn.config.to_config`."""
        return {"dtype": scalar_type(self.keys.value)}

    def write(self, keys: Keys, values: Values, lengths: Lengths | None = None) -> None:
        """Keep these keys and values, in place of all before.

        Args:
            keys: Of shape `[batch_size, time, num_heads, head_size]`.
            values: The same, with `value_head_size`.
            lengths: How many elements of each sequence count, the first ones; by
                default all.

        Raises:
            ContractError: Another shape, or more elements than there is room for.
            TraceError: A JAX transformation runs that the cache was not passed into.
        """
        kept = self.keys.value
        check_inputs(
            self, kept=(kept, KeptKeys), keys=(keys, Keys), values=(values, Values)
        )
        time = keys.shape[1]
        if time > self.length:
            raise ContractError(
                f"{place(self)}: expected at most {self.length} elements, its length; found {time}"
            )
        if lengths is None:
            lengths = jnp.full_like(self.lengths.value, time)
        else:
            check_inputs(self, kept=(kept, KeptKeys), lengths=(lengths, Lengths))
            lengths = jnp.clip(lengths, 0, time).astype(jnp.int32)

        def filled(entries: jax.Array, new: jax.Array) -> jax.Array:
            """The new entries, then zeros."""
            rest = [(0, 0), (0, self.length - time), (0, 0), (0, 0)]
            new = jnp.pad(new, rest).astype(entries.dtype)
            layout = entries_of(entries)
            return new if layout is None else spread(new, layout)

        write_all(
            (self.keys, self.values, self.lengths),
            (filled(kept, keys), filled(self.values.value, values), lengths),
        )

    def read(self) -> Kept:
        """What is kept, with the place of each element; -1 for what is behind the end of its sequence.

        A compiled function cannot raise where nothing was written: then the values are
        NaN.

        Raises:
            ContractError: Nothing was written yet.
        """
        lengths, values = self.lengths.value, self.values.value
        # By NumPy: inside of a trace, JAX would trace what is asked of a constant too.
        if not isinstance(lengths, Tracer) and np.any(np.asarray(lengths) == _NONE):
            raise ContractError(
                f"{place(self)}: expected keys and values of a context; found none yet. Call the layer with the "
                "context once, or write them"
            )
        is_written = (lengths != _NONE)[:, None, None, None]
        values = jnp.where(jnp.broadcast_to(is_written, values.shape), values, jnp.nan)
        at = jnp.arange(self.length, dtype=jnp.int32)[None, :]
        places = jnp.where(at < lengths[:, None], at, -1)
        return Kept(self.keys.value, values, places)

    def reset(self) -> None:
        """Forget what was written."""
        keys, values = self.keys.value, self.values.value
        none = jnp.full_like(self.lengths.value, _NONE)
        write_all(
            (self.keys, self.values, self.lengths),
            (jnp.zeros_like(keys), jnp.zeros_like(values), none),
        )
