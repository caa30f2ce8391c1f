"""What changes make of a source, against a live tree: which State gets what, and all that does not fit.

For `restore` and `read`, which differ in what else they compare.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Set
from typing import NamedTuple

from .._errors import Fault
from .._hints import did_you_mean
from .._paths import Path, path_str
from ._changes import Changes
from ._compare import place_text
from ._globs import Glob
from ._item import STATE, STATIC, Item
from ._items import mirrored, other_paths
from ._leaf import ARRAY, DTYPES, NUMPY, NUMPY_SCALAR, Leaf
from ._manifest import Value
from ._plan_changes import Outcome, nothing_text
from ._report import Report, report_of
from ._save import value_fault
from ._shapes import kind_of
from ._structure import Structure, class_text
from ._tree import Tree

_MAX_HINTS = 20


class Fitted(NamedTuple):
    """What of a source goes where.

    Attributes:
        items: For each State of the tree that gets something, by number, what.
        report: The same for people, with what was left out.
        faults: All that does not fit, but values.
    """

    items: dict[int, Item]
    report: Report
    faults: list[Fault]


def fitted(
    live: Tree,
    outcome: Outcome,
    chosen: Set[int],
    may_lack: Set[int],
    may_be_unused: Callable[[Item], bool],
) -> Fitted:
    """Which State of a tree gets which item.

    Args:
        live: The tree.
        outcome: What changes make of a source.
        chosen: The numbers of the States that are to get something.
        may_lack: Those that may stay as they are.
        may_be_unused: Whether an item may be left out that no State gets.
    """
    structure = live.structure
    faults = list(outcome.faults)
    find = places_of(structure)
    items: dict[int, Item] = {}
    unused: list[Item] = []
    for path, item in outcome.items.items():
        if item.kind != STATE:
            continue
        number = find.get(path)
        if number is None or not structure.specs[number].is_state:
            unused.append(item)
        elif number in items:
            what = f"{_from(items[number])} and {_from(item)} are one State of the tree"
            hint = "leave out one by Drop"
            faults.append(Fault(what, path=place_text(path), hint=hint))
        elif number in chosen:
            items[number] = item
    filled, fill_faults = _filled(live, outcome, chosen)
    extra = [item for item in unused if not may_be_unused(item)]
    # A rule that is wrong leaves States without a result: it is told by itself.
    missing = chosen - items.keys() - filled.keys() - may_lack
    faults += [*fill_faults, *_missing_faults(live, missing, extra)]
    faults += [_unused_fault(item) for item in extra]
    stays = sorted({*filled, *(may_lack & chosen) - items.keys()})
    paths = structure.paths
    rows = [(paths[number], items[number]) for number in sorted(items)]
    report = report_of(
        [*rows, *_renamed_fields(outcome)],
        [paths[number] for number in stays],
        [item.sources[0] for item in unused] + _dropped(outcome, unused),
    )
    return Fitted(items, report, faults)


def _renamed_fields(outcome: Outcome) -> Iterator[tuple[Path, Item]]:
    """For `fitted`: static values whose field has another name; that they moved with their node goes without saying."""
    for path, item in outcome.items.items():
        if item.kind == STATIC and item.sources[0][-1:] != path[-1:]:
            yield path, item


def places_of(structure: Structure) -> dict[Path, int]:
    """The number of each object by path; of a State, by its further paths too."""
    places = {path: number for number, path in enumerate(structure.paths)}
    further = {
        path: places[first]
        for path, first in other_paths(structure).items()
        if path not in places
    }
    return {**places, **further}


def _dropped(outcome: Outcome, unused: list[Item]) -> list[Path]:
    """The States of the source that a change has dropped."""
    told = {item.sources[0] for item in unused}
    return [path for path in outcome.dropped if path not in told]


def _from(item: Item) -> str:
    """An item for a message: its path, and where it is from."""
    names = ", ".join(map(place_text, item.sources))
    return (
        names
        if item.sources == (item.path,)
        else f"{place_text(item.path)} (from {names})"
    )


def _filled(
    live: Tree, outcome: Outcome, chosen: Set[int]
) -> tuple[Mapping[int, None], list[Fault]]:
    """For `fitted`: the States that a `Fill` leaves as they are, and what is wrong with that."""
    structure = live.structure
    filled: dict[int, None] = {}
    faults: list[Fault] = []
    position = {number: at for at, number in enumerate(structure.states)}
    # What an optimizer has for a State is filled with it.
    mirrors = mirrored(structure, Changes(), None) if outcome.fills else {}
    aliases = {path: alias for path, (_, alias) in mirrors.items()}
    for change, glob in outcome.fills:
        numbers = [
            number
            for number in structure.states
            if number in chosen and _fits(glob, structure.paths[number], aliases)
        ]
        if not numbers:
            paths = [structure.paths[number] for number in structure.states]
            text = nothing_text(glob, paths, may_hint=True)
            faults.append(Fault(f"{change!r}: {text}"))
        for number in numbers:
            filled[number] = None
            leaves = live.taken[position[number]].leaves
            if any(map(value_fault, leaves)):
                what = f"has a shape and no value that could stay, for {change!r}"
                path = path_str(structure.paths[number])
                faults.append(Fault(what, path=path, hint="build the model itself"))
    return filled, faults


def _fits(glob: Glob, path: Path, aliases: Mapping[Path, Path]) -> bool:
    """For `_filled`: whether a glob fits a path, or that of what it mirrors."""
    if glob.match(path):
        return True
    return path in aliases and glob.match(aliases[path]) is not None


def _missing_faults(live: Tree, missing: Set[int], unused: list[Item]) -> list[Fault]:
    """For `fitted`: States of the tree that nothing is for."""
    structure = live.structure
    position = {number: at for at, number in enumerate(structure.states)}
    names = [path_str(item.path) for item in unused]
    faults: list[Fault] = []
    for number in sorted(missing):
        path = path_str(structure.paths[number])
        hint = ""
        if len(faults) < _MAX_HINTS:
            hint = did_you_mean(path, names)
            hint = hint.replace("did you mean", "unused is").replace("?", "")
        value = live.values[position[number]]
        cls = class_text(structure.specs[number].cls)
        what = f"nothing is for it ({cls} {value} in the tree)"
        faults.append(Fault(what, path=place_text(structure.paths[number]), hint=hint))
    return faults


def _unused_fault(item: Item) -> Fault:
    """For `fitted`: something that no State gets."""
    origin = "" if item.sources == (item.path,) else f", from {_from_alone(item)}"
    what = f"nothing uses it ({item.value}{origin})"
    return Fault(what, path=place_text(item.path))


def _from_alone(item: Item) -> str:
    return ", ".join(map(place_text, item.sources))


_ARRAYS = (ARRAY, NUMPY, NUMPY_SCALAR)


def value_faults(path: Path, tree: Value, item: Item) -> list[Fault]:
    """For `read`: how an array differs from the one that it is for, with the change that would do."""
    assert item.value is not None
    wanted, found = tree.leaves, item.value.leaves
    if tree.form != item.value.form or len(wanted) != 1:
        what = f"the model has {tree}, the source {item.value}"
        return [Fault(what, path=path_str(path))]
    a, b = wanted[0], found[0]
    kinds_fit = a.kind == b.kind or (a.kind in _ARRAYS and b.kind in _ARRAYS)
    if kinds_fit and (a.shape, a.dtype) == (b.shape, b.dtype):
        return []
    origin = "" if item.sources == (item.path,) else f", from {_from_alone(item)}"
    what = f"the model has {a}, the source {b}{origin}"
    hint = _remedy(path_str(path), a, b) if kinds_fit else ""
    return [Fault(what, path=path_str(path), hint=hint)]


def _remedy(path: str, wanted: Leaf, found: Leaf) -> str:
    """For `value_faults`: the change to add; empty where none is known."""
    if wanted.shape != found.shape:
        if wanted.shape == found.shape[::-1]:
            return f"Transpose({path!r}) would fit"
        if math.prod(wanted.shape) == math.prod(found.shape):
            return f"Reshape({path!r}, {list(wanted.shape)}) would fit"
        return ""
    kinds = [kind_of(DTYPES[leaf.dtype]) for leaf in (wanted, found)]
    if kinds[0] is None or kinds[0] is not kinds[1]:
        return ""
    return f"Cast({path!r}, {wanted.dtype!r}) converts it"
