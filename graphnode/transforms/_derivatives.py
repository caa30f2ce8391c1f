"""`grad` and its kin: derivatives with respect to States and arrays.

Of an argument that is a node, or a pytree of nodes, the States that `wrt` selects are differentiated, and a derivative
is a `StateTree` of the layout of `treefy_states(argument, wrt)`. Of other arguments all arrays are, as in JAX.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, TypeVarTuple, overload

import jax
import jax.numpy as jnp

from .._binding import binding_of
from .._convert import is_node_states
from .._errors import AliasError, FilterError, StructureError
from .._filters import Filter, as_filters
from .._layout import Layout
from .._match import match
from .._paths import path_str
from .._state import ParamState, describe, shape_text
from .._statetree import StateTree, select
from .._static import GraphObject
from ._boundary import Call, Function, Outcome, Values, rebind, target_of, told

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
Ts = TypeVarTuple("Ts")


class _Part(NamedTuple):
    """What is differentiated of one argument.

    Attributes:
        treedef: Of the argument; `None` for one that holds nodes alone, whose derivative is one state tree.
        pieces: For each leaf (or the one state tree): the number of an array in the rest; or a layout and its States.
    """

    treedef: Any
    pieces: tuple["int | tuple[Layout, tuple[int, ...]]", ...]


class _Chosen:
    """What a call is differentiated with respect to: some States, and some of the other leaves."""

    def __init__(self, call: Call, argnums: Sequence[int], wrt: Filter | EllipsisType) -> None:
        self._call, self._values = call, call.values
        args, _ = call.form.fill(call.roots, range(len(call.rest)))
        numbers = {id(state): number for number, state in enumerate(call.binding.states)}
        for at in argnums:
            if not -len(args) <= at < len(args):
                raise ValueError(
                    f"gn.{call.transform}: argnums names argument {at}, but {len(args)} are given by position"
                )
        self.parts = [_part_of(args[at], wrt, numbers) for at in argnums]
        pieces = [piece for part in self.parts for piece in part.pieces]
        self.rest_at = sorted({piece for piece in pieces if isinstance(piece, int)})
        chosen = {number for piece in pieces if not isinstance(piece, int) for number in piece[1]}
        self.numbers = sorted(chosen)
        if not self.numbers and not self.rest_at:
            shown = as_filters((wrt,))[0]
            raise FilterError(f"gn.{call.transform}: nothing to differentiate: no State of it is selected by {shown!r}")

    @property
    def values(self) -> Values:
        """The values of the States that are chosen."""
        return tuple([self._values[number] for number in self.numbers])

    @property
    def rest(self) -> Values:
        """The other leaves that are chosen."""
        return tuple([self._call.rest[at] for at in self.rest_at])

    def join(self, values: Values, rest: Values) -> tuple[Values, list[Any]]:
        """All values and leaves of the call, with these in place of the chosen ones."""
        all_values, all_rest = list(self._values), list(self._call.rest)
        for number, value in zip(self.numbers, values, strict=True):
            all_values[number] = value
        for at, leaf in zip(self.rest_at, rest, strict=True):
            all_rest[at] = leaf
        return tuple(all_values), all_rest

    def assemble(self, values: Values, rest: Values) -> tuple[Any, ...]:
        """The derivatives of the arguments, from those of the chosen values and leaves."""
        by_number = dict(zip(self.numbers, values, strict=True))
        by_place = dict(zip(self.rest_at, rest, strict=True))

        def piece_of(piece: int | tuple[Layout, tuple[int, ...]]) -> Any:
            if isinstance(piece, int):
                return by_place[piece]
            return StateTree(piece[0], tuple([by_number[number] for number in piece[1]]))

        made: list[Any] = []
        for part in self.parts:
            pieces = list(map(piece_of, part.pieces))
            made.append(pieces[0] if part.treedef is None else jax.tree.unflatten(part.treedef, pieces))
        return tuple(made)

    def check_floating(self) -> None:
        """Raise if a State that is chosen holds what has no derivative.

        Raises:
            TypeError: Names all such States.
        """
        faults = [
            f"{self._call.where(number)} ({shape_text(leaf) if hasattr(leaf, 'dtype') else describe(leaf)})"
            for number, value in zip(self.numbers, self.values, strict=True)
            for leaf in jax.tree.leaves(value)
            if not _is_inexact(leaf)
        ]
        if faults:
            raise TypeError(
                f"gn.{self._call.transform}: {', '.join(faults)} holds no floating-point numbers to differentiate; "
                "select others with wrt"
            )


def _is_inexact(leaf: Any) -> bool:
    try:
        return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))
    except TypeError:  # nothing that JAX takes
        return False


def _part_of(argument: Any, wrt: Filter | EllipsisType, numbers: Mapping[int, int]) -> _Part:
    leaves, treedef = jax.tree.flatten(argument)
    if leaves and all(isinstance(leaf, GraphObject) for leaf in leaves):
        return _Part(None, (_selected(argument, wrt, numbers),))
    return _Part(
        treedef, tuple([_selected(leaf, wrt, numbers) if isinstance(leaf, GraphObject) else leaf for leaf in leaves])
    )


def _selected(node: Any, wrt: Filter | EllipsisType, numbers: Mapping[int, int]) -> tuple[Layout, tuple[int, ...]]:
    binding = binding_of(node)
    ((chosen, layout),), _ = select(binding.graphdef.layout, as_filters((wrt,)), lambda: binding.states)
    return layout, tuple([numbers[id(binding.states[at])] for at in chosen])


def _nums(argnums: int | Sequence[int], offset: int) -> tuple[int, ...]:
    """The positions among the arguments of the plain function, of which `offset` are bound before the caller's."""
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    return tuple([at + offset if at >= 0 else at for at in given])


