"""`jit`: compile a function of nodes, and write back what it wrote.

One compiled function is kept for each signature of the arguments, on the user's function
itself: wrapping it again, calling a method of another node or passing an equal model
meets what is compiled already.
"""

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MethodType
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    NamedTuple,
    ParamSpec,
    TypeAlias,
    TypeVar,
    overload,
)

import jax

from .._caches import Memo
from .._compat import DISABLE_JIT, PLAIN, is_tracing
from .._describe import describe
from .._graph._binding_cache import binding_of_list
from .._marks import mark_lost
from .._signals import undivided
from .._state import State
from .._tracebacks import hide_frames
from ._arguments import Values, name_of, named_arguments, with_statics
from ._boundary import Call
from ._kept import forget_kept, remembered
from ._methods import Transformed, target_of
from ._pure import ACTIVE, Outcome, Pure
from ._replay import Replay
from ._retrace import History, history_of
from ._written import Written

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

# What pickle finds an object of a module by.
_NAMES: Final = ("__module__", "__name__", "__qualname__")


class Options(NamedTuple):
    """What `jit` was asked for, apart from the function; positions count a bound node too."""

    static_argnums: frozenset[int]
    static_argnames: frozenset[str]
    donate: bool
    donate_argnums: frozenset[int]
    donate_argnames: frozenset[str]
    keep_unused: bool
    inline: bool


