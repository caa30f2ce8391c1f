"""Write a drawing as SVG: boxes that are as wide as their text, and curved arrows with a label at one end.

    +------+    blocks.0   +-------+
    | Net  |-------------->| Block |
    +------+               +-------+

Everything that has a colour says it itself, and nothing has an id: a notebook puts the pictures of
several cells into one page. The ground is transparent, as a page may be light or dark.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from .._paths import path_str
from ._colours import LINES, TEXT, fills_of
from ._layout import Layout, lay_out
from ._parts import Arrow, Box, Drawing, details_of

FONT: Final = "Helvetica, Arial, sans-serif"
LABEL_SIZE, DETAIL_SIZE, ARROW_SIZE, TITLE_SIZE = 14.0, 11.0, 10.5, 15.0
LABEL_LINE, DETAIL_LINE = 18.0, 14.0
PAD_X, PAD_Y = 12.0, 8.0
MARGIN: Final = 16.0
BEND: Final = 46.0  # of the room between two columns, what the curves take
HEAD: Final = 8.0  # the length of an arrow's head
PORT: Final = 15.0  # between two arrows at one side of a box
BEHIND: Final = 4.0  # by which the second and the third of several boxes look out
LOOP: Final = 20.0

# The widths of characters in Helvetica, in parts of the font's size; those of all others
# are near to that of a digit.
_NARROW: Final = dict.fromkeys("ijl'|", 0.23) | dict.fromkeys(" .,:;/!tfI[]()", 0.29)
_WIDE: Final = dict.fromkeys("mMW@%–…×", 0.88) | dict.fromkeys("wABCDEGHKNOPQRSUVXY&", 0.71)
_WIDTHS: Final = _NARROW | _WIDE
_WIDTH: Final = 0.56
_SPARE: Final = 1.04  # other fonts are a little wider


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is, about."""
    width = sum([_WIDTHS.get(sign, _WIDTH if sign < "\u2e80" else 1.0) for sign in text])
    return width * size * _SPARE * (1.07 if bold else 1.0)


@dataclass
class Placed:
    """A box in its place."""

    x: float
    y: float
    width: float
    height: float


@dataclass
class Line:
    """An arrow on its way: from left to right through points, of which each two are the ends of a stop or box."""

    arrow: Arrow
    points: list[tuple[float, float]]
    label_width: float


def svg_text(drawing: Drawing) -> str:
    """The text of a drawing in SVG.

    Raises:
        ModuleNotFoundError: igraph is not installed.
    """
    links = [
        (arrow.target, arrow.source)
        if arrow.kind == "back"
        else (arrow.source, arrow.target)
        for arrow in drawing.arrows
    ]
    ports = ports_of(len(drawing.boxes), links)
    heights = [
        max(box_height(box), PORT * count)
        for box, count in zip(drawing.boxes, ports, strict=True)
    ]
    layout = lay_out(heights, links)
    boxes, lines = place(drawing, layout, heights)
    return "\n".join(_document(drawing, boxes, lines)) + "\n"


