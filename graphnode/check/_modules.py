"""From what a user names, a package, a directory or a file, to imported modules.

What a module prints goes to stderr. A module that cannot be imported hides none of the
others.
"""

import contextlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .._errors import GraphnodeError


class TargetError(GraphnodeError, ValueError):
    """Something was named that is not a module, directory or Python file."""


class Target(NamedTuple):
    """A module to import.

    Attributes:
        name: Its name in `sys.modules`.
        file: Its file; `None` where the import system finds it.
        has_submodules: Whether all below it are imported too, if it is a package.
    """

    name: str
    file: Path | None
    has_submodules: bool


class Broken(NamedTuple):
    """A module that cannot be imported.

    Attributes:
        name: The name it was imported by.
        file: Its file, or its name where it has none.
        line: The line that the import stopped at.
        message: Why.
    """

    name: str
    file: str
    line: int
    message: str


class Imported(NamedTuple):
    """What came of the targets: the files of the modules by their names, and the modules that cannot be imported."""

    files: dict[str, str]
    broken: list[Broken]


@contextlib.contextmanager
def importing(targets: Sequence[str]) -> Generator[Imported]:
    """Import modules; while the block runs, what is beside them is importable as it is for a program.

    Args:
        targets: Dotted names, directories and Python files. A `__main__` module is left
            out, as it may be a program.

    Raises:
        TargetError: One of them is none of these; nothing was imported.
    """
    before = list(sys.path)
    # As `python -m` does: a dotted name is looked for in the working directory first.
    sys.path.insert(0, os.getcwd())
    try:
        resolved = [target for name in targets for target in _targets(name)]
        imported = Imported({}, [])
        with contextlib.redirect_stdout(sys.stderr):
            for target in resolved:
                _import_all(target, imported)
            yield imported
    finally:
        # In place: others may hold the list itself.
        sys.path[:] = before


def _targets(name: str) -> Iterator[Target]:
    """What a user names, as modules to import.

    Raises:
        TargetError: It is not a module, directory or Python file.
    """
    path = Path(name)
    if path.is_dir():
        if _package_name(path.resolve()):
            yield _target_of(path.resolve() / "__init__.py", has_submodules=True)
        else:
            yield from _below(path.resolve())
    elif path.is_file():
        if path.suffix != ".py":
            raise TargetError(f"{name} is not a Python file")
        if path.name != "__main__.py":
            yield _target_of(path.resolve())
    elif name.rpartition(".")[2] == "__main__":
        return
    elif all(part.isidentifier() for part in name.split(".")) and _exists(name):
        yield Target(name, None, has_submodules=True)
    else:
        raise TargetError(
            f"{name} is not a module that can be found, nor a directory or a file"
        )


def _below(directory: Path) -> Iterator[Target]:
    """What to import of a directory that is not a package: the files and packages in it, at any depth."""
    for path in sorted(directory.iterdir()):
        # Hidden directories, and virtual environments, whose packages are not the
        # user's.
        if path.name.startswith(".") or (path / "pyvenv.cfg").exists():
            continue
        if (path / "__init__.py").exists():
            yield _target_of(path / "__init__.py", has_submodules=True)
        elif path.is_dir():
            yield from _below(path)
        elif path.suffix == ".py" and path.name != "__main__.py":
            yield _target_of(path)


def _target_of(file: Path, has_submodules: bool = False) -> Target:
    """A file under the name that a program imports it by, so that no class is made twice; makes its root importable."""
    is_package = file.name == "__init__.py"
    package = _package_name(file.parent)
    name = package if is_package else ".".join(filter(None, [package, file.stem]))
    # The directory above the outermost package.
    root = file.parents[name.count(".") + is_package]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return Target(name, file, has_submodules)


def _package_name(directory: Path) -> str:
    """The dotted name of the package in a directory, by which its modules are imported; empty if it is none."""
    if not (directory / "__init__.py").exists():
        return ""
    return ".".join(filter(None, [_package_name(directory.parent), directory.name]))


def _exists(name: str) -> bool:
    """Whether there may be a module of this dotted name: without its top package, it is a `TargetError`."""
    top = name.partition(".")[0]
    # The top package alone: `find_spec` of a submodule imports what is above it, which
    # may raise.
    return top in sys.modules or importlib.util.find_spec(top) is not None


def _import_all(target: Target, imported: Imported) -> None:
    """Import a module, and all below it if it is a package that is named as a whole."""
    name = _import(target, imported)
    if name is None or not target.has_submodules:
        return
    search_path = getattr(sys.modules[name], "__path__", ())
    for submodule in pkgutil.iter_modules(search_path, f"{name}."):
        # A program would run.
        if not submodule.name.endswith(".__main__"):
            _import_all(Target(submodule.name, None, has_submodules=True), imported)


def _import(target: Target, imported: Imported) -> str | None:
    """Import one module; return its name in `sys.modules`, or `None` where that failed."""
    name, file, _ = target
    try:
        if file is not None and "." not in name and file.name != "__init__.py":
            name = _import_script(name, file)
        else:
            importlib.import_module(name)
            _check_file(name, file)
    # Whatever a module raises is what is wrong with it.
    except (Exception, SystemExit) as error:
        imported.broken.append(_broken(name, file, error))
        return None
    module_file: str | None = getattr(sys.modules[name], "__file__", None)
    imported.files[name] = module_file or name
    return name


def _import_script(name: str, file: Path) -> str:
    """Import a file that is in no package, under its own name if that is free.

    Two files may have one name, and one may have that of a module which others import.
    """
    other = sys.modules.get(name)
    if other is not None and _is_file(other, file):
        return name
    if other is not None or name in sys.stdlib_module_names:
        name = str(file)
        if name in sys.modules:
            return name
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, file
    assert spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    # Before it runs, as the import system does: dataclasses look up the module of a
    # class there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return name


def _check_file(name: str, file: Path | None) -> None:
    """Raise if a module was imported from another file than the one that the user named.

    Raises:
        ImportError: Names the file that hides it.
    """
    module = sys.modules[name]
    if file is not None and not _is_file(module, file):
        raise ImportError(
            f"{name} is imported from {getattr(module, '__file__', None)}, which hides it"
        )


def _is_file(module: object, file: Path) -> bool:
    """Whether a module was loaded from this file, and not from another one of the same name."""
    module_file: str | None = getattr(module, "__file__", None)
    return module_file is not None and Path(module_file).resolve() == file


def _broken(name: str, file: Path | None, error: BaseException) -> Broken:
    """For a finding: where a module stopped, by the last of its own lines that ran, or the one that does not parse."""
    own = str(file) if file is not None else _file_of(name)
    line, reason = 1, str(error)
    if isinstance(error, SyntaxError):
        reason = str(error.msg)  # without the place, which the finding has
        if error.filename == own:
            line = error.lineno or 1
    # The last frame in the module's own file: below it, others run on its behalf.
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == own:
            line = frame.lineno or line
    message = f"{name} cannot be imported: {type(error).__name__}"
    if reason.split():
        message += f": {' '.join(reason.split())}"
    return Broken(name, own, line, message)


def _file_of(name: str) -> str:
    """For a finding: the file of a module whose import failed, or its name."""
    package, _, _ = name.rpartition(".")
    # `find_spec` would import the package, which has failed before.
    if package and package not in sys.modules:
        return name
    spec = importlib.util.find_spec(name)
    return spec.origin if spec is not None and spec.origin is not None else name
