"""Split and merge are inverse, by identity of values, with sharing and cycles; their errors name everything at once."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn

from .properties.strategies import reference, snapshot


def param(size: int = 2) -> gn.ParamState:
    return gn.ParamState(jnp.zeros(size))


def mean() -> gn.BatchState:
    return gn.BatchState(jnp.zeros(()))


class Linear(gn.Node):
    weight: gn.ParamState
    bias: gn.ParamState | None = None


class Net(gn.Node):
    width: int
    first: Linear
    again: Linear
    items: list[Linear]
    table: dict[str, gn.State]
    mean: gn.BatchState
    parent: "Net | None" = None


def net() -> Net:
    """Shared nodes and States, a cycle, containers."""
    shared = Linear(param())
    one = Net(2, shared, shared, [Linear(param()), shared], {"w": shared.weight, "b": param()}, mean())
    one.parent = one
    return one


PATHS = ["again.weight", "items.0.weight", "mean", "table.b"]


# Split


def test_split_gives_graphdef_and_one_tree_per_filter():
    """Without filters one tree holds all; with filters each has its own, in order; together they hold every State."""
    one = net()
    graphdef, whole = gn.treefy_split(one)
    assert graphdef is gn.graphdef(one)
    assert [gn.path_str(path) for path in whole.flat()] == PATHS
    same, params, means, rest = gn.treefy_split(one, gn.ParamState, gn.BatchState, ...)
    assert same is graphdef
    assert [len(tree.flat()) for tree in (params, means, rest)] == [3, 1, 0]
    assert (params | means | rest).layout is whole.layout


def test_arrays_pass_by_identity():
    """No array is copied, cast or reshaped; Python numbers and texts come through as they are, containers anew."""
    values: list[Any] = [jnp.arange(3, dtype=jnp.int8), 3, {"a": [jnp.zeros(1), None]}, None, "text", jnp.float16(1)]
    for value in values:
        one = Linear(gn.ParamState(value))
        graphdef, tree = gn.treefy_split(one)
        merged, twin = gn.treefy_merge(graphdef, tree), gn.clone(one)
        for copied in (tree.flat()["weight",].value, merged.weight.value, twin.weight.value):
            assert str(jax.tree.structure(copied)) == str(jax.tree.structure(value))
            assert all(new is old for new, old in zip(jax.tree.leaves(copied), jax.tree.leaves(value), strict=True))


def test_later_writes_do_not_change_a_tree():
    """A tree holds the values of its time."""
    one = net()
    old = one.mean.value
    tree = gn.treefy_states(one)
    one.mean.value = jnp.ones(3)
    assert tree.flat()["mean",].value is old


def test_states_no_filter_accepts_are_all_named():
    """Every State that no filter accepts is named, with its class, and nothing is returned."""
    with pytest.raises(gn.FilterError) as caught:
        gn.treefy_split(net(), gn.BatchState)
    assert str(caught.value) == (
        "no filter of (BatchState,) accepts Net.again.weight, Net.items.0.weight, Net.table.b (ParamState); add one, "
        "or pass `...` last"
    )
    assert caught.value.paths == (("again", "weight"), ("items", 0, "weight"), ("table", "b"))
    with pytest.raises(gn.FilterError) as caught:
        gn.treefy_split(net(), "tag", gn.PathContains("table"))
    assert str(caught.value) == (
        "no filter of ('tag', PathContains(key='table')) accepts Net.items.0.weight, Net.mean (ParamState, "
        "BatchState); add one, or pass `...` last"
    )


def test_many_left_over_states_are_counted_in_the_message():
    """The message names the first twenty States and counts the others; `paths` holds all."""
    one = Net(1, Linear(param()), Linear(param()), [Linear(param()) for _ in range(30)], {}, mean())
    with pytest.raises(gn.FilterError) as caught:
        gn.treefy_split(one, gn.BatchState)
    assert str(caught.value).endswith("Net.items.17.weight and 12 more (ParamState); add one, or pass `...` last")
    assert len(caught.value.paths) == 32


def test_states_and_treefy_states_drop_the_rest():
    """`states` and `treefy_states` leave out what no filter accepts; one filter gives one result, several a tuple."""
    one = net()
    assert list(gn.states(one, gn.BatchState)) == [("mean",)]
    assert list(gn.treefy_states(one, gn.BatchState)) == ["mean"]
    found = gn.states(one, gn.BatchState, "none")
    assert isinstance(found, tuple)
    assert [len(part) for part in found] == [1, 0]
    trees = gn.treefy_states(one, gn.BatchState, gn.ParamState)
    assert [len(tree.flat()) for tree in trees] == [1, 3]


def test_shared_state_is_listed_once_at_its_first_path():
    """A State reached over several paths is listed once, at the first in canonical pre-order."""
    one = net()
    found = gn.states(one)
    assert [gn.path_str(path) for path in found] == PATHS
    assert found["again", "weight"] is one.first.weight is one.table["w"]


def test_split_of_a_graph_without_states():
    """A node without States splits into a graphdef and an empty tree, and merges."""

    class Bare(gn.Node):
        size: int

    graphdef, tree = gn.treefy_split(Bare(3))
    assert len(tree) == 0
    assert gn.treefy_merge(graphdef, tree).size == 3
    assert gn.treefy_merge(graphdef).size == 3


# Merge


def test_merge_restores_the_graph():
    """A merge makes new nodes and States of the same structure, with the same values, sharing and cycles."""
    one = net()
    made = gn.treefy_merge(*gn.treefy_split(one))
    old, new = reference(one), reference(made)
    assert new.structure == old.structure
    assert new.aliases == old.aliases
    assert not {id(node) for _, node in old.nodes} & {id(node) for _, node in new.nodes}
    assert not {id(state) for _, state in old.states} & {id(state) for _, state in new.states}
    assert all(a.value is b.value for (_, a), (_, b) in zip(old.states, new.states, strict=True))
    assert made.first is made.again is made.items[1]
    assert made.table["w"] is made.first.weight
    assert made.parent is made
    assert gn.graphdef(made) is gn.graphdef(one)


def test_merge_runs_no_code_of_the_class():
    """Neither `__init__`, `__post_init__`, properties, validators, factories nor initializers run in a merge."""
    ran: list[str] = []

    def initializer(key: object, shape: object, dtype: object) -> jax.Array:
        ran.append("initializer")
        return jnp.zeros(1)

    def factory(self: object) -> Linear:
        ran.append("factory")
        return Linear(param())

    class Noisy(gn.Node):
        size: int
        weight: gn.ParamState = gn.state(initializer, shape=lambda self: (1,))
        child: Linear = gn.subnode(factory=factory)
        late: gn.State = gn.state(init=False)

        def __post_init__(self) -> None:
            ran.append("__post_init__")
            self.late = gn.State(jnp.zeros(()))

        @property
        def double(self) -> int:
            ran.append("property")
            return 2 * self.size

    class Written(gn.Node):
        size: int

        def __init__(self, size: int) -> None:
            ran.append("__init__")
            self.size = size

    one, two = Noisy(1), Written(3)
    assert sorted(ran) == ["__init__", "__post_init__", "factory", "initializer"]
    ran.clear()
    assert gn.treefy_merge(*gn.treefy_split((one, two)))[1].size == 3
    gn.clone(one)
    gn.unflatten(*gn.flatten(one))
    copy.deepcopy(two)
    pickle.loads(pickle.dumps(gn.treefy_split(Linear(param()))))
    assert ran == []


def test_trees_merge_in_any_order_and_form():
    """The parts may come in any order, as trees, live States or nested mappings, whole or mixed."""
    one = net()
    graphdef, params, rest = gn.treefy_split(one, gn.ParamState, ...)
    whole = params | rest
    forms: list[tuple[Any, ...]] = [
        (params, rest),
        (rest, params),
        (whole,),
        (gn.states(one),),
        (gn.states(one, gn.ParamState), rest),
        (whole.to_dict(),),
        (params.to_dict(), gn.states(one, gn.BatchState)),
        ({"mean": whole.flat()["mean",]}, params),
        (rest, *[params.filter(gn.PathIn(path)) for path in params.flat()]),
        ({}, whole, gn.treefy_states(one, None)),
    ]
    for form in forms * 2:  # the second time by the plan of the first
        made = gn.treefy_merge(graphdef, *form)
        assert reference(made).structure == reference(one).structure
        pairs = zip(gn.states(made).values(), gn.states(one).values(), strict=True)
        assert all(new.value is old.value for new, old in pairs)


def test_merge_is_by_path_not_by_position():
    """Parts of another layout, in another order, find their places by their paths."""
    one = net()
    graphdef, _ = gn.treefy_split(one)
    values = {path: jnp.full(1, at, jnp.float32) for at, path in enumerate(gn.states(one))}
    nested: dict[Any, Any] = {"table": {"b": values["table", "b"]}, "mean": values["mean",]}
    nested |= {"items": {0: {"weight": values["items", 0, "weight"]}}}
    nested["again"] = {"weight": values["again", "weight"]}
    made = gn.treefy_merge(graphdef, nested)
    assert {path: state.value for path, state in gn.states(made).items()} == values


def test_another_path_of_a_shared_state_is_as_good_as_the_first():
    """A merge takes a shared State by any of its paths."""
    one = net()
    graphdef, tree = gn.treefy_split(one)
    rest = tree.filter(gn.Not(gn.PathIn("again.weight")))
    for alias in ({"first": {"weight": 5}}, {"table": {"w": 5}}, {"items": {1: {"weight": 5}}}):
        assert gn.treefy_merge(graphdef, rest, alias).first.weight.value == 5
    assert gn.treefy_merge(graphdef, rest, {"parent": {"parent": {"table": {"w": 5}}}}).again.weight.value == 5


def test_value_that_is_a_dict_is_a_value():
    """Below the path of a State a mapping is that State's value, not more paths."""
    value: Any = {"weight": jnp.zeros(1), "bias": {"deep": jnp.zeros(1)}}
    one = Linear(gn.ParamState(value))
    graphdef, tree = gn.treefy_split(one)
    made = gn.treefy_merge(graphdef, {"weight": value})
    assert made.weight.value == value
    assert made.weight.value["bias"]["deep"] is value["bias"]["deep"]
    assert gn.treefy_merge(graphdef, tree.to_dict()).weight.value == value


