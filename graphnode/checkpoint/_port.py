"""Read the arrays of other programs into a model, and write a model as they have it."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import jax
import numpy as np

from .._errors import CheckpointError, Fault
from .._filters import AnyFilter
from .._graph._states_json import classes_by_name
from .._keys import is_on_host
from .._paths import Path, path_str
from ._changes import Change, Changes, as_changes
from ._choose import Globs, Shardings, chosen, sharding_of_each
from ._commit import commit, move, moved_back_on_error, prepared
from ._embedded import embedded
from ._expressions import Array, Expression, compute
from ._files import absolute
from ._fit import fitted, value_faults
from ._forms import LEAF
from ._globs import name_of_path
from ._item import Item, state_items
from ._items import other_paths
from ._leaf import ARRAY, DTYPES, NUMPY
from ._manifest import Value
from ._plan_changes import Outcome, planned
from ._report import Report, report_of
from ._restore import targets_of
from ._safetensors_write import IN_PART, write_safetensors
from ._save import Extra, manifest_of_tree, value_fault
from ._source_values import WantedArray, values_of
from ._sources import WRITERS, Source, opened, suffix_of
from ._tree import IteratorState, PlainValue, Tree, take_tree
from ._was import renames_of

ALIASES: Final = "graphnode.aliases"
"""The key of the metadata of a file under which further paths of States are: JSON, each with the first one."""


# Any: a path, arrays by name, or a module of a library that may not be installed.
def read(
    source: Any,
    /,
    *,
    into: object,
    changes: "Changes | Iterable[Change]" = (),
    allow_missing: "AnyFilter | None" = None,
    allow_unused: "str | Iterable[str]" = (),
    shardings: "Shardings | None" = None,
) -> Report:
    """Read arrays that another program has written, or holds, into a live model.

    Changes lead from their names and layouts to those of the model. All is compared
    before an array is read: names that no State takes, States that nothing is for,
    shapes, dtypes. If anything does not fit, nothing is changed. Arrays are read one by
    one; what is to be over several devices is read part by part, each device its own,
    from `.safetensors` and from arrays in memory.

    Args:
        source: A file (`.npz`, `.safetensors`, an index of several of these, or their directory), a
            directory that Orbax or `save` has written, a mapping
            of names to arrays, or a live module of flax.nnx, equinox, brainstate or
            PyTorch.
        into: A node, or a pytree of nodes; its values may be shapes, as of
            `gn.eval_shape`.
        changes: From the names of the source to the paths of the model: see `Changes`.
        allow_missing: A filter of the model: what the source may lack, and then stays
            as it is.
        allow_unused: Names or globs: what the source may have beyond the model.
        shardings: Where arrays are to be, as of `restore`.

    Returns:
        What was read from where, and what was left out.

    Raises:
        CheckpointError: The source cannot be read, or something does not fit; names all
            faults. Nothing was changed.
        FilterError: There is nothing at a path of a filter.
        TraceError: A transformation of JAX runs.

    Example:
        >>> arrays = {"fc.kernel": np.ones((2, 3), np.float32), "fc.bias": np.zeros(3, np.float32)}
        >>> layer = gn.eval_shape(lambda: gn.nn.Linear(2, 3))
        >>> print(gn.checkpoint.read(arrays, into=layer, changes=[
        ...     gn.checkpoint.Rename("fc.kernel", "weight"),
        ...     gn.checkpoint.Rename("fc.*", "*"),
        ... ]))
        bias    <- fc.bias    rename
        weight  <- fc.kernel  rename

    See also: `write`, the inverse; `restore`, for whole runs that `save` has written.
    """
    task = f"cannot read {_name_of(source)}"
    live = take_tree(into, task)
    _check_is_model(live, task)
    structure, layout = live.structure, live.layout
    may_lack = _numbers(live, allow_missing)
    given = sharding_of_each(layout, live.states, shardings)
    is_allowed = Globs(allow_unused)
    with opened(source, task) as opened_source:
        outcome = _outcome(opened_source, as_changes(changes), live)
        fit = fitted(
            live,
            outcome,
            set(structure.states),
            may_lack,
            lambda item: any(map(is_allowed, (item.path, *item.sources))),
        )
        position = {number: at for at, number in enumerate(structure.states)}
        numbers = sorted(fit.items)
        faults = list(fit.faults)
        for number in numbers:
            tree = live.values[position[number]]
            faults += value_faults(structure.paths[number], tree, fit.items[number])
        faults.sort(key=_by_path)
        if faults:
            raise CheckpointError(task, faults)
        places = [position[number] for number in numbers]
        wanted = [
            WantedArray(
                fit.items[number].expression,
                live.values[at].leaves[0],
                targets_of(live, at, given)[0],
            )
            for number, at in zip(numbers, places, strict=True)
        ]
        values = values_of(opened_source, wanted)
    with moved_back_on_error() as moved:
        writes = prepared(live, places, values, task)
        move(writes.iterators, moved, task)
        commit(writes, moved)
    return fit.report


def _name_of(source: object) -> str:
    """For `read`: a source, for a message."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return "the arrays" if isinstance(source, Mapping) else type(source).__name__


