"""What the originals of the models gave: as it is kept in `references`, and run anew."""

import importlib.util
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import pytest

from tests.published.containers import Arrays
from tests.published.make_references import ORIGINALS, REFERENCES, Random, run

Source: TypeAlias = Callable[[str], tuple[Arrays, Arrays]]
"""From the name of an original to inputs and its outputs for these."""


def kept(name: str) -> tuple[Arrays, Arrays]:
    """The inputs of seed 0."""
    with np.load(REFERENCES / f"{name}.npz", allow_pickle=False) as file:
        return ORIGINALS[name].inputs(Random(0)), dict(file)


def live(name: str) -> tuple[Arrays, Arrays]:
    """Other inputs, where the runtime of the original is installed."""
    for module in ORIGINALS[name].needs:
        # Not imported yet: some ask the environment then what they run on.
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return run(name, 1)


from_original: Final = pytest.mark.parametrize("source", [kept, pytest.param(live, marks=pytest.mark.slow)])
"""Gives a test what is kept, and a slow one what the original says of other inputs."""


def assert_close(outputs: Arrays, expected: Arrays) -> None:
    """Both have the same names, shapes and, but for rounding, numbers."""
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert outputs[name].shape == array.shape
        np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def assert_same(arrays: Arrays, expected: Arrays) -> None:
    """Both have the same names and, to the bit, numbers."""
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True, err_msg=name)
