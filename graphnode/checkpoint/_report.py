"""What was read from where: the report of changes, which prints as a table."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .._paths import Path
from ._compare import place_text
from ._item import Item

_LOG = logging.getLogger("graphnode")


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Which names of a source have become which States; `print` shows it as a table.

    Attributes:
        used: For each path of the model the names in the source that it was made of.
        changed: For each path that is not as it was in the source, what was done:
            `rename`, `split, transpose`. Of a node whose class had another name, both
            names.
        filled: The paths of the model that stay as they were.
        unused: The names of the source that were left out.

    Example:
        >>> arrays = {"kernel": jnp.ones((2, 3)), "step": jnp.int32(0)}
        >>> changes = [gn.checkpoint.Rename("kernel", "weight"), gn.checkpoint.Fill("bias"), gn.checkpoint.Drop("step")]
        >>> print(gn.checkpoint.read(arrays, into=gn.nn.Linear(2, 3), changes=changes))
        weight  <- kernel  rename
        filled: bias
        unused: step
    """

    used: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    changed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    filled: Sequence[str] = ()
    unused: Sequence[str] = ()

    def __str__(self) -> str:
        return "\n".join(self._lines()) or "nothing was read"

    def _lines(self) -> Iterator[str]:
        """For `print`: a row for each State, and lists of the others."""
        rows = [
            (path, f"<- {', '.join(names)}", self.changed.get(path, ""))
            for path, names in self.used.items()
        ]
        yield from table(rows)
        for path in sorted(self.changed.keys() - self.used.keys()):
            yield f"{path}: {self.changed[path]}"
        for title, names in (("filled", self.filled), ("unused", self.unused)):
            if names:
                yield f"{title}: {', '.join(names)}"


def table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows as lines, with columns below each other as long as they are not wide."""
    widths = [min(max(map(len, column)), 60) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def report_of(
    fits: Iterable[tuple[Path, Item]],
    filled: Iterable[Path],
    unused: Iterable[Path],
) -> Report:
    """The report of what was found for the paths of a target."""
    used: dict[str, tuple[str, ...]] = {}
    changed: dict[str, str] = {}
    for path, item in fits:
        text = place_text(path)
        used[text] = tuple(map(place_text, item.sources))
        steps = list(dict.fromkeys(item.steps))
        if not steps and item.sources != (path,):
            steps = ["rename"]
        if steps:
            changed[text] = ", ".join(steps)
    return Report(
        used, changed, tuple(map(place_text, filled)), tuple(map(place_text, unused))
    )


def tell(report: Report, what: str, call: "Callable[[Report], object] | None") -> None:
    """Say what was changed: to the log, and to who asks."""
    if report.changed or report.filled or report.unused:
        _LOG.info("%s\n%s", what, report)
    if call is not None:
        call(report)
