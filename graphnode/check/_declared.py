"""What is wrong with what a class declares: the faults of its schema, its static defaults, its contracts."""

import collections
import pickle
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, Final

import jax
import numpy as np

from .._class_faults import ClassFault, Rule, check_refused
from .._contract import Contract
from .._declare._node import plan_of
from .._declare._plan import Admit
from .._declare._schema import Field, Schema, axis_name_fault, late_fault, schema
from .._errors import FieldError, SchemaError
from .._fields import Kind, NodeBase
from .._hints import did_you_mean
from .._importable import object_by_name
from .._members import own_annotations
from .._static import GraphObject, compares_by_identity, kind_of, static_key
from ._codes import (
    FAILING_FACTORY,
    FREE_AXIS,
    IDENTITY_DEFAULT,
    NO_CONTRACT,
    OF_RULE,
    UNSTABLE_FACTORY,
    Code,
)
from ._findings import CheckedClass, Finding

# Stricter than where an axis must name a field: `path` beside a field `batch` is not a
# slip of the pen.
_NEAR: Final = 0.8


def faults_of(cls: type[Any]) -> Sequence[ClassFault]:
    """All faults for which a class of nodes or States cannot be used, or none."""
    try:
        check_refused(cls)
        if issubclass(cls, NodeBase):
            schema(cls)
    except SchemaError as error:
        return [fault for fault in error.faults if isinstance(fault, ClassFault)]
    # What a decorator or an assignment did to the class after its creation.
    fault = late_fault(cls)
    return [] if fault is None else [fault]


def fault_findings(
    checked: CheckedClass, faults: Mapping[type[Any], Sequence[ClassFault]]
) -> Iterator[Finding]:
    """The faults of a class, without those that it inherits from a class which is checked too.

    Args:
        checked: The class.
        faults: The faults of all classes under check.
    """
    cls = checked.cls
    # By rule and name: the text of a fault has the name of the class in it.
    above = {
        (fault.rule, fault.name)
        for base in cls.__mro__[1:]
        for fault in faults.get(base, ())
    }
    for fault in faults[cls]:
        if (fault.rule, fault.name) not in above or _is_own(cls, fault):
            place = checked.place(fault.name)
            yield from checked.found(OF_RULE[fault.rule], fault, place)


def _is_own(cls: type[Any], fault: ClassFault) -> bool:
    """Whether a fault that a base has too is also one of this class's own body, and so to be reported for both."""
    if fault.rule is Rule.EQUALITY:
        return not {"__eq__", "__hash__"}.isdisjoint(cls.__dict__)
    return fault.rule is Rule.SLOTS or fault.name in own_annotations(cls)


# Static defaults


def default_findings(checked: CheckedClass, compiled: Schema[Any]) -> Iterator[Finding]:
    """What is wrong with the defaults of the static fields that a class declares itself.

    A `default_factory` is called twice, as two instances would.
    """
    for field in compiled.of_kind(Kind.STATIC):
        if field.owner is not checked.cls or field.default is None:
            continue
        admit = plan_of(checked.cls).admit[field.name]
        fault = _default_fault(field, field.default, admit)
        if fault is not None:
            yield from checked.found(*fault, checked.place(field.name))


def _default_fault(
    field: Field, default: Callable[[], Any], admit: Admit
) -> tuple[Code, str] | None:
    """What is wrong with the default of a static field, as a code and a message; `None` if nothing is.

    Args:
        field: The field.
        default: Makes the default; called twice, as two instances would.
        admit: Checks and freezes a value, as construction does.
    """
    where = f"{field.owner.__name__}.{field.name}"
    try:
        first, second = default(), default()
    except Exception as error:  # whatever the factory raises is what is wrong
        text = f"{where}: its default_factory raises {type(error).__name__}: {error}"
        text += f"; so does the class, constructed without {field.name}"
        return FAILING_FACTORY, text
    try:
        first, second = admit(None, first), admit(None, second)
    except FieldError as error:
        return _refused_code(first), str(error)
    # The first one is enough for a message.
    by_identity = next(_by_identity(first), None)
    # By key, as structures are compared: `==` may be defined otherwise, or give an
    # array.
    if static_key(first) != static_key(second):
        return UNSTABLE_FACTORY, _unstable_text(where, first, by_identity)
    if by_identity is not None:
        text = f"{where}: the default {_callable_text(by_identity)} compares by identity and has no importable name, so"
        text += " that a structure which holds it does not pickle, or is another one once loaded, and is traced again"
        return IDENTITY_DEFAULT, f"{text}; use a function that a module defines"
    return None


def _unstable_text(where: str, default: object, by_identity: object) -> str:
    """The message about a factory whose values differ.

    Args:
        where: The class and field.
        default: One of the values.
        by_identity: The callable in it that makes them differ; `None` if it is
            something else.
    """
    what, remedy = type(default).__name__, "pass it to the constructor"
    if by_identity is not None:
        what = _callable_text(by_identity)
        remedy = "use a function that a module defines"
    text = f"{where}: its default_factory makes another {what} for each instance, so each has its own structure"
    return f"{text} and is traced again; {remedy}"


