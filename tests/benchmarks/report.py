"""Show results as tables, and write them to `docs/performance.md`, `docs/performance.json` and the README."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from .cells import amount, cells, limit_of, mark, mark_of, ratio_of, table, value_of
from .config_report import Configs, as_configs, configs_record, section
from .elsewhere import (
    CONFIGS,
    GRAPHS,
    MODELS,
    Part,
    Parts,
    as_elsewhere,
    elsewhere_record,
    elsewhere_section,
    with_parts,
)
from .environment import Environment
from .library import BRAINSTATE, EQUINOX, GRAPHNODE, JAX, NNX
from .matters import matters_section
from .measures import Result, as_result, record_of
from .model_report import Models, as_models, models_record, models_section
from .steps import (
    BRAINSTATE_JIT,
    FILTER_JIT,
    GN_JIT,
    JAX_TUPLE,
    NNX_CACHED_PARTIAL,
    NNX_JIT,
    NNX_JIT_PARTIAL,
    WAYS,
)

_COLUMNS = (GRAPHNODE, JAX, NNX, BRAINSTATE, EQUINOX)
_NOTES = re.compile(r"<!-- notes -->.*<!-- /notes -->", re.DOTALL)
_NO_NOTES = "<!-- notes -->\n<!-- /notes -->"
_RATIOS = re.compile(r"(?<=<!-- ratios -->\n).*?(?=<!-- /ratios -->)", re.DOTALL)

_HEADLINES = {
    "split": "split",
    "merge": "merge",
    "update": "update",
    "flatten": "flatten the state tree",
    "first-split": "first split of a model",
    "step-all": "compiled step that writes all States",
    "step-total": "compiled step that reads all, writes one",
    "step-one": "compiled step that reads and writes one",
}
"""The figures in the README."""

_RIVALS = {
    "plain JAX": (JAX, JAX_TUPLE),
    "flax.nnx": (NNX, NNX_JIT, NNX_JIT_PARTIAL, NNX_CACHED_PARTIAL),
    "brainstate": (BRAINSTATE, BRAINSTATE_JIT),
    "equinox": (EQUINOX, FILTER_JIT),
}
"""The columns in the README, and what stands in them: of several, the fastest."""

_PAGE = """\
# Performance

`make bench` wrote this page, all but the notes at its end: any other change is lost the next time.

## At depth {depth}

The model is {depth} blocks, each a linear with `w`, `b` and a norm with `scale`, `bias`, `mean`, `var`, and
one counter: {states:,} States. The third column is a median of ratios, the last five are medians of the time
of one call; lower is better.

{figures}

### A compiled step

Each cell is the ratio of `gn.jit` to that way to compile the same step, times the median time of one call of that way,
and the limit of the ratio.

{steps}

### Python around it

What a call of `gn.jit` takes beyond `jax.jit` on the flat tuple is Python outside of JAX's own dispatch: here it is
divided by the number of States. It is below zero where `gn.jit` saves more than that, as it hands over only the States
that the function touches, and the flat tuple is handed over whole.

{python}

### What the others do

What plain JAX does for comparison: for a merge `jax.tree.unflatten` of the model as nested dicts and lists,
for the other graph operations `jax.tree.flatten` of it, for `jax.jit` a call with a flat tuple of the arrays.
An equinox model is a pytree: a split is `partition`, collecting is `filter`, a merge is `combine`, and
nothing is updated in place.

A step computes `x * 0.5 + 1` of every array, or of the counter alone; where it "reads all and writes one", the counter
moves by the sum of all arrays. Every call of a step starts from what the call before it wrote.

- `gn.jit`, `nnx.jit`, `nnx.jit_partial`, `nnx.cached_partial`: the function writes into the model, and so does the
  call. `nnx.jit` and `nnx.cached_partial` are in graph mode, the default; `nnx.jit_partial` is made for `graph=False`.
  The latter two are given the model once and for all.
- brainstate's `jit`: the function closes over the model. Its call does not look at what the function does not touch,
  as that of `gn.jit`: a step that touches one State costs the same in a model of any size. The others are given the
  whole model.
- `eqx.filter_jit`: the function returns the new model, or the new counter alone, which is not put back into a model.
- `jax.jit` on a flat tuple: the function returns a flat tuple, or the new counter alone. On nested dicts: the same,
  and the counter is put into the dict.

The training step is a forward pass through the blocks, with running statistics, its gradient, and gradient descent;
the hand-written one takes the params and the statistics in nested dicts of their own. Tracing is `make_jaxpr` of a
function that JAX has not seen. Operations and bytes are what XLA says of the compiled step: `cost_analysis`, and
the arguments, results and temporaries of `memory_analysis` less what is aliased. Here `gn.jit(donate=True)` and
`jax.jit(donate_argnums=0)` compile.

