"""`capture_grads`: the gradient of a loss with respect to what selected nodes give.

Zeros are added to what a node gives, by a tap, and these are what is differentiated:

    blocks.3 ──► y ──► y + zeros ──► the rest of the function ──► loss
                         ▲                                          │
                         └──────────────── gradient ◄───────────────┘
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar, overload

import jax
import jax.numpy as jnp

from .._compat import zeros_of
from .._describe import describe
from .._paths import Path
from ._capture import CallSelector, Gives
from ._captured import Captured
from ._choice import Place
from ._taps import Arrays
from ._type_text import type_text
from ._watch import Watch, is_of_arrays, with_arrays
from ._watched import Chosen, watched_at
from ._watching import WatchedTrace

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@overload
def capture_grads(
    fun: Callable[P, R],
    selection: type[Gives[T]] | Iterable[tuple[Path, Gives[T]]],
    *,
    missing_ok: bool = ...,
) -> Callable[P, tuple[R, Captured[T], Captured[T]]]: ...
# Any: a path does not say what the node there gives.
@overload
def capture_grads(
    fun: Callable[P, R],
    selection: CallSelector,
    *,
    method: str = ...,
    missing_ok: bool = ...,
) -> Callable[P, tuple[R, Captured[Any], Captured[Any]]]: ...
# Any: one of the above.
def capture_grads(
    fun: Callable[P, R],
    selection: Any,
    *,
    method: str = "__call__",
    missing_ok: bool = False,
) -> Callable[P, tuple[R, Captured[Any], Captured[Any]]]:
    """A function that gives, beside a loss, what selected nodes return, and the gradients with respect to that.

    Args:
        fun: A function, a method or a callable node that returns one real number.
        selection: Which nodes, as for `capture`.
        method: The name of the method whose results are meant.
        missing_ok: Whether selected nodes need not be called.

    Returns:
        A function with the arguments of `fun` that gives the result of `fun`, what the
        nodes returned, and the gradients of the one with respect to the other: for each
        round of a loop and each call its own. `None` stands for the gradient of what is
        not of a floating or complex dtype.

    Raises:
        TypeError: At a call: `fun` does not return one real number.
        CaptureError: At a call: as of `capture`; or a node is called in a function with a
            derivative rule of its own, under `jacfwd` or `hessian`, or where a gradient
            inside of `fun` computes it again and JAX does not say for which call.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> def loss(model, x):
        ...     return model(x).sum()
        >>> value, seen, grads = gn.capture_grads(loss, "layers.*")(model, jnp.ones((1, 2)))
        >>> grads["layers.1"]
        Array([[1., 1., 1.]], dtype=float32)

    See also: `grad`, of States and arguments.
    """
    choice = Chosen(selection, method, missing_ok)
    return watched_at(  # type: ignore[no-any-return]  # as annotated
        fun, choice, "capture_grads", capture_grads, _Perturbing, _with_gradients
    )


def _with_gradients(trace: WatchedTrace, arguments: list[Any], put: None) -> Any:
    """The outcome, what was taken, and the gradients with respect to it."""
    program = trace.program
    _check_shapes(trace)

    def loss(added: Sequence[Arrays]) -> tuple[Any, Any]:
        """The result of the function, and all that the program gives."""
        outputs, taken = program(arguments, added)
        outcome = trace.unflattened(outputs)
        return _real_number(outcome[2]), (outcome, taken)

    zeros = [list(map(zeros_of, found.avals)) for found in program.put]
    # Not by `jax.grad`, which takes no complex arrays.
    value, pullback, (outcome, taken) = jax.vjp(loss, zeros, has_aux=True)
    (gradients,) = pullback(jnp.ones_like(value))
    seen = trace.watch.captured(program.taken, taken)
    return outcome, seen, trace.watch.captured(program.put, gradients)


def _check_shapes(trace: WatchedTrace) -> None:
    """Raise if there would be gradients of other shapes than what was captured.

    Raises:
        CaptureError: Names the nodes.
    """
    watch, program = trace.watch, trace.program
    seen = watch.results(program.taken, [found.avals for found in program.taken])
    added = watch.results(program.put, [found.avals for found in program.put])
    faults = [
        f"{place.text} has not the same axes in the gradients as in what is captured; use it outside of inner gradients"
        for place, results in seen.items()
        if not _have_shapes_of(added.get(place, ()), results)
    ]
    if faults:
        raise watch.error(*faults)


def _have_shapes_of(gradients: Sequence[Any], results: Sequence[Any]) -> bool:
    """Whether gradients, as types, have the shapes of results, wherever they are not `None`."""
    if len(gradients) != len(results):
        return False
    is_alike = jax.tree.map(
        lambda gradient, result: gradient is None or gradient.shape == result.shape,
        list(gradients),
        list(results),
        is_leaf=lambda leaf: leaf is None,
    )
    return all(jax.tree.leaves(is_alike))


def _real_number(result: Any) -> Any:
    """The result of a function that is differentiated.

    Raises:
        TypeError: It is not one real number.
    """
    if isinstance(result, jax.Array | float):
        dtype = jnp.asarray(result).dtype
        if jnp.issubdtype(dtype, jnp.floating) and jnp.ndim(result) == 0:
            return result
    found = type_text(result) if is_of_arrays(result) else describe(result)
    raise TypeError(
        f"gn.capture_grads: the function must return one real number; found {found}"
    )


class _Perturbing(Watch):
    """Takes what selected nodes give, and lets something be added to it: for derivatives with respect to it."""

    def _through(
        self, place: Place, result: Any, leaves: list[Any], treedef: Any
    ) -> Any:
        # Where there is no derivative, `None` stands in the tree, which has no leaf.
        tree = jax.tree.unflatten(
            treedef, [leaf if _is_float(leaf) else None for leaf in leaves]
        )
        floats, floats_treedef = jax.tree.flatten(tree)
        sums = iter(self.tap(place, floats_treedef, floats, adds=True))
        # A number of Python, too, or what follows from it would not depend on it.
        results = [next(sums) if _is_float(leaf) else leaf for leaf in leaves]
        return with_arrays(treedef, results, self.tap(place, treedef, results))


def _is_float(leaf: Any) -> bool:
    """Whether there are derivatives with respect to a leaf of a result."""
    return bool(jnp.issubdtype(jax.typeof(leaf).dtype, jnp.inexact))
