"""Make the States of nodes again, as their constructors make them, from a key.

A State is made by the topmost node above it whose constructor makes what leads to it; a
node that was given to another one is made by a constructor of its own. That node is
constructed once more, from its own fields: a twin, whose States have the new values.

    Net(encoder, width=3)      twin: Net(encoder, width=3)
      encoder  ..............  encoder                       the same node: gets a twin of its own
      head     (made)          head                          new values of head.weight, head.bias
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final

import jax

from ._compat import current_trace, in_form_of, tracer_in
from ._declare._node import Node
from ._declare._schema import schema
from ._errors import ConfigError, FieldError, listed
from ._graph._binding_cache import binding_of
from ._graph._diff import diff
from ._graph._graphdef import GraphDef
from ._hints import with_article
from ._inspect import NodeItem, live_objects, references_to
from ._keys import number_of
from ._paths import Path, path_str
from ._reads import looked_at
from ._state import State
from ._stream import Stream, scope, scope_of
from ._update import value_form, value_text

_OF_REINIT: Final = number_of("gn.Selection.reinit")


def values_anew(
    root: object,
    nodes: Sequence[NodeItem],
    below: Sequence[NodeItem],
    key: jax.Array | int,
    arguments: Mapping[str, object],
) -> dict[int, Any]:
    """What constructors make of a key: the values of the States of some nodes, by the ids of these.

    Args:
        root: The root of the graph.
        nodes: The selected nodes.
        below: These and all nodes below them.
        key: Each node draws from a stream that follows from it and the node's path.
        arguments: Further arguments for the constructors of the selected nodes.

    Raises:
        FieldError: A constructor cannot be called again, or makes something else than
            what is there; names all.
    """
    makers = _Makers(root)
    faults = [_by_hand(item.live, item.path) for item in below if makers.is_lost(item)]
    made = makers.states_by_maker(below)
    selected = {item.number for item in nodes}
    if arguments:
        faults += _argument_faults(makers, nodes, made, arguments)
        faults += _elsewhere_faults(makers, below, made)
    values: dict[int, Any] = {}
    # After a fault, calls would only complain of what follows from it.
    for number, numbers in {} if faults else made.items():
        further = arguments if number in selected else {}
        twins, texts = _twin_values(makers, number, key, further)
        faults += texts
        values |= {at: twins[at] for at in map(makers.id_of, numbers) if at in twins}
    if faults:
        raise FieldError(f"cannot make States again: {listed(faults)}")
    return values


def laid_out_as(value: Any, old: Any) -> Any:
    """A value on the devices of another one of its form, laid out over them in the same way.

    A constructor may know neither the mesh nor the plan that the old value was placed by.
    """
    return jax.tree.map(_array_laid_out_as, value, old)


def _array_laid_out_as(array: Any, old: Any) -> Any:
    """The same of an array."""
    if not isinstance(old, jax.Array):
        return array
    if tracer_in(old) is not None or tracer_in(array) is not None:
        # Only over an explicit mesh does a trace know of a layout.
        return in_form_of(array, jax.typeof(old))
    # An array that may be used with those of any device stays one.
    is_bound = old.committed and array.sharding != old.sharding
    return jax.device_put(array, old.sharding) if is_bound else array


class _Makers:
    """Which node's constructor makes each object of a graph.

    Attributes:
        graphdef: The structure of the graph.
        objects: Its nodes and States, by number.
    """

    def __init__(self, root: object) -> None:
        self.graphdef = binding_of(root).graphdef
        self.objects = live_objects(root, self.graphdef)
        self._references = references_to(self.graphdef)
        self._defaults: dict[int, Set[str]] = {}

    def defaults(self, number: int) -> Set[str]:
        """The fields of a node that its constructor fills where it is given nothing for them."""
        if number not in self._defaults:
            self._defaults[number] = _defaults_of(self.objects[number])
        return self._defaults[number]

    def id_of(self, number: int) -> int:
        """What a live object is known by."""
        return id(self.objects[number])

    def text(self, number: int) -> str:
        """The class and path of a node, for messages."""
        path = path_str(self.graphdef.path(number)) or "the root"
        return f"{type(self.objects[number]).__name__} at {path}"

    def is_lost(self, item: NodeItem) -> bool:
        """Whether nobody knows how a node was constructed."""
        return item.cls._has_own_init and self.maker(item.number) is None

    def states_by_maker(self, nodes: Sequence[NodeItem]) -> dict[int, list[int]]:
        """The numbers of the States that some nodes hold, by the number of the node that makes them.

        Args:
            nodes: The nodes, in canonical order.
        """
        numbers = {item.number for item in nodes}
        made: dict[int, list[int]] = {}
        for number, references in enumerate(self._references):
            if not isinstance(self.objects[number], State):
                continue
            if any(parent in numbers for parent, _ in references):
                maker = self.maker(number)
                holder = references[0][0] if maker is None else maker
                made.setdefault(holder, []).append(number)
        return made

    def maker(self, number: int) -> int | None:
        """The number of the topmost node whose constructor makes an object; `None` if only its own makes it."""
        maker: int | None = None
        seen: set[int] = set()  # a node may stand below itself
        while number not in seen:
            seen.add(number)
            made = [
                parent
                for parent, _ in self._references[number]
                if self._makes(parent, number)
            ]
            parent = made[0] if made else self._references[number][0][0]
            if parent < 0:
                break
            maker = parent if made else maker
            number = parent
        return maker

    def _makes(self, parent: int, number: int) -> bool:
        """Whether a node's constructor makes an object in it, and is not given it."""
        if parent < 0 or type(self.objects[parent])._has_own_init:
            return False
        fields = schema(type(self.objects[parent])).fields
        edges = [edge for above, edge in self._references[number] if above == parent]
        names = {str(edge[0]) for edge in edges}
        given = {name for name in names if fields[name].init}
        return not given or given <= self.defaults(parent)


