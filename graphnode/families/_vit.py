"""The vision transformer: an encoder of the patches of an image."""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .. import nn
from .._errors import ContractError
from .._fields import state, static, subnode
from .._hints import short
from .._registered import HUGGING_FACE
from .._state import ParamState
from ..checkpoint import Change, Changes, Rename, Reshape, Stack, Transpose
from ..nn import initializers
from ..nn._dtypes import parameter
from ._family import Family
from ._settings import Settings, activation_name

Images: TypeAlias = Float[Array, "batch rows columns num_channels"]
Encoded: TypeAlias = Float[Array, "batch num_tokens width"]
Pair: TypeAlias = tuple[int, int]


class ViT(nn.Module):
    """ViT (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale").

    Args:
        image_size: Rows and columns of an image.
        patch_size: Those of a patch.
        width: Features of each element.
        num_layers: Number of blocks.
        num_heads: Number of heads of the attention.
        num_channels: Channels of an image.
        hidden_size: Features in the middle of the perceptrons; by default `4 * width`.
        act: Of the perceptrons.
        epsilon: Of the norms.
        has_query_bias: Whether queries, keys and values have biases.
        labels: What there may be in an image; a call gives logits of these. Without
            any, it gives the vector of the image.
        pooled_size: Features of the summary of an image; by default there is none.
        pooled_act: Behind its linear map.
        scan: Whether the blocks are stacked, and run by `gn.scan`.
        param_dtype: Dtype of the parameters.

    Raises:
        ContractError: Images of another size; a summary without a pooler.

    Example:
        >>> model = gn.eval_shape(lambda: gn.families.ViT((8, 8), (4, 4), 8, 2, 4, labels=("cat", "dog")))
        >>> gn.eval_shape(model, jnp.zeros((1, 8, 8, 3))).shape
        (1, 2)
    """

    image_size: Pair
    patch_size: Pair
    width: int
    num_layers: int
    num_heads: int
    _: KW_ONLY
    num_channels: int = 3
    hidden_size: int = static(factory=lambda self: 4 * self.width)
    act: Callable[[jax.Array], jax.Array] = static(default=HUGGING_FACE["gelu"])
    epsilon: float = 1e-12
    has_query_bias: bool = True
    labels: tuple[str, ...] = ()
    pooled_size: int | None = None
    pooled_act: Callable[[jax.Array], jax.Array] = static(default=HUGGING_FACE["tanh"])
    scan: bool = False
    num_tokens: int = static(init=False)
    param_dtype: InitVar[DTypeLike] = jnp.float32
    embedding: nn.Conv = subnode(init=False)
    token: ParamState[Float[Array, "embed=width"]] = state(init=False)
    positions: ParamState[Float[Array, "time=num_tokens embed=width"]] = state(
        init=False
    )
    encoder: nn.TransformerStack = subnode(init=False)
    head: nn.Linear | None = subnode(default=None, init=False)
    pooler: nn.Linear | None = subnode(default=None, init=False)

    def __post_init__(self, param_dtype: DTypeLike) -> None:
        width, dtype = self.width, param_dtype
        rows, columns = map(int.__floordiv__, self.image_size, self.patch_size)
        self.num_tokens = 1 + rows * columns
        self.embedding = nn.Conv(
            self.num_channels,
            width,
            self.patch_size,
            strides=self.patch_size,
            padding="VALID",
            param_dtype=dtype,
        )
        self.token = parameter(initializers.zeros, (width,), dtype)
        sizes = (self.num_tokens, width)
        self.positions = parameter(initializers.normal, sizes, dtype)
        blocks = [self._block(dtype) for _ in range(self.num_layers)]
        norm = nn.LayerNorm(width, epsilon=self.epsilon, param_dtype=dtype)
        self.encoder = nn.TransformerStack(blocks, norm=norm, scan=self.scan)
        if self.labels:
            self.head = nn.Linear(width, len(self.labels), param_dtype=dtype)
        if self.pooled_size is not None:
            self.pooler = nn.Linear(width, self.pooled_size, param_dtype=dtype)

    def _block(self, dtype: DTypeLike) -> nn.Block:
        attention = nn.MultiHeadAttention(
            self.width,
            self.num_heads,
            use_bias=True if self.has_query_bias else ("out",),
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

    def encode(self, images: Images) -> Encoded:
        """What an image shows, and what each of its patches does beside the others."""
        if images.shape[1:3] != self.image_size:
            raise ContractError(
                f"ViT: images: expected {self.image_size} rows and columns; found {images.shape[1:3]}"
            )
        images = images.astype(self.token.value.dtype)
        patches = self.embedding(images).reshape(len(images), -1, self.width)
        token = jnp.broadcast_to(self.token.value, (len(images), 1, self.width))
        x = jnp.concatenate([token, patches], axis=1) + self.positions.value[None]
        return self.encoder(x)

    def pooled(self, encoded: Encoded) -> Float[Array, "batch pooled_size"]:
        """A summary of each image, by what `encode` gives."""
        if self.pooler is None:
            raise ContractError("ViT.pooled: expected a pooled_size; found None")
        return self.pooled_act(self.pooler(encoded[:, 0]))

    def __call__(self, images: Images) -> Float[Array, "batch out"]:
        """The logits of the labels, or without any, the vector of each image."""
        x = self.encode(images)[:, 0]
        return x if self.head is None else self.head(x)


_HEADED, _BARE = "ViTForImageClassification", "ViTModel"


# Any: arguments of the class.
def _from_config(settings: Settings) -> dict[str, Any]:
    is_bare = settings.architecture(_HEADED, _BARE) == _BARE
    width = settings.integer("hidden_size")
    pooled_size = settings.integer("pooler_output_size", width)
    pooled_act = settings.activation("pooler_act", "tanh")
    return {
        "image_size": _pair(settings, "image_size", 224),
        "patch_size": _pair(settings, "patch_size", 16),
        "width": width,
        "num_layers": settings.integer("num_hidden_layers"),
        "num_heads": settings.integer("num_attention_heads"),
        "num_channels": settings.integer("num_channels", 3),
        "hidden_size": settings.integer("intermediate_size", 4 * width),
        "act": settings.activation("hidden_act", "gelu"),
        "epsilon": settings.number("layer_norm_eps", 1e-12),
        "has_query_bias": settings.flag("qkv_bias", True),
        "labels": () if is_bare else _labels(settings),
        "pooled_size": pooled_size if is_bare else None,
        "pooled_act": pooled_act,
    }


def _pair(settings: Settings, key: str, default: int) -> Pair:
    """Rows and columns: a number for both, or a list of two."""
    value = settings.value(key)
    if not isinstance(value, list):
        size = settings.integer(key, default)
        return size, size
    if len(value) == 2 and all(type(size) is int and size > 0 for size in value):
        return value[0], value[1]
    settings.fault(key, f"expected a positive integer or two; found {short(value)}")
    return default, default


def _labels(settings: Settings) -> tuple[str, ...]:
    """The labels, by their numbers; without any there are two, as in the library of the layout."""
    value = settings.value("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    numbers = list(map(str, range(len(value)))) if isinstance(value, dict) else []
    if numbers and set(numbers) == set(value):
        return tuple(str(value[number]) for number in numbers)
    what = f"expected an object with the keys 0, 1 and so on; found {short(value)}"
    settings.fault("id2label", what)
    return ("LABEL_0",)


# Any: values of JSON.
def _to_config(model: ViT) -> dict[str, Any]:
    sizes = {
        key: size[0] if size[0] == size[1] else list(size)
        for key, size in (
            ("image_size", model.image_size),
            ("patch_size", model.patch_size),
        )
    }
    settings: dict[str, Any] = {
        "architectures": [_HEADED if model.labels else _BARE],
        **sizes,
        "hidden_size": model.width,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_channels": model.num_channels,
        "intermediate_size": model.hidden_size,
        "hidden_act": activation_name(model.act, "gelu"),
        "layer_norm_eps": model.epsilon,
        "qkv_bias": model.has_query_bias,
        "pooler_output_size": model.pooled_size or model.width,
        "pooler_act": activation_name(model.pooled_act, "tanh"),
    }
    if model.labels:
        settings["id2label"] = {
            str(number): label for number, label in enumerate(model.labels)
        }
        settings["label2id"] = {
            label: number for number, label in enumerate(model.labels)
        }
    return settings


def _table(model: ViT) -> Changes:
    """From the names of the files to the paths of the model."""
    layer, block = "vit.encoder.layer.*", "encoder.blocks.*"
    width = model.width
    changes: list[Change] = [
        Rename("vit.embeddings.cls_token", "token"),
        Reshape("token", [width], before=[1, 1, width]),
        Rename("vit.embeddings.position_embeddings", "positions"),
        Reshape("positions", [-1, width], before=[1, -1, width]),
        Rename("vit.embeddings.patch_embeddings.projection.*", "embedding.*"),
        Transpose("embedding.weight", [2, 3, 1, 0]),
        Rename(f"{layer}.attention.attention.*.*", f"{block}.attention.*.*"),
        # Behind the other three, which the star would take on the way back.
        Rename(f"{layer}.attention.output.dense.*", f"{block}.attention.out.*"),
        Rename(f"{layer}.layernorm_before.*", f"{block}.attention_norm.*"),
        Rename(f"{layer}.layernorm_after.*", f"{block}.mlp_norm.*"),
        Rename(f"{layer}.intermediate.dense.*", f"{block}.mlp.layers.0.*"),
        Rename(f"{layer}.output.dense.*", f"{block}.mlp.layers.1.*"),
        Rename(f"{block}.*_norm.weight", f"{block}.*_norm.scale"),
        Transpose(f"{block}.**.weight"),
        Rename("vit.layernorm.weight", "encoder.norm.scale"),
        Rename("vit.layernorm.bias", "encoder.norm.bias"),
    ]
    if model.labels:
        changes += [Rename("classifier.*", "head.*"), Transpose("head.weight")]
    if model.pooled_size is not None:
        changes += [
            Rename("vit.pooler.dense.*", "pooler.*"),
            Transpose("pooler.weight"),
        ]
    if model.scan:
        changes.append(Stack(f"{block}.**", "encoder.blocks.**"))
    return Changes(changes)


VIT: Final = Family(
    "vit",
    ViT,
    _from_config,
    _to_config,
    _table,
    # Of a decoder for masked images.
    ignored=("encoder_stride",),
    prefix="vit.",
    is_bare=lambda model: not model.labels,
)
