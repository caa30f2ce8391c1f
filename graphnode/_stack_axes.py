"""Insert or remove an axis in the descriptions of States, to follow their values: in a spec, and in a graphdef.

`stack`, `vmap` and `scan` put an axis into each value and take it away again. An
explicit sharding must follow, or it would split the wrong axis; so must the named axes
of `stack(name=...)`:

    value (2, 3), sharding ("embed", "mlp")    --with_axis 0, "layers"-->
    value (5, 2, 3), sharding ("layers", "embed", "mlp"), stacked ((0, "layers"),)

Structures that have neither stay the same objects.
"""

from collections.abc import Mapping
from typing import TypeVar

from ._arguments import checked_index, wrong_argument
from ._errors import StackError
from ._graph._graphdef import GraphDef, intern_graphdef
from ._graph._table import Token
from ._sharding import insert_axis, insert_named, ranks_of, remove_axis, remove_named
from ._state import StateSpec, spec_of

N = TypeVar("N")


def with_axis(spec: StateSpec, position: int, name: str | None = None) -> StateSpec:
    """For `stack`, `gn.vmap` and `gn.scan`: the description of a State after its value got a new axis."""
    if not has_axes(spec) and name is None:
        return spec
    sharding, stacked = (
        insert_axis(spec.sharding, position, name),
        insert_named(spec.stacked, position, name),
    )
    return spec_of(spec.cls, spec.name, spec.tag, sharding, spec.metadata, stacked)


def with_leading(spec: StateSpec, count: int) -> StateSpec:
    """For derivatives such as `gn.jacrev`: the description of a State after its value got new axes in front."""
    for _ in range(count):
        spec = with_axis(spec, 0)
    return spec


def without_axis(spec: StateSpec, position: int) -> StateSpec:
    """The description of a State after its value lost an axis: the inverse of `with_axis`."""
    if not has_axes(spec):
        return spec
    sharding, stacked = (
        remove_axis(spec.sharding, position),
        remove_named(spec.stacked, position),
    )
    return spec_of(spec.cls, spec.name, spec.tag, sharding, spec.metadata, stacked)


def without_any_axes(spec: StateSpec) -> StateSpec:
    """The description of a State without sharding and named axes: equal for values that differ by axes.

    For optimizers: a State that was stacked since is still the one that it was made
    for.
    """
    if not has_axes(spec):
        return spec
    return spec_of(spec.cls, spec.name, spec.tag, None, spec.metadata)


def has_axes(spec: StateSpec) -> bool:
    """Whether a description mentions axes of the value, so that it changes with them: by a sharding, or named ones."""
    return spec.sharding is not None or bool(spec.stacked)


def mentions_axes(graphdef: GraphDef[object]) -> bool:
    """Whether any State's description mentions axes: by an explicit sharding, or axes that `stack(name=...)` named.

    If none does, the graphdef stays as it is where values get or lose an axis.
    """
    return any([has_axes(spec) for spec, *_ in graphdef.assembly.states])


def position_of(axis: int, value: object, more: int = 0) -> int | None:
    """The position of an axis in the arrays of a value, counted from the front; `None` if it differs between them.

    A sharding names axes from the front, and holds for all arrays of a value.

    Args:
        axis: The axis; negative counts from the end.
        value: A pytree of arrays.
        more: How many axes the arrays are yet to get.
    """
    if axis >= 0:
        return axis
    # Arrays of different ranks end at different positions.
    positions = {axis + rank + more for rank in ranks_of(value)}
    return positions.pop() if len(positions) == 1 else None


def checked_position(axis: int, value: object, where: str, more: int = 0) -> int:
    """The position of an axis in the arrays of a State, from the front, where its description mentions axes.

    Args:
        axis: The axis; negative counts from the end.
        value: The value of the State.
        where: The path of the State, for the message.
        more: How many axes the arrays are yet to get.

    Raises:
        StackError: The axis is at several positions.
    """
    position = position_of(axis, value, more)
    if position is None:
        raise StackError(
            f"{where}: axis {axis} stands at several positions in the arrays of its value, and its sharding holds for "
            "all of them: count the axis from the front"
        )
    return position


def with_specs(graphdef: GraphDef[N], specs: Mapping[int, StateSpec]) -> GraphDef[N]:
    """A structure with other descriptions of some States.

    For `stack`, `gn.vmap` and `gn.scan`, where the values of these States got or lost
    an axis.

    Args:
        graphdef: The structure.
        specs: The new descriptions, each by the number of its State in layout order.
    """
    at = -1
    tokens: list[Token] = []
    for token in graphdef.tokens:
        # A State has its description as a token where it is met first, so in layout
        # order.
        if isinstance(token, StateSpec):
            at += 1
            token = specs.get(at, token)
        tokens.append(token)
    return intern_graphdef(tuple(tokens))


def without_axes(graphdef: GraphDef[N], positions: Mapping[int, int]) -> GraphDef[N]:
    """For `unstack` and `member_graphdef`: the structure after some States lost an axis.

    Args:
        graphdef: The structure before.
        positions: The position of the axis in each of these States, by its number in layout order.
    """
    specs = graphdef.layout.specs
    return with_specs(
        graphdef,
        {number: without_axis(specs[number], at) for number, at in positions.items()},
    )


def member_graphdef(graphdef: GraphDef[N], /, axis: int = 0) -> GraphDef[N]:
    """The structure of one member of a stacked node: what plain `jax.vmap` and `jax.lax.scan` show their function.

    `gn.stack` puts its axis into explicit shardings, and records its name if it has
    one; this takes it off. `gn.vmap` and `gn.scan` do so by themselves. A structure
    that says nothing of axes is its own member's.

    Args:
        graphdef: The structure of a node that `stack`, or `gn.vmap` of a function that
            builds one, has made.
        axis: The position of the axis in every array, counted from the front.

    Returns:
        The graphdef that each member has, or had before it was stacked.

    Raises:
        TypeError: `graphdef` is not a GraphDef.
        StackError: `axis` is negative: a structure does not say how many axes its
            arrays have.

    Example:
        >>> ones = jax.nn.initializers.ones
        >>> class Affine(gn.Node):
        ...     width: int
        ...     weight: gn.ParamState[Float[Array, "width"]] = gn.state(ones, sharding=jax.P("data"))
        >>> graphdef, params = gn.treefy_split(gn.stack([Affine(3), Affine(3)], name="layers"))
        >>> member = gn.member_graphdef(graphdef)
        >>> member is gn.graphdef(Affine(3))
        True
        >>> jax.vmap(lambda params: gn.treefy_merge(member, params).weight.value.sum())(params).shape
        (2,)

    See also: `stack`.
    """
    if not isinstance(graphdef, GraphDef):
        raise TypeError(wrong_argument("a GraphDef first", graphdef))
    axis = checked_index("gn.member_graphdef", "axis", axis)
    if axis < 0:
        raise StackError(
            f"member_graphdef: a structure does not say how many axes its arrays have; found axis {axis}: count the "
            "axis from the front"
        )
    if not mentions_axes(graphdef):
        return graphdef
    positions = dict.fromkeys(range(len(graphdef.layout)), axis)
    return graphdef.plans.to(
        ("member_graphdef", axis), lambda: without_axes(graphdef, positions)
    )
