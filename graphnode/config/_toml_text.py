"""Configs as TOML: tables in tables, by tomli-w.

TOML has no null. It needs no anchors: a config that is shared has an `id`, as in the
other formats.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from .._errors import ConfigError
from .._nesting import is_container, items
from ._config import Config


def toml_lines(
    root: Config[Any], nodes: Mapping[int, Mapping[str, Any]]
) -> Iterator[str]:
    """The lines of a config as TOML, from the data of each config by its id, for `dump`.

    Raises:
        ConfigError: It is nested more deeply than tomli-w goes.
    """
    try:
        text = tomli_w.dumps(_nested(root, nodes))
    except RecursionError:
        raise ConfigError(
            ["nested too deeply for TOML: write YAML (format='yaml')"]
        ) from None
    return iter(text.rstrip("\n").split("\n"))


def _nested(root: Config[Any], nodes: Mapping[int, Mapping[str, Any]]) -> Any:
    """Plain mappings and lists for tomli-w, in which each config stands once, and is a `ref` elsewhere.

    Nothing recurses, however deep they are.
    """
    result: list[Any] = [None]
    written: set[int] = set()
    todo: list[tuple[Any, Any, Any]] = [(result, 0, root)]
    while todo:
        holder, key, value = todo.pop()
        if isinstance(value, Config) and id(value) in written:
            value = {"ref": nodes[id(value)]["id"]}
        elif isinstance(value, Config):
            written.add(id(value))
            value = nodes[id(value)]
        if not is_container(value):
            holder[key] = value
            continue
        container: Any = {} if isinstance(value, dict) else [None] * len(value)
        holder[key] = container
        # Reversed, as the last one is taken first: the first place of a config is where
        # it stands in full.
        pairs = list(items(value, as_written=True))
        todo += [(container, inner, child) for inner, child in reversed(pairs)]
    return result[0]
