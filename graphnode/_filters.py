"""Filters, which select States or nodes: what a caller may write, and the `Matcher` that it becomes.

    gn.ParamState, A | B     OfType          (f, g)          Any
    "tag"                    HasTag          ..., True       Everything
    a function               Predicate       None, False     Nothing

What a matcher by class, tag or path selects is computed once for each layout. A
caller's function is asked each time, with the live State. How a row of filters divides
States among them is in `_selection`.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from types import EllipsisType, UnionType
from typing import (
    Annotated,
    Final,
    NamedTuple,
    Protocol,
    TypeAlias,
    Union,
    cast,
    get_args,
    get_origin,
    runtime_checkable,
)
from typing import Any as AnyType

import jax
import numpy as np

from ._declare._node import Node
from ._declare._type_arguments import unaliased
from ._describe import describe
from ._errors import FilterError, FilterTypeError
from ._fields import NodeBase
from ._paths import Key, Path, as_key, key_str, path_str, split_pattern
from ._patterns import Pattern, pattern_of
from ._redefinition import derives
from ._state import State


@runtime_checkable
class Subject(Protocol):
    """What a filter looks at: one State or node, by its path and recorded description."""

    @property
    def path(self) -> Path: ...
    @property
    def cls(self) -> type[AnyType]: ...
    @property
    def tag(self) -> str | None: ...
    @property
    def live(self) -> AnyType: ...
    @property
    def other_paths(self) -> Sequence[Path]: ...


class Subjects(NamedTuple):
    """The States or nodes that filters choose from, by number.

    Attributes:
        items: The States, or the nodes.
        fitting: For each pattern of the filters, the numbers of the items that have a
            matching path.
        escaping: For a pattern, the numbers of the items that have a path that does
            not match.
    """

    items: Sequence[Subject]
    fitting: Mapping[Pattern, Set[int]]
    escaping: Callable[[Pattern], Set[int]]


class Matcher:
    """A filter as an object: what every form that a caller writes becomes."""

    @property
    def is_fixed(self) -> bool:
        """Whether the decision depends on class, tag and path alone, so that it may be cached for a layout."""
        return True

    @property
    def patterns(self) -> frozenset[Pattern]:
        """The patterns that the filter compares paths with: those of all filters are matched in one pass beforehand."""
        return frozenset()

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        """The numbers, out of `numbers`, of the subjects that the filter selects."""
        # In order, as a caller's function may count or print.
        return {at for at in sorted(numbers) if self.accepts(subjects.items[at])}

    def accepts(self, subject: Subject) -> bool:
        """Whether the filter selects a subject. For the default `among`: a filter defines this or `among`."""
        raise NotImplementedError  # pragma: no cover  # every filter below defines it, or `among`


# What a caller may write, apart from a class and `...`: an overload takes a class as
# `type[S]` beside this, and `...` where nothing follows. A function gets the path and
# the live State (or node), of a class that it knows: hence Any. What is in a sequence
# in a sequence is Any: jedi follows an alias that names itself until it runs out of
# stack, and would complete nothing after an operation that takes filters.
_StateFilter: TypeAlias = (
    Matcher | UnionType | str | bool | Callable[[Path, AnyType], bool] | None
)
_NodeFilter: TypeAlias = (
    Matcher | UnionType | bool | Callable[[Path, AnyType], bool] | None
)
Selector: TypeAlias = (
    _StateFilter
    | Sequence[type[State[AnyType]] | _StateFilter | EllipsisType | Sequence[AnyType]]
)
NodeSelector: TypeAlias = (
    _NodeFilter | Sequence[type[Node] | _NodeFilter | EllipsisType | Sequence[AnyType]]
)

# A filter of States, and one of nodes. `...` is apart, as it may only stand last:
# annotate `Filter | EllipsisType`.
Filter: TypeAlias = type[State[AnyType]] | Selector
NodeFilter: TypeAlias = type[Node] | NodeSelector
AnyFilter: TypeAlias = Filter | NodeFilter | EllipsisType


@dataclasses.dataclass(frozen=True, slots=True)
class Everything(Matcher):
    """Selects all: what `...` and `True` stand for."""

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        return numbers

    def __repr__(self) -> str:
        return "..."


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing(Matcher):
    """Selects nothing: what `None` and `False` stand for."""

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        return set()

    def __repr__(self) -> str:
        return "None"


@dataclasses.dataclass(frozen=True, slots=True)
class OfType(Matcher):
    """Selects States (or nodes) of a class or of a union of classes, subclasses included.

    A class as a filter means the same, but type checkers accept only State classes
    there: this wraps a mixin or a protocol.

    Example:
        >>> class Frozen:
        ...     __slots__ = ()
        >>> class FrozenState(gn.ParamState, Frozen): ...
        >>> gn.states([FrozenState(1), gn.ParamState(2)], gn.OfType(Frozen))
        {(0,): FrozenState(1)}
    """

    cls: type[object] | UnionType
    classes: tuple[type[object], ...] = dataclasses.field(init=False, repr=False)
    _is_abstract: bool = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        classes = _classes_of(self.cls)
        if classes is None:
            raise FilterTypeError(
                f"OfType takes a class or a union of classes, found {describe(self.cls)}"
            )
        self._set_classes(classes)

    @classmethod
    def _of(cls, written: object, classes: tuple[type[object], ...]) -> "OfType":
        """For `as_filter`: the filter of a class or union, whose classes were worked out already."""
        matcher = object.__new__(cls)
        object.__setattr__(matcher, "cls", written)
        matcher._set_classes(classes)
        return matcher

    def _set_classes(self, classes: tuple[type[object], ...]) -> None:
        """Keep the classes, and whether any is abstract: what a filter by class is compared and hashed by."""
        object.__setattr__(self, "classes", classes)
        object.__setattr__(
            self, "_is_abstract", not _NOT_ABSTRACT.issuperset(map(type, classes))
        )

    def __hash__(self) -> int:
        # Selections are cached by filter. `register` of any abstract class changes the
        # token, and so the hash: what was cached for a filter by an abstract class is
        # not found any more.
        if self._is_abstract:
            return hash((self.classes, abc.get_cache_token()))
        return hash(self.classes)

    def accepts(self, subject: Subject) -> bool:
        """Whether the subject's class is one of the classes or derives from one, across redefinitions too."""
        return derives(subject.cls, self.classes)

    def __repr__(self) -> str:
        return " | ".join([cls.__name__ for cls in self.classes])


