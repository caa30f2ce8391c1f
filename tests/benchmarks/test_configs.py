"""The benchmark of configurations: what it finds out, how its page is kept, and coarse limits for `make test`."""

import json
from pathlib import Path

import pytest

from .config_checks import Kept, kept_by
from .config_figures import Deep, Imported, Load, stack_of
from .config_library import PYYAML, ConfigLibrary, Content, content_in, content_of
from .config_peers import Beside
from .config_report import Configs, config_figures_table, peers_table
from .environment import Environment
from .library import GRAPHNODE, JAX
from .measures import Result
from .models.on_gn_config import LIBRARY
from .report import Written, read, write
from .timing import Effort

ENVIRONMENT = Environment("2026-01-02", "a CPU", "Linux", "3.11.7", {"pydantic": "2.14.4"})
CLASS = Result("config-classes", "a class", 50, 0.0013, None, 0.004, {}, per="class")
LOAD = Result("config-load", "a file", 1000, 1.25, PYYAML, 3, {GRAPHNODE: 0.025, PYYAML: 0.02})
PEER = Beside("a peer", 0.5, 20.0, 0.01, 1.0, Kept("yes", "an error without line", "**no error**", "no: ValueError"))
SPLIT = Result("split", "a split", 601, 0.1234, JAX, 0.5, {GRAPHNODE: 1.5e-5, JAX: 0.0002})


def test_graphnode_keeps_sharing_cycles_and_places(tmp_path: Path):
    """The faults of a file are told with its name and their lines."""
    assert kept_by(LIBRARY, tmp_path) == Kept("yes", "file and line", "file and line", "yes")


def test_what_a_library_loses_is_found_out(tmp_path: Path):
    """A library that makes two objects, says no line, and refuses a cycle."""

    def load(file: Path) -> object:
        text = file.read_text(encoding="utf-8")
        if "n_uot" in text:
            raise ValueError("n_uot")
        return text.replace('"four"', "4").replace("{ref: encoder}", "{layers: [{n_in: 1, n_out: 1}]}")

    def cycle(folder: Path) -> object:
        raise RecursionError

    loses = ConfigLibrary(
        name="",
        distributions=(),
        suffix=".yaml",
        key=LIBRARY.key,
        text=LIBRARY.text,
        load=load,
        build=lambda text: LIBRARY.build(LIBRARY.load(_file(tmp_path, text))),
        cycle=cycle,
    )
    assert kept_by(loses, tmp_path) == Kept(
        "no: two objects", "an error without line", "**no error**", "no: RecursionError"
    )


def _file(folder: Path, text: str) -> Path:
    file = folder / "changed.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_model_is_what_the_file_says(tmp_path: Path):
    """What is built has so many nodes, with these values."""
    content = content_of(10)
    model = LIBRARY.build(LIBRARY.load(_file(tmp_path, LIBRARY.text(content))))
    assert content.nodes == 10
    assert content_in(model) == Content(content.encoder, content.layers)


def test_absolute_limits_have_their_unit():
    """Time for a class, a ratio for a file."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in config_figures_table([CLASS, LOAD]).split("\n")
    ]
    assert rows[2] == ["a class", "50", "pass", "1.3 ms per class", "4 ms", "", ""]
    assert rows[3] == ["a file", "1,000", "pass", "1.25 × PyYAML's C loader", "3", "25 ms", "20 ms"]


def test_peers_have_their_ratio_and_what_they_lose():
    """The ratio is left out where it is one."""
    row = [cell.strip() for cell in peers_table([PEER]).split("\n")[2].split("|")[1:-1]]
    assert row == ["a peer", "500 ms (20 ×)", "10 ms", "yes", "an error without line", "**no error**", "no: ValueError"]


def test_a_section_is_kept_while_another_is_measured(tmp_path: Path):
    """What was written before is read, and written again to the same text."""
    configs = Configs([CLASS, LOAD], [PEER], 1_000, ENVIRONMENT)
    write(tmp_path, 100, Written([SPLIT], [SPLIT], ENVIRONMENT, configs=configs))
    page, record = [(tmp_path / name).read_text(encoding="utf-8") for name in ("performance.md", "performance.json")]
    written = read(tmp_path)
    assert written is not None
    assert written.configs == configs
    write(tmp_path, 100, written)
    assert (tmp_path / "performance.md").read_text(encoding="utf-8") == page
    assert json.loads((tmp_path / "performance.json").read_text(encoding="utf-8")) == json.loads(record)


def test_nothing_was_written_before(tmp_path: Path):
    """An empty folder holds no page."""
    assert read(tmp_path) is None


def test_the_stack_is_counted():
    """By the functions that are open at once."""

    def down(levels: int) -> None:
        if levels:
            down(levels - 1)

    assert stack_of(lambda: down(9)) == 11


@pytest.mark.slow
def test_configs_keep_their_coarse_limits(request: pytest.FixtureRequest, tmp_path: Path):
    """A file takes no more than twice its limit, a deep one no deeper stack, and the import nothing."""
    if request.config.getoption("--runtime-types", default=False):
        pytest.skip("runtime type checks cost more than what is measured")
    effort = Effort(rounds=2, seconds=0)
    rows = [
        *Load(sizes=(1_000, 1_000, 2_000), most=6, growth=4).measure(effort, tmp_path),
        *Deep(sizes=(1_100, 1_400), growth=3).measure(effort, tmp_path),
        *Imported().measure(effort, tmp_path),
    ]
    assert [row.title for row in rows if not row.holds] == []
