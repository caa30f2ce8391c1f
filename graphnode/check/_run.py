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
    """What a check came to.

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
    known = set(sys.modules)
    with collecting_faults() as defined, importing(targets) as imported:
        # Beside what was defined just now, what had been imported before. Not the
        # remains of a module that has been imported anew: its classes live until they
        # are collected.
        alive = [
            cls
            for base in (Node, State)
            for cls in subclasses_of(base)
            if cls.__module__ in known
        ]
        return check_classes(
            list(dict.fromkeys([*defined, *alive])), imported, strict=strict
        )


def check_classes(
    classes: Sequence[type[Any]], imported: Imported, *, strict: bool
) -> Checked:
    """Run all passes over those of some classes that imported modules define."""
    files = imported.files | {one.name: one.file for one in imported.broken}
    sources = Sources(files)
    checked = [
        CheckedClass(cls, files[cls.__module__], sources.of_class(cls))
        for cls in classes
        if cls.__module__ in files
    ]
    # The rest of a broken module is not there, and its classes may wait for that: what
    # is known to be wrong with them is often what broke it.
    checked = [
        one
        for one in checked
        if one.cls.__module__ in imported.files or is_refused(one.cls)
    ]
    broken = [
        Finding(one.file, one.line, 1, IMPORT_FAILED, one.message)
        for one in imported.broken
    ]
    found = sorted(
        {*broken, *_findings(checked, sources, imported.files, strict)},
        key=lambda one: (one[:3], one.code.code, one[4]),
    )
    return Checked(found, len(checked), not broken)


def _findings(
    checked: Sequence[CheckedClass],
    sources: Sources,
    files: Mapping[str, str],
    strict: bool,
) -> Iterator[Finding]:
    faults = {one.cls: faults_of(one.cls) for one in checked}
    schemas: dict[type[Any], Schema[Any]] = {}
    for one in checked:
        yield from fault_findings(one, faults)
        if not issubclass(one.cls, NodeBase) or one.cls.__module__ not in sys.modules:
            continue
        yield from undeclared_findings(one)
        yield from mixin_findings(one, sources, files)
        if not faults[one.cls]:
            compiled = schemas[one.cls] = schema(one.cls)
            yield from default_findings(one, compiled)
            yield from axis_findings(one, compiled, strict=strict)
            if strict:
                yield from contract_findings(one, compiled)
    yield from unassigned_findings(checked, schemas, sources)