## At other sizes

{sizes}

{configs}{models}{matters}{elsewhere}## How it is measured

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
- A time is that of the calling thread on the CPU, so that other programs hardly disturb it. Some are wall time:
  `jax.jit`, whose result is waited for with `jax.block_until_ready`; a compiled step, which ends when the new counter
  is ready, as all results of a compiled function are at once; all of models; and an import, inside a new interpreter.

To reproduce: `make bench`, or `python -m tests.benchmarks graphs`, `... configs` and `... models` for one part of the
page. For a first look: `--quick`, or `--only NAME` for one figure. What another version of Python than the page's own
gives, as by `make bench PYTHON=python3.13`, is written beside the figures of the page, and does not replace them.

## Where

{environment}

## Notes

{notes}
"""


class Written(NamedTuple):
    """What `performance.json` holds."""

    figures: list[Result]
    sizes: list[Result]
    environment: Environment
    configs: Configs | None = None
    models: Models | None = None
    elsewhere: Mapping[str, Parts] = MappingProxyType({})
    """What was measured with other versions of Python than that of the page, by version."""


def read(folder: Path) -> Written | None:
    """What was written into a folder before, if anything was."""
    file = folder / "performance.json"
    if not file.exists():
        return None
    record = json.loads(file.read_text(encoding="utf-8"))
    return Written(
        figures=[as_result(one) for one in record["figures"]],
        sizes=[as_result(one) for one in record["sizes"]],
        environment=Environment(**record["environment"]),
        configs=as_configs(record["configs"]) if "configs" in record else None,
        models=as_models(record["models"]) if "models" in record else None,
        elsewhere=as_elsewhere(record.get("elsewhere", {})),
    )


def updated(
    before: Written | None, graphs: Written | None, configs: Configs | None, models: Models | None
) -> Written | None:
    """What to write after a run, which may have measured only some sections; `None` if there is no page for them.

    A run with the page's own version of Python replaces its sections, and one with another stands beside them.
    """
    parts = parts_of(graphs, configs, models)
    # What is printed alone is on no page.
    if not parts:
        return None
    python = next(part.environment.python_version for part in parts.values())
    if before is not None and python != before.environment.python_version:
        return before._replace(elsewhere=with_parts(before.elsewhere, python, parts))
    page = before if graphs is None else graphs
    if page is None:
        return None
    old = page if before is None else before
    return page._replace(
        configs=old.configs if configs is None else configs,
        models=old.models if models is None else models,
        elsewhere=old.elsewhere,
    )


def parts_of(graphs: Written | None, configs: Configs | None, models: Models | None) -> dict[str, Part]:
    """The results of these sections, by their names."""
    parts: dict[str, Part] = {}
    if graphs is not None:
        parts[GRAPHS] = Part([*graphs.figures, *graphs.sizes], graphs.environment)
    if configs is not None:
        parts[CONFIGS] = Part(configs.figures, configs.environment)
    if models is not None:
        parts[MODELS] = Part(models.figures, models.environment)
    return parts


def is_step(result: Result) -> bool:
    """Whether the row is one of compiled steps."""
    return GN_JIT in result.measured


def tables(figures: Sequence[Result], sizes: Sequence[Result]) -> dict[str, str]:
    """The tables of the page, by their places in it: `figures`, `steps`, `python` and `sizes`."""
    steps = [result for result in figures if is_step(result)]
    python = [result for result in (*steps, *filter(is_step, sizes)) if result.against not in WAYS]
    python.sort(key=lambda result: (result.against or "", result.title, result.states))
    return {
        "figures": figures_table([result for result in figures if not is_step(result)]),
        "steps": steps_table([result for result in steps if result.against in WAYS]),
        "python": sizes_table(python, (GN_JIT, JAX_TUPLE)),
        "sizes": sizes_table([result for result in sizes if not is_step(result)], (GRAPHNODE, JAX)),
    }


def figures_table(results: Sequence[Result]) -> str:
    """A Markdown table of one row per limit, with every contender's time."""
    header = ("figure", "", "measured", "limit", *_COLUMNS)
    return table(header, [(r.title, mark(r), value_of(r), limit_of(r), *cells(r, _COLUMNS)) for r in results])


