"""Axes (or partition specs) of the arguments of a call, as a caller writes them: for each State and other leaf.

A caller gives a pytree prefix of the arguments, in which a value for a node holds for
all its States, and `axes` says it State by State. Of a State that is reached several
times all places must say the same.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple, TypeVar, overload

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec, Sharding

from .._arguments import wrong_argument
from .._describe import describe
from .._errors import AliasError, listed
from .._filters import Filter, Matcher, as_filters
from .._graph._binding_cache import binding_of
from .._graph._layout import Layout
from .._graph_to_tree import spread
from .._paths import path_str
from .._selection import check_answers
from .._statetree import Item, select
from ._boundary import Call

# A mapping is invariant in its keys: this takes one of any kind of filters.
F = TypeVar("F", bound=Filter | EllipsisType)


class PerState:
    """What a caller says of a node State by State, in place of one value for all of them."""

    __slots__ = ()

    # Any: of an axis, a partition spec or a sharding.
    def of(self, node: object) -> list[Any]:
        """The value for each State of a node, in layout order."""
        raise NotImplementedError  # pragma: no cover  # each subclass defines it

    # Any: as in `of`; states are what filters take.
    def over(self, layout: Layout, states: Sequence[Any]) -> dict[int, Any]:
        """The value for each State of a layout about which it says anything, by number."""
        raise NotImplementedError  # pragma: no cover  # each subclass defines it


@dataclasses.dataclass(frozen=True, slots=True)
class Axes(PerState):
    """An axis for each State of a node; see `axes`.

    Attributes:
        filters: Tried in order.
        values: The axis of the States that each filter is the first to accept.
    """

    filters: tuple[Matcher, ...]
    values: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"axes({dict(zip(self.filters, self.values, strict=True))!r})"

    # Any: of an axis or a partition spec.
    def of(self, node: object) -> list[Any]:
        """The axis of each State of a node, in layout order; `None` for what no filter accepts.

        Raises:
            FilterError: A path leads nowhere; or two filters that select a State by
                different paths differ.
        """
        binding = binding_of(node)
        answers = self.over(binding.graphdef.layout, binding.states)
        return [answers.get(number) for number in range(len(binding.states))]

    # Any: of an axis or a partition spec; states are what filters take.
    def over(self, layout: Layout, states: Sequence[Any]) -> dict[int, Any]:
        """The axis of each State of a layout that a filter accepts, by its number.

        Args:
            layout: The layout.
            states: What filters that are functions get for each State.

        Raises:
            FilterError: As of `of`.
        """
        # What no filter accepts is left over, and has no axis: unlike a split, this
        # need not cover all States.
        selection, _ = select(layout, self.filters, lambda: states)
        groups = [numbers for numbers, _ in selection]
        items = [Item(layout, at, state) for at, state in enumerate(states)]
        check_answers(layout, items, self.filters, self.values, groups)
        return {
            number: value
            for numbers, value in zip(groups, self.values, strict=True)
            for number in numbers
        }


# The first for mappings that are written out, whose keys mypy would join to `object`;
# the second for those with a name, as a Mapping takes no other type of keys than its
# own (pyright knows that, but not when it compares overloads).
@overload
def axes(
    by_filter: Mapping[Filter | EllipsisType, int | PartitionSpec | Sharding | None], /
) -> Axes: ...
@overload
def axes(  # pyright: ignore[reportOverlappingOverload]
    by_filter: Mapping[F, int | PartitionSpec | Sharding | None], /
) -> Axes: ...
def axes(by_filter: Mapping[Any, int | PartitionSpec | Sharding | None], /) -> Axes:
    """Say for each State of a node along which axis a transform maps it: what stands for a node in `in_axes`.

    Args:
        by_filter: From filters, tried in order, to axes: an integer, or `None` for
            States that all calls share. For `shard_map`, from filters to partition
            specs; for `in_shardings` of `jit`, to these or shardings. States that no
            filter accepts have no axis. Two filters that select a State, each by a path
            of it that the other does not select, must give it the same.

    Raises:
        TypeError: It is not a mapping, or something in it is not an axis.
        FilterTypeError: A key is not a filter.
        FilterError: `...` stands before another filter.

    Example:
        >>> gn.axes({gn.ParamState: None, gn.ShortTermState: 0})
        axes({ParamState: None, ShortTermState: 0})
    """
    if not isinstance(by_filter, Mapping):
        raise TypeError(wrong_argument("a mapping from filters to axes", by_filter))
    for axis in by_filter.values():
        if not (is_axis(axis) or isinstance(axis, PartitionSpec | Sharding)):
            raise TypeError(
                f"gn.axes: an axis is an integer or None; found {describe(axis)}"
            )
    return Axes(as_filters(list(by_filter)), tuple(by_filter.values()))


class Spread(NamedTuple):
    """What a prefix says.

    Attributes:
        values: For each State of the call, by its number.
        other_leaves: For each other leaf.
    """

    values: tuple[Any, ...]
    other_leaves: list[Any]

    def all(self) -> list[Any]:
        """The values for the States, then those for the other leaves: in the order of `values` and leaves of a call."""
        return [*self.values, *self.other_leaves]


def spread_axes(
    call: Call, prefix: Any, for_kwargs: Any, check: Callable[[Any, str], None]
) -> Spread:
    """What a prefix of the positional arguments says of each State and each other leaf.

    For `vmap`, `scan` and `shard_map`: JAX gets flat rows of values and leaves, and
    their axes likewise.

    Args:
        call: The call.
        prefix: A pytree prefix of its positional arguments; `None` and `axes(...)` are
            values in it.
        for_kwargs: What holds for arguments that are given by name.
        check: Raises when a value is none that the transform takes, given it and the
            name of the argument.

    Raises:
        AliasError: A State is reached with two values; names all.
        ValueError: The prefix does not fit the arguments.
    """
    args, kwargs = call.signature.fill(call.roots, call.other_leaves)
    values = _spread_args(call, prefix, args)
    # After those of the positional arguments, as in the leaves of `(args, kwargs)`.
    values += [for_kwargs] * len(jax.tree.leaves(kwargs))
    names = call.site.leaf_names()
    places = set(call.signature.places)
    states = _StateAxes(call, check)
    other_leaves: list[Any] = []
    roots = iter(call.roots)
    for at, value in enumerate(values):
        if at in places:
            states.add(next(roots), value, names[at])
        # `axes` chooses among the States of a node; an array has none to choose from.
        elif isinstance(value, PerState):
            raise TypeError(
                f"gn.{call.transform}: {names[at]} is not a node, and takes no {value!r}"
            )
        else:
            check(value, names[at])
            other_leaves.append(value)
    return Spread(states.in_order(), other_leaves)


class _StateAxes:
    """The axes of the States of a call, which are collected root by root: all paths of a State must say the same."""

    def __init__(self, call: Call, check: Callable[[Any, str], None]) -> None:
        """Begin with no axes; `check` raises for what is none, given it and the name of its State."""
        self._transform, self._check = call.transform, check
        self._numbers = {id(state): n for n, state in enumerate(call.binding.states)}
        # The axis of each State, and the name of the path that said it first
        self._by_number: dict[int, tuple[Any, str]] = {}
        self._faults: list[str] = []

    def add(self, root: Any, value: Any, name: str) -> None:
        """Take what the caller said of one root: an axis for all its States, or `axes(...)`.

        Args:
            root: A node or State among the arguments.
            value: The axis or the `Axes`.
            name: What messages call the root.
        """
        binding = binding_of(root)
        states, layout = binding.states, binding.graphdef.layout
        axes = value.of(root) if isinstance(value, PerState) else [value] * len(states)
        for number, (state, axis) in enumerate(zip(states, axes, strict=True)):
            where = f"{name}.{path_str(layout.path(number))}".rstrip(".")
            self._check(axis, where)
            # The first place decides, and every other one must agree: the value of a
            # State that two arguments share is handed to JAX once.
            first_axis, first = self._by_number.setdefault(
                self._numbers[id(state)], (axis, where)
            )
            if first_axis != axis:
                self._faults.append(
                    f"one {type(state).__name__} is reached as {first} with {first_axis!r} and as {where} with {axis!r}"
                )

    def in_order(self) -> tuple[Any, ...]:
        """The axes of all States, in order.

        Raises:
            AliasError: A State is reached with two; names all.
        """
        if self._faults:
            raise AliasError(
                f"gn.{self._transform}: inconsistent axes: {listed(self._faults)}"
            )
        return tuple([self._by_number[n][0] for n in range(len(self._by_number))])


def _spread_args(call: Call, prefix: Any, args: tuple[Any, ...]) -> list[Any]:
    """The value that a prefix has for each leaf of the positional arguments, in order; a node is one leaf.

    Raises:
        ValueError: The prefix does not fit the arguments.
    """
    if isinstance(prefix, list):
        prefix = tuple(prefix)  # as JAX takes it
    try:
        return spread(prefix, args)
    except ValueError as error:
        raise ValueError(
            f"gn.{call.transform}: {prefix!r} is not a prefix of the arguments: {error}"
        ) from None


def check_output_specs(prefix: Any) -> None:
    """Raise if `axes` stands in `out_specs`, of which JAX wants to know each before a call.

    Raises:
        TypeError: Says what can be written instead.
    """
    if any(isinstance(leaf, Axes) for leaf in jax.tree.leaves(prefix)):
        raise TypeError(
            "gn.shard_map: out_specs takes no gn.axes({...}): a node that the function makes has one spec for all its "
            "States. Build the node outside and pass it in, with gn.axes({...}) for it, or return the arrays, each "
            "with its own spec"
        )


def is_axis(value: Any) -> bool:
    """Whether a value is an axis: an integer or `None`."""
    # `True` is an integer of Python, and certainly a mistake here.
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def check_sizes(call: Call, axes: Spread, remedy: str, size: int | None = None) -> None:
    """Raise if what is mapped has no such axis, or has another size along it.

    JAX's own error would not name States.

    Args:
        call: The call.
        axes: The axes of its States and other leaves; what is not an integer is not
            mapped.
        remedy: What would do.
        size: The size that is asked for, if one is.

    Raises:
        ValueError: Names all that has no such axis; or else what has which size.
    """
    without_axis: list[tuple[int, tuple[int, ...], int]] = []
    numbers_of: dict[int, list[int]] = {}  # of what has a size
    values, all_axes = (*call.values, *call.other_leaves), axes.all()
    for at, (value, axis) in enumerate(zip(values, all_axes, strict=True)):
        if not isinstance(axis, int):
            continue
        for shape in map(jnp.shape, jax.tree.leaves(value)):
            # As in NumPy, a negative axis counts from the end.
            if -len(shape) <= axis < len(shape):
                numbers_of.setdefault(shape[axis], []).append(at)
            else:
                without_axis.append((at, shape, axis))
    # Of what is mapped, and what the caller asks for, if anything.
    sizes = numbers_of.keys() | ({size} - {None})
    if not without_axis and len(sizes) < 2:
        return
    # Names cost a walk over all paths: only an error pays for them.
    names = [*call.site.state_names(), *call.site.other_leaf_names()]
    if without_axis:
        faults = [
            f"{names[at]} has shape {shape}, and no axis {axis}"
            for at, shape, axis in without_axis
        ]
        text = listed(faults, limit=10)
    else:
        text = _sizes_text(names, numbers_of, size)
    raise ValueError(f"gn.{call.transform}: {text}. {remedy}")


def _sizes_text(
    names: Sequence[str], numbers_of: Mapping[int, Sequence[int]], size: int | None
) -> str:
    """For a message: which sizes along the mapped axes differ.

    Args:
        names: What messages call each State and leaf of the call.
        numbers_of: For each size the numbers of those that have it, among `names`.
        size: The size that the caller asks for, if any.
    """
    texts = [f"{size} is asked for"] if size is not None else []
    for length, numbers in numbers_of.items():
        texts.append(f"{length} of {_first_names([names[at] for at in numbers])}")
    return f"sizes along the mapped axes differ: {'; '.join(texts)}"


def _first_names(names: Sequence[str]) -> str:
    """For a message: the first three of these names, and how many more there are, as a model may have hundreds."""
    unique = list(dict.fromkeys(names))
    text = ", ".join(unique[:3])
    return f"{text} and {len(unique) - 3} more" if len(unique) > 3 else text
