"""Save a tree: its manifest, and its arrays by path."""

import json
import os
import sys
from typing import Any

import jax

from .._errors import CheckpointError
from ._arrays import to_store
from ._files import absolute, metadata_of, written
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
    arrays: dict[str, Any] = {}
    values: list[Value] = []
    faults: list[str] = []
    for number, taken, value in zip(
        tree.structure.states, tree.taken, tree.values, strict=True
    ):
        leaves = list(value.leaves)
        for at, (name, leaf) in enumerate(manifest.stored(number)):
            if isinstance(taken.leaves[at], jax.ShapeDtypeStruct):
                faults.append(f"{name}: a shape and dtype without a value, {leaf}")
            elif leaf.is_stored:
                leaves[at], arrays[name] = to_store(leaf, taken.leaves[at])
        values.append(Value(value.form, value.keys, leaves))
    if faults:
        raise CheckpointError(task, faults)
    return _manifest(tree, values, metadata), arrays


def _manifest(tree: Tree, values: list[Value], metadata: Any) -> Manifest:
    """For `prepared`: the manifest of a tree with these values."""
    package: Any = sys.modules[__name__.partition(".")[0]]
    versions = {"graphnode": package.__version__, "jax": jax.__version__}
    return Manifest(
        tree.structure, values, declared_fields(tree.graphdef), versions, None, metadata
    )
