"""GPT-2: a decoder with learned positions."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Integer

from .. import nn
from .._fields import static, subnode
from ..checkpoint import Change, Changes, Rename, Split, Stack, Transpose
from ._family import Family
from ._language_model import LanguageModel, Logits
from ._places import check_room, places
from ._settings import Settings, activation_name

Tokens: TypeAlias = Integer[Array, "batch time"]
Lengths: TypeAlias = Integer[Array, "batch"]


class GPT2(LanguageModel):
    """GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        num_layers: Number of blocks.
        num_heads: Number of heads of the attention.
        num_positions: Tokens of the longest text.
        hidden_size: Features in the middle of the perceptrons; by default `4 * width`.
        act: Of the perceptrons.
        epsilon: Of the norms.
        scales_scores: Whether scores are divided by the root of the size of a head.
        scales_by_layer: Whether they are also divided by the number of the layer,
            counted from 1; such layers cannot be stacked.
        is_tied: Whether the head is the embedding.
        scan: Whether the blocks are stacked, and run by `gn.scan`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: More tokens than there are positions, in a call or a cache.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.GPT2(5, 8, 2, 4, num_positions=16))
        >>> gn.eval_shape(model, jnp.array([[1, 2, 3]])).shape
        (1, 3, 5)
    """

    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_positions: int = 1024
    hidden_size: int = static(factory=lambda self: 4 * self.width)
    act: Callable[[jax.Array], jax.Array] = static(default=jax.nn.gelu)
    epsilon: float = 1e-5
    scales_scores: bool = True
    scales_by_layer: bool = False
    is_tied: bool = True
    scan: bool = False
    param_dtype: InitVar[DTypeLike] = jnp.float32
    positions: nn.Embedding = subnode(init=False)

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        width, dtype = self.width, param_dtype
        self._make_ends(is_tied=self.is_tied, param_dtype=dtype)
        self.positions = nn.Embedding(self.num_positions, width, param_dtype=dtype)
        blocks = [self._block(number, dtype) for number in range(self.num_layers)]
        norm = nn.LayerNorm(width, epsilon=self.epsilon, param_dtype=dtype)
        self._set_decoder(nn.TransformerStack(blocks, norm=norm, scan=self.scan))

    def _block(self, number: int, dtype: DTypeLike) -> nn.Block:
        head_size = self.width // self.num_heads
        scale = head_size**-0.5 if self.scales_scores else 1.0
        attention = nn.MultiHeadAttention(
            self.width,
            self.num_heads,
            is_causal=True,
            scale=scale / (number + 1) if self.scales_by_layer else scale,
            param_dtype=dtype,
        )
        return nn.TransformerBlock(
            self.width,
            hidden_size=self.hidden_size,
            act=self.act,
            epsilon=self.epsilon,
            attention=attention,
            param_dtype=dtype,
        )

    def init_cache(
        self,
        batch_size: int,
        length: int,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> None:
        """As of `LanguageModel`; there is no room beyond the positions."""
        check_room(self.positions, "length", length)
        super().init_cache(batch_size, length, dtype, ragged=ragged)

    def __call__(self, tokens: Tokens, *, lengths: Lengths | None = None) -> Logits:
        """The logits of what follows each token; `lengths` says how many of the tokens of each text count."""
        time = tokens.shape[1]
        check_room(self.positions, "tokens", time)
        positions = jnp.broadcast_to(places(self.decoder, time), tokens.shape)
        x = self.embedding(tokens) + self.positions(positions)
        return self._logits(self.decoder(x, lengths=lengths))


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    # Others have other arrays.
    settings.only("add_cross_attention", False)
    width = settings.integer("n_embd")
    return {
        "vocab_size": settings.integer("vocab_size"),
        "width": width,
        "num_layers": settings.integer("n_layer"),
        "num_heads": settings.integer("n_head"),
        "num_positions": settings.integer("n_positions", 1024),
        "hidden_size": settings.integer("n_inner", 4 * width),
        "act": settings.activation("activation_function", "gelu_new"),
        "epsilon": settings.number("layer_norm_epsilon", 1e-5),
        "scales_scores": settings.flag("scale_attn_weights", True),
        "scales_by_layer": settings.flag("scale_attn_by_inverse_layer_idx", False),
        "is_tied": settings.flag("tie_word_embeddings", True),
    }


# Any: values of JSON.
def _to_config(model: GPT2) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": model.vocab_size,
        "n_embd": model.width,
        "n_layer": model.num_layers,
        "n_head": model.num_heads,
        "n_positions": model.num_positions,
        "n_inner": model.hidden_size,
        "activation_function": activation_name(model.act, "gelu_new"),
        "layer_norm_epsilon": model.epsilon,
        "scale_attn_weights": model.scales_scores,
        "scale_attn_by_inverse_layer_idx": model.scales_by_layer,
        "tie_word_embeddings": model.is_tied,
        "add_cross_attention": False,
    }


def _table(model: GPT2) -> Changes:
    """From the names of the files to the paths of the model."""
    layer, block = "transformer.h.*", "decoder.blocks.*"
    maps = [f"{block}.attention.{name}.*" for name in ("query", "key", "value")]
    # Maps have the features of the input first, as OpenAI wrote them with TensorFlow.
    changes: list[Change] = [
        Rename("transformer.wte.*", "embedding.*"),
        Rename("transformer.wpe.*", "positions.*"),
        Split(f"{layer}.attn.c_attn.*", maps, axis=-1),
        Rename(f"{layer}.attn.c_proj.*", f"{block}.attention.out.*"),
        Rename(f"{layer}.mlp.c_fc.*", f"{block}.mlp.layers.0.*"),
        Rename(f"{layer}.mlp.c_proj.*", f"{block}.mlp.layers.1.*"),
        Rename(f"{layer}.ln_1.*", f"{block}.attention_norm.*"),
        Rename(f"{layer}.ln_2.*", f"{block}.mlp_norm.*"),
        Rename(f"{block}.*_norm.weight", f"{block}.*_norm.scale"),
        Rename("transformer.ln_f.weight", "decoder.norm.scale"),
        Rename("transformer.ln_f.bias", "decoder.norm.bias"),
    ]
    if not model.is_tied:
        changes += [Rename("lm_head.weight", "head.weight"), Transpose("head.weight")]
    if model.scan:
        changes.append(Stack(f"{block}.**", "decoder.blocks.**"))
    return Changes(changes)


GPT_2: Final = Family(
    "gpt2",
    GPT2,
    _from_config,
    _to_config,
    _table,
    ignored=(
        *("attn_pdrop", "embd_pdrop", "resid_pdrop"),
        # Scores are in float32 anyway.
        "reorder_and_upcast_attn",
        # The same as `n_positions`, in early files.
        "n_ctx",
        # Of another head.
        *("summary_activation", "summary_first_dropout", "summary_proj_to_labels"),
        *("summary_type", "summary_use_proj"),
    ),
    # Masks, which early files have too.
    unused=("lm_head.weight", "**.attn.bias", "**.attn.masked_bias"),
    prefix="transformer.",
)
