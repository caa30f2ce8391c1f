"""The written page: what it shows of a result, and what it keeps from the page before."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from .elsewhere import CONFIGS, GRAPHS, MODELS, Part, elsewhere_section
from .environment import Environment
from .library import BRAINSTATE, GRAPHNODE, JAX, NNX
from .matters import matters_section
from .measures import Result
from .model_figures import MODEL_STEP, Trained
from .model_report import Models
from .report import Written, figures_table, ratios_table, read, sizes_table, steps_table, updated, write
from .steps import GN_JIT, JAX_TUPLE, NNX_CACHED_PARTIAL, NNX_JIT
from .transformer import GN_TRAIN, Sizes

ENVIRONMENT = Environment("2026-01-02", "a CPU", "Linux", "3.11.7", {"jax": "0.10.2"})
NEWER = Environment("2026-02-03", "a CPU", "Linux", "3.13.0", {"jax": "0.12.0"})
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
MODEL = Result(MODEL_STEP, "a training step", 1_234, 0.95, NNX, 1.05, {GRAPHNODE: 0.19, NNX: 0.2})
WAY = Trained(GN_TRAIN, step=0.2, ratio=1, first=4, trace=0.4, lower=0.7, text=1, operations=1, flops=1, bytes=1)


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
    write(tmp_path, 100, Written([SPLIT], [SPLIT], ENVIRONMENT))
    page = tmp_path / "performance.md"
    text = page.read_text(encoding="utf-8")
    notes = "<!-- notes -->\nThe merge is slow, because.\n<!-- /notes -->"
    page.write_text(text.replace("<!-- notes -->\n<!-- /notes -->", notes) + "By hand.", encoding="utf-8")
    write(tmp_path, 100, Written([replace(SPLIT, title="another")], [SPLIT], ENVIRONMENT))
    again = page.read_text(encoding="utf-8")
    assert notes in again
    assert "another" in again
    assert "By hand." not in again


def test_numbers_are_written_for_programs(tmp_path: Path):
    """The JSON file holds the unrounded ratio, the times in seconds, and whether the limit holds."""
    write(tmp_path, 100, Written([SPLIT], [], ENVIRONMENT))
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
    write(tmp_path, 100, Written([replace(SPLIT, value=0.3)], [], ENVIRONMENT), readme)
    write(tmp_path, 100, Written([SPLIT], [], ENVIRONMENT), readme)
    text = readme.read_text(encoding="utf-8")
    assert text == f"Before.\n\n<!-- ratios -->\n\n{ratios_table([SPLIT])}\n\n<!-- /ratios -->\n\nAfter.\n"
    readme.write_text("No place.", encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines <!-- ratios -->"):
        write(tmp_path, 100, Written([SPLIT], [], ENVIRONMENT), readme)


def test_another_python_stands_beside_the_page_and_replaces_nothing(tmp_path: Path):
    """A run of one part keeps the others, of either version; and what is written is read again."""
    models = Models([MODEL], [WAY], Sizes(), ENVIRONMENT)
    page = updated(None, Written([SPLIT], [], ENVIRONMENT), None, models)
    graphs, newer_models = Written([replace(SPLIT, value=0.2)], [STEP], NEWER), replace(models, environment=NEWER)
    page = updated(updated(page, graphs, None, None), None, None, newer_models)
    page = updated(page, Written([replace(SPLIT, value=0.3)], [], ENVIRONMENT), None, None)
    assert page is not None
    assert page == Written(
        [replace(SPLIT, value=0.3)],
        [],
        ENVIRONMENT,
        None,
        models,
        {"3.13": {GRAPHS: Part([*graphs.figures, STEP], NEWER), MODELS: Part([MODEL], NEWER)}},
    )
    write(tmp_path, 100, page)
    assert read(tmp_path) == page
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "\n## On other versions\n" in text
    assert "2026-02-03, on a CPU (Linux), with Python 3.13.0, jax 0.12.0." in text


def test_a_page_of_one_python_has_no_table_of_others(tmp_path: Path):
    """Nor a key of its own in the file for programs."""
    write(tmp_path, 100, Written([SPLIT], [], ENVIRONMENT))
    assert "## On other versions" not in (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "elsewhere" not in json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))


def test_no_page_is_begun_by_a_part_that_cannot_stand_alone():
    """Without graphs there is no page, whatever the version; nor where all that was measured is printed alone."""
    assert updated(None, None, None, Models([MODEL], [WAY], Sizes(), NEWER)) is None
    assert updated(None, None, None, None) is None


def test_both_values_of_a_limit_are_held_against_that_of_the_page():
    """What only the page has is left out, and a model is compared with the fastest peer of each version."""
    old_limit = replace(SPLIT, value=0.6, limit=1.0)
    fastest = replace(MODEL, value=1.5, against="equinox")
    page = {GRAPHS: Part([SPLIT, STEP], ENVIRONMENT), MODELS: Part([MODEL], ENVIRONMENT)}
    unlimited = replace(STEP, limit=None)
    newest = {GRAPHS: Part([old_limit, unlimited], NEWER), MODELS: Part([fastest], NEWER), CONFIGS: Part([], NEWER)}
    section = elsewhere_section(page, "3.11", {"3.13": newest, "3.9": {GRAPHS: Part([SPLIT], NEWER)}})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == ["figure", "size", "limit", "", "Python 3.11", "", "Python 3.9", "", "Python 3.13"]
    kept = ["pass", "0.123 × plain JAX"]
    assert rows[2:] == [
        ["a split", "601", "0.5", *kept, *kept, "**FALLS SHORT**", "0.6 × plain JAX"],
        ["a training step", "1,234", "1.05", "pass", "0.95 × flax.nnx", "", "", "**FALLS SHORT**", "1.5 × equinox"],
    ]
    assert "- **Python 3.11** keeps 2 of these 2 limits.\n" in section
    assert "- **Python 3.13** keeps 0 of these 2 limits.\n" in section


def test_where_figures_do_not_matter_is_said_in_numbers_of_the_figures():
    """A sentence whose numbers were not measured is left out."""
    call = replace(STEP, figure="step-one-7", states=7, measured={GN_JIT: 1e-5, JAX_TUPLE: 6e-6})
    python = replace(STEP, figure="python-all", value=1e-7, against=None, limit=None)
    section = matters_section([call, python], Models([MODEL], [WAY], Sizes(), ENVIRONMENT))
    words = " ".join(section.split())
    assert (
        "A call of `gn.jit` takes 4 µs more than one of `jax.jit` on a flat tuple if it touches one of 7 States, and "
        "60.1 µs more if it writes all of 601. Of the 200 ms that a training step of the transformer takes, these are "
        "0.002 % and 0.03 %." in words
    )
    assert "The transformer's first step takes 4 s, as long as 20 steps after it; 400 ms of that is tracing." in words
    assert "nobody waits for" not in words
    without = matters_section([], None)
    assert "transformer" not in without
    assert "µs" not in without
    assert "All figures here were measured on a CPU." in " ".join(without.split())
