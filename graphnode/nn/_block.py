"""`Block`, what stacks are made of."""

from abc import abstractmethod

import jax
from jax.typing import DTypeLike

from .._errors import ContractError
from .._rngs import Rngs
from ._checks import place
from ._module import Layer


class Block(Layer):
    """The base of blocks, of which `TransformerStack` calls one after the other.

    `TransformerBlock` is one, and so is a stack. For another, extend this class; caches
    are for those that decode.

    Example:
        >>> class Recurrent(gn.nn.Block):
        ...     norm: gn.nn.RMSNorm
        ...     mixer: gn.nn.Layer
        ...     def __call__(self, x, context=None, **options):
        ...         return x + self.mixer(self.norm(x))
        >>> blocks = [Recurrent(gn.nn.RMSNorm(8), gn.nn.LRU(8, 4)) for _ in range(2)]
        >>> gn.eval_shape(gn.nn.TransformerStack(blocks), jnp.ones((5, 8))).shape
        (5, 8)
    """

    @abstractmethod
    def __call__(
        self,
        x: jax.Array,
        context: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        positions: jax.Array | None = None,
        lengths: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        context_lengths: jax.Array | None = None,
        rngs: Rngs | None = None,
    ) -> jax.Array:
        """Map `x` of shape `[..., time, width]` to the same shape.

        Args:
            x: The sequence.
            context: What cross attention attends to, of shape `[..., context,
                context_size]`.
            mask: Who attends to whom in `x`, as in `MultiHeadAttention`.
            bias: What is added to the scores of the attention.
            positions: Of the elements of `x`.
            lengths: How many elements of each sequence count.
            context_mask: Who attends to whom in the context.
            context_lengths: How many elements of each context count.
            rngs: What dropout draws from, in place of its own.
        """

    def init_cache(
        self,
        batch_size: int,
        length: int | None = None,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> object:
        """Give the block empty caches: from then on, a call continues the sequence.

        Args:
            batch_size: Number of sequences.
            length: How many elements there is room for in each.
            dtype: Of what is kept.
            ragged: Whether each sequence has a position of its own.

        Raises:
            ContractError: The class has none.
        """
        raise ContractError(f"{place(self)} has no cache: its class has no init_cache")

    def init_context_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None
    ) -> object:
        """Give the block empty caches of a context: a call with one keeps it, for calls without.

        Args:
            batch_size: Number of sequences.
            length: How many elements of a context there is room for.
            dtype: Of what is kept.

        Raises:
            ContractError: The class has none.
        """
        raise ContractError(
            f"{place(self)} has no cache of a context: its class has no init_context_cache"
        )