# The metaclasses of nodes and States, which have no `register`; any other may have it.
_NOT_ABSTRACT = frozenset({type, type(State)})

# Modules without classes of States or nodes.
_NO_STATES = frozenset({"builtins", "collections.abc", "typing", "typing_extensions"})


def _classes_of(written: object) -> tuple[type[object], ...] | None:
    """For filters by class: the classes of a class, an alias (`ParamState[Array]`) or a union; `None` for others.

    Raises:
        FilterTypeError: No State or node can be of one of the classes, or a union has
            another member.
    """
    if not isinstance(written, type):
        written = unaliased(written)
    origin: object = written if isinstance(written, type) else get_origin(written)
    if origin is UnionType or origin is Union:
        return _classes_in_union(get_args(written))
    # `Annotated` is a class in some versions of Python only.
    if origin is Annotated or not isinstance(origin, type):
        return None
    if origin.__module__ in _NO_STATES or issubclass(origin, jax.Array | np.ndarray):
        raise FilterTypeError(
            f"not a filter: {origin.__name__} is not a class of States or nodes; {_REMEDY}"
        )
    return (origin,)


def _classes_in_union(members: Sequence[object]) -> tuple[type[object], ...]:
    """For `_classes_of`: the classes of all members of a union, in order.

    Raises:
        FilterTypeError: A member is not a class of States or nodes.
    """
    union: list[type[object]] = []
    for member in members:
        classes = _classes_of(member)
        if classes is None:
            raise FilterTypeError(
                f"not a filter: {describe(member)} in a union; {_REMEDY}"
            )
        union += classes
    return tuple(union)


