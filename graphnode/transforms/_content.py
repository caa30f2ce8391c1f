"""What values hold: in lists, dicts, partials, bound methods and plain objects, each part with its path.

    {"nets": {"teacher": a, "student": b}, "trainer": t}       and t.model is c

    level 0   the dict, t                      is opened by the keys
    level 1   nets, trainer                    teacher, student; model, rate
    level 2   a, b, c, 0.1

A `Walk` has the types and keys of all levels. So values of the same form are taken apart
again with a few loops in C, whatever stands in them: this is done at each call of a
function that closes over nodes.
"""

import functools
import weakref
from collections import deque
from collections.abc import Callable, Collection, Sequence
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, TypeVar, overload

from .._paths import key_str
from .._static import GraphObject
from ._arguments import BoundFirst

T = TypeVar("T")

# The name of a place, then keys: positions, names of attributes, keys of dicts (objects
# among these weakly).
ContentPath: TypeAlias = tuple[Any, ...]


class _Opening(NamedTuple):
    """How values of one kind are opened.

    Attributes:
        keys: What its items are called, one for each.
        items: Its items.
    """

    keys: Callable[[Any], Sequence[Any]]
    items: Callable[[Any], list[Any]]


class _Level(NamedTuple):
    """The parts at one depth of some values.

    Attributes:
        types: Of all of them.
        opened: The positions of those that are opened, how, and the keys of their items.
    """

    types: list[type]
    opened: tuple[tuple[int, _Opening, Sequence[Any]], ...]


class _Row(NamedTuple):
    """A part of some values.

    Attributes:
        part: The part.
        path: Where it is.
        root: The number of the value that it is in.
        is_inside: Whether it is inside of an object.
    """

    part: object
    path: ContentPath
    root: int
    is_inside: bool


class Walk:
    """The form of some values: what is in them, and where. It holds none of them.

    Attributes:
        paths: Of each part, from the name of its value: first those of the values
            themselves, then those of what is in them.
        roots: Of each part, the number of its value.
        objects: The positions of plain objects among the parts.
    """

    def __init__(self) -> None:
        """Begin without levels."""
        self.paths: list[ContentPath] = []
        self.roots: list[int] = []
        self.objects: list[int] = []
        self._levels: list[_Level] = []

    @classmethod
    def of(
        cls, values: Sequence[object], names: Sequence[str], used: Collection[str] = ()
    ) -> "tuple[Walk, list[object]]":
        """The form of values, and all their parts.

        Args:
            values: The values.
            names: What each of them is called.
            used: The names of attributes to look at in objects that are themselves
                attributes, in classes and in modules; of other objects all are looked
                at.
        """
        walk = cls()
        parts: list[object] = []
        rows = [
            _Row(value, (name,), root, False)
            for root, (value, name) in enumerate(zip(values, names, strict=True))
        ]
        while rows and len(walk._levels) < _MAX_LEVELS:
            parts += [row.part for row in rows]
            rows = walk._take(rows, used)
        return walk, parts

    def _take(self, rows: "list[_Row]", used: Collection[str]) -> "list[_Row]":
        """Take the parts of one level, and give those of the next."""
        first = len(self.paths)
        self.paths += [row.path for row in rows]
        self.roots += [row.root for row in rows]
        opened: list[tuple[int, _Opening, Sequence[Any]]] = []
        below: list[_Row] = []
        for at, (part, path, root, is_inside) in enumerate(rows):
            is_object = _is_object(part)
            opening = (
                _object_opening(part, is_inside, used) if is_object else _opening(part)
            )
            if opening is None or len(below) > _MAX_PARTS:
                continue
            keys = opening.keys(part)
            opened.append((at, opening, keys))
            if is_object:
                self.objects.append(first + at)
            below += [
                _Row(item, (*path, key), root, is_inside or is_object)
                # Another thread may change a dict between the two.
                for key, item in zip(keys, opening.items(part), strict=False)
            ]
        self._levels.append(_Level([type(row.part) for row in rows], tuple(opened)))
        return below

    def again(self, values: list[object]) -> list[object] | None:
        """The parts of other values, at the same paths; `None` if they have another form."""
        level = values
        parts = list(values)
        for types, opened in self._levels:
            if list(map(type, level)) != types:
                return None
            below: list[object] = []
            for at, opening, keys in opened:
                part = level[at]
                if opening.keys(part) != keys:
                    return None
                below += opening.items(part)
            parts += below
            level = below
        return parts


