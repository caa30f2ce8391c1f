"""What a call that failed would have given, as far as that is known.

The method is tried with a first input whose last axis has a size that the node's static
fields name: what a layer gives for an input that fits, it would have given. Where two of
them give different shapes, it is not known. Else the annotation of the result may say it.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp

from .._contract import Axis, Contract, ContractSyntaxError, Size
from .._declare._node import Node
from .._split import states
from ._annotated import concrete_dtype, contracts_of, node_sizes
from ._errors import SHAPE_ERRORS


class _UnknownError(Exception):
    """A size or dtype does not follow from the annotations and the inputs."""


def declared_output(
    node: Node, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """An array of zeros as the annotation of a method's result has it; `None` where that does not say all.

    A call that failed gave nothing; what comes after it may be looked at nevertheless.

    Args:
        node: The node.
        method: The name of the method.
        args: What it was called with, by position.
        kwargs: And by name.
    """
    function = getattr(type(node), method)
    contracts = contracts_of(function, type(node))
    result = contracts.pop("return", None)
    if result is None:
        return None
    try:
        bound = inspect.signature(function).bind(node, *args, **kwargs)
    except TypeError:
        return None
    arguments = bound.arguments
    inputs = [
        (contract, arguments[name])
        for name, contract in contracts.items()
        if isinstance(arguments.get(name), jax.Array)
    ]
    try:
        names = _bound_names(inputs, node_sizes(node))
        shape = [size for axis in result.axes for size in _sizes_at(axis, names)]
        dtype = _dtype_of(result, node, [array for _, array in inputs])
    except (_UnknownError, ContractSyntaxError):
        return None
    return jnp.zeros(shape, dtype)


def _bound_names(
    inputs: list[tuple[Contract, Any]], sizes: Mapping[str, Any]
) -> dict[str, Any]:
    """What names of axes, and `...`, stand for in one call.

    What static fields do not say, the arrays do. A name is left out where two of them
    differ; an array of another rank says nothing.
    """
    bound: dict[str, Any] = {}
    for contract, array in inputs:
        for axis, actual in _aligned(contract, array.shape):
            name = _name_of(axis)
            if name is not None:
                value = actual if axis.variadic else actual[0]
                bound[name] = value if bound.get(name, value) == value else _DIFFERENT
    agreed = {name: value for name, value in bound.items() if value is not _DIFFERENT}
    return {**agreed, **sizes}


_DIFFERENT: Final = object()


def _name_of(axis: Axis) -> str | None:
    """The name that an array gives a size to; `None` for arithmetic and `_`, which are not solved for."""
    if axis.expression is None:
        return axis.text if axis.variadic else None
    return axis.expression if axis.expression in axis.names else None


def _sizes_at(axis: Axis, bound: Mapping[str, Any]) -> tuple[Size, ...]:
    """The sizes of an axis of a result.

    Raises:
        _UnknownError: They do not follow.
    """
    size = axis.size(bound) if axis.expression else bound.get(axis.text)
    if size is None:
        raise _UnknownError
    return size if isinstance(size, tuple) else (size,)


def _aligned(
    contract: Contract, shape: tuple[Size, ...]
) -> Iterator[tuple[Axis, tuple[Size, ...]]]:
    """Each axis of a contract with the sizes that an array has there; none if it has another rank."""
    extra = len(shape) - sum(not axis.variadic for axis in contract.axes)
    has_run = any(axis.variadic for axis in contract.axes)
    if extra < 0 or (extra > 0 and not has_run):
        return
    at = 0
    for axis in contract.axes:
        width = extra if axis.variadic else 1
        yield axis, shape[at : at + width]
        at += width


def _dtype_of(contract: Contract, node: Node, arrays: list[Any]) -> Any:
    """The dtype of a result: the declared one; else that of all inputs and States which it could be of.

    Raises:
        _UnknownError: There are several, or none.
    """
    if contract.dtypes is not None and len(contract.dtypes) == 1:
        return concrete_dtype(contract.dtype())
    values = [state._value for state in states(node).values()]
    leaves = [*arrays, *jax.tree.leaves(values)]
    dtypes = {leaf.dtype for leaf in leaves if hasattr(leaf, "dtype")}
    fitting = {dtype for dtype in dtypes if contract.dtype_fault(dtype) is None}
    if len(fitting) != 1:
        raise _UnknownError
    return fitting.pop()


# By trial


def output_by_trial(
    node: Node,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """What a method gives for a first input of another last size; `None` if it takes none, or what it gives differs.

    Args:
        node: The node.
        call: Its method, bound to it.
        args: What it was called with, by position.
        kwargs: And by name.
    """
    if not args or not isinstance(args[0], jax.Array) or args[0].ndim == 0:
        return None
    first, *rest = args
    outputs: list[Any] = []
    for size in _own_sizes(node):
        fitting = jnp.zeros((*first.shape[:-1], size), first.dtype)
        try:
            outputs.append(call(fitting, *rest, **kwargs))
        except SHAPE_ERRORS:
            continue
    types = {str(jax.tree.map(jax.typeof, output)) for output in outputs}
    return outputs[0] if len(types) == 1 else None


def _own_sizes(node: Node) -> list[int]:
    """The sizes that the static fields of a node name: integers, and items of tuples."""
    found: dict[int, None] = {}
    for value in node_sizes(node).values():
        for item in value if isinstance(value, tuple) else (value,):
            is_size = isinstance(item, int) and not isinstance(item, bool)
            if is_size and item > 0:
                found[item] = None
    return list(found)
