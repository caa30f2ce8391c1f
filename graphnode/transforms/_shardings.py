"""`in_shardings` and `out_shardings` of `jit`: a sharding for each State and other leaf, as a caller writes them."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import PartitionSpec, Sharding

from .._describe import describe
from .._errors import listed
from .._graph._binding_cache import binding_of
from .._graph_to_tree import spread
from .._lookup import match, nearest
from .._paths import path_str
from .._statetree import StateTree
from .._static import GraphObject
from ._axes import PerState, Spread, spread_axes
from ._boundary import Call


class Shardings:
    """What a caller wrote. Known by identity: there may be dicts in it, and options have to be hashable.

    Attributes:
        prefix: A pytree prefix of the arguments, or of the result.
    """

    def __init__(self, prefix: Any) -> None:
        self.prefix = prefix

    def __reduce__(self) -> tuple[Any, ...]:
        return Shardings, (self.prefix,)

    def of_call(self, call: Call) -> Spread:
        """The sharding of each State and each other leaf of a call; `None` where the caller says nothing.

        Raises:
            AliasError: A State is reached with two shardings; names all.
            ValueError: The prefix does not fit the arguments, or names no State of
                theirs.
            TypeError: Something in it is no sharding.
        """
        args, _ = call.signature.fill(call.roots, call.other_leaves)
        prefix = self.prefix
        if isinstance(prefix, (tuple, list)):
            # Of another length, it is an error of the prefix.
            pairs = zip(prefix, [*args, *[None] * len(prefix)], strict=False)
            prefix = tuple([_for_argument(entry, arg) for entry, arg in pairs])
        return spread_axes(call, prefix, None, _check_in)

    def of_result(self, result: Any) -> Any:
        """The sharding of each leaf of a result, in a pytree like it; one for a node holds for all its States.

        Args:
            result: The result as shapes, with a `ResultNode` in place of each node.

        Raises:
            ValueError: The prefix does not fit the result.
            TypeError: Something in it is no sharding.
        """
        try:
            values = spread(self.prefix, result)
        except ValueError as error:
            raise ValueError(
                f"gn.jit: out_shardings is not a prefix of the result: {error}"
            ) from None
        for value in values:
            check_sharding("out_shardings", value, "the result")
        return jax.tree.unflatten(jax.tree.structure(result), values)


def _for_argument(entry: Any, argument: Any) -> Any:
    """What a prefix says of one argument, where a pytree or mapping of shardings for a node is one value."""
    if isinstance(argument, GraphObject) and isinstance(entry, Mapping):
        return ByPath(entry)
    # Within pytrees of nodes, too.
    return jax.tree.map(
        lambda part: ByPath(part) if isinstance(part, StateTree) else part,
        entry,
        is_leaf=lambda part: part is None or isinstance(part, StateTree),
    )


class ByPath(PerState):
    """The shardings of the States of a node, by path: a state tree of shardings, or a mapping."""

    def __init__(self, shardings: StateTree | Mapping[Any, Any]) -> None:
        self._shardings = shardings

    def of(self, node: object) -> list[Any]:
        """The sharding of each State of a node, in layout order; `None` for what is not named.

        Raises:
            ValueError: A path leads nowhere; names all.
        """
        graphdef = binding_of(node).graphdef
        matched = match(graphdef, self._shardings)
        found: list[Any] = [None] * len(graphdef.layout)
        faults: list[str] = []
        rows = zip(matched.numbers, matched.values, strict=True)
        for at, (number, value) in enumerate(rows):
            if number is None:
                path = matched.globs.get(at) or path_str(matched.path(at))
                faults.append(
                    f"{path} is no State of the argument{nearest(graphdef.layout, path)}"
                )
            else:
                found[number] = value
        if faults:
            raise ValueError(f"gn.jit: in_shardings: {listed(faults)}")
        return found


def _check_in(value: Any, where: str) -> None:
    """Raise if something in `in_shardings` is no sharding."""
    check_sharding("in_shardings", value, where)


def check_sharding(option: str, value: Any, where: str) -> None:
    """Raise if a value is nothing that says how arrays are laid out.

    Args:
        option: `in_shardings` or `out_shardings`.
        value: The value; a pytree of them for a State that holds a pytree.
        where: What it is for, in messages.

    Raises:
        TypeError: Names both.
    """
    for leaf in jax.tree.leaves(value):
        if not isinstance(leaf, Sharding | PartitionSpec):
            raise TypeError(
                f"gn.jit: {option} of {where} is a sharding, a partition spec or None; found {describe(leaf)}"
            )
