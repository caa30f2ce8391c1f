"""`vjp`, `jvp`, `linearize`: derivatives at one place, against a cotangent of the result or along tangents."""

import functools
from collections.abc import Callable, Iterable, Sequence
from types import EllipsisType
from typing import Any, Literal, TypeVar, TypeVarTuple, overload

import jax

from .._filters import Filter
from .._state import ParamState
from .._tracebacks import hides_frames
from ._arguments import Function, Values
from ._boundary import Call
from ._methods import target_of
from ._pure import Outcome
from ._tangents import Tangents, zero_tangent
from ._type_text import is_jax_type
from ._wrt import DiffTarget, divided

R = TypeVar("R")
A = TypeVar("A")
Ts = TypeVarTuple("Ts")


# Any: a cotangent or tangent has the type of what it is of, a StateTree for a node,
# which no annotation can say.
@overload
def vjp(
    fun: Callable[[*Ts], R],
    *primals: *Ts,
    has_aux: Literal[False] = ...,
    wrt: Filter | EllipsisType = ...,
) -> tuple[R, Callable[[R], tuple[Any, ...]]]: ...
@overload
def vjp(
    fun: Callable[[*Ts], tuple[R, A]],
    *primals: *Ts,
    has_aux: Literal[True],
    wrt: Filter | EllipsisType = ...,
) -> tuple[R, Callable[[R], tuple[Any, ...]], A]: ...
@hides_frames
def vjp(
    fun: Callable[[*Ts], Any],
    *primals: *Ts,
    has_aux: bool = False,
    wrt: Filter | EllipsisType = ParamState,
) -> Any:
    """The value of a function at `primals`, and the function that pulls cotangents back, as `jax.vjp`.

    Args:
        fun: A function, a method or a callable node.
        *primals: Its arguments.
        has_aux: Whether `fun` gives a pair, of which only the first is differentiated.
        wrt: The States of the nodes among `primals` to differentiate with respect to.

    Returns:
        The result, and a function from a cotangent of it to a tuple of cotangents of
        `primals`, of the form of the gradients that `grad` gives; then the auxiliary
        result, with `has_aux`.

    Raises:
        AliasError: `wrt` selects one State in several primals; names all.
        FilterError: `wrt` selects no State, and there is no array.
        TypeError: A State that `wrt` selects holds no floating-point numbers, or the
            result is not a pair.
        StructureError: The function changes the structure of a node, or gives a node to
            be differentiated.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> y, pull_back = gn.vjp(lambda model, x: model(x), model, jnp.ones(2))
        >>> of_model, of_x = pull_back(jnp.ones(3))
        >>> of_model["bias",].value, of_x.shape
        (Array([1., 1., 1.], dtype=float32), (2,))
    """
    target, bound = target_of(fun)
    call = Call("vjp", target, (*bound, *primals))
    pure = call.pure()
    # All primals, as in JAX; of the bound node nothing.
    diff_target = DiffTarget(call, range(len(primals)), wrt, len(bound))
    diff_target.check_floating()

    def result_of(values: Values, other_leaves: Values) -> tuple[Any, Outcome]:
        """The function that JAX differentiates: from what has a derivative to the result and all else."""
        return divided("vjp", pure(*diff_target.join(values, other_leaves)), has_aux)

    result, pull_back, outcome = call.run(
        functools.partial(jax.vjp, has_aux=True),
        result_of,
        diff_target.values,
        diff_target.other_leaves,
    )
    aux = call.finish(outcome)

    def pull_back_nodes(cotangent: Any, /) -> tuple[Any, ...]:
        """From a cotangent of the result to those of the primals: what the caller of `vjp` gets."""
        return diff_target.assemble(*call.work(pull_back, cotangent))

    return (result, pull_back_nodes, aux) if has_aux else (result, pull_back_nodes)


# Any: as for `vjp`.
@overload
def jvp(
    fun: Callable[..., R],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: Literal[False] = ...,
) -> tuple[R, Any]: ...
@overload
def jvp(
    fun: Callable[..., tuple[R, A]],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: Literal[True],
) -> tuple[R, Any, A]: ...
@hides_frames
def jvp(
    fun: Function,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
) -> Any:
    """The value of a function at `primals`, and its derivative along `tangents`, as `jax.jvp`.

    Args:
        fun: A function, a method or a callable node.
        primals: Its arguments.
        tangents: For each a tangent: for a node (or a pytree of nodes) a `StateTree` or
            a nested mapping by path, whole or partial; for a pytree of nodes and arrays
            one like it, with these in place of its nodes. States that are left out at
            all their places have a tangent of zero.
        has_aux: Whether `fun` gives a pair, of which only the first is differentiated.

    Returns:
        The result and its tangent; then the auxiliary result, with `has_aux`.

    Raises:
        TypeError: There are not as many tangents as primals, or the result is not a
            pair.
        FilterError: A tangent has a path at which its node has no State; names all.
        AliasError: One State is given two tangents, which are not equal or are traced;
            names all.
        StructureError: The function changes the structure of a node, or gives a node to
            be differentiated.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> tangent = jax.tree.map(jnp.ones_like, gn.treefy_states(model))
        >>> y, dy = gn.jvp(lambda model: model(jnp.ones(2)), (model,), (tangent,))
        >>> dy
        Array([3., 3., 3.], dtype=float32)
    """
    call, forms = _call_and_tangents("jvp", fun, primals)
    forms.check_count("gn.jvp", len(tangents))
    along, along_leaves = forms.by_number(tangents)
    # What has no tangent is a constant of this function: so zeros need not be made.
    result_of = _result_of(call, has_aux)
    primal_in = _primal_in(call, along, along_leaves)
    result, tangent, outcome = call.run(
        functools.partial(jax.jvp, has_aux=True),
        result_of,
        primal_in,
        (along, along_leaves),
    )
    aux = call.finish(outcome)
    return (result, tangent, aux) if has_aux else (result, tangent)


