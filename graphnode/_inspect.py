"""Inspect a live graph: its nodes, its leaves, and the paths that lead to a shared object.

All of these read the graphdef's table, so they agree on the objects, their order and
their paths. Live objects are looked up by the table's paths.
"""

from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any, NamedTuple, overload

import jax
from typing_extensions import TypeVar

from ._declare._node import Node
from ._filters import NodeFilter, NodeSelector, as_filters
from ._graph._binding_cache import binding_of
from ._graph._graphdef import GraphDef
from ._graph._table import RootSpec
from ._graph._template import NodeSpec
from ._paths import Key, Path
from ._selection import check_class_filters, group_by_filter, lookup_path, missing_path
from ._state import State, StateSpec

# The node class of each filter; one that is not a class leaves the default.
N1 = TypeVar("N1", bound=Node, default=Node)
N2 = TypeVar("N2", bound=Node, default=Node)
N3 = TypeVar("N3", bound=Node, default=Node)


def live_objects(root: Any, graphdef: GraphDef[Any]) -> list[Any]:
    """The nodes and States of a graph, by their number in its graphdef.

    For `iter_node`, `pop_states`, `view` and others: they find places in the structure,
    and then need what is there.

    Args:
        root: The root that the graphdef was made of.
        graphdef: Its graphdef.
    """
    table, first = graphdef.table, graphdef.tokens[0]
    tops: dict[Path, Any] = {(): root}
    if isinstance(first, RootSpec):
        leaves = jax.tree.leaves(root)
        tops = {
            first.edges[at]: leaf for at, leaf in zip(first.order, leaves, strict=True)
        }
    objects: list[Any] = []
    for parent, edge in zip(table.parents, table.edges, strict=True):
        objects.append(tops[edge] if parent < 0 else reach(objects[parent], edge))
    return objects


def reach(node: Any, edge: Path) -> Any:
    """The value at a path within one node: the first key is a field, the others lead into its containers.

    A structure names each object by the node that it is first seen in, and such a path.
    """
    value = node.__dict__[edge[0]]
    for key in edge[1:]:
        value = value[key]
    return value


def missing_part(node: Any, edge: Path) -> Path | None:
    """The shortest beginning of a path within one node that leads to nothing; `None` without one.

    For `update_states`, which says what is gone where a popped State belongs.
    """
    # Not `getattr`: a field without a value may be made when it is read, and is
    # missing.
    value: Any = node.__dict__
    for length, key in enumerate(edge, start=1):
        if not _has(value, key):
            return edge[:length]
        value = value[key]
    return None


def _has(container: Any, key: Key) -> bool:
    """For `missing_part`: whether a dict has a key, or a list or tuple a position; anything else has none."""
    if isinstance(container, dict):
        return key in container
    return (
        isinstance(container, Sequence)
        and isinstance(key, int)
        and 0 <= key < len(container)  # a path counts from the start
    )


def _first_seen(graphdef: GraphDef[Any]) -> dict[int, list[int]]:
    """The numbers of the objects first seen in each node, by its number (-1 above the root).

    For `iter_node` and `iter_leaf`, which walk down a structure; it has parents only.
    """
    children: dict[int, list[int]] = {}
    for number, parent in enumerate(graphdef.table.parents):
        children.setdefault(parent, []).append(number)
    return children


def iter_node(node: object, /) -> Iterator[tuple[Path, Node]]:
    """The nodes of a graph with their paths, each once, at its first path; children first, the root last at `()`.

    Args:
        node: A node, or a pytree of nodes.

    Raises:
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> class Two(gn.Node):
        ...     a: gn.nn.Linear
        ...     b: gn.nn.Linear
        >>> shared = gn.nn.Linear(2, 2)
        >>> [path for path, _ in gn.iter_node(Two(shared, shared))]
        [('a',), ()]
    """
    graphdef = binding_of(node).graphdef
    objects = live_objects(node, graphdef)
    for path, number in _nodes_of(graphdef):
        yield path, objects[number]


