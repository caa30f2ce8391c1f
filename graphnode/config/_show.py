"""Configurations with the places in their files: where each value comes from, and what no constructor takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .._declare._node import Node
from .._errors import by_place
from .._paths import Path as Path_
from ._build import constructor_faults
from ._by_path import change_path, flat, row_text, say_the_same
from ._config import Config
from ._defaults import opened_like
from ._graph import visits
from ._node_data import differs_from_default
from ._override import changed
from ._read import Files, check_no_faults
from ._walk import Walk, walk

M = TypeVar("M", bound=Node)


class Shown(NamedTuple):
    """One value: its path, what it is, and where that was said."""

    path: str
    value: str
    origin: str


def load_shown(path: Path, cls: type[M], changes: Sequence[str] = ()) -> list[Shown]:
    """The values of a file, in the order of their paths; changes are said by the command line.

    Raises:
        ConfigError: All faults of the file, or of the changes.
    """
    files = Files()
    document = files.read_file(path)
    made, passed = walk(files, document, cls)
    origins: dict[Path_, str] = {
        (*visit.path, name): _origin(passed, visit.config, name)
        # As `flat` goes, so that shared nodes have the same paths
        for visit in visits(made, declared=True)
        for name in ("type", *type(visit.config).model_fields)
    }
    after_changes, replaced = changed(made, changes)
    defaults = _default_paths(after_changes) if replaced else frozenset[Path_]()
    # A change within a default of the class shows what else that is, too.
    before, after = flat(opened_like(made, after_changes)[0]), flat(after_changes)
    rows: list[Shown] = []
    for where, value in after.items():
        known = [
            where[:length]
            for length in range(len(where), 0, -1)
            if where[:length] in origins
        ]
        origin = origins[known[0]] if known else ""
        if where not in before or not say_the_same(before[where], value):
            origin = "command line"
        elif any(where[: len(path)] == path for path in replaced):
            # What the file says there is said of nodes that are gone.
            origin = "default" if where in defaults else "command line"
        rows.append(Shown(change_path(where), row_text(value), origin))
    return rows


def _default_paths(root: Config[Any]) -> frozenset[Path_]:
    """The fields that have their default."""
    return frozenset(
        (*visit.path, name)
        for visit in visits(root, declared=True)
        for name in type(visit.config).model_fields
        if not differs_from_default(visit.config, name)
    )


def load_checked(path: Path, cls: type[M]) -> Config[M]:
    """The config of a file whose nodes can be made: what their constructors refuse has a place in the file, too.

    Raises:
        ConfigError: All faults of the file; where it has none, those of the
            constructors.
    """
    files = Files()
    made, passed = walk(files, files.read_file(path), cls)
    faults = [
        passed.fault_of(visit.config, text) for visit, text in constructor_faults(made)
    ]
    check_no_faults(sorted(faults, key=by_place))
    return made


def _origin(passed: Walk, config: Config[Any], name: str) -> str:
    item = passed.origins.get(id(config))
    if item is None:
        return ""
    if name in item.raw:
        return str(passed.files.place(item.document, item.raw, name))
    if name == "type":
        return "the class that the field declares"
    return "default" if not differs_from_default(config, name) else ""
