"""The figures of compiled steps: one call, what of it is Python, tracing, and what is compiled."""

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax

from .library import GRAPHNODE, JAX, Library
from .measures import Figure, Limit, Result, Samplers, Timed, each_library
from .steps import (
    BRAINSTATE_JIT,
    FILTER_JIT,
    GN_JIT,
    JAX_DICT,
    JAX_TUPLE,
    NNX_CACHED_PARTIAL,
    NNX_JIT,
    NNX_JIT_PARTIAL,
    Step,
)
from .timing import Call, Effort, Prepare, Sampler, always, interleave, sampler
from .workbench import Workbench, depth_for

_PEERS = (NNX_JIT, NNX_JIT_PARTIAL, NNX_CACHED_PARTIAL, BRAINSTATE_JIT, FILTER_JIT)
_MOST_STATES = 10_000
_TRACING_ROUNDS = 11
_LONGER = 10
"""How many times longer a sample is for a small difference of two times: it is steadier, and the caches are warm."""
_DONATED = "with the old values donated"


def one_step(step: Step, *ways: str) -> Samplers:
    """Samplers of one call, for these ways to compile the step, or for all."""

    def samplers(bench: Workbench) -> Mapping[str, Sampler]:
        return {
            name: sampler(always(make(library.build(bench.arrays), step)), bench.effort.seconds, time.perf_counter)
            for library in bench.libraries
            for name, make in library.steps.items()
            if not ways or name in ways
        }

    return samplers


def dispatching(step: Step) -> Samplers:
    """Samplers of one call that nobody waits for."""

    def samplers(bench: Workbench) -> Mapping[str, Sampler]:
        return {
            name: sampler(always(make(library.build(bench.arrays), step)), bench.effort.seconds, time.perf_counter)
            for library in bench.libraries
            for name, make in library.dispatches.items()
        }

    return samplers


def tracing(step: Step) -> Samplers:
    """Samplers of tracing anew; by the name of the way to compile that would do it."""

    def prepare(bench: Workbench, library: Library) -> Prepare | None:
        trace = library.trace
        if trace is None:
            return None

        def collected() -> Call:
            # A full collection of all that the benchmark holds takes longer than a trace, and comes every few traces:
            # always in the turn of the same contender.
            gc.collect()
            return trace(bench.model(library), step)

        return collected

    def samplers(bench: Workbench) -> Mapping[str, Sampler]:
        found = each_library(prepare)(bench)
        return {GN_JIT: found[GRAPHNODE], JAX_DICT: found[JAX]}

    return samplers


@dataclass(frozen=True)
class PythonTime:
    """What a call of `gn.jit` takes beyond that of `jax.jit` on the flat tuple, per State."""

    name: str
    title: str
    step: Step
    scales: bool = True
    most_states: int | None = _MOST_STATES

    def measure(self, bench: Workbench, *, large: bool = False) -> list[Result]:
        """One row, without limit."""
        bench = Workbench(bench.depth, _two(bench), _longer(bench.effort))
        samples = interleave(one_step(self.step, GN_JIT, JAX_TUPLE)(bench), bench.effort.rounds)
        value = samples.difference(GN_JIT, JAX_TUPLE) / bench.states
        medians = {name: samples.median(name) for name in samples.seconds}
        return [Result(self.name, self.title, bench.states, value, None, None, medians)]


@dataclass(frozen=True)
class Constant:
    """Whether a step that touches one State takes as long in a model of any size: at one size, over a smaller one."""

    name: str
    title: str
    step: Step
    sizes: tuple[int, int]
    most: float
    scales: bool = False
    most_states: int | None = None

    def measure(self, bench: Workbench, *, large: bool = False) -> list[Result]:
        """One row."""
        few, many = [Workbench(depth_for(states), _two(bench), bench.effort) for states in self.sizes]
        at_few = one_step(self.step, GN_JIT)(few)[GN_JIT]
        at_many = one_step(self.step, GN_JIT)(many)[GN_JIT]
        samples = interleave({"few": at_few, GN_JIT: at_many}, bench.effort.rounds)
        value = samples.ratio(GN_JIT, "few")
        return [
            Result(self.name, self.title, many.states, value, "itself", self.most, {GN_JIT: samples.median(GN_JIT)})
        ]


