"""Declare fields: the kinds, and the specifiers `static`, `state` and `subnode`, which make dataclass fields.

The specifiers are ordinary field specifiers of PEP 681. Overloads with `= ...` for
`init` and `kw_only` are what all checkers read right: a written default there would
override a class's own `kw_only=True` in some of them.
"""

import dataclasses
import enum
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    overload,
)

import jax
import numpy as np
from jax.typing import DTypeLike

from ._describe import describe
from ._errors import FieldError
from ._foreign import NodeHints
from ._hints import did_you_mean
from ._static import GraphObject, StaticValue
from ._versions import AnyVersion

T = TypeVar("T")
# An array is not hashable, but may be static: it is compared by content.
H = TypeVar("H", bound=StaticValue)

# As in `jax.nn.initializers`: from key, shape and dtype to an array.
Initializer: TypeAlias = Callable[[jax.Array, tuple[int, ...], DTypeLike], jax.Array]

# The names that a field or class had before.
Names: TypeAlias = str | Sequence[str]

METADATA_KEY: Final = "graphnode"


class Kind(enum.Enum):
    """What a field holds: part of the structure, a State, or a node."""

    STATIC = "static"
    STATE = "state"
    SUBNODE = "subnode"

    def __str__(self) -> str:
        return self.value


class NodeBase(NodeHints, GraphObject):
    """What the schema compiler knows of nodes: the class that all of them extend."""

    __slots__ = ("__weakref__", "_binding", "_joint", "_popped", "_removed", "_version")

    # Every subclass has one, for its fields; some type checkers see only the slots.
    __dict__: dict[str, Any]
    # Each set by the module that knows its type, to the right of here.
    _version: AnyVersion  # see `_versions`
    _binding: Any  # by `_graph._binding`
    _joint: Any  # the bindings of pytrees whose first root it is, by `_graph._binding`
    _popped: Any  # shapes of what was popped, by `_declare._plan`
    _removed: Any  # values of fields that were removed from the class, by `_reload`
    _plan: ClassVar[Any] = (
        None  # each class's own, never a parent's, by `_declare._node`
    )


# `Node.__setattr__` takes fields alone; these set what is not a field.
set_version: Final[Callable[[NodeBase, object], None]] = NodeBase.__dict__[
    "_version"
].__set__
set_binding: Final[Callable[[NodeBase, object], None]] = NodeBase.__dict__[
    "_binding"
].__set__
set_joint: Final[Callable[[NodeBase, object], None]] = NodeBase.__dict__[
    "_joint"
].__set__


class Specifier(NamedTuple):
    """What a specifier says about its field that a dataclass field has no place for."""

    kind: Kind
    initializer: Initializer | None = None
    shape: Callable[[Any], tuple[int, ...]] | None = None
    factory: Callable[[Any], Any] | None = None
    name: str | None = None
    tag: str | None = None
    sharding: Hashable = None
    was: tuple[str, ...] = ()

    @property
    def makes_value(self) -> bool:
        """Whether the node makes the value itself, from the specifier.

        Such a field is made once: a second call of `__init__` on the node would leave
        it as it was.
        """
        return self.initializer is not None or self.factory is not None


class LeftOut(enum.Enum):
    """What a generated constructor assigns to a computed field that was not passed: its factory is still to run."""

    LEFT_OUT = "left out"


def left_out() -> LeftOut:
    """The `default_factory` of a field with `factory=`, so that it has a default to `dataclasses`.

    By it, a generated constructor shows that the argument was not passed.
    """
    return LeftOut.LEFT_OUT


# What all specifiers take, as dataclass fields do.
_OPTIONS: Final = ("default", "default_factory", "init", "kw_only")


