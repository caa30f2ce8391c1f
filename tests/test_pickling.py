"""Pickles of live nodes: whole graphs, what a class says about its own pickles, and classes that changed since."""

import concurrent.futures
import copy
import dataclasses
import functools
import io
import itertools
import pickle
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import jax
import jax.numpy as jnp
import joblib  # type: ignore[import-untyped]
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import nn


class Link(gn.Node):
    weight: gn.ParamState
    next: "Link | None" = None
    note: Any = gn.static(default=None)


def link(next: Link | None = None, note: Any = None) -> Link:
    return Link(gn.ParamState(jnp.ones(1)), next, note)


# Of dill and joblib; not in the stubs.
DUMPS_IN_PYTHON: Callable[[Any], bytes] = getattr(pickle, "_dumps")  # noqa: B009
LOADS_IN_PYTHON: Callable[[bytes], Any] = getattr(pickle, "_loads")  # noqa: B009


def again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


# Identity


DUMPS: dict[str, Callable[[Any], bytes]] = {
    **{f"protocol {at}": functools.partial(pickle.dumps, protocol=at) for at in range(pickle.HIGHEST_PROTOCOL + 1)},
    "in Python": DUMPS_IN_PYTHON,  # of dill and joblib
    "cloudpickle": cloudpickle.dumps,
}


@pytest.mark.parametrize("name", DUMPS)
def test_what_is_shared_in_one_pickle_is_shared_afterwards(name: str):
    """Two roots that reach one node, one that was met before, and the States of all, in a pickle of several objects."""
    base = link()
    first, second = link(base), link(base)
    base.next = second
    found = pickle.loads(DUMPS[name]([first, (second, {"base": base}), base.weight, first]))
    (one, (two, named), state, same) = found
    assert one is same
    assert one.next is two.next is named["base"]
    assert named["base"].next is two
    assert state is named["base"].weight
    assert gn.graphdef(one) is gn.graphdef(first)


@pytest.mark.parametrize("loads", [pickle.loads, LOADS_IN_PYTHON])
def test_many_roots_are_written_once_each(loads: Callable[[bytes], Any]):
    """Nodes that each refer to the one before, listed from the first: each is met as a root, and none is repeated."""
    links = [link()]
    for _ in range(1_500):  # more than a pickler asks for at once
        links.append(link(links[-1]))
    sizes = [len(pickle.dumps(links[:count])) for count in (500, 1_000, 1_500)]
    assert abs((sizes[2] - sizes[1]) - (sizes[1] - sizes[0])) < 1_000
    found = loads(pickle.dumps(links))
    assert all(after.next is before for before, after in itertools.pairwise(found))


def test_a_pickler_that_goes_on_keeps_what_is_shared():
    """What a pickler has written in one dump, it refers to in the next."""
    one = link(link())
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    pickler.dump(one)
    pickler.dump((one.next, one))
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    first = unpickler.load()
    assert unpickler.load() == (first.next, first)


class Archive(gn.Node):
    weight: gn.ParamState
    next: "Archive | None" = None

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, "weight": pickle.dumps((self.weight, self.next))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight, seen = pickle.loads(state["weight"])
        super().__setstate__({**state, "weight": weight, "seen": seen})

    seen: Any = gn.subnode(default=None)


def test_a_node_may_be_pickled_while_another_one_is():
    """A `__getstate__` that pickles runs a pickler inside of the first: each gets all that it needs."""
    chain: Archive | None = None
    for _ in range(3):
        chain = Archive(gn.ParamState(jnp.ones(1)), chain)
    found = again([chain, link(link())])
    assert found[0].next.next.weight.value == 1
    assert found[0].seen.next.weight.value == 1
    assert found[0].seen is not found[0].next
    assert found[1].next.weight.value == 1


class Notes(gn.Node):
    """Writes something else into a pickler that goes on, whenever it is pickled."""

    left: "Notes | None" = None
    right: "Notes | None" = None
    is_noted: bool = True

    def __getstate__(self) -> dict[str, Any]:
        if self.is_noted:
            aside.dump(link(link()))
        return super().__getstate__()


side = io.BytesIO()
aside = pickle.Pickler(side)


def test_a_pickler_that_goes_on_may_run_inside_of_another_one():
    """It has met the other's nodes in between, and gets its own all the same."""
    branches = [Notes(Notes(Notes()), None, is_noted=False) for _ in range(2)]
    node, other = again([Notes(branches[0], branches[1], is_noted=False), link(link())])
    assert [branch.left.left.left for branch in (node.left, node.right)] == [None, None]
    assert other.next.weight.value == 1
    side.seek(0)
    unpickler = pickle.Unpickler(side)
    assert [unpickler.load().next.weight.value for _ in range(4)] == [1, 1, 1, 1]


@pytest.mark.slow
def test_picklers_in_python_write_deep_graphs_too():
    """They ask for a thousand entries at once, before they write the first."""
    chain = link()
    for _ in range(1_200):
        chain = link(chain)
    found, length = LOADS_IN_PYTHON(DUMPS_IN_PYTHON(chain)), 0
    while found is not None:
        found, length = found.next, length + 1
    assert length == 1_201


def test_picklers_in_threads_do_not_meet():
    """Each thread writes its own row of the same graph."""
    chain = link()
    for _ in range(300):
        chain = link(chain)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(again, [chain] * 8))
    assert all(gn.graphdef(one) is gn.graphdef(chain) for one in found)


