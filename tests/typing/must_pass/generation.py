"""Models that write: `gn.nn.generate` takes any node with `init_cache`, whatever else its call takes."""

from typing import assert_type

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

import graphnode as gn
from graphnode import nn


class Writer(nn.Module):
    """Its call takes lengths and a context."""

    embed: nn.Embedding

    def init_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None, *, ragged: bool = False
    ) -> None: ...

    def __call__(
        self, tokens: jax.Array, context: jax.Array | None = None, *, lengths: jax.Array | None = None
    ) -> jax.Array:
        return self.embed(tokens)


writer = Writer(nn.Embedding(8, 8))
prompt = jnp.array([[1, 2]])
texts = nn.generate(writer, prompt, 4, key=jax.random.key(0), stop_tokens=[3], inputs={"context": jnp.ones((1, 2))})
assert_type(texts, nn.Generated)
assert_type(texts.tokens, jax.Array)
assert_type(nn.sample(jnp.ones(3), jax.random.key(0), temperature=jnp.ones(())), jax.Array)


@gn.jit
def write(model: Writer, prompt: jax.Array) -> nn.Generated:
    return nn.generate(model, prompt, 4)


assert_type(write(writer, prompt), nn.Generated)
decoder: nn.Decoder = writer
