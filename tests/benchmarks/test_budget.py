"""Limits on the work of the graph operations, counted in calls, so that a regression fails the tests.

`make bench` compares times, which a busy machine would falsify here.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import pytest

import graphnode as gn
from tests.work import calls_of

from .figures import FIGURES
from .library import GRAPHNODE, JAX, load
from .measures import Figure, Result
from .timing import Effort
from .workbench import Workbench

_FIGURES: dict[str, Figure] = {figure.name: figure for figure in FIGURES}


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Workbench:
    """A model of depth 100 in graphnode and in plain JAX."""
    if request.config.getoption("--runtime-types", default=False):
        pytest.skip("runtime type checks cost more than what is measured")
    return Workbench(100, load(GRAPHNODE, JAX), Effort(rounds=15, seconds=0.002))


# The operation, the most calls of it for 20 States, and the most for each further State.
OPERATIONS: dict[str, tuple[Callable[[Any], Callable[[], object]], int, int]] = {
    "split": (lambda model: lambda: gn.treefy_split(model), 40, 0),
    "split-params": (lambda model: lambda: gn.treefy_split(model, gn.ParamState, ...), 60, 0),
    "flatten": (lambda model: functools.partial(jax.tree.flatten, gn.treefy_states(model)), 10, 0),
    "update": (lambda model: functools.partial(gn.update_states, model, gn.treefy_states(model)), 60, 0),
    "merge": (lambda model: functools.partial(gn.treefy_merge, *gn.treefy_split(model)), 200, 3),
    "step-one": (lambda model: functools.partial(gn.jit(_write_one), model), 120, 0),
}


def _write_one(model: Any) -> None:
    state = next(iter(gn.states(model).values()))
    state.value = state.value + 1


@pytest.mark.no_runtime_types
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_makes_few_calls_for_many_states(name: str):
    """The second time, an operation makes as many calls for 400 States as for 20; but a merge has lists to make."""
    make, most, more = OPERATIONS[name]
    counts: list[int] = []
    for depth in (10, 200):
        operation = make(gn.nn.Sequential([gn.nn.Linear(2, 2) for _ in range(depth)]))
        operation()
        operation()
        counts.append(calls_of(operation))
    assert counts[0] <= most
    assert counts[1] - counts[0] <= more * 380


def test_jax_calls_back_once_per_state_tree(bench: Workbench):
    """Flattening a state tree calls into Python once, however many States it holds."""
    assert _measure("callbacks", bench).value == 1


@pytest.mark.parametrize("name", ["compiled", pytest.param("compiled-train", marks=pytest.mark.slow)])
def test_what_is_compiled_is_what_is_written_by_hand(bench: Workbench, name: str):
    """XLA counts the same operations and bytes."""
    for result in _FIGURES[name].measure(bench):
        ours, theirs = result.measured.values()
        assert ours == theirs, result.title


def _measure(name: str, bench: Workbench) -> Result:
    (result,) = _FIGURES[name].measure(bench)
    return result
