"""Nodes with the fields of the classes in `plain`, from YAML: `id:` and `ref:` share the encoder and close the ring."""

from collections.abc import Sequence
from pathlib import Path

import graphnode as gn
from graphnode import config as gn_config

from ..config_library import ConfigLibrary, Content, Row
from ..library import GRAPHNODE


class Layer(gn.Node):
    """A layer."""

    n_in: int
    n_out: int
    act: str = "relu"
    rate: float = 0.1


class Encoder(gn.Node):
    """Some layers."""

    layers: list[Layer]


class Model(gn.Node):
    """An encoder in two places, and some layers."""

    encoder: Encoder
    decoder: Encoder
    layers: list[Layer]


class Ring(gn.Node):
    """A node that may refer to itself."""

    size: int
    next: "Ring | None" = None


def text(content: Content) -> str:
    lines = [
        "encoder:",
        "  id: encoder",
        "  layers:",
        *layer_lines(content.encoder, "    "),
        "decoder: {ref: encoder}",
        "layers:",
        *layer_lines(content.layers, "  "),
    ]
    return "\n".join(lines) + "\n"


def layer_lines(rows: Sequence[Row], indent: str, **more: str) -> list[str]:
    """The items of a list of layers in YAML, in block style; `more` is said of each."""
    lines: list[str] = []
    for row in rows:
        items = [f"{key}: {value}" for key, value in {**more, **row}.items()]
        lines += [f"{indent}- {items[0]}", *[f"{indent}  {item}" for item in items[1:]]]
    return lines


def cycle(folder: Path) -> Ring:
    file = folder / "ring.yaml"
    file.write_text("{id: ring, size: 1, next: {ref: ring}}\n", encoding="utf-8")
    return gn_config.build(gn_config.load(file, Ring))


LIBRARY = ConfigLibrary(
    name=GRAPHNODE,
    distributions=("graphnode", "pydantic", "PyYAML"),
    suffix=".yaml",
    key="n_out:",
    text=text,
    load=lambda path: gn_config.load(path, Model),
    build=gn_config.build,
    cycle=cycle,
)
