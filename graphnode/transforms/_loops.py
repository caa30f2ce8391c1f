"""`scan`, `fori_loop` and `while_loop`: rounds of one function, compiled once.

Nodes in the carry stay the same objects over all rounds; the values of the States that
a round writes are what the loop carries. States that are only read are constants of the
loop, not part of its carry.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._arguments import checked_index
from .._compat import Tracer, changing_outputs, item_aval
from .._describe import describe
from .._errors import ContractError
from .._tracebacks import hides_frames
from ._arguments import Function, Static, Values, show_as
from ._axes import Spread, check_sizes, spread_axes
from ._boundary import Call
from ._carry import (
    Carry,
    Traced,
    check_shardings,
    check_types,
    compiled,
    picking,
)
from ._fork import (
    StreamFork,
    advanced,
    forked_values,
    forks_of,
    lane_count,
    with_fork_axes,
)
from ._members import is_key, made_keys, member_of, refuse_constant, with_result_axes
from ._methods import target_of
from ._pure import REFUSAL, Outcome, pure_of
from ._segments import ScanOptions, checkpoint_of, run_scan
from ._signature import CallSite, Signature
from ._vmap import check_axis

C = TypeVar("C")
X = TypeVar("X")
Y = TypeVar("Y")

_NO_AXIS: Final = (
    "was written, but has no axis to be written along: all rounds share it. Give it one in in_axes, or put its node "
    "into the carry"
)


_SIZES: Final = (
    "Scan over one node whose States have the axis, such as gn.stack makes of several; give None in in_axes for what "
    "all rounds share"
)


class _InCarry:
    """In place of an axis: what belongs to the carry of a `scan`, and has none."""

    def __repr__(self) -> str:
        """For the `AliasError` about a State that is reached in the carry and in `xs`."""
        return "the carry"


_CARRY: Final = _InCarry()


@hides_frames
def scan(
    f: Callable[[C, X], tuple[C, Y]],
    init: C,
    xs: X | None = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    in_axes: Any = 0,  # Any: a pytree prefix of `xs`
    checkpoint: bool | int | Callable[..., bool] = False,
) -> tuple[C, Y]:
    """Fold a function of nodes and arrays over a leading axis, as `jax.lax.scan` does one of arrays.

    A node in `init` is carried: the function gives it back in the carry, and may write
    to its States. A node in `xs` is scanned over: each round gets the States at its
    position, and what it writes goes back there. So a stack of layers is one line:
    `gn.scan(lambda h, layer: (layer(h), None), x, layers)`. A random stream in `xs`
    that has no axis gives each round a stream of its own, by one draw.

    Args:
        f: From the carry and one item to the next carry and an output; a callable node
            is carried itself.
        init: The first carry.
        xs: What is scanned over; `None` for nothing.
        length: How many rounds, where `xs` does not say.
        reverse: As in `jax.lax.scan`.
        unroll: As in `jax.lax.scan`.
        in_axes: A pytree prefix of `xs`: the axes to scan, `None` for what all rounds
            share, `axes(...)` for a node.
        checkpoint: What the backward pass of reverse-mode derivatives computes again,
            to keep less memory; results and derivatives stay the same. `True`: each
            round, of which only the carry is kept. A policy of `jax.checkpoint`: the
            same, but for what that keeps. An integer `n`: segments of `n` rounds, of
            which the carry between segments is kept, and all that `n` rounds need while
            one of them is differentiated: of the order of `length / n + n`, least at
            `n = sqrt(length)`. The length need not be a multiple of `n`. To compute
            each round of a segment again, too, scan `gn.remat(f)`.

    Returns:
        The last carry, in which nodes are those of `init`, and the outputs with a
        leading axis. A node or State of the carry that is among the outputs is itself
        there too, as it is in the end. For its history give what it holds:
        `state.value`, `gn.treefy_states(node)`, or `gn.clone(node)` for a node with the
        axis.

    Raises:
        TraceError: A State was written that has no axis; names it.
        AliasError: A State is reached with two axes, or in the carry and in `xs`; names
            both places.
        StructureError: The function changes the structure of a node, or gives another
            one in the carry.
        StackError: A random stream of the outputs is the same in every round, so that
            all would draw the same numbers; names all.
        TypeError: The carry or a State changes its structure, shapes or dtypes; or
            `checkpoint` is none of these.
        ValueError: `in_axes` does not fit `xs`; or `checkpoint` is less than 1.

    Example:
        >>> layers = gn.stack([gn.nn.Linear(2, 2) for _ in range(3)])
        >>> h, _ = gn.scan(lambda h, layer: (jnp.tanh(layer(h)), None), jnp.ones(2), layers)
        >>> h.shape
        (2,)

    See also: `vmap`, where no round sees another; `associative_scan`, for an operation
    that is associative; `stack`, which makes one node of several layers.
    """
    target, bound = target_of(f)
    if length is not None:
        length = checked_index("gn.scan", "length", length)
    call = Call("scan", target, (*bound, init, xs))
    spread = spread_axes(
        call, (*[_CARRY] * (len(bound) + 1), in_axes), None, _check_place
    )
    # A stream without an axis is forked, and its forks have one.
    forks = forks_of(call, spread.values)
    own_axes = with_fork_axes(forks, spread, None)
    axes = with_fork_axes(forks, spread, 0)
    call.stacks = _stacks_of(call, own_axes)
    check_sizes(call, own_axes, _SIZES, length)
    if forks and length is None:
        length = lane_count(call, own_axes)
    options = ScanOptions(length, reverse, unroll, checkpoint_of(checkpoint))
    site, name = member_of(call, own_axes)
    key = (axes.values, tuple(axes.other_leaves), options, forks, name, site.signature)
    body = functools.partial(
        _scan, site.signature, len(bound), axes, options, forks, name
    )
    outcome = compiled(call, (target,), key, body)
    return call.finish(outcome)  # type: ignore[no-any-return]  # the carry and the outputs


def _stacks_of(call: Call, axes: Spread) -> frozenset[int]:
    """The roots of a call that are scanned over, by number: a round gets one member of each."""
    layout = call.binding.graphdef.layout
    stacks: set[int] = set()
    for root in range(len(call.roots)):
        layout_below, first = layout.below(root) or (None, 0)
        count = 0 if layout_below is None else len(layout_below)
        if any(isinstance(axis, int) for axis in axes.values[first : first + count]):
            stacks.add(root)
    return frozenset(stacks)


def _check_place(value: Any, where: str) -> None:
    """Raise if something in `in_axes` of `scan` is not an axis; `_CARRY` stands for what is before `xs`."""
    if value is not _CARRY:
        check_axis(value, where)


# What JAX carries from round to round: values of States, and leaves of the user's carry.
_LoopState: TypeAlias = tuple[list[Any], list[Any]]


class _Round:
    """One round of a loop: from what JAX carries to what it carries next.

    The function of a round takes the values of all States and all other leaves. Those
    that the loop carries are new in each round, items of what is scanned over too, and
    all else are constants of the loop:

        of the function's arguments       goes in as         written in the round
        --------------------------------------------------------------------------
        State in the carry, written       carried value      carried on
        State in `xs`, with an axis       item               stacked along its axis
        State that is shared              constant           refused
        any other State                   constant           (is not written)
        leaf of `init`                    carried leaf       carried on
        leaf of `xs`, or the index        item               -

    Attributes:
        start: What is carried into the first round.
        written: What the function wrote, as of the latest trace: JAX traces a round
            again where the types of the carry change.
        returned: The carry that it gave, as of the latest trace.
    """

    def __init__(
        self,
        traced: Traced,
        carry: Carry,
        carried: Sequence[int],
        values: Values,
        other_leaves: list[Any],
        refusal: str = REFUSAL,
        shared: Collection[int] = (),
    ) -> None:
        """Take what is known of a round before JAX runs the loop.

        Args:
            traced: One trace of the function: it says what is written, and is evaluated.
            carry: Checks what the function gives back.
            carried: The States that JAX carries, by number.
            values: The values of all States before the loop.
            other_leaves: The other leaves before it.
            refusal: What is wrong with writing one of the `shared` States.
            shared: The written States that all rounds share, and none may write.
        """
        self.site = traced.site
        self.numbers = tuple([n for n in traced.written.numbers if n not in shared])
        self.carried = carried
        self._pure = traced.returning(self.numbers, refusal)
        self._carry, self._values, self._other_leaves = carry, values, other_leaves
        self._growths = traced.growths
        self.start: _LoopState = (
            [values[number] for number in carried],
            [other_leaves[at] for at in carry.at],
        )
        # Without compilation, a loop of no rounds never comes to its body.
        self.written, self.returned = traced.written, carry.take(traced.result)

    def arguments(
        self, state: _LoopState, values: dict[int, Any], other_leaves: dict[int, Any]
    ) -> tuple[Values, list[Any]]:
        """All values and all other leaves that the function, or the condition of a `while_loop`, gets in one round.

        Args:
            state: What is carried into the round.
            values: Its items among the States, by number.
            other_leaves: Its items among the other leaves, by number.

        Returns:
            Those of the call, with what is carried and the items in place of their own.
        """
        carried_values = dict(zip(self.carried, state[0], strict=True))
        carried_leaves = dict(zip(self._carry.at, state[1], strict=True))
        all_values = _replaced(self._values, carried_values | values)
        return tuple(all_values), _replaced(
            self._other_leaves, carried_leaves | other_leaves
        )

    def run(
        self, state: _LoopState, values: dict[int, Any], other_leaves: dict[int, Any]
    ) -> tuple[_LoopState, dict[int, Any]]:
        """Run the function once.

        Args:
            state: What is carried into the round.
            values: Its items among the States, by number.
            other_leaves: Its items among the other leaves, by number.

        Returns:
            What is carried on, and the new values of all States that were written.

        Raises:
            TypeError: The carry or a State changes its structure, shapes or dtypes.
            StructureError: A node of the carry is another one.
        """
        all_values, all_others = self.arguments(state, values, other_leaves)
        self.written, new_values, result = self._pure(all_values, all_others)
        before = dict(enumerate(all_values))
        after = dict(zip(self.numbers, new_values, strict=True))
        carried = {number: after[number] for number in self.carried}
        check_types(self.site, before, after)
        # What is stacked need not come back as it went in.
        check_shardings(self.site, before, carried)
        self.returned = self._carry.take(result)
        return (list(carried.values()), self.returned.leaves), after

    def check_growths(self, rounds: int) -> None:
        """Raise if a counter that each round adds to, such as that of a cache, has no room for so many rounds.

        Raises:
            ContractError: It has none, even if it begins at 0.
        """
        for number in self.carried:
            growth = self._growths.get(number)
            if growth is not None and rounds * growth.by > growth.room:
                name = self.site.state_name(number)
                raise ContractError(
                    f"gn.{self.site.transform}: {name}: expected at most {growth.room}, for which there is room; "
                    f"found {rounds} rounds that add {growth.by} each"
                )

    def outcome(self, last: _LoopState) -> Outcome:
        """For `fori_loop` and `while_loop`, which carry all that is written: the outcome after the last round."""
        return self.written, tuple(last[0]), self.returned.with_leaves(last[1])


class _ScanRound(_Round):
    """One round of `scan`, with items of what is scanned over.

    Attributes:
        axes: The axis of each State that is scanned over, by its number.
        leaf_axes: The axis of each other leaf that is.
        items: What is scanned over, along axis 0.
    """

    def __init__(
        self,
        site: CallSite,
        position: int,
        axes: Spread,
        values: Values,
        other_leaves: list[Any],
    ) -> None:
        """Trace a round with abstract items, and sort the States it writes into carried, stacked and shared ones."""
        self.axes = _scanned(axes.values)
        self.leaf_axes = _scanned(axes.other_leaves)
        carry = Carry(site, position, has_output=True)
        first_values = [
            _item(value, self.axes.get(n)) for n, value in enumerate(values)
        ]
        first_leaves = [
            _item(leaf, self.leaf_axes.get(n)) for n, leaf in enumerate(other_leaves)
        ]
        traced = Traced(site, tuple(first_values), first_leaves, carry.take)
        written = traced.written.numbers
        carried = [number for number in written if axes.values[number] is _CARRY]
        shared = [number for number in written if axes.values[number] is None]
        super().__init__(traced, carry, carried, values, other_leaves, _NO_AXIS, shared)
        self.items: _LoopState = (
            [_moved(values[number], axis, 0) for number, axis in self.axes.items()],
            [_moved(other_leaves[at], axis, 0) for at, axis in self.leaf_axes.items()],
        )
        specs = site.signature.graphdef.layout.specs
        self._keys = {n for n in self.numbers if n in self.axes and is_key(specs[n])}

    def step(
        self, state: _LoopState, item: _LoopState
    ) -> tuple[_LoopState, tuple[dict[int, Any], Any]]:
        """One round as `jax.lax.scan` calls it: to the next state, and what is stacked."""
        state, after = self.run(
            state,
            dict(zip(self.axes, item[0], strict=True)),
            dict(zip(self.leaf_axes, item[1], strict=True)),
        )
        stacked = {n: value for n, value in after.items() if n in self.axes}
        return state, (stacked, self.returned.output)

    def may_make_keys(self, result: Any) -> bool:
        """Whether the rounds stack keys of random streams: only then is the trace of `constant_keys` worth its time."""
        return bool(self._keys or made_keys(result, _RESULT_AXES, len(self._values)))

    def constant_keys(self) -> list[str]:
        """The stacked keys that are the same in every round, by name: `scan` refuses them. Found by one more trace."""
        names: list[str] = []

        def keys_after(state: _LoopState, item: _LoopState) -> tuple[Any, list[Any]]:
            """What is carried on, and the keys that one round stacks: nothing else need be traced."""
            state, stacked = self.step(state, item)
            keys = self._keys_in(*stacked)
            # In place: names are no arrays, and leave the trace that way.
            names[:] = [name for name, _ in keys]
            return state, [key for _, key in keys]

        # The outputs of the jaxpr are the carry, then the keys.
        count = len(jax.tree.leaves(self.start))
        item = jax.tree.map(lambda leaf: _item(leaf, 0), self.items)
        changing = changing_outputs(jax.make_jaxpr(keys_after)(self.start, item), count)
        pairs = zip(names, changing[count:], strict=True)
        return [name for name, changes in pairs if not changes]

    def _keys_in(self, stacked: dict[int, Any], output: Any) -> list[tuple[str, Any]]:
        """The keys of random streams in what one round stacks, with their names."""
        keys = [
            (self.site.state_name(n), stacked[n]) for n in stacked if n in self._keys
        ]
        new_keys = made_keys(((), output), _RESULT_AXES, len(self._values))
        return keys + [(key.name, key.value) for key in new_keys]


# The result of a scan is a pair: the carry has no axis, outputs have a leading one.
_RESULT_AXES: Final = (None, 0)


def _scan(
    signature: Signature,
    position: int,
    axes: Spread,
    options: ScanOptions,
    forks: Sequence[StreamFork],
    name: str | None,
    functions: Sequence[Function],
    own: Values,
    other_leaves: list[Any],
) -> Outcome:
    """What is compiled of a `scan`.

    Args:
        signature: Of the arguments of one round: without the scanned axis.
        position: The position of the carry among them.
        axes: The axis of each State and other leaf; those of forked streams are 0.
        options: What the scan is asked for.
        forks: The streams that give each round one of its own.
        name: The name of the scanned axis, if the States agree on one.
        functions: The user's function of one round.
        own: The values of all States, as the caller has them.
        other_leaves: The other leaves of the call.

    Raises:
        StackError: Keys of random streams that rounds give are the same in all of them.
        ValueError: Nothing says how many rounds there are.
    """
    # Taken when it is traced: what is compiled must not hold it.
    (function,) = functions
    values = own
    if forks:
        if options.length is None:
            raise ValueError(
                "gn.scan: only random streams are scanned: say how many rounds with length"
            )
        values = forked_values(forks, own, options.length)
    site = CallSite("scan", function, signature)
    round_ = _ScanRound(site, position, axes, values, other_leaves)
    rounds = options.length
    if rounds is None and (scanned := jax.tree.leaves(round_.items)):
        rounds = scanned[0].shape[0]
    if rounds is not None:
        round_.check_growths(rounds)
    (carried, leaves), (stacked, outputs) = run_scan(
        round_.step, round_.start, round_.items, options
    )
    result = (round_.returned.with_leaves(leaves), outputs)
    if round_.may_make_keys(result):
        # One more trace of the round, and only where keys are stacked at all.
        refuse_constant("scan", round_.constant_keys())
    new = dict(zip(round_.carried, carried, strict=True))
    for number, value in stacked.items():
        # JAX stacks along axis 0; the State has its axis where the caller said.
        new[number] = _moved(value, 0, round_.axes[number])
    # Only now: inside of the loop each node was described as one round sees it.
    result = with_result_axes(result, _RESULT_AXES, len(values), name)
    new_values = tuple([new[number] for number in round_.numbers])
    return advanced(forks, own, (round_.written, new_values, result), site)


def _scanned(axes: Sequence[Any]) -> dict[int, int]:
    """The axis of each State or leaf that is scanned over, by its number: without the shared and the carried ones."""
    return {n: axis for n, axis in enumerate(axes) if isinstance(axis, int)}


def _item(value: Any, axis: int | None) -> Any:
    """To trace a round by: one item of a value along an axis, as JAX's abstract values; without an axis the value."""
    if axis is None:
        return value
    return jax.tree.map(lambda leaf: item_aval(leaf, axis), value)


