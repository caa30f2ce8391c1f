"""Open safetensors files: one, or several with or without an index; their arrays are read when they are asked for.

    with open_safetensors("model.safetensors.index.json") as arrays:
        arrays["head.weight"].shape             the headers are read and checked, and no array
        arrays["head.weight"][:10]              reads ten rows
        arrays["head.weight"].to_jax(sharding)  each device gets its part, and no more is in memory

Writing is in `_safetensors_write`, and what a header may say in `_safetensors_header`.
"""

import dataclasses
import io
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .._errors import CheckpointError, Fault
from ._aside import OLD
from ._boxes import Bytes, Index, on_devices, read_box
from ._safetensors_header import (
    LENGTH_BYTES,
    MAX_HEADER,
    Entry,
    Header,
    HeaderFaultsError,
    header_size,
    parse_header,
    parse_object,
    shown,
)

SUFFIX: Final = ".safetensors"
INDEX_SUFFIX: Final = ".safetensors.index.json"


class _File:
    """An open file with arrays."""

    def __init__(self, path: str, stream: io.FileIO) -> None:
        self.path = path
        self._stream = stream
        # Position and read are two calls, and a mesh may be filled by several threads.
        self._lock = threading.Lock()

    def read_into(self, target: Bytes, start: int) -> None:
        """Fill a row of bytes with those of the file from a position on.

        Raises:
            CheckpointError: The file is closed or shorter than it was, or the disk fails.
        """
        task = f"cannot read {self.path}"
        view = target.data
        with self._lock:
            if self._stream.closed:
                raise CheckpointError(task, ["it is closed"])
            try:
                self._stream.seek(start)
                # One call reads at most 2 GB.
                while view:
                    size = self._stream.readinto(view)
                    if not size:
                        raise CheckpointError(task, ["it has become shorter"])
                    view = view[size:]
            except OSError as error:
                raise CheckpointError(task, [error.strerror or str(error)]) from error


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FileArray:
    """An array in a file: its shape and dtype are known, and its values are read when they are asked for.

    Attributes:
        name: In the file.
        dtype: As NumPy has it.
        shape: Sizes of its axes.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    _file: _File = dataclasses.field(repr=False)
    _start: int = dataclasses.field(repr=False)

    def read(self, index: Index = ...) -> "np.ndarray[Any, np.dtype[Any]]":
        """A part of the array, or all of it, in memory of its own.

        Args:
            index: Integers, slices and one `...`, as NumPy takes them.

        Raises:
            CheckpointError: The file cannot be read any more, or holds what is not of the
                dtype.
            IndexError: The array has no such part.
            TypeError: The index is something else, such as an array.
        """
        part = read_box(
            self.dtype, self.shape, self._start, index, self._file.read_into
        )
        # NumPy trusts its booleans to be 0 or 1: others are equal to neither.
        if self.dtype == np.bool_ and part.size and part.view(np.uint8).max() > 1:
            what = "a BOOL has the bytes 0 and 1, and it has others"
            raise CheckpointError(
                f"cannot read {self._file.path}", [Fault(what, path=shown(self.name))]
            )
        return part

    __getitem__ = read

    def to_jax(self, sharding: Sharding | None = None) -> jax.Array:
        """The array on a device, or on the devices of a sharding, each of which gets its part from the file.

        Raises:
            CheckpointError: As for `read`; or JAX has no such dtype as it is configured.
        """
        usable = jax.dtypes.canonicalize_dtype(self.dtype)
        if usable != self.dtype:
            what = f"JAX would turn {self.dtype} into {usable}: enable jax_enable_x64"
            raise CheckpointError(
                f"cannot read {self._file.path}", [Fault(what, path=shown(self.name))]
            )
        if sharding is None:
            return jnp.asarray(self.read())
        return on_devices(self.shape, self.dtype, sharding, self.read)


class Safetensors(Mapping[str, FileArray]):
    """The arrays of open safetensors files, by name.

    Attributes:
        metadata: What the program that wrote the files has added: of several files, what
            the first that has a key says.
    """

    def __init__(
        self,
        arrays: Mapping[str, FileArray],
        metadata: Mapping[str, str],
        files: ExitStack,
    ) -> None:
        self.metadata = metadata
        self._arrays = arrays
        self._files = files

    def __getitem__(self, name: str) -> FileArray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def close(self) -> None:
        """Close the files: what has been read stays, and nothing more is read."""
        self._files.close()

    def __enter__(self) -> "Safetensors":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_safetensors(path: "str | os.PathLike[str]") -> Safetensors:
    """Open the arrays of a file, of an index and the files that it names, or of all files in a directory.

    The headers are read and checked, and no array. The files stay open until `close`, or
    the end of a `with` block.

    Args:
        path: A file; an index, whose name ends with `.json`; or a directory with an index,
            or with files `*.safetensors`.

    Raises:
        CheckpointError: There is nothing to read, or not what is said of it; lists all
            files that are wrong.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    task = f"cannot read {path}"
    # A process that was killed as it replaced a directory has left the old one.
    if not os.path.lexists(path) and os.path.isdir(path + OLD):
        path += OLD
    with ExitStack() as files:
        try:
            headers, directory = _open_all(path, files)
        except HeaderFaultsError as error:
            raise CheckpointError(task, error.faults) from None
        arrays: dict[str, FileArray] = {}
        metadata: dict[str, str] = {}
        faults: list[Fault] = []
        for file, start, header in headers:
            metadata = {**header.metadata, **metadata}
            for name, entry in header.entries.items():
                if name in arrays:
                    first = _short(arrays[name]._file.path, directory)
                    what = f"both {first} and {_short(file.path, directory)} have it"
                    faults.append(Fault(what, path=shown(name)))
                arrays[name] = _array(name, entry, file, start)
        if faults:
            raise CheckpointError(task, faults)
        return Safetensors(arrays, metadata, files.pop_all())


