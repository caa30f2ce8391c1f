"""The figure of models: a training step of a transformer, in each library's own ways to compile it."""

import gc
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import jax

from .library import GRAPHNODE
from .measures import Result
from .step_figures import costs_of
from .timing import Effort, always, interleave, sampler
from .transformer import GN_TRAIN, Makes, Sizes, Trainer, batch_of, weights_of

MODEL_STEP: Final = "model-step"
"""The name of the figure, on the command line."""
_MOST: Final = 1.05
_FIRST_ROUNDS: Final = 3


@dataclass(frozen=True)
class Trained:
    """One way to train in the table: medians in seconds, and how large what is lowered and compiled is."""

    name: str
    step: float
    ratio: float
    """Of the time of a step to that of graphnode in the same round, the median over the rounds."""
    first: float
    """From a model to the end of its first step: tracing, lowering, compiling and the step."""
    trace: float
    lower: float
    """Tracing and lowering."""
    text: float
    """Bytes of the StableHLO text."""
    operations: float
    """Operations in it; a call counts as what it calls."""
    flops: float
    """Operations on numbers, as XLA counts them in what it compiled."""
    bytes: float
    """Memory that the compiled step needs at once."""


def measure_models(ways: Mapping[str, Makes], effort: Effort, sizes: Sizes) -> tuple[list[Result], list[Trained]]:
    """Train with every way: a row against the fastest peer, and the table."""
    weights, batch = weights_of(sizes), batch_of(sizes)

    def fresh(name: str) -> Trainer:
        return ways[name](sizes, weights, batch)

    trainers = {name: fresh(name) for name in ways}
    for name, trainer in trainers.items():
        print(f"models: {name}, loss {float(trainer.step()):.4f} before the first step", flush=True)
    calls = {name: ended(trainer.step) for name, trainer in trainers.items()}
    samplers = {name: sampler(always(call), effort.seconds, time.perf_counter) for name, call in calls.items()}
    steps = interleave(samplers, effort.rounds)
    peers = [name for name in ways if name != GN_TRAIN]
    fastest = min(peers, key=steps.median, default=None)

    rounds = min(effort.rounds, _FIRST_ROUNDS)
    firsts = _once(ways, rounds, lambda name: ended(fresh(name).step))
    traces = _once(ways, rounds, lambda name: fresh(name).trace)
    lowers = _once(ways, rounds, lambda name: fresh(name).lower)

    table: list[Trained] = []
    for name in ways:
        lowered = fresh(name).lower()
        text, costs = lowered.as_text(), costs_of(lowered.compile())
        table.append(
            Trained(
                name=name,
                step=steps.median(name),
                ratio=steps.ratio(name, GN_TRAIN),
                first=firsts[name],
                trace=traces[name],
                lower=lowers[name],
                text=float(len(text.encode())),
                operations=float(operations_in(text)),
                flops=costs["operations"],
                bytes=costs["bytes"],
            )
        )
    if fastest is None:
        return [], table
    row = Result(
        figure=MODEL_STEP,
        title="a training step of a transformer, over that of the fastest peer",
        states=sum(one.size for one in jax.tree.leaves(weights)),
        value=steps.ratio(GN_TRAIN, fastest),
        against=fastest,
        limit=_MOST,
        measured={GRAPHNODE: steps.median(GN_TRAIN), fastest: steps.median(fastest)},
    )
    return [row], table


def ended(step: Callable[[], jax.Array]) -> Callable[[], object]:
    """The step, and the wait for its end: all results of a compiled function are ready at once."""
    return lambda: step().block_until_ready()


def _once(names: Mapping[str, Any], rounds: int, prepare: Callable[[str], Callable[[], object]]) -> dict[str, float]:
    """The median seconds of a call that is prepared anew for each round, as it can only be made once."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    # One round more, which does not count: what JAX keeps of its own functions is made by whoever comes first.
    for _ in range(rounds + 1):
        for name in names:
            call = prepare(name)
            gc.collect()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(found[1:]) for name, found in seconds.items()}


_FUNCTION = re.compile(r"func\.func (?:public |private )?@([\w.]+)")
_CALL = re.compile(r"\bcall @([\w.]+)")
_OPERATION = re.compile(r"\b(?:stablehlo|chlo)\.\w+")


def operations_in(text: str) -> int:
    """The operations of a StableHLO module, of which each call of a function counts as what it calls."""
    own: Counter[str] = Counter()
    calls: dict[str, Counter[str]] = {}
    name = ""
    for line in text.splitlines():
        if found := _FUNCTION.search(line):
            name = found[1]
            calls[name] = Counter()
        elif found := _CALL.search(line):
            calls[name][found[1]] += 1
        elif name:
            own[name] += _OPERATION.search(line) is not None

    def total(name: str) -> int:
        return own[name] + sum(many * total(called) for called, many in calls[name].items())

    return total("main")
