"""Write a drawing as SVG: boxes that are as wide as their text, and curved arrows with a label at one end.

    +------+    blocks.0   +-------+
    | Net  |-------------->| Block |
    +------+               +-------+

Everything that has a colour says it itself, and nothing has an id: a notebook puts the pictures of
several cells into one page. The ground is transparent, as a page may be light or dark.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from .._paths import path_str
from ._colours import LINES, TEXT, darker, fills_of
from ._parts import Box, Drawing, details_of, printable, shortened
from ._place import (
    ARROW_SIZE,
    BEHIND,
    DETAIL_LINE,
    DETAIL_SIZE,
    HEAD,
    LABEL_LINE,
    LABEL_SIZE,
    LOOP,
    MARGIN,
    PAD_X,
    TITLE_SIZE,
    Line,
    Placed,
    place,
    text_width,
)

FONT: Final = "Helvetica, Arial, sans-serif"


def svg_text(drawing: Drawing) -> str:
    """The text of a drawing in SVG.

    Raises:
        ModuleNotFoundError: igraph is not installed.
    """
    boxes, lines = place(drawing)
    return "\n".join(_document(drawing, boxes, lines)) + "\n"


def _document(
    drawing: Drawing, boxes: Sequence[Placed], lines: Sequence[Line]
) -> Iterator[str]:
    right = max([box.x + box.width for box in boxes]) + MARGIN + 2 * BEHIND
    right = max(right, 2 * MARGIN + text_width(drawing.title, TITLE_SIZE, bold=True))
    bottom = max([box.y + box.height for box in boxes])
    bottom = max([bottom, *[y for line in lines for _, y in line.points]])
    bottom += MARGIN + 2 * BEHIND
    fills = fills_of(drawing.boxes)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right:.0f} {bottom:.0f}" '
        f'width="{right:.0f}" height="{bottom:.0f}" font-family="{FONT}" role="img">'
    )
    yield f"<title>{escape(drawing.title)}</title>"
    yield _text(
        drawing.title,
        MARGIN,
        MARGIN + TITLE_SIZE * 0.8,
        TITLE_SIZE,
        LINES["first"],
        bold=True,
    )
    for line in lines:
        yield from _loop(line) if len(line.points) == 1 else _arrow(line)
    for box, placed in zip(drawing.boxes, boxes, strict=True):
        yield from _box(box, placed, fills[box.cls])
    yield "</svg>"


def _box(box: Box, placed: Placed, fill: str) -> Iterator[str]:
    yield '<g class="box">'
    yield f"<title>{escape(tooltip(box))}</title>"
    behind = (2, 1) if box.count > 1 else ()
    for far in (*behind, 0):
        x, y = placed.x + far * BEHIND, placed.y + far * BEHIND
        radius = placed.height / 2 if box.kind == "state" else 6
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{placed.width:.1f}" height="{placed.height:.1f}" '
            f'rx="{min(radius, 16):g}" fill="{fill}" stroke="{darker(fill)}"/>'
        )
    details = details_of(box)
    used = LABEL_LINE + DETAIL_LINE * len(details)
    y = placed.y + (placed.height - used) / 2 + LABEL_LINE * 0.75
    yield _text(box.label, placed.x + PAD_X, y, LABEL_SIZE, TEXT, bold=True)
    y += (LABEL_LINE - DETAIL_LINE) / 2
    for line in details:
        y += DETAIL_LINE
        yield _text(line, placed.x + PAD_X, y, DETAIL_SIZE, TEXT)
    yield "</g>"


def tooltip(box: Box) -> str:
    """What a browser shows while the mouse is on a box."""
    path = printable(shortened(path_str(box.path), 200)) or "the root"
    first = f"{path}: {box.cls}"
    return f"{first}\n{box.doc}" if box.doc else first


def _arrow(line: Line) -> Iterator[str]:
    arrow, points = line.arrow, line.points
    colour, is_back = LINES[arrow.kind], arrow.kind == "back"
    (x, y), (end_x, end_y) = points[0], points[-1]
    commands = [f"M{x:.1f} {y:.1f}"]
    for at, ((from_x, from_y), (to_x, to_y)) in enumerate(pairwise(points)):
        middle = (from_x + to_x) / 2
        if at % 2:
            bend = f"{middle:.1f} {from_y:.1f} {middle:.1f} {to_y:.1f}"
            commands.append(f"C{bend} {to_x:.1f} {to_y:.1f}")
        else:
            commands.append(f"H{to_x:.1f}")
    dashes = ' stroke-dasharray="5 3"' if is_back else ""
    yield f'<g class="arrow" stroke="{colour}" fill="none">'
    yield f'<path d="{"".join(commands)}" stroke-width="1.4"{dashes}/>'
    yield (
        _head(x, x + HEAD, y, colour)
        if is_back
        else _head(end_x, end_x - HEAD, end_y, colour)
    )
    label_x = end_x - HEAD * 1.25
    yield _text(arrow.label, label_x, end_y - 4, ARROW_SIZE, colour, anchor="end")
    yield "</g>"


def _loop(line: Line) -> Iterator[str]:
    """An arrow from a box to itself: above its upper side."""
    colour = LINES[line.arrow.kind]
    ((start, y),) = line.points
    tip = start - 2 * LOOP
    top = y - 1.3 * LOOP
    yield f'<g class="arrow" stroke="{colour}" fill="none">'
    yield (
        f'<path d="M{start:.1f} {y:.1f}C{start:.1f} {top:.1f} {tip:.1f} {top:.1f} {tip:.1f} {y - HEAD:.1f}" '
        'stroke-width="1.4" stroke-dasharray="5 3"/>'
    )
    yield f'<path d="M{tip:.1f} {y:.1f}l-4 -{HEAD:g}h8z" fill="{colour}" stroke="none"/>'
    yield _text(line.arrow.label, tip - HEAD, y - 4, ARROW_SIZE, colour, anchor="end")
    yield "</g>"


def _head(tip: float, tail: float, y: float, colour: str) -> str:
    return f'<path d="M{tip:.1f} {y:.1f}L{tail:.1f} {y - 4:.1f}V{y + 4:.1f}Z" fill="{colour}" stroke="none"/>'


def _text(
    text: str,
    x: float,
    y: float,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    anchor: str = "start",
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    if anchor != "start":
        weight += f' text-anchor="{anchor}"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{weight} fill={quoteattr(colour)} stroke="none">'
        f"{escape(text)}</text>"
    )
