"""Copies of live nodes for `copy` and `pickle`: a field's own containers as plain ones, a graph without recursion."""

import copy
from collections.abc import Mapping
from typing import Any

from ._fields import NodeBase
from ._schema import schema
from ._state import State
from ._tracked import TrackedDict, TrackedList


def plain(value: Any) -> Any:
    """A field's value with its own containers as plain ones."""
    if isinstance(value, TrackedList):
        return [plain(item) for item in value]
    if isinstance(value, TrackedDict):
        return {key: plain(item) for key, item in value.items()}
    return tuple(map(plain, value)) if type(value) is tuple else value


def deepcopy_graph(root: NodeBase, memo: dict[int, Any]) -> Any:
    """Copy all nodes and States that `root` reaches, with an explicit stack: depth is bounded by memory alone.

    What `memo` holds already was copied in the same call of `copy.deepcopy`, and is shared with that copy.
    """
    todo: list[Any] = [root]
    fresh: list[Any] = []
    while todo:
        value = todo.pop()
        if isinstance(value, NodeBase) and id(value) not in memo:
            fresh.append(value)
            memo[id(value)] = object.__new__(type(value))
            todo.extend(
                value.__dict__[field.name] for field in schema(type(value)).holders if field.name in value.__dict__
            )
        elif isinstance(value, State):
            copy.deepcopy(value, memo)
        elif isinstance(value, (list, tuple)):
            todo.extend(value)
        elif isinstance(value, dict):
            todo.extend(value.values())
    for node in fresh:
        made = memo[id(node)]
        compiled = schema(type(node))
        state = node.__getstate__()
        holders = {field.name for field in compiled.holders}
        made.__setstate__({name: _swap(v, memo) if name in holders else v for name, v in state.items()})
    return memo[id(root)]


def _swap(value: Any, memo: Mapping[int, Any]) -> Any:
    if isinstance(value, list):
        return [_swap(item, memo) for item in value]
    if isinstance(value, dict):
        return {key: _swap(item, memo) for key, item in value.items()}
    if type(value) is tuple:
        return tuple([_swap(item, memo) for item in value])
    return memo[id(value)] if value is not None else None