@dataclass(frozen=True)
class Compiled:
    """What XLA says of the compiled step, beside the same of the hand-written one: no more may be needed."""

    name: str
    title: str
    step: Step
    scales: bool = False
    most_states: int | None = None
    depth: int | None = None
    """The depth of the model, where it is not the benchmark's."""

    def measure(self, bench: Workbench, *, large: bool = False) -> list[Result]:
        """A row for the operations, and one for the memory."""
        if self.depth is not None:
            bench = Workbench(self.depth, bench.libraries, bench.effort)
        compiled = {
            way: library.compile(bench.model(library), self.step)
            for way, library in _ways(bench).items()
            if library.compile is not None
        }
        numbers = {way: costs_of(each) for way, each in compiled.items()}
        return [
            Result(
                figure=self.name,
                title=f"{what} of {self.title}",
                states=bench.states,
                value=numbers[GN_JIT][what] / numbers[JAX_DICT][what],
                against=JAX_DICT,
                limit=1,
                measured={way: each[what] for way, each in numbers.items()},
                is_count=True,
            )
            for what in numbers[GN_JIT]
        ]


def costs_of(compiled: jax.stages.Compiled) -> dict[str, float]:
    """The operations of a compiled function, and the bytes that it needs at once."""
    analysis, memory = compiled.cost_analysis(), compiled.memory_analysis()
    assert analysis is not None
    assert memory is not None
    # What is donated is counted as an argument and as a result. Not every JAX tells the peak itself.
    needed = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return {"operations": float(analysis["flops"]), "bytes": float(needed)}


def _longer(effort: Effort) -> Effort:
    return Effort(effort.rounds, _LONGER * effort.seconds)


def _two(bench: Workbench) -> list[Library]:
    return [library for library in bench.libraries if library.name in (GRAPHNODE, JAX)]


def _ways(bench: Workbench) -> dict[str, Library]:
    libraries = {library.name: library for library in bench.libraries}
    return {GN_JIT: libraries[GRAPHNODE], JAX_DICT: libraries[JAX]}


def _limits(flat: float, *others: Limit, brainstate: float = 1) -> tuple[Limit, ...]:
    faster = [Limit(brainstate if peer == BRAINSTATE_JIT else 1, peer, GN_JIT) for peer in _PEERS]
    return (Limit(flat, JAX_TUPLE, GN_JIT), *others, *faster)


STEP_FIGURES: tuple[Figure, ...] = (
    Timed(
        "step-all",
        "a step that writes all",
        one_step(Step.ALL),
        _limits(1.05, Limit(1, JAX_DICT, GN_JIT)),
    ),
    Timed("step-one", "a step that reads and writes one", one_step(Step.ONE), _limits(1, brainstate=0.5)),
    Timed("step-one-7", "a step that reads and writes one", one_step(Step.ONE), _limits(1.5), depth=1),
    Timed("step-one-61", "a step that reads and writes one", one_step(Step.ONE), _limits(1.3), depth=10),
    Timed(
        "dispatch-7",
        "a step that reads and writes one, which nobody waits for",
        dispatching(Step.ONE),
        (Limit(1.8, JAX_TUPLE, GN_JIT),),
        depth=1,
    ),
    Timed("step-total", "a step that reads all and writes one", one_step(Step.TOTAL), _limits(1.08)),
    Timed("step-total-7", "a step that reads all and writes one", one_step(Step.TOTAL), _limits(1.8), depth=1),
    Timed("step-total-61", "a step that reads all and writes one", one_step(Step.TOTAL), _limits(1.5), depth=10),
    PythonTime("python-one", "Python in a step that reads and writes one", Step.ONE),
    PythonTime("python-all", "Python in a step that writes all", Step.ALL),
    Constant(
        "step-one-constant",
        "a step that reads and writes one, over the same in a model of 13 States",
        Step.ONE,
        (13, _MOST_STATES),
        1.5,
    ),
    Timed(
        "trace",
        "tracing a step that writes all",
        tracing(Step.ALL),
        (Limit(1.2, JAX_DICT, GN_JIT),),
        rounds=_TRACING_ROUNDS,
    ),
    Timed(
        "trace-train",
        "tracing a training step",
        tracing(Step.TRAIN),
        (Limit(1.2, JAX_DICT, GN_JIT),),
        rounds=_TRACING_ROUNDS,
    ),
    Compiled("compiled", f"a compiled step that writes all, {_DONATED}", Step.ALL),
    # XLA takes minutes for a hundred blocks of scalars: it fuses them all into one.
    Compiled("compiled-train", f"a compiled training step, {_DONATED}", Step.TRAIN, depth=10),
)
