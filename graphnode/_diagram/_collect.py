"""Choose what is drawn of a graph, and describe it as boxes and arrows.

    the graph                  what is drawn of it, with depth=1
    Net -> a: Block            Net -> a: Block  ("… 1 more node")
    Block -> linear: Linear
    Linear -> owner: Net       Block -> linear.owner: Net

Nodes that are not drawn are walked through: a reference that leads over them to a box is
an arrow, whose label is the whole way.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .._graph._graphdef import GraphDef
from .._paths import Key, Path, path_str
from ._boxes import MAX_WIDTH, describe, drawn_sizes
from ._fold import Folding, fold, unfolded
from ._parts import Arrow, ArrowKind, Drawing, printable, shortened
from ._references import ROOT, References, references_of

# A picture of more is no picture any more, and takes long to lay out.
MAX_BOXES: Final = 400
MAX_ARROWS: Final = 2_000
MAX_TITLE: Final = 120


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        depth: How far below the root nodes are drawn; all, if `None`.
        selected: The numbers of the nodes that a filter accepts; `None` without one.
        states: Whether all States are shown, and not only the shared ones.
        fold: Whether equal siblings are one box.
        title: What stands above; by default the class of the root and the first line of its docstring.
    """

    depth: int | None
    selected: Set[int] | None
    states: bool
    fold: bool
    title: str | None


# Any: the class of the root, and nodes and States of any class.
def collect(
    graphdef: GraphDef[Any], objects: Sequence[Any], options: Options
) -> Drawing:
    """The boxes and arrows of a graph.

    Args:
        graphdef: Its structure.
        objects: Its nodes and States, by number.
        options: What the user asked for.
    """
    graph = references_of(graphdef, objects)
    folding = fold(graph, options.selected) if options.fold else unfolded(graph)
    reachable = within_limits(graph, folding, options)
    shown = [number for number in reachable if is_shown(graph, number, options)]
    sizes = drawn_sizes(graph, folding, objects)
    owners = owners_of(graph, folding, reachable)
    hidden = Counter(
        [owner for number, owner in owners.items() if graph.is_node(number)]
    )
    box_of = {number: at for at, number in enumerate(shown)}
    boxes = [
        describe(
            graph,
            number,
            graphdef.type if number == ROOT else graph.specs[number].cls,
            () if number == ROOT else graphdef.path(number),
            count=folding.counts[number] or 1,
            size=sizes[number],
            hidden=hidden[number],
            with_states=options.states,
        )
        for number in shown
    ]
    copies = {drawn: number for number, drawn in folding.pairs()}
    arrows = [
        _Link(box_of[number], box_of[target], label, is_common)
        for number in shown
        for target, label, is_common in arrows_from(
            graph, folding, copies, owners, number, box_of
        )
    ]
    del arrows[MAX_ARROWS:]
    title = options.title
    if title is None:
        top = boxes[0]
        title = shortened(f"{top.cls}: {top.doc}" if top.doc else top.cls, MAX_TITLE)
    return Drawing(
        printable(title), tuple(boxes), tuple(with_kinds(len(boxes), arrows))
    )


def within_limits(graph: References, folding: Folding, options: Options) -> list[int]:
    """The numbers of the objects that are near enough to the root, in pre-order.

    Level by level, so that what is nearest to the root is drawn of a graph that is too large.
    """
    seen, level = {graph.root}, [graph.root]
    distance, boxes = 0, 1
    while level and (options.depth is None or distance < options.depth):
        below: list[int] = []
        for number in level:
            for _, target in graph.rows.get(number, ()):
                drawn = folding.drawn_as[target]
                if drawn in seen or not is_drawable(graph, drawn):
                    continue
                # What a filter leaves out is walked through, however much that is.
                boxes += is_shown(graph, drawn, options)
                if boxes > MAX_BOXES:
                    return sorted(seen)
                seen.add(drawn)
                below.append(drawn)
        level = below
        distance += 1
    return sorted(seen)


def is_drawable(graph: References, number: int) -> bool:
    """Whether an object can be a box: a node, or a State that is shared; others are lines of a box."""
    return graph.is_node(number) or graph.counts[number] > 1


def is_shown(graph: References, number: int, options: Options) -> bool:
    """Whether the filter leaves an object in; the root always stays, and so do States that are shared."""
    if options.selected is None or number == graph.root or not graph.is_node(number):
        return True
    return number in options.selected