def _one_or_all(argnums: int | Sequence[int], derivatives: tuple[Any, ...]) -> Any:
    return derivatives[0] if isinstance(argnums, int) else derivatives


def _divided(transform: str, outcome: Outcome, has_aux: bool) -> tuple[Any, Outcome]:
    """The part of a result that is differentiated, and the outcome with the auxiliary part alone.

    Raises:
        TypeError: With `has_aux`, the function does not give a pair.
        StructureError: There are nodes in the part that is differentiated.
    """
    written, values, result = outcome
    aux = None
    if has_aux:
        if not (isinstance(result, tuple) and len(result) == 2):
            found = f"a tuple of {len(result)}" if isinstance(result, tuple) else told(result)
            raise TypeError(f"gn.{transform}: with has_aux=True the function gives (result, aux); found {found}")
        result, aux = result
    if written.has_nodes and _holds_nodes(result):
        raise StructureError(f"gn.{transform} differentiates arrays, but the result holds a node; give it as aux")
    has_nodes = written.has_nodes and _holds_nodes(aux)
    return result, (dataclasses.replace(written, has_nodes=has_nodes), values, aux)


def _holds_nodes(tree: Any) -> bool:
    return any(map(is_node_states, jax.tree.leaves(tree, is_leaf=is_node_states)))


class GradOptions(NamedTuple):
    """What `grad` and its kin are asked for, apart from the function."""

    argnums: int | Sequence[int]
    has_aux: bool
    holomorphic: bool
    allow_int: bool
    wrt: Filter | EllipsisType


def _value_and_grad(transform: str, function: Function, options: GradOptions) -> Function:
    target, bound = target_of(function)
    argnums = _nums(options.argnums, len(bound))

    @functools.wraps(target)
    def value_and_grad_of(*args: Any, **kwargs: Any) -> Any:
        call = Call(transform, target, args, kwargs)
        pure, chosen = call.pure(), _Chosen(call, argnums, options.wrt)
        if not options.allow_int:
            chosen.check_floating()

        def loss_of(values: Values, rest: Values) -> tuple[Any, Outcome]:
            return _divided(transform, pure(*chosen.join(values, rest)), options.has_aux)

        differentiate = jax.value_and_grad(
            loss_of, (0, 1), has_aux=True, holomorphic=options.holomorphic, allow_int=options.allow_int
        )
        (loss, outcome), derivatives = differentiate(chosen.values, chosen.rest)
        aux = call.finish(outcome)
        gradients = _one_or_all(options.argnums, chosen.assemble(*derivatives))
        return ((loss, aux) if options.has_aux else loss), gradients

    return rebind(value_and_grad_of, bound)


