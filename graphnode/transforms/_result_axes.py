"""Axes of the results of `gn.vmap` by filter: `out_axes=gn.axes({...})`.

JAX wants the axes of a result before it knows the result. So each lane sorts the leaves
of its result by axis, all of which are known, and they are put back afterwards:

    result  {"net": node (weight: 0, mean: None), "y": array: 0}
    lane    [[weight, y], [mean]], with out_axes [0, None]
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path

from .._compat import is_mapped
from .._errors import AliasError, listed
from .._graph._layout import Layout
from .._graph_to_tree import spread
from .._paths import path_str
from .._state import State, new_state
from .._statetree import StateTree
from ._arguments import Values
from ._axes import Axes
from ._members import Lane
from ._pure import Pure
from ._result_nodes import ResultNode
from ._written import Written


def is_by_filter(out_axes: Any) -> bool:
    """Whether `axes(...)` stands anywhere in a prefix of a result."""
    return any(isinstance(leaf, Axes) for leaf in jax.tree.leaves(out_axes))


def axes_in(out_axes: Any) -> list[Any]:
    """All axes in a prefix of a result, also those of `axes(...)`."""
    axes: list[Any] = []
    for leaf in jax.tree.leaves(out_axes):
        axes += leaf.values if isinstance(leaf, Axes) else [leaf]
    return axes


def unique_axes(out_axes: Any) -> tuple[Any, ...]:
    """The axes that leaves of a result may have, each once: also `None`, as for what no filter accepts."""
    return tuple(dict.fromkeys([None, *axes_in(out_axes)]))


@dataclasses.dataclass(frozen=True, slots=True)
class _Order:
    """How the leaves of a result were sorted; static to JAX.

    Attributes:
        treedef: The structure of the result.
        axes: The axis of each leaf, in order.
    """

    treedef: Any
    axes: tuple[Any, ...]


jax.tree_util.register_static(_Order)


def unsorted(result: Any, axes: Sequence[Any]) -> tuple[Any, Any]:
    """The result of a `SortingLane` as the function gave it, and the axis of each leaf as a prefix of it.

    Args:
        result: What JAX made of the lanes' results.
        axes: As `unique_axes` gives them.
    """
    order, leaves_by_axis = result
    rows = dict(zip(axes, map(iter, leaves_by_axis), strict=True))
    leaves = [next(rows[axis]) for axis in order.axes]
    return order.treedef.unflatten(leaves), order.treedef.unflatten(order.axes)


@dataclasses.dataclass(frozen=True, slots=True)
class SortingLane:
    """A pure function as `jax.vmap` maps it where filters say the axes of its result.

    Attributes:
        pure: The pure function.
        out_axes: A pytree prefix of the user's result.
        in_axes: The axis of each State of the caller.
    """

    pure: Pure
    out_axes: Any  # a prefix of any pytree
    in_axes: tuple[Any, ...]

    @property
    def __name__(self) -> str:
        """The name of the user's function."""
        return self.pure.__name__

    def __repr__(self) -> str:
        return repr(self.pure)

    def __call__(
        self, values: Values, other_leaves: Sequence[Any]
    ) -> tuple[Written, Values, tuple[_Order, list[list[Any]]]]:
        """Call the function, in the trace of `jax.vmap`, and sort the leaves of its result by axis.

        Raises:
            StackError: As of a `Lane`.
            AliasError: A State of the caller's is given another axis than in `in_axes`.
            TypeError: `axes(...)` stands for what is neither a node nor a state tree.
            ValueError: A leaf has no place for its axis, or differs from lane to lane
                and has none.
        """
        outcome = self.pure(values, other_leaves)
        result = outcome[2]
        axes = _Axes(self, values).of(result)
        leaves, treedef = jax.tree.flatten(result)
        prefix = jax.tree.unflatten(treedef, axes)
        Lane(self.pure, prefix).check_keys(outcome, len(values))
        by_axis: dict[Any, list[Any]] = {
            axis: [] for axis in unique_axes(self.out_axes)
        }
        for leaf, axis in zip(leaves, axes, strict=True):
            by_axis[axis].append(leaf)
        order = _Order(treedef, tuple(axes))
        return outcome[0], outcome[1], (order, list(by_axis.values()))


def _is_part(part: object) -> bool:
    """For `is_leaf`: whether a part of a result has an axis for each State."""
    return isinstance(part, (ResultNode, StateTree))


