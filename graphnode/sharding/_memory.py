"""The roles of what optimizers remember: those of the parameters that it belongs to.

[model, optimizer]        1.memory.0.mu.layers.3.weight
1.memory  0.mu  ------------- a path of the optimizer's layout
0               layers.3.weight  is in the same graph
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from .._graph._binding_cache import binding_of
from .._inspect import iter_node
from .._paths import Path
from .._reads import looked_at
from .._roles import Roles
from .._state import State
from ..metrics import AverageState, ExponentialMovingAverage
from ..optim import Optimizer, OptimizerState

# With all keys as texts: in a memory, the numbers of several models are.
_Text: TypeAlias = tuple[str, ...]

# What keeps States for those of a model, and of which classes these are.
_OWNERS: Final = (Optimizer, ExponentialMovingAverage)
_MEMORY: Final = (OptimizerState, AverageState)


def with_those_of_memory(root: object, roles: Sequence[Roles]) -> list[Roles]:
    """The roles of the States of a graph, in layout order, with those that optimizers and averages have from models.

    An optimizer does not know where its model is. It is looked for in the graph: where
    all paths that are optimized lead to States.
    """
    result = list(roles)
    binding = binding_of(root)
    optimizers = {
        path: node for path, node in iter_node(root) if isinstance(node, _OWNERS)
    }
    if not optimizers:
        return result
    paths = list(binding.graphdef.layout.paths())
    others = {
        _text(path): number
        for number, path in enumerate(paths)
        if not isinstance(binding.states[number], _MEMORY)
    }
    for place, optimizer in optimizers.items():
        optimized = [_text(path) for path in optimizer.layout.paths()]
        numbers = _numbers_of(optimized, others)
        for number, path in enumerate(paths):
            inside = path[: len(place)] == place
            if not inside or not isinstance(binding.states[number], _MEMORY):
                continue
            of = _longest_end(_text(path[len(place) :]), numbers)
            # What has another shape is not laid out alike, as the rows and columns of
            # adafactor.
            if of is not None and _shape(binding.states[of]) == _shape(
                binding.states[number]
            ):
                result[number] = roles[of]
    return result


def _numbers_of(
    optimized: Sequence[_Text], others: Mapping[_Text, int]
) -> dict[_Text, int]:
    """The States that are optimized, by their paths in the model: where all of these lead to States, first of all."""
    first = optimized[0]
    ends = [path for path in others if path[len(path) - len(first) :] == first]
    for path in ends:
        prefix = path[: len(path) - len(first)]
        found = {end: others.get((*prefix, *end)) for end in optimized}
        known = {end: number for end, number in found.items() if number is not None}
        if len(known) == len(found):
            return known
    return {}


def _longest_end(path: _Text, numbers: Mapping[_Text, int]) -> int | None:
    """The State of the longest of some paths that a path ends with."""
    for start in range(1, len(path)):
        number = numbers.get(path[start:])
        if number is not None:
            return number
    return None


def _text(path: Path) -> _Text:
    """A path with all keys as texts."""
    return tuple(map(str, path))


def _shape(state: State[object]) -> object:
    """The shape of the array in a State."""
    return getattr(looked_at(state), "shape", None)
