"""`capture`, `capture_grads` and `intervene`: what nodes give in a call, derivatives with respect to it, other values for it.

All three trace the function with a watch on its calls (`_watching`), and differ in what
they make of the program with taps.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp

from .._arguments import wrong_argument
from .._declare._node import Node
from .._describe import describe
from .._filters import NodeSelector
from .._paths import Path, path_str
from .._tracebacks import hides_frames
from ._arguments import Function
from ._boundary import Call
from ._captured import Captured
from ._choice import Item, Place, items_of
from ._kept import remembered_together
from ._methods import rebind, target_of
from ._taps import Arrays, Found
from ._type_text import type_text
from ._watch import Change, Mark, Perturbing, Putting, Taking, Watch, is_of_arrays
from ._watching import Finish, Kept, MakeWatch, WatchedTrace

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Gives(Protocol[T_co]):
    """A node whose call gives a `T_co`."""

    # Any: a call takes whatever it likes.
    def __call__(self, *args: Any, **kwargs: Any) -> T_co: ...


# Paths, globs, node classes and filters of nodes, one or several.
CallSelector: TypeAlias = "type[Node] | NodeSelector | EllipsisType | Iterable[tuple[Path, Node]] | Sequence[str | type[Node] | NodeSelector] | str"


@overload
def capture(
    fun: Callable[P, R],
    selection: "type[_Gives[T]] | Iterable[tuple[Path, _Gives[T]]]",
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
def capture(
    fun: Callable[P, R],
    selection: object,
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
            several arguments have a node at a path, the name of one may come first:
            `"student.blocks.3"`.
        method: The name of the method whose results are meant.
        missing_ok: Whether selected nodes need not be called.

    Returns:
        A function with the arguments of `fun` that gives a pair: the result of `fun`, and
        the results of the nodes, a `Captured`.

    Raises:
        FilterTypeError: Something in `selection` does not select nodes.
        PathError: A text in it is not a path.
        CaptureError: At a call: nothing is at a path, a selected node is not called, it
            returns what is not made of arrays, or it is called where its values cannot be
            had: in a `while_loop`, a `cond` or a `shard_map`; names all.
        StructureError: At a call: the function changes the structure of a node.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> out, seen = gn.capture(model, "layers.*")(jnp.ones((1, 2)))
        >>> seen
        Captured(layers.0: float32[1,8], layers.1: float32[1,3])

    See also: `capture_grads`, derivatives with respect to these results; `intervene`,
    which puts others in their place.
    """
    items = items_of(selection, "gn.capture")

    def finish(trace: WatchedTrace, arguments: list[Any], put: None) -> Any:
        """The outcome, and what was taken."""
        outputs, taken = trace.program(arguments)
        return trace.unflattened(outputs), captured_of(
            trace.watch, trace.program.taken, taken
        )

    def watch(call: Call, functions: Sequence[Function]) -> Watch:
        """The watch of one trace."""
        return Taking(call, items, method)

    again = functools.partial(
        capture, selection=selection, method=method, missing_ok=missing_ok
    )
    key = items, method, missing_ok
    watched = _Watched("capture", key, watch, finish, missing_ok)
    return _wrapped(fun, watched, again)  # type: ignore[no-any-return]


@overload
def capture_grads(
    fun: Callable[P, R],
    selection: "type[_Gives[T]] | Iterable[tuple[Path, _Gives[T]]]",
    *,
    missing_ok: bool = ...,
) -> Callable[P, tuple[R, Captured[T], Captured[T]]]: ...
# Any: a path does not say what the node there gives.
@overload
def capture_grads(
    fun: Callable[P, R],
    selection: CallSelector,
    *,
    method: str = ...,
    missing_ok: bool = ...,
) -> Callable[P, tuple[R, Captured[Any], Captured[Any]]]: ...
def capture_grads(
    fun: Callable[P, R],
    selection: object,
    *,
    method: str = "__call__",
    missing_ok: bool = False,
) -> Callable[P, tuple[R, Captured[Any], Captured[Any]]]:
    """A function that gives, beside a loss, what selected nodes return, and the gradient of the loss with respect to it.

    Args:
        fun: A function, a method or a callable node that returns one real number.
        selection: Which nodes, as for `capture`.
        method: The name of the method whose results are meant.
        missing_ok: Whether selected nodes need not be called.

    Returns:
        A function with the arguments of `fun` that gives the result of `fun`, what the
        nodes returned, and the gradients of the one with respect to the other: for each
        round of a loop and each call its own. `None` stands for the gradient of what is
        not of a floating dtype.

    Raises:
        TypeError: At a call: `fun` does not return one real number.
        CaptureError: At a call: as of `capture`; or a node is called in a function with a
            derivative rule of its own.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> def loss(model, x):
        ...     return model(x).sum()
        >>> value, seen, grads = gn.capture_grads(loss, "layers.*")(model, jnp.ones((1, 2)))
        >>> grads["layers.1"]
        Array([[1., 1., 1.]], dtype=float32)

    See also: `grad`, of States and arguments.
    """
    items = items_of(selection, "gn.capture_grads")

    def watch(call: Call, functions: Sequence[Function]) -> Watch:
        """The watch of one trace."""
        return Perturbing(call, items, method)

    again = functools.partial(
        capture_grads, selection=selection, method=method, missing_ok=missing_ok
    )
    key = items, method, missing_ok
    watched = _Watched("capture_grads", key, watch, _with_gradients, missing_ok)
    return _wrapped(fun, watched, again)  # type: ignore[no-any-return]


