"""Write safetensors files: one, or a directory of several with an index, as Hugging Face has them.

    write_safetensors("model.safetensors", arrays)
    write_safetensors("model", arrays, max_shard_bytes=5 * 10**9)

    model/model-00001-of-00002.safetensors
    model/model-00002-of-00002.safetensors
    model/model.safetensors.index.json

Arrays are written one after the other, and only one that is not in the order of the file,
or not on the host, is copied for that. What is read is in `_safetensors`.
"""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import Tracer, alias_of
from .._describe import describe
from .._errors import CheckpointError, Fault
from .._keys import is_on_host
from ._aside import NEW, OLD, put_back
from ._safetensors import INDEX_SUFFIX, SUFFIX
from ._safetensors_header import (
    DTYPES,
    LENGTH_BYTES,
    MAX_HEADER,
    METADATA,
    check_shape,
    shown,
)

# Of an array that lies over the devices of several processes.
IN_PART: Final = "this process has a part of it alone; gather it in all processes first, with gn.sharding.gather"

_STEM: Final = "model"
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
_ORDER: Final = {dtype: at for at, dtype in enumerate(DTYPES.values())}


@runtime_checkable
class Readable(Protocol):
    """An array that is made when it is written, such as one in another file, or a change of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy has it."""
        ...

    def read(self) -> "np.ndarray[Any, np.dtype[Any]]":
        """The values, of this shape and dtype."""
        ...


Writable: TypeAlias = (
    "jax.Array | np.ndarray[Any, np.dtype[Any]] | np.generic | Readable"
)


