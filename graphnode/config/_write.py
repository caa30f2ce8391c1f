"""Configs into files: `gn.config.dump`, which reads back what it writes before it gives it away."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, cast

import pydantic

from .._arguments import wrong_argument
from .._containers import leaves
from .._declare._node import Node
from .._describe import describe
from .._errors import ConfigError, Fault
from .._hints import with_hint
from .._paths import path_str
from .._redefinition import distinct_class_name
from ._by_path import reordered
from ._config import Config, check_config, field_value, same_static
from ._graph import Visit, visits
from ._load import loads
from ._node_data import NodeData, differs_from_default, node_data
from ._streams import is_streams
from ._toml_text import toml_lines
from ._yaml_text import json_lines, scalar, yaml_lines


def dump(
    config: Config[Any],
    path: str | Path | None = None,
    /,
    *,
    defaults: bool = False,
    format: Literal["yaml", "json", "toml"] | None = None,
) -> str:
    """Write a config as YAML, JSON or TOML. `load` reads it back.

    Args:
        config: What to write. A config that is referred to several times has an `id`,
            and the other places a `ref`.
        path: A file to write to, as well.
        defaults: Whether to write fields that have their default.
        format: `yaml`, `json` or `toml`; by default what the file's suffix says, else
            `yaml`.

    Returns:
        The text.

    Raises:
        ConfigError: A static value that no file can say, such as a function without a
            registered name; that the format has not, such as an infinity in JSON and
            null in TOML; or that would be read back as another. Names all. Nothing was
            written.
        ValueError: `format` is unknown.

    Example:
        >>> config = gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3, use_bias=False)
        >>> print(gn.config.dump(config))
        type: Linear
        in_size: 2
        out_size: 3
        use_bias: false
    """
    check_config(config)
    if path is not None and not isinstance(path, (str, PathLike)):
        raise TypeError(wrong_argument("a path second", path))
    chosen = format or _format_of(path)
    if chosen not in _FORMATS:
        raise ValueError(
            f"format: expected one of {', '.join(_FORMATS)}; found {chosen!r}"
        )
    order = visits(config, declared=True, as_written=True)
    nodes = node_data(order, defaults=defaults)
    if chosen == "toml":
        nodes = {
            id(visit.config): _without_nulls(visit.config, nodes[id(visit.config)])
            for visit in order
        }
    _check_format(order, nodes, chosen)
    text = "\n".join(_FORMATS[chosen](config, nodes))
    _check_reads_back(config, text, chosen)
    if path is not None:
        Path(path).write_text(text + "\n", encoding="utf-8")
    return text


def _without_nulls(config: Config[Any], fields: NodeData) -> NodeData:
    """What TOML, which has no null, says of a config: null is left out where it is the default, also of records."""
    if is_streams(config.node_class):
        return fields  # the names of streams are no fields, and none is null
    data: NodeData = {}
    for name, value in fields.items():
        is_field = name in type(config).model_fields
        if is_field and value is None and not differs_from_default(config, name):
            continue
        data[name] = value
        if is_field and name not in config.slots:
            without_nulls = _pruned(value)
            if _reads_as(config, name, without_nulls):
                data[name] = without_nulls
    return data


def _pruned(data: Any) -> Any:
    """Plain data whose mappings have no null."""
    if isinstance(data, dict):
        return {key: _pruned(item) for key, item in data.items() if item is not None}
    return [_pruned(item) for item in data] if isinstance(data, list) else data


def _reads_as(config: Config[Any], name: str, data: Any) -> bool:
    """Whether data for a static field of a config is read as what stands there."""
    try:
        return same_static(field_value(config, name, data), config.__dict__[name])
    except pydantic.ValidationError:
        return False


def _check_reads_back(config: Config[Any], text: str, format: str) -> None:
    """Raise if a text does not load as the config that it was made of.

    Raises:
        ConfigError: Names all that would be read back otherwise, or what could not be
            read.
    """
    try:
        again = loads(text, cast("type[Node]", config.node_class), format=format)
    except ConfigError as error:
        faults = [
            Fault(
                f"{with_hint(fault.what, fault.hint)}; it would not load again",
                path=fault.path,
            )
            for fault in error.faults
        ]
        raise ConfigError(faults) from None
    if again == config:
        return
    order, order_again = [
        visits(one, declared=True, as_written=True) for one in (config, again)
    ]
    faults = [
        fault
        for pair in zip(order, order_again, strict=False)
        for fault in _unlike(*pair)
    ]
    for path, left, right in reordered(config, again):
        what = f"{format.upper()} would give {right} in place of {left}: write YAML (format='yaml'), which keeps it"
        faults.append(Fault(what, path=path_str(path)))
    raise ConfigError(faults or ["what would be written is read back as another model"])


def _unlike(visit: Visit, other: Visit) -> Iterator[Fault]:
    """What of a config would be read back otherwise."""
    cls, found = visit.config.node_class, other.config.node_class
    if cls is not found:
        what = f"no file says {distinct_class_name(cls, found)}, which would be read back as {found.__name__}"
        yield Fault(what, path=visit.name)
        return
    for name, value in visit.config.__dict__.items():
        theirs = other.config.__dict__[name]
        if name not in visit.config.slots and not same_static(value, theirs):
            what = f"no file says {describe(value)}, which would be read back as {describe(theirs)}"
            yield Fault(what, path=path_str((*visit.path, name)))


def _check_format(
    order: Sequence[Visit], nodes: dict[int, NodeData], format: str
) -> None:
    """Raise for values that YAML has and another format has not, and for keys that mean something else in a file.

    Raises:
        ConfigError: Names all.
    """
    faults: list[Fault] = []
    for visit in order:
        if "include" in visit.path:
            what = "files use the key 'include' otherwise"
            faults.append(Fault(what, path=visit.name, hint="choose another"))
        for name, value in nodes[id(visit.config)].items():
            lacking = [
                scalar(leaf) for _, leaf in leaves(value) if _lacks(format, leaf)
            ]
            if lacking:
                values = ", ".join(dict.fromkeys(lacking))
                what = f"{format.upper()} has no {values}: write YAML (format='yaml'), which has it"
                faults.append(Fault(what, path=path_str((*visit.path, name))))
    if faults:
        raise ConfigError(faults)


def _lacks(format: str, value: object) -> bool:
    if format == "json":
        return isinstance(value, float) and not math.isfinite(value)
    return format == "toml" and value is None


_FORMATS: Final[
    Mapping[str, Callable[[Config[Any], dict[int, NodeData]], Iterable[str]]]
] = {
    "yaml": yaml_lines,
    "json": json_lines,
    "toml": toml_lines,
}


def _format_of(path: str | Path | None) -> str:
    """The format that the suffix of a file says; YAML for others."""
    suffix = "" if path is None else Path(path).suffix.lower().removeprefix(".")
    return suffix if suffix in _FORMATS else "yaml"
