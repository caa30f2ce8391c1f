"""Put a graph together again: `treefy_merge` with other values, `unflatten` with the States that there are.

    graphdef + trees --match--> values in layout order --build--> new nodes and States

Values are matched to States by path, in `_lookup`. The second merge of trees with the
same layouts takes the values by one compiled order (`GraphDef.plans`). What does not
fit is in one `MergeError`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from ._arguments import wrong_argument
from ._contract import Requirement
from ._declare._plan import check_nodes
from ._errors import MergeError, listed
from ._graph._binding import traces_of
from ._graph._graphdef import GraphDef
from ._graph._template import Column, column_of
from ._graph._unflatten import build, rebuild
from ._inspect import live_objects
from ._lookup import Matched, States, match, nearest, numbers_of
from ._paths import path_str
from ._redefinition import a_class, is_one_class
from ._statetree import FlatStates, StateTree

N = TypeVar("N")

# The question under which the structure keeps the answer.
_JOINT: Final = "joint nodes"


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
    """For `treefy_merge`: the values of all States, in layout order, from all collections.

    The order is compiled once for each row of layouts; later merges only apply it.
    """
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
    matches = [match(graphdef, tree) for tree in trees]
    values, positions = _matched_values(graphdef, matches)
    if None not in layouts and _is_one_to_one(matches, len(positions)):
        graphdef.plans.keep(layouts, column_of(positions))
    return values


def _is_one_to_one(matches: Sequence[Matched], state_count: int) -> bool:
    """For `_gather`: whether there is one value for each State, so that others are merged in the same order.

    One value by two paths may be two values the next time, which has to be checked
    again.
    """
    if any(matched.further for matched in matches):
        return False
    value_count = sum(len(matched.values) for matched in matches)
    return value_count == state_count > 0


def _matched_values(
    graphdef: GraphDef[Any], matches: Sequence[Matched]
) -> tuple[list[Any], list[int]]:
    """For `_gather`: the values of all States of a structure, from matches in any order.

    Returns:
        The values in layout order; and the position of each among the values of all matches.

    Raises:
        MergeError: The matches do not have every State once; names all faults.
    """
    faults = _merge_faults(graphdef, matches)
    if faults:
        raise MergeError(
            f"cannot merge into {graphdef.type.__name__}: {listed(faults)}"
        )
    numbers = [number for matched in matches for number in matched.numbers]
    values = [value for matched in matches for value in matched.values]
    position_of = {number: position for position, number in enumerate(numbers)}
    positions = [position_of[number] for number in range(len(graphdef.layout))]
    return [values[position] for position in positions], positions


def _merge_faults(graphdef: GraphDef[Any], matches: Sequence[Matched]) -> list[str]:
    """Why matches are not a whole structure: States unknown, twice, of another class, missing.

    For `treefy_merge` and `unflatten`, which need each State exactly once.

    Args:
        graphdef: The structure.
        matches: The collections, matched with its States.
    """
    layout = graphdef.layout
    faults: list[str] = []
    # Where each State had its value. Paths are made for faults only: those of a long
    # chain would cost its square.
    seen: dict[int, tuple[Matched, int]] = {}
    for matched in matches:
        faults += matched.contradictions(layout)
        for at, number in enumerate(matched.numbers):
            if number is None:
                key = matched.key(at)
                faults.append(
                    f"unknown {key}: the graphdef has no State there{nearest(layout, key)}"
                )
                continue
            earlier, earlier_at = seen.get(number, (matched, at))
            # Twice in one collection is for `contradictions`.
            if earlier is not matched:
                faults.append(
                    _given_twice(matched.key(at), also_as=earlier.key(earlier_at))
                )
            seen[number] = matched, at
            expected, spec = layout.specs[number].cls, matched.specs[at]
            if spec is not None and not is_one_class(spec.cls, expected):
                faults.append(
                    f"{path_str(matched.path(at))} is {a_class(spec.cls, expected)}, "
                    f"the graphdef has {a_class(expected, spec.cls)} there"
                )
    for at, spec in enumerate(layout.specs):
        if at not in seen:
            faults.append(f"missing {path_str(layout.path(at))} ({spec.cls.__name__})")
    return faults


def _given_twice(key: str, also_as: str) -> str:
    """For `_merge_faults`: the text for a State that two collections have.

    Args:
        key: Its path or glob in the later one.
        also_as: Its path or glob in the earlier one.
    """
    other = f" (also as {also_as})" if also_as != key else ""
    return f"{key} is given twice{other}"


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
    # The States themselves take the place of values: two States of one value are two.
    numbers = numbers_of(graphdef, states.layout).numbers
    matched = Matched(numbers, states._states, states.layout.specs, states.layout)
    faults = _merge_faults(graphdef, [matched])
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
    """For `unflatten`: raise if live States do not fit the new nodes that are built around them.

    A State that a requirement is attached to was checked against it when it was
    written. Only nodes whose States must agree with each other are checked again.
    """
    objects, requirements = live_objects(node, graphdef), graphdef.requirements
    joint: frozenset[int] = graphdef.plans.to(
        _JOINT, lambda: frozenset(_joint_nodes(requirements))
    )
    unchecked: list[Any] = []
    for number, required in requirements.items():
        is_new = any(
            requirement not in objects[state]._contracts
            for state, requirement in required
        )
        if is_new or number in joint:
            unchecked.append(objects[number])
    check_nodes(unchecked)


def _joint_nodes(
    requirements: Mapping[int, Sequence[tuple[int, Requirement]]],
) -> Iterator[int]:
    """For `_check_contracts`: the numbers of nodes whose States must agree with each other on an axis's size."""
    for number, required in requirements.items():
        if any(requirement.has_free_names for _, requirement in required):
            yield number
