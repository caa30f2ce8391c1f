"""Track the lists and dicts in a node's fields: they check what is put in, and record every change of structure.

A change replaces the container's version, which makes bindings stale: see `_versions`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    NamedTuple,
    Protocol,
    SupportsIndex,
    TypeVar,
    cast,
    runtime_checkable,
)

from jax.tree_util import DictKey, SequenceKey, register_pytree_with_keys

from .._compat import is_tracing
from .._describe import describe
from .._errors import FieldError
from .._fields import Kind
from .._nesting import items
from .._paths import Key, key_str
from .._redefinition import derives, distinct_class_name
from .._static import GraphObject
from .._versions import CLOCK, AnyVersion, Version, birth, check_owner
from ._forms import Form

T = TypeVar("T")
R = TypeVar("R")


# A list that contains itself would be copied for ever.
_MAX_NESTING: Final = 32


@runtime_checkable
class Check(Protocol):
    """Raises when States break the contract of their places in a container."""

    def __call__(
        self, form: Form, put: Mapping[str, Any], /, *, replaces: bool
    ) -> None:
        """Check States that are put into a container.

        A container does not know its node; this function does.

        Args:
            form: The form of the items.
            put: What is put in, by the text of its place.
            replaces: Whether it takes the place of what stands there.
        """


class Place(NamedTuple):
    """Where a value stands: the field, and the keys inside it.

    Attributes:
        where: Class and field, for messages.
        path: The keys below.
        check: Raises when States break the contract of their places; `None` where there
            is no contract.
    """

    where: str
    path: tuple[Key, ...] = ()
    check: "Check | None" = None

    def below(self, key: Key) -> "Place":
        """The place at a key of the container that stands here.

        So that messages name the item, not only the field.
        """
        return Place(self.where, (*self.path, key), self.check)

    def __str__(self) -> str:
        # In front of messages: `Net.layers.0`.
        return ".".join((self.where, *map(key_str, self.path)))


def admit(form: Form, value: Any, place: Place) -> Any:
    """Check a value for a field of this form: lists and dicts become tracked copies, others are returned as they are.

    For assignments, constructors and containers: what stands in a field is always of
    its form.

    Args:
        form: The form of the field, or of the place inside it.
        value: The value.
        place: Where it is put.

    Raises:
        FieldError: The value is not of the form.
    """
    cls = type(value)
    if cls in form.classes or is_graph_object_of(value, form.classes):
        return value
    if value is None and form.optional:
        return None
    container = _tracked(form, value, place)
    if container is not None:
        return container
    # A class may have been defined again since, as in a notebook.
    if issubclass(cls, GraphObject) and derives(cls, form.classes):
        return value
    raise FieldError(_refusal(form, value, place))


def is_graph_object_of(value: object, classes: tuple[type, ...]) -> bool:
    """Whether a value is a node or State of one of some classes.

    For `admit`: only these are what a walk takes apart.

    `isinstance` alone will not do: a proxy or a mock claims to be of a class, and an
    abstract class may claim what only looks like a node.
    """
    return isinstance(value, classes) and issubclass(type(value), GraphObject)


def _tracked(form: Form, value: Any, place: Place) -> Any:
    """A container as a field keeps it; `None` for what is not a container that the form admits.

    For `admit`: it checks every item before anything is kept.
    """
    if len(place.path) > _MAX_NESTING:
        raise FieldError(
            f"{place.where} nests containers deeper than {_MAX_NESTING} levels, or a container in itself"
        )
    # Any list, a tracked one too: a container belongs to one field, and another field
    # gets a copy.
    if isinstance(value, list) and form.admits(list):
        return TrackedList(form.item(list), place, value)
    if isinstance(value, dict) and form.admits(dict):
        return TrackedDict(form.item(dict), place, value)
    placed = form.items(tuple, items(value)) if isinstance(value, tuple) else None
    if placed is None:
        return None
    # Also for a named tuple: a structure says that there is a tuple, not of which class.
    admitted = [admit(inner, item, place.below(key)) for key, item, inner in placed]
    return tuple(admitted)


def _refusal(form: Form, value: object, place: Place) -> str:
    """The text of the error for a value that is not of a form, with what would do.

    For `admit`, and for `graphnode check`, which finds the same fault without running
    the program.
    """
    names = [cls.__name__ for cls in form.classes]
    text = describe(value)
    if type(value).__name__ in names:  # of another class with the same name
        text = distinct_class_name(type(value), *form.classes)
    message = f"{place} takes {form}; found {text}"
    is_of_states = form.kind is Kind.STATE
    if isinstance(value, form.classes) and not issubclass(type(value), GraphObject):
        what, base = ("a State", "gn.State") if is_of_states else ("a node", "gn.Node")
        return f"{message}, which says that it is {what} and is not; pass what is behind it, or derive it from {base}"
    is_array = hasattr(value, "dtype") and not isinstance(value, type)
    if is_of_states and is_array:
        cls = names[0] if names else "ParamState"
        message += f"; wrap the array: {cls}(...), or write to .value"
    return message


class _Tracked:
    """What both containers share. Each has its own slots: a second base of `list` or `dict` may not have any."""

    if TYPE_CHECKING:
        _form: Form
        _place: Place
        _version: AnyVersion
    else:
        __slots__ = ()

    def admit(self, key: Key, item: Any, *, replaces: bool = True) -> Any:
        """`item` as it would be kept at `key`.

        For changes of one item.

        Args:
            key: Its key.
            item: The item.
            replaces: Whether it takes the place of what stands there; otherwise that
                stays.

        Raises:
            FieldError: It is not of the form of the items.
            ContractError: It breaks the contract of the field.
        """
        (admitted,) = self.admit_all([(key, item)], replaces=replaces)
        return admitted

    def admit_all(
        self, items: Iterable[tuple[Key, Any]], *, replaces: bool = True
    ) -> list[Any]:
        """Items as they would be kept at their keys; the contracts of all are checked together.

        For changes of several items, such as `extend`: none is kept unless all may be.

        Args:
            items: Each key with its item.
            replaces: Whether they take the place of what stands there; otherwise that
                stays.
        """
        placed = [(self._place.below(key), item) for key, item in items]
        admitted = [admit(self._form, item, place) for place, item in placed]
        if self._place.check is not None:
            texts = [str(place) for place, _ in placed]
            by_place = dict(zip(texts, admitted, strict=True))
            self._place.check(self._form, by_place, replaces=replaces)
        return admitted

    def check_owner(self) -> None:
        """Raise if the container must not change now.

        Before each change: it would stay behind after the trace.

        Raises:
            TraceError: A JAX transformation runs that it was not made in.
        """
        if is_tracing():
            check_owner(self._version, str(self._place))

    def _change(self, write: Callable[..., R], /, *args: Any, **options: Any) -> R:
        """Make a change of structure, all of which was admitted; returns the result of `write`.

        The version is replaced before the write and after it: see `_versions`.
        """
        # Before it: an interrupt may come between the change and the next line.
        self._replace_version()
        try:
            return write(*args, **options)
        # After it: a walk may have run in between. Also when it raises: a list whose
        # `sort` failed may be partly sorted.
        finally:
            self._replace_version()

    def _replace_version(self) -> None:
        """Make bindings with this container stale, and move the clock.

        For `_change`, before and after the write. Without a version the container is in
        no binding.
        """
        # Any other version means that the container is in no binding yet.
        if isinstance(self._version, Version):
            self._version = CLOCK.now = Version()


class TrackedList(list[T], _Tracked):
    """A `list` in a field: checks what is put in, and records every change of structure.

    It belongs to its node: a list that is assigned to a field is copied into one, and
    `copy` makes a plain list of it again.
    """

    __slots__ = ("__weakref__", "_form", "_place", "_version")

    def __init__(self, form: Form, place: Place, items: Iterable[T]) -> None:
        # For `admit`, when a list is assigned to a field: the field keeps this copy.
        self._form, self._place, self._version = form, place, birth()
        # Whoever assigns it checks the contracts of all items together.
        super().__init__(
            [admit(form, item, place.below(at)) for at, item in enumerate(items)]
        )

    @classmethod
    def restore(cls, form: Form, place: Place, items: list[T]) -> "TrackedList[T]":
        """A list of items that were admitted before.

        For a rebuild and for `gn.view`: what a graph holds was checked when it was put
        in.
        """
        restored = cls(form, place, ())
        list.extend(restored, items)
        return restored

    def append(self, item: T, /) -> None:
        self.check_owner()
        self._change(super().append, self.admit(len(self), item))

    def extend(self, items: Iterable[T], /) -> None:
        self.check_owner()
        # All items are admitted first: the list has either all of them or none.
        self._change(super().extend, self.admit_all(enumerate(items, len(self))))

    def insert(self, at: SupportsIndex, item: T, /) -> None:
        """Insert an item in front of a position, which counts from the end if it is negative."""
        self.check_owner()
        index = at.__index__()
        # As `list.insert` does it: an index outside of the list means its nearest end.
        place = max(0, len(self) + index) if index < 0 else min(index, len(self))
        self._change(super().insert, at, self.admit(place, item, replaces=False))

    def pop(self, at: SupportsIndex = -1, /) -> T:
        self.check_owner()
        return self._change(super().pop, at)

    def remove(self, item: T, /) -> None:
        self.check_owner()
        self._change(super().remove, item)

    def clear(self) -> None:
        self.check_owner()
        self._change(super().clear)

    def sort(self, **options: Any) -> None:
        self.check_owner()
        self._change(super().sort, **options)

    def reverse(self) -> None:
        self.check_owner()
        self._change(super().reverse)

    def __setitem__(self, at: Any, item: Any, /) -> None:
        self.check_owner()
        if isinstance(at, slice):
            admitted: Any = self._admit_slice(at, list(item))
        else:
            index = at.__index__()
            # `layers[at] += ...` changes the item, and then assigns it to its place.
            if -len(self) <= index < len(self) and self[index] is item:
                return
            admitted = self.admit(index if index >= 0 else len(self) + index, item)
        self._change(super().__setitem__, at, admitted)

    def _admit_slice(self, at: slice, items: list[T]) -> list[T]:
        """Items as they would be kept in place of a slice, which may be of another length.

        For `items[a:b] = ...`.
        """
        places = range(*at.indices(len(self)))
        # Of another length, they move what stands behind them.
        is_exchange = len(items) == len(places)
        if not is_exchange:
            places = range(places.start, places.start + len(items))
        placed = zip(places, items, strict=True)
        return self.admit_all(placed, replaces=is_exchange)

    def __delitem__(self, at: SupportsIndex | slice, /) -> None:
        self.check_owner()
        self._change(super().__delitem__, at)

    def __iadd__(self, items: Iterable[T], /) -> "TrackedList[T]":  # type: ignore[override, misc]  # `list` overloads `__add__`
        self.extend(items)
        return self

    def __imul__(self, times: SupportsIndex, /) -> "TrackedList[T]":
        # By a slice, which admits the items: the copies come to new places.
        self[:] = list(self) * times
        return self

    def __reduce_ex__(
        self, protocol: SupportsIndex, /
    ) -> tuple[Callable[..., list[T]], tuple[list[T]]]:
        # As a plain list: a copy belongs to no field.
        return list, (list(self),)


class TrackedDict(dict[str, T], _Tracked):
    """A `dict` with string keys in a field; see `TrackedList`."""

    __slots__ = ("__weakref__", "_form", "_place", "_vacant", "_version")

    # The keys that States were popped from, each with those that stood behind it.
    _vacant: dict[str, tuple[str, ...]]

    def __init__(self, form: Form, place: Place, items: Mapping[Any, T]) -> None:
        # For `admit`, when a dict is assigned to a field: the field keeps this copy.
        self._form, self._place, self._version, self._vacant = form, place, birth(), {}
        admitted = {
            self._checked_string(key): admit(form, item, place.below(key))
            for key, item in items.items()
        }
        super().__init__(admitted)

    @classmethod
    def restore(cls, form: Form, place: Place, items: dict[str, T]) -> "TrackedDict[T]":
        """A dict of items that were admitted before.

        For a rebuild and for `gn.view`: what a graph holds was checked when it was put
        in.
        """
        restored = cls(form, place, {})
        dict.update(restored, items)
        return restored

    def _checked_string(self, key: object) -> str:
        """A key that was checked to be a string.

        Paths and files have keys as text, and a subclass may compare as it likes.

        Raises:
            FieldError: It is of any other class, if only a subclass of `str`.
        """
        if type(key) is str:
            return key
        # A subclass, such as the member of a `StrEnum`, would not come back from a path.
        cls = f", a {type(key).__name__}" if isinstance(key, str) else ""
        raise FieldError(f"{self._place} takes string keys; found {key!r}{cls}")

    def __setitem__(self, key: str, item: T, /) -> None:
        self.check_owner()
        # `layers[key] += ...` changes the item, and then assigns it to its place.
        if key in self and self[key] is item:
            return
        self._change(
            super().__setitem__, self._checked_string(key), self.admit(key, item)
        )
        self._vacant.pop(key, None)

    def vacate(self, key: str) -> None:
        """Remove an item that may be put back, and remember its place in the order of the dict.

        For `gn.pop_states`: so that `gn.update_states` puts it back in its old place,
        as the order is part of the structure.

        {a, b, c}  vacate(b)  {a, c}     vacant: b in front of c
                   vacate(c)  {a}        vacant: b in front of c, c at the end
                   put_back(b)  {a, b}   put_back(c)  {a, b, c}
        """
        # The order with all keys that are vacant: each in front of its followers.
        keys = list(self)
        for vacant in reversed(self._vacant):
            keys.insert(self._position(keys, vacant), vacant)
        del self[key]
        self._vacant[key] = tuple(keys[keys.index(key) + 1 :])

    def put_back(self, key: str, item: T) -> None:
        """Set an item at a vacant key, in front of the first of those that stood behind it; else at the end.

        For `gn.update_states` with a State that `gn.pop_states` took out.
        """
        self.check_owner()
        admitted = self.admit(key, item)
        keys = list(self)
        at = self._position(keys, key)

        def insert() -> None:
            # A dict appends a new key at its end, so what comes behind is taken out and
            # added again.
            behind = {other: dict.pop(self, other) for other in keys[at:]}
            dict.update(self, {key: admitted, **behind})

        self._change(insert)
        self._vacant.pop(key, None)

    def is_vacant(self, key: object) -> bool:
        """Whether an item was popped from here, and none has come since.

        For `gn.update_states`: what was popped may be put back, and no new entry is
        made.
        """
        return key in self._vacant

    def _position(self, keys: list[str], vacant: str) -> int:
        """Where a vacant key goes among others: in front of the first that stood behind it, else at the end.

        So that keys that were popped together come back in their old order, whatever
        comes back first.
        """
        followers = self._vacant.get(vacant, ())
        return next(
            (at for at, other in enumerate(keys) if other in followers), len(keys)
        )

    def __delitem__(self, key: str, /) -> None:
        self.check_owner()
        self._change(super().__delitem__, key)

    def update(self, *args: Any, **items: T) -> None:
        """Set several items: all are admitted before the first is stored."""
        self.check_owner()
        new: dict[Any, T] = dict(*args, **items)
        keys = [self._checked_string(key) for key in new]
        self._change(
            super().update, dict(zip(keys, self.admit_all(new.items()), strict=True))
        )
        for key in keys:
            self._vacant.pop(key, None)

    def setdefault(self, key: str, default: Any = None, /) -> T:
        if key not in self:
            self[key] = default
        # Read back: what the dict keeps may be a tracked copy of the default.
        return self[key]

    # Any: what `dict.pop` takes in three overloads.
    def pop(self, key: str, /, *default: Any) -> Any:  # ty: ignore[incompatible-method-override]
        self.check_owner()
        return self._change(super().pop, key, *default)

    def popitem(self) -> tuple[str, T]:
        self.check_owner()
        return self._change(super().popitem)

    def clear(self) -> None:
        self.check_owner()
        self._change(super().clear)
        self._vacant.clear()

    def __ior__(self, items: Any, /) -> "TrackedDict[T]":  # type: ignore[override, misc]  # `dict` overloads `__or__`
        self.update(items)
        return self

    def __reduce_ex__(
        self, protocol: SupportsIndex, /
    ) -> tuple[Callable[..., dict[str, T]], tuple[dict[str, T]]]:
        # As a plain dict: a copy belongs to no field.
        return dict, (dict(self),)


def _flatten_list(items: list[Any]) -> tuple[list[tuple[Any, Any]], None]:
    """For JAX: the items of a list with their keys, and no other data.

    A tracked list is to JAX what a plain list is.
    """
    return [(SequenceKey(at), item) for at, item in enumerate(items)], None


def _plain_dict(keys: tuple[str, ...], items: Iterable[Any]) -> dict[str, Any]:
    """For JAX: a dict of the keys and items that `_flatten_dict` gave.

    What JAX makes is in no field, and needs no checks.
    """
    return dict(zip(keys, items, strict=True))


def _flatten_dict(
    items: dict[str, Any],
) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
    """For JAX: the items of a dict, sorted by key as those of any dict, and the keys.

    A tracked dict is to JAX what a plain dict is.
    """
    keys = tuple(sorted(items))
    return [(DictKey(key), items[key]) for key in keys], keys


# A root may be a node's container (`treefy_split(model.layers)`). JAX knows only exact
# types, so they are registered. What it makes from leaves belongs to no node: it is plain.
register_pytree_with_keys(
    cast("type[list[Any]]", TrackedList), _flatten_list, lambda _, items: list(items)
)
register_pytree_with_keys(
    cast("type[dict[str, Any]]", TrackedDict), _flatten_dict, _plain_dict
)
