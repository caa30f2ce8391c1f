"""`Replay`, a trace of a pure function that is evaluated in the function's place.

What a function of nodes writes is known only when it was traced; and JAX's loops and
branches have to be told before they trace it:

    first                     traced once               ┌─► Written: what is carried
    jax.make_jaxpr(pure) ───► jaxpr, outcome ───────────┤
                                 │                      │
    then                         ▼                      │
    jax.lax.scan(run) ────► evaluates the jaxpr ◄───────┘
                            (the user's function does not run a second time)

`jit` has a trace of its own, which takes only some of the States (`_trace.Trace`).

Were it traced twice, each level of nested loops would double the traces of what is
inside.
"""

from collections.abc import Sequence
from typing import Any

import jax

from .._compat import jaxpr_as_fun
from ._arguments import Values
from ._pure import Outcome


class Replay:
    """A trace of a pure function, to be evaluated in its place.

    Args:
        jaxpr: The trace.
        values: The values that were traced, or their shapes and dtypes.
        other_leaves: The other leaves that were.
        outcome: What the trace gives, as shapes and dtypes.
    """

    def __init__(
        self, jaxpr: Any, values: Values, other_leaves: Sequence[Any], outcome: Any
    ) -> None:
        self._evaluate, self._in_avals = jaxpr_as_fun(jaxpr), list(jaxpr.in_avals)
        self._in_treedef: Any = jax.tree.structure((values, other_leaves))
        self._out_treedef = jax.tree.structure(outcome)

    def outcome(self, values: Values, other_leaves: Sequence[Any]) -> Outcome | None:
        """The outcome of the function; `None` where the arguments are of other types than those that were traced."""
        # By type, weak types and shardings included: a jaxpr computes with nothing
        # else.
        leaves, treedef = jax.tree.flatten((values, other_leaves))
        if (
            treedef != self._in_treedef
            or list(map(jax.typeof, leaves)) != self._in_avals
        ):
            return None
        return jax.tree.unflatten(self._out_treedef, self._evaluate(*leaves))  # type: ignore[no-any-return]
