"""`vmap` and `shard_map`: a function of one example, or of one shard, over all of them.

Both take the axes of the States from the caller. What a lane writes goes back along the
same axis; a State without one is the same for all lanes, and none of them may write it.
"""

import functools
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, Final, ParamSpec, TypeVar, overload

import jax
from jax.sharding import PartitionSpec

from .._arguments import checked_index
from .._describe import describe
from .._tracebacks import hides_frames
from ._arguments import Function, Values
from ._axes import check_output_specs, check_sizes, is_axis, spread_axes
from ._boundary import Call
from ._fork import advanced, forked_values, forks_of, lane_count, with_fork_axes
from ._members import Lane, Shard, member_of, with_result_axes
from ._methods import rebind, target_of
from ._pure import Outcome, pure_of
from ._result_axes import SortingLane, axes_in, is_by_filter, unique_axes, unsorted

P = ParamSpec("P")
R = TypeVar("R")

_SHARED: Final = PartitionSpec()  # type: ignore[no-untyped-call]
_SIZES: Final = (
    "Give an axis to each argument with in_axes: None for what all lanes share, gn.axes({...}) for a node whose States "
    "have several"
)
_NO_AXIS: Final = (
    "was written, but has no axis to be written along: all lanes share it. Give it one in in_axes, such as "
    "gn.axes({CLASSES, ...: None})"
)


_REPLICATED: Final = (
    "gn.shard_map: written here, and replicated: {}. All shards must write the same: combine what differs, as by "
    "jax.lax.pmean, or give the State a spec along the axis"
)


