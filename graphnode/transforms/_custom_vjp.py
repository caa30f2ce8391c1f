"""`custom_vjp`: a function of nodes with a derivative of its own."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from .._errors import StructureError, TraceError
from .._graph._binding import Binding
from .._graph._binding_cache import binding_of_list
from .._paths import path_str
from .._tracebacks import hides_frames
from ._answers import (
    OfLeaf,
    OfState,
    Shapes,
    Slot,
    answers_of,
    check_shape,
    shapes_of,
    slots_of,
)
from ._arguments import Function, Values, name_of
from ._boundary import Call
from ._carry import writes_of
from ._custom_rules import CustomRule, check_writes, work_later
from ._pure import NO_NODES, Outcome, pure_of
from ._separated import Separated
from ._type_text import pair_text
from ._written import Before

P = ParamSpec("P")
R = TypeVar("R")


class custom_vjp(CustomRule[P, R]):  # JAX's name
    """A function of nodes and arrays whose derivative the caller gives, as `jax.custom_vjp`.

    `defvjp(fwd, bwd)` sets it: `fwd` takes the arguments of the function, and gives its
    result and residuals, which may hold nodes; `bwd` takes the residuals and the
    cotangent of the result, and gives a cotangent for each argument: for a node (or a
    pytree of nodes) a `StateTree` or a nested mapping by path, whole or partial, or
    `None` for zero; for a pytree of nodes and arrays one like it, with these in place
    of its nodes. Arguments count in the order of the signature, defaults too.
    Cotangents for one State, of several arguments or at several paths, are added up.
    States that the function writes are written back, and `fwd` must write the same; no
    gradient flows through what is written.

    Args:
        fun: A function, a method or a callable node.
        nondiff_argnums: Positions of arguments that are not arrays: hashable. `bwd` gets
            them first.
        nondiff_argnames: Their names.

    Raises:
        AttributeError: At a call: `defvjp` was not called.
        FilterError: In the backward pass: a cotangent has a path at which its node has
            no State; names all.
        StructureError: At a call: the function changes the structure of a node, or its
            result holds one.
        TraceError: When it is differentiated: the function and `fwd` write different
            States, or `bwd` writes one.
        TypeError: In the backward pass: `bwd` gives another number of cotangents than
            there are arguments. At a call: an argument is given to a keyword-only
            parameter.

    Example:
        >>> @gn.custom_vjp
        ... def apply(model, x):
        ...     return model(x)
        >>> def forward(model, x):
        ...     return model(x), model
        >>> def backward(model, cotangent):
        ...     return {"weight": jnp.zeros((2, 3)), "bias": 10 * cotangent}, None
        >>> apply.defvjp(forward, backward)
        >>> gn.grad(lambda model: apply(model, jnp.ones(2)).sum())(gn.nn.Linear(2, 3))["bias",].value
        Array([10., 10., 10.], dtype=float32)
    """

    _transform = "custom_vjp"
    _row = "cotangents that bwd gives"
    _rules: tuple[Callable[..., Any], Callable[..., Any]] | None = None

    # Any: residuals and cotangents are pytrees of the caller's; `fwd` and `bwd` take
    # them in an order of their own.
    def defvjp(
        self, fwd: Callable[..., tuple[R, Any]], bwd: Callable[..., tuple[Any, ...]]
    ) -> None:
        """Set the forward and the backward function."""

        @functools.wraps(fwd)
        def forward(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
            """The user's forward function, whose residuals JAX can take: nodes are pytrees in them."""
            result, residuals = fwd(*args, **kwargs)
            return result, Separated.of(residuals)

        self._rules = forward, bwd

    @hides_frames
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._rules is None:
            raise AttributeError(
                f"gn.custom_vjp: no derivative of {name_of(self._target)}: call defvjp(fwd, bwd) first"
            )
        forward, backward = self._rules
        call, positions, static_args = self._call_of(args, kwargs)
        pure = call.pure()
        # `fwd` takes the same arguments, so that the signature of the call is its own
        # too.
        pure_forward = pure_of(dataclasses.replace(call.site, function=forward))
        slots = slots_of(call, positions)
        # The shapes alone: the backward pass may run long after this call, and would
        # keep the values alive.
        value_shapes = list(map(shapes_of, call.values))
        leaf_shapes = list(map(shapes_of, call.other_leaves))
        work = work_later(call)

        def run_forward(values: Values, other_leaves: list[Any]) -> tuple[Outcome, Any]:
            """The user's forward function as JAX calls it: from values and leaves to the outcome and the residuals."""
            written, new_values, (result, residuals) = work(
                pure_forward, values, other_leaves
            )
            by_function = work(writes_of, pure, values, other_leaves)
            check_writes(call, by_function, written.numbers, "fwd")
            return (written, new_values, result), residuals

        def run_backward(residuals: Separated, cotangent: Outcome) -> tuple[Any, Any]:
            """The user's backward function as JAX calls it: from residuals to cotangents of values and leaves.

            `cotangent` has the structure of an outcome. The user's function gets that of the
            result alone, as no gradient flows through what is written.
            """
            # `None` is a cotangent of zero to JAX.
            values: list[Any] = [None] * len(value_shapes)
            other_leaves: list[Any] = [None] * len(leaf_shapes)
            live, roots = residuals.live()
            binding = binding_of_list(roots) if roots else NO_NODES
            before = Before.of(tuple([state._value for state in binding.states]))
            # The residuals may hold arrays of the caller.
            cotangents = call.work(backward, *static_args, live, cotangent[2])
            for answer in _answers_of(call, slots, cotangents):
                if isinstance(answer, OfLeaf):
                    _check_cotangent(call, answer, leaf_shapes[answer.number])
                    other_leaves[answer.number] = answer.value
                else:
                    _check_cotangent(call, answer, value_shapes[answer.number])
                    # Other places may hold the same State.
                    values[answer.number] = _sum(values[answer.number], answer.value)
            _check_residuals(binding, before.written(binding.states))
            return tuple(values), other_leaves

        # Anew at each call: the rules hold this call, whose nodes are the caller's.
        run = jax.custom_vjp(pure)
        run.defvjp(run_forward, run_backward)
        outcome = call.run(run, call.values, call.other_leaves)
        # Before anything is written into the caller's States.
        if outcome[0].has_nodes:
            raise StructureError(
                "gn.custom_vjp differentiates arrays, but the result holds a node"
            )
        return call.finish(outcome)  # type: ignore[no-any-return]  # what the function gave

    def _unbound(self) -> Function:
        """A `custom_vjp` of the plain function with the same rules, which takes the bound node as an argument.

        For `target_of`: to another transform the node must be an argument, not a constant.
        """
        unbound: custom_vjp[..., R] = custom_vjp(self._target, tuple(self._statics[0]))
        unbound._rules = self._rules
        return unbound


