"""Checking modules that a test writes."""

import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from graphnode.check import Checked, check

PREAMBLE = """\
import functools
from typing import Any, Callable, ClassVar
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import graphnode as gn
"""
LINES = PREAMBLE.count("\n")


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write files, by their paths below a directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        # Python takes bytecode for that of a file of the same size and second.
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)


def check_and_forget(*targets: str, strict: bool = False) -> Checked:
    """`check`, after which the modules are not imported: those of the next test may have the same names.

    What they import of installed packages stays: the parts of a package must not be there twice.
    """
    before = set(sys.modules)
    packages = {name.partition(".")[0] for name in before} | sys.stdlib_module_names
    try:
        return check(*targets, strict=strict)
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] not in packages:
                del sys.modules[name]


def found_in(directory: Path, text: str, *, strict: bool = False) -> list[str]:
    """What is found in a module with usual imports and this text: `line:column: CODE message`, lines from its first."""
    write_files(directory, {"models.py": PREAMBLE + textwrap.dedent(text).lstrip("\n")})
    checked = check_and_forget(str(directory / "models.py"), strict=strict)
    return [f"{one.line - LINES}:{one.column}: {one.code.code} {one.message}" for one in checked.findings]


def codes_in(directory: Path, text: str, *, strict: bool = False) -> list[tuple[int, str]]:
    """The lines and codes of what is found."""
    found = [one.split(maxsplit=2) for one in found_in(directory, text, strict=strict)]
    return [(int(place.partition(":")[0]), code) for place, code, _ in found]
