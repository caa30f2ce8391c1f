"""Read a field's annotation: its kind, and the form of the values that the field admits.

    list[Linear | None]              Form(SUBNODE, list_of=Form(SUBNODE, (Leaf(Linear),), optional=True))
    ParamState[Float[Array, "n"]]    Form(STATE, (Leaf(ParamState, contract),))
    dict[str, tuple[int, str]]       AmbiguousError: static, but not hashable

An annotation whose members all say the same kind is of that kind; any other is refused,
and the error says what to write. Forms read through `list`, `tuple`, `dict[str, ...]`,
`None`, unions, `type` statements and type variables.
"""

import collections.abc
import dataclasses
import enum
import itertools
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args, get_origin

import jax
import numpy as np
import typing_extensions

from .._containers import ContainerKind
from .._contract import Contract, contract_of, is_jaxtyping
from .._fields import Kind, NodeBase
from .._hints import with_article
from .._members import is_dunder, own_annotations
from .._paths import Key
from .._redefinition import latest
from .._state import State
from .._static import ARRAY, GraphObject, match_kind

T = TypeVar("T")

_DTYPES: Final = frozenset(get_args(jax.typing.DTypeLike))
_UNIONS: Final = (typing.Union, types.UnionType)
_SEQUENCES: Final = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_MAPPINGS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_BARE_CONTAINERS: Final = (list, tuple, dict, set, frozenset)
# Modules that define Python's own containers. The parameters of a user's generic class
# need not be what it contains.
_CONTAINER_MODULES: Final = frozenset({"builtins", "collections", "collections.abc"})
_QUALIFIERS: Final = (
    typing.Annotated, typing.Final, typing_extensions.Required, typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)  # fmt: skip
_VARIABLES: Final = (typing.TypeVar, typing_extensions.TypeVar)
_VARIADIC: Final = (typing.TypeVarTuple, typing_extensions.TypeVarTuple)
# Where Python has `type` statements of its own (3.12), what they make may be of another
# class than what typing-extensions makes.
_ALIASES: Final = (
    typing_extensions.TypeAliasType,
    getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType),
)


class Cause(enum.Enum):
    """Why an annotation does not settle a kind."""

    OPEN = "it may hold values of several kinds"
    ARRAY = "it is a bare array"
    UNHASHABLE = "it holds static data in a form that is not hashable"
    MUTABLE_DATACLASS = "it is static data that may change"
    GUARDED_DATACLASS = "it is static data whose own __setattr__ may refuse changes"
    CONTRACTS = "one State would have to fulfil several contracts"
    CONTAINER = "nodes cannot keep such a container"


class AmbiguousError(Exception):
    """An annotation does not settle a kind; the text says why, and what to write instead.

    Raised by `form_of`. The schema compiler catches it, and adds the field.
    """

    def __init__(self, text: str, cause: Cause = Cause.OPEN) -> None:
        super().__init__(text)
        self.cause = cause


