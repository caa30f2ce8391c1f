"""Refuse functions and methods that hold nodes or States: in a static value, their values would become constants."""

import functools
import types
import weakref
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final, NamedTuple, cast

from .._hints import with_article
from ._kind import StaticValueError
from ._lookup import static_key
from ._objects import GraphObject

# Functions that were checked, by their ids.
_CHECKED: Final[dict[int, "weakref.ref[types.FunctionType]"]] = {}


class _Variable(NamedTuple):
    """A variable of a function with its content: from the closure, or a default."""

    name: str
    content: object


class _Unset:
    """Stands for the content of a variable that is assigned later."""


def function_key(function: types.FunctionType) -> Hashable:
    """The key of a function, which is itself: no other equals it.

    Raises:
        StaticValueError: It holds a node or State.
    """
    checked = _CHECKED.get(id(function))
    # By id and weakly: a dict of functions would keep them, with all that they hold.
    if checked is None or checked() is not function:
        _check_function(function)
    return function


def _check_function(function: types.FunctionType) -> None:
    """Refuse a function that holds a node or State; looked into once, unless one of its variables is not set yet."""
    variables = list(_outer_variables(function))
    check_captured(f"the function {function.__qualname__}", variables)
    # A variable that is assigned later may still get a node.
    if not any(isinstance(content, _Unset) for _, content in variables):
        at = id(function)
        _CHECKED[at] = weakref.ref(function, lambda _: _CHECKED.pop(at, None))


def method_key(method: types.MethodType) -> Hashable:
    """The key of a method, its function and the key of its object: methods of equal objects are equal.

    Of an object that is not static itself, such as a list, it is the method, which
    equals those of the same object.

    Raises:
        StaticValueError: It is one of a node or State, or of what holds some.
    """
    owner = method.__self__
    if isinstance(owner, GraphObject):
        cls, name = type(owner).__name__, method.__name__
        raise StaticValueError(
            f"a method of {with_article(cls)} ({cls}.{name}) cannot be static: declare a field state() or subnode() "
            f"for the {cls}, and call its method"
        )
    check_captured(f"the method {method.__qualname__}", [_Variable("__self__", owner)])
    function: Any = method.__func__
    if isinstance(function, types.FunctionType):
        function_key(function)
    try:
        return (types.MethodType, function, static_key(owner))
    except StaticValueError:
        return method


def check_captured(
    owner: str,
    variables: Iterable[tuple[str, object]],
    *,
    use: str = "pass it to the function",
) -> None:
    """Raise if a variable holds a node or State, also in containers, partials, methods and further functions.

    Args:
        owner: What has the variables, in words.
        variables: Their names and contents.
        use: What to do with the node or State, once a field holds it.

    Raises:
        StaticValueError: One does; names the first.
    """
    todo = list(variables)
    visited: set[int] = set()  # a function that calls itself holds itself
    for name, content in todo:  # which grows
        if isinstance(content, GraphObject):
            raise StaticValueError(
                f"{owner} cannot be static: its {name} holds {with_article(type(content).__name__)}, whose values "
                f"would become constants; declare a field state() or subnode() for it, and {use}"
            )
        if id(content) not in visited:
            visited.add(id(content))
            todo += [(name, inner) for inner in _captured_contents(content)]


def _captured_contents(content: object) -> Iterable[object]:
    """What `check_captured` looks into next: the items of plain containers, and what functions hold.

    Not what is in other classes, whose code would run.
    """
    if isinstance(content, types.FunctionType):
        return [variable.content for variable in _outer_variables(content)]
    if isinstance(content, types.MethodType):
        return (content.__self__, content.__func__)
    if isinstance(content, functools.partial):
        return (content.func, *content.args, *content.keywords.values())
    if type(content) is dict:
        return content.values()
    if type(content) in (list, tuple, set, frozenset):
        return cast("Iterable[object]", content)
    return ()


def _outer_variables(function: types.FunctionType) -> Iterator[_Variable]:
    """The variables of a function from outside of its body: those of its closure, and its defaults.

    These are all that a function carries with it, and so where a node may be hidden.
    """
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            content: object = cell.cell_contents
        # The cell is empty: the enclosing function has not assigned the variable yet.
        except ValueError:
            content = _Unset()
        yield _Variable(name, content)
    defaults = function.__defaults__ or ()
    arguments = code.co_varnames[: code.co_argcount]
    # The defaults belong to the last positional arguments.
    yield from map(_Variable, arguments[len(arguments) - len(defaults) :], defaults)
    yield from map(
        _Variable,
        function.__kwdefaults__ or (),
        (function.__kwdefaults__ or {}).values(),
    )
