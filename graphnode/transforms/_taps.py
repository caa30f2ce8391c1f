"""`Tapped`: a jaxpr with taps, as a program that also gives what flows through them, or takes what is put there.

A tap is an identity that a trace has put on some arrays (`_compat.tapped`). The jaxpr is
evaluated equation by equation, so that all else in it stays what it is. An equation with
taps inside is made anew, with what flows there as further outputs:

    jit, checkpoint        further outputs, and inputs
    scan                   further outputs with an axis more, and items
    custom_jvp, custom_vjp computed once more beside, without its rule
    while, cond, others    refused
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import jax

from .._compat import (
    UNSPECIFIED,
    Tap,
    bind_again,
    evaluate_jaxpr,
    jaxpr_as_fun,
    jaxprs_in,
    scan_counts,
    stacked_aval,
    tap_of,
)

# In place of the name of a primitive: the tap is computed again, and it is not known for which call.
AGAIN: Final = "again"

# The arrays at one tap, or those of several.
Arrays: TypeAlias = Sequence[Any]


class Found(NamedTuple):
    """One tap of a jaxpr, as often as the program passes it.

    Attributes:
        tap: The tap.
        avals: The types of the arrays there, as JAX knows them, with an axis for each loop around.
        is_put: Whether arrays are to be put there, in the place of others or added.
        is_again: Whether it is what a backward pass computes a second time.
    """

    tap: Tap
    avals: tuple[Any, ...]  # Any: JAX's own
    is_put: bool
    is_again: bool


class Refused(Exception):
    """A tap stands where what flows through it cannot be had."""

    def __init__(self, tap: Tap, primitive: str) -> None:
        super().__init__()
        self.tap, self.primitive = tap, primitive


class Tapped:
    """The program of a jaxpr without its taps, which takes what is put there, and gives what is taken.

    Attributes:
        taken: The taps whose arrays it gives, in the order of the program.
        put: Those whose arrays it takes, in that order.
    """

    def __init__(self, jaxpr: Any, owner: object) -> None:
        """Look for taps, and make the program.

        Args:
            jaxpr: A closed jaxpr.
            owner: Whose taps are meant.

        Raises:
            Refused: One stands where it is of no use.
        """
        taps = _taps_in(jaxpr, owner)
        self.taken: list[Found] = [found for found in taps if not found.is_put]
        changed = [found for found in taps if found.is_put]
        self.put: list[Found] = [found for found in changed if not found.is_again]
        sources = _sources(changed)

        def run(
            arguments: Arrays, put: Sequence[Arrays]
        ) -> tuple[Arrays, list[Arrays]]:
            """What is traced: the equations, with what is put and taken."""
            everywhere = [put[source] for source in sources]
            return _evaluated(jaxpr, arguments, everywhere, owner)

        put = [found.avals for found in self.put]
        # Once: JAX knows by its identity what it has compiled of a loop inside.
        program, shapes = jax.make_jaxpr(run, return_shape=True)(jaxpr.in_avals, put)
        self._evaluate = jaxpr_as_fun(program)
        self._treedef = jax.tree.structure(shapes)

    def __call__(
        self, arguments: Arrays, put: Sequence[Arrays] = ()
    ) -> tuple[list[Any], list[Arrays]]:
        """The outputs of the program, and the arrays at the taps.

        Args:
            arguments: Those of the jaxpr.
            put: What is put at each tap that replaces.
        """
        outputs = self._evaluate(*arguments, *jax.tree.leaves(put))
        return jax.tree.unflatten(self._treedef, outputs)  # type: ignore[no-any-return]  # as `run` gives


def _taps_in(jaxpr: Any, owner: object) -> list[Found]:
    """The taps of a jaxpr, in the order of the program."""
    taps: list[Found] = []
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        tap = tap_of(equation)
        if tap is not None and tap.owner is owner:
            avals = tuple([variable.aval for variable in equation.outvars])
            params = equation.params
            is_put = params["replaces"] or params["adds"]
            taps.append(Found(tap, avals, is_put, params["is_again"]))
        elif tap is None:
            taps += _taps_inside(equation, owner)
    return taps


def _sources(changed: Sequence[Found]) -> list[int]:
    """The number, among the first evaluations, of the one that each evaluation of a tap belongs to.

    What is put at a tap is put wherever it is computed again, too.

    Raises:
        Refused: It cannot be known: JAX has one tap for several calls of a function that
            it has traced once.
    """
    first = [found for found in changed if not found.is_again]
    numbers = iter(range(len(first)))
    return [
        _number_of_first(found, first) if found.is_again else next(numbers)
        for found in changed
    ]


def _number_of_first(again: Found, first: Sequence[Found]) -> int:
    """For `_sources`: that of what a backward pass computes again."""
    same = [number for number, found in enumerate(first) if found.tap is again.tap]
    if len(same) != 1 or first[same[0]].avals != again.avals:
        raise Refused(again.tap, AGAIN)
    return same[0]


def _taps_inside(equation: Any, owner: object) -> list[Found]:
    """The taps in the jaxprs of an equation.

    Raises:
        Refused: There is one, and the equation gives nothing of what is inside.
    """
    taps = [tap for jaxpr in jaxprs_in(equation) for tap in _taps_in(jaxpr, owner)]
    if not taps:
        return []
    name = equation.primitive.name
    if name not in _RULES:
        raise Refused(taps[0].tap, name)
    if name in _WITH_RULES:
        for tap in taps:
            if tap.is_put or equation.effects:
                raise Refused(tap.tap, name)
    if name != "scan":
        return taps
    length = equation.params["length"]
    return [
        found._replace(
            avals=tuple([stacked_aval(aval, length) for aval in found.avals])
        )
        for found in taps
    ]


def _evaluated(
    jaxpr: Any, arguments: Arrays, put: Sequence[Arrays], owner: object
) -> tuple[list[Any], list[Arrays]]:
    """The outputs of a jaxpr, and the arrays at its taps; see `Tapped`."""
    taken: list[Arrays] = []
    rest = list(put)

    def bind(equation: Any, operands: list[Any]) -> list[Any]:
        """The outputs of one equation."""
        tap = tap_of(equation)
        if tap is not None and tap.owner is owner:
            if equation.params["replaces"]:
                return list(rest.pop(0))
            if equation.params["adds"]:
                return list(map(jax.lax.add, operands, rest.pop(0)))
            taken.append(operands)
            return operands
        inside = _taps_inside(equation, owner)
        if not inside:
            return bind_again(equation, operands)
        count = len([tap for tap in inside if tap.is_put])
        own, rest[:] = rest[:count], rest[count:]
        outputs, more = _RULES[equation.primitive.name](equation, operands, own, owner)
        taken.extend(more)
        return outputs

    return evaluate_jaxpr(jaxpr, arguments, bind), taken


_Rule: TypeAlias = Callable[
    [Any, list[Any], Sequence[Arrays], object], tuple[list[Any], list[Arrays]]
]


def _jit(
    equation: Any, operands: list[Any], put: Sequence[Arrays], owner: object
) -> tuple[list[Any], list[Arrays]]:
    """The equation of a jit, with further inputs and outputs, of which nothing else is said."""
    params = equation.params
    count = len(operands)
    more_inputs = len(jax.tree.leaves(put))

    def run(*arguments: Any) -> tuple[list[Any], list[Arrays]]:
        """What is compiled."""
        tree = jax.tree.unflatten(jax.tree.structure(list(put)), arguments[count:])
        return _evaluated(params["jaxpr"], arguments[:count], tree, owner)

    arguments = [*operands, *jax.tree.leaves(put)]
    jaxpr, shapes = jax.make_jaxpr(run, return_shape=True)(*arguments)
    more_outputs = len(jax.tree.leaves(shapes[1]))
    outputs = bind_again(
        equation,
        arguments,
        jaxpr=jaxpr,
        in_shardings=(*params["in_shardings"], *[UNSPECIFIED] * more_inputs),
        in_layouts=(*params["in_layouts"], *[None] * more_inputs),
        donated_invars=(*params["donated_invars"], *[False] * more_inputs),
        out_shardings=(*params["out_shardings"], *[UNSPECIFIED] * more_outputs),
        out_layouts=(*params["out_layouts"], *[None] * more_outputs),
    )
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)  # type: ignore[no-any-return]


def _checkpoint(
    equation: Any, operands: list[Any], put: Sequence[Arrays], owner: object
) -> tuple[list[Any], list[Arrays]]:
    """The same under `jax.checkpoint`."""
    params = equation.params

    def run(
        operands: list[Any], put: Sequence[Arrays]
    ) -> tuple[list[Any], list[Arrays]]:
        """What is computed again in a backward pass."""
        return _evaluated(params["jaxpr"], operands, put, owner)

    again = jax.checkpoint(
        run, prevent_cse=params["prevent_cse"], policy=params["policy"]
    )
    return again(operands, list(put))  # type: ignore[no-any-return]


def _scan(
    equation: Any, operands: list[Any], put: Sequence[Arrays], owner: object
) -> tuple[list[Any], list[Arrays]]:
    """The same loop, that scans over what is put, and stacks what is taken."""
    params = equation.params
    const_count, carry_count = scan_counts(params)
    consts = operands[:const_count]
    first = operands[const_count : const_count + carry_count]
    items = operands[const_count + carry_count :]

    def body(
        carry: list[Any], item: tuple[list[Any], Sequence[Arrays]]
    ) -> tuple[list[Any], tuple[list[Any], list[Arrays]]]:
        """One round."""
        own, own_put = item
        outputs, taken = _evaluated(
            params["jaxpr"], [*consts, *carry, *own], own_put, owner
        )
        return outputs[:carry_count], (outputs[carry_count:], taken)

    last, (stacked, taken) = jax.lax.scan(
        body,
        first,
        (items, list(put)),
        params["length"],
        params["reverse"],
        params["unroll"],
        **{name: params[name] for name in ("_split_transpose",) if name in params},
    )
    return [*last, *stacked], taken


def _inlined(
    equation: Any, operands: list[Any], put: Sequence[Arrays], owner: object
) -> tuple[list[Any], list[Arrays]]:
    """What is inside of the equation alone."""
    (jaxpr,) = jaxprs_in(equation)
    return _evaluated(jaxpr, operands, put, owner)


def _with_rule(
    equation: Any, operands: list[Any], put: Sequence[Arrays], owner: object
) -> tuple[list[Any], list[Arrays]]:
    """The equation as it is, whose rule holds for its outputs; and what flows inside, computed once more."""
    _, taken = _evaluated(equation.params["call_jaxpr"], operands, put, owner)
    return bind_again(equation, operands), taken


_WITH_RULES: Final = ("custom_jvp_call", "custom_vjp_call")

_RULES: Final[dict[str, _Rule]] = {
    "jit": _jit,
    "pjit": _jit,
    "checkpoint": _checkpoint,
    "remat2": _checkpoint,
    "scan": _scan,
    "core_call": _inlined,
    "closed_call": _inlined,
    "eval_jaxpr": _inlined,
    **dict.fromkeys(_WITH_RULES, _with_rule),
}
