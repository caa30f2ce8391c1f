"""BERT: an encoder with norms behind each part."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from .. import nn
from .._errors import ContractError
from .._fields import state, static, subnode
from .._registered import HUGGING_FACE
from .._state import ParamState
from ..checkpoint import Change, Changes, Rename, Stack, Transpose
from ._family import Family
from ._places import check_room
from ._settings import Settings, activation_name

Tokens: TypeAlias = Integer[Array, "batch time"]
Lengths: TypeAlias = Integer[Array, "batch"]
Encoded: TypeAlias = Float[Array, "batch time width"]


class MaskedHead(nn.Module):
    """What `Bert` makes logits of tokens with, beside its embedding.

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        act: Behind the linear map.
        epsilon: Of the norm.
        param_dtype: Dtype of the parameters.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.Bert(5, 8, 2, 4))
        >>> model.head.bias.value.shape
        (5,)
    """

    vocab_size: int
    width: int
    _: KW_ONLY
    act: Callable[[jax.Array], jax.Array] = static()
    epsilon: float
    param_dtype: InitVar[DTypeLike] = jnp.float32
    linear: nn.Linear = subnode(init=False)
    norm: nn.LayerNorm = subnode(init=False)
    bias: ParamState[Float[Array, "vocab=vocab_size"]] = state(init=False)

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        width, dtype = self.width, param_dtype
        self.linear = nn.Linear(width, width, param_dtype=dtype)
        self.norm = nn.LayerNorm(width, epsilon=self.epsilon, param_dtype=dtype)
        self.bias = ParamState(jnp.zeros(self.vocab_size, dtype))

    def __call__(self, x: Encoded, embedding: nn.Embedding) -> jax.Array:
        """The logits of the tokens."""
        x = self.norm(self.act(self.linear(x)))
        return embedding.attend(x) + self.bias.value[None, None, :]


class Bert(nn.Module):
    """BERT (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding").

    Args:
        vocab_size: Number of tokens.
        width: Features of each element.
        num_layers: Number of blocks.
        num_heads: Number of heads of the attention.
        num_positions: Tokens of the longest text.
        num_types: Kinds of tokens: those of a first sentence, and of a second.
        hidden_size: Features in the middle of the perceptrons; by default `4 * width`.
        act: Of the perceptrons, and of the head.
        epsilon: Of the norms.
        has_head: Whether a call gives logits of tokens, and not what is encoded.
        has_pooler: Whether there is a summary of each text.
        scan: Whether the blocks are stacked, and run by `gn.scan`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: More tokens than there are positions; a summary without a pooler.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.Bert(5, 8, 2, 4, num_positions=16))
        >>> gn.eval_shape(model, jnp.array([[1, 2, 3]])).shape
        (1, 3, 5)
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_positions: int = 512
    num_types: int = 2
    hidden_size: int = static(factory=lambda self: 4 * self.width)
    act: Callable[[jax.Array], jax.Array] = static(default=HUGGING_FACE["gelu"])
    epsilon: float = 1e-12
    has_head: bool = True
    has_pooler: bool = False
    scan: bool = False
    param_dtype: InitVar[DTypeLike] = jnp.float32
    embedding: nn.Embedding = subnode(init=False)
    positions: nn.Embedding = subnode(init=False)
    types: nn.Embedding = subnode(init=False)
    norm: nn.LayerNorm = subnode(init=False)
    encoder: nn.TransformerStack = subnode(init=False)
    head: MaskedHead | None = subnode(default=None, init=False)
    pooler: nn.Linear | None = subnode(default=None, init=False)

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        width, dtype = self.width, param_dtype
        self.embedding = nn.Embedding(self.vocab_size, width, param_dtype=dtype)
        self.positions = nn.Embedding(self.num_positions, width, param_dtype=dtype)
        self.types = nn.Embedding(self.num_types, width, param_dtype=dtype)
        self.norm = nn.LayerNorm(width, epsilon=self.epsilon, param_dtype=dtype)
        blocks = [self._block(dtype) for _ in range(self.num_layers)]
        self.encoder = nn.TransformerStack(blocks, scan=self.scan)
        if self.has_head:
            self.head = MaskedHead(
                self.vocab_size,
                width,
                act=self.act,
                epsilon=self.epsilon,
                param_dtype=dtype,
            )
        if self.has_pooler:
            self.pooler = nn.Linear(width, width, param_dtype=dtype)

    def _block(self, dtype: DTypeLike) -> nn.Block:
        return nn.TransformerBlock(
            self.width,
            self.num_heads,
            hidden_size=self.hidden_size,
            act=self.act,
            epsilon=self.epsilon,
            norm_position="after",
            param_dtype=dtype,
        )

    def encode(
        self,
        tokens: Tokens,
        *,
        types: Tokens | None = None,
        lengths: Lengths | None = None,
    ) -> Encoded:
        """What each token means beside the others; `types` are 0 by default, and `lengths` says how many count."""
        time = tokens.shape[1]
        check_room(self.positions, "tokens", time)
        positions = jnp.broadcast_to(jnp.arange(time), tokens.shape)
        if types is None:
            types = jnp.zeros_like(tokens)
        x = self.embedding(tokens) + self.types(types) + self.positions(positions)
        return self.encoder(self.norm(x), lengths=lengths)

    def pooled(self, encoded: Encoded) -> Float[Array, "batch width"]:
        """A summary of each text, by what `encode` gives."""
        if self.pooler is None:
            raise ContractError("Bert.pooled: expected has_pooler=True; found False")
        return jnp.tanh(self.pooler(encoded[:, 0]))

    def __call__(
        self,
        tokens: Tokens,
        *,
        types: Tokens | None = None,
        lengths: Lengths | None = None,
    ) -> Float[Array, "batch time out"]:
        """The logits of the token at each place, or without a head, what `encode` gives."""
        x = self.encode(tokens, types=types, lengths=lengths)
        return x if self.head is None else self.head(x, self.embedding)


