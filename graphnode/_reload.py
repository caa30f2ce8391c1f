"""Reloading: what IPython's `autoreload` does to plain classes, done to those of nodes and States.

Of a plain class, autoreload overwrites the members of the old definition one by one,
and makes its instances those of the new one. Classes of nodes and States have members
that belong to one class alone: schema, plan, template, spec. So the old class keeps
them, and gets the new methods; its instances go to the new class, in a state that fits
that.
"""

import functools
import gc
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from types import CellType, FunctionType, GetSetDescriptorType
from typing import Any, Final

import jax

from ._containers import children, is_container, items, kind_of
from ._declare._annotations import Form
from ._declare._node import plan_of
from ._declare._plan import NO_PLAN, attach_contracts, compile_plan, place_of
from ._declare._schema import Field, move_forms, schema
from ._declare._stack_marks import holds_new_states, shows_stack
from ._declare._tracked import Place, TrackedDict, TrackedList
from ._declare._twins import Twins, live_nodes
from ._errors import listed
from ._fields import Kind, NodeBase, set_version
from ._graph._graphdef import forget_class
from ._graph._template import Template
from ._members import is_dunder
from ._redefinition import move_nested, on_reload
from ._state import State, moved_spec, spec_of
from ._versions import CLOCK, CONSTRUCTING, Constructing, Version, constructing

_LEFT_ALONE: Final = frozenset(
    {
        "__annotate__",
        "__annotate_func__",
        "__class_getitem__",
        "__dataclass_fields__",
        "__init__",
        "__init_subclass__",
        "__new__",
        "__replace__",
    }
)
_OWN: Final = frozenset(
    {
        "_abc_impl",
        "_binding",
        "_fill",
        "_has_own_init",
        "_joint",
        "_plain_spec",
        "_plan",
        "_popped",
        "_removed",
        "_template",
    }
)


def move_nodes(old: type[Any], new: type[Any]) -> None:
    """Make the nodes of a class those of its new definition, and its methods the new ones.

    A field that was added gets what the constructor gives it: its default, or what its
    initializer or factory makes. Nodes that share all their States, such as a view and
    its original, share what is made. What a field holds and does not take any more is
    made anew. The value of a field that was removed is set aside, for when the field
    comes back.

    Warns:
        UserWarning: Fields hold nothing, as nothing could be made for them; names each,
            once for all nodes.
    """
    before = dict(schema(old).fields)
    plan_of(new)
    nodes = _moved(old, new)
    for node in nodes:
        _bring_back(node, before)
    kept = {
        name
        for name, field in schema(new).fields.items()
        if name in before and before[name].kind is field.kind
    }
    dropped = {id(node): _dropped(node, kept) for node in nodes}
    remade = set[str]().union(*dropped.values())
    # First those that hold a value of a time when there was such a field before: their
    # twins are to have that one.
    remembered = {field.name for field in schema(new).dynamic_fields} - before.keys()
    nodes.sort(key=lambda node: len(remembered - node.__dict__.keys()))
    with_twins = _with_twins(nodes, new, before, kept - remade)
    for node in nodes:
        _set_aside(node, before)
    faults: list[str] = []
    try:
        for node, twin, is_stacked in with_twins:
            faults += _fit_fields(
                node, before, kept - dropped[id(node)], twin, is_stacked=is_stacked
            )
            _fit_contracts(node, old)
    finally:
        if nodes:
            _forget_bindings()
    if faults:
        warnings.warn(
            f"{new.__name__} was defined again: {listed(list(dict.fromkeys(faults)))}",
            stacklevel=2,
        )


def move_states(old: type[Any], new: type[Any]) -> None:
    """Make the States of a class those of its new definition, and its methods the new ones."""
    states = _moved(old, new)
    for state in states:
        state._spec = moved_spec(state._spec)
    if states:
        _forget_bindings()


def _moved(old: type[Any], new: type[Any]) -> list[Any]:
    """Put a new definition in the place of the old one; gives the instances, which are of the new class."""
    update_members(old, new)
    _redirect(old, new)
    _move_forms(old, new)
    _forget_structures(old)
    instances = _instances(old)
    for instance in instances:
        object.__setattr__(instance, "__class__", new)
    return instances


def _set_aside(node: NodeBase, before: "Mapping[str, Field]") -> None:
    """Take out the values of fields that were removed: each would hide what the new class has under its name."""
    for name in before.keys() - schema(type(node)).fields.keys():
        if name in node.__dict__:
            removed = getattr(node, "_removed", {})
            removed[name] = before[name].kind, node.__dict__.pop(name)
            object.__setattr__(node, "_removed", removed)


