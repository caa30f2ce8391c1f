"""The body of a node class, and what it extends: what may stand there beside fields, and what is refused.

Data in: a class that is being defined, not yet a dataclass. Data out: its faults.
`dataclasses` takes for a default whatever `getattr` finds under the name of an
annotation, an inherited property too; a value without an annotation, it does not see at
all. Here each name is looked up in each class by itself.
"""

import copy
import dataclasses
import enum
import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

from .._class_faults import ClassFault, Rule
from .._contract import ContractSyntaxError
from .._fields import Kind, NodeBase, kind_for, left_out
from .._hints import cut, with_article
from .._members import (
    body_names,
    declaring_classes,
    holds_graph_object,
    is_alias,
    is_class_variable,
    is_defined_as,
    is_dunder,
    is_field,
    is_init_variable,
    is_meant_as_field,
    member_word,
    own_annotations,
    specifier_text,
    specifier_within,
    stray_comma,
    unannotated_faults,
)
from .._mistaken import Hint
from .._static import GraphObject
from ._annotations import AmbiguousError, form_of, resolve

RESERVED: Final = frozenset(
    {
        "_binding",
        "_has_own_init",
        "_joint",
        "_plan",
        "_popped",
        "_removed",
        "_template",
        "_version",
    }
)
"""Names that graphnode keeps on nodes and their classes."""


class _Role(enum.Enum):
    """What an annotation declares that the constructor knows; a value is what messages call it."""

    FIELD = "a field"
    ARGUMENT = "an argument of the constructor"

    @property
    def word(self) -> str:
        """The same without an article, and short."""
        return "field" if self is _Role.FIELD else "argument"


class _Declaration(NamedTuple):
    """A declaration that a class inherits.

    Attributes:
        owner: The class whose body has it.
        role: What it declares.
    """

    owner: type
    role: _Role


def take_body_faults(cls: type) -> list[ClassFault]:
    """Faults of a class body that `dataclasses` would stop at, or not see.

    A default that is a fault is taken out, so that `dataclasses` goes on and the other
    faults are found too; the class is refused in the end. An abstract property that a
    field implements is hidden from it likewise.
    """
    if "__slots__" in cls.__dict__:
        text = f"{cls.__name__} declares __slots__, but the fields of a node live in its __dict__; remove them"
        return [*_equality_faults(cls), ClassFault(text, Rule.SLOTS, "__slots__")]
    faults = [
        *_equality_faults(cls),
        *_reserved_faults(cls, cls),
        *_class_variable_faults(cls, cls),
    ]
    _drop_aliases(cls)
    _copy_specifiers(cls)
    own = own_annotations(cls)
    declarations = _declared_in(cls)
    for name in declarations:
        faults += _default_faults(cls, name, declarations[name].role)
    inherited = _inherited(cls)
    unannotated = [name for name in cls.__dict__ if name not in own]
    for name in unannotated:
        if name in inherited and not is_dunder(name):
            faults.append(_override_fault(cls, name, inherited[name]))
    faults += unannotated_faults(
        cls, cls, [name for name in unannotated if name not in inherited]
    )
    faults += _kind_override_faults(cls, inherited)
    declarations = inherited | declarations
    for base in cls.__mro__[1:]:
        if base in NodeBase.__mro__:
            continue
        faults += _hidden_faults(cls, base, declarations)
        if not issubclass(base, NodeBase):
            faults += _mixin_faults(cls, base, declarations)
    return list(dict.fromkeys(faults))


def _equality_faults(cls: type) -> Iterator[ClassFault]:
    """What defines an equality, in the body or in a mixin. A class may say itself that it wants none of a mixin's."""
    for name in ("__eq__", "__hash__"):
        owner = next(base for base in cls.__mro__ if name in base.__dict__)
        method = owner.__dict__[name]
        if (
            method is None
            or method is getattr(object, name)
            or _is_generated(owner, method)
        ):
            continue
        if owner is cls:
            text = f"{cls.__name__} defines {name}, but nodes are compared by identity; remove it"
            yield ClassFault(text, Rule.EQUALITY, name)
        elif (
            owner.__module__ != "collections.abc"
        ):  # a node may be a mapping, and need not be compared like one
            text = f"{cls.__name__}: {owner.__name__} defines {name}, but nodes are compared by identity; remove it, or"
            yield ClassFault(
                f"{text} write {name} = object.{name} in {cls.__name__}",
                Rule.EQUALITY,
                name,
            )


