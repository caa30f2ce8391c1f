"""T5: an encoder and a decoder whose scores depend on distances."""

from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from .. import nn
from .._fields import static, subnode
from .._hints import did_you_mean, short
from .._registered import HUGGING_FACE
from ..checkpoint import Change, Changes, Rename, Stack, Transpose
from ._family import Family
from ._language_model import LanguageModel, Logits
from ._places import cache_of, places
from ._settings import Activation, Settings, activation_name

Tokens: TypeAlias = Integer[Array, "batch time"]
Source: TypeAlias = Integer[Array, "batch source"]
Lengths: TypeAlias = Integer[Array, "batch"]
Encoded: TypeAlias = Float[Array, "batch source width"]


class T5(LanguageModel):
    """T5 (Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer").

    The original, by default; version 1.1 has gated perceptrons and a head of its own.

    To decode, give it caches by `init_cache` and `init_context_cache`, call it once with
    the source, and from then on with what comes next alone.

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        num_layers: Number of blocks of the encoder.
        num_heads: Number of heads of the attention.
        num_decoder_layers: Number of blocks of the decoder; by default as many.
        head_size: Features of a head.
        hidden_size: Features in the middle of the perceptrons; by default `4 * width`.
        act: Of the perceptrons, or of their gates.
        is_gated: Whether the perceptrons are gated.
        num_buckets: Number of classes of distances.
        max_distance: The distance from which on all are in one class.
        epsilon: Of the norms.
        is_tied: Whether the head is the embedding.
        scales_outputs: Whether what the head gets is divided by the root of the width;
            by default if it is tied.
        scan: Whether the blocks are stacked, and run by `gn.scan`.
        param_dtype: Dtype of the parameters.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.T5(5, 8, 2, 4, head_size=2))
        >>> source = jnp.array([[1, 2, 3]])
        >>> gn.eval_shape(lambda model: model(jnp.array([[0, 1]]), source=source), model).shape
        (1, 2, 5)
    """

    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_decoder_layers: int = static(factory=lambda self: self.num_layers)
    head_size: int = 64
    hidden_size: int = static(factory=lambda self: 4 * self.width)
    act: Activation = static(default=jax.nn.relu)
    is_gated: bool = False
    num_buckets: int = 32
    max_distance: int = 128
    epsilon: float = 1e-6
    is_tied: bool = True
    scales_outputs: bool = static(factory=lambda self: self.is_tied)
    scan: bool = False
    param_dtype: InitVar[DTypeLike] = jnp.float32
    encoder: nn.TransformerStack = subnode(init=False)
    encoder_bias: nn.RelativePositionBias = subnode(init=False)
    decoder_bias: nn.RelativePositionBias = subnode(init=False)

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        dtype = param_dtype
        self._make_ends(is_tied=self.is_tied, param_dtype=dtype)
        self.encoder = self._stack(self.num_layers, dtype, is_decoder=False)
        self.encoder_bias = self._bias(dtype, is_decoder=False)
        self._set_decoder(self._stack(self.num_decoder_layers, dtype, is_decoder=True))
        self.decoder_bias = self._bias(dtype, is_decoder=True)

    def _bias(self, dtype: DTypeLike, *, is_decoder: bool) -> nn.RelativePositionBias:
        return nn.RelativePositionBias(
            self.num_heads,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
            bidirectional=not is_decoder,
            param_dtype=dtype,
        )

    def _stack(
        self, num_layers: int, dtype: DTypeLike, *, is_decoder: bool
    ) -> nn.TransformerStack:
        blocks = [_block(self, dtype, is_decoder) for _ in range(num_layers)]
        norm = nn.RMSNorm(self.width, epsilon=self.epsilon, param_dtype=dtype)
        return nn.TransformerStack(blocks, norm=norm, scan=self.scan)

    def init_context_cache(
        self, batch_size: int, length: int, dtype: DTypeLike | None = None
    ) -> None:
        """Give the decoder empty caches of the source: a call with one keeps it, for calls without."""
        self.decoder.init_context_cache(batch_size, length, dtype)

    def encode(self, source: Source, *, lengths: Lengths | None = None) -> Encoded:
        """What each token of a source means beside the others; `lengths` says how many count."""
        at = jnp.arange(source.shape[1])
        bias = self.encoder_bias(at, at)[None]
        return self.encoder(self.embedding(source), bias=bias, lengths=lengths)

    def decode(
        self,
        tokens: Tokens,
        encoded: Encoded | None = None,
        *,
        lengths: Lengths | None = None,
        source_lengths: Lengths | None = None,
    ) -> Logits:
        """The logits of what follows each token, beside what `encode` gave; that is left out once it is in caches."""
        cache, time = cache_of(self.decoder), tokens.shape[1]
        keys = jnp.arange(time if cache is None else cache.length)
        bias = self.decoder_bias(places(self.decoder, time), keys)
        x = self.decoder(
            self.embedding(tokens),
            encoded,
            bias=bias if bias.ndim == 4 else bias[None],
            lengths=lengths,
            context_lengths=source_lengths,
        )
        return self._logits(x * self.width**-0.5 if self.scales_outputs else x)

    def __call__(
        self,
        tokens: Tokens,
        *,
        lengths: Lengths | None = None,
        source: Source | None = None,
        source_lengths: Lengths | None = None,
    ) -> Logits:
        """The logits of what follows each token, beside a source; that is left out once it is in caches."""
        encode = self.encode
        encoded = None if source is None else encode(source, lengths=source_lengths)
        return self.decode(
            tokens, encoded, lengths=lengths, source_lengths=source_lengths
        )


