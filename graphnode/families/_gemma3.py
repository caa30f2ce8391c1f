"""Gemma 3, of texts alone: norms of queries and keys, five layers with a window for each without, two rotations."""

from dataclasses import KW_ONLY
from typing import Any, Final

from jax.typing import DTypeLike

from .. import nn
from .._fields import static, subnode
from ..checkpoint import Changes
from ._decoder import UNUSED, decoder_table, sizes_of
from ._family import Family
from ._gemma import NORMS, Gemma, arguments_of, settings_of
from ._rope import local_and_global_rotary_of, local_and_global_settings
from ._settings import Settings


class Gemma3(Gemma):
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

    _: KW_ONLY
    windowed: tuple[bool, ...] = static(
        factory=lambda self: all_but_each(6, self.num_layers)
    )
    rotary: nn.Rotary = subnode(default_factory=lambda: nn.Rotary(1_000_000.0))
    local_rotary: nn.Rotary = subnode(default_factory=nn.Rotary)

    def _rotary(self, has_window: bool) -> nn.Rotary:
        return self.local_rotary if has_window else self.rotary

    def _head_norm(self, dtype: DTypeLike) -> nn.RMSNorm | None:
        return self._norm(self.head_size, dtype)


def all_but_each(count: int, num_layers: int) -> tuple[bool, ...]:
    """The last of so many layers has no window, the others have."""
    return tuple((layer + 1) % count != 0 for layer in range(num_layers))


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    sizes = sizes_of(settings, head_size=256)
    count = settings.integer("sliding_window_pattern", 6)
    arguments = arguments_of(
        settings,
        sizes,
        windowed=all_but_each(count, sizes["num_layers"]),
        soft_cap=None,
        logits_cap=None,
    )
    local_rotary, rotary = local_and_global_rotary_of(settings, 10_000.0, 1_000_000.0)
    return {**arguments, "rotary": rotary, "local_rotary": local_rotary}


# Any: values of JSON.
def _to_config(model: Gemma3) -> dict[str, Any]:
    return {
        "architectures": ["Gemma3ForCausalLM"],
        **settings_of(model),
        "use_bidirectional_attention": False,
        **local_and_global_settings(model.local_rotary, model.rotary),
    }


def _table(model: Gemma3) -> Changes:
    norms = {
        **NORMS,
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
