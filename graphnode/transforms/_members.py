"""The members of what a transform maps: an axis less in the descriptions of what goes in, one more in what comes out.

`vmap` and `scan` show their function one member at a time. So explicit shardings and named axes lose the mapped axis on
the way in, and the nodes that the function makes get one on the way out. There, a random stream must differ from member
to member, too: equal ones would draw the same numbers in all.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import jax
from jax.sharding import PartitionSpec
from jax.tree_util import keystr

from .._compat import is_mapped, varying_axes
from .._convert import NodeStates, is_node_states, spread
from .._errors import StackError, listed
from .._graphdef import GraphDef
from .._layout import intern_layout
from .._paths import path_str
from .._rngs import RngKey
from .._state import StateSpec
from .._state_axes import checked_position, has_axes, mentions_axes, with_axis, with_leading, with_specs, without_axes
from .._statetree import StateTree
from ._boundary import Call, Form, Outcome, Pure, Values, Written

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


def member_form(call: Call, axes: Sequence[Any]) -> Form:
    """The form of a call as its function sees it: without the mapped axis in the descriptions of its States.

    Args:
        call: The call.
        axes: The axis of each State; what is no integer is not mapped.

    Raises:
        StackError: An axis that counts from the end stands at several positions in the arrays of one State.
    """
    form = call.form
    graphdef = form.graphdef
    if not mentions_axes(graphdef):
        return form
    positions = {
        number: checked_position(axis, value, call.where(number))
        for number, (axis, value, spec) in enumerate(zip(axes, call.values, graphdef.layout.specs, strict=True))
        if isinstance(axis, int) and has_axes(spec)
    }
    return dataclasses.replace(form, graphdef=without_axes(graphdef, positions))


class Made(NamedTuple):
    """A State that a function has made and returns in a node.

    Attributes:
        number: Its number in layout order, the caller's States first.
        spec: Its description.
        value: Its value.
        axis: The axis that it gets; `None` for none.
        where: Its name in a message.
    """

    number: int
    spec: StateSpec
    value: Any
    axis: Any
    where: str


def made_in(result: Any, out_axes: Any, count: int) -> list[Made]:
    """The States that a function has made and returns in nodes, with the axes that they get.

    Args:
        result: What the function gives, with `NodeStates` in place of nodes.
        out_axes: A pytree prefix of it.
        count: How many States the caller has.
    """
    treedef: Any  # JAX's stubs give treedefs no methods
    pairs, treedef = jax.tree_util.tree_flatten_with_path(result, is_leaf=is_node_states)
    if not any(is_node_states(leaf) for _, leaf in pairs):
        return []
    axes = jax.tree.unflatten(jax.tree.structure(result), spread(out_axes, result))
    made: list[Made] = []
    for (key_path, leaf), its_axes in zip(pairs, treedef.flatten_up_to(axes), strict=True):
        if isinstance(leaf, NodeStates):
            name = f"result{keystr(key_path)}"
            made += [state for state in _states_of(name, leaf, its_axes) if state.number >= count]
    return made


def _states_of(name: str, part: NodeStates, axes: NodeStates) -> Iterator[Made]:
    found = part.graphdef.layout.below(part.place)
    if found is None:
        return
    layout, first = found
    for at, (spec, value, axis) in enumerate(zip(layout.specs, part.states._values, axes.states._values, strict=True)):
        # Of a value that is a pytree, all arrays have the axis of the node.
        axis_of_all = next(iter(jax.tree.leaves(axis, is_leaf=lambda one: one is None)), None)
        yield Made(first + at, spec, value, axis_of_all, f"{name}.{path_str(layout.path(at))}".rstrip("."))


def with_result_axes(result: Any, made: Sequence[Made]) -> Any:
    """The result with the new axis in the descriptions of the States that the function has made.

    Args:
        result: What the function gives, or gave: `NodeStates` in place of nodes.
        made: The States that it has made. An axis that counts from the end is yet to come to their values.

    Raises:
        StackError: An axis that counts from the end stands at several positions in the arrays of one State.
    """
    specs: dict[int, StateSpec] = {}
    for one in made:
        if isinstance(one.axis, int) and has_axes(one.spec):
            position = checked_position(one.axis, one.value, one.where, more=1)
            specs[one.number] = with_axis(one.spec, position)
    if not specs:
        return result
    leaves, treedef = jax.tree.flatten(result, is_leaf=is_node_states)
    graphdef = with_specs(next(leaf.graphdef for leaf in leaves if is_node_states(leaf)), specs)
    moved = [_moved(leaf, graphdef) if isinstance(leaf, NodeStates) else leaf for leaf in leaves]
    return jax.tree.unflatten(treedef, moved)


def _moved(part: NodeStates, graphdef: GraphDef[Any]) -> NodeStates:
    """A part of a graph as one of the same graph with other descriptions."""
    found = graphdef.layout.below(part.place)
    states = part.states if found is None else StateTree(found[0], part.states._values)
    return NodeStates(graphdef, part.place, states)


@dataclasses.dataclass(frozen=True, slots=True)
class Lane:
    """A pure function as `jax.vmap` maps it: the nodes that it makes get the axis, and their streams depend on it.

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

    def __call__(self, values: Values, rest: Sequence[Any]) -> Outcome:
        """Call the function, in the trace of `jax.vmap`.

        Raises:
            StackError: Streams that it gives are the same in all lanes; names all of them.
        """
        written, given, result = self.pure(values, rest)
        made = made_in(result, self.out_axes, len(values))
        keys = [(one.where, one.value) for one in made if isinstance(one.axis, int) and is_key(one.spec)]
        keys += [(self.pure.where(number), key) for number, key in written_keys(self.pure, written, given)]
        refuse_constant("vmap", [where for where, key in keys if not is_mapped(key)])
        return written, given, with_result_axes(result, made)


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

    def __call__(self, values: Values, rest: Sequence[Any]) -> Outcome:
        """Call the function, in the trace of `jax.shard_map`.

        Raises:
            StackError: Streams that it gives are the same in several shards; names all of them.
        """
        written, given, result = self.pure(values, rest)
        keys = [
            (state.where, state.value, state.axis)
            for state in made_in(result, self.out_specs, len(values))
            if is_key(state.spec)
        ]
        keys += [
            (self.pure.where(number), key, self.specs[number])
            for number, key in written_keys(self.pure, written, given)
        ]
        refuse_constant("shard_map", [where for where, key, spec in keys if not _varies_along(key, spec)])
        return written, given, result