class Broken(gn.Node):
    def __getstate__(self) -> dict[str, Any]:
        raise RuntimeError("not this one")


def test_a_dump_that_failed_leaves_nothing_behind():
    """The next one is whole, also while the traceback still holds what was there."""
    for dumps in DUMPS.values():
        with pytest.raises(RuntimeError, match=r"^not this one$") as caught:
            dumps([link(link()), Broken()])
        assert again(link(link())).next.weight.value == 1
        assert caught.value.__traceback__ is not None


class Skips(gn.Node):
    """Goes on when a part cannot be pickled, as a program that saves what it can."""

    inner: Any = gn.subnode(default=None)
    next: Link | None = None

    def __getstate__(self) -> dict[str, Any]:
        try:
            DUMPS_IN_PYTHON([link(link()), Broken()])
        except RuntimeError as error:
            assert error.__traceback__ is not None  # noqa: PT017
            kept.append(error)
        return super().__getstate__()


kept: list[BaseException] = []


def test_a_dump_that_fails_inside_of_another_one_takes_nothing_from_it():
    """What the outer pickler meets afterwards is in its pickle."""
    found = again([Skips(link(link()), link(link())), link()])
    assert found[0].inner.next.weight.value == found[0].next.next.weight.value == found[1].weight.value == 1
    kept.clear()


# What a class says itself


class Eager(gn.Node):
    """Reads its children when it is loaded."""

    size: int
    children: list["Eager"] = gn.subnode(default_factory=list)
    total: int = gn.static(init=False)

    def __post_init__(self) -> None:
        self.total = self.size + sum(child.total for child in self.children)

    def __setstate__(self, state: dict[str, Any]) -> None:
        total = state["size"] + sum(child.total for child in state["children"])
        super().__setstate__({**state, "total": total})

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["total"]
        return state


def test_children_are_complete_when_a_node_is_given_its_state():
    """As in a pickle that nests: a `__setstate__` may read what its children hold."""
    shared = Eager(1)
    root = Eager(2, [Eager(3, [shared]), shared, Eager(4, [Eager(5), shared])])
    for dumps in DUMPS.values():
        assert pickle.loads(dumps(root)).total == root.total == 17
    assert copy.copy(root).total == 17


class Numbered(gn.Node):
    """Made by a function of its own."""

    number: int
    next: "Numbered | None" = None

    def __reduce__(self) -> Any:
        return Numbered, (self.number + 1, self.next)


class Protocols(Numbered):
    def __reduce_ex__(self, protocol: Any) -> Any:
        return Protocols, (self.number + 10, self.next)


