"""The model in hydra: `_target_` names classes, and an interpolation refers to the encoder and to the ring.

`_convert_="object"` is what its documentation gives for lists of objects: without it a list stays one of OmegaConf's,
which turns the layers in it back into configs.
"""

import importlib
from pathlib import Path
from typing import Any

from ..config_library import HYDRA, ConfigLibrary, Content
from .on_gn_config import layer_lines

instantiate: Any = importlib.import_module("hydra.utils").instantiate
OmegaConf: Any = importlib.import_module("omegaconf").OmegaConf

_CLASSES = f"{__package__}.plain"


def text(content: Content) -> str:
    layer = f"{_CLASSES}.Layer"
    lines = [
        f"_target_: {_CLASSES}.Model",
        "encoder:",
        f"  _target_: {_CLASSES}.Encoder",
        "  layers:",
        *layer_lines(content.encoder, "    ", _target_=layer),
        "decoder: ${encoder}",
        "layers:",
        *layer_lines(content.layers, "  ", _target_=layer),
    ]
    return "\n".join(lines) + "\n"


def build(config: Any) -> Any:
    return instantiate(config, _convert_="object")


def cycle(folder: Path) -> Any:
    file = folder / "ring.yaml"
    file.write_text(f"ring:\n  _target_: {_CLASSES}.Ring\n  size: 1\n  next: ${{ring}}\n", encoding="utf-8")
    return build(OmegaConf.load(file)).ring


LIBRARY = ConfigLibrary(
    name=HYDRA,
    distributions=("hydra-core", "omegaconf"),
    suffix=".yaml",
    key="n_out:",
    text=text,
    load=OmegaConf.load,
    build=build,
    cycle=cycle,
)
