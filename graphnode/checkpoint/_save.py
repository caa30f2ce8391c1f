"""Save a tree: its manifest, and its arrays by path."""

import dataclasses
import json
import os
import sys
from typing import Any, NamedTuple

import jax

from .._errors import CheckpointError, Fault
from ._arrays import checksums_of, to_store
from ._files import absolute, metadata_of, written
from ._manifest import Manifest, Value, manifest_to_json
from ._orbax import write
from ._processes import check_same, together
from ._progress import Meter, Progress
from ._tree import Tree, declared_fields, take_tree


def save(
    path: "str | os.PathLike[str]",
    tree: object,
    /,
    *,
    metadata: Any = None,
    config: str | None = None,
    overwrite: bool = False,
    progress: Progress = None,
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
        config: The text of the configuration that the model was built from, such as
            `gn.config.dump` gives, for `gn.checkpoint.manifest`. Nothing is built from it.
        overwrite: Whether a checkpoint at the path is replaced. It is there until the
            new one is complete.
        progress: A function that is called with the bytes that are written and those in
            all: with 0 at first and with all at the end, as the store tells nothing
            between. `True` for a line with the time (tqdm), `False` for none; by default
            there is one at a terminal, if it takes longer than 2 seconds.

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
        meter = Meter(progress, f"write {os.fspath(path)}", is_counted=False)
        extra = checked_extra(metadata, config, task)
        taken = take_tree(tree, task)
    # The meter is at its end when the checkpoint is at its place.
    with meter, written(target, task, overwrite=overwrite) as directory:
        with together(task):
            manifest, arrays = prepared(taken, task, extra)
            meter.start(sum(array.nbytes for array in arrays.values()))
        data = manifest_to_json(manifest)
        check_same_manifest(data, task)
        write(directory, arrays, metadata_of(data))


# Any: JSON.
def check_same_manifest(data: dict[str, Any], task: str) -> None:
    """For `save` and `Checkpointer`: raise if a manifest is not the same in all processes.

    Raises:
        CheckpointError: Names all paths at which they differ.
    """
    check_same(lambda: _rows(data), task)


def _rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    """The parts of a manifest that processes compare: States by path, and the others by what they are."""
    rows = [(str(state["path"]), json.dumps(state)) for state in data["states"]]
    rest = {key: part for key, part in data.items() if key != "states"}
    # With spaces, as no path has them that is not quoted.
    return rows + [(f"the manifest's {key}", json.dumps(rest[key])) for key in rest]


class Extra(NamedTuple):
    """What the program adds to a manifest.

    Attributes:
        metadata: JSON.
        config: A text, or `None`.
    """

    metadata: Any
    config: str | None


# Any: what a program gives for JSON, and for a text.
def checked_extra(metadata: Any, config: Any, task: str) -> Extra:
    """For `save` and `Checkpointer`: what was given, as it will be read.

    Raises:
        CheckpointError: The metadata are not JSON, or the configuration is not a text.
    """
    try:
        read_again = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(task, [f"metadata is not JSON: {error}"]) from None
    if config is not None and not isinstance(config, str):
        what = f"config is a text (str); found a {type(config).__name__}"
        raise CheckpointError(task, [Fault(what, hint="gn.config.dump gives one")])
    return Extra(read_again, config)


def prepared(tree: Tree, task: str, extra: Extra) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a tree, and its arrays as the store takes them.

    Raises:
        CheckpointError: A State has no value, or none any more; names all.
    """
    manifest = manifest_of_tree(tree, tree.values, extra)
    arrays: dict[str, Any] = {}
    faults: list[Fault] = []
    for number, taken in zip(tree.structure.states, tree.taken, strict=True):
        for (name, leaf), value in zip(
            manifest.stored(number), taken.leaves, strict=True
        ):
            fault = value_fault(value)
            if fault is not None:
                faults.append(Fault(fault, path=name))
            elif leaf.is_stored:
                arrays[name] = to_store(leaf, value)
    if faults:
        raise CheckpointError(task, faults)
    checksums = checksums_of(arrays)
    values: list[Value] = []
    for number, value in zip(tree.structure.states, tree.values, strict=True):
        leaves = [
            dataclasses.replace(leaf, checksum=checksums.get(name))
            for name, leaf in manifest.stored(number)
        ]
        values.append(Value(value.form, value.keys, leaves))
    return manifest_of_tree(tree, values, extra), arrays


def value_fault(value: Any) -> str | None:
    """Why there is nothing to save, though there is a shape and dtype; `None` if there is."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return "a shape and dtype without a value"
    if isinstance(value, jax.Array) and value.is_deleted():
        return "its memory was given away (donated), so that it has no value"
    return None


def manifest_of_tree(tree: Tree, values: list[Value], extra: Extra) -> Manifest:
    """The manifest of a tree with these values."""
    package: Any = sys.modules[__name__.partition(".")[0]]
    versions = {"graphnode": package.__version__, "jax": jax.__version__}
    return Manifest(
        tree.structure,
        values,
        declared_fields(tree.graphdef),
        versions,
        extra.config,
        extra.metadata,
    )
