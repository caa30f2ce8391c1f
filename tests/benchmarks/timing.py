"""Time several contenders in interleaved rounds, and compare them round by round.

A machine changes speed while a benchmark runs. Two medians taken one after the other may differ for that
reason alone; two times of the same round hardly do. So a ratio is taken inside each round, and the median
is taken of the ratios.
"""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from typing import TypeAlias

Call: TypeAlias = Callable[[], object]
"""What is timed."""

Prepare: TypeAlias = Callable[[], Call]
"""Makes the next call, outside of the timed part."""

Sampler: TypeAlias = Callable[[], float]
"""Runs one round of one contender and returns the seconds of one call."""

Clock: TypeAlias = Callable[[], float]
"""Seconds from some fixed moment."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: so many rounds, in each of which every contender runs for so many seconds."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Samples:
    """The seconds of one call, per contender and round."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """The median over the rounds, in seconds."""
        return median(self.seconds[name])

    def ratio(self, name: str, baseline: str) -> float:
        """The median over the rounds of this contender's time over the baseline's in the same round."""
        rounds = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return median(own / base for own, base in rounds)

    def difference(self, name: str, baseline: str) -> float:
        """The median over the rounds of this contender's time less the baseline's in the same round, in seconds."""
        rounds = zip(self.seconds[name], self.seconds[baseline], strict=True)
        return median(own - base for own, base in rounds)


def always(call: Call) -> Prepare:
    """Prepare the same call every time."""
    return repeat(call).__next__


def sampler(prepare: Prepare, seconds: float, clock: Clock = time.thread_time) -> Sampler:
    """Warm up, find how many calls take at least `seconds`, and return the sampler of that many.

    By default the seconds are those that this thread runs: what else runs on the machine then hardly counts.
    Give another clock for calls that wait for another thread.
    """
    prepare()()
    calls = 1
    while _time(prepare, calls, clock) < seconds:
        calls *= 2
    return lambda: _time(prepare, calls, clock) / calls


def interleave(samplers: Mapping[str, Sampler], rounds: int) -> Samples:
    """Run every sampler once per round.

    Each round starts with another contender, so that none always runs after the same neighbour.
    """
    names = list(samplers)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            seconds[name].append(samplers[name]())
    return Samples(seconds)


def _time(prepare: Prepare, calls: int, clock: Clock) -> float:
    prepared = [prepare() for _ in range(calls)]
    # The collector stays on: what a contender allocates is part of its cost. The young garbage of the
    # contender before it is not. (A full collection here would cost more than all that is measured.)
    gc.collect(1)
    start = clock()
    for call in prepared:
        call()
    return clock() - start
