"""Write what `test_old_pickles` reads: one file for each kind of object that a pickle may hold.

    python -m tests.pickles.write tests/pickles/0.1

Files are written once, by the version that their folder is named after, and stay: what a user has saved has to load.
"""

import pickle
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import graphnode as gn
from graphnode import nn


def samples() -> dict[str, Any]:
    """The objects, by the names of their files; the same ones in every version."""
    block = _block()
    model = nn.Linear(2, 3)
    model.weight.value = jnp.arange(6.0).reshape(2, 3)
    optimizer = gn.optim.Optimizer(
        model, gn.optim.call(optax.adam, 1e-3), wrt=gn.All(gn.ParamState, gn.Under("weight"))
    )
    return {
        "model": block,
        "graphdef": gn.graphdef(block),
        "state_tree": gn.treefy_states(model),
        "flat_states": gn.states(model),
        "state": model.weight,
        "classes": (gn.State, gn.ParamState, gn.BatchState, gn.RngKey, nn.Linear, gn.Node),
        "optimizer": (model, optimizer),
        "filters": (gn.OfType(gn.ParamState), gn.Any(gn.PathContains("a"), gn.Not(gn.PathIn("b.*"))), gn.Under("c")),
        "streams": gn.Rngs(0, dropout=1),
        "config": gn.config.to_config(model),
        "difference": gn.diff(gn.graphdef(model), gn.graphdef(nn.Linear(2, 4))),
    }


def _block() -> nn.TransformerBlock:
    block = nn.TransformerBlock(4, 2)
    # Not drawn: what a stream gives may change from version to version.
    gn.update_states(block, jax.tree.map(jnp.ones_like, gn.treefy_states(block, gn.ParamState)))
    return block


def write(folder: Path) -> None:
    """Write all that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in samples().items():
        path = folder / f"{name}.pickle"
        if not path.exists():
            path.write_bytes(pickle.dumps(value, protocol=4))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
