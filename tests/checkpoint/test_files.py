"""What happens on the disk: overwriting, what a killed process leaves, damage, and other directories."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.checkpoint import _files, _orbax, _save
from tests.checkpoint.nets import MANIFEST, net, read, refused, same, values, write


def test_an_existing_path_is_refused(tmp_path: Path):
    """Unless it is to be replaced; what is not a checkpoint never is."""
    gn.checkpoint.save(tmp_path / "run", {"step": 1})
    with refused("cannot save to PATH/run: it exists already; pass overwrite=True to replace it"):
        gn.checkpoint.save(tmp_path / "run", {"step": 2})
    gn.checkpoint.save(tmp_path / "run", {"step": 3}, overwrite=True)
    assert gn.checkpoint.restore(tmp_path / "run", {"step": 0}) == {"step": 3}
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()
    for name in ("notes", "file"):
        with refused(f"cannot save to PATH/{name}: it is not a checkpoint, and is not replaced; delete it first"):
            gn.checkpoint.save(tmp_path / name, {"step": 3}, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "notes", "run"]


@pytest.mark.parametrize("moment", ["write", "first rename", "second rename"])
def test_an_overwrite_that_fails_leaves_a_checkpoint(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At each moment the old one or the new one is read; the next save tidies up."""
    gn.checkpoint.save(tmp_path / "run", {"step": 1})
    calls: list[Any] = []

    def killed(*args: Any) -> None:
        calls.append(args)
        if len(calls) == {"write": 1, "first rename": 1, "second rename": 2}[moment]:
            raise KeyboardInterrupt
        real(*args)

    real = _files._move
    with monkeypatch.context() as patch:
        patch.setattr(*((_save, "write") if moment == "write" else (_files, "_move")), killed)
        # As if the process had ended there.
        patch.setattr("shutil.rmtree", lambda *args, **options: None)
        with pytest.raises(KeyboardInterrupt):
            gn.checkpoint.save(tmp_path / "run", {"step": 2}, overwrite=True)
    assert gn.checkpoint.restore(tmp_path / "run", {"step": 0}) == {"step": 1}
    gn.checkpoint.save(tmp_path / "run", {"step": 3}, overwrite=True)
    assert gn.checkpoint.restore(tmp_path / "run", {"step": 0}) == {"step": 3}
    assert os.listdir(tmp_path) == ["run"]


def test_directories_that_are_no_checkpoints(tmp_path: Path):
    """Nothing, a file, an empty directory, a checkpoint of another program."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MANIFEST).write_text('{"custom_metadata": {}}')
    for name, text in {
        "nothing": "not a checkpoint: it does not exist",
        "file": "not a checkpoint: it is a file",
        "empty": f"not a checkpoint: it has no file {MANIFEST}",
        "other": f"{MANIFEST}: it has no manifest of graphnode: something else has written the checkpoint",
    }.items():
        with refused(f"cannot restore from PATH/{name}: {text}"):
            gn.checkpoint.restore(tmp_path / name, net())
        with refused(f"cannot load from PATH/{name}: {text}"):
            gn.checkpoint.load(tmp_path / name, gn.nn.Linear)
        with refused(f"cannot read PATH/{name}: {text}"):
            gn.checkpoint.manifest(tmp_path / name)


def test_a_file_system_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A read-only directory, a full disk: one error, and the old checkpoint stays."""
    gn.checkpoint.save(tmp_path / "run", {"step": 1})

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_save, "write", full)
        with refused("cannot save to PATH/run: cannot write PATH/run: No space left on device"):
            gn.checkpoint.save(tmp_path / "run", {"step": 2}, overwrite=True)
    assert gn.checkpoint.restore(tmp_path / "run", {"step": 0}) == {"step": 1}
    with refused("cannot save to PATH/run: cannot write PATH/..."):
        gn.checkpoint.save("/proc/nowhere/run", {"step": 1})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_told(tmp_path: Path):
    """With the path that cannot be written."""
    tmp_path.chmod(0o500)
    with refused("cannot save to PATH/run: cannot write PATH/..."):
        gn.checkpoint.save(tmp_path / "run", {"step": 1})