def _varies_along(key: jax.Array, spec: PartitionSpec) -> bool:
    """Whether a key may differ along all axes of the mesh that a partition spec names."""
    return varying_axes(key).issuperset(jax.tree.leaves(tuple(spec)))


def is_key(spec: StateSpec) -> bool:
    """Whether a State is the key of a random stream."""
    return issubclass(spec.cls, RngKey)


def written_keys(pure: Pure, written: Written, given: Sequence[Any]) -> list[tuple[int, Any]]:
    """The keys of streams that a function has written, with the numbers of their States."""
    specs = pure.form.graphdef.layout.specs
    return [
        (number, value)
        for number, value in zip(written.numbers, given, strict=True)
        if number not in written.untouched and is_key(specs[number])
    ]


def refuse_constant(transform: str, names: Sequence[str]) -> None:
    """Raise if there are keys that are the same for all members.

    Raises:
        StackError: There are; names all of them.
    """
    if names:
        axis, remedy = _REMEDIES[transform]
        faults = listed([f"{name} does not depend on {axis}" for name in names])
        separator = ": " if len(names) == 1 else "\n"
        raise StackError(
            f"gn.{transform}: {faults}{separator}all members would draw the same numbers. Make its key from what is "
            f"mapped: {remedy}"
        )


# Any: a pytree, of whatever type.
def with_leading_axes(tree: Any, count: int) -> Any:
    """A pytree in which the descriptions of state trees have so many new axes in front."""

    def moved(part: Any) -> Any:
        if not (isinstance(part, StateTree) and any(map(has_axes, part.layout.specs))):
            return part
        layout = part.layout
        specs = tuple([with_leading(spec, count) for spec in layout.specs])
        return StateTree(
            intern_layout(layout.parents, layout.keys, layout.leaves, specs, layout.references), part._values
        )

    return jax.tree.map(moved, tree, is_leaf=lambda part: isinstance(part, StateTree))