def _refused_code(value: object) -> Code:
    """The code for a default that construction refuses: that of the same fault found in a class body."""
    if isinstance(value, jax.Array | np.ndarray):
        return OF_RULE[Rule.ARRAY]
    return OF_RULE[Rule.KIND if isinstance(value, GraphObject) else Rule.UNHASHABLE]


def _by_identity(value: Any) -> Iterator[Any]:
    """The callables in a static value that equal themselves alone and no import gives back: loaded, they are others."""
    parts = list(kind_of(value).parts(value))
    for part in parts:
        yield from _by_identity(part)
    if parts:
        return  # equal if they are
    owner, is_by_identity = value, callable(value) and compares_by_identity(type(value))
    if isinstance(value, types.MethodType):
        # Two are equal if their objects are, where these define equality.
        owner = value.__self__
        is_by_identity = compares_by_identity(type(owner)) or static_key(value) is value
    if is_by_identity and not _has_importable_name(owner):
        yield value


def _has_importable_name(value: object) -> bool:
    """Whether pickle finds a value again by importing a name: then what is loaded is the same object."""
    module = getattr(value, "__module__", None)
    qualname = getattr(value, "__qualname__", None)
    if object_by_name(str(module), str(qualname)) is value:
        return True  # also what pickle does not know to be one, as `jax.nn.relu`
    # Of all else pickle knows: a method of a class, a ufunc, whatever has a `__reduce__`
    # that gives a name, and may raise anything.
    try:
        return pickle.loads(pickle.dumps(value)) is value
    except Exception:
        return False


def _callable_text(value: Any) -> str:
    """For a message: what a callable without an importable name is, such as "lambda"."""
    if isinstance(value, types.MethodType):
        return f"bound method {value.__qualname__}"
    if isinstance(value, types.FunctionType):
        is_lambda = value.__name__ == "<lambda>"
        return "lambda" if is_lambda else f"local function {value.__qualname__}"
    return value.__qualname__ if isinstance(value, type) else type(value).__name__


# Contracts


def axis_findings(
    checked: CheckedClass, compiled: Schema[Any], *, strict: bool
) -> Iterator[Finding]:
    """Axes whose name no static field has and nothing else in the class, in the States that a class declares itself.

    The schema refuses such an axis where an initializer needs its size. Elsewhere the
    first array decides it; that is of use where the name stands twice, and a likely
    mistake where it is nearly that of a static field.
    """
    statics = {field.name for field in compiled.of_kind(Kind.STATIC)}
    contracts = [
        (field, contract)
        for field in compiled.of_kind(Kind.STATE)
        for contract in _contracts(field)
    ]
    uses: collections.Counter[str] = collections.Counter()
    for _, contract in contracts:
        for axis in contract.axes:
            uses.update(axis.names)
    for field, contract in contracts:
        if field.owner is not checked.cls:
            continue
        place = checked.place(field.name)
        # Sorted, as it is a set: findings are to have one order.
        for name in sorted(contract.names - statics):
            # A name that stands twice says that two sizes agree.
            if uses[name] <= 1:
                fault = _lonely_axis(checked.cls, field, contract, name, statics)
                if strict or fault[0] is not FREE_AXIS:
                    yield from checked.found(*fault, place)


def _lonely_axis(
    cls: type[Any], field: Field, contract: Contract, name: str, statics: Set[str]
) -> tuple[Code, str]:
    """The code and message for an axis whose name stands nowhere else in a class.

    Args:
        cls: The class.
        field: The field with the axis in its contract.
        contract: That contract.
        name: The name of the axis.
        statics: The names of the static fields, one of which may be meant.
    """
    where = f"{cls.__name__}.{field.name}"
    hint = did_you_mean(name, statics, cutoff=_NEAR)
    if hint:
        fault = axis_name_fault(where, name, contract, hint)
        return OF_RULE[fault.rule], fault
    text = f"{where}: axis {name!r} of {contract.text} stands nowhere else in the class and says nothing"
    return FREE_AXIS, f"{text}; declare {name}: int, or write _{name}"


def contract_findings(
    checked: CheckedClass, compiled: Schema[Any]
) -> Iterator[Finding]:
    """The state fields of a class, declared by itself, that admit a State of any shape and dtype."""
    for field in compiled.of_kind(Kind.STATE):
        if field.owner is not checked.cls:
            continue
        leaves = [leaf for leaf in field.form.all_leaves if leaf.contract is None]
        bare = sorted({leaf.cls.__name__ for leaf in leaves})
        if bare:
            text = f"{checked.cls.__name__}.{field.name}: {' and '.join(bare)} without a contract takes any shape and"
            remedy = f'write {bare[0]}[Float[Array, "..."]], or the axes that it has'
            place = checked.place(field.name)
            yield from checked.found(NO_CONTRACT, f"{text} dtype; {remedy}", place)


def _contracts(field: Field) -> list[Contract]:
    """The contracts of all States that a field admits: where its annotation names axes."""
    return [
        leaf.contract for leaf in field.form.all_leaves if leaf.contract is not None
    ]
