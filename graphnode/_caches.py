"""Caches: `Memo`, a bounded dict; `Interned`, one object for each description; and what is compiled for a class.

    Memo        key -> value              strong, at most `limit` entries
    Interned    description -> object     weak, as long as others hold the object
    Kept        class -> compiled value   in the class's own `__dict__`, dies with it

All may be used by several threads at once, and by a signal handler or finalizer at any
moment. A value is made outside of every lock, since making one may run a user's code
(annotations, imports) that waits for another thread. If two threads make the same
value, the first to store it wins, and both go on with that one. Storing is one step
that other code cannot interrupt, not even code that holds the lock: a signal handler
runs in the thread that it interrupts.
"""

import functools
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, ClassVar, Final, Generic, TypeVar

import typing_extensions

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
A = TypeVar("A")

# One lock for all tables. Callbacks of weak references run whenever the collector does,
# also while a lock is held: with a lock for each table, two threads could each hold the
# one that the other's callback waits for. Reentrant for the same reason.
LOCK: Final = threading.RLock()

# The attribute of a function for what transforms have compiled of it: not a part of
# what the function computes.
TRANSFORMED: Final = "__graphnode_transformed__"


class Memo(dict[K, V]):
    """A cache of computed values: a dict that drops its oldest entries when it is full.

    A look-up is `dict.get`, in C, which does not make an entry younger. Making an empty
    one is in C too, as every node that is built has some: that is why the limit is an
    attribute of the class, and there is no `__init__`.
    """

    __slots__ = ()

    limit: ClassVar[int] = 64

    def keep(self, key: K, value: V) -> V:
        """Store a value. Returns the one to use: another thread's if that was stored first."""
        with LOCK:
            # The first value wins, not the last: other threads may already compare by
            # its identity.
            winner = self.setdefault(key, value)
            # Of a copy: the callback of a weak reference may remove entries meanwhile.
            for oldest in list(self)[: max(len(self) - self.limit, 0)]:
                self.pop(oldest, None)
        return winner

    def of(self, key: K, make: Callable[[], V]) -> V:
        """The value for a key; if there is none, `make` makes it, outside of the lock, as it may run a user's code."""
        try:
            return self[key]  # not `get`: `None` may be a value
        except KeyError:
            pass  # called below: here, an error of `make` would show this KeyError too
        return self.keep(key, make())


class Answers(Memo[Hashable, Any]):
    """Answers to questions about one object, each with a type of its own."""

    __slots__ = ()

    limit: ClassVar[int] = 128

    def to(self, question: Hashable, compute: Callable[[], A]) -> A:
        """The answer to a question, computed when it is asked for the first time.

        Each question is asked by one piece of code, which always computes the answer in
        the same way: so the type is right.
        """
        answer: A = self.of(question, compute)
        return answer


class Interned(Generic[K, V]):
    """One object for each description, kept alive only by others.

    Attributes:
        refs: The objects by description; may be read without the lock.
    """

    __slots__ = ("refs",)

    def __init__(self) -> None:
        # Not a `WeakValueDictionary`, whose `get` costs more than the rest of a node's
        # visit.
        self.refs: dict[K, weakref.ReferenceType[V]] = {}

    def __iter__(self) -> Iterator[V]:
        """The objects that are alive: `forget_class` looks through all graphdefs for a class defined again."""
        # `list` is one step in C: the callback of a dying object may change the dict
        # meanwhile.
        objects = [ref() for ref in list(self.refs.values())]
        return iter([value for value in objects if value is not None])

    def of(self, key: K, make: Callable[[], V]) -> V:
        """The one object for a description; if there is none alive, `make` makes it."""
        ref = self.refs.get(key)
        value = None if ref is None else ref()
        return self._keep(key, make()) if value is None else value

    def _keep(self, key: K, value: V) -> V:
        """For `of`: store an object. Returns the one to use: another thread's if that was stored first."""
        ref = weakref.ref(value, functools.partial(self._forget, key))
        with LOCK:
            winner = self.refs.setdefault(key, ref)()
            while winner is None:  # it has just died, and is not forgotten yet
                self._forget(key, self.refs.get(key))
                winner = self.refs.setdefault(key, ref)()
        return winner

    def _forget(
        self, key: K, dead: "weakref.ReferenceType[V] | None", *, lock: Any = LOCK
    ) -> None:
        """Remove the entry of an object that has died; called by its weak reference.

        Args:
            key: The description.
            dead: The reference to the object that died; an entry with another one stays.
            lock: `LOCK`.
        """
        # The lock is a default argument: when Python exits, the globals of modules are
        # gone before the last objects die.
        with lock:
            # Removed first, and checked after: the other way round, a callback between
            # the two could change the table.
            ref = self.refs.pop(key, None)
            if ref is not None and ref is not dead:  # an equal object was made since
                self.refs[key] = ref


