"""What `custom_vjp` and `custom_jvp` share: arguments by position, and rules that write what the function does."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    overload,
)

from .._calls import current_arguments, tracing
from .._errors import TraceError
from ._arguments import name_of, named_arguments, with_statics
from ._boundary import Call
from ._methods import Transformed, method_target_of

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
# Not `Self`, which run-time type checkers do not know in an overload.
C = TypeVar("C", bound="CustomRule[..., Any]")


class CustomRule(Transformed, Generic[P, R]):
    """A function of nodes and arrays whose derivative the caller gives.

    Args:
        fun: A function, a method or a callable node.
        nondiff_argnums: Positions of arguments that are not arrays: hashable.
        nondiff_argnames: Their names.
    """

    __wrapped__: Callable[P, R]
    _transform: ClassVar[str]
    # What a keyword-only argument has no place in, for a message.
    _row: ClassVar[str]

    def __init__(
        self,
        fun: Callable[P, R],
        nondiff_argnums: int | Sequence[int] = (),
        nondiff_argnames: str | Sequence[str] = (),
    ) -> None:
        functools.update_wrapper(self, fun)
        self._target, self._bound = method_target_of(fun)
        names = (
            (nondiff_argnames,)
            if isinstance(nondiff_argnames, str)
            else nondiff_argnames
        )
        self._statics = named_arguments(
            self._target, len(self._bound), nondiff_argnums, frozenset(names)
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, for a transform of JAX with the derivative that the caller gave."""
        raise NotImplementedError  # pragma: no cover  # each kind defines it

    @overload
    def __get__(self: C, instance: None, owner: type, /) -> C: ...
    @overload
    def __get__(
        self: "Callable[Concatenate[S, Q], R]", instance: S, owner: type, /
    ) -> "Callable[Q, R]": ...
    def __get__(self, instance: Any, owner: type, /) -> Any:
        return self if instance is None else MethodType(self, instance)

    def _call_of(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Call, list[int], list[Any]]:
        """The call with these arguments; the positions of those that have a derivative; and the others, in order.

        Raises:
            TypeError: An argument belongs to a keyword-only parameter, or they do not fit.
        """
        arguments = self._by_position((*self._bound, *args), kwargs)
        marked = with_statics(self._target, arguments, {}, *self._statics)
        static_at, _ = self._statics
        positions = [n for n in range(len(arguments)) if n not in static_at]
        static_args = [arg for n, arg in enumerate(arguments) if n in static_at]
        return Call(self._transform, self._target, *marked), positions, static_args

    def _by_position(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """All arguments in the order of the signature, as JAX gives them to a rule.

        Raises:
            TypeError: One belongs to a keyword-only parameter, or they do not fit.
        """
        bound = inspect.signature(self._target).bind(*args, **kwargs)
        # JAX wants an answer for each argument, the ones with defaults too.
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"gn.{self._transform}: {', '.join(bound.kwargs)} of {name_of(self._target)} is keyword-only, and has "
                f"no place among the {self._row}"
            )
        return bound.args


def work_later(call: Call) -> Callable[..., Any]:
    """`Call.work` for a rule, which JAX may trace when the trace that the function is called in is over.

    What is called in the rule has the names that it has in the function, and is told to
    whoever watches calls of nodes.
    """
    around = current_arguments()
    if around is None:
        return call.work

    # Any: as of `Call.work`.
    def work(function: Callable[..., Any], *args: Any) -> Any:
        with tracing(around):
            return call.work(function, *args)

    return work


def check_writes(
    call: Call, by_function: Sequence[int], by_rule: Sequence[int], rule: str
) -> None:
    """Raise if the function and its rule write different States: which of them runs is JAX's to say.

    Args:
        call: The call.
        by_function: What the function writes, by number.
        by_rule: What the rule writes.
        rule: What messages call the rule.

    Raises:
        TraceError: Names all that one of them writes alone.
    """
    alone = [(number, rule) for number in by_rule if number not in by_function]
    alone += [
        (number, "the function") for number in by_function if number not in by_rule
    ]
    if alone:
        places = ", ".join(
            f"{call.state_name(number)} is written by {writer} alone"
            for number, writer in alone
        )
        raise TraceError(
            f"gn.{call.transform}: {places}: the function and {rule} must write the same States"
        )
