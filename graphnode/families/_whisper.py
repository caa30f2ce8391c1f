"""Whisper: an encoder of sound, and a decoder that writes what was said."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from .. import nn
from .._fields import static, subnode
from .._registered import HUGGING_FACE
from ..checkpoint import Change, Changes, Rename, Stack, Transpose
from ._family import Family
from ._language_model import LanguageModel, Logits
from ._places import check_room, places
from ._settings import Settings, activation_name

Tokens: TypeAlias = Integer[Array, "batch time"]
Lengths: TypeAlias = Integer[Array, "batch"]
Sound: TypeAlias = Float[Array, "batch frames num_mel_bins"]
Encoded: TypeAlias = Float[Array, "batch source width"]

# That of PyTorch's norms, as no settings say one.
_EPSILON: Final = 1e-5


class Whisper(LanguageModel):
    """Whisper (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision").

    To decode, give it caches by `init_cache`, call it once with the sound, and from then on
    with what comes next alone.

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        num_layers: Number of blocks of the encoder.
        num_heads: Number of heads of its attention.
        num_decoder_layers: Number of blocks of the decoder; by default as many.
        num_decoder_heads: Number of heads of its attention; by default as many.
        hidden_size: Features in the middle of the perceptrons of the encoder; by default
            `4 * width`.
        decoder_hidden_size: Those of the decoder; by default as many.
        num_mel_bins: Features of a frame of a sound: the logarithm of its mel spectrum.
        num_source_positions: Half as many as the longest sound has frames.
        num_positions: Tokens of the longest text.
        act: Of the perceptrons.
        is_tied: Whether the head is the embedding.
        scan: Whether the blocks are stacked, and run by `gn.scan`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: More frames or tokens than there are positions, in a call or a
            cache.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.Whisper(5, 8, 2, 4, num_mel_bins=3))
        >>> sound = jnp.ones((1, 3000, 3))
        >>> gn.eval_shape(lambda model: model(jnp.array([[0, 1]]), sound=sound), model).shape
        (1, 2, 5)
    """

    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_decoder_layers: int = static(factory=lambda self: self.num_layers)
    num_decoder_heads: int = static(factory=lambda self: self.num_heads)
    hidden_size: int = static(factory=lambda self: 4 * self.width)
    decoder_hidden_size: int = static(factory=lambda self: self.hidden_size)
    num_mel_bins: int = 80
    num_source_positions: int = 1500
    num_positions: int = 448
    act: Callable[[jax.Array], jax.Array] = static(default=HUGGING_FACE["gelu"])
    is_tied: bool = True
    scan: bool = False
    param_dtype: InitVar[DTypeLike] = jnp.float32
    convs: list[nn.Conv] = subnode(init=False)
    source_positions: nn.Embedding = subnode(init=False)
    encoder: nn.TransformerStack = subnode(init=False)
    positions: nn.Embedding = subnode(init=False)

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        width, dtype = self.width, param_dtype
        self._make_ends(is_tied=self.is_tied, param_dtype=dtype)
        self.convs = [
            nn.Conv(self.num_mel_bins, width, 3, padding=1, param_dtype=dtype),
            nn.Conv(width, width, 3, strides=2, padding=1, param_dtype=dtype),
        ]
        self.source_positions, self.positions = (
            nn.Embedding(count, width, param_dtype=dtype)
            for count in (self.num_source_positions, self.num_positions)
        )
        self.encoder = self._stack(self.num_layers, dtype, is_decoder=False)
        self._set_decoder(self._stack(self.num_decoder_layers, dtype, is_decoder=True))

    def _stack(
        self, num_layers: int, dtype: DTypeLike, *, is_decoder: bool
    ) -> nn.TransformerStack:
        blocks = [_block(self, dtype, is_decoder) for _ in range(num_layers)]
        norm = nn.LayerNorm(self.width, epsilon=_EPSILON, param_dtype=dtype)
        return nn.TransformerStack(blocks, norm=norm, scan=self.scan)

    def init_cache(
        self,
        batch_size: int,
        length: int,
        dtype: DTypeLike | None = None,
        *,
        ragged: bool = False,
    ) -> None:
        """As of `LanguageModel`, and of sounds; there is no room beyond the positions."""
        check_room(self.positions, "length", length)
        super().init_cache(batch_size, length, dtype, ragged=ragged)
        self.decoder.init_context_cache(batch_size, self.num_source_positions, dtype)

    def encode(self, sound: Sound) -> Encoded:
        """What every second frame of a sound means beside the others."""
        x = sound.astype(self.convs[0].weight.value.dtype)
        for conv in self.convs:
            x = HUGGING_FACE["gelu"](conv(x))
        check_room(self.source_positions, "half of the frames", x.shape[1])
        return self.encoder(x + self.source_positions(jnp.arange(x.shape[1]))[None])

    def decode(
        self,
        tokens: Tokens,
        encoded: Encoded | None = None,
        *,
        lengths: Lengths | None = None,
    ) -> Logits:
        """The logits of what follows each token, beside what `encode` gave; that is left out once it is in caches."""
        time = tokens.shape[1]
        check_room(self.positions, "tokens", time)
        positions = jnp.broadcast_to(places(self.decoder, time), tokens.shape)
        x = self.embedding(tokens) + self.positions(positions)
        return self._logits(self.decoder(x, encoded, lengths=lengths))

    def __call__(
        self,
        tokens: Tokens,
        *,
        lengths: Lengths | None = None,
        sound: Sound | None = None,
    ) -> Logits:
        """The logits of what follows each token, beside a sound; that is left out once it is in caches."""
        encoded = None if sound is None else self.encode(sound)
        return self.decode(tokens, encoded, lengths=lengths)


def _block(model: Whisper, dtype: DTypeLike, is_decoder: bool) -> nn.Block:
    """A block of the encoder or the decoder."""
    num_heads = model.num_decoder_heads if is_decoder else model.num_heads

    def attention(is_causal: bool) -> nn.MultiHeadAttention:
        """That of a text, or of the sound."""
        return nn.MultiHeadAttention(
            model.width,
            num_heads,
            is_causal=is_causal,
            use_bias=("query", "value", "out"),
            param_dtype=dtype,
        )

    return nn.TransformerBlock(
        model.width,
        hidden_size=model.decoder_hidden_size if is_decoder else model.hidden_size,
        act=model.act,
        epsilon=_EPSILON,
        attention=attention(is_causal=is_decoder),
        cross_attention=attention(is_causal=False) if is_decoder else None,
        param_dtype=dtype,
    )


# By the names of arguments here.
_SIZES: Final = {
    "vocab_size": "vocab_size",
    "width": "d_model",
    "num_layers": "encoder_layers",
    "num_heads": "encoder_attention_heads",
    "num_decoder_layers": "decoder_layers",
    "num_decoder_heads": "decoder_attention_heads",
    "hidden_size": "encoder_ffn_dim",
    "decoder_hidden_size": "decoder_ffn_dim",
}


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    settings.only("is_encoder_decoder", True)
    settings.only("scale_embedding", False)
    return {
        **{name: settings.integer(key) for name, key in _SIZES.items()},
        "num_mel_bins": settings.integer("num_mel_bins", 80),
        "num_source_positions": settings.integer("max_source_positions", 1500),
        "num_positions": settings.integer("max_target_positions", 448),
        "act": settings.activation("activation_function", "gelu"),
        "is_tied": settings.flag("tie_word_embeddings", True),
    }


# Any: values of JSON.
def _to_config(model: Whisper) -> dict[str, Any]:
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        **{key: getattr(model, name) for name, key in _SIZES.items()},
        "num_mel_bins": model.num_mel_bins,
        "max_source_positions": model.num_source_positions,
        "max_target_positions": model.num_positions,
        "activation_function": activation_name(model.act, "gelu"),
        "tie_word_embeddings": model.is_tied,
        "scale_embedding": False,
        "is_encoder_decoder": True,
    }


_MAPS: Final = {"q": "query", "k": "key", "v": "value", "out": "out"}


def _table(model: Whisper) -> Changes:
    """From the names of the files to the paths of the model."""
    changes: list[Change] = [
        Rename("model.encoder.conv1.*", "convs.0.*"),
        Rename("model.encoder.conv2.*", "convs.1.*"),
        Transpose("convs.*.weight", [2, 1, 0]),
        Rename("model.encoder.embed_positions.*", "source_positions.*"),
        Rename("model.decoder.embed_tokens.*", "embedding.*"),
        Rename("model.decoder.embed_positions.*", "positions.*"),
    ]
    parts = {
        "encoder": {"self_attn": "attention"},
        "decoder": {"self_attn": "attention", "encoder_attn": "cross_attention"},
    }
    for name, attentions in parts.items():
        layer, block = f"model.{name}.layers.*", f"{name}.blocks.*"
        for part, field in attentions.items():
            changes += [
                Rename(f"{layer}.{part}.{old}_proj.*", f"{block}.{field}.{new}.*")
                for old, new in _MAPS.items()
            ]
            norm = f"{block}.{field}_norm.*"
            changes.append(Rename(f"{layer}.{part}_layer_norm.*", norm))
        changes += [
            Rename(f"{layer}.fc1.*", f"{block}.mlp.layers.0.*"),
            Rename(f"{layer}.fc2.*", f"{block}.mlp.layers.1.*"),
            Rename(f"{layer}.final_layer_norm.*", f"{block}.mlp_norm.*"),
            Rename(f"{block}.*_norm.weight", f"{block}.*_norm.scale"),
            Transpose(f"{block}.**.weight"),
            Rename(f"model.{name}.layer_norm.weight", f"{name}.norm.scale"),
            Rename(f"model.{name}.layer_norm.bias", f"{name}.norm.bias"),
        ]
        if model.scan:
            changes.append(Stack(f"{block}.**", f"{name}.blocks.**"))
    if not model.is_tied:
        changes += [Rename("proj_out.weight", "head.weight"), Transpose("head.weight")]
    return Changes(changes)


WHISPER: Final = Family(
    "whisper",
    Whisper,
    _from_config,
    _to_config,
    _table,
    ignored=(
        *("activation_dropout", "decoder_layerdrop", "dropout", "encoder_layerdrop"),
        "init_std",
        # Changes of the sound in training.
        *("apply_spec_augment", "mask_feature_length", "mask_feature_min_masks"),
        *("mask_feature_prob", "mask_time_length", "mask_time_min_masks"),
        "mask_time_prob",
        # Of when each word was said.
        "median_filter_width",
        # Of another head.
        *("classifier_proj_size", "use_weighted_layer_sum"),
        # The same as `encoder_layers`.
        "num_hidden_layers",
    ),
    unused=("proj_out.weight",),
)
