"""`watched`: the wrapper that `capture`, `capture_grads` and `intervene` give, of one way to watch a function."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from .._tracebacks import hides_frames
from ._arguments import Function
from ._boundary import Call
from ._kept import remembered_together
from ._methods import rebind, target_of
from ._watching import Finish, Kept, MakeWatch


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to watch a function.

    Attributes:
        transform: The name of the transform.
        key: What tells it from other ways.
        watch: Makes the watch of a trace.
        finish: Computes what is given.
        missing_ok: Whether selected nodes need not be called.
        functions: What the watch calls.
        put: What is put in, by item.
    """

    transform: str
    key: Hashable
    watch: MakeWatch
    finish: Finish
    missing_ok: bool
    functions: Sequence[Function] = ()
    put: Mapping[int, list[Any]] | None = None


# Any: what the three functions above say of it.
def watched(fun: Function, way: Way, again: Callable[[Function], Any]) -> Any:
    """A function that is watched in a way."""
    target, bound = target_of(fun)

    @hides_frames
    @functools.wraps(target)
    def run(*args: Any, **kwargs: Any) -> Any:
        """One call: the result, once the writes are made, and what else is given."""
        call = Call(way.transform, target, args, kwargs)
        kept = remembered_together(
            [target, *way.functions], way.transform, way.key, Kept
        )
        outcome, *more = kept.run(call, way.watch, way.missing_ok, way.finish, way.put)
        result = call.finish(outcome)
        return (result, *more) if more else result

    return rebind(run, bound, fun, again)
