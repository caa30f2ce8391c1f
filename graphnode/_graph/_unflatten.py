"""Build live graphs: nodes and States of a graphdef around values in layout order.

    tokens    NodeSpec(Net)  NodeSpec(Linear)  StateSpec  StateSpec  NodeSpec(Linear)  StateSpec  2
    number          0                1             2          3             4              5      (shared)

    assembly  nodes 0, 1, 4 and States 2, 3, 5; sorted by spec, as work for C:
              1. make all objects, empty           object.__new__ over columns of classes
              2. fill the States of each spec      spec, value, trace, contracts
              3. fill the nodes of each spec       rows of the node and its children:
                                                   Linear: (1, 2, 3), (4, 5, 2)   Net: (0, 1, 4)

As all objects exist before one is filled, sharing and cycles need no care, and nothing
recurses.
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
from ._binding import Binding, versions_of
from ._binding_cache import JointBindings, joint_key, keep_joint
from ._graphdef import GraphDef
from ._table import RootSpec
from ._template import NodeSpec, Watch, fill

_new: Final = object.__new__


@gc_paused
def build(graphdef: GraphDef[Any], values: Sequence[Any]) -> Any:
    """The live graph of a graphdef with new States that hold these values, in layout order.

    For `gn.clone`, merges of state trees, and the copies that a transformed function
    works on.

    Raises:
        FieldError: Some values cannot be held by a State; names all.
    """
    trace = current_trace()
    # Plain arrays need no look at their values, and are what nearly all States hold.
    is_plain = PLAIN.issuperset(map(type, values))
    if not is_plain:
        values = _state_values(graphdef, values)
    states = _new_states(graphdef, values, trace)
    # In a trace, the trace stands in place of a mark.
    may_have_marks = not is_plain and trace is None
    if may_have_marks:
        for state, value in zip(states, values, strict=True):
            if is_container(value):
                mark_container(state)
    return rebuild(graphdef, states, () if trace is None else (trace,), may_have_marks)


def _state_values(graphdef: GraphDef[Any], values: Sequence[Any]) -> list[Any]:
    """Values as new States keep them.

    For `build`: with the paths of the States that refuse theirs, for the error.

    Raises:
        FieldError: Names all that a State cannot hold.
    """
    try:
        return [take_in(value, str) for value in values]
    except FieldError:
        # Only now are paths made: those of a long chain would cost its square.
        paths = [path_str(path) for path in graphdef.layout.paths()]
        return take_in_all(values, paths)


def _new_states(
    graphdef: GraphDef[Any], values: Sequence[Any], trace: TraceRef | None
) -> list[State[Any]]:
    """New States of a graphdef, filled by loops that run in C; steps 1 and 2 of the module docstring.

    For `build`, before `rebuild` puts nodes around them.

    Args:
        graphdef: The structure.
        values: Their values, in layout order.
        trace: The trace that runs, if one does.
    """
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
    """The live graph of a graphdef around these States: steps 1 and 3 above. No user code runs.

    For `gn.unflatten`, `gn.view` and `build`. The binding is known at once, so that a
    first split of the result costs no walk.

    Args:
        graphdef: The structure.
        states: The States, in layout order.
        traces: The traces that the States were made in.
        has_marks: Whether some may be marked, if that is known.

    Returns:
        The root, with its binding.
    """
    # Read before anything is made, as in `walk`.
    clock = CLOCK.now
    assembly = graphdef.assembly
    nodes: list[Any] = list(starmap(_new, assembly.node_classes))
    objects = nodes + states
    first = graphdef.tokens[0]
    # One version for all: nobody else has seen them yet.
    version = Version()
    # Without the root, which the binding must not hold.
    watched = nodes[1:]
    if isinstance(first, RootSpec):
        roots = set(assembly.top)
        watched = [node for number, node in enumerate(nodes) if number not in roots]
    watch = Watch(watched, [version] * len(watched))
    for spec, pick in assembly.groups:
        fill(spec, pick(objects), watch)
    # Runs the loop in C; a deque of length 0 keeps nothing.
    deque(map(set_version, nodes, repeat(version)), maxlen=0)
    if not isinstance(first, RootSpec):
        root = nodes[0]
        set_binding(
            root, Binding(graphdef, states, watch, [version], clock, traces, has_marks)
        )
        return root
    leaves = [objects[assembly.top[at]] for at in first.order]
    # A joint binding is kept on its first root, which a State cannot do.
    if leaves and isinstance(leaves[0], NodeBase):
        binding = Binding(
            graphdef, states, watch, versions_of(leaves), clock, traces, has_marks
        )
        bindings = JointBindings()
        set_joint(leaves[0], bindings)
        keep_joint(bindings, joint_key(first.treedef, leaves), binding, leaves)
    return first.treedef.unflatten(leaves)


def build_missing(
    graphdef: GraphDef[Any], existing: Sequence[Any], values: Sequence[Any]
) -> list[Any]:
    """The objects of a graph whose first ones exist already; the others are built.

    For the result of a transformed function: nodes that went in come out as the same
    objects, and may be held by new ones.

    Args:
        graphdef: The structure of all.
        existing: The nodes and States that exist, by their number in it.
        values: The values of the new States, in layout order.

    Returns:
        All nodes and States by number. The new nodes refer to existing objects where the
        structure says so; States among these get the contracts of the new nodes' fields.
    """
    table, trace, rest = graphdef.table, current_trace(), iter(values)
    contracts = graphdef.contracts_from(len(existing))
    for number, requirements in contracts.items():
        if number < len(existing):
            state = existing[number]
            for requirement in requirements:
                state._contracts = with_requirement(state._contracts, requirement)
    objects = [*existing, *[_new(spec.cls) for spec in table.specs[len(existing) :]]]
    for number in range(len(existing), len(objects)):
        spec = table.specs[number]
        new: Any = objects[number]
        if isinstance(spec, NodeSpec):
            row = (new, *[objects[child] for child in table.rows[number]])
            # In no binding: there is nothing to watch.
            fill(spec, [row], Watch([], []))
            set_version(new, birth())
        else:
            new._spec = spec
            # As `State.__init__` does, which does not run.
            new._mark = trace
            new._contracts = contracts.get(number, ())
            value = take_in(next(rest), functools.partial(str, spec.cls.__name__))
            store(new, value)
    return objects
