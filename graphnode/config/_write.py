"""Configs as text, and what differs between two: the way back from configs to files.

Data in: a graph of configs. Data out: YAML, JSON or TOML in which a shared config has
an `id` and the other places a `ref`; or the differences by path. Nothing recurses but
into static values, which are as deep as somebody wrote them.
"""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

import pydantic
import yaml

from .._arguments import wrong_argument
from .._containers import children, is_container, items, leaves
from .._declare._node import Node
from .._describe import describe
from .._errors import ConfigError
from .._paths import Key, key_str, path_str
from .._paths import Path as Keys
from .._redefinition import class_apart
from .._static import ANOTHER, DataValueError, StaticValueError, distinct_texts
from ._config import (
    DEFAULT,
    Config,
    check_config,
    field_value,
    same_static,
    takes_streams,
)
from ._graph import Visit, shared, visits
from ._load import loads
from ._plain import written
from ._registry import Tags
from ._streams import STREAMS, is_streams
from ._toml_text import toml_lines
from ._yaml import SCALARS

# Deeper levels stand on one line: what they are indented by would be the square of the
# depth.
_MAX_INDENT: Final = 40

_PLAIN: Final = re.compile(r"[A-Za-z_][\w./+-]*( [\w./+-]+)*")
_NO_STRING: Final = re.compile("|".join(f"(?:{pattern})" for _, pattern, _ in SCALARS))


_Fields = dict[str, Any]
"""A config as it is written: what its mapping says."""


def _nodes(
    order: Sequence[Visit], *, defaults: bool, is_shown: bool = False
) -> dict[int, _Fields]:
    """What is written of each config; a config below stands for itself in the values.

    Args:
        order: The configs, in the order of their fields.
        defaults: Whether fields that have their default are written; not one that no
            file can say.
        is_shown: Whether it is for somebody to read: a value that no file can say, or
            that the class computes, is then told in words.

    Raises:
        ConfigError: Static values that no file can say; names all.
    """
    found: dict[int, _Fields] = {}
    faults: list[str] = []
    again = shared(order)
    tags = functools.cache(Tags)
    for visit in order:
        config = visit.config
        fields: _Fields = {"type": tags(visit.classes).tag_of(config.node_class)}
        if id(config) in again:
            fields["id"] = visit.name
        if is_streams(config.node_class):
            found[id(config)] = {**fields, **dict(config.__dict__[STREAMS])}
            continue
        for name, value in config.__dict__.items():
            if value is DEFAULT:
                if is_shown:
                    fields[name] = LeftOut(maker_of(config, name))
                continue
            is_default = not differs_from_default(config, name)
            if is_default and not defaults:
                continue
            try:
                fields[name] = value if name in config.slots else written(config, name)
            except DataValueError as error:
                if is_shown:
                    fields[name] = Unsaid(value)
                elif not is_default:
                    faults.append(f"{path_str((*visit.path, name))}: {error}")
        found[id(config)] = fields
    if faults:
        raise ConfigError(faults)
    return found


def maker_of(config: Config[Any], name: str) -> str:
    """What makes a field that is left out."""
    return (
        "gn.config.build" if takes_streams(config, name) else config.node_class.__name__
    )


def differs_from_default(config: Config[Any], name: str) -> bool:
    """Whether a field of a config says something else than its default."""
    info = type(config).model_fields[name]
    if info.is_required():
        return True
    value, default = (
        config.__dict__[name],
        info.get_default(call_default_factory=True, validated_data={}),
    )
    if name in config.slots:
        # Containers stand for their like: an empty list is the default `()`, and not
        # that of `None`.
        are_empty = (
            is_container(value) and is_container(default) and not value and not default
        )
        return value is not default and not are_empty
    return not same_static(value, default)


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
    nodes = _nodes(order, defaults=defaults)
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


def _without_nulls(config: Config[Any], fields: _Fields) -> _Fields:
    """What TOML, which has no null, says of a config: null is left out where it is the default, also of records."""
    found: _Fields = {}
    for name, value in fields.items():
        is_field = name in type(config).model_fields and not is_streams(
            config.node_class
        )
        if is_field and value is None and not differs_from_default(config, name):
            continue
        found[name] = value
        if is_field and name not in config.slots:
            pruned = _pruned(value)
            found[name] = pruned if _reads_as(config, name, pruned) else value
    return found


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
        raise ConfigError(
            [
                f"{fault.partition(': ')[2]}; it would not load again"
                for fault in error.faults
            ]
        ) from None
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
        text = f"{format.upper()} would give {right} in place of {left}"
        faults.append(
            f"{path_str(path)}: {text}: write YAML (format='yaml'), which keeps it"
        )
    raise ConfigError(faults or ["what would be written is read back as another model"])