# The store leaves tasks behind when it fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_is_found(tmp_path: Path):
    """A flipped bit or an end that is missing, in any file: an error, or the values that were saved."""
    rng = random.Random(0)
    model = net()
    noise = np.asarray(np.random.default_rng(0).standard_normal((64, 64)), np.float32)
    tree = {"model": model, "noise": jnp.asarray(noise)}
    gn.checkpoint.save(tmp_path / "whole", tree)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    largest = max(files, key=lambda path: (tmp_path / "whole" / path).stat().st_size)
    errors = 0
    for file in [*files, *[largest] * 4]:
        for damage in ("flip", "cut"):
            shutil.copytree(tmp_path / "whole", tmp_path / "copy")
            content = bytearray((tmp_path / "whole" / file).read_bytes())
            at = rng.randrange(len(content) or 1)
            if damage == "flip" and content:
                content[at] ^= 1 << rng.randrange(8)
            (tmp_path / "copy" / file).write_bytes(content if damage == "flip" else content[:at])
            live = {"model": net(), "noise": jnp.zeros((64, 64))}
            before = values(live["model"])
            try:
                restored = gn.checkpoint.restore(tmp_path / "copy", live)
            except gn.CheckpointError:
                assert all(new is old for new, old in zip(values(live["model"]), before, strict=True))
                errors += 1
            else:
                assert same(restored["noise"], tree["noise"])
                assert same(values(restored["model"]), values(model))
            shutil.rmtree(tmp_path / "copy")
    assert errors > 8


def test_a_flipped_bit_is_told(tmp_path: Path):
    """Of an array, where the store does not notice it by itself; and of the manifest, where it may be a number."""
    live: Any = {"a": jnp.arange(3), "b": jnp.arange(4), "step": 3}
    gn.checkpoint.save(tmp_path / "run", live)
    text = (tmp_path / "run" / MANIFEST).read_text()
    (tmp_path / "run" / MANIFEST).write_text(text.replace('"int": 3', '"int": 7'))
    start = "cannot restore from PATH/run: "
    with refused(f"{start}{MANIFEST}: the manifest is not the one that was saved: the file is damaged"):
        gn.checkpoint.restore(tmp_path / "run", live)
    manifest = read(tmp_path / "run")
    manifest["states"][1]["crc32"] ^= 1
    write(tmp_path / "run", manifest)
    with refused(f"{start}b: its bytes are not those that were saved: the file is damaged"):
        gn.checkpoint.restore(tmp_path / "run", live)


def test_a_checkpoint_that_is_replaced_meanwhile_is_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its manifest would be of one, and its arrays of the other."""
    gn.checkpoint.save(tmp_path / "run", {"a": jnp.arange(3)})
    real = _orbax.read

    def slow(path: str, wanted: Any) -> Any:
        gn.checkpoint.save(tmp_path / "run", {"a": jnp.arange(3) + 1}, overwrite=True)
        return real(path, wanted)

    monkeypatch.setattr("graphnode.checkpoint._read.read", slow)
    with refused("cannot restore from PATH/run: it was replaced while it was read; read it again"):
        gn.checkpoint.restore(tmp_path / "run", {"a": jnp.arange(3)})


KILLED = """
import sys, graphnode as gn, jax.numpy as jnp
tree = {f"a{at}": jnp.full(1000, 1) for at in range(20)}
for step in range(1000):
    gn.checkpoint.save(sys.argv[1], {**tree, "step": step}, overwrite=True)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_checkpoint(tmp_path: Path):
    """At any moment of an overwrite: the last complete step, or the one that was being written."""
    rng = random.Random(0)
    zeros: Any = {f"a{at}": jnp.full(1000, 0) for at in range(20)}
    for _ in range(10):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            done = [int(process.stdout.readline()) for _ in range(2)]
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            done += [int(line) for line in process.stdout.read().split()]
        live = {**zeros, "step": 0}
        restored: Any = gn.checkpoint.restore(tmp_path / "run", live)
        assert restored["step"] in (done[-1], done[-1] + 1)
        assert int(restored["a7"][-1]) == 1