class Jitted(Transformed, Generic[P, R]):
    """A compiled function of nodes: what `jit` gives.

    As an attribute of a class it is a method, whose first argument is the instance.
    """

    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        target, bound = target_of(function)
        # The attributes of a function are about it; those of a node are its fields,
        # which would hide methods of this.
        functools.update_wrapper(
            self, function, updated=() if bound else functools.WRAPPER_UPDATES
        )
        forget_kept(self)
        self._options, self._bound, self._target = options, bound, target
        self._history = history_of(target)
        self._is_donating = bool(
            options.donate or options.donate_argnums or options.donate_argnames
        )
        self._is_plain = not (
            bound or options.static_argnums or options.static_argnames
        )
        self._compiled: Memo[Hashable, _Plain | _Donating] = remembered(
            target, "jit", options, _Compiled
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            # As in JAX: the function itself, with the caller's nodes
            if DISABLE_JIT.value:
                return self._target(*self._bound, *args, **kwargs)  # type: ignore[no-any-return]  # as it gives
            # What `Call.run` does, without its two frames: each call of a compiled
            # function comes through here.
            before = ACTIVE.call
            if self._is_donating and (before is not None or is_tracing()):
                # What an eager `grad` or `vmap` does not trace are arrays of its
                # caller, who keeps them if it raises. So are those of the copies that a
                # custom rule works on, which JAX runs without any trace.
                return self._undonated()(*args, **kwargs)
            call = (
                Call("jit", self._target, args, kwargs)
                if self._is_plain
                else self._call(args, kwargs)
            )
            try:
                ACTIVE.call = call
                outcome = (self._compiled.get(call.key) or self._compile(call)).run(
                    call
                )
            except jax.errors.ConcretizationTypeError as error:
                error.add_note(
                    f"To JAX, {_leaf_names(call)}. Make an argument static with static_argnames."
                )
                raise
            # A leaf that JAX does not take is named; any other error goes on.
            except TypeError:
                call.check_leaves()
                raise
            finally:
                ACTIVE.call = before
            return call.result_of(outcome)  # type: ignore[no-any-return]  # what the function gave
        # Not by `hides_frames`, whose wrapper would be one frame more at each call.
        except BaseException as error:
            hide_frames(error)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        # What is compiled stays here. A class body may have given it other names than
        # those of the function.
        names = {name: self.__dict__[name] for name in _NAMES if name in self.__dict__}
        return Jitted, (self.__wrapped__, self._options), names

    @overload
    def __get__(self, instance: None, owner: type, /) -> "Jitted[P, R]": ...
    @overload
    def __get__(
        self: "Callable[Concatenate[S, Q], R]", instance: S, owner: type, /
    ) -> "Callable[Q, R]": ...
    def __get__(self, instance: Any, owner: type, /) -> Any:
        return self if instance is None else MethodType(self, instance)

    def lower(self, *args: P.args, **kwargs: P.kwargs) -> jax.stages.Lowered:
        """What JAX lowers the call to, without running it; `.compile()` gives its cost and memory analysis."""
        call = self._call(args, kwargs)

        def lowered() -> jax.stages.Lowered:
            """The lowered call; run inside of `Call.run`, so that a leaf which JAX refuses is named."""
            return (self._compiled.get(call.key) or self._compile(call)).lower(
                call.values, call.other_leaves
            )

        return call.run(lowered)  # type: ignore[no-any-return]  # as `lowered` gives

    def clear_cache(self) -> None:
        """Forget all that was compiled for the function under these options."""
        self._compiled.clear()

    def _undonated(self) -> "Jitted[P, R]":
        """The compiled function without donation, which shares the history of traces.

        For calls inside of another transform, which may still need the arrays.
        """
        options = self._options._replace(
            donate=False, donate_argnums=frozenset(), donate_argnames=frozenset()
        )
        target = self._target
        # Not kept: it holds the node, which must not live as long as the function.
        if self._bound:
            return Jitted(self.__wrapped__, options)
        return remembered(target, "undonated", options, lambda: Jitted(target, options))

    def _unbound(self) -> "Jitted[..., R]":
        """The compiled plain function under the same options, which takes the bound node as an argument.

        For `target_of`: to another transform the node must be an argument, not a constant.
        """
        target, options = self._target, self._options
        return remembered(target, "unbound", options, lambda: Jitted(target, options))

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """The call with these arguments: after the bound node, and with the static ones marked."""
        if self._bound:
            args = (*self._bound, *args)
        options = self._options
        # Most calls have none, and are spared the look at the parameters.
        if options.static_argnums or options.static_argnames:
            args, kwargs = with_statics(
                self._target,
                args,
                kwargs,
                options.static_argnums,
                options.static_argnames,
            )
        return Call("jit", self._target, args, kwargs)

    def _compile(self, call: Call) -> "_Plain | _Donating":
        """What is compiled for the signature of a call, kept under its key."""
        kind = _Donating if self._is_donating else _Plain
        return self._compiled.keep(call.key, kind(call, self._options, self._history))


def _leaf_names(call: Call) -> str:
    """For an error of JAX: what the user calls each of the leaves that JAX counts in the pure function."""
    return ", ".join(
        [
            f"other_leaves[{at}] is {name}"
            for at, name in enumerate(call.site.other_leaf_names())
        ]
        + ["values are the States"]
    )


class _Plain:
    """A compiled function that donates nothing."""

    def __init__(self, call: Call, options: Options, history: History) -> None:
        """Wrap the pure function of a call in `jax.jit`, which traces it when it first runs."""
        jitted = jax.jit(
            _logged(call.pure(), history),
            keep_unused=options.keep_unused,
            inline=options.inline,
        )
        self._jitted: Callable[[Values, Sequence[Any]], Outcome] = jitted
        self.lower: Callable[[Values, Sequence[Any]], jax.stages.Lowered] = jitted.lower

    def run(self, call: Call) -> Outcome:
        """Call the compiled function, and write what it wrote into the caller's States."""
        outcome = self._jitted(call.values, call.other_leaves)
        call.write(outcome[0], outcome[1])
        return outcome


class _Donating:
    """A compiled function that donates the values of the States it writes, and the leaves that the caller names.

    JAX is told at the start what is donated, but only a trace says what is written:

        first call   jax.jit(pure).trace ──► _FirstTrace: the written States
                                                   │
                     jax.jit(run, donate_argnums=0)(donated, retained)
                                                   │ traces `run`, once for each shapes
        first shapes       run ──► _FirstTrace.take: evaluates that trace
        other shapes       run ──► the open `Pure`, which runs the user's function

    So the user's function is traced once for each shapes. A State that only a later
    trace writes is not donated, and one that a later trace does not write any more gets
    its old value back: the `Pure` is open.
    """

    def __init__(self, call: Call, options: Options, history: History) -> None:
        """Trace the function of a call once, to see what it writes, and wrap it anew with that donated."""
        self._first = _FirstTrace(call, history)
        written = self._first.written
        nodes, leaves = _named_leaves(call, options)
        donating = _donating_states(call, options, nodes)
        states = call.binding.states
        self._donated = tuple([n for n in written.numbers if states[n] in donating])
        self._values = _Partition(len(states), self._donated)
        self._other_leaves = _Partition(len(call.other_leaves), leaves)
        self._pure = _logged(call.pure(self._donated, is_open=True), history)
        self._may_reshape = bool(written.reshaped)

        def run(
            donated: tuple[Values, Values], retained: tuple[Values, Values]
        ) -> Outcome:
            """What JAX compiles: the function of what is donated and what is retained."""
            values = self._values.join(donated[0], retained[0])
            # A list, as the leaves of a call are: the first trace knows them so.
            other_leaves = list(self._other_leaves.join(donated[1], retained[1]))
            return self._trace(values, other_leaves)

        # The name that profiles and compiler logs show.
        run.__name__ = run.__qualname__ = getattr(call.function, "__name__", "run")
        self._jitted = jax.jit(
            run,
            donate_argnums=0,
            keep_unused=options.keep_unused,
            inline=options.inline,
        )
        # The outcome as shapes and dtypes: JAX keeps the trace for the call itself.
        self._shapes: Callable[[Any, Any], Outcome] = self._jitted.eval_shape

    def run(self, call: Call) -> Outcome:
        """Call the compiled function, and write what it wrote into the caller's States.

        Once memory is gone, no signal comes between the call and the writes; if the
        call fails, the States say so.
        """
        if self._may_reshape:
            # Before any memory is gone. JAX keeps the trace, which says what will be
            # written.
            arguments = self._arguments(call.values, call.other_leaves)
            written, values, _ = self._shapes(*arguments)
            call.check_contracts(written, values)
        # What is donated of the other leaves has no State that could be marked.
        states = [call.binding.states[number] for number in self._donated]

        def is_gone() -> bool:
            """Whether memory was given away: from there on, the call must not be interrupted."""
            return any([_is_deleted(state._value) for state in states])

        def run_and_write() -> Outcome:
            """Call what is compiled and write; if that fails after memory is gone, mark the States that lost it."""
            try:
                arguments = self._arguments(call.values, call.other_leaves)
                outcome: Outcome = self._jitted(*arguments)
            except BaseException:
                # An error before the memory is gone leaves all values as they were.
                if is_gone():
                    mark_lost(_losses(states), _LOSS.format(name_of(call.function)))
                raise
            call.write(outcome[0], outcome[1])
            return outcome

        return undivided(run_and_write, is_gone)

    def lower(self, values: Values, other_leaves: Sequence[Any]) -> jax.stages.Lowered:
        """For `Jitted.lower`: what JAX lowers the function to for these values and leaves, without running it."""
        return self._jitted.lower(*self._arguments(values, other_leaves))

    def _arguments(
        self, values: Values, other_leaves: Sequence[Any]
    ) -> tuple[Any, Any]:
        """The two arguments of what is compiled: the values and leaves that are donated, and all others."""
        donated_values, retained_values = self._values.split(values)
        donated_leaves, retained_leaves = self._other_leaves.split(other_leaves)
        donated = donated_values, donated_leaves
        retained = retained_values, retained_leaves
        leaves = jax.tree.leaves((donated, retained))
        # JAX refuses an array that is donated and stands in a second place, too.
        if len(set(map(id, leaves))) < len(leaves):
            donated = _unshared(donated, retained)
        return donated, retained

    def _trace(self, values: Values, other_leaves: Sequence[Any]) -> Outcome:
        """The outcome of the function while JAX traces it: by the first trace where that fits, or by a new one."""
        outcome = self._first.take(values, other_leaves) or self._pure(
            values, other_leaves
        )
        if outcome[0].reshaped:
            self._may_reshape = True
            # The call that is being traced: a contract that it breaks ends it
            if ACTIVE.call is not None:
                ACTIVE.call.check_contracts(outcome[0], outcome[1])
        return outcome


class _FirstTrace:
    """The first trace of a function that donates: it says what is written, and is compiled itself.

    Attributes:
        written: What the function writes.
    """

    def __init__(self, call: Call, history: History) -> None:
        """Trace the function of a call, with nothing donated yet."""
        traced = jax.jit(_logged(call.pure(), history)).trace(
            call.values, call.other_leaves
        )
        self.written: Written = traced.out_info[0]
        self._replay: Replay | None = Replay(
            traced.jaxpr, call.values, call.other_leaves, traced.out_info
        )

    def take(self, values: Values, other_leaves: Sequence[Any]) -> Outcome | None:
        """The outcome of the function by this trace, once; `None` after that, or for arguments of other types.

        Once: JAX keeps what it made of these types. Held any longer, the trace would
        only keep its constants alive.
        """
        replay, self._replay = self._replay, None
        return None if replay is None else replay.outcome(values, other_leaves)


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


class _Compiled(Memo[Hashable, _Plain | _Donating]):
    """What was compiled of one function under the same options, by the signature of the arguments."""

    __slots__ = ()
    limit = 256


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


class _Partition:
    """Splits a row into the items that are donated and those that are retained, and joins them again.

    JAX donates whole arguments, so that the two go to what is compiled apart.
    """

    def __init__(self, length: int, donated: Sequence[int]) -> None:
        """For `_Donating`: say of a row of values or leaves which of its items are donated, and so all others retained.

        Args:
            length: How many items the row has.
            donated: The numbers of those whose memory JAX may reuse.
        """
        self._donated = donated
        self._retained = [at for at in range(length) if at not in set(donated)]
        self._length = length

    def split(self, row: Sequence[Any]) -> tuple[Values, Values]:
        """For a call of what is compiled: the items of a row that are donated, then those that are retained."""
        donated = tuple([row[number] for number in self._donated])
        return donated, tuple([row[number] for number in self._retained])

    def join(self, donated: Values, retained: Values) -> Values:
        """Inside of what is compiled: the row again, as the pure function takes it, from the two parts of `split`."""
        numbers, items = (*self._donated, *self._retained), (*donated, *retained)
        item_at = dict(zip(numbers, items, strict=True))
        return tuple([item_at[number] for number in range(self._length)])


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


def _logged(pure: Pure, history: History) -> Callable[[Values, Sequence[Any]], Outcome]:
    """`pure`, which notes each of its traces for `gn.explain_retrace`, under the name of the user's function."""

    def run(values: Values, other_leaves: Sequence[Any]) -> Outcome:
        """The pure function; JAX calls it once for each trace."""
        trace = history.add(pure.site, values, other_leaves)
        try:
            return pure(values, other_leaves)
        except BaseException as error:
            history.fail(trace, error)
            raise

    run.__name__ = run.__qualname__ = getattr(pure.site.function, "__name__", "run")
    return run


@overload
def jit(
    fun: Callable[P, R],
    /,
    *,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Iterable[str] = ...,
    donate: bool = ...,
    donate_argnums: int | Sequence[int] = ...,
    donate_argnames: str | Iterable[str] = ...,
    keep_unused: bool = ...,
    inline: bool = ...,
) -> Jitted[P, R]: ...
@overload
def jit(
    *,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Iterable[str] = ...,
    donate: bool = ...,
    donate_argnums: int | Sequence[int] = ...,
    donate_argnames: str | Iterable[str] = ...,
    keep_unused: bool = ...,
    inline: bool = ...,
) -> "Callable[[Callable[P, R]], Jitted[P, R]]": ...
def jit(
    fun: Callable[..., Any] | None = None,
    /,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate: bool = False,
    donate_argnums: int | Sequence[int] = (),
    donate_argnames: str | Iterable[str] = (),
    keep_unused: bool = False,
    inline: bool = False,
) -> Any:
    """Compile a function of nodes and arrays with XLA, as `jax.jit` compiles one of arrays.

    Nodes may be anywhere in the arguments and in the result. The function gets copies,
    whose written States are written back to the caller's, so that a node that goes in
    comes out as the same object; States that are only read are not outputs of
    what is compiled. It is traced once for each structure, shapes and dtypes; see
    `explain_retrace`.

    Args:
        fun: A function, a method or a callable node; left out in
            `@gn.jit(donate=True)`.
        static_argnums: Positions of arguments that are part of what is compiled:
            hashable, compared by type and value.
        static_argnames: Their names, for arguments that are given by name.
        donate: Whether the memory of the States that the function writes is reused for
            their new values.
        donate_argnums: Positions of arguments to donate: of a node the States that are
            written, of others all arrays.
        donate_argnames: Their names.
        keep_unused: As in `jax.jit`.
        inline: As in `jax.jit`.

    Returns:
        The compiled function, with the signature of `fun`.

    Raises:
        ValueError: There is no argument of a position or name.
        StructureError: At a call: the function changes the structure of a node.
        TraceError: At a call: the function writes a State that it did not get as an
            argument.
        FieldError: At a call: a static argument is not hashable.
        TypeError: At a call: an argument is not an array, number or node, or `fun` is
            not a function.

    Example:
        >>> class Counter(gn.Node):
        ...     count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(0)))
        >>> @gn.jit
        ... def advance(counter, by):
        ...     counter.count.value += by
        >>> counter = Counter()
        >>> advance(counter, 2)
        >>> counter.count.value
        Array(2, dtype=int32)
    """
    static_names = _names("static_argnames", static_argnames)
    donate_names = _names("donate_argnames", donate_argnames)

    def wrap(function: Callable[..., Any]) -> Jitted[..., Any]:
        """Compile one function under these options: what `jit` does, and what its decorator is."""
        target, bound = target_of(function)
        statics = named_arguments(target, len(bound), static_argnums, static_names)
        donated = named_arguments(target, len(bound), donate_argnums, donate_names)
        # Here, not at the first call: what is wrong with a decorator shows where it
        # stands.
        _check_disjoint(name_of(target), statics, donated)
        return Jitted(
            function, Options(*statics, donate, *donated, keep_unused, inline)
        )

    return wrap if fun is None else wrap(fun)


# Positions and names of arguments, as `named_arguments` gives them.
_Arguments: TypeAlias = tuple[frozenset[int], frozenset[str]]


def _check_disjoint(name: str, statics: _Arguments, donated: _Arguments) -> None:
    """For `jit`: raise if an argument is static and donated, when the function is wrapped, not when it is called.

    Raises:
        ValueError: Names all.
    """
    both = sorted(statics[1] & donated[1]) or sorted(map(str, statics[0] & donated[0]))
    if both:
        raise ValueError(
            f"gn.jit: {', '.join(both)} of {name} is both static and donated: a static argument has no memory to donate"
        )


def _names(option: str, names: str | Iterable[str] | None) -> frozenset[str]:
    """The names that `static_argnames` or `donate_argnames` gives, one or several; `None` is none, as in JAX.

    Raises:
        TypeError: It gives something else.
    """
    listed_names = (names,) if isinstance(names, str | None) else names
    if not isinstance(listed_names, Iterable) or not all(
        isinstance(name, str | None) for name in listed_names
    ):
        raise TypeError(
            f"gn.jit: {option} is a name or a sequence of names; found {describe(names)}"
        )
    return frozenset([name for name in listed_names if name is not None])
