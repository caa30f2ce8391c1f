"""What is saved comes back: values to the bit, sharing, static values, into live nodes and as new ones."""

import dataclasses
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphnode as gn
from graphnode.checkpoint._leaf import DTYPES
from tests.checkpoint.nets import Counter, Net, net, refused, same, tied, values
from tests.properties.strategies import Item, World, worlds


def cleared(node: Any) -> Any:
    """A copy with other values: what a restore has to replace."""
    copy = gn.clone(node)
    for state in gn.states(copy).values():
        state.value = jax.tree.map(lambda leaf: leaf * 0 if isinstance(leaf, jax.Array) else leaf, state.value)
    return copy


def test_a_model_comes_back_into_a_live_one(tmp_path: Path):
    """The same nodes and States, with the values that were saved."""
    model, other = net(), cleared(net())
    gn.checkpoint.save(tmp_path / "net", model)
    states = gn.states(other)
    assert gn.checkpoint.restore(tmp_path / "net", other) is other
    assert gn.states(other) == states
    assert same(values(other), values(model))


def test_a_run_comes_back(tmp_path: Path):
    """Model, optimizer, streams, data iterator, numbers and arrays: whatever trains, in one tree."""

    def run(seed: int) -> dict[str, Any]:
        with gn.random.scope(seed):
            model = net()
        optimizer = gn.optim.Optimizer(model, optax.sgd(0.1, momentum=0.9))
        optimizer.update(model, jax.tree.map(jnp.ones_like, gn.treefy_states(model, gn.ParamState)))
        rest = {"step": seed, "lr": 0.1 * seed, "data": Counter(seed), "mean": jnp.full(2, float(seed)), "none": None}
        return {"model": model, "optimizer": optimizer, "rngs": gn.Rngs(seed), **rest}

    saved, live = run(1), run(2)
    gn.checkpoint.save(tmp_path / "run", saved)
    restored = gn.checkpoint.restore(tmp_path / "run", live)
    for name in ("model", "optimizer", "rngs"):
        assert restored[name] is live[name]
        assert same(values(live[name]), values(saved[name]))
    assert restored["data"] is live["data"]
    assert live["data"].at == 1
    assert (restored["step"], restored["lr"], restored["none"]) == (1, 0.1, None)
    assert same(restored["mean"], saved["mean"])
    # What is plain is new, and the tree that was passed is as it was.
    assert live["step"] == 2


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Point:
    x: Any
    y: Any


SPECIAL: dict[str, Any] = {
    "key": lambda: jax.random.key(3),
    "rbg": lambda: jax.random.key(3, impl="rbg"),
    "keys": lambda: jax.random.split(jax.random.key(3), (2, 3)),
    "no keys": lambda: jax.random.split(jax.random.key(3), 0),
    "weak": lambda: jnp.asarray(3.0),
    "no items": lambda: jnp.zeros((0, 3), jnp.bfloat16),
    "nan": lambda: np.array([np.nan, -0.0, np.inf], np.float32),
    "int": lambda: -(2**70),
    "bool": lambda: True,
    "float": lambda: -0.0,
    "nan number": lambda: float("nan"),
    "complex": lambda: complex(float("inf"), -0.0),
    "text": lambda: "é\n\x00",
    "bytes": lambda: b"\x00\xff",
    "none": lambda: None,
    "pytree": lambda: ({"b": (jnp.ones(2), [None, 3]), "a": {}}),
    "named tuple": lambda: Pair(jnp.ones(2), {"x": jnp.zeros(1)}),
    "dataclass": lambda: Point(jnp.ones(2), 3),
    "numpy scalar": lambda: np.float32(3.5),
    "numpy": lambda: np.arange(6, dtype=np.float64).reshape(2, 3).T,
}


def special(name: str) -> Any:
    value = SPECIAL[name]()
    return jnp.asarray(value) if name == "nan" else value


# A State takes arrays of NumPy as those of JAX; in the tree itself they stay what they are.
IN_STATES = [name for name in SPECIAL if not name.startswith("numpy")]


class Holder(gn.Node):
    state: gn.State


@pytest.mark.parametrize("name", IN_STATES)
def test_special_values_come_back_in_states(name: str, tmp_path: Path):
    """Keys with their implementation, weak dtypes, NaN and its like, empty arrays, numbers, pytrees."""
    node = Holder(gn.State(special(name)))
    gn.checkpoint.save(tmp_path / "state", node)
    live = Holder(gn.State(jax.tree.map(lambda leaf: leaf, special(name))))
    gn.checkpoint.restore(tmp_path / "state", live)
    assert same(live.state.value, special(name))
    if name not in ("named tuple", "dataclass"):
        assert same(gn.checkpoint.load(tmp_path / "state", Holder).state.value, special(name))


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values_come_back_in_the_tree(name: str, tmp_path: Path):
    """The same for what stands in the tree itself."""
    gn.checkpoint.save(tmp_path / "tree", {"value": special(name), "list": [special(name)]})
    live = {"value": special(name), "list": [special(name)]}
    assert same(gn.checkpoint.restore(tmp_path / "tree", live), live)


