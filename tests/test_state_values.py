"""What a State holds: containers of its own, JAX arrays, and what its field declares."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode import ParamState


class Holder(gn.Node):
    w: ParamState[Any]


class Layer(gn.Node):
    n: int
    w: ParamState[Float[Array, "n"]] = gn.state(jax.nn.initializers.ones)
    count: gn.State[Int[Array, ""]] = gn.state(default_factory=lambda: gn.State(jnp.int32(0)))


class Pair(gn.Node):
    a: Layer
    b: Layer


def holder() -> Holder:
    return Holder(ParamState({"a": jnp.zeros(3), "b": [jnp.zeros(2)]}))


# From a node to a value that must be its own: not the node's.
WAYS_OUT: dict[str, Callable[[Holder], Any]] = {
    "treefy_states": lambda node: gn.treefy_states(node)["w"].value,
    "treefy_split": lambda node: gn.treefy_split(node, ...)[1]["w"].value,
    "clone": lambda node: gn.clone(node).w.value,
    "merge": lambda node: gn.treefy_merge(*gn.treefy_split(node)).w.value,
    "graph_to_tree": lambda node: gn.tree_to_graph(gn.graph_to_tree(node)[0]).w.value,
    "replace": lambda node: node.w.replace(tag="new").value,
    "constructor": lambda node: ParamState(node.w.value).value,
    "setter": lambda node: _written(node.w.value),
    "update": lambda node: _updated(gn.treefy_states(node)),
    "unstack": lambda node: gn.unstack(gn.stack([node]))[0].w.value,
    "jit": lambda node: gn.jit(gn.clone)(node).w.value,
    "to_dict": lambda node: gn.treefy_states(node).to_dict()["w"],
}


def _written(value: Any) -> Any:
    other = ParamState(None)
    other.value = value
    return other.value


def _updated(tree: gn.StateTree) -> Any:
    other = holder()
    gn.update_states(other, tree)
    return other.w.value


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_write_into_a_container_stays_with_its_owner(way: str):
    """Whatever a value went through, its containers are new, at every depth, and its arrays the same."""
    node = holder()
    value = WAYS_OUT[way](node)
    value["a"] = jnp.ones(3)
    value["b"].append(jnp.ones(1))
    assert node.w.value["a"].tolist() == [0.0, 0.0, 0.0]
    assert len(node.w.value["b"]) == 1
    node.w.value["b"][0] = jnp.full(2, 7.0)
    assert value["b"][0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "pick", [lambda tree: tree.filter(...), lambda tree: tree.split(...)[0], lambda tree: tree | tree]
)
def test_trees_of_one_tree_own_their_containers(pick: Callable[[gn.StateTree], gn.StateTree]):
    """A part of a state tree does not change with the tree."""
    tree = gn.treefy_states(holder())
    part = pick(tree)
    part["w"].value["a"] = jnp.ones(3)
    assert tree["w"].value["a"].tolist() == [0.0, 0.0, 0.0]


def test_a_snapshot_restores():
    """What was taken out before a write into a container brings back the value before it."""
    node = holder()
    best = gn.treefy_states(node)
    node.w.value["a"] = jnp.ones(3)
    gn.update_states(node, best)
    assert node.w.value["a"].tolist() == [0.0, 0.0, 0.0]


def test_an_array_that_becomes_a_container_is_copied_from_then_on():
    """A State that held a plain array when its node was split first is split rightly when it holds a dict."""
    node = Holder(ParamState(jnp.zeros(2)))
    gn.treefy_split(node)
    node.w.value = {"a": jnp.zeros(2)}
    tree = gn.treefy_states(node)
    node.w.value["a"] = jnp.ones(2)
    assert tree["w"].value["a"].tolist() == [0.0, 0.0]


def test_a_compiled_function_may_write_a_container_into_a_plain_state():
    """A dict that a compiled function writes is copied on its way out of the State, as any other."""
    node = Holder(ParamState(jnp.zeros(2)))
    gn.treefy_split(node)

    @gn.jit
    def fill(node: Holder) -> None:
        node.w.value = {"a": node.w.value}

    fill(node)
    tree = gn.treefy_states(node)
    node.w.value["a"] = jnp.ones(2)
    assert tree["w"].value["a"].tolist() == [0.0, 0.0]


CAPTURING: dict[str, Callable[[Callable[..., Any], Any], Any]] = {
    "jit": lambda f, x: gn.jit(f)(x),
    "grad": lambda f, x: gn.grad(lambda x: f(x).sum())(x),
    "vmap": lambda f, x: gn.vmap(f)(x),
    "remat": lambda f, x: gn.remat(f)(x),
}
WRITTEN = (
    "ParamState: a JAX transformation wrote into its value, without having got the State as an argument. The write was "
    "made into a copy, and the State holds what it held. Pass its node to the function as an argument, under gn.jit, "
    "gn.grad and so on"
)


@pytest.mark.parametrize("transform", CAPTURING)
def test_a_write_into_a_captured_container_is_an_error(transform: str):
    """A transformation gets a copy of a container from outside; having written to it is an error when it ends."""
    node = holder()

    def write(x: Any) -> Any:
        node.w.value["a"] = x
        return x

    with pytest.raises(gn.TraceError) as caught:
        CAPTURING[transform](write, jnp.ones(3))
    assert str(caught.value) == WRITTEN
    assert node.w.value["a"].tolist() == [0.0, 0.0, 0.0]


def test_a_captured_container_may_be_read():
    """Reading a container from outside is fine, and leaves nothing behind."""
    node = holder()
    assert gn.jit(lambda x: node.w.value["a"] + x)(jnp.ones(3)).tolist() == [1.0, 1.0, 1.0]
    assert node.w.value["a"].tolist() == [0.0, 0.0, 0.0]


def test_plain_jax_is_found_out_at_the_next_read():
    """Under `jax.jit` nobody looks when it ends: the next read or split says it, once, and the value is the old one."""
    node = holder()
    for look in (lambda: node.w.value, lambda: gn.treefy_states(node), lambda: gn.clone(node)):
        jax.jit(lambda x: node.w.value.__setitem__("a", x))(jnp.ones(3))
        with pytest.raises(gn.TraceError, match="that has ended wrote into its value"):
            look()
        assert node.w.value["a"].tolist() == [0.0, 0.0, 0.0]


def test_a_tracer_that_came_in_by_a_reference_is_found_out():
    """A container that was read outside and written to inside of a trace is not handed out with its dead tracer."""
    node = holder()
    value = node.w.value
    jax.jit(lambda x: value.__setitem__("a", x))(jnp.ones(3))
    with pytest.raises(gn.TraceError, match="of a JAX transformation that has ended"):
        _ = node.w.value
    with pytest.raises(gn.TraceError, match="of a JAX transformation that has ended"):
        gn.treefy_states(node)


def _put(node: Holder, x: Any) -> Any:
    node.w.value["a"] = 3 * x
    return x


# Transformations of JAX's own, of a function that writes into a node's container without having got the node.
OWN: dict[str, Callable[[Holder], Any]] = {
    "grad": lambda node: jax.grad(lambda x: _put(node, x))(1.0),
    "jit": lambda node: jax.jit(lambda x: _put(node, x))(1.0),
    "vmap": lambda node: jax.vmap(lambda x: _put(node, x))(jnp.ones(2)).sum(),
    "scan": lambda node: jax.lax.scan(lambda c, x: (c, _put(node, x)), 0, jnp.ones(2))[1].sum(),
    "cond": lambda node: jax.lax.cond(True, lambda x: _put(node, x), lambda x: x, 1.0),
    "checkpoint": lambda node: jax.checkpoint(lambda x: _put(node, x))(1.0),
}


@pytest.mark.parametrize("outer", [gn.jit, gn.remat, lambda function: lambda node: gn.vjp(function, node)])
@pytest.mark.parametrize("name", OWN)
def test_plain_jax_inside_of_our_transforms_is_found_out(name: str, outer: Callable[..., Any]):
    """JAX's own transformation of a function that writes into an argument's container is an error, not a lost write."""
    node = holder()
    with pytest.raises(gn.TraceError) as caught:
        outer(OWN[name])(node)
    assert "node.w: a JAX transformation that has ended wrote into its value, without having got" in str(caught.value)
    assert node.w.value["a"].shape == (3,)


@pytest.mark.parametrize("way", [gn.treefy_states, gn.clone, gn.jit(lambda node: len(node.w.value))])
def test_what_was_put_into_a_container_is_taken_in_where_it_goes_out(way: Callable[[Holder], Any]):
    """NumPy arrays become JAX's, so that a snapshot stays what it was; what no State can hold is refused."""
    node, mine = holder(), np.zeros(2, np.float32)
    node.w.value["a"] = mine
    tree = gn.treefy_states(node)
    way(node)
    mine[0] = 5
    np.testing.assert_array_equal(tree["w"].value["a"], [0, 0])
    node.w.value["a"] = ParamState(jnp.zeros(2))
    with pytest.raises(gn.FieldError, match=r"w \(ParamState\): \['a'\]: a State holds arrays, not a ParamState"):
        way(node)
    node.w.value["a"] = np.zeros(2)
    with pytest.raises(gn.FieldError, match=r"w \(ParamState\): \['a'\]: JAX would turn a NumPy array of float64"):
        way(node)


