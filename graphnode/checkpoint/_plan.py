"""What of a checkpoint goes where in a live tree, and all that does not fit.

Without changes the two graphs are walked together (`_compare`). With changes, or fields
that had other names, what the changes make of the file is looked up by path: States,
and nodes with their static values.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import CheckpointError, Fault
from .._filters import AnyFilter
from .._graph._states_json import classes_by_name
from .._hints import did_you_mean
from .._paths import Path, path_str
from ._added import added_fields, with_added_fields
from ._changes import Changes, Rename
from ._choose import (
    Globs,
    chosen,
    chosen_of_file,
    needed_nodes,
)
from ._compare import (
    Change,
    Matching,
    class_texts,
    is_same_class,
    matched,
    place_text,
    static_differences,
)
from ._fit import fitted, places_of
from ._forms import form_text
from ._item import NODE, STATIC, Item
from ._items import LAYOUT, is_layout, items_of, other_paths
from ._leaf import ARRAY, DTYPES, KEY, NUMPY, Leaf
from ._manifest import Manifest, Value
from ._plan_changes import Outcome, planned
from ._report import Report
from ._shapes import kind_of
from ._structure import class_text
from ._tree import IteratorState, Tree
from ._was import former_classes, may_rename, renames_of, was_class

# Its name in files.
ITERATOR: Final = (
    f"{IteratorState.__module__.rpartition('.')[0]}.{IteratorState.__name__}"
)


class Pair(NamedTuple):
    """A State of the tree, by position, and the State of the file that it gets, by number."""

    at: int
    number: int
    is_iterator: bool


class Changed(NamedTuple):
    """What changes make of a file for a tree.

    Attributes:
        items: What of the file, once changed, each State gets.
        pairs: The States, and the first one of the file that each is made of.
        report: What was read from where.
    """

    items: list[Item]
    pairs: list[Pair]
    report: Report


class Plan:
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

    def pairs(self, is_allowed: Globs, task: str) -> list[Pair]:
        """Which State of the tree gets which of the file.

        Raises:
            CheckpointError: Something does not fit; names all.
        """
        file = with_added_fields(self._manifest).structure
        matching = matched(self._tree, file, is_allowed)
        faults: list[Fault] = [*self._changes(matching), *self._absences(matching)]
        pairs: list[Pair] = []
        for number, partner in matching.pairs():
            if number not in self._chosen:
                continue
            at = self._position[number]
            is_iterator = isinstance(self._live.states[at], IteratorState)
            if is_iterator is not (self._file.specs[partner].cls == ITERATOR):
                # One has no place for what the other one is; the classes tell of it.
                path = self._tree.paths[number]
                if is_allowed(path):
                    what = "a data iterator gets the state of another one alone"
                    faults.append(Fault(what, path=path_str(path)))
                continue
            pairs.append(Pair(at, partner, is_iterator))
            if not is_iterator:
                tree, saved = self._live.values[at], self._manifest.by_state[partner]
                faults += self._value_faults(number, tree, saved)
        if faults:
            faults.sort(key=_by_path)
            raise CheckpointError(task, faults)
        return pairs

    def changed(self, changes: Changes, is_allowed: Globs, task: str) -> Changed:
        """What of the file, once changed, each State of the tree gets.

        Raises:
            CheckpointError: Something does not fit; names all.
        """
        outcome = self._outcome(changes)
        fit = fitted(
            self._live, outcome, self._chosen, self._may_lack, self._may_be_unused()
        )
        faults = [*fit.faults, *self._node_faults(outcome, is_allowed)]
        items: list[Item] = []
        pairs: list[Pair] = []
        for number in sorted(fit.items):
            item, at = fit.items[number], self._position[number]
            partner = self._number_of[item.sources[0]]
            is_iterator = isinstance(self._live.states[at], IteratorState)
            faults += self._class_faults(number, partner, is_allowed)
            if is_iterator is not (self._file.specs[partner].cls == ITERATOR):
                continue
            items.append(item)
            pairs.append(Pair(at, partner, is_iterator))
            if not is_iterator and item.value is not None:
                faults += self._value_faults(number, self._live.values[at], item.value)
        if faults:
            faults.sort(key=_by_path)
            raise CheckpointError(task, faults)
        return Changed(items, pairs, self._with_classes(fit.report, outcome))

    def _with_classes(self, report: Report, outcome: Outcome) -> Report:
        """For `changed`: the report, with the classes that had other names."""
        places = places_of(self._tree)
        former: dict[str, str] = {}
        for path, item in outcome.items.items():
            number = places.get(path)
            if item.kind == NODE and number is not None and isinstance(item.key, int):
                new, old = self._tree.specs[number].cls, self._file.specs[item.key].cls
                if not is_same_class(new, old):
                    former[place_text(path)] = (
                        f"{class_text(old)} is {class_text(new)} now"
                    )
        return dataclasses.replace(report, changed={**report.changed, **former})

    def is_changed(self, changes: Changes) -> bool:
        """Whether the file is not as the classes are: there are changes, or it has former names."""
        if changes:
            return True
        if not may_rename([self._tree, self._file]):
            return False
        _, renames, faults = self._planned(changes)
        by_name = classes_by_name()
        former = {name for cls in by_name.values() for name in former_classes(cls)}
        classes = {spec.cls for spec in self._file.specs}
        return bool(renames or faults or former & classes)

    def _outcome(self, changes: Changes) -> Outcome:
        """For `changed`: what the changes, and what is said by `was=`, make of the file."""
        outcome, renames, faults = self._planned(changes)
        if renames:
            outcome = self._outcome_of(changes + renames)
        outcome.faults += faults
        return outcome

    def _planned(self, changes: Changes) -> tuple[Outcome, list[Rename], list[Fault]]:
        """What the changes make of the file, and what `was=` says of that: further changes, and what is wrong."""
        outcome = self._outcome_of(changes)
        by_name = classes_by_name()
        nodes = [
            (self._tree.paths[number], by_name[spec.cls])
            for number, spec in enumerate(self._tree.specs)
            if not spec.is_state and spec.cls in by_name
        ]
        return outcome, *renames_of(outcome.items.values(), nodes)

    def _outcome_of(self, changes: Changes) -> Outcome:
        items = items_of(self._manifest, changes, self._tree)
        return planned(items, changes, other_paths(self._file))

    @functools.cached_property
    def _number_of(self) -> dict[Path, int]:
        """The number of each object of the file, by path."""
        return {path: number for number, path in enumerate(self._file.paths)}

    def _may_be_unused(self) -> Callable[[Item], bool]:
        """Whether a State of the file may be left out: it is not meant, or allowed."""
        allowed: set[int] = set()
        if self._allow_unexpected is not None:
            filter = self._allow_unexpected
            allowed = chosen_of_file(self._file, filter, "allow_unexpected")
        if self._only is not None:
            allowed |= set(self._file.states)
            allowed -= chosen_of_file(self._file, self._only, None)
        numbers = self._number_of
        return lambda item: all(numbers[path] in allowed for path in item.sources)

    def _class_faults(
        self, number: int, partner: int, is_allowed: Globs
    ) -> list[Fault]:
        """For `changed`: whether two objects that correspond are of different classes."""
        path = self._tree.paths[number]
        left, right = self._tree.specs[number].cls, self._file.specs[partner].cls
        is_former = was_class(right, classes_by_name().get(left))
        if is_same_class(left, right) or is_former or is_allowed(path):
            return []
        return [
            _change_fault(
                Change("class", path, *class_texts(left, right), number, partner)
            )
        ]

    def _node_faults(self, outcome: Outcome, is_allowed: Globs) -> list[Fault]:
        """For `changed`: where nodes, and their static values, are others than in the tree."""
        places = places_of(self._tree)
        static: dict[Path, dict[str, Any]] = {}
        for path, item in outcome.items.items():
            if item.kind == STATIC and isinstance(item.key, tuple):
                partner, name = item.key
                static.setdefault(path[:-1], {})[str(path[-1])] = self._file.specs[
                    partner
                ].parts[name]
        by_name = classes_by_name()
        needed = set(places.values())
        if self._only is not None:
            needed = needed_nodes(self._tree, self._chosen)
        faults: list[Fault] = []
        for path, item in outcome.items.items():
            number = places.get(path)
            if item.kind != NODE or number is None or number not in needed:
                continue
            if self._tree.specs[number].is_state or not isinstance(item.key, int):
                continue
            found = self._class_faults(number, item.key, is_allowed)
            faults += found
            if not found:
                left = dict(self._tree.specs[number].parts)
                right = static.get(path, {})
                cls = by_name.get(self._tree.specs[number].cls)
                if cls is not None:
                    right.update(added_fields(cls, right))
                if is_layout(left.get(LAYOUT)) and is_layout(right.get(LAYOUT)):
                    # The paths of the model, which the changes are about.
                    right[LAYOUT] = left[LAYOUT]
                for name, first, second in static_differences(left, right):
                    place = (*path, name)
                    if not is_allowed(place):
                        change = Change(
                            "static", place, first, second, number, item.key
                        )
                        faults.append(_change_fault(change))
        return faults

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

    def casted(self, pairs: Sequence[Pair], values: list[Any], task: str) -> list[Any]:
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


def _can_cast(tree: Leaf, file: Leaf) -> bool:
    """Whether `cast` may turn an array of the file into one as the tree has it: of another dtype of the same kind."""
    if (
        tree.kind != file.kind
        or tree.kind not in (ARRAY, NUMPY)
        or tree.shape != file.shape
    ):
        return False
    kinds = [kind_of(DTYPES[leaf.dtype]) for leaf in (tree, file)]
    return kinds[0] is not None and kinds[0] == kinds[1]


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
