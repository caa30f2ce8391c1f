"""`dataclasses.replace` and `copy.replace` of a node: a new node that shares the States and subnodes of the original.

Both functions call the constructor with the fields of the original, which would draw
again all States that the node makes itself. So the constructor has to know that it is
called by `replace`. An argument for that would be refused by wrappers that check
arguments, and to look for `replace` among the callers would cost every constructor. But
before it constructs, `replace` asks the *instance* for its `__dataclass_fields__`:

    replace(node, ...) -> InstanceFields.__get__: notes the thread in REPLACING
                       -> guarded __init__: REPLACING is not empty, so original_of() looks for the
                          frame of `replace`, takes `node` from it, and fill_replaced() does the rest
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from threading import get_ident
from types import FrameType
from typing import Any, Final, NamedTuple, NoReturn

from .._caches import own_names, was_there
from .._errors import ContractError, FieldError, SchemaError, listed
from .._fields import NodeBase, set_version
from .._hints import did_you_mean
from .._uses import attributes_used
from .._versions import birth, constructing
from ._plan import Plan, check_contracts
from ._schema import Field, decorated_fault, is_computed, schema


class _Threads(set[int]):
    """The class of `REPLACING`. Pickled by its name, as cloudpickle writes constructors, which hold it, by value."""

    __slots__ = ()

    def __reduce__(self) -> str:
        # There is one set of threads in a process.
        return "REPLACING"


# The threads in which `replace` has looked at a node, and has not constructed one yet.
REPLACING: Final = _Threads()
# From Python 3.13 on, both functions call a third one.
_CODES: Final = {getattr(dataclasses, "_replace", dataclasses.replace).__code__}


class InstanceFields:
    """Stands for `__dataclass_fields__` in a node class.

    The class has its fields as every dataclass. An instance has them without those of
    `InitVar`s: `replace` would take their values from the instance, which keeps none.
    """

    def __init__(
        self, cls: Any, of_class: dict[str, Any], of_instance: dict[str, Any]
    ) -> None:
        self.cls, self.of_class, self.of_instance = cls, of_class, of_instance

    @classmethod
    def of(cls, node_class: Any) -> "InstanceFields":
        """What stands in a class that `dataclasses` has just made a dataclass.

        For `_define`: from then on `dataclasses.replace(node)` can be noticed.
        """
        of_instance = {field.name: field for field in dataclasses.fields(node_class)}
        return cls(node_class, node_class.__dict__["__dataclass_fields__"], of_instance)

    def __reduce__(self) -> tuple[Any, ...]:
        # As `Kept`: a class that exists where the pickle is loaded keeps its fields,
        # which its subclasses share.
        declaring = _declaring_bases(self.cls, self.of_class)
        return _fields_there, (
            self.cls,
            own_names(self.cls),
            self.of_class,
            tuple(self.of_instance),
            declaring,
        )

    def __get__(self, node: NodeBase | None, cls: type) -> dict[str, Any]:
        # On the way of every `replace`: it notes the thread for the constructor that is
        # called next.
        if node is None:
            return self.of_class
        # `dataclasses.fields(node)` and others ask as well, and construct nothing after
        # it.
        if _running_replace() is not None:
            REPLACING.add(get_ident())
        return self.of_instance

    def items(self) -> NoReturn:
        """Refuse the decorator of pydantic's dataclasses, which extends a dataclass and looks into its body.

        It would fail deep inside of pydantic, with a text about other things.
        """
        name = self.cls.__name__
        raise SchemaError(name, [decorated_fault(name)])


def _declaring_bases(cls: Any, of_class: Mapping[str, object]) -> dict[str, Any]:
    """The base that declares it, for each field that a class shares with one.

    For a pickle of the class: `dataclasses` has one object for a field and its
    inheritors.
    """
    declaring: dict[str, Any] = {}
    for base in reversed(cls.__mro__[1:]):
        if "__dataclass_fields__" not in base.__dict__:
            continue
        fields = base.__dataclass_fields__
        for name in own_names(base):
            if name in of_class and fields.get(name) is of_class[name]:
                declaring[name] = base
    return declaring


def _fields_there(
    cls: Any,
    names: tuple[str, ...],
    of_class: dict[str, "dataclasses.Field[Any]"],
    of_instance: tuple[str, ...],
    declaring: dict[str, Any],
) -> InstanceFields:
    """The fields of a class where a pickle of it is loaded: its own if it exists there.

    For a pickle of the class: `InstanceFields.__reduce__` names it.

    Otherwise it shares those that it inherits with its bases, as `dataclasses` does: in
    the pickle there is a copy of the field of a base, and the base may exist already.
    """
    own: InstanceFields | None = None
    if was_there(cls, names):
        own = cls.__dict__.get("__dataclass_fields__")
    if own is not None:
        return own
    for field in of_class.values():  # those of the instance are the same objects
        _restore_missing(field)
    for name, base in declaring.items():
        # A base that refers to the class, as by a method that uses it, may still be
        # empty; the field from the pickle is then put into it later.
        if name in own_names(base):
            of_class[name] = base.__dataclass_fields__[name]
    return InstanceFields(cls, of_class, {name: of_class[name] for name in of_instance})


def _restore_missing(field: "dataclasses.Field[Any]") -> None:
    """Put `dataclasses.MISSING` back, which `dataclasses` compares by identity: a pickle makes a copy of it.

    A field would seem to have a default otherwise.
    """
    for part in ("default", "default_factory", "kw_only"):
        if isinstance(getattr(field, part), type(dataclasses.MISSING)):
            setattr(field, part, dataclasses.MISSING)


def original_of(node: NodeBase) -> NodeBase | None:
    """The node that `replace` makes a new one from; `None` if something else constructs it.

    For the guarded constructor.

    Only to be called if `REPLACING` is not empty.
    """
    thread = get_ident()
    if thread not in REPLACING:
        return None
    # The note is for one construction: those inside of it are ordinary ones.
    REPLACING.discard(thread)
    frame = _running_replace()
    if frame is None:
        return None  # the call that left the note has failed
    # By position: the first parameter is the object in both functions, whatever Python
    # calls it.
    original = frame.f_locals[frame.f_code.co_varnames[0]]
    return original if type(original) is type(node) else None


def _running_replace() -> FrameType | None:
    """The innermost running call of `replace`: not always the caller, as wrappers may check arguments in between.

    For `original_of`, which takes the node from its local variables.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in _CODES:
        frame = frame.f_back
    return frame


