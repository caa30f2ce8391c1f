"""Turn the nodes anywhere in a pytree into pytrees, and back: what transformed functions take and return.

All nodes of one call share one graphdef, so sharing across arguments is kept. Each node
becomes a part, with the whole graphdef, its own place in it, and the values of the
States that are first seen in it:

    {"model": m, "again": m, "step": 3}
    {"model": NodeStates(g, 0, {weight, bias}), "again": NodeStates(g, 1, {}), "step": 3}
"""

import dataclasses
import json
from typing import Any

import jax
from jax.tree_util import GetAttrKey

from ._errors import AliasError, ConfigError, MergeError, listed
from ._exporting import loads, register_export
from ._graph._binding_cache import binding_of
from ._graph._diff import diff
from ._graph._flatten import is_graph_object
from ._graph._graphdef import GraphDef
from ._graph._layout import layout_of_trie
from ._graph._unflatten import build
from ._paths import path_str
from ._state import State
from ._statetree import FlatStates, StateTree


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class NodeStates:
    """One node (or State) of a pytree as a pytree: its part of a graph, and the values of that part.

    Attributes:
        graphdef: The structure of all nodes of the call, in a list.
        place: Which of them this is.
        states: The values of the States first seen in it, by path from it.
    """

    graphdef: GraphDef[Any]
    place: int
    states: StateTree


jax.tree_util.register_pytree_with_keys(
    NodeStates,
    lambda part: (((GetAttrKey("states"), part.states),), (part.graphdef, part.place)),
    lambda aux, children: NodeStates(*aux, *children),
)


def part_to_json(part: tuple[GraphDef[Any], int]) -> str:
    """The static data of one node of a pytree, its graphdef and place, as JSON for `jax.export`.

    Raises:
        ConfigError: The graphdef has no JSON.
    """
    graphdef, place = part
    return json.dumps([graphdef.to_json(), place])


def part_from_json(text: str) -> tuple[GraphDef[Any], int]:
    """The graphdef and place that `part_to_json` wrote.

    Raises:
        ConfigError: The text has none; names all faults.
    """
    data = loads(text, NodeStates)
    types = [type(item) for item in data] if isinstance(data, list) else []
    if types != [str, int]:
        raise ConfigError(["expected a graphdef's JSON and the place of a node"])
    graphdef = GraphDef.from_json(data[0])
    if not 0 <= data[1] < len(graphdef.table.top):
        raise ConfigError([f"the graphdef has no node {data[1]}"])
    return graphdef, data[1]


register_export(NodeStates, part_to_json, part_from_json)

# For a node whose States were all seen in earlier ones: its part has no values.
_EMPTY = layout_of_trie([-1], [""], {})[0]


def is_node_states(leaf: object) -> bool:
    """For `is_leaf` of `jax.tree.flatten`: whether a part of a pytree takes the place of a node."""
    return isinstance(leaf, NodeStates)