def test_merge_names_all_faults_at_once():
    """Missing, unknown, doubly given and wrongly classed States are all named in one error, and nothing is built."""
    graphdef, tree = gn.treefy_split(net())
    wrong = gn.treefy_states({"mean": gn.ParamState(0)})
    with pytest.raises(gn.MergeError) as caught:
        gn.treefy_merge(
            graphdef,
            tree.filter(gn.PathIn("again.weight")),
            {"first": {"weight": 1}, "nothing": {"there": 3}, "items": {7: {"weight": 3}}, "width": 3},
            wrong,
        )
    assert str(caught.value) == (
        """cannot merge into Net: 7 faults:
  first.weight is given twice (also as again.weight)
  unknown nothing.there: the graphdef has no State there
  unknown items.7.weight: the graphdef has no State there; did you mean 'items.1.weight'?
  unknown width: the graphdef has no State there
  mean is a ParamState, the graphdef has a BatchState there
  missing items.0.weight (ParamState)
  missing table.b (ParamState)"""
    )
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("trees", "message"),
    [
        (lambda tree: [], "2 faults:\n  missing bias (ParamState)\n  missing weight (ParamState)"),
        (lambda tree: [tree.filter(gn.PathIn("bias"))], "missing weight (ParamState)"),
        (lambda tree: [tree, {"scale": 1}], "unknown scale: the graphdef has no State there"),
        (lambda tree: [tree, {"bias": {"x": 1}}], "bias is given twice"),
        (lambda tree: [tree, tree], "2 faults:\n  bias is given twice\n  weight is given twice"),
        (lambda tree: [tree, {"": 1}], 'unknown "": the graphdef has no State there'),
        (lambda tree: [tree, {0: 1}], "unknown 0: the graphdef has no State there"),
        (
            lambda tree: [{"weight": 0, "bias": gn.HiddenState(0)}],
            "bias is a HiddenState, the graphdef has a ParamState there",
        ),
        (
            lambda tree: [{"weight": 0, "bias": gn.LongTermState(0)}],
            "bias is a LongTermState, the graphdef has a ParamState there",
        ),
    ],
)
def test_single_fault_of_a_merge(trees: Callable[[gn.StateTree], list[Any]], message: str):
    """Each fault alone reads as one line; also when the same faulty call is made again."""
    graphdef, tree = gn.treefy_split(Linear(param(), param()))
    for _ in range(2):
        with pytest.raises(gn.MergeError) as caught:
            gn.treefy_merge(graphdef, *trees(tree))
        assert str(caught.value) == f"cannot merge into Linear: {message}"


