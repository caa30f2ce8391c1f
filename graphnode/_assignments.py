"""Assign to fields of nodes and to items of lists and dicts: all, or none if an assignment raises."""

from collections.abc import Sequence
from typing import Any

from ._declare._node import Node
from ._fields import NodeBase
from ._paths import Key


def item_of(holder: Any, key: Key) -> Any:
    """What a field of a node holds, or an item of a container."""
    # Not `getattr`: a property may hide a field.
    return holder.__dict__[str(key)] if isinstance(holder, NodeBase) else holder[key]


def assign_all(assignments: Sequence[tuple[Any, Key, Any]]) -> None:
    """Assign to fields and items, each given as holder, key and value: all, or none if an assignment raises."""
    undo: list[tuple[Any, Key, Any]] = []
    try:
        for holder, key, value in assignments:
            undo.append((holder, key, item_of(holder, key)))
            _assign(holder, key, value)
    except BaseException:
        for holder, key, value in reversed(undo):
            _put_back(holder, key, value)
        raise


def _put_back(holder: Any, key: Key, value: Any) -> None:
    """Assign what was there before: past a `__setattr__` of a class of the user, which may have raised."""
    if isinstance(holder, Node):
        Node.__setattr__(holder, str(key), value)
    else:
        holder[key] = value


def _assign(holder: Any, key: Key, value: Any) -> None:
    """Assign to a field of a node, or to an item of a list or dict."""
    if isinstance(holder, NodeBase):
        setattr(holder, str(key), value)
    else:
        holder[key] = value
