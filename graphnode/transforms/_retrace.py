"""`explain_retrace`: what made JAX trace a function again.

Every trace of a function under `jit` leaves a `TraceRecord` in the function's history: the
signature of its arguments, with the shapes and dtypes of all values. The last one is
compared with the closest earlier one.
"""

import itertools
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from .._caches import LOCK
from .._graph._diff import differences
from .._static import ANOTHER, distinct_texts
from ._arguments import Function, Static, Values
from ._boundary import Call
from ._content import content_text
from ._kept import remembered
from ._methods import target_of
from ._signature import CallSite
from ._surroundings import Held
from ._trace import Inputs
from ._type_text import type_text

# How many traces are remembered: enough for a function that takes turns among some
# signatures, and each record holds a row of texts for all States.
_LIMIT: Final = 32
_LOGGER: Final = logging.getLogger("graphnode")


class TraceRecord(NamedTuple):
    """One trace: the signature of the arguments, and the shape and dtype of each value, by its name.

    Of States there are those that it looked at: of the arguments, and captured ones.
    """

    site: CallSite
    statics: dict[str, Static]
    leaves: dict[str, str]
    states: dict[str, str]
    held: Held
    captured: dict[str, str]
    error: str | None = None  # the class of what it raised


class History:
    """The traces of one function: how many, and the latest of them.

    Threads: both are one tuple, which is replaced as a whole; who explains it looks at
    one such tuple.
    """

    def __init__(self, function: Function) -> None:
        """Begin without traces; of the function only its name is kept, for messages."""
        # By name: the function holds its history.
        self._name = getattr(function, "__qualname__", repr(function))
        self._log: tuple[int, tuple[TraceRecord, ...]] = (0, ())

    def begin(
        self, site: CallSite, values: Values, other_leaves: Sequence[Any], held: Held
    ) -> TraceRecord:
        """Note a trace that begins."""
        record = _record_of(site, values, other_leaves, held)
        with LOCK:
            count, earlier = self._log
            self._log = (count + 1, (*earlier, record)[-_LIMIT:])
        return record

    def finish(
        self, record: TraceRecord, touched: Collection[int], captured: Mapping[str, str]
    ) -> None:
        """Note what a trace looked at: nothing else makes JAX trace again. Logged under `GRAPHNODE_LOG=retrace`.

        Args:
            record: Of the trace.
            touched: The numbers of the States of the arguments.
            captured: The types of the States of outside, by their name in messages.
        """
        states = _at(record.states, touched)
        finished = record._replace(states=states, captured=dict(captured))
        self._replace(record, finished)

    def _replace(self, record: TraceRecord, new: TraceRecord) -> None:
        """Put a record in the place of the one of the same trace, and log it if the environment says so."""
        with LOCK:
            count, records = self._log
            # By identity: an equal trace may have been before it.
            log = count, tuple([new if r is record else r for r in records])
            self._log = log
        if "retrace" in os.environ.get("GRAPHNODE_LOG", "").split(","):
            # Whoever asked by an environment variable may not have set up logging at
            # all.
            if not _LOGGER.hasHandlers():
                _LOGGER.addHandler(logging.StreamHandler())
            _LOGGER.setLevel(logging.INFO)
            _LOGGER.info(self._explained(log))

    def fail(self, failed: TraceRecord, error: BaseException) -> None:
        """Note that a trace raised: JAX kept nothing of it, so that later ones are not compared with it."""
        self._replace(failed, failed._replace(error=type(error).__name__))

    def explain(self) -> str:
        """The text of `explain_retrace`: how the last trace differs from the closest earlier one."""
        return self._explained(self._log)

    def _explained(self, log: tuple[int, tuple[TraceRecord, ...]]) -> str:
        """The text of `explain_retrace`.

        Args:
            log: The number of all traces, and the records of the latest ones.
        """
        count, records = log
        if not count:
            return f"gn.jit: {self._name} has not been traced yet"
        *earlier, last = records
        times = "once" if count == 1 else f"{count} times"
        text = f"gn.jit: {self._name} was traced {times}"
        if last.error is not None:
            return f"{text}; {_failures(records)}: a trace that raises is not kept, and the next call traces again"
        successful = [record for record in reversed(earlier) if record.error is None]
        if not successful:
            if earlier:
                text += f"; the earlier traces raised {_error_names(earlier)}"
            return text
        # `min` gives the first of equals, and so the latest.
        closest = min([_differences(other, last) for other in successful], key=len)
        changes = closest or [
            "nothing in the arguments: JAX's configuration, a sharding or a device is another"
        ]
        lines = "".join(f"\n  {line}" for line in changes[:20])
        return f"{text}; the last differs from the closest before in{lines}"


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
    # That of a `Jitted`. A plain function has it among what is kept on it.
    history: History | None = getattr(fun, "_history", None)
    return (history or history_of(target_of(fun)[0])).explain()


