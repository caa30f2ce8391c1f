"""Generic nodes in the syntax of Python 3.12: what they are subscripted with goes through every operation."""

from collections.abc import Callable
from typing import assert_type

import jax.numpy as jnp
from jaxtyping import Array

import graphnode as gn
from graphnode import GraphDef, ParamState, State, StateTree


class Leaf(gn.Node):
    weight: ParamState


class Pair[L: gn.Node, R: gn.Node](gn.Node):
    left: L
    right: R
    more: list[L] = gn.subnode(default_factory=list[L])

    def swapped(self) -> "Pair[R, L]":
        return Pair(self.right, self.left)


class Held[V](gn.Node):
    state: State[V]


class Wrapped[M: gn.Node](Pair[M, Leaf], kw_only=True):
    function: Callable[[M], Array] = gn.static()


type Tree = Pair[Leaf, Leaf]


def leaf() -> Leaf:
    return Leaf(ParamState(jnp.ones(2)))


def first[M: gn.Node](pair: Pair[M, Leaf]) -> M:
    return pair.left


def rebuilt[M](node: M) -> M:
    graphdef, tree = gn.treefy_split(node)
    assert_type(graphdef, GraphDef[M])
    assert_type(tree, StateTree)
    return gn.treefy_merge(graphdef, tree)


def weigh(leaf: Leaf) -> Array:
    return leaf.weight.value


pair = Pair(leaf(), leaf())
assert_type(pair, Pair[Leaf, Leaf])
assert_type(pair.swapped(), Pair[Leaf, Leaf])
assert_type(pair.more, list[Leaf])
assert_type(first(pair), Leaf)
assert_type(rebuilt(pair), Pair[Leaf, Leaf])
assert_type(rebuilt(pair).left.weight.value, Array)
assert_type(Held(State(3)).state.value, int)
assert_type(gn.clone(Held(State("a"))).state.value, str)
nested = Pair(pair, leaf())
assert_type(nested.left.left, Leaf)
assert_type(gn.graphdef(nested), GraphDef[Pair[Pair[Leaf, Leaf], Leaf]])
wrapped = Wrapped(leaf(), leaf(), function=weigh)
assert_type(wrapped, Wrapped[Leaf])
assert_type(wrapped.function(wrapped.left), Array)
tree: Tree = pair
assert_type(gn.nodes(nested, Leaf)["right",].weight.value, Array)