def _moved(value: Any, source: int, target: int) -> Any:
    """A value whose arrays have the axis `source` at `target` instead: `jax.lax.scan` takes and stacks along axis 0."""
    if source == target:
        return value
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, source, target), value)


def _replaced(row: Sequence[Any], new: dict[int, Any]) -> list[Any]:
    """A list of values, with others in place of those at the numbers in `new`."""
    return [new.get(number, item) for number, item in enumerate(row)]


# Any: the index is an array, and a number to a function that declares one.
@hides_frames
def fori_loop(
    lower: ArrayLike,
    upper: ArrayLike,
    body_fun: Callable[[Any, C], C],
    init_val: C,
    *,
    unroll: int | bool | None = None,
) -> C:
    """Run a function of nodes and arrays for each index from `lower` to below `upper`, as `jax.lax.fori_loop`.

    Args:
        lower: The first index; if neither this nor `upper` is traced, the loop can be
            differentiated in reverse mode.
        upper: The index after the last.
        body_fun: From the index and the carry to the next carry; nodes in the carry are
            carried, and given back.
        init_val: The first carry.
        unroll: As in `jax.lax.fori_loop`.

    Returns:
        The last carry, in which nodes are those of `init_val`.

    Raises:
        StructureError: The function changes the structure of a node, or gives another
            one in the carry.
        TypeError: The carry or a State changes its structure, shapes or dtypes.

    Example:
        >>> class Counter(gn.Node):
        ...     count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(0)))
        >>> def body(i, counter):
        ...     counter.count.value += i
        ...     return counter
        >>> gn.fori_loop(0, 4, body, Counter()).count.value
        Array(6, dtype=int32)
    """
    target, bound = target_of(body_fun)
    for name, limit in (("lower", lower), ("upper", upper)):
        if not isinstance(limit, jax.Array | np.ndarray | np.generic | int):
            raise TypeError(
                f"gn.fori_loop: {name} is an integer or an array of one; found {describe(limit)}"
            )
    # Fixed bounds are part of what is compiled: JAX makes a scan of such a loop, which
    # has a derivative in reverse mode.
    is_fixed = not any(isinstance(bound, Tracer) for bound in (lower, upper))
    # The index is an argument of the body: in its place stands one of its type, which
    # no round gets to see.
    call = Call(
        "fori_loop",
        target,
        (*bound, 0 if is_fixed else _index_like(lower, upper), init_val),
    )
    bounds = (lower, upper) if is_fixed else None
    body = functools.partial(_fori_loop, call.signature, len(bound) + 1, bounds, unroll)
    extra = () if is_fixed else (lower, upper)
    outcome = compiled(
        call, (target,), (Static("the bounds", bounds), unroll), body, *extra
    )
    return call.finish(outcome)  # type: ignore[no-any-return]  # the carry