def fill_replaced(
    node: NodeBase, original: NodeBase, arguments: Mapping[str, Any]
) -> None:
    """Give a node under construction the fields of another, with some changed. No field is made again.

    For the guarded constructor, in place of `__init__` and the makers.

    Args:
        node: The new node, still empty.
        original: The node that it is made from, of the same class.
        arguments: What `replace` calls the constructor with: fields as the original has
            them, and changed ones.

    Raises:
        FieldError: What is changed is not a field, or the class may have made something
            else from it; names all.
        ContractError: A State that is shared does not have the shape that a changed
            size asks for.
    """
    plan: Plan = node._plan
    current = original.__dict__
    fields = {name: value for name, value in current.items() if name in plan.names}
    # By identity: equality of arrays has no answer, and `replace` passes on the very
    # objects.
    changes = {
        name: value
        for name, value in arguments.items()
        if name not in fields or fields[name] is not value
    }
    _check_changes(original, changes)
    set_version(node, constructing())
    for name, value in {**fields, **changes}.items():
        node.__dict__[name] = plan.admit[name](node, value)
    _check_sizes(node, original, changes)
    set_version(node, birth())


def _check_changes(original: NodeBase, changes: Mapping[str, Any]) -> None:
    """Raise if `replace` cannot change some fields without running code of the class.

    For `fill_replaced`: a value that follows from a changed field would be kept from
    the original.

    Raises:
        FieldError: A name is no field, or what makes other fields may use one that is changed.
    """
    cls = type(original)
    fields = schema(cls).fields
    unknown = [_not_a_field(cls, name) for name in changes if name not in fields]
    if unknown:
        raise FieldError(
            f"cannot replace {', '.join(changes)} of {cls.__name__}: {listed(unknown)}"
        )
    faults = [
        code.fault(name)
        for code in _codes_not_run(cls, changes)
        for name in changes
        if code.may_use(name)
    ]
    if faults:
        remedy = f"{_construct_text(cls)}; or, to keep what is there, assign to a copy: other = copy.copy(node)"
        raise FieldError(_cannot_replace(cls, changes, faults, remedy))


