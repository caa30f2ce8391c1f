"""The tree of the checkpoints that are kept in `kept/`, one for each format, and the program that writes a new one.

python -m tests.checkpoint.kept_tree 1
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import graphnode as gn
from tests.checkpoint.nets import Counter, Net


def kept_tree(seed: int) -> dict[str, Any]:
    """A tree with one of everything; `seed` decides the values alone."""
    layer = gn.nn.Linear(2, 3)
    numbers = jnp.arange(6, dtype=jnp.float32).reshape(2, 3) * seed
    layer.weight.value = numbers
    gn.update_states(layer, {"bias": numbers[0]})
    return {
        "model": Net(layer, layer),
        "rngs": gn.Rngs(seed),
        "cache": {"x": gn.ShortTermState({"a": (numbers, None), "b": [seed, 0.5 * seed]}, tag="kept")},
        "data": Counter(seed),
        "step": seed,
        "array": (numbers - 1).astype(jnp.bfloat16),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 2),
        "empty": jnp.zeros((0, 3)),
        "weak": jnp.asarray(float(seed)),
    }


if __name__ == "__main__":
    gn.checkpoint.save(Path(__file__).parent / "kept" / sys.argv[1], kept_tree(1), metadata={"kept": True})
