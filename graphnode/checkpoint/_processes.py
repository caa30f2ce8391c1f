"""Several processes, under `jax.distributed`, that save or restore one checkpoint together.

    process 0    compare: a fault    ─┐                     raise it
                                      ├─ told to each other
    process 1    compare: it fits    ─┘                     raise that process 0 has one

A process that went on alone would wait in the store for the others, until it gives up. They
talk by the texts that `jax.distributed` keeps, rather than by arrays: threads may do that,
whatever the devices do. A program of one process passes through all of it.
"""

import contextlib
import itertools
import json
import zlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar

import jax

from .._compat import coordinator
from .._errors import CheckpointError, Fault

T = TypeVar("T")

_TIMEOUT_MS: Final = 600_000
# All processes save and restore in the same order, so that these are the same in each.
_steps: Final = itertools.count()


def are_several() -> bool:
    """Whether there are other processes to agree with."""
    return jax.process_count() > 1 and coordinator() is not None


def is_first() -> bool:
    """Whether this is the process that creates, renames and deletes directories."""
    return not are_several() or jax.process_index() == 0


# Any: JSON.
def _exchange(message: Any, task: str) -> list[Any]:
    """What each process says at this step, in their order.

    Raises:
        CheckpointError: A process does not come to this step.
    """
    step, client = next(_steps), coordinator()
    own, count = jax.process_index(), jax.process_count()
    client.key_value_set(_key(step, own), json.dumps(message))
    messages: list[Any] = []
    for process in range(count):
        try:
            text = client.blocking_key_value_get(_key(step, process), _TIMEOUT_MS)
        except jax.errors.JaxRuntimeError as error:
            what = "it does not save or restore with the others"
            raise CheckpointError(
                task, [Fault(what, path=_process(process))]
            ) from error
        messages.append(json.loads(text))
    # Who has come to this step has read what was said at the one before.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        client.key_value_delete(_key(step - 1, own))
    return messages


def _key(step: int, process: int) -> str:
    """For `_exchange`: where a process puts what it says."""
    return f"graphnode/checkpoint/{step}/{process}"


def _process(number: int) -> str:
    """The name of a process in messages."""
    return f"process {number}"


@contextlib.contextmanager
def together(task: str) -> Generator[None]:
    """A block that all processes run: if it raises in one, it raises in all.

    Args:
        task: What an error of another process begins with.

    Raises:
        CheckpointError: The block has raised in another process; names its faults.
    """
    if not are_several():
        yield
        return
    raised: Exception | None = None
    try:
        yield
    except Exception as error:
        raised = error
    messages = _exchange(_texts_of(raised), task)
    if raised is not None:
        raise raised
    _raise_of_others(messages, task)


def _texts_of(error: Exception | None) -> list[str]:
    """The faults of an error, for other processes; none without an error."""
    if error is None:
        return []
    if isinstance(error, CheckpointError):
        return [str(fault) for fault in error.faults]
    return [f"{type(error).__name__}: {error}"]


def _raise_of_others(messages: Sequence[list[str]], task: str) -> None:
    """Raise if processes have faults: by their numbers."""
    faults = [
        Fault(text, path=_process(process))
        for process, texts in enumerate(messages)
        for text in texts
    ]
    if faults:
        raise CheckpointError(task, faults)


def by_first(work: Callable[[], T], task: str) -> T:
    """What the first process gets when it does something, which no other one does; JSON.

    Raises:
        CheckpointError: The first process has failed.
    """
    if not are_several():
        return work()
    raised: Exception | None = None
    result: Any = None
    if is_first():
        try:
            result = work()
        except Exception as error:
            raised = error
    texts, result = _exchange([_texts_of(raised), result], task)[0]
    if raised is not None:
        raise raised
    _raise_of_others([texts], task)
    returned: T = result
    return returned


def in_any(flag: bool, task: str) -> bool:
    """Whether something holds in one of the processes at least.

    Raises:
        CheckpointError: A process does not come to this step.
    """
    return any(_exchange(flag, task)) if are_several() else flag


def check_same(describe: Callable[[], Sequence[tuple[str, str]]], task: str) -> None:
    """Raise if what is to be saved is not the same in all processes: a checkpoint holds it once.

    Args:
        describe: Gives paths, each with the text of what is there.
        task: What an error begins with.

    Raises:
        CheckpointError: Names all paths at which they differ.
    """
    if not are_several():
        return
    rows = describe()
    checksums = [zlib.crc32(f"{path} {text}".encode()) for path, text in rows]
    total = zlib.crc32(repr(checksums).encode())
    if len(set(_exchange(total, task))) == 1:
        return
    first, *others = _exchange(checksums, task)
    faults: list[Fault] = []
    for process, other in enumerate(others, 1):
        if len(other) != len(first):
            what = f"it has another tree than {_process(0)}"
            faults.append(Fault(what, path=_process(process)))
            continue
        for at, pair in enumerate(zip(first, other, strict=True)):
            if pair[0] != pair[1]:
                path = rows[at][0] if at < len(rows) else ""
                what = f"{_process(process)} has another one than {_process(0)}"
                faults.append(Fault(what, path=path, hint=_ONE_FOR_ALL))
    raise CheckpointError(task, faults)


_ONE_FOR_ALL: Final = (
    "a checkpoint has one for all processes; "
    "an array that is laid out over the devices of all has parts of each"
)
