"""What the passes take and give: a class with its source, and findings."""

import sys
from typing import Any, Final, NamedTuple

from .._declare._node import Node
from .._source import ClassSource, Place
from ._codes import Code

NOWHERE: Final = Place(1, 1, 1)


class Finding(NamedTuple):
    """One thing that is wrong, and where.

    Attributes:
        file: The path of the file.
        line: The line, from 1.
        column: The column, in characters from 1.
        code: Which of the codes it is.
        message: What was found, and what would do.
    """

    file: str
    line: int
    column: int
    code: Code
    message: str


class CheckedClass(NamedTuple):
    """A class under check.

    Attributes:
        cls: The class.
        file: Where its module is.
        source: Its definition, or `None` where it was not written as one.
    """

    cls: type[Any]
    file: str
    source: ClassSource | None

    def place(self, name: str | None = None) -> Place:
        """Where the class body has a name; else, where the class stands."""
        if self.source is None:
            return NOWHERE
        return self.source.members.get(name or "", self.source.place)

    def found(self, code: Code, message: str, place: Place) -> list[Finding]:
        """The finding, or nothing if a comment says to ignore it."""
        if self.source is not None and self.source.module.is_ignored(place, code.code):
            return []
        return [Finding(self.file, place.line, place.column, code, message)]


def subclasses_of(cls: type[Any]) -> list[type[Any]]:
    """All classes below one that are alive, each once: those to check, and those that run its methods."""
    # A dict as a set with an order
    subclasses: dict[type[Any], None] = {}
    pending = [cls]
    while pending:
        direct = type.__subclasses__(pending.pop())
        new = [subclass for subclass in direct if subclass not in subclasses]
        subclasses.update(dict.fromkeys(new))
        pending += new
    return list(subclasses)


def project_bases(cls: type[Any]) -> list[type[Any]]:
    """`cls` and what it extends, but for `Node`, what that extends, and the standard library: whose methods to read."""
    return [
        base
        for base in cls.__mro__
        if base not in Node.__mro__
        and base.__module__.partition(".")[0] not in sys.stdlib_module_names
    ]
