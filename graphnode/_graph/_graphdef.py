"""`GraphDef`: the static half of a graph, a row of interned tokens with a nested view.

Tokens are in canonical pre-order (`_flatten.walk` has a picture). Specs are interned, so
hashing a graphdef hashes identities, and equal graphdefs are one object. No operation on
it recurses; `NodeDef` and `NodeRef` are views, made as they are looked at.
"""

import builtins
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeAlias

import jax
from typing_extensions import TypeVar

from .._caches import Answers, Interned
from .._contract import Requirement
from .._errors import StructureError, listed
from .._exporting import register_export
from .._paths import Key, Path, key_order, path_str
from .._pretty._records import Record, Text
from .._pretty._shown import Shown
from .._public import named_in_pickles
from .._redefinition import distinct_class_name
from .._state import Requirements, StateSpec
from .._trie import Trie
from ._layout import Layout
from ._table import (
    Assembly,
    RootSpec,
    Table,
    Token,
    assemble,
    contracts_of,
    lay_out,
    lay_out_nodes,
    requirements_of,
    tabulate,
)
from ._template import REF, UNSET, NodeSpec, Shape, edges_of, items_of
from ._tokens_json import tokens_from_json, tokens_to_json

N_co = TypeVar("N_co", covariant=True, default=Any)


_CONTRACTS: Final = "contracts"
_REQUIREMENTS: Final = "requirements"
_NODES: Final = "nodes"
_GRAPHDEFS: "Interned[tuple[Token, ...], GraphDef[Any]]" = Interned()


# Without the metaclass that has classes pickled by their public names: Python reads the
# attributes of a class that has one on a slower path, and each split does so.
class GraphDef(Shown, Generic[N_co]):
    """The static half of a node: classes, static values, and which object stands where.

    Hashable and comparable at the cost of an identity test, picklable when its classes
    are, and a static pytree: it may be an argument of a function under `jax.jit`. Equal
    structures give the same object.

    Example:
        >>> class Pair(gn.Node):
        ...     scale: int
        ...     weight: gn.ParamState
        >>> first, second = (Pair(2, gn.ParamState(jnp.ones(n))) for n in (3, 4))
        >>> gn.graphdef(first) is gn.graphdef(second)
        True
        >>> gn.graphdef(first)
        GraphDef[Pair](scale=2, weight=ParamState())
    """

    __slots__ = ("__weakref__", "_assembly", "_layout", "_table", "plans", "tokens")

    tokens: tuple[Token, ...]
    _table: Table | None
    _layout: Layout | None
    _assembly: Assembly | None
    # What operations have worked out for this structure, such as how to match a layout.
    plans: Answers

    @property
    def type(self) -> "builtins.type[N_co]":
        """The class of the root: a node class, or the type of the pytree that holds the nodes."""
        return self.root.type

    @property
    def root(self) -> "NodeDef | NodeRef":
        """The nested view."""
        first = self.tokens[0]
        if isinstance(first, RootSpec):
            return _root_view(self, first)
        return _view(self, 0)

    @property
    def table(self) -> Table:
        """The tokens as arrays; made once.

        To go from an object to its parent and its children, without reading the tokens
        from the start.
        """
        if self._table is None:
            self._table = tabulate(self.tokens)
        return self._table

    @property
    def layout(self) -> Layout:
        """The layout of all its States; made once."""
        if self._layout is None:
            self._layout = lay_out(self.tokens)
        return self._layout

    @property
    def assembly(self) -> Assembly:
        """What rebuilding needs; made once.

        For `rebuild`: objects sorted by spec, so that each step is a loop in C.
        """
        if self._assembly is None:
            self._assembly = assemble(self.table)
        return self._assembly

    @property
    def requirements(self) -> "dict[int, list[tuple[int, Requirement]]]":
        """What the fields of each node require of States, by the numbers of both among all objects.

        For merges, which check the States that they are given without looking at
        annotations.
        """
        return self.plans.to(_REQUIREMENTS, lambda: requirements_of(self.table))

    def contracts_from(self, start: int) -> "dict[int, Requirements]":
        """What the fields of its nodes, from one number on, require of each State, by its number among all objects.

        For `build_missing`: the new nodes of a call's result are numbered behind those
        that exist.
        """
        question = (_CONTRACTS, start)
        return self.plans.to(question, lambda: contracts_of(self.table, start))

    @property
    def nodes(self) -> Trie:
        """The paths of its nodes, in the order of their numbers.

        For `gn.nodes` and other selections of nodes; nodes that hold no State are among
        them, unlike in `layout`.
        """
        return self.plans.to(_NODES, lambda: lay_out_nodes(self.table))

    def path(self, number: int) -> Path:
        """The first path of object `number`.

        For messages and iteration; first paths are made when they are asked for, as all
        of a long chain would cost its square.
        """
        table = self.table
        parts: list[Path] = []
        # From the object up, so the parts come in reverse.
        while number >= 0:
            parts.append(table.edges[number])
            number = table.parents[number]
        return tuple(key for part in reversed(parts) for key in part)

    def find(self, path: Path) -> int | None:
        """The number of the object at a path, which may lead over later references; `None` when there is none.

        For paths that users write: any way to a shared object will do.
        """
        table, first = self.table, self.tokens[0]
        edges, row = _top_edges(first), table.top
        start = 0
        while True:
            end = _end_of_edge(path, start, edges)
            if end is None:
                return None
            # Equal edges do not occur, so the first index is the only one.
            number = row[edges.index(path[start:end])]
            if end == len(path):
                return number
            spec = table.specs[number]
            # A State has nothing below it.
            if not isinstance(spec, NodeSpec):
                return None
            edges, row, start = spec.edges, table.rows[number], end

    def to_json(self) -> str:
        """The graphdef as JSON, for files that must outlive a Python version; `schemas/graphdef.schema.json` says how.

        Classes are named, and static values keep their type. Functions, enums and
        dataclasses among them need a name: `gn.config.register`.

        Raises:
            ConfigError: A class that was defined again, or a static value without JSON;
                names all.

        Example:
            >>> class Scale(gn.Node):
            ...     size: int
            >>> text = gn.graphdef(Scale(3)).to_json()
            >>> gn.GraphDef.from_json(text) is gn.graphdef(Scale(3))
            True

        See also: `from_json`, the inverse.
        """
        return tokens_to_json(self.tokens)

    @staticmethod
    def from_json(text: str) -> "GraphDef[Any]":
        """The graphdef that JSON describes: the same object as the one that was written.

        The classes of its nodes and States must be imported; nothing in the text
        imports or calls anything, apart from the constructors of dataclasses that the
        program has registered.

        Raises:
            ConfigError: The text is not a graphdef, or has unknown names; names all
                faults.

        Example:
            >>> gn.GraphDef.from_json("{}")
            Traceback (most recent call last):
            graphnode.ConfigError: not a graphdef: expected an object with "graphnode": 1

        See also: `to_json`, the inverse.
        """
        return intern_graphdef(tokens_from_json(text))

    def __copy__(self) -> "GraphDef[N_co]":
        return self

    def __deepcopy__(self, memo: object) -> "GraphDef[N_co]":
        return self

    def __reduce__(self) -> "tuple[Callable[..., GraphDef[Any]], tuple[object, ...]]":
        return _restore_graphdef, (self.tokens,)

    def __pretty__(self) -> Record:
        root = self.root
        # The root is a view in every graphdef that a user gets.
        assert isinstance(root, NodeDef)
        return _record(root, "GraphDef")