def steps_table(results: Sequence[Result]) -> str:
    """A Markdown table of one row per figure: the ratio to each way to compile, its time, and the limit."""
    groups: dict[tuple[str, str, int], dict[str, Result]] = {}
    for result in results:
        groups.setdefault((result.figure, result.title, result.states), {})[str(result.against)] = result
    header = ("figure", "States", "", *WAYS)
    rows = [
        (title, f"{states:,}", mark_of(group.values()), *[_step_cell(group, way) for way in WAYS])
        for (_, title, states), group in groups.items()
    ]
    return table(header, rows)


def _step_cell(group: Mapping[str, Result], way: str) -> str:
    some = next(iter(group.values()))
    if way not in some.measured:
        return ""
    shown = amount(some, way)
    if (result := group.get(way)) is None:
        return shown
    ratio = f"{ratio_of(result.value)} × {shown}"
    limited = ratio if result.limit is None else f"{ratio} (≤ {limit_of(result)})"
    return f"**{limited}**" if result.holds is False else limited


def sizes_table(results: Sequence[Result], columns: Sequence[str]) -> str:
    """A Markdown table of one row per figure and size, with the times of these contenders."""
    header = ("figure", "States", "", "measured", "limit", *columns)
    return table(
        header,
        [(r.title, f"{r.states:,}", mark(r), value_of(r), limit_of(r), *cells(r, columns)) for r in results],
    )


def ratios_table(figures: Sequence[Result]) -> str:
    """A Markdown table of the headlines: the time of graphnode over the time of each of the others."""
    by_figure = {result.figure: result for result in figures}
    rows = [
        (title, *[_headline(figures, by_figure[name], rivals) for rivals in _RIVALS.values()])
        for name, title in _HEADLINES.items()
        if name in by_figure
    ]
    states = next((result.states for name, result in by_figure.items() if name in _HEADLINES), 0)
    return table((f"time of graphnode over that of, at {states:,} States", *_RIVALS), rows)


def _headline(figures: Sequence[Result], some: Result, rivals: Sequence[str]) -> str:
    own = some.measured[GN_JIT if is_step(some) else GRAPHNODE]
    # The ratio of the page where there is one; it is taken inside the rounds.
    on_page = {result.against: result.value for result in figures if result.figure == some.figure}
    ratios = [on_page.get(rival, own / some.measured[rival]) for rival in rivals if rival in some.measured]
    return ratio_of(max(ratios)) if ratios else ""


def write(folder: Path, depth: int, written: Written, readme: Path | None = None) -> None:
    """Write `performance.md`, keeping its notes, `performance.json`, and the ratios in the README.

    A section that was not measured is not on the page.

    Raises:
        ValueError: The README has no place for ratios.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "performance.md"
    page.write_text(_page(depth, written, _notes_of(page)), encoding="utf-8")
    record = json.dumps(_record(written), indent=2)
    (folder / "performance.json").write_text(record + "\n", encoding="utf-8")
    if readme is not None:
        _write_ratios(readme, ratios_table(written.figures))


def _page(depth: int, written: Written, notes: str) -> str:
    configs, models, elsewhere = written.configs, written.models, written.elsewhere
    parts, python = parts_of(written, configs, models), written.environment.python_version
    return _PAGE.format(
        depth=depth,
        states=written.figures[0].states,
        **tables(written.figures, written.sizes),
        configs="" if configs is None else section(configs),
        models="" if models is None else models_section(models),
        matters=matters_section(written.figures, models),
        elsewhere=elsewhere_section(parts, python, elsewhere) if elsewhere else "",
        environment=written.environment.sentence,
        notes=notes,
    )


def _record(written: Written) -> dict[str, object]:
    record: dict[str, object] = {
        "environment": asdict(written.environment),
        "figures": [record_of(result) for result in written.figures],
        "sizes": [record_of(result) for result in written.sizes],
    }
    if written.configs is not None:
        record["configs"] = configs_record(written.configs)
    if written.models is not None:
        record["models"] = models_record(written.models)
    if written.elsewhere:
        record["elsewhere"] = elsewhere_record(written.elsewhere)
    return record


def _write_ratios(readme: Path, ratios: str) -> None:
    text = readme.read_text(encoding="utf-8")
    if not _RATIOS.search(text):
        raise ValueError(f"{readme} has no lines <!-- ratios --> and <!-- /ratios -->")
    # A function, as a text would have its backslashes replaced.
    readme.write_text(_RATIOS.sub(lambda _: f"\n{ratios}\n\n", text, count=1), encoding="utf-8")


def _notes_of(page: Path) -> str:
    found = _NOTES.search(page.read_text(encoding="utf-8")) if page.exists() else None
    return found.group() if found else _NO_NOTES