def test_every_dtype_comes_back(tmp_path: Path):
    """Of JAX and of NumPy, also those that the store does not know."""
    numbers = np.arange(6).reshape(2, 3) % 2
    arrays = {f"numpy {name}": numbers.astype(dtype) for name, dtype in DTYPES.items()}
    small = {name for name in DTYPES if jax.dtypes.canonicalize_dtype(DTYPES[name]) == DTYPES[name]}
    tree = arrays | {name: jnp.asarray(arrays[f"numpy {name}"]) for name in small}
    assert {"bfloat16", "float8_e4m3fn", "float8_e4m3", "int4", "uint4", "bool", "complex64"} <= small
    gn.checkpoint.save(tmp_path / "dtypes", tree)
    restored = gn.checkpoint.restore(tmp_path / "dtypes", tree)
    assert same(restored, tree)
    assert restored["int4"].dtype == ml_dtypes.int4


@pytest.mark.parametrize("name", ["dict", "list", "tuple", "dataclass", "odd keys", "state", "array", "empty"])
def test_trees_of_any_container(name: str, tmp_path: Path):
    """The containers of a tree count by their keys."""
    make: dict[str, Any] = {
        "dict": lambda: {"b": net(), "a": {"x": net(), "y": 3}},
        "list": lambda: [net(), [net(), 3]],
        "tuple": lambda: (net(), 3),
        "dataclass": lambda: Point(net(), Pair(3, net())),
        "odd keys": lambda: {"a.b": net(), "0": 3, "": {"é *": net()}, "/": [4]},
        "state": lambda: gn.ParamState(jnp.ones(2)),
        "array": lambda: jnp.ones(2),
        "empty": dict,
    }
    gn.checkpoint.save(tmp_path / "tree", make[name]())
    with gn.random.scope(7):
        live = make[name]()
    restored = gn.checkpoint.restore(tmp_path / "tree", live)
    assert str(jax.tree.structure(restored)) == str(jax.tree.structure(live))


def test_load_gives_the_tied_node_without_its_constructor(tmp_path: Path):
    """Sharing comes back, the class is the one that was saved, and no constructor has run."""
    model = tied()
    gn.checkpoint.save(tmp_path / "run", {"model": model, "step": 3})
    before = Net.constructed
    loaded = gn.checkpoint.load(tmp_path / "run", Net, at="model")
    assert Net.constructed == before
    assert loaded.enc is loaded.dec
    assert loaded.enc is not model.enc
    assert gn.graphdef(loaded) is gn.graphdef(model)
    assert same(values(loaded), values(model))
    assert same(values(gn.checkpoint.load(tmp_path / "run", gn.Node, at=("model", "dec"))), values(model.dec))


def test_load_of_what_several_parts_share(tmp_path: Path):
    """A node that refers to States of another part has them all, whatever path they have in the file."""
    model = net()
    gn.checkpoint.save(tmp_path / "run", {"a": [model.enc], "model": model})
    loaded = gn.checkpoint.load(tmp_path / "run", Net, at="model")
    assert same(values(loaded), values(model))
    live = net()
    gn.checkpoint.restore(tmp_path / "run", {"model": live}, only=gn.Under("model"))
    assert same(values(live), values(model))


def test_an_optimizer_of_calls_is_loaded_and_goes_on(tmp_path: Path):
    """It says what it is made of; the next step is that of the optimizer that was saved."""
    model = net()
    optimizer = gn.optim.Optimizer(model, gn.optim.call(optax.sgd, 0.1, momentum=0.9))
    grads = jax.tree.map(jnp.ones_like, gn.treefy_states(model, gn.ParamState))
    optimizer.update(model, grads)
    gn.checkpoint.save(tmp_path / "run", {"model": model, "optimizer": optimizer})
    copy = gn.checkpoint.load(tmp_path / "run", Net, at="model")
    loaded = gn.checkpoint.load(tmp_path / "run", gn.optim.Optimizer, at="optimizer")
    assert gn.graphdef(loaded) is gn.graphdef(optimizer)
    optimizer.update(model, grads)
    loaded.update(copy, grads)
    assert same(values(copy), values(model))


def test_values_of_shapes_alone_are_filled(tmp_path: Path):
    """A model that was never made: the values take the place of shapes and dtypes."""
    model = net()
    gn.checkpoint.save(tmp_path / "net", model)
    abstract = gn.eval_shape(net)
    gn.checkpoint.restore(tmp_path / "net", abstract)
    assert same(values(abstract), values(model))


def test_an_array_whose_memory_has_gone_is_replaced(tmp_path: Path):
    """After a step that has failed, with what it was given to work in."""
    model, live = net(), net()
    gn.checkpoint.save(tmp_path / "net", {"model": model, "x": jnp.ones(2)})
    gone = jnp.zeros(2)
    for array in (gone, live.enc.weight.value):
        array.delete()
    restored = gn.checkpoint.restore(tmp_path / "net", {"model": live, "x": gone})
    assert same(values(live), values(model))
    assert same(restored["x"], jnp.ones(2))


