"""The memory of an optimizer for a model that has changed: what stays keeps its memory, wherever it stands now.

A State is known by its identity, and not by its path:

    before  blocks.0.weight        memory.0.mu.blocks.0.weight
    after   blocks.0.inner.weight  memory.0.mu.blocks.0.inner.weight    the same State: its memory moves
            blocks.0.inner.lora_a  memory.0.mu.blocks.0.inner.lora_a    a new one: as at the beginning

What would be lost, or holds entries of several States in a row of its own, is an error;
not a constant, which would be made just the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import UpdateError, listed
from .._keys import is_on_host
from .._paths import Path, path_str
from .._state import State
from .._update import value_form, value_text
from ._memory import Part


class Remembered(NamedTuple):
    """What an optimizer remembers of a model before the model is changed.

    Attributes:
        members: The paths of the model's States, by their ids.
        memory: The States of the memory, by what they are for: see `_purpose`.
        states: The model's States, so that their ids stay theirs.
    """

    members: Mapping[int, Path]
    memory: Mapping[tuple[Path, Path | None], State[Any]]
    states: Sequence[State[Any]]


def remember(
    paths: Iterable[Path],
    members: Sequence[State[Any]],
    parts: Sequence[Part],
    memory: Sequence[State[Any]],
) -> Remembered:
    """What an optimizer remembers now.

    Args:
        paths: The paths of the States that are optimized.
        members: These States.
        parts: The parts of the memory.
        memory: The State of each part.
    """
    return Remembered(
        {id(member): path for path, member in zip(paths, members, strict=True)},
        {
            _purpose(part, part.mirrors): state
            for part, state in zip(parts, memory, strict=True)
        },
        members,
    )


def _purpose(part: Part, mirrors: Path | None) -> tuple[Path, Path | None]:
    """What a part is for: a place of the transformation's own, such as `mu`, and the State that it belongs to.

    Args:
        part: The part.
        mirrors: The path by which that State is known.
    """
    below = 0 if part.mirrors is None else len(part.mirrors)
    return part.path[: len(part.path) - below], mirrors


def kept_memory(
    before: Remembered, parts: Sequence[Part], current: Mapping[Path, State[Any]]
) -> dict[Path, State[Any]]:
    """The States of the memory that stay, by their paths from now on.

    Args:
        before: What was remembered before the model was changed.
        parts: The parts of a memory that is made for the model as it is now.
        current: The States that are optimized now, by path.

    Raises:
        UpdateError: What stays no longer fits, or would be lost; names all.
    """
    kept: dict[Path, State[Any]] = {}
    faults = _lost(before, parts, current)
    is_same_row = list(map(id, before.states)) == list(map(id, current.values()))
    for part in parts:
        mirrors = None
        if part.mirrors is not None:
            mirrors = before.members.get(id(current.get(part.mirrors)))
            if mirrors is None:  # the State is new
                continue
        state = before.memory.get(_purpose(part, mirrors))
        if state is None:
            continue
        kept[part.path] = state
        is_of_others = mirrors is None and not is_same_row and _is_of_all(part.value)
        if is_of_others and not _is_as_new(state.value, part.value):
            what = f"{path_str(part.path)} holds {value_text(state.value)} of all States together"
            faults.append(f"{what}, which are others now, or in another order")
            continue
        if value_form(state.value) != value_form(part.value):
            found, expected = value_text(state.value), value_text(part.value)
            faults.append(
                f"{path_str(part.path)} holds {found}, and would be {expected}"
            )
    if faults:
        raise UpdateError(
            f"the memory of the optimizer cannot follow the model: {listed(faults)}; make a new Optimizer"
        )
    return kept


def _lost(
    before: Remembered, parts: Sequence[Part], current: Mapping[Path, State[Any]]
) -> list[str]:
    """The States that stay, and that the transformation would remember in other places than before.

    So it is with a State that comes into another group of a mapping: its memory there
    would begin anew, and that of the old group would be dropped.

    Args:
        before: What was remembered.
        parts: The parts of the memory from now on.
        current: The States that are optimized now, by path.
    """
    places_before = _places(before.memory)
    places_now = _places([_purpose(part, part.mirrors) for part in parts])
    faults: list[str] = []
    for path, state in current.items():
        old = before.members.get(id(state))
        if old is None:
            continue
        was, will_be = places_before.get(old, set()), places_now.get(path, set())
        if was != will_be:
            faults.append(
                f"{path_str(path)} has its memory in {_listed(was)}, and would have it in {_listed(will_be)}"
            )
    return faults


def _places(
    purposes: Iterable[tuple[Path, Path | None]],
) -> dict[Path, set[Path]]:
    """The places of the transformation in which each State has memory, by the path of that State."""
    places: dict[Path, set[Path]] = {}
    for place, mirrors in purposes:
        if mirrors is not None:
            places.setdefault(mirrors, set()).add(place)
    return places


def _listed(places: Iterable[Path]) -> str:
    """Some places, for a message."""
    return ", ".join(sorted(map(path_str, places))) or "nothing"


def _is_of_all(value: Any) -> bool:
    """Whether what belongs to no one State has entries of several, as far as can be seen: no count and no key."""
    return any(
        leaf.ndim > 0
        and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        and leaf.dtype != jnp.uint32  # a key in the old form
        for leaf in jax.tree.leaves(value)
    )


def _is_as_new(value: Any, new: Any) -> bool:
    """Whether what is held is, to the bit, what is made for the model as it is now: a constant."""
    if value_form(value) != value_form(new):
        return False
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(new), strict=True)
    return all(_has_bits_of(leaf, other) for leaf, other in pairs)


def _has_bits_of(leaf: Any, other: Any) -> bool:
    """Whether two arrays are the same to the bit, as far as this process can see them."""
    if not (is_on_host(leaf) and is_on_host(other)):
        return False
    arrays = [
        jax.random.key_data(array)
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
        else array
        for array in (leaf, other)
    ]
    mine, its = map(np.asarray, arrays)
    return mine.tobytes() == its.tobytes()