def _bring_back(node: NodeBase, before: "Mapping[str, Field]") -> None:
    """Put back the values of fields that were removed earlier, and are there again, of the same kind."""
    removed: dict[str, tuple[Kind, Any]] = getattr(node, "_removed", {})
    for name, field in schema(type(node)).fields.items():
        if name in before or name not in removed:
            continue
        kind, value = removed.pop(name)
        if kind is field.kind and (kind is Kind.STATIC or _made_fit(value, field.form)):
            node.__dict__[name] = value


def _with_twins(
    nodes: Sequence[NodeBase],
    cls: type[NodeBase],
    before: "Mapping[str, Field]",
    kept: Set[str],
) -> list[tuple[NodeBase, NodeBase | None, bool]]:
    """The nodes of a class, each with a twin that comes ahead of it, if it has one, and whether it is stacked.

    Args:
        nodes: The nodes.
        cls: Their new class.
        before: The fields that they have.
        kept: The names of those that they keep.
    """
    if all(field.name in kept for field in schema(cls).dynamic_fields):
        return [(node, None, False) for node in nodes]
    twins, sizes = Twins({cls: before.keys()}), plan_of(cls).sizing & kept
    found: list[tuple[NodeBase, NodeBase | None, bool]] = []
    for node, twin, _ in twins.pairs(nodes, lambda _: sizes):
        around = [
            (above, before.keys() if type(above) is cls else above.__dict__.keys())
            for above, _ in twins.around(node)
        ]
        found.append(
            (node, twin, any(shows_stack(above, fields) for above, fields in around))
        )
    return found


def _dropped(node: NodeBase, kept: Set[str]) -> set[str]:
    """The fields that a node keeps by their kind, and whose values no longer fit; States have the new class by then."""
    fields = schema(type(node)).fields
    held = [
        fields[name]
        for name in sorted(kept & node.__dict__.keys())
        if fields[name].kind is not Kind.STATIC
    ]
    return {
        field.name
        for field in held
        if not _made_fit(node.__dict__[field.name], field.form)
    }


def _made_fit(value: Any, form: Form) -> bool:
    """Whether a form admits a value. A State of another class than the one that it takes becomes one of that class.

    The State itself: nodes, optimizers and variables that refer to it go on to share
    its value.
    """
    if value is None:
        return form.optional
    if is_container(value):
        placed = form.items(kind_of(value), items(value))
        return placed is not None and all(
            [_made_fit(item, item_form) for _, item, item_form in placed]
        )
    if any(
        _is_called(base, leaf) for base in type(value).__mro__ for leaf in form.classes
    ):
        return True
    return (
        isinstance(value, State)
        and len(form.classes) == 1
        and _change_class(value, form.classes[0])
    )


def _is_called(cls: type, other: type) -> bool:
    """Whether a class is another one, or its definition of before or after: it may be moved only later."""
    return (cls.__module__, cls.__qualname__) == (other.__module__, other.__qualname__)


def _change_class(state: State[Any], cls: Any) -> bool:
    """Make a State one of another class, with the same value and description; whether that was possible."""
    try:
        object.__setattr__(state, "__class__", cls)
    except TypeError:  # its instances are laid out otherwise
        return False
    spec = state._spec
    state._spec = spec_of(
        cls, spec.name, spec.tag, spec.sharding, spec.metadata, spec.stacked
    )
    return True


def _move_forms(old: type, new: type) -> None:
    """Have the fields of all classes take the new class: the modules of most of them are not reloaded."""
    for cls in _subclasses(NodeBase):
        if not move_forms(cls, old, new):
            continue
        compiled = schema(cls)
        if cls.__dict__.get("_plan", NO_PLAN) is not NO_PLAN:
            cls._plan = compile_plan(compiled)
        template: object = cls.__dict__.get("_template")
        if isinstance(template, Template):
            # The generated code reads names and nestings alone
            template.dynamic_fields = compiled.dynamic_fields
        for node in _instances(cls):
            for field in compiled.dynamic_fields:
                _fit_containers(
                    node.__dict__.get(field.name), field.form, place_of(node, field)
                )
            _fit_contracts(node, cls)


def _subclasses(cls: type[Any]) -> set[type[Any]]:
    found: set[type[Any]] = set()
    todo = [cls]
    while todo:
        new = set(todo.pop().__subclasses__()) - found
        found |= new
        todo += new
    return found


