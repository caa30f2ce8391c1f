"""Plans: what construction and assignment need of a class, compiled from its schema.

Data in: a schema. Data out: for each field, the function that admits a value (checked,
containers tracked), the one that makes it where it makes itself, and the contracts of
its States.
"""

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import numpy as np

from .._caches import own_names, was_there
from .._compat import Tracer
from .._containers import is_container, items, kind_of
from .._contract import Requirement
from .._describe import describe
from .._errors import ContractError, FieldError, listed
from .._fields import Kind, LeftOut, NodeBase
from .._paths import key_str
from .._redefinition import derives
from .._state import Requirements, State
from .._static import GraphObject, StaticValueError, frozen, static_key
from .._versions import Constructing
from ._annotations import Form
from ._makers import Maker, maker_of, sizes_of
from ._schema import Field, Schema, is_computed
from ._tracked import Place, TrackedDict, TrackedList, admit

# From the node and a value to the value as the field keeps it. A static field looks at
# the value alone.
Admit: TypeAlias = Callable[[Any, Any], Any]

# Static values of these exact types need no look.
_PLAIN_STATIC: Final = frozenset({int, str, bool, float, type(None), bytes, complex})


class Plan(NamedTuple):
    """What construction needs of a class: kept on the class, read by its instances.

    Attributes:
        names: The names of all fields.
        admit: For each field, what checks and tracks a value for it.
        makers: What makes the fields that make themselves, in the order of declaration.
        contracts: The fields whose States have a contract.
        statics: The names of the static fields, in the order of declaration.
        sizing: Those of them that give contracts their sizes.
        cls: The class.
        is_final: Whether the class was used. Before, decorators may still change it,
            and if annotations wait for a name that comes later, the other parts are
            empty.
    """

    names: frozenset[str]
    admit: Mapping[str, Admit]
    makers: Mapping[str, Maker]
    contracts: tuple[Field, ...]
    statics: tuple[str, ...]
    sizing: frozenset[str]
    cls: type[Any] | None = None
    is_final: bool = False

    def __reduce__(self) -> "tuple[Callable[..., Plan], tuple[Any, ...]]":
        if self.cls is None:
            return _no_plan, ()
        # Only what pickles the class itself comes here: see `Kept`
        return _plan_there, (self.cls, own_names(self.cls))


NO_PLAN: Final = Plan(frozenset(), {}, {}, (), (), frozenset())


def waiting_plan(cls: type[Any]) -> Plan:
    """What stands in a class before its plan is compiled."""
    return NO_PLAN._replace(cls=cls)


def _no_plan() -> Plan:
    return NO_PLAN


def _plan_there(cls: type[Any], names: tuple[str, ...]) -> Plan:
    """The plan of a class where a pickle of it is loaded: its own if it was there before."""
    plan: Plan | None = cls.__dict__.get("_plan") if was_there(cls, names) else None
    return waiting_plan(cls) if plan is None else plan


class LeftOutError(Exception):
    """A constructor was not given a field that a factory makes: there is nothing to assign yet."""


def compile_plan(compiled: Schema[Any]) -> Plan:
    """The plan of a class."""
    fields = compiled.fields.values()
    contracts = [
        leaf.contract
        for field in fields
        for leaf in field.form.all_leaves
        if leaf.contract
    ]
    statics = tuple(field.name for field in fields if field.kind is Kind.STATIC)
    computed = {field.name for field in fields if is_computed(field)}
    return Plan(
        frozenset(compiled.fields),
        {field.name: _admitter(compiled.cls, field) for field in fields},
        {
            field.name: maker
            for field in fields
            if (maker := maker_of(field, computed)) is not None
        },
        tuple(
            field
            for field in fields
            if any(leaf.contract for leaf in field.form.all_leaves)
        ),
        statics,
        frozenset(statics)
        & {name for contract in contracts for name in contract.names},
        compiled.cls,
    )


def _admitter(cls: type, field: Field) -> Admit:
    if is_computed(field):
        return functools.partial(_admit_computed, f"{cls.__name__}.{field.name}")
    if field.kind is Kind.STATIC:
        return functools.partial(
            _admit_static, f"{cls.__name__}.{field.name}", field.is_explicit
        )
    form, name, classes = field.form, field.name, field.form.classes
    exact = (*classes, type(None)) if form.optional else classes

    def admit_holder(node: NodeBase, value: Any) -> Any:
        cls = type(value)
        # As in `admit`
        if cls in exact or (
            isinstance(value, classes) and issubclass(cls, GraphObject)
        ):
            return value
        if (
            isinstance(value, (TrackedList, TrackedDict))
            and node.__dict__.get(name) is value
        ):
            return value  # `node.layers += [...]` assigns the node's own list back
        return admit(form, value, place_of(node, field))

    return admit_holder


def place_of(node: NodeBase, field: Field) -> Place:
    """The place of a field's value: its containers check what is put in later, where the field has a contract."""
    has_contract = any(leaf.contract for leaf in field.form.all_leaves)
    check = functools.partial(check_items, weakref.ref(node)) if has_contract else None
    return Place(f"{type(node).__name__}.{field.name}", (), check)


