"""Choose what is drawn of a graph, and describe it as boxes and arrows.

    the graph                  what is drawn of it, with depth=1
    Net -> a: Block            Net -> a: Block  ("… 1 more node")
    Block -> linear: Linear
    Linear -> owner: Net       Block -> linear.owner: Net

Nodes that are not drawn are walked through: a reference that leads over them to a box is
an arrow, whose label is the whole way.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import jax
import numpy as np

from .._declare._schema import schema
from .._fields import Kind
from .._graph._graphdef import GraphDef
from .._graph._template import NodeSpec
from .._paths import Key, Path, path_str
from .._state import ParamState, StateSpec
from ._fold import Folding, fold
from ._parts import Arrow, ArrowKind, Box, Drawing, size_text
from ._references import ROOT, References, references_of

# A picture with more boxes is no picture any more, and takes long to lay out.
MAX_BOXES: Final = 400
# Lines of one box, and characters of one line.
MAX_LINES: Final = 12
MAX_WIDTH: Final = 40


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        depth: How far below the root nodes are drawn; all, if `None`.
        selected: The numbers of the nodes that a filter accepts; `None` without one.
        states: Whether all States are shown, and not only the shared ones.
        fold: Whether equal siblings are one box.
        title: What stands above; by default the class and size of the root.
    """

    depth: int | None
    selected: Collection[int] | None
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
    folding = fold(graph, is_on=options.fold)
    reachable = within_limits(graph, folding, options.depth)
    shown = [number for number in reachable if is_shown(graph, number, options)]
    sizes = sizes_of(graph, objects)
    hidden = hidden_nodes(graph, folding, reachable)
    box_of = {number: at for at, number in enumerate(shown)}
    boxes = tuple(
        [
            describe(graphdef, graph, number, options, folding, sizes, hidden)
            for number in shown
        ]
    )
    arrows = [
        (box_of[number], box_of[target], label)
        for number in shown
        for target, label in arrows_from(graph, folding, number, box_of)
    ]
    top = boxes[0]
    size = size_text(top)
    title = f"{top.cls}: {size}" if size else top.cls
    if options.title is not None:
        title = options.title
    return Drawing(title, boxes, tuple(with_kinds(len(boxes), arrows)))


def within_limits(
    graph: References, folding: Folding, depth: int | None
) -> list[int]:
    """The numbers of the objects that are near enough to the root, in pre-order.

    Level by level, so that what is nearest to the root is drawn of a graph that is too large.
    """
    top = ROOT if ROOT in graph.rows else 0
    seen, level = {top}, [top]
    distance = 0
    while level and (depth is None or distance < depth):
        below: list[int] = []
        for number in level:
            for _, target in graph.rows.get(number, ()):
                drawn = folding.drawn_as[target]
                if drawn in seen or not is_drawable(graph, drawn):
                    continue
                if len(seen) == MAX_BOXES:
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
    if options.selected is None or number in (ROOT, 0) or not graph.is_node(number):
        return True
    return number in options.selected


def sizes_of(graph: References, objects: Sequence[Any]) -> dict[int, tuple[int, int]]:
    """The numbers of parameters and bytes at and below each object, each State at its first path."""
    sizes = {number: (0, 0) for number in range(-1, len(objects))}
    # From the last one up, so that all below an object is added before it is.
    for number in reversed(range(len(objects))):
        parameters, size = sizes[number]
        if not graph.is_node(number):
            parameters, size = state_size(objects[number])
            sizes[number] = parameters, size
        parent = graph.parents[number]
        above_parameters, above_size = sizes[parent]
        sizes[parent] = above_parameters + parameters, above_size + size
    return sizes


# Any: a State of any class and value.
def state_size(state: Any) -> tuple[int, int]:
    """The numbers of parameters and bytes of a State."""
    count = size = 0
    for leaf in jax.tree.leaves(state._value):
        if hasattr(leaf, "dtype"):
            length = int(np.prod(leaf.shape))
            count += length
            size += length * leaf.dtype.itemsize
    return (count if isinstance(state, ParamState) else 0), size


def hidden_nodes(
    graph: References, folding: Folding, reachable: Sequence[int]
) -> Counter[int]:
    """How many nodes below each of some objects are beyond the limits."""
    near, hidden = {*reachable}, Counter[int]()
    # The nearest object above each that is within the limits; parents come first. Of equal
    # siblings, what is below the first is counted, and the others lead to `None`.
    above: dict[int, int | None] = {ROOT: ROOT}
    for number, parent in enumerate(graph.parents):
        if number in near:
            above[number] = number
        elif folding.drawn_as[number] in near:
            above[number] = None
        else:
            nearest = above[number] = above[parent]
            if nearest is not None:
                hidden[nearest] += graph.is_node(number)
    return hidden