def _unlike(visit: Visit, other: Visit) -> Iterator[str]:
    """What of a config would be read back otherwise."""
    cls, found = visit.config.node_class, other.config.node_class
    if cls is not found:
        yield f"{visit.name}: no file says {class_apart(cls, found)}, which would be read back as {found.__name__}"
        return
    for name, value in visit.config.__dict__.items():
        theirs = other.config.__dict__[name]
        if name not in visit.config.slots and not same_static(value, theirs):
            where = path_str((*visit.path, name))
            yield f"{where}: no file says {describe(value)}, which would be read back as {describe(theirs)}"


def _check_format(
    order: Sequence[Visit], nodes: dict[int, _Fields], format: str
) -> None:
    """Raise for values that YAML has and another format has not, and for keys that mean something else in a file.

    Raises:
        ConfigError: Names all.
    """
    faults: list[str] = []
    for visit in order:
        if "include" in visit.path:
            faults.append(
                f"{visit.name}: files use the key 'include' otherwise; choose another"
            )
        for name, value in nodes[id(visit.config)].items():
            lacking = dict.fromkeys(
                [scalar(leaf) for _, leaf in leaves(value) if _lacks(format, leaf)]
            )
            text = f"{format.upper()} has no {', '.join(lacking)}: write YAML (format='yaml'), which has it"
            faults += [f"{path_str((*visit.path, name))}: {text}"] if lacking else []
    if faults:
        raise ConfigError(faults)


def _lacks(format: str, value: object) -> bool:
    if format == "json":
        return isinstance(value, float) and not math.isfinite(value)
    return format == "toml" and value is None


class _Line(NamedTuple):
    """A value that is still to be written: what stands before it, and how far it is indented."""

    head: str
    value: Any
    depth: int


def _yaml_lines(root: Config[Any], nodes: dict[int, _Fields]) -> Iterator[str]:
    written: set[int] = set()
    todo = [_Line("", root, 0)]
    while todo:
        head, value, depth = todo.pop()
        indent = "  " * depth
        if isinstance(value, Config) and id(value) in written:
            yield f"{indent}{head}{{ref: {scalar(nodes[id(value)]['id'])}}}"
            continue
        if depth == _MAX_INDENT and (
            isinstance(value, Config) or _holds_configs(value)
        ):
            yield f"{indent}{head}{' '.join(line.strip() for line in _json_lines(value, nodes, written, flow))}"
            continue
        if isinstance(value, Config):
            written.add(id(value))
            entries = [
                (f"{scalar(key)}: ", item) for key, item in nodes[id(value)].items()
            ]
        elif _holds_configs(value):
            is_map = isinstance(value, dict)
            pairs = items(value, as_written=True)
            entries = [
                (f"{scalar(key)}: " if is_map else "- ", item) for key, item in pairs
            ]
        else:
            yield f"{indent}{head}{flow(value)}"
            continue
        # A mapping begins on the line of its `- `, and on the next line after a key.
        first, inner = (
            (head, depth + 1)
            if head.endswith("- ")
            else ("", depth + (1 if head else 0))
        )
        if head and not first:
            yield f"{indent}{head.rstrip()}"
        below = [_Line(text, item, inner) for text, item in entries]
        if first:
            yield from _joined(first, indent, below, todo)
        else:
            todo += reversed(below)


def _joined(
    first: str, indent: str, below: list[_Line], todo: list[_Line]
) -> Iterator[str]:
    """Put the first entry of a list item on the line of its dash."""
    (text, value, depth), *rest = below
    todo += reversed(rest)
    if isinstance(value, Config) or _holds_configs(value):
        yield f"{indent}{first.rstrip()}"
        todo.append(_Line(text, value, depth))
    else:
        yield f"{indent}{first}{text}{flow(value)}"


def _holds_configs(value: Any) -> bool:
    """Whether a value is a container with a config in it, at any depth."""
    if not is_container(value):
        return False
    return any(
        isinstance(child, Config) or _holds_configs(child)
        for child in children(value, as_written=True)
    )


