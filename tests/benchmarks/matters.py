"""The section of the page that says where its figures do not matter, with numbers taken from them."""

from collections.abc import Sequence
from string import Formatter
from textwrap import fill

from .cells import duration
from .measures import Result
from .model_report import Models
from .steps import GN_JIT, JAX_TUPLE
from .transformer import GN_TRAIN

_HEADING = """\
## Where none of this matters

Most figures above are of arrays of shape `()`, so that only structure costs anything. In most programs it is the
arithmetic that takes the time.

"""

_ITEMS = (
    (
        "**A step that computes for milliseconds.**",
        "A call of `gn.jit` takes {least} more than one of `jax.jit` on a flat tuple if it touches one of {few} "
        "States, and {most} more if it writes all of {many}.",
        "Of the {step} that a training step of the transformer takes, these are {least_share} and {most_share}.",
    ),
    (
        "**It does matter where a step computes for microseconds:** in small models, in the agents of reinforcement "
        "learning, and wherever a loop in Python makes many small calls.",
        "A call that touches one of {few} States takes {call}, and {by_hand} with a flat tuple.",
        "A loop that is compiled itself, as by `gn.scan`, pays for one call.",
    ),
    (
        "**On an accelerator** a call returns before its results are there.",
        "While the device computes for longer than Python takes for the next call, Python's time is hidden; a device "
        "that is done sooner waits for Python, and all of it shows.",
        "What counts there is the time of a call that nobody waits for: {dispatch} if it touches one of {dispatch_few} "
        "States, and {dispatch_by_hand} with a flat tuple.",
        "All figures here were measured on a CPU.",
    ),
    (
        "**Tracing and the first step** are paid once for each structure of the model and each set of shapes and "
        "dtypes: JAX runs the function in Python to trace it, and XLA compiles what comes of that.",
        "The transformer's first step takes {first}, as long as {first_steps} steps after it; {tracing} of that is "
        "tracing.",
        "A long training does not notice; tests and notebooks do, and so does a program whose shapes change from call "
        "to call.",
    ),
    (
        "**Once in a program** there is an import, a construction, a configuration file, a split for a checkpoint.",
        "Their figures matter to a program that splits, merges or updates at every step, around JAX's own transforms.",
    ),
)
"""Sentences by item; those whose numbers were not measured are left out."""


def matters_section(figures: Sequence[Result], models: Models | None) -> str:
    """The section of the page."""
    numbers = _numbers(figures, models)
    items = [[sentence for sentence in item if _names_in(sentence) <= numbers.keys()] for item in _ITEMS]
    lines = [_wrapped(" ".join(item).format(**numbers)) for item in items]
    return _HEADING + "\n".join(lines) + "\n\n"


def _names_in(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def _wrapped(item: str) -> str:
    return fill(item, 120, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _numbers(figures: Sequence[Result], models: Models | None) -> dict[str, str]:
    numbers: dict[str, str] = {}
    results = {result.figure: result for result in figures}
    ways = {} if models is None else {way.name: way for way in models.ways}
    small, large, dispatch = [results.get(name) for name in ("step-one-7", "python-all", "dispatch-7")]
    trained = ways.get(GN_TRAIN)
    if small is not None and large is not None:
        call, by_hand = small.measured[GN_JIT], small.measured[JAX_TUPLE]
        least, most = call - by_hand, large.value * large.states
        numbers |= {"few": f"{small.states:,}", "many": f"{large.states:,}"}
        numbers |= {"call": duration(call), "by_hand": duration(by_hand)}
        numbers |= {"least": duration(least), "most": duration(most)}
        if trained is not None:
            numbers |= {"least_share": _share(least / trained.step), "most_share": _share(most / trained.step)}
    if dispatch is not None:
        numbers |= {"dispatch_few": f"{dispatch.states:,}", "dispatch": duration(dispatch.measured[GN_JIT])}
        numbers |= {"dispatch_by_hand": duration(dispatch.measured[JAX_TUPLE])}
    if trained is not None:
        numbers |= {"step": duration(trained.step), "first": duration(trained.first)}
        numbers |= {"first_steps": f"{trained.first / trained.step:,.0f}", "tracing": duration(trained.trace)}
    return numbers


def _share(share: float) -> str:
    percent = 100 * share
    return f"{percent:.2g} %" if percent >= 0.001 else "less than 0.001 %"
