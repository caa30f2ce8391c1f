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
import itertools
import typing
from collections.abc import Sequence
from typing import Any, Final, Literal, get_args, get_origin

import jax
import numpy as np
import typing_extensions

from .._contract import Contract, contract_of, is_jaxtyping
from .._fields import Kind, NodeBase
from .._hints import with_article
from .._members import own_annotations
from .._redefinition import latest
from .._state import State
from .._static import ARRAY, GraphObject, match_kind
from ._forms import AmbiguousError, Cause, Form, Leaf
from ._type_arguments import (
    QUALIFIERS,
    UNIONS,
    VARIABLES,
    alias_of,
    by_variable,
    is_recursive,
    module_names,
    resolve,
    unaliased,
    without_qualifiers,
)

_DTYPES: Final = frozenset(get_args(jax.typing.DTypeLike))


_SEQUENCES: Final = (list, collections.abc.Sequence, collections.abc.MutableSequence)


_MAPPINGS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


_BARE_CONTAINERS: Final = (list, tuple, dict, set, frozenset)


# Modules that define Python's own containers. The parameters of a user's generic class
# need not be what it contains.
_CONTAINER_MODULES: Final = frozenset({"builtins", "collections", "collections.abc"})


def form_of(annotation: Any, owner: type) -> Form:
    """The form of the values that a resolved annotation admits; a static one has no leaves.

    For `_kind_of`, and for the checks of a class body.

    Raises:
        AmbiguousError: The annotation does not settle one kind.
        ContractSyntaxError: A jaxtyping axis cannot be read.
    """
    # No kind yet: in a union, the other members say it.
    if annotation is None or annotation is type(None):
        return Form(None, optional=True)
    if annotation is Any or annotation is object:
        raise AmbiguousError(f"{_annotation_text(annotation)} may hold anything")
    # Wider than the `Self` of Python: a subclass inherits the field with this form,
    # which admits nodes of the owner.
    if annotation in (typing.Self, typing_extensions.Self):
        return Form(Kind.SUBNODE, (Leaf(owner),))
    if isinstance(annotation, typing.NewType):
        return form_of(annotation.__supertype__, owner)
    if isinstance(annotation, VARIABLES):
        return _variable_form(annotation, owner)
    alias = alias_of(annotation)
    if alias is None:
        return _type_form(annotation, owner)
    if is_recursive(alias):
        raise AmbiguousError(
            f"{alias.__name__} contains itself, and may be nested to any depth"
        )
    return form_of(unaliased(annotation), owner)


def _variable_form(variable: Any, owner: type) -> Form:
    """The form of a type variable: that of its bound, or of the union of its constraints.

    For `form_of`: a field `x: T` takes what T may stand for.
    """
    # A default is not looked at here: a State that is passed in may be of any class
    # that the bound admits.
    if variable.__bound__ is not None:
        bound = resolve(variable.__bound__, owner, module_names(variable))
        return form_of(bound, owner)
    if variable.__constraints__:
        return _union_form(variable, variable.__constraints__, owner)
    raise AmbiguousError(f"the type variable {variable.__name__} has no bound")


def _type_form(annotation: Any, owner: type) -> Form:
    """The form of a type that is no alias or type variable: a class, or a generic with arguments.

    For `form_of`, which has looked up all names by then.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _class_form(annotation)
    # `tuple[()]` says that there are no items; a bare `typing.List` says nothing.
    if not args and annotation != tuple[()]:
        raise AmbiguousError(
            f"{_annotation_text(annotation)} does not say what it contains"
        )
    return _generic_form(annotation, origin, args, owner)


def _class_form(annotation: Any) -> Form:
    """The form of a class without arguments, such as `int`, `Linear` or `Float[Array, "n"]`.

    For `form_of`: here the walk through an annotation ends, and the kind of a field is
    decided.
    """
    # Before `match_kind`, which takes classes only.
    _check_is_class(annotation)
    kind = None if is_jaxtyping(annotation) else match_kind(annotation)
    if kind is None or kind is ARRAY:
        text = _annotation_text(annotation)
        raise AmbiguousError(
            f"{text} is an array: hold it in a State, as ParamState[{text}]",
            Cause.ARRAY,
        )
    if issubclass(annotation, State):
        # A notebook may have defined the class again since: the old one stands in the
        # annotation where it was imported by name.
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
    """Raise if an object stands where a class belongs: a node, a State, a specifier, any other value.

    For `_class_form`: a mistake such as `field: gn.state()`.
    """
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

    For `_class_form`: a frozen one is static, as it has a hash and does not change.

    Raises:
        AmbiguousError: It is a dataclass that is not frozen.
    """
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or parameters.frozen:
        return parameters is not None
    # Such a class may refuse changes without `frozen=True`, so the field may be
    # declared static.
    is_guarded = cls.__setattr__ is not object.__setattr__
    raise AmbiguousError(
        f"the dataclass {cls.__name__} is not frozen: declare it @dataclass(frozen=True)",
        Cause.GUARDED_DATACLASS if is_guarded else Cause.MUTABLE_DATACLASS,
    )