@dataclasses.dataclass(frozen=True, slots=True)
class HasTag(Matcher):
    """Selects States by their tag: what a string stands for."""

    tag: str

    def accepts(self, subject: Subject) -> bool:
        """Whether the subject has the tag; nodes have none."""
        return subject.tag == self.tag

    def __repr__(self) -> str:
        return repr(self.tag)


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Combined(Matcher):
    """The base of filters that are made of other filters."""

    parts: tuple[Matcher, ...]

    def __init__(self, *filters: AnyFilter) -> None:
        object.__setattr__(self, "parts", tuple(map(as_filter, filters)))

    @property
    def is_fixed(self) -> bool:
        """Whether the decision of each part depends on class, tag and path alone."""
        return all(part.is_fixed for part in self.parts)

    @property
    def patterns(self) -> frozenset[Pattern]:
        """The patterns of all parts."""
        return frozenset().union(*[part.patterns for part in self.parts])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


class Any(Combined):
    """Selects what any of its filters selects: what a tuple or list stands for. Without filters, nothing.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> len(gn.states(model, gn.Any(gn.ParamState, "running")))
        2
    """

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        """The numbers of what the first part selects, of what the second selects of the rest, and so on."""
        selected: Set[int] = set()
        for part in self.parts:
            # Asked only for the rest: a function is not called for what an earlier
            # filter has.
            selected = selected | part.among(subjects, numbers - selected)
        return selected


class All(Combined):
    """Selects what all of its filters select. Without filters, everything.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> len(gn.states(model, gn.All(gn.ParamState, gn.PathContains("bias"))))
        1
    """

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        """The numbers that every part selects; each part sees only what those before it have left."""
        for part in self.parts:
            numbers = part.among(subjects, numbers)
        return numbers


class Not(Combined):
    """Selects what its filter does not select.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> len(gn.states(model, gn.Not(gn.ParamState)))
        0
    """

    def __init__(self, filter: AnyFilter) -> None:
        super().__init__(filter)

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        """The numbers that its one part does not select."""
        return numbers - self.parts[0].among(subjects, numbers)


@dataclasses.dataclass(frozen=True)
class PathContains(Matcher):
    """Selects what has this key somewhere in its path.

    Args:
        key: A name or a position.
        missing_ok: Whether there may be nothing with this key; otherwise that is an
            error.

    Raises:
        FilterError: `key` is a path or a glob; or, when it is used, nothing has the
            key: names the nearest.
        FilterTypeError: `key` is neither a `str` nor an `int`.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> list(gn.states(model, gn.PathContains("weight")))
        [('weight',)]
    """

    key: Key
    missing_ok: bool = dataclasses.field(default=False, repr=False, kw_only=True)
    _pattern: Pattern = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", _checked_path_key(self.key, "PathContains"))
        if isinstance(self.key, str) and ("." in self.key or "*" in self.key):
            raise FilterError(
                f"PathContains takes one key; found {self.key!r}. For what is below a path write "
                f"gn.Under({self.key!r}), for what stands at paths gn.PathIn({self.key!r})"
            )
        object.__setattr__(
            self, "_pattern", pattern_of((self.key,), inside=True, below=True)
        )

    @property
    def patterns(self) -> frozenset[Pattern]:
        """The one pattern of all paths that have the key somewhere."""
        return frozenset([self._pattern])

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        """The numbers of the subjects that have a path with the key."""
        return numbers & subjects.fitting[self._pattern]


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Paths(Matcher):
    """The base of filters by whole paths.

    Attributes:
        paths: The paths: keys, or a text that has globs.
        missing_ok: Whether a path may lead to nothing.
        texts: The paths as texts.
        below: Whether whatever lies below a path matches too.
    """

    # Not compared, like `texts` and `below`: the patterns say the same.
    paths: frozenset[Path | str] = dataclasses.field(compare=False)
    missing_ok: bool
    _patterns: frozenset[Pattern]
    texts: tuple[str, ...] = dataclasses.field(compare=False)
    below: bool = dataclasses.field(compare=False)

    def __init__(
        self, paths: Sequence[Path | str], missing_ok: bool, *, below: bool
    ) -> None:
        name = type(self).__name__
        normal = [_normal_path(path, name) for path in paths]
        patterns = [pattern_of(path, below=below) for path in normal]
        texts = {path if isinstance(path, str) else path_str(path) for path in normal}
        object.__setattr__(self, "texts", tuple(sorted(texts)))
        object.__setattr__(self, "below", below)
        object.__setattr__(self, "paths", frozenset(normal))
        object.__setattr__(self, "missing_ok", missing_ok)
        object.__setattr__(self, "_patterns", frozenset(patterns))

    @property
    def patterns(self) -> frozenset[Pattern]:
        """The patterns of all of its paths."""
        return self._patterns

    def among(self, subjects: Subjects, numbers: Set[int]) -> Set[int]:
        """The numbers of the subjects that any of the patterns selects."""
        return numbers & frozenset().union(
            *[self._selected(subjects, pattern) for pattern in self._patterns]
        )

    def _selected(self, subjects: Subjects, pattern: Pattern) -> Set[int]:
        """For `among`, where `Under` differs: the numbers of the subjects that one of the filter's patterns selects."""
        return subjects.fitting[pattern]


