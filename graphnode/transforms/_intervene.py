"""`intervene`: other values in the place of what selected nodes give."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar, overload

import jax
import jax.numpy as jnp

from .._arguments import wrong_argument
from .._compat import in_form_of, varying_axes, varying_axes_of, with_weak_type
from .._declare._node import Node
from .._describe import describe
from .._graph._binding_cache import binding_of
from ._arguments import Function
from ._boundary import Call
from ._capture import Selector
from ._captured import Captured
from ._choice import Choice, Item, Place, checked_method, items_of
from ._methods import target_of
from ._taps import Arrays, Found
from ._type_text import type_text
from ._watch import Mark, Watch, is_of_arrays
from ._watched import Way, watched
from ._watching import WatchedTrace

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound=Node)

# From what a node gives to what takes its place.
Change: TypeAlias = Callable[[Any], Any]
# Or arrays. `object` beside it, and not `Any`, tells type checkers what the argument of a lambda is.
Put: TypeAlias = Change | object


@overload
def intervene(
    fun: Callable[P, R],
    changes: Mapping[str, Put] | Mapping[type[N], Put],
    *,
    method: str = ...,
    missing_ok: bool = ...,
) -> Callable[P, R]: ...
@overload
def intervene(
    fun: Callable[P, R],
    changes: Mapping[Selector, Put],
    *,
    method: str = ...,
    missing_ok: bool = ...,
) -> Callable[P, R]: ...
# Any: keys as above.
def intervene(
    fun: Callable[P, R],
    changes: Mapping[Any, Put],
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
        CaptureError: At a call: as of `capture`; two changes are for one node, or one is a
            part of the model that is changed; a change has another structure, shape or
            dtype than what the node returns; or a value stands where none can, as for
            `capture_grads`; names all.

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
    name = checked_method(method, "gn.intervene")
    is_function = tuple([number not in values for number in range(len(items))])

    def watch(call: Call, functions: Sequence[Function]) -> Watch:
        """The watch of one trace."""
        rest = iter(functions)
        of_items = [next(rest) if by_function else None for by_function in is_function]
        return _Putting(call, items, name, of_items)

    again = functools.partial(
        intervene, changes=changes, method=method, missing_ok=missing_ok
    )
    key = (items, is_function, name, missing_ok)
    way = Way("intervene", key, watch, _with_values, missing_ok, functions, values)
    return watched(fun, way, again)  # type: ignore[no-any-return]  # as annotated


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
    is_captured = isinstance(changes, Captured)
    pairs = changes.calls if isinstance(changes, Captured) else changes
    for key, change in pairs.items():
        (item,) = items_of(key, "gn.intervene")
        if callable(change):
            functions.append(change)
        elif is_of_arrays(change):
            values[len(items)] = list(change) if is_captured else [change]
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
    calls: dict[Place, list[tuple[Mark, Found]]] = {}
    for found in trace.program.put:
        mark = trace.watch.marks[found.tap]
        calls.setdefault(mark.place, []).append((mark, found))
    values = {place: put[pairs[0][0].item] for place, pairs in calls.items()}
    faults = [
        fault
        for place, pairs in calls.items()
        for fault in _value_faults(place, pairs, values[place])
    ]
    if faults:
        raise trace.watch.error(*faults)
    rest = {place: iter(values[place]) for place in calls}
    places = [trace.watch.marks[found.tap].place for found in trace.program.put]
    return [
        list(map(in_form_of, jax.tree.leaves(next(rest[place])), found.avals))
        for place, found in zip(places, trace.program.put, strict=True)
    ]


def _value_faults(
    place: Place, calls: Sequence[tuple[Mark, Found]], values: Sequence[Any]
) -> list[str]:
    """What is wrong with the values for the calls of one node."""
    if len(values) != len(calls):
        given = "1 value" if len(values) == 1 else f"{len(values)} values"
        return [
            f"{place.text} is called {len(calls)} times; found {given}. Give a function, or a gn.Captured with as many"
        ]
    faults: list[str] = []
    for (mark, found), value in zip(calls, values, strict=True):
        result = _expected(mark, found)
        if not _fits(value, result):
            faults.append(
                f"{place.text} returns {type_text(result)}; found {type_text(value)} to put in its place"
            )
        elif axes := _further_axes(value, found):
            faults.append(
                f"{place.text} returns the same in all shards along {', '.join(map(str, axes))} of the mesh; found a "
                "value that differs there: give one that is the same, such as its jax.lax.pmean"
            )
    return faults


def _expected(mark: Mark, found: Found) -> Any:
    """What a node returns, as shapes and dtypes."""
    make: Any = jax.ShapeDtypeStruct  # Any: its constructor has no types
    shapes = [make(aval.shape, aval.dtype) for aval in found.avals]
    return jax.tree.unflatten(mark.treedef, shapes)


def _further_axes(value: Any, found: Found) -> list[Any]:
    """The axes of the mesh of a `shard_map` along which a value differs, and what it takes the place of does not."""
    axes: set[Any] = set()
    for leaf, aval in zip(jax.tree.leaves(value), found.avals, strict=True):
        axes |= varying_axes(jnp.asarray(leaf)) - varying_axes_of(aval)
    return sorted(axes)


def _fits(value: Any, expected: Any) -> bool:
    """Whether a value has the structure, the shapes and the dtypes of what it takes the place of."""
    treedef: Any = jax.tree.structure(expected)
    if jax.tree.structure(value) != treedef:
        return False
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(expected), strict=True)
    return all(
        jnp.shape(leaf) == shape.shape and jnp.asarray(leaf).dtype == shape.dtype
        for leaf, shape in pairs
    )


class _Putting(Watch):
    """Puts something in the place of what selected nodes give: what a function makes of it, or an input."""

    def __init__(
        self,
        call: Call,
        items: Sequence[Item],
        method: str,
        changes: Sequence[Change | None],
    ) -> None:
        """Prepare for one trace.

        Args:
            call: Of the function that is traced.
            items: What selects nodes.
            method: The name of the method whose calls are meant.
            changes: Of each item the function; `None` where arrays are put in.
        """
        super().__init__(call, items, method)
        self._changes = changes
        for place, numbers in self.selected.items():
            if len(numbers) > 1:
                texts = " and ".join([items[number].text for number in numbers])
                self.faults.append(
                    f"{place.text} is selected by {texts}; give one change for it"
                )

        self._check_nodes(call)

    def _check_nodes(self, call: Call) -> None:
        """Note as a fault each change that is a node of the arguments, whose States are not constants in this trace."""
        for item, change in zip(self.items, self._changes, strict=True):
            bound = () if change is None else target_of(change)[1]
            # Only then, as this walks the arguments again.
            places = Choice(call).places if bound else {}
            self.faults += [
                f"the change for {item.text} is {places[id(node)].text}, a part of the model that is changed; give "
                "gn.clone(...) of it, or a function that does not use it"
                for node in bound
                if id(node) in places and binding_of(node).states
            ]

    def _through(
        self, place: Place, result: Any, leaves: list[Any], treedef: Any
    ) -> Any:
        change = self._changes[self.selected[place][0]]
        if change is None:
            return jax.tree.unflatten(
                treedef, self.tap(place, treedef, leaves, replaces=True)
            )
        changed = change(result)
        if _type_of(changed) != _type_of(result):
            found = type_text(changed) if is_of_arrays(changed) else describe(changed)
            raise self.error(
                f"{place.text} returns {type_text(result)}, and its change {found}; keep structure, shapes and dtypes"
            )
        return self._noted(place, changed, leaves)

    def _noted(self, place: Place, changed: Any, leaves: Sequence[Any]) -> Any:
        """What a change gave, with the weak types of what was there, and its arrays noted."""
        given, treedef = jax.tree.flatten(changed)
        results = list(map(_in_type_of, given, leaves))
        is_array = [isinstance(result, jax.Array) for result in results]
        noted = self.notes.note(place, list(itertools.compress(results, is_array)))
        arrays = iter(noted)
        return jax.tree.unflatten(
            treedef,
            [
                next(arrays) if by_trace else result
                for result, by_trace in zip(results, is_array, strict=True)
            ],
        )


def _in_type_of(leaf: Any, original: Any) -> Any:
    """A leaf of what a change gave, of the whole type of the original: see `in_form_of`; and as weak as that."""
    result = _as_weak_as(leaf, original)
    is_array = isinstance(result, jax.Array) and isinstance(original, jax.Array)
    return in_form_of(result, jax.typeof(original)) if is_array else result


def _as_weak_as(leaf: Any, original: Any) -> Any:
    """A leaf of what a change gave, with a weak dtype where the original has one, as dtypes follow from that.

    A number stays one only where a number was.
    """
    is_weak = jax.typeof(original).weak_type
    is_array = isinstance(leaf, jax.Array) or not isinstance(original, jax.Array)
    if is_array and jax.typeof(leaf).weak_type == is_weak:
        return leaf
    return with_weak_type(jnp.asarray(leaf), is_weak)


def _type_of(tree: Any) -> Any:
    """Structure, shapes and dtypes of a result; `None` of what is not made of arrays."""
    leaves, treedef = jax.tree.flatten(tree)
    if not is_of_arrays(tree):
        return None
    return treedef, [(jnp.shape(leaf), jnp.asarray(leaf).dtype) for leaf in leaves]