jax.tree_util.register_static(GraphDef)
register_export(GraphDef, GraphDef.to_json, GraphDef.from_json)


def intern_graphdef(tokens: tuple[Token, ...]) -> GraphDef[Any]:
    """The one graphdef of these tokens.

    So that equal structures are found equal by identity, as the key of what was
    compiled and of caches.
    """
    return _GRAPHDEFS.of(tokens, lambda: _new_graphdef(tokens))


@named_in_pickles("_pickled_graphdef")
def _restore_graphdef(tokens: tuple[Token, ...]) -> GraphDef[Any]:
    """The graphdef that was pickled, whose classes may have changed since.

    For `pickle`: `GraphDef.__reduce__` names it.

    Each spec checks the fields of its own class; here the classes of children are checked.

    Raises:
        StructureError: A field does not admit its content any more; names all.
    """
    graphdef = intern_graphdef(tokens)
    specs = graphdef.table.specs
    faults: list[str] = []
    for number, row in graphdef.table.rows.items():
        spec = specs[number]
        # Only nodes have rows.
        assert isinstance(spec, NodeSpec)
        for child, (path, form) in zip(row, spec.forms(), strict=True):
            child_cls = specs[child].cls
            if not issubclass(child_cls, form.classes):
                place = f"{spec.cls.__name__}.{path_str(path)}"
                text = distinct_class_name(child_cls, *form.classes)
                faults.append(f"{place} takes {form}, and held {text}")
    if faults:
        # A class is named once, however many nodes there are of it.
        faults = list(dict.fromkeys(faults))
        raise StructureError(
            f"a class has changed since a graphdef was pickled: {listed(faults)}"
        )
    return graphdef


