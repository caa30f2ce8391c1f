r"""Twins: nodes that stand for one model, as a node, its views, its shallow copies and what `replace` makes of it do.

Nothing is noted when such a node is made. But twins share all their States, so that
their graphs differ in static values alone; and a node that reaches no State has the
place in its graph that its twin has in the other:

    net ---> act             net and twin reach the same w by the same paths: they are twins, and so are the linears.
      \---> linear ---> w    act and act' reach no State, and are twins as each is the `act` of one of two twins.
    twin --> act'
      \---> linear' --> w
"""

import gc
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from typing import Any, NamedTuple

from .._containers import leaves
from .._fields import NodeBase
from .._paths import Path
from .._state import State
from .._static import static_key


class Key(NamedTuple):
    """What a node has in common with its twins: where it lies in the graph of a node, and what static sizes it has."""

    cls: type[NodeBase]
    form: Hashable
    way: tuple[Path, ...]
    shape: tuple[Hashable, ...]


class Pair(NamedTuple):
    """A node with its twin, and its keys, each with the node whose graph it is of."""

    node: NodeBase
    twin: NodeBase | None
    keys: Mapping[Key, NodeBase]


class Twins:
    """Tells which nodes are twins, as long as no structure changes."""

    def __init__(
        self,
        before: Mapping[type, Set[str]],
        nodes: "Callable[[], Iterable[NodeBase]] | None" = None,
    ) -> None:
        """Twins in a world where the nodes of some classes still hold their fields of before.

        Args:
            before: The names of these fields, by the class.
            nodes: Gives the nodes among which holders are looked for; all that there
                are if it is left out.
        """
        self._before, self._nodes = before, nodes or live_nodes
        self._forms: dict[int, Hashable | None] = {}
        self._holders: dict[int, list[tuple[NodeBase, Path]]] | None = None

    def pairs(
        self, nodes: Sequence[NodeBase], sizes: Callable[[NodeBase], Collection[str]]
    ) -> "list[Pair]":
        """Nodes, each with a twin that comes ahead of it, if it has one.

        Args:
            nodes: The nodes.
            sizes: The static fields of a node that what is made for it depends on: its
                twin has equal ones.
        """
        ahead: dict[Hashable, NodeBase] = {}
        found: list[Pair] = []
        for node in nodes:
            # What is made for one size is not for another.
            shape = tuple(
                [static_key(node.__dict__.get(name)) for name in sorted(sizes(node))]
            )
            keys = {
                Key(type(node), self._form(above), way, shape): above
                for above, way in self.around(node)
            }
            found.append(
                Pair(
                    node, next((ahead[key] for key in keys if key in ahead), None), keys
                )
            )
            for key in keys:
                ahead.setdefault(key, node)
        return found

    def has_key(self, node: NodeBase, above: NodeBase, key: "Key") -> bool:
        """Whether a node that had a key has it still.

        Args:
            node: The node.
            above: The node that it had the key from.
            key: The key.
        """
        return type(node) is key.cls and self._form(above) == key.form

    def around(self, node: NodeBase) -> list[tuple[NodeBase, tuple[Path, ...]]]:
        """The nearest nodes that reach a State, and where `node` lies in each: itself, or of those above it."""
        if self._form(node) is not None:
            return [(node, ())]
        found: list[tuple[NodeBase, tuple[Path, ...]]] = []
        seen = {id(node)}
        todo: list[tuple[NodeBase, tuple[Path, ...]]] = [(node, ())]
        while todo:
            below, way = todo.pop()
            for holder, path in self._holders_of(below):
                if self._form(holder) is not None:
                    found.append((holder, (path, *way)))
                elif id(holder) not in seen:
                    seen.add(id(holder))
                    todo.append((holder, (path, *way)))
        return found

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
            for holder in self._nodes():
                for path, value in self._content(holder):
                    self._holders.setdefault(id(value), []).append((holder, path))
        return self._holders.get(id(node), [])

    def _content(self, node: NodeBase) -> list[tuple[Path, Any]]:
        """The States and nodes that a node holds, with their paths in it, in canonical order."""
        # Of its plan, as a class that still waits for a name has no schema yet, and is
        # not to be compiled now.
        names = self._before.get(type(node), type(node)._plan.names)
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
