"""What a call is differentiated with respect to: States that a filter selects, and arrays among the other leaves.

Of an argument that is a node, or a pytree of nodes, the States that `wrt` selects are
differentiated, and a derivative is a `StateTree` of the layout of
`treefy_states(argument, wrt)`. Of other arguments all arrays are, as in JAX.
"""

import dataclasses
from collections.abc import Mapping, Sequence, Set
from types import EllipsisType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.tree_util import keystr

from .._arguments import checked_positions
from .._describe import describe, shape_text
from .._errors import AliasError, FilterError, StructureError, listed
from .._filters import Filter, as_filters
from .._graph._binding_cache import binding_of
from .._graph._layout import Layout
from .._paths import path_str
from .._statetree import StateTree, select
from .._static import GraphObject
from ._arguments import Values
from ._boundary import Call
from ._pure import Outcome
from ._result_nodes import is_result_node
from ._signature import LeafPlace
from ._type_text import is_pair, pair_text


class SelectedStates(NamedTuple):
    """States that are differentiated together, whose derivative is one state tree.

    Attributes:
        layout: Of the state tree.
        numbers: The States, by their number in the call.
    """

    layout: Layout
    numbers: tuple[int, ...]


# What is differentiated at one place: States, or an array by its number among the other
# leaves.
Piece: TypeAlias = SelectedStates | int


class Part(NamedTuple):
    """What is differentiated of one argument.

    Attributes:
        treedef: Of the argument; `None` for one that holds nodes alone, whose
            derivative is one state tree.
        pieces: For each leaf, or for the one state tree.
    """

    treedef: Any
    pieces: tuple[Piece, ...]

    @property
    def numbers(self) -> list[int]:
        """The States, by their number in the call: each once."""
        return [
            number
            for piece in self.pieces
            if isinstance(piece, SelectedStates)
            for number in piece.numbers
        ]


class DiffTarget:
    """What a call is differentiated with respect to: some States, and some of the other leaves.

    JAX differentiates a function of their values, a flat row of each:

        values, other leaves ──► join ──► all values and leaves ──► Pure
        derivatives of both  ──► assemble ──► like the arguments, a StateTree for a node

    Attributes:
        parts: By argument.
        numbers: The States, by their number in the call.
        leaf_numbers: The other leaves, by theirs.
    """

    def __init__(
        self,
        call: Call,
        argnums: int | Sequence[int],
        wrt: Filter | EllipsisType,
        bound: int,
    ) -> None:
        """Find what `argnums` and `wrt` of a derivative mean in a call.

        Args:
            call: The call.
            argnums: The arguments, by position, as the caller counts them.
            wrt: Selects States of the nodes among them.
            bound: How many arguments stand before the caller's: a method's node.

        Raises:
            AliasError: Two arguments share a State that is differentiated.
            FilterError: There is nothing to differentiate.
            ValueError: There is no such argument, or it is named twice.
        """
        self._call, self._values = call, call.values
        args, _ = call.signature.fill(call.roots, call.other_leaves)
        number_of = {id(state): n for n, state in enumerate(call.binding.states)}
        positions = _positions(call.transform, argnums, bound, len(args))
        places = call.signature.leaf_places(positions)
        self.parts = [
            _part_of(args[position], leaf_places, wrt, number_of)
            for position, leaf_places in zip(positions, places, strict=True)
        ]
        # Before the numbers of all parts are joined, in which no State may be twice.
        _check_apart(call, positions, self.parts)
        pieces = [piece for part in self.parts for piece in part.pieces]
        self.leaf_numbers = sorted(
            {piece for piece in pieces if isinstance(piece, int)}
        )
        self.numbers = sorted(
            [number for part in self.parts for number in part.numbers]
        )
        if not self.numbers and not self.leaf_numbers:
            (matcher,) = as_filters((wrt,))
            raise FilterError(
                f"gn.{call.transform}: nothing to differentiate: no State of it is selected by {matcher!r}"
            )

    @property
    def values(self) -> Values:
        """The values of these States: the first argument of what JAX differentiates."""
        return tuple([self._values[number] for number in self.numbers])

    @property
    def other_leaves(self) -> Values:
        """These other leaves: the second argument of what JAX differentiates."""
        return tuple([self._call.other_leaves[at] for at in self.leaf_numbers])

    def join(self, values: Values, other_leaves: Values) -> tuple[Values, list[Any]]:
        """The arguments of the pure function: all values and leaves, with these for what is differentiated."""
        all_values, all_others = list(self._values), list(self._call.other_leaves)
        for number, value in zip(self.numbers, values, strict=True):
            all_values[number] = value
        for at, leaf in zip(self.leaf_numbers, other_leaves, strict=True):
            all_others[at] = leaf
        return tuple(all_values), all_others

    def assemble(self, values: Values, other_leaves: Values) -> tuple[Any, ...]:
        """What the user gets: a derivative for each argument, from JAX's flat rows for values and leaves."""
        by_number = dict(zip(self.numbers, values, strict=True))
        by_place = dict(zip(self.leaf_numbers, other_leaves, strict=True))

        def derivative_of(piece: Piece) -> Any:
            """The derivative at one place: an array, or a state tree."""
            if isinstance(piece, int):
                return by_place[piece]
            values = tuple([by_number[number] for number in piece.numbers])
            return StateTree(piece.layout, values)

        derivatives: list[Any] = []
        for part in self.parts:
            pieces = list(map(derivative_of, part.pieces))
            if part.treedef is None:
                derivatives += pieces  # one state tree
            else:
                derivatives.append(jax.tree.unflatten(part.treedef, pieces))
        return tuple(derivatives)

    def check_floating(self) -> None:
        """Raise if a State that is differentiated holds what has no derivative; JAX would not name the State.

        Raises:
            TypeError: Names all such States.
        """
        faults = [
            f"{self._call.state_name(number)} ({_leaf_text(leaf)})"
            for number, value in zip(self.numbers, self.values, strict=True)
            for leaf in jax.tree.leaves(value)
            if not _is_inexact(leaf)
        ]
        if faults:
            raise TypeError(
                f"gn.{self._call.transform}: {', '.join(faults)} holds no floating-point numbers to differentiate; "
                "select others with wrt"
            )


