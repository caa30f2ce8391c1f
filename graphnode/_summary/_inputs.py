"""The inputs of a summary: arrays, shapes, texts such as `"batch 28 28 1"`, or what the annotations say.

What is an array becomes its shape. What else a method may be given, such as a flag or a
function, stays as it is.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any, Final, NamedTuple

import jax

from .._compat import SymbolicSize
from .._contract import ContractSyntaxError
from .._declare._node import Node
from .._errors import Fault, SummaryError
from .._graph._flatten import is_graph_object
from ._abstract import shape_of, shaped
from ._annotated import (
    Symbols,
    annotations_of,
    concrete_dtype,
    contracts_in,
    input_of_contract,
    node_sizes,
    scope_of,
    shape_of_contract,
)
from ._text_meaning import Meaning, check_is_shape, meaning_of
from ._text_shapes import dtype_and_axes

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


class Fixed(NamedTuple):
    """An argument that a partial has: a text in it is no shape.

    Attributes:
        value: The argument.
    """

    value: Any


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
    reader = _Reader(function, node, Symbols(number, scope_of(node)))
    names = _names_of(signature, len(args) + 1)[1:]
    args = tuple([reader.read(*pair) for pair in zip(names, args, strict=True)])
    kwargs = {
        name: reader.read(name, value, _parameter_of(signature, name))
        for name, value in kwargs.items()
    }
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


def _parameter_of(signature: inspect.Signature, name: str) -> str:
    """The parameter that an argument by name goes to: `**kwargs`, if no other has that name."""
    if name in signature.parameters:
        return name
    return next(
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind is inspect.Parameter.VAR_KEYWORD
    )


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
        function: The method, whose annotations say what its parameters take.
        node: Whose static fields give the sizes of names.
        symbols: Gives the sizes of other names.
    """

    def __init__(
        self, function: Callable[..., object], node: Node, symbols: Symbols
    ) -> None:
        self.faults: list[Fault] = []
        self.symbols = symbols
        self._sizes = node_sizes(node)
        annotations = annotations_of(function, type(node))
        self._contracts = contracts_in(annotations)
        self._meanings = {
            name: meaning_of(annotation) for name, annotation in annotations.items()
        }

    # Any: an input is any pytree.
    def read(self, name: str, value: Any, parameter: str | None = None) -> Any:
        """The input of a name as shapes.

        Args:
            name: What faults call it.
            value: What the method is called with.
            parameter: The parameter that takes it, if that has another name.
        """
        parameter = parameter or name
        try:
            if isinstance(value, EllipsisType):
                return self._from_annotation(parameter)
            if isinstance(value, Fixed):
                return jax.tree.map(_shape, value.value, is_leaf=is_graph_object)
            read = functools.partial(self._leaf, parameter)
            return jax.tree.map(read, value, is_leaf=is_graph_object)
        except ContractSyntaxError as error:
            self.faults.append(Fault(str(error), path=name))
            return None

    def _from_annotation(self, parameter: str) -> jax.ShapeDtypeStruct:
        """The input that the annotation of a parameter describes.

        Raises:
            ContractSyntaxError: It describes none.
        """
        if parameter not in self._contracts:
            text = "no annotation with a jaxtyping array says its shape; give an array, or its shape as a text"
            raise ContractSyntaxError(text)
        contract = self._contracts[parameter]
        return input_of_contract(contract, self._sizes, self.symbols)

    def _leaf(self, parameter: str, leaf: Any) -> Any:
        """One leaf of an input: an array, or a text that is one, as its shape; anything else as it is."""
        if isinstance(leaf, str):
            return self._text(parameter, leaf)
        return _shape(leaf)

    # Any: a shape, or the text.
    def _text(self, parameter: str, text: str) -> Any:
        """A text as the shape that it says, or as it is, by the annotation of its parameter.

        Raises:
            ContractSyntaxError: It is not known which, or it says no shape.
        """
        meaning = self._meanings.get(parameter, Meaning.OPEN)
        if meaning is Meaning.VALUES:
            return text
        if meaning is Meaning.OPEN:
            check_is_shape(text, self._sizes)
        dtype, axes = dtype_and_axes(text, self._sizes)
        shape = shape_of_contract(axes, self._sizes, self.symbols)
        if dtype is not None:
            return shaped(shape, dtype)
        # Without one in the text, that of the annotation, or the default float.
        contract = self._contracts.get(parameter, axes)
        return shaped(shape, concrete_dtype(contract.dtype()))


# Any: a leaf of an input.
def _shape(leaf: Any) -> Any:
    """An array as its shape, anything else as it is."""
    is_array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    return shape_of(leaf) if is_array else leaf
