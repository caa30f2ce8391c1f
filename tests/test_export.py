"""`jax.export` of functions of state trees: what is written into a file is the same when it is read, or is refused."""

import functools
import json
import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import export

import graphnode as gn
from graphnode._graph._layout import Layout, layout_of_trie
from graphnode._graph._layout_json import layout_from_json, layout_to_json
from graphnode._graph_to_tree import part_from_json, part_to_json
from graphnode._statetree import _spec_from_json
from graphnode._trie import by_target
from graphnode.transforms._result_nodes import ResultNode
from graphnode.transforms._written import Written
from graphnode.transforms._written import _from_json as written_from_json
from tests.damage import damage
from tests.properties.strategies import World, worlds


class Tied(gn.Node):
    """An affine map, and the same once more."""

    first: gn.nn.Linear
    second: gn.nn.Linear


def tied() -> Tied:
    layer = gn.nn.Linear(3, 3)
    return Tied(layer, layer)


def again(function: Callable[..., Any], *args: Any) -> export.Exported:
    """A function of these arguments, exported, written into a file and read."""
    exported = export.export(jax.jit(function))(*args)
    read = export.deserialize(exported.serialize())
    assert [read.in_tree, read.out_tree] == [exported.in_tree, exported.out_tree]
    return read


def forward(model: Any) -> Callable[[Any, jax.Array], jax.Array]:
    graphdef = gn.graphdef(model)
    return lambda states, x: gn.treefy_merge(graphdef, states)(x)


def test_a_function_of_a_state_tree_is_exported():
    """It is called with a state tree of the same structure, also of other values, and at any size of a batch."""
    model = gn.nn.Linear(3, 2)
    batch = export.symbolic_shape("batch, 3")
    read = again(forward(model), gn.treefy_states(model), jax.ShapeDtypeStruct(batch, jnp.float32))
    model.weight.value += 1.0
    for size in (1, 4):
        x = jnp.ones((size, 3))
        assert jnp.allclose(read.call(gn.treefy_states(model), x), model(x))


@pytest.mark.no_runtime_types
def test_contracts_of_inputs_admit_a_symbolic_batch():
    """A name without a field stands for the symbolic sizes of the first array, and others are compared with them."""
    model = gn.nn.Bilinear(2, 3, 4)
    graphdef = gn.graphdef(model)
    left, right, other = export.symbolic_shape("batch, time, other")
    states = gn.treefy_states(model)

    def call(states: Any, left: jax.Array, right: jax.Array) -> jax.Array:
        return gn.treefy_merge(graphdef, states)(left, right)

    shapes = [jax.ShapeDtypeStruct((left, right, size), jnp.float32) for size in (2, 3)]
    read = again(call, states, *shapes)
    inputs = jnp.ones((2, 5, 2)), jnp.ones((2, 5, 3))
    assert jnp.allclose(read.call(states, *inputs), model(*inputs))
    shapes[1] = jax.ShapeDtypeStruct((left, other, 3), jnp.float32)
    with pytest.raises(gn.ContractError, match=r"expected \*batch = \(batch, time\)"):
        again(call, states, *shapes)


def test_shared_states_and_new_states_are_exported():
    """What a function returns is a state tree, of the very layout that went in: shared States are there once."""
    model = tied()
    states = gn.treefy_states(model)
    read = again(lambda tree: jax.tree.map(lambda value: 2 * value, tree), states)
    doubled: Any = read.call(states)
    assert doubled.layout is states.layout
    assert jnp.allclose(doubled["second.weight"].value, 2 * model.first.weight.value)


def test_a_tree_of_another_structure_is_refused():
    """The layout is a part of what was exported: the untied model does not pass for the tied one."""
    read = again(lambda tree: tree["first.bias"].value, gn.treefy_states(tied()))
    untied = Tied(gn.nn.Linear(3, 3), gn.nn.Linear(3, 3))
    with pytest.raises(ValueError, match="pytree structure"):
        read.call(gn.treefy_states(untied))


