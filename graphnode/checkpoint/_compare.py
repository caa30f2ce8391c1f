"""Compare two graphs that manifests describe: which State of one is which of the other, and where they differ.

Both are walked together, from the root along edges of the same path. Two objects that
are met together correspond; one that corresponds to two is a difference in sharing.

    tree   a -> w, b -> w       file   a -> v, b -> u        w and v correspond; b: w has v already, and not u

The walk is symmetric, so that it serves `restore` and `graphnode checkpoint diff`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .._paths import Path, path_order, path_str
from ._structure import OPAQUE, Structure, class_text, value_text

_MAIN: Final = "__main__."


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One place at which two graphs differ, apart from missing States.

    Attributes:
        kind: `class`, `static`, `sharing` or `node`.
        path: The place.
        left: What the left one has there, as a text.
        right: What the right one has.
        left_number: The object of the left one there, or the node with the static
            value; `None` where it has none.
        right_number: That of the right one.
    """

    kind: str
    path: Path
    left: str
    right: str
    left_number: int | None
    right_number: int | None


@dataclasses.dataclass(eq=False)
class Matching:
    """What two graphs have in common, and where they differ.

    Attributes:
        left: The one graph.
        right: The other one.
        partners: For each object of the left one that has a counterpart, its number.
        changes: The differences, apart from missing States.
        left_only: The States of the left one without a counterpart, unless a change
            tells of what is above them.
        right_only: Those of the right one.
    """

    left: Structure
    right: Structure
    partners: dict[int, int] = dataclasses.field(default_factory=dict[int, int])
    changes: list[Change] = dataclasses.field(default_factory=list[Change])
    left_only: list[int] = dataclasses.field(default_factory=list[int])
    right_only: list[int] = dataclasses.field(default_factory=list[int])

    def pairs(self) -> Iterator[tuple[int, int]]:
        """The States that correspond, in the order of the left graph."""
        for number in self.left.states:
            partner = self.partners.get(number)
            if partner is not None and self.right.specs[partner].is_state:
                yield number, partner


def matched(
    left: Structure,
    right: Structure,
    is_allowed: Callable[[Path], bool] = lambda path: False,
) -> Matching:
    """What two graphs have in common, and where they differ.

    Args:
        left: The one graph.
        right: The other one.
        is_allowed: Whether a class, a static value or a node may differ at a path:
            then it is not listed, and two nodes of two classes are compared by their
            fields.
    """
    matching = Matching(left, right)
    _Walk(matching, is_allowed).run()
    return matching


