"""Make the States of nodes again, as their constructors make them, from a key.

A node is constructed once more, from its own fields: a twin. What the constructor has
made in the twin gives the new values; what it was given stands in both, and is made
again by a constructor of its own:

    Net(encoder, width=3)      twin: Net(encoder, width=3)
      encoder  ..............  encoder                       the same node: gets a twin, too
      head     (made)          head                          new values of head.weight, head.bias
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

import jax

from ._compat import current_trace
from ._declare._node import Node
from ._declare._schema import schema
from ._errors import ConfigError, FieldError, listed
from ._graph._binding_cache import binding_of
from ._graph._diff import diff
from ._graph._graphdef import GraphDef
from ._hints import with_article
from ._inspect import NodeItem, live_objects
from ._keys import number_of
from ._paths import path_str
from ._reads import looked_at
from ._state import State
from ._stream import Stream, scope_of
from ._update import leaf_form, leaf_text

_OF_REINIT: Final = number_of("gn.Selection.reinit")


def values_anew(
    nodes: Sequence[NodeItem],
    selected: Set[int],
    key: jax.Array | int,
    arguments: Mapping[str, object],
) -> dict[int, Any]:
    """What the constructors of nodes make of a key: the values of their States, by the ids of these.

    Args:
        nodes: The selected nodes and all below them, in canonical order.
        selected: Which of them are selected, by their number in the graph.
        key: Each node draws from a stream that follows from it and the node's path.
        arguments: Further arguments for the constructors of the selected nodes.

    Raises:
        FieldError: A constructor cannot be called again, or makes something else than
            what is there; names all.
    """
    below = {id(item.live): item for item in nodes}
    # A node that is given to one of another class is made again after it.
    todo = [item for item in reversed(nodes) if item.number in selected]
    done: set[int] = set()
    values: dict[int, Any] = {}
    faults: list[str] = []
    while todo:
        item = todo.pop()
        if id(item.live) in done:
            continue
        done.add(id(item.live))
        further = arguments if item.number in selected else {}
        pairs, texts = _twin_pairs(item, key, further)
        faults += texts
        for node, twin in pairs:
            if node is twin and id(node) in below:
                todo.append(below[id(node)])
            elif node is not twin and isinstance(node, State):
                values[id(node)] = twin._value
            elif node is not twin:
                done.add(id(node))
    if faults:
        raise FieldError(f"cannot make States again: {listed(faults)}")
    return values


def _twin_pairs(
    item: NodeItem, key: jax.Array | int, arguments: Mapping[str, object]
) -> tuple[list[tuple[Any, Any]], list[str]]:
    """The nodes and States of a node, each with that of its twin, and what is wrong with the twin.

    Args:
        item: The node.
        key: The key.
        arguments: Further arguments for the constructor.
    """
    node: Node = item.live
    where = path_str(item.path) or type(node).__name__
    if type(node)._has_own_init:
        own = f"{type(node).__name__}.__init__ is written by hand, and nobody knows what it was called with"
        return [], [f"{where}: {own}; select the nodes below it, or construct it again"]
    number = number_of(path_str(item.path))
    try:
        with scope_of(Stream(key, _OF_REINIT, number, trace=current_trace())):
            twin = _twin_of(node, where, arguments)
    except ConfigError as error:  # of a method `__init_vars__`
        return [], [fault.below(path_str(item.path)) for fault in error.faults]
    graphdef, of_twin = binding_of(node).graphdef, binding_of(twin).graphdef
    if graphdef is not of_twin and _objects(graphdef) != _objects(of_twin):
        differences = [str(change) for change in diff(graphdef, of_twin)]
        what = f"{with_article(type(node).__name__)} is made otherwise by its constructor: {listed(differences)}"
        return [], [f"{where}: {what}"]
    pairs = list(
        zip(live_objects(node, graphdef), live_objects(twin, of_twin), strict=True)
    )
    return pairs, [f"{where}: {fault}" for fault in _form_faults(graphdef, pairs)]


def _twin_of(node: Node, where: str, arguments: Mapping[str, object]) -> Node:
    """The node once more, constructed from its fields and its init variables.

    Args:
        node: The node.
        where: Its path, for errors.
        arguments: Further arguments for the constructor.
    """
    # Any: a method that no common class declares.
    maker: Any = node
    variables: dict[str, Any] = getattr(maker, "__init_vars__", dict)()
    fields = {
        name: node.__dict__[name]
        for name, field in schema(type(node)).fields.items()
        if field.init and name in node.__dict__
    }
    try:
        return type(node)(**{**fields, **variables, **arguments})
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


class _Form(NamedTuple):
    """Shape and dtype of each array in a value, to compare, and for a message."""

    forms: list[object]
    text: str


def _form_of(value: Any) -> _Form:
    """The form of a State's value."""
    leaves = jax.tree.leaves(value)
    return _Form(
        [jax.tree.structure(value), *map(leaf_form, leaves)],
        ", ".join(map(leaf_text, leaves)),
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
        form, new = _form_of(looked_at(state)), _form_of(other._value)
        if form.forms != new.forms:
            path = path_str(graphdef.path(number))
            yield f"{path} holds {form.text}, and its constructor makes {new.text}"
