"""`watched`: the wrapper that `capture`, `capture_grads` and `intervene` give, of one way to watch a function."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import numpy as np

from .._compat import PLAIN
from .._errors import FieldError
from .._static import GraphObject
from .._tracebacks import hides_frames
from ._arguments import Function, Static, StaticContents, positional_name
from ._boundary import Call
from ._choice import Item, checked_method, items_of
from ._kept import remembered_together
from ._methods import rebind, target_of
from ._watch import Watch, is_of_arrays
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
        call = Call(way.transform, target, *_with_python_values(target, args, kwargs))
        kept = remembered_together(
            [target, *way.functions], way.transform, way.key, Kept
        )
        outcome, *more = kept.run(call, way.watch, way.missing_ok, way.finish, way.put)
        result = call.finish(outcome)
        return (result, *more) if more else result

    return rebind(run, bound, fun, again)


class Chosen(NamedTuple):
    """Which calls are meant, as the caller wrote it."""

    selection: object
    method: str
    missing_ok: bool


# Any: what `capture` and `capture_grads` say of it.
def watched_at(
    fun: Function,
    chosen: Chosen,
    transform: str,
    public: Callable[..., Any],
    watch_class: Callable[[Call, Sequence[Item], str], Watch],
    finish: Finish,
) -> Any:
    """A function whose selected calls are watched, and nothing is put there by the caller.

    Args:
        fun: The function.
        chosen: Which calls are meant.
        transform: The name of the transform.
        public: The public function of that name.
        watch_class: Makes the watch of one trace.
        finish: Computes what is given.

    Raises:
        FilterTypeError: Something in the selection does not select nodes.
        CaptureError: Calls of the method are never seen.
    """
    items = items_of(chosen.selection, f"gn.{transform}")
    method = checked_method(chosen.method, f"gn.{transform}")

    def watch(call: Call, functions: Sequence[Function]) -> Watch:
        """The watch of one trace."""
        return watch_class(call, items, method)

    key = items, method, chosen.missing_ok
    way = Way(transform, key, watch, finish, chosen.missing_ok)
    return watched(fun, way, functools.partial(public, **chosen._asdict()))


def _with_python_values(
    function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, where those without an array or node are static: `deterministic=True` stays what it is."""
    marked = tuple(
        [
            arg if _is_traced(arg) else _static(positional_name(function, at), arg)
            for at, arg in enumerate(args)
        ]
    )
    marked_by_name = {
        name: arg if _is_traced(arg) else _static(name, arg)
        for name, arg in kwargs.items()
    }
    return marked, marked_by_name


def _is_traced(argument: Any) -> bool:
    """Whether an argument has something that JAX is to trace."""
    return any(
        isinstance(leaf, _TRACED) or type(leaf) in PLAIN
        for leaf in jax.tree.leaves(argument)
    )


_TRACED: Final = (GraphObject, jax.Array, np.ndarray, np.generic)


def _static(name: str, argument: Any) -> Any:
    """An argument as a static one, if it can be: a part of what is traced, compared by type and value or contents."""
    # What is hashable is known by itself. Numbers in lists and dicts are traced, as for
    # other transforms: each would be another trace.
    kinds = (Static,) if is_of_arrays(argument) else (Static, StaticContents)
    for static in kinds:
        try:
            return static(name, argument)
        except FieldError:
            continue
    return argument
