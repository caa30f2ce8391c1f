"""The language model of docs/examples: n-grams, training and going on, the cache, and the report."""

import copy
import dataclasses
import functools
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from tests.checkpoint.nets import same, values
from tests.docrun import ROOT
from tests.example_programs import EXAMPLES, load
from tests.example_programs import as_a_reader_has_it as as_a_reader_has_it

TINY = """\
type: Training
steps: 6
batch_size: 4
beats: 1
model: {id: model, width: 16, num_heads: 2, num_layers: 1, context: 16, dropout: 0.1}
optimizer:
  model: {ref: model}
  tx: {type: adamw, learning_rate: {type: cosine_decay_schedule, init_value: 0.01, decay_steps: 6}}
"""
HELD = "the rain in spain stays mainly in the plain. " * 40


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load("language_model")


@functools.cache
def made() -> Any:
    program = load("language_model")
    return program.make_training(gn.config.loads(TINY, program.Training))


def training() -> Any:
    """A run at its start: a copy with arrays of its own, as steps use up those that they are given."""
    return copy.deepcopy(made())


def text(program: ModuleType) -> Any:
    plain = np.frombuffer(HELD.encode(), np.uint8)
    return program.Text(plain, plain[:300])


def test_the_files_describe_the_runs_they_promise(program: ModuleType):
    """The default run is to beat the 3-gram, the longer one the 5-gram, and both have tied embeddings."""
    for name, beats in (("language_model", 3), ("language_model_long", 5)):
        config = gn.config.load(EXAMPLES / f"{name}.yaml", program.Training)
        assert config.beats == beats
        # One number in the file, by an anchor.
        assert config.optimizer.tx.args[1].learning_rate.decay_steps == config.steps
        summary = gn.config.summary(config)
        vocabulary = [row for row in summary.rows if "256" in row.shape and row.kind == "ParamState"]
        assert [gn.path_str(row.path) for row in vocabulary] == ["model.embed.weight"]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_chances_of_ngrams_are_those_of_a_distribution(program: ModuleType, order: int):
    """Over all bytes that may follow, the chances sum to one, also after what was never seen."""
    seen = b"abracadabra"
    for context in (b"ab", b"zz", b"ra"):
        bits = [
            program.ngram_bits(seen, context[-order + 1 :] * (order > 1) + bytes([byte]), order) for byte in range(256)
        ]
        assert sum(2.0**-one for one in bits) == pytest.approx(1.0)


def test_bits_of_bigrams_are_those_worked_out_by_hand(program: ModuleType):
    """`aab` has the bigrams aa, ab; their discount is 1, so that all comes from the bytes before which they stand."""
    # Of length 1, a and b follow one byte each: both are counted once, and the discount takes all again: 1 / 256.
    assert program.ngram_bits(b"aab", b"ab", 2) == pytest.approx(8.0)
    # Of length 1 alone: a twice, b once; the discount is 1 / (1 + 2).
    assert program.ngram_bits(b"aab", b"a", 1) == pytest.approx(-np.log2((2 - 1 / 3) / 3 + (1 / 3) * 2 / 3 / 256))


def test_longer_ngrams_are_better_on_text(program: ModuleType):
    """More context helps on a text that repeats itself."""
    bits = [program.ngram_bits(HELD.encode(), HELD[:200].encode(), order) for order in (1, 2, 3, 4)]
    assert all(after < before for before, after in itertools.pairwise(bits))


def test_no_held_out_byte_is_trained_on(program: ModuleType):
    """The two parts follow each other, and each help text is there once."""
    whole = program.load()
    assert len(whole.held) == pytest.approx(0.1 * (len(whole.seen) + len(whole.held)), abs=1)
    joined = np.concatenate([whole.seen, whole.held]).tobytes().decode()
    assert joined == "\n\n".join(sorted(set(program.topics.values())))


@pytest.mark.slow
def test_held_out_bits_are_those_of_a_loop(program: ModuleType):
    """Each byte of the second halves is counted once, the rows that fill a batch are not."""
    model = gn.view(training().model, deterministic=True)
    held, half = text(program).held, 8
    bits = [
        np.asarray(program.bits_of(model, jnp.asarray(held[None, start : start + 17], jnp.int32)))[0, half:]
        for start in range(0, len(held) - 16, half)
    ]
    assert program.evaluate(model, held, rows=5) == pytest.approx(float(np.mean(bits)), rel=1e-5)


