"""What crosses the boundary of a transform: nodes anywhere, their sharing and identity, writes, and nothing else."""

import dataclasses
import functools
import pickle
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer
from jax.tree_util import GetAttrKey

import graphnode as gn
from graphnode import ParamState, ShortTermState, State
from graphnode.transforms._traits import TRAITS


class Leaf(gn.Node):
    size: int
    weight: ParamState[Any]


class Pair(gn.Node):
    a: State[Any]
    b: State[Any]


class Model(gn.Node):
    embed: Leaf
    layers: list[Leaf] = gn.subnode(default_factory=list)
    table: dict[str, Leaf] = gn.subnode(default_factory=dict)
    note: str = ""
    count: ShortTermState[Any] | None = None
    parent: "Model | None" = gn.subnode(default=None)


class Tuner(gn.Node):
    """Refers to States of a model, as an optimizer may."""

    held: list[State[Any]] = gn.state()
    steps: ShortTermState[Any]


class Batch(NamedTuple):
    model: Any
    x: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Case:
    model: Any
    x: Any


Wrap: TypeAlias = Callable[[Any, Any], Any]


def leaf(value: float = 0.0) -> Leaf:
    return Leaf(1, ParamState(jnp.float32(value)))


def pair(a: Any = 0.0, b: Any = 0.0) -> Pair:
    return Pair(State(jnp.float32(a)), State(jnp.float32(b)))


def model() -> Model:
    made = Model(leaf(1), [leaf(2), leaf(3)], {"k": leaf(4)}, count=ShortTermState(jnp.int32(0)))
    made.parent = made
    return made


# Nodes anywhere


PLACES: dict[str, tuple[Wrap, Callable[[Any], tuple[Any, Any]]]] = {
    "list": (lambda node, x: [node, x], lambda held: (held[0], held[1])),
    "tuple": (lambda node, x: (x, node), lambda held: (held[1], held[0])),
    "dict": (lambda node, x: {"x": x, "model": node}, lambda held: (held["model"], held["x"])),
    "namedtuple": (Batch, lambda held: (held.model, held.x)),
    "dataclass": (Case, lambda held: (held.model, held.x)),
    "nested": (
        lambda node, x: {"b": [(x, None), {"c": Batch(node, 3)}]},
        lambda h: (h["b"][1]["c"].model, h["b"][0][0]),
    ),
}


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_nodes_are_found_and_given_back_inside_of_any_pytree(place: str, by_name: bool):
    """A node in a list, dict, tuple, NamedTuple or dataclass is written to, and comes out as itself at its place."""
    wrap, take = PLACES[place]

    def step(held: Any) -> Any:
        node, x = take(held)
        node.weight.value += x
        return held

    node = leaf()
    given = wrap(node, 2.0)
    result = gn.jit(step)(held=given) if by_name else gn.jit(step)(given)
    assert type(result) is type(given)
    assert take(result)[0] is node
    assert take(result)[1] == 2.0
    assert node.weight.value == 2.0


def test_a_state_is_an_argument_like_a_node():
    """A State alone, or beside nodes that hold it, is written to and comes out as itself."""

    @gn.jit
    def step(first: State[Any], node: Leaf, again: State[Any]) -> tuple[State[Any], State[Any], Leaf]:
        first.value += 1.0
        assert again is node.weight
        again.value += 2.0
        return again, first, node

    first: State[Any] = State(jnp.float32(0))
    node = leaf()
    result = step(first, node, node.weight)
    assert [a is b for a, b in zip(result, (node.weight, first, node), strict=True)] == [True] * 3
    assert (first.value, node.weight.value) == (1.0, 2.0)


def test_sharing_across_arguments_is_kept_inside_and_outside():
    """Two models with a tied embedding: a write through one is read through the other, inside and after."""
    tied = leaf(1)
    left, right = Model(tied), Model(tied, [tied])
    seen: list[bool] = []

    @gn.jit
    def step(left: Model, *, right: Model) -> Any:
        seen.append(left.embed is right.embed and right.layers[0] is right.embed)
        left.embed.weight.value *= 5.0
        return right.layers[0].weight.value

    assert step(left, right=right) == 5.0
    assert tied.weight.value == 5.0
    assert left.embed is tied
    assert right.layers[0] is tied
    assert seen == [True]


