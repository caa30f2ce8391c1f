"""Messages for wrong arguments: the public function that was called, what it takes, and what was found.

Errors are raised deep inside, by functions that many public ones share. The name of the
one that the user called is found in the stack frames: passing it down would cost every
call, and be of use only in an error.
"""

import inspect
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FrameType
from typing import Any, Final

from ._describe import describe

# The modules whose functions users call, and how they write them. In `optim` only
# classes count: most of its functions are private, and the others pass their name.
_FUNCTIONS: Final = {
    "graphnode": "gn",
    "graphnode.transforms": "gn",
    "graphnode.config": "gn.config",
    "graphnode.random": "gn.random",
}
# Run-time type checkers wrap our functions: their frames are between ours.
_OWN_PACKAGES: Final = (__package__, "jaxtyping", "beartype")
_CLASSES: Final = {**_FUNCTIONS, "graphnode.optim": "gn.optim"}


def wrong_argument(takes: str, value: object, function: str | None = None) -> str:
    """For a `TypeError`: what a function takes, and what it got: `gn.stack takes a sequence of nodes; found int 3`.

    Args:
        takes: What is accepted: `a node or a pytree of nodes`.
        value: The argument.
        function: The name of the function; by default, that of the public function on
            the stack.
    """
    name = public_caller() if function is None else function
    start = "expected" if name is None else f"{name} takes"
    return f"{start} {takes}; found {describe(value)}"


def public_caller() -> str | None:
    """The public function, class or method that the user called: `gn.clone`, `Optimizer.update`; `None` for others.

    For messages of functions that many public ones share: they begin with what the user
    wrote.
    """
    name: str | None = None
    frame: FrameType | None = sys._getframe(1)
    while (
        frame is not None
        and str(frame.f_globals.get("__name__")).partition(".")[0] in _OWN_PACKAGES
    ):
        # The outermost one wins: a public function may call others, which the user did
        # not.
        name = _public_name(frame) or name
        frame = frame.f_back
    return name


def _public_name(frame: FrameType) -> str | None:
    """For `public_caller`: how users write what runs in a frame, such as `gn.clone`; `None` if it is private."""
    code = frame.f_code
    if code.co_name == "__init__":
        # The class of the object, not that of the code: a subclass may inherit
        # `__init__`.
        cls = type(frame.f_locals.get("self"))
        return _spelling_of(_CLASSES, cls.__name__, lambda member: member is cls)
    if code.co_varnames[:1] == ("self",):
        return _method_name(type(frame.f_locals["self"]), code)
    return _spelling_of(
        _FUNCTIONS,
        code.co_name,
        # By its code: a private function may have the name of a public one.
        lambda member: getattr(inspect.unwrap(member), "__code__", None) is code,
    )


def _method_name(cls: type, code: CodeType) -> str | None:
    """For `_public_name`: how users write a method, `Optimizer.update`; `None` if it or its class is private.

    Args:
        cls: The class of the object that it was called on.
        code: The code that runs.
    """
    if (
        code.co_name.startswith("_")
        or _spelling_of(_CLASSES, cls.__name__, lambda member: member is cls) is None
    ):
        return None
    method = inspect.getattr_static(cls, code.co_name, None)
    return (
        f"{cls.__name__}.{code.co_name}"
        if getattr(method, "__code__", None) is code
        else None
    )


def _spelling_of(
    modules: Mapping[str, str], name: str, is_same: Callable[[Any], bool]
) -> str | None:
    """For messages: how users write a member that one of some modules has, `gn.clone`; `None` if none has it.

    Args:
        modules: How users write each module, by its full name.
        name: The name of the member.
        is_same: Whether a value that a module has under the name is the member itself.
    """
    for module_name, prefix in modules.items():
        # `vars`, as `getattr` would import what is loaded only when it is asked for.
        members = vars(sys.modules[module_name]) if module_name in sys.modules else {}
        if name in members and is_same(members[name]):
            return f"{prefix}.{name}"
    return None


def checked_index(function: str, name: str, value: Any) -> int:
    """An argument such as `axis`, which has to be an integer, as an `int`; the error names the public function.

    Args:
        function: How users write the function.
        name: The name of the argument.
        value: The argument.

    Raises:
        TypeError: It is not an integer.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{function}: {name} is an integer; found {describe(value)}"
        ) from None


def checked_positions(
    name: str, value: Any, function: str | None = None
) -> tuple[int, ...]:
    """An argument such as `argnums`, which has to be a position or several of them, as a tuple.

    Args:
        name: Its name.
        value: The argument.
        function: The name of the function; by default, that of the public function on
            the stack.

    Raises:
        TypeError: It is neither.
    """
    try:
        if isinstance(value, Iterable):
            return tuple(map(operator.index, value))
        return (operator.index(value),)
    except TypeError:
        caller = public_caller() if function is None else function
        text = (
            f"{name} is an integer or a sequence of integers; found {describe(value)}"
        )
        raise TypeError(text if caller is None else f"{caller}: {text}") from None
