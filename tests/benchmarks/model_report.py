"""The section of models on the page, and its record for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .cells import count_of, duration, limit_of, mark, ratio_of, table, value_of
from .environment import Environment
from .measures import Result, as_result, record_of
from .model_figures import Trained
from .transformer import GN_TRAIN, Sizes

_SECTION = """\
## Models

A training step of a decoder-only transformer: {layers} layers of width {width} with {heads} heads, {parameters}
parameters, batches of {batch} texts of {length} tokens out of {tokens}. Positions are learned, and one matrix serves
the embedding and the logits. The loss is cross entropy, the optimizer Adam, all in float32.

{figures}

{ways}

- Each library has its own layers for it, and all have the same weights: a test compares the losses of the first steps.
- A step is wall time until its results are ready; in brackets the median of the ratios to graphnode. The first step is
  what a new model takes until its end: tracing, lowering, compiling and the step itself. Tracing is `make_jaxpr` or the
  library's `trace`; lowering is its `lower`, which traces too.
- Operations are those of the lowered StableHLO module, where each call of a function counts as what it calls, and its
  bytes are those of its text. Flops and memory are what XLA says of the compiled step.
- All give the old values away: `gn.jit(donate=True)`, `donate_argnums` in flax.nnx, `donate="all-except-first"` in
  equinox.
- flax.nnx in the four ways that its documentation has: `nnx.jit` and `nnx.cached_partial` in graph mode, the default,
  `nnx.jit_partial` in tree mode (`graph=False`), and a functional loop. Its `LayerNorm` computes the variance as
  `E[x²] - E[x]²`, which takes one pass over the features, but loses digits where the mean is large; the others take
  the mean away first.
- equinox is written for one example, under `jax.vmap`, as its documentation does.

{environment}

"""


@dataclass(frozen=True)
class Models:
    """All that was measured of models."""

    figures: Sequence[Result]
    ways: Sequence[Trained]
    sizes: Sizes
    environment: Environment


def models_section(models: Models) -> str:
    """The section of the page."""
    return _SECTION.format(
        **asdict(models.sizes),
        parameters=f"{models.figures[0].states:,}",
        figures=model_figures_table(models.figures),
        ways=ways_table(models.ways),
        environment=models.environment.sentence,
    )


def model_figures_table(results: Sequence[Result]) -> str:
    """A Markdown table of one row per limit."""
    header = ("figure", "", "measured", "limit")
    return table(header, [(one.title, mark(one), value_of(one), limit_of(one)) for one in results])


def ways_table(ways: Sequence[Trained]) -> str:
    """A Markdown table of one row per way to train."""
    header = ("", "step", "first step", "tracing", "with lowering", "operations", "their text", "flops", "memory")
    return table(header, [(one.name, *_cells(one)) for one in ways])


def _cells(one: Trained) -> tuple[str, ...]:
    step = duration(one.step) if one.name == GN_TRAIN else f"{duration(one.step)} ({ratio_of(one.ratio)} ×)"
    return (
        step,
        duration(one.first),
        duration(one.trace),
        duration(one.lower),
        count_of(one.operations),
        f"{one.text / 1e3:,.0f} kB",
        f"{one.flops / 1e9:.3g} G",
        f"{one.bytes / 1e6:.3g} MB",
    )


def models_record(models: Models) -> dict[str, object]:
    """The section for programs."""
    return {
        "environment": asdict(models.environment),
        "sizes": asdict(models.sizes),
        "figures": [record_of(result) for result in models.figures],
        "ways": [asdict(one) for one in models.ways],
    }


def as_models(record: Mapping[str, Any]) -> Models:
    """What a record was made of."""
    return Models(
        figures=[as_result(one) for one in record["figures"]],
        ways=[Trained(**one) for one in record["ways"]],
        sizes=Sizes(**record["sizes"]),
        environment=Environment(**record["environment"]),
    )