def test_a_restored_array_is_where_the_live_one_was(tmp_path: Path):
    """On no device of its own if the live one was not; so nothing is compiled again."""
    model, live = net(), net()
    live.enc.weight.value = jax.device_put(live.enc.weight.value, jax.devices()[0])
    gn.checkpoint.save(tmp_path / "net", model)
    gn.checkpoint.restore(tmp_path / "net", live)
    assert live.enc.weight.value.committed
    assert not live.dec.weight.value.committed


def test_large_arrays_come_back_as_small_ones_do(tmp_path: Path):
    """They are read another way; also one with a weak dtype, and one that was on a device of its own."""
    large = jnp.arange(2**17, dtype=jnp.float32)
    tree = {"large": large, "weak": jnp.full(2**17, 3.0), "placed": jax.device_put(large, jax.devices()[0])}
    gn.checkpoint.save(tmp_path / "large", tree)
    restored = gn.checkpoint.restore(tmp_path / "large", tree)
    assert same(restored, tree)
    assert [restored[name].committed for name in tree] == [False, False, True]


def test_a_generator_of_numpy_is_a_data_iterator(tmp_path: Path):
    """Its state has an array and numbers of several types."""
    generator, other = np.random.RandomState(3), np.random.RandomState(4)
    gn.checkpoint.save(tmp_path / "data", {"data": generator})
    gn.checkpoint.restore(tmp_path / "data", {"data": other})
    assert other.rand() == generator.rand()


def test_metadata_and_versions_are_kept(tmp_path: Path):
    """What the program has added is read without the model."""
    metadata = {"loss": 0.5, "tags": ["a", None], "é": True}
    gn.checkpoint.save(tmp_path / "net", net(), metadata=metadata)
    manifest = gn.checkpoint.manifest(tmp_path / "net")
    assert manifest.metadata == metadata
    assert manifest.versions == {"graphnode": gn.__version__, "jax": jax.__version__}
    rows = dict(manifest.fields)["graphnode.nn.Linear"]
    assert ("weight", "state", 'Inexact[Array, "in_features out_features"]') in rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(world=worlds(), rng=st.randoms(use_true_random=False))
def test_any_graph_comes_back(world: World, rng: random.Random, tmp_path_factory: pytest.TempPathFactory):
    """Shared, cyclic, nested, unset: as a new graph of the same structure, and into a live one."""
    folder = tmp_path_factory.mktemp("graph") / "checkpoint"
    for at, state in enumerate(gn.states(world.nodes).values()):
        state.value = state.value + at + 1
    tree = {f"n{at}": node for at, node in enumerate(world.nodes)}
    gn.checkpoint.save(folder, tree)
    live = cleared(tree)
    gn.checkpoint.restore(folder, live)
    assert same(values(live), values(tree))
    for name, node in tree.items():
        loaded = gn.checkpoint.load(folder, gn.Node, at=name)
        assert gn.graphdef(loaded) is gn.graphdef(node)
        assert same(values(loaded), values(node))
    assert isinstance(world.nodes[0], Item)


def test_a_configuration_is_kept_as_text(tmp_path: Path):
    """By a single checkpoint, and by the steps of a run; nothing else is taken for one."""
    text = "width: 3  # é\n"
    gn.checkpoint.save(tmp_path / "net", net(), config=text)
    assert gn.checkpoint.manifest(tmp_path / "net").config == text
    with gn.checkpoint.Checkpointer(tmp_path / "run") as checkpoints:
        checkpoints.save(3, net(), config=text)
    assert gn.checkpoint.manifest(tmp_path / "run" / "3").config == text
    wrong: Any = {"width": 3}
    with refused("cannot save to PATH/other: config is a text (str); found a dict; gn.config.dump gives one"):
        gn.checkpoint.save(tmp_path / "other", net(), config=wrong)
    assert not (tmp_path / "other").exists()


def test_orbax_is_imported_when_arrays_are(tmp_path: Path):
    """Neither `import graphnode`, nor `gn.checkpoint`, nor a manifest needs it."""
    gn.checkpoint.save(tmp_path / "net", net())
    code = (
        "import sys, graphnode as gn\n"
        "assert 'graphnode.checkpoint' not in sys.modules\n"
        f"gn.checkpoint.manifest({str(tmp_path / 'net')!r})\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(names & {'orbax', 'tensorstore', 'optax', 'pydantic', 'tqdm'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_missing_orbax_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the extra that brings it; nothing is written."""
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        gn.checkpoint.save(tmp_path / "net", net())
    expected = "gn.checkpoint needs orbax.checkpoint, which is not installed: pip install 'graphnode[checkpoint]'"
    assert str(caught.value) == expected
    assert not (tmp_path / "net").exists()
