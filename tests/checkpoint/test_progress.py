"""What is told of a long read or write: to a function, by a bar, or nothing."""

import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode.checkpoint import _orbax, _progress, _read
from tests.checkpoint.nets import net, refused, same, values

# Of 400, 400 and 40 bytes; the number is not in an array.
TREE = {"a": jnp.arange(100), "b": jnp.arange(100), "c": jnp.arange(10), "step": 3}


class Terminal(io.StringIO):
    """What stderr is to a person."""

    def isatty(self) -> bool:
        return True


# No fixture: pytest puts its own stderr in place between those and the test.
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def test_a_function_is_told_of_each_portion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """First with 0 and last with all; a write knows no more than these two."""
    monkeypatch.setattr(_read, "_PORTION", 500)
    calls: list[tuple[int, int]] = []
    gn.checkpoint.save(tmp_path / "run", TREE, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 840), (840, 840)]
    calls.clear()
    restored = gn.checkpoint.restore(tmp_path / "run", TREE, progress=lambda *call: calls.append(call))
    assert calls == [(0, 840), (400, 840), (840, 840)]
    assert same(restored, TREE)
    calls.clear()
    with gn.checkpoint.Checkpointer(tmp_path / "runs", progress=lambda *call: calls.append(call)) as checkpoints:
        checkpoints.save(0, TREE)
        checkpoints.restore(TREE)
    assert calls == [(0, 840), (400, 840), (840, 840)]


def test_load_tells_too(tmp_path: Path):
    """Of the arrays of the node, not of those beside it."""
    saved = net()
    gn.checkpoint.save(tmp_path / "run", {"model": saved, "other": jnp.zeros(1000)})
    calls: list[tuple[int, int]] = []
    model = gn.checkpoint.load(tmp_path / "run", type(saved), at="model", progress=lambda *call: calls.append(call))
    assert calls == [(0, 72), (72, 72)]
    assert same(values(model), values(saved))


def test_nothing_to_read_is_told_once(tmp_path: Path):
    """A tree without arrays has no bytes."""
    calls: list[tuple[int, int]] = []
    gn.checkpoint.save(tmp_path / "run", {"step": 3}, progress=lambda *call: calls.append(call))
    assert calls == [(0, 0)]


def test_a_function_that_raises_changes_nothing(tmp_path: Path):
    """Neither what is at the path, nor the live tree; and its own error is raised."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    first, second = net(), net()
    gn.checkpoint.save(tmp_path / "run", first)
    before = values(second)
    with pytest.raises(KeyboardInterrupt):
        gn.checkpoint.restore(tmp_path / "run", second, progress=stop)
    assert same(values(second), before)
    with pytest.raises(KeyboardInterrupt):
        gn.checkpoint.save(tmp_path / "run", second, overwrite=True, progress=stop)
    assert same(values(gn.checkpoint.load(tmp_path / "run", type(first))), values(first))
    assert os.listdir(tmp_path) == ["run"]


def test_portions_of_two_checkpoints_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where the second one lacks an array, that is not what is told."""
    monkeypatch.setattr(_read, "_PORTION", 500)
    gn.checkpoint.save(tmp_path / "run", TREE)

    def replace(done: int, total: int) -> None:
        if done == 400:
            gn.checkpoint.save(tmp_path / "run", {"a": TREE["a"]}, overwrite=True)

    with refused("cannot restore from PATH/run: it was replaced while it was read; read it again"):
        gn.checkpoint.restore(tmp_path / "run", TREE, progress=replace)


def test_a_bar_is_shown_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """However short the work is; of a write, the time."""
    pytest.importorskip("tqdm", reason="the examples extra is not installed")
    gn.checkpoint.save(tmp_path / "run", TREE, progress=True)
    assert capsys.readouterr().err.endswith(f"write {tmp_path}/run: 840B, 00:00\n")
    gn.checkpoint.restore(tmp_path / "run", TREE, progress=True)
    shown = capsys.readouterr().err
    assert f"read {tmp_path}/run: 100%" in shown
    assert "840/840" in shown


def test_long_work_shows_a_bar_at_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is over sooner shows none, and neither does what was asked not to."""
    pytest.importorskip("tqdm", reason="the examples extra is not installed")
    terminal = at_a_terminal(monkeypatch)
    gn.checkpoint.save(tmp_path / "run", TREE)
    gn.checkpoint.restore(tmp_path / "run", TREE)
    monkeypatch.setattr(_progress, "_DELAY", 0.0)
    gn.checkpoint.restore(tmp_path / "run", TREE, progress=False)
    assert terminal.getvalue() == ""
    real = _orbax.read

    def slow(path: str, wanted: Any) -> Any:
        for _ in range(500):
            if terminal.getvalue():
                break
            time.sleep(0.01)
        return real(path, wanted)

    monkeypatch.setattr(_read, "read", slow)
    gn.checkpoint.restore(tmp_path / "run", TREE)
    assert f"read {tmp_path}/run: " in terminal.getvalue()


def test_no_bar_where_nobody_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """However long it takes."""
    monkeypatch.setattr(_progress, "_DELAY", 0.0)
    gn.checkpoint.save(tmp_path / "run", TREE)
    gn.checkpoint.restore(tmp_path / "run", TREE)
    assert capsys.readouterr() == ("", "")


def test_a_bar_needs_tqdm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If it was asked for: nothing is written. Else there is none."""
    terminal = at_a_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        gn.checkpoint.save(tmp_path / "run", TREE, progress=True)
    assert str(caught.value) == (
        "progress=True needs tqdm, which is not installed: pip install tqdm; or give a function"
    )
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(_progress, "_DELAY", 0.0)
    gn.checkpoint.save(tmp_path / "run", TREE)
    assert terminal.getvalue() == ""