def _by_hand(node: Node, path: Path) -> str:
    """What is wrong with a node that cannot be constructed again."""
    where = path_str(path) or type(node).__name__
    own = f"{type(node).__name__}.__init__ is written by hand, and nobody knows what it was called with"
    return f"{where}: {own}; select the nodes below it, or construct it again"


def _argument_faults(
    makers: _Makers,
    nodes: Sequence[NodeItem],
    made: Mapping[int, Sequence[int]],
    arguments: Mapping[str, object],
) -> Iterator[str]:
    """The arguments of `reinit` that would be ignored.

    Args:
        makers: Which node makes what.
        nodes: The selected nodes.
        made: The States, by what makes them.
        arguments: The arguments.
    """
    for item in nodes:
        where, name = path_str(item.path) or item.cls.__name__, item.cls.__name__
        fields = [text for text in arguments if text in schema(item.cls).fields]
        if fields:
            what = f"{', '.join(fields)} would change fields of the {name}, which reinit leaves as they are"
            yield f"{where}: {what}; use set, or construct it again"
        if item.number in made:
            continue
        maker = makers.maker(item.number)
        if maker is None:
            yield f"{where}: the constructor of {name} makes no State that could follow from {', '.join(arguments)}"
        else:
            what = f"made by the constructor of the {makers.text(maker)}"
            yield f"{where}: {what}; pass the arguments to that: select it alone"


def _elsewhere_faults(
    makers: _Makers, below: Sequence[NodeItem], made: Mapping[int, Sequence[int]]
) -> Iterator[str]:
    """The shared States that a node elsewhere makes, which is given no arguments.

    Args:
        makers: Which node makes what.
        below: The selected nodes and all below them.
        made: The States, by what makes them.
    """
    numbers = {item.number for item in below}
    owners = {makers.maker(number) for number in numbers}
    for maker, states in made.items():
        if maker in numbers or maker in owners:
            continue
        for number in states:
            path = path_str(makers.graphdef.path(number))
            yield f"{path} is made by the constructor of the {makers.text(maker)}, which is not selected"


