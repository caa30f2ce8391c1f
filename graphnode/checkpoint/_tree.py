"""What is saved and restored, taken apart: one graph of all nodes and States, and of what is neither.

    {"model": net, "step": 3, "data": iterator}

    graph root   {"model": net, "step": PlainValue(3), "data": DataIterator(...)}

So that arrays, numbers and data iterators have paths, filters and a place in the manifest
as States have them. The containers of the tree count by their keys alone, as dicts.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final, Protocol, runtime_checkable

from jax.tree_util import tree_flatten_with_path

from .._compat import is_tracing
from .._declare._unpickling import declared_by
from .._errors import CheckpointError, Fault, TraceError
from .._graph._binding import Binding
from .._graph._binding_cache import binding_of
from .._graph._flatten import check_leaf_classes, path_key
from .._graph._graphdef import GraphDef
from .._graph._layout import Layout
from .._graph._template import NodeSpec
from .._graph._tokens_json import TokenWriter
from .._hints import with_article
from .._paths import Key, Path, path_str
from .._state import State
from .._static import GraphObject, JsonValueError, to_json
from ._forms import Taken, take_form
from ._leaf import UnsavableError, leaf_of
from ._manifest import Value
from ._structure import OPAQUE, VERSION, Structure, structure_of


class PlainValue(State[Any]):
    """An array or number that stands in the tree itself, rather than in a node."""


@runtime_checkable
class DataIterator(Protocol):
    """What can say where it is, and go on from there: a data iterator of Grain, a generator of NumPy."""

    # Any: what one gives, and the other takes, is the iterator's own.
    def get_state(self) -> Any: ...

    def set_state(self, state: Any, /) -> Any: ...


class _Held:
    """What is neither node nor State, as the value of one: it must stay as it is, whatever States make of values."""

    def __init__(self, content: Any) -> None:
        self.content = content


class IteratorState(State[Any]):
    """The place of a data iterator in the tree."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """A tree that was taken apart.

    Attributes:
        graphdef: The structure of the graph that it is.
        states: The States of that graph, in layout order.
        structure: The same as names and numbers.
        taken: The value of each State, taken apart.
        values: What there is to say of it.
        treedef: Of the tree as it was given.
        leaves: Its leaves, with wrappers around those that are neither node nor State.
    """

    graphdef: GraphDef[Any]
    states: tuple[State[Any], ...]
    structure: Structure
    taken: list[Taken]
    values: list[Value]
    treedef: Any
    leaves: list[Any]

    @property
    def layout(self) -> Layout:
        """The paths and descriptions of the States."""
        return self.graphdef.layout

    def with_values(self, new: dict[int, Any]) -> Any:
        """The tree with other values in place of arrays and numbers, by the id of their wrappers."""
        leaves: list[Any] = []
        for leaf in self.leaves:
            if isinstance(leaf, PlainValue):
                leaf = new.get(id(leaf), leaf.value.content)
            elif isinstance(leaf, IteratorState):
                leaf = leaf.value.content
            leaves.append(leaf)
        return self.treedef.unflatten(leaves)


def take_tree(tree: Any, task: str) -> Tree:
    """A tree taken apart.

    Args:
        tree: A node, or a pytree of nodes, States, arrays, numbers and data iterators.
        task: What an error begins with.

    Raises:
        CheckpointError: It holds something else; names all.
        StructureError: A key of the tree is neither a name nor a position.
        TraceError: A transformation of JAX runs.
    """
    if is_tracing():
        raise TraceError(
            f"{task}: a transformation of JAX runs, in which arrays have no values yet; call it outside"
        )
    pairs, treedef = tree_flatten_with_path(tree, is_leaf=_is_leaf)
    check_leaf_classes([leaf for _, leaf in pairs])
    leaves: list[Any] = [_wrapped(leaf) for _, leaf in pairs]
    paths = [tuple(map(path_key, entries)) for entries, _ in pairs]
    binding = binding_of(_root(paths, leaves))
    structure = structure_of(graph_data(binding.graphdef))
    taken, faults = _take_all(binding)
    values: list[Value] = []
    for at, part in enumerate(taken):
        try:
            values.append(
                Value(part.form, part.keys, [leaf_of(leaf) for leaf in part.leaves])
            )
        except UnsavableError as error:
            faults.append(
                Fault(str(error), path=path_str(binding.graphdef.layout.path(at)))
            )
    if faults:
        raise CheckpointError(task, faults)
    return Tree(
        binding.graphdef, binding.states, structure, taken, values, treedef, leaves
    )


def _is_leaf(value: object) -> bool:
    """For JAX: what it must leave whole, nodes, States and iterators."""
    if isinstance(value, GraphObject):
        return True
    # By its class: an array has any attribute that its class has, and a class is no iterator.
    return isinstance(value, DataIterator) and not isinstance(value, type)


def _wrapped(leaf: Any) -> Any:
    """For `take_tree`: a leaf as a node or State."""
    if isinstance(leaf, GraphObject):
        return leaf
    if _is_leaf(leaf):
        return IteratorState(_Held(leaf))
    return PlainValue(_Held(leaf))


def _root(paths: Sequence[Path], leaves: Sequence[Any]) -> Any:
    """For `take_tree`: the nodes and States in dicts, by their paths.

    So that the manifest can say all of it, whatever classes the containers are of.
    """
    if list(paths) == [()]:
        return leaves[0]
    root: dict[Key, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        inner = root
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = leaf
    return root


def _take_all(binding: Binding) -> tuple[list[Taken], list[Fault]]:
    """For `take_tree`: the values of all States taken apart, and what is wrong with them."""
    taken: list[Taken] = []
    faults: list[Fault] = []
    for at, value in enumerate(binding.values()):
        try:
            if type(value) is _Held:
                is_iterator = isinstance(binding.states[at], IteratorState)
                value = value.content.get_state() if is_iterator else value.content
            taken.append(take_form(value))
        except UnsavableError as error:
            where = path_str(binding.graphdef.layout.path(at))
            faults.append(Fault(str(error), path=where))
            taken.append(Taken(None, [], []))
    return taken, faults


class _LenientWriter(TokenWriter):
    """Writes a graphdef as JSON; what has none is written as what it is, for a reader to be told."""

    def value_json(self, where: str, value: Any) -> Any:
        """The JSON of a static value; of one without, an object that names its class."""
        try:
            return to_json(value)
        except JsonValueError:
            return {OPAQUE: with_article(type(value).__name__)}


def graph_data(graphdef: GraphDef[Any]) -> dict[str, Any]:
    """A graphdef as the JSON data of a manifest; kept with the graphdef, as each save of a run asks for it."""
    return graphdef.plans.to(_DATA, lambda: _graph_data(graphdef))


def _graph_data(graphdef: GraphDef[Any]) -> dict[str, Any]:
    """For `graph_data`: the data, as it is when a file is read."""
    parts = _LenientWriter().parts(graphdef.tokens)
    data: dict[str, Any] = json.loads(json.dumps({"graphnode": VERSION, **parts}))
    return data


_DATA: Final = "graph of a manifest"


def declared_fields(graphdef: GraphDef[Any]) -> dict[str, list[tuple[str, str, str]]]:
    """The declared fields of each class of nodes in a graph: name, kind and contract."""
    names = _LenientWriter()
    fields: dict[str, list[tuple[str, str, str]]] = {}
    seen: set[type] = set()
    for token in graphdef.tokens:
        if isinstance(token, NodeSpec) and token.cls not in seen:
            seen.add(token.cls)
            rows = [
                (name, kind, str(contracts))
                for name, kind, contracts in declared_by(token.cls)
            ]
            number = names.class_number(token.cls)
            fields[list(names.classes)[number]] = rows
    return fields
