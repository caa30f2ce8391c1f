"""Gemma 3, of texts alone: norms of queries and keys, five layers with a window for each without, two rotations."""

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
    integral,
    layer_types,
    size_settings,
    sizes_of,
    windowed_of,
)
from ._family import Family
from ._language_model import LanguageModel, Logits, Tokens
from ._rope import local_and_global_rotary_of, local_and_global_settings
from ._settings import Settings, activation_name


class Gemma3(LanguageModel):
    """Gemma 3, the model of texts (Gemma Team 2025, "Gemma 3 Technical Report").

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        num_layers: Number of blocks.
        num_heads: Number of heads of the attention.
        num_kv_heads: Number of heads of keys and values; by default as many.
        head_size: Features of a head.
        hidden_size: Features in the middle of the perceptrons.
        act: Of the perceptrons.
        epsilon: Of the norms.
        has_attention_bias: Whether the maps of the attention have biases.
        score_divisor: Scores are divided by its square root.
        soft_cap: What scores stay below, if anything.
        logits_cap: What logits stay below, if anything.
        window: How many elements a layer with a window attends to, with the element itself.
        windowed: Which layers have the window; by default all but each sixth.
        is_tied: Whether the head is the embedding.
        scan: Whether the blocks are stacked, which must be all alike then.
        rotary: How queries and keys are rotated in layers without a window.
        local_rotary: How they are in layers with one.
        param_dtype: Dtype of the parameters.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.Gemma3(5, 8, 2, 4, num_kv_heads=2, hidden_size=12, head_size=2))
        >>> gn.eval_shape(model, jnp.array([[1, 2, 3]])).shape
        (1, 3, 5)
    """

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
    windowed: tuple[bool, ...] = static(
        factory=lambda self: all_but_each(6, self.num_layers)
    )
    is_tied: bool = True
    scan: bool = False
    rotary: nn.Rotary = subnode(default_factory=lambda: nn.Rotary(1_000_000.0))
    local_rotary: nn.Rotary = subnode(default_factory=nn.Rotary)
    param_dtype: InitVar[DTypeLike] = jnp.float32

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        dtype = param_dtype
        check_one_per_layer("Gemma3", self.windowed, self.num_layers)
        self._make_ends(is_tied=self.is_tied, param_dtype=dtype)
        blocks = [self._block(has_window, dtype) for has_window in self.windowed]
        self._set_decoder(
            nn.TransformerStack(
                blocks, norm=self._norm(self.width, dtype), scan=self.scan
            )
        )

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
            rotary=self.local_rotary if has_window else self.rotary,
            query_norm=self._norm(self.head_size, dtype),
            key_norm=self._norm(self.head_size, dtype),
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


def all_but_each(count: int, num_layers: int) -> tuple[bool, ...]:
    """The last of so many layers has no window, the others have."""
    return tuple((layer + 1) % count != 0 for layer in range(num_layers))


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    sizes = sizes_of(settings, head_size=256)
    settings.only("use_bidirectional_attention", False)
    count = settings.integer("sliding_window_pattern", 6)
    local_rotary, rotary = local_and_global_rotary_of(settings, 10_000.0, 1_000_000.0)
    return {
        **sizes,
        "act": settings.activation("hidden_activation", "gelu_pytorch_tanh"),
        "epsilon": settings.number("rms_norm_eps", 1e-6),
        "has_attention_bias": settings.flag("attention_bias", False),
        "score_divisor": settings.number("query_pre_attn_scalar", 256.0),
        "soft_cap": settings.optional_number("attn_logit_softcapping"),
        "logits_cap": settings.optional_number("final_logit_softcapping"),
        "window": settings.integer("sliding_window", 4096),
        "windowed": windowed_of(settings, all_but_each(count, sizes["num_layers"])),
        "is_tied": settings.flag("tie_word_embeddings", True),
        "rotary": rotary,
        "local_rotary": local_rotary,
    }


# Any: values of JSON.
def _to_config(model: Gemma3) -> dict[str, Any]:
    return {
        "architectures": ["Gemma3ForCausalLM"],
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
        "use_bidirectional_attention": False,
        **local_and_global_settings(model.local_rotary, model.rotary),
    }


def _table(model: Gemma3) -> Changes:
    norms = {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "attention_out_norm",
        "pre_feedforward_layernorm": "mlp_norm",
        "post_feedforward_layernorm": "mlp_out_norm",
        "self_attn.q_norm": "attention.query_norm",
        "self_attn.k_norm": "attention.key_norm",
    }
    return decoder_table(model.decoder, norms, is_tied=model.is_tied)


GEMMA3: Final = Family(
    model_type="gemma3_text",
    cls=Gemma3,
    from_config=_from_config,
    to_config=_to_config,
    table=_table,
    ignored=("max_position_embeddings", "sliding_window_pattern"),
    unused=UNUSED,
)
