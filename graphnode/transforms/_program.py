"""`Program`: what `jit` compiles of a function for one signature, from the traces of it.

    Program.run(call)
        │ the values of the States that were touched and captured, other leaves
        ▼
    jax.jit(traced)(donated, values, captured, leaves)
        │ once for each shapes, JAX traces `traced`:
        │     a `Trace` of the function, evaluated with these as its inputs
        ▼
    outcome ──► Call.write

So a call costs Python for the States that are touched, and not for all that the model
has. The user's function is traced once for each shapes.

A later trace may look at more States than the program takes. Then JAX's trace ends with
`Wider`, and the program goes on with an `Executable` that takes them too.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import jax

from .._compat import PLAIN, is_tracing, using_context
from .._constrain import ACTIVATIONS, placed, staying
from .._graph._binding_cache import binding_of_list
from .._marks import mark_lost
from .._reads import READING
from .._signals import undivided
from .._state import State
from .._value import is_container
from ._arguments import Values, name_of, show_as
from ._boundary import Call
from ._input_names import note_input_names, note_other_layouts
from ._pure import ACTIVE, Outcome
from ._retrace import History
from ._shardings import Shardings
from ._signature import CallSite
from ._surroundings import Held
from ._trace import Gone, Inputs, Trace, Wider
from ._written import Written


class Options(NamedTuple):
    """What `jit` was asked for, apart from the function; positions count a bound node too."""

    static_argnums: frozenset[int]
    static_argnames: frozenset[str]
    donate: bool
    donate_argnums: frozenset[int]
    donate_argnames: frozenset[str]
    keep_unused: bool
    inline: bool
    in_shardings: Shardings | None = None
    out_shardings: Shardings | None = None
    compiler_options: tuple[tuple[str, str | bool], ...] | None = None

    @property
    def has_shardings(self) -> bool:
        """Whether the layout of any input or output is given."""
        return self.in_shardings is not None or self.out_shardings is not None

    @property
    def for_compiler(self) -> dict[str, Any] | None:
        """The options of XLA, as JAX takes them."""
        return None if self.compiler_options is None else dict(self.compiler_options)

    @property
    def is_donating(self) -> bool:
        """Whether anything may be donated."""
        return bool(self.donate or self.donate_argnums or self.donate_argnames)


# Of States or leaves.
Row: TypeAlias = Sequence[Any]
# What the compiled function takes: the values and leaves that are donated, the other
# values that were touched, those that were captured, and the other leaves.
Arguments: TypeAlias = tuple[tuple[Row, Row], Row, Row, Row]


class Program:
    """A function that is compiled for one signature: the traces of it decide what it takes."""

    def __init__(self, call: Call, options: Options, history: History) -> None:
        """Trace the function of a call, to see what it looks at and what it writes.

        Args:
            call: The call, which is to come next.
            options: Of `jit`.
            history: Of the traces of the function.
        """
        self._options, self._history = options, history
        self._begin(call)

    def _begin(self, call: Call) -> None:
        """Take what a trace of the function for a call looks at, and nothing else."""
        values = call.binding.peek()
        trace = _traced(call, self._history, values, call.other_leaves)
        self._take(call, trace, None)

    def run(self, call: Call) -> Outcome:
        """Call what is compiled, and write what it wrote into the caller's States."""
        executable = self.executable
        try:
            return executable.run(call)
        except Wider as wider:
            self._take(call, wider.trace, executable)
        except Gone:
            self._begin(call)
        except ValueError as error:
            executable.explain(error, call)
            raise
        return self.run(call)

    def staged(self, call: Call, stage: Literal["trace", "eval_shape"]) -> Any:
        """What JAX makes of a call without running it."""
        executable = self.executable
        try:
            return getattr(executable.jitted, stage)(*executable.arguments(call))
        except Wider as wider:
            self._take(call, wider.trace, executable)
        except Gone:
            self._begin(call)
        except ValueError as error:
            executable.explain(error, call)
            raise
        return self.staged(call, stage)

    def _take(self, call: Call, trace: Trace, before: "Executable | None") -> None:
        """From here on take all States that a trace looked at, which was made for a call that is to come next.

        Args:
            call: The call.
            trace: The trace.
            before: What is compiled for fewer States, if there is any.
        """
        call.trace = trace
        inputs = trace.inputs
        donating = _Donating.of(call, self._options, trace.written)
        outputs: tuple[int, ...] = ()
        # The layout of outputs has to be said before anything is traced.
        if self._options.has_shardings:
            outputs = trace.written.numbers
        if before is not None:
            inputs = inputs.with_those_of(before.inputs)
            donating = donating.with_those_of(before.donating)
            outputs = tuple(sorted({*outputs, *before.outputs}))
        self.executable = Executable(
            call, inputs, donating, outputs, trace, self._options, self._history
        )


