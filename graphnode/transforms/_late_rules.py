"""Changes that are part of what was traced, inside of functions with rules of their own, which JAX traces later.

    rule(net, x)                    equation of JAX: the function, which calls net.lin, changed
      │ differentiated later        fwd, or the rule of `custom_jvp`, is traced then, when no watch is
      ▼                             open: it calls net.lin as it is
    another result, silently        so it raises, unless it has the change, too

What is differentiated while the watch is open is no such equation: there the rule has
been traced with the change.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .._compat import (
    LATE_RULES,
    Tap,
    checked_rule,
    jaxprs_in,
    map_equations,
    map_jaxprs,
    tap_of,
    tapped,
)
from ._choice import Place


class Notes:
    """Where something was changed in one trace.

    JAX may keep a tap, and so these, long after: they hold no function and no array.

    Attributes:
        places: The node, by the tap on what was changed.
    """

    def __init__(self) -> None:
        self.places: dict[Tap, Place] = {}

    def note(self, place: Place, arrays: Sequence[Any]) -> list[Any]:
        """Arrays in the place of what a node gives: the same, with a tap."""
        tap = Tap(self)
        self.places[tap] = place
        return tapped(arrays, tap, notes=True)

    def taps_in(self, jaxpr: Any) -> list[Tap]:
        """The taps in a jaxpr, closed or not."""
        equations = getattr(jaxpr, "jaxpr", jaxpr).eqns
        return [tap for equation in equations for tap in self.taps_at(equation)]

    def taps_at(self, equation: Any) -> list[Tap]:
        """The tap that an equation is, or those that it has inside."""
        tap = tap_of(equation)
        if tap is None:
            return [tap for jaxpr in jaxprs_in(equation) for tap in self.taps_in(jaxpr)]
        return [tap] if tap.owner is self else []


# From a node and the name of the primitive that it is called in to the error that is raised.
Refusal: TypeAlias = Callable[[Place, str], Exception]


def with_late_rules_checked(jaxpr: Any, notes: Notes, refusal: Refusal) -> Any:
    """A jaxpr in which a rule raises that does not have a change which the function of the rule has.

    Args:
        jaxpr: A jaxpr, closed or not.
        notes: Where something was changed.
        refusal: Makes the error.
    """

    def of_equation(equation: Any) -> Any:
        """The same of an equation."""
        taps = notes.taps_at(equation)
        if not taps or tap_of(equation) is not None:
            return equation
        name = equation.primitive.name
        if name in LATE_RULES:
            error = refusal(notes.places[taps[0]], name)
            equation = checked_rule(equation, _check_of(notes, error))
        return map_jaxprs(equation, of_jaxpr)

    def of_jaxpr(jaxpr: Any) -> Any:
        """The same of a jaxpr in an equation."""
        return map_equations(jaxpr, of_equation)

    return of_jaxpr(jaxpr)


def _check_of(notes: Notes, error: Exception) -> Callable[[Any], None]:
    """What raises an error where the jaxpr of a rule has no change."""
    # Not the error itself, which would keep the frames of where it was raised.
    cls, text = type(error), str(error)

    def check(jaxpr: Any) -> None:
        """The check of one rule; those of `jax.lax.custom_root` were traced before, and have it."""
        if jaxpr is None or not notes.taps_in(jaxpr):
            raise cls(text)

    return check
