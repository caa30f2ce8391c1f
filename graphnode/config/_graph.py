"""Graphs of configs as a whole: their order, their first paths, copies of them; all without recursion."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

from .._node import Node
from .._paths import Key, Path, path_str
from ._models import DEFAULT, Config, blank, configs_in

M = TypeVar("M", bound=Node)

Link = tuple[Any, Key] | None
"""The keys from the root, last first: a path of a long chain would cost its square."""


class Visit(NamedTuple):
    """A config of a graph, with its first path."""

    config: Config[Any]
    link: Link
    number: int
    """Of the path, the same in every process: what a random key is folded with."""

    @property
    def path(self) -> Path:
        """The keys from the root."""
        keys: list[Key] = []
        link: Any = self.link
        while link is not None:
            link, key = link
            keys.append(key)
        return tuple(reversed(keys))

    @property
    def name(self) -> str:
        """The path as text; the class for the root."""
        return path_str(self.path) or self.config.node_class.__name__


def children(config: Config[Any], *, declared: bool = False) -> Iterator[tuple[str, Path, Config[Any]]]:
    """The configs that one refers to: the field, the keys within its value, and the config.

    Fields come by name, so that moving one in the source changes nothing, or in the order that they are `declared` in.
    """
    for name in config.slots if declared else sorted(config.slots):
        for keys, child in configs_in(config.__dict__[name]):
            yield name, keys, child


def visits(root: Config[Any], *, declared: bool = False) -> list[Visit]:
    """Every config once, at its first path, parents before what they hold; the order is that of `children`."""
    found: dict[int, Visit] = {}
    todo = [Visit(root, None, 0)]
    while todo:
        visit = todo.pop()
        if id(visit.config) in found:
            continue
        found[id(visit.config)] = visit
        below: list[Visit] = []
        for name, keys, child in children(visit.config, declared=declared):
            link, number = visit.link, visit.number
            for key in (name, *keys):
                link, number = (link, key), zlib.crc32(path_str((key,)).encode(), number)
            below.append(Visit(child, link, number))
        todo += reversed(below)
    return list(found.values())


def shared(root: Config[Any]) -> set[int]:
    """The ids of the configs that are referred to more than once; the root counts as one reference."""
    seen, again = {id(root)}, set[int]()
    for visit in visits(root):
        for _, _, child in children(visit.config):
            (again if id(child) in seen else seen).add(id(child))
    return again


def mapped(value: Any, change: Callable[[Config[Any]], Any]) -> Any:
    """The value of a slot with something else in place of each config; containers are new."""
    if isinstance(value, Config):
        return change(value)
    # As deep as the annotation, which somebody wrote.
    if isinstance(value, (list, tuple)):
        return [mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    return value


def copied(root: Config[M]) -> Config[M]:
    """A copy of a graph of configs, with the same sharing and cycles; static values are the same objects."""
    configs = [visit.config for visit in visits(root)]
    twins: dict[int, Config[Any]] = {id(config): blank(type(config)) for config in configs}
    for config in configs:
        fields = {
            name: mapped(value, lambda child: twins[id(child)]) if name in config.slots else value
            for name, value in config.__dict__.items()
        }
        fill(twins[id(config)], fields)
    return cast("Config[M]", twins[id(root)])


def fill(config: Config[Any], fields: dict[str, Any]) -> None:
    """Give a config that was made empty its fields, which are validated; DEFAULT stands for what is left out.

    Raises:
        pydantic.ValidationError: A value does not fit.
    """
    given = {name: value for name, value in fields.items() if value is not DEFAULT}
    type(config).__pydantic_validator__.validate_python(given, self_instance=config)
