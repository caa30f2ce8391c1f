"""The complete programs of docs/examples run, report what they do, and reach what they promise."""

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from tests.docrun import ROOT

DIGITS = ROOT / "docs" / "examples" / "digits.py"
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    """The digits program as a module."""
    for name in ("matplotlib", "optax", "sklearn", "tqdm"):
        pytest.importorskip(name, reason="the examples extra is not installed")
    spec = importlib.util.spec_from_file_location("digits_example", DIGITS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and string annotations look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def as_a_reader_has_it() -> Iterator[None]:
    """JAX without the strictness of the tests, which the program does not ask its readers for."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def options(digits: ModuleType, *arguments: str) -> argparse.Namespace:
    parsed: argparse.Namespace = digits.parse(arguments)
    return parsed


def test_default_run_reports_draws_and_reaches_the_target(
    digits: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """With its defaults the program says what it will do, shows its progress, and recognises 96 % or more."""
    output = tmp_path / "plot.png"
    result = digits.run(options(digits, "--output", str(output)))
    printed = capsys.readouterr()

    right = round(result.accuracy * 450)
    assert printed.out.splitlines() == [
        "Data:  1347 images of 8 by 8 pixels to train on, 450 held out",
        "Model: 23,946 parameters in 7 States, and 2 States of statistics",
        f"Plan:  500 steps of Adam on batches of 64, then a plot in {output}",
        f"Held-out accuracy: {result.accuracy:.2%} ({right} of 450)",
        f"Plot: {output}",
    ]
    assert "500/500" in printed.err  # the progress bar
    assert "loss=" in printed.err
    assert output.read_bytes().startswith(PNG)
    assert len(result.losses) == 500
    assert [done for done, _ in result.accuracies] == list(range(20, 501, 20))
    assert result.accuracy >= 0.96


def test_training_changes_the_model_given(digits: ModuleType):
    """Training writes the parameters into the caller's model; the accuracy is that of this model."""
    seen, held = digits.load()
    model = digits.make_model(0)
    model.standardize.measure(seen.images)
    before, statistics = gn.treefy_states(model, gn.ParamState, gn.BatchState)
    result = digits.train(model, seen, held, options(digits, "--steps", "3"))

    after, untrained = gn.treefy_states(model, gn.ParamState, gn.BatchState)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert not np.array_equal(old, new)
    for old, new in zip(jax.tree.leaves(statistics), jax.tree.leaves(untrained), strict=True):
        assert np.array_equal(old, new)
    predictions = jnp.argmax(model(held.images), axis=-1)
    right = sum(int(found) == int(label) for found, label in zip(predictions, held.labels, strict=True))
    assert result.accuracies == [(3, pytest.approx(right / 450))]
    assert np.array_equal(predictions, result.predictions)


def test_no_held_out_image_is_trained_on(digits: ModuleType):
    """The two parts are disjoint, cover all 1797 images, and hold equal shares of each digit."""
    from sklearn.datasets import load_digits

    seen, held = digits.load()
    images = sorted(np.asarray(image).tobytes() for part in (seen, held) for image in part.images[..., 0])
    data: Any = load_digits()
    every = sorted((image / 16).astype(np.float32).tobytes() for image in data.images)
    assert images == every
    shares = np.bincount(held.labels) / (np.bincount(seen.labels) + np.bincount(held.labels))
    assert np.all(np.abs(shares - 0.25) < 0.01)


def test_low_accuracy_is_a_failure(
    digits: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The program fails, with a message, below its target and not at it."""
    for accuracy, status in ((0.96, 0), (0.9599, 1)):
        monkeypatch.setattr(digits, "run", lambda _, reached=accuracy: digits.Result(accuracies=[(1, reached)]))
        assert digits.main([]) == status
    message = "digits.py: the held-out accuracy is below 96%; try more --steps"
    assert capsys.readouterr().err.splitlines() == [message]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "argument --steps: invalid positive int value: '0'"),
        (["--learning-rate", "nan"], "argument --learning-rate: invalid positive float value: 'nan'"),
        (["--output", "/no/such/plot.png"], "argument --output: there is no directory /no/such"),
    ],
)
def test_bad_option_is_refused(
    digits: ModuleType, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    """An option that cannot work ends the program before it trains, and says which."""
    with pytest.raises(SystemExit) as caught:
        digits.parse(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_batch_larger_than_the_data_is_refused(digits: ModuleType):
    """A batch cannot have more images than there are to train on."""
    with pytest.raises(SystemExit) as caught:
        digits.run(options(digits, "--batch-size", "1348"))
    assert caught.value.code == "digits.py: --batch-size is at most 1347, the number of images to train on"


def test_help_names_every_option(digits: ModuleType, capsys: pytest.CaptureFixture[str]):
    """`--help` shows each option with its default."""
    with pytest.raises(SystemExit):
        digits.parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for default in ("digits.png", "500", "0", "64", "0.003"):
        assert f"(default: {default})" in text


def test_missing_dependency_is_one_line(tmp_path: Path):
    """Without one of the libraries of the extra, the program names it and the command that installs it."""
    hide = "import sys; sys.modules['optax'] = None; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    run = subprocess.run(
        [sys.executable, "-c", hide, str(DIGITS)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    message = "digits.py needs optax, which is not installed: pip install 'graphnode[examples]'"
    assert run.stderr.splitlines() == [message]
