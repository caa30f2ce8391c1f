"""The one printer behind every `repr`: records with fields, nested containers, bounded in depth and length.

An object describes itself with `__pretty__`; the printer knows nothing about nodes.
Nesting is cut at `MAX_DEPTH`, so the recursion here is bounded. An object that was
printed before is a reference to where:

    Tied(
      decoder=Linear(...),
      encoder=<decoder>
    )
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeGuard, runtime_checkable

from ._paths import Key, as_key, path_str

# Enough for any model that a person reads, and little enough that a graph of any size
# prints in a moment.
MAX_DEPTH: Final = 24
MAX_ITEMS: Final = 200
MAX_LINES: Final = 2_000
MAX_TEXT: Final = 10_000
MAX_KEY: Final = 1_000


class Record(NamedTuple):
    """How an object prints: `name(field=value, ...)`, or as a mapping in braces where the name is empty."""

    name: str
    fields: Iterable[tuple[object, object]]


class Text(NamedTuple):
    """A value that prints as this text, not as its `repr`."""

    text: str

    def __repr__(self) -> str:
        return self.text


@runtime_checkable
class Pretty(Protocol):
    """What can describe itself to the printer."""

    def __pretty__(self) -> Record: ...


# Where a value is in what is printed: one step for each level of nesting, which also
# gives the indentation.
Place: TypeAlias = tuple[object, ...]


def pretty(value: object) -> str:
    """The text of `value`: one field on each line, and `<layers.0>` for an object that was printed at that path."""
    return _Printer().render(value, ())


class _Printer:
    """One call of `pretty`: knows what was printed so far, and how much."""

    def __init__(self) -> None:
        # With the value, not only its id: a temporary object must stay alive, or the next
        # one may get its id.
        self.seen: dict[int, tuple[object, Place]] = {}
        self.lines = 0

    def render(self, value: object, place: Place) -> str:
        """The text of a value; its further lines are indented for its place."""
        if _is_pretty(value):
            return self.record(value, place)
        if isinstance(value, Mapping):
            return self.block(
                "{",
                "}",
                ((_label(key), key, item) for key, item in value.items()),
                place,
            )
        if isinstance(value, list):
            return self.block(
                "[", "]", (("", at, item) for at, item in enumerate(value)), place
            )
        # Other tuples, such as shapes and paths, fit into a line.
        if isinstance(value, tuple) and (
            len(value) > MAX_ITEMS or any(map(_is_pretty, value))
        ):
            return self.block(
                "(", ")", (("", at, item) for at, item in enumerate(value)), place
            )
        text = _truncated(repr(value), MAX_TEXT)
        return text.replace("\n", "\n" + "  " * len(place))

    def record(self, value: Pretty, place: Place) -> str:
        """The text of an object that describes itself, or a reference to where it was printed before."""
        if id(value) in self.seen:
            return _reference(self.seen[id(value)][1])
        name, fields = value.__pretty__()
        # What is cut here may be printed in full where it comes again.
        if not self.is_cut(place):
            self.seen[id(value)] = value, place
        if name:
            return self.block(
                f"{name}(", ")", ((f"{key}=", key, item) for key, item in fields), place
            )
        return self.block(
            "{", "}", ((_label(key), key, item) for key, item in fields), place
        )

    def is_cut(self, place: Place) -> bool:
        """Whether the items of a value are left out, as it is nested too deep or too much was printed before.

        So that a graph of any size prints in a moment.
        """
        return len(place) >= MAX_DEPTH or self.lines >= MAX_LINES

    def block(
        self,
        start: str,
        end: str,
        items: Iterable[tuple[str, object, object]],
        place: Place,
    ) -> str:
        """The text of a value with one item on each line, or `start...end` where it is cut.

        Args:
            start: What stands before the items: `Linear(`, `[`.
            end: What stands after them.
            items: The label of each (`weight=`), its step in paths, and its value.
            place: Where the value is.
        """
        if self.is_cut(place):
            return f"{start}...{end}"
        indent = "  " * (len(place) + 1)
        body: list[str] = []
        # One more than is printed, to know whether there are more; items may cost time.
        for label, step, item in islice(items, MAX_ITEMS + 1):
            if len(body) == MAX_ITEMS or self.lines >= MAX_LINES:
                body.append(f"{indent}...")
                break
            self.lines += 1
            body.append(f"{indent}{label}{self.render(item, (*place, step))}")
        if not body:
            return start + end
        return start + "\n" + ",\n".join(body) + "\n" + "  " * len(place) + end


def _reference(place: Place) -> str:
    """The text for an object that was printed before: its path, or `<self>` for the outermost object."""
    steps: list[Key] = []
    for step in place:
        # The key of a flat mapping is a whole path.
        for part in step if isinstance(step, tuple) else (step,):
            key = as_key(part)
            steps.append(str(part) if key is None else key)
    text = path_str(tuple(steps))
    if len(text) > MAX_KEY:
        text = "..." + text[-MAX_KEY:]
    return f"<{text or 'self'}>"


def _label(key: object) -> str:
    """For `block`: what stands before the item of a mapping: its key, cut where it is long."""
    return f"{_truncated(repr(key), MAX_KEY)}: "


def _truncated(text: str, length: int) -> str:
    """A text, cut with `...` after a number of characters, as no value may fill the screen by itself."""
    return text if len(text) <= length else text[:length] + "..."


def _is_pretty(value: object) -> TypeGuard[Pretty]:
    """For `render`: whether a value is an object that describes itself with `__pretty__`."""
    # A class has `__pretty__` too, unbound: it prints as itself.
    return isinstance(value, Pretty) and not isinstance(value, type)