def _by_path(fault: Fault) -> str:
    return fault.path


def _numbers(live: Tree, filter: "AnyFilter | None") -> set[int]:
    """The numbers of the States that a filter selects."""
    if filter is None:
        return set()
    return {
        live.structure.states[at] for at in chosen(live.layout, live.states, filter)
    }


def _check_is_model(live: Tree, task: str) -> None:
    """For `read` and `write`: raise if there are arrays outside of nodes, which could not be given back."""
    faults = [
        Fault("stands outside of a node", path=path_str(live.layout.path(at)))
        for at, state in enumerate(live.states)
        if isinstance(state, (PlainValue, IteratorState))
    ]
    if faults:
        raise CheckpointError(task, faults)


def _outcome(source: Source, changes: Changes, live: Tree) -> Outcome:
    """For `read`: what the changes, and what is said by `was=`, make of a source."""

    def outcome_of(changes: Changes) -> Outcome:
        items = source.items(changes, live.structure)
        return planned(items, changes, source.other_paths)

    outcome = outcome_of(changes)
    by_name = classes_by_name()
    nodes = [
        (live.structure.paths[number], by_name[spec.cls])
        for number, spec in enumerate(live.structure.specs)
        if not spec.is_state and spec.cls in by_name
    ]
    renames, faults = renames_of(outcome.items.values(), nodes)
    if renames:
        outcome = outcome_of(changes + renames)
    outcome.faults += faults
    return outcome


