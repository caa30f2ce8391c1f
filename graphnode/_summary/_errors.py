"""Which errors say that shapes do not fit, and what they say in one line."""

from typing import Final

from .._compat import InconclusiveSizeError
from .._errors import GraphnodeError

# What JAX, contracts and checks of types raise where shapes or dtypes do not fit.
SHAPE_ERRORS: Final = (TypeError, ValueError, InconclusiveSizeError)


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
