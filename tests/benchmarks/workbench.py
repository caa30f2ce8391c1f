"""What the figures measure on: equal models of one depth, one per library, built once."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from .library import Library, Parts, arrays_of
from .timing import Effort


class Workbench:
    """A model of the same depth and the same arrays in each library.

    Args:
        depth: How many blocks a model has.
        libraries: The contenders.
        effort: How long each figure measures.
    """

    def __init__(self, depth: int, libraries: Sequence[Library], effort: Effort) -> None:
        self.depth = depth
        self.libraries = tuple(libraries)
        self.effort = effort
        self.arrays: Parts = arrays_of(depth)
        self._models = {library.name: library.build(self.arrays) for library in self.libraries}

    @property
    def states(self) -> int:
        """How many States a model has."""
        return states_at(self.depth)

    @cached_property
    def other_arrays(self) -> Parts:
        """Arrays of the same shapes that the models did not begin with."""
        return arrays_of(self.depth)

    def model(self, library: Library) -> Any:
        """The library's model. A figure may write other values into it, never change its structure."""
        return self._models[library.name]


def states_at(depth: int) -> int:
    """How many States a model of this depth has."""
    return 6 * depth + 1


def depth_for(states: int) -> int:
    """The least depth at which a model has so many States."""
    return -(-(states - 1) // 6)
