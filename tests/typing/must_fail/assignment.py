"""Mistakes in reading and assigning the fields of a node."""

import jax.numpy as jnp
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import BatchState, HiddenState, ParamState, State


class Leaf(gn.Node):
    width: int
    weight: ParamState[Float[Array, "width"]]
    bias: ParamState | None = None

    def double(self) -> int:
        return 2 * self.width

    @property
    def half(self) -> int:
        return self.width // 2


class Net(gn.Node):
    child: Leaf
    items: list[Leaf]
    table: dict[str, Leaf]
    states: dict[str, State]
    nested: dict[str, list[Leaf]]
    pair: tuple[Leaf, Leaf]
    parent: "Net | None" = None


def param() -> ParamState:
    return ParamState(jnp.ones(2))


one = Leaf(2, param())
net = Net(one, [one], {"a": one}, {}, {}, (one, one))

# Names

print(one.width)
print(one.widht)  # E: misspelt
print(net.child.wieght.value)  # E: misspelt
print(one.doubel())  # E: misspelt
one.width = 3
one.widht = 3  # E: misspelt
net.itmes = []  # E: misspelt
net.child.parent = net  # E: not declared
one.half = 2  # E: a property without a setter
del one.biass  # E: misspelt

# Reading

width: str = one.width  # E: a number
value: Array = one.weight  # E: a State
node: Leaf = net  # E: another node
first: Net = net.items[0]  # E: another node

# Values

one.width = "3"  # E: a string for a number
one.width = None  # E: None where it is not allowed
one.weight = jnp.ones(2)  # E: an array for a State
one.weight = BatchState(jnp.ones(2))  # E: another kind of State
one.weight = State(jnp.ones(2))  # E: a State that is not a parameter
one.weight = ParamState(2)  # E: a State of another value
one.weight = None  # E: None where it is not allowed
one.bias = None
one.bias = HiddenState(jnp.ones(2))  # E: another kind of State
net.child = net  # E: another node
net.child = None  # E: None where it is not allowed
net.child = Leaf  # E: a class for a node
net.parent = one  # E: another node
net.pair = (one,)  # E: a tuple that is too short
net.pair = (one, net)  # E: another node

# Containers

net.items.append(Leaf(2, param()))
net.items.append(net)  # E: another node
net.items.append(None)  # E: None where it is not allowed
net.items[0] = param()  # E: a State for a node
net.items[0:1] = [net]  # E: another node
net.items["a"] = one  # E: a list has positions
net.items += [net]  # E: another node
net.items = [net]  # E: another node
net.items = (one,)  # E: a tuple for a list
net.table["b"] = net  # E: another node
net.table[0] = one  # E: a key that is not a string
net.table = {"b": None}  # E: None where it is not allowed
net.states["a"] = param()
net.states["a"] = one  # E: a node for a State
net.states["a"] = jnp.ones(2)  # E: an array for a State
net.states["a"] = State(3)  # E: a State of another value
net.nested["a"] = [one]
net.nested["a"].append(net)  # E: another node
net.nested["a"] = [net]  # E: another node
net.pair[0] = one  # E: a tuple does not change


def optional(leaf: Leaf, net: Net) -> None:
    print(leaf.bias.value)  # E: may be None
    print(net.parent.child)  # E: may be None
    if leaf.bias is not None and net.parent is not None:
        print(leaf.bias.value, net.parent.child)


def ordered(left: Leaf, right: Leaf) -> bool:
    return left < right  # E: nodes have no order


def called(leaf: Leaf) -> object:
    return leaf(3)  # E: it declares no __call__
