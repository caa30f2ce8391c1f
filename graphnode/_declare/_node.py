"""`Node`, the base class of declared nodes: class creation, construction, assignment.

    class Net(gn.Node): ...     __init_subclass__ -> _define: checks the body, applies `dataclass`,
                                guards the constructor, compiles schema and plan
    net = Net(...)              guard: version "constructing", the constructor, _complete (makers),
                                check_contracts, version `birth()`
    net.layer = ...             __setattr__: admits the value, checks contracts, replaces the version

The `__dict__` of an instance holds exactly the declared fields, each with a value of its
kind. Graph operations read that `__dict__`; nothing here knows them.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, SupportsIndex

import jax
import numpy as np
from typing_extensions import dataclass_transform

from .._class_faults import ClassFault, Rule, defining, registration_fault
from .._compat import is_tracing
from .._errors import FieldError, SchemaError, UndeclaredFieldError, UnsetFieldError
from .._fields import Names, NodeBase, names_of, set_version, state, static, subnode
from .._hints import did_you_mean
from .._members import (
    declaring_classes,
    holds_graph_object,
    is_class_variable,
    is_init_variable,
    own_annotations,
)
from .._method_names import name_methods
from .._pretty._records import Record
from .._pretty._shown import Shown
from .._state import State
from .._static import Uncompiled
from .._stream import CONSTRUCTORS, Refusing, is_past_scope, scope_of
from .._tracebacks import hide_frames
from .._versions import (
    CLOCK,
    CONSTRUCTING,
    Constructing,
    Version,
    birth,
    check_owner,
    constructing,
    unmade,
)
from ._body import RESERVED, take_body_faults
from ._copying import Reduction, copy_node, deepcopy_graph, plain
from ._init_errors import explain_init
from ._makers import Maker
from ._overrides import lost_faults
from ._pickling import reduce_in_row
from ._plan import (
    NO_PLAN,
    LeftOutError,
    Plan,
    attach_contracts,
    check_contracts,
    compile_plan,
    waiting_plan,
)
from ._replace import REPLACING, InstanceFields, fill_replaced, original_of
from ._schema import (
    UnresolvedError,
    compile_schema,
    late_fault,
    remember_frames,
    schema,
)


@dataclass_transform(
    eq_default=False, field_specifiers=(static, state, subnode, dataclasses.field)
)
class Node(Shown, NodeBase):
    """The base of declared nodes: annotated fields become the constructor, the structure and the States.

    Every subclass is a dataclass without a decorator. A field is *static* (part of the
    structure), *state* (holds a `State`) or *subnode* (holds a node), as its annotation
    or its specifier says; lists, tuples and dicts of States or nodes, `None`, shared
    and cyclic references are all welcome. Hash and equality are identity.

    `class Net(gn.Node, was="OldNet")` gives the name that the class had before, or
    several: under which a checkpoint may still have it.

    Raises:
        SchemaError: At class creation (or at first use, when annotations name what
            comes later): all faults.
        FieldError: In construction or assignment: a value that is not of its field's
            kind, or a missing field.
        ContractError: In construction or assignment: a State whose shape or dtype
            breaks its annotation.
        UndeclaredFieldError: An assignment to what the class does not declare.

    Example:
        >>> class Affine(gn.Node):
        ...     rows: int
        ...     weight: gn.ParamState
        >>> Affine(rows=2, weight=gn.ParamState(jnp.ones(2)))
        Affine(rows=2, weight=ParamState(f32[2]))
    """

    __slots__ = ()

    _plan: ClassVar[Plan] = NO_PLAN
    _has_own_init: ClassVar[bool] = False
    _was: ClassVar[tuple[str, ...]] = ()  # each class's own former names

    # No `**kwargs` for other bases: with them no checker would find a misspelt
    # `kw_only`.
    def __init_subclass__(cls, *, kw_only: bool = False, was: Names = ()) -> None:
        super().__init_subclass__()
        if was:
            cls._was = names_of(was, f"class {cls.__name__}")
        with defining(cls):
            _define(cls, kw_only)

    # Hidden from checkers, which would accept any assignment and any constructor after
    # seeing these.
    if not TYPE_CHECKING:

        def __init__(self) -> None:
            # A hand-written `__init__` may call up to here.
            if type(self) is Node:
                raise TypeError(
                    "Node is a base class: derive a class from it, and declare its fields"
                )
            if "_plan" not in type(self).__dict__:
                raise TypeError(_not_made(type(self)))

        def __setattr__(self, name: str, value: Any) -> None:
            # A value is admitted, checked against the contracts and then stored, so
            # that a node never holds what its class does not declare.
            plan = self._plan
            admit_value = plan.admit.get(name)
            if admit_value is None:
                _set_undeclared(self, name, value)
                return
            # No version: the constructor of the class was never called, as in
            # `cls.__new__(cls)`.
            try:
                version = self._version
            except AttributeError:
                raise FieldError(unmade(type(self))) from None
            if is_tracing():
                check_owner(version, f"{type(self).__name__}.{name}")
            try:
                value = admit_value(self, value)
            except LeftOutError:  # a `try`, which costs all other assignments nothing
                return
            # It is in no binding yet, and its contracts are checked when it is complete.
            if version is CONSTRUCTING:
                self.__dict__[name] = value
                return
            # Not `CONSTRUCTING` alone: a node that is made in a trace, or
            # past a random scope, has another version of its class.
            if plan.contracts and not isinstance(version, Constructing):
                check_contracts(self, {name: value})
            is_bound = type(self._version) is Version
            if is_bound:
                _mark_changed(self)
            self.__dict__[name] = value
            # Not `is_bound`: a signal handler may have made a binding in between.
            if type(self._version) is Version:
                _mark_changed(self)
            if is_bound and name in plan.statics and getattr(self, "_popped", None):
                # What was popped had the shapes of other sizes.
                self._popped.clear()

        def __delattr__(self, name: str) -> None:
            if name not in self._plan.names:
                object.__delattr__(self, name)
                return
            if name not in self.__dict__:
                raise UnsetFieldError(_unset(self, name))
            if name in self._plan.statics:
                raise FieldError(
                    f"{type(self).__name__}.{name} is static: it always holds a value, and is not deleted"
                )
            check_field_owner(self, name)
            # On both sides of the change: see `_mark_changed`.
            _mark_changed(self)
            del self.__dict__[name]
            _mark_changed(self)

    def __getstate__(self) -> dict[str, Any]:
        # For copies and pickles: what the constructor, or a walk, would find in the
        # node.
        fields = self.__dict__
        # In the order of declaration, whatever the order of assignment was.
        return {
            name: plain(fields[name])
            for name in schema(type(self)).fields
            if name in fields
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # For copies and pickles, on a node that `__new__` has made.
        plan = plan_of(type(self))
        if unknown := sorted(state.keys() - plan.names):
            raise FieldError(
                f"{type(self).__name__} does not declare {', '.join(unknown)}; the class has changed"
            )
        # All are admitted before any is stored, so that a state that does not fit
        # changes nothing.
        values = {name: plan.admit[name](self, value) for name, value in state.items()}
        if hasattr(self, "_version"):
            _mark_changed(self)
        self.__dict__.update(values)
        attach_contracts(self)
        if hasattr(self, "_version"):
            _mark_changed(self)
        else:
            set_version(self, birth())

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str | Reduction:
        # For `pickle`, which would go from node to node by recursion.
        reduction = super().__reduce_ex__(protocol)
        return (
            reduce_in_row(self, reduction)
            if _pickles_in_rows(type(self))
            else reduction
        )

    def __copy__(self) -> "Node":
        return copy_node(self, _own_reduction(self))  # type: ignore[no-any-return]  # a copy of a Node is a Node

    def __deepcopy__(self, memo: dict[int, Any]) -> "Node":
        return deepcopy_graph(self, memo, _has_own_deepcopy, _own_reduction)  # type: ignore[no-any-return]  # a copy of a Node is a Node

    @classmethod
    def _shows(cls, name: str, value: object) -> bool:
        """Whether a field is printed: not an option that is off, and is so by default."""
        if not any(value is off for off in _OFF):
            return True
        declared: Any = cls  # Any: type checkers do not know that it is a dataclass
        field = declared.__dataclass_fields__.get(name)
        return field is None or field.default is not value

    def __pretty__(self) -> Record:
        cls, values = type(self), self.__dict__
        fields = [
            (name, values[name])
            for name in schema(cls).fields
            if name in values and cls._shows(name, values[name])
        ]
        return Record(cls.__name__, fields)


# Of a field that is printed only when it is something else. By identity: 0 is a number, and
# equal to False.
_OFF: Final = (None, False, ())


def _pickles_in_rows(cls: type[NodeBase]) -> bool:
    """Whether no class on the way to `cls` defines itself how its nodes are pickled.

    Else pickle uses what the class defines, and the depth of a graph is bounded again.
    """
    has_own = cls.__reduce_ex__ is not Node.__reduce_ex__
    return not has_own and cls.__reduce__ is object.__reduce__


def _own_reduction(node: Any) -> str | Reduction:
    """The reduction that a node's class defines, or that Python gives: with its state, and not in a row.

    For `copy` and `deepcopy`, which need the state at once: a row is filled only at its
    end.
    """
    own: Any = super(Node, node) if _pickles_in_rows(type(node)) else node
    return own.__reduce_ex__(4)  # type: ignore[no-any-return]  # as every `__reduce_ex__`


def _has_own_deepcopy(node: Any) -> bool:
    """Whether the class of a node defines how it is deep-copied.

    For `deepcopy_graph`, which then calls it.
    """
    return type(node).__deepcopy__ is not Node.__deepcopy__


def plan_of(cls: type[NodeBase]) -> Plan:
    """The plan of a class that is used, compiled now if its annotations were waiting.

    For all that uses a class: constructors, templates, views and `graphnode check`.

    Raises:
        SchemaError: A decorator has changed the class since it was defined.
    """
    # Not `cls._plan`, which a class without its own inherits from its base.
    plan: Plan | None = cls.__dict__.get("_plan")
    if plan is None or not plan.is_final:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(
                f"{cls.__name__} is a base class: derive a node class from it and declare its fields"
            )
        compiled = schema(cls)
        # Only now: a decorator runs after `__init_subclass__`, and the first use after
        # the decorator.
        if (fault := late_fault(cls)) is not None:
            raise SchemaError(cls.__name__, [fault])
        if plan is None or not plan.names:
            # Again: a class that was pickled by value has lost those of its fields.
            _put_descriptors(cls)
            plan = compile_plan(compiled)
        cls._plan = plan._replace(is_final=True)
    return cls.__dict__["_plan"]  # type: ignore[no-any-return]


def _define(cls: type[Node], kw_only: bool) -> None:
    """Make a new class a dataclass that compares by identity, and compile it if its annotations resolve.

    What runs at each `class Net(gn.Node)`; all faults of the class come in one error.
    """
    # First: it takes out of the body what `dataclasses` would stop at.
    faults = [*take_body_faults(cls), *_base_faults(cls)]
    _reset_comparison_and_repr(cls)
    inherited_init = _inherited_init(cls)
    # Only with `init=True` does `dataclasses` check that fields with defaults come last,
    # as a generated constructor needs it.
    is_generated = inherited_init is None and "__init__" not in cls.__dict__
    try:
        dataclasses.dataclass(
            cls, init=is_generated, eq=False, repr=False, kw_only=kw_only
        )
    except (TypeError, ValueError) as error:
        faults.append(ClassFault(f"{cls.__name__}: {error}", Rule.DATACLASS))
    else:
        # Now, not when the annotations resolve: a field may implement an abstract
        # property, which its descriptor has to hide.
        _put_descriptors(cls)
        faults += lost_faults(cls)
    # It is missing where `dataclasses` has raised.
    if "__dataclass_fields__" in cls.__dict__:
        _set(cls, __dataclass_fields__=InstanceFields.of(cls))
    name_methods(cls)
    init = inherited_init or cls.__init__
    _set(cls, __init__=_guarded_init(cls, init), _template=Uncompiled(cls))
    _guard_getattr(cls)
    # Before the compiler asks for local names, and while the frames still run.
    remember_frames(cls)
    try:
        cls._plan = compile_plan(compile_schema(cls, is_final=False, faults=faults))
    except UnresolvedError:
        cls._plan = waiting_plan(cls)  # compiled at the first construction


def _base_faults(cls: type[Node]) -> Iterator[ClassFault]:
    """What is wrong with node classes that `cls` extends: changed by a decorator, or registered with JAX.

    For `_define`: a subclass is the first to be hurt by it, where the base was never
    used.
    """
    for base in cls.__mro__[1:]:
        fault = late_fault(base) if issubclass(base, NodeBase) else None
        if fault is not None:
            yield fault
    # The `__init_subclass__` of a mixin may have registered `cls` itself.
    fault = registration_fault(cls)
    if fault is not None:
        yield fault


def _reset_comparison_and_repr(cls: type[Node]) -> None:
    """Replace the equality, hash and `repr` that a mixin brings, such as a plain dataclass, by those of nodes.

    For `_define`: walks keep nodes in dicts, by identity.
    """
    if cls.__eq__ is not object.__eq__ or cls.__hash__ is not object.__hash__:
        _set(cls, __eq__=object.__eq__, __hash__=object.__hash__)
    owner = next(base for base in cls.__mro__ if "__repr__" in base.__dict__)
    if not issubclass(owner, NodeBase) and dataclasses.is_dataclass(owner):
        _set(cls, __repr__=Node.__repr__)


def _put_descriptors(cls: type[Any]) -> None:
    """Put a descriptor into the class for each field, and for each argument of the constructor that is not a field.

    So that reading a field that is not set runs its maker, or says what is missing.
    """
    # `dataclasses.fields` leaves out the arguments (`InitVar`), which
    # `__dataclass_fields__` has too.
    fields = {field.name for field in dataclasses.fields(cls)}
    owners = declaring_classes(cls)
    for name, declared in cls.__dataclass_fields__.items():
        if name in fields:
            setattr(cls, name, _FieldDescriptor(name, declared.default))
        elif name in owners:
            owner = owners[name]
            if is_init_variable(own_annotations(owner)[name], owner):
                setattr(cls, name, _ArgumentDescriptor(name, declared.default))


def _inherited_init(cls: type[Node]) -> Callable[..., None] | None:
    """The hand-written `__init__` that `cls` inherits: it has none itself, and declares nothing new.

    For `_define`, which keeps that one.

    A generated one would set the same fields, and leave out what else the other does.
    The first class with a constructor of either sort counts, as everywhere in Python.
    """
    if "__init__" in cls.__dict__:
        cls._has_own_init = True
        return None
    annotations = own_annotations(cls).values()
    if not all(is_class_variable(annotation, cls) for annotation in annotations):
        cls._has_own_init = False
        return None
    for base in cls.__mro__[1:]:
        if _has_written_init(base):
            cls._has_own_init = True
            return base.__dict__["__init__"]  # type: ignore[no-any-return]
        if _has_generated_init(base):
            break
    cls._has_own_init = False
    return None


def _has_written_init(base: type) -> bool:
    """Whether a class has an `__init__` that was written by hand, and not for a protocol.

    For `_inherited_init`: such a one is kept, as it may do more than set fields.
    """
    if "__init__" not in base.__dict__ or base in NodeBase.__mro__:
        return False
    if base.__dict__.get("_is_protocol", False):
        return False
    if issubclass(base, NodeBase):
        return bool(base.__dict__.get("_has_own_init", False))
    return "__dataclass_fields__" not in base.__dict__


def _has_generated_init(base: Any) -> bool:
    """Whether a class that has no hand-written `__init__` has a generated one that sets something.

    For `_inherited_init`, which then stops: a constructor further up is hidden by it.
    """
    # One without fields, such as that of an abstract base, sets nothing and hides no
    # other.
    return "__dataclass_fields__" in base.__dict__ and bool(dataclasses.fields(base))


def _set(cls: type[Node], **members: object) -> None:
    """Set members of a class. To a type checker, an assignment would declare them again."""
    for name, member in members.items():
        setattr(cls, name, member)


def _guarded_init(cls: type[Node], init: Callable[..., None]) -> Callable[..., None]:
    """`init`, then the makers of fields that it has not set, then the check of contracts.

    For `_define`, which puts it into the class: no node is without a field that it
    declares.

    The guard needs its own names for all that it uses, in its closure: it runs with the
    globals of `init`, where a run-time type checker looks up annotations that are
    strings. With the globals of this module, it would find graphnode's classes in place
    of the user's.
    """
    plan_of_class, mark = plan_of, set_version
    complete, check = _complete, check_contracts
    version_at_start, version_at_end = constructing, birth
    replacing, find_original, fill = REPLACING, original_of, fill_replaced
    explain, hide = explain_init, hide_frames
    not_made, check_first = _not_made, _check_first_init

    # A field may be named `self`, too
    def guard(self: Node, /, *args: Any, **kwargs: Any) -> None:
        """The `__init__` that the class gets."""
        try:
            # Called by the constructor of a subclass, or again on a finished node: it
            # makes assignments, and completes nothing.
            if type(self) is not cls or hasattr(self, "_version"):
                if "_plan" not in type(self).__dict__:
                    raise TypeError(not_made(type(self)))
                if type(self) is cls:
                    check_first(self)
                init(self, *args, **kwargs)
                return
            plan = plan_of_class(cls)
            # Empty nearly always, so that other constructions pay for one test.
            if replacing and (original := find_original(self)) is not None:
                fill(self, original, kwargs)
                return
            mark(self, version_at_start())
            init(self, *args, **kwargs)
            # One comparison of sets, where most constructors have set all fields.
            if not plan.names <= self.__dict__.keys():
                complete(self, plan)
            if plan.contracts:
                check(self, {})
            mark(self, version_at_end())
        except BaseException as error:
            if isinstance(error, Exception):
                explain(error, self, init, args, kwargs)
            hide(error)
            raise

    # A run-time type checker may have wrapped the guard.
    own = inspect.unwrap(guard)
    # By its code object, of which all guards share one: `_stream` looks for it among
    # the frames.
    CONSTRUCTORS.add(own.__code__)
    names = getattr(init, "__globals__", own.__globals__)
    guard_of_init = FunctionType(own.__code__, names, "__init__", None, own.__closure__)
    return functools.wraps(init)(guard_of_init)


def _check_first_init(node: Node) -> None:
    """Raise if a finished node that makes some of its fields itself is initialized again: these would stay.

    For the guard: `node.__init__(...)` would seem to make a new node, and keep parts of
    the old one.

    Raises:
        FieldError: Names them.
    """
    if isinstance(node._version, Constructing):
        return  # the constructor before has failed
    cls = type(node)
    fields = schema(cls).fields.values()
    names = [field.name for field in fields if field.specifier.makes_value]
    if names:
        raise FieldError(
            f"{cls.__name__}.__init__ is called on a finished node, where {', '.join(names)} would stay as before: "
            f"construct a new {cls.__name__}"
        )


def _not_made(cls: type[Node]) -> str:
    """What is wrong with a class that `Node.__init_subclass__` has never seen.

    For constructors: such a class was never compiled, and would fail in graphnode's own
    code.
    """
    text = f"{cls.__name__} was not made a node class: an __init_subclass__ that it inherits does not call"
    return f"{text} super().__init_subclass__()"


def _guard_getattr(cls: type[Node]) -> None:
    """Wrap a `__getattr__`, so that it is not asked for fields and for graphnode's own attributes.

    For `_define`, where a class or mixin has one.

    One that delegates to another object would return that object's `_version`. And for a
    field that is not set Python asks it too, as the descriptor raises `AttributeError`.
    """
    owner = next((base for base in cls.__mro__ if "__getattr__" in base.__dict__), None)
    # That of a node class was wrapped when that class was defined.
    if owner is None or (owner is not cls and issubclass(owner, NodeBase)):
        return
    method = owner.__dict__["__getattr__"]

    @functools.wraps(method)
    def __getattr__(self: Node, name: str) -> Any:
        if name in RESERVED:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}",
                name=name,
                obj=self,
            )
        if name in type(self)._plan.names:
            raise UnsetFieldError(_unset(self, name))
        return method.__get__(self)(name)

    _set(cls, __getattr__=__getattr__)


def _complete(node: Node, plan: Plan) -> None:
    """Make the fields that the constructor has not set; raise if there is one without a maker.

    For the guard, when the constructor is done.
    """
    for name in plan.makers:
        if name not in node.__dict__:
            _make_field(node, name, plan.makers[name])
    # After the makers: a factory may have set other fields, too.
    missing = [name for name in schema(type(node)).fields if name not in node.__dict__]
    if missing:
        cls = type(node)
        raise FieldError(
            f"{cls.__name__} was constructed without {', '.join(missing)}; {remedy_for(cls)}"
        )


def _make_field(node: Node, name: str, maker: Maker) -> None:
    """Set a field to what its maker makes: at the end of construction, or at the first read during it.

    For `_complete`, and for factories and constructors that read a field before it is
    made.
    """
    version = node._version
    # Once the constructor has left a random scope of its own, a draw would come from
    # outside of that scope, by the order in which fields are read.
    if is_past_scope(node):
        with _refusing(node, name):
            value = maker(node)
    else:
        value = maker(node)
    setattr(node, name, value)
    # A factory may have opened a random scope, which the version of a node under
    # construction records; that is not one of the constructor.
    if node._version is not version:
        set_version(node, version)


def _refusing(node: Node, name: str) -> contextlib.AbstractContextManager[None]:
    """Refuse draws for a field: the constructor has opened a scope, and left it.

    For `_make_field`: the draw would come from the scope outside, and random numbers
    would depend on the order of reads.
    """
    cls = type(node).__name__
    refusing = Refusing(
        f"{cls}.{name} is drawn after the constructor has left the gn.random.scope that it has opened, and would not "
        f"depend on its key. Read self.{name} inside of that scope, which makes it there; or open none in the "
        f"constructor, and call it in one: with gn.random.scope(key): {cls}(...)"
    )
    return scope_of(refusing)


def remedy_for(cls: type[Node]) -> str:
    """What to do about a field that is not set by construction; a written constructor calls no `__post_init__`.

    For errors of constructors, and for `graphnode check`, which says the same without
    running the program.
    """
    method = "__init__" if cls._has_own_init else "__post_init__"
    return f"set it in {method}, or give it an initializer, factory or default"


class _FieldDescriptor:
    """Stands in the class for a field: read only while the instance holds no value."""

    def __init__(self, name: str, default: object = dataclasses.MISSING) -> None:
        self.name, self.default = name, default

    def __reduce__(self) -> tuple[Any, ...]:
        # For classes that are pickled by value.
        # Without `MISSING`, which is another object once it was pickled.
        has_default = self.default is not dataclasses.MISSING
        args = (self.name, self.default) if has_default else (self.name,)
        return type(self), args

    def __get__(self, node: Any, cls: type) -> Any:
        if node is None:
            if self.default is dataclasses.MISSING:
                raise AttributeError(
                    f"type object {cls.__name__!r} has no attribute {self.name!r}"
                )
            return self.default
        # Python comes here only where the `__dict__` has no such name, as this is no
        # data descriptor.
        maker = node._plan.makers.get(self.name)
        is_constructing = isinstance(getattr(node, "_version", None), Constructing)
        if maker is None or not is_constructing:
            raise UnsetFieldError(_unset(node, self.name))
        # During construction, a read is enough to have the field made: a factory may
        # read other fields, in any order.
        _make_field(node, self.name, maker)
        return node.__dict__[self.name]


class _ArgumentDescriptor(_FieldDescriptor):
    """Stands in the class for an argument of the constructor that is not a field: no instance has it."""

    def __get__(self, node: Any, cls: type) -> Any:
        if node is None:
            return super().__get__(node, cls)
        raise AttributeError(
            f"{cls.__name__}.{self.name} is an argument of the constructor, which __post_init__ gets and no node "
            "keeps: declare it as a field to read it elsewhere",
            name=self.name,
            obj=node,
        )


def _unset(node: Node, name: str) -> str:
    """The text of the error for a field that is read while it holds nothing.

    For reading and deleting.
    """
    where = f"{type(node).__name__}.{name}"
    if isinstance(getattr(node, "_version", None), Constructing):
        return f"{where} is not set yet: assign it before it is read in __post_init__"
    return f"{where} holds nothing: it was popped or deleted; assign it, or put it back with update_states"


def check_field_owner(node: NodeBase, name: str) -> None:
    """Raise if a field must not be assigned or deleted now.

    For deletions and `gn.update_states`; assignments have the same check in line.

    Raises:
        TraceError: A JAX transformation runs that the node was not made in.
    """
    if is_tracing():
        check_owner(node._version, f"{type(node).__name__}.{name}")


def _mark_changed(node: Node) -> None:
    """Replace the version of a node that is part of a binding; to be called before and after a change.

    So that bindings made before are found out of date.

    Before it: an interrupt in between must not leave a binding that takes the node for
    unchanged. After it: a walk in another thread may have read the node in between,
    before the change, with the version from before it.
    """
    version = node._version
    if type(version) is Version:
        token = Version()
        set_version(node, token)
        CLOCK.now = token


def _set_undeclared(node: Node, name: str, value: object) -> None:
    """Assign to what is not a field: by the setter of a property or descriptor, or raise.

    For assignments to names without a field: a value there would be in no copy, split
    or pickle.

    Raises:
        UndeclaredFieldError: The class has no such name, or keeps the value beside its fields.
        FieldError: The constructor of the class has never run.
    """
    cls = type(node)
    if has_setter(cls, name):
        object.__setattr__(node, name, value)
        _check_kept(node, name, value)
        return
    # Compiles a class whose annotations were waiting: only then are its fields known.
    fields = plan_of(cls).names
    if name in fields:  # compiled only now, so its constructor has never run
        raise FieldError(unmade(cls))
    raise UndeclaredFieldError(undeclared(cls, fields, name, _declaration(name, value)))


def _check_kept(node: Node, name: str, value: object) -> None:
    """Raise if a setter has put what was assigned beside the fields, where no copy, merge or pickle finds it.

    For `_set_undeclared`, after a setter has run.

    It may keep a value under another name than its own, such as a cache, unless that is
    a node or State.

    Raises:
        UndeclaredFieldError: Gives the line that would declare a field.
    """
    cls = type(node)
    if cls._plan.names.issuperset(node.__dict__):
        return
    places: list[str] = []
    for key, content in node.__dict__.items():
        is_known = key in cls._plan.names or _is_cached_property(cls, key)
        if not is_known and (key == name or content is value):
            places.append(key)
    if name not in places and not (places and holds_graph_object(value)):
        return
    for place in places:
        # The assignment is taken back, as it is refused.
        del node.__dict__[place]
    raise UndeclaredFieldError(
        f"{cls.__name__}.{name} keeps its value in __dict__[{places[0]!r}], beside the fields, where no copy or "
        f"merge finds it; declare a field in its place: {_declaration(name, value)}"
    )


def _is_cached_property(cls: type[NodeBase], name: str) -> bool:
    """Whether a class keeps a `cached_property` under a name; Python stores its value in the `__dict__`.

    For `_check_kept`: it may be kept beside the fields, as it can be worked out again.
    """
    return isinstance(getattr(cls, name, None), functools.cached_property)


def has_setter(cls: type[NodeBase], name: str) -> bool:
    """Whether an attribute that is not a field may be assigned: a property with a setter.

    For `_set_undeclared`, and for `graphnode check`.
    """
    is_data_descriptor = hasattr(getattr(cls, name, None), "__set__")
    return is_data_descriptor and name not in NodeBase.__slots__


def undeclared(
    cls: type[NodeBase], fields: Collection[str], name: str, declaration: str
) -> str:
    """What is wrong with an assignment to a name that is not a field of `cls`, and the line that would declare it.

    For `UndeclaredFieldError`, and for `graphnode check`, which says the same without
    running the program.
    """
    hint = did_you_mean(name, fields)
    remedy = f"{hint} Otherwise declare" if hint else "declare"
    return (
        f"{cls.__name__} has no field {name!r}; {remedy} it in the class: {declaration}"
    )


def _declaration(name: str, value: object) -> str:
    """The line that declares a field for a value; of an array, one for each thing it may be.

    For `UndeclaredFieldError`, to be copied into the class.
    """
    if isinstance(value, jax.Array | np.ndarray):
        in_state = f"{name}: ParamState, and assign ParamState(...)"
        return f"{in_state}; or {name}: jax.Array = gn.static() for what never changes"
    return f"{name}: {_annotation_for(value)}"


def _annotation_for(value: object) -> str:
    """An annotation that admits a value, as far as the value shows one.

    For the line that an `UndeclaredFieldError` suggests.
    """
    if isinstance(value, GraphValue | int | str | float):
        return type(value).__name__
    if not isinstance(value, list) or not value:
        return "..."
    if not all(isinstance(item, GraphValue) for item in value):
        return "..."
    # A dict for a set that keeps the order.
    names = dict.fromkeys(type(item).__name__ for item in value)
    return f"list[{' | '.join(names)}]"


GraphValue = State | NodeBase