def _grad(function: Function, options: GradOptions) -> Function:
    differentiated, bound = target_of(_value_and_grad("grad", function, options))

    @functools.wraps(differentiated)
    def grad_of(*args: Any, **kwargs: Any) -> Any:
        value, gradients = differentiated(*args, **kwargs)
        return (gradients, value[1]) if options.has_aux else gradients

    return rebind(grad_of, bound)


def _jacobian(transform: str, function: Function, options: GradOptions) -> Function:
    target, bound = target_of(function)
    argnums = _nums(options.argnums, len(bound))
    keywords: dict[str, Any] = {"has_aux": True, "holomorphic": options.holomorphic}
    if transform == "jacrev":
        keywords["allow_int"] = options.allow_int
    differentiate = getattr(jax, transform)

    @functools.wraps(target)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = Call(transform, target, args, kwargs)
        pure, chosen = call.pure(), _Chosen(call, argnums, options.wrt)
        if not options.allow_int:
            chosen.check_floating()
        treedef: Any = None

        def leaves_of(values: Values, rest: Values) -> tuple[list[Any], Outcome]:
            nonlocal treedef
            result, outcome = _divided(transform, pure(*chosen.join(values, rest)), options.has_aux)
            leaves, treedef = jax.tree.flatten(result)
            return leaves, outcome

        rows, outcome = differentiate(leaves_of, (0, 1), **keywords)(chosen.values, chosen.rest)
        aux = call.finish(outcome)
        made = [_one_or_all(options.argnums, chosen.assemble(*row)) for row in rows]
        jacobian = jax.tree.unflatten(treedef, made)
        return (jacobian, aux) if options.has_aux else jacobian

    return rebind(jacobian_of, bound)


def _hessian(function: Function, options: GradOptions) -> Function:
    return _jacobian("jacfwd", _jacobian("jacrev", function, options), options)


@overload
def grad(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
    *,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, Any]: ...
@overload
def grad(
    fun: Callable[P, tuple[Any, A]],
    argnums: int | Sequence[int] = ...,
    *,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    allow_int: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, tuple[Any, A]]: ...
@overload
def grad(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
@overload
def grad(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    allow_int: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, tuple[Any, A]]], Callable[P, tuple[Any, A]]]: ...
# Any: a gradient has the type of the argument that it is of, a StateTree for a node, which no annotation can say.
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

    States that the function writes (statistics, counters) are written back to the caller's nodes.

    Args:
        fun: A function, a method or a callable node; left out in `@gn.grad(has_aux=True)`.
        argnums: The position, or positions, of what to differentiate: nodes, or pytrees of nodes, of arrays or both.
        has_aux: Whether `fun` gives a pair, of which only the first is differentiated.
        holomorphic: As in `jax.grad`.
        allow_int: As in `jax.grad`.
        wrt: The States of the nodes to differentiate with respect to: any filter.

    Returns:
        A function with the signature of `fun` that gives the gradient: a `StateTree` of the layout of
        `treefy_states(argument, wrt)` for a node; a tuple of gradients for several `argnums`; with `has_aux` a pair of
        these and the auxiliary result.

    Raises:
        FilterError: At a call: `wrt` selects no State, and there is no array.
        TypeError: At a call: a State that `wrt` selects holds no floating-point numbers, or the result is no pair.
        StructureError: At a call: the function changes the structure of a node.
        TraceError: At a call: the function writes a State that it did not get as an argument.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gradient = gn.grad(lambda model, x: model(x).sum())(model, jnp.ones((4, 2)))
        >>> gradient["weight",].value["bias"]
        Array([4., 4., 4.], dtype=float32)

    See also: `value_and_grad`, which gives the value too.
    """
    options = GradOptions(argnums, has_aux, holomorphic, allow_int, wrt)
    return functools.partial(_grad, options=options) if fun is None else _grad(fun, options)


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
        A function with the signature of `fun` that gives a pair: what `fun` gives, and the gradient.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> loss, gradient = gn.value_and_grad(lambda model, x: model(x).sum())(model, jnp.zeros((4, 2)))
        >>> loss, gradient["weight",].value["bias"]
        (Array(0., dtype=float32), Array([4., 4., 4.], dtype=float32))
    """
    options = GradOptions(argnums, has_aux, holomorphic, allow_int, wrt)
    if fun is None:
        return functools.partial(_value_and_grad, "value_and_grad", options=options)
    return _value_and_grad("value_and_grad", fun, options)


