"""`Node`, the base class of declared nodes: construction, assignment, copying.

Data in: the compiled schema of a class. Data out: instances whose `__dict__` holds exactly the declared fields, each
with a value of its kind. Graph operations read that `__dict__`; nothing here knows them.
"""

import copy
import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import jax
import numpy as np
from typing_extensions import dataclass_transform

from ._annotations import Form, own_annotations
from ._compat import Tracer
from ._errors import ContractError, FieldError, SchemaError, UndeclaredFieldError, UnsetFieldError, listed
from ._fields import Kind, NodeBase, state, static, subnode
from ._pretty import Record, pretty
from ._schema import Field, Schema, UnresolvedError, compile_schema, default_faults, remember_frames, schema
from ._state import State, describe
from ._static import StaticValueError, frozen, static_key
from ._stream import split_key
from ._tracked import CLOCK, TrackedDict, TrackedList, admit

Admit = Callable[[Any, Any], Any]


class _Constructing:
    def __repr__(self) -> str:
        return "CONSTRUCTING"


CONSTRUCTING: Final = _Constructing()
"""The version of a node whose constructor still runs."""

# `Node.__setattr__` guards assignment; these are the way around it for what is not a field.
set_version: Final[Callable[[NodeBase, object], None]] = NodeBase.__dict__["_version"].__set__
set_binding: Final[Callable[[NodeBase, object], None]] = NodeBase.__dict__["_binding"].__set__

