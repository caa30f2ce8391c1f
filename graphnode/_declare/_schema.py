"""Compile a node class: from its annotations and specifiers to one frozen `Schema`, or all faults at once.

It sees classes, never instances. Each dataclass field goes through the same passes:

    annotation, as written --_resolved--> type --_kind_of--> kind and form --_check_...--> Field
                               |
                               a name that does not exist yet: UnresolvedError, and the class is
                               compiled at its first use, in the frames that it was defined in

A schema is kept in its own class's `__dict__`.
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
from ._annotations import form_of, moved_form
from ._forms import AmbiguousError, Cause, Form, open_form
from ._type_arguments import (
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
        specifier: Its specifier; a bare one for a field without.
        is_explicit: Whether it was declared with a specifier.
        init: Whether the constructor takes it.
        default: Makes its default; `None` for a field without, or whose default depends
            on the node.
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
    """Whether a static field has a factory, for where the constructor is not given a value.

    Then a constructor may leave the field out, and files need not have it.
    """
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

    def of_kind(self, *kinds: Kind) -> tuple[Field, ...]:
        """The fields of some kinds, sorted by name: the canonical order.

        For `graphnode check` and structures, which go by one kind at a time.
        """
        fields = [self.fields[name] for name in sorted(self.fields)]
        return tuple([field for field in fields if field.kind in kinds])

    @property
    def dynamic_fields(self) -> tuple[Field, ...]:
        """The state and subnode fields, sorted by name: the canonical order.

        What a walk through a graph goes into.
        """
        return self.of_kind(Kind.STATE, Kind.SUBNODE)


class _KeptSchema(Kept[Schema[Any]]):
    """A schema in its class; in a pickle of the class, its resolved annotations.

    Where the pickle is loaded, their names may mean nothing.

    Attributes:
        annotations: The resolved annotations by field, if the class came out of a
            pickle.
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
        # For classes that are pickled by value: the schema is compiled again from
        # these.
        annotations = dict(self.annotations or {})
        if self.value is not None:
            cls: Any = self.value.cls
            unresolved = {field.name: field.type for field in dataclasses.fields(cls)}
            for field in self.value.fields.values():
                is_resolved = field.annotation is not unresolved[field.name]
                if field.owner is cls and is_resolved:
                    annotations[field.name] = field.annotation
        restore, args = super().__reduce__()
        return restore, (*args, None, annotations)


class UnresolvedError(Exception):
    """An annotation names what does not exist yet.

    Raised by `compile_schema` while a class is defined; `_declare._node` catches it, and
    has the class compiled at its first use.
    """


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
    node_class: Any = get_origin(cls) or cls
    if not isinstance(node_class, type):
        raise TypeError(wrong_argument("a node class", cls))
    check_refused(node_class)
    if not issubclass(node_class, NodeBase) or not dataclasses.is_dataclass(node_class):
        raise TypeError(wrong_argument("a node class", cls))
    compiled: Any = kept(node_class, _SCHEMA)
    if compiled is None:
        compiled = _compile_late(node_class)
    return cast("Schema[N]", compiled)


def _compile_late(cls: type[N]) -> "Schema[N]":
    """For `schema`: compile a class whose annotations named later classes when it was defined."""
    try:
        return compile_schema(cls, is_final=True)
    except SchemaError:
        # Another thread may have compiled it meanwhile, and dropped the frames in which
        # the names resolve.
        compiled: Schema[N] | None = kept(cls, _SCHEMA)
        if compiled is None:
            raise
        return compiled


def compile_schema(
    cls: type[N], *, is_final: bool, faults: Sequence[ClassFault] = ()
) -> Schema[N]:
    """Compile a class and keep the result in it.

    For `_define`, and for the first use of a class whose annotations had to wait.

    Args:
        cls: A node class, already a dataclass.
        is_final: Whether a name that does not resolve is a fault, not a reason to wait.
        faults: The faults of its body.

    Raises:
        SchemaError: All faults of the class.
        UnresolvedError: A name does not resolve, and `is_final` is false.
    """
    # A class with faults in its body is refused anyway: names are resolved now, so that
    # their faults are told too.
    fields, field_faults = _compile_fields(cls, is_final or bool(faults))
    all_faults = [*faults, *field_faults, *_contract_faults(cls, fields)]
    if all_faults:
        raise SchemaError(cls.__name__, all_faults)
    compiled = publish(cls, _SCHEMA, Schema(cls, fields), _KeptSchema)
    # After the schema is there: a thread that misses the frames then finds it.
    with contextlib.suppress(AttributeError):  # another thread has removed them
        delattr(cls, _FRAMES)
    return compiled