class _Walk:
    """The walk over both graphs, which fills a `Matching`."""

    def __init__(self, matching: Matching, is_allowed: Callable[[Path], bool]) -> None:
        self._matching = matching
        self._is_allowed = is_allowed
        self._left, self._right = matching.left, matching.right
        self._back: dict[int, int] = {}
        # What a change tells of already, with all below it.
        self._told_left: set[int] = set()
        self._told_right: set[int] = set()
        # Edges that one side has alone.
        self._singles: list[tuple[Path, int | None, int | None]] = []

    def run(self) -> None:
        """Walk, then look at what was met on one side alone."""
        todo: list[tuple[Path, int, int]] = [((), -1, -1)]
        while todo:
            path, a, b = todo.pop()
            todo += reversed(self._children(path, a, b))
        for path, left, right in self._singles:
            self._single(path, left, right)
        matching = self._matching
        for number in self._left.states:
            if number not in matching.partners and number not in self._told_left:
                matching.left_only.append(number)
        for number in self._right.states:
            if number not in self._back and number not in self._told_right:
                matching.right_only.append(number)

    def _children(self, path: Path, a: int, b: int) -> list[tuple[Path, int, int]]:
        """For `run`: the pairs below a pair of nodes, or of the roots, that were not met before."""
        left, right = self._left.children(a), self._right.children(b)
        pairs: list[tuple[Path, int, int]] = []
        for edge in sorted(left.keys() | right.keys(), key=path_order):
            place = (*path, *edge)
            x, y = left.get(edge), right.get(edge)
            if x is None or y is None:
                self._singles.append((place, x, y))
            elif self._meet(place, x, y):
                pairs.append((place, x, y))
        return pairs

    def _meet(self, path: Path, x: int, y: int) -> bool:
        """For `_children`: note that two objects correspond; whether to walk on below them."""
        partners = self._matching.partners
        known, back = partners.get(x), self._back.get(y)
        if known == y:
            return False
        if known is not None or back is not None:
            self._change(
                "sharing",
                path,
                _shared(self._left, x, known),
                _shared(self._right, y, back),
                x,
                y,
            )
            return False
        partners[x], self._back[y] = y, x
        a, b = self._left.specs[x], self._right.specs[y]
        is_same_kind = a.is_state is b.is_state
        may_differ = is_same_class(a.cls, b.cls) or self._is_allowed(path)
        if not (is_same_kind and may_differ):
            self._change("class", path, *class_texts(a.cls, b.cls), x, y)
            # Of nodes of two classes hardly anything fits.
            return False
        if not a.is_state:
            self._compare_statics(path, x, y)
        return True

    def _compare_statics(self, path: Path, x: int, y: int) -> None:
        """For `_meet`: note where the static values of two nodes differ."""
        left, right = self._left.specs[x].parts, self._right.specs[y].parts
        for name, first, second in static_differences(left, right):
            place = (*path, name)
            if not self._is_allowed(place):
                self._change("static", place, first, second, x, y)

    def _single(self, path: Path, left: int | None, right: int | None) -> None:
        """For `run`: note what stands on one side alone, unless its States are told of."""
        is_left = left is not None
        number = left if is_left else right
        assert number is not None
        structure = self._left if is_left else self._right
        others = self._matching.partners if is_left else self._back
        text = with_class(structure, number)
        if number in others:
            kind, text = (
                "sharing",
                f"the object at {place_text(structure.paths[number])}",
            )
        elif structure.paths[number] != path or any(
            structure.specs[at].is_state for at in structure.below(number)
        ):
            return
        else:
            kind = "node"
        if self._is_allowed(path):
            return
        texts = (text, "nothing") if is_left else ("nothing", text)
        self._matching.changes.append(Change(kind, path, *texts, left, right))

    def _change(
        self, kind: str, path: Path, left: str, right: str, x: int, y: int
    ) -> None:
        """Note a difference; of States without a counterpart below it nothing more is told."""
        self._matching.changes.append(Change(kind, path, left, right, x, y))
        if kind == "static":
            return
        self._told_left.update(self._left.below(x))
        self._told_right.update(self._right.below(y))


def _shared(structure: Structure, number: int, partner: int | None) -> str:
    """For `_meet`: what one side has at a place where the other one shares something else."""
    if partner is None:
        return f"{with_class(structure, number)} of its own"
    return f"the object at {place_text(structure.paths[number])}"


def static_differences(
    left: Mapping[str, Any], right: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """The static values in which two nodes differ: the field, and what each has, as texts."""
    for name in sorted(left.keys() | right.keys()):
        if name in left and name in right:
            a, b = left[name], right[name]
            # As texts: to Python 1 equals True.
            if _is_opaque(a) or _is_opaque(b) or _text(a) == _text(b):
                continue
        first, second = _static_text(left, name), _static_text(right, name)
        yield name, first, "another one" if first == second else second


def _static_text(parts: Mapping[str, Any], name: str) -> str:
    """For `_compare_statics`: the static value of a field, for a message."""
    return value_text(parts[name]) if name in parts else "no such field"


def _text(data: Any) -> str:
    """JSON as a text that is the same for the same value, its type included."""
    return json.dumps(data, sort_keys=True)


def _is_opaque(data: Any) -> bool:
    """Whether a static value has no JSON, so that nobody can say whether it is another one."""
    return isinstance(data, dict) and OPAQUE in data


def is_same_class(left: str, right: str) -> bool:
    """Whether two names are of one class; a script's own module is called `__main__`, and otherwise when imported."""
    if left == right:
        return True
    is_script = left.startswith(_MAIN) or right.startswith(_MAIN)
    return is_script and class_text(left) == class_text(right)


def class_texts(left: str, right: str) -> tuple[str, str]:
    """Two classes for a message; with their modules where the names are the same."""
    texts = class_text(left), class_text(right)
    return (left, right) if texts[0] == texts[1] else texts


def with_class(structure: Structure, number: int) -> str:
    """An object for a message: its class with an article."""
    name = class_text(structure.specs[number].cls)
    return f"an {name}" if name[:1] in "AEIO" else f"a {name}"


def place_text(path: Path) -> str:
    """The text of a path, for a message."""
    return path_str(path) or "the root"
