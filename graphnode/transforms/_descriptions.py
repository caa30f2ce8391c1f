"""The descriptions of States in a pytree, when all arrays have got an axis, or have lost one.

They stand in state trees, alone or in what `gn.graph_to_tree` gives, and in what stands
for a node in a result. An explicit sharding and the named axes of `stack(name=...)`
must follow the values.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import jax

from .._graph._graphdef import GraphDef
from .._graph._layout import intern_layout
from .._graph_to_tree import NodeStates
from .._stack_axes import with_specs
from .._state import StateSpec
from .._statetree import StateTree, TreefyState
from ._result_nodes import ResultNode

# From the description of a State, its value, the axis of its arrays and its name in a
# message to its new description.
Move: TypeAlias = Callable[[StateSpec, Any, Any, str], StateSpec]

_DESCRIBED: Final = (StateTree, TreefyState, NodeStates, ResultNode)
_Part: TypeAlias = NodeStates | ResultNode


def describes_states(tree: Any) -> bool:
    """Whether there are descriptions of States in a pytree: without any, `moved` has nothing to do."""
    return any(map(_is_described, jax.tree.leaves(tree, is_leaf=_is_described)))


def _is_described(part: object) -> bool:
    """For `is_leaf`: whether a part of a pytree describes States, so that JAX leaves it whole."""
    return isinstance(part, _DESCRIBED)


def moved(
    tree: Any, axes: Iterable[Any], names: Iterable[str], move: Move, own: int = 0
) -> Any:
    """A pytree with other descriptions of its States, and the same values.

    For `vmap` and `scan`, whose arrays lose an axis on the way in, and get one on the
    way out: `move` says what becomes of the description.

    Args:
        tree: The pytree.
        axes: Of each of its leaves. Of a value that is a pytree, all arrays have the
            axis of the first.
        names: Of each of its leaves, in messages.
        move: Gives the new description of a State.
        own: How many States are the caller's, the first ones, which stay as they are
            in the nodes of a result.
    """
    return _Moving(zip(axes, names, strict=True), move, own).moved(tree)


@dataclasses.dataclass(frozen=True, slots=True)
class _Moving:
    """A walk over the leaves of a pytree, in order.

    Attributes:
        rows: The axis and the name of each leaf that is yet to come.
        move: Gives the new description of a State.
        own: How many States are the caller's, the first ones, which stay as they are in
            the nodes of a result.
    """

    rows: Iterator[tuple[Any, str]]
    move: Move
    own: int

    def moved(self, tree: Any) -> Any:
        """A pytree with new descriptions; its leaves take the next rows, in order."""
        parts, treedef = jax.tree.flatten(tree, is_leaf=_is_described)
        return jax.tree.unflatten(
            treedef, _with_graphdefs(list(map(self._part, parts)))
        )

    def _part(self, part: Any) -> Any:
        """A leaf, or what holds descriptions of States, with new descriptions; takes the rows of its leaves."""
        if isinstance(part, ResultNode):
            place = part.graphdef.layout.below(part.place)
            # The number of its first State in the whole graph: those before `own` are
            # the caller's. A node without States has no place there.
            first = 0 if place is None else place[1]
            return ResultNode(
                part.graphdef,
                part.place,
                self._tree(part.states, max(self.own - first, 0)),
            )
        if isinstance(part, NodeStates):
            return NodeStates(part.graphdef, part.place, self._tree(part.states))
        if isinstance(part, StateTree):
            return self._tree(part)
        if isinstance(part, TreefyState):
            return TreefyState(*self._state(part.spec, part.value))
        # A leaf without description: its row is passed over, so that the next one fits.
        next(self.rows)
        return part

    def _tree(self, tree: StateTree, own: int = 0) -> StateTree:
        """A state tree with new descriptions and the same values; its first `own` States keep theirs."""
        layout = tree.layout
        states = [
            self._state(spec, value)
            for spec, value in zip(layout.specs, tree._values, strict=True)
        ]
        specs = layout.specs[:own] + tuple([spec for spec, _ in states[own:]])
        # A layout is interned, which costs: it stays where nothing changes.
        if specs != layout.specs:
            layout = intern_layout(
                layout.parents, layout.keys, layout.leaves, specs, layout.references
            )
        return StateTree(layout, tuple([value for _, value in states]))

    def _state(self, spec: StateSpec, value: Any) -> tuple[StateSpec, Any]:
        """The new description of a State, and its value, which may itself hold descriptions."""
        # One row for each array in the value.
        rows = list(itertools.islice(self.rows, len(jax.tree.leaves(value))))
        if not rows:
            return spec, value
        axis, name = rows[0]
        if not isinstance(value, jax.Array):  # of a Hessian, it is a state tree again
            value = dataclasses.replace(self, rows=iter(rows)).moved(value)
            if isinstance(axis, int) and axis < 0 and describes_states(value):
                # The arrays below have it at several positions, each described there
                return spec, value
        return self.move(spec, value, axis, name), value


def _with_graphdefs(parts: Sequence[Any]) -> list[Any]:
    """These parts of a pytree, with graphdefs that have the descriptions of their state trees.

    A graphdef describes all its States too: nodes are built from it, and would have the
    axes of before.
    """
    new = list(parts)
    for numbers in _converted_together(parts):
        group: list[_Part] = [parts[number] for number in numbers]
        specs = {at: spec for part in group for at, spec in _specs_in(part).items()}
        graphdef = _with_changed(group[0].graphdef, specs)
        for number, part in zip(numbers, group, strict=True):
            new[number] = type(part)(graphdef, part.place, part.states)
    return new


def _specs_in(part: _Part) -> dict[int, StateSpec]:
    """The descriptions in the state tree of a part, by the number that each State has in the part's whole graphdef."""
    place = part.graphdef.layout.below(part.place)
    return {} if place is None else dict(enumerate(part.states.layout.specs, place[1]))


def _with_changed(
    graphdef: GraphDef[Any], specs: dict[int, StateSpec]
) -> GraphDef[Any]:
    """A graphdef in which the States of these numbers have these descriptions; itself, if none differs."""
    before = graphdef.layout.specs
    # By identity: `move` gives back the very description that it leaves as it is.
    changed = {
        number: spec for number, spec in specs.items() if spec is not before[number]
    }
    return with_specs(graphdef, changed) if changed else graphdef


def _converted_together(parts: Sequence[Any]) -> list[list[int]]:
    """The numbers of the parts that nodes were converted to by one call: of one structure, each at another place.

    They share one graphdef, and must go on sharing one: nodes are made of all of them at
    once.
    """
    groups: list[dict[int, int]] = []
    of_graphdef: dict[GraphDef[Any], list[dict[int, int]]] = {}
    for number, part in enumerate(parts):
        if not isinstance(part, (NodeStates, ResultNode)):
            continue
        alike = of_graphdef.setdefault(part.graphdef, [])
        # A place that is taken belongs to another call, of an equal structure.
        group = next((group for group in alike if part.place not in group), None)
        if group is None:
            group = {}
            alike.append(group)
            groups.append(group)
        group[part.place] = number
    return [list(group.values()) for group in groups]
