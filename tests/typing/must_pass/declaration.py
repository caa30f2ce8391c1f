"""What a class declares is what its constructor takes and its instances hold."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import ClassVar, Generic, Literal, TypeVar, assert_type

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import BatchState, HiddenState, ParamState, State

ones = jax.nn.initializers.ones
T = TypeVar("T", bound=gn.Node)


def param() -> ParamState:
    return ParamState(jnp.ones(2))


class Linear(gn.Node):
    """Every kind of field, and both ways to fill one."""

    made: ClassVar[int] = 7
    n_in: int
    n_out: int = 3
    weight: ParamState[Float[Array, "n_in n_out"]] = gn.state(ones)
    bias: ParamState | None = None

    def __call__(self, x: Array) -> Array:
        return x @ self.weight.value


# The constructor takes fields in order, by position or by name, and leaves out what has a default or makes itself.

linear = Linear(2)
assert_type(linear, Linear)
assert_type(Linear(2, 4, param()), Linear)
assert_type(Linear(n_in=2, n_out=4, bias=param()), Linear)
assert_type(Linear(2, bias=None), Linear)
assert_type(linear.n_in, int)
assert_type(linear.weight, ParamState[Array])
assert_type(linear.bias, ParamState[Array] | None)
assert_type(linear(jnp.ones((1, 2))), Array)
assert_type(Linear.made, int)
if linear.bias is not None:
    assert_type(linear.bias, ParamState[Array])

# Equality and hash are identity.

assert_type({linear}, set[Linear])
assert_type({linear: 1}, dict[Linear, int])
assert_type(linear == Linear(2), bool)


# Specifiers stand for values of the type that the field is annotated with.


class Specified(gn.Node):
    width: int = gn.static()
    mode: Literal["fast", "exact"] = gn.static(default="fast")
    sizes: tuple[int, ...] = gn.static(default_factory=tuple[int, ...])
    function: Callable[[Array], Array] = gn.static(default=jax.nn.relu)
    mask: Array | None = gn.static(default=None)
    count: BatchState = gn.state(default_factory=lambda: BatchState(jnp.int32(0)))
    hidden: HiddenState[Float[Array, "width"]] = gn.state(ones, tag="hidden")
    late: State = gn.state(init=False)
    layer: Linear = gn.subnode(factory=lambda self: Linear(self.width))
    other: Linear | None = gn.subnode(default=None, kw_only=True)
    named: gn.nn.Linear = gn.subnode(default_factory=lambda: gn.nn.Linear(2, 3))
    window: slice = gn.static(default_factory=lambda: slice(2), kw_only=True)

    def __post_init__(self) -> None:
        self.late = State(jnp.zeros(()))


specified = Specified(2)
assert_type(specified.mode, Literal["fast", "exact"])
assert_type(specified.sizes, tuple[int, ...])
assert_type(specified.function(jnp.ones(2)), Array)
assert_type(specified.mask, Array | None)
assert_type(specified.count, BatchState[Array])
assert_type(specified.hidden, HiddenState[Array])
assert_type(specified.late, State[Array])
assert_type(specified.layer, Linear)
assert_type(specified.other, Linear | None)
assert_type(specified.named.weight, ParamState[Array])
assert_type(
    Specified(2, "exact", (1, 2), jax.nn.relu, None, BatchState(jnp.int32(0)), gn.nn.Linear(2, 3), other=linear),
    Specified,
)


# A setting that is computed from others has the type of the value, and may be left out.


def hidden_size_of(settings: "Settings") -> int:
    return 4 * settings.width


class Settings(gn.Node):
    width: int
    heads: int = 2
    head_size: int = gn.static(factory=lambda self: self.width // self.heads)
    hidden_size: int = gn.static(factory=hidden_size_of, kw_only=True)
    act: Callable[[Array], Array] = gn.static(factory=lambda self: jax.nn.relu)
    shape: tuple[int, int] = gn.static(factory=lambda self: (self.heads, self.head_size), init=False)


assert_type(Settings(8), Settings)
assert_type(Settings(8, 2, 3, jax.nn.gelu, hidden_size=4), Settings)
assert_type(Settings(8).head_size, int)
assert_type(Settings(8).hidden_size, int)
assert_type(Settings(8).shape, tuple[int, int])
assert_type(Settings(8).act(jnp.ones(2)), Array)


# Keyword-only fields: of a class, after a marker.


class ByClass(gn.Node, kw_only=True):
    width: int = 1
    depth: int


class ByMarker(gn.Node):
    width: int = 1
    _: KW_ONLY
    depth: int


assert_type(ByClass(depth=2), ByClass)
assert_type(ByClass(depth=2, width=3), ByClass)
assert_type(ByMarker(depth=2), ByMarker)
assert_type(ByMarker(3, depth=2), ByMarker)


# An init variable goes to `__post_init__`.


class Scaled(gn.Node):
    width: int
    scale: InitVar[float]
    offset: InitVar[float] = 0.0
    weight: ParamState = gn.state(init=False)

    def __post_init__(self, scale: float, offset: float) -> None:
        self.weight = ParamState(scale * jnp.ones(self.width) + offset)


assert_type(Scaled(2, 0.5), Scaled)
assert_type(Scaled(2, scale=0.5, offset=1.0).weight.value, Array)


# A subclass takes its parent's fields first.


class Gated(Linear):
    gate: Linear | None = None
    n_out: int = 4

    def __call__(self, x: Array) -> Array:
        return super().__call__(x) if self.gate is None else super().__call__(x) * self.gate(x)


class Tagged(gn.nn.Module):
    tag: str


gated = Gated(2, 4, None, linear)
assert_type(gated, Gated)
assert_type(gated.weight, ParamState[Array])
assert_type(gated.gate, Linear | None)
assert_type(Tagged("a").tag, str)
as_parent: Linear = gated
as_node: gn.Node = gated
as_module: gn.nn.Module = gn.nn.Linear(2, 3)


# Fields of a generic class are what it is subscripted with.


class Pair(gn.Node, Generic[T]):
    left: T
    right: T | None = None
    more: list[T] = gn.subnode(default_factory=list[T])

    def swapped(self) -> "Pair[T]":
        return Pair(self.left if self.right is None else self.right, self.left)


class LinearPair(Pair[Linear]):
    scale: int = 1


pair = Pair(linear)
assert_type(pair, Pair[Linear])
assert_type(pair.left, Linear)
assert_type(pair.right, Linear | None)
assert_type(pair.more, list[Linear])
assert_type(pair.swapped(), Pair[Linear])
assert_type(LinearPair(linear, scale=2).left, Linear)
nested: Pair[Pair[Linear]] = Pair(pair, pair)
assert_type(nested.left.left, Linear)


# Containers keep the type of their items; a node may name itself.


class Net(gn.Node):
    layers: list[Linear]
    table: dict[str, Linear] = gn.subnode(default_factory=dict[str, Linear])
    both: tuple[Linear, Gated] | None = None
    states: dict[str, State] = gn.state(default_factory=dict[str, State])
    rows: list[list[HiddenState]] = gn.state(default_factory=list[list[HiddenState]])
    parent: "Net | None" = None


net = Net([linear, gated])
net.parent = net
net.both = (linear, gated)
net.layers.append(gated)
net.layers[0] = Linear(2)
net.table.update(a=gated)
net.states = {"a": param(), "b": BatchState(jnp.zeros(1))}
assert_type(list(net.states.values()), list[State[Array]])
net.rows.append([HiddenState(jnp.zeros(1))])
assert_type(net.layers, list[Linear])
assert_type(net.layers[0], Linear)
assert_type(net.layers[-1:], list[Linear])
assert_type(net.table["a"], Linear)
assert_type([layer.n_in for layer in net.layers], list[int])
assert_type(net.both, tuple[Linear, Gated])
assert_type(net.rows[0][0].value, Array)
