"""`associative_scan`: all prefix sums of an associative operation on nodes and arrays.

JAX's scan runs the operation on many elements at once, and takes and gives flat rows of
arrays. Here these are the arrays of `gn.graph_to_tree`:

    elems ──► pytree ──► JAX's scan ──► pytree ──► new nodes like those of elems
                          │      ▲
                          ▼      │      at each level of the scan:
                    nodes a, b   fn(a, b), taken apart
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path

from .._arguments import checked_index
from .._describe import describe
from .._errors import StructureError, TraceError, listed
from .._graph._binding_cache import binding_of_list
from .._graph._diff import differences
from .._paths import Path, path_str
from .._static import GraphObject
from .._tracebacks import hides_frames
from ._arguments import Function, Values, positional_names
from ._axes import check_sizes, spread_axes
from ._boundary import Call
from ._carry import compiled
from ._kept import remembered
from ._methods import target_of
from ._pure import NO_NODES, Outcome, pure_of
from ._separated import Separated
from ._signature import CallSite, Signature
from ._type_text import type_text
from ._vmap import check_axis
from ._written import Before, kind_of_value

E = TypeVar("E")

_REFUSAL: Final = (
    "must not be written, nor drawn from: the function runs on many elements at once, in no order. Give what changes "
    "back in the result"
)
_SIZES: Final = "All States and arrays of elems have the axis, such as gn.stack makes of several nodes"


@hides_frames
def associative_scan(
    fn: Callable[[E, E], E], elems: E, reverse: bool = False, axis: int = 0
) -> E:
    """All prefix sums of an associative operation on nodes and arrays, as `jax.lax.associative_scan`.

    Nodes in `elems` are stacked: all their States have the axis. As in JAX, `fn` gets
    many elements at once, along the axis: of an operation on single ones, give
    `gn.vmap(fn)`. It may read nodes of outside, and write to none.

    Args:
        fn: From two pytrees like `elems` to one like them, with new nodes, or those
            that it got; a function, a method or a callable node. It must be associative:
            `fn(fn(a, b), c)` equals `fn(a, fn(b, c))`.
        elems: A pytree of arrays, nodes and state trees.
        reverse: Whether to sum from the end.
        axis: The axis of all arrays of `elems` to scan along.

    Returns:
        A pytree like `elems`, of the same shapes and dtypes: at each position the sum
        of all elements up to there. Nodes in it are new; those of `elems` stay as they
        are.

    Raises:
        TraceError: `fn` writes to a State, or draws from a random stream; names all.
        StructureError: `fn` gives a node of another structure than that in `elems`.
        TypeError: `fn` gives another pytree, or other shapes or dtypes; or there are
            random keys in `elems`.
        ValueError: Some array of `elems` has no such axis, or another size along it; or
            there is none.

    Example:
        >>> class Affine(gn.Node):
        ...     scale: gn.ParamState
        ...     shift: gn.ParamState
        >>> def then(a, b):
        ...     return Affine(
        ...         gn.ParamState(a.scale.value * b.scale.value),
        ...         gn.ParamState(b.scale.value * a.shift.value + b.shift.value),
        ...     )
        >>> steps = gn.stack([Affine(gn.ParamState(jnp.float32(2)), gn.ParamState(jnp.float32(n))) for n in range(3)])
        >>> gn.associative_scan(gn.vmap(then), steps).shift.value
        Array([0., 1., 4.], dtype=float32)

    See also: `scan`, whose function runs on one element after another, and may write.
    """
    target, bound = target_of(fn)
    axis = checked_index("gn.associative_scan", "axis", axis)
    if axis < 0:
        # As in JAX, it counts from the last axis of the first array.
        leaves = jax.tree.leaves(Separated.of(elems))
        axis += max(map(jnp.ndim, leaves[:1]), default=0)
    function = _scanning(target, len(bound), reverse, axis)
    call = Call("associative_scan", function, (*bound, elems))
    axes = spread_axes(call, (*[None] * len(bound), axis), None, check_axis)
    check_sizes(call, axes, _SIZES)
    _check_leaves(call, axes.all())
    outcome = compiled(call, (function,), None, functools.partial(_run, call.signature))
    return call.finish(outcome)  # type: ignore[no-any-return]  # like `elems`


def _run(
    signature: Signature,
    functions: Sequence[Function],
    values: Values,
    other_leaves: list[Any],
) -> Outcome:
    """What is compiled of an `associative_scan`: the function of all of its elements, which writes nothing."""
    (function,) = functions
    site = CallSite("associative_scan", function, signature)
    return pure_of(site, (), refusal=_REFUSAL)(values, other_leaves)


def _check_leaves(call: Call, axes: Sequence[Any]) -> None:
    """Raise if there is nothing to scan, or what JAX's scan does not take and names no place of.

    Raises:
        TypeError: There are random keys; names all.
        ValueError: There is no array.
    """
    rows = zip((*call.values, *call.other_leaves), axes, strict=True)
    scanned = [at for at, (_, axis) in enumerate(rows) if axis is not None]
    if not scanned:
        raise ValueError("gn.associative_scan: elems holds no array")
    row = (*call.values, *call.other_leaves)
    keys = [at for at in scanned if any(map(_is_key, jax.tree.leaves(row[at])))]
    if keys:
        names = [*call.site.state_names(), *call.site.other_leaf_names()]
        raise TypeError(
            "gn.associative_scan: random keys cannot be scanned, and elems holds "
            f"{', '.join(names[at] for at in keys)}: take them out of elems"
        )


def _is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    return hasattr(leaf, "dtype") and bool(
        jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )


def _scanning(function: Function, bound: int, reverse: bool, axis: int) -> Function:
    """The function of all elements: the scan with `function` as its operation; the same object every time.

    Args:
        function: The user's operation.
        bound: How many arguments stand before its two elements: a method's node.
        reverse: As in `associative_scan`.
        axis: The axis, counted from the first.
    """
    return remembered(
        function,
        "associative_scan",
        (bound, reverse, axis),
        lambda: _made_scanning(function, bound, reverse, axis),
    )


def _made_scanning(
    function: Function, bound: int, reverse: bool, axis: int
) -> Function:
    """For `_scanning`, which keeps it."""

    @functools.wraps(function)
    def scanning(*arguments: Any) -> Any:
        """The scan, of the node of a method, if any, and all elements."""
        *own, elems = arguments
        operation = _Operation(function, own, elems)
        scanned: Separated = jax.lax.associative_scan(
            operation, Separated.of(elems), reverse=reverse, axis=axis
        )
        return scanned.live()[0]

    # What messages call the arguments.
    names = [*positional_names(function)[:bound], "elems"]
    kind = inspect.Parameter.POSITIONAL_ONLY
    parameters = [inspect.Parameter(name, kind) for name in names]
    vars(scanning)["__signature__"] = inspect.Signature(parameters)
    return scanning


class _Operation:
    """The user's operation as JAX calls it: from pytrees of arrays to one like them.

    Args:
        function: The user's operation.
        own: The node of a method, if any.
        elems: All elements.
    """

    def __init__(self, function: Function, own: Sequence[Any], elems: Any) -> None:
        self._function, self._own = function, own
        pairs, self._treedef = tree_flatten_with_path(elems)
        self._key_paths = [keystr(key_path) for key_path, _ in pairs]
        self._is_node = [isinstance(leaf, GraphObject) for _, leaf in pairs]
        nodes = [leaf for _, leaf in pairs if isinstance(leaf, GraphObject)]
        self._graphdef = (binding_of_list(nodes) if nodes else NO_NODES).graphdef

    def __call__(self, left: Separated, right: Separated) -> Separated:
        """The operation on elements, each of the two at many positions.

        Raises:
            StructureError, TraceError, TypeError: As of `associative_scan`.
        """
        (left_elems, left_nodes), (right_elems, right_nodes) = left.live(), right.live()
        roots = left_nodes + right_nodes
        binding = binding_of_list(roots) if roots else NO_NODES
        before = Before.of(tuple([state._value for state in binding.states]))
        result = self._function(*self._own, left_elems, right_elems)
        written = before.written(binding.states)
        if written:
            paths = [binding.graphdef.layout.path(number) for number in written]
            names = ", ".join(map(self._element_name, paths))
            raise TraceError(f"gn.associative_scan: {names} {_REFUSAL}")
        self._check_structure(result)
        combined = Separated.of(result)
        self._check_types(left, combined)
        return combined

    def _element_name(self, path: Path) -> str:
        """For a message: a State of the two elements, by its path from the list of their nodes."""
        nodes = [name for name, is_node in self._rows() if is_node]
        side, place = divmod(int(path[0]), len(nodes))
        parameters = positional_names(self._function)[len(self._own) :][:2]
        element = parameters[side] if len(parameters) == 2 else ("left", "right")[side]
        return _name_below(f"{element}{nodes[place]}", path)

    def _rows(self) -> Iterator[tuple[str, bool]]:
        """For each leaf of the elements: its key path as text, and whether it is a node."""
        return zip(self._key_paths, self._is_node, strict=True)

    def _check_structure(self, result: Any) -> None:
        """Raise if the operation does not give a pytree like its elements, of nodes like theirs."""
        leaves, treedef = jax.tree.flatten(result)
        treedefs: list[object] = [treedef, self._treedef]  # JAX's stubs: no equality
        if treedefs[0] != treedefs[1]:
            raise TypeError(
                "gn.associative_scan: the function gives another structure than that of elems: "
                f"{treedef} instead of {self._treedef}"
            )
        faults = [
            f"result{key_path} is {describe(leaf)}, where elems holds {'a node' if is_node else 'an array'}"
            for (key_path, is_node), leaf in zip(self._rows(), leaves, strict=True)
            if isinstance(leaf, GraphObject) != is_node
        ]
        if faults:
            raise TypeError(f"gn.associative_scan: {listed(faults)}")
        nodes = [leaf for leaf in leaves if isinstance(leaf, GraphObject)]
        graphdef = (binding_of_list(nodes) if nodes else NO_NODES).graphdef
        # Graphdefs are interned: equal ones are the same object.
        if graphdef is not self._graphdef:
            changes = itertools.islice(
                differences(
                    self._graphdef,
                    graphdef,
                    functools.partial(self._node_name, "elems"),
                    functools.partial(self._node_name, "result"),
                ),
                10,
            )
            faults = [
                f"{self._node_name('result', change.path)}: {change.right}, where elems holds {change.left}"
                for change in changes
            ]
            raise StructureError(
                "gn.associative_scan: the function gives nodes of another structure than those in elems: "
                f"{listed(faults)}"
            )

    def _node_name(self, tree: str, path: Path) -> str:
        """For a message: what stands at a path from the list of the nodes in `elems`, or in the result."""
        if not path:
            return tree
        nodes = [name for name, is_node in self._rows() if is_node]
        return _name_below(f"{tree}{nodes[int(path[0])]}", path)

    def _check_types(self, element: Separated, combined: Separated) -> None:
        """Raise if the operation gives other shapes or dtypes than those of its elements; the structure is the same."""
        pairs = zip(_values_in(element), _values_in(combined), strict=True)
        changed = [
            (at, old, new)
            for at, (old, new) in enumerate(pairs)
            if kind_of_value(old) != kind_of_value(new)
        ]
        if changed:
            paths = [
                self._graphdef.layout.path(n) for n in range(len(self._graphdef.layout))
            ]
            names = [self._node_name("result", path) for path in paths]
            names += [f"result{name}" for name, is_node in self._rows() if not is_node]
            faults = [
                f"{names[at]} is {type_text(new)}, where elems holds {type_text(old)}"
                for at, old, new in changed
            ]
            raise TypeError(f"gn.associative_scan: {listed(faults)}")


def _values_in(tree: Separated) -> list[Any]:
    """The values of all States, in order, then the other leaves."""
    # Each State is in the part where it is first seen, so that the parts have all.
    values = [value for part in tree.nodes for value in part.states._values]
    return values + jax.tree.leaves(tree.others)


def _name_below(root: str, path: Path) -> str:
    """For a message: the name of a root, with a path that begins after it."""
    below = path_str(path[1:])
    return f"{root}.{below}" if below else root
