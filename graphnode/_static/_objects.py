"""What carries structure of its own, nodes and States, and what it says of their classes."""

from typing import Any, ClassVar, Final

NO_TEMPLATE: Final = False
"""What stands in place of a template on the classes of States: a walk tells the two apart by one look at the class."""


class GraphObject:
    """The base of what carries structure of its own: nodes and States. It is never part of a static value."""

    __slots__ = ()

    # A node class's own template (never a parent's), once compiled; `None` before.
    _template: ClassVar[Any] = None


def compares_by_identity(cls: type) -> bool:
    """Whether a class has kept the equality and hash of `object`, which graph operations rely on."""
    members = {name: getattr(cls, name) for name in ("__eq__", "__hash__")}
    return all(member is getattr(object, name) for name, member in members.items())
