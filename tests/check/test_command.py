"""The command: what it prints in each format, its options, its exit codes, and what it costs."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from graphnode.__main__ import main
from graphnode._class_faults import collecting_faults
from graphnode.check import CODES, check
from graphnode.check._modules import importing
from graphnode.check._run import check_classes
from tests.checking import write_files
from tests.docrun import ROOT
from tests.work import calls_of

NETS = """\
import functools
import typing
import graphnode as gn


class Net(gn.Node):
    a: typing.Any
    n: int = gn.static(default_factory=lambda: {"100%": 1}["a, b"])

    def build(self):
        self.size = 1


print("imported")
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one file, forgotten afterwards."""
    write_files(tmp_path, {"nets.py": NETS, "clean.py": "import graphnode as gn\nclass Net(gn.Node): ...\n"})
    monkeypatch.chdir(tmp_path)
    for name in ("nets", "clean", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, name, None)  # so that it is taken out at the end
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(main, ["check", *arguments])


A = "Net.a: Any may hold anything; say which: a: ... = gn.static(), gn.state() or gn.subnode()"
SIZE = "Net has no field 'size'; declare it in the class: size: int"


def test_findings_are_lines_with_place_code_and_message():
    """To stdout; the number of them, and what modules print, to stderr."""
    result = run("nets.py")
    assert result.stdout == f"nets.py:7:5: GN104 {A}\nnets.py:11:9: GN201 {SIZE}\n"
    assert result.stderr == "imported\n2 findings in 1 file; 1 class checked\n"
    assert result.exit_code == 1


def test_nothing_found_is_exit_code_zero():
    """And prints no line to stdout."""
    result = run("clean.py")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "no findings; 1 class checked\n", 0)


def test_the_format_of_github():
    """Workflow commands, with what has a meaning in them escaped."""
    Path("nets.py").write_text(NETS.replace("a: typing.Any", ""), encoding="utf-8")
    Path("nets.py").rename("100%, n:ets.py")
    result = run("--format", "github", "100%, n:ets.py", "--ignore=GN2")
    assert result.stdout == (
        "::error file=100%25%2C n%3Aets.py,line=8,col=5,title=GN303::Net.n: its default_factory raises KeyError: "
        "'a, b'; so does the class, constructed without n\n"
    )


def test_newlines_of_a_message_stay_in_its_command():
    """GitHub reads them back."""
    text = "import graphnode as gn\ndef make(): raise ValueError('5%\\n6')\n"
    text += "class Net(gn.Node):\n    n: int = gn.static(default_factory=make)\n"
    Path("nets.py").write_text(text, encoding="utf-8")
    result = run("--format", "github", "nets.py")
    assert "ValueError: 5%25%0A6; so" in result.stdout
    assert result.stdout.count("\n") == 1


def test_the_format_of_programs():
    """A list of objects; an empty one when nothing is found."""
    result = run("--format=json", "nets.py")
    assert json.loads(result.stdout) == [
        {"file": "nets.py", "line": 7, "column": 5, "code": "GN104", "name": "ambiguous-annotation", "message": A},
        {"file": "nets.py", "line": 11, "column": 9, "code": "GN201", "name": "undeclared-assignment", "message": SIZE},
    ]
    assert json.loads(run("--format=json", "clean.py").stdout) == []


def test_paths_outside_of_the_working_directory_are_whole(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """The others are relative to it."""
    (directory / "below").mkdir()
    monkeypatch.chdir(directory / "below")
    assert run("../nets.py").stdout.startswith(f"{directory}/nets.py:7:5: ")


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ([], ["GN104", "GN201"]),
        (["--select", "GN2"], ["GN201"]),
        (["--select", "GN2, GN104"], ["GN104", "GN201"]),
        (["--select=GN2", "--select=GN104"], ["GN104", "GN201"]),
        (["--ignore", "GN2"], ["GN104"]),
        (["--select", "GN", "--ignore", "GN104"], ["GN201"]),
        (["--ignore", "GN"], []),
    ],
)
def test_codes_are_selected_and_ignored(options: list[str], codes: list[str]):
    """By code or beginning; what is left decides the exit code."""
    result = run(*options, "nets.py")
    assert re.findall(r": (GN\d+) ", result.stdout) == codes
    assert result.exit_code == bool(codes)


def test_a_module_that_cannot_be_imported_is_exit_code_two():
    """It is reported whatever was selected, beside what was found."""
    Path("broken.py").write_text("1 / 0  # graphnode: ignore\n", encoding="utf-8")
    result = run("--select=GN104", "--ignore=GN0", "nets.py", "broken.py")
    assert result.exit_code == 2
    assert result.stdout == (
        f"broken.py:1:1: GN001 broken cannot be imported: ZeroDivisionError: division by zero\nnets.py:7:5: GN104 {A}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'PACKAGE_OR_FILE...'."),
        (["nowhere"], "nowhere is not a module that can be found, nor a directory or a file"),
        (["--select", "GN9", "nets.py"], "Invalid value for '--select': no code begins with 'GN9'"),
        (["--ignore", "", "nets.py"], "Invalid value for '--ignore': no code begins with ''"),
        (["--explain", "GN1"], f"Invalid value for '--explain': no code is 'GN1'; they are {', '.join(CODES)}"),
    ],
)
def test_a_command_that_is_not_understood_is_exit_code_two(arguments: list[str], message: str):
    """The message says what would do."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"Error: {message}\n")


