"""One flat pydantic model for each node class: what its constructor takes, apart from States.

Data in: a compiled `Schema` and the text of the class. Data out: a subclass of
`Config`, made once and kept in the class. A field that holds nodes holds their configs,
and is not looked into by pydantic: each config was validated when it was made, so that
nothing here recurses, however deep a model is.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    NamedTuple,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

import pydantic

from .._arguments import wrong_argument
from .._caches import kept, publish
from .._containers import (
    Container,
    ContainerKind,
    assembled,
    is_container,
    items,
    leaves,
)
from .._declare._annotations import Form, resolve
from .._declare._node import Node
from .._declare._schema import Field, is_computed, schema
from .._errors import ConfigError, Fault
from .._fields import Kind, NodeBase
from .._members import declaring_classes
from .._paths import Path
from .._pretty import Record, Text, pretty
from .._redefinition import distinct_class_name
from .._registered import name_of, pickled
from .._source import Sources
from .._static import StaticValueError, frozen, registered_name, static_key
from ._optimizer import FREEZE, MODEL, MODEL_FORM, PARAMETERS, TX, WRT, is_optimizer
from ._streams import DEFAULT_STREAM, STREAMS, Seeds, admits_streams, is_streams
from ._value_errors import value_error
from ._values import configurable

M = TypeVar("M", bound=Node)
M_co = TypeVar("M_co", bound=Node, covariant=True)

RESERVED: Final = ("type", "id", "ref", "include")
"""What a mapping in a file says beside the fields of its class."""

_CONFIG: Final = "__graphnode_config__"
_SOURCES: Final = Sources({})


_LEFT_OUT: Final = (
    "the config leaves this field to its class, which makes the value; assign one to the field first, for a node a "
    "config such as gn.config.config_of(cls)(...), or write gn.config.override(config, ['field.name=value'])"
)


class _Default:
    """Stands for what the class itself gives a field, a node or what it computes: there is nothing in it.

    One object stands in all places, so that what would be written to it would be in
    every config, and in no model.
    """

    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            # Special names are asked for by what only looks: copy, pickle, the printers
            # of notebooks.
            raise AttributeError(
                f"{name!r}"
                if name.startswith("__")
                else f"there is no .{name} here: {_LEFT_OUT}"
            )

        def __setattr__(self, name, value):
            raise AttributeError(f"there is no .{name} here: {_LEFT_OUT}")

        def __getitem__(self, key):
            raise TypeError(f"there is no [{key!r}] here: {_LEFT_OUT}")

        def __setitem__(self, key, value):
            raise TypeError(f"there is no [{key!r}] here: {_LEFT_OUT}")

    def __repr__(self) -> str:
        return "DEFAULT"

    def __copy__(self) -> "_Default":
        return self

    def __deepcopy__(self, memo: object) -> "_Default":
        return self

    def __reduce__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = _Default()


class Config(pydantic.BaseModel, Generic[M_co]):
    """What a node is built from: the fields that its constructor takes, where nodes are configs in turn.

    `config_of` makes a subclass for each node class. A config may be assigned to,
    compared (by what it says, shared and cyclic references included) and printed; every
    assignment is validated. The same config in two places is one node.

    Raises:
        pydantic.ValidationError: In construction or assignment: a value that the field
            does not take; a `ValueError`.

    Example:
        >>> made = gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3)
        >>> made.out_size = 4
        >>> gn.config.build(made).out_size
        (4,)
    """

    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(
        extra="forbid",
        validate_assignment=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )

    node_class: ClassVar[type[NodeBase]]
    """The class that `build` makes."""
    slots: ClassVar[Mapping[str, Form]]
    """The fields that hold nodes, with the form of what they hold."""

    if TYPE_CHECKING:
        # Any: which fields there are follows from the node class, which no annotation
        # can say; pydantic checks them.
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
    else:

        def __class_getitem__(cls, of: object) -> type:
            # pydantic would make a class of its own for `Config[Net]`, which no config
            # is an instance of.
            return cls

    def __eq__(self, other: object) -> bool:
        return _equal(self, other) if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it may change

    def __reduce__(self) -> tuple[Any, ...]:
        # By the node class: the config's own is found under no name.
        state = self.__getstate__()
        fields = {name: pickled(value) for name, value in state["__dict__"].items()}
        return blank_of, (self.node_class,), {**state, "__dict__": fields}

    # Of the printer here, not of pydantic's.
    def __pretty__(self) -> Record:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        given = (
            (name, _named(value))
            for name, value in self.__dict__.items()
            if value is not DEFAULT
        )
        return Record(self.node_class.__name__, given)

    def __repr__(self) -> str:
        return pretty(self)

    def __str__(self) -> str:
        return pretty(self)


def _named(value: Any) -> Any:
    """A value as it prints: by its registered name, if it has one."""
    name = registered_name(value) if callable(value) else None
    return value if name is None else Text(name)


def config_of(cls: type[M], /) -> type[Config[M]]:
    """The config class of a node class: a pydantic model with a field for each argument of the constructor.

    Types, defaults, constraints (`Annotated[int, pydantic.Field(gt=0)]`) and the
    docstrings of fields are those of the class. States and fields with `init=False` are
    left out: the class makes them. A field for nodes takes configs of the classes that
    it is declared with, and of their subclasses. What the class makes where it is not
    given, such as a static field with a `factory`, is `gn.config.DEFAULT`.

    Returns:
        The same class at every call.

    Raises:
        ConfigError: The class has a constructor of its own, needs a State that is
            ready, or a field that files use otherwise (`type`, `id`, `ref`, `include`);
            names all.
        SchemaError: The class declares something that cannot be compiled.
        TypeError: `cls` is not a node class.

    Example:
        >>> list(gn.config.config_of(gn.nn.Linear).model_fields)
        ['in_size', 'out_size', 'w_mask', 'dtype', 'use_bias', 'w_init', 'b_init', 'param_dtype']
    """
    found: Any = get_origin(cls) or cls
    compiled = schema(found)
    made = kept(found, _CONFIG)
    if made is None:
        made = publish(found, _CONFIG, _make(found, compiled.fields))
    return cast("type[Config[M]]", made)


def _make(cls: type[Node], fields: Mapping[str, Field]) -> type[Config[Any]]:
    own = _own_arguments(cls)
    arguments = own or list(_arguments(cls, fields))
    faults = [
        Fault(argument.fault, path=f"{cls.__name__}.{argument.name}")
        for argument in arguments
        if argument.fault
    ]
    if cls._has_own_init and not own:
        what = "has a constructor of its own, so nothing says what it takes"
        faults.append(Fault(f"{cls.__name__} {what}"))
    if faults:
        raise ConfigError(faults)
    docs = _docs(cls)
    definitions: dict[str, Any] = {}
    for one in arguments:
        doc = docs.get(one.name)
        definitions[one.name] = (
            one.type,
            pydantic.Field(description=doc, **one.default),
        )
    with warnings.catch_warnings():
        # A field may have the name of a method of pydantic's
        warnings.simplefilter("ignore", UserWarning)
        made: Any = pydantic.create_model(
            f"{cls.__name__}Config",
            __base__=Config,
            __module__=cls.__module__,
            __doc__=cls.__doc__,
            **definitions,
        )
    aliased = [
        name
        for name, info in made.model_fields.items()
        if info.alias or info.validation_alias
    ]
    if aliased:
        what = "files name a field as its class does"
        hint = "take the alias out of its pydantic.Field, or rename the field"
        raise ConfigError(
            [Fault(what, path=f"{cls.__name__}.{name}", hint=hint) for name in aliased]
        )
    made.node_class = cls
    made.slots = {one.name: one.form for one in arguments if one.form is not None}
    return cast("type[Config[Any]]", made)


class _Argument(NamedTuple):
    """An argument of a constructor that a config gives: its type, default, form for nodes, or what is wrong."""

    name: str
    type: Any
    default: dict[str, Any]
    form: Form | None = None
    fault: str = ""


def _own_arguments(cls: type) -> list[_Argument]:
    """The arguments of the two classes whose constructors take other things than files say."""
    if is_streams(cls):
        return [
            _Argument(
                STREAMS, Annotated[Any, Seeds], {"default": ((DEFAULT_STREAM, None),)}
            )
        ]
    if is_optimizer(cls):
        return [
            _Argument(MODEL, slot_type(MODEL_FORM), {}, MODEL_FORM),
            _Argument("tx", _kept(TX), {}),
            _Argument("wrt", WRT, {"default": PARAMETERS}),
            _Argument("freeze", FREEZE, {"default": None}),
        ]
    return []


def _arguments(cls: type, fields: Mapping[str, Field]) -> Iterator[_Argument]:
    for name, field in fields.items():
        if not field.init or (field.kind is Kind.STATE and field.default is not None):
            continue
        if field.kind is Kind.STATE:
            yield _Argument(
                name,
                Any,
                {},
                fault="it takes a State that is ready, which no configuration gives",
            )
        elif fault := _name_fault(name):
            yield _Argument(name, Any, {}, fault=fault)
        elif field.kind is Kind.SUBNODE:
            default = _slot_default(field)
            yield _Argument(name, slot_type(field.form), default, field.form)
        elif is_computed(field):
            yield _Argument(
                name,
                _or_left_out(_kept(configurable(field.annotation, None))),
                {"default": DEFAULT},
            )
        elif field.default is None:
            yield _Argument(name, _kept(configurable(field.annotation, None)), {})
        else:
            yield _with_default(field, field.default)
    for name, pseudo in getattr(cls, "__dataclass_fields__", {}).items():
        if pseudo._field_type is _INIT_VAR:
            yield _init_var(cls, name, pseudo)


def _with_default(field: Field, make: Callable[[], object]) -> _Argument:
    try:
        value = make()
    except Exception as error:  # of the user's factory
        return _Argument(
            field.name,
            Any,
            {},
            fault=f"its default_factory raises {type(error).__name__}: {error}",
        )
    return _Argument(
        field.name,
        _kept(configurable(field.annotation, value)),
        {"default_factory": _kept_default(make)},
    )


def _name_fault(name: str) -> str:
    if name in RESERVED:
        return f"files use {name!r} otherwise; choose another name"
    if name in _TAKEN or name.startswith("_"):
        return "no configuration has a field of this name; choose another"
    return ""


_TAKEN: Final = ("model_config", "node_class", "slots")
_DATACLASSES: Final[Any] = dataclasses  # whose kinds of fields have no public names
_INIT_VAR: Final = _DATACLASSES._FIELD_INITVAR


def _init_var(cls: type, name: str, declared: "dataclasses.Field[Any]") -> _Argument:
    owner = declaring_classes(cls)[name]
    has_default = declared.default is not dataclasses.MISSING
    try:
        annotation = resolve(declared.type, owner, {})
    except NameError as error:
        return _Argument(
            name, Any, {}, fault=f"nothing defines {error.name!r} of its annotation"
        )
    of = (
        annotation.type
        if isinstance(annotation, dataclasses.InitVar)
        else get_args(annotation)[0]
    )
    if fault := _name_fault(name):
        return _Argument(name, Any, {}, fault=fault)
    default = {"default": declared.default} if has_default else {}
    validated: Any = configurable(of, declared.default if has_default else None)
    return _Argument(
        name, Annotated[validated, pydantic.AfterValidator(unshared)], default
    )


def _kept(annotation: Any) -> Any:
    """The pydantic type of a static field that keeps its value as a node does: no array can be written to."""

    def check(value: Any) -> Any:
        try:
            return _read_only(value)
        except StaticValueError as error:
            raise value_error(str(error)) from None

    return Annotated[annotation, pydantic.AfterValidator(check)]


def _kept_default(make: Callable[[], object]) -> Callable[[], Any]:
    return lambda: _read_only_or_same(make())


def unshared(value: Any) -> Any:
    """The value of a static field or init variable, such that nothing which is written to it shows elsewhere.

    An init variable may be a list or dict, and may hold them: these are copied.
    """
    if type(value) is list:
        return [unshared(item) for item in value]
    if type(value) is dict:
        return {key: unshared(item) for key, item in value.items()}
    return _read_only_or_same(value)


def _read_only_or_same(value: Any) -> Any:
    """The same; a value that cannot be static stays what it is, and the constructor of the node tells."""
    try:
        return _read_only(value)
    except StaticValueError:
        return value


def _read_only(value: Any) -> Any:
    """A value with read-only copies of the arrays in it.

    Raises:
        StaticValueError: A dataclass holds an array that somebody could still write to.
    """
    # A partial would be copied, too; one with a name is what all mean that say the
    # name.
    is_named = isinstance(value, functools.partial) and name_of(value) is not None
    return value if is_named else frozen(value)


def check_config(value: object) -> None:
    """Raise if an argument of a public function is not a config.

    Raises:
        TypeError: It is not; says how one is made of a node or of its class.
    """
    if isinstance(value, Config):
        return
    text = wrong_argument("a config", value)
    if isinstance(value, Node):
        text += "; gn.config.to_config(node) makes one"
    elif isinstance(value, type) and issubclass(value, Node):
        text += "; gn.config.config_of(cls)(...) makes one"
    raise TypeError(text)


def blank(model: type[Config[M]]) -> Config[M]:
    """A config without fields, which `fill` gives it."""
    made: Any = model
    return cast("Config[M]", made.__new__(made))


def blank_of(cls: type[M]) -> Config[M]:
    """A config of a node class without fields: what pickle makes first, and then gives its state."""
    return blank(config_of(cls))


def fill(config: Config[Any], fields: Mapping[str, Any]) -> None:
    """Give a config that was made empty its fields, which are validated; DEFAULT stands for what is left out.

    Raises:
        pydantic.ValidationError: A value does not fit.
    """
    given = {name: value for name, value in fields.items() if value is not DEFAULT}
    type(config).__pydantic_validator__.validate_python(given, self_instance=config)


def field_value(config: Config[Any], name: str, data: object) -> Any:
    """The value that data for a static field of a config is read as.

    Raises:
        pydantic.ValidationError: The field does not take it.
    """
    copy = config.model_copy()
    type(config).__pydantic_validator__.validate_assignment(copy, name, data)
    return copy.__dict__[name]


def _slot_default(field: Field) -> dict[str, Any]:
    """The default of a field for nodes: None, an empty container, or what the class makes itself."""
    make = field.default
    if make is None:
        return {}
    empty = get_origin(make) or make
    if isinstance(empty, type) and issubclass(empty, (list, dict, tuple)):
        return {"default_factory": empty}
    # Not called otherwise, as it would make nodes; a plain default of None is the one
    # that is not a factory.
    owner: Any = field.owner
    declared = owner.__dataclass_fields__[field.name]
    # A layer of a file that takes streams, and is given none, gets new ones.
    is_none = declared.default is None and not admits_streams(field.form)
    return {"default": None if is_none else DEFAULT}


def _or_left_out(annotation: Any) -> Any:
    """The pydantic type of a static field that the class computes if it is left out: DEFAULT takes a value away."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        return value if value is DEFAULT else handler(value)

    return Annotated[annotation, pydantic.WrapValidator(check)]


