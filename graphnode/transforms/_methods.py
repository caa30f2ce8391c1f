"""Transforms of methods and of callable nodes: the node is an argument, and bound to what the transform made."""

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, SupportsIndex

from .._arguments import wrong_argument
from .._importable import importable_name
from .._method_wrappers import original_of
from .._static import GraphObject
from ._arguments import Function
from ._bound import Target, target_of_defaults, target_of_partial
from ._kept import forget_kept


class Transformed:
    """A transformed function that is an object of its own class; a node may be bound as its first argument."""

    _bound: tuple[Any, ...]

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
        # By name where a module has it, as pickle does with functions: a decorated
        # function stands in place of the one it was made of.
        name = importable_name(self)
        return super().__reduce_ex__(protocol) if name is None else name

    def _unbound(self) -> Function:
        """For `target_of`, when it is transformed again: the transformed plain function, without a bound node."""
        raise NotImplementedError  # pragma: no cover  # each transform defines it


def target_of(function: Function) -> Target:
    """The plain function behind what a user transforms, and the nodes (or States) that are its first arguments.

    So what is kept on the function serves all nodes of a class; and the nodes are
    arguments, whose writes are seen.

    Returns:
        The function, and a tuple with what is bound to it: the node of a method, of a
        callable node, or of a transformed one; the nodes in a partial, or pytrees of
        them; and nodes that are defaults of its parameters. The tuple is empty for any
        other function.

    Raises:
        TypeError: It is nothing that can be called.
    """
    # Not what a trace around this one has put in its place: nothing would be kept.
    function = original_of(function)
    target, bound = method_target_of(function)
    if bound:
        # A method may have a node as a default, too.
        inner, inner_bound = target_of(target)
        return inner, (*inner_bound, *bound)
    if isinstance(function, functools.partial):
        return target_of_partial(function, *target_of(function.func))
    return target_of_defaults(function)


def method_target_of(function: Function) -> Target:
    """As `target_of`, of methods and callable nodes alone.

    For `custom_vjp`, whose rules take the arguments that a partial and defaults leave.

    Raises:
        TypeError: It is nothing that can be called.
    """
    # Before the test for a method: a transform of a transformed method must find the
    # node, as if it were given the plain function.
    if isinstance(function, Transformed) and function._bound:
        return function._unbound(), function._bound
    if isinstance(function, GraphObject) and callable(function):
        return type(function).__call__, (function,)
    if isinstance(function, MethodType) and isinstance(function.__self__, GraphObject):
        return function.__func__, (function.__self__,)
    if not callable(function):
        raise TypeError(
            wrong_argument("a function, a method or a callable node", function)
        )
    return function, ()


class TransformedMethod(Transformed, functools.partial[Any]):
    """What a transform made of a method of a node, or of a callable node.

    No method of Python's: pickle, `copy.copy` and joblib take one for the attribute of
    its object that has its name, which is the method before the transform. A partial,
    as its call is not a frame of Python.
    """

    _original: Function
    _transform: Callable[[Function], Any]

    def __new__(
        cls,
        function: Function,
        bound: tuple[Any, ...],
        original: Function,
        transform: Callable[[Function], Any],
    ) -> "TransformedMethod":
        """For `rebind`, whose arguments these are: `function` with the node as its first argument."""
        method = super().__new__(cls, function, *bound)
        functools.update_wrapper(method, function)
        forget_kept(method)
        method.__dict__["__wrapped__"] = original  # whose signature it has
        method._bound, method._original, method._transform = bound, original, transform
        return method

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made of; the transform is done again where it is loaded."""
        return self._transform, (self._original,)

    def __get__(
        self, instance: object, owner: type | None = None, /
    ) -> "TransformedMethod":
        # A partial becomes a method of whatever class has it, from Python 3.14 on
        return self

    def _unbound(self) -> Function:
        """For `target_of`: the transformed plain function, without the node that the partial puts first."""
        return self.func


def rebind(
    function: Function,
    bound: tuple[Any, ...],
    original: Function,
    transform: Callable[[Function], Any],
) -> Function:
    """What a transform made of the plain function, bound to the node that `target_of` found.

    The next transform finds the node again. If the transformed function held it, it
    would be a constant of what the next one traces.

    Args:
        function: What the transform made.
        bound: The node, if any.
        original: What was transformed: the method, or the node itself.
        transform: Makes the same of it again, where it was pickled or copied.
    """
    return (
        TransformedMethod(function, bound, original, transform) if bound else function
    )