def _normal_path(path: Path | str, filter_name: str) -> Path | str:
    """A path as `Paths.paths` keeps it: keys; or, with globs, a text quoted only where needed.

    So that messages show each path in one spelling, however it was written.

    Args:
        path: Keys, or a text.
        filter_name: The name of the filter, for messages.
    """
    if not isinstance(path, (str, tuple, list)):
        raise FilterTypeError(
            f"{filter_name} takes paths, each a tuple of keys or a text; found {describe(path)}"
        )
    if not isinstance(path, str):
        return tuple([_checked_path_key(key, filter_name) for key in path])
    tokens = split_pattern(path)
    if not any(is_glob for _, is_glob in tokens):
        return tuple([key for key, _ in tokens])
    return ".".join([str(key) if is_glob else key_str(key) for key, is_glob in tokens])


def _checked_path_key(key: object, filter_name: str) -> Key:
    """A key in the path of a filter; a NumPy integer becomes an `int`.

    Args:
        key: What the caller wrote.
        filter_name: The name of the filter, for the message.

    Raises:
        FilterTypeError: It is not a key.
    """
    checked = as_key(key)
    if checked is None:
        raise FilterTypeError(
            f"{filter_name} takes names (str) and positions (int), found {describe(key)}"
        )
    return checked


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class PathIn(Paths):
    """Selects what is at one of these paths, given as tuples of keys or as texts, which may have globs.

    In a text `*` matches any characters within a key, and `**` any number of keys:
    `"blocks.*.weight"`. A shared State has several paths, any of which will do.

    Args:
        *paths: The paths.
        missing_ok: Whether there may be nothing at one of them; otherwise that is an
            error.

    Raises:
        PathError: A text does not parse.
        FilterError: When it is used: there is no State at one of the paths; names the
            nearest.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> list(gn.states(model, gn.PathIn("weight", ("other", 0), missing_ok=True)))
        [('weight',)]

    See also: `Under`, which selects what is below a path too.
    """

    def __init__(self, *paths: Path | str, missing_ok: bool = False) -> None:
        super().__init__(paths, missing_ok, below=False)

    def __repr__(self) -> str:
        return f"PathIn({', '.join(map(repr, self.texts))})"


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Under(Paths):
    """Selects what is at one of these paths, and all below it: `Under("encoder")`, `Under("blocks.*.mlp")`.

    It follows all references, so shared States are selected by any of their paths. But
    what is on the way to a path is not below it (by a parent pointer, or the closing
    edge of a ring); for a glob, that is whatever every path to there passes through.

    Args:
        *paths: The paths, as tuples of keys or as texts, which may have globs.
        shared: Whether to select also what can be reached by other paths, which do not
            pass through one of these.
        missing_ok: Whether there may be no State below one of them; otherwise that is
            an error.

    Raises:
        PathError: A text does not parse.
        FilterError: When it is used: there is no State below one of the paths; names
            the nearest.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> [gn.path_str(path) for path in gn.states(model, gn.Under("layers.0"))]
        ['layers.0.bias', 'layers.0.weight']

    See also: `PathIn`, which selects only what is at a path.
    """

    shared: bool

    def __init__(
        self, *paths: Path | str, shared: bool = True, missing_ok: bool = False
    ) -> None:
        object.__setattr__(self, "shared", shared)
        super().__init__(paths, missing_ok, below=True)

    def _selected(self, subjects: Subjects, pattern: Pattern) -> Set[int]:
        """The numbers of what is at or below a pattern; without `shared`, of what no other path leads to."""
        fitting = subjects.fitting[pattern]
        return fitting if self.shared else fitting - subjects.escaping(pattern)

    def __repr__(self) -> str:
        return f"Under({', '.join(map(repr, self.texts))})"


