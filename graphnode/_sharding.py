"""Shardings of States: which are valid, and how they follow when a value gets or loses an axis.

`jax.P(...)` names mesh axes; a tuple of strings and `None` names roles, one for each
axis of the value. Anything else is refused where it is declared: when the value is laid
out over devices, it would be found much later, or never.

    value (2, 3)       jax.P(None, "model")          ("embed", "mlp")
    + axis "layers"    jax.P(None, None, "model")    ("layers", "embed", "mlp")
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import jax
from jax.sharding import NamedSharding, PartitionSpec

from ._hints import cut

# Any: JAX has no types for it.
_PartitionSpec: Final[Any] = PartitionSpec

# The ranks of the arrays in a value; empty where they are not known.
Ranks: TypeAlias = frozenset[int]
ANY_RANK: Final[Ranks] = frozenset()


class NamedAxis(NamedTuple):
    """An axis that `gn.stack(name=...)` gave to the value of a State.

    Attributes:
        position: Its position in the arrays of the value.
        name: Its role, such as "layers".
    """

    position: int
    name: str


def ranks_of(value: object) -> Ranks:
    """The ranks of the arrays in a value, which a sharding has to fit."""
    return frozenset(
        [len(leaf.shape) for leaf in jax.tree.leaves(value) if hasattr(leaf, "shape")]
    )


def sharding_fault(sharding: object, ranks: Ranks = ANY_RANK) -> str | None:
    """What is wrong with a sharding, and what to write instead; `None` for a valid one.

    For declarations and for States that are made: JAX itself would refuse it much
    later, or never.

    Args:
        sharding: The value of the argument.
        ranks: The ranks of the arrays that it is for.
    """
    if sharding is None:
        return None
    if isinstance(sharding, PartitionSpec):
        return _mesh_axes_fault(sharding, ranks)
    if type(sharding) is tuple:
        return _roles_fault(sharding, ranks)
    return f"{cut(repr(sharding))} is not a sharding: {_remedy(sharding)}"


def _mesh_axes_fault(spec: Any, ranks: Ranks) -> str | None:
    """What is wrong with a partition spec for some ranks, and what would do; `None` if nothing."""
    names = list(_mesh_axes(spec))
    wrong = [name for name in names if not _is_name(name)]
    if wrong:
        remedy = "write a name, a tuple of names or None for each axis"
        return f"{wrong[0]!r} in {_spec_text(spec)} is not a mesh axis: {remedy}"
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        return f"the mesh axis {repeated[0]!r} stands twice in {_spec_text(spec)}: it can split one axis of an array"
    # A shorter one is fine: it does not split the last axes.
    if ranks and len(spec) > max(ranks):
        fitting = _PartitionSpec(*list(spec)[: max(ranks)])
        what = f"{_spec_text(spec)} is for {_axes_text(len(spec))}"
        return f"{what}, {_ranks_text(ranks)}: write {_spec_text(fitting)}"
    return None


def _roles_fault(roles: tuple[object, ...], ranks: Ranks) -> str | None:
    """What is wrong with a tuple of roles for some ranks, and what would do; `None` if nothing."""
    wrong = [role for role in roles if role is not None and not _is_name(role)]
    if wrong:
        return f"{wrong[0]!r} in {roles!r} is not a role: write a name or None for each axis"
    # Roles name every axis: a shorter row would not say which axes it is for.
    if ranks and len(roles) not in ranks:
        rank = max(ranks)
        fitting = (*roles[:rank], *[None] * (rank - len(roles)))
        return f"{roles!r} has roles for {_axes_text(len(roles))}, {_ranks_text(ranks)}: write {fitting!r}"
    return None


def _mesh_axes(spec: Any) -> Iterator[object]:
    """The mesh axes in a partition spec, in order, to be checked; an array's axis may be split by several."""
    for entry in spec:
        if isinstance(entry, tuple):
            yield from entry
        elif entry is not None and entry is not PartitionSpec.UNCONSTRAINED:
            yield entry


