"""`dataclasses.replace` and `copy.replace` share States and subnodes, and make nothing anew."""

import copy
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import nn
from graphnode._declare._replace import REPLACING

calls: list[str] = []


def counted(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    calls.append("initializer")
    return jnp.zeros(shape, dtype)


class Leaf(gn.Node):
    """A node to hold."""

    width: int = 1


def leaf_of(width: int) -> Leaf:
    calls.append("factory")
    return Leaf(width)


class Net(gn.Node):
    """Makes its fields in all ways."""

    width: int
    rate: float = 0.1
    scale: float = 1.0
    depth: int = 2
    given: gn.ParamState | None = None
    layers: list[Leaf] = gn.subnode(default_factory=list)
    w: gn.ParamState[Float[Array, "width"]] = gn.state(counted)
    v: gn.ParamState = gn.state(counted, shape=lambda self: (self.depth, 1))
    leaf: Leaf = gn.subnode(factory=lambda self: leaf_of(self.width))
    made: list[Leaf] = gn.subnode(factory=lambda self: [leaf_of(self.width) for _ in range(self.depth)])


def replacers() -> list[Callable[..., Any]]:
    """All functions that replace."""
    if sys.version_info >= (3, 13):
        return [dataclasses.replace, copy.replace]
    return [dataclasses.replace]


@pytest.mark.parametrize("replace", replacers())
def test_states_and_subnodes_are_shared(replace: Callable[..., Any]):
    """The new node holds the very objects of the original, with one field changed; nothing is drawn or made."""
    net = Net(3, given=gn.ParamState(jnp.ones(2)), layers=[Leaf()])
    calls.clear()
    other = replace(net, rate=0.2)
    assert calls == []
    assert type(other) is Net
    assert other is not net
    assert (other.rate, net.rate) == (0.2, 0.1)
    for name in ("given", "w", "v", "leaf"):
        assert getattr(other, name) is getattr(net, name)
    assert [*other.layers, *other.made] == [*net.layers, *net.made]
    other.layers.append(Leaf(5))
    assert len(net.layers) == 1
    other.w.value = jnp.ones(3)
    assert net.w.value.tolist() == [1.0, 1.0, 1.0]


def test_it_is_what_an_assignment_makes():
    """The structure is that of a copy to which the fields are assigned."""
    net = Net(3)
    assigned = copy.copy(net)
    assigned.rate, assigned.scale = 0.2, 3.0
    assert gn.graphdef(dataclasses.replace(net, rate=0.2, scale=3.0)) is gn.graphdef(assigned)
    assert gn.graphdef(dataclasses.replace(net)) is gn.graphdef(net)


def test_the_new_node_lives_its_own_life():
    """It can be replaced again, split, merged and assigned to, and the original keeps its binding."""
    net = Net(3)
    binding = gn.graphdef(net), net._binding
    again = dataclasses.replace(dataclasses.replace(net, rate=0.2), scale=2.0)
    assert (again.rate, again.scale, again.w) == (0.2, 2.0, net.w)
    again.rate = 0.3
    assert gn.treefy_merge(*gn.treefy_split(again)).rate == 0.3
    assert (gn.graphdef(net), net._binding) == binding


class Sized(gn.Node):
    """Takes a State whose size it declares."""

    width: int
    w: gn.ParamState[Float[Array, "width"]]
    kept: gn.ParamState[Float[Array, "width"]] | None = None


REASON = "replace shares all States and subnodes, and runs nothing that makes them"
COPY = "or, to keep what is there, assign to a copy: other = copy.copy(node)"


def test_a_contract_that_no_longer_fits_names_field_and_way():
    """A State of another size is not made anew: the error names it, and the field that could be passed beside."""
    sized = Sized(3, gn.ParamState(jnp.ones(3)))
    with pytest.raises(gn.ContractError) as caught:
        dataclasses.replace(sized, width=4)
    assert str(caught.value) == (
        'cannot replace width of Sized: Sized.w: expected width = 4 of Float[Array, "width"], found shape (3,). '
        f"{REASON}: construct a new Sized, or pass w, kept too"
    )
    other = dataclasses.replace(sized, width=4, w=gn.ParamState(jnp.ones(4)))
    assert (other.width, other.w.value.shape, sized.w.value.shape) == (4, (4,), (3,))


def test_a_shape_that_would_be_another_is_refused():
    """A shape that a function of the node gives is asked for before and after."""

    class Grown(gn.Node):
        n: int
        rate: float = 0.5
        w: gn.ParamState = gn.state(counted, shape=lambda self: (self.n, 2))

    grown = Grown(3)
    assert dataclasses.replace(grown, rate=1.0).w is grown.w
    with pytest.raises(gn.ContractError) as caught:
        dataclasses.replace(grown, n=4)
    assert str(caught.value) == (
        f"cannot replace n of Grown: Grown.w: its shape was (3, 2), and would be (4, 2). {REASON}: "
        "construct a new Grown"
    )


def test_what_was_made_from_a_changed_field_is_refused():
    """A factory that reads a changed field is named, with the field."""
    net = Net(3)
    calls.clear()
    with pytest.raises(gn.FieldError) as caught:
        dataclasses.replace(net, depth=5)
    assert str(caught.value) == (
        f"cannot replace depth of Net: the factory of made uses depth. {REASON}: construct a new Net; {COPY}"
    )
    with pytest.raises(gn.FieldError) as caught:
        dataclasses.replace(net, width=5, rate=1.0)
    assert str(caught.value) == (
        "cannot replace width, rate of Net: 2 faults:\n  the factory of leaf uses width\n"
        f"  the factory of made uses width. {REASON}: construct a new Net; {COPY}"
    )
    assert calls == []
    other = copy.copy(net)
    other.depth = 5
    assert other.leaf is net.leaf


def test_a_factory_that_may_use_anything_is_refused():
    """One that passes the node on, or calls what is not a field, may use any field."""

    class Passes(gn.Node):
        rate: float = 0.5
        leaf: Leaf = gn.subnode(factory=lambda self: make(self))

    class Calls(gn.Node):
        rate: float = 0.5
        leaf: Leaf = gn.subnode(factory=lambda self: Leaf(self.twice))

        @property
        def twice(self) -> int:
            return int(2 * self.rate)

    def make(node: Passes) -> Leaf:
        return Leaf(int(node.rate))

    for cls in (Passes, Calls):
        with pytest.raises(gn.FieldError) as caught:
            dataclasses.replace(cls(), rate=1.0)
        assert str(caught.value).startswith(f"cannot replace rate of {cls.__name__}: the factory of leaf may use rate.")
        assert dataclasses.replace(cls()).rate == 0.5


def test_post_init_does_not_run():
    """What `__post_init__` does not use may be changed; what it uses, or may use, is refused."""

    class Derived(gn.Node):
        width: int
        rate: float = 0.5
        n_init: dataclasses.InitVar[int] = 3
        area: int = gn.static(init=False)
        w: gn.ParamState = gn.state(init=False)

        def __post_init__(self, n_init: int) -> None:
            calls.append("post_init")
            self.area = self.width**2
            self.w = gn.ParamState(jnp.zeros(n_init))

    class Further(Derived):
        def __post_init__(self, n_init: int) -> None:
            super().__post_init__(n_init)

    derived = Derived(3, n_init=7)
    calls.clear()
    other = dataclasses.replace(derived, rate=1.0)
    assert (other.area, other.w is derived.w, calls) == (9, True, [])
    with pytest.raises(gn.FieldError, match=r"^cannot replace width of Derived: __post_init__ uses width\. "):
        dataclasses.replace(derived, width=4)
    with pytest.raises(gn.FieldError, match=r"^cannot replace rate of Further: __post_init__ may use rate\. "):
        dataclasses.replace(Further(3), rate=1.0)
    with pytest.raises(gn.FieldError) as caught:
        dataclasses.replace(derived, n_init=4)
    assert str(caught.value) == (
        "cannot replace n_init of Derived: n_init is an argument of the constructor that no field keeps; construct a "
        "new Derived"
    )


def test_a_hand_written_constructor_may_use_everything():
    """What it would make of a changed field nobody knows; without a change, the node is a copy."""

    class Own(gn.Node):
        width: int
        leaf: Leaf

        def __init__(self, size: int) -> None:
            self.width = size
            self.leaf = leaf_of(size)

    own = Own(3)
    calls.clear()
    assert dataclasses.replace(own).leaf is own.leaf
    with pytest.raises(gn.FieldError, match=r"^cannot replace width of Own: __init__ may use width\. replace shares"):
        dataclasses.replace(own, width=4)
    assert calls == []


def test_layers_are_replaced_or_say_why_not():
    """The initialisers of layers, which are arguments of the constructor, are in nobody's way."""
    for layer in (nn.Linear(4, 3), nn.Conv(4, 3, (3, 3)), nn.BatchNorm(3)):
        other = dataclasses.replace(layer)
        assert gn.graphdef(other) is gn.graphdef(layer)
        assert list(gn.states(other).values()) == list(gn.states(layer).values())
    with pytest.raises(gn.FieldError) as caught:
        dataclasses.replace(nn.Linear(2, 3), in_size=4)
    assert str(caught.value) == (
        f"cannot replace in_size of Linear: __post_init__ uses in_size. {REASON}: construct a new Linear; {COPY}"
    )


def test_what_is_no_field_is_named():
    """A misspelt name is named, with the one that was meant; a field that the node makes is `dataclasses`' error."""
    net: Any = Net(3)  # the checkers find these too
    with pytest.raises(gn.FieldError) as caught:
        dataclasses.replace(net, rat=0.2)
    assert str(caught.value) == "cannot replace rat of Net: rat is not a field; did you mean 'rate'?"
    with pytest.raises((ValueError, TypeError), match="field w is declared with init=False"):
        dataclasses.replace(net, w=gn.ParamState(jnp.ones(3)))
    with pytest.raises(gn.FieldError, match=r"^Net\.given takes"):
        dataclasses.replace(net, given=3)


def test_a_field_that_was_popped_is_said():
    """One that the constructor takes has to be passed; one that the node made stays unset."""
    sized = Sized(3, gn.ParamState(jnp.ones(3)))
    del sized.w
    with pytest.raises(gn.UnsetFieldError, match=r"^Sized\.w holds nothing"):
        dataclasses.replace(sized, kept=None)
    assert dataclasses.replace(sized, w=gn.ParamState(jnp.zeros(3))).w.value.tolist() == [0.0, 0.0, 0.0]
    net = Net(3)
    del net.w
    with pytest.raises(gn.UnsetFieldError, match=r"^Net\.w holds nothing"):
        dataclasses.replace(net, rate=0.2).w


def test_stacked_states_are_shared_too():
    """An axis that `gn.stack` has put in front of the declared ones is not a fault."""
    stacked = gn.stack([Sized(3, gn.ParamState(jnp.ones(3))) for _ in range(2)])
    assert dataclasses.replace(stacked, kept=None).w is stacked.w


def test_fields_are_what_they_were_to_everybody_else():
    """`dataclasses.fields`, subclasses and keyword-only fields see nothing of how `replace` is told apart."""

    class Keyword(Leaf, kw_only=True):
        name: str = "a"
        mode: dataclasses.InitVar[int] = 3

        def __post_init__(self, mode: int) -> None: ...

    node = Keyword(2, name="b")
    assert dataclasses.fields(node) == dataclasses.fields(Keyword)
    assert [field.name for field in dataclasses.fields(node)] == ["width", "name"]
    assert list(Keyword.__dataclass_fields__) == ["width", "name", "mode"]
    assert dataclasses.asdict(node) == {"width": 2, "name": "b"}
    other = dataclasses.replace(node, name="c")
    assert (other.width, other.name) == (2, "c")
    assert vars(other) == {"width": 2, "name": "c"}


def test_a_cached_property_is_not_taken_along():
    """What is beside the fields may have been worked out from a changed one."""

    class Square(gn.Node):
        width: int

        @functools.cached_property
        def area(self) -> int:
            return self.width**2

    square = Square(3)
    assert square.area == 9
    assert dataclasses.replace(square, width=4).area == 16


def test_inside_of_a_transformation():
    """The new node belongs to the trace; what it shares with an argument is the argument's."""

    @gn.jit
    def step(sized: Sized) -> jax.Array:
        other = dataclasses.replace(sized, kept=gn.ParamState(jnp.zeros(3)))
        other.w.value = other.w.value + 1
        return other.w.value

    sized = Sized(3, gn.ParamState(jnp.ones(3)))
    assert step(sized).tolist() == [2.0, 2.0, 2.0] == sized.w.value.tolist()


def test_what_checks_the_arguments_of_a_constructor_is_in_nobodys_way():
    """Wrappers of `__init__`, such as jaxtyping's, see the arguments that it declares."""

    class Checked(gn.Node):
        width: int
        w: gn.ParamState = gn.state(counted, shape=lambda self: (2,))

    init = Checked.__init__

    @functools.wraps(init)
    def check(self: Any, *args: Any, **kwargs: Any) -> None:
        inspect.signature(init).bind(self, *args, **kwargs)
        init(self, *args, **kwargs)

    setattr(Checked, "__init__", check)  # noqa: B010
    checked = Checked(3)
    other = dataclasses.replace(checked, width=4)
    assert (other.width, other.w is checked.w) == (4, True)


def test_a_replacement_that_failed_is_forgotten():
    """The next node is constructed as always, and no note is left."""
    sized = Sized(3, gn.ParamState(jnp.ones(3)))
    del sized.w
    with pytest.raises(gn.UnsetFieldError):
        dataclasses.replace(sized, width=4)
    net = Net(3)
    assert (net.leaf.width, net.w.value.shape) == (3, (3,))
    assert not REPLACING


def test_a_field_is_replaced_by_a_node_of_the_class():
    """A node that is constructed for the call, and one that the constructor of another makes, are what they were."""

    class Chain(gn.Node):
        n: int
        next: "Chain | None" = None
        w: gn.ParamState = gn.state(counted, shape=lambda self: (2,))

    chain = Chain(1, Chain(2))
    other = dataclasses.replace(chain, next=dataclasses.replace(chain, n=5, next=Chain(3)))
    assert chain.next is not None
    assert other.next is not None
    assert other.next.next is not None
    assert (other.n, other.next.n, other.next.next.n, chain.next.n) == (1, 5, 3, 2)
    assert other.w is other.next.w is chain.w
    assert other.next.next.w is not chain.w
    assert dataclasses.fields(chain) == dataclasses.fields(Chain)
    assert Chain(4).w is not chain.w
