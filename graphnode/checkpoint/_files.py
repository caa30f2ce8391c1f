"""The directory of a checkpoint: where it is, its manifest, and how it takes the place of another one.

    save(..., overwrite=True)     1. runs/3.graphnode-new          is written, and complete
                                  2. runs/3  ->  runs/3.graphnode-old
                                  3. runs/3.graphnode-new  ->  runs/3
                                  4. runs/3.graphnode-old          is deleted

There is no moment without a complete checkpoint: a process that is killed between 2 and 3
leaves the old one, which is read as long as nothing is at `runs/3`.
"""

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Generator
from typing import Any, Final

from .._errors import CheckpointError
from ._aside import NEW, OLD, put_back
from ._manifest import Manifest, ManifestFaultError, manifest_of, parse
from ._orbax import METADATA_FILE, METADATA_KEY, UNFINISHED
from ._processes import by_first, is_first, together

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows
    fcntl = None  # type: ignore[assignment]

OUR_KEY: Final = "graphnode"
"""The key of the manifest in the metadata of the store."""

_CHECKSUM_KEY: Final = "crc32"
_MAX_BYTES: Final = 2**30
_LOCK: Final = ".graphnode-lock"


def absolute(path: "str | os.PathLike[str]") -> str:
    """A path as the store takes it."""
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


def located(path: str, task: str) -> str:
    """The directory to read: that at a path, or the one that a killed overwrite has put aside.

    Raises:
        CheckpointError: There is no directory.
    """
    # The path twice: an overwrite may have come between the two looks.
    for candidate in (path, path + OLD, path):
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

    Of several processes, the first one alone looks, renames and deletes.

    Raises:
        CheckpointError: Something is there, and is not to be replaced; another program
            is writing it; or the file system refuses.
    """
    with contextlib.ExitStack() as stack:

        def make_ready() -> bool:
            with refusals(path, task):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                # It tells a directory that cannot be written, too.
                stack.enter_context(_locked(path, task))
                _tidy(path)
                return _is_replaced(path, task, overwrite=overwrite)

        def replace() -> None:
            with refusals(path, task):
                _move(path, path + OLD)
                _move(target, path)
                shutil.rmtree(path + OLD, ignore_errors=True)

        exists = by_first(make_ready, task)
        target = path + NEW if exists else path
        try:
            with together(task), refusals(path, task):
                yield target
            if exists:
                by_first(replace, task)
        finally:
            if is_first():
                _delete_parts(path)


@contextlib.contextmanager
def refusals(path: str, task: str) -> Generator[None]:
    """For `written` and `Checkpointer`: what the file system refuses, as an error of ours."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise CheckpointError(
            task, [f"cannot write {where}: {error.strerror or error}"]
        ) from error


def _is_replaced(path: str, task: str, *, overwrite: bool) -> bool:
    """For `written`: whether a checkpoint is there, which is to be replaced; raises if what is there is not."""
    if not os.path.lexists(path):
        return False
    if not overwrite:
        raise CheckpointError(
            task, ["it exists already; pass overwrite=True to replace it"]
        )
    if not os.path.isfile(os.path.join(path, METADATA_FILE)):
        raise CheckpointError(
            task, ["it is not a checkpoint, and is not replaced; delete it first"]
        )
    return True


@contextlib.contextmanager
def _locked(path: str, task: str) -> Generator[None]:
    """For `written`: keep other programs from writing to the same path.

    Two of them would write into the same unfinished directory, and tidy up what the other
    one is about to complete. The lock goes with the process, however it ends.

    Raises:
        CheckpointError: Another program, or thread, is writing to it.
    """
    if fcntl is None:
        yield
        return
    while True:
        descriptor = os.open(path + _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CheckpointError(
                    task, ["another program is saving to it at this moment"]
                ) from None
            except OSError:
                # A file system without locks.
                yield
                return
            # Whoever had the lock before has deleted the file, perhaps after we opened it.
            if not _is_same_file(descriptor, path + _LOCK):
                continue
            try:
                yield
            finally:
                os.unlink(path + _LOCK)
            return
        finally:
            os.close(descriptor)


def _is_same_file(descriptor: int, path: str) -> bool:
    """For `_locked`: whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _move(source: str, target: str) -> None:
    """For `written`: one step of an overwrite."""
    os.rename(source, target)


def _tidy(path: str) -> None:
    """For `written`: put back, or delete, what a killed save has left."""
    put_back(path)
    _delete_parts(path)


def _delete_parts(path: str) -> None:
    """For `written`: delete directories that are not complete, and never will be."""
    folder, name = os.path.split(path)
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            # The store adds to the name that it is given.
            if entry.startswith((name + NEW, name + UNFINISHED)):
                shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)


# Any: JSON.
def metadata_of(manifest: Any) -> dict[str, Any]:
    """The metadata of the store that hold the JSON of a manifest, and its checksum."""
    return {OUR_KEY: manifest, _CHECKSUM_KEY: _checksum_of(manifest)}


def _checksum_of(manifest: Any) -> int:
    """The CRC-32 of a manifest: a flipped bit may turn a number into another one, and leave all else as it is."""
    # As a text that is the same whatever the order of keys in the file.
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return zlib.crc32(text.encode())
