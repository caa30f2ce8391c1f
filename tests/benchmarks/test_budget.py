"""Coarse limits on the cost of the graph operations, so that a gross regression fails the tests.

`make bench` holds the real limits, which are tighter; these leave room for a busy machine.
"""

import pytest

from .figures import FIGURES
from .library import GRAPHNODE, JAX, load
from .measures import Figure, Result
from .steps import JAX_DICT, JAX_TUPLE
from .timing import Effort
from .workbench import Workbench

_FIGURES: dict[str, Figure] = {figure.name: figure for figure in FIGURES}


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Workbench:
    """A model of depth 100 in graphnode and in plain JAX."""
    if request.config.getoption("--runtime-types", default=False):
        pytest.skip("runtime type checks cost more than what is measured")
    return Workbench(100, load(GRAPHNODE, JAX), Effort(rounds=15, seconds=0.002))


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("split", 1.0),
        ("split-params", 1.0),
        ("collect", 1.0),
        ("flatten", 1.0),
        ("update", 4.0),
        ("merge", 12.0),
    ],
)
def test_an_operation_costs_little_more_than_plain_jax(bench: Workbench, name: str, most: float):
    """At 601 States the operation keeps to twice its limit in the benchmark, as a multiple of plain JAX."""
    assert _measure(name, bench).value <= most


def test_jax_calls_back_once_per_state_tree(bench: Workbench):
    """Flattening a state tree calls into Python once, however many States it holds."""
    assert _measure("callbacks", bench).value == 1


@pytest.mark.parametrize(
    ("name", "against", "most"),
    [
        ("step-all", JAX_TUPLE, 2.3),
        ("step-all", JAX_DICT, 2.0),
        ("step-one", JAX_TUPLE, 2.6),
        ("step-one-7", JAX_TUPLE, 3.6),
        ("step-one-61", JAX_TUPLE, 3.0),
        ("step-total", JAX_TUPLE, 2.6),
        ("trace-train", JAX_DICT, 2.4),
    ],
)
def test_a_step_costs_little_more_than_jax_jit(bench: Workbench, name: str, against: str, most: float):
    """A call of `gn.jit`, and its trace, keep to twice their limits in the benchmark."""
    (result,) = [result for result in _FIGURES[name].measure(bench) if result.against == against]
    assert result.value <= most


@pytest.mark.parametrize("name", ["compiled", "compiled-train"])
def test_what_is_compiled_is_what_is_written_by_hand(bench: Workbench, name: str):
    """XLA counts the same operations and bytes."""
    for result in _FIGURES[name].measure(bench):
        ours, theirs = result.measured.values()
        assert ours == theirs, result.title


def _measure(name: str, bench: Workbench) -> Result:
    (result,) = _FIGURES[name].measure(bench)
    return result