def _is_static_tuple(cls: type) -> bool:
    """Whether a class is a named tuple that holds static values alone.

    For `_class_form`: it is hashable, if its items are.

    Raises:
        AmbiguousError: It is a named tuple or `TypedDict` that holds States or nodes: a
            node keeps plain tuples and dicts.
    """
    items = _named_items(cls)
    # A class that contains itself has no finite form: `form_of` would never return.
    if not items or _contains_itself(cls):
        return False
    texts = [_annotation_text(item) for item in items]
    remedy = f"tuple[{', '.join(texts)}]"
    if typing_extensions.is_typeddict(cls):
        remedy = f"dict[str, {' | '.join(dict.fromkeys(texts))}]"
    _check_no_graph_objects(cls, items, cls, remedy)
    return issubclass(cls, tuple) and all(_is_static(item, cls) for item in items)


def _named_items(cls: type) -> list[Any]:
    """The types of the items of a named tuple or `TypedDict`; empty for other classes, or if one does not resolve.

    By them a named tuple is static, or is refused as it holds nodes.
    """
    annotations = own_annotations(cls)
    names: tuple[str, ...] = getattr(cls, "_fields", ())
    # A subclass of a named tuple inherits `_fields`, but not the annotations.
    is_named_tuple = issubclass(cls, tuple) and set(annotations) == set(names)
    if not is_named_tuple and not typing_extensions.is_typeddict(cls):
        return []
    try:
        items = [resolve(annotation, cls, {}) for annotation in annotations.values()]
        return [without_qualifiers(item) for item in items]
    # The name may exist later. A class is not refused for that: without items, it
    # counts as one of which nothing is known.
    except (NameError, TypeError, AttributeError, SyntaxError):
        return []


def _contains_itself(cls: type) -> bool:
    """Whether a class with named items is among the types of these, at any depth.

    For `_is_static_tuple`, which would follow its items without end.
    """
    visited: list[Any] = []
    todo = _named_items(cls)
    while todo:
        part = unaliased(todo.pop())
        if part is cls:
            return True
        # A list and `in`: parts of annotations need not be hashable.
        if part not in visited:
            visited.append(part)
            todo += get_args(part)
            todo += _named_items(part) if isinstance(part, type) else []
    return False


def _is_static(annotation: Any, owner: type) -> bool:
    """Whether an annotation is one of static values alone; not where it is ambiguous.

    For the items of a named tuple: if all are static, it is.
    """
    try:
        return form_of(annotation, owner).kind in (Kind.STATIC, None)
    except AmbiguousError:
        return False


def _value_types(annotation: Any) -> list[Any]:
    """The types of the value that a class of States has by its bases, one for each that says it.

    For the contract of a State: it is written in the type of its value, perhaps several
    bases up.

    The class may have other type variables than `State`, in another order:

        class Named(Generic[N, T], ParamState[T])    Named[str, Float[Array, "n"]] has Float[Array, "n"]
    """
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin is State:
        return list(args)
    types_by_variable = by_variable(origin, args)
    values: list[Any] = []
    for base in origin.__dict__.get("__orig_bases__", origin.__bases__):
        base_class = get_origin(base) or base
        if isinstance(base_class, type) and issubclass(base_class, State):
            of_base = _value_types(base)
            values += [types_by_variable.get(value, value) for value in of_base]
    return values


def _state_contract(annotation: Any) -> Contract | None:
    """The contract of a class of States: `ParamState[Float[Array, "n"]]`, `class Count(State[Int[Array, ""]])`.

    For the leaf of a class of States.

    Raises:
        AmbiguousError: Two of its bases have different ones.
    """
    values = map(without_qualifiers, _value_types(annotation))
    # A dict for a set that keeps the order of the bases, in which the text names them.
    contracts = dict.fromkeys(map(contract_of, values))
    contracts.pop(None, None)
    if len(contracts) > 1:
        texts = " and ".join(contract.text for contract in contracts if contract)
        raise AmbiguousError(
            f"{_annotation_text(annotation)} has the contracts of several bases, {texts}: derive it from one of them",
            Cause.CONTRACTS,
        )
    return next(iter(contracts), None)


