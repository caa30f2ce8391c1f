"""`MultiHeadAttention`, in which each element of a sequence collects from others what it asks for."""

import functools
import math
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from .._constrain import constrained, leading
from .._errors import ContractError
from .._fields import Initializer, subnode
from . import initializers
from ._cache import KeyValueCache
from ._checks import check_inputs, divisor, place, positive, size
from ._dtypes import inexact
from ._linear import Linear, linear_part
from ._module import Layer
from ._parts import shared_vars
from ._rotary import rotary
from ._rows import as_batch, as_rows
from ._spread import by_compiler, divides, entries_of, spread

# The score of what is not seen. Not -inf: the softmax of who sees nobody would be NaN,
# and its gradients with it.
_LEAST: Final = 0.7 * float(np.finfo(np.float64).min)

# What the features of the linear maps are for.
_ROLES: Final[dict[str, dict[str, str]]] = {
    "query": {"in": "embed", "out": "heads"},
    "key": {"in": "embed", "out": "kv_heads"},
    "value": {"in": "embed", "out": "kv_heads"},
    "out": {"in": "heads", "out": "embed"},
}

Queried: TypeAlias = Float[Array, "*batch time width"]
Context: TypeAlias = Float[Array, "*batch context context_size"]
Mask: TypeAlias = Bool[Array, "..."]


