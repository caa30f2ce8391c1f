"""`EncoderDecoder`, two stacks of transformer blocks, of which the second attends to what the first gives."""

from typing import TypeAlias

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._rngs import Rngs
from ._module import Module
from ._transformer_stack import TransformerStack

Source: TypeAlias = Float[Array, "*batch context context_size"]
Target: TypeAlias = Float[Array, "*batch time width"]


class EncoderDecoder(Module):
    """A stack of transformer blocks, and one that attends to what it gives.

    Vaswani et al. 2017, "Attention Is All You Need", section 3.1, without what is before
    and behind the stacks. To decode, give the decoder caches by `init_cache`, call it
    once with `decode(target, encode(source))`, and from then on with what comes next
    alone.

    Args:
        encoder: Of the source.
        decoder: Of the target; its blocks have cross attention.

    Example:
        >>> encoder = TransformerStack([gn.nn.TransformerBlock(8, 2)])
        >>> attention = gn.nn.MultiHeadAttention(8, 2)
        >>> decoder = TransformerStack([gn.nn.TransformerBlock(8, 2, is_causal=True, cross_attention=attention)])
        >>> model = EncoderDecoder(encoder, decoder)
        >>> gn.eval_shape(model, jnp.ones((2, 7, 8)), jnp.ones((2, 5, 8))).shape
        (2, 5, 8)
    """

    encoder: TransformerStack
    """Of the source."""
    decoder: TransformerStack
    """Of the target, which attends to what the encoder gives."""

    def init_cache(
        self,
        batch_size: int,
        length: int,
        source_length: int,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> None:
        """Give the decoder empty caches: of the target, and of what the encoder gives.

        Args:
            batch_size: Number of sequences.
            length: How many elements of each target there is room for.
            source_length: How many of each source.
            dtype: Of what is kept; by default what is computed in.
            ragged: Whether each target has a position of its own.

        Raises:
            ContractError: What the attention refuses; a block without cross attention.
        """
        self.decoder.init_cache(batch_size, length, dtype, ragged=ragged)
        self.decoder.init_context_cache(batch_size, source_length, dtype)

    def encode(
        self,
        source: Source,
        *,
        mask: jax.Array | None = None,
        lengths: jax.Array | None = None,
        rngs: Rngs | None = None,
    ) -> Source:
        """What the encoder makes of a source of shape `[..., context, context_size]`.

        Args:
            source: The sequence.
            mask: Who attends to whom.
            lengths: How many elements of each source count.
            rngs: What dropout draws from, in place of its own.

        Raises:
            ContractError: What the blocks refuse.
        """
        return self.encoder(source, mask=mask, lengths=lengths, rngs=rngs)

    def decode(
        self,
        target: Target,
        encoded: Source | None = None,
        *,
        mask: jax.Array | None = None,
        lengths: jax.Array | None = None,
        source_lengths: jax.Array | None = None,
        rngs: Rngs | None = None,
    ) -> Target:
        """What the decoder makes of a target of shape `[..., time, width]`, next to what the encoder gave.

        Args:
            target: The sequence.
            encoded: What the encoder gave; left out once it is in caches.
            mask: Who attends to whom in the target.
            lengths: How many elements of each target count.
            source_lengths: How many elements of each source count.
            rngs: What dropout draws from, in place of its own.

        Raises:
            ContractError: What the blocks refuse.
        """
        return self.decoder(
            target,
            encoded,
            mask=mask,
            lengths=lengths,
            context_lengths=source_lengths,
            rngs=rngs,
        )

    def __call__(
        self,
        source: Source,
        target: Target,
        *,
        source_lengths: jax.Array | None = None,
        lengths: jax.Array | None = None,
        rngs: Rngs | None = None,
    ) -> Target:
        """Map a target of shape `[..., time, width]` to the same shape, by what the encoder makes of a source.

        Args:
            source: The sequence that is encoded.
            target: The sequence that attends to it.
            source_lengths: How many elements of each source count.
            lengths: How many elements of each target count.
            rngs: What dropout draws from, in place of its own.

        Raises:
            ContractError: What the blocks refuse.
        """
        encoded = self.encode(source, lengths=source_lengths, rngs=rngs)
        return self.decode(
            target,
            encoded,
            lengths=lengths,
            source_lengths=source_lengths,
            rngs=rngs,
        )
