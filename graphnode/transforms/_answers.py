"""A value for each State and leaf of some arguments: tangents of `jvp`, cotangents of `custom_vjp`.

For an argument that is a node, or a pytree of nodes, the caller gives one mapping by
path. For any other argument the caller gives a pytree like it, with such a mapping in
place of each node. A State that stands in several places may be meant several times:
what that means is for the transform to say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.tree_util import keystr

from .._describe import describe
from .._errors import FilterError
from .._graph._binding_cache import binding_of
from .._graph._graphdef import GraphDef
from .._lookup import match
from .._paths import path_str
from .._statetree import StateTree
from .._static import GraphObject
from ._boundary import Call
from ._signature import LeafPlace


class Nodes(NamedTuple):
    """The States of a node, or of a pytree of nodes.

    Attributes:
        graphdef: Its structure.
        numbers: Its States, by their number in the call.
        leaf: The number of its first leaf among those of the call.
        below: The key path to that leaf from what has the mapping by path.
    """

    graphdef: GraphDef[Any]
    numbers: tuple[int, ...]
    leaf: int
    below: tuple[Any, ...]


# For each place of an argument: its nodes, or the number of an array among the other
# leaves of the call.
Piece: TypeAlias = Nodes | int


class Slot(NamedTuple):
    """Where the answer for one argument goes.

    Attributes:
        treedef: Of the argument; `None` for one that holds nodes alone, whose answer is
            one mapping by path.
        pieces: For each leaf, or the one mapping.
    """

    treedef: Any
    pieces: tuple[Piece, ...]


class OfState(NamedTuple):
    """What was said of one State at one place; `leaf` and `below` are those of `Nodes`."""

    number: int
    value: Any
    path: tuple[Any, ...]
    nodes: Nodes


class OfLeaf(NamedTuple):
    """What was said of one of the other leaves."""

    number: int
    value: Any


def slots_of(call: Call, positions: Iterable[int]) -> list[Slot]:
    """For each of these arguments: what its tangent or cotangent must look like, and which States that speaks of."""
    args, _ = call.signature.fill(call.roots, call.other_leaves)
    numbers = {id(state): number for number, state in enumerate(call.binding.states)}
    places = call.signature.leaf_places(range(len(args)))
    return [_slot_of(args[at], places[at], numbers) for at in positions]


def _slot_of(
    argument: Any, places: Sequence[LeafPlace], numbers: Mapping[int, int]
) -> Slot:
    """What the tangent or cotangent of an argument must look like: a mapping for nodes alone, else a pytree like it.

    Args:
        argument: The argument, with the caller's nodes in it.
        places: Where its leaves stand among those of the call.
        numbers: The number of each State in the call, by the id of the State.
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(argument)
    # An argument without leaves, such as None, takes a pytree like itself: nothing of
    # it could be named by path.
    if pairs and all(isinstance(leaf, GraphObject) for _, leaf in pairs):
        return Slot(None, (_nodes_of(argument, places[0].leaf, pairs[0][0], numbers),))
    pieces = [
        _nodes_of(leaf, place.leaf, (), numbers) if place.other is None else place.other
        for place, (_, leaf) in zip(places, pairs, strict=True)
    ]
    return Slot(treedef, tuple(pieces))


def _nodes_of(
    root: Any, leaf: int, below: tuple[Any, ...], numbers: Mapping[int, int]
) -> Nodes:
    """The States of one node (or of a pytree of nodes) of an argument: those that a mapping by path may name.

    Args:
        root: The node or pytree.
        leaf: The number of its first leaf among those of the call.
        below: The key path from `root` to that leaf.
        numbers: The number of each State in the call, by the id of the State.
    """
    binding = binding_of(root)
    return Nodes(
        binding.graphdef,
        tuple([numbers[id(state)] for state in binding.states]),
        leaf,
        below,
    )


