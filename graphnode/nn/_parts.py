"""What a layer that is made of others says for all of them: the way back from its parts to its init variables.

Data in: the parts by their paths in the layer, each with the fields that the layer's constructor gives it. Data out:
the init variables that all of them share. A part that was replaced by one that no argument of the constructor makes is
an error, as a configuration would silently build another model.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from .._errors import ConfigError
from .._node import Node


class Part(NamedTuple):
    """A layer inside another one."""

    # Any: a layer whose class has `__init_vars__`, which no common class declares.
    layer: Any
    cls: type[Node]
    fields: Mapping[str, object]
    """What the constructor around it sets its fields to."""
    variables: Mapping[str, object] = {}
    """Init variables that it gives this part alone, with their values."""


def shared_vars(**parts: Part) -> dict[str, object]:
    """The init variables of all parts, of which each has one value.

    Args:
        **parts: By their paths, where `__` stands for a dot; the first one that has a variable says its value.

    Raises:
        ConfigError: Parts that the constructor does not make; names all, with their paths.
    """
    faults: list[str] = []
    shared: dict[str, object] = {}
    sources: dict[str, str] = {}
    for key, part in parts.items():
        path = key.replace("__", ".")
        if type(part.layer) is not part.cls:
            faults.append(
                f"{path}: expected a {part.cls.__name__}, as the constructor makes it; found {_shown(part.layer)}"
            )
            continue
        faults += [f"{path}.{fault}" for fault in _misfits(part)]
        try:
            variables = part.layer.__init_vars__()
        except ConfigError as error:
            faults += [f"{path}.{fault}" for fault in error.faults]
            continue
        for name, value in variables.items():
            if name in part.variables:
                expected, source = part.variables[name], "the constructor sets it"
            else:
                expected, source = shared.setdefault(name, value), f"{sources.setdefault(name, path)} has"
            if not _is_same(value, expected):
                faults.append(f"{path}.{name}: expected {_shown(expected)}, as {source}; found {_shown(value)}")
    if faults:
        raise ConfigError(faults)
    return shared


def _misfits(part: Part) -> Iterator[str]:
    for name, expected in part.fields.items():
        value = getattr(part.layer, name)
        if not _is_same(value, expected):
            yield f"{name}: expected {_shown(expected)}, as the constructor sets it; found {_shown(value)}"


def _is_same(one: object, other: object) -> bool:
    # `None` first: NumPy's float64 is equal to it, and a mask has no single answer.
    return one is other if one is None or other is None else bool(one == other)


def _shown(value: object) -> str:
    if isinstance(value, Node):
        return f"a {type(value).__name__}"
    if isinstance(value, jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    return value.__name__ if isinstance(value, type) else repr(value)
