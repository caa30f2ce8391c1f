"""Write values into a live node's States, and take States out of it: all or nothing.

Every fault of a call is found before anything changes. Writing values is not a change
of structure; popping is.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from types import EllipsisType
from typing import Any, Final, NamedTuple, TypeAlias, overload

import jax

from ._compat import CONCRETE, is_tracing
from ._declare._node import check_field_owner, plan_of
from ._declare._plan import Placed, check_contracts, check_placed, popped_shapes
from ._declare._schema import schema
from ._declare._tracked import TrackedDict
from ._describe import describe
from ._errors import (
    ContractError,
    FieldError,
    FilterError,
    PopError,
    UpdateError,
    listed,
)
from ._fields import Kind
from ._filters import Filter, Selector, as_filters
from ._graph._binding import Binding, binding_of
from ._graph._graphdef import GraphDef
from ._inspect import gone, live_objects, reach
from ._lookup import Given, States, is_one_value, match, nearest, numbers_of
from ._paths import Path, path_str
from ._redefinition import class_name, is_one_class
from ._signals import put_all, store_all, undivided
from ._state import (
    State,
    StateSpec,
    contract_faults,
    moved_spec,
    new_state,
    value_to_store,
)
from ._statetree import S1, S2, S3, FlatStates, StateTree, select


def update_states(node: object, /, *trees: States, check: bool = True) -> None:
    """Write values into the States of a node, in place; the States keep their identity.

    A State that was popped is put back by a collection that holds it (`FlatStates`) or
    describes it (`StateTree`).

    Args:
        node: A node, or a pytree of nodes.
        *trees: `StateTree`s, `FlatStates` or mappings by path, whole or partial; the
            last one wins. A mapping is nested, or has whole paths as its keys, as
            tuples or as texts: `{"head.weight": ...}`. A text with globs gives its
            value to all States that it fits: `{"blocks.*.bias": ...}`.
        check: Whether to compare class, tree structure, shapes and dtypes with what is
            there.

    Raises:
        UpdateError: Unknown paths, or other classes, structures, shapes or dtypes; or
            one collection gives two values to a State, by two of its paths; names all.
            Nothing was written.
        TraceError: A traced value would leak into a State from outside its trace.
            Nothing was written.
        TypeError: One of `trees` is not a collection of States.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> gn.update_states(model, {"weight": jnp.ones((2, 3)), "bias": jnp.zeros(3)})
        >>> model(jnp.ones(2))
        Array([2., 2., 2.], dtype=float32)

    See also: `treefy_states`, which reads; `treefy_merge`, which makes a new node.
    """
    binding = binding_of(node)
    if len(trees) == 1 and isinstance(trees[0], StateTree) and not binding.has_marks:
        states = _states_of(binding, trees[0])
        if states is not None and _write_arrays(states, trees[0]._values, check):
            return
    _update_any(node, binding, trees, check)


def _states_of(binding: Binding, tree: StateTree) -> tuple[State[Any], ...] | None:
    """The States that a tree speaks of, or `None` when it names others too; kept on the binding for each layout."""
    found: tuple[State[Any], ...] | None = binding.groups.get(tree.layout)
    if found is None:
        layout = binding.graphdef.layout
        numbers, further = numbers_of(binding.graphdef, tree.layout)
        wrong = [
            n is None or not is_one_class(layout.specs[n].cls, spec.cls)
            for n, spec in zip(numbers, tree.layout.specs, strict=True)
        ]
        if any(wrong) or further or len(set(numbers)) < len(numbers):
            return None
        found = tuple([binding.states[n] for n in numbers if n is not None])
        binding.remember(tree.layout, found)
    return found


def _write_arrays(
    states: Sequence[State[Any]], values: Sequence[Any], check: bool
) -> bool:
    """Write plain arrays of the shapes and dtypes that are there, all or none: what settles most updates."""
    if is_tracing() or not _PLAIN_ARRAY.issuperset(map(type, values)):
        return False
    before: list[Any] = [state._value for state in states]
    try:
        # JAX interns abstract values, newer versions at least: that they are the same
        # ones, a loop in C finds out.
        are_alike = all(map(operator.is_, map(_aval_of, values), map(_aval_of, before)))
    except AttributeError:  # what is there is no array
        return False
    if not are_alike and not all(
        map(_is_settled, states, before, values, repeat(check))
    ):
        return False
    put_all(states, values, before)
    return True


def _is_settled(state: State[Any], old: Any, value: Any, check: bool) -> bool:
    """Whether an array may be written in place of what is there without a closer look."""
    cls: type = old.__class__
    if cls is not CONCRETE:
        return False
    # Without a comparison a contract may still refuse.
    return bool(value.aval == old.aval) or not (check or state._contracts)


_aval_of: Final[Callable[[Any], Any]] = operator.attrgetter("aval")
_PLAIN_ARRAY: Final = frozenset({CONCRETE})


class _Write(NamedTuple):
    """A value that is about to be written into a State."""

    state: State[Any]
    value: Any
    given: Given
    at: int  # its number in what was given

    def where(self) -> str:
        """The path that it was given by: made for messages alone, as it is as long as the State lies deep."""
        return path_str(self.given.path(self.at))


class _Vacancy(NamedTuple):
    """A place where a State may be put: an unset field of a node, or a key of a dict in it that was popped.

    Attributes:
        node: The node.
        holder: The node itself, or the dict.
        key: The field, or the key of the dict.
    """

    node: Any
    holder: Any
    key: str

    def placed(self, state: State[Any]) -> Placed:
        """A State here, as the contracts of the node know it."""
        if isinstance(self.holder, TrackedDict):
            place = str(self.holder._place.below(self.key)).partition(".")[2]
            return place, self.holder._form, state
        return self.key, schema(type(self.node)).fields[self.key].form, state


class _Return(NamedTuple):
    """A popped State that is about to be put back, the place that takes it, and a path of that."""

    vacancy: _Vacancy
    state: State[Any]
    place: Path


_Returns: TypeAlias = list[_Return]


def _update_any(
    node: object, binding: Binding, trees: Sequence[States], check: bool
) -> None:
    graphdef = binding.graphdef
    objects = functools.cache(lambda: live_objects(node, graphdef))
    writes: dict[int, _Write] = {}
    latest: dict[tuple[int, str], _Return] = {}
    faults: list[str] = []
    for given in [match(graphdef, tree) for tree in trees]:
        faults += given.contradictions(graphdef.layout)
        put_back: _Returns = []
        for at, number in enumerate(given.numbers):
            if number is not None:
                write = writes[number] = _Write(
                    binding.states[number], given.values[at], given, at
                )
                spec, cls = given.specs[at], type(write.state)
                if check and spec is not None and not is_one_class(spec.cls, cls):
                    faults.append(
                        f"{write.where()}: expected {class_name(cls, spec.cls)}, found {class_name(spec.cls, cls)}"
                    )
                continue
            found = _put_back(objects, graphdef, given, at)
            if isinstance(found, str):
                faults.append(found)
            else:
                put_back += found
        faults += _return_faults(put_back)
        latest.update(
            {(id(one.vacancy.holder), one.vacancy.key): one for one in put_back}
        )
    returns = list(latest.values())
    faults += _joint_faults(returns)
    faults += _double_faults(returns, writes.values())
    for write in writes.values():
        faults += _write_faults(write, check)
    if faults:
        raise UpdateError(f"cannot update {graphdef.type.__name__}: {listed(faults)}")
    for place in returns:
        _check_owner(place.vacancy.holder, place.vacancy.key)
    contents = [
        value_to_store(write.state, write.value, write.where)
        for write in writes.values()
    ]
    states = [write.state for write in writes.values()]
    undivided(lambda: _commit(returns, states, contents))


def _write_faults(write: _Write, check: bool) -> list[str]:
    """What is wrong with a write: how the value differs from what is there, else how it breaks a contract."""
    mismatch = _mismatch(write) if check else None
    if mismatch is not None:
        return [mismatch]
    return [
        f"{write.where()}: {fault.partition(': ')[2]}"
        for fault in contract_faults(write.state, write.value)
    ]


def _commit(
    returns: Sequence[_Return], states: Sequence[State[Any]], contents: Sequence[Any]
) -> None:
    """Put popped States back, and write values: all was checked."""
    for (_, holder, key), state, _ in returns:
        if isinstance(holder, TrackedDict):
            holder.put_back(key, state)
        else:
            setattr(holder, key, state)
    store_all(states, contents)


def _put_back(
    objects: Callable[[], Sequence[Any]], graphdef: GraphDef[Any], given: Given, at: int
) -> _Returns | str:
    """How to put a popped State back at all its paths, or what is wrong with one of them."""
    spec = given.specs[at]
    state = given.states[at] if given.states else None
    places: dict[tuple[int, str], _Return] = {}
    for path in given.paths(at):
        if graphdef.layout.index(path) is not None:
            continue  # there is a State, which takes the value
        vacancy = _vacancy(objects, graphdef, path)
        if vacancy is None:
            text = given.globs.get(at) or path_str(path)
            return f"{text}: {graphdef.type.__name__} has no State there{nearest(graphdef.layout, text)}"
        if isinstance(vacancy, str):
            return f"{path_str(path)}: {vacancy} is gone, in which it was"
        if spec is None:
            return f"{path_str(path)}: it was popped; put it back as a State, or with a StateTree that describes it"
        place = (id(vacancy.holder), vacancy.key)
        if place in places:
            continue  # by another path of the node
        if state is None:
            state = new_state(moved_spec(spec), given.values[at])
        fault = _refusal(vacancy, state)
        if fault is not None:
            return fault
        places[place] = _Return(vacancy, state, path)
    return list(places.values())


def _return_faults(returns: Sequence[_Return]) -> list[str]:
    """The faults of a collection that puts two States back at one place, by two of its paths."""
    first: dict[tuple[int, str], _Return] = {}
    faults: list[str] = []
    for one in returns:
        before = first.setdefault((id(one.vacancy.holder), one.vacancy.key), one)
        if before.state is not one.state:
            where = path_str(before.place)
            faults.append(
                f"{where} is given two States, by {where} and by {path_str(one.place)}"
            )
    return faults


def _double_faults(returns: Sequence[_Return], writes: Iterable[_Write]) -> list[str]:
    """The faults of a popped State that stands in the node again, and is given another value there than it has."""
    by_state = {id(write.state): write for write in writes}
    faults: list[str] = []
    for put_back in returns:
        write = by_state.get(id(put_back.state))
        if write is not None and not is_one_value(put_back.state.value, write.value):
            where = write.where()
            faults.append(
                f"{where} is given two values, by {path_str(put_back.place)} and by {where}"
            )
    return faults


def _joint_faults(returns: Sequence[_Return]) -> list[str]:
    """How States that are put back into one node break its contracts together: each by itself kept them."""
    by_node: dict[int, list[_Return]] = {}
    for put_back in returns:
        by_node.setdefault(id(put_back.vacancy.node), []).append(put_back)
    faults: list[str] = []
    for group in by_node.values():
        try:
            check_placed(
                group[0].vacancy.node, [one.vacancy.placed(one.state) for one in group]
            )
        except ContractError as error:
            faults.append(str(error))
    return faults


def _refusal(vacancy: _Vacancy, state: State[Any]) -> str | None:
    """Why a place would not take a State, before it is asked to."""
    holder, key = vacancy.holder, vacancy.key
    try:
        if isinstance(holder, TrackedDict):
            holder.admit(key, state)
        else:
            check_contracts(
                holder, {key: plan_of(type(holder)).admit[key](holder, state)}
            )
    except (FieldError, ContractError) as error:
        return str(error)
    return None


def _vacancy(
    objects: Callable[[], Sequence[Any]], graphdef: GraphDef[Any], path: Path
) -> _Vacancy | str | None:
    """The unset field, or the popped key of a dict, that a path names; `None` when it names neither.

    Where the container is gone in which it was, the path of the outermost one that is,
    as a text.
    """
    for length in range(len(path) - 1, -1, -1):
        number = graphdef.find(path[:length])
        if number is None:
            continue
        if isinstance(graphdef.table.specs[number], StateSpec):
            return None
        node, rest = objects()[number], path[length:]
        field = schema(type(node)).fields.get(str(rest[0]))
        if field is None or field.kind is not Kind.STATE:
            return None
        if len(rest) == 1:
            return (
                _Vacancy(node, node, field.name)
                if field.name not in node.__dict__
                else None
            )
        missing = gone(node, rest[:-1])
        if missing is not None:
            return path_str((*path[:length], *missing))
        holder = reach(node, rest[:-1])
        is_vacant = isinstance(holder, TrackedDict) and holder.is_vacant(rest[-1])
        return _Vacancy(node, holder, str(rest[-1])) if is_vacant else None
    return None


def _mismatch(write: _Write) -> str | None:
    """How a value differs in structure, shape or dtype from what the State holds."""
    structures: list[object] = [
        jax.tree.structure(write.state._value),
        jax.tree.structure(write.value),
    ]
    if structures[0] != structures[1]:
        return (
            f"{write.where()}: expected the tree {structures[0]}, found {structures[1]}"
        )
    leaves = jax.tree.leaves(write.value)
    for (key_path, there), given in zip(
        jax.tree.leaves_with_path(write.state._value), leaves, strict=True
    ):
        if leaf_form(there) != leaf_form(given):
            where = write.where() + jax.tree_util.keystr(key_path)
            return f"{where}: expected {leaf_text(there)}, found {leaf_text(given)}"
    return None


def leaf_form(leaf: Any) -> object:
    """Shape and dtype of an array or a number; the class of anything else."""
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return tuple(leaf.shape), leaf.dtype
    if isinstance(leaf, bool | int | float | complex):
        return (), jax.dtypes.canonicalize_dtype(type(leaf))
    return type(leaf)


def leaf_text(leaf: Any) -> str:
    """The same for a message: `float32[2,3]`."""
    form = leaf_form(leaf)
    return (
        f"{form[1]}[{','.join(map(str, form[0]))}]"
        if isinstance(form, tuple)
        else describe(leaf)
    )


@overload
def pop_states(
    node: object, only: type[S1] | Selector | EllipsisType, /
) -> FlatStates[S1]: ...
@overload
def pop_states(
    node: object,
    first: type[S1] | Selector,
    second: type[S2] | Selector | EllipsisType,
    /,
) -> tuple[FlatStates[S1], FlatStates[S2]]: ...
@overload
def pop_states(
    node: object,
    first: type[S1] | Selector,
    second: type[S2] | Selector,
    third: type[S3] | Selector | EllipsisType,
    /,
) -> tuple[FlatStates[S1], FlatStates[S2], FlatStates[S3]]: ...
@overload
def pop_states(
    node: object,
    first: Filter | EllipsisType,
    second: Filter | EllipsisType,
    third: Filter | EllipsisType,
    fourth: Filter | EllipsisType,
    /,
    *rest: Filter | EllipsisType,
) -> tuple[FlatStates[State[Any]], ...]: ...
def pop_states(
    node: object, /, *filters: Filter | EllipsisType
) -> FlatStates[Any] | tuple[FlatStates[Any], ...]:
    """Take States out of a node, in place: every reference to them, all or nothing.

    Their fields become unset: reading one says that it was popped. `update_states(node,
    popped)` puts the same States back at all their paths.

    Args:
        node: A node, or a pytree of nodes.
        *filters: At least one; the first that accepts a State takes it, and States that
            none accepts stay.

    Returns:
        One `FlatStates` for one filter, else a tuple with one for each, by first path.

    Raises:
        FilterError: There is no filter, nothing at a path of one (names the nearest),
            or `...` stands before another.
        FilterTypeError: Something is not a filter.
        PopError: A State is an item of a list or tuple, or of the pytree at the root;
            names all. Nothing was removed.
        TraceError: A JAX transformation runs that a node was not made in. Nothing was
            removed.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.Linear(2, 3)
        >>> popped = gn.pop_states(model, gn.ParamState)
        >>> len(popped), len(gn.states(model))
        (2, 0)
        >>> gn.update_states(model, popped)
        >>> model.weight is popped[("weight",)]
        True
    """
    if not filters:
        raise FilterError(
            "pop_states needs a filter: pass `...` to take all States out"
        )
    binding = binding_of(node)
    graphdef = binding.graphdef
    selection, _ = select(graphdef.layout, as_filters(filters), lambda: binding.states)
    places = _places(graphdef)
    faults: list[str] = []
    objects = live_objects(node, graphdef)
    removals: list[_Removal] = []
    for numbers, _layout in selection:
        for at in numbers:
            for parent, edge in places[at]:
                fault = _unpoppable(graphdef, objects, parent, edge)
                faults += [fault] if fault else []
                removals.append(
                    _Removal(
                        objects[parent] if parent >= 0 else None,
                        edge,
                        binding.states[at],
                    )
                )
    if faults:
        raise PopError(f"cannot pop from {graphdef.type.__name__}: {listed(faults)}")
    for removal in removals:
        _check_owner(*removal.container_and_key())
    undivided(lambda: _remove(removals))
    popped = [
        FlatStates(layout, tuple([binding.states[at] for at in numbers]))
        for numbers, layout in selection
    ]
    return popped[0] if len(filters) == 1 else tuple(popped)


class _Removal(NamedTuple):
    """A place that a State is about to be taken out of: the node, the path within it, the State."""

    holder: Any
    edge: Path
    state: State[Any]

    def container_and_key(self) -> tuple[Any, str]:
        """The node or dict that holds the State, and the field or key there."""
        container = (
            self.holder if len(self.edge) == 1 else reach(self.holder, self.edge[:-1])
        )
        return container, str(self.edge[-1])


def _check_owner(holder: Any, key: str) -> None:
    """Raise if a State of a node or dict must not be taken out or put back now.

    Raises:
        TraceError: A JAX transformation runs that the node was not made in.
    """
    if isinstance(holder, TrackedDict):
        holder.check_owner()
    else:
        check_field_owner(holder, key)


def _remove(removals: Sequence[_Removal]) -> None:
    for removal in removals:
        holder, edge, state = removal
        container, key = removal.container_and_key()
        if isinstance(container, TrackedDict):
            container.vacate(key)
        else:
            delattr(container, key)
        if state._contracts:
            # What is put back may have the shape of what stood there, such as one axis
            # more in a stack.
            form = leaf_form(state._value)
            if isinstance(form, tuple):
                popped_shapes(holder)[path_str(edge)] = jax.ShapeDtypeStruct(*form)  # type: ignore[no-untyped-call]


# Where a State is referred to: the number of the node, and the path within it. The
# first place comes first.
_Place = tuple[int, Path]


def _places(graphdef: GraphDef[Any]) -> list[list[_Place]]:
    """All places of each State, in layout order."""
    table = graphdef.table
    found: dict[int, list[_Place]] = {
        number: [(table.parents[number], table.edges[number])]
        for number, spec in enumerate(table.specs)
        if isinstance(spec, StateSpec)
    }
    for parent, edge, target in table.repeats:
        if target in found:
            found[target].append((parent, edge))
    return list(found.values())


def _unpoppable(
    graphdef: GraphDef[Any], objects: Sequence[Any], parent: int, edge: Path
) -> str | None:
    if parent < 0:
        root = path_str(edge) or "the root"
        return f"{root} is a State of the pytree itself, not of a node in it; remove it there"
    if len(edge) == 1:
        return None
    container = reach(objects[parent], edge[:-1])
    if isinstance(container, TrackedDict):
        return None
    where = path_str((*graphdef.path(parent), *edge))
    kind = "list" if isinstance(container, list) else "tuple"
    return f"{where} is an item of a {kind}, whose other items would change their paths; assign the field instead"
