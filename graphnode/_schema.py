"""The schema compiler: from a class's annotations and specifiers to one frozen record, or all faults at once.

It sees classes, never instances, and runs in passes: the dataclass fields, their annotations resolved, the kind of
each, the rules between kind, annotation, default and initializer. A schema is kept in its own class's `__dict__`.
"""

import dataclasses
import difflib
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Final, Generic

from typing_extensions import TypeVar

from ._annotations import AmbiguousError, Form, form_of, open_form, own_annotations, resolve
from ._contract import ContractSyntaxError
from ._errors import SchemaError
from ._fields import Kind, NodeBase, Specifier, specifier_of
from ._state import State

N = TypeVar("N", bound=NodeBase, default=NodeBase)

# In the class's own `__dict__`: a weak-keyed table would never drop an entry, since a schema refers to its class, and
# `getattr` would give a subclass the schema of its parent.
_SCHEMA: Final = "__graphnode_schema__"
_FRAMES: Final = "__graphnode_frames__"

_RESERVED: Final = frozenset({"_binding", "_version"})


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One compiled field.

    Attributes:
        name: Its name.
        kind: What it holds.
        form: The values that a state or subnode field admits; for a static field, no leaves.
        annotation: The resolved annotation, or `None` where a specifier stood for one that nothing resolves.
        owner: The class that declares it.
        specifier: What its specifier said; a bare one for a field without.
        is_explicit: Whether it was declared with a specifier.
        init: Whether the constructor takes it.
    """

    name: str
    kind: Kind
    form: Form
    annotation: object
    owner: type
    specifier: Specifier
    is_explicit: bool
    init: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Schema(Generic[N]):
    """What a node class declares, compiled.

    Attributes:
        cls: The class.
        fields: Its fields by name, in the order of the constructor.
    """

    cls: type[N]
    fields: Mapping[str, Field]

    def of_kind(self, kind: Kind) -> tuple[Field, ...]:
        """The fields of one kind, sorted by name: the canonical order."""
        return tuple(self.fields[name] for name in sorted(self.fields) if self.fields[name].kind is kind)

    @property
    def holders(self) -> tuple[Field, ...]:
        """The state and subnode fields, sorted by name: the canonical order."""
        return tuple(self.fields[name] for name in sorted(self.fields) if self.fields[name].kind is not Kind.STATIC)


class UnresolvedError(Exception):
    """Some annotations name what does not exist yet; the class is compiled at its first use."""


def schema(cls: type[N], /) -> Schema[N]:
    """The schema of a node class, compiled now if it was not yet.

    Returns:
        The same object at every call.

    Raises:
        SchemaError: The class declares something that cannot be compiled; lists all faults.
        TypeError: `cls` is not a node class.

    Example:
        >>> class Affine(gn.Node):
        ...     width: int
        ...     weight: gn.ParamState
        >>> {name: str(field.kind) for name, field in gn.schema(Affine).fields.items()}
        {'width': 'static', 'weight': 'state'}
    """
    compiled = cls.__dict__.get(_SCHEMA)
    if compiled is None:
        if not (isinstance(cls, type) and issubclass(cls, NodeBase) and dataclasses.is_dataclass(cls)):
            raise TypeError(f"schema takes a node class, found {cls!r}")
        compiled = compile_schema(cls, is_final=True)
    return compiled  # type: ignore[no-any-return]  # only `compile_schema` writes the slot


def compile_schema(cls: type[N], *, is_final: bool) -> Schema[N]:
    """Compile a class and keep the result in it.

    Args:
        cls: A node class, already a dataclass.
        is_final: Whether a name that nothing resolves is a fault, not a reason to wait.

    Raises:
        SchemaError: All faults of the class.
        UnresolvedError: A name does not resolve, and `is_final` is false.
    """
    faults: list[str] = []
    fields: dict[str, Field] = {}
    local_names = _local_names(cls)
    for declared in dataclasses.fields(cls):  # type: ignore[arg-type]  # a dataclass, by the caller's promise
        try:
            fields[declared.name] = _compile_field(cls, declared, local_names, is_final)
        except _FaultError as fault:
            faults.append(str(fault))
    faults += _contract_faults(cls, fields)
    if faults:
        raise SchemaError(cls.__name__, faults)
    compiled = Schema(cls, fields)
    setattr(cls, _SCHEMA, compiled)
    if _FRAMES in cls.__dict__:
        delattr(cls, _FRAMES)
    return compiled


def remember_frames(cls: type) -> None:
    """Keep the frames a class is being defined in until it compiles: a later name of a function may complete it."""
    setattr(cls, _FRAMES, tuple(_defining_frames(cls)))


def body_faults(cls: type) -> list[str]:
    """Faults of a class body that `dataclasses` would stop at, or not see."""
    faults: list[str] = []
    if "__slots__" in cls.__dict__:
        faults.append(f"{cls.__name__} declares __slots__, but the fields of a node live in its __dict__; remove them")
    for name in own_annotations(cls):
        default = cls.__dict__.get(name, dataclasses.MISSING)
        value = default.default if isinstance(default, dataclasses.Field) else default
        if isinstance(value, State | NodeBase) or (value is not dataclasses.MISSING and _is_unhashable(value)):
            kind = type(value).__name__
            factory = "default_factory" if isinstance(value, list | dict | set) else "factory"
            remedy = f"default_factory=lambda: {kind}(...)" if factory == "factory" else f"default_factory={kind}"
            faults.append(
                f"{cls.__name__}.{name}: the default {kind} would be one object shared by all instances; use {remedy}"
            )
    return faults


def _is_unhashable(value: object) -> bool:
    return type(value).__hash__ is None


class _FaultError(Exception):
    """One fault of one field, with its place."""


def _compile_field(
    cls: type, declared: "dataclasses.Field[Any]", local_names: Mapping[str, Any], is_final: bool
) -> Field:
    name, where = declared.name, f"{cls.__name__}.{declared.name}"
    owner = next(base for base in cls.__mro__ if name in own_annotations(base))
    inherited: Schema[Any] | None = owner.__dict__.get(_SCHEMA)
    if owner is not cls and inherited is not None:
        # Its names may resolve only where the owner was defined, and were resolved there.
        return inherited.fields[name]
    said = specifier_of(declared)
    if name in _RESERVED:
        raise _FaultError(f"{where}: this name is graphnode's own; choose another")
    try:
        annotation = resolve(declared.type, owner, {**_local_names(owner), **local_names})
    except NameError as error:
        if not is_final:
            raise UnresolvedError from None
        if said is None or said.initializer is not None:
            raise _FaultError(_unresolved(where, declared.type, error)) from None
        return Field(name, said.kind, open_form(said.kind), None, owner, said, True, declared.init)
    except (TypeError, AttributeError, SyntaxError) as error:
        raise _FaultError(f"{where}: the annotation {declared.type!r} does not evaluate: {error}") from None
    kind, form = _kind_of(where, annotation, owner, said)
    field = Field(name, kind, form, annotation, owner, said or Specifier(kind), said is not None, declared.init)
    _check_override(cls, field, where)
    _check_initializer(field, where)
    return field


def _unresolved(where: str, annotation: object, error: NameError) -> str:
    return (
        f"{where}: nothing defines {error.name!r} of the annotation {annotation!r}; import it at run time (not only "
        "under TYPE_CHECKING), define it in the module, or say static(), state() or subnode()"
    )


def _kind_of(where: str, annotation: object, owner: type, said: Specifier | None) -> tuple[Kind, Form]:
    try:
        form = form_of(annotation, owner)
    except ContractSyntaxError as error:
        raise _FaultError(f"{where}: {error}") from None
    except AmbiguousError as error:
        if said is None:
            raise _FaultError(_ambiguous(where, str(error))) from None
        if said.kind is not Kind.STATIC and "is an array" in str(error):
            raise _FaultError(f"{where}: {said.kind}() holds no bare array; {error}") from None
        return said.kind, open_form(said.kind)
    if form.kind is None:
        if said is None:
            raise _FaultError(_ambiguous(where, "None alone says nothing"))
        return said.kind, open_form(said.kind)
    if said is not None and said.kind is not form.kind:
        raise _FaultError(f"{where}: declared {said.kind}(), but its annotation says {form.kind}; write {form.kind}()")
    return form.kind, form


def _ambiguous(where: str, found: str) -> str:
    name = where.rpartition(".")[2]
    if "is an array" in found or "not hashable" in found or "not frozen" in found:
        return f"{where}: {found}, or say {name}: ... = gn.static()"
    return f"{where}: {found}; say which: {name}: ... = gn.static(), gn.state() or gn.subnode()"


def _check_override(cls: type, field: Field, where: str) -> None:
    for base in cls.__mro__[1:]:
        compiled: Schema[Any] | None = base.__dict__.get(_SCHEMA)
        inherited = compiled.fields.get(field.name) if compiled is not None else None
        if inherited is not None and inherited.kind is not field.kind:
            raise _FaultError(
                f"{where}: declared {field.kind}, but {base.__name__} declares it {inherited.kind}; an override keeps "
                "the kind"
            )


def _check_initializer(field: Field, where: str) -> None:
    said = field.specifier
    if said.initializer is None:
        return
    if len(field.form.leaves) != 1 or field.form.is_open:
        raise _FaultError(f"{where}: state(initializer) makes one State: annotate one State class, found {field.form}")
    if field.form.leaves[0].contract is None and said.shape is None:
        cls = field.form.leaves[0].cls.__name__
        raise _FaultError(
            f'{where}: state(initializer) needs a shape: annotate {cls}[Float[Array, "rows cols"]], or pass '
            "shape=lambda self: (...)"
        )


def _contract_faults(cls: type, fields: Mapping[str, Field]) -> Iterator[str]:
    """Axes that an initializer needs and no static field gives."""
    statics = {name for name, field in fields.items() if field.kind is Kind.STATIC}
    for name, field in fields.items():
        if field.specifier.initializer is None or field.specifier.shape is not None:
            continue
        contract = field.form.leaves[0].contract
        assert contract is not None
        for axis in contract.axes:
            missing = sorted(axis.names - statics)
            if axis.expression is None:
                yield f"{cls.__name__}.{name}: axis {axis.text!r} of {contract.text} has no size to initialise with"
            for one in missing:
                close = difflib.get_close_matches(one, statics, 1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; declare {one}: int"
                yield f"{cls.__name__}.{name}: axis {one!r} of {contract.text} names no static field{hint}"


def _defining_frames(cls: type) -> Iterator[FrameType]:
    """The functions and class bodies that lexically enclose the definition of `cls`, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        is_local = frame.f_globals.get("__name__") == cls.__module__ and frame.f_locals is not frame.f_globals
        if is_local and cls.__qualname__.startswith(frame.f_code.co_qualname + "."):
            yield frame
        frame = frame.f_back


def _local_names(cls: type) -> dict[str, Any]:
    names: dict[str, Any] = {}
    frames: tuple[FrameType, ...] = cls.__dict__.get(_FRAMES, ())
    for frame in reversed(frames):
        names.update(frame.f_locals)
    return names
