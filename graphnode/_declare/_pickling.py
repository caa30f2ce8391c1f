"""Pickle live nodes: a graph is written as one row of nodes, so that its depth is bounded by memory alone.

Pickle would go from a node into its fields, and from there into the next node. Here a
node is written empty, and its content waits in a row:

    a -> b -> c      a, empty; the row: (a, its fields with b, empty), (b, its fields with c, empty), (c, its fields)

Only the pickler knows, by its memo, which nodes it has written. So the row is made while
it is written, and a node that a pickler meets twice, also from another root, is one node
afterwards. `_unpickling` fills the nodes at the end of the row, children first, as pickle
would.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

from .._fields import NodeBase
from .._registered import pickled
from ._copying import Reduction
from ._unpickling import Declared, declared_by, new_graph, same, settle


class _Local(threading.local):
    """The row that the pickler of this thread is writing, if it may still be joined."""

    row: "_Row | None" = None


_CURRENT = _Local()


def reduce_in_row(node: NodeBase, reduction: str | Reduction) -> str | Reduction:
    """The reduction by which pickle writes a node empty, and its content in the row.

    For `pickle.dumps(node)`, by `Node.__reduce_ex__`: no node leads the pickler into
    the next.

    Args:
        node: The node.
        reduction: Its reduction by `object.__reduce_ex__`.
    """
    if isinstance(reduction, str):
        return reduction
    make, args, *rest = reduction
    # The protocols before 2 leave out an empty state.
    state = rest[0] if rest else node.__getstate__()
    # Nothing to set later: pickle may write the node as it is.
    if state is None:
        return reduction
    if isinstance(state, dict):
        state = {name: pickled(value) for name, value in state.items()}
    # `settle` sets the state: pickle would call the node's own `__setstate__`, with the
    # row.
    return make, args, _Content(node, state), None, None, settle


class _Content:
    """The content of a node that waits to be written. In its place, the pickle has the row that it waits in."""

    __slots__ = ("node", "state")

    def __init__(self, node: NodeBase, state: object) -> None:
        self.node, self.state = node, state

    def __reduce__(self) -> tuple[Callable[["_Row"], "_Row"], tuple["_Row"]]:
        # Called when the pickler has written the empty node: only now is it known that
        # this pickler has it. The pickle gets the row, once, in place of the content.
        row = _CURRENT.row or _Row()
        row.waiting.append(self)
        return same, (row,)


class _Row:
    """The nodes that wait to be written into one pickle.

    Attributes:
        waiting: Their contents, in the order in which the pickler has met them.
        is_open: Whether a pickler has begun to write it.
        is_offered: Whether nodes may still join it.
    """

    def __init__(self) -> None:
        self.waiting: deque[_Content] = deque()
        self.is_open, self.is_offered = False, True
        self._declared: dict[type, Declared] = {}

    def __reduce__(self) -> Reduction:
        # A pickler asks once, and then has the row in its memo. So it is another pickler
        # that asks again: one that runs inside of the first (in a `__getstate__` that
        # pickles), or after it failed. The last content is the new pickler's, and begins
        # a new row. Nothing may join the old one, which is in the new memo, too.
        if self.is_open:
            self.is_offered = False
            self._leave()
            other = _Row()
            other.waiting.append(self.waiting.pop())
            return same, (other,)
        self.is_open = True
        # As list items, which pickle takes from an iterator while it writes them.
        return new_graph, (), None, self._entries()

    def _entries(self) -> Iterator[object]:
        """The entries of the row, which grows while the pickler writes them.

        Pickle takes them from this iterator, as the items of a list.
        """
        try:
            self._join()
            while True:
                while self.waiting:
                    yield from self._written(self.waiting.popleft())
                # A pickler takes a batch of entries before it writes them, and more
                # nodes may join while it does. So the row is over only once the pickler
                # has written this mark; until then it gets entries that mean nothing.
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
        """The entries of a node: of its class, unless the row has it already, and of its content.

        For `_entries`. What the class declares is there for a class that has changed
        when it is loaded.
        """
        cls = type(content.node)
        if cls not in self._declared:
            self._declared[cls] = declared_by(cls)
            yield cls, self._declared[cls]
            self._join()
        yield content.node, content.state
        self._join()

    def _join(self) -> None:
        """Make this the row that nodes join in this thread, unless it no longer takes any.

        For the nodes that the pickler meets next: `_Content.__reduce__` puts them into
        the row of the thread.
        """
        # Whenever the pickler comes back for an entry: others may have run in between.
        _CURRENT.row = self if self.is_offered else None

    def _leave(self) -> None:
        """Have no more nodes join this row.

        A node that is pickled from here on begins a row of its own.
        """
        if _CURRENT.row is self:
            _CURRENT.row = None


class _Mark:
    """An entry that records that the pickler has written it; in the pickle it is `None`."""

    is_written = False

    def __reduce__(self) -> tuple[Callable[[None], None], tuple[None]]:
        self.is_written = True
        return same, (None,)
