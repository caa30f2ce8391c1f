"""What the jaxtyping annotations of a method say of arrays, and the inputs that follow from it.

Names of axes are looked up in the static fields of the node, as in contracts of States;
names without a field are free.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import jax

from .._compat import InconclusiveSizeError, SymbolicSize
from .._contract import (
    Axis,
    Contract,
    ContractSyntaxError,
    Size,
    axis_sizes,
    contract_of,
)
from .._declare._makers import sizes_of
from .._declare._node import Node
from .._declare._type_arguments import resolve
from .._split import states
from ._abstract import shaped

# What stands for `...`, a run of axes without a name.
_RUN: Final = "batch"


class Symbols:
    """Symbolic sizes by name: JAX computes with them, and what it says holds for every size.

    Args:
        number: What stands for each of them instead, to see whether a fault is that of
            the symbol.
        scope: Of the symbolic sizes that the model has itself, so that they can be
            computed with, and one of the same name is the same.
    """

    def __init__(
        self,
        number: int | None = None,
        scope: jax.export.SymbolicScope | None = None,
    ) -> None:
        self._number = number
        self._scope = jax.export.SymbolicScope() if scope is None else scope
        self._sizes: dict[str, Size] = {}

    def size(self, name: str) -> Size:
        """The size of a name, the same whenever it is asked for.

        Raises:
            ContractSyntaxError: JAX has another use for the name.
        """
        if name not in self._sizes:
            try:
                (size,) = jax.export.symbolic_shape(name, scope=self._scope)
            except ValueError:
                raise ContractSyntaxError(
                    f"{name!r} cannot name a symbolic size, as it is an operation on sizes in JAX; "
                    "choose another name, or give a number"
                ) from None
            self._sizes[name] = size if self._number is None else self._number
        return self._sizes[name]

    def unnamed(self) -> Size:
        """A size of its own."""
        return self.size(f"any{len(self._sizes)}")


def contracts_of(
    function: Callable[..., object], owner: type[Any]
) -> dict[str, Contract]:
    """The contracts of a method's parameters and result (`return`), of those annotated with a jaxtyping array.

    Args:
        function: The method.
        owner: The class of the node.
    """
    return contracts_in(annotations_of(function, owner))


def contracts_in(annotations: Mapping[str, object]) -> dict[str, Contract]:
    """The contracts among annotations, by name: of those that are a jaxtyping array."""
    contracts: dict[str, Contract] = {}
    for name, annotation in annotations.items():
        try:
            contract = contract_of(annotation)
        except ContractSyntaxError:
            continue
        if contract is not None:
            contracts[name] = contract
    return contracts


def annotations_of(
    function: Callable[..., object], owner: type[Any]
) -> dict[str, object]:
    """The annotations of a method, without those that do not resolve: these say nothing.

    Args:
        function: The method.
        owner: The class of the node.
    """
    inner = inspect.unwrap(function)
    # A method that is inherited means the names of its own module.
    names: dict[str, Any] = getattr(inner, "__globals__", {})
    annotations: dict[str, object] = {}
    for name, annotation in inspect.get_annotations(inner).items():
        try:
            annotations[name] = resolve(annotation, owner, names)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue
    return annotations


def scope_of(node: Node) -> jax.export.SymbolicScope | None:
    """The scope of the symbolic sizes in the States of a node; `None` if there are none."""
    values = [state._value for state in states(node).values()]
    for leaf in jax.tree.leaves(values):
        for size in getattr(leaf, "shape", ()):
            if isinstance(size, SymbolicSize):
                scope: jax.export.SymbolicScope = size.scope
                return scope
    return None


def node_sizes(node: Node) -> dict[str, Any]:
    """The sizes that a node's static fields give to the names of axes."""
    sizes = sizes_of(node)
    return {name: size for name, size in sizes.items() if size is not None}


def shape_of_contract(
    contract: Contract, sizes: Mapping[str, Any], symbols: Symbols
) -> tuple[Size, ...]:
    """A shape that fits a contract; what the contract leaves open is symbolic, and a run of axes is one.

    Args:
        contract: The contract.
        sizes: Of the names that are known.
        symbols: Gives the sizes of all others.

    Raises:
        ContractSyntaxError: A static field holds what is not a size, or there is no such
            symbolic size.
    """
    shape: list[Size] = []
    for axis in contract.axes:
        if axis.expression is None:
            shape.append(symbols.size(_RUN) if axis.variadic else symbols.unnamed())
        elif axis.names <= sizes.keys():
            shape += _known_sizes(axis, sizes)
        else:
            shape += _symbolic_sizes(axis, sizes, symbols)
    return tuple(shape)


def _known_sizes(axis: Axis, sizes: Mapping[str, Any]) -> tuple[Size, ...]:
    """The sizes of an axis all of whose names are known.

    Raises:
        ContractSyntaxError: They are not sizes.
    """
    run = axis_sizes(axis, axis.size(sizes))
    if min(run, default=0) < 0:
        raise ContractSyntaxError(f"axis {axis.text!r} is negative: {min(run)}")
    return run


def _symbolic_sizes(
    axis: Axis, sizes: Mapping[str, Any], symbols: Symbols
) -> tuple[Size, ...]:
    """The sizes of an axis some of whose names are symbolic.

    Raises:
        ContractSyntaxError: JAX has no such symbolic size, or it may be negative.
    """
    names = sorted(axis.names - sizes.keys())
    symbolic = {name: symbols.size(name) for name in names}
    fault = f"axis {axis.text!r} cannot be worked out where {', '.join(names)} can be any size: give a number"
    try:
        run = axis_sizes(axis, axis.size({**sizes, **symbolic}))
        # JAX would compute with sizes that may be negative, and say that it holds for all.
        is_negative = any(size < 0 for size in run)
    except (NotImplementedError, InconclusiveSizeError):
        raise ContractSyntaxError(fault) from None
    if is_negative:
        raise ContractSyntaxError(fault)
    return run


def input_of_contract(
    contract: Contract, sizes: Mapping[str, Any], symbols: Symbols
) -> jax.ShapeDtypeStruct:
    """An input that fits the annotation of its parameter: see `shape_of_contract`."""
    shape = shape_of_contract(contract, sizes, symbols)
    return shaped(shape, concrete_dtype(contract.dtype()))


def concrete_dtype(dtype: Any) -> Any:
    """A dtype that arrays can have: keys of random numbers get JAX's own implementation."""
    if dtype == jax.dtypes.prng_key:
        return jax.eval_shape(jax.random.key, 0).dtype
    return dtype