class Extended(Link):
    """Goes on with what nodes do."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduction: Any = super().__reduce_ex__(protocol)
        make, args, state, *rest = reduction
        assert isinstance(state, dict)
        return (make, args, {**state, "note": "seen"}, *rest)


class Global(gn.Node):
    def __reduce__(self) -> str:
        return "GLOBAL"


GLOBAL = Global()


def test_a_reduction_of_its_own_stays():
    """`__reduce__` and `__reduce_ex__` of a class hold for its nodes, in pickles and copies, as they did."""
    for copied in (again, copy.copy):
        assert copied(Numbered(1, Numbered(5))).number == 2
        assert copied(Protocols(1)).number == 11
        assert copied(Extended(gn.ParamState(jnp.ones(1)))).note == "seen"
        assert copied(GLOBAL) is GLOBAL
    assert again(Numbered(1, Numbered(5))).next.number == 6
    assert again(link(Extended(gn.ParamState(jnp.ones(1)), link()))).next.next.weight.value == 1


class Fresh(gn.Node):
    size: int = 0
    made_with: Any = gn.static(default=None)

    def __new__(cls, *args: Any, **kwargs: Any) -> "Fresh":
        node = super().__new__(cls)
        made.append(args)
        return node

    def __getnewargs__(self) -> tuple[int]:
        return (self.size,)


made: list[Any] = []


def test_what_new_takes_goes_along():
    """`__getnewargs__` is asked, and the state is given afterwards."""
    node = Fresh(3)
    made.clear()
    assert [again(node).size, copy.copy(node).size] == [3, 3]
    assert made == [(3,), (3,)]


def test_a_copy_shares_what_it_did():
    """`copy.copy` gives a node of the same States and subnodes, with containers of its own."""
    node = link(link(), note=(1, 2))
    twin = copy.copy(node)
    assert twin is not node
    assert twin.weight is node.weight
    assert twin.next is node.next
    tree = Eager(1, [Eager(2)])
    assert copy.copy(tree).children is not tree.children
    assert copy.copy(tree).children[0] is tree.children[0]


# What earlier versions wrote


class Named(gn.Node):
    name: str
    next: "Named | None" = None


def test_a_pickle_of_an_earlier_version_loads():
    """There a node was followed by its fields; this is a ring of two."""
    data = (
        b"\x80\x02ctests.test_pickling\nNamed\nq\x00)\x81q\x01}q\x02(X\x04\x00\x00\x00nameq\x03X\x01\x00\x00\x00aq\x04"
        b"X\x04\x00\x00\x00nextq\x05h\x00)\x81q\x06}q\x07(h\x03X\x01\x00\x00\x00bq\x08h\x05h\x01ubub."
    )
    found = pickle.loads(data)
    assert (found.name, found.next.name) == ("a", "b")
    assert found.next.next is found


# Classes that changed since


def loaded(old: type[gn.Node], new: type[gn.Node], *args: Any, of: Callable[[Any], Any] = lambda node: node) -> Any:
    """A node of the first class, or something of it, pickled, and loaded when the second class has its name."""
    module = sys.modules[__name__]
    for cls in (old, new):
        cls.__qualname__ = cls.__name__ = "Changing"
        cls.__module__ = __name__
    try:
        setattr(module, "Changing", old)  # noqa: B010
        data = pickle.dumps(of(old(*args)))
        setattr(module, "Changing", new)  # noqa: B010
        return pickle.loads(data)
    finally:
        delattr(module, "Changing")


class Old(gn.Node):
    size: int
    weight: gn.ParamState


def test_fields_that_were_added_get_their_defaults():
    """Static, state and subnode fields with a default or a factory of one, each made anew for each node."""

    class New(gn.Node):
        size: int
        weight: gn.ParamState
        extra: int = 7
        names: tuple[str, ...] = gn.static(default_factory=lambda: ("a",))
        bias: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.zeros(2)))
        below: Link | None = None
        layers: list[Link] = gn.subnode(default_factory=list)

    found = loaded(Old, New, 2, gn.ParamState(jnp.ones(2)))
    assert (found.size, found.extra, found.names, found.below, found.layers) == (2, 7, ("a",), None, [])
    assert found.bias.value.tolist() == [0, 0]
    assert gn.graphdef(gn.clone(found)) is gn.graphdef(found)


def test_a_field_that_gives_a_contract_its_size_may_be_added():
    """The default is held to the contract like any other value."""

    class New(gn.Node):
        size: int
        weight: gn.ParamState[Float[Array, "width"]]
        width: int = 2

    assert loaded(Old, New, 2, gn.ParamState(jnp.ones(2))).width == 2
    with pytest.raises(gn.ContractError) as caught:
        loaded(Old, New, 2, gn.ParamState(jnp.ones(3)))
    assert str(caught.value) == 'Changing.weight: expected width = 2 of Float[Array, "width"], found shape (3,)'


def test_added_fields_without_a_default_are_named_at_load():
    """All at once, with what would do. Nothing is drawn or made that nobody asked for."""

    class New(gn.Node):
        size: int
        weight: gn.ParamState
        extra: int = gn.static(kw_only=True)
        bias: gn.ParamState = gn.state(jax.nn.initializers.normal(), shape=lambda self: (2,))
        below: Link = gn.subnode(factory=lambda self: link())

    with pytest.raises(gn.FieldError) as caught:
        loaded(Old, New, 2, gn.ParamState(jnp.ones(2)))
    remedy = "give it a default, or a value in Changing: def __setstate__(self, state): super().__setstate__("
    assert str(caught.value) == (
        "3 faults:\n"
        "  Changing.extra was added since this Changing was pickled, and it has no default: "
        f'{remedy}{{"extra": ..., **state}})\n'
        "  Changing.bias was added since this Changing was pickled, and its initializer would draw it anew: "
        f'{remedy}{{"bias": ..., **state}})\n'
        "  Changing.below was added since this Changing was pickled, and its factory would make it anew: "
        f'{remedy}{{"below": ..., **state}})'
    )


def test_what_the_error_says_does():
    """A `__setstate__` that gives a value to what was added."""

    class New(gn.Node):
        size: int
        weight: gn.ParamState
        bias: gn.ParamState = gn.state(jax.nn.initializers.normal(), shape=lambda self: (2,))

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__({"bias": gn.ParamState(jnp.zeros(2)), **state})

    assert loaded(Old, New, 2, gn.ParamState(jnp.ones(2))).bias.value.tolist() == [0, 0]


def test_a_field_of_another_kind_is_named_at_load():
    """What it was, and what it is."""

    class New(gn.Node):
        size: gn.ParamState
        weight: Link

    with pytest.raises(gn.FieldError) as caught:
        loaded(Old, New, 2, gn.ParamState(jnp.ones(2)))
    assert str(caught.value) == (
        "2 faults:\n"
        "  Changing.size is state, and was static when this Changing was pickled: give the field another name, "
        "or translate its value in a __setstate__ of Changing\n"
        "  Changing.weight is subnode, and was state when this Changing was pickled: give the field another name, "
        "or translate its value in a __setstate__ of Changing"
    )


def test_a_field_of_another_kind_is_translated_at_load():
    """By the class's own `__setstate__`, which runs first; a field that it leaves out is named."""

    class New(gn.Node):
        size: gn.ParamState
        weight: gn.ParamState

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__({**state, "size": gn.ParamState(jnp.full(1, state["size"]))})

    class Leaves(New):
        def __setstate__(self, state: dict[str, Any]) -> None:
            gn.Node.__setstate__(self, {"weight": state["weight"]})

    assert loaded(Old, New, 2, gn.ParamState(jnp.ones(2))).size.value.tolist() == [2]
    with pytest.raises(gn.FieldError, match=r"Changing.size is state, and was static when this Changing was pickled"):
        loaded(Old, Leaves, 2, gn.ParamState(jnp.ones(2)))


