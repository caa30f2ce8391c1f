"""What an earlier version has pickled loads as what it was: `tests/pickles/write.py` says how the files were made."""

import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn

from .pickles.write import samples

FOLDER = Path(__file__).parent / "pickles"
FILES = sorted(FOLDER.glob("*/*.pickle"))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return samples()


def parts(value: Any) -> tuple[Any, list[Any]]:
    """What can be compared of a sample: its structure, and its arrays."""
    if isinstance(value, gn.Node) or (isinstance(value, tuple) and isinstance(value[0], gn.Node)):
        graphdef, tree = gn.treefy_split(value)
        return graphdef, jax.tree.leaves(tree)
    if isinstance(value, gn.State):
        return type(value), [value.value]
    if isinstance(value, gn.FlatStates):
        return [(path, type(state)) for path, state in value.items()], [state.value for state in value.values()]
    if isinstance(value, gn.StateTree):
        return value.layout, jax.tree.leaves(value)
    return value, []


def bits(leaf: Any) -> Any:
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


@pytest.mark.parametrize("file", FILES, ids=[f"{file.parent.name}-{file.stem}" for file in FILES])
def test_a_pickle_of_an_earlier_version_is_loaded(file: Path, expected: dict[str, Any]):
    """Modules may have moved since, and classes have other attributes."""
    if file.stem == "streams" and jax.__version_info__ < (0, 10):
        pytest.skip("a key is pickled by the name of a module of JAX, which has another one since 0.10")
    structure, leaves = parts(pickle.loads(file.read_bytes()))
    expected_structure, expected_leaves = parts(expected[file.stem])
    assert structure == expected_structure
    assert len(leaves) == len(expected_leaves)
    assert all(np.array_equal(bits(one), bits(other)) for one, other in zip(leaves, expected_leaves, strict=True))


def test_there_is_a_file_of_each_sample(expected: dict[str, Any]):
    """None was left out when they were written."""
    assert {file.stem for file in FOLDER.glob("0.1/*.pickle")} == set(expected)
