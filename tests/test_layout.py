"""Layouts: the ordered paths and descriptions of States, interned whatever made them."""

import copy
import gc
import pickle
import weakref

import jax.numpy as jnp
import pytest
from hypothesis import given

import graphnode as gn
from graphnode._graph._layout import Layout, TrieBuilder, layout_of_trie
from graphnode._state import spec_of
from graphnode._trie import by_target
from tests.properties.strategies import World, worlds


class Leaf(gn.Node):
    weight: gn.ParamState


class Net(gn.Node):
    items: list[Leaf]
    table: dict[str, gn.State]
    bias: gn.ParamState | None = None


def param() -> gn.ParamState:
    return gn.ParamState(jnp.zeros(1))


def net(count: int = 2) -> Net:
    table: dict[str, gn.State] = {"0": gn.State(jnp.zeros(1)), "a.b": gn.BatchState(jnp.zeros(1), tag="t")}
    return Net([Leaf(param()) for _ in range(count)], table, param())


def layout(count: int = 2) -> Layout:
    return gn.graphdef(net(count)).layout


def test_layout_lists_states_in_canonical_order():
    """Paths, classes and tags stand in the order of the walk."""
    found = layout()
    assert len(found) == 5
    assert [gn.path_str(path) for path in found.paths()] == [
        *("bias", "items.0.weight", "items.1.weight", 'table."0"', 'table."a.b"')
    ]
    assert [spec.cls for spec in found.specs] == [
        *(gn.ParamState, gn.ParamState, gn.ParamState, gn.State, gn.BatchState)
    ]
    assert [spec.tag for spec in found.specs] == [None, None, None, None, "t"]


def test_equal_layouts_are_one_object():
    """A layout is interned: those of equal nodes, of a part, a union and a difference are the same objects."""
    one = net()
    whole = gn.treefy_states(one)
    params, rest = gn.treefy_states(one, gn.ParamState, ...)
    assert layout() is whole.layout
    assert (params | rest).layout is (rest | params).layout is whole.layout
    assert (whole - rest).layout is params.layout is gn.states(net(), gn.ParamState).layout
    assert params.layout is not rest.layout


def test_graphs_with_equal_states_share_a_layout():
    """Static values and what holds no State are no part of a layout."""

    class Wide(gn.Node):
        width: int
        weight: gn.ParamState
        child: "Wide | None" = None

    layouts = {gn.graphdef(one).layout for one in (Wide(1, param()), Wide(2, param()))}
    layouts.add(gn.graphdef(Leaf(param())).layout)
    assert len(layouts) == 1


def test_index_and_path_are_inverse():
    """`index` finds the State at a path, and nothing elsewhere."""
    found = layout()
    assert [found.index(found.path(at)) for at in range(len(found))] == list(range(len(found)))
    for path in ((), ("items",), ("items", 2, "weight"), ("table", 0), ("bias", "x"), ("items", "0", "weight")):
        assert found.index(path) is None


def test_keys_do_not_mistake_types():
    """A position is not a string, and neither `True` nor `False` is a position."""
    found = layout()
    assert found.index(("items", 1, "weight")) == 2
    assert found.index(("items", True, "weight")) is None
    assert found.index(("items", "1", "weight")) is None


@pytest.mark.parametrize("key", [True, False])
def test_asking_for_a_wrong_key_leaves_the_right_one_alone(key: bool):
    """Asking a tree for `True` or `False` finds nothing, before and after position 1 or 0 was asked for."""
    items = gn.treefy_states(net(3))["items"]
    assert isinstance(items, gn.StateTree)
    assert key not in items
    assert int(key) in items
    assert key not in items


def test_take_of_all_is_the_same_layout():
    """A part that is the whole is the same object, and an empty part the empty layout."""
    found = layout()
    assert found.take(range(len(found))) is found
    assert found.take([]) is gn.treefy_states(net(), None).layout
    assert len(found.take([])) == 0


def test_part_keeps_no_path_that_it_does_not_need():
    """A part of a layout holds the entries of its own States alone, so equal parts of different wholes are one."""
    one, other = net(1), Net([Leaf(param())], {})
    assert gn.treefy_states(one, gn.PathContains("items")).layout is gn.treefy_states(other).layout


def test_layout_pickles_and_copies_to_itself():
    """Pickling and copying give the interned object."""
    found = layout()
    assert pickle.loads(pickle.dumps(found)) is found
    assert copy.copy(found) is found
    assert copy.deepcopy(found) is found


def test_unpickled_layout_equals_one_that_is_made_later():
    """A layout that is read from a file before any model is made is the one the model then has."""
    data = pickle.dumps(layout(4))
    gc.collect()
    found = pickle.loads(data)
    assert found is layout(4)


def test_layout_is_freed():
    """Interning is weak, also when layouts have been compared with each other."""
    params, rest = gn.treefy_states(net(5), gn.ParamState, ...)
    together = params | rest
    together - params
    gone = [weakref.ref(one.layout) for one in (params, rest, together)]
    del params, rest, together
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


def test_what_a_layout_remembers_is_bounded():
    """Ever new filters do not fill the memory of a layout."""
    tree = gn.treefy_states(net())
    for at in range(1000):
        tree.filter(gn.PathIn(("items", at, "weight"), missing_ok=True))
    assert len(tree.layout._answers) <= 128


def test_remembered_answer_is_worked_out_once():
    """`remember` asks once."""
    found, asked = layout(), []
    for _ in range(3):
        assert found.remember("question", lambda: asked.append(1) or 7) == 7  # type: ignore[func-returns-value]
    assert asked == [1]


def test_repr_shows_the_first_states():
    """The repr names the first five States, and how many more there are."""
    assert repr(layout()) == (
        'Layout(bias: ParamState, items.0.weight: ParamState, items.1.weight: ParamState, table."0": State, '
        'table."a.b": BatchState)'
    )
    assert repr(layout(4)).endswith("items.3.weight: ParamState, and 2 more)")


def test_trie_in_any_order_gives_the_canonical_layout():
    """Whatever the order in which paths are collected, the layout is the canonical one."""
    paths: list[gn.Path] = [("b",), ("a", 10), ("a", 2, "x"), ("a", 2, "X"), ("c", "10"), ("c", "2")]
    spec = spec_of(gn.State)
    made = set()
    for order in (paths, paths[::-1], paths[3:] + paths[:3]):
        trie = TrieBuilder()
        trie.leaves.update({trie.entry(path): spec for path in order})
        made.add(trie.build()[0])
    (found,) = made
    assert list(found.paths()) == [("a", 2, "X"), ("a", 2, "x"), ("a", 10), ("b",), ("c", "10"), ("c", "2")]


@given(worlds())
def test_a_layout_is_canonical_as_it_comes_from_the_walk(world: World):
    """Entries and references are those of the sorted and pruned trie, whatever is shared, cyclic or without States."""
    for root in (world.root, world.nodes):
        found = gn.graphdef(root).layout
        specs = dict(zip(found.leaves, found.specs, strict=True))
        assert layout_of_trie(found.parents, found.keys, specs, by_target(found.references))[0] is found
