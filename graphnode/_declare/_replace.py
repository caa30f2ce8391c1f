"""`dataclasses.replace` and `copy.replace` of a node: a new node that shares the States and subnodes of the original.

Both functions call the constructor with the fields of the original, which would draw
all States anew that the node makes itself. So the constructor has to know, and without
an argument for it, which a wrapper that checks arguments would refuse. Looking for
`replace` among its callers would cost every constructor. But before it constructs,
`replace` asks the *instance* for its `__dataclass_fields__`: this leaves a note, and
only then does a constructor look.
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
from ._plan import check_contracts
from ._schema import Field, decorated_fault, is_computed, schema


class _Threads(set[int]):
    """The set below. Constructors hold it, which cloudpickle sends by value: by its name, all hold this one."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "REPLACING"


# The threads in which `replace` has looked at a node, and no node was constructed
# since.
REPLACING: Final = _Threads()
# From Python 3.13 on, both functions call a third one.
_CODES: Final = {getattr(dataclasses, "_replace", dataclasses.replace).__code__}


class InstanceFields:
    """Stands for `__dataclass_fields__` in a node class.

    A class shows its fields as every dataclass does. An instance shows them without
    arguments of the constructor alone (`InitVar`): it has kept none, and `replace`
    would read the class's defaults from it.
    """

    def __init__(
        self, cls: Any, of_class: dict[str, Any], of_instance: dict[str, Any]
    ) -> None:
        self.cls, self.of_class, self.of_instance = cls, of_class, of_instance

    @classmethod
    def of(cls, node_class: Any) -> "InstanceFields":
        """What stands in a class that `dataclasses` has just made a dataclass."""
        of_instance = {field.name: field for field in dataclasses.fields(node_class)}
        return cls(node_class, node_class.__dict__["__dataclass_fields__"], of_instance)

    def __reduce__(self) -> tuple[Any, ...]:
        # As `Kept` does: a class that is there when it is loaded keeps its fields,
        # which subclasses share with it.
        declaring = _declaring_bases(self.cls, self.of_class)
        return _fields_there, (
            self.cls,
            own_names(self.cls),
            self.of_class,
            tuple(self.of_instance),
            declaring,
        )

    def __get__(self, node: NodeBase | None, cls: type) -> dict[str, Any]:
        if node is None:
            return self.of_class
        if _running_replace() is not None:
            REPLACING.add(get_ident())
        return self.of_instance

    def items(self) -> NoReturn:
        """Refuse the decorator of pydantic's dataclasses, which extends a dataclass and looks into its body."""
        name = self.cls.__name__
        raise SchemaError(name, [decorated_fault(name)])


def _declaring_bases(cls: Any, of_class: Mapping[str, object]) -> dict[str, Any]:
    """The base that declares it, for each field that a class shares with one."""
    bases = [
        base for base in cls.__mro__[1:] if "__dataclass_fields__" in base.__dict__
    ]
    return {
        name: base
        for base in reversed(bases)
        for name in own_names(base)
        if name in of_class and base.__dataclass_fields__.get(name) is of_class[name]
    }


def _fields_there(
    cls: Any,
    names: tuple[str, ...],
    of_class: dict[str, "dataclasses.Field[Any]"],
    of_instance: tuple[str, ...],
    declaring: dict[str, Any],
) -> InstanceFields:
    """The fields of a class where a pickle of it is loaded: its own if it was there before.

    Otherwise it shares those that it inherits with its bases, as `dataclasses` does:
    what came out of the pickle is a copy of what a base has that was there before it.
    """
    own: InstanceFields | None = (
        cls.__dict__.get("__dataclass_fields__") if was_there(cls, names) else None
    )
    if own is not None:
        return own
    for field in of_class.values():  # those of the instance are the same
        _restore_missing(field)
    for name, base in declaring.items():
        # A base that leads to the class itself, as by a method that uses it, is still
        # empty: it gets the same object.
        if name in own_names(base):
            of_class[name] = base.__dataclass_fields__[name]
    return InstanceFields(cls, of_class, {name: of_class[name] for name in of_instance})


def _restore_missing(field: "dataclasses.Field[Any]") -> None:
    """Put back what stands for no default: out of a pickle comes another object than the one that is asked for."""
    for part in ("default", "default_factory", "kw_only"):
        if isinstance(getattr(field, part), type(dataclasses.MISSING)):
            setattr(field, part, dataclasses.MISSING)


def original_of(node: NodeBase) -> NodeBase | None:
    """The node that a new one replaces; `None` if it is constructed otherwise. To be asked where `REPLACING` is."""
    thread = get_ident()
    if thread not in REPLACING:
        return None
    REPLACING.discard(thread)
    frame = _running_replace()
    if frame is None:
        return None  # the call that left the note has failed
    original = frame.f_locals[frame.f_code.co_varnames[0]]
    return original if type(original) is type(node) else None


