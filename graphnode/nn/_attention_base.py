"""`Attention`, what a transformer takes for the attention of its blocks."""

from abc import abstractmethod

import jax
from jax.typing import DTypeLike

from .._declare._node import Node
from .._errors import ContractError
from .._rngs import Rngs
from ._checks import place
from ._module import Layer


class Attention(Layer):
    """The base of attention: what `TransformerBlock(attention=...)` takes, and calls in its way.

    `MultiHeadAttention` is one. For another, extend this class; caches are for those that
    decode.

    Example:
        >>> class Mean(gn.nn.Attention):
        ...     def __call__(self, x, context=None, *, mask=None, bias=None, positions=None, lengths=None, rngs=None):
        ...         return jnp.broadcast_to(x.mean(-2, keepdims=True), x.shape)
        >>> gn.nn.TransformerBlock(8, attention=Mean())(jnp.ones((5, 8))).shape
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
        rngs: Rngs | None = None,
    ) -> jax.Array:
        """What the elements of `x` collect from those of `context`, or of `x` itself: of the shape of `x`.

        Args:
            x: The sequence, of shape `[..., time, width]`.
            context: Another one to attend to, of shape `[..., context, context_size]`.
            mask: Of shape `[..., heads, time, context]`, whose axes may have size 1:
                who attends to whom.
            bias: What is added to the scores, of such a shape.
            positions: Of the elements of `x`, of shape `[time]` or `[..., time]`.
            lengths: How many elements of each sequence that is attended to count.
            rngs: What dropout draws from, in place of its own.
        """

    def init_cache(
        self,
        batch_size: int,
        length: int | None = None,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> Node:
        """Give the layer an empty cache: from then on, a call continues the sequence.

        Args:
            batch_size: Number of sequences.
            length: How many elements there is room for in each.
            dtype: Of what is kept.
            ragged: Whether each sequence has a position of its own.

        Returns:
            The cache, which is the layer's.

        Raises:
            ContractError: The class has none.
        """
        raise ContractError(f"{place(self)} has no cache: its class has no init_cache")

    def init_context_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None
    ) -> Node:
        """Give the layer an empty cache of a context: a call with one keeps it, for calls without.

        Args:
            batch_size: Number of sequences.
            length: How many elements of a context there is room for.
            dtype: Of what is kept.

        Returns:
            The cache, which is the layer's.

        Raises:
            ContractError: The class has none.
        """
        raise ContractError(
            f"{place(self)} has no cache of a context: its class has no init_context_cache"
        )
