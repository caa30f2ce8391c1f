"""The types of `grad` and its kin, which are called alike: with a function, or with options alone as a decorator.

Each of these protocols is what type checkers take a function for that `in_reverse_mode`
or `in_forward_mode` decorates. At run time it stays the function, so that `help` and
pickle find it.
"""

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import (
    Any,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
    runtime_checkable,
)

from .._filters import Filter
from ._arguments import Function

P = ParamSpec("P")
A = TypeVar("A")


# Any: a derivative has the type of what it is of, a StateTree for a node, which no
# annotation can say.
@runtime_checkable
class InReverseMode(Protocol):
    """The type of `grad` and `jacrev`."""

    @overload
    def __call__(
        self,
        fun: Callable[P, Any],
        argnums: int | Sequence[int] = ...,
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        allow_int: bool = ...,
        *,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[P, Any]: ...
    @overload
    def __call__(
        self,
        fun: Callable[P, tuple[Any, A]],
        argnums: int | Sequence[int] = ...,
        *,
        has_aux: Literal[True],
        holomorphic: bool = ...,
        allow_int: bool = ...,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[P, tuple[Any, A]]: ...
    @overload
    def __call__(
        self,
        *,
        argnums: int | Sequence[int] = ...,
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        allow_int: bool = ...,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
    @overload
    def __call__(
        self,
        *,
        argnums: int | Sequence[int] = ...,
        has_aux: Literal[True],
        holomorphic: bool = ...,
        allow_int: bool = ...,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[[Callable[P, tuple[Any, A]]], Callable[P, tuple[Any, A]]]: ...


@runtime_checkable
class InForwardMode(Protocol):
    """The type of `jacfwd` and `hessian`: as of the others, but integers have no derivative in forward mode."""

    @overload
    def __call__(
        self,
        fun: Callable[P, Any],
        argnums: int | Sequence[int] = ...,
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        *,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[P, Any]: ...
    @overload
    def __call__(
        self,
        fun: Callable[P, tuple[Any, A]],
        argnums: int | Sequence[int] = ...,
        *,
        has_aux: Literal[True],
        holomorphic: bool = ...,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[P, tuple[Any, A]]: ...
    @overload
    def __call__(
        self,
        *,
        argnums: int | Sequence[int] = ...,
        has_aux: Literal[False] = ...,
        holomorphic: bool = ...,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
    @overload
    def __call__(
        self,
        *,
        argnums: int | Sequence[int] = ...,
        has_aux: Literal[True],
        holomorphic: bool = ...,
        wrt: Filter | EllipsisType = ...,
    ) -> Callable[[Callable[P, tuple[Any, A]]], Callable[P, tuple[Any, A]]]: ...


def in_reverse_mode(function: Function) -> InReverseMode:
    """`function` itself: tells type checkers how `grad` and `jacrev` are called, as decorators too."""
    return function


def in_forward_mode(function: Function) -> InForwardMode:
    """`function` itself: tells type checkers how `jacfwd` and `hessian` are called, as decorators too."""
    return function