def test_long_lists_of_faults_are_counted():
    """Beyond fifty faults only their number is told."""
    one = Net(1, Linear(param()), Linear(param()), [Linear(param()) for _ in range(60)], {}, mean())
    with pytest.raises(gn.MergeError) as caught:
        gn.treefy_merge(gn.graphdef(one))
    lines = str(caught.value).splitlines()
    assert lines[0] == "cannot merge into Net: 63 faults:"
    assert lines[1] == "  missing again.weight (ParamState)"
    assert lines[-1] == "  and 13 more"
    assert len(lines) == 52


# For calls that a type checker would refuse.
merge: Any = gn.treefy_merge


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, t: merge(3, t), "gn.treefy_merge takes a GraphDef first; found int 3"),
        (lambda d, t: merge(t, d), "gn.treefy_merge takes a GraphDef first; found StateTree {"),
        (
            lambda d, t: merge(d, 3),
            "gn.treefy_merge takes a StateTree, FlatStates or a nested mapping by path; found int 3",
        ),
        (
            lambda d, t: merge(d, [t]),
            "gn.treefy_merge takes a StateTree, FlatStates or a nested mapping by path; found list [{",
        ),
        (
            lambda d, t: gn.unflatten(d, t),
            "gn.unflatten takes live States as FlatStates; found StateTree {",
        ),
    ],
)
def test_wrong_argument_of_a_merge(call: Callable[[Any, Any], object], message: str):
    """What is not a graphdef or no collection of States is a TypeError that says what is."""
    graphdef, tree = gn.treefy_split(Linear(param()))
    with pytest.raises(TypeError) as caught:
        call(graphdef, tree)
    assert str(caught.value).startswith(message)


