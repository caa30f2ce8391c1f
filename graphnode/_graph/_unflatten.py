"""Graphs put together again: nodes of a graphdef around values, all of them or some.

Data in: a graphdef, and values in layout order. Data out: nodes and States that are
new, or some that are known.
"""

import functools
from collections import deque
from collections.abc import Sequence
from itertools import repeat, starmap
from typing import Any, Final

from .._compat import PLAIN, TraceRef, current_trace
from .._declare._plan import with_requirement
from .._errors import FieldError
from .._fields import NodeBase, set_binding, set_joint, set_version
from .._gc import gc_paused
from .._paths import path_str
from .._state import State, mark_container, store
from .._value import is_container, take_in, take_in_all
from .._versions import CLOCK, Version, birth
from ._binding import Binding, Joint, joint_key, keep_joint, versions_of
from ._graphdef import GraphDef
from ._table import RootSpec
from ._template import NodeSpec, fill

_new: Final = object.__new__


@gc_paused
def build(graphdef: GraphDef[Any], values: Sequence[Any]) -> Any:
    """The live graph of a graphdef with new States that hold these values, in layout order.

    Raises:
        FieldError: A value is nothing that a State can hold; names all.
    """
    trace = current_trace()
    is_plain = PLAIN.issuperset(map(type, values))
    if not is_plain:
        values = _taken_in(graphdef, values)
    states = _new_states(graphdef, values, trace)
    if not is_plain and trace is None:
        for state, value in zip(states, values, strict=True):
            if is_container(value):
                mark_container(state)
    has_marks = not is_plain and trace is None
    return rebuild(graphdef, states, () if trace is None else (trace,), has_marks)


def _taken_in(graphdef: GraphDef[Any], values: Sequence[Any]) -> list[Any]:
    """Values as new States keep them.

    Raises:
        FieldError: Names all that no State can hold.
    """
    try:
        return [take_in(value, str) for value in values]
    except FieldError:
        # Paths are made for faults alone: those of a long chain would cost its square.
        return take_in_all(values, [path_str(path) for path in graphdef.layout.paths()])


def _new_states(
    graphdef: GraphDef[Any], values: Sequence[Any], trace: TraceRef | None
) -> list[State[Any]]:
    assembly = graphdef.assembly
    states: list[State[Any]] = list(starmap(_new, assembly.state_classes))
    for spec, contracts, column in assembly.states:
        spec.cls._fill(column(states), column(values), spec, trace, contracts)
    return states


def rebuild(
    graphdef: GraphDef[Any],
    states: list[State[Any]],
    traces: tuple[TraceRef, ...],
    has_marks: bool | None = None,
) -> Any:
    """The live graph of a graphdef around these States, in layout order. No user code runs.

    Args:
        graphdef: The structure.
        states: The States, in layout order.
        traces: The traces that the States were made in.
        has_marks: Whether some may be marked, if that is known.

    Returns:
        The root, with its binding.
    """
    clock = CLOCK.now
    assembly = graphdef.assembly
    nodes: list[Any] = list(starmap(_new, assembly.node_classes))
    objects = nodes + states
    first = graphdef.tokens[0]
    is_tree = isinstance(first, RootSpec)
    watched: list[Any] = _all_but(nodes, assembly.top) if is_tree else nodes[1:]
    version = Version()
    versions: list[object] = [version] * len(watched)
    for spec, pick in assembly.groups:
        fill(spec, pick(objects), (watched, versions))
    deque(map(set_version, nodes, repeat(version)), maxlen=0)
    watch = (watched, versions)
    if isinstance(first, RootSpec):
        leaves = [objects[assembly.top[at]] for at in first.order]
        if leaves and isinstance(leaves[0], NodeBase):
            binding = Binding(
                graphdef, states, watch, versions_of(leaves), clock, traces, has_marks
            )
            known = Joint()
            set_joint(leaves[0], known)
            keep_joint(known, joint_key(first.treedef, leaves), binding, leaves)
        return first.treedef.unflatten(leaves)
    root = nodes[0]
    set_binding(
        root, Binding(graphdef, states, watch, [version], clock, traces, has_marks)
    )
    return root


def _all_but(nodes: list[Any], numbers: Sequence[int]) -> list[Any]:
    left_out = set(numbers)
    return [node for number, node in enumerate(nodes) if number not in left_out]


def graft(
    graphdef: GraphDef[Any], known: Sequence[Any], values: Sequence[Any]
) -> list[Any]:
    """The objects of a graph of which the first ones are live already; the others are made.

    Args:
        graphdef: The structure of all.
        known: The nodes and States that are there, by their number in it.
        values: The values of the new States, in layout order.

    Returns:
        All nodes and States by number. The new nodes refer to the known ones where the
        structure says so, and hold the States among these to the contracts of their
        fields.
    """
    table, trace, rest = graphdef.table, current_trace(), iter(values)
    contracts = graphdef.contracts_from(len(known))
    for number, requirements in contracts.items():
        if number < len(known):
            for requirement in requirements:
                known[number]._contracts = with_requirement(
                    known[number]._contracts, requirement
                )
    objects = [*known, *[_new(spec.cls) for spec in table.specs[len(known) :]]]
    for number in range(len(known), len(objects)):
        spec = table.specs[number]
        made: Any = objects[number]
        if isinstance(spec, NodeSpec):
            fill(
                spec,
                [(made, *[objects[child] for child in table.rows[number]])],
                ([], []),
            )
            set_version(made, birth())
        else:
            made._spec, made._mark, made._contracts = (
                spec,
                trace,
                contracts.get(number, ()),
            )
            store(made, take_in(next(rest), functools.partial(str, spec.cls.__name__)))
    return objects