def test_strict_looks_for_contracts():
    """Only when it is asked to."""
    text = "import graphnode as gn\nclass Net(gn.Node):\n    w: gn.ParamState\n"
    Path("nets.py").write_text(text, encoding="utf-8")
    assert run("nets.py").exit_code == 0
    sys.modules.pop("nets")
    assert run("--strict", "nets.py").stdout.startswith("nets.py:3:5: GN401 ")


def test_explain_says_what_a_code_means():
    """And where the page explains it."""
    result = run("--explain", "GN101")
    assert result.exit_code == 0
    assert result.stdout == (
        "GN101 kind-mismatch: A specifier says another kind than the annotation.\n"
        "More, with examples: docs/errors.md#gn101-kind-mismatch\n"
    )


def test_the_command_line_reads_well():
    """`python -m graphnode --help` lists the commands, and each has its help."""
    python = [sys.executable, "-m", "graphnode"]
    shown = subprocess.run([*python, "--help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown.startswith("Usage: python -m graphnode [OPTIONS] COMMAND [ARGS]...\n")
    assert re.search(r"^  check +Find what no type checker can see in node classes\.$", shown, re.MULTILINE)
    assert "PACKAGE_OR_FILE is the dotted name" in run("--help").stdout
    assert CliRunner().invoke(main, ["--version"]).stdout.startswith("graphnode, version ")


def test_the_script_and_the_hook_run_the_command():
    """What is installed as `graphnode` is the command line, and pre-commit understands the hook that calls it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert EntryPoint("graphnode", project["scripts"]["graphnode"], "console_scripts").load() is main
    hooks = ROOT / ".pre-commit-hooks.yaml"
    assert "entry: graphnode check\n" in hooks.read_text(encoding="utf-8")
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-manifest", str(hooks)], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_package_and_its_examples_are_clean():
    """In a process of its own, as users run it."""
    examples = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/examples").glob("*.py"))
    command = [sys.executable, "-m", "graphnode", "check", "graphnode", *examples]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
    assert re.search(r"^no findings; \d\d+ classes checked$", done.stderr, re.MULTILINE)


CLASS = '''
class Block{0}(gn.Node):
    """One of many."""

    width: int
    depth: int = 2
    weight: gn.ParamState[Float[Array, "width depth"]] = gn.state(jax.nn.initializers.ones)
    trace: gn.ShortTermState[Float[Array, "width"]] = gn.state(init=False)
    after: "Block{0} | None" = gn.subnode(default=None)
    function: Callable[[Array], Array] = gn.static(default=jax.nn.relu)

    def __post_init__(self) -> None:
        self.trace = gn.ShortTermState(jnp.zeros(self.width))

    def __call__(self, x: Array) -> Array:
        for _ in range(self.depth):
            x = self.function(x @ self.weight.value)
        self.trace.value += x.sum(axis=0)
        return x if self.after is None else self.after(x)

    def reset(self) -> None:
        self.missing = 0
'''


@pytest.mark.no_runtime_types
def test_two_hundred_classes_take_little_work():
    """Beyond the import of their module, at most 5,000 calls for each class."""
    imports = "import jax, jax.numpy as jnp, graphnode as gn\nfrom typing import Callable\n"
    imports += "from jaxtyping import Array, Float\n"
    Path("many.py").write_text(imports + "".join(CLASS.format(n) for n in range(200)), encoding="utf-8")
    sys.modules.pop("many", None)
    checks: list[Any] = []
    with collecting_faults() as defined, importing(["many.py"]) as imported:
        calls = calls_of(lambda: checks.append(check_classes(defined, imported, strict=True)))
    sys.modules.pop("many")
    assert (checks[0].classes, len(checks[0].findings)) == (200, 200)
    assert calls < 200 * 5_000


def test_import_graphnode_leaves_the_check_to_those_who_ask_for_it():
    """Neither the check nor click is imported."""
    code = "import sys, graphnode; print('click' in sys.modules or 'graphnode.check' in sys.modules, graphnode.check)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown.startswith("False <module 'graphnode.check'")


def test_check_is_a_function_too():
    """What the command runs."""
    checked = check("clean.py")
    assert (checked.findings, checked.classes, checked.is_complete) == ([], 1, True)