# Any in what follows: a derivative has the type of the result with the argument's in place of each array, which no
# annotation can say.
@overload
def jacrev(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
    *,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, Any]: ...
@overload
def jacrev(
    fun: Callable[P, tuple[Any, A]],
    argnums: int | Sequence[int] = ...,
    *,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    allow_int: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, tuple[Any, A]]: ...
@overload
def jacrev(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
@overload
def jacrev(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    allow_int: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, tuple[Any, A]]], Callable[P, tuple[Any, A]]]: ...
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
        A function that gives the result of `fun` with a derivative in place of each array: for a node a `StateTree` of
        arrays of shape `[*result.shape, *state.shape]`.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> jacobian = gn.jacrev(lambda model, x: model(x))(model, jnp.ones(2))
        >>> jacobian["weight",].value["weight"].shape
        (3, 2, 3)
    """
    options = GradOptions(argnums, has_aux, holomorphic, allow_int, wrt)
    return functools.partial(_jacobian, "jacrev", options=options) if fun is None else _jacobian("jacrev", fun, options)


# Any: as for `jacrev`.
@overload
def jacfwd(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    *,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, Any]: ...
@overload
def jacfwd(
    fun: Callable[P, tuple[Any, A]],
    argnums: int | Sequence[int] = ...,
    *,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, tuple[Any, A]]: ...
@overload
def jacfwd(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
@overload
def jacfwd(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, tuple[Any, A]]], Callable[P, tuple[Any, A]]]: ...
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
        >>> gn.jacfwd(lambda model, x: model(x))(model, jnp.ones(2))["weight",].value["bias"].shape
        (3, 3)
    """
    options = GradOptions(argnums, has_aux, holomorphic, False, wrt)
    return functools.partial(_jacobian, "jacfwd", options=options) if fun is None else _jacobian("jacfwd", fun, options)


# Any: as for `jacrev`.
@overload
def hessian(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    *,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, Any]: ...
@overload
def hessian(
    fun: Callable[P, tuple[Any, A]],
    argnums: int | Sequence[int] = ...,
    *,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[P, tuple[Any, A]]: ...
@overload
def hessian(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
@overload
def hessian(
    *,
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[True],
    holomorphic: bool = ...,
    wrt: Filter | EllipsisType = ...,
) -> Callable[[Callable[P, tuple[Any, A]]], Callable[P, tuple[Any, A]]]: ...
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
        A function that gives, for a node, a `StateTree` whose values hold a `StateTree` in place of each array.

    Example:
        >>> class Point(gn.Node):
        ...     x: gn.ParamState
        >>> point = Point(gn.ParamState(jnp.array([1.0, 2.0])))
        >>> gn.hessian(lambda point: jnp.sum(point.x.value**3))(point)["x",].value["x",].value
        Array([[ 6.,  0.],
               [ 0., 12.]], dtype=float32)
    """
    options = GradOptions(argnums, has_aux, holomorphic, False, wrt)
    return functools.partial(_hessian, options=options) if fun is None else _hessian(fun, options)


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
        >>> of_model["weight",].value["bias"], of_x.shape
        (Array([1., 1., 1.], dtype=float32), (2,))
    """
    target, bound = target_of(fun)
    call = Call("vjp", target, (*bound, *primals))
    pure = call.pure()
    chosen = _Chosen(call, range(len(bound), len(bound) + len(primals)), wrt)
    chosen.check_floating()

    def result_of(values: Values, rest: Values) -> tuple[Any, Outcome]:
        return _divided("vjp", pure(*chosen.join(values, rest)), has_aux)

    result, pull_back, outcome = jax.vjp(result_of, chosen.values, chosen.rest, has_aux=True)
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
        return _divided("jvp", pure(all_values, [rest.get(at, leaf) for at, leaf in enumerate(at_rest)]), has_aux)

    primal_in = ({number: at_values[number] for number in along}, {at: at_rest[at] for at in along_rest})
    result, tangent, outcome = jax.jvp(result_of, primal_in, (along, along_rest), has_aux=True)
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
