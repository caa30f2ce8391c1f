"""Restore a checkpoint into a live tree: all or nothing, and nothing that does not fit.

manifest  ─┐
           ├─ compare ── faults? CheckpointError ── read ── check ── write
live tree ─┘                                        (no State is written before all is read)
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .._errors import CheckpointError, ContractError, Fault, FieldError, TraceError
from .._filters import AnyFilter
from .._hints import did_you_mean
from .._paths import path_str
from .._signals import store_all, undivided
from .._state import State, value_to_store
from ._added import with_added_fields
from ._choose import (
    Given,
    Globs,
    Shardings,
    chosen,
    chosen_of_file,
    needed_nodes,
    sharding_at,
    sharding_of_each,
)
from ._compare import Change, Matching, matched, place_text
from ._files import absolute, located, read_manifest
from ._forms import form_text
from ._leaf import ARRAY, DTYPES, KEY, NUMPY, Leaf
from ._manifest import Manifest, Value
from ._processes import together
from ._progress import Progress, Report
from ._read import Wanted, read_values
from ._structure import class_text
from ._tree import IteratorState, PlainValue, Tree, take_tree

T = TypeVar("T")

# Its name in files.
_ITERATOR: Final = (
    f"{IteratorState.__module__.rpartition('.')[0]}.{IteratorState.__name__}"
)


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
    with together(task):
        report = Report(progress, f"read {os.fspath(path)}", is_counted=True)
        directory = located(absolute(path), task)
        manifest, identity = read_manifest(directory, task)
        manifest = with_added_fields(manifest)
        live = take_tree(tree, task)
        _check_roots(live, manifest, task)
        plan = _Plan(live, manifest, only, allow_missing, allow_unexpected, cast)
        pairs = plan.pairs(Globs(allow_changed), task)
        given = sharding_of_each(live.layout, live.states, shardings)
        wanted = [
            _wanted(live, manifest, pair, given.get(pair.at, {})) for pair in pairs
        ]

    moved: list[tuple[Any, Any]] = []
    try:
        with together(task):
            with report:
                values = read_values(
                    directory, identity, manifest, wanted, task, report
                )
            values = plan.casted(pairs, values, task)
            writes = _prepared(live, pairs, values, task)
            _move(writes.iterators, moved, task)

        def commit() -> None:
            store_all(writes.states, writes.contents)
            moved.clear()

        undivided(commit)
    # Ctrl-C too, and what has failed in another process.
    except BaseException:
        for iterator, earlier in moved:
            # The one that has refused may do so again.
            with contextlib.suppress(Exception):
                iterator.set_state(earlier)
        raise
    restored: T = live.with_values(writes.new)
    return restored


def _wanted(live: Tree, manifest: Manifest, pair: "_Pair", given: Given) -> Wanted:
    """What is to be read for a State of the tree.

    Args:
        live: The tree.
        manifest: That of the checkpoint.
        pair: The State, and that of the file.
        given: The shardings that were given for it.
    """
    if pair.is_iterator:
        count = len(manifest.by_state[pair.number].leaves)
        return Wanted(pair.number, [None] * count)
    taken = live.taken[pair.at]
    targets = [
        sharding_at(given, key) or _sharding_of(leaf)
        for key, leaf in zip(taken.keys, taken.leaves, strict=True)
    ]
    return Wanted(pair.number, targets, live.states[pair.at].value)


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


class _Pair(NamedTuple):
    """A State of the tree, by position, and the State of the file that it gets, by number."""

    at: int
    number: int
    is_iterator: bool


class _Plan:
    """One call of `restore`: what goes where, and all that does not fit."""

    def __init__(
        self,
        live: Tree,
        manifest: Manifest,
        only: "AnyFilter | None",
        allow_missing: "AnyFilter | None",
        allow_unexpected: "AnyFilter | None",
        cast: "AnyFilter | None",
    ) -> None:
        self._live, self._manifest = live, manifest
        self._tree, self._file = live.structure, manifest.structure
        # By number, as the graph has them.
        self._position = {number: at for at, number in enumerate(self._tree.states)}
        self._only = only
        self._chosen = set(self._tree.states) if only is None else self._numbers(only)
        self._may_lack = self._numbers(allow_missing)
        self._castable = self._numbers(cast)
        self._allow_unexpected = allow_unexpected

    def _numbers(self, filter: "AnyFilter | None") -> set[int]:
        """The numbers of the States of the tree that a filter selects; none without one."""
        if filter is None:
            return set()
        return {
            self._tree.states[at]
            for at in chosen(self._live.layout, self._live.states, filter)
        }

    def pairs(self, is_allowed: Globs, task: str) -> list[_Pair]:
        """Which State of the tree gets which of the file.

        Raises:
            CheckpointError: Something does not fit; names all.
        """
        matching = matched(self._tree, self._file, is_allowed)
        faults: list[Fault] = [*self._changes(matching), *self._absences(matching)]
        pairs: list[_Pair] = []
        for number, partner in matching.pairs():
            if number not in self._chosen:
                continue
            at = self._position[number]
            is_iterator = isinstance(self._live.states[at], IteratorState)
            if is_iterator is not (self._file.specs[partner].cls == _ITERATOR):
                # One has no place for what the other one is; the classes tell of it.
                path = self._tree.paths[number]
                if is_allowed(path):
                    what = "a data iterator gets the state of another one alone"
                    faults.append(Fault(what, path=path_str(path)))
                continue
            pairs.append(_Pair(at, partner, is_iterator))
            if not is_iterator:
                tree, file = self._live.values[at], self._manifest.by_state[partner]
                faults += self._value_faults(number, tree, file)
        if faults:
            faults.sort(key=_by_path)
            raise CheckpointError(task, faults)
        return pairs

    def _changes(self, matching: Matching) -> list[Fault]:
        """What differs in classes, sharing and static values, as far as it concerns what is restored."""
        changes = matching.changes
        if self._only is not None and changes:
            needed = needed_nodes(self._tree, self._chosen)
            changes = [change for change in changes if change.left_number in needed]
        return [_change_fault(change) for change in changes]

    def _absences(self, matching: Matching) -> list[Fault]:
        """States of the one side that the other one lacks."""
        missing = [
            at
            for at in matching.left_only
            if at in self._chosen and at not in self._may_lack
        ]
        unexpected = self._unexpected(matching)
        tree_names = {path_str(self._tree.paths[at]): at for at in missing}
        file_names = {path_str(self._file.paths[at]): at for at in unexpected}
        faults: list[Fault] = []
        for name, at in tree_names.items():
            nearest = did_you_mean(name, file_names)
            hint = nearest.replace("did you mean", "the checkpoint has").replace(
                "?", ", which the tree lacks"
            )
            faults.append(
                Fault(
                    f"missing in the checkpoint ({self._text(at)} in the tree)",
                    path=name,
                    hint=hint,
                )
            )
        for name, at in file_names.items():
            value = self._manifest.by_state[at]
            text = f"{class_text(self._file.specs[at].cls)} {value}"
            faults.append(
                Fault(
                    f"unexpected: the tree lacks it ({text} in the checkpoint)",
                    path=name,
                )
            )
        return faults

    def _unexpected(self, matching: Matching) -> list[int]:
        """The States of the file that the tree lacks, and should not."""
        unexpected = matching.right_only
        if unexpected and self._only is not None:
            meant = chosen_of_file(self._file, self._only, None)
            unexpected = [at for at in unexpected if at in meant]
        if unexpected and self._allow_unexpected is not None:
            allowed = chosen_of_file(
                self._file, self._allow_unexpected, "allow_unexpected"
            )
            unexpected = [at for at in unexpected if at not in allowed]
        return unexpected

    def _text(self, number: int) -> str:
        """A State of the tree for a message: its class and what it holds."""
        value = self._live.values[self._position[number]]
        return f"{class_text(self._tree.specs[number].cls)} {value}"

    def _value_faults(self, number: int, tree: Value, file: Value) -> list[Fault]:
        """Where the value of a State differs from that in the file."""
        path = self._tree.paths[number]
        if tree.form != file.form:
            what = f"the tree has {form_text(tree.form)}, the checkpoint {form_text(file.form)}"
            return [Fault(what, path=path_str(path))]
        faults: list[Fault] = []
        for key, a, b in zip(tree.keys, tree.leaves, file.leaves, strict=True):
            if (a.kind, a.shape, a.dtype) == (b.kind, b.shape, b.dtype):
                continue
            is_castable = _can_cast(a, b)
            if is_castable and number in self._castable:
                continue
            what, hint = f"the tree has {a}, the checkpoint {b}", ""
            if is_castable:
                hint = f"cast=gn.PathIn({path_str(path)!r}) converts it"
            elif a.shape == b.shape and a.kind == b.kind == KEY:
                hint = f"make the keys of the tree with impl={b.dtype!r}"
            faults.append(Fault(what, path=path_str((*path, *key)), hint=hint))
        return faults

    def casted(self, pairs: Sequence[_Pair], values: list[Any], task: str) -> list[Any]:
        """The values, as the tree has their dtypes where a cast was asked for.

        Raises:
            CheckpointError: An integer has no place in the dtype.
        """
        if not self._castable:
            return values
        results: list[Any] = []
        faults: list[Fault] = []
        for pair, value in zip(pairs, values, strict=True):
            if pair.is_iterator or self._tree.states[pair.at] not in self._castable:
                results.append(value)
                continue
            wanted = iter(self._live.values[pair.at].leaves)
            result = jax.tree.map(lambda leaf: _cast(leaf, next(wanted)), value)  # noqa: B023
            if not _is_kept(result, value):
                where = path_str(self._tree.paths[self._tree.states[pair.at]])
                faults.append(
                    Fault("cast= would change integers that do not fit", path=where)
                )
            results.append(result)
        if faults:
            raise CheckpointError(task, faults)
        return results


def _by_path(fault: Fault) -> str:
    """The sort key of faults."""
    return fault.path


def _change_fault(change: Change) -> Fault:
    """A difference as a fault of `restore`."""
    hint = ""
    if change.kind in ("static", "class"):
        hint = f"allow_changed={place_text(change.path)!r} allows it"
    what = f"the tree has {change.left}, the checkpoint {change.right}"
    return Fault(what, path=place_text(change.path), hint=hint)


_KINDS = (np.integer, np.floating, np.complexfloating)


def _can_cast(tree: Leaf, file: Leaf) -> bool:
    """Whether `cast` may turn an array of the file into one as the tree has it: of another dtype of the same kind."""
    if (
        tree.kind != file.kind
        or tree.kind not in (ARRAY, NUMPY)
        or tree.shape != file.shape
    ):
        return False
    kinds = [_kind_of(DTYPES[leaf.dtype]) for leaf in (tree, file)]
    return kinds[0] is not None and kinds[0] == kinds[1]


def _kind_of(dtype: "np.dtype[Any]") -> object:
    """For `_can_cast`: whether a dtype is of integers, floats or complex numbers; `None` for others."""
    return next((kind for kind in _KINDS if jnp.issubdtype(dtype, kind)), None)


def _cast(leaf: Any, wanted: Leaf) -> Any:
    """For `casted`: an array in the dtype of the tree; anything else as it is."""
    return leaf.astype(DTYPES[wanted.dtype]) if wanted.kind in (ARRAY, NUMPY) else leaf


def _is_kept(result: Any, value: Any) -> bool:
    """For `casted`: whether the integers among the leaves are the same numbers as before."""
    for new, old in zip(jax.tree.leaves(result), jax.tree.leaves(value), strict=True):
        if (
            new is not old
            and jnp.issubdtype(old.dtype, np.integer)
            and not (new.astype(old.dtype) == old).all()
        ):
            return False
    return True


class _Writes(NamedTuple):
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


def _prepared(
    live: Tree, pairs: Sequence[_Pair], values: Sequence[Any], task: str
) -> _Writes:
    """All values as they will be written.

    Raises:
        CheckpointError: A State refuses its value; names all.
    """
    writes = _Writes([], [], [], {})
    faults: list[Fault] = []
    for pair, value in zip(pairs, values, strict=True):
        state, path = live.states[pair.at], path_str(live.layout.path(pair.at))
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


def _move(
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
