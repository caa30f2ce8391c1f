"""`MultiHeadAttention`, in which each element of a sequence collects from others what it asks for."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Final, Literal, TypeAlias, overload

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Integer

from .._constrain import constrained, leading
from .._errors import ContractError
from .._fields import Initializer, static, subnode
from .._rngs import Rngs
from . import initializers
from ._attend import Attend, Options, attended, both, by_function, seen_from
from ._attention_base import Attention
from ._attention_checks import (
    MAPS,
    MapName,
    check_arrays,
    check_masks,
    check_no_norms,
    check_norms,
    check_rotation,
    check_score_bias,
    check_scores,
    names_with_bias,
    shown_biases,
)
from ._cache import Kept, KeyValueCache
from ._checks import divisor, place, size
from ._context_cache import ContextCache
from ._dropout import Dropout
from ._dtypes import at_least_float32, inexact
from ._layer_norm import LayerNorm
from ._linear import Linear, linear_part
from ._masks import make_padding_mask, reach
from ._parts import Part, shared_vars
from ._rms_norm import RMSNorm
from ._rolling_cache import RollingCache
from ._rotary import Rotary, rotary
from ._rows import as_batch, as_rows
from ._score_bias import ScoreBias
from ._spread import divides, entries_of, spread

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
Bias: TypeAlias = Float[Array, "..."]
Positions: TypeAlias = Integer[Array, "..."]
Lengths: TypeAlias = Integer[Array, "*batch"]
Attended: TypeAlias = Float[Array, "*batch time out_size"]
Weights: TypeAlias = Float[Array, "*batch heads time entries"]


class MultiHeadAttention(Attention):
    """Attention of several heads: each element of a sequence collects from others what it asks for.

    Queries, keys and values are linear maps of the input; a head gives `softmax(q k /
    sqrt(head_size)) v`, and a linear map of all heads is the result (Vaswani et al.
    2017, "Attention Is All You Need", section 3.2). With fewer heads of keys and
    values, several heads of queries share one (Ainslie et al. 2023, "GQA"). The
    result's dtype is `dtype`, or what JAX promotes input and parameters to. Scores and
    softmax are in float32, by `jax.nn.dot_product_attention`; in float64, which that
    function does not keep, they are in float64. What it does not have (`soft_cap`,
    `value_head_size`, `dropout`, weights as a result) is written out in the same
    precision.

    Scores are scaled, capped, and get what is added to them, in this order; then come
    the masks.

    With a cache, which `init_cache` makes, a call continues the sequence: its keys and
    values are added to those in the cache, and its elements attend to all of them that
    are not later. A cache of `init_context_cache` keeps those of another sequence.

    Args:
        width: Features of the input, and of the output.
        num_heads: Number of heads.
        num_kv_heads: Number of heads of keys and values, which divides `num_heads`; by
            default as many.
        head_size: Features of a head; by default `width / num_heads`.
        value_head_size: Features of a head of values; by default `head_size`.
        out_size: Features of the output; by default `width`.
        context_size: Features of the context that is attended to, if it is another
            sequence; by default `width`.
        is_causal: Whether no element attends to later ones.
        window: Elements attend to those near to them: a number `n` for those that are
            fewer than `n` away, so that in causal attention they are `n` with the
            element itself; or a pair, how many before and how many after.
        scale: What scores are multiplied with; by default `1 / sqrt(head_size)`.
        soft_cap: Scores stay below this number: `soft_cap * tanh(score / soft_cap)`
            (Gemma 2).
        attend: A function in place of all that is said above of scores and softmax. It
            is called as `attend(query, key, value, mask=mask, bias=bias)` with arrays
            of shape `[batch, time, heads, head_size]`, and mask and bias of shape
            `[batch, heads, time, context]`, where axes may have size 1, or `None`; it
            gives an array of the shape of the queries, with the values' size of heads.
            Causality, windows and caches are in the mask.
        rotary_base: Queries and keys are rotated by their positions, with this base; by
            default they are not. Short for `rotary=Rotary(rotary_base)`.
        rotary: How they are rotated.
        score_bias: What is added to scores by the distance. Layers may share one.
        dropout: What the weights pass through; by default nothing is dropped. Layers
            may share one.
        normalize_qk: Whether queries and keys are normalised, each head by an
            `RMSNorm` (Qwen 3, Gemma 3). Short for `query_norm` and `key_norm`.
        query_norm: What queries pass through before they are rotated: a norm of
            `head_size` features, or of those of all heads (OLMo 2).
        key_norm: The same of keys.
        use_bias: Whether the linear maps have biases; or the names of those that have
            one, as `("query", "key", "value")` in Qwen 2.
        w_init: Initialiser of the weights.
        b_init: Initialiser of the biases.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: A size that is not a positive integer; heads that do not divide
            the width, or heads of keys and values that do not divide the heads; an odd
            head with rotary positions; options that exclude each other; inputs of other
            shapes.

    Example:
        >>> layer = MultiHeadAttention(8, 4, num_kv_heads=2, is_causal=True, rotary_base=10_000.0)
        >>> layer(jnp.ones((2, 5, 8))).shape
        (2, 5, 8)
    """

    width: int
    """Features of the input."""
    num_heads: int
    """Number of heads."""
    _: KW_ONLY
    num_kv_heads: int | None = None
    """Number of heads of keys and values; by default as many."""
    head_size: int | None = None
    """Features of a head; by default `width / num_heads`."""
    value_head_size: int | None = None
    """Features of a head of values; by default `head_size`."""
    out_size: int | None = None
    """Features of the output; by default `width`."""
    context_size: int | None = None
    """Features of the context that is attended to; by default `width`."""
    is_causal: bool = False
    """Whether no element attends to later ones."""
    window: int | tuple[int, int] | None = None
    """How near elements are that are attended to."""
    scale: float | None = None
    """What scores are multiplied with; by default `1 / sqrt(head_size)`."""
    soft_cap: float | None = None
    """What scores stay below."""
    attend: Attend | None = static(default=None)
    """What is called in place of all that."""
    rotary_base: float | None = None
    """Queries and keys are rotated by their positions, with this base."""
    normalize_qk: InitVar[bool] = False
    """Whether queries and keys are normalised."""
    use_bias: InitVar[bool | tuple[MapName, ...]] = True
    """Whether there is a bias, or which linear maps have one."""
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
    rotary: Rotary | None = subnode(default=None)
    """How queries and keys are rotated by their positions."""
    query_norm: LayerNorm | RMSNorm | None = subnode(default=None)
    """What queries pass through."""
    key_norm: LayerNorm | RMSNorm | None = subnode(default=None)
    """What keys pass through."""
    score_bias: ScoreBias | None = subnode(default=None)
    """What is added to scores by the distance."""
    dropout: Dropout | None = subnode(default=None)
    """What the weights pass through."""
    cache: KeyValueCache | RollingCache | None = subnode(default=None)
    """What is kept of earlier calls, while a text is decoded."""
    context_cache: ContextCache | None = subnode(default=None)
    """What is kept of another sequence, which is attended to."""

    def __post_init__(
        self,
        normalize_qk: bool,
        use_bias: bool | tuple[MapName, ...],
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
        self.head_size = size(f"{cls}.head_size", self.head_size)
        kv_heads = self.num_heads if self.num_kv_heads is None else self.num_kv_heads
        # Each head of keys and values serves as many heads of queries.
        self.num_kv_heads = divisor(
            f"{cls}.num_kv_heads", kv_heads, "num_heads", self.num_heads
        )
        self.context_size = size(
            f"{cls}.context_size",
            self.width if self.context_size is None else self.context_size,
        )
        # Left at None, they are left out of what is written to a file.
        for name in ("value_head_size", "out_size"):
            if getattr(self, name) is not None:
                setattr(self, name, size(f"{cls}.{name}", getattr(self, name)))
        self.dtype = inexact(f"{cls}.dtype", self.dtype)
        check_scores(self, cls)
        check_rotation(self, cls)
        has_bias = names_with_bias(f"{cls}.use_bias", use_bias)
        # One after the other, in this order: each draws from the ambient random stream.
        for name, sizes in self._sizes().items():
            linear = Linear(
                *sizes,
                use_bias=name in has_bias,
                w_init=w_init,
                b_init=b_init,
                dtype=self.dtype,
                param_dtype=param_dtype,
            )
            setattr(self, name, linear)
        if normalize_qk:
            check_no_norms(self, cls)
            self.query_norm, self.key_norm = (
                RMSNorm(self.head_size, dtype=self.dtype, param_dtype=param_dtype)
                for _ in range(2)
            )
        check_norms(self, cls)

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parameters still show, for `gn.config.to_config`.

        Raises:
            ConfigError: Linear maps that the constructor does not make; names all.
        """
        has_bias: dict[MapName, bool] = {
            name: getattr(self, name).bias is not None for name in MAPS
        }
        parts: dict[str, Part] = {
            name: linear_part(getattr(self, name), *sizes, self.dtype)._replace(
                variables={"use_bias": has_bias[name]}
            )
            for name, sizes in self._sizes().items()
        }
        return {"use_bias": shown_biases(has_bias), **shared_vars(parts)}

    def __roles__(self) -> dict[str, dict[str, str]]:
        """What the roles of the linear maps are here."""
        return _ROLES

    def _sizes(self) -> dict[MapName, tuple[int, int]]:
        """Features before and after each of the linear maps, to make them by and, for a config, to check them by."""
        assert self.num_kv_heads is not None
        assert self.head_size is not None
        assert self.context_size is not None
        keys = self.num_kv_heads * self.head_size
        value_head_size = self._value_head_size()
        return {
            "query": (self.width, self.num_heads * self.head_size),
            "key": (self.context_size, keys),
            "value": (self.context_size, self.num_kv_heads * value_head_size),
            "out": (
                self.num_heads * value_head_size,
                self.width if self.out_size is None else self.out_size,
            ),
        }

    def _value_head_size(self) -> int:
        """Features of a head of values."""
        assert self.head_size is not None
        return self.head_size if self.value_head_size is None else self.value_head_size

    def _options(self) -> Options:
        """What the fields say of scores."""
        # They may have been assigned, or come from a view.
        window = self.window
        if window is not None:
            window = reach(f"{type(self).__name__}.window", window)
        return Options(self.is_causal, window, self.scale, self.soft_cap)

    @overload
    def init_cache(
        self,
        batch_size: int,
        length: int,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> KeyValueCache: ...
    @overload
    def init_cache(
        self,
        batch_size: int,
        length: None = None,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> RollingCache: ...
    @overload
    def init_cache(
        self,
        batch_size: int,
        length: int | None = None,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> KeyValueCache | RollingCache: ...

    def init_cache(
        self,
        batch_size: int,
        length: int | None = None,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> KeyValueCache | RollingCache:
        """Give the layer an empty cache, in place of any that it has: from then on, a call continues the sequence.

        Args:
            batch_size: Number of sequences.
            length: How many elements there is room for in each. Without it, a causal
                layer with a window gets a cache that keeps as many as the window has,
                and is never full.
            dtype: Of what is kept; by default `dtype`, or that of the parameters.
            ragged: Whether each sequence has a position of its own; calls then take
                `lengths`.

        Returns:
            The cache, which is the layer's. `layer.cache = None` takes it away again.

        Raises:
            ContractError: A size that is not a positive integer; no length, where there
                is no window or attention is not causal.
        """
        assert self.num_kv_heads is not None
        assert self.head_size is not None
        cache: KeyValueCache | RollingCache
        if length is not None:
            cache = KeyValueCache(
                batch_size,
                length,
                self.num_kv_heads,
                self.head_size,
                value_head_size=self._value_head_size(),
                ragged=ragged,
                dtype=self._kept_dtype(dtype),
            )
        else:
            options = self._options()
            if options.window is None or not options.is_causal:
                raise ContractError(
                    f"{place(self)}: expected a length of the cache, as only causal attention with a window forgets; "
                    "found none"
                )
            cache = RollingCache(
                batch_size,
                options.window[0] + 1,
                self.num_kv_heads,
                self.head_size,
                value_head_size=self._value_head_size(),
                ragged=ragged,
                dtype=self._kept_dtype(dtype),
            )
        self.cache = cache
        return cache

    def init_context_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None
    ) -> ContextCache:
        """Give the layer an empty cache of a context: a call with one keeps its keys and values, for calls without.

        Args:
            batch_size: Number of sequences.
            length: How many elements of a context there is room for.
            dtype: Of what is kept; by default `dtype`, or that of the parameters.

        Returns:
            The cache, which is the layer's. `layer.context_cache = None` takes it away
            again.

        Raises:
            ContractError: A size that is not a positive integer; a layer that takes no
                context.
        """
        assert self.num_kv_heads is not None
        assert self.head_size is not None
        self._check_takes_context("cache of a context", "init_context_cache")
        self.context_cache = ContextCache(
            batch_size,
            length,
            self.num_kv_heads,
            self.head_size,
            value_head_size=self._value_head_size(),
            dtype=self._kept_dtype(dtype),
        )
        return self.context_cache

    def _kept_dtype(self, dtype: DTypeLike | None) -> DTypeLike:
        """The dtype of what a cache keeps, if it is not said."""
        if dtype is not None:
            return dtype
        return self.key.weight.value.dtype if self.dtype is None else self.dtype

    @overload
    def __call__(
        self,
        x: Queried,
        context: Context | None = None,
        value: Context | None = None,
        *,
        mask: Mask | None = None,
        bias: Bias | None = None,
        positions: Positions | None = None,
        lengths: Lengths | None = None,
        rngs: Rngs | None = None,
        return_weights: Literal[False] = False,
    ) -> Attended: ...
    @overload
    def __call__(
        self,
        x: Queried,
        context: Context | None = None,
        value: Context | None = None,
        *,
        mask: Mask | None = None,
        bias: Bias | None = None,
        positions: Positions | None = None,
        lengths: Lengths | None = None,
        rngs: Rngs | None = None,
        return_weights: Literal[True],
    ) -> tuple[Attended, Weights]: ...

    def __call__(
        self,
        x: Queried,
        context: Context | None = None,
        value: Context | None = None,
        *,
        mask: Mask | None = None,
        bias: Bias | None = None,
        positions: Positions | None = None,
        lengths: Lengths | None = None,
        rngs: Rngs | None = None,
        return_weights: bool = False,
    ) -> Attended | tuple[Attended, Weights]:
        """Attend from each element of `x`, of shape `[..., time, width]`, to those of `context` or of `x` itself.

        Args:
            x: The sequence.
            context: Another one to attend to, of shape `[..., context, context_size]`.
            value: What values are made of, if it is something else than the context; of
                its shape.
            mask: Of shape `[..., heads, time, context]`, whose axes may have size 1:
                who attends to whom. An element that attends to nobody gets the mean
                over all, as `out` maps it; where the context has length 0, it gets
                zeros. With a cache, `context` is its length.
            bias: What is added to the scores, of such a shape.
            positions: Of the elements of `x`, of shape `[time]` or `[..., time]`, for
                what goes by positions: rotations, and `score_bias`. By default they
                count up, from the position of the cache if there is one.
            lengths: How many elements of each sequence that is attended to count, of
                the shape of the batch: nobody attends to the others, which are behind.
                With a cache that is ragged, how many of the new ones count. More than there
                are is all.
            rngs: What dropout draws from, in place of its own.
            return_weights: Whether the weights are returned, too.

        Returns:
            An array of shape `[..., time, out_size]`; with `return_weights` also what
            each element counts for each other one, of shape `[..., heads, time,
            context]`, before dropout.

        Raises:
            ContractError: An array of another shape or dtype; a context in attention
                that is causal, has a window, goes by positions or has a cache of the
                sequence; a cache that has no room left, or no context yet.
            RngError: There is no stream for dropout to draw from.
        """
        check_arrays(self, x, context, value, positions, lengths)
        if context is not None:
            self._check_takes_context("context", str(context.shape))
        elif self.context_cache is not None:
            self._check_takes_context("cache of a context", "one")
        cache, options = self.cache, self._options()
        rows = as_rows(x)
        query = self._projected("query", rows, x)
        # Before anything is written
        check_masks(self, query, self._length(x, context), mask=mask, bias=bias)
        places: jax.Array | None = None
        seen: jax.Array | None
        if self.context_cache is not None:
            kept = self._kept_context(self.context_cache, x, context, value, lengths)
            assert kept.places is not None
            seen = (kept.places >= 0)[:, None, None, :]
        else:
            key, values = self._keys_and_values(x, rows, context, value)
            if cache is not None or self._goes_by_places():
                places = self._places(x)
            if positions is None:
                positions = places
            elif cache is not None and self.score_bias is not None:
                raise ContractError(
                    f"{place(self)}: expected no positions with a cache in attention with a score_bias, as the cache "
                    f"does not keep them; found {positions.shape}"
                )
            # Keys are rotated before they are kept in the cache: their positions stay.
            query, key = self._rotated(query, positions), self._rotated(key, positions)
            if cache is None:
                kept = Kept(key, values, positions)
                seen = self._without_padding(lengths, key)
            else:
                kept = cache.extend(key, values, lengths)
                assert places is not None
                seen = _seen(cache, kept, places, options)
                # The mask says so; the cache's entries are not the rows.
                options = options._replace(is_causal=False, window=None)
        if self.score_bias is not None:
            bias = self._with_score_bias(query, bias, positions, kept.places)
        y, weights = self._attended(
            query,
            kept,
            both(mask, seen),
            bias,
            options,
            rngs,
            return_weights=return_weights,
        )
        width = math.prod(y.shape[-2:])
        result = as_batch(self.out(y.reshape(*rows.shape[:-1], width)), x)
        return result if weights is None else (result, weights)

    def _check_takes_context(self, what: str, found: str) -> None:
        """Raise if another sequence is attended to where positions of the two would be compared.

        Raises:
            ContractError: The layer is causal, has a window, rotary positions or a score
                bias, or keeps its own sequence.
        """
        if self.cache is not None:
            reason = "which has a cache"
        elif self.is_causal or self.rotary_base is not None or self.rotary is not None:
            reason = "which is causal or has rotary positions"
        elif self.window is not None or self.score_bias is not None:
            reason = "which has a window or a score_bias"
        else:
            return
        raise ContractError(
            f"{place(self)}: expected no {what} in attention {reason}; found {found}"
        )

    def _length(self, x: jax.Array, context: jax.Array | None) -> int | None:
        """How many elements are attended to; `None` if masks of the caller cannot say which."""
        if isinstance(self.cache, RollingCache):
            return None
        kept = self.context_cache if self.cache is None else self.cache
        if kept is not None:
            return kept.length
        return (x if context is None else context).shape[-2]

    def _projected(self, name: str, rows: jax.Array, x: jax.Array) -> jax.Array:
        """Queries, keys or values of the rows of `x`, normalised if they are to be: `[*batch, time, heads, size]`."""
        linear: Linear = getattr(self, name)
        norm = {"query": self.query_norm, "key": self.key_norm}.get(name)
        is_query = name == "query"
        num_heads = self.num_heads if is_query else self.num_kv_heads
        y = linear(rows)
        # Of all heads together
        if norm is not None and norm.width != self.head_size:
            y, norm = norm(y), None
        heads = _heads(y, x, num_heads, "heads" if is_query else "kv_heads")
        return heads if norm is None else norm(heads)

    def _keys_and_values(
        self,
        x: jax.Array,
        rows: jax.Array,
        context: jax.Array | None,
        value: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """Keys and values of what is attended to."""
        source, source_rows = x, rows
        if context is not None:
            source, source_rows = context, as_rows(context)
        key = self._projected("key", source_rows, source)
        if value is not None:
            source_rows = as_rows(value)
        return key, self._projected("value", source_rows, source)

    def _kept_context(
        self,
        cache: ContextCache,
        x: jax.Array,
        context: jax.Array | None,
        value: jax.Array | None,
        lengths: jax.Array | None,
    ) -> Kept:
        """Keys and values of a context: of this one, which is kept, or of the one before."""
        batch = cache.keys.value.shape[:1]
        if x.shape[:-2] != batch:
            raise ContractError(
                f"{place(self)}: x: expected the batch {batch} of its cache; found {x.shape[:-2]}"
            )
        if context is not None:
            key, values = self._keys_and_values(x, x, context, value)
            cache.write(key, values, lengths)
        elif lengths is not None:
            raise ContractError(
                f"{place(self)}: lengths: expected none without a context, as the cache keeps them; found "
                f"{lengths.shape}"
            )
        return cache.read()

    def _goes_by_places(self) -> bool:
        """Whether positions count."""
        return (
            self.rotary_base is not None
            or self.rotary is not None
            or self.score_bias is not None
        )

    def _places(self, x: jax.Array) -> jax.Array:
        """The place of each element in its sequence, of shape `[time]`, or `[batch, time]` if rows differ."""
        at = jnp.arange(x.shape[-2], dtype=jnp.int32)
        cache = self.cache
        if cache is None:
            return at
        start = cache.position.value
        return start + at if start.ndim == 0 else start[:, None] + at[None, :]

    def _rotated(self, heads: jax.Array, positions: jax.Array | None) -> jax.Array:
        """Queries or keys, rotated by their positions if they are to be."""
        if self.rotary_base is not None and positions is not None:
            return rotary(heads, positions, self.rotary_base)
        if self.rotary is not None and positions is not None:
            return self.rotary(heads, positions)
        return heads

    def _without_padding(
        self, lengths: jax.Array | None, key: jax.Array
    ) -> jax.Array | None:
        """The mask of the elements that count, where `lengths` says how many."""
        return None if lengths is None else make_padding_mask(lengths, key.shape[-3])

    def _with_score_bias(
        self,
        query: jax.Array,
        bias: jax.Array | None,
        positions: jax.Array | None,
        key_positions: jax.Array | None,
    ) -> jax.Array:
        """What is added to the scores: by the distance, and by the caller."""
        assert self.score_bias is not None
        assert positions is not None
        assert key_positions is not None
        found = self.score_bias(positions, key_positions)
        found = jnp.expand_dims(found, range(query.ndim - found.ndim))
        check_score_bias(self, query, key_positions.shape[-1], found)
        dtype = at_least_float32(query.dtype)
        found = found.astype(dtype)
        return found if bias is None else found + bias.astype(dtype)

    def _attended(
        self,
        query: jax.Array,
        kept: Kept,
        mask: jax.Array | None,
        bias: jax.Array | None,
        options: Options,
        rngs: Rngs | None,
        *,
        return_weights: bool,
    ) -> tuple[jax.Array, jax.Array | None]:
        """What the queries collect, of shape `[*batch, time, heads, size]`; and the weights, if they are asked for."""
        # The cache may be kept in less precision.
        key, value = kept.keys.astype(query.dtype), kept.values.astype(query.dtype)
        batch, count = query.shape[:-3], math.prod(query.shape[:-3])
        # JAX's function takes one batch axis.
        if len(batch) != 1:
            query, key, value = [
                array.reshape(count, *array.shape[-3:]) for array in (query, key, value)
            ]
            # Batch axes of size 1 first: only whole ones can be joined.
            mask, bias = [
                None
                if array is None
                else jnp.broadcast_to(array, (*batch, *array.shape[-3:])).reshape(
                    count, *array.shape[-3:]
                )
                for array in (mask, bias)
            ]
        drop = self._drop(rngs)
        if self.attend is not None:
            if drop is not None or return_weights:
                raise ContractError(
                    f"{place(self)}: expected neither dropout nor return_weights beside attend, whose weights are "
                    "not known"
                )
            y = by_function(self.attend, query, key, value, mask, bias, options)
            weights = None
        else:
            y, weights = attended(
                query,
                key,
                value,
                mask,
                bias,
                options,
                drop,
                with_weights=return_weights,
            )
        y = y.reshape(*batch, *y.shape[-3:])
        if not return_weights or weights is None:
            return y, None
        return y, weights.reshape(*batch, *weights.shape[-3:])

    def _drop(self, rngs: Rngs | None) -> Callable[[jax.Array], jax.Array] | None:
        """What drops weights; `None` if all are kept, so that JAX's function can be called."""
        dropout = self.dropout
        if dropout is None or dropout.deterministic or dropout.rate == 0.0:
            return None

        def drop(weights: jax.Array) -> jax.Array:
            """The weights, some of them zero."""
            return dropout(weights, rngs=rngs)

        return drop


def _heads(y: jax.Array, x: jax.Array, num_heads: int | None, role: str) -> jax.Array:
    """What a linear map gave for the rows of `x`, as attention takes it: `[*batch, time, heads, head size]`."""
    assert num_heads is not None
    entries = entries_of(y)
    # Heads stay whole: what would split one is gathered.
    if entries is not None and not divides(entries[-1], num_heads):
        y = spread(y, (*entries[:-1], None))
    heads = y.reshape(*x.shape[:-1], num_heads, y.shape[-1] // num_heads)
    return constrained(heads, *leading(x.ndim - 1), role, None)


def _seen(
    cache: KeyValueCache | RollingCache,
    kept: Kept,
    places: jax.Array,
    options: Options,
) -> jax.Array | None:
    """Which entries of a cache each new element sees: those before it, itself, and later new ones if it may.

    With 2 entries before, 3 new elements and room for 6:

        causal      1 1 1 . . .      not causal      1 1 1 1 1 .
                    1 1 1 1 . .                      1 1 1 1 1 .
                    1 1 1 1 1 .                      1 1 1 1 1 .
    """
    assert kept.places is not None
    seen = seen_from(places, kept.places, options)
    if isinstance(cache, RollingCache):
        # It is causal; but a part of it may be empty.
        is_there = kept.places >= 0
    elif options.is_causal:
        return seen
    else:
        end = cache.position.value
        is_there = kept.places < (end[:, None] if end.ndim else end)
    if is_there.ndim == 1:
        is_there = is_there[None, :]
    return both(seen, is_there[:, None, None, :])
