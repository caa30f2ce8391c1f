"""Programs that need several devices: JAX is told of them before it starts, so each runs in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import graphnode


def run_with_devices(program: str, count: int) -> None:
    """Run a program with so many simulated devices; what it raises, or warns of, fails the test."""
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(Path(graphnode.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
