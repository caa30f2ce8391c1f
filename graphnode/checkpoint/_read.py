"""Read values of a checkpoint: the arrays of some States, each checked, and put together again."""

import dataclasses
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .._errors import CheckpointError, Fault
from ._arrays import CorruptError, checksums_of, fault_of, from_store, to_read
from ._expressions import Array, Expression, bytes_of, evaluated, keys_of
from ._files import check_unchanged
from ._forms import put_together
from ._leaf import ARRAY, NUMPY
from ._manifest import Manifest, Value
from ._orbax import read


class Wanted(NamedTuple):
    """A State to read.

    Attributes:
        number: Its number in the graph of the file.
        shardings: Where each of its leaves is to be; `None` for where JAX puts arrays.
        like: A value of the same form, if there is one.
    """

    number: int
    shardings: Sequence[Sharding | None]
    like: Any = None


def read_values(
    directory: str,
    identity: object,
    manifest: Manifest,
    wanted: Sequence[Wanted],
    task: str,
) -> list[Any]:
    """The values of some States; none unless all of them are what was saved.

    Raises:
        CheckpointError: The arrays cannot be read, or are not those that were saved;
            names all.
    """
    arrays = _read_arrays(directory, manifest, wanted, task)
    check_unchanged(directory, identity, task)
    checksums = checksums_of(arrays)
    values: list[Any] = []
    faults: list[Fault] = []
    for item in wanted:
        leaves: list[Any] = []
        for (name, leaf), sharding in zip(
            manifest.stored(item.number), item.shardings, strict=True
        ):
            try:
                # Taken out, so that memory is given back as it goes on.
                array = arrays.pop(name, None)
                value = from_store(leaf, array, checksums.get(name), sharding)
                leaves.append(value)
            except CorruptError as error:
                faults.append(Fault(str(error), path=name))
        if not faults:
            values.append(
                put_together(manifest.by_state[item.number].form, leaves, item.like)
            )
    if faults:
        raise CheckpointError(task, faults)
    return values


def _read_arrays(
    directory: str, manifest: Manifest, wanted: Sequence[Wanted], task: str
) -> dict[str, Any]:
    """For `read_values`: what the store gives for the leaves of some States, by name."""
    requests: dict[str, Any] = {}
    faults: list[Fault] = []
    for item in wanted:
        for (name, leaf), sharding in zip(
            manifest.stored(item.number), item.shardings, strict=True
        ):
            fault = fault_of(leaf)
            if fault is not None:
                faults.append(Fault(fault, path=name))
            elif leaf.is_stored:
                requests[name] = to_read(leaf, sharding)
    if faults:
        raise CheckpointError(task, faults)
    try:
        return read(directory, requests)
    except ModuleNotFoundError:
        raise
    # Whatever the store raises, of whatever class: a file is missing, or not readable.
    except Exception as error:
        text = " ".join(str(error).split())
        raise CheckpointError(
            task, [f"the arrays cannot be read: {text[:300]}"]
        ) from error


def as_numpy(manifest: Manifest, numbers: Collection[Any]) -> Manifest:
    """A manifest by which some States, each of one array, are read as arrays of NumPy."""
    values = list(manifest.values)
    for at, number in enumerate(manifest.structure.states):
        if number in numbers:
            leaf = dataclasses.replace(values[at].leaves[0], kind=NUMPY, weak=False)
            values[at] = Value(values[at].form, values[at].keys, [leaf])
    return dataclasses.replace(manifest, values=values)


def placed(
    array: "np.ndarray[Any, np.dtype[Any]]", kind: str, sharding: Sharding | None
) -> Any:
    """An array of NumPy as a State holds it: of JAX, where it is to be, or of NumPy."""
    # A view would keep all of what it is a part of, and JAX may not copy on the host.
    if not array.flags.owndata or not array.flags.c_contiguous:
        array = np.array(array, order="C")
    if kind != ARRAY:
        return array if kind == NUMPY else array[()]
    return jnp.asarray(array) if sharding is None else jax.device_put(array, sharding)


class Checkpoint(NamedTuple):
    """What is read from."""

    directory: str
    identity: object
    manifest: Manifest
    task: str

    def read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """The values of some States, as `read_values` gives them."""
        return read_values(
            self.directory, self.identity, self.manifest, wanted, self.task
        )


def evaluated_from(
    source: Checkpoint,
    expressions: Sequence[Expression],
    finish: Callable[[int, Array], Any],
) -> list[Any]:
    """What becomes of arrays that are made of those of a checkpoint, whose keys are numbers."""
    keys = {key for expression in expressions for key in keys_of(expression)}
    leaves = {
        key: source.manifest.by_state[key].leaves[0]
        for key in keys
        if isinstance(key, int)
    }
    # To the host, where they are changed: no device has to hold what is not wanted there.
    on_host = source._replace(manifest=as_numpy(source.manifest, keys))

    def read(keys: Sequence[Hashable]) -> dict[Hashable, Array]:
        wanted = [Wanted(key, [None]) for key in keys if isinstance(key, int)]
        return dict(zip(keys, on_host.read(wanted), strict=True))

    sizes: dict[Hashable, int] = {key: bytes_of(leaf) for key, leaf in leaves.items()}
    return evaluated(expressions, sizes, read, finish)
