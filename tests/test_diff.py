"""The structural difference: empty for equal structures alone, and exact about paths and fields."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest

import graphnode as gn


def param() -> gn.ParamState:
    return gn.ParamState(jnp.zeros(1))


class Linear(gn.Node):
    size: int
    weight: gn.ParamState


class Wide(Linear):
    pass


class Net(gn.Node):
    width: int | float | bool
    first: Linear
    again: Linear
    items: "list[Linear | None] | tuple[Linear, ...] | None"
    table: dict[str, gn.State]
    state: gn.State | None = None
    deep: "list[list[Linear] | tuple[Linear, ...]]" = gn.subnode(default_factory=list)
    parent: "Net | None" = None


def net() -> Net:
    shared = Linear(1, param())
    table = {"a": gn.State(jnp.zeros(1))}
    one = Net(1, shared, shared, [Linear(2, param()), None], table, gn.HiddenState(jnp.zeros(1)))
    one.deep = [[Linear(3, param())]]
    one.parent = one
    return one


def without_items(one: Any) -> None:
    one.items.clear()
    one.items = None


def texts(left: Any, right: Any) -> list[str]:
    return [str(one) for one in gn.diff(gn.graphdef(left), gn.graphdef(right))]


EDITS: dict[str, tuple[Callable[[Any], object], list[str]]] = {
    "static": (lambda one: setattr(one, "width", 2), ["width: 1 != 2"]),
    "type of a static": (lambda one: setattr(one, "width", True), ["width: 1 != True"]),
    "look-alike static": (lambda one: setattr(one, "width", 1.0), ["width: 1 != 1.0"]),
    "static below": (lambda one: setattr(one.items[0], "size", 9), ["items.0.size: 2 != 9"]),
    "static of a shared node": (lambda one: setattr(one.first, "size", 9), ["again.size: 1 != 9"]),
    "class of a node": (
        lambda one: one.items.__setitem__(0, Wide(2, param())),
        ["items.0: Linear != Wide"],
    ),
    "class of a State": (
        lambda one: one.table.__setitem__("a", gn.BatchState(0)),
        ["table.a: State != BatchState"],
    ),
    "tag": (
        lambda one: setattr(one, "state", gn.HiddenState(0, tag="t")),
        ["state: HiddenState != HiddenState(tag='t')"],
    ),
    "metadata": (
        lambda one: setattr(one, "state", gn.HiddenState(0, name="n", metadata={"unit": "mV"})),
        ["state: HiddenState != HiddenState(name='n', unit='mV')"],
    ),
    "None for a State": (lambda one: setattr(one, "state", None), ["state: HiddenState != nothing"]),
    "an unset field": (lambda one: delattr(one, "state"), ["state: HiddenState != nothing"]),
    "another item": (lambda one: one.items.append(Linear(2, param())), ["items.2: nothing != Linear"]),
    "one item fewer": (lambda one: one.items.pop(0), ["items.0: Linear != nothing"]),
    "another key": (lambda one: one.table.update(b=gn.State(0)), ["table.b: nothing != State"]),
    "another name of a key": (
        lambda one: one.table.update({"a.b": one.table.pop("a")}),
        ["table.a: State != nothing", 'table."a.b": nothing != State'],
    ),
    "no longer shared": (
        lambda one: setattr(one, "first", Linear(1, param())),
        ["first: the object at again != Linear"],
    ),
    "shared": (
        lambda one: one.items.__setitem__(0, one.first),
        ["items.0: Linear != the object at again"],
    ),
    "shared with another": (
        lambda one: setattr(one, "first", one.deep[0][0]),
        ["first: the object at again != the object at deep.0.0"],
    ),
    "no cycle": (lambda one: setattr(one, "parent", None), ["parent: the object at the root != nothing"]),
}
# Differences in what holds no States or nodes at all; what is told is up to the texts, but the place is not.
HOLLOW: dict[str, tuple[Callable[[Any], object], str]] = {
    "None for a list": (without_items, "items"),
    "None at the end of a list": (lambda one: one.items.append(None), "items"),
    "a list in a list": (lambda one: one.deep.append([]), "deep"),
    "a tuple for a list": (lambda one: one.deep.__setitem__(0, tuple(one.deep[0])), "deep"),
    "an empty tuple in a list": (lambda one: one.deep.append(()), "deep"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_difference_names_path_and_field(edit: str):
    """Each single difference is told with its path, and with what either side has."""
    change, expected = EDITS[edit]
    left, right = net(), net()
    change(right)
    assert texts(left, right) == expected


@pytest.mark.parametrize("edit", EDITS)
def test_difference_the_other_way_round_is_mirrored(edit: str):
    """Exchanging the two sides exchanges the texts of each difference, at the same paths."""
    left, right = net(), net()
    EDITS[edit][0](right)
    there = gn.diff(gn.graphdef(left), gn.graphdef(right))
    back = gn.diff(gn.graphdef(right), gn.graphdef(left))
    assert [(one.path, one.left, one.right) for one in there] == [(one.path, one.right, one.left) for one in back]


@pytest.mark.parametrize("edit", HOLLOW)
def test_difference_without_states_or_nodes_is_told(edit: str):
    """Structures that differ only in None, empty containers or the type of a container differ all the same."""
    change, field = HOLLOW[edit]
    left, right = net(), net()
    change(right)
    assert gn.graphdef(left) is not gn.graphdef(right)
    found = gn.diff(gn.graphdef(left), gn.graphdef(right))
    assert found
    assert {one.path[0] for one in found} == {field}


def test_unset_and_none_differ():
    """A field that holds None and one that holds nothing are told apart."""
    left, right = net(), net()
    left.state = None
    del right.state
    assert texts(left, right) == ["state: None != unset"]


def test_empty_dicts_with_other_keys_of_none_differ():
    """Keys that hold None are structure, and a difference in them is told."""

    class Loose(gn.Node):
        table: dict[str, Linear | None]

    found = gn.diff(gn.graphdef(Loose({"a": None})), gn.graphdef(Loose({"b": None})))
    assert {one.path[0] for one in found} == {"table"}


def test_equal_structures_have_no_difference():
    """Equal structures give an empty tuple."""
    assert gn.diff(gn.graphdef(net()), gn.graphdef(net())) == ()
    assert gn.diff(gn.graphdef([net()]), gn.graphdef([net()])) == ()


def test_all_differences_come_in_canonical_order():
    """Several differences are all told; below nodes of two classes nothing more is."""
    left, right = net(), net()
    right.width = 5
    right.first.size = 3
    assert isinstance(right.items, list)
    right.items[0] = Wide(7, param())
    right.table = {}
    assert texts(left, right) == [
        "width: 1 != 5",
        "again.size: 1 != 3",
        "items.0: Linear != Wide",
        "table.a: State != nothing",
    ]


def test_difference_is_a_record():
    """A difference has path and texts as attributes, and prints as one line."""
    (one,) = gn.diff(gn.graphdef(Linear(1, param())), gn.graphdef(Linear(2, param())))
    assert (one.path, one.left, one.right) == (("size",), "1", "2")
    assert str(one) == "size: 1 != 2"
    (root,) = gn.diff(gn.graphdef(Linear(1, param())), gn.graphdef(Wide(1, param())))
    assert str(root) == "the root: Linear != Wide"


class Pair(NamedTuple):
    left: Any
    right: Any


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (lambda one: [one], lambda one: (one,)),
        (lambda one: [one], lambda one: one),
        (lambda one: [one], lambda one: [one, None]),
        (lambda one: Pair(one, one), lambda one: {"left": one, "right": one}),
        (lambda one: [], lambda one: ()),
        (lambda one: {"a": one}, lambda one: {"b": one}),
        (lambda one: [one, one], lambda one: [one, Linear(1, param())]),
    ],
)
def test_difference_of_pytrees_is_told(left: Callable[[Linear], Any], right: Callable[[Linear], Any]):
    """Roots that are different pytrees of the same nodes differ, and the difference is not empty."""
    one = Linear(1, param())
    assert gn.graphdef(left(one)) is not gn.graphdef(right(one))
    assert gn.diff(gn.graphdef(left(one)), gn.graphdef(right(one)))


@pytest.mark.wrong_types
def test_what_is_no_graphdef_is_refused():
    """`diff` takes graphdefs: a node is a TypeError that says how to get one."""
    bad: Any = net()
    for pair in ((bad, gn.graphdef(net())), (gn.graphdef(net()), bad)):
        with pytest.raises(TypeError) as caught:
            gn.diff(*pair)
        assert str(caught.value) == "gn.diff takes two graphdefs; found a Net; take gn.graphdef(...) of a node"
