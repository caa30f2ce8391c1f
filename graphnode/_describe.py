"""The text for a value that was found where another was expected."""

from typing import Any, Final

import jax
import numpy as np

from ._compat import Tracer
from ._hints import cut, with_article
from ._public import with_public_names
from ._static import GraphObject

WEAK: Final = ", weak_type=True"


def describe(value: object) -> str:
    """A value for a message, after "found": dtype and shape of an array, class and text of anything else."""
    if value is None:
        return "None"
    # Ahead of `jax.Array`, which tracers are instances of too.
    if isinstance(value, Tracer):
        return f"a tracer {shape_text(value)}"
    if isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return f"an array {shape_text(value)}"
    if isinstance(value, GraphObject):
        return with_article(type(value).__name__)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    # On one line, as a message may be one item of a list.
    text = " ".join(with_public_names(repr(value)).split())
    return f"{type(value).__name__} {cut(text)}"


def shape_text(array: Any) -> str:
    """For messages: dtype and shape of an array, as JAX writes them: `float32[2,3]`."""
    weak = WEAK if getattr(array, "weak_type", False) else ""
    return f"{array.dtype}[{','.join(map(str, array.shape))}]{weak}"
