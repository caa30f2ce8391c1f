"""A pytree with nodes in it, as JAX takes it: the residuals of `custom_vjp`, the elements of `associative_scan`."""

import dataclasses
from typing import Any

import jax

from .._graph_to_tree import graph_to_tree, tree_to_graph
from .._static import GraphObject


@jax.tree_util.register_static
class _Place:
    """Stands for a node among what was separated, all of which are alike."""

    # Equal and hashable, as it is a part of a treedef.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Place)

    def __hash__(self) -> int:
        return hash(_Place)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True)
class Separated:
    """A pytree with nodes in it as one of arrays alone, which JAX takes.

    Attributes:
        others: The pytree, with a `_Place` for each node. `NodeStates` in it are the
            user's, and stay.
        nodes: The nodes, in order, as pytrees.
    """

    others: Any
    nodes: list[Any]

    @classmethod
    def of(cls, tree: Any) -> "Separated":
        """A pytree of the user's, with its nodes taken out as pytrees."""
        leaves, treedef = jax.tree.flatten(tree)
        nodes = [leaf for leaf in leaves if isinstance(leaf, GraphObject)]
        others = [
            _Place() if isinstance(leaf, GraphObject) else leaf for leaf in leaves
        ]
        return cls(jax.tree.unflatten(treedef, others), graph_to_tree(nodes)[0])

    def live(self) -> tuple[Any, list[Any]]:
        """The pytree as it was, and the nodes in it, which are new."""
        nodes: list[Any] = tree_to_graph(self.nodes)
        following = iter(nodes)

        def put(part: Any) -> Any:
            """A leaf of the pytree, or the next node in place of a `_Place`."""
            return next(following) if isinstance(part, _Place) else part

        return jax.tree.map(
            put, self.others, is_leaf=lambda part: isinstance(part, _Place)
        ), nodes