def takes_streams(config: Config[Any], name: str) -> bool:
    """Whether a field for nodes that was left out gets new streams, as its own default is none."""
    if name not in config.slots or not admits_streams(config.slots[name]):
        return False
    cls: Any = config.node_class
    return cls.__dataclass_fields__[name].default is None


def slot_type(form: Form) -> Any:
    """The pydantic type of a field for nodes: configs of the classes of a form, in its containers."""

    def check(value: Any) -> Any:
        if value is DEFAULT:
            return value
        fault = misfit(form, value)
        if fault is not None:
            raise value_error(fault, "wrong_node")
        return value

    return Annotated[Any, pydantic.PlainValidator(check)]


def misfit(form: Form, value: Any) -> str | None:
    """What is wrong with a value that stands where a form admits nodes, or `None`. Configs are not looked into."""
    found = _misfit_at(form, value)
    if found is None:
        return None
    keys, text = found
    where = "".join(
        [f".{key}" if isinstance(key, str) else f"[{key}]" for key in keys]
    ).lstrip(".")
    return f"{where}: {text}" if where else text


def slot_fault(config: Config[Any], name: str) -> tuple[Path, str] | None:
    """What is wrong in a field for nodes, and at which keys: its lists and dicts may have been changed since."""
    value = config.__dict__[name]
    return None if value is DEFAULT else _misfit_at(config.slots[name], value)


