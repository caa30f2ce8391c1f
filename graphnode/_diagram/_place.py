"""Where the boxes and arrows of a picture are, in pixels: boxes are as wide as their text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ._layout import Layout, lay_out
from ._parts import Arrow, Box, Drawing, details_of

LABEL_SIZE, DETAIL_SIZE, ARROW_SIZE, TITLE_SIZE = 14.0, 11.0, 10.5, 15.0
LABEL_LINE, DETAIL_LINE = 18.0, 14.0
PAD_X, PAD_Y = 12.0, 8.0
MARGIN: Final = 16.0
BEND: Final = 54.0  # of the room between two columns, what the curves take
HEAD: Final = 8.0  # the length of an arrow's head
PORT: Final = 15.0  # between two arrows at the left side of a box, which have labels
RIGHT_PORT: Final = 10.0
BEHIND: Final = 4.0  # by which the second and the third of several boxes look out
LOOP: Final = 14.0  # lower than the room between a box and an arrow that passes it

# The widths of characters in Helvetica, in parts of the font's size; those of all others
# are near to that of a digit.
_WIDTHS: Final[dict[str, float]] = {
    **dict.fromkeys("ijl'|", 0.23),
    **dict.fromkeys(" .,:;/!tfI[]()", 0.29),
    **dict.fromkeys("wABCDEGHKNOPQRSUVXY&", 0.71),
    **dict.fromkeys("mMW@%–…×", 0.88),
}
_WIDTH: Final = 0.56
_SPARE: Final = 1.04  # other fonts are a little wider


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is, about."""
    width = sum(
        [_WIDTHS.get(sign, _WIDTH if sign < "\u2e80" else 1.0) for sign in text]
    )
    return width * size * _SPARE * (1.07 if bold else 1.0)


@dataclass
class Placed:
    """A box in its place."""

    x: float
    y: float
    width: float
    height: float


class Column(NamedTuple):
    """Where a column is. Curves are between the columns, so that none passes over a box or a label.

    Attributes:
        left: Where the labels of arrows begin.
        x: The left side of its boxes.
        right: The right side of the widest one.
    """

    left: float
    x: float
    right: float


@dataclass
class Line:
    """An arrow on its way: through points from left to right, flat and curved in turns; flat at both ends.

    An arrow from a box to itself has the point where it begins.
    """

    arrow: Arrow
    points: list[tuple[float, float]]


def heights_of(drawing: Drawing, links: Sequence[tuple[int, int]]) -> list[float]:
    """How high each box is: for its text, and for the arrows at each of its sides."""
    lefts = Counter([right for left, right in links if left != right])
    rights = Counter([left for left, right in links if left != right])
    return [
        max(box_height(box), PORT * lefts[at], RIGHT_PORT * rights[at] + PAD_Y)
        for at, box in enumerate(drawing.boxes)
    ]


def box_height(box: Box) -> float:
    """How high the text of a box is."""
    return 2 * PAD_Y + LABEL_LINE + DETAIL_LINE * len(details_of(box))


def box_width(box: Box) -> float:
    """How wide a box is."""
    widths = [text_width(line, DETAIL_SIZE) for line in details_of(box)]
    return 2 * PAD_X + max([text_width(box.label, LABEL_SIZE, bold=True), *widths])


def loop_width(label: str) -> float:
    """How wide an arrow from a box to itself is, with its label."""
    return 2 * LOOP + 2 * HEAD + text_width(label, ARROW_SIZE)


def place(drawing: Drawing) -> tuple[list[Placed], list[Line]]:
    """The boxes and arrows in their places.

    Raises:
        ModuleNotFoundError: igraph is not installed.
    """
    links = [
        (arrow.target, arrow.source)
        if arrow.kind == "back"
        else (arrow.source, arrow.target)
        for arrow in drawing.arrows
    ]
    heights = heights_of(drawing, links)
    layout = lay_out(heights, links)
    count = len(heights)
    loops = [0.0] * count  # how much of the upper side of each box they take
    for arrow in drawing.arrows:
        if arrow.source == arrow.target:
            loops[arrow.source] += loop_width(arrow.label)
    tops = [
        layout.middles[at] - heights[at] / 2 - (LOOP if loops[at] else 0.0)
        for at in range(count)
    ]
    down = MARGIN + 2 * TITLE_SIZE - min([*tops, *layout.middles[count:]])
    middles = [middle + down for middle in layout.middles]
    boxes = [
        Placed(0.0, middle - height / 2, box_width(box), height)
        for box, middle, height in zip(drawing.boxes, middles, heights, strict=False)
    ]
    for box, width in zip(boxes, loops, strict=True):
        box.width = max(box.width, width)
    columns = placed_columns(drawing, layout, boxes)
    column_of = {
        at: column
        for column, members in zip(columns, layout.columns, strict=True)
        for at in members
    }
    for at, box in enumerate(boxes):
        box.x = column_of[at].x
    ends = port_heights(layout, boxes, middles)
    lines: list[Line] = []
    for arrow, way, (start_y, end_y) in zip(
        drawing.arrows, layout.ways, ends, strict=True
    ):
        line = Line(arrow, [])
        if len(way) > 1:
            first, last = boxes[way[0]], boxes[way[-1]]
            line.points += [(first.x + first.width, start_y)]
            line.points += [(column_of[way[0]].right, start_y)]
            for at in way[1:-1]:
                line.points += [(column_of[at].left, middles[at])]
                line.points += [(column_of[at].right, middles[at])]
            line.points += [(column_of[way[-1]].left, end_y), (last.x, end_y)]
        else:
            box = boxes[arrow.source]
            begin = loops[arrow.source] = loops[arrow.source] - loop_width(arrow.label)
            line.points += [(box.x + box.width - HEAD - begin, box.y)]
        lines.append(line)
    return boxes, lines


def placed_columns(
    drawing: Drawing, layout: Layout, boxes: Sequence[Placed]
) -> list[Column]:
    """The columns in their places: each as wide as its boxes, and as the labels to the left of them."""
    number_of = {at: n for n, column in enumerate(layout.columns) for at in column}
    room = [0.0] * len(layout.columns)
    for arrow, way in zip(drawing.arrows, layout.ways, strict=True):
        if len(way) > 1:
            number = number_of[way[-1]]
            width = text_width(arrow.label, ARROW_SIZE) + 2 * HEAD
            room[number] = max(room[number], width)
    columns: list[Column] = []
    left = MARGIN
    for members, labels in zip(layout.columns, room, strict=True):
        widths = [boxes[at].width for at in members if at < len(boxes)]
        right = left + labels + max(widths, default=0.0)
        columns.append(Column(left, left + labels, right))
        left = right + BEND
    return columns


def port_heights(
    layout: Layout, boxes: Sequence[Placed], middles: Sequence[float]
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
        (at_right, starts, 1, RIGHT_PORT),
        (at_left, ends, -2, PORT),
    ):
        for at, numbers in groups.items():
            numbers.sort(key=lambda number: middles[layout.ways[number][end]])
            box = boxes[at]
            step = min(spacing, box.height * 0.8 / len(numbers))
            first = box.y + box.height / 2 - step * (len(numbers) - 1) / 2
            for rank, number in enumerate(numbers):
                heights[number] = first + step * rank
    return list(zip(starts, ends, strict=True))
