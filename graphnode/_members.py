"""Read the body of a class: annotated names, methods and properties, and values without an annotation.

Nodes and States have one rule for their bodies: a value that was meant to be part of the
model is a field, or it is refused with the line to write.
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

# Never the value of a field in a class body, even where the field is annotated with such
# a class.
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
    """The annotations in the body of `cls` itself, unevaluated where a name is missing.

    Not those of bases, so that each name is told apart by the class that declares it.
    """
    return typing_extensions.get_annotations(
        cls, format=typing_extensions.Format.FORWARDREF
    )


def body_names(cls: type) -> set[str]:
    """The names that the body of `cls` binds or annotates.

    For what looks for reserved names, and for names that an annotation may mean.
    """
    return {*cls.__dict__, *own_annotations(cls)}


def is_class_variable(annotation: object, owner: type) -> bool:
    """Whether an annotation in the body of `owner` declares a class variable, as `dataclasses` reads it.

    Such a name is no field, and keeps its value in the class.
    """
    marker = _marker(annotation, owner)
    return marker is ClassVar or get_origin(marker) is ClassVar


def is_init_variable(annotation: object, owner: type) -> bool:
    """Whether an annotation in the body of `owner` declares an argument of the constructor that is not a field.

    Such a name is given to `__post_init__`, and no node keeps it.
    """
    marker = _marker(annotation, owner)
    return marker is dataclasses.InitVar or isinstance(marker, dataclasses.InitVar)


def is_field(annotation: object, owner: type) -> bool:
    """Whether an annotation in the body of `owner` declares a field: not a class variable, argument or alias.

    For all checks of class bodies, which must see the same fields as `dataclasses`.
    """
    marker = _marker(annotation, owner)
    if marker is dataclasses.KW_ONLY or marker is TypeAlias:
        return False
    is_class_var = is_class_variable(annotation, owner)
    return not is_class_var and not is_init_variable(annotation, owner)


def is_alias(annotation: object, owner: type) -> bool:
    """Whether an annotation declares a type alias.

    Such a line names a type, and declares no field.
    """
    return _marker(annotation, owner) is TypeAlias


def _marker(annotation: object, owner: type) -> object:
    """An annotation; of a string, what its first name stands for: `ClassVar` of `"typing.ClassVar[int]"`.

    For `is_field` and the like: an annotation is not evaluated, as it may name what
    does not exist yet.
    """
    if not isinstance(annotation, str):
        return annotation
    dotted_name = _DOTTED.match(annotation)
    marker: Any = sys.modules.get(owner.__module__)
    # By the names of the module alone, as `dataclasses` does it: nothing is evaluated.
    for name in dotted_name[0].split(".") if dotted_name else ():
        # A name that does not exist gives `None`, which marks nothing.
        marker = getattr(marker, name.strip(), None)
    return marker


def declaring_classes(cls: type) -> dict[str, type]:
    """The class whose declaration counts, for each field and argument of the constructor of a dataclass.

    For checks and messages: an annotation is resolved where it was written.

    That is the first dataclass in the order in which Python looks attributes up. A class
    that only annotates the name, as a protocol does, declares nothing.
    """
    owners: dict[str, type] = {}
    # Later entries win: the nearest class comes last.
    for base in reversed(cls.__mro__):
        if "__dataclass_fields__" in base.__dict__:
            owners |= dict.fromkeys(own_annotations(base), base)
    return owners


def is_dunder(name: str) -> bool:
    """Whether a name is one of Python's own, as `__call__`.

    These are no fields, and mean what Python says.
    """
    return name.startswith("__") and name.endswith("__")


def is_bookkeeping(name: str, value: object) -> bool:
    """Whether an attribute is what Python or `dataclasses` keep on a class: containers with dunder names.

    For `unannotated_faults`: nobody meant it as a field.
    """
    return is_dunder(name) and isinstance(value, (dict, tuple, list, set, frozenset))


# An annotation with one of these does not mean a function.
_DATA_TYPES: Final = (int, float, complex, bool, str, bytes)
_DATA_TYPE_NAMES: Final = frozenset(cls.__name__ for cls in _DATA_TYPES)


def member_word(owner: type, name: str, attribute: object) -> str | None:
    """What messages call an attribute of a class: property, method, ...; `None` if it may be the value of a field.

    A field may not take the place of the former, and may have the latter as its
    default.

    A function is a method if it was defined in the body under this name, and a value if
    it was assigned.
    """
    for member, word in _MEMBERS.items():
        if isinstance(attribute, member):
            return word
    if is_defined_as(attribute, owner, name):
        return "nested class" if isinstance(attribute, type) else "method"
    if callable(attribute):
        annotation = own_annotations(owner).get(name)
        is_string = isinstance(annotation, str)
        is_data = annotation in (_DATA_TYPE_NAMES if is_string else _DATA_TYPES)
        # A decorator has made it of a method: it is not data, as the annotation says.
        if is_data and not isinstance(attribute, _DATA_TYPES):
            return "function"
    cls = type(attribute)
    is_descriptor = hasattr(cls, "__set__")
    # Functions have `__get__` as well.
    is_descriptor |= hasattr(cls, "__get__") and not callable(attribute)
    return "descriptor" if is_descriptor else None


def is_defined_as(attribute: object, owner: type, name: str) -> bool:
    """Whether a function or class was defined in the body of `owner` under this name.

    For `member_word`: a function that was assigned is a value.
    """
    qualified_name = getattr(attribute, "__qualname__", None)
    is_in_body = qualified_name == f"{owner.__qualname__}.{name}"
    return is_in_body and getattr(attribute, "__module__", None) == owner.__module__


def unannotated_faults(
    cls: type, owner: type, names: Iterable[str]
) -> Iterator[ClassFault]:
    """Nodes, States, arrays and specifiers in a class body without an annotation, also in containers.

    Without an annotation it is an attribute of the class: no walk finds it, and
    instances share it.

    Args:
        cls: The class that is being defined.
        owner: The class whose body it is: `cls`, or one that it extends.
        names: Names in the body of `owner` without an annotation.
    """
    origin = "" if owner is cls else f" (in the body of {owner.__name__})"
    for name in names:
        value = owner.__dict__[name]
        # `dataclasses` itself refuses a specifier without an annotation.
        is_refused = owner is cls and isinstance(value, dataclasses.Field)
        if is_refused or is_bookkeeping(name, value):
            continue
        text = _unannotated_fault(name, value)
        if text is not None:
            yield ClassFault(
                f"{cls.__name__}.{name}{origin}: {text}", Rule.UNANNOTATED, name
            )


def _unannotated_fault(name: str, value: object) -> str | None:
    """What is wrong with a value that was meant as a field, or `None` if it was not.

    For `unannotated_faults`, with the line that would declare the field.
    """
    # The first is enough: one fault for each name.
    content = next(_contents(value), None)
    if content is None:
        return None
    is_container = content is not value
    if isinstance(content, dataclasses.Field):
        return stray_comma(content) if is_container else _stray_specifier(name, content)
    cls = _class_text(content)
    if is_dunder(name):  # which no field can be named
        reason = f"this {cls} is not a field, and one object for all instances"
        return f"{reason}; hold it in a field of another name, and write a method {name} that uses it"
    what = annotation = cls
    factory = f"{cls}(...)"
    if is_container:
        what = f"{type(value).__name__} of {cls}"
        annotation = _CONTAINERS.get(type(value), "list[{}]").format(cls)
        factory = "..."
    reason = f"this {what} has no annotation, so that it is not a field"
    if not isinstance(content, GraphObject):
        return (
            f"{reason}; write {name}: ClassVar[{annotation}] = ... for a constant of the class, or "
            f"{name}: {annotation} = gn.static(default=...) for a part of the structure"
        )
    return (
        f"{reason}, and one object for all instances; write "
        f"{name}: {annotation} = gn.{kind_for(content)}(default_factory=lambda: {factory})"
    )


def _stray_specifier(name: str, specifier: "dataclasses.Field[Any]") -> str:
    """What is wrong with a specifier in the body of a class that is not a dataclass.

    For `_unannotated_fault`, in a mixin.
    """
    text = specifier_text(specifier)
    return (
        f"{text} has no annotation, and its class is not a node class, so that it is not a field; write "
        f"{name}: ... = {text} in a class that derives from gn.Node"
    )


def stray_comma(specifier: "dataclasses.Field[Any]") -> str:
    """What is wrong with a container that holds a specifier.

    As of `weight: ParamState = gn.state(zeros),`, which is a tuple.
    """
    text = specifier_text(specifier)
    return f"a tuple or list that holds {text} is not a field; remove the comma or bracket around the specifier"


def specifier_text(field: "dataclasses.Field[Any]") -> str:
    """A specifier as users write it.

    For messages, which show the line.
    """
    specifier = field.metadata.get(METADATA_KEY)
    if not isinstance(specifier, Specifier):
        return "field(...)"
    return f"gn.{specifier.kind}(...)"


def specifier_within(value: object) -> "dataclasses.Field[Any] | None":
    """The first specifier in a container, or `None`: a stray comma makes such a tuple.

    For `_written_default_fault`, which then says that there is a comma too much.
    """
    if isinstance(value, (tuple, list)):
        for item in _contents(value):
            if isinstance(item, dataclasses.Field):
                return item
    return None


def holds_graph_object(value: object) -> bool:
    """Whether a value is a node or State, or a container or partial of some.

    As a default it would be shared by all instances; beside the fields, no walk finds
    it.
    """
    return any(isinstance(content, GraphObject) for content in _contents(value))


def is_meant_as_field(value: object) -> bool:
    """Whether a value is a node, State, array or specifier, or a container or partial of some.

    For a mixin, whose other values are constants of the class.
    """
    return any(True for _ in _contents(value))


def _class_text(value: object) -> str:
    """The class of a value as users write it.

    For the annotation in the line that an error suggests.
    """
    if isinstance(value, jax.Array):
        return "jax.Array"
    return "np.ndarray" if isinstance(value, np.ndarray) else type(value).__name__


def _contents(value: object) -> Iterator[Any]:
    """A value itself, or the contents of containers and wrapped functions: nodes, States, arrays and specifiers.

    For `holds_graph_object` and the like: a node in a `partial` is as much hidden as
    one in a list.
    """
    todo, visited = [value], set[int]()
    for content in todo:  # which grows
        if isinstance(content, (GraphObject, jax.Array, np.ndarray, dataclasses.Field)):
            yield content
        # By id: containers have no hash, and may contain themselves.
        elif id(content) not in visited:
            visited.add(id(content))
            todo += _parts(content)


def _parts(value: object) -> Iterable[object]:
    """The items of a container, or the function in a wrapper and its arguments; empty for any other value.

    For `_contents`, which goes on into each of them.
    """
    if isinstance(
        value,
        (dict, types.MappingProxyType, collections.UserDict, collections.ChainMap),
    ):
        # Keys as well: a node may be the key of a table.
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