def _top_edges(token: Token) -> tuple[Path, ...]:
    """The paths of the roots of a structure, whose first token this is.

    For `GraphDef.find`, which has to know where a path begins: of a node, at the empty
    path.
    """
    return token.edges if isinstance(token, RootSpec) else ((),)


def _end_of_edge(path: Path, start: int, edges: Collection[Path]) -> int | None:
    """Where the edge ends that a path takes from a position on; `None` if it takes none.

    For `GraphDef.find`: an edge may have several keys, as `layers.0` through a list.
    """
    # The shortest that fits: no edge of a node begins another one of it.
    for end in range(start, len(path) + 1):
        if path[start:end] in edges:
            return end
    return None


def forget_class(cls: type) -> bool:
    """Drop the assemblies with objects of a class that was defined again, or of a subclass; whether there is any.

    For notebooks and `autoreload`: an assembly makes objects of the old class.
    """
    is_known = False
    for graphdef in _GRAPHDEFS:
        specs = [
            token for token in graphdef.tokens if not isinstance(token, (int, RootSpec))
        ]
        if any(issubclass(spec.cls, cls) for spec in specs):
            graphdef._assembly = None  # made again, it refuses the old class
            is_known = True
    return is_known


def _new_graphdef(tokens: tuple[Token, ...]) -> GraphDef[Any]:
    """A graphdef of tokens; all else is made when it is first asked for.

    For `intern_graphdef`, if there is none yet.
    """
    # Without an `__init__`, as nobody else may make one: equal structures are one
    # object.
    graphdef: GraphDef[Any] = GraphDef()
    graphdef.tokens = tokens
    graphdef._table = graphdef._layout = graphdef._assembly = None
    graphdef.plans = Answers()
    return graphdef


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class NodeRef(Shown):
    """A State, or a further reference to a node of the view.

    Attributes:
        type: Its class.
        index: Its number: one pre-order counter over nodes and States.
    """

    type: "type[Any]"
    index: int

    def __pretty__(self) -> Record:
        # That of a dataclass would print the whole class.
        fields = [(None, Text(self.type.__name__)), ("index", self.index)]
        return Record("NodeRef", fields, cls=self.type)


# A reference of a view: the object's number, and whether it is its first.
Reference: TypeAlias = tuple[int, bool]


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class NodeDef(Shown):
    """One node, or one container of a node, of a graphdef: a view, whose parts are made as they are looked at.

    Attributes:
        type: The class of the node, or the type of the container.
        index: Its number: one pre-order counter over nodes and States; -1 for a
            container.
        graphdef: The graphdef it is a view of.
        parts: Each key with the shape of its value, and references to the objects in it.
        statics: The static values by field.
    """

    type: "type[Any]"
    index: int
    graphdef: "GraphDef[Any]"
    parts: tuple[tuple[Key, Shape, tuple[Reference, ...]], ...]
    statics: tuple[tuple[Key, Any], ...] = ()

    @property
    def attributes(self) -> tuple[Key, ...]:
        """All keys that have a value, in canonical order."""
        keys = [key for key, shape, _ in self.parts if shape is not UNSET]
        keys += [key for key, _ in self.statics]
        return tuple(sorted(keys, key=key_order))

    @property
    def subgraphs(self) -> "dict[Key, NodeDef | NodeRef]":
        """The nodes and containers, by key."""
        children: dict[Key, NodeDef | NodeRef] = {}
        specs = self.graphdef.table.specs
        for key, shape, references in self.parts:
            if isinstance(shape, tuple):
                parts = _parts(items_of(shape), iter(references))
                children[key] = NodeDef(shape[0], -1, self.graphdef, parts)
            elif shape is REF:
                number, is_first = references[0]
                if isinstance(specs[number], NodeSpec):
                    children[key] = _view(self.graphdef, number, is_first)
        return children

    # Any: static values are of whatever types.
    @property
    def static_fields(self) -> dict[Key, Any]:
        """The static values by key; also the fields that hold `None`."""
        fields: dict[Key, Any] = dict(self.statics)
        fields |= {key: None for key, shape, _ in self.parts if shape is None}
        return {key: fields[key] for key in sorted(fields, key=str)}

    @property
    def leaves(self) -> dict[Key, NodeRef]:
        """The States by key."""
        states: dict[Key, NodeRef] = {}
        for key, shape, references in self.parts:
            if shape is REF:
                number, _ = references[0]
                spec = self.graphdef.table.specs[number]
                if isinstance(spec, StateSpec):
                    states[key] = NodeRef(spec.cls, number)
        return states

    def __pretty__(self) -> Record:
        return _record(self, "NodeDef")


