"""Nodes in pytrees become pytrees and come back, with what they share."""

import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

from .properties.strategies import reference, snapshot


class Linear(gn.Node):
    weight: gn.ParamState


class Net(gn.Node):
    size: int
    first: Linear
    items: list[Linear]
    parent: "Net | None" = None


def linear() -> Linear:
    return Linear(gn.ParamState(jnp.ones(2)))


def net(shared: Linear) -> Net:
    one = Net(1, shared, [linear(), shared])
    one.parent = one
    return one


def test_nodes_anywhere_become_node_states():
    """Nodes and States in a pytree are replaced, other leaves pass by identity, and back comes an equal pytree."""
    shared = linear()
    one, x = net(shared), jnp.zeros(3)
    before = snapshot(one)
    tree, states = gn.graph_to_tree({"net": one, "more": [shared, x, 3, None], "state": shared.weight})
    assert isinstance(tree["net"], gn.NodeStates)
    assert tree["more"][1] is x
    assert tree["more"][2:] == [3, None]
    assert isinstance(tree["state"], gn.NodeStates)
    back = gn.tree_to_graph(tree)
    assert reference(back["net"]).structure == reference(one).structure
    assert back["net"].first is back["more"][0]
    assert back["state"] is back["net"].first.weight
    assert back["more"][1] is x
    assert back["net"] is not one
    assert back["net"].first.weight.value is shared.weight.value
    assert next(iter(states.values())) is shared.weight
    assert snapshot(one) == before


def test_each_state_is_a_leaf_once():
    """A State that several nodes share is one leaf of the whole pytree, at its first place."""
    shared = linear()
    tree, states = gn.graph_to_tree((shared, net(shared), [shared]))
    assert len(jax.tree.leaves(tree)) == len(states) == 2
    assert [list(part.states.flat()) for part in (tree[0], tree[1], tree[2][0])] == [
        *([("weight",)], [("items", 0, "weight")], [])
    ]


def test_states_are_named_by_their_place():
    """The live States come by their path in the list of the nodes."""
    _, states = gn.graph_to_tree({"b": linear(), "a": [linear(), 3]})
    assert list(states) == [(0, "weight"), (1, "weight")]


def test_sharing_survives_jit_and_map():
    """NodeStates go through jit, map and pickle; sharing across arguments is restored afterwards."""
    shared = linear()
    tree, _ = gn.graph_to_tree([shared, net(shared)])

    @jax.jit
    def step(tree: Any) -> Any:
        left, right = gn.tree_to_graph(tree)
        assert right.first is left
        left.weight.value = left.weight.value + right.items[1].weight.value
        return gn.graph_to_tree([left, right])[0]

    left, right = gn.tree_to_graph(step(tree))
    assert right.first is right.items[1] is left
    assert left.weight.value.tolist() == [2.0, 2.0]
    treedefs: list[Any] = [jax.tree.structure(one) for one in (step(tree), tree)]
    assert treedefs[0] == treedefs[1]
    again = gn.tree_to_graph(pickle.loads(pickle.dumps(jax.tree.map(lambda leaf: leaf * 3, tree))))
    assert again[1].first is again[0]
    assert again[0].weight.value.tolist() == [3.0, 3.0]


def test_pytree_without_nodes_passes():
    """A pytree without nodes comes back as it is."""
    given = {"a": 1, "b": [None, jnp.zeros(1)]}
    tree, states = gn.graph_to_tree(given)
    assert tree["b"][1] is given["b"][1]  # type: ignore[index]
    assert len(states) == 0
    assert gn.tree_to_graph(given) is given


def test_node_alone_is_a_pytree():
    """A node alone becomes one NodeStates, and comes back."""
    one = net(linear())
    tree, _ = gn.graph_to_tree(one)
    assert isinstance(tree, gn.NodeStates)
    assert reference(gn.tree_to_graph(tree)).structure == reference(one).structure


def test_nodes_map_over_axes_of_vmap():
    """A NodeStates is a pytree that vmap can map: states stacked outside, merged inside."""
    tree, _ = gn.graph_to_tree(linear())
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), tree)
    sums = jax.vmap(lambda one: jnp.sum(gn.tree_to_graph(one).weight.value))(stacked)
    assert sums.tolist() == [2.0, 4.0]


