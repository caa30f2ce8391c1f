"""Find neighbours in a list that are alike, so that one stands for all: the blocks of a model."""

import dataclasses
from collections.abc import Iterator
from typing import Final

from .._static import static_key
from ._tree import Entry, Tree
from ._values import is_array

# Two equal numbers are no news; of long runs nobody wants to see all.
_MIN_PLAIN: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Neighbours that are alike.

    Attributes:
        first: The number of the entry that stands for all.
        label: What stands before it: `weight=`, or `0-11: `.
        count: How many they are; mostly one.
    """

    first: int
    label: str
    count: int


def groups_of(tree: Tree, number: int) -> list[Group]:
    """The parts of an entry, with those folded that follow each other in a list and are alike."""
    runs = [
        part
        for run in _runs(tree, list(tree.children(number)))
        for part in _kept(tree, run)
    ]
    is_folded = any(len(run) > 1 for run in runs)
    return [
        Group(
            run[0],
            _label(tree, run) if is_folded else tree.entries[run[0]].label,
            len(run),
        )
        for run in runs
    ]


def _runs(tree: Tree, numbers: list[int]) -> Iterator[list[int]]:
    """Rows of neighbours that are alike; each other part is a row of its own."""
    run: list[int] = []
    for number in numbers:
        if run and _continues(tree, run, number):
            run.append(number)
            continue
        if run:
            yield run
        run = [number]
    if run:
        yield run


def _kept(tree: Tree, run: list[int]) -> list[list[int]]:
    """A run, or each of its parts by itself where it is too short to be folded."""
    is_short = tree.entries[run[0]].is_plain and len(run) < _MIN_PLAIN
    return [[number] for number in run] if is_short else [run]


def _continues(tree: Tree, run: list[int], number: int) -> bool:
    """Whether a part of a list follows a run, and is alike; fields have names, which say what each is for."""
    step, next_step = tree.entries[run[-1]].step, tree.entries[number].step
    if type(step) is not int or type(next_step) is not int or next_step != step + 1:
        return False
    return is_alike(tree, run[0], number)


def _label(tree: Tree, run: list[int]) -> str:
    """What stands before parts of a list where some are folded: positions, as one could not count them."""
    first, last = tree.entries[run[0]], tree.entries[run[-1]]
    if type(first.step) is not int:
        return first.label
    return f"{first.step}: " if len(run) == 1 else f"{first.step}-{last.step}: "


def is_alike(tree: Tree, first: int, other: int) -> bool:
    """Whether two entries are the same, apart from where they are, and from the numbers in States.

    What is in them may refer to the same things outside, or each to its own part.
    """
    entries, offset = tree.entries, other - first
    end = entries[first].end
    if entries[other].end - end != offset:
        return False
    for number in range(first, end):
        one, two = entries[number], entries[number + offset]
        # Texts first, which are compared in no time.
        if one.head != two.head or one.end + offset != two.end:
            return False
        if not _is_same(one.content, two.content):
            return False
        if number != first and not _is_same_place(one, two):
            return False
        target = one.target + offset if one.target >= first else one.target
        if two.target != target:
            return False
    return True


def _is_same_place(one: Entry, other: Entry) -> bool:
    """Whether two entries are the same field of their objects, or have the same key."""
    return one.label == other.label and _is_same(one.step, other.step)


def _is_same(one: object, other: object) -> bool:
    """Whether two values of one text are the same: as static values are compared in a graphdef.

    It never raises: what has no answer is not the same.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    try:
        return static_key(one) == static_key(other)
    except Exception:  # whatever the methods of a value raise
        return _is_equal(one, other)


def _is_equal(one: object, other: object) -> bool:
    """For `_is_same`: of values that cannot be static, such as lists and sets."""
    if is_array(one):
        return False
    try:
        return bool(one == other)
    except Exception:  # as of a list of arrays
        return False
