"""`Dropout`, which sets random elements to zero."""

from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp

from .._errors import ContractError, RngError
from .._rngs import Rngs
from ._checks import fraction, place
from ._module import Layer


class Dropout(Layer):
    """Sets each element to zero with probability `rate`, and scales the others by 1 / (1 - rate).

    The expectation of each element stays what it was, so that nothing has to be
    rescaled in evaluation (Srivastava et al. 2014, "Dropout: A Simple Way to Prevent
    Neural Networks from Overfitting", section 10). Shape and dtype stay too. With rate
    0, and when it is deterministic, the result is the input itself, and nothing is
    drawn.

    Args:
        rate: The probability of zero.
        rngs: Draws come from its stream "dropout", or else its default one. It may be
            shared with other layers.
        rng_collection: The name of another stream to draw from.
        broadcast_axes: Axes along which all elements share one decision.
        deterministic: Whether the input passes as it is; `gn.view(model,
            deterministic=True)` sets it everywhere.

    Raises:
        ContractError: A rate outside of [0, 1]; an input that is not of a
            floating-point or complex dtype, or lacks an axis of `broadcast_axes`.
        RngError: There is no stream to draw from.

    Example:
        >>> layer = Dropout(0.5, rngs=gn.Rngs(0))
        >>> layer(jnp.ones(8))
        Array([0., 0., 0., 0., 2., 0., 2., 2.], dtype=float32)
        >>> layer(jnp.ones(8), deterministic=True)
        Array([1., 1., 1., 1., 1., 1., 1., 1.], dtype=float32)
    """

    rate: float
    """The probability of zero."""
    _: KW_ONLY
    rngs: Rngs | None = None
    """What is drawn from, if the call is not given others."""
    rng_collection: str = "dropout"
    """The name of the stream that is drawn from."""
    broadcast_axes: tuple[int, ...] = ()
    """Axes along which all elements share one decision."""
    deterministic: bool = False
    """Whether the input passes as it is."""

    def __post_init__(self) -> None:
        self.rate = fraction("Dropout.rate", self.rate)

    def __call__(
        self,
        x: jax.Array,
        *,
        rngs: Rngs | None = None,
        deterministic: bool | None = None,
    ) -> jax.Array:
        """Drop elements of `x`.

        Args:
            x: An array of any shape.
            rngs: Used instead of the layer's own.
            deterministic: Used instead of the layer's own.

        Raises:
            ContractError: `x` is not of a floating-point or complex dtype, or lacks an
                axis of `broadcast_axes`.
            RngError: There is no stream to draw from.
            TraceError: A JAX transformation runs that the streams were not passed into.
        """
        # It may have been assigned, or come from a view
        rate = fraction("Dropout.rate", self.rate)
        if rate == 0.0 or (
            self.deterministic if deterministic is None else deterministic
        ):
            return x
        shape = self._mask_shape(x)
        # Without a draw, and before the division by zero. After the checks of the
        # input, which do not depend on the rate.
        if rate == 1.0:
            return jnp.zeros_like(x)
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise RngError(
                f"{place(self)} has no rngs to draw from: pass rngs=gn.Rngs(0) to the layer or to the call, or "
                "deterministic=True to drop nothing"
            )
        is_kept = jax.random.bernoulli(source(self.rng_collection), 1.0 - rate, shape)
        return jnp.where(jnp.broadcast_to(is_kept, x.shape), x / (1.0 - rate), 0)

    def _mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        """The shape of the decisions for an input: size 1 along the axes that share one.

        Raises:
            ContractError: The input is not of a floating-point or complex dtype, or lacks
                an axis.
        """
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            raise ContractError(
                f"{place(self)}: expected an input of a floating-point or complex dtype; found {x.dtype}"
            )
        axes = self.broadcast_axes
        if any(not -x.ndim <= axis < x.ndim for axis in axes):
            raise ContractError(
                f"{place(self)}: expected an input with the axes {axes} of broadcast_axes; found {x.shape}"
            )
        # The modulo makes negative axes count from the end.
        shared = {axis % x.ndim for axis in axes}
        return tuple(
            [1 if axis in shared else size for axis, size in enumerate(x.shape)]
        )
