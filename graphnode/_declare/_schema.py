"""The schema compiler: from a class's annotations and specifiers to one frozen record, or all faults at once.

It sees classes, never instances, and runs in passes: the dataclass fields, their
annotations resolved, the kind of each, the rules between kind, annotation, default and
initializer. A schema is kept in its own class's `__dict__`.
"""

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Final, Generic, NamedTuple, TypeAlias, cast, get_origin

from typing_extensions import TypeVar

from .._arguments import wrong_argument
from .._caches import Kept, kept, publish
from .._class_faults import ClassFault, Rule, check_refused, registration_fault
from .._contract import Contract, ContractSyntaxError
from .._errors import SchemaError
from .._fields import Kind, NodeBase, Specifier, left_out, specifier_of
from .._hints import did_you_mean
from .._members import (
    declaring_classes,
    is_init_variable,
    own_annotations,
    specifier_text,
)
from .._sharding import ANY_RANK, sharding_fault
from .._static import compares_by_identity
from ._annotations import (
    AmbiguousError,
    Cause,
    Form,
    form_of,
    moved_form,
    open_form,
    resolve,
    specifier_inside,
    type_arguments,
    type_arguments_along,
    variables_of,
    with_defaults,
    with_parameters,
)

N = TypeVar("N", bound=NodeBase, default=NodeBase)

# In the class's own `__dict__`: a weak-keyed table would never drop an entry, since a
# schema refers to its class, and `getattr` would give a subclass the schema of its
# parent.
_SCHEMA: Final = "__graphnode_schema__"
_FRAMES: Final = "__graphnode_frames__"


class Field(NamedTuple):
    """One compiled field.

    Attributes:
        name: Its name.
        kind: What it holds.
        form: The values that a state or subnode field admits; for a static field, no
            leaves.
        annotation: The resolved annotation, or `None` where a specifier stood for one
            that nothing resolves.
        owner: The class that declares it.
        specifier: What its specifier said; a bare one for a field without.
        is_explicit: Whether it was declared with a specifier.
        init: Whether the constructor takes it.
        default: Makes its default, or is `None` where it has none, or has one that only
            the node makes.
    """

    name: str
    kind: Kind
    form: Form
    annotation: object
    owner: type
    specifier: Specifier
    is_explicit: bool
    init: bool
    default: Callable[[], Any] | None


def is_computed(field: Field) -> bool:
    """Whether a factory makes a static field, where the constructor is not given a value."""
    return field.kind is Kind.STATIC and field.specifier.factory is not None


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
        return tuple(
            self.fields[name]
            for name in sorted(self.fields)
            if self.fields[name].kind is kind
        )

    @property
    def holders(self) -> tuple[Field, ...]:
        """The state and subnode fields, sorted by name: the canonical order."""
        return tuple(
            self.fields[name]
            for name in sorted(self.fields)
            if self.fields[name].kind is not Kind.STATIC
        )


