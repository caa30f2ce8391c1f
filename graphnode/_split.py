"""Split a node into its graphdef and state trees, and collect its States. `_merge` is the inverse.

All of these work on the node's binding, its States in layout order:

    node --binding_of--> graphdef + (State, State, State)      walked once, then cached
    split(A, ...)        groups of the States, one for each filter; read their values

The second split looks the groups up by filters (`Binding.groups`). How a binding is
made is in `_graph._flatten`, and how it notices a change of structure, in
`_graph._binding`.
"""

from types import EllipsisType
from typing import Any, TypeVar, overload

from ._filters import PLAIN_FILTERS, AnyFilter, Filter, Selector, as_filters
from ._graph._binding import Binding
from ._graph._binding_cache import binding_of
from ._graph._graphdef import GraphDef
from ._graph._layout import Layout
from ._graph._unflatten import build
from ._selection import unaccepted
from ._state import State
from ._statetree import S1, S2, S3, S4, FlatStates, Item, StateTree, select

N = TypeVar("N")


# What a filter selects: its layout, and the live States of the binding in that order.
Group = tuple[Layout, tuple[State[Any], ...]]


def _groups(
    binding: Binding, filters: tuple[AnyFilter, ...]
) -> tuple[list[Group], tuple[int, ...]]:
    """What each filter selects, cached on the binding if the filters are fixed.

    For `treefy_split`, `treefy_states` and `states`.

    Returns:
        For each filter its layout and its live States; and the numbers of the States that none selects.
    """
    # Most filters are classes and `...`, which are looked up as they are: making
    # matchers of them would cost more than the rest of a second split.
    key = (
        filters if PLAIN_FILTERS.issuperset(map(type, filters)) else as_filters(filters)
    )
    cached = binding.groups.get(key)
    if cached is not None:
        return cached  # type: ignore[no-any-return]  # only written below
    states = binding.states
    matchers = as_filters(filters)
    selection, rest = select(binding.graphdef.layout, matchers, lambda: states)
    groups = [
        (layout, tuple([states[at] for at in numbers])) for numbers, layout in selection
    ]
    if all(matcher.is_fixed for matcher in matchers):
        binding.remember(key, (groups, rest))
    return groups, rest


def graphdef(node: N, /) -> GraphDef[N]:
    """The structure of a node.

    Args:
        node: A node, or a pytree of nodes.

    Returns:
        The same object for every node of equal structure; it holds no values.

    Raises:
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> gn.graphdef(gn.nn.Linear(2, 3)) == gn.graphdef(gn.nn.Linear(2, 3))
        True
        >>> gn.graphdef(gn.nn.Linear(2, 3)) == gn.graphdef(gn.nn.Linear(2, 4))
        False
    """
    return binding_of(node).graphdef


@overload
def treefy_split(node: N, /) -> tuple[GraphDef[N], StateTree]: ...


@overload
def treefy_split(
    node: N, only: Filter | EllipsisType, /
) -> tuple[GraphDef[N], StateTree]: ...


@overload
def treefy_split(
    node: N, first: Filter, second: Filter | EllipsisType, /
) -> tuple[GraphDef[N], StateTree, StateTree]: ...


@overload
def treefy_split(
    node: N, first: Filter, second: Filter, third: Filter | EllipsisType, /
) -> tuple[GraphDef[N], StateTree, StateTree, StateTree]: ...


@overload
def treefy_split(
    node: N,
    first: Filter,
    second: Filter,
    third: Filter,
    fourth: Filter | EllipsisType,
    /,
) -> tuple[GraphDef[N], StateTree, StateTree, StateTree, StateTree]: ...


@overload
def treefy_split(
    node: N,
    first: Filter | EllipsisType,
    second: Filter | EllipsisType,
    third: Filter | EllipsisType,
    fourth: Filter | EllipsisType,
    fifth: Filter | EllipsisType,
    /,
    *rest: Filter | EllipsisType,
) -> tuple[GraphDef[N], *tuple[StateTree, ...]]: ...


def treefy_split(
    node: N, /, *filters: Filter | EllipsisType
) -> tuple[GraphDef[N], *tuple[StateTree, ...]]:
    """Split a node into its graphdef and one state tree per filter.

    Arrays pass through by identity, never copied, cast or reshaped, in new containers:
    later writes to the node do not change the trees. A State goes to the first filter
    that accepts it.

    Args:
        node: A node, or a pytree of nodes.
        *filters: Tried in order; together they must accept every State. `...` accepts
            all.

    Returns:
        The graphdef, then one state tree per filter (one in all when there is no
        filter).

    Raises:
        FilterError: No filter accepts some States (names all of them), there is nothing
            at a path of a filter (names the nearest), or `...` stands before another
            filter.
        FilterTypeError: Something is not a filter.
        StructureError: `node` is neither a node nor a pytree of nodes.
        TraceError: A State still holds a tracer of a JAX transformation that has ended.

    Example:
        >>> graphdef, params, rest = gn.treefy_split(gn.nn.Linear(2, 3), gn.ParamState, ...)
        >>> params["weight"].value.shape
        (2, 3)
        >>> len(rest)
        0

    See also: `treefy_merge`, the inverse; `update_states`, which writes state trees
    into a live node.
    """
    binding = binding_of(node)
    if not filters:
        return binding.graphdef, StateTree(binding.graphdef.layout, binding.values())
    groups, rest = _groups(binding, filters)
    if rest:
        layout = binding.graphdef.layout
        raise unaccepted(
            [Item(layout, at, None) for at in rest],
            as_filters(filters),
            binding.graphdef.type.__name__,
        )
    return binding.graphdef, *[
        StateTree(layout, binding.values_of(states)) for layout, states in groups
    ]