def _is_generated(owner: type, method: object) -> bool:
    """Whether `dataclasses` has written a method of a class: it compiles a text."""
    code = getattr(inspect.unwrap(cast("Any", method)), "__code__", None)
    return (
        "__dataclass_fields__" in owner.__dict__
        and code is not None
        and code.co_filename == "<string>"
    )


def _reserved_faults(cls: type, owner: type) -> Iterator[ClassFault]:
    """Names of graphnode's own that stand in a body, with or without an annotation; and fields with Python's own."""
    own = own_annotations(owner)
    for name in sorted(RESERVED & body_names(owner)):
        yield ClassFault(
            f"{cls.__name__}.{name}: this name is graphnode's own; choose another",
            Rule.RESERVED,
            name,
        )
    if owner is not cls:
        return
    for name in [
        name
        for name, annotation in own.items()
        if is_dunder(name) and is_field(annotation, cls)
    ]:
        del cls.__annotations__[name]
        text = f"{cls.__name__}.{name}: names with two underscores on both sides are Python's own; choose another"
        yield ClassFault(text, Rule.RESERVED, name)


def _class_variable_faults(cls: type, owner: type) -> Iterator[ClassFault]:
    """Specifiers that stand at class variables, whose value they would be; those of the class are taken out."""
    for name, annotation in own_annotations(owner).items():
        specifier = owner.__dict__.get(name)
        if isinstance(specifier, dataclasses.Field) and is_class_variable(
            annotation, owner
        ):
            if owner is cls:
                setattr(cls, name, None)
            called = specifier_text(specifier)
            yield ClassFault(
                f"{cls.__name__}.{name}: {called} declares a field, and ClassVar[...] a "
                f"constant of the class; remove ClassVar[...], or write a value in place of {called}",
                Rule.DATACLASS,
                name,
            )


def _drop_aliases(cls: type) -> None:
    """Take out the annotations of names for types, which `dataclasses` would make fields."""
    for name in [
        name
        for name, annotation in own_annotations(cls).items()
        if is_alias(annotation, cls)
    ]:
        del cls.__annotations__[name]


def _copy_specifiers(cls: type) -> None:
    """Give each name a specifier of its own: `dataclasses` writes the name into it.

    One specifier may stand behind several names, or in several classes.
    """
    for name in own_annotations(cls):
        written = cls.__dict__.get(name)
        if isinstance(written, dataclasses.Field):
            setattr(cls, name, copy.copy(written))
    for base in cls.__mro__[1:]:
        known: dict[str, Any] = (
            {}
            if issubclass(base, NodeBase)
            else base.__dict__.get("__dataclass_fields__", {})
        )
        for name, specifier in known.items():
            if specifier.name != name:  # another class has it under that one
                known[name] = copy.copy(specifier)
                known[name].name = name


# Defaults of the fields that the body declares


def _default_faults(cls: type, name: str, role: _Role) -> list[ClassFault]:
    """What is wrong with the default of a name that the body declares; such a default is taken out."""
    inherited = _inherited_fault(cls, name, role)
    _unwrap_static_method(cls, name)
    written = cls.__dict__.get(name, dataclasses.MISSING)
    if written is dataclasses.MISSING:
        return [inherited] if inherited is not None else []
    specifier = written if isinstance(written, dataclasses.Field) else None
    fault = _written_default_fault(
        cls, cls, name, written if specifier is None else specifier.default, role
    )
    if (
        specifier is not None
        and specifier.default_factory is not dataclasses.MISSING
        and role is _Role.ARGUMENT
    ):
        option = (
            "factory" if specifier.default_factory is left_out else "default_factory"
        )
        text = f"{cls.__name__}.{name}: an InitVar is an argument of the constructor, and takes no {option}"
        fault = ClassFault(
            f"{text}; {_made_in_constructor(name, '...')}", Rule.DATACLASS, name
        )
    if specifier is not None and not specifier.init and role is _Role.ARGUMENT:
        called = specifier_text(specifier)
        text = f"{cls.__name__}.{name}: an InitVar is an argument of the constructor, and by {called} the constructor"
        fault = ClassFault(
            f"{text} does not take it; remove InitVar[...] or the specifier",
            Rule.DATACLASS,
            name,
        )
    if fault is not None:
        metadata = None if specifier is None else specifier.metadata
        setattr(cls, name, dataclasses.field(default=None, metadata=metadata))
    return [found for found in (inherited, fault) if found is not None]


