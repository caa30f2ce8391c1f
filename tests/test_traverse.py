"""Looking around a live graph: nodes, leaves, aliases."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import pytest

import graphnode as gn

from .properties.strategies import reference


class Linear(gn.Node):
    sizes: tuple[int, tuple[str, ...]]
    weight: gn.ParamState
    bias: gn.ParamState | None = None


class Net(gn.Node):
    name: str
    first: Linear
    again: Linear
    items: list[Linear]
    table: dict[str, list[gn.State]]
    note: str | None = None
    parent: "Net | None" = None


def linear() -> Linear:
    return Linear((2, ("a", "b")), gn.ParamState(jnp.zeros(1)))


def net() -> Net:
    shared = linear()
    table: dict[str, list[gn.State]] = {"b": [shared.weight], "a": [gn.State(jnp.zeros(1)), gn.State(jnp.ones(1))]}
    one = Net("net", shared, shared, [linear(), shared], table)
    one.parent = one
    return one


def test_iter_node_is_post_order_with_the_root_last():
    """Every node comes once, at its first path, after the nodes below it; the root comes last, at `()`."""
    one = net()
    assert list(gn.iter_node(one)) == [(("again",), one.again), (("items", 0), one.items[0]), ((), one)]


def test_iter_node_puts_children_before_their_parent():
    """In a chain the deepest node comes first; siblings come in canonical order."""

    class Chain(gn.Node):
        left: "Chain | None" = None
        right: "Chain | None" = None

    one = Chain(Chain(Chain(), Chain()), Chain(None, Chain()))
    assert [gn.path_str(path) for path, _ in gn.iter_node(one)] == [
        *("left.left", "left.right", "left", "right.right", "right", "")
    ]


def test_iter_leaf_is_pre_order_over_states_and_statics():
    """States and static values come by field name; a static tuple item by item; None and repeats are left out."""
    one = net()
    assert [(gn.path_str(path), leaf) for path, leaf in gn.iter_leaf(one)] == [
        ("again.sizes.0", 2),
        ("again.sizes.1.0", "a"),
        ("again.sizes.1.1", "b"),
        ("again.weight", one.first.weight),
        ("items.0.sizes.0", 2),
        ("items.0.sizes.1.0", "a"),
        ("items.0.sizes.1.1", "b"),
        ("items.0.weight", one.items[0].weight),
        ("name", "net"),
        ("table.a.0", one.table["a"][0]),
        ("table.a.1", one.table["a"][1]),
    ]


def test_iter_leaf_gives_a_static_array_whole():
    """A static array is one leaf, and so is any static value that is not a tuple."""

    class Masked(gn.Node):
        mask: Any = gn.static()
        kinds: frozenset[int] = frozenset()

    mask = jnp.ones(3)
    (kinds, found) = gn.iter_leaf(Masked(mask, frozenset({1})))
    assert kinds == (("kinds",), frozenset({1}))
    assert found[0] == ("mask",)
    assert found[1] is mask


def test_unset_fields_are_left_out():
    """What was popped or deleted appears in no iteration."""
    one = net()
    one.table = {}
    gn.pop_states(one, gn.PathContains("again"))
    del one.items
    assert [path for path, _ in gn.iter_node(one)] == [("again",), ()]
    assert [path[-1] for path, leaf in gn.iter_leaf(one) if not isinstance(leaf, int | str)] == []
    del one.first
    assert gn.aliases(one) == {(): (("parent",),)}


def test_iteration_is_lazy():
    """`iter_node` and `iter_leaf` are iterators."""
    for found in (gn.iter_node(net()), gn.iter_leaf(net())):
        assert isinstance(found, Iterator)
        next(found)


def test_nodes_gives_the_live_nodes_by_path():
    """`nodes` gives a dict of the graph's own nodes in the order of `iter_node`, by filters if any."""
    one = net()
    assert list(gn.nodes(one).items()) == list(gn.iter_node(one))
    assert gn.nodes(one, Linear) == {("again",): one.first, ("items", 0): one.items[0]}
    linears, nets = gn.nodes(one, Linear, Net)
    assert list(nets) == [()]
    assert len(linears) == 2


def test_pytree_root_has_no_node_of_its_own():
    """For a pytree of nodes the paths begin with its keys, and nothing stands at `()`."""
    one, two = linear(), linear()
    roots = {"b": [one, two], "a": (one,)}
    assert list(gn.nodes(roots)) == [("a", 0), ("b", 1)]
    assert [path for path, leaf in gn.iter_leaf(roots) if isinstance(leaf, gn.State)] == [
        ("a", 0, "weight"),
        ("b", 1, "weight"),
    ]
    assert gn.aliases(roots) == {("a", 0): (("b", 0),)}


def test_aliases_name_every_further_reference():
    """Each object that is referred to more than once is listed with all its further paths, in order."""
    assert gn.aliases(net()) == {
        (): (("parent",),),
        ("again",): (("first",), ("items", 1)),
        ("again", "weight"): (("table", "b", 0),),
    }
    assert gn.aliases(linear()) == {}


def test_all_views_agree():
    """States, leaves, nodes and aliases agree with an independent walk of the live objects."""
    one = net()
    known = reference(one)
    assert list(gn.states(one).items()) == known.states
    assert list(gn.iter_leaf(one)) == known.leaves
    assert [path for path, _ in gn.iter_node(one)] == known.post
    assert gn.aliases(one) == known.aliases


@pytest.mark.parametrize("operation", [gn.nodes, gn.aliases, gn.states])
def test_graph_may_change_after_it_was_looked_at(operation: Any):
    """What was returned is a picture: later changes of the graph do not change it."""
    one = net()
    found = operation(one)
    paths = list(found)
    one.items.clear()
    one.parent = None
    assert list(found) == paths
    assert list(operation(one)) != paths
