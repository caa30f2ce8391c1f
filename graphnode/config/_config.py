"""One flat pydantic model for each node class: what its constructor takes, apart from States.

The model, a subclass of `Config`, is made once and kept in the node class. A field that
holds nodes holds their configs (it is called a slot). pydantic does not look into a
slot: each config was validated when it was made, so that nothing here recurses, however
deep a model is.
"""

from collections.abc import Iterator, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    TypeVar,
    cast,
    get_origin,
)

import pydantic

from .._arguments import wrong_argument
from .._caches import kept, publish
from .._declare._forms import Form
from .._declare._node import Node
from .._declare._schema import Field, schema
from .._errors import ConfigError, Fault
from .._fields import NodeBase
from .._nesting import (
    is_container,
    items,
    leaves,
)
from .._paths import Path
from .._pretty._records import Record, Text
from .._pretty._shown import Shown
from .._redefinition import distinct_class_name
from .._registered import pickled
from .._static import StaticValueError, registered_name, static_key
from ._constructor import arguments_of, field_docs
from ._left_out import DEFAULT
from ._slots import key_fault, slot_kind
from ._streams import admits_streams
from ._validated import model_of_fields
from ._value_errors import value_error

M = TypeVar("M", bound=Node)
M_co = TypeVar("M_co", bound=Node, covariant=True)

# The name under which a node class keeps its config class.
_CONFIG: Final = "__graphnode_config__"


