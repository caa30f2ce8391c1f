"""What can be wrong with a class: faults with their rules, raised at class creation or collected.

A fault is a text, as users read it in a `SchemaError`, with two attributes for
programs: the rule that the class breaks, and the name in the class body that the fault
is about.

    usual                       class creation --> SchemaError
    graphnode check, with       class creation --> the error is kept on the class, and
    `collecting_faults()`       raised when the class is constructed or compiled
"""

import contextlib
import enum
from collections.abc import Generator
from contextvars import ContextVar
from typing import Final, cast

from ._compat import is_pytree_class
from ._errors import Fault, SchemaError
from ._redefinition import note_definition


class Rule(enum.Enum):
    """The rules for classes; a value is the name that users see."""

    KIND = "kind-mismatch"
    UNHASHABLE = "unhashable-static"
    ARRAY = "array-static"
    AMBIGUOUS = "ambiguous-annotation"
    UNRESOLVED = "unresolved-name"
    ANNOTATION = "bad-annotation"
    AXIS_SYNTAX = "axis-syntax"
    AXIS_NAME = "unknown-axis"
    AXIS_SIZE = "unsized-axis"
    INITIALIZER = "initializer-shape"
    SHARDING = "bad-sharding"
    SHARED = "shared-default"
    OVERRIDE = "override-kind"
    RESERVED = "reserved-name"
    EQUALITY = "own-equality"
    SLOTS = "slots"
    DATACLASS = "dataclass-rule"
    UNANNOTATED = "unannotated-value"
    SHADOWED = "shadowed-field"
    MIXIN = "mixin-field"
    STATE_FIELD = "state-field"
    REGISTERED = "registered-pytree"


class ClassFault(Fault):
    """One fault of a class.

    Attributes:
        rule: The rule that the class breaks.
        name: The name in the class body that the fault is about, or `None` where it is
            about the whole class.
    """

    __slots__ = ("name", "rule")

    rule: Rule
    name: str | None

    # Not `Self`: the checks at run time do not know it in a class that extends `str`.
    def __new__(cls, text: str, rule: Rule, name: str | None = None) -> "ClassFault":
        self = cast("ClassFault", super().__new__(cls, text))
        self.rule, self.name = rule, name
        return self

    def __reduce__(self) -> tuple[type["ClassFault"], tuple[str, Rule, str | None]]:
        return ClassFault, (str(self), self.rule, self.name)


_REFUSAL: Final = "__graphnode_refusal__"
_DEFINED: ContextVar[list[type] | None] = ContextVar("graphnode_defined", default=None)


@contextlib.contextmanager
def collecting_faults() -> Generator[list[type]]:
    """For `graphnode check`: let classes with faults be defined, so that the rest of a module is read too.

    Such a class raises its `SchemaError` when it is constructed, or asked for its
    schema.

    Yields:
        The classes of nodes and States that are defined meanwhile, in order. The list
        keeps them alive.
    """
    defined: list[type] = []
    token = _DEFINED.set(defined)
    try:
        yield defined
    finally:
        _DEFINED.reset(token)


@contextlib.contextmanager
def defining(cls: type) -> Generator[None]:
    """For `__init_subclass__` of nodes and States: a `SchemaError` is raised, or kept while faults are collected."""
    note_definition(cls)
    defined = _DEFINED.get()
    # Also a class that turns out to have faults: the check reports it.
    if defined is not None:
        defined.append(cls)
    try:
        yield
    except SchemaError as error:
        if defined is None:
            raise
        _refuse(cls, error)


def _refuse(cls: type, error: SchemaError) -> None:
    """For `defining`: have a class raise its `SchemaError` when it is constructed."""

    def __init__(self: object, *args: object, **kwargs: object) -> None:
        check_refused(cls)

    # Not the error itself, whose traceback would keep the frames of the import alive.
    setattr(cls, _REFUSAL, (error.cls_name, error.faults))
    # By name: an assignment would declare the constructor again to type checkers.
    setattr(cls, "__init__", __init__)  # noqa: B010


def is_refused(cls: type) -> bool:
    """Whether a class was defined with faults while they were collected.

    Such a class has no schema: what needs one leaves it out, and the check has its
    faults already.
    """
    return _REFUSAL in cls.__dict__


def check_refused(cls: type) -> None:
    """Raise the `SchemaError` of a class that was defined with faults while they were collected.

    So that whoever goes on to use such a class sees why it has no schema.
    """
    refusal = cls.__dict__.get(_REFUSAL)
    # A new error each time: a raised one would gather the tracebacks of all calls.
    if refusal is not None:
        raise SchemaError(*refusal)


def registration_fault(cls: type) -> ClassFault | None:
    """The fault of a class of nodes or States that is registered with JAX as a pytree; otherwise `None`.

    A decorator or a call registers a class after it was created, so this is checked at
    its first use.
    """
    if not is_pytree_class(cls):
        return None
    return ClassFault(
        f"{cls.__name__} is registered with JAX as a pytree, and a transformation loses what it writes into a pytree; "
        "remove the registration (by a decorator, a call or a base class): graphnode's functions take nodes and "
        "States as they are, and gn.treefy_split and gn.graph_to_tree make pytrees of them for JAX's own",
        Rule.REGISTERED,
    )


def check_unregistered(cls: type) -> None:
    """Raise the `SchemaError` of a class of nodes or States that is registered with JAX.

    For States and nodes in use: a class may be registered long after it was created.
    """
    fault = registration_fault(cls)
    if fault is not None:
        raise SchemaError(cls.__name__, [fault])
