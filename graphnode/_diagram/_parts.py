"""What is drawn: boxes and arrows, in the words of the model. The writers know nothing else."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from .._paths import Path
from .._pretty._sizes import amount_text

# A node, a State that is shared or was asked for, or the container that is the root.
BoxKind: TypeAlias = Literal["node", "state", "root"]
# The first reference to a box, a further one, and one back to where the arrow comes from.
ArrowKind: TypeAlias = Literal["first", "shared", "back"]


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a diagram.

    Attributes:
        label: What it is called: `Linear`, or `24 × TransformerBlock`.
        cls: The name of its class, which says its colour.
        kind: `"node"`, `"state"`, or `"root"` for a pytree that holds the nodes.
        path: The first path of what it shows.
        count: How many equal nodes it stands for.
        parameters: Numbers in the ParamStates at or below it; of one, if it stands for
            several, without what these share.
        bytes: Size of all States at or below it; of one in the same way.
        hidden: Number of nodes below it that are not drawn.
        fields: Lines of text about its static fields.
        states: Lines of text about its States.
        doc: The first line of the docstring of its class.
    """

    label: str
    cls: str
    kind: BoxKind
    path: Path
    count: int
    parameters: int
    bytes: int
    hidden: int
    fields: tuple[str, ...]
    states: tuple[str, ...]
    doc: str


class Arrow(NamedTuple):
    """One arrow of a diagram: a reference.

    Attributes:
        source: The number of the box that it leaves.
        target: The number of the box that it leads to.
        label: The path of the reference within the source: `blocks.0`.
        kind: `"first"`, `"shared"` for a further reference to a box, also one of several
            equal nodes to what they share, or `"back"` for one that closes a cycle.
    """

    source: int
    target: int
    label: str
    kind: ArrowKind


class Drawing(NamedTuple):
    """What a writer draws."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def details_of(box: Box) -> list[str]:
    """The lines of a box below its label: fields, States, its size, and what is not drawn."""
    lines = [*box.fields, *box.states]
    size = size_text(box)
    if size:
        lines.append(size)
    if box.hidden:
        lines.append(f"… {box.hidden:,} more {'node' if box.hidden == 1 else 'nodes'}")
    return lines


def size_text(box: Box) -> str:
    """How large the part of a model is that a box shows: `1.20M parameters, 4.80 MB`; empty without States."""
    # A State says its shape already.
    if box.kind == "state" or not box.bytes:
        return ""
    each = " each" if box.count > 1 else ""
    return amount_text(box.parameters, box.bytes) + each


def shortened(text: str, length: int) -> str:
    """A text that fits into a line, cut in its middle: a path or a shape may have any length."""
    start = length // 4
    return (
        text if len(text) <= length else f"{text[:start]}…{text[start + 1 - length :]}"
    )


def printable(text: str) -> str:
    """A text without what no file of text or XML may hold, such as a NUL in the key of a dict, and on one line."""
    return "".join([sign if sign.isprintable() else " " for sign in text])
