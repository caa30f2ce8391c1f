"""All passes over all classes of some modules."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .._class_faults import collecting_faults, is_refused
from .._declare._node import Node
from .._declare._schema import Schema, schema
from .._fields import NodeBase
from .._source import Sources
from .._state import State
from ._codes import IMPORT_FAILED
from ._declared import (
    axis_findings,
    contract_findings,
    default_findings,
    fault_findings,
    faults_of,
)
from ._findings import CheckedClass, Finding, subclasses_of
from ._methods import mixin_findings, unassigned_findings, undeclared_findings
from ._modules import Imported, importing


class Checked(NamedTuple):
    """The result of a check.

    Attributes:
        findings: What is wrong, in the order of files, lines and columns.
        classes: How many classes of nodes and States were looked at.
        is_complete: Whether all modules could be imported.
    """

    findings: Sequence[Finding]
    classes: int
    is_complete: bool


def check(*targets: str, strict: bool = False) -> Checked:
    """Import modules, compile the schema of every class in them, and list what is wrong.

    A class with faults does not stop the import of its module: it raises its
    `SchemaError` where it is used.

    Args:
        *targets: Dotted names of modules, directories and Python files; of a package,
            all submodules are checked.
        strict: Whether to look also for what is only missing: contracts of States.

    Raises:
        TargetError: A target is not a module, directory or Python file.

    Example:
        >>> from graphnode.check import check
        >>> check("graphnode.nn").findings
        []
    """
    # Before the import: what was there already is not among the classes that it
    # defines.
    loaded = set(sys.modules)
    with collecting_faults() as defined, importing(targets) as imported:
        # Beside what was defined just now, what had been imported before. Not the
        # remains of a module that has been imported anew: its classes live until they
        # are collected.
        alive = [
            cls
            for base in (Node, State)
            for cls in subclasses_of(base)
            if cls.__module__ in loaded
        ]
        classes = list(dict.fromkeys([*defined, *alive]))
        return check_classes(classes, imported, strict=strict)


def check_classes(
    classes: Sequence[type[Any]], imported: Imported, *, strict: bool
) -> Checked:
    """Run all passes over those of some classes that imported modules define."""
    files = imported.files | {module.name: module.file for module in imported.broken}
    sources = Sources(files)
    checked: list[CheckedClass] = []
    for cls in classes:
        module = cls.__module__
        # Of a module that broke off, a class may refer to what was to follow. A fault
        # that was found when the class was defined is often what broke it.
        if module in imported.files or (module in files and is_refused(cls)):
            checked.append(CheckedClass(cls, files[module], sources.of_class(cls)))
    broken = [
        Finding(module.file, module.line, 1, IMPORT_FAILED, module.message)
        for module in imported.broken
    ]
    # A set: several classes may find the same in one mixin.
    findings = {*broken, *_findings(checked, sources, imported.files, strict)}
    return Checked(sorted(findings, key=_order), len(checked), not broken)


def _order(finding: Finding) -> tuple[str, int, int, str, str]:
    """The sort key of a finding, so that reports have one order: by file and place; a code itself has none."""
    file, line, column, code, message = finding
    return file, line, column, code.code, message


def _findings(
    checked: Sequence[CheckedClass],
    sources: Sources,
    files: Mapping[str, str],
    strict: bool,
) -> Iterator[Finding]:
    """What all passes find in the classes, in no order: the caller sorts.

    Args:
        checked: The classes under check.
        sources: Where their methods are read.
        files: The files of the imported modules, by name.
        strict: Whether to look also for what is only missing.
    """
    faults = {item.cls: faults_of(item.cls) for item in checked}
    schemas: dict[type[Any], Schema[Any]] = {}
    for item in checked:
        cls = item.cls
        yield from fault_findings(item, faults)
        if not issubclass(cls, NodeBase) or cls.__module__ not in sys.modules:
            continue
        yield from undeclared_findings(item)
        yield from mixin_findings(item, sources, files)
        # These passes ask the schema, which a class with faults does not have.
        if not faults[cls]:
            compiled = schemas[cls] = schema(cls)
            yield from default_findings(item, compiled)
            yield from axis_findings(item, compiled, strict=strict)
            if strict:
                yield from contract_findings(item, compiled)
    # Last: whether a field is reported on a class depends on its subclasses.
    yield from unassigned_findings(checked, schemas, sources)
