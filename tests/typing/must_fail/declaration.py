"""Mistakes in a class body, and in a call of its constructor."""

from dataclasses import KW_ONLY, InitVar
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import BatchState, HiddenState, ParamState, State

ones = jax.nn.initializers.ones
zero = jnp.zeros(())
T = TypeVar("T", bound=gn.Node)


class Linear(gn.Node):
    n_in: int
    n_out: int
    weight: ParamState[Float[Array, "n_in n_out"]] = gn.state(ones)
    bias: ParamState | None = None


class Net(gn.Node):
    layers: list[Linear]
    table: dict[str, Linear] = gn.subnode(default_factory=dict[str, Linear])
    states: list[State] = gn.state(default_factory=list[State])
    pair: tuple[Linear, Linear] | None = None


# Arguments of a constructor

linear = Linear(2, 3)
Linear()  # E: both sizes are missing
Linear(2)  # E: n_out is missing
Linear(n_out=2)  # E: n_in is missing
Linear(2, 3, None, 4)  # E: one too many
Linear(2, 3, n_out=3)  # E: n_out twice
Linear(2, 3, bais=None)  # E: misspelt
Linear(2, 3, weight=ParamState(zero))  # E: the weight makes itself
Linear(2, "3")  # E: a string for a number
Linear(2, None)  # E: None where it is not allowed
Linear(2, 3, zero)  # E: an array for a State
Linear(2, 3, BatchState(zero))  # E: another kind of State
Linear(2, 3, State(zero))  # E: a State that is not a parameter
Linear(2, 3, ParamState({"a": zero}))  # E: a State of another value
Linear(2, 3, linear)  # E: a node for a State
Linear(2, 3, linear.weight)

Net([linear])
Net(linear)  # E: a node for a list of nodes
Net((linear,))  # E: a tuple for a list
Net([linear, 3])  # E: an item that is not a node
Net([linear, None])  # E: an item that is None
Net([linear, ParamState(zero)])  # E: a State among the nodes
Net([gn.nn.Linear(2, 3)])  # E: a node of another class
Net([], {"a": zero})  # E: a value that is not a node
Net([], {0: linear})  # E: a key that is not a string
Net([], [linear])  # E: a list for a dict
Net([], {}, [linear])  # E: a node for a State
Net([], {}, [State(3)])  # E: a State of another value
Net([], {}, [], (linear,))  # E: a tuple that is too short
Net([], {}, [], (linear, linear))

gn.nn.Linear(2, 3)
gn.nn.Linear(2)  # E: out_size is missing
gn.nn.Linear(2, 3, use_bias="no")  # E: a string for a flag
gn.nn.Linear(2.0, 3)  # E: a float for a size
gn.nn.Linear([2], 3)  # E: a list for a size


# Keyword-only fields and init variables


class ByClass(gn.Node, kw_only=True):
    width: int = 1
    depth: int


class ByMarker(gn.Node):
    width: int
    _: KW_ONLY
    depth: int = 1


class ByField(gn.Node):
    width: int = gn.static(kw_only=True)
    weight: ParamState = gn.state(kw_only=True)
    child: Linear = gn.subnode(kw_only=True)


class Scaled(gn.Node):
    width: int
    scale: InitVar[float]
    late: State = gn.state(init=False)

    def __post_init__(self, scale: float) -> None:
        self.late = State(scale * jnp.ones(self.width))


ByClass(depth=2)
ByClass()  # E: depth is missing
ByClass(1, 2)  # E: by position
ByMarker(1, depth=2)
ByMarker(1, 2)  # E: by position
ByField(width=1, weight=ParamState(zero), child=linear)
ByField(1, ParamState(zero), linear)  # E: by position
ByField(width=1, weight=ParamState(zero))  # E: child is missing
Scaled(2, 0.5)
Scaled(2)  # E: scale is missing
Scaled(2, "0.5")  # E: a string for a number
Scaled(2, 0.5, State(zero))  # E: __post_init__ sets it
Scaled(2, 0.5, late=State(zero))  # E: __post_init__ sets it


# Settings that are computed from others, and may be given


class Settings(gn.Node):
    width: int
    head_size: int = gn.static(factory=lambda self: self.width // 2)
    hidden_size: int = gn.static(factory=lambda self: 4 * self.width, kw_only=True)
    total: int = gn.static(factory=lambda self: self.width + self.head_size, init=False)


Settings(8, 3, hidden_size=2)
Settings(8, "3")  # E: a string for a number
Settings(8, None)  # E: None where it is not allowed
Settings(8, 3, 2)  # E: by position
Settings(8, total=3)  # E: the node alone makes it
Settings()  # E: width is missing


# Subclasses take the fields of their parents, generic ones those of what they are subscripted with.


class Gated(Linear):
    gate: Linear | None = None


class Pair(gn.Node, Generic[T]):
    left: T
    right: T


class LinearPair(Pair[Linear]):
    scale: int = 1


Gated(2, 3, None, linear)
Gated(2, 3, linear)  # E: the parent's fields come first
Gated(gate=linear)  # E: the parent's fields are missing
LinearPair(linear, linear, 2)
LinearPair(linear, Net([]))  # E: another node
LinearPair(linear, linear, scale="2")  # E: a string for a number
of_nets: Pair[Net] = Pair(linear, linear)  # E: a pair of others
of_states: Pair[State]  # E: a State is not a node


# Defaults that do not fit, and specifiers that do not go together


class Wrong(gn.Node):
    width: int = gn.static(default="2")  # E: a string for a number
    depth: int = "2"  # E: a string for a number
    sizes: tuple[int, ...] = gn.static(default_factory=lambda: ("a",))  # E: a tuple of strings
    names: list[str] = gn.static(default=["a"])  # E: a list is not hashable
    computed: int = gn.static(factory=lambda self: "2")  # E: a string for a number
    listed: list[int] = gn.static(factory=lambda self: [self.width])  # E: a list is not hashable
    bias: ParamState = gn.state(default=None)  # E: None where it is not allowed
    mean: BatchState = gn.state(default_factory=lambda: HiddenState(zero))  # E: another kind of State
    child: Linear = gn.subnode(default=None)  # E: None where it is not allowed
    made: Linear = gn.subnode(factory=lambda self: Net([]))  # E: another node
    items: list[Linear] = gn.subnode(default_factory=lambda: [Net([])])  # E: a list of other nodes


class Confused(gn.Node, kw_only=True):
    width: int = gn.static(defualt=2)  # E: misspelt
    both: int = gn.static(default=2, default_factory=lambda: 2)  # E: two defaults
    computed: int = gn.static(default=2, factory=lambda self: 2)  # E: a default, too
    alone: int = gn.static(factory=lambda: 2)  # E: a factory is given the node
    ready: int = gn.static(factory=2)  # E: a factory is a function
    tagged: int = gn.static(tag="a")  # E: a static value has no tag
    taken: ParamState = gn.state(ones, init=True)  # E: what makes itself is not taken
    shaped: ParamState = gn.state(ones, shape=(2, 3))  # E: the shape is a function of the node
    given: Linear = gn.subnode(linear)  # E: a node is not an argument of a specifier
    asked: Linear = gn.subnode(factory=lambda: linear)  # E: a factory is given the node


class Late(gn.Node):
    width: int = 1
    depth: int  # E: a field without a default after one with


class Changed(Linear):
    n_in: str  # E: the parent's is a number
