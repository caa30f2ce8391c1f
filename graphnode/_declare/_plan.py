"""Compile a schema to a plan: what construction and assignment need of a class.

That is, for each field, a function that admits a value (checks it, and tracks its
containers), and perhaps one that makes the value; and what its contracts ask of States.
The check of contracts is here as well: for a whole node, and for what is put into one.
"""

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import numpy as np

from .._caches import own_names, was_there
from .._compat import Tracer
from .._contract import Contract, Requirement
from .._describe import describe
from .._errors import ContractError, FieldError, listed
from .._fields import Kind, LeftOut, NodeBase
from .._nesting import is_container, items, kind_of
from .._paths import key_str
from .._reads import looked_at
from .._redefinition import derives
from .._state import Requirements, State
from .._static import GraphObject, StaticValueError, frozen, static_key
from .._versions import Constructing
from ._containers import Place, TrackedDict, TrackedList, admit
from ._forms import Form
from ._makers import Maker, maker_of, sizes_of
from ._schema import Field, Schema, is_computed

# From the node and a value to the value as the field keeps it. For a static field, the
# node does not matter.
Admit: TypeAlias = Callable[[Any, Any], Any]

# Static values of these exact types are neither copied nor refused.
_PLAIN_STATIC: Final = frozenset({int, str, bool, float, type(None), bytes, complex})


class Plan(NamedTuple):
    """What construction needs of a class: kept on the class, read by its instances.

    Attributes:
        names: The names of all fields.
        admit: For each field, what checks and tracks a value for it.
        makers: The functions that make what the constructor does not get, by field, in
            the order of declaration.
        contracts: The fields whose States have a contract.
        statics: The names of the static fields, in the order of declaration.
        sizing: The static fields that contracts name.
        cls: The class.
        is_final: Whether the class was used. Before that, decorators may still change
            it; and while its annotations wait for a later name, the other parts are
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
        # For classes that are pickled by value: a plan holds functions, which are made
        # anew.
        if self.cls is None:
            return _no_plan, ()
        # Only what pickles the class itself comes here: see `Kept`
        return _plan_there, (self.cls, own_names(self.cls))


NO_PLAN: Final = Plan(frozenset(), {}, {}, (), (), frozenset())


def waiting_plan(cls: type[Any]) -> Plan:
    """What stands in a class before its plan is compiled.

    Where annotations name what is defined later, so that reading `_plan` never finds
    that of a base.
    """
    return NO_PLAN._replace(cls=cls)


def _no_plan() -> Plan:
    return NO_PLAN


def _plan_there(cls: type[Any], names: tuple[str, ...]) -> Plan:
    """The plan of a class where a pickle of it is loaded: its own if it was there before.

    A pickle of the class has no plan: it is compiled there at the first use.
    """
    plan: Plan | None = cls.__dict__.get("_plan") if was_there(cls, names) else None
    return waiting_plan(cls) if plan is None else plan


class LeftOutError(Exception):
    """A generated constructor was not given a static field that a factory makes: there is nothing to assign.

    Raised by the field's function in `Plan.admit`; `Node.__setattr__` catches it.
    """


def compile_plan(compiled: Schema[Any]) -> Plan:
    """The plan of a class.

    A plan holds functions, one for each field, so that an assignment decides nothing.
    """
    cls, fields = compiled.cls, compiled.fields.values()
    statics = tuple([field.name for field in fields if field.kind is Kind.STATIC])
    computed = {field.name for field in fields if is_computed(field)}
    makers = {field.name: maker_of(field, computed) for field in fields}
    contracts = tuple([field for field in fields if contracts_of(field)])
    # An axis may be named by a static field, or be free; only the former are sizes of
    # the node.
    sizing: set[str] = set()
    for field in contracts:
        for contract in contracts_of(field):
            sizing |= contract.names.intersection(statics)
    return Plan(
        frozenset(compiled.fields),
        {field.name: _admitter(cls, field) for field in fields},
        {name: maker for name, maker in makers.items() if maker is not None},
        contracts,
        statics,
        frozenset(sizing),
        cls,
    )


def contracts_of(field: Field) -> list[Contract]:
    """The contracts of a field's States, at every depth.

    A field without any needs no check, and costs none.
    """
    leaves = field.form.all_leaves
    return [leaf.contract for leaf in leaves if leaf.contract is not None]


def _admitter(cls: type, field: Field) -> Admit:
    """The function of `Plan.admit` for a field.

    For `compile_plan`: what a field takes is decided once, and not at each assignment.
    """
    where = f"{cls.__name__}.{field.name}"
    if is_computed(field):
        return functools.partial(_admit_computed, where)
    if field.kind is Kind.STATIC:
        return functools.partial(_admit_static, where, field.is_explicit)
    form, name, classes = field.form, field.name, field.form.classes
    # For the check by exact class, which costs less than `isinstance`.
    exact = (*classes, type(None)) if form.optional else classes

    def admit_dynamic(node: NodeBase, value: Any) -> Any:
        """For `Plan.admit`: a value of a state or subnode field as the field keeps it.

        A field of one class of States, say, takes the short way; all others go through
        `admit`.
        """
        # As in `admit`, by hand: most values end here, and need no place.
        cls = type(value)
        if cls in exact:
            return value
        # A proxy or a mock passes `isinstance`, so the true type is asked as well.
        if isinstance(value, classes) and issubclass(cls, GraphObject):
            return value
        is_tracked = isinstance(value, (TrackedList, TrackedDict))
        if is_tracked and node.__dict__.get(name) is value:
            return value  # `node.layers += [...]` assigns the node's own list back
        return admit(form, value, place_of(node, field))

    return admit_dynamic


def place_of(node: NodeBase, field: Field) -> Place:
    """The place of a field's value: its containers check what is put in later, where the field has a contract."""
    check = None
    if any(leaf.contract for leaf in field.form.all_leaves):
        # Weak: the node holds the container, which holds this.
        check = functools.partial(check_items, weakref.ref(node))
    return Place(f"{type(node).__name__}.{field.name}", (), check)