class Stopped(Exception):
    """What ends a run in the middle."""


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_losses(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """To the bit, and so do the weights: dropout, the optimizer's memory and the place in the data are in the step."""
    monkeypatch.setattr(program, "EVALUATIONS", 3)  # a checkpoint after 2, 4 and 6 steps
    monkeypatch.setattr(program, "evaluate", lambda model, held: float(model.norm.scale.value.sum()))
    whole, result = training(), program.Result("whole", 1)
    program.train(whole, text(program), result)
    assert result.losses[-1] < result.losses[0]
    step, calls = program.step, []

    def counted(*arguments: Any) -> Any:
        calls.append(step(*arguments))
        if len(calls) == 3:
            raise Stopped
        return calls[-1]

    monkeypatch.setattr(program, "step", counted)
    with pytest.raises(Stopped):
        program.train(training(), text(program), program.Result("parts", 1), tmp_path / "run")
    parts, again = training(), program.Result("parts", 1)
    program.train(parts, text(program), again, tmp_path / "run")
    assert len(calls) == 3 + 4  # it went on after the second step
    assert again == dataclasses.replace(result, name="parts")
    assert same(values(parts), values(whole))


TERMINATED = """
import os, signal, sys
import tests.test_language_model as tests
program = tests.load("language_model")
program.load = lambda: tests.text(program)
step, losses = program.step, []
def terminated(*arguments):
    losses.append(step(*arguments))
    if len(losses) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return losses[-1]
program.step, program.EVALUATIONS = terminated, 1
program.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_terminated_run_goes_on_to_the_same_report(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The step at which SIGTERM came is saved, in a process of its own; --resume prints what a whole run prints."""
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    arguments = ["--config", str(config), "--output", str(tmp_path / "plot.png"), "--length", "40"]
    stopped = [*arguments, "--checkpoints", str(tmp_path / "runs")]
    done = subprocess.run([sys.executable, "-c", TERMINATED, *stopped], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert os.listdir(tmp_path / "runs" / "tiny") == ["3"]

    monkeypatch.setattr(program, "load", lambda: text(program))
    monkeypatch.setattr(program, "EVALUATIONS", 1)
    results: list[Any] = []
    draw = program.draw

    def drawn(found: list[Any], ngrams: dict[int, float]) -> Any:
        results.extend(found)
        return draw(found, ngrams)

    monkeypatch.setattr(program, "draw", drawn)
    program.main(arguments)
    whole = capsys.readouterr()
    program.main([*stopped, "--resume"])
    resumed = capsys.readouterr()
    assert resumed.out == whole.out
    assert "3/6" not in whole.err
    assert "3/6" in resumed.err
    assert results[0] == results[1]
    tree = gn.checkpoint.load(tmp_path / "runs" / "tiny" / "6", program.Training, at="training")
    assert gn.checkpoint.manifest(tmp_path / "runs" / "tiny" / "6").metadata["losses"] == results[0].losses
    assert tree.optimizer.steps.value == 6


@pytest.mark.slow
def test_a_run_with_another_configuration_is_not_gone_on_with(program: ModuleType, tmp_path: Path):
    """Its States would not fit, or its schedule would be another."""
    program.train(training(), text(program), program.Result("run", 1), tmp_path / "run")
    other = program.make_training(gn.config.loads(TINY.replace("steps: 6", "steps: 7", 1), program.Training))
    with pytest.raises(SystemExit) as caught:
        program.train(other, text(program), program.Result("run", 1), tmp_path / "run")
    assert caught.value.code == (
        f"language_model.py: {tmp_path}/run is of a run with another configuration; "
        "graphnode checkpoint show --config prints that of a step"
    )


def test_the_cache_changes_no_logits(program: ModuleType):
    """Reading half of a text at once and the rest byte by byte gives what reading it all gives, to 1e-5."""
    error, share = program.cache_error(training().model, text(program).held)
    assert 0 < error <= 1e-5
    assert 0 < share <= 1e-5


@pytest.mark.slow
def test_a_text_has_the_length_asked_for_and_begins_with_its_prompt(program: ModuleType):
    """It is the same for the same seed, and the model keeps no cache."""
    model = training().model
    written = [program.sample(model, "The ", 50, seed) for seed in (0, 0, 1)]
    assert all(one.startswith("The ") for one in written)
    assert written[0] == written[1] != written[2]
    assert not gn.nodes(model, gn.nn.KeyValueCache)


NUMBER = r"[\d,.]+(e-\d+)?"


@pytest.mark.slow
def test_the_report_says_what_is_done_and_what_came_out(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It opens with the plan; a run that is no better than its n-grams fails by name."""
    config, output = tmp_path / "tiny.yaml", tmp_path / "plot.png"
    config.write_text(TINY)
    monkeypatch.setattr(program, "load", lambda: text(program))
    assert program.main(["--config", str(config), "--output", str(output), "--length", "40"]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"Train tiny on Python's help texts, compare with n-grams, and plot it in {output}"
    for line, expected in zip(
        lines[1:],
        [
            "Data:  1,800 bytes to train on, 300 held out",
            f"N-grams: 1: {NUMBER}, 2: {NUMBER}, 3: {NUMBER}, 4: {NUMBER}, 5: {NUMBER} bits per byte",
            f"Model: tiny, {NUMBER} parameters; 6 steps of 4 x 16 bytes",
            f"Held-out bits per byte: {NUMBER}",
            f"Largest difference of logits with the cache and without: {NUMBER}, {NUMBER} of the largest",
            "It writes:",
        ],
        strict=False,
    ):
        assert re.fullmatch(expected, line)
    assert lines[-1] == f"Plot: {output}"
    assert "6/6" in printed.err
    assert output.read_bytes().startswith(b"\x89PNG\r\n")
    fault = printed.err.splitlines()[-1]
    assert re.fullmatch(rf"language_model\.py: tiny: {NUMBER} bits per byte is no better than the 1-gram's", fault)


def test_bad_options_are_refused(program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A file with faults and a directory that is not there end the program before it begins."""
    (tmp_path / "language_model").mkdir()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TINY.replace("num_heads", "num_haeds"))
    for arguments, message in (
        (
            ["--config", str(wrong)],
            "model.num_haeds: LanguageModel has no field 'num_haeds'; did you mean 'num_heads'?",
        ),
        (["optimizer.tx.args[1].learning_rte=1"], "optimizer.tx: chain: args[1]: adamw: learning_rte: Extra inputs"),
        (["--output", "/no/such/plot.png"], "there is no directory /no/such"),
        (["--resume"], "--resume needs --checkpoints, where the run was saved"),
        (
            ["--checkpoints", str(tmp_path)],
            f"{tmp_path}/language_model is there already: --resume goes on with its run",
        ),
    ):
        with pytest.raises(SystemExit) as caught:
            program.parse(arguments)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_default_run_beats_the_trigram(program: ModuleType, tmp_path: Path):
    """With its defaults the program succeeds."""
    assert program.main(["--output", str(tmp_path / "plot.png")]) == 0
