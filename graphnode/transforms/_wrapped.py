"""`remat`, `eval_shape`, `make_jaxpr` and `checkify`: JAX's own, over the pure function of a call."""

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence, Set
from typing import Any, ParamSpec, TypeVar, overload

import jax
from jax.experimental import checkify as jax_checkify

from .._arguments import wrong_argument
from .._compat import current_trace
from .._reads import READING
from .._stream import Stream, scope_of
from .._tracebacks import hides_frames
from ._arguments import Function, Values, named_arguments, with_statics
from ._boundary import Call
from ._fork import at_home
from ._methods import rebind, target_of
from ._origins import checked
from ._program import picker
from ._pure import Outcome
from ._surroundings import Surroundings
from ._trace import Trace

P = ParamSpec("P")
R = TypeVar("R")


@overload
def remat(
    fun: Callable[P, R],
    *,
    prevent_cse: bool = ...,
    policy: Callable[..., bool] | None = ...,
    static_argnums: int | Sequence[int] = ...,
) -> Callable[P, R]: ...
@overload
def remat(
    *,
    prevent_cse: bool = ...,
    policy: Callable[..., bool] | None = ...,
    static_argnums: int | Sequence[int] = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def remat(
    fun: Function | None = None,
    *,
    prevent_cse: bool = True,
    policy: Callable[..., bool] | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """Compute a function of nodes again in the backward pass instead of keeping what it needs, as `jax.checkpoint`.

    Args:
        fun: A function, a method or a callable node; left out in
            `@gn.remat(policy=...)`.
        prevent_cse: As in `jax.checkpoint`.
        policy: As in `jax.checkpoint`, such as one of `jax.checkpoint_policies`.
        static_argnums: Positions of arguments that are not arrays: hashable.

    Returns:
        A function with the signature and the results of `fun`.

    Raises:
        ValueError: A position is that of no argument.
        StructureError: At a call: the function changes the structure of a node.
        FieldError: At a call: a static argument is not hashable.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gn.grad(gn.remat(lambda model: model(jnp.ones(2)).sum()))(model)["bias",].value
        Array([1., 1., 1.], dtype=float32)
    """
    again = functools.partial(
        remat, prevent_cse=prevent_cse, policy=policy, static_argnums=static_argnums
    )
    if fun is None:
        return again
    if policy is not None and not callable(policy):
        takes = "a function as its policy, such as one of jax.checkpoint_policies"
        raise TypeError(wrong_argument(takes, policy, "gn.remat"))
    target, bound = target_of(fun)
    statics = named_arguments(target, len(bound), static_argnums, frozenset())

    @hides_frames
    @functools.wraps(target)
    def rematerialised(*args: Any, **kwargs: Any) -> Any:
        """One call: the result, once the writes are made; JAX computes it again in a backward pass."""
        call = Call("remat", target, *with_statics(target, args, kwargs, *statics))
        pure = call.pure()
        # JAX keeps the trace of a function that it knows; with it would stay what the
        # function has captured, unless a trace around this one follows that.
        again = pure if READING.reads is not None else functools.partial(pure)
        run = jax.checkpoint(again, prevent_cse=prevent_cse, policy=policy)
        with call.scope():
            outcome = call.run(run, at_home(call), call.other_leaves)
        return call.finish(outcome)

    return rebind(rematerialised, bound, fun, again)


@hides_frames
def eval_shape(fun: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The shapes and dtypes that a function of nodes and arrays would give, without computing it, as `jax.eval_shape`.

    Nodes can be built in it: their draws from the ambient random stream are never made,
    and advance nothing.

    Args:
        fun: A function, a method or a callable node.
        *args: Its arguments; arrays may be `jax.ShapeDtypeStruct`s.
        **kwargs: Its arguments by name.

    Returns:
        The result with a `jax.ShapeDtypeStruct` in place of each array, also in the
        States of nodes that it made. Nodes that came in are given back as they are:
        nothing is written.

    Raises:
        StructureError: The function changes the structure of a node.

    Example:
        >>> gn.eval_shape(lambda: gn.nn.Linear(200, 300)).bias.value
        ShapeDtypeStruct(shape=(300,), dtype=float32)
    """
    target, bound = target_of(fun)
    call = Call("eval_shape", target, (*bound, *args), kwargs)
    outcome: Outcome = call.run(
        jax.eval_shape, _drawing(call.pure()), call.values, call.other_leaves
    )
    return _shapes(call, outcome)  # type: ignore[no-any-return]  # like what the function gives


def _drawing(pure: Callable[P, R]) -> Callable[P, R]:
    """For `eval_shape`: `pure`, in which nodes draw from a stream that is made while JAX traces.

    Only there: what `jax.jit` compiles would hold the numbers of that stream as constants.
    """

    @functools.wraps(pure)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> R:
        """`pure` inside of the scope of that stream."""
        with scope_of(Stream(0, trace=current_trace())):
            return pure(*args, **kwargs)

    return drawing


def _shapes(call: Call, outcome: Outcome) -> Any:
    """For `eval_shape` and `make_jaxpr`: the result of shapes and dtypes, with live nodes in it, nothing written."""
    return call.with_live_nodes(outcome[2]) if outcome[0].has_nodes else outcome[2]


# Any: with `return_shape` the result is a pair.
def make_jaxpr(
    fun: Callable[P, Any],
    static_argnums: int | Iterable[int] = (),
    axis_env: Sequence[tuple[Hashable, int]] | None = None,
    return_shape: bool = False,
) -> Callable[P, Any]:
    """A function that gives the jaxpr of a function of nodes and arrays, as `jax.make_jaxpr`.

    The inputs are those of what `jit` compiles: the States that the function looks at,
    in canonical order, those that it reads from outside, then the other leaves. The
    outputs are the new values of the States that it writes, then its result.

    Args:
        fun: A function, a method or a callable node.
        static_argnums: Positions of arguments that are not arrays: hashable.
        axis_env: As in `jax.make_jaxpr`.
        return_shape: Whether to give also the result with shapes and dtypes, as
            `eval_shape` does.

    Returns:
        A function with the arguments of `fun` that gives a `jax.core.ClosedJaxpr`, or a
        pair with the shapes.

    Raises:
        StructureError: At a call: the function changes the structure of a node.

    Example:
        >>> class Counter(gn.Node):
        ...     count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(0)))
        ...     other: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.zeros(3)))
        >>> def add(counter):
        ...     counter.count.value += 1
        >>> gn.make_jaxpr(add)(Counter())
        { lambda ; a:i32[]. let b:i32[] = add a 1:i32[] in (b,) }
    """
    target, bound = target_of(fun)
    # As in JAX, any iterable; once only, since it may be an iterator.
    if not isinstance(static_argnums, int):
        static_argnums = tuple(static_argnums)
    statics = named_arguments(target, len(bound), static_argnums, frozenset())

    @hides_frames
    @functools.wraps(target)
    def jaxpr_of(*args: Any, **kwargs: Any) -> Any:
        """One call: its jaxpr, and the shapes of its result if they are asked for; nothing is written."""
        call = Call("make_jaxpr", target, *with_statics(target, args, kwargs, *statics))
        call.held = Surroundings.of([target], call.binding.graphdef).held()
        jaxpr, outcome = call.run(_jaxpr_and_shapes, call, axis_env)
        return (jaxpr, _shapes(call, outcome)) if return_shape else jaxpr

    again = functools.partial(
        make_jaxpr,
        static_argnums=static_argnums,
        axis_env=axis_env,
        return_shape=return_shape,
    )
    return rebind(jaxpr_of, bound, fun, again)


def _jaxpr_and_shapes(call: Call, axis_env: Any) -> tuple[Any, Outcome]:
    """For `make_jaxpr`: the jaxpr of a call, of what it looks at alone, and its outcome as shapes and dtypes."""
    traces: list[Trace] = []

    def look(values: Values, other_leaves: Sequence[Any]) -> None:
        """Trace the function where the axes are known, to see what it looks at."""
        traces.append(Trace(call, call.pure().noted, values, other_leaves))

    jax.make_jaxpr(look, axis_env=axis_env)(call.binding.peek(), call.other_leaves)
    (trace,) = traces
    inputs = trace.inputs
    touched = picker(inputs.touched)

    def run(values: Values, captured: Values, other_leaves: Sequence[Any]) -> Outcome:
        """The trace, with these as its inputs."""
        by_number = dict(zip(inputs.touched, values, strict=True))
        by_key = dict(zip(inputs.captured, captured, strict=True))
        return trace.outcome(by_number, by_key, other_leaves)

    values = call.binding.values_of(touched(call.binding.states))
    return jax.make_jaxpr(run, axis_env=axis_env, return_shape=True)(
        values, inputs.captured_values(call), call.other_leaves
    )


# Any: the classes of errors that checkify knows are JAX's own, and private.
def checkify(
    f: Callable[P, R], errors: frozenset[Any] = jax_checkify.user_checks
) -> Callable[P, tuple[jax_checkify.Error, R]]:
    """Make checks in a function of nodes part of its result, as `jax.experimental.checkify.checkify`.

    Args:
        f: A function, a method or a callable node.
        errors: As in `jax.experimental.checkify.checkify`.

    Returns:
        A function with the arguments of `f` that gives the error (`.throw()` raises it)
        and the result.

    Raises:
        StructureError: At a call: the function changes the structure of a node.

    Example:
        >>> from jax.experimental import checkify
        >>> class Counter(gn.Node):
        ...     count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(3)))
        >>> def take(counter):
        ...     checkify.check(counter.count.value > 3, "none left")
        ...     counter.count.value -= 1
        >>> counter = Counter()
        >>> error, _ = gn.checkify(take)(counter)
        >>> error.get(), counter.count.value
        ('none left (`check` failed)', Array(2, dtype=int32))
    """
    if not isinstance(errors, Set):
        raise TypeError(
            wrong_argument(
                "a set of errors second, such as checkify.user_checks",
                errors,
                "gn.checkify",
            )
        )
    target, bound = target_of(f)

    @hides_frames
    @functools.wraps(target)
    def checked_call(*args: Any, **kwargs: Any) -> tuple[jax_checkify.Error, Any]:
        """One call: the error, if any, and the result, once the writes are made."""
        call = Call("checkify", target, args, kwargs)
        pure = functools.partial(call.pure(), call.values, call.other_leaves)
        error, outcome = call.run(checked, pure, errors)
        return error, call.finish(outcome)

    return rebind(checked_call, bound, f, functools.partial(checkify, errors=errors))
