"""Describe one node or State as a box: its label, lines of text, and how large it is."""

import math
from collections.abc import Sequence
from typing import Any, Final

from .._declare._schema import Field, schema
from .._fields import Kind
from .._graph._template import NodeSpec
from .._paths import Path, path_str
from .._pretty._values import arrays_of
from .._state import ParamState
from ._fold import Folding
from ._parts import Box, BoxKind, printable, shortened
from ._references import ROOT, References

# Lines of one box, and characters of one line.
MAX_LINES: Final = 12
MAX_WIDTH: Final = 40


def describe(
    graph: References,
    number: int,
    cls: type,
    path: Path,
    *,
    count: int,
    size: tuple[int, int],
    hidden: int,
    with_states: bool,
) -> Box:
    """The box of one object.

    Args:
        graph: The references of the graph.
        number: The number of the object.
        cls: Its class.
        path: Its first path.
        count: How many equal nodes it stands for.
        size: The numbers of parameters and bytes of one of them.
        hidden: How many nodes below it are not drawn.
        with_states: Whether its States are listed.
    """
    kind: BoxKind = "root"
    fields: list[str] = []
    states: list[str] = []
    if number != ROOT:
        spec = graph.specs[number]
        if isinstance(spec, NodeSpec):
            kind, fields = "node", field_lines(spec)
            states = state_lines(graph, number) if with_states else []
        else:
            kind, states = "state", [shortened(graph.values[number], MAX_WIDTH)]
    label = f"{count} × {cls.__name__}" if count > 1 else cls.__name__
    return Box(
        label,
        cls.__name__,
        kind,
        path,
        count,
        *size,
        hidden,
        tuple(fields),
        tuple(states),
        "" if number == ROOT else _first_line(cls),
    )


def field_lines(spec: NodeSpec) -> list[str]:
    """The static fields of a node that its constructor was given, and that are short: `width=8, num_heads=2`."""
    values = dict(zip(spec.template.statics, spec.statics, strict=True))
    texts: list[str] = []
    for name, field in schema(spec.cls).fields.items():
        if field.kind is not Kind.STATIC or not field.init or name not in values:
            continue
        value = values[name]
        if is_plain(value) and not is_default(field, value):
            texts.append(f"{name}={value!r}")
    return wrapped(texts)


# Any: a static value of any type.
def is_default(field: Field, value: Any) -> bool:
    """Whether a static value is what its field has by default."""
    default = None if field.default is None else field.default()
    # By type first: `==` of an array gives an array.
    return type(default) is type(value) and bool(default == value)


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
        lines[1:] = [f"{lines[1]}, …"]
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
    return [printable(shortened(line, MAX_WIDTH)) for line in own]


def _first_line(cls: type) -> str:
    """The first line of a class's own docstring; empty without one."""
    text = (cls.__dict__.get("__doc__") or "").strip()
    # A dataclass without a docstring gets its signature for one.
    if text.startswith(f"{cls.__name__}("):
        return ""
    return printable(text.partition("\n")[0])


# How large it is


def drawn_sizes(
    graph: References, folding: Folding, objects: Sequence[Any]
) -> dict[int, tuple[int, int]]:
    """The numbers of parameters and bytes of what is drawn; of several equal ones what each has of its own.

    What they share is first seen in the first of them, and is not counted with any: so many
    times the size of one, and what is shared, are the size of all.
    """
    sizes = sizes_of(graph, objects)
    for number, drawn in folding.pairs():
        sizes[drawn] = sizes[number]
    return sizes


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
    for array in arrays_of(state._value):
        length = math.prod(array.shape)
        count += length
        size += length * array.dtype.itemsize
    return (count if isinstance(state, ParamState) else 0), size
