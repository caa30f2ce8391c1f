"""`Cell`, the base of recurrent cells: one step of a recurrent network."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import jax

from ._module import Module

C = TypeVar("C")


class Cell(Module, ABC, Generic[C]):
    """One step of a recurrent network: from what is carried and an input to what is carried on and an output.

    What is carried is passed and returned, not kept: its shape follows the batch, and a
    cell may run over several sequences at once. `RNN` runs a cell over time.

    Example:
        >>> class Sum(gn.nn.Cell[jax.Array]):
        ...     def initial_carry(self, batch: tuple[int, ...] = ()) -> jax.Array:
        ...         return jnp.zeros((*batch, 1))
        ...     def __call__(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        ...         return carry + x, carry + x
        >>> gn.nn.RNN(Sum())(jnp.array([[1.0], [2.0], [3.0]])).tolist()
        [[1.0], [3.0], [6.0]]
    """

    @abstractmethod
    def initial_carry(self, batch: tuple[int, ...] = ()) -> C:
        """What is carried into the first step of sequences with the batch axes `batch`."""

    @abstractmethod
    def __call__(self, carry: C, x: jax.Array, /) -> tuple[C, jax.Array]:
        """One step: what is carried on, and the output."""