def _record_of(
    site: CallSite, values: Values, other_leaves: Sequence[Any], held: Held
) -> TraceRecord:
    """The record of a trace that begins: the type of each value, under the name that messages give it."""
    leaves, states = site.other_leaf_names(), site.state_names()
    return TraceRecord(
        site,
        site.statics(),
        {
            name: type_text(leaf)
            for name, leaf in zip(leaves, other_leaves, strict=True)
        },
        {name: type_text(value) for name, value in zip(states, values, strict=True)},
        # The structure alone: a record must not keep nodes.
        held._replace(nodes=(), states=()),
        {},
    )


def changes_since(record: TraceRecord, call: Call, inputs: Inputs) -> list[str]:
    """What differs in a call from the one that was traced, in one line each.

    Args:
        record: Of the call that was traced.
        call: The other call.
        inputs: The States that the trace looked at; no others count.
    """
    binding = call.binding
    now = _record_of(call.site, binding.peek(), call.other_leaves, call.held)
    states = {name: now.states[name] for name in record.states if name in now.states}
    captured = record.captured
    # Around another structure there may be none of them, and that is told already.
    if call.held.key == record.held.key:
        captured = inputs.captured_types(call.held)
    return _differences(record, now._replace(states=states, captured=captured))


def record_of(call: Call, inputs: Inputs) -> TraceRecord:
    """The record of a call, with those States that a trace has looked at."""
    record = _record_of(call.site, call.binding.peek(), call.other_leaves, call.held)
    return record._replace(
        states=_at(record.states, inputs.touched),
        captured=inputs.captured_types(call.held),
    )


def _at(states: Mapping[str, str], numbers: Collection[int]) -> dict[str, str]:
    """The States of these numbers, of a row in layout order."""
    selected = [number in numbers for number in range(len(states))]
    return dict(itertools.compress(states.items(), selected))


def _differences(left: TraceRecord, right: TraceRecord) -> list[str]:
    """What differs in two traces, in one line each; the fewer lines, the closer the traces."""
    lines = _static_changes(left.statics, right.statics)
    lines += _changes(left.leaves, right.leaves)
    lines += _structure_changes(left.site, right.site)
    lines += _changes_around(left.held, right.held)
    of_states = _changes(left.captured, right.captured)
    of_states += _changes(left.states, right.states)
    # A State that is new or gone is one of a node that is, which stands there already.
    lines += [change for change in of_states if " != " in change or not lines]
    treedefs = left.site.signature.treedef, right.site.signature.treedef
    # A treedef is long, and has all these names and statics: it is shown where nothing
    # else differs, as when an argument is given by its name.
    if treedefs[0] != treedefs[1] and (not lines or _is_same_content(left, right)):
        texts = list(map(str, treedefs))
        # They differ in what their texts do not show, such as the class of a pytree.
        if texts[0] == texts[1]:
            texts[1] = ANOTHER
        lines.append(f"the pytree of arguments: {' != '.join(texts)}")
    return lines


