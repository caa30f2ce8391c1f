"""What is written of each config of a graph: its fields, as data that every format has."""

import dataclasses
import enum
import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from .._errors import ConfigError, Fault
from .._nesting import is_container
from .._paths import path_str
from .._static import DataValueError
from ._config import Config, field_default, is_default, takes_streams
from ._graph import Visit, shared
from ._left_out import DEFAULT
from ._plain import written
from ._registry import Tags
from ._streams import STREAMS, is_streams

NodeData = dict[str, Any]
"""A config as it is written: its mapping."""


class _Unwritten(enum.Enum):
    """The class of `_UNWRITTEN`, in place of the data of a field that is not written, as `None` is data."""

    UNWRITTEN = "UNWRITTEN"

    def __repr__(self) -> str:
        return self.value


_UNWRITTEN: Final = _Unwritten.UNWRITTEN


def node_data(
    order: Sequence[Visit], *, defaults: bool, is_shown: bool = False
) -> dict[int, NodeData]:
    """What is written of each config, by its id; a config below stands for itself in the values.

    `dump` makes text of it, and `flat` rows.

    Args:
        order: The configs, in the order of their fields.
        defaults: Whether fields that have their default are written; not one that no
            file can hold.
        is_shown: Whether somebody is to read it: a value that no file can hold, or that
            the class computes, then has a text in its place.

    Raises:
        ConfigError: Static values that no file can hold; names all.
    """
    nodes: dict[int, NodeData] = {}
    faults: list[Fault] = []
    with_id = shared(order)
    # Each table goes through all classes that are known.
    tags = functools.cache(Tags)
    for visit in order:
        config = visit.config
        data: NodeData = {"type": tags(visit.classes).tag_of(config.node_class)}
        if id(config) in with_id:
            data["id"] = visit.name
        if is_streams(config.node_class):
            data |= config.__dict__[STREAMS]
        else:
            for name in config.__dict__:
                try:
                    value = _field_data(config, name, defaults, is_shown)
                except DataValueError as error:
                    path = path_str((*visit.path, name))
                    faults.append(Fault(str(error), path=path))
                else:
                    if value is not _UNWRITTEN:
                        data[name] = value
        nodes[id(config)] = data
    if faults:
        raise ConfigError(faults)
    return nodes


# Any: plain data, configs, or what stands for a value that is only shown.
def _field_data(config: Config[Any], name: str, defaults: bool, is_shown: bool) -> Any:
    """What is written of one field of a config, or `_UNWRITTEN` where the file may leave it out.

    Raises:
        DataValueError: No file can hold its value.
    """
    value = config.__dict__[name]
    if value is DEFAULT:
        return LeftOut(maker_of(config, name)) if is_shown else _UNWRITTEN
    has_default = not differs_from_default(config, name)
    if has_default and not defaults:
        return _UNWRITTEN
    if name in config.slots:
        return value
    try:
        return written(config, name)
    except DataValueError:
        if is_shown:
            return Unwritable(value)
        if has_default:  # the file may leave it out
            return _UNWRITTEN
        raise


def maker_of(config: Config[Any], name: str) -> str:
    """The name of what makes a field that is left out, as `diff` and `config show` print it.

    Its class, or `gn.config.build` for streams.
    """
    if takes_streams(config, name):
        return "gn.config.build"
    return config.node_class.__name__


def differs_from_default(config: Config[Any], name: str) -> bool:
    """Whether a field of a config has another value than its default: if not, a file may leave it out."""
    model, value = type(config), config.__dict__[name]
    if name not in config.slots:
        return not is_default(model, name, value)
    if model.model_fields[name].is_required():
        return True
    default = field_default(model, name)
    # Containers stand for their like: an empty list is the default `()`, and not that
    # of `None`.
    if is_container(value) and is_container(default) and not value and not default:
        return False
    # By identity: other defaults of a field for nodes are None and DEFAULT alone.
    return value is not default


class LeftOut(NamedTuple):
    """What a config leaves to its class, or to `build`."""

    maker: str

    def __repr__(self) -> str:
        return f"(made by {self.maker})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Unwritable:
    """Stands for a static value that no file can hold."""

    value: Any

    def __repr__(self) -> str:
        return f"<{getattr(self.value, '__qualname__', type(self.value).__name__)}>"
