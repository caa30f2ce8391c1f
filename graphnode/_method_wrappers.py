"""Put wrappers around the public methods of classes, while one of our transforms traces nodes of them.

    class Net(gn.Node)                    outside of traces         while nodes of it are traced
      def __call__(self, x): ...          Net.__call__ itself       a wrapper, which opens a scope of JAX

So a call costs nothing outside of traces. It is the class that is changed, as a dunder method of
an instance is of no use to Python, and for all threads: in one that traces nothing, the wrapper only
calls the method. Each class has a count of the traces that need it; the last one takes the
wrappers out again.

A wrapper is a descriptor, so that code in a trace finds what it finds outside:

    Net.encode            the function itself: as a key, in a static field, for pickle
    net.encode            a bound method, whose function is the wrapper
    net.encode.__code__   and all else that is asked of it: that of the function
"""

import inspect
import threading
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from types import FunctionType, MethodType, TracebackType
from typing import Any, Final, SupportsIndex, TypeGuard

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

_LOCK: Final = threading.RLock()


# Any: a property of another type than the attribute that each class has.
def _forwarded(name: str) -> Any:
    """For `_Wrapper`: an attribute that is that of the function."""
    return property(lambda wrapper: getattr(wrapper._function, name))


class _Wrapper:
    """What takes the place of a method in its class; to whoever looks at it, the function of the method.

    No function itself: that would show its own code and defaults.
    """

    __slots__ = ("__weakref__", "_function", "_name")

    def __init__(self, function: FunctionType, name: str) -> None:
        self._function = function
        self._name = name

    def __get__(self, node: object, owner: type | None = None, /) -> Callable[..., Any]:
        return self._function if node is None else MethodType(self, node)

    # Any: whatever the method takes and gives.
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The method, under the name of the node where that is traced."""
        function, name = self._function, self._name
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

    # Any: whatever a function has.
    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    # Every class has these, so `__getattr__` is not asked for them.
    __module__ = _forwarded("__module__")
    __doc__ = _forwarded("__doc__")
    # For `inspect`, which finds the source of functions alone.
    __class__ = _forwarded("__class__")  # pyright: ignore[reportIncompatibleMethodOverride]

    def __eq__(self, other: object) -> bool:
        return original_of(other) is self._function

    def __hash__(self) -> int:
        return hash(self._function)

    def __repr__(self) -> str:
        return repr(self._function)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        # A copy is the function.
        return original_of, (self._function,)


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
    return value._function if type(value) is _Wrapper else value


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
    is_method = bool(args) and is_public(name) and _is_behind(function, args[0], name)
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
    if type(attribute) is _Wrapper:
        return attribute._function is function
    return getattr(attribute, "__wrapped__", None) is function


class _Wrapped:
    """A class that has wrappers now.

    Attributes:
        count: How many traces need them.
        methods: Of each wrapper the name, what was there before, and itself.
    """

    __slots__ = ("count", "methods")

    def __init__(self) -> None:
        self.count = 0
        self.methods: list[tuple[str, FunctionType, _Wrapper]] = []


_WRAPPED: Final[dict[type, _Wrapped]] = {}


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
        # A wrapper is there where somebody has put back what a trace had there, as `mock.patch` may.
        function = original_of(value)
        if is_public(name) and _is_wrappable(function):
            wrapper = _Wrapper(function, name)
            wrapped.methods.append((name, function, wrapper))
            type.__setattr__(cls, name, wrapper)


def is_public(name: str) -> bool:
    """Whether a method of that name is called from outside of its class."""
    return not name.startswith("_") or name == "__call__"


def _is_wrappable(value: object) -> TypeGuard[FunctionType]:
    """Whether something is a function that runs when it is called."""
    return type(value) is FunctionType and not value.__code__.co_flags & _LATER


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
    for name, function, wrapper in wrapped.methods:
        if cls.__dict__.get(name) is wrapper:
            type.__setattr__(cls, name, function)