def write(
    model: object,
    path: "str | os.PathLike[str]",
    /,
    *,
    changes: "Changes | Iterable[Change]" = (),
    metadata: "Mapping[str, str] | None" = None,
    max_shard_bytes: int | None = None,
    overwrite: bool = False,
) -> Report:
    """Write the arrays of a model to a file, by the names and in the layout of another program.

    Arrays are made and written one by one. A State that the model has at several places
    is written once, at its first path; the metadata of the file have the others, and
    what model it is of (`.safetensors`): `load` makes it of the file alone.

    Args:
        model: A node, or a pytree of nodes.
        path: The file; its suffix says the format: `.npz` or `.safetensors`. With
            `max_shard_bytes` a directory.
        changes: From the paths of the model to the names of the file: the `inverse()` of
            those by which such a file is read.
        metadata: Texts for a format that has a place for them.
        max_shard_bytes: Write a directory of `.safetensors` files and their index, of
            which none has more bytes of arrays, unless one array has.
        overwrite: Whether what is at the path is replaced.

    Returns:
        What was made of what.

    Raises:
        CheckpointError: The changes do not fit; a State holds no array, such as a
            random key, and is not dropped; a dtype has no place in the format; or
            something is at the path. Names all.

    Example:
        >>> changes = gn.checkpoint.Changes([gn.checkpoint.Rename("kernel", "weight")])
        >>> print(gn.checkpoint.write(gn.nn.Linear(2, 3), "layer.npz", changes=changes.inverse()))
        bias    <- bias
        kernel  <- weight  rename
        >>> print(gn.checkpoint.read("layer.npz", into=gn.nn.Linear(2, 3), changes=changes))
        bias    <- bias
        weight  <- kernel  rename

    See also: `read`, the inverse; `save`, for whole runs.
    """
    target = absolute(path)
    task = f"cannot write {os.fspath(path)}"
    writer = _writer_of(target, max_shard_bytes, task)
    live = take_tree(model, task)
    _check_is_model(live, task)
    arrays = {
        at: taken.leaves[0]
        for at, (taken, value) in enumerate(zip(live.taken, live.values, strict=True))
        if value.form == LEAF
    }
    others = other_paths(live.structure)
    rows = [(live.layout.path(at), at, value) for at, value in enumerate(live.values)]
    changes = as_changes(changes)
    outcome = planned(state_items(rows), changes, others)
    faults = list(outcome.faults)
    names: dict[str, Item] = {}
    for item in outcome.items.values():
        name = name_of_path(item.path)
        names[name] = item
        fault = _unwritable(item, arrays)
        if fault:
            faults.append(Fault(fault, path=name, hint=f"Drop({name!r}) leaves it out"))
    faults += [
        Fault(f"{change!r}: only a model that is read into can be filled")
        for change, _ in outcome.fills
    ]
    if faults:
        raise CheckpointError(task, faults)
    manifest = manifest_of_tree(live, live.values, Extra(None, None))
    texts = {**embedded(manifest, changes), **(metadata or {})}
    if others:
        table = {path_str(other): path_str(first) for other, first in others.items()}
        texts.setdefault(ALIASES, json.dumps(table))

    def values_of(at: Any) -> Array:
        return np.asarray(arrays[at])

    lazy = {
        name: _Lazy(item.value, item.expression, values_of)
        for name, item in names.items()
        if item.value is not None
    }
    writer(target, lazy, metadata=texts, overwrite=overwrite)
    fits: list[tuple[Path, Item]] = [(item.path, item) for item in names.values()]
    return report_of(fits, (), outcome.dropped)


def _writer_of(
    path: str, max_shard_bytes: int | None, task: str
) -> Callable[..., None]:
    """For `write`: what writes a file, or a directory of several.

    Raises:
        CheckpointError: The path has the suffix of neither.
    """
    suffix = suffix_of(path, WRITERS)
    if max_shard_bytes is None:
        if suffix:
            return WRITERS[suffix]
        what = f"the suffix is one of {', '.join(WRITERS)}"
        hint = "max_shard_bytes= writes a directory"
        raise CheckpointError(task, [Fault(what, hint=hint)])
    if suffix:
        what = "with max_shard_bytes the path is a directory, and has no suffix"
        raise CheckpointError(task, [what])
    return functools.partial(write_safetensors, max_shard_bytes=max_shard_bytes)


def _unwritable(item: Item, arrays: Mapping[int, Any]) -> str:
    """For `write`: why something has no place in a file of arrays; empty if it has one."""
    value = item.value
    assert value is not None
    if value.form != LEAF or value.leaves[0].kind not in (ARRAY, NUMPY):
        return f"a file of arrays has no place for {value}"
    if not isinstance(item.key, int):
        return ""
    array = arrays[item.key]
    fault = value_fault(array)
    if fault is None and isinstance(array, jax.Array) and not is_on_host(array):
        return IN_PART
    return fault or ""


@dataclasses.dataclass(frozen=True)
class _Lazy:
    """An array for a file, which is made when it is written."""

    _value: Value
    _expression: Expression
    _read: Callable[[Any], Array]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.leaves[0].shape

    @property
    def dtype(self) -> "np.dtype[Any]":
        return DTYPES[self._value.leaves[0].dtype]

    def read(self) -> Array:
        return compute(self._expression, self._read)