def test_an_exception_drops_the_copies():
    """A function that raised has written nothing, and later reads do not complain."""
    node = holder()

    def fail(x: Any) -> Any:
        node.w.value["a"] = x
        raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        gn.jit(fail)(jnp.ones(3))
    assert node.w.value["a"].tolist() == [0.0, 0.0, 0.0]


def test_an_array_of_numpy_is_copied():
    """A later write into it does not reach the State, wherever its memory begins."""
    for offset in range(0, 64, 4):
        memory = np.zeros(128, np.uint8)[offset : offset + 32].view(np.float32)
        state = ParamState(memory)
        other = ParamState(jnp.ones(8))
        gn.update_states(Holder(other), {"w": memory})
        memory[:] = 5
        assert float(state.value.sum()) == float(other.value.sum()) == 0


@pytest.mark.slow
def test_an_array_of_numpy_is_copied_at_once():
    """What is written into it right after does not reach what JAX computes in the background."""
    with gn.random.scope(0):
        for _ in range(4):
            memory = np.ones(500_000, np.float32)
            taken: list[Any] = [ParamState(memory).value, gn.random.permutation(memory), gn.random.normal(memory, 0.0)]
            memory[:] = 7
            assert [float(array.max()) for array in taken] == [1.0, 1.0, 1.0]


