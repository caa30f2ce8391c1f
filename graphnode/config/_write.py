"""Configs into files: `gn.config.dump`, which reads back what it writes before it gives it away."""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import pydantic

from .._arguments import wrong_argument
from .._declare._node import Node
from .._describe import describe
from .._errors import ConfigError, Fault
from .._hints import with_hint
from .._nesting import leaves
from .._paths import path_str
from .._redefinition import distinct_class_name
from ._by_path import reordered
from ._config import Config, check_config, field_value, same_static
from ._formats import BY_SUFFIX, FORMATS
from ._graph import Visit, visits
from ._load import loads
from ._node_data import NodeData, differs_from_default, node_data
from ._streams import is_streams
from ._yaml_text import scalar


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
        format: `yaml`, `json` or `toml`; by default that of the file's suffix, else
            `yaml`.

    Returns:
        The text.

    Raises:
        ConfigError: A static value that no file can hold, such as a function without a
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
    name = format or _format_of(path)
    lines = FORMATS[name].lines if name in FORMATS else None
    if lines is None:
        writable = [other for other, format in FORMATS.items() if format.lines]
        raise ValueError(
            f"format: expected one of {', '.join(writable)}; found {name!r}"
        )
    order = visits(config, declared=True, as_written=True)
    nodes = node_data(order, defaults=defaults)
    if name == "toml":
        for visit in order:
            data = nodes[id(visit.config)]
            nodes[id(visit.config)] = _without_nulls(visit.config, data)
    # Before the text, as its message is better than that of what is read back.
    _check_format(order, nodes, name)
    text = "\n".join(lines(config, nodes))
    # The one check that no way of writing can slip through. A file comes after it, so
    # that a wrong one is never written.
    _check_reads_back(config, text, name)
    if path is not None:
        Path(path).write_text(text + "\n", encoding="utf-8")
    return text


def _without_nulls(config: Config[Any], fields: NodeData) -> NodeData:
    """The data of a config for TOML, which has no null: each is left out where it is the default, also of records."""
    if is_streams(config.node_class):
        return fields  # the names of streams are not fields, and none is null
    data: NodeData = {}
    for name, value in fields.items():
        is_field = name in type(config).model_fields
        if is_field and value is None and not differs_from_default(config, name):
            continue
        data[name] = value
        if is_field and name not in config.slots:
            # In a record a null that is left out may stand for another default: it stays
            # then, and `_check_format` reports it.
            without_nulls = _pruned(value)
            if _reads_as(config, name, without_nulls):
                data[name] = without_nulls
    return data


def _pruned(data: Any) -> Any:
    """Plain data without the nulls in its mappings, for TOML; `_reads_as` tells whether it means the same."""
    if isinstance(data, dict):
        return {key: _pruned(item) for key, item in data.items() if item is not None}
    return [_pruned(item) for item in data] if isinstance(data, list) else data


def _reads_as(config: Config[Any], name: str, data: Any) -> bool:
    """Whether data for a static field of a config is read as what stands there, and so may be written."""
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
    faults: list[Fault] = []
    try:
        again = loads(text, cast("type[Node]", config.node_class), format=format)
    except ConfigError as error:
        for fault in error.faults:
            what = f"{with_hint(fault.what, fault.hint)}; it would not load again"
            faults.append(Fault(what, path=fault.path))
        raise ConfigError(faults) from None
    if again == config:
        return
    # Equal up to here is the rule, so that only now each difference is looked for.
    order = visits(config, declared=True, as_written=True)
    order_again = visits(again, declared=True, as_written=True)
    for visit, other in zip(order, order_again, strict=False):
        faults += _unlike(visit, other)
    for path, left, right in reordered(config, again):
        what = f"{format.upper()} would give {right} in place of {left}: write YAML (format='yaml'), which keeps it"
        faults.append(Fault(what, path=path_str(path)))
    raise ConfigError(faults or ["what would be written is read back as another model"])


def _unlike(visit: Visit, other: Visit) -> Iterator[Fault]:
    """What differs between a config and the one that was read back in its place: the faults of `_check_reads_back`."""
    cls, other_cls = visit.config.node_class, other.config.node_class
    if cls is not other_cls:
        what = f"no file says {distinct_class_name(cls, other_cls)}, which would be read back as {other_cls.__name__}"
        yield Fault(what, path=visit.name)
        return
    for name, value in visit.config.__dict__.items():
        other_value = other.config.__dict__[name]
        if name not in visit.config.slots and not same_static(value, other_value):
            what = f"no file says {describe(value)}, which would be read back as {describe(other_value)}"
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
            lacking = [leaf for _, leaf in leaves(value) if FORMATS[format].lacks(leaf)]
            if lacking:
                values = ", ".join(dict.fromkeys(map(scalar, lacking)))
                what = f"{format.upper()} has no {values}: write YAML (format='yaml'), which has it"
                faults.append(Fault(what, path=path_str((*visit.path, name))))
    if faults:
        raise ConfigError(faults)


def _format_of(path: str | Path | None) -> str:
    """The format that `dump` writes if it is not told: that of the suffix of the file; YAML for others."""
    suffix = "" if path is None else Path(path).suffix.lower()
    return BY_SUFFIX.get(suffix, "yaml")