def _unwrap_static_method(cls: type, name: str) -> None:
    """Put the function in the place of a static method that is the default of a field of another name.

    To the class body, the `helper` of `@staticmethod def helper(x)` is the wrapper, to
    everyone else the function.
    """
    written = cls.__dict__.get(name)
    default = written.default if isinstance(written, dataclasses.Field) else written
    if not isinstance(default, staticmethod) or is_defined_as(default, cls, name):
        return
    if isinstance(written, dataclasses.Field):
        written.default = default.__func__
    else:
        setattr(cls, name, default.__func__)


def _written_default_fault(
    cls: type, owner: type, name: str, value: object, role: _Role
) -> ClassFault | None:
    """What is wrong with a default that is written in the body of a class, or of a dataclass that it extends."""
    where = f"{cls.__name__}.{name}"
    if value is dataclasses.MISSING:
        return None
    word = member_word(owner, name, value)
    if word is not None:
        body = "the class body" if owner is cls else f"the body of {owner.__name__}"
        return ClassFault(
            f"{where}: {body} has a field and a {word} of this name; rename one",
            Rule.SHADOWED,
            name,
        )
    specifier = specifier_within(value)
    if specifier is not None:
        return ClassFault(f"{where}: {stray_comma(specifier)}", Rule.SHARED, name)
    if holds_graph_object(value) or type(value).__hash__ is None:
        return ClassFault(
            f"{where}: {_shared_default(name, value, role)}", Rule.SHARED, name
        )
    return None


def _shared_default(name: str, value: object, role: _Role) -> str:
    is_array = not isinstance(value, GraphObject) and hasattr(value, "dtype")
    kind = "array" if is_array else type(value).__name__
    is_plain = isinstance(value, (list, dict, set))
    if role is _Role.ARGUMENT:  # which `dataclasses` lets have no factory
        remedy = _made_in_constructor(
            name, kind if is_plain or isinstance(value, GraphObject) else "..."
        )
        return f"the default {kind} would be one object for all calls; {remedy}"
    remedy = f"default_factory={kind if is_plain else f'lambda: {kind}(...)'}"
    if isinstance(value, GraphObject):
        remedy = f"gn.{kind_for(value)}({remedy})"
    elif isinstance(value, tuple):
        remedy = "default_factory=lambda: (...), or remove a comma behind the default"
    elif is_array:
        remedy = "default_factory=lambda: ... in a State, or static(default=...)"
    return (
        f"the default {kind} would be one object shared by all instances; use {remedy}"
    )


def _made_in_constructor(name: str, annotation: str) -> str:
    """What to write for an argument of the constructor whose default is made anew for each node."""
    return f"write {name}: InitVar[{annotation} | None] = None, and make it in __post_init__"


def _inherited_fault(cls: type, name: str, role: _Role) -> ClassFault | None:
    """What is wrong with what a base has under a name; `dataclasses` would take it for the default of the field."""
    having = [
        base
        for base in cls.__mro__[1:]
        if name in base.__dict__ and name not in RESERVED
    ]
    base = next(
        (base for base in having if not isinstance(base.__dict__[name], Hint)), None
    )
    if base is None or _declares(base, name):
        return None  # or the default of the field that it overrides
    attribute = base.__dict__[name]
    is_implemented = _is_abstract(base, attribute)
    if name not in cls.__dict__:
        setattr(
            cls,
            name,
            dataclasses.field() if is_implemented else dataclasses.field(default=None),
        )
    elif member_word(base, name, attribute) is None:
        return None  # a constant that becomes a field, with what the body says of it
    return None if is_implemented else _shadowed(cls, name, base, role)