class MultiHeadAttention(Layer):
    """Attention of several heads: each element of a sequence collects from others what it asks for.

    Queries, keys and values are linear maps of the input; a head gives `softmax(q k /
    sqrt(head_size)) v`, and a linear map of all heads is the result (Vaswani et al.
    2017, "Attention Is All You Need", section 3.2). With fewer heads of keys and
    values, several heads of queries share one (Ainslie et al. 2023, "GQA"). The
    result's dtype is `dtype`, or what JAX promotes input and parameters to. Scores and
    softmax are in float32, by `jax.nn.dot_product_attention`; in float64, which that
    function does not keep, they are in float64.

    With a cache, which `init_cache` makes, a call continues the sequence: its keys and
    values are added to those in the cache, and its elements attend to all of them that
    are not later.

    Args:
        width: Features of input and output.
        num_heads: Number of heads.
        num_kv_heads: Number of heads of keys and values, which divides `num_heads`; by
            default as many.
        head_size: Features of a head; by default `width / num_heads`.
        context_size: Features of the context that is attended to, if it is another
            sequence; by default `width`.
        is_causal: Whether no element attends to later ones.
        rotary_base: Queries and keys are rotated by their positions, with this base; by
            default they are not. See `rotary`.
        use_bias: Whether the linear maps have biases.
        w_init: Initialiser of the weights.
        b_init: Initialiser of the biases.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer; heads that do not divide
            the width, or heads of keys and values that do not divide the heads; an odd
            head with rotary positions; inputs of other shapes.

    Example:
        >>> layer = MultiHeadAttention(8, 4, num_kv_heads=2, is_causal=True, rotary_base=10_000.0)
        >>> layer(jnp.ones((2, 5, 8))).shape
        (2, 5, 8)
    """

    width: int
    """Features of input and output."""
    num_heads: int
    """Number of heads."""
    _: KW_ONLY
    num_kv_heads: int | None = None
    """Number of heads of keys and values; by default as many."""
    head_size: int | None = None
    """Features of a head; by default `width / num_heads`."""
    context_size: int | None = None
    """Features of the context that is attended to; by default `width`."""
    is_causal: bool = False
    """Whether no element attends to later ones."""
    rotary_base: float | None = None
    """Queries and keys are rotated by their positions, with this base."""
    use_bias: InitVar[bool] = True
    """Whether there is a bias."""
    w_init: InitVar[Initializer] = initializers.lecun_normal
    """Initialiser of the weight."""
    b_init: InitVar[Initializer] = initializers.zeros
    """Initialiser of the bias."""
    dtype: DTypeLike | None = None
    """What is computed in."""
    param_dtype: InitVar[DTypeLike] = jnp.float32
    """Dtype of the parameters."""
    query: Linear = subnode(init=False)
    """From the input to the queries of all heads."""
    key: Linear = subnode(init=False)
    """From the context to the keys of all heads."""
    value: Linear = subnode(init=False)
    """From the context to the values of all heads."""
    out: Linear = subnode(init=False)
    """From all heads to the output."""
    cache: KeyValueCache | None = subnode(default=None)
    """What is kept of earlier calls, while a text is decoded."""

    def __post_init__(
        self,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        cls = type(self).__name__
        self.width = size(f"{cls}.width", self.width)
        if self.head_size is None:
            self.num_heads = divisor(
                f"{cls}.num_heads", self.num_heads, "width", self.width
            )
            self.head_size = self.width // self.num_heads
        self.num_heads = size(f"{cls}.num_heads", self.num_heads)
        self.head_size = head_size = size(f"{cls}.head_size", self.head_size)
        kv_heads = self.num_heads if self.num_kv_heads is None else self.num_kv_heads
        # Each head of keys and values serves as many heads of queries.
        self.num_kv_heads = divisor(
            f"{cls}.num_kv_heads", kv_heads, "num_heads", self.num_heads
        )
        self.context_size = size(
            f"{cls}.context_size",
            self.width if self.context_size is None else self.context_size,
        )
        self.dtype = inexact(f"{cls}.dtype", self.dtype)
        if self.rotary_base is not None:
            self.rotary_base = positive(f"{cls}.rotary_base", self.rotary_base)
            if head_size % 2:
                raise ContractError(
                    f"{cls}.head_size: expected an even number for rotary positions; found {head_size}"
                )

        # One after the other, in this order: each draws from the ambient random stream.
        for name, sizes in self._sizes().items():
            linear = Linear(
                *sizes,
                use_bias=use_bias,
                w_init=w_init,
                b_init=b_init,
                dtype=self.dtype,
                param_dtype=param_dtype,
            )
            setattr(self, name, linear)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`.

        Raises:
            ConfigError: Linear maps that the constructor does not make; names all.
        """
        return shared_vars(
            {
                name: linear_part(getattr(self, name), *sizes, self.dtype)
                for name, sizes in self._sizes().items()
            }
        )

    def __roles__(self) -> dict[str, dict[str, str]]:
        """What the roles of the linear maps are here."""
        return _ROLES

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Features before and after each of the linear maps, to make them by and, for a config, to check them by."""
        assert self.num_kv_heads is not None
        assert self.head_size is not None
        assert self.context_size is not None
        queries = self.num_heads * self.head_size
        keys = self.num_kv_heads * self.head_size
        return {
            "query": (self.width, queries),
            "key": (self.context_size, keys),
            "value": (self.context_size, keys),
            "out": (queries, self.width),
        }

    def init_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None
    ) -> KeyValueCache:
        """Give the layer an empty cache, in place of any that it has: from then on, a call continues the sequence.

        Args:
            batch_size: Number of sequences.
            length: How many elements there is room for in each.
            dtype: Of what is kept; by default `dtype`, or that of the parameters.

        Returns:
            The cache, which is the layer's. `layer.cache = None` takes it away again.
        """
        assert self.num_kv_heads is not None
        assert self.head_size is not None
        if dtype is None:
            dtype = self.key.weight.value.dtype if self.dtype is None else self.dtype
        self.cache = KeyValueCache(
            batch_size, length, self.num_kv_heads, self.head_size, dtype=dtype
        )
        return self.cache

    def __call__(
        self, x: Queried, context: Context | None = None, *, mask: Mask | None = None
    ) -> Queried:
        """Attend from each element of `x`, of shape `[..., time, width]`, to those of `context` or of `x` itself.

        Args:
            x: The sequence.
            context: Another one to attend to, of shape `[..., context, context_size]`.
            mask: Of shape `[..., heads, time, context]`, whose axes may have size 1:
                who attends to whom. An element that attends to nobody gets the mean
                over all, as `out` maps it; where the context has length 0, it gets
                zeros. With a cache, `context` is its length.

        Raises:
            ContractError: An array of another shape or dtype; a context in causal
                attention, with rotary positions or with a cache; a cache that has no
                room left.
        """
        # Any: to type checkers, the annotations of arrays are not classes.
        arrays: dict[str, tuple[jax.Array, Any]] = {"x": (x, Queried)}
        if context is not None:
            arrays["context"] = (context, Context)
        check_inputs(self, **arrays)
        if context is not None:
            self._check_may_have_context(context)
        rows = as_rows(x)
        source, source_rows = x, rows
        if context is not None:
            source, source_rows = context, as_rows(context)
        query = _heads(self.query(rows), x, self.num_heads, "heads")
        key = _heads(self.key(source_rows), source, self.num_kv_heads, "kv_heads")
        value = _heads(self.value(source_rows), source, self.num_kv_heads, "kv_heads")
        cache, is_causal = self.cache, self.is_causal
        start = jnp.zeros((), jnp.int32) if cache is None else cache.position.value
        if self.rotary_base is not None:
            # Keys are rotated before they are kept in the cache: their positions stay.
            positions = start + jnp.arange(x.shape[-2], dtype=jnp.int32)
            query = rotary(query, positions, self.rotary_base)
            key = rotary(key, positions, self.rotary_base)
        if mask is not None:  # before anything is written
            length = key.shape[-3] if cache is None else cache.length
            self._check_mask(mask, query, length)
        if cache is not None:
            keys, values = cache.append(key, value)
            # The cache may be kept in less precision.
            key, value = keys.astype(query.dtype), values.astype(query.dtype)
            visible = _visible(start, x.shape[-2], cache.length, is_causal=is_causal)
            mask = visible if mask is None else jnp.logical_and(mask, visible)
            is_causal = False  # the mask says so; the cache's entries are not the rows
        attended = _attend(query, key, value, mask, is_causal=is_causal)
        width = math.prod(attended.shape[-2:])
        return as_batch(self.out(attended.reshape(*rows.shape[:-1], width)), x)

    def _check_may_have_context(self, context: jax.Array) -> None:
        """Raise if another sequence is attended to where positions of the two would be compared.

        Raises:
            ContractError: The layer is causal, or has rotary positions or a cache.
        """
        if self.cache is not None:
            reason = "which has a cache"
        elif self.is_causal or self.rotary_base is not None:
            reason = "which is causal or has rotary positions"
        else:
            return
        raise ContractError(
            f"{place(self)}: expected no context in attention {reason}; found {context.shape}"
        )

    def _check_mask(self, mask: jax.Array, query: jax.Array, context: int) -> None:
        """Raise if a mask does not broadcast to the scores.

        Args:
            mask: Who attends to whom.
            query: The queries, of shape `[*batch, time, heads, head_size]`.
            context: How many elements are attended to.

        Raises:
            ContractError: Another shape, or not boolean.
        """
        shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], context)
        fits = mask.ndim == len(shape) and all(
            size in (1, expected)
            for size, expected in zip(mask.shape, shape, strict=True)
        )
        if not fits or mask.dtype != jnp.bool_:
            raise ContractError(
                f"{place(self)}: mask: expected bool of shape {shape}, where any axis may have size 1; "
                f"found {mask.dtype} of shape {mask.shape}"
            )


def _heads(y: jax.Array, x: jax.Array, num_heads: int | None, role: str) -> jax.Array:
    """What a linear map gave for the rows of `x`, as attention takes it: `[*batch, time, heads, head size]`."""
    assert num_heads is not None
    entries = entries_of(y)
    # Heads stay whole: what would split one is gathered.
    if entries is not None and not divides(entries[-1], num_heads):
        y = spread(y, (*entries[:-1], None))
    heads = y.reshape(*x.shape[:-1], num_heads, y.shape[-1] // num_heads)
    return constrained(heads, *leading(x.ndim - 1), role, None)


def _visible(start: jax.Array, time: int, length: int, *, is_causal: bool) -> jax.Array:
    """Which entries of a cache each new element sees: those before it, itself, and later new ones if it may.

    With 2 entries before (`start`), 3 new elements and room for 6:

        causal      1 1 1 . . .      not causal      1 1 1 1 1 .
                    1 1 1 1 . .                      1 1 1 1 1 .
                    1 1 1 1 1 .                      1 1 1 1 1 .
    """
    newest = jnp.full(time, time - 1, jnp.int32)
    last = jnp.arange(time, dtype=jnp.int32) if is_causal else newest
    entries = jnp.arange(length, dtype=jnp.int32)
    # Axes for batch and heads, which all see the same.
    return (entries[None, :] <= start + last[:, None])[None, None]


def _attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    *,
    is_causal: bool,
) -> jax.Array:
    """Attention of `[..., time, heads, head_size]`, in the precision of the queries or, if that is less, in float32."""
    shape = query.shape
    # JAX's function takes one batch axis.
    if len(shape) != 4:
        batch = shape[:-3]
        if mask is not None:
            # Batch axes of size 1 first: only whole ones can be joined.
            mask = jnp.broadcast_to(mask, (*batch, *mask.shape[-3:]))
            mask = mask.reshape(math.prod(batch), *mask.shape[-3:])
        query, key, value = [
            array.reshape(math.prod(batch), *array.shape[-3:])
            for array in (query, key, value)
        ]
    # JAX's function would lose half of the digits.
    if query.dtype == jnp.float64:
        y = by_compiler(
            functools.partial(_attend_in_float64, is_causal=is_causal),
            entries_of(query),
            *(query, key, value, mask),
        )
        return y.reshape(shape)
    # JAX's function promotes half precision to float32, also where JAX is configured
    # to refuse promotion.
    with jax.numpy_dtype_promotion("standard"):
        # Groups of heads are split by fewer devices than heads may be.
        y = by_compiler(
            functools.partial(_dot_product, is_causal=is_causal),
            entries_of(query),
            *(query, key, value, mask),
        )
    return y.reshape(shape)


def _dot_product(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    *,
    is_causal: bool,
) -> jax.Array:
    """JAX's function."""
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask, is_causal=is_causal
    )


def _attend_in_float64(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    *,
    is_causal: bool,
) -> jax.Array:
    """What `jax.nn.dot_product_attention` gives, which casts scores to float32 whatever it gets."""
    batch, time, num_heads, size = query.shape
    length, kv_heads = key.shape[1:3]
    # Heads of queries fall into groups, each of which has one head of keys and values.
    grouped = query.reshape(batch, time, kv_heads, num_heads // kv_heads, size)
    scores = jnp.einsum("btkgh,bskh->bkgts", grouped, key) / math.sqrt(size)
    if mask is not None:
        # The axis of heads as the two of the scores: groups, and heads in a group.
        heads = (1, 1) if mask.shape[1] == 1 else scores.shape[1:3]
        scores = _masked(scores, mask.reshape(mask.shape[0], *heads, *mask.shape[2:]))
    if is_causal:
        scores = _masked(scores, jnp.tril(jnp.ones((1, 1, 1, time, length), jnp.bool_)))
    attended = jnp.einsum("bkgts,bskh->btkgh", jax.nn.softmax(scores, axis=-1), value)
    return attended.reshape(query.shape)


def _masked(scores: jax.Array, is_seen: jax.Array) -> jax.Array:
    """Scores with the least one where the element is not seen: its weight is 0, unless none is seen at all."""
    return jnp.where(is_seen, scores, _LEAST)
