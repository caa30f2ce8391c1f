"""What checkpoints survive: killed processes, full disks, damage, two writers, Ctrl-C, donated memory."""

import contextlib
import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.checkpoint import _commit, _orbax, _read, _restore
from tests.checkpoint.nets import MANIFEST, Counter, Net, net, read, refused, same, values, write


def program_of(body: str) -> list[str]:
    """The command that runs a program which finds graphnode and the tests."""
    head = f"import sys\nsys.path.insert(0, {str(Path(gn.__file__).parents[1])!r})\n"
    return [sys.executable, "-c", head + textwrap.dedent(body)]


# Imports once, and then forks a process for each line that it reads, before JAX has started anything.
SAVING = """
import os, sys, warnings
import jax, jax.numpy as jnp, orbax.checkpoint
import graphnode as gn
warnings.simplefilter("ignore")

def save_all():
    step = int(sys.argv[2])
    while True:
        step += 1
        tree = {f"a{at}": jnp.full(500, step) for at in range(12)}
        gn.checkpoint.save(sys.argv[1], {**tree, "step": step}, overwrite=True)
        os.write(1, f"{step}\\n".encode())

for start in sys.stdin:
    child = os.fork()
    if not child:
        sys.argv[2:] = [start]
        save_all()
    os.write(1, f"pid {child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"ended\\n")
"""


