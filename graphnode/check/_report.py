"""How findings are printed: for people, for the annotations of GitHub, and for programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ._findings import Finding


def text_report(findings: Sequence[Finding]) -> str:
    """One line for each finding: `file:line:col: CODE message`."""
    return "".join(
        f"{shown_path(one.file)}:{one.line}:{one.column}: {one.code.code} {one.message}\n"
        for one in findings
    )


def github_report(findings: Sequence[Finding]) -> str:
    """One workflow command for each finding, which GitHub shows beside the line."""
    return "".join(
        f"::error file={_property(shown_path(one.file))},line={one.line},col={one.column},"
        f"title={one.code.code}::{_data(one.message)}\n"
        for one in findings
    )


def json_report(findings: Sequence[Finding]) -> str:
    """A list with an object for each finding."""
    records = [
        {
            "file": shown_path(one.file),
            "line": one.line,
            "column": one.column,
            "code": one.code.code,
            "name": one.code.name,
            "message": one.message,
        }
        for one in findings
    ]
    return json.dumps(records, indent=2) + "\n"


REPORTS: Final[Mapping[str, Callable[[Sequence[Finding]], str]]] = {
    "text": text_report,
    "github": github_report,
    "json": json_report,
}


def summary(findings: Sequence[Finding], classes: int) -> str:
    """How much was found, in one line."""
    files = len({one.file for one in findings})
    found = (
        f"{_count(len(findings), 'finding')} in {_count(files, 'file')}"
        if findings
        else "no findings"
    )
    return f"{found}; {_count(classes, 'class', 'classes')} checked"


def shown_path(file: str) -> str:
    """A path as seen from the working directory, if it is below."""
    path = Path(file)
    return (
        path.relative_to(Path.cwd()).as_posix()
        if path.is_relative_to(Path.cwd())
        else file
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
