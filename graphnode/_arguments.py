"""What public functions say of an argument that they do not take: their own name, what would do, what was found.

An error deep inside finds the function that the user called by the frames: naming it to all that lies between would
cost every call, and is of use in an error alone.
"""

import inspect
import operator
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final

from ._describe import describe

# The modules whose functions users call, and how they write them.
_PREFIXES: Final = {
    "graphnode": "gn",
    "graphnode.transforms": "gn",
    "graphnode.optim": "gn.optim",
    "graphnode.config": "gn.config",
    "graphnode.random": "gn.random",
}


def wrong_argument(takes: str, value: object, function: str | None = None) -> str:
    """The text for an argument of a wrong type.

    Args:
        takes: What would do: `a node or a pytree of nodes`.
        value: What was found.
        function: What the function is called; by default, what the frames say that the user called.
    """
    name = public_caller() if function is None else function
    found = f"found {describe(value)}"
    return f"expected {takes}; {found}" if name is None else f"{name} takes {takes}; {found}"


def public_caller() -> str | None:
    """The public function, or class, that the user called: `gn.clone`; `None` where it is a method."""
    name: str | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == __package__:
        name = _public_name(frame) or name
        frame = frame.f_back
    return name


def _public_name(frame: FrameType) -> str | None:
    """How users write the function that runs in a frame, if they can."""
    code = frame.f_code
    if code.co_name.startswith("_") and code.co_name != "__init__":
        return None
    for module_name, prefix in _PREFIXES.items():
        names: dict[str, Any] = vars(sys.modules[module_name]) if module_name in sys.modules else {}
        function = names.get(code.co_name)
        if function is not None and getattr(inspect.unwrap(function), "__code__", None) is code:
            return f"{prefix}.{code.co_name}"
        cls = type(frame.f_locals.get("self"))
        if code.co_name == "__init__" and names.get(cls.__name__) is cls:
            return f"{prefix}.{cls.__name__}"
    return None


def checked_index(function: str, name: str, value: Any) -> int:
    """An argument that is an integer.

    Raises:
        TypeError: It is not.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{function}: {name} is an integer; found {describe(value)}") from None


def checked_positions(name: str, value: Any, function: str | None = None) -> tuple[int, ...]:
    """An argument that is a position or several of them.

    Args:
        name: Its name.
        value: What was found.
        function: What the function is called; by default, what the frames say that the user called.

    Raises:
        TypeError: It is neither.
    """
    try:
        return tuple(map(operator.index, value)) if isinstance(value, Iterable) else (operator.index(value),)
    except TypeError:
        caller = public_caller() if function is None else function
        text = f"{name} is an integer or a sequence of integers; found {describe(value)}"
        raise TypeError(text if caller is None else f"{caller}: {text}") from None
