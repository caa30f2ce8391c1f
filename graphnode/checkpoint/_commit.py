"""Write what was read into a live tree: all of it, or nothing."""

from collections.abc import Sequence
from typing import Any

from .._errors import CheckpointError, ContractError, Fault, FieldError, TraceError
from .._paths import path_str
from .._signals import store_all, undivided
from .._state import State, value_to_store
from ._tree import IteratorState, PlainValue, Tree


def commit(
    live: Tree, places: Sequence[int], values: Sequence[Any], task: str
) -> dict[int, Any]:
    """Write all values, or none.

    Args:
        live: The tree.
        places: The position of each State that gets a value.
        values: These.
        task: What an error begins with.

    Returns:
        The new arrays and numbers of the tree itself, by the id of their wrappers.

    Raises:
        CheckpointError: A State or a data iterator refuses its value; names all.
    """
    new: dict[int, Any] = {}
    states: list[State[Any]] = []
    contents: list[Any] = []
    iterators: list[tuple[str, Any, Any]] = []
    faults: list[Fault] = []
    for at, value in zip(places, values, strict=True):
        state, path = live.states[at], path_str(live.layout.path(at))
        if isinstance(state, IteratorState):
            iterators.append((path, state.value.content, value))
        elif isinstance(state, PlainValue):
            new[id(state)] = value
        else:
            try:
                contents.append(value_to_store(state, value, lambda: path))  # noqa: B023  # called at once
                states.append(state)
            except (FieldError, ContractError, TraceError) as error:
                faults.append(Fault(str(error), path=path))
    if faults:
        raise CheckpointError(task, faults)
    _move(iterators, task)
    undivided(lambda: store_all(states, contents))
    return new


def _move(iterators: Sequence[tuple[str, Any, Any]], task: str) -> None:
    """For `commit`: move each data iterator; if one refuses, all go back to where they were."""
    before: list[tuple[Any, Any]] = []
    for path, iterator, state in iterators:
        try:
            before.append((iterator, iterator.get_state()))
            iterator.set_state(state)
        # Whatever the iterator raises.
        except Exception as error:
            for moved, earlier in before:
                moved.set_state(earlier)
            text = (
                f"{type(iterator).__name__} refuses the state that was saved: {error}"
            )
            raise CheckpointError(task, [Fault(text, path=path)]) from error