def _misfit_at(form: Form, value: Any) -> tuple[Path, str] | None:
    # A list that holds itself comes to an end too: forms are as deep as somebody wrote
    # them.
    todo: list[tuple[Form, Any, Path]] = [(form, value, ())]
    while todo:
        form, value, keys = todo.pop()
        if value is None and form.optional:
            continue
        if isinstance(value, Config):
            if not issubclass(value.node_class, form.classes):
                return (
                    keys,
                    f"expected {form}, found a config of {distinct_class_name(value.node_class, *form.classes)}",
                )
            continue
        if isinstance(value, Node):
            name = type(value).__name__
            return (
                keys,
                f"expected a config of {form}, found a {name} node; gn.config.to_config(node) makes one",
            )
        if not is_container(value) or (kind := slot_kind(form, value)) is None:
            return keys, f"expected {form}, found {type(value).__name__}"
        fault = key_fault(value)
        if fault is not None:
            return keys, fault
        placed = form.items(kind, items(value, as_written=True))
        if placed is None:
            return keys, f"expected {form}, found {len(value)} items"
        todo += [(of, item, (*keys, key)) for key, item, of in placed]
    return None


def slot_kind(form: Form, value: object) -> ContainerKind | None:
    """What a value is taken for in a slot: files have no tuples, so that a list stands for one too.

    Returns:
        `None` for what is not a container, or where the slot takes none such; where its
        form is open, a config stands alone.
    """
    if form.is_open or not is_container(value):
        return None
    kind = dict if isinstance(value, dict) else _sequence_kind(form)
    return kind if form.admits(kind) else None


