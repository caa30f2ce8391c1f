"""What is wrong with what methods assign: names that are not fields, and fields that nothing assigns."""

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
    # An abstract class of which no other is known: its own fields are all there is to
    # go by.
    users = _concrete(checked.cls) or [checked.cls]
    for assignment in checked.source.assignments:
        is_taken = all(_takes(cls, assignment.name) for cls in users)
        if assignment.is_checked and not is_taken:
            text = _refusal(checked.cls, assignment, checked.cls)
            yield from checked.found(UNDECLARED, text, assignment.place)


def mixin_findings(
    checked: CheckedClass, sources: Sources, files: Mapping[str, str]
) -> Iterator[Finding]:
    """The assignments in the methods of mixins that instances of a node class refuse.

    Only of the mixins that this class is the first to extend: others are reported with the
    class above it.

    Args:
        checked: The node class.
        sources: Where the mixins are read.
        files: The files of the modules under check, by their names: a mixin of another one
            is not reported.
    """
    if not _has_fields(checked.cls):
        return
    users = _concrete(checked.cls)
    for base in _new_mixins(checked.cls):
        source = sources.of_class(base) if base.__module__ in files else None
        if source is None:
            continue
        # The finding stands in the mixin's file, where the assignment is.
        mixin = CheckedClass(base, files[base.__module__], source)
        for assignment in source.assignments:
            is_refused = any(
                _runs(cls, base, assignment, sources)
                and not _takes(cls, assignment.name)
                for cls in users
            )
            if assignment.is_checked and is_refused:
                text = _refusal(checked.cls, assignment, base)
                yield from mixin.found(UNDECLARED, text, assignment.place)


def _new_mixins(cls: type[Any]) -> list[type[Any]]:
    """The classes that a node class extends, and none of the node classes above it: no mixin is reported twice."""
    nodes = [base for base in cls.__mro__[1:] if issubclass(base, NodeBase)]
    return [
        base
        for base in project_bases(cls)[1:]
        if not any(base in node.__mro__ for node in nodes)
    ]


def _has_fields(cls: type[Any]) -> bool:
    """Whether it is known which names may be assigned: not of a faulty class, or one with its own `__setattr__`."""
    # A class that `dataclasses` has refused has the fields of its parent.
    return "__dataclass_fields__" in cls.__dict__ and cls.__setattr__ is _SETATTR


def _refusal(cls: type[Any], assignment: Assignment, owner: type[Any]) -> str:
    """The message about an assignment that an instance of a class refuses, in a method of the class or of a mixin."""
    name = assignment.name
    if isinstance(getattr(cls, name, None), property):
        return f"{cls.__name__}.{name} is a property without a setter; give it one, or assign what it is computed from"
    declaration = f"{name}: {_annotation(assignment, sys.modules[owner.__module__])}"
    return undeclared(cls, field_names(cls), name, declaration)


def _runs(
    cls: type[Any], base: type[Any], assignment: Assignment, sources: Sources
) -> bool:
    """Whether a mixin's method surely runs on instances of `cls`, as what overrides it calls it: else no finding."""
    # Each of these may override the method of the base.
    before = cls.__mro__[: cls.__mro__.index(base)]
    overriding = [sub for sub in before if assignment.method in sub.__dict__]
    overrides = [sources.of_class(sub) for sub in overriding]
    return all(
        source is not None and source.calls_next(assignment.method)
        for source in overrides
    )


def _takes(cls: type[Any], name: str) -> bool:
    """Whether `Node.__setattr__` lets instances of a class be assigned this name: a field, or what has a setter."""
    if name in field_names(cls):
        return True
    member = getattr(cls, name, None)
    is_read_only = isinstance(member, property) and member.fset is None
    return has_setter(cls, name) and not is_read_only


def field_names(cls: type[Any]) -> Collection[str]:
    """The names of the fields of a node class, also of one with faults, which has no schema to ask."""
    return [field.name for field in dataclasses.fields(cls)]


