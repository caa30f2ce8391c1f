"""Every error that graphnode raises: our base class beside the built-in that callers already catch.

A message says where (the full path), what was found and what would do; what a program
may want to act on stays on the exception. `__module__` is the public name, so that
tracebacks show what a user can import.
"""

from collections.abc import Sequence


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
    """Filters leave States over, or stand in an order that can never match.

    Attributes:
        paths: The paths of the States that no filter accepts.
    """

    def __init__(
        self, message: str, paths: Sequence[tuple[str | int, ...]] = ()
    ) -> None:
        super().__init__(message)
        self.paths: tuple[tuple[str | int, ...], ...] = tuple(paths)


class FilterTypeError(GraphnodeError, TypeError):
    """Something was given as a filter that is none."""


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
        faults: One text per fault: `file:line:column: path: what is wrong`.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class RngError(GraphnodeError, LookupError):
    """Random numbers are needed, and there is no stream to draw them from."""


class AliasError(GraphnodeError, ValueError):
    """One object was reached with two different prefixes."""


class StateUseError(GraphnodeError, TypeError):
    """A State was used like the array that it holds: in arithmetic, a comparison, a condition, or by NumPy."""


class JaxInputError(GraphnodeError, ValueError):
    """A node or State was given to a function of JAX, which takes arrays and pytrees of them."""


class TraceError(GraphnodeError, RuntimeError):
    """A traced value would leave, or has left, the JAX transformation that it belongs to."""


class DonationError(GraphnodeError, RuntimeError):
    """A State's memory was given to a call that failed: it holds no value any more."""


def listed(faults: Sequence[str], limit: int = 50) -> str:
    """All faults as indented lines, one alone as itself; beyond `limit` only their number."""
    if len(faults) == 1:
        return faults[0]
    lines = [f"\n  {fault}" for fault in faults[:limit]]
    rest = len(faults) - limit
    return (
        f"{len(faults)} faults:"
        + "".join(lines)
        + (f"\n  and {rest} more" if rest > 0 else "")
    )
