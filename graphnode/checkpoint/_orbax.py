"""The store of arrays: the only module that knows Orbax, whose names still move.

What it is given, and gives back, is arrays by name. Orbax takes a second to import, and is
imported when a checkpoint is written or its arrays are read.
"""

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

import jax
import numpy as np

METADATA_FILE: Final = "_CHECKPOINT_METADATA"
"""The file of a checkpoint that has the manifest: JSON, under these two keys."""
METADATA_KEY: Final = "custom_metadata"
UNFINISHED: Final = ".orbax-checkpoint-tmp"
"""What follows the name of a directory while it is written."""

# What pip calls the version that has the names below.
_NEEDED: Final = "orbax-checkpoint 0.12.0 or newer"

_READ_BYTES: Final = 2**27

# Orbax refuses a checkpoint without arrays.
_NO_ARRAYS: Final = {"": np.zeros(1, np.uint8)}


# Any: a module that type checkers may not find.
def _imported_orbax() -> Any:
    """`orbax.checkpoint.v1`.

    Raises:
        ModuleNotFoundError: It is not installed, or too old; says how to install it.
    """
    try:
        orbax: Any = importlib.import_module("orbax.checkpoint")
        # Not a module of that name: the package gives another one of its modules by it.
        return orbax.v1
    except (ModuleNotFoundError, AttributeError) as error:
        name = error.name if isinstance(error, ModuleNotFoundError) else _NEEDED
        text = f"gn.checkpoint needs {name}, which is not installed: pip install 'graphnode[checkpoint]'"
        raise ModuleNotFoundError(text, name=name) from error


def write(path: str, arrays: Mapping[str, Any], metadata: Any) -> None:
    """Write arrays by name into a new directory, which appears when it is complete.

    Args:
        path: The directory; an absolute path.
        arrays: Arrays of JAX or NumPy, none without items.
        metadata: JSON that goes with them.

    Raises:
        OSError: The file system refuses, or whatever else the store finds.
    """
    orbax = _imported_orbax()
    with _writing(path):
        orbax.save(path, dict(arrays) or _NO_ARRAYS, custom_metadata=metadata)


@contextlib.contextmanager
def _writing(path: str) -> Generator[None]:
    """What the store raises while it writes to a directory, as an `OSError`."""
    try:
        with _quiet():
            yield
    except OSError:
        raise
    # The store raises any class; of the system's errors it gives the number in the text.
    except Exception as error:
        text = " ".join(str(error).split())
        number = re.search(r"os_error_code='(\d+)'", text)
        if number is None:
            raise OSError(text[:300]) from error
        code = int(number[1])
        raise OSError(code, os.strerror(code), path) from error


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without what threads of the store log of an error, page by page, before it is raised."""
    logger = logging.getLogger("absl")
    logger.addFilter(_is_no_echo)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_echo)


def _is_no_echo(record: logging.LogRecord) -> bool:
    """For `_quiet`: whether a record of the log says more than an error that is raised."""
    return "raised an exception" not in record.msg


def read(
    path: str,
    wanted: Mapping[str, "jax.ShapeDtypeStruct | np.ndarray[Any, np.dtype[Any]]"],
) -> dict[str, Any]:
    """Read some arrays by name.

    Args:
        path: The directory; an absolute path.
        wanted: For each array its shape and dtype: with a sharding, for an array of
            JAX that is laid out so; or as an array of NumPy, for one of NumPy.
    """
    if not wanted:
        return {}
    orbax = _imported_orbax()
    context = orbax.Context()
    # All that is wanted is there, which the manifest says; others are left out.
    context.pytree.loading.partial_load = True
    # Beside the arrays themselves, so much memory is taken at once.
    context.memory.read_concurrent_bytes = _READ_BYTES
    # Each process reads by itself: one that fails would leave the others waiting for it.
    process = jax.process_index()
    context.multiprocessing.primary_host = process
    context.multiprocessing.active_processes = {process}
    context.multiprocessing.barrier_sync_key_prefix = f"graphnode-{process}"
    with context:
        arrays: dict[str, Any] = orbax.load(path, dict(wanted))
    return arrays


def wanted_numpy(
    shape: tuple[int, ...], dtype: "np.dtype[Any]"
) -> "np.ndarray[Any, np.dtype[Any]]":
    """What `read` takes for an array of NumPy: one of the same shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