class _KeptSchema(Kept[Schema[Any]]):
    """A schema in its class. Once pickled, the annotations that were resolved: their names may mean nothing there.

    Attributes:
        annotations: Those by the name of the field, if the class came out of a pickle.
    """

    __slots__ = ("annotations",)

    def __init__(
        self,
        cls: type[Any],
        slot: str,
        value: Schema[Any] | None = None,
        annotations: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(cls, slot, value)
        self.annotations = annotations

    def __reduce__(self) -> tuple[Any, ...]:
        annotations = dict(self.annotations or {})
        if self.value is not None:
            declared: Any = dataclasses.fields(cast("Any", self.value.cls))
            written = {field.name: field.type for field in declared}
            own = [
                field
                for field in self.value.fields.values()
                if field.owner is self.value.cls
            ]
            annotations |= {
                one.name: one.annotation
                for one in own
                if one.annotation is not written[one.name]
            }
        there, args = super().__reduce__()
        return there, (*args, None, annotations)


class UnresolvedError(Exception):
    """Some annotations name what does not exist yet; the class is compiled at its first use."""


def schema(cls: type[N], /) -> Schema[N]:
    """The schema of a node class, compiled now if it was not yet.

    Returns:
        The same object at every call.

    Raises:
        SchemaError: The class declares something that cannot be compiled; lists all
            faults.
        TypeError: `cls` is not a node class.

    Example:
        >>> class Affine(gn.Node):
        ...     width: int
        ...     weight: gn.ParamState
        >>> {name: str(field.kind) for name, field in gn.schema(Affine).fields.items()}
        {'width': 'static', 'weight': 'state'}
    """
    found: Any = get_origin(cls) or cls
    if isinstance(found, type):
        check_refused(found)
    if not (
        isinstance(found, type)
        and issubclass(found, NodeBase)
        and dataclasses.is_dataclass(found)
    ):
        raise TypeError(wrong_argument("a node class", cls))
    compiled: Any = kept(found, _SCHEMA)
    if compiled is None:
        compiled = _compile_late(found)
    return cast("Schema[N]", compiled)


def _compile_late(cls: type[N]) -> "Schema[N]":
    try:
        return compile_schema(cls, is_final=True)
    except SchemaError:
        # Another thread may have been first, and have dropped the frames in which the
        # names resolve.
        compiled: Schema[N] | None = kept(cls, _SCHEMA)
        if compiled is None:
            raise
        return compiled


def compile_schema(
    cls: type[N], *, is_final: bool, faults: Sequence[ClassFault] = ()
) -> Schema[N]:
    """Compile a class and keep the result in it.

    Args:
        cls: A node class, already a dataclass.
        is_final: Whether a name that nothing resolves is a fault, not a reason to wait.
        faults: Faults of its body, found before.

    Raises:
        SchemaError: All faults of the class.
        UnresolvedError: A name does not resolve, and `is_final` is false.
    """
    fields, found = _compile_fields(cls, is_final or bool(faults))
    all_faults = [*faults, *found, *_contract_faults(cls, fields)]
    if all_faults:
        raise SchemaError(cls.__name__, all_faults)
    compiled = publish(cls, _SCHEMA, Schema(cls, fields), _KeptSchema)
    # In this order: who finds no frames any more finds the schema.
    with contextlib.suppress(AttributeError):  # another thread's
        delattr(cls, _FRAMES)
    return compiled


def move_forms(cls: type[NodeBase], old: type, new: type) -> bool:
    """Have the fields of a compiled class take the new definition of a class of States or nodes, if they take the old.

    Returns:
        Whether they do: what was made of the schema has to be made again.
    """
    compiled: Schema[Any] | None = kept(cls, _SCHEMA)
    if compiled is None:
        return False
    fields = {
        name: field._replace(form=moved_form(field.form, old, new))
        for name, field in compiled.fields.items()
    }
    is_moved = any(
        field.form is not compiled.fields[name].form for name, field in fields.items()
    )
    if is_moved:
        cls.__dict__[_SCHEMA].value = Schema(cls, fields)
    return is_moved


def _compile_fields(
    cls: Any, is_final: bool
) -> tuple[dict[str, Field], list[ClassFault]]:
    """The fields that compile, and the faults of those that do not."""
    fields: dict[str, Field] = {}
    faults: list[ClassFault] = []
    local_names = _local_names(cls)
    bases = _base_fields(cls, is_final)
    if "__dataclass_fields__" not in cls.__dict__:
        # `dataclasses` has refused the class before it read its fields
        return fields, faults
    names, owners = (
        {declared.name for declared in dataclasses.fields(cls)},
        declaring_classes(cls),
    )
    faults += _version_faults(cls, owners, bases)
    for name, declared in cls.__dataclass_fields__.items():
        owner = owners.get(name)
        if owner is None:
            # Of another version of a base: a fault, unless it is a class variable
            continue
        try:
            if name in names or is_init_variable(own_annotations(owner)[name], owner):
                _check_one_default(cls, declared, owner)
            if name in names:
                fields[name] = _compile_field(
                    cls, declared, owner, bases, local_names, is_final
                )
        except _FaultError as fault:
            faults.append(ClassFault(str(fault), fault.rule, name))
    return fields, faults


def _version_faults(
    cls: Any, owners: Mapping[str, type], bases: "Sequence[_Base]"
) -> Iterator[ClassFault]:
    """Where a class came by value, the fields that its bases have lost or got: their modules are of another version."""
    fields, names = (
        cls.__dataclass_fields__,
        {declared.name for declared in dataclasses.fields(cls)},
    )
    reasons: dict[str, str] = {}
    for name, declared in fields.items():
        if name not in owners and (
            name in names or is_init_variable(declared.type, cls)
        ):
            reasons[name] = "no base declares it here, and one did where it was pickled"
    for base, fields_of_base in bases:
        added = [name for name in fields_of_base if name not in fields]
        reasons |= dict.fromkeys(
            added,
            f"{base.__name__} has it here, and did not where {cls.__name__} was pickled",
        )
    for name, reason in reasons.items():
        text = f"{cls.__name__}.{name}: {reason}; use one version of its bases in both processes"
        yield ClassFault(text, Rule.OVERRIDE, name)


def remember_frames(cls: type) -> None:
    """Keep the frames a class is being defined in until it compiles: a later name of a function may complete it."""
    setattr(cls, _FRAMES, Kept(cls, _FRAMES, tuple(_defining_frames(cls))))


def late_fault(cls: type) -> ClassFault | None:
    """What is wrong with what a decorator, or a call, has made of a node class after its creation."""
    if not compares_by_identity(cls):
        text = f"{cls.__name__} defines __eq__ or __hash__, but nodes are compared by identity; remove them"
        return ClassFault(
            f"{text} (or an explicit @dataclass: Node applies it itself)", Rule.EQUALITY
        )
    if is_decorated(cls):
        return decorated_fault(cls.__name__)
    return registration_fault(cls)


def decorated_fault(where: str) -> ClassFault:
    """What is wrong with a second `@dataclass` of a node class."""
    text = f"{where}: an explicit @dataclass makes its fields anew, without what their specifiers say"
    return ClassFault(f"{text}; remove it, as Node applies it itself", Rule.EQUALITY)


def is_decorated(cls: type) -> bool:
    """Whether `dataclasses` has made a finished node class anew: it leaves a dict in the place of `InstanceFields`."""
    return type(cls.__dict__.get("__dataclass_fields__")) is dict


class _FaultError(Exception):
    """One fault of one field, with its place."""

    def __init__(self, text: str, rule: Rule) -> None:
        super().__init__(text)
        self.rule = rule


def _compile_field(
    cls: type,
    declared: "dataclasses.Field[Any]",
    owner: type,
    bases: "Sequence[_Base]",
    local_names: Mapping[str, Any],
    is_final: bool,
) -> Field:
    name, where = declared.name, f"{cls.__name__}.{declared.name}"
    inherited: Schema[Any] | None = kept(owner, _SCHEMA)
    if owner is not cls and inherited is not None:
        return _inherited_field(
            cls, inherited.fields[name], bases, local_names, is_final
        )
    # Not `declared.type`: a specifier that two dataclasses share has the annotation of
    # the second.
    said, written = specifier_of(declared), own_annotations(owner)[name]
    try:
        annotation = _arrived(owner, name)
        if annotation is None:
            annotation = _resolved(written, owner, cls, local_names)
    except NameError as error:
        if not is_final:
            raise UnresolvedError from None
        if said is None or said.initializer is not None:
            raise _FaultError(
                _unresolved(where, written, error), Rule.UNRESOLVED
            ) from None
        return Field(
            name,
            said.kind,
            open_form(said.kind),
            None,
            owner,
            said,
            True,
            declared.init,
            _default(declared),
        )
    except Exception as error:  # whatever the text does when it is evaluated
        reason = (
            error
            if isinstance(error, TypeError | AttributeError | SyntaxError)
            else repr(error)
        )
        text = f"{where}: the annotation {written!r} does not evaluate: {reason}"
        raise _FaultError(text, Rule.ANNOTATION) from None
    if annotation is Final and declared.default is not dataclasses.MISSING:
        annotation = type(declared.default)
    try:
        # A dataclass, which is compiled anew in each class that extends it
        if not issubclass(owner, NodeBase):
            annotation = with_parameters(
                annotation, type_arguments_along(cls, owner, local_names)
            )
        _check_no_specifier(where, annotation, declared)
        kind, form = _kind_of(where, annotation, owner, said)
    except (
        NameError
    ) as error:  # of the bound or default of a type variable, or of what stands for it
        if not is_final:
            raise UnresolvedError from None
        raise _FaultError(_unresolved(where, written, error), Rule.UNRESOLVED) from None
    specifier, is_explicit = said or Specifier(kind), said is not None
    field = Field(
        name,
        kind,
        form,
        annotation,
        owner,
        specifier,
        is_explicit,
        declared.init,
        _default(declared),
    )
    _check_override(cls, field, bases)
    _check_initializer(field, where)
    _check_sharding(field, where)
    return field


def _inherited_field(
    cls: type,
    field: Field,
    bases: "Sequence[_Base]",
    local_names: Mapping[str, Any],
    is_final: bool,
) -> Field:
    """A field of a base, narrowed by what `cls`, or a class between, says for the type variables of its annotation.

    Its names may resolve only where it was declared, and were resolved there.

    Args:
        cls: The class that inherits it.
        field: The field as the class that declares it has it.
        bases: The node classes that `cls` extends.
        local_names: The names of the functions that `cls` was defined in.
        is_final: Whether a name that nothing resolves is a fault, not a reason to wait.
    """
    where = f"{cls.__name__}.{field.name}"
    narrowed = field
    fields_of = dict(bases)
    for base in cls.__bases__:
        of_base = fields_of.get(base, {}).get(field.name)
        if of_base is None or of_base.owner is not field.owner:
            continue
        try:
            if variables_of(of_base.annotation):
                of_base = _narrowed(
                    where, of_base, type_arguments(cls, base, local_names)
                )
        except NameError as error:
            if not is_final:
                raise UnresolvedError from None
            text = f"{where}: nothing defines {error.name!r}, which {cls.__name__} says of {base.__name__}"
            raise _FaultError(
                f"{text}; import it at run time, or define it in the module",
                Rule.UNRESOLVED,
            ) from None
        if of_base.annotation is not field.annotation:
            narrowed = of_base
            break  # as everywhere in Python, the first base counts
    _check_override(cls, narrowed, bases)
    if narrowed is not field:
        _check_initializer(narrowed, where)
        _check_sharding(narrowed, where)
    return narrowed


def _narrowed(where: str, field: Field, types_by_variable: Mapping[Any, Any]) -> Field:
    """A field with types in place of type variables of its annotation; the field itself, if it has none of them."""
    annotation = with_parameters(field.annotation, types_by_variable)
    if annotation is field.annotation:
        return field
    kind, form = _kind_of(
        where, annotation, field.owner, field.specifier if field.is_explicit else None
    )
    return field._replace(kind=kind, form=form, annotation=annotation)


def _check_no_specifier(
    where: str, annotation: object, declared: "dataclasses.Field[Any]"
) -> None:
    """Raise where a specifier stands inside of `Annotated`, in which `dataclasses` looks for none."""
    specifier = specifier_inside(annotation)
    if specifier is not None:
        called = specifier_text(specifier)
        text = f"{where}: {called} inside of Annotated declares nothing; write {declared.name}: ... = {called}"
        has_default = not (
            declared.default is declared.default_factory is dataclasses.MISSING
        )
        raise _FaultError(
            text + (", with the default among its arguments" if has_default else ""),
            Rule.ANNOTATION,
        )


def _resolved(
    annotation: object, owner: type, cls: type, local_names: Mapping[str, Any]
) -> object:
    """An annotation as its class sees it; only what means nothing there, as a subclass of it sees it."""
    own_names = _local_names(owner)
    try:
        return resolve(annotation, owner, own_names)
    except NameError:
        return resolve(
            annotation,
            owner,
            {**local_names, **_local_names(owner, of_bodies=True), **own_names},
        )


def _check_one_default(
    cls: type, declared: "dataclasses.Field[Any]", owner: Any
) -> None:
    """Raise where `dataclasses` takes a field from another class than the one whose attribute it is.

    Of `C(B, A)`, it takes all that B has before what A has, also what B has from a base
    whose field A declares anew.
    """
    if owner is cls or owner.__dataclass_fields__.get(declared.name) is declared:
        return
    first = _first_with(cls, declared)
    # A copy of the owner's field is no other one: cloudpickle gives new ones to a plain
    # dataclass whenever it loads it.
    if first is not None and declaring_classes(first).get(declared.name) is not owner:
        reason = f"{owner.__name__} declares it anew, and {first.__name__} brings that of a base of both"
        raise _FaultError(
            f"{cls.__name__}.{declared.name}: {reason}; declare it in {cls.__name__}",
            Rule.OVERRIDE,
        )


def _first_with(cls: type, declared: "dataclasses.Field[Any]") -> type | None:
    for base in cls.__mro__[1:]:
        fields: Mapping[str, object] = getattr(base, "__dataclass_fields__", {})
        if fields.get(declared.name) is declared:
            return base
    return None


def _arrived(owner: type, name: str) -> object:
    """The annotation of a field as it was resolved where its class was pickled, or `None`."""
    holder: _KeptSchema | None = owner.__dict__.get(_SCHEMA)
    return (
        holder.annotations.get(name)
        if holder is not None and holder.annotations is not None
        else None
    )


def _default(declared: "dataclasses.Field[Any]") -> Callable[[], Any] | None:
    if declared.default_factory is left_out:
        return None  # what its factory makes is known of a node alone
    if declared.default is not dataclasses.MISSING:
        return lambda: declared.default
    return (
        declared.default_factory
        if declared.default_factory is not dataclasses.MISSING
        else None
    )


def _unresolved(where: str, annotation: object, error: NameError) -> str:
    return (
        f"{where}: nothing defines {error.name!r} of the annotation {annotation!r}; import it at run time (not only "
        "under TYPE_CHECKING), define it in the module, or say static(), state() or subnode()"
    )


def _kind_of(
    where: str, annotation: object, owner: type, said: Specifier | None
) -> tuple[Kind, Form]:
    try:
        # What the node makes is of one class, by default that of the type variable;
        # what it is given may be of others.
        is_made = said is not None and said.initializer is not None
        form = form_of(
            with_defaults(annotation, owner) if is_made else annotation, owner
        )
    except ContractSyntaxError as error:
        raise _FaultError(f"{where}: {error}", Rule.AXIS_SYNTAX) from None
    except AmbiguousError as error:
        if error.cause in (Cause.CONTRACTS, Cause.CONTAINER):
            raise _FaultError(f"{where}: {error}", Rule.AMBIGUOUS) from None
        if said is None:
            raise _FaultError(_ambiguous(where, error), _RULES[error.cause]) from None
        if (
            error.cause in (Cause.UNHASHABLE, Cause.THAWED, Cause.GUARDED)
            and said.kind is not Kind.STATIC
        ):
            text = f"{where}: declared {said.kind}(), but its annotation says static; {error}"
            raise _FaultError(text, Rule.KIND) from None
        if error.cause is Cause.UNHASHABLE:
            raise _FaultError(f"{where}: {error}", Rule.UNHASHABLE) from None
        if error.cause is Cause.ARRAY and said.kind is not Kind.STATIC:
            raise _FaultError(
                f"{where}: {said.kind}() holds no bare array; {error}", Rule.KIND
            ) from None
        return said.kind, open_form(said.kind)
    if form.kind is None:
        if said is None:
            raise _FaultError(
                _ambiguous(where, AmbiguousError("None alone says nothing")),
                Rule.AMBIGUOUS,
            )
        return said.kind, open_form(said.kind)
    if said is not None and said.kind is not form.kind:
        text = f"{where}: declared {said.kind}(), but its annotation says {form.kind}; write {form.kind}()"
        raise _FaultError(text, Rule.KIND)
    return form.kind, form


# What it comes to when an annotation without a specifier does not settle a kind.
_RULES: Final = {
    Cause.OPEN: Rule.AMBIGUOUS,
    Cause.ARRAY: Rule.ARRAY,
    Cause.UNHASHABLE: Rule.UNHASHABLE,
    Cause.THAWED: Rule.UNHASHABLE,
    Cause.GUARDED: Rule.UNHASHABLE,
}


def _ambiguous(where: str, error: AmbiguousError) -> str:
    line = f"{where.rpartition('.')[2]}: ... = gn"
    if error.cause is Cause.OPEN:
        return (
            f"{where}: {error}; say which: {line}.static(), gn.state() or gn.subnode()"
        )
    # Else the specifier would only lead to the next error
    is_remedy = error.cause in (Cause.ARRAY, Cause.GUARDED)
    return f"{where}: {error}" + (f", or say {line}.static()" if is_remedy else "")


# A node class that another extends, and its fields.
_Base: TypeAlias = tuple[type, Mapping[str, Field]]


def _check_override(cls: type, field: Field, bases: Sequence[_Base]) -> None:
    for base, fields in bases:
        inherited = fields.get(field.name)
        if inherited is not None and inherited.kind is not field.kind:
            raise _FaultError(
                f"{cls.__name__}.{field.name}: declared {field.kind}, but {base.__name__} declares it "
                f"{inherited.kind}; an override keeps the kind",
                Rule.OVERRIDE,
            )


def _base_fields(cls: type, is_final: bool) -> list[_Base]:
    """The node classes that `cls` extends; of one with faults, the fields that compile."""
    found: list[_Base] = []
    for base in cls.__mro__[1:]:
        if issubclass(base, NodeBase) and "__dataclass_fields__" in base.__dict__:
            if kept(base, _SCHEMA) is None and not is_final:
                raise UnresolvedError
            try:
                found.append((base, schema(base).fields))
            except SchemaError:
                # Its own faults are its own; those of fields that `cls` inherits are
                # found again there.
                found.append((base, _compile_fields(base, is_final=True)[0]))
    return found


def _check_initializer(field: Field, where: str) -> None:
    said = field.specifier
    if said.initializer is None:
        return
    if len(field.form.leaves) != 1 or field.form.is_open:
        text = f"{where}: state(initializer) makes one State: annotate one State class, found {field.form}"
        raise _FaultError(text, Rule.INITIALIZER)
    if field.form.leaves[0].contract is None and said.shape is None:
        cls = field.form.leaves[0].cls.__name__
        raise _FaultError(
            f'{where}: state(initializer) needs a shape: annotate {cls}[Float[Array, "rows cols"]], or pass '
            "shape=lambda self: (...)",
            Rule.INITIALIZER,
        )


def _check_sharding(field: Field, where: str) -> None:
    """Of the rank nothing is known here where an axis of the annotation stands for several."""
    contract = field.form.leaves[0].contract if len(field.form.leaves) == 1 else None
    has_rank = contract is not None and not any(axis.variadic for axis in contract.axes)
    ranks = (
        frozenset({len(contract.axes)})
        if contract is not None and has_rank
        else ANY_RANK
    )
    fault = sharding_fault(field.specifier.sharding, ranks)
    if fault is not None:
        raise _FaultError(f"{where}: sharding: {fault}", Rule.SHARDING)


def _contract_faults(cls: type, fields: Mapping[str, Field]) -> Iterator[ClassFault]:
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
                text = f"{cls.__name__}.{name}: axis {axis.text!r} of {contract.text} has no size to initialise with"
                yield ClassFault(text, Rule.AXIS_SIZE, name)
            for one in missing:
                hint = did_you_mean(one, statics) or f"declare {one}: int"
                yield axis_name_fault(f"{cls.__name__}.{name}", one, contract, hint)


def axis_name_fault(where: str, axis: str, contract: Contract, hint: str) -> ClassFault:
    """The fault of an axis that no static field names."""
    text = f"{where}: axis {axis!r} of {contract.text} names no static field; {hint}"
    return ClassFault(text, Rule.AXIS_NAME, where.rpartition(".")[2])


def _defining_frames(cls: type) -> Iterator[FrameType]:
    """The functions and class bodies that lexically enclose the definition of `cls`, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    enclosed = cls.__qualname__
    while frame is not None:
        is_local = (
            frame.f_globals.get("__name__") == cls.__module__
            and frame.f_locals is not frame.f_globals
        )
        if is_local and enclosed.startswith(frame.f_code.co_qualname + "."):
            yield frame
            # An outer call of the same function encloses nothing
            enclosed = frame.f_code.co_qualname
        frame = frame.f_back


def _local_names(cls: type, *, of_bodies: bool = False) -> dict[str, Any]:
    """The names of the functions that a class was defined in; or of class bodies, which Python does not look into."""
    names: dict[str, Any] = {}
    frames: tuple[FrameType, ...] = kept(cls, _FRAMES) or ()
    for frame in reversed(frames):
        if bool(frame.f_code.co_flags & inspect.CO_OPTIMIZED) is not of_bodies:
            names.update(frame.f_locals)
    return names