@dataclasses.dataclass(frozen=True, eq=False)
class Predicate(Matcher):
    """Selects by a caller's function of the path and the live State or node.

    Something that has several paths must get the same answer for each of them; at most
    64 are tried.
    """

    function: Callable[[Path, AnyType], bool]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Predicate) and self.function is other.function

    def __hash__(self) -> int:
        return id(self.function)

    @property
    def is_fixed(self) -> bool:
        """Never: the function may look at the value."""
        return False

    def accepts(self, subject: Subject) -> bool:
        """The function's answer for the first path of a subject, if it is the same for its other paths.

        Raises:
            FilterError: It is not.
        """
        answer = bool(self.function(subject.path, subject.live))
        for path in subject.other_paths:
            if bool(self.function(path, subject.live)) is not answer:
                paths = (subject.path, path) if answer else (path, subject.path)
                selected, rejected = map(path_str, paths)
                raise FilterError(
                    f"the filter {self!r} selects {selected} and not {rejected}, which are one "
                    f"{subject.cls.__name__}; decide by something else, or write gn.Under or gn.PathIn",
                    [subject.path, path],
                )
        return answer

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


_EVERYTHING, _NOTHING = Everything(), Nothing()

# The types of filters that compare by identity: `...`, and classes that are not
# abstract. They can be looked up in a cache as they are, without a matcher.
PLAIN_FILTERS: Final[frozenset[type]] = frozenset({EllipsisType}) | _NOT_ABSTRACT


def as_filter(filter: AnyFilter) -> Matcher:
    """The matcher for a filter in any form that a caller may write.

    Raises:
        FilterTypeError: `filter` is not a filter; prints it.
    """
    # By identity: to `==`, 1 would be True, and an array has no single answer.
    if filter is ... or filter is True:
        return _EVERYTHING
    if filter is None or filter is False:
        return _NOTHING
    if isinstance(filter, Matcher):
        return filter
    if isinstance(filter, str):
        return HasTag(filter)
    if isinstance(filter, (tuple, list)):
        return Any(*filter)
    classes = _classes_of(filter)
    if classes is not None:
        return OfType._of(filter, classes)
    if _is_predicate(filter):
        return Predicate(cast("Callable[[Path, AnyType], bool]", filter))
    raise FilterTypeError(f"not a filter: {describe(filter)}; {_REMEDY}")


def _is_predicate(filter: object) -> bool:
    """Whether a filter is a function: aliases such as `list[int]` are callable too, and so may a node or State be."""
    if not callable(filter) or get_origin(filter) is not None:
        return False
    return not isinstance(filter, State | NodeBase)


_REMEDY = (
    "give a State class, a union of them, a tag, `...`, None, a tuple of filters, gn.Any, gn.All, gn.Not, "
    "gn.PathContains, gn.PathIn, gn.Under or a function of path and State"
)


def as_filters(filters: Sequence[AnyFilter]) -> tuple[Matcher, ...]:
    """The matchers of several filters, of which the first that accepts wins.

    Raises:
        FilterTypeError: One of them is not a filter.
        FilterError: `...` stands before another filter, which could never match.
    """
    matchers = tuple(map(as_filter, filters))
    for at, matcher in enumerate(matchers[:-1]):
        if isinstance(matcher, Everything):
            rest = ", ".join(map(repr, matchers[at + 1 :]))
            raise FilterError(
                f"`...` accepts all States, so nothing is left for {rest}; put `...` last"
            )
    return matchers
