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
        whole, run, only=gn.ParamState, cast=..., allow_missing=gn.Any(gn.BatchState, gn.PathIn("model.bias"))
    )
    gn.checkpoint.restore(whole, run, only=lambda path, state: path[0] == "model", allow_changed="**.rate")
    one = jax.NamedSharding(jax.make_mesh((1,), ("x",)), jax.P())  # type: ignore[no-untyped-call]
    gn.checkpoint.restore(whole, run, shardings={"**.weight": one})
    gn.checkpoint.restore(whole, run, shardings=one)
    assert_type(gn.checkpoint.manifest(whole), gn.checkpoint.Manifest)

    # Changes
    rename, turned = gn.checkpoint.Rename("model.**", "m.**"), gn.checkpoint.Transpose("m.weight")
    changes = gn.checkpoint.Changes([rename, turned, gn.checkpoint.Cast("**", jax.numpy.float32, before="float32")])
    assert_type(changes[0], gn.checkpoint.Change)
    assert_type(changes[1:], gn.checkpoint.Changes)
    assert_type(changes + [rename], gn.checkpoint.Changes)
    assert_type(changes.inverse(), gn.checkpoint.Changes)
    assert_type(gn.checkpoint.Changes.from_json(changes.to_json()), gn.checkpoint.Changes)
    assert_type(rename.inverted(), gn.checkpoint.Rename)
    there_and_back = [*changes, *changes.inverse()]
    reports: list[gn.checkpoint.Report] = []
    assert_type(gn.checkpoint.restore(whole, run, changes=there_and_back, report=reports.append), Run)
    assert_type(gn.checkpoint.load(whole, Run, changes=there_and_back, report=print), Run)
    report = gn.checkpoint.write(model, f"{folder}/model.npz", changes=[gn.checkpoint.Rename("bias", "b")])
    assert_type(report, gn.checkpoint.Report)
    read = gn.checkpoint.read(f"{folder}/model.npz", into=model, allow_unused="b", allow_missing=gn.PathIn("bias"))
    assert_type(read, gn.checkpoint.Report)


class Former(gn.Node, was=("Older", "Oldest")):
    width: int = gn.static(default=3, was="size")
    weight: gn.ParamState = gn.state(jax.nn.initializers.zeros, shape=lambda self: (3,), was=["kernel", "w"])
    head: gn.nn.Linear | None = gn.subnode(default=None, was="top")


assert_type(Former(width=2).head, gn.nn.Linear | None)
