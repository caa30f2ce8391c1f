"""The formats of configuration files: one record for each, of how it is read and written.

suffix ".toml" ──┐
├──> Format ──> reader: text into data and places, in `_read`
format="toml"  ──┘          └──> lines: configs into text, in `_write`
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from .._errors import Fault, Place
from ._config import Config
from ._json import JsonReader
from ._node_data import NodeData
from ._toml import TomlReader
from ._toml_text import toml_lines
from ._yaml import YamlReader
from ._yaml_text import json_lines, yaml_lines


class Reader(Protocol):
    """What reads a text of one format, when it is made.

    Attributes:
        root: The data.
        is_empty: Whether the text has nothing but comments.
        nodes: What `locate` takes of each container, by the container's id.
        faults: What is wrong, with its line; any makes the data useless.
    """

    root: Any
    is_empty: bool
    nodes: dict[int, Any]
    faults: list[Fault]

    def locate(self, node: Any, key: str | int | None, *, of_key: bool) -> Place:
        """Where an item of a container stands (its key, with `of_key`); for `None`, the container."""
        ...


class Format(NamedTuple):
    """One format.

    Attributes:
        suffixes: What the names of its files end with.
        reader: The class of its readers.
        lines: The text of a graph of configs, from the data of each; `None` for a
            format that is only read.
        lacks: Whether it cannot say a value of plain data, such as null.
    """

    suffixes: tuple[str, ...]
    reader: Callable[[str], Reader]
    lines: Callable[[Config[Any], dict[int, NodeData]], Iterable[str]] | None
    lacks: Callable[[object], bool]


def _lacks_nothing(value: object) -> bool:
    """For YAML, which can say every value: `Format.lacks`, by which `dump` refuses what a format cannot say."""
    return False


def _is_not_finite(value: object) -> bool:
    """For JSON, which has no infinity and no NaN (`Format.lacks`)."""
    return isinstance(value, float) and not math.isfinite(value)


def _is_null(value: object) -> bool:
    """For TOML, which has no null (`Format.lacks`)."""
    return value is None


FORMATS: Final[Mapping[str, Format]] = {
    "yaml": Format((".yaml", ".yml"), YamlReader, yaml_lines, _lacks_nothing),
    "json": Format((".json",), JsonReader, json_lines, _is_not_finite),
    "toml": Format((".toml",), TomlReader, toml_lines, _is_null),
}

BY_SUFFIX: Final[Mapping[str, str]] = {
    suffix: name for name, format in FORMATS.items() for suffix in format.suffixes
}
"""The name of the format of each suffix."""
