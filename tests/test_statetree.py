"""State collections: how they read, and that JAX sees one pytree whose treedef never changes."""

import copy
import functools
import pickle
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from tests.work import PACKAGE


class Linear(gn.Node):
    weight: gn.ParamState
    bias: gn.ParamState


class Net(gn.Node):
    l1: Linear
    items: list[Linear]
    count: gn.BatchState
    table: dict[str, gn.State]


def linear(size: int = 2) -> Linear:
    return Linear(gn.ParamState(jnp.ones((size, size))), gn.ParamState(jnp.zeros(size), tag="bias"))


def net() -> Net:
    count = gn.BatchState(jnp.zeros(()), metadata={"unit": "steps"})
    return Net(linear(), [linear(3)], count, {"a.b": gn.State(jnp.arange(3.0)), "0": gn.State(jnp.ones(1))})


def tree() -> gn.StateTree:
    return gn.treefy_states(net())


def treedef_of(value: object) -> Any:
    """The treedef, as `Any`: mypy does not find jaxlib's type of it, and would refuse `==`."""
    return jax.tree.structure(value)


def python_calls(work: Any) -> list[str]:
    """The names of the Python functions of the package that run during `work`."""
    found: list[str] = []

    def profiler(frame: Any, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            found.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


# Reading


def test_tree_reads_as_a_nested_mapping():
    """Keys lead to subtrees and TreefyStates; `len` counts the top keys; a missing key is a KeyError."""
    model = net()
    found = gn.treefy_states(model)
    assert list(found) == ["count", "items", "l1", "table"]
    assert len(found) == 4
    assert isinstance(found["l1"], gn.StateTree)
    one: Any = found["l1"]
    assert list(one) == ["bias", "weight"]
    assert one["weight"].value is model.l1.weight.value
    nested: Any = found["items"]
    assert list(nested) == [0]
    assert nested[0]["bias"].value is model.items[0].bias.value
    table: Any = found["table"]
    assert list(table) == ["0", "a.b"]
    assert "l1" in found
    assert "l2" not in found
    assert 0 not in table
    assert found.get("l2") is None
    assert isinstance(found, Mapping)
    assert found["l1", "weight"].value is model.l1.weight.value
    for missing in ("l2", 0, "", ("l1",), ("l1", "x"), ()):
        with pytest.raises(KeyError) as caught:
            found[missing]
        text = gn.path_str(missing) if isinstance(missing, tuple) else missing
        assert str(caught.value.args[0]).startswith(f"{text!r}: no State there")


def test_treefy_state_holds_value_and_description():
    """A TreefyState has the State's class, name, tag, sharding and metadata, and its value by identity."""
    value = jnp.zeros(2)
    state = gn.BatchState(value, name="n", tag="t", sharding=("x",), metadata={"unit": "mV"})
    found: Any = gn.treefy_states({"a": Linear(gn.ParamState(value), gn.ParamState(value)), "b": state})["b"]
    assert isinstance(found, gn.TreefyState)
    assert found.value is value
    assert (found.type, found.name, found.tag, found.sharding) == (gn.BatchState, "n", "t", ("x",))
    assert dict(found.metadata) == {"unit": "mV"}


def test_flat_gives_full_paths():
    """`flat` lists TreefyStates by full path, in canonical order."""
    flat = tree().flat()
    assert list(flat) == [
        *(("count",), ("items", 0, "bias"), ("items", 0, "weight"), ("l1", "bias"), ("l1", "weight")),
        *(("table", "0"), ("table", "a.b")),
    ]
    assert flat["count",].metadata == {"unit": "steps"}


def test_to_dict_gives_nested_values():
    """`to_dict` gives plain nested dicts of the values themselves."""
    found = tree()
    made = found.to_dict()
    assert type(made) is dict
    assert type(made["items"][0]) is dict
    assert made["items"][0]["bias"] is found.flat()["items", 0, "bias"].value
    assert list(made) == list(found)
    assert gn.treefy_states(net(), None).to_dict() == {}


def test_the_tree_of_a_state_alone_has_one_key():
    """Its path is empty: as a mapping the tree says the same as it does to JAX."""
    one = gn.ParamState(jnp.array([1.0, 2.0]), tag="decay")
    gradient = gn.grad(lambda one: jnp.sum(one.value**3))(one)
    for found, values in ((gn.treefy_states(one), [1, 2]), (gradient, [3, 12])):
        assert found
        assert len(found) == 1
        assert list(found) == list(found.flat()) == list(gn.states(one)) == [()]
        assert found[()].value.tolist() == values
        assert [item.value.tolist() for item in found.values()] == [values]
        assert () in found
        assert "value" not in found
        assert found.to_dict() == {(): found[()].value}
    assert repr(gn.treefy_states(one)) == "{(): TreefyState(ParamState, f32[2], tag='decay')}"


def test_a_tree_of_no_state_is_empty():
    """Whether of a State alone or of a node."""
    for root in (gn.ParamState(1.0), net()):
        found = gn.treefy_states(root, None)
        assert not found
        assert (len(found), list(found), repr(found)) == (0, [], "{}")
        with pytest.raises(KeyError):
            found[()]


@pytest.mark.parametrize("form", [dict, gn.StateTree.flat, gn.StateTree.to_dict], ids=["dict", "flat", "to_dict"])
def test_a_mapping_of_the_empty_path_is_taken_for_a_state_alone(form: Any):
    """What the tree gives is taken back, in an update, a merge and as a tangent."""
    one, new = gn.ParamState(jnp.ones(2)), gn.ParamState(jnp.array([3.0, 4.0]))
    mapping = form(gn.treefy_states(new))
    assert gn.treefy_merge(gn.treefy_split(one)[0], mapping).value is new.value
    assert gn.jvp(lambda one: one.value.sum(), (one,), (mapping,))[1] == 7.0
    gn.update_states(one, mapping)
    assert one.value is new.value


def test_a_state_alone_may_hold_a_dict():
    """What stands at the empty path is the value, whatever its keys are."""
    one = gn.State({"a": jnp.ones(2)})
    gn.update_states(one, {(): {"a": jnp.zeros(2)}})
    assert one.value["a"].tolist() == [0, 0]
    with pytest.raises(TypeError) as caught:
        gn.update_states(one, {(): {"a": jnp.ones(2)}, "a": jnp.ones(2)})
    assert str(caught.value) == "expected paths of States as keys, found ()"
    assert one.value["a"].tolist() == [0, 0]


def test_repr_is_a_nested_mapping():
    """A tree prints as a nested mapping of TreefyStates with their shapes and descriptions."""
    assert repr(gn.treefy_states(net(), (gn.BatchState, gn.PathIn("l1.bias")))) == (
        """{  # 2 parameters, 12 B
  'count': TreefyState(BatchState, f32[], unit='steps'),
  'l1': {'bias': TreefyState(ParamState, f32[2], tag='bias')}
}"""
    )


def test_trees_are_equal_by_identity():
    """Arrays have no single equality: a tree equals itself, and is hashable."""
    found = tree()
    assert found == found
    assert found != gn.StateTree(found.layout, found._values)
    assert len({found, found}) == 1


def test_empty_tree():
    """A filter that takes nothing gives an empty tree: no keys, no leaves, neutral to `|`."""
    empty = gn.treefy_states(net(), None)
    assert len(empty) == 0
    assert empty.flat() == {}
    assert jax.tree.leaves(empty) == []
    whole = tree()
    assert (whole | empty).layout is whole.layout
    assert (whole - whole).layout is empty.layout
    assert repr(empty) == "{}"


# Algebra


def test_union_takes_both_and_the_right_wins():
    """`|` has the States of both; where both have a path the right one's value and description win."""
    params, rest = gn.treefy_states(net(), gn.ParamState, ...)
    whole = params | rest
    assert whole.layout is tree().layout
    other: Any = gn.treefy_states({"count": gn.ParamState(jnp.ones(7))})
    both: Any = whole | other
    assert both["count"].value is other["count"].value
    assert both["count"].type is gn.ParamState
    assert (other | whole).flat()["count",].type is gn.BatchState
    assert len(both.flat()) == len(whole.flat())


def test_difference_drops_paths_of_the_right():
    """`-` keeps what stands at paths that the right has not, whatever its values."""
    whole = tree()
    params = whole.filter(gn.ParamState)
    rest = whole - params
    assert list(rest.flat()) == [path for path, one in whole.flat().items() if one.type is not gn.ParamState]
    assert (rest | params).layout is whole.layout
    assert all(a is b for a, b in zip((rest | params)._values, whole._values, strict=True))
    assert len(params - whole) == 0


def test_trees_combine_with_trees_only():
    """`|` and `-` with anything else is a TypeError."""
    found: Any = tree()
    other: Any
    for other in ({}, None, 3, gn.states(net())):
        with pytest.raises(TypeError):
            found | other
        with pytest.raises(TypeError):
            found - other


def test_filter_and_split_select_by_the_same_rules():
    """`filter` keeps what any filter accepts, `split` partitions, and both keep values by identity."""
    found = tree()
    assert list(found.filter("bias").flat()) == [("items", 0, "bias"), ("l1", "bias")]
    assert found.filter("bias", gn.BatchState).layout is found.filter(("bias", gn.BatchState)).layout
    assert found.filter(...).layout is found.layout
    assert len(found.filter()) == 0
    params, rest = found.split(gn.ParamState, ...)
    assert params.layout is gn.treefy_states(net(), gn.ParamState).layout
    assert (params | rest).layout is found.layout
    big = found.filter(lambda path, one: one.value.size > 3)
    assert list(big.flat()) == [("items", 0, "weight"), ("l1", "weight")]
    with pytest.raises(gn.FilterError) as caught:
        found.split("bias")
    assert str(caught.value) == (
        "no filter of ('bias',) accepts StateTree.count, StateTree.items.0.weight, StateTree.l1.weight, "
        'StateTree.table."0", StateTree.table."a.b" (BatchState, ParamState, State); add one, or pass `...` last'
    )


# JAX


@functools.partial(jax.jit, donate_argnums=())
def doubled(found: gn.StateTree) -> gn.StateTree:
    made: gn.StateTree = jax.tree.map(lambda leaf: leaf * 2, found)
    return made


def test_treedef_never_changes_with_values():
    """Trees of one structure have one treedef: before and after writes, jit, map, a merge, a clone, pickling."""
    model = net()
    first = jax.tree.structure(gn.treefy_states(model))
    for state in gn.states(model).values():
        state.value = state.value + 1
    second = gn.treefy_states(model)
    graphdef, third = gn.treefy_split(model)
    trees = [
        second,
        third,
        doubled(second),
        jax.tree.map(jnp.zeros_like, second),
        gn.treefy_states(gn.treefy_merge(graphdef, third)),
        gn.treefy_states(gn.clone(model)),
        gn.treefy_states(copy.deepcopy(model)),
        pickle.loads(pickle.dumps(second)),
        copy.copy(second),
        copy.deepcopy(second),
        second.filter(...),
    ]
    assert {jax.tree.structure(one) for one in trees} == {first}
    assert all(one.layout is second.layout for one in trees)


def test_treedef_tells_structures_apart():
    """Another class, tag or path gives another treedef, so JAX refuses to mix them."""
    left, right = gn.treefy_states(linear()), gn.treefy_states({"weight": gn.ParamState(0), "bias": gn.ParamState(0)})
    assert treedef_of(left) != treedef_of(right)
    with pytest.raises(ValueError):
        jax.tree.map(lambda a, b: a, left, right)


@pytest.mark.parametrize("count", [1, 50])
def test_flattening_calls_python_once(count: int):
    """JAX calls back into Python once to flatten a tree, and once to unflatten it, however many States it has."""
    found = gn.treefy_states([linear() for _ in range(count)])
    leaves, treedef = jax.tree.flatten(found)
    assert len(leaves) == 2 * count
    assert len(python_calls(lambda: jax.tree.flatten(found))) == 1
    assert len(python_calls(lambda: jax.tree.leaves(found))) == 1
    calls = python_calls(lambda: jax.tree.unflatten(treedef, leaves))
    assert calls.count("<lambda>") <= 1
    assert len(calls) <= 2
    jitted = jax.jit(lambda one: one)
    jitted(found)
    assert python_calls(lambda: jitted(found)).count("<lambda>") <= 2
    assert len(python_calls(lambda: jitted(found))) <= 3


def test_map_grad_and_vmap_keep_the_tree():
    """jax.tree.map, grad, vmap and scan over a tree give trees of the same layout."""
    model = linear()
    graphdef, params = gn.treefy_split(model)

    def loss(found: gn.StateTree, x: jax.Array) -> jax.Array:
        merged = gn.treefy_merge(graphdef, found)
        return jnp.sum(x @ merged.weight.value) + jnp.sum(merged.bias.value)

    x = jnp.ones((3, 2))
    grads = jax.grad(loss)(params, x)
    assert grads.layout is params.layout
    flat = grads.flat()
    np.testing.assert_allclose(flat["bias",].value, jnp.ones(2))
    np.testing.assert_allclose(flat["weight",].value, jnp.full((2, 2), 3.0))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    losses = jax.vmap(loss, in_axes=(0, None))(stacked, x)
    assert losses.shape == (2,)
    per_row = jax.vmap(jax.grad(loss), in_axes=(None, 0))(params, x)
    assert per_row.layout is params.layout
    assert per_row.flat()["weight",].value.shape == (3, 2, 2)
    carried, _ = jax.lax.scan(lambda one, _: (jax.tree.map(lambda leaf: leaf + 1, one), None), params, length=3)
    np.testing.assert_allclose(carried.flat()["bias",].value, jnp.full(2, 3.0))


def test_trees_nest_in_other_pytrees():
    """A tree nests in named tuples, as an optimizer's state does, and as a prefix it spreads over one."""

    class Moments(NamedTuple):
        steps: jax.Array
        mean: gn.StateTree

    params = gn.treefy_states(linear())
    moments = Moments(jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    again: Moments = jax.jit(lambda one: jax.tree.map(lambda leaf: leaf + 1, one))(moments)
    assert again.mean.layout is params.layout
    assert treedef_of(again) == treedef_of(moments)
    axes = jax.tree.map(lambda _: 0, params)
    assert axes.layout is params.layout
    jax.vmap(lambda one: one, in_axes=(axes,))(jax.tree.map(lambda leaf: leaf[None], params))


def test_key_paths_name_the_states():
    """JAX's key paths hold the full path of each State as a text, and go on into its value."""
    model = net()
    model.count.value = {"mean": jnp.zeros(1)}  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    pairs, _ = jax.tree_util.tree_flatten_with_path({"net": gn.treefy_states(model)})
    assert [jax.tree_util.keystr(path) for path, _ in pairs] == [
        "['net']['count']['mean']",
        "['net']['items.0.bias']",
        "['net']['items.0.weight']",
        "['net']['l1.bias']",
        "['net']['l1.weight']",
        "['net']['table.\"0\"']",
        "['net']['table.\"a.b\"']",
    ]
    one: Any = gn.treefy_states(model)["count"]
    (pair,), _ = jax.tree_util.tree_flatten_with_path(one)
    assert jax.tree_util.keystr(pair[0]) == ".value['mean']"


def test_treefy_state_is_a_pytree_of_its_value():
    """A TreefyState maps over its value and keeps its description."""
    one: Any = gn.treefy_states(linear())["bias"]
    zeroed = jax.tree.map(lambda leaf: leaf + 1, one)
    assert zeroed.spec is one.spec
    assert zeroed.tag == "bias"
    assert treedef_of(zeroed) == treedef_of(one)


def test_trees_pickle_with_their_values():
    """A tree pickles: the layout is the same object afterwards, the values are equal."""
    found = tree()
    again = pickle.loads(pickle.dumps(found))
    assert again.layout is found.layout
    for left, right in zip(again._values, found._values, strict=True):
        np.testing.assert_array_equal(left, right)


def test_values_of_any_pytree_are_kept():
    """A State's value may be any pytree; the tree's leaves are its leaves, and the tree holds the value itself."""
    value = {"a": [jnp.zeros(1), None], "b": ()}
    found = gn.treefy_states(Linear(gn.ParamState(value), gn.ParamState(None)))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert found.flat()["weight",].value == value
    assert len(jax.tree.leaves(found)) == 1
    assert found.flat()["bias",].value is None


# Live States


def test_flat_states_are_read_by_paths():
    """A path is a tuple of keys or a text; a miss names the nearest."""
    model = net()
    found: Any = gn.states(model)
    assert found["l1.weight"] is found["l1", "weight"] is model.l1.weight
    for missing in ("l1.wieght", ("l1", "wieght")):
        with pytest.raises(KeyError) as caught:
            found[missing]
        assert caught.value.args == ("'l1.wieght': no State there; did you mean 'l1.weight'?",)


def test_flat_states_hold_the_live_states():
    """`states` gives a read-only mapping from full paths to the node's own States."""
    model = net()
    found: Any = gn.states(model)
    assert found["l1", "weight"] is model.l1.weight
    assert len(found) == 7
    for missing in (("l1",), ("l1", "weight", "x"), ()):
        with pytest.raises(KeyError):
            found[missing]
    with pytest.raises(TypeError):
        found["l1", "weight"] = gn.ParamState(0)
    with pytest.raises(TypeError):
        hash(found)


def test_flat_states_are_equal_when_they_hold_the_same_states():
    """Two collections are equal when they hold the same State objects at the same paths."""
    model = net()
    assert gn.states(model) == gn.states(model)
    assert gn.states(model) != gn.states(gn.clone(model))
    assert gn.states(model) != gn.states(model, gn.ParamState)
    assert gn.states(model) != {}


def test_flat_states_print_with_their_paths():
    """Live States print by path, with shapes instead of numbers."""
    assert repr(gn.states(net(), gn.BatchState)) == "{('count',): BatchState(f32[], unit='steps')}"


def test_flat_states_pickle():
    """Live States pickle with their paths; the copies are other States of the same description."""
    found = gn.states(net())
    again = pickle.loads(pickle.dumps(found))
    assert again.layout is found.layout
    assert [state.tag for state in again.values()] == [state.tag for state in found.values()]
