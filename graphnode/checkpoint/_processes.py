"""Several processes that save or restore one checkpoint together: all of them, with the errors of checkpoints."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from .._errors import CheckpointError, Fault
from .._processes import Difference, Group, process_name

T = TypeVar("T")


def _all(task: str) -> Group:
    """All processes.

    Args:
        task: What an error begins with.
    """
    return Group(
        None,
        lambda faults: CheckpointError(task, faults),
        "it does not save or restore with the others",
    )


def are_several() -> bool:
    """Whether there are other processes to agree with."""
    return _all("").is_several


def is_first() -> bool:
    """Whether this is the process that creates, renames and deletes directories."""
    return _all("").is_first


def together(task: str) -> AbstractContextManager[None]:
    """A block that all processes run: if it raises in one, it raises in all, with the faults of that one."""
    return _all(task).together()


def by_first(work: Callable[[], T], task: str) -> T:
    """What the first process gets when it does something, which no other one does; JSON.

    Raises:
        CheckpointError: The first process has failed.
    """
    return _all(task).by_first(work)


def in_any(flag: bool, task: str) -> bool:
    """Whether something holds in one of the processes at least.

    Raises:
        CheckpointError: A process does not come to this step.
    """
    return _all(task).in_any(flag)


def check_same(describe: Callable[[], Sequence[tuple[str, str]]], task: str) -> None:
    """Raise if what is to be saved is not the same in all processes: a checkpoint holds it once.

    Args:
        describe: Gives paths, each with the text of what is there.
        task: What an error begins with.

    Raises:
        CheckpointError: Names all paths at which they differ.
    """
    differences = _all(task).differences(describe)
    missing = [each for each in differences if None in each.processes]
    # Where parts are missing, the graphs differ in any case.
    faults = [_difference_fault(each) for each in missing or differences]
    if faults:
        raise CheckpointError(task, faults)


def _difference_fault(difference: Difference) -> Fault:
    """For `check_same`: what to say of one place."""
    path, processes = difference
    if None in processes:
        other = next(numbers for text, numbers in processes.items() if text is not None)
        names = process_name(other[0]), process_name(processes[None][0])
        return Fault(f"{names[0]} has it, {names[1]} has not", path=path)
    first, second, *_ = processes.values()
    what = f"{process_name(second[0])} has another one than {process_name(first[0])}"
    return Fault(what, path=path, hint=_ONE_FOR_ALL)


_ONE_FOR_ALL: Final = (
    "a checkpoint has one for all processes; "
    "an array that is laid out over the devices of all has parts of each"
)