@pytest.mark.parametrize("case", ["contract", "class", "removed"])
def test_what_does_not_fit_any_more_is_named_at_load(case: str):
    """A contract, a class of State or a field that there is not any more, with a note that the class changed."""

    class Contract(gn.Node):
        size: int
        weight: gn.ParamState[Float[Array, "size"]]

    class Class(gn.Node):
        size: int
        weight: gn.ShortTermState

    class Removed(gn.Node):
        weight: gn.ParamState

    new, text = {
        "contract": (Contract, 'Changing.weight: expected size = 2 of Float[Array, "size"], found shape (3,)'),
        "class": (Class, "Changing.weight takes ShortTermState; found a ParamState"),
        "removed": (Removed, "Changing does not declare size; the class has changed"),
    }[case]
    with pytest.raises((gn.FieldError, gn.ContractError)) as caught:
        loaded(Old, new, 2, gn.ParamState(jnp.ones(3)))
    assert str(caught.value) == text
    assert caught.value.__notes__ == ["while a pickled Changing was loaded: its class may have changed since"]


class Empty(gn.Node): ...


class Block(gn.Node):
    weight: gn.ParamState
    act: Any = gn.subnode()
    deterministic: bool = False


def models(net: Any) -> list[Any]:
    """A model with others that share its States, and one that does not."""
    return [net, gn.view(net, deterministic=True), copy.copy(net), dataclasses.replace(net), gn.clone(net)]


def zeros() -> gn.BatchState:
    return gn.BatchState(jnp.zeros(2))


@pytest.mark.parametrize("way", ["default", "setstate", "child"])
def test_nodes_that_share_their_states_share_what_was_added(way: str):
    """A model and its view in one pickle see one new State, also in a child that had none, and from `__setstate__`."""

    class Before(gn.Node):
        weight: gn.ParamState
        deterministic: bool = False

    class Default(Before):
        mean: gn.BatchState = gn.state(default_factory=zeros)

    class Given(Before):
        mean: gn.BatchState = gn.state(jax.nn.initializers.zeros, shape=lambda self: (2,))

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__({"mean": zeros(), **state})

    class Child(gn.Node):
        mean: gn.BatchState = gn.state(default_factory=zeros)

    weight = gn.ParamState(jnp.ones(2))
    if way == "child":
        found = loaded(Empty, Child, of=lambda child: models(Block(weight, child)))
        means = [block.act.mean for block in found]
    else:
        found = loaded(Before, Default if way == "default" else Given, weight, of=models)
        means = [net.mean for net in found]
    assert [mean is means[0] for mean in means] == [True, True, True, True, False]
    assert [net.deterministic for net in found] == [False, True, False, False, False]


class Sized(gn.Node):
    size: int
    weight: gn.ParamState[Float[Array, "size"]]


def stacked(node: Any) -> Any:
    return gn.stack([node, gn.clone(node)])


def test_a_stack_is_loaded_whatever_else_was_declared_since():
    """A contract that is as it was is not checked anew; one that a new field gives a size is."""

    class New(gn.Node):
        size: int
        weight: gn.ParamState[Float[Array, "size"]]
        note: str = ""

    class Before(gn.Node):
        weight: gn.ParamState[Float[Array, "size"]]

    class Bound(gn.Node):
        weight: gn.ParamState[Float[Array, "size"]]
        size: int = 2

    found = loaded(Sized, New, 2, gn.ParamState(jnp.ones(2)), of=stacked)
    assert (found.note, found.weight.value.shape) == ("", (2, 2))
    assert loaded(Before, Bound, gn.ParamState(jnp.ones(2))).size == 2
    with pytest.raises(gn.ContractError, match=r"^Changing\.weight: expected size = 2"):
        loaded(Before, Bound, gn.ParamState(jnp.ones(3)))


@pytest.mark.parametrize("name", [None, "members"])
def test_a_default_for_one_member_does_not_come_into_a_stack(name: str | None):
    """It would be cut along its own axis. A `__setstate__` may give one that has the axis of the stack."""

    class Default(gn.Node):
        size: int
        weight: gn.ParamState[Float[Array, "size"]]
        mean: gn.BatchState[Float[Array, "size"]] = gn.state(default_factory=zeros)

    class Given(Default):
        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__({"mean": gn.BatchState(jnp.zeros((2, 2))), **state})

    class Below(gn.Node):
        mean: gn.BatchState = gn.state(default_factory=zeros)

    def stack(node: gn.Node) -> gn.Node:
        return gn.stack([node, gn.clone(node)], name=name)

    weight = gn.ParamState(jnp.ones(2))
    with pytest.raises(gn.FieldError) as caught:
        loaded(Sized, Default, 2, weight, of=stack)
    assert str(caught.value) == (
        "Changing.mean was added since this Changing was pickled, which is stacked, and its default is for one member: "
        'give it a value in Changing: def __setstate__(self, state): super().__setstate__({"mean": ..., **state}); or '
        "load it with the class of before, and stack what gn.unstack gives after they were pickled one by one"
    )
    assert loaded(Sized, Given, 2, weight, of=stack).mean.value.shape == (2, 2)
    with pytest.raises(gn.FieldError, match=r"^Changing\.mean was added .* which is stacked"):
        loaded(Empty, Below, of=lambda act: stack(Framed(act, 2, weight)))


