"""Which errors say that shapes do not fit, and what they say in one line."""

from typing import Final

import jax

from .._compat import InconclusiveSizeError
from .._errors import GraphnodeError

# What JAX, contracts and checks of types raise where shapes or dtypes do not fit.
SHAPE_ERRORS: Final = (TypeError, ValueError, InconclusiveSizeError)

# What JAX raises where code needs the value of an array, as in `if x.sum() > 0`. They are
# TypeErrors, and say nothing of shapes.
VALUE_ERRORS: Final = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def error_text(error: Exception) -> str:
    """What was raised, in one line, with its class where it is not one of graphnode's."""
    lines: list[str] = []
    for line in str(error).splitlines():
        # JAX and jaxtyping explain at length after that.
        if not line.strip() or line.startswith(("---", "This error arises")):
            break
        lines.append(line.strip())
    name = "" if isinstance(error, GraphnodeError) else f"{type(error).__name__}: "
    return f"{name}{' '.join(lines)}".rstrip(": ")
