"""What does not fit is refused before anything is read: all faults at once, and nothing is changed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphnode as gn
from tests.checkpoint.nets import Counter, Net, Stubborn, net, read, refused, same, tied, values, write


class Holder(gn.Node):
    state: gn.State


def holder(value: Any) -> Holder:
    return Holder(gn.State(value))


def tree(**fields: Any) -> dict[str, Any]:
    return {"model": net(), "step": 3, **fields}


class Other(gn.Node):
    """Fields like those of `Net`, and a class of its own."""

    enc: gn.nn.Linear
    dec: gn.nn.Linear
    rate: float = 0.1


class Silent(gn.Node):
    """No States."""


class Deep(gn.Node):
    inner: "Net | Silent | None" = None


# What was saved, what it is restored into, and the faults.
MISFITS: dict[str, tuple[Callable[[], Any], Callable[[], Any], list[str]]] = {
    "missing and unexpected": (
        lambda: {"model": net(), "old": 3},
        lambda: {"model": net(), "odd": 3, "more": [net().enc]},
        [
            "more.0.bias: missing in the checkpoint (ParamState float32[3] in the tree)",
            "more.0.weight: missing in the checkpoint (ParamState float32[2,3] in the tree)",
            "odd: missing in the checkpoint (PlainValue an int in the tree); "
            "the checkpoint has 'old', which the tree lacks",
            "old: unexpected: the tree lacks it (PlainValue an int in the checkpoint)",
        ],
    ),
    "shapes and static values": (
        net,
        lambda: net(4, rate=0.2),
        [
            "dec.bias: the tree has float32[4], the checkpoint float32[3]",
            "dec.out_features: the tree has 4, the checkpoint 3; allow_changed='dec.out_features' allows it",
            "dec.out_size: the tree has (4,), the checkpoint (3,); allow_changed='dec.out_size' allows it",
            "dec.weight: the tree has float32[2,4], the checkpoint float32[2,3]",
            "enc.bias: the tree has float32[4], the checkpoint float32[3]",
            "enc.out_features: the tree has 4, the checkpoint 3; allow_changed='enc.out_features' allows it",
            "enc.out_size: the tree has (4,), the checkpoint (3,); allow_changed='enc.out_size' allows it",
            "enc.weight: the tree has float32[2,4], the checkpoint float32[2,3]",
            "rate: the tree has 0.2, the checkpoint 0.1; allow_changed='rate' allows it",
        ],
    ),
    "one is not True": (
        lambda: net(rate=1),
        lambda: net(rate=True),
        ["rate: the tree has True, the checkpoint 1; allow_changed='rate' allows it"],
    ),
    "dtype": (
        lambda: holder(jnp.ones(2)),
        lambda: holder(jnp.ones(2, jnp.bfloat16)),
        ["state: the tree has bfloat16[2], the checkpoint float32[2]; cast=gn.PathIn('state') converts it"],
    ),
    "another kind of dtype": (
        lambda: holder(jnp.ones(2)),
        lambda: holder(jnp.ones(2, jnp.int32)),
        ["state: the tree has int32[2], the checkpoint float32[2]"],
    ),
    "kind of keys": (
        lambda: holder(jax.random.key(0, impl="rbg")),
        lambda: holder(jax.random.key(0, impl="unsafe_rbg")),
        ["state: the tree has key<unsafe_rbg>[], the checkpoint key<rbg>[]; make the keys of the tree with impl='rbg'"],
    ),
    "data of keys": (
        lambda: holder(jax.random.key(0)),
        lambda: holder(jax.random.key_data(jax.random.key(0))),
        ["state: the tree has uint32[2], the checkpoint key<threefry2x32>[]"],
    ),
    "number": (
        lambda: {"step": 3},
        lambda: {"step": 3.0},
        ["step: the tree has a float, the checkpoint an int"],
    ),
    "array for a number": (
        lambda: {"step": jnp.int32(3), "mean": np.ones(2, np.float32)},
        lambda: {"step": 3, "mean": jnp.ones(2)},
        [
            "mean: the tree has float32[2], the checkpoint numpy float32[2]",
            "step: the tree has an int, the checkpoint int32[]",
        ],
    ),
    "pytree": (
        lambda: holder({"a": jnp.ones(2), "b": (None, jnp.ones(1))}),
        lambda: holder({"a": jnp.ones(2), "b": [jnp.ones(1)]}),
        ["state: the tree has {a: *, b: [*]}, the checkpoint {a: *, b: (None, *)}"],
    ),
    "leaf of a pytree": (
        lambda: holder({"a": (jnp.ones(2),)}),
        lambda: holder({"a": (jnp.ones(3),)}),
        ["state.a.0: the tree has float32[3], the checkpoint float32[2]"],
    ),
    "class of a State": (
        lambda: {"x": gn.ParamState(jnp.ones(2))},
        lambda: {"x": gn.BatchState(jnp.ones(2))},
        ["x: the tree has BatchState, the checkpoint ParamState; allow_changed='x' allows it"],
    ),
    "class of a node": (
        lambda: {"model": net()},
        lambda: {"model": Other(net().enc, net().enc)},
        ["model: the tree has Other, the checkpoint Net; allow_changed='model' allows it"],
    ),
    "a node without States": (
        lambda: Deep(Silent()),
        lambda: Deep(),
        ["inner: the tree has nothing, the checkpoint a Silent"],
    ),
    "shared in the checkpoint": (
        tied,
        net,
        [
            "enc: the tree has a Linear of its own, the checkpoint the object at dec",
        ],
    ),
    "shared in the tree": (
        net,
        tied,
        ["enc: the tree has the object at dec, the checkpoint a Linear of its own"],
    ),
    "shared and nothing": (
        lambda: dict.fromkeys("ab", net().enc),
        lambda: {"a": net().enc},
        ["b: the tree has nothing, the checkpoint the object at a"],
    ),
    "an iterator": (
        lambda: {"data": Counter()},
        lambda: {"data": 3},
        ["data: the tree has PlainValue, the checkpoint IteratorState; allow_changed='data' allows it"],
    ),
    "a node for a tree": (
        lambda: {"model": net(), "step": 3},
        net,
        ["the tree is a Net, the checkpoint has model, step; pass a dict such as {'model': ...}"],
    ),
    "a tree for a node": (
        net,
        lambda: {"model": net()},
        ["the tree has model, the checkpoint is of a Net; pass the Net itself"],
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_told_and_changes_nothing(name: str, tmp_path: Path):
    """With its path, what the tree and the checkpoint have, and what would do."""
    saved, live, faults = MISFITS[name]
    gn.checkpoint.save(tmp_path / "run", saved())
    into = live()
    before = list(gn.states(into).items()) if isinstance(into, gn.Node) else []
    old = [state.value for _, state in before]
    start = "cannot restore from PATH/run: "
    lines = [start + faults[0]] if len(faults) == 1 else [f"{start}{len(faults)} faults:", *[f"  {f}" for f in faults]]
    with refused(*lines):
        gn.checkpoint.restore(tmp_path / "run", into)
    assert all(state.value is value for (_, state), value in zip(before, old, strict=True))


def test_what_is_named_may_differ(tmp_path: Path):
    """Static values, classes and dtypes, by paths, globs and filters."""
    model = net()
    gn.checkpoint.save(tmp_path / "run", {"model": model})
    live = {"model": Other(net().enc, net().dec, rate=0.3)}
    gn.checkpoint.restore(tmp_path / "run", live, allow_changed=["model", "**.rate"])
    assert same(values(live), values(model))
    assert live["model"].rate == 0.3
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), gn.treefy_states(model))
    low = {"model": gn.treefy_merge(gn.graphdef(model), half)}
    gn.checkpoint.restore(tmp_path / "run", low, cast=...)
    assert low["model"].enc.weight.value.dtype == jnp.bfloat16
    assert same(low["model"].enc.weight.value, model.enc.weight.value.astype(jnp.bfloat16))


def test_a_cast_of_integers_keeps_the_numbers(tmp_path: Path):
    """Or it is refused."""
    gn.checkpoint.save(tmp_path / "small", holder(jnp.int32(100)))
    gn.checkpoint.save(tmp_path / "large", holder(jnp.int32(300)))
    live = holder(jnp.int8(1))
    gn.checkpoint.restore(tmp_path / "small", live, cast=...)
    assert same(live.state.value, jnp.int8(100))
    with refused("cannot restore from PATH/large: state: cast= would change integers that do not fit"):
        gn.checkpoint.restore(tmp_path / "large", live, cast=...)
    assert same(live.state.value, jnp.int8(100))


def test_parts_are_restored_if_they_are_named(tmp_path: Path):
    """`only` leaves out the rest of both sides; what is missing or unexpected may be said."""
    saved = tree(old=gn.State(jnp.ones(1)))
    gn.checkpoint.save(tmp_path / "run", saved)
    live = tree(new=jnp.zeros(2))
    gn.checkpoint.restore(tmp_path / "run", live, only=gn.Under("model"))
    assert same(values(live["model"]), values(saved["model"]))
    live = tree(new=jnp.zeros(2), step=0)
    options: Any = {"allow_missing": gn.PathIn("new"), "allow_unexpected": gn.PathIn("old")}
    restored = gn.checkpoint.restore(tmp_path / "run", live, **options)
    assert restored["step"] == 3
    assert restored["new"] is live["new"]
    assert gn.checkpoint.restore(tmp_path / "run", live, only=lambda path, state: path == ("step",))["step"] == 3
    # A class is one of the file as well.
    live = {"model": net()}
    gn.checkpoint.restore(tmp_path / "run", live, only=gn.ParamState)
    with refused(
        "cannot restore from PATH/run: old: unexpected: the tree lacks it (State float32[1] in the checkpoint)"
    ):
        gn.checkpoint.restore(tmp_path / "run", live, only=gn.Not(gn.PathIn("step", missing_ok=True)))


def test_only_compares_what_it_selects(tmp_path: Path):
    """Another optimizer, or a rate elsewhere, does not matter; of what is selected, everything does."""
    gn.checkpoint.save(tmp_path / "run", {"model": net(), "head": net(4)})
    live = {"model": net(), "head": net(5)}
    gn.checkpoint.restore(tmp_path / "run", live, only=gn.Under("model"))
    with refused(
        "cannot restore from PATH/run: head.dec.bias: the tree has float32[5], the checkpoint float32[4]",
    ):
        only = gn.Any(gn.Under("model"), gn.PathIn("head.dec.bias"))
        changed = "head.dec.*"
        gn.checkpoint.restore(tmp_path / "run", live, only=only, allow_changed=changed)


def test_filters_are_checked(tmp_path: Path):
    """A path that leads nowhere; a function for a file."""
    gn.checkpoint.save(tmp_path / "run", {"model": net(), "old": 3})
    with pytest.raises(gn.FilterError, match="no State is at or below 'modle'"):
        gn.checkpoint.restore(tmp_path / "run", {"model": net()}, only=gn.Under("modle"))
    with pytest.raises(gn.FilterTypeError) as caught:
        gn.checkpoint.restore(tmp_path / "run", {"model": net()}, allow_unexpected=lambda path, state: True)
    expected = "allow_unexpected takes no function, as there is no State to show it: give a path or class"
    assert str(caught.value) == expected


def test_what_no_checkpoint_holds_is_refused(tmp_path: Path):
    """With all paths; nothing is written."""

    class Odd:
        def __repr__(self) -> str:
            return "Odd()"

    donated = jnp.ones(2)
    donated.delete()
    odd = {"model": holder({"a": Odd()}), "b": Odd(), "c": jax.ShapeDtypeStruct((2,), jnp.float32)}
    with refused(
        "cannot save to PATH/run: 2 faults:",
        "  b: a checkpoint holds arrays and numbers; found Odd Odd()",
        "  model.state: a checkpoint holds arrays and numbers; found Odd Odd()",
    ):
        gn.checkpoint.save(tmp_path / "run", {**odd, "d": donated})
    with refused(
        "cannot save to PATH/run: 2 faults:",
        "  c: a shape and dtype without a value",
        "  d: its memory was given away (donated), so that it has no value",
    ):
        gn.checkpoint.save(tmp_path / "run", {"c": odd["c"], "d": donated})
    with refused("cannot save to PATH/run: metadata is not JSON: Out of range float values are not JSON compliant..."):
        gn.checkpoint.save(tmp_path / "run", {}, metadata=[float("nan")])
    assert not list(tmp_path.iterdir())


def test_nothing_is_saved_or_restored_in_a_transformation(tmp_path: Path):
    """Its arrays have no values yet."""
    model = net()

    @gn.jit
    def step(model: Net) -> None:
        gn.checkpoint.save(tmp_path / "run", model)

    with pytest.raises(gn.TraceError, match="a transformation of JAX runs"):
        step(model)


def test_an_iterator_that_refuses_changes_nothing(tmp_path: Path):
    """Those before it go back to where they were, and no State is written."""
    gn.checkpoint.save(tmp_path / "run", {"a": Counter(3), "b": Counter(4), "model": net()})
    live: Any = {"a": Counter(1), "b": Stubborn(2), "model": net()}
    before = values(live["model"])
    with refused("cannot restore from PATH/run: b: Stubborn refuses the state that was saved: no way back"):
        gn.checkpoint.restore(tmp_path / "run", live)
    assert live["a"].at == 1
    assert all(new is old for new, old in zip(values(live["model"]), before, strict=True))


def test_a_manifest_that_lies_about_its_arrays_changes_nothing(tmp_path: Path):
    """The store would give them in whatever dtype it is asked for, and of the shape that it has."""
    gn.checkpoint.save(tmp_path / "run", {"a": jnp.ones(3), "b": jnp.ones(3), "model": net()})
    manifest = read(tmp_path / "run")
    manifest["states"][0]["dtype"] = "int32"
    write(tmp_path / "run", manifest)
    live = {"a": jnp.int32([1, 2, 3]), "b": jnp.ones(3), "model": net()}
    before = values(live["model"])
    with refused("cannot restore from PATH/run: a: its bytes are not those that were saved: the file is damaged"):
        gn.checkpoint.restore(tmp_path / "run", live)
    manifest["states"][0]["shape"] = [4]
    write(tmp_path / "run", manifest)
    with refused("cannot restore from PATH/run: a: the file of the array holds another one than the manifest says..."):
        gn.checkpoint.restore(tmp_path / "run", {**live, "a": jnp.int32([1, 2, 3, 4])})
    assert all(new is old for new, old in zip(values(live["model"]), before, strict=True))


# load


def test_load_says_where_a_node_is(tmp_path: Path):
    """Nothing there, a State there, another class, a path that does not parse."""
    gn.checkpoint.save(tmp_path / "run", {"model": net(), "step": 3})
    start = "cannot load from PATH/run: "
    with refused(f"{start}the root: there is no node; a Net is at model: pass at='model'"):
        gn.checkpoint.load(tmp_path / "run", Net)
    with refused(f"{start}modle: there is no node; did you mean 'model'?"):
        gn.checkpoint.load(tmp_path / "run", Net, at="modle")
    with refused(f"{start}step: there is a State, and not a node; a Net is at model: pass at='model'"):
        gn.checkpoint.load(tmp_path / "run", Net, at="step")
    with refused(f"{start}model: is a Net, not a Linear"):
        gn.checkpoint.load(tmp_path / "run", gn.nn.Linear, at="model")
    with refused(f"{start}at: path 'a b' does not parse..."):
        gn.checkpoint.load(tmp_path / "run", Net, at="a b")


def test_load_needs_what_the_file_does_not_say(tmp_path: Path):
    """An optimizer made by hand, and a pytree of a class of its own, are restored into live ones."""
    model = net()
    optimizer = gn.optim.Optimizer(model, optax.sgd(0.1, momentum=0.9))
    gn.checkpoint.save(tmp_path / "run", {"optimizer": optimizer})
    with refused(
        "cannot load from PATH/run: optimizer.tx: the file does not say what it is, a GradientTransformationExtraArgs; "
        "restore(...) into a live node, which has it; gn.optim.call makes transformations that files describe"
    ):
        gn.checkpoint.load(tmp_path / "run", gn.optim.Optimizer, at="optimizer")
    gn.checkpoint.restore(tmp_path / "run", {"optimizer": gn.optim.Optimizer(model, optax.sgd(0.3, momentum=0.9))})
    gn.checkpoint.save(tmp_path / "other", holder(optax.EmptyState()))
    with refused(
        "cannot load from PATH/other: state: holds a EmptyState, which a file alone does not say how to make; "
        "restore(...) into a live node"
    ):
        gn.checkpoint.load(tmp_path / "other", Holder)


def test_load_imports_nothing(tmp_path: Path):
    """A class that is not there is named, and stays where it is."""
    gn.checkpoint.save(tmp_path / "run", net())
    manifest = read(tmp_path / "run")
    name = f"{Net.__module__}.Net"
    manifest["graph"]["classes"] = ["antigravity.Net" if cls == name else cls for cls in manifest["graph"]["classes"]]
    write(tmp_path / "run", manifest)
    known = set(sys.modules)
    with refused(
        "cannot load from PATH/run: classes[0]: no class of nodes or States is 'antigravity.Net'; import it first"
    ):
        gn.checkpoint.load(tmp_path / "run", gn.Node)
    assert set(sys.modules) == known


def test_keys_of_an_unknown_kind_are_refused(tmp_path: Path):
    """The program may not have the implementation; and 64 bits need a setting."""
    gn.checkpoint.save(tmp_path / "run", {"model": holder(jax.random.key(0)), "wide": holder(jnp.ones(2))})
    manifest = read(tmp_path / "run")
    manifest["states"][0]["key"] = "dice"
    manifest["states"][1]["dtype"] = "float64"
    write(tmp_path / "run", manifest)
    with refused(
        "cannot load from PATH/run: model.state: there are no random keys of the implementation 'dice'",
    ):
        gn.checkpoint.load(tmp_path / "run", Holder, at="model")
    with refused(
        "cannot load from PATH/run: wide.state: JAX would turn float64 into float32: enable jax_enable_x64",
    ):
        gn.checkpoint.load(tmp_path / "run", Holder, at="wide")
