"""What a transformed function wrote: which States hold another value than before, and the values as they go on.

What was written is found by identity: a State that holds another object than it was
given. A container may have been changed in place, so that its leaves are compared, too.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._compat import PLAIN
from .._errors import ConfigError
from .._exporting import loads, register_export
from .._state import State
from ._arguments import Values


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a pure function gives beside arrays; static to JAX.

    Attributes:
        numbers: The States whose values it gives, by their number among those of the
            arguments.
        unchanged: Those of them that it did not write.
        containers: Those of them that hold containers afterwards.
        has_nodes: Whether there are nodes in its result.
        reshaped: Those of them that it gave another structure, shape or dtype; none
            where a transform forbids that.
    """

    numbers: tuple[int, ...]
    unchanged: frozenset[int]
    containers: frozenset[int]
    has_nodes: bool
    reshaped: frozenset[int] = frozenset()

    @property
    def changed(self) -> tuple[int, ...]:
        """The States that the function wrote, among `numbers`, where a transform has all of them returned."""
        return tuple([n for n in self.numbers if n not in self.unchanged])


jax.tree_util.register_static(Written)


def _to_json(written: Written) -> str:
    """What a pure function gives beside arrays, as JSON for `jax.export`."""
    fields = dataclasses.asdict(written)
    numbers = {
        name: value if isinstance(value, bool) else sorted(value)
        for name, value in fields.items()
    }
    # In order, as these are the values that it gives
    return json.dumps({**numbers, "numbers": written.numbers})


def _from_json(text: str) -> Written:
    """The inverse of `_to_json`.

    Raises:
        ConfigError: The text is no such JSON.
    """
    data = loads(text, Written)
    fields = [field.name for field in dataclasses.fields(Written)]
    if not isinstance(data, dict) or sorted(data) != sorted(fields):
        raise ConfigError([f"a Written has {', '.join(fields)}"])
    has_nodes = data.pop("has_nodes")
    faults = [
        f"{name}: expected a list of numbers of States"
        for name, value in data.items()
        if not isinstance(value, list) or not all(map(_is_number, value))
    ]
    if not isinstance(has_nodes, bool):
        faults.append("has_nodes: expected true or false")
    if faults:
        raise ConfigError(faults)
    sets = {name: frozenset(value) for name, value in data.items() if name != "numbers"}
    return Written(numbers=tuple(data["numbers"]), has_nodes=has_nodes, **sets)


def _is_number(value: object) -> bool:
    """Whether a value is the number of a State."""
    return type(value) is int and value >= 0


register_export(Written, _to_json, _from_json)


def as_arrays(value: Any) -> Any:
    """What a transformation gives for a State, with arrays of JAX alone.

    Eager ones hand on what they were given and nobody computed with: the caller's own
    buffer of NumPy, a number, or JAX's private stand-ins for both.
    """
    # The exact types of JAX's own arrays: a tracer, or a stand-in that passes
    # `isinstance`, goes the long way.
    if type(value) in PLAIN:
        return value
    return jax.tree.map(
        lambda leaf: leaf if _is_array(leaf) else jnp.array(leaf), value
    )


def _is_array(value: Any) -> bool:
    """Whether a value is one array of JAX, traced or not, and no container."""
    return isinstance(value, jax.Array)


class Before(NamedTuple):
    """The values of some States at one time, to know which are written afterwards."""

    values: Values
    flattened: Sequence[tuple[list[Any], Any] | None]

    @classmethod
    def of(cls, values: Values) -> "Before":
        """Taken before the function runs: containers are taken apart, as they may be changed in place."""
        return cls(
            values,
            [None if _is_array(value) else jax.tree.flatten(value) for value in values],
        )

    def written(self, states: Sequence[State[Any]]) -> list[int]:
        """The numbers of the States that hold another value now."""
        rows = enumerate(zip(states, self.values, self.flattened, strict=True))
        return [
            number
            for number, (state, value, parts) in rows
            if _is_written(state._value, value, parts)
        ]


def _is_written(now: Any, value: Any, before: tuple[list[Any], Any] | None) -> bool:
    """Whether a State holds another value than it was given; a pytree may have been changed in place."""
    # Identity, as values may be traced, and cannot be compared then. An equal value
    # that was written counts as written.
    if before is None:
        return now is not value
    leaves, treedef = jax.tree.flatten(now)
    # Leaf by leaf against those of before: the container itself may be the same object.
    return treedef != before[1] or any(
        new is not old for new, old in zip(leaves, before[0], strict=True)
    )


def is_reshaped(now: Any, before: Any) -> bool:
    """Whether a value has another structure, shape or dtype than the one before: only then can it break a contract."""
    if _is_array(now) and _is_array(before):
        return bool(now.shape != before.shape or now.dtype != before.dtype)
    return bool(kind_of_value(now) != kind_of_value(before))


def kind_of_value(value: Any) -> Any:  # Any: JAX's stubs give treedefs no equality
    """The structure of a value, with the shapes and dtypes in it: what a State keeps in a loop."""
    leaves, treedef = jax.tree.flatten(value)
    return treedef, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def settled(now: Any, before: Any) -> Any:
    """A value as its State goes on holding it.

    A number of weak type takes the dtype that it would keep anyway, so that the next
    call meets the trace of this one.
    """
    # Of another structure, there is no leaf of before to compare with.
    if now is before or jax.tree.structure(now) != jax.tree.structure(before):  # type: ignore[operator]  # JAX's stubs
        return now
    return jax.tree.map(_settled_leaf, now, before)


def _settled_leaf(now: Any, before: Any) -> Any:
    """A leaf as its State goes on holding it: of strong type, if the one that it replaces was.

    A leaf of another shape or dtype is left as it is: it is no longer the same type.
    """
    is_settled = not _is_weak(now) or _is_weak(before)
    if (
        is_settled
        or jnp.shape(now) != jnp.shape(before)
        or jnp.result_type(now) != jnp.result_type(before)
    ):
        return now
    return jnp.asarray(now, dtype=before.dtype)


def _is_weak(leaf: Any) -> bool:
    """Whether the dtype of a leaf gives way to that of others: as of a Python number."""
    return bool(getattr(leaf, "weak_type", isinstance(leaf, int | float | complex)))
