"""The manifest: what is written, what is read of it, and what a damaged one does."""

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphnode as gn
from graphnode.checkpoint._compare import matched
from graphnode.checkpoint._manifest import ManifestFaultError, manifest_of, manifest_to_json, parse
from graphnode.checkpoint._save import Extra, prepared
from graphnode.checkpoint._show import differences, shown
from graphnode.checkpoint._tree import take_tree
from tests.checkpoint.nets import MANIFEST, Counter, Net, net, read, refused, same, tied, values, write
from tests.properties.strategies import World, worlds

KEPT = Path(__file__).parent / "kept"


def manifest_data(tree: Any) -> Any:
    """The manifest of a tree, as it is in a file."""
    manifest, _ = prepared(take_tree(tree, "test"), "test", Extra({"a": 1}, "width: 3\n"))
    return json.loads(json.dumps(manifest_to_json(manifest)))


def test_a_manifest_says_what_there_is():
    """Each State by its path, with shape, dtype and checksum; the graph beside them."""
    node = tied()
    data = manifest_data({"model": node, "step": 3, "key": jax.random.key(0)})
    states = {state.pop("path"): state for state in data["states"]}
    assert list(states) == ["key", "model.dec.bias", "model.dec.weight", "step"]
    assert states["step"] == {"int": 3}
    assert states["model.dec.weight"].pop("crc32") >= 0
    assert states["model.dec.weight"] == {"shape": [2, 3], "dtype": "float32"}
    assert states["key"].pop("crc32") >= 0
    assert states["key"] == {"shape": [], "key": "threefry2x32"}
    assert data["graph"]["tokens"].count({"again": 2}) == 1
    assert data["metadata"] == {"a": 1}


@given(worlds())
def test_any_manifest_comes_back(world: World):
    """And compares equal to itself."""
    data = manifest_data(world.nodes)
    manifest = manifest_of(data)
    assert json.loads(json.dumps(manifest_to_json(manifest))) == data
    layout = gn.graphdef(world.nodes).layout
    assert [manifest.structure.paths[number] for number in manifest.structure.states] == list(layout.paths())
    trie, numbers = manifest.structure.trie
    assert numbers == manifest.structure.states
    assert trie.references == layout.references
    assert not list(differences(manifest, manifest))
    for number, _ in enumerate(manifest.structure.specs):
        part = manifest.structure.part(number)
        if "node" in part["specs"][0]:
            assert gn.GraphDef.from_json(json.dumps(part)).to_json() == json.dumps(part, separators=(",", ":"))


@given(worlds(), worlds())
def test_comparison_is_symmetric(first: World, second: World):
    """What one side has alone, the other one lacks."""
    a, b = (manifest_of(manifest_data(world.nodes)).structure for world in (first, second))
    forth, back = matched(a, b), matched(b, a)
    assert {(y, x) for x, y in forth.partners.items()} == set(back.partners.items())
    assert (forth.left_only, forth.right_only) == (back.right_only, back.left_only)
    assert {(c.kind, c.path, c.left, c.right) for c in forth.changes} == {
        (c.kind, c.path, c.right, c.left) for c in back.changes
    }


JUNK: list[Any] = [None, True, -1, 0, 2**70, 1.5, "a", "", [], {}, {"int": "x"}, {"list": 9**9}, "leaf", [[]], "dtype"]


def damage(rng: random.Random, data: Any) -> None:
    """Change one thing somewhere in JSON, in place."""
    while True:
        items = list(data.items() if isinstance(data, dict) else enumerate(data))
        if not items:
            return
        key, item = rng.choice(items)
        if isinstance(item, (list, dict)) and item and rng.random() < 0.85:
            data = item
            continue
        kind = rng.randrange(4)
        if kind == 0:
            del data[key]
        elif kind == 1 and isinstance(data, list):
            data.insert(rng.randrange(len(data) + 1), copy.deepcopy(rng.choice(data)))
        elif kind == 2 and isinstance(data, list):
            rng.shuffle(data)
        else:
            data[key] = copy.deepcopy(rng.choice(JUNK))
        return


