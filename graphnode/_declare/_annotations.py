"""What a field's annotation says: its kind, and the form of the values that the field admits.

The rule is closed: an annotation whose every member says the same kind gives that kind;
anything else is refused with the line to write. A form reads through `list`, `tuple`,
`dict[str, ...]`, `None`, unions and type variables.
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
# Python's own containers are defined in these; of a class of one's own, parameters need
# not say what it contains.
_OF_CONTAINERS: Final = frozenset({"builtins", "collections", "collections.abc"})
_QUALIFIERS: Final = (
    typing.Annotated, typing.Final, typing_extensions.Required, typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)  # fmt: skip
_VARIABLES: Final = (typing.TypeVar, typing_extensions.TypeVar)
_VARIADIC: Final = (typing.TypeVarTuple, typing_extensions.TypeVarTuple)
# What a `type` statement makes is not always what typing-extensions makes, where Python
# has its own.
_ALIASES: Final = (
    typing_extensions.TypeAliasType,
    getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType),
)


class Cause(enum.Enum):
    """Why an annotation does not settle a kind."""

    OPEN = "it may hold values of several kinds"
    ARRAY = "it is a bare array"
    UNHASHABLE = "it holds static data in a form that is not hashable"
    THAWED = "it is static data that may change"
    GUARDED = "it is static data that may refuse by itself to change"
    CONTRACTS = "one State may be held to several contracts"
    CONTAINER = "no node keeps such a container"


class AmbiguousError(Exception):
    """An annotation does not settle a kind: what it is, and what to write instead."""

    def __init__(self, found: str, cause: Cause = Cause.OPEN) -> None:
        super().__init__(found)
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
        object.__setattr__(self, "classes", tuple(leaf.cls for leaf in self.leaves))
        special_first = sorted(
            self.leaves, key=lambda leaf: len(leaf.cls.__mro__), reverse=True
        )
        object.__setattr__(self, "special_first", tuple(special_first))
        items: Mapping[ContainerKind, object] = {
            list: self.list_of,
            tuple: self.tuple_of,
            dict: self.dict_of,
        }
        object.__setattr__(
            self, "_items", dict.fromkeys(items, self) if self.is_open else items
        )
        of_tuples = (
            (self.tuple_of,) if isinstance(self.tuple_of, Form) else self.tuple_of or ()
        )
        inner = [
            form
            for form in (self.list_of, self.dict_of, *of_tuples)
            if form is not None
        ]
        all_leaves = (
            *self.leaves,
            *[leaf for form in inner for leaf in form.all_leaves],
        )
        object.__setattr__(self, "all_leaves", all_leaves)

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
        found = [leaf.cls.__name__ for leaf in self.leaves]
        if self.list_of is not None:
            found.append(f"list[{self.list_of}]")
        if isinstance(self.tuple_of, Form):
            found.append(f"tuple[{self.tuple_of}, ...]")
        elif self.tuple_of is not None:
            found.append(f"tuple[{', '.join(map(str, self.tuple_of))}]")
        if self.dict_of is not None:
            found.append(f"dict[str, {self.dict_of}]")
        return found + ["None"] * self.optional


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
    # A contract that the annotation has not written is the one of the class.
    is_of_class = issubclass(old, State) and leaf.contract == _state_contract(old)
    return Leaf(new, _state_contract(new) if is_of_class else leaf.contract)


def resolve(annotation: object, owner: type, local_names: Mapping[str, Any]) -> object:
    """`annotation` with all strings in it evaluated.

    Args:
        annotation: What stands after the colon, or its text.
        owner: The class that declares it; its module and its own attributes are looked
            into.
        local_names: The names of the functions and classes that the owner was defined
            in.

    Raises:
        NameError: A name that nothing resolves; its `name` says which.
    """
    module = sys.modules.get(owner.__module__)
    parameters = {p.__name__: p for p in getattr(owner, "__type_params__", ())}
    # A class, in which `Final` may stand
    carrier = type("Carrier", (), {"__annotations__": {"field": annotation}})
    local = {**local_names, owner.__name__: owner, **_body_names(owner), **parameters}
    hints = typing_extensions.get_type_hints(
        carrier, vars(module) if module else {}, local, include_extras=True
    )
    return hints["field"]


def specifier_inside(annotation: Any) -> "dataclasses.Field[Any] | None":
    """The first specifier among the facts that `Annotated` adds to a type, or to a part of one."""
    annotation = unaliased(annotation)
    facts: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    found = next((fact for fact in facts if isinstance(fact, dataclasses.Field)), None)
    inner = (specifier_inside(part) for part in get_args(annotation))
    return found or next(
        (specifier for specifier in inner if specifier is not None), None
    )


def _body_names(owner: type) -> dict[str, Any]:
    """The aliases and classes of a class body, which its annotations see first; fields and methods are no types."""
    own = own_annotations(owner)
    members = {
        name: value
        for name, value in vars(owner).items()
        if name not in own and not is_dunder(name)
    }
    return {
        name: value
        for name, value in members.items()
        if not hasattr(type(value), "__get__")
    }


def unaliased(annotation: Any) -> Any:
    """What the name of a `type` statement stands for, with its parameters; anything else is itself.

    One that leads back to itself has no end, and is given as `Any`.

    Raises:
        NameError: What it stands for names something that does not exist yet.
    """
    while (alias := _alias_of(annotation)) is not None:
        if _leads_back(alias):
            return Any
        written: dict[Any, Any] = dict(
            zip(alias.__type_params__, get_args(annotation), strict=False)
        )
        annotation = with_parameters(_value_of(alias), written)
    return annotation


def _value_of(alias: Any) -> Any:
    names = getattr(sys.modules.get(alias.__module__), "__dict__", {})
    return resolve(alias.__value__, type(None), names)


def with_parameters(annotation: Any, written: Mapping[Any, Any]) -> Any:
    """An annotation with other types in place of some of its type variables; the same object where it has none."""
    if isinstance(annotation, _VARIABLES):
        return written.get(annotation, annotation)
    variables = variables_of(annotation)
    if written.keys().isdisjoint(variables):
        return annotation
    generic: Any = annotation
    return generic[
        tuple([written.get(variable, _itself(variable)) for variable in variables])
    ]


def variables_of(annotation: Any) -> tuple[Any, ...]:
    """The type variables of an annotation in the order in which a subscript fills them."""
    if isinstance(annotation, _VARIABLES):
        return (annotation,)
    # Those of an alias stand in the order of its text. Of a bare class, they are the
    # class's own.
    return (
        ()
        if isinstance(annotation, type)
        else getattr(annotation, "__parameters__", ())
    )


def _itself(variable: Any) -> Any:
    """A type variable as an argument that leaves it as it is."""
    unpack: Any = typing_extensions.Unpack
    return unpack[variable] if isinstance(variable, _VARIADIC) else variable


def with_defaults(annotation: Any, owner: type) -> Any:
    """An annotation with their defaults in place of the type variables that have some."""
    variables = variables_of(annotation)
    return with_parameters(
        annotation,
        {one: _default_of(one, owner) for one in variables if _has_default(one)},
    )


def type_arguments(
    cls: type, base: type, local_names: Mapping[str, Any]
) -> dict[Any, Any]:
    """What a class says for the type variables of one of its direct bases: `class Square(Table[Float[Array, "n n"]])`.

    A variable that it leaves out stands for its default; one without, or with `Any`,
    stays open.

    Args:
        cls: The class.
        base: What it extends.
        local_names: The names of the functions and classes that it was defined in.

    Raises:
        NameError: A type that is written as a text names what does not exist yet.
    """
    written: Sequence[Any] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    args = next((get_args(one) for one in written if get_origin(one) is base), ())
    return {
        variable: resolve(arg, cls, local_names)
        if isinstance(variable, _VARIABLES)
        else arg
        for variable, arg in _by_variable(base, args).items()
    }


def _by_variable(generic: Any, args: Sequence[Any]) -> dict[Any, Any]:
    """What stands for the type variables of a generic class: the arguments, and defaults behind them."""
    variables: tuple[Any, ...] = getattr(generic, "__parameters__", ())
    # From the first one that takes any number of types, an argument does not say by its
    # position which it is for.
    single = list(
        itertools.takewhile(
            lambda variable: not isinstance(variable, _VARIADIC), variables
        )
    )
    written: dict[Any, Any] = dict(zip(single, args, strict=False))
    for variable in single[len(args) :]:
        if _has_default(variable):  # which may name those before
            written[variable] = with_parameters(_default_of(variable, generic), written)
    # Which says nothing
    return {variable: arg for variable, arg in written.items() if arg is not Any}


def type_arguments_along(
    cls: type, base: type, local_names: Mapping[str, Any]
) -> dict[Any, Any]:
    """What a class, and those between, say for the type variables of a base that is not a direct one.

    For the arguments, see `type_arguments`.

    Raises:
        NameError: As there.
    """
    above = next((one for one in cls.__bases__ if base in one.__mro__), base)
    types_by_variable = type_arguments(cls, above, local_names)
    if above is base:
        return types_by_variable
    inner = type_arguments_along(above, base, {})
    return {
        variable: with_parameters(said, types_by_variable)
        for variable, said in inner.items()
    }


def _has_default(variable: Any) -> bool:
    default = getattr(variable, "__default__", typing_extensions.NoDefault)
    # Before Python 3.13, `typing_extensions` said `None` for none.
    return (
        isinstance(variable, _VARIABLES)
        and default is not typing_extensions.NoDefault
        and default is not None
    )


def _default_of(variable: Any, owner: type) -> Any:
    names = getattr(sys.modules.get(variable.__module__), "__dict__", {})
    return resolve(variable.__default__, owner, names)


def open_class(annotation: Any) -> Any:
    """The type variable that stands in an annotation for a class which nothing says; `None` if there is none."""
    annotation = _without_qualifiers(annotation)
    if isinstance(annotation, _VARIABLES):
        return None if _has_default(annotation) else annotation
    members = get_args(annotation) if get_origin(annotation) in _UNIONS else ()
    return next(
        (variable for variable in map(open_class, members) if variable is not None),
        None,
    )


def _alias_of(annotation: Any) -> Any:
    """The name of a `type` statement, also of one with parameters; `None` where an annotation is no such name."""
    candidates = (annotation, get_origin(annotation))
    return next((one for one in candidates if isinstance(one, _ALIASES)), None)


def _leads_back(alias: Any) -> bool:
    """Whether what a `type` statement says contains its own name."""
    known: list[Any] = []
    waiting = [_value_of(alias)]
    while waiting:
        part = waiting.pop()
        waiting += get_args(part)
        inner = _alias_of(part)
        if inner is alias:
            return True
        if inner is not None and inner not in known:
            known.append(inner)
            waiting.append(_value_of(inner))
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
        raise AmbiguousError(f"{_text(annotation)} may hold anything")
    if annotation in (typing.Self, typing_extensions.Self):
        return Form(Kind.SUBNODE, (Leaf(owner),))
    if isinstance(annotation, typing.NewType):
        return form_of(annotation.__supertype__, owner)
    if isinstance(annotation, _VARIABLES):
        return _variable_form(annotation, owner)
    alias = _alias_of(annotation)
    if alias is not None:
        if _leads_back(alias):
            raise AmbiguousError(
                f"{alias.__name__} contains itself, and may be nested to any depth"
            )
        return form_of(unaliased(annotation), owner)
    origin = get_origin(annotation)
    if origin is None:
        return _class_form(annotation)
    if not get_args(annotation) and annotation != tuple[()]:
        raise AmbiguousError(f"{_text(annotation)} does not say what it contains")
    return _generic_form(annotation, origin, get_args(annotation), owner)


def _variable_form(variable: Any, owner: type) -> Form:
    if variable.__bound__ is not None:
        bound = variable.__bound__
        names = getattr(sys.modules.get(variable.__module__), "__dict__", {})
        return form_of(resolve(bound, owner, names), owner)
    if variable.__constraints__:
        return _union_form(variable, variable.__constraints__, owner)
    raise AmbiguousError(f"the type variable {variable.__name__} has no bound")


def _class_form(annotation: Any) -> Form:
    if isinstance(annotation, (GraphObject, dataclasses.Field)):
        what = (
            type(annotation).__name__
            if isinstance(annotation, GraphObject)
            else "specifier"
        )
        raise AmbiguousError(
            f"this {what} stands where its class belongs: the value comes behind a ="
        )
    if not isinstance(annotation, type):
        raise AmbiguousError(f"{_text(annotation)} is not a class")
    kind = None if is_jaxtyping(annotation) else match_kind(annotation)
    if kind is None or kind is ARRAY:
        text = _text(annotation)
        raise AmbiguousError(
            f"{text} is an array: hold it in a State, as ParamState[{text}]",
            Cause.ARRAY,
        )
    if issubclass(annotation, State):
        newest = latest(annotation)
        return Form(Kind.STATE, (Leaf(newest, _state_contract(newest)),))
    if issubclass(annotation, NodeBase):
        return Form(Kind.SUBNODE, (Leaf(latest(annotation)),))
    if annotation in (list, tuple, dict, set, frozenset):
        raise AmbiguousError(f"{annotation.__name__} does not say what it contains")
    if kind.is_annotation or annotation is range:
        return Form(Kind.STATIC)
    parameters = getattr(annotation, "__dataclass_params__", None)
    if parameters is not None and parameters.frozen:
        return Form(Kind.STATIC)
    if parameters is not None:
        cause = (
            Cause.THAWED
            if annotation.__setattr__ is object.__setattr__
            else Cause.GUARDED
        )
        raise AmbiguousError(
            f"the dataclass {annotation.__name__} is not frozen: declare it @dataclass(frozen=True)",
            cause,
        )
    items = _named_items(annotation)
    if items and not _is_in_itself(annotation):
        _check_named_items(annotation, items)
        if issubclass(annotation, tuple) and all(
            _says_static(item, annotation) for item in items
        ):
            return Form(Kind.STATIC)
    raise AmbiguousError(f"{_text(annotation)} may hold a node, a State or static data")


def _named_items(cls: type) -> list[Any]:
    """The types of the items of a named tuple, or of a dict of certain keys; none where nothing says what it holds."""
    annotations = own_annotations(cls)
    names: tuple[str, ...] = getattr(cls, "_fields", ())
    is_named_tuple = issubclass(cls, tuple) and set(annotations) == set(names)
    if not is_named_tuple and not typing_extensions.is_typeddict(cls):
        return []
    try:
        return [
            _without_qualifiers(resolve(written, cls, {}))
            for written in annotations.values()
        ]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return []


def _is_in_itself(cls: type) -> bool:
    """Whether a class with named items has itself among what they hold, at any depth."""
    known: list[Any] = []
    waiting = _named_items(cls)
    while waiting:
        part = unaliased(waiting.pop())
        if part is cls:
            return True
        if part not in known:
            known.append(part)
            waiting += get_args(part)
            waiting += _named_items(part) if isinstance(part, type) else []
    return False


def _says_static(annotation: Any, owner: type) -> bool:
    try:
        return form_of(annotation, owner).kind in (Kind.STATIC, None)
    except AmbiguousError:
        return False


def _check_named_items(cls: type, items: Sequence[Any]) -> None:
    """Raise if a named tuple or a dict of certain keys holds States or nodes: a node keeps a plain one.

    Raises:
        AmbiguousError: Gives the line to write.
    """
    is_dict = typing_extensions.is_typeddict(cls)
    texts = [_text(item) for item in items]
    union = " | ".join(dict.fromkeys(texts))
    _check_items(
        cls,
        items,
        cls,
        f"dict[str, {union}]" if is_dict else f"tuple[{', '.join(texts)}]",
    )


def _value_types(annotation: Any) -> list[Any]:
    """What a class of States, or one with its parameters, says that the value is: by each of its bases that says so.

    The parameters of a class of one's own may be others than those of `State`, or stand
    in another order.
    """
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is State:
        return list(args)
    written = _by_variable(origin, args)
    values: list[Any] = []
    for base in origin.__dict__.get("__orig_bases__", origin.__bases__):
        base_class = get_origin(base) or base
        if isinstance(base_class, type) and issubclass(base_class, State):
            values += [written.get(value, value) for value in _value_types(base)]
    return values


def _state_contract(annotation: Any) -> Contract | None:
    """The contract of a class of States: `ParamState[Float[Array, "n"]]`, `class Count(State[Int[Array, ""]])`.

    Raises:
        AmbiguousError: Two of its bases have different ones.
    """
    read = [
        contract_of(_without_qualifiers(value)) for value in _value_types(annotation)
    ]
    contracts = list(
        dict.fromkeys(contract for contract in read if contract is not None)
    )
    if len(contracts) > 1:
        texts = " and ".join(contract.text for contract in contracts)
        raise AmbiguousError(
            f"{_text(annotation)} has the contracts of several bases, {texts}: derive it from one of them",
            Cause.CONTRACTS,
        )
    return contracts[0] if contracts else None


def _without_qualifiers(annotation: Any) -> Any:
    """The type itself, by whatever name, without what `Annotated` says beside it."""
    annotation = unaliased(annotation)
    return (
        _without_qualifiers(get_args(annotation)[0])
        if get_origin(annotation) in _QUALIFIERS
        else annotation
    )


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
        sequence = form if origin is collections.abc.Sequence else None
        return Form(form.kind, list_of=form, tuple_of=sequence)
    if origin in _MAPPINGS:
        if not _is_text_type(args[0]):
            _check_items(annotation, args[1:], owner, f"dict[str, {_text(args[1])}]")
            raise AmbiguousError(
                f"the keys of {_text(annotation)} are not strings: write dict[str, ...]"
            )
        form = _item_form(annotation, args[1], owner, "tuple[tuple[str, {}], ...]")
        return Form(form.kind, dict_of=form)
    if origin is frozenset:
        _check_items(annotation, args, owner, f"list[{_text(args[0])}]")
        return Form(Kind.STATIC)
    if isinstance(origin, type) and issubclass(origin, State):
        return Form(Kind.STATE, (Leaf(latest(origin), _state_contract(annotation)),))
    if isinstance(origin, type) and (
        issubclass(origin, NodeBase) or match_kind(origin).is_annotation
    ):
        return _class_form(origin)
    if origin.__module__ in _OF_CONTAINERS and issubclass(
        origin, collections.abc.Iterable
    ):
        kept = (
            "dict[str, {}]"
            if issubclass(origin, collections.abc.Mapping)
            else "list[{}]"
        )
        _check_items(annotation, args, owner, kept.format(_text(args[-1])))
    raise AmbiguousError(f"{_text(annotation)} may hold a node, a State or static data")


def _is_text_type(annotation: Any) -> bool:
    """Whether every value of a type is a string: `str` by whatever name, and some strings."""
    annotation = _without_qualifiers(annotation)
    if isinstance(annotation, typing.NewType):
        return _is_text_type(annotation.__supertype__)
    if isinstance(annotation, _VARIABLES):
        return _is_text_type(annotation.__bound__)
    origin = get_origin(annotation)
    if origin in (Literal, typing_extensions.Literal):
        # No members of an enum
        return all(type(value) is str for value in get_args(annotation))
    if origin in _UNIONS:
        return all(map(_is_text_type, get_args(annotation)))
    return annotation in (str, typing.LiteralString, typing_extensions.LiteralString)


def _check_items(
    annotation: Any, items: Sequence[Any], owner: type, remedy: str
) -> None:
    """Raise if what a container holds are States or nodes, and it is of a kind that no node keeps.

    Raises:
        AmbiguousError: Gives the line to write.
    """
    if any(_says_graph_object(item, owner) for item in items):
        raise AmbiguousError(
            f"no node keeps {with_article(_text(annotation))}: write {remedy}",
            Cause.CONTAINER,
        )


def _says_graph_object(annotation: Any, owner: type) -> bool:
    """Whether an annotation admits States or nodes, and settles it."""
    try:
        return form_of(annotation, owner).kind in (Kind.STATE, Kind.SUBNODE)
    except AmbiguousError as error:
        if error.cause in (Cause.CONTRACTS, Cause.CONTAINER):
            raise
        return False


def _item_form(annotation: Any, item: Any, owner: type, frozen: str) -> Form:
    form = form_of(item, owner)
    if form.kind in (Kind.STATIC, None):
        found = (
            f"{_text(annotation)} is not hashable: write {frozen.format(_text(item))}"
        )
        raise AmbiguousError(found, Cause.UNHASHABLE)
    return form


def _tuple_form(annotation: Any, args: tuple[Any, ...], owner: type) -> Form:
    items = tuple(form_of(arg, owner) for arg in args if arg is not ...)
    kinds = {item.kind for item in items} - {None}
    if len(kinds) > 1:
        raise AmbiguousError(
            f"{_text(annotation)} mixes {' and '.join(sorted(map(str, kinds)))}"
        )
    if kinds <= {Kind.STATIC}:
        return Form(Kind.STATIC)
    return Form(kinds.pop(), tuple_of=items[0] if ... in args else items)


def _union_form(annotation: Any, args: tuple[Any, ...], owner: type) -> Form:
    # `DTypeLike | None` comes flattened, and one of its members is a Protocol
    if set(args) >= _DTYPES:
        args = (np.dtype, *[arg for arg in args if arg not in _DTYPES])
    members = [form_of(arg, owner) for arg in args]
    kinds = {member.kind for member in members} - {None}
    if len(kinds) > 1:
        raise AmbiguousError(
            f"{_text(annotation)} mixes {' and '.join(sorted(map(str, kinds)))}"
        )

    def only(choices: list[Any]) -> Any:
        found = [choice for choice in choices if choice is not None]
        if len(found) > 1:
            text = f"{_text(annotation)} has two containers of one type: put the union inside"
            raise AmbiguousError(text, Cause.CONTAINER)
        return found[0] if found else None

    leaves = tuple(dict.fromkeys(leaf for member in members for leaf in member.leaves))
    _check_one_contract(annotation, leaves)
    return Form(
        kinds.pop() if kinds else None,
        leaves,
        optional=any(member.optional for member in members),
        list_of=only([member.list_of for member in members]),
        tuple_of=only([member.tuple_of for member in members]),
        dict_of=only([member.dict_of for member in members]),
    )


def _check_one_contract(annotation: Any, leaves: Sequence[Leaf]) -> None:
    """Raise if a State may be of two members of a union that ask different things of its value.

    Raises:
        AmbiguousError: Names both contracts.
    """
    for first, second in itertools.combinations(leaves, 2):
        is_one_class = issubclass(first.cls, second.cls) or issubclass(
            second.cls, first.cls
        )
        # Of two classes, the special one may ask for something where the other takes
        # anything.
        is_split = first.cls is second.cls or (first.contract and second.contract)
        if is_one_class and is_split and first.contract != second.contract:
            texts = " and ".join(
                leaf.contract.text if leaf.contract else "anything"
                for leaf in (first, second)
            )
            raise AmbiguousError(
                f"{_text(annotation)} holds one State to {texts}: write one contract, with an axis of each size "
                '("n") or any axes ("...")',
                Cause.CONTRACTS,
            )


def _text(annotation: Any) -> str:
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
        return " | ".join("None" if arg is type(None) else _text(arg) for arg in args)
    if isinstance(origin, type) and args and origin is not collections.abc.Callable:
        return f"{origin.__name__}[{', '.join(map(_text, args))}]"
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")
