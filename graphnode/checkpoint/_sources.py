"""What arrays may be read from, each as arrays by name that are described first and read when they are asked for.

To read another format, add its suffix to `READERS`; to write it, to `WRITERS`.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import jax
import numpy as np

from .._describe import describe
from .._errors import CheckpointError, Fault
from .._paths import Key, Path, path_str
from ._changes import Changes
from ._expressions import AT_ONCE, Array, bytes_of
from ._files import OUR_KEY, absolute, located, read_manifest
from ._forms import LEAF
from ._globs import path_of_name
from ._item import Item, state_items
from ._items import items_of, other_paths
from ._leaf import ARRAY, NUMPY, Leaf, UnsavableError, leaf_of
from ._live import from_torch, is_tensor, live_arrays
from ._manifest import Value, parse
from ._npz import opened_npz, write_npz
from ._orbax import METADATA_FILE, METADATA_KEY, nested_metadata, read_nested
from ._read import Checkpoint, Wanted, as_numpy
from ._safetensors import INDEX_SUFFIX, SUFFIX, FileArray, open_safetensors
from ._safetensors_write import write_safetensors
from ._slices import Box
from ._structure import Structure

READERS: Final[
    dict[str, Callable[[str, str], AbstractContextManager[Mapping[str, Any]]]]
] = {
    ".npz": opened_npz,
    SUFFIX: lambda path, task: open_safetensors(path),
    INDEX_SUFFIX: lambda path, task: open_safetensors(path),
}
"""For the suffix of a file: what opens it, and gives its arrays by name, each with `shape`, `dtype` and `read`.

