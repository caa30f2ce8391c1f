"""The rows of a summary: one for each node and State of a graph, in the order in which nodes are first called.

    object      parent   own     with all below     calls
    Net            -      0            15           Net(f32[2,3]) -> f32[2,3]
    first          Net    0             6           ...
    first.weight   first  6             6
    second         Net    0             9

A shared node or State has its row at its first path and counts there alone, so that the
numbers of the parts add up to those of the whole.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._contract import Size
from .._graph._binding_cache import binding_of
from .._graph._graphdef import GraphDef
from .._graph._template import NodeSpec
from .._inspect import aliases, live_objects
from .._paths import Path
from .._pretty._values import arrays_of
from .._state import StateSpec
from ._shapes import shapes_text


class CallShapes(NamedTuple):
    """A method of a node with the shapes of its inputs and outputs, as texts.

    Attributes:
        method: The name of the method, `__call__` for a call of the node itself.
        inputs: What it was called with: `f32[2,3], mask=bool[2]`.
        outputs: What it gave.
    """

    method: str
    inputs: str
    outputs: str


class Row(NamedTuple):
    """One node or State of a model, at its first path.

    Attributes:
        path: Where it is; `()` for the model itself.
        kind: The name of its class.
        shape: Dtype and shape of a State; empty for a node.
        parameters: Numbers in the States at and below the path; a symbolic size of JAX
            where the shape of one is symbolic.
        bytes: Their size.
        others: Its further paths, which count nothing.
        calls: The different calls of a node, in the order in which they are made.
        flops: Operations in products and convolutions at and below the path; a formula
            where a size is symbolic, and `None` for a State, or without inputs.
    """

    path: Path
    kind: str
    shape: str
    parameters: int
    bytes: int
    others: tuple[Path, ...]
    calls: tuple[CallShapes, ...] = ()
    flops: int | str | None = None


class Activity(NamedTuple):
    """What the nodes of a model do in one call of it.

    Attributes:
        calls: By first path, in the order of the first call.
        flops: By first path, those of nodes below left out.
        notes: What the numbers leave open, by path; `None` for what is of no node.
        symbols: The names of the symbolic sizes.
        holds: Whether it holds for all of their values, as far as that is known.
    """

    calls: dict[Path, list[CallShapes]]
    flops: dict[Path, Size]
    notes: tuple[tuple[Path | None, str], ...]
    symbols: tuple[str, ...]
    holds: bool = True


class Item(NamedTuple):
    """A row in the tree of all rows.

    Attributes:
        row: The row.
        parent: The number of the row that it is below; -1 without one.
        depth: How many nodes it is below, the root not counted.
        is_node: Whether it is that of a node.
        spec: The class and what else is static of the object; one object for equal ones.
        references: The paths within a node of what has its row elsewhere, each with the
            path of that row.
        own_flops: The operations of a node, those of nodes below left out; as for a row.
    """

    row: Row
    parent: int
    depth: int
    is_node: bool
    spec: NodeSpec | StateSpec
    references: tuple[tuple[Path, Path], ...]
    own_flops: int | str | None


def items_of(root: Any, activity: Activity | None) -> list[Item]:
    """The rows of a node, or of a pytree of nodes, each before those below it.

    Args:
        root: The model; shapes in place of arrays will do.
        activity: What a call of it does, if it is known.
    """
    tree = _Tree(root, activity)
    items: list[Item] = []
    places: dict[int, int] = {}
    for number in tree.in_order():
        parent = tree.parents[number]
        place = places.get(parent, -1)
        above = items[place].depth + 1 if parent >= 0 else 0
        # A State is as deep as its node.
        depth = above if tree.is_node(number) else max(above - 1, 0)
        places[number] = len(items)
        items.append(tree.item(number, place, depth))
    return items


class _Tree:
    """The objects of a graph by number, with what stands in their rows."""

    def __init__(self, root: Any, activity: Activity | None) -> None:
        graphdef: GraphDef[Any] = binding_of(root).graphdef
        self.parents: Sequence[int] = graphdef.table.parents
        self._specs = graphdef.table.specs
        self._targets = graphdef.table.rows
        self._objects = live_objects(root, graphdef)
        self._paths = [graphdef.path(number) for number in range(len(self._objects))]
        self._activity = activity
        are_nodes = [self.is_node(number) for number in range(len(self._objects))]
        self._others = _all_others(root, self._paths, are_nodes)
        self._counts = self._summed([self._own_count(item) for item in self._objects])
        self._bytes = self._summed([self._own_bytes(item) for item in self._objects])
        flops: Mapping[Path, Size] = {} if activity is None else activity.flops
        self._own_flops = [flops.get(path, 0) for path in self._paths]
        self._flops = self._summed(self._own_flops)

    def is_node(self, number: int) -> bool:
        """Whether an object is a node."""
        return isinstance(self._specs[number], NodeSpec)

    def _summed(self, own: list[Size]) -> list[Size]:
        """For each object, its own number and those of all below it."""
        sums = list(own)
        # From the last one up, so that all below an object is added before it is.
        for number in reversed(range(len(sums))):
            if self.parents[number] >= 0:
                sums[self.parents[number]] = sums[self.parents[number]] + sums[number]
        return sums

    def _own_count(self, item: Any) -> int:
        return sum(math.prod(leaf.shape) for leaf in _arrays_of(item))

    def _own_bytes(self, item: Any) -> int:
        return sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in _arrays_of(item)
        )

    def in_order(self) -> list[int]:
        """The numbers of all objects, each before those below it: States, then nodes as they are first called."""
        below: dict[int, list[int]] = {}
        ranks = self._ranks()
        for number, parent in enumerate(self.parents):
            below.setdefault(parent, []).append(number)
        order: list[int] = []
        todo = [-1]
        while todo:
            number = todo.pop()
            if number >= 0:
                order.append(number)
            todo += sorted(
                below.get(number, ()), key=lambda at: ranks[at], reverse=True
            )
        return order

    def _ranks(self) -> list[tuple[bool, int, int]]:
        """The sort key of each object among its siblings."""
        calls = {} if self._activity is None else self._activity.calls
        positions = {path: at for at, path in enumerate(calls)}
        last = len(positions)
        first = [positions.get(path, last) for path in self._paths]
        for number in reversed(range(len(first))):
            parent = self.parents[number]
            if parent >= 0:
                first[parent] = min(first[parent], first[number])
        # Without calls, the canonical order.
        is_sorted = self._activity is not None
        return [
            (is_sorted and self.is_node(number), first[number], number)
            for number in range(len(first))
        ]

    def item(self, number: int, parent: int, depth: int) -> Item:
        """The row of an object, in its place."""
        row = self.row(number)
        return Item(
            row,
            parent,
            depth,
            self.is_node(number),
            self._specs[number],
            self._references(number),
            None if row.flops is None else plain(self._own_flops[number]),
        )

    def _references(self, number: int) -> tuple[tuple[Path, Path], ...]:
        """The references of an object to what is below another one."""
        spec = self._specs[number]
        if not isinstance(spec, NodeSpec):
            return ()
        references = zip(spec.edges, self._targets[number], strict=True)
        return tuple(
            [
                (edge, self._paths[target])
                for edge, target in references
                if self.parents[target] != number
            ]
        )

    def row(self, number: int) -> Row:
        """The row of an object."""
        path, item = self._paths[number], self._objects[number]
        row = Row(
            path,
            type(item).__name__,
            "" if self.is_node(number) else shapes_text(item._value),
            self._counts[number],
            self._bytes[number],
            self._others[number],
        )
        if self._activity is None or not self.is_node(number):
            return row
        calls = tuple(self._activity.calls.get(path, ()))
        return row._replace(calls=calls, flops=plain(self._flops[number]))


def plain(size: Size) -> int | str:
    """A number of operations for a row: a formula as a text, where a size is symbolic."""
    return int(size) if isinstance(size, int) else str(size)


# Any: a State of any class and value, or a node, which has no arrays of its own.
def _arrays_of(item: Any) -> list[Any]:
    """The arrays in the value of a State."""
    return arrays_of(getattr(item, "_value", None))


def _all_others(
    root: Any, paths: Sequence[Path], are_nodes: Sequence[bool]
) -> list[tuple[Path, ...]]:
    """The further paths of each object: its own, and, of a State, those through nodes that are shared."""
    others = aliases(root)
    # Not the root, whose other paths lead through a cycle.
    shared = {path: paths for path, paths in others.items() if path}
    rows: list[tuple[Path, ...]] = []
    for path, is_node in zip(paths, are_nodes, strict=True):
        further = list(others.get(path, ()))
        if not is_node and shared:
            further += _paths_through(path, shared)
        rows.append(tuple(further))
    return rows


def _paths_through(path: Path, shared: Mapping[Path, tuple[Path, ...]]) -> list[Path]:
    """The further paths of a State through the nodes that it is below."""
    further: list[Path] = []
    for length in range(len(path)):
        starts = shared.get(path[:length], ())
        further += [(*start, *path[length:]) for start in starts]
    return further