def test_failed_operations_change_nothing():
    """A split or merge that fails leaves the node, its States and its containers as they were."""
    one = net()
    graphdef, tree = gn.treefy_split(one)
    before = snapshot(one)
    anything: Any = ...
    for fail in (
        lambda: gn.treefy_split(one, gn.BatchState),
        lambda: gn.treefy_merge(graphdef, tree, tree),
        lambda: gn.unflatten(graphdef, gn.states(one, gn.BatchState)),
        lambda: gn.states(one, anything, gn.BatchState),
    ):
        with pytest.raises(ValueError):
            fail()
    assert snapshot(one) == before


# Flatten, unflatten, clone


def test_unflatten_builds_new_nodes_around_the_live_states():
    """`unflatten` is the inverse of `flatten`: new nodes, the same States, the same structure."""
    one = net()
    graphdef, found = gn.flatten(one)
    assert found == gn.states(one)
    made = gn.unflatten(graphdef, found)
    assert made is not one
    assert made.first is not one.first
    assert reference(made).structure == reference(one).structure
    assert gn.flatten(made)[1] == found
    made.mean.value = jnp.asarray(17)
    assert one.mean.value == 17


def test_unflatten_names_all_faults():
    """Missing, unknown and wrongly classed live States are named at once."""
    graphdef = gn.graphdef(Linear(param(), param()))
    other = gn.states({"bias": gn.BatchState(0), "extra": gn.State(0)})
    with pytest.raises(gn.MergeError) as caught:
        gn.unflatten(graphdef, other)
    assert str(caught.value) == (
        """cannot unflatten into Linear: 3 faults:
  bias is a BatchState, the graphdef has a ParamState there
  unknown extra: the graphdef has no State there
  missing weight (ParamState)"""
    )


class Sized(gn.Node):
    size: int
    weight: gn.ParamState[Float[Array, "size"]]
    heads: list["Sized"] = gn.subnode(default_factory=list)


def test_unflatten_refuses_states_that_break_a_contract():
    """As the constructor does: all faults at once, and no State is held to what was refused."""
    graphdef = gn.graphdef(Sized(3, param(3), [Sized(2, param(2)), Sized(1, param(1))]))
    states = [gn.ParamState(jnp.ones(3)), gn.ParamState(jnp.ones(2, jnp.int32)), gn.ParamState(jnp.ones(5))]
    given = {"weight": states[0], "heads": [{"weight": states[1]}, {"weight": states[2]}]}
    with pytest.raises(gn.ContractError) as caught:
        gn.unflatten(graphdef, gn.states(given))
    assert str(caught.value) == (
        """2 faults:
  Sized.weight: expected dtype Float of Float[Array, "size"], found int32
  Sized.weight: expected size = 1 of Float[Array, "size"], found shape (5,)"""
    )
    states[0].value = jnp.ones(7)


class Affine(gn.Node):
    weight: gn.ParamState[Float[Array, "columns rows"]]
    bias: gn.ParamState[Float[Array, "rows"]]


