"""Mistakes in the arguments and the results of the operations on a graph."""

import jax.numpy as jnp

import graphnode as gn
from graphnode import BatchState, FlatStates, GraphDef, ParamState, StateTree


class Leaf(gn.Node):
    weight: ParamState


class Net(gn.Node):
    child: Leaf
    mean: BatchState


leaf = Leaf(ParamState(jnp.ones(2)))
net = Net(leaf, BatchState(jnp.zeros(2)))
graphdef, tree = gn.treefy_split(net)
leaf_graphdef, leaf_tree = gn.treefy_split(leaf)

# The arity of a split

_, a0 = gn.treefy_split(net, ...)
_, a1, b1 = gn.treefy_split(net)  # E: one tree
_, a2, b2 = gn.treefy_split(net, ...)  # E: one tree
(g3,) = gn.treefy_split(net)  # E: a graphdef and a tree
_, a4 = gn.treefy_split(net, ParamState, ...)  # E: two trees
_, a5, b5, c5 = gn.treefy_split(net, ParamState, ...)  # E: two trees
_, a6, b6 = gn.treefy_split(net, ParamState, "a", ...)  # E: three trees
_, a7, b7, c7 = gn.treefy_split(net, ParamState, "a", "b", ...)  # E: four trees
a8, b8, c8 = gn.treefy_states(net, ParamState, ...)  # E: two trees
a9, b9, c9 = gn.states(net, ParamState, BatchState)  # E: two collections
a10, b10 = gn.states(net, ParamState, BatchState, BatchState)  # E: three collections
a11, b11, c11 = gn.flatten(net)  # E: a graphdef and a collection
both: StateTree = gn.treefy_states(net, ParamState, ...)  # E: two trees
one_of: tuple[StateTree, StateTree] = gn.treefy_states(net, ParamState)  # E: one tree

# The types of what comes back

made: Net = gn.treefy_merge(graphdef, tree)
made_leaf: Leaf = gn.treefy_merge(graphdef, tree)  # E: a Net
made_net: Net = gn.treefy_merge(leaf_graphdef, leaf_tree)  # E: a Leaf
made_list: list[Leaf] = gn.treefy_merge(*gn.treefy_split([net]))  # E: a list of Nets
cloned: Leaf = gn.clone(net)  # E: a Net
wrapped: Net = gn.unflatten(*gn.flatten(leaf))  # E: a Leaf
print(gn.treefy_merge(graphdef, tree).weight)  # E: a Net has none
print(gn.clone(net).child.mean)  # E: a Leaf has none
of_leaf: GraphDef[Leaf] = gn.graphdef(net)  # E: of a Net
split: GraphDef[Leaf]
split, split_tree = gn.treefy_split(net)  # E: of a Net
of_node: GraphDef[gn.Node] = gn.graphdef(net)
popped: StateTree = gn.pop_states(net, "mean")  # E: live States
found: FlatStates = gn.treefy_states(net)  # E: a state tree

# Arguments

gn.treefy_merge(net, tree)  # E: a node for a graphdef
gn.treefy_merge(tree, graphdef)  # E: in the wrong order
gn.treefy_merge((graphdef, tree))  # E: a tuple for a graphdef
gn.treefy_merge(graphdef, [tree])  # E: a list of trees
gn.treefy_merge(graphdef, leaf)  # E: a node for a tree
gn.treefy_merge(graphdef, None)  # E: None for a tree
gn.treefy_merge()  # E: the graphdef is missing
gn.treefy_merge(graphdef=graphdef)  # E: by keyword
gn.treefy_split()  # E: the node is missing
gn.treefy_split(node=net)  # E: by keyword
gn.unflatten(graphdef, tree)  # E: no live States
gn.unflatten(graphdef)  # E: the States are missing
gn.unflatten(graphdef, gn.states(net))
gn.update_states(net, tree, gn.states(net), {"mean": 3}, check=False)
gn.update_states(net, 3)  # E: no tree
gn.update_states(net, [tree])  # E: a list of trees
gn.update_states(net, tree, chekc=False)  # E: misspelt
gn.update_states(net, tree, check="no")  # E: a string for a flag
gn.update_states(net, tree, False)  # E: by position
gn.pop_states(net)  # E: the filter is missing
gn.clone(net, leaf)  # E: one too many
gn.diff(graphdef, leaf_graphdef)
gn.diff(net, leaf)  # E: nodes for graphdefs
gn.schema(Net)
gn.schema(net)  # E: a node for a class
gn.schema(ParamState)  # E: no node class

# State trees and live States are read-only, and do not mix.

print(tree["child", "weight"].value)
print(tree["child", "weight"].vlaue)  # E: misspelt
print(tree["child", 0.5])  # E: a key that is not a string and no number
tree["mean"] = jnp.ones(2)  # E: read-only
tree["child", "weight"].value = jnp.ones(2)  # E: read-only
print(tree | {})  # E: a dict
print(tree - gn.states(net))  # E: live States
gn.states(net)["mean",].value = jnp.ones(2)
gn.states(net)["mean",] = BatchState(jnp.ones(2))  # E: read-only
del gn.states(net)["mean",]  # E: read-only
print(gn.states(net)[0])  # E: a path is a tuple or a text
graphdef.type = Leaf  # E: read-only
gn.cast(net)  # E: the dtype is missing
gn.cast(net, 3)  # E: a number for a dtype
gn.cast(net, "float16", 3)  # E: a number for a filter
cast: Leaf = gn.cast(net, "float16")  # E: it is in place

# Text

gn.pformat(net, lines=None)
gn.pformat(net, width="88")  # E: a string for a number
gn.pformat(net, width=None)  # E: there is always a width
gn.pformat(net, 88)  # E: the options have names
gn.pformat(net, max_depth=2)  # E: misspelt

# Pictures

gn.diagram(net, depth=1)
gn.diagram(net, depth="1")  # E: a string for a number
gn.diagram(net, deep=1)  # E: misspelt
gn.diagram(net, 3)  # E: a number for a filter
gn.diagram(net).png()  # E: not a form that there is
gn.summary(model=net)  # E: the name of an input
gn.summary(net).view(depth="1")  # E: a string for a number
gn.summary(net).view(1)  # E: by name alone
gn.summary(net).view(lines="all")  # E: a string for a number
gn.summary(net).param  # E: not there
gn.summary(net).parameters = 3  # E: read only
