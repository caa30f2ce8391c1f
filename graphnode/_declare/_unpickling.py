"""Load graphs from pickles: `_declare._pickling` writes them, with the names `settle`, `same` and `PickledGraph`.

While a row is loaded, its nodes are empty. At its end they are filled. The pickle has
what each class declared, so that a class that has changed since is noticed: fields that
were added get their defaults, and other changes are refused.
"""

import weakref
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from .._errors import ContractError, FieldError, listed
from .._fields import Kind, NodeBase
from .._public import named_in_pickles
from ._copying import children_first, node_base_of, nodes_in, set_state
from ._plan import contracts_of, recheck_contracts
from ._schema import Field, schema
from ._stack_marks import holds_new_states, shows_stack
from ._twins import Key, Twins

T = TypeVar("T")

# What a class declared when it was pickled: the name, the kind and the contracts of
# each field.
Declared: TypeAlias = tuple[tuple[str, str, str], ...]

# A node, and the result of its `__getstate__`.
NodeState: TypeAlias = tuple[Any, Any]


class _Loaded(NamedTuple):
    """A node that was loaded, and one that it has a key from."""

    node: "weakref.ReferenceType[NodeBase]"
    above: "weakref.ReferenceType[NodeBase]"


# The fields that classes had in the pickle that was loaded last.
_BEFORE: Final["weakref.WeakKeyDictionary[type, set[str]]"] = (
    weakref.WeakKeyDictionary()
)

# Nodes to which fields were added when they were loaded, by the hashes of their keys.
# Several objects in one pickle are several rows, none of which knows of the others; but
# a node that shares States with another row came out of the same pickle.
_LOADED: Final[dict[int, _Loaded]] = {}


@named_in_pickles("_pickled_value")
def same(value: T) -> T:
    """The value itself: a `__reduce__` names this to have another object pickled in its own place."""
    return value


@named_in_pickles("_pickled_end")
def settle(node: NodeBase, graph: "PickledGraph") -> None:
    """Fill the whole graph, if `node` is the one that its row began with: the row is over then.

    For pickles, in which each node names this as what sets its state.
    """
    graph.settle(node)


class PickledGraph:
    """A row of nodes that is being loaded."""

    def __init__(self) -> None:
        self._states: dict[int, NodeState] = {}
        self._declared: dict[type, Declared] = {}

    def append(self, entry: NodeState | tuple[type, Declared] | None) -> None:
        """Take one entry: a class with what it declared, a node with its state, or nothing.

        For `pickle`, which reads the row as the items of a list.
        """
        if entry is None:
            return
        subject, content = entry
        if isinstance(subject, type):
            self._declared[subject] = content
        else:
            self._states[id(subject)] = entry

    def extend(
        self, entries: Iterable[NodeState | tuple[type, Declared] | None]
    ) -> None:
        """Take some entries.

        For `pickle`, which hands over a batch at a time where it can.
        """
        for entry in entries:
            self.append(entry)

    def settle(self, root: NodeBase) -> None:
        """Give every node its state, if `root` is the first of them.

        Not earlier: in a cycle, a `__setstate__` would be given nodes that are still
        empty.
        """
        # Every node of the row calls this when it is loaded, but only at the end of the
        # first is the row complete.
        if not self._states or next(iter(self._states)) != id(root):
            return
        entries = list(self._children_first())
        by_default = {
            id(node): _restore_node(node, state, self._declared[type(node)])
            for node, state in entries
        }
        _settle_added([node for node, _ in entries], self._declared, by_default)
        self._states.clear()

    def _children_first(self) -> list[NodeState]:
        """The entries, each after those of the nodes that its state holds: a `__setstate__` may read these.

        The order in which `settle` fills the nodes.
        """
        states = self._states

        def below(entry: NodeState) -> list[NodeState]:
            """The entries of the nodes that the state of an entry holds, the last first."""
            return [
                states[id(node)] for node in nodes_in(entry[1]) if id(node) in states
            ]

        # Nodes that are reached only through objects of other classes are in no state:
        # reversed, each of these comes before the nodes that were met before it.
        return list(children_first(reversed(states.values()), below))


@named_in_pickles("_pickled_nodes")
def new_graph() -> PickledGraph:
    """A row of nodes that is about to be loaded.

    Pickles name this, and not the class, which may be renamed.
    """
    return PickledGraph()


def declared_by(cls: type[NodeBase]) -> Declared:
    """What a class declares, for its pickles.

    By it, a class that has changed since is noticed when the pickle is loaded.
    """
    return tuple(
        (field.name, str(field.kind), contracts_text(field))
        for field in schema(cls).fields.values()
    )


