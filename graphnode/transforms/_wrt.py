"""What a call is differentiated with respect to: States that a filter selects, and arrays among the other leaves.

Of an argument that is a node, or a pytree of nodes, the States that `wrt` selects are
differentiated, and a derivative is a `StateTree` of the layout of
`treefy_states(argument, wrt)`. Of other arguments all arrays are, as in JAX.
"""

import dataclasses
from collections.abc import Mapping, Sequence, Set
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import keystr

from .._arguments import checked_positions
from .._describe import describe, shape_text
from .._errors import AliasError, FilterError, StructureError, listed
from .._filters import Filter, as_filters
from .._graph._binding import binding_of
from .._graph._layout import Layout
from .._paths import path_str
from .._statetree import StateTree, select
from .._static import GraphObject
from ._arguments import Values
from ._boundary import Call
from ._pure import Outcome
from ._result_nodes import is_result_node
from ._signature import LeafPlace
from ._type_text import result_text


class Part(NamedTuple):
    """What is differentiated of one argument.

    Attributes:
        treedef: Of the argument; `None` for one that holds nodes alone, whose
            derivative is one state tree.
        pieces: For each leaf (or the one state tree): the number of an array in the
            rest; or a layout and its States.
    """

    treedef: Any
    pieces: tuple["int | tuple[Layout, tuple[int, ...]]", ...]

    @property
    def numbers(self) -> list[int]:
        """The States, by their number in the call: each once."""
        return [
            number
            for piece in self.pieces
            if not isinstance(piece, int)
            for number in piece[1]
        ]


class Chosen:
    """What a call is differentiated with respect to: some States, and some of the other leaves."""

    def __init__(
        self,
        call: Call,
        argnums: int | Sequence[int],
        wrt: Filter | EllipsisType,
        bound: int,
    ) -> None:
        self._call, self._values = call, call.values
        args, _ = call.signature.fill(call.roots, call.rest)
        numbers = {
            id(state): number for number, state in enumerate(call.binding.states)
        }
        positions = _positions(call.transform, argnums, bound, len(args))
        places = call.signature.leaf_places(positions)
        self.parts = [
            _part_of(args[at], own, wrt, numbers)
            for at, own in zip(positions, places, strict=True)
        ]
        _check_apart(call, positions, self.parts)
        pieces = [piece for part in self.parts for piece in part.pieces]
        self.rest_at = sorted({piece for piece in pieces if isinstance(piece, int)})
        self.numbers = sorted(
            [number for part in self.parts for number in part.numbers]
        )
        if not self.numbers and not self.rest_at:
            shown = as_filters((wrt,))[0]
            raise FilterError(
                f"gn.{call.transform}: nothing to differentiate: no State of it is selected by {shown!r}"
            )

    @property
    def values(self) -> Values:
        """The values of the States that are chosen."""
        return tuple([self._values[number] for number in self.numbers])

    @property
    def rest(self) -> Values:
        """The other leaves that are chosen."""
        return tuple([self._call.rest[at] for at in self.rest_at])

    def join(self, values: Values, rest: Values) -> tuple[Values, list[Any]]:
        """All values and leaves of the call, with these in place of the chosen ones."""
        all_values, all_rest = list(self._values), list(self._call.rest)
        for number, value in zip(self.numbers, values, strict=True):
            all_values[number] = value
        for at, leaf in zip(self.rest_at, rest, strict=True):
            all_rest[at] = leaf
        return tuple(all_values), all_rest

    def assemble(self, values: Values, rest: Values) -> tuple[Any, ...]:
        """The derivatives of the arguments, from those of the chosen values and leaves."""
        by_number = dict(zip(self.numbers, values, strict=True))
        by_place = dict(zip(self.rest_at, rest, strict=True))

        def piece_of(piece: int | tuple[Layout, tuple[int, ...]]) -> Any:
            if isinstance(piece, int):
                return by_place[piece]
            return StateTree(
                piece[0], tuple([by_number[number] for number in piece[1]])
            )

        made: list[Any] = []
        for part in self.parts:
            pieces = list(map(piece_of, part.pieces))
            made.append(
                pieces[0]
                if part.treedef is None
                else jax.tree.unflatten(part.treedef, pieces)
            )
        return tuple(made)

    def check_floating(self) -> None:
        """Raise if a State that is chosen holds what has no derivative.

        Raises:
            TypeError: Names all such States.
        """
        faults = [
            f"{self._call.state_name(number)} ({shape_text(leaf) if hasattr(leaf, 'dtype') else describe(leaf)})"
            for number, value in zip(self.numbers, self.values, strict=True)
            for leaf in jax.tree.leaves(value)
            if not _is_inexact(leaf)
        ]
        if faults:
            raise TypeError(
                f"gn.{self._call.transform}: {', '.join(faults)} holds no floating-point numbers to differentiate; "
                "select others with wrt"
            )


