"""The one printer behind every `repr`: records with fields, nested containers, bounded in depth and length.

An object describes itself with `__pretty__`; the printer knows nothing about nodes. Nesting is cut at `MAX_DEPTH`, so
that the recursion here is bounded whatever is printed.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeGuard, runtime_checkable

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


def pretty(value: object) -> str:
    """The text of `value`: one field a line, a repeated object as `Name(...)`."""
    return _Printer().render(value, 0)


class _Printer:
    def __init__(self) -> None:
        # Kept, not only their ids: a view made while printing must not leave its id to the next one.
        self.seen: dict[int, object] = {}
        self.lines = 0

    def render(self, value: object, depth: int) -> str:
        if _is_pretty(value):
            return self.record(value, depth)
        if isinstance(value, Mapping):
            return self.block("{", "}", ((_key(key), item) for key, item in value.items()), depth)
        if isinstance(value, list):
            return self.block("[", "]", (("", item) for item in value), depth)
        if isinstance(value, tuple) and (len(value) > MAX_ITEMS or any(map(_is_pretty, value))):
            return self.block("(", ")", (("", item) for item in value), depth)
        text = repr(value)
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT] + "..."
        return text.replace("\n", "\n" + "  " * depth)

    def record(self, value: Pretty, depth: int) -> str:
        name, fields = value.__pretty__()
        if id(value) in self.seen:
            return f"{name}(...)"
        self.seen[id(value)] = value
        if name:
            return self.block(f"{name}(", ")", ((f"{key}=", item) for key, item in fields), depth)
        return self.block("{", "}", ((_key(key), item) for key, item in fields), depth)

    def block(self, start: str, end: str, items: Iterable[tuple[str, object]], depth: int) -> str:
        if depth >= MAX_DEPTH or self.lines >= MAX_LINES:
            return f"{start}...{end}"
        indent = "  " * (depth + 1)
        body: list[str] = []
        for label, item in islice(items, MAX_ITEMS + 1):
            if len(body) == MAX_ITEMS or self.lines >= MAX_LINES:
                body.append(f"{indent}...")
                break
            self.lines += 1
            body.append(f"{indent}{label}{self.render(item, depth + 1)}")
        if not body:
            return start + end
        return start + "\n" + ",\n".join(body) + "\n" + "  " * depth + end


def _key(key: object) -> str:
    text = repr(key)
    return f"{text if len(text) <= MAX_KEY else text[:MAX_KEY] + '...'}: "


def _is_pretty(value: object) -> TypeGuard[Pretty]:
    # A class has `__pretty__` too, unbound: it prints as itself.
    return isinstance(value, Pretty) and not isinstance(value, type)
