"""`vjp` and `jvp`: derivatives at one place, against a cotangent of the result or along tangents of the arguments."""

import functools
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, Literal, TypeVar, TypeVarTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import tracer_in
from .._errors import AliasError, listed
from .._filters import Filter
from .._state import ParamState
from .._tracebacks import hides_frames
from ._answers import (
    OfLeaf,
    OfState,
    answers_of,
    check_shape,
    name_of_place,
    shapes_of,
    slots_of,
)
from ._arguments import Function, Values
from ._boundary import Call
from ._methods import target_of
from ._pure import Outcome
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
    if len(primals) != len(tangents):
        raise TypeError(
            f"gn.jvp takes a tangent for each primal; found {len(primals)} primals, {len(tangents)} tangents"
        )
    target, bound = target_of(fun)
    call = Call("jvp", target, (*bound, *primals))
    pure = call.pure()
    along, along_leaves = _tangents_of(call, len(bound), tangents)
    values, other_leaves = call.values, call.other_leaves

    # What has no tangent is a constant of this function: so zeros need not be made.
    def result_of(
        new_values: dict[int, Any], new_leaves: dict[int, Any]
    ) -> tuple[Any, Outcome]:
        """The function that JAX differentiates, of the values and leaves that have a tangent, by number."""
        all_values = [new_values.get(n, value) for n, value in enumerate(values)]
        all_others = [new_leaves.get(n, leaf) for n, leaf in enumerate(other_leaves)]
        return divided("jvp", pure(tuple(all_values), all_others), has_aux)

    primal_in = (
        {number: values[number] for number in along},
        {number: other_leaves[number] for number in along_leaves},
    )
    result, tangent, outcome = call.run(
        functools.partial(jax.jvp, has_aux=True),
        result_of,
        primal_in,
        (along, along_leaves),
    )
    aux = call.finish(outcome)
    return (result, tangent, aux) if has_aux else (result, tangent)


def _tangents_of(
    call: Call, bound: int, tangents: Sequence[Any]
) -> tuple[dict[int, Any], dict[int, Any]]:
    """The tangents of States, and those of other leaves, by their numbers: what has none is a constant to JAX.

    Args:
        call: The call.
        bound: How many arguments are before those of the caller.
        tangents: One for each of these.

    Raises:
        AliasError, FilterError: As of `jvp`.
        ValueError: A tangent has another shape than what it is of.
    """
    # The bound node has no tangent: it is not among the primals of the caller.
    slots = slots_of(call, range(bound, bound + len(tangents)))
    answers = [
        answer
        for slot, tangent in zip(slots, tangents, strict=True)
        for answer in answers_of(call, "tangent", slot, tangent)
    ]
    along = _along(call, [answer for answer in answers if isinstance(answer, OfState)])
    leaves = [answer for answer in answers if isinstance(answer, OfLeaf)]
    values, other_leaves = call.values, call.other_leaves
    for answer in answers:
        row: Sequence[Any] = other_leaves if isinstance(answer, OfLeaf) else values
        check_shape(call, "tangent", answer, shapes_of(row[answer.number]))
    return along, {answer.number: answer.value for answer in leaves}


def _along(call: Call, answers: Sequence[OfState]) -> dict[int, Any]:
    """The tangent of each State that has one, by number; several of one State must be equal.

    Raises:
        AliasError: One State has two tangents that differ, or that may differ; names all.
    """
    first: dict[int, OfState] = {}
    faults: list[str] = []
    for answer in answers:
        # One State may be reached at several places, and be given at more than one.
        before = first.setdefault(answer.number, answer)
        if before is answer:
            continue
        difference = _difference(before.value, answer.value)
        if difference:
            names = f"{name_of_place(call, before)} and {name_of_place(call, answer)}"
            cls = type(call.binding.states[answer.number])
            faults.append(f"{names} are one {cls.__name__} with {difference}")
    if faults:
        raise AliasError(
            f"gn.jvp: give the tangent of a State at one of its places alone: {listed(faults)}"
        )
    return {number: answer.value for number, answer in first.items()}


def _difference(left: Any, right: Any) -> str:
    """For a message: how two tangents of one State differ; an empty text if they are equal."""
    leaves, treedef = jax.tree.flatten(left)
    others, other_def = jax.tree.flatten(right)
    # JAX's stubs give treedefs no equality.
    treedefs: list[object] = [treedef, other_def]
    if treedefs[0] != treedefs[1]:
        return "two tangents"
    pairs = zip(leaves, others, strict=True)
    # The same object is equal, even where it is traced.
    apart = [(leaf, other) for leaf, other in pairs if leaf is not other]
    if not all(_is_alike(*pair) for pair in apart):
        return "two tangents"
    if any(tracer_in(leaf) is not None for pair in apart for leaf in pair):
        return "two traced tangents, which cannot be compared"
    return "" if all(np.array_equal(*pair) for pair in apart) else "two tangents"


def _is_alike(left: Any, right: Any) -> bool:
    """Whether two tangents have the same shape and dtype, traced or not: 1 and 1.0 are equal, but two tangents."""
    if jnp.shape(left) != jnp.shape(right):
        return False
    return bool(jnp.result_type(left) == jnp.result_type(right))
