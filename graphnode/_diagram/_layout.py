"""Place boxes in columns: from left to right, each to the right of all that refer to it.

The layered drawing of Sugiyama, Tagawa and Toda (1981). igraph finds an order within the
columns in which few arrows cross. The heights, for which it takes all boxes to be equal,
are found here: each box is drawn towards its neighbours, and pushed apart from those in its
column.

An arrow over several columns passes a *stop* in each of those between, which takes part in
all of this as a box that is flat.
"""

import importlib
from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

GAP: Final = 16.0  # between the boxes of a column
BESIDE: Final = 14.0  # between a box and an arrow that passes it
STOP_GAP: Final = 10.0
SWEEPS: Final = 24
# How much more a stop pulls than a box: long arrows shall be straight.
STOP_WEIGHT: Final = 4.0
# With more stops than these, long arrows have none, and may pass over boxes.
MAX_STOPS: Final = 5_000


class Layout(NamedTuple):
    """Where things are.

    Attributes:
        columns: The numbers of boxes and stops in each column, from the top; stops are
            numbered behind the boxes.
        middles: The height of the middle of each box and stop.
        ways: For each arrow the boxes and stops that it passes, from left to right; of an
            arrow from a box to itself, that box alone.
    """

    columns: list[list[int]]
    middles: list[float]
    ways: list[list[int]]


def lay_out(heights: Sequence[float], links: Sequence[tuple[int, int]]) -> Layout:
    """Place boxes.

    Args:
        heights: The height of each box.
        links: The left and the right end of each arrow; no cycles but from a box to
            itself.

    Raises:
        ModuleNotFoundError: igraph is not installed.
    """
    levels = levels_of(len(heights), links)
    all_heights = list(heights)
    ways: list[list[int]] = []
    lengths = [levels[right] - levels[left] for left, right in links]
    with_stops = sum(lengths) <= MAX_STOPS
    for left, right in links:
        way = [left]
        for level in range(levels[left] + 1, levels[right] if with_stops else 0):
            way.append(len(levels))
            levels.append(level)
            all_heights.append(0.0)
        if right != left:
            way.append(right)
        ways.append(way)
    steps = [step for way in ways for step in pairwise(way)]
    columns = ordered_columns(levels, ways, steps)
    weights = [1.0] * len(heights) + [STOP_WEIGHT] * (len(levels) - len(heights))
    middles = middles_of(columns, all_heights, weights, steps)
    return Layout(columns, middles, ways)


