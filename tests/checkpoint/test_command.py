"""`graphnode checkpoint show` and `diff`: by the manifest alone, without the classes of the model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax
import pytest
from click.testing import CliRunner

import graphnode as gn
from graphnode.__main__ import main
from graphnode.checkpoint import _command
from tests.checkpoint.nets import net, read, tied, write


def run(*args: "str | Path") -> tuple[int, list[str], str]:
    """The exit code, the lines, and what is printed beside them."""
    done = CliRunner().invoke(main, ["checkpoint", *map(str, args)])
    return done.exit_code, done.stdout.splitlines(), done.stderr


def test_show_lists_what_there_is(tmp_path: Path):
    """States with their classes and shapes, numbers, sharing, and what is not described."""
    node = tied()
    optimizer = gn.optim.Optimizer(node, optax.sgd(0.1))
    state = gn.State({"a": jnp.ones(1), "b": 3}, tag="t")
    tree = {"model": node, "optimizer": optimizer, "step": 3, "state": state}
    gn.checkpoint.save(tmp_path / "run", tree, metadata={"loss": 0.5})
    code, lines, _ = run("show", tmp_path / "run")
    assert code == 0
    assert lines[0].startswith("5 States, 11 numbers in arrays, 44 B; written by graphnode ")
    assert lines[1:] == [
        'metadata: {"loss": 0.5}',
        "model.dec.bias    ParamState      float32[3]",
        "model.dec.weight  ParamState      float32[2,3]",
        "optimizer.steps   OptimizerState  int32[]",
        "state             State           float32[1], an int  tag='t'",
        "step              PlainValue      3",
        "model.dec (Linear) is also at model.enc",
        "optimizer.tx is not described: a GradientTransformationExtraArgs, which a live one must have",
    ]


def test_show_prints_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """To the character, so that a file can be made of it; for a terminal with its commands escaped."""
    text = "width: 3\r\nname: a\\x1b[31m\u00a0é\n"
    gn.checkpoint.save(tmp_path / "run", {"step": 3}, config=text)
    assert run("show", tmp_path / "run")[1][1] == "config: 2 lines, which --config prints"
    done = CliRunner().invoke(main, ["checkpoint", "show", "--config", str(tmp_path / "run")])
    assert (done.exit_code, done.stdout_bytes.decode()) == (0, text)
    monkeypatch.setattr(_command, "_is_terminal", lambda: True)
    assert run("show", "--config", tmp_path / "run")[1] == ["width: 3", "name: a\\x1b[31m\\xa0é"]
    gn.checkpoint.save(tmp_path / "without", {"step": 3})
    expected = f"{tmp_path}/without has no configuration: save(..., config=text) keeps one\n"
    assert run("show", "--config", tmp_path / "without") == (1, [], expected)


def test_diff_lists_what_differs(tmp_path: Path):
    """And exits with 1 if the structures do; other numbers alone are counted, or named if asked for."""
    saved: dict[str, Any] = {
        "a": {"model": net(), "step": 3, "old": jnp.ones(2)},
        "b": {"model": net(4, rate=0.2), "step": 3, "new": jnp.ones(2)},
        "c": {"model": net(), "step": 4, "old": jnp.ones(2)},
        "d": {"model": tied(), "step": 3, "old": gn.State(jnp.ones(2), tag="x")},
    }
    for name, tree in saved.items():
        gn.checkpoint.save(tmp_path / name, tree)
    code, lines, _ = run("diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert lines == [
        "model.dec.bias: float32[3] -> float32[4]",
        "model.dec.out_features: 3 -> 4",
        "model.dec.out_size: (3,) -> (4,)",
        "model.dec.weight: float32[2,3] -> float32[2,4]",
        "model.enc.bias: float32[3] -> float32[4]",
        "model.enc.out_features: 3 -> 4",
        "model.enc.out_size: (3,) -> (4,)",
        "model.enc.weight: float32[2,3] -> float32[2,4]",
        "model.rate: 0.1 -> 0.2",
        "+ new: PlainValue float32[2]",
        "- old: PlainValue float32[2]",
        "changes that may lead from A to B:",
        "  Rename('old', 'new'),",
    ]
    code, lines, beside = run("diff", tmp_path / "a", tmp_path / "c")
    assert (code, lines) == (0, [])
    assert beside == "3 States have other values; --values names them\n"
    code, lines, _ = run("diff", "--values", tmp_path / "a", tmp_path / "c")
    assert code == 1
    assert lines[-1] == "step: other values"
    assert run("diff", tmp_path / "a", tmp_path / "d")[1] == [
        "model.enc: a Linear of its own -> the object at model.dec",
        "old: PlainValue -> State",
        'old: tag=null -> tag="x"',
        "changes that may lead from A to B:",
        "  Drop('model.enc.bias'),",
        "  Drop('model.enc.weight'),",
    ]


def test_faults_end_with_two(tmp_path: Path):
    """What is no checkpoint is told, and not shown."""
    code, lines, beside = run("show", tmp_path / "nothing")
    assert (code, lines) == (2, [])
    assert beside.startswith(f"cannot read {tmp_path}/nothing: not a checkpoint: ")


def test_commands_of_a_terminal_are_escaped(tmp_path: Path):
    """A file cannot speak to the terminal of whoever looks at it."""
    gn.checkpoint.save(tmp_path / "run", {"step": 3})
    manifest = read(tmp_path / "run")
    manifest["versions"]["jax"] = "\x1b[31m\r\n"
    write(tmp_path / "run", manifest)
    assert "jax \\x1b[31m\\r\\n" in run("show", tmp_path / "run")[1][0]


@pytest.mark.slow
def test_show_needs_no_class_of_the_users(tmp_path: Path):
    """Nor Orbax; in a process of its own."""
    gn.checkpoint.save(tmp_path / "run", net())
    code = (
        "import sys; from graphnode.__main__ import main\n"
        f"main(['checkpoint', 'show', {str(tmp_path / 'run')!r}], standalone_mode=False)\n"
        "assert not {'orbax', 'tensorstore', 'tests'} & {name.partition('.')[0] for name in sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_diff_proposes_changes(tmp_path: Path):
    """For States of one shape and dtype, by the nearest name; what a glob says is not said one by one."""

    def layers(first: str, second: str) -> list[Any]:
        return [{first: {"w": jnp.ones(2), "b": jnp.ones(3)}, second: jnp.ones(5)} for _ in range(3)]

    gn.checkpoint.save(
        tmp_path / "a", {"blocks": layers("mlp", "norm"), "head": jnp.ones((2, 4)), "x": jnp.ones(7), "c": jnp.ones(2)}
    )
    gn.checkpoint.save(
        tmp_path / "b",
        {
            "layers": layers("mlp", "scale"),
            "heads": jnp.ones((4, 2)),
            "y": jnp.ones(8),
            "c": jnp.ones(2, jnp.bfloat16),
        },
    )
    code, lines, _ = run("diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert lines[lines.index("changes that may lead from A to B:") + 1 :] == [
        "  Rename('head', 'heads'),",
        "  Rename('blocks.*.mlp.**', 'layers.*.mlp.**'),",
        "  Rename('blocks.*.norm', 'layers.*.scale'),",
        "  Cast('c', 'bfloat16', before='float32'),",
        "  Transpose('heads'),",
        "  Drop('x'),",
        "  Fill('y'),",
    ]
