"""The table of what works where, for the documentation."""

from collections.abc import Iterator
from pathlib import Path

from tests.docrun import ROOT
from tests.editors.interpreter import SHELLS
from tests.editors.probes import PROBES, Probe
from tests.editors.servers import SERVERS

PAGE = ROOT / "docs" / "guides" / "typing.md"
BEGIN, END = "<!-- editors:begin -->", "<!-- editors:end -->"
COLUMNS = (*SERVERS, *SHELLS)


def probes_for(column: str) -> list[Probe]:
    """What a column is asked."""
    return [probe for probe in PROBES if column in SERVERS or probe.is_live]


def table() -> str:
    """The table in Markdown: a row for each probe, and a list of the reasons for what does not work."""
    notes: dict[str, int] = {}
    rows = [["", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    rows += [[probe.name, *_cells(probe, notes)] for probe in PROBES]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS) + 1)]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width, "-" if set(cell) == {"-"} else " ") for cell, width in zip(row, widths, strict=True)
        )
        + " |"
        for row in rows
    ]
    return "\n".join([*lines, "", *(f"{number}. {reason}." for reason, number in notes.items())])


def _cells(probe: Probe, notes: dict[str, int]) -> Iterator[str]:
    for column in COLUMNS:
        reason = probe.gaps.get(column)
        if column in SHELLS and not probe.is_live:
            yield ""
        elif reason is None:
            yield "yes"
        else:
            yield f"no ({notes.setdefault(reason, len(notes) + 1)})"


def stored(page: Path = PAGE) -> str:
    """The table that a page shows."""
    _, found, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    shown, ended, _ = rest.partition(END)
    assert found, f"{page} has no {BEGIN}"
    assert ended, f"{page} has no {END}"
    return shown.strip()


def store(page: Path = PAGE) -> None:
    """Write the table into a page, between its marks."""
    stored(page)
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")