def _fori_loop(
    signature: Signature,
    position: int,
    bounds: tuple[ArrayLike, ArrayLike] | None,
    unroll: int | bool | None,
    functions: Sequence[Function],
    values: Values,
    other_leaves: list[Any],
    *traced_bounds: Any,
) -> Outcome:
    """What is compiled of a `fori_loop`.

    Args:
        signature: Of the arguments of the body: bound node, index, carry.
        position: The position of the carry among them.
        bounds: Where the loop begins and ends, if that is fixed when it is compiled.
        unroll: As in `jax.lax.fori_loop`.
        functions: The user's body.
        values: The values of all States.
        other_leaves: The other leaves of the call.
        *traced_bounds: Where the loop begins and ends, if that is not fixed.
    """
    (function,) = functions
    round_ = _whole_round(
        CallSite("fori_loop", function, signature), position, values, other_leaves
    )
    # The bound node has no other leaves: before the carry there is the index alone.
    ((index_place,),) = signature.leaf_places([position - 1])
    assert index_place.other is not None
    index_at = index_place.other

    def body(index: Any, state: _LoopState) -> _LoopState:
        """One round as `jax.lax.fori_loop` calls it: the index is one of the other leaves."""
        return round_.run(state, {}, {index_at: index})[0]

    if bounds is not None:
        first, end = (int(np.asarray(bound)) for bound in bounds)
        round_.check_growths(max(end - first, 0))
    # One of the two is empty.
    lower, upper = bounds or traced_bounds
    last = jax.lax.fori_loop(lower, upper, body, round_.start, unroll=unroll)
    return round_.outcome(last)