def move_forms(cls: type[NodeBase], old: type, new: type) -> bool:
    """Replace the old definition of a class of States or nodes by the new one in the forms of a compiled class.

    For notebooks and `autoreload`: the class goes on, and takes objects of the new
    class.

    Returns:
        Whether there was any: plan and template have to be made again.
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
        # Into the entry that is there: whoever asks the class next gets the new schema.
        cls.__dict__[_SCHEMA].value = Schema(cls, fields)
    return is_moved


def _compile_fields(
    cls: Any, is_final: bool
) -> tuple[dict[str, Field], list[ClassFault]]:
    """The fields that compile, and the faults of those that do not.

    For `compile_schema`: a fault of one field must not hide those of others.
    """
    fields: dict[str, Field] = {}
    faults: list[ClassFault] = []
    local_names = _local_names(cls)
    bases = _base_fields(cls, is_final)
    if "__dataclass_fields__" not in cls.__dict__:
        # `dataclasses` has refused the class before it read its fields
        return fields, faults
    names = {declared.name for declared in dataclasses.fields(cls)}
    owners = declaring_classes(cls)
    faults += _version_faults(cls, owners, bases)
    for name, declared in cls.__dataclass_fields__.items():
        owner = owners.get(name)
        if owner is None:
            continue  # one of another version of a base; see `_version_faults`
        is_field = name in names
        try:
            # `__dataclass_fields__` has class variables too, which are checked with the
            # body.
            if is_field or is_init_variable(own_annotations(owner)[name], owner):
                _check_one_default(cls, declared, owner)
            if is_field:
                compiling = _FieldContext(cls, owner, bases, local_names, is_final)
                fields[name] = _compile_field(compiling, declared)
        except _FaultError as fault:
            faults.append(ClassFault(str(fault), fault.rule, name))
    return fields, faults


def _version_faults(
    cls: Any, owners: Mapping[str, type], bases: "Sequence[_Base]"
) -> Iterator[ClassFault]:
    """The fields that the bases of a class that was pickled by value have lost or gained since.

    For `_compile_fields`: else such a field would be there for one of the two alone.

    Its bases come from modules, and these may be of another version where it is loaded.
    """
    fields = cls.__dataclass_fields__
    names = {declared.name for declared in dataclasses.fields(cls)}
    reasons: dict[str, str] = {}
    for name, declared in fields.items():
        if name in owners:
            continue
        if name in names or is_init_variable(declared.type, cls):
            reasons[name] = "no base declares it here, and one did where it was pickled"
    for base, fields_of_base in bases:
        reason = (
            f"{base.__name__} has it here, and did not where {cls.__name__} was pickled"
        )
        for name in fields_of_base:
            if name not in fields:
                reasons[name] = reason
    for name, reason in reasons.items():
        text = f"{cls.__name__}.{name}: {reason}; use one version of its bases in both processes"
        yield ClassFault(text, Rule.OVERRIDE, name)


def remember_frames(cls: type) -> None:
    """Keep the frames that a class is being defined in until it compiles.

    For `_defining_frames`: at the first use it is too late to look for them.

    A name in its annotations may be one that the enclosing function binds later.
    """
    setattr(cls, _FRAMES, Kept(cls, _FRAMES, tuple(_defining_frames(cls))))


def late_fault(cls: type) -> ClassFault | None:
    """What is wrong with how a decorator, or an assignment, has changed a node class after its creation.

    At the first use: no hook runs after a decorator.
    """
    if not compares_by_identity(cls):
        text = f"{cls.__name__} defines __eq__ or __hash__, but nodes are compared by identity; remove them"
        hint = "or an explicit @dataclass: Node applies it itself"
        return ClassFault(f"{text} ({hint})", Rule.EQUALITY)
    # A second `@dataclass` also writes an `__eq__`, unless it is told not to: that was
    # found above.
    if is_decorated(cls):
        return decorated_fault(cls.__name__)
    return registration_fault(cls)


def decorated_fault(where: str) -> ClassFault:
    """What is wrong with a second `@dataclass` of a node class.

    For `late_fault`, and for pydantic's decorator, which fails before.
    """
    text = f"{where}: an explicit @dataclass makes its fields anew, without what their specifiers say"
    return ClassFault(f"{text}; remove it, as Node applies it itself", Rule.EQUALITY)


def is_decorated(cls: type) -> bool:
    """Whether a finished node class was decorated with `@dataclass`: a dict has then replaced its `InstanceFields`.

    For `late_fault`: its constructor has lost the guard.
    """
    # `dataclasses` makes a plain dict.
    return type(cls.__dict__.get("__dataclass_fields__")) is dict


class _FaultError(Exception):
    """One fault of one field, with its place.

    Raised by the passes over a field; `_compile_fields` catches it, and goes on with the
    next field.
    """

    def __init__(self, text: str, rule: Rule) -> None:
        super().__init__(text)
        self.rule = rule


class _FieldContext(NamedTuple):
    """What the passes over a field need to know of its class.

    Attributes:
        cls: The class that is compiled.
        owner: The class that declares the field: itself, or one that it extends.
        bases: The node classes that it extends.
        local_names: The names of the functions that it was defined in.
        is_final: Whether a name that does not resolve is a fault, not a reason to wait.
    """

    cls: type
    owner: type
    bases: "Sequence[_Base]"
    local_names: Mapping[str, Any]
    is_final: bool


def _compile_field(context: _FieldContext, declared: "dataclasses.Field[Any]") -> Field:
    """The compiled field of one dataclass field: annotation, kind, form and default, all checked.

    For `_compile_fields`, one field after the other.

    Raises:
        _FaultError: The field cannot be declared like this.
        UnresolvedError: Its annotation names what does not exist yet.
    """
    cls, owner = context.cls, context.owner
    name, where = declared.name, f"{cls.__name__}.{declared.name}"
    inherited: Schema[Any] | None = kept(owner, _SCHEMA)
    # A field of a base is compiled once, where its names resolve.
    if owner is not cls and inherited is not None:
        return _inherited_field(context, inherited.fields[name])
    # Not `declared.type`: a specifier that two dataclasses share has the annotation of
    # the second.
    written = own_annotations(owner)[name]
    specifier = specifier_of(declared)
    try:
        annotation = _annotation_of(context, name, written)
    except NameError as error:
        # A specifier settles the kind without the annotation; an initializer still
        # needs the class of the State.
        is_needed = specifier is None or specifier.initializer is not None
        if is_needed or not context.is_final:
            raise _unresolved_error(context, where, written, error) from None
        assert specifier is not None
        kind, form, annotation = specifier.kind, open_form(specifier.kind), None
    else:
        # `rate: Final = 3`: the type is that of the default.
        if annotation is Final and declared.default is not dataclasses.MISSING:
            annotation = type(declared.default)
        try:
            # What a plain dataclass declares is compiled in each class that extends it.
            if not issubclass(owner, NodeBase):
                types_by_variable = type_arguments_along(
                    cls, owner, context.local_names
                )
                annotation = with_parameters(annotation, types_by_variable)
            _check_no_specifier(where, annotation, declared)
            kind, form = _kind_of(where, annotation, owner, specifier)
        except NameError as error:  # in the bound or default of a type variable
            raise _unresolved_error(context, where, written, error) from None
    field = Field(
        name,
        kind,
        form,
        annotation,
        owner,
        specifier or Specifier(kind),
        specifier is not None,
        declared.init,
        _default_function(declared),
    )
    if annotation is not None:
        _check_field(context, field)
    return field


def _annotation_of(context: _FieldContext, name: str, written: object) -> object:
    """The annotation of a field, resolved: where its class is defined, or was pickled.

    For `_compile_field`: an annotation may be a string, and name what only its class
    can see.

    Raises:
        NameError: A name in it does not resolve.
        _FaultError: It cannot be evaluated.
    """
    annotation = _pickled_annotation(context.owner, name)
    if annotation is not None:
        return annotation
    try:
        return _resolved(written, context.owner, context.local_names)
    # Whoever calls this decides whether to wait; all other errors are faults.
    except NameError:
        raise
    except Exception as error:  # an annotation may run any code
        is_plain = isinstance(error, TypeError | AttributeError | SyntaxError)
        reason = error if is_plain else repr(error)
        where = f"{context.cls.__name__}.{name}"
        text = f"{where}: the annotation {written!r} does not evaluate: {reason}"
        raise _FaultError(text, Rule.ANNOTATION) from None


def _check_field(context: _FieldContext, field: Field) -> None:
    """Raise if a compiled field contradicts a base, its initializer or its sharding.

    For compiled fields, and for inherited ones whose type a subclass has narrowed.
    """
    where = f"{context.cls.__name__}.{field.name}"
    _check_override(context.cls, field, context.bases)
    _check_makes_one_state(field, where)
    _check_sharding(field, where)


def _inherited_field(context: _FieldContext, field: Field) -> Field:
    """A field of a base, narrowed by the types that `cls`, or a class between, gives for its type variables.

    For `_compile_field`, in place of resolving the annotation again.

        class Table(gn.Node, Generic[T]):      class Square(Table[Float[Array, "n n"]]): ...
            weight: gn.ParamState[T]           weight: gn.ParamState[Float[Array, "n n"]]

    Its annotation was resolved where it was declared; here its names may mean nothing.
    """
    cls = context.cls
    # By class: `bases` is a list of pairs in the order of the MRO.
    fields_of = dict(context.bases)
    for base in cls.__bases__:
        of_base = fields_of.get(base, {}).get(field.name)
        if of_base is None or of_base.owner is not field.owner:
            continue
        narrowed = _narrowed(context, of_base, base)
        if narrowed.annotation is not field.annotation:
            # As everywhere in Python, the first base counts.
            _check_field(context, narrowed)
            return narrowed
    _check_override(cls, field, context.bases)
    return field


def _narrowed(context: _FieldContext, field: Field, base: type) -> Field:
    """The field of a base with the types that `cls` gives for its type variables; the field itself without any.

    For `_inherited_field`, with one of the bases.
    """
    cls = context.cls
    where = f"{cls.__name__}.{field.name}"
    if not variables_of(field.annotation):
        return field
    try:
        types_by_variable = type_arguments(cls, base, context.local_names)
        annotation = with_parameters(field.annotation, types_by_variable)
        if annotation is field.annotation:
            return field
        specifier = field.specifier if field.is_explicit else None
        kind, form = _kind_of(where, annotation, field.owner, specifier)
    except NameError as error:
        if not context.is_final:
            raise UnresolvedError from None
        text = f"{where}: nothing defines {error.name!r}, which {cls.__name__} says of {base.__name__}"
        raise _FaultError(
            f"{text}; import it at run time, or define it in the module",
            Rule.UNRESOLVED,
        ) from None
    return field._replace(kind=kind, form=form, annotation=annotation)


def _check_no_specifier(
    where: str, annotation: object, declared: "dataclasses.Field[Any]"
) -> None:
    """Raise where a specifier stands inside of `Annotated`, in which `dataclasses` looks for none.

    It would be lost without a word.
    """
    specifier = specifier_inside(annotation)
    if specifier is not None:
        line = specifier_text(specifier)
        text = f"{where}: {line} inside of Annotated declares nothing; write {declared.name}: ... = {line}"
        if not declared.default is declared.default_factory is dataclasses.MISSING:
            text += ", with the default among its arguments"
        raise _FaultError(text, Rule.ANNOTATION)


def _resolved(
    annotation: object, owner: type, local_names: Mapping[str, Any]
) -> object:
    """An annotation as the class that declares it sees it; if that fails, as a subclass of it does.

    For `_annotation_of`: a subclass may be defined in a function that binds the name.
    """
    own_names = _local_names(owner)
    try:
        return resolve(annotation, owner, own_names)
    except NameError:
        # Python does not search class bodies from inside of another; a user may still
        # mean them, so they come last.
        body_names = _local_names(owner, of_bodies=True)
        return resolve(annotation, owner, {**local_names, **body_names, **own_names})


def _check_one_default(
    cls: type, declared: "dataclasses.Field[Any]", owner: Any
) -> None:
    r"""Raise where `dataclasses` takes a field from another class than the one whose attribute it is.

    The constructor would take one default, and attributes of the class say another.

      Base (x)       For C, dataclasses takes the x of Base, which it meets as a field of B.
     /        \      `getattr` finds the x of A, as A stands before Base in the MRO: C, B, A, Base.
    B        A (x)
     \        /
      C(B, A)
    """
    if owner is cls or owner.__dataclass_fields__.get(declared.name) is declared:
        return
    first = _first_with(cls, declared)
    # A copy of the owner's field counts as the same: cloudpickle copies the fields of a
    # plain dataclass whenever it loads it.
    if first is not None and declaring_classes(first).get(declared.name) is not owner:
        reason = f"{owner.__name__} declares it anew, and {first.__name__} brings that of a base of both"
        raise _FaultError(
            f"{cls.__name__}.{declared.name}: {reason}; declare it in {cls.__name__}",
            Rule.OVERRIDE,
        )


def _first_with(cls: type, declared: "dataclasses.Field[Any]") -> type | None:
    """The first base in the MRO that has this very field object, as `dataclasses` passes it on.

    For `_check_one_default`: who has brought the field to this class.
    """
    for base in cls.__mro__[1:]:
        fields: Mapping[str, object] = getattr(base, "__dataclass_fields__", {})
        if fields.get(declared.name) is declared:
            return base
    return None


def _pickled_annotation(owner: type, name: str) -> object:
    """The annotation of a field as it was resolved where its class was pickled, or `None`.

    For `_annotation_of`: where a pickle is loaded, its names may mean nothing.
    """
    entry: _KeptSchema | None = owner.__dict__.get(_SCHEMA)
    if entry is None or entry.annotations is None:
        return None
    return entry.annotations.get(name)


def _default_function(declared: "dataclasses.Field[Any]") -> Callable[[], Any] | None:
    """What makes a field's default; `None` for a field without, or whose factory takes the node.

    For `Field.default`, which makes a value each time it is called.
    """
    if declared.default_factory is left_out:
        return None  # stands for a factory, which takes the node
    if declared.default is not dataclasses.MISSING:
        return lambda: declared.default
    factory = declared.default_factory
    return None if factory is dataclasses.MISSING else factory


def _unresolved_error(
    context: _FieldContext, where: str, annotation: object, error: NameError
) -> Exception:
    """What to raise for a name that does not resolve: a reason to wait, or a fault.

    For `_compile_field`: while the class is being defined, it may exist later.
    """
    if not context.is_final:
        return UnresolvedError()
    text = (
        f"{where}: nothing defines {error.name!r} of the annotation {annotation!r}; import it at run time (not only "
        "under TYPE_CHECKING), define it in the module, or say static(), state() or subnode()"
    )
    return _FaultError(text, Rule.UNRESOLVED)


def _kind_of(
    where: str, annotation: object, owner: type, specifier: Specifier | None
) -> tuple[Kind, Form]:
    """The kind and the form of a field, of which annotation and specifier must not contradict each other.

    The specifier settles what an annotation leaves open, such as `Any`.
    """
    # A State that the node makes needs one class: a type variable stands for its
    # default. One that is passed in may be of any class that the variable admits.
    if specifier is not None and specifier.initializer is not None:
        annotation = with_defaults(annotation, owner)
    try:
        form = form_of(annotation, owner)
        if form.kind is None:
            raise AmbiguousError("None alone says nothing")
    except ContractSyntaxError as error:
        raise _FaultError(f"{where}: {error}", Rule.AXIS_SYNTAX) from None
    except AmbiguousError as error:
        _check_ambiguous(where, error, specifier)
        # `_check_ambiguous` has raised where there is none.
        assert specifier is not None
        return specifier.kind, open_form(specifier.kind)
    if specifier is not None and specifier.kind is not form.kind:
        text = f"{where}: declared {specifier.kind}(), but its annotation says {form.kind}; write {form.kind}()"
        raise _FaultError(text, Rule.KIND)
    return form.kind, form


# The rule that an annotation without a specifier breaks if it does not settle a kind.
_RULES: Final = {
    Cause.OPEN: Rule.AMBIGUOUS,
    Cause.ARRAY: Rule.ARRAY,
    Cause.UNHASHABLE: Rule.UNHASHABLE,
    Cause.MUTABLE_DATACLASS: Rule.UNHASHABLE,
    Cause.GUARDED_DATACLASS: Rule.UNHASHABLE,
}
# What an annotation may be that is static in all but a detail.
_ALMOST_STATIC: Final = frozenset(
    {Cause.UNHASHABLE, Cause.MUTABLE_DATACLASS, Cause.GUARDED_DATACLASS}
)


def _check_ambiguous(
    where: str, error: AmbiguousError, specifier: Specifier | None
) -> None:
    """Raise if a specifier is missing for an ambiguous annotation, or does not help.

    For `_kind_of`: an annotation that says nothing may stand beside a specifier that
    does.
    """
    cause = error.cause
    # No specifier helps: the annotation itself has to change.
    if cause in (Cause.CONTRACTS, Cause.CONTAINER):
        raise _FaultError(f"{where}: {error}", Rule.AMBIGUOUS) from None
    if specifier is None:
        raise _FaultError(_ambiguity_text(where, error), _RULES[cause]) from None
    kind = specifier.kind
    if cause in _ALMOST_STATIC and kind is not Kind.STATIC:
        text = f"{where}: declared {kind}(), but its annotation says static; {error}"
        raise _FaultError(text, Rule.KIND) from None
    if cause is Cause.UNHASHABLE:
        raise _FaultError(f"{where}: {error}", Rule.UNHASHABLE) from None
    if cause is Cause.ARRAY and kind is not Kind.STATIC:
        text = f"{where}: {kind}() holds no bare array; {error}"
        raise _FaultError(text, Rule.KIND) from None


def _ambiguity_text(where: str, error: AmbiguousError) -> str:
    """The text of the fault of an annotation that does not settle a kind, with the lines that would do.

    For the `SchemaError` of such a class.
    """
    line = f"{where.rpartition('.')[2]}: ... = gn"
    if error.cause is Cause.OPEN:
        return (
            f"{where}: {error}; say which: {line}.static(), gn.state() or gn.subnode()"
        )
    # For other causes `static()` would only lead to the next error.
    if error.cause in (Cause.ARRAY, Cause.GUARDED_DATACLASS):
        return f"{where}: {error}, or say {line}.static()"
    return f"{where}: {error}"


# A node class that another extends, and its fields.
_Base: TypeAlias = tuple[type, Mapping[str, Field]]


def _check_override(cls: type, field: Field, bases: Sequence[_Base]) -> None:
    """Raise if a base declares a field of this name that holds another kind.

    What is written for the base would find a State where it knows a static value.
    """
    for base, fields in bases:
        inherited = fields.get(field.name)
        if inherited is not None and inherited.kind is not field.kind:
            raise _FaultError(
                f"{cls.__name__}.{field.name}: declared {field.kind}, but {base.__name__} declares it "
                f"{inherited.kind}; an override keeps the kind",
                Rule.OVERRIDE,
            )


def _base_fields(cls: type, is_final: bool) -> list[_Base]:
    """The node classes that `cls` extends; of one with faults, the fields that compile.

    For what is inherited, and to compare overrides with.
    """
    bases: list[_Base] = []
    for base in cls.__mro__[1:]:
        if (
            not issubclass(base, NodeBase)
            or "__dataclass_fields__" not in base.__dict__
        ):
            continue
        # The base waits for a later name, so this class waits as well.
        if kept(base, _SCHEMA) is None and not is_final:
            raise UnresolvedError
        try:
            fields = schema(base).fields
        except SchemaError:
            # The faults of a base are reported for the base; those in fields that `cls`
            # inherits are found again for `cls`.
            fields, _ = _compile_fields(base, is_final=True)
        bases.append((base, fields))
    return bases


def _check_makes_one_state(field: Field, where: str) -> None:
    """Raise if an initializer stands where it cannot make one State, or gets no shape.

    For `_check_field`: in a list, say, it would be open how many to make.
    """
    specifier = field.specifier
    if specifier.initializer is None:
        return
    if len(field.form.leaves) != 1 or field.form.is_open:
        text = f"{where}: state(initializer) makes one State: annotate one State class, found {field.form}"
        raise _FaultError(text, Rule.INITIALIZER)
    if field.form.leaves[0].contract is None and specifier.shape is None:
        cls = field.form.leaves[0].cls.__name__
        raise _FaultError(
            f'{where}: state(initializer) needs a shape: annotate {cls}[Float[Array, "rows cols"]], or pass '
            "shape=lambda self: (...)",
            Rule.INITIALIZER,
        )


def _check_sharding(field: Field, where: str) -> None:
    """Raise if a sharding does not fit the rank of the annotation, which is open if an axis stands for several.

    For `_check_field`: else JAX would raise when the value is placed, far from the
    class.
    """
    ranks = ANY_RANK
    # States of a union may have several ranks.
    if len(field.form.leaves) == 1:
        contract = field.form.leaves[0].contract
        if contract and not any(axis.variadic for axis in contract.axes):
            ranks = frozenset({len(contract.axes)})
    fault = sharding_fault(field.specifier.sharding, ranks)
    if fault is not None:
        raise _FaultError(f"{where}: sharding: {fault}", Rule.SHARDING)


def _contract_faults(cls: type, fields: Mapping[str, Field]) -> Iterator[ClassFault]:
    """Axes that an initializer needs, and for which there is no static field.

    For `compile_schema`: else the first construction would fail.
    """
    statics = {name for name, field in fields.items() if field.kind is Kind.STATIC}
    for name, field in fields.items():
        # Without an initializer a name may be free: the first array gives it a size.
        if field.specifier.initializer is None or field.specifier.shape is not None:
            continue
        contract = field.form.leaves[0].contract
        assert contract is not None
        for axis in contract.axes:
            if axis.expression is None:
                text = f"{cls.__name__}.{name}: axis {axis.text!r} of {contract.text} has no size to initialise with"
                yield ClassFault(text, Rule.AXIS_SIZE, name)
            for missing in sorted(axis.names - statics):
                hint = did_you_mean(missing, statics) or f"declare {missing}: int"
                yield axis_name_fault(f"{cls.__name__}.{name}", missing, contract, hint)


def axis_name_fault(where: str, axis: str, contract: Contract, hint: str) -> ClassFault:
    """The fault of an axis whose name is not a static field.

    For `_contract_faults`, and for `graphnode check`.
    """
    text = f"{where}: axis {axis!r} of {contract.text} names no static field; {hint}"
    return ClassFault(text, Rule.AXIS_NAME, where.rpartition(".")[2])


def _defining_frames(cls: type) -> Iterator[FrameType]:
    """The functions and class bodies that lexically enclose the definition of `cls`, innermost first.

    For names in annotations: a class may be defined inside of a function, and use its
    local names.
    """
    frame: FrameType | None = sys._getframe(1)
    enclosed = cls.__qualname__
    while frame is not None:
        is_of_module = frame.f_globals.get("__name__") == cls.__module__
        is_local = frame.f_locals is not frame.f_globals
        # By qualified names, as the frames between may belong to decorators or to the
        # caller of the function.
        encloses = enclosed.startswith(frame.f_code.co_qualname + ".")
        if is_of_module and is_local and encloses:
            yield frame
            # From here on, an outer call of the same function does not enclose it.
            enclosed = frame.f_code.co_qualname
        frame = frame.f_back


def _local_names(cls: type, *, of_bodies: bool = False) -> dict[str, Any]:
    """The names of the functions that a class was defined in; or of the class bodies, which Python does not search.

    For `_resolved`: beside the module, these are where a name in an annotation is
    looked up.
    """
    names: dict[str, Any] = {}
    frames: tuple[FrameType, ...] = kept(cls, _FRAMES) or ()
    # The innermost last, so that its names win.
    for frame in reversed(frames):
        # The code of functions has optimized locals, that of class bodies has not.
        if bool(frame.f_code.co_flags & inspect.CO_OPTIMIZED) is not of_bodies:
            names.update(frame.f_locals)
    return names
