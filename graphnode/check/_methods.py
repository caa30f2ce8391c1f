"""What is wrong with what methods assign: names that are no fields, and fields that nothing assigns."""

import ast
import dataclasses
import inspect
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from .._declare._node import (
    GraphValue,
    Node,
    has_setter,
    plan_of,
    remedy_for,
    undeclared,
)
from .._declare._schema import Schema, schema
from .._fields import NodeBase
from .._source import Assignment, Sources
from ._codes import UNASSIGNED, UNDECLARED
from ._findings import CheckedClass, Finding, project_bases, subclasses_of

_SETATTR: Final[Any] = Node.__setattr__
_INIT: Final = "__init__"
_POST_INIT: Final = "__post_init__"
_PLAIN: Final = (int, str, float)  # as in what `Node.__setattr__` says


def undeclared_findings(checked: CheckedClass) -> Iterator[Finding]:
    """The assignments in the methods of a class that `Node.__setattr__` refuses.

    A method of an abstract class runs on instances of other classes: there it is enough
    that all of those which are known declare the name.
    """
    if checked.source is None or not _has_fields(checked.cls):
        return
    users = _concrete(checked.cls) or [checked.cls]
    for one in checked.source.assignments:
        if one.is_checked and not all(_takes(cls, one.name) for cls in users):
            yield from checked.found(
                UNDECLARED, _refusal(checked.cls, one, checked.cls), one.place
            )


def mixin_findings(
    checked: CheckedClass, sources: Sources, files: Mapping[str, str]
) -> Iterator[Finding]:
    """The same of the methods of mixins that a class is the first to extend, as its instances run them.

    Args:
        checked: The class.
        sources: Where the mixins are read.
        files: The files of the modules under check, by their names: a mixin of another
            one is not reported.
    """
    nodes = [base for base in checked.cls.__mro__[1:] if issubclass(base, NodeBase)]
    for base in project_bases(checked.cls)[1:] if _has_fields(checked.cls) else ():
        source = sources.of_class(base) if base.__module__ in files else None
        if source is None or any(base in node.__mro__ for node in nodes):
            continue
        mixin = CheckedClass(base, files[base.__module__], source)
        users = _concrete(checked.cls)
        for one in source.assignments:
            if one.is_checked and any(
                _runs(cls, base, one, sources) and not _takes(cls, one.name)
                for cls in users
            ):
                yield from mixin.found(
                    UNDECLARED, _refusal(checked.cls, one, base), one.place
                )


def _has_fields(cls: type[Any]) -> bool:
    """Whether it is known which names may be assigned."""
    # A class that `dataclasses` has refused has the fields of its parent.
    return "__dataclass_fields__" in cls.__dict__ and cls.__setattr__ is _SETATTR


def _refusal(cls: type[Any], assignment: Assignment, owner: type[Any]) -> str:
    """What is wrong with an assignment to an instance of a class, in a method of the class or of a mixin."""
    name = assignment.name
    if isinstance(getattr(cls, name, None), property):
        return f"{cls.__name__}.{name} is a property without a setter; give it one, or assign what it is computed from"
    declaration = f"{name}: {_annotation(assignment, sys.modules[owner.__module__])}"
    return undeclared(cls, field_names(cls), name, declaration)


def _runs(
    cls: type[Any], base: type[Any], assignment: Assignment, sources: Sources
) -> bool:
    """Whether a method of a base surely runs on instances of `cls`: what overrides it calls it."""
    above = [
        one
        for one in cls.__mro__[: cls.__mro__.index(base)]
        if assignment.method in one.__dict__
    ]
    written = [sources.of_class(one) for one in above]
    return all(
        source is not None and source.calls_next(assignment.method)
        for source in written
    )


def _takes(cls: type[Any], name: str) -> bool:
    if name in field_names(cls):
        return True
    member = getattr(cls, name, None)
    return has_setter(cls, name) and not (
        isinstance(member, property) and member.fset is None
    )


def field_names(cls: type[Any]) -> Collection[str]:
    """The names of the fields of a node class, also of one with faults."""
    return [field.name for field in dataclasses.fields(cls)]


def _concrete(cls: type[Any]) -> Sequence[type[Any]]:
    """The classes whose instances run the methods of `cls`, as far as they are known."""
    if not inspect.isabstract(cls):
        return [cls]
    return [one for one in subclasses_of(cls) if not inspect.isabstract(one)]


def _annotation(assignment: Assignment, module: object) -> str:
    """What would declare the attribute, as far as the text tells."""
    value = assignment.value
    if assignment.annotation is not None:
        return assignment.annotation
    if isinstance(value, ast.Constant) and isinstance(value.value, _PLAIN):
        return type(value.value).__name__
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        cls = getattr(module, value.func.id, None)
        if isinstance(cls, type) and issubclass(cls, GraphValue):
            return value.func.id
    return "..."


def unassigned_findings(
    checked: Sequence[CheckedClass],
    schemas: Mapping[type[Any], Schema[Any]],
    sources: Sources,
) -> Iterator[Finding]:
    """The fields that nothing makes: no default, initializer or factory, and no method.

    Those with `init=False`, and all fields of a class whose constructor is written by
    hand.

    A field is reported where it is declared if that class can be constructed; else on
    the classes that can. A class whose subclass assigns the field is meant to be
    extended, and is not reported.

    Args:
        checked: The classes under check.
        schemas: Of those of them that compile.
        sources: Where the methods of the classes that they extend are read.
    """
    lacking = {
        one.cls: _unassigned(one.cls, sources) for one in checked if one.cls in schemas
    }
    for one in checked:
        for name in lacking.get(one.cls, ()):
            owner = schemas[one.cls].fields[name].owner
            if owner is not one.cls and name in lacking.get(owner, ()):
                continue
            is_given = schemas[one.cls].fields[name].init
            why = (
                "__init__ is written by hand"
                if is_given
                else "the constructor does not take it"
            )
            text = f"{one.cls.__name__}.{name}: {why} and no method assigns it; {remedy_for(one.cls)}"
            yield from one.found(
                UNASSIGNED, text, one.place(name if owner is one.cls else None)
            )


def _unassigned(cls: type[Any], sources: Sources) -> Sequence[str]:
    if inspect.isabstract(cls):
        return ()
    plan, bases = plan_of(cls), project_bases(cls)
    names = {field.name for field in schema(cls).fields.values() if not field.init}
    if cls._has_own_init:
        names = set(field_names(cls)) - _set_by_generated(bases, sources)
    names -= plan.makers.keys()
    # The `__post_init__` of a base, from where another one does not call it
    left_out: set[str] = set()
    for base in [*bases, *(subclasses_of(cls) if names else ())]:
        source = sources.of_class(base)
        if source is None or source.is_opaque:
            return ()
        unrun = left_out if base in bases else ()
        names -= {
            assignment.name
            for assignment in source.assignments
            if assignment.method not in unrun
        }
        if base in bases and source.calls_next(_POST_INIT) is False:
            left_out.add(_POST_INIT)
        if base is cls and source.calls_next(_INIT) is False:
            left_out.add(_INIT)
    return sorted(names)


def _set_by_generated(bases: Sequence[type[Any]], sources: Sources) -> set[str]:
    """The fields that a generated constructor of a base may set, as a written one calls some other."""
    written = [sources.of_class(base) for base in bases]
    if not any(source is not None and source.calls_next(_INIT) for source in written):
        return set()
    generated = [
        base
        for base in bases
        if dataclasses.is_dataclass(base) and not getattr(base, "_has_own_init", False)
    ]
    return {
        field.name
        for base in generated
        for field in dataclasses.fields(base)
        if field.init
    }