# An object may hold itself, and a list too.
_MAX_LEVELS: Final = 8
_MAX_PARTS: Final = 10_000
# Of long lists, such as a log of losses, none is looked into.
_MAX_ITEMS: Final = 1000


def _opening(part: Any) -> _Opening | None:
    """How a container, a partial or a bound method (Any: one of all these) is opened; `None` for what has no parts.

    Not as JAX would flatten it: any object may stand around a function, and some pytrees
    raise.
    """
    for cls, opening in _OPENINGS:
        if is_of(part, cls):
            return opening
    if is_of(part, list, tuple, deque, dict):
        is_long = len(part) > _MAX_ITEMS
        return None if is_long else _DICT if is_of(part, dict) else _ROW
    # What another transform made of a function.
    if not is_of(part, FunctionType) and is_wrapper(part):
        return _WRAPPER
    return None


@overload
def is_of(part: object, cls: type[T], /) -> TypeGuard[T]: ...
@overload
def is_of(part: object, *classes: type) -> bool: ...
def is_of(part: object, *classes: type) -> bool:
    """Whether an object is of one of some classes, by its type.

    `isinstance` would ask a proxy for the class of what it stands for, which may be gone.
    """
    return issubclass(type(part), classes)


def is_wrapper(part: object) -> bool:
    """Whether it is a callable that is wrapped around another."""
    # Of its own attributes: some objects answer for any name.
    return callable(_variables(part).get("__wrapped__"))


def _dict_keys(part: dict[Any, Any]) -> Sequence[Any]:
    """The keys of a dict; objects weakly, as what is compiled is not to keep them alive."""
    if _PLAIN_KEYS.issuperset(map(type, part)):
        return tuple(part)
    return tuple([key if type(key) in _PLAIN_KEYS else _weakly(key) for key in part])


_PLAIN_KEYS: Final[frozenset[type]] = frozenset(
    {str, int, float, bool, bytes, type(None)}
)


def _weakly(key: Any) -> Any:
    """A weak reference to an object, equal to others of it; the object itself where it takes none, as a tuple."""
    try:
        return weakref.ref(key)
    except TypeError:
        return key


def _partial_keys(part: "functools.partial[Any]") -> Sequence[Any]:
    """What the parts of a partial are called."""
    return "func", *range(len(part.args)), *part.keywords


def _partial_items(part: "functools.partial[Any]") -> list[Any]:
    """The function and the arguments of a partial."""
    return [part.func, *part.args, *part.keywords.values()]


_ROW: Final = _Opening(lambda part: range(len(part)), list)
_DICT: Final = _Opening(_dict_keys, lambda part: list(part.values()))
_WRAPPER: Final = _Opening(
    lambda part: ("__wrapped__",), lambda part: [_variables(part).get("__wrapped__")]
)
_OPENINGS: Final[tuple[tuple[type, _Opening], ...]] = (
    (functools.partial, _Opening(_partial_keys, _partial_items)),
    (
        BoundFirst,
        _Opening(
            lambda part: ("function", *range(len(part.fills))),
            lambda part: [part.function, *part.fills],
        ),
    ),
    (
        MethodType,
        _Opening(
            lambda part: ("__self__", "__func__"),
            lambda part: [part.__self__, part.__func__],
        ),
    ),
)


