"""Values of a configuration with the places in its files: where each comes from, and which a constructor refuses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .._declare._node import Node
from .._errors import Fault, by_place
from .._paths import Path as Path_
from ._build import constructor_faults
from ._by_path import change_path, flat, row_text, same_row
from ._config import Config
from ._defaults import opened_like
from ._graph import visits
from ._node_data import differs_from_default
from ._override import changed
from ._read import Files, check_no_faults
from ._walk import Walk, walk

M = TypeVar("M", bound=Node)


class ValueRow(NamedTuple):
    """One value: its path, its text, and where it comes from."""

    path: str
    value: str
    origin: str


def value_rows(path: Path, cls: type[M], changes: Sequence[str] = ()) -> list[ValueRow]:
    """The values of a file, in the order of their paths; `changes` are those of a command line.

    Raises:
        ConfigError: All faults of the file, or of the changes.
    """
    files = Files()
    config, walker = walk(files, files.read_file(path), cls)
    origins = _origins(config, walker)
    changed_config, replaced = changed(config, changes)
    defaults = _default_paths(changed_config) if replaced else frozenset[Path_]()
    # A change within a default of the class shows what else that is, too.
    before = flat(opened_like(config, changed_config)[0])
    rows: list[ValueRow] = []
    for keys, value in flat(changed_config).items():
        if keys not in before or not same_row(before[keys], value):
            origin = "command line"
        elif any(keys[: len(start)] == start for start in replaced):
            # What the file has there is of nodes that are gone.
            origin = "default" if keys in defaults else "command line"
        else:
            origin = _nearest(origins, keys)
        rows.append(ValueRow(change_path(keys), row_text(value), origin))
    return rows


def _origins(root: Config[Any], walker: Walk) -> dict[Path_, str]:
    """Where each field of each node comes from, as `config show` prints it beside the value, by path."""
    origins: dict[Path_, str] = {}
    # In the order of `flat`, so that shared nodes have the same paths.
    for visit in visits(root, declared=True):
        for name in ("type", *type(visit.config).model_fields):
            origins[*visit.path, name] = _origin(walker, visit.config, name)
    return origins


def _nearest(origins: Mapping[Path_, str], keys: Path_) -> str:
    """Where a value comes from, by its path: its own origin, or that of what it is part of."""
    for length in range(len(keys), 0, -1):
        if keys[:length] in origins:
            return origins[keys[:length]]
    return ""


def _default_paths(root: Config[Any]) -> frozenset[Path_]:
    """The paths of the fields that have their default: `config show` says so of them."""
    return frozenset(
        (*visit.path, name)
        for visit in visits(root, declared=True)
        for name in type(visit.config).model_fields
        if not differs_from_default(visit.config, name)
    )


def load_checked(path: Path, cls: type[M]) -> Config[M]:
    """The config of a file whose nodes can be made: what their constructors refuse has a place in the file, too.

    For `graphnode config check`.

    Raises:
        ConfigError: All faults of the file; where it has none, those of the
            constructors.
    """
    files = Files()
    config, walker = walk(files, files.read_file(path), cls)
    faults: list[Fault] = []
    for visit, what in constructor_faults(config):
        faults.append(walker.fault_of(visit.config, what))
    check_no_faults(sorted(faults, key=by_place))
    return config


def _origin(walker: Walk, config: Config[Any], name: str) -> str:
    """Where a field of a config, or its `type`, comes from: its place in a file, or words for a default."""
    item = walker.origins.get(id(config))
    # A config that stands in no file.
    if item is None:
        return ""
    if name in item.raw:
        return str(walker.files.place(item.document, item.raw, name))
    if name == "type":
        return "the class that the field declares"
    return "default" if not differs_from_default(config, name) else ""
