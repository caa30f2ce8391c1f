"""`scan`, `fori_loop` and `while_loop`: rounds of one function, compiled once.

Nodes in the carry stay the same objects over all rounds; the values of the States that
a round writes are what the loop carries. States that are only read are constants of the
loop, not part of its carry.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._arguments import checked_index
from .._compat import Tracer, changing_outputs, item_aval
from .._describe import describe
from .._tracebacks import hides_frames
from ._arguments import Form, Function, Static, Values
from ._axes import Spread, check_sizes, spread_axes
from ._boundary import Call, Outcome, pure_of
from ._carry import (
    Carry,
    Traced,
    check_shardings,
    check_types,
    compiled,
    pair_of,
    picking,
)
from ._fork import Fork, apart_from, fork, forks_of, join, lane_count, with_forks
from ._members import is_key, made_keys, member_of, refuse_constant, with_result_axes
from ._methods import target_of
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
    def __repr__(self) -> str:
        return "the carry"


_CARRY: Final = _InCarry()


class _Scan(NamedTuple):
    """What a scan is asked for, apart from its function and its arguments."""

    length: int | None
    reverse: bool
    unroll: int | bool


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
        TypeError: The carry or a State changes its structure, shapes or dtypes.
        ValueError: `in_axes` does not fit `xs`.

    Example:
        >>> layers = gn.stack([gn.nn.Linear(2, 2) for _ in range(3)])
        >>> h, _ = gn.scan(lambda h, layer: (jnp.tanh(layer(h)), None), jnp.ones(2), layers)
        >>> h.shape
        (2,)

    See also: `vmap`, where no round sees another; `stack`, which makes one node of
    several layers.
    """
    target, bound = target_of(f)
    if length is not None:
        length = checked_index("gn.scan", "length", length)
    call = Call("scan", target, (*bound, init, xs))
    found = spread_axes(
        call, (*[_CARRY] * (len(bound) + 1), in_axes), None, _check_place
    )
    forks = forks_of(call, found.values)
    check_sizes(
        call, Spread(apart_from(forks, found.values), found.rest), _SIZES, length
    )
    axes = Spread(with_forks(forks, found.values), found.rest)
    if forks and length is None:
        length = lane_count(call, axes.values, axes.rest, forks)
    options = _Scan(length, reverse, unroll)
    form, name = member_of(call, Spread(apart_from(forks, found.values), found.rest))
    key = (axes.values, tuple(axes.rest), options, forks, name, form)
    body = functools.partial(_scan, form, len(bound), axes, options, forks, name)
    outcome = compiled(call, (target,), key, body)
    return call.finish(outcome)  # type: ignore[no-any-return]  # the carry and the outputs


def _check_place(value: Any, where: str) -> None:
    if value is not _CARRY:
        check_axis(value, where)


