"""`gn.select`: nodes by class, path and condition; what is done with all of them, or with none."""

from collections.abc import Callable
from dataclasses import InitVar
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import nn

UNTYPED: Any = gn


class Block(gn.Node):
    up: nn.Linear
    down: nn.Linear
    norm: nn.LayerNorm


class Net(gn.Node):
    blocks: list[Block]
    pair: tuple[nn.Linear, list[nn.Linear]]
    named: dict[str, nn.Linear]
    head: nn.Linear
    parent: "Net | None" = gn.subnode(default=None)


def linear() -> nn.Linear:
    return nn.Linear(2, 2, w_init=nn.initializers.ones)


def block() -> Block:
    return Block(linear(), linear(), nn.LayerNorm(2))


def net() -> Net:
    """A model with lists, dicts and tuples; `head` stands at three places, and the root points to itself."""
    shared = linear()
    model = Net([block(), block()], (linear(), [shared, linear()]), {"a": shared, "b": linear()}, shared)
    model.parent = model
    return model


LINEARS = ["blocks.0.down", "blocks.0.up", "blocks.1.down", "blocks.1.up", "head", "named.b", "pair.0", "pair.1.1"]


def paths(selection: gn.Selection[Any]) -> list[str]:
    return [gn.path_str(path) for path, _ in selection]


