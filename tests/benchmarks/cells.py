"""The cells of the tables, and the tables: results as text."""

from collections.abc import Iterable, Sequence

from .library import GRAPHNODE
from .measures import Result


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * max(width, 3) for width in widths]
    lines = [header, rule, *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(len(dashes)) for cell, dashes in zip(line, rule, strict=True)) + " |"
        for line in lines
    )


def mark(result: Result) -> str:
    """Whether the limit holds."""
    return {True: "pass", False: "**FALLS SHORT**", None: ""}[result.holds]


def mark_of(results: Iterable[Result]) -> str:
    """Whether all limits of a row hold."""
    return "**FALLS SHORT**" if any(result.holds is False for result in results) else "pass"


def value_of(result: Result) -> str:
    """What was measured: a ratio, a count, or a time."""
    if result.is_count and result.against is None:
        return f"{result.value:.0f}"
    if result.against is None:
        time = f"{result.value * 1e9:.3g} ns" if result.per == "State" else duration(result.value)
        return f"{time} per {result.per}"
    against = "itself" if result.against == GRAPHNODE else result.against
    return f"{ratio_of(result.value)} × {against}"


def ratio_of(value: float) -> str:
    """A ratio to three digits."""
    return f"{value:.3g}" if value >= 0.001 else "< 0.001"


def limit_of(result: Result) -> str:
    """The limit, in the unit of the value."""
    if result.limit is None:
        return ""
    return duration(result.limit) if result.against is None and not result.is_count else f"{result.limit:.3g}"


def cells(result: Result, columns: Iterable[str]) -> list[str]:
    """What each contender takes; empty for one that took no part."""
    return [amount(result, name) if name in result.measured else "" for name in columns]


def amount(result: Result, name: str) -> str:
    """What one contender takes."""
    return (count_of if result.is_count else duration)(result.measured[name])


def count_of(number: float) -> str:
    """A count."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
