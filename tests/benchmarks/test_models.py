"""The benchmark of models: the same function in all libraries, a coarse limit, and how its page is kept."""

import time
from collections.abc import Generator
from pathlib import Path

import jax
import pytest

from .environment import Environment
from .library import GRAPHNODE, JAX
from .measures import Result
from .model_figures import MODEL_STEP, Trained, ended, measure_models, operations_in
from .model_report import Models, model_figures_table, ways_table
from .report import Written, read, write
from .timing import Effort, always, interleave, sampler
from .transformer import EQX_JIT, GN_TRAIN, NNX_FUNCTIONAL, Makes, Sizes, Trainer, batch_of, load_ways, weights_of

SMALL = Sizes(layers=1, width=32, heads=4, batch=2, length=16, tokens=32)
ENVIRONMENT = Environment("2026-01-02", "a CPU", "Linux", "3.11.7", {"jax": "0.10.2"})
STEP = Result(MODEL_STEP, "a step", 1_000, 0.95, NNX_FUNCTIONAL, 1.05, {GRAPHNODE: 0.19, NNX_FUNCTIONAL: 0.2})
WAY = Trained(NNX_FUNCTIONAL, 0.2, 1.0526, 3.0, 0.5, 0.75, 504_414.0, 5_682.0, 1.65e9, 2.4e7)
SPLIT = Result("split", "a split", 601, 0.1234, JAX, 0.5, {GRAPHNODE: 1.5e-5, JAX: 0.0002})
MODULE = """\
module @jit_f {
  func.func public @main(%arg0: tensor<2xf32>) -> tensor<2xf32> {
    %0 = call @twice(%arg0) : (tensor<2xf32>) -> tensor<2xf32>
    %1 = stablehlo.reduce(%0 init: %cst) applies stablehlo.add across dimensions = [0]
    %2 = call @twice(%0) : (tensor<2xf32>) -> tensor<2xf32>
    return %2 : tensor<2xf32>
  }
  func.func private @twice(%arg0: tensor<2xf32>) -> tensor<2xf32> {
    %0 = stablehlo.add %arg0, %arg0 : tensor<2xf32>
    %1 = chlo.square %0 : tensor<2xf32> -> tensor<2xf32>
    return %1 : tensor<2xf32>
  }
}
"""


ONE_OF_EACH = (GN_TRAIN, NNX_FUNCTIONAL, EQX_JIT)
"""A way to train with each library: those of one library share the model and the step."""


@pytest.fixture(autouse=True, scope="module")
def promotion() -> Generator[None]:
    """JAX as a user has it: the peers and optax are written for that."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def ways() -> dict[str, Makes]:
    """All ways to train whose library is installed."""
    found, missing = load_ways()
    if missing:
        pytest.skip(f"not installed: {', '.join(sorted(missing))}")
    return found


@pytest.fixture(scope="module")
def trainers(ways: dict[str, Makes]) -> dict[str, Trainer]:
    """A small model in each library, whose step is compiled once for all tests."""
    return {name: small(ways[name]) for name in ONE_OF_EACH}


def small(make: Makes) -> Trainer:
    """A model of few parameters."""
    return make(SMALL, weights_of(SMALL), batch_of(SMALL))


@pytest.mark.slow
def test_all_libraries_compute_the_same(trainers: dict[str, Trainer]):
    """The losses of five steps agree: so do the model, its gradient and what Adam makes of it."""
    losses = {name: [float(trainer.step()) for _ in range(5)] for name, trainer in trainers.items()}
    expected = losses[GN_TRAIN]
    assert expected[4] < expected[0] - 0.01
    for name, found in losses.items():
        assert found == pytest.approx(expected, abs=1e-4), name


@pytest.mark.slow
@pytest.mark.no_runtime_types
def test_a_training_step_is_no_slower_than_those_of_others(trainers: dict[str, Trainer]):
    """With room for noise, and at a size where much is Python around the step; other programs do not count."""
    samplers = {
        name: sampler(always(ended(trainer.step)), 0.002, time.process_time) for name, trainer in trainers.items()
    }
    samples = interleave(samplers, 11)
    ratios = {name: samples.ratio(GN_TRAIN, name) for name in ONE_OF_EACH}
    assert max(ratios.values()) <= 2, ratios


@pytest.mark.slow
def test_a_training_step_lowers_to_no_more_than_that_of_flax(trainers: dict[str, Trainer]):
    """A layer that computed something twice, or what nobody uses, would show."""
    ours, theirs = [operations_in(trainers[name].lower().as_text()) for name in (GN_TRAIN, NNX_FUNCTIONAL)]
    assert ours <= theirs


@pytest.mark.slow
def test_everything_is_measured_of_every_way(ways: dict[str, Makes]):
    """A row against the fastest peer, and one of the table for each way."""
    two = {name: ways[name] for name in (GN_TRAIN, NNX_FUNCTIONAL)}
    (row,), table = measure_models(two, Effort(rounds=1, seconds=0), SMALL)
    assert (row.against, row.limit) == (NNX_FUNCTIONAL, 1.05)
    assert row.states == 14_304
    assert [one.name for one in table] == list(two)
    for one in table:
        assert one.trace > 0
        assert 0 < one.step < one.first
        assert min(one.lower, one.text, one.operations, one.flops, one.bytes) > 0


def test_a_call_counts_as_what_it_calls():
    """A function that is called twice counts twice, and an operation that a reduction names not at all."""
    assert operations_in(MODULE) == 5


def test_a_row_shows_ratio_and_limit_and_a_way_what_it_takes():
    """In the units that suit."""
    (row,) = [line.split("|")[1:-1] for line in model_figures_table([STEP]).splitlines()[2:]]
    assert [cell.strip() for cell in row] == ["a step", "pass", f"0.95 × {NNX_FUNCTIONAL}", "1.05"]
    (row,) = [line.split("|")[2:-1] for line in ways_table([WAY]).splitlines()[2:]]
    expected = ["200 ms (1.05 ×)", "3 s", "500 ms", "750 ms", "5,682", "504 kB", "1.65 G", "24 MB"]
    assert [cell.strip() for cell in row] == expected


def test_a_section_of_models_is_kept_while_another_is_measured(tmp_path: Path):
    """What was written before is read, and written again to the same text."""
    models = Models([STEP], [WAY], SMALL, ENVIRONMENT)
    write(tmp_path, 100, Written([SPLIT], [SPLIT], ENVIRONMENT, models=models))
    names = ("performance.md", "performance.json")
    before = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    written = read(tmp_path)
    assert written is not None
    assert written.models == models
    write(tmp_path, 100, written)
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in names] == before