class _Axes:
    """The axes of the leaves of one result; collects what is wrong with them."""

    def __init__(self, lane: SortingLane, values: Values) -> None:
        """Begin without faults, for a lane and the values of the caller's States in it."""
        self._lane, self._caller_count = lane, len(values)
        # Of each State in arguments and result, by its number in the graph of all: its
        # value; and the axis that was given first, with the name of the place.
        self._contents: dict[int, Any] = dict(enumerate(values))
        self._given: dict[int, tuple[Any, str]] = {}
        self._aliases: list[str] = []
        self._faults: list[str] = []

    def of(self, result: Any) -> list[Any]:
        """The axis of each leaf of a result, in order.

        Raises:
            AliasError, TypeError, ValueError: As of a `SortingLane`; names all.
        """
        pairs, treedef = tree_flatten_with_path(result, is_leaf=_is_part)
        parts = [part for _, part in pairs]
        for part in parts:
            if isinstance(part, ResultNode):
                self._contents |= _own_contents(part)
        prefix = self._lane.out_axes
        try:
            values = spread(prefix, jax.tree.unflatten(treedef, [0] * len(parts)))
        except ValueError as error:
            raise ValueError(
                f"gn.vmap: out_axes {prefix!r} is not a prefix of the result: {error}"
            ) from None
        axes: list[Any] = []
        for (key_path, part), value in zip(pairs, values, strict=True):
            axes += self._of_part(part, value, f"result{keystr(key_path)}")
        if self._aliases:
            raise AliasError(f"gn.vmap: inconsistent axes: {listed(self._aliases)}")
        if self._faults:
            raise ValueError(f"gn.vmap: {listed(self._faults)}")
        return axes

    def _of_part(self, part: Any, value: Any, name: str) -> list[Any]:
        """The axis of each leaf of a node, a state tree or another leaf, of which `out_axes` says a value."""
        if isinstance(part, ResultNode) and isinstance(value, Axes):
            return self._of_node(part, value, name)
        if isinstance(part, StateTree) and isinstance(value, Axes):
            return self._of_tree(part, value, name)
        if isinstance(value, Axes):
            raise TypeError(
                f"gn.vmap: {name} is neither a node nor a state tree, and takes no {value!r}"
            )
        if isinstance(part, ResultNode):
            for number in _own_contents(part):
                self._given[number] = value, name
        axes: list[Any] = []
        for leaf in jax.tree.leaves(part):
            axes += self._of_content(leaf, value, name)
        return axes

    def _of_tree(self, tree: StateTree, value: Axes, name: str) -> list[Any]:
        """The axis of each leaf of a state tree."""
        answers = value.over(tree.layout, states_for_filters(tree.layout, tree._values))
        axes: list[Any] = []
        for number, content in enumerate(tree._values):
            where = _name_below(name, tree.layout, number)
            axes += self._of_content(content, answers.get(number), where)
        return axes

    def _of_node(self, part: ResultNode, value: Axes, name: str) -> list[Any]:
        """The axis of each leaf of a node; States of the caller's in it have theirs already."""
        # All States that can be reached from the node, also those that were first seen
        # in an argument, or in an earlier node of the result.
        place = part.graphdef.layout.part((part.place,))
        if place is None:  # no States
            return []
        layout, numbers = place
        contents = [self._contents[number] for number in numbers]
        answers = value.over(layout, states_for_filters(layout, contents))
        own = _own_contents(part)
        axes_of: dict[int, list[Any]] = {}
        for at, number in enumerate(numbers):
            where = _name_below(name, layout, at)
            if number in own:
                axis = answers.get(at)
                self._given[number] = axis, where
                axes_of[number] = self._of_content(contents[at], axis, where)
            elif at in answers:
                self._compare(number, answers[at], where)
        return [axis for number in own for axis in axes_of[number]]

    def _compare(self, number: int, axis: Any, where: str) -> None:
        """Note a fault if a State that was seen elsewhere is given another axis here."""
        if number < self._caller_count:
            first_axis = self._lane.in_axes[number]
            first = f"the argument {self._lane.pure.site.state_name(number)}"
        else:
            first_axis, first = self._given[number]
        if axis != first_axis:
            self._aliases.append(
                f"one State is reached as {first} with {first_axis!r} and as {where} with {axis!r}"
            )

    def _of_content(self, content: Any, axis: Any, where: str) -> list[Any]:
        """The axis of each leaf of a value; notes a fault where it has no place for it, or would need one."""
        leaves = jax.tree.leaves(content)
        for leaf in leaves:
            shape = jnp.shape(leaf)
            if axis is None and is_mapped(leaf):
                self._faults.append(
                    f"{where} differs from lane to lane: give it an axis in out_axes"
                )
            elif axis is not None and not -len(shape) - 1 <= axis <= len(shape):
                self._faults.append(
                    f"{where} has shape {shape} in a lane, and no place for an axis {axis}"
                )
        return [axis] * len(leaves)


def _own_contents(part: ResultNode) -> dict[int, Any]:
    """The values of the States that are first seen in a node of a result, by their number in the graph of all."""
    place = part.graphdef.layout.below(part.place)
    return {} if place is None else dict(enumerate(part.states._values, place[1]))


def states_for_filters(layout: Layout, contents: Sequence[Any]) -> list[State[Any]]:
    """States for filters that are functions: copies, as those of the lane are closed."""
    return [
        new_state(spec, content)
        for spec, content in zip(layout.specs, contents, strict=True)
    ]


def _name_below(name: str, layout: Layout, number: int) -> str:
    """What a message calls a State of a part of the result."""
    return f"{name}.{path_str(layout.path(number))}".rstrip(".")
