"""Where new tokens stand in their texts: for models that look positions up in a table."""

import jax
import jax.numpy as jnp

from .. import nn
from .._errors import ContractError
from ..nn._checks import place


def cache_of(decoder: nn.TransformerStack) -> nn.KeyValueCache | None:
    """The cache of the first block; all blocks have one, or none has."""
    blocks = decoder.blocks
    block = blocks[0] if isinstance(blocks, list) else blocks
    assert isinstance(block, nn.TransformerBlock)
    assert isinstance(block.attention, nn.MultiHeadAttention)
    cache = block.attention.cache
    assert cache is None or isinstance(cache, nn.KeyValueCache)
    return cache


def places(decoder: nn.TransformerStack, time: int) -> jax.Array:
    """The places of new tokens, behind those in the caches of a decoder.

    Args:
        decoder: It may have caches.
        time: How many tokens are new in each text.

    Returns:
        Of shape `[time]`, or `[batch, time]` if each text has a position of its own.
    """
    new = jnp.arange(time, dtype=jnp.int32)
    cache = cache_of(decoder)
    if cache is None:
        return new
    # All blocks are at the same position.
    position = cache.position.value
    start = position[0] if decoder.is_scanned else position
    return start[:, None] + new[None, :] if start.ndim else start + new


def check_room(table: nn.Embedding, name: str, count: int) -> None:
    """Raise if there are more elements than a table has positions: beyond its end it would give NaN.

    Args:
        table: Of the positions; a field of a model.
        name: What is counted, for the message.
        count: How many there are.

    Raises:
        ContractError: There are more.
    """
    most = table.num_embeddings
    if count > most:
        raise ContractError(
            f"{place(table)}: {name}: expected at most {most}, as there are no more positions; found {count}"
        )
