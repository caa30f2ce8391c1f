"""The type checkers that users run, and what each reports of the case files: one run of each, for all files."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.docrun import ROOT

# What a checker says, by file and number of the line.
Reports = dict[tuple[Path, int], str]


def run(command: Sequence[str | Path], folder: Path = ROOT) -> str:
    """What a checker prints; it must have found its files, and not have crashed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def mypy(files: Sequence[Path], tmp_path: Path) -> Reports:
    """What `mypy --strict` reports, without the project's configuration, which leaves out the lines that must fail."""
    options = [
        "--config-file=",
        "--strict",
        "--explicit-package-bases",
        "--output=json",
        "--disable-error-code=import-untyped",
    ]
    # A cache of its own, as another configuration would make the one of `make lint` stale each time.
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}"
    printed = run([sys.executable, "-m", "mypy", *options, cache, *files])
    found = [json.loads(line) for line in printed.splitlines()]
    return {
        ((ROOT / one["file"]).resolve(), one["line"]): one["message"] for one in found if one["severity"] == "error"
    }


def pyright(files: Sequence[Path], tmp_path: Path) -> Reports:
    """What pyright reports in strict mode, but for functions of jax that have no types."""
    config = {
        "typeCheckingMode": "strict",
        "reportUnknownMemberType": "none",
        "reportMissingTypeStubs": "none",
        "include": [os.path.relpath(file, tmp_path) for file in files],  # which takes relative paths only
        "exclude": [],
        "extraPaths": [str(ROOT)],
        "pythonVersion": python_version(),
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    options = ["--project", str(tmp_path), "--pythonpath", sys.executable, "--outputjson"]
    found = [
        one
        for one in json.loads(run([sys.executable, "-m", "pyright", *options]))["generalDiagnostics"]
        if one["severity"] == "error"
    ]
    return {(Path(one["file"]), one["range"]["start"]["line"] + 1): one["message"] for one in found}


def pyrefly(files: Sequence[Path], tmp_path: Path) -> Reports:
    """What pyrefly reports by its strict preset, but for what is left out of the project's own configuration."""
    config = tmp_path / "pyrefly.toml"
    errors = (ROOT / "pyrefly.toml").read_text().partition("[errors]")[2].partition("[[")[0]
    config.write_text(
        f'preset = "strict"\nstrict-callable-subtyping = false\nsearch-path = ["{ROOT}"]\n[errors]{errors}'
    )
    options: list[str | Path] = ["--config", config, "--python-version", python_version(), "--output-format", "json"]
    printed = run([_script("pyrefly"), "check", *options, "--python-interpreter-path", sys.executable, *files])
    found: list[dict[str, Any]] = json.loads(printed)["errors"]
    return {
        ((ROOT / one["path"]).resolve(), one["line"]): one["description"]
        for one in found
        if one["severity"] in ("error", "ERROR")
    }


def ty(files: Sequence[Path], tmp_path: Path) -> Reports:
    """What ty reports as an error."""
    options = ["--python", sys.prefix, "--python-version", python_version(), "--output-format", "concise"]
    printed = run([_script("ty"), "check", *options, *files])
    found = re.findall(r"^(.+?):(\d+):\d+: error\[(.+)$", printed, re.MULTILINE)
    return {((ROOT / file).resolve(), int(line)): text for file, line, text in found}


def python_version() -> str:
    """The version that the files are checked for: the running one, or the oldest that all their syntax is of."""
    return "{}.{}".format(*max(sys.version_info[:2], (3, 12)))


def _script(name: str) -> Path:
    return Path(sys.executable).with_name(name)


Checker = Callable[[Sequence[Path], Path], Reports]
CHECKERS: dict[str, Checker] = {"mypy": mypy, "pyright": pyright, "pyrefly": pyrefly, "ty": ty}