def test_one_node_given_twice_is_one_node():
    """A model given twice is one inside, and one in the result."""

    @gn.jit
    def step(one: Leaf, two: Leaf) -> tuple[Leaf, Leaf]:
        assert one is two
        one.weight.value += 1.0
        two.weight.value += 1.0
        return two, one

    node = leaf()
    assert step(node, node)[0] is node
    assert node.weight.value == 2.0


def test_a_structure_with_sharing_is_another_than_one_without():
    """What is compiled for one node given twice is not used for two."""

    @gn.jit
    def step(one: Leaf, two: Leaf) -> None:
        one.weight.value += 1.0
        two.weight.value += 1.0

    one, two = leaf(), leaf()
    step(one, one)
    step(one, two)
    step(two, one)
    assert (one.weight.value, two.weight.value) == (4.0, 2.0)


def test_states_shared_with_an_optimizer_are_updated_through_it():
    """A node that holds the States of another one writes to that one's."""
    net = model()
    tuner = Tuner([net.embed.weight, net.layers[1].weight], ShortTermState(jnp.int32(0)))

    @gn.jit
    def update(tuner: Tuner, net: Model) -> None:
        for held in tuner.held:
            held.value -= net.embed.weight.value
        tuner.steps.value += 1

    update(tuner, net)
    assert (net.embed.weight.value, net.layers[1].weight.value, tuner.steps.value) == (0.0, 3.0, 1)
    assert tuner.held[0] is net.embed.weight


# Identity of what comes out


def test_a_part_of_an_argument_comes_out_as_itself():
    """Subnodes, States and the node itself, nested in the result, are the caller's objects."""
    net = model()

    @gn.jit
    def parts(net: Model) -> Any:
        return {"deep": [net.layers[1], net.parent], "state": net.embed.weight, "layers": net.layers, "x": 1.0}

    found = parts(net)
    assert found["deep"][0] is net.layers[1]
    assert found["deep"][1] is net
    assert found["state"] is net.embed.weight
    assert [one is two for one, two in zip(found["layers"], net.layers, strict=True)] == [True, True]
    assert type(found["layers"]) is list


def test_new_nodes_come_out_live():
    """A node that is made inside is a node outside: with values, of its own structure, open to writes and changes."""

    @gn.jit
    def build(x: jax.Array) -> Model:
        return Model(Leaf(1, ParamState(x)), [Leaf(2, ParamState(x + 1))], {"k": Leaf(3, ParamState(x + 2))})

    made = build(jnp.float32(1))
    assert made.layers[0].weight.value == 2.0
    assert gn.graphdef(made) is gn.graphdef(Model(leaf(), [Leaf(2, leaf().weight)], {"k": Leaf(3, leaf().weight)}))
    made.layers.append(leaf(7))
    made.note = "changed"
    made.table["k"].weight.value = jnp.float32(9)
    assert [float(one.value) for one in gn.states(made).values()] == [1.0, 2.0, 7.0, 9.0]


def converted(node: Leaf) -> Any:
    """The caller's own pytree of a node."""
    return gn.graph_to_tree(node)[0]


BESIDE: dict[str, Callable[[Callable[[Leaf], Any], Leaf], Any]] = {
    "jit": lambda function, node: gn.jit(function)(node),
    "grad": lambda function, node: gn.grad(lambda x, node: (x, function(node)), has_aux=True)(1.0, node)[1],
    "vmap": lambda function, node: gn.vmap(lambda _, node: function(node), (0, None), None)(jnp.ones(2), node),
    "scan": lambda function, node: jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, gn.Node) else leaf[0],
        gn.scan(lambda node, _: (node, function(node)), node, length=1)[1],
    ),
    "cond": lambda function, node: gn.cond(True, function, function, node),
}


@pytest.mark.parametrize("transform", BESIDE)
def test_a_converted_node_is_a_pytree_like_any_other(transform: str):
    """What `gn.graph_to_tree` gives stays what it is beside nodes, new ones and the caller's, in any order."""
    node, run = leaf(1), BESIDE[transform]

    def function(node: Leaf) -> Any:
        new = Leaf(2, ParamState(node.weight.value * 10))
        return [converted(node), new, converted(new), node]

    before, new, after, same = run(function, node)
    assert type(before) is type(after) is gn.NodeStates
    assert [jax.tree.leaves(tree)[0] for tree in (before, after)] == [1.0, 10.0]
    assert same is node
    assert isinstance(new, Leaf)
    assert jnp.ravel(new.weight.value)[0] == 10.0
    assert gn.graphdef(gn.tree_to_graph(before)) is gn.graphdef(node)


