"""A training run: steps in the background, what stays of them, and what goes on after the end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphnode as gn
from tests.checkpoint.nets import Counter, net, refused, same, values


def test_the_last_steps_and_the_best_one_stay(tmp_path: Path):
    """Each is a checkpoint as any other."""
    losses = [3.0, 1.0, 2.0, 5.0, 4.0]
    with gn.checkpoint.Checkpointer(tmp_path, keep=2, best="loss") as checkpoints:
        for step, loss in enumerate(losses):
            tree = {"step": step, "w": jnp.full(2, loss)}
            assert checkpoints.save(step, tree, metrics={"loss": loss}, metadata={"loss": loss})
        checkpoints.wait()
        assert checkpoints.steps == [1, 3, 4]
        assert checkpoints.latest == 4
    assert gn.checkpoint.restore(tmp_path / "1", {"step": 0, "w": jnp.zeros(2)})["step"] == 1
    assert gn.checkpoint.manifest(tmp_path / "3").metadata == {"loss": 5.0}
    assert sorted(os.listdir(tmp_path)) == ["1", "3", "4"]


def test_the_largest_value_may_be_the_best(tmp_path: Path):
    """By `mode`."""
    with gn.checkpoint.Checkpointer(tmp_path, keep=1, best="accuracy", mode="max") as checkpoints:
        for step, accuracy in enumerate([0.1, 0.9, 0.5]):
            checkpoints.save(step, {"step": step}, metrics={"accuracy": accuracy})
        checkpoints.wait()
        assert checkpoints.steps == [1, 2]


def test_steps_between_are_left_out(tmp_path: Path):
    """Unless they are forced."""
    with gn.checkpoint.Checkpointer(tmp_path, keep=None, every=10) as checkpoints:
        written = [step for step in range(25) if checkpoints.save(step, {"step": step}, force=step == 24)]
        checkpoints.wait()
        assert written == checkpoints.steps == [0, 10, 20, 24]


@gn.jit(donate=True)
def train(model: Any, optimizer: gn.optim.Optimizer, rngs: gn.Rngs) -> jax.Array:
    x = jax.random.normal(rngs(), (4, 2))

    def loss_of(model: Any) -> jax.Array:
        return jnp.mean((model.enc(x) - model.dec(x) - 1.0) ** 2)

    loss, grads = gn.value_and_grad(loss_of)(model)
    optimizer.update(model, grads)
    return loss


def run_of(seed: int) -> dict[str, Any]:
    with gn.random.scope(seed):
        model = net()
    optimizer = gn.optim.Optimizer(model, optax.sgd(0.1, momentum=0.9))
    return {"model": model, "optimizer": optimizer, "rngs": gn.Rngs(seed), "data": Counter(), "step": 0}


def test_a_run_goes_on_to_the_same_losses(tmp_path: Path):
    """To the bit, although the arrays of a step are donated right after it was saved."""
    run, losses = run_of(0), []
    with gn.checkpoint.Checkpointer(tmp_path) as checkpoints:
        for step in range(6):
            losses.append(train(run["model"], run["optimizer"], run["rngs"]))
            run["data"].at += 1
            if step < 3:
                checkpoints.save(step, {**run, "step": step})
    with gn.checkpoint.Checkpointer(tmp_path) as checkpoints:
        again = checkpoints.restore(run_of(1))
        assert (again["step"], again["data"].at) == (2, 3)
        later = [train(again["model"], again["optimizer"], again["rngs"]) for _ in range(3)]
    assert same(later, losses[3:])
    assert same(values(again["model"]), values(run["model"]))


def test_an_array_of_numpy_may_change_after_it_was_saved(tmp_path: Path):
    """What is written in the background is what it was."""
    array = np.zeros(100_000)
    with gn.checkpoint.Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(0, {"array": array})
        array[:] = 1
    assert not gn.checkpoint.restore(tmp_path / "0", {"array": array})["array"].any()


def test_what_is_wrong_is_told(tmp_path: Path):
    """No step, a step twice, a metric that is missing, counts that are none."""
    with gn.checkpoint.Checkpointer(tmp_path, best="loss") as checkpoints:
        with refused(
            "cannot restore from PATH/run: there is no step; there are none".replace(
                "PATH/run", f"PATH/{tmp_path.name}"
            )
        ):
            checkpoints.restore({})
        checkpoints.save(3, {"step": 3}, metrics={"loss": 1.0})
        with refused(f"cannot save step 3 to PATH/{tmp_path.name}: there is such a step already"):
            checkpoints.save(3, {"step": 3}, metrics={"loss": 1.0})
        with refused(f"cannot restore from PATH/{tmp_path.name}: there is no step 4; there are 3"):
            checkpoints.restore({"step": 0}, step=4)
        with refused(f"cannot save step 5 to PATH/{tmp_path.name}: metrics has no 'loss', which best= goes by"):
            checkpoints.save(5, {"step": 3})
    faulty: list[dict[str, Any]] = [{"keep": 0}, {"every": 0}]
    for options in faulty:
        with pytest.raises(ValueError) as caught:
            gn.checkpoint.Checkpointer(tmp_path, **options)
        assert str(caught.value) == f"Checkpointer: {next(iter(options))} is at least 1; found 0"


TERMINATED = """
import sys, time, graphnode as gn
with gn.checkpoint.Checkpointer(sys.argv[1], every=1_000_000) as checkpoints:
    for step in range(1, 1_000_000):
        checkpoints.save(step, {"step": step})
        print(step, flush=True)
        time.sleep(0.01)
"""


@pytest.mark.slow
def test_a_terminated_run_saves_its_step(tmp_path: Path):
    """The next `save` writes, whatever `every` says, and ends the program."""
    command = [sys.executable, "-c", TERMINATED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = [int(process.stdout.readline())]
        process.send_signal(signal.SIGTERM)
        done += map(int, process.stdout.read().split())
    assert process.returncode == 128 + signal.SIGTERM
    assert gn.checkpoint.restore(tmp_path / str(done[-1] + 1), {"step": 0})["step"] == done[-1] + 1


def test_a_signal_that_no_save_has_heeded_is_raised(tmp_path: Path):
    """When the block is over; and the handler of the program is back."""
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with gn.checkpoint.Checkpointer(tmp_path):
            signal.raise_signal(signal.SIGTERM)
            assert not calls
        assert calls == [signal.SIGTERM]
        with pytest.raises(SystemExit), gn.checkpoint.Checkpointer(tmp_path, every=10) as checkpoints:
            signal.raise_signal(signal.SIGTERM)
            checkpoints.save(7, {"step": 7})
        assert calls == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.listdir(tmp_path) == ["7"]