class Config(Shown, pydantic.BaseModel, Generic[M_co]):
    """What a node is built from: the fields that its constructor takes, where nodes are configs in turn.

    `config_of` makes a subclass for each node class. A config may be assigned to,
    compared (by its fields, shared and cyclic references included) and printed; every
    assignment is validated. The same config in two places is one node.

    Raises:
        pydantic.ValidationError: In construction or assignment: a value that the field
            does not take; a `ValueError`.

    Example:
        >>> config = gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3)
        >>> config.out_size = 4
        >>> gn.config.build(config).out_size
        (4,)
    """

    model_config: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(
        extra="forbid",
        validate_assignment=True,
        arbitrary_types_allowed=True,
        # A node may have a field whose name begins with `model_`: pydantic warns of some.
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

        def __class_getitem__(cls, item: object) -> type:
            """Itself: `Config[Net]` is for type checkers alone."""
            # pydantic would make a class of its own for `Config[Net]`, which no config
            # is an instance of.
            return cls

    def __eq__(self, other: object) -> bool:
        """Whether both describe the same graph of configs, by their fields and by what is shared."""
        # pydantic's own would recurse, and not end in a cycle.
        return _equal(self, other) if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it may change

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as an empty config of its node class, made by `blank_of`, and the fields that it then gets."""
        # By the node class: the config's own is found under no name.
        state = self.__getstate__()
        fields = {name: pickled(value) for name, value in state["__dict__"].items()}
        return blank_of, (self.node_class,), {**state, "__dict__": fields}

    # Of the printer here, not of pydantic's.
    def __pretty__(self) -> Record:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        # Any: what prints of a node is said by `Node`, and not by its base.
        cls: Any = self.node_class
        fields = [
            (name, _named(value))
            for name, value in self.__dict__.items()
            if value is not DEFAULT and cls._shows(name, value)
        ]
        return Record(cls.__name__, fields)

    def __str__(self) -> str:
        return repr(self)


def _named(value: Any) -> Any:
    """A value as a config prints it: by its registered name, as in a file, if it has one."""
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
        >>> list(gn.config.config_of(gn.nn.Embedding).model_fields)
        ['num_embeddings', 'width', 'dtype', 'precision', 'w_init', 'param_dtype']
    """
    # `Net[int]` has the config class of `Net`.
    node_class: Any = get_origin(cls) or cls
    compiled = schema(node_class)
    model = kept(node_class, _CONFIG)
    if model is None:
        model = publish(
            node_class, _CONFIG, _make_config_class(node_class, compiled.fields)
        )
    return cast("type[Config[M]]", model)


def _make_config_class(
    cls: type[Node], fields: Mapping[str, Field]
) -> type[Config[Any]]:
    """The config class of a node class, by its compiled fields, which `config_of` keeps."""
    arguments = arguments_of(cls, fields)
    docs = field_docs(cls)
    slots: dict[str, Form] = {}
    definitions: dict[str, Any] = {}
    for argument in arguments:
        validated = argument.type
        if argument.form is not None:
            slots[argument.name] = argument.form
            validated = _slot_type(argument.form)
        info = pydantic.Field(description=docs.get(argument.name), **argument.default)
        definitions[argument.name] = validated, info
    model = model_of_fields(
        f"{cls.__name__}Config",
        definitions,
        __base__=Config,
        __module__=cls.__module__,
        __doc__=cls.__doc__,
    )
    _check_no_aliases(cls, model)
    # Set here, as `create_model` would make fields of them.
    model.node_class = cls
    model.slots = slots
    return cast("type[Config[Any]]", model)


def _check_no_aliases(cls: type, model: type[pydantic.BaseModel]) -> None:
    """Raise if the metadata of a field renames it for pydantic.

    With an alias, files would say a field by another name than `override` and messages
    do.

    Raises:
        ConfigError: Names all such fields.
    """
    faults: list[Fault] = []
    for name, info in model.model_fields.items():
        if info.alias or info.validation_alias:
            what = "files name a field as its class does"
            hint = "take the alias out of its pydantic.Field, or rename the field"
            faults.append(Fault(what, path=f"{cls.__name__}.{name}", hint=hint))
    if faults:
        raise ConfigError(faults)


def check_config(value: object) -> None:
    """Raise if an argument of a public function, such as `build` or `dump`, is not a config.

    Raises:
        TypeError: It is not; the message has how one is made of a node or of its class.
    """
    if isinstance(value, Config):
        return
    text = wrong_argument("a config", value)
    if isinstance(value, Node):
        text += "; gn.config.to_config(node) makes one"
    elif isinstance(value, type) and issubclass(value, Node):
        text += "; gn.config.config_of(cls)(...) makes one"
    raise TypeError(text)


def empty_config(model: type[Config[M]]) -> Config[M]:
    """A config without fields, which `fill` gives it.

    In this way others can refer to it before its own fields are known, as a cycle
    needs.
    """
    # Not `model_construct`, which would set the defaults.
    cls: Any = model
    return cast("Config[M]", cls.__new__(cls))


def blank_of(cls: type[M]) -> Config[M]:
    """An empty config of a node class: what pickle makes first, and then gives its state. Pickles have this name."""
    return empty_config(config_of(cls))


def fill(config: Config[Any], fields: Mapping[str, Any]) -> None:
    """Give a config that was made empty its fields, which are validated; DEFAULT stands for what is left out.

    Raises:
        pydantic.ValidationError: A value does not fit.
    """
    arguments = {name: value for name, value in fields.items() if value is not DEFAULT}
    # Into the config that is there, as others refer to it already.
    type(config).__pydantic_validator__.validate_python(arguments, self_instance=config)


def field_value(config: Config[Any], name: str, data: object) -> Any:
    """The value that data for a static field of a config is read as.

    To see what written data would come back as, before it is written to a file.

    Raises:
        pydantic.ValidationError: The field does not take it.
    """
    # On a copy, as the config keeps its value.
    copy = config.model_copy()
    type(config).__pydantic_validator__.validate_assignment(copy, name, data)
    return copy.__dict__[name]


def takes_streams(config: Config[Any], name: str) -> bool:
    """Whether a field for nodes takes streams, and has `None` by default: left out, it gets new ones."""
    if name not in config.slots or not admits_streams(config.slots[name]):
        return False
    cls: Any = config.node_class
    return cls.__dataclass_fields__[name].default is None


def _slot_type(form: Form) -> Any:
    """The pydantic type of a field for nodes, which `Config` validates at each assignment.

    It takes configs of the classes of a form, in its containers, and looks no deeper.
    """

    def check(value: Any) -> Any:
        """The value itself, if the form admits it."""
        if value is DEFAULT:
            return value
        fault = mismatch(form, value)
        if fault is not None:
            raise value_error(fault, "wrong_node")
        return value

    return Annotated[Any, pydantic.PlainValidator(check)]


def mismatch(form: Form, value: Any) -> str | None:
    """What is wrong with a value that stands where a form admits nodes, or `None`. Configs are not looked into.

    For all who put configs in a field: pydantic, files, and `override` with a default.
    """
    fault = _mismatch_at(form, value)
    if fault is None:
        return None
    keys, text = fault
    steps = [f".{key}" if isinstance(key, str) else f"[{key}]" for key in keys]
    where = "".join(steps).lstrip(".")
    return f"{where}: {text}" if where else text


def slot_fault(config: Config[Any], name: str) -> tuple[Path, str] | None:
    """What is wrong in a field for nodes, and at which keys, or `None`, for whoever walks through configs.

    It was validated when it was assigned, but its lists and dicts may have been changed
    since.
    """
    value = config.__dict__[name]
    return None if value is DEFAULT else _mismatch_at(config.slots[name], value)


def _mismatch_at(form: Form, value: Any) -> tuple[Path, str] | None:
    """What is wrong in the value of a field for nodes, and the keys within it that lead there, or `None`.

    For `mismatch`, which makes a text of both, and `slot_fault`.
    """
    # Forms are as deep as somebody wrote them, so that this ends also for a list that
    # holds itself.
    todo: list[tuple[Form, Any, Path]] = [(form, value, ())]
    while todo:
        form, value, keys = todo.pop()
        if value is None and form.optional:
            continue
        if isinstance(value, Config) and issubclass(value.node_class, form.classes):
            continue
        kind = slot_kind(form, value)
        if kind is None or not is_container(value):
            return keys, _leaf_fault(form, value)
        fault = key_fault(value)
        if fault is not None:
            return keys, fault
        placed = form.items(kind, items(value, as_written=True))
        if placed is None:
            return keys, f"expected {form}, found {len(value)} items"
        todo += [(inner, item, (*keys, key)) for key, item, inner in placed]
    return None


def _leaf_fault(form: Form, value: object) -> str:
    """What `_mismatch_at` says of a value that is neither the config nor the container that a form admits."""
    if isinstance(value, Config):
        name = distinct_class_name(value.node_class, *form.classes)
        return f"expected {form}, found a config of {name}"
    name = type(value).__name__
    if isinstance(value, Node):
        return f"expected a config of {form}, found a {name} node; gn.config.to_config(node) makes one"
    return f"expected {form}, found {name}"


def configs_in(
    value: Any, *, as_written: bool = False
) -> Iterator[tuple[Path, Config[Any]]]:
    """The configs in the value of a slot (a field for nodes), each with the keys that lead to it in there."""
    for keys, leaf in leaves(value, as_written=as_written):
        if isinstance(leaf, Config):
            yield keys, leaf


def _equal(root: Config[Any], other: Config[Any]) -> bool:
    """Whether two graphs of configs are equal, for `==`: in their fields, and in which references share a config.

    Both graphs are walked together, and each config is paired with the one at the same
    path. Sharing is the same where the pairs are one to one:

        left   a: &x {..}, b: *x       right   a: {..}, b: {..}
        x is paired with what is at `a`, and met again beside what is at `b`: not equal.
    """
    right_of: dict[int, Config[Any]] = {}
    paired: set[int] = set()
    todo = [(root, other)]
    while todo:
        left, right = todo.pop()
        # One of the two was met before: then the other must be its partner.
        if id(left) in right_of or id(right) in paired:
            if right_of.get(id(left)) is not right:
                return False
            continue
        right_of[id(left)] = right
        paired.add(id(right))
        if type(left) is not type(right):
            return False
        below = _pairs_below(left, right)
        if below is None:
            return False
        todo += below
    return True


def _pairs_below(
    left: Config[Any], right: Config[Any]
) -> list[tuple[Config[Any], Config[Any]]] | None:
    """The configs that two of one class hold at the same keys, which `_equal` compares next.

    `None` if the two differ otherwise.
    """
    pairs: list[tuple[Config[Any], Config[Any]]] = []
    for name, value in left.__dict__.items():
        other = right.__dict__[name]
        if name not in left.slots:
            if not same_static(value, other):
                return None
        elif slot_fault(left, name) is not None or slot_fault(right, name) is not None:
            # A list that has been changed since may hold anything, itself included.
            if value is not other:
                return None
        elif _outline(value) != _outline(other):
            return None
        else:
            # Equal outlines have configs at the same keys.
            others = dict(configs_in(other))
            pairs += [(config, others[keys]) for keys, config in configs_in(value)]
    return pairs


def _outline(value: Any) -> Any:
    """What `==` compares of a slot at once: its value with the same mark in place of each config in it.

    Of a dict also the order, which a model may run in.
    """
    if not is_container(value):
        return value if value is None or value is DEFAULT else Config
    # A list stands for a tuple, as files have no other: both build the same.
    kind = dict if isinstance(value, dict) else list
    return kind, [
        (key, _outline(child)) for key, child in items(value, as_written=True)
    ]


def same_static(value: object, other: object) -> bool:
    """Whether two static values are the same. One that cannot be compared by value is the same as itself alone.

    For all that compares configs: `==`, `diff`, and `dump`, when it reads back what it
    wrote.
    """
    if value is other:
        return True
    try:
        return static_key(value) == static_key(other)
    except StaticValueError:
        return False


def is_default(model: type[Config[Any]], name: str, value: object) -> bool:
    """Whether a value of a static field is its default, and so need not stand in a file."""
    if model.model_fields[name].is_required():
        return False
    return same_static(value, field_default(model, name))


def field_default(model: type[Config[Any]], name: str) -> Any:
    """The default of a field that has one; made anew where it comes from a function."""
    info = model.model_fields[name]
    return info.get_default(call_default_factory=True, validated_data={})
