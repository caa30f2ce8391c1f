"""Reloading: what IPython's `autoreload` does for plain classes, done for classes of nodes and States.

For a plain class, autoreload overwrites the members of the old definition one by one,
and gives its instances the new class. Classes of nodes and States have members that
belong to one class only: schema, plan, template, spec. So the old class keeps those,
and gets the new methods; its instances get the new class, and fields that fit it:

    old class Layer                       new class Layer
    methods      <--- update_members ---  methods
    __init__     --- _redirect -------->  __init__         (modules that still call the old one)
    instances    --- _move_instances -->  instances        __class__ is replaced
      field removed     _set_aside        its value waits in `_removed`
      field back again  _bring_back
      field added       _make_field       as the constructor would, or from a twin
      field kept        _make_fit         a State of another class becomes one of that class
"""

import functools
import gc
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from types import CellType, FunctionType, GetSetDescriptorType
from typing import Any, Final

import jax

from ._declare._containers import Place, TrackedDict, TrackedList
from ._declare._forms import Form
from ._declare._node import plan_of
from ._declare._plan import NO_PLAN, attach_contracts, compile_plan, place_of
from ._declare._schema import Field, move_forms, schema
from ._declare._stack_marks import holds_new_states, shows_stack
from ._declare._twins import Twins, live_nodes
from ._errors import listed
from ._fields import Kind, NodeBase, set_version
from ._graph._graphdef import forget_class
from ._graph._template import Template
from ._members import is_dunder
from ._nesting import children, is_container, items, kind_of
from ._redefinition import has_same_name, move_nested, on_reload
from ._state import State, moved_spec, spec_of
from ._versions import CLOCK, CONSTRUCTING, Constructing, Version, constructing

# Made for one class only, or by Python from the rest of the body; `__init__` is for
# `_redirect`.
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
# What graphnode compiles for a class, and the slots of its instances.
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
    """For autoreload: make the nodes of a class those of its new definition, and its methods the new ones.

    A field that was added gets what the constructor would give it: its default, or what
    its initializer or factory makes. Nodes that share all their States, such as a view
    and its original, share the new value. A value that its field does not accept any
    more is replaced. The value of a field that was removed is set aside, for when the
    field comes back.

    Warns:
        UserWarning: Fields hold nothing, as nothing could be made for them; names each,
            once for all nodes.
    """
    before = dict(schema(old).fields)
    # Compiled first: if the new class has faults, nothing was moved.
    plan_of(new)
    nodes = _move_instances(old, new)
    for node in nodes:
        _bring_back(node, before)
    same_kind = {
        name
        for name, field in schema(new).fields.items()
        if name in before and before[name].kind is field.kind
    }
    unfit = {id(node): _unfit_fields(node, same_kind) for node in nodes}
    unfit_anywhere = set[str]().union(*unfit.values())
    # Nodes that got values back from an earlier definition come first: their twins are
    # to share those, not to make their own.
    added = {field.name for field in schema(new).dynamic_fields} - before.keys()
    nodes.sort(key=lambda node: len(added - node.__dict__.keys()))
    with_twins = _with_twins(nodes, new, before, same_kind - unfit_anywhere)
    for node in nodes:
        _set_aside(node, before)
    faults: list[str] = []
    try:
        for node, twin, is_stacked in with_twins:
            unchanged = same_kind - unfit[id(node)]
            faults += _fit_fields(node, before, unchanged, twin, is_stacked=is_stacked)
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
    """For autoreload: make the States of a class those of its new definition, and its methods the new ones."""
    states = _move_instances(old, new)
    for state in states:
        state._spec = moved_spec(state._spec)
    if states:
        _forget_bindings()


def _move_instances(old: type[Any], new: type[Any]) -> list[Any]:
    """For `move_nodes` and `move_states`: replace the old definition by the new one.

    Returns:
        The instances of the old class, which now are of the new one.
    """
    update_members(old, new)
    _redirect(old, new)
    _move_forms(old, new)
    _forget_structures(old)
    instances = _instances(old)
    for instance in instances:
        # Past the `__setattr__` of nodes, which knows only fields.
        object.__setattr__(instance, "__class__", new)
    return instances