EVERYTHING: Any = manifest_data(
    {
        "model": tied(),
        "optimizer": gn.optim.Optimizer(net(), optax.sgd(0.1)),
        "key": jax.random.key(0),
        "state": gn.State({"a": (jnp.ones(2), None), "b": [3, 2.5, 1j, True]}),
        "data": Counter(),
        "none": jnp.zeros((0, 2)),
    }
)


@given(st.randoms(use_true_random=False))
def test_a_damaged_manifest_is_refused_or_read(rng: random.Random):
    """One clear error, or a manifest that is shown and compared without another one."""
    for _ in range(20):
        data = copy.deepcopy(EVERYTHING)
        for _ in range(rng.randrange(1, 3)):
            damage(rng, data)
        try:
            manifest = manifest_of(data)
        except ManifestFaultError:
            continue
        assert list(shown(manifest))
        list(differences(manifest, manifest_of(EVERYTHING)))


@settings(max_examples=8)
@given(rng=st.randoms(use_true_random=False))
def test_a_damaged_file_is_refused_or_loaded(rng: random.Random, tmp_path_factory: pytest.TempPathFactory):
    """Whatever a manifest says whose checksum is right: an error of graphnode, or a node of the class."""
    folder = tmp_path_factory.mktemp("damaged") / "run"
    model = tied()
    gn.checkpoint.save(folder, {"model": model})
    original = read(folder)
    for _ in range(4):
        data = copy.deepcopy(original)
        damage(rng, data)
        write(folder, data)
        with contextlib.suppress(gn.CheckpointError):
            assert isinstance(gn.checkpoint.load(folder, Net, at="model"), Net)