def _json_lines(
    root: Any,
    nodes: dict[int, _Fields],
    written: set[int],
    text_of: Callable[[Any], str],
) -> Iterator[str]:
    """The same with brackets, indented by two: JSON, or YAML in its flow style, as `text_of` writes what is plain."""
    todo: list[tuple[str, Any, int, str]] = [("", root, 0, "")]
    while todo:
        head, value, depth, tail = todo.pop()
        indent = "  " * min(depth, _MAX_INDENT)
        if isinstance(value, _Close):
            yield f"{indent}{value.bracket}{tail}"
            continue
        if isinstance(value, Config) and id(value) in written:
            value = {"ref": nodes[id(value)]["id"]}
        if isinstance(value, Config):
            written.add(id(value))
            value = nodes[id(value)]
        elif not _holds_configs(value):
            yield f"{indent}{head}{text_of(value)}{tail}"
            continue
        is_map = isinstance(value, dict)
        pairs = items(value, as_written=True)
        entries = [(f"{text_of(key)}: " if is_map else "", item) for key, item in pairs]
        opening, closing = ("{", "}") if is_map else ("[", "]")
        yield f"{indent}{head}{opening}"
        todo.append(("", _Close(closing), depth, tail))
        last = len(entries) - 1
        todo += [
            (text, item, depth + 1, "," if at < last else "")
            for at, (text, item) in reversed(list(enumerate(entries)))
        ]


class _Close(NamedTuple):
    bracket: str


def scalar(value: Any) -> str:
    """One value as YAML 1.2."""
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
    if (
        _PLAIN.fullmatch(value)
        and not _NO_STRING.fullmatch(value)
        and not _is_otherwise(value)
    ):
        return str(value)
    return f'"{"".join(map(_escaped, value))}"'


def _is_otherwise(text: str) -> bool:
    """Whether readers of YAML 1.1 take a text without quotes for something else, as `no` and `on` for booleans."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[0], [])
    return any(pattern.match(text) for _, pattern in resolvers)


def _escaped(character: str) -> str:
    """A character in a string with double quotes: YAML has JSON's escapes, but no pairs of surrogates."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    return short or (
        f"\\x{code:02x}"
        if code < 256
        else f"\\u{code:04x}"
        if code < 65_536
        else f"\\U{code:08x}"
    )


def flow(value: Any) -> str:
    """Plain data in YAML's flow style."""
    if not is_container(value):
        return scalar(value)
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{scalar(key)}: {flow(item)}"
                for key, item in items(value, as_written=True)
            )
            + "}"
        )
    return "[" + ", ".join(map(flow, children(value))) + "]"


_FORMATS: Final[
    Mapping[str, Callable[[Config[Any], dict[int, _Fields]], Iterable[str]]]
] = {
    "yaml": _yaml_lines,
    "json": lambda root, nodes: _json_lines(root, nodes, set(), json.dumps),
    "toml": toml_lines,
}


def _format_of(path: str | Path | None) -> str:
    """The format that the suffix of a file says; YAML for others."""
    suffix = "" if path is None else Path(path).suffix.lower().removeprefix(".")
    return suffix if suffix in _FORMATS else "yaml"


def change_path(path: Keys) -> str:
    """The text of a path as `override` takes it: a key with `=` or brackets, which mean something there, in quotes."""
    return ".".join(
        [
            json.dumps(key, ensure_ascii=False) if _has_signs(key) else key_str(key)
            for key in path
        ]
    )


def _has_signs(key: Key) -> bool:
    return isinstance(key, str) and any(sign in key for sign in "=[]")


class Change(NamedTuple):
    """One difference between two configs.

    Attributes:
        path: Where it is.
        left: What the first says there; `MISSING` where it says nothing.
        right: What the second says.
    """

    path: Keys
    left: object
    right: object

    def __str__(self) -> str:
        left, right = told(self.left), told(self.right)
        if (
            left == right
            and isinstance(self.left, Unsaid)
            and isinstance(self.right, Unsaid)
        ):
            left, right = _texts_apart(self.left.value, self.right.value)
        return f"{change_path(self.path)}: {left} -> {right}"


def _texts_apart(left: Any, right: Any) -> tuple[str, str]:
    """The texts of two values that are not the same, each on one line."""
    try:
        texts = distinct_texts(left, right)
    except StaticValueError:  # such as a list that a field of `Any` was given
        return describe(left), ANOTHER
    return " ".join(texts[0].split()), " ".join(texts[1].split())


