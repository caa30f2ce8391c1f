"""What filters select has the type that the filter says: classes give States and nodes of their own."""

from collections.abc import Callable
from typing import Any, assert_type

import jax.numpy as jnp
from jaxtyping import Array

import graphnode as gn
from graphnode import BatchState, FlatStates, HiddenState, ParamState, Path, State, StateTree, TreefyState


class Membrane(HiddenState[Array]):
    """A State class of the caller's own."""


class Leaf(gn.Node):
    weight: ParamState
    v: Membrane


class Net(gn.Node):
    leaves: list[Leaf]
    mean: BatchState


zero = jnp.zeros(())
net = Net([Leaf(ParamState(zero), Membrane(zero))], BatchState(zero, tag="mean"))

# Live States: of the class that is asked for.

assert_type(gn.states(net), FlatStates[State[Any]])
assert_type(gn.states(net, "mean"), FlatStates[State[Any]])
assert_type(gn.states(net, ...), FlatStates[State[Any]])
assert_type(gn.states(net, Membrane), FlatStates[Membrane])
assert_type(gn.states(net, ParamState[Array]), FlatStates[ParamState[Array]])
assert_type(gn.states(net, Membrane, ParamState[Array]), tuple[FlatStates[Membrane], FlatStates[ParamState[Array]]])
assert_type(gn.states(net, Membrane, ...), tuple[FlatStates[Membrane], FlatStates[State[Any]]])
assert_type(
    gn.states(net, Membrane, BatchState[Array], ParamState[Array]),
    tuple[FlatStates[Membrane], FlatStates[BatchState[Array]], FlatStates[ParamState[Array]]],
)
assert_type(
    gn.states(net, "mean", ParamState[Array], ...),
    tuple[FlatStates[State[Any]], FlatStates[ParamState[Array]], FlatStates[State[Any]]],
)

assert_type(gn.states(net, ParamState), FlatStates[ParamState])  # OK (reported by mypy: mypy#21608)
params: FlatStates[ParamState] = gn.states(net, ParamState)
hidden, batch = gn.states(net, Membrane, BatchState)
both: tuple[FlatStates[Membrane], FlatStates[BatchState]] = (hidden, batch)

membranes = gn.states(net, Membrane)
assert_type(membranes["leaves", 0, "v"], Membrane)
assert_type(membranes["leaves", 0, "v"].value, Array)
assert_type(list(membranes), list[Path])
assert_type([state.value for state in membranes.values()], list[Array])
as_states: FlatStates = membranes
assert_type(membranes.get(("leaves", 1, "v")), Membrane | None)

popped, others, rest = gn.pop_states(gn.clone(net), Membrane, "mean", ...)
assert_type(popped, FlatStates[Membrane])
assert_type(others, FlatStates[State[Any]])

# State trees

assert_type(gn.treefy_states(net), StateTree)
assert_type(gn.treefy_states(net, ParamState), StateTree)
assert_type(gn.treefy_states(net, ParamState, ...), tuple[StateTree, StateTree])
assert_type(gn.treefy_states(net, ParamState, "mean", ...), tuple[StateTree, StateTree, StateTree])

tree = gn.treefy_states(net)
assert_type(tree["leaves", 0, "weight"], TreefyState[Any])
assert_type(tree["leaves", 0, "weight"].type, type[State[Any]])
assert_type(tree["leaves", 0, "weight"].tag, str | None)
assert_type(tree.flat(), dict[Path, TreefyState[Any]])
assert_type(tree.filter(ParamState) | tree.filter("mean"), StateTree)
assert_type(tree - tree.filter("mean"), StateTree)
assert_type(tree.to_dict(), dict[gn.Key | Path, Any])
first, second = tree.split(ParamState, ...)
assert_type(first, StateTree)
assert_type(tree.split(ParamState, Membrane, "mean", ...), tuple[StateTree, StateTree, StateTree, StateTree])
assert_type(tree.split(...), tuple[StateTree])

# Nodes

assert_type(gn.nodes(net), dict[Path, gn.Node])
assert_type(gn.nodes(net, Leaf), dict[Path, Leaf])
assert_type(gn.nodes(net, Leaf, Net), tuple[dict[Path, Leaf], dict[Path, Net]])
assert_type(gn.nodes(net, Leaf, ...), tuple[dict[Path, Leaf], dict[Path, gn.Node]])
assert_type(gn.nodes(net, gn.PathContains("mean", missing_ok=True)), dict[Path, gn.Node])
assert_type(list(gn.iter_node(net)), list[tuple[Path, gn.Node]])
assert_type(list(gn.iter_leaf(net)), list[tuple[Path, object]])
assert_type(gn.nodes(net, Leaf)["leaves", 0].weight.value, Array)
assert_type(gn.aliases(net), dict[Path, tuple[Path, ...]])

# Every form of a filter


def is_large(path: Path, state: State[Any]) -> bool:
    return len(path) > 3


forms: list[gn.Filter] = [
    ParamState,
    ParamState[Array],
    "mean",
    None,
    True,
    (ParamState, "mean"),
    ["a", (BatchState, None)],
    gn.Any(ParamState, "mean"),
    gn.All(ParamState, gn.Not(gn.PathContains(0))),
    gn.PathIn("leaves.0.v", ("mean",)),
    is_large,
    lambda path, state: path == ("mean",),
]


class Frozen:
    """A mixin, by which a type checker does not select: it is not a State class."""


assert_type(gn.states(net, gn.OfType(Frozen)), FlatStates[State[Any]])


def parts(node: Net, which: gn.Filter) -> tuple[StateTree, StateTree]:
    """A filter that a function is given may stand anywhere; `...` may only stand last."""
    _, chosen, rest = gn.treefy_split(node, which, ...)
    return chosen, rest


parts(net, ParamState)
parts(net, ("mean", Membrane))
node_forms: list[gn.NodeFilter] = [Leaf, (Leaf, Net), gn.Not(Leaf), None, lambda path, node: not path]
found: list[dict[Path, gn.Node]] = [gn.nodes(net, form) for form in node_forms]
negated: Callable[[gn.Filter], gn.Filter] = gn.Not
assert_type([gn.states(net, form) for form in forms], list[FlatStates[State[Any]]])
assert_type(gn.parse_path("leaves.0"), Path)
assert_type(gn.path_str(("leaves", 0)), str)
