"""What a call is differentiated with respect to: States that a filter selects, and arrays among the other leaves.

Of an argument that is a node, or a pytree of nodes, the States that `wrt` selects are differentiated, and a derivative
is a `StateTree` of the layout of `treefy_states(argument, wrt)`. Of other arguments all arrays are, as in JAX.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._binding import binding_of
from .._convert import is_node_states
from .._errors import FilterError, StructureError
from .._filters import Filter, as_filters
from .._layout import Layout
from .._state import describe, shape_text
from .._statetree import StateTree, select
from .._static import GraphObject
from ._boundary import Call, Outcome, Values, told


class Part(NamedTuple):
    """What is differentiated of one argument.

    Attributes:
        treedef: Of the argument; `None` for one that holds nodes alone, whose derivative is one state tree.
        pieces: For each leaf (or the one state tree): the number of an array in the rest; or a layout and its States.
    """

    treedef: Any
    pieces: tuple["int | tuple[Layout, tuple[int, ...]]", ...]


class Chosen:
    """What a call is differentiated with respect to: some States, and some of the other leaves."""

    def __init__(self, call: Call, argnums: Sequence[int], wrt: Filter | EllipsisType) -> None:
        self._call, self._values = call, call.values
        args, _ = call.form.fill(call.roots, range(len(call.rest)))
        numbers = {id(state): number for number, state in enumerate(call.binding.states)}
        for at in argnums:
            if not -len(args) <= at < len(args):
                raise ValueError(
                    f"gn.{call.transform}: argnums names argument {at}, but {len(args)} are given by position"
                )
        self.parts = [_part_of(args[at], wrt, numbers) for at in argnums]
        pieces = [piece for part in self.parts for piece in part.pieces]
        self.rest_at = sorted({piece for piece in pieces if isinstance(piece, int)})
        chosen = {number for piece in pieces if not isinstance(piece, int) for number in piece[1]}
        self.numbers = sorted(chosen)
        if not self.numbers and not self.rest_at:
            shown = as_filters((wrt,))[0]
            raise FilterError(f"gn.{call.transform}: nothing to differentiate: no State of it is selected by {shown!r}")

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
            return StateTree(piece[0], tuple([by_number[number] for number in piece[1]]))

        made: list[Any] = []
        for part in self.parts:
            pieces = list(map(piece_of, part.pieces))
            made.append(pieces[0] if part.treedef is None else jax.tree.unflatten(part.treedef, pieces))
        return tuple(made)

    def check_floating(self) -> None:
        """Raise if a State that is chosen holds what has no derivative.

        Raises:
            TypeError: Names all such States.
        """
        faults = [
            f"{self._call.where(number)} ({shape_text(leaf) if hasattr(leaf, 'dtype') else describe(leaf)})"
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


def _part_of(argument: Any, wrt: Filter | EllipsisType, numbers: Mapping[int, int]) -> Part:
    leaves, treedef = jax.tree.flatten(argument)
    if leaves and all(isinstance(leaf, GraphObject) for leaf in leaves):
        return Part(None, (_selected(argument, wrt, numbers),))
    return Part(
        treedef, tuple([_selected(leaf, wrt, numbers) if isinstance(leaf, GraphObject) else leaf for leaf in leaves])
    )


def _selected(node: Any, wrt: Filter | EllipsisType, numbers: Mapping[int, int]) -> tuple[Layout, tuple[int, ...]]:
    binding = binding_of(node)
    ((chosen, layout),), _ = select(binding.graphdef.layout, as_filters((wrt,)), lambda: binding.states)
    return layout, tuple([numbers[id(binding.states[at])] for at in chosen])


def argument_numbers(argnums: int | Sequence[int], offset: int) -> tuple[int, ...]:
    """The positions among the arguments of the plain function, of which `offset` are bound before the caller's."""
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    return tuple([at + offset if at >= 0 else at for at in given])


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
            found = f"a tuple of {len(result)}" if isinstance(result, tuple) else told(result)
            raise TypeError(f"gn.{transform}: with has_aux=True the function gives (result, aux); found {found}")
        result, aux = result
    if written.has_nodes and _holds_nodes(result):
        raise StructureError(f"gn.{transform} differentiates arrays, but the result holds a node; give it as aux")
    has_nodes = written.has_nodes and _holds_nodes(aux)
    return result, (dataclasses.replace(written, has_nodes=has_nodes), values, aux)


def _holds_nodes(tree: Any) -> bool:
    return any(map(is_node_states, jax.tree.leaves(tree, is_leaf=is_node_states)))


class GradOptions(NamedTuple):
    """What `grad` and its kin are asked for, apart from the function."""

    argnums: int | Sequence[int]
    has_aux: bool
    holomorphic: bool
    allow_int: bool
    wrt: Filter | EllipsisType
