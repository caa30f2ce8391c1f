"""Single values of a config by path: `enc.width=64`, as a command line gives them."""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import pydantic

from .._arguments import wrong_argument
from .._errors import ConfigError, PathError
from .._node import Node
from .._paths import Key, Path, parse_path, path_str
from ._graph import copied
from ._models import DEFAULT, Config, check_config, form_at
from ._read import Files
from ._registry import near_hint
from ._walk import walk_value

M = TypeVar("M", bound=Node)


def override(config: Config[M], changes: Iterable[str], /) -> Config[M]:
    """A copy of a config with some of its values replaced.

    Args:
        config: It stays as it is.
        changes: Each `path=value`, such as `enc.width=64` or `layers[2].act=relu`; the value is YAML. Where a node
            stands, a mapping such as `{type: Linear, width: 3}` puts another one.

    Raises:
        ConfigError: A path that leads nowhere, or a value that the field does not take; names all.

    Example:
        >>> config = gn.config.config_of(gn.nn.Linear)(in_size=2, out_size=3)
        >>> gn.config.override(config, ["out_size=4"]).out_size, config.out_size
        (4, 3)
    """
    check_config(config)
    if isinstance(changes, str) or not isinstance(changes, Iterable):
        raise TypeError(wrong_argument("a list of changes, each path=value", changes))
    made = copied(config)
    faults: list[str] = []
    for change in changes:
        try:
            _apply(made, change)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return made


def _apply(root: Config[Any], change: str) -> None:
    where, equals, text = change.partition("=")
    if not equals:
        raise ConfigError([f"{change}: a change is path=value"])
    keys = _keys(where.strip())
    holder, key = _find(root, keys, where)
    files = Files()
    document = files.read_text(text, "", ".yaml")
    if files.faults:
        raise ConfigError([f"{change}: {fault.partition(': ')[2]}" for fault in files.faults])
    config, field, inside = _owner(root, keys)
    value = document.root
    if field in config.slots:
        value = walk_value(value, form_at(config.slots[field], inside), path_str(keys))
    if inside:
        holder[key] = value  # of a copy: what is wrong with it is told, and the copy thrown away
        value = config.__dict__[field]
    fault = _assigned(config, field, value)
    if fault is not None:
        raise ConfigError([f"{path_str(keys)}: {fault}"])


def _assigned(config: Config[Any], field: str, value: Any) -> str | None:
    """Assign a value; what is wrong with it, or `None`."""
    try:
        setattr(config, field, value)
    except pydantic.ValidationError as error:
        return "; ".join(dict.fromkeys(str(one["msg"]) for one in error.errors(include_url=False)))
    return None


def _keys(where: str) -> Path:
    try:
        return parse_path(re.sub(r"\[(\d+)\]", r".\1", where))
    except PathError as error:
        raise ConfigError([f"{where}: {error}"]) from None


def _owner(root: Config[Any], keys: Path) -> tuple[Config[Any], str, Path]:
    """The last config on a way, its field, and the keys within that."""
    config, at = root, 0
    value: Any = root
    for number, key in enumerate(keys):
        if isinstance(value, Config):
            config, at = value, number
        value = _step(value, key) if number < len(keys) - 1 else value
    return config, str(keys[at]), keys[at + 1 :]


def _find(root: Config[Any], keys: Path, where: str) -> tuple[Any, Key]:
    """What holds the value at the end of a way, and the last key.

    Raises:
        ConfigError: It leads nowhere.
    """
    value: Any = root
    for number, key in enumerate(keys):
        fault = _lost(value, key)
        if fault is not None:
            raise ConfigError([f"{path_str(keys[:number]) or type(root).node_class.__name__}: {fault}"])
        if number < len(keys) - 1:
            value = _step(value, key)
    return value, keys[-1]


def _step(value: Any, key: Key) -> Any:
    holder: Any = value.__dict__ if isinstance(value, Config) else value
    return holder[key]


def _lost(value: Any, key: Key) -> str | None:
    """Why a key leads nowhere, or `None`."""
    if isinstance(value, Config):
        fields = type(value).model_fields
        if key not in fields:
            return f"{value.node_class.__name__} has no field {key!r}{near_hint(key, fields)}"
        return None
    if isinstance(value, list):
        return None if isinstance(key, int) and key < len(value) else f"no item {key!r} in a list of {len(value)}"
    if isinstance(value, dict):
        return None if isinstance(key, str) else f"no key {key!r}"
    shown = "the default of the class" if value is DEFAULT else "null" if value is None else type(value).__name__
    return f"{shown} has nothing inside"
