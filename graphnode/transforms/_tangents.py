"""Tangents of primals: those that a caller of `jvp` or `linearize` gives, and those that a rule gets."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import tracer_in
from .._errors import AliasError, listed
from .._statetree import StateTree
from ._answers import (
    Nodes,
    OfLeaf,
    OfState,
    Piece,
    Slot,
    answers_of,
    check_shape,
    name_of_place,
    shapes_of,
    slots_of,
)
from ._boundary import Call


class Tangents:
    """What the tangents of the primals of a call look like, and which States and leaves they are of.

    Taken when the call is: what the function writes changes none of it, and no value is
    kept alive.

    Attributes:
        numbers: The States that may have a tangent, by their number in the call.
        leaf_numbers: The other leaves that may.

    Args:
        call: The call.
        positions: The primals, by their position among the arguments.
    """

    def __init__(self, call: Call, positions: Sequence[int]) -> None:
        self._call, self._slots = call, slots_of(call, positions)
        self._value_shapes = list(map(shapes_of, call.values))
        self._leaf_shapes = list(map(shapes_of, call.other_leaves))
        pieces = [piece for slot in self._slots for piece in slot.pieces]
        nodes = [piece for piece in pieces if isinstance(piece, Nodes)]
        self.numbers = sorted({number for part in nodes for number in part.numbers})
        self.leaf_numbers = [piece for piece in pieces if isinstance(piece, int)]

    def check_count(self, taker: str, count: int) -> None:
        """Raise if there are not as many tangents as primals; `taker` is what a message says of who takes them.

        Raises:
            TypeError: There are more or fewer.
        """
        if count != len(self._slots):
            raise TypeError(
                f"{taker} takes a tangent for each primal; found {len(self._slots)} primals, {count} tangents"
            )

    def by_number(
        self, tangents: Sequence[Any]
    ) -> tuple[dict[int, Any], dict[int, Any]]:
        """The tangents of States, and those of other leaves, by their numbers: of what the caller gives one for.

        Args:
            tangents: One for each primal.

        Raises:
            AliasError, FilterError: As of `jvp`.
            ValueError: A tangent has another shape than what it is of.
        """
        answers = [
            answer
            for slot, tangent in zip(self._slots, tangents, strict=True)
            for answer in answers_of(self._call, "tangent", slot, tangent)
        ]
        along = _along(
            self._call, [answer for answer in answers if isinstance(answer, OfState)]
        )
        leaves = [answer for answer in answers if isinstance(answer, OfLeaf)]
        for answer in answers:
            is_leaf = isinstance(answer, OfLeaf)
            row = self._leaf_shapes if is_leaf else self._value_shapes
            check_shape(self._call, "tangent", answer, row[answer.number])
        return along, {answer.number: answer.value for answer in leaves}

    def assemble(
        self, values: Sequence[Any], other_leaves: Sequence[Any]
    ) -> tuple[Any, ...]:
        """The inverse of `by_number`, for a rule: a tangent for each primal, a whole `StateTree` for a node.

        Args:
            values: The tangents of all States of the call.
            other_leaves: Those of its other leaves.
        """

        def tangent_of(piece: Piece) -> Any:
            """The tangent at one place: an array, or a state tree."""
            if isinstance(piece, int):
                return other_leaves[piece]
            of_states = tuple([values[number] for number in piece.numbers])
            return StateTree(piece.graphdef.layout, of_states)

        def tangent_in(slot: Slot) -> Any:
            """The tangent of one primal."""
            parts = list(map(tangent_of, slot.pieces))
            return parts[0] if slot.treedef is None else slot.treedef.unflatten(parts)

        return tuple(map(tangent_in, self._slots))


def _along(call: Call, answers: Sequence[OfState]) -> dict[int, Any]:
    """The tangent of each State that has one, by number; several of one State must be equal.

    Raises:
        AliasError: One State has two tangents that differ, or that may differ; names all.
    """
    first: dict[int, OfState] = {}
    faults: list[str] = []
    for answer in answers:
        # One State may be reached at several places, and be given at more than one.
        before = first.setdefault(answer.number, answer)
        if before is answer:
            continue
        difference = _difference(before.value, answer.value)
        if difference:
            names = f"{name_of_place(call, before)} and {name_of_place(call, answer)}"
            cls = type(call.binding.states[answer.number])
            faults.append(f"{names} are one {cls.__name__} with {difference}")
    if faults:
        raise AliasError(
            f"gn.{call.transform}: give the tangent of a State at one of its places alone: {listed(faults)}"
        )
    return {number: answer.value for number, answer in first.items()}


def _difference(left: Any, right: Any) -> str:
    """For a message: how two tangents of one State differ; an empty text if they are equal."""
    leaves, treedef = jax.tree.flatten(left)
    others, other_def = jax.tree.flatten(right)
    # JAX's stubs give treedefs no equality.
    treedefs: list[object] = [treedef, other_def]
    if treedefs[0] != treedefs[1]:
        return "two tangents"
    pairs = zip(leaves, others, strict=True)
    # The same object is equal, even where it is traced.
    apart = [(leaf, other) for leaf, other in pairs if leaf is not other]
    if not all(_is_alike(*pair) for pair in apart):
        return "two tangents"
    if any(tracer_in(leaf) is not None for pair in apart for leaf in pair):
        return "two traced tangents, which cannot be compared"
    return "" if all(np.array_equal(*pair) for pair in apart) else "two tangents"


def _is_alike(left: Any, right: Any) -> bool:
    """Whether two tangents have the same shape and dtype, traced or not: 1 and 1.0 are equal, but two tangents."""
    if jnp.shape(left) != jnp.shape(right):
        return False
    return bool(jnp.result_type(left) == jnp.result_type(right))


def zero_tangent(leaf: Any) -> Any:
    """The tangent of zero of an array, or of an abstract one: of type float0 for integers, booleans and keys."""
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
