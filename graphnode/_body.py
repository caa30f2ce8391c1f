"""The body of a node class, and what it extends: what may stand there beside fields, and what is refused.

Data in: a class that is being defined, not yet a dataclass. Data out: its faults. `dataclasses` takes for a default
whatever `getattr` finds under the name of an annotation, an inherited property too; a value without an annotation, it
does not see at all. Here each name is looked up in each class by itself.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from ._annotations import AmbiguousError, form_of, resolve
from ._contract import ContractSyntaxError
from ._faults import Fault, Rule
from ._fields import Kind, NodeBase, kind_for
from ._hints import cut
from ._members import (
    body_names,
    holds_graph_object,
    is_alias,
    is_class_variable,
    is_dunder,
    is_field,
    member_word,
    own_annotations,
    specifier_within,
    stray_comma,
    unannotated_faults,
)
from ._mistaken import Hint
from ._static import GraphObject

RESERVED: Final = frozenset({"_binding", "_has_own_init", "_joint", "_plan", "_popped", "_template", "_version"})
"""Names that graphnode keeps on nodes and their classes."""


def take_body_faults(cls: type) -> list[Fault]:
    """Faults of a class body that `dataclasses` would stop at, or not see.

    A default that is a fault is taken out, so that `dataclasses` goes on and the other faults are found too; the class
    is refused in the end. An abstract property that a field implements is hidden from it likewise.
    """
    if "__slots__" in cls.__dict__:
        text = f"{cls.__name__} declares __slots__, but the fields of a node live in its __dict__; remove them"
        return [*_equality_faults(cls), Fault(text, Rule.SLOTS, "__slots__")]
    faults = [*_equality_faults(cls), *_reserved_faults(cls, cls)]
    _drop_aliases(cls)
    own = own_annotations(cls)
    for name, annotation in own.items():
        if not is_class_variable(annotation, cls):
            faults += _default_faults(cls, name)
    inherited = _inherited_fields(cls)
    unannotated = [name for name in cls.__dict__ if name not in own]
    for name in unannotated:
        if name in inherited and not is_dunder(name):
            faults.append(_override_fault(cls, name, inherited[name]))
    faults += unannotated_faults(cls, cls, [name for name in unannotated if name not in inherited])
    fields = inherited.keys() | {name for name, annotation in own.items() if is_field(annotation, cls)}
    faults += _pseudo_override_faults(cls, inherited)
    for base in cls.__mro__[1:]:
        if base in NodeBase.__mro__:
            continue
        faults += _hidden_faults(cls, base, fields)
        if not issubclass(base, NodeBase):
            faults += _mixin_faults(cls, base, fields)
    return list(dict.fromkeys(faults))


def _equality_faults(cls: type) -> Iterator[Fault]:
    for name in ("__eq__", "__hash__"):
        if cls.__dict__.get(name) is not None:
            text = f"{cls.__name__} defines {name}, but nodes are compared by identity; remove it"
            yield Fault(text, Rule.EQUALITY, name)


def _reserved_faults(cls: type, owner: type) -> Iterator[Fault]:
    """Names of graphnode's own that stand in a body, with or without an annotation; and fields with Python's own."""
    own = own_annotations(owner)
    for name in sorted(RESERVED & body_names(owner)):
        yield Fault(f"{cls.__name__}.{name}: this name is graphnode's own; choose another", Rule.RESERVED, name)
    if owner is not cls:
        return
    for name in [name for name, annotation in own.items() if is_dunder(name) and is_field(annotation, cls)]:
        del cls.__annotations__[name]
        text = f"{cls.__name__}.{name}: names with two underscores on both sides are Python's own; choose another"
        yield Fault(text, Rule.RESERVED, name)


def _drop_aliases(cls: type) -> None:
    """Take out the annotations of names for types, which `dataclasses` would make fields."""
    for name in [name for name, annotation in own_annotations(cls).items() if is_alias(annotation, cls)]:
        del cls.__annotations__[name]


# Defaults of the fields that the body declares


def _default_faults(cls: type, name: str) -> list[Fault]:
    """What is wrong with the default of a name that the body annotates; such a default is taken out."""
    inherited = _inherited_fault(cls, name)
    written = cls.__dict__.get(name, dataclasses.MISSING)
    if written is dataclasses.MISSING:
        return [inherited] if inherited is not None else []
    specifier = written if isinstance(written, dataclasses.Field) else None
    fault = _written_default_fault(cls, cls, name, written if specifier is None else specifier.default)
    if fault is not None:
        metadata = None if specifier is None else specifier.metadata
        setattr(cls, name, dataclasses.field(default=None, metadata=metadata))
    return [found for found in (inherited, fault) if found is not None]


def _written_default_fault(cls: type, owner: type, name: str, value: object) -> Fault | None:
    """What is wrong with a default that is written in the body of a class, or of a dataclass that it extends."""
    where = f"{cls.__name__}.{name}"
    if value is dataclasses.MISSING:
        return None
    word = member_word(owner, name, value)
    if word is not None:
        body = "the class body" if owner is cls else f"the body of {owner.__name__}"
        return Fault(f"{where}: {body} has a field and a {word} of this name; rename one", Rule.SHADOWED, name)
    specifier = specifier_within(value)
    if specifier is not None:
        return Fault(f"{where}: {stray_comma(specifier)}", Rule.SHARED, name)
    if holds_graph_object(value) or type(value).__hash__ is None:
        return Fault(f"{where}: {_shared_default(value)}", Rule.SHARED, name)
    return None


def _shared_default(value: object) -> str:
    kind = type(value).__name__
    remedy = f"default_factory={kind if isinstance(value, (list, dict, set)) else f'lambda: {kind}(...)'}"
    if isinstance(value, GraphObject):
        remedy = f"gn.{kind_for(value)}({remedy})"
    elif isinstance(value, tuple):
        remedy = "default_factory=lambda: (...), or remove a comma behind the default"
    elif hasattr(value, "dtype"):
        kind, remedy = "array", "default_factory=lambda: ... in a State, or static(default=...)"
    return f"the default {kind} would be one object shared by all instances; use {remedy}"


def _inherited_fault(cls: type, name: str) -> Fault | None:
    """What is wrong with what a base has under the name of a field; `dataclasses` would take it for its default."""
    having = [base for base in cls.__mro__[1:] if name in base.__dict__ and name not in RESERVED]
    base = next((base for base in having if not isinstance(base.__dict__[name], Hint)), None)
    if base is None or _declares(base, name):
        return None  # or the default of the field that it overrides
    is_implemented = _is_abstract(base, base.__dict__[name])
    if name not in cls.__dict__:
        setattr(cls, name, dataclasses.field() if is_implemented else dataclasses.field(default=None))
    return None if is_implemented else _shadowed(cls, name, base)


def _is_abstract(owner: type, attribute: object) -> bool:
    """Whether a field may implement it: an abstract member, or one of a protocol."""
    return bool(getattr(attribute, "__isabstractmethod__", False) or owner.__dict__.get("_is_protocol", False))


def _shadowed(cls: type, name: str, owner: type) -> Fault:
    word = member_word(owner, name, owner.__dict__[name])
    if word is None:
        remedy = (
            f"which is no default of the field; rename one, or write {name}: ... = {_value_text(owner.__dict__[name])}"
        )
        return Fault(f"{cls.__name__}.{name}: {owner.__name__} has a class attribute of this name, {remedy}",
                     Rule.SHADOWED, name)  # fmt: skip
    text = f"{owner.__name__} has a {word} of this name, which no field replaces; rename one, or make the {word}"
    return Fault(f"{cls.__name__}.{name}: {text} abstract", Rule.SHADOWED, name)


def _value_text(value: object) -> str:
    """A value for a line to write."""
    return cut(repr(value)) if isinstance(value, (bool, int, float, str, tuple, type(None))) else "..."


# Fields that are inherited


def _inherited_fields(cls: type) -> Mapping[str, type]:
    """The class that each field which `cls` inherits comes from."""
    fields: dict[str, type] = {}
    for base in reversed(cls.__mro__[1:]):
        own = own_annotations(base) if "__dataclass_fields__" in base.__dict__ else {}
        fields |= {name: base for name, annotation in own.items() if is_field(annotation, base)}
    return fields


def _declares(base: type, name: str) -> bool:
    """Whether a class declares a name as a field, or as an argument of its constructor."""
    annotation = own_annotations(base).get(name)
    if "__dataclass_fields__" not in base.__dict__:
        return False
    if annotation is not None:
        return not is_class_variable(annotation, base)
    return issubclass(base, NodeBase) and name in _inherited_fields(base)


def _override_fault(cls: type, name: str, owner: type) -> Fault:
    """Of a value or member without an annotation, in the place of an inherited field."""
    value = cls.__dict__[name]
    word = member_word(cls, name, value)
    if word is not None:
        text = f"the class body has a {word} of the name of a field of {owner.__name__}; rename one"
    else:
        text = f"without an annotation this does not change the default of the field; write {name}: ... = "
        text += _value_text(value)
    return Fault(f"{cls.__name__}.{name}: {text}", Rule.SHADOWED, name)


def _pseudo_override_faults(cls: type, inherited: Mapping[str, type]) -> Iterator[Fault]:
    """Class variables and arguments in the place of a field, in the body or in one of two classes that do not agree."""
    for owner in cls.__mro__:
        own = own_annotations(owner) if owner is cls or "__dataclass_fields__" in owner.__dict__ else {}
        for name, annotation in own.items():
            if name not in inherited or is_field(annotation, owner):
                continue
            kind = "a class variable" if is_class_variable(annotation, owner) else "an argument of the constructor"
            by = "declared" if owner is cls else f"{owner.__name__} declares it"
            text = f"{by} {kind}, but {inherited[name].__name__} declares it a field; an override keeps the kind"
            yield Fault(f"{cls.__name__}.{name}: {text}", Rule.OVERRIDE, name)


# Classes that are extended, and are no nodes


def _hidden_faults(cls: type, base: type, fields: Collection[str]) -> Iterator[Fault]:
    """Members of a class that is extended which a field of another one would hide."""
    for name, attribute in base.__dict__.items():
        is_hidden = name in fields and name not in own_annotations(cls) and not is_dunder(name)
        if is_hidden and not _declares(base, name) and not _is_abstract(base, attribute):
            yield _shadowed(cls, name, base)


def _mixin_faults(cls: type, base: type, fields: Collection[str]) -> Iterator[Fault]:
    """What a class that is no node has in its body and was meant as part of the node."""
    annotations = own_annotations(base)
    if "__dataclass_fields__" in base.__dict__:
        for name, annotation in annotations.items():
            first = next(owner for owner in cls.__mro__ if name in own_annotations(owner))
            if first is base and not is_class_variable(annotation, base):
                declared: Any = base
                default = declared.__dataclass_fields__[name].default
                fault = _written_default_fault(cls, base, name, default)
                yield from [] if fault is None else [fault]
    elif not base.__dict__.get("_is_protocol", False):
        for name, annotation in annotations.items():
            if name not in fields and _was_meant(base, name, annotation):
                text = f"{base.__name__} declares it, but is no node class, so that it is no field; derive"
                remedy = f"{base.__name__} from gn.Node, or declare {name} in {cls.__name__}"
                yield Fault(f"{cls.__name__}.{name}: {text} {remedy}", Rule.MIXIN, name)
    yield from _reserved_faults(cls, base)
    yield from unannotated_faults(cls, base, [name for name in base.__dict__ if name not in annotations])


def _was_meant(base: type, name: str, annotation: object) -> bool:
    """Whether what a class declares that is no node is a field by its specifier, or by what its annotation says."""
    if not is_field(annotation, base):
        return False
    if isinstance(base.__dict__.get(name), dataclasses.Field):
        return True
    try:
        resolved: Any = resolve(annotation, base, {})
        return form_of(resolved, base).kind in (Kind.STATE, Kind.SUBNODE)
    except (NameError, TypeError, AttributeError, SyntaxError, AmbiguousError, ContractSyntaxError):
        return False  # no States or nodes, as far as can be read
