"""Every error that graphnode raises. Each extends our base class, and the built-in that callers already catch.

A message says where (the full path), what was found and what would do; what a program
may act on is an attribute of the exception. `__module__` is the public name, so that
tracebacks show what a user can import.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A place in a file.

    Attributes:
        line: From 1; 0 where it is not known.
        column: From 1; 0 where it is not known.
        file: The name of the file in messages; empty where there is none.
    """

    line: int = 0
    column: int = 0
    file: str = ""

    def __str__(self) -> str:
        parts = [self.file] if self.file else []
        if self.line:
            parts += [str(self.line), str(self.column)]
        return ":".join(parts)


_NOWHERE = Place()


class Fault(str):
    """One thing that is wrong: a text, and its parts for a program that shows or sorts it.

    The text is what users read: `file:line:column: path: what; hint`, without the parts
    that are empty.

    Attributes:
        what: What is wrong.
        path: Where in the model: `encoder.layers[2].act`.
        hint: What would do.
        place: Where in a file.

    Example:
        >>> try:
        ...     gn.config.loads("{in_size: 2, out_size: 3, dtipe: float32}", gn.nn.Linear)
        ... except gn.ConfigError as error:
        ...     fault = error.faults[0]
        >>> print(fault)
        1:27: dtipe: Linear has no field 'dtipe'; did you mean 'dtype'?
        >>> fault.place.line, fault.path, fault.hint
        (1, 'dtipe', "did you mean 'dtype'?")
    """

    # A subclass of `str` rather than a record that has a text: callers print and compare
    # the `faults` of errors as texts.
    __slots__ = ("hint", "path", "place", "what")
    __module__ = "graphnode"

    what: str
    path: str
    hint: str
    place: Place

    def __new__(
        cls, what: str, *, path: str = "", hint: str = "", place: Place = _NOWHERE
    ) -> "Fault":
        where = [part for part in (str(place), path) if part]
        text = ": ".join([*where, what])
        self = super().__new__(cls, f"{text}; {hint}" if hint else text)
        self.what, self.path, self.hint, self.place = what, path, hint, place
        return self

    def at(self, place: Place) -> "Fault":
        """A copy of the fault with another place in a file.

        What finds a fault in a value may not know where the file has that value.
        """
        return Fault(self.what, path=self.path, hint=self.hint, place=place)

    def below(self, path: str) -> "Fault":
        """A copy of the fault with a path that starts further up.

        What finds a fault in a part of a model knows the path in that part alone.

        Args:
            path: Leads to the object that the path of the fault starts at.
        """
        whole = f"{path}.{self.path}" if path and self.path else path or self.path
        return Fault(self.what, path=whole, hint=self.hint, place=self.place)

    def __reduce__(self) -> tuple[Any, ...]:
        return _fault, (self.what, self.path, self.hint, self.place)


def _fault(what: str, path: str, hint: str, place: Place) -> Fault:
    """A fault from its parts, for pickles: they pass no keywords, and know it by this name."""
    return Fault(what, path=path, hint=hint, place=place)


def by_place(fault: Fault) -> tuple[str, int, int]:
    """The sort key of faults, file, line and column: a message lists them as the file is read."""
    return fault.place.file, fault.place.line, fault.place.column


class GraphnodeError(Exception):
    """The base of all errors of graphnode."""

    __module__ = "graphnode"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__module__ = "graphnode"