def ports_of(size: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """How many arrows there are at that side of each box that has more of them."""
    at_left, at_right = [0] * size, [0] * size
    for left, right in links:
        if left != right:
            at_right[left] += 1
            at_left[right] += 1
    # Those at the right side begin at one point, but for arrows back, which end apart.
    return at_left


def box_height(box: Box) -> float:
    """How high a box is."""
    return 2 * PAD_Y + LABEL_LINE + DETAIL_LINE * len(details_of(box))


def box_width(box: Box) -> float:
    """How wide a box is."""
    widths = [text_width(line, DETAIL_SIZE) for line in details_of(box)]
    return 2 * PAD_X + max([text_width(box.label, LABEL_SIZE, bold=True), *widths])


def place(
    drawing: Drawing, layout: Layout, heights: Sequence[float]
) -> tuple[list[Placed], list[Line]]:
    """The boxes and arrows in their places."""
    widths = [box_width(box) for box in drawing.boxes]
    count = len(widths)
    lines = [
        Line(arrow, [], text_width(arrow.label, ARROW_SIZE)) for arrow in drawing.arrows
    ]
    top = min([layout.middles[at] - heights[at] / 2 for at in range(count)])
    top = min([top, *layout.middles[count:]])
    down = MARGIN + TITLE_SIZE * 2 - top
    column_of = {at: n for n, column in enumerate(layout.columns) for at in column}
    # How much room the labels of arrows need to the left of each column.
    room = [0.0] * len(layout.columns)
    for line, way in zip(lines, layout.ways, strict=True):
        if len(way) > 1:
            column = column_of[way[-1]]
            room[column] = max(room[column], line.label_width)
    boxes = [Placed(0.0, 0.0, width, height) for width, height in zip(widths, heights, strict=True)]
    spans: list[tuple[float, float]] = []
    x = MARGIN
    for number, column in enumerate(layout.columns):
        x += room[number] + BEND + 2 * HEAD if number else 0.0
        width = max([widths[at] for at in column if at < count], default=0.0)
        spans.append((x, x + width))
        for at in column:
            if at < count:
                boxes[at].x = x
                boxes[at].y = layout.middles[at] + down - heights[at] / 2
        x += width
    ends = port_heights(layout, boxes, down)
    for number, (line, way) in enumerate(zip(lines, layout.ways, strict=True)):
        if len(way) == 1:
            continue
        for at in way[1:-1]:
            y = layout.middles[at] + down
            left, right = spans[column_of[at]]
            line.points += [(left, y), (right, y)]
        first, last = boxes[way[0]], boxes[way[-1]]
        start = (first.x + first.width, ends[number][0])
        # From the end of the column, so that curves do not begin inside of it.
        right_of_column = (spans[column_of[way[0]]][1], start[1])
        line.points = [start, right_of_column, *line.points, (last.x, ends[number][1])]
    return boxes, lines


def port_heights(
    layout: Layout, boxes: Sequence[Placed], down: float
) -> list[tuple[float, float]]:
    """The heights at which each arrow touches its left and its right box.

    In the order of what is at the other end, so that the arrows of a box do not cross.
    """
    at_left: dict[int, list[int]] = {}
    at_right: dict[int, list[int]] = {}
    for number, way in enumerate(layout.ways):
        if len(way) > 1:
            at_right.setdefault(way[0], []).append(number)
            at_left.setdefault(way[-1], []).append(number)
    starts, ends = [0.0] * len(layout.ways), [0.0] * len(layout.ways)
    for groups, heights, end, spacing in (
        (at_right, starts, 1, PORT / 2),
        (at_left, ends, -2, PORT),
    ):
        for at, numbers in groups.items():
            numbers.sort(key=lambda number: layout.middles[layout.ways[number][end]])
            box = boxes[at]
            step = min(spacing, box.height * 0.8 / len(numbers))
            first = box.y + box.height / 2 - step * (len(numbers) - 1) / 2
            for rank, number in enumerate(numbers):
                heights[number] = first + step * rank
    return list(zip(starts, ends, strict=True))


# The text of the document


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
    yield _text(drawing.title, MARGIN, MARGIN + TITLE_SIZE * 0.8, TITLE_SIZE, LINES["first"], bold=True)
    for line in lines:
        if line.points:
            yield from _arrow(line)
        else:
            yield from _loop(line, boxes[line.arrow.source])
    for box, placed in zip(drawing.boxes, boxes, strict=True):
        yield from _box(box, placed, fills[box.cls])
    yield "</svg>"


def _box(box: Box, placed: Placed, fill: str) -> Iterator[str]:
    yield '<g class="box">'
    path = path_str(box.path) or "the root"
    yield f"<title>{escape(path)}: {escape(box.cls)}{escape(chr(10) + box.doc if box.doc else '')}</title>"
    behind = (2, 1) if box.count > 1 else ()
    for far in (*behind, 0):
        x, y = placed.x + far * BEHIND, placed.y + far * BEHIND
        radius = placed.height / 2 if box.kind == "state" else 6
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{placed.width:.1f}" height="{placed.height:.1f}" '
            f'rx="{min(radius, 16):g}" fill="{fill}" stroke="#55585e"/>'
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


def _arrow(line: Line) -> Iterator[str]:
    arrow, points = line.arrow, line.points
    colour, is_back = LINES[arrow.kind], arrow.kind == "back"
    (x, y), *rest = points
    end_x, end_y = rest[-1]
    # The last part is straight, and the label stands on it.
    flat_x = end_x - line.label_width - 2 * HEAD
    commands = [f"M{x + (HEAD if is_back else 0):.1f} {y:.1f}"]
    at_x, at_y = x, y
    is_curve = False
    for next_x, next_y in [*rest[:-1], (flat_x, end_y)]:
        if is_curve:
            middle = (at_x + next_x) / 2
            commands.append(f"C{middle:.1f} {at_y:.1f} {middle:.1f} {next_y:.1f} {next_x:.1f} {next_y:.1f}")
        else:
            commands.append(f"H{next_x:.1f}")
        at_x, at_y, is_curve = next_x, next_y, not is_curve
    commands.append(f"H{end_x - (0 if is_back else HEAD):.1f}")
    dashes = ' stroke-dasharray="5 3"' if is_back else ""
    yield f'<g class="arrow" stroke="{colour}" fill="none">'
    yield f'<path d="{"".join(commands)}" stroke-width="1.4"{dashes}/>'
    tip, tail, tip_y = (x, x + HEAD, y) if is_back else (end_x, end_x - HEAD, end_y)
    yield _head(tip, tail, tip_y, colour)
    yield _text(arrow.label, flat_x + HEAD * 0.5, end_y - 4, ARROW_SIZE, colour)
    yield "</g>"


def _loop(line: Line, box: Placed) -> Iterator[str]:
    """An arrow from a box to itself: above its right upper corner."""
    colour = LINES[line.arrow.kind]
    x, y = box.x + box.width, box.y
    tip = x - 2 * LOOP
    yield f'<g class="arrow" stroke="{colour}" fill="none">'
    yield (
        f'<path d="M{x - 8:.1f} {y:.1f}C{x - 8:.1f} {y - LOOP:.1f} {tip:.1f} {y - LOOP:.1f} '
        f'{tip:.1f} {y - HEAD:.1f}" stroke-width="1.4" stroke-dasharray="5 3"/>'
    )
    yield f'<path d="M{tip:.1f} {y:.1f}l-4 -{HEAD:g}h8z" fill="{colour}" stroke="none"/>'
    yield _text(line.arrow.label, x - 8, y - LOOP / 2, ARROW_SIZE, colour)
    yield "</g>"


def _head(tip: float, tail: float, y: float, colour: str) -> str:
    return f'<path d="M{tip:.1f} {y:.1f}L{tail:.1f} {y - 4:.1f}V{y + 4:.1f}Z" fill="{colour}" stroke="none"/>'


def _text(
    text: str, x: float, y: float, size: float, colour: str, *, bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{weight} fill={quoteattr(colour)} stroke="none">'
        f"{escape(text)}</text>"
    )
