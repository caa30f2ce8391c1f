"""Measure every figure, print the tables, and write `docs/performance.md`, `docs/performance.json` and the README.

Only a whole section is written: all its figures and libraries, at the usual depth, and not `--quick`. One that was not
measured stays as it was written before. With another version of Python than the page's own, the results are written
beside those of the page, and do not replace them. For a page of another version, remove `performance.json` first.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from .cells import cells, limit_of, mark, table, value_of
from .checkpoint_figures import ORBAX, SAVE, measure_checkpoints, peaks
from .config_figures import CONFIG_FIGURES
from .config_library import CONFIG_NAMES, load_config_libraries
from .config_peers import PEER_NODES, PEERS, measure_configs
from .config_report import Configs, config_figures_table, peers_table
from .elsewhere import CONFIGS, GRAPHS, MODELS, SECTIONS
from .environment import environment_of
from .figures import FIGURES
from .library import GRAPHNODE, JAX, NAMES, load
from .llama import LLAMA_NAMES, LlamaSizes, load_runners
from .llama_figures import measure_llama
from .measures import Figure, Result
from .model_figures import MODEL_STEP, measure_models
from .model_report import Models, model_figures_table, ways_table
from .name_figures import WITHOUT, measure_names
from .report import Written, read, tables, updated, write
from .safetensors_figures import PACKAGE, conversion_peaks, measure_safetensors
from .sharding_figures import BY_HAND, ITS_BYTES, measure_sharding
from .steps import GN_JIT, JAX_TUPLE
from .timing import Effort
from .transformer import MODEL_NAMES, Sizes, load_ways
from .workbench import Workbench, depth_for

_DOCS = Path(__file__).parents[2] / "docs"
_README = _DOCS.parent / "README.md"
CHECKPOINTS, SHARDING, LLAMA, NAMED = "checkpoints", "sharding", "llama", "names"
"""Printed alone: what a disk takes is not for the page, nor what devices do that are not there, nor what no other
library has; and the guide to layers has the third.
"""
_DEPTH = 100
_LARGE = 100_000
"""The one other size that has limits."""


@dataclass(frozen=True)
class Plan:
    """How long to measure the figures, and which of them at which other sizes."""

    effort: Effort
    sizes: tuple[int, ...]
    effort_at_sizes: Effort


_FULL = Plan(Effort(rounds=31, seconds=0.004), (10, 1_000, 10_000, _LARGE), Effort(rounds=15, seconds=0.004))
_QUICK = Plan(Effort(rounds=5, seconds=0.001), (10, 1_000), Effort(rounds=5, seconds=0.001))


def main() -> None:
    """Run the benchmark as the command line says."""
    options = _parse()
    plan = _QUICK if options.quick else _FULL
    sections = options.sections or SECTIONS
    is_whole = plan is _FULL and options.only is None and options.depth == _DEPTH
    before = read(options.output)
    graphs = _graphs(options, plan) if GRAPHS in sections else None
    configs = _configs(options.only, plan) if CONFIGS in sections else None
    models = _models(plan) if MODELS in sections and options.only in (None, MODEL_STEP) else None

    # Part of the figures, or figures measured in a hurry, must not replace the page.
    measured = [part for part in (graphs, configs, models) if part is not None]
    if is_whole and not any(part.missing for part in measured):
        written = updated(
            before,
            graphs.written if graphs is not None else None,
            configs.written if configs is not None else None,
            models.written if models is not None else None,
        )
        if written is not None:
            write(options.output, options.depth, written, _README if options.output == _DOCS else None)
            print(f"wrote {options.output}/performance.md and performance.json")
    rows = [result for part in measured for result in part.rows]
    if CHECKPOINTS in sections:
        rows += _checkpoints(plan)
    if SHARDING in sections:
        rows += _sharding(plan)
    if LLAMA in sections:
        rows += _llama(plan)
    if NAMED in sections:
        rows += _named(plan)
    short = [result for result in rows if result.holds is False]
    print(f"{len(short)} of {len(rows)} rows fall short")


class _Graphs(NamedTuple):
    written: Written
    missing: set[str]

    @property
    def rows(self) -> list[Result]:
        return [*self.written.figures, *self.written.sizes]


def _graphs(options: argparse.Namespace, plan: Plan) -> _Graphs:
    figures = [figure for figure in FIGURES if options.only in (None, figure.name)]
    libraries = load()
    missing = _missing(NAMES, {library.name for library in libraries})
    results = list(_measure(figures, Workbench(options.depth, libraries, plan.effort)))
    scaling = [figure for figure in figures if figure.scales]
    by_size = [result for size in plan.sizes for result in _measure_size(scaling, size, plan.effort_at_sizes)]
    by_size.sort(key=lambda result: [figure.name for figure in scaling].index(result.figure))
    _show(tables(results, by_size))
    environment = environment_of([library.module.partition(".")[0] for library in libraries])
    return _Graphs(Written(results, by_size, environment), missing)


class _Configs(NamedTuple):
    written: Configs
    missing: set[str]

    @property
    def rows(self) -> list[Result]:
        return list(self.written.figures)


def _configs(only: str | None, plan: Plan) -> _Configs:
    libraries = load_config_libraries()
    missing = _missing(CONFIG_NAMES, {library.name for library in libraries})
    results, peers = measure_configs(libraries, plan.effort, only)
    _show({"configurations": config_figures_table(results), "beside other libraries": peers_table(peers)})
    environment = environment_of([name for library in libraries for name in library.distributions])
    return _Configs(Configs(results, peers, PEER_NODES, environment), missing)


class _Models(NamedTuple):
    written: Models
    missing: set[str]

    @property
    def rows(self) -> list[Result]:
        return list(self.written.figures)


def _models(plan: Plan) -> _Models:
    sizes = Sizes()
    ways, absent = load_ways()
    missing = _missing(MODEL_NAMES, set(MODEL_NAMES) - absent)
    figures, trained = measure_models(ways, plan.effort, sizes)
    _show({"models": model_figures_table(figures), "ways to train": ways_table(trained)})
    environment = environment_of(["graphnode", "jax", "optax", *[name.partition(".")[0] for name in MODEL_NAMES[1:]]])
    return _Models(Models(figures, trained, sizes, environment), missing)


def _checkpoints(plan: Plan) -> list[Result]:
    memory = [(name, f"{number / 1e6:,.0f} MB") for name, number in peaks(3).items()]
    converted = [(name, f"{number / 1e6:,.0f} MB") for name, number in conversion_peaks().items()]
    results = [*measure_checkpoints(plan.effort.rounds), *measure_safetensors(5)]
    _show(
        {
            "checkpoints": _results_table(results, (GRAPHNODE, ORBAX, SAVE, PACKAGE)),
            "most memory to read 1 GB": table(("", "beyond before"), memory),
            "most memory to transpose and cast 60 arrays of 17 MB": table(("", "beyond the model"), converted),
        }
    )
    return results


def _sharding(plan: Plan) -> list[Result]:
    results = measure_sharding(plan.effort)
    _show({"sharding": _results_table(results, (GRAPHNODE, BY_HAND, ITS_BYTES, GN_JIT, JAX_TUPLE))})
    return results


def _llama(plan: Plan) -> list[Result]:
    runners, missing = load_runners()
    _missing(LLAMA_NAMES, set(LLAMA_NAMES) - missing)
    results = measure_llama(runners, plan.effort, LlamaSizes())
    _show({"a LLaMA-like model": _results_table(results, runners)})
    return results


def _named(plan: Plan) -> list[Result]:
    results = measure_names(plan.effort)
    _show({"names of nodes": _results_table(results, (GRAPHNODE, WITHOUT))})
    return results


def _results_table(results: Iterable[Result], names: Iterable[str]) -> str:
    rows = [
        (one.title, f"{one.states:,}", mark(one), value_of(one), limit_of(one), *cells(one, names)) for one in results
    ]
    return table(("figure", "States", "", "measured", "limit", *names), rows)


def _missing(names: Iterable[str], found: set[str]) -> set[str]:
    missing = set(names) - found
    if missing:
        print(f"not installed, so left out: {', '.join(sorted(missing))}")
    return missing


def _show(shown: Mapping[str, str]) -> None:
    for name, text in shown.items():
        print(f"\n{name}\n\n{text}", flush=True)
    print()


def _measure(figures: list[Figure], bench: Workbench, *, large: bool = False) -> Iterator[Result]:
    for figure in figures:
        print(f"{bench.states:,} States: {figure.name}", flush=True)
        yield from figure.measure(bench, large=large)


def _measure_size(figures: list[Figure], states: int, effort: Effort) -> Iterator[Result]:
    figures = [figure for figure in figures if states <= (figure.most_states or states)]
    if not figures:
        return
    large = states == _LARGE
    bench = Workbench(depth_for(states), load(GRAPHNODE, JAX), effort)
    for result in _measure(figures, bench, large=large):
        yield result if large else replace(result, limit=None)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "sections",
        nargs="*",
        choices=[[], *SECTIONS, CHECKPOINTS, SHARDING, LLAMA, NAMED],
        help="parts (default: all of the page)",
    )
    parser.add_argument("--quick", action="store_true", help="few short rounds; write nothing")
    parser.add_argument("--depth", type=int, default=_DEPTH, help="blocks of the model (default: %(default)s)")
    names = [*[figure.name for figure in FIGURES], *[figure.name for figure in CONFIG_FIGURES], PEERS, MODEL_STEP]
    parser.add_argument("--only", choices=names, help="measure one figure")
    parser.add_argument("--output", type=Path, default=_DOCS, help="folder to write to (default: docs)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