class Framed(gn.Node):
    act: Any = gn.subnode()
    size: int
    weight: gn.ParamState[Float[Array, "size"]]


class Held(gn.Node):
    size: int
    weight: gn.ParamState[Float[Array, "size"]]


def test_what_stood_against_a_contract_is_loaded():
    """A merge takes values with one more axis, and the class has not changed."""
    graphdef, tree = gn.treefy_split(Held(2, gn.ParamState(jnp.ones(2))))
    node = gn.treefy_merge(graphdef, jax.tree.map(lambda value: jnp.stack([value] * 3), tree))
    assert again(node).weight.value.shape == (3, 2)
    assert again(gn.stack([Held(2, gn.ParamState(jnp.ones(2)))] * 3)).weight.value.shape == (3, 2)


def test_what_is_unset_stays_unset():
    """A field that was popped, or that a `__getstate__` leaves out, is not taken for one that was added."""

    class New(gn.Node):
        size: int = 3
        weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.zeros(2)))

        def __getstate__(self) -> dict[str, Any]:
            return {}

    found = loaded(New, New, 1, gn.ParamState(jnp.ones(2)))
    assert vars(found) == {}


# What layers hold


@jax.custom_jvp
def spike(x: Any) -> Any:
    return (x > 0).astype(float)


@jax.jit
def squared(x: Any) -> Any:
    return x * x


class Act(gn.Node):
    function: Any = gn.static()


FUNCTIONS: dict[str, Any] = {
    "custom_jvp": jax.nn.relu,
    "jit": jax.nn.silu,
    "ufunc": jnp.add,
    "of NumPy's name": jnp.tanh,
    "plain": jax.nn.gelu,
    "initialiser": nn.initializers.he_normal,
    "ours": nn.initializers.orthogonal,
    "custom_jvp of a module": spike,
    "jit of a module": squared,
    "partial": functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
    "tuple": (jax.nn.relu, (jnp.tanh, 1)),
}


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_have_a_name_are_pickled_by_it(name: str, dumps: Callable[[Any], bytes]):
    """What JAX, or a module, has decorated: the graphdef is the same, which it is not with a copy of the function."""
    node = Act(FUNCTIONS[name])
    assert gn.graphdef(pickle.loads(dumps(node))) is gn.graphdef(node)
    assert pickle.loads(dumps(gn.graphdef(node))) is gn.graphdef(node)


LAYERS: dict[str, Callable[[], gn.Node]] = {
    "MLP": lambda: nn.MLP(2, 3, 1),
    "RNNCell": lambda: nn.RNNCell(2, 3),
    "GRUCell": lambda: nn.GRUCell(2, 3),
    "TransformerBlock": lambda: nn.TransformerBlock(4, 2),
    "Dropout": lambda: nn.Dropout(0.5, rngs=gn.Rngs(0)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_pickle(name: str):
    """With their activations; they compute the same."""
    layer = LAYERS[name]()
    found = again(layer)
    assert gn.graphdef(found) is gn.graphdef(layer)
    for before, after in zip(gn.states(layer).values(), gn.states(found).values(), strict=True):
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before.value, after.value))


def test_a_registered_name_must_be_there_at_load():
    """The error names what is to be registered."""
    gn.config.register("test_pickling.local", functools.reduce(lambda one, _: one, [lambda x: x, 0]))
    from graphnode import _registered

    act = Act(_registered.VALUES["test_pickling.local"])
    data = pickle.dumps(act)
    assert again(act).function is act.function
    del _registered.VALUES["test_pickling.local"]
    with pytest.raises(LookupError) as caught:
        pickle.loads(data)
    assert str(caught.value) == (
        "nothing is registered as 'test_pickling.local': call gn.config.register before the pickle is loaded"
    )


def test_configs_pickle():
    """By their node class, nested and shared, with defaults that the class makes left open."""
    shared = gn.config.validate({"in_size": 2, "out_size": 2, "w_init": nn.initializers.he_normal}, nn.Linear)
    config = gn.config.validate({"layers": [shared, shared]}, nn.Sequential)
    for dumps in (pickle.dumps, cloudpickle.dumps, functools.partial(pickle.dumps, protocol=2)):
        found = pickle.loads(dumps(config))
        assert found == config
        assert type(found) is type(config)
        assert found.layers[0] is found.layers[1]
        assert found.layers[0].w_init is nn.initializers.he_normal
        found.layers[0].out_size = 3
        assert config != found


@gn.jit
def doubled(node: Link) -> Any:
    return 2 * node.weight.value


def test_what_jit_gives_is_pickled_by_name_or_made_again():
    """In a module by its name; else of its function, and nothing that was compiled goes along."""
    doubled(link())
    assert again(doubled) is doubled
    jitted = gn.jit(unbound, static_argnames="by")
    before = len(pickle.dumps(jitted))
    assert jitted(link(), by=3) == 3
    assert len(pickle.dumps(jitted)) == before
    assert again(jitted)(link(), by=4) == 4


class Cube(gn.Node):
    weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.float32(3)))

    def of(self, x: Any) -> Any:
        return self.weight.value * x**3

    def __call__(self, x: Any) -> Any:
        return self.of(x)


TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "capture": lambda f: gn.capture(f, ..., missing_ok=True),
    "checkify": lambda f: gn.checkify(f),
    "grad": gn.grad,
    "grad of a grad": lambda f: gn.grad(gn.grad(f)),
    "grad of jit": lambda f: gn.grad(gn.jit(f)),
    "hessian": gn.hessian,
    "jacfwd": gn.jacfwd,
    "jacrev": gn.jacrev,
    "jit of a grad": lambda f: gn.jit(gn.grad(f)),
    "make_jaxpr": gn.make_jaxpr,
    "remat": lambda f: gn.grad(gn.remat(f)),
    "value_and_grad": lambda f: gn.value_and_grad(f, has_aux=False),
    "vmap": lambda f: gn.vmap(f, in_axes=None, axis_size=2),
}


@pytest.mark.parametrize("is_method", [True, False])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transformed_method_stays_transformed(name: str, is_method: bool):
    """Pickled, also as for a process of a pool, and copied; with its options, and the node itself or a copy of it."""
    cube = Cube()
    transformed = TRANSFORMS[name](cube.of if is_method else cube)
    expected = str(transformed(2.0))
    ways: list[Callable[[Any], Any]] = [
        again,
        lambda value: pickle.loads(ForkingPickler.dumps(value)),
        lambda value: pickle.loads(cloudpickle.dumps(value)),
        copy.copy,
        copy.deepcopy,
    ]
    assert [str(way(transformed)(2.0)) for way in ways] == [expected] * len(ways)
    shallow, deep = copy.copy(transformed), copy.deepcopy(transformed)
    cube.weight.value = jnp.float32(5)
    assert str(shallow(2.0)) == str(transformed(2.0))
    assert str(deep(2.0)) == expected


def negative(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return -function(*args)

    return call


class Powers(gn.Node):
    weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.float32(3)))

    def of(self, x: Any) -> Any:
        return self.weight.value * x**3

    slope = gn.grad(of, argnums=1)
    compiled_slope = gn.jit(gn.grad(of, argnums=1))
    in_jax = jax.grad(of, argnums=1)
    compiled = gn.jit(of)
    ruled = gn.custom_vjp(of)
    ruled_forward = gn.custom_jvp(of)
    opposite = negative(of)
    same = of
    activation = jax.nn.relu


@pytest.mark.parametrize("name", ["slope", "in_jax", "compiled", "ruled", "ruled_forward", "opposite", "same", "of"])
def test_what_is_made_of_a_method_in_the_class_body_is_another_method(name: str):
    """A bound one is pickled and copied by its name, which is that of the method before to a decorator."""
    method = getattr(Powers(), name)
    for way in (again, copy.copy, copy.deepcopy):
        assert way(method).__func__ is method.__func__


def loss(node: Any, x: Any) -> Any:
    return (node.weight.value * x) ** 2


module_slope = gn.grad(loss, argnums=1)


class Scaling:
    """A mixin whose method is transformed elsewhere."""

    def scaled(self: Any, x: Any) -> Any:
        return 4 * self.weight.value * x


class Steep(Powers, Scaling):
    """Transforms functions that it has not defined itself."""

    inherited = gn.grad(Powers.of, argnums=1)
    of_mixin = gn.jit(gn.grad(Scaling.scaled, argnums=1))
    of_module = gn.value_and_grad(loss, argnums=1)
    of = gn.jit(Powers.of)
    twice = module_slope
    of_class = staticmethod(gn.grad(loss, argnums=1))


class Steeper(gn.Node):
    """Has what another class has, under the same name, and what a module has under its own."""

    weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.float32(4)))

    twice = module_slope
    inherited = Steep.inherited
    slope = Powers.slope


@pytest.mark.parametrize("name", ["inherited", "of_mixin", "of_module", "of", "twice", "of_class", "slope"])
def test_what_is_made_of_a_function_of_elsewhere_is_another_method(name: str):
    """Of an inherited method, a mixin's and a module's; what a subclass inherits so is found in its own place."""
    method = getattr(Steep(), name)
    for way in (again, copy.copy, copy.deepcopy):
        assert getattr(way(method), "__func__", None) is getattr(method, "__func__", None)
    function = getattr(Steep, name)
    assert again(function) is function


def test_a_transform_in_two_places_is_found_in_both():
    """In two classes, and as what a module has under the same name."""
    for cls, name in itertools.product((Steep, Steeper), ("twice", "inherited", "slope")):
        method = getattr(cls(), name)
        assert (again(method)(2.0), copy.copy(method)(2.0)) == (method(2.0), method(2.0))
    assert again(module_slope) is module_slope is Steeper.twice


def test_what_a_class_in_a_function_decorates_keeps_its_name():
    """Where another class has it under a second name; what is made of it there gets that one."""

    class First(gn.Node):
        weight: gn.ParamState = gn.state(default_factory=lambda: gn.ParamState(jnp.float32(3)))

        @gn.jit
        def step(self, x: Any) -> Any:
            return self.weight.value * x**2

    class Second(First):
        again = First.step
        slope = gn.grad(First.step, argnums=1)

    second = Second()
    methods: list[Any] = [First().step, second.step, second.again, second.slope]
    assert [copy.copy(method)(2.0) for method in methods] == [12.0] * 4
    assert [method.__name__ for method in methods] == ["step", "step", "step", "slope"]


