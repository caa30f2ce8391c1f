"""The members of what a transform maps: an axis less in the descriptions of what goes in, one more in what comes out.

`vmap` and `scan` show their function one member at a time. So explicit shardings and
named axes of nodes and state trees lose the mapped axis on the way in; state trees, and
the nodes that the function makes, get it on the way out. There, a random stream must
differ from member to member, too: equal ones would draw the same numbers in all.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import jax
from jax.sharding import PartitionSpec
from jax.tree_util import keystr, tree_flatten_with_path

from .._compat import is_mapped, varying_axes
from .._errors import StackError, listed
from .._graph._layout import intern_layout
from .._graph_to_tree import spread
from .._paths import path_str
from .._rngs import RngKey
from .._stack_axes import (
    checked_position,
    has_axes,
    mentions_axes,
    with_axis,
    with_leading,
    with_specs,
    without_axis,
)
from .._state import StateSpec
from .._statetree import StateTree
from ._arguments import Values
from ._axes import Spread
from ._boundary import Call
from ._descriptions import describes_states, moved
from ._pure import Outcome, Pure
from ._result_nodes import ResultNode, is_result_node
from ._signature import CallSite, all_leaves
from ._written import Written

# Of a transform: what a key must depend on, and how to make one that does.
_FROM_MAPPED: Final = (
    "map over jax.random.split(key, n) and write gn.Rngs(key), or give the function a gn.Rngs with an axis and fork "
    "that"
)
_REMEDIES: Final = {
    "vmap": ("the mapped axis", _FROM_MAPPED),
    "scan": ("the round", _FROM_MAPPED),
    "shard_map": (
        "all axes of its spec",
        "fold the shard in, as in gn.Rngs(jax.random.fold_in(key, jax.lax.axis_index('data')))",
    ),
}


class Member(NamedTuple):
    """A member of what a call maps.

    Attributes:
        site: The call as its function sees it: without the mapped axis in the
            descriptions of States.
        axis_name: The name of the mapped axis: the one that all States have for it that
            have one, if they agree.
    """

    site: CallSite
    axis_name: str | None


def member_of(call: Call, axes: Spread) -> Member:
    """The call as the function sees it in one lane or round, whose arrays lack the mapped axis.

    Args:
        call: The call.
        axes: The axis of each State and each other leaf; what is not an integer is not
            mapped.

    Raises:
        StackError: An axis that counts from the end stands at several positions in the
            arrays of one State.
    """
    site, signature, names = call.site, call.signature, set[str]()

    def move(spec: StateSpec, value: Any, axis: Any, where: str) -> StateSpec:
        """The description of a State without its mapped axis; notes the name that this axis has there."""
        if not (isinstance(axis, int) and has_axes(spec)):
            return spec
        position = checked_position(axis, value, where)
        names.update(named.name for named in spec.stacked if named.position == position)
        return without_axis(spec, position)

    graphdef, treedef = signature.graphdef, signature.treedef
    # Most models mention none, and their graphdef can stay as it is.
    if mentions_axes(graphdef):
        rows = enumerate(
            zip(graphdef.layout.specs, call.values, axes.values, strict=True)
        )
        specs = {
            number: move(spec, value, axis, call.state_name(number))
            for number, (spec, value, axis) in rows
        }
        graphdef = with_specs(graphdef, specs)
    arguments = treedef.unflatten(
        all_leaves(signature.places, call.roots, call.other_leaves)
    )
    if describes_states(arguments):
        # Nodes were described above, by their graphdef: `None` for them.
        of_leaves = all_leaves(
            signature.places, [None] * len(signature.places), axes.other_leaves
        )
        treedef = jax.tree.structure(
            moved(arguments, of_leaves, site.leaf_names(), move)
        )
    # Names that disagree would be a guess.
    axis_name = names.pop() if len(names) == 1 else None
    signature = dataclasses.replace(signature, graphdef=graphdef, treedef=treedef)
    return Member(dataclasses.replace(site, signature=signature), axis_name)


def with_result_axes(
    result: Any, out_axes: Any, caller_count: int, name: str | None
) -> Any:
    """The result of what was mapped, with the new axis in the descriptions of States, as its arrays have it.

    Nodes that are the caller's stay as they are.

    Args:
        result: The result, whose values have the axis, with a `ResultNode` in place of
            each node.
        out_axes: A pytree prefix of it.
        caller_count: How many States the caller has.
        name: The name of the axis, if it has one.

    Raises:
        StackError: An axis that counts from the end stands at several positions in the
            arrays of one State.
    """
    if not describes_states(result):
        return result

    def move(spec: StateSpec, value: Any, axis: Any, where: str) -> StateSpec:
        """The description of a State with the new axis, if it mentions axes or the new one has a name."""
        if not (isinstance(axis, int) and (has_axes(spec) or name is not None)):
            return spec
        return with_axis(spec, checked_position(axis, value, where), name)

    return moved(
        result, spread(out_axes, result), _names_in(result), move, caller_count
    )


def _names_in(result: Any) -> list[str]:
    """For the errors of `moved`: the name of each leaf of a result; in a node, that of the State that it is of."""
    names: list[str] = []
    for key_path, leaf in tree_flatten_with_path(result, is_leaf=is_result_node)[0]:
        name = f"result{keystr(key_path)}"
        if not isinstance(leaf, ResultNode):
            names.append(name)
            continue
        for path, value in zip(
            leaf.states.layout.paths(), leaf.states._values, strict=True
        ):
            names += [f"{name}.{path_str(path)}".rstrip(".")] * len(
                jax.tree.leaves(value)
            )
    return names


class MadeKey(NamedTuple):
    """The key of a random stream that a function has made and returns in a node.

    Attributes:
        value: Its value.
        axis: The axis that it gets, or its partition spec; `None` for none.
        name: What a message calls it.
    """

    value: Any
    axis: Any
    name: str


def made_keys(result: Any, out_axes: Any, caller_count: int) -> list[MadeKey]:
    """The keys of the streams that a function has made and returns in nodes, with the axes that they get.

    For `Lane`, `Shard` and `scan`, which refuse those that are the same in all members:
    all would draw the same numbers.

    Args:
        result: What the function gives, with a `ResultNode` in place of each node.
        out_axes: A pytree prefix of it.
        caller_count: How many States the caller has.
    """
    pairs, _ = tree_flatten_with_path(result, is_leaf=is_result_node)
    if not any(is_result_node(leaf) for _, leaf in pairs):
        return []
    axes = iter(spread(out_axes, result))
    keys: list[MadeKey] = []
    for key_path, leaf in pairs:
        own = list(itertools.islice(axes, len(jax.tree.leaves(leaf))))
        if isinstance(leaf, ResultNode):
            keys += _keys_in_node(f"result{keystr(key_path)}", leaf, own, caller_count)
    return keys


def _keys_in_node(
    name: str, node: ResultNode, axes: Sequence[Any], caller_count: int
) -> Iterator[MadeKey]:
    """The keys of random streams in one node of a result, those of the caller's States left out.

    Args:
        name: What messages call the node.
        node: What stands for it in the result.
        axes: The axis (or partition spec) of each of its leaves.
        caller_count: How many States the caller has: they come first in the graph.
    """
    place = node.graphdef.layout.below(node.place)
    if place is None:
        return
    layout, first = place
    of_leaves = iter(axes)
    for number, (spec, value) in enumerate(
        zip(layout.specs, node.states._values, strict=True)
    ):
        own = list(itertools.islice(of_leaves, len(jax.tree.leaves(value))))
        # A key that was the caller's is looked at where it is written, by
        # `written_keys`.
        if is_key(spec) and first + number >= caller_count:
            yield MadeKey(
                value, own[0], f"{name}.{path_str(layout.path(number))}".rstrip(".")
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Lane:
    """A pure function as `jax.vmap` maps it: the streams that it makes depend on the mapped axis.

    Attributes:
        pure: The pure function.
        out_axes: A pytree prefix of the user's result.
    """

    pure: Pure
    out_axes: Any  # a prefix of any pytree

    @property
    def __name__(self) -> str:
        """The name of the user's function."""
        return self.pure.__name__

    def __repr__(self) -> str:
        return repr(self.pure)

    def __call__(self, values: Values, other_leaves: Sequence[Any]) -> Outcome:
        """Call the function, in the trace of `jax.vmap`.

        Raises:
            StackError: Streams that it gives are the same in all lanes; names all of
                them.
        """
        outcome = self.pure(values, other_leaves)
        self.check_keys(outcome, len(values))
        return outcome

    def check_keys(self, outcome: Outcome, caller_count: int) -> None:
        """Raise if streams that the function gives are the same in all lanes.

        Args:
            outcome: What the function gave, in the trace of `jax.vmap`.
            caller_count: How many States the caller has.

        Raises:
            StackError: Names all of them.
        """
        written, new_values, result = outcome
        new_keys = made_keys(result, self.out_axes, caller_count)
        # Without an axis JAX itself refuses a key that differs from lane to lane.
        keys = [(key.name, key.value) for key in new_keys if isinstance(key.axis, int)]
        keys += [
            (self.pure.site.state_name(number), key)
            for number, key in written_keys(self.pure, written, new_values)
        ]
        refuse_constant("vmap", [where for where, key in keys if not is_mapped(key)])


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """A pure function as `jax.shard_map` maps it: the streams that it makes depend on the axes of their specs.

    Attributes:
        pure: The pure function.
        specs: The partition spec of each State of the caller.
        out_specs: A pytree prefix of the user's result.
    """

    pure: Pure
    specs: Sequence[PartitionSpec]
    out_specs: Any  # a prefix of any pytree

    @property
    def __name__(self) -> str:
        """The name of the user's function."""
        return self.pure.__name__

    def __call__(self, values: Values, other_leaves: Sequence[Any]) -> Outcome:
        """Call the function, in the trace of `jax.shard_map`.

        Raises:
            StackError: Streams that it gives are the same in several shards; names all
                of them.
        """
        written, new_values, result = self.pure(values, other_leaves)
        keys = [
            (key.name, key.value, key.axis)
            for key in made_keys(result, self.out_specs, len(values))
        ]
        keys += [
            (self.pure.site.state_name(number), key, self.specs[number])
            for number, key in written_keys(self.pure, written, new_values)
        ]
        refuse_constant(
            "shard_map",
            [where for where, key, spec in keys if not _varies_along(key, spec)],
        )
        return written, new_values, result