def _admit_static(
    where: str, is_explicit: bool, node: NodeBase | None, value: Any
) -> Any:
    """For `Plan.admit`: a value of a static field, with read-only arrays.

    Args:
        where: Class and field, for messages.
        is_explicit: Whether the field has a specifier: then it takes arrays.
        node: Not used; each function of `Plan.admit` gets it.
        value: The value.
    """
    if type(value) in _PLAIN_STATIC:
        return value
    # A tracer gets the text of `static_key`, below.
    is_array = isinstance(value, jax.Array | np.ndarray) and not isinstance(
        value, Tracer
    )
    if is_array and not is_explicit:
        remedy = "hold it in a State, or declare the field gn.static() to make it part of the structure"
        raise FieldError(
            f"{where} is static by its annotation; found {describe(value)}; {remedy}"
        )
    try:
        value = frozen(value)
        # For what it raises: here, and not at the first split.
        static_key(value)
    except StaticValueError as error:
        raise FieldError(f"{where}: {error}") from None
    return value


def _admit_computed(where: str, node: NodeBase | None, value: Any) -> Any:
    """For `Plan.admit`: as `_admit_static`, for a field with a factory, which a constructor may leave out.

    Then the assignment of a generated constructor is skipped, and the factory makes the
    value later.
    """
    if value is LeftOut.LEFT_OUT:
        raise LeftOutError
    return _admit_static(where, True, node, value)


# The place of a State in a node, the form of the place, and the State.
Placed: TypeAlias = tuple[str, Form, State[Any]]


