"""How a stacked node is told from one of its members where a field was added to its class since.

What a default or an initializer makes for the field is for one member. A stack has no
record of itself, but its States do: each names the axes that `gn.stack(name=...)` has
put in, or has a higher rank than its field's contract says.
"""

from collections.abc import Set
from typing import Any

import jax
import numpy as np

from .._containers import leaves
from .._fields import NodeBase
from .._state import State


def shows_stack(node: NodeBase, fields: Set[str]) -> bool:
    """Whether what a node holds in some of its fields has an axis more than a member has."""
    return any(
        _has_axis_more(state)
        for state in _states_below([node.__dict__.get(name) for name in fields])
    )


def holds_new_states(value: object, node: NodeBase, fields: Set[str]) -> bool:
    """Whether a value that was made for a node leads to a State that the node does not reach by some of its fields."""
    there = {
        id(state)
        for state in _states_below([node.__dict__.get(name) for name in fields])
    }
    return any(id(state) not in there for state in _states_below([value]))


def _has_axis_more(state: State[Any]) -> bool:
    if state._spec.stacked:
        return True
    ranks = [
        requirement.contract.rank(dict(requirement.sizes))
        for requirement in state._contracts
    ]
    arrays = jax.tree.leaves(state._value)
    return any(
        rank is not None and np.ndim(array) > rank for rank in ranks for array in arrays
    )


def _states_below(values: list[Any]) -> list[State[Any]]:
    found: list[State[Any]] = []
    seen: set[int] = set()
    todo = list(values)
    while todo:
        for _, leaf in leaves(todo.pop()):
            if isinstance(leaf, State):
                found.append(leaf)
            elif isinstance(leaf, NodeBase) and id(leaf) not in seen:
                seen.add(id(leaf))
                todo += leaf.__dict__.values()
    return found