def test_an_array_of_numpy_becomes_one_of_jax():
    """A NumPy array is taken as a JAX array of its dtype, wherever it comes in, and cannot be changed through it."""
    array = np.ones(2, np.float32)
    node = Layer(2)
    node.w.value = array  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    merged = gn.treefy_merge(gn.graphdef(node), {"w": array, "count": np.int32(3)})
    gn.update_states(node, {"count": np.array(4, np.int32)})
    array[:] = 7
    states = (ParamState(array), node.w, node.count, merged.w, merged.count)
    assert all(isinstance(state.value, jax.Array) for state in states)
    assert node.w.value.tolist() == merged.w.value.tolist() == [1.0, 1.0]


REFUSED: dict[str, tuple[Any, str]] = {
    "float64": (
        np.ones(2),
        "ParamState: JAX would turn a NumPy array of float64 into float32: give array.astype('float32'), or enable "
        "jax_enable_x64 to keep float64",
    ),
    "inside": (
        {"a": np.int64(1), "b": np.array(["x"])},
        "ParamState: 2 faults:\n  ['a']: JAX would turn a NumPy array of int64 into int32: give array.astype('int32'), "
        "or enable jax_enable_x64 to keep int64\n  ['b']: JAX has no arrays of dtype <U1",
    ),
    "masked": (
        np.ma.array([1.0], mask=[True]),
        "ParamState: JAX has no masked arrays: hold the data and the mask, or array.filled(...)",
    ),
    "State": (
        gn.State(jnp.ones(1)),
        "ParamState: a State holds arrays, not a State: give its value, or declare a field of the node for the State",
    ),
    "node": (
        [Layer(1)],
        "ParamState: [0]: a State holds arrays, not a Layer: give its value, or declare a field of the node for the "
        "Layer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_state_cannot_hold_is_refused(name: str):
    """The constructor, the setter, a merge and `replace` refuse it alike, and nothing changes."""
    value, text = REFUSED[name]
    with pytest.raises(gn.FieldError) as caught:
        ParamState(value)
    assert str(caught.value) == text
    node = Holder(ParamState(before := jnp.ones(1)))
    attempts: list[Callable[[], Any]] = [
        lambda: setattr(node.w, "value", value),
        lambda: node.w.replace(value=value),
        lambda: gn.treefy_merge(gn.graphdef(node), {"w": [value]}),
        lambda: gn.update_states(node, {"w": [value]}, check=False),
    ]
    for attempt in attempts:
        with pytest.raises(gn.FieldError):
            attempt()
    assert node.w.value is before


def test_a_contract_holds_inside_of_a_transformation():
    """A write that breaks a contract is refused while the function is traced."""

    @gn.jit
    def step(layer: Layer) -> None:
        layer.count.value = layer.count.value.astype(jnp.float32)

    layer = Layer(2)
    with pytest.raises(gn.ContractError) as caught:
        step(layer)
    assert str(caught.value) == 'Layer.count: expected dtype Int of Int[Array, ""], found float32'
    assert layer.count.value.dtype == jnp.int32


COPIES: dict[str, Callable[[Layer], Layer]] = {
    "itself": lambda layer: layer,
    "clone": gn.clone,
    "merge": lambda layer: gn.treefy_merge(*gn.treefy_split(layer)),
    "unstack": lambda layer: gn.unstack(gn.stack([layer]))[0],
    "view": lambda layer: gn.view(layer, n=2),
    "made by jit": lambda layer: gn.jit(gn.clone)(layer),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_keep_contracts(name: str):
    """The States of a copy are held to the same contracts as those of the original."""
    layer = COPIES[name](Layer(2))
    with pytest.raises(gn.ContractError, match=r"Layer\.w: expected n = 2"):
        layer.w.value = jnp.ones(3)
    with pytest.raises(gn.ContractError, match=r"Layer\.w: expected dtype Float"):
        layer.w.value = jnp.ones(2, jnp.int32)


def test_a_changed_size_is_what_counts():
    """After a static field has changed, the contract asks for the new size."""
    layer = Layer(2)
    with pytest.raises(gn.ContractError, match="expected n = 3"):
        layer.n = 3
    state = gn.pop_states(layer, ParamState)["w",]
    layer.n = 3
    layer.w = ParamState(jnp.ones(3))
    with pytest.raises(gn.ContractError, match="expected n = 3"):
        layer.w.value = state.value


def test_a_shared_state_keeps_the_contracts_of_all_its_fields():
    """A State in two fields of two classes is held to both."""

    class Other(gn.Node):
        v: ParamState[Float[Array, "..."]]

    class Strict(gn.Node):
        v: ParamState[Float[Array, "2"]]

    shared = ParamState(jnp.ones(2))
    nodes: list[Any] = [Strict(shared), Other(shared)]
    for pair in (nodes, gn.clone(nodes)):
        with pytest.raises(gn.ContractError, match=r"Strict\.v: expected 2"):
            pair[1].v.value = jnp.ones(3)


def stacked() -> Layer:
    return gn.stack([Layer(2), Layer(2)])


def test_the_shape_that_is_there_may_stay():
    """A stacked State is written with the axis that it has, or the declared shape, and with no other."""
    layer = stacked()
    layer.w.value = jnp.zeros((2, 2))
    with pytest.raises(gn.ContractError, match="expected rank 1"):
        layer.w.value = jnp.zeros((3, 2))


@pytest.mark.parametrize("kind", ["FlatStates", "StateTree"])
def test_what_was_popped_from_a_stack_comes_back(kind: str):
    """A State with an axis more than declared can be put back where one of its shape was popped."""
    layer = stacked()
    tree = gn.treefy_states(layer, ParamState)
    popped = gn.pop_states(layer, ParamState)
    gn.update_states(layer, popped if kind == "FlatStates" else tree)
    assert layer.w.value.shape == (2, 2)
    with pytest.raises(gn.ContractError):
        layer.w.value = jnp.zeros((3, 2))


def test_another_shape_than_was_popped_is_refused():
    """What is put back fits what the field declares, or what stood there."""
    layer = stacked()
    gn.pop_states(layer, ParamState)
    with pytest.raises(gn.ContractError, match=r"Layer\.w: expected rank 1"):
        layer.w = ParamState(jnp.zeros((3, 2)))
    layer.w = ParamState(jnp.zeros((2, 2)))


def test_a_state_of_a_stack_can_be_exchanged():
    """A State is replaced by one of another tag, of the shape that is there."""
    layer = stacked()
    layer.w = layer.w.replace(tag="frozen")
    assert layer.w.tag == "frozen"
    layer.w = ParamState(jnp.zeros((2, 2)))
    with pytest.raises(gn.ContractError):
        layer.w = ParamState(jnp.zeros((3, 2)))
    with pytest.raises(gn.ContractError):
        layer.w.replace(value=jnp.zeros((3, 2)))


@given(axis=st.integers(-3, 2), size=st.integers(1, 3))
def test_broadcast_and_back(axis: int, size: int):
    """Taking the axis away again gives the values back, and the States are the same objects."""
    value = jnp.arange(6.0).reshape(2, 3)
    node = Holder(ParamState({"a": value}))
    state = node.w
    gn.broadcast_states(node, ParamState, size, axis)
    assert node.w is state
    assert node.w.value["a"].shape[axis] == size
    gn.unbroadcast_states(node, ParamState, axis)
    assert node.w.value["a"].tolist() == value.tolist()


def test_broadcast_passes_contracts():
    """The new shape is what a State goes on with, whatever its field declares."""
    layer = Layer(2)
    gn.broadcast_states(layer, ..., 5)
    assert (layer.w.value.shape, layer.count.value.shape) == ((5, 2), (5,))
    layer.w.value = jnp.zeros((5, 2))
    with pytest.raises(gn.ContractError):
        layer.w.value = jnp.zeros((4, 2))


BROADCAST_FAULTS: dict[str, tuple[Callable[[Holder], Any], str]] = {
    "nothing": (
        lambda node: gn.broadcast_states(node, gn.HiddenState, 2),
        "no State of Holder is selected by <class 'graphnode.HiddenState'>",
    ),
    "axis": (
        lambda node: gn.broadcast_states(node, ParamState, 2, axis=3),
        "cannot broadcast States of Holder: w: float32[2] has no place for a new axis 3",
    ),
    "no axis": (
        lambda node: gn.unbroadcast_states(node, ParamState, axis=1),
        "cannot unbroadcast States of Holder: w: float32[2] has no axis 1",
    ),
    "differ": (
        lambda node: gn.unbroadcast_states(node, ParamState),
        "cannot unbroadcast States of Holder: w: its items along axis 0 differ: say which one stays, with index",
    ),
    "index": (
        lambda node: gn.unbroadcast_states(node, ParamState, index=2),
        "cannot unbroadcast States of Holder: w: float32[2] has no item 2 along axis 0",
    ),
}


@pytest.mark.parametrize("name", BROADCAST_FAULTS)
def test_a_broadcast_that_cannot_be_made_changes_nothing(name: str):
    """All faults are named, and the values stay."""
    attempt, text = BROADCAST_FAULTS[name]
    node = Holder(ParamState(value := jnp.arange(2.0)))
    with pytest.raises(gn.StackError) as caught:
        attempt(node)
    assert str(caught.value) == text
    assert node.w.value is value


def test_an_item_that_is_named_stays():
    """With `index`, the items need not be equal."""
    node = Holder(ParamState(jnp.arange(2.0)))
    gn.unbroadcast_states(node, ParamState, index=1)
    assert float(node.w.value) == 1.0


# Axes that no static field gives: the States of a node have one size.


class Free(gn.Node):
    a: ParamState[Float[Array, "k"]]
    b: ParamState[Float[Array, "k"]]


class Row(gn.Node):
    items: list[ParamState[Float[Array, "k"]]]
    table: dict[str, ParamState[Float[Array, "k"]]]


def of_size(size: int) -> ParamState[Any]:
    return ParamState(jnp.zeros(size))


def free(a: int, b: int) -> Free:
    return Free(of_size(a), of_size(b))


def row(*sizes: int) -> Row:
    return Row([of_size(size) for size in sizes], {})


_KEPT: list[Row] = []


def kept(node: Row) -> Row:
    """A node that outlives the statement: a container whose node is gone asks for nothing."""
    _KEPT[:] = [node]
    return node


class Mixed(gn.Node):
    a: ParamState[Float[Array, "k"]]
    b: ParamState[Float[Array, "k"]]
    table: dict[str, ParamState[Float[Array, "k"]]]


def mixed(size: int) -> Mixed:
    return Mixed(of_size(size), of_size(size), {"0": of_size(size), "1": of_size(size)})


MISFITS: dict[str, tuple[Callable[[], Any], str]] = {
    "first field": (lambda: setattr(free(2, 2), "a", of_size(3)), "Free.a: expected k = 2"),
    "last field": (lambda: setattr(free(2, 2), "b", of_size(3)), "Free.b: expected k = 2"),
    "extend": (lambda: kept(row()).items.extend([of_size(2), of_size(5)]), "Row.items.1: expected k = 2"),
    "insert": (lambda: kept(row(2)).items.insert(0, of_size(5)), "Row.items.0: expected k = 2"),
    "append": (lambda: kept(row(2)).items.append(of_size(5)), "Row.items.1: expected k = 2"),
    "item": (lambda: kept(row(2, 2)).items.__setitem__(0, of_size(5)), "Row.items.0: expected k = 2"),
    "slice": (
        lambda: kept(row(2)).items.__setitem__(slice(None), [of_size(4), of_size(5)]),
        "2 faults:\n  Row.items.0: expected k = 2",
    ),
    "update": (lambda: kept(row()).table.update(a=of_size(2), b=of_size(5)), "Row.table.b: expected k = 2"),
    "other container": (lambda: kept(row(2)).table.update(a=of_size(3)), "Row.table.a: expected k = 2"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_states_of_one_free_axis_have_one_size(name: str):
    """However a State comes into a node, it has the size of those that stay, and of those that come with it."""
    change, message = MISFITS[name]
    with pytest.raises(gn.ContractError) as caught:
        change()
    assert str(caught.value).startswith(message), str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"), [("a", "b"), ('table."0"', 'table."1"'), ("a", 'table."0"')], ids=["fields", "dict", "both"]
)
def test_states_that_are_put_back_have_one_size(first: str, second: str):
    """Together, in fields and in dicts of one node: each by itself would be taken, and none of them is."""
    popped = [gn.pop_states(mixed(size), gn.PathIn(path)) for path, size in ((first, 3), (second, 4))]
    node = mixed(2)
    gn.pop_states(node, ...)
    with pytest.raises(gn.UpdateError) as caught:
        gn.update_states(node, *popped)
    fault = f'Mixed.{second}: expected k = 3 of Float[Array, "k"], found shape (4,)'
    assert str(caught.value) == f"cannot update Mixed: {fault}"
    assert len(gn.states(node)) == 0


def test_what_is_replaced_does_not_bind_a_free_axis():
    """An item in the place of the only one, and all fields at once, may have another size."""
    one = row(2)
    one.items[0] = of_size(3)
    one.items[:] = [of_size(4)]
    one.items = [of_size(5), of_size(5)]
    one.items.extend([of_size(5), of_size(5)])
    assert [state.value.size for state in one.items] == [5, 5, 5, 5]


def test_a_popped_shape_is_forgotten_when_a_size_changes():
    """What was popped fits no more when the static field has changed that its contract names."""
    layer = Layer(3)
    popped = gn.pop_states(layer, ParamState)
    layer.n = 4
    with pytest.raises(gn.UpdateError, match="expected n = 4 of"):
        gn.update_states(layer, popped)
    with pytest.raises(gn.ContractError, match="expected n = 4 of"):
        layer.w = of_size(3)
    layer.w = of_size(4)


def test_a_copied_state_is_held_to_the_same_contract():
    """`copy.copy` of a State, as `copy.deepcopy`."""
    for twin in (copy.copy(Layer(3).w), copy.deepcopy(Layer(3).w)):
        with pytest.raises(gn.ContractError, match="expected n = 3 of"):
            twin.value = jnp.zeros(5)
