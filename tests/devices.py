"""Programs that need several devices or hosts: JAX is told of them before it starts, so each runs by itself."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import graphnode


def environment_of(count: int) -> dict[str, str]:
    """The environment of a program that has so many simulated devices."""
    return {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(Path(graphnode.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }


def run_with_devices(program: str, count: int) -> None:
    """Run a program with so many simulated devices; what it raises, or warns of, fails the test."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment_of(count),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
    return port


def run_together(commands: Sequence[Sequence[str]], folder: Path, devices: int = 4) -> list[str]:
    """Run Python with these arguments, each in a process of its own, and all at the same time.

    Args:
        commands: The arguments of each.
        devices: How many simulated devices each has.
        folder: Beside it, what they print is kept.

    Returns:
        What each has printed.
    """
    outputs = [folder.parent / f"{folder.name}-{rank}" for rank in range(len(commands))]
    processes: list[subprocess.Popen[bytes]] = []
    for command, output in zip(commands, outputs, strict=True):
        with output.open("wb") as stream:
            arguments = [sys.executable, *command]
            environment = environment_of(devices)
            processes.append(subprocess.Popen(arguments, env=environment, stdout=stream, stderr=stream))
    try:
        # Generous: a busy machine must not fail it. Processes that wait for each other would for ever.
        end = time.monotonic() + 600
        # Until all have ended, or one has failed, for which the others may wait.
        while None in (codes := [process.poll() for process in processes]) and not any(codes):
            assert time.monotonic() < end, [output.read_text() for output in outputs]
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    texts = [output.read_text() for output in outputs]
    assert not any(codes), "\n".join(texts)
    return texts


# What a program of `run_two` begins with: it is one of two processes that find each other on this machine.
TWO = """
import sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, rank)
assert len(jax.devices()) == 8 and len(jax.local_devices()) == 4
"""


def run_two(program: str, folder: Path) -> list[str]:
    """Run a program in two processes with four devices each: it knows its `rank` and the `folder`.

    Returns:
        What each has printed.
    """
    port = str(free_port())
    commands = [["-c", TWO + program, str(rank), port, str(folder)] for rank in range(2)]
    return run_together(commands, folder)