def _record(view: NodeDef, kind: str) -> Record:
    """How a view is printed: like the node itself, where `kind` says that it is none."""
    name = f"{kind}[{view.type.__name__}]"
    if view.index >= 0:
        identity = (view.graphdef, view.index)
        fields = _shown_fields(view)
        return Record(name, fields, identity=identity, cls=view.type)
    parts = dict(_shown_fields(view))
    if list(parts) == [""]:  # a State alone
        return Record(kind, [(None, parts[""])])
    is_list = all(isinstance(key, int) for key in parts)
    return Record(name, [(None, list(parts.values()) if is_list else parts)])


def _shown_fields(view: NodeDef) -> Iterator[tuple[Key, object]]:
    """What a view prints: its static values, then its parts, all below them like the nodes themselves."""
    shows = view.type._shows if view.index >= 0 else None
    for key, value in view.statics:
        if shows is None or shows(key, value):
            yield key, value
    for key, shape, references in view.parts:
        if shape is not UNSET:
            part = _shown_part(view.graphdef, shape, iter(references))
            if shows is None or shows(key, part):
                yield key, part


def _shown_part(
    graphdef: GraphDef[Any], shape: Shape, references: Iterator[Reference]
) -> object:
    """What one part prints: an object by its class, a container with what is in it.

    Args:
        graphdef: The structure.
        shape: The shape of the part.
        references: The objects in it, in order.
    """
    if isinstance(shape, tuple):
        parts = {
            key: _shown_part(graphdef, item, references)
            for key, item in items_of(shape)
        }
        return parts if shape[0] is dict else shape[0](parts.values())
    if shape is not REF:
        return None
    number, is_first = next(references)
    spec = graphdef.table.specs[number]
    # The view is made anew each time, so objects are the same by their numbers.
    identity = (graphdef, number)
    if isinstance(spec, StateSpec):
        # Of any size, as shapes are not structure.
        description = spec.description()
        return Record(spec.cls.__name__, description, None, identity, cls=spec.cls)
    view = _view(graphdef, number, is_first)
    fields = _shown_fields(view) if isinstance(view, NodeDef) else [("index", number)]
    return Record(spec.cls.__name__, fields, identity=identity, cls=spec.cls)


def _view(
    graphdef: GraphDef[Any], number: int, is_first: bool = True
) -> NodeDef | NodeRef:
    """The view of an object: of a State, or at a later reference, only its class and number.

    A node that was shown once is not shown again, as cycles have no end.

    Args:
        graphdef: The structure.
        number: The number of the object.
        is_first: Whether the view stands at the first reference to it.
    """
    table = graphdef.table
    spec = table.specs[number]
    if not is_first or isinstance(spec, StateSpec):
        return NodeRef(spec.cls, number)
    references = _references(table, number, table.rows[number], spec.edges)
    fields = spec.template.with_shapes(spec.shapes)
    parts = _parts([(field.name, shape) for field, shape in fields], references)
    statics = tuple(zip(spec.template.statics, spec.statics, strict=True))
    return NodeDef(spec.cls, number, graphdef, parts, statics)


def _root_view(graphdef: GraphDef[Any], root: RootSpec) -> NodeDef:
    """The view of a root that is a pytree, with its leaves as the parts of one container.

    For `GraphDef.root`, where the graph was split as a list, dict or other pytree of
    nodes.
    """
    table = graphdef.table
    references = _references(table, -1, table.top, root.edges)
    keys = [edge[0] if len(edge) == 1 else path_str(edge) for edge in root.edges]
    parts = _parts([(key, REF) for key in keys], references)
    data = root.treedef.node_data()
    # A treedef without data is that of a single leaf: of a State.
    cls = table.specs[table.top[0]].cls if data is None else data[0]
    return NodeDef(cls, -1, graphdef, parts)


def _references(
    table: Table, parent: int, row: Sequence[int], edges: Sequence[Path]
) -> Iterator[Reference]:
    """The objects of a row, each with whether its first path is through this parent and edge.

    For the view, which shows an object in full at its first path, and elsewhere by its
    number.
    """
    for number, edge in zip(row, edges, strict=True):
        is_first = table.parents[number] == parent and table.edges[number] == edge
        yield number, is_first


def _parts(
    items: Iterable[tuple[Key, Shape]], references: Iterator[Reference]
) -> tuple[tuple[Key, Shape, tuple[Reference, ...]], ...]:
    """The items, each with the references in its shape: these are in one row, in order.

    For the view: references are in one row for the whole node, and each container takes
    its own from it.
    """
    parts: list[tuple[Key, Shape, tuple[Reference, ...]]] = []
    for key, shape in items:
        of_shape = [next(references) for _ in edges_of(shape, ())]
        parts.append((key, shape, tuple(of_shape)))
    return tuple(parts)
