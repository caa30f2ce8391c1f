"""Stack nodes of one structure into one node whose values have one more axis, and take it apart again.

A stacked node is what `jax.vmap` and `jax.lax.scan` map over: an ensemble, or the
layers of a deep network. All nodes have the same graphdef, so the work is a transpose
of values in layout order:

    node 0   bias (3,)    weight (2, 3)        columns   bias:   [b0, b1]    -> jnp.stack -> (2, 3)
    node 1   bias (3,)    weight (2, 3)                  weight: [w0, w1]    -> jnp.stack -> (2, 2, 3)
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from ._arguments import checked_index, wrong_argument
from ._describe import describe
from ._errors import StackError, StructureError, listed
from ._graph._binding import Binding
from ._graph._binding_cache import binding_of
from ._graph._diff import diff
from ._graph._graphdef import GraphDef
from ._graph._unflatten import build
from ._hints import with_article
from ._paths import path_str
from ._reads import looked_at
from ._signals import store_all
from ._stack_axes import (
    checked_position,
    has_axes,
    mentions_axes,
    with_axis,
    with_specs,
    without_axes,
)
from ._stack_streams import Fork, equal_stream_faults, fork_of, shared_streams
from ._state import StateSpec
from ._static import GraphObject
from ._update import leaf_form, leaf_text

N = TypeVar("N")

# A leaf in the value of a State: the State's number, and JAX's key path.
_Leaf: TypeAlias = tuple[int, tuple[Any, ...]]


def stack(nodes: Sequence[N], /, axis: int = 0, *, name: str | None = None) -> N:
    """One new node whose every value is that of the given nodes, stacked along a new axis.

    The node has the structure of the given ones; only an explicit sharding gets an
    entry for the new axis, `None` or its name. It is for `vmap` and `scan`, which take
    the axis away again. What the nodes share with each other is stacked like the rest,
    once for each. A random stream that they share is forked, by one draw: each node
    gets a stream of its own, in their order, as each would draw different numbers in a
    loop. So is each stream of a single node, as it may be used elsewhere too: a stack
    of 1 works like a stack of 2.

    Args:
        nodes: Nodes, or pytrees of nodes, of one structure, shapes and dtypes.
        axis: The position of the new axis in every array; negative counts from the end
            of the result.
        name: The role of the new axis, such as "layers": each State records it, with
            its position.

    Returns:
        A new node with new States. Key arrays are stacked too.

    Raises:
        StackError: There are no nodes; arrays differ in tree, shape or dtype, or have
            no such axis; nodes would draw the same random numbers from streams that are
            not one; lists all faults.
        StructureError: A node differs in structure from the first, or something is not
            a node.
        TraceError: A JAX transformation runs that a shared stream was not passed into.
            Nothing was drawn.

    Example:
        >>> ensemble = gn.stack([gn.nn.Linear(2, 3) for _ in range(5)])
        >>> graphdef, params = gn.treefy_split(ensemble)
        >>> jax.vmap(lambda params: gn.treefy_merge(graphdef, params)(jnp.ones(2)))(params).shape
        (5, 3)

    See also: `unstack`, the inverse.
    """
    if isinstance(nodes, GraphObject):
        raise StructureError(
            f"gn.stack takes a sequence of nodes; found {with_article(type(nodes).__name__)} alone"
        )
    if not isinstance(nodes, Iterable):
        raise TypeError(wrong_argument("a sequence of nodes", nodes))
    axis = checked_index("gn.stack", "axis", axis)
    bindings = [binding_of(node) for node in nodes]
    if not bindings:
        raise StackError(
            "stack takes at least one node: of none, the structure is unknown"
        )
    graphdef = _common_graphdef(bindings)
    columns = _columns(bindings)
    faults = _stack_faults(graphdef, columns, axis, name)
    faults += equal_stream_faults(bindings)
    if faults:
        raise StackError(f"cannot stack {graphdef.type.__name__}: {listed(faults)}")
    stacked_graphdef = _stacked_graphdef(graphdef, columns, axis, name)
    forks = [fork_of(stream) for stream in shared_streams(bindings)]
    _put_forks(columns, forks)
    values = [
        jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *column)
        for column in columns
    ]
    stacked = build(stacked_graphdef, values)
    # The draws of the shared streams are written last: when all else has succeeded.
    store_all([fork.stream.count for fork in forks], [fork.after for fork in forks])
    return stacked  # type: ignore[no-any-return]


# Any: each State has a value of its own type.
def _columns(bindings: Sequence[Binding]) -> list[list[Any]]:
    """For `stack`: for each State in layout order, the list of its values, one for each node."""
    rows = [binding.values() for binding in bindings]
    return [list(column) for column in zip(*rows, strict=True)]


def _stack_faults(
    graphdef: GraphDef[Any],
    columns: Sequence[Sequence[Any]],
    axis: int,
    name: str | None,
) -> list[str]:
    """Why values do not stack, or a name cannot be that of an axis: one text for each fault.

    Args:
        graphdef: The structure of each node.
        columns: For each State its value in each node.
        axis: The new axis.
        name: Its name, if it has one.
    """
    faults: list[str] = []
    for at, column in enumerate(columns):
        faults += [
            _state_path(graphdef, at) + fault for fault in _column_faults(column, axis)
        ]
    if name is not None and not (isinstance(name, str) and name):
        faults.append(
            f"the name of an axis is a text such as 'layers'; found {describe(name)}"
        )
    return faults


def _put_forks(columns: Sequence[list[Any]], forks: Sequence[Fork]) -> None:
    """For `stack`: give each node its own fork of the shared streams: replaces keys and counts in `columns`."""
    for fork in forks:
        for (number, stream), key in zip(fork.stream.places, fork.keys, strict=True):
            columns[stream.key_at][number] = key
            columns[stream.count_at][number] = fork.start


def _stacked_graphdef(
    graphdef: GraphDef[Any],
    columns: Sequence[Sequence[Any]],
    axis: int,
    name: str | None,
) -> GraphDef[Any]:
    """For `stack`: the structure of the stacked node, whose shardings and named axes have got the axis.

    Args:
        graphdef: The structure of each node.
        columns: For each State its value in each node.
        axis: The new axis.
        name: Its name, if it has one.
    """
    if name is None and not mentions_axes(graphdef):
        return graphdef
    specs: dict[int, StateSpec] = {}
    for at, (spec, column) in enumerate(
        zip(graphdef.layout.specs, columns, strict=True)
    ):
        if name is not None or has_axes(spec):
            specs[at] = with_axis(
                spec,
                checked_position(axis, column[0], _state_path(graphdef, at), more=1),
                name,
            )
    return with_specs(graphdef, specs)


def _common_graphdef(bindings: Sequence[Binding]) -> GraphDef[Any]:
    """For `stack`: the one graphdef of all nodes.

    Raises:
        StructureError: A node has another than the first; names what differs.
    """
    graphdef = bindings[0].graphdef
    for at, binding in enumerate(bindings):
        # By identity, as graphdefs are interned.
        if binding.graphdef is not graphdef:
            differences = map(str, diff(graphdef, binding.graphdef))
            faults = listed(list(differences), limit=10)
            raise StructureError(
                f"cannot stack nodes of two structures: node {at} differs from node 0: {faults}"
            )
    return graphdef


def _column_faults(column: Sequence[Any], axis: int) -> Iterator[str]:
    """Why the values of one State do not stack: leaves that are not arrays, or differ from the first node's.

    `_stack_faults` puts the State's path in front, which is made for faults only, as it
    is as long as the State lies deep.
    """
    first = jax.tree.leaves_with_path(column[0])
    for key_path, leaf in first:
        form, where = leaf_form(leaf), jax.tree_util.keystr(key_path)
        if not isinstance(form, tuple):
            yield f"{where}: expected an array, found {leaf_text(leaf)}"
        elif not -len(form[0]) - 1 <= axis <= len(form[0]):
            yield f"{where}: {leaf_text(leaf)} has no place for a new axis {axis}"
    # Compared ahead of the leaves, which only trees of one structure have in common.
    structures: list[object] = [jax.tree.structure(value) for value in column]
    for at, value in enumerate(column):
        if structures[at] != structures[0]:
            yield f": node 0 holds the tree {structures[0]}, node {at} {structures[at]}"
            continue
        for (key_path, leaf), other in zip(first, jax.tree.leaves(value), strict=True):
            if leaf_form(other) != leaf_form(leaf):
                where = jax.tree_util.keystr(key_path)
                yield f"{where}: node 0 holds {leaf_text(leaf)}, node {at} {leaf_text(other)}"


def unstack(node: N, /, axis: int = 0) -> list[N]:
    """The nodes that a stacked node consists of: one for each position along an axis of all its values.

    Args:
        node: A node, or a pytree of nodes, whose every array has the same size along
            the axis.
        axis: The axis that is taken apart and away; negative counts from the end.

    Returns:
        New nodes of the structure that was stacked, with new States. Streams that
        `stack` has forked stay forks.

    Raises:
        StackError: Arrays have no such axis, or differ in their size along it (names
            all of them); or there are none.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> first, second = gn.nn.Linear(2, 3), gn.nn.Linear(2, 3)
        >>> again, _ = gn.unstack(gn.stack([first, second]))
        >>> bool(jnp.array_equal(again.weight.value, first.weight.value))
        True

    See also: `stack`, the inverse.
    """
    axis = checked_index("gn.unstack", "axis", axis)
    binding = binding_of(node)
    size = _size_along(binding, axis)
    parts: list[list[Any]] = [[] for _ in range(size)]
    for value in binding.values():
        leaves, treedef = jax.tree.flatten(value)
        rows = (
            zip(*[jnp.unstack(leaf, axis=axis) for leaf in leaves], strict=True)
            if leaves
            # A value without arrays is in each part as it is.
            else [()] * size
        )
        for part, row in zip(parts, rows, strict=True):
            part.append(jax.tree.unflatten(treedef, row))
    graphdef = _unstacked_graphdef(binding, axis)
    return [build(graphdef, part) for part in parts]


def _unstacked_graphdef(binding: Binding, axis: int) -> GraphDef[Any]:
    """For `unstack`: the structure of each part, whose shardings and named axes have lost the axis."""
    graphdef = binding.graphdef
    if not mentions_axes(graphdef):
        return graphdef
    positions = {
        at: checked_position(axis, looked_at(state), _state_path(graphdef, at))
        for at, state in enumerate(binding.states)
        if has_axes(state._spec)
    }
    return without_axes(graphdef, positions)


def _size_along(binding: Binding, axis: int) -> int:
    """For `unstack`: the size that all arrays have along an axis, and so the number of nodes.

    Raises:
        StackError: An array has no such axis, or their sizes differ.
    """
    graphdef = binding.graphdef
    # By number and key path, not by name: a name is as long as the State lies deep.
    sizes: dict[_Leaf, int] = {}
    faults: list[str] = []
    for at, state in enumerate(binding.states):
        for key_path, leaf in jax.tree.leaves_with_path(looked_at(state)):
            form = leaf_form(leaf)
            if isinstance(form, tuple) and -len(form[0]) <= axis < len(form[0]):
                sizes[at, key_path] = form[0][axis]
            else:
                faults.append(
                    f"{_leaf_path(graphdef, (at, key_path))}: {leaf_text(leaf)} has no axis {axis}"
                )
    first = next(iter(sizes), (0, ()))
    faults += [
        f"{_leaf_path(graphdef, leaf)}: expected size {sizes[first]} along axis {axis} as "
        f"{_leaf_path(graphdef, first)} has, found {size}"
        for leaf, size in sizes.items()
        if size != sizes[first]
    ]
    if not sizes and not faults:
        faults = [
            "it holds no arrays, and only their size along the axis would say into how many nodes"
        ]
    if faults:
        raise StackError(f"cannot unstack {graphdef.type.__name__}: {listed(faults)}")
    return sizes[first]


def _leaf_path(graphdef: GraphDef[Any], leaf: _Leaf) -> str:
    """For messages: the path of a leaf in the value of a State, as a text."""
    at, key_path = leaf
    return _state_path(graphdef, at) + jax.tree_util.keystr(key_path)


def _state_path(graphdef: GraphDef[Any], at: int) -> str:
    """For messages: the path of State number `at` as a text, or `the root`."""
    return path_str(graphdef.layout.path(at)) or "the root"
