"""Names for transformed functions in a class body: `slope = gn.grad(loss)`.

Like every decorated function, `slope` has the name of what it wraps, `loss`. pickle and
copy find functions and bound methods by their names, and would find `loss`. So `slope`
gets its own name, once, and only if the name that it has does not lead to it.
"""

import contextlib
import weakref
from typing import Any, Final

from ._importable import object_by_name

# Functions that have got their name, by id, as a callable object need not be hashable. A
# class in a function cannot be found by name, so only this table tells that its
# wrappers have their names already.
_AT_HOME: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()


def name_methods(cls: type) -> None:
    """Give each function in the body of a class that wraps another one the name that it has there.

    So that pickle and copy find it by that name, and not what it wraps.
    """
    for name, member in vars(cls).copy().items():
        is_wrapped = isinstance(member, (staticmethod, classmethod))
        function = member.__func__ if is_wrapped else member
        if "__wrapped__" not in getattr(function, "__dict__", {}):
            continue
        if _is_at_home(function):
            continue
        # An object that refuses other names or weak references does not come from a
        # transform, and stays as it is.
        with contextlib.suppress(AttributeError, TypeError):
            function.__name__ = name
            function.__qualname__ = f"{cls.__qualname__}.{name}"
            function.__module__ = cls.__module__
            _AT_HOME[id(function)] = function


def _is_at_home(function: Any) -> bool:
    """Whether the name of a function leads to it, as that of a decorated function in a module does.

    Then `name_methods` leaves the name as it is.
    """
    # Asked again by identity: an id may have gone to another object.
    if _AT_HOME.get(id(function)) is function:
        return True
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return False
    return object_by_name(module, qualname) is function
