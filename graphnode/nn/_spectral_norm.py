"""`SpectralNormLinear`, a linear map whose weight is divided by its largest singular value."""

from dataclasses import KW_ONLY

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._errors import ContractError
from .._fields import Initializer, state
from .._signals import write_all
from .._state import BatchState
from . import initializers
from ._adapters import plain, taking_over
from ._checks import check_unstacked, positive, size
from ._dtypes import at_least_float32, drawn
from ._linear import Linear
from ._spread import entries_of, spread, whole

# Rounds of the power iteration in the constructor: the first call has an estimate to divide by.
_FIRST_STEPS = 15


class SpectralNormLinear(Linear):
    """A linear map whose weight is `weight / sigma`, with its largest singular value sigma: it hardly stretches inputs.

    Sigma is estimated from below, by a power iteration from the vector `u`, so that the
    largest singular value of `weight / sigma` is 1 or a little more. Each call in training
    moves `u` on by `steps` rounds (Miyato et al. 2018, "Spectral Normalization for Generative
    Adversarial Networks", algorithm 1); no gradient passes through the vectors. A
    deterministic call uses `u` as it is, and writes nothing. `weight` and `bias` are at the
    paths that they have in the `Linear` that it was made of, but the layer maps otherwise
    than that. It works in at least float32; a mask is applied to the normalised weight.

    Args:
        steps: Rounds of the power iteration at each call in training.
        epsilon: Added to sigma and to a length, which are divided by.
        deterministic: Whether `u` stays; `gn.view(model, deterministic=True)` sets it
            everywhere.

    The other arguments are those of `Linear`.

    Raises:
        ContractError: As `Linear`; a number of steps or an `epsilon` that is not
            positive; a complex `param_dtype`.

    Example:
        >>> layer = SpectralNormLinear(2, 3)
        >>> singular = jnp.linalg.norm(layer.effective_weight(), ord=2)
        >>> bool(jnp.allclose(singular, 1, atol=1e-3))
        True
    """

    _: KW_ONLY
    steps: int = 1
    """Rounds of the power iteration at each call in training."""
    epsilon: float = 1e-12
    """Added to sigma and to a length, which are divided by."""
    deterministic: bool = False
    """Whether `u` stays as it is."""
    u: BatchState[Float[Array, "out=out_features"]] = state(init=False)
    """The estimate of the output that is stretched most."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        super().__post_init__(use_bias, w_init, b_init, param_dtype)
        self.steps = size("SpectralNormLinear.steps", self.steps)
        self.epsilon = positive("SpectralNormLinear.epsilon", self.epsilon)
        weight = self.weight.value
        if jnp.issubdtype(weight.dtype, jnp.complexfloating):
            raise ContractError(
                f"SpectralNormLinear.param_dtype: expected a floating-point dtype; found {weight.dtype}"
            )
        dtype = at_least_float32(weight.dtype)
        shape = (self.out_features,)
        u = drawn(initializers.normal, shape, dtype)
        self.u = BatchState(
            self._iterated(_unit(u, u), _FIRST_STEPS),
            sharding=self.axes and self.axes[1:],
        )

    @classmethod
    def of(
        cls,
        linear: Linear,
        *,
        steps: int = 1,
        epsilon: float = 1e-12,
        deterministic: bool = False,
    ) -> "SpectralNormLinear":
        """A linear map with a normalised weight, for `gn.Selection.replace`: it holds the very States of `linear`.

        Args:
            linear: A plain `Linear`, which stays as it is.
            steps: As for the constructor.
            epsilon: As for the constructor.
            deterministic: As for the constructor.

        Raises:
            ContractError: `linear` is of a class that extends `Linear`, or is stacked or
                abstract; or as the constructor.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).replace(SpectralNormLinear.of)
            >>> list(gn.states(model, gn.BatchState))
            [('layers', 0, 'u'), ('layers', 1, 'u')]

        See also: `fold`, the inverse.
        """
        return taking_over(
            cls, linear, steps=steps, epsilon=epsilon, deterministic=deterministic
        )

    def __call__(self, x: jax.Array, *, deterministic: bool | None = None) -> jax.Array:
        """Map `x` of shape `[..., *in_size]` to `[..., *out_size]`.

        Args:
            x: The input.
            deterministic: Used instead of the layer's own.

        Raises:
            ContractError: The last axis of `x` is not the last of `in_size`; the layer
                is stacked.
            TraceError: In training, a JAX transformation runs that the layer is not part
                of.
        """
        check_unstacked(self)  # before anything is written
        if not (self.deterministic if deterministic is None else deterministic):
            u = self.u.value
            moved = self._iterated(u, self.steps)
            entries = entries_of(u)
            self.u.value = moved if entries is None else spread(moved, entries)
        return super().__call__(x)

    def effective_weight(self) -> jax.Array:
        """What inputs are multiplied with, before the mask: `weight / sigma`, with sigma as `u` estimates it."""
        weight, u = self._widened(), whole(self.u.value)
        gathered = whole(weight)
        product = gathered @ u
        length: jax.Array = jnp.linalg.norm(product)
        v: jax.Array = jax.lax.stop_gradient(product / (length + self.epsilon))
        sigma = v @ (gathered @ jax.lax.stop_gradient(u))
        return (weight / (sigma + self.epsilon)).astype(self.weight.value.dtype)

    def fold(self) -> Linear:
        """A plain `Linear` with the very `weight` and `bias` of this layer, and `weight / sigma` written into `weight`.

        The weight keeps its dtype. Sigma is that of a deterministic call; from then on it is
        1, so that this layer goes on mapping as before. A layer that shares the weight maps
        otherwise from then on: `gn.Selection.replace` refuses that.

        Raises:
            ContractError: The layer is stacked, or abstract.
            TraceError: A JAX transformation runs that the layer is not part of.

        Example:
            >>> layer = SpectralNormLinear(2, 3, deterministic=True)
            >>> before = layer(jnp.ones(2))
            >>> bool(jnp.allclose(layer.fold()(jnp.ones(2)), before))
            True

        See also: `of`, the inverse.
        """
        linear = plain(self)
        write_all([self.weight], [self.effective_weight()])
        return linear

    def _widened(self) -> jax.Array:
        """The weight in the dtype that is worked in."""
        weight = self.weight.value
        return weight.astype(at_least_float32(weight.dtype))

    def _iterated(self, u: jax.Array, steps: int) -> jax.Array:
        """`u` after some rounds of the power iteration. No gradient passes."""
        weight, u = whole(jax.lax.stop_gradient(self._widened())), whole(u)
        for _ in range(steps):
            # A weight of zeros stretches nothing: `u` stays, as from zeros it would never come back.
            u = _unit(_unit(weight @ u, 0) @ weight, u)
        return u


def _unit(vector: jax.Array, otherwise: jax.Array | int) -> jax.Array:
    """A vector of length 1 in the direction of another; what to take instead where that has no length."""
    length: jax.Array = jnp.linalg.norm(vector)
    is_zero = length == 0
    return jnp.where(is_zero, otherwise, vector / jnp.where(is_zero, 1, length))
