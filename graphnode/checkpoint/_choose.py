"""Which States a filter means: of a live tree, and of a file, which has their names alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from jax.sharding import Sharding
from jax.tree_util import tree_flatten_with_path

from .._describe import describe
from .._errors import FilterTypeError
from .._filters import AnyFilter, PathIn, Under, as_filter
from .._graph._flatten import path_key
from .._graph._layout import Layout
from .._graph._states_json import classes_by_name
from .._paths import Key, Path, parse_path
from .._patterns import Automaton, pattern_of
from .._selection import selected_by
from .._state import State
from .._statetree import StateTree, select
from .._trie import Trie
from ._structure import Structure

# Any: filters and paths as keys; shardings, and pytrees of them, as values.
Shardings: TypeAlias = "Sharding | Mapping[Any, Any]"


def chosen(layout: Layout, states: Sequence[State[Any]], filter: AnyFilter) -> set[int]:
    """The positions of the live States that a filter selects.

    Raises:
        FilterError: There is nothing at one of its paths.
        FilterTypeError: It is not a filter.
    """
    ((numbers, _),), _ = select(layout, (as_filter(filter),), lambda: states)
    return set(numbers)


class _SavedState(NamedTuple):
    """A State of a file, as a filter sees it."""

    trie: Trie
    at: int
    cls: type[Any]
    tag: str | None

    @property
    def path(self) -> Path:
        return self.trie.path(self.at)

    @property
    def other_paths(self) -> Sequence[Path]:
        return self.trie.other_paths(self.at)

    @property
    def live(self) -> None:
        return None


def chosen_of_file(
    structure: Structure, filter: AnyFilter, name: str | None
) -> set[int]:
    """The numbers of the States of a file that a filter selects.

    Args:
        structure: The graph of the file.
        filter: A filter. A class that the program has not defined is taken for `State`.
        name: The argument that it is, which cannot be a function; `None` for one that
            selects nothing here if it is.

    Raises:
        FilterTypeError: It is not a filter, or a function.
    """
    matcher = as_filter(filter)
    if not matcher.is_fixed:
        if name is None:
            return set()
        raise FilterTypeError(
            f"{name} takes no function, as there is no State to show it: give a path or class"
        )
    trie, numbers = structure.trie
    classes = classes_by_name()
    items: list[_SavedState] = []
    for at, number in enumerate(numbers):
        spec = structure.specs[number]
        cls, tag = classes.get(spec.cls, State), spec.parts.get("tag")
        items.append(_SavedState(trie, at, cls, tag if isinstance(tag, str) else None))
    return {numbers[at] for at in selected_by(lambda: trie, items, matcher)}


class Globs:
    """Whether a path is one of some paths and globs, such as `**.rate`."""

    def __init__(self, texts: "str | Iterable[str]") -> None:
        texts = [texts] if isinstance(texts, str) else list(texts)
        self._automaton = (
            Automaton([pattern_of(text) for text in texts]) if texts else None
        )

    def __call__(self, path: Path) -> bool:
        """Whether one of them fits."""
        return self._automaton is not None and bool(self._automaton.fitting(path))


# The shardings that were given for one State, by the path of a leaf, or of some, within its value.
Given: TypeAlias = Mapping[Path, Sharding]


def sharding_at(given: Given, key: Path) -> Sharding | None:
    """The sharding that was given for a leaf, by its path within the value of the State."""
    for count in range(len(key), -1, -1):
        if key[:count] in given:
            return given[key[:count]]
    return None


def sharding_of_each(
    layout: Layout, states: Sequence[State[Any]], shardings: "Shardings | None"
) -> Mapping[int, Given]:
    """The shardings that were given for each State, by its position.

    Raises:
        FilterError: There is nothing at a path.
        FilterTypeError: Something else than a sharding was given.
    """
    if shardings is None:
        return {}
    if isinstance(shardings, Sharding):
        return {at: {(): shardings} for at in range(len(layout))}
    result: dict[int, dict[Path, Sharding]] = {}
    # A state tree is a pytree of its own, with paths as keys.
    is_tree = isinstance(shardings, StateTree)
    for key, value in [((), shardings)] if is_tree else shardings.items():
        if isinstance(value, Sharding):
            filter = PathIn(key) if isinstance(key, (str, tuple)) else key
            for at in chosen(layout, states, filter):
                result.setdefault(at, {}).setdefault((), value)
            continue
        # A pytree of shardings, such as `jax.tree.map(lambda x: x.sharding, state_tree)`.
        for path, sharding in _leaves_of(key, value):
            numbers, inner = _states_at(layout, states, path)
            for at in numbers:
                result.setdefault(at, {}).setdefault(inner, sharding)
    return result


# Any: whatever a user has put in the place of a sharding.
def _leaves_of(key: Any, value: Any) -> Iterator[tuple[Path, Sharding]]:
    """For `sharding_of_each`: the shardings in a pytree, with their paths in the tree of States.

    Raises:
        FilterTypeError: There is something else, or the pytree does not stand at a path.
    """
    for entries, sharding in tree_flatten_with_path(value)[0]:
        if not isinstance(sharding, Sharding) or not isinstance(key, (str, tuple)):
            raise FilterTypeError(
                "shardings takes a sharding by each path, glob or filter, or a pytree of shardings by a path; "
                f"found {describe(sharding)} by {key!r}"
            )
        paths = [_as_path(key), *[_as_path(path_key(entry)) for entry in entries]]
        yield tuple(chain.from_iterable(paths)), sharding


def _as_path(key: "Key | Path") -> Path:
    """For `_leaves_of`: a key of a pytree as a path; those of a state tree are texts of paths."""
    if isinstance(key, str):
        return parse_path(key)
    return key if isinstance(key, tuple) else (key,)


def _states_at(
    layout: Layout, states: Sequence[State[Any]], path: Path
) -> tuple[set[int], Path]:
    """For `sharding_of_each`: the States at or below a path, or the one that has it within its value, and where.

    Raises:
        FilterError: There is nothing.
    """
    numbers = chosen(layout, states, Under(path, missing_ok=True))
    if numbers:
        return numbers, ()
    for count in range(len(path) - 1, 0, -1):
        numbers = chosen(layout, states, PathIn(path[:count], missing_ok=True))
        if numbers:
            return numbers, path[count:]
    return chosen(layout, states, Under(path)), ()


def needed_nodes(structure: Structure, states: Set[int]) -> set[int]:
    """The objects that lead to some States, these included: what has to fit where they alone are restored."""
    above: dict[int, list[int]] = {}
    for parent, row in structure.rows.items():
        for child in row:
            above.setdefault(child, []).append(parent)
    needed: set[int] = set()
    todo = list(states)
    while todo:
        number = todo.pop()
        if number not in needed:
            needed.add(number)
            todo += above.get(number, ())
    return needed