def _dataclass_field(specifier: Specifier, **options: Any) -> Any:
    """The dataclass field of a specifier: its options, with the specifier in the metadata.

    For `static`, `state` and `subnode`.

    Args:
        specifier: What the dataclass field has no place for.
        options: What it has: default, default factory, `init`, `kw_only`.
    """
    _check_options(specifier.kind, options)
    # JAX's own `jax.tree.static()` sets the same "static" key.
    metadata = {METADATA_KEY: specifier, "static": specifier.kind is Kind.STATIC}
    default = options.get("default")
    if specifier.kind is Kind.STATIC and isinstance(default, jax.Array | np.ndarray):
        # `dataclasses` refuses a default without a hash, as instances would share it;
        # but a static array never changes. One of NumPy is copied, as the caller may
        # write to it later.
        value = default.copy() if isinstance(default, np.ndarray) else default
        options["default_factory"] = lambda: value
        del options["default"]
    return dataclasses.field(metadata=metadata, **options)


def names_of(was: Names, subject: str) -> tuple[str, ...]:
    """The argument `was` of the specifiers, and of classes: the former names.

    Raises:
        FieldError: Something among them is not a name.
    """
    names = (was,) if isinstance(was, str) else tuple(was)
    for name in names:
        # A class may have been in another module.
        if not isinstance(name, str) or not all(
            part.isidentifier() or part == "<locals>" for part in name.split(".")
        ):
            raise FieldError(
                f"{subject}: was= takes the name that it had before, or several; found {name!r}"
            )
    return names


@overload
def static(
    *, default: H, was: Names = ..., init: bool = ..., kw_only: bool = ...
) -> H: ...
@overload
def static(
    *,
    default_factory: Callable[[], H],
    was: Names = ...,
    init: bool = ...,
    kw_only: bool = ...,
) -> H: ...
@overload
def static(
    *,
    factory: Callable[[Any], H],
    was: Names = ...,
    init: bool = ...,
    kw_only: bool = ...,
) -> H: ...
# Any: a specifier stands for a value of whatever type its field is annotated with.
@overload
def static(*, was: Names = ..., init: bool = ..., kw_only: bool = ...) -> Any: ...
def static(
    *values: object,
    factory: Callable[[Any], Any] | None = None,
    was: Names = (),
    **options: Any,
) -> Any:
    """Declare a field that is part of the structure: hashable, compared by type and value.

    An array is allowed here, and compared by content; it is read-only from then on.

    Args:
        default: The value of the field when the constructor is not given one.
        default_factory: Called without arguments for the default.
        factory: From the node under construction to the value, where the constructor is
            not given one: for what follows from other fields. It runs once, when the
            field is first read, or else when the constructor is done.
        was: The name that the field had before, or several: under which a checkpoint may
            still have it.
        init: Whether the constructor takes the field; otherwise its factory makes it,
            or `__post_init__` sets it.
        kw_only: Whether the constructor takes it by keyword only.

    Example:
        >>> class Act(gn.Node):
        ...     function: Callable[[jax.Array], jax.Array] = gn.static(default=jax.nn.relu)
        >>> Act().function is jax.nn.relu
        True
        >>> class Heads(gn.Node):
        ...     width: int
        ...     heads: int
        ...     head_size: int = gn.static(factory=lambda self: self.width // self.heads)
        >>> Heads(12, 3).head_size, Heads(12, 3, head_size=5).head_size
        (4, 5)
    """
    if values:
        raise FieldError(_misuse("static", values[0]))
    if factory is not None:
        _check_factory(Kind.STATIC, factory)
        options = _computed_options(options)
    specifier = Specifier(Kind.STATIC, factory=factory, was=names_of(was, "gn.static"))
    return _dataclass_field(specifier, **options)


