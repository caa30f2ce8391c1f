"""Read values of a checkpoint: the arrays of some States, each checked, and put together again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from jax.sharding import Sharding

from .._errors import CheckpointError, Fault
from ._arrays import CorruptError, checksums_of, fault_of, from_store, to_read
from ._files import check_unchanged
from ._forms import put_together
from ._manifest import Manifest
from ._orbax import read
from ._progress import Report


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
    report: Report,
) -> list[Any]:
    """The values of some States; none unless all of them are what was saved.

    Args:
        directory: The checkpoint.
        identity: What `read_manifest` gives of its manifest.
        manifest: Its manifest.
        wanted: The States.
        task: For messages.
        report: Is told of each portion that is read.

    Raises:
        CheckpointError: The arrays cannot be read, or are not those that were saved;
            names all.
    """
    requests = _requests(manifest, wanted, task)
    report.start(sum(map(_bytes_of, requests.values())))
    arrays: dict[str, Any] = {}
    checksums: dict[str, int | None] = {}
    for portion in _portions(requests):
        read_now = _read_arrays(directory, identity, portion, task)
        checksums.update(checksums_of(read_now))
        arrays.update(read_now)
        report.add(sum(map(_bytes_of, portion.values())))
    check_unchanged(directory, identity, task)
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


def _requests(
    manifest: Manifest, wanted: Sequence[Wanted], task: str
) -> dict[str, Any]:
    """For `read_values`: what the store is asked for, by name: the leaves of some States.

    Raises:
        CheckpointError: This program cannot hold some of them; names all.
    """
    requests: dict[str, Any] = {}
    faults: list[Fault] = []
    for item in wanted:
        for (name, leaf), sharding in zip(
            manifest.stored(item.number), item.shardings, strict=True
        ):
            fault = fault_of(leaf, sharding)
            if fault is not None:
                faults.append(Fault(fault, path=name))
            elif leaf.is_stored:
                requests[name] = to_read(leaf, sharding)
    if faults:
        raise CheckpointError(task, faults)
    return requests


# In bytes. A read of a gigabyte takes as long in such portions as at once, and as much memory.
_PORTION: Final = 2**28


def _portions(requests: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """For `read_values`: what the store is asked for, in groups of at most `_PORTION`, or of one array."""
    portion: dict[str, Any] = {}
    size = 0
    for name, request in requests.items():
        if portion and size + _bytes_of(request) > _PORTION:
            yield portion
            portion, size = {}, 0
        portion[name] = request
        size += _bytes_of(request)
    if portion:
        yield portion


# Any: a shape and dtype, as `_orbax.read` takes it.
def _bytes_of(request: Any) -> int:
    """The bytes of a whole array, however it is laid out on devices."""
    size: int = math.prod(request.shape) * request.dtype.itemsize
    return size


def _read_arrays(
    directory: str, identity: object, requests: Mapping[str, Any], task: str
) -> dict[str, Any]:
    """For `read_values`: what the store gives, by name."""
    try:
        return read(directory, requests)
    except ModuleNotFoundError:
        raise
    # Whatever the store raises, of whatever class: a file is missing, or not readable.
    except Exception as error:
        # Some portions may be of the one checkpoint, and this one of another.
        check_unchanged(directory, identity, task)
        text = " ".join(str(error).split())
        raise CheckpointError(
            task, [f"the arrays cannot be read: {text[:300]}"]
        ) from error