def _instances(cls: type) -> list[Any]:
    # Every object refers to its class.
    found = [instance for instance in gc.get_referrers(cls) if type(instance) is cls]
    return [instance for instance in found if _is_finished(instance)]


def _is_finished(instance: Any) -> bool:
    """Whether a constructor has finished an instance. The traceback of one that failed keeps it, half made."""
    if isinstance(instance, NodeBase):
        return not isinstance(getattr(instance, "_version", CONSTRUCTING), Constructing)
    return hasattr(instance, "_contracts")


def _forget_structures(cls: type) -> None:
    """Have nothing made of a graphdef of before, nor run what JAX has compiled for one: that would be the old code."""
    if forget_class(cls):
        jax.clear_caches()  # type: ignore[no-untyped-call]


def _forget_bindings() -> None:
    """Have every graph walked again: nothing that a binding watches tells that a class has changed."""
    for node in live_nodes():
        if type(getattr(node, "_version", None)) is Version:
            set_version(node, Version())
    CLOCK.now = Version()


def update_members(old: type[Any], new: type[Any]) -> None:
    """Give the old class the methods of the new one, for its subclasses and for whoever has imported it."""
    fields = (
        {*schema(old).fields, *schema(new).fields}
        if issubclass(old, NodeBase)
        else set[str]()
    )
    theirs = {
        name: member
        for name, member in vars(new).items()
        if _is_movable(name, member, fields)
    }
    for name, member in list(vars(old).items()):
        if _is_movable(name, member, fields) and name not in theirs:
            delattr(old, name)
    for name, member in theirs.items():
        member_of_before = vars(old).get(name)
        move_nested(member_of_before, member)
        if not _update_member(member_of_before, member):
            setattr(old, name, _with_class(member, old, new))


def _is_movable(name: str, member: object, fields: Set[str]) -> bool:
    if is_dunder(name):
        # A method, in whatever a decorator made of it; the rest is Python's own, such
        # as `__doc__` and `__dict__`.
        is_method = callable(member) or hasattr(type(member), "__get__")
        return (
            is_method
            and not isinstance(member, GetSetDescriptorType)
            and name not in _LEFT_ALONE
        )
    return name not in fields and name not in _OWN


def _update_member(old: Any, new: Any) -> bool:
    """Give what stands in an old class the code of its new definition; whether that was done."""
    if type(old) is type(new) and isinstance(old, (classmethod, staticmethod)):
        return _update_function(old.__func__, new.__func__)
    return _update_function(old, new)


def _update_function(old: object, new: object) -> bool:
    """Give a function the code of another, so that methods that are bound somewhere have it; whether that was done."""
    if not (isinstance(old, FunctionType) and isinstance(new, FunctionType)):
        return False
    if old.__code__.co_freevars != new.__code__.co_freevars or set(
        new.__code__.co_freevars
    ) - {"__class__"}:
        # What a decorator made: the function itself is in what it captures
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = (
        new.__code__,
        new.__defaults__,
        new.__kwdefaults__,
    )
    old.__doc__, old.__annotations__ = new.__doc__, new.__annotations__
    return True


def _with_class(member: Any, old: type, new: type) -> Any:
    """A method of the new class for the old one, whose subclasses are not those of the new: `super()` is of the old."""
    if isinstance(member, (classmethod, staticmethod)):
        return type(member)(_with_class(member.__func__, old, new))
    if type(member) is property:
        get, put, delete = [
            _with_class(function, old, new)
            for function in (member.fget, member.fset, member.fdel)
        ]
        return property(get, put, delete, member.__doc__)
    return (
        _with_cell(member, old, new, {}) if isinstance(member, FunctionType) else member
    )


def _with_cell(
    function: FunctionType, old: type, new: type, copies: dict[int, FunctionType]
) -> FunctionType:
    """`function`, or a copy of it where it, or a function that it captures, captures its class."""
    if id(function) in copies:
        return copies[id(function)]
    copies[id(function)] = function  # it may capture itself
    cells: list[CellType] = []
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            captured = other = cell.cell_contents
        except ValueError:  # it is empty
            captured = other = None
        if name == "__class__" and captured is new:
            other = old
        elif isinstance(captured, FunctionType):
            other = _with_cell(captured, old, new, copies)
        cells.append(cell if other is captured else CellType(other))
    if tuple(cells) != (function.__closure__ or ()):
        twin = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(cells),
        )
        twin.__kwdefaults__ = function.__kwdefaults__
        functools.update_wrapper(twin, function)
        copies[id(function)] = twin
    return copies[id(function)]