def _admit_static(
    where: str, is_explicit: bool, node: NodeBase | None, value: Any
) -> Any:
    if type(value) in _PLAIN_STATIC:
        return value
    if (
        not is_explicit
        and isinstance(value, jax.Array | np.ndarray)
        and not isinstance(value, Tracer)
    ):
        remedy = "hold it in a State, or declare the field gn.static() to make it part of the structure"
        raise FieldError(
            f"{where} is static by its annotation; found {describe(value)}; {remedy}"
        )
    try:
        value = frozen(value)
        static_key(value)
    except StaticValueError as error:
        raise FieldError(f"{where}: {error}") from None
    return value


def _admit_computed(where: str, node: NodeBase | None, value: Any) -> Any:
    if value is LeftOut.LEFT_OUT:
        raise LeftOutError
    return _admit_static(where, True, node, value)


# The place of a State in a node, the form of the place, and the State.
Placed: TypeAlias = tuple[str, Form, State[Any]]


def check_contracts(node: NodeBase, changed: Mapping[str, Any]) -> None:
    """Raise if a State of `node` breaks the contract of its field; those that keep it are held to it from then on.

    Args:
        node: The node whose fields are checked.
        changed: Fields that are about to be assigned.

    Raises:
        ContractError: Names every field that breaks its contract; nothing was assigned.
    """
    plan: Plan = type(node)._plan
    fields = {**node.__dict__, **changed}
    # What stays comes first: it binds the axes that no static field gives, and what is
    # new must fit.
    placed = sorted(
        _placed_in(plan, fields), key=lambda one: one[0].partition(".")[0] in changed
    )
    sizes = {name: fields[name] for name in plan.statics if name in fields}
    # What a size that is assigned now has asked of them so far is asked no longer.
    sizes_before = None if plan.sizing.isdisjoint(changed) else sizes_of(node)
    _hold(_checked(node, sizes, placed), sizes_before)


def check_items(
    node_ref: "weakref.ReferenceType[NodeBase]",
    form: Form,
    put: Mapping[str, Any],
    *,
    replaces: bool,
) -> None:
    """Raise if States that are put into a container of a node break the contract of their places there.

    Args:
        node_ref: The node.
        form: The form of the items.
        put: What is put in, by the text of its place.
        replaces: Whether it takes the place of what stands there.

    Raises:
        ContractError: They do; nothing was put in.
    """
    node = node_ref()
    # While its constructor runs, and after its end, a node has nobody to answer to.
    if node is None or isinstance(node._version, Constructing):
        return
    new: list[Placed] = []
    for place, item in put.items():
        new += _states_in(form, item, place.partition(".")[2])
    check_placed(node, new, replaces=replaces)


def check_placed(
    node: NodeBase, new: Sequence[Placed], *, replaces: bool = True
) -> None:
    """Raise if States that come into a node together break the contracts of their places.

    Args:
        node: The node.
        new: The States, with their places.
        replaces: Whether they take the place of what stands there.

    Raises:
        ContractError: Names every place whose contract is broken; nothing was put in.
    """
    replaced = {place for place, _, _ in new} if replaces else set[str]()
    # What stays comes first: it binds the axes that no static field gives, and what is
    # new must fit.
    staying = [
        placed
        for placed in _placed_in(type(node)._plan, node.__dict__)
        if placed[0] not in replaced
    ]
    _hold(_checked(node, sizes_of(node), [*staying, *new]))


def check_nodes(nodes: Iterable[NodeBase]) -> None:
    """Raise if States of new nodes break the contracts of their fields; if none does, all are held to them.

    Raises:
        ContractError: Names every field of every node that breaks its contract.
    """
    checks: list[_Check] = []
    for node in nodes:
        plan: Plan = type(node)._plan
        if plan.contracts:
            checks += _checked(
                node, sizes_of(node), list(_placed_in(plan, node.__dict__))
            )
    _hold(checks)


def attach_contracts(node: NodeBase) -> None:
    """Hold the States of a node to the contracts of its fields, as they are: what was checked before, or elsewhere."""
    plan: Plan = type(node)._plan
    if not plan.contracts:
        return
    sizes = sizes_of(node)
    for place, form, state in _placed_in(plan, node.__dict__):
        _attach(node, place, form, state, sizes)


def check_contracts_anew(node: NodeBase, fields: Set[str]) -> None:
    """Raise if a State of `node` breaks the contract of one of some fields, also if it stands there already.

    Args:
        node: The node.
        fields: The names of the fields. The others keep what stands there.

    Raises:
        ContractError: Names every field that breaks its contract.
    """
    cls = type(node)
    placed = [
        one
        for one in _placed_in(cls._plan, node.__dict__)
        if one[0].partition(".")[0] in fields
    ]
    for _, _, state in placed:
        state._contracts = tuple(
            [
                one
                for one in state._contracts
                if one.cls is not cls or one.place.partition(".")[0] not in fields
            ]
        )
    if placed:
        check_contracts(node, {})