class StaysHere:
    """The base of caches on a user's function or class: pickled, they become empty.

    cloudpickle, and so joblib, dask and ray, send the functions and classes of a script
    or notebook with their whole `__dict__`. What was compiled is compiled again in the
    process that loads them.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def own_names(cls: type[Any]) -> tuple[str, ...]:
    """The names in a class's own annotations. A `Kept` is pickled with them, for `was_there`."""
    return tuple(
        typing_extensions.get_annotations(
            cls, format=typing_extensions.Format.FORWARDREF
        )
    )


def was_there(cls: type[Any], names: tuple[str, ...]) -> bool:
    """Whether a class that is being loaded from a pickle is complete, so that its caches are valid.

    cloudpickle makes a class without its body, and so without its annotations, and then
    sets all its attributes. A class that the process has already is not made again, but
    its attributes are set as well. A class without annotations of its own compiles to
    the same in both cases.

    Args:
        cls: The class.
        names: What `own_names` gave for it when it was pickled.
    """
    return own_names(cls) == names


class Kept(Generic[V]):
    """What was compiled for a class, in its `__dict__`. Like `StaysHere`, it is not sent with the class.

    Loading its pickle gives what the class has in this process: cloudpickle sets the
    attributes of a class again even if the process has had the class all the time, such
    as a worker that got it before.
    """

    __slots__ = ("cls", "slot", "value")

    def __init__(self, cls: type[Any], slot: str, value: V | None = None) -> None:
        self.cls, self.slot, self.value = cls, slot, value

    def __reduce__(self) -> tuple[Any, ...]:
        return _kept_there, (type(self), self.cls, self.slot, own_names(self.cls))


def _kept_there(
    holder: "type[Kept[Any]]",
    cls: type[Any],
    slot: str,
    names: tuple[str, ...],
    *rest: Any,
) -> "Kept[Any]":
    """What the pickle of a `Kept` loads as: what the class has in this process, or an empty one.

    Args:
        holder: The class of the `Kept`.
        cls: The class whose compiled value it holds.
        slot: The attribute of that class that it is in.
        names: What `own_names` gave for it when it was pickled.
        *rest: Further arguments of `holder`.
    """
    own: Kept[Any] | None = cls.__dict__.get(slot) if was_there(cls, names) else None
    return holder(cls, slot, *rest) if own is None else own


def kept(cls: type[Any], slot: str) -> Any:
    """What was compiled for a class, such as its schema, or `None`. From its own `__dict__`: a base has another."""
    holder: Kept[Any] | None = cls.__dict__.get(slot)
    return None if holder is None else holder.value


def publish(cls: type[Any], slot: str, value: V, holder: type[Kept[Any]] = Kept) -> V:
    """Store what was compiled for a class in its own `__dict__`; returns another thread's value if that came first.

    Not in a table of all classes: a compiled value refers to its class, and would keep
    it alive for ever, also from a weak dictionary.
    """
    own, new = cls.__dict__, holder(cls, slot, value)
    with LOCK:
        # An operator, not `get`: a signal handler may only run at a call, and the next
        # one is `setattr`.
        if slot not in own:
            setattr(cls, slot, new)
        stored: Kept[V] = own[slot]
        # Loaded from a pickle, which has the holder without its value.
        if stored.value is None:
            stored.value = value
        return stored.value
