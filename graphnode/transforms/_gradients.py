"""`grad` and `value_and_grad`: derivatives of scalar functions, with respect to what `_wrt` says."""

import functools
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, ParamSpec, TypeVar, overload

import jax

from .._filters import Filter
from .._state import ParamState
from .._tracebacks import hides_frames
from ._arguments import Function, Values
from ._boundary import Call
from ._grad_types import in_reverse_mode
from ._methods import rebind, target_of
from ._pure import Outcome
from ._wrt import DiffTarget, GradOptions, divided, one_or_all

P = ParamSpec("P")
R = TypeVar("R")


def _value_and_grad(
    transform: str, function: Function, options: GradOptions
) -> Function:
    target, bound = target_of(function)

    @hides_frames
    @functools.wraps(target)
    def value_and_grad_of(*args: Any, **kwargs: Any) -> Any:
        call = Call(transform, target, args, kwargs)
        pure = call.pure()
        diff_target = DiffTarget(call, options.argnums, options.wrt, len(bound))
        if not options.allow_int:
            diff_target.check_floating()

        def loss_of(values: Values, other_leaves: Values) -> tuple[Any, Outcome]:
            return divided(
                transform,
                pure(*diff_target.join(values, other_leaves)),
                options.has_aux,
            )

        differentiate = jax.value_and_grad(
            loss_of,
            (0, 1),
            has_aux=True,
            holomorphic=options.holomorphic,
            allow_int=options.allow_int,
        )
        (loss, outcome), derivatives = call.run(
            differentiate, diff_target.values, diff_target.other_leaves
        )
        aux = call.finish(outcome)
        gradients = one_or_all(options.argnums, diff_target.assemble(*derivatives))
        return ((loss, aux) if options.has_aux else loss), gradients

    again = functools.partial(_value_and_grad, transform, options=options)
    return rebind(value_and_grad_of, bound, function, again)


def _grad(function: Function, options: GradOptions) -> Function:
    differentiated, bound = target_of(_value_and_grad("grad", function, options))

    @hides_frames
    @functools.wraps(differentiated)
    def grad_of(*args: Any, **kwargs: Any) -> Any:
        value, gradients = differentiated(*args, **kwargs)
        return (gradients, value[1]) if options.has_aux else gradients

    return rebind(grad_of, bound, function, functools.partial(_grad, options=options))


# Any: what is given back is called as the function is, which the decorator says.
@in_reverse_mode
def grad(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    wrt: Filter | EllipsisType = ParamState,
) -> Any:
    """The gradient of a scalar function of nodes and arrays, as `jax.grad` gives that of one of arrays.

    States that the function writes (statistics, counters) are written back to the
    caller's nodes.

    Args:
        fun: A function, a method or a callable node; left out in
            `@gn.grad(has_aux=True)`.
        argnums: The position, or positions, of what to differentiate: nodes, or pytrees
            of nodes, of arrays or both.
        has_aux: Whether `fun` gives a pair, of which only the first is differentiated.
        holomorphic: As in `jax.grad`.
        allow_int: As in `jax.grad`.
        wrt: The States of the nodes to differentiate with respect to: any filter.

    Returns:
        A function with the signature of `fun` that gives the gradient: a `StateTree` of
        the layout of `treefy_states(argument, wrt)` for a node; a tuple of gradients
        for several `argnums`; with `has_aux` a pair of these and the auxiliary result.

    Raises:
        FilterError: At a call: `wrt` selects no State, and there is no array.
        TypeError: At a call: a State that `wrt` selects holds no floating-point
            numbers, or the result is not a pair.
        StructureError: At a call: the function changes the structure of a node.
        TraceError: At a call: the function writes a State that it did not get as an
            argument.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gradient = gn.grad(lambda model, x: model(x).sum())(model, jnp.ones((4, 2)))
        >>> gradient["bias",].value
        Array([4., 4., 4.], dtype=float32)

    See also: `value_and_grad`, which gives the value too.
    """
    options = GradOptions(argnums, has_aux, holomorphic, allow_int, wrt)
    return (
        functools.partial(_grad, options=options)
        if fun is None
        else _grad(fun, options)
    )


@overload
def value_and_grad(
    fun: Callable[P, R],
    argnums: int | Sequence[int] = ...,
    has_aux: bool = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
    *,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, tuple[R, Any]]: ...
@overload
def value_and_grad(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: bool = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, R]], Callable[P, tuple[R, Any]]]: ...
# Any: as for `grad`.
def value_and_grad(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    wrt: Filter | EllipsisType = ParamState,
) -> Any:
    """The value of a scalar function of nodes and arrays, and its gradient.

    Arguments and errors are those of `grad`.

    Returns:
        A function with the signature of `fun` that gives a pair: what `fun` gives, and
        the gradient.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> loss, gradient = gn.value_and_grad(lambda model, x: model(x).sum())(model, jnp.zeros((4, 2)))
        >>> loss, gradient["bias",].value
        (Array(0., dtype=float32), Array([4., 4., 4.], dtype=float32))
    """
    options = GradOptions(argnums, has_aux, holomorphic, allow_int, wrt)
    if fun is None:
        return functools.partial(_value_and_grad, "value_and_grad", options=options)
    return _value_and_grad("value_and_grad", fun, options)
