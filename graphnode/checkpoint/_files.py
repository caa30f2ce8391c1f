"""The directory of a checkpoint: where it is, its manifest, and how it takes the place of another one.

    save(..., overwrite=True)     1. runs/3.graphnode-new          is written, and complete
                                  2. runs/3  ->  runs/3.graphnode-old
                                  3. runs/3.graphnode-new  ->  runs/3
                                  4. runs/3.graphnode-old          is deleted

There is no moment without a complete checkpoint: a process that is killed between 2 and 3
leaves the old one, which is read as long as nothing is at `runs/3`.
"""

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Generator
from typing import Any, Final

from .._errors import CheckpointError
from ._manifest import Manifest, ManifestFaultError, manifest_of, parse
from ._orbax import METADATA_FILE, METADATA_KEY

OUR_KEY: Final = "graphnode"
"""The key of the manifest in the metadata of the store."""

_CHECKSUM_KEY: Final = "crc32"
_MAX_BYTES: Final = 2**30
_NEW: Final = ".graphnode-new"
_OLD: Final = ".graphnode-old"


def absolute(path: "str | os.PathLike[str]") -> str:
    """A path as the store takes it."""
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


def located(path: str, task: str) -> str:
    """The directory to read: that at a path, or the one that a killed overwrite has put aside.

    Raises:
        CheckpointError: There is no directory.
    """
    # The path twice: an overwrite may have come between the two looks.
    for candidate in (path, path + _OLD, path):
        if os.path.isdir(candidate):
            return candidate
    what = "it is a file" if os.path.exists(path) else "it does not exist"
    raise CheckpointError(task, [f"not a checkpoint: {what}"])


def read_manifest(directory: str, task: str) -> tuple[Manifest, object]:
    """The manifest of a checkpoint, and what identifies the file that it is from.

    Raises:
        CheckpointError: The directory is no checkpoint, or not one of graphnode.
    """
    file = os.path.join(directory, METADATA_FILE)
    try:
        with open(file, "rb") as stream:
            identity = _identity_of(os.fstat(stream.fileno()))
            content = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise CheckpointError(
            task, [f"not a checkpoint: it has no file {METADATA_FILE}"]
        ) from None
    except OSError as error:
        raise CheckpointError(
            task, [f"cannot read {METADATA_FILE}: {error.strerror}"]
        ) from None
    try:
        if len(content) > _MAX_BYTES:
            raise ManifestFaultError(f"it has more than {_MAX_BYTES:,} bytes")
        data = parse(content)
        own = data.get(METADATA_KEY) if isinstance(data, dict) else None
        if not isinstance(own, dict) or OUR_KEY not in own:
            raise ManifestFaultError(
                "it has no manifest of graphnode: something else has written the checkpoint"
            )
        if own.get(_CHECKSUM_KEY) != _checksum_of(own[OUR_KEY]):
            raise ManifestFaultError(
                "the manifest is not the one that was saved: the file is damaged"
            )
        return manifest_of(own[OUR_KEY]), identity
    except ManifestFaultError as error:
        raise CheckpointError(task, [f"{METADATA_FILE}: {error}"]) from None


def check_unchanged(directory: str, identity: object, task: str) -> None:
    """Raise if the checkpoint was replaced since its manifest was read: its arrays would be of another one.

    Raises:
        CheckpointError: It was.
    """
    now: object = None
    with contextlib.suppress(OSError):
        now = _identity_of(os.stat(os.path.join(directory, METADATA_FILE)))
    if now != identity:
        raise CheckpointError(
            task, ["it was replaced while it was read; read it again"]
        )


def _identity_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells a file from another one that has taken its place."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


@contextlib.contextmanager
def written(path: str, task: str, *, overwrite: bool) -> Generator[str]:
    """The directory to write to; when the block is over, it is at `path`, and what was there is gone.

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
    if exists and not os.path.isfile(os.path.join(path, METADATA_FILE)):
        raise CheckpointError(
            task, ["it is not a checkpoint, and is not replaced; delete it first"]
        )
    target = path + _NEW if exists else path
    try:
        _make_folder(os.path.dirname(path))
        yield target
        if exists:
            _move(path, path + _OLD)
            _move(target, path)
            shutil.rmtree(path + _OLD, ignore_errors=True)
    except OSError as error:
        where = error.filename or path
        raise CheckpointError(
            task, [f"cannot write {where}: {error.strerror or error}"]
        ) from error
    finally:
        if exists:
            shutil.rmtree(path + _NEW, ignore_errors=True)


def _make_folder(folder: str) -> None:
    """For `written`: the directory that is written into; raises if that cannot be done.

    Asked first, as the store leaves half of its work behind when it fails.
    """
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def _move(source: str, target: str) -> None:
    """For `written`: one step of an overwrite."""
    os.rename(source, target)


def _tidy(path: str) -> None:
    """For `written`: put back, or delete, what a killed overwrite has left."""
    with contextlib.suppress(OSError):
        if os.path.isdir(path + _OLD):
            if os.path.lexists(path):
                shutil.rmtree(path + _OLD)
            else:
                os.rename(path + _OLD, path)
        # The store writes into a directory whose name begins like that.
        folder, name = os.path.split(path + _NEW)
        for entry in os.listdir(folder):
            if entry.startswith(name):
                shutil.rmtree(os.path.join(folder, entry))


# Any: JSON.
def metadata_of(manifest: Any) -> dict[str, Any]:
    """The metadata of the store that hold the JSON of a manifest, and its checksum."""
    return {OUR_KEY: manifest, _CHECKSUM_KEY: _checksum_of(manifest)}


def _checksum_of(manifest: Any) -> int:
    """The CRC-32 of a manifest: a flipped bit may turn a number into another one, and leave all else as it is."""
    # As a text that is the same whatever the order of keys in the file.
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return zlib.crc32(text.encode())