def check_contracts(node: NodeBase, changed: Mapping[str, Any]) -> None:
    """Raise if a State of `node` breaks the contract of its field; from then on, writes to the States are checked.

    At the end of construction and at assignments: all together, as one array may bind
    an axis of another.

    Args:
        node: The node whose fields are checked.
        changed: Fields that are about to be assigned.

    Raises:
        ContractError: Names every field that breaks its contract; nothing was assigned.
    """
    # The requirements at the sizes that are replaced are dropped.
    is_resized = not type(node)._plan.sizing.isdisjoint(changed)
    sizes_before = sizes_of(node) if is_resized else None
    _attach_checked(_checked_with(node, changed), sizes_before)


def changed_faults(node: NodeBase, changed: Mapping[str, Any]) -> list[str]:
    """How States of a node would break the contracts of its fields after an assignment; nothing is attached.

    For `Selection.set`, which changes several nodes, and none unless all may be.

    Args:
        node: The node.
        changed: Fields that are about to be assigned.
    """
    return _faults_of(_checked_with(node, changed))


def _checked_with(node: NodeBase, changed: Mapping[str, Any]) -> "list[_Check]":
    """For `check_contracts` and `changed_faults`: the checks of a node's States with some fields changed."""
    plan: Plan = type(node)._plan
    fields = {**node.__dict__, **changed}

    def is_changed(placed: Placed) -> bool:
        """Whether a State stands in a field that is about to be assigned.

        These are checked last: what stays binds the free axes, and the new States have
        to fit.
        """
        place, _, _ = placed
        return place.partition(".")[0] in changed

    # What stays comes first: it binds the free axes, and the new States have to fit.
    placed = sorted(_placed_in(plan, fields), key=is_changed)
    sizes = {name: fields[name] for name in plan.statics if name in fields}
    return _checked(node, sizes, placed)


def _field_of(place: str) -> str:
    """The field of a place in a node.

    For what is asked field by field: a State may stand deep in one.
    """
    return place.partition(".")[0]


def check_items(
    node_ref: "weakref.ReferenceType[NodeBase]",
    form: Form,
    put: Mapping[str, Any],
    *,
    replaces: bool,
) -> None:
    """Raise if States that are put into a container of a node break the contract of their places there.

    For `Place.check`, which containers call before they change.

    Args:
        node_ref: The node.
        form: The form of the items.
        put: What is put in, by the text of its place.
        replaces: Whether it takes the place of what stands there.

    Raises:
        ContractError: They do; nothing was put in.
    """
    # By a weak reference: the container that calls this may outlive the node.
    node = node_ref()
    # A node that is being constructed is checked when it is complete; one that is gone
    # has no fields any more.
    if node is None or isinstance(node._version, Constructing):
        return
    new: list[Placed] = []
    for place, item in put.items():
        # The paths inside the node, without its class in front.
        new += _states_in(form, item, place.partition(".")[2])
    check_placed(node, new, replaces=replaces)


def check_placed(
    node: NodeBase, new: Sequence[Placed], *, replaces: bool = True
) -> None:
    """Raise if States that come into a node together break the contracts of their places.

    For `gn.update_states`, and for containers.

    Args:
        node: The node.
        new: The States, with their places.
        replaces: Whether they take the place of what stands there.

    Raises:
        ContractError: Names every place whose contract is broken; nothing was put in.
    """
    replaced = {place for place, _, _ in new} if replaces else set[str]()
    # What stays comes first, as in `check_contracts`.
    staying = [
        (place, form, state)
        for place, form, state in _placed_in(type(node)._plan, node.__dict__)
        if place not in replaced
    ]
    _attach_checked(_checked(node, sizes_of(node), [*staying, *new]))


def check_nodes(nodes: Iterable[NodeBase]) -> None:
    """Raise if States of new nodes break the contracts of their fields; if none does, attach these to all.

    For `gn.treefy_merge`, `gn.unflatten` and `gn.view`: no constructor runs there.

    Raises:
        ContractError: Names every field of every node that breaks its contract.
    """
    checks: list[_Check] = []
    for node in nodes:
        plan: Plan = type(node)._plan
        if plan.contracts:
            placed = list(_placed_in(plan, node.__dict__))
            checks += _checked(node, sizes_of(node), placed)
    _attach_checked(checks)


