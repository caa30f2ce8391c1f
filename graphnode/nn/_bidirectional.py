"""`Bidirectional`, which runs over a sequence in both directions of time."""

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp

from .._fields import static
from ._checks import function
from ._module import Layer
from ._rnn import RNN, Lengths

C = TypeVar("C")


def concatenated(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Both outputs side by side, along the last axis."""
    return jnp.concatenate([forward, backward], -1)


class Bidirectional(Layer, Generic[C]):
    """Runs over a sequence in both directions of time, and merges the outputs at each place.

    Schuster & Paliwal 1997, "Bidirectional Recurrent Neural Networks". The `reverse` and
    `time_major` of both `RNN`s are not asked for.

    Args:
        forward_rnn: Runs from the first element to the last.
        backward_rnn: Runs from the last element to the first. It may be `forward_rnn`:
            then both directions have the same parameters.
        merge_fn: From the outputs of both to the output; by default they stand side by
            side along the last axis.
        time_major: Whether time is the first axis, before those of the batch.

    Raises:
        ContractError: A `merge_fn` that is not a function; an input without an axis of
            time.

    Example:
        >>> layer = Bidirectional(gn.nn.RNN(gn.nn.GRUCell(3, 4)), gn.nn.RNN(gn.nn.GRUCell(3, 4)))
        >>> layer(jnp.ones((2, 7, 3))).shape
        (2, 7, 8)
    """

    forward_rnn: RNN[C]
    """Runs from the first element to the last."""
    backward_rnn: RNN[C]
    """Runs from the last element to the first."""
    _: KW_ONLY
    merge_fn: Callable[[jax.Array, jax.Array], jax.Array] = static(default=concatenated)
    """From the outputs of both to the output."""
    time_major: bool = False
    """Whether time is the first axis."""

    def __post_init__(self) -> None:
        self.merge_fn = function("Bidirectional.merge_fn", self.merge_fn)

    def __call__(
        self,
        x: jax.Array,
        *,
        initial_carry: tuple[C, C] | None = None,
        seq_lengths: Lengths | None = None,
    ) -> jax.Array:
        """The merged outputs for `x` of shape `[..., time, features]`.

        Args:
            x: The sequences.
            initial_carry: What is carried into the first step of both directions; by
                default the initial carries of the cells.
            seq_lengths: Of shape `[...]`: how many elements of each sequence count; see
                `RNN.run`.

        Raises:
            ContractError: `x` has less than two axes; lengths of another shape, or that
                are not integers.
        """
        return self.run(x, initial_carry, seq_lengths=seq_lengths)[1]

    def run(
        self,
        x: jax.Array,
        carry: tuple[C, C] | None = None,
        *,
        seq_lengths: Lengths | None = None,
    ) -> tuple[tuple[C, C], jax.Array]:
        """What both carry at their ends, and the merged outputs; the arguments are those of a call.

        Raises:
            ContractError: As of a call.
        """
        forward, backward = (None, None) if carry is None else carry
        last, ahead = self.forward_rnn.run(
            x,
            forward,
            seq_lengths=seq_lengths,
            reverse=False,
            time_major=self.time_major,
        )
        first, back = self.backward_rnn.run(
            x,
            backward,
            seq_lengths=seq_lengths,
            reverse=True,
            time_major=self.time_major,
        )
        return (last, first), self.merge_fn(ahead, back)
