"""Restore a checkpoint into a live tree: all or nothing, and nothing that does not fit.

manifest  ─┐
           ├─ compare ── faults? CheckpointError ── read ── check ── write
live tree ─┘                                        (no State is written before all is read)
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
from jax.sharding import Sharding

from .._errors import CheckpointError, Fault
from .._filters import AnyFilter
from .._paths import path_str
from ._changes import Change as AnyChange
from ._changes import Changes, as_changes
from ._choose import Given, Globs, Shardings, sharding_at, sharding_of_each
from ._commit import commit, move, moved_back_on_error, prepared
from ._files import absolute, located, read_manifest
from ._manifest import Manifest
from ._plan import Changed, Pair, Plan
from ._processes import together
from ._progress import Meter, Progress
from ._read import Checkpoint, Wanted, read_items
from ._report import Report, tell
from ._structure import class_text
from ._tree import Tree, take_tree

T = TypeVar("T")


def restore(
    path: "str | os.PathLike[str]",
    tree: T,
    /,
    *,
    only: "AnyFilter | None" = None,
    allow_missing: "AnyFilter | None" = None,
    allow_unexpected: "AnyFilter | None" = None,
    allow_changed: "str | Iterable[str]" = (),
    cast: "AnyFilter | None" = None,
    shardings: "Shardings | None" = None,
    changes: "Changes | Iterable[AnyChange]" = (),
    report: "Callable[[Report], object] | None" = None,
    progress: Progress = None,
) -> T:
    """Read a checkpoint into a live tree: its nodes and States keep their identity.

    All is compared with the manifest before an array is read: what is missing and what is
    not expected, classes, shapes, dtypes, kinds of random keys, sharing, static values. If
    anything does not fit, or cannot be read, nothing is changed.

    An array takes the place, and the sharding, of the one that is there.

    Args:
        path: The directory.
        tree: As `save` takes it; its values may be shapes, as of `gn.eval_shape`.
        only: A filter: what is restored. The rest of the tree stays as it is, and the
            rest of the checkpoint is not read. `only=gn.Under("model")` leaves out the
            optimizer.
        allow_missing: A filter of the tree: what may be missing in the checkpoint, and
            then stays as it is.
        allow_unexpected: A filter of the checkpoint: what it may have beyond the tree.
            A class or path, not a function.
        allow_changed: Paths or globs, such as `"**.rate"`, of static values, nodes and
            classes that may be others than in the checkpoint.
        cast: A filter of the tree: which arrays may have another dtype of the same kind
            in the checkpoint; they become the dtype of the tree.
        shardings: Where arrays are to be: one sharding; or a mapping from paths, globs
            or filters to shardings, or from paths to pytrees of shardings. Each device
            reads its part alone.
        changes: How the model has changed since: see `Changes`. What a filter of the
            checkpoint means is meant by its old paths, and the memory of an optimizer
            changes with the model.
        report: Called with the `Report` of what was read from where, if there are
            changes, or fields that `was=` gives a former name; `print` shows it.
        progress: A function that is called with the bytes that are read and those in all:
            first with 0, then after each portion. `True` for a bar (tqdm), `False` for
            none; by default there is one at a terminal, if it takes longer than 2 seconds.

    Returns:
        The tree: the same nodes and States, with new arrays and numbers where the tree
        itself holds some.

    Raises:
        CheckpointError: There is no checkpoint, it does not fit, or it is damaged; names
            all faults, each with its path. Nothing was changed.
        FilterError: There is nothing at a path of a filter.
        ModuleNotFoundError: Orbax is not installed.
        TraceError: A transformation of JAX runs.

    Example:
        >>> gn.checkpoint.save("runs/run", {"model": gn.nn.Linear(2, 3), "step": 3})
        >>> run = {"model": gn.nn.Linear(2, 4), "step": 0}
        >>> gn.checkpoint.restore("runs/run", run, only=gn.Under("step"))["step"]
        3
        >>> gn.checkpoint.restore("runs/run", run["model"])
        Traceback (most recent call last):
        graphnode.CheckpointError: cannot restore from ...: the tree is a Linear, the checkpoint has model, step; ...

    See also: `load`, which makes new nodes; `save`.
    """
    task = f"cannot restore from {os.fspath(path)}"
    changed: Changed | None = None
    with together(task):
        changes, is_allowed = as_changes(changes), Globs(allow_changed)
        meter = Meter(progress, f"read {os.fspath(path)}", is_counted=True)
        directory = located(absolute(path), task)
        manifest, identity = read_manifest(directory, task)
        source = Checkpoint(directory, identity, manifest, task, meter)
        live = take_tree(tree, task)
        plan = Plan(live, manifest, only, allow_missing, allow_unexpected, cast)
        if plan.is_changed(changes):
            changed = plan.changed(changes, is_allowed, task)
            pairs = changed.pairs
        else:
            _check_roots(live, manifest, task)
            pairs = plan.pairs(is_allowed, task)
        given = sharding_of_each(live.layout, live.states, shardings)

    with moved_back_on_error() as moved:
        with together(task):
            with meter:
                if changed is None:
                    wanted = [_wanted(live, manifest, pair, given) for pair in pairs]
                    values = source.read_all(wanted)
                else:
                    values = _read_changed(source, live, changed, given)
                    tell(changed.report, f"restored from {os.fspath(path)}", report)
            values = plan.casted(pairs, values, task)
            writes = prepared(live, [pair.at for pair in pairs], values, task)
            move(writes.iterators, moved, task)
        commit(writes, moved)
    restored: T = live.with_values(writes.new)
    return restored


def _read_changed(
    source: Checkpoint,
    live: Tree,
    changed: Changed,
    given: Mapping[int, Given],
) -> list[Any]:
    """The values for some States of the tree, as changes give them."""
    pairs = changed.pairs

    def wanted(rank: int) -> Wanted:
        return _wanted(live, source.manifest, pairs[rank], given)

    def place(rank: int) -> tuple[str, Sharding | None]:
        at = pairs[rank].at
        return live.values[at].leaves[0].kind, targets_of(live, at, given)[0]

    return read_items(source, changed.items, wanted, place)


def _wanted(
    live: Tree, manifest: Manifest, pair: Pair, given: Mapping[int, Given]
) -> Wanted:
    """What is to be read for a State of the tree.

    Args:
        live: The tree.
        manifest: That of the checkpoint.
        pair: The State, and that of the file.
        given: The shardings that were given for each State, by position.
    """
    if pair.is_iterator:
        count = len(manifest.by_state[pair.number].leaves)
        return Wanted(pair.number, [None] * count)
    targets = targets_of(live, pair.at, given)
    return Wanted(pair.number, targets, live.states[pair.at].value)


def targets_of(
    live: Tree, at: int, given: Mapping[int, Given]
) -> list[Sharding | None]:
    """Where each array of a State of the tree is to be: as was given, or as it is."""
    taken, given_here = live.taken[at], given.get(at, {})
    return [
        sharding_at(given_here, key) or _sharding_of(leaf)
        for key, leaf in zip(taken.keys, taken.leaves, strict=True)
    ]


def _sharding_of(leaf: Any) -> Sharding | None:
    """Where an array is to be that takes the place of a leaf; `None` for where JAX puts new arrays."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        sharding: Sharding | None = leaf.sharding
        return sharding
    # Others would be bound to their device from then on, which they were not before.
    is_placed = isinstance(leaf, jax.Array) and (
        leaf.committed or len(leaf.sharding.device_set) > 1
    )
    return leaf.sharding if is_placed else None


def _check_roots(live: Tree, manifest: Manifest, task: str) -> None:
    """Raise if the one is a node, and the other a tree that may hold such nodes: nothing would fit anywhere.

    Raises:
        CheckpointError: Says what to write.
    """
    tree, saved = live.structure, manifest.structure
    if tree.is_of_a_node is saved.is_of_a_node:
        return
    side, other = (saved, tree) if tree.is_of_a_node else (tree, saved)
    keys = (
        ", ".join(dict.fromkeys(path_str(edge[:1]) for edge in list(side.top)[:10]))
        or "nothing"
    )
    cls = class_text(other.specs[0].cls)
    if tree.is_of_a_node:
        first = next(
            (
                edge
                for edge, at in saved.top.items()
                if class_text(saved.specs[at].cls) == cls
            ),
            ("model",),
        )
        what = f"the tree is a {cls}, the checkpoint has {keys}"
        hint = f"pass a dict such as {{{str(first[0])!r}: ...}}"
    else:
        what, hint = (
            f"the tree has {keys}, the checkpoint is of a {cls}",
            f"pass the {cls} itself",
        )
    raise CheckpointError(task, [Fault(what, hint=hint)])
