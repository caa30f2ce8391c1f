"""Fields of a config that hold nodes: which containers they take, and how these are rebuilt.

Data has no tuples, so that a list stands for a tuple too; the form of the field has
which is meant. What is in the containers matters only to `_config`.
"""

from collections.abc import Callable
from typing import Any

from .._declare._forms import Form
from .._nesting import Container, ContainerKind, assembled, is_container, items
from .._paths import Path


def slot_kind(form: Form, value: object) -> ContainerKind | None:
    """The container that a value is taken for in a slot: files have no tuples, so that a list stands for one too.

    Returns:
        `None` for what is not a container, or for one that the slot does not take. A
        slot whose form is open takes single configs only.
    """
    if form.is_open or not is_container(value):
        return None
    kind = dict if isinstance(value, dict) else _sequence_kind(form)
    return kind if form.admits(kind) else None


def key_fault(value: Container) -> str | None:
    """What is wrong with the keys of a dict in a slot, which become parts of paths, or `None`.

    The readers of files have checked theirs; a program may give any.
    """
    if not isinstance(value, dict):
        return None
    wrong = [type(key).__name__ for key in value if not isinstance(key, str)]
    if not wrong:
        return None
    return f"a key is a string, found {', '.join(dict.fromkeys(wrong))}"


def _sequence_kind(form: Form) -> ContainerKind:
    """What a list in a file stands for, a list or a tuple, by the form of its place: files have no tuples."""
    return tuple if form.list_of is None else list


def form_at(form: Form, keys: Path) -> Form:
    """The form of what stands at keys within the value of a slot.

    So that a change of `layers[2]` is held to what the list may have there.
    """
    for key in keys:
        form = form.item(dict if isinstance(key, str) else _sequence_kind(form), key)
    return form


def mapped_slot(function: Callable[[Any], Any], value: Any) -> Any:
    """The value of a slot with `function` of each leaf in place of the leaf, in new containers.

    For copies of configs, and to put nodes in place of configs, or the other way round.

    Tuples become lists, as in files: what they hold can then be replaced.
    """
    # This recurses as deep as the annotation, which somebody wrote by hand.
    if not is_container(value):
        return function(value)
    pairs = [
        (key, mapped_slot(function, child))
        for key, child in items(value, as_written=True)
    ]
    return assembled(dict if isinstance(value, dict) else list, pairs)