def _block(model: T5, dtype: DTypeLike, is_decoder: bool) -> nn.Block:
    """A block of the encoder or the decoder."""

    def attention(is_causal: bool) -> nn.MultiHeadAttention:
        """That of a text, or of the source."""
        return nn.MultiHeadAttention(
            model.width,
            model.num_heads,
            head_size=model.head_size,
            is_causal=is_causal,
            scale=1.0,
            use_bias=False,
            param_dtype=dtype,
        )

    width, size, act = model.width, model.hidden_size, model.act
    mlp: nn.Layer
    if model.is_gated:
        mlp = nn.GatedMLP(width, size, act=act, param_dtype=dtype)
    else:
        mlp = nn.MLP(width, size, width, act=act, use_bias=False, param_dtype=dtype)
    return nn.TransformerBlock(
        model.width,
        norm="RMSNorm",
        epsilon=model.epsilon,
        attention=attention(is_causal=is_decoder),
        cross_attention=attention(is_causal=False) if is_decoder else None,
        mlp=mlp,
        param_dtype=dtype,
    )


_GATED: Final = "gated-"
# Whether perceptrons are gated, and by what, by the name in a config.json.
_PERCEPTRONS: Final[dict[str, tuple[bool, Activation]]] = {
    **{name: (False, act) for name, act in HUGGING_FACE.items()},
    **{f"{_GATED}{name}": (True, act) for name, act in HUGGING_FACE.items()},
    # Not the exact function, as everywhere else.
    "gated-gelu": (True, HUGGING_FACE["gelu_new"]),
}


# The way back, where it is another one.
_GATED_NAMES: Final = {"gelu_new": "gelu", "gelu": "gelu_python"}


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    settings.only("is_encoder_decoder", True)
    settings.only("is_decoder", False)
    width = settings.integer("d_model")
    num_layers = settings.integer("num_layers")
    is_gated, act = _perceptron_of(settings)
    is_tied = settings.flag("tie_word_embeddings", True)
    scales_outputs = settings.flag("scale_decoder_outputs", is_tied)
    return {
        "vocab_size": settings.integer("vocab_size"),
        "width": width,
        "num_layers": num_layers,
        "num_heads": settings.integer("num_heads"),
        "num_decoder_layers": settings.integer("num_decoder_layers", num_layers),
        "head_size": settings.integer("d_kv", 64),
        "hidden_size": settings.integer("d_ff", 4 * width),
        "act": act,
        "is_gated": is_gated,
        "num_buckets": settings.integer("relative_attention_num_buckets", 32),
        "max_distance": settings.integer("relative_attention_max_distance", 128),
        "epsilon": settings.number("layer_norm_epsilon", 1e-6),
        # Version 5 of the library of the layout writes true of each model, and only the
        # other key tells version 1.1 of T5, which has a head of its own.
        "is_tied": is_tied and scales_outputs,
        "scales_outputs": scales_outputs,
    }


