"""`capture`: what selected nodes give while a function runs."""

from collections.abc import Callable, Iterable
from types import EllipsisType, UnionType
from typing import (
    Any,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
    runtime_checkable,
)

from .._declare._node import Node
from .._filters import Matcher
from .._paths import Path
from ._captured import Captured
from ._choice import Place
from ._watch import Watch, with_arrays
from ._watched import Chosen, watched_at
from ._watching import WatchedTrace

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


# Checkable, for those who check calls of this package at run time.
@runtime_checkable
class Gives(Protocol[T_co]):
    """A node whose call gives a `T_co`."""

    # Any: a call takes whatever it likes.
    def __call__(self, *args: Any, **kwargs: Any) -> T_co: ...


# A path or glob, a node class, a filter of nodes by class and path; `...` for all.
Selector: TypeAlias = str | type[Node] | UnionType | Matcher | EllipsisType
# One or several; also what `gn.select` gives.
CallSelector: TypeAlias = Selector | Iterable[Selector | tuple[Path, Node]]


@overload
def capture(
    fun: Callable[P, R],
    selection: type[Gives[T]] | Iterable[tuple[Path, Gives[T]]],
    *,
    missing_ok: bool = ...,
) -> Callable[P, tuple[R, Captured[T]]]: ...
# Any: a path does not say what the node there gives.
@overload
def capture(
    fun: Callable[P, R],
    selection: CallSelector,
    *,
    method: str = ...,
    missing_ok: bool = ...,
) -> Callable[P, tuple[R, Captured[Any]]]: ...
# Any: one of the above.
def capture(
    fun: Callable[P, R],
    selection: Any,
    *,
    method: str = "__call__",
    missing_ok: bool = False,
) -> Callable[P, tuple[R, Captured[Any]]]:
    """A function that gives, beside its result, what selected nodes of its arguments return while it runs.

    Args:
        fun: A function, a method or a callable node.
        selection: Which nodes: paths below an argument or globs, such as
            `"blocks.*.mlp"`, node classes, filters such as `gn.Under("encoder")`, what
            `gn.select` gives, or a list of these; `...` for all that is called. Where
            several arguments have nodes, the name of one may come first, as it does in
            the keys of the result: `"student.blocks.3"`.
        method: The name of the method whose results are meant.
        missing_ok: Whether selected nodes need not be called.

    Returns:
        A function with the arguments of `fun` that gives a pair: the result of `fun`, and
        the results of the nodes, a `Captured`. What has no arrays among the arguments,
        such as `deterministic=True`, stays what it is, and is traced anew for another
        value.

    Raises:
        FilterTypeError: Something in `selection` does not select nodes.
        PathError: A text in it is not a path.
        CaptureError: `method` is private. At a call: nothing is at a path, or one node by
            the name of an argument and another by a field; no selected node has the
            method, or its calls are never seen; a selected node is not called, it
            returns what is not made of arrays, or it is called where its values cannot be
            had: in a `while_loop`, a `cond` or a `shard_map`; names all.
        StructureError: At a call: the function changes the structure of a node.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> out, seen = gn.capture(model, "layers.*")(jnp.ones((1, 2)))
        >>> seen
        Captured(layers.0: f32[1,8], layers.1: f32[1,3])

    See also: `capture_grads`, derivatives with respect to these results; `intervene`,
    which puts others in their place.
    """

    def finish(trace: WatchedTrace, arguments: list[Any], put: None) -> Any:
        """The outcome, and what was taken."""
        outputs, taken = trace.program(arguments)
        return trace.unflattened(outputs), trace.watch.captured(
            trace.program.taken, taken
        )

    choice = Chosen(selection, method, missing_ok)
    return watched_at(fun, choice, "capture", capture, _Taking, finish)  # type: ignore[no-any-return]  # as annotated


class _Taking(Watch):
    """Takes what selected nodes give."""

    def _through(
        self, place: Place, result: Any, leaves: list[Any], treedef: Any
    ) -> Any:
        return with_arrays(treedef, leaves, self.tap(place, treedef, leaves))
