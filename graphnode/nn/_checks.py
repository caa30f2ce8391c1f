"""Checks that several layers make of their arguments."""

from typing import Any

import numpy as np

from .._errors import ContractError


def fraction(where: str, value: Any) -> float:
    """`value` as a float, if it is a number in [0, 1].

    Raises:
        ContractError: It is not.
    """
    # A NaN is not in between either.
    if not _is_number(value) or not 0 <= value <= 1:
        raise ContractError(f"{where}: expected a number in [0, 1]; found {value!r}")
    return float(value)


def positive(where: str, value: Any) -> float:
    """`value` as a float, if it is a finite number above 0.

    Raises:
        ContractError: It is not.
    """
    if not _is_number(value) or not 0 < value < np.inf:
        raise ContractError(f"{where}: expected a positive number; found {value!r}")
    return float(value)


def size(where: str, value: Any) -> int:
    """`value` as an integer, if it is one and positive.

    Raises:
        ContractError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ContractError(f"{where}: expected a positive integer; found {value!r}")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
