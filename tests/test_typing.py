"""The types that users see: programs that must pass strict type checkers, and lines that must not.

In `tests/typing` a line that a checker must report ends in `# E:` and what is wrong with it; a statement with a mark
keeps to one line, since checkers place an error in a longer one differently. What a checker gets wrong is said in the
mark, with the reason: `# E: a number (missed by mypy: ...; ty: ...)`, or `# OK (reported by ty: ...)` on a line that is
right. What is said there must be so: a checker that learns to do better fails the test, until the mark is taken out.
Every checker reads all files in one run: without the lines that must pass, one that reports everything would do. The
blocks of the guide to typing are one more file.
"""

import os
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docrun import ROOT, parse_blocks
from tests.typing.checkers import CHECKERS, Checker

FOLDER = ROOT / "tests" / "typing"
PASS = sorted((FOLDER / "must_pass").glob("*.py"))
FAIL = sorted((FOLDER / "must_fail").glob("*.py"))

MARK = re.compile(r"# (?P<kind>E: .+?|OK)(?: \((?:missed|reported) by (?P<wrong>.+)\))?$")


PAGE = ROOT / "docs" / "guides" / "typing.md"


def program_of(page: Path) -> Path:
    """The blocks of a page as a program with the same line numbers.

    Its path is always the same: in another folder mypy would take it from its cache, with the errors of the old path.
    """
    text = page.read_text()
    lines = [""] * len(text.splitlines())
    for block in parse_blocks(text, page.name):
        lines[block.code.first : block.code.last] = block.code.text.splitlines()
    program = ROOT / ".cache" / f"{page.stem}_guide.py"
    program.parent.mkdir(exist_ok=True)
    made = program.with_suffix(f".{os.getpid()}")
    made.write_text("\n".join(lines) + "\n")
    made.replace(program)  # at once: other checkers may be reading it
    return program


class Line(NamedTuple):
    """One line of a case file, and what its mark says."""

    file: Path
    number: int
    text: str
    is_error: bool
    wrong: dict[str, str]
    """The reason, for each checker that gets the line wrong."""

    @property
    def is_case(self) -> bool:
        """Whether the line asks something of a checker: to report it, to reveal a type, or not to report it."""
        return self.is_error or bool(self.wrong) or self.text.lstrip().startswith("assert_type(")

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.name}:{self.number}"


def lines_of(files: list[Path]) -> Iterator[Line]:
    """The lines of case files."""
    for file in files:
        for number, text in enumerate(file.read_text().splitlines(), start=1):
            mark = MARK.search(text)
            wrong = dict(re.findall(r"(\w+): (.+?)(?:; (?=\w+: )|$)", (mark and mark["wrong"]) or ""))
            yield Line(file, number, text.strip(), mark is not None and mark["kind"] != "OK", wrong)


def readable(files: list[Path], checker: str) -> list[Path]:
    """The files whose syntax a checker can read: mypy has the parser of the Python that runs it."""
    is_new = sys.version_info >= (3, 12)
    return [file for file in files if is_new or checker != "mypy" or not file.stem.endswith("_312")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ("mypy", "pyright") else []) for name in CHECKERS]
)
def test_marked_lines_are_reported_and_no_others(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
):
    """A strict checker reports every line that is marked as wrong, and no other line."""
    checker: Checker = CHECKERS[name]
    files = [*readable([*PASS, *FAIL], name), program_of(PAGE)]
    lines = list(lines_of(files))
    assert not any(line.is_error for line in lines if line.file in PASS)
    reports = checker(files, tmp_path)
    differences: list[str] = []
    for line in lines:
        is_reported = (line.file, line.number) in reports
        expected = line.is_error != (name in line.wrong)
        if is_reported and not expected:
            told = f"reported: {reports[line.file, line.number]}"
            differences.append(f"{line}: {told if name not in line.wrong else 'found now: take out the remark'}")
        elif expected and not is_reported:
            differences.append(
                f"{line}: {'not reported' if name not in line.wrong else 'right now: take out the remark'}: {line.text}"
            )
    cases = [line for line in lines if line.is_case]
    good = sum(name not in line.wrong for line in cases)
    record_property("note", f"{name}: {good} of {len(cases)} marked lines in {len(files)} files")
    if differences:
        pytest.fail("\n".join(["these lines differ from their marks:", *differences]), pytrace=False)


def test_there_are_cases_enough():
    """The lines that ask something of a checker are many, and those that one gets wrong are few."""
    cases = [line for line in lines_of([*PASS, *FAIL]) if line.is_case]
    assert len(cases) > 450
    assert sum(bool(line.wrong) for line in cases) <= 20
    assert all(reason.strip() for line in cases for reason in line.wrong.values())
    assert {name for line in cases for name in line.wrong} <= set(CHECKERS)


# These compile more than others.
LONG = ("families", "generation", "metrics", "transforms")


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, id=file.stem, marks=pytest.mark.slow if file.stem in LONG else ())
        for file in readable(PASS, "mypy")
    ],
)
def test_programs_that_must_pass_run(file: Path):
    """A program that checkers accept also runs: what they believe of one that fails would be worth nothing."""
    runpy.run_path(str(file))
