"""Measure every figure, print the tables, and write `docs/performance.md`, `docs/performance.json` and the README.

Only a whole run writes: all figures and libraries, at the usual depth, and not `--quick`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .figures import FIGURES
from .library import GRAPHNODE, JAX, NAMES, load
from .measures import Figure, Result
from .report import environment_of, tables, write
from .timing import Effort
from .workbench import Workbench, depth_for

_DOCS = Path(__file__).parents[2] / "docs"
_README = _DOCS.parent / "README.md"
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
    figures = [figure for figure in FIGURES if options.only in (None, figure.name)]

    libraries = load()
    missing = set(NAMES) - {library.name for library in libraries}
    if missing:
        print(f"not installed, so left out: {', '.join(sorted(missing))}")
    results = list(_measure(figures, Workbench(options.depth, libraries, plan.effort)))
    scaling = [figure for figure in figures if figure.scales]
    by_size = [result for size in plan.sizes for result in _measure_size(scaling, size, plan.effort_at_sizes)]
    by_size.sort(key=lambda result: [figure.name for figure in scaling].index(result.figure))
    for name, table in tables(results, by_size).items():
        print(f"\n{name}\n\n{table}", flush=True)
    print()

    # Part of the figures, or figures measured in a hurry, must not replace the page.
    if plan is _FULL and options.only is None and options.depth == _DEPTH and not missing:
        readme = _README if options.output == _DOCS else None
        write(options.output, options.depth, results, by_size, environment_of(libraries), readme)
        print(f"wrote {options.output}/performance.md and performance.json")
    short = [result for result in (*results, *by_size) if result.holds is False]
    print(f"{len(short)} of {len(results) + len(by_size)} rows fall short")


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
    parser.add_argument("--quick", action="store_true", help="few short rounds; write nothing")
    parser.add_argument("--depth", type=int, default=_DEPTH, help="blocks of the model (default: %(default)s)")
    parser.add_argument("--only", choices=[figure.name for figure in FIGURES], help="measure one figure")
    parser.add_argument("--output", type=Path, default=_DOCS, help="folder to write to (default: docs)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