def requirement_of(
    cls: type, place: str, form: Form, state_cls: type, sizes: Mapping[str, object]
) -> Requirement | None:
    """What a place in a node of a class asks of a State of some class; `None` where that is nothing.

    Args:
        cls: The class of the node.
        place: The path of the place in it.
        form: The form of the place.
        state_cls: The class of the State.
        sizes: The static fields of the node.
    """
    contract = next(
        (
            leaf.contract
            for leaf in form.special_first
            if derives(state_cls, (leaf.cls,))
        ),
        None,
    )
    if contract is None:
        return None
    return Requirement(cls, place, contract, ()).at_sizes(sizes)


def with_requirement(requirements: Requirements, new: Requirement) -> Requirements:
    """Requirements with a new one: also beside one of the same field, in a node of other sizes."""
    return requirements if new in requirements else (*requirements, new)


def _placed_in(plan: Plan, fields: Mapping[str, Any]) -> Iterator[Placed]:
    for field in plan.contracts:
        yield from _states_in(field.form, fields.get(field.name), field.name)


def _attach(
    node: NodeBase,
    place: str,
    form: Form,
    state: State[Any],
    sizes: Mapping[str, object],
) -> None:
    requirement = requirement_of(type(node), place, form, type(state), sizes)
    if requirement is not None:
        state._contracts = with_requirement(state._contracts, requirement)


class _Check(NamedTuple):
    """A State, what its place asks of it, and what is wrong with it there."""

    state: State[Any]
    requirement: Requirement
    fault: str | None


def _checked(
    node: NodeBase, sizes: Mapping[str, object], placed: Sequence[Placed]
) -> list[_Check]:
    """The States of a node that have contracts, checked beside each other."""
    bound: dict[str, object] = {}
    asked: list[tuple[Requirement, State[Any]]] = []
    for place, form, state in placed:
        requirement = requirement_of(type(node), place, form, type(state), sizes)
        if requirement is not None:
            asked.append((requirement, state))
    if any(requirement.contract.has_free_names(sizes) for requirement, _ in asked):
        # Names that no static field gives are bound by the first array; arithmetic over
        # them may stand before it.
        for requirement, state in asked:
            requirement.contract.fault(state._value, sizes, bound)
    checks: list[_Check] = []
    for requirement, state in asked:
        fault = requirement.contract.fault(state._value, sizes, bound)
        if fault is not None:
            # What fits by itself, and not beside the others, is not a State of a stack.
            is_alone = requirement.contract.fault(state._value, sizes, {}) is None
            if not is_alone and _fits_as_before(node, requirement, state):
                fault = None
        checks.append(_Check(state, requirement, fault))
    return checks


def _hold(
    checks: Sequence[_Check], sizes_before: Mapping[str, object] | None = None
) -> None:
    """Hold States to what was found to be asked of them.

    Args:
        checks: The States, and what is asked of them.
        sizes_before: The sizes of their node so far, where they change.

    Raises:
        ContractError: Names every place whose contract is broken; none is held to
            anything.
    """
    faults = [
        f"{check.requirement.where}: {check.fault}"
        for check in checks
        if check.fault is not None
    ]
    if faults:
        raise ContractError(listed(faults))
    for state, requirement, _ in checks:
        if sizes_before is not None:
            stale = requirement.at_sizes(sizes_before)
            state._contracts = tuple(
                [other for other in state._contracts if other != stale]
            )
        state._contracts = with_requirement(state._contracts, requirement)


def _fits_as_before(
    node: NodeBase, requirement: Requirement, state: State[Any]
) -> bool:
    """Whether a State has the shape of the one that stood in its place, or was popped from there.

    So the States of stacked nodes, which have an axis more, can be replaced and put
    back.
    """
    standing = {
        place: other for place, _, other in _placed_in(type(node)._plan, node.__dict__)
    }
    other = standing.get(requirement.place)
    if other is state:
        return requirement in state._contracts  # it stood there before
    if other is not None:
        return requirement.contract.fits_like(state._value, other._value)
    popped = popped_shapes(node).get(requirement.place)
    return popped is not None and requirement.contract.fits_like(state._value, popped)


def popped_shapes(node: NodeBase) -> dict[str, Any]:
    """The shapes and dtypes of what was popped from a node's fields, by their place; to be added to."""
    shapes: dict[str, Any] | None = getattr(node, "_popped", None)
    if shapes is None:
        shapes = {}
        NodeBase.__dict__["_popped"].__set__(node, shapes)
    return shapes


def _states_in(form: Form, value: Any, place: str) -> Iterator[Placed]:
    if isinstance(value, State):
        yield place, form, value
    elif is_container(value):
        for key, item, inner in form.items(kind_of(value), items(value)) or ():
            yield from _states_in(inner, item, f"{place}.{key_str(key)}")
