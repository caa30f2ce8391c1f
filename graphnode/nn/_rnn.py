"""`RNN`, which runs a recurrent cell over time."""

from dataclasses import KW_ONLY
from typing import Any, Generic, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer

from .._errors import ContractError
from ..transforms import eval_shape, scan
from ._cell import Cell
from ._checks import check_inputs, place, size
from ._module import Layer
from ._spread import entries_of, spread, varying_as

C = TypeVar("C")

Lengths: TypeAlias = Integer[Array, "..."]


class RNN(Layer, Generic[C]):
    """Runs a recurrent cell over the second axis from the end, time, by `gn.scan`.

    Args:
        cell: The cell, whose States may be written at each step.
        reverse: Whether time runs backward: the last element first. The outputs stay at
            the places of their inputs.
        time_major: Whether time is the first axis, before those of the batch.
        unroll: How many steps are compiled into one round of the loop.

    Raises:
        ContractError: An `unroll` that is not a positive integer; an input without an
            axis of time.

    Example:
        >>> rnn = RNN(gn.nn.LSTMCell(3, 4))
        >>> rnn(jnp.ones((2, 7, 3))).shape
        (2, 7, 4)
    """

    cell: Cell[C]
    """Called at each step."""
    _: KW_ONLY
    reverse: bool = False
    """Whether time runs backward."""
    time_major: bool = False
    """Whether time is the first axis."""
    unroll: int = 1
    """Steps in one round of the loop."""

    def __post_init__(self) -> None:
        self.unroll = size("RNN.unroll", self.unroll)

    def __call__(
        self,
        x: jax.Array,
        *,
        initial_carry: C | None = None,
        seq_lengths: Lengths | None = None,
    ) -> jax.Array:
        """The cell's outputs for `x` of shape `[..., time, features]`.

        Args:
            x: The sequences.
            initial_carry: What is carried into the first step; by default the cell's
                initial carry.
            seq_lengths: Of shape `[...]`: how many elements of each sequence count; see
                `run`.

        Raises:
            ContractError: `x` has less than two axes; lengths of another shape, or that
                are not integers.
        """
        return self.run(x, initial_carry, seq_lengths=seq_lengths)[1]

    def run(
        self,
        x: jax.Array,
        carry: C | None = None,
        *,
        seq_lengths: Lengths | None = None,
        reverse: bool | None = None,
        time_major: bool | None = None,
    ) -> tuple[C, jax.Array]:
        """What the cell carries at the end, and its outputs.

        Args:
            x: Of shape `[..., time, features]`.
            carry: What is carried into the first step; by default the cell's initial
                carry.
            seq_lengths: Of shape `[...]`: how many elements of each sequence count, the
                first ones. The others change nothing of what is carried, and their
                outputs are 0. Backward, a sequence begins at its last element that
                counts.
            reverse: Used instead of the layer's own.
            time_major: Used instead of the layer's own.

        Raises:
            ContractError: `x` has less than two axes; lengths of another shape, or that
                are not integers.

        Example:
            >>> rnn = RNN(gn.nn.GRUCell(3, 4))
            >>> carry, first = rnn.run(jnp.ones((5, 3)))
            >>> carry, then = rnn.run(jnp.ones((5, 3)), carry)
            >>> then.shape
            (5, 4)
        """
        time_first = self.time_major if time_major is None else time_major
        backward = self.reverse if reverse is None else reverse
        if x.ndim < 2:
            axes = "time, ..., features" if time_first else "..., time, features"
            raise ContractError(
                f"{place(self)}: x: expected shape ({axes}); found {x.shape}"
            )
        # The scan runs over the first axis.
        elements = x if time_first else jnp.moveaxis(x, -2, 0)
        start = self._start(elements) if carry is None else carry
        if seq_lengths is None:

            def step(
                carried: tuple[RNN[C], C], element: jax.Array
            ) -> tuple[tuple[RNN[C], C], jax.Array]:
                """One round of the scan; the node is in the carry, as what the cell writes must go on."""
                rnn, before = carried
                after, y = rnn._step(before, element)
                return (rnn, jax.tree.map(_laid_out_as, after, before)), y

            (_, end), outputs = scan(
                step, (self, start), elements, reverse=backward, unroll=self.unroll
            )
        else:
            is_counted = self._counted(elements, seq_lengths)

            def masked_step(
                carried: tuple[RNN[C], C], element: tuple[jax.Array, jax.Array]
            ) -> tuple[tuple[RNN[C], C], jax.Array]:
                """One round of the scan, which goes on with what was carried where an element does not count."""
                (rnn, before), (one, counts) = carried, element
                # Whatever stands in padding: a NaN would reach the gradients of the cell.
                after, y = rnn._step(before, _where(counts, one, jnp.zeros_like(one)))
                kept: C = jax.tree.map(
                    lambda new, old: _where(counts, _laid_out_as(new, old), old),
                    after,
                    before,
                )
                return (rnn, kept), _where(counts, y, jnp.zeros_like(y))

            (_, end), outputs = scan(
                masked_step,
                (self, start),
                (elements, is_counted),
                reverse=backward,
                unroll=self.unroll,
            )
        return end, outputs if time_first else jnp.moveaxis(outputs, 0, -2)

    def _counted(self, elements: jax.Array, seq_lengths: jax.Array) -> jax.Array:
        """Which elements count, of shape `[time, *batch]`.

        Raises:
            ContractError: Lengths of another shape, or that are not integers.
        """
        check_inputs(self, seq_lengths=(seq_lengths, Lengths))
        batch = elements.shape[1:-1]
        if seq_lengths.shape != batch:
            raise ContractError(
                f"{place(self)}: seq_lengths: expected the shape {batch} of the batch; found {seq_lengths.shape}"
            )
        times = jnp.arange(elements.shape[0], dtype=seq_lengths.dtype)
        entries = entries_of(elements)
        if entries is not None:
            seq_lengths = spread(seq_lengths, entries[1:-1])
        times = times.reshape(-1, *[1] * len(batch))
        return times < jnp.expand_dims(seq_lengths, 0)

    def _start(self, elements: jax.Array) -> C:
        """The cell's initial carry, in the dtypes that a step gives: those of the parameters may be promoted by inputs.

        Args:
            elements: The inputs, of shape `[time, *batch, features]`.
        """
        start = self.cell.initial_carry(elements.shape[1:-1])
        # The scan takes a carry of one type alone, and that says how it is laid out.
        start = jax.tree.map(lambda leaf: varying_as(leaf, elements), start)
        entries = entries_of(elements)
        if entries is not None:
            start = jax.tree.map(
                lambda leaf: spread(
                    leaf, (*entries[1:-1], *[None] * (leaf.ndim - elements.ndim + 2))
                ),
                start,
            )
        if all(leaf.dtype == elements.dtype for leaf in jax.tree.leaves(start)):
            return start  # the usual case, without a step that is traced twice

        def carried(rnn: RNN[C], carry: C, elements: jax.Array) -> C:
            """What one step carries on: asked for its dtypes alone."""
            # Without time, of which there may be none.
            first = jnp.zeros(elements.shape[1:], elements.dtype)
            if entries is not None:
                first = spread(first, entries[1:])
            return rnn._step(carry, first)[0]

        after = eval_shape(carried, self, start, elements)
        structure: Any = jax.tree.structure(start)
        if structure != jax.tree.structure(after):
            return start  # the scan tells how they differ
        promoted: C = jax.tree.map(
            lambda before, after: before.astype(after.dtype), start, after
        )
        return promoted

    def _step(self, carry: C, x: jax.Array) -> tuple[C, jax.Array]:
        """Call the cell once, from a frame of the `RNN`: by that, errors inside of a scan find the cell's path."""
        # A method: in a scan, errors can tell the cell's place by the node that calls
        # it.
        return self.cell(carry, x)


def _laid_out_as(after: jax.Array, before: jax.Array) -> jax.Array:
    """What a step carries on, spread as what it got: the type of a carry stays, and with explicit axes that says it."""
    entries = entries_of(before)
    is_same_rank = after.ndim == before.ndim  # otherwise the scan tells how they differ
    return spread(after, entries) if entries is not None and is_same_rank else after


def _where(counts: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """`new` for the sequences whose element counts, else `old`; both begin with the axes of the batch."""
    features = range(counts.ndim, new.ndim)
    mask = jnp.broadcast_to(jnp.expand_dims(counts, tuple(features)), new.shape)
    entries = entries_of(new)
    return jnp.where(mask if entries is None else spread(mask, entries), new, old)