@pytest.mark.no_runtime_types
def test_a_class_that_is_sent_by_value_keeps_the_names_of_its_methods():
    """What is compiled is made anew where it arrives, of the function that has the other name."""

    class Compiling(Powers):
        step = gn.jit(Powers.of)
        slope = gn.jit(gn.grad(Powers.of, argnums=1))

    arrived: Any = pickle.loads(cloudpickle.dumps(Compiling()))
    for name in ("step", "slope"):
        method = getattr(arrived, name)
        assert (method.__name__, copy.copy(method).__func__) == (name, method.__func__)


def test_a_function_of_elsewhere_keeps_its_name():
    """What a class body has under another name goes on to be found where it is defined."""
    assert again(jax.nn.relu) is vars(Powers)["activation"] is jax.nn.relu
    assert Powers.same.__name__ == "of"


def test_a_transformed_method_is_not_hashed_as_the_method():
    """`joblib.hash`, which keys what is cached on disk, goes by the name of a method."""
    cube = Cube()
    hashes = [joblib.hash(f) for f in (cube.of, gn.grad(cube.of), gn.hessian(cube.of), gn.grad(cube.of, wrt=...))]
    assert len(set(hashes)) == len(hashes)
    assert joblib.hash(gn.grad(cube.of)) == hashes[1]


def test_a_transformed_function_has_no_name_for_pickle():
    """As of JAX: its name is that of the function before, which is another one."""
    with pytest.raises(pickle.PicklingError, match=r"not the same object as .*unbound"):
        pickle.dumps(gn.grad(unbound))


def unbound(node: Link, by: int) -> Any:
    return by * node.weight.value


class Scale:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, node: Link) -> Any:
        return (self.by * node.weight.value).sum()


class Slots:
    __slots__ = ("__dict__", "by")

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, node: Link) -> Any:
        return (self.by * node.weight.value).sum()


@pytest.mark.parametrize("cls", [Scale, Slots])
def test_callable_objects_are_pickled_after_use(cls: Any):
    """What is compiled for an object, a partial function or a bound method stays in its process."""
    scale = cls(2.0)
    partial = functools.partial(unbound, by=2)
    functions: list[Callable[..., Any]] = [scale, partial, scale.__call__]
    for function in functions:
        before = len(pickle.dumps(function))
        for transformed in (gn.jit(function), gn.vmap(function, in_axes=None, axis_size=2), gn.remat(function)):
            transformed(link())
        gn.cond(True, function, function, link())
        gn.grad(lambda node, of=function: of(node).sum())(link())
        assert again(function)(link()) == 2
        assert len(pickle.dumps(function)) < before + 120


# Graphdefs of classes that changed since


def graphdef_loaded(old: type[gn.Node], new: type[gn.Node], *args: Any) -> Any:
    """The graphdef of an instance of one class, loaded where another one has its name."""
    return loaded(old, new, *args, of=gn.graphdef)


def test_a_graphdef_gives_no_value_to_another_field():
    """A field that was renamed is refused, where its place among the others would have given it another one's value."""

    class Before(gn.Node):
        heads: int
        width: int
        weight: gn.ParamState

    class After(gn.Node):
        heads: int
        dim: int
        scale: gn.ParamState

    with pytest.raises(gn.StructureError) as caught:
        graphdef_loaded(Before, After, 8, 64, gn.ParamState(jnp.ones(1)))
    assert str(caught.value) == (
        "Changing has changed since its graphdef was pickled: 4 faults:"
        "\n  width is not declared any more"
        "\n  weight is not declared any more"
        "\n  dim was added, and has no default that is known here"
        "\n  scale was added, and has no default that is known here"
    )


def test_a_graphdef_of_a_class_that_has_got_fields_since():
    """A static one has its default, another one is `None` where that is its default."""

    class Before(gn.Node):
        width: int
        weight: gn.ParamState

    class After(gn.Node):
        weight: gn.ParamState
        added: tuple[int, ...] = gn.static(default=(1, 2))
        bias: gn.ParamState | None = None
        width: int = 3

    graphdef = graphdef_loaded(Before, After, 64, gn.ParamState(jnp.ones(1)))
    assert graphdef is gn.graphdef(After(weight=gn.ParamState(jnp.ones(1)), width=64))


def test_a_graphdef_of_a_class_with_a_field_of_another_kind():
    """A static field that is a State now."""

    class Before(gn.Node):
        scale: float = 1.0

    class After(gn.Node):
        scale: gn.ParamState | None = None

    with pytest.raises(gn.StructureError) as caught:
        graphdef_loaded(Before, After)
    assert str(caught.value) == ("Changing has changed since its graphdef was pickled: scale is state, and was static")


class Knot(gn.Node):
    weight: gn.ParamState


class OtherKnot(gn.Node):
    weight: gn.ParamState


class HoldsParam(gn.Node):
    held: gn.ParamState
    bias: gn.ShortTermState


class HoldsShort(gn.Node):
    held: gn.ShortTermState
    bias: gn.ParamState


class HoldsSized(gn.Node):
    n: int
    held: gn.ParamState[Float[Array, "n"]]


class HoldsPairs(gn.Node):
    n: int
    held: gn.ParamState[Float[Array, "2 n"]]


class HoldsUnsized(gn.Node):
    held: gn.ParamState[Float[Array, "n"]]