def test_a_converted_node_may_be_carried():
    """As by `jax.lax.scan`: its values change from round to round; and it goes into a call beside nodes."""
    node, tree = leaf(1), converted(leaf(1))

    def doubled(tree: Any) -> Any:
        return jax.tree.map(lambda value: value * 2, tree)

    (same, last), _ = gn.scan(lambda carry, _: ((carry[0], doubled(carry[1])), None), (node, tree), length=3)
    assert (same is node, gn.tree_to_graph(last).weight.value) == (True, 8.0)
    assert gn.tree_to_graph(gn.fori_loop(0, 2, lambda _, tree: doubled(tree), tree)).weight.value == 4.0
    last = gn.while_loop(lambda tree: jax.tree.leaves(tree)[0] < 5, doubled, tree)
    assert gn.tree_to_graph(last).weight.value == 8.0


def test_one_new_node_given_twice_is_one_node():
    """Sharing among new nodes is kept: a new node in two places, and in another new node, and a cycle."""

    @gn.jit
    def build() -> Any:
        shared = leaf(1)
        ring = Model(shared)
        ring.parent = ring
        return [shared, shared, ring, shared.weight]

    one, two, ring, weight = build()
    assert one is two is ring.embed
    assert ring.parent is ring
    assert weight is one.weight


def test_new_nodes_may_refer_to_those_of_the_caller():
    """A new node around an argument's subnode and State holds the caller's own objects."""
    net = model()

    @gn.jit
    def wrap(net: Model) -> tuple[Model, Leaf]:
        net.embed.weight.value += 10.0
        return Model(net.layers[0], [net.embed, leaf(5)], parent=net), Leaf(8, net.layers[1].weight)

    outer, other = wrap(net)
    assert outer.embed is net.layers[0]
    assert outer.layers[0] is net.embed
    assert outer.parent is net
    assert outer.layers[1].weight.value == 5.0
    assert other.weight is net.layers[1].weight
    assert net.embed.weight.value == 11.0
    outer.embed.weight.value = jnp.float32(6)
    assert net.layers[0].weight.value == 6.0


def test_a_new_node_is_new_at_every_call():
    """A second call that is compiled already makes another node."""

    @gn.jit
    def build(x: jax.Array) -> Leaf:
        return Leaf(1, ParamState(x))

    one, two = build(jnp.float32(1)), build(jnp.float32(2))
    assert one is not two
    assert (one.weight.value, two.weight.value) == (1.0, 2.0)


# What is written, and what is not


def test_states_only_read_are_no_outputs():
    """The compiled function gives the States that are written, and the result; nothing else."""

    def step(pair: Pair, x: Any) -> Any:
        pair.b.value = pair.a.value + x
        return x * 2

    jaxpr = gn.make_jaxpr(step)(pair(), 1.0)
    assert len(jaxpr.in_avals) == 3
    assert len(jaxpr.out_avals) == 2
    lowered = gn.jit(step).lower(pair(), 1.0)
    assert len(jax.tree.leaves(lowered.out_info)) == 2


def test_a_state_that_is_only_read_keeps_its_very_array():
    """Reading, and writing back what was read, leave the array itself in the State."""

    @gn.jit
    def step(pair: Pair) -> None:
        pair.a.value = pair.a.value
        pair.b.value = pair.b.value + pair.a.value

    one = pair(1, 2)
    before = one.a.value
    step(one)
    assert one.a.value is before
    assert one.b.value == 3.0
    assert len(gn.make_jaxpr(step)(one).out_avals) == 1


def test_an_item_changed_in_place_is_a_write():
    """A dict in a State that is changed in place is written back; the caller's old dict is not touched."""

    @gn.jit
    def step(held: State[dict[str, Any]], x: Any) -> None:
        held.value["a"] = held.value["a"] + x
        held.value["new"] = [x]

    value = {"a": jnp.float32(1), "b": jnp.float32(2)}
    held = State(value)
    step(held, 3.0)
    assert held.value == {"a": 4.0, "b": 2.0, "new": [3.0]}
    assert value == {"a": 1.0, "b": 2.0}


