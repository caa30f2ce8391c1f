"""Taking States out of a live node: every alias, all or nothing, and back again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn

from .properties.strategies import assert_fresh, reference, snapshot


class Held(gn.Node):
    w: gn.ParamState


class Linear(gn.Node):
    weight: gn.ParamState
    bias: gn.ParamState | None = None


class Net(gn.Node):
    first: Linear
    again: Linear
    table: dict[str, gn.State]
    mean: gn.BatchState
    nested: dict[str, dict[str, gn.State]] = gn.state(default_factory=dict)
    rows: list[gn.State] = gn.state(default_factory=list)
    pair: tuple[gn.State, ...] = gn.state(default=())
    parent: "Net | None" = None


def param() -> gn.ParamState:
    return gn.ParamState(jnp.zeros(1))


def mean() -> gn.BatchState:
    return gn.BatchState(jnp.asarray(0), tag="mean")


def hidden(value: int = 0) -> gn.HiddenState:
    return gn.HiddenState(jnp.asarray(value))


def net() -> Net:
    shared = Linear(param())
    one = Net(shared, shared, {"s": shared.weight, "a": hidden()}, mean())
    one.nested = {"x": {"y": hidden(1)}}
    one.parent = one
    return one


def test_pop_takes_every_alias():
    """A popped State is gone from every place that referred to it: fields, dicts, shared nodes."""
    one = net()
    weight = one.first.weight
    popped = gn.pop_states(one, gn.ParamState)
    assert popped["again", "weight"] is weight
    assert len(popped) == 1
    assert "weight" not in vars(one.first)
    assert list(one.table) == ["a"]
    assert list(gn.states(one)) == [("mean",), ("nested", "x", "y"), ("table", "a")]
    assert_fresh(one)


def test_popped_field_says_so_when_it_is_read():
    """Reading a popped field raises an error that says it was popped and how to put it back."""
    one = net()
    gn.pop_states(one, gn.BatchState)
    with pytest.raises(gn.UnsetFieldError) as caught:
        one.mean
    assert str(caught.value) == (
        "Net.mean holds nothing: it was popped or deleted; assign it, or put it back with update_states"
    )
    assert isinstance(caught.value, AttributeError)
    assert not hasattr(one, "mean")


def test_update_puts_the_same_states_back_everywhere():
    """`update_states` with what was popped restores the very States at all their paths: the structure of before."""
    one = net()
    graphdef, before = gn.graphdef(one), snapshot(one)
    for filters in ((...,), (gn.ParamState,), ("mean",), (gn.PathContains("x"),), (gn.ParamState, ...)):
        popped: Any = gn.pop_states(one, *filters)
        assert gn.graphdef(one) is not graphdef
        gn.update_states(one, *([popped] if len(filters) == 1 else popped))
        assert gn.graphdef(one) is graphdef
        assert one.first.weight is one.table["s"]
    assert sorted(map(str, snapshot(one)[1])) == sorted(map(str, before[1]))


def test_values_written_meanwhile_come_back():
    """A popped State is alive: what is written to it meanwhile is there when it is put back."""
    one = net()
    popped = gn.pop_states(one, gn.BatchState)
    popped["mean",].value = jnp.asarray(17)
    gn.update_states(one, popped)
    assert one.mean.value == 17


def test_assignment_puts_a_state_back():
    """A popped field may be assigned; the node is whole again."""
    one = net()
    graphdef = gn.graphdef(one)
    gn.pop_states(one, "mean")
    one.mean = mean()
    assert gn.graphdef(one) is graphdef


def test_pop_of_several_filters_gives_a_tuple():
    """Each filter gets what it is the first to accept; what none accepts stays."""
    one = net()
    params, hidden = gn.pop_states(one, gn.ParamState, gn.HiddenState)
    assert list(params) == [("again", "weight")]
    assert list(hidden) == [("nested", "x", "y"), ("table", "a")]
    assert list(gn.states(one)) == [("mean",)]


def test_pop_of_nothing_changes_nothing():
    """A filter that matches no State gives an empty collection, and invalidates nothing."""
    one = net()
    before = snapshot(one)
    assert len(gn.pop_states(one, "nothing")) == 0
    assert len(gn.pop_states(one, None)) == 0
    assert snapshot(one) == before


def test_pop_needs_a_filter():
    """Without a filter a pop is refused."""
    call: Any = gn.pop_states
    with pytest.raises(gn.FilterError) as caught:
        call(net())
    assert str(caught.value) == "pop_states needs a filter: pass `...` to take all States out"


def test_pop_by_a_function_sees_live_states():
    """A function as filter decides by the live value."""
    one = net()
    popped = gn.pop_states(one, lambda path, state: state is one.table["a"])
    assert list(popped) == [("table", "a")]


def test_popped_optional_state_leaves_its_field_unset():
    """A pop leaves a field unset, not None: `None` would be another structure."""
    one = Linear(param(), param())
    gn.pop_states(one, gn.PathIn("bias"))
    assert "bias" not in vars(one)
    assert gn.graphdef(one) is not gn.graphdef(Linear(param()))


def test_pop_through_a_pytree_of_nodes():
    """States are popped from several nodes in one call, aliases across them too."""
    weight = param()
    left, right = Linear(weight), Linear(weight)
    popped = gn.pop_states((left, [right]), ...)
    assert list(popped) == [(0, "weight")]
    assert vars(left) == vars(right) == {"bias": None}
    gn.update_states((left, [right]), popped)
    assert left.weight is right.weight is weight


def in_list(one: Net) -> None:
    one.rows = [one.mean]


def in_tuple(one: Net) -> None:
    one.pair = (gn.State(jnp.zeros(())), one.mean)


def in_all(one: Net) -> None:
    one.rows = [hidden(), one.mean]
    one.pair = (one.mean, one.rows[0])


IMPOSSIBLE: dict[str, tuple[Callable[[Net], None], str]] = {
    "list": (
        in_list,
        "rows.0 is an item of a list, whose other items would change their paths; assign the field instead",
    ),
    "tuple": (
        in_tuple,
        "2 faults:"
        "\n  pair.1 is an item of a tuple, whose other items would change their paths; assign the field instead"
        "\n  pair.0 is an item of a tuple, whose other items would change their paths; assign the field instead",
    ),
    "all": (
        in_all,
        "4 faults:"
        "\n  pair.0 is an item of a tuple, whose other items would change their paths; assign the field instead"
        "\n  rows.1 is an item of a list, whose other items would change their paths; assign the field instead"
        "\n  pair.1 is an item of a tuple, whose other items would change their paths; assign the field instead"
        "\n  rows.0 is an item of a list, whose other items would change their paths; assign the field instead",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_pop_that_cannot_complete_removes_nothing(case: str):
    """A State that one alias holds in a list or tuple cannot be popped: all reasons are named, nothing is removed."""
    change, message = IMPOSSIBLE[case]
    one = net()
    change(one)
    before, graphdef = snapshot(one), gn.graphdef(one)
    with pytest.raises(gn.PopError) as caught:
        gn.pop_states(one, ...)
    assert str(caught.value) == f"cannot pop from Net: {message}"
    assert isinstance(caught.value, ValueError)
    assert snapshot(one) == before
    assert gn.graphdef(one) is graphdef


def test_state_at_the_root_cannot_be_popped():
    """A State that stands in the pytree at the root itself is nobody's to take out."""
    one = Linear(param())
    with pytest.raises(gn.PopError) as caught:
        gn.pop_states({"a": one, "b": one.weight}, ...)
    assert str(caught.value) == (
        "cannot pop from dict: b is a State of the pytree itself, not of a node in it; remove it there"
    )
    assert "weight" in vars(one)


