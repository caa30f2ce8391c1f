"""Stack equal nodes into one node whose values have one more axis, and take it apart again.

What `jax.vmap` and `jax.lax.scan` map over: an ensemble, or the layers of a deep network. Both directions work on
the values in layout order; all nodes share one graphdef.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from ._binding import Binding, binding_of, build
from ._diff import diff
from ._errors import StackError, StructureError, listed
from ._graphdef import GraphDef
from ._paths import path_str
from ._static import GraphObject
from ._update import leaf_form, leaf_text

N = TypeVar("N")


def stack(nodes: Sequence[N], /, axis: int = 0) -> N:
    """One new node whose every value is that of the given nodes, stacked along a new axis.

    The node has the structure of the given ones: their static values, and the descriptions of their States, say nothing
    of the new axis. It is for `jax.vmap` and `jax.lax.scan`, which take the axis away again. What the nodes share with
    each other is stacked like the rest, once for each.

    Args:
        nodes: Nodes, or pytrees of nodes, of one structure, shapes and dtypes.
        axis: Where the new axis stands in every array; negative counts from the end of the result.

    Returns:
        A new node with new States. Key arrays are stacked too.

    Raises:
        StackError: There are no nodes; arrays differ in tree, shape or dtype, or have no such axis; lists all faults.
        StructureError: A node differs in structure from the first, or something is no node.

    Example:
        >>> ensemble = gn.stack([gn.nn.Linear(2, 3) for _ in range(5)])
        >>> graphdef, params = gn.treefy_split(ensemble)
        >>> jax.vmap(lambda params: gn.treefy_merge(graphdef, params)(jnp.ones(2)))(params).shape
        (5, 3)

    See also: `unstack`, the inverse.
    """
    if isinstance(nodes, GraphObject):
        raise StructureError(f"stack takes a sequence of nodes; found a {type(nodes).__name__} alone")
    bindings = [binding_of(node) for node in nodes]
    if not bindings:
        raise StackError("stack takes at least one node: of none, the structure is unknown")
    graphdef = _common_graphdef(bindings)
    columns = list(zip(*[binding.values() for binding in bindings], strict=True))
    faults = [fault for at, column in enumerate(columns) for fault in _column_faults(_name(graphdef, at), column, axis)]
    if faults:
        raise StackError(f"cannot stack {graphdef.type.__name__}: {listed(faults)}")
    values = [jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *column) for column in columns]
    return build(graphdef, values)  # type: ignore[no-any-return]


def _common_graphdef(bindings: Sequence[Binding]) -> GraphDef[Any]:
    graphdef = bindings[0].graphdef
    for at, binding in enumerate(bindings):
        if binding.graphdef is not graphdef:
            faults = listed([str(one) for one in diff(graphdef, binding.graphdef)], limit=10)
            raise StructureError(f"cannot stack nodes of two structures: node {at} differs from node 0: {faults}")
    return graphdef


def _column_faults(name: str, column: Sequence[Any], axis: int) -> Iterator[str]:
    """Why the values of one State do not stack: where they are no arrays, or differ from the first node's."""
    first = jax.tree.leaves_with_path(column[0])
    for key_path, leaf in first:
        form, where = leaf_form(leaf), name + jax.tree_util.keystr(key_path)
        if not isinstance(form, tuple):
            yield f"{where}: expected an array, found {leaf_text(leaf)}"
        elif not -len(form[0]) - 1 <= axis <= len(form[0]):
            yield f"{where}: {leaf_text(leaf)} has no place for a new axis {axis}"
    structures: list[object] = [jax.tree.structure(value) for value in column]
    for at, value in enumerate(column):
        if structures[at] != structures[0]:
            yield f"{name}: node 0 holds the tree {structures[0]}, node {at} {structures[at]}"
            continue
        for (key_path, leaf), other in zip(first, jax.tree.leaves(value), strict=True):
            if leaf_form(other) != leaf_form(leaf):
                where = name + jax.tree_util.keystr(key_path)
                yield f"{where}: node 0 holds {leaf_text(leaf)}, node {at} {leaf_text(other)}"


def unstack(node: N, /, axis: int = 0) -> list[N]:
    """The nodes that a stacked node consists of: one for each position along an axis of all its values.

    Args:
        node: A node, or a pytree of nodes, whose every array has the same size along the axis.
        axis: The axis that is taken apart and away; negative counts from the end.

    Returns:
        New nodes of the same structure, with new States.

    Raises:
        StackError: Arrays have no such axis, or differ in their size along it (names all of them); or there are none.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> first, second = gn.nn.Linear(2, 3), gn.nn.Linear(2, 3)
        >>> again, _ = gn.unstack(gn.stack([first, second]))
        >>> bool(jnp.array_equal(again.weight.value, first.weight.value))
        True

    See also: `stack`, the inverse.
    """
    binding = binding_of(node)
    size = _size_along(binding, axis)
    parts: list[list[Any]] = [[] for _ in range(size)]
    for value in binding.values():
        leaves, treedef = jax.tree.flatten(value)
        rows = zip(*[jnp.unstack(leaf, axis=axis) for leaf in leaves], strict=True) if leaves else [()] * size
        for part, row in zip(parts, rows, strict=True):
            part.append(jax.tree.unflatten(treedef, row))
    return [build(binding.graphdef, part) for part in parts]


def _size_along(binding: Binding, axis: int) -> int:
    """The size that all arrays have along an axis.

    Raises:
        StackError: They have none, or not the same.
    """
    graphdef = binding.graphdef
    sizes: dict[str, int] = {}
    faults: list[str] = []
    for at, state in enumerate(binding.states):
        for key_path, leaf in jax.tree.leaves_with_path(state._value):
            form, where = leaf_form(leaf), _name(graphdef, at) + jax.tree_util.keystr(key_path)
            if isinstance(form, tuple) and -len(form[0]) <= axis < len(form[0]):
                sizes[where] = form[0][axis]
            else:
                faults.append(f"{where}: {leaf_text(leaf)} has no axis {axis}")
    first = next(iter(sizes), "")
    faults += [
        f"{where}: expected size {sizes[first]} along axis {axis} as {first} has, found {size}"
        for where, size in sizes.items()
        if size != sizes[first]
    ]
    if not sizes and not faults:
        faults = ["it holds no arrays, and only their size along the axis would say into how many nodes"]
    if faults:
        raise StackError(f"cannot unstack {graphdef.type.__name__}: {listed(faults)}")
    return sizes[first]


def _name(graphdef: GraphDef[Any], at: int) -> str:
    return path_str(graphdef.layout.path(at)) or "the root"
