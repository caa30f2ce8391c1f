"""Shapes as texts, such as `"batch 28 28 1"` or `"int32[batch,128]"`."""

import re
from collections.abc import Container
from typing import Any, Final

import jax
import jax.numpy as jnp
import jaxtyping

from .._contract import Contract, ContractSyntaxError, contract_of
from ._annotated import concrete_dtype

_TEXT: Final = re.compile(
    r"\s*(?P<dtype>\w+)\s*\[(?P<axes>[^\[\]]*)\]\s*|(?P<bare>[^\[\]]*)"
)
_SHORT: Final = re.compile(r"(?P<kind>bf|f|i|u|c)(?P<bits>\d+)")
_KINDS: Final = {"bf": "bfloat", "f": "float", "i": "int", "u": "uint", "c": "complex"}
_EXAMPLES: Final = 'write "batch 28 28 1" or "int32[batch,128]"'


# Not all that jaxtyping reads: `b>=2` would be 2, as a size with a label.
_AXIS: Final = re.compile(r"\.\.\.|_|\*?(?:\d++|[^\W\d_]\w*+|//|[-+*()])+")
_BOOLEANS: Final = re.compile(r"\b(?:True|False)\b")


# Any: a dtype of any kind.
def dtype_and_axes(text: str, names: Container[str]) -> tuple[Any, Contract]:
    """The dtype that a text names, `None` if it names none, and its axes as those of an annotation.

    Args:
        text: The text.
        names: The names of sizes that are known.

    Raises:
        ContractSyntaxError: It is not a shape.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ContractSyntaxError(f"{text!r} is not a shape; {_EXAMPLES}")
    axes = match["bare"] if match["axes"] is None else match["axes"]
    dtype = None if match["dtype"] is None else _dtype_named(match["dtype"])
    words = axes.replace(",", " ").split()
    for word in words:
        _check_axis(text, word, names)
    return dtype, _contract_of_text(text, " ".join(words))


def _check_axis(text: str, axis: str, names: Container[str]) -> None:
    """Refuse what is no axis of a text, though it may be one of an annotation.

    Raises:
        ContractSyntaxError: It is none.
    """
    if _AXIS.fullmatch(axis) is None or _BOOLEANS.search(axis):
        raise ContractSyntaxError(
            f"{text!r} is not a shape: {axis!r} is neither a number, a name, nor + - * // ** of these; {_EXAMPLES}"
        )
    if axis.startswith("*") and axis[1:] not in names:
        raise ContractSyntaxError(
            f"{text!r} is not a shape: the node has no field {axis[1:]!r} with the sizes of {axis!r}; {_EXAMPLES}"
        )


def _contract_of_text(text: str, axes: str) -> Contract:
    """The axes of a text, as those of an annotation.

    Raises:
        ContractSyntaxError: They are not axes.
    """
    try:
        contract = contract_of(jaxtyping.Shaped[jax.Array, axes])
    except (ValueError, SyntaxError):
        contract = None
    if contract is None:
        raise ContractSyntaxError(f"{text!r} is not a shape; {_EXAMPLES}")
    return contract


def _dtype_named(name: str) -> Any:
    """The dtype of a name, `float32` or `f32`; `key` is one of random numbers.

    Raises:
        ContractSyntaxError: There is none.
    """
    if name == "key":
        return concrete_dtype(jax.dtypes.prng_key)
    short = _SHORT.fullmatch(name)
    full = name if short is None else _KINDS[short["kind"]] + short["bits"]
    try:
        return jnp.dtype(full)
    except TypeError:
        raise ContractSyntaxError(f"{name!r} is not a dtype; {_EXAMPLES}") from None
