"""Pickles of live nodes: a graph is written as one row of nodes, so that its depth is bounded by memory alone.

Pickle would go from a node into its fields, and from there into the next node. Here a
node is written empty, and what it holds waits in line:

    a -> b -> c      a, empty; the row: (a, its fields with b, empty), (b, its fields with c, empty), (c, its fields)

Which nodes are written already, the pickler alone knows, in its memo; so the row is
made while it is written, and a node that a pickler meets twice, also from another root,
is one node afterwards. What is loaded is filled at the end of the row, children first,
as pickle would.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

from .._fields import NodeBase
from .._registered import pickled
from ._copying import Reduction
from ._unpickling import Declared, declared_by, new_graph, same, settle


class _Local(threading.local):
    """What the pickler that runs in this thread is writing, as far as one knows."""

    row: "_Row | None" = None


_CURRENT = _Local()


def reduce_in_row(node: NodeBase, reduction: str | Reduction) -> str | Reduction:
    """How pickle writes a node whose own way would be `reduction`: empty, and what it holds in the row.

    Args:
        node: The node.
        reduction: What `object.__reduce_ex__` says of it.
    """
    if isinstance(reduction, str):
        return reduction
    make, args, *rest = reduction
    # The old protocols leave out a state without fields
    state = rest[0] if rest else node.__getstate__()
    if state is None:
        return reduction
    if isinstance(state, dict):
        state = {name: pickled(value) for name, value in state.items()}
    # With a function that sets the state: to the node's own `__setstate__` pickle would
    # hand what is not a state yet.
    return make, args, _Content(node, state), None, None, settle


class _Content:
    """What a node holds, in its place in a pickle: there stands the row that it waits in."""

    __slots__ = ("node", "state")

    def __init__(self, node: NodeBase, state: object) -> None:
        self.node, self.state = node, state

    def __reduce__(self) -> tuple[Callable[["_Row"], "_Row"], tuple["_Row"]]:
        row = _CURRENT.row or _Row()
        row.waiting.append(self)
        return same, (row,)


class _Row:
    """The nodes that wait to be written into one pickle.

    Attributes:
        waiting: What they hold, in the order that the pickler met them in.
        is_open: Whether a pickler has begun to write it.
        is_offered: Whether nodes that are met may still join it.
    """

    def __init__(self) -> None:
        self.waiting: deque[_Content] = deque()
        self.is_open, self.is_offered = False, True
        self._declared: dict[type, Declared] = {}

    def __reduce__(self) -> Reduction:
        # A pickler asks once, and then has the row in its memo. Asked again, it is
        # another one, which runs inside of the first (a `__getstate__` that pickles) or
        # after it failed. The last node is its own, and begins a new row. The new
        # pickler has this row in its memo now, so nobody may join it any more.
        if self.is_open:
            self.is_offered = False
            self._leave()
            other = _Row()
            other.waiting.append(self.waiting.pop())
            return same, (other,)
        self.is_open = True
        return new_graph, (), None, self._entries()

    def _entries(self) -> Iterator[object]:
        """The entries of the row, which grows while the pickler writes them."""
        try:
            self._join()
            while True:
                while self.waiting:
                    yield from self._written(self.waiting.popleft())
                # A pickler asks for some entries ahead of those that it writes: the row
                # is over once it has written all, and until then it gets something to
                # skip.
                mark = _Mark()
                yield mark
                self._join()
                while not self.waiting and not mark.is_written:
                    yield None
                    self._join()
                if not self.waiting:
                    return
        finally:
            self._leave()

    def _written(self, content: _Content) -> Iterator[object]:
        cls = type(content.node)
        if cls not in self._declared:
            self._declared[cls] = declared_by(cls)
            yield cls, self._declared[cls]
            self._join()
        yield content.node, content.state
        self._join()

    def _join(self) -> None:
        # Only the pickler of this row goes on with it: what it meets next joins here,
        # whatever ran in between.
        _CURRENT.row = self if self.is_offered else None

    def _leave(self) -> None:
        if _CURRENT.row is self:
            _CURRENT.row = None


class _Mark:
    """Stands at the end of what waits, and notices when the pickler gets there. A pickle holds `None` for it."""

    is_written = False

    def __reduce__(self) -> tuple[Callable[[None], None], tuple[None]]:
        self.is_written = True
        return same, (None,)
