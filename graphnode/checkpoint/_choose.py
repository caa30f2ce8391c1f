"""Which States a filter means: of a live tree, and of a file, which has their names alone."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

from jax.sharding import Sharding

from .._errors import FilterTypeError
from .._filters import AnyFilter, PathIn, as_filter
from .._graph._layout import Layout
from .._graph._states_json import classes_by_name
from .._paths import Path
from .._patterns import Automaton, pattern_of
from .._selection import selected_by
from .._state import State
from .._statetree import select
from .._trie import Trie
from ._structure import Structure

Shardings: TypeAlias = "Sharding | Mapping[Any, Sharding]"


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


def sharding_of_each(
    layout: Layout, states: Sequence[State[Any]], shardings: "Shardings | None"
) -> dict[int, Sharding]:
    """The sharding that was given for each State, by its position.

    Raises:
        FilterError: There is nothing at a path.
    """
    if shardings is None:
        return {}
    if isinstance(shardings, Sharding):
        return dict.fromkeys(range(len(layout)), shardings)
    result: dict[int, Sharding] = {}
    for key, sharding in shardings.items():
        filter = PathIn(key) if isinstance(key, (str, tuple)) else key
        for at in chosen(layout, states, filter):
            result.setdefault(at, sharding)
    return result


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
