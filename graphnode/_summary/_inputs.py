"""The inputs of a summary: arrays, shapes, texts such as `"batch 28 28 1"`, or what the annotations say.

What is an array becomes its shape. What else a method may be given, such as a flag or a
function, stays as it is.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping

from .._compat import SymbolicSize
from .._contract import Contract, ContractSyntaxError, contract_of
from .._declare._node import Node
from .._errors import Fault, SummaryError
from .._graph._flatten import is_graph_object
from ._abstract import shape_of, shaped
from ._annotated import (
    Symbols,
    concrete_dtype,
    contracts_of,
    input_of_contract,
    node_sizes,
    shape_of_contract,
)

_TEXT: Final = re.compile(
    r"\s*(?P<dtype>\w+)\s*\[(?P<axes>[^\[\]]*)\]\s*|(?P<bare>[^\[\]]*)"
)
_SHORT: Final = re.compile(r"(?P<kind>bf|f|i|u|c)(?P<bits>\d+)")
_KINDS: Final = {"bf": "bfloat", "f": "float", "i": "int", "u": "uint", "c": "complex"}
_EXAMPLES: Final = 'write "batch 28 28 1" or "int32[batch,128]"'

# A name in the text of a symbolic size; JAX has functions such as `floordiv` there, too.
_NAME: Final = re.compile(r"\b[^\W\d]\w*\b(?!\()")

# A parameter that takes any number of arguments.
_MANY: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Inputs(NamedTuple):
    """What a method is called with, as shapes.

    Attributes:
        args: By position.
        kwargs: By name.
        symbols: The names of the sizes that are symbolic.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    symbols: tuple[str, ...]


def inputs_of(
    function: Callable[..., object],
    node: Node,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    number: int | None = None,
) -> Inputs:
    """The inputs of a method as shapes.

    Args:
        function: The method, as the class has it.
        node: The node that it is called on.
        args: Its other arguments. The last may be `...`: this one and all further ones
            that it needs, from their annotations.
        kwargs: Those by name, which may be `...` too.
        number: What stands for each symbolic size, if they are not to be symbolic.

    Raises:
        SummaryError: Texts that are not shapes, and inputs that no annotation describes;
            names all.
        TypeError: The method does not take such arguments.
    """
    signature = inspect.signature(function)
    args, kwargs = _with_further(signature, args, kwargs)
    _check_taken(signature, function, node, args, kwargs)
    reader = _Reader(node, contracts_of(function, type(node)), Symbols(number))
    names = _names_of(signature, len(args) + 1)[1:]
    args = tuple([reader.read(*pair) for pair in zip(names, args, strict=True)])
    kwargs = {name: reader.read(name, value) for name, value in kwargs.items()}
    if reader.faults:
        raise SummaryError(reader.faults)
    return Inputs(args, kwargs, _symbols_in((args, kwargs)))


# Any: a pytree of inputs.
def _symbols_in(inputs: Any) -> tuple[str, ...]:
    """The names of the symbolic sizes in inputs, in the order in which they are met."""
    names: dict[str, None] = {}
    for leaf in jax.tree.leaves(inputs, is_leaf=is_graph_object):
        for size in leaf.shape if isinstance(leaf, jax.ShapeDtypeStruct) else ():
            if isinstance(size, SymbolicSize):
                names |= dict.fromkeys(_NAME.findall(str(size)))
    return tuple(names)


def _check_taken(
    signature: inspect.Signature,
    function: Callable[..., object],
    node: Node,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    """Refuse arguments that a method does not take."""
    try:
        signature.bind(node, *args, **kwargs)
    except TypeError as error:
        name = f"{type(node).__name__}.{getattr(function, '__name__', '')}"
        raise TypeError(f"gn.summary: {name}: {error}") from None


def _names_of(signature: inspect.Signature, count: int) -> list[str]:
    """The parameters that so many arguments by position go to; `*args` takes all that are left."""
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [parameter.name] * (count - len(names))
        names.append(parameter.name)
    return names[:count]


def _with_further(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with a `...` for each that a last `...` stands for."""
    if not args or args[-1] is not ...:
        return args, dict(kwargs)
    args, named = args[:-1], dict(kwargs)
    # The first parameter is the node itself.
    for parameter in list(signature.parameters.values())[len(args) + 1 :]:
        is_needed = parameter.default is parameter.empty
        if parameter.kind in _MANY or parameter.name in named or not is_needed:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = ...
        else:
            args = (*args, ...)
    return args, named


class _Reader:
    """Reads the inputs of one call, and collects what is wrong with them.

    Args:
        node: Whose static fields give the sizes of names.
        contracts: What the annotations say, by parameter.
        symbols: Gives the sizes of other names.
    """

    def __init__(
        self, node: Node, contracts: Mapping[str, Contract], symbols: Symbols
    ) -> None:
        self.faults: list[Fault] = []
        self.symbols = symbols
        self._sizes = node_sizes(node)
        self._contracts = contracts

    # Any: an input is any pytree.
    def read(self, name: str, value: Any) -> Any:
        """The input for a parameter, as shapes."""
        try:
            if isinstance(value, EllipsisType):
                return self._from_annotation(name)
            contract = self._contracts.get(name)
            return jax.tree.map(
                lambda leaf: self._leaf(leaf, contract), value, is_leaf=is_graph_object
            )
        except ContractSyntaxError as error:
            self.faults.append(Fault(str(error), path=name))
            return None

    def _from_annotation(self, name: str) -> jax.ShapeDtypeStruct:
        """The input that the annotation of a parameter describes.

        Raises:
            ContractSyntaxError: It describes none.
        """
        if name not in self._contracts:
            text = "no annotation with a jaxtyping array says its shape; give an array, or its shape as a text"
            raise ContractSyntaxError(text)
        return input_of_contract(self._contracts[name], self._sizes, self.symbols)

    def _leaf(self, leaf: Any, contract: Contract | None) -> Any:
        """One leaf of an input: a text or an array as its shape, anything else as it is."""
        if isinstance(leaf, str):
            return self._from_text(leaf, contract)
        is_array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
        return shape_of(leaf) if is_array else leaf

    def _from_text(self, text: str, contract: Contract | None) -> jax.ShapeDtypeStruct:
        """The shape that a text says; without a dtype in it, that of the annotation counts.

        Raises:
            ContractSyntaxError: It says none.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ContractSyntaxError(f"{text!r} is not a shape; {_EXAMPLES}")
        axes = match["bare"] if match["axes"] is None else match["axes"]
        of_text = _contract_of_text(text, axes)
        shape = shape_of_contract(of_text, self._sizes, self.symbols)
        if match["dtype"] is not None:
            return shaped(shape, _dtype_named(match["dtype"]))
        # That of a text is the default float.
        dtype = (of_text if contract is None else contract).dtype()
        return shaped(shape, concrete_dtype(dtype))


def _contract_of_text(text: str, axes: str) -> Contract:
    """The axes of a text, as those of an annotation.

    Raises:
        ContractSyntaxError: They are not axes.
    """
    try:
        axes = " ".join(axes.replace(",", " ").split())
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