def _scan(
    form: Form,
    position: int,
    axes: Spread,
    options: _Scan,
    forks: Sequence[Fork],
    name: str | None,
    functions: Sequence[Function],
    own: Values,
    rest: list[Any],
) -> Outcome:
    """The scan of values and other leaves."""
    (function,) = functions
    carry = Carry("scan", function, form, position)
    scanned = {
        number: axis for number, axis in enumerate(axes.values) if isinstance(axis, int)
    }
    scanned_rest = {
        at: axis for at, axis in enumerate(axes.rest) if isinstance(axis, int)
    }
    if forks and options.length is None:
        raise ValueError(
            "gn.scan: only random streams are scanned: say how many rounds with length"
        )
    values = (
        fork(forks, own, options.length)
        if forks and options.length is not None
        else own
    )
    first = tuple(
        [_item(value, scanned.get(number)) for number, value in enumerate(values)]
    )
    first_rest = [_item(leaf, scanned_rest.get(at)) for at, leaf in enumerate(rest)]
    traced = Traced(
        "scan",
        function,
        form,
        first,
        first_rest,
        lambda made: carry.take(pair_of("scan", made)[0]),
    )
    wrote = traced.written.numbers
    carried = [number for number in wrote if axes.values[number] is _CARRY]
    given = tuple([number for number in wrote if axes.values[number] is not None])
    pure = traced.giving(given, _NO_AXIS)
    specs = form.graphdef.layout.specs
    key_numbers = {
        number for number in given if number in scanned and is_key(specs[number])
    }
    put: Any = None
    written: Any = None

    def round_of(
        state: tuple[list[Any], list[Any]], item: tuple[list[Any], list[Any]]
    ) -> tuple[Any, Any]:
        nonlocal put, written
        all_values = _placed(
            values,
            {
                **dict(zip(carried, state[0], strict=True)),
                **dict(zip(scanned, item[0], strict=True)),
            },
        )
        all_rest = _placed(
            rest,
            {
                **dict(zip(carry.at, state[1], strict=True)),
                **dict(zip(scanned_rest, item[1], strict=True)),
            },
        )
        written, new_values, result = pure(tuple(all_values), all_rest)
        new = dict(zip(given, new_values, strict=True))
        check_types(form, function, "scan", dict(enumerate(all_values)), new)
        check_shardings(
            form,
            function,
            "scan",
            dict(enumerate(all_values)),
            {n: new[n] for n in carried},
        )
        result, output = pair_of("scan", result)
        leaves, put = carry.take(result)
        return ([new[number] for number in carried], leaves), (
            {n: new[n] for n in given if n in scanned},
            output,
        )

    def keys_of(after: tuple[dict[int, Any], Any]) -> list[tuple[str, Any]]:
        scanned_values, output = after
        return [
            *[
                (traced.where(n), value)
                for n, value in scanned_values.items()
                if n in key_numbers
            ],
            *[
                (key.where, key.value)
                for key in made_keys(((), output), (None, 0), len(values))
            ],
        ]

    start = ([values[number] for number in carried], [rest[at] for at in carry.at])
    items = (
        [_moved(values[number], axis, 0) for number, axis in scanned.items()],
        [_moved(rest[at], axis, 0) for at, axis in scanned_rest.items()],
    )
    (last, leaves), (stacked, outputs) = jax.lax.scan(round_of, start, items, *options)
    result = (put(leaves), outputs)
    if key_numbers or made_keys(result, (None, 0), len(values)):
        refuse_constant("scan", _constant_keys(round_of, keys_of, start, items))
    new = dict(zip(carried, last, strict=True))
    new |= {
        number: _moved(value, 0, scanned[number]) for number, value in stacked.items()
    }
    result = with_result_axes(result, (None, 0), len(values), name)
    outcome = (written, tuple([new[number] for number in given]), result)
    return join(forks, own, outcome, "scan", traced.where)


def _constant_keys(
    round_of: Function,
    keys_of: Callable[[Any], list[tuple[str, Any]]],
    start: Any,
    items: Any,
) -> list[str]:
    """The names of the keys that are the same in every round: found by one more trace of it.

    Args:
        round_of: One round, from carry and item to the next carry and what is stacked.
        keys_of: The keys in what one round stacks, with their names.
        start: The first carry.
        items: What is scanned over, along axis 0.
    """
    names: list[str] = []

    def keys_after(state: Any, item: Any) -> tuple[Any, list[Any]]:
        after, stacked = round_of(state, item)
        keys = keys_of(stacked)
        names[:] = [name for name, _ in keys]
        return after, [key for _, key in keys]

    count = len(jax.tree.leaves(start))
    changing = changing_outputs(
        jax.make_jaxpr(keys_after)(
            start, jax.tree.map(lambda leaf: _item(leaf, 0), items)
        ),
        count,
    )
    return [
        name
        for name, changes in zip(names, changing[count:], strict=True)
        if not changes
    ]


def _item(value: Any, axis: int | None) -> Any:
    """One item of a value along an axis, as JAX's abstract values; the value itself without one."""
    return (
        value
        if axis is None
        else jax.tree.map(lambda leaf: item_aval(leaf, axis), value)
    )


def _moved(value: Any, source: int, target: int) -> Any:
    return (
        value
        if source == target
        else jax.tree.map(lambda leaf: jnp.moveaxis(leaf, source, target), value)
    )