def test_all_pytrees_of_a_graph_are_exported():
    """A graphdef, a single State with its description, the parts of `graph_to_tree`, what `gn.jit` gives."""
    model = tied()
    tree, _ = gn.graph_to_tree({"a": model, "b": model.second})
    state = gn.TreefyState(gn.ParamState(jnp.ones(2), tag="t").replace(name="n")._spec, jnp.ones(2))
    part = ResultNode(tree["b"].graphdef, 1, tree["b"].states)
    written = Written((2, 0), frozenset([0]), frozenset(), True, frozenset([2]))
    parts = (gn.graphdef(model), state, tree, part, written)
    read = again(lambda *parts: parts, *parts)
    found: Any = read.call(*parts)
    assert [jax.tree.structure(found)] == [jax.tree.structure(parts)]
    assert found[0] is parts[0]
    assert found[1].spec is state.spec
    assert found[4] == written


def layouts_of(world: World) -> list[Layout]:
    """The layouts of a graph: of all of it, of parts, of groups of States, and of what trees give joined."""
    tree = gn.treefy_states(world.root)
    trees = [tree, *tree.split(gn.ParamState, ...)]
    trees += [trees[1] | trees[2], tree - trees[1]]
    items = [tree[key] for key in tree]
    trees += [item for item in items if isinstance(item, gn.StateTree)]
    parts, _ = gn.graph_to_tree([*world.nodes, world.root])
    trees += [part.states for part in parts]
    return [tree.layout for tree in trees]


@given(worlds())
def test_same_layout_comes_back(world: World):
    """Of any graph, and of any part of one."""
    for layout in layouts_of(world):
        assert layout_from_json(layout_to_json(layout)) is layout


KEYS = ["", "a", "b", "c", "left", 0, 1, 2]
JUNK: list[Any] = [None, True, -1, 0, 1, 2, 3, 2**70, 1.5, "a", "", [], {}, [0, "a", 1], [0, 0], [0, "a"], {"state": 0}]


def similar(rng: random.Random, item: Any) -> Any:
    """A key or number of a layout, for one that stood there."""
    return rng.choice(KEYS) if isinstance(item, str) else rng.randrange(-1, 6)


@pytest.mark.slow
@given(worlds(), st.randoms(use_true_random=False))
def test_damaged_text_is_refused_or_a_layout(world: World, rng: random.Random):
    """One clear error; or what was read is canonical, so that no equal layout is another object."""
    for layout in layouts_of(world)[:4]:
        for _ in range(5):
            data = json.loads(layout_to_json(layout))
            for _ in range(rng.randrange(1, 3)):
                damage(rng, data, JUNK, functools.partial(similar, rng))
            try:
                read = layout_from_json(json.dumps(data))
            except gn.ConfigError:
                continue
            leaves = dict(zip(read.leaves, read.specs, strict=True))
            found, _ = layout_of_trie(read.parents, read.keys, leaves, by_target(read.references))
            assert found is read
            assert layout_from_json(layout_to_json(read)) is read


def file(**parts: Any) -> str:
    """A file with one weight at `a.w`, and `b` the same as `a`, but for some parts."""
    data = {
        "graphnode": 1,
        "classes": ["graphnode.ParamState"],
        "specs": [{"state": 0}],
        "entries": [[-1, ""], [0, "a"], [1, "w"]],
        "leaves": [[2, 0]],
        "references": [[0, "b", 1]],
    }
    return json.dumps({**data, **parts})


