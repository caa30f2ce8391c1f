"""`was=`: fields and classes that had other names, which a checkpoint may still have."""

import json
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphnode as gn
from graphnode.checkpoint import Drop, Rename
from tests.checkpoint.nets import read, refused, same, values, write

normal = jax.nn.initializers.normal()


def weight(**options: Any) -> Any:
    return gn.state(normal, shape=lambda self: (2, 3), **options)


class OldLayer(gn.Node):
    """As it was saved."""

    kernel: gn.ParamState[Any] = weight()
    rate: float = 0.1
    spare: gn.nn.Linear | None = None


class Layer(gn.Node, was=("OldLayer", "Former")):
    """As it is."""

    weight: gn.ParamState[Any] = weight(was=("w", "kernel"))
    dropout: float = gn.static(default=0.1, was="rate")
    extra: gn.nn.Linear | None = gn.subnode(default=None, was="spare")


class OldNet(gn.Node):
    """As it was saved."""

    blocks: list[OldLayer] = gn.subnode(factory=lambda self: [OldLayer(), OldLayer()])


class Net(gn.Node, was=("Nett", "tests.checkpoint.test_was.OldNet")):
    """As it is."""

    layers: list[Layer] = gn.subnode(factory=lambda self: [Layer(), Layer()], was="blocks")


class Earlier(gn.Node):
    """As it was saved."""

    kernel: gn.ParamState[Any] = weight()
    rate: float = 0.1


class Later(gn.Node, was=("Earlier", "Before")):
    """As it is: a field has another name, and one is new."""

    weight: gn.ParamState[Any] = weight(was="kernel")
    dropout: float = gn.static(default=0.5, was="rate")
    axes: str | None = None


class Both(gn.Node, was="Halves"):
    """Its field has two former names."""

    c: gn.ParamState[Any] = weight(was=("a", "b"))


class Halves(gn.Node):
    """As it was saved."""

    a: gn.ParamState[Any] = weight()
    b: gn.ParamState[Any] = weight()


def run(model: Any, seed: int) -> dict[str, Any]:
    """A model, and an optimizer that remembers something."""
    optimizer = gn.optim.Optimizer(model, optax.sgd(0.1, momentum=0.9))
    rng = np.random.default_rng(seed)
    for state in gn.states(optimizer, gn.optim.OptimizerState).values():
        state.value = jnp.asarray(rng.integers(0, 99, state.value.shape), state.value.dtype)
    return {"model": model, "optimizer": optimizer}