def _varies_along(key: jax.Array, spec: PartitionSpec) -> bool:
    """Whether a key may differ along all axes of the mesh that its spec names: else several shards would draw alike."""
    # An entry of a spec is a name, a tuple of names, or None, which is no leaf.
    return varying_axes(key).issuperset(jax.tree.leaves(tuple(spec)))


def is_key(spec: StateSpec) -> bool:
    """Whether a State is the key of a random stream, which must differ from member to member."""
    return issubclass(spec.cls, RngKey)


def written_keys(
    pure: Pure, written: Written, new_values: Sequence[Any]
) -> list[tuple[int, Any]]:
    """The keys that a function wrote into streams of the caller's: beside `made_keys`, these must differ, too."""
    specs = pure.site.signature.graphdef.layout.specs
    value_of = dict(zip(written.numbers, new_values, strict=True))
    return [
        (number, value_of[number])
        for number in written.changed
        if is_key(specs[number])
    ]


def refuse_constant(transform: str, names: Sequence[str]) -> None:
    """Raise if there are keys that are the same for all members.

    Raises:
        StackError: There are; names all of them.
    """
    if names:
        axis, remedy = _REMEDIES[transform]
        faults = listed([f"{name} does not depend on {axis}" for name in names])
        # One fault stays on its line; a list of faults has a line for each.
        separator = ": " if len(names) == 1 else "\n"
        raise StackError(
            f"gn.{transform}: {faults}{separator}all members would draw the same numbers. Make its key from what is "
            f"mapped: {remedy}"
        )


# Any: a pytree, of whatever type.
def with_leading_axes(tree: Any, count: int) -> Any:
    """A pytree in which the descriptions of state trees have so many new axes in front.

    For `jacrev`, `jacfwd` and `hessian`: a derivative has the axes of the result before
    those of the State.
    """

    def with_leading_axes_of(part: Any) -> Any:
        """One state tree with the new axes in its descriptions; any other leaf as it is."""
        if not (isinstance(part, StateTree) and any(map(has_axes, part.layout.specs))):
            return part
        layout = part.layout
        specs = tuple([with_leading(spec, count) for spec in layout.specs])
        return StateTree(
            intern_layout(
                layout.parents, layout.keys, layout.leaves, specs, layout.references
            ),
            part._values,
        )

    return jax.tree.map(
        with_leading_axes_of, tree, is_leaf=lambda part: isinstance(part, StateTree)
    )
