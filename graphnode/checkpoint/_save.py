"""Save a tree: its manifest, and its arrays by path."""

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import jax

from .._errors import CheckpointError
from ._arrays import to_store
from ._files import absolute, metadata_of, written
from ._leaf import Leaf
from ._manifest import Manifest, Value, manifest_to_json
from ._orbax import write
from ._processes import check_same, together
from ._tree import Tree, declared_fields, take_tree


def save(
    path: "str | os.PathLike[str]",
    tree: object,
    /,
    *,
    metadata: Any = None,
    overwrite: bool = False,
) -> None:
    """Write a tree into a new directory, with a manifest that says what it holds.

    Values are kept to the bit: dtypes, random keys with their implementation, Python
    numbers. A State or node that several parts of the tree refer to is written once.
    The directory appears when it is complete.

    Args:
        path: The directory, on a local or mounted file system.
        tree: A node, or a pytree (dict, list, dataclass ...) of nodes, States, arrays,
            numbers and data iterators, which are objects with `get_state` and
            `set_state`: `{"model": model, "optimizer": optimizer, "rngs": rngs, "step": 3}`.
        metadata: Any JSON, such as `{"loss": 0.1}`, for `gn.checkpoint.manifest`.
        overwrite: Whether a checkpoint at the path is replaced. It is there until the
            new one is complete.

    Raises:
        CheckpointError: Something is at the path; the tree holds what a checkpoint has
            no place for; or the file system refuses. Names all.
        ModuleNotFoundError: Orbax is not installed.
        TraceError: A transformation of JAX runs.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gn.checkpoint.save("runs/model", {"model": model, "step": 3})
        >>> gn.checkpoint.restore("runs/model", {"model": model, "step": 0})["step"]
        3

    See also: `restore`, which reads into live nodes, and `load`, which makes new ones.
    """
    target = absolute(path)
    task = f"cannot save to {path}"
    with together(task):
        extra = _checked_metadata(metadata, task)
        taken = take_tree(tree, task)
    with written(target, task, overwrite=overwrite) as directory:
        with together(task):
            manifest, arrays = prepared(taken, task, extra)
        data = manifest_to_json(manifest)
        check_same(lambda: _rows(data), task)
        write(directory, arrays, metadata_of(data))


# Any: JSON.
def _rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    """For `save`: the parts of a manifest that processes compare, by path; the last one is all but the States."""
    rows = [(str(state["path"]), json.dumps(state)) for state in data["states"]]
    rest = {key: part for key, part in data.items() if key != "states"}
    return [*rows, ("", json.dumps(rest))]


def _checked_metadata(metadata: Any, task: str) -> Any:
    """For `save`: the metadata as they will be read; raises if they are not JSON."""
    try:
        return json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(task, [f"metadata is not JSON: {error}"]) from None


def prepared(tree: Tree, task: str, metadata: Any) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a tree, and its arrays as the store takes them.

    Raises:
        CheckpointError: A State has a shape and no value.
    """
    manifest = _manifest(tree, tree.values, metadata)
    leaves = [list(value.leaves) for value in tree.values]
    places: list[_Place] = []
    faults: list[str] = []
    for rank, (number, taken) in enumerate(
        zip(tree.structure.states, tree.taken, strict=True)
    ):
        for at, (name, leaf) in enumerate(manifest.stored(number)):
            if isinstance(taken.leaves[at], jax.ShapeDtypeStruct):
                faults.append(f"{name}: a shape and dtype without a value, {leaf}")
            elif leaf.is_stored:
                places.append(_Place(rank, at, name, leaf, taken.leaves[at]))
    if faults:
        raise CheckpointError(task, faults)
    arrays: dict[str, Any] = {}
    for place, (leaf, array) in zip(places, _all_to_store(places), strict=True):
        leaves[place.rank][place.at], arrays[place.name] = leaf, array
    values = [
        Value(value.form, value.keys, checked)
        for value, checked in zip(tree.values, leaves, strict=True)
    ]
    return _manifest(tree, values, metadata), arrays


class _Place(NamedTuple):
    """An array to be stored: by the rank of its State, its position within the value, and its name in the store."""

    rank: int
    at: int
    name: str
    leaf: Leaf
    # Any: an array of JAX or NumPy, or keys.
    array: Any


# What a thread costs less than the checksum of so many bytes does.
_BYTES_FOR_THREADS: Final = 2**24


def _all_to_store(places: Sequence[_Place]) -> list[tuple[Leaf, Any]]:
    """For `prepared`: arrays as the store takes them, with checksums; in threads where these take long."""
    leaves = [place.leaf for place in places]
    arrays = [place.array for place in places]
    if sum(array.nbytes for array in arrays) < _BYTES_FOR_THREADS:
        return list(map(to_store, leaves, arrays))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(to_store, leaves, arrays))


def _manifest(tree: Tree, values: list[Value], metadata: Any) -> Manifest:
    """For `prepared`: the manifest of a tree with these values."""
    package: Any = sys.modules[__name__.partition(".")[0]]
    versions = {"graphnode": package.__version__, "jax": jax.__version__}
    return Manifest(
        tree.structure, values, declared_fields(tree.graphdef), versions, None, metadata
    )