def test_a_file_of_the_old_names_is_restored(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Fields of States, nodes and static values, classes, and the memory of the optimizer; and all of it is told."""
    old, new = run(OldNet(), 0), run(Net(), 1)
    gn.checkpoint.save(tmp_path / "run", old)
    reports: list[gn.checkpoint.Report] = []
    with caplog.at_level(logging.INFO, logger="graphnode"):
        gn.checkpoint.restore(tmp_path / "run", new, allow_changed="optimizer.tx", report=reports.append)
    for name in ("model", "optimizer"):
        assert same(values(new[name]), values(old[name]))
    assert str(reports[0]).splitlines() == [
        "model.layers.0.weight                     <- model.blocks.0.kernel                     rename",
        "model.layers.1.weight                     <- model.blocks.1.kernel                     rename",
        "optimizer.memory.0.trace.layers.0.weight  <- optimizer.memory.0.trace.blocks.0.kernel  rename",
        "optimizer.memory.0.trace.layers.1.weight  <- optimizer.memory.0.trace.blocks.1.kernel  rename",
        "optimizer.steps                           <- optimizer.steps",
        "model.layers.0.dropout                    <- model.blocks.0.rate                       rename",
        "model.layers.1.dropout                    <- model.blocks.1.rate                       rename",
        "model: OldNet is Net now",
        "model.layers.0: OldLayer is Layer now",
        "model.layers.1: OldLayer is Layer now",
    ]
    (record,) = [record for record in caplog.records if record.name == "graphnode"]
    assert record.getMessage().endswith(f"/run\n{reports[0]}")


def test_a_file_of_the_old_names_is_loaded(tmp_path: Path):
    """As new nodes of the new classes, without a live one."""
    old = OldNet()
    old.blocks[1].rate = 0.5
    gn.checkpoint.save(tmp_path / "net", {"model": old})
    # Of a class that the program still has, that is taken.
    with refused("cannot load from PATH/net: 2 faults:", "  tokens[1]: OldLayer is not a Layer", "..."):
        gn.checkpoint.load(tmp_path / "net", Net, at="model")
    manifest = json.dumps(read(tmp_path / "net"))
    write(tmp_path / "net", json.loads(manifest.replace("OldLayer", "Former")))
    loaded = gn.checkpoint.load(tmp_path / "net", Net, at="model")
    assert type(loaded) is Net
    assert [type(layer) for layer in loaded.layers] == [Layer, Layer]
    assert [(layer.dropout, layer.extra) for layer in loaded.layers] == [(0.1, None), (0.5, None)]
    assert same(values(loaded), values(old))


def test_a_file_of_the_new_names_is_as_ever(tmp_path: Path):
    """The former names do nothing then, and nothing is reported."""
    first, second = Net(), Net()
    gn.checkpoint.save(tmp_path / "net", first)
    gn.checkpoint.restore(tmp_path / "net", second, report=lambda report: pytest.fail(str(report)))
    assert same(values(second), values(first))


def test_a_static_value_that_differs_is_a_fault_under_its_new_name(tmp_path: Path):
    """As it is without a former name."""
    gn.checkpoint.save(tmp_path / "layer", OldLayer(rate=0.5))
    with refused(
        "cannot restore from PATH/layer: dropout: the tree has 0.1, the checkpoint 0.5; "
        "allow_changed='dropout' allows it"
    ):
        gn.checkpoint.restore(tmp_path / "layer", Layer())


def test_two_names_for_one_field_are_a_fault(tmp_path: Path):
    """The new one and a former one, or two former ones: a change says which is meant."""
    halves, both = Halves(), Both()
    gn.checkpoint.save(tmp_path / "halves", halves)
    with refused(
        "cannot restore from PATH/halves: 4 faults:",
        "  a: nothing uses it (float32[2,3])",
        "  b: nothing uses it (float32[2,3])",
        "  c: the file has 'a' and 'b', which are one field now; leave out one by Drop",
        "  c: nothing is for it (ParamState float32[2,3] in the tree)",
    ):
        gn.checkpoint.restore(tmp_path / "halves", both)
    with refused(
        "cannot restore from PATH/halves: 2 faults:",
        "  a: nothing uses it (float32[2,3], from b)",
        "  c: the file has 'c' and 'a', which are one field now; leave out one by Drop",
    ):
        changes = [Rename("a", "c"), Rename("b", "a")]
        gn.checkpoint.restore(tmp_path / "halves", both, changes=changes)
    gn.checkpoint.restore(tmp_path / "halves", both, changes=[Drop("a")])
    assert same(both.c.value, halves.b.value)


def test_changes_come_first(tmp_path: Path):
    """A former name counts for what is still missing after them."""
    old, net = OldNet(), Net()
    gn.checkpoint.save(tmp_path / "net", {"m": old})
    changes = [Rename("m.**", "n.**"), Rename("n.blocks.0.kernel", "n.blocks.0.w")]
    gn.checkpoint.restore(tmp_path / "net", {"n": net}, changes=changes)
    assert same(values(net), values(old))


@pytest.mark.parametrize("specifier", [gn.static, gn.state, gn.subnode])
def test_what_is_no_name_is_refused(specifier: Any):
    """Where the field is declared."""
    with pytest.raises(gn.FieldError) as caught:
        specifier(was=["a b"])
    name = specifier.__name__
    assert str(caught.value) == f"gn.{name}: was= takes the name that it had before, or several; found 'a b'"


def test_a_class_says_what_it_was():
    """Not a name is refused, and a subclass has no former name of its parent."""
    with pytest.raises(gn.FieldError) as caught:

        class Wrong(gn.Node, was="a-b"):
            pass

    assert str(caught.value) == "class Wrong: was= takes the name that it had before, or several; found 'a-b'"

    class Child(Layer):
        pass

    assert "_was" not in Child.__dict__


def test_a_new_field_beside_a_renamed_one(tmp_path: Path):
    """A new static field has its default; that of a renamed one does not come before the value of the file."""
    path = tmp_path / "layer"
    gn.checkpoint.save(path, {"layer": Earlier(rate=0.25)})
    gn.checkpoint.restore(path, {"layer": Later(dropout=0.25)})
    with refused("cannot restore from PATH/layer: layer.dropout: the tree has 0.5, the checkpoint 0.25..."):
        gn.checkpoint.restore(path, {"layer": Later()})
    write(path, json.loads(json.dumps(read(path)).replace("Earlier", "Before")))
    loaded = gn.checkpoint.load(path, Later, at="layer")
    assert (loaded.dropout, loaded.axes) == (0.25, None)
