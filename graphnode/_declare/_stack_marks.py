"""Recognize a stacked node when it is loaded after a field was added to its class.

The default or initializer of such a field makes a value for one member, not for a stack. A
stack has no record of itself, but its States do: each names the axes that
`gn.stack(name=...)` has put in, or has a higher rank than its field's contract.
"""

from collections.abc import Set
from typing import Any

import jax
import numpy as np

from .._fields import NodeBase
from .._nesting import leaves
from .._reads import looked_at
from .._state import State


def shows_stack(node: NodeBase, fields: Set[str]) -> bool:
    """Whether a State in some of a node's fields has one axis more than that of a member.

    Its contracts are not checked then, and a default for a new field would be one axis
    short.
    """
    return any(_has_stack_axis(state) for state in _states_in_fields(node, fields))


def holds_new_states(value: object, node: NodeBase, fields: Set[str]) -> bool:
    """Whether a value that was made for a node leads to a State that is in none of some of the node's fields.

    Such a State was made for one member; those that the node shares with its other
    fields are stacked.
    """
    before = set(map(id, _states_in_fields(node, fields)))
    return any(id(state) not in before for state in _states_below([value]))


def _has_stack_axis(state: State[Any]) -> bool:
    """Whether a State records an axis of `gn.stack`, or has a higher rank than one of its contracts.

    For `shows_stack`: a stack without a name leaves its trace in the rank alone.
    """
    if state._spec.stacked:
        return True
    # A value may be a pytree of several arrays.
    array_ranks = [np.ndim(array) for array in jax.tree.leaves(looked_at(state))]
    highest = max(array_ranks, default=0)
    for requirement in state._contracts:
        rank = requirement.contract.rank(dict(requirement.sizes))
        # `None` where an axis stands for any number of axes: then the rank shows
        # nothing.
        if rank is not None and highest > rank:
            return True
    return False


def _states_in_fields(node: NodeBase, fields: Set[str]) -> list[State[Any]]:
    """The States that some of the fields of a node lead to, also through other nodes.

    For `shows_stack` and `holds_new_states`.
    """
    return _states_below([node.__dict__.get(name) for name in fields])


def _states_below(values: list[Any]) -> list[State[Any]]:
    """The States that values lead to, also through nodes.

    For `_states_in_fields`, and for a value that is in no field yet.
    """
    states: list[State[Any]] = []
    visited: set[int] = set()
    todo = list(values)
    while todo:
        for _, leaf in leaves(todo.pop()):
            if isinstance(leaf, State):
                states.append(leaf)
            elif isinstance(leaf, NodeBase) and id(leaf) not in visited:
                visited.add(id(leaf))
                todo += leaf.__dict__.values()
    return states
