"""Plan changes on descriptions: what each array of the new layout is, as an expression of those of the old one.

    items of the source    path -> State (shape, dtype), node or static value
    rule by rule           each takes the items that it fits, and puts others in their place
    the result             path -> item, whose expression is computed when all fits

Nothing is read. A thousand rules over ten thousand paths are planned in less than a second: a
path without stars is looked up, and an item that comes in is led once through one
automaton of all globs, which says what rules it will meet.

The memory of an optimizer has the paths of the model in it (`memory.0.mu.layers.0.w`).
Such an item is taken by a rule for the model too, by its *alias* there, `model.layers.0.w`.
"""

import copy
import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from .._errors import Fault
from .._hints import did_you_mean
from .._paths import Key, Path, path_str
from .._patterns import Automaton, Pattern
from ._changes import (
    Cast,
    Change,
    Changes,
    Drop,
    Fill,
    Join,
    Rename,
    Reshape,
    Split,
    Stack,
    Sum,
    Transpose,
    Unstack,
)
from ._compare import place_text
from ._expressions import Made
from ._forms import LEAF
from ._globs import Captures, Glob
from ._item import NODE, REFERENCE, STATE, Item, Mirror
from ._leaf import ARRAY, DTYPES, NUMPY, Leaf
from ._manifest import Value
from ._shapes import changed_array, described, inserted, kind_of, unlike, with_size

# Names are compared with each other for hints, which takes a while.
_MAX_COMPARED: Final = 20_000


@dataclasses.dataclass(eq=False)
class Outcome:
    """What changes make of a source.

    Attributes:
        items: By path.
        fills: What is to stay as the target has it.
        faults: What is wrong with the changes.
        dropped: The States of the source that were left out.
    """

    items: dict[Path, Item]
    fills: list[tuple[Change, Glob]]
    faults: list[Fault]
    dropped: list[Path]


class _Met(NamedTuple):
    """An item that a rule takes, with what its stars stand for."""

    item: Item
    captures: Captures
    by_alias: bool

    @property
    def group(self) -> Hashable:
        """What items have in common that may be made into one: a place of the memory."""
        mirror = self.item.mirror
        return mirror.place if self.by_alias and mirror is not None else None


def planned(
    items: Iterable[Item], changes: Changes, other_paths: Mapping[Path, Path]
) -> Outcome:
    """What changes make of the items of a source.

    Args:
        items: The source.
        changes: The changes.
        other_paths: Further paths of its States, with the first of each.
    """
    return _Planner(changes, other_paths).run(items)