class Leaf(NamedTuple):
    """One class of States or nodes that a form admits, with the contract of its States."""

    cls: type
    contract: Contract | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """The values that a state or subnode field admits.

    Attributes:
        kind: What the leaves are; `None` while only `None` has been read.
        leaves: The classes of States or nodes admitted.
        optional: Whether `None` is.
        list_of: The form of a list's items, if a list is admitted.
        tuple_of: The forms of a tuple's items; a single form for any length.
        dict_of: The form of a dict's values.
        is_open: Whether the annotation said nothing: anything of the kind is admitted,
            at any nesting.
    """

    kind: Kind | None
    leaves: tuple[Leaf, ...] = ()
    optional: bool = False
    list_of: "Form | None" = None
    tuple_of: "Form | tuple[Form, ...] | None" = None
    dict_of: "Form | None" = None
    is_open: bool = False
    classes: tuple[type, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """The classes of the leaves, for `isinstance`."""
    special_first: tuple[Leaf, ...] = dataclasses.field(
        init=False, repr=False, compare=False
    )
    """The leaves with each class before those that it extends: a State is held to the first whose class it is of."""
    all_leaves: tuple[Leaf, ...] = dataclasses.field(
        init=False, repr=False, compare=False
    )
    """The leaves at every depth: those of the items of its containers too."""
    _items: "Mapping[ContainerKind, Form | tuple[Form, ...] | None]" = (
        dataclasses.field(init=False, repr=False, compare=False)
    )
    """What the items of each kind of container are, an open form's included."""

    def __post_init__(self) -> None:
        # Worked out here, as every assignment to a field needs them.
        items: Mapping[ContainerKind, object] = {
            list: self.list_of,
            tuple: self.tuple_of,
            dict: self.dict_of,
        }
        if self.is_open:
            items = dict.fromkeys(items, self)
        all_leaves = list(self.leaves)
        of_tuple = (
            self.tuple_of if isinstance(self.tuple_of, tuple) else (self.tuple_of,)
        )
        for form in (self.list_of, self.dict_of, *of_tuple):
            all_leaves += [] if form is None else form.all_leaves
        # A subclass has a longer MRO than what it extends.
        special_first = sorted(self.leaves, key=lambda leaf: -len(leaf.cls.__mro__))
        object.__setattr__(self, "classes", tuple(leaf.cls for leaf in self.leaves))
        object.__setattr__(self, "special_first", tuple(special_first))
        object.__setattr__(self, "all_leaves", tuple(all_leaves))
        object.__setattr__(self, "_items", items)

    @property
    def is_plain(self) -> bool:
        """Whether every value is one State or node: no `None`, no container."""
        nested = self.list_of or self.dict_of or self.tuple_of is not None
        return not (self.optional or self.is_open or nested)

    @property
    def tuple_length(self) -> int | None:
        """How many items a tuple has; `None` where that is open, or no tuple is admitted."""
        return len(self.tuple_of) if isinstance(self.tuple_of, tuple) else None

    def admits(self, kind: ContainerKind) -> bool:
        """Whether the form admits containers of a kind: `list`, `tuple` or `dict`."""
        return self._items[kind] is not None

    def item(self, kind: ContainerKind, key: Key = 0) -> "Form":
        """The form of an item of a container that the form admits."""
        form = self._items[kind]
        if isinstance(form, tuple):
            return form[int(key)]
        assert form is not None, f"{self} admits no {kind.__name__}"
        return form

    def items(
        self, kind: ContainerKind, pairs: Sequence[tuple[Key, T]]
    ) -> list[tuple[Key, T, "Form"]] | None:
        """Each item of a container with the form of its place: the one way to walk a value along its annotation.

        Args:
            kind: What the container is, or is taken for.
            pairs: The key and the child of each item, as `_containers.items` gives
                them. A child may be what stands for a value, such as its shape.

        Returns:
            Key, child and form of each item; `None` if the form admits no such
            container, or a tuple of another length.
        """
        form = self._items[kind]
        if isinstance(form, Form):
            return [(key, child, form) for key, child in pairs]
        if form is None or len(form) != len(pairs):
            return None
        return [
            (key, child, item_form)
            for (key, child), item_form in zip(pairs, form, strict=True)
        ]

    def __str__(self) -> str:
        return " | ".join(self._alternatives())

    def _alternatives(self) -> list[str]:
        if self.is_open:
            return ["a State" if self.kind is Kind.STATE else "a node"]
        alternatives = [leaf.cls.__name__ for leaf in self.leaves]
        if self.list_of is not None:
            alternatives.append(f"list[{self.list_of}]")
        if isinstance(self.tuple_of, Form):
            alternatives.append(f"tuple[{self.tuple_of}, ...]")
        elif self.tuple_of is not None:
            alternatives.append(f"tuple[{', '.join(map(str, self.tuple_of))}]")
        if self.dict_of is not None:
            alternatives.append(f"dict[str, {self.dict_of}]")
        return alternatives + ["None"] * self.optional


def open_form(kind: Kind) -> Form:
    """The form of a field whose specifier says its kind and whose annotation says nothing."""
    if kind is Kind.STATIC:
        return Form(kind)
    base: type = State if kind is Kind.STATE else NodeBase
    return Form(kind, (Leaf(base),), optional=True, is_open=True)


def moved_form(form: Form, old: type, new: type) -> Form:
    """A form that takes the new definition of a class in place of the old one; the form itself, if it names neither."""
    if all(leaf.cls is not old for leaf in form.all_leaves):
        return form
    tuple_of = form.tuple_of
    if isinstance(tuple_of, tuple):
        tuple_of = tuple([moved_form(item, old, new) for item in tuple_of])
    elif tuple_of is not None:
        tuple_of = moved_form(tuple_of, old, new)
    return dataclasses.replace(
        form,
        leaves=tuple([_moved_leaf(leaf, old, new) for leaf in form.leaves]),
        list_of=form.list_of and moved_form(form.list_of, old, new),
        tuple_of=tuple_of,
        dict_of=form.dict_of and moved_form(form.dict_of, old, new),
    )


def _moved_leaf(leaf: Leaf, old: type, new: type) -> Leaf:
    if leaf.cls is not old:
        return leaf
    # A contract that the annotation does not write is that of the class.
    is_of_class = issubclass(old, State) and leaf.contract == _state_contract(old)
    return Leaf(new, _state_contract(new) if is_of_class else leaf.contract)


def resolve(annotation: object, owner: type, local_names: Mapping[str, Any]) -> object:
    """`annotation` with all strings in it evaluated.

    Args:
        annotation: What stands after the colon, or its text.
        owner: The class that declares it: names are looked up in its body and module.
        local_names: The names of the functions and classes that the owner was defined
            in.

    Raises:
        NameError: A name that does not resolve, which is its `name`.
    """
    parameters = {p.__name__: p for p in getattr(owner, "__type_params__", ())}
    # `get_type_hints` takes a class, not an annotation, and accepts `Final` only there.
    carrier = type("Carrier", (), {"__annotations__": {"field": annotation}})
    local = {**local_names, owner.__name__: owner, **_body_names(owner), **parameters}
    hints = typing_extensions.get_type_hints(
        carrier, _module_names(owner), local, include_extras=True
    )
    return hints["field"]


def _module_names(definition: Any) -> dict[str, Any]:
    """The names of the module that a class, alias or type variable was defined in."""
    return getattr(sys.modules.get(definition.__module__), "__dict__", {})


def specifier_inside(annotation: Any) -> "dataclasses.Field[Any] | None":
    """The first specifier in the metadata that `Annotated` adds to a type, or to a part of one."""
    annotation = unaliased(annotation)
    metadata: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    for fact in metadata:
        if isinstance(fact, dataclasses.Field):
            return fact
    for part in get_args(annotation):
        specifier = specifier_inside(part)
        if specifier is not None:
            return specifier
    return None


def _body_names(owner: type) -> dict[str, Any]:
    """The aliases and classes of a class body, which its annotations see first.

    Not its fields and methods: an annotation `value: value` means the module's type.
    """
    own = own_annotations(owner)
    return {
        name: value
        for name, value in vars(owner).items()
        if not (name in own or is_dunder(name) or hasattr(type(value), "__get__"))
    }


def unaliased(annotation: Any) -> Any:
    """The type that the name of a `type` statement stands for, with its parameters; any other annotation as it is.

    A recursive alias has no end, and becomes `Any`.

    Raises:
        NameError: The type names something that does not exist yet.
    """
    while (alias := _alias_of(annotation)) is not None:
        if _is_recursive(alias):
            return Any
        types_by_variable: dict[Any, Any] = dict(
            zip(alias.__type_params__, get_args(annotation), strict=False)
        )
        annotation = with_parameters(_value_of(alias), types_by_variable)
    return annotation


def _value_of(alias: Any) -> Any:
    return resolve(alias.__value__, type(None), _module_names(alias))


def with_parameters(annotation: Any, types_by_variable: Mapping[Any, Any]) -> Any:
    """An annotation with other types in place of some of its type variables; the same object where it has none."""
    if isinstance(annotation, _VARIABLES):
        return types_by_variable.get(annotation, annotation)
    variables = variables_of(annotation)
    if types_by_variable.keys().isdisjoint(variables):
        return annotation
    # Subscribing takes an argument for each variable: what stays stands for itself.
    arguments = [
        types_by_variable.get(variable, _as_argument(variable))
        for variable in variables
    ]
    return annotation[tuple(arguments)]


def variables_of(annotation: Any) -> tuple[Any, ...]:
    """The type variables of an annotation in the order in which a subscript fills them."""
    if isinstance(annotation, _VARIABLES):
        return (annotation,)
    # The `__parameters__` of a bare class are its own, and no part of the annotation.
    if isinstance(annotation, type):
        return ()
    return getattr(annotation, "__parameters__", ())


def _as_argument(variable: Any) -> Any:
    """A type variable as an argument that leaves it as it is."""
    unpack: Any = typing_extensions.Unpack
    return unpack[variable] if isinstance(variable, _VARIADIC) else variable


def with_defaults(annotation: Any, owner: type) -> Any:
    """An annotation whose type variables are replaced by their defaults, where they have any."""
    defaults = {
        variable: _default_of(variable, owner)
        for variable in variables_of(annotation)
        if _has_default(variable)
    }
    return with_parameters(annotation, defaults)


def type_arguments(
    cls: type, base: type, local_names: Mapping[str, Any]
) -> dict[Any, Any]:
    """The arguments for the type variables of one of a class's direct bases: `class Square(Table[Float[Array, "n"]])`.

    A variable without an argument stands for its default; one that has none, or is
    given `Any`, stays open.

    Args:
        cls: The class.
        base: What it extends.
        local_names: The names of the functions and classes that it was defined in.

    Raises:
        NameError: A type that is written as a string names what does not exist yet.
    """
    bases: Sequence[Any] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    generics = [generic for generic in bases if get_origin(generic) is base]
    types_by_variable = _by_variable(base, get_args(generics[0]) if generics else ())
    for variable, arg in types_by_variable.items():
        if isinstance(variable, _VARIABLES):
            types_by_variable[variable] = resolve(arg, cls, local_names)
    return types_by_variable


def _by_variable(generic: Any, args: Sequence[Any]) -> dict[Any, Any]:
    """The types for the type variables of a generic class: its arguments, then defaults. `Any` counts as none."""
    variables: tuple[Any, ...] = getattr(generic, "__parameters__", ())
    # Behind a variable that takes any number of types, the position of an argument does
    # not show which variable it is for.
    single = list(
        itertools.takewhile(
            lambda variable: not isinstance(variable, _VARIADIC), variables
        )
    )
    types_by_variable: dict[Any, Any] = dict(zip(single, args, strict=False))
    for variable in single[len(args) :]:
        if _has_default(variable):
            # A default may name the variables before it.
            default = _default_of(variable, generic)
            types_by_variable[variable] = with_parameters(default, types_by_variable)
    return {
        variable: arg for variable, arg in types_by_variable.items() if arg is not Any
    }


def type_arguments_along(
    cls: type, base: type, local_names: Mapping[str, Any]
) -> dict[Any, Any]:
    """`type_arguments` for a base that may also be an indirect one."""
    above = next((direct for direct in cls.__bases__ if base in direct.__mro__), base)
    types_by_variable = type_arguments(cls, above, local_names)
    if above is base:
        return types_by_variable
    inner = type_arguments_along(above, base, {})
    return {
        variable: with_parameters(arg, types_by_variable)
        for variable, arg in inner.items()
    }


def _has_default(variable: Any) -> bool:
    default = getattr(variable, "__default__", typing_extensions.NoDefault)
    # `None` stood for no default in the typing_extensions before Python 3.13.
    has_default = default is not typing_extensions.NoDefault and default is not None
    return has_default and isinstance(variable, _VARIABLES)


def _default_of(variable: Any, owner: type) -> Any:
    return resolve(variable.__default__, owner, _module_names(variable))


def open_class(annotation: Any) -> Any:
    """The type variable without a default that an annotation has for a class; `None` if there is none."""
    annotation = _without_qualifiers(annotation)
    if isinstance(annotation, _VARIABLES):
        return None if _has_default(annotation) else annotation
    if get_origin(annotation) in _UNIONS:
        for member in get_args(annotation):
            variable = open_class(member)
            if variable is not None:
                return variable
    return None


def _alias_of(annotation: Any) -> Any:
    """The name of a `type` statement, with or without parameters; `None` for any other annotation."""
    for alias in (annotation, get_origin(annotation)):
        if isinstance(alias, _ALIASES):
            return alias
    return None


def _is_recursive(alias: Any) -> bool:
    """Whether the type that a `type` statement names contains that name."""
    visited: list[Any] = []
    todo = [_value_of(alias)]
    while todo:
        part = todo.pop()
        todo += get_args(part)
        inner = _alias_of(part)
        if inner is alias:
            return True
        if inner is not None and inner not in visited:
            visited.append(inner)
            todo.append(_value_of(inner))
    return False


def form_of(annotation: Any, owner: type) -> Form:
    """The form of the values that a resolved annotation admits; a static one has no leaves.

    Raises:
        AmbiguousError: The annotation does not settle one kind.
        ContractSyntaxError: A jaxtyping axis cannot be read.
    """
    if annotation is None or annotation is type(None):
        return Form(None, optional=True)
    if annotation is Any or annotation is object:
        raise AmbiguousError(f"{_annotation_text(annotation)} may hold anything")
    if annotation in (typing.Self, typing_extensions.Self):
        return Form(Kind.SUBNODE, (Leaf(owner),))
    if isinstance(annotation, typing.NewType):
        return form_of(annotation.__supertype__, owner)
    if isinstance(annotation, _VARIABLES):
        return _variable_form(annotation, owner)
    alias = _alias_of(annotation)
    if alias is None:
        return _type_form(annotation, owner)
    if _is_recursive(alias):
        raise AmbiguousError(
            f"{alias.__name__} contains itself, and may be nested to any depth"
        )
    return form_of(unaliased(annotation), owner)


def _variable_form(variable: Any, owner: type) -> Form:
    if variable.__bound__ is not None:
        bound = resolve(variable.__bound__, owner, _module_names(variable))
        return form_of(bound, owner)
    if variable.__constraints__:
        return _union_form(variable, variable.__constraints__, owner)
    raise AmbiguousError(f"the type variable {variable.__name__} has no bound")


def _type_form(annotation: Any, owner: type) -> Form:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _class_form(annotation)
    if not args and annotation != tuple[()]:
        raise AmbiguousError(
            f"{_annotation_text(annotation)} does not say what it contains"
        )
    return _generic_form(annotation, origin, args, owner)


def _class_form(annotation: Any) -> Form:
    _check_is_class(annotation)
    kind = None if is_jaxtyping(annotation) else match_kind(annotation)
    if kind is None or kind is ARRAY:
        text = _annotation_text(annotation)
        raise AmbiguousError(
            f"{text} is an array: hold it in a State, as ParamState[{text}]",
            Cause.ARRAY,
        )
    if issubclass(annotation, State):
        newest = latest(annotation)
        return Form(Kind.STATE, (Leaf(newest, _state_contract(newest)),))
    if issubclass(annotation, NodeBase):
        return Form(Kind.SUBNODE, (Leaf(latest(annotation)),))
    if annotation in _BARE_CONTAINERS:
        raise AmbiguousError(f"{annotation.__name__} does not say what it contains")
    # A `range` is static, though its kind takes values of any other class, too.
    is_static = kind.is_annotation or annotation is range
    if is_static or _is_frozen_dataclass(annotation) or _is_static_tuple(annotation):
        return Form(Kind.STATIC)
    raise AmbiguousError(
        f"{_annotation_text(annotation)} may hold a node, a State or static data"
    )


def _check_is_class(annotation: Any) -> None:
    if isinstance(annotation, (GraphObject, dataclasses.Field)):
        is_field = isinstance(annotation, dataclasses.Field)
        what = "specifier" if is_field else type(annotation).__name__
        raise AmbiguousError(
            f"this {what} stands where its class belongs: the value comes behind a ="
        )
    if not isinstance(annotation, type):
        raise AmbiguousError(f"{_annotation_text(annotation)} is not a class")


# Any: to mypy, the `__setattr__` of a `type` never is that of `object`.
def _is_frozen_dataclass(cls: Any) -> bool:
    """Whether a class is a frozen dataclass.

    Raises:
        AmbiguousError: It is a dataclass that is not frozen.
    """
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or parameters.frozen:
        return parameters is not None
    is_guarded = cls.__setattr__ is not object.__setattr__
    raise AmbiguousError(
        f"the dataclass {cls.__name__} is not frozen: declare it @dataclass(frozen=True)",
        Cause.GUARDED_DATACLASS if is_guarded else Cause.MUTABLE_DATACLASS,
    )


def _is_static_tuple(cls: type) -> bool:
    """Whether a class is a named tuple that holds static values alone.

    Raises:
        AmbiguousError: It is a named tuple or `TypedDict` that holds States or nodes: a
            node keeps plain tuples and dicts.
    """
    items = _named_items(cls)
    if not items or _contains_itself(cls):
        return False
    texts = [_annotation_text(item) for item in items]
    remedy = f"tuple[{', '.join(texts)}]"
    if typing_extensions.is_typeddict(cls):
        remedy = f"dict[str, {' | '.join(dict.fromkeys(texts))}]"
    _check_no_graph_objects(cls, items, cls, remedy)
    return issubclass(cls, tuple) and all(_is_static(item, cls) for item in items)


def _named_items(cls: type) -> list[Any]:
    """The types of the items of a named tuple or `TypedDict`; empty for other classes, or if one does not resolve."""
    annotations = own_annotations(cls)
    names: tuple[str, ...] = getattr(cls, "_fields", ())
    is_named_tuple = issubclass(cls, tuple) and set(annotations) == set(names)
    if not is_named_tuple and not typing_extensions.is_typeddict(cls):
        return []
    try:
        items = [resolve(annotation, cls, {}) for annotation in annotations.values()]
        return [_without_qualifiers(item) for item in items]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return []


def _contains_itself(cls: type) -> bool:
    """Whether a class with named items is among the types of these, at any depth."""
    visited: list[Any] = []
    todo = _named_items(cls)
    while todo:
        part = unaliased(todo.pop())
        if part is cls:
            return True
        if part not in visited:
            visited.append(part)
            todo += get_args(part)
            todo += _named_items(part) if isinstance(part, type) else []
    return False


def _is_static(annotation: Any, owner: type) -> bool:
    try:
        return form_of(annotation, owner).kind in (Kind.STATIC, None)
    except AmbiguousError:
        return False


def _value_types(annotation: Any) -> list[Any]:
    """The types of the value that a class of States has by its bases, one for each that says it.

    The class may have other type variables than `State`, in another order:

        class Named(Generic[N, T], ParamState[T])    Named[str, Float[Array, "n"]] has Float[Array, "n"]
    """
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is State:
        return list(args)
    types_by_variable = _by_variable(origin, args)
    values: list[Any] = []
    for base in origin.__dict__.get("__orig_bases__", origin.__bases__):
        base_class = get_origin(base) or base
        if isinstance(base_class, type) and issubclass(base_class, State):
            of_base = _value_types(base)
            values += [types_by_variable.get(value, value) for value in of_base]
    return values


def _state_contract(annotation: Any) -> Contract | None:
    """The contract of a class of States: `ParamState[Float[Array, "n"]]`, `class Count(State[Int[Array, ""]])`.

    Raises:
        AmbiguousError: Two of its bases have different ones.
    """
    values = map(_without_qualifiers, _value_types(annotation))
    contracts = dict.fromkeys(map(contract_of, values))
    contracts.pop(None, None)
    if len(contracts) > 1:
        texts = " and ".join(contract.text for contract in contracts if contract)
        raise AmbiguousError(
            f"{_annotation_text(annotation)} has the contracts of several bases, {texts}: derive it from one of them",
            Cause.CONTRACTS,
        )
    return next(iter(contracts), None)


def _without_qualifiers(annotation: Any) -> Any:
    """The type itself: aliases looked up, without `Annotated`, `Final` and the like around it."""
    annotation = unaliased(annotation)
    while get_origin(annotation) in _QUALIFIERS:
        annotation = unaliased(get_args(annotation)[0])
    return annotation


def _generic_form(
    annotation: Any, origin: Any, args: tuple[Any, ...], owner: type
) -> Form:
    if origin in _UNIONS:
        return _union_form(annotation, args, owner)
    if origin in _QUALIFIERS:
        return form_of(args[0], owner)
    if origin in (Literal, type, typing_extensions.Literal):
        return Form(Kind.STATIC)
    if origin is tuple:
        return _tuple_form(annotation, args, owner)
    if origin in _SEQUENCES:
        form = _item_form(annotation, args[0], owner, "tuple[{}, ...]")
        # A `list` admits lists alone; a `Sequence` may also be a tuple.
        tuple_of = form if origin is collections.abc.Sequence else None
        return Form(form.kind, list_of=form, tuple_of=tuple_of)
    if origin in _MAPPINGS:
        return _mapping_form(annotation, args, owner)
    if origin is frozenset:
        _check_no_graph_objects(
            annotation, args, owner, f"list[{_annotation_text(args[0])}]"
        )
        return Form(Kind.STATIC)
    if isinstance(origin, type) and issubclass(origin, State):
        return Form(Kind.STATE, (Leaf(latest(origin), _state_contract(annotation)),))
    if _is_settled_by_class(origin):
        return _class_form(origin)
    if _is_container(origin):
        is_mapping = issubclass(origin, collections.abc.Mapping)
        remedy = "dict[str, {}]" if is_mapping else "list[{}]"
        item = _annotation_text(args[-1])
        _check_no_graph_objects(annotation, args, owner, remedy.format(item))
    raise AmbiguousError(
        f"{_annotation_text(annotation)} may hold a node, a State or static data"
    )


def _is_settled_by_class(origin: Any) -> bool:
    """Whether a generic class says its kind, whatever its parameters are."""
    if not isinstance(origin, type):
        return False
    return issubclass(origin, NodeBase) or match_kind(origin).is_annotation


def _is_container(origin: Any) -> bool:
    """Whether a generic class is one of Python's containers, such as a `deque`."""
    is_pythons = origin.__module__ in _CONTAINER_MODULES
    return is_pythons and issubclass(origin, collections.abc.Iterable)


def _mapping_form(annotation: Any, args: tuple[Any, ...], owner: type) -> Form:
    key, item = args
    if _is_string_type(key):
        form = _item_form(annotation, item, owner, "tuple[tuple[str, {}], ...]")
        return Form(form.kind, dict_of=form)
    _check_no_graph_objects(
        annotation, [item], owner, f"dict[str, {_annotation_text(item)}]"
    )
    raise AmbiguousError(
        f"the keys of {_annotation_text(annotation)} are not strings: write dict[str, ...]"
    )


def _is_string_type(annotation: Any) -> bool:
    """Whether every value of a type is a string: `str` by whatever name, and literals."""
    annotation = _without_qualifiers(annotation)
    if isinstance(annotation, typing.NewType):
        return _is_string_type(annotation.__supertype__)
    if isinstance(annotation, _VARIABLES):
        return _is_string_type(annotation.__bound__)
    origin = get_origin(annotation)
    if origin in (Literal, typing_extensions.Literal):
        # Not `isinstance`: a member of a `StrEnum` is a string, and no key of a path.
        return all(type(value) is str for value in get_args(annotation))
    if origin in _UNIONS:
        return all(map(_is_string_type, get_args(annotation)))
    return annotation in (str, typing.LiteralString, typing_extensions.LiteralString)


def _check_no_graph_objects(
    annotation: Any, items: Sequence[Any], owner: type, remedy: str
) -> None:
    """Raise if a container that nodes cannot keep holds States or nodes.

    Raises:
        AmbiguousError: Gives the line to write.
    """
    if any(_admits_graph_objects(item, owner) for item in items):
        raise AmbiguousError(
            f"a node cannot keep {with_article(_annotation_text(annotation))}: write {remedy}",
            Cause.CONTAINER,
        )


def _admits_graph_objects(annotation: Any, owner: type) -> bool:
    """Whether an annotation is one of States or nodes; not where it is ambiguous."""
    try:
        return form_of(annotation, owner).kind in (Kind.STATE, Kind.SUBNODE)
    except AmbiguousError as error:
        if error.cause in (Cause.CONTRACTS, Cause.CONTAINER):
            raise
        return False


def _item_form(annotation: Any, item: Any, owner: type, remedy: str) -> Form:
    form = form_of(item, owner)
    if form.kind in (Kind.STATIC, None):
        line = remedy.format(_annotation_text(item))
        raise AmbiguousError(
            f"{_annotation_text(annotation)} is not hashable: write {line}",
            Cause.UNHASHABLE,
        )
    return form


def _tuple_form(annotation: Any, args: tuple[Any, ...], owner: type) -> Form:
    items = tuple(form_of(arg, owner) for arg in args if arg is not ...)
    kind = _common_kind(annotation, items)
    if kind in (Kind.STATIC, None):
        return Form(Kind.STATIC)
    return Form(kind, tuple_of=items[0] if ... in args else items)


def _common_kind(annotation: Any, members: Sequence[Form]) -> Kind | None:
    """The kind of all members; `None` where each of them is `None` alone.

    Raises:
        AmbiguousError: They are of several kinds.
    """
    kinds = {member.kind for member in members} - {None}
    if len(kinds) > 1:
        raise AmbiguousError(
            f"{_annotation_text(annotation)} mixes {' and '.join(sorted(map(str, kinds)))}"
        )
    return next(iter(kinds), None)


def _union_form(annotation: Any, args: tuple[Any, ...], owner: type) -> Form:
    # A union is flat: `DTypeLike | None` has the members of `DTypeLike`, one of which
    # is a Protocol that says nothing.
    if set(args) >= _DTYPES:
        args = (np.dtype, *[arg for arg in args if arg not in _DTYPES])
    members = [form_of(arg, owner) for arg in args]
    kind = _common_kind(annotation, members)
    leaves = tuple(dict.fromkeys(leaf for member in members for leaf in member.leaves))
    _check_one_contract(annotation, leaves)
    return Form(
        kind,
        leaves,
        optional=any(member.optional for member in members),
        list_of=_only_form(annotation, [member.list_of for member in members]),
        tuple_of=_only_form(annotation, [member.tuple_of for member in members]),
        dict_of=_only_form(annotation, [member.dict_of for member in members]),
    )


# Any: of a union of types, mypy makes `object`.
def _only_form(annotation: Any, forms: Sequence[Any]) -> Any:
    """The one form among these, or `None`.

    Raises:
        AmbiguousError: There are several: it would depend on the items which one a
            container is of.
    """
    forms = [form for form in forms if form is not None]
    if len(forms) > 1:
        text = f"{_annotation_text(annotation)} has two containers of one type: put the union inside"
        raise AmbiguousError(text, Cause.CONTAINER)
    return forms[0] if forms else None


def _check_one_contract(annotation: Any, leaves: Sequence[Leaf]) -> None:
    """Raise if a State may be of two members of a union whose contracts differ.

    Raises:
        AmbiguousError: Names both contracts.
    """
    for first, second in itertools.combinations(leaves, 2):
        is_related = issubclass(first.cls, second.cls) or issubclass(
            second.cls, first.cls
        )
        # A subclass may have a contract where its base has none.
        is_strict = first.cls is second.cls or (first.contract and second.contract)
        if is_related and is_strict and first.contract != second.contract:
            texts = [
                leaf.contract.text if leaf.contract else "anything"
                for leaf in (first, second)
            ]
            raise AmbiguousError(
                f"{_annotation_text(annotation)} holds one State to {' and '.join(texts)}: write one contract, "
                'with an axis of each size ("n") or any axes ("...")',
                Cause.CONTRACTS,
            )


def _annotation_text(annotation: Any) -> str:
    """How the annotation was most likely written."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if is_jaxtyping(annotation):
            return f'{annotation.dtype.__name__}[Array, "{annotation.dim_str}"]'
        return "Array" if annotation is jax.Array else annotation.__name__
    if annotation is ...:
        return "..."
    origin: Any = get_origin(annotation)
    args = get_args(annotation)
    if origin in _UNIONS:
        return " | ".join(
            "None" if arg is type(None) else _annotation_text(arg) for arg in args
        )
    if isinstance(origin, type) and args and origin is not collections.abc.Callable:
        return f"{origin.__name__}[{', '.join(map(_annotation_text, args))}]"
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")
