"""What stands in a class body: annotated names, methods and properties, and values that nothing annotates.

It reads classes alone, before anything is made of them. Nodes and States have one rule
for their bodies: a value that was meant to be part of the model is a field, or it is
refused with the line to write.
"""

import collections
import dataclasses
import functools
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeAlias, get_origin

import jax
import numpy as np
import typing_extensions

from ._class_faults import ClassFault, Rule
from ._fields import METADATA_KEY, Specifier, kind_for
from ._static import GraphObject

_DOTTED: Final = re.compile(r"\s*\w+(\s*\.\s*\w+)*")

# What the class body means by these is never the value of a field, whatever their types
# say.
_MEMBERS: Final[Mapping[type, str]] = {
    property: "property",
    functools.cached_property: "cached property",
    classmethod: "class method",
    staticmethod: "static method",
}

# The annotation of a field that would hold what these hold.
_CONTAINERS: Final[Mapping[type, str]] = {
    list: "list[{}]",
    tuple: "tuple[{}, ...]",
    dict: "dict[str, {}]",
    collections.UserDict: "dict[str, {}]",
    functools.partial: "{}",
    functools.partialmethod: "{}",
    staticmethod: "{}",
    classmethod: "{}",
    types.MethodType: "{}",
}


def own_annotations(cls: type) -> Mapping[str, object]:
    """The annotations in the body of `cls` itself, unevaluated where a name is missing."""
    return typing_extensions.get_annotations(
        cls, format=typing_extensions.Format.FORWARDREF
    )


def body_names(cls: type) -> set[str]:
    """The names that the body of `cls` binds or annotates."""
    return {*cls.__dict__, *own_annotations(cls)}


def is_class_variable(annotation: object, owner: type) -> bool:
    """Whether an annotation in the body of `owner` declares a class variable, as `dataclasses` reads it."""
    marker = _marker(annotation, owner)
    return marker is ClassVar or get_origin(marker) is ClassVar


def is_init_variable(annotation: object, owner: type) -> bool:
    """Whether an annotation in the body of `owner` declares an argument of the constructor that is not a field."""
    marker = _marker(annotation, owner)
    return marker is dataclasses.InitVar or isinstance(marker, dataclasses.InitVar)


def is_field(annotation: object, owner: type) -> bool:
    """Whether an annotation in the body of `owner` declares a field, and no class variable, argument or alias."""
    is_pseudo = is_class_variable(annotation, owner) or is_init_variable(
        annotation, owner
    )
    marker = _marker(annotation, owner)
    return not (is_pseudo or marker is dataclasses.KW_ONLY or marker is TypeAlias)


def is_alias(annotation: object, owner: type) -> bool:
    """Whether an annotation says that the name is one for a type."""
    return _marker(annotation, owner) is TypeAlias


def _marker(annotation: object, owner: type) -> object:
    """What an annotation begins with, where it is a text: `ClassVar` of `"typing.ClassVar[int]"`, by whatever name."""
    if not isinstance(annotation, str):
        return annotation
    written = _DOTTED.match(annotation)
    found: Any = sys.modules.get(owner.__module__)
    for part in written[0].split(".") if written else ():
        found = getattr(found, part.strip(), None)
    return found


def declaring_classes(cls: type) -> dict[str, type]:
    """The class whose declaration counts, for each field and argument of the constructor of a dataclass.

    That is the first one that Python meets when it looks an attribute up; what only
    annotates the name, as a protocol does, declares nothing.
    """
    declaring = [
        base for base in cls.__mro__ if "__dataclass_fields__" in base.__dict__
    ]
    return {
        name: base for base in reversed(declaring) for name in own_annotations(base)
    }


def is_dunder(name: str) -> bool:
    """Whether a name is one of Python's own, as `__call__`."""
    return name.startswith("__") and name.endswith("__")


def is_bookkeeping(name: str, value: object) -> bool:
    """Whether an attribute is what Python or `dataclasses` know of a class: containers with names of Python's own."""
    return is_dunder(name) and isinstance(value, (dict, tuple, list, set, frozenset))


# What no function is, or what wraps one.
_NO_FUNCTIONS: Final = frozenset({int, float, complex, bool, str, bytes})
_NO_FUNCTION_NAMES: Final = frozenset(cls.__name__ for cls in _NO_FUNCTIONS)


def member_word(owner: type, name: str, attribute: object) -> str | None:
    """What an attribute of a class is, in a word: a property, a method, ...; `None` if it may be the value of a field.

    A function is a method where it was defined in the body under this name, and a value
    where it was assigned.
    """
    for member, word in _MEMBERS.items():
        if isinstance(attribute, member):
            return word
    if is_defined_as(attribute, owner, name):
        return "nested class" if isinstance(attribute, type) else "method"
    annotation = own_annotations(owner).get(name)
    is_no_function = annotation in (
        _NO_FUNCTION_NAMES if isinstance(annotation, str) else _NO_FUNCTIONS
    )
    if (
        callable(attribute)
        and is_no_function
        and not isinstance(attribute, tuple(_NO_FUNCTIONS))
    ):
        return "function"  # what a decorator has made of a method
    kind = type(attribute)
    is_descriptor = hasattr(kind, "__set__") or (
        hasattr(kind, "__get__") and not callable(attribute)
    )
    return "descriptor" if is_descriptor else None


