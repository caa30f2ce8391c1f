"""Gemma 2: norms on both sides of each part, windows in every other layer, and scores and logits that are capped."""

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
from ._rope import rope_settings, rotary_of
from ._settings import Settings, activation_name


class Gemma2(LanguageModel):
    """Gemma 2 (Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size").

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
        soft_cap: What scores stay below; `None` for no cap.
        logits_cap: What logits stay below.
        window: How many elements a layer with a window attends to, with the element itself.
        windowed: Which layers have the window; by default every other one.
        is_tied: Whether the head is the embedding.
        scan: Whether the blocks are stacked, which must be all alike then.
        rotary: How queries and keys are rotated.
        param_dtype: Dtype of the parameters.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.Gemma2(5, 8, 2, 4, num_kv_heads=2, hidden_size=12, head_size=2))
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
    soft_cap: float | None = 50.0
    logits_cap: float | None = 30.0
    window: int = 4096
    windowed: tuple[bool, ...] = static(
        factory=lambda self: every_other(self.num_layers)
    )
    is_tied: bool = True
    scan: bool = False
    rotary: nn.Rotary = subnode(default_factory=nn.Rotary)
    param_dtype: InitVar[DTypeLike] = jnp.float32

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        dtype = param_dtype
        check_one_per_layer("Gemma2", self.windowed, self.num_layers)
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
            rotary=self.rotary,
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


def every_other(num_layers: int) -> tuple[bool, ...]:
    """The first of two layers has a window."""
    return tuple(layer % 2 == 0 for layer in range(num_layers))


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    sizes = sizes_of(settings, head_size=256)
    settings.only("use_bidirectional_attention", False)
    return {
        **sizes,
        # Files of the first days have a name that nobody reads, `hidden_act`.
        "act": settings.activation("hidden_activation", "gelu_pytorch_tanh"),
        "epsilon": settings.number("rms_norm_eps", 1e-6),
        "has_attention_bias": settings.flag("attention_bias", False),
        "score_divisor": settings.number("query_pre_attn_scalar", 256.0),
        "soft_cap": settings.optional_number("attn_logit_softcapping", 50.0),
        "logits_cap": settings.optional_number("final_logit_softcapping", 30.0),
        "window": settings.integer("sliding_window", 4096),
        "windowed": windowed_of(settings, every_other(sizes["num_layers"])),
        "is_tied": settings.flag("tie_word_embeddings", True),
        "rotary": rotary_of(settings),
    }


# Any: values of JSON.
def _to_config(model: Gemma2) -> dict[str, Any]:
    return {
        "architectures": ["Gemma2ForCausalLM"],
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
        **rope_settings(model.rotary),
    }


def _table(model: Gemma2) -> Changes:
    norms = {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "attention_out_norm",
        "pre_feedforward_layernorm": "mlp_norm",
        "post_feedforward_layernorm": "mlp_out_norm",
    }
    return decoder_table(model.decoder, norms, is_tied=model.is_tied)


GEMMA2: Final = Family(
    model_type="gemma2",
    cls=Gemma2,
    from_config=_from_config,
    to_config=_to_config,
    table=_table,
    ignored=("max_position_embeddings", "hidden_act"),
    unused=UNUSED,
)
