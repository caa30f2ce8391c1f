"""What stands for a node in the result of a pure function: a pytree of its part of the graph.

It is a class of its own. The `NodeStates` of `gn.graph_to_tree` hold the same, but are
pytrees of the user's, which come and go like all others.
"""

import dataclasses
from typing import Any

import jax
from jax.tree_util import GetAttrKey

from .._exporting import register_export
from .._graph._graphdef import GraphDef
from .._graph_to_tree import part_from_json, part_to_json
from .._statetree import StateTree


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResultNode:
    """One node (or State) of a result.

    Attributes:
        graphdef: The structure of all nodes of the arguments and the result, in a list.
        place: Which of them this is.
        states: The values of the States first seen in it, by path from it.
    """

    graphdef: GraphDef[Any]
    place: int
    states: StateTree


jax.tree_util.register_pytree_with_keys(
    ResultNode,
    lambda node: (((GetAttrKey("states"), node.states),), (node.graphdef, node.place)),
    lambda aux, children: ResultNode(*aux, *children),
)
register_export(ResultNode, part_to_json, part_from_json)


def is_result_node(leaf: object) -> bool:
    """Whether a part of a result stands for a node; as `is_leaf`, it has JAX leave these whole."""
    return isinstance(leaf, ResultNode)