def _is_name(value: object) -> bool:
    """Whether a value can name a mesh axis or a role."""
    return isinstance(value, str) and value != ""


def _axes_text(count: int) -> str:
    """A number of axes as a text: `1 axis`, `2 axes`."""
    return "1 axis" if count == 1 else f"{count} axes"


def _ranks_text(ranks: Ranks) -> str:
    """For a message: `and the array has 2 axes`, or which ranks there are."""
    if len(ranks) > 1:
        return f"and the arrays have ranks {', '.join(map(str, sorted(ranks)))}"
    return f"and the array has {_axes_text(max(ranks))}"


def _remedy(sharding: object) -> str:
    """What to write instead of a value that is not a sharding."""
    if isinstance(sharding, NamedSharding):
        return f"the mesh is chosen later; write its spec, {_spec_text(sharding.spec)}"
    names = [sharding] if isinstance(sharding, str) else sharding
    entries = names if isinstance(names, list) else []
    if entries and all(entry is None or _is_name(entry) for entry in entries):
        return f"write {_spec_text(_PartitionSpec(*entries))} for mesh axes, or {tuple(entries)!r} for roles"
    return (
        "write jax.P(...) for mesh axes, or a tuple with a role or None for each axis"
    )


def _spec_text(spec: Any) -> str:
    """A partition spec as users write it, whatever the version of JAX."""
    return f"jax.P({', '.join(map(repr, spec))})"


# Any: of a sharding, as in what follows; a State only knows that it is hashable.
def insert_axis(sharding: Any, position: int, name: str | None = None) -> Any:
    """The sharding of a value with a new axis, which no mesh axis splits; among roles it has its name.

    For States that are stacked, forked, or made in a loop: the old sharding would name
    the wrong axes.

    Example:
        >>> insert_axis(("embed", "mlp"), 0, "layers")
        ('layers', 'embed', 'mlp')
    """
    # A spec may be shorter than the rank: axes after its end are not split anyway.
    if isinstance(sharding, PartitionSpec) and position < len(sharding):
        return _with_entries(
            sharding, [*list(sharding)[:position], None, *list(sharding)[position:]]
        )
    if type(sharding) is tuple:
        return (*sharding[:position], name, *sharding[position:])
    return sharding


def remove_axis(sharding: Any, position: int) -> Any:
    """For members of a stack: the sharding of a value without one of its axes, the inverse of `insert_axis`."""
    if isinstance(sharding, PartitionSpec):
        return _with_entries(sharding, _without(list(sharding), position))
    return tuple(_without(sharding, position)) if type(sharding) is tuple else sharding


def _without(entries: Sequence[Any], position: int) -> list[Any]:
    """For `remove_axis`: entries without the one at a position; all if they are fewer, as a spec may be shorter."""
    return [entry for at, entry in enumerate(entries) if at != position]


def _with_entries(spec: Any, entries: Sequence[Any]) -> Any:
    """A partition spec with other entries; what it says beside them, reductions over mesh axes, stays."""
    return _PartitionSpec(*entries, unreduced=spec.unreduced, reduced=spec.reduced)


def insert_named(
    stacked: Sequence[NamedAxis], position: int, name: str | None
) -> tuple[NamedAxis, ...]:
    """For `with_axis`: the named axes of a value after it got a new axis, which moves those behind it.

    Args:
        stacked: The named axes before.
        position: Where the new axis is.
        name: Its name; without one it is not listed.
    """
    axes = [NamedAxis(at + (at >= position), other) for at, other in stacked]
    if name is not None:
        axes.append(NamedAxis(position, name))
    return tuple(sorted(axes))


def remove_named(stacked: Sequence[NamedAxis], position: int) -> tuple[NamedAxis, ...]:
    """For `without_axis`: the named axes of a value after it lost an axis, which moves those behind it."""
    return tuple(
        [
            NamedAxis(at - (at > position), name)
            for at, name in stacked
            if at != position
        ]
    )
