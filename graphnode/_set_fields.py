"""Give fields of several nodes new values: all, or nothing.

    assign_fields      _changes_of  for each node: what is assigned, what is written into its States, faults
                       commit       with signal handlers held back

For `Selection.set`; which nodes are meant is the affair of `_select`.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ._assignments import assign_all
from ._declare._node import plan_of
from ._declare._plan import changed_faults
from ._declare._schema import schema
from ._describe import describe
from ._errors import FieldError, listed
from ._fields import Kind, NodeBase
from ._hints import did_you_mean, with_hint
from ._inspect import NodeItem
from ._paths import Path, path_str
from ._signals import store_all, undivided
from ._state import State, contract_faults, value_to_store
from ._update import check_may_change


def assign_fields(nodes: Iterable[NodeItem], fields: Mapping[str, object]) -> None:
    """Give fields of several nodes new values: static ones as by assignment, those of States by a write to `.value`.

    Args:
        nodes: The nodes.
        fields: The values, by field.

    Raises:
        FieldError: A field that some node does not have, or a value that it does not
            take; names all. Nothing was changed.
        TraceError: A JAX transformation runs that a node was not made in. Nothing was
            changed.
    """
    changes = [_changes_of(item, fields) for item in nodes]
    faults = [fault for change in changes for fault in change.faults]
    if faults:
        raise FieldError(f"cannot set {', '.join(fields)}: {listed(faults)}")
    writes = [write for change in changes for write in change.writes]
    contents = [value_to_store(*write) for write in writes]
    for change in changes:
        for name in change.assigned:
            check_may_change(change.node, name)

    def commit() -> None:
        """Make the changes. All was checked; no signal handler interrupts it."""
        assign_all(
            [
                (change.node, name, value)
                for change in changes
                for name, value in change.assigned.items()
            ]
        )
        store_all([state for state, _, _ in writes], contents)

    undivided(commit)


class _Changes(NamedTuple):
    """What `assign_fields` does to one node.

    Attributes:
        node: The node.
        assigned: What is assigned to fields.
        writes: The States that are written, each with its value and what gives its path.
        faults: What is wrong; then nothing is changed.
    """

    node: NodeBase
    assigned: dict[str, Any]
    writes: "list[tuple[State[Any], Any, functools.partial[str]]]"
    faults: list[str]


def _changes_of(item: NodeItem, fields: Mapping[str, object]) -> _Changes:
    """For `assign_fields`: what is assigned to one node, what is written into its States, and what is wrong."""
    node: NodeBase = item.live
    changes = _Changes(node, {}, [], [])
    above = path_str(item.path) or type(node).__name__
    for name, value in fields.items():
        field = schema(type(node)).fields.get(name)
        if field is None:
            hint = did_you_mean(name, schema(type(node)).fields)
            what = f"{type(node).__name__} has no field {name!r}"
            changes.faults.append(with_hint(f"{above}: {what}", hint))
        elif field.kind is Kind.STATIC or value is None:
            _add_assignment(changes, name, value, above)
        else:
            _add_write(changes, (*item.path, name), value)
    for fault in changed_faults(node, changes.assigned) if changes.assigned else ():
        changes.faults.append(f"{above}: {fault}")
    return changes


def _add_assignment(changes: _Changes, name: str, value: object, above: str) -> None:
    """For `_changes_of`: an assignment of a static value, or of `None`, or why it is refused.

    Args:
        changes: The changes of the node.
        name: The field.
        value: Its value.
        above: The path of the node, for messages.
    """
    node = changes.node
    try:
        changes.assigned[name] = plan_of(type(node)).admit[name](node, value)
    except FieldError as error:
        changes.faults.append(f"{above}: {error}")


def _add_write(changes: _Changes, path: Path, value: object) -> None:
    """For `_changes_of`: a write into the State of a field, or why it is refused.

    Args:
        changes: The changes of the node.
        path: The path of the field.
        value: The value.
    """
    where = functools.partial(path_str, path)
    held = changes.node.__dict__.get(str(path[-1]))
    if isinstance(value, State | NodeBase):
        what = f"{describe(value)} would be shared by all of the nodes"
        changes.faults.append(
            f"{where()}: {what}; pass a value, or put new nodes in their place with replace"
        )
    elif not isinstance(held, State):
        found = describe(held) if held is not None else "nothing"
        changes.faults.append(f"{where()}: expected a State to write to; found {found}")
    else:
        faults = contract_faults(held, value)
        changes.faults.extend([f"{where()}: {fault}" for fault in faults])
        changes.writes.append((held, value, where))