FAULTY: dict[str, tuple[Any, str]] = {
    "no object": ([], "the manifest is not an object"),
    "another format": ({"format": 2}, "this version of graphnode reads manifests of format 1; found 2"),
    "no format": ({}, "this version of graphnode reads manifests of format 1; found none"),
    "parts": (
        {"format": 1},
        "the manifest has the parts format, versions, graph, states, fields, config, metadata",
    ),
    "graph": ({**EVERYTHING, "graph": 3}, 'graph: expected an object with "graphnode": 1, classes, specs and tokens'),
    "states": ({**EVERYTHING, "states": []}, f"states: expected a list of {len(EVERYTHING['states'])}"),
    "versions": ({**EVERYTHING, "versions": {"jax": 3}}, "versions are texts by name"),
    "fields": ({**EVERYTHING, "fields": {"a": [["b"]]}}, "fields: a field has a name, a kind and a contract"),
    "config": ({**EVERYTHING, "config": 3}, "config is a text, or null"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_each_part_is_checked(name: str):
    """With the place of what is wrong."""
    data, text = FAULTY[name]
    with pytest.raises(ManifestFaultError) as caught:
        manifest_of(data)
    assert str(caught.value) == text


STATES: dict[str, tuple[Any, str]] = {
    "path": ({"path": "b", "int": 3}, "expected the State at a"),
    "no leaf": ({"path": "a"}, "a leaf has a shape and a dtype or key, or is a number or text"),
    "kind": ({"path": "a", "eval": "1"}, "a leaf has a shape and a dtype or key, or is a number or text"),
    "shape": ({"path": "a", "shape": [-1], "dtype": "int8"}, "a shape is a list of sizes"),
    "bool": ({"path": "a", "shape": [True], "dtype": "int8"}, "a shape is a list of sizes"),
    "huge": ({"path": "a", "shape": [2**40, 2**40], "dtype": "int8"}, "no array is so large"),
    "dtype": ({"path": "a", "shape": [], "dtype": "O"}, "not a valid dtype"),
    "evaluated": ({"path": "a", "shape": [], "dtype": "i4,i4"}, "not a valid dtype"),
    "two kinds": (
        {"path": "a", "shape": [], "dtype": "int8", "key": "rbg"},
        "an array has shape, dtype or key",
    ),
    "checksum": ({"path": "a", "shape": [], "dtype": "int8", "crc32": -1}, "crc32 is a number of 32 bits"),
    "scalar": ({"path": "a", "shape": [1], "dtype": "int8", "of": "numpy scalar"}, "a scalar has no axes"),
    "int": ({"path": "a", "int": "eight"}, "invalid literal for int() with base 16: 'eight'"),
    "true": ({"path": "a", "int": True}, "not a valid int"),
    "float": ({"path": "a", "float": "z" * 16}, "non-hexadecimal number found in fromhex() arg at position 0"),
    "complex": ({"path": "a", "complex": [1]}, "a complex number has two parts"),
    "bytes": ({"path": "a", "bytes": "?"}, "Only base64 data is allowed"),
    "form": (
        {"path": "a", "form": {"set": []}, "leaves": []},
        'a form is null, "leaf" or an object',
    ),
    "leaves": ({"path": "a", "form": None, "leaves": [{"int": 1}]}, "the form has 0 leaves, and 1 follow"),
    "repeated": (
        {"path": "a", "form": {"dict": [["a", None]] * 2}, "leaves": []},
        "a key stands once in a dict",
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_each_state_is_checked(name: str):
    """What is said of a value."""
    state, text = STATES[name]
    data = {**manifest_data({"a": 3}), "states": [state]}
    with pytest.raises(ManifestFaultError) as caught:
        manifest_of(data)
    assert str(caught.value).startswith(f"states[0]: {text}")


def test_text_that_is_no_json_is_refused(tmp_path: Path):
    """Repeated keys, NaN, nesting without end, an end that is missing."""
    for text, fault in {
        '{"a": 1, "a": 2}': "it is not JSON: a key stands twice in an object",
        "[NaN]": "it is not JSON: JSON has no NaN",
        "[" * 100_000: "it is nested too deeply",
        "[": "it is not JSON: Expecting value: line 1 column 2 (char 1)",
    }.items():
        with pytest.raises(ManifestFaultError) as caught:
            parse(text)
        assert str(caught.value) == fault
    gn.checkpoint.save(tmp_path / "run", net())
    text = (tmp_path / "run" / MANIFEST).read_text()
    (tmp_path / "run" / MANIFEST).write_text(text[:-20])
    with refused(f"cannot read PATH/run: {MANIFEST}: it is not JSON: ..."):
        gn.checkpoint.manifest(tmp_path / "run")


def test_claims_cost_no_more_than_the_file():
    """Many specs of many references each would take the square of the text."""
    data = manifest_data(net())
    graph = data["graph"]
    wide = {"node": 0, "static": {}, "held": {"a": {"list": 20_000}}}
    graph["specs"] = [wide] * 1_000 + graph["specs"]
    graph["tokens"] = [{"new": at % 1_000} for at in range(20_000)]
    with pytest.raises(ManifestFaultError, match="more objects than follow"):
        manifest_of(data)
    deep: Any = "object"
    for _ in range(80):
        deep = {"list": [deep]}
    graph["specs"] = [{"node": 0, "static": {}, "held": {"a": deep}}]
    graph["tokens"] = [{"new": 0}]
    with pytest.raises(ManifestFaultError, match="nested more than 64 levels deep"):
        manifest_of(data)


@pytest.mark.parametrize("folder", sorted(KEPT.iterdir()), ids=lambda path: path.name)
def test_kept_checkpoints_are_read(folder: Path):
    """One of each format that there was: written by `kept/write.py` of that version."""
    from tests.checkpoint.kept_tree import kept_tree

    expected = kept_tree(1)
    live = kept_tree(2)
    restored = gn.checkpoint.restore(folder, live)
    for name in ("model", "rngs", "cache"):
        assert same(values(restored[name]), values(expected[name])), name
    assert restored["data"].at == 1
    for name in ("step", "array", "empty", "weak"):
        assert same(restored[name], expected[name]), name
    loaded = gn.checkpoint.load(folder, Net, at="model")
    assert loaded.enc is loaded.dec
    assert same(values(loaded), values(expected["model"]))
    assert gn.checkpoint.manifest(folder).metadata == {"kept": True}