def message(call: Callable[[], object], error: type[Exception] = gn.FilterError) -> str:
    """What a call raises."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


# Narrowing


def test_a_shared_node_is_selected_once_at_its_first_path():
    """Each node once, in canonical order, with the node itself."""
    model = net()
    selection = gn.select(model, nn.Linear)
    assert paths(selection) == LINEARS
    assert len(selection) == 8
    assert dict(selection)["head",] is model.named["a"]


def test_subclasses_count_and_a_tuple_of_classes_is_any_of_them():
    """As in filters."""
    model = net()
    model.head = nn.LoRALinear.of(model.head, 1)
    assert "head" in paths(gn.select(model, nn.Linear))
    assert paths(gn.select(model, nn.LoRALinear)) == ["head"]
    assert paths(gn.select(model, (nn.LoRALinear, nn.LayerNorm))) == ["blocks.0.norm", "blocks.1.norm", "head"]
    assert paths(gn.select(model).of(nn.LayerNorm)) == ["blocks.0.norm", "blocks.1.norm"]


def test_paths_select_by_globs_and_by_any_path_of_a_shared_node():
    """`under` with what is below, `at` without, `outside` all others."""
    selection = gn.select(net(), nn.Linear)
    assert paths(selection.under("blocks.*")) == LINEARS[:4]
    assert paths(selection.under("named")) == ["head", "named.b"]
    assert paths(selection.under(("blocks", 0), "named.b")) == ["blocks.0.down", "blocks.0.up", "named.b"]
    assert paths(selection.at("blocks.*.up")) == ["blocks.0.up", "blocks.1.up"]
    assert paths(selection.outside("blocks", "named")) == ["pair.0", "pair.1.1"]
    assert paths(gn.select(net()).at("blocks.0")) == ["blocks.0"]


def test_conditions_see_only_the_nodes_so_far():
    """So that a condition may use what their class has."""
    model = net()
    model.blocks[1].up = nn.Linear(2, 7)
    model.blocks[1].down = nn.Linear(7, 2)
    wide = gn.select(model, nn.Linear).where(lambda layer: layer.out_features > 4)
    assert paths(wide) == ["blocks.1.up"]


def test_nodes_are_selected_by_the_states_that_they_hold_themselves():
    """By tag and by class; what lies in a node below does not count."""

    class Tagged(gn.Node):
        own: list[gn.ParamState]
        inner: nn.Linear

    zero = jnp.zeros(())
    model = [Tagged([gn.ParamState(zero, tag="slow")], linear()), Tagged([gn.ParamState(zero)], linear())]
    assert paths(gn.select(model).holding("slow")) == ["0"]
    assert paths(gn.select(model).holding(gn.ParamState)) == ["0", "0.inner", "1", "1.inner"]
    assert paths(gn.select(model, nn.Linear).holding(gn.Under("1"))) == ["1.inner"]


def test_a_selection_is_of_the_graph_as_it_is_now():
    """It keeps no nodes, so that it cannot go stale."""
    model = net()
    selection = gn.select(model, nn.Linear)
    del model.blocks[1]
    assert paths(selection) == [*LINEARS[:2], *LINEARS[4:]]


def test_a_selection_prints_its_paths():
    """Twenty of them; where nothing is selected, that."""
    pair = gn.select([linear()], (nn.Linear, nn.Conv)).of(nn.Linear)
    assert repr(pair) == "gn.select(list, (Linear, Conv)).of(Linear): 1 node\n  0"
    model = nn.Sequential([nn.Identity() for _ in range(22)])
    lines = repr(gn.select(model, nn.Identity)).splitlines()
    assert lines[0] == "gn.select(Sequential, Identity): 22 nodes"
    assert lines[1] == "  layers.0"
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 22
    assert repr(gn.select(model, nn.Linear)) == (
        "gn.select(Sequential, Linear): none of the 23 nodes, of Sequential, Identity, is a Linear; "
        "if that may be, end with .exactly(0)"
    )
    assert repr(gn.select(model).at("layers.0")) == "gn.select(Sequential).at('layers.0'): 1 node\n  layers.0"


# Nothing matches

OR_ZERO = "; if that may be, end with .exactly(0)"
SO_FAR = "none of the 8 nodes so far"
NOTHING: dict[str, tuple[Callable[[gn.Selection[nn.Linear]], gn.Selection[Any]], str]] = {
    "class": (
        lambda linears: linears.of((nn.Conv, nn.Embedding)),
        "gn.select(Net, Linear).of((Conv, Embedding)): none of the 8 nodes, of Linear, is a Conv or an Embedding"
        + OR_ZERO,
    ),
    "path of nothing": (
        lambda linears: linears.under("blocks.*.upp"),
        "under('blocks.*.upp'): no node of Net is at or below 'blocks.*.upp'; did you mean 'blocks.1.up'?",
    ),
    "path of other nodes": (
        lambda linears: linears.under("blocks.0.norm"),
        f"gn.select(Net, Linear).under('blocks.0.norm'): {SO_FAR} is at or below 'blocks.0.norm'; "
        f"the nearest: blocks.0.down, blocks.0.up, blocks.1.down{OR_ZERO}",
    ),
    "one path of several": (
        lambda linears: linears.at("blocks.0.up", "blocks.1"),
        f"gn.select(Net, Linear).at('blocks.0.up', 'blocks.1'): {SO_FAR} is at 'blocks.1'; "
        f"the nearest: blocks.1.up, blocks.1.down, blocks.0.up{OR_ZERO}",
    ),
    "nothing outside": (
        lambda linears: linears.outside("blocks", "head", "named", "pair"),
        "gn.select(Net, Linear).outside('blocks', 'head', 'named', 'pair'): "
        f"all of the 8 nodes so far are there{OR_ZERO}",
    ),
    "outside of nothing": (
        lambda linears: linears.outside("hed"),
        "outside('hed'): no node of Net is at or below 'hed'; did you mean 'head'?",
    ),
    "condition": (
        lambda linears: linears.where(is_huge),
        f"gn.select(Net, Linear).where(is_huge): {SO_FAR} is accepted: "
        f"blocks.0.down, blocks.0.up, blocks.1.down and 5 more{OR_ZERO}",
    ),
    "tag": (
        lambda linears: linears.holding("slow"),
        f"gn.select(Net, Linear).holding('slow'): {SO_FAR} holds such a State: "
        f"blocks.0.down, blocks.0.up, blocks.1.down and 5 more{OR_ZERO}",
    ),
}


def is_huge(layer: nn.Linear) -> bool:
    return layer.out_features > 1000


USES: dict[str, Callable[[gn.Selection[Any]], object]] = {
    "iter": list,
    "len": len,
    "replace": lambda selection: selection.replace(lambda node: node),
    "set": lambda selection: selection.set(bias=None),
    "states": lambda selection: selection.states(),
    "map": lambda selection: selection.map(lambda value: value),
    "reinit": lambda selection: selection.reinit(0),
    "freeze": lambda selection: selection.freeze(),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_rule_that_matches_nothing_is_an_error(name: str):
    """It names what was probably meant."""
    narrow, text = NOTHING[name]
    assert message(lambda: list(narrow(gn.select(net(), nn.Linear)))) == text


@pytest.mark.parametrize("name", USES)
def test_every_use_of_an_empty_selection_is_an_error_unless_it_may_be_empty(name: str):
    """Rules that match nothing are found where they are used, whatever they are used for."""
    empty = gn.select(net(), nn.Conv)
    assert message(lambda: USES[name](empty)).startswith("gn.select(Net, Conv): none of the 13 nodes")
    USES[name](empty.exactly(0))


def test_the_count_is_part_of_a_selection():
    """At once, and at each later use."""
    model = net()
    selection = gn.select(model, nn.Linear).under("blocks").exactly(4)
    assert message(lambda: gn.select(model, nn.Linear).under("blocks").exactly(12)) == (
        "gn.select(Net, Linear).under('blocks'): expected 12 nodes; found 4: "
        "blocks.0.down, blocks.0.up, blocks.1.down, blocks.1.up"
    )
    del model.blocks[0]
    assert message(lambda: selection.set(bias=None)) == (
        "gn.select(Net, Linear).under('blocks'): expected 4 nodes; found 2: blocks.0.down, blocks.0.up"
    )
    assert message(lambda: selection.where(is_huge)) == (
        "gn.select(Net, Linear).under('blocks'): exactly(4) counts what is selected in the end; put it last"
    )


def test_a_path_of_nothing_is_an_error_even_where_nothing_is_expected():
    """Otherwise a misspelt path would confirm what it was to check."""
    message(lambda: gn.select(net(), nn.Conv).under("blokcs").exactly(0))
    assert len(gn.select(net(), nn.Conv).under("blocks").exactly(0)) == 0


WRONG: dict[str, tuple[Callable[[Any], object], type[Exception], str]] = {
    "State class": (
        lambda model: UNTYPED.select(model, gn.ParamState),
        gn.FilterTypeError,
        "not a filter here: ParamState; select nodes by node classes; gn.states selects States",
    ),
    "text": (
        lambda model: UNTYPED.select(model, "head"),
        gn.FilterTypeError,
        "select takes a node class or a tuple of node classes; found str 'head'",
    ),
    "no class": (
        lambda model: gn.select(model, ()),
        gn.FilterTypeError,
        "select takes a node class or a tuple of node classes; found tuple ()",
    ),
    "no path": (
        lambda model: gn.select(model).under(),
        gn.FilterTypeError,
        "under takes at least one path",
    ),
    "no function": (
        lambda model: UNTYPED.select(model).where(3),
        gn.FilterTypeError,
        "where takes a function of a node; found int 3",
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.wrong_types if name == "no function" else ()) for name in WRONG],
)
def test_what_cannot_select_says_what_would(name: str):
    """At once, and not where the selection is used."""
    call, error, text = WRONG[name]
    assert message(lambda: call(net()), error) == text


# Replacement


def test_a_shared_node_is_replaced_once_at_all_its_places():
    """In fields, lists, dicts, and lists in tuples; the containers stay the same objects."""
    model = net()
    blocks, named, old = model.blocks, model.named, model.head
    new: dict[int, nn.Linear] = {}

    def replaced(layer: nn.Linear) -> nn.Linear:
        new[id(layer)] = other = linear()
        return other

    gn.select(model, nn.Linear).exactly(8).replace(replaced)
    assert len(new) == 8
    assert model.head is model.named["a"] is model.pair[1][0] is new[id(old)]
    assert model.blocks is blocks
    assert model.named is named
    assert model.parent is model
    assert list(named) == ["a", "b"]
    assert paths(gn.select(model, nn.Linear)) == LINEARS


def test_a_part_of_a_tuple_is_replaced_and_its_neighbours_stay():
    """A tuple is made anew, with the nodes that were in it."""
    model = net()
    before = model.pair
    gn.select(model, nn.Linear).at("pair.1.1").replace(lambda _: linear())
    assert model.pair[0] is before[0]
    assert model.pair[1][0] is model.head
    assert model.pair[1][1] is not before[1][1]


def test_nodes_in_a_cycle_are_replaced_in_the_nodes_that_point_back():
    """A parent pointer leads to the new parent."""

    class Child(gn.Node):
        parent: "Parent | None" = None

    class Parent(gn.Node):
        child: Child

    class Root(gn.Node):
        parent: Parent

    model = Root(Parent(Child()))
    model.parent.child.parent = model.parent
    gn.select(model, Parent).replace(lambda parent: Parent(parent.child))
    assert model.parent.child.parent is model.parent


def test_the_same_node_may_be_given_back_or_given_twice():
    """The first changes nothing, the second shares it."""
    model = net()
    graphdef = gn.graphdef(model)
    gn.select(model, nn.Linear).replace(lambda layer: layer)
    assert gn.graphdef(model) is graphdef
    one = linear()
    gn.select(model, nn.Linear).under("blocks").replace(lambda _: one)
    assert gn.aliases(model)["blocks", 0, "down"] == (
        ("blocks", 0, "up"),
        ("blocks", 1, "down"),
        ("blocks", 1, "up"),
    )


def test_a_wrapper_may_hold_the_node_that_it_replaces():
    """The new node is not looked into."""

    class Residual(nn.Layer):
        inner: nn.Layer

        def __call__(self, x: jax.Array) -> jax.Array:
            return x + self.inner(x)

    model = nn.Sequential([linear(), linear()])
    gn.select(model, nn.Linear).replace(Residual)
    assert paths(gn.select(model, nn.Linear)) == ["layers.0.inner", "layers.1.inner"]


def refuse(model: Any, call: Callable[[], object], error: type[Exception] = gn.FieldError) -> str:
    """What a call raises that must not change a model."""
    graphdef, states = gn.graphdef(model), gn.states(model)
    before = [state.value for state in states.values()]
    text = message(call, error)
    assert gn.graphdef(model) is graphdef
    after = gn.states(model)
    assert after == states
    assert all(state.value is value for state, value in zip(after.values(), before, strict=True))
    return text


class Wide(gn.Node):
    inner: nn.Linear


class Narrow(Wide):
    """The field is inherited."""


def raising(layer: nn.Linear) -> nn.Linear:
    raise KeyError(layer.out_features)


REFUSED: dict[str, tuple[Callable[[Net], object], type[Exception], str]] = {
    "other classes": (
        lambda model: gn.select(model, nn.Linear).at("head", "blocks.0.up").replace(lambda _: nn.Embedding(2, 2)),
        gn.FieldError,
        "cannot replace nodes of Net: 4 faults:\n"
        "  blocks.0.up: Block.up takes Linear; found an Embedding; "
        "to allow it, write Linear | Embedding for Linear in the annotation of Block.up\n"
        "  head: Net.head takes Linear; found an Embedding; "
        "to allow it, write Linear | Embedding for Linear in the annotation of Net.head\n"
        "  named.a: Net.named.a takes Linear; found an Embedding; "
        "to allow it, write Linear | Embedding for Linear in the annotation of Net.named\n"
        "  pair: Net.pair.1.0 takes Linear; found an Embedding; "
        "to allow it, write Linear | Embedding for Linear in the annotation of Net.pair",
    ),
    "the last of several": (
        lambda model: gn.select(model, nn.Linear).replace(
            lambda layer: nn.Embedding(2, 2) if layer is model.pair[1][1] else linear()
        ),
        gn.FieldError,
        "cannot replace nodes of Net: pair: Net.pair.1.1 takes Linear; found an Embedding; "
        "to allow it, write Linear | Embedding for Linear in the annotation of Net.pair",
    ),
    "no node": (
        lambda model: UNTYPED.select(model, nn.Linear).at("head").replace(lambda _: None),
        gn.FieldError,
        "cannot replace nodes of Net: head: expected a node from fn; found None",
    ),
    "the root": (
        lambda model: gn.select(model, Net).replace(lambda _: net()),
        gn.FieldError,
        "cannot replace nodes of Net: the root has no place in another node; replace it where you keep it",
    ),
    "nested": (
        lambda model: gn.select(model).at("blocks.0", "blocks.0.up", "head").replace(lambda _: linear()),
        gn.FilterError,
        "gn.select(Net).at('blocks.0', 'blocks.0.up', 'head'): blocks.0.up is below blocks.0; "
        "replace one after the other, each by a selection of its own",
    ),
    "a function that raises": (
        lambda model: gn.select(model, nn.Linear).replace(raising),
        KeyError,
        "2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replaced_changes_nothing(name: str):
    """All faults at once, with their paths."""
    model = net()
    call, error, text = REFUSED[name]
    assert refuse(model, lambda: call(model), error) == text


def test_an_error_of_the_function_names_the_node():
    """By a note, as the error is the caller's own."""
    with pytest.raises(ZeroDivisionError) as caught:
        gn.select(net(), nn.Linear).at("head").replace(lambda layer: nn.Linear(2, 1 // 0))
    assert caught.value.__notes__ == ["while head was replaced"]


def test_an_inherited_field_is_widened_where_it_is_declared():
    """The class that the annotation stands in."""
    model = [Narrow(linear())]
    text = refuse(model, lambda: gn.select(model, nn.Linear).replace(lambda _: nn.Identity()))
    assert text == (
        "cannot replace nodes of list: 0.inner: Narrow.inner takes Linear; found an Identity; "
        "to allow it, write Linear | Identity for Linear in the annotation of Wide.inner"
    )


def test_a_node_of_the_pytree_at_the_root_is_replaced_there():
    """The pytree is the caller's, and may be a tuple."""
    model = (linear(), [Narrow(linear())])
    text = refuse(model, lambda: gn.select(model, nn.Linear).replace(lambda _: linear()))
    assert text == (
        "cannot replace nodes of tuple: 0 is a node of the pytree itself, not of a node in it; replace it there"
    )


def test_a_function_must_not_change_the_graph_itself():
    """It would be found half changed."""
    model = net()

    def drop(layer: nn.Linear) -> nn.Linear:
        model.named.pop("b")
        return layer

    assert message(lambda: gn.select(model, nn.Linear).at("head").replace(drop), gn.StructureError) == (
        "gn.select(Net, Linear).at('head'): fn has changed the structure of Net itself; let it return a new node. "
        "Nothing was replaced"
    )


def test_a_trace_refuses_to_replace_what_is_outside_of_it():
    """The new nodes would stay behind; an argument keeps its structure."""
    model = net()

    @gn.jit
    def replace_argument(model: Net) -> None:
        gn.select(model, nn.Linear).at("head").replace(lambda _: linear())

    def replace_captured(x: jax.Array) -> jax.Array:
        gn.select(model, nn.Linear).replace(lambda _: linear())
        return x

    refuse(model, lambda: replace_argument(model), gn.TraceError)
    refuse(model, lambda: jax.jit(replace_captured)(jnp.ones(2)), gn.TraceError)


def test_a_trace_that_may_change_some_places_alone_changes_none():
    """What it has made itself, and what was there before."""
    inside: list[bool] = []
    outside = nn.Sequential([linear()])

    def replace_both(x: jax.Array) -> jax.Array:
        with gn.random.scope(jax.random.key(0)):
            made = linear()
            model = nn.Sequential([made, outside])
            text = message(lambda: gn.select(model, nn.Linear).replace(lambda _: linear()), gn.TraceError)
        inside.append(model.layers[0] is made and "Sequential.layers" in text)
        return x

    jax.jit(replace_both)(jnp.ones(2))
    assert inside == [True]


def test_a_node_made_in_a_trace_is_changed_in_it():
    """Selections work inside of transforms as outside."""

    @gn.jit
    def made(x: jax.Array) -> jax.Array:
        with gn.random.scope(jax.random.key(0)):
            model = nn.Sequential([linear(), linear()])
            gn.select(model, nn.Linear).replace(lambda _: nn.Linear(2, 2, w_init=nn.initializers.zeros))
        return model(x)

    assert np.array_equal(made(jnp.ones(2)), jnp.zeros(2))


@given(st.data())
def test_replacing_and_replacing_back_gives_the_same_graph(data: st.DataObject):
    """Whatever is selected: the old nodes at their old places."""
    model = net()
    graphdef, before = gn.graphdef(model), gn.states(model)
    chosen = data.draw(st.sets(st.sampled_from(LINEARS), min_size=1))
    selection = gn.select(model, nn.Linear).at(*sorted(chosen)).exactly(len(chosen))
    old = {path: node for path, node in selection}
    selection.replace(lambda layer: nn.LoRALinear.of(layer, 1))
    assert sorted(paths(gn.select(model, nn.LoRALinear))) == sorted(chosen)
    back = iter(old.values())
    selection.replace(lambda _: next(back))
    assert gn.graphdef(model) is graphdef
    assert gn.states(model) == before


# Fields


def test_static_fields_are_set_and_states_written():
    """A State keeps its identity, and `None` empties an optional field."""
    model = net()
    weight = model.head.weight
    gn.select(model, nn.Linear).at("head").set(dtype=jnp.bfloat16, bias=None, weight=jnp.zeros((2, 2)))
    assert model.head.dtype == jnp.bfloat16
    assert model.head.bias is None
    assert model.head.weight is weight
    assert not weight.value.any()
    assert model.pair[0].bias is not None


SET: dict[str, tuple[Callable[[Net], object], str]] = {
    "no such field": (
        lambda model: gn.select(model, nn.Linear).at("head", "pair.0").set(bais=None),
        "cannot set bais: 2 faults:\n"
        "  head: Linear has no field 'bais'; did you mean 'bias'?\n"
        "  pair.0: Linear has no field 'bais'; did you mean 'bias'?",
    ),
    "a size": (
        lambda model: gn.select(model, nn.Linear).at("head").set(dtype=jnp.float16, in_features=5),
        "cannot set dtype, in_features: head: Linear.weight: expected in_features = 5 of "
        'Inexact[Array, "in_features out_features"], found shape (2, 2)',
    ),
    "a shape": (
        lambda model: gn.select(model, nn.Linear).at("head").set(dtype=jnp.float16, weight=jnp.ones(3)),
        'cannot set dtype, weight: head.weight: Linear.weight: expected rank 2 of Inexact[Array, "in_features '
        'out_features"], found shape (3,)',
    ),
    "a State": (
        lambda model: gn.select(model, nn.Linear).at("head").set(weight=gn.ParamState(jnp.ones((2, 2)))),
        "cannot set weight: head.weight: a ParamState would be shared by all of the nodes; pass a value, "
        "or put new nodes in their place with replace",
    ),
    "a node": (
        lambda model: gn.select(model, Block).set(up=linear()),
        "cannot set up: 2 faults:\n"
        "  blocks.0.up: a Linear would be shared by all of the nodes; pass a value, or put new nodes in their place "
        "with replace\n"
        "  blocks.1.up: a Linear would be shared by all of the nodes; pass a value, or put new nodes in their place "
        "with replace",
    ),
    "a value for a node": (
        lambda model: gn.select(model, Block).at("blocks.0").set(up=3),
        "cannot set up: blocks.0.up: expected a State to write to; found a Linear",
    ),
    "None where a value must be": (
        lambda model: gn.select(model, nn.Linear).at("head").set(weight=None),
        "cannot set weight: head: Linear.weight takes ParamState; found None",
    ),
}


@pytest.mark.parametrize("name", SET)
def test_a_value_that_a_field_does_not_take_changes_no_node(name: str):
    """All faults at once, and neither what was static nor a State."""
    model = net()
    call, text = SET[name]
    assert refuse(model, lambda: call(model)) == text


# States


def test_states_are_those_of_the_nodes_and_below():
    """With their paths from the root, of one class or of all."""
    model = net()
    selected = gn.select(model, Block).at("blocks.0").states()
    assert list(map(gn.path_str, selected)) == [
        "blocks.0.down.bias",
        "blocks.0.down.weight",
        "blocks.0.norm.bias",
        "blocks.0.norm.scale",
        "blocks.0.up.bias",
        "blocks.0.up.weight",
    ]
    assert selected["blocks.0.up.weight"] is model.blocks[0].up.weight
    assert message(lambda: gn.select(model, Block).states(gn.BatchState)) == (
        "gn.select(Net, Block): no State of 2 nodes is selected by BatchState"
    )


def test_a_shared_state_is_mapped_once():
    """And only those that are selected."""
    model = net()
    gn.select(model, nn.Linear).under("head", "named").map(lambda value: value * 2, gn.PathContains("weight"))
    assert np.array_equal(model.head.weight.value, 2 * jnp.ones((2, 2)))
    assert np.array_equal(model.pair[0].weight.value, jnp.ones((2, 2)))


def test_a_value_that_a_contract_refuses_is_written_nowhere():
    """All States or none."""
    model = net()
    assert refuse(
        model, lambda: gn.select(model, nn.Linear).at("head").map(lambda value: value[:1]), gn.ContractError
    ).startswith("cannot map: 2 faults:\n  head.bias: Linear.bias: expected out_features = 2")


def test_freeze_gives_a_filter_and_changes_nothing():
    """All parameters but those of the selection: a State that is shared is frozen."""
    model = net()
    graphdef = gn.graphdef(model)
    wrt = gn.select(model).under("blocks", "named").freeze()
    assert list(map(gn.path_str, gn.states(model, wrt))) == [
        "pair.0.bias",
        "pair.0.weight",
        "pair.1.1.bias",
        "pair.1.1.weight",
    ]
    assert gn.graphdef(model) is graphdef
    grads = gn.grad(lambda model: (model.pair[0](jnp.ones(2)) ** 2).sum(), wrt=wrt)(model)
    assert len(jax.tree.leaves(grads)) == 4
    assert len(gn.states(model, gn.select(model).at("head").freeze(gn.PathContains("bias")))) == 9


def test_freeze_of_what_has_no_states_is_an_error():
    """It would freeze nothing."""
    assert message(lambda: gn.select([nn.Identity(), linear()], nn.Identity).freeze()) == (
        "gn.select(list, Identity): no State of 1 node is selected by ..."
    )


# Made again


class Own(gn.Node):
    """A node that makes some States, and is given others."""

    width: int
    inner: nn.Linear
    weight: gn.ParamState[Float[Array, "width"]] = gn.state(nn.initializers.normal)
    made: nn.Linear = gn.subnode(factory=lambda self: nn.Linear(self.width, 2))


def test_states_are_made_again_as_constructors_make_them():
    """Other values of the same shapes, in the same States; biases are zero again."""
    model = net()
    states = gn.states(model)
    before = [state.value for state in states.values()]
    gn.select(model, nn.Linear).set(bias=jnp.ones(2))
    gn.select(model, nn.Linear).reinit(0)
    assert gn.states(model) == states
    assert model.head.bias is not None
    assert not model.head.bias.value.any()
    assert len({float(layer.weight.value[0, 0]) for _, layer in gn.select(model, nn.Linear)}) == 8
    assert all(state.value.shape == old.shape for state, old in zip(states.values(), before, strict=True))


def test_the_values_follow_from_the_key_and_the_path_alone():
    """Not from what else is selected, or in which order."""
    model, other = net(), net()
    gn.select(model, nn.Linear).reinit(jax.random.key(3))
    for name in reversed(LINEARS):
        gn.select(other, nn.Linear).at(name).reinit(jax.random.key(3))
    same = jax.tree.map(np.array_equal, gn.treefy_states(model, ...).to_dict(), gn.treefy_states(other, ...).to_dict())
    assert all(jax.tree.leaves(same))
    gn.select(other, nn.Linear).reinit(4)
    assert not np.array_equal(model.head.weight.value, other.head.weight.value)


def test_what_a_node_was_given_is_made_again_by_a_constructor_of_its_own():
    """And what its constructor makes, by that."""
    model = Own(2, linear())
    gn.select(model).map(jnp.zeros_like)
    gn.select(model, Own).reinit(0)
    assert all(state.value.any() for path, state in gn.states(model).items() if path[-1] == "weight")
    assert not np.array_equal(model.made.weight.value, model.inner.weight.value)


def test_static_values_need_not_be_as_a_constructor_writes_them():
    """A dtype that was assigned is written in another way, and stays."""
    model = net()
    gn.select(model, nn.Linear).set(dtype=jnp.bfloat16)
    gn.select(model, nn.Linear).reinit(0)
    assert model.head.dtype is jnp.bfloat16


def test_init_variables_may_be_passed_again():
    """They are not kept."""
    model = net()
    gn.select(model, nn.Linear).reinit(0, w_init=nn.initializers.ones)
    assert np.array_equal(model.head.weight.value, jnp.ones((2, 2)))


class ByHand(gn.Node):
    layer: nn.Linear

    def __init__(self) -> None:
        self.layer = linear()


class Given(gn.Node):
    weight: gn.ParamState


REINIT: dict[str, tuple[Callable[[], Any], str]] = {
    "a constructor by hand": (
        lambda: [ByHand()],
        "cannot make States again: 0: ByHand.__init__ is written by hand, and nobody knows what it was called with; "
        "select the nodes below it, or construct it again",
    ),
    "a State that was given": (
        lambda: [Given(gn.ParamState(jnp.ones(2)))],
        "cannot make States again: 0.weight was given to a constructor, and not made by one",
    ),
    "stacked nodes": (
        lambda: [gn.stack([linear(), linear()])],
        "cannot make States again: 2 faults:\n"
        "  0: bias holds float32[2,2], and its constructor makes float32[2]\n"
        "  0: weight holds float32[2,2,2], and its constructor makes float32[2,2]",
    ),
    "a part of a layer that was replaced": (
        lambda: adapted([nn.MLP(2, 2, 2)], "0.layers.0"),
        "cannot make States again: 0.layers.0: expected a Linear, as the constructor makes it; found a LoRALinear",
    ),
    "a part that was replaced": (
        lambda: adapted([Own(2, linear())], "0.made"),
        "cannot make States again: 0: an Own is made otherwise by its constructor: made: LoRALinear != Linear",
    ),
}


def adapted(model: Any, path: str) -> Any:
    """The model, with an adapter at a path."""
    gn.select(model, nn.Linear).at(path).replace(lambda layer: nn.LoRALinear.of(layer, 1))
    return model


@pytest.mark.parametrize("name", REINIT)
def test_what_no_constructor_would_make_is_not_made_again(name: str):
    """Nothing is written, and nothing is left as it was without a word."""
    make, text = REINIT[name]
    model = make()
    assert refuse(model, lambda: gn.select(model).reinit(0)) == text


# What others share, and what is undone


class Pair(gn.Node):
    items: list[nn.Linear]

    def __call__(self, x: jax.Array) -> jax.Array:
        for item in self.items:
            x = item(x)
        return x


def tied() -> Pair:
    """Two layers with one weight."""
    model = Pair([nn.Linear(2, 2), nn.Linear(2, 2)])
    model.items[1].weight = model.items[0].weight
    return model


ADAPTERS: dict[str, Callable[[nn.Linear], nn.Linear]] = {
    "LoRALinear": lambda layer: nn.LoRALinear.of(layer, 1),
    "WeightNormLinear": nn.WeightNormLinear.of,
    "SpectralNormLinear": nn.SpectralNormLinear.of,
}


@pytest.mark.parametrize("which", ["items.*", "items.0"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_a_write_into_a_shared_weight_is_refused_and_undone(name: str, which: str):
    """`fold` cannot see who shares its weight: the other layer would map otherwise."""
    model = tied()
    gn.select(model, nn.Linear).at(which).replace(ADAPTERS[name])
    gn.select(model).at(which).map(lambda value: value + 1, gn.Not("items.*.bias"))
    before = {path: state.value for path, state in gn.states(model).items()}
    adapters: tuple[Any, ...] = (nn.LoRALinear, nn.WeightNormLinear, nn.SpectralNormLinear)
    selection: gn.Selection[Any] = gn.select(model, adapters).at(which)
    text = message(lambda: selection.replace(lambda layer: layer.fold()), gn.StructureError)
    assert text == (
        f"gn.select(Pair, (LoRALinear, WeightNormLinear, SpectralNormLinear)).at('{which}'): "
        "fn has written a State that is shared: items.0.weight, items.1.weight; "
        "the others would map otherwise, so give each a State of its own first. Nothing was replaced or written"
    )
    assert all(state.value is before[path] for path, state in gn.states(model).items())
    assert isinstance(model.items[0], type(ADAPTERS[name](linear())))


def test_a_shared_layer_folds():
    """Its States are shared by its places alone, which all get the new layer."""
    model = Pair([linear()] * 2)
    gn.select(model, nn.Linear).replace(lambda layer: nn.LoRALinear.of(layer, 1))
    gn.select(model).map(lambda value: value + 1, nn.LoRAState)
    before = model(jnp.ones(2))
    gn.select(model, nn.LoRALinear).replace(lambda layer: layer.fold())
    assert np.allclose(model(jnp.ones(2)), before)


def test_writes_of_the_function_are_undone_when_it_raises():
    """The first was folded already."""
    model = Pair([linear(), linear()])
    gn.select(model, nn.Linear).at("items.0").replace(lambda layer: nn.LoRALinear.of(layer, 1))
    gn.select(model).map(lambda value: value + 1, nn.LoRAState)
    before = model.items[0].weight.value
    selection: gn.Selection[Any] = gn.select(model, nn.Linear)
    with pytest.raises(AttributeError) as caught:
        selection.replace(lambda layer: layer.fold())
    assert caught.value.__notes__ == ["while items.1 was replaced"]
    assert model.items[0].weight.value is before


class Stubborn(gn.Node):
    layer: nn.Linear
    size: int = 1

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nn.LoRALinear) or value == 3:
            raise RuntimeError("no")


class Open(gn.Node):
    layer: nn.Linear
    size: int = 1


def test_an_assignment_that_raises_undoes_those_before():
    """Also that of the class itself, which had stored it."""
    model = [Open(linear()), Stubborn(linear())]
    graphdef = gn.graphdef(model)
    with pytest.raises(RuntimeError, match="no"):
        gn.select(model, nn.Linear).replace(lambda layer: nn.LoRALinear.of(layer, 1))
    assert gn.graphdef(model) is graphdef
    with pytest.raises(RuntimeError, match="no"):
        gn.select(model, (Open, Stubborn)).set(size=3)
    assert gn.graphdef(model) is graphdef


def test_a_filter_that_freezes_must_find_what_it_freezes():
    """Of another model, in which nothing stands at its paths, it would freeze nothing."""
    model = Pair([linear(), linear()])
    wrt = gn.select(model).at("items.1").freeze()
    assert "no State is at or below 'items.1'" in message(lambda: gn.states([model], wrt))
    models = [nn.Identity(), linear(), linear()]  # the first has no States, and freezes nothing anywhere
    assert len(gn.states(models, gn.select(models).at("0", "1").freeze())) == 2


def test_errors_of_functions_say_at_which_node_or_state():
    """A function of the user knows no path."""

    def fail(_: object) -> Any:
        raise KeyError("x")

    model = Pair([linear(), linear()])
    with pytest.raises(KeyError) as caught:
        gn.select(model).at("items.1").map(fail)
    assert caught.value.__notes__ == ["while items.1.bias was mapped"]
    with pytest.raises(KeyError) as caught:
        len(gn.select(model, nn.Linear).where(fail))
    assert caught.value.__notes__ == ["while items.0 was asked for by where(fail)"]


FEW: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no nodes": (lambda: list(gn.select([])), gn.FilterError, "gn.select(list): there are no nodes"),
    "another class": (
        lambda: list(gn.select(linear(), nn.Conv)),
        gn.FilterError,
        "gn.select(Linear, Conv): the one node, of Linear, is not a Conv",
    ),
    "not accepted": (
        lambda: list(gn.select(linear()).where(lambda _: False)),
        gn.FilterError,
        "gn.select(Linear).where(<lambda>): the only node so far is not accepted: the root",
    ),
    "elsewhere": (
        lambda: list(gn.select(Pair([linear()]), nn.Linear).at("items.0").at("")),
        gn.FilterError,
        "gn.select(Pair, Linear).at('items.0').at(''): the only node so far is not at ''; the nearest: items.0",
    ),
    "a list of paths": (
        lambda: UNTYPED.select(linear()).at(["a", "b"]),
        gn.FilterTypeError,
        "at takes texts and tuples of keys; found list ['a', 'b']; "
        "pass several paths as arguments of their own: at(*paths)",
    ),
}


@pytest.mark.parametrize("name", FEW)
def test_messages_of_few_nodes_are_written_as_one_says_it(name: str):
    """None, one, and a list in place of arguments."""
    call, error, text = FEW[name]
    assert message(call, error).startswith(text)


# Which constructor makes a State


def values(model: Any) -> list[np.ndarray]:
    return [np.asarray(state.value) for state in gn.states(model).values()]


def test_what_is_made_again_is_the_same_whatever_else_is_selected():
    """A layer's own linear maps are made by the layer, and with its initialisers."""
    models = [nn.Sequential([nn.MultiHeadAttention(8, 2)]) for _ in range(3)]
    gn.select(models[0]).reinit(0)
    gn.select(models[1], nn.Linear).reinit(0)
    for name in ("out", "query", "key", "value"):
        gn.select(models[2]).at(f"layers.0.{name}").reinit(0)
    first, *others = map(values, models)
    assert all(np.array_equal(*pair) for other in others for pair in zip(first, other, strict=True))


def test_a_shared_state_is_made_again_as_at_its_first_path():
    """Whichever of its holders is selected."""
    model, other = tied(), tied()
    gn.select(model, nn.Linear).reinit(0)
    gn.select(other).at("items.1").reinit(0)
    assert np.array_equal(model.items[0].weight.value, other.items[0].weight.value)
    twin = Pair([nn.Linear(2, 2), nn.Linear(2, 2)])
    gn.select(twin).at("items.0").reinit(0)
    assert np.array_equal(model.items[0].weight.value, twin.items[0].weight.value)


def test_a_part_that_may_be_left_out_is_made_by_the_constructor_that_makes_it():
    """A block passes its MLP other initialisers than that takes by default; a part of another class was given."""
    gated = nn.TransformerBlock(8, 2, mlp=nn.GatedMLP(8, 4))
    gn.select(gated, nn.GatedMLP).reinit(0, w_init=nn.initializers.ones)
    block = nn.TransformerBlock(64, 2)
    weight = gn.states(block)["mlp.layers.0.weight"]
    before = float(weight.value.std())
    gn.select(block, nn.Linear).reinit(0)
    assert abs(float(weight.value.std()) / before - 1) < 0.1


class Scaled(gn.Node):
    width: int
    std: InitVar[float]
    weight: gn.ParamState[Float[Array, "width"]] = gn.state(init=False)

    def __post_init__(self, std: float) -> None:
        self.weight = gn.ParamState(jnp.full((self.width,), std))


ARGUMENTS: dict[str, tuple[Callable[[], object], str]] = {
    "a field": (
        lambda: gn.select(nn.LoRALinear(2, 2, rank=1)).reinit(0, alpha=7.0, dtype=jnp.bfloat16),
        "LoRALinear: alpha, dtype would change fields of the LoRALinear, which reinit leaves as they are; "
        "use set, or construct it again",
    ),
    "of what is made by another": (
        lambda: gn.select([nn.MLP(2, 2, 2)]).at("0.layers.0").reinit(0, w_init=nn.initializers.ones),
        "0.layers.0: made by the constructor of the MLP at 0; pass the arguments to that: select it alone",
    ),
    "of what makes no States": (
        lambda: gn.select(nn.Sequential([linear()])).at("").reinit(0, w_init=nn.initializers.ones),
        "Sequential: the constructor of Sequential makes no State that could follow from w_init",
    ),
    "of one of two holders": (
        lambda: gn.select(tied()).at("items.1").reinit(0, w_init=nn.initializers.ones),
        "items.0.weight is made by the constructor of the Linear at items.0, which is not selected",
    ),
    "one that is missing": (
        lambda: gn.select(Scaled(2, 0.1)).reinit(0),
        "Scaled: Scaled cannot be called again: missing a required argument: 'std'; pass reinit what it needs",
    ),
    "an abstract model": (
        lambda: gn.select(gn.eval_shape(lambda: Scaled(2, 0.1))).reinit(0, std=2.0),
        "Scaled: weight is abstract, and has no values; call reinit in the function that gn.eval_shape is given",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_reinit_are_never_ignored(name: str):
    """Each goes to a constructor that makes what follows from it, or is refused."""
    call, text = ARGUMENTS[name]
    assert message(call, gn.FieldError) == f"cannot make States again: {text}"


def test_an_init_variable_without_a_default_is_passed_again():
    """As the error says."""
    model = Scaled(2, 0.1)
    gn.select(model).reinit(0, std=2.0)
    assert model.weight.value.tolist() == [2.0, 2.0]


T = TypeVar("T", bound=gn.Node)


class Wrapper(gn.Node, Generic[T]):
    inner: T


def test_a_generic_with_parameters_is_told_without():
    """A node does not know them."""
    model = Wrapper(nn.Linear(2, 2))
    for written in (Wrapper[nn.Linear], (nn.Linear, Wrapper[nn.Linear])):
        with pytest.raises(gn.FilterTypeError) as caught:
            UNTYPED.select(model, written)
        text = str(caught.value)
        assert text.startswith("select takes a node class or a tuple of node classes; found ")
        assert text.endswith("; write Wrapper: a node does not know the parameters of its class")
    assert len(gn.select(model, Wrapper)) == 1


def define_twice() -> tuple[type[Any], type[Any]]:
    """A class, and its definition again, as a notebook's cell makes it that runs twice."""

    def define() -> type[Any]:
        class Again(gn.Node):
            lin: nn.Linear

            def __call__(self, x: Any) -> Any:
                """Call it."""
                return self.lin(x)

        return Again

    return define(), define()


def test_another_definition_of_a_class_is_told_from_it():
    """A notebook's cell was run again, and the model is of the class before."""
    old, new = define_twice()
    earlier, later = old(nn.Linear(2, 2)), new(nn.Linear(2, 2))
    for model, cls, own, other in ((earlier, new, "before", "after"), (later, old, "after", "before")):
        with pytest.raises(gn.FilterError) as caught:
            len(gn.select(model, cls))
        assert str(caught.value) == (
            f"gn.select(Again, Again): none of the 2 nodes, of the Again of {own} it was defined again, Linear, is of "
            f"the Again of {other} it was defined again; if that may be, end with .exactly(0)"
        )
        with pytest.raises(gn.CaptureError) as caught_by_capture:
            gn.capture(model, cls)(jnp.ones(2))
        assert str(caught_by_capture.value) == (
            f"gn.capture: none of the nodes is of the Again of {other} it was defined again; there are the Again of "
            f"{own} it was defined again, Linear"
        )
