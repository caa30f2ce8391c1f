"""`Rules`: which mesh axes split the axes of each role."""

from collections.abc import Mapping
from typing import Any, Final

from jax.sharding import PartitionSpec

from .._arguments import wrong_argument
from .._constrain import Entry
from .._errors import listed
from .._filters import Paths
from .._state import State


class _Missing:
    """Nothing was said; `None` says that an axis is not split."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class Rules:
    """Which mesh axes split the axes of each role, for the States of a model and for activations.

    For each axis of a State, the first of these that says something counts: the State's
    own `jax.P(...)`, a rule for its path, one for its class, one for the role, `default`.

    Args:
        params: For States. From a role to a mesh axis, to a tuple of them, or to `None`
            for an axis that is not split; from paths (`gn.PathIn`, `gn.Under`) or a
            class, of States or of the nodes that they are fields of, to such a mapping
            or to a `jax.P(...)`.
        activations: From roles to mesh axes, for `constrain` and for the layers.
        states: For States of other classes, as for a class in `params`: the memory of an
            optimizer is laid out as the parameters are, but for what is said here.
        default: `None` if what has no rule is not split; left out, that is a fault.

    Raises:
        TypeError: A key or a value is something else; names all.

    Example:
        >>> gn.sharding.Rules(params={"embed": "data", "mlp": "model"}, default=None)
        Rules(params={'embed': 'data', 'mlp': 'model'}, default=None)
    """

    # Any: keys are of several kinds, and a mapping takes no keys but of its own type.
    def __init__(
        self,
        *,
        params: Mapping[Any, Any] | None = None,
        activations: Mapping[str, Entry] | None = None,
        states: Mapping[type[State[Any]], Mapping[str, Entry]] | None = None,
        default: Any = MISSING,
    ) -> None:
        for name, rules in (
            ("params", params),
            ("activations", activations),
            ("states", states),
        ):
            if rules is not None and not isinstance(rules, Mapping):
                takes = f"a mapping of rules as {name}"
                raise TypeError(wrong_argument(takes, rules, "gn.sharding.Rules"))
        self.params: dict[Any, Any] = dict(params or {})
        self.activations: dict[str, Entry] = dict(activations or {})
        self.states: dict[type[State[Any]], Mapping[str, Entry]] = dict(states or {})
        self.default: Any = default
        faults = [
            *_faults("params", self.params, is_scoped=True),
            *_faults("activations", self.activations, is_scoped=False),
            *_faults("states", self.states, is_scoped=True),
        ]
        if default is not MISSING and default is not None:
            faults.append(f"default: expected None; found {default!r}")
        if faults:
            raise TypeError(f"gn.sharding.Rules: {listed(faults)}")

    def __repr__(self) -> str:
        parts = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name != "default" and value
        ]
        if self.default is not MISSING:
            parts.append(f"default={self.default!r}")
        return f"Rules({', '.join(parts)})"


def _faults(where: str, rules: Mapping[Any, Any], *, is_scoped: bool) -> list[str]:
    """What is wrong with rules: with their keys, and with what they say."""
    faults: list[str] = []
    for key, value in rules.items():
        place = f"{where}[{key!r}]"
        if isinstance(key, str) and key:
            if not _is_entry(value):
                faults.append(
                    f"{place}: expected a mesh axis, a tuple of them or None; found {value!r}"
                )
        elif not is_scoped or not isinstance(key, (type, Paths)):
            expected = (
                "a role, gn.PathIn, gn.Under or a class" if is_scoped else "a role"
            )
            faults.append(f"{place}: expected {expected}")
        elif isinstance(value, Mapping):
            faults += _faults(place, value, is_scoped=False)
        elif not isinstance(value, PartitionSpec):
            faults.append(
                f"{place}: expected a mapping from roles, or jax.P(...); found {value!r}"
            )
    return faults


def _is_entry(value: object) -> bool:
    """Whether a value says what splits an axis."""
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(name, str) and name for name in value)
    return value is None or (isinstance(value, str) and value != "")
