"""The structural difference of two graphdefs: the paths and fields that differ."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from .._arguments import wrong_argument
from .._paths import Path, path_order, path_str
from .._redefinition import class_name
from .._state import StateSpec
from .._static import ANOTHER, static_key, texts_apart
from ._graphdef import GraphDef
from ._table import RootSpec, Token
from ._template import REF, NodeSpec, Shape, edges_of, filled_keys, items_of


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One place at which two structures differ.

    Attributes:
        path: The place: a node, a State or a field.
        left: What the first structure has there, as a text.
        right: What the second has.
    """

    path: Path
    left: str
    right: str

    def __str__(self) -> str:
        return f"{path_str(self.path) or 'the root'}: {self.left} != {self.right}"


def diff(left: GraphDef[Any], right: GraphDef[Any], /) -> tuple[Difference, ...]:
    """The places at which two structures differ, in canonical order; empty for equal ones.

    Below a place where something stands in one structure alone, or nodes of two
    classes, nothing more is compared.

    Raises:
        TypeError: One of the two is no `GraphDef`.

    Example:
        >>> for one in gn.diff(gn.graphdef(gn.nn.Linear(2, 3)), gn.graphdef(gn.nn.Linear(2, 4))):
        ...     print(one)
        out_features: 3 != 4
        out_size: (3,) != (4,)
    """
    for one in (left, right):
        if not isinstance(one, GraphDef):
            text = wrong_argument("two graphdefs", one)
            raise TypeError(f"{text}; take gn.graphdef(...) of a node")
    return tuple(differences(left, right, _place, _place))


# The name of the place at a path, for messages.
Namer: TypeAlias = Callable[[Path], str]


def _place(path: Path) -> str:
    return path_str(path) or "the root"


_NOTHING: Final = "nothing"

# A path as a linked list of parts: full paths for every place of a deep chain would
# cost its square.
_Chain = tuple[Any, Path] | None


class _Ref(NamedTuple):
    """A reference to an object: its number, and whether it was first seen here."""

    number: int
    is_first: bool


def differences(
    left: GraphDef[Any], right: GraphDef[Any], left_place: Namer, right_place: Namer
) -> Iterator[Difference]:
    """`diff` for graphs whose places have names of their own."""
    if left is right:
        return
    # Objects of the left and right that stand at one first place
    same: dict[int, int] = {}
    todo: list[tuple[_Chain, _Ref | None, _Ref | None]] = []
    todo += [
        ((None, edge), a, b)
        for edge, a, b in reversed(list(_paired(_top(left), _top(right))))
    ]
    yield from _root_difference(left.tokens[0], right.tokens[0])
    while todo:
        chain, a, b = todo.pop()
        if (
            a is None
            or b is None
            or a.is_first != b.is_first
            or (not a.is_first and same.get(a.number) != b.number)
        ):
            yield _difference(
                _path(chain), _text(left, a, left_place), _text(right, b, right_place)
            )
            continue
        if not a.is_first:
            continue
        same[a.number] = b.number
        spec_a, spec_b = left.table.specs[a.number], right.table.specs[b.number]
        if spec_a is spec_b and isinstance(spec_a, StateSpec):
            continue
        if (
            isinstance(spec_a, StateSpec)
            or isinstance(spec_b, StateSpec)
            or spec_a.cls is not spec_b.cls
        ):
            yield _difference(
                _path(chain),
                _spec_text(spec_a, spec_b.cls),
                _spec_text(spec_b, spec_a.cls),
            )
            continue
        for path, text_a, text_b in _field_differences(spec_a, spec_b):
            yield Difference((*_path(chain), *path), text_a, text_b)
        pairs = _paired(
            _children(left, a.number, spec_a), _children(right, b.number, spec_b)
        )
        todo += [((chain, edge), x, y) for edge, x, y in reversed(list(pairs))]


