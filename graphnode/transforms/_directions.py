"""`vjp` and `jvp`: derivatives at one place, against a cotangent of the result or along tangents of the arguments."""

import functools
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, Literal, TypeVar, TypeVarTuple, overload

import jax

from .._binding import binding_of
from .._errors import AliasError, FilterError
from .._filters import Filter
from .._match import match
from .._paths import path_str
from .._state import ParamState
from .._static import GraphObject
from ._boundary import Call, Function, Outcome, Values, target_of
from ._chosen import Chosen, divided

R = TypeVar("R")
A = TypeVar("A")
Ts = TypeVarTuple("Ts")


# Any: a cotangent or tangent has the type of what it is of, a StateTree for a node, which no annotation can say.
@overload
def vjp(
    fun: Callable[[*Ts], R], *primals: *Ts, has_aux: Literal[False] = ..., wrt: Filter | EllipsisType = ...
) -> tuple[R, Callable[[R], tuple[Any, ...]]]: ...
@overload
def vjp(
    fun: Callable[[*Ts], tuple[R, A]], *primals: *Ts, has_aux: Literal[True], wrt: Filter | EllipsisType = ...
) -> tuple[R, Callable[[R], tuple[Any, ...]], A]: ...
def vjp(
    fun: Callable[[*Ts], Any], *primals: *Ts, has_aux: bool = False, wrt: Filter | EllipsisType = ParamState
) -> Any:
    """The value of a function at `primals`, and the function that pulls cotangents back, as `jax.vjp`.

    Args:
        fun: A function, a method or a callable node.
        *primals: Its arguments.
        has_aux: Whether `fun` gives a pair, of which only the first is differentiated.
        wrt: The States of the nodes among `primals` to differentiate with respect to.

    Returns:
        The result, and a function from a cotangent of it to a tuple of cotangents of `primals`, `StateTree`s for nodes;
        then the auxiliary result, with `has_aux`.

    Raises:
        FilterError: `wrt` selects no State, and there is no array.
        TypeError: A State that `wrt` selects holds no floating-point numbers, or the result is no pair.
        StructureError: The function changes the structure of a node, or gives a node to be differentiated.

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
    chosen = Chosen(call, range(len(bound), len(bound) + len(primals)), wrt)
    chosen.check_floating()

    def result_of(values: Values, rest: Values) -> tuple[Any, Outcome]:
        return divided("vjp", pure(*chosen.join(values, rest)), has_aux)

    result, pull_back, outcome = call.run(
        functools.partial(jax.vjp, has_aux=True), result_of, chosen.values, chosen.rest
    )
    aux = call.finish(outcome)

    def pull_back_nodes(cotangent: Any, /) -> tuple[Any, ...]:
        return chosen.assemble(*pull_back(cotangent))

    return (result, pull_back_nodes, aux) if has_aux else (result, pull_back_nodes)


# Any: as for `vjp`.
@overload
def jvp(
    fun: Callable[..., R], primals: Sequence[Any], tangents: Sequence[Any], has_aux: Literal[False] = ...
) -> tuple[R, Any]: ...
@overload
def jvp(
    fun: Callable[..., tuple[R, A]], primals: Sequence[Any], tangents: Sequence[Any], has_aux: Literal[True]
) -> tuple[R, Any, A]: ...
def jvp(fun: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of a function at `primals`, and its derivative along `tangents`, as `jax.jvp`.

    Args:
        fun: A function, a method or a callable node.
        primals: Its arguments.
        tangents: For each a tangent: for a node (or a pytree of nodes) a `StateTree` or a nested mapping by path, whole
            or partial, where the States that it leaves out have a tangent of zero.
        has_aux: Whether `fun` gives a pair, of which only the first is differentiated.

    Returns:
        The result and its tangent; then the auxiliary result, with `has_aux`.

    Raises:
        TypeError: There are not as many tangents as primals, or the result is no pair.
        FilterError: A tangent has a path at which its node has no State; names all.
        AliasError: A State that several primals share is given several tangents; names all.
        StructureError: The function changes the structure of a node, or gives a node to be differentiated.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> tangent = jax.tree.map(jnp.ones_like, gn.treefy_states(model))
        >>> y, dy = gn.jvp(lambda model: model(jnp.ones(2)), (model,), (tangent,))
        >>> dy
        Array([3., 3., 3.], dtype=float32)
    """
    if len(primals) != len(tangents):
        raise TypeError(
            f"gn.jvp takes a tangent for each primal; found {len(primals)} primals, {len(tangents)} tangents"
        )
    target, bound = target_of(fun)
    call = Call("jvp", target, (*bound, *primals))
    pure = call.pure()
    directions = [_direction(primal, tangent) for primal, tangent in zip(primals, tangents, strict=True)]
    numbers = {id(state): number for number, state in enumerate(call.binding.states)}
    along = _along(call, [(numbers[id(state)], value) for states, _ in directions for state, value in states])
    along_rest = {at: leaf for at, leaf in enumerate([leaf for _, leaves in directions for leaf in leaves])}
    at_values, at_rest = call.values, call.rest

    def result_of(values: dict[int, Any], rest: dict[int, Any]) -> tuple[Any, Outcome]:
        all_values = tuple([values.get(number, value) for number, value in enumerate(at_values)])
        return divided("jvp", pure(all_values, [rest.get(at, leaf) for at, leaf in enumerate(at_rest)]), has_aux)

    primal_in = ({number: at_values[number] for number in along}, {at: at_rest[at] for at in along_rest})
    result, tangent, outcome = call.run(
        functools.partial(jax.jvp, has_aux=True), result_of, primal_in, (along, along_rest)
    )
    aux = call.finish(outcome)
    return (result, tangent, aux) if has_aux else (result, tangent)


def _along(call: Call, tangents: Sequence[tuple[int, Any]]) -> dict[int, Any]:
    """The tangents of States by their numbers."""
    along: dict[int, Any] = {}
    twice = [call.where(number) for number, value in tangents if along.setdefault(number, value) is not value]
    if twice:
        raise AliasError(
            f"gn.jvp: {', '.join(twice)} is shared by several primals, and has one tangent: leave it out of the others"
        )
    return along


def _direction(primal: Any, tangent: Any) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """The States of a primal with their tangents, and the tangents of its other leaves."""
    leaves = jax.tree.leaves(primal)
    if leaves and all(isinstance(leaf, GraphObject) for leaf in leaves):
        binding = binding_of(primal)
        given = match(binding.graphdef, tangent)
        unknown = [path_str(given.path(at)) for at, number in enumerate(given.numbers) if number is None]
        if unknown:
            raise FilterError(f"gn.jvp: a tangent has {', '.join(unknown)}, where its node has no State")
        pairs = zip(given.numbers, given.values, strict=True)
        return [(binding.states[number], value) for number, value in pairs if number is not None], []
    if any(isinstance(leaf, GraphObject) for leaf in leaves):
        raise TypeError("gn.jvp: a primal holds nodes and arrays together; give them as two")
    return [], jax.tree.leaves(jax.tree.map(lambda _, along: along, primal, tangent))