def _set_aside(node: NodeBase, before: "Mapping[str, Field]") -> None:
    """Take out the values of removed fields: each would hide a member of the new class with the same name."""
    for name in before.keys() - schema(type(node)).fields.keys():
        if name in node.__dict__:
            removed = getattr(node, "_removed", {})
            removed[name] = before[name].kind, node.__dict__.pop(name)
            object.__setattr__(node, "_removed", removed)


def _bring_back(node: NodeBase, before: "Mapping[str, Field]") -> None:
    """Put back what `_set_aside` took out earlier, where a field is declared again and with the same kind."""
    removed: dict[str, tuple[Kind, Any]] = getattr(node, "_removed", {})
    for name, field in schema(type(node)).fields.items():
        if name in before or name not in removed:
            continue
        kind, value = removed.pop(name)
        if kind is field.kind and (kind is Kind.STATIC or _make_fit(value, field.form)):
            node.__dict__[name] = value


def _with_twins(
    nodes: Sequence[NodeBase],
    cls: type[NodeBase],
    before: "Mapping[str, Field]",
    unchanged: Set[str],
) -> list[tuple[NodeBase, NodeBase | None, bool]]:
    """For `move_nodes`: what `_fit_fields` has to know of each node.

    Args:
        nodes: The nodes of one class.
        cls: Their new class.
        before: The fields that they have.
        unchanged: The names of those that they keep.

    Returns:
        Each node with a twin that comes ahead of it (`None` without one), and whether it is stacked.
    """
    # No field needs a new value, so nobody asks for twins, which cost a walk.
    if all(field.name in unchanged for field in schema(cls).dynamic_fields):
        return [(node, None, False) for node in nodes]
    twins, sizes = Twins({cls: before.keys()}), plan_of(cls).sizing & unchanged
    pairs: list[tuple[NodeBase, NodeBase | None, bool]] = []
    for node, twin, _ in twins.pairs(nodes, lambda _: sizes):
        is_stacked = False
        for enclosing, _ in twins.around(node):
            # Of this class, the new fields do not count yet.
            is_moved = type(enclosing) is cls
            names = before.keys() if is_moved else enclosing.__dict__.keys()
            is_stacked = is_stacked or shows_stack(enclosing, names)
        pairs.append((node, twin, is_stacked))
    return pairs


def _unfit_fields(node: NodeBase, names: Set[str]) -> set[str]:
    """The names, among `names`, of the fields of a node whose values the new class does not accept.

    `_fit_fields` then makes other values for these fields. States that a field accepts
    once they are of another class get that class here.
    """
    fields, unfit = schema(type(node)).fields, set[str]()
    for name in sorted(names & node.__dict__.keys()):
        is_static = fields[name].kind is Kind.STATIC
        if not is_static and not _make_fit(node.__dict__[name], fields[name].form):
            unfit.add(name)
    return unfit


def _make_fit(value: Any, form: Form) -> bool:
    """Whether a form accepts a value. A State of another class than the form accepts is changed to that class.

    The State itself, so that nodes, optimizers and variables that refer to it still
    share its value.
    """
    if value is None:
        return form.optional
    if is_container(value):
        placed = form.items(kind_of(value), items(value))
        # A list, as all of them are to be changed, also after one that does not fit.
        return placed is not None and all(
            [_make_fit(item, item_form) for _, item, item_form in placed]
        )
    # By name: the class of the value, or of the form, may be moved only later.
    for base in type(value).__mro__:
        if any(has_same_name(base, accepted) for accepted in form.classes):
            return True
    if not isinstance(value, State) or len(form.classes) != 1:
        return False
    return _change_class(value, form.classes[0])


def _change_class(state: State[Any], cls: Any) -> bool:
    """For `_make_fit`: change the class of a State and nothing else of it; returns whether that was possible."""
    try:
        object.__setattr__(state, "__class__", cls)
    except TypeError:  # its instances have another layout in memory
        return False
    spec = state._spec
    state._spec = spec_of(
        cls, spec.name, spec.tag, spec.sharding, spec.metadata, spec.stacked
    )
    return True


def _move_forms(old: type, new: type) -> None:
    """Have the fields of all classes accept the new class: most of their modules are not reloaded."""
    for cls in _subclasses(NodeBase):
        if not move_forms(cls, old, new):
            continue
        compiled = schema(cls)
        if cls.__dict__.get("_plan", NO_PLAN) is not NO_PLAN:
            cls._plan = compile_plan(compiled)
        template: object = cls.__dict__.get("_template")
        if isinstance(template, Template):
            # Enough for the generated code, which reads only names and nestings.
            template.dynamic_fields = compiled.dynamic_fields
        for node in _instances(cls):
            for field in compiled.dynamic_fields:
                _fit_containers(
                    node.__dict__.get(field.name), field.form, place_of(node, field)
                )
            _fit_contracts(node, cls)