def key_fault(value: Container) -> str | None:
    """What is wrong with the keys of a container in a slot, or `None`. Of files, the readers see to it."""
    if not isinstance(value, dict):
        return None
    wrong = [type(key).__name__ for key in value if not isinstance(key, str)]
    return (
        f"a key is a string, found {', '.join(dict.fromkeys(wrong))}" if wrong else None
    )


def _sequence_kind(form: Form) -> ContainerKind:
    return tuple if form.list_of is None else list


def form_at(form: Form, keys: Path) -> Form:
    """The form of what stands at keys within the value of a slot."""
    for key in keys:
        form = form.item(dict if isinstance(key, str) else _sequence_kind(form), key)
    return form


def configs_in(
    value: Any, *, as_written: bool = False
) -> Iterator[tuple[Path, Config[Any]]]:
    """The configs in the value of a slot, with the keys that lead to them."""
    for keys, leaf in leaves(value, as_written=as_written):
        if isinstance(leaf, Config):
            yield keys, leaf


def mapped_slot(function: Callable[[Any], Any], value: Any) -> Any:
    """The value of a slot with `function` of each leaf in place of the leaf, in new containers.

    Tuples become lists, as in files: what they hold can then be replaced.
    """
    # As deep as the annotation, which somebody wrote.
    if not is_container(value):
        return function(value)
    pairs = [
        (key, mapped_slot(function, child))
        for key, child in items(value, as_written=True)
    ]
    return assembled(dict if isinstance(value, dict) else list, pairs)