def _leaf_text(leaf: Any) -> str:
    """For a message: the type of an array, or what else a State holds."""
    return shape_text(leaf) if hasattr(leaf, "dtype") else describe(leaf)


def _is_inexact(leaf: Any) -> bool:
    """Whether a leaf holds real or complex floating-point numbers, which have a derivative."""
    try:
        return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))
    except TypeError:  # nothing that JAX takes
        return False


def _positions(
    transform: str, argnums: int | Sequence[int], bound: int, count: int
) -> list[int]:
    """The positions that `argnums` names, among the `count` arguments of the plain function.

    The first `bound` of these are not the caller's, who does not count them.

    Raises:
        ValueError: There is no such argument, or it is named twice.
    """
    named = checked_positions("argnums", argnums, f"gn.{transform}")
    own = count - bound
    positions: list[int] = []
    for at in named:
        if not -own <= at < own:
            raise ValueError(
                f"gn.{transform}: argnums names argument {at}, but {own} are given by position"
            )
        # The modulo makes negative positions count from the last argument.
        position = bound + at % own
        if position in positions:
            raise ValueError(
                f"gn.{transform}: argnums names argument {at % own} twice; found {named}"
            )
        positions.append(position)
    return positions


def _part_of(
    argument: Any,
    places: Sequence[LeafPlace],
    wrt: Filter | EllipsisType,
    number_of: Mapping[int, int],
) -> Part:
    """What is differentiated of one argument.

    Args:
        argument: The argument, with the caller's nodes in it.
        places: Where its leaves stand among those of the call.
        wrt: Selects States of its nodes.
        number_of: The number of each State in the call, by the id of the State.
    """
    leaves, treedef = jax.tree.flatten(argument)
    if leaves and all(isinstance(leaf, GraphObject) for leaf in leaves):
        return Part(None, (_selected(argument, wrt, number_of),))
    pieces: list[Piece] = []
    earlier: set[int] = set()
    for leaf, place in zip(leaves, places, strict=True):
        if place.other is not None:
            pieces.append(place.other)
            continue
        # A State has one derivative, which stands at its first place: the sum over all
        # trees counts it once.
        selected = _without(earlier, _selected(leaf, wrt, number_of))
        earlier.update(selected.numbers)
        pieces.append(selected)
    return Part(treedef, tuple(pieces))


def _selected(
    node: Any, wrt: Filter | EllipsisType, number_of: Mapping[int, int]
) -> SelectedStates:
    """The States of a node, or of a pytree of nodes, that `wrt` selects.

    Args:
        node: The node or pytree.
        wrt: The filter.
        number_of: The number of each State in the call, by the id of the State.
    """
    binding = binding_of(node)
    ((selected, layout),), _ = select(
        binding.graphdef.layout, as_filters((wrt,)), lambda: binding.states
    )
    numbers = [number_of[id(binding.states[at])] for at in selected]
    return SelectedStates(layout, tuple(numbers))


