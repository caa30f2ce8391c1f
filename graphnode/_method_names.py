"""Names for what a class body makes of functions: `slope = gn.grad(loss)`.

It has the name of what it wraps, as with every decorator, and pickle and copy find a
function, and a method that is bound, by its name: they would find the other. So it gets
the name under which it stands, once, and only where the one that it has does not lead
to it.
"""

import contextlib
import weakref
from typing import Any, Final

from ._importable import found_by_name

# By their ids, as a callable object need not be hashable. A class in a function is
# found by no name, so that only this tells that a wrapper already stands where its name
# says.
_AT_HOME: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()


def name_methods(cls: type) -> None:
    """Give each function that wraps another, and stands in the body of a class, the name that it has there."""
    for name, member in vars(cls).copy().items():
        function = (
            member.__func__
            if isinstance(member, (staticmethod, classmethod))
            else member
        )
        if "__wrapped__" not in getattr(function, "__dict__", {}) or _is_at_home(
            function
        ):
            continue
        # What refuses other names or weak references is not made by a transform, and
        # keeps what it has.
        with contextlib.suppress(AttributeError, TypeError):
            function.__name__, function.__qualname__ = (
                name,
                f"{cls.__qualname__}.{name}",
            )
            function.__module__ = cls.__module__
            _AT_HOME[id(function)] = function


def _is_at_home(function: Any) -> bool:
    """Whether the name of a function leads to it, as the one of a decorated function in a module does."""
    if _AT_HOME.get(id(function)) is function:
        return True
    module, qualname = (
        getattr(function, "__module__", None),
        getattr(function, "__qualname__", None),
    )
    return (
        isinstance(module, str)
        and isinstance(qualname, str)
        and found_by_name(module, qualname) is function
    )