# Prefixes


def test_consistent_prefixes_pass():
    """An object that is reached several times may have one prefix value, the same at each place."""
    shared = linear()
    for tree, prefix in (
        ([shared, shared, linear()], [0, 0, 1]),
        ([shared, [shared, 3]], 0),
        ({"a": shared, "b": (shared, linear())}, {"a": None, "b": (None, 1)}),
        ([net(shared), shared], [0, 0]),
        ([linear(), linear()], [0, None]),
    ):
        gn.graph_to_tree(tree, prefix=prefix)


@pytest.mark.parametrize("tree", [[None, "one", "one"], ["one", None, "one"], [[None], {"a": None, "b": "one"}, "one"]])
def test_none_in_the_tree_shifts_no_prefix(tree: Any):
    """`None` in the pytree is not a leaf: it takes no prefix from the node beside it."""
    shared = linear()
    given = jax.tree.map(lambda leaf: shared, tree)
    gn.graph_to_tree(given, prefix=0)
    gn.graph_to_tree(given, prefix=jax.tree.map(lambda leaf: 0, tree))


@pytest.mark.parametrize(
    ("build", "prefix", "message"),
    [
        (
            lambda one: [one, one],
            [0, 1],
            "inconsistent prefixes: one Linear is reached as [0] with 0 and as [1] with 1",
        ),
        (
            lambda one: {"a": one, "b": (3, one)},
            {"a": None, "b": 0},
            "inconsistent prefixes: one Linear is reached as ['a'] with None and as ['b'][1] with 0",
        ),
        (
            lambda one: [net(one), one.weight],
            [0, 1],
            "inconsistent prefixes: one ParamState is reached as [0].first.weight with 0 and as [1] with 1",
        ),
        (
            lambda one: [net(one), net(one), [one]],
            [0, 1, 2],
            "inconsistent prefixes: 3 faults:"
            "\n  one Linear is reached as [0].first with 0 and as [1].first with 1"
            "\n  one Linear is reached as [0].first with 0 and as [1].items.1 with 1"
            "\n  one Linear is reached as [0].first with 0 and as [2][0] with 2",
        ),
    ],
)
def test_inconsistent_prefixes_name_both_paths(build: Callable[[Linear], Any], prefix: Any, message: str):
    """An object that is reached with two prefix values is an error that names both paths and values, for each."""
    with pytest.raises(gn.AliasError) as caught:
        gn.graph_to_tree(build(linear()), prefix=prefix)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_prefix_of_another_structure_is_refused():
    """A prefix that does not fit the pytree is JAX's own error."""
    with pytest.raises(ValueError):
        gn.graph_to_tree([linear(), linear()], prefix=[0, 1, 2])


# Errors of the way back


def test_missing_part_is_named():
    """All nodes that were converted together must come back together."""
    tree, _ = gn.graph_to_tree([linear(), linear(), linear()])
    with pytest.raises(gn.MergeError) as caught:
        gn.tree_to_graph([tree[1]])
    assert str(caught.value) == "NodeStates 0, 2 of 3 that were converted together are missing"


def test_parts_of_two_structures_are_not_mixed():
    """Parts of two calls of different structure do not fit together; the error says where they differ."""
    left, _ = gn.graph_to_tree([linear(), net(linear())])
    right, _ = gn.graph_to_tree([linear(), linear()])
    with pytest.raises(gn.MergeError) as caught:
        gn.tree_to_graph([left[0], right[1]])
    assert str(caught.value) == (
        "NodeStates of two structures are mixed; convert all nodes in one call. They differ in 1: Net != Linear"
    )


def test_part_with_the_states_of_another_is_refused():
    """A part whose States were exchanged for those of another structure is named."""
    tree, _ = gn.graph_to_tree([linear(), net(linear())])
    wrong = gn.NodeStates(tree[0].graphdef, 0, tree[1].states)
    with pytest.raises(gn.MergeError) as caught:
        gn.tree_to_graph([wrong, tree[1]])
    assert str(caught.value) == "NodeStates 0 hold the States of another structure"
