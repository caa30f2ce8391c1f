"""Propose changes that would lead from one checkpoint to another: by shape, dtype, and the nearest name.

    model.enc.weight  float32[2,3]        model.encoder.weight  float32[2,3]
    model.enc.bias    float32[3]          model.encoder.bias    float32[3]

    Rename('model.enc.**', 'model.encoder.**')

They are a guess, for a person to read: two matrices of one shape may have changed places.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from .._hints import similarity
from .._paths import Path, path_str
from ._changes import Cast, Change, Changes, Drop, Fill, Rename, Reshape, Transpose
from ._globs import Glob
from ._items import mirrored
from ._leaf import ARRAY, DTYPES, Leaf
from ._manifest import Manifest, Value
from ._shapes import kind_of

# Each name is compared with each other one of its shape.
_MAX_COMPARED = 200_000


def proposed(left: Manifest, right: Manifest) -> list[Change]:
    """Changes that would lead from what one checkpoint has to what another one has; none where nobody can say."""
    old, new = _states(left), _states(right)
    gone = {path: value for path, value in old.items() if path not in new}
    come = {path: value for path, value in new.items() if path not in old}
    pairs = _pairs(gone, come)
    changes: list[Change] = [*_renames(pairs, list(old))]
    for path, value in new.items():
        before = old.get(path) or old.get(pairs.get(path, path))
        if before is not None:
            changes += _array_changes(path_str(path), before, value)
    used = set(pairs.values())
    changes += [Drop(path_str(path)) for path in gone if path not in used]
    changes += [Fill(path_str(path)) for path in come if path not in pairs]
    return changes


def _states(manifest: Manifest) -> dict[Path, Value]:
    """For `proposed`: the States by path, without those of optimizers, which follow the model."""
    structure = manifest.structure
    mirrors = mirrored(structure, Changes(), None)
    return {
        structure.paths[number]: value
        for number, value in manifest.by_state.items()
        if structure.paths[number] not in mirrors
    }


def _pairs(gone: Mapping[Path, Value], come: Mapping[Path, Value]) -> dict[Path, Path]:
    """For `proposed`: for new paths the old one that holds the same, and has the nearest name."""
    scores: list[tuple[float, Path, Path]] = []
    if len(gone) * len(come) > _MAX_COMPARED:
        return {}
    for new, wanted in come.items():
        for old, value in gone.items():
            if _content(value) == _content(wanted):
                score = similarity(path_str(old), path_str(new))
                scores.append((score, old, new))
    # The most alike first, and of those the first ones of both.
    order = {path: at for at, path in enumerate([*gone, *come])}
    scores.sort(key=lambda row: (-row[0], order[row[1]], order[row[2]]))
    pairs: dict[Path, Path] = {}
    used: set[Path] = set()
    for _, old, new in scores:
        if old not in used and new not in pairs:
            used.add(old)
            pairs[new] = old
    return {new: pairs[new] for new in come if new in pairs}


def _content(value: Value) -> tuple[object, ...]:
    """For `_pairs`: what two States have in common of which one was the other."""
    leaves = [
        (leaf.kind, tuple(sorted(leaf.shape)), leaf.dtype) for leaf in value.leaves
    ]
    return repr(value.form), *leaves


def _renames(pairs: Mapping[Path, Path], old: Sequence[Path]) -> Iterator[Rename]:
    """For `proposed`: the changes of some paths, several as one glob where that says the same."""
    left = dict(pairs)
    while left:
        new, before = next(iter(left.items()))
        for rename in _candidates(before, new):
            first, second = Glob(rename.old), Glob(rename.new)
            fits = {path: first.match(path) for path in old}
            moved = {path: second.path(found) for path, found in fits.items() if found}
            if moved and all(
                left.get(target) == path for path, target in moved.items()
            ):
                yield rename
                for target in moved.values():
                    del left[target]
                break


def _candidates(old: Path, new: Path) -> Iterator[Rename]:
    """For `_renames`: changes that give one path another, the most general first."""
    same = 0
    while same < min(len(old), len(new)) - 1 and old[-1 - same] == new[-1 - same]:
        same += 1
    for end in range(same, -1, -1):
        first, second = old[: len(old) - end], new[: len(new) - end]
        yield from _with_stars(first, second, ".**" if end else "")


def _with_stars(old: Path, new: Path, tail: str) -> Iterator[Rename]:
    """For `_candidates`: positions as stars, where both paths have the same ones; and as they are."""
    positions = [key for key in old if isinstance(key, int)]
    if positions and positions == [key for key in new if isinstance(key, int)]:
        yield Rename(_starred(old) + tail, _starred(new) + tail)
    yield Rename(path_str(old) + tail, path_str(new) + tail)


def _starred(path: Path) -> str:
    return ".".join("*" if isinstance(key, int) else path_str((key,)) for key in path)


def _array_changes(path: str, before: Value, after: Value) -> Iterator[Change]:
    """For `proposed`: what makes an array of one that has another shape or dtype, if something does."""
    leaves = [
        value.leaves[0] if len(value.leaves) == 1 else None for value in (before, after)
    ]
    old, new = leaves
    if old is None or new is None or not old.kind == new.kind == ARRAY:
        return
    if old.shape != new.shape:
        if math.prod(old.shape) != math.prod(new.shape):
            return
        is_turned = old.shape == new.shape[::-1]
        yield Transpose(path) if is_turned else Reshape(path, new.shape, old.shape)
    if old.dtype != new.dtype and _are_alike(old, new):
        yield Cast(path, new.dtype, old.dtype)


def _are_alike(old: Leaf, new: Leaf) -> bool:
    kinds = [kind_of(DTYPES[leaf.dtype]) for leaf in (old, new)]
    return kinds[0] is not None and kinds[0] is kinds[1]
