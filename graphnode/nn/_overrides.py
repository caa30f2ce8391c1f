"""What would be lost of a class that extends one of our layers: a field that the layer makes itself.

A layer makes its parameters in `__post_init__`, without asking what they are declared to be made by. A subclass that
gives such a field an initializer, a default or a place among the arguments would get those of the layer.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, Final

from .._faults import Fault, Rule
from .._fields import Kind, specifier_of
from .._members import own_annotations

_OURS: Final = __name__.rpartition(".")[0]
_CONSTRUCTORS: Final = frozenset({"__init__", "__post_init__"})


def lost_faults(cls: type[Any]) -> Iterator[Fault]:
    """The fields that a node class declares with a value of its own, which the constructor of a layer would replace."""
    owners: dict[str, type[Any]] = {}
    layers: dict[str, type[Any]] = {}
    for base in reversed(cls.__mro__):
        names = own_annotations(base)
        owners |= dict.fromkeys(names, base)
        layers |= dict.fromkeys([name for name in names if _makes(base, name)], base)
    for name, layer in layers.items():
        declared = cls.__dataclass_fields__[name]
        if owners[name] is layer or not (declared.init or _has_maker(declared)) or not _runs(cls, layer):
            continue
        said = specifier_of(layer.__dataclass_fields__[name])
        kind = Kind.STATIC if said is None else said.kind
        text = f"{layer.__name__} makes this field in its __post_init__, in place of what is declared here; write"
        remedy = f"{name}: ... = gn.{kind}(init=False), and assign it after super().__post_init__(...)"
        yield Fault(f"{cls.__name__}.{name}: {text} {remedy}", Rule.OVERRIDE, name)


def _makes(base: Any, name: str) -> bool:
    """Whether a class that declares a field is a layer of ours, and leaves the field to its `__post_init__`."""
    declared = base.__dataclass_fields__.get(name) if base.__module__.startswith(f"{_OURS}.") else None
    return declared is not None and not declared.init and not _has_maker(declared)


def _has_maker(declared: "dataclasses.Field[Any]") -> bool:
    said = specifier_of(declared)
    is_made = said is not None and (said.initializer is not None or said.factory is not None)
    return is_made or not (declared.default is declared.default_factory is dataclasses.MISSING)


def _runs(cls: type[Any], layer: type[Any]) -> bool:
    """Whether the `__post_init__` of a layer runs in a class that extends it: each one before it calls the next."""
    for base in cls.__mro__[: cls.__mro__.index(layer)]:
        for name in _CONSTRUCTORS & base.__dict__.keys():
            if name == "__post_init__" or base.__dict__.get("_has_own_init", False):
                code = getattr(inspect.unwrap(base.__dict__[name]), "__code__", None)
                if code is None or _CONSTRUCTORS.isdisjoint(code.co_names):
                    return False
    return True