def owners_of(
    graph: References, folding: Folding, reachable: Sequence[int]
) -> dict[int, int]:
    """For each object beyond the limits, the nearest one above it that is within them.

    Of equal siblings, what is below the first has an owner, and what is below the others
    has none.
    """
    near, owners = {*reachable}, dict[int, int]()
    # As `owners`, for all objects; parents come first.
    above: dict[int, int | None] = {ROOT: ROOT}
    for number, parent in enumerate(graph.parents):
        if number in near:
            above[number] = number
        elif folding.drawn_as[number] in near:
            above[number] = None
        else:
            owner = above[number] = above[parent]
            if owner is not None:
                owners[number] = owner
    return owners


def arrows_from(
    graph: References,
    folding: Folding,
    copies: Mapping[int, int],
    owners: dict[int, int],
    source: int,
    shown: Collection[int],
) -> Iterator[tuple[int, str, bool]]:
    """The references of a box to other boxes: the number of what it leads to, a label, and whether it is common.

    For `collect`: one for each field, but one for all equal siblings of a list. It is common
    if the box stands for several nodes, and all of them refer to the same.

    Args:
        graph: The references of the graph.
        folding: What is drawn for what.
        copies: For each object that is drawn for others, one of them.
        owners: What is walked through for which box.
        source: The number of what the box shows.
        shown: The numbers of what is drawn.
    """
    # Of equal siblings: those of one list, by the list and the one that is drawn.
    runs: dict[tuple[Path, int], list[Key]] = {}
    plain: list[tuple[int, Path, bool]] = []
    todo: deque[tuple[int, Path, bool]] = deque([(source, (), False)])
    seen = {source}
    while todo:
        number, prefix, is_above_common = todo.popleft()
        # A copy has the references of the same fields in the same order.
        row = graph.rows.get(number, ())
        row_of_copy = graph.rows.get(copies.get(number, number), ())
        for (edge, target), (_, other) in zip(row, row_of_copy, strict=True):
            drawn, path = folding.drawn_as[target], (*prefix, *edge)
            is_common = is_above_common or (number in copies and target == other)
            if drawn in shown:
                # The first of a run, or one that follows.
                if folding.counts[drawn] and graph.parents[target] == number:
                    run = path[:-1], drawn
                    if run not in runs:
                        plain.append((drawn, path, is_common))
                    runs.setdefault(run, []).append(path[-1])
                    continue
                plain.append((drawn, path, is_common))
            # What is beyond the limits is walked through for its owner alone: so each of
            # very many nodes is looked at once.
            elif drawn not in seen and owners.get(drawn, source) == source:
                seen.add(drawn)
                todo.append((drawn, path, is_common))
    for drawn, path, is_common in plain:
        label = path_str(path)
        keys = runs.get((path[:-1], drawn), [])
        if len(keys) > 1 and keys[0] == path[-1]:
            label += f"–{keys[-1]}"
        yield drawn, printable(shortened(label, MAX_WIDTH)), is_common


class _Link(NamedTuple):
    """An arrow before its kind is known; `is_common` as of `arrows_from`."""

    source: int
    target: int
    label: str
    is_common: bool


def with_kinds(size: int, arrows: Sequence[_Link]) -> Iterator[Arrow]:
    """The arrows with their kinds.

    A walk from the root, which goes deep first, meets the target of an arrow for the first
    time, again, or above itself: then the arrow closes a cycle. What several nodes have in
    common is met again by all but one of them.

    Args:
        size: The number of boxes.
        arrows: The arrows.
    """
    leaving: list[list[int]] = [[] for _ in range(size)]
    for place, arrow in enumerate(arrows):
        leaving[arrow.source].append(place)
    kinds: list[ArrowKind] = ["shared"] * len(arrows)
    seen, on_the_way = {0}, {0}
    stack = [(0, iter(leaving[0]))]
    while stack:
        number, rest = stack[-1]
        at = next(rest, -1)
        if at < 0:
            stack.pop()
            on_the_way.discard(number)
            continue
        target = arrows[at].target
        if target in on_the_way:
            kinds[at] = "back"
        elif target not in seen:
            kinds[at] = "shared" if arrows[at].is_common else "first"
            seen.add(target)
            on_the_way.add(target)
            stack.append((target, iter(leaving[target])))
    for arrow, kind in zip(arrows, kinds, strict=True):
        yield Arrow(arrow.source, arrow.target, arrow.label, kind)
