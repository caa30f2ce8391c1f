"""The names that a configuration may use: node classes by tag, and values that the program registered.

Both are of classes and objects that the program has imported or registered itself.
Nothing here imports, evaluates or looks up attributes for a name: an unknown one is an
error that lists the known ones.
"""

import contextlib
import enum
import functools
import inspect
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast, overload

from .._arguments import wrong_argument
from .._class_faults import is_refused
from .._declare._node import Node
from .._fields import NodeBase
from .._hints import did_you_mean, short, with_article, with_hint
from .._registered import VALUES

V = TypeVar("V")

_MAX_NAME: Final = 40
"""Of names that are compared: the time that takes grows with the square."""

_NAME: Final = re.compile(r"[A-Za-z_][\w.\-]*")


class _NoValue(enum.Enum):
    """The class of `_NO_VALUE`, the default of an argument of `register`, as `None` is a value."""

    NO_VALUE = "NO_VALUE"

    def __repr__(self) -> str:
        return self.value


_NO_VALUE: Final = _NoValue.NO_VALUE
_TAGS: Final[dict[str, type[NodeBase]]] = {}
_NO_NAMES: Final[Mapping[str, Any]] = {}


class UnknownNameError(ValueError):
    """A name that stands for nothing; raised here, and made a fault or an error of a field by who asked."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(with_hint(what, hint))
        self.what, self.hint = what, hint


# Any: the implementation of both overloads.
@overload
def register(name: str, value: V, /) -> V: ...
@overload
def register(name: str, /) -> Callable[[V], V]: ...
def register(name: str, value: Any = _NO_VALUE, /) -> Any:
    """Let configuration files name a value: a function, a class or any other object for a static field.

    A node class is known by the name of its class; a registered name is a further one,
    which `dump` writes.

    Args:
        name: Letters, digits, `_`, `-` and dots.
        value: What stands for it; left out in `@register("name")`. It may be
            registered again under its name, also when its definition has run again, as
            in a notebook.

    Returns:
        `value`, so that it can be used where it is made.

    Raises:
        ValueError: `name` is not a name, or another value has it.

    Example:
        >>> from collections.abc import Callable
        >>> double = gn.config.register("double", lambda x: 2 * x)
        >>> class Scaled(gn.Node):
        ...     act: Callable[[jax.Array], jax.Array] = gn.static()
        >>> gn.config.build(gn.config.validate({"act": "double"}, Scaled)).act is double
        True
    """
    if not isinstance(name, str):
        raise TypeError(wrong_argument("a name first", name))
    if value is _NO_VALUE:
        return functools.partial(register, name)
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name: write letters, digits, _, - and dots"
        )
    # Two tables: the same name may stand for a node and for a value.
    table: dict[str, Any] = _TAGS if _is_node_class(value) else VALUES
    if name in table and _definition(table[name]) != _definition(value):
        raise ValueError(f"the name {name!r} is taken by {table[name]!r}")
    table[name] = value
    return value


def _definition(value: Any) -> object:
    """What is the same of a function or class that is defined again, as in a notebook; else the object itself.

    So that `register` may run again with its cell.
    """
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    is_named = isinstance(module, str) and isinstance(name, str)
    # Two lambdas of a module have one name, `<lambda>`.
    return (module, name) if is_named and "<" not in str(name) else id(value)


def _is_node_class(value: object) -> bool:
    """Whether a registered value is a node class, so that its name is a further tag (a `type:` of nodes)."""
    return isinstance(value, type) and issubclass(value, NodeBase)


def value_of(name: str) -> Any:
    """The value that a name in a file stands for, by `names=` of `load` or else by the registry.

    Raises:
        UnknownNameError: The name is unknown.
    """
    values = known_values()
    try:
        return values[name]
    except KeyError:
        what = f"nothing is registered as {short(name)}"
        raise UnknownNameError(what, near_hint(name, values)) from None


def value_names() -> Iterable[str]:
    """The names that a file may use for values: of the registry, and by `names=` of the `load` that is running."""
    return known_values()


# The `names=` of the call of `load` that is running. A context variable, as validators
# look names up, and pydantic hands them no arguments.
_MEANT: Final[ContextVar[Mapping[str, Any]]] = ContextVar(
    "graphnode.config.names", default=_NO_NAMES
)


@contextlib.contextmanager
def meaning(names: Mapping[str, Any]) -> Generator[None]:
    """For `load(names=...)`: names stand for other values than those that are registered, while files are read."""
    token = _MEANT.set(names)
    try:
        yield
    finally:
        _MEANT.reset(token)


def meant_names() -> Mapping[str, Any]:
    """What `names=` of the `load` that is running says: names that stand for other values than those registered."""
    return _MEANT.get()


def known_values() -> Mapping[str, Any]:
    """All values by the names that stand for them in files now: the registered ones, and `names=` before them."""
    return {**VALUES, **meant_names()} if meant_names() else VALUES


def near_hint(name: object, names: Iterable[str]) -> str:
    """`did you mean 'relu'?`, where a name that is known is close; else empty, and messages list the names."""
    return did_you_mean(name, names, longest=_MAX_NAME)


class Tags:
    """The classes that a place of a configuration admits, by their tags.

    A tag is the name of a class. Where several have the same, each is
    `package.module.Class` instead.

    Args:
        allowed: The classes that the place is declared with; their subclasses are
            admitted too.
        names: Further tags, which stand before those of the classes.
    """

    # Any: of these, the node classes are tags.
    def __init__(
        self, allowed: tuple[type, ...], names: Mapping[str, Any] = _NO_NAMES
    ) -> None:
        self.allowed = allowed
        self.by_tag: dict[str, type[NodeBase]] = {}
        self._several: dict[str, list[type[NodeBase]]] = {}
        by_name: dict[str, list[type[NodeBase]]] = {}
        for cls in _concrete(allowed):
            by_name.setdefault(cls.__name__, []).append(cls)
        for name, classes in by_name.items():
            if len(classes) == 1:
                self.by_tag[name] = classes[0]
            else:
                self._several[name] = classes
                self.by_tag |= {_qualified(cls): cls for cls in classes}
        admitted = set(self.by_tag.values())
        # Registered tags after names, as the last tag of a class is the one that is
        # written; `names` after that, as they are for reading alone.
        self.by_tag |= {tag: cls for tag, cls in _TAGS.items() if cls in admitted}
        self._of_class = {cls: tag for tag, cls in self.by_tag.items()}
        for tag, cls in names.items():
            if _is_node_class(cls) and cls in admitted:
                self.by_tag[tag] = cls

    @functools.cached_property
    def _known(self) -> set[str]:
        """The names of all node classes, so that `find` can tell a class of the wrong kind from an unknown one."""
        return {cls.__name__ for cls in _concrete((NodeBase,))}

    @property
    def default(self) -> type[NodeBase] | None:
        """The class that stands where no tag is written: the declared one, if that is one class and not abstract."""
        (first, *others) = self.allowed
        tag = self._of_class.get(cast("type[NodeBase]", first))
        return self.by_tag[tag] if tag is not None and not others else None

    def find(self, tag: object) -> type[NodeBase]:
        """The class that `type:` in a file names.

        Raises:
            UnknownNameError: The tag is unknown here; lists the known ones.
        """
        if isinstance(tag, str) and tag in self.by_tag:
            return self.by_tag[tag]
        if isinstance(tag, str) and tag in self._several:
            several = ", ".join(map(_qualified, self._several[tag]))
            raise UnknownNameError(
                f"several classes are named {tag!r}: write one of {several}"
            )
        one_of = f"one of {format_names(self.by_tag)}"
        if isinstance(tag, str) and tag in self._known:
            declared = " or ".join(cls.__name__ for cls in self.allowed)
            raise UnknownNameError(f"{tag} is not {with_article(declared)}", one_of)
        hint = near_hint(tag, self.by_tag) or one_of
        raise UnknownNameError(f"unknown type {short(tag)}", hint)

    def tag_of(self, cls: type[NodeBase]) -> str:
        """The tag of a class that is admitted here, for writing a file: `find` gives the class back."""
        return self._of_class.get(cls, cls.__name__)


def format_names(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message, not too many of them."""
    ordered = sorted(names)
    text = ", ".join(ordered[:limit])
    return f"{text} and {len(ordered) - limit} more" if len(ordered) > limit else text


