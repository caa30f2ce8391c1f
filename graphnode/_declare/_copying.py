"""Copies of live nodes for `copy` and `pickle`: a field's own containers as plain ones, a graph without recursion."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from .._containers import children, is_container, mapped
from .._fields import NodeBase

T = TypeVar("T")

# What `__reduce_ex__` gives.
Reduction: TypeAlias = tuple[Any, ...]


def plain(value: Any) -> Any:
    """A field's value with its own containers as plain ones."""
    return mapped(lambda leaf: leaf, value)


def children_first(
    roots: Iterable[T], enter: Callable[[T], Iterable[T]]
) -> Iterator[T]:
    """Walk a graph without recursion, and give each of its nodes once, after those that it leads to.

    Args:
        roots: Where to begin.
        enter: What a node leads to, the last first. It is called once for each node,
            when the walk gets there.
    """
    visited: set[int] = set()
    for root in roots:
        todo = [(root, False)]
        while todo:
            node, is_after = todo.pop()
            if is_after:
                yield node
            elif id(node) not in visited:
                visited.add(id(node))
                todo.append((node, True))
                todo += [(child, False) for child in enter(node)]


def nodes_in(state: object) -> list[NodeBase]:
    """The nodes in what a `__getstate__` gave, the last first."""
    found: list[NodeBase] = []
    todo = [state]
    while todo:
        value = todo.pop()
        if isinstance(value, NodeBase):
            found.append(value)
        elif is_container(value):
            todo += children(value, as_written=True)
    return found


def copy_node(node: NodeBase, reduction: "str | Reduction") -> Any:
    """A shallow copy, made as `copy.copy` makes one of what `__reduce_ex__` gives.

    By hand, as a node gives pickle another reduction, in which its state comes later.
    """
    if isinstance(reduction, str):
        return node
    make, args, *rest = reduction
    twin = make(*args)
    _fill(twin, rest)
    return twin


def _fill(twin: Any, content: Iterable[Any]) -> None:
    """Give a new object what comes after its constructor in a reduction: state, items of a list, items of a dict."""
    state, listed, keyed = (*content, None, None, None)[:3]
    if state is not None:
        set_state(twin, state)
    for item in listed or ():
        twin.append(item)
    for key, item in keyed or ():
        twin[key] = item


def set_state(node: Any, state: Any) -> None:
    """Have a new node's class set its state, as it likes: also one that writes into `__dict__`, as `pickle` would."""
    node.__setstate__(state)
    if not isinstance(node, NodeBase) or hasattr(node, "_version"):
        return
    # What was written is admitted as fields are: its containers are to be the node's
    # own.
    written = dict(node.__dict__)
    node.__dict__.clear()
    node_base_of(type(node)).__setstate__(node, written)


# Any: `NodeBase` does not declare what `Node` does.
def node_base_of(cls: type[NodeBase]) -> Any:
    """`Node` itself, which stands to the right of here."""
    return next(base for base in cls.__mro__ if NodeBase in base.__bases__)


def deepcopy_graph(
    root: NodeBase,
    memo: dict[int, Any],
    has_own_way: Callable[[NodeBase], bool],
    reduction_of: Callable[[NodeBase], "str | Reduction"],
) -> Any:
    """Copy all nodes that `root` reaches as `copy.deepcopy` would, without recursion: memory alone bounds the depth.

    Args:
        root: The node.
        memo: What was copied in the same call of `copy.deepcopy`, and is shared with
            this copy.
        has_own_way: Whether the class of a node has a `__deepcopy__` of its own, which
            is asked. Not that of `root`, which may have called here itself.
        reduction_of: How a node says that it is made again.
    """
    contents: dict[int, list[Any]] = {}

    def enter(node: NodeBase) -> list[NodeBase]:
        if id(node) in memo:
            return []
        # The memo goes by ids: what a `__getstate__` has just made must live as long as
        # it.
        memo.setdefault(id(memo), []).append(node)
        if node is not root and has_own_way(node):
            memo[id(node)] = copy.deepcopy(node, memo)
            return []
        reduction = reduction_of(node)
        if isinstance(reduction, str):
            memo[id(node)] = node
            return []
        make, args, *content = reduction
        memo[id(node)] = make(*copy.deepcopy(args, memo))
        contents[id(node)] = content
        return nodes_in(_without_statics(node, content[0] if content else None))

    for node in children_first([root], enter):
        if id(node) in contents:
            state, *items = contents.pop(id(node)) or [None]
            copied = [
                copy.deepcopy(list(part), memo) if part is not None else None
                for part in items[:2]
            ]
            _fill(memo[id(node)], [_deepcopy_state(node, state, memo), *copied])
    return memo[id(root)]


def _without_statics(node: NodeBase, state: object) -> object:
    if not isinstance(state, dict):
        return state
    statics = type(node)._plan.statics
    return {name: value for name, value in state.items() if name not in statics}


def _deepcopy_state(node: NodeBase, state: object, memo: dict[int, Any]) -> object:
    """A deep copy of what a `__getstate__` gave, whose nodes are in the memo. Static values are what they are."""
    if not isinstance(state, dict):
        return copy.deepcopy(state, memo)
    statics = type(node)._plan.statics
    return {
        name: value if name in statics else copy.deepcopy(value, memo)
        for name, value in state.items()
    }