def answers_of(
    call: Call, what: str, slot: Slot, answer: Any, *, none_is_zero: bool = False
) -> Iterator[OfState | OfLeaf]:
    """What an answer (a tangent or cotangent) says, State by State and leaf by leaf, as JAX takes derivatives.

    Args:
        call: The call.
        what: What its transform calls an answer.
        slot: Where it goes.
        answer: What the caller gave.
        none_is_zero: Whether `None` may stand for a mapping that says nothing.

    Raises:
        FilterError: It has paths at which there is no State; names all.
        TypeError: It is not a mapping by path, where one belongs.
        ValueError: It is not a pytree like the argument.
    """
    answers = [answer] if slot.treedef is None else slot.treedef.flatten_up_to(answer)
    for piece, part in zip(slot.pieces, answers, strict=True):
        if isinstance(piece, int):
            yield OfLeaf(piece, part)
        elif part is not None or not none_is_zero:
            yield from _state_answers(call, what, piece, part)


def _state_answers(call: Call, what: str, nodes: Nodes, part: Any) -> Iterator[OfState]:
    """What one mapping by path says of the States of some nodes, one by one.

    Args:
        call: The call.
        what: What its transform calls an answer, such as a tangent.
        nodes: The nodes that the mapping is for.
        part: The mapping, as the caller gave it.

    Raises:
        FilterError: It has paths at which there is no State; names all.
        TypeError: It is not a mapping.
    """
    if part is None or not isinstance(part, (StateTree, Mapping)):
        raise TypeError(
            f"gn.{call.transform}: the {what} of {_name_of_nodes(call, nodes)} must be a StateTree, FlatStates or a "
            f"nested mapping by path; found {'None' if part is None else describe(part)}"
        )
    matched = match(nodes.graphdef, part)
    # All at once: a mapping with one misspelled key often has several.
    unknown = [
        matched.key(at) for at, number in enumerate(matched.numbers) if number is None
    ]
    if unknown:
        raise FilterError(
            f"gn.{call.transform}: a {what} has {', '.join(unknown)}, where its node has no State"
        )
    pairs = zip(matched.numbers, matched.values, strict=True)
    for at, (number, value) in enumerate(pairs):
        assert number is not None  # as checked
        yield OfState(nodes.numbers[number], value, matched.path(at), nodes)


def check_shape(call: Call, what: str, answer: OfState | OfLeaf, shapes: Any) -> None:
    """Raise if an answer has another structure, or other shapes, than what it is of.

    JAX's own error would not name the State.

    Args:
        call: The call.
        what: What its transform calls an answer.
        answer: What was said.
        shapes: What it is of, with a shape in place of each array.

    Raises:
        ValueError: Names the State or leaf.
    """
    own = shapes_of(answer.value)
    # Shapes alone: the dtype of a derivative (float0 for an integer) is JAX's to check.
    if own == shapes:
        return
    name = name_of_place(call, answer)
    raise ValueError(
        f"gn.{call.transform}: the {what} of {name} must have its shape, {shapes.text}; found {own.text}"
    )


class Shapes(NamedTuple):
    """The structure of a value, and the shapes in it."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]

    @property
    def text(self) -> str:
        """For a message: the shape of a single array; of a pytree, its structure with a shape for each array."""
        # A single array: its shape, without the pytree around it.
        if len(self.shapes) == 1 and jax.tree_util.treedef_is_leaf(self.treedef):
            return str(self.shapes[0])
        return repr(jax.tree.unflatten(self.treedef, map(_Shape, self.shapes)))


class _Shape:
    """A shape as a leaf of a pytree."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def __repr__(self) -> str:
        return repr(self._shape)


def shapes_of(value: Any) -> Shapes:
    """The structure of a value, and the shapes in it: what `check_shape` needs, without keeping the value alive."""
    leaves, treedef = jax.tree.flatten(value)
    return Shapes(treedef, tuple(map(jnp.shape, leaves)))


def name_of_place(call: Call, answer: OfState | OfLeaf) -> str:
    """What a message calls the place of a State, or a leaf: its argument, and the path below."""
    if isinstance(answer, OfLeaf):
        return call.site.other_leaf_names()[answer.number]
    argument, below = _name_of_nodes(call, answer.nodes), path_str(answer.path)
    return f"{argument}.{below}" if below else argument


def _name_of_nodes(call: Call, nodes: Nodes) -> str:
    """What a message calls nodes of an argument: the name of their first leaf, up to where the mapping stands."""
    return call.site.leaf_names()[nodes.leaf].removesuffix(keystr(nodes.below))
