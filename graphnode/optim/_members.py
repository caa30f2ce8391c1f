"""The States that an optimizer or an average of a model was made for, found again in the model and its copies."""

from collections.abc import Sequence
from typing import Any

from .._errors import UpdateError, listed
from .._filters import Matcher
from .._graph._graphdef import GraphDef
from .._graph._layout import Layout
from .._paths import path_str
from .._redefinition import class_name
from .._split import graphdef, states
from .._stack_axes import without_any_axes
from .._state import State, StateSpec, moved_spec


def members_of(
    model: object, wrt: Matcher, layout: Layout, owner: str, remedy: str
) -> list[State[Any]]:
    """The States of a model that are selected, in the order of `layout`.

    Args:
        model: The model that the owner was made for, or a copy of it.
        wrt: Which States are selected.
        layout: The paths and descriptions of these when the owner was made.
        owner: What was made for them, for the message.
        remedy: What to do where the model has changed, for the message.

    Raises:
        UpdateError: The model has others; names all.
    """
    selected = states(model, wrt)
    try:
        numbers = _numbers_in(graphdef(model), selected.layout, layout, owner)
    except UpdateError as error:
        raise UpdateError(f"{error}; {remedy}") from None
    return [selected._states[number] for number in numbers]


def _numbers_in(
    structure: GraphDef[Any], layout: Layout, own_layout: Layout, owner: str
) -> Sequence[int]:
    """The number of each State of the owner, among those that a model has: by whichever path it goes by there.

    Raises:
        UpdateError: The model has others; names all.
    """
    # Layouts are interned: for the model itself, and for a copy, this is the answer
    # at each step.
    if layout is own_layout:
        return range(len(layout))
    numbers = layout.positions_of(own_layout).numbers
    specs = [None if number is None else layout.specs[number] for number in numbers]
    rows = zip(own_layout.paths(), own_layout.specs, specs, strict=True)
    faults = [
        f"{path_str(path)}: expected {_spec_text(own, spec)}, found {_spec_text(spec, own)}"
        for path, own, spec in rows
        if not _is_alike(own, spec)
    ]
    mentioned = set(numbers)
    faults += [
        f"{path_str(layout.path(at))}: expected nothing, found {_spec_text(spec, None)}"
        for at, spec in enumerate(layout.specs)
        if at not in mentioned
    ]
    present = [number for number in numbers if number is not None]
    # Two paths of the owner's lead to one State now: it would be moved twice.
    if not faults and len(set(present)) < len(present):
        paths = [path_str(layout.path(at)) for at in _repeated(present)]
        faults = [f"States that were apart are one: {', '.join(paths)}"]
    if faults:
        name = structure.type.__name__
        raise UpdateError(
            f"cannot update {name}: the {owner} was made for other States: {listed(faults)}"
        )
    return present


def _is_alike(own: StateSpec, spec: StateSpec | None) -> bool:
    """Whether a State is described as the one that the owner was made for, whatever axes it was stacked along."""
    if spec is None:
        return False
    return without_any_axes(moved_spec(own)) is without_any_axes(spec)


def _repeated(numbers: Sequence[int]) -> list[int]:
    """The numbers that stand there more than once, in order: of States that would be moved twice."""
    return sorted({number for number in numbers if numbers.count(number) > 1})


def _spec_text(spec: StateSpec | None, beside: StateSpec | None) -> str:
    """For a message: how a State is described, or "nothing".

    Args:
        spec: The description; `None` where there is no State.
        beside: That of the State which the message compares it with: two classes of one
            name get their modules.
    """
    if spec is None:
        return "nothing"
    name = class_name(spec.cls, *([] if beside is None else [beside.cls]))
    parts = ", ".join(f"{key}={value!r}" for key, value in spec.description())
    return f"{name}({parts})" if parts else name
