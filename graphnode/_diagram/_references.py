"""The references of a graph as the picture needs them: who refers to whom, and what lies below what."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import jax

from .._describe import shape_text
from .._graph._graphdef import GraphDef
from .._graph._table import RootSpec
from .._graph._template import NodeSpec
from .._paths import Path
from .._state import StateSpec

# The number of a root that is a pytree, above all objects.
ROOT: Final = -1

# The path of a reference within its node, and the number of the object.
Reference: TypeAlias = tuple[Path, int]


class References(NamedTuple):
    """A graph by the numbers of its objects (nodes and States), which are in pre-order.

    Attributes:
        specs: The spec of each object.
        parents: The node that each object is first seen in; `ROOT` at the top.
        rows: The references of each node, and of `ROOT` where the root is a pytree.
        ends: One more than the last number at or below each object.
        counts: How many references there are to each object.
        values: The shapes of each State's value, as a text; empty for a node.
    """

    specs: Sequence[NodeSpec | StateSpec]
    parents: Sequence[int]
    rows: dict[int, list[Reference]]
    ends: list[int]
    counts: Counter[int]
    values: list[str]

    @property
    def root(self) -> int:
        """The number of the root."""
        return ROOT if ROOT in self.rows else 0

    def is_node(self, number: int) -> bool:
        """Whether an object is a node, and not a State."""
        return isinstance(self.specs[number], NodeSpec)

    def is_below(self, number: int, top: int) -> bool:
        """Whether an object is first seen at or below a node."""
        return top <= number < self.ends[top]


# Any: the class of the root, and whatever the values of States are.
def references_of(graphdef: GraphDef[Any], objects: Sequence[Any]) -> References:
    """The references of a graph.

    Args:
        graphdef: Its structure.
        objects: Its nodes and States, by number.
    """
    table, first = graphdef.table, graphdef.tokens[0]
    rows: dict[int, list[Reference]] = {}
    if isinstance(first, RootSpec):
        rows[ROOT] = list(zip(first.edges, table.top, strict=True))
    for number, row in table.rows.items():
        spec = table.specs[number]
        assert isinstance(spec, NodeSpec)  # only nodes have rows
        rows[number] = list(zip(spec.edges, row, strict=True))
    ends = list(range(1, len(table.specs) + 1))
    # From the last one up, so that each end is known before that of its parent.
    for number in reversed(range(len(ends))):
        parent = table.parents[number]
        if parent != ROOT:
            ends[parent] = max(ends[parent], ends[number])
    counts = Counter([target for row in rows.values() for _, target in row])
    values = [
        value_text(item._value) if isinstance(spec, StateSpec) else ""
        for spec, item in zip(table.specs, objects, strict=True)
    ]
    return References(table.specs, table.parents, rows, ends, counts, values)


# Any: a State's value is any pytree.
def value_text(value: Any) -> str:
    """The shapes in a State's value: `float32[2,3]`; of several arrays the first two, and how many more."""
    texts = [_leaf_text(leaf) for leaf in jax.tree.leaves(value)]
    if len(texts) > 3:
        texts[2:] = [f"{len(texts) - 2} more"]
    return ", ".join(texts)


def _leaf_text(leaf: Any) -> str:
    """For `value_text`: the shape of an array; the class of anything else that a State may hold."""
    return shape_text(leaf) if hasattr(leaf, "dtype") else type(leaf).__name__