def test_a_dict_that_is_only_read_is_no_output():
    """Reading the items of a dict in a State writes nothing, and keeps the dict itself."""
    held = State({"a": jnp.float32(1)})
    before = held.value

    def read(held: State[dict[str, Any]]) -> Any:
        return held.value["a"] + 1

    assert len(gn.make_jaxpr(read)(held).out_avals) == 1
    assert gn.jit(read)(held) == 2.0
    assert held.value is before


def test_a_value_may_change_its_shape_dtype_and_pytree():
    """What is written comes back as it is, whatever was there before."""

    @gn.jit
    def step(pair: Pair) -> None:
        pair.a.value = {"x": jnp.zeros((2, 3)), "n": None}
        pair.b.value = jnp.int32(7)

    one = pair()
    step(one)
    assert one.a.value["x"].shape == (2, 3)
    assert one.a.value["n"] is None
    assert one.b.value.dtype == jnp.int32


EXITS = {
    "jit": lambda f, node: gn.jit(f)(node),
    "donating jit": lambda f, node: gn.jit(f, donate=True)(node),
    "grad": lambda f, node: gn.grad(f, wrt=ParamState)(node),
    "remat": lambda f, node: gn.remat(f)(node),
    "vmap": lambda f, node: gn.vmap(f, in_axes=None, axis_size=2)(node),
    "cond": lambda f, node: gn.cond(True, f, f, node),
    "make_jaxpr": lambda f, node: gn.make_jaxpr(f)(node),
    "eval_shape": lambda f, node: gn.eval_shape(f, node),
}


class Both(gn.Node):
    weight: ParamState[Any]
    other: ShortTermState[Any]
    items: list[Leaf] = gn.subnode(default_factory=list)


@pytest.mark.parametrize("transform", EXITS)
def test_an_exception_leaves_everything_untouched(transform: str):
    """Values, containers in them, and structure are the caller's as before when the function raises."""
    node = Both(ParamState(jnp.float32(2)), ShortTermState({"a": jnp.float32(1)}), [leaf()])
    value = node.other.value
    before, graphdef, items = node.weight.value, gn.graphdef(node), list(node.items)

    def fail(node: Both) -> None:
        node.weight.value *= 2
        node.other.value["a"] = node.weight.value
        node.other.value["b"] = node.weight.value
        node.items.append(leaf())
        raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        EXITS[transform](fail, node)
    assert node.weight.value is before
    assert node.other.value is value
    assert value == {"a": 1.0}
    assert [one is two for one, two in zip(node.items, items, strict=True)] == [True]
    assert gn.graphdef(node) is graphdef


# Changes of structure


def assign_node(net: Model) -> None:
    net.embed = leaf()


def replace_state(net: Model) -> None:
    net.embed.weight = ParamState(jnp.float32(0))


def append(net: Model) -> None:
    net.layers.append(net.embed)


def delete(net: Model) -> None:
    del net.parent


def put_key(net: Model) -> None:
    net.table["new"] = net.embed


def change_static(net: Model) -> None:
    net.layers[1].size = 7


def unset(net: Model) -> None:
    net.count = None


def pop(net: Model) -> None:
    gn.pop_states(net, ShortTermState)


def exchange(net: Model) -> None:
    net.layers.reverse()


def several(net: Model) -> None:
    net.note = "other"
    net.embed.size = 3


