"""Put wrappers around the public methods of classes, while one of our transforms traces nodes of them.

    class Net(gn.Node)                    outside of traces         while nodes of it are traced
      def __call__(self, x): ...          Net.__call__ itself       a wrapper, which calls `_calls.dispatch`

So a call costs nothing outside of traces. It is the class that is changed, as a dunder method of
an instance is of no use to Python, and for all threads: in one that traces nothing, the wrapper only
calls the method. Each class has a count of the traces that need it; the last one takes the
wrappers out again.

Python 3.13 gives up its cache of attributes for a class that was changed a thousand times, and
each look-up would take longer from then on. So from some number of traces on a class keeps its
wrappers.
"""

import inspect
import threading
import weakref
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType, TracebackType
from typing import Any, Final

from ._calls import current_arguments, dispatch
from ._declare._node import Node
from ._fields import NodeBase
from ._graph._graphdef import GraphDef
from ._graph._template import NodeSpec

_PACKAGE_FILES: Final = (__file__, dispatch.__code__.co_filename)
# Those of all nodes, which have no methods to be named.
_BASES: Final = frozenset(Node.__mro__)
# Generators and coroutines run later, and elsewhere.
_LATER: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
# How often the wrappers of one class are taken out. It is changed twice each time, and so are
# classes with it that extend it.
_MOST_REMOVALS: Final = 100

_LOCK: Final = threading.RLock()


class _Wrapped:
    """A class that has wrappers now.

    Attributes:
        count: How many traces need them.
        methods: Of each wrapper the name, what was there before, and itself.
    """

    __slots__ = ("count", "methods")

    def __init__(self) -> None:
        self.count = 0
        self.methods: list[tuple[str, FunctionType, FunctionType]] = []


_WRAPPED: Final[dict[type, _Wrapped]] = {}
_REMOVALS: Final[weakref.WeakKeyDictionary[type, int]] = weakref.WeakKeyDictionary()


def _wrapper_of(function: FunctionType, name: str) -> FunctionType:
    """What takes the place of a method in its class, under that name."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        """The method, by `dispatch` where something is traced."""
        try:
            if current_arguments() is None or not (
                args and _attribute(type(args[0]), name) is call
            ):
                # Also by `super()`: the call of the method that extends it has a name.
                return function(*args, **kwargs)
            return dispatch(function, name, args, kwargs)
        except BaseException as error:
            error.__traceback__ = _without_first_frames(error.__traceback__)
            raise

    assert isinstance(call, FunctionType)
    return call


# All wrappers share it, and nothing else has it.
_CODE: Final = _wrapper_of(_wrapper_of, "").__code__


def _without_first_frames(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of a wrapper at its beginning."""
    while (
        traceback is not None
        and traceback.tb_frame.f_code.co_filename in _PACKAGE_FILES
    ):
        traceback = traceback.tb_next
    return traceback


# Any: whatever a class has.
def original_of(value: Any) -> Any:
    """The method that a wrapper stands for; any other value itself.

    For what looks at functions, or keeps something on them: a wrapper does not last.
    """
    while type(value) is FunctionType and value.__code__ is _CODE:
        value = value.__dict__["__wrapped__"]
    return value


def _attribute(cls: type, name: str) -> object:
    """What a class has under a name, as it is in the class that has it; `None` for nothing."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def call_method(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that is transformed; if it is a method of the node that it gets first, as that method.

    What a transform has been given is not the wrapper (`original_of`), or is in the class
    as a transformed function, such as by `@gn.jit`.
    """
    if args and isinstance(args[0], NodeBase):
        name = getattr(function, "__name__", "")
        attribute = _attribute(type(args[0]), name)
        if type(attribute) is FunctionType:
            is_method = attribute is not function and original_of(attribute) is function
        else:
            is_method = getattr(attribute, "__wrapped__", None) is function
        if is_method and _is_public(name):
            return dispatch(function, name, args, kwargs)
    return function(*args, **kwargs)


@contextmanager
def wrapped_methods(graphdef: GraphDef[Any]) -> Generator[None]:
    """While it is open, the public methods of the nodes of a structure go by `dispatch`."""
    classes = graphdef.plans.to(_CLASSES, lambda: _classes_in(graphdef))
    _install(classes)
    try:
        yield
    finally:
        _remove(classes)


_CLASSES: Final = "classes with methods"


def _classes_in(graphdef: GraphDef[Any]) -> list[type]:
    """The classes of the nodes in a structure, and those that they extend; without those of all nodes."""
    specs = [token for token in graphdef.tokens if isinstance(token, NodeSpec)]
    bases = {base for cls in {spec.cls for spec in specs} for base in cls.__mro__}
    # Those of C take no attributes.
    return [base for base in bases - _BASES if base.__flags__ & _IS_OF_PYTHON]


_IS_OF_PYTHON: Final = 1 << 9


def _install(classes: Collection[type]) -> None:
    """Put wrappers into classes that have none."""
    with _LOCK:
        for cls in classes:
            wrapped = _WRAPPED.get(cls)
            if wrapped is None:
                wrapped = _WRAPPED[cls] = _Wrapped()
                _put_in(cls, wrapped)
            wrapped.count += 1


def _put_in(cls: type, wrapped: _Wrapped) -> None:
    """Put a wrapper in the place of each public method of a class itself."""
    for name, value in list(cls.__dict__.items()):
        if type(value) is FunctionType and _is_public(name) and _is_wrappable(value):
            wrapper = _wrapper_of(value, name)
            wrapped.methods.append((name, value, wrapper))
            type.__setattr__(cls, name, wrapper)


def _is_public(name: str) -> bool:
    """Whether a method of that name is called from outside of its class."""
    return not name.startswith("_") or name == "__call__"


def _is_wrappable(function: FunctionType) -> bool:
    """Whether a function runs when it is called, and has no wrapper."""
    code = function.__code__
    return code is not _CODE and not code.co_flags & _LATER


def _remove(classes: Collection[type]) -> None:
    """Take the wrappers out of those classes that no trace needs any more."""
    with _LOCK:
        for cls in classes:
            wrapped = _WRAPPED[cls]
            wrapped.count -= 1
            if wrapped.count == 0:
                del _WRAPPED[cls]
                _take_out(cls, wrapped)


def _take_out(cls: type, wrapped: _Wrapped) -> None:
    """Put back what was there before the wrappers, unless somebody has put something else there since."""
    removals = _REMOVALS.get(cls, 0)
    if removals >= _MOST_REMOVALS:
        return
    _REMOVALS[cls] = removals + 1
    for name, function, wrapper in wrapped.methods:
        if cls.__dict__.get(name) is wrapper:
            type.__setattr__(cls, name, function)
