"""How findings are printed: for people, for the annotations of GitHub, and for programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ._findings import Finding


def text_report(findings: Sequence[Finding]) -> str:
    """One line for each finding: `file:line:col: CODE message`."""
    return "".join(
        f"{shown_path(finding.file)}:{finding.line}:{finding.column}: {finding.code.code} {finding.message}\n"
        for finding in findings
    )


def github_report(findings: Sequence[Finding]) -> str:
    """One workflow command for each finding, which GitHub shows beside the line."""
    return "".join(
        f"::error file={_escaped_property(shown_path(finding.file))},line={finding.line},col={finding.column},"
        f"title={finding.code.code}::{_escaped(finding.message)}\n"
        for finding in findings
    )


def json_report(findings: Sequence[Finding]) -> str:
    """A list with an object for each finding."""
    records = [
        {
            "file": shown_path(finding.file),
            "line": finding.line,
            "column": finding.column,
            "code": finding.code.code,
            "name": finding.code.name,
            "message": finding.message,
        }
        for finding in findings
    ]
    return json.dumps(records, indent=2) + "\n"


REPORTS: Final[Mapping[str, Callable[[Sequence[Finding]], str]]] = {
    "text": text_report,
    "github": github_report,
    "json": json_report,
}


def summary(findings: Sequence[Finding], classes: int) -> str:
    """How much was found, in one line."""
    text = "no findings"
    if findings:
        files = len({finding.file for finding in findings})
        text = f"{_count(len(findings), 'finding')} in {_count(files, 'file')}"
    return f"{text}; {_count(classes, 'class', 'classes')} checked"


def shown_path(file: str) -> str:
    """A path as seen from the working directory, if it is below: what editors and GitHub make a link of."""
    path, directory = Path(file), Path.cwd()
    if not path.is_relative_to(directory):
        return file
    return path.relative_to(directory).as_posix()


def _count(number: int, singular: str, plural: str | None = None) -> str:
    """For `summary`: a number with its noun, in the singular or plural."""
    if number == 1:
        return f"1 {singular}"
    return f"{number} {plural or singular + 's'}"


def _escaped(text: str) -> str:
    """The text of a workflow command, with what GitHub would read as its end escaped."""
    # The percent sign first, or those of the other escapes would be escaped again.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    """The value of a property of a workflow command, in which commas and colons are escaped, too."""
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
