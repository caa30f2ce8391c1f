"""What the settings and weights of LLaMA, Qwen and Gemma have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .._errors import ContractError
from .._hints import short
from ..checkpoint import Change, Changes, Rename, Stack, Transpose
from ..nn import TransformerStack
from ._settings import Settings

# By the names of arguments here.
_SIZES: Final = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "hidden_size": "intermediate_size",
}
_MAPS: Final = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.out",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}

UNUSED: Final = ("lm_head.weight", "model.layers.*.self_attn.rotary_emb.inv_freq")
"""What files may have beyond the model: a copy of what is tied, and constants."""


# Any: arguments of the class.
def sizes_of(settings: Settings, head_size: int | None = None) -> dict[str, Any]:
    """The sizes of a decoder, and whether its head is tied, as arguments of its class.

    Args:
        settings: Those of the model.
        head_size: Of the family, where a file does not say; by default the width over
            the number of heads.
    """
    width = settings.integer("hidden_size")
    num_heads = settings.integer("num_attention_heads")
    defaults = {
        "num_key_value_heads": num_heads,
        "head_dim": width // num_heads if head_size is None else head_size,
    }
    return {
        name: settings.integer(key, defaults[key])
        if key in defaults
        else settings.integer(key)
        for name, key in _SIZES.items()
    }


# Any: a model of one of the families, and values of JSON.
def size_settings(model: Any) -> dict[str, Any]:
    """The sizes as settings: the inverse of `sizes_of`."""
    return {key: getattr(model, name) for name, key in _SIZES.items()}


def decoder_table(
    decoder: TransformerStack, norms: Mapping[str, str], *, is_tied: bool
) -> Changes:
    """From the names of the files to the paths of a model with an `embedding`, a `decoder` and a `head`.

    Args:
        decoder: The decoder of the model.
        norms: The paths of norms in a block, by their names in the files.
        is_tied: Whether there is no head but the embedding.
    """
    layer, block = "model.layers.*", "decoder.blocks.*"
    changes: list[Change] = [
        Rename("model.embed_tokens.weight", "embedding.weight"),
        Rename("model.norm.weight", "decoder.norm.scale"),
    ]
    for name, path in _MAPS.items():
        changes += [
            Rename(f"{layer}.{name}.*", f"{block}.{path}.*"),
            # PyTorch has the features of the result first.
            Transpose(f"{block}.{path}.weight"),
        ]
    for name, path in norms.items():
        changes.append(Rename(f"{layer}.{name}.weight", f"{block}.{path}.scale"))
    if not is_tied:
        changes += [
            Rename("lm_head.weight", "head.weight"),
            Transpose("head.weight"),
        ]
    if decoder.is_scanned:
        changes.append(Stack(f"{block}.**", "decoder.blocks.**"))
    return Changes(changes)


_LAYER_TYPES: Final = {"full_attention": False, "sliding_attention": True}


def windowed_of(settings: Settings, defaults: Sequence[bool]) -> tuple[bool, ...]:
    """Which layers have the window, by `layer_types`.

    Args:
        settings: Those of the model.
        defaults: For each layer, where the file does not say.
    """
    types = settings.value("layer_types")
    if types is None:
        return tuple(defaults)
    is_list = isinstance(types, list) and len(types) == len(defaults)
    if not is_list or not all(str(item) in _LAYER_TYPES for item in types):
        found = ", ".join(map(str, types)) if isinstance(types, list) else short(types)
        settings.fault(
            "layer_types",
            f"expected {' or '.join(_LAYER_TYPES)} for each of {len(defaults)} layers; found {found}",
        )
        return tuple(defaults)
    return tuple(_LAYER_TYPES[item] for item in types)


def layer_types(windowed: Sequence[bool]) -> list[str]:
    """The inverse of `windowed_of`."""
    full, sliding = _LAYER_TYPES
    return [sliding if has_window else full for has_window in windowed]


def check_one_per_layer(cls: str, windowed: Sequence[bool], num_layers: int) -> None:
    """Raise unless a model says of each of its layers whether it has the window.

    Raises:
        ContractError: It does not.
    """
    if len(windowed) != num_layers:
        raise ContractError(
            f"{cls}.windowed: expected true or false for each of {num_layers} layers; found {len(windowed)}"
        )


def integral(number: float) -> int | float:
    """A number as an integer, if it is one: `transformers` refuses `256.0` for 256."""
    return int(number) if number == int(number) else number