def _check_residuals(binding: Binding, written: Sequence[int]) -> None:
    """Raise if `bwd` wrote into a node of the residuals, of which nobody would see it.

    Raises:
        TraceError: Names all that it wrote.
    """
    if written:
        places = ", ".join(
            path_str(binding.graphdef.layout.path(number)) for number in written
        )
        raise TraceError(
            f"gn.custom_vjp: bwd writes into its residuals ({places}), and the write would be lost: bwd gives "
            "cotangents alone. Write in the function and in fwd"
        )


def _answers_of(
    call: Call, slots: Sequence[Slot], cotangents: Any
) -> Iterator[OfState | OfLeaf]:
    """For each State and leaf that a cotangent of `bwd` mentions: the State or leaf, and its cotangent.

    Raises:
        FilterError, ValueError: As of `answers_of`.
        TypeError: There is not one cotangent for each argument.
    """
    if not isinstance(cotangents, tuple) or len(cotangents) != len(slots):
        raise TypeError(
            f"gn.custom_vjp: bwd gives a cotangent for each of the {len(slots)} arguments; "
            f"found {pair_text(cotangents)}"
        )
    for slot, cotangent in zip(slots, cotangents, strict=True):
        if cotangent is not None:
            yield from answers_of(call, "cotangent", slot, cotangent, none_is_zero=True)


def _check_cotangent(call: Call, answer: OfState | OfLeaf, shapes: Shapes) -> None:
    """Raise if a cotangent is not of the shape of its State or leaf; JAX's own error would not name it.

    Raises:
        ValueError: It is not; names the State or leaf.
    """
    # `None` stands for zero, also in a container.
    leaves = jax.tree.leaves(answer.value, is_leaf=_is_none)
    if not any(map(_is_none, leaves)):
        check_shape(call, "cotangent", answer, shapes)


def _is_none(leaf: Any) -> bool:
    """For `is_leaf`: `None` is a cotangent of zero here, where JAX sees a pytree without leaves."""
    return leaf is None


def _sum(left: Any, right: Any) -> Any:
    """The sum of two cotangents of one State, which `bwd` gave at two places of it; `None` stands for zero."""
    if left is None or right is None:
        return right if left is None else left
    return jax.tree.map(_sum_of_leaves, left, right, is_leaf=_is_none)


def _sum_of_leaves(left: Any, right: Any) -> Any:
    """The sum of two cotangents of one array, in either of which `None` stands for zero."""
    if left is None or right is None:
        return right if left is None else left
    # The cotangent of an integer, of a type that JAX does not add: there is but one,
    # zero.
    return left if jnp.result_type(left) == jax.dtypes.float0 else jnp.add(left, right)
