"""Find equal siblings: neighbours in a list that one box can stand for.

Two nodes of a list are equal if a walk over both at a time sees the same classes, static
values and shapes, and the same objects outside of them; and if nothing outside refers into
either. So a dropout that all blocks share, or a pointer to the parent, does not keep blocks
apart, and no arrow of the picture leads into one of several.
"""

from collections import Counter
from collections.abc import Iterator, Set
from itertools import pairwise

from ._references import ROOT, Reference, References


class Folding:
    """Which objects are drawn for which.

    Attributes:
        drawn_as: For each object, the number of the one that is drawn for it: mostly its own.
            What is inside of a node that another one is drawn for leads to its counterpart,
            which may lead on; nothing looks there.
        counts: For the first of some equal siblings, how many they are.
    """

    def __init__(self, size: int) -> None:
        self.drawn_as: list[int] = list(range(size))
        self.counts: Counter[int] = Counter()

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Each object that another one is drawn for, with that one; from the last to the first.

        So the last pair with an object has the one next to it: in the same list, if it
        is in one.
        """
        for number in reversed(range(len(self.drawn_as))):
            if self.drawn_as[number] != number:
                yield number, self.drawn_as[number]


def unfolded(graph: References) -> Folding:
    """All objects of a graph, each drawn itself."""
    return Folding(len(graph.specs))


def fold(graph: References, selected: Set[int] | None) -> Folding:
    """Find the equal siblings of all lists of a graph.

    Args:
        graph: Its references.
        selected: The nodes that can be boxes; `None` for all. Others are not folded, as
            nothing would say how many there are.
    """
    folding = unfolded(graph)
    drawn_as = folding.drawn_as
    # In pre-order, so that a list is folded before the lists in its items, and those of
    # all but the first item need not be looked at.
    for number, row in graph.rows.items():
        if number != ROOT and drawn_as[number] != number:
            continue
        first = -1
        for before, item in neighbours(graph, number, row):
            if selected is not None and not {before, item} <= selected:
                continue
            # A new run begins, if `before` was not equal to what stands before it.
            first = before if first < 0 or drawn_as[before] != first else first
            pairs = equal_parts(graph, first, item)
            for inner, counterpart in pairs.items():
                drawn_as[inner] = counterpart
            if pairs:
                folding.counts[first] = max(folding.counts[first], 1) + 1
    return folding


def neighbours(
    graph: References, number: int, row: list[Reference]
) -> Iterator[tuple[int, int]]:
    """Each two nodes that follow each other in a list of a node, and are first seen there.

    For `fold`: these may be equal.
    """
    for (edge, before), (next_edge, item) in pairwise(row):
        is_in_list = edge[:-1] == next_edge[:-1] and isinstance(next_edge[-1], int)
        if not is_in_list or not isinstance(edge[-1], int) or before == item:
            continue
        # An item that is nothing but a reference to a node elsewhere is that node.
        if graph.parents[before] != number or graph.parents[item] != number:
            continue
        if graph.is_node(before) and graph.is_node(item):
            yield before, item


def equal_parts(graph: References, first: int, other: int) -> dict[int, int]:
    """For each object in a node its counterpart in an equal one; empty if they are not equal.

    Args:
        graph: The references.
        first: One node of a list.
        other: A later one, whose objects are looked up.
    """
    counterparts, known = {other: first}, {first}
    # References that come from the two nodes themselves; each list has one to its item.
    inner = Counter([first, other])
    todo = [(first, other)]
    while todo:
        left, right = todo.pop()
        if graph.specs[left] is not graph.specs[right]:
            return {}
        if graph.values[left] != graph.values[right]:
            return {}
        rows = zip(graph.rows.get(left, ()), graph.rows.get(right, ()), strict=True)
        for (_, mine), (_, theirs) in rows:
            if mine == theirs:
                continue
            inner.update((mine, theirs))
            if theirs in counterparts:
                if counterparts[theirs] != mine:
                    return {}
                continue
            is_own = graph.is_below(mine, first) and graph.is_below(theirs, other)
            if not is_own or mine in known:
                return {}
            counterparts[theirs] = mine
            known.add(mine)
            todo.append((mine, theirs))
    are_all = all(graph.counts[number] == inner[number] for number in inner)
    return counterparts if are_all else {}