def levels_of(size: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """The column of each box: one more than the last one of those that refer to it."""
    below: list[list[int]] = [[] for _ in range(size)]
    waiting = [0] * size
    for left, right in links:
        if left != right:
            below[left].append(right)
            waiting[right] += 1
    levels = [0] * size
    ready = [at for at in range(size) if not waiting[at]]
    while ready:
        at = ready.pop()
        for target in below[at]:
            levels[target] = max(levels[target], levels[at] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return levels


def ordered_columns(
    levels: Sequence[int],
    ways: Sequence[Sequence[int]],
    steps: Sequence[tuple[int, int]],
) -> list[list[int]]:
    """The boxes and stops of each column in an order in which few arrows cross.

    Boxes come in the order of the graph, in which the arrows of a tree do not cross. Where
    that of igraph has fewer crossings, it is taken: in a graph with cycles and shared nodes.
    """
    own_order = [float(at) for at in range(len(levels))]
    for way in ways:
        for at in way[1:-1]:  # a stop stands where the box does that it leads to
            own_order[at] = float(way[-1])
    igraph = import_igraph()
    # Of longer ones igraph would make stops of its own.
    short = [step for step in steps if levels[step[1]] == levels[step[0]] + 1]
    graph = igraph.Graph(n=len(levels), edges=list(dict.fromkeys(short)), directed=True)
    places = graph.layout_sugiyama(layers=list(levels)).coords
    orders = (own_order, [x for x, _ in places])
    candidates = [columns_by(levels, order) for order in orders]
    return min(candidates, key=lambda columns: crossings_of(columns, steps))


def columns_by(levels: Sequence[int], order: Sequence[float]) -> list[list[int]]:
    """The boxes and stops of each column, sorted."""
    columns: list[list[int]] = [[] for _ in range(max(levels) + 1)]
    for at in sorted(range(len(levels)), key=order.__getitem__):
        columns[levels[at]].append(at)
    return columns


def crossings_of(
    columns: Sequence[Sequence[int]], steps: Sequence[tuple[int, int]]
) -> int:
    """How often two arrows cross."""
    rank = {at: place for column in columns for place, at in enumerate(column)}
    level_of = {at: level for level, column in enumerate(columns) for at in column}
    by_level: dict[int, list[tuple[int, int]]] = {}
    for left, right in steps:
        by_level.setdefault(level_of[left], []).append((rank[left], rank[right]))
    crossings = 0
    for ends in by_level.values():
        # Each arrow crosses those that begin above it and end below it.
        below: list[int] = []
        for _, right in sorted(ends):
            crossings += len(below) - bisect_right(below, right)
            insort(below, right)
    return crossings


# Any: a module.
def import_igraph() -> Any:
    """The module igraph.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    try:
        # Not an import statement: most type checkers find no types in it, or wrong ones.
        return importlib.import_module("igraph")
    except ImportError as error:
        text = (
            "a picture as SVG needs igraph, which is not installed: pip install "
            "'graphnode[diagram]'; mermaid() and dot() need nothing"
        )
        raise ModuleNotFoundError(text, name="igraph") from error


def middles_of(
    columns: Sequence[Sequence[int]],
    heights: Sequence[float],
    weights: Sequence[float],
    steps: Sequence[tuple[int, int]],
) -> list[float]:
    """The height of the middle of each box and stop, near to those that it is connected to."""
    lefts: list[list[int]] = [[] for _ in heights]
    rights: list[list[int]] = [[] for _ in heights]
    for left, right in steps:
        rights[left].append(right)
        lefts[right].append(left)
    middles = [0.0] * len(heights)
    for sweep in range(SWEEPS):
        # First by the left neighbours, then by the right ones, and in the end by both.
        is_last = sweep >= SWEEPS - 4
        to_the_right = sweep % 2 == 0
        for column in columns if to_the_right else reversed(columns):
            wishes: list[float] = []
            for at in column:
                near = lefts[at] if to_the_right else rights[at]
                near = [*lefts[at], *rights[at]] if is_last else near
                wishes.append(mean_of(near, middles, weights, middles[at]))
            gaps = [distance(*two, heights) for two in pairwise(column)]
            own_weights = [weights[at] for at in column]
            for at, middle in zip(
                column, spread(wishes, gaps, own_weights), strict=True
            ):
                middles[at] = middle
    return middles


def mean_of(
    near: Sequence[int],
    middles: Sequence[float],
    weights: Sequence[float],
    otherwise: float,
) -> float:
    """The weighted mean height of some boxes and stops; of none, another height."""
    if not near:
        return otherwise
    total = sum([weights[at] for at in near])
    return sum([weights[at] * middles[at] for at in near]) / total


def distance(upper: int, lower: int, heights: Sequence[float]) -> float:
    """How far the middles of two neighbours in a column are apart at least."""
    gap = (STOP_GAP, BESIDE, GAP)[bool(heights[upper]) + bool(heights[lower])]
    return (heights[upper] + heights[lower]) / 2 + gap


def spread(
    wishes: Sequence[float], gaps: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """The places nearest to some wishes, in their order, with gaps between them.

    The sum of the squares of the distances is the least that there is: an isotonic
    regression, by pooling those that want to be where another one is.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    # Of each pool: where it is, less the offsets; its weight; how many are in it.
    pools: list[tuple[float, float, int]] = []
    for wish, offset, weight in zip(wishes, offsets, weights, strict=True):
        pool = (wish - offset, weight, 1)
        while pools and pools[-1][0] >= pool[0]:
            place, heavy, length = pools.pop()
            total = heavy + pool[1]
            mean = (place * heavy + pool[0] * pool[1]) / total
            pool = (mean, total, length + pool[2])
        pools.append(pool)
    places = [place for place, _, length in pools for _ in range(length)]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]
