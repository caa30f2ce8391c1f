"""`explain_retrace`: what made JAX trace a function again.

Every trace of a function under `jit` leaves a `Seen` in the function's history: the
form of its arguments, with the shapes and dtypes of all values. The last one is
compared with the closest earlier one.
"""

import itertools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from .._caches import LOCK
from .._graph._diff import differences
from .._static import ANOTHER, texts_apart
from ._arguments import Function, Static, Values
from ._kept import remembered
from ._methods import target_of
from ._signature import CallSite
from ._type_text import type_text

_LIMIT: Final = 32
_LOGGER: Final = logging.getLogger("graphnode")


class Seen(NamedTuple):
    """One trace: the form of the arguments, and the shape and dtype of each value, by its name."""

    site: CallSite
    statics: dict[str, Static]
    leaves: dict[str, str]
    states: dict[str, str]
    error: str | None = None  # the class of what it raised


class History:
    """The traces of one function: how many, and the latest of them.

    Threads: both are one tuple, which is replaced as a whole; who explains it looks at
    one such tuple.
    """

    def __init__(self, function: Function) -> None:
        # By name: the function holds its history.
        self._name = getattr(function, "__qualname__", repr(function))
        self._log: tuple[int, tuple[Seen, ...]] = (0, ())

    def add(self, site: CallSite, values: Values, rest: Sequence[Any]) -> Seen:
        """Note a trace that begins, and log it if the environment says `GRAPHNODE_LOG=retrace`."""
        seen = _seen(site, values, rest)
        with LOCK:
            count, earlier = self._log
            log = self._log = (count + 1, (*earlier, seen)[-_LIMIT:])
        if "retrace" in os.environ.get("GRAPHNODE_LOG", "").split(","):
            if not _LOGGER.hasHandlers():
                _LOGGER.addHandler(logging.StreamHandler())
            _LOGGER.setLevel(logging.INFO)
            _LOGGER.info(self._explained(log))
        return seen

    def fail(self, failed: Seen, error: BaseException) -> None:
        """Note that a trace raised."""
        with LOCK:
            count, earlier = self._log
            name = type(error).__name__
            self._log = (
                count,
                tuple(
                    [
                        seen._replace(error=name) if seen is failed else seen
                        for seen in earlier
                    ]
                ),
            )

    def explain(self) -> str:
        """What the last trace differs in from the closest earlier one."""
        return self._explained(self._log)

    def _explained(self, log: tuple[int, tuple[Seen, ...]]) -> str:
        count, seen = log
        if not count:
            return f"gn.jit: {self._name} has not been traced yet"
        *earlier, last = seen
        times = f"gn.jit: {self._name} was traced {'once' if count == 1 else f'{count} times'}"
        if last.error is not None:
            return f"{times}; {_failures(seen)}: a trace that raises is not kept, and the next call traces again"
        kept = [trace for trace in earlier if trace.error is None]
        if not kept:
            return (
                f"{times}; the earlier traces raised {_names(earlier)}"
                if earlier
                else times
            )
        closest = min((_differences(trace, last) for trace in reversed(kept)), key=len)
        changes = closest or [
            "nothing in the arguments: JAX's configuration, a sharding or a device is another"
        ]
        lines = "".join(f"\n  {line}" for line in changes[:20])
        return f"{times}; the last differs from the closest before in{lines}"


def history_of(function: Function) -> History:
    """The history of a function, kept on it."""
    return remembered(function, "history", None, lambda: History(function))


def explain_retrace(fun: Callable[..., object], /) -> str:
    """Say what made JAX trace a function under `jit` for the last time.

    The arguments of that call are compared with those of the closest earlier trace:
    static fields and arguments with both values, paths that appeared or vanished,
    shapes and dtypes. The same text is logged at each trace where the environment says
    `GRAPHNODE_LOG=retrace`.

    Args:
        fun: What was given to `jit`, or what it gave.

    Returns:
        One line for each difference, below a first one that counts the traces.

    Raises:
        TypeError: `fun` is not a function, method or callable node.

    Example:
        >>> @gn.jit
        ... def double(x):
        ...     return 2 * x
        >>> _ = double(jnp.ones(2)), double(jnp.ones(3))
        >>> print(gn.explain_retrace(double))
        gn.jit: double was traced 2 times; the last differs from the closest before in
          x: float32[2] != float32[3]
    """
    history: History | None = getattr(fun, "_history", None)
    return (history or history_of(target_of(fun)[0])).explain()


def _seen(site: CallSite, values: Values, rest: Sequence[Any]) -> Seen:
    leaves, states = site.rest_names(), site.state_names()
    return Seen(
        site,
        site.statics(),
        {name: type_text(leaf) for name, leaf in zip(leaves, rest, strict=True)},
        {name: type_text(value) for name, value in zip(states, values, strict=True)},
    )


def _differences(left: Seen, right: Seen) -> list[str]:
    found = _static_changes(left.statics, right.statics) + _changes(
        left.leaves, right.leaves
    )
    if left.site.signature.graphdef is not right.site.signature.graphdef:
        left_place, right_place = left.site.path_name, right.site.path_name
        for one in differences(
            left.site.signature.graphdef,
            right.site.signature.graphdef,
            left_place,
            right_place,
        ):
            # A root may be there in one of the two alone.
            is_in_right = not one.path or int(one.path[0]) < len(
                right.site.signature.places
            )
            place = (right_place if is_in_right else left_place)(one.path)
            found.append(f"{place}: {one.left} != {one.right}")
    found += [
        change
        for change in _changes(left.states, right.states)
        if " != " in change or not found
    ]
    # Where the same names stand in another tree, as when an argument is given by its
    # name.
    names = [
        (seen.site.signature.graphdef, seen.statics, set(seen.leaves))
        for seen in (left, right)
    ]
    is_same = names[0] == names[1]
    if left.site.signature.treedef != right.site.signature.treedef and (
        is_same or not found
    ):
        texts = str(left.site.signature.treedef), str(right.site.signature.treedef)
        found.append(
            f"the pytree of arguments: {texts[0]} != {texts[1] if texts[0] != texts[1] else ANOTHER}"
        )
    return found


def _failures(seen: Sequence[Seen]) -> str:
    """What the last traces raised, from the last one back to one that did not."""
    failed = list(
        itertools.takewhile(lambda trace: trace.error is not None, reversed(seen))
    )
    number = len(failed)
    which = (
        "it" if len(seen) == 1 else "the last" if number == 1 else f"the last {number}"
    )
    return f"{which} raised {_names(failed)}"


def _names(failed: Sequence[Seen]) -> str:
    return " and ".join(
        sorted({trace.error for trace in failed if trace.error is not None})
    )


def _static_changes(left: dict[str, Static], right: dict[str, Static]) -> list[str]:
    changed = [
        (name, left[name], right[name])
        for name in left
        if name in right and left[name] != right[name]
    ]
    lines = [
        f"{name}: {' != '.join(texts_apart(a.value, b.value))}"
        for name, a, b in changed
    ]
    alone_left = {name: repr(left[name]) for name in left if name not in right}
    alone_right = {name: repr(right[name]) for name in right if name not in left}
    return lines + _changes(alone_left, alone_right)


def _changes(left: dict[str, str], right: dict[str, str]) -> list[str]:
    changed = [
        f"{name}: {left[name]} != {right[name]}"
        for name in left
        if name in right and left[name] != right[name]
    ]
    appeared = [f"{name} appeared: {right[name]}" for name in right if name not in left]
    return (
        changed
        + appeared
        + [f"{name} vanished: {left[name]}" for name in left if name not in right]
    )