FAULTY: dict[str, tuple[str, list[str]]] = {
    "no JSON": ("{", ["not a layout: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"]),
    "another version": (file(graphnode=2), ['not a layout: expected an object with "graphnode": 1']),
    "a part": (file(tokens=[], leaves=3), ["'tokens' is not part of a layout", "leaves is missing, or not a list"]),
    "classes": (
        file(classes=["os.system"]),
        ["classes[0]: no class of nodes or States is 'os.system'; import it first"],
    ),
    "a class of nodes": (file(classes=["graphnode.nn.Linear"]), ["specs[0]: Linear is not a class of States"]),
    "rows": (
        file(specs=[3], entries=[[0]], leaves=[[2, True]], references=["r"]),
        [
            "specs[0]: a spec has state, name, tag, sharding, metadata and stacked",
            "entries[0]: expected a parent and a key",
            "leaves[0]: expected an entry and a spec",
            "references[0]: expected an entry, a key and an entry",
        ],
    ),
    "numbers": (
        file(entries=[[-1, "x"], [1, "a"], [1, "w"]], leaves=[[7, 1]], references=[[0, "b", -1]]),
        [
            'entries[0]: the root is [-1, ""]',
            "entries[1]: no entry 1 stands before it",
            "leaves[0]: there is no entry 7",
            "leaves[0]: there is no spec 1",
            "references[0]: there is no entry -1",
            "specs[0]: no State is of it",
        ],
    ),
    "below a State": (file(references=[[2, "b", 1]]), ["leaves[0]: a State has nothing below it"]),
    "a key twice": (
        file(entries=[[-1, ""], [0, "a"], [1, "w"], [1, "w"]], leaves=[[2, 0], [3, 0]]),
        ["entries[3]: another entry has this parent and key"],
    ),
    "a place twice": (file(references=[[0, "a", 1]]), ["references[0]: something else has this source and key"]),
    "a later path": (file(references=[[0, "B", 1]]), ["references[0]: it comes before the path of its target"]),
    "order": (
        file(entries=[[-1, ""], [0, "w"], [0, "a"]], leaves=[[1, 0], [2, 0]], references=[]),
        ["entries: they are not in order, or some lead to no State"],
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_each_fault_of_a_layout_is_told(name: str):
    """One error has all that is wrong, with its place."""
    text, faults = FAULTY[name]
    with pytest.raises(gn.ConfigError) as caught:
        layout_from_json(text)
    assert [str(fault) for fault in caught.value.faults] == faults


def test_static_data_of_other_pytrees_is_checked():
    """Places of nodes, the description of a single State, and what a compiled function wrote."""
    graphdef = gn.graphdef([tied()])
    assert part_from_json(part_to_json((graphdef, 0))) == (graphdef, 0)
    with pytest.raises(gn.ConfigError) as caught:
        part_from_json(part_to_json((graphdef, 1)))
    assert str(caught.value) == "the graphdef has no node 1"
    with pytest.raises(gn.ConfigError) as caught:
        _spec_from_json(layout_to_json(graphdef.layout))
    assert str(caught.value) == "a TreefyState has the layout of a State alone"
    with pytest.raises(gn.ConfigError) as caught:
        written_from_json('{"numbers": [true], "unchanged": 1, "containers": [], "has_nodes": 1, "reshaped": []}')
    assert str(caught.value) == (
        "numbers: expected a list of numbers of States\n"
        "unchanged: expected a list of numbers of States\n"
        "has_nodes: expected true or false"
    )


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"ParamStatf", "classes[0]: no class of nodes or States is 'graphnode.ParamStatf'; import it first"),
        (
            b"Param\xfftate",
            "the static data of StateTree: 'utf-8' codec can't decode byte 0xff in position 42: invalid start byte",
        ),
    ],
)
def test_a_file_that_names_an_unknown_class_is_refused(name: bytes, fault: str):
    """JAX hands on the error that says what to import, or that the file is damaged."""
    exported = export.export(jax.jit(forward(tied().first)))(gn.treefy_states(tied().first), jnp.ones(3))
    text = exported.serialize().replace(b"ParamState", name)
    with pytest.raises(gn.ConfigError) as caught:
        export.deserialize(bytearray(text))
    assert str(caught.value) == fault
