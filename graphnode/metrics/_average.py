"""`ExponentialMovingAverage`: averages of the States of a model over the steps of its training."""

import functools
import math
from types import EllipsisType
from typing import Any, Final, TypeVar, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
from typing_extensions import TypeVar as DefaultTypeVar

from .._compat import current_trace
from .._declare._node import Node
from .._describe import shape_text
from .._errors import ContractError, FilterError, StructureError, listed
from .._fields import state, static
from .._filters import Filter, Matcher, as_filter
from .._graph._binding_cache import binding_of
from .._graph._layout import Layout
from .._graph._unflatten import rebuild
from .._paths import Path, path_str
from .._signals import write_all
from .._split import graphdef, states
from .._state import LongTermState, ParamState, State, new_state, spec_of
from ..nn._checks import is_number
from ..optim._members import members_of
from ..optim._memory import nested

T = DefaultTypeVar("T", default=jax.Array)
N = TypeVar("N")

_REMEDY: Final = "make a new average for a model that has changed"
_MOST: Final = 2**31 - 1


class AverageState(LongTermState[T]):
    """An average of a State of a model, or how many updates there were.

    Example:
        >>> ema = gn.metrics.ExponentialMovingAverage(gn.nn.Linear(2, 3), 0.99)
        >>> for path in gn.states(ema, gn.metrics.AverageState):
        ...     print(gn.path_str(path))
        average.bias
        average.weight
        updates
    """


class ExponentialMovingAverage(Node):
    """Averages of States of a model, of which the late ones count most; `view` gives the model that has them.

    After each step `update` moves them: `average = decay * average + (1 - decay) * value`.
    With `debias`, the default, the average after `t` updates is that of these `t` values
    alone, with the weights `decay**(t - 1), ..., decay, 1` over their sum, as that of
    `optax.ema`: the values that the model started with have no weight, and a large decay
    is right from the first step on. Without, it starts at the values that the model has
    when the average is made.

    The averages have the paths of the model: the one of `layers.0.weight` is at
    `average.layers.0.weight`, of class `AverageState`, with the tag, the metadata and the
    sharding of the State; a plan lays it out alike, and a checkpoint saves it by this
    path. They are kept in at least float32, in whose place bfloat16 would round every
    small step off to none.

    The model is not kept: each `update` and `view` is given it.

    Args:
        model: The node (or pytree of nodes) to average.
        decay: How much of the average stays at each update; at least 0 and less than 1.
        wrt: Which States of the model are averaged. What running statistics are worth for
            averaged parameters is another question: `(gn.ParamState, gn.BatchState)`
            averages those of `gn.nn.BatchNorm` too.
        debias: Whether the average is that of the updates alone.

    Attributes:
        layout: The paths and descriptions of the States that are averaged.
        updates: How many updates were made.
        average: The averages, in lists and dicts along the paths of the model.

    Raises:
        ContractError: A decay that is not a number in [0, 1); a State that is averaged is
            not of floats: names all.
        FilterError: `wrt` selects no State of the model, or there is nothing at a path of
            a filter.
        FilterTypeError: `wrt` is not a filter.
        StructureError: `model` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.Linear(1, 1)
        >>> ema = gn.metrics.ExponentialMovingAverage(model, decay=0.5)
        >>> for value in (3.0, 6.0):
        ...     model.bias.value = jnp.array([value])
        ...     ema.update(model)
        >>> averaged = ema.view(model)
        >>> averaged.bias.value, model.bias.value
        (Array([5.], dtype=float32), Array([6.], dtype=float32))
    """

    decay: float = static()
    """How much of the average stays at each update."""
    wrt: Matcher = static()
    """Which States of the model are averaged."""
    debias: bool = static()
    """Whether the average is that of the updates alone."""
    layout: Layout = static()
    """The paths and descriptions of the States that are averaged."""
    updates: AverageState[Int[Array, ""]] = state(init=False)
    """How many updates were made."""
    # Any: how it nests is the model's.
    average: Any = state(init=False)
    """The averages."""

    def __init__(
        self,
        model: object,
        decay: float,
        wrt: Filter | EllipsisType = ParamState,
        *,
        debias: bool = True,
    ) -> None:
        if not is_number(decay) or not 0 <= decay < 1:
            raise ContractError(
                f"ExponentialMovingAverage.decay: expected a number in [0, 1); found {decay!r}"
            )
        self.decay = float(decay)
        self.wrt = as_filter(wrt)
        self.debias = bool(debias)
        selected = states(model, self.wrt)
        if not selected:
            raise FilterError(
                f"no State of {graphdef(model).type.__name__} is selected by wrt={self.wrt!r}"
            )
        self.layout = selected.layout
        averages: dict[Path, AverageState[Any]] = {
            ("average", *path): _average_of(member) for path, member in selected.items()
        }
        _check_floats(averages)
        self.average = nested(averages, "average")
        self.updates = AverageState(jnp.int32(0))

    def update(self, model: object) -> None:
        """Move the averages towards the values that the model has, in place.

        To be called after each step of the optimizer, inside of the compiled step.

        Args:
            model: The model that the average was made for, or a copy of it.

        Raises:
            UpdateError: The model has other States; names all.
            TraceError: A traced value would leak into a State from outside its trace.
                Nothing was written.
            StructureError: `model` is neither a node nor a pytree of nodes.
        """
        members = members_of(model, self.wrt, self.layout, "average", _REMEDY)
        averages = self._averages()
        count = self.updates.value
        # Never below 0 again, however long the training.
        count = jnp.where(count < _MOST, count + 1, count)
        weight = self._weight(count)
        move = functools.partial(_moved, weight=weight)
        moved = [
            jax.tree.map(move, average.value, member.value)
            for average, member in zip(averages, members, strict=True)
        ]
        # All averages are of this step, or none.
        names = [functools.partial(path_str, path) for path in self._paths()]
        write_all(
            [*averages, self.updates], [*moved, count], [*names, lambda: "updates"]
        )

    def view(self, model: N, /) -> N:
        """New nodes of the structure of the model, with the averages as they are now in place of its values.

        What is not averaged is shared: a write to it shows in both. The averages are in
        States of their own, of the dtypes of the model's: training goes on without them,
        and later updates do not reach them. Before the first update they are the values
        that the model had when the average was made.

        A later step with `donate=True` may take the memory of the averages: make the view
        when it is used.

        Args:
            model: The model that the average was made for, or a copy of it.

        Returns:
            A node (or pytree of nodes) of the same type.

        Raises:
            UpdateError: The model has other States; names all.
            ContractError: An average does not have the shape of its State.
            StructureError: `model` is neither a node nor a pytree of nodes.

        See also: `gn.view`, for a model in evaluation mode; one of a view has both.
        """
        members = members_of(model, self.wrt, self.layout, "average", _REMEDY)
        of_averages = {
            id(member): member.replace(value=_as_in(member, average))
            for member, average in zip(members, self._averages(), strict=True)
        }
        binding = binding_of(model)
        shared = [of_averages.get(id(member), member) for member in binding.states]
        trace = current_trace()
        traces = binding.traces
        if trace is not None:
            traces = (*traces, trace)
        return rebuild(binding.graphdef, shared, traces)  # type: ignore[no-any-return]

    def _paths(self) -> list[Path]:
        """The paths of the averages."""
        return [("average", *path) for path in self.layout.paths()]

    def _averages(self) -> list[State[Any]]:
        """The States of the averages, in the order of `layout`.

        Raises:
            StructureError: Some are not there any more.
        """
        present = states(self)
        missing = [path_str(path) for path in self._paths() if path not in present]
        if missing:
            raise StructureError(
                f"ExponentialMovingAverage: {listed([f'{path} is missing' for path in missing])}"
            )
        return [present[path] for path in self._paths()]

    def _weight(self, count: jax.Array) -> jax.Array:
        """How much the value of an update counts; `count` is how many there are with it."""
        fresh = 1 - self.decay
        if not self.debias:
            return jnp.asarray(fresh, jnp.float32)
        # (1 - decay) / (1 - decay**count). Not `1 - decay**count`: for
        # a decay of 0.9999, float32 would have four digits of it.
        log_decay = math.log(self.decay) if self.decay > 0 else -math.inf
        weight = fresh / -jnp.expm1(count.astype(jnp.float32) * log_decay)
        # At first the average is the value, to the last bit.
        return jnp.where(count == 1, 1.0, weight)


