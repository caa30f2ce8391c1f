"""The structural difference of two graphdefs: the paths and fields that differ."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from .._arguments import wrong_argument
from .._paths import Path, path_order, path_str
from .._redefinition import class_name
from .._state import StateSpec
from .._static import ANOTHER, distinct_texts, static_key
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
        TypeError: One of the two is not a `GraphDef`.

    Example:
        >>> for difference in gn.diff(gn.graphdef(gn.nn.Linear(2, 3)), gn.graphdef(gn.nn.Linear(2, 4))):
        ...     print(difference)
        out_features: 3 != 4
        out_size: (3,) != (4,)
    """
    for graphdef in (left, right):
        if not isinstance(graphdef, GraphDef):
            text = wrong_argument("two graphdefs", graphdef)
            raise TypeError(f"{text}; take gn.graphdef(...) of a node")
    return tuple(differences(left, right, _place_text, _place_text))


# The name of the place at a path, for messages.
Namer: TypeAlias = Callable[[Path], str]


def _place_text(path: Path) -> str:
    """The text of a path, for `diff`: a `Namer`.

    The empty path would print as nothing.
    """
    return path_str(path) or "the root"


_NOTHING: Final = "nothing"

# A path as a linked list of its edges, the last first: full paths for all places of a
# deep chain would cost its square.
_Chain = tuple[Any, Path] | None


class _Ref(NamedTuple):
    """A reference to an object: its number, and whether it was first seen here."""

    number: int
    is_first: bool


def differences(
    left: GraphDef[Any], right: GraphDef[Any], left_place: Namer, right_place: Namer
) -> Iterator[Difference]:
    """`diff` for graphs whose places have names of their own.

    For arguments of a call, whose places are "argument 0" and so on, and for retracing
    and stacking.
    """
    if left is right:
        return
    # The objects of the right whose first place is that of an object of the left.
    counterparts: dict[int, int] = {}
    # A stack, as a graph may be deeper than Python's.
    todo = _paired(None, _root_references(left), _root_references(right))
    yield from _root_difference(left.tokens[0], right.tokens[0])
    while todo:
        chain, a, b = todo.pop()
        if a is None or b is None or not _are_same(a, b, counterparts):
            texts = (
                _reference_text(left, a, left_place),
                _reference_text(right, b, right_place),
            )
            yield _difference(_path_of_chain(chain), *texts)
            continue
        # Below a later reference everything was compared at the first one.
        if not a.is_first:
            continue
        counterparts[a.number] = b.number
        spec_a, spec_b = left.table.specs[a.number], right.table.specs[b.number]
        is_same_class = spec_a.cls is spec_b.cls
        if (
            is_same_class
            and isinstance(spec_a, NodeSpec)
            and isinstance(spec_b, NodeSpec)
        ):
            for path, text_a, text_b in _field_differences(spec_a, spec_b):
                yield Difference((*_path_of_chain(chain), *path), text_a, text_b)
            children = _child_references(left, a.number, spec_a)
            others = _child_references(right, b.number, spec_b)
            todo += _paired(chain, children, others)
        # Specs are interned: another object is another description.
        elif spec_a is not spec_b:
            texts = _spec_text(spec_a, spec_b.cls), _spec_text(spec_b, spec_a.cls)
            yield _difference(_path_of_chain(chain), *texts)


def _are_same(a: _Ref, b: _Ref, counterparts: Mapping[int, int]) -> bool:
    """Whether both are first references, or later ones to objects that correspond.

    So a node that is shared on one side, and stands there twice on the other, is a
    difference.
    """
    if a.is_first or b.is_first:
        return a.is_first is b.is_first
    return counterparts.get(a.number) == b.number


def _root_difference(left: Token, right: Token) -> Iterator[Difference]:
    """Where two pytrees hold their nodes at the same places, but in other containers, or beside more `None`.

    Their nodes have equal paths, so that the walk of `differences` finds nothing here.
    """
    if not (isinstance(left, RootSpec) and isinstance(right, RootSpec)):
        return
    # Other edges are found as references that one side does not have.
    if left.edges == right.edges and left is not right:
        yield _difference((), str(left.treedef), str(right.treedef))


def _difference(path: Path, left: str, right: str) -> Difference:
    """A difference at a path; two texts that are alike are told apart.

    Two classes of one name, say, would read `Linear != Linear`.
    """
    return Difference(path, left, right if right != left else ANOTHER)


def _path_of_chain(chain: _Chain) -> Path:
    """The path that a chain of edges makes, from the root on.

    For the differences that are found: `differences` keeps places as linked lists, as
    most are never shown.
    """
    edges: list[Path] = []
    while chain is not None:
        chain, edge = chain
        edges.append(edge)
    return tuple(key for edge in reversed(edges) for key in edge)


