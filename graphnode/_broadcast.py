"""Give some States of a node one more axis, and take it away again, in place: all of them or none.

A field declares the shape of one member. These functions give its State another shape
on purpose, and the State goes on with that.
"""

import functools
from collections.abc import Callable
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import checked_index
from ._compat import is_tracing
from ._errors import StackError, listed
from ._filters import Filter
from ._graph._binding import Binding
from ._graph._binding_cache import binding_of
from ._paths import path_str
from ._signals import store_all
from ._split import states
from ._stack_axes import has_axes
from ._state import State, check_writable
from ._statetree import FlatStates
from ._update import leaf_text


def broadcast_states(
    node: object, filter: Filter | EllipsisType, /, size: int, axis: int = 0
) -> None:
    """Give States one more axis, along which their values are repeated: one copy for each lane of a `vmap`.

    In place: the States keep their identity, and go on with the new shape, whatever
    their fields declare. Key arrays are repeated too, so that all lanes draw the same
    numbers; `gn.vmap` splits streams without this.

    Args:
        node: A node, or a pytree of nodes.
        filter: Which States.
        size: The size of the new axis.
        axis: Its position in every array; negative counts from the end of the result.

    Raises:
        StackError: The filter selects nothing; or a value holds what is not an array,
            or has no place for the axis, or the State has a sharding that names its
            axes; names all. Nothing was written.
        TraceError: A transformation runs that the States are not part of. Nothing was
            written.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> class Cell(gn.Node):
        ...     hidden: gn.HiddenState = gn.state(default_factory=lambda: gn.HiddenState(jnp.zeros(3)))
        >>> cell = Cell()
        >>> gn.broadcast_states(cell, gn.HiddenState, 5)
        >>> cell.hidden.value.shape
        (5, 3)

    See also: `unbroadcast_states`, the inverse; `stack`, which makes one node of
    several.
    """
    size, axis = (
        checked_index("gn.broadcast_states", "size", size),
        checked_index("gn.broadcast_states", "axis", axis),
    )
    selected = _selected_states(node, filter)

    def repeated(leaf: Any) -> Any:
        """An array along a new axis, as often as its size."""
        expanded = jnp.expand_dims(leaf, axis)
        shape = list(expanded.shape)
        shape[axis] = size
        return jnp.broadcast_to(expanded, shape)

    faults = _axis_faults(
        selected,
        lambda rank: -rank - 1 <= axis <= rank,
        f"has no place for a new axis {axis}",
    )
    _raise_faults(node, "broadcast", faults)
    _write(
        selected, [jax.tree.map(repeated, state.value) for state in selected.values()]
    )


def unbroadcast_states(
    node: object,
    filter: Filter | EllipsisType,
    /,
    axis: int = 0,
    *,
    index: int | None = None,
) -> None:
    """Take an axis of States away, in place.

    Args:
        node: A node, or a pytree of nodes.
        filter: Which States.
        axis: The axis; negative counts from the end.
        index: Which item along the axis stays; without it they have to be equal.

    Raises:
        StackError: The filter selects nothing; a value has no such axis or item, or the
            State has a sharding that names its axes; or its items differ, with no
            `index`; names all. Nothing was written.
        TraceError: A transformation runs that the States are not part of. Nothing was
            written.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> class Cell(gn.Node):
        ...     hidden: gn.HiddenState = gn.state(default_factory=lambda: gn.HiddenState(jnp.zeros(3)))
        >>> cell = Cell()
        >>> gn.broadcast_states(cell, gn.HiddenState, 5)
        >>> gn.unbroadcast_states(cell, gn.HiddenState)
        >>> cell.hidden.value.shape
        (3,)

    See also: `broadcast_states`, the inverse.
    """
    axis = checked_index("gn.unbroadcast_states", "axis", axis)
    selected = _selected_states(node, filter)
    faults = _axis_faults(
        selected, lambda rank: -rank <= axis < rank, f"has no axis {axis}"
    )
    _raise_faults(node, "unbroadcast", faults)
    # Only now, as looking at items needs arrays that have the axis.
    _raise_faults(node, "unbroadcast", _item_faults(selected, axis, index))
    item = 0 if index is None else index
    _write(
        selected,
        [
            jax.tree.map(lambda leaf: jnp.take(leaf, item, axis), state.value)
            for state in selected.values()
        ],
    )


