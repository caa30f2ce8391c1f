"""Containers of fields are gone through, and made again, in one way: in canonical order, each in its kind."""

import random
from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnode as gn
from graphnode._declare._annotations import form_of
from graphnode._declare._forms import Form, open_form
from graphnode._fields import Kind
from graphnode._nesting import (
    Container,
    ContainerKind,
    children,
    is_container,
    items,
    kind_of,
    leaves,
    mapped,
    rebuilt,
)


class Pair(NamedTuple):
    left: Any
    right: Any


class Holder(gn.Node):
    """A node whose containers are its own."""

    rows: list[tuple[gn.ParamState, ...]]
    table: dict[str, gn.ParamState]


def nestings(*, mutable: bool = True) -> st.SearchStrategy[Any]:
    """Containers in containers, in any of the kinds that fields hold, around integers and `None`."""

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        tuples = st.one_of(st.lists(inner, max_size=3).map(tuple), st.builds(Pair, inner, inner))
        dicts = st.dictionaries(st.text(alphabet="ab1_", max_size=2), inner, max_size=4)
        return st.one_of(tuples, st.lists(inner, max_size=3), dicts) if mutable else tuples

    return st.recursive(st.one_of(st.integers(), st.none()), around, max_leaves=12)


def remade(value: Any) -> Any:
    """The value taken apart and put together again, at every level."""
    return rebuilt(value, [(key, remade(child)) for key, child in items(value)]) if is_container(value) else value


def typed(value: Any) -> Any:
    """What tells two nestings apart: the types of their containers, and the order of their dicts."""
    if isinstance(value, dict):
        return dict, [(key, typed(item)) for key, item in value.items()]
    return (type(value), [typed(item) for item in value]) if isinstance(value, list | tuple) else value


def shuffled(value: Any, seed: int) -> Any:
    """The same value, with dicts that were filled in another order."""
    if not is_container(value):
        return value
    if isinstance(value, dict):
        keys = list(value)
        random.Random(seed).shuffle(keys)
        return {key: shuffled(value[key], seed) for key in keys}
    return rebuilt(value, [(key, shuffled(item, seed)) for key, item in items(value)])


def containers_in(value: Any) -> list[Container]:
    if not is_container(value):
        return []
    return [value, *[inner for _, child in items(value) for inner in containers_in(child)]]


@given(nestings())
def test_a_container_survives_its_items(value: Any):
    """What is taken apart and rebuilt is the same value, in kinds, classes of named tuples and order of dicts."""
    assert typed(remade(value)) == typed(value)


@given(nestings(), st.integers(0, 5))
def test_order_is_canonical(value: Any, seed: int):
    """The leaves come by position and by key, in whatever order dicts were filled."""
    in_order = list(leaves(value))
    assert list(leaves(shuffled(value, seed))) == in_order
    # Positions and names never meet in one container, so paths sort as they are.
    assert [path for path, _ in in_order] == sorted(path for path, _ in in_order)


@given(nestings())
def test_a_path_leads_to_its_leaf(value: Any):
    """The keys of each leaf, followed from the value, give the leaf itself."""
    for path, leaf in leaves(value):
        child = value
        for key in path:
            child = child[key]
        assert child is leaf


def test_what_was_written_keeps_its_order():
    """A dict of a file comes as it stands there, with keys of any type; in canonical order only where that is asked."""
    value = {"b": [1, 2], "a": 3, None: 4}
    assert items(value, as_written=True) == [("b", [1, 2]), ("a", 3), (None, 4)]
    assert list(leaves({"b": [1, 2], "a": 3}, as_written=True)) == [(("b", 0), 1), (("b", 1), 2), (("a",), 3)]
    assert items({"b": 1, "a": 2}) == [("a", 2), ("b", 1)]


@given(nestings())
def test_mapping_changes_the_leaves_alone(value: Any):
    """Each leaf is replaced once, as its container holds it, and the containers around it keep their kind."""
    order: list[Any] = []

    def numbered(leaf: Any) -> Any:
        order.append(leaf)
        return f"leaf {len(order)}"

    result = mapped(numbered, value)
    assert order == [leaf for _, leaf in leaves(value, as_written=True)]
    assert [leaf for _, leaf in leaves(result, as_written=True)] == [f"leaf {at + 1}" for at in range(len(order))]
    assert typed(mapped(lambda leaf: 0, result)) == typed(mapped(lambda leaf: 0, value))


@given(nestings(mutable=False))
def test_a_tuple_in_which_nothing_changes_stays(value: Any):
    """Tuples of tuples are the same object where every leaf is."""
    assert mapped(lambda leaf: leaf, value) is value


@given(nestings())
def test_lists_and_dicts_are_never_shared(value: Any):
    """What is mapped holds no list or dict of the value: to change the one must not change the other."""
    result = mapped(lambda leaf: leaf, value)
    assert typed(result) == typed(value)
    mutable = {id(inner) for inner in containers_in(value) if not isinstance(inner, tuple)}
    assert not mutable & {id(inner) for inner in containers_in(result)}