class HoldsSizedByDefault(gn.Node):
    held: gn.ParamState[Float[Array, "n"]]
    n: int = 3


class HoldsAny(gn.Node):
    n: int
    held: gn.ParamState


class HoldsList(gn.Node):
    held: list[Knot]


class HoldsTuple(gn.Node):
    held: tuple[Knot, ...]


class HoldsOthers(gn.Node):
    held: list[OtherKnot]


class HoldsKnots(gn.Node):
    held: dict[str, Knot]


class HoldsOptional(gn.Node):
    held: Knot | None


class HoldsOne(gn.Node):
    held: Knot


class HoldsPair(gn.Node):
    held: tuple[Knot, Knot]


def param(*shape: int) -> gn.ParamState:
    return gn.ParamState(jnp.ones(shape))


CHANGED: Any = {
    "another class of States, and swapped names": (
        HoldsParam,
        HoldsShort,
        lambda: (param(2), gn.ShortTermState(jnp.ones(2))),
        "a class has changed since a graphdef was pickled: 2 faults:"
        "\n  Changing.bias takes ParamState, and held ShortTermState"
        "\n  Changing.held takes ShortTermState, and held ParamState",
    ),
    "another contract": (
        HoldsSized,
        HoldsPairs,
        lambda: (2, param(2)),
        'Changing has changed since its graphdef was pickled: held has the contract Float[Array, "2 n"], and '
        'had Float[Array, "n"]',
    ),
    "a contract that is new": (
        HoldsAny,
        HoldsSized,
        lambda: (2, param(3)),
        'Changing has changed since its graphdef was pickled: held has the contract Float[Array, "n"], and had None',
    ),
    "a contract that names a new field": (
        HoldsUnsized,
        HoldsSizedByDefault,
        lambda: (param(2),),
        'Changing has changed since its graphdef was pickled: held has the contract Float[Array, "n"], of which n is a '
        "static field only now",
    ),
    "a contract that names a field no more": (
        HoldsSizedByDefault,
        HoldsUnsized,
        lambda: (param(3),),
        "Changing has changed since its graphdef was pickled: n is not declared any more",
    ),
    "a list that is a tuple": (
        HoldsList,
        HoldsTuple,
        lambda: ([Knot(param(1))],),
        "Changing has changed since its graphdef was pickled: held: expected tuple[Knot, ...], found a list",
    ),
    "a tuple of another length": (
        HoldsTuple,
        HoldsPair,
        lambda: ((Knot(param(1)),),),
        "Changing has changed since its graphdef was pickled: held: expected tuple[Knot, Knot], found 1 items",
    ),
    "items of another class": (
        HoldsList,
        HoldsOthers,
        lambda: ([Knot(param(1)), Knot(param(1))],),
        "a class has changed since a graphdef was pickled: 2 faults:"
        "\n  Changing.held.0 takes OtherKnot, and held Knot"
        "\n  Changing.held.1 takes OtherKnot, and held Knot",
    ),
    "a list that is a dict": (
        HoldsList,
        HoldsKnots,
        lambda: ([Knot(param(1))],),
        "Changing has changed since its graphdef was pickled: held: expected dict[str, Knot], found a list",
    ),
    "none that is no more": (
        HoldsOptional,
        HoldsOne,
        lambda: (None,),
        "Changing has changed since its graphdef was pickled: held: expected Knot, found null",
    ),
    "a State that is a node": (
        HoldsAny,
        HoldsOptional,
        lambda: (2, param(2)),
        "Changing has changed since its graphdef was pickled: 2 faults:"
        "\n  n is not declared any more"
        "\n  held is subnode, and was state",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_graphdef_does_not_fit_a_class_that_changed(name: str):
    """What a field takes was changed since a split was pickled: nothing is merged into it without a word."""
    old, new, args, text = CHANGED[name]
    with pytest.raises(gn.StructureError) as caught:
        loaded(subclass(old), subclass(new), *args(), of=gn.treefy_split)
    assert str(caught.value) == text


def test_a_graphdef_of_a_class_that_was_defined_again(monkeypatch: pytest.MonkeyPatch):
    """A cell with the class of a field was run again: the text tells the two of one name apart."""
    data = pickle.dumps(gn.graphdef(HoldsOne(Knot(param(2)))))
    again = type("Knot", (gn.Node,), {"__annotations__": {"weight": gn.ParamState}, "__module__": __name__})
    monkeypatch.setitem(globals(), "Knot", again)
    with pytest.raises(gn.StructureError) as caught:
        pickle.loads(data)
    assert str(caught.value) == (
        "a class has changed since a graphdef was pickled: HoldsOne.held takes Knot, and held the Knot of after it was "
        "defined again"
    )


def subclass(cls: type[gn.Node]) -> type[gn.Node]:
    """A class of the same fields, which may be renamed."""
    return type("Changing", (cls,), {})


@pytest.mark.parametrize("new", [HoldsOptional, HoldsOne])
def test_a_graphdef_fits_a_class_that_takes_more(new: type[gn.Node]):
    """What was there is still taken: a field that admits `None` now, too, or does not any more and held none."""
    graphdef, states = loaded(subclass(HoldsOne), subclass(new), Knot(param(2)), of=gn.treefy_split)
    assert gn.treefy_merge(graphdef, states).held.weight.value.shape == (2,)
