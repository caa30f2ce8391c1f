"""Matching what a caller gives (state trees, live States, nested mappings) with the States of a structure.

Data in: a graphdef and collections by path. Data out: for each, the numbers of the
States it speaks of, and the paths that lead nowhere. A path over a shared node's other
place is as good as its first.
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
from ._selection import other_meaning
from ._state import State, StateSpec
from ._statetree import FlatStates, StateTree, TreefyState

# What names States by path: values alone, live States, or a mapping of either, nested
# or with whole paths as its keys.
States: TypeAlias = StateTree | FlatStates[Any] | Mapping[Any, Any]


class Given(NamedTuple):
    """What one collection says.

    Attributes:
        numbers: The number of the State that each value is for; `None` where the path
            leads nowhere.
        values: The values.
        specs: The description of each, where the collection records one.
        layout: The paths of the values.
        states: The live States, where the collection holds them.
        globs: The glob that value number `at` was given by, if it was.
        further: Behind the values of a layout, those that go to other States too: their
            number, and a further path.
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
        """All paths of value number `at`, as far as they are known; the one that it goes by comes first."""
        if not isinstance(self.layout, Layout):
            return (self.path(at),)
        count = len(self.layout)
        first = at if at < count else self.further[at - count][0]
        return (self.path(at), *self.layout.other_paths(first))

    def key(self, at: int) -> str:
        """What value number `at` was given by: a path or a glob, as a text."""
        return self.globs.get(at) or path_str(self.path(at))

    def contradictions(self, layout: Layout) -> list[str]:
        """The faults of a collection that gives two values to one State, by two of its paths.

        Args:
            layout: Of the structure.
        """
        if len(set(self.numbers)) == len(self.numbers):
            return []
        first: dict[int, int] = {}
        faults: list[str] = []
        for at, number in enumerate(self.numbers):
            if number is None:
                continue
            before = first.setdefault(number, at)
            if not is_one_value(self.values[before], self.values[at]):
                where = path_str(layout.path(number))
                faults.append(
                    f"{where} is given two values, by {self.key(before)} and by {self.key(at)}"
                )
        return faults


def is_one_value(first: Any, second: Any) -> bool:
    """Whether two values hold the very same arrays. Their containers may be copies."""
    if first is second:
        return True
    treedefs: list[object] = [jax.tree.structure(first), jax.tree.structure(second)]
    if treedefs[0] != treedefs[1]:
        return False
    return all(map(operator.is_, jax.tree.leaves(first), jax.tree.leaves(second)))


def match(graphdef: GraphDef[Any], given: States) -> Given:
    """Match one collection with the States of a structure.

    Raises:
        TypeError: `given` is none of the collections.
    """
    if isinstance(given, StateTree):
        return _match_layout(
            numbers_of(graphdef, given.layout), given.layout, given._values
        )
    if isinstance(given, FlatStates):
        values = [state.value for state in given._states]
        return _match_layout(
            numbers_of(graphdef, given.layout), given.layout, values, given._states
        )
    if isinstance(given, Mapping):
        return _match_mapping(graphdef, given)
    raise TypeError(
        wrong_argument("a StateTree, FlatStates or a nested mapping by path", given)
    )


def _match_layout(
    positions: Positions,
    layout: Layout,
    values: Sequence[Any],
    states: Sequence[State[Any]] | None = None,
) -> Given:
    """What a collection of one layout says: each value by the first path of its State, then what further ones say."""
    numbers, further = positions
    if not further:
        return Given(numbers, values, layout.specs, layout, states)
    rows = [*range(len(layout)), *[at for at, _, _ in further]]
    return Given(
        [*numbers, *[number for _, number, _ in further]],
        [values[at] for at in rows],
        [layout.specs[at] for at in rows],
        layout,
        None if states is None else [states[at] for at in rows],
        further=[(at, path) for at, _, path in further],
    )


def numbers_of(graphdef: GraphDef[Any], layout: Layout) -> Positions:
    """Where the States of `layout` stand in the structure's own layout; worked out once for each pair."""
    if layout is graphdef.layout:
        return Positions(tuple(range(len(layout))), ())
    return graphdef.plans.to(layout, lambda: graphdef.layout.positions_of(layout))


def nearest(layout: Layout, text: str) -> str:
    """The end of a message about a path at which there is no State: the nearest one that is there."""
    hint = did_you_mean(text, layout.spellings())
    return f"; {hint}" if hint else ""


