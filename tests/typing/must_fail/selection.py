"""Mistakes in filters, and in what they select."""

import jax.numpy as jnp
from jaxtyping import Array

import graphnode as gn
from graphnode import BatchState, FlatStates, HiddenState, ParamState, Path, State, StateTree


class Membrane(HiddenState[Array]):
    """A State class of the caller's own."""


class Leaf(gn.Node):
    weight: ParamState
    v: Membrane


class Net(gn.Node):
    leaf: Leaf
    mean: BatchState


zero = jnp.zeros(())
net = Net(Leaf(ParamState(zero), Membrane(zero)), BatchState(zero, tag="mean"))
tree = gn.treefy_states(net)

# What is not a filter


def of_path(path: Path) -> bool:
    return True


def of_number(number: int, state: State) -> bool:
    return True


gn.states(net, (ParamState, "mean", gn.Not(None)))
gn.states(net, int)  # E: a class of no States
gn.states(net, Leaf)  # E: a node class selects no States
gn.states(net, ..., ParamState)  # E: nothing is left after `...`
gn.states(net, ParamState, ..., "mean")  # E: nothing is left after `...`
gn.states(net, (ParamState, int))  # E: a class of no States in a tuple
gn.states(net, ParamState, int)  # E: a class of no States
gn.states(net, 3)  # E: a number
gn.states(net, 0.5)  # E: a number
gn.states(net, zero)  # E: an array
gn.states(net, net.mean)  # E: a State for its class
gn.states(net, net.leaf)  # E: a node for its class
gn.states(net, {"mean": ParamState})  # E: a dict
gn.states(net, {ParamState, BatchState})  # E: a set
gn.states(net, (ParamState, 3))  # E: a number in a tuple
gn.states(net, of_path)  # E: a filter takes path and State
gn.states(net, of_number)  # E: a path is a tuple
gn.states(net, lambda path: True)  # E: a filter takes path and State
gn.treefy_split(net, 3)  # E: a number
gn.treefy_split(net, ..., ParamState)  # E: nothing is left after `...`
gn.treefy_split(net, ParamState, ..., ...)  # E: nothing is left after `...`
gn.treefy_split(net, int, ...)  # E: a class of no States
gn.treefy_states(net, ..., "mean")  # E: nothing is left after `...`
gn.treefy_split(net, ParamState, net.mean)  # E: a State for its class
gn.treefy_split(net, "a", "b", "c", "d", 3)  # E: a number
gn.treefy_states(net, 3)  # E: a number
gn.treefy_states(net, ParamState, 3)  # E: a number
gn.pop_states(net, 3)  # E: a number
gn.pop_states(net, ..., "mean")  # E: nothing is left after `...`
gn.pop_states(net, Leaf)  # E: a node class selects no States
gn.nodes(net, 3)  # E: a number
gn.nodes(net, ParamState)  # E: a State class selects no nodes
gn.nodes(net, ..., Leaf)  # E: nothing is left after `...`
tree.split(..., ParamState)  # E: nothing is left after `...`
one_tree, another = tree.split(ParamState, "mean", ...)  # E: three trees
tree.filter(3)  # E: a number
tree.split(ParamState, 3)  # E: a number

# Parts of a filter

gn.Any(ParamState, gn.All("a", gn.Not("b")))
gn.Any(ParamState, 3)  # E: a number
gn.All(net)  # E: a node
gn.Not()  # E: the filter is missing
gn.Not(ParamState, BatchState)  # E: one too many
gn.PathContains("a")
gn.PathContains(("a", "b"))  # E: a path for a key
gn.PathContains()  # E: the key is missing
gn.OfType(3)  # E: no class
gn.PathIn("a.b", ("a", 0))
gn.PathIn(0)  # E: a position for a path
gn.PathIn(["a", "b"])  # E: a list for a path
gn.PathIn((0.5,))  # E: a key that is not a string and no number
gn.path_str("a.b")  # E: a text for a path
gn.parse_path(("a", "b"))  # E: a path for a text
given: gn.Filter = 3  # E: a number

# What is selected

params: FlatStates[ParamState] = gn.states(net, ParamState)
means: FlatStates[BatchState] = gn.states(net, ParamState)  # E: parameters
hidden: FlatStates[Membrane] = gn.states(net, HiddenState)  # E: may be other hidden States
one, other = gn.states(net, Membrane, BatchState)
wrong: FlatStates[Membrane] = other  # E: statistics of batches
three = gn.states(net, "mean", Membrane, ...)
second: FlatStates[BatchState] = three[1]  # E: of the filter in this place
fourth = three[3]  # E: three filters
popped: FlatStates[BatchState] = gn.pop_states(net, Membrane)  # E: of the filter
some_leaves, some_nets = gn.nodes(net, Leaf, Net)
swapped: dict[Path, Leaf] = some_nets  # E: of the filter in this place
gn.axes({ParamState: None, ...: 0})
gn.axes({3: 0})  # E: no filter (missed by pyrefly: the bound is a recursive alias)
gn.axes({ParamState: "batch"})  # E: a string for an axis
membrane: Membrane = gn.states(net, BatchState)["mean",]  # E: statistics of a batch
number: int = gn.states(net, Membrane)["leaf", "v"].value  # E: an array
as_tree: StateTree = gn.states(net, ParamState)  # E: live States
leaves: dict[Path, Leaf] = gn.nodes(net, Leaf)
nets: dict[Path, Net] = leaves  # E: Leaves
for leaf in gn.nodes(net, Leaf).values():
    print(leaf.weight)
    print(leaf.wieght)  # E: misspelt
for state in gn.states(net, Membrane).values():
    state.value = zero
    state.value = 3  # E: a number for an array
for path in gn.states(net):
    print(path.lower())  # E: a path is a tuple
