"""Configs as text with indents and brackets: YAML, and JSON.

Nothing recurses but into static values, which are as deep as somebody wrote them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import yaml

from .._nesting import children, is_container, items
from ._config import Config
from ._node_data import NodeData
from ._yaml import SCALARS

# Deeper levels stand on one line: what they are indented by would be the square of the
# depth.
_MAX_INDENT: Final = 40

# Words that need no quotes, with one blank between them.
_PLAIN: Final = re.compile(r"[A-Za-z_][\w./+-]*( [\w./+-]+)*")
_NO_STRING: Final = re.compile("|".join(f"(?:{pattern})" for _, pattern, _ in SCALARS))


class _Line(NamedTuple):
    """A value that is still to be written: what stands before it, and how far it is indented."""

    head: str
    value: Any
    depth: int


class _Written:
    """Configs that stand in the text already, and are references from then on."""

    def __init__(self, nodes: Mapping[int, NodeData]) -> None:
        self._nodes = nodes
        self._ids: set[int] = set()

    def opened(self, value: Any) -> tuple[Any, bool]:
        """What is written for a value, of a config its data or a `ref`; and whether its items have own lines."""
        if not isinstance(value, Config):
            return value, holds_configs(value)
        data = self._nodes[id(value)]
        if id(value) in self._ids:
            return {"ref": data["id"]}, False
        self._ids.add(id(value))
        return data, True


def yaml_lines(root: Config[Any], nodes: Mapping[int, NodeData]) -> Iterator[str]:
    """A graph of configs as YAML, for `dump`: in block style, down to what holds no configs."""
    written = _Written(nodes)
    todo = [_Line("", root, 0)]
    while todo:
        head, value, depth = todo.pop()
        indent = "  " * depth
        if depth == _MAX_INDENT:
            brackets = _bracket_lines(value, written, flow)
            yield f"{indent}{head}{' '.join(line.strip() for line in brackets)}"
            continue
        value, has_lines = written.opened(value)
        if not has_lines:
            yield f"{indent}{head}{flow(value)}"
            continue
        inner = depth + 1 if head else depth
        first, *others = [
            _Line(text, item, inner) for text, item in _entries(value, "- ", scalar)
        ]
        todo += reversed(others)
        # A mapping in a list begins on the line of its dash: `- type: Linear`.
        if head == "- " and not _is_block(first.value):
            yield f"{indent}- {first.head}{flow(first.value)}"
            continue
        if head:
            yield f"{indent}{head.rstrip()}"
        todo.append(first)


def _is_block(value: Any) -> bool:
    """Whether a value has lines of its own in YAML: a config, or a container with one in it."""
    return isinstance(value, Config) or holds_configs(value)


def _entries(
    container: Any, dash: str, text_of: Callable[[Any], str]
) -> list[tuple[str, Any]]:
    """The items of a container, each with what stands before it on its line: its key, or `dash` in a list."""
    pairs = items(container, as_written=True)
    if isinstance(container, dict):
        return [(f"{text_of(key)}: ", item) for key, item in pairs]
    return [(dash, item) for _, item in pairs]


def holds_configs(value: Any) -> bool:
    """Whether a value is a container with a config in it, at any depth.

    Such a container is taken apart where a file or a `diff` is written; any other
    stands on one line.
    """
    if not is_container(value):
        return False
    return any(_is_block(child) for child in children(value, as_written=True))


def json_lines(root: Config[Any], nodes: Mapping[int, NodeData]) -> Iterator[str]:
    """A graph of configs as JSON, for `dump`: indented down to what holds no configs."""
    return _bracket_lines(root, _Written(nodes), json.dumps)


class _Close(NamedTuple):
    """The end of a container, which is written after its items."""

    bracket: str


def _bracket_lines(
    root: Any, written: _Written, text_of: Callable[[Any], str]
) -> Iterator[str]:
    """Text with brackets, indented by two: JSON, or YAML in its flow style, as `text_of` writes what is plain."""
    todo: list[tuple[_Line, str]] = [(_Line("", root, 0), "")]
    while todo:
        (head, value, depth), tail = todo.pop()
        indent = "  " * min(depth, _MAX_INDENT)
        if isinstance(value, _Close):
            yield f"{indent}{value.bracket}{tail}"
            continue
        value, has_lines = written.opened(value)
        if not has_lines:
            yield f"{indent}{head}{text_of(value)}{tail}"
            continue
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        yield f"{indent}{head}{opening}"
        todo.append((_Line("", _Close(closing), depth), tail))
        lines = [
            (_Line(text, item, depth + 1), ",")
            for text, item in _entries(value, "", text_of)
        ]
        lines[-1] = lines[-1][0], ""  # no comma after the last item
        todo += reversed(lines)


def scalar(value: Any) -> str:
    """One value as YAML 1.2, in quotes where readers of YAML 1.1 would take it for another."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        # Without a point, readers of YAML 1.1 take it for a text
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)
    if isinstance(value, int):
        return str(value)
    is_like_another = _NO_STRING.fullmatch(value) or _is_otherwise(value)
    if _PLAIN.fullmatch(value) and not is_like_another:
        return str(value)
    return f'"{"".join(map(_escaped, value))}"'


def _is_otherwise(text: str) -> bool:
    """Whether readers of YAML 1.1 take a text without quotes for something else, as `no` and `on` for booleans."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    return any(pattern.match(text) for _, pattern in resolvers)


def _escaped(character: str) -> str:
    """A character in a string with double quotes: YAML has JSON's escapes, but no pairs of surrogates."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def flow(value: Any) -> str:
    """Plain data in YAML's flow style, on one line: in files and in messages."""
    if not is_container(value):
        return scalar(value)
    if not isinstance(value, dict):
        return f"[{', '.join(map(flow, children(value)))}]"
    pairs = items(value, as_written=True)
    entries = [f"{scalar(key)}: {flow(item)}" for key, item in pairs]
    return f"{{{', '.join(entries)}}}"