def _root_difference(left: Token, right: Token) -> Iterator[Difference]:
    """Where two pytrees hold their nodes at the same places, but in other containers, or beside more `None`."""
    if not (isinstance(left, RootSpec) and isinstance(right, RootSpec)):
        return
    if left.edges == right.edges and left is not right:
        yield _difference((), str(left.treedef), str(right.treedef))


def _difference(path: Path, left: str, right: str) -> Difference:
    return Difference(path, left, right if right != left else ANOTHER)


def _path(chain: _Chain) -> Path:
    parts: list[Path] = []
    while chain is not None:
        chain, part = chain
        parts.append(part)
    return tuple(key for part in reversed(parts) for key in part)


def _top(graphdef: GraphDef[Any]) -> dict[Path, _Ref]:
    first, table = graphdef.tokens[0], graphdef.table
    edges = first.edges if isinstance(first, RootSpec) else ((),)
    return _refs(graphdef, -1, edges, table.top)


def _children(graphdef: GraphDef[Any], number: int, spec: NodeSpec) -> dict[Path, _Ref]:
    return _refs(graphdef, number, spec.edges, graphdef.table.rows[number])


def _refs(
    graphdef: GraphDef[Any], parent: int, edges: tuple[Path, ...], row: list[int]
) -> dict[Path, _Ref]:
    table = graphdef.table
    return {
        edge: _Ref(
            number, table.parents[number] == parent and table.edges[number] == edge
        )
        for edge, number in zip(edges, row, strict=True)
    }


def _paired(
    left: dict[Path, _Ref], right: dict[Path, _Ref]
) -> Iterator[tuple[Path, _Ref | None, _Ref | None]]:
    for edge in sorted(left.keys() | right.keys(), key=path_order):
        yield edge, left.get(edge), right.get(edge)


def _field_differences(
    left: NodeSpec, right: NodeSpec
) -> Iterator[tuple[Path, str, str]]:
    """The fields of two nodes of one class that differ in a static value, or hold values of two kinds."""
    for name, a, b in zip(
        left.template.statics, left.statics, right.statics, strict=True
    ):
        if static_key(a) != static_key(b):
            yield (name,), *texts_apart(a, b)
    for field, a, b in zip(
        left.template.dynamic_fields, left.shapes, right.shapes, strict=True
    ):
        yield from _shape_differences((field.name,), a, b)


def _shape_differences(
    path: Path, left: Shape, right: Shape
) -> Iterator[tuple[Path, str, str]]:
    """Where two shapes differ and no object tells of it: those that one of them lacks are compared by their paths."""
    if _kind(left) != _kind(right):
        if REF not in (left, right):
            yield path, _kind(left), _kind(right)
    elif left != right and list(edges_of(left, ())) == list(edges_of(right, ())):
        if (
            left[0] is dict
            and left[1] == right[1]
            and filled_keys(left) != filled_keys(right)
        ):
            yield (
                path,
                f"filled as {', '.join(filled_keys(left))}",
                f"as {', '.join(filled_keys(right))}",
            )
        items, others = dict(items_of(left)), dict(items_of(right))
        for key in sorted(items.keys() | others.keys()):
            yield from _shape_differences(
                (*path, key), items.get(key, _NOTHING), others.get(key, _NOTHING)
            )


def _kind(shape: Shape) -> str:
    if isinstance(shape, tuple):
        return str(shape[0].__name__)
    return "an object" if shape is REF else str(shape)


def _text(graphdef: GraphDef[Any], ref: _Ref | None, place: Namer) -> str:
    if ref is None:
        return "nothing"
    if not ref.is_first:
        return f"the object at {place(graphdef.path(ref.number))}"
    return _spec_text(graphdef.table.specs[ref.number])


def _spec_text(spec: StateSpec | NodeSpec, *beside: type) -> str:
    """What stands somewhere: its class, and the description of a State.

    Args:
        spec: What it is.
        beside: The class of what stands there on the other side.
    """
    described = spec.described() if isinstance(spec, StateSpec) else []
    parts = ", ".join(f"{key}={value!r}" for key, value in described)
    name = class_name(spec.cls, *beside)
    return f"{name}({parts})" if parts else name