def _with_gradients(trace: WatchedTrace, arguments: list[Any], put: None) -> Any:
    """The outcome, what was taken, and the gradients with respect to it."""
    program = trace.program

    def loss(added: Sequence[Arrays]) -> tuple[Any, Any]:
        """The result of the function, and all that the program gives."""
        outputs, taken = program(arguments, added)
        outcome = trace.unflattened(outputs)
        return _real_number(outcome[2]), (outcome, taken)

    zeros = [
        [jnp.zeros(shape.shape, shape.dtype) for shape in found.shapes]
        for found in program.put
    ]
    gradients, (outcome, taken) = jax.grad(loss, has_aux=True)(zeros)
    seen = captured_of(trace.watch, program.taken, taken)
    return outcome, seen, captured_of(trace.watch, program.put, gradients)


def _real_number(result: Any) -> Any:
    """The result of a function that is differentiated.

    Raises:
        TypeError: It is not one real number.
    """
    if is_of_arrays(result):
        leaves = jax.tree.leaves(result)
        is_float = [
            jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating) for leaf in leaves
        ]
        if leaves[:1] == [result] and is_float[0] and jnp.ndim(result) == 0:
            return result
    found = type_text(result) if is_of_arrays(result) else describe(result)
    raise TypeError(
        f"gn.capture_grads: the function must return one real number; found {found}"
    )


# Any: arrays, or functions of them.
def intervene(
    fun: Callable[P, R],
    changes: "Mapping[str, Any] | Mapping[type[Node], Any]",
    *,
    method: str = "__call__",
    missing_ok: bool = False,
) -> Callable[P, R]:
    """A function in which other values take the place of what selected nodes of its arguments return.

    A change is a function from what a node returns to what is put in its place, of the
    same structure, shapes and dtypes: `lambda y: y + direction`. It is called for each
    call of the node while the function is traced. Or it is the value itself, of the shapes
    that `capture` gives: with an axis in front for each loop and each `vmap` around the
    call. So what `capture` gave of another call may be put in as it is. Nothing of what the
    node computed is left then, and so no derivative with respect to it.

    Args:
        fun: A function, a method or a callable node.
        changes: By path, glob or node class, as in the selection of `capture`; or a
            `Captured`.
        method: The name of the method whose results are meant.
        missing_ok: Whether selected nodes need not be called.

    Returns:
        A function with the arguments and the results of `fun`.

    Raises:
        FilterTypeError: A key in `changes` does not select nodes.
        PathError: A text is not a path.
        CaptureError: At a call: as of `capture`; or two changes are for one node, or a
            change has another structure, shape or dtype than what the node returns; names
            all.

    Example:
        >>> model, x = gn.nn.MLP(2, 8, 3), jnp.ones((1, 2))
        >>> gn.intervene(model, {"layers.1": jnp.zeros_like})(x)
        Array([[0., 0., 0.]], dtype=float32)
        >>> _, seen = gn.capture(model, "layers.0")(2 * x)
        >>> bool((gn.intervene(model, seen)(x) == model(2 * x)).all())
        True
    """
    if not isinstance(changes, Mapping):
        takes = "a mapping of changes by path or node class second"
        raise TypeError(wrong_argument(takes, changes, "gn.intervene"))
    items, functions, values = _changes_of(changes)
    is_function = tuple([number not in values for number in range(len(items))])

    def watch(call: Call, functions: Sequence[Function]) -> Watch:
        """The watch of one trace."""
        rest = iter(functions)
        of_items = [next(rest) if by_function else None for by_function in is_function]
        return Putting(call, items, method, of_items)

    again = functools.partial(
        intervene, changes=changes, method=method, missing_ok=missing_ok
    )
    key = (items, is_function, method, missing_ok)
    watched = _Watched(
        "intervene", key, watch, _with_values, missing_ok, functions, values
    )
    return _wrapped(fun, watched, again)  # type: ignore[no-any-return]