def _is_abstract(owner: type, attribute: object) -> bool:
    """Whether a field may implement it: an abstract member, or one of a protocol."""
    return bool(
        getattr(attribute, "__isabstractmethod__", False)
        or owner.__dict__.get("_is_protocol", False)
    )


def _shadowed(cls: type, name: str, owner: type, role: _Role) -> ClassFault:
    word = member_word(owner, name, owner.__dict__[name])
    if word is None:
        text = f"{owner.__name__} has a class attribute of this name, which is not a default of the {role.word}"
        remedy = f"rename one, or write {_line(name, role, owner.__dict__[name])}"
        return ClassFault(
            f"{cls.__name__}.{name}: {text}; {remedy}", Rule.SHADOWED, name
        )
    text = f"{owner.__name__} has a {word} of this name, which no {role.word} replaces; rename one"
    remedy = f", or make the {word} abstract" if role is _Role.FIELD else ""
    return ClassFault(f"{cls.__name__}.{name}: {text}{remedy}", Rule.SHADOWED, name)


def _line(name: str, role: _Role, value: object) -> str:
    """The line that declares a name with this default."""
    return f"{name}: {'...' if role is _Role.FIELD else 'InitVar[...]'} = {_value_text(value)}"


def _value_text(value: object) -> str:
    """A value for a line to write."""
    return (
        cut(repr(value))
        if isinstance(value, (bool, int, float, str, tuple, type(None)))
        else "..."
    )


# Fields and arguments that are inherited


def _declared_in(cls: type) -> dict[str, _Declaration]:
    """What the body of a class declares, itself alone."""
    declarations: dict[str, _Declaration] = {}
    for name, annotation in own_annotations(cls).items():
        if is_init_variable(annotation, cls):
            declarations[name] = _Declaration(cls, _Role.ARGUMENT)
        elif is_field(annotation, cls):
            declarations[name] = _Declaration(cls, _Role.FIELD)
    return declarations


def _inherited(cls: type) -> dict[str, _Declaration]:
    """What each field, and each argument of the constructor, that `cls` inherits was declared as."""
    declarations: dict[str, _Declaration] = {}
    for base in reversed(cls.__mro__[1:]):
        if "__dataclass_fields__" in base.__dict__:
            declarations |= _declared_in(base)
    return declarations


def _declares(base: type, name: str) -> bool:
    """Whether a class declares a name as a field, or as an argument of its constructor."""
    annotation = own_annotations(base).get(name)
    if "__dataclass_fields__" not in base.__dict__:
        return False
    if annotation is not None:
        return not is_class_variable(annotation, base)
    return issubclass(base, NodeBase) and name in _inherited(base)


def _overrides(declaration: _Declaration, base: type) -> bool:
    """Whether a class declares a field in place of what it inherits from another: of that it was held to account."""
    return declaration.owner is not base and issubclass(declaration.owner, base)


def _override_fault(cls: type, name: str, inherited: _Declaration) -> ClassFault:
    """Of a value or member without an annotation, in the place of an inherited field or argument."""
    value = cls.__dict__[name]
    word = member_word(cls, name, value)
    if word is not None:
        text = f"the class body has {with_article(word)} of the name of {with_article(inherited.role.word)} of"
        text += f" {inherited.owner.__name__}; rename one"
    else:
        text = f"without an annotation this does not change the default of the {inherited.role.word}; write "
        text += _line(name, inherited.role, value)
    return ClassFault(f"{cls.__name__}.{name}: {text}", Rule.SHADOWED, name)


