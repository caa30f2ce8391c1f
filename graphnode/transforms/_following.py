"""`Following`: what loops and branches compile outside of `jit`, which follows the States that it captures."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._compat import DISABLE_JIT
from .._reads import READING
from ._arguments import Values
from ._boundary import Call
from ._pure import ACTIVE, Outcome
from ._trace import Captured, Gone, Inputs, Trace, Wider


class Following:
    """A compiled function that follows the States which it reads without having got them as arguments.

    Their values are inputs of what is compiled. The States of the arguments are all of
    them inputs: a loop takes them in bulk.
    """

    def __init__(self, function: Callable[..., Outcome]) -> None:
        """For a function of values and other arguments; nothing is traced yet."""
        self._function = function
        # Inline: inside of another trace the loop stands as JAX's own would, without a
        # call around it.
        self._alone = jax.jit(function, inline=True)
        self._take(())

    def run(self, call: Call, values: Values, *others: Any) -> Outcome:
        """The outcome of a call: with what captured States hold now."""
        # The trace around this one takes them as inputs; and without compilation, they are
        # read as the function runs.
        if READING.reads is not None or DISABLE_JIT.value:
            return self._alone(values, *others)  # type: ignore[no-any-return]  # as the function gives
        keys, jitted = self._compiled
        try:
            captured = Inputs(captured=keys).captured_values(call)
            return jitted(captured, values, *others)  # type: ignore[no-any-return]  # as the function gives
        except Wider as wider:
            call.trace = wider.trace
            self._take((*keys, *wider.trace.inputs.captured))
        except Gone:
            self._take(())
        return self.run(call, values, *others)

    def _take(self, captured: Sequence[Captured]) -> None:
        """From here on take these captured States as inputs."""
        keys = tuple(dict.fromkeys(captured))

        def run(captured: Sequence[Any], values: Values, *others: Any) -> Outcome:
            """What JAX compiles: a trace of the function, with these in the places of its inputs."""
            call = ACTIVE.call
            assert isinstance(call, Call)
            by_number = dict(enumerate(values))
            by_key = dict(zip(keys, captured, strict=True))
            # Once: JAX keeps what it makes of it.
            trace, call.trace = call.trace, None
            if trace is None or not trace.fits(by_number, by_key, *others):
                trace = Trace(call, self._noted, values, *others)
            if not {*trace.inputs.captured} <= {*keys}:
                raise Wider(trace)
            outcome: Outcome = trace.outcome(by_number, by_key, *others)
            return outcome

        # Both at once: another thread may call this now.
        self._compiled = keys, jax.jit(run, inline=True)

    def _noted(self, *arguments: Any) -> Outcome:
        """The function, as `Trace` calls it: the notes come last, and are taken of all that runs."""
        return self._function(*arguments[:-1])