def _changes_of(
    changes: Mapping[Any, Any],
) -> tuple[tuple[Item, ...], list[Change], dict[int, list[Any]]]:
    """What selects the nodes of each change; the changes that are functions; and the values, by number, for each call.

    Raises:
        TypeError: A change is neither a function nor made of arrays.
    """
    items: list[Item] = []
    functions: list[Change] = []
    values: dict[int, list[Any]] = {}
    for key, change in (
        changes.items() if not isinstance(changes, Captured) else changes.calls.items()
    ):
        (item,) = items_of(key, "gn.intervene")
        if callable(change):
            functions.append(change)
        elif is_of_arrays(change):
            values[len(items)] = (
                list(change) if isinstance(changes, Captured) else [change]
            )
        else:
            raise TypeError(
                f"gn.intervene: the change for {item.text} is neither an array nor a function; found {describe(change)}"
            )
        items.append(item)
    return tuple(items), functions, values


def _with_values(
    trace: WatchedTrace, arguments: list[Any], put: Mapping[int, list[Any]]
) -> Any:
    """The outcome, with values in the places that are marked for them."""
    outputs, _ = trace.program(arguments, _placed(trace, put))
    return (trace.unflattened(outputs),)


def _placed(trace: WatchedTrace, put: Mapping[int, list[Any]]) -> list[Arrays]:
    """The arrays that are put in at each tap.

    Args:
        trace: The trace with the taps.
        put: The values of each item, one for each call.

    Raises:
        CaptureError: They are not of the types that the nodes return; names all.
    """
    placed: list[Arrays] = []
    faults: list[str] = []
    by_place: dict[Place, list[Found]] = {}
    for found in trace.program.put:
        by_place.setdefault(trace.watch.marks[found.tap].place, []).append(found)
    rest: dict[Place, list[Any]] = {}
    for place, calls in by_place.items():
        values = put[trace.watch.marks[calls[0].tap].item]
        if len(values) != len(calls):
            faults.append(
                f"{place.text} is called {len(calls)} times, and there are {len(values)} values for it; give a function, or "
                "what gn.capture gave of such a call"
            )
            values = [*values[: len(calls)], *[None] * (len(calls) - len(values))]
            continue
        rest[place] = list(values)
        for found, value in zip(calls, values, strict=True):
            expected = _expected(trace.watch.marks[found.tap], found)
            if not _fits(value, expected):
                faults.append(
                    f"{place.text} returns {type_text(expected)}; found {type_text(value)} in its place"
                )
    if faults:
        raise trace.watch.error(*faults)
    for found in trace.program.put:
        value = rest[trace.watch.marks[found.tap].place].pop(0)
        placed.append(jax.tree.leaves(value))
    return placed


def _expected(mark: Mark, found: Found) -> Any:
    """What a node returns, as shapes and dtypes."""
    return jax.tree.unflatten(mark.treedef, found.shapes)


def _fits(value: Any, expected: Any) -> bool:
    """Whether a value has the structure, the shapes and the dtypes of what it takes the place of."""
    if jax.tree.structure(value) != jax.tree.structure(expected):
        return False
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(expected), strict=True)
    return all(
        jnp.shape(leaf) == shape.shape and jnp.asarray(leaf).dtype == shape.dtype
        for leaf, shape in pairs
    )


def captured_of(
    watch: Watch, taps: Sequence[Found], arrays: Sequence[Arrays]
) -> Captured[Any]:
    """What was taken at some taps, by node and call."""
    marks = [watch.marks[found.tap] for found in taps]
    is_named = len({mark.place.argument for mark in marks}) > 1
    calls: dict[str, tuple[Any, ...]] = {}
    for mark, leaves in zip(marks, arrays, strict=True):
        key = mark.place.text if is_named else path_str(mark.place.path)
        result = jax.tree.unflatten(mark.treedef, leaves)
        calls[key] = (*calls.get(key, ()), result)
    return Captured(calls)


@dataclasses.dataclass(frozen=True)
class _Watched:
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
def _wrapped(fun: Function, way: _Watched, again: Callable[[Function], Any]) -> Any:
    """A function that is watched in a way."""
    target, bound = target_of(fun)

    @hides_frames
    @functools.wraps(target)
    def watched(*args: Any, **kwargs: Any) -> Any:
        """One call: the result, once the writes are made, and what else is given."""
        call = Call(way.transform, target, args, kwargs)
        kept = remembered_together(
            [target, *way.functions], way.transform, way.key, Kept
        )
        outcome, *more = kept.run(call, way.watch, way.missing_ok, way.finish, way.put)
        result = call.finish(outcome)
        return (result, *more) if more else result

    return rebind(watched, bound, fun, again)