@overload
def state(
    initializer: Initializer,
    /,
    *,
    shape: Callable[[Any], tuple[int, ...]] | None = ...,
    name: str | None = ...,
    tag: str | None = ...,
    sharding: Hashable = ...,
    was: Names = ...,
    init: Literal[False] = False,
) -> Any: ...
@overload
def state(
    *, default: T, was: Names = ..., init: bool = ..., kw_only: bool = ...
) -> T: ...
@overload
def state(
    *,
    default_factory: Callable[[], T],
    was: Names = ...,
    init: bool = ...,
    kw_only: bool = ...,
) -> T: ...
# Any: a specifier stands for a value of whatever type its field is annotated with.
@overload
def state(*, was: Names = ..., init: bool = ..., kw_only: bool = ...) -> Any: ...
def state(
    initializer: Initializer | None = None,
    /,
    *,
    shape: Callable[[Any], tuple[int, ...]] | None = None,
    name: str | None = None,
    tag: str | None = None,
    sharding: Hashable = None,
    was: Names = (),
    **options: Any,
) -> Any:
    """Declare a field that holds a State, or a list, tuple or dict of States.

    With an initializer the node makes the State itself, from a key of the ambient
    random stream, and the constructor does not take the field. Shape and dtype come
    from the annotation (`ParamState[Float[Array, "rows cols"]]`, whose axes are looked
    up in the node's static fields) or from `shape`.

    Args:
        initializer: `(key, shape, dtype) -> array`, as in `jax.nn.initializers`.
        shape: From the node to the shape, where the annotation does not give it.
        name: Name of the State that is made.
        tag: Tag of the State that is made.
        sharding: Sharding of the State that is made: `jax.P(...)` for mesh axes, or a
            tuple of roles, one for each axis.
        was: The name that the field had before, or several: under which a checkpoint may
            still have it.
        default: The value of the field when the constructor is not given one; only
            `None` is of use.
        default_factory: Called without arguments for the default.
        init: Whether the constructor takes a ready State; otherwise `__post_init__`
            sets it.
        kw_only: Whether the constructor takes it by keyword only.

    Example:
        >>> class Scale(gn.Node):
        ...     width: int
        ...     weight: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.ones)
        >>> Scale(3).weight.value
        Array([1., 1., 1.], dtype=float32)
    """
    if initializer is None:
        description = {"shape": shape, "name": name, "tag": tag, "sharding": sharding}
        _check_undescribed(
            [part for part, value in description.items() if value is not None]
        )
        specifier = Specifier(Kind.STATE, was=names_of(was, "gn.state"))
        return _dataclass_field(specifier, **options)
    _check_initializer(initializer, shape)
    specifier = Specifier(
        Kind.STATE,
        initializer=initializer,
        shape=shape,
        name=name,
        tag=tag,
        sharding=sharding,
        was=names_of(was, "gn.state"),
    )
    line = "gn.state(initializer)"
    options = _node_made_options(Kind.STATE, "an initializer", line, options)
    return _dataclass_field(specifier, **options)


def _check_initializer(initializer: object, shape: object) -> None:
    """Raise if an initializer, or `shape=`, is not a function.

    For `state`: it would be called much later, at the first construction.

    Raises:
        FieldError: Says what the function is for, and what to write.
    """
    # A class of States is callable as well; it is the annotation that names it.
    if not _is_function(initializer) or _is_graph_class(initializer):
        raise FieldError(_misuse("state", initializer))
    if shape is not None and not _is_function(shape):
        sizes = repr(shape) if isinstance(shape, tuple) else "(self.rows, 3)"
        raise FieldError(
            f"gn.state: shape= takes a function from the node to the shape; found {describe(shape)}; write "
            f"shape=lambda self: {sizes}"
        )


def _check_factory(kind: Kind, factory: object) -> None:
    """Raise `FieldError` if `factory=` is not a function, with what to write.

    For `static` and `subnode`: it would be called much later, at the first
    construction.
    """
    if not _is_function(factory):
        raise FieldError(
            f"gn.{kind}: factory= takes a function from the node to the value of the field; found "
            f"{describe(factory)}; write factory=lambda self: {_constructor_text(factory)}"
        )


