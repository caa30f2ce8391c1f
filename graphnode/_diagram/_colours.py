"""Colours of boxes and arrows."""

from collections.abc import Sequence
from typing import Final

from ._parts import ArrowKind, Box

# The scheme "light" of Paul Tol (https://sronpersonalpages.nl/~pault), made for areas that
# carry black text, and distinct to people who see colours in any of the common ways.
FILLS: Final = (
    "#77aadd",
    "#ee8866",
    "#eedd88",
    "#ffaabb",
    "#99ddff",
    "#44bb99",
    "#bbcc33",
    "#aaaa00",
)
# Of States, and of a pytree that holds the nodes: these have no class of their own to tell.
PLAIN: Final = "#dddddd"
TEXT: Final = "#1a1a1a"

# Each has a contrast of at least 4 to both white and black, as a notebook is light or dark.
LINES: Final[dict[ArrowKind, str]] = {
    "first": "#767b84",
    "shared": "#c2570c",
    "back": "#3576c9",
}


def fills_of(boxes: Sequence[Box]) -> dict[str, str]:
    """The colour of each class of boxes, in the order in which they come; the ninth has that of the first."""
    fills: dict[str, str] = {}
    nodes = [box.cls for box in boxes if box.kind == "node"]
    for at, cls in enumerate(dict.fromkeys(nodes)):
        fills[cls] = FILLS[at % len(FILLS)]
    for box in boxes:
        fills.setdefault(box.cls, PLAIN)
    return fills


def darker(colour: str) -> str:
    """A colour for the edge of an area of another one."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join([f"{part * 5 // 9:02x}" for part in parts])
