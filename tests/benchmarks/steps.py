"""The steps that are compiled: which States each reads and writes, and what it computes.

The same in every library, and so cheap that only what surrounds it costs anything. The graph libraries and
equinox give a model the same attributes, so `arrays_in` serves them all.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

GN_JIT = "`gn.jit`"
JAX_TUPLE = "`jax.jit`, flat tuple"
JAX_DICT = "`jax.jit`, nested dicts"
NNX_JIT = "`nnx.jit`"
NNX_JIT_PARTIAL = "`nnx.jit_partial`"
NNX_CACHED_PARTIAL = "`nnx.cached_partial`"
BRAINSTATE_JIT = "brainstate's `jit`"
FILTER_JIT = "`eqx.filter_jit`"

WAYS = (GN_JIT, JAX_TUPLE, JAX_DICT, NNX_JIT, NNX_JIT_PARTIAL, NNX_CACHED_PARTIAL, BRAINSTATE_JIT, FILTER_JIT)
"""All ways to compile a step, in the order of the columns of the page."""


class Step(Enum):
    """A computation on the whole model."""

    ALL = "every State moves: `x * 0.5 + 1`"
    ONE = "the counter moves, nothing else is read"
    TOTAL = "the counter moves by the sum of all States"
    TRAIN = "forward, backward, gradient descent and running statistics"


def advance(x: Any) -> Any:
    """The new value of an array; repeated, it stays finite and normal."""
    return x * 0.5 + 1


def advance_by(x: Any, arrays: Iterable[Any]) -> Any:
    """The new value of an array, made of all."""
    return (x - x) + advance(sum(arrays) * 0.001)


def arrays_in(model: Any) -> list[Any]:
    """All arrays (or the States that hold them), the counter last."""
    layers = [(block.linear, block.norm) for block in model.blocks]
    rows = [(linear.w, linear.b, norm.scale, norm.bias, norm.mean, norm.var) for linear, norm in layers]
    return [*[array for row in rows for array in row], model.counter]


def stateful(step: Step, get: Callable[[Any], Any], put: Callable[[Any, Any], None]) -> Callable[[Any], None]:
    """The step as a new function that writes into a model whose arrays are read and written by `get` and `put`."""

    def advance_all(model: Any) -> None:
        for state in arrays_in(model):
            put(state, advance(get(state)))

    def advance_one(model: Any) -> None:
        put(model.counter, advance(get(model.counter)))

    def advance_total(model: Any) -> None:
        put(model.counter, advance_by(get(model.counter), [get(state) for state in arrays_in(model)]))

    return {Step.ALL: advance_all, Step.ONE: advance_one, Step.TOTAL: advance_total}[step]


def forward(x: Any, w: Any, b: Any, scale: Any, bias: Any, mean: Any, var: Any) -> tuple[Any, Any, Any]:
    """One block: its output, and its new mean and variance."""
    h = x * w + b
    deviation = h - mean
    y = deviation * (var + 1e-5) ** -0.5 * scale + bias
    return x + 0.1 * y, 0.9 * mean + 0.1 * h, 0.9 * var + 0.1 * deviation * deviation


def loss_of(x: Any) -> Any:
    """How far the last output is from what is wanted."""
    return (x - 1.0) ** 2


def descend(param: Any, gradient: Any) -> Any:
    """A param after one step of gradient descent."""
    return param - 0.01 * gradient
