"""`TransformerBlock`, attention and a multilayer perceptron, each beside a residual path."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._constrain import constrained, leading
from .._errors import ContractError
from .._fields import Initializer, subnode
from .._rngs import Rngs
from . import initializers
from ._attention import MultiHeadAttention
from ._checks import divisor, size
from ._dropout import Dropout
from ._dtypes import inexact, promoted
from ._layer_norm import LayerNorm
from ._mlp import MLP
from ._module import Layer
from ._parts import Part, shared_vars
from ._rms_norm import RMSNorm

Sequence: TypeAlias = Float[Array, "*batch time width"]

_NORMS: Final[dict[str, type[LayerNorm] | type[RMSNorm]]] = {
    "LayerNorm": LayerNorm,
    "RMSNorm": RMSNorm,
}
# Options of the attention that the block does not have: left at `None` by its constructor.
_LEFT_OUT: Final = (
    "attend",
    "dropout",
    "key_norm",
    "out_size",
    "query_norm",
    "rotary",
    "scale",
    "score_bias",
    "soft_cap",
    "value_head_size",
    "window",
)


class TransformerBlock(Layer):
    """Attention and a multilayer perceptron, each on normalised features and added to a residual path.

    `x = x + dropout(attention(norm(x)))`, then `x = x + dropout(mlp(norm(x)))`: the
    arrangement of Radford et al. 2019, "Language Models are Unsupervised Multitask
    Learners", section 2.3, with norms before each part (Xiong et al. 2020, "On Layer
    Normalization in the Transformer Architecture", table 1).

    Args:
        width: Features of input and output.
        num_heads: Number of heads of the attention.
        hidden_size: Features in the middle of the perceptron; by default `4 * width`.
        num_kv_heads: Number of heads of keys and values; by default as many.
        is_causal: Whether no element attends to later ones.
        rotary_base: Queries and keys are rotated by their positions, with this base; by
            default they are not.
        act: Of the perceptron.
        norm: The class of both norms.
        dropout: What the results of both parts pass through; by default nothing is
            dropped. Blocks may share one.
        use_bias: Whether the linear maps have biases.
        w_init: Initialiser of the weights.
        b_init: Initialiser of the biases.
        dtype: What is computed in.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: What its parts refuse: sizes, heads that do not divide the width,
            inputs of another shape.

    Example:
        >>> TransformerBlock(8, 2, is_causal=True)(jnp.ones((2, 5, 8))).shape
        (2, 5, 8)
    """

    width: int
    """Features of input and output."""
    num_heads: int
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
    act: InitVar[Callable[[jax.Array], jax.Array]] = jax.nn.gelu
    """Of the perceptron."""
    norm: InitVar[Literal["LayerNorm", "RMSNorm"]] = "LayerNorm"
    """The class of both norms."""
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
    attention_norm: LayerNorm | RMSNorm = subnode(init=False)
    """Before the attention."""
    attention: MultiHeadAttention = subnode(init=False)
    """Of the sequence to itself."""
    mlp_norm: LayerNorm | RMSNorm = subnode(init=False)
    """Before the perceptron."""
    mlp: MLP = subnode(init=False)
    """Of each element by itself."""
    dropout: Dropout = subnode(default_factory=lambda: Dropout(0.0))
    """What the results of both parts pass through."""

    def __post_init__(
        self,
        num_kv_heads: int | None,
        is_causal: bool,
        rotary_base: float | None,
        act: Callable[[jax.Array], jax.Array],
        norm: Literal["LayerNorm", "RMSNorm"],
        use_bias: bool,
        w_init: Initializer,
        b_init: Initializer,
        param_dtype: DTypeLike,
    ) -> None:
        self.width = width = size("TransformerBlock.width", self.width)
        self.num_heads = divisor(
            "TransformerBlock.num_heads", self.num_heads, "width", width
        )
        hidden_size = 4 * width if self.hidden_size is None else self.hidden_size
        self.hidden_size = hidden_size = size(
            "TransformerBlock.hidden_size", hidden_size
        )
        self.dtype = inexact("TransformerBlock.dtype", self.dtype)
        if norm not in _NORMS:
            raise ContractError(
                f"TransformerBlock.norm: expected {' or '.join(map(repr, _NORMS))}; found {norm!r}"
            )
        # Two nodes, and not one twice: each has parameters of its own.
        self.attention_norm, self.mlp_norm = (
            _NORMS[norm](width, dtype=self.dtype, param_dtype=param_dtype)
            for _ in range(2)
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
        self.mlp = MLP(
            width,
            hidden_size,
            width,
            act=act,
            use_bias=use_bias,
            w_init=w_init,
            b_init=b_init,
            dtype=self.dtype,
            param_dtype=param_dtype,
        )

    def __init_vars__(self) -> dict[str, object]:
        """The init variables that the parts still show, for `gn.config.to_config`.

        Raises:
            ConfigError: Parts that the constructor does not make; names all, with their
                paths.
        """
        attention = self.attention
        shared = shared_vars(self._parts())
        return {
            "num_kv_heads": attention.num_kv_heads,
            "is_causal": attention.is_causal,
            "rotary_base": attention.rotary_base,
            "act": self.mlp.act,
            "norm": type(self.attention_norm).__name__,
            "use_bias": shared["use_bias"],
            "param_dtype": shared["param_dtype"],
        }

    def __roles__(self) -> dict[str, dict[str, str]]:
        """What the roles of the perceptron are here."""
        return {"mlp": {"in": "embed", "out": "embed"}}

    def _parts(self) -> dict[str, Part]:
        """For `__init_vars__`: the parts, with what the constructor gives them, and a config need not say."""
        width, dtype = self.width, self.dtype
        cls = type(self.attention_norm)
        # Of another class, it is a fault, whichever of the two it is compared with.
        norm_cls = cls if cls in _NORMS.values() else LayerNorm
        of_norm: dict[str, object] = {
            "width": width,
            # Left at the default of the class by the constructor.
            "epsilon": norm_cls.epsilon,
            "dtype": dtype,
        }
        of_attention: dict[str, object] = {
            "width": width, "num_heads": self.num_heads, "head_size": width // self.num_heads, "context_size": width,
            "dtype": dtype, **dict.fromkeys(_LEFT_OUT),
        }  # fmt: skip
        of_mlp: dict[str, object] = {
            "in_size": width, "hidden_size": self.hidden_size, "out_size": width, "depth": 1, "dtype": dtype,
        }  # fmt: skip
        # Whatever the linear maps have
        with_all = {"use_scale": True, "use_bias": True}
        return {
            "attention": Part(self.attention, MultiHeadAttention, of_attention),
            "attention_norm": Part(self.attention_norm, norm_cls, of_norm, with_all),
            "mlp": Part(self.mlp, MLP, of_mlp),
            "mlp_norm": Part(self.mlp_norm, norm_cls, of_norm, with_all),
        }

    def __call__(
        self, x: Sequence, *, mask: jax.Array | None = None, rngs: Rngs | None = None
    ) -> Sequence:
        """Map `x` of shape `[..., time, width]` to the same shape.

        Args:
            x: The sequence.
            mask: Who attends to whom, as in `MultiHeadAttention`.
            rngs: What dropout draws from, that of the attention's weights too, in place of
                its own.

        Raises:
            ContractError: An array of another shape.
        """
        # The residual path too: the result has this dtype
        (x,) = promoted(self.dtype, x)
        roles = (*leading(x.ndim - 1), "embed")
        x = constrained(x, *roles)
        x = x + self.dropout(
            self.attention(self.attention_norm(x), mask=mask, rngs=rngs), rngs=rngs
        )
        x = constrained(x, *roles)
        x = x + self.dropout(self.mlp(self.mlp_norm(x)), rngs=rngs)
        return constrained(x, *roles)
