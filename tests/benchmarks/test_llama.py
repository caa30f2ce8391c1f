"""The benchmark of a LLaMA-like model: the same function in all libraries, and how much of it is compiled."""

from collections.abc import Generator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .llama import BY_HAND, GN_LLAMA, LlamaSizes, MakesRunner, Runner, llama_batch, llama_weights, load_runners
from .llama_figures import measure_llama
from .model_figures import operations_in
from .step_figures import costs_of
from .timing import Effort

pytestmark = pytest.mark.slow  # each library compiles three functions

SMALL = LlamaSizes(layers=2, width=32, heads=4, kv_heads=2, hidden=48, tokens=32, batch=2, length=8, room=16)


@pytest.fixture(autouse=True, scope="module")
def promotion() -> Generator[None]:
    """JAX as a user has it: the peers and optax are written for that."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def makes() -> dict[str, MakesRunner]:
    """All ways to run the model."""
    found, missing = load_runners()
    assert not missing
    return found


@pytest.fixture(scope="module")
def runners(makes: dict[str, MakesRunner]) -> dict[str, Runner]:
    """A small model in each way."""
    weights, batch = llama_weights(SMALL), llama_batch(SMALL)
    return {name: make(SMALL, weights, batch) for name, make in makes.items()}


def test_all_libraries_compute_the_same(runners: dict[str, Runner]):
    """Logits, losses of three steps, and logits token by token."""
    tokens = llama_batch(SMALL)[:, :-1]
    expected = np.asarray(runners[BY_HAND].forward())
    losses = {name: [float(runner.step()) for _ in range(3)] for name, runner in runners.items()}
    assert losses[BY_HAND][2] < losses[BY_HAND][0] - 0.1
    for name, runner in runners.items():
        np.testing.assert_allclose(runner.forward(), expected, atol=1e-5, err_msg=name)
        assert losses[name] == pytest.approx(losses[BY_HAND], abs=1e-4), name
        runner.decoder.reset()
        steps = [runner.decoder.step(tokens[:, at : at + 1]) for at in range(SMALL.length)]
        np.testing.assert_allclose(jnp.concatenate(steps, 1), expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("what", ["lower_forward", "lower_step"])
def test_the_model_is_what_one_writes_by_hand(runners: dict[str, Runner], what: str):
    """No more operations in the program, and none on numbers in what XLA makes of it, but for an optimizer's count."""
    own, by_hand = (getattr(runners[name], what)() for name in (GN_LLAMA, BY_HAND))
    assert operations_in(own.as_text()) <= operations_in(by_hand.as_text())
    counted = 1.0 if what == "lower_step" else 0.0
    assert costs_of(own.compile())["operations"] == costs_of(by_hand.compile())["operations"] + counted


def test_a_step_of_decoding_checks_for_room_beside_what_one_writes_by_hand(runners: dict[str, Runner]):
    """A full cache gives NaN, where the hand-written one gives the wrong text: a few operations in each layer."""
    own, by_hand = (runners[name].decoder.lower() for name in (GN_LLAMA, BY_HAND))
    assert operations_in(own.as_text()) <= operations_in(by_hand.as_text()) + 9 * SMALL.layers
    new = SMALL.batch * SMALL.kv_heads * SMALL.head_size
    checks = costs_of(own.compile())["operations"] - costs_of(by_hand.compile())["operations"]
    assert checks <= SMALL.layers * (2 * new + 16)


def test_every_figure_is_measured(makes: dict[str, MakesRunner]):
    """In a hurry."""
    own = {name: makes[name] for name in (GN_LLAMA, BY_HAND)}
    results = measure_llama(own, Effort(rounds=1, seconds=0.0001), SMALL)
    assert [result.figure for result in results] == ["llama-compiled"] * 9 + ["llama-time"] * 3 + ["llama-host"]
    assert all(result.value > 0 for result in results)
