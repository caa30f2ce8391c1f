"""`LoRALinear`, a linear map with a low-rank adapter."""

from dataclasses import KW_ONLY, InitVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact
from typing_extensions import TypeVar

from .._errors import ContractError
from .._fields import Initializer, state
from .._signals import write_all
from .._state import ParamState
from . import initializers
from ._adapters import plain, taking_over
from ._checks import positive, size
from ._dropout import Dropout
from ._dtypes import at_least_float32, drawn, promoted
from ._linear import Linear
from ._spread import beside

T = TypeVar("T", default=jax.Array)


class LoRAState(ParamState[T]):
    """A parameter of an adapter: `wrt=gn.nn.LoRAState` trains the adapters alone.

    Example:
        >>> layer = LoRALinear(2, 3, rank=1)
        >>> list(gn.states(layer, LoRAState))
        [('lora_a',), ('lora_b',)]
    """


class LoRALinear(Linear):
    """A linear map and an adapter of low rank beside it: `y = x @ weight + scale * (x @ lora_a) @ lora_b + bias`.

    It is a `Linear`, with `weight` and `bias` at the same paths, so that it stands where
    one may stand (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
    section 4.1). `lora_a` is drawn, and `lora_b` is zero: at first the layer is the
    linear map that it was made of, exactly. `scale` is `alpha / rank`, or `alpha /
    sqrt(rank)` (Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for
    Fine-Tuning with LoRA", theorem 3.2).

    Args:
        rank: Of the adapter.
        alpha: How much the adapter counts; by default as much as `rank`, so that `scale`
            is 1 where it is not stabilised.
        rank_stabilized: Whether `alpha` is divided by the root of the rank.
        dropout: Applied to the input of the adapter.
        lora_a_init: Initialiser of `lora_a`.
        lora_dtype: Dtype of `lora_a` and `lora_b`; by default that of the weight.

    The other arguments are those of `Linear`; but a mask is refused.

    Raises:
        ContractError: As `Linear`; a rank or an `alpha` that is not positive; a mask.

    Example:
        >>> linear = gn.nn.Linear(2, 3)
        >>> layer = LoRALinear.of(linear, rank=1)
        >>> layer.weight is linear.weight
        True
        >>> bool((layer(jnp.ones(2)) == linear(jnp.ones(2))).all())
        True
    """

    _: KW_ONLY
    rank: int
    """Of the adapter."""
    alpha: float | None = None
    """How much the adapter counts."""
    rank_stabilized: bool = False
    """Whether `alpha` is divided by the root of the rank."""
    dropout: Dropout | None = None
    """Applied to the input of the adapter."""
    lora_a_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of `lora_a`."""
    lora_dtype: InitVar[DTypeLike | None] = None
    """Dtype of `lora_a` and `lora_b`."""
    lora_a: LoRAState[Inexact[Array, "in=in_features rank"]] = state(init=False)
    """From the features of the input to the rank."""
    lora_b: LoRAState[Inexact[Array, "rank out=out_features"]] = state(init=False)
    """From the rank to the features of the output."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
        lora_a_init: Initializer,
        lora_dtype: DTypeLike | None,
    ) -> None:
        super().__post_init__(use_bias, w_init, b_init, param_dtype)
        self._check_unmasked()
        self.rank = size("LoRALinear.rank", self.rank)
        if self.alpha is not None:
            self.alpha = positive("LoRALinear.alpha", self.alpha)
        dtype = self.weight.value.dtype if lora_dtype is None else lora_dtype
        axes = self.axes or ("in", "out")
        self.lora_a = LoRAState(
            drawn(lora_a_init, (self.in_features, self.rank), dtype),
            sharding=self.axes and (axes[0], "rank"),
        )
        self.lora_b = LoRAState(
            drawn(initializers.zeros, (self.rank, self.out_features), dtype),
            sharding=self.axes and ("rank", axes[1]),
        )

    @classmethod
    def of(
        cls,
        linear: Linear,
        rank: int,
        *,
        alpha: float | None = None,
        rank_stabilized: bool = False,
        dropout: Dropout | None = None,
        lora_a_init: Initializer = initializers.lecun_normal,
        lora_dtype: DTypeLike | None = None,
    ) -> "LoRALinear":
        """A linear map with an adapter, for `gn.Selection.replace`: it holds the very States of `linear`.

        Args:
            linear: A plain `Linear`, which stays as it is.
            rank: Of the adapter.
            alpha: As for the constructor.
            rank_stabilized: As for the constructor.
            dropout: As for the constructor.
            lora_a_init: As for the constructor; the key is of the ambient random stream.
            lora_dtype: As for the constructor.

        Raises:
            ContractError: `linear` is of a class that extends `Linear`, is stacked or
                abstract, or has a mask; or as the constructor.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).replace(lambda linear: LoRALinear.of(linear, 4, alpha=8.0))
            >>> model.layers[0].scale
            2.0

        See also: `fold`, the inverse.
        """
        return taking_over(
            cls,
            linear,
            rank=rank,
            alpha=alpha,
            rank_stabilized=rank_stabilized,
            dropout=dropout,
            lora_a_init=lora_a_init,
            lora_dtype=lora_dtype,
        )

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`."""
        dtype = self.lora_a.value.dtype
        is_own = dtype != self.weight.value.dtype
        return {**super().__init_vars__(), **({"lora_dtype": dtype} if is_own else {})}

    def _check_unmasked(self) -> None:
        """Raise if the layer has a mask."""
        if self.w_mask is not None:
            raise ContractError(
                "LoRALinear.w_mask: expected no mask, which the product of lora_a and lora_b would not keep"
            )

    @property
    def scale(self) -> float:
        """What the adapter is multiplied with."""
        # Checked again: an assignment goes past the constructor.
        alpha = (
            self.rank
            if self.alpha is None
            else positive("LoRALinear.alpha", self.alpha)
        )
        return float(alpha / (self.rank**0.5 if self.rank_stabilized else self.rank))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `x` of shape `[..., *in_size]` to `[..., *out_size]`.

        Raises:
            ContractError: The last axis of `x` is not the last of `in_size`; the layer
                is stacked; it has been assigned a mask, or an `alpha` that is not
                positive.
        """
        self._check_unmasked()
        y = super().__call__(x)
        if self.dropout is not None:
            x = self.dropout(x)
        x, lora_a, lora_b = promoted(
            self.dtype, x, self.lora_a.value, self.lora_b.value
        )
        # Scaled where it is smallest.
        inner = self._product(x, lora_a) * self.scale
        delta = self._product(inner.astype(lora_b.dtype), lora_b)
        return y + beside(delta.astype(y.dtype), y)

    def delta(self) -> jax.Array:
        """What the adapter adds to the weight, `scale * lora_a @ lora_b`: in the widest of their dtypes, or float32."""
        self._check_unmasked()
        arrays = [self.weight.value, self.lora_a.value, self.lora_b.value]
        widest = max(
            [array.dtype for array in arrays], key=lambda dtype: dtype.itemsize
        )
        dtype = at_least_float32(widest)
        _, lora_a, lora_b = [array.astype(dtype) for array in arrays]
        return self.scale * jnp.matmul(lora_a, lora_b, precision="highest")

    def fold(self) -> Linear:
        """The adapter added to the weight: a plain `Linear` with the very States of this layer, for `replace`.

        `weight + delta()` is added up in at least float32, and rounded once to the dtype
        of the weight. It is written into `weight`, and `lora_b` becomes zero, so that
        this layer goes on mapping as before. The inverse, to subtract `delta()`, is not
        exact. A layer that shares the weight sees the sum, too: `gn.Selection.replace` refuses
        that.

        Raises:
            ContractError: The layer is stacked, or abstract.
            TraceError: A JAX transformation runs that the layer is not part of.

        Example:
            >>> layer = LoRALinear(2, 3, rank=1)
            >>> layer.lora_b.value = jnp.ones((1, 3))
            >>> before = layer(jnp.ones(2))
            >>> linear = layer.fold()
            >>> bool(jnp.allclose(linear(jnp.ones(2)), before)), linear.weight is layer.weight
            (True, True)

        See also: `of`, the inverse.
        """
        linear = plain(self)
        weight, delta = self.weight.value, self.delta()
        folded = (weight.astype(delta.dtype) + delta).astype(weight.dtype)
        write_all(
            [self.weight, self.lora_b], [folded, jnp.zeros_like(self.lora_b.value)]
        )
        return linear
