"""`Cell`, the base of recurrent cells: one step of a recurrent network; and that of cells with gates."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import RngError
from .._fields import Initializer, state, static
from .._state import ParamState
from . import initializers
from ._checks import function, place, size
from ._dtypes import each, inexact, init_vars, optional_parameter, parameter
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


class GatedCell(Cell[C]):
    """What `GRUCell` and `LSTMCell` share: their fields, and parameters of several parts side by side.

    A part is for one gate, or for the candidate. Each is initialised by itself: its
    fans are not those of all parts together.
    """

    in_size: int
    """Features of the input."""
    hidden_size: int
    """Features of what is carried, and of the output."""
    _: KW_ONLY
    gate_fn: Callable[[jax.Array], jax.Array] = static(default=jax.nn.sigmoid)
    """Applied to the gates."""
    activation_fn: Callable[[jax.Array], jax.Array] = static(default=jax.nn.tanh)
    """Applied to the candidate, and to the memory."""
    carry_init: Initializer = static(default=initializers.zeros)
    """Initialiser of what is carried into the first step."""
    # A field, and no init variable: a subclass may have a `__post_init__` of its own, which
    # takes those that there were.
    use_bias: bool = True
    """Whether there is a bias."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    recurrent_init: InitVar[Initializer] = initializers.orthogonal
    """Initialiser of the recurrent weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    weight: ParamState[Float[Array, "in_size _"]] = state(init=False)
    """From the input to all parts."""
    recurrent: ParamState[Float[Array, "hidden_size _"]] = state(init=False)
    """From what is carried to the same."""
    bias: ParamState[Float[Array, "_"]] | None = state(init=False)
    """Added to the same, if anything."""

    _parts: ClassVar[int]

    def __post_init__(
        self,
        w_init: Initializer,
        recurrent_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        name, parts = type(self).__name__, self._parts
        self.in_size = size(f"{name}.in_size", self.in_size)
        self.hidden_size = hidden_size = size(f"{name}.hidden_size", self.hidden_size)
        self.gate_fn = function(f"{name}.gate_fn", self.gate_fn)
        self.activation_fn = function(f"{name}.activation_fn", self.activation_fn)
        self.carry_init = function(f"{name}.carry_init", self.carry_init)
        self.dtype = inexact(f"{name}.dtype", self.dtype)
        width = parts * hidden_size
        self.weight = parameter(each(w_init, parts), (self.in_size, width), param_dtype)
        self.recurrent = parameter(
            each(recurrent_init, parts), (hidden_size, width), param_dtype
        )
        # A bias has no fans: all parts at once.
        self.bias = optional_parameter(self.use_bias, b_init, (width,), param_dtype)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        return init_vars(self.weight)


def first_carry(
    cell: Module,
    carry_init: Initializer,
    key: jax.Array | None,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> jax.Array:
    """For `initial_carry`: an array of a carry.

    Args:
        cell: The cell, for the error.
        carry_init: The initialiser.
        key: What it draws with, if it does.
        shape: Of the array.
        dtype: Of the array.

    Raises:
        RngError: It needs a key, and there is none.
    """
    # Any: most initialisers of a carry are of one value, and need no key.
    init: Any = carry_init
    try:
        return init(key, shape, dtype)  # type: ignore[no-any-return]
    except Exception as error:  # whatever a function raises that is given no key
        if key is not None:
            raise
        raise RngError(
            f"{place(cell)}: its carry_init needs a key: pass key= to initial_carry, and what it gives to the RNN "
            "as initial_carry="
        ) from error