def _whole_round(
    site: CallSite, position: int, values: Values, other_leaves: list[Any]
) -> _Round:
    """For `fori_loop` and `while_loop`: one round of a loop that carries all States that its function writes."""
    carry = Carry(site, position)
    traced = Traced(site, values, other_leaves, carry.take)
    return _Round(traced, carry, traced.written.numbers, values, other_leaves)


def _index_like(lower: ArrayLike, upper: ArrayLike) -> ArrayLike:
    """A value of the type that JAX gives the index: that of `lower`, weak or not, unless `upper` is of another."""
    dtype = jnp.result_type(lower, upper)
    # Not always zeros: a number of Python stays weak, so that the body may mix it with
    # any dtype.
    return lower if jnp.result_type(lower) == dtype else jnp.zeros((), dtype)


@hides_frames
def while_loop(
    cond_fun: Callable[[C], ArrayLike], body_fun: Callable[[C], C], init_val: C
) -> C:
    """Run a function of nodes and arrays while a condition on them holds, as `jax.lax.while_loop`.

    Args:
        cond_fun: From the carry to a boolean; it must not write to a State.
        body_fun: From the carry to the next carry; nodes in the carry are carried, and
            given back.
        init_val: The first carry.

    Returns:
        The last carry, in which nodes are those of `init_val`.

    Raises:
        TraceError: The condition writes to a State; names it.
        StructureError: The function changes the structure of a node, or gives another
            one in the carry.
        TypeError: The carry or a State changes its structure, shapes or dtypes.

    Example:
        >>> class Counter(gn.Node):
        ...     count: gn.ShortTermState = gn.state(default_factory=lambda: gn.ShortTermState(jnp.int32(1)))
        >>> def double(counter):
        ...     counter.count.value *= 2
        ...     return counter
        >>> gn.while_loop(lambda counter: counter.count.value < 100, double, Counter()).count.value
        Array(128, dtype=int32)
    """
    (cond_target, cond_bound), (body_target, body_bound) = (
        target_of(cond_fun),
        target_of(body_fun),
    )
    count = len(cond_bound) + len(body_bound) + 1
    body = picking(body_target, tuple(range(len(cond_bound), count)), count)
    # Both functions get one row of arguments: the node of the condition, that of the
    # body, the carry.
    condition = picking(cond_target, (*range(len(cond_bound)), count - 1), count)
    call = Call("while_loop", body, (*cond_bound, *body_bound, init_val))
    run = functools.partial(_while_loop, call.signature, count - 1)
    return call.finish(compiled(call, (body, condition), None, run))  # type: ignore[no-any-return]  # the carry


def _while_loop(
    signature: Signature,
    position: int,
    functions: Sequence[Function],
    values: Values,
    other_leaves: list[Any],
) -> Outcome:
    """What is compiled of a `while_loop`.

    Args:
        signature: Of the arguments: nodes bound to the two functions, carry.
        position: The position of the carry among them.
        functions: The user's body and condition, each of which picks its own arguments.
        values: The values of all States.
        other_leaves: The other leaves of the call.
    """
    body, condition = functions
    test = pure_of(
        CallSite("while_loop", condition, signature),
        (),
        refusal="must not be written by cond_fun",
    )
    round_ = _whole_round(
        CallSite("while_loop", body, signature), position, values, other_leaves
    )

    # The condition sees the same values as the body, and gives the third part of its
    # outcome alone: it writes nothing.
    def holds(state: _LoopState) -> Any:
        return test(*round_.arguments(state, {}, {}))[2]

    show_as(holds, condition)

    def step(state: _LoopState) -> _LoopState:
        """One round as `jax.lax.while_loop` calls it."""
        return round_.run(state, {}, {})[0]

    return round_.outcome(jax.lax.while_loop(holds, step, round_.start))