def attach_contracts(node: NodeBase) -> None:
    """Attach the contracts of a node's fields to its States, unchecked: they were checked before, or elsewhere.

    For nodes that were loaded or copied: later writes to `.value` must be checked.
    """
    plan: Plan = type(node)._plan
    # Most classes: nothing of the node is read.
    if not plan.contracts:
        return
    cls, sizes = type(node), sizes_of(node)
    for place, form, state in _placed_in(plan, node.__dict__):
        requirement = requirement_of(cls, place, form, type(state), sizes)
        if requirement is not None:
            state._contracts = with_requirement(state._contracts, requirement)


def recheck_contracts(node: NodeBase, fields: Set[str]) -> None:
    """Raise if a State of `node` breaks the contract of one of some fields, even if it was attached before.

    For `pickle`: the class may ask for another shape than when the State was saved.

    Args:
        node: The node.
        fields: The names of the fields. A State that breaks the contract of another
            field may stay there, as one of a stack.

    Raises:
        ContractError: Names every field that breaks its contract.
    """
    cls = type(node)

    def is_stale(requirement: Requirement) -> bool:
        """Whether a requirement is that of one of the fields.

        Such a one was attached as the state was set, and would excuse the State.
        """
        return requirement.cls is cls and _field_of(requirement.place) in fields

    has_states = False
    for place, _, state in _placed_in(cls._plan, node.__dict__):
        if _field_of(place) in fields:
            has_states = True
            requirements = state._contracts
            # Without the old requirement: `_fits_as_before` would let the State stay
            # because of it.
            state._contracts = tuple(
                [other for other in requirements if not is_stale(other)]
            )
    if has_states:
        check_contracts(node, {})


def requirement_of(
    cls: type, place: str, form: Form, state_cls: type, sizes: Mapping[str, object]
) -> Requirement | None:
    """What a place in a node of a class asks of a State of some class; `None` if it asks nothing.

    For `attach_contracts`, checks, and rebuilt graphs.

    Args:
        cls: The class of the node.
        place: The path of the place in it.
        form: The form of the place.
        state_cls: The class of the State.
        sizes: The static fields of the node.
    """
    # The first that fits counts, even if it has no contract: a subclass in a union is
    # exempt from that of its base.
    for leaf in form.special_first:
        if derives(state_cls, (leaf.cls,)):
            if leaf.contract is None:
                return None
            return Requirement(cls, place, leaf.contract, ()).at_sizes(sizes)
    return None


def with_requirement(requirements: Requirements, new: Requirement) -> Requirements:
    """Requirements with one more, also beside one of the same field: two nodes of other sizes may share a State.

    Each write to `.value` goes through all of them.
    """
    return requirements if new in requirements else (*requirements, new)


def _placed_in(plan: Plan, fields: Mapping[str, Any]) -> Iterator[Placed]:
    """The States in the fields that have contracts, each with its place and its form.

    For checks and `attach_contracts`: other fields ask nothing of their States.

    Args:
        plan: The plan of the class of a node.
        fields: The values of its fields.
    """
    for field in plan.contracts:
        yield from _states_in(field.form, fields.get(field.name), field.name)


class _Check(NamedTuple):
    """A State, what its place asks of it, and what is wrong with it there."""

    state: State[Any]
    requirement: Requirement
    fault: str | None


