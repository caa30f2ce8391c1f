"""The items that changes apply to: what a checkpoint has, by path, with what in it mirrors a model."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._paths import Path
from .._patterns import Automaton
from ._changes import Changes
from ._expressions import Read
from ._globs import Glob
from ._item import FIELD, NODE, REFERENCE, STATE, STATIC, Item, Mirror
from ._manifest import Manifest, Value
from ._structure import Structure

MEMORY: Final = "memory"
LAYOUT: Final = "layout"


def items_of(
    manifest: Manifest, changes: Changes, target: Structure | None
) -> Iterator[Item]:
    """The States, nodes and static values of a checkpoint.

    The key of a State or node is its number, and that of a static value the number of
    its node, and its field.

    Args:
        manifest: That of the checkpoint.
        changes: What is to be applied: where several models of a checkpoint may be
            the one of an optimizer, it is the one that these change.
        target: The graph that it is for, if there is one.
    """
    structure = manifest.structure
    mirrors = mirrored(structure, changes, target)
    values = {
        structure.paths[number]: value for number, value in manifest.by_state.items()
    }
    for number, (path, spec) in enumerate(
        zip(structure.paths, structure.specs, strict=True)
    ):
        if spec.is_state:
            value = manifest.by_state[number]
            item = Item(STATE, path, (path,), Read(number), value)
            if path in mirrors:
                mirror, alias = mirrors[path]
                model = values.get(alias)
                is_alike = model is None or shapes_of(model) == shapes_of(value)
                item.mirror, item.alias = mirror._replace(is_alike=is_alike), alias
            yield item
            continue
        yield Item(NODE, path, (path,), Read(number))
        filled = {edge[0] for edge in spec.edges}
        for name in spec.held:
            if name not in filled:
                place = (*path, name)
                yield Item(FIELD, place, (place,), Read((number, name)))
        for name in spec.parts:
            place = (*path, name)
            yield Item(STATIC, place, (place,), Read((number, name)))
    for parent, edge, child in structure.repeats():
        place = (*(structure.paths[parent] if parent >= 0 else ()), *edge)
        first = structure.paths[child]
        yield Item(REFERENCE, place, (first,), Read((parent, child)))


def shapes_of(value: Value) -> list[tuple[int, ...]]:
    """The shapes in what a State holds."""
    return [leaf.shape for leaf in value.leaves]


def other_paths(structure: Structure) -> dict[Path, Path]:
    """Further paths of States, each with the first one; not those that lead back to where they started."""
    others: dict[Path, Path] = {}
    for parent, edge, child in structure.repeats():
        above = structure.paths[parent] if parent >= 0 else ()
        first = structure.paths[child]
        if above[: len(first)] == first and not structure.specs[child].is_state:
            continue
        for number in structure.below(child):
            path = structure.paths[number]
            if structure.specs[number].is_state and path[: len(first)] == first:
                others[(*above, *edge, *path[len(first) :])] = path
    return others


def mirrored(
    structure: Structure, changes: Changes, target: Structure | None
) -> dict[Path, tuple[Mirror, Path]]:
    """The States of optimizers that mirror one of a model: where, and that one's path."""
    optimizers = list(_optimizers(structure))
    if not optimizers:
        return {}
    states = [structure.paths[number] for number in structure.states]
    known = {*states, *other_paths(structure)}
    later = _bases_of_target(target)
    globs = [Glob(text) for change in changes for text in change.sources]
    automaton = Automaton([glob.pattern for glob in globs])
    result: dict[Path, tuple[Mirror, Path]] = {}
    for place, params in optimizers:
        bases = _bases(place, params, states, known) or [()]
        # Of several models of one structure, such as an average, the one that changes.
        changed = [
            sum(bool(automaton.fitting((*base, *path))) for path in params)
            for base in bases
        ]
        base = bases[changed.index(max(changed))]
        candidates = {base, *later}
        ordered = tuple(sorted(candidates, key=lambda path: (-len(path), path != base)))
        memory = [path for path in states if path[: len(place)] == place]
        for path, below in _places(place, params, memory).items():
            result[path] = Mirror(below, ordered), (*base, *path[len(below) :])
    return result


def _optimizers(structure: Structure) -> Iterator[tuple[Path, set[Path]]]:
    """The optimizers of a graph: where their memory is, and the paths of what they optimize, from the model on."""
    for number, spec in enumerate(structure.specs):
        if not spec.is_state and LAYOUT in spec.parts and MEMORY in spec.held:
            params = _paths_of_layout(spec.parts[LAYOUT])
            if params:
                yield (*structure.paths[number], MEMORY), params


# Any: JSON.
def is_layout(data: Any) -> bool:
    """Whether a static value is a layout: what an optimizer optimizes."""
    return isinstance(data, dict) and set(data) == {LAYOUT}


# Any: JSON.
def _paths_of_layout(data: Any) -> set[Path]:
    """For `_optimizers`: the paths in the JSON of a layout; none where it is something else."""
    try:
        entries, leaves = data[LAYOUT]["entries"], data[LAYOUT]["leaves"]
        paths: list[Path] = [()]
        for parent, key in entries[1:]:
            if type(key) not in (str, int) or not 0 <= parent < len(paths):
                return set()
            paths.append((*paths[parent], key))
        return {paths[entry] for entry, _ in leaves}
    except (LookupError, TypeError, ValueError):
        return set()


def _bases(
    place: Path, params: set[Path], states: list[Path], known: set[Path]
) -> list[Path]:
    """For `mirrored`: where there is a model with all that is optimized, outside of the memory."""
    first = min(params, key=len)
    size = len(first)
    starts = [
        path[: len(path) - size]
        for path in known
        if path[len(path) - size :] == first and path[: len(place)] != place
    ]
    order = {path: at for at, path in enumerate(states)}
    starts.sort(key=lambda start: order.get((*start, *first), len(order)))
    return [
        start for start in starts if all((*start, *path) in known for path in params)
    ]


def _bases_of_target(target: Structure | None) -> set[Path]:
    """For `mirrored`: where the models of optimizers are in the graph that the changes lead to."""
    if target is None:
        return set()
    states = [target.paths[number] for number in target.states]
    known = {*states, *other_paths(target)}
    bases = [
        _bases(place, params, states, known) for place, params in _optimizers(target)
    ]
    return set(itertools.chain.from_iterable(bases))


def _places(place: Path, params: set[Path], memory: list[Path]) -> Mapping[Path, Path]:
    """For `mirrored`: the part of the path of each State that those of the model follow, where they do.

    A path may end like several of them, `memory.0.mu.mu.w` like `w` and `mu.w`: the part
    that most paths follow is the right one.
    """
    candidates: dict[Path, list[Path]] = {}
    count: dict[Path, int] = {}
    for path in memory:
        cuts = range(len(place), len(path))
        starts = [path[:cut] for cut in cuts if path[cut:] in params]
        candidates[path] = starts
        for start in starts:
            count[start] = count.get(start, 0) + 1
    return {
        path: max(starts, key=lambda start: (count[start], -len(start)))
        for path, starts in candidates.items()
        if starts
    }
