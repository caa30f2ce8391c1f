"""The figures of checkpoints, beside Orbax alone on the same arrays in nested dicts: time, memory, and the manifest."""

import gc
import importlib
import shutil
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
from graphnode.checkpoint import _files, _manifest, _save, _show, _tree

from .library import GRAPHNODE
from .measures import Result
from .memory import most_memory

ORBAX: Final = "Orbax alone"
SAVE: Final = "the whole save"
_MOST: Final = 1.1
_MANIFEST_PART: Final = 0.05
_SHOW_SECONDS: Final = 0.5
SHAPE: Final = (4096, 1024)
LARGE: Final = 60


class Block(gn.Node):
    """Six small States."""

    w: gn.ParamState
    b: gn.ParamState
    scale: gn.ParamState
    bias: gn.ParamState
    mean: gn.BatchState
    var: gn.BatchState


class Deep(gn.Node):
    """Blocks, and a counter."""

    blocks: list[Block]
    counter: gn.State


class Wide(gn.Node):
    """A few large arrays."""

    arrays: list[gn.ParamState]


def deep(blocks: int) -> Deep:
    def block() -> Block:
        w, b, scale, bias = [gn.ParamState(jnp.zeros(4)) for _ in range(4)]
        return Block(w, b, scale, bias, gn.BatchState(jnp.zeros(4)), gn.BatchState(jnp.ones(4)))

    return Deep([block() for _ in range(blocks)], gn.State(jnp.int32(0)))


def wide() -> Wide:
    rng = np.random.default_rng(0)
    # Noise, which the store cannot compress.
    return Wide([gn.ParamState(jnp.asarray(rng.standard_normal(SHAPE, np.float32))) for _ in range(LARGE)])


def nested(model: gn.Node) -> dict[str, Any]:
    """The arrays of a model in dicts."""
    arrays: dict[str, Any] = {}
    for path, state in gn.states(model).items():
        inner = arrays
        for key in path[:-1]:
            inner = inner.setdefault(str(key), {})
        inner[str(path[-1])] = state.value
    return arrays


def measure_checkpoints(rounds: int) -> list[Result]:
    """All figures."""
    results = [*_beside_orbax("601 States", deep(100), rounds), *_beside_orbax("1 GB in 60 arrays", wide(), 3)]
    for blocks in (100, 1666):
        results += _manifest_figures(deep(blocks))
    return results


def _orbax() -> Any:
    return importlib.import_module("orbax.checkpoint").v1


def _beside_orbax(title: str, model: gn.Node, rounds: int) -> list[Result]:
    """Saving and restoring, in interleaved rounds of which the first does not count."""
    folder = Path(tempfile.mkdtemp())
    ours, theirs, orbax, arrays = folder / "graphnode", folder / "orbax", _orbax(), nested(model)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arrays)
    calls: dict[str, dict[str, Callable[[], Any]]] = {
        "save": {
            GRAPHNODE: lambda: gn.checkpoint.save(ours, model),
            ORBAX: lambda: orbax.save(theirs, arrays),
        },
        "restore": {
            GRAPHNODE: lambda: nested(gn.checkpoint.restore(ours, model)),
            ORBAX: lambda: orbax.load(theirs, abstract),
        },
    }
    seconds: dict[str, dict[str, list[float]]] = {kind: {GRAPHNODE: [], ORBAX: []} for kind in calls}
    for number in range(rounds + 1):
        shutil.rmtree(ours, ignore_errors=True)
        shutil.rmtree(theirs, ignore_errors=True)
        for kind, contenders in calls.items():
            for name in sorted(contenders, reverse=bool(number % 2)):
                gc.collect()
                start = time.perf_counter()
                jax.block_until_ready(contenders[name]())
                seconds[kind][name].append(time.perf_counter() - start)
    shutil.rmtree(folder)
    return [
        _result(f"checkpoint-{kind}", f"{kind} of {title}", model, {k: v[1:] for k, v in found.items()}, ORBAX, _MOST)
        for kind, found in seconds.items()
    ]


def _result(
    name: str, title: str, model: gn.Node, seconds: dict[str, list[float]], against: str, limit: float
) -> Result:
    """A row: the median of the ratios of the rounds."""
    ratios = [own / other for own, other in zip(seconds[GRAPHNODE], seconds[against], strict=True)]
    measured = {name: statistics.median(times) for name, times in seconds.items()}
    return Result(name, title, len(gn.states(model)), statistics.median(ratios), against, limit, measured)


def _manifest_figures(model: gn.Node) -> list[Result]:
    """The manifest's part of a save, both as time of the processor; and `show`."""
    folder = Path(tempfile.mkdtemp())
    seconds: dict[str, list[float]] = {GRAPHNODE: [], SAVE: []}
    shows: list[float] = []
    for _ in range(4):
        start = time.process_time()
        gn.checkpoint.save(folder / "run", model, overwrite=True)
        seconds[SAVE].append(time.process_time() - start)
        start = time.process_time()
        manifest, _arrays = _save.prepared(_tree.take_tree(model, ""), "", _save.Extra(None, None))
        _files.metadata_of(_manifest.manifest_to_json(manifest))
        seconds[GRAPHNODE].append(time.process_time() - start)
        start = time.process_time()
        "\n".join(_show.printable(_show.shown(gn.checkpoint.manifest(folder / "run"))))
        shows.append(time.process_time() - start)
    shutil.rmtree(folder)
    part = _result("checkpoint-manifest", "the manifest of a save", model, seconds, SAVE, _MANIFEST_PART)
    show = statistics.median(shows)
    row = Result(
        "checkpoint-show",
        "`show`, beyond imports",
        len(gn.states(model)),
        show,
        None,
        _SHOW_SECONDS,
        {GRAPHNODE: show},
        per="checkpoint",
    )
    return [part, row]


# Each in a process of its own, as the system tells the most memory that a process has had.
_PEAK = """
import sys
from tests.benchmarks.checkpoint_figures import peak_of
print(peak_of(*sys.argv[1:]))
"""


def peaks(rounds: int) -> dict[str, float]:
    """The most host memory in bytes beyond what was taken before, of `restore`, `load` and Orbax alone, for 1 GB."""
    folder = Path(tempfile.mkdtemp())
    model = wide()
    gn.checkpoint.save(folder / "graphnode", model)
    _orbax().save(folder / "orbax", nested(model))
    found: dict[str, list[float]] = {"restore": [], "load": [], ORBAX: []}
    for _ in range(rounds):
        for name, numbers in found.items():
            command = [sys.executable, "-c", _PEAK, name, str(folder)]
            numbers.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    shutil.rmtree(folder)
    return {name: statistics.median(numbers) for name, numbers in found.items()}


def peak_of(name: str, folder: str) -> int:
    """For `peaks`: read the checkpoint, and give the most memory beyond what was taken before."""
    orbax = _orbax()
    abstract = gn.eval_shape(lambda: Wide([gn.ParamState(jnp.zeros(SHAPE)) for _ in range(LARGE)]))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    arrays = {str(at): jax.ShapeDtypeStruct(SHAPE, jnp.float32, sharding=one) for at in range(LARGE)}
    jnp.zeros(()).block_until_ready()
    before = most_memory()
    if name == ORBAX:
        jax.block_until_ready(orbax.load(Path(folder) / "orbax", {"arrays": arrays}))
    elif name == "load":
        gn.checkpoint.load(Path(folder) / "graphnode", Wide)
    else:
        gn.checkpoint.restore(Path(folder) / "graphnode", abstract)
    return most_memory() - before