def is_defined_as(attribute: object, owner: type, name: str) -> bool:
    """Whether a function or class was defined in the body of `owner` under this name."""
    is_of_name = (
        getattr(attribute, "__qualname__", None) == f"{owner.__qualname__}.{name}"
    )
    return is_of_name and getattr(attribute, "__module__", None) == owner.__module__


def unannotated_faults(
    cls: type, owner: type, names: Iterable[str]
) -> Iterator[ClassFault]:
    """Nodes, States and arrays that stand in a class body under these names, also in containers.

    Args:
        cls: The class that is being defined.
        owner: Itself, or what it extends: where the names stand.
        names: Names of the body of `owner` that nothing annotates.
    """
    where = (
        f"{cls.__name__}.{{}}"
        if owner is cls
        else f"{cls.__name__}.{{}} (in the body of {owner.__name__})"
    )
    for name in names:
        value = owner.__dict__[name]
        # A specifier in the body of a dataclass, `dataclasses` refuses by itself.
        is_refused = owner is cls and isinstance(value, dataclasses.Field)
        text = (
            None
            if is_refused or is_bookkeeping(name, value)
            else _meant_as_field(name, value)
        )
        if text is not None:
            yield ClassFault(f"{where.format(name)}: {text}", Rule.UNANNOTATED, name)


def _meant_as_field(name: str, value: object) -> str | None:
    """What is wrong with a value that was meant as a field, or `None` if it was not."""
    content = next(_contents(value), None)
    if content is None:
        return None
    if isinstance(content, dataclasses.Field):
        return (
            _stray_specifier(name, content)
            if content is value
            else stray_comma(content)
        )
    if is_dunder(name):
        # No field has such a name.
        what = f"this {_written_class(content)} is not a field, and one object for all instances"
        return f"{what}; hold it in a field of another name, and write a method {name} that uses it"
    what = _written_class(content)
    annotation = (
        what
        if content is value
        else _CONTAINERS.get(type(value), "list[{}]").format(what)
    )
    found = f"this {what if content is value else f'{type(value).__name__} of {what}'} has no annotation, so that it"
    if not isinstance(content, GraphObject):
        return (
            f"{found} is not a field; write {name}: ClassVar[{annotation}] = ... for a constant of the class, or "
            f"{name}: "
            f"{annotation} = gn.static(default=...) for a part of the structure"
        )
    factory = f"{what}(...)" if content is value else "..."
    return (
        f"{found} is not a field, and one object for all instances; write "
        f"{name}: {annotation} = gn.{kind_for(content)}(default_factory=lambda: {factory})"
    )


def _stray_specifier(name: str, specifier: "dataclasses.Field[Any]") -> str:
    """What is wrong with a specifier in the body of a class that is not a dataclass."""
    called = specifier_text(specifier)
    return (
        f"{called} has no annotation, and its class is not a node class, so that it is not a field; write "
        f"{name}: ... = " + (f"{called} in a class that derives from gn.Node")
    )


def stray_comma(specifier: "dataclasses.Field[Any]") -> str:
    """What is wrong with a container that holds a specifier."""
    called = specifier_text(specifier)
    return f"a tuple or list that holds {called} is not a field; remove the comma or bracket around the specifier"


def specifier_text(specifier: "dataclasses.Field[Any]") -> str:
    """A specifier as users write it."""
    said = specifier.metadata.get(METADATA_KEY)
    return f"gn.{said.kind}(...)" if isinstance(said, Specifier) else "field(...)"


def specifier_within(value: object) -> "dataclasses.Field[Any] | None":
    """The first specifier that a container holds, or `None`: a comma too much makes such a tuple."""
    if not isinstance(value, (tuple, list)):
        return None
    return next(
        (item for item in _contents(value) if isinstance(item, dataclasses.Field)), None
    )


def holds_graph_object(value: object) -> bool:
    """Whether a value is a node or State, or a container or partial of some."""
    return any(isinstance(content, GraphObject) for content in _contents(value))


def is_meant_as_field(value: object) -> bool:
    """Whether a value is a node, State, array or specifier, or a container or partial of some."""
    return any(True for _ in _contents(value))


def _written_class(value: object) -> str:
    """The class of a value as users write it."""
    if isinstance(value, jax.Array):
        return "jax.Array"
    return "np.ndarray" if isinstance(value, np.ndarray) else type(value).__name__


def _contents(value: object) -> Iterator[Any]:
    """The nodes, States, arrays and specifiers that a value is or holds, through containers and wrapped functions."""
    todo, visited = [value], set[int]()
    for content in todo:  # which grows
        if isinstance(content, (GraphObject, jax.Array, np.ndarray, dataclasses.Field)):
            yield content
        elif id(content) not in visited:
            visited.add(id(content))
            todo += _parts(content)


def _parts(value: object) -> Iterable[object]:
    """What a container holds, or what wraps a function wraps; of anything else nothing."""
    if isinstance(
        value,
        (dict, types.MappingProxyType, collections.UserDict, collections.ChainMap),
    ):
        return [*value.keys(), *value.values()]
    if isinstance(
        value, (list, tuple, set, frozenset, collections.deque, collections.UserList)
    ):
        return value
    if isinstance(value, (functools.partial, functools.partialmethod)):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, types.MethodType):
        return [value.__self__]
    return ()
