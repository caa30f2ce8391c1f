"""Check the body of a State class, and its other bases: names that graphnode relies on, slots, and fields.

A State has a value and a description, and no fields. Whatever else its class declares
would be lost by a merge, or hide a member of State.
"""

import dataclasses
from collections.abc import Iterator
from typing import Final

from ._class_faults import ClassFault, Rule
from ._members import (
    body_names,
    holds_graph_object,
    is_bookkeeping,
    is_class_variable,
    is_dunder,
    is_field,
    own_annotations,
    specifier_text,
)
from ._static import compares_by_identity

_ACCESS: Final = frozenset({"__getattribute__", "__setattr__"})


def state_body_faults(cls: type, root: type) -> Iterator[ClassFault]:
    """For `__init_subclass__` of State: the faults of a class, and of those of its bases that are no State classes.

    Args:
        cls: The class.
        root: The base of all States.
    """
    if not compares_by_identity(cls):
        text = f"{cls.__name__} defines __eq__ or __hash__; States compare by identity"
        yield ClassFault(text, Rule.EQUALITY, "__eq__")
    for owner in cls.__mro__:
        # Bases that are States were checked when they were defined.
        if owner is cls or not (issubclass(owner, root) or owner in root.__mro__):
            yield from _reserved_faults(cls, owner, root)
            yield from _slot_faults(cls, owner)
            yield from _field_faults(cls, owner, root)


def _reserved_faults(cls: type, owner: type, root: type) -> Iterator[ClassFault]:
    """Faults of names that State itself has: members that graphnode relies on, and hooks that it would not call.

    Args:
        cls: The State class.
        owner: The class whose body is looked at: `cls`, or a base of it.
        root: The base of all States.
    """
    for name in sorted(_names_of(root) & body_names(owner)):
        text = f"{cls.__name__}.{name}: a State has this itself, and graphnode relies on it; choose another name"
        yield ClassFault(text, Rule.RESERVED, name)

    for name in sorted(_ACCESS & owner.__dict__.keys()):
        text = f"{cls.__name__}.{name}: a State has this itself, and graphnode relies on it: updates, merges and"
        remedy = "change or check the value where it is used, or in the optimizer"
        yield ClassFault(
            f"{text} transforms would never call it; {remedy}", Rule.RESERVED, name
        )


def _names_of(root: type) -> frozenset[str]:
    """The names in the body of `State` that no other class may use."""
    return frozenset(name for name in body_names(root) if not is_dunder(name))


def _slot_faults(cls: type, owner: type) -> Iterator[ClassFault]:
    """Faults of slots and a `__dict__`: attributes beside the value, which are neither copied nor merged."""
    if owner.__dict__.get("__slots__"):
        text = f"{cls.__name__}: no merge would keep what is in the __slots__ of {owner.__name__}"
        yield ClassFault(
            f"{text}; give facts as metadata={{...}}", Rule.SLOTS, "__slots__"
        )
    elif owner is not cls and owner.__dictoffset__:
        text = f"{cls.__name__}: States take any attribute from {owner.__name__}, and no merge would keep it"
        yield ClassFault(
            f"{text}; write __slots__ = () in {owner.__name__}", Rule.SLOTS, "__slots__"
        )


def _field_faults(cls: type, owner: type, root: type) -> Iterator[ClassFault]:
    """Faults of annotated names, which would be fields, and of nodes or States in the body."""
    own = own_annotations(owner)
    for name, annotation in own.items():
        if not (
            is_dunder(name)
            or name in _names_of(root)
            or not is_field(annotation, owner)
        ):
            text = f"{cls.__name__}.{name}: a State has a value and no fields; write {name}: ClassVar[...] for a"
            yield ClassFault(
                f"{text} constant, or give States metadata={{{name!r}: ...}}",
                Rule.STATE_FIELD,
                name,
            )
    for name, value in owner.__dict__.items():
        is_specifier = isinstance(value, dataclasses.Field)
        is_constant = name in own and not (
            is_specifier and is_class_variable(own[name], owner)
        )
        if is_constant or is_bookkeeping(name, value):
            continue
        if isinstance(value, dataclasses.Field):
            text = f"{cls.__name__}.{name}: a State has a value and no fields; hold {specifier_text(value)} in a node"
            yield ClassFault(text, Rule.STATE_FIELD, name)
        elif holds_graph_object(value):
            text = f"{cls.__name__}.{name}: what stands in the body of a State is part of no model; hold it in a field"
            yield ClassFault(f"{text} of a node", Rule.UNANNOTATED, name)