def _concrete(allowed: tuple[type, ...]) -> Iterator[type[NodeBase]]:
    """The classes below some that can be built, and so have tags, in the order of their definition.

    Of one that was defined again, as in a notebook, the newest.
    """
    return newest(cls for cls in with_subclasses(allowed) if _can_be_built(cls))


def _can_be_built(cls: type) -> bool:
    """Whether a file may name a node class: not an abstract one, nor one that was refused for its faults."""
    return (
        issubclass(cls, Node)
        and cls is not Node
        and not inspect.isabstract(cls)
        and not is_refused(cls)
    )


def with_subclasses(classes: Iterable[type]) -> Iterator[type]:
    """Classes and all that extend them, each once: what a file may name where the annotation names the first."""
    todo = list(classes)
    seen: set[type] = set()
    while todo:
        cls = todo.pop(0)
        if cls not in seen:
            seen.add(cls)
            # In the order of definition: `newest` relies on it.
            todo += cls.__subclasses__()
            yield cls


# Any: nodes for one caller, records for the other.
def newest(classes: Iterable[type]) -> Iterator[Any]:
    """Of classes that are one definition, which has run again as in a notebook, the last: names mean that one."""
    return iter({(cls.__module__, cls.__qualname__): cls for cls in classes}.values())


def _qualified(cls: type) -> str:
    """`graphnode.nn.Linear`, without modules that are private: the tag of a class whose name another has, too."""
    parts = [part for part in cls.__module__.split(".") if not part.startswith("_")]
    return ".".join([*parts, cls.__qualname__.rpartition("<locals>.")[2]])