def _nested(items: Iterable[tuple[Any, Any]]) -> Mapping[Any, Any]:
    """A mapping in which whole paths are keys as one that is nested; a path may lead on into the value of a State.

    Raises:
        TypeError: A path is empty, is given twice, or leads on from where another one
            ends.
    """
    tree: dict[Any, Any] = {}
    # Those that are made here, by id: a value may be a dict too
    inner: dict[int, dict[Any, Any]] = {}
    for key, value in items:
        path: Path = key if isinstance(key, tuple) else (key,)
        if not path:
            raise TypeError("expected paths of States as keys, found ()")
        at = tree
        for length, step in enumerate(path[:-1], start=1):
            if step not in at:
                at[step] = {}
                inner[id(at[step])] = at[step]
            elif id(at[step]) not in inner:
                raise TypeError(
                    f"{path_str(path)} is given, and {path_str(path[:length])} as a whole"
                )
            at = at[step]
        if path[-1] in at:
            is_inner = id(at[path[-1]]) in inner
            raise TypeError(
                f"{path_str(path)} is given {'as a whole and in parts' if is_inner else 'twice'}"
            )
        at[path[-1]] = value
    return tree


def _from_root(items: Sequence[tuple[Any, Any]], layout: Layout) -> Any:
    """What a mapping says of the root: a nested mapping, or the value of a State alone, whose path is empty."""
    if layout.is_of_a_state and [key for key, _ in items] == [()]:
        return items[0][1]
    return _nested(items)


def _path_or_key(key: Any, layout: Layout) -> Any:
    """A text is a path where the layout has no such key.

    Raises:
        TypeError: It is a key and the text of another path.
    """
    if (fault := other_meaning(layout, key)) is not None and layout.entry(
        (key,)
    ) is not None:
        raise TypeError(fault)
    if isinstance(key, str) and is_path(key) and layout.entry((key,)) is None:
        return parse_path(key)
    return key


def _is_key(glob: str, layout: Layout) -> bool:
    """Whether a text that may be a glob is a key at the top.

    Raises:
        TypeError: It is one, and as a glob fits other paths too.
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


def _checked_key(key: Any) -> Key:
    """A key of a mapping.

    Raises:
        TypeError: No path has such a key.
    """
    checked = as_key(key)
    if checked is None:
        raise TypeError(f"expected paths of States as keys, found {key!r}")
    return checked


def _below(
    layout: Layout, entry: int | None, given: StateTree | FlatStates[Any]
) -> Iterator[tuple[Path, TreefyState[Any] | State[Any], int | None]]:
    """What a collection inside of a mapping says: each path below an entry, and the number of what is there."""
    leaves = (
        list(given.flat().values()) if isinstance(given, StateTree) else given._states
    )
    unknown = Positions((None,) * len(leaves), ())
    positions = unknown if entry is None else layout.positions_of(given.layout, entry)
    for at, number in enumerate(positions.numbers):
        yield given.layout.path(at), leaves[at], number
    for at, number, path in positions.further:
        yield path, leaves[at], number


def _match_mapping(graphdef: GraphDef[Any], given: Mapping[Any, Any]) -> Given:
    layout = graphdef.layout
    numbers: list[int | None] = []
    paths: list[Path] = []
    leaves: list[Any] = []
    globs: dict[int, str] = {}
    by_glob = {
        key: value
        for key, value in given.items()
        if is_glob(key) and not _is_key(key, layout)
    }
    by_path = [
        (_path_or_key(key, layout), value)
        for key, value in given.items()
        if key not in by_glob
    ]

    def take(path: Path, value: Any, number: int | None) -> None:
        numbers.append(number)
        paths.append(path)
        leaves.append(value)

    # Down the layout and the mapping together: a dict below a State's path is that
    # State's value.
    todo: list[tuple[Path, Any, int | None]] = [((), _from_root(by_path, layout), 0)]
    while todo:
        path, value, entry = todo.pop()
        number = layout.leaf_numbers.get(entry) if entry is not None else None
        if number is not None:
            take(path, value, number)
        elif not isinstance(value, Mapping) or (
            entry is None and not value and graphdef.nodes.entry(path) is None
        ):
            # Nothing is said of nothing, but the path is unknown
            take(path, value, None)
        elif isinstance(value, StateTree | FlatStates):
            for further_path, leaf, further_number in _below(layout, entry, value):
                take((*path, *further_path), leaf, further_number)
        else:
            inner = (
                _nested(value.items())
                if any(isinstance(key, tuple) for key in value)
                else value
            )
            for key in reversed(list(inner)):
                step = _checked_key(key)
                child = None if entry is None else layout.children.get((entry, step))
                todo.append(((*path, step), inner[key], child))
    for glob, value in by_glob.items():
        pattern = pattern_of(glob)
        matching: list[int | None] = [
            *sorted(layout.matching(frozenset([pattern]))[pattern])
        ]
        for number in matching or [None]:
            globs[len(paths)] = glob
            take(() if number is None else layout.path(number), value, number)
    states = [leaf if isinstance(leaf, State) else None for leaf in leaves]
    described = [leaf if isinstance(leaf, TreefyState) else None for leaf in leaves]
    specs = [
        state._spec if state is not None else one.spec if one is not None else None
        for state, one in zip(states, described, strict=True)
    ]
    values = [
        leaf.value if isinstance(leaf, State | TreefyState) else leaf for leaf in leaves
    ]
    return Given(numbers, values, specs, paths, states, globs)