def _redirect(old: type[Any], new: type[Any]) -> None:
    """Have the old class make instances of the new one: a module that was not reloaded may still call it."""
    construct = getattr(old.__init__, "_before_reload", old.__init__)
    if getattr(old, "_has_own_init", True) and getattr(new, "_has_own_init", True):
        _update_function(inspect.unwrap(construct), inspect.unwrap(new.__init__))

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is not old:
            construct(self, *args, **kwargs)  # a subclass that was not reloaded
            return
        object.__setattr__(self, "__class__", new)
        self.__init__(*args, **kwargs)

    redirected: Any = functools.wraps(new.__init__)(__init__)
    redirected._before_reload = construct
    setattr(old, "__init__", redirected)  # noqa: B010  # an assignment would declare it anew to a type checker


def _fit_fields(
    node: NodeBase,
    before: "Mapping[str, Field]",
    kept: Set[str],
    twin: NodeBase | None,
    *,
    is_stacked: bool,
) -> list[str]:
    """Give a node the fields of its new class.

    Args:
        node: The node.
        before: The fields that it had.
        kept: The names of those that it keeps.
        twin: A node that shares all its States, and has its fields already.
        is_stacked: Whether it is one of several nodes stacked.

    Returns:
        What is wrong with fields that could not be made.
    """
    fields, values = schema(type(node)).fields, node.__dict__
    # What was there is of another kind, or of a class that the field does not take any
    # more.
    gone = sorted(before.keys() & fields.keys() & values.keys() - kept)
    for name in gone:
        del values[name]
    # A field that is kept and holds nothing was popped, and stays so.
    added = [
        name
        for name in plan_of(type(node)).makers
        if name not in values and name not in kept
    ]
    faults: list[str] = []
    version = node._version
    set_version(node, constructing())  # a factory may then read another added field
    try:
        for name in added:
            if name not in values:
                faults += _make_field(
                    node,
                    fields[name],
                    twin,
                    before.keys() & kept if is_stacked else None,
                )
    finally:
        set_version(node, version)
    for name, field in fields.items():
        _fit_containers(values.get(name), field.form, place_of(node, field))
    lost = [name for name in gone if name not in added]
    return faults + [
        f"{type(node).__name__}.{name} holds nothing, as what it held does not fit: assign it"
        for name in lost
    ]


def _make_field(
    node: NodeBase, field: Field, twin: NodeBase | None, stacked: Set[str] | None
) -> list[str]:
    """Make a field that was added, or take that of a twin; gives what is wrong where that is not possible.

    Args:
        node: The node.
        field: The field.
        twin: The twin.
        stacked: The fields of before of a stacked node; `None` for another one.
    """
    where = f"{type(node).__name__}.{field.name}"
    try:
        if (
            twin is not None
            and field.name in twin.__dict__
            and field.kind is not Kind.STATIC
        ):
            setattr(node, field.name, twin.__dict__[field.name])
            return []
        setattr(node, field.name, plan_of(type(node)).makers[field.name](node))
    # A node that cannot be completed keeps no other one from being.
    except Exception as error:
        return [
            f"{where} holds nothing, as what makes it raised {type(error).__name__}: {error}; assign it"
        ]
    if stacked is not None and holds_new_states(
        node.__dict__[field.name], node, stacked
    ):
        del node.__dict__[field.name]
        return [
            f"{where} holds nothing in stacked nodes, as what is made is for one member: assign it, or stack anew"
        ]
    return []


def _fit_containers(value: Any, form: Form, place: Place) -> None:
    """Have the containers in a field admit what the field of the new class does."""
    if not is_container(value):
        return
    placed = form.items(kind_of(value), items(value))
    if placed is None:
        return
    if isinstance(value, (TrackedList, TrackedDict)):
        value._form, value._place = form.item(kind_of(value)), place
    for key, item, item_form in placed:
        _fit_containers(item, item_form, place.below(key))


def _fit_contracts(node: NodeBase, old: type) -> None:
    """Hold the States of a node to the contracts of its new class, as they are, and no longer to those of the old."""
    for state in _states_of(node):
        state._contracts = tuple(
            [
                requirement
                for requirement in state._contracts
                if requirement.cls is not old
            ]
        )
    attach_contracts(node)


def _states_of(node: NodeBase) -> Iterator[State[Any]]:
    todo: list[Any] = list(node.__dict__.values())
    while todo:
        value = todo.pop()
        if isinstance(value, State):
            yield value
        elif is_container(value):
            todo += children(value)


on_reload(NodeBase, move_nodes, update_members)
on_reload(State, move_states, update_members)