def _average_of(member: State[Any]) -> AverageState[Any]:
    """The State for the average of a State, described as this one is, so that it is sharded alike."""
    own = member._spec
    spec = spec_of(AverageState, None, own.tag, own.sharding, own.metadata, own.stacked)
    # Copies, as two States that hold one array cannot both be donated.
    value = jax.tree.map(_widened, member.value)
    return cast("AverageState[Any]", new_state(spec, value))  # of the class of the spec


def _widened(array: jax.Array) -> jax.Array:
    """A copy of an array, in at least float32 if it is of floats."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    is_narrow = array.dtype.itemsize < 4
    return jnp.array(array, jnp.float32 if is_narrow else array.dtype, copy=True)


def _moved(average: jax.Array, value: jax.Array, weight: jax.Array) -> jax.Array:
    """An average after an update in which a value has this weight."""
    value = value.astype(average.dtype)
    # Not `(1 - weight) * average + weight * value`: their rounded sum is not 1, which
    # adds up over many updates.
    moved = average + weight.astype(average.dtype) * (value - average)
    # Whatever was there before.
    return jnp.where(weight == 1, value, moved)


def _as_in(member: State[Any], average: State[Any]) -> Any:
    """The value of an average, in the dtypes of the State of the model."""
    return jax.tree.map(
        lambda own, array: array.astype(own.dtype), member.value, average.value
    )


def _check_floats(averages: dict[Path, AverageState[Any]]) -> None:
    """Raise if there is anything to average that is not of floats, such as counts and random keys."""
    faults = [
        f"{path_str(path[1:]) or 'the State'} is {shape_text(leaf)}"
        for path, average in averages.items()
        for leaf in jax.tree.leaves(average.value)
        if not jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    if faults:
        raise ContractError(
            f"ExponentialMovingAverage averages floats: {listed(faults)}; leave out what is not, by wrt"
        )