@pytest.mark.slow
def test_fifty_killed_processes_leave_a_checkpoint(tmp_path: Path):
    """At whatever moment: what is there is complete, and is of the last step or the one before."""
    rng = random.Random(0)
    path, last, leftovers = tmp_path / "run", 0, set()
    command = [*program_of(SAVING), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(50):
            parent.stdin.write(f"{last}\n")
            pid = int(parent.stdout.readline().removeprefix("pid "))
            done = int(parent.stdout.readline())
            time.sleep(rng.random() * 0.1)
            os.kill(pid, signal.SIGKILL)
            while (line := parent.stdout.readline()) != "ended\n":
                done = int(line)
            leftovers |= {name.partition(".")[2] for name in os.listdir(tmp_path)}
            live: dict[str, Any] = {f"a{at}": jnp.zeros(500, jnp.int32) for at in range(12)} | {"step": 0}
            restored = gn.checkpoint.restore(path, live)
            last = restored["step"]
            assert last in (done, done + 1)
            assert all(set(np.asarray(restored[f"a{at}"]).tolist()) == {last} for at in range(12))
        parent.stdin.close()
    # They were killed in the middle of it.
    assert any(name.startswith("graphnode-new") for name in leftovers), leftovers
    gn.checkpoint.save(path, {"step": 1}, overwrite=True)
    assert os.listdir(tmp_path) == ["run"]


def test_what_a_killed_first_save_leaves_is_deleted(tmp_path: Path):
    """The directory that it was writing, and its lock, which has gone with it."""
    (tmp_path / "run.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (tmp_path / "run.graphnode-lock").touch()
    (tmp_path / "run.2").mkdir()
    gn.checkpoint.save(tmp_path / "run", {"step": 1})
    assert sorted(os.listdir(tmp_path)) == ["run", "run.2"]


FULL = """
import os, jax.numpy as jnp, numpy as np
import graphnode as gn
os.chdir(sys.argv[1])
noise = jnp.asarray(np.random.default_rng(0).integers(0, 2**31, 2**20), jnp.int32)

def refused(path, **options):
    try:
        gn.checkpoint.save(path, {"a": noise, "step": 2}, **options)
    except gn.CheckpointError as error:
        (fault,) = error.faults
        assert fault.startswith("cannot write " + os.path.abspath(path)), fault
        assert fault.endswith(sys.argv[2]), fault
    else:
        raise AssertionError
    assert os.listdir() == ["run"], os.listdir()
    assert gn.checkpoint.restore("run", {"a": jnp.ones(5), "step": 0})["step"] == 1

gn.checkpoint.save("run", {"a": jnp.ones(5), "step": 1})
refused("run", overwrite=True)
refused("other")
gn.checkpoint.save("run", {"a": jnp.ones(5), "step": 3}, overwrite=True)
assert gn.checkpoint.restore("run", {"a": jnp.ones(5), "step": 0})["step"] == 3
print("done")
"""


def output_of(command: list[str]) -> str:
    """What a program prints; errors fail the test."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    # Not page after page of what threads of the store have met.
    assert "Traceback" not in done.stderr
    return done.stdout


def in_mounts(mounts: str, command: list[str]) -> list[str]:
    """The command in a name space of its own, where it sees other mounts; skips the test if there are none."""
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-ec", f'{mounts}; exec "$@"', "sh"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system can only be mounted on Linux, where name spaces of users are allowed")
    return [*prefix, *command]


@pytest.mark.slow
def test_a_full_disk_leaves_what_there_was(tmp_path: Path):
    """One error; the old checkpoint is read, and the next one is written as if nothing had been."""
    command = [*program_of(FULL), str(tmp_path), "No space left on device"]
    assert output_of(in_mounts(f"mount -t tmpfs -o size=1m none {tmp_path}", command)) == "done\n"


@pytest.mark.slow
def test_a_limit_of_files_leaves_what_there_was(tmp_path: Path):
    """As on a full disk."""
    limits = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    assert output_of([*program_of(limits + FULL), str(tmp_path), "File too large"]) == "done\n"


READ_ONLY = """
import os, jax.numpy as jnp
import graphnode as gn
os.chdir(sys.argv[1])
for path in ("run", "other", "deep/other"):
    try:
        gn.checkpoint.save(path, {"a": jnp.ones(5)}, overwrite=True)
    except gn.CheckpointError as error:
        assert "cannot write " + os.getcwd() in str(error), error
        assert str(error).endswith("Read-only file system"), error
    else:
        raise AssertionError
print(gn.checkpoint.restore("run", {"a": jnp.ones(5)})["a"].sum())
"""


@pytest.mark.slow
def test_a_read_only_directory_is_read(tmp_path: Path):
    """And not written, with one error, even by root."""
    gn.checkpoint.save(tmp_path / "run", {"a": jnp.zeros(5)})
    mounts = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    assert output_of(in_mounts(mounts, [*program_of(READ_ONLY), str(tmp_path)])) == "0.0\n"


# The store leaves tasks behind when it fails.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_anywhere_is_an_error_or_changes_nothing(tmp_path: Path):
    """Flipped bits, cut ends, zeros, and files that are not there: never other values, and the live model stays."""
    rng = random.Random(0)
    noise = jnp.asarray(np.random.default_rng(0).standard_normal((64, 64)), jnp.float32)
    half = noise.astype(jnp.bfloat16)
    saved = {"model": net(), "noise": noise, "key": jax.random.key(0), "half": half, "step": 3}
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    gn.checkpoint.save(whole, saved)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    shutil.copytree(whole, copy)
    errors = 0
    for file in files:
        content = (whole / file).read_bytes()
        for damaged in damages(content, rng):
            (copy / file).unlink(missing_ok=True)
            if damaged is not None:
                (copy / file).write_bytes(damaged)
            live = {"model": net(), "noise": noise * 0, "key": jax.random.key(1), "half": half * 0, "step": 0}
            before = values(live["model"])
            try:
                restored = gn.checkpoint.restore(copy, live)
            except gn.CheckpointError:
                errors += 1
                assert all(new is old for new, old in zip(values(live["model"]), before, strict=True))
            else:
                assert same(values(restored["model"]), values(saved["model"]))
                assert same([restored[key] for key in list(live)[1:]], [saved[key] for key in list(live)[1:]])
        (copy / file).write_bytes(content)
    assert errors > 50


def damages(content: bytes, rng: random.Random) -> Iterator[bytes | None]:
    """A file, damaged in many ways; `None` for none at all."""
    yield None
    yield b""
    yield bytes(len(content))
    for _ in range(16 if content else 0):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        yield bytes(flipped)
    for _ in range(4 if content else 0):
        yield content[: rng.randrange(len(content))]
    yield content + b"\0"


def test_a_manifest_of_other_classes_is_refused(tmp_path: Path):
    """By name, whether or not the program has them; nothing is imported."""
    gn.checkpoint.save(tmp_path / "run", net())
    manifest = read(tmp_path / "run")
    text = [name for name in manifest["graph"]["classes"] if name.endswith("Linear")]
    manifest["graph"]["classes"] = ["os.system" if name in text else name for name in manifest["graph"]["classes"]]
    manifest["fields"] = {"os.system" if name in text else name: rows for name, rows in manifest["fields"].items()}
    write(tmp_path / "run", manifest)
    live = net()
    before = values(live)
    with refused(
        "cannot restore from PATH/run: 2 faults:",
        "  dec: the tree has Linear, the checkpoint system; allow_changed='dec' allows it",
        "  enc: the tree has Linear, the checkpoint system; allow_changed='enc' allows it",
    ):
        gn.checkpoint.restore(tmp_path / "run", live)
    assert all(new is old for new, old in zip(values(live), before, strict=True))
    with pytest.raises(gn.CheckpointError, match="system"):
        gn.checkpoint.load(tmp_path / "run", Net)


def test_two_writers_of_one_path_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second one gets an error while the first one writes, and disturbs nothing."""
    inside, go_on = threading.Event(), threading.Event()
    real = _orbax.write

    def slow(*args: Any) -> None:
        inside.set()
        assert go_on.wait(30)
        real(*args)

    for step in (1, 2):
        inside.clear()
        go_on.clear()
        monkeypatch.setattr("graphnode.checkpoint._save.write", slow)
        options = {"overwrite": step == 2}
        first = threading.Thread(target=gn.checkpoint.save, args=(tmp_path / "run", {"step": step}), kwargs=options)
        first.start()
        assert inside.wait(30)
        monkeypatch.setattr("graphnode.checkpoint._save.write", real)
        for overwrite in (True, False):
            with refused("cannot save to PATH/run: another program is saving to it at this moment"):
                gn.checkpoint.save(tmp_path / "run", {"step": 7}, overwrite=overwrite)
        go_on.set()
        first.join()
        assert gn.checkpoint.restore(tmp_path / "run", {"step": 0}) == {"step": step}
    assert os.listdir(tmp_path) == ["run"]


WRITER = """
import random, time
import jax.numpy as jnp
import graphnode as gn
number = int(sys.argv[2])
tree = {f"a{at}": jnp.full(500, number) for at in range(12)}
saved = refused = 0
end = time.monotonic() + 60
while (saved < 20 or not refused) and time.monotonic() < end:
    try:
        gn.checkpoint.save(sys.argv[1], {**tree, "number": number}, overwrite=True)
        saved += 1
    except gn.CheckpointError as error:
        assert str(error).endswith("another program is saving to it at this moment"), error
        refused += 1
    time.sleep(random.random() * 0.05)
print(saved)
"""


# The store leaves tasks behind where what it reads is replaced.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_programs_and_a_reader_do_not_mix(tmp_path: Path):
    """Each save is whole or refused, and so is each read."""
    path = tmp_path / "run"
    tree: dict[str, Any] = {f"a{at}": jnp.zeros(500, jnp.int32) for at in range(12)}
    gn.checkpoint.save(path, {**tree, "number": 0})
    writers = [
        subprocess.Popen([*program_of(WRITER), str(path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in (1, 2)
    ]
    seen: set[int] = set()
    while any(writer.poll() is None for writer in writers):
        try:
            restored = gn.checkpoint.restore(path, {**tree, "number": 0})
        except gn.CheckpointError:
            # It was replaced meanwhile.
            continue
        seen.add(restored["number"])
        assert all(set(np.asarray(restored[name]).tolist()) == {restored["number"]} for name in tree)
    assert len(seen) > 1
    counts = [int(writer.communicate()[0]) for writer in writers]
    assert min(counts) >= 20
    assert os.listdir(tmp_path) == ["run"]


def test_donation_after_save_changes_nothing(tmp_path: Path):
    """The memory belongs to the program again when `save` returns; checksums keep no copy that prevents it."""
    model = net(64)
    before = [np.array(value) for value in values(model)]
    gn.checkpoint.save(tmp_path / "run", {"model": model, "x": (x := jnp.arange(1000.0))})
    addresses = {value.unsafe_buffer_pointer() for value in (x, *values(model))}

    @jax.jit
    def step(arrays: list[jax.Array]) -> list[jax.Array]:
        return [array * 0 - 1 for array in arrays]

    donated = jax.jit(step, donate_argnums=0)([x, *values(model)])
    assert x.is_deleted()
    assert {array.unsafe_buffer_pointer() for array in donated} & addresses
    jax.block_until_ready(donated)
    live: dict[str, Any] = {"model": net(64), "x": jnp.zeros(1000)}
    restored = gn.checkpoint.restore(tmp_path / "run", live)
    assert np.array_equal(restored["x"], np.arange(1000.0))
    assert same([np.asarray(value) for value in values(live["model"])], before)


def interrupted(real: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """A function that Ctrl-C interrupts, when it begins or when it is done."""

    def call(*args: Any, **options: Any) -> Any:
        if after:
            real(*args, **options)
        raise KeyboardInterrupt

    return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (_restore, "read_manifest"),
        (_restore, "take_tree"),
        (_read, "read_values"),
        (_restore, "prepared"),
        (_restore, "move"),
        (_commit, "value_to_store"),
    ],
)
def test_an_interrupt_in_the_middle_of_a_restore_changes_nothing(
    module: ModuleType, name: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither States nor data iterators."""
    gn.checkpoint.save(tmp_path / "run", {"model": net(), "data": Counter(3), "more": Counter(4)})
    live: dict[str, Any] = {"model": net(), "data": Counter(0), "more": Counter(0)}
    before = values(live["model"])
    monkeypatch.setattr(module, name, interrupted(getattr(module, name), after=after))
    with pytest.raises(KeyboardInterrupt):
        gn.checkpoint.restore(tmp_path / "run", live)
    assert all(new is old for new, old in zip(values(live["model"]), before, strict=True))
    assert live["data"].at == live["more"].at == 0


# The store leaves tasks behind when it is interrupted.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_at_any_moment_of_a_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All of it is written, or none."""
    # That of pytest would be interrupted itself, and report what interrupted it as a failure.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    rng = random.Random(0)
    saved: dict[str, Any] = {"model": net(), "data": Counter(3)}
    for state in gn.states(saved["model"]).values():
        state.value = state.value * 0 + 7
    gn.checkpoint.save(tmp_path / "run", saved)
    live: dict[str, Any] = {"model": net(), "data": Counter(0)}
    before = values(live["model"])
    start = time.perf_counter()
    gn.checkpoint.restore(tmp_path / "run", {"model": net(), "data": Counter(0)})
    duration = time.perf_counter() - start
    interrupts = 0
    # A program that is started in the background may ignore it.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in range(40):
        # By a thread of its own: the handler runs in this one, between two of its instructions.
        timer = threading.Timer(rng.random() * duration * 1.2, lambda: signal.raise_signal(signal.SIGINT))
        start = time.perf_counter()
        try:
            timer.start()
            gn.checkpoint.restore(tmp_path / "run", live)
            # The first one may have taken much longer: then few signals would come in time.
            duration = time.perf_counter() - start
            timer.join()
        except KeyboardInterrupt:
            interrupts += 1
        finally:
            with contextlib.suppress(KeyboardInterrupt):
                timer.join()
        numbers = {float(value.reshape(-1)[0]) for value in values(live["model"])}
        is_new = numbers == {7.0}
        assert is_new or all(new is old for new, old in zip(values(live["model"]), before, strict=True))
        assert live["data"].at == (3 if is_new else 0)
        for state, value in zip(gn.states(live["model"]).values(), before, strict=True):
            state.value = value
        live["data"].at = 0
        before = values(live["model"])
    signal.signal(signal.SIGINT, earlier)
    assert interrupts > 5


# The store leaves coroutines behind where a file is missing.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failed_restore_keeps_the_live_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever fails: the store, its answer, a directory that is none."""
    gn.checkpoint.save(tmp_path / "run", {"model": net(), "data": Counter(3)})
    live: dict[str, Any] = {"model": net(), "data": Counter(0)}
    before = values(live["model"])

    def check(*lines: str, path: str = "run") -> None:
        with refused(*lines):
            gn.checkpoint.restore(tmp_path / path, live)
        assert all(new is old for new, old in zip(values(live["model"]), before, strict=True))
        assert live["data"].at == 0

    def fail(*_: Any) -> None:
        raise MemoryError("out of memory")

    check("cannot restore from PATH/nothing: not a checkpoint: it does not exist", path="nothing")
    shutil.copytree(tmp_path / "run", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "state")
    check("cannot restore from PATH/parts: the arrays cannot be read: ...", path="parts")
    (tmp_path / "parts" / MANIFEST).unlink()
    check(f"cannot restore from PATH/parts: not a checkpoint: it has no file {MANIFEST}", path="parts")
    gc.collect()
    monkeypatch.setattr(_read, "read", fail)
    check("cannot restore from PATH/run: the arrays cannot be read: out of memory")
    monkeypatch.setattr(_read, "read", lambda path, wanted: {})
    check("cannot restore from PATH/run: 4 faults:", "  model.dec.bias: the file of the array holds another one ...")