@overload
def treefy_states(node: object, /) -> StateTree: ...


@overload
def treefy_states(node: object, only: Filter | EllipsisType, /) -> StateTree: ...


@overload
def treefy_states(
    node: object, first: Filter, second: Filter | EllipsisType, /
) -> tuple[StateTree, StateTree]: ...


@overload
def treefy_states(
    node: object, first: Filter, second: Filter, third: Filter | EllipsisType, /
) -> tuple[StateTree, StateTree, StateTree]: ...


@overload
def treefy_states(
    node: object,
    first: Filter,
    second: Filter,
    third: Filter,
    fourth: Filter | EllipsisType,
    /,
) -> tuple[StateTree, StateTree, StateTree, StateTree]: ...


@overload
def treefy_states(
    node: object,
    first: Filter | EllipsisType,
    second: Filter | EllipsisType,
    third: Filter | EllipsisType,
    fourth: Filter | EllipsisType,
    fifth: Filter | EllipsisType,
    /,
    *rest: Filter | EllipsisType,
) -> tuple[StateTree, ...]: ...


def treefy_states(
    node: object, /, *filters: Filter | EllipsisType
) -> StateTree | tuple[StateTree, ...]:
    """The values of a node's States as state trees.

    Like `treefy_split` without the graphdef, but States that no filter accepts are left
    out.

    Args:
        node: A node, or a pytree of nodes.
        *filters: The first that accepts a State takes it.

    Returns:
        One state tree for none or one filter, else a tuple with one for each. Arrays
        are kept by identity, in new containers.

    Raises:
        FilterError: There is nothing at a path of a filter (names the nearest), or
            `...` stands before another one.
        FilterTypeError: Something is not a filter.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> gn.treefy_states(gn.nn.Linear(2, 3), gn.ParamState)["weight"].type
        <class 'graphnode.ParamState'>
    """
    binding = binding_of(node)
    groups, _ = _groups(binding, filters or (...,))
    trees = [StateTree(layout, binding.values_of(states)) for layout, states in groups]
    return trees[0] if len(filters) <= 1 else tuple(trees)


@overload
def states(node: object, /) -> FlatStates[State[Any]]: ...


@overload
def states(
    node: object, only: type[S1] | Selector | EllipsisType, /
) -> FlatStates[S1]: ...


@overload
def states(
    node: object,
    first: type[S1] | Selector,
    second: type[S2] | Selector | EllipsisType,
    /,
) -> tuple[FlatStates[S1], FlatStates[S2]]: ...


@overload
def states(
    node: object,
    first: type[S1] | Selector,
    second: type[S2] | Selector,
    third: type[S3] | Selector | EllipsisType,
    /,
) -> tuple[FlatStates[S1], FlatStates[S2], FlatStates[S3]]: ...


@overload
def states(
    node: object,
    first: type[S1] | Selector,
    second: type[S2] | Selector,
    third: type[S3] | Selector,
    fourth: type[S4] | Selector | EllipsisType,
    /,
) -> tuple[FlatStates[S1], FlatStates[S2], FlatStates[S3], FlatStates[S4]]: ...


@overload
def states(
    node: object,
    first: Filter | EllipsisType,
    second: Filter | EllipsisType,
    third: Filter | EllipsisType,
    fourth: Filter | EllipsisType,
    fifth: Filter | EllipsisType,
    /,
    *rest: Filter | EllipsisType,
) -> tuple[FlatStates[State[Any]], ...]: ...


def states(
    node: object, /, *filters: Filter | EllipsisType
) -> FlatStates[Any] | tuple[FlatStates[Any], ...]:
    """The live States of a node by path; a shared State once, at its first path.

    Args:
        node: A node, or a pytree of nodes.
        *filters: The first that accepts a State takes it; States that none accepts are
            left out.

    Returns:
        One read-only mapping for none or one filter, else a tuple with one for each.
        The States are the node's own.

    Raises:
        FilterError: There is nothing at a path of a filter (names the nearest), or
            `...` stands before another one.
        FilterTypeError: Something is not a filter.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gn.states(model, gn.ParamState)[("weight",)] is model.weight
        True
    """
    binding = binding_of(node)
    groups, _ = _groups(binding, filters or (...,))
    collections = [FlatStates(layout, members) for layout, members in groups]
    return collections[0] if len(filters) <= 1 else tuple(collections)


def flatten(node: N, /) -> tuple[GraphDef[N], FlatStates[State[Any]]]:
    """The graphdef of a node, and its live States.

    Where `treefy_split` takes the values out, this keeps the State objects: a write to
    one shows in the node.

    Raises:
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> graphdef, found = gn.flatten(gn.nn.Linear(2, 3))
        >>> found
        {('bias',): ParamState(f32[3]), ('weight',): ParamState(f32[2,3])}

    See also: `unflatten`, the inverse.
    """
    binding = binding_of(node)
    return binding.graphdef, FlatStates(binding.graphdef.layout, binding.states)


def clone(node: N, /) -> N:
    """A copy with new nodes and new States that hold the same arrays; sharing and cycles are kept.

    Raises:
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> twin = gn.clone(model)
        >>> twin.weight is model.weight, twin.bias.value is model.bias.value
        (False, True)

    See also: `copy.deepcopy`, which copies the arrays too.
    """
    binding = binding_of(node)
    return build(binding.graphdef, binding.values())  # type: ignore[no-any-return]