def _is_object(part: object) -> bool:
    """Whether it is looked at by its attributes, such as a trainer or a module."""
    if is_of(part, ModuleType):
        return not is_library(_variables(part).get("__name__"))
    if is_of(part, type):
        return not is_library(getattr(part, "__module__", None))
    cls = type(part)
    if is_library(cls.__module__) or issubclass(cls, _NO_OBJECTS) or is_wrapper(part):
        return False
    return cls.__dictoffset__ != 0 or bool(_slots(cls))


# What else would be opened by its attributes.
_NO_OBJECTS: Final = (GraphObject, FunctionType, list, tuple, dict)


def is_library(module: object) -> bool:
    """Whether a module is one of those that hold nodes of nobody, by its name."""
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


_LIBRARIES: Final = frozenset(
    {"builtins", "collections", "functools", "graphnode", "jax", "jaxlib", "numpy"}
)


# Any: which of the three it is, its type says.
def _object_opening(part: Any, is_inside: bool, used: Collection[str]) -> _Opening:
    """How an object is opened, by its attributes.

    Args:
        part: The object, a class or a module.
        is_inside: Whether it is itself an attribute.
        used: The names of attributes that some code uses.
    """
    # Modules and classes hold much.
    if is_of(part, ModuleType):
        return _named_opening([name for name in list(vars(part)) if name in used])
    if is_of(part, type):
        found = [
            name
            for base in part.__mro__
            for name in list(vars(base))
            if name in used and not name.startswith("__")
        ]
        return _named_opening(list(dict.fromkeys(found)))
    shared = _shared_names(type(part))
    if is_inside:
        found = [*_variables(part), *shared]
        return _named_opening([name for name in found if name in used])
    return _Opening(
        lambda part: (*_variables(part), *shared),
        lambda part: [
            *_variables(part).values(),
            *[_attribute(part, name) for name in shared],
        ],
    )


def _named_opening(names: Sequence[str]) -> _Opening:
    """How an object is opened by some of its attributes."""
    row = tuple(names)
    return _Opening(
        lambda part: row, lambda part: [_attribute(part, name) for name in row]
    )


def _variables(part: object) -> dict[str, object]:
    """The `__dict__` of an object; empty where it has none."""
    try:
        variables = getattr(part, "__dict__", None)
    # Whatever a proxy of the user's raises where there is nothing that it stands for.
    except Exception:
        return {}
    return variables if is_of(variables, dict) else {}


def _attribute(part: Any, name: str) -> object:
    """An attribute that is stored in an object (Any) or in its class, without running code of theirs; or `None`."""
    variables = _variables(part)
    if name in variables:
        return variables[name]
    classes = part.__mro__ if is_of(part, type) else type(part).__mro__
    for cls in classes:
        found = vars(cls).get(name)
        if is_of(found, MemberDescriptorType):
            return getattr(part, name, None)
        if found is not None:
            return found
    return None


def _shared_names(cls: type) -> list[str]:
    """The attributes of objects of a class that are not in their `__dict__`: slots, and nodes that the class holds."""
    held = [
        name
        for base in cls.__mro__[:-1]
        for name, value in vars(base).items()
        if is_of(value, GraphObject, list, dict) and not name.startswith("__")
    ]
    return list(dict.fromkeys([*_slots(cls), *held]))


def _slots(cls: type) -> list[str]:
    """The names of the slots of a class."""
    return [
        name
        for base in cls.__mro__[:-1]
        for name, value in vars(base).items()
        if is_of(value, MemberDescriptorType) and not name.startswith("__")
    ]


def content_text(path: ContentPath) -> str:
    """What messages call a part."""
    name, *keys = path
    text = str(name)
    for key in keys:
        if isinstance(key, weakref.ref):
            text += f"[{key()!r}]"
        elif type(key) in (str, int):
            text += f".{key_str(key)}"
        else:
            text += f"[{key!r}]"
    return text
