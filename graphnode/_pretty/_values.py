"""The text of a value that has no parts to open, on one line: an array by dtype and shape, else its `repr`."""

import functools
import math
import re
from typing import Any, Final

import jax
import numpy as np

from .._compat import Tracer

# More than fits into a line, as a line may be of any width; and little enough to make in a moment.
MAX_TEXT: Final = 1_000
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_LINE_BREAK: Final = re.compile(r"\s*\n\s*")
# A static array of more numbers is shown by its shape.
_MAX_NUMBERS: Final = 8


def value_text(value: object) -> str:
    """The text of a value on one line. It never raises, as an object is printed most when something is wrong."""
    try:
        text = _text(value)
    except Exception as error:  # whatever a `__repr__` raises
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    text = _LINE_BREAK.sub(" ", text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def _text(value: object) -> str:
    """For `value_text`, which takes care of lines and errors."""
    if is_array(value):
        is_small = isinstance(value, np.ndarray) and value.size <= _MAX_NUMBERS
        return repr(value) if is_small else array_text(value)
    text = repr(value)
    # It says nothing, and differs in every process.
    if not _ADDRESS.search(text):
        return text
    name = getattr(value, "__qualname__", None)
    # Of functions also what JAX makes of them, such as `jax.nn.relu`.
    return f"<function {name}>" if name else _ADDRESS.sub("", text)


def is_array(value: object) -> bool:
    """Whether a value has a shape and a dtype: an array of JAX or NumPy, a tracer, or an abstract one."""
    return (
        hasattr(value, "shape")
        and hasattr(value, "dtype")
        and not isinstance(value, type | np.generic)
    )


# Any: arrays of JAX and NumPy, tracers and abstract values have no common class.
def array_text(array: Any) -> str:
    """Dtype and shape of an array, in JAX's short names: `f32[2,3]`; and what else one has to know of it."""
    shape = ",".join(map(str, array.shape))
    text = f"{_dtype_text(array.dtype)}[{shape}]"
    if getattr(array, "weak_type", False):
        text = f"weak {text}"
    return f"{text} deleted" if is_deleted(array) else text


def is_deleted(array: object) -> bool:
    """Whether the memory of an array is gone, as it was donated."""
    return (
        isinstance(array, jax.Array)
        and not isinstance(array, Tracer)
        and array.is_deleted()
    )


# Any: the value of a State is any pytree.
def arrays_of(value: Any) -> list[Any]:
    """The arrays that a State holds, with a number as the array that JAX makes of it.

    For all that says how large a part of a model is: so a State that holds a number has the
    size that it has after a step, and that its shapes have.
    """
    # Most values are plain arrays, and a model has many.
    leaves = [value] if is_array(value) else jax.tree.leaves(value)
    return [_as_array(leaf) for leaf in leaves if _is_numeric(leaf)]


def _is_numeric(leaf: object) -> bool:
    """Whether a leaf is an array or number, and not a text."""
    return is_array(leaf) or isinstance(leaf, np.generic | complex | float | int)


# Any: an array or number, as above.
def _as_array(leaf: Any) -> Any:
    """An array as it is; the shape and dtype of the one that JAX makes of a number."""
    if hasattr(leaf, "dtype"):
        return leaf
    # By the class, as a number may be too large.
    cls = next(cls for cls in (bool, int, float, complex) if isinstance(leaf, cls))
    dtype = jax.dtypes.canonicalize_dtype(np.dtype(cls))
    return jax.ShapeDtypeStruct((), dtype)  # type: ignore[no-untyped-call]  # JAX's own


# Any: an array, as above.
def bytes_of(array: Any) -> int | None:
    """The bytes that an array takes, or would take; `None` where a dimension has no size yet."""
    shape: tuple[object, ...] = array.shape
    if not all(isinstance(axis, int) for axis in shape):
        return None  # a dimension of `jax.export.symbolic_shape`
    size: int = math.prod(array.shape) * array.dtype.itemsize
    return size


@functools.cache
def _dtype_text(dtype: Any) -> str:
    """A dtype in JAX's short names: `f32`, `bf16`, `key<fry>`."""
    if not isinstance(dtype, np.dtype):
        return str(dtype)  # of keys
    text = "float0" if dtype == jax.dtypes.float0 else dtype.name
    if text == "float0":
        return text
    names = [("float", "f"), ("uint", "u"), ("int", "i"), ("complex", "c")]
    for long, short in names:
        text = text.replace(long, short)
    return text
