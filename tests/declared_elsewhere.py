"""Node classes of a module that postpones its annotations and imports some names for type checkers only."""

from __future__ import annotations

from dataclasses import KW_ONLY, InitVar
from typing import TYPE_CHECKING, ClassVar

import jax
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import ParamState, state, static, subnode

if TYPE_CHECKING:
    from .declared_for_checkers import Hidden


class Leaf(gn.Node):
    """What the module's own names declare."""

    made: ClassVar[int] = 7
    scale: InitVar[float]
    width: int
    _: KW_ONLY
    weight: ParamState[Float[Array, "width"]] = state(jax.nn.initializers.ones)
    parent: Tree | None = None
    after: Leaf | None = None

    def __post_init__(self, scale: float) -> None:
        self.weight.value *= scale


class Tree(gn.Node):
    """Declared after `Leaf` names it."""

    leaves: list[Leaf]


class Untagged(gn.Node):
    """A name that only a type checker sees, and no specifier."""

    width: int
    hidden: Hidden
    other: list[Hidden] | None = None


class Tagged(gn.Node):
    """The same name, with specifiers that say what it is."""

    width: int
    hidden: Hidden = subnode()
    config: Hidden | None = static(default=None)
    held: ParamState[Hidden] | None = state(default=None)


class Grafted(Leaf):
    """A field of its own, resolved here, beside inherited ones."""

    twin: Grafted | None = None