class SchemaError(GraphnodeError, TypeError):
    """A node class declares something that cannot be compiled; lists all faults of the class.

    Attributes:
        faults: One text per fault, each naming the class and the field.
    """

    def __init__(self, cls_name: str, faults: Sequence[str]) -> None:
        self.cls_name = cls_name
        self.faults: tuple[str, ...] = tuple(faults)
        super().__init__(cls_name, self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        lines = "".join(f"\n  {fault}" for fault in self.faults)
        return f"{self.cls_name} has {len(self.faults)} faults:{lines}"


class FieldError(GraphnodeError, TypeError):
    """A field was given a value that it cannot hold, or was left without one."""


class ContractError(GraphnodeError, ValueError):
    """A State's shape or dtype breaks the contract that its field's annotation states."""


class UndeclaredFieldError(GraphnodeError, AttributeError):
    """An attribute was assigned that the node's class does not declare."""


class UnsetFieldError(GraphnodeError, AttributeError):
    """A declared field was read that holds nothing: not yet set, popped or deleted."""


class StructureError(GraphnodeError, TypeError):
    """Something that is not a node stands where the graph operations need one, or a node of another structure."""


class PathError(GraphnodeError, ValueError):
    """A text is not a path, or a path leads nowhere."""


class FilterError(GraphnodeError, ValueError):
    """Filters do not accept all States, or are in an order in which one can never match.

    Attributes:
        paths: The paths of the States that no filter accepts.
    """

    def __init__(
        self, message: str, paths: Sequence[tuple[str | int, ...]] = ()
    ) -> None:
        super().__init__(message)
        self.paths: tuple[tuple[str | int, ...], ...] = tuple(paths)


class FilterTypeError(GraphnodeError, TypeError):
    """A value that is not a filter was passed as one."""


class MergeError(GraphnodeError, ValueError):
    """State trees do not fit the graphdef they are merged with, or each other; lists all faults."""


class UpdateError(GraphnodeError, ValueError):
    """An update does not fit the node; lists all faults, and nothing was written."""


class PopError(GraphnodeError, ValueError):
    """A pop cannot complete; lists all reasons, and nothing was removed."""


class StackError(GraphnodeError, ValueError):
    """The values of nodes do not stack, or do not come apart; lists all faults."""


class ConfigError(GraphnodeError, ValueError):
    """A configuration says what no model can be built from; lists all faults, with their places.

    Attributes:
        faults: Each as the text `file:line:column: path: what is wrong`, with its parts.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults: tuple[Fault, ...] = tuple(
            [fault if isinstance(fault, Fault) else Fault(fault) for fault in faults]
        )
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class CheckpointError(GraphnodeError, ValueError):
    """A checkpoint cannot be written, or is not what it is read as; lists all faults, and nothing was changed.

    Attributes:
        task: What could not be done: `cannot restore from runs/3`.
        faults: Each as the text `path: what is wrong; what would do`, with its parts.
    """

    def __init__(self, task: str, faults: Sequence[str]) -> None:
        self.task = task
        self.faults: tuple[Fault, ...] = tuple(
            [fault if isinstance(fault, Fault) else Fault(fault) for fault in faults]
        )
        super().__init__(task, self.faults)

    def __str__(self) -> str:
        return f"{self.task}: {listed(self.faults)}"


class SummaryError(GraphnodeError, ValueError):
    """A model cannot be summarized for the inputs: shapes do not fit; lists all faults, and nothing was computed.

    Attributes:
        faults: Each as the text `path: what is wrong; what would do`, with its parts.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults: tuple[Fault, ...] = tuple(
            [fault if isinstance(fault, Fault) else Fault(fault) for fault in faults]
        )
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class RngError(GraphnodeError, LookupError):
    """Random numbers are needed, and no stream can provide them."""


class AliasError(GraphnodeError, ValueError):
    """One object was reached with two different prefixes."""


class StateUseError(GraphnodeError, TypeError):
    """A State was used like the array that it holds: in arithmetic, a comparison, a condition, or by NumPy."""


class JaxInputError(GraphnodeError, ValueError):
    """A node or State was given to a function of JAX, which takes arrays and pytrees of them."""


class TraceError(GraphnodeError, RuntimeError):
    """A traced value would leave, or has left, the JAX transformation that it belongs to."""


class CaptureError(GraphnodeError, ValueError):
    """What calls of nodes give cannot be captured or replaced as it was asked for; lists all faults."""


class DonationError(GraphnodeError, RuntimeError):
    """A State's memory was given to a call that failed: it holds no value any more."""


def listed(faults: Sequence[str], limit: int = 50) -> str:
    """For errors that name all faults: them as indented lines, a single one as it is; beyond `limit` their number."""
    if len(faults) == 1:
        return faults[0]
    lines = [f"{len(faults)} faults:", *faults[:limit]]
    if len(faults) > limit:
        lines.append(f"and {len(faults) - limit} more")
    return "\n  ".join(lines)
