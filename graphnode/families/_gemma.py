"""What Gemma 2 and Gemma 3 have in common: norms on both sides of each part, scores and logits that may be capped."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .. import nn
from .._fields import static, subnode
from ._decoder import (
    check_one_per_layer,
    integral,
    layer_types,
    size_settings,
    windowed_of,
)
from ._language_model import LanguageModel, Logits, Tokens
from ._settings import Settings, activation_name

NORMS: Final = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_out_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_out_norm",
}
"""Paths of the norms in a block, by their names in the files."""


class Gemma(LanguageModel):
    """The base of both; what its fields mean is said there."""

    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_kv_heads: int = static(factory=lambda self: self.num_heads)
    head_size: int = 256
    hidden_size: int
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.gelu)
    epsilon: float = 1e-6
    has_attention_bias: bool = False
    score_divisor: float = 256.0
    soft_cap: float | None = None
    logits_cap: float | None = None
    window: int = 4096
    windowed: tuple[bool, ...]
    is_tied: bool = True
    scan: bool = False
    rotary: nn.Rotary = subnode(default_factory=nn.Rotary)
    param_dtype: InitVar[DTypeLike] = jnp.float32

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        dtype = param_dtype
        check_one_per_layer(type(self).__name__, self.windowed, self.num_layers)
        self._make_ends(is_tied=self.is_tied, param_dtype=dtype)
        blocks = [self._block(has_window, dtype) for has_window in self.windowed]
        norm = self._norm(self.width, dtype)
        self._set_decoder(nn.TransformerStack(blocks, norm=norm, scan=self.scan))

    def _rotary(self, has_window: bool) -> nn.Rotary:
        """How a layer rotates queries and keys."""
        return self.rotary

    def _head_norm(self, dtype: DTypeLike) -> nn.RMSNorm | None:
        """The norm of queries, and that of keys."""
        return None

    def _norm(self, width: int, dtype: DTypeLike) -> nn.RMSNorm:
        return nn.RMSNorm(
            width, epsilon=self.epsilon, zero_centered=True, param_dtype=dtype
        )

    def _block(self, has_window: bool, dtype: DTypeLike) -> nn.Block:
        attention = nn.MultiHeadAttention(
            self.width,
            self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_size=self.head_size,
            is_causal=True,
            window=self.window if has_window else None,
            scale=self.score_divisor**-0.5,
            soft_cap=self.soft_cap,
            rotary=self._rotary(has_window),
            query_norm=self._head_norm(dtype),
            key_norm=self._head_norm(dtype),
            use_bias=self.has_attention_bias,
            param_dtype=dtype,
        )
        mlp = nn.GatedMLP(self.width, self.hidden_size, act=self.act, param_dtype=dtype)
        return nn.TransformerBlock(
            self.width,
            attention=attention,
            mlp=mlp,
            norm_position="both",
            attention_norm=self._norm(self.width, dtype),
            attention_out_norm=self._norm(self.width, dtype),
            mlp_norm=self._norm(self.width, dtype),
            mlp_out_norm=self._norm(self.width, dtype),
        )

    def __call__(self, tokens: Tokens, *, lengths: jax.Array | None = None) -> Logits:
        """The logits of what follows each token; `lengths` says how many of the tokens of each text count."""
        x = self.embedding(tokens)
        # The factor is rounded to the dtype of the weights, as in training.
        x = self.decoder(x * jnp.asarray(self.width**0.5, x.dtype), lengths=lengths)
        logits, cap = self._logits(x), self.logits_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)


# Any: arguments of the class.
def arguments_of(
    settings: Settings,
    sizes: dict[str, Any],
    *,
    windowed: tuple[bool, ...],
    soft_cap: float | None,
    logits_cap: float | None,
) -> dict[str, Any]:
    """All arguments of a Gemma but its rotations.

    Args:
        settings: Those of the model.
        sizes: What `sizes_of` read of them.
        windowed: Which layers have the window, where a file does not say.
        soft_cap: What scores stay below, where a file does not say.
        logits_cap: What logits stay below, where a file does not say.
    """
    settings.only("use_bidirectional_attention", False)
    return {
        **sizes,
        "act": settings.activation("hidden_activation", "gelu_pytorch_tanh"),
        "epsilon": settings.number("rms_norm_eps", 1e-6),
        "has_attention_bias": settings.flag("attention_bias", False),
        "score_divisor": settings.number("query_pre_attn_scalar", 256.0),
        "soft_cap": settings.optional_number("attn_logit_softcapping", soft_cap),
        "logits_cap": settings.optional_number("final_logit_softcapping", logits_cap),
        "window": settings.integer("sliding_window", 4096),
        "windowed": windowed_of(settings, windowed),
        "is_tied": settings.flag("tie_word_embeddings", True),
    }


# Any: values of JSON.
def settings_of(model: Gemma) -> dict[str, Any]:
    """The inverse of `arguments_of`."""
    return {
        **size_settings(model),
        "hidden_activation": activation_name(model.act, "gelu_pytorch_tanh"),
        "rms_norm_eps": model.epsilon,
        "attention_bias": model.has_attention_bias,
        "query_pre_attn_scalar": integral(model.score_divisor),
        "attn_logit_softcapping": model.soft_cap,
        "final_logit_softcapping": model.logits_cap,
        "sliding_window": model.window,
        "layer_types": layer_types(model.windowed),
        "tie_word_embeddings": model.is_tied,
    }