# Any: a pytree; with other leaves it is of another type.
def graph_to_tree(
    tree: Any, /, *, prefix: Any = None
) -> tuple[Any, FlatStates[State[Any]]]:
    """Replace the nodes (and States) anywhere in a pytree by `NodeStates`, pytrees of their values.

    Sharing is kept, across all of them. Other leaves pass through by identity.

    Args:
        tree: Any pytree.
        prefix: A pytree prefix of `tree` (such as the axes of `jax.vmap`): an object
            reached twice must have one value.

    Returns:
        The pytree with `NodeStates` in place of nodes, and the live States by their
        path in the list of the nodes.

    Raises:
        AliasError: An object is reached with two prefixes; names both paths.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> tree, _ = gn.graph_to_tree({"model": model, "again": model, "step": 3})
        >>> back = gn.tree_to_graph(jax.tree.map(lambda leaf: leaf, tree))
        >>> back["model"] is back["again"], back["step"]
        (True, 3)

    See also: `tree_to_graph`, the inverse.
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(tree)
    leaves = [leaf for _, leaf in pairs]
    numbers = [number for number, leaf in enumerate(leaves) if is_graph_object(leaf)]
    binding = binding_of([leaves[number] for number in numbers])
    graphdef = binding.graphdef
    if prefix is not None:
        values = spread(prefix, tree)
        names = [jax.tree_util.keystr(key_path) for key_path, _ in pairs]
        _check_prefixes(
            graphdef,
            [values[number] for number in numbers],
            [names[number] for number in numbers],
        )
    whole = StateTree(graphdef.layout, binding.values())
    for place, number in enumerate(numbers):
        leaves[number] = NodeStates(graphdef, place, part_of(whole, place))
    return jax.tree.unflatten(treedef, leaves), FlatStates(
        graphdef.layout, binding.states
    )


def spread(prefix: Any, tree: Any) -> list[Any]:
    """For each leaf of `tree`, the value of the prefix; `None` is a value in `prefix` alone.

    For arguments that take a prefix of a pytree, such as `in_axes` and `out_axes`.
    """
    values: list[Any] = []

    def take(value: Any, below: Any) -> None:
        """Give a value to all leaves below; JAX calls it for each leaf of the prefix."""
        values.extend([value] * len(jax.tree.leaves(below)))

    jax.tree.map(take, prefix, tree, is_leaf=lambda leaf: leaf is None)
    return values


def part_of(whole: StateTree, place: int) -> StateTree:
    """The values of the States first seen in one of the nodes, by path from it.

    So that each value is in one part, also where several nodes share its State.
    """
    layout, first = whole.layout.below(place) or (_EMPTY, 0)
    return StateTree(layout, whole._values[first : first + len(layout)])


def _check_prefixes(
    graphdef: GraphDef[Any], values: list[Any], names: list[str]
) -> None:
    """For `graph_to_tree`: refuse an object that is reached from two roots with different prefixes.

    Args:
        graphdef: The structure of all roots, which are the items of a list.
        values: The value of the prefix for each root.
        names: Where each root is in the pytree, for messages.

    Raises:
        AliasError: There is one; names both paths of each.
    """
    table = graphdef.table
    # The root that each object belongs to: the one it is first seen in.
    owners: list[int] = []
    for number, parent in enumerate(table.parents):
        owners.append(owners[parent] if parent >= 0 else int(table.edges[number][0]))
    faults: list[str] = []
    # An object with one reference has one prefix.
    for parent, edge, target in table.repeats:
        root = owners[parent] if parent >= 0 else int(edge[0])
        first_root = owners[target]
        if values[root] != values[first_root]:
            path, first_path = (*graphdef.path(parent), *edge), graphdef.path(target)
            places = [
                f"{names[root]}{_path_text(path)} with {values[root]!r}",
                f"{names[first_root]}{_path_text(first_path)} with {values[first_root]!r}",
            ]
            faults.append(
                f"one {table.specs[target].cls.__name__} is reached as "
                + " and as ".join(sorted(places))
            )
    if faults:
        raise AliasError(f"inconsistent prefixes: {listed(faults)}")


def _path_text(path: tuple[str | int, ...]) -> str:
    """For a message: a path without its first key, the position of the root: `.layers.0`."""
    return f".{path_str(path[1:])}" if len(path) > 1 else ""


# Any: as for `graph_to_tree`.
def tree_to_graph(tree: Any, /) -> Any:
    """Put new nodes in place of the `NodeStates` of a pytree; sharing across all of them is restored.

    Raises:
        MergeError: A part of the nodes that were converted together is missing, or
            parts of two calls are mixed.

    Example:
        >>> tree, _ = gn.graph_to_tree([gn.nn.Linear(2, 3)])
        >>> gn.tree_to_graph(tree)[0].out_size
        (3,)

    See also: `graph_to_tree`, the inverse.
    """
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_node_states)
    parts = [leaf for leaf in leaves if isinstance(leaf, NodeStates)]
    if not parts:
        return tree
    graphdef = parts[0].graphdef
    by_place = {part.place: part for part in parts}
    _check_parts(graphdef, parts, by_place)
    # By place, the values are in layout order.
    values = [
        value for place in sorted(by_place) for value in by_place[place].states._values
    ]
    nodes = build(graphdef, values)
    for at, leaf in enumerate(leaves):
        if isinstance(leaf, NodeStates):
            leaves[at] = nodes[leaf.place]
    return jax.tree.unflatten(treedef, leaves)


def _check_parts(
    graphdef: GraphDef[Any], parts: list[NodeStates], by_place: dict[int, NodeStates]
) -> None:
    """For `tree_to_graph`: refuse parts that are not those of one call, each with its States.

    Args:
        graphdef: The structure that the first part has.
        parts: All parts in the pytree; one that was there twice comes twice.
        by_place: A part for each place.

    Raises:
        MergeError: They are not.
    """
    for part in parts:
        # By identity: graphdefs are interned.
        if part.graphdef is not graphdef:
            differences = map(str, diff(graphdef, part.graphdef))
            raise MergeError(
                "NodeStates of two structures are mixed; convert all nodes in one call. They differ in "
                f"{listed(list(differences), limit=10)}"
            )
    count = len(graphdef.table.top)
    missing = [str(place) for place in range(count) if place not in by_place]
    if missing:
        raise MergeError(
            f"NodeStates {', '.join(missing)} of {count} that were converted together are missing"
        )
    wrong: list[int] = []
    for place, part in by_place.items():
        layout, _ = graphdef.layout.below(place) or (_EMPTY, 0)
        if part.states.layout is not layout:
            wrong.append(place)
    if wrong:
        raise MergeError(
            f"NodeStates {', '.join(map(str, wrong))} hold the States of another structure"
        )