def _check_options(kind: Kind, options: Mapping[str, Any]) -> None:
    """Raise for an option that no dataclass field has, or a `default_factory` that cannot be called.

    For `_dataclass_field`: the error of `dataclasses` would name its own function.

    Raises:
        FieldError: Lists the options, or says what to write.
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        names = _OPTIONS if kind is Kind.STATE else ("factory", *_OPTIONS)
        hint = did_you_mean(unknown[0], names) or f"it takes {', '.join(names)}"
        raise FieldError(f"gn.{kind}() has no option {unknown[0]!r}; {hint}")
    factory = options.get("default_factory", dataclasses.MISSING)
    if factory is not dataclasses.MISSING and not _is_function(factory):
        raise FieldError(
            f"gn.{kind}: default_factory= takes a function without arguments; found {describe(factory)}; write "
            f"default_factory=lambda: {_constructor_text(factory)}"
        )


def _node_made_options(
    kind: Kind, maker: str, line: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a field that the node makes itself, so that its constructor does not take it.

    For an initializer of `state`, and the factory of `subnode`.

    Raises:
        FieldError: An option contradicts that.
    """
    others = [f"{name}=" for name in ("default", "default_factory") if name in options]
    if options.get("init", False):
        others.append("init=True")
    if not others:
        # An explicit `init=False` says what is so anyway.
        return {"init": False, **options}
    instead = (
        f"gn.{kind}(default=None) for an argument of the constructor, which "
        "__post_init__ replaces if it is None"
    )
    if "default_factory" in options:
        instead = f"gn.{kind}(default_factory=...) for an argument of the constructor with a default"
    raise FieldError(
        f"gn.{kind}() with {maker} declares a field that the node makes itself, and takes no {' or '.join(others)}; "
        f"write {line} alone, or {instead}"
    )