# Static values of these exact types need no look.
_PLAIN_STATIC: Final = frozenset({int, str, bool, float, type(None), bytes, complex})


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What construction needs of a class, compiled from its schema: kept on the class, read by its instances."""

    names: frozenset[str]
    admit: Mapping[str, Admit]
    makers: Mapping[str, Callable[[Any], Any]]
    contracts: tuple[Field, ...]
    statics: tuple[str, ...]


_NO_PLAN: Final = Plan(frozenset(), {}, {}, (), ())


@dataclass_transform(field_specifiers=(static, state, subnode, dataclasses.field))
class Node(NodeBase):
    """The base of declared nodes: annotated fields become the constructor, the structure and the States.

    Every subclass is a dataclass without a decorator. A field is *static* (part of the structure), *state* (holds a
    `State`) or *subnode* (holds a node), as its annotation or its specifier says; lists, tuples and dicts of States or
    nodes, `None`, shared and cyclic references are all welcome. Hash and equality are identity.

    Raises:
        SchemaError: At class creation (or at first use, when annotations name what comes later): all faults.
        FieldError: In construction or assignment: a value that is not of its field's kind, or a missing field.
        ContractError: In construction or assignment: a State whose shape or dtype breaks its annotation.
        UndeclaredFieldError: An assignment to what the class does not declare.

    Example:
        >>> class Affine(gn.Node):
        ...     rows: int
        ...     weight: gn.ParamState
        >>> Affine(rows=2, weight=gn.ParamState(jnp.ones(2)))
        Affine(
          rows=2,
          weight=ParamState(
            value=ShapedArray(float32[2])
          )
        )
    """

    __slots__ = ()

    _plan: ClassVar[Plan] = _NO_PLAN
    _has_own_init: ClassVar[bool] = False

    def __init_subclass__(cls, *, kw_only: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        faults = default_faults(cls)
        if faults:
            raise SchemaError(cls.__name__, faults)
        takes_parents = _takes_parents_init(cls)
        try:
            dataclasses.dataclass(cls, init=not takes_parents, eq=False, repr=False, kw_only=kw_only)
        except (TypeError, ValueError) as error:
            raise SchemaError(cls.__name__, [f"{cls.__name__}: {error}"]) from None
        cls.__init__ = _guarded_init(cls, cls.__init__)  # type: ignore[method-assign]
        cls._template = None
        remember_frames(cls)
        try:
            _prepare(cls, compile_schema(cls, is_final=False))
        except UnresolvedError:
            cls._plan = _NO_PLAN  # compiled at the first construction

    # Hidden from checkers, which would accept any assignment after seeing it.
    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            plan = self._plan
            admit_value = plan.admit.get(name)
            if admit_value is None:
                _set_undeclared(self, name, value)
                return
            value = admit_value(self, value)
            if plan.contracts and self._version is not CONSTRUCTING:
                check_contracts(self, {name: value})
            self.__dict__[name] = value
            _mark_changed(self)

        def __delattr__(self, name: str) -> None:
            if name not in self._plan.names:
                object.__delattr__(self, name)
                return
            if name not in self.__dict__:
                raise UnsetFieldError(_unset(self, name))
            if name in self._plan.statics:
                raise FieldError(f"{type(self).__name__}.{name} is static: it always holds a value, and is not deleted")
            del self.__dict__[name]
            _mark_changed(self)

    def __getstate__(self) -> dict[str, Any]:
        fields = self.__dict__
        return {name: _plain(fields[name]) for name in schema(type(self)).fields if name in fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        plan = plan_of(type(self))
        if unknown := sorted(state.keys() - plan.names):
            raise FieldError(f"{type(self).__name__} does not declare {', '.join(unknown)}; the class has changed")
        self.__dict__.update({name: plan.admit[name](self, value) for name, value in state.items()})
        if hasattr(self, "_version"):
            _mark_changed(self)
        else:
            set_version(self, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Node":
        return _deepcopy(self, memo)

    def __pretty__(self) -> Record:
        fields = self.__dict__
        names = [name for name in schema(type(self)).fields if name in fields]
        return Record(type(self).__name__, [(name, fields[name]) for name in names])

    def __repr__(self) -> str:
        return pretty(self)


def plan_of(cls: type[NodeBase]) -> Plan:
    """The plan of a class, compiled now if its annotations were waiting."""
    plan: Plan | None = cls.__dict__.get("_plan")
    if plan is None or plan is _NO_PLAN:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(f"{cls.__name__} is a base class: derive a node class from it and declare its fields")
        _prepare(cls, compile_schema(cls, is_final=True))
    return cls.__dict__["_plan"]  # type: ignore[no-any-return]


def _takes_parents_init(cls: type[Node]) -> bool:
    """Whether `cls` keeps an `__init__` that a parent wrote by hand: it has none itself, and declares nothing new.

    A generated one would set the same fields and leave out what the parent's does beside.
    """
    if "__init__" in cls.__dict__:
        cls._has_own_init = True
    elif own_annotations(cls):
        cls._has_own_init = False
    return cls._has_own_init and "__init__" not in cls.__dict__


def _guarded_init(cls: type[Node], init: Callable[..., None]) -> Callable[..., None]:
    """`init`, then the fields that make themselves, then the check that nothing is missing."""

    @functools.wraps(init)
    def __init__(self: Node, *args: Any, **kwargs: Any) -> None:
        # A subclass calls up to here, or a finished node is initialised again: plain assignments.
        if type(self) is not cls or hasattr(self, "_version"):
            init(self, *args, **kwargs)
            return
        plan = plan_of(cls)
        set_version(self, CONSTRUCTING)
        init(self, *args, **kwargs)
        if not plan.names <= self.__dict__.keys():
            _complete(self, plan)
        if plan.contracts:
            check_contracts(self, {})
        set_version(self, None)

    return __init__


def _complete(node: Node, plan: Plan) -> None:
    for name in plan.makers:
        if name not in node.__dict__:
            setattr(node, name, plan.makers[name](node))
    missing = [name for name in schema(type(node)).fields if name not in node.__dict__]
    if missing:
        names = ", ".join(missing)
        remedy = "set it in __post_init__, or give it an initializer, factory or default"
        raise FieldError(f"{type(node).__name__} was constructed without {names}; {remedy}")


class _FieldDescriptor:
    """Stands in the class for a field: read only while the instance holds no value."""

    def __init__(self, name: str, default: object) -> None:
        self.name, self.default = name, default

    def __get__(self, node: Any, cls: type) -> Any:
        if node is None:
            if self.default is dataclasses.MISSING:
                raise AttributeError(f"type object {cls.__name__!r} has no attribute {self.name!r}")
            return self.default
        maker = node._plan.makers.get(self.name)
        if maker is not None and getattr(node, "_version", None) is CONSTRUCTING:
            setattr(node, self.name, maker(node))
            return node.__dict__[self.name]
        raise UnsetFieldError(_unset(node, self.name))


def _unset(node: Node, name: str) -> str:
    where = f"{type(node).__name__}.{name}"
    if getattr(node, "_version", None) is CONSTRUCTING:
        return f"{where} is not set yet: assign it before it is read in __post_init__"
    return f"{where} holds nothing: it was popped or deleted; assign it, or put it back with update_states"


def _mark_changed(node: Node) -> None:
    # After the change itself: a walk that gave the node its version in between has then read the new structure, or
    # finds another version here. See `_tracked`.
    version = node._version
    if version is not None and version is not CONSTRUCTING:
        set_version(node, object())
        CLOCK.now = object()


def _set_undeclared(node: Node, name: str, value: object) -> None:
    if hasattr(getattr(type(node), name, None), "__set__") or name in NodeBase.__slots__:
        object.__setattr__(node, name, value)  # a property with a setter
        return
    cls = type(node)
    close = difflib.get_close_matches(name, plan_of(cls).names, 1)
    hint = f"did you mean {close[0]!r}? Otherwise declare" if close else "declare"
    annotation = type(value).__name__ if isinstance(value, GraphValue | int | str | float) else "..."
    raise UndeclaredFieldError(f"{cls.__name__} has no field {name!r}; {hint} it in the class: {name}: {annotation}")


GraphValue = State | NodeBase


def _prepare(cls: type[Any], compiled: Schema[Any]) -> None:
    """Compile the plan of a class and put its descriptors in place."""
    fields = compiled.fields.values()
    for field in dataclasses.fields(cls):
        setattr(cls, field.name, _FieldDescriptor(field.name, field.default))
    cls._plan = Plan(
        frozenset(compiled.fields),
        {field.name: _admitter(cls, field) for field in fields},
        {field.name: maker for field in fields if (maker := _maker(field)) is not None},
        tuple(field for field in fields if any(leaf.contract for leaf in _leaves(field.form))),
        tuple(field.name for field in fields if field.kind is Kind.STATIC),
    )


def _admitter(cls: type, field: Field) -> Admit:
    where = f"{cls.__name__}.{field.name}"
    if field.kind is Kind.STATIC:
        return functools.partial(_admit_static, where, field.is_explicit)
    form, name, classes = field.form, field.name, field.form.classes
    if len(classes) == 1:
        classes_or_one: Any = classes[0]
    else:
        classes_or_one = classes

    def admit_holder(node: Node, value: Any) -> Any:
        if isinstance(value, classes_or_one):
            return value
        if isinstance(value, TrackedList | TrackedDict) and node.__dict__.get(name) is value:
            return value  # `node.layers += [...]` assigns the node's own list back
        return admit(form, value, where)

    return admit_holder


def _admit_static(where: str, is_explicit: bool, node: Node, value: Any) -> Any:
    if type(value) in _PLAIN_STATIC:
        return value
    if not is_explicit and isinstance(value, jax.Array | np.ndarray) and not isinstance(value, Tracer):
        remedy = "hold it in a State, or declare the field gn.static() to make it part of the structure"
        raise FieldError(f"{where} is static by its annotation; found {describe(value)}; {remedy}")
    try:
        value = frozen(value)
        static_key(value)
    except StaticValueError as error:
        raise FieldError(f"{where}: {error}") from None
    return value


def _maker(field: Field) -> Callable[[Any], Any] | None:
    said = field.specifier
    if said.factory is not None:
        return said.factory
    if said.initializer is None:
        return None
    initializer, (leaf,) = said.initializer, field.form.leaves

    def make(node: Node) -> State[Any]:
        shape = said.shape(node) if said.shape is not None else leaf.contract.shape(_sizes(node))  # type: ignore[union-attr]  # the schema checked
        dtype = leaf.contract.dtype() if leaf.contract is not None else jax.dtypes.canonicalize_dtype(float)
        value = initializer(split_key(), shape, dtype)
        return leaf.cls(value, name=said.name, tag=said.tag, sharding=said.sharding)  # type: ignore[no-any-return]

    return make


def _sizes(node: Node) -> dict[str, object]:
    return {name: node.__dict__[name] for name in node._plan.statics if name in node.__dict__}


def _leaves(form: Form) -> Iterator[Any]:
    yield from form.leaves
    for inner in (form.list_of, form.dict_of, *_tuple_forms(form)):
        if inner is not None:
            yield from _leaves(inner)


def _tuple_forms(form: Form) -> tuple[Form, ...]:
    return (form.tuple_of,) if isinstance(form.tuple_of, Form) else (form.tuple_of or ())


def check_contracts(node: Node, changed: Mapping[str, Any], values: Mapping[int, object] | None = None) -> None:
    """Raise if a State of `node` breaks the contract of its field.

    Args:
        node: The node whose fields are checked.
        changed: Fields that are about to be assigned.
        values: Values that are about to be written, by the `id` of their State.

    Raises:
        ContractError: Names every field that breaks its contract; nothing was assigned.
    """
    fields = {**node.__dict__, **changed}
    sizes = {name: fields[name] for name in node._plan.statics if name in fields}
    bound: dict[str, object] = {}
    faults: list[str] = []
    for field in node._plan.contracts:
        for place, form, held in _states_in(field.form, fields.get(field.name), field.name):
            contract = next((leaf.contract for leaf in form.leaves if isinstance(held, leaf.cls)), None)
            value = held._value if values is None else values.get(id(held), held._value)
            fault = contract.fault(value, sizes, bound) if contract is not None else None
            if fault is not None:
                faults.append(f"{type(node).__name__}.{place}: {fault}")
    if faults:
        raise ContractError(listed(faults))


def _states_in(form: Form, value: Any, place: str) -> Iterator[tuple[str, Form, State[Any]]]:
    if isinstance(value, State):
        yield place, form, value
    elif isinstance(value, list) and form.list_of is not None:
        for at, item in enumerate(value):
            yield from _states_in(form.list_of, item, f"{place}.{at}")
    elif isinstance(value, dict) and form.dict_of is not None:
        for key in sorted(value):
            yield from _states_in(form.dict_of, value[key], f"{place}.{key}")
    elif isinstance(value, tuple) and form.tuple_of is not None:
        forms = (form.tuple_of,) * len(value) if isinstance(form.tuple_of, Form) else form.tuple_of
        for at, (inner, item) in enumerate(zip(forms, value, strict=True)):
            yield from _states_in(inner, item, f"{place}.{at}")


def _plain(value: Any) -> Any:
    """A field's value with its own containers as plain ones."""
    if isinstance(value, TrackedList):
        return [_plain(item) for item in value]
    if isinstance(value, TrackedDict):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(map(_plain, value)) if type(value) is tuple else value