It takes the path, and what an error begins with.
"""

DIRECTORIES: Final = (SUFFIX,)
"""The suffixes among these of which a directory of several files is read."""

WRITERS: Final[dict[str, Callable[..., None]]] = {
    ".npz": write_npz,
    SUFFIX: write_safetensors,
}
"""For the suffix of a file: what writes it, from the path, and the arrays by name; with `metadata` and `overwrite`."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Arrays to read.

    Attributes:
        items: What there is, for some changes and the graph that it is for.
        read: Reads some of it, by key.
        sizes: The bytes of each, by key.
        other_paths: Further paths, each with the first one.
        shapes: Those of arrays that can be read in parts, by key.
        read_part: Reads a part of one of these.
        at_once: The bytes to read together: 0 where a call of `read` takes no time.
    """

    items: Callable[[Changes, Structure | None], Iterator[Item]]
    read: Callable[[Sequence[Hashable]], Mapping[Hashable, Array]]
    sizes: Mapping[Hashable, int]
    other_paths: Mapping[Path, Path]
    shapes: Mapping[Hashable, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    read_part: Callable[[Hashable, Box], Array] | None = None
    at_once: int = AT_ONCE


# Any: whatever somebody reads from.
@contextlib.contextmanager
def opened(source: Any, task: str) -> Generator[Source]:
    """A source; it is open within the block.

    Raises:
        CheckpointError: It is none, or holds what is no array; names all.
    """
    if isinstance(source, (str, os.PathLike)):
        with _opened_path(absolute(source), task) as result:
            yield result
        return
    live = live_arrays(source)
    if live is not None:
        yield _named(live.arrays, live.aliases, task)
    elif isinstance(source, Mapping):
        yield _named(source, {}, task)
    else:
        what = f"expected a path, arrays by name, or a live module; found {describe(source)}"
        raise CheckpointError(task, [what])


@contextlib.contextmanager
def _opened_path(path: str, task: str) -> Generator[Source]:
    """For `opened`: a file, or a checkpoint."""
    read = READERS.get(suffix_of(path, READERS) or _suffix_in(path))
    if read is not None:
        with read(path, task) as arrays:
            yield _named(arrays, {}, task)
        return
    if os.path.isfile(path):
        what = f"it is a file of none of the formats {', '.join(READERS)}"
        hint = "let the library that wrote it read the arrays, and pass them by name"
        raise CheckpointError(task, [Fault(what, hint=hint)])
    directory = located(path, task)
    if _is_ours(directory):
        yield _of_checkpoint(directory, task)
    else:
        yield _of_orbax(directory, task)


def _suffix_in(path: str) -> str:
    """For `_opened_path`: the suffix of the files in a directory, if it is of several files."""
    names = os.listdir(path) if os.path.isdir(path) else []
    found = (s for s in DIRECTORIES if any(name.endswith(s) for name in names))
    return next(found, "")


# Any: what is found by the suffix.
def suffix_of(path: str, formats: Mapping[str, Any]) -> str:
    """The suffix of a path by which one of some formats is known; empty for others."""
    return next((suffix for suffix in formats if path.endswith(suffix)), "")


def _named(arrays: Mapping[Any, Any], aliases: Mapping[str, str], task: str) -> Source:
    """For `opened`: arrays by name."""
    rows: list[tuple[Path, Hashable, Value]] = []
    sizes: dict[Hashable, int] = {}
    faults: list[Fault] = []
    paths: dict[Path, str] = {}
    for name, array in arrays.items():
        try:
            leaf = _description(array)
        except UnsavableError as error:
            faults.append(Fault(str(error), path=str(name)))
            continue
        path = _path_of(name)
        if path in paths:
            faults.append(Fault(f"{paths[path]!r} and {name!r} are one path"))
        paths[path] = name
        rows.append((path, name, Value(LEAF, [()], [leaf])))
        sizes[name] = bytes_of(leaf)
    if faults:
        raise CheckpointError(task, faults)
    others = {
        path_of_name(name): path_of_name(first) for name, first in aliases.items()
    }

    def read(keys: Sequence[Hashable]) -> dict[Hashable, Array]:
        return {key: _values(arrays[key]) for key in keys}

    def read_part(key: Hashable, box: Box) -> Array:
        array = arrays[key]
        if isinstance(array, FileArray):
            return array[box]
        # JAX may not copy on the host: what somebody else holds might change later.
        return np.array(array[box], array.dtype.newbyteorder("="))

    shapes: dict[Hashable, tuple[int, ...]] = {
        name: tuple(array.shape)
        for name, array in arrays.items()
        if isinstance(array, (FileArray, jax.Array, np.ndarray))
    }
    items = functools.partial(_items, rows)
    return Source(items, read, sizes, others, shapes, read_part, at_once=0)


def _items(
    rows: Sequence[tuple[Path, Hashable, Value]],
    changes: Changes,
    target: Structure | None,
) -> Iterator[Item]:
    """What there is in a source of States alone, which is the same for all changes."""
    return state_items(rows)


# Any: keys of a mapping, which are checked nowhere.
def _path_of(name: Any) -> Path:
    """For `_named`: what an array is called, as a path."""
    if isinstance(name, str):
        return path_of_name(name)
    return name if isinstance(name, tuple) else (name,)


def _description(array: Any) -> Leaf:
    """For `_named`: the description of an array.

    Raises:
        UnsavableError: It is none.
    """
    if is_tensor(array):
        try:
            array = from_torch(array)
        except (TypeError, RuntimeError) as error:
            what = " ".join(str(error).split())
            raise UnsavableError(f"no array of NumPy: {what[:200]}") from error
    if not isinstance(array, (jax.Array, np.ndarray, np.generic)):
        shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
        if shape is None or dtype is None or not callable(getattr(array, "read", None)):
            return leaf_of(array)
        array = np.broadcast_to(np.zeros((), dtype), shape)
    leaf = leaf_of(array)
    return (
        dataclasses.replace(leaf, kind=ARRAY, weak=False)
        if leaf.kind == NUMPY
        else leaf
    )


def _values(array: Any) -> Array:
    """For `_named`: an array as one of NumPy, with bytes in the order of this machine: JAX takes no other."""
    values: Array
    if is_tensor(array):
        values = from_torch(array)
    elif isinstance(array, (jax.Array, np.ndarray, np.generic)):
        values = np.asarray(array)
    else:
        values = array.read()
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _is_ours(directory: str) -> bool:
    """For `opened`: whether graphnode has written a checkpoint."""
    try:
        with open(os.path.join(directory, METADATA_FILE), "rb") as stream:
            data = parse(stream.read())
    except (OSError, ValueError):
        return False
    own = data.get(METADATA_KEY) if isinstance(data, dict) else None
    return isinstance(own, dict) and OUR_KEY in own


def _of_checkpoint(directory: str, task: str) -> Source:
    """For `opened`: a checkpoint of graphnode."""
    manifest, identity = read_manifest(directory, task)
    arrays = {
        number: value
        for number, value in manifest.by_state.items()
        if value.form == LEAF and value.leaves[0].is_array
    }
    checkpoint = Checkpoint(directory, identity, as_numpy(manifest, arrays), task)
    sizes: dict[Hashable, int] = {
        number: bytes_of(value.leaves[0]) for number, value in arrays.items()
    }

    def read(keys: Sequence[Hashable]) -> dict[Hashable, Array]:
        wanted = [Wanted(key, [None]) for key in keys if isinstance(key, int)]
        return dict(zip(keys, checkpoint.read(wanted), strict=True))

    def items(changes: Changes, target: Structure | None) -> Iterator[Item]:
        return items_of(manifest, changes, target)

    return Source(items, read, sizes, other_paths(manifest.structure))


def _of_orbax(directory: str, task: str) -> Source:
    """For `opened`: a checkpoint that some other program has written by Orbax."""
    try:
        metadata = nested_metadata(directory)
    except ModuleNotFoundError:
        raise
    # Whatever the store raises: it is not a checkpoint.
    except Exception as error:
        text = " ".join(str(error).split())
        raise CheckpointError(task, [f"not a checkpoint: {text[:300]}"]) from error
    keys: dict[Hashable, tuple[Any, ...]] = {}
    rows: list[tuple[Path, Hashable, Value]] = []
    sizes: dict[Hashable, int] = {}
    for entries, leaf in jax.tree_util.tree_leaves_with_path(metadata):
        row = tuple(
            [getattr(entry, "key", getattr(entry, "idx", None)) for entry in entries]
        )
        path: Path = tuple([_as_key(key) for key in row])
        is_array = hasattr(leaf, "shape")
        description = _stored(leaf) if is_array else leaf_of(leaf)
        name = path_str(path)
        keys[name], sizes[name] = row, bytes_of(description)
        rows.append((path, name, Value(LEAF, [()], [description])))

    def read(names: Sequence[Hashable]) -> dict[Hashable, Array]:
        rows = [keys[name] for name in names]
        tree = read_nested(directory, metadata, rows) if rows else {}
        return {name: _at(tree, keys[name]) for name in names}

    return Source(functools.partial(_items, rows), read, sizes, {})


# Any: a shape and dtype, as the store describes it.
def _stored(leaf: Any) -> Leaf:
    """For `_of_orbax`: the description of an array."""
    return Leaf(ARRAY, tuple(leaf.shape), str(leaf.dtype))


def _as_key(key: Any) -> Key:
    """For `_of_orbax`: a key of a path; digits are a position, as the store has texts alone."""
    if isinstance(key, str) and key.isascii() and key.isdigit():
        return int(key)
    return key if isinstance(key, int) else str(key)


def _at(tree: Any, keys: Sequence[Any]) -> Array:
    """For `_of_orbax`: what is in a tree behind some keys."""
    for key in keys:
        tree = tree[key]
    return np.asarray(tree)