def contracts_text(field: Field) -> str:
    """The contracts of a field's States, as its annotation writes them.

    Two are compared by it: the classes in an annotation may be others where it is
    loaded.
    """
    return ", ".join(contract.text for contract in contracts_of(field))


def _restore_node(node: Any, state: Any, declared: Declared) -> list[str]:
    """Give a node its state, and defaults to the fields that were added to its class since it was pickled.

    For each node of a row, when the row is complete.

    Returns:
        The names of the fields that got a default.
    """
    cls: Any = type(node)
    kinds = {name: kind for name, kind, _ in declared}
    fields = schema(cls).fields.values()
    changed = [
        field
        for field in fields
        if kinds.get(field.name, str(field.kind)) != str(field.kind)
    ]
    # A `__setstate__` of the user may translate a field of another kind, and is given
    # the chance.
    if cls.__setstate__ is node_base_of(cls).__setstate__:
        _check_kinds(cls, changed, kinds)
    _set_checked_state(node, state, declared)
    # What a user's `__setstate__` has set was admitted; the others it has not translated.
    untranslated = [field for field in changed if field.name not in node.__dict__]
    _check_kinds(cls, untranslated, kinds)
    unset = [field for field in fields if field.name not in node.__dict__]
    added = [field for field in unset if field.name not in kinds]
    _check_defaults(cls, added)
    for field in added:
        if field.default is not None:
            # By assignment, which admits the value and checks its contract.
            setattr(node, field.name, field.default())
    return [field.name for field in added]


def _set_checked_state(node: NodeBase, state: object, declared: Declared) -> None:
    """Give a node its state, and check what its class asks anew since it was pickled; errors get a note.

    For `_restore_node`; the note says that the class may be the reason.

    Args:
        node: The node, still empty.
        state: The result of its `__getstate__`.
        declared: What its class declared when it was pickled.
    """
    cls = type(node)
    try:
        set_state(node, state)
        # Only fields that changed: a State that broke its contract before, as one of a
        # stack, may do so again.
        if declared != declared_by(cls):
            recheck_contracts(node, _to_check(node, declared))
    except (FieldError, ContractError) as error:
        error.add_note(
            f"while a pickled {cls.__name__} was loaded: its class may have changed since"
        )
        raise


def _to_check(node: NodeBase, declared: Declared) -> set[str]:
    """The fields whose States may break what the fields ask of them now.

    For `_set_checked_state`: all other States were checked when they were made.
    """
    before = {name for name, _, _ in declared}
    names = _with_new_contract(type(node), declared)
    # The States of a stack have one axis more than their contracts, and are left alone.
    if not shows_stack(node, before):
        return names
    # What a `__setstate__` has put into a stack has one more axis, too.
    return {name for name in names if name in before or not shows_stack(node, {name})}


def _with_new_contract(cls: type[NodeBase], declared: Declared) -> set[str]:
    """The fields whose contract has changed, or whose axes are named by a static field now, and were not before.

    For `_to_check`. A name that is a static field only now was free before, and fitted
    any size.
    """
    fields = schema(cls).fields
    contracts = {name: text for name, _, text in declared}
    kinds = {name: kind for name, kind, _ in declared}
    new_sizes = {
        field.name
        for field in fields.values()
        if field.kind is Kind.STATIC and kinds.get(field.name) != str(Kind.STATIC)
    }
    return {
        field.name
        for field in fields.values()
        if contracts.get(field.name) != contracts_text(field)
        or any(contract.names & new_sizes for contract in contracts_of(field))
    }


def _settle_added(
    nodes: Sequence[NodeBase],
    declared: dict[type[Any], Declared],
    by_default: dict[int, list[str]],
) -> None:
    """Have twins share the States of fields that were added, as each of them was given its own.

    A node and its view, say, were one model, and would be two after loading.

    Args:
        nodes: The nodes of a row.
        declared: What their classes declared when it was pickled.
        by_default: The names of the fields that got a default, by the id of the node.

    Raises:
        FieldError: A node is stacked, and the default of a field is that of one member.
    """
    before = _BEFORE  # of all classes: nodes of earlier rows may be in this one
    added: dict[type, list[str]] = {}
    for cls, fields in declared.items():
        before[cls] = {name for name, _, _ in fields}
        names = [field.name for field in schema(cls).dynamic_fields]
        added[cls] = [name for name in names if name not in before[cls]]
    changed = [node for node in nodes if added[type(node)]]
    # Nearly always: nothing was added, and no graph is walked.
    if not changed:
        return

    def sizes(node: NodeBase) -> Set[str]:
        """The static fields that the shapes of a node depend on, of those that it had when it was pickled.

        Twins must agree in them: a field that was added may have a shape that follows
        from them.
        """
        cls = type(node)
        return frozenset(cls._plan.sizing & before[cls])

    twins = Twins(before, lambda: nodes)
    for node, twin, keys in twins.pairs(changed, sizes):
        names = added[type(node)]
        twin = twin or _loaded_before(twins, keys)
        if twin is None:
            _remember_loaded(node, keys)
            defaults = [name for name in names if name in by_default[id(node)]]
            _check_no_stack(twins, node, before, defaults)
        else:
            _share(node, twin, names)


