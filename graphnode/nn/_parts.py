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
    """For `__init_vars__`: the init variables that a layer's constructor hands to all its parts, with their values.

    A config has them once, so that the parts must be as one constructor makes them.

    Args:
        parts: The parts, by their paths in the layer. The first one that has a variable
            says its value, and the others must agree.

    Raises:
        ConfigError: Parts that the constructor does not make; names all, with their
            paths.
    """
    faults: list[Fault] = []
    shared: dict[str, tuple[object, str]] = {}
    for path, part in parts.items():
        cls: type = type(part.layer)
        # Not of a subclass either: that has a constructor of its own.
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
            # A part that is made of layers itself names faults from there.
            faults += [fault.below(path) for fault in error.faults]
            continue
        for name, value in variables.items():
            # This part has a value of its own, which says nothing of the others.
            if name in part.variables:
                expected_value, source = part.variables[name], "the constructor sets it"
            else:
                expected_value, source = shared.setdefault(name, (value, f"{path} has"))
            faults += _fault(f"{path}.{name}", value, expected_value, source)
    if faults:
        raise ConfigError(faults)
    return {name: value for name, (value, _) in shared.items()}


def _fault(path: str, value: object, expected: object, source: str) -> list[Fault]:
    """For `shared_vars`: the fault of a value of a part that is not as expected, or nothing.

    Args:
        path: The path of the value from the layer around the part.
        value: The value.
        expected: What it should be.
        source: What says so, for the message.
    """
    if _is_same(value, expected):
        return []
    what = f"expected {_value_text(expected)}, as {source}; found {_value_text(value)}"
    return [Fault(what, path=path)]


def _is_same(left: object, right: object) -> bool:
    """Whether two values of fields are equal, such as dtypes or functions."""
    # `None` first: NumPy's float64 is equal to it, and a mask has no single answer.
    if left is None or right is None:
        return left is right
    return bool(left == right)


def _value_text(value: object) -> str:
    """For a message: a value of a field; of an array the dtype and shape alone."""
    if isinstance(value, jax.Array):
        return f"{value.dtype}{list(value.shape)}"
    return value.__name__ if isinstance(value, type) else repr(value)