def _deepcopy(root: Node, memo: dict[int, Any]) -> Node:
    """Copy all nodes and States that `root` reaches, with an explicit stack: depth is bounded by memory alone.

    What `memo` holds already was copied in the same call of `copy.deepcopy`, and is shared with that copy.
    """
    todo: list[Any] = [root]
    fresh: list[Node] = []
    while todo:
        value = todo.pop()
        if isinstance(value, Node) and id(value) not in memo:
            fresh.append(value)
            memo[id(value)] = object.__new__(type(value))
            todo.extend(
                value.__dict__[field.name] for field in schema(type(value)).holders if field.name in value.__dict__
            )
        elif isinstance(value, State):
            copy.deepcopy(value, memo)
        elif isinstance(value, list | tuple):
            todo.extend(value)
        elif isinstance(value, dict):
            todo.extend(value.values())
    for node in fresh:
        made = memo[id(node)]
        compiled = schema(type(node))
        state = node.__getstate__()
        holders = {field.name for field in compiled.holders}
        made.__setstate__({name: _swap(v, memo) if name in holders else v for name, v in state.items()})
    return memo[id(root)]  # type: ignore[no-any-return]


def _swap(value: Any, memo: Mapping[int, Any]) -> Any:
    if isinstance(value, list):
        return [_swap(item, memo) for item in value]
    if isinstance(value, dict):
        return {key: _swap(item, memo) for key, item in value.items()}
    if type(value) is tuple:
        return tuple([_swap(item, memo) for item in value])
    return memo[id(value)] if value is not None else None
