r"""Twins: nodes that stand for one model, as a node, its views, its shallow copies and what `replace` makes of it do.

Nothing is noted when such a node is made. But twins share all their States, so that their graphs differ in static
values alone; and a node that reaches no State has the place in its graph that its twin has in the other:

    net ---> act             net and twin reach the same w by the same paths: they are twins, and so are the linears.
      \---> linear ---> w    act and act' reach no State, and are twins as each is the `act` of one of two twins.
    twin --> act'
      \---> linear' --> w
"""

import gc
from collections.abc import Hashable, Iterator, Set
from typing import Any

from ._containers import leaves
from ._fields import NodeBase
from ._paths import Path
from ._state import State


class Twins:
    """Tells which nodes are twins, as long as no structure changes."""

    def __init__(self, cls: type[NodeBase], fields: Set[str]) -> None:
        """Twins in a world where the nodes of one class still hold its fields of before.

        Args:
            cls: The class.
            fields: The names of the fields of before.
        """
        self._cls, self._fields = cls, fields
        self._forms: dict[int, Hashable | None] = {}
        self._holders: dict[int, list[tuple[NodeBase, Path]]] | None = None

    def keys(self, node: NodeBase) -> set[Hashable]:
        """Keys of a node. Two nodes are twins if they have one in common."""
        form = self._form(node)
        return self._places(node) if form is None else {form}

    def _places(self, node: NodeBase) -> set[Hashable]:
        """The places of a node that reaches no State in the nearest nodes above it that do."""
        keys = set[Hashable]()
        seen = {id(node)}
        todo: list[tuple[NodeBase, tuple[Path, ...]]] = [(node, ())]
        while todo:
            below, way = todo.pop()
            for holder, path in self._holders_of(below):
                form = self._form(holder)
                if form is not None:
                    keys.add((type(node), form, path, *way))
                elif id(holder) not in seen:
                    seen.add(id(holder))
                    todo.append((holder, (path, *way)))
        return keys

    def _form(self, node: NodeBase) -> Hashable | None:
        if id(node) not in self._forms:
            self._forms[id(node)] = self._form_of(node)
        return self._forms[id(node)]

    def _form_of(self, root: NodeBase) -> Hashable | None:
        """The graph of a node, with the States themselves and without static values; `None` where it has no States."""
        numbers: dict[int, int] = {}
        tokens: list[object] = []
        has_states = False
        todo: list[tuple[Path, Any]] = [((), root)]
        while todo:
            path, value = todo.pop()
            tokens.append(path)
            if isinstance(value, State):
                tokens.append(id(value))
                has_states = True
            elif id(value) in numbers:
                tokens.append(numbers[id(value)])
            else:
                numbers[id(value)] = len(numbers)
                tokens.append(type(value))
                todo += self._content(value)
        return tuple(tokens) if has_states else None

    def _holders_of(self, node: NodeBase) -> list[tuple[NodeBase, Path]]:
        if self._holders is None:
            self._holders = {}
            for holder in live_nodes():
                for path, value in self._content(holder):
                    self._holders.setdefault(id(value), []).append((holder, path))
        return self._holders.get(id(node), [])

    def _content(self, node: NodeBase) -> list[tuple[Path, Any]]:
        """The States and nodes that a node holds, with their paths in it, in canonical order."""
        # Of its plan, as a class that still waits for a name has no schema yet, and is not to be compiled now.
        names = self._fields if type(node) is self._cls else type(node)._plan.names
        found: list[tuple[Path, Any]] = []
        for name in sorted(node.__dict__.keys() & names):
            for path, value in leaves(node.__dict__[name]):
                if isinstance(value, (State, NodeBase)):
                    found.append(((name, *path), value))
        return found


def live_nodes() -> Iterator[NodeBase]:
    """All nodes that there are."""
    for item in gc.get_objects():
        if issubclass(type(item), NodeBase):
            yield item
