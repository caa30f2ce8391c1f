"""Put wrappers around the public methods of classes, while one of our transforms traces nodes of them.

    class Net(gn.Node)                    outside of traces         while nodes of it are traced
      def __call__(self, x): ...          Net.__call__ itself       a wrapper, which opens a scope of JAX

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

from ._calls import (
    Arguments,
    current_arguments,
    has_handlers,
    label_of,
    through_handlers,
    tracing,
)
from ._compat import path_scope
from ._declare._node import Node
from ._graph._graphdef import GraphDef
from ._graph._template import NodeSpec

_OWN_FILES: Final = (__file__, through_handlers.__code__.co_filename)
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


def _wrapper_of(function: Callable[..., Any], name: str) -> FunctionType:
    """What takes the place of a method in its class, under that name."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        """The method, under the name of the node where that is traced."""
        try:
            label = label_of(args[0]) if args else None
            # Not by `super()`: the call of what extends the method has the name.
            if label is None or not _is_method(function, name, args[0]):
                return function(*args, **kwargs)
            # Here, as each frame more makes each operation take longer to trace.
            with path_scope(label.scope):
                if has_handlers():
                    return through_handlers(label, name, function, args, kwargs)
                return function(*args, **kwargs)
        except BaseException as error:
            error.__traceback__ = _without_first_frames(error.__traceback__)
            raise

    assert isinstance(call, FunctionType)
    call.__dict__["__wrapped__"] = function
    _WRAPPERS.add(call)
    return call


# Known by itself: an attribute is handed on by `functools.wraps`, and the code may be that of
# a type checker at run time.
_WRAPPERS: Final[weakref.WeakSet[FunctionType]] = weakref.WeakSet()


def _without_first_frames(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of a wrapper at its beginning."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _OWN_FILES:
        traceback = traceback.tb_next
    return traceback


# Any: whatever a class has.
def original_of(value: Any) -> Any:
    """The method that a wrapper stands for; any other value itself.

    For what looks at functions, or keeps something on them: a wrapper does not last.
    """
    is_wrapper = type(value) is FunctionType and value in _WRAPPERS
    return value.__dict__["__wrapped__"] if is_wrapper else value


def _is_method(function: object, name: str, node: object) -> bool:
    """Whether a function is what a node has as its method of that name."""
    return original_of(_attribute(type(node), name)) is function


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
    name = getattr(function, "__name__", "")
    is_method = bool(args) and _is_public(name) and _is_behind(function, args[0], name)
    # Only then: nodes are looked for when the first method is called.
    label = label_of(args[0]) if is_method else None
    if label is None:
        return function(*args, **kwargs)
    with path_scope(label.scope):
        if has_handlers():
            return through_handlers(label, name, function, args, kwargs)
        return function(*args, **kwargs)


def _is_behind(function: Callable[..., Any], node: object, name: str) -> bool:
    """For `call_method`: whether a function is what a wrapper, or a transformed function, in a class stands for."""
    attribute = _attribute(type(node), name)
    if type(attribute) is FunctionType:
        return attribute is not function and original_of(attribute) is function
    return getattr(attribute, "__wrapped__", None) is function


@contextmanager
def naming(arguments: Arguments) -> Generator[None]:
    """While it is open, calls of the public methods of these nodes have the names of the nodes."""
    classes: list[type] = []
    known: Arguments | None = arguments
    # Those of a trace around have wrappers already.
    while known is not None and known is not current_arguments():
        classes += _classes_of(known.graphdef)
        known = known.around
    _install(classes)
    try:
        with tracing(arguments):
            yield
    finally:
        _remove(classes)


def _classes_of(graphdef: GraphDef[Any]) -> list[type]:
    """The classes of the nodes in a structure, and those that they extend; without those of all nodes."""
    return graphdef.plans.to(_CLASSES, lambda: _classes_in(graphdef))


_CLASSES: Final = "classes with methods"


def _classes_in(graphdef: GraphDef[Any]) -> list[type]:
    """For `_classes_of`: a walk over all tokens."""
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
    runs_later = function.__code__.co_flags & _LATER
    return not runs_later and function not in _WRAPPERS


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