def _subclasses(cls: type[Any]) -> set[type[Any]]:
    """For `_move_forms`: the subclasses of a class, at any depth, that something still refers to."""
    subclasses: set[type[Any]] = set()
    todo = [cls]
    while todo:
        new = set(todo.pop().__subclasses__()) - subclasses
        subclasses |= new
        todo += new
    return subclasses


def _instances(cls: type) -> list[Any]:
    """The finished instances of exactly this class, which are to be moved: the garbage collector knows them all."""
    # Every object refers to its class.
    referrers = gc.get_referrers(cls)
    return [ref for ref in referrers if type(ref) is cls and _is_finished(ref)]


def _is_finished(instance: Any) -> bool:
    """For `_instances`: whether a constructor has returned. The traceback of one that failed keeps its instance."""
    if isinstance(instance, NodeBase):
        return not isinstance(getattr(instance, "_version", CONSTRUCTING), Constructing)
    return hasattr(instance, "_contracts")


def _forget_structures(cls: type) -> None:
    """Drop what was cached for graphdefs with the old class, and what JAX compiled for them: it runs the old code."""
    if forget_class(cls):
        jax.clear_caches()  # type: ignore[no-untyped-call]


def _forget_bindings() -> None:
    """Have every graph walked again: bindings compare versions, and a change of class changes none."""
    for node in live_nodes():
        # Not a node that is part of no binding yet, or whose constructor runs.
        if type(getattr(node, "_version", None)) is Version:
            set_version(node, Version())
    # The last: whoever reads the new clock sees the new versions.
    CLOCK.now = Version()


def update_members(old: type[Any], new: type[Any]) -> None:
    """Give the old class the methods of the new one, for its subclasses and for whoever has imported it."""
    fields = (
        {*schema(old).fields, *schema(new).fields}
        if issubclass(old, NodeBase)
        else set[str]()
    )
    new_members = {
        name: member
        for name, member in vars(new).items()
        if _is_movable(name, member, fields)
    }
    # A list, as members are deleted on the way.
    for name, member in list(vars(old).items()):
        if _is_movable(name, member, fields) and name not in new_members:
            delattr(old, name)
    for name, member in new_members.items():
        old_member = vars(old).get(name)
        move_nested(old_member, member)
        if not _update_member(old_member, member):
            setattr(old, name, _with_class(member, old, new))


def _is_movable(name: str, member: object, fields: Set[str]) -> bool:
    """For `update_members`: whether the member of a class is one that its other definition gets.

    Methods and constants are; fields are compiled, and what graphnode keeps on a class belongs to that class.

    Args:
        name: The name of the member.
        member: The member.
        fields: The names of the fields of both definitions.
    """
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
    """For `update_members`: give a method of the old class the code of the new one; whether that was possible."""
    if type(old) is type(new) and isinstance(old, (classmethod, staticmethod)):
        return _update_function(old.__func__, new.__func__)
    return _update_function(old, new)


def _update_function(old: object, new: object) -> bool:
    """Give a function the code of another; whether that was possible.

    The function object stays, so that methods that are bound somewhere run the new code.
    """
    if not (isinstance(old, FunctionType) and isinstance(new, FunctionType)):
        return False
    captured = new.__code__.co_freevars
    # A decorator's wrapper keeps the function itself in what it captures, so its code
    # does not tell.
    if old.__code__.co_freevars != captured or set(captured) - {"__class__"}:
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = (
        new.__code__,
        new.__defaults__,
        new.__kwdefaults__,
    )
    old.__doc__, old.__annotations__ = new.__doc__, new.__annotations__
    return True


def _with_class(member: Any, old: type, new: type) -> Any:
    """A method of the new class for the old one: in subclasses of the old class, `super()` has to start there."""
    if isinstance(member, (classmethod, staticmethod)):
        return type(member)(_with_class(member.__func__, old, new))
    if type(member) is property:
        get, put, delete = [
            _with_class(function, old, new)
            for function in (member.fget, member.fset, member.fdel)
        ]
        return property(get, put, delete, member.__doc__)
    if isinstance(member, FunctionType):
        return _with_cell(member, old, new, {})
    return member


