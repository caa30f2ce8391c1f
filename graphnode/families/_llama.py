"""LLaMA: a decoder with rotary positions, gated perceptrons and RMS norms."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .. import nn
from .._fields import static, subnode
from ..checkpoint import Changes
from ._decoder import UNUSED, decoder_table, size_settings, sizes_of
from ._family import Family
from ._language_model import LanguageModel
from ._rope import rope_settings, rotary_of
from ._settings import Settings, activation_name


class Llama(LanguageModel):
    """LLaMA 2 and 3 (Grattafiori et al. 2024, "The Llama 3 Herd of Models").

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        num_layers: Number of blocks.
        num_heads: Number of heads of the attention.
        num_kv_heads: Number of heads of keys and values; by default as many.
        head_size: Features of a head; by default `width / num_heads`.
        hidden_size: Features in the middle of the perceptrons.
        act: Of the perceptrons.
        epsilon: Of the norms.
        has_attention_bias: Whether the maps of the attention have biases.
        has_mlp_bias: Whether those of the perceptrons have.
        is_tied: Whether the head is the embedding.
        scan: Whether the blocks are stacked, and run by `gn.scan`.
        rotary: How queries and keys are rotated.
        param_dtype: Dtype of the parameters.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.Llama(5, 8, 2, 4, num_kv_heads=2, hidden_size=12))
        >>> gn.eval_shape(model, jnp.array([[1, 2, 3]])).shape
        (1, 3, 5)
    """

    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_kv_heads: int = static(factory=lambda self: self.num_heads)
    head_size: int = static(factory=lambda self: self.width // self.num_heads)
    hidden_size: int
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.silu)
    epsilon: float = 1e-6
    has_attention_bias: bool = False
    has_mlp_bias: bool = False
    is_tied: bool = False
    scan: bool = False
    rotary: nn.Rotary = subnode(default_factory=nn.Rotary)
    param_dtype: InitVar[DTypeLike] = jnp.float32

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        dtype = param_dtype
        self._make_ends(is_tied=self.is_tied, param_dtype=dtype)
        blocks = [self._block(dtype) for _ in range(self.num_layers)]
        norm = nn.RMSNorm(self.width, epsilon=self.epsilon, param_dtype=dtype)
        self._set_decoder(nn.TransformerStack(blocks, norm=norm, scan=self.scan))

    def _block(self, dtype: DTypeLike) -> nn.Block:
        return nn.TransformerBlock(
            self.width,
            attention=nn.MultiHeadAttention(
                self.width,
                self.num_heads,
                num_kv_heads=self.num_kv_heads,
                head_size=self.head_size,
                is_causal=True,
                rotary=self.rotary,
                use_bias=self.has_attention_bias,
                param_dtype=dtype,
            ),
            mlp=nn.GatedMLP(
                self.width,
                self.hidden_size,
                act=self.act,
                use_bias=self.has_mlp_bias,
                param_dtype=dtype,
            ),
            norm="RMSNorm",
            epsilon=self.epsilon,
            param_dtype=dtype,
        )


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    return {
        **sizes_of(settings),
        "act": settings.activation("hidden_act", "silu"),
        "epsilon": settings.number("rms_norm_eps", 1e-6),
        "has_attention_bias": settings.flag("attention_bias", False),
        "has_mlp_bias": settings.flag("mlp_bias", False),
        "is_tied": settings.flag("tie_word_embeddings", False),
        "rotary": rotary_of(settings),
    }


# Any: values of JSON.
def _to_config(model: Llama) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        **size_settings(model),
        "hidden_act": activation_name(model.act, "silu"),
        "rms_norm_eps": model.epsilon,
        "attention_bias": model.has_attention_bias,
        "mlp_bias": model.has_mlp_bias,
        "tie_word_embeddings": model.is_tied,
        **rope_settings(model.rotary),
    }


def _table(model: Llama) -> Changes:
    norms = {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "mlp_norm",
    }
    return decoder_table(model.decoder, norms, is_tied=model.is_tied)


LLAMA: Final = Family(
    model_type="llama",
    cls=Llama,
    from_config=_from_config,
    to_config=_to_config,
    table=_table,
    ignored=("max_position_embeddings",),
    unused=UNUSED,
)
