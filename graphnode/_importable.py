"""Pickle decorated functions that are objects, such as `jax.nn.relu`, by name, as functions are.

pickle takes such an object apart, and comes to the decorated function inside. The name
of that leads to the object, not to the function, which pickle refuses. cloudpickle would
send a copy, which is another function, and so another structure.
"""

import copyreg
import sys
from typing import Any

import jax
import jax.numpy


def importable_name(value: object) -> str | None:
    """The name of a value in its module, if that can be imported where a pickle is loaded; else `None`.

    For pickles of transformed and decorated functions, which hold the name where they
    can.
    """
    module: object = getattr(value, "__module__", None)
    name: object = getattr(value, "__qualname__", None)
    if not name:
        name = getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if goes_by_value(module) or object_by_name(module, name) is not value:
        return None
    return name


def object_by_name(module: str, qualname: str) -> object:
    """The object at a qualified name in a module that was imported, or `None`.

    To see whether a name leads back to the object that has it, so that a pickle may
    hold the name.
    """
    value: object = sys.modules.get(module)
    for part in qualname.split("."):
        value = getattr(value, part, None)
    return value


def goes_by_value(module: str) -> bool:
    """Whether a module may not exist where a pickle is loaded, so that cloudpickle sends its functions along."""
    if module == "__main__":
        return True
    cloudpickle: Any = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    return any(
        f"{module}.".startswith(f"{name}.")
        for name in cloudpickle.list_registry_pickle_by_value()
    )


def _reduce(value: Any) -> str | tuple[Any, ...]:
    """For pickle: the name of a decorated function; without one, what pickle would do by itself."""
    name = importable_name(value)
    # A text means to pickle: import it from the object's module.
    return value.__reduce_ex__(4) if name is None else name


# For all pickles, not only those of nodes: such a function may be in a partial, a tuple
# or a dataclass.
for _cls in (jax.custom_jvp, jax.custom_vjp, jax.numpy.ufunc, type(jax.jit(_reduce))):
    copyreg.pickle(_cls, _reduce)