class _Donating(NamedTuple):
    """What is donated to a compiled function.

    Attributes:
        numbers: The numbers of the States of the arguments, ascending.
        leaves: Those of the other leaves.
    """

    numbers: tuple[int, ...] = ()
    leaves: tuple[int, ...] = ()

    @classmethod
    def of(cls, call: Call, options: Options, written: Written) -> "_Donating":
        """What is donated of the arguments of a call that writes these: of nodes the written States, of others all."""
        if not options.is_donating:
            return cls()
        nodes, leaves = _named_leaves(call, options)
        donating = _donating_states(call, options, nodes)
        states = call.binding.states
        numbers = [number for number in written.numbers if states[number] in donating]
        return cls(tuple(numbers), tuple(leaves))

    def with_those_of(self, other: "_Donating") -> "_Donating":
        """These and those of another, each once."""
        return _Donating(
            tuple(sorted({*self.numbers, *other.numbers})),
            tuple(sorted({*self.leaves, *other.leaves})),
        )


class Executable:
    """A function that JAX compiles, of some of the States and all other leaves.

    JAX is told at the start what is donated, but only a trace says what is written. So a
    State that only a later trace writes is not donated, and one that a later trace does
    not write is given back as it was.

    Attributes:
        inputs: The States that it takes.
        donating: Which of these, and of the other leaves, are donated.
        outputs: The numbers of States whose values it gives in any case.
        jitted: What JAX made of it.
    """

    def __init__(
        self,
        call: Call,
        inputs: Inputs,
        donating: _Donating,
        outputs: tuple[int, ...],
        trace: Trace,
        options: Options,
        history: History,
    ) -> None:
        """Prepare what JAX is to compile; nothing is traced yet.

        Args:
            call: A call of the signature.
            inputs: The States that it takes.
            donating: Which of these, and of the other leaves, are donated.
            outputs: The numbers of States whose values it gives in any case.
            trace: The trace that it is made after.
            options: Of `jit`.
            history: Of the traces of the function.
        """
        self.inputs: Inputs = inputs
        self.donating: _Donating = donating
        self.outputs: tuple[int, ...] = outputs
        self._history = history
        # What is given back without being written: no write, unless its memory is gone.
        self._completed = tuple(sorted({*outputs, *donating.numbers}))
        self._has_shardings = options.has_shardings
        self._in_shardings = options.in_shardings
        self.is_donating: bool = bool(donating.numbers or donating.leaves)
        retained = [n for n in inputs.touched if n not in {*donating.numbers}]
        self._retained = tuple(retained)
        self._pick = picker(self._retained, len(call.binding.states))
        self._pick_donated = picker(donating.numbers)
        leaf_count = len(call.other_leaves)
        retained_leaves = [n for n in range(leaf_count) if n not in {*donating.leaves}]
        self._pick_leaves = picker(retained_leaves)
        self._pick_donated_leaves = picker(donating.leaves)
        self._leaf_order = (*donating.leaves, *retained_leaves)
        self._may_reshape = False
        self._result_def = trace.result_def
        # Under a plan, a State that is written stays where the plan has put it. XLA
        # would lay out a parameter as what the optimizer remembers of it.
        self._places: dict[int, Any] = {}
        if ACTIVATIONS.get() is not None:
            self._places = dict(enumerate(map(placed, call.binding.peek())))

        def run(
            donated: tuple[Row, Row], values: Row, captured: Row, other_leaves: Row
        ) -> Outcome:
            """What JAX compiles: a trace of the user's function, with these in the places of its inputs."""
            return self._traced(donated, values, captured, other_leaves)

        show_as(run, call.function)
        self.jitted: Any = jax.jit(
            run,
            donate_argnums=0 if self.is_donating else (),
            keep_unused=options.keep_unused,
            inline=options.inline,
            compiler_options=options.for_compiler,
            **self._shardings(call, trace, options),
        )

    def _shardings(self, call: Call, trace: Trace, options: Options) -> dict[str, Any]:
        """For `jax.jit`: the layouts of what it takes and gives, as far as the caller says."""
        if not options.has_shardings:
            return {}
        layouts: dict[str, Any] = {}
        of_states: Sequence[Any] = [None] * len(call.binding.states)
        if options.in_shardings is not None:
            spread = options.in_shardings.of_call(call)
            of_states, of_leaves = spread.values, spread.other_leaves
            retained = self._pick_leaves(of_leaves)
            layouts["in_shardings"] = (
                (self._pick_donated(of_states), self._pick_donated_leaves(of_leaves)),
                list(self._pick(of_states)),
                None,
                # Of the same type as in `arguments`.
                retained if self.is_donating else list(retained),
            )
        # What a State is said to be laid out as, it stays laid out as. Where nothing is
        # said, the values of later calls may have any layout: XLA chooses, as in
        # `jax.jit`.
        new_values = tuple([of_states[number] for number in self._completed])
        of_result = None
        if options.out_shardings is not None:
            of_result = options.out_shardings.of_result(trace.shapes[2])
        layouts["out_shardings"] = (None, new_values, of_result)
        return layouts

    def explain(self, error: ValueError, call: Call) -> None:
        """Note in an error of JAX what the user calls the inputs that are wrong."""
        note_input_names(error, self.input_names(call.site, call.held))
        if self._in_shardings is not None:
            note_other_layouts(error, call, self._in_shardings, self.inputs.touched)

    def input_names(self, site: CallSite, held: Held) -> dict[str, str]:
        """What the user calls each input, by the names that JAX gives them."""
        states, leaves = site.state_names(), site.other_leaf_names()
        donated_count = len(self.donating.leaves)
        rows = {
            "donated[0]": [states[number] for number in self.donating.numbers],
            "donated[1]": [leaves[at] for at in self._leaf_order[:donated_count]],
            "values": [states[number] for number in self._retained],
            "captured": self.inputs.captured_names(held),
            "other_leaves": [leaves[at] for at in self._leaf_order[donated_count:]],
        }
        return {
            f"{row}[{at}]": name
            for row, names in rows.items()
            for at, name in enumerate(names)
        }

    def run(
        self, call: Call, compiled: Callable[..., Outcome] | None = None
    ) -> Outcome:
        """Call what is compiled, and write what it wrote into the caller's States.

        Args:
            call: The call.
            compiled: What was compiled ahead of time, if it is not to be `jitted`.
        """
        run = compiled or self.jitted
        if self.is_donating:
            return self._run_undivided(call, run)
        arguments = self.arguments(call)
        if READING.reads is None:
            outcome: Outcome = run(*arguments)
        else:
            # Inside of another function's trace: what is compiled is the same there.
            with using_context(None):
                outcome = run(*arguments)
        # The arguments hold the old values, as only touched States are written.
        call.write(outcome[0], outcome[1], arguments)
        return outcome

    def arguments(self, call: Call) -> Arguments:
        """What the compiled function takes of a call.

        Raises:
            TraceError, DonationError: A State that it looks at must not be read now.
        """
        binding = call.binding
        states = self._pick(binding.states)
        # As `Binding.values_of`, with one loop for the many States of a large step. A
        # list, as making a tuple of it would be another.
        if binding.has_marks or is_tracing():
            values = list(binding.values_of(states))
        else:
            values = [state._value for state in states]
        captured = self.inputs.captured_values(call) if self.inputs.captured else ()
        if not self.is_donating:
            return _NOTHING_DONATED, values, captured, call.other_leaves
        retained = values, captured, self._pick_leaves(call.other_leaves)
        donated = (
            binding.values_of(self._pick_donated(binding.states)),
            self._pick_donated_leaves(call.other_leaves),
        )
        leaves = jax.tree.leaves((donated, retained))
        # JAX refuses an array that is donated and stands in a second place, too.
        if len(set(map(id, leaves))) < len(leaves):
            donated = _unshared(donated, retained)
        return donated, *retained

    def _run_undivided(self, call: Call, run: Callable[..., Outcome]) -> Outcome:
        """Call what is compiled, and write what it wrote, where memory is donated.

        Once memory is gone, no signal comes between the call and the writes; if the
        call fails, the States say so.
        """
        if self._may_reshape:
            # Before any memory is gone. JAX keeps the trace, which says what will be
            # written.
            written, values, _ = self.jitted.eval_shape(*self.arguments(call))
            call.check_contracts(written, values)
        # What is donated of the other leaves has no State that could be marked.
        states = self._pick_donated(call.binding.states)

        def is_gone() -> bool:
            """Whether memory was given away: from there on, the call must not be interrupted."""
            return any([_is_deleted(state._value) for state in states])

        def run_and_write() -> Outcome:
            """Call what is compiled and write; if that fails after memory is gone, mark the States that lost it."""
            try:
                outcome = run(*self.arguments(call))
            except BaseException:
                # An error before the memory is gone leaves all values as they were.
                if is_gone():
                    mark_lost(_losses(states), _LOSS.format(name_of(call.function)))
                raise
            call.write(outcome[0], outcome[1])
            return outcome

        return undivided(run_and_write, is_gone)

    def _traced(
        self, donated: tuple[Row, Row], values: Row, captured: Row, other_leaves: Row
    ) -> Outcome:
        """The outcome, while JAX traces: by the trace that was made for this call, or by one for these shapes.

        Raises:
            Wider: The function looks at States that this does not take.
        """
        call = ACTIVE.call
        assert isinstance(call, Call)
        numbers = (*self.donating.numbers, *self._retained)
        by_number = dict(zip(numbers, (*donated[0], *values), strict=True))
        by_place = dict(
            zip(self._leaf_order, (*donated[1], *other_leaves), strict=True)
        )
        leaves = [by_place[place] for place in range(len(by_place))]
        by_key = dict(zip(self.inputs.captured, captured, strict=True))
        # Once: JAX keeps what it makes of it.
        trace, call.trace = call.trace, None
        if trace is None or not trace.fits(by_number, by_key, leaves):
            all_values = dict(enumerate(call.binding.peek())) | by_number
            trace = _traced(call, self._history, tuple(all_values.values()), leaves)
        # The layouts are those of one result and of the States that it comes with.
        is_laid_out = not self._has_shardings or (
            self._result_def == trace.result_def
            and {*trace.written.numbers} <= {*self.outputs}
        )
        if not (trace.inputs.are_among(self.inputs) and is_laid_out):
            raise Wider(trace)
        outcome = _with_all(
            trace.outcome(by_number, by_key, leaves),
            self._completed,
            by_number,
            self.donating.numbers,
        )
        if outcome[0].reshaped:
            self._may_reshape = True
            # A contract that it breaks ends the call.
            call.check_contracts(outcome[0], outcome[1])
        if not self._places:
            return outcome
        written, new_values, result = outcome
        pairs = zip(written.numbers, new_values, strict=True)
        new_values = tuple(
            [staying(value, self._places.get(number)) for number, value in pairs]
        )
        return written, new_values, result


