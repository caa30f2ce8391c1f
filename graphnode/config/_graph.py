"""Graphs of configs as a whole: their order, their first paths, copies of them; all without recursion."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from .._declare._node import Node
from .._errors import ConfigError, Fault
from .._paths import Key, Path, path_str
from ._config import Config, configs_in, empty_config, slot_fault
from ._constructor import unshared
from ._slots import form_at, mapped_slot

M = TypeVar("M", bound=Node)

Link = tuple[Any, Key] | None
"""The keys from the root, last first: a path of a long chain would cost its square."""


def keys_of(link: Link) -> Path:
    """The keys of a link, from the root on: made where a path is shown, as all paths together cost too much."""
    keys: list[Key] = []
    while link is not None:
        link, key = link
        keys.append(key)
    return tuple(reversed(keys))


class Visit(NamedTuple):
    """A config of a graph, with its first path."""

    config: Config[Any]
    link: Link
    number: int
    """Of the path, the same in every process: what a random key is folded with."""
    classes: tuple[type, ...]
    """What its place admits."""

    @property
    def path(self) -> Path:
        """The keys from the root."""
        return keys_of(self.link)

    @property
    def name(self) -> str:
        """The path as text; the class for the root."""
        return path_str(self.path) or self.config.node_class.__name__


def number_below(number: int, key: Key) -> int:
    """The number of a path with one more key: what a node at the path folds into the key of `build`."""
    # With the dot, which a key has in quotes alone: `up.1` is not `up1`.
    return zlib.crc32(f".{path_str((key,))}".encode(), number)


def children(
    config: Config[Any], *, declared: bool = False, as_written: bool = False
) -> Iterator[tuple[str, Path, Config[Any]]]:
    """The configs that one refers to: the field, the keys within its value, and the config.

    Each walk through a graph of configs goes by these.

    Args:
        config: The config.
        declared: Whether fields come in the order that their class declares them in.
            Otherwise they come by name, so that moving one in the source changes
            nothing.
        as_written: Whether the items of a dict come as they stand there. Otherwise they
            come by key, so that equal configs have equal paths, and draw the same
            random numbers.
    """
    for name in config.slots if declared else sorted(config.slots):
        for keys, child in configs_in(config.__dict__[name], as_written=as_written):
            yield name, keys, child


def visits(
    root: Config[Any],
    *,
    declared: bool = False,
    as_written: bool = False,
    number: int = 0,
) -> list[Visit]:
    """Every config once, at its first path, parents before what they hold; the order is that of `children`.

    Args:
        root: Where to begin.
        declared: See `children`.
        as_written: See `children`.
        number: The number of the path of the root (`Visit.number`).

    Raises:
        ConfigError: What was put into a list or dict of a config does not fit there,
            such as a live node; names all.
    """
    reached: dict[int, Visit] = {}
    faults: list[Fault] = []
    todo = [Visit(root, None, number, (root.node_class,))]
    while todo:
        visit = todo.pop()
        if id(visit.config) in reached:
            continue
        reached[id(visit.config)] = visit
        own_faults = list(_slot_faults(visit))
        if own_faults:
            # Not walked into: a list may hold itself by now.
            faults += own_faults
            continue
        below: list[Visit] = []
        for name, keys, child in children(
            visit.config, declared=declared, as_written=as_written
        ):
            link, number = visit.link, visit.number
            for key in (name, *keys):
                link, number = (link, key), number_below(number, key)
            form = form_at(visit.config.slots[name], keys)
            below.append(Visit(child, link, number, form.classes))
        # Reversed, as the last one is taken first.
        todo += reversed(below)
    if faults:
        raise ConfigError(faults)
    return list(reached.values())


def _slot_faults(visit: Visit) -> Iterator[Fault]:
    """What does not fit in the fields for nodes, each with its path: their lists and dicts change unvalidated."""
    for name in sorted(visit.config.slots):
        fault = slot_fault(visit.config, name)
        if fault is not None:
            keys, what = fault
            yield Fault(what, path=path_str((*visit.path, name, *keys)))


def shared(order: Sequence[Visit]) -> set[int]:
    """The ids of the configs that are referred to more than once; the root counts as one reference.

    In a file these have an `id`, and the other places a `ref`.
    """
    seen, repeated = {id(order[0].config)}, set[int]()
    for visit in order:
        for _, _, child in children(visit.config):
            if id(child) in seen:
                repeated.add(id(child))
            seen.add(id(child))
    return repeated


def copied(root: Config[M]) -> Config[M]:
    """A copy of a graph of configs, with the same sharing and cycles; values that nobody can write to are the same.

    For `override` and `diff`, which leave the caller's configs as they are.
    """
    configs = [visit.config for visit in visits(root)]
    twins = {id(config): empty_config(type(config)) for config in configs}

    def twin_of(leaf: Any) -> Any:
        """The copy of a config; any other leaf, such as `None`, as it is."""
        return twins[id(leaf)] if isinstance(leaf, Config) else leaf

    for config in configs:
        fields: dict[str, Any] = {}
        for name, value in config.__dict__.items():
            is_slot = name in config.slots
            fields[name] = mapped_slot(twin_of, value) if is_slot else unshared(value)
        # Without validation: a default is not validated, and its annotation might make
        # another value of it.
        twins[id(config)].__setstate__({**config.__getstate__(), "__dict__": fields})
    return cast("Config[M]", twins[id(root)])