class _Item(NamedTuple):
    """An array to write, and what the header says of it."""

    name: str
    value: Writable
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(
    path: "str | os.PathLike[str]",
    arrays: Mapping[str, Writable],
    *,
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write arrays, by name, to a safetensors file, or to a directory of several.

    The file has their values in C order, whatever their strides are in memory. It is
    written beside `path`, and takes its place once it is complete.

    Args:
        path: A file; with `max_shard_bytes` a directory.
        arrays: Of JAX or NumPy, or in a file (`open_safetensors`), whose values are read
            when it is their turn.
        metadata: Texts for the header; of several files, for that of each.
        max_shard_bytes: No file of the directory has more bytes of arrays, unless one
            array has.
        overwrite: Whether what is at `path` is replaced. Of a directory, only if it has
            no other files than those of arrays.

    Raises:
        CheckpointError: Some arrays have no place in a file of this format; lists all.
            Or something is at `path`, or the file system refuses.

    See also: `open_safetensors`, the inverse.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    task = f"cannot write {path}"
    items, faults = _items_of(arrays)
    faults += _metadata_faults(metadata or {})
    if faults:
        raise CheckpointError(task, faults)
    if max_shard_bytes is None:
        with _replaced_file(path, task, overwrite=overwrite) as target:
            _write_file(target, items, metadata, task)
        return
    with _replaced_directory(path, task, overwrite=overwrite) as target:
        os.mkdir(target)
        _write_shards(target, _shards_of(items, max_shard_bytes), metadata, task)


def _items_of(arrays: Mapping[str, Writable]) -> tuple[list[_Item], list[Fault]]:
    """For `write_safetensors`: what is to be written, and what cannot be."""
    items: list[_Item] = []
    faults: list[Fault] = []
    for name, value in arrays.items():
        try:
            _check_name(name)
            items.append(_Item(name, value, *_description_of(value)))
        except ValueError as error:
            faults.append(Fault(str(error), path=shown(name)))
    return items, faults


# Any: whatever is a key of a mapping.
def _check_name(name: Any) -> None:
    """For `_items_of`: raise unless a header can have the name.

    Raises:
        ValueError: It cannot.
    """
    if not isinstance(name, str):
        raise ValueError(f"names are texts, found {describe(name)}")
    if name == METADATA:
        raise ValueError("the format has this name for the metadata")
    if not _is_unicode(name):
        raise ValueError("the name has half a character (a lone surrogate)")


def _is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Any: the keys and values of a mapping that a caller has made.
def _metadata_faults(metadata: Mapping[Any, Any]) -> list[Fault]:
    """For `write_safetensors`: what a header cannot have as metadata."""
    faults: list[Fault] = []
    for key, text in metadata.items():
        for part in (key, text):
            if not isinstance(part, str):
                what = f"metadata maps texts to texts, found {describe(part)}"
                faults.append(Fault(what, path=shown(key)))
            elif not _is_unicode(part):
                what = "metadata has half a character (a lone surrogate)"
                faults.append(Fault(what, path=shown(key)))
    return faults


# Any: whatever is a value of a mapping.
def _description_of(value: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """For `_items_of`: dtype and shape of an array.

    Raises:
        ValueError: A file cannot have it.
    """
    if isinstance(value, Tracer):
        raise ValueError(f"{describe(value)} has no value yet")
    # Not any subclass of arrays: a masked one holds more than its numbers.
    is_array = isinstance(value, jax.Array | np.generic) or type(value) in (
        np.ndarray,
        np.memmap,
    )
    if not is_array and not isinstance(value, Readable):
        found = (
            type(value).__name__ if isinstance(value, np.ndarray) else describe(value)
        )
        raise ValueError(f"expected an array of JAX or NumPy, found {found}")
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"{describe(value)} has no dtype of the format; write jax.random.key_data of it"
            )
        if value.is_deleted():
            raise ValueError(
                "its memory was given away (donated), so that it has no value"
            )
        if not is_on_host(value):
            raise ValueError(IN_PART)
    dtype = np.dtype(value.dtype).newbyteorder("=")
    if dtype not in _NAMES:
        raise ValueError(f"the format has no dtype for {dtype}; cast it")
    shape = tuple(value.shape)
    check_shape(shape, dtype)
    return dtype, shape


def _write_file(
    path: str, items: Sequence[_Item], metadata: Mapping[str, str] | None, task: str
) -> None:
    """For `write_safetensors`: write one file."""
    # By dtype, so that each array starts at a multiple of its item size and can be used
    # where it lies; and then by name. The reference has the same order.
    items = sorted(items, key=lambda item: (_ORDER[item.dtype], item.name))
    header = _header(items, metadata)
    if len(header) > MAX_HEADER:
        raise CheckpointError(
            task, [f"its header has {len(header):,} bytes, and may have {MAX_HEADER:,}"]
        )
    with open(path, "wb") as stream:
        stream.write(len(header).to_bytes(LENGTH_BYTES, "little"))
        stream.write(header)
        for item in items:
            stream.write(_content(item, task))


def _header(items: Sequence[_Item], metadata: Mapping[str, str] | None) -> bytes:
    """For `_write_file`: the header, filled up so that the arrays start at a multiple of 8."""
    data: dict[str, Any] = {} if metadata is None else {METADATA: dict(metadata)}
    start = 0
    for item in items:
        stop = start + item.size
        data[item.name] = {
            "dtype": _NAMES[item.dtype],
            "shape": item.shape,
            "data_offsets": (start, stop),
        }
        start = stop
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    return content + b" " * (-len(content) % 8)


def _content(item: _Item, task: str) -> memoryview:
    """For `_write_file`: the bytes of an array in C order; JAX knows little-endian machines alone."""
    value = item.value
    if isinstance(value, jax.Array):
        # An alias, as the array itself would keep the copy, and the model grow by it.
        array = np.asarray(alias_of(value))
    elif isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
    else:
        array = value.read()
        if (array.shape, array.dtype) != (item.shape, item.dtype):
            what = f"was announced as {item.dtype}{list(item.shape)}, and is {array.dtype}{list(array.shape)}"
            raise CheckpointError(task, [Fault(what, path=shown(item.name))])
    contiguous = np.ascontiguousarray(array, item.dtype)
    return contiguous.reshape(-1).view(np.uint8).data


def _shards_of(items: Sequence[_Item], max_bytes: int) -> list[list[_Item]]:
    """For `write_safetensors`: the arrays of each file, in the order in which they were given."""
    shards: list[list[_Item]] = [[]]
    size = 0
    for item in items:
        if shards[-1] and size + item.size > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += item.size
    return shards


def _write_shards(
    directory: str,
    shards: Sequence[Sequence[_Item]],
    metadata: Mapping[str, str] | None,
    task: str,
) -> None:
    """For `write_safetensors`: write files into a directory, and an index if they are several."""
    if len(shards) == 1:
        _write_file(os.path.join(directory, _STEM + SUFFIX), shards[0], metadata, task)
        return
    weight_map: dict[str, str] = {}
    for at, items in enumerate(shards, 1):
        file = f"{_STEM}-{at:05}-of-{len(shards):05}{SUFFIX}"
        _write_file(os.path.join(directory, file), items, metadata, task)
        weight_map.update(dict.fromkeys([item.name for item in items], file))
    size = sum(item.size for items in shards for item in items)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False)
    path = os.path.join(directory, _STEM + INDEX_SUFFIX)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text + "\n")


