"""The values of a config by path: for `diff`, for `config show`, and to see whether a file reads back."""

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from .._describe import describe
from .._nesting import is_container, items
from .._paths import Key, key_str
from .._paths import Path as Keys
from .._static import ANOTHER, StaticValueError, distinct_texts
from ._config import Config, same_static
from ._graph import visits
from ._left_out import DEFAULT
from ._node_data import LeftOut, Unwritable, node_data
from ._streams import is_streams
from ._yaml_text import flow, holds_configs


def change_path(path: Keys) -> str:
    """The text of a path as `override` takes it: a key with `=` or brackets, which mean something there, in quotes."""
    return ".".join(map(_change_key, path))


def _change_key(key: Key) -> str:
    """One key of a path in the text form of `change_path`: in quotes if `override` would read its signs otherwise."""
    return json.dumps(key, ensure_ascii=False) if _has_signs(key) else key_str(key)


def _has_signs(key: Key) -> bool:
    """Whether a key has a sign that means something in the path of a change, `=` or a bracket."""
    return isinstance(key, str) and any(sign in key for sign in "=[]")


class Change(NamedTuple):
    """One difference between two configs.

    Attributes:
        path: Where it is.
        left: The value of the first there; `MISSING` where it has none.
        right: The value of the second.
    """

    path: Keys
    left: object
    right: object

    def __str__(self) -> str:
        left, right = row_text(self.left), row_text(self.right)
        if isinstance(self.left, Unwritable) and isinstance(self.right, Unwritable):
            left, right = _unwritable_texts(self.left, self.right)
        return f"{change_path(self.path)}: {left} -> {right}"


def _unwritable_texts(left: Unwritable, right: Unwritable) -> tuple[str, str]:
    """For a `Change`: the texts of two values that no file can hold, by name, or else as they differ in Python.

    Each is on one line.
    """
    if repr(left) != repr(right):
        return repr(left), repr(right)
    try:
        texts = distinct_texts(left.value, right.value)
    except StaticValueError:  # such as a list that a field of `Any` was given
        return describe(left.value), ANOTHER
    return " ".join(texts[0].split()), " ".join(texts[1].split())


class _Missing(enum.Enum):
    """The class of `MISSING`, in place of the value of a config that has none at a path."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return self.value

    # Users print it, too: an enum's own text has the private name of the class.
    __str__ = __repr__


MISSING: Final = _Missing.MISSING


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
    """Stands for a default that one config writes out, and the other leaves out.

    Attributes:
        draws_otherwise: Whether its nodes draw other random numbers than those of the
            default.
    """

    draws_otherwise: bool = False

    def __repr__(self) -> str:
        if self.draws_otherwise:
            return "(written out: it draws other numbers)"
        return "(the same, written out)"


class WrittenAlike(Unwritable):
    """A static value for which a file has the same text as for another one."""

    def __repr__(self) -> str:
        return "<written alike>"


def row_text(value: object) -> str:
    """A value of `flat` as `diff` and `config show` print it: as in a file, or what stands for it there."""
    if isinstance(value, _Missing | Ref | Order | LeftOut | WrittenOut | Unwritable):
        return repr(value)
    return flow(value)


def same_row(left: object, right: object) -> bool:
    """Whether two values of `flat`, at the same path of two configs, are the same: if not, `diff` shows both."""
    if isinstance(left, Unwritable) and isinstance(right, Unwritable):
        return same_static(left.value, right.value)
    # By text: `(1,)` and `(1.0,)` are equal, and NaN is not equal to itself.
    return type(left) is type(right) and row_text(left) == row_text(right)


def flat(root: Config[Any]) -> dict[Keys, object]:
    """The values of a config by path: plain data, the types of nodes, and references to a node seen before.

    `diff` compares two configs by these rows, and `config show` prints them.
    """
    rows: dict[Keys, object] = {}
    order = visits(root, declared=True)
    nodes = node_data(order, defaults=True, is_shown=True)
    first = {id(visit.config): Ref(visit.path, visit.name) for visit in order}
    for visit in order:
        path, data = visit.path, nodes[id(visit.config)]
        # Not the id, which is a name for the file alone: the same graph may have others.
        fields: dict[Keys, Any] = {
            (*path, name): data[name] for name in data if name != "id"
        }
        for item_path, item in _rows(fields):
            if not isinstance(item, Config):
                rows[item_path] = item
            # At its first path a config has rows of its own, and is not one.
            elif first[id(item)].path != item_path:
                rows[item_path] = first[id(item)]
    return rows


def _rows(values: Mapping[Keys, Any]) -> Iterator[tuple[Keys, Any]]:
    """Values by path, with a row for each config in a container: the rest is data, and stays one value."""
    # Reversed, as the last one is taken first.
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
    """The static values of a config themselves, and the classes of its nodes, by the paths that `flat` has for them.

    For `diff`: two of them may be written alike and be different values.
    """
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


def reordered(left: Config[Any], right: Config[Any]) -> Iterator[Change]:
    """The dicts of nodes whose common keys stand in another order.

    For `diff` and `dump`: a model may go through a dict in its order, which rows by
    path do not show.
    """
    orders, other_orders = _orders(left), _orders(right)
    for path in orders.keys() & other_orders.keys():
        keys, other_keys = orders[path], other_orders[path]
        # Other keys are differences of their own.
        common = [key for key in keys if key in other_keys]
        other_common = [key for key in other_keys if key in keys]
        if common != other_common:
            yield Change(path, Order(tuple(common)), Order(tuple(other_common)))


def _orders(root: Config[Any]) -> dict[Keys, list[Any]]:
    """The keys of each dict of nodes in their order, by its path, for `reordered`."""
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
