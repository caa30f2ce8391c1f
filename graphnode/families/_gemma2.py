"""Gemma 2: norms on both sides of each part, windows in every other layer, and scores and logits that are capped."""

from dataclasses import KW_ONLY
from typing import Any, Final

from .._fields import static
from ..checkpoint import Changes
from ._decoder import UNUSED, decoder_table, sizes_of
from ._family import Family
from ._gemma import NORMS, Gemma, arguments_of, settings_of
from ._rope import rope_settings, rotary_of
from ._settings import Settings


class Gemma2(Gemma):
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

    _: KW_ONLY
    soft_cap: float | None = 50.0
    logits_cap: float | None = 30.0
    windowed: tuple[bool, ...] = static(
        factory=lambda self: every_other(self.num_layers)
    )


def every_other(num_layers: int) -> tuple[bool, ...]:
    """The first of two layers has a window."""
    return tuple(layer % 2 == 0 for layer in range(num_layers))


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    sizes = sizes_of(settings, head_size=256)
    arguments = arguments_of(
        settings,
        sizes,
        windowed=every_other(sizes["num_layers"]),
        soft_cap=50.0,
        logits_cap=30.0,
    )
    return {**arguments, "rotary": rotary_of(settings)}


# Any: values of JSON.
def _to_config(model: Gemma2) -> dict[str, Any]:
    return {
        "architectures": ["Gemma2ForCausalLM"],
        **settings_of(model),
        **rope_settings(model.rotary),
    }


def _table(model: Gemma2) -> Changes:
    return decoder_table(model.decoder, NORMS, is_tied=model.is_tied)


GEMMA2: Final = Family(
    model_type="gemma2",
    cls=Gemma2,
    from_config=_from_config,
    to_config=_to_config,
    table=_table,
    ignored=("max_position_embeddings", "hidden_act"),
    unused=UNUSED,
)