@overload
def vmap(
    fun: Callable[P, R],
    in_axes: Any = ...,
    out_axes: Any = ...,
    axis_name: Hashable = ...,
    axis_size: int | None = ...,
    spmd_axis_name: Any = ...,
) -> Callable[P, R]: ...
@overload
def vmap(
    *,
    in_axes: Any = ...,
    out_axes: Any = ...,
    axis_name: Hashable = ...,
    axis_size: int | None = ...,
    spmd_axis_name: Any = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
# Any: axes are pytree prefixes of the arguments, in which `axes(...)` may stand.
def vmap(
    fun: Function | None = None,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable = None,
    axis_size: int | None = None,
    spmd_axis_name: Any = None,
) -> Any:
    """Map a function of nodes and arrays over axes of them, as `jax.vmap` does one of arrays.

    A node has an axis for each State: one for all, or `axes({filter: axis})`. What is
    written goes back along the same axis. Nodes that the function makes come out with a
    leading axis in all their States: `gn.vmap(build)(keys)` is an ensemble. Explicit
    shardings lose the mapped axis on the way in, and get it on the way out. A random
    stream that is given an axis but has none gives each lane a stream of its own, by
    one draw.

    Args:
        fun: A function, a method or a callable node; left out in
            `@gn.vmap(in_axes=...)`.
        in_axes: A pytree prefix of the positional arguments: axes, `None` for what all
            lanes share, `axes(...)` for a node. Arguments by name are mapped over axis
            0; the node of a method or a callable node is shared.
        out_axes: A pytree prefix of the result, in which `axes(...)` may stand for nodes
            that were made and for state trees. A node that went in comes out with the
            axes that it has.
        axis_name: As in `jax.vmap`.
        axis_size: As in `jax.vmap`.
        spmd_axis_name: As in `jax.vmap`.

    Returns:
        The mapped function, with the signature of `fun`.

    Raises:
        TraceError: At a call: a State was written that has no axis; names it.
        AliasError: At a call: a State is reached with two axes; names both places.
        FilterError: At a call: a filter of `axes(...)` names what is not there.
        TypeError: Something is not an axis; or, at a call: `axes(...)` stands for what
            has no States.
        ValueError: At a call: `in_axes` does not fit the arguments, or sizes disagree;
            or, with `axes(...)` in `out_axes`, a value has no place for its axis, or
            differs from lane to lane and has none.
        StructureError: At a call: the function changes the structure of a node.
        StackError: At a call: a random stream of the result does not depend on the
            mapped axis, so that all members would draw the same numbers; names all.

    Example:
        >>> def build(key):
        ...     with gn.random.scope(key):
        ...         return gn.nn.Linear(2, 3)
        >>> ensemble = gn.vmap(build)(jax.random.split(jax.random.key(0), 5))
        >>> gn.vmap(lambda model, x: model(x), in_axes=(0, None))(ensemble, jnp.ones(2)).shape
        (5, 3)

    See also: `stack`, which makes one node of several; `scan`, which maps one after the
    other.
    """
    again = functools.partial(
        vmap,
        in_axes=in_axes,
        out_axes=out_axes,
        axis_name=axis_name,
        axis_size=axis_size,
        spmd_axis_name=spmd_axis_name,
    )
    if fun is None:
        return again
    for axis in axes_in(out_axes):
        check_axis(axis, "gn.vmap: out_axes")
    # Each once: JAX wants all axes before a call.
    is_sorted, result_axes = is_by_filter(out_axes), unique_axes(out_axes)
    if axis_size is not None:
        axis_size = checked_index("gn.vmap", "axis_size", axis_size)
    target, bound = target_of(fun)

    @hides_frames
    @functools.wraps(target)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        """One call: the lanes run as `jax.vmap` maps them, and what they wrote is written along its axis."""
        call = Call("vmap", target, args, kwargs)
        prefix = _with_bound(in_axes, [None] * len(bound), len(args))
        axes = spread_axes(call, prefix, 0, check_axis)
        # A stream without an axis is forked, and its forks have one.
        forks, values = forks_of(call, axes.values), call.values
        own_axes = with_fork_axes(forks, axes, None)
        check_sizes(call, own_axes, _SIZES, axis_size)
        site, name = member_of(call, own_axes)
        if forks:
            size = lane_count(call, own_axes) if axis_size is None else axis_size
            if size is None:
                raise ValueError(
                    "gn.vmap: only random streams are mapped: say how many lanes with axis_size"
                )
            axes = with_fork_axes(forks, axes, 0)
            values = forked_values(forks, values, size)
        # What may be written: all that has an axis comes back, written or not, since
        # JAX wants `out_axes` before it traces.
        mapped_numbers = [n for n, axis in enumerate(axes.values) if axis is not None]
        mapped_axes = tuple([axes.values[number] for number in mapped_numbers])
        pure = pure_of(site, tuple(mapped_numbers), refusal=_NO_AXIS)
        lane: Function = Lane(pure, out_axes)
        if is_sorted:
            lane = SortingLane(pure, out_axes, axes.values)
        run = jax.vmap(
            lane,
            in_axes=(axes.values, axes.other_leaves),
            out_axes=(
                0,
                mapped_axes,
                (None, list(result_axes)) if is_sorted else out_axes,
            ),
            axis_name=axis_name,
            axis_size=axis_size,
            spmd_axis_name=spmd_axis_name,
        )
        written, new_values, result = call.run(run, values, call.other_leaves)
        prefix = out_axes
        if is_sorted:
            result, prefix = unsorted(result, result_axes)
        result = with_result_axes(result, prefix, len(values), name)
        outcome = written, new_values, result
        return call.finish(advanced(forks, call.values, outcome, site))

    return rebind(mapped, bound, fun, again)


def _with_bound(prefix: Any, of_bound: Sequence[Any], count: int) -> Any:
    """A prefix of the caller's arguments as one of all `count`: before them stand bound nodes, which lanes share."""
    if not of_bound:
        return prefix
    if isinstance(prefix, (tuple, list)):
        return (*of_bound, *prefix)
    return (*of_bound, *[prefix] * (count - len(of_bound)))


def check_axis(value: Any, where: str) -> None:
    """Raise if a value in `in_axes` or `out_axes` is not an axis.

    Raises:
        TypeError: Names the argument, and what was found.
    """
    if not is_axis(value):
        raise TypeError(
            f"{where}: an axis is an integer or None; found {describe(value)}"
        )


@overload
def shard_map(
    f: Callable[P, R],
    /,
    *,
    mesh: Any = ...,
    in_specs: Any,
    out_specs: Any,
    axis_names: Collection[Hashable] = ...,
    check_vma: bool = ...,
) -> Callable[P, R]: ...
@overload
def shard_map(
    *,
    mesh: Any = ...,
    in_specs: Any,
    out_specs: Any,
    axis_names: Collection[Hashable] = ...,
    check_vma: bool = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
# Any: specs are pytree prefixes of arguments and result, in which `axes(...)` may
# stand.
def shard_map(
    f: Function | None = None,
    /,
    *,
    mesh: Any = None,
    in_specs: Any,
    out_specs: Any,
    axis_names: Collection[Hashable] = frozenset(),
    check_vma: bool = True,
) -> Any:
    """Map a function of nodes and arrays over shards of them, as `jax.shard_map` does one of arrays.

    A node has a partition spec for each State: one for all, or `axes({filter: spec})`.
    What is written goes back with the same spec.

    Args:
        f: A function, a method or a callable node; left out in `@gn.shard_map(...)`.
        mesh: As in `jax.shard_map`.
        in_specs: A pytree prefix of the positional arguments: partition specs, and
            `axes(...)` for a node.
        out_specs: A pytree prefix of the result.
        axis_names: As in `jax.shard_map`.
        check_vma: As in `jax.shard_map`.

    Returns:
        The mapped function, with the signature of `f`.

    Raises:
        AliasError: At a call: a State is reached with two specs; names both places.
        StackError: At a call: a random stream of the result, whose spec has axes, does
            not depend on them, so that several devices would draw the same numbers;
            names all. With `check_vma=False` it is not found out.
        StructureError: At a call: the function changes the structure of a node.
        TypeError: `out_specs` holds `axes(...)`.
        ValueError: At a call: specs do not fit, or a State with a replicated spec was
            written with other values.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> spec = jax.P("data")
        >>> model = gn.nn.Linear(2, 3)
        >>> apply = gn.shard_map(lambda model, x: model(x), mesh=mesh, in_specs=(jax.P(), spec), out_specs=spec)
        >>> apply(model, jnp.ones((4, 2))).shape
        (4, 3)
    """
    options: dict[str, Any] = {
        "mesh": mesh,
        "axis_names": set(axis_names),
        "check_vma": check_vma,
    }
    again = functools.partial(
        shard_map, in_specs=in_specs, out_specs=out_specs, **options
    )
    if f is None:
        return again
    check_output_specs(out_specs)
    target, bound = target_of(f)

    @hides_frames
    @functools.wraps(target)
    def mapped(*args: Any) -> Any:
        """One call: the shards run as `jax.shard_map` maps them, and what they wrote is written by its spec."""
        call = Call("shard_map", target, args)
        prefix = _with_bound(in_specs, [_SHARED] * len(bound), len(args))
        state_specs, leaf_specs = spread_axes(
            call, prefix, None, lambda value, where: None
        )
        specs = tuple([_SHARED if spec is None else spec for spec in state_specs])
        # All States come back, whether written or not: JAX wants the specs of results
        # before it traces.
        pure = call.pure(tuple(range(len(specs))))
        # Where JAX does not follow what varies, equal keys cannot be told from others.
        shard = Shard(pure, specs, out_specs) if check_vma else pure
        changed: list[int] = []

        def run(values: Values, other_leaves: list[Any]) -> Outcome:
            """The pure function of one shard; notes which States it changed, for the message of an error."""
            outcome = shard(values, other_leaves)
            # In place: the error that needs it comes from JAX, which does not hand on
            # what was written.
            changed[:] = outcome[0].changed
            return outcome

        sharded = jax.shard_map(
            run,
            in_specs=(specs, leaf_specs),
            out_specs=(_SHARED, specs, out_specs),
            **options,
        )
        try:
            return call.finish(call.run(sharded, call.values, call.other_leaves))
        except ValueError as error:
            replicated = [
                call.state_name(number)
                for number in changed
                if specs[number] == _SHARED
            ]
            # JAX speaks of its outputs by index. The note says which States they are.
            if replicated:
                error.add_note(_REPLICATED.format(", ".join(replicated)))
            raise

    return rebind(mapped, bound, f, again)