def _share(node: NodeBase, twin: NodeBase, names: Iterable[str]) -> None:
    """Have a node hold what its twin holds in some fields, where both hold something.

    For a field that was added: the twin got its default first, and both are one model.
    """
    for name in names:
        if name in node.__dict__ and name in twin.__dict__:
            setattr(node, name, twin.__dict__[name])


def _remember_loaded(node: NodeBase, keys: Mapping[Key, NodeBase]) -> None:
    """Note a node to which fields were added, for twins in later rows of the same pickle.

    `_loaded_before` looks there.

    Args:
        node: The node.
        keys: Its keys, each with the node whose graph is in it.
    """
    for key, above in keys.items():
        # The hash, not the key: the key holds the whole graph of a node, and would be
        # kept with it.
        number = hash(key)

        def forget(
            ref: "weakref.ReferenceType[NodeBase]", number: int = number
        ) -> None:
            """Drop the entry of a node that has died, unless another one has taken it over."""
            if number in _LOADED and _LOADED[number].node is ref:
                del _LOADED[number]

        _LOADED[number] = _Loaded(weakref.ref(node, forget), weakref.ref(above))


def _loaded_before(twins: Twins, keys: Mapping[Key, NodeBase]) -> NodeBase | None:
    """A twin in an earlier row, if there is one.

    For `_settle_added`: pickle starts a new row for each object of a list of nodes, and
    twins may be in two.
    """
    for key in keys:
        entry = _LOADED.get(hash(key))
        if entry is None:
            continue
        node, above = entry.node(), entry.above()
        # Compared in full: another key may have the hash, and another object an id in it.
        if node is not None and above is not None and twins.has_key(node, above, key):
            return node
    return None


def _check_no_stack(
    twins: Twins,
    node: NodeBase,
    before: Mapping[type, set[str]],
    defaults: Iterable[str],
) -> None:
    """Raise if a node is stacked, and a default gave it new States: these are for one member.

    The value would have one axis too few, which `gn.vmap` over the stack would notice
    much later.
    """
    name = type(node).__name__
    fields = before[type(node)]
    new = [
        field
        for field in defaults
        if holds_new_states(node.__dict__[field], node, fields)
    ]
    if not new:
        return
    above = [parent for parent, _ in twins.around(node)]
    if not any(
        shows_stack(parent, before.get(type(parent), set())) for parent in above
    ):
        return
    faults = [
        f"{name}.{field} was added since this {name} was pickled, which is stacked, and its default is for one member: "
        f"give it a value in {name}: def __setstate__(self, state): "
        f'super().__setstate__({{"{field}": ..., **state}}); or load it with the class of before, and stack what '
        "gn.unstack gives after they were pickled one by one"
        for field in new
    ]
    raise FieldError(listed(faults))


def _check_kinds(cls: type, changed: Iterable[Field], kinds: dict[str, str]) -> None:
    """Raise if there are fields whose kind has changed.

    For `_restore_node`: what was a static value is no State.
    """
    name = cls.__name__
    faults = [
        f"{name}.{field.name} is {field.kind}, and was {kinds[field.name]} when this {name} was pickled: "
        f"give the field another name, or translate its value in a __setstate__ of {name}"
        for field in changed
    ]
    if faults:
        raise FieldError(listed(faults))


def _check_defaults(cls: type, added: Iterable[Field]) -> None:
    """Raise if a field that was added has no default. Initializers and factories do not run: loading draws nothing.

    Otherwise a node would be loaded with a field that is not set.
    """
    name = cls.__name__
    faults = [
        f"{name}.{field.name} was added since this {name} was pickled, and {_why_unset(field)}: give it a default, or "
        f'a value in {name}: def __setstate__(self, state): super().__setstate__({{"{field.name}": ..., **state}})'
        for field in added
        if field.default is None
    ]
    if faults:
        raise FieldError(listed(faults))


def _why_unset(field: Field) -> str:
    """Why a field that was added has no value when an older pickle is loaded.

    For the error of `_check_defaults`.
    """
    if field.specifier.initializer is not None:
        return "its initializer would draw it anew"
    if field.specifier.factory is not None:
        return "its factory would make it anew"
    return "it has no default"
