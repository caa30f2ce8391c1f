"""What is restored is of the type of the tree, and what is loaded of the class that it is loaded as."""

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
run = Run(model, gn.optim.Optimizer(model, optax.sgd(0.1)))

gn.checkpoint.save("run", run)
gn.checkpoint.save(Path("run"), {"model": model, "data": Batches()}, metadata={"loss": 0.1}, overwrite=True)

assert_type(gn.checkpoint.load("run", Run), Run)
assert_type(gn.checkpoint.load(Path("run"), gn.nn.Linear, at="model"), gn.nn.Linear)
assert_type(gn.checkpoint.load("run", gn.nn.Linear, at=("model",)), gn.nn.Linear)
assert_type(gn.checkpoint.restore("run", run), Run)
assert_type(gn.checkpoint.restore("run", (run, 3)), tuple[Run, int])
restored: dict[str, Any] = gn.checkpoint.restore("run", {"model": model, "step": 3}, only=gn.Under("model"))

gn.checkpoint.restore("run", run, only=gn.ParamState, cast=..., allow_missing=[gn.BatchState, gn.PathIn("a")])
gn.checkpoint.restore("run", run, only=lambda path, state: path[0] == "model", allow_changed="**.rate")
gn.checkpoint.restore("run", run, shardings={"**.weight": jax.NamedSharding(jax.make_mesh((1,), ("x",)), jax.P())})
assert_type(gn.checkpoint.manifest("run"), gn.checkpoint.Manifest)