def arrows_from(
    graph: References, folding: Folding, source: int, shown: Collection[int]
) -> Iterator[tuple[int, str]]:
    """The references of a box to other boxes: the number of what it leads to, and a label.

    For `collect`: one for each field, but one for all equal siblings of a list.
    """
    # Of equal siblings: those of one list, by the list and the one that is drawn.
    runs: dict[tuple[Path, int], list[Key]] = {}
    plain: list[tuple[int, Path]] = []
    todo: deque[tuple[int, Path]] = deque([(source, ())])
    seen = {source}
    while todo:
        number, prefix = todo.popleft()
        for edge, target in graph.rows.get(number, ()):
            drawn, path = folding.drawn_as[target], (*prefix, *edge)
            if drawn in shown:
                # The first of a run, or one that follows.
                if folding.counts[drawn] and graph.parents[target] == number:
                    run = path[:-1], drawn
                    if run not in runs:
                        plain.append((drawn, path))
                    runs.setdefault(run, []).append(path[-1])
                    continue
                plain.append((drawn, path))
            elif drawn not in seen:
                seen.add(drawn)
                todo.append((drawn, path))
    for drawn, path in plain:
        label = path_str(path)
        keys = runs.get((path[:-1], drawn), [])
        if len(keys) > 1 and keys[0] == path[-1]:
            label += f"–{keys[-1]}"
        yield drawn, shortened(label)


def with_kinds(
    size: int, arrows: Sequence[tuple[int, int, str]]
) -> Iterator[Arrow]:
    """The arrows with their kinds.

    Args:
        size: The number of boxes.
        arrows: Source, target and label of each.
    """
    below: list[list[int]] = [[] for _ in range(size)]
    for source, target, _ in arrows:
        below[source].append(target)
    closing = closing_arrows(below)
    reached: set[int] = {0}
    for source, target, label in arrows:
        kind: ArrowKind = "shared" if target in reached else "first"
        if (source, target) in closing:
            kind = "back"
        else:
            reached.add(target)
        yield Arrow(source, target, label, kind)


def closing_arrows(below: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """The arrows that close a cycle: a walk from the root, which goes deep first, meets their target above itself."""
    closing: set[tuple[int, int]] = set()
    seen, on_the_way = {0}, {0}
    stack = [(0, iter(below[0]))]
    while stack:
        number, targets = stack[-1]
        target = next(targets, None)
        if target is None:
            stack.pop()
            on_the_way.discard(number)
        elif target in on_the_way:
            closing.add((number, target))
        elif target not in seen:
            seen.add(target)
            on_the_way.add(target)
            stack.append((target, iter(below[target])))
    return closing


# The text of a box


def describe(
    graphdef: GraphDef[Any],
    graph: References,
    number: int,
    options: Options,
    folding: Folding,
    sizes: dict[int, tuple[int, int]],
    hidden: Counter[int],
) -> Box:
    """The box of one object."""
    cls = graphdef.type if number == ROOT else graph.specs[number].cls
    kind: Literal["root", "node", "state"] = "root"
    fields: list[str] = []
    states: list[str] = []
    if number != ROOT:
        spec = graph.specs[number]
        if isinstance(spec, StateSpec):
            kind, states = "state", [graph.values[number]]
        else:
            kind, fields = "node", field_lines(spec)
            states = state_lines(graph, number) if options.states else []
    count = folding.counts[number] or 1
    label = f"{count} × {cls.__name__}" if count > 1 else cls.__name__
    parameters, size = sizes[number]
    return Box(
        label,
        cls.__name__,
        kind,
        () if number == ROOT else graphdef.path(number),
        count,
        parameters,
        size,
        hidden[number],
        tuple(fields),
        tuple(states),
        _first_line(cls),
    )


def field_lines(spec: NodeSpec) -> list[str]:
    """The static fields of a node that its constructor was given, and that are short: `width=8, num_heads=2`."""
    values = dict(zip(spec.template.statics, spec.statics, strict=True))
    texts: list[str] = []
    for name, field in schema(spec.cls).fields.items():
        if field.kind is not Kind.STATIC or not field.init or name not in values:
            continue
        value = values[name]
        is_default = field.default is not None and field.default() == value
        if is_plain(value) and not is_default:
            texts.append(f"{name}={value!r}")
    return wrapped(texts)


# Any: a static value of any type.
def is_plain(value: Any) -> bool:
    """Whether a static value is short enough for a box: a number, a word, or a tuple of them."""
    if isinstance(value, tuple):
        return len(value) <= 4 and all(map(is_plain, value))
    return isinstance(value, (bool, int, float, str)) and len(repr(value)) <= 20


def wrapped(texts: Sequence[str]) -> list[str]:
    """Texts in lines of limited width, separated by commas; what takes more than two lines is left out."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + len(text) + 2 <= MAX_WIDTH * 3 // 4:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
    if len(lines) > 2:
        lines[2:] = ["…"]
    return lines


def state_lines(graph: References, number: int) -> list[str]:
    """The States of a node that no other field refers to, each with its shape: `weight: float32[2,3]`."""
    own = [
        f"{path_str(edge)}: {graph.values[target]}"
        for edge, target in graph.rows[number]
        if not graph.is_node(target) and graph.counts[target] == 1
    ]
    if len(own) > MAX_LINES:
        own[MAX_LINES:] = [f"… {len(own) - MAX_LINES:,} more"]
    return [shortened(line) for line in own]


def shortened(text: str) -> str:
    """A text that fits into a line: a path through a deep graph, or a shape, may have any length."""
    return text if len(text) <= MAX_WIDTH else f"{text[:10]}…{text[11 - MAX_WIDTH :]}"


def _first_line(cls: type) -> str:
    """The first line of a class's own docstring; empty without one."""
    text = (cls.__dict__.get("__doc__") or "").strip()
    # A dataclass without a docstring gets its signature for one.
    if text.startswith(f"{cls.__name__}("):
        return ""
    return text.partition("\n")[0]