def _traced(
    call: Call, history: History, values: Values, other_leaves: Sequence[Any]
) -> Trace:
    """A trace of the function of a call, which its history knows of.

    Args:
        call: The call.
        history: Of the traces of the function.
        values: The values of all States, or others of the shapes to trace with.
        other_leaves: The other leaves.
    """
    record = history.begin(call.site, values, other_leaves, call.held)
    try:
        trace = Trace(call, call.pure().noted, values, other_leaves)
    except BaseException as error:
        history.fail(record, error)
        raise
    inputs = trace.inputs
    history.finish(record, inputs.touched, inputs.captured_types(call.held))
    return trace


_NOTHING_DONATED: Final[tuple[Row, Row]] = ((), ())


def picker(
    numbers: Sequence[int], length: int | None = None
) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that gives the items of a row at these places, by a loop that runs in C.

    Args:
        numbers: The places, ascending.
        length: How long the row is, a tuple; of one that is wanted as a whole, the
            function gives the row itself.
    """
    if len(numbers) == length:
        return tuple
    if not numbers:
        return lambda row: ()
    if len(numbers) == 1:
        (number,) = numbers
        return lambda row: (row[number],)
    return itemgetter(*numbers)


def _with_all(
    outcome: Outcome,
    numbers: Sequence[int],
    values: Mapping[int, Any],
    donated: Sequence[int],
) -> Outcome:
    """An outcome that has the values of all these States, also of those that were not written.

    Args:
        outcome: What a trace gives.
        numbers: The numbers of the States.
        values: The values of all States before.
        donated: The numbers of those whose memory is gone: they have to be written back.
    """
    written, new_values, result = outcome
    missing = {
        number: values[number] for number in numbers if number not in written.numbers
    }
    if not missing:
        return outcome
    by_number = dict(zip(written.numbers, new_values, strict=True)) | missing
    # In layout order, as are the values that go with them.
    ordered = tuple(sorted(by_number))
    containers = [number for number in missing if is_container(missing[number])]
    return (
        dataclasses.replace(
            written,
            numbers=ordered,
            containers=written.containers.union(containers),
            unchanged=frozenset(missing).difference(donated),
        ),
        tuple([by_number[number] for number in ordered]),
        result,
    )


def _donating_states(
    call: Call, options: Options, nodes: Sequence[int]
) -> set[State[Any]]:
    """The States that are donated if the function writes them: all, or those of the nodes that are named.

    Args:
        call: The call.
        options: Of `jit`.
        nodes: The nodes that are named, by their number among all leaves.
    """
    if options.donate:
        return set(call.binding.states)
    # From the number among all leaves to the one among the roots.
    roots = [call.roots[call.signature.places.index(at)] for at in nodes]
    return set(binding_of_list(roots).states) if roots else set()


def _is_deleted(value: Any) -> bool:
    """Whether the memory of a State's value was given away, so that no value is left if the call fails."""
    return any(
        type(leaf) in PLAIN and leaf.is_deleted() for leaf in jax.tree.leaves(value)
    )


