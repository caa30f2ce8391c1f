"""Split a node into its graphdef and state trees, merge it back, and collect its States.

All run on the node's binding: the States in layout order. Nothing here looks at an
attribute or an annotation. For how a binding is made and how it notices a change of
structure, see `_graph._binding`.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, Final, TypeVar, overload

from ._arguments import wrong_argument
from ._contract import Requirement
from ._declare._plan import check_nodes
from ._errors import MergeError, listed
from ._filters import PLAIN_FILTERS, AnyFilter, Filter, Selector, as_filters
from ._graph._binding import Binding, binding_of, traces_of
from ._graph._graphdef import GraphDef
from ._graph._layout import Layout
from ._graph._template import Column, column_of
from ._graph._unflatten import build, rebuild
from ._inspect import live_objects
from ._lookup import Given, States, match, nearest, numbers_of
from ._paths import path_str
from ._redefinition import a_class, is_one_class
from ._selection import unaccepted
from ._state import State
from ._statetree import S1, S2, S3, S4, FlatStates, Item, StateTree, select

N = TypeVar("N")

# What a filter takes: its layout, and the live States of the binding in that order.
Group = tuple[Layout, tuple[State[Any], ...]]


def _groups(
    binding: Binding, given: tuple[AnyFilter, ...]
) -> tuple[list[Group], tuple[int, ...]]:
    """What each filter takes, and the numbers of what none does; kept on the binding where the filters are fixed."""
    # Most filters are classes and `...`, by which is found what was kept without making
    # anything of them.
    filters = given if PLAIN_FILTERS.issuperset(map(type, given)) else as_filters(given)
    cached = binding.groups.get(filters)
    if cached is not None:
        return cached  # type: ignore[no-any-return]  # only written below
    states = binding.states
    matchers = as_filters(filters)
    selection, rest = select(binding.graphdef.layout, matchers, lambda: states)
    groups = [
        (layout, tuple([states[at] for at in numbers])) for numbers, layout in selection
    ]
    if all(one.is_fixed for one in matchers):
        binding.remember(filters, (groups, rest))
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


def treefy_merge(graphdef: GraphDef[N], /, *trees: States) -> N:
    """Build a node from its graphdef and state trees: new node and State objects, sharing and cycles restored.

    Arrays pass through by identity, in new containers, whatever their shapes; a NumPy
    array becomes a JAX array. `__init__`, `__post_init__`, properties and validators do
    not run. The States take the trace that runs as their own: inside a transformed
    function, traced values are at home.

    Args:
        graphdef: The structure.
        *trees: `StateTree`s in any order, `FlatStates`, or mappings by path, as
            `update_states` takes them; together, every State once.

    Returns:
        A new node (or pytree of nodes) of the structure.

    Raises:
        MergeError: States are missing, unknown, given twice (but one value by several
            paths of a State, in one collection, is fine) or of another class; names all
            of them.
        FieldError: A value holds a State or a node, or a NumPy array of a dtype that
            JAX would change; names all.
        TypeError: One of `trees` is not a collection of States.

    Example:
        >>> graphdef, params = gn.treefy_split(gn.nn.Linear(2, 3))
        >>> gn.treefy_merge(graphdef, jax.tree.map(jnp.zeros_like, params))(jnp.ones(2))
        Array([0., 0., 0.], dtype=float32)

    See also: `treefy_split`, the inverse.
    """
    if not isinstance(graphdef, GraphDef):
        raise TypeError(wrong_argument("a GraphDef first", graphdef))
    if (
        len(trees) == 1
        and isinstance(trees[0], StateTree)
        and trees[0].layout is graphdef.layout
    ):
        return build(graphdef, trees[0]._values)  # type: ignore[no-any-return]
    return build(graphdef, _gather(graphdef, trees))  # type: ignore[no-any-return]


def _gather(graphdef: GraphDef[Any], trees: Sequence[States]) -> Sequence[Any]:
    """The values of all States, in layout order."""
    layouts = tuple(
        [tree.layout if isinstance(tree, StateTree) else None for tree in trees]
    )
    order: Column | None = None
    if None not in layouts:
        order = graphdef.plans.get(layouts)
    if order is not None:
        return order(
            [
                value
                for tree in trees
                if isinstance(tree, StateTree)
                for value in tree._values
            ]
        )
    given = [match(graphdef, tree) for tree in trees]
    faults = _merge_faults(graphdef, given)
    if faults:
        raise MergeError(
            f"cannot merge into {graphdef.type.__name__}: {listed(faults)}"
        )
    numbers = [number for one in given for number in one.numbers]
    values = [value for one in given for value in one.values]
    at = {number: place for place, number in enumerate(numbers)}
    places = [at[number] for number in range(len(graphdef.layout))]
    # One value by two paths may be two values the next time: that is looked at again.
    is_plain = not any(one.further for one in given)
    if None not in layouts and is_plain and len(values) == len(places) > 0:
        graphdef.plans.keep(layouts, column_of(places))
    return [values[place] for place in places]


def _merge_faults(graphdef: GraphDef[Any], given: Sequence[Given]) -> list[str]:
    layout = graphdef.layout
    faults: list[str] = []
    # Paths are made for faults alone: those of a long chain would cost its square.
    seen: dict[int, tuple[Given, int]] = {}
    for one in given:
        faults += one.contradictions(layout)
        for at, (number, spec) in enumerate(zip(one.numbers, one.specs, strict=True)):
            if number is None:
                key = one.key(at)
                faults.append(
                    f"unknown {key}: the graphdef has no State there{nearest(layout, key)}"
                )
                continue
            before, first = seen.get(number, (one, at))
            if before is not one:
                place, other = one.key(at), before.key(first)
                faults.append(
                    f"{place} is given twice{f' (also as {other})' if other != place else ''}"
                )
            seen[number] = one, at
            wanted = layout.specs[number].cls
            if spec is not None and not is_one_class(spec.cls, wanted):
                found = f"{path_str(one.path(at))} is {a_class(spec.cls, wanted)}"
                faults.append(
                    f"{found}, the graphdef has {a_class(wanted, spec.cls)} there"
                )
    missing = [at for at in range(len(layout)) if at not in seen]
    faults += [
        f"missing {path_str(layout.path(at))} ({layout.specs[at].cls.__name__})"
        for at in missing
    ]
    return faults


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
    found = [FlatStates(layout, members) for layout, members in groups]
    return found[0] if len(filters) <= 1 else tuple(found)


def flatten(node: N, /) -> tuple[GraphDef[N], FlatStates[State[Any]]]:
    """The graphdef of a node, and its live States.

    Where `treefy_split` takes the values out, this keeps the State objects: a write to
    one shows in the node.

    Raises:
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> graphdef, found = gn.flatten(gn.nn.Linear(2, 3))
        >>> found
        {
          ('bias',): ParamState(
            value=ShapedArray(float32[3])
          ),
          ('weight',): ParamState(
            value=ShapedArray(float32[2,3])
          )
        }

    See also: `unflatten`, the inverse.
    """
    binding = binding_of(node)
    return binding.graphdef, FlatStates(binding.graphdef.layout, binding.states)


def unflatten(graphdef: GraphDef[N], states: FlatStates[Any], /) -> N:
    """Build new nodes around live States, which keep their identity.

    Raises:
        TypeError: `graphdef` is not a GraphDef, or `states` are not FlatStates.
        MergeError: States are missing, unknown or of another class; names all of them.
        ContractError: A State does not have the shape or dtype that its field declares;
            names all of them.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> twin = gn.unflatten(*gn.flatten(model))
        >>> twin is model, twin.weight is model.weight
        (False, True)

    See also: `flatten`, the inverse; `treefy_merge`, which makes new States.
    """
    if not isinstance(graphdef, GraphDef):
        raise TypeError(wrong_argument("a GraphDef first", graphdef))
    if not isinstance(states, FlatStates):
        text = wrong_argument("live States as FlatStates", states)
        raise TypeError(f"{text}; for values, use gn.treefy_merge")
    # What is put together are the States themselves: two with one value are two.
    numbers = numbers_of(graphdef, states.layout).numbers
    given = Given(numbers, states._states, states.layout.specs, states.layout)
    faults = _merge_faults(graphdef, [given])
    if faults:
        raise MergeError(
            f"cannot unflatten into {graphdef.type.__name__}: {listed(faults)}"
        )
    by_number = dict(zip(numbers, states._states, strict=True))
    live = [by_number[number] for number in range(len(by_number))]
    node: N = rebuild(graphdef, live, traces_of(live))
    _check_contracts(node, graphdef)
    return node


def _check_contracts(node: Any, graphdef: GraphDef[Any]) -> None:
    """Raise if States in new nodes break the contracts there.

    Those that are held to them already need no look, unless it is to each other that
    they must fit.
    """
    objects, requirements = live_objects(node, graphdef), graphdef.requirements
    joint: frozenset[int] = graphdef.plans.to(
        _JOINT, lambda: frozenset(_joint_nodes(requirements))
    )
    unchecked = [
        objects[number]
        for number, asked in requirements.items()
        if number in joint
        or any(one not in objects[state]._contracts for state, one in asked)
    ]
    check_nodes(unchecked)


_JOINT: Final = "joint nodes"


def _joint_nodes(
    requirements: Mapping[int, Sequence[tuple[int, Requirement]]],
) -> Iterator[int]:
    """The numbers of the nodes whose States must fit each other."""
    for number, asked in requirements.items():
        if any(one.has_free_names for _, one in asked):
            yield number


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
