"""Every figure of the benchmark: what is measured, against what, and the limit.

The contenders of a figure are the libraries that have the operation. To add a figure, write the function that
prepares its call for one library, and a `Timed` record in `FIGURES`. Those of compiled steps are in `step_figures`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations, cycle

import jax

from .callbacks import count_callbacks
from .library import BRAINSTATE, EQUINOX, GRAPHNODE, JAX, NNX, Library, Parts
from .measures import Counted, Figure, Limit, Timed, each_library
from .step_figures import STEP_FIGURES
from .timing import Prepare, Sampler, always
from .workbench import Workbench

_TEN_TIMES_DEEPER = "itself, ten times as deep"
_IMPORT_ROUNDS = 11


def split(bench: Workbench, library: Library) -> Prepare:
    return always(library.split(bench.model(library)))


def split_params(bench: Workbench, library: Library) -> Prepare:
    return always(library.split_params(bench.model(library)))


def collect_params(bench: Workbench, library: Library) -> Prepare:
    return always(library.collect_params(bench.model(library)))


def merge(bench: Workbench, library: Library) -> Prepare:
    return always(library.merge(bench.model(library)))


def update(bench: Workbench, library: Library) -> Prepare | None:
    if library.update is None:
        return None
    model = bench.model(library)
    # Two sources in turn, so that every update writes other arrays than are there.
    sources = [library.build(arrays) for arrays in (bench.other_arrays, bench.arrays)]
    return cycle([library.update(model, source) for source in sources]).__next__


def flatten_state_tree(bench: Workbench, library: Library) -> Prepare:
    return always(partial(jax.tree.flatten, library.state_tree(bench.model(library))))


def jit_identity(bench: Workbench, library: Library) -> Prepare:
    tree = library.state_tree(bench.model(library))
    argument = tuple(jax.tree.leaves(tree)) if library.name == JAX else tree
    identity = jax.jit(lambda tree: tree)
    return always(lambda: jax.block_until_ready(identity(argument)))


def first_split(bench: Workbench, library: Library) -> Prepare | None:
    if library.name in (JAX, EQUINOX):  # a pytree has no first time
        return None
    return lambda: library.split(library.build(bench.arrays))


def first_split_unseen(bench: Workbench, library: Library) -> Prepare | None:
    if library.name in (JAX, EQUINOX):
        return None
    # No two of these models have the same structure: in each, another pair of blocks shares its `w`.
    pairs = cycle(combinations(range(bench.depth), 2))

    def prepare() -> Callable[[], object]:
        rows, counter = library.ready(bench.arrays)
        owner, borrower = next(pairs)
        rows[borrower] = (rows[owner][0], *rows[borrower][1:])
        return library.split(library.construct(Parts(rows, counter)))

    return prepare


def construct(bench: Workbench, library: Library) -> Prepare:
    return lambda: partial(library.construct, library.ready(bench.arrays))


def compare_graphdefs(bench: Workbench, library: Library) -> Prepare:
    one = library.graphdef(bench.model(library))
    other = library.graphdef(library.build(bench.arrays))
    return always(lambda: (hash(one), hash(other), one == other))


def compare_graphdefs_deeper(bench: Workbench) -> Mapping[str, Sampler]:
    graphnode = [library for library in bench.libraries if library.name == GRAPHNODE]
    deeper = Workbench(10 * bench.depth, graphnode, bench.effort)
    compare = each_library(compare_graphdefs)
    return {**compare(bench), _TEN_TIMES_DEEPER: compare(deeper)[GRAPHNODE]}


def import_fresh(bench: Workbench) -> Mapping[str, Sampler]:
    samplers = {library.name: partial(_import_seconds, library.module) for library in bench.libraries}
    for sample in samplers.values():  # the first import may compile
        sample()
    return samplers


def _import_seconds(module: str) -> float:
    program = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    # Where the variable is set, as in many containers, a library would be compiled anew at every import.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", program]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


def callbacks(bench: Workbench, library: Library) -> int:
    return count_callbacks(library.state_tree(bench.model(library)))


FIGURES: tuple[Figure, ...] = (
    Timed("split", "`treefy_split(model)`, repeated", each_library(split), (Limit(0.5),), scales=True),
    Timed(
        "split-params",
        "`treefy_split(model, ParamState, ...)`, repeated",
        each_library(split_params),
        (Limit(0.5),),
        scales=True,
    ),
    Timed(
        "collect",
        "`states(model, ParamState)`, repeated",
        each_library(collect_params),
        (Limit(0.5),),
        scales=True,
    ),
    Timed("merge", "`treefy_merge`", each_library(merge), (Limit(6, when_large=8),), scales=True),
    Timed("update", "`update_states`, with its checks", each_library(update), (Limit(2),), scales=True),
    Timed(
        "flatten",
        "`jax.tree.flatten(state_tree)`",
        each_library(flatten_state_tree),
        (Limit(0.5),),
        scales=True,
    ),
    Counted("callbacks", "Python callbacks in `jax.tree.flatten(state_tree)`", callbacks, 1),
    Timed("jit", "`jax.jit(lambda t: t)(state_tree)`", each_library(jit_identity, time.perf_counter), (Limit(1.1),)),
    Timed(
        "first-split",
        "first split of a fresh model",
        each_library(first_split),
        (Limit(1 / 6, BRAINSTATE), Limit(1 / 10, NNX)),
    ),
    Timed(
        "first-split-unseen",
        "the same, of a structure never seen before",
        each_library(first_split_unseen),
        (Limit(1 / 6, BRAINSTATE), Limit(1 / 10, NNX)),
    ),
    Timed(
        "construct",
        "construction from ready States",
        each_library(construct),
        (Limit(1, EQUINOX), Limit(1, NNX)),
    ),
    Timed(
        "graphdef",
        "hash and `==` of two equal graphdefs, ten times as deep",
        compare_graphdefs_deeper,
        (Limit(1.5, against=GRAPHNODE, subject=_TEN_TIMES_DEEPER),),
    ),
    Timed("import", "import in a new process", import_fresh, (Limit(1.06),), rounds=_IMPORT_ROUNDS),
    *STEP_FIGURES,
)
