"""The written page: what it shows of a result, and what it keeps from the page before."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from .environment import Environment
from .library import BRAINSTATE, GRAPHNODE, JAX, NNX
from .measures import Result
from .report import figures_table, ratios_table, sizes_table, steps_table, write
from .steps import GN_JIT, JAX_TUPLE, NNX_CACHED_PARTIAL, NNX_JIT

ENVIRONMENT = Environment("2026-01-02", "a CPU", "Linux", "3.11.7", {"jax": "0.10.2"})
STEP = Result(
    figure="step-all",
    title="a step",
    states=601,
    value=1.25,
    against=JAX_TUPLE,
    limit=1.15,
    measured={GN_JIT: 1e-3, JAX_TUPLE: 8e-4, NNX_JIT: 0.02, NNX_CACHED_PARTIAL: 0.004},
)
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


def test_a_step_shows_all_ways_to_compile_in_one_row():
    """What falls short is bold; a way without limit shows its time alone, and one that is missing nothing."""
    table = steps_table([STEP, replace(STEP, value=0.05, against=NNX_JIT, limit=1)])
    (row,) = table.splitlines()[2:]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:3] == ["a step", "601", "**FALLS SHORT**"]
    assert cells[3:] == ["1 ms", "**1.25 × 800 µs (≤ 1.15)**", "", "0.05 × 20 ms (≤ 1)", "", "4 ms", "", ""]


def test_seconds_per_state_are_shown_as_nanoseconds():
    """They are no ratio, and no count."""
    table = sizes_table([replace(STEP, value=3.21e-8, against=None, limit=None)], (GN_JIT,))
    assert "| 32.1 ns per State |" in table


def test_headlines_take_the_ratio_of_the_page_and_the_fastest_way():
    """Where the page has no ratio, it is that of the medians; what a library has not stays empty."""
    split = replace(SPLIT, measured={GRAPHNODE: 1.0, JAX: 4.0, NNX: 100.0})
    table = ratios_table([split, replace(STEP, value=0.06, against=NNX_JIT), STEP])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert rows[0] == ["time of graphnode over that of, at 601 States", JAX, NNX, BRAINSTATE, "equinox"]
    assert rows[2:] == [
        ["split", "0.123", "0.01", "", ""],
        ["compiled step that writes all States", "1.25", "0.25", "", ""],
    ]


def test_the_readme_gets_the_ratios_and_keeps_the_rest(tmp_path: Path):
    """Written twice, the block is replaced."""
    readme = tmp_path / "README.md"
    readme.write_text("Before.\n\n<!-- ratios -->\n<!-- /ratios -->\n\nAfter.\n", encoding="utf-8")
    write(tmp_path, 100, [replace(SPLIT, value=0.3)], [], ENVIRONMENT, readme)
    write(tmp_path, 100, [SPLIT], [], ENVIRONMENT, readme)
    text = readme.read_text(encoding="utf-8")
    assert text == f"Before.\n\n<!-- ratios -->\n\n{ratios_table([SPLIT])}\n\n<!-- /ratios -->\n\nAfter.\n"
    readme.write_text("No place.", encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines <!-- ratios -->"):
        write(tmp_path, 100, [SPLIT], [], ENVIRONMENT, readme)
