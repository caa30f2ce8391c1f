"""What is restored is of the type of the tree, and what is loaded of the class that it is loaded as."""

import tempfile
from pathlib import Path
from typing import Any, assert_type

import jax
import optax

import graphnode as gn


class Run(gn.Node):
    model: gn.nn.Linear
    optimizer: gn.optim.Optimizer


class Batches:
    def get_state(self) -> dict[str, int]:
        return {}

    def set_state(self, state: dict[str, int]) -> None: ...


model = gn.nn.Linear(2, 3)
optimizer = gn.optim.Optimizer(model, gn.optim.call(optax.sgd, 0.1))
run = Run(model, optimizer)

with tempfile.TemporaryDirectory() as folder:
    whole, parts = f"{folder}/whole", Path(folder, "parts")
    gn.checkpoint.save(whole, run)
    gn.checkpoint.save(parts, {"model": model})
    tree = {"model": model, "data": Batches(), "step": 3}
    gn.checkpoint.save(parts, tree, metadata={"loss": 0.1}, overwrite=True)

    assert_type(gn.checkpoint.load(whole, Run), Run)
    assert_type(gn.checkpoint.load(parts, gn.nn.Linear, at="model"), gn.nn.Linear)
    assert_type(gn.checkpoint.load(parts, gn.nn.Linear, at=("model",)), gn.nn.Linear)
    assert_type(gn.checkpoint.restore(whole, run), Run)
    gn.checkpoint.save(f"{folder}/pair", (run, model))
    assert_type(gn.checkpoint.restore(f"{folder}/pair", (run, model)), tuple[Run, gn.nn.Linear])
    restored: dict[str, Any] = gn.checkpoint.restore(parts, {"model": model}, only=gn.Under("model"))

    gn.checkpoint.restore(
        whole, run, only=gn.ParamState, cast=..., allow_missing=[gn.BatchState, gn.PathIn("model.bias")]
    )
    gn.checkpoint.restore(whole, run, only=lambda path, state: path[0] == "model", allow_changed="**.rate")
    one = jax.NamedSharding(jax.make_mesh((1,), ("x",)), jax.P())
    gn.checkpoint.restore(whole, run, shardings={"**.weight": one})
    gn.checkpoint.restore(whole, run, shardings=one)
    assert_type(gn.checkpoint.manifest(whole), gn.checkpoint.Manifest)
