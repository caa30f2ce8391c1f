"""`WeightNormLinear`, a linear map whose weight is a direction and a length."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact

from .._fields import Initializer, state
from .._signals import write_all
from .._state import ParamState
from .._stream import scope
from ._adapters import plain, taking_over
from ._dtypes import at_least_float32
from ._linear import Linear


class WeightNormLinear(Linear):
    """A linear map whose weight is `scale * weight / |weight|`: a length and a direction for each output.

    The length is over the features of the input (Salimans & Kingma 2016, "Weight
    Normalization", eq. 2, where `weight` is v and `scale` is g). At first `scale` is
    `|weight|`, so that the layer maps as the `Linear` that it was made of, up to
    rounding; `weight` and `bias` are at the same paths. A direction of zeros maps to zero,
    and its `scale` is 0 at first: no gradient reaches either, so begin with another weight.
    The weight is worked out in at least float32, and a mask is applied to it after that.

    The arguments are those of `Linear`.

    Raises:
        ContractError: As `Linear`.

    Example:
        >>> linear = gn.nn.Linear(2, 3)
        >>> layer = WeightNormLinear.of(linear)
        >>> layer.weight is linear.weight, layer.scale.value.shape
        (True, (3,))
        >>> bool(jnp.allclose(layer(jnp.ones(2)), linear(jnp.ones(2))))
        True
    """

    scale: ParamState[Inexact[Array, "out=out_features"]] = state(init=False)
    """The length of the weight of each output."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        super().__post_init__(use_bias, w_init, b_init, param_dtype)
        weight = self.weight.value
        self.scale = ParamState(
            _lengths(_widened(weight)).astype(weight.dtype),
            sharding=self.axes and self.axes[1:],
        )

    @classmethod
    def of(cls, linear: Linear) -> "WeightNormLinear":
        """A linear map with a normalised weight, for `gn.Selection.replace`: it holds the very States of `linear`.

        Args:
            linear: A plain `Linear`, which stays as it is.

        Raises:
            ContractError: `linear` is of a class that extends `Linear`, or is stacked or
                abstract.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).replace(WeightNormLinear.of)
            >>> len(gn.states(model, gn.PathContains("scale")))
            2

        See also: `fold`, the inverse.
        """
        # Nothing is drawn: no keys are taken from the ambient stream.
        with scope(0):
            return taking_over(cls, linear)

    def effective_weight(self) -> jax.Array:
        """What inputs are multiplied with, before the mask: `scale * weight / |weight|`."""
        weight = _widened(self.weight.value)
        factors = self.scale.value.astype(weight.dtype) / _divisors(weight)
        return (weight * factors[None]).astype(self.weight.value.dtype)

    def fold(self) -> Linear:
        """A plain `Linear` with the very States of this layer, and the normalised weight written into `weight`.

        The weight keeps its dtype. `scale` becomes its lengths, so that this layer goes on
        mapping as before. A layer that shares the weight maps otherwise from then on:
        `gn.Selection.replace` refuses that.

        Raises:
            ContractError: The layer is stacked, or abstract.
            TraceError: A JAX transformation runs that the layer is not part of.

        Example:
            >>> layer = WeightNormLinear(2, 3)
            >>> layer.scale.value = 2 * layer.scale.value
            >>> before = layer(jnp.ones(2))
            >>> bool(jnp.allclose(layer.fold()(jnp.ones(2)), before))
            True

        See also: `of`, the inverse.
        """
        linear = plain(self)
        folded = self.effective_weight()
        # Lengths again: a scale that has become negative has turned the direction round.
        lengths = _lengths(_widened(folded)).astype(self.scale.value.dtype)
        write_all([self.weight, self.scale], [folded, lengths])
        return linear


def _widened(weight: jax.Array) -> jax.Array:
    """A weight in the dtype that it is normalised in."""
    return weight.astype(at_least_float32(weight.dtype))


def _squares(weight: jax.Array) -> jax.Array:
    """The square of the length of the weight of each output."""
    return jnp.sum((weight * weight.conj()).real, axis=0)


def _divisors(weight: jax.Array) -> jax.Array:
    """What makes the weight of each output one of length 1: its length; 1 of zeros, which nothing can divide."""
    squares = _squares(weight)
    return jnp.sqrt(jnp.where(squares == 0, 1, squares)).astype(weight.dtype)


def _lengths(weight: jax.Array) -> jax.Array:
    """The length of the weight of each output, in its dtype."""
    # Not the root of the squares: that of zero has no finite gradient.
    return jnp.where(_squares(weight) == 0, 0, _divisors(weight))
