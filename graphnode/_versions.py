"""Versions and the clock: how a change of structure is noticed without a walk.

A node or container that is part of a binding has a version, a token that is replaced at
every structural write; the clock's token is replaced after it. A binding whose clock
reading is current is valid without a look at anything else.

A version remembers the trace that it was made in: inside of a JAX transformation, only
what was made there changes its structure. What is part of no binding yet has the trace
of its birth in place of a version, so that its writes do not move the clock.

Threads: a writer changes the structure, then the version, then the clock; version and
clock ahead of it too, as an interrupt may come right after the change. A binding is
built by giving versions first and reading the structure after, and validated by reading
the clock first and comparing versions after. Whatever the interleaving, a binding that
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
        self.trace = current_trace()


class Constructing(Version):
    """The version of a node whose constructor still runs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "CONSTRUCTING"


class PastScope(Constructing):
    """The version of a node whose constructor still runs, and has left a scope of random numbers that it had opened."""

    __slots__ = ()

    def __init__(self, before: Constructing) -> None:
        self.trace = before.trace


CONSTRUCTING: Final = Constructing()
"""The version of a node whose constructor runs outside of all transformations: what most are."""


def constructing() -> Constructing:
    """The version of a node whose constructor starts now."""
    return Constructing() if is_tracing() else CONSTRUCTING


# What stands where a version may stand: in a node or container that no binding has
# seen, the trace of its birth.
AnyVersion: TypeAlias = Version | TraceRef | None

birth: Final = current_trace
"""What stands in place of the version of a node or container that is made now."""


def unmade(cls: type) -> str:
    """What is wrong with a node without a version: `__new__` made it, and nothing here has filled it."""
    calls = (
        "super().__setstate__(state), super().__copy__() or super().__deepcopy__(memo)"
    )
    return (
        f"this {cls.__name__} was made by __new__, without its constructor, and filled past graphnode: a __setstate__, "
        f"__copy__ or __deepcopy__ of its class calls {calls}, and a __new__ leaves the fields to the constructor. "
        "gn.clone and gn.view copy a node, too"
    )


def trace_of_version(version: AnyVersion) -> TraceRef | None:
    """The trace that a node or container of this version was made in; `None` outside of all."""
    return version.trace if isinstance(version, Version) else version


def first_version(before: AnyVersion, now: Version) -> Version:
    """The version of what comes into a binding: `now`, unless it was born in another trace than that."""
    if before == now.trace:
        return now
    version = Version()
    version.trace = trace_of_version(before)
    return version


class Clock:
    """Holds the token of the latest structural write to anything that is part of a binding."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = Version()


CLOCK: Final = Clock()


def check_owner(version: AnyVersion, where: str) -> None:
    """Raise if the structure of what has this version must not change now.

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
