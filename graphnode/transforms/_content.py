"""What values hold: in lists, dicts, partials, bound methods and plain objects, each part with its path.

    {"nets": {"teacher": a, "student": b}, "losses": [0.3, 0.2]}, trainer      and trainer.model is c

    level 0   the dict; trainer
    level 1   nets, losses; model, rate
    level 2   a, b; 0.3, 0.2

`content_of` looks at all of it once. A `Walk` is what is worth to be looked at again: the
way to the nodes a, b, c, and not the losses. It has the types and keys on that way, so
that values of the same form are taken apart again with a few loops in C: this is done at
each call of a function that closes over nodes.
"""

import functools
import operator
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, TypeVar, overload

from .._describe import describe
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
        is_object: Whether these are attributes.
    """

    keys: Callable[[Any], Sequence[Any]]
    items: Callable[[Any], list[Any]]
    is_object: bool = False


class Part(NamedTuple):
    """A part of some values.

    Attributes:
        value: The part.
        path: Where it is.
        root: The number of the value that it is in.
        parent: The number of the part that holds it; -1 for the values themselves.
        is_attribute: Whether it is one of that.
    """

    value: object
    path: ContentPath
    root: int
    parent: int = -1
    is_attribute: bool = False


class Content(NamedTuple):
    """All that some values hold.

    Attributes:
        parts: The values, then their parts, level by level.
        openings: By number, how a part was opened, and the keys of its items.
        repeats: The numbers of parts that were met before, and of these. They are not
            opened: containers may hold themselves.
    """

    parts: list[Part]
    openings: dict[int, tuple[_Opening, Sequence[Any]]]
    repeats: dict[int, int]

    @property
    def objects(self) -> list[int]:
        """The numbers of the parts that were opened by their attributes."""
        return [at for at, (opening, _) in self.openings.items() if opening.is_object]

    def above(self, numbers: Iterable[int]) -> set[int]:
        """Some parts, and all those that they are in."""
        found: set[int] = set()
        for at in numbers:
            while at >= 0 and at not in found:
                found.add(at)
                at = self.parts[at].parent
        return found


def content_of(
    values: Sequence[object], names: Sequence[str], used: Collection[str] = ()
) -> Content:
    """All that values hold.

    Args:
        values: The values.
        names: What each of them is called.
        used: The names of attributes to look at in objects that are themselves
            attributes, in classes and in modules; of other objects all are looked at.
    """
    parts = [
        Part(value, (name,), root)
        for root, (value, name) in enumerate(zip(values, names, strict=True))
    ]
    content = Content(parts, {}, {})
    # What is inside of an object: of objects there are too many to look at all.
    inside: set[int] = set()
    first: dict[int, int] = {}
    # It grows on the way.
    for at, part in enumerate(parts):
        opening = _opening(part.value, at in inside, used)
        if opening is None:
            continue
        if first.setdefault(id(part.value), at) != at:
            content.repeats[at] = first[id(part.value)]
            continue
        keys = opening.keys(part.value)
        items = opening.items(part.value)
        if len(parts) + len(items) > _MAX_PARTS:
            continue
        content.openings[at] = opening, keys
        if opening.is_object or at in inside:
            inside.update(range(len(parts), len(parts) + len(items)))
        # Another thread may change a dict between the two.
        for key, item in zip(keys, items, strict=False):
            path = (*part.path, key)
            parts.append(Part(item, path, part.root, at, opening.is_object))
    return content


_MAX_PARTS: Final = 20_000
# Of long lists, such as a log of losses, none is looked into.
_MAX_ITEMS: Final = 1000


class _Level(NamedTuple):
    """The parts at one depth of a walk.

    Attributes:
        types: Of all of them.
        opened: The positions of those that are opened, how, and the keys of their items.
    """

    types: list[type]
    opened: list[tuple[int, _Opening, Sequence[Any]]]


class Walk:
    """The form of some values, as far as it leads to certain parts. It holds none of them.

    Attributes:
        positions: By their numbers in the content, the positions of parts in what
            `again` gives: of all that stand beside those that are wanted.
    """

    def __init__(self, content: Content, wanted: Iterable[int]) -> None:
        """For the content of values, and the numbers of the parts that are wanted."""
        needed = content.above(wanted)
        # What stands twice may be two things at another time.
        while True:
            repeats = [at for at, old in content.repeats.items() if old in needed]
            if needed.issuperset(repeats):
                break
            needed |= content.above(repeats)
        kept = [
            at
            for at, part in enumerate(content.parts)
            if part.parent < 0 or part.parent in needed
        ]
        self.positions: dict[int, int] = {at: rank for rank, at in enumerate(kept)}
        self._repeats = [
            (self.positions[at], self.positions[content.repeats[at]]) for at in repeats
        ]
        self._levels: list[_Level] = []
        level = [at for at in kept if content.parts[at].parent < 0]
        while level:
            opened = [
                (rank, *content.openings[at])
                for rank, at in enumerate(level)
                if at in needed and at in content.openings
            ]
            types = [type(content.parts[at].value) for at in level]
            self._levels.append(_Level(types, opened))
            parents = {level[rank] for rank, _, _ in opened}
            level = [at for at in kept if content.parts[at].parent in parents]

    def again(self, values: list[object]) -> list[object] | None:
        """The parts of other values, at the same paths; `None` if they have another form."""
        level = values
        parts = list(values)
        for types, opened in self._levels:
            # Not by `==`, which would ask a metaclass.
            is_same = map(operator.is_, map(type, level), types)
            if len(level) != len(types) or not all(is_same):
                return None
            below: list[object] = []
            for at, opening, keys in opened:
                part = level[at]
                if opening.keys(part) != keys:
                    return None
                below += opening.items(part)
            parts += below
            level = below
        for at, first in self._repeats:
            if parts[at] is not parts[first]:
                return None
        return parts


def _opening(part: Any, is_inside: bool, used: Collection[str]) -> _Opening | None:
    """How a part (Any: of one of many kinds) is opened; `None` for what has no parts.

    Not as JAX would flatten it: any object may stand around a function, and some pytrees
    raise.

    Args:
        part: The part.
        is_inside: Whether it is inside of an object.
        used: The names of attributes that some code uses.
    """
    for cls, opening in _OPENINGS:
        if is_of(part, cls):
            return opening
    for cls, opening in _CONTAINERS:
        if is_of(part, cls):
            return opening if cls.__len__(part) <= _MAX_ITEMS else None
    if is_of(part, FunctionType, GraphObject):
        return None
    # What another transform made of a function.
    if is_wrapper(part):
        return _WRAPPER
    return _object_opening(part, is_inside, used) if _is_object(part) else None


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
    # At once: another thread may change it.
    keys = list(dict.keys(part))
    if _PLAIN_KEYS.issuperset(map(type, keys)):
        return keys
    return [key if type(key) in _PLAIN_KEYS else _weakly(key) for key in keys]


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
    return ["func", *range(len(part.args)), *part.keywords]


def _partial_items(part: "functools.partial[Any]") -> list[Any]:
    """The function and the arguments of a partial."""
    return [part.func, *part.args, *part.keywords.values()]


# By the methods of the classes: a subclass may have others.
_CONTAINERS: Final[tuple[tuple[Any, _Opening], ...]] = (
    (list, _Opening(lambda part: range(list.__len__(part)), list.copy)),
    (
        tuple,
        _Opening(
            lambda part: range(tuple.__len__(part)),
            lambda part: list(tuple.__iter__(part)),
        ),
    ),
    (dict, _Opening(_dict_keys, lambda part: list(dict.values(part)))),
    (
        deque,
        _Opening(
            lambda part: range(deque.__len__(part)),
            lambda part: list(deque.__iter__(part)),
        ),
    ),
)
_WRAPPER: Final = _Opening(
    lambda part: ["__wrapped__"], lambda part: [_variables(part).get("__wrapped__")]
)
_OPENINGS: Final[tuple[tuple[type, _Opening], ...]] = (
    (functools.partial, _Opening(_partial_keys, _partial_items)),
    (
        BoundFirst,
        _Opening(
            lambda part: ["function", *range(len(part.fills))],
            lambda part: [part.function, *part.fills],
        ),
    ),
    (
        MethodType,
        _Opening(
            lambda part: ["__self__", "__func__"],
            lambda part: [part.__self__, part.__func__],
        ),
    ),
)


def _is_object(part: object) -> bool:
    """Whether it is looked at by its attributes, such as a trainer or a module."""
    if is_of(part, ModuleType):
        return not is_library(_variables(part).get("__name__"))
    if is_of(part, type):
        return not is_library(module_of(part))
    cls = type(part)
    # Arrays and the like.
    if _top(module_of(cls)) in _WITHOUT_NODES:
        return False
    return cls.__dictoffset__ != 0 or bool(_slots(cls))


def _top(module: object) -> str:
    """The package of a module, by its name."""
    return module.partition(".")[0] if isinstance(module, str) else ""


# Their objects and functions hold nodes of nobody.
_WITHOUT_NODES: Final = frozenset(
    {"builtins", "functools", "graphnode", "jax", "jaxlib", "numpy", "weakref"}
)


def is_library(module: object) -> bool:
    """Whether a module, by its name, is a library whose code knows nothing of the nodes that use it.

    That is: it is installed, rather than part of the program, and has nothing of
    graphnode among its globals.
    """
    if not isinstance(module, str) or _top(module) in _WITHOUT_NODES:
        return True
    known = _LIBRARIES.get(module)
    if known is None:
        variables = _variables(sys.modules.get(module))
        file = variables.get("__file__")
        known = _LIBRARIES[module] = (
            isinstance(file, str)
            and any([folder in file for folder in _INSTALLED])
            and not any(map(_is_of_graphnode, list(variables.values())))
        )
    return known


# By name: whether a module is one.
_LIBRARIES: Final[dict[str, bool]] = {}
# Where installed packages are, and Python's own modules.
_INSTALLED: Final = ("site-packages", "dist-packages", os.path.dirname(os.__file__))


def _is_of_graphnode(value: object) -> bool:
    """Whether a global of a module comes from graphnode, or is a node."""
    name = value.__name__ if is_of(value, ModuleType) else module_of(value)
    return _top(name) == "graphnode" or is_of(value, GraphObject)


def module_of(value: object) -> object:
    """The module of a class or function, by its name; without asking a metaclass."""
    if is_of(value, type):
        return _class_variables(value).get("__module__")
    return value.__module__ if is_of(value, FunctionType) else None


def mro_of(cls: type) -> tuple[type, ...]:
    """The classes that a class has its attributes from, without `object`; a metaclass is not asked."""
    found: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return found[:-1]


def _class_variables(cls: type) -> Any:
    """The attributes of a class itself (Any: a mapping proxy); a metaclass is not asked."""
    return type.__dict__["__dict__"].__get__(cls)


def class_items(cls: type) -> list[tuple[str, object]]:
    """The attributes of a class itself."""
    return list(_class_variables(cls).items())


# Any: which of the three it is, its type says.
def _object_opening(part: Any, is_inside: bool, used: Collection[str]) -> _Opening:
    """How an object is opened, by its attributes.

    Args:
        part: The object, a class or a module.
        is_inside: Whether it is itself inside of an object.
        used: The names of attributes that some code uses.
    """
    if is_of(part, type):
        found = [name for cls in mro_of(part) for name, _ in class_items(cls)]
        shared = [name for name in dict.fromkeys(found) if name in used]
        shared = [name for name in shared if not name.startswith("__")]
    else:
        shared = _shared_names(type(part))
    is_whole = not (is_inside or is_of(part, type, ModuleType))

    def keys(part: Any) -> list[str]:
        """The names of its attributes: those that it has now, and those of its class."""
        own = list(_variables(part))
        if not is_whole:
            own = [name for name in own if name in used]
        return own + shared

    def items(part: Any) -> list[object]:
        """These attributes."""
        variables = _variables(part)
        own = (
            list(variables.values())
            if is_whole
            else [value for name, value in list(variables.items()) if name in used]
        )
        return own + [_attribute(part, name) for name in shared]

    return _Opening(keys, items, is_object=True)


def _variables(part: object) -> dict[str, object]:
    """The `__dict__` of an object; empty where it has none."""
    # An object with slots alone might be asked for the name.
    if type(part).__dictoffset__ == 0:
        return {}
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
    for cls in mro_of(part if is_of(part, type) else type(part)):
        found = _class_variables(cls).get(name)
        if is_of(found, MemberDescriptorType):
            try:
                return found.__get__(part, type(part))
            # The slot is empty.
            except AttributeError:
                return None
        if found is not None:
            return found
    return None


def _shared_names(cls: type) -> list[str]:
    """The attributes of objects of a class that are not in their `__dict__`: slots, and what the class holds for all.

    Of the latter those that are nodes, or may be some later.
    """
    held = [
        name
        for base in mro_of(cls)
        for name, value in class_items(base)
        if value is None or is_of(value, GraphObject, list, dict)
    ]
    names = dict.fromkeys([*_slots(cls), *held])
    return [name for name in names if not name.startswith("__")]


def _slots(cls: type) -> list[str]:
    """The names of the slots of a class."""
    return [
        name
        for base in mro_of(cls)
        for name, value in class_items(base)
        if is_of(value, MemberDescriptorType) and not name.startswith("__")
    ]


def content_text(path: ContentPath) -> str:
    """What messages call a part."""
    name, *keys = path
    text = str(name)
    for key in keys:
        if isinstance(key, weakref.ref):
            text += f"[{describe(key())}]"
        elif type(key) in (str, int):
            text += f".{key_str(key)}"
        else:
            text += f"[{key!r}]"
    return text