def _array(name: str, entry: Entry, file: _File, start: int) -> FileArray:
    """For `open_safetensors`: an array of a file whose arrays begin at `start`."""
    return FileArray(name, entry.dtype, entry.shape, file, start + entry.start)


def _open_all(
    path: str, files: ExitStack
) -> tuple[list[tuple[_File, int, Header]], str]:
    """For `open_safetensors`: each file with the start of its arrays and its header, and the directory of all.

    Raises:
        HeaderFaultsError: Some file cannot be read; lists all.
    """
    weight_map: dict[str, str] | None = None
    if os.path.isdir(path):
        directory, names = path, sorted(os.listdir(path))
        indices = [name for name in names if name.endswith(INDEX_SUFFIX)]
        if len(indices) > 1:
            raise HeaderFaultsError(
                [f"it has the indices {', '.join(indices)}: give one of them"]
            )
        if indices:
            weight_map = _read_index(os.path.join(path, indices[0]))
        else:
            names = [name for name in names if name.endswith(SUFFIX)]
            if not names:
                raise HeaderFaultsError([f"it has no file *{SUFFIX}"])
    elif path.endswith(".json"):
        directory, names = os.path.dirname(path), []
        weight_map = _read_index(path)
    else:
        return [_open(path, files)], os.path.dirname(path)
    if weight_map is not None:
        names = sorted(set(weight_map.values()))
    headers: list[tuple[_File, int, Header]] = []
    faults: list[Fault] = []
    for name in names:
        try:
            headers.append(_open(_within(directory, name), files))
        except HeaderFaultsError as error:
            for fault in error.faults:
                text = str(fault)
                faults.append(Fault(text, path=shown(name)))
    if not faults and weight_map is not None:
        faults = _index_faults(weight_map, headers, directory)
    if faults:
        raise HeaderFaultsError(faults)
    return headers, directory


def _read_index(path: str) -> dict[str, str]:
    """For `_open_all`: the file of each array, as an index says.

    Raises:
        HeaderFaultsError: It is not an index.
    """
    with _opened(path) as stream:
        if os.fstat(stream.fileno()).st_size > MAX_HEADER:
            raise HeaderFaultsError([f"the index has more than {MAX_HEADER:,} bytes"])
        content = stream.read()
    weight_map = parse_object(content, "the index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise HeaderFaultsError(
            ["the index has no weight_map of the names of arrays to files"]
        )
    for name, file in weight_map.items():
        if not isinstance(file, str):
            raise HeaderFaultsError(
                [Fault("weight_map gives it no file", path=shown(name))]
            )
    return dict(weight_map)


def _index_faults(
    weight_map: Mapping[str, str],
    headers: Sequence[tuple[_File, int, Header]],
    directory: str,
) -> list[Fault]:
    """For `_open_all`: where an index and its files say different things."""
    found = {_short(file.path, directory): header for file, _, header in headers}
    faults: list[Fault] = []
    for name, file in weight_map.items():
        if name not in found[os.path.normpath(file)].entries:
            what = f"the index has it in {shown(file)}, which does not have it"
            faults.append(Fault(what, path=shown(name)))
    for file, header in found.items():
        for name in header.entries:
            if os.path.normpath(weight_map.get(name, "")) != file:
                what = f"{shown(file)} has it, and the index does not say so"
                faults.append(Fault(what, path=shown(name)))
    return faults


def _short(path: str, directory: str) -> str:
    """A path as seen from a directory."""
    return os.path.relpath(path, directory)


def _within(directory: str, name: str) -> str:
    """For `_open_all`: the path of a file that an index names, or that is in a directory.

    Raises:
        HeaderFaultsError: It leads out of the directory.
    """
    path = os.path.join(directory, name)
    if (
        "\0" in name
        or os.path.isabs(name)
        or ".." in name.replace("\\", "/").split("/")
    ):
        raise HeaderFaultsError(["it does not lie in the directory"])
    root = os.path.realpath(directory)
    roots = [root]
    # The cache of Hugging Face has links: snapshots/abc/model.safetensors -> ../../blobs/123
    parent = os.path.dirname(root)
    if os.path.basename(parent) == "snapshots":
        roots.append(os.path.join(os.path.dirname(parent), "blobs"))
    real = os.path.realpath(path)
    if not any(real.startswith(os.path.join(place, "")) for place in roots):
        raise HeaderFaultsError(["it is a link that leads out of the directory"])
    return os.path.normpath(path)


def _open(path: str, files: ExitStack) -> tuple[_File, int, Header]:
    """For `_open_all`: an open file, where its arrays begin, and its header.

    Raises:
        HeaderFaultsError: It cannot be read, or its header is wrong.
    """
    stream = files.enter_context(_opened(path))
    try:
        file_size = os.fstat(stream.fileno()).st_size
        size = header_size(stream.read(LENGTH_BYTES), file_size)
        content = stream.read(size)
    except OSError as error:
        raise HeaderFaultsError([error.strerror or str(error)]) from error
    start = LENGTH_BYTES + size
    return _File(path, stream), start, parse_header(content, file_size - start)


def _opened(path: str) -> io.FileIO:
    """For `_open`: a file that is open for reading.

    Raises:
        HeaderFaultsError: There is none.
    """
    try:
        # Asked first: to open a pipe would wait for who writes to it.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise HeaderFaultsError(["it is not a file"])
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise HeaderFaultsError([error.strerror or str(error)]) from error
