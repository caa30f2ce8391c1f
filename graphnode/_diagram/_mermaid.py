"""Write a drawing as a flowchart of Mermaid, which GitHub, GitLab and JupyterLab draw."""

import json
from collections.abc import Iterator
from typing import Final

from ._colours import LINES, TEXT, darker, fills_of
from ._parts import Arrow, Box, Drawing, details_of

# What stands around the label of a box, by its kind; several nodes in one have double sides.
_SHAPES: Final = {"node": ("[", "]"), "state": ("([", "])"), "root": ("{{", "}}")}
_SEVERAL: Final = ("[[", "]]")
# Mermaid has numbered entities of its own. Without them these end a label, begin an
# entity, or are markup.
_ESCAPES: Final = str.maketrans({sign: f"#{ord(sign)};" for sign in '#"<>&`'})


def mermaid_text(drawing: Drawing) -> str:
    """The text of a drawing in Mermaid."""
    return "\n".join(_lines(drawing)) + "\n"


def _lines(drawing: Drawing) -> Iterator[str]:
    fills = fills_of(drawing.boxes)
    class_names = {cls: f"c{at}" for at, cls in enumerate(fills)}
    # JSON is YAML too.
    title = json.dumps(drawing.title, ensure_ascii=False)
    yield from ("---", f"title: {title}", "---", "flowchart LR")
    for at, box in enumerate(drawing.boxes):
        yield f"  n{at}{_box(box)}:::{class_names[box.cls]}"
    for arrow in drawing.arrows:
        yield f"  {_arrow(arrow)}"
    for cls, name in class_names.items():
        yield f"  classDef {name} fill:{fills[cls]},stroke:{darker(fills[cls])},color:{TEXT}"
    for kind in ("shared", "back"):
        numbers = [
            str(at) for at, arrow in enumerate(drawing.arrows) if arrow.kind == kind
        ]
        if numbers:
            yield f"  linkStyle {','.join(numbers)} stroke:{LINES[kind]}"


def _box(box: Box) -> str:
    start, end = _SEVERAL if box.count > 1 else _SHAPES[box.kind]
    lines = [_escaped(line) for line in (box.label, *details_of(box))]
    return f'{start}"{"<br/>".join(lines)}"{end}'


def _arrow(arrow: Arrow) -> str:
    line = "-.->" if arrow.kind == "back" else "-->"
    label = f'|"{_escaped(arrow.label)}"|' if arrow.label else ""
    return f"n{arrow.source} {line}{label} n{arrow.target}"


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