_HEADED, _BARE = "BertForMaskedLM", "BertModel"


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    settings.only("position_embedding_type", "absolute")
    for key in ("is_decoder", "add_cross_attention"):
        settings.only(key, False)
    # Logits are made with the embedding.
    settings.only("tie_word_embeddings", True)
    width = settings.integer("hidden_size")
    has_head = settings.architecture(_HEADED, _BARE) == _HEADED
    return {
        "vocab_size": settings.integer("vocab_size"),
        "width": width,
        "num_layers": settings.integer("num_hidden_layers"),
        "num_heads": settings.integer("num_attention_heads"),
        "num_positions": settings.integer("max_position_embeddings", 512),
        "num_types": settings.integer("type_vocab_size", 2),
        "hidden_size": settings.integer("intermediate_size", 4 * width),
        "act": settings.activation("hidden_act", "gelu"),
        "epsilon": settings.number("layer_norm_eps", 1e-12),
        "has_head": has_head,
        "has_pooler": not has_head,
    }


# Any: values of JSON.
def _to_config(model: Bert) -> dict[str, Any]:
    return {
        "architectures": [_HEADED if model.has_head else _BARE],
        "vocab_size": model.vocab_size,
        "hidden_size": model.width,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "max_position_embeddings": model.num_positions,
        "type_vocab_size": model.num_types,
        "intermediate_size": model.hidden_size,
        "hidden_act": activation_name(model.act, "gelu"),
        "layer_norm_eps": model.epsilon,
        "tie_word_embeddings": True,
        "is_decoder": False,
        "add_cross_attention": False,
    }


def _table(model: Bert) -> Changes:
    """From the names of the files to the paths of the model."""
    layer, block = "bert.encoder.layer.*", "encoder.blocks.*"
    changes: list[Change] = [
        Rename("bert.embeddings.word_embeddings.*", "embedding.*"),
        Rename("bert.embeddings.position_embeddings.*", "positions.*"),
        Rename("bert.embeddings.token_type_embeddings.*", "types.*"),
        Rename("bert.embeddings.LayerNorm.*", "norm.*"),
        Rename(f"{layer}.attention.self.*.*", f"{block}.attention.*.*"),
        # Behind the other three, which the star would take on the way back.
        Rename(f"{layer}.attention.output.dense.*", f"{block}.attention.out.*"),
        Rename(f"{layer}.attention.output.LayerNorm.*", f"{block}.attention_norm.*"),
        Rename(f"{layer}.intermediate.dense.*", f"{block}.mlp.layers.0.*"),
        Rename(f"{layer}.output.dense.*", f"{block}.mlp.layers.1.*"),
        Rename(f"{layer}.output.LayerNorm.*", f"{block}.mlp_norm.*"),
        Rename(f"{block}.*_norm.weight", f"{block}.*_norm.scale"),
        Rename("norm.weight", "norm.scale"),
        Transpose(f"{block}.**.weight"),
    ]
    if model.has_head:
        head = "cls.predictions"
        changes += [
            Rename(f"{head}.transform.dense.*", "head.linear.*"),
            Rename(f"{head}.transform.LayerNorm.weight", "head.norm.scale"),
            Rename(f"{head}.transform.LayerNorm.bias", "head.norm.bias"),
            Rename(f"{head}.bias", "head.bias"),
            Transpose("head.linear.weight"),
        ]
    if model.has_pooler:
        changes += [
            Rename("bert.pooler.dense.*", "pooler.*"),
            Transpose("pooler.weight"),
        ]
    if model.scan:
        changes.append(Stack(f"{block}.**", "encoder.blocks.**"))
    return Changes(changes)


BERT: Final = Family(
    "bert",
    Bert,
    _from_config,
    _to_config,
    _table,
    # Of a pooler that no weights are published for.
    ignored=(
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads"),
        *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
    ),
    # The file of one head often has the others, and copies of what is tied.
    unused=(
        *(
            "**.embeddings.position_ids",
            "**.embeddings.token_type_ids",
            "bert.pooler.**",
        ),
        *("cls.seq_relationship.**", "cls.predictions.**"),
    ),
    prefix="bert.",
    is_bare=lambda model: not model.has_head,
    # Those of TensorFlow.
    former=(("**.gamma", "**.weight"), ("**.beta", "**.bias")),
)