def test_unflatten_refuses_states_that_do_not_fit_each_other():
    """Also where each is held to its contract already, in a node of its own."""
    small, large = (Affine(gn.ParamState(jnp.ones((2, size))), param(size)) for size in (3, 4))
    with pytest.raises(gn.ContractError, match=r"Affine\.bias: expected rows = 3"):
        gn.unflatten(gn.graphdef(small), gn.states({"weight": small.weight, "bias": large.bias}))


def test_unflatten_holds_states_to_their_contracts():
    """Later writes are checked; what stood in a stack fits its structure again."""
    weight = gn.ParamState(jnp.ones(3))
    made = gn.unflatten(gn.graphdef(Sized(3, param(3))), gn.states({"weight": weight}))
    assert made.weight is weight
    with pytest.raises(gn.ContractError):
        weight.value = jnp.ones(7)
    stacked = gn.stack([Sized(3, param(3)), Sized(3, param(3))])
    assert gn.unflatten(*gn.flatten(stacked)).weight is stacked.weight


def test_clone_shares_arrays_and_nothing_else():
    """A clone has new nodes, States and containers that hold the same arrays."""
    one = net()
    twin = gn.clone(one)
    assert twin.first.weight is not one.first.weight
    assert twin.first.weight.value is one.first.weight.value
    assert twin.items is not one.items
    assert twin.parent is twin
    twin.first.weight.value = jnp.ones(2)
    twin.items.clear()
    assert one.items
    assert float(one.first.weight.value[0]) == 0.0


def test_clone_of_a_pytree_keeps_what_its_nodes_share():
    """What several nodes of a pytree share is shared by their copies."""
    shared = Linear(param())
    left, right = gn.clone((shared, [Linear(shared.weight)]))
    assert left.weight is right[0].weight
    assert left.weight is not shared.weight


def test_deepcopy_copies_values_too():
    """`copy.deepcopy` copies the arrays, and keeps sharing and cycles; the copy splits like the original."""
    one = net()
    one.first.weight.value = jnp.zeros(2)
    twin = copy.deepcopy(one)
    assert twin.first.weight.value is not one.first.weight.value
    assert reference(twin).structure == reference(one).structure
    assert gn.graphdef(twin) is gn.graphdef(one)
    assert twin.parent is twin


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda roots: pickle.loads(pickle.dumps(roots))])
def test_copies_of_several_roots_keep_what_they_share(copied: Callable[[Any], Any]):
    """Deep-copying or pickling several roots in one call keeps shared nodes and States shared, cycles across too."""
    one, other = net(), net()
    other.first = one.first
    other.parent = one
    one.parent = other
    other.table["s"] = one.mean
    roots = {"a": [one], "b": (other, one.first), "c": one.mean}
    made = copied(roots)
    a, b = made["a"][0], made["b"][0]
    assert b.first is a.first is made["b"][1]
    assert b.parent is a
    assert a.parent is b
    assert b.table["s"] is a.mean is made["c"]
    assert reference(a).structure == reference(one).structure
    assert reference(b).structure == reference(other).structure
    assert not {id(n) for _, n in reference(a).nodes} & {id(n) for _, n in reference(one).nodes}


def test_copies_keep_unset_fields_unset():
    """A popped field is unset in every copy: clone, deepcopy, copy and pickle."""
    one = net()
    one.parent = None
    gn.pop_states(one, gn.BatchState)
    for copied in (gn.clone, copy.deepcopy, copy.copy, lambda node: pickle.loads(pickle.dumps(node))):
        made: Any = copied(one)
        assert "mean" not in vars(made)
        assert gn.graphdef(made) is gn.graphdef(one)


# JAX


def test_merge_inside_jit_trains_plainly():
    """The split parts go through plain jit and grad: merge inside, write, return the states, update outside."""
    one = net()
    one.mean.value = jnp.zeros(())

    @jax.jit
    def step(graphdef: gn.GraphDef[Net], tree: gn.StateTree) -> gn.StateTree:
        made = gn.treefy_merge(graphdef, tree)
        made.first.weight.value = made.again.weight.value + 1
        made.mean.value = jnp.sum(made.table["w"].value)
        return gn.treefy_states(made)

    for _ in range(3):
        gn.update_states(one, step(*gn.treefy_split(one)))
    assert one.table["w"].value.tolist() == [3.0, 3.0]
    assert float(one.mean.value) == 6.0