def _placed(row: Sequence[Any], new: dict[int, Any]) -> list[Any]:
    """The row with some items replaced."""
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
    is_fixed = not any(isinstance(bound, Tracer) for bound in (lower, upper))
    # The index is an argument of the body: in its place stands one of its type, which
    # no round gets to see.
    call = Call(
        "fori_loop",
        target,
        (*bound, 0 if is_fixed else _index_like(lower, upper), init_val),
    )
    bounds = (lower, upper) if is_fixed else None
    body = functools.partial(_fori_loop, call.form, len(bound) + 1, bounds, unroll)
    extra = () if is_fixed else (lower, upper)
    outcome = compiled(
        call, (target,), (Static("the bounds", bounds), unroll), body, *extra
    )
    return call.finish(outcome)  # type: ignore[no-any-return]  # the carry


def _fori_loop(
    form: Form,
    position: int,
    bounds: tuple[ArrayLike, ArrayLike] | None,
    unroll: int | bool | None,
    functions: Sequence[Function],
    values: Values,
    rest: list[Any],
    *given: Any,
) -> Outcome:
    def loop(body: Function, start: Any) -> Any:
        first, end = bounds or given
        return jax.lax.fori_loop(first, end, body, start, unroll=unroll)

    (function,) = functions
    carry = Carry("fori_loop", function, form, position)
    return _loop(
        Traced("fori_loop", function, form, values, rest, carry.take),
        carry,
        values,
        rest,
        loop,
    )


def _index_like(lower: ArrayLike, upper: ArrayLike) -> ArrayLike:
    """A value of the type that JAX gives the index: that of `lower`, weak or not, unless `upper` is of another."""
    dtype = jnp.result_type(lower, upper)
    return lower if jnp.result_type(lower) == dtype else jnp.zeros((), dtype)


def _loop(
    traced: Traced, carry: Carry, values: Values, rest: list[Any], loop: Function
) -> Outcome:
    """A loop over a function of a carry, with an index before it or without.

    Args:
        traced: The function of one round.
        carry: Its carry.
        values: The values of all States.
        rest: The other leaves, among them one for the index.
        loop: JAX's loop, of a function of the index (if there is one) and a carry, and
            of the first carry.
    """
    transform, function, form = traced.transform, traced.function, traced.form
    wrote = traced.written.numbers
    pure = traced.giving(wrote)
    index_at = [at for at in range(len(rest)) if at not in set(carry.at)]
    # Without compilation, a loop of no rounds never comes to its body.
    written, (_, put) = traced.written, carry.take(traced.result)

    def body(*args: Any) -> tuple[list[Any], list[Any]]:
        nonlocal put, written
        *index, (carried, leaves) = args
        all_values = _placed(values, dict(zip(wrote, carried, strict=True)))
        places = {
            **dict(zip(carry.at, leaves, strict=True)),
            **dict(zip(index_at, index, strict=False)),
        }
        written, new_values, result = pure(tuple(all_values), _placed(rest, places))
        before, after = (
            dict(enumerate(values)),
            dict(zip(wrote, new_values, strict=True)),
        )
        check_types(form, function, transform, before, after)
        check_shardings(form, function, transform, before, after)
        leaves, put = carry.take(result)
        return list(new_values), leaves

    last, leaves = loop(
        body, ([values[number] for number in wrote], [rest[at] for at in carry.at])
    )
    return written, tuple(last), put(leaves)


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
    condition = picking(cond_target, (*range(len(cond_bound)), count - 1), count)
    call = Call("while_loop", body, (*cond_bound, *body_bound, init_val))
    run = functools.partial(_while_loop, call.form, count - 1)
    return call.finish(compiled(call, (body, condition), None, run))  # type: ignore[no-any-return]  # the carry


def _while_loop(
    form: Form,
    position: int,
    functions: Sequence[Function],
    values: Values,
    rest: list[Any],
) -> Outcome:
    body, condition = functions
    test = pure_of(
        "while_loop", condition, form, (), refusal="must not be written by cond_fun"
    )
    carry = Carry("while_loop", body, form, position)
    traced = Traced("while_loop", body, form, values, rest, carry.take)
    wrote = traced.written.numbers

    def holds(state: tuple[list[Any], list[Any]]) -> Any:
        all_values = _placed(values, dict(zip(wrote, state[0], strict=True)))
        return test(
            tuple(all_values), _placed(rest, dict(zip(carry.at, state[1], strict=True)))
        )[2]

    def loop(round_of: Function, start: Any) -> Any:
        return jax.lax.while_loop(holds, round_of, start)

    return _loop(traced, carry, values, rest, loop)
