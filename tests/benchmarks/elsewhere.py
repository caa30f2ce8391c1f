"""The same limits on other versions of Python, JAX and the peers, beside those of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from .cells import limit_of, mark, table, value_of
from .environment import Environment
from .measures import Result, as_result, record_of
from .model_figures import MODEL_STEP

GRAPHS, CONFIGS, MODELS = SECTIONS = ("graphs", "configs", "models")
"""The parts of the page, each measured by itself."""

_SECTION = """\
## On other versions

The limits of this page, held against what other versions of Python give, each with the JAX and the peers that are
installed beside it.

{environments}

{limits}

"""


@dataclass(frozen=True)
class Part:
    """What was measured of one section of the page, with one version of Python."""

    figures: Sequence[Result]
    environment: Environment


Parts: TypeAlias = Mapping[str, Part]
"""By the names of their sections."""
_Limit: TypeAlias = tuple[str, str, int, str | None]


def with_parts(elsewhere: Mapping[str, Parts], python: str, parts: Parts) -> dict[str, Parts]:
    """What other versions gave, with these sections of one version in place of what it had of them."""
    return {**elsewhere, python: {**elsewhere.get(python, {}), **parts}}


def elsewhere_section(page: Parts, python: str, elsewhere: Mapping[str, Parts]) -> str:
    """The section of the page; `page` is what it shows itself, of this version of Python."""
    others = {other: elsewhere[other] for other in sorted(elsewhere, key=_numbers)}
    versions = {python: page, **others}
    limits = compared(versions)
    return _SECTION.format(
        environments="\n".join(_environment(each, limits, versions[each]) for each in versions),
        limits=limits_table(limits, list(versions)),
    )


def compared(versions: Mapping[str, Parts]) -> list[dict[str, Result]]:
    """For each limit that more than the first version was measured for, the results by version.

    All are held against the limit of the first: they may have been measured before or after it was changed.
    """
    first = next(iter(versions))
    limits: dict[_Limit, dict[str, Result]] = {}
    for python, parts in versions.items():
        for result in _limited(parts):
            results = limits.setdefault(_limit(result), {})
            limit = next(iter(results.values()), result).limit
            results[python] = replace(result, limit=limit)
    return [results for results in limits.values() if list(results) != [first]]


def limits_table(limits: Sequence[Mapping[str, Result]], pythons: Sequence[str]) -> str:
    """A Markdown table of one row per limit, with two columns per version of Python."""
    header = ["figure", "size", "limit"]
    for python in pythons:
        header += ["", f"Python {python}"]
    return table(header, [_row(results, pythons) for results in limits])


def _row(results: Mapping[str, Result], pythons: Sequence[str]) -> list[str]:
    some = next(iter(results.values()))
    row = [some.title, f"{some.states:,}" if some.states else "", limit_of(some)]
    for python in pythons:
        result = results.get(python)
        row += ["", ""] if result is None else [mark(result), value_of(result)]
    return row


def _environment(python: str, limits: Sequence[Mapping[str, Result]], parts: Parts) -> str:
    results = [by_version[python] for by_version in limits if python in by_version]
    kept = sum(result.holds is True for result in results)
    lines = [f"- **Python {python}** keeps {kept} of these {len(results)} limits."]
    lines += [f"  - {name}: {parts[name].environment.sentence}" for name in SECTIONS if name in parts]
    return "\n".join(lines)


def _limited(parts: Parts) -> list[Result]:
    results = [result for name in SECTIONS if name in parts for result in parts[name].figures]
    return [result for result in results if result.limit is not None]


def _limit(result: Result) -> _Limit:
    # A model is compared with whichever peer was the fastest.
    against = None if result.figure == MODEL_STEP else result.against
    return result.figure, result.title, result.states, against


def _numbers(python: str) -> tuple[int, ...]:
    return tuple(int(number) for number in python.split("."))


def elsewhere_record(elsewhere: Mapping[str, Parts]) -> dict[str, object]:
    """What other versions gave, for programs."""
    return {
        python: {
            name: {
                "environment": asdict(part.environment),
                "figures": [record_of(result) for result in part.figures],
            }
            for name, part in parts.items()
        }
        for python, parts in elsewhere.items()
    }


def as_elsewhere(record: Mapping[str, Any]) -> dict[str, Parts]:
    """What a record was made of."""
    return {
        python: {
            name: Part([as_result(one) for one in part["figures"]], Environment(**part["environment"]))
            for name, part in parts.items()
        }
        for python, parts in record.items()
    }