def _nodes_of(graphdef: GraphDef[Any]) -> Iterator[tuple[Path, int]]:
    """The first path and the number of each node of a structure, children before parents.

    For `iter_node`, and for `nodes`, which keeps this order.
    """
    below = _first_seen(graphdef)
    specs, edges = graphdef.table.specs, graphdef.table.edges
    # One path, extended and cut on the way: building that of each node anew would take
    # time that grows with the square of the depth.
    keys: list[Key] = []
    todo = [(top, False) for top in reversed(below.get(-1, ()))]
    while todo:
        number, is_behind = todo.pop()
        if not isinstance(specs[number], NodeSpec):
            continue
        if is_behind:
            yield tuple(keys), number
            del keys[len(keys) - len(edges[number]) :]
            continue
        keys += edges[number]
        # Comes again after its children: then the path is its own again.
        todo.append((number, True))
        todo += [(child, False) for child in reversed(below.get(number, ()))]


def iter_leaf(node: object, /) -> Iterator[tuple[Path, object]]:
    """The States and static values of a graph with their paths, each State once, at its first path; pre-order.

    Items of a static tuple come one by one; `None` and what is unset are left out.

    Args:
        node: A node, or a pytree of nodes.

    Raises:
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> for path, leaf in gn.iter_leaf(gn.nn.Linear(2, 3)):
        ...     print(path, leaf if isinstance(leaf, int) else type(leaf).__name__)
        ('bias',) ParamState
        ('in_features',) 2
        ('in_size', 0) 2
        ('out_features',) 3
        ('out_size', 0) 3
        ('weight',) ParamState
    """
    graphdef = binding_of(node).graphdef
    specs, edges = graphdef.table.specs, graphdef.table.edges
    objects = live_objects(node, graphdef)
    below = _first_seen(graphdef)
    # Still to come: objects by number, and static values, whose number is `None`.
    todo: list[tuple[Path, int | None, Any]] = [
        (edges[top], top, None) for top in reversed(below.get(-1, []))
    ]
    while todo:
        path, number, static = todo.pop()
        if number is None:
            yield from _static_leaves(path, static)
            continue
        spec = specs[number]
        if isinstance(spec, StateSpec):
            yield path, objects[number]
        else:
            fields = objects[number].__dict__
            inside: list[tuple[Path, int | None, Any]] = [
                (edges[child], child, None) for child in below.get(number, ())
            ]
            inside += [((name,), None, fields[name]) for name in spec.template.statics]
            # By field. The sort is stable, so the items of a container keep their order.
            inside.sort(key=lambda item: item[0][0])
            todo += [
                ((*path, *edge), child, value)
                for edge, child, value in reversed(inside)
            ]


def _static_leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """For `iter_leaf`: a static value with its path; a tuple item by item, and `None` left out."""
    if isinstance(value, tuple):
        for at, item in enumerate(value):
            yield from _static_leaves((*path, at), item)
    elif value is not None:
        yield path, value


class NodeItem(NamedTuple):
    """One node, as a filter sees it.

    Attributes:
        graphdef: The structure that it is part of.
        at: Its number among the nodes alone, as filters and `GraphDef.nodes` count.
        number: Its number among nodes and States.
        path: Its first path.
        live: The node.
    """

    graphdef: GraphDef[Any]
    at: int
    number: int
    path: Path
    live: Any

    @property
    def cls(self) -> type[Any]:
        return type(self.live)

    @property
    def tag(self) -> None:
        return None

    @property
    def other_paths(self) -> tuple[Path, ...]:
        return self.graphdef.nodes.other_paths(self.at)


def node_items(root: object, graphdef: GraphDef[Any]) -> list[NodeItem]:
    """The nodes of a graph as filters see them, in canonical order: a node before what it holds.

    For `select`, which narrows them down step by step.

    Args:
        root: A node, or a pytree of nodes.
        graphdef: Its graphdef.
    """
    return sorted(_node_items(root, graphdef), key=lambda item: item.at)


def _node_items(root: object, graphdef: GraphDef[Any]) -> list[NodeItem]:
    """For `nodes` and `node_items`: the nodes of a graph in the order of `iter_node`."""
    objects = live_objects(root, graphdef)
    numbers = [
        number
        for number, spec in enumerate(graphdef.table.specs)
        if isinstance(spec, NodeSpec)
    ]
    # Filters and the trie count nodes alone; the graphdef counts States too.
    at_of = {number: at for at, number in enumerate(numbers)}
    return [
        NodeItem(graphdef, at_of[number], number, path, objects[number])
        for path, number in _nodes_of(graphdef)
    ]


# A reference to a node or State: the number of the node that has it (-1 above the root), and
# the path within that.
Reference = tuple[int, Path]