def test_popped_states_keep_their_values_and_paths():
    """What is popped reads as any FlatStates, and merges as one."""
    one = net()
    values = {path: state.value for path, state in gn.states(one).items()}
    graphdef = gn.graphdef(one)
    popped = gn.pop_states(one, ...)
    assert {path: state.value for path, state in popped.items()} == values
    made = gn.treefy_merge(graphdef, popped)
    assert reference(made).aliases == {
        (): (("parent",),),
        ("again",): (("first",),),
        ("again", "weight"): (("table", "s"),),
    }


def test_popping_twice_finds_nothing_the_second_time():
    """What was popped is gone; the rest of the graph works on."""
    one = net()
    gn.pop_states(one, gn.ParamState)
    assert len(gn.pop_states(one, gn.ParamState)) == 0
    twin = gn.clone(one)
    assert "weight" not in vars(twin.first)
    gn.update_states(one, {"mean": 3})
    assert one.mean.value == 3


def test_states_popped_from_one_node_fit_another_of_its_structure():
    """Popped States may be put into another popped node of the same structure, at all its aliases."""
    one, other = net(), net()
    popped = gn.pop_states(one, gn.ParamState)
    gn.pop_states(other, gn.ParamState)
    gn.update_states(other, popped)
    assert other.first.weight is other.table["s"] is popped["again", "weight"]


def test_what_must_not_change_now_is_found_before_anything_is_popped_or_put_back():
    """Of a node made inside of a transformation and one from outside, neither loses a State, and neither gets one."""
    outside = Held(gn.ParamState(jnp.ones(2)))
    emptied = Held(gn.ParamState(jnp.ones(2)))
    popped = gn.treefy_states(emptied)
    gn.pop_states(emptied, ...)

    @jax.jit
    def run(x: jax.Array) -> jax.Array:
        inside = Held(gn.ParamState(x))
        with pytest.raises(gn.TraceError, match=r"^Held\.w belongs to a node from outside"):
            gn.pop_states([inside, outside], ...)
        assert len(gn.states(inside)) == 1
        trees = gn.treefy_states([inside, Held(gn.ParamState(x))])
        gn.pop_states(inside, ...)
        with pytest.raises(gn.TraceError, match=r"^Held\.w belongs to a node from outside"):
            gn.update_states([inside, emptied], trees)
        assert len(gn.states(inside)) == 0
        return x

    run(jnp.ones(2))
    assert len(gn.states(outside)) == 1
    gn.update_states(emptied, popped)
    assert len(gn.states(emptied)) == 1