def _selected_states(node: object, filter: Filter | EllipsisType) -> FlatStates[Any]:
    """For `broadcast_states` and its inverse: the live States that a filter selects; a `StackError` without any."""
    selected = states(node, filter)
    if not selected:
        raise StackError(
            f"no State of {binding_of(node).graphdef.type.__name__} is selected by {filter!r}"
        )
    return selected


def _axis_faults(
    selected: FlatStates[Any], fits: Callable[[int], bool], text: str
) -> list[str]:
    """For `broadcast_states` and its inverse: why States cannot get or lose an axis, by ranks, leaves, shardings.

    Args:
        selected: The States.
        fits: Whether an array of a rank has the axis, or a place for it.
        text: What to say of an array that does not.
    """
    faults: list[str] = []
    for path, state in selected.items():
        if has_axes(state._spec):
            faults.append(
                f"{path_str(path)}: its sharding is of the axes that it has: put a State with another one there"
            )
            continue
        for key_path, leaf in jax.tree.leaves_with_path(state.value):
            where = path_str(path) + jax.tree_util.keystr(key_path)
            if not hasattr(leaf, "shape"):
                faults.append(f"{where}: expected an array, found {leaf_text(leaf)}")
            elif not fits(len(leaf.shape)):
                faults.append(f"{where}: {leaf_text(leaf)} {text}")
    return faults


def _item_faults(selected: FlatStates[Any], axis: int, index: int | None) -> list[str]:
    """For `unbroadcast_states`: why an axis of States cannot be reduced to one item, for each leaf with its path."""
    faults: list[str] = []
    for path, state in selected.items():
        for key_path, leaf in jax.tree.leaves_with_path(state.value):
            fault = _item_fault(leaf, axis, index)
            if fault is not None:
                faults.append(
                    f"{path_str(path)}{jax.tree_util.keystr(key_path)}: {fault}"
                )
    return faults


def _item_fault(leaf: Any, axis: int, index: int | None) -> str | None:
    """For `_item_faults`: why an axis of an array cannot be reduced to one item; `None` if it can.

    Args:
        leaf: The array.
        axis: The axis.
        index: Which item stays; `None` where they have to be equal.
    """
    size = leaf.shape[axis]
    if index is not None:
        has_item = -size <= index < size
        return (
            None
            if has_item
            else f"{leaf_text(leaf)} has no item {index} along axis {axis}"
        )
    if size == 0:
        return f"{leaf_text(leaf)} has no items along axis {axis}"
    if is_tracing():
        return "whether its items are equal is not known inside of a transformation: say which one stays, with index"
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    content = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    # From the front: the bits of keys are an axis more at the end.
    items = np.moveaxis(content, axis % len(leaf.shape), 0)
    # By their bytes, to which nan equals itself.
    if all(item.tobytes() == items[0].tobytes() for item in items):
        return None
    return f"its items along axis {axis} differ: say which one stays, with index"


def _raise_faults(node: object, verb: str, faults: list[str]) -> None:
    """Raise a `StackError` if there are faults: `cannot broadcast States of Cell: ...`.

    Args:
        node: The argument of the public function.
        verb: What was asked for: `broadcast` or `unbroadcast`.
        faults: The faults.
    """
    if faults:
        binding: Binding = binding_of(node)
        raise StackError(
            f"cannot {verb} States of {binding.graphdef.type.__name__}: {listed(faults)}"
        )


def _write(selected: FlatStates[State[Any]], values: list[Any]) -> None:
    """Give each State its new value, all or none. Contracts are not asked: they know of one axis more or less."""
    for (path, state), value in zip(selected.items(), values, strict=True):
        # All are checked before the first is written.
        check_writable(state, value, functools.partial(path_str, path))
    store_all(list(selected.values()), values)
