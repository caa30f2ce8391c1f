"""What would be lost of a class that extends another: a field that the other makes itself.

A base that makes a field in `__post_init__` does not ask what it is declared to be made
by. A subclass that gives such a field an initializer, a default or a place among the
arguments would get what the base makes. The layers of `gn.nn` make what they leave
open; of other classes the code tells, and only what it does in every call counts.
"""

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final

from .._class_faults import ClassFault, Rule
from .._fields import Kind, NodeBase, specifier_of
from .._members import declaring_classes, own_annotations
from .._uses import always_reads, attributes_made

_LAYERS: Final = "graphnode.nn."
_POST_INIT: Final = "__post_init__"
_CONSTRUCTORS: Final = frozenset({"__init__", _POST_INIT})


def lost_faults(cls: type[Any]) -> Iterator[ClassFault]:
    """The fields that a node class declares with a value of its own, which the constructor of a base would replace."""
    fields, owners = (
        {field.name: field for field in dataclasses.fields(cls)},
        declaring_classes(cls),
    )
    annotated = [(base, own_annotations(base)) for base in cls.__mro__]
    for name, declared in fields.items():
        others = [
            base
            for base, names in annotated
            if name in names and base is not owners[name]
        ]
        maker = _maker(cls, declared, owners[name], others) if others else None
        if maker is None:
            continue
        said = specifier_of(maker.__dataclass_fields__[name]) or specifier_of(declared)
        kind = Kind.STATIC if said is None else said.kind
        text = f"{maker.__name__} makes this field in its __post_init__, in place of what is declared here; write"
        remedy = f"{name}: ... = gn.{kind}(init=False), and assign it after super().__post_init__(...)"
        yield ClassFault(f"{cls.__name__}.{name}: {text} {remedy}", Rule.OVERRIDE, name)


def _maker(
    cls: type[Any],
    declared: "dataclasses.Field[Any]",
    owner: type[Any],
    others: Sequence[type[Any]],
) -> Any:
    """The base that makes a field in place of what its declaration says; `None` where none does.

    Args:
        cls: The class.
        declared: The field.
        owner: The class whose declaration counts.
        others: The others that declare it, the nearest first.
    """
    if not (declared.init or _has_maker(declared)):
        return None
    layer = next((base for base in others if _is_left_open(base, declared.name)), None)
    if layer is not None:
        return layer if _runs(cls, layer) else None
    return _maker_by_code(cls, declared, owner)


def _is_left_open(base: Any, name: str) -> bool:
    """Whether a class that declares a field is a layer of ours, and leaves the field to its `__post_init__`."""
    declared = (
        base.__dataclass_fields__.get(name)
        if base.__module__.startswith(_LAYERS)
        else None
    )
    return declared is not None and not declared.init and not _has_maker(declared)


def _has_maker(declared: "dataclasses.Field[Any]") -> bool:
    return _is_made_when_read(declared) or not (
        declared.default is declared.default_factory is dataclasses.MISSING
    )


def _is_made_when_read(declared: "dataclasses.Field[Any]") -> bool:
    """Whether the first read of a field makes its value, by a function that gets the node."""
    said = specifier_of(declared)
    return said is not None and (
        said.initializer is not None or said.factory is not None
    )


def _watches_fields(cls: type[Any]) -> bool:
    """Whether a node class has code of its own that runs where any field is read or set."""
    node = next(base for base in cls.__mro__ if NodeBase in base.__bases__)
    return any(
        getattr(cls, name) is not getattr(node, name)
        for name in ("__setattr__", "__getattribute__")
    )


def _runs(cls: type[Any], layer: type[Any]) -> bool:
    """Whether the `__post_init__` of a layer runs in a class that extends it: each one before it calls the next."""
    for base in cls.__mro__[: cls.__mro__.index(layer)]:
        for name in _CONSTRUCTORS & base.__dict__.keys():
            if name == _POST_INIT or base.__dict__.get("_has_own_init", False):
                code = getattr(inspect.unwrap(base.__dict__[name]), "__code__", None)
                if code is None or _CONSTRUCTORS.isdisjoint(code.co_names):
                    return False
    return True


def _maker_by_code(
    cls: type[Any], declared: "dataclasses.Field[Any]", owner: type[Any]
) -> Any:
    """The base whose `__post_init__` makes a field in every call, and is the first to touch it."""
    above = cls.__mro__.index(owner) + 1
    # What a class says beside its fields, in a constructor of its own, is its business.
    if (
        cls._has_own_init
        or _watches_fields(cls)
        or any(_POST_INIT in base.__dict__ for base in cls.__mro__[:above])
    ):
        return None
    name = declared.name
    fields = {field.name for field in dataclasses.fields(cls)}
    lazy = {
        field.name for field in dataclasses.fields(cls) if _is_made_when_read(field)
    }
    for base in cls.__mro__[above:]:
        post_init = base.__dict__.get(_POST_INIT)
        if post_init is None:
            continue
        known = getattr(base, "__dataclass_fields__", {}).get(name)
        if known is not None and name in attributes_made(
            post_init, fields=fields, lazy=lazy
        ):
            # An argument that the base takes as well, and never looks at, is the base's
            # business.
            return base if _has_maker(declared) or not known.init else None
        if not always_reads(
            post_init, _POST_INIT, but_not=name, fields=fields, lazy=lazy
        ):
            return None
    return None
