"""The families that there are: those of graphnode, and those that are registered."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from ..nn import Module
from ._bert import BERT
from ._family import Family
from ._gemma2 import GEMMA2
from ._gemma3 import GEMMA3
from ._gpt2 import GPT_2
from ._llama import LLAMA
from ._qwen3 import QWEN3
from ._t5 import T_5
from ._vit import VIT
from ._whisper import WHISPER

M = TypeVar("M", bound=Module)

_OWN: Final = (BERT, GEMMA2, GEMMA3, GPT_2, LLAMA, QWEN3, T_5, VIT, WHISPER)

# Any: families of all classes.
_FAMILIES: Final[dict[str, Family[Any]]] = {
    family.model_type: family for family in _OWN
}


def register(family: Family[M]) -> None:
    """Let `load` and `save` know a family, in place of one with the same `model_type`.

    Args:
        family: The family.

    Example:
        See `Family`.
    """
    _FAMILIES[family.model_type] = family


def known_families() -> Mapping[str, Family[Any]]:
    """All families, by `model_type`."""
    return _FAMILIES
