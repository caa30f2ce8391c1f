"""Files of NumPy (`.npz`): their arrays by name, described without being read; and written one after the other."""

import contextlib
import os
import zipfile
from collections.abc import Generator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from .._errors import CheckpointError, Fault

_SUFFIX: Final = ".npy"
_NEW: Final = ".graphnode-new"


class NpzArray(NamedTuple):
    """An array in a file, which is read when it is asked for."""

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"
    file: zipfile.ZipFile
    member: str

    def read(self) -> "np.ndarray[Any, np.dtype[Any]]":
        """Its values."""
        with self.file.open(self.member) as stream:
            array: np.ndarray[Any, np.dtype[Any]] = np.lib.format.read_array(
                stream, allow_pickle=False
            )
        return array


@contextlib.contextmanager
def opened_npz(path: str, task: str) -> Generator[dict[str, NpzArray]]:
    """The arrays of a file by name; it is open within the block.

    Raises:
        CheckpointError: It is no such file.
    """
    try:
        file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(task, [f"not a file of NumPy: {error}"]) from None
    with file:
        arrays: dict[str, NpzArray] = {}
        faults: list[Fault] = []
        for member in file.namelist():
            name = member.removesuffix(_SUFFIX)
            try:
                shape, dtype = _header(file, member)
                arrays[name] = NpzArray(shape, dtype, file, member)
            except (ValueError, OSError, zipfile.BadZipFile) as error:
                what = " ".join(str(error).split())
                faults.append(Fault(f"not an array: {what[:100]}", path=name))
        if faults:
            raise CheckpointError(task, faults)
        yield arrays


def _header(
    file: zipfile.ZipFile, member: str
) -> "tuple[tuple[int, ...], np.dtype[Any]]":
    """For `opened_npz`: the shape and dtype of an array."""
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(stream)
    return tuple(shape), dtype


# Any: what has shape, dtype and `read`.
def write_npz(
    path: str,
    arrays: Mapping[str, Any],
    *,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write arrays to a file of NumPy, which is complete or not there.

    Args:
        path: The file.
        arrays: By name; each is read when it is its turn.
        metadata: There is no place for them: they are left out.
        overwrite: Whether what is at `path` is replaced.

    Raises:
        CheckpointError: A dtype has no place in such a file, or something is there.
    """
    task = f"cannot write {path}"
    faults = [
        Fault(f"a file of NumPy has no {array.dtype}", path=name, hint=_HINT)
        for name, array in arrays.items()
        if np.dtype(array.dtype).kind == "V"
        or np.dtype(np.dtype(array.dtype).str) != array.dtype
    ]
    if os.path.lexists(path) and not overwrite:
        faults.append(Fault("it exists already; pass overwrite=True to replace it"))
    if faults:
        raise CheckpointError(task, faults)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with zipfile.ZipFile(path + _NEW, "w") as file:
            for name, array in arrays.items():
                with file.open(name + _SUFFIX, "w", force_zip64=True) as stream:
                    values = np.asanyarray(array.read())
                    np.lib.format.write_array(stream, values, allow_pickle=False)
        os.replace(path + _NEW, path)
    except OSError as error:
        raise CheckpointError(task, [error.strerror or str(error)]) from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(path + _NEW)


_HINT: Final = "Cast it, or write another format"
