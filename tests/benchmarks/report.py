"""Show results as tables, and write them to `docs/performance.md` and `docs/performance.json`."""

import datetime
import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .figures import Result
from .library import BRAINSTATE, EQUINOX, GRAPHNODE, JAX, NNX, Library

_COLUMNS = (GRAPHNODE, JAX, NNX, BRAINSTATE, EQUINOX)
_NOTES = re.compile(r"<!-- notes -->.*<!-- /notes -->", re.DOTALL)
_NO_NOTES = "<!-- notes -->\n<!-- /notes -->"

_PAGE = """\
# Performance

`make bench` wrote this page, all but the notes at its end: any other change is lost the next time.

## At depth {depth}

The model is {depth} blocks, each a linear with `w`, `b` and a norm with `scale`, `bias`, `mean`, `var`, and
one counter: {states:,} States. The third column is a median of ratios, the last five are medians of the time
of one call; lower is better.

{figures}

What plain JAX does for comparison: for a merge `jax.tree.unflatten` of the model as nested dicts and lists,
for the other graph operations `jax.tree.flatten` of it, for `jax.jit` a call with a flat tuple of the arrays.
An equinox model is a pytree: a split is `partition`, collecting is `filter`, a merge is `combine`, and
nothing is updated in place.

## At other sizes

{sizes}

## How it is measured

- Every library holds the same model, with the very same arrays of shape `()`, so that only structure costs
  anything. The peers are used as their documentation says, flax.nnx in its default graph mode.
- All run in one process, in interleaved rounds: in each round every contender makes as many calls as fill a
  few milliseconds. A ratio is taken inside each round, and the median over the rounds is shown. So it may
  differ a little from the ratio of the medians.
- Each contender is warmed up first. The garbage collector stays on, and freeing a result is part of the call.
- An update writes other arrays than the model holds.
- A first split and a construction get a new model or new States for every call, made outside of the timed
  part. In the rows "of a structure never seen before", each model shares another pair of weights, so that no
  structure comes twice.
- A time is that of the calling thread on the CPU, so that other programs hardly disturb it. Two are wall time:
  `jax.jit`, whose result is waited for with `jax.block_until_ready`, and an import, inside a new interpreter.

To reproduce: `make bench`. For a first look: `python -m tests.benchmarks --quick`, or `--only NAME` for one
figure.

## Where

{environment}

## Notes

{notes}
"""


@dataclass(frozen=True)
class Environment:
    """Where the results come from."""

    date: str
    cpu: str
    system: str
    python: str
    versions: dict[str, str]


def environment_of(libraries: Iterable[Library]) -> Environment:
    """This machine and interpreter, and the versions of these libraries."""
    return Environment(
        date=datetime.date.today().isoformat(),
        cpu=_cpu_name(),
        system=platform.system(),
        python=platform.python_version(),
        versions={library.module.partition(".")[0]: _version(library.module) for library in libraries},
    )


def figures_table(results: Sequence[Result]) -> str:
    """A Markdown table of one row per limit, with every contender's time."""
    header = ("figure", "", "measured", "limit", *_COLUMNS)
    return _table(header, [(r.title, _mark(r), _value(r), _limit(r), *_cells(r, _COLUMNS)) for r in results])


def sizes_table(results: Sequence[Result]) -> str:
    """A Markdown table of one row per figure and size, graphnode against plain JAX."""
    header = ("figure", "States", "", "measured", "limit", GRAPHNODE, JAX)
    return _table(
        header,
        [(r.title, f"{r.states:,}", _mark(r), _value(r), _limit(r), *_cells(r, (GRAPHNODE, JAX))) for r in results],
    )


def write(
    folder: Path, depth: int, figures: Sequence[Result], sizes: Sequence[Result], environment: Environment
) -> None:
    """Write `performance.md`, keeping its notes, and `performance.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "performance.md"
    text = _PAGE.format(
        depth=depth,
        states=figures[0].states,
        figures=figures_table(figures),
        sizes=sizes_table(sizes),
        environment=_environment_list(environment),
        notes=_notes_of(page),
    )
    page.write_text(text, encoding="utf-8")
    record = {
        "environment": asdict(environment),
        "figures": [_record(result) for result in figures],
        "sizes": [_record(result) for result in sizes],
    }
    (folder / "performance.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _record(result: Result) -> dict[str, object]:
    return {**asdict(result), "holds": result.holds}


def _notes_of(page: Path) -> str:
    found = _NOTES.search(page.read_text(encoding="utf-8")) if page.exists() else None
    return found.group() if found else _NO_NOTES


def _environment_list(environment: Environment) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return (
        f"{environment.date}, on {environment.cpu} ({environment.system}), "
        f"with Python {environment.python}, {versions}."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * max(width, 3) for width in widths]
    lines = [header, rule, *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(len(dashes)) for cell, dashes in zip(line, rule, strict=True)) + " |"
        for line in lines
    )


def _mark(result: Result) -> str:
    return {True: "pass", False: "**FALLS SHORT**", None: ""}[result.holds]


def _value(result: Result) -> str:
    if result.against is None:
        return f"{result.value:.0f}"
    against = "itself" if result.against == GRAPHNODE else result.against
    ratio = f"{result.value:.3g}" if result.value >= 0.001 else "< 0.001"
    return f"{ratio} × {against}"


def _limit(result: Result) -> str:
    return "" if result.limit is None else f"{result.limit:.3g}"


def _cells(result: Result, columns: Iterable[str]) -> list[str]:
    show = _count if result.against is None else _time
    return [show(result.measured[name]) if name in result.measured else "" for name in columns]


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _version(module: str) -> str:
    try:
        return importlib.metadata.version(module.partition(".")[0])
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
