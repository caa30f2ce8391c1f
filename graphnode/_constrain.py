"""How activations are laid out where a plan is active: what `gn.sharding.constrain` and the layers go by.

The plan is made and made active by `graphnode.sharding`; here is only what running code
asks, as the layers are to the left of that. Where no plan is active, nothing happens, and
what is traced is what would be traced without this module.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ._errors import listed

# What splits one axis of an array: a mesh axis, several, or none.
Entry: TypeAlias = str | tuple[str, ...] | None

# Any: JAX has no types for it.
_PartitionSpec: Final[Any] = PartitionSpec


class Activations:
    """What an active plan says of activations. Known by identity: it is part of the key of what is compiled.

    Attributes:
        mesh: The mesh of the plan.
        rules: What splits the axes of each role.
        has_default: Whether the axes of all other roles are not split.
    """

    def __init__(
        self, mesh: Mesh, rules: Mapping[str, Entry], *, has_default: bool
    ) -> None:
        self.mesh: Mesh = mesh
        self.rules: dict[str, Entry] = dict(rules)
        self.has_default: bool = has_default


ACTIVATIONS: Final[ContextVar[Activations | None]] = ContextVar(
    "ACTIVATIONS", default=None
)


def constrain(x: jax.Array, /, *roles: str | None) -> jax.Array:
    """`x`, laid out over the mesh of the active plan as the plan's rules say of activations; without a plan, `x`.

    The value, shape and dtype stay. Under `shard_map` nothing is done either: there, each
    device has its part.

    Args:
        x: An array.
        *roles: The role of each of its axes; `None` for an axis that may be laid out in
            any way.

    Raises:
        ValueError: The number of roles is not that of the axes; a role has no rule; or
            two axes are split by one mesh axis.

    Example:
        >>> gn.sharding.constrain(jnp.ones((2, 3)), "batch", "embed").shape
        (2, 3)
    """
    active = ACTIVATIONS.get()
    if active is None or _is_manual():
        return x
    if len(roles) != x.ndim:
        raise ValueError(
            f"gn.sharding.constrain: expected a role, or None, for each of the {x.ndim} axes; found {roles!r}"
        )
    missing = [
        f"the role {role!r} has no rule in activations={active.rules!r}; add one, or default=None"
        for role in roles
        if role is not None and role not in active.rules and not active.has_default
    ]
    if missing:
        raise ValueError(f"gn.sharding.constrain: {listed(missing)}")
    entries = [
        _UNCONSTRAINED if role is None else active.rules.get(role) for role in roles
    ]
    used = [name for entry in entries for name in names_of(entry)]
    if len(set(used)) < len(used):
        raise ValueError(
            f"gn.sharding.constrain: one mesh axis can split one axis of an array; {roles!r} gives {tuple(entries)!r}"
        )
    return _laid_out(x, entries, active.mesh)


def constrained(x: jax.Array, *roles: str | None) -> jax.Array:
    """For layers, which do not know which roles a plan has rules for: all other axes may be laid out in any way."""
    active = ACTIVATIONS.get()
    if active is None or _is_manual():
        return x
    sizes = dict(active.mesh.shape)
    entries: list[Any] = []
    used: set[str] = set()
    for size, role in zip(x.shape, roles, strict=True):
        entry = active.rules.get(role, _UNCONSTRAINED) if role else _UNCONSTRAINED
        names = names_of(entry)
        # A layer gets batches of every size, also of one element.
        if size % split_count(names, sizes) or used.intersection(names):
            entry = _UNCONSTRAINED
        used.update(names)
        entries.append(entry)
    return _laid_out(x, entries, active.mesh)


def placed(value: object) -> NamedSharding | None:
    """Where an array is, if a plan may have put it there: on the mesh of the active plan."""
    active = ACTIVATIONS.get()
    sharding = getattr(value, "sharding", None)
    is_placed = (
        active is not None
        and isinstance(sharding, NamedSharding)
        and sharding.mesh == active.mesh
    )
    return sharding if is_placed else None


# Any: what a State holds.
def staying(value: Any, sharding: NamedSharding | None) -> Any:
    """For `jit`: the new value of a State, laid out as the one before it was, if that was placed and fits."""
    shape: tuple[int, ...] | None = getattr(value, "shape", None)
    if sharding is None or shape is None or len(sharding.spec) > len(shape):
        return value
    entries = [*sharding.spec, *[None] * (len(shape) - len(sharding.spec))]
    sizes = dict(sharding.mesh.shape)
    if any(
        size % split_count(names_of(entry), sizes)
        for size, entry in zip(shape, entries, strict=True)
    ):
        return value
    return _laid_out(value, entries, sharding.mesh)


def leading(count: int) -> tuple[str | None, ...]:
    """For layers: the roles of the axes before the features, as far as their number tells what they are for."""
    if count < 2:
        return (None,) * count
    return ("batch", *[None] * (count - 2), "length")


def names_of(entry: object) -> tuple[str, ...]:
    """The mesh axes that split an axis."""
    if isinstance(entry, str):
        return (entry,)
    return entry if isinstance(entry, tuple) else ()


def split_count(names: Sequence[str], sizes: Mapping[str, int]) -> int:
    """Into how many parts these mesh axes split an axis."""
    count = 1
    for name in names:
        count *= sizes[name]
    return count


# Any: JAX has no type for it.
_UNCONSTRAINED: Final[Any] = PartitionSpec.UNCONSTRAINED


def _is_manual() -> bool:
    """Whether the code runs for one device, as under `shard_map`."""
    return AxisType.Manual in jax.sharding.get_abstract_mesh().axis_types


def _laid_out(x: jax.Array, entries: Sequence[Any], mesh: Any) -> jax.Array:
    """An array with its axes split so; others stay as they are, or are left to the compiler."""
    if all(entry is _UNCONSTRAINED for entry in entries):
        return x
    aval: Any = jax.typeof(x)  # JAX's stubs do not say that it has a sharding
    if AxisType.Explicit in mesh.axis_types:
        own = [*aval.sharding.spec, *[None] * (x.ndim - len(aval.sharding.spec))]
        kept = [
            before if entry is _UNCONSTRAINED else entry
            for before, entry in zip(own, entries, strict=True)
        ]
        asked = {name for entry in entries for name in names_of(entry)}
        # What is asked for wins over what was there.
        new = [
            None
            if entry is _UNCONSTRAINED and asked.intersection(names_of(now))
            else now
            for entry, now in zip(entries, kept, strict=True)
        ]
        reshard: Any = jax.reshard  # JAX has no types for it
        result: jax.Array = reshard(x, _PartitionSpec(*new))
        return result
    constraint: Any = jax.lax.with_sharding_constraint  # JAX has no types for it
    chosen: jax.Array = constraint(x, NamedSharding(mesh, _PartitionSpec(*entries)))
    return chosen
