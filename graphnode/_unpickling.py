"""Graphs that come out of a pickle: see `_pickling`, which writes them. The names here stand in pickles.

Data in: the entries of a row, whose nodes are all still empty. At its end they are filled, and a class that has changed
since is noticed: what it declared goes along.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

from ._copying import children_first, node_base_of, nodes_in, set_state
from ._errors import ContractError, FieldError, listed
from ._fields import NodeBase
from ._plan import check_contracts_anew
from ._schema import Field, schema

T = TypeVar("T")

# What a class declared when it was pickled: the name, the kind and the contracts of each field.
Declared: TypeAlias = tuple[tuple[str, str, str], ...]

# A node, and what its `__getstate__` gave.
NodeState: TypeAlias = tuple[Any, Any]


def same(value: T) -> T:
    """The value itself."""
    return value


def settle(node: NodeBase, graph: "PickledGraph") -> None:
    """Fill the whole graph, if `node` is the one that its row began with: the row is over then."""
    graph.settle(node)


class PickledGraph:
    """A row of nodes that is being loaded."""

    def __init__(self) -> None:
        self._states: dict[int, NodeState] = {}
        self._declared: dict[type, Declared] = {}

    def append(self, entry: NodeState | tuple[type, Declared] | None) -> None:
        """Take one entry: a class with what it declared, a node with its state, or nothing."""
        if entry is None:
            return
        subject, content = entry
        if isinstance(subject, type):
            self._declared[subject] = content
        else:
            self._states[id(subject)] = entry

    def extend(self, entries: Iterable[NodeState | tuple[type, Declared] | None]) -> None:
        """Take some entries."""
        for entry in entries:
            self.append(entry)

    def settle(self, root: NodeBase) -> None:
        """Give every node its state, if `root` is the first of them."""
        if not self._states or next(iter(self._states)) != id(root):
            return
        for node, state in self._children_first():
            _fill(node, state, self._declared[type(node)])
        self._states.clear()

    def _children_first(self) -> list[NodeState]:
        """The entries, each after those of the nodes that its state holds: a `__setstate__` may read these."""
        states = self._states

        def below(entry: NodeState) -> list[NodeState]:
            return [states[id(node)] for node in nodes_in(entry[1]) if id(node) in states]

        # Those that only an object of somebody else's leads to are in no state: of these the last met comes first.
        return list(children_first(reversed(states.values()), below))


def declared_by(cls: type[NodeBase]) -> Declared:
    """What a class declares, for its pickles."""
    return tuple((field.name, str(field.kind), contracts_of_field(field)) for field in schema(cls).fields.values())


def contracts_of_field(field: Field) -> str:
    """The contracts of a field's States, as its annotation writes them."""
    return ", ".join(leaf.contract.text for leaf in field.form.all_leaves if leaf.contract is not None)


def _fill(node: Any, state: Any, declared: Declared) -> None:
    """Give a node its state, and the fields that its class has got since it was pickled their defaults."""
    cls: Any = type(node)
    kinds = {name: kind for name, kind, _ in declared}
    fields = schema(cls).fields.values()
    changed = [field for field in fields if kinds.get(field.name, str(field.kind)) != str(field.kind)]
    if cls.__setstate__ is node_base_of(cls).__setstate__:
        _check_kinds(cls, changed, kinds)
    try:
        set_state(node, state)
        # Only then: what stood there against an unchanged contract, such as an axis of `jax.vmap`, stands there again.
        if declared != declared_by(cls):
            check_contracts_anew(node)
    except (FieldError, ContractError) as error:
        error.add_note(f"while a pickled {cls.__name__} was loaded: its class may have changed since")
        raise
    # What the class's own `__setstate__` has set was admitted; the rest it has not translated.
    _check_kinds(cls, [field for field in changed if field.name not in node.__dict__], kinds)
    added = [field for field in fields if field.name not in kinds and field.name not in node.__dict__]
    _check_defaults(cls, added)
    for field in added:
        if field.default is not None:
            setattr(node, field.name, field.default())


def _check_kinds(cls: type, changed: Iterable[Field], kinds: dict[str, str]) -> None:
    """Raise if there are fields of another kind than they were."""
    name = cls.__name__
    faults = [
        f"{name}.{field.name} is {field.kind}, and was {kinds[field.name]} when this {name} was pickled: "
        f"give the field another name, or translate its value in a __setstate__ of {name}"
        for field in changed
    ]
    if faults:
        raise FieldError(listed(faults))


def _check_defaults(cls: type, added: Iterable[Field]) -> None:
    """Raise if a field that was added has no default. Nothing is drawn or made anew without being asked for."""
    name = cls.__name__
    faults = [
        f"{name}.{field.name} was added since this {name} was pickled, and {_reason(field)}: give it a default, or "
        f'a value in {name}: def __setstate__(self, state): super().__setstate__({{"{field.name}": ..., **state}})'
        for field in added
        if field.default is None
    ]
    if faults:
        raise FieldError(listed(faults))


def _reason(field: Field) -> str:
    if field.specifier.initializer is not None:
        return "its initializer would draw it anew"
    return "its factory would make it anew" if field.specifier.factory is not None else "it has no default"
