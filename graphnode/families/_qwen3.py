"""Qwen 3: as LLaMA, with norms of queries and keys."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .. import nn
from .._fields import static, subnode
from ..checkpoint import Changes
from ._decoder import (
    UNUSED,
    check_one_per_layer,
    decoder_table,
    layer_types,
    size_settings,
    sizes_of,
    windowed_of,
)
from ._family import Family
from ._language_model import LanguageModel
from ._rope import rope_settings, rotary_of
from ._settings import Settings, activation_name


class Qwen3(LanguageModel):
    """Qwen 3, without experts (Yang et al. 2025, "Qwen3 Technical Report").

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        num_layers: Number of blocks.
        num_heads: Number of heads of the attention.
        num_kv_heads: Number of heads of keys and values; by default as many.
        head_size: Features of a head; by default 128.
        hidden_size: Features in the middle of the perceptrons.
        act: Of the perceptrons.
        epsilon: Of the norms.
        has_attention_bias: Whether the maps of the attention have biases.
        window: How many elements a layer with a window attends to, with the element itself.
        windowed: Which layers have the window; by default none.
        is_tied: Whether the head is the embedding.
        scan: Whether the blocks are stacked, and run by `gn.scan`.
        rotary: How queries and keys are rotated.
        param_dtype: Dtype of the parameters.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.Qwen3(5, 8, 2, 4, num_kv_heads=2, hidden_size=12, head_size=2))
        >>> gn.eval_shape(model, jnp.array([[1, 2, 3]])).shape
        (1, 3, 5)
    """

    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_kv_heads: int = static(factory=lambda self: self.num_heads)
    head_size: int = 128
    hidden_size: int
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.silu)
    epsilon: float = 1e-6
    has_attention_bias: bool = False
    window: int | None = None
    windowed: tuple[bool, ...] = static(factory=lambda self: (False,) * self.num_layers)
    is_tied: bool = False
    scan: bool = False
    rotary: nn.Rotary = subnode(default_factory=nn.Rotary)
    param_dtype: InitVar[DTypeLike] = jnp.float32

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        dtype = param_dtype
        check_one_per_layer("Qwen3", self.windowed, self.num_layers)
        self._make_ends(is_tied=self.is_tied, param_dtype=dtype)
        blocks = [self._block(has_window, dtype) for has_window in self.windowed]
        norm = self._norm(self.width, dtype)
        self._set_decoder(nn.TransformerStack(blocks, norm=norm, scan=self.scan))

    def _norm(self, width: int, dtype: DTypeLike) -> nn.RMSNorm:
        return nn.RMSNorm(width, epsilon=self.epsilon, param_dtype=dtype)

    def _block(self, has_window: bool, dtype: DTypeLike) -> nn.Block:
        return nn.TransformerBlock(
            self.width,
            attention=nn.MultiHeadAttention(
                self.width,
                self.num_heads,
                num_kv_heads=self.num_kv_heads,
                head_size=self.head_size,
                is_causal=True,
                window=self.window if has_window else None,
                rotary=self.rotary,
                query_norm=self._norm(self.head_size, dtype),
                key_norm=self._norm(self.head_size, dtype),
                use_bias=self.has_attention_bias,
                param_dtype=dtype,
            ),
            mlp=nn.GatedMLP(
                self.width,
                self.hidden_size,
                act=self.act,
                param_dtype=dtype,
            ),
            attention_norm=self._norm(self.width, dtype),
            mlp_norm=self._norm(self.width, dtype),
        )


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    sizes = sizes_of(settings, head_size=128)
    num_layers: int = sizes["num_layers"]
    has_window = settings.flag("use_sliding_window", False)
    window = settings.optional_integer("sliding_window")
    num_full = settings.value("max_window_layers", 28)
    is_late = [has_window and layer >= num_full for layer in range(num_layers)]
    windowed = windowed_of(settings, is_late)
    if not has_window and any(windowed):
        settings.fault(
            "use_sliding_window", "expected true with such layer_types; found false"
        )
    if has_window and window is None:
        settings.fault(
            "sliding_window",
            "expected a positive integer with use_sliding_window; found nothing",
        )
    return {
        **sizes,
        "act": settings.activation("hidden_act", "silu"),
        "epsilon": settings.number("rms_norm_eps", 1e-6),
        "has_attention_bias": settings.flag("attention_bias", False),
        "window": window if has_window else None,
        "windowed": windowed,
        "is_tied": settings.flag("tie_word_embeddings", False),
        "rotary": rotary_of(settings),
    }


# Any: values of JSON.
def _to_config(model: Qwen3) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        **size_settings(model),
        "hidden_act": activation_name(model.act, "silu"),
        "rms_norm_eps": model.epsilon,
        "attention_bias": model.has_attention_bias,
        "use_sliding_window": model.window is not None,
        "sliding_window": model.window,
        "layer_types": layer_types(model.windowed),
        "tie_word_embeddings": model.is_tied,
        **rope_settings(model.rotary),
    }


def _table(model: Qwen3) -> Changes:
    norms = {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "mlp_norm",
        "self_attn.q_norm": "attention.query_norm",
        "self_attn.k_norm": "attention.key_norm",
    }
    return decoder_table(model.decoder, norms, is_tied=model.is_tied)


QWEN3: Final = Family(
    model_type="qwen3",
    cls=Qwen3,
    from_config=_from_config,
    to_config=_to_config,
    table=_table,
    ignored=("max_position_embeddings", "max_window_layers"),
    unused=UNUSED,
)
