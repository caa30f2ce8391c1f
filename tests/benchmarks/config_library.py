"""A configuration library, and the model that each reads from a file: an encoder in two places, and a list of layers.

A file is written as the library's documentation says to write it, with its own way to share the encoder. The peers
build dataclasses, graphnode builds nodes of the same fields, without States: making arrays would cost the same in all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from .library import GRAPHNODE, installed

HYDRA: Final = "hydra-core"
JSONARGPARSE: Final = "jsonargparse"
FIDDLE: Final = "fiddle"
PYYAML: Final = "PyYAML's C loader"

_MODULES: Final = {
    GRAPHNODE: ".models.on_gn_config",
    HYDRA: ".models.on_hydra",
    JSONARGPARSE: ".models.on_jsonargparse",
    FIDDLE: ".models.on_fiddle",
}
CONFIG_NAMES: Final = tuple(_MODULES)

Row: TypeAlias = Mapping[str, Any]
"""The fields of one layer by name."""


@dataclass(frozen=True)
class Content:
    """What a file says: the layers of the shared encoder, and those of the model itself."""

    encoder: Sequence[Row]
    layers: Sequence[Row]

    @property
    def nodes(self) -> int:
        """How many objects the model has: the layers, the encoder and the model."""
        return len(self.encoder) + len(self.layers) + 2


def content_of(nodes: int) -> Content:
    """A content of so many nodes, half of them in the encoder."""
    rows = [{"n_in": at + 1, "n_out": at + 2, "act": "tanh", "rate": at % 8 / 8} for at in range(nodes - 2)]
    return Content(rows[: len(rows) // 2], rows[len(rows) // 2 :])


def content_in(model: Any) -> Content:
    """What a model was built from."""
    return Content(_rows(model.encoder.layers), _rows(model.layers))


def _rows(layers: Sequence[Any]) -> list[Row]:
    return [{"n_in": one.n_in, "n_out": one.n_out, "act": one.act, "rate": one.rate} for one in layers]


@dataclass(frozen=True, kw_only=True)
class ConfigLibrary:
    """How one library reads a file and builds a model."""

    name: str
    distributions: tuple[str, ...]
    """What pip installs."""
    suffix: str
    """Of a file's name."""
    key: str
    """How a file names the field `n_out`."""

    text: Callable[[Content], str]
    """The file that says this; in it the encoder stands once, and is referred to."""
    load: Callable[[Path], Any]
    """Read a file, and validate it where the library does so before it builds."""
    build: Callable[[Any], Any]
    """The model of what was loaded."""
    cycle: Callable[[Path], Any]
    """Build a `Ring` whose `next` is the ring itself; files go into this folder."""


def load_config_libraries() -> tuple[ConfigLibrary, ...]:
    """Import the libraries; a peer that is not installed is left out."""
    return tuple(module.LIBRARY for _, module in installed(_MODULES))
