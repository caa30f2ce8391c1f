"""Read values of a checkpoint: the arrays of some States, each checked, and put together again."""

import dataclasses
import math
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .._errors import CheckpointError, Fault
from ._arrays import CorruptError, checksums_of, fault_of, from_store, to_read
from ._expressions import Array, Expression, bytes_of, evaluated, keys_of
from ._files import check_unchanged
from ._forms import put_together
from ._item import Item
from ._leaf import ARRAY, NUMPY
from ._manifest import Manifest, Value
from ._orbax import read
from ._progress import Meter


class Within:
    """Tells of several reads as of one, which was begun before; or nobody, without a meter."""

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter

    def start(self, total: int) -> None:
        """A read begins."""

    def add(self, size: int) -> None:
        """So many bytes more are done."""
        if self._meter is not None:
            self._meter.add(size)


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
    meter: "Meter | Within",
) -> list[Any]:
    """The values of some States; none unless all of them are what was saved.

    Args:
        directory: The checkpoint.
        identity: What `read_manifest` gives of its manifest.
        manifest: Its manifest.
        wanted: The States.
        task: For messages.
        meter: Is told of each portion that is read.

    Raises:
        CheckpointError: The arrays cannot be read, or are not those that were saved;
            names all.
    """
    requests = _requests(manifest, wanted, task)
    meter.start(sum(map(_bytes_of, requests.values())))
    arrays: dict[str, Any] = {}
    checksums: dict[str, int | None] = {}
    for portion in _portions(requests):
        read_now = _read_arrays(directory, identity, portion, task)
        checksums.update(checksums_of(read_now))
        arrays.update(read_now)
        meter.add(sum(map(_bytes_of, portion.values())))
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
    """What is read from, in several reads.

    Attributes:
        directory: The checkpoint.
        identity: What `read_manifest` gives of its manifest.
        manifest: Its manifest.
        task: For messages.
        meter: Who is told of each portion, if anybody is.
    """

    directory: str
    identity: object
    manifest: Manifest
    task: str
    meter: Meter | None = None

    def begin(self, expressions: Iterable[Expression]) -> None:
        """Tell how much will be read for what is made of some States, whose keys are numbers."""
        keys = {key for expression in expressions for key in keys_of(expression)}
        values = [self.manifest.by_state[key] for key in keys if isinstance(key, int)]
        if self.meter is not None:
            leaves = [leaf for value in values for leaf in value.leaves]
            self.meter.start(sum(map(bytes_of, leaves)))

    def read_all(self, wanted: Sequence[Wanted]) -> list[Any]:
        """The values of some States, as `read_values` gives them, where nothing else is read."""
        return self._read(wanted, self.meter or Within(None))

    def read(self, wanted: Sequence[Wanted]) -> list[Any]:
        """The values of some States, as `read_values` gives them, in one of several reads."""
        return self._read(wanted, Within(self.meter))

    def _read(self, wanted: Sequence[Wanted], meter: "Meter | Within") -> list[Any]:
        place = (self.directory, self.identity, self.manifest)
        return read_values(*place, wanted, self.task, meter)


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


def read_items(
    source: Checkpoint,
    items: Sequence[Item],
    wanted: Callable[[int], Wanted],
    place: Callable[[int], tuple[str, Sharding | None]],
) -> list[Any]:
    """The values of States that changes give: at once where only their paths are others, else array by array.

    Args:
        source: The checkpoint.
        items: The States.
        wanted: What to read for one that has another path alone, by its position.
        place: Of one that is made of others, the kind of array, and where it is to be.
    """
    source.begin([item.expression for item in items])
    values: list[Any] = [None] * len(items)
    plain = [at for at, item in enumerate(items) if item.key is not None]
    for at, value in zip(plain, source.read(list(map(wanted, plain))), strict=True):
        values[at] = value
    made = [at for at, item in enumerate(items) if item.key is None]

    def finish(rank: int, array: Array) -> Any:
        return placed(array, *place(made[rank]))

    expressions = [items[at].expression for at in made]
    results = evaluated_from(source, expressions, finish)
    for at, value in zip(made, results, strict=True):
        values[at] = value
    return values