def _with_cell(
    function: FunctionType, old: type, new: type, copies: dict[int, FunctionType]
) -> FunctionType:
    """For `_with_class`: a function whose `super()` starts at the old class, which it reads from a cell.

    Args:
        function: A function of the new class.
        old: The old class.
        new: The new class.
        copies: What was worked out so far, by id: functions may capture each other.

    Returns:
        A copy; or the function itself, if neither it nor a function that it captures has the class in a cell.
    """
    if id(function) in copies:
        return copies[id(function)]
    copies[id(function)] = function  # it may capture itself
    cells: list[CellType] = []
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            captured = replacement = cell.cell_contents
        except ValueError:  # the cell is empty
            captured = replacement = None
        if name == "__class__" and captured is new:
            replacement = old
        elif isinstance(captured, FunctionType):
            replacement = _with_cell(captured, old, new, copies)
        cells.append(cell if replacement is captured else CellType(replacement))
    if tuple(cells) != (function.__closure__ or ()):
        copy = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(cells),
        )
        # `FunctionType` takes no defaults of keyword arguments.
        copy.__kwdefaults__ = function.__kwdefaults__
        functools.update_wrapper(copy, function)
        copies[id(function)] = copy
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
    unchanged: Set[str],
    twin: NodeBase | None,
    *,
    is_stacked: bool,
) -> list[str]:
    """For `move_nodes`: give a node the fields of its new class.

    Args:
        node: The node.
        before: The fields that it had.
        unchanged: The names of those that it keeps.
        twin: A node that shares all its States, and has its fields already.
        is_stacked: Whether it is one of several nodes stacked.

    Returns:
        What is wrong with fields that could not be made.
    """
    fields, values = schema(type(node)).fields, node.__dict__
    # The old value is of another kind, or of a class that the field does not accept.
    unfit = sorted(before.keys() & fields.keys() & values.keys() - unchanged)
    for name in unfit:
        del values[name]
    # An unchanged field that holds nothing was popped, and stays so.
    makers = plan_of(type(node)).makers
    to_make = [name for name in makers if name not in values and name not in unchanged]
    faults: list[str] = []
    version = node._version
    set_version(node, constructing())  # a factory may then read another added field
    try:
        for name in to_make:
            if name not in values:  # a factory may have read it, and so made it
                stacked = before.keys() & unchanged if is_stacked else None
                faults += _make_field(node, fields[name], twin, stacked)
    finally:
        set_version(node, version)
    for name, field in fields.items():
        _fit_containers(values.get(name), field.form, place_of(node, field))
    # No maker: only the constructor's argument can give such a field a value.
    lost = [name for name in unfit if name not in to_make]
    return faults + [
        f"{type(node).__name__}.{name} holds nothing, as what it held does not fit: assign it"
        for name in lost
    ]


def _make_field(
    node: NodeBase, field: Field, twin: NodeBase | None, stacked: Set[str] | None
) -> list[str]:
    """For `_fit_fields`: make an added field, or share a twin's; returns what is wrong if neither is possible.

    Args:
        node: The node.
        field: The field.
        twin: The twin.
        stacked: The unchanged fields of a stacked node; `None` for another node.
    """
    where = f"{type(node).__name__}.{field.name}"
    shared = {} if twin is None or field.kind is Kind.STATIC else twin.__dict__
    try:
        if field.name in shared:
            setattr(node, field.name, shared[field.name])
            return []
        setattr(node, field.name, plan_of(type(node)).makers[field.name](node))
    # Whatever a user's factory raises: the other nodes are to be completed all the same.
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
    """Have the containers in a field check their items as the field of the new class does."""
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
    """Hold the States of a node to the contracts of its new class, and no longer to those of the old one."""
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
    """The States in the fields of one node, in lists and dicts too, but not those of the nodes in it.

    For `_fit_contracts`: a node's contracts are about these alone.
    """
    todo: list[Any] = list(node.__dict__.values())
    while todo:
        value = todo.pop()
        if isinstance(value, State):
            yield value
        elif is_container(value):
            todo += children(value)


on_reload(NodeBase, move_nodes, update_members)
on_reload(State, move_states, update_members)
