r"""Find twins: nodes that stand for one model, such as a node, its views, shallow copies and replacements.

Nothing records that two nodes are twins. But twins share all their States, so that their
graphs differ in static values alone; and a node that reaches no State has the same place
in its graph as its twin has in the other:

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

from .._fields import NodeBase
from .._nesting import leaves
from .._paths import Path
from .._state import State
from .._static import static_key


class Key(NamedTuple):
    """What a node has in common with its twins.

    Attributes:
        cls: Its class.
        form: The graph of the nearest node above it that reaches a State.
        way: The path from there to the node.
        shape: The static keys of its sizes.
    """

    cls: type[NodeBase]
    form: Hashable
    way: tuple[Path, ...]
    shape: tuple[Hashable, ...]


class Pair(NamedTuple):
    """A node with its twin, and its keys, each with the node whose graph is in it."""

    node: NodeBase
    twin: NodeBase | None
    keys: Mapping[Key, NodeBase]


class Twins:
    """Finds the twins among some nodes; valid as long as no structure changes."""

    def __init__(
        self,
        before: Mapping[type, Set[str]],
        nodes: "Callable[[], Iterable[NodeBase]] | None" = None,
    ) -> None:
        """Twins by the fields that classes had before some were added.

        Args:
            before: The names of these fields, for each class that has changed.
            nodes: Gives the nodes that may hold the nodes in question; by default all
                that are alive.
        """
        self._before, self._nodes = before, nodes or live_nodes
        self._forms: dict[int, Hashable | None] = {}
        self._parents: dict[int, list[tuple[NodeBase, Path]]] | None = None

    def pairs(
        self, nodes: Sequence[NodeBase], sizes: Callable[[NodeBase], Collection[str]]
    ) -> "list[Pair]":
        """Nodes, each with a twin among those before it, if it has one.

        For fields that were added to a class: the new States of a node go to its twin,
        too.

        Args:
            nodes: The nodes.
            sizes: The static fields of a node that its new States depend on: those of
                its twin are equal.
        """
        first_with: dict[Hashable, NodeBase] = {}
        pairs: list[Pair] = []
        for node in nodes:
            values = [node.__dict__.get(name) for name in sorted(sizes(node))]
            shape = tuple(map(static_key, values))
            keys = {
                Key(type(node), self._form(above), way, shape): above
                for above, way in self.around(node)
            }
            twins = [first_with[key] for key in keys if key in first_with]
            pairs.append(Pair(node, twins[0] if twins else None, keys))
            # The first node with a key stays the twin of all later ones.
            for key in keys:
                first_with.setdefault(key, node)
        return pairs

    def has_key(self, node: NodeBase, above: NodeBase, key: "Key") -> bool:
        """Whether a node still has a key.

        For twins from another row of a pickle: the graph may have changed since the key
        was made.

        Args:
            node: The node.
            above: The node whose graph is in the key.
            key: The key.
        """
        return type(node) is key.cls and self._form(above) == key.form

    def around(self, node: NodeBase) -> list[tuple[NodeBase, tuple[Path, ...]]]:
        """The nearest nodes that reach a State, the node itself or others above it, each with the path to the node.

        By its States a node is known; one without any is known by its place below such
        a node.
        """
        if self._form(node) is not None:
            return [(node, ())]
        nearest: list[tuple[NodeBase, tuple[Path, ...]]] = []
        visited = {id(node)}
        todo: list[tuple[NodeBase, tuple[Path, ...]]] = [(node, ())]
        while todo:
            below, way = todo.pop()
            for parent, path in self._parents_of(below):
                # This branch ends here: further above are only larger graphs with the
                # same States.
                if self._form(parent) is not None:
                    nearest.append((parent, (path, *way)))
                elif id(parent) not in visited:
                    visited.add(id(parent))
                    todo.append((parent, (path, *way)))
        return nearest

    def _form(self, node: NodeBase) -> Hashable | None:
        """The graph of a node, as `_form_of` gives it; worked out once for each node.

        For keys: equal forms mean the same States by the same paths.
        """
        if id(node) not in self._forms:
            self._forms[id(node)] = self._form_of(node)
        return self._forms[id(node)]

    def _form_of(self, root: NodeBase) -> Hashable | None:
        """The graph of a node, with the identities of its States and without static values; `None` without States.

        Two nodes that give the same here share all their States by the same paths: they
        are twins.
        """
        # Each node by the order in which the walk meets it, so that sharing and cycles
        # count and identities do not.
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

    def _parents_of(self, node: NodeBase) -> list[tuple[NodeBase, Path]]:
        """The nodes that hold a node directly, each with the path to it; found for all nodes in one pass.

        For `around`: no node knows where it stands.
        """
        if self._parents is None:
            self._parents = {}
            for parent in self._nodes():
                for path, value in self._content(parent):
                    self._parents.setdefault(id(value), []).append((parent, path))
        return self._parents.get(id(node), [])

    def _content(self, node: NodeBase) -> list[tuple[Path, Any]]:
        """The States and nodes that a node holds, with their paths in it, in canonical order.

        For the walks of this class: only the fields that were there before, since new
        States are not shared yet.
        """
        # From its plan: to ask for the schema would compile a class that still waits
        # for a name.
        names = self._before.get(type(node), type(node)._plan.names)
        content: list[tuple[Path, Any]] = []
        for name in sorted(node.__dict__.keys() & names):
            for path, value in leaves(node.__dict__[name]):
                if isinstance(value, (State, NodeBase)):
                    content.append(((name, *path), value))
        return content


def live_nodes() -> Iterator[NodeBase]:
    """All nodes that are alive.

    For IPython's `autoreload`, which does not know where the program keeps its models.
    """
    for item in gc.get_objects():
        # Not `isinstance`, which asks a proxy for its `__class__`, and may run any
        # code.
        if issubclass(type(item), NodeBase):
            yield item
