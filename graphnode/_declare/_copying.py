"""Copy live nodes, for `copy` and `pickle`: tracked containers become plain ones, and no graph is too deep."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from .._fields import NodeBase
from .._nesting import children, is_container, mapped

T = TypeVar("T")

# The result of `__reduce_ex__`: a function, its arguments, then state, list items, dict items.
Reduction: TypeAlias = tuple[Any, ...]


def plain(value: Any) -> Any:
    """A field's value with plain containers in place of tracked ones.

    What `__getstate__` gives: a tracked container belongs to its node, and checks what
    is put in.
    """
    return mapped(lambda leaf: leaf, value)


def children_first(
    roots: Iterable[T], enter: Callable[[T], Iterable[T]]
) -> Iterator[T]:
    """Walk a graph in post-order without recursion: each of its nodes once, after its children.

    For deep copies and for loading: a node is filled when its children are, as `copy`
    and `pickle` do it.

    Args:
        roots: Where to begin.
        enter: The children of a node, the last first. It is called once for each node,
            when the walk reaches the node.
    """
    visited: set[int] = set()
    for root in roots:
        todo = [(root, False)]
        while todo:
            node, has_children_done = todo.pop()
            if has_children_done:
                yield node
            elif id(node) not in visited:
                visited.add(id(node))
                # It comes back to the top of the stack when all below its children is
                # done.
                todo.append((node, True))
                todo += [(child, False) for child in enter(node)]


def nodes_in(state: object) -> list[NodeBase]:
    """The nodes in the result of a `__getstate__`, the last first.

    For deep copies and for loading: the children of a node, which are done before it.
    """
    nodes: list[NodeBase] = []
    todo = [state]
    while todo:
        value = todo.pop()
        if isinstance(value, NodeBase):
            nodes.append(value)
        elif is_container(value):
            todo += children(value, as_written=True)
    return nodes


def copy_node(node: NodeBase, reduction: "str | Reduction") -> Any:
    """A shallow copy, made of a reduction as `copy.copy` does.

    For `copy.copy(node)`: a new node with the same States and subnodes.

    Not by `copy.copy`, which would use the reduction for pickles, where the state of a
    node comes later.
    """
    # A string is the name of a global, which is its own copy.
    if isinstance(reduction, str):
        return node
    make, args, *content = reduction
    new = make(*args)
    _put_content(new, content)
    return new


def _put_content(new: Any, content: Iterable[Any]) -> None:
    """Give a new object what comes after its constructor in a reduction: state, items of a list, items of a dict.

    As `copy` and `pickle` do it; nodes are filled here, to avoid their recursion.
    """
    # A reduction may leave out what comes last.
    state, items, pairs = (*content, None, None, None)[:3]
    if state is not None:
        set_state(new, state)
    for item in items or ():
        new.append(item)
    for key, item in pairs or ():
        new[key] = item


def set_state(node: Any, state: Any) -> None:
    """Call the `__setstate__` of a new node, which may be the user's and write into `__dict__`, as `pickle` would.

    So that a class whose `__setstate__` knows nothing of graphnode makes complete
    nodes.
    """
    node.__setstate__(state)
    if not isinstance(node, NodeBase) or hasattr(node, "_version"):
        return
    # It did not call `Node.__setstate__`, which admits the values and sets a version.
    fields = dict(node.__dict__)
    node.__dict__.clear()
    node_base_of(type(node)).__setstate__(node, fields)


# Any: `NodeBase` does not declare what `Node` does.
def node_base_of(cls: type[NodeBase]) -> Any:
    """`Node` itself, which stands to the right of here.

    For its `__setstate__`, where a class has overridden that.
    """
    return next(base for base in cls.__mro__ if NodeBase in base.__bases__)


def deepcopy_graph(
    root: NodeBase,
    memo: dict[int, Any],
    has_own_way: Callable[[NodeBase], bool],
    reduction_of: Callable[[NodeBase], "str | Reduction"],
) -> Any:
    """Copy all nodes that `root` reaches as `copy.deepcopy` would, without recursion: memory alone bounds the depth.

    For `copy.deepcopy(node)`, by `Node.__deepcopy__`.

    Args:
        root: The node.
        memo: What was copied in the same call of `copy.deepcopy`, and is shared with
            this copy.
        has_own_way: Whether the class of a node has a `__deepcopy__` of its own, which
            is called; but not that of `root`, which may be what calls this function.
        reduction_of: The reduction of a node.
    """
    contents: dict[int, list[Any]] = {}

    def enter(node: NodeBase) -> list[NodeBase]:
        """Put an empty copy of a node into the memo; returns the nodes to copy before it is filled."""
        # Copied by an outer call of `copy.deepcopy`, or shared.
        if id(node) in memo:
            return []
        # The memo goes by ids, so what a `__getstate__` has just made must live as long
        # as the memo.
        memo.setdefault(id(memo), []).append(node)
        if node is not root and has_own_way(node):
            memo[id(node)] = copy.deepcopy(node, memo)
            return []
        reduction = reduction_of(node)
        if isinstance(reduction, str):
            memo[id(node)] = node
            return []
        make, args, *content = reduction
        # Into the memo before the children: in a cycle they ask for it while it is
        # empty.
        memo[id(node)] = make(*copy.deepcopy(args, memo))
        contents[id(node)] = content
        return nodes_in(_without_statics(node, content[0] if content else None))

    for node in children_first([root], enter):
        # It was copied as a whole (see `enter`), or in an outer call.
        if id(node) not in contents:
            continue
        state, items, pairs = [*contents.pop(id(node)), None, None, None][:3]
        # Its nodes are in the memo by now, so that `copy.deepcopy` does not recurse
        # into them.
        copied = [
            None if part is None else copy.deepcopy(list(part), memo)
            for part in (items, pairs)
        ]
        _put_content(memo[id(node)], [_deepcopy_state(node, state, memo), *copied])
    return memo[id(root)]


def _without_statics(node: NodeBase, state: object) -> object:
    """The result of a `__getstate__` without static values, whose nodes need no copy.

    For `deepcopy_graph`: it need not go on into a static value.
    """
    if not isinstance(state, dict):
        return state
    statics = type(node)._plan.statics
    return {name: value for name, value in state.items() if name not in statics}


def _deepcopy_state(node: NodeBase, state: object, memo: dict[int, Any]) -> object:
    """A deep copy of the result of a `__getstate__`, whose nodes are in the memo. Static values are not copied.

    For `deepcopy_graph`. Static values never change, and are shared.
    """
    if not isinstance(state, dict):
        return copy.deepcopy(state, memo)
    statics = type(node)._plan.statics
    return {
        name: value if name in statics else copy.deepcopy(value, memo)
        for name, value in state.items()
    }
