"""What a layer that is made of others says for all of them: the way back from its parts to its init variables.

From the parts by their paths in the layer, each with the fields that the layer's
constructor gives it, to the init variables that all of them share. A part that was
replaced by one that no argument of the constructor makes is an error: a configuration
would silently build another model.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from .._declare._node import Node
from .._errors import ConfigError, Fault
from .._redefinition import a_class


class Part(NamedTuple):
    """A layer inside another one."""

    # Any: a layer whose class has `__init_vars__`, which no common class declares.
    layer: Any
    cls: type[Node]
    fields: Mapping[str, object]
    """What the constructor around it sets its fields to."""
    variables: Mapping[str, object] = {}
    """Init variables that it gives this part alone, with their values."""


def shared_vars(parts: Mapping[str, Part]) -> dict[str, object]:
    """The init variables of all parts, by their paths; the first one that has a variable says its value.

    Raises:
        ConfigError: Parts that the constructor does not make; names all, with their
            paths.
    """
    faults: list[Fault] = []
    shared: dict[str, tuple[object, str]] = {}
    for path, part in parts.items():
        cls: type = type(part.layer)
        if cls is not part.cls:
            expected = f"{a_class(part.cls, cls)}, as the constructor makes it"
            what = f"expected {expected}; found {a_class(cls, part.cls)}"
            faults.append(Fault(what, path=path))
            continue
        for name, value in part.fields.items():
            faults += _fault(
                f"{path}.{name}",
                getattr(part.layer, name),
                value,
                "the constructor sets it",
            )
        try:
            variables: dict[str, object] = part.layer.__init_vars__()
        except ConfigError as error:
            faults += [fault.below(path) for fault in error.faults]
            continue
        for name, value in variables.items():
            if name in part.variables:
                expected_value, source = part.variables[name], "the constructor sets it"
            else:
                expected_value, source = shared.setdefault(name, (value, f"{path} has"))
            faults += _fault(f"{path}.{name}", value, expected_value, source)
    if faults:
        raise ConfigError(faults)
    return {name: value for name, (value, _) in shared.items()}


def _fault(path: str, value: object, expected: object, source: str) -> list[Fault]:
    if _is_same(value, expected):
        return []
    what = f"expected {_text(expected)}, as {source}; found {_text(value)}"
    return [Fault(what, path=path)]


def _is_same(left: object, right: object) -> bool:
    # `None` first: NumPy's float64 is equal to it, and a mask has no single answer.
    if left is None or right is None:
        return left is right
    return bool(left == right)


def _text(value: object) -> str:
    if isinstance(value, jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    return value.__name__ if isinstance(value, type) else repr(value)
