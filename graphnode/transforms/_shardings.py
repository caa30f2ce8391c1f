"""`in_shardings` and `out_shardings` of `jit`: a sharding for each State and other leaf, as a caller writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec, Sharding

from .._describe import describe
from .._errors import listed
from .._graph._binding_cache import binding_of
from .._graph._layout import Layout
from .._graph_to_tree import spread
from .._lookup import match, nearest
from .._paths import path_str
from .._statetree import StateTree
from .._static import GraphObject
from ._axes import PerState, Spread, spread_axes
from ._boundary import Call
from ._result_axes import states_for_filters
from ._result_nodes import ResultNode


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
        parts, treedef = jax.tree.flatten(result, is_leaf=_is_part)
        try:
            said = spread(
                _with_trees_as_values(self.prefix),
                jax.tree.unflatten(treedef, range(len(parts))),
            )
        except ValueError as error:
            raise ValueError(
                f"gn.jit: out_shardings is not a prefix of the result: {error}"
            ) from None
        laid_out = [
            _of_part(part, value) for part, value in zip(parts, said, strict=True)
        ]
        return jax.tree.unflatten(treedef, laid_out)


def _is_part(part: object) -> bool:
    """Whether a part of a result has States, whose shardings a filter may choose."""
    return isinstance(part, ResultNode | StateTree)


def _of_part(part: Any, value: Any) -> Any:
    """The shardings of a part of a result, in a pytree like it; a single one holds for all of it."""
    if not isinstance(value, PerState):
        check_sharding("out_shardings", value, "the result")
        return value
    tree = part.states if isinstance(part, ResultNode) else part
    if not isinstance(tree, StateTree):
        raise TypeError(
            f"gn.jit: out_shardings: {value!r} is for a node or state tree; the result has an array there"
        )
    layout = tree.layout
    answers = value.over(layout, states_for_filters(layout, tree._values))
    for number, answer in answers.items():
        check_sharding("out_shardings", answer, path_str(layout.path(number)))
    # One for each array: of a State that holds a pytree, all arrays have the same.
    shardings = [
        jax.tree.map(lambda _, at=at: answers.get(at), content)
        for at, content in enumerate(tree._values)
    ]
    new = StateTree(layout, tuple(shardings))
    return (
        ResultNode(part.graphdef, part.place, new)
        if isinstance(part, ResultNode)
        else new
    )


def _for_argument(entry: Any, argument: Any) -> Any:
    """What a prefix says of one argument, where a pytree or mapping of shardings for a node is one value."""
    if isinstance(argument, GraphObject) and isinstance(entry, Mapping):
        return ByPath(entry)
    return _with_trees_as_values(entry)


def _with_trees_as_values(prefix: Any) -> Any:
    """A prefix in which each state tree of shardings is one value: it stands for a node, also in a list of nodes."""
    return jax.tree.map(
        lambda part: ByPath(part) if isinstance(part, StateTree) else part,
        prefix,
        is_leaf=lambda part: part is None or isinstance(part, StateTree),
    )


class ByPath(PerState):
    """The shardings of the States of a node, by path: a state tree of shardings, or a mapping."""

    def __init__(self, shardings: StateTree | Mapping[Any, Any]) -> None:
        self._shardings = shardings

    def __repr__(self) -> str:
        return "shardings by path"

    def over(self, layout: Layout, states: Sequence[Any]) -> dict[int, Any]:
        """The sharding of each State of a layout, by number, as far as it is named.

        Raises:
            ValueError: A path leads nowhere; names all.
        """
        assert isinstance(self._shardings, StateTree)
        tree = self._shardings
        numbers = {path: number for number, path in enumerate(layout.paths())}
        pairs = list(zip(tree.layout.paths(), tree._values, strict=True))
        unknown = [path_str(path) for path, _ in pairs if path not in numbers]
        if unknown:
            faults = [f"{path} is no State of the result" for path in unknown]
            raise ValueError(f"gn.jit: out_shardings: {listed(faults)}")
        return {numbers[path]: value for path, value in pairs}

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