def _checked(
    node: NodeBase, sizes: Mapping[str, object], placed: Sequence[Placed]
) -> list[_Check]:
    """Check the States of a node against its contracts, together.

    For `check_contracts`, `check_placed` and `check_nodes`; `_attach_checked` then
    raises, or attaches.

    An axis that no static field names is free: the first array binds its name to a size.

        fields               a: Float[Array, "k+1"]    b: Float[Array, "k"]    c: Float[Array, "k"]
        first pass           k is free, no size        binds k = 3             fits
        second pass          4 is k+1                  fits                    fits
    """
    bound: dict[str, object] = {}
    required: list[tuple[Requirement, State[Any], Any]] = []
    for place, form, state in placed:
        requirement = requirement_of(type(node), place, form, type(state), sizes)
        if requirement is not None:
            required.append((requirement, state, looked_at(state)))
    # The first pass of the picture: only to bind names, so its faults are dropped.
    if any(
        requirement.contract.has_free_names(sizes) for requirement, _, _ in required
    ):
        for requirement, _, held in required:
            requirement.contract.fault(held, sizes, bound)
    checks: list[_Check] = []
    for requirement, state, held in required:
        contract = requirement.contract
        fault = contract.fault(held, sizes, bound)
        if fault is not None:
            # A State of stacked nodes breaks its contract also by itself.
            fits_alone = contract.fault(held, sizes, {}) is None
            if not fits_alone and _fits_as_before(node, requirement, state):
                fault = None
        checks.append(_Check(state, requirement, fault))
    return checks


def _attach_checked(
    checks: Sequence[_Check], sizes_before: Mapping[str, object] | None = None
) -> None:
    """Attach requirements to the States that were checked, if all fulfil theirs.

    From then on each write to the `.value` of these States is checked, without their
    node.

    Args:
        checks: The States, and what is asked of them.
        sizes_before: The sizes of their node so far, if they change.

    Raises:
        ContractError: Names every place whose contract is broken; nothing is attached.
    """
    faults = _faults_of(checks)
    # Before the loop: nothing is attached where one State does not fit.
    if faults:
        raise ContractError(listed(faults))
    for state, requirement, _ in checks:
        if sizes_before is not None:
            stale = requirement.at_sizes(sizes_before)
            # Not by place: another node of other sizes may hold the State in the same
            # field.
            others = [other for other in state._contracts if other != stale]
            state._contracts = tuple(others)
        state._contracts = with_requirement(state._contracts, requirement)


def _faults_of(checks: Sequence[_Check]) -> list[str]:
    """What is wrong, by place, for messages; empty if all States fit."""
    return [
        f"{check.requirement.where}: {check.fault}"
        for check in checks
        if check.fault is not None
    ]


def _fits_as_before(
    node: NodeBase, requirement: Requirement, state: State[Any]
) -> bool:
    """Whether a State has the shape of the one that stood in its place, or was popped from there.

    For `_checked`, where a State does not fit its contract.

    The States of stacked nodes have one more axis than their contracts: this is how they
    can be replaced, and put back.
    """
    placed = _placed_in(type(node)._plan, node.__dict__)
    states = {place: other for place, _, other in placed}
    other = states.get(requirement.place)
    if other is state:
        return requirement in state._contracts  # it stood there before
    if other is not None:
        return requirement.contract.fits_like(looked_at(state), looked_at(other))
    popped = popped_shapes(node).get(requirement.place)
    return popped is not None and requirement.contract.fits_like(
        looked_at(state), popped
    )


def popped_shapes(node: NodeBase) -> dict[str, Any]:
    """The shapes and dtypes of what was popped from a node's fields, by place: a dict that the caller may change.

    For `_fits_as_before`: `gn.pop_states` notes them, so that the States of a stack can
    be put back.
    """
    shapes: dict[str, Any] | None = getattr(node, "_popped", None)
    if shapes is None:
        shapes = {}
        # By the slot itself: `Node.__setattr__` would refuse a name that is not a
        # field.
        NodeBase.__dict__["_popped"].__set__(node, shapes)
    return shapes


def _states_in(form: Form, value: Any, place: str) -> Iterator[Placed]:
    """The States in a value, each with its place and its form.

    For the checks of contracts: a field may hold States in lists and dicts, and each
    has a form of its own.

    Args:
        form: The form of the value.
        value: A State, a container of such, or a node, into which nothing looks.
        place: The path of the value in the node.
    """
    if isinstance(value, State):
        yield place, form, value
    elif is_container(value):
        for key, item, inner in form.items(kind_of(value), items(value)) or ():
            yield from _states_in(inner, item, f"{place}.{key_str(key)}")
