"""The roles of the axes of States: what they are for, by which rules of sharding say how they are laid out.

An annotation says a role as `name=size`, or by an axis whose text is one identifier. A
node that has others as its parts may know better, and says so by a method `__roles__`;
a tuple of names as the sharding of a State is the last word.

    class Linear      weight: "in=in_features out=out_features"     in, out
    class Attention   __roles__: {"query": {"in": "embed", "out": "heads"}}
    attention.query.weight                                          embed, heads
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from ._graph._binding_cache import binding_of
from ._inspect import live_objects
from ._paths import path_str
from ._reads import looked_at
from ._sharding import insert_axis
from ._state import State

# One for each axis; `None` where nothing says it.
Roles: TypeAlias = tuple[str | None, ...]
_Renames: TypeAlias = tuple[Mapping[str, str], ...]


def roles_in(root: object) -> list[Roles]:
    """The roles of the axes of each State of a graph, in layout order.

    A shared State has those of its canonical path. One that does not hold a single
    array has none.
    """
    binding = binding_of(root)
    table = binding.graphdef.table
    objects = live_objects(root, binding.graphdef)
    # Parents come before children.
    renames: list[_Renames] = []
    own: dict[int, Roles] = {}
    for number, (parent, edge) in enumerate(
        zip(table.parents, table.edges, strict=True)
    ):
        value = objects[number]
        node = objects[parent] if parent >= 0 else None
        if isinstance(value, State):
            own[id(value)] = _roles_of(
                value, node, path_str(edge), renames[parent] if node else ()
            )
            renames.append(())
            continue
        inherited = renames[parent] if parent >= 0 else ()
        renames.append((*_renames_of(node, path_str(edge)), *inherited))
    return [own[id(state)] for state in binding.states]


def _renames_of(node: Any, place: str) -> _Renames:
    """What a node says of the roles of the part at a place, if it does."""
    hook = getattr(node, "__roles__", None)
    if hook is None:
        return ()
    renames = hook().get(place)
    return () if renames is None else (renames,)


def _roles_of(state: State[Any], node: Any, place: str, renames: _Renames) -> Roles:
    """The roles of a State at a place in a node, which is a part of others."""
    rank = len(getattr(looked_at(state), "shape", ()))
    sharding: Any = state.sharding
    if type(sharding) is tuple:
        return sharding
    rank -= len(state.stacked)
    roles: Roles = (None,) * rank
    for requirement in state._contracts:
        if requirement.place == place and isinstance(node, requirement.cls):
            roles = requirement.contract.roles(rank) or roles
    for mapping in renames:
        roles = tuple(
            [None if role is None else mapping.get(role, role) for role in roles]
        )
    for axis in sorted(state.stacked):
        roles = insert_axis(roles, axis.position, axis.name)
    return roles