def _losses(states: Sequence[State[Any]]) -> list[tuple[State[Any], Any]]:
    """The States whose memory was given away, each with the value that is gone.

    For `mark_lost`: whoever reads one of them is told what became of its value.

    Values are read once: another thread may write a new one, which is not lost.
    """
    pairs = [(state, state._value) for state in states]
    return [(state, value) for state, value in pairs if _is_deleted(value)]


_LOSS: Final = (
    "its memory was donated to a call of {} that failed, and no value is left: give it one, from a copy that was saved "
    "before, or build the node anew"
)


def _unshared(donated: Any, retained: Any) -> Any:
    """What is donated, with copies of the arrays that stand in a second place: they cannot be gone in one alone.

    JAX refuses a call that donates such an array.
    """
    seen = set(map(id, jax.tree.leaves(retained)))

    def own(leaf: Any) -> Any:
        """An array, or a copy of it if it was seen before."""
        # Equal numbers are one object, too
        if id(leaf) in seen and isinstance(leaf, jax.Array):
            return leaf.copy()
        seen.add(id(leaf))
        return leaf

    return jax.tree.map(own, donated)


def _named_leaves(call: Call, options: Options) -> tuple[list[int], list[int]]:
    """For `_Donating`: the leaves of the arguments that `donate_argnums` and `donate_argnames` name.

    Returns:
        Nodes and States, by their number among all leaves; then the others, by theirs among
        those that are not nodes.
    """
    named: set[int | str] = {*options.donate_argnums, *options.donate_argnames}
    places = list(itertools.chain(*call.signature.leaf_places(named)))
    nodes = [place.leaf for place in places if place.other is None]
    return nodes, sorted([place.other for place in places if place.other is not None])
