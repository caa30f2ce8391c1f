"""Checks that several layers make: of their fields in construction, and of the arrays they are called with."""

import functools
import sys
from types import FrameType
from typing import Any

import jax
import numpy as np

from .._contract import Bound, Contract, contract_of
from .._declare._node import Node
from .._errors import ContractError, listed
from .._inspect import iter_node
from .._paths import path_str
from .._reads import looked_at
from .._state import State


def is_integer(value: object, least: int) -> bool:
    """Whether `value` is an integer of at least `least`, and not a boolean, which Python counts among integers."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        return False
    return int(value) >= least


def fraction(where: str, value: Any) -> float:
    """For a field such as `Dropout.rate`: `value` as a float, if it is a number in [0, 1].

    Raises:
        ContractError: It is not.
    """
    # A NaN is not in between either.
    if not is_number(value) or not 0 <= value <= 1:
        raise ContractError(f"{where}: expected a number in [0, 1]; found {value!r}")
    return float(value)


def finite(where: str, value: Any) -> float:
    """For a field such as `LIF.v_rest`: `value` as a float, if it is a finite number.

    Raises:
        ContractError: It is not.
    """
    if not is_number(value) or not np.isfinite(value):
        raise ContractError(f"{where}: expected a finite number; found {value!r}")
    return float(value)


def positive(where: str, value: Any) -> float:
    """For a field such as `LayerNorm.epsilon`: `value` as a float, if it is a finite number above 0.

    Raises:
        ContractError: It is not.
    """
    if not is_number(value) or not 0 < value < np.inf:
        raise ContractError(f"{where}: expected a positive number; found {value!r}")
    return float(value)


def size(where: str, value: Any) -> int:
    """For a field such as `Conv.in_size`: `value` as an integer, if it is one and positive.

    Raises:
        ContractError: It is not.
    """
    if not _is_size(value):
        raise ContractError(f"{where}: expected a positive integer; found {value!r}")
    return int(value)


def count(where: str, value: Any) -> int:
    """For a field such as `MLP.depth`: `value` as an integer, if it is one and not negative.

    Raises:
        ContractError: It is not.
    """
    if not is_integer(value, 0):
        raise ContractError(
            f"{where}: expected an integer of at least 0; found {value!r}"
        )
    return int(value)


def sizes(
    where: str, value: Any, rank: int | None = None, *, least: int = 1
) -> tuple[int, ...]:
    """For a field such as `Conv.strides`: `value` as a tuple of sizes, one for each axis, or one for all of them.

    Args:
        where: The class and field, for the error.
        value: An integer or a tuple of them.
        rank: How many axes there are; 1 to 3 by the length of the tuple, if it is left
            out.
        least: The least integer that is admitted, 0 for what may be left out.

    Raises:
        ContractError: It is neither, or of another length.
    """
    ranks = range(1, 4) if rank is None else (rank,)
    # An integer alone is one axis, where nothing says how many there are.
    row = value if isinstance(value, tuple) else (value,) * ranks[0]
    if len(row) not in ranks or not all(is_integer(item, least) for item in row):
        count = "1 to 3" if rank is None else str(rank)
        kind = "a positive integer" if least else "an integer of at least 0"
        raise ContractError(
            f"{where}: expected {kind} or a tuple of {count}; found {value!r}"
        )
    return tuple(map(int, row))


def shape_of(where: str, value: Any) -> tuple[int, ...]:
    """For a field such as `Einsum.shape`: `value` as a tuple of sizes, of any length.

    Raises:
        ContractError: It is not.
    """
    if not isinstance(value, tuple) or not all(map(_is_size, value)):
        raise ContractError(
            f"{where}: expected a tuple of positive integers; found {value!r}"
        )
    return tuple(map(int, value))


# Any: a field may hold whatever a caller passed in spite of its type.
def roles(where: str, value: Any, count: int) -> Any:
    """For a field such as `Linear.axes`: `value`, if it is a tuple of so many names, or `None`.

    Raises:
        ContractError: It is not.
    """
    if value is None:
        return None
    is_row = isinstance(value, tuple) and len(value) == count
    if not is_row or not all(isinstance(name, str) and name for name in value):
        raise ContractError(
            f"{where}: expected a tuple of {count} roles, which are names; found {value!r}"
        )
    return value


def divisor(where: str, value: Any, of: str, whole: int) -> int:
    """For a field such as `Conv.groups`: `value`, if it is positive and divides `whole`, the size called `of`.

    Raises:
        ContractError: It is not, or does not.
    """
    if not _is_size(value) or whole % value:
        raise ContractError(
            f"{where}: expected a positive integer that divides {of}={whole}; found {value!r}"
        )
    return int(value)


# Any: a field may hold whatever a caller passed in spite of its type.
def mask_of(where: str, value: Any, shape: tuple[int, ...]) -> Any:
    """For a field such as `Conv.mask`: `value`, if it is an array of the shape of the weight, or `None`.

    Raises:
        ContractError: It has another shape.
    """
    if value is not None and np.shape(value) != shape:
        raise ContractError(
            f"{where}: expected shape {shape} of the weight; found {np.shape(value)}"
        )
    return value


# Any: a field may hold whatever a caller passed in spite of its type.
def function(where: str, value: Any) -> Any:
    """For a field such as `MLP.act`: `value`, if it can be called.

    Raises:
        ContractError: It cannot. Names are for configurations.
    """
    if not callable(value):
        raise ContractError(
            f"{where}: expected a function, such as jax.nn.relu; found {value!r}"
        )
    return value


# Any: what jaxtyping's annotations are to a type checker is not a class.
def check_inputs(layer: Node, /, **inputs: tuple[jax.Array, Any]) -> None:
    """Raise if an array that a layer is called with is not what the annotation of its parameter says.

    Axes are looked up in the layer's static fields. Those that no field gives must
    agree among the arrays.

    Args:
        layer: Its path from the outermost node that is being called is named.
        **inputs: By the names of the parameters: array and annotation.

    Raises:
        ContractError: Names every array that is of another rank, size or dtype; or the
            layer is stacked.
    """
    check_unstacked(layer)
    # Shared by all arrays of this call: sizes that no field gives, such as of a batch.
    bound: Bound = {}
    faults: list[str] = []
    for name, (value, annotation) in inputs.items():
        fault = _contract(annotation).fault(value, layer.__dict__, bound)
        if fault is not None:
            faults.append(f"{name}: {fault}")
    if faults:
        where = place(layer)
        raise ContractError(listed([f"{where}: {fault}" for fault in faults]))


# Any: as above.
def check_array(where: str, value: object, annotation: Any, **sizes: int) -> None:
    """For a function such as `sample`: raise if an array is not what an annotation says.

    Args:
        where: The function and the parameter, for the error.
        value: The array.
        annotation: An annotation of jaxtyping.
        **sizes: Of its axes, by name.

    Raises:
        ContractError: It is of another rank, size or dtype.
    """
    fault = _contract(annotation).fault(value, sizes, {})
    if fault is not None:
        raise ContractError(f"{where}: {fault}")


def check_unstacked(layer: Node) -> None:
    """Raise if a State of a layer has more axes than its field declares: those of several layers that were stacked.

    Broadcasting would make something of them, of a shape that often fits.

    Raises:
        ContractError: Names the field, and what takes the axis away.
    """
    fields = layer.__dict__
    for field in type(layer)._plan.contracts:
        state, leaves = fields.get(field.name), field.form.leaves
        contract = leaves[0].contract if leaves else None
        if contract is None or not isinstance(state, State):
            continue
        shape: tuple[int, ...] = getattr(looked_at(state), "shape", ())
        rank = contract.rank(fields)
        if rank is not None and len(shape) > rank:
            raise ContractError(
                f"{place(layer)} is stacked: {field.name} has the shape {shape}, and is declared {contract.text}. "
                "Call it under gn.vmap or gn.scan, or take the axis away: gn.unstack, gn.unbroadcast_states"
            )


def place(layer: Node) -> str:
    """Where a layer is, for an error: `Classifier.head (Linear)`, by its path in the outermost node that is called.

    A node does not know its parents. But Python's stack has the functions that led here:
    of those whose first argument is a node, the outermost from which the layer is reached
    gives the path. Without one, the class is all there is to say. All frames and their
    nodes are walked, which is for errors alone.

        train(data)                 no node
          Classifier.__call__       root: Classifier
            Linear.__call__         layer: Classifier.head (Linear)
              check_inputs
    """
    callers: list[Node] = []
    # CPython's own: `inspect.stack` would read the source of every frame.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # Parameters come first among the local variables.
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        first = frame.f_locals.get(names[0]) if names else None
        if isinstance(first, Node):
            callers.append(first)
        frame = frame.f_back
    # From the outermost: its path is the longest, and what the user knows.
    for root in reversed(callers):
        for path, node in iter_node(root):
            if node is layer and path:
                return (
                    f"{type(root).__name__}.{path_str(path)} ({type(layer).__name__})"
                )
    return type(layer).__name__


@functools.cache
def _contract(annotation: Any) -> Contract:
    """The contract that an annotation of jaxtyping stands for, as of fields; made once for each, not at each call."""
    contract = contract_of(annotation)
    assert contract is not None
    return contract


def is_number(value: object) -> bool:
    """Whether a value is a real number of Python or NumPy, and not a boolean."""
    is_real = isinstance(value, int | float | np.integer | np.floating)
    return is_real and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    """Whether a value is a positive integer, and not a boolean."""
    return is_integer(value, 1)