def _root_references(graphdef: GraphDef[Any]) -> dict[Path, _Ref]:
    """The references of the root, by the paths of its leaves; a node is its own leaf, at the empty path.

    Where the walk of `differences` begins.
    """
    first, table = graphdef.tokens[0], graphdef.table
    edges = first.edges if isinstance(first, RootSpec) else ((),)
    return _references(graphdef, -1, edges, table.top)


def _child_references(
    graphdef: GraphDef[Any], number: int, spec: NodeSpec
) -> dict[Path, _Ref]:
    """The references of a node to its States and nodes, by their paths within it.

    Where the walk of `differences` goes on below a node that both sides have.

    Args:
        graphdef: The structure.
        number: The number of the node.
        spec: Its spec.
    """
    return _references(graphdef, number, spec.edges, graphdef.table.rows[number])


def _references(
    graphdef: GraphDef[Any], parent: int, edges: tuple[Path, ...], row: list[int]
) -> dict[Path, _Ref]:
    """The references of a node by edge: which object each leads to, and whether it is the first to do so.

    A later reference to an object is compared by where it leads, and not walked into
    again.

    Args:
        graphdef: The structure.
        parent: The number of the node; -1 for the root.
        edges: The paths of its references within it.
        row: The number of the object at each edge.
    """
    table = graphdef.table
    # A reference is the first if the object was first seen through this very edge.
    return {
        edge: _Ref(
            number, table.parents[number] == parent and table.edges[number] == edge
        )
        for edge, number in zip(edges, row, strict=True)
    }


def _paired(
    chain: _Chain, left: dict[Path, _Ref], right: dict[Path, _Ref]
) -> list[tuple[_Chain, _Ref | None, _Ref | None]]:
    """The references by each edge on either side, in reverse, as they are put on a stack.

    For `differences`, which takes them off the stack in canonical order. A side without
    such an edge has `None`.
    """
    edges = sorted(left.keys() | right.keys(), key=path_order, reverse=True)
    return [((chain, edge), left.get(edge), right.get(edge)) for edge in edges]


def _field_differences(
    left: NodeSpec, right: NodeSpec
) -> Iterator[tuple[Path, str, str]]:
    """The fields of two nodes of one class whose static values or shapes differ.

    States and nodes in the fields are compared by `differences` itself.
    """
    template = left.template
    for name, a, b in zip(template.statics, left.statics, right.statics, strict=True):
        # Not `==`: to Python `1` equals `True`, and arrays have no answer.
        if static_key(a) != static_key(b):
            yield (name,), *distinct_texts(a, b)
    for field, a, b in zip(
        template.dynamic_fields, left.shapes, right.shapes, strict=True
    ):
        yield from _shape_differences((field.name,), a, b)


def _shape_differences(
    path: Path, left: Shape, right: Shape
) -> Iterator[tuple[Path, str, str]]:
    """Where two shapes differ although their objects have the same paths, so that comparing these shows nothing.

    As with an empty list in place of an empty dict, or `None`: nothing in them has a
    path.
    """
    if _kind_text(left) != _kind_text(right):
        # An object that is on one side alone is shown by its path.
        if REF not in (left, right):
            yield path, _kind_text(left), _kind_text(right)
        return
    if left == right or list(edges_of(left, ())) != list(edges_of(right, ())):
        return
    if left[0] is dict and left[1] == right[1]:
        filled, other = filled_keys(left), filled_keys(right)
        if filled != other:
            yield path, f"filled as {', '.join(filled)}", f"as {', '.join(other)}"
    items, others = dict(items_of(left)), dict(items_of(right))
    for key in sorted(items.keys() | others.keys()):
        item, other_item = items.get(key, _NOTHING), others.get(key, _NOTHING)
        yield from _shape_differences((*path, key), item, other_item)


def _kind_text(shape: Shape) -> str:
    """What a message calls a shape: its container, an object, or nothing.

    For one side of a `Difference`.
    """
    if isinstance(shape, tuple):
        return str(shape[0].__name__)
    return "an object" if shape is REF else str(shape)


def _reference_text(graphdef: GraphDef[Any], ref: _Ref | None, place: Namer) -> str:
    """What a message says of a reference: the object there, or the place where it was seen before.

    For one side of a `Difference`.

    Args:
        graphdef: The structure.
        ref: The reference; `None` where there is nothing.
        place: Gives the text of a path.
    """
    if ref is None:
        return _NOTHING
    if not ref.is_first:
        return f"the object at {place(graphdef.path(ref.number))}"
    return _spec_text(graphdef.table.specs[ref.number])


def _spec_text(spec: StateSpec | NodeSpec, *beside: type) -> str:
    """An object for a message: its class, and the description of a State.

    For one side of a `Difference`.

    Args:
        spec: The spec of the object.
        beside: The class of the object on the other side, from which a class of the same
            name differs in its module.
    """
    description = spec.description() if isinstance(spec, StateSpec) else []
    parts = ", ".join(f"{key}={value!r}" for key, value in description)
    name = class_name(spec.cls, *beside)
    return f"{name}({parts})" if parts else name
