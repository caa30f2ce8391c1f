"""`TransformerBlock`, attention and a perceptron, each beside a residual path."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._constrain import constrained, leading
from .._declare._node import Node
from .._errors import ContractError
from .._fields import Initializer, static, subnode
from .._hints import with_article
from .._rngs import Rngs
from . import initializers
from ._attention import MultiHeadAttention
from ._attention_base import Attention
from ._block import Block
from ._checks import divisor, place, size
from ._dropout import Dropout
from ._dtypes import inexact, promoted
from ._layer_norm import LayerNorm
from ._mlp import MLP
from ._module import Layer
from ._rms_norm import RMSNorm

Sequence: TypeAlias = Float[Array, "*batch time width"]
Context: TypeAlias = Float[Array, "*batch context context_size"]
NormPosition: TypeAlias = Literal["before", "after", "output", "both"]

_NORMS: Final[dict[str, type[LayerNorm] | type[RMSNorm]]] = {
    "LayerNorm": LayerNorm,
    "RMSNorm": RMSNorm,
}
_NORM_POSITIONS: Final = ("before", "after", "output", "both")
# In the order in which they are called; each with the fields `..._norm` and `..._out_norm`.
_PARTS: Final = ("attention", "cross_attention", "mlp")


class TransformerBlock(Block):
    """Attention and a perceptron, each of which adds to a residual path.

    `x = x + dropout(attention(norm(x)))`, then `x = x + dropout(mlp(norm(x)))`: the
    arrangement of Radford et al. 2019, "Language Models are Unsupervised Multitask
    Learners", section 2.3. Between the two comes cross attention to another sequence, if
    the block has it. Norms are before the parts (Xiong et al. 2020, "On Layer Normalization
    in the Transformer Architecture"), after them (Vaswani et al. 2017, "Attention Is All
    You Need"), on what the parts give (Liu et al. 2022, "Swin Transformer V2"), or on both
    sides of them (Gemma Team 2024, "Gemma 2"):

    | `norm_position` | what a part does | for example |
    |---|---|---|
    | `"before"` | `x + part(norm(x))` | GPT-2, LLaMA |
    | `"after"` | `norm(x + part(x))` | BERT |
    | `"output"` | `x + norm(part(x))` | OLMo 2 |
    | `"both"` | `x + out_norm(part(norm(x)))` | Gemma 2 |

    In the parallel form, all parts get the same `x`, and their sum is added to it (Wang
    and Komatsuzaki 2021, "GPT-J-6B").

    The parts are made of the options, or given: any `Attention`, and any layer.

    Args:
        width: Features of input and output.
        num_heads: Number of heads of the attention; left out if that is given.
        hidden_size: Features in the middle of the perceptron; by default `4 * width`.
        num_kv_heads: Number of heads of keys and values; by default as many.
        is_causal: Whether no element attends to later ones.
        rotary_base: Queries and keys are rotated by their positions, with this base; by
            default they are not.
        act: Of the perceptron; by default `jax.nn.gelu`.
        norm: The class of the norms that are made here.
        epsilon: Of these norms; by default that of their class.
        norm_position: Where the norms are.
        parallel: Whether all parts get the same input.
        use_bias: Whether the linear maps that are made here have biases.
        w_init: Initialiser of their weights.
        b_init: Initialiser of their biases.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters that are made here.
        attention: Of the sequence to itself; by default a `MultiHeadAttention`.
        mlp: Of each element by itself, such as `GatedMLP`; by default an `MLP`.
        cross_attention: Of the sequence to another one; by default there is none.
        attention_norm: Beside the attention.
        attention_out_norm: Behind it, where norms are on both sides.
        cross_attention_norm: Beside the cross attention.
        cross_attention_out_norm: Behind it, where norms are on both sides.
        mlp_norm: Beside the perceptron.
        mlp_out_norm: Behind it, where norms are on both sides.
        dropout: What the results of all parts pass through; by default nothing is
            dropped. Blocks may share one.

    Raises:
        ContractError: What its parts refuse: sizes, heads that do not divide the width,
            inputs of another shape; an option of a part that is given.

    Example:
        >>> TransformerBlock(8, 2, is_causal=True)(jnp.ones((2, 5, 8))).shape
        (2, 5, 8)
        >>> mlp = gn.nn.GatedMLP(8, 12)
        >>> TransformerBlock(8, 2, norm="RMSNorm", norm_position="both", mlp=mlp)(jnp.ones((5, 8))).shape
        (5, 8)
    """

    width: int
    """Features of input and output."""
    num_heads: int | None = None
    """Number of heads of the attention."""
    _: KW_ONLY
    hidden_size: int | None = None
    """Features in the middle of the perceptron; by default `4 * width`."""
    num_kv_heads: InitVar[int | None] = None
    """Number of heads of keys and values; by default as many."""
    is_causal: InitVar[bool] = False
    """Whether no element attends to later ones."""
    rotary_base: InitVar[float | None] = None
    """Queries and keys are rotated by their positions, with this base."""
    act: InitVar[Callable[[jax.Array], jax.Array] | None] = None
    """Of the perceptron; by default `jax.nn.gelu`."""
    norm: InitVar[Literal["LayerNorm", "RMSNorm"]] = "LayerNorm"
    """The class of the norms."""
    epsilon: InitVar[float | None] = None
    """Of the norms; by default that of their class."""
    norm_position: NormPosition = static(default="before")
    """Where the norms are."""
    parallel: bool = static(default=False)
    """Whether all parts get the same input."""
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
    attention_norm: Layer | None = subnode(default=None)
    """Beside the attention."""
    attention: Attention | None = subnode(default=None)
    """Of the sequence to itself; never `None` once the block is made."""
    attention_out_norm: Layer | None = subnode(default=None)
    """Behind the attention, where norms are on both sides."""
    cross_attention_norm: Layer | None = subnode(default=None)
    """Beside the cross attention."""
    cross_attention: Attention | None = subnode(default=None)
    """Of the sequence to another one, if there is any."""
    cross_attention_out_norm: Layer | None = subnode(default=None)
    """Behind the cross attention, where norms are on both sides."""
    mlp_norm: Layer | None = subnode(default=None)
    """Beside the perceptron."""
    mlp: Layer | None = subnode(default=None)
    """Of each element by itself; never `None` once the block is made."""
    mlp_out_norm: Layer | None = subnode(default=None)
    """Behind the perceptron, where norms are on both sides."""
    dropout: Dropout = subnode(default_factory=lambda: Dropout(0.0))
    """What the results of all parts pass through."""

    def __post_init__(
        self,
        num_kv_heads: int | None,
        is_causal: bool,
        rotary_base: float | None,
        act: Callable[[jax.Array], jax.Array] | None,
        norm: Literal["LayerNorm", "RMSNorm"],
        epsilon: float | None,
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.width = width = size("TransformerBlock.width", self.width)
        self.dtype = inexact("TransformerBlock.dtype", self.dtype)
        _check_choice("norm", norm, tuple(_NORMS))
        self._check_form()
        # The attention first: both draw from the ambient random stream.
        if self.attention is None:
            if self.num_heads is None:
                raise ContractError(
                    "TransformerBlock.num_heads: expected a number of heads, as no attention is given; found None"
                )
            self.num_heads = divisor(
                "TransformerBlock.num_heads", self.num_heads, "width", width
            )
            self.attention = MultiHeadAttention(
                width,
                self.num_heads,
                num_kv_heads=num_kv_heads,
                is_causal=is_causal,
                rotary_base=rotary_base,
                use_bias=use_bias,
                w_init=w_init,
                b_init=b_init,
                dtype=self.dtype,
                param_dtype=param_dtype,
            )
        else:
            _check_left_out("attention", "num_kv_heads", num_kv_heads, None)
            _check_left_out("attention", "is_causal", is_causal, False)
            _check_left_out("attention", "rotary_base", rotary_base, None)
            _check_agrees("num_heads", self.num_heads, "attention", self.attention)
        if self.mlp is None:
            hidden_size = 4 * width if self.hidden_size is None else self.hidden_size
            self.hidden_size = size("TransformerBlock.hidden_size", hidden_size)
            self.mlp = MLP(
                width,
                self.hidden_size,
                width,
                act=jax.nn.gelu if act is None else act,
                use_bias=use_bias,
                w_init=w_init,
                b_init=b_init,
                dtype=self.dtype,
                param_dtype=param_dtype,
            )
        else:
            _check_left_out("mlp", "act", getattr(act, "__name__", act), None)
            _check_agrees("hidden_size", self.hidden_size, "mlp", self.mlp)
        self._check_norms()
        norm_options: dict[str, Any] = {} if epsilon is None else {"epsilon": epsilon}
        # Each a node of its own: they have parameters.
        for name in self._norm_names():
            if getattr(self, name) is None:
                made = _NORMS[norm](
                    width, dtype=self.dtype, param_dtype=param_dtype, **norm_options
                )
                setattr(self, name, made)

    def _check_form(self) -> None:
        """Raise if norms are nowhere: at each call too, as a field may have been assigned, or come from a view.

        Raises:
            ContractError: A position of norms that is not known, or that the parallel form
                does not have.
        """
        _check_choice("norm_position", self.norm_position, _NORM_POSITIONS)
        if self.parallel and self.norm_position == "after":
            raise ContractError(
                "TransformerBlock.parallel: expected False with norm_position='after', which normalises after each "
                "part; found True"
            )

    def _norm_names(self) -> list[str]:
        """The fields of the norms that the block calls."""
        parts = [part for part in _PARTS if getattr(self, part) is not None]
        endings = ("_norm", "_out_norm") if self.norm_position == "both" else ("_norm",)
        return [part + ending for part in parts for ending in endings]

    def _check_norms(self) -> None:
        """Raise if a norm is given that would not be called.

        Raises:
            ContractError: Names it.
        """
        called = self._norm_names()
        for part in _PARTS:
            for name in (f"{part}_norm", f"{part}_out_norm"):
                if getattr(self, name) is None or name in called:
                    continue
                if getattr(self, part) is None:
                    reason = f"there is no {part}"
                else:
                    reason = f"norm_position={self.norm_position!r} has one norm for each part"
                found = type(getattr(self, name)).__name__
                raise ContractError(
                    f"TransformerBlock.{name}: expected None, as {reason}; found {with_article(found)}"
                )

    def __roles__(self) -> dict[str, dict[str, str]]:
        """What the roles of the perceptron are here."""
        return {"mlp": {"in": "embed", "out": "embed"}}

    def init_cache(
        self,
        batch_size: int,
        length: int | None = None,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> Node:
        """Give the attention an empty cache: from then on, a call continues the sequence.

        Args:
            batch_size: Number of sequences.
            length: How many elements there is room for in each; left out, a cache of
                the window, if the attention has one.
            dtype: Of what is kept; by default what is computed in.
            ragged: Whether each sequence has a position of its own.

        Returns:
            The cache, which is the attention's.

        Raises:
            ContractError: What the attention refuses.
        """
        assert self.attention is not None
        return self.attention.init_cache(batch_size, length, dtype, ragged=ragged)

    def init_context_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None
    ) -> Node:
        """Give the cross attention an empty cache: a call with a context keeps it, for calls without.

        Args:
            batch_size: Number of sequences.
            length: How many elements of a context there is room for.
            dtype: Of what is kept; by default what is computed in.

        Returns:
            The cache, which is the cross attention's.

        Raises:
            ContractError: There is no cross attention, or it refuses.
        """
        if self.cross_attention is None:
            raise ContractError(
                f"{place(self)}: expected a cross_attention, which a cache of a context is for; found None"
            )
        return self.cross_attention.init_context_cache(batch_size, length, dtype)

    def __call__(
        self,
        x: Sequence,
        context: Context | None = None,
        *,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        positions: jax.Array | None = None,
        lengths: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        context_lengths: jax.Array | None = None,
        rngs: Rngs | None = None,
    ) -> Sequence:
        """Map `x` of shape `[..., time, width]` to the same shape.

        Args:
            x: The sequence.
            context: What the cross attention attends to, of shape `[..., context,
                context_size]`; left out once it is in a cache.
            mask: Who attends to whom in `x`, as in `MultiHeadAttention`.
            bias: What is added to the scores of the attention.
            positions: Of the elements of `x`.
            lengths: How many elements of each sequence count.
            context_mask: Who attends to whom in the context.
            context_lengths: How many elements of each context count.
            rngs: What dropout draws from, that of the attention's weights too, in place of
                its own.

        Raises:
            ContractError: An array of another shape; a context, where there is no cross
                attention, or none, where there is.
        """
        self._check_form()
        self._check_context(context, context_mask, context_lengths)
        attention, cross_attention, mlp = self.attention, self.cross_attention, self.mlp
        assert attention is not None
        assert mlp is not None

        def attended(x: jax.Array) -> jax.Array:
            """What the elements collect from each other."""
            return attention(
                x,
                mask=mask,
                bias=bias,
                positions=positions,
                lengths=lengths,
                rngs=rngs,
            )

        def cross_attended(x: jax.Array) -> jax.Array:
            """What they collect from the context."""
            assert cross_attention is not None
            return cross_attention(
                x, context, mask=context_mask, lengths=context_lengths, rngs=rngs
            )

        steps: dict[str, Callable[[jax.Array], jax.Array]] = {"attention": attended}
        if cross_attention is not None:
            steps["cross_attention"] = cross_attended
        steps["mlp"] = mlp
        # The residual path too: the result has this dtype
        (x,) = promoted(self.dtype, x)
        roles = (*leading(x.ndim - 1), "embed")
        x = constrained(x, *roles)
        if self.parallel:
            branches = [
                self._branch(name, step, x, rngs) for name, step in steps.items()
            ]
            return constrained(x + sum(branches[1:], branches[0]), *roles)
        for name, step in steps.items():
            x = x + self._branch(name, step, x, rngs)
            if self.norm_position == "after":
                x = self._normalised(f"{name}_norm", x)
            x = constrained(x, *roles)
        return x

    def _branch(
        self,
        name: str,
        step: Callable[[jax.Array], jax.Array],
        x: jax.Array,
        rngs: Rngs | None,
    ) -> jax.Array:
        """What one part adds to the residual path, normalised where its norms are."""
        position = self.norm_position
        if position in ("before", "both"):
            x = self._normalised(f"{name}_norm", x)
        # A part that was given may compute in another dtype.
        (y,) = promoted(self.dtype, step(x))
        if position == "output":
            y = self._normalised(f"{name}_norm", y)
        elif position == "both":
            y = self._normalised(f"{name}_out_norm", y)
        return self.dropout(y, rngs=rngs)

    def _normalised(self, name: str, x: jax.Array) -> jax.Array:
        """`x` as the norm in a field makes it."""
        norm: Layer = getattr(self, name)
        return norm(x)

    def _check_context(
        self,
        context: jax.Array | None,
        mask: jax.Array | None,
        lengths: jax.Array | None,
    ) -> None:
        """Raise if a context is not what the block attends to.

        Raises:
            ContractError: It has no cross attention, and something of a context came; or
                it has one, and there is neither a context nor a cache of one.
        """
        cross_attention = self.cross_attention
        if cross_attention is None:
            arguments = {
                "context": context,
                "context_mask": mask,
                "context_lengths": lengths,
            }
            for name, array in arguments.items():
                if array is not None:
                    raise ContractError(
                        f"{place(self)}: {name}: expected None, as there is no cross_attention; found an array of "
                        f"shape {array.shape}"
                    )
        # Without this, it would attend to the sequence itself.
        elif (
            context is None and getattr(cross_attention, "context_cache", None) is None
        ):
            raise ContractError(
                f"{place(self)}: context: expected an array, as the cross_attention keeps none in a cache; found None"
            )


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `ContractError` if an option is none of its choices."""
    if value not in choices:
        expected = " or ".join(map(repr, choices))
        raise ContractError(
            f"TransformerBlock.{name}: expected {expected}; found {value!r}"
        )


def _check_left_out(part: str, name: str, value: object, default: object) -> None:
    """Raise `ContractError` if an option is given beside the part that it would make."""
    if value is not default:
        raise ContractError(
            f"TransformerBlock.{name}: expected none, as {part} is given, which says that itself; found {value!r}"
        )


def _check_agrees(name: str, value: object, part: str, layer: Layer) -> None:
    """Raise `ContractError` if a size is given that a part has otherwise."""
    actual: object = getattr(layer, name, None)
    if value is not None and value != actual:
        reason = f"{part} has none" if actual is None else f"{part} has"
        raise ContractError(
            f"TransformerBlock.{name}: expected {actual!r}, as {reason}; found {value!r}"
        )
