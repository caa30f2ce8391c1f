"""Split and merge keep the type of the node, and a split has as many parts as its filters say."""

from types import EllipsisType
from typing import Any, assert_type

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import BatchState, FlatStates, GraphDef, ParamState, State, StateTree


class Leaf(gn.Node):
    weight: ParamState


class Net(gn.Node):
    first: Leaf
    others: list[Leaf]
    mean: BatchState


def leaf() -> Leaf:
    return Leaf(ParamState(jnp.ones(2)))


net = Net(leaf(), [leaf()], BatchState(jnp.zeros(2), tag="mean"))

# A split: the graphdef, then one tree without a filter, or one for each.

assert_type(gn.treefy_split(net), tuple[GraphDef[Net], StateTree])
assert_type(gn.treefy_split(net, ...), tuple[GraphDef[Net], StateTree])
assert_type(gn.treefy_split(net, ParamState, ...), tuple[GraphDef[Net], StateTree, StateTree])
assert_type(gn.treefy_split(net, ParamState, "mean", ...), tuple[GraphDef[Net], StateTree, StateTree, StateTree])
assert_type(
    gn.treefy_split(net, ParamState, "mean", None, ...),
    tuple[GraphDef[Net], StateTree, StateTree, StateTree, StateTree],
)
graphdef, tree = gn.treefy_split(net)
assert_type(graphdef, GraphDef[Net])
assert_type(tree, StateTree)
same, params, rest = gn.treefy_split(net, ParamState, ...)
assert_type(params, StateTree)
assert_type(rest, StateTree)

# More filters, or an unknown number of them: any number of trees.

filters: list[gn.Filter | EllipsisType] = [ParamState, ...]
assert_type(gn.treefy_split(net, *filters)[0], GraphDef[Net])
unknown, *trees = gn.treefy_split(net, *filters)
assert_type(trees, list[StateTree])
_, *five = gn.treefy_split(net, "a", "b", "c", ParamState, ...)
assert_type(five, list[StateTree])

# A pytree of nodes has a graphdef of its own type.

assert_type(gn.treefy_split([net])[0], GraphDef[list[Net]])
assert_type(gn.treefy_merge(*gn.treefy_split({"a": net})), dict[str, Net])
assert_type(gn.treefy_merge(*gn.treefy_split((net, leaf()))), tuple[Net, Leaf])
assert_type(gn.clone((net, {"b": net})), tuple[Net, dict[str, Net]])

# A merge gives back what was split; the States come as trees, live States or nested mappings.

assert_type(gn.treefy_merge(graphdef, tree), Net)
assert_type(gn.treefy_merge(same, rest, params), Net)
assert_type(gn.treefy_merge(graphdef, gn.states(net)), Net)
assert_type(gn.treefy_merge(graphdef, params, {"mean": jnp.zeros(2)}), Net)
assert_type(gn.treefy_merge(graphdef, tree.to_dict()), Net)
assert_type(gn.treefy_merge(graphdef, tree).others[0].weight.value, Array)

assert_type(gn.clone(net), Net)
assert_type(gn.flatten(net), tuple[GraphDef[Net], FlatStates[State[Any]]])
assert_type(gn.unflatten(*gn.flatten(net)), Net)

# A graphdef is covariant: that of a Net is one of a node.


def rebuilt(graphdef: GraphDef[gn.Node], tree: StateTree) -> gn.Node:
    made = gn.treefy_merge(graphdef, tree)
    assert_type(made, gn.Node)
    return made


rebuilt(gn.graphdef(net), tree)
assert_type(gn.graphdef(net), GraphDef[Net])
assert_type({graphdef: 1}, dict[GraphDef[Net], int])
assert_type(gn.diff(graphdef, gn.graphdef(leaf())), tuple[gn.Difference, ...])
assert_type(gn.schema(Net), gn.Schema[Net])
assert_type(gn.schema(Net).fields["mean"].kind, gn.Kind)

# Inside of JAX


@jax.jit
def step(params: StateTree, rest: StateTree, x: Array) -> tuple[Array, StateTree]:
    model = gn.treefy_merge(same, params, rest)
    assert_type(model, Net)
    model.mean.value = x
    return model.first.weight.value * x, gn.treefy_states(model, BatchState)


step(params, rest, jnp.ones(2))

# What changes a live node gives nothing, or what it took out.

gn.update_states(net, tree)
gn.update_states(net, params, {"mean": jnp.zeros(2)}, check=False)
popped: FlatStates = gn.pop_states(net, "mean")
gn.update_states(net, popped)
taken, kept = gn.pop_states(net, "mean", ParamState)
assert_type(taken, FlatStates[State[Any]])

# A cast is in place.

gn.cast(leaf(), jnp.bfloat16)
gn.cast([leaf(), leaf()], "float16", filter=gn.Any(ParamState, gn.BatchState))
gn.cast({"a": leaf()}, float, ...)

# Text of anything.

assert_type(gn.pformat(net), str)
assert_type(gn.pformat([net, 3], width=100, depth=2, lines=None), str)

# A picture, with filters as for nodes.

assert_type(gn.diagram(net), gn.Diagram)
assert_type(gn.diagram([net], Leaf, "others.*", depth=1, states=True, fold=False, title="Net").dot(), str)
assert_type(gn.diagram(net).arrows[0].label, str)
assert_type(gn.diagram(net).boxes[0].parameters, int)


class Called(gn.Node):
    def __call__(self, x: Float[Array, "rows"], y: Float[Array, "rows"], *, flag: bool = False) -> Array:
        return x if flag else y

    def encode(self, x: Array) -> Array:
        return x


called = Called()
assert_type(gn.summary(net), gn.Summary)
assert_type(gn.summary(called, "rows", jnp.ones(2), flag=True), gn.Summary)
assert_type(gn.summary(called.encode, x="2 rows"), gn.Summary)
assert_type(gn.summary(called, ...).view(depth=1, states=True, fold=False, lines=None), gn.Summary)
assert_type(gn.summary(net).parameters, int)
assert_type(gn.summary(net).flops, int | str | None)
assert_type([row.path for row in gn.summary(net).rows], list[gn.Path])
assert_type([call.outputs for row in gn.summary(called, ...).rows for call in row.calls], list[str])
assert_type([total.bytes for total in gn.summary(net).totals.values()], list[int])
assert_type(gn.summary(net).symbols, tuple[str, ...])
