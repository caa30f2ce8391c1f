"""The nodes, trees and helpers of the tests of checkpoints."""

import contextlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.checkpoint._files import metadata_of

MANIFEST = "_CHECKPOINT_METADATA"


class Net(gn.Node):
    """Two layers and a rate."""

    enc: gn.nn.Linear
    dec: gn.nn.Linear
    rate: float = 0.1

    def __post_init__(self) -> None:
        Net.constructed += 1

    constructed = 0


def net(width: int = 3, **fields: Any) -> Net:
    return Net(gn.nn.Linear(2, width), gn.nn.Linear(2, width), **fields)


def tied() -> Net:
    layer = gn.nn.Linear(2, 3)
    return Net(layer, layer)


class Counter:
    """A data iterator."""

    def __init__(self, at: int = 0) -> None:
        self.at = at

    def get_state(self) -> Any:
        return {"at": self.at, "seen": (b"\x00\xff", "é", None, [1.5, True])}

    def set_state(self, state: Any) -> None:
        assert state["seen"] == (b"\x00\xff", "é", None, [1.5, True])
        self.at = state["at"]


class Stubborn(Counter):
    """A data iterator that goes nowhere."""

    def set_state(self, state: Any) -> None:
        if state["at"] != self.at:
            raise RuntimeError("no way back")


def bits(leaf: Any) -> Any:
    """What a leaf is, to the bit."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return type(leaf), str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes(), getattr(leaf, "weak_type", None)
    return type(leaf), np.array(leaf).tobytes() if isinstance(leaf, (float, complex)) else leaf


def same(first: Any, second: Any) -> bool:
    """Whether two pytrees are equal to the bit."""
    leaves, structure = jax.tree.flatten(first)
    other_leaves, other_structure = jax.tree.flatten(second)
    return str(structure) == str(other_structure) and list(map(bits, leaves)) == list(map(bits, other_leaves))


def values(tree: Any) -> list[Any]:
    """The values of all States of a node."""
    return [state.value for state in gn.states(tree).values()]


def read(path: Path) -> Any:
    """The manifest of a checkpoint, as data."""
    return json.loads((path / MANIFEST).read_text(encoding="utf-8"))["custom_metadata"]["graphnode"]


def write(path: Path, manifest: Any) -> None:
    """Put another manifest in the place of that of a checkpoint, with the checksum that goes with it."""
    data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    data["custom_metadata"] = metadata_of(manifest)
    (path / MANIFEST).write_text(json.dumps(data), encoding="utf-8")


@contextlib.contextmanager
def refused(*lines: str) -> Generator[None]:
    """What is raised is a `CheckpointError` with this text; `PATH` stands for folders, `...` at an end for the rest."""
    with pytest.raises(gn.CheckpointError) as caught:
        yield
    text = str(caught.value)
    for fault in caught.value.faults:
        assert "\n" not in fault
    found = [_without_folders(line) for line in text.split("\n")]
    expected = "\n".join(lines)
    if expected.endswith("..."):
        assert "\n".join(found)[: len(expected) - 3] == expected[:-3]
    else:
        assert "\n".join(found) == expected


def _without_folders(line: str) -> str:
    """A line with `PATH` in place of the folder of each absolute path."""
    words: list[str] = []
    for word in line.split(" "):
        is_path = word.startswith(os.sep) and os.sep in word[1:]
        words.append(f"PATH/{word.rpartition(os.sep)[2]}" if is_path else word)
    return " ".join(words)
