"""What was made of a function and is kept on it: pure functions, and what JAX compiled of them.

JAX knows by identity what it has traced before, so that what it gets has to be the same
object each time:

    function.__dict__[TRANSFORMED]  _Kept, which dies with the function
        kinds[("pure", "jit")]      KindCache: by signature, a Pure
        kinds["jit"]                KindCache: by options, what gn.jit compiled
        kinds["history"]            the traces, for gn.explain_retrace
"""

import weakref
from collections.abc import Callable, Hashable, Sequence
from types import MethodType
from typing import Any, Final, TypeVar

from .._caches import LOCK, TRANSFORMED, Memo, StaysHere
from .._calls import has_handlers
from ._arguments import Function
from ._traits import TRAITS

T = TypeVar("T")

_EAGER: Final = frozenset(
    [("pure", transform) for transform, traits in TRAITS.items() if traits.is_eager]
)


class KindCache(Memo[Hashable, Any]):
    """What was made of one function, of one kind."""

    __slots__ = ("__weakref__",)
    # As many signatures of one function: a loop that makes a new one each time must not
    # fill the memory.
    limit = 256


class _Kept(StaysHere):
    """All that was made of one function, by kind; in its `__dict__`, so that it goes with it.

    `functools.wraps` and `copy.copy` hand the attribute on to others, which must not
    use it. To pickle, and so to a process of joblib or dask, it is empty: what was
    compiled is made again there.
    """

    __slots__ = ("kinds", "owner")

    def __init__(self, owner: Function | None = None) -> None:
        """Begin with nothing kept; without an owner, as where it was pickled, it belongs to no function."""
        # Weakly: the function holds this, and a cycle would wait for the collector.
        self.owner = None if owner is None else weakref.ref(owner)
        self.kinds: dict[Hashable, KindCache] = {}

    def is_of(self, function: Function) -> bool:
        """Whether it was made for this function, rather than copied from another with its attributes."""
        return self.owner is not None and self.owner() is function


def _cache_of(function: Function, kind: Hashable) -> KindCache | None:
    """Where what is made of a function is kept; `None` for one that takes no attributes."""
    try:
        caches: _Kept | None = function.__dict__.get(TRANSFORMED)
        if caches is None or not caches.is_of(function):
            caches = _attached(function)
    except (AttributeError, TypeError):  # a builtin, or a class
        return None
    cache = caches.kinds.get(kind)
    if cache is None:
        _check_hashable(function, kind)
        # `setdefault`, as another thread may have put one there since.
        return caches.kinds.setdefault(kind, KindCache())
    return cache


def _check_hashable(function: Function, kind: Hashable) -> None:
    """Raise if a callable object may change where what was traced of it is kept: JAX knows it by its hash.

    Raises:
        TypeError: Says what would do.
    """
    # Nothing that was traced of it outlives the call.
    if kind in _EAGER:
        return
    try:
        hash(function)
    except TypeError as error:
        name = type(function).__name__
        raise TypeError(
            f"a {name} is called by a transformed function, and is not hashable ({error}): it may change, and what was "
            "traced of it would stay. Make it a frozen dataclass of hashable values, or a node; or pass what changes "
            "as an argument"
        ) from None


def _attached(function: Function) -> _Kept:
    """The `_Kept` in the `__dict__` of a function: a new one, or that of another thread that was first."""
    fresh = _Kept(function)
    with LOCK:
        # Another thread may have been first.
        caches: _Kept | None = function.__dict__.get(TRANSFORMED)
        if caches is None or not caches.is_of(function):
            function.__dict__[TRANSFORMED] = caches = fresh
    return caches


def remembered(
    function: Function, kind: Hashable, key: Hashable, make: Callable[[], T]
) -> T:
    """What was made of a function before, or is made now: kept on the function, and as long as it.

    So JAX, which knows by identity what it has traced, gets the same object each time.

    Args:
        function: The function.
        kind: What sort of thing it is: each has room of its own.
        key: Which of them. Neither this nor what is made may hold another function of
            the user's: it would live as long as this one. For what is made of several
            see `remembered_together`.
        make: Makes it.
    """
    # Its attributes are those of the function, and would keep the instance. And a handler
    # is to see each call of what is traced.
    if isinstance(function, MethodType) or has_handlers():
        return make()
    cache = _cache_of(function, kind)
    return make() if cache is None else cache.of(key, make)


def remembered_together(
    functions: Sequence[Function],
    kind: Hashable,
    key: Hashable,
    make: Callable[[Callable[[], list[Any]]], T],
) -> T:
    """What was made of several functions: kept on the first, and dropped as soon as one of them is gone.

    What is made of a bound method of a plain object is not kept, as by `jax.lax`: it is
    another function each time, which may find other attributes.

    Args:
        functions: The functions, known by identity.
        kind: What sort of thing it is.
        key: Which of them, beside the functions.
        make: Makes it. It gets what gives the functions, for as long as they live, and
            must hold them in no other way: no reference from one of them may keep
            another.
    """
    is_method = any(isinstance(function, MethodType) for function in functions)
    cache = None if is_method or has_handlers() else _cache_of(functions[0], kind)
    if cache is None:
        return make(lambda: list(functions))
    # Not the functions themselves: the key would keep them alive, and a callable object
    # may not be hashable.
    full_key = (tuple(map(id, functions)), key)
    entry = cache.get(full_key)
    # Known by their ids, which may be others': an interrupt can keep a callback from
    # dropping an entry.
    if entry is not None and _refer_to(entry[1], functions):
        return entry[0]  # type: ignore[no-any-return]  # `T`, as `make`
    # Weak, like all here: a cycle would wait for the collector
    cache_ref = weakref.ref(cache)

    def forget(_: object) -> None:
        """Drop the entry, when one of the functions dies."""
        live_cache = cache_ref()
        if live_cache is not None:
            live_cache.pop(full_key, None)

    try:
        refs = [weakref.ref(function, forget) for function in functions]
    except TypeError:  # an object of a class with slots
        return make(lambda: list(functions))
    # Of functions that are gone, whose ids these ones got.
    cache.pop(full_key, None)
    entry = (make(lambda: [ref() for ref in refs]), refs)
    return cache.keep(full_key, entry)[0]  # type: ignore[no-any-return]


def _refer_to(
    refs: Sequence[weakref.ref[Function]], functions: Sequence[Function]
) -> bool:
    """Whether weak references still refer to just these functions: the id of one that died may be another's now."""
    return all(ref() is function for ref, function in zip(refs, functions, strict=True))


def forget_kept(wrapper: Any) -> None:
    """Drop what `functools.wraps` copied from another function: a wrapper is to keep no other's."""
    wrapper.__dict__.pop(TRANSFORMED, None)
