"""Mistakes with generic nodes in the syntax of Python 3.12."""

import jax.numpy as jnp

import graphnode as gn
from graphnode import ParamState, State


class Leaf(gn.Node):
    weight: ParamState


class Net(gn.Node):
    leaf: Leaf


class Pair[L: gn.Node, R: gn.Node](gn.Node):
    left: L
    right: R


class Held[V](gn.Node):
    state: State[V]


leaf = Leaf(ParamState(jnp.ones(2)))
net = Net(leaf)
pair = Pair(leaf, net)
Pair(leaf)  # E: right is missing
Pair(leaf, 3)  # E: a number for a node
Pair[Leaf, Leaf](leaf, net)  # E: another node
of_state: Pair[Leaf, State]  # E: a State is not a node
swapped: Pair[Net, Leaf] = pair  # E: in the other order
pair.left = net  # E: another node
print(pair.right.weight)  # E: a Net has none
print(gn.clone(pair).left.leaf)  # E: a Leaf has none
number: int = Held(State("a")).state.value  # E: a string
held: Held[int] = Held(State("a"))  # E: a string
gn.clone(Held(State(3))).state.value = "a"  # E: a string for a number
merged: Pair[Leaf, Leaf] = gn.treefy_merge(*gn.treefy_split(pair))  # E: a pair of others
