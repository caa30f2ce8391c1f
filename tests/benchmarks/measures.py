"""What a figure is: its contenders and limits, how it is measured, and the rows that this gives."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

from .library import GRAPHNODE, JAX, Library
from .timing import Clock, Prepare, Sampler, interleave, sampler
from .workbench import Workbench

Samplers: TypeAlias = Callable[[Workbench], Mapping[str, Sampler]]
PrepareFor: TypeAlias = Callable[[Workbench, Library], Prepare | None]


@dataclass(frozen=True)
class Limit:
    """`subject` may take at most `most` times what `against` takes (`when_large` times at 100,000 States)."""

    most: float
    against: str = JAX
    subject: str = GRAPHNODE
    when_large: float | None = None

    def at(self, large: bool) -> float:
        """The limit at the figure's own depth, or at 100,000 States."""
        return self.most if self.when_large is None or not large else self.when_large


@dataclass(frozen=True)
class Result:
    """One row of the report."""

    figure: str
    title: str
    states: int
    """How many States the model has; for configurations, how many nodes or classes there are."""
    value: float
    """A median of the ratios of the rounds, or a count, or seconds per State (or what `per` says)."""
    against: str | None
    """What the ratio is to; `None` for a count, or seconds per State."""
    limit: float | None
    """`None` where the row is only for information."""
    measured: Mapping[str, float]
    """The median seconds (or the count) of every contender."""
    is_count: bool = False
    """Whether `measured` are counts."""
    per: str = "State"
    """What the seconds are divided by, where there is no ratio."""

    @property
    def holds(self) -> bool | None:
        """Whether the value keeps the limit; `None` if it has none."""
        return None if self.limit is None else self.value <= self.limit


def record_of(result: Result) -> dict[str, object]:
    """A result for programs."""
    return {**asdict(result), "holds": result.holds}


def as_result(record: Mapping[str, Any]) -> Result:
    """The result that a record was made of."""
    return Result(**{name: value for name, value in record.items() if name != "holds"})


class Figure(Protocol):
    """What the benchmark measures, at its own depth and, if it scales, at other sizes."""

    @property
    def name(self) -> str: ...
    @property
    def scales(self) -> bool: ...
    @property
    def most_states(self) -> int | None: ...
    def measure(self, bench: Workbench, *, large: bool = False) -> list[Result]: ...


@dataclass(frozen=True)
class Timed:
    """A figure that compares times."""

    name: str
    title: str
    samplers: Samplers
    limits: tuple[Limit, ...]
    scales: bool = False
    """Whether it is also measured at other sizes."""
    most_states: int | None = None
    """The largest other size, where a larger one would take too long."""
    rounds: int | None = None
    """How many rounds at most, where one is slow."""
    depth: int | None = None
    """The depth of the model, where it is not the benchmark's."""

    def measure(self, bench: Workbench, *, large: bool = False) -> list[Result]:
        """Measure all contenders, and return a row for each limit whose baseline took part."""
        if self.depth is not None:
            bench = Workbench(self.depth, bench.libraries, bench.effort)
        rounds = min(bench.effort.rounds, self.rounds or bench.effort.rounds)
        samples = interleave(self.samplers(bench), rounds)
        medians = {name: samples.median(name) for name in samples.seconds}
        return [
            Result(
                figure=self.name,
                title=self.title,
                states=bench.states,
                value=samples.ratio(limit.subject, limit.against),
                against=limit.against,
                limit=limit.at(large),
                measured=medians,
            )
            for limit in self.limits
            if limit.against in medians
        ]


@dataclass(frozen=True)
class Counted:
    """A figure that counts."""

    name: str
    title: str
    count: Callable[[Workbench, Library], int]
    most: int
    scales: bool = False
    most_states: int | None = None

    def measure(self, bench: Workbench, *, large: bool = False) -> list[Result]:
        """Count for every library, and return one row."""
        counts = {library.name: float(self.count(bench, library)) for library in bench.libraries}
        value = counts[GRAPHNODE]
        return [Result(self.name, self.title, bench.states, value, None, self.most, counts, is_count=True)]


def each_library(prepare_for: PrepareFor, clock: Clock = time.thread_time) -> Samplers:
    """Samplers for the libraries for which `prepare_for` returns something."""

    def samplers(bench: Workbench) -> Mapping[str, Sampler]:
        prepared = {library.name: prepare_for(bench, library) for library in bench.libraries}
        seconds = bench.effort.seconds
        return {name: sampler(prepare, seconds, clock) for name, prepare in prepared.items() if prepare}

    return samplers