def _structure_changes(left: CallSite, right: CallSite) -> list[str]:
    """What differs in the structure of the nodes of two traces, in one line each."""
    graphdefs = left.signature.graphdef, right.signature.graphdef
    # Graphdefs are interned: equal ones are the same object.
    if graphdefs[0] is graphdefs[1]:
        return []
    lines: list[str] = []
    for change in differences(*graphdefs, left.path_name, right.path_name):
        # A root may be there in one of the two alone.
        root_count = len(right.signature.places)
        is_in_right = not change.path or int(change.path[0]) < root_count
        site = right if is_in_right else left
        lines.append(f"{site.path_name(change.path)}: {change.left} != {change.right}")
    return lines


def _changes_around(left: Held, right: Held) -> list[str]:
    """What differs in the nodes that the function closes over, in one line each."""
    if left.key == right.key:
        return []
    if left.paths != right.paths or left.graphdef is None or right.graphdef is None:
        names = [", ".join(held.names) or "nothing" for held in (left, right)]
        return [f"nodes around the function: {' != '.join(names)}"]
    changes = differences(
        left.graphdef, right.graphdef, left.path_name, right.path_name
    )
    lines = [
        f"{right.path_name(change.path)}: {change.left} != {change.right}"
        for change in changes
    ]
    return lines + _changed_helpers(left, right)


def _changed_helpers(left: Held, right: Held) -> list[str]:
    """Which functions around the function, and which classes of objects there, are others, in one line each."""
    before = dict(zip(left.helper_paths, left.helpers, strict=True))
    now = dict(zip(right.helper_paths, right.helpers, strict=True))
    changed = [path for path, helper in now.items() if before.get(path) != helper]
    gone = [path for path in before if path not in now]
    return [
        f"{content_text(path)}: another function or class" for path in changed + gone
    ]


def _is_same_content(left: TraceRecord, right: TraceRecord) -> bool:
    """Whether the same nodes, static arguments and names of leaves stand in both: only the treedefs can differ then."""
    contents = [
        (record.site.signature.graphdef, record.statics, set(record.leaves))
        for record in (left, right)
    ]
    return contents[0] == contents[1]


def _failures(records: Sequence[TraceRecord]) -> str:
    """For a message: what the latest traces raised, back to the last one that succeeded."""
    failed = list(
        itertools.takewhile(lambda record: record.error is not None, reversed(records))
    )
    subject = "the last" if len(failed) == 1 else f"the last {len(failed)}"
    if len(records) == 1:
        subject = "it"
    return f"{subject} raised {_error_names(failed)}"


def _error_names(failed: Sequence[TraceRecord]) -> str:
    """The classes of the errors that traces raised, each once."""
    names = {record.error for record in failed if record.error is not None}
    return " and ".join(sorted(names))


def _static_changes(left: dict[str, Static], right: dict[str, Static]) -> list[str]:
    """What differs in the static arguments of two traces, by name, in one line each."""
    changed = [
        (name, left[name], right[name])
        for name in left
        if name in right and left[name] != right[name]
    ]
    lines = [
        f"{name}: {' != '.join(distinct_texts(a.value, b.value))}"
        for name, a, b in changed
    ]
    # These texts have nothing to be told apart from.
    alone_left = {name: repr(left[name]) for name in left if name not in right}
    alone_right = {name: repr(right[name]) for name in right if name not in left}
    return lines + _changes(alone_left, alone_right)


def _changes(left: dict[str, str], right: dict[str, str]) -> list[str]:
    """What differs in two mappings from names to texts: other texts, names that appeared, names that vanished."""
    changed = [
        f"{name}: {left[name]} != {right[name]}"
        for name in left
        if name in right and left[name] != right[name]
    ]
    appeared = [f"{name} appeared: {right[name]}" for name in right if name not in left]
    vanished = [f"{name} vanished: {left[name]}" for name in left if name not in right]
    return changed + appeared + vanished