CHANGES: dict[Callable[[Model], None], str] = {
    assign_node: "net.embed.weight is another ParamState; write to its .value instead",
    replace_state: "net.embed.weight is another ParamState; write to its .value instead",
    append: "net.layers.2: nothing != the object at net.embed",
    delete: "net.parent: the object at net != nothing",
    put_key: "net.table.new: nothing != the object at net.embed",
    change_static: "net.layers.1.size: 1 != 7",
    unset: "net.count: ShortTermState != nothing",
    pop: "net.count: ShortTermState != nothing",
    exchange: "net.layers.0.weight is another ParamState; write to its .value instead; "
    "net.layers.1.weight is another ParamState; write to its .value instead",
    several: "net.note: '' != 'other'; net.embed.size: 1 != 3",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_structure_is_refused_by_its_path(change: Callable[[Model], None]):
    """What changed is named with its argument and path, and the transform; the caller's node is untouched."""
    net = model()
    graphdef, states = gn.graphdef(net), list(gn.states(net).values())

    def step(net: Model) -> None:
        net.embed.weight.value += 1.0
        change(net)

    for _ in range(2):  # a failed call leaves nothing behind
        with pytest.raises(gn.StructureError) as caught:
            gn.jit(step)(net)
        assert str(caught.value) == (
            f"the structure of an argument changed inside of gn.jit: {CHANGES[change]}. Change it outside, or return a "
            "new node"
        )
    assert gn.graphdef(net) is graphdef
    assert [one is two for one, two in zip(gn.states(net).values(), states, strict=True)] == [True] * len(states)
    assert net.embed.weight.value == 1.0


def test_a_change_that_is_taken_back_is_none():
    """A structure that is the same at the end as at the start is accepted."""

    @gn.jit
    def step(net: Model) -> None:
        net.layers.append(net.layers.pop(0))
        net.layers.reverse()
        net.note, note = "meanwhile", net.note
        net.note = note
        net.layers[0].weight.value += 1.0

    net = model()
    step(net)
    assert net.layers[0].weight.value == 3.0


def test_a_new_node_inside_may_be_changed_at_will():
    """Structure is fixed for arguments alone."""

    @gn.jit
    def build(x: jax.Array) -> Model:
        made = Model(leaf())
        gn.graphdef(made)
        made.layers.append(Leaf(1, ParamState(x)))
        made.note = "late"
        return made

    assert build(jnp.float32(3)).layers[0].weight.value == 3.0


# Captured nodes


def test_a_captured_state_that_is_read_is_a_constant():
    """A node that was closed over is read as it is when the function is traced."""
    held = leaf(3)

    @gn.jit
    def step(x: Any) -> Any:
        return held.weight.value * x

    assert step(2.0) == 6.0


@pytest.mark.parametrize("is_traced", [True, False], ids=["a tracer", "a concrete value"])
@pytest.mark.parametrize("transform", ["jit", "vmap", "grad", "remat"])
def test_a_captured_state_is_not_written(transform: str, is_traced: bool):
    """A write to a node that was closed over raises, also one that would happen at tracing alone."""
    held = leaf(3)
    before = held.weight.value

    def step(x: jax.Array) -> jax.Array:
        held.weight.value = x if is_traced else before
        return x.sum()

    run: Any = getattr(gn, transform)(step)
    with pytest.raises(gn.TraceError) as caught:
        run(jnp.ones(2) if transform == "vmap" else jnp.float32(1))
    harm = (
        "writing a tracer float32[] into it would leak the tracer"
        if is_traced
        else "a write to it would happen once, while the function is traced, and never when it runs"
    )
    assert str(caught.value) == (
        f"ParamState was made outside of the running JAX transformation: {harm}. Pass its node to the function as an "
        "argument, under gn.jit, gn.grad and so on; or split the node outside, merge it inside of the transformed "
        "function, and return treefy_states of the merged node"
    )
    assert held.weight.value is before


def test_a_captured_node_that_an_inner_transform_writes_is_named():
    """A node that was closed over cannot be passed on and written: the error names argument and path."""
    net = model()
    inner = gn.jit(lambda other: setattr(other.embed.weight, "value", other.embed.weight.value + 1.0))

    def step(x: jax.Array) -> jax.Array:
        inner(net)
        return x

    with pytest.raises(gn.TraceError) as caught:
        jax.jit(step)(1.0)
    assert str(caught.value).startswith(
        "other.embed.weight (ParamState) was made outside of the running JAX transformation: writing a tracer "
    )
    assert net.embed.weight.value == 1.0


def test_all_states_are_checked_before_one_is_written():
    """A result that cannot be written back in whole is not written back in part."""
    fresh: list[Leaf] = []

    def step(x: jax.Array) -> Any:
        fresh.append(leaf(1))
        with pytest.raises(gn.TraceError):
            gn.jit(_count)([fresh[0], captured])
        return fresh[0].weight.value

    captured = leaf(2)
    assert jax.jit(step)(1.0) == 1.0
    assert captured.weight.value == 2.0


def _count(nodes: list[Leaf]) -> None:
    for node in nodes:
        node.weight.value += 1.0


# Nesting


def add(node: Leaf, x: Any) -> Any:
    node.weight.value = node.weight.value + x
    return node.weight.value * 2


NESTINGS: dict[str, Callable[[Leaf, jax.Array], Any]] = {
    "gn.jit in gn.jit": lambda node, x: gn.jit(lambda n, y: gn.jit(add)(n, y))(node, x),
    "donating in gn.jit": lambda node, x: gn.jit(lambda n, y: gn.jit(add, donate=True)(n, y))(node, x),
    "gn.jit in gn.grad": lambda node, x: gn.grad(lambda n, y: gn.jit(add)(n, y))(node, x),
    "gn.grad in gn.jit": lambda node, x: gn.jit(lambda n, y: gn.grad(add)(n, y))(node, x),
    "gn.jit in gn.remat": lambda node, x: gn.remat(lambda n, y: gn.jit(add)(n, y))(node, x),
    "gn.jit in gn.scan": lambda node, x: gn.scan(lambda n, y: (n, gn.jit(add)(n, y)), node, x[None]),
    "gn.jit in gn.cond": lambda node, x: gn.cond(x > 0, gn.jit(add), gn.jit(add), node, x),
    "donating in gn.remat": lambda node, x: gn.remat(lambda n, y: gn.jit(add, donate=True)(n, y))(node, x),
    "gn.jit of gn.jit": lambda node, x: gn.jit(gn.jit(add))(node, x),
    "three deep": lambda node, x: gn.jit(lambda n, y: gn.remat(lambda m, z: gn.jit(add)(m, z))(n, y))(node, x),
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_writes_reach_the_caller_through_any_nesting(nesting: str):
    """What the innermost function writes is in the caller's node, as a concrete array."""
    node = leaf(1)
    NESTINGS[nesting](node, jnp.float32(2))
    assert node.weight.value == 3.0
    assert isinstance(node.weight.value, jax.Array)
    assert not isinstance(node.weight.value, Tracer)


def test_gn_jit_runs_under_the_transforms_of_jax():
    """Under jax.jit, jax.grad and jax.vmap it is a function like any other, on nodes made or merged inside."""
    graphdef, values = gn.treefy_split(leaf(3))
    compiled = gn.jit(add)

    def step(values: gn.StateTree, x: jax.Array) -> tuple[jax.Array, gn.StateTree]:
        node = gn.treefy_merge(graphdef, values)
        return compiled(node, x), gn.treefy_states(node)

    result, new = jax.jit(step)(values, jnp.float32(2))
    assert (result, new["weight"].value) == (10.0, 5.0)
    gradient, _ = jax.grad(step, 1, has_aux=True)(values, jnp.float32(2))
    assert gradient == 2.0
    result, new = jax.vmap(step, in_axes=(None, 0))(values, jnp.arange(3.0))
    np.testing.assert_array_equal(result, [6.0, 8.0, 10.0])
    np.testing.assert_array_equal(new["weight"].value, [3.0, 4.0, 5.0])


def test_a_captured_node_may_be_read_by_gn_jit_under_the_transforms_of_jax():
    """Passing on a node that was closed over is fine while it is only read."""
    node = leaf(3)
    read = gn.jit(lambda node, x: node.weight.value * x)
    assert jax.jit(lambda x: read(node, x))(2.0) == 6.0
    assert jax.grad(lambda x: read(node, x))(2.0) == 3.0
    np.testing.assert_array_equal(jax.vmap(lambda x: read(node, x))(jnp.arange(3.0)), [0.0, 3.0, 6.0])


def as_number(x: Any) -> Any:
    return float(x)


def is_positive(x: Any) -> Any:
    return bool(x > 0)


def as_item(carry: Any, x: Any) -> Any:
    return carry, float(x)


TRACED: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "jit": (as_number, lambda f: gn.jit(f)(1.0)),
    "trace": (as_number, lambda f: gn.jit(f).trace(1.0)),
    "partial": (as_item, lambda f: gn.jit(functools.partial(f, 1.0))(1.0)),
    "scan": (as_item, lambda f: gn.scan(f, 0.0, jnp.ones(2))),
    "scan in jit": (as_item, lambda f: gn.jit(lambda x: gn.scan(f, 0.0, x))(jnp.ones(2))),
    "fori_loop": (as_item, lambda f: gn.fori_loop(0, 2, f, 1.0)),
    "while_loop": (is_positive, lambda f: gn.while_loop(f, lambda x: x, 1.0)),
    "while_loop beside a node": (is_positive, lambda f: gn.while_loop(f, Adding(State(jnp.ones(()))), 1.0)),
    "cond": (as_number, lambda f: gn.cond(True, f, f, 1.0)),
    "remat": (as_number, lambda f: gn.remat(f)(1.0)),
    "eval_shape": (as_number, lambda f: gn.eval_shape(f, 1.0)),
    "make_jaxpr": (as_number, lambda f: gn.make_jaxpr(f)(1.0)),
}


class Adding(gn.Node):
    w: State[Any]

    def __call__(self, x: Any) -> Any:
        return x + self.w.value


@pytest.mark.parametrize("name", TRACED)
def test_errors_of_jax_name_the_users_function(name: str):
    """Its name, file and line, in place of those of the function that runs it."""
    function, run = TRACED[name]
    with pytest.raises(jax.errors.ConcretizationTypeError) as caught:
        run(function)
    line = function.__code__.co_firstlineno
    assert f"while tracing the function {function.__name__} at {__file__}:{line} for " in str(caught.value)


def test_an_error_about_a_shape_has_a_note():
    """It is no error of a tracer's conversion to JAX, and names none of the user's arguments either."""
    with pytest.raises(TypeError, match=r"the argument other_leaves\[0\]") as caught:
        gn.jit(lambda size: jnp.zeros(size))(3)
    note = "To JAX, other_leaves[0] is size, values are the States. Make an argument static with static_argnames."
    assert note in caught.value.__notes__


def test_without_compilation_the_function_itself_runs():
    """Under jax.disable_jit `gn.jit` calls the function with the caller's nodes, as `jax.jit` does with its arrays."""
    node, seen = leaf(1), list[Any]()

    def function(given: Leaf, x: Any) -> Any:
        seen.append(given)
        given.weight.value = given.weight.value + x
        return node, float(node.weight.value)

    with jax.disable_jit():
        for donate in (False, True):
            assert gn.jit(add, donate=donate)(node, 1.0) == node.weight.value * 2
            assert gn.jit(function, donate=donate)(node, 1.0) == (node, float(node.weight.value))
    assert seen == [node, node]
    assert node.weight.value == 5.0


def test_states_of_an_abstract_node_lower_a_function():
    """What eval_shape gives can be compiled for, without an array."""
    abstract = gn.eval_shape(lambda: leaf(1))
    lowered = gn.jit(add).lower(abstract, jax.ShapeDtypeStruct((), jnp.float32))
    assert [info.shape for info in jax.tree.leaves(lowered.out_info)] == [(), ()]
    assert isinstance(abstract.weight.value, jax.ShapeDtypeStruct)


def test_random_keys_and_numpy_arrays_are_values():
    """Keys and NumPy arrays go in as State values, and keys come out."""
    one = Pair(State(jax.random.key(0)), State(np.ones(2, np.float32)))

    @gn.jit
    def step(one: Pair) -> None:
        one.a.value, key = jax.random.split(one.a.value)
        one.b.value = one.b.value + jax.random.normal(key, (2,))

    step(one)
    assert one.a.value.dtype == jax.random.key(0).dtype
    assert isinstance(one.b.value, jax.Array)


@jax.tree_util.register_pytree_with_keys_class
class Strict:
    """A pytree that takes a node and an array, and nothing else."""

    def __init__(self, node: Leaf, scale: Any) -> None:
        if not isinstance(node, Leaf) or isinstance(scale, int):
            raise TypeError(f"expected a Leaf and an array, found {node!r} and {scale!r}")
        self.node, self.scale = node, scale

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], None]:
        return ((GetAttrKey("node"), self.node), (GetAttrKey("scale"), self.scale)), None

    @classmethod
    def tree_unflatten(cls, _: None, children: Any) -> "Strict":
        return cls(*children)