# Any: of each array the shape and dtype as the store has them, else a number or text.
def nested_metadata(path: str) -> Any:
    """What a checkpoint that some other program has written holds: a tree of what has shape and dtype, and of numbers.

    Raises:
        ModuleNotFoundError: Orbax is not installed.
    """
    return _imported_orbax().metadata(path).metadata


def read_nested(path: str, metadata: Any, wanted: Sequence[Sequence[Any]]) -> Any:
    """Some arrays of such a checkpoint, as arrays of NumPy in a tree of the same form, with `None` for others in lists.

    Args:
        path: The directory; an absolute path.
        metadata: What `nested_metadata` gave.
        wanted: The keys that lead to each.
    """
    orbax = _imported_orbax()
    context = orbax.Context()
    context.pytree.loading.partial_load = True
    with context:
        return orbax.load(path, _part(metadata, wanted, 0))


def _part(metadata: Any, wanted: Sequence[Sequence[Any]], depth: int) -> Any:
    """For `read_nested`: what the store is asked for, by recursion."""
    if any(len(keys) == depth for keys in wanted):
        return wanted_numpy(metadata.shape, metadata.dtype)
    below: dict[Any, list[Sequence[Any]]] = {}
    for keys in wanted:
        below.setdefault(keys[depth], []).append(keys)
    if isinstance(metadata, Mapping):
        return {
            key: _part(metadata[key], rows, depth + 1) for key, rows in below.items()
        }
    # A place in a list counts: what is not wanted is `None`.
    return [
        _part(item, below[at], depth + 1) if at in below else None
        for at, item in enumerate(metadata)
    ]


class Steps:
    """The checkpoints of a run in one directory, each in a subdirectory named by its step.

    Args:
        directory: An absolute path.
        keep: How many of the last ones stay; `None` for all.
        best: The name of a metric: that with the best value stays, too.
        is_largest_best: Whether a larger value is better.
    """

    def __init__(
        self, directory: str, keep: int | None, best: str | None, is_largest_best: bool
    ) -> None:
        training = _imported_orbax().training
        policies = training.preservation_policies
        policy: Any = policies.PreserveAll() if keep is None else policies.LatestN(keep)
        if keep is not None and best is not None:
            # Of those in order, the last one stays.
            by_metric = policies.BestN(
                get_metric_fn=lambda metrics: metrics[best],
                reverse=not is_largest_best,
                n=1,
                keep_checkpoints_without_metrics=False,
            )
            policy = policies.AnyPreservationPolicy([policy, by_metric])
        self._directory = directory
        self._checkpointer: Any = training.Checkpointer(
            directory, preservation_policy=policy, cleanup_tmp_directories=True
        )

    @property
    def steps(self) -> list[int]:
        """The steps whose checkpoints are complete, or are being written; ascending."""
        return [int(found.step) for found in self._checkpointer.checkpoints]

    # Any: JSON.
    def write(
        self, step: int, arrays: Mapping[str, Any], metadata: Any, metrics: Any
    ) -> None:
        """Write arrays by name in the background, when what was begun before is done.

        Raises:
            OSError: The file system refuses, or whatever else the store finds; also of
                what was begun before.
        """
        with _writing(self._directory):
            self._checkpointer.save_async(
                step,
                dict(arrays) or _NO_ARRAYS,
                force=True,
                custom_metadata=metadata,
                metrics=metrics,
            )

    def wait(self) -> None:
        """Return when nothing is being written any more; raises what has gone wrong, as `write` does."""
        with _writing(self._directory):
            self._checkpointer.wait()

    def close(self) -> None:
        """Wait, and give back what the directory needs."""
        with _writing(self._directory):
            self._checkpointer.close()
