"""Annotations without the words around them: names, aliases and type variables are looked up.

"Pair[Linear]" in class A        resolve: tuple[Linear, Linear], for `type Pair[T] = tuple[T, T]`
T in class B(A[Linear])          with_parameters: Linear
"""

import dataclasses
import itertools
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args, get_origin

import typing_extensions

from .._members import is_dunder, own_annotations

UNIONS: Final = (typing.Union, types.UnionType)
QUALIFIERS: Final = (
    typing.Annotated, typing.Final, typing_extensions.Required, typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)  # fmt: skip
VARIABLES: Final = (typing.TypeVar, typing_extensions.TypeVar)


_VARIADIC: Final = (typing.TypeVarTuple, typing_extensions.TypeVarTuple)


# Where Python has `type` statements of its own (3.12), what they make may be of another
# class than what typing-extensions makes.
_ALIASES: Final = (
    typing_extensions.TypeAliasType,
    getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType),
)


def resolve(annotation: object, owner: type, local_names: Mapping[str, Any]) -> object:
    """`annotation` with all strings in it evaluated.

    For all that reads annotations: as strings they say nothing.

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
    # The later ones win: the name of the class means the class itself, and not an
    # earlier definition of it outside.
    local = {**local_names, owner.__name__: owner, **_body_names(owner), **parameters}
    hints = typing_extensions.get_type_hints(
        carrier, module_names(owner), local, include_extras=True
    )
    return hints["field"]


def module_names(definition: Any) -> dict[str, Any]:
    """The names of the module that a class, alias or type variable was defined in.

    Strings in its annotations mean what they mean there.
    """
    return getattr(sys.modules.get(definition.__module__), "__dict__", {})


def specifier_inside(annotation: Any) -> "dataclasses.Field[Any] | None":
    """The first specifier in the metadata that `Annotated` adds to a type, or to a part of one.

    For the error of `_check_no_specifier`: it stands where nothing reads it.
    """
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

    For `resolve`, when an annotation is a string.

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

    For all that looks at what an annotation is: the name of an alias says nothing.

    A recursive alias has no end, and becomes `Any`.

    Raises:
        NameError: The type names something that does not exist yet.
    """
    while (alias := alias_of(annotation)) is not None:
        if is_recursive(alias):
            return Any
        types_by_variable: dict[Any, Any] = dict(
            zip(alias.__type_params__, get_args(annotation), strict=False)
        )
        annotation = with_parameters(_value_of(alias), types_by_variable)
    return annotation


def _value_of(alias: Any) -> Any:
    """The type that stands behind the `=` of a `type` statement, with its strings evaluated.

    For what looks behind the name of an alias: Python works it out only when it is
    asked for.
    """
    return resolve(alias.__value__, type(None), module_names(alias))


def with_parameters(annotation: Any, types_by_variable: Mapping[Any, Any]) -> Any:
    """An annotation with other types in place of some of its type variables; the same object where it has none.

    So that a generic class that is extended with types is checked as if these were
    written in it.
    """
    if isinstance(annotation, VARIABLES):
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
    """The type variables of an annotation in the order in which a subscript fills them.

    For `with_parameters`, which fills them by a subscript.
    """
    if isinstance(annotation, VARIABLES):
        return (annotation,)
    # The `__parameters__` of a bare class are its own, and no part of the annotation.
    if isinstance(annotation, type):
        return ()
    return getattr(annotation, "__parameters__", ())


def _as_argument(variable: Any) -> Any:
    """A type variable as an argument that leaves it as it is.

    For `with_parameters`: a variadic one has to be unpacked to stand among the
    arguments.
    """
    unpack: Any = typing_extensions.Unpack
    return unpack[variable] if isinstance(variable, _VARIADIC) else variable


def with_defaults(annotation: Any, owner: type) -> Any:
    """An annotation whose type variables are replaced by their defaults, where they have any.

    For a field whose class leaves its variable open: the default is what it then means.
    """
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

    For `_narrowed`: fields of the base are declared with its variables.

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
    # In `__orig_bases__` a base still has its arguments, as in `Table[T]`. A subclass
    # inherits the attribute, so it is looked up in the class itself.
    generics = [generic for generic in bases if get_origin(generic) is base]
    types_by_variable = by_variable(base, get_args(generics[0]) if generics else ())
    for variable, arg in types_by_variable.items():
        if isinstance(variable, VARIABLES):
            types_by_variable[variable] = resolve(arg, cls, local_names)
    return types_by_variable


def by_variable(generic: Any, args: Sequence[Any]) -> dict[Any, Any]:
    """The types for the type variables of a generic class: its arguments, then defaults. `Any` counts as none.

    For `type_arguments`, and for the contract in a generic class of States.
    """
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
    """The arguments for the type variables of a base, direct or not, as the classes between pass them on.

    For a field that is declared several classes further up.

    Args:
        cls: The class.
        base: What it extends, at any distance.
        local_names: The names of the functions and classes that it was defined in.
    """
    # One step at a time: each class between may have other variables than its base.
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
    """Whether a type variable for a single type has a default.

    Python's own `TypeVar` has defaults only in later versions.
    """
    default = getattr(variable, "__default__", typing_extensions.NoDefault)
    # `None` stood for no default in the typing_extensions before Python 3.13.
    has_default = default is not typing_extensions.NoDefault and default is not None
    return has_default and isinstance(variable, VARIABLES)


def _default_of(variable: Any, owner: type) -> Any:
    """The default of a type variable, with its strings evaluated where the variable was defined.

    What a class means that gives no type for the variable.
    """
    return resolve(variable.__default__, owner, module_names(variable))


def open_class(annotation: Any) -> Any:
    """The type variable without a default that an annotation has for a class; `None` if there is none.

    For an initializer, which cannot know of which class its State is.
    """
    annotation = without_qualifiers(annotation)
    if isinstance(annotation, VARIABLES):
        return None if _has_default(annotation) else annotation
    if get_origin(annotation) in UNIONS:
        # In `T | None` it is T that is open.
        for member in get_args(annotation):
            variable = open_class(member)
            if variable is not None:
                return variable
    return None


def alias_of(annotation: Any) -> Any:
    """The name of a `type` statement, with or without parameters; `None` for any other annotation.

    For `unaliased`, which then takes what stands behind the name.
    """
    # `Table[int]` is no alias itself, but its origin `Table` is one.
    for alias in (annotation, get_origin(annotation)):
        if isinstance(alias, _ALIASES):
            return alias
    return None


def is_recursive(alias: Any) -> bool:
    """Whether the type that a `type` statement names contains that name.

    For `unaliased`, which would never come to an end.
    """
    visited: list[Any] = []
    todo = [_value_of(alias)]
    while todo:
        part = todo.pop()
        todo += get_args(part)
        inner = alias_of(part)
        if inner is alias:
            return True
        if inner is not None and inner not in visited:
            # It is enough to open each alias once: aliases that contain each other, but
            # not this one, would never end.
            visited.append(inner)
            todo.append(_value_of(inner))
    return False


def without_qualifiers(annotation: Any) -> Any:
    """The type itself: aliases looked up, without `Annotated`, `Final` and the like around it.

    For what asks which class an annotation means.
    """
    annotation = unaliased(annotation)
    while get_origin(annotation) in QUALIFIERS:
        annotation = unaliased(get_args(annotation)[0])
    return annotation