class _Planner:
    """One run of changes over items."""

    def __init__(self, changes: Changes, other_paths: Mapping[Path, Path]) -> None:
        self._changes = changes
        self._other_paths = other_paths
        self._globs = [[Glob(text) for text in change.sources] for change in changes]
        # The rules, by number, and which of their globs it is, of each pattern.
        self._users: dict[Pattern, list[tuple[int, int]]] = {}
        for at, globs in enumerate(self._globs):
            for slot, glob in enumerate(globs):
                if glob.literal is None:
                    self._users.setdefault(glob.pattern, []).append((at, slot))
        self._automaton = Automaton(self._users)
        self._users_by_states: dict[int, list[tuple[int, int]]] = {}
        self._waiting: dict[tuple[int, int], dict[int, Item]] = {}
        self._items: dict[Path, Item] = {}
        self._by_source: dict[Path, Item] = {}
        self._by_alias: dict[Path, list[Item]] = {}
        self._faults: list[Fault] = []
        self._dropped: list[Path] = []
        self._hints_left = 20
        self._at = -1

    def run(self, items: Iterable[Item]) -> Outcome:
        """Put in the items, and apply rule after rule."""
        for item in items:
            self._put(item)
        fills: list[tuple[Change, Glob]] = []
        for at, change in enumerate(self._changes):
            self._at = at
            if isinstance(change, Fill):
                fills.append((change, self._globs[at][0]))
                self._drop(self._met(0))
            else:
                self._apply(change)
        return Outcome(self._items, fills, self._told_once(), self._dropped)

    def _told_once(self) -> list[Fault]:
        """The faults, without those of a memory that are those of the model."""
        told = {(fault.path, fault.what) for fault in self._faults}
        aliases = {
            place_text(item.path): place_text(item.alias)
            for item in self._items.values()
            if item.alias is not None
        }
        return [
            fault
            for fault in self._faults
            if (aliases.get(fault.path), fault.what) not in told
        ]

    # Items come and go.

    def _put(self, item: Item) -> None:
        """Put in an item, and note what later rules it will meet."""
        other = self._items.get(item.path)
        if other is not None and other.kind != REFERENCE:
            if item.kind == REFERENCE or item.kind == other.kind == NODE:
                # Two nodes become one, which is the one that was there.
                return
            what = f"two results for one path, from {_sources(other)} and from {_sources(item)}"
            self._fault(what, item.path)
            return
        self._items[item.path] = item
        if item.kind in (STATE, NODE):
            self._by_source[item.sources[0]] = item
        paths = [item.path]
        if item.alias is not None:
            self._by_alias.setdefault(item.alias, []).append(item)
            paths.append(item.alias)
        if not self._users:
            return
        for path in paths:
            for user in self._users_of(path):
                if user[0] > self._at:
                    self._waiting.setdefault(user, {})[id(item)] = item

    def _users_of(self, path: Path) -> list[tuple[int, int]]:
        """The rules, and their globs, that fit a path; kept by the states of the automaton, as paths are alike."""
        step, states = self._automaton.step, self._automaton.start
        for key in path:
            states = step(states, key)
        users = self._users_by_states.get(states)
        if users is None:
            patterns = self._automaton.accepted(states)
            users = [user for pattern in patterns for user in self._users[pattern]]
            self._users_by_states[states] = users
        return users

    def _take(self, item: Item) -> None:
        """Take out an item."""
        del self._items[item.path]

    def _may_take(self, item: Item) -> bool:
        """Whether the rule is about such an item: only paths are changed of what is not a State."""
        is_of_paths = isinstance(self._changes[self._at], Rename | Drop)
        return is_of_paths or item.kind == STATE

    def _is_there(self, item: Item) -> bool:
        return self._items.get(item.path) is item

    def _met(self, slot: int) -> list[_Met]:
        """The items that a glob of the rule fits, in the order in which they came."""
        glob = self._globs[self._at][slot]
        items: Iterable[Item | None]
        if glob.literal is None:
            items = self._waiting.pop((self._at, slot), {}).values()
        else:
            path = glob.literal
            at_path = self._items.get(path)
            if at_path is None or not self._may_take(at_path):
                at_path = self._shared(path)
            items = [
                at_path,
                *self._by_alias.get(path, ()),
            ]
        met: list[_Met] = []
        for item in items:
            if item is None or not self._is_there(item) or not self._may_take(item):
                continue
            by_alias = item.alias is not None
            captures = glob.match(item.alias) if item.alias is not None else None
            if captures is None:
                by_alias = False
                captures = glob.match(item.path)
            if captures is None and glob.literal is not None:
                # By another path of the State.
                captures = Captures((), ())
            if captures is not None:
                met.append(_Met(item, captures, by_alias))
        return met

    def _shared(self, path: Path) -> Item | None:
        """For `_met`: the item that a path leads to over a further reference, where that is by now."""
        other = self._items.get(self._other_paths.get(path, path))
        if other is not None and other.path != path:
            return other
        for end in range(len(path), 0, -1):
            reference = self._items.get(path[:end])
            if reference is not None and reference.kind == REFERENCE:
                target = self._by_source.get(reference.sources[0])
                if target is not None and self._is_there(target):
                    return self._items.get((*target.path, *path[end:]))
        return None

    def _moved(self, met: _Met, path: Path) -> Item:
        """An item in place of another one, at the path that a rule gives it: that of a memory follows its alias."""
        item = met.item
        mirror, alias = item.mirror, item.alias
        if mirror is not None and alias is not None:
            if met.by_alias:
                alias, path = path, (*mirror.place, *mirror.below(path))
            else:
                rest = mirror.below(alias)
                mirror, alias = _mirror_at(path, rest, mirror)
                if mirror is None:
                    alias = None
        # Not `dataclasses.replace`, which takes as long as all else.
        new = copy.copy(item)
        new.path, new.mirror, new.alias = path, mirror, alias
        return new

    def _fault(self, what: str, path: Path, hint: str = "") -> None:
        """Note what is wrong with the rule, at a path."""
        if self._at >= 0:
            what = f"{what}, by {self._changes[self._at]!r}"
        self._faults.append(Fault(what, path=place_text(path), hint=hint))

    # Rules.

    def _apply(self, change: Change) -> None:
        """Apply one rule to all that it fits."""
        slots = [self._met(slot) for slot in range(len(change.sources))]
        for slot, row in enumerate(slots):
            if not row:
                self._nothing(change, self._globs[self._at][slot])
        match change:
            case Rename():
                self._rename(slots[0], Glob(change.new))
            case Drop():
                self._drop(slots[0])
            case Split():
                self._split(slots[0], change)
            case Join():
                if all(slots):
                    self._join(slots, change)
            case Sum():
                if all(slots):
                    self._sum(slots, change)
            case Stack():
                self._stack(slots[0], change)
            case Unstack():
                self._unstack(slots[0], change)
            case Transpose() | Reshape() | Cast():
                self._change_arrays(slots[0], change)
            case _:  # pragma: no cover  # `Fill`, by `run`
                raise AssertionError

    def _nothing(self, change: Change, glob: Glob) -> None:
        """Note that there is nothing for a rule."""
        self._faults.append(
            Fault(f"{change!r}: {nothing_text(glob, self._items, self._may_hint())}")
        )

    def _may_hint(self) -> bool:
        """Whether there is time to look for the nearest name."""
        self._hints_left -= 1
        return self._hints_left >= 0 and len(self._items) <= _MAX_COMPARED

    def _drop(self, row: Sequence[_Met]) -> None:
        for met in row:
            self._take(met.item)
            if met.item.kind == STATE:
                self._dropped += met.item.sources

    def _rename(self, row: Sequence[_Met], new: Glob) -> None:
        # All are taken out first: one may get the path of another one.
        for met in row:
            self._take(met.item)
        for met in row:
            self._put(self._moved(met, new.path(met.captures)))

    def _change_arrays(
        self, row: Sequence[_Met], change: "Transpose | Reshape | Cast"
    ) -> None:
        for met in row:
            leaf = self._array_of(met)
            made = None if leaf is None else changed_array(leaf, change)
            if isinstance(made, str):
                self._fault(made, met.item.path)
            elif made is not None and leaf is not None:
                kind, arguments, new = made
                if kind:
                    self._take(met.item)
                    self._put(_made(met.item, kind, arguments, new, change))

    def _split(self, row: Sequence[_Met], change: Split) -> None:
        news = [Glob(text) for text in change.new]
        for met in row:
            leaf = self._array_of(met)
            axis = None if leaf is None else self._axis(leaf, change.axis, met)
            if leaf is None or axis is None:
                continue
            size, count = leaf.shape[axis], len(news)
            sizes = change.sizes or [size // count] * count
            if sum(sizes) != size:
                what = (
                    f"axis {change.axis} of {leaf} has not the size {sum(sizes)}"
                    if change.sizes
                    else f"axis {change.axis} of {leaf} has no {count} equal parts"
                )
                self._fault(what, met.item.path, "" if change.sizes else "give sizes=")
                continue
            self._take(met.item)
            start = 0
            for new, part in zip(news, sizes, strict=True):
                shape = with_size(leaf.shape, axis, part)
                arguments = (axis, start, start + part)
                start += part
                item = self._moved(met, new.path(met.captures))
                self._put(
                    _made(item, "slice", arguments, described(leaf, shape), change)
                )

    def _unstack(self, row: Sequence[_Met], change: Unstack) -> None:
        new = Glob(change.new)
        for met in row:
            leaf = self._array_of(met)
            axis = None if leaf is None else self._axis(leaf, change.axis, met)
            if leaf is None or axis is None:
                continue
            self._take(met.item)
            shape = (*leaf.shape[:axis], *leaf.shape[axis + 1 :])
            for layer in range(leaf.shape[axis]):
                stars = inserted(met.captures.stars, change.star, layer)
                path = new.path(met.captures._replace(stars=stars))
                item = self._moved(met, path)
                self._put(
                    _made(item, "take", (axis, layer), described(leaf, shape), change)
                )

    def _groups(
        self, slots: Sequence[Sequence[_Met]], verb: str
    ) -> Iterator[Sequence[_Met]]:
        """For `Join` and `Sum`: what becomes one array, for each; notes a fault where a part is missing."""
        groups: dict[Hashable, dict[int, _Met]] = {}
        for slot, row in enumerate(slots):
            for met in row:
                groups.setdefault((met.group, met.captures), {})[slot] = met
        for group in groups.values():
            mets = [group[slot] for slot in sorted(group)]
            if len(group) == len(slots):
                yield mets
                continue
            lacking = [
                path_str(self._globs[self._at][slot].path(mets[0].captures))
                for slot in range(len(slots))
                if slot not in group
            ]
            self._fault(
                f"there is no {', '.join(lacking)} to {verb} it with",
                mets[0].item.path,
            )

    def _sum(self, slots: Sequence[Sequence[_Met]], change: Sum) -> None:
        new = Glob(change.new)
        for mets in self._groups(slots, "add"):
            first = mets[0]
            leaves = self._arrays_of(mets)
            if leaves is None:
                continue
            # The gradient of a sum is that of each part, so that moments of the parts
            # are not to be added; what else an optimizer remembers, nobody knows.
            if first.by_alias:
                what = "is what an optimizer remembers, which does not add up"
                self._fault(what, first.item.path, "Drop it first, and Fill it")
                continue
            what = unlike(leaves, None)
            if not what and kind_of(DTYPES[leaves[0].dtype]) is None:
                what = f"{leaves[0]} is not of numbers"
            if what:
                self._fault(what, first.item.path)
                continue
            path = new.path(first.captures)
            leaf = described(leaves[0], leaves[0].shape)
            self._unite(mets, path, "sum", (), leaf, change)

    def _join(self, slots: Sequence[Sequence[_Met]], change: Join) -> None:
        new = Glob(change.new)
        for mets in self._groups(slots, "join"):
            leaves = self._arrays_of(mets)
            axis = (
                None if leaves is None else self._axis(leaves[0], change.axis, mets[0])
            )
            if leaves is None or axis is None:
                continue
            sizes = [
                leaf.shape[axis] if axis < len(leaf.shape) else -1 for leaf in leaves
            ]
            what, hint = unlike(leaves, axis), ""
            if not what and change.sizes is None and len(set(sizes)) > 1:
                what, hint = (
                    f"the parts have sizes {_listed(sizes)}",
                    f"give sizes={sizes}",
                )
            elif not what and change.sizes is not None and list(change.sizes) != sizes:
                what = f"the parts have sizes {_listed(sizes)}"
            if what:
                self._fault(what, mets[0].item.path, hint)
                continue
            shape = with_size(leaves[0].shape, axis, sum(sizes))
            self._unite(
                mets,
                new.path(mets[0].captures),
                "join",
                (axis,),
                described(leaves[0], shape),
                change,
            )

    def _stack(self, row: Sequence[_Met], change: Stack) -> None:
        new = Glob(change.new)
        groups: dict[Hashable, dict[int, _Met]] = {}
        for met in row:
            stars = met.captures.stars
            layer = _as_position(stars[change.star])
            if layer is None:
                self._fault(
                    f"{stars[change.star]!r} is not the number of a layer",
                    met.item.path,
                )
                continue
            rest = (*stars[: change.star], *stars[change.star + 1 :])
            captures = met.captures._replace(stars=rest)
            groups.setdefault((met.group, captures), {})[layer] = met._replace(
                captures=captures
            )
        for group in groups.values():
            mets = [group[layer] for layer in sorted(group)]
            path = new.path(mets[0].captures)
            absent = sorted(set(range(max(group))) - set(group))
            if absent:
                self._fault(f"layer {absent[0]} of {max(group) + 1} is missing", path)
                continue
            leaves = self._arrays_of(mets)
            if leaves is None:
                continue
            what = unlike(leaves, None)
            axes = len(leaves[0].shape)
            if what or not -axes - 1 <= change.axis <= axes:
                what = what or f"{leaves[0]} has no place for axis {change.axis}"
                self._fault(what, path)
                continue
            axis = change.axis % (axes + 1)
            shape = inserted(leaves[0].shape, axis, len(mets))
            leaf = described(leaves[0], shape)
            self._unite(mets, path, "stack", (axis,), leaf, change)

    def _unite(
        self,
        mets: Sequence[_Met],
        path: Path,
        kind: str,
        arguments: tuple[int, ...],
        leaf: Leaf,
        change: Change,
    ) -> None:
        """Put one item in the place of several."""
        items = [met.item for met in mets]
        for item in items:
            self._take(item)
        sources = tuple(dict.fromkeys(path for item in items for path in item.sources))
        steps = tuple(dict.fromkeys(step for item in items for step in item.steps))
        new = self._moved(mets[0], path)
        new.sources, new.steps = sources, (*steps, change.kind)
        inputs = tuple([item.expression for item in items])
        new.expression = Made(kind, inputs, arguments)
        new.value = Value(LEAF, [()], [leaf])
        self._put(new)

    # What a rule may be applied to.

    def _array_of(self, met: _Met) -> Leaf | None:
        """The one array that a State holds; notes a fault where it is something else."""
        value, mirror = met.item.value, met.item.mirror
        is_alike = mirror is None or mirror.is_alike or not met.by_alias
        if not is_alike and not isinstance(self._changes[self._at], Cast):
            what = f"holds {value}, which is not of the shape of what it belongs to"
            hint = "Drop it first, and Fill it"
            self._fault(what, met.item.path, hint)
            return None
        if (
            value is not None
            and value.form == LEAF
            and value.leaves[0].kind in (ARRAY, NUMPY)
        ):
            return value.leaves[0]
        self._fault(f"holds {value}, and not one array", met.item.path)
        return None

    def _arrays_of(self, mets: Sequence[_Met]) -> list[Leaf] | None:
        """The arrays of several States; `None` where one holds something else."""
        leaves = [self._array_of(met) for met in mets]
        arrays = [leaf for leaf in leaves if leaf is not None]
        return arrays if len(arrays) == len(leaves) else None

    def _axis(self, leaf: Leaf, axis: int, met: _Met) -> int | None:
        """An axis counted from 0; notes a fault where the array has none such."""
        if not -len(leaf.shape) <= axis < len(leaf.shape):
            self._fault(f"{leaf} has no axis {axis}", met.item.path)
            return None
        return axis % len(leaf.shape)


def _mirror_at(path: Path, rest: Path, mirror: Mirror) -> tuple[Mirror | None, Path]:
    """For `_moved`: the mirror where the memory itself was moved; `None` where it no longer is one."""
    if not rest or path[-len(rest) :] != rest:
        return None, rest
    return mirror._replace(place=path[: -len(rest)]), (*mirror.bases[0], *rest)


def _made(
    item: Item, kind: str, arguments: tuple[Any, ...], leaf: Leaf, change: Change
) -> Item:
    """An item with an array made from its own."""
    new = copy.copy(item)
    new.expression = Made(kind, (item.expression,), arguments)
    new.value = Value(LEAF, [()], [leaf])
    new.steps = (*item.steps, change.kind)
    return new


def _as_position(capture: Key) -> int | None:
    """What a star stands for, as the number of a layer."""
    if isinstance(capture, str):
        return int(capture) if capture.isascii() and capture.isdigit() else None
    return capture if capture >= 0 else None


def _listed(sizes: Sequence[int]) -> str:
    """Sizes for a message."""
    *first, last = map(str, sizes)
    return f"{', '.join(first)} and {last}"


def _sources(item: Item) -> str:
    """Where an item is from, for a message."""
    return ", ".join(map(place_text, item.sources))


def nothing_text(glob: Glob, paths: Iterable[Path], may_hint: bool) -> str:
    """For a fault: that nothing has a path, with what may have been meant."""
    what = f"there is nothing at {glob.text!r}"
    if not may_hint:
        return what
    paths = list(paths)
    literal = glob.literal
    if literal and any(path[: len(literal)] == literal for path in paths):
        return f"{what} itself; write '{glob.text}.**' for all below it"
    hint = did_you_mean(glob.text, map(path_str, paths))
    return f"{what}; {hint}" if hint else what