def _equal(one: Config[Any], other: Config[Any]) -> bool:
    """Whether two graphs of configs say the same: fields, and which references share a config."""
    pairs: dict[int, Config[Any]] = {}
    back: dict[int, int] = {}
    todo = [(one, other)]
    while todo:
        left, right = todo.pop()
        if id(left) in pairs or id(right) in back:
            if pairs.get(id(left)) is not right:
                return False
            continue
        pairs[id(left)], back[id(right)] = right, id(left)
        if type(left) is not type(right):
            return False
        for name, value in left.__dict__.items():
            theirs = right.__dict__[name]
            if name not in left.slots:
                if not same_static(value, theirs):
                    return False
                continue
            if (
                slot_fault(left, name) is not None
                or slot_fault(right, name) is not None
            ):
                if value is not theirs:
                    return False
                continue
            if _outline(value) != _outline(theirs):
                return False
            yours = dict(configs_in(theirs))
            todo += [(mine, yours[keys]) for keys, mine in configs_in(value)]
    return True


def _outline(value: Any) -> Any:
    """The value of a slot apart from which configs stand in it; of a dict also the order, which a model may run in."""
    if not is_container(value):
        return value if value is None or value is DEFAULT else Config
    kind = dict if isinstance(value, dict) else list
    return kind, [
        (key, _outline(child)) for key, child in items(value, as_written=True)
    ]


def same_static(one: object, other: object) -> bool:
    """Whether two static values are the same; one that cannot be told apart by value is the same as itself only."""
    if one is other:
        return True
    try:
        return static_key(one) == static_key(other)
    except StaticValueError:
        return False


def is_default(model: type[Config[Any]], name: str, value: object) -> bool:
    """Whether a value of a static field is its default."""
    info = model.model_fields[name]
    return not info.is_required() and same_static(
        value, info.get_default(call_default_factory=True, validated_data={})
    )


def _docs(cls: type) -> dict[str, str]:
    """The strings under the fields of a class and of its parents."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, NodeBase) and base.__module__ != "graphnode._declare._node":
            source = _SOURCES.of_class(base)
            found |= source.docs if source is not None else {}
    return found