def _not_a_field(cls: type[NodeBase], name: str) -> str:
    """What is wrong with a name that `replace` is to change, and that is not a field.

    For the error of `dataclasses.replace(node, name=...)`.
    """
    declared: Any = cls  # every node class is a dataclass
    if name in declared.__dataclass_fields__:
        return f"{name} is an argument of the constructor that no field keeps; {_construct_text(cls)}"
    hint = did_you_mean(name, schema(cls).fields)
    return f"{name} is not a field; {hint}" if hint else f"{name} is not a field"


class _Code(NamedTuple):
    """Code that makes fields of a new node, and that `replace` does not run.

    Attributes:
        name: What a message calls it.
        used: The fields that it uses; `None` where it may use any.
    """

    name: str
    used: Set[str] | None

    def may_use(self, field: str) -> bool:
        """Whether the code may use a field, so that it would have made something else of another value.

        Then `replace` refuses to change the field.
        """
        return self.used is None or field in self.used

    def fault(self, field: str) -> str:
        """What a message says of a field that the code may use.

        For the error of `_check_changes`.
        """
        return f"{self.name} {'may use' if self.used is None else 'uses'} {field}"


def _codes_not_run(cls: Any, changes: Mapping[str, Any]) -> Iterator[_Code]:
    """The code that makes the fields of a class, without the factories of static fields that are changed.

    For `_check_changes`: constructors that were written by hand, and factories.
    """
    fields = schema(cls).fields
    if cls._has_own_init:
        yield _Code("__init__", None)
    elif hasattr(cls, "__post_init__"):
        yield _Code("__post_init__", _fields_used(cls.__post_init__, fields))
    for field in fields.values():
        factory = field.specifier.factory
        # The factory of a field that is given a value would not have run in a
        # constructor either.
        is_changed = is_computed(field) and field.name in changes
        if factory is not None and not is_changed:
            used = _fields_used(factory, fields)
            yield _Code(f"the factory of {field.name}", used)


def _fields_used(
    function: Callable[..., Any], fields: Mapping[str, Field]
) -> Set[str] | None:
    """The fields that a function uses of its first argument; `None` if it may use any, as by a property or method.

    For `_codes_not_run`: what uses other fields alone is no reason to refuse a change.
    """
    used = attributes_used(function)
    return used if used is not None and used <= fields.keys() else None


def _check_sizes(
    node: NodeBase, original: NodeBase, changes: Mapping[str, Any]
) -> None:
    """Raise if a State that is shared does not have the shape that the changed sizes ask for.

    For `fill_replaced`, as States are shared, and not made anew by the sizes.
    """
    cls, remedy = type(node), _construct_text(type(node))
    try:
        check_contracts(node, {})
    except ContractError as error:
        fields = node._plan.contracts
        arguments = [field.name for field in fields if field.init]
        others = [name for name in arguments if name not in changes]
        if others:
            remedy += f", or pass {', '.join(others)} too"
        raise ContractError(
            _cannot_replace(cls, changes, [str(error)], remedy)
        ) from None
    faults: list[str] = []
    # The contracts know nothing of `shape=`, so it is called for both nodes.
    for field in schema(cls).fields.values():
        shape_of = field.specifier.shape
        if shape_of is None or field.name not in node.__dict__:
            continue
        before, after = tuple(shape_of(original)), tuple(shape_of(node))
        if before != after:
            where = f"{cls.__name__}.{field.name}"
            faults.append(f"{where}: its shape was {before}, and would be {after}")
    if faults:
        raise ContractError(_cannot_replace(cls, changes, faults, remedy))


def _construct_text(cls: type) -> str:
    """The remedy that works for every class.

    For the errors of `dataclasses.replace`: a constructor makes all fields anew.
    """
    return f"construct a new {cls.__name__}"


def _cannot_replace(
    cls: type, changes: Mapping[str, Any], faults: Sequence[str], remedy: str
) -> str:
    """The text of an error of `replace`: what cannot be replaced, why, and what to do.

    For errors of values and of shapes, which look alike.

    Args:
        cls: The class of the node.
        changes: What was to be changed.
        faults: The reasons.
        remedy: What to do instead.
    """
    names = ", ".join(changes)
    reason = "replace shares all States and subnodes, and runs nothing that makes them"
    return f"cannot replace {names} of {cls.__name__}: {listed(faults)}. {reason}: {remedy}"