def _concrete(cls: type[Any]) -> Sequence[type[Any]]:
    """The classes whose instances run the methods of `cls`, as far as they are known."""
    if not inspect.isabstract(cls):
        return [cls]
    return [sub for sub in subclasses_of(cls) if not inspect.isabstract(sub)]


def _annotation(assignment: Assignment, module: object) -> str:
    """For a message: the annotation that would declare the attribute, as far as the text shows it."""
    value = assignment.value
    if assignment.annotation is not None:
        return assignment.annotation
    if isinstance(value, ast.Constant) and isinstance(value.value, _PLAIN):
        return type(value.value).__name__
    # `self.x = Linear(...)`: the name of the class, if it is one of nodes or States.
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        cls = getattr(module, value.func.id, None)
        if isinstance(cls, type) and issubclass(cls, GraphValue):
            return value.func.id
    # The reader of the message fills it in.
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
    unassigned = {
        item.cls: _unassigned(item.cls, sources)
        for item in checked
        if item.cls in schemas
    }
    for item in checked:
        cls = item.cls
        for name in unassigned.get(cls, ()):
            field = schemas[cls].fields[name]
            if field.owner is not cls and name in unassigned.get(field.owner, ()):
                continue  # reported there
            reason = "the constructor does not take it"
            if field.init:
                reason = "__init__ is written by hand"
            text = f"{cls.__name__}.{name}: {reason} and no method assigns it; {remedy_for(cls)}"
            place = item.place(name if field.owner is cls else None)
            yield from item.found(UNASSIGNED, text, place)


def _unassigned(cls: type[Any], sources: Sources) -> Sequence[str]:
    """The fields that nothing makes, so that reading them fails; none where a class is abstract, or cannot be read."""
    if inspect.isabstract(cls):
        return ()
    bases = project_bases(cls)
    names = {field.name for field in schema(cls).fields.values() if not field.init}
    if cls._has_own_init:
        names = set(field_names(cls)) - _set_by_generated(bases, sources)
    # What has a default, an initializer or a factory is made by the constructor.
    names -= plan_of(cls).makers.keys()
    # What subclasses assign counts: the class is meant to be extended then.
    subclasses = subclasses_of(cls) if names else []
    skipped = _skipped_constructors(cls, bases, sources)
    for owner in [*bases, *subclasses]:
        source = sources.of_class(owner)
        # What cannot be read may assign anything: no finding rather than a false one.
        if source is None or source.is_opaque:
            return ()
        for assignment in source.assignments:
            if (owner, assignment.method) not in skipped:
                names.discard(assignment.name)
    return sorted(names)


def _skipped_constructors(
    cls: type[Any], bases: Sequence[type[Any]], sources: Sources
) -> set[tuple[type[Any], str]]:
    """The constructors of bases that do not run, since one before them in line does not call the next.

    What these assign does not count. An `__init__` of a base counts as run unless `cls`
    itself has one that does not call it: in between, dataclasses generate them.
    """
    skipped: set[tuple[type[Any], str]] = set()
    ended: set[str] = set()
    for base in bases:  # in the order of the classes' lines
        skipped.update((base, method) for method in ended)
        source = sources.of_class(base)
        if source is None:
            continue
        for method in (_POST_INIT, _INIT) if base is cls else (_POST_INIT,):
            if source.calls_next(method) is False:
                ended.add(method)
    return skipped


def _set_by_generated(bases: Sequence[type[Any]], sources: Sources) -> set[str]:
    """The fields that a generated constructor of a base may set, as a written one calls some other: not reported."""
    texts = [sources.of_class(base) for base in bases]
    if not any(source is not None and source.calls_next(_INIT) for source in texts):
        return set()
    names: set[str] = set()
    for base in bases:
        has_own_init = getattr(base, "_has_own_init", False)
        if dataclasses.is_dataclass(base) and not has_own_init:
            names.update(f.name for f in dataclasses.fields(base) if f.init)
    return names
