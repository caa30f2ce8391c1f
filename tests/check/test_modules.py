"""Which modules a target names, and what becomes of one that cannot be imported."""

import sys
from pathlib import Path

import pytest

from graphnode.check import Checked, TargetError, check
from tests.checking import check_and_forget, write_files

BAD = """
import typing
import graphnode as gn
class {}(gn.Node):
    a: typing.Any
"""

TREE = {
    "package_a/__init__.py": BAD.format("A"),
    "package_a/__main__.py": "raise SystemExit('a program')",
    "package_a/one.py": BAD.format("One"),
    "package_a/inner/__init__.py": "",
    "package_a/inner/two.py": "from ..one import One" + BAD.format("Two"),
    "alone.py": BAD.format("Alone"),
    "scripts/__main__.py": "raise SystemExit('a program')",
    "scripts/alone.py": "import beside" + BAD.format("Other"),
    "scripts/beside.py": BAD.format("Beside"),
    "scripts/random.py": BAD.format("Random"),
    "scripts/notes.txt": "",
    ".hidden/hidden.py": BAD.format("Hidden"),
    "env/pyvenv.cfg": "",
    "env/installed.py": BAD.format("Installed"),
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with packages and scripts, which is the working directory."""
    write_files(tmp_path, TREE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def classes(checked: Checked) -> list[str]:
    """The classes with a fault."""
    return sorted(found.message.partition(".")[0] for found in checked.findings)


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (["package_a"], ["A", "One", "Two"]),
        (["package_a/"], ["A", "One", "Two"]),
        (["package_a.inner"], ["Two"]),
        (["package_a/inner"], ["Two"]),
        (["package_a/inner/two.py", "package_a.inner.two"], ["Two"]),
        (["package_a/__init__.py"], ["A"]),
        (["package_a.one", "alone.py"], ["Alone", "One"]),
        (["alone"], ["Alone"]),
        (["alone.py", "scripts/alone.py"], ["Alone", "Other"]),
        (["scripts/alone.py"], ["Other"]),
        (["scripts"], ["Beside", "Other", "Random"]),
        (["."], ["A", "Alone", "Beside", "One", "Other", "Random", "Two"]),
        (["package_a/__main__.py", "package_a.__main__"], []),
    ],
    ids=" ".join,
)
def test_a_target_is_a_name_a_directory_or_a_file(targets: list[str], found: list[str], tree: Path):
    """Of a package all submodules are checked, of any directory all files; scripts may have one name."""
    path = list(sys.path)
    random = sys.modules["random"]
    checked = check_and_forget(*targets)
    assert classes(checked) == found
    assert checked.is_complete
    assert (sys.path, sys.modules["random"]) == (path, random)


def test_targets_from_elsewhere_are_found_by_their_paths(tree: Path, monkeypatch: pytest.MonkeyPatch):
    """The root of a package or script is importable while it is checked."""
    monkeypatch.chdir(Path("/"))
    targets = [str(tree / "package_a/inner/two.py"), str(tree / "scripts/alone.py")]
    assert classes(check_and_forget(*targets)) == ["Other", "Two"]


def test_findings_are_in_the_order_of_files_and_lines(tree: Path):
    """Whatever the order of the targets."""
    checked = check_and_forget("scripts/alone.py", "package_a/one.py", "alone.py")
    files = [Path(found.file).relative_to(tree).as_posix() for found in checked.findings]
    assert files == ["alone.py", "package_a/one.py", "scripts/alone.py"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "nowhere is not a module that can be found, nor a directory or a file"),
        ("nowhere.py", "nowhere.py is not a module that can be found, nor a directory or a file"),
        ("a-b", "a-b is not a module that can be found, nor a directory or a file"),
        ("scripts/notes.txt", "scripts/notes.txt is not a Python file"),
    ],
)
def test_what_names_nothing_is_an_error(target: str, message: str, tree: Path):
    """Before anything is imported."""
    with pytest.raises(TargetError) as caught:
        check("alone.py", target)
    assert str(caught.value) == message
    assert "alone" not in sys.modules


def test_a_module_that_cannot_be_imported_hides_no_other(tmp_path: Path):
    """Each is reported at the last of its own lines that ran; submodules of a broken package are not looked for."""
    files = {
        "package_b/__init__.py": "",
        "package_b/deep.py": "import nowhere_at_all",
        "package_b/fine.py": BAD.format("Fine"),
        "package_b/leaves.py": "import sys\nsys.exit(3)",
        "package_b/raises.py": "def fail():\n    raise ValueError('no\\nway')\n\nfail()",
        "package_b/syntax.py": "x = 1\ndef f(:\n",
        "package_b/uses.py": "\nfrom . import deep",
        "package_b/uses_syntax.py": "\n\nfrom . import syntax",
        "package_b/within/__init__.py": "1 / 0",
        "package_b/within/below.py": "",
    }
    write_files(tmp_path, files)
    checked = check_and_forget(str(tmp_path / "package_b"))
    assert not checked.is_complete
    assert [
        f"{Path(found.file).relative_to(tmp_path / 'package_b')}:{found.line}: {found.code.code} {found.message}"
        for found in checked.findings
        if found.code.code == "GN001"
    ] == [
        "deep.py:1: GN001 package_b.deep cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'",
        "leaves.py:2: GN001 package_b.leaves cannot be imported: SystemExit: 3",
        "raises.py:2: GN001 package_b.raises cannot be imported: ValueError: no way",
        "syntax.py:2: GN001 package_b.syntax cannot be imported: SyntaxError: invalid syntax",
        "uses.py:2: GN001 package_b.uses cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'",
        "uses_syntax.py:3: GN001 package_b.uses_syntax cannot be imported: SyntaxError: invalid syntax",
        "within/__init__.py:1: GN001 package_b.within cannot be imported: ZeroDivisionError: division by zero",
    ]
    assert [found.code.code for found in checked.findings].count("GN104") == 1


def test_a_module_that_uses_a_faulty_class_is_reported_twice(tmp_path: Path):
    """For the fault, and as one that cannot be imported."""
    text = BAD.format("Net") + "    def build(self): self.size = 1\nclass Waits(gn.Node):\n    end: 'End'\n"
    text += "try:\n    Net(1)\nexcept TypeError:\n    pass\nNet(2)\n"
    write_files(tmp_path, {"using.py": text})
    checked = check_and_forget(str(tmp_path / "using.py"))
    assert [(found.line, found.code.code) for found in checked.findings] == [(5, "GN104"), (13, "GN001")]


def test_a_script_never_takes_the_name_of_another_module(tmp_path: Path):
    """Who imports that one later shall get it."""
    write_files(tmp_path, {"turtle.py": "assert __name__ != 'turtle'", "fails.py": "1 / 0"})
    checked = check(str(tmp_path / "turtle.py"), str(tmp_path / "fails.py"))
    assert [Path(found.file).name for found in checked.findings] == ["fails.py"]
    assert "turtle" not in sys.modules
    assert "fails" not in sys.modules


def test_a_module_that_hides_another_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file whose name in its package is taken by another file was not looked at."""
    write_files(tmp_path, {"json/__init__.py": "", "json/nets.py": ""})
    monkeypatch.chdir(tmp_path)
    checked = check_and_forget("json/__init__.py")
    (found,) = checked.findings
    assert found.file == str(tmp_path / "json/__init__.py")
    assert found.message.startswith("json cannot be imported: ImportError: json is imported from ")


def test_a_name_below_a_package_that_is_not_there_is_reported(tree: Path):
    """It is only known after the import of the package."""
    checked = check_and_forget("package_a.nowhere")
    (found,) = checked.findings
    assert (found.file, found.message) == (
        "package_a.nowhere",
        "package_a.nowhere cannot be imported: ModuleNotFoundError: No module named 'package_a.nowhere'",
    )


def test_a_namespace_package_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its directory has no `__init__`, and its files have relative imports: a dotted name says what is meant."""
    write_files(tmp_path, {"space/one.py": BAD.format("One"), "space/two.py": "from .one import One"})
    monkeypatch.chdir(tmp_path)
    checked = check_and_forget("space.one", "space.two")
    assert (classes(checked), checked.is_complete) == (["One"], True)
