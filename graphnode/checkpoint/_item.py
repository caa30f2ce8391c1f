"""What changes apply to, and make: States, nodes and static values by path, without their values."""

import dataclasses
from collections.abc import Hashable, Iterable, Iterator
from typing import Final, NamedTuple

from .._paths import Path
from ._expressions import Expression, Read
from ._manifest import Value

STATE: Final = "state"
NODE: Final = "node"
STATIC: Final = "static value"
FIELD: Final = "field"
"""A field of a node without States and nodes, such as an empty list."""
REFERENCE: Final = "reference"
"""A further place of something: it gives way to what changes put there."""


class Mirror(NamedTuple):
    """Where the memory of an optimizer mirrors a model.

    Attributes:
        place: The path that those of the model follow: `optimizer.memory.0.mu`.
        bases: Where the model is, before and after the changes; the longest one first.
        is_alike: Whether a State of it has the shape of the model's: a factor of a
            moment has not, and nobody can say how an array of it would change.
    """

    place: Path
    bases: tuple[Path, ...]
    is_alike: bool = True

    def below(self, path: Path) -> Path:
        """A path of the model, from the model on."""
        for base in self.bases:
            if path[: len(base)] == base:
                return path[len(base) :]
        return path


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """Something that has a path: a State, a node, or a static value.

    Attributes:
        kind: Which of these.
        path: Where it is by now.
        sources: Where what it is made of was before.
        expression: How it is made.
        value: What a State holds.
        steps: The changes that have made it another one.
        mirror: Of a State that an optimizer has for one of the model: where.
        alias: The path of that State of the model.
    """

    kind: str
    path: Path
    sources: tuple[Path, ...]
    expression: Expression
    value: Value | None = None
    steps: tuple[str, ...] = ()
    mirror: Mirror | None = None
    alias: Path | None = None

    def __copy__(self) -> "Item":
        # As `copy` itself does it, it takes longer than all else.
        return Item(
            self.kind,
            self.path,
            self.sources,
            self.expression,
            self.value,
            self.steps,
            self.mirror,
            self.alias,
        )

    @property
    def key(self) -> Hashable:
        """What the source calls it, if nothing has changed it but its path."""
        return self.expression.key if isinstance(self.expression, Read) else None


def state_items(
    values: Iterable[tuple[Path, Hashable, Value]],
) -> Iterator[Item]:
    """The items of a source that has States alone."""
    for path, key, value in values:
        yield Item(STATE, path, (path,), Read(key), value)