def _generic_form(
    annotation: Any, origin: Any, args: tuple[Any, ...], owner: type
) -> Form:
    """The form of a type with arguments, such as `Linear | None`, `list[Linear]` or `ParamState[T]`.

    For `form_of`, for all that has brackets or `|`.

    Args:
        annotation: The type, for the texts of errors.
        origin: What stands before the brackets; for a union, the union type.
        args: What stands in the brackets, or the members of the union.
        owner: The class that declares the field.
    """
    if origin in UNIONS:
        return _union_form(annotation, args, owner)
    if origin in QUALIFIERS:
        return form_of(args[0], owner)
    # Also a `type[Linear]`: the class itself is static, whatever its instances are.
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
    # Its own type arguments say nothing about the field: `Table[int]` is a node like
    # `Table`.
    if _is_settled_by_class(origin):
        return _class_form(origin)
    if _is_container(origin):
        is_mapping = issubclass(origin, collections.abc.Mapping)
        remedy = "dict[str, {}]" if is_mapping else "list[{}]"
        item = _annotation_text(args[-1])
        # What holds nodes gets the line to write; any other container ends in the
        # general error below.
        _check_no_graph_objects(annotation, args, owner, remedy.format(item))
    raise AmbiguousError(
        f"{_annotation_text(annotation)} may hold a node, a State or static data"
    )


def _is_settled_by_class(origin: Any) -> bool:
    """Whether a generic class says its kind, whatever its parameters are.

    For `_generic_form`, which then leaves the arguments alone.
    """
    if not isinstance(origin, type):
        return False
    return issubclass(origin, NodeBase) or match_kind(origin).is_annotation


def _is_container(origin: Any) -> bool:
    """Whether a generic class is one of Python's containers, such as a `deque`.

    For `_generic_form`, to say which of our containers to write instead.
    """
    is_pythons = origin.__module__ in _CONTAINER_MODULES
    return is_pythons and issubclass(origin, collections.abc.Iterable)


def _mapping_form(annotation: Any, args: tuple[Any, ...], owner: type) -> Form:
    """The form of a mapping type: of a dict with string keys that holds States or nodes.

    For `_generic_form`: keys become parts of paths.

    Args:
        annotation: The type, for the texts of errors.
        args: The types of the keys and of the values.
        owner: The class that declares the field.
    """
    key, item = args
    if _is_string_type(key):
        form = _item_form(annotation, item, owner, "tuple[tuple[str, {}], ...]")
        return Form(form.kind, dict_of=form)
    _check_no_graph_objects(
        annotation, [item], owner, f"dict[str, {_annotation_text(item)}]"
    )
    # After the check: if the values are nodes, a `dict` is the remedy, and not only
    # other keys.
    raise AmbiguousError(
        f"the keys of {_annotation_text(annotation)} are not strings: write dict[str, ...]"
    )


def _is_string_type(annotation: Any) -> bool:
    """Whether every value of a type is a string: `str` by whatever name, and literals.

    For `_mapping_form`: paths and files need keys that are strings.
    """
    annotation = without_qualifiers(annotation)
    if isinstance(annotation, typing.NewType):
        return _is_string_type(annotation.__supertype__)
    # Without a bound this asks about `None`, which is no string.
    if isinstance(annotation, VARIABLES):
        return _is_string_type(annotation.__bound__)
    origin = get_origin(annotation)
    if origin in (Literal, typing_extensions.Literal):
        # Not `isinstance`: a member of a `StrEnum` is a string, and no key of a path.
        return all(type(value) is str for value in get_args(annotation))
    if origin in UNIONS:
        return all(map(_is_string_type, get_args(annotation)))
    return annotation in (str, typing.LiteralString, typing_extensions.LiteralString)


def _check_no_graph_objects(
    annotation: Any, items: Sequence[Any], owner: type, remedy: str
) -> None:
    """Raise if a container that nodes cannot keep holds States or nodes.

    They would be missed by every walk.

    Raises:
        AmbiguousError: Gives the line to write.
    """
    if any(_admits_graph_objects(item, owner) for item in items):
        raise AmbiguousError(
            f"a node cannot keep {with_article(_annotation_text(annotation))}: write {remedy}",
            Cause.CONTAINER,
        )


def _admits_graph_objects(annotation: Any, owner: type) -> bool:
    """Whether an annotation is one of States or nodes; not where it is ambiguous.

    For the items of containers that nodes cannot keep, such as a `set`: with static
    items these get another error.
    """
    try:
        return form_of(annotation, owner).kind in (Kind.STATE, Kind.SUBNODE)
    except AmbiguousError as error:
        # These two causes are found only in what holds States or nodes, and their texts
        # say more.
        if error.cause in (Cause.CONTRACTS, Cause.CONTAINER):
            raise
        return False


