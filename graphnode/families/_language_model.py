"""`LanguageModel`, the base of models that say what follows on texts."""

from typing import TypeAlias

import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from .. import nn
from .._fields import subnode

Tokens: TypeAlias = Int[Array, "batch time"]
Logits: TypeAlias = Float[Array, "batch time vocab_size"]
Features: TypeAlias = Float[Array, "batch time width"]


class LanguageModel(nn.Module):
    """An embedding, a stack of blocks, and a head, which may be the embedding once more.

    Example:
        >>> issubclass(gn.families.Llama, gn.families.LanguageModel)
        True
    """

    vocab_size: int
    """Number of tokens."""
    width: int
    """Features of each element."""
    embedding: nn.Embedding = subnode(init=False)
    """From tokens to features."""
    decoder: nn.TransformerStack = subnode(init=False)
    """The blocks, and the norm behind them."""
    head: nn.Linear | None = subnode(init=False)
    """From features to logits, if it is not the embedding."""

    def _make_ends(self, *, is_tied: bool, param_dtype: DTypeLike) -> None:
        """Make embedding and head."""
        sizes = (self.vocab_size, self.width)
        self.embedding = nn.Embedding(*sizes, param_dtype=param_dtype)
        self.head = None
        if not is_tied:
            sizes = (self.width, self.vocab_size)
            self.head = nn.Linear(*sizes, use_bias=False, param_dtype=param_dtype)

    def _set_decoder(self, decoder: nn.TransformerStack) -> None:
        """Set the blocks: here, as a checker of a package's types takes an assignment in a subclass for a new field."""
        self.decoder = decoder

    def init_cache(
        self,
        batch_size: int,
        length: int,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> None:
        """Give all layers empty caches: from then on, a call continues the texts.

        Args:
            batch_size: Number of texts.
            length: How many tokens there is room for in each.
            dtype: Of what is kept; by default that of the parameters.
            ragged: Whether each text has a position of its own.
        """
        self.decoder.init_cache(batch_size, length, dtype, ragged=ragged)

    def __call__(self, tokens: Tokens, *, lengths: jax.Array | None = None) -> Logits:
        """The logits of what follows each token.

        Args:
            tokens: Of shape `[batch, time]`.
            lengths: How many of the tokens of each text count, the first ones; of shape
                `[batch]`.
        """
        x = self.decoder(self.embedding(tokens), lengths=lengths)
        return self._logits(x)

    def _logits(self, x: Features) -> Logits:
        """By the head, or the embedding."""
        return self.embedding.attend(x) if self.head is None else self.head(x)
