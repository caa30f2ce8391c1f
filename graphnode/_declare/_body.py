"""Check the body of a node class and of what it extends, before `dataclasses` reads it.

`dataclasses` takes for a default whatever `getattr` finds under the name of an
annotation, an inherited property too; a value without an annotation it does not see at
all. Here each name is looked up in each class by itself. The result is a list of
faults, and a body that `dataclasses` can go on with.
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
from ._annotations import form_of
from ._forms import AmbiguousError
from ._type_arguments import resolve

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
    """What an annotation declares to the constructor; a value is what messages call it."""

    FIELD = "a field"
    ARGUMENT = "an argument of the constructor"

    @property
    def word(self) -> str:
        """What short messages call it, without an article.

        As in "has a property of this name, which no field replaces".
        """
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

    For `_define`, before it calls `dataclasses`.

    A default that is a fault is taken out, so that `dataclasses` goes on and the other
    faults are found too; the class is refused in the end. An abstract property that a
    field implements is hidden from it as well.
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
    # The others have their fault already: a value of the name of a field is an
    # override.
    new = [name for name in unannotated if name not in inherited]
    faults += unannotated_faults(cls, cls, new)
    faults += _kind_override_faults(cls, inherited)
    declarations = inherited | declarations
    for base in cls.__mro__[1:]:
        # `NodeBase` and `object` declare nothing that a field could hide.
        if base in NodeBase.__mro__:
            continue
        faults += _hidden_faults(cls, base, declarations)
        if not issubclass(base, NodeBase):
            faults += _mixin_faults(cls, base, declarations)
    # Several bases may lead to the same fault, which is told once.
    return list(dict.fromkeys(faults))


def _equality_faults(cls: type) -> Iterator[ClassFault]:
    """Equality that the body or a mixin defines. A class may refuse a mixin's: `__eq__ = object.__eq__`.

    Nodes are told apart by identity: a walk keeps them in dicts.
    """
    for name in ("__eq__", "__hash__"):
        owner = next(base for base in cls.__mro__ if name in base.__dict__)
        method = owner.__dict__[name]
        # `__eq__` without `__hash__` makes Python set `__hash__ = None`: that one fault
        # is reported for `__eq__`.
        is_by_identity = method is None or method is getattr(object, name)
        if is_by_identity or _is_generated(owner, method):
            continue
        reason = f"defines {name}, but nodes are compared by identity; remove it"
        if owner is cls:
            yield ClassFault(f"{cls.__name__} {reason}", Rule.EQUALITY, name)
        # A node may be a mapping, and need not be compared like one.
        elif owner.__module__ != "collections.abc":
            remedy = f"or write {name} = object.{name} in {cls.__name__}"
            text = f"{cls.__name__}: {owner.__name__} {reason}, {remedy}"
            yield ClassFault(text, Rule.EQUALITY, name)


def _is_generated(owner: type, method: object) -> bool:
    """Whether `dataclasses` has written a method of a class, which it compiles from a string.

    `_reset_comparison_and_repr` replaces such a method, so that it is no fault.
    """
    # Below wrappers: a run-time type checker may have decorated the method.
    code = getattr(inspect.unwrap(cast("Any", method)), "__code__", None)
    is_from_string = code is not None and code.co_filename == "<string>"
    return is_from_string and "__dataclass_fields__" in owner.__dict__


def _reserved_faults(cls: type, owner: type) -> Iterator[ClassFault]:
    """Names in a body that are reserved by graphnode; and fields whose names are reserved by Python, taken out.

    They would hide what graphnode, or Python, looks for under that name.
    """
    for name in sorted(RESERVED & body_names(owner)):
        yield ClassFault(
            f"{cls.__name__}.{name}: this name is graphnode's own; choose another",
            Rule.RESERVED,
            name,
        )
    # A mixin is not changed, as other classes may extend it too.
    if owner is not cls:
        return
    for name, annotation in own_annotations(cls).items():
        if is_dunder(name) and is_field(annotation, cls):
            del cls.__annotations__[name]
            text = f"{cls.__name__}.{name}: names with two underscores on both sides are Python's own; choose another"
            yield ClassFault(text, Rule.RESERVED, name)


def _class_variable_faults(cls: type, owner: type) -> Iterator[ClassFault]:
    """Specifiers of class variables, whose value they would be; those of the class itself are taken out.

    Every instance would find the specifier as the value.
    """
    for name, annotation in own_annotations(owner).items():
        specifier = owner.__dict__.get(name)
        if not isinstance(specifier, dataclasses.Field):
            continue
        if not is_class_variable(annotation, owner):
            continue
        if owner is cls:
            # `dataclasses` would raise at a factory of a class variable, and hide the
            # other faults.
            setattr(cls, name, None)
        text = specifier_text(specifier)
        yield ClassFault(
            f"{cls.__name__}.{name}: {text} declares a field, and ClassVar[...] a "
            f"constant of the class; remove ClassVar[...], or write a value in place of {text}",
            Rule.DATACLASS,
            name,
        )


def _drop_aliases(cls: type) -> None:
    """Take out the annotations of type aliases, which `dataclasses` would make fields.

    Such a `Row: TypeAlias = tuple[int, ...]` is there for other annotations of the
    body.
    """
    for name, annotation in own_annotations(cls).items():
        if is_alias(annotation, cls):
            del cls.__annotations__[name]


def _copy_specifiers(cls: type) -> None:
    """Give each name a specifier of its own: `dataclasses` writes the name into it.

    One specifier may stand behind several names, or in several classes.
    """
    for name in own_annotations(cls):
        specifier = cls.__dict__.get(name)
        if isinstance(specifier, dataclasses.Field):
            setattr(cls, name, copy.copy(specifier))
    for base in cls.__mro__[1:]:
        if issubclass(base, NodeBase):
            continue
        fields: dict[str, Any] = base.__dict__.get("__dataclass_fields__", {})
        for name, field in fields.items():
            if field.name != name:  # another class has it under that one
                fields[name] = copy.copy(field)
                fields[name].name = name


# Defaults of the fields that the body declares


def _default_faults(cls: type, name: str, role: _Role) -> list[ClassFault]:
    """What is wrong with the default of a name that the body declares; such a default is taken out.

    For `take_body_faults`, for each field and argument of the constructor.
    """
    faults = [_inherited_fault(cls, name, role)]
    # Before the default is read: it is the function that is checked, and that instances
    # get.
    _unwrap_static_method(cls, name)
    default = cls.__dict__.get(name, dataclasses.MISSING)
    if isinstance(default, dataclasses.Field):
        specifier: dataclasses.Field[Any] = default
        fault = (
            _argument_fault(cls, name, specifier) if role is _Role.ARGUMENT else None
        )
        if fault is None:
            fault = _written_default_fault(cls, cls, name, specifier.default, role)
        metadata = specifier.metadata
    else:
        fault = _written_default_fault(cls, cls, name, default, role)
        metadata = None
    if fault is not None:
        # `None`, and no removal: a field without a default could not follow this one.
        setattr(cls, name, dataclasses.field(default=None, metadata=metadata))
    faults.append(fault)
    return [fault for fault in faults if fault is not None]


def _argument_fault(
    cls: type, name: str, specifier: "dataclasses.Field[Any]"
) -> ClassFault | None:
    """What is wrong with the specifier of an argument of the constructor that is not a field.

    For `_default_faults`: `dataclasses` would raise, or leave the argument unset
    without a word.
    """
    reason = f"{cls.__name__}.{name}: an InitVar is an argument of the constructor, and"
    if not specifier.init:
        text = f"by {specifier_text(specifier)} the constructor does not take it; remove InitVar[...] or the specifier"
        return ClassFault(f"{reason} {text}", Rule.DATACLASS, name)
    if specifier.default_factory is dataclasses.MISSING:
        return None
    # `left_out` is the default factory of a specifier with `factory=`.
    is_computed = specifier.default_factory is left_out
    option = "factory" if is_computed else "default_factory"
    text = f"takes no {option}; {_made_in_constructor(name, '...')}"
    return ClassFault(f"{reason} {text}", Rule.DATACLASS, name)


def _unwrap_static_method(cls: type, name: str) -> None:
    """Replace a static method that is the default of a field of another name by its function.

    So that a method of the class may be the default of a field that holds a function.

    In the class body, the `helper` of `@staticmethod def helper(x)` is the wrapper; for
    everyone else it is the function.
    """
    value = cls.__dict__.get(name)
    default = value.default if isinstance(value, dataclasses.Field) else value
    if not isinstance(default, staticmethod) or is_defined_as(default, cls, name):
        return
    if isinstance(value, dataclasses.Field):
        value.default = default.__func__
    else:
        setattr(cls, name, default.__func__)


def _written_default_fault(
    cls: type, owner: type, name: str, value: object, role: _Role
) -> ClassFault | None:
    """What is wrong with a default that is written in the body of a class, or of a dataclass that it extends.

    For `_default_faults`, and for dataclasses that are extended.
    """
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
    # As in `dataclasses`, what is not hashable is taken for mutable.
    if holds_graph_object(value) or type(value).__hash__ is None:
        text = _shared_default(name, value, role)
        return ClassFault(f"{where}: {text}", Rule.SHARED, name)
    return None


def _shared_default(name: str, value: object, role: _Role) -> str:
    """What is wrong with a default that is mutable.

    All instances would have that one object, so that a change in one shows in all.
    """
    # By its dtype: arrays of NumPy and of JAX, and tracers.
    is_array = not isinstance(value, GraphObject) and hasattr(value, "dtype")
    kind = "array" if is_array else type(value).__name__
    if role is _Role.ARGUMENT:  # `dataclasses` allows it no factory
        # For these the name of the class is a valid annotation; for others it may not
        # even be imported.
        is_annotation = isinstance(value, (list, dict, set, GraphObject))
        remedy = _made_in_constructor(name, kind if is_annotation else "...")
        return f"the default {kind} would be one object for all calls; {remedy}"
    remedy = _factory_text(value, kind)
    return (
        f"the default {kind} would be one object shared by all instances; use {remedy}"
    )


def _factory_text(value: object, kind: str) -> str:
    """What to write in place of a mutable default, whose class messages call `kind`.

    So that the error has a factory to write: each node then gets a value of its own.
    """
    if isinstance(value, GraphObject):
        return f"gn.{kind_for(value)}(default_factory=lambda: {kind}(...))"
    if isinstance(value, (list, dict, set)):
        return f"default_factory={kind}"
    if isinstance(value, tuple):
        return "default_factory=lambda: (...), or remove a comma behind the default"
    if kind == "array":
        return "default_factory=lambda: ... in a State, or static(default=...)"
    return f"default_factory=lambda: {kind}(...)"


def _made_in_constructor(name: str, annotation: str) -> str:
    """The line to write for an argument of the constructor whose default is made for each call.

    Such an argument may have no factory.
    """
    return f"write {name}: InitVar[{annotation} | None] = None, and make it in __post_init__"


def _inherited_fault(cls: type, name: str, role: _Role) -> ClassFault | None:
    """What is wrong with what a base has under a name; `dataclasses` would take it for the default of the field.

    As a property of a base: the field would begin with that object as its value.
    """
    base = _base_with(cls, name)
    if base is None or _declares(base, name):
        return None  # a declaration is an override
    attribute = base.__dict__[name]
    is_abstract = _is_abstract(base, attribute)
    if name not in cls.__dict__:
        # Hides the attribute from the `getattr` of `dataclasses`.
        field = dataclasses.field() if is_abstract else dataclasses.field(default=None)
        setattr(cls, name, field)
    elif member_word(base, name, attribute) is None:
        return None  # a constant becomes a field, with the default in the body
    return None if is_abstract else _shadowed(cls, name, base, role)


def _base_with(cls: type, name: str) -> type | None:
    """The first class that `cls` extends with an attribute of a name, apart from graphnode's own.

    For `_inherited_fault`: what `getattr` would find there.
    """
    if name in RESERVED:
        return None
    for base in cls.__mro__[1:]:
        if name in base.__dict__ and not isinstance(base.__dict__[name], Hint):
            return base
    return None


def _is_abstract(owner: type, attribute: object) -> bool:
    """Whether a field may implement a member: an abstract one, or one of a protocol.

    A base that asks for an attribute gets it by a field; what it implements itself
    would be lost.
    """
    is_of_protocol = owner.__dict__.get("_is_protocol", False)
    return bool(is_of_protocol or getattr(attribute, "__isabstractmethod__", False))


def _shadowed(cls: type, name: str, owner: type, role: _Role) -> ClassFault:
    """The fault of an attribute of a base in place of which a field or argument is declared.

    What the base does with the attribute would find the value of the field.

    Args:
        cls: The class that is defined.
        name: The name of both.
        owner: The class whose body has the attribute.
        role: What is declared under the name.
    """
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
    """The line that declares a name with this default.

    For remedies, to be copied into the class.
    """
    annotation = "..." if role is _Role.FIELD else "InitVar[...]"
    has_repr = isinstance(value, (bool, int, float, str, tuple, type(None)))
    return f"{name}: {annotation} = {cut(repr(value)) if has_repr else '...'}"


# Fields and arguments that are inherited


def _declared_in(cls: type) -> dict[str, _Declaration]:
    """What the body of a class itself declares.

    For the checks of one class body at a time: `dataclasses` has only what counts in
    the end.
    """
    declarations: dict[str, _Declaration] = {}
    for name, annotation in own_annotations(cls).items():
        if is_init_variable(annotation, cls):
            declarations[name] = _Declaration(cls, _Role.ARGUMENT)
        elif is_field(annotation, cls):
            declarations[name] = _Declaration(cls, _Role.FIELD)
    return declarations


def _inherited(cls: type) -> dict[str, _Declaration]:
    """The declarations that `cls` inherits, by the name of the field or argument.

    For values and members of the body that would take their place.
    """
    declarations: dict[str, _Declaration] = {}
    # From the root of the hierarchy on, so that the nearest declaration wins.
    for base in reversed(cls.__mro__[1:]):
        if "__dataclass_fields__" in base.__dict__:
            declarations |= _declared_in(base)
    return declarations


def _declares(base: type, name: str) -> bool:
    """Whether a class declares a name as a field, or as an argument of its constructor.

    For what stands under a name in two classes: of two declarations, one overrides the
    other.
    """
    annotation = own_annotations(base).get(name)
    if "__dataclass_fields__" not in base.__dict__:
        return False
    if annotation is not None:
        return not is_class_variable(annotation, base)
    # A node class has a descriptor for each field, also for those that it inherits.
    return issubclass(base, NodeBase) and name in _inherited(base)


def _overrides(declaration: _Declaration, base: type) -> bool:
    """Whether a declaration is already an override of what a base has; its class was checked when it was defined.

    Then it is not told again for each class further down.
    """
    return declaration.owner is not base and issubclass(declaration.owner, base)


def _override_fault(cls: type, name: str, inherited: _Declaration) -> ClassFault:
    """The fault of a value or member without an annotation in place of an inherited field or argument.

    Python would take it for a plain attribute, so that the field keeps its old default,
    or is hidden.
    """
    value = cls.__dict__[name]
    word = member_word(cls, name, value)
    if word is not None:
        other = f"{with_article(inherited.role.word)} of {inherited.owner.__name__}"
        text = f"the class body has {with_article(word)} of the name of {other}; rename one"
    else:
        line = _line(name, inherited.role, value)
        text = f"without an annotation this does not change the default of the {inherited.role.word}; write {line}"
    return ClassFault(f"{cls.__name__}.{name}: {text}", Rule.SHADOWED, name)


def _kind_override_faults(
    cls: type, inherited: Mapping[str, _Declaration]
) -> Iterator[ClassFault]:
    """Names that one class declares as a field and another as an argument of the constructor or class variable.

    The constructor of one would set what the other does not have.
    """
    # Also the bases: two of them may contradict each other, and only `cls` brings them
    # together.
    for owner in cls.__mro__:
        if owner is not cls and "__dataclass_fields__" not in owner.__dict__:
            continue
        declarations = _declared_in(owner)
        for name, annotation in own_annotations(owner).items():
            if name not in inherited:
                continue
            declared = declarations.get(name)
            if declared is not None:
                is_conflict = declared.role is not inherited[name].role
            else:
                is_overridden = _overrides(inherited[name], owner)
                is_conflict = is_class_variable(annotation, owner) and not is_overridden
            if is_conflict:
                word = "a class variable" if declared is None else declared.role.value
                yield _kind_override_fault(cls, name, owner, word, inherited[name])


def _kind_override_fault(
    cls: type, name: str, owner: type, word: str, inherited: _Declaration
) -> ClassFault:
    """The fault of a name that is a field in one class, and in another one something else.

    For `_kind_override_faults`: methods of the base count on what the base has
    declared.

    Args:
        cls: The class that is defined.
        name: The name that is declared twice.
        owner: The class with the override.
        word: What the override declares, as in "a class variable".
        inherited: The declaration that it overrides.
    """
    by = "declared" if owner is cls else f"{owner.__name__} declares it"
    other = f"{inherited.owner.__name__} declares it {inherited.role.value}"
    text = f"{by} {word}, but {other}; an override keeps the kind"
    return ClassFault(f"{cls.__name__}.{name}: {text}", Rule.OVERRIDE, name)


# Classes that are extended, and are not nodes


def _hidden_faults(
    cls: type, base: type, declarations: Mapping[str, _Declaration]
) -> Iterator[ClassFault]:
    """Members of a class that is extended which a field or argument of another one would hide.

    As a method of a mixin: it was meant to be called, and the field has its name.
    """
    own = own_annotations(cls)
    # A list: to ask Python for annotations may put an entry into the `__dict__`.
    for name, member in list(base.__dict__.items()):
        if name not in declarations or name in own or is_dunder(name):
            continue
        is_settled = _declares(base, name) or _overrides(declarations[name], base)
        if not (is_settled or _is_abstract(base, member)):
            yield _shadowed(cls, name, base, declarations[name].role)


def _mixin_faults(
    cls: type, base: type, declarations: Collection[str]
) -> Iterator[ClassFault]:
    """What is in the body of a class that is not a node, and was meant as part of the node.

    For `take_body_faults`, for each class that is extended and is no node class.
    """
    # The fields of a dataclass become fields of the node; annotations of another class
    # do not.
    if "__dataclass_fields__" in base.__dict__:
        yield from _dataclass_faults(cls, base)
    else:
        yield from _undeclared_field_faults(cls, base, declarations)
    yield from _reserved_faults(cls, base)
    yield from _class_variable_faults(cls, base)
    annotations = own_annotations(base)
    unannotated = [name for name in base.__dict__ if name not in annotations]
    yield from unannotated_faults(cls, base, unannotated)


def _dataclass_faults(cls: type, base: type) -> Iterator[ClassFault]:
    """What is wrong with the defaults of a dataclass that is not a node.

    For `_mixin_faults`: its fields become fields of the node, so that defaults are
    shared by nodes.
    """
    specifiers, owners = base.__dict__["__dataclass_fields__"], declaring_classes(cls)
    own = own_annotations(cls)
    for name, declaration in _declared_in(base).items():
        # An override in `cls`, or in a class between, has a default of its own that is
        # checked there.
        if name not in own and owners[name] is base:
            default = specifiers[name].default
            fault = _written_default_fault(cls, base, name, default, declaration.role)
            if fault is not None:
                yield fault


def _undeclared_field_faults(
    cls: type, base: type, declarations: Collection[str]
) -> Iterator[ClassFault]:
    """Names in a class that is neither a node nor a dataclass whose value, or annotation, is that of a field.

    For `_mixin_faults`: to Python it is an attribute of the class, to graphnode nothing
    at all.
    """
    is_protocol = base.__dict__.get("_is_protocol", False)
    for name, annotation in own_annotations(base).items():
        if name in declarations or not is_field(annotation, base):
            continue
        value = base.__dict__.get(name)
        if is_meant_as_field(value):
            is_specifier = isinstance(value, dataclasses.Field)
            may_be_constant = not (is_specifier or holds_graph_object(value))
        # What a protocol annotates is for others to implement.
        elif not is_protocol and _surely_admits_graph_objects(base, annotation):
            may_be_constant = False
        else:
            continue
        text = f"{base.__name__} declares it, but is not a node class, so that it is not a field; derive"
        remedy = f"{base.__name__} from gn.Node, or declare {name} in {cls.__name__}"
        if may_be_constant:
            remedy += f", or write {name}: ClassVar[...] for a constant of the class"
        yield ClassFault(f"{cls.__name__}.{name}: {text} {remedy}", Rule.MIXIN, name)


def _surely_admits_graph_objects(owner: type, annotation: object) -> bool:
    """Whether an annotation is one of States or nodes, as far as it can be resolved already.

    Such an annotation in a mixin was meant as a field; any other may be meant for
    something else.
    """
    try:
        resolved: Any = resolve(annotation, owner, {})
        return form_of(resolved, owner).kind in (Kind.STATE, Kind.SUBNODE)
    # It may name what is defined later, or be no type at all: a mixin is not refused on
    # suspicion.
    except (
        NameError,
        TypeError,
        AttributeError,
        SyntaxError,
        AmbiguousError,
        ContractSyntaxError,
    ):
        return False