def scaled(strict: Strict) -> Any:
    strict.node.weight.value = strict.node.weight.value + 1
    return strict.node.weight.value * strict.scale


STRICT_CALLS: dict[str, Callable[[Strict], Any]] = {
    "jit": lambda strict: gn.jit(scaled)(strict),
    "donating": lambda strict: gn.jit(scaled, donate=True)(strict),
    "by name": lambda strict: gn.jit(scaled, donate_argnames="strict")(strict=strict),
    "remat": lambda strict: gn.remat(scaled)(strict),
    "cond": lambda strict: gn.cond(True, scaled, scaled, strict),
    "vjp": lambda strict: gn.vjp(scaled, strict)[0],
    "scan": lambda strict: gn.scan(lambda h, item: (h, scaled(item)), 0.0, stacked(strict))[1][0],
    "vmap": lambda strict: gn.vmap(scaled)(stacked(strict))[0],
    "beside": lambda strict: gn.grad(lambda x, strict: x * scaled(strict), argnums=0)(1.0, strict),
}


def stacked(strict: Strict) -> Strict:
    return Strict(gn.stack([strict.node]), jnp.stack([strict.scale]))


@pytest.mark.parametrize("name", STRICT_CALLS)
def test_a_pytree_that_checks_its_children_goes_in(name: str):
    """Nothing but what is traced is put into a class of the user's, also not to name what is in it."""
    assert STRICT_CALLS[name](Strict(leaf(1), jnp.float32(2))) == 2 * (leaf(1).weight.value + 1)


