"""What carries structure of its own, nodes and States, and what it says of their classes."""

from typing import Any, ClassVar, Final

from .._caches import own_names, was_there

NO_TEMPLATE: Final = False
"""What stands in place of a template on the classes of States: a walk tells the two apart by one look at the class."""


class Uncompiled:
    """What stands in a node class before its template is compiled. It is false; a template is true.

    Pickled with its class, as a template is: it is what the class has where it arrives,
    which may be its own process.
    """

    __slots__ = ("cls",)

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    def __bool__(self) -> bool:
        """False, unlike a template: one look tells a walk whether the class must be compiled first."""
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its class, whose template may be compiled by now where the pickle is loaded."""
        return template_there, (self.cls, own_names(self.cls))


def template_there(cls: type[Any], names: tuple[str, ...]) -> Any:
    """The template of a class where a pickle of it is loaded: its own if it was there before.

    `Uncompiled` and templates name this in their `__reduce__`: a template is code,
    which no pickle holds.
    """
    own = cls.__dict__.get("_template") if was_there(cls, names) else None
    return Uncompiled(cls) if own is None else own


class GraphObject:
    """The base of what carries structure of its own: nodes and States. It is never part of a static value."""

    __slots__ = ()

    # A node class's own template (never a parent's), once compiled; false before.
    _template: ClassVar[Any] = None


def compares_by_identity(cls: type) -> bool:
    """Whether a class has kept the equality and hash of `object`, which graph operations rely on."""
    members = {name: getattr(cls, name) for name in ("__eq__", "__hash__")}
    return all(member is getattr(object, name) for name, member in members.items())
