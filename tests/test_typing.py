"""The types that users see: programs that must pass a strict type checker, and lines that must not.

In `tests/typing` a line that a checker must report ends in `# E:` and what is wrong with it; a statement with a mark
keeps to one line, since checkers place an error in a longer one differently. Both checkers read both folders in one run
each: without the lines that must pass, a checker that reports everything would do.
"""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docrun import ROOT

FOLDER = ROOT / "tests" / "typing"
MARK = "# E: "

# What a checker says, by file and number of the line.
Reports = dict[tuple[Path, int], str]


def run(*command: str) -> str:
    """What a checker prints; it must have found its files, and not have crashed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), f"{command[0]} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def mypy(_: Path) -> Reports:
    """What `mypy --strict` reports, without the project's configuration, which leaves out the lines that must fail."""
    options = ["--config-file=", "--strict", "--explicit-package-bases", "--output=json"]
    # A cache of its own, as another configuration would make the one of `make lint` stale each time.
    printed = run("mypy", *options, f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}", str(FOLDER))
    found = [json.loads(line) for line in printed.splitlines()]
    return {(ROOT / one["file"], one["line"]): one["message"] for one in found if one["severity"] == "error"}


def pyright(tmp_path: Path) -> Reports:
    """What pyright reports in strict mode, but for functions of jax that have no types."""
    config = {
        "typeCheckingMode": "strict",
        "reportUnknownMemberType": "none",
        "include": [os.path.relpath(FOLDER, tmp_path)],  # which takes relative paths only
        "exclude": [],
        "extraPaths": [str(ROOT)],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    printed = run("pyright", "--project", str(tmp_path), "--pythonpath", sys.executable, "--outputjson")
    found = [one for one in json.loads(printed)["generalDiagnostics"] if one["severity"] == "error"]
    return {(Path(one["file"]), one["range"]["start"]["line"] + 1): one["message"] for one in found}


@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_marked_lines_are_reported_and_no_others(checker: Callable[[Path], Reports], tmp_path: Path):
    """A strict checker reports every line that is marked as wrong, and no other line."""
    lines = {
        (file, number): text
        for file in sorted(FOLDER.rglob("*.py"))
        for number, text in enumerate(file.read_text().splitlines(), start=1)
    }
    marked = {place for place, text in lines.items() if MARK in text}
    assert {file.parent.name for file, _ in marked} == {"must_fail"}
    reports = checker(tmp_path)
    differences = [
        f"{file.relative_to(ROOT)}:{number}: "
        + (f"not reported: {text.strip()}" if (file, number) in marked else f"reported: {reports[file, number]}")
        for (file, number), text in lines.items()
        if ((file, number) in marked) != ((file, number) in reports)
    ]
    if differences:
        pytest.fail("\n".join(["these lines differ from their marks:", *differences]), pytrace=False)


@pytest.mark.parametrize("file", sorted((FOLDER / "must_pass").glob("*.py")), ids=lambda file: file.stem)
def test_programs_that_must_pass_run(file: Path):
    """A program that checkers accept also runs: what they believe of one that fails would be worth nothing."""
    runpy.run_path(str(file))
