"""What the tests import is what `make venv` installs."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import OPTIONAL
from tests.docrun import ROOT

# Distributions that are not named as what they hold.
IMPORTED_AS = {"pyyaml": "yaml", "scikit-learn": "sklearn", "ipython": "IPython"}
# The benchmarks have an extra of their own, and what stands in these folders is text for type checkers.
ELSEWHERE = ("benchmarks", "typing")


def imported_modules(path: Path) -> Iterator[str]:
    """The first parts of the names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def installed_modules() -> set[str]:
    """What the package and requirements-dev.txt ask for, by the names that are imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()]
    names = [match[0].lower() for line in lines if (match := re.match(r"[\w-]+", line))]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def test_what_the_tests_import_is_asked_for():
    """Nothing is there only because something else needs it."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.relative_to(ROOT).parts[1] not in ELSEWHERE]
    imported = {name for path in files for name in imported_modules(path)}
    own = {"graphnode", "tests", *(path.stem for path in files)}
    assert sorted(imported - installed_modules() - own - set(sys.stdlib_module_names)) == []


def test_what_is_optional_is_asked_for():
    """A name that nothing installs any more would hide a misspelt import."""
    assert sorted(OPTIONAL - installed_modules()) == []


def test_a_file_that_needs_what_is_missing_is_skipped(tmp_path: Path):
    """The file is skipped with a reason, and others run; any other missing module is an error."""
    files = {
        "conftest": "from tests.conftest import pytest_pycollect_makemodule",
        "test_optional": "import pygls.no_such_module",
        "test_other": "def test_passes():\n    pass",
        "test_misspelt": "import no_such_module",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-rs", "--rootdir", str(tmp_path), "--continue-on-collection-errors"]
    result = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert "pygls.no_such_module is not installed" in result.stdout or "pygls is not installed" in result.stdout
    assert "1 passed, 1 skipped, 1 error in" in result.stdout