def test_what_a_pytree_that_checks_its_children_holds_is_named():
    """By the keys that the class itself gives."""
    node = leaf(1)
    read = gn.jit(lambda strict: node.weight.value + strict.node.weight.value)
    with pytest.raises(gn.TraceError, match=re.escape("gn.jit: strict.node.weight is read from outside")):
        read(Strict(node, jnp.float32(2)))
    with pytest.raises(gn.StructureError, match=re.escape("gn.jit: strict.node.size: 1 != 2. Change it outside")):
        gn.jit(lambda strict: setattr(strict.node, "size", 2))(Strict(node, jnp.float32(2)))


def test_a_number_is_weak_until_the_end():
    """A Python number that is written is one until the transformation ends, and then of the dtype that was there."""
    node, half = leaf(1), jnp.ones((), jnp.bfloat16)

    def write(node: Leaf) -> Any:
        node.weight.value = 2.0
        return node.weight.value * half

    assert gn.jit(write)(node).dtype == jnp.bfloat16
    assert (node.weight.value.dtype, node.weight.value.weak_type) == (jnp.float32, False)


def observe(node: Pair, x: Any) -> Any:
    """Writes an argument as it is, and a constant."""
    node.a.value, node.b.value = x, {"x": x, "seen": jnp.float32(1), "count": 3}
    return jnp.sum(x)


