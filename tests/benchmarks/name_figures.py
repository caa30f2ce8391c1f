"""What the names of nodes cost: a transformer is traced with and without them, and a layer is called."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Final
from unittest import mock

import jax
import jax.numpy as jnp

import graphnode as gn

from .library import GRAPHNODE
from .measures import Result
from .timing import Call, Effort, Sampler, Samples, always, interleave, sampler

WITHOUT: Final = "without names"
_NAMING: Final = "graphnode.transforms._pure.naming"
_MOST_TRACING: Final = 1.05
_MOST_CALL: Final = 1.05
_LAYERS: Final = 4
_WIDTH: Final = 16


def measure_names(effort: Effort) -> list[Result]:
    """All figures."""
    model = _transformer()
    x = jnp.ones((2, 5, _WIDTH))
    states = len(gn.states(model))
    return [
        _result("trace the gradient of a transformer", states, _tracing(effort, model, x), _MOST_TRACING),
        _result("call of a layer outside of a trace", 2, _calls(effort), _MOST_CALL),
    ]


def _transformer() -> gn.nn.TransformerStack:
    blocks: list[gn.nn.Block] = [gn.nn.TransformerBlock(_WIDTH, 2, is_causal=True) for _ in range(_LAYERS)]
    return gn.nn.TransformerStack(blocks, norm=gn.nn.LayerNorm(_WIDTH))


def _tracing(effort: Effort, model: gn.nn.TransformerStack, x: jax.Array) -> Samples:
    def loss(model: gn.nn.TransformerStack, x: jax.Array) -> jax.Array:
        return jnp.mean(model(x) ** 2)

    trace = gn.make_jaxpr(gn.grad(loss))

    def with_names() -> None:
        trace(model, x)

    def without_names() -> None:
        with mock.patch(_NAMING, return_value=nullcontext()):
            trace(model, x)

    samplers = {GRAPHNODE: _sampler(with_names, effort), WITHOUT: _sampler(without_names, effort)}
    return interleave(samplers, effort.rounds)


def _calls(effort: Effort) -> Samples:
    """Calls of two equal classes: nodes of one have been traced before."""
    traced, untouched = _new_class()(), _new_class()()
    gn.eval_shape(traced, 1.0)
    samplers = {GRAPHNODE: _sampler(_calling(traced), effort), WITHOUT: _sampler(_calling(untouched), effort)}
    return interleave(samplers, effort.rounds)


def _new_class() -> Callable[[], Callable[[float], float]]:
    class Identity(gn.Node):
        def __call__(self, x: float) -> float:
            return x

    return Identity


def _calling(node: Callable[[float], float]) -> Call:
    return lambda: [node(1.0) for _ in range(100)]


def _sampler(call: Call, effort: Effort) -> Sampler:
    return sampler(always(call), effort.seconds)


def _result(title: str, states: int, samples: Samples, most: float) -> Result:
    measured = {name: samples.median(name) for name in (GRAPHNODE, WITHOUT)}
    return Result("names", title, states, samples.ratio(GRAPHNODE, WITHOUT), WITHOUT, most, measured)