def test_only_the_changed_part_of_a_tuple_is_new():
    """A tuple keeps its items that did not change, beside those that did."""
    kept, changed = (1, 2), (3, 4)
    result = mapped(lambda leaf: 5 if leaf == 4 else leaf, (kept, changed))
    assert result == ((1, 2), (3, 5))
    assert result[0] is kept


def test_containers_of_a_node_are_rebuilt_as_plain_ones():
    """The list and dict of a node check what is put in; what is made of them belongs to no node, and is plain."""
    first, second = gn.ParamState(jnp.ones(1)), gn.ParamState(jnp.ones(2))
    node = Holder(rows=[(first,)], table={"b": second, "a": first})
    assert kind_of(node.rows) is list
    assert kind_of(node.table) is dict
    assert items(node.table) == [("a", first), ("b", second)]
    assert type(rebuilt(node.rows, [(0, 1)])) is list
    assert type(mapped(lambda leaf: leaf, node.rows)) is list
    assert typed(rebuilt(node.table, [("a", 1), ("b", 2)])) == (dict, [("b", 2), ("a", 1)])


def test_leaves_of_any_depth_are_found():
    """Going through a nesting does not recurse: 5,000 levels are as good as one."""
    value: Any = "leaf"
    for _ in range(5_000):
        value = (value,)
    ((path, leaf),) = leaves(value)
    assert len(path) == 5_000
    assert leaf == "leaf"


def form_text(form: Form, kind: ContainerKind, value: Container) -> list[tuple[str | int, Any, str]] | None:
    placed = form.items(kind, items(value))
    return None if placed is None else [(key, child, str(item_form)) for key, child, item_form in placed]


def test_a_form_gives_each_item_the_form_of_its_place():
    """A value is walked along its annotation: each item comes with what its place admits, by position in a tuple."""
    annotation = list[gn.ParamState] | tuple[gn.ParamState, gn.RngKey | None] | dict[str, tuple[gn.State, ...]]
    form = form_of(annotation, Holder)
    assert form_text(form, list, [1, 2]) == [(0, 1, "ParamState"), (1, 2, "ParamState")]
    assert form_text(form, tuple, (1, 2)) == [(0, 1, "ParamState"), (1, 2, "RngKey | None")]
    assert form_text(form, dict, {"b": 1, "a": 2}) == [("a", 2, "tuple[State, ...]"), ("b", 1, "tuple[State, ...]")]
    assert [leaf.cls for leaf in form.all_leaves] == [gn.ParamState, gn.State, gn.ParamState, gn.RngKey]


def test_a_form_says_which_containers_it_does_not_admit():
    """There are no forms for the items of a kind that is not admitted, nor for those of a tuple of another length."""
    form = form_of(tuple[gn.ParamState, gn.ParamState], Holder)
    assert form_text(form, tuple, (1, 2, 3)) is None
    assert form.admits(tuple)
    assert form_text(form, list, [1, 2]) is None
    assert not form.admits(list)
    assert form_text(form_of(tuple[gn.ParamState, ...], Holder), tuple, ()) == []


def test_an_open_form_admits_any_nesting():
    """Where an annotation says nothing, the items of every container are as open as the field."""
    form = open_form(Kind.SUBNODE)
    for kind, value in ((list, [1]), (tuple, (1,)), (dict, {"a": 1})):
        assert form.admits(kind)
        placed = form.items(kind, items(value))
        assert placed is not None
        assert [(child, item_form is form) for _, child, item_form in placed] == [(1, True)]


@given(nestings(), st.booleans())
def test_children_are_the_items_without_keys(value: Any, as_written: bool):
    """Where nobody needs the keys, the children come in the same order without them."""
    for container in containers_in(value):
        assert list(children(container, as_written=as_written)) == [
            child for _, child in items(container, as_written=as_written)
        ]


class Nested(gn.Node):
    """Containers in containers."""

    named: dict[str, list[gn.State]]
    rows: list[dict[str, gn.State]]


def test_a_container_that_is_extended_in_place_stays_the_same_object():
    """`held[key] += ...` assigns the very object that it has changed."""
    node = Nested({"x": [gn.State(jnp.float32(0))]}, [{"a": gn.State(jnp.float32(1))}])
    items, row = node.named["x"], node.rows[0]
    node.named["x"] += [gn.State(jnp.float32(2))]
    node.rows[0] |= {"b": gn.State(jnp.float32(3))}
    node.rows[-1] |= {"c": gn.State(jnp.float32(4))}
    assert node.named["x"] is items
    assert node.rows[0] is row
    assert len(gn.states(node)) == 5
    with pytest.raises(IndexError):
        node.rows[1] = row