OBSERVERS: dict[str, Callable[[Pair, Any], object]] = {
    "eager": observe,
    "jit": gn.jit(observe),
    "remat": gn.remat(observe),
    "vjp": lambda node, x: gn.vjp(observe, node, x),
    "jvp": lambda node, x: gn.jvp(observe, (node, x), ({}, jnp.ones(2))),
    "grad": lambda node, x: gn.grad(observe, argnums=1)(node, x),
    "jacfwd": lambda node, x: gn.jacfwd(observe, argnums=1)(node, x),
    "checkify": lambda node, x: gn.checkify(observe)(node, x),
    "capture": lambda node, x: gn.capture(observe, ..., missing_ok=True)(node, x),
    "cond": lambda node, x: gn.cond(True, observe, observe, node, x),
    "vmap": lambda node, x: gn.vmap(lambda node, x: setattr(node.a, "value", x))(node, x),
}


@pytest.mark.parametrize("name", OBSERVERS)
def test_a_written_argument_is_an_array_of_jax(name: str):
    """NumPy's memory stays the caller's, and nothing private of JAX comes into a State."""
    node, buffer = Pair(State(jnp.zeros(2)), State({"x": jnp.zeros(2), "seen": jnp.zeros(()), "count": 0})), np.ones(2)
    if name == "vmap":
        node.b.value = jnp.zeros(2)
    # On an address that JAX could share, which it does where it may.
    room = np.zeros(64, np.float32)
    start = -room.ctypes.data % 64 // room.itemsize
    memory = room[start : start + 2]
    memory[:] = buffer
    OBSERVERS[name](node, memory)
    memory[:] = 7
    node.a.value += 1
    assert node.a.value.tolist() == [2, 2]
    assert memory.tolist() == [7, 7]
    assert b"literals" not in pickle.dumps(node)
    if name not in ("eager", "vmap"):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(node.b.value))


def test_every_transform_has_its_traits():
    """Each public function that takes a function stands in the table, under its name, and nothing else does."""
    others = {"Axes", "Captured", "Jitted", "axes", "explain_retrace"}
    assert set(TRAITS) == {name for name in vars(gn.transforms) if not name.startswith("_")} - others
