"""The figures of safetensors files: `write` and `read` beside the package of that name, and the most memory of both."""

import gc
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

import graphnode as gn
from graphnode.checkpoint import Cast, Changes, Transpose

from .checkpoint_figures import LARGE, SHAPE, Wide, nested, wide
from .library import GRAPHNODE
from .measures import Result
from .memory import most_memory

PACKAGE: Final = "safetensors"
_MOST: Final = 1.05
_NAME: Final = "arrays.{}"


def measure_safetensors(rounds: int) -> list[Result]:
    """Writing and reading 1 GB, in interleaved rounds of which the first does not count."""
    package = importlib.import_module("safetensors.numpy")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "graphnode.safetensors", Path(folder) / "package.safetensors"
        model = wide()
        arrays = {_NAME.format(at): np.asarray(array) for at, array in nested(model)["arrays"].items()}
        calls: dict[str, dict[str, Callable[[], Any]]] = {
            "write": {
                GRAPHNODE: lambda: gn.checkpoint.write(model, ours, overwrite=True),
                PACKAGE: lambda: package.save_file(arrays, theirs),
            },
            "read": {
                GRAPHNODE: lambda: gn.checkpoint.read(ours, into=model),
                PACKAGE: lambda: jax.block_until_ready(jax.tree.map(jnp.asarray, package.load_file(theirs))),
            },
        }
        seconds: dict[str, dict[str, list[float]]] = {kind: {GRAPHNODE: [], PACKAGE: []} for kind in calls}
        for number in range(rounds + 1):
            for kind, contenders in calls.items():
                for name in sorted(contenders, reverse=bool(number % 2)):
                    gc.collect()
                    start = time.perf_counter()
                    contenders[name]()
                    seconds[kind][name].append(time.perf_counter() - start)
    return [_row(kind, {name: times[1:] for name, times in found.items()}) for kind, found in seconds.items()]


def _row(kind: str, seconds: dict[str, list[float]]) -> Result:
    """A row: the median of the ratios of the rounds."""
    ratios = [own / other for own, other in zip(seconds[GRAPHNODE], seconds[PACKAGE], strict=True)]
    measured = {name: statistics.median(times) for name, times in seconds.items()}
    title = f"{kind} a safetensors file of 1 GB in {LARGE} arrays"
    return Result(f"safetensors-{kind}", title, LARGE, statistics.median(ratios), PACKAGE, _MOST, measured)


# Each in a process of its own, as the system tells the most memory that a process has had.
_PEAK = """
import sys
from tests.benchmarks.safetensors_figures import peak_of
print(peak_of(*sys.argv[1:]))
"""


def conversion_peaks() -> dict[str, float]:
    """The most host memory in bytes beyond the model, of a file of transposed arrays of half precision."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, float] = {}
        for name in ("write", "read"):
            command = [sys.executable, "-c", _PEAK, name, folder]
            found[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def peak_of(name: str, folder: str) -> int:
    """For `conversion_peaks`: write the model, or read it again, and give the most memory beyond that of the model."""
    changes = Changes([Cast("arrays.*", "bfloat16", before="float32"), Transpose("arrays.*")])
    path = Path(folder) / "half.safetensors"
    # What the first of all arrays takes, such as threads and their memory.
    jax.block_until_ready([jnp.asarray(np.zeros(SHAPE, np.float32)).T + 1 for _ in range(4)])
    if name == "write":
        model = Wide([gn.ParamState(jnp.full(SHAPE, at, jnp.float32)) for at in range(LARGE)])
        before = most_memory()
        gn.checkpoint.write(model, path, changes=changes)
        return most_memory() - before
    model = gn.eval_shape(lambda: Wide([gn.ParamState(jnp.zeros(SHAPE)) for _ in range(LARGE)]))
    before = most_memory()
    gn.checkpoint.read(path, into=model, changes=changes.inverse())
    size: int = sum(state.value.nbytes for state in gn.states(model).values())
    return most_memory() - before - size
