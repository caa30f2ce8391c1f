"""The figures of a LLaMA-like model: logits, a step of training, and one of decoding, beside JAX by hand and peers."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import jax
import jax.numpy as jnp

from .llama import BY_HAND, GN_LLAMA, LlamaSizes, MakesRunner, Runner, llama_batch, llama_weights
from .measures import Result
from .model_figures import operations_in
from .step_figures import costs_of
from .timing import Call, Effort, Prepare, Samples, always, interleave, sampler
from .transformer import Lowered

_MOST: Final = 1.05
"""Of the time of the hand-written program."""
_MOST_ON_HOST: Final = 0.8
"""Of the time that the best peer's call keeps Python busy."""


def measure_llama(runners: Mapping[str, MakesRunner], effort: Effort, sizes: LlamaSizes) -> list[Result]:
    """All figures."""
    weights, batch = llama_weights(sizes), llama_batch(sizes)
    made = {name: make(sizes, weights, batch) for name, make in runners.items()}
    states = len(jax.tree.leaves(weights))
    return [*_counts(made, states), *_times(made, effort, sizes, states)]


def _counts(runners: Mapping[str, Runner], states: int) -> Iterator[Result]:
    """What is lowered and compiled, beside what is written by hand."""
    lowers: dict[str, Callable[[Runner], Lowered]] = {
        "the logits": lambda runner: runner.lower_forward(),
        "a step of training": lambda runner: runner.lower_step(),
        "a step of decoding": lambda runner: runner.decoder.lower(),
    }
    for title, lower in lowers.items():
        print(f"llama: what is compiled for {title}", flush=True)
        numbers = {name: _size_of(lower(runner)) for name, runner in runners.items()}
        for what in numbers[GN_LLAMA]:
            measured = {name: each[what] for name, each in numbers.items()}
            ratio = measured[GN_LLAMA] / measured[BY_HAND]
            yield Result("llama-compiled", f"{what} of {title}", states, ratio, BY_HAND, 1.0, measured, is_count=True)


def _size_of(lowered: Lowered) -> dict[str, float]:
    """Operations of the program, and operations on numbers and bytes of what XLA makes of it."""
    costs = costs_of(lowered.compile())
    text = float(operations_in(lowered.as_text()))
    return {"operations": text, "flops": costs["operations"], "bytes": costs["bytes"]}


def _times(runners: Mapping[str, Runner], effort: Effort, sizes: LlamaSizes, states: int) -> Iterator[Result]:
    """How long each takes, and how long a call of the decoder keeps Python busy."""

    def timed(title: str, prepares: Mapping[str, Prepare]) -> Samples:
        print(f"llama: the time of {title}", flush=True)
        samplers = {name: sampler(prepare, effort.seconds, time.perf_counter) for name, prepare in prepares.items()}
        return interleave(samplers, effort.rounds)

    calls: dict[str, Callable[[Runner], Prepare]] = {
        "the logits": lambda runner: always(_ended(runner.forward)),
        "a step of training": lambda runner: always(_ended(runner.step)),
        "a step of decoding": lambda runner: _decoding(runner, sizes, waits=True),
    }
    for title, prepare in calls.items():
        samples = timed(title, {name: prepare(runner) for name, runner in runners.items()})
        yield _row("llama-time", title, states, samples, BY_HAND, _MOST)
    print("llama: how long decoding keeps Python busy", flush=True)
    samplers = {
        name: sampler(_decoding(runner, sizes, waits=False), effort.seconds / 4) for name, runner in runners.items()
    }
    samples = interleave(samplers, effort.rounds)
    peers = [name for name in runners if name not in (GN_LLAMA, BY_HAND)]
    best = min(peers, key=samples.median, default=BY_HAND)
    yield _row("llama-host", "Python's time of a step of decoding", states, samples, best, _MOST_ON_HOST)


def _row(figure: str, title: str, states: int, samples: Samples, against: str, most: float) -> Result:
    ratio = samples.ratio(GN_LLAMA, against)
    measured = {name: samples.median(name) for name in samples.seconds}
    return Result(figure, title, states, ratio, against, most, measured)


def _ended(call: Callable[[], jax.Array]) -> Call:
    return lambda: call().block_until_ready()


def _decoding(runner: Runner, sizes: LlamaSizes, *, waits: bool) -> Prepare:
    """A step, in a text that is begun again before it would be full."""
    token = jnp.zeros((sizes.batch, 1), jnp.int32)
    decoder = runner.decoder
    prepared = 0

    def call() -> object:
        logits = decoder.step(token)
        return logits.block_until_ready() if waits else logits

    def prepare() -> Call:
        nonlocal prepared
        # All calls of a round are prepared before the first one is made.
        if prepared % (sizes.room // 2) == 0:
            decoder.reset()
        prepared += 1
        return call

    return prepare
