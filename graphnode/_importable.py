"""Functions that a decorator made objects of, such as `jax.nn.relu`: pickle finds them by name, as it does functions.

Pickle takes an object apart, and comes to the function that was decorated, whose name
leads to the object and not to it. cloudpickle would send a copy, which is another
function, and so another structure.
"""

import copyreg
import sys
from typing import Any

import jax
import jax.numpy


def importable_name(value: object) -> str | None:
    """The name of a value in its module, if that is to be imported wherever a pickle is loaded; else `None`."""
    module: object = getattr(value, "__module__", None)
    name: object = getattr(value, "__qualname__", None) or getattr(
        value, "__name__", None
    )
    if (
        not isinstance(module, str)
        or not isinstance(name, str)
        or goes_by_value(module)
    ):
        return None
    return name if found_by_name(module, name) is value else None


def found_by_name(module: str, qualname: str) -> object:
    """What a module that was imported has under a name, with dots for what is inside of a class; `None` for nothing."""
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def goes_by_value(module: str) -> bool:
    """Whether what a module defines may be missing where a pickle is loaded: cloudpickle then sends it along."""
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
    name = importable_name(value)
    return value.__reduce_ex__(4) if name is None else name


# Of all pickles, not of those of nodes alone: such a function may lie in a partial, a
# tuple or a dataclass.
for _cls in (jax.custom_jvp, jax.custom_vjp, jax.numpy.ufunc, type(jax.jit(_reduce))):
    copyreg.pickle(_cls, _reduce)
