"""Copies of live nodes for `copy` and `pickle`: a field's own containers as plain ones, a graph without recursion."""

import copy
from typing import Any

from ._containers import children, is_container, mapped
from ._fields import NodeBase
from ._schema import schema
from ._state import State


def plain(value: Any) -> Any:
    """A field's value with its own containers as plain ones."""
    return mapped(lambda leaf: leaf, value)


def copy_node(node: NodeBase, reduction: "str | tuple[Any, ...]") -> Any:
    """A shallow copy, made as `copy.copy` makes one of what `__reduce_ex__` gives.

    By hand, as a node gives pickle another reduction, in which its state comes later.
    """
    if isinstance(reduction, str):
        return node
    make, args, *rest = reduction
    state, listed, keyed = (*rest, None, None, None)[:3]
    twin = make(*args)
    if state is not None:
        twin.__setstate__(state)
    for item in listed or ():
        twin.append(item)
    for key, item in keyed or ():
        twin[key] = item
    return twin


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
            todo += [value.__dict__.get(field.name) for field in schema(type(value)).holders]
        elif isinstance(value, State):
            copy.deepcopy(value, memo)
        elif is_container(value):
            todo += children(value)

    def copy_of(leaf: Any) -> Any:
        return None if leaf is None else memo[id(leaf)]

    for node in fresh:
        holders = {field.name for field in schema(type(node)).holders}
        state = node.__getstate__()
        copies = {name: mapped(copy_of, value) if name in holders else value for name, value in state.items()}
        memo[id(node)].__setstate__(copies)
    return memo[id(root)]