def _is_inexact(leaf: Any) -> bool:
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
    numbers: Mapping[int, int],
) -> Part:
    leaves, treedef = jax.tree.flatten(argument)
    if leaves and all(isinstance(leaf, GraphObject) for leaf in leaves):
        return Part(None, (_selected(argument, wrt, numbers),))
    pieces: list[int | tuple[Layout, tuple[int, ...]]] = []
    earlier: set[int] = set()
    for leaf, place in zip(leaves, places, strict=True):
        if place.rest is not None:
            pieces.append(place.rest)
            continue
        # A State has one derivative, which stands at its first place: the sum over all
        # trees counts it once.
        layout, selected = _without(earlier, *_selected(leaf, wrt, numbers))
        earlier.update(selected)
        pieces.append((layout, selected))
    return Part(treedef, tuple(pieces))


def _selected(
    node: Any, wrt: Filter | EllipsisType, numbers: Mapping[int, int]
) -> tuple[Layout, tuple[int, ...]]:
    binding = binding_of(node)
    ((chosen, layout),), _ = select(
        binding.graphdef.layout, as_filters((wrt,)), lambda: binding.states
    )
    return layout, tuple([numbers[id(binding.states[at])] for at in chosen])


def _without(
    earlier: Set[int], layout: Layout, numbers: tuple[int, ...]
) -> tuple[Layout, tuple[int, ...]]:
    """What is left of some States, when some of them stand elsewhere already."""
    new = [at for at, number in enumerate(numbers) if number not in earlier]
    return layout.take(new), tuple([numbers[at] for at in new])


def _check_apart(call: Call, positions: Sequence[int], parts: Sequence[Part]) -> None:
    """Raise if two arguments share a State that is differentiated.

    Either tree could hold its derivative, which is the one of both: in both it would
    count twice, and in one of them the other would look complete.

    Raises:
        AliasError: Names all such States.
    """
    if len(parts) < 2:
        return
    first: dict[int, int] = {}
    shared = [
        (number, first[number], at)
        for at, part in zip(positions, parts, strict=True)
        for number in part.numbers
        if first.setdefault(number, at) != at
    ]
    if not shared:
        return
    states = call.binding.states
    faults = [
        f"{_name_in(call, one, number)} and {_name_in(call, other, number)} are one {type(states[number]).__name__}"
        for number, one, other in shared
    ]
    sharing = sorted({at for _, *both in shared for at in both})
    together = ", ".join(_argument_name(call, at) for at in sharing)
    usage = (
        f"gn.vjp(f, ({together}))"
        if call.transform == "vjp"
        else f"gn.{call.transform}(f)(({together}))"
    )
    raise AliasError(
        f"gn.{call.transform}: arguments share what is differentiated; take them as one, {usage}: {listed(faults)}"
    )


def _roots_of(call: Call, position: int) -> list[tuple[str, Any]]:
    """The nodes of an argument with their names in a message."""
    owners, names = call.signature.owners(), call.site.leaf_names()
    places = zip(call.signature.places, call.roots, strict=True)
    return [(names[place], root) for place, root in places if owners[place] == position]


def _name_in(call: Call, position: int, number: int) -> str:
    """The name of a State in a message: its first place in an argument."""
    state = call.binding.states[number]
    for name, root in _roots_of(call, position):
        binding = binding_of(root)
        at = next((at for at, one in enumerate(binding.states) if one is state), None)
        if at is not None:
            below = path_str(binding.graphdef.layout.path(at))
            return f"{name}.{below}" if below else name
    raise AssertionError(position)  # pragma: no cover  # the argument holds the State


def _argument_name(call: Call, position: int) -> str:
    """The name of an argument with nodes in a message."""
    first = call.signature.owners().index(position)
    _, _, *below = call.signature.key_paths[first]
    return call.site.leaf_names()[first].removesuffix(keystr(tuple(below)))


def one_or_all(argnums: int | Sequence[int], derivatives: tuple[Any, ...]) -> Any:
    """What a caller asked for: one derivative for a position, a tuple of them for several."""
    return derivatives[0] if isinstance(argnums, int) else derivatives


def divided(transform: str, outcome: Outcome, has_aux: bool) -> tuple[Any, Outcome]:
    """The part of a result that is differentiated, and the outcome with the auxiliary part alone.

    Raises:
        TypeError: With `has_aux`, the function does not give a pair.
        StructureError: There are nodes in the part that is differentiated.
    """
    written, values, result = outcome
    aux = None
    if has_aux:
        if not (isinstance(result, tuple) and len(result) == 2):
            found = (
                f"a tuple of {len(result)}"
                if isinstance(result, tuple)
                else result_text(result)
            )
            raise TypeError(
                f"gn.{transform}: with has_aux=True the function gives (result, aux); found {found}"
            )
        result, aux = result
    if written.has_nodes and _holds_nodes(result):
        raise StructureError(
            f"gn.{transform} differentiates arrays, but the result holds a node; give it as aux"
        )
    has_nodes = written.has_nodes and _holds_nodes(aux)
    return result, (dataclasses.replace(written, has_nodes=has_nodes), values, aux)


def _holds_nodes(tree: Any) -> bool:
    return any(map(is_result_node, jax.tree.leaves(tree, is_leaf=is_result_node)))


class GradOptions(NamedTuple):
    """What `grad` and its kin are asked for, apart from the function."""

    argnums: int | Sequence[int]
    has_aux: bool
    holomorphic: bool
    allow_int: bool
    wrt: Filter | EllipsisType