class _Missing:
    """Where one of two configs says nothing."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class Ref(NamedTuple):
    """A reference to a node that stands at another path."""

    path: Keys
    name: str
    """The path as text; the class for the root."""

    def __repr__(self) -> str:
        return f"{{ref: {self.name}}}"


class Order(NamedTuple):
    """The order of a dict of nodes, in which a model may go through them."""

    keys: tuple[str, ...]

    def __repr__(self) -> str:
        return f"order {flow(self.keys)}"


class LeftOut(NamedTuple):
    """What a config leaves to its class, or to `build`."""

    maker: str

    def __repr__(self) -> str:
        return f"(made by {self.maker})"


class WrittenOut(NamedTuple):
    """What says the same as the default that the other config leaves out.

    Attributes:
        draws_otherwise: Whether its nodes draw other random numbers than those of the
            default.
    """

    draws_otherwise: bool = False

    def __repr__(self) -> str:
        return (
            "(written out: it draws other numbers)"
            if self.draws_otherwise
            else "(the same, written out)"
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Unsaid:
    """A static value that no file can say."""

    value: Any

    def __repr__(self) -> str:
        return f"<{getattr(self.value, '__qualname__', type(self.value).__name__)}>"


class SaidAlike(Unsaid):
    """A static value that a file says as it says the other one, though they are not the same."""

    def __repr__(self) -> str:
        return "<said alike>"


def told(value: object) -> str:
    """A value of `flat`, in words."""
    return (
        repr(value)
        if isinstance(value, _Missing | Ref | Order | LeftOut | WrittenOut | Unsaid)
        else flow(value)
    )


def say_the_same(one: object, other: object) -> bool:
    """Whether two values of `flat` are the same."""
    if isinstance(one, Unsaid) and isinstance(other, Unsaid):
        return same_static(one.value, other.value)
    # By text: `(1,)` and `(1.0,)` are equal, and NaN is not equal to itself.
    return type(one) is type(other) and told(one) == told(other)


def flat(root: Config[Any]) -> dict[Keys, object]:
    """What a config says, by path: plain values, the types of nodes, and references to a node seen before."""
    found: dict[Keys, object] = {}
    order = visits(root, declared=True)
    nodes = _nodes(order, defaults=True, is_shown=True)
    first = {id(visit.config): Ref(visit.path, visit.name) for visit in order}
    for visit in order:
        path = visit.path
        for name, value in nodes[id(visit.config)].items():
            if name == "id":
                continue
            todo: list[tuple[Keys, Any]] = [((*path, name), value)]
            while todo:
                where, item = todo.pop()
                if isinstance(item, Config):
                    if first[id(item)].path != where:
                        found[where] = first[id(item)]
                elif _holds_configs(item):
                    todo += [
                        ((*where, key), child)
                        for key, child in items(item, as_written=True)
                    ]
                else:
                    found[where] = item
    return found


# Any: whatever is static.
def static_values(root: Config[Any]) -> dict[Keys, Any]:
    """The static values of a config themselves, and the classes of its nodes, by the paths that `flat` has for them."""
    found: dict[Keys, Any] = {}
    for visit in visits(root, declared=True):
        found[*visit.path, "type"] = visit.config.node_class
        for name, value in visit.config.__dict__.items():
            # Each random stream has a row of its own.
            is_row = name not in visit.config.slots and not is_streams(
                visit.config.node_class
            )
            if is_row and value is not DEFAULT:
                found[*visit.path, name] = value
    return found


def reordered(one: Config[Any], other: Config[Any]) -> Iterator[Change]:
    """The dicts of nodes whose common keys stand in another order."""
    left, right = _orders(one), _orders(other)
    for path in left.keys() & right.keys():
        keys = (
            [key for key in left[path] if key in right[path]],
            [key for key in right[path] if key in left[path]],
        )
        if keys[0] != keys[1]:
            yield Change(path, *[Order(tuple(each)) for each in keys])


def _orders(root: Config[Any]) -> dict[Keys, list[Any]]:
    """The keys of each dict of nodes, by its path."""
    found: dict[Keys, list[Any]] = {}
    for visit in visits(root, declared=True):
        fields = visit.config.__dict__
        todo: list[tuple[Keys, Any]] = [
            ((*visit.path, name), fields[name]) for name in visit.config.slots
        ]
        while todo:
            path, value = todo.pop()
            if isinstance(value, dict):
                found[path] = list(value)
            if is_container(value):
                todo += [
                    ((*path, key), child)
                    for key, child in items(value, as_written=True)
                ]
    return found
