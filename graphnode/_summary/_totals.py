"""What the States of a model take, by class."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from .._public import public_name
from ._rows import Item


class Total(NamedTuple):
    """What the States of one class take.

    Attributes:
        parameters: Numbers in them.
        bytes: Their size.
    """

    parameters: int
    bytes: int


def totals_of(items: Iterable[Item]) -> dict[str, Total]:
    """What the States among some rows take, by the name of their class.

    Args:
        items: The rows, in whose order classes come.
    """
    totals: dict[type, Total] = {}
    for item in items:
        if not item.is_node:
            parameters, size = totals.get(item.spec.cls, Total(0, 0))
            row = item.row
            totals[item.spec.cls] = Total(parameters + row.parameters, size + row.bytes)
    return {_name_among(cls, list(totals)): total for cls, total in totals.items()}


def _name_among(cls: type, classes: list[type]) -> str:
    """The name of a class: with its module, or a number too, where another class has the same."""
    for name_of in (_short_name, _full_name):
        names = Counter(map(name_of, classes))
        if names[name_of(cls)] == 1:
            return name_of(cls)
    name = _full_name(cls)
    alike = [other for other in classes if _full_name(other) == name]
    return f"{name} ({alike.index(cls) + 1})"


def _short_name(cls: type) -> str:
    return cls.__name__


def _full_name(cls: type) -> str:
    """The name with which a class is imported."""
    name = public_name(cls)
    package = __name__.partition(".")[0]
    return (
        f"{cls.__module__}.{cls.__qualname__}" if name is None else f"{package}.{name}"
    )