def references_to(graphdef: GraphDef[Any]) -> list[list[Reference]]:
    """All references to each object of a structure, by its number; that of its first path comes first.

    For pops and replacements, which have to find an object at all its places.
    """
    table = graphdef.table
    references = [[place] for place in zip(table.parents, table.edges, strict=True)]
    for parent, edge, target in table.repeats:
        references[target].append((parent, edge))
    return references


class _Nodes(dict[Path, Node]):
    """Nodes by first path; a look-up takes any other path too, also as a text."""

    def __init__(self, graphdef: GraphDef[Any], items: Sequence[NodeItem]) -> None:
        super().__init__({item.path: item.live for item in items})
        self._graphdef = graphdef

    def __missing__(self, path: Path | str) -> Node:
        """For a look-up by another path than the first one, or by a text."""
        trie = self._graphdef.nodes
        keys = lookup_path("node", path)
        at = None if keys is None else trie.index(keys)
        node = None if at is None else self.get(trie.path(at))
        if node is None:
            raise KeyError(missing_path("node", trie, path))
        return node


@overload
def nodes(node: object, /) -> dict[Path, Node]: ...
@overload
def nodes(
    node: object, only: type[N1] | NodeSelector | EllipsisType, /
) -> dict[Path, N1]: ...
@overload
def nodes(
    node: object,
    first: type[N1] | NodeSelector,
    second: type[N2] | NodeSelector | EllipsisType,
    /,
) -> tuple[dict[Path, N1], dict[Path, N2]]: ...
@overload
def nodes(
    node: object,
    first: type[N1] | NodeSelector,
    second: type[N2] | NodeSelector,
    third: type[N3] | NodeSelector | EllipsisType,
    /,
) -> tuple[dict[Path, N1], dict[Path, N2], dict[Path, N3]]: ...
@overload
def nodes(
    node: object,
    first: NodeFilter | EllipsisType,
    second: NodeFilter | EllipsisType,
    third: NodeFilter | EllipsisType,
    fourth: NodeFilter | EllipsisType,
    /,
    *rest: NodeFilter | EllipsisType,
) -> tuple[dict[Path, Node], ...]: ...
def nodes(node: object, /, *filters: NodeFilter | EllipsisType) -> object:
    """The nodes of a graph by path, in the order of `iter_node`.

    Args:
        node: A node, or a pytree of nodes.
        *filters: Node classes, paths or functions of path and node; the first that
            accepts a node takes it. Nodes that none accepts are left out.

    Returns:
        One dict for none or one filter, else a tuple with one for each. The nodes are
        the graph's own. A node is listed once, at its first path; a look-up takes any.

    Raises:
        FilterError: `...` stands before another filter; or there is no node at a path.
        FilterTypeError: Something is not a filter.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> list(gn.nodes([gn.nn.Linear(2, 2)], gn.nn.Linear))
        [(0,)]
    """
    matchers = as_filters(filters or (...,))
    check_class_filters(
        matchers, State, "nodes by node classes; gn.states filters States"
    )
    graphdef = binding_of(node).graphdef
    in_order = _node_items(node, graphdef)
    # Filters want the order of the trie, and the result that of `iter_node`.
    items = sorted(in_order, key=lambda item: item.at)
    groups, _ = group_by_filter(lambda: graphdef.nodes, items, matchers, "node")
    results = [
        _Nodes(graphdef, [item for item in in_order if item.at in selected])
        for selected in map(set, groups)
    ]
    return results[0] if len(filters) <= 1 else tuple(results)


def aliases(node: object, /) -> dict[Path, tuple[Path, ...]]:
    """The further paths of every node and State that is referred to more than once, by its first path.

    Each reference is named once: what lies inside a shared node is not listed again.

    Args:
        node: A node, or a pytree of nodes.

    Raises:
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> class Tied(gn.Node):
        ...     encoder: gn.nn.Linear
        ...     decoder: gn.nn.Linear
        >>> shared = gn.nn.Linear(2, 2)
        >>> gn.aliases(Tied(shared, shared))
        {('decoder',): (('encoder',),)}
    """
    graphdef = binding_of(node).graphdef
    further: dict[Path, tuple[Path, ...]] = {}
    for parent, edge, target in graphdef.table.repeats:
        first = graphdef.path(target)
        above = graphdef.path(parent) if parent >= 0 else ()
        further[first] = (*further.get(first, ()), (*above, *edge))
    return further
