"""Match values by path (state trees, live States, nested mappings) with the States of a structure.

A merge or update gets collections that name States by path, and needs to know which
State of the graphdef each value is for:

    layout of the graphdef      0 dec.bias    1 dec.weight    2 enc.weight
    {"enc": {"weight": w}, "dec.*": v, "old": x}

    values      w    x       v    v
    numbers     2    None    0    1         an index into the layout; None leads nowhere
    paths       enc.weight   old   dec.bias   dec.weight

A nested mapping and the layout's trie are walked down together, so the layout says what
is a level and what is a value. A `StateTree` is matched layout by layout, which is
computed once for each pair. Any path of a shared State will do. What is wrong with the
outcome (unknown, missing, twice) is for the caller to say.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax

from ._arguments import wrong_argument
from ._graph._graphdef import GraphDef
from ._graph._layout import Layout, Positions
from ._hints import did_you_mean
from ._paths import Key, Path, as_key, is_path, parse_path, path_str
from ._patterns import is_glob, pattern_of
from ._selection import ambiguity_fault
from ._state import State, StateSpec
from ._statetree import FlatStates, StateTree, TreefyState

# What names States by path: values alone, live States, or a mapping of either, nested
# or with whole paths as its keys.
States: TypeAlias = StateTree | FlatStates[Any] | Mapping[Any, Any]


class Matched(NamedTuple):
    """One collection, matched with the States of a structure: parallel rows, one entry for each value.

    Attributes:
        numbers: The number of the State that each value is for; `None` where the path
            leads nowhere.
        values: The values.
        specs: The description of each, where the collection records one.
        layout: The paths of the values.
        states: The live States, where the collection holds them.
        globs: The glob that stood for value number `at`, for values by globs.
        further: A value whose State the collection shares, and the structure does not,
            goes to several States. After the values of the layout come these again:
            each has its number in the layout, and the further path.
    """

    numbers: Sequence[int | None]
    values: Sequence[Any]
    specs: Sequence[StateSpec | None]
    layout: Layout | Sequence[Path]
    states: Sequence[State[Any] | None] | None = None
    globs: Mapping[int, str] = MappingProxyType({})
    further: Sequence[tuple[int, Path]] = ()

    def path(self, at: int) -> Path:
        """The path of value number `at`."""
        count = len(self.layout)
        if at >= count:
            return self.further[at - count][1]
        return (
            self.layout.path(at) if isinstance(self.layout, Layout) else self.layout[at]
        )

    def paths(self, at: int) -> Sequence[Path]:
        """The paths of value number `at` in its collection; the one that it was matched by is first.

        For `update_states`, which puts a popped State back at all of them.
        """
        if not isinstance(self.layout, Layout):
            return (self.path(at),)
        count = len(self.layout)
        first = at if at < count else self.further[at - count][0]
        return (self.path(at), *self.layout.other_paths(first))

    def key(self, at: int) -> str:
        """For messages: the path or glob of value number `at`, as a text."""
        return self.globs.get(at) or path_str(self.path(at))

    def contradictions(self, layout: Layout) -> list[str]:
        """For updates and merges: the faults of a collection that has two values for one State, by two of its paths.

        Args:
            layout: The layout of the structure.
        """
        # The usual case, without a walk over the values in Python.
        if len(set(self.numbers)) == len(self.numbers):
            return []
        first_at: dict[int, int] = {}
        faults: list[str] = []
        for at, number in enumerate(self.numbers):
            if number is None:
                continue
            first = first_at.setdefault(number, at)
            if not is_one_value(self.values[first], self.values[at]):
                where = path_str(layout.path(number))
                faults.append(
                    f"{where} is given two values, by {self.key(first)} and by {self.key(at)}"
                )
        return faults


def is_one_value(first: Any, second: Any) -> bool:
    """Whether two values hold the same arrays, by identity. Their containers may be copies.

    A State may be given one value by several of its paths; two values are a fault.
    """
    if first is second:
        return True
    treedefs: list[object] = [jax.tree.structure(first), jax.tree.structure(second)]
    if treedefs[0] != treedefs[1]:
        return False
    return all(map(operator.is_, jax.tree.leaves(first), jax.tree.leaves(second)))


def match(graphdef: GraphDef[Any], tree: States) -> Matched:
    """For `update_states`, `treefy_merge` and optimizers: match one collection with the States of a structure.

    Raises:
        TypeError: `tree` is not a collection of States.
    """
    if isinstance(tree, StateTree):
        positions = numbers_of(graphdef, tree.layout)
        return _match_layout(positions, tree.layout, tree._values)
    if isinstance(tree, FlatStates):
        positions = numbers_of(graphdef, tree.layout)
        values = [state.value for state in tree._states]
        return _match_layout(positions, tree.layout, values, tree._states)
    if isinstance(tree, Mapping):
        return _match_mapping(graphdef, tree)
    raise TypeError(
        wrong_argument("a StateTree, FlatStates or a nested mapping by path", tree)
    )


def _match_layout(
    positions: Positions,
    layout: Layout,
    values: Sequence[Any],
    states: Sequence[State[Any]] | None = None,
) -> Matched:
    """For `match`: the values of a collection with a layout, and once more those that further paths lead to.

    Args:
        positions: The numbers that the States of `layout` have in the structure.
        layout: The layout of the collection.
        values: Its values.
        states: Its live States, where it holds them.
    """
    numbers, further = positions
    if not further:
        return Matched(numbers, values, layout.specs, layout, states)
    rows = [*range(len(layout)), *[at for at, _, _ in further]]
    return Matched(
        [*numbers, *[number for _, number, _ in further]],
        [values[at] for at in rows],
        [layout.specs[at] for at in rows],
        layout,
        None if states is None else [states[at] for at in rows],
        further=[(at, path) for at, _, path in further],
    )


def numbers_of(graphdef: GraphDef[Any], layout: Layout) -> Positions:
    """The number in the structure's own layout of each State of another layout; computed once for each pair.

    For collections, whose values have to get to the right States. A number is `None`
    where the structure has no State at the path.
    """
    if layout is graphdef.layout:
        return Positions(tuple(range(len(layout))), ())
    return graphdef.plans.to(layout, lambda: graphdef.layout.positions_of(layout))


def nearest(layout: Layout, text: str) -> str:
    """The end of a message about a path without a State: the nearest path that has one, if any."""
    hint = did_you_mean(text, layout.spellings())
    return f"; {hint}" if hint else ""


def _nested(items: Iterable[tuple[Any, Any]]) -> Mapping[Any, Any]:
    """A nested mapping of items whose keys may be whole paths.

    So that mappings nested and by whole path are walked alike. A path may lead on into
    a dict that is the value of a State: the layout tells later.

    Raises:
        TypeError: A path is empty, is given twice, or leads on from where another one ends.
    """
    tree: dict[Any, Any] = {}
    # The levels that are made here, by id: a value may be a dict too.
    levels: dict[int, dict[Any, Any]] = {}
    for key, value in items:
        path: Path = key if isinstance(key, tuple) else (key,)
        if not path:
            raise TypeError("expected paths of States as keys, found ()")
        level = tree
        for length, step in enumerate(path[:-1], start=1):
            if step not in level:
                level[step] = {}
                levels[id(level[step])] = level[step]
            # A dict of the user's: it is the value of a State, and must not be filled
            # here.
            elif id(level[step]) not in levels:
                raise TypeError(
                    f"{path_str(path)} is given, and {path_str(path[:length])} as a whole"
                )
            level = level[step]
        last = path[-1]
        if last in level:
            is_level = id(level[last]) in levels
            how = "as a whole and in parts" if is_level else "twice"
            raise TypeError(f"{path_str(path)} is given {how}")
        level[last] = value
    return tree


def _from_root(items: Sequence[tuple[Any, Any]], layout: Layout) -> Any:
    """For `_match_mapping`: what is at the root, a nested mapping or the value of a State that is the root itself.

    Args:
        items: Keys, or whole paths, with their values.
        layout: The layout of the structure.
    """
    if layout.is_of_a_state and [key for key, _ in items] == [()]:
        return items[0][1]
    return _nested(items)


def _path_or_key(key: Any, layout: Layout) -> Any:
    """For `_match_mapping`: a key at the top of a mapping; a text is made a path if the layout has no such key.

    Raises:
        TypeError: The text is a key, and also the text of another path.
    """
    if not isinstance(key, str) or not is_path(key):
        return key
    if layout.entry((key,)) is None:
        return parse_path(key)
    fault = ambiguity_fault(layout, key)
    if fault is not None:
        raise TypeError(fault)
    return key


def _is_key(glob: str, layout: Layout) -> bool:
    """For `_match_mapping`: whether a text that reads as a glob is a key at the top.

    Raises:
        TypeError: It is a key, and as a glob it matches other paths too.
    """
    top = layout.entry((glob,))
    if top is None:
        return False
    pattern = pattern_of(glob)
    if layout.matching(frozenset([pattern]))[pattern] - {layout.leaf_numbers.get(top)}:
        raise TypeError(
            f"{glob!r} is a key here, and as a glob fits other paths too: write ({glob!r},) for the key"
        )
    return True


def _checked_mapping_key(key: Any) -> Key:
    """A key of a mapping as paths have it: a NumPy integer becomes an `int`.

    Raises:
        TypeError: Paths do not have such keys.
    """
    checked = as_key(key)
    if checked is None:
        raise TypeError(f"expected paths of States as keys, found {key!r}")
    return checked


def _items_below(
    layout: Layout, entry: int | None, tree: StateTree | FlatStates[Any]
) -> Iterator[tuple[Path, TreefyState[Any] | State[Any], int | None]]:
    """The path, leaf and State's number of each item of a collection inside a mapping.

    For `_rows_by_path`: a nested mapping may have a `StateTree` or `FlatStates` at a
    key.

    Args:
        layout: The layout of the structure.
        entry: The entry of the layout's trie that is at the mapping's key; `None` where
            the key leads nowhere.
        tree: The collection.
    """
    leaves = list(tree.flat().values()) if isinstance(tree, StateTree) else tree._states
    unknown = Positions((None,) * len(leaves), ())
    positions = unknown if entry is None else layout.positions_of(tree.layout, entry)
    for at, number in enumerate(positions.numbers):
        yield tree.layout.path(at), leaves[at], number
    # A State that the collection shares, and the structure does not, goes to further
    # States by its other paths.
    for at, number, path in positions.further:
        yield path, leaves[at], number


def _match_mapping(graphdef: GraphDef[Any], mapping: Mapping[Any, Any]) -> Matched:
    """For `match`: the items of a mapping by path, nested or with whole paths, whose keys may be globs.

    A glob gives its value to several States; their rows come after those of the others.
    """
    layout = graphdef.layout
    by_glob: dict[str, Any] = {}
    by_path: list[tuple[Any, Any]] = []
    for key, value in mapping.items():
        if is_glob(key) and not _is_key(key, layout):
            by_glob[key] = value
        else:
            by_path.append((_path_or_key(key, layout), value))
    rows = list(_rows_by_path(graphdef, _from_root(by_path, layout)))
    globs: dict[int, str] = {}
    for glob, value in by_glob.items():
        for row in _rows_by_glob(layout, glob, value):
            # Before the row is appended: its number is the length so far.
            globs[len(rows)] = glob
            rows.append(row)
    return Matched(
        [row.number for row in rows],
        [row.value for row in rows],
        [row.spec for row in rows],
        [row.path for row in rows],
        [row.state for row in rows],
        globs,
    )


class _Row(NamedTuple):
    """One item of a mapping: its path, what is there, and the number of the State that it is for."""

    path: Path
    leaf: Any  # a value, a State, or a TreefyState
    number: int | None

    @property
    def state(self) -> State[Any] | None:
        """The live State that the collection has here, if it has no value: an update may put it back itself."""
        return self.leaf if isinstance(self.leaf, State) else None

    @property
    def spec(self) -> StateSpec | None:
        """The description of the State, if the item has one."""
        if isinstance(self.leaf, State):
            return self.leaf._spec
        return self.leaf.spec if isinstance(self.leaf, TreefyState) else None

    # Any: as in `leaf`.
    @property
    def value(self) -> Any:
        """The value, whatever it came in."""
        is_described = isinstance(self.leaf, State | TreefyState)
        return self.leaf.value if is_described else self.leaf


def _rows_by_path(graphdef: GraphDef[Any], root: Any) -> Iterator[_Row]:
    """For `_match_mapping`: the values of a nested mapping, in order, down the layout and the mapping together.

    The layout decides what is a value: a dict where the layout has a State is that
    State's value, and not another level.
    """
    layout = graphdef.layout
    todo: list[tuple[Path, Any, int | None]] = [((), root, 0)]
    while todo:
        path, value, entry = todo.pop()
        number = layout.leaf_numbers.get(entry) if entry is not None else None
        if number is not None:
            yield _Row(path, value, number)
        elif not isinstance(value, Mapping) or (
            entry is None and _is_unknown_and_empty(graphdef, path, value)
        ):
            yield _Row(path, value, None)
        elif isinstance(value, StateTree | FlatStates):
            for below, leaf, number_below in _items_below(layout, entry, value):
                yield _Row((*path, *below), leaf, number_below)
        else:
            # Reversed, as the last one is popped first.
            for key, child in reversed(list(_one_level(value).items())):
                step = _checked_mapping_key(key)
                target = None if entry is None else layout.children.get((entry, step))
                todo.append(((*path, step), child, target))


def _is_unknown_and_empty(
    graphdef: GraphDef[Any], path: Path, value: Mapping[Any, Any]
) -> bool:
    """For `_rows_by_path`: whether a mapping is empty, and there is not even a node without States at its path.

    An empty mapping has no values, so nothing below it would report the unknown path.
    """
    return not value and graphdef.nodes.entry(path) is None


def _one_level(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """For `_rows_by_path`: one level of a nested mapping by single keys; whole paths among them become levels."""
    has_paths = any(isinstance(key, tuple) for key in mapping)
    return _nested(mapping.items()) if has_paths else mapping


def _rows_by_glob(layout: Layout, glob: str, value: Any) -> Iterator[_Row]:
    """For `_match_mapping`: a row with the value for each State whose path a glob matches.

    If none does, one row without a number, so that `update_states` refuses the glob.
    """
    pattern = pattern_of(glob)
    numbers = sorted(layout.matching(frozenset([pattern]))[pattern])
    for number in numbers:
        yield _Row(layout.path(number), value, number)
    if not numbers:
        yield _Row((), value, None)
