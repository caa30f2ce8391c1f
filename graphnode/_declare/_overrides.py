"""Find fields whose declaration in a subclass would be lost, as a base class makes them itself.

    class Linear(gn.Node):                           class Tied(Linear):
        weight: gn.ParamState = gn.state(init=False)     weight: gn.ParamState = gn.state(zeros)
        def __post_init__(self):                     # lost: `__post_init__` assigns another
            self.weight = ...

A `__post_init__` does not look at how its fields are declared. Of the layers of `gn.nn`
it is known that they make the fields that they leave open; of other classes their code is
read, and only what it does in every call counts.
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
    """The fields that a node class declares with a value of its own, which the constructor of a base would replace.

    For `_define`, which refuses the class: what it declares would never be seen.
    """
    owners = declaring_classes(cls)
    annotated = [(base, own_annotations(base)) for base in cls.__mro__]
    for declared in dataclasses.fields(cls):
        name, owner = declared.name, owners.get(declared.name)
        if owner is None:
            continue  # one of another version of a base, which the schema refuses
        # A base that does not declare the field does not make it.
        others = [
            base for base, names in annotated if name in names and base is not owner
        ]
        maker = _maker(cls, declared, owner, others) if others else None
        if maker is None:
            continue
        overridden = maker.__dataclass_fields__[name]
        specifier = specifier_of(overridden) or specifier_of(declared)
        kind = Kind.STATIC if specifier is None else specifier.kind
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

    If there is one, what the subclass has declared for the field is lost, and
    `lost_faults` refuses it.

    Args:
        cls: The class.
        declared: The field.
        owner: The class whose declaration counts.
        others: The others that declare it, the nearest first.
    """
    # A field that nothing makes here is left to the `__post_init__` on purpose.
    if not (declared.init or _has_maker(declared)):
        return None
    layer = next((base for base in others if _is_left_open(base, declared.name)), None)
    if layer is not None:
        return layer if _runs(cls, layer) else None
    return _maker_by_code(cls, declared, owner)


def _is_left_open(base: Any, name: str) -> bool:
    """Whether a class is a layer of `gn.nn`, and leaves one of its fields to its `__post_init__`.

    For `_maker`: of these layers it is known without reading their code.
    """
    if not base.__module__.startswith(_LAYERS):
        return False
    declared = base.__dataclass_fields__.get(name)
    return declared is not None and not declared.init and not _has_maker(declared)


def _has_maker(declared: "dataclasses.Field[Any]") -> bool:
    """Whether a field has a default, an initializer or a factory.

    Only such a declaration can be lost.
    """
    has_default = not (
        declared.default is declared.default_factory is dataclasses.MISSING
    )
    return has_default or _is_made_when_read(declared)


def _is_made_when_read(declared: "dataclasses.Field[Any]") -> bool:
    """Whether the first read of a field makes its value, by a function that takes the node.

    For `_maker_by_code`: a `__post_init__` that reads such a field makes it as
    declared.
    """
    specifier = specifier_of(declared)
    return specifier is not None and specifier.makes_value


def _watches_fields(cls: type[Any]) -> bool:
    """Whether a node class has code of its own that runs where any field is read or set.

    Then what a `__post_init__` does with a field cannot be read from its own code.
    """
    node = next(base for base in cls.__mro__ if NodeBase in base.__bases__)
    return any(
        getattr(cls, name) is not getattr(node, name)
        for name in ("__setattr__", "__getattribute__")
    )


def _runs(cls: type[Any], layer: type[Any]) -> bool:
    """Whether the `__post_init__` of a layer runs in a class that extends it: each constructor calls the next.

    For `_maker`: one that is never called makes nothing.
    """
    for base in cls.__mro__[: cls.__mro__.index(layer)]:
        for name in _CONSTRUCTORS & base.__dict__.keys():
            has_own_init = base.__dict__.get("_has_own_init", False)
            # A generated `__init__` calls `__post_init__`.
            is_generated = name != _POST_INIT and not has_own_init
            if not is_generated and not _calls_constructor(base.__dict__[name]):
                return False
    return True


def _calls_constructor(method: Any) -> bool:
    """Whether the code of a method names `__init__` or `__post_init__`, as a call by `super()` does.

    For `_runs`: a constructor that does not call the next hides it.
    """
    code = getattr(inspect.unwrap(method), "__code__", None)
    return code is not None and not _CONSTRUCTORS.isdisjoint(code.co_names)


def _maker_by_code(
    cls: type[Any], declared: "dataclasses.Field[Any]", owner: type[Any]
) -> Any:
    """The base whose `__post_init__` makes a field in every call, and is the first to touch it.

    For `_maker`, of classes that are no layers of `gn.nn`.
    """
    above = cls.__mro__.index(owner) + 1
    # A constructor that was written beside the declaration may do what it likes with it.
    has_own_code = cls._has_own_init or _watches_fields(cls)
    if has_own_code or any(_POST_INIT in base.__dict__ for base in cls.__mro__[:above]):
        return None
    name = declared.name
    all_fields = dataclasses.fields(cls)
    # Reads of other names may run any code: a property may make the field.
    fields = {field.name for field in all_fields}
    lazy = {field.name for field in all_fields if _is_made_when_read(field)}
    # In the order in which one `__post_init__` calls the next by `super()`.
    for base in cls.__mro__[above:]:
        post_init = base.__dict__.get(_POST_INIT)
        if post_init is None:
            continue
        inherited = getattr(base, "__dataclass_fields__", {}).get(name)
        assigned = attributes_made(post_init, fields=fields, lazy=lazy)
        if inherited is not None and name in assigned:
            # A base may take an argument and replace it; then so it was before.
            is_lost = _has_maker(declared) or not inherited.init
            return base if is_lost else None
        # The next one runs only if this one surely calls it, without touching the field.
        if not always_reads(
            post_init, _POST_INIT, but_not=name, fields=fields, lazy=lazy
        ):
            return None
    return None