def _perceptron_of(settings: Settings) -> tuple[bool, Activation]:
    """Whether perceptrons are gated, and their activation."""
    key = "feed_forward_proj"
    name = settings.value(key, "relu")
    if not isinstance(name, str) or name not in _PERCEPTRONS:
        what = f"expected one of {', '.join(HUGGING_FACE)}, or {_GATED} and one of these; found {short(name)}"
        settings.fault(key, what, did_you_mean(name, _PERCEPTRONS))
        name = "relu"
    # What the library makes of the name is in some files, too.
    is_gated, act = _PERCEPTRONS[name]
    settings.only("is_gated_act", is_gated)
    names = [other for other, function in HUGGING_FACE.items() if function is act]
    settings.only("dense_act_fn", *names)
    return is_gated, act


# Any: values of JSON.
def _to_config(model: T5) -> dict[str, Any]:
    act = activation_name(model.act, "relu")
    perceptron = act
    if model.is_gated:
        perceptron = f"{_GATED}{_GATED_NAMES.get(act, act)}"
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": model.vocab_size,
        "d_model": model.width,
        "num_layers": model.num_layers,
        "num_heads": model.num_heads,
        "num_decoder_layers": model.num_decoder_layers,
        "d_kv": model.head_size,
        "d_ff": model.hidden_size,
        "feed_forward_proj": perceptron,
        "is_gated_act": model.is_gated,
        "dense_act_fn": act,
        "relative_attention_num_buckets": model.num_buckets,
        "relative_attention_max_distance": model.max_distance,
        "layer_norm_epsilon": model.epsilon,
        "tie_word_embeddings": model.is_tied,
        "scale_decoder_outputs": model.scales_outputs,
        "is_encoder_decoder": True,
        "is_decoder": False,
    }


_ATTENTION: Final = {"q": "query", "k": "key", "v": "value", "o": "out"}
_GATED_MLP: Final = {"wi_0": "gate", "wi_1": "up", "wo": "down"}
_MLP: Final = {"wi": "layers.0", "wo": "layers.1"}


def _table(model: T5) -> Changes:
    """From the names of the files to the paths of the model."""
    mlp = ("DenseReluDense", "mlp", _GATED_MLP if model.is_gated else _MLP)
    attention = ("SelfAttention", "attention", _ATTENTION)
    cross_attention = ("EncDecAttention", "cross_attention", _ATTENTION)
    # In the order in which a block has them.
    parts = {
        "encoder": (attention, mlp),
        "decoder": (attention, cross_attention, mlp),
    }
    changes: list[Change] = [Rename("shared.weight", "embedding.weight")]
    for name, of_stack in parts.items():
        block = f"{name}.blocks.*"
        # The first block has what serves all.
        bias = "block.0.layer.0.SelfAttention.relative_attention_bias"
        changes.append(Rename(f"{name}.{bias}.weight", f"{name}_bias.weight"))
        for number, (part, field, maps) in enumerate(of_stack):
            layer = f"{name}.block.*.layer.{number}"
            changes += [
                Rename(f"{layer}.{part}.{old}.weight", f"{block}.{field}.{new}.weight")
                for old, new in maps.items()
            ]
            norm = f"{block}.{field}_norm.scale"
            changes.append(Rename(f"{layer}.layer_norm.weight", norm))
        changes += [
            Transpose(f"{block}.**.weight"),
            Rename(f"{name}.final_layer_norm.weight", f"{name}.norm.scale"),
        ]
        if model.scan:
            changes.append(Stack(f"{block}.**", f"{name}.blocks.**"))
    if not model.is_tied:
        changes += [Rename("lm_head.weight", "head.weight"), Transpose("head.weight")]
    return Changes(changes)


T_5: Final = Family(
    "t5",
    T5,
    _from_config,
    _to_config,
    _table,
    # Distances have no end: `n_positions` is what it was trained on.
    ignored=("dropout_rate", "initializer_factor", "n_positions"),
    # Copies of what is tied; and a bias that early files have, and that nothing uses.
    unused=(
        *("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
        *("lm_head.weight", "**.EncDecAttention.relative_attention_bias.weight"),
    ),
)
