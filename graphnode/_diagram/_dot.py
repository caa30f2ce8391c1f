"""Write a drawing as a digraph of DOT, the language of Graphviz."""

from collections.abc import Iterator

from .._paths import path_str
from ._colours import LINES, TEXT, fills_of
from ._parts import Arrow, Box, Drawing, details_of, printable, shortened


def dot_text(drawing: Drawing) -> str:
    """The text of a drawing in DOT."""
    return "\n".join(_lines(drawing)) + "\n"


def _lines(drawing: Drawing) -> Iterator[str]:
    fills = fills_of(drawing.boxes)
    yield "digraph model {"
    yield f'  graph [rankdir=LR, labelloc=t, fontname="Helvetica", label={_quoted(drawing.title)}]'
    yield f'  node [shape=box, style="rounded,filled", fontname="Helvetica", fontcolor="{TEXT}"]'
    yield '  edge [fontname="Helvetica", fontsize=10]'
    for at, box in enumerate(drawing.boxes):
        yield f"  n{at} [{_box(box, fills[box.cls])}]"
    for arrow in drawing.arrows:
        yield f"  n{arrow.source} -> n{arrow.target} [{_arrow(arrow)}]"
    yield "}"


def _box(box: Box, fill: str) -> str:
    label = _quoted("\n".join([box.label, *details_of(box)]))
    attributes = [f"label={label}", f'fillcolor="{fill}"']
    if box.path:
        attributes.append(
            f"tooltip={_quoted(printable(shortened(path_str(box.path), 200)))}"
        )
    if box.kind == "state":
        attributes.append("shape=ellipse")
    if box.count > 1:
        attributes.append("peripheries=2")
    return ", ".join(attributes)


def _arrow(arrow: Arrow) -> str:
    colour = LINES[arrow.kind]
    attributes = [f"label={_quoted(arrow.label)}", f'color="{colour}"']
    attributes.append(f'fontcolor="{colour}"')
    if arrow.kind == "back":
        attributes.append("style=dashed")
    return ", ".join(attributes)


def _quoted(text: str) -> str:
    """A text as a string of DOT, in which a new line is escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
