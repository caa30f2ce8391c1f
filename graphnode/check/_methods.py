"""What is wrong with what methods assign: names that are no fields, and fields that nothing assigns."""

import ast
import dataclasses
import inspect
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from .._node import REMEDY, GraphValue, Node, has_setter, plan_of, undeclared
from .._schema import Schema, schema
from .._source import Assignment, Sources
from ._codes import UNASSIGNED, UNDECLARED
from ._findings import CheckedClass, Finding, project_bases, subclasses_of

_SETATTR: Final[Any] = Node.__setattr__
_PLAIN: Final = (int, str, float)  # as in what `Node.__setattr__` says


def undeclared_findings(checked: CheckedClass) -> Iterator[Finding]:
    """The assignments in the methods of a class that `Node.__setattr__` refuses.

    A method of an abstract class runs on instances of other classes: there it is enough that all of those which are
    known declare the name.
    """
    # A class that `dataclasses` has refused has the fields of its parent.
    has_fields = "__dataclass_fields__" in checked.cls.__dict__
    if checked.source is None or not has_fields or checked.cls.__setattr__ is not _SETATTR:
        return
    users = _concrete(checked.cls) or [checked.cls]
    for one in checked.source.assignments:
        if one.is_checked and not all(_takes(cls, one.name) for cls in users):
            annotation = _annotation(one, sys.modules[checked.cls.__module__])
            declaration = f"{one.name}: {annotation}"
            message = undeclared(checked.cls, field_names(checked.cls), one.name, declaration)
            yield from checked.found(UNDECLARED, message, one.place)


def _takes(cls: type[Any], name: str) -> bool:
    return name in field_names(cls) or has_setter(cls, name)


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
    checked: Sequence[CheckedClass], schemas: Mapping[type[Any], Schema[Any]], sources: Sources
) -> Iterator[Finding]:
    """The fields with `init=False` that nothing makes: no default, initializer or factory, and no method.

    A field is reported where it is declared if that class can be constructed; else on the classes that can. A class
    whose subclass assigns the field is meant to be extended, and is not reported.

    Args:
        checked: The classes under check.
        schemas: Of those of them that compile.
        sources: Where the methods of the classes that they extend are read.
    """
    lacking = {one.cls: _unassigned(one.cls, sources) for one in checked if one.cls in schemas}
    for one in checked:
        for name in lacking.get(one.cls, ()):
            owner = schemas[one.cls].fields[name].owner
            if owner is not one.cls and name in lacking.get(owner, ()):
                continue
            text = f"{one.cls.__name__}.{name}: the constructor does not take it and no method assigns it; {REMEDY}"
            yield from one.found(UNASSIGNED, text, one.place(name if owner is one.cls else None))


def _unassigned(cls: type[Any], sources: Sources) -> Sequence[str]:
    if inspect.isabstract(cls):
        return ()
    plan = plan_of(cls)
    names = {field.name for field in schema(cls).fields.values() if not field.init and field.name not in plan.makers}
    for base in [*project_bases(cls), *(subclasses_of(cls) if names else ())]:
        source = sources.of_class(base)
        if source is None or source.is_opaque:
            return ()
        names -= {assignment.name for assignment in source.assignments}
    return sorted(names)
