"""The model in fiddle: a config that a program makes, kept in a file as JSON by its own serialization."""

import importlib
from pathlib import Path
from typing import Any

from ..config_library import FIDDLE, ConfigLibrary, Content
from .plain import Encoder, Layer, Model, Ring

fiddle: Any = importlib.import_module("fiddle")
serialization: Any = importlib.import_module("fiddle.experimental.serialization")


def text(content: Content) -> str:
    encoder, layers = [[fiddle.Config(Layer, **row) for row in rows] for rows in (content.encoder, content.layers)]
    shared = fiddle.Config(Encoder, layers=encoder)
    config = fiddle.Config(Model, encoder=shared, decoder=shared, layers=layers)
    return str(serialization.dump_json(config, indent=1))


def cycle(folder: Path) -> Any:
    ring = fiddle.Config(Ring, size=1)
    ring.next = ring
    return fiddle.build(ring)


LIBRARY = ConfigLibrary(
    name=FIDDLE,
    distributions=("fiddle",),
    suffix=".json",
    key='"n_out"',
    text=text,
    load=lambda path: serialization.load_json(path.read_text(encoding="utf-8")),
    build=fiddle.build,
    cycle=cycle,
)