def _twin_values(
    makers: _Makers, number: int, key: jax.Array | int, arguments: Mapping[str, object]
) -> tuple[dict[int, Any], list[str]]:
    """The values that the constructor of a node makes, by the ids of the States, and what is wrong with them.

    Args:
        makers: The graph.
        number: The number of the node.
        key: The key.
        arguments: Further arguments for the constructor.
    """
    node: Node = makers.objects[number]
    path = makers.graphdef.path(number)
    where = path_str(path) or type(node).__name__
    if type(node)._has_own_init:
        return {}, [_by_hand(node, path)]
    stream = Stream(key, _OF_REINIT, number_of(path_str(path)), trace=current_trace())
    try:
        with scope_of(stream):
            twin = _twin_of(node, where, arguments, makers.defaults(number))
    except ConfigError as error:  # of a method `__init_vars__`
        return {}, [fault.below(path_str(path)) for fault in error.faults]
    except _CallError as error:
        return {}, [f"{where}: {error}"]
    graphdef, of_twin = binding_of(node).graphdef, binding_of(twin).graphdef
    if graphdef is not of_twin and _objects(graphdef) != _objects(of_twin):
        differences = [str(change) for change in diff(graphdef, of_twin)]
        what = f"{with_article(type(node).__name__)} is made otherwise by its constructor: {listed(differences)}"
        return {}, [f"{where}: {what}"]
    pairs = list(
        zip(live_objects(node, graphdef), live_objects(twin, of_twin), strict=True)
    )
    values = {
        id(state): other._value
        for state, other in pairs
        if isinstance(state, State) and state is not other
    }
    return values, [f"{where}: {fault}" for fault in _form_faults(graphdef, pairs)]


class _CallError(Exception):
    """The arguments that are known do not suffice to call a constructor."""


def _defaults_of(node: Node) -> Set[str]:
    """The fields with `None` for a default in which a node has what its constructor puts there of itself.

    So it is with the attention of a block. Whether it was given just the same is not
    kept; by the constructor, it gets the initialisers that this passes on.
    """
    names = {
        name
        for name, field in schema(type(node)).fields.items()
        if field.init
        and isinstance(node.__dict__.get(name), Node)
        and field.default is not None
        and field.default() is None
    }
    if not names:
        return frozenset()
    try:
        with scope(0):
            bare = _twin_of(node, "", {}, names)
    except Exception:  # of any kind: the constructor needs to be given them
        return frozenset()
    return {name for name in names if _is_same(node, bare, name)}


def _is_same(node: Node, other: Node, name: str) -> bool:
    """Whether two nodes have nodes of one structure in a field."""
    mine, its = node.__dict__[name], other.__dict__.get(name)
    if not isinstance(its, Node):
        return False
    return _objects(binding_of(mine).graphdef) == _objects(binding_of(its).graphdef)


def _twin_of(
    node: Node, where: str, arguments: Mapping[str, object], left_out: Set[str]
) -> Node:
    """The node once more, constructed from its fields and its init variables.

    Args:
        node: The node.
        where: Its path, for errors.
        arguments: Further arguments for the constructor.
        left_out: The fields that the constructor fills of itself.
    """
    # Any: a method that no common class declares.
    maker: Any = node
    variables: dict[str, Any] = getattr(maker, "__init_vars__", dict)()
    fields = {
        name: node.__dict__[name]
        for name, field in schema(type(node)).fields.items()
        if field.init and name in node.__dict__ and name not in left_out
    }
    every = {**fields, **variables, **arguments}
    try:
        inspect.signature(type(node)).bind(**every)
    except TypeError as error:
        raise _CallError(
            f"{type(node).__name__} cannot be called again: {error}; pass reinit what it needs"
        ) from None
    try:
        return type(node)(**every)
    except Exception as error:
        error.add_note(f"while {where} was constructed again")
        raise


def _objects(graphdef: GraphDef[Any]) -> list[object]:
    """What two graphs must agree in for their States to be paired: the classes of objects, and where they stand.

    Static values need not be equal: a constructor may write one otherwise than it was
    assigned since, such as a dtype.
    """
    table = graphdef.table
    classes = [spec.cls for spec in table.specs]
    return [classes, table.parents, table.edges, table.repeats]


def _is_abstract(value: Any) -> bool:
    """Whether a value has shapes in place of arrays."""
    return any(
        isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(value)
    )


def _form_faults(
    graphdef: GraphDef[Any], pairs: Sequence[tuple[Any, Any]]
) -> Iterator[str]:
    """The States whose values are of another shape or dtype in the twin, as those of stacked nodes.

    Args:
        graphdef: The structure of both.
        pairs: The objects of both, by number.
    """
    for number, (state, other) in enumerate(pairs):
        if state is other or not isinstance(state, State):
            continue
        if _is_abstract(looked_at(state)):
            path = path_str(graphdef.path(number))
            yield f"{path} is abstract, and has no values; call reinit in the function that gn.eval_shape is given"
            continue
        value, new = looked_at(state), other._value
        if value_form(value) != value_form(new):
            path = path_str(graphdef.path(number))
            yield f"{path} holds {value_text(value)}, and its constructor makes {value_text(new)}"
