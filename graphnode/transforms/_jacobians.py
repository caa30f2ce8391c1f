"""`jacrev`, `jacfwd` and `hessian`: derivatives of functions whose results are arrays of any shape."""

import functools
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp

from .._filters import Filter
from .._state import ParamState
from .._tracebacks import hides_frames
from ._arguments import Function, Values
from ._boundary import Call
from ._grad_types import in_forward_mode, in_reverse_mode
from ._members import with_leading_axes
from ._methods import rebind, target_of
from ._pure import Outcome
from ._wrt import DiffTarget, GradOptions, divided, one_or_all


def _jacobian(
    transform: str, function: Function, options: GradOptions, mode: str = ""
) -> Function:
    """The transform of that name; `mode` is the one of JAX that it is, where that has another name."""
    mode = mode or transform
    target, bound = target_of(function)
    keywords: dict[str, Any] = {"has_aux": True, "holomorphic": options.holomorphic}
    if mode == "jacrev":
        keywords["allow_int"] = options.allow_int
    differentiate = getattr(jax, mode)

    @hides_frames
    @functools.wraps(target)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = Call(transform, target, args, kwargs)
        pure = call.pure()
        diff_target = DiffTarget(call, options.argnums, options.wrt, len(bound))
        if not options.allow_int:
            diff_target.check_floating()
        treedef: Any = None
        ranks: list[int] = []

        def leaves_of(
            values: Values, other_leaves: Values
        ) -> tuple[list[Any], Outcome]:
            nonlocal treedef
            result, outcome = divided(
                transform,
                pure(*diff_target.join(values, other_leaves)),
                options.has_aux,
            )
            leaves, treedef = jax.tree.flatten(result)
            ranks[:] = map(jnp.ndim, leaves)
            return leaves, outcome

        rows, outcome = call.run(
            differentiate(leaves_of, (0, 1), **keywords),
            diff_target.values,
            diff_target.other_leaves,
        )
        aux = call.finish(outcome)
        # Each array is the derivative of one array of the result, whose axes come
        # first.
        leaves: list[Any] = []
        for row, rank in zip(rows, ranks, strict=True):
            derivatives = one_or_all(options.argnums, diff_target.assemble(*row))
            leaves.append(with_leading_axes(derivatives, rank))
        jacobian = jax.tree.unflatten(treedef, leaves)
        return (jacobian, aux) if options.has_aux else jacobian

    again = functools.partial(_jacobian, transform, options=options, mode=mode)
    return rebind(jacobian_of, bound, function, again)


def _hessian(function: Function, options: GradOptions) -> Function:
    of_rows = _jacobian("hessian", function, options, "jacrev")
    return _jacobian("hessian", of_rows, options, "jacfwd")


# Any: what is given back is called as the function is, which the decorator says.
@in_reverse_mode
def jacrev(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    wrt: Filter | EllipsisType = ParamState,
) -> Any:
    """The Jacobian of a function of nodes and arrays, row by row in reverse mode, as `jax.jacrev`.

    Arguments and errors are those of `grad`.

    Returns:
        A function that gives the result of `fun` with a derivative in place of each
        array: for a node a `StateTree` of arrays of shape `[*result.shape,
        *state.shape]`.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> jacobian = gn.jacrev(lambda model, x: model(x))(model, jnp.ones(2))
        >>> jacobian["weight",].value.shape
        (3, 2, 3)
    """
    options = GradOptions(argnums, has_aux, holomorphic, allow_int, wrt)
    return (
        functools.partial(_jacobian, "jacrev", options=options)
        if fun is None
        else _jacobian("jacrev", fun, options)
    )


# Any: what is given back is called as the function is, which the decorator says.
@in_forward_mode
def jacfwd(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    wrt: Filter | EllipsisType = ParamState,
) -> Any:
    """The Jacobian of a function of nodes and arrays, column by column in forward mode, as `jax.jacfwd`.

    Arguments, errors and the result are those of `jacrev`.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gn.jacfwd(lambda model, x: model(x))(model, jnp.ones(2))["bias",].value.shape
        (3, 3)
    """
    options = GradOptions(argnums, has_aux, holomorphic, False, wrt)
    return (
        functools.partial(_jacobian, "jacfwd", options=options)
        if fun is None
        else _jacobian("jacfwd", fun, options)
    )


# Any: what is given back is called as the function is, which the decorator says.
@in_forward_mode
def hessian(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    wrt: Filter | EllipsisType = ParamState,
) -> Any:
    """The Hessian of a function of nodes and arrays, as `jax.hessian`: forward mode over reverse mode.

    Arguments and errors are those of `grad`.

    Returns:
        A function that gives, for a node, a `StateTree` whose values hold a `StateTree`
        in place of each array.

    Example:
        >>> class Point(gn.Node):
        ...     x: gn.ParamState
        >>> point = Point(gn.ParamState(jnp.array([1.0, 2.0])))
        >>> gn.hessian(lambda point: jnp.sum(point.x.value**3))(point)["x",].value["x",].value
        Array([[ 6.,  0.],
               [ 0., 12.]], dtype=float32)
    """
    options = GradOptions(argnums, has_aux, holomorphic, False, wrt)
    return (
        functools.partial(_hessian, options=options)
        if fun is None
        else _hessian(fun, options)
    )
