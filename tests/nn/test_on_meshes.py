"""Every layer, forward and backward, on meshes: with automatic and explicit axes, and under `shard_map`."""

import functools
import json
import os
import subprocess
import sys

import pytest

from graphnode import nn
from tests.nn import on_meshes
from tests.nn.layers import ABSTRACT, PARTS, RECORDS

QUICK = ("Embedding",)
REST = tuple(name for name in on_meshes.LAYERS if name not in QUICK)
ALL_WAYS = (*on_meshes.WAYS, on_meshes.SHARD_MAP)


@functools.cache
def outcomes(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """What went wrong for these layers, in a process that has eight devices."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.nn.on_meshes", *names],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def test_each_layer_has_a_case():
    """A new layer is entered in `tests/nn/on_meshes.py`."""
    classes = {name for name, value in vars(nn).items() if isinstance(value, type)}
    assert classes - ABSTRACT - PARTS - RECORDS == {name.partition(",")[0] for name in on_meshes.LAYERS}


@pytest.mark.slow  # a process with eight devices
@pytest.mark.parametrize("way", ALL_WAYS)
@pytest.mark.parametrize("name", QUICK)
def test_an_embedding_gives_the_same_on_a_mesh(name: str, way: str):
    """Result, gradients and written States equal those of one device."""
    assert outcomes(QUICK)[name][way] == ""


@pytest.mark.slow
@pytest.mark.parametrize("way", ALL_WAYS)
@pytest.mark.parametrize("name", REST)
def test_a_layer_gives_the_same_on_a_mesh(name: str, way: str):
    """Result, gradients and written States equal those of one device."""
    assert outcomes(REST)[name][way] == ""
