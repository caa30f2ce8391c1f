"""Put other nodes in the place of nodes of a graph: all, or nothing.

    exchange_nodes     places      every reference to each old node: (node, path within it)
                       _exchanges  one for each field or item that changes: what holds it, its new value
                       faults      of each: types, owners; `FieldError` names all
                       _commit     with signal handlers held back

For `Selection.replace`; which nodes are meant is the affair of `_select`.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from ._assignments import assign_all, item_of
from ._declare._containers import TrackedDict, TrackedList
from ._declare._node import plan_of
from ._declare._schema import Field, schema
from ._describe import describe
from ._errors import FieldError, GraphnodeError, listed
from ._fields import NodeBase
from ._graph._graphdef import GraphDef
from ._inspect import Reference, references_to
from ._nesting import items, rebuilt
from ._paths import Key, Path, path_str
from ._signals import store_all, undivided
from ._state import LongTermState, State
from ._update import check_may_change


def exchange_nodes(
    graphdef: GraphDef[Any], objects: Sequence[Any], new: Mapping[int, object]
) -> None:
    """Put new nodes in the place of old ones, wherever the graph refers to these.

    Args:
        graphdef: The structure of the graph.
        objects: Its nodes and States, by number.
        new: The new nodes, by the numbers of those that they replace.

    Raises:
        FieldError: A field does not take a new node, or something is no node; or an old
            one is the root; names all. Nothing was replaced.
        TraceError: A JAX transformation runs that a node was not made in. Nothing was
            replaced.
    """
    faults = _result_faults(graphdef, new)
    # What is no node has no place.
    exchanges = [] if faults else _exchanges(graphdef, objects, new)
    for exchange in exchanges:
        faults += exchange.faults()
    if faults:
        raise FieldError(
            f"cannot replace nodes of {graphdef.type.__name__}: {listed(faults)}"
        )
    for exchange in exchanges:
        check_may_change(exchange.holder, exchange.key)
    undivided(lambda: _commit(exchanges))


@contextlib.contextmanager
def undone_on_error(
    objects: Sequence[Any],
) -> Generator[Callable[[], list[int]]]:
    """A block at whose failure States get back what they held; it is given what tells which States were written so far.

    For `replace`, whose function may write, as `fold` does.

    Args:
        objects: The nodes and States of a graph, by number.
    """
    before = {
        number: state._value
        for number, state in enumerate(objects)
        if isinstance(state, State)
    }

    def written() -> list[int]:
        """The numbers of the States that hold something else now."""
        return [
            number
            for number, content in before.items()
            if objects[number]._value is not content
        ]

    try:
        yield written
    except BaseException:
        numbers = written()
        store_all(
            [objects[number] for number in numbers],
            [before[number] for number in numbers],
        )
        raise


def shared_write_faults(
    graphdef: GraphDef[Any], written: Iterable[int], replaced: Set[int]
) -> list[str]:
    """The States that were written for a new node, and that others hold too, which would map otherwise.

    Args:
        graphdef: The structure of the graph.
        written: The States, by their numbers.
        replaced: The nodes that get a new one in their place.
    """
    references = references_to(graphdef)
    faults: list[str] = []
    for number in written:
        # Counters of random streams and caches are there to be written by all who share them.
        if not issubclass(graphdef.table.specs[number].cls, LongTermState):
            continue
        holders = _holders(references, number, replaced)
        if len(holders) > 1 and holders & replaced:
            places = [
                f"{path_str(graphdef.path(parent))}.{path_str(edge)}"
                for parent, edge in references[number]
            ]
            faults.append(f"fn has written a State that is shared: {', '.join(places)}")
    return faults


def _holders(
    references: Sequence[Sequence[Reference]], number: int, replaced: Set[int]
) -> set[int]:
    """The nodes that hold an object: on each way up the first that is replaced, or else the top (-1 above the root)."""
    holders: set[int] = set()
    seen: set[int] = set()
    todo = [parent for parent, _ in references[number]]
    while todo:
        at = todo.pop()
        if at in replaced or at < 0:
            holders.add(at)
        elif at not in seen:  # a node may stand below itself
            seen.add(at)
            todo += [parent for parent, _ in references[at]]
    return holders


def _result_faults(graphdef: GraphDef[Any], new: Mapping[int, object]) -> list[str]:
    """For `exchange_nodes`: what is no node, and what cannot be replaced as no node of the graph refers to it."""
    references = references_to(graphdef)
    faults: list[str] = []
    for number, node in new.items():
        path = graphdef.path(number)
        text = path_str(path) or "the root"
        if not isinstance(node, NodeBase):
            faults.append(f"{text}: expected a node from fn; found {describe(node)}")
        elif not path:
            faults.append(
                "the root has no place in another node; replace it where you keep it"
            )
        elif any(parent < 0 for parent, _ in references[number]):
            faults.append(
                f"{text} is a node of the pytree itself, not of a node in it; replace it there"
            )
    return faults


class _Exchange(NamedTuple):
    """A field of a node, or an item of a list or dict in one, that is about to hold something else.

    Attributes:
        node: The node.
        holder: The node, or the list or dict.
        key: The field, or the position or key.
        value: What it is to hold.
        path: The path of the place.
        field: The field of the node.
        new: The nodes that are new in the value.
    """

    node: Any
    holder: Any
    key: Key
    value: Any
    path: Path
    field: Field
    new: Sequence[NodeBase]

    def faults(self) -> list[str]:
        """Why the place does not take its new value, and which annotation would; empty if it does."""
        try:
            if isinstance(self.holder, (TrackedList, TrackedDict)):
                self.holder.admit(self.key, self.value)
            else:
                plan_of(type(self.holder)).admit[str(self.key)](self.holder, self.value)
        except GraphnodeError as error:
            return [f"{path_str(self.path)}: {error}; {self._remedy()}"]
        return []

    def _remedy(self) -> str:
        """The annotation that would take the new nodes, and where it stands."""
        # Each class once, in order.
        taken = dict.fromkeys(
            [leaf.cls.__name__ for leaf in self.field.form.all_leaves]
        )
        new = dict.fromkeys([type(node).__name__ for node in self.new])
        where = f"{self.field.owner.__name__}.{self.field.name}"
        union = " | ".join({**taken, **new})
        return f"to allow it, write {union} for {' | '.join(taken)} in the annotation of {where}"


def _exchanges(
    graphdef: GraphDef[Any], objects: Sequence[Any], new: Mapping[int, Any]
) -> list[_Exchange]:
    """For `exchange_nodes`: what changes, each field or item of a list or dict once."""
    references = references_to(graphdef)
    # By holder and key: a tuple is changed as a whole, whatever is new in it.
    places: dict[tuple[int, Key], tuple[_Place, dict[Path, NodeBase]]] = {}
    for number, node in new.items():
        if node is objects[number]:
            continue
        for parent, edge in references[number]:
            place = _place_of(objects[parent], edge, graphdef.path(parent))
            _, within = places.setdefault(
                (id(place.holder), place.key), (place, dict[Path, NodeBase]())
            )
            within[place.rest] = node
    return [place.exchange(within) for place, within in places.values()]


class _Place(NamedTuple):
    """Where a reference stands: a field, or an item of a list or dict, and the path within the tuple there.

    Attributes:
        node: The node that has the reference.
        holder: The node itself, or the list or dict in it.
        key: The field, or the position or key.
        edge: The path from the node to the field or item.
        rest: The path in what stands there; empty if that is what is referred to.
        above: The path of the node.
    """

    node: Any
    holder: Any
    key: Key
    edge: Path
    rest: Path
    above: Path

    def exchange(self, within: Mapping[Path, NodeBase]) -> _Exchange:
        """The exchange of some nodes in what stands at the place, given by the path there."""
        held = item_of(self.holder, self.key)
        return _Exchange(
            self.node,
            self.holder,
            self.key,
            _with_nodes(held, within),
            (*self.above, *self.edge),
            schema(type(self.node)).fields[str(self.edge[0])],
            list(within.values()),
        )


def _place_of(node: Any, edge: Path, above: Path) -> _Place:
    """For `_exchanges`: the place of a reference, as deep as there is something to assign to.

    A tuple cannot be assigned to, and neither is what lies below one: as the tuple is
    made anew, so are the lists and dicts in it.

    Args:
        node: The node that has the reference.
        edge: The path of the reference within it.
        above: The path of the node.
    """
    holder, length = node, 1
    for length in range(1, len(edge) + 1):
        held = item_of(holder, edge[length - 1])
        if length == len(edge) or not isinstance(held, (TrackedList, TrackedDict)):
            break
        holder = held
    return _Place(node, holder, edge[length - 1], edge[:length], edge[length:], above)


def _with_nodes(value: Any, new: Mapping[Path, NodeBase]) -> Any:
    """A value of a field with other nodes at some paths: the node itself, or containers made anew around it."""
    if () in new:
        return new[()]
    below: dict[Key, dict[Path, NodeBase]] = {}
    for path, node in new.items():
        below.setdefault(path[0], {})[path[1:]] = node
    pairs = [
        (key, _with_nodes(child, below[key]) if key in below else child)
        for key, child in items(value)
    ]
    return rebuilt(value, pairs)


def _commit(exchanges: Sequence[_Exchange]) -> None:
    """For `exchange_nodes`: make the changes. All was checked; no signal handler interrupts it."""
    assign_all(
        [(exchange.holder, exchange.key, exchange.value) for exchange in exchanges]
    )
