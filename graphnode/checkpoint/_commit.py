"""Write what was read into a live tree: all of it, or nothing."""

import contextlib
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

from .._errors import CheckpointError, ContractError, Fault, FieldError, TraceError
from .._paths import path_str
from .._signals import store_all, undivided
from .._state import State, value_to_store
from ._tree import IteratorState, PlainValue, Tree


class Writes(NamedTuple):
    """What is left to be done when all was read and checked.

    Attributes:
        states: The States to be written.
        contents: What they get.
        iterators: Paths, data iterators, and the states that these get.
        new: The new arrays and numbers of the tree itself, by the id of their wrappers.
    """

    states: list[State[Any]]
    contents: list[Any]
    iterators: list[tuple[str, Any, Any]]
    new: dict[int, Any]


def prepared(
    live: Tree, places: Sequence[int], values: Sequence[Any], task: str
) -> Writes:
    """All values as they will be written.

    Args:
        live: The tree.
        places: The position of each State that gets a value.
        values: These.
        task: What an error begins with.

    Raises:
        CheckpointError: A State refuses its value; names all.
    """
    writes = Writes([], [], [], {})
    faults: list[Fault] = []
    for at, value in zip(places, values, strict=True):
        state, path = live.states[at], path_str(live.layout.path(at))
        if isinstance(state, IteratorState):
            writes.iterators.append((path, state.value.content, value))
        elif isinstance(state, PlainValue):
            writes.new[id(state)] = value
        else:
            try:
                content = value_to_store(state, value, lambda: path)  # noqa: B023  # called at once
                writes.contents.append(content)
                writes.states.append(state)
            except (FieldError, ContractError, TraceError) as error:
                faults.append(Fault(str(error), path=path))
    if faults:
        raise CheckpointError(task, faults)
    return writes


@contextlib.contextmanager
def moved_back_on_error() -> Generator[list[tuple[Any, Any]]]:
    """Data iterators that may have moved, with where they were: at an error they go back there."""
    moved: list[tuple[Any, Any]] = []
    try:
        yield moved
    # Ctrl-C too, and what has failed in another process.
    except BaseException:
        for iterator, earlier in moved:
            # The one that has refused may do so again.
            with contextlib.suppress(Exception):
                iterator.set_state(earlier)
        raise


def move(
    iterators: Sequence[tuple[str, Any, Any]], moved: list[tuple[Any, Any]], task: str
) -> None:
    """Move each data iterator.

    Args:
        iterators: Paths, iterators, and where these go.
        moved: Gets the iterators that may have moved, and where they were.
        task: What an error begins with.

    Raises:
        CheckpointError: One refuses.
    """
    for path, iterator, state in iterators:
        try:
            moved.append((iterator, iterator.get_state()))
            iterator.set_state(state)
        # Whatever the iterator raises.
        except Exception as error:
            text = (
                f"{type(iterator).__name__} refuses the state that was saved: {error}"
            )
            raise CheckpointError(task, [Fault(text, path=path)]) from error


def commit(writes: Writes, moved: list[tuple[Any, Any]]) -> None:
    """Write all States at once; from then on, data iterators stay where they are.

    Args:
        writes: What is written.
        moved: The iterators that have moved.
    """

    def store() -> None:
        store_all(writes.states, writes.contents)
        moved.clear()

    undivided(store)
