"""`RNN`, which runs a recurrent cell over time."""

from dataclasses import KW_ONLY
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from .._errors import ContractError
from ..transforms import eval_shape, scan
from ._cell import Cell
from ._checks import place
from ._module import Layer
from ._spread import entries_of, spread, varying_as

C = TypeVar("C")


class RNN(Layer, Generic[C]):
    """Runs a recurrent cell over the second axis from the end, time, by `gn.scan`.

    Args:
        cell: The cell, whose States may be written at each step.
        reverse: Whether time runs backward: the last element first. The outputs stay at
            the places of their inputs.

    Raises:
        ContractError: An input without an axis of time.

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

    def __call__(self, x: jax.Array) -> jax.Array:
        """The cell's outputs for `x` of shape `[..., time, features]`, from its initial carry on.

        Raises:
            ContractError: `x` has less than two axes.
        """
        return self.run(x)[1]

    def run(self, x: jax.Array, carry: C | None = None) -> tuple[C, jax.Array]:
        """What the cell carries at the end, and its outputs.

        Args:
            x: Of shape `[..., time, features]`.
            carry: What is carried into the first step; by default the cell's initial
                carry.

        Raises:
            ContractError: `x` has less than two axes.

        Example:
            >>> rnn = RNN(gn.nn.GRUCell(3, 4))
            >>> carry, first = rnn.run(jnp.ones((5, 3)))
            >>> carry, then = rnn.run(jnp.ones((5, 3)), carry)
            >>> then.shape
            (5, 4)
        """
        if x.ndim < 2:
            raise ContractError(
                f"{place(self)}: x: expected shape (..., time, features); found {x.shape}"
            )
        start = self._start(x) if carry is None else carry

        def step(
            carried: tuple[RNN[C], C], element: jax.Array
        ) -> tuple[tuple[RNN[C], C], jax.Array]:
            """One round of the scan; the node is in the carry, as what the cell writes must go on."""
            rnn, before = carried
            after, y = rnn._step(before, element)
            return (rnn, jax.tree.map(_laid_out_as, after, before)), y

        # The scan runs over the first axis; the time is the last but one.
        (_, end), outputs = scan(
            step, (self, start), jnp.moveaxis(x, -2, 0), reverse=self.reverse
        )
        return end, jnp.moveaxis(outputs, 0, -2)

    def _start(self, x: jax.Array) -> C:
        """The cell's initial carry, in the dtypes that a step gives: those of the parameters may be promoted by `x`."""
        start = self.cell.initial_carry(x.shape[:-2])
        # The scan takes a carry of one type alone, and that says how it is laid out.
        start = jax.tree.map(lambda leaf: varying_as(leaf, x), start)
        batch = entries_of(x)
        if batch is not None:
            start = jax.tree.map(
                lambda leaf: spread(
                    leaf, (*batch[:-2], *[None] * (leaf.ndim - x.ndim + 2))
                ),
                start,
            )
        if all(leaf.dtype == x.dtype for leaf in jax.tree.leaves(start)):
            return start  # the usual case, without a step that is traced twice

        def carried(rnn: RNN[C], carry: C, x: jax.Array) -> C:
            """What one step carries on: asked for its dtypes alone."""
            # Without time, of which there may be none.
            first = jnp.zeros((*x.shape[:-2], x.shape[-1]), x.dtype)
            if batch is not None:
                first = spread(first, (*batch[:-2], batch[-1]))
            return rnn._step(carry, first)[0]

        after = eval_shape(carried, self, start, x)
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