def _computed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a static field that the node computes where its constructor is not given a value.

    For the factory of `static`, which the constructor may be given a value in place of.

    Raises:
        FieldError: They have a default as well.
    """
    others = [f"{name}=" for name in ("default", "default_factory") if name in options]
    if others:
        raise FieldError(
            f"gn.static() with factory= computes the value that the constructor is not given, and takes no "
            f"{' or '.join(others)}; write gn.static(factory=...) alone"
        )
    return {**options, "default_factory": left_out}


def _is_function(value: object) -> bool:
    """Whether a value may be an initializer or a factory; not a layer, which is called with its input."""
    return callable(value) and not isinstance(value, GraphObject)


def _is_graph_class(value: object) -> bool:
    """Whether a value is a class of nodes or States.

    For errors: the class was meant as the annotation.
    """
    return isinstance(value, type) and issubclass(value, GraphObject)


_PURPOSE: Final = {
    "static": "declares a field that is part of the structure, and takes no positional argument",
    "state": "declares a field that holds a State, and takes an initializer, a function of key, shape and dtype",
    "subnode": "declares a field that holds a node, and takes no positional argument",
}


def _misuse(specifier: str, value: object) -> str:
    """What is wrong with an argument of a specifier, and what to write.

    For `gn.static(3)` and the like: a specifier takes its value by keyword.
    """
    return f"gn.{specifier}() {_PURPOSE[specifier]}; found {describe(value)}; {_remedy_text(specifier, value)}"


def _remedy_text(specifier: str, value: object) -> str:
    """The line to write in place of `specifier(value)`.

    For `_misuse`, by what the value shows of what was meant.
    """
    is_graph_class = _is_graph_class(value)
    # As `nnx.state(node)` is written in Flax.
    if isinstance(value, NodeBase) and specifier == "state":
        return "for the States of a node, write gn.states(node)"
    if isinstance(value, GraphObject) or (is_graph_class and specifier != "state"):
        return f"write gn.{kind_for(value)}(default_factory=lambda: {_constructor_text(value)})"
    if is_graph_class:
        line = f"field: {getattr(value, '__name__', '')} = gn.{kind_for(value)}()"
        return f"declare the class in front of it: {line}"
    if isinstance(value, jax.Array | np.ndarray):
        in_state = "gn.state(default_factory=lambda: gn.ParamState(...))"
        return f"write {in_state} for a State, or gn.static(default=...) for a part of the structure"
    if specifier == "state":
        return "write gn.state(jax.nn.initializers.zeros)"
    if specifier == "static":
        return f"write gn.static(default={_default_text(value)})"
    return "write gn.subnode(factory=lambda self: ...)"


def kind_for(value: object) -> Kind:
    """The kind of a field for a node or State, or for objects of such a class.

    For lines to write: the specifier has that name.
    """
    cls = value if isinstance(value, type) else type(value)
    return Kind.SUBNODE if issubclass(cls, NodeBase) else Kind.STATE


def _constructor_text(value: object) -> str:
    """A call that makes an object like this one.

    For the lines that errors suggest, as in `default_factory=lambda: Linear(...)`.
    """
    if isinstance(value, type):
        return f"{value.__name__}(...)"
    return f"{type(value).__name__}(...)" if isinstance(value, GraphObject) else "..."


def _default_text(value: object) -> str:
    """A default as a line of code writes it, if it is short; else "...".

    For the line that an error suggests, as in `gn.static(default=3)`.
    """
    text = repr(value) if isinstance(value, int | float | str) else "..."
    return text if len(text) < 40 else "..."


def _check_undescribed(parts: Sequence[str]) -> None:
    """Raise if there are parts of the description of a State that the node does not make: they would be lost.

    For `state`, without an initializer.

    Raises:
        FieldError: Says where they belong.
    """
    if parts:
        raise FieldError(
            f"state() takes {', '.join(parts)} with an initializer, for the State that the node makes; without one, "
            f"describe the State where it is made, as in ParamState(value, {parts[-1]}=...)"
        )


@overload
def subnode(
    *, factory: Callable[[Any], T], was: Names = ..., init: Literal[False] = False
) -> T: ...
@overload
def subnode(
    *, default: T, was: Names = ..., init: bool = ..., kw_only: bool = ...
) -> T: ...
@overload
def subnode(
    *,
    default_factory: Callable[[], T],
    was: Names = ...,
    init: bool = ...,
    kw_only: bool = ...,
) -> T: ...
# Any: a specifier stands for a value of whatever type its field is annotated with.
@overload
def subnode(*, was: Names = ..., init: bool = ..., kw_only: bool = ...) -> Any: ...
def subnode(
    *values: object,
    factory: Callable[[Any], Any] | None = None,
    was: Names = (),
    **options: Any,
) -> Any:
    """Declare a field that holds a node, or a list, tuple or dict of nodes.

    Args:
        factory: From the node under construction to the field's value; the constructor
            does not take the field.
        was: The name that the field had before, or several: under which a checkpoint may
            still have it.
        default: The value of the field when the constructor is not given one; only
            `None` is of use.
        default_factory: Called without arguments for the default.
        init: Whether the constructor takes the field; otherwise `__post_init__` sets
            it.
        kw_only: Whether the constructor takes it by keyword only.

    Example:
        >>> class Square(gn.Node):
        ...     width: int
        ...     linear: gn.nn.Linear = gn.subnode(factory=lambda self: gn.nn.Linear(self.width, self.width))
        >>> Square(3).linear.out_size
        (3,)
    """
    if values:
        raise FieldError(_misuse("subnode", values[0]))
    if factory is not None:
        _check_factory(Kind.SUBNODE, factory)
        line = "gn.subnode(factory=...)"
        options = _node_made_options(Kind.SUBNODE, "factory=", line, options)
    specifier = Specifier(
        Kind.SUBNODE, factory=factory, was=names_of(was, "gn.subnode")
    )
    return _dataclass_field(specifier, **options)


def specifier_of(field: "dataclasses.Field[Any]") -> Specifier | None:
    """The specifier a dataclass field was declared with, or `None` when it was declared bare.

    For what compiles a class: fields of plain dataclasses have none.
    """
    specifier = field.metadata.get(METADATA_KEY)
    return specifier if isinstance(specifier, Specifier) else None