def _item_form(annotation: Any, item: Any, owner: type, remedy: str) -> Form:
    """The form of the items of a list or dict, which are States or nodes: other data belongs in a tuple.

    For fields such as `list[Linear]`. A list of numbers could change unseen, and is
    refused with what to write.

    Args:
        annotation: The type of the container, for the texts of errors.
        item: The type of an item.
        owner: The class that declares the field.
        remedy: The hashable type to write instead, with {} for the type of an item.
    """
    form = form_of(item, owner)
    if form.kind in (Kind.STATIC, None):
        line = remedy.format(_annotation_text(item))
        raise AmbiguousError(
            f"{_annotation_text(annotation)} is not hashable: write {line}",
            Cause.UNHASHABLE,
        )
    return form


def _tuple_form(annotation: Any, args: tuple[Any, ...], owner: type) -> Form:
    """The form of a tuple type: static if all items are, as a tuple of static values is hashable.

    For fields such as `tuple[int, ...]`, and for tuples of States or nodes.
    """
    # The `...` of `tuple[A, ...]` is no item.
    items = tuple(form_of(arg, owner) for arg in args if arg is not ...)
    kind = _common_kind(annotation, items)
    if kind in (Kind.STATIC, None):
        return Form(Kind.STATIC)
    return Form(kind, tuple_of=items[0] if ... in args else items)


def _common_kind(annotation: Any, members: Sequence[Form]) -> Kind | None:
    """The kind of all members; `None` where each of them is `None` alone.

    For tuples and unions: a field has one kind.

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
    """The form of a union, or of the constraints of a type variable: that of its members together.

    For `_generic_form`, and for constraints of a type variable.
    """
    # A union is flat: `DTypeLike | None` has the members of `DTypeLike`, one of which
    # is a Protocol that says nothing.
    if set(args) >= _DTYPES:
        args = (np.dtype, *[arg for arg in args if arg not in _DTYPES])
    members = [form_of(arg, owner) for arg in args]
    kind = _common_kind(annotation, members)
    # Once each, in the order of the annotation, as errors print it.
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

    For `_union_form`: once for lists, tuples and dicts.

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

    For `_union_form`: it would be open which of them a State is held to.

    Raises:
        AmbiguousError: Names both contracts.
    """
    for first, second in itertools.combinations(leaves, 2):
        # Classes that are not related may have contracts of their own: a State is held
        # to that of its class.
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
    """How the annotation was most likely written.

    For errors, which show the line to write.
    """
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if is_jaxtyping(annotation):
            return f'{annotation.dtype.__name__}[Array, "{annotation.dim_str}"]'
        return "Array" if annotation is jax.Array else annotation.__name__
    if annotation is ...:
        return "..."
    origin: Any = get_origin(annotation)
    args = get_args(annotation)
    if origin in UNIONS:
        return " | ".join(
            "None" if arg is type(None) else _annotation_text(arg) for arg in args
        )
    if isinstance(origin, type) and args and origin is not collections.abc.Callable:
        return f"{origin.__name__}[{', '.join(map(_annotation_text, args))}]"
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def moved_form(form: Form, old: type, new: type) -> Form:
    """A form that takes the new definition of a class in place of the old one; the form itself, if it names neither.

    For `move_forms`, when a class was defined again.
    """
    if all(leaf.cls is not old for leaf in form.all_leaves):
        return form
    tuple_of = form.tuple_of
    if isinstance(tuple_of, tuple):
        # A form for each item: `tuple[A, B]`.
        tuple_of = tuple([moved_form(item, old, new) for item in tuple_of])
    elif tuple_of is not None:
        # A single form for any length: `tuple[A, ...]`.
        tuple_of = moved_form(tuple_of, old, new)
    return dataclasses.replace(
        form,
        leaves=tuple([_moved_leaf(leaf, old, new) for leaf in form.leaves]),
        list_of=form.list_of and moved_form(form.list_of, old, new),
        tuple_of=tuple_of,
        dict_of=form.dict_of and moved_form(form.dict_of, old, new),
    )


def _moved_leaf(leaf: Leaf, old: type, new: type) -> Leaf:
    """For `moved_form`: a leaf with the new definition of its class, and with the contract of that."""
    if leaf.cls is not old:
        return leaf
    # A contract that the annotation does not write is that of the class.
    is_of_class = issubclass(old, State) and leaf.contract == _state_contract(old)
    return Leaf(new, _state_contract(new) if is_of_class else leaf.contract)