# Any: as for `vjp`.
@overload
def linearize(
    fun: Callable[[*Ts], R], *primals: *Ts, has_aux: Literal[False] = ...
) -> tuple[R, Callable[..., R]]: ...
@overload
def linearize(
    fun: Callable[[*Ts], tuple[R, A]], *primals: *Ts, has_aux: Literal[True]
) -> tuple[R, Callable[..., R], A]: ...
@hides_frames
def linearize(fun: Callable[[*Ts], Any], *primals: *Ts, has_aux: bool = False) -> Any:
    """The value of a function at `primals`, and its derivative there as a function of tangents, as `jax.linearize`.

    Where `jvp` runs the function for each tangent, this runs it once: what it writes is
    written once, and its random streams advance once. The derivative stays that at
    `primals`, whatever is written into their nodes afterwards. It runs no function of
    the caller's, and JAX can map it, compile it and transpose it.

    Args:
        fun: A function, a method or a callable node.
        *primals: Its arguments.
        has_aux: Whether `fun` gives a pair, of which only the first is differentiated.

    Returns:
        The result, and a function from tangents, of the forms that `jvp` takes, one
        argument for each primal, to the tangent of the result; then the auxiliary
        result, with `has_aux`.

    Raises:
        TypeError: The result is not a pair, with `has_aux`; or of the function of
            tangents: there are not as many as primals.
        FilterError: Of that function: a tangent has a path at which its node has no
            State; names all.
        AliasError: Of that function: one State is given two tangents, which are not
            equal or are traced; names all.
        ValueError: Of that function: a tangent has another shape or dtype than what it
            is of.
        StructureError: The function changes the structure of a node, or gives a node to
            be differentiated.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> y, along = gn.linearize(lambda model, x: model(x), model, jnp.ones(2))
        >>> along({"bias": jnp.array([1., 2., 3.])}, jnp.zeros(2))
        Array([1., 2., 3.], dtype=float32)

    See also: `jvp`, for one tangent; `vjp`, for cotangents of the result.
    """
    call, forms = _call_and_tangents("linearize", fun, [*primals])
    primal_in = _primal_in(call, forms.numbers, forms.leaf_numbers)
    # The shapes alone: the derivative may live long, and need not keep the values.
    kinds = jax.tree.map(_kind_of_leaf, primal_in)
    result, derivative, outcome = call.run(
        functools.partial(jax.linearize, has_aux=True),
        _result_of(call, has_aux),
        *primal_in,
    )
    aux = call.finish(outcome)

    @hides_frames
    def along(*tangents: Any) -> Any:
        """From tangents of the primals to that of the result: what the caller of `linearize` gets."""
        forms.check_count("gn.linearize: the derivative", len(tangents))
        of_states, of_leaves = forms.by_number(tangents)
        of_all_states = {
            number: of_states[number] if number in of_states else _zeros(kind)
            for number, kind in kinds[0].items()
        }
        return call.work(derivative, of_all_states, of_leaves)

    return (result, along, aux) if has_aux else (result, along)


def _call_and_tangents(
    transform: str, fun: Function, primals: Sequence[Any]
) -> tuple[Call, Tangents]:
    """The call of a function at some primals, and what tangents of these look like."""
    target, bound = target_of(fun)
    call = Call(transform, target, (*bound, *primals))
    # The bound node has no tangent: it is not among the primals of the caller.
    return call, Tangents(call, range(len(bound), len(bound) + len(primals)))


def _primal_in(
    call: Call, numbers: Iterable[int], leaf_numbers: Iterable[int]
) -> tuple[dict[int, Any], dict[int, Any]]:
    """The values and the other leaves of these numbers: where JAX differentiates a function of `_result_of`."""
    values, other_leaves = call.values, call.other_leaves
    return (
        {number: values[number] for number in numbers},
        {number: other_leaves[number] for number in leaf_numbers},
    )


def _result_of(call: Call, has_aux: bool) -> Callable[..., tuple[Any, Outcome]]:
    """The function that JAX differentiates, of some values and leaves, by number; all others are its constants."""
    pure = call.pure()
    values, other_leaves = call.values, call.other_leaves

    def result_of(
        new_values: dict[int, Any], new_leaves: dict[int, Any]
    ) -> tuple[Any, Outcome]:
        """The part of the result that is differentiated, and all else."""
        all_values = [new_values.get(n, value) for n, value in enumerate(values)]
        all_others = [new_leaves.get(n, leaf) for n, leaf in enumerate(other_leaves)]
        return divided(call.transform, pure(tuple(all_values), all_others), has_aux)

    return result_of


def _kind_of_leaf(leaf: Any) -> Any:
    """An abstract array of the shape and dtype of a leaf; one that JAX does not take, for its own error, as it is."""
    return jax.typeof(leaf) if is_jax_type(leaf) else leaf


def _zeros(kind: Any) -> Any:
    """A tangent of zero for a State whose value is of these abstract arrays."""
    return jax.tree.map(zero_tangent, kind)