@contextlib.contextmanager
def _replaced_file(
    path: str, task: str, *, overwrite: bool
) -> Generator[str, None, None]:
    """The path to write to; when the block is over, the file is at `path`.

    Raises:
        CheckpointError: Something is there, and is not to be replaced; or the file
            system refuses.
    """
    if os.path.lexists(path) and not overwrite:
        raise CheckpointError(
            task, ["it exists already; pass overwrite=True to replace it"]
        )
    if os.path.isdir(path):
        raise CheckpointError(
            task,
            ["it is a directory, and is not replaced by a file; delete it first"],
        )
    try:
        yield path + NEW
        os.replace(path + NEW, path)
    except OSError as error:
        raise _refused(error, task) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path + NEW)


@contextlib.contextmanager
def _replaced_directory(
    path: str, task: str, *, overwrite: bool
) -> Generator[str, None, None]:
    """The directory to make; when the block is over, it is at `path`, and what was there is gone.

    A process that is killed between the two renames leaves the old one at
    `path.graphnode-old`; the next write tidies up.

    Raises:
        CheckpointError: Something is there, and is not to be replaced; or the file
            system refuses.
    """
    _tidy(path)
    exists = os.path.lexists(path)
    if exists and not overwrite:
        raise CheckpointError(
            task, ["it exists already; pass overwrite=True to replace it"]
        )
    if exists:
        others = _other_files(path)
        if others:
            raise CheckpointError(
                task, [f"{others}, and is not replaced; delete it first"]
            )
    try:
        yield path + NEW
        if exists:
            os.rename(path, path + OLD)
        os.rename(path + NEW, path)
        shutil.rmtree(path + OLD, ignore_errors=True)
    except OSError as error:
        raise _refused(error, task) from error
    finally:
        shutil.rmtree(path + NEW, ignore_errors=True)


def _other_files(path: str) -> str:
    """For `_replaced_directory`: what would be lost with a directory beside arrays, in words; empty for nothing."""
    if not os.path.isdir(path) or os.path.islink(path):
        return "it is not a directory"
    for name in sorted(os.listdir(path)):
        if not name.endswith((SUFFIX, INDEX_SUFFIX)):
            return f"it has other files, such as {name}"
    return ""


def _tidy(path: str) -> None:
    """For `_replaced_directory`: put back, or delete, what a killed process has left."""
    put_back(path)
    with contextlib.suppress(OSError):
        if os.path.isdir(path + NEW):
            shutil.rmtree(path + NEW)


def _refused(error: OSError, task: str) -> CheckpointError:
    """What the file system has said, without the name of a file that is there for a moment."""
    text = error.strerror or str(error)
    return CheckpointError(task, [text])
