"""What cannot write."""

import jax
import jax.numpy as jnp

from graphnode import nn


class Reader(nn.Module):
    """It cannot be given a cache."""

    embed: nn.Embedding

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.embed(tokens)


prompt = jnp.array([[1, 2]])
nn.generate(Reader(nn.Embedding(8, 8)), prompt, 4)  # E: there is no init_cache
