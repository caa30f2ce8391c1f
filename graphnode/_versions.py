"""Versions and the clock: how a change of structure is noticed without a walk.

A node or container that is part of a binding has a version, a token that is replaced at
every structural write; the clock's token is replaced after it:

    binding made     clock C1    node a: V1    node b: V2
    b.x = other      clock C2    node a: V1    node b: V3

    is it valid?     clock unchanged: yes, without looking at anything else
                     clock changed:   compare the versions; if all are equal, the write
                                      was to another graph, and the new reading is noted

A version knows the trace that it was made in: inside of a JAX transformation, only
nodes made there may change their structure. A node that is not yet part of a binding
has the trace of its birth in place of a version, so its writes do not move the clock.

Threads: a writer changes the structure, then the version, then the clock; version and
clock before it too, as an interrupt may come right after the change. A binding is built
by setting versions first and reading the structure after, and validated by reading the
clock first and comparing versions after. Whatever the interleaving, a binding that
missed a write differs from it in a version or in the clock. Tokens are never reused, so
no update can be lost and no late writer can set the clock back.
"""

from typing import Final, TypeAlias

from ._compat import TraceRef, current_trace, is_tracing
from ._errors import TraceError


class Version:
    """A token: the version of a node or container, or a reading of the clock; compared by identity.

    Attributes:
        trace: The trace that it was made in; `None` outside of all.
    """

    __slots__ = ("trace",)

    def __init__(self) -> None:
        """Made in the trace that runs, if one does."""
        self.trace = current_trace()


class Constructing(Version):
    """The version of a node whose constructor still runs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "CONSTRUCTING"


class PastScope(Constructing):
    """The version of a node whose constructor still runs, and has opened and left a scope of random numbers."""

    __slots__ = ()

    def __init__(self, before: Constructing) -> None:
        self.trace = before.trace


CONSTRUCTING: Final = Constructing()
"""The version of a node whose constructor runs outside of all transformations, as most do."""


def constructing() -> Constructing:
    """The version of a node whose constructor starts now.

    Inside of a trace a new one, which holds that trace, so that another trace that
    writes to the node is refused (`check_owner`); outside the one `CONSTRUCTING`.
    """
    return Constructing() if is_tracing() else CONSTRUCTING


# A version, or the trace of the birth of a node or container that no binding has seen.
AnyVersion: TypeAlias = Version | TraceRef | None

birth: Final = current_trace
"""The value in place of a version for a node or container that is made now."""


def unmade(cls: type) -> str:
    """The message for a node without a version: `__new__` made it, and it was filled without graphnode's methods.

    For `walk` and assignments, where Python would say only that `_version` is missing.
    """
    calls = (
        "super().__setstate__(state), super().__copy__() or super().__deepcopy__(memo)"
    )
    return (
        f"this {cls.__name__} was made by __new__, without its constructor, and filled past graphnode: a __setstate__, "
        f"__copy__ or __deepcopy__ of its class calls {calls}, and a __new__ leaves the fields to the constructor. "
        "gn.clone and gn.view copy a node, too"
    )


def trace_of_version(version: AnyVersion) -> TraceRef | None:
    """The trace that a node or container of this version was made in; `None` outside of all traces.

    For `check_owner`: in its own trace a node may change its structure.
    """
    return version.trace if isinstance(version, Version) else version


def first_version(before: AnyVersion, now: Version) -> Version:
    """The version of a node that becomes part of a binding.

    `now`, if the node was born in the trace that runs; else a new version with the
    trace of its birth, so that the structure stays closed to all other traces.

    Args:
        before: The node's version so far, or the trace of its birth.
        now: A version made now, which all nodes of the binding share that were born in the running trace.
    """
    if before == now.trace:
        return now
    version = Version()
    version.trace = trace_of_version(before)
    return version


class Clock:
    """The token of the latest structural write to anything that is part of a binding."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = Version()


CLOCK: Final = Clock()


def check_owner(version: AnyVersion, where: str) -> None:
    """Raise if a node or container with this version must not change its structure now.

    A change would stay behind after the trace, once and not at each call of what was
    traced.

    Raises:
        TraceError: A JAX transformation runs that it was not made in.
    """
    if not is_tracing():
        return
    if trace_of_version(version) != current_trace():
        raise TraceError(
            f"{where} belongs to a node from outside of the running JAX transformation, whose structure must not "
            "change inside: the change would stay after the trace. Change it outside, or return a new node"
        )
