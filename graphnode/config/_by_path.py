"""What a config says, by path: for `diff`, for `config show`, and to see whether a file reads back."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from .._containers import is_container, items
from .._describe import describe
from .._paths import Key, key_str
from .._paths import Path as Keys
from .._static import ANOTHER, StaticValueError, distinct_texts
from ._config import (
    DEFAULT,
    Config,
    same_static,
)
from ._graph import visits
from ._node_data import LeftOut, Unsaid, node_data
from ._streams import is_streams
from ._yaml_text import flow, holds_configs


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
        left, right = row_text(self.left), row_text(self.right)
        if isinstance(self.left, Unsaid) and isinstance(self.right, Unsaid):
            left, right = _unsaid_texts(self.left, self.right)
        return f"{change_path(self.path)}: {left} -> {right}"


def _unsaid_texts(left: Unsaid, right: Unsaid) -> tuple[str, str]:
    """The texts of two values that no file says, each on one line: by name, or else as they differ in Python."""
    if repr(left) != repr(right):
        return repr(left), repr(right)
    try:
        texts = distinct_texts(left.value, right.value)
    except StaticValueError:  # such as a list that a field of `Any` was given
        return describe(left.value), ANOTHER
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


class WrittenOut(NamedTuple):
    """What says the same as the default that the other config leaves out.

    Attributes:
        draws_otherwise: Whether its nodes draw other random numbers than those of the
            default.
    """

    draws_otherwise: bool = False

    def __repr__(self) -> str:
        if self.draws_otherwise:
            return "(written out: it draws other numbers)"
        return "(the same, written out)"


class SaidAlike(Unsaid):
    """A static value that a file says as it says the other one, though they are not the same."""

    def __repr__(self) -> str:
        return "<said alike>"


def row_text(value: object) -> str:
    """A value of `flat`, for messages: as a file says it, or what stands for it."""
    if isinstance(value, _Missing | Ref | Order | LeftOut | WrittenOut | Unsaid):
        return repr(value)
    return flow(value)


def say_the_same(one: object, other: object) -> bool:
    """Whether two values of `flat` are the same."""
    if isinstance(one, Unsaid) and isinstance(other, Unsaid):
        return same_static(one.value, other.value)
    # By text: `(1,)` and `(1.0,)` are equal, and NaN is not equal to itself.
    return type(one) is type(other) and row_text(one) == row_text(other)


def flat(root: Config[Any]) -> dict[Keys, object]:
    """What a config says, by path: plain values, the types of nodes, and references to a node seen before."""
    rows: dict[Keys, object] = {}
    order = visits(root, declared=True)
    nodes = node_data(order, defaults=True, is_shown=True)
    first = {id(visit.config): Ref(visit.path, visit.name) for visit in order}
    for visit in order:
        path, data = visit.path, nodes[id(visit.config)]
        fields: dict[Keys, Any] = {
            (*path, name): data[name] for name in data if name != "id"
        }
        for where, item in _rows(fields):
            if not isinstance(item, Config):
                rows[where] = item
            elif first[id(item)].path != where:
                rows[where] = first[id(item)]
    return rows


def _rows(values: Mapping[Keys, Any]) -> Iterator[tuple[Keys, Any]]:
    """Values by path, containers of configs taken apart."""
    todo = list(values.items())[::-1]
    while todo:
        path, value = todo.pop()
        if holds_configs(value):
            pairs = list(items(value, as_written=True))
            todo += [((*path, key), child) for key, child in reversed(pairs)]
        else:
            yield path, value


# Any: whatever is static.
def static_values(root: Config[Any]) -> dict[Keys, Any]:
    """The static values of a config themselves, and the classes of its nodes, by the paths that `flat` has for them."""
    values: dict[Keys, Any] = {}
    for visit in visits(root, declared=True):
        config = visit.config
        values[*visit.path, "type"] = config.node_class
        if is_streams(config.node_class):
            continue  # each stream has a row of its own
        for name, value in config.__dict__.items():
            if name not in config.slots and value is not DEFAULT:
                values[*visit.path, name] = value
    return values


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
    orders: dict[Keys, list[Any]] = {}
    for visit in visits(root, declared=True):
        fields = visit.config.__dict__
        todo: list[tuple[Keys, Any]] = [
            ((*visit.path, name), fields[name]) for name in visit.config.slots
        ]
        while todo:
            path, value = todo.pop()
            if isinstance(value, dict):
                orders[path] = list(value)
            if is_container(value):
                todo += [
                    ((*path, key), child)
                    for key, child in items(value, as_written=True)
                ]
    return orders
