"""What `transformers` gave for small models, as it is kept or asked for anew, and directories of these models."""

import functools
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.checkpoint._safetensors import open_safetensors
from graphnode.checkpoint._safetensors_write import write_safetensors
from tests.docrun import ROOT
from tests.families.make_references import REFERENCES, Arrays, weight


@dataclass(frozen=True)
class Reference:
    """A model of `transformers`, and what it gave."""

    name: str
    seed: int
    config: dict[str, Any]
    shapes: dict[str, list[int]]
    inputs: Arrays
    outputs: Arrays

    def arrays(self) -> Arrays:
        """Those of its files."""
        return {name: weight(name, tuple(shape), self.seed) for name, shape in self.shapes.items()}

    def write(self, directory: Path) -> Path:
        """Write the directory that the model has there."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(self.config))
        write_safetensors(directory / "model.safetensors", self.arrays(), metadata={"format": "pt"}, overwrite=True)
        return directory


def part_of(arrays: Arrays, name: str) -> Arrays:
    """The inputs or outputs among what is kept."""
    start = f"{name}."
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}


def arrays_of_npz(path: Path) -> Arrays:
    """All arrays of a file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def reference_in(path: Path, seed: int = 0) -> Reference:
    """One that is in a file."""
    arrays = arrays_of_npz(path)
    config, shapes = (json.loads(str(arrays[name])) for name in ("config", "shapes"))
    return Reference(path.stem, seed, config, shapes, part_of(arrays, "inputs"), part_of(arrays, "outputs"))


@functools.cache
def kept(name: str) -> Reference:
    """That of seed 0."""
    return reference_in(REFERENCES / f"{name}.npz")


def ask(name: str, to: Path, *options: str) -> None:
    """Let `transformers` write to a directory what it gives, in an environment of its own."""
    python = os.environ.get("GRAPHNODE_TRANSFORMERS")
    if python is None:
        pytest.skip("GRAPHNODE_TRANSFORMERS has no path of a Python that has transformers")
    command = [python, "-m", "tests.families.make_references", name, "--seed", "1", "--to", str(to), *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr


def logits_of(model: Any, inputs: Arrays) -> Arrays:
    """As `make_references.decoded`, by a model of graphnode: the logits of texts with padding."""
    tokens, lengths = jnp.asarray(inputs["tokens"], jnp.int32), jnp.asarray(inputs["lengths"], jnp.int32)
    logits = np.asarray(gn.jit(model)(tokens, lengths=lengths))
    mask = np.arange(tokens.shape[1]) < inputs["lengths"][:, np.newaxis]
    return {"logits": logits * mask[..., np.newaxis]}


def written_by(model: Any, inputs: Arrays) -> Arrays:
    """As `make_references.decoded`, by a model of graphnode: what follows on texts of several lengths."""
    tokens, lengths = jnp.asarray(inputs["tokens"], jnp.int32), jnp.asarray(inputs["lengths"], jnp.int32)
    return {"written": np.asarray(gn.nn.generate(model, tokens, 8, lengths=lengths).tokens)}


def assert_close(outputs: Arrays, expected: Arrays) -> None:
    """Both have the same names and shapes, the same integers, and floats that differ by 1e-5 of the largest at most."""
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert outputs[name].shape == array.shape, name
        if np.issubdtype(array.dtype, np.integer):
            np.testing.assert_array_equal(outputs[name], array, err_msg=name)
        else:
            limit = 1e-5 * np.abs(array).max()
            np.testing.assert_allclose(outputs[name], array, rtol=0, atol=limit, err_msg=name)


def arrays_in(directory: Path) -> Arrays:
    """The arrays of a directory."""
    with open_safetensors(directory) as file:
        return {name: array.read() for name, array in file.items()}


def assert_same(arrays: Mapping[str, Any], expected: Arrays) -> None:
    """Both have the same names and, to the bit, numbers."""
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True, err_msg=name)


# How rotations are said differs from version to version, and what wrote the file is another program.
_SAID_ANEW: Final = {"dtype", "transformers_version", "rope_parameters", "rope_theta", "rope_scaling"}


def assert_settings_are_kept(config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Whatever the original says, the file says too; null is what is not said."""
    said = {key: value for key, value in expected.items() if key not in _SAID_ANEW and value is not None}
    assert {key: config.get(key) for key in said} == said
