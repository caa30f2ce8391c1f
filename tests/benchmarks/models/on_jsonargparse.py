"""The model in jsonargparse: a parser with the class, and a file with an anchor for the encoder."""

import importlib
from pathlib import Path
from typing import Any

from ..config_library import JSONARGPARSE, ConfigLibrary, Content
from .on_gn_config import layer_lines
from .plain import Model, Ring

jsonargparse: Any = importlib.import_module("jsonargparse")


def parser_of(cls: type) -> Any:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "model")
    return parser


_PARSER = parser_of(Model)


def text(content: Content) -> str:
    lines = [
        "model:",
        "  encoder: &encoder",
        "    layers:",
        *layer_lines(content.encoder, "      "),
        "  decoder: *encoder",
        "  layers:",
        *layer_lines(content.layers, "    "),
    ]
    return "\n".join(lines) + "\n"


def cycle(folder: Path) -> Any:
    file = folder / "ring.yaml"
    file.write_text("model: &ring\n  size: 1\n  next: *ring\n", encoding="utf-8")
    parser = parser_of(Ring)
    return parser.instantiate(parser.parse_path(file)).model


LIBRARY = ConfigLibrary(
    name=JSONARGPARSE,
    distributions=("jsonargparse",),
    suffix=".yaml",
    key="n_out:",
    text=text,
    load=_PARSER.parse_path,
    build=lambda config: _PARSER.instantiate(config).model,
    cycle=cycle,
)
