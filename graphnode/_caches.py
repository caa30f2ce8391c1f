"""What is kept to be met again: `Memo`, a bounded dict, and `Interned`, one object for each description.

Both may be used by several threads at once, and by a signal handler or finalizer at any
moment. A value is made outside of every lock, since making one may run a user's code
(annotations, imports) that waits for another thread; of two that make the same value,
the first to put it in wins, and both go on with that one. To put it in is one step,
which no other code divides, also where that has the lock: a handler runs in the thread
that it interrupts.
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

# One for all tables. Weak references call back whenever the collector runs, also while
# a lock is held: with a lock for each table, two threads could each hold the one that
# the other's callback waits for. Reentrant for the same reason.
LOCK: Final = threading.RLock()

# Under this name a function has, in its `__dict__`, what transforms have made of it:
# nothing that it computes with.
TRANSFORMED: Final = "__graphnode_transformed__"


class Memo(dict[K, V]):
    """What was worked out before, by its question: a dict that drops its oldest entries when it is full.

    A look-up is `dict.get`, which is C; an entry that is met again is not made younger
    by it. Making one is C too, as every node that is built has some: the limit belongs
    to the class.
    """

    __slots__ = ()

    limit: ClassVar[int] = 64

    def keep(self, key: K, value: V) -> V:
        """Put a value in; gives the one to use, which is another's if it came first."""
        with LOCK:
            winner = self.setdefault(key, value)
            # A list first: a weak reference that calls back here may take entries out.
            for oldest in list(self)[: max(len(self) - self.limit, 0)]:
                self.pop(oldest, None)
        return winner

    def of(self, key: K, make: Callable[[], V]) -> V:
        """The value for a key, made if there is none."""
        try:
            return self[key]  # not `get`: `None` may be a value
        except KeyError:
            pass  # made outside, or each error in `make` would be shown as this one's
        return self.keep(key, make())


class Answers(Memo[Hashable, Any]):
    """The answers to questions about one object, each of a type of its own."""

    __slots__ = ()

    limit: ClassVar[int] = 128

    def to(self, question: Hashable, work_out: Callable[[], A]) -> A:
        """The answer to a question, worked out when it is asked for the first time.

        A question belongs to one piece of code, which always works its answer out in
        the same way: that is what makes the type true.
        """
        answer: A = self.of(question, work_out)
        return answer


class Interned(Generic[K, V]):
    """One object for each description, kept no longer than others hold it.

    Attributes:
        refs: The objects by description; may be read without a lock.
    """

    __slots__ = ("refs",)

    def __init__(self) -> None:
        # By hand, not a `WeakValueDictionary`: its `get` costs more than the rest of a
        # node's visit.
        self.refs: dict[K, weakref.ReferenceType[V]] = {}

    def __iter__(self) -> Iterator[V]:
        return iter(
            [found for ref in list(self.refs.values()) if (found := ref()) is not None]
        )

    def of(self, key: K, make: Callable[[], V]) -> V:
        """The one object of a description, made if there is none."""
        ref = self.refs.get(key)
        found = None if ref is None else ref()
        return self._keep(key, make()) if found is None else found

    def _keep(self, key: K, made: V) -> V:
        """Put an object in; gives the one to use, which is another's if it came first."""
        ref = weakref.ref(made, functools.partial(self._forget, key))
        with LOCK:
            winner = self.refs.setdefault(key, ref)()
            while winner is None:  # it has just died, and is not forgotten yet
                self._forget(key, self.refs.get(key))
                winner = self.refs.setdefault(key, ref)()
        return winner

    def _forget(
        self, key: K, dead: "weakref.ReferenceType[V] | None", *, lock: Any = LOCK
    ) -> None:
        # As an argument: when Python ends, the names of modules are gone before the
        # last objects
        with lock:
            # Out first, looked at after: a look that comes first may be out of date
            # when it is acted upon.
            ref = self.refs.pop(key, None)
            if ref is not None and ref is not dead:  # an equal one has been made since
                self.refs[key] = ref


class StaysHere:
    """The base of what is kept on a user's function or class: an empty one, once it is pickled.

    cloudpickle, and so joblib, dask and ray, send the functions and classes of a script
    or notebook with their whole `__dict__`. What was compiled is compiled again where
    it arrives.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def own_names(cls: type[Any]) -> tuple[str, ...]:
    """The names that a class annotates itself, for what is pickled with it: see `was_there`."""
    return tuple(
        typing_extensions.get_annotations(
            cls, format=typing_extensions.Format.FORWARDREF
        )
    )


def was_there(cls: type[Any], names: tuple[str, ...]) -> bool:
    """Whether a class that is being loaded from a pickle was there before, or what was compiled of it holds.

    cloudpickle makes a class without its body, and so without its annotations, and then
    sets all its attributes. One that is there already is made no second time, but its
    attributes are set as well. Of a class without annotations of its own both are
    compiled to the same.

    Args:
        cls: The class.
        names: What `own_names` gave for it when it was pickled.
    """
    return own_names(cls) == names


class Kept(Generic[V]):
    """What was compiled for a class, in its `__dict__`: stays here, as `StaysHere` says.

    Once pickled, it is what the class has where it arrives: cloudpickle sets the
    attributes of a class again, also those of one that was there all the time, in its
    own process or in a worker that got it before.
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
    """What a class keeps where its pickle is loaded, or an empty one."""
    own: Kept[Any] | None = cls.__dict__.get(slot) if was_there(cls, names) else None
    return holder(cls, slot, *rest) if own is None else own


def kept(cls: type[Any], slot: str) -> Any:
    """What is kept of a class in its own `__dict__`, or `None`. Its own, since attributes are inherited."""
    holder: Kept[Any] | None = cls.__dict__.get(slot)
    return None if holder is None else holder.value


def publish(cls: type[Any], slot: str, made: V, holder: type[Kept[Any]] = Kept) -> V:
    """Keep in a class's own `__dict__` what was compiled for it; gives what another thread put there first, if any.

    There, since a table would keep it for ever, as it refers to its class.
    """
    own, new = cls.__dict__, holder(cls, slot, made)
    with LOCK:
        # Operators, not `get`: no signal handler runs before the next call, which is
        # that of `setattr`.
        if slot not in own:
            setattr(cls, slot, new)
        there: Kept[V] = own[slot]
        # A class that was pickled, and what was kept of it was not
        if there.value is None:
            there.value = made
        return there.value