def _without(earlier: Set[int], states: SelectedStates) -> SelectedStates:
    """The States of a selection that no earlier place of the same argument has, and the layout of these."""
    layout, numbers = states
    new = [at for at, number in enumerate(numbers) if number not in earlier]
    return SelectedStates(layout.take(new), tuple([numbers[at] for at in new]))


def _check_apart(call: Call, positions: Sequence[int], parts: Sequence[Part]) -> None:
    """Raise if two arguments share a State that is differentiated.

    Either tree could hold its derivative, which is the one of both: in both it would
    count twice, and in one of them the other would look complete.

    Raises:
        AliasError: Names all such States.
    """
    if len(parts) < 2:
        return  # the usual case, without a look at each State
    shared = _shared_states(positions, parts)
    if not shared:
        return
    states = call.binding.states
    faults = [
        f"{_name_in(call, earlier, number)} and {_name_in(call, later, number)} are one {type(states[number]).__name__}"
        for number, earlier, later in shared
    ]
    sharing = sorted({position for _, *both in shared for position in both})
    together = ", ".join(_argument_name(call, position) for position in sharing)
    usage = f"gn.{call.transform}(f)(({together}))"
    if call.transform == "vjp":
        usage = f"gn.vjp(f, ({together}))"
    raise AliasError(
        f"gn.{call.transform}: arguments share what is differentiated; take them as one, {usage}: {listed(faults)}"
    )


def _shared_states(
    positions: Sequence[int], parts: Sequence[Part]
) -> list[tuple[int, int, int]]:
    """For `_check_apart`: the States that are differentiated in several arguments, by number.

    Each stands after its number with the positions of two arguments: the first one that
    holds it, and a later one.
    """
    first: dict[int, int] = {}
    shared: list[tuple[int, int, int]] = []
    for position, part in zip(positions, parts, strict=True):
        shared += [
            (number, first[number], position)
            for number in part.numbers
            if first.setdefault(number, position) != position
        ]
    return shared


def _roots_of(call: Call, position: int) -> list[tuple[str, Any]]:
    """For `_name_in`: the nodes and States in the argument at a position, each after its name in a message."""
    owners, names = call.signature.owners(), call.site.leaf_names()
    places = zip(call.signature.places, call.roots, strict=True)
    return [(names[place], root) for place, root in places if owners[place] == position]


def _name_in(call: Call, position: int, number: int) -> str:
    """For a message: the name of the State of that number, by its first place in the argument at `position`."""
    state = call.binding.states[number]
    for name, root in _roots_of(call, position):
        binding = binding_of(root)
        if state in binding.states:  # States compare by identity
            at = binding.states.index(state)
            below = path_str(binding.graphdef.layout.path(at))
            return f"{name}.{below}" if below else name
    raise AssertionError(position)  # pragma: no cover  # the argument holds the State


def _argument_name(call: Call, position: int) -> str:
    """For a message: the name of the argument at a position, which holds nodes."""
    first = call.signature.owners().index(position)
    _, _, *below = call.signature.key_paths[first]
    return call.site.leaf_names()[first].removesuffix(keystr(tuple(below)))


def one_or_all(argnums: int | Sequence[int], derivatives: tuple[Any, ...]) -> Any:
    """Derivatives in the form that `argnums` asks for: one alone for an integer, else a tuple."""
    return derivatives[0] if isinstance(argnums, int) else derivatives


def divided(transform: str, outcome: Outcome, has_aux: bool) -> tuple[Any, Outcome]:
    """The part of a result that is differentiated; and for JAX's `aux` the outcome, with the user's `aux` alone.

    Raises:
        TypeError: With `has_aux`, the function does not give a pair.
        StructureError: There are nodes in the part that is differentiated.
    """
    written, values, result = outcome
    aux = None
    if has_aux:
        if not is_pair(result):
            raise TypeError(
                f"gn.{transform}: with has_aux=True the function gives (result, aux); found {pair_text(result)}"
            )
        result, aux = result
    if written.has_nodes and _holds_nodes(result):
        raise StructureError(
            f"gn.{transform} differentiates arrays, but the result holds a node; give it as aux"
        )
    # Of the auxiliary part alone: only that is still in the outcome.
    has_nodes = written.has_nodes and _holds_nodes(aux)
    return result, (dataclasses.replace(written, has_nodes=has_nodes), values, aux)


def _holds_nodes(tree: Any) -> bool:
    """Whether a part of a result has nodes in it: no derivative is taken of a node."""
    return any(map(is_result_node, jax.tree.leaves(tree, is_leaf=is_result_node)))


class GradOptions(NamedTuple):
    """What `grad` and its kin are asked for, apart from the function."""

    argnums: int | Sequence[int]
    has_aux: bool
    holomorphic: bool
    allow_int: bool
    wrt: Filter | EllipsisType