# Put back, when the node has changed meanwhile


class Places(gn.Node):
    """A State in any of several places."""

    d: dict[str, gn.State] = gn.state(default_factory=dict)
    a: gn.State | None = None
    b: gn.State | None = None


def number(value: float) -> gn.State:
    return gn.State(jnp.float32(value))


@pytest.mark.parametrize("is_live", [True, False])
def test_a_place_that_was_taken_keeps_no_other_from_being_filled(is_live: bool):
    """The State that stands at the first place takes the value; the others get the State back."""
    shared = number(1)
    node = Places({"a": shared, "b": shared, "c": number(5), "e": shared})
    tree = gn.treefy_states(node)
    popped = gn.pop_states(node, ...)
    node.d["a"] = taker = number(2)
    gn.update_states(node, popped if is_live else tree)
    assert {key: state.value.item() for key, state in node.d.items()} == {"a": 1, "b": 1, "c": 5, "e": 1}
    assert node.d["a"] is taker
    assert node.d["b"] is node.d["e"]
    assert (node.d["b"] is shared) == is_live


def test_one_state_is_not_given_two_values():
    """That it has, where it is put back, and that of the State in whose place it stands meanwhile."""
    first, second = number(1), number(2)
    node = Places(a=first, b=second)
    popped = gn.pop_states(node, ...)
    node.b = first
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, popped)
    assert str(caught.value) == "cannot update Places: b is given two values, by a and by b"
    assert "a" not in vars(node)
    assert first.value.item() == 1
    gn.update_states(node, popped.__class__(popped.layout.take((0,)), (first,)))
    assert node.a is first


UNKNOWN: dict[str, Callable[[], Any]] = {
    "tree": lambda: gn.treefy_states(Places({"a": number(1), "typo": number(2)})),
    "States": lambda: gn.states(Places({"a": number(1), "typo": number(2)})),
    "State": lambda: {"d": {"typo": number(3)}},
    "value": lambda: {"d": {"typo": 3}},
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_an_update_adds_no_key_to_a_dict(make: Callable[[], Any]):
    """Only what was popped comes back: a larger checkpoint is no reason to grow."""
    node = Places({"a": number(0)})
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, make())
    assert str(caught.value) == "cannot update Places: d.typo: Places has no State there"
    assert list(node.d) == ["a"]
    popped = gn.pop_states(node, ...)
    gn.update_states(node, popped)
    gn.pop_states(node, ...)
    node.d["b"] = number(1)
    with pytest.raises(gn.UpdateError, match=r"d\.typo: Places has no State there"):
        gn.update_states(node, make())


def test_a_vacant_key_is_one_of_its_own_dict():
    """Not of another one that stands at its path later, nor after something has come there and gone."""
    node = Places({"a": number(1), "b": number(2)})
    tree = gn.treefy_states(node)
    popped = gn.pop_states(node, gn.PathIn("d.a"))
    node.d["a"] = popped["d.a"]
    del node.d["a"]
    for given in (tree, popped):
        with pytest.raises(gn.UpdateError, match=r"d\.a: Places has no State there"):
            gn.update_states(node, given)
    node.d["a"] = number(1)
    popped = gn.pop_states(node, gn.PathIn("d.a"))
    node.d = {"b": number(2)}
    with pytest.raises(gn.UpdateError, match=r"d\.a: Places has no State there"):
        gn.update_states(node, popped)


def test_a_popped_state_that_two_collections_hold_is_put_back_once():
    """The last one wins, as for values, and nothing is left undone."""
    node = Places({"a": number(1), "b": number(2)})
    popped = gn.pop_states(node, gn.PathIn("d.a"))
    other = popped.__class__(popped.layout, (number(7),))
    gn.update_states(node, popped, other, {"d.b": jnp.float32(3)})
    assert {key: state.value.item() for key, state in node.d.items()} == {"a": 7, "b": 3}
    assert node.d["a"] is other["d.a"]


@pytest.mark.parametrize("position", [-1, -7])
def test_a_popped_state_is_not_put_back_by_a_position_from_the_end(position: int):
    """Paths count from the start, when a State is put back as when it is written to."""

    class Parts(gn.Node):
        parts: list[dict[str, gn.ParamState]]

    node = Parts([{"a": param(), "b": param()}, {"a": param(), "b": param()}])
    state = gn.pop_states(node, gn.PathIn("parts.1.a"))["parts", 1, "a"]
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, {("parts", position, "a"): state})
    assert str(caught.value).startswith(f"cannot update Parts: parts.{position}.a: Parts has no State there")
    assert list(node.parts[1]) == ["b"]
