"""The written page: what it shows of a result, and what it keeps from the page before."""

import json
from dataclasses import replace
from pathlib import Path

from .figures import Result
from .library import GRAPHNODE, JAX
from .report import Environment, figures_table, write

ENVIRONMENT = Environment("2026-01-02", "a CPU", "Linux", "3.11.7", {"jax": "0.10.2"})
SPLIT = Result("split", "a split", 601, 0.1234, JAX, 0.5, {GRAPHNODE: 1.5e-5, JAX: 0.0002})


def test_a_row_shows_ratio_limit_mark_and_times():
    """A library that has no such operation gets an empty cell."""
    cells = [cell.strip() for cell in figures_table([SPLIT]).splitlines()[2].split("|")[1:-1]]
    assert cells == ["a split", "pass", "0.123 × plain JAX", "0.5", "15 µs", "200 µs", "", "", ""]


def test_a_row_over_its_limit_falls_short_and_one_without_limit_is_not_marked():
    """A limit that is met exactly holds."""
    assert replace(SPLIT, value=0.5).holds is True
    assert replace(SPLIT, limit=None).holds is None
    assert "| **FALLS SHORT** |" in figures_table([replace(SPLIT, value=0.51)])


def test_notes_survive_a_new_page(tmp_path: Path):
    """All else is written anew."""
    write(tmp_path, 100, [SPLIT], [SPLIT], ENVIRONMENT)
    page = tmp_path / "performance.md"
    text = page.read_text(encoding="utf-8")
    notes = "<!-- notes -->\nThe merge is slow, because.\n<!-- /notes -->"
    page.write_text(text.replace("<!-- notes -->\n<!-- /notes -->", notes) + "By hand.", encoding="utf-8")
    write(tmp_path, 100, [replace(SPLIT, title="another")], [SPLIT], ENVIRONMENT)
    again = page.read_text(encoding="utf-8")
    assert notes in again
    assert "another" in again
    assert "By hand." not in again


def test_numbers_are_written_for_programs(tmp_path: Path):
    """The JSON file holds the unrounded ratio, the times in seconds, and whether the limit holds."""
    write(tmp_path, 100, [SPLIT], [], ENVIRONMENT)
    written = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))
    (figure,) = written["figures"]
    assert figure["figure"] == "split"
    assert figure["value"] == 0.1234
    assert figure["holds"] is True
    assert figure["measured"] == {GRAPHNODE: 1.5e-5, JAX: 0.0002}
    assert written["environment"]["versions"] == {"jax": "0.10.2"}