def _running_replace() -> FrameType | None:
    """The innermost running call of `replace`. What checks arguments may stand between it and its callee."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in _CODES:
        frame = frame.f_back
    return frame


def fill_replaced(
    node: NodeBase, original: NodeBase, arguments: Mapping[str, Any]
) -> None:
    """Give a node that is being made the fields of another, with some changed. Nothing is made anew.

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
    kept = {
        name: value
        for name, value in original.__dict__.items()
        if name in node._plan.names
    }
    changes = {
        name: value
        for name, value in arguments.items()
        if kept.get(name, _ABSENT) is not value
    }
    _check_changes(original, changes)
    set_version(node, constructing())
    for name, value in {**kept, **changes}.items():
        node.__dict__[name] = node._plan.admit[name](node, value)
    _check_sizes(node, original, changes)
    set_version(node, birth())


# In place of what a popped field holds: nothing that anyone can pass.
_ABSENT: Final = object()


def _check_changes(original: NodeBase, changes: Mapping[str, Any]) -> None:
    cls = type(original)
    fields = schema(cls).fields
    unknown = [_not_a_field(cls, name) for name in changes if name not in fields]
    if unknown:
        raise FieldError(
            f"cannot replace {', '.join(changes)} of {cls.__name__}: {listed(unknown)}"
        )
    faults = [
        code.fault(name)
        for code in _codes(cls, changes)
        for name in changes
        if code.may_use(name)
    ]
    if faults:
        remedy = f"{_construct(cls)}; or, to keep what is there, assign to a copy: other = copy.copy(node)"
        raise FieldError(_refusal(cls, changes, faults, remedy))


def _not_a_field(cls: type[NodeBase], name: str) -> str:
    declared: Any = cls  # every node class is a dataclass
    if name in declared.__dataclass_fields__:
        return f"{name} is an argument of the constructor that no field keeps; {_construct(cls)}"
    hint = did_you_mean(name, schema(cls).fields)
    return f"{name} is not a field" + (f"; {hint}" if hint else "")


class _Code(NamedTuple):
    """What makes fields, and does not run.

    Attributes:
        name: What a message calls it.
        used: The fields that it uses; `None` where it may use any.
    """

    name: str
    used: Set[str] | None

    def may_use(self, field: str) -> bool:
        return self.used is None or field in self.used

    def fault(self, field: str) -> str:
        return f"{self.name} {'may use' if self.used is None else 'uses'} {field}"


def _codes(cls: Any, changes: Mapping[str, Any]) -> Iterator[_Code]:
    """What makes the fields of a class, apart from those static ones that are changed: these are not computed."""
    fields = schema(cls).fields
    if cls._has_own_init:
        yield _Code("__init__", None)
    elif hasattr(cls, "__post_init__"):
        yield _Code("__post_init__", _fields_used(cls.__post_init__, fields))
    for field in fields.values():
        is_given = is_computed(field) and field.name in changes
        if field.specifier.factory is not None and not is_given:
            yield _Code(
                f"the factory of {field.name}",
                _fields_used(field.specifier.factory, fields),
            )


def _fields_used(
    function: Callable[..., Any], fields: Mapping[str, Field]
) -> Set[str] | None:
    used = attributes_used(function)
    # A property or a method may use any field.
    return used if used is not None and used <= fields.keys() else None


def _check_sizes(
    node: NodeBase, original: NodeBase, changes: Mapping[str, Any]
) -> None:
    cls = type(node)
    try:
        check_contracts(node, {})
    except ContractError as error:
        taken = [
            field.name
            for field in node._plan.contracts
            if field.init and field.name not in changes
        ]
        remedy = f"{_construct(cls)}" + (
            f", or pass {', '.join(taken)} too" if taken else ""
        )
        raise ContractError(_refusal(cls, changes, [str(error)], remedy)) from None
    faults: list[str] = []
    for field in schema(cls).fields.values():
        shape_of = field.specifier.shape
        if shape_of is None or field.name not in node.__dict__:
            continue
        before, after = tuple(shape_of(original)), tuple(shape_of(node))
        if before != after:
            faults.append(
                f"{cls.__name__}.{field.name}: its shape was {before}, and would be {after}"
            )
    if faults:
        raise ContractError(_refusal(cls, changes, faults, _construct(cls)))


def _construct(cls: type) -> str:
    return f"construct a new {cls.__name__}"


def _refusal(
    cls: type, changes: Mapping[str, Any], faults: Sequence[str], remedy: str
) -> str:
    names = ", ".join(changes)
    reason = "replace shares all States and subnodes, and runs nothing that makes them"
    return f"cannot replace {names} of {cls.__name__}: {listed(faults)}. {reason}: {remedy}"
