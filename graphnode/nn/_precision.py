"""How exactly products are computed: `precision` and `preferred_element_type` of layers.

As of JAX, which both are passed on to. JAX has several ways to write one precision; a layer
keeps one of them, its name, so that its structure does not depend on how it was written and
files can hold it.
"""

from typing import Any, TypeAlias

import jax

from .._errors import ContractError

Precision: TypeAlias = (
    str
    | jax.lax.Precision
    | tuple[str, str]
    | tuple[jax.lax.Precision, jax.lax.Precision]
)
"""`"highest"` and the like, for both operands or for each; or the name of an algorithm."""


# Any: a field may hold whatever a caller passed in spite of its type.
def precision_of(where: str, value: Any) -> str | tuple[str, str] | None:
    """For a field such as `Linear.precision`: the name of a precision, a pair of names, or `None`.

    Raises:
        ContractError: JAX knows no such precision.
    """
    if value is None:
        return None
    if isinstance(value, tuple):
        # An algorithm is of both operands.
        names = [_precision_name(item) for item in value]
        if len(names) == 2 and names[0] is not None and names[1] is not None:
            return names[0], names[1]
    else:
        name = _precision_name(value) or _algorithm_name(value)
        if name is not None:
            return name
    expected = (
        "'default', 'high', 'highest', a pair of them, or the name of an algorithm of "
        "jax.lax.DotAlgorithmPreset, such as 'BF16_BF16_F32'"
    )
    raise ContractError(f"{where}: expected {expected}; found {value!r}")


def _precision_name(value: object) -> str | None:
    """The name of a `jax.lax.Precision`, which may be written by an alias such as `"float32"`."""
    # An integer would be one, too.
    if not isinstance(value, (str, jax.lax.Precision)):
        return None
    try:
        return jax.lax.Precision(value).name.lower()
    except ValueError:
        return None


def _algorithm_name(value: object) -> str | None:
    """The name of a `jax.lax.DotAlgorithmPreset`."""
    if isinstance(value, jax.lax.DotAlgorithmPreset):
        return value.name
    is_name = isinstance(value, str) and value in jax.lax.DotAlgorithmPreset.__members__
    return str(value) if is_name else None