def _kind_override_faults(
    cls: type, inherited: Mapping[str, _Declaration]
) -> Iterator[ClassFault]:
    """Of a field, argument and class variable of one name: in the body, or in two classes that do not agree."""
    for owner in cls.__mro__:
        own = (
            own_annotations(owner)
            if owner is cls or "__dataclass_fields__" in owner.__dict__
            else {}
        )
        declarations = _declared_in(owner)
        for name, annotation in own.items():
            role = declarations[name].role if name in declarations else None
            is_known = role is not None or is_class_variable(annotation, owner)
            if name not in inherited or role is inherited[name].role or not is_known:
                continue
            if role is None and _overrides(inherited[name], owner):
                continue
            word = "a class variable" if role is None else role.value
            by = "declared" if owner is cls else f"{owner.__name__} declares it"
            other = f"{inherited[name].owner.__name__} declares it {inherited[name].role.value}"
            text = f"{by} {word}, but {other}; an override keeps the kind"
            yield ClassFault(f"{cls.__name__}.{name}: {text}", Rule.OVERRIDE, name)


# Classes that are extended, and are no nodes


def _hidden_faults(
    cls: type, base: type, declarations: Mapping[str, _Declaration]
) -> Iterator[ClassFault]:
    """Members of a class that is extended which a field or argument of another one would hide."""
    own = own_annotations(cls)
    hidden = [
        name
        for name in base.__dict__
        if name in declarations and name not in own and not is_dunder(name)
    ]
    for name in hidden:
        is_settled = _declares(base, name) or _overrides(declarations[name], base)
        if not (is_settled or _is_abstract(base, base.__dict__[name])):
            yield _shadowed(cls, name, base, declarations[name].role)


def _mixin_faults(
    cls: type, base: type, declarations: Collection[str]
) -> Iterator[ClassFault]:
    """What a class that is not a node has in its body and was meant as part of the node."""
    if "__dataclass_fields__" in base.__dict__:
        yield from _dataclass_faults(cls, base)
    else:
        yield from _undeclared_field_faults(cls, base, declarations)
    yield from _reserved_faults(cls, base)
    yield from _class_variable_faults(cls, base)
    annotations = own_annotations(base)
    yield from unannotated_faults(
        cls, base, [name for name in base.__dict__ if name not in annotations]
    )


def _dataclass_faults(cls: type, base: type) -> Iterator[ClassFault]:
    """What is wrong with the defaults of a dataclass that is not a node."""
    specifiers, owners = base.__dict__["__dataclass_fields__"], declaring_classes(cls)
    own = own_annotations(cls)
    for name, declaration in _declared_in(base).items():
        if name not in own and owners[name] is base:
            fault = _written_default_fault(
                cls, base, name, specifiers[name].default, declaration.role
            )
            yield from [] if fault is None else [fault]


def _undeclared_field_faults(
    cls: type, base: type, declarations: Collection[str]
) -> Iterator[ClassFault]:
    """Fields of a class that is neither a node nor a dataclass, by their values or by what the annotations say."""
    is_protocol = base.__dict__.get("_is_protocol", False)
    for name, annotation in own_annotations(base).items():
        if name in declarations or not is_field(annotation, base):
            continue
        value = base.__dict__.get(name)
        has_value = is_meant_as_field(value)
        # What a protocol annotates, others implement; a value is its own.
        if not has_value and (is_protocol or not _says_holder(base, annotation)):
            continue
        text = f"{base.__name__} declares it, but is not a node class, so that it is not a field; derive"
        remedy = f"{base.__name__} from gn.Node, or declare {name} in {cls.__name__}"
        if has_value and not (
            isinstance(value, dataclasses.Field) or holds_graph_object(value)
        ):
            remedy += f", or write {name}: ClassVar[...] for a constant of the class"
        yield ClassFault(f"{cls.__name__}.{name}: {text} {remedy}", Rule.MIXIN, name)


def _says_holder(owner: type, annotation: object) -> bool:
    """Whether an annotation says that a field holds States or nodes."""
    try:
        resolved: Any = resolve(annotation, owner, {})
        return form_of(resolved, owner).kind in (Kind.STATE, Kind.SUBNODE)
    except (
        NameError,
        TypeError,
        AttributeError,
        SyntaxError,
        AmbiguousError,
        ContractSyntaxError,
    ):
        return False  # no States or nodes, as far as can be read
