"""Write values into a live node's States, and take States out of it: all or nothing.

Every fault of a call is found before anything changes. Writing values is not a change
of structure; popping is.

    update_states     _write_arrays   plain arrays like those that are there: one loop in C
                      _update_any     everything else, in three steps
                        1. match      each value: a write to a State, or a return of a popped one
                        2. check      all of them; `UpdateError` names all faults
                        3. _commit    with signal handlers held back
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from types import EllipsisType
from typing import Any, Final, NamedTuple, overload

import jax

from ._compat import CONCRETE, is_tracing
from ._declare._containers import TrackedDict, TrackedList
from ._declare._node import check_field_owner, plan_of
from ._declare._plan import Placed, check_contracts, check_placed, popped_shapes
from ._declare._schema import schema
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
from ._graph._binding import Binding
from ._graph._binding_cache import binding_of
from ._graph._graphdef import GraphDef
from ._inspect import Reference, live_objects, missing_part, reach, references_to
from ._lookup import Matched, States, is_one_value, match, nearest, numbers_of
from ._paths import Key, Path, path_str
from ._reads import looked_at
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
    # A State with a mark has to be asked before each write.
    if len(trees) == 1 and isinstance(trees[0], StateTree) and not binding.has_marks:
        states = _states_of(binding, trees[0])
        if states is not None and _write_arrays(states, trees[0]._values, check):
            return
    _update_any(node, binding, trees, check)


def _states_of(binding: Binding, tree: StateTree) -> tuple[State[Any], ...] | None:
    """The States that a tree has a value for, one each, in its order; `None` where `_update_any` has to look.

    For `update_states`, in front of `_write_arrays`. Cached on the binding for each
    layout.
    """
    states: tuple[State[Any], ...] | None = binding.groups.get(tree.layout)
    if states is None:
        specs = binding.graphdef.layout.specs
        numbers, further = numbers_of(binding.graphdef, tree.layout)
        if further or len(set(numbers)) < len(numbers):
            return None
        for number, spec in zip(numbers, tree.layout.specs, strict=True):
            if number is None or not is_one_class(specs[number].cls, spec.cls):
                return None
        # None is `None` here: that was checked above, but not for type checkers.
        states = tuple([binding.states[n] for n in numbers if n is not None])
        binding.remember(tree.layout, states)
    return states


def _write_arrays(
    states: Sequence[State[Any]], values: Sequence[Any], check: bool
) -> bool:
    """Settle most updates: write plain arrays of the shapes and dtypes that are there, all or none.

    Args:
        states: The States.
        values: Their values.
        check: The argument of `update_states`.

    Returns:
        Whether they were written; if not, nothing is wrong yet, and `_update_any` looks closer.
    """
    if is_tracing() or not _PLAIN_ARRAY.issuperset(map(type, values)):
        return False
    before: list[Any] = [state._value for state in states]
    try:
        # Newer versions of JAX intern abstract values: comparing them by identity is a
        # loop in C.
        are_alike = all(map(operator.is_, map(_aval_of, values), map(_aval_of, before)))
    except AttributeError:  # a State holds something that is not an array
        return False
    if not are_alike and not all(
        map(_is_settled, states, before, values, repeat(check))
    ):
        return False
    put_all(states, values, before)
    return True


def _is_settled(state: State[Any], old: Any, value: Any, check: bool) -> bool:
    """For `_write_arrays`: whether an array may replace what is there without further checks.

    Args:
        state: The State.
        old: What it holds.
        value: The array.
        check: The argument of `update_states`.
    """
    cls: type = old.__class__
    if cls is not CONCRETE:
        return False
    # With `check=False` another shape is fine, unless a contract has to be asked.
    return bool(value.aval == old.aval) or not (check or state._contracts)


_aval_of: Final[Callable[[Any], Any]] = operator.attrgetter("aval")
_PLAIN_ARRAY: Final = frozenset({CONCRETE})


class _Write(NamedTuple):
    """A value that is about to be written into a State."""

    state: State[Any]
    value: Any
    matched: Matched
    at: int  # its number among the matched values

    def where(self) -> str:
        """The path of the value: made for messages only, as it is as long as the State lies deep."""
        return path_str(self.matched.path(self.at))


class _Vacancy(NamedTuple):
    """Where a popped State may be put back: an unset field of a node, or a popped key of a dict in it.

    Attributes:
        node: The node.
        holder: The node itself, or the dict.
        key: The field, or the key of the dict.
    """

    node: Any
    holder: Any
    key: str

    @property
    def identity(self) -> tuple[int, str]:
        """A key that is equal for the same vacancy, which several paths may lead to."""
        return id(self.holder), self.key

    def placed(self, state: State[Any]) -> Placed:
        """A State that is put here, as contracts take it: its place in the node, the form, the State."""
        if isinstance(self.holder, TrackedDict):
            place = str(self.holder._place.below(self.key)).partition(".")[2]
            return place, self.holder._form, state
        return self.key, schema(type(self.node)).fields[self.key].form, state


class _Return(NamedTuple):
    """A popped State that is about to be put back, the vacancy that takes it, and a path of that."""

    vacancy: _Vacancy
    state: State[Any]
    path: Path


class _ReturnError(Exception):
    """A State cannot be put back; the text says why. `_returns_of` raises it, and `_Update.add` catches it."""


def _update_any(
    node: object, binding: Binding, trees: Sequence[States], check: bool
) -> None:
    """For `update_states`: match all trees, then check and write. For what `_write_arrays` leaves."""
    update = _Update(node, binding, check)
    for matched in [match(binding.graphdef, tree) for tree in trees]:
        update.add(matched)
    update.finish()


class _Update:
    """One call of `update_states`: collects writes, returns and faults of all trees; the last tree wins."""

    def __init__(self, node: object, binding: Binding, check: bool) -> None:
        self.binding = binding
        self.graphdef = binding.graphdef
        self.check = check
        # Only where a State may have to be put back: it costs a walk.
        self.objects = functools.cache(lambda: live_objects(node, self.graphdef))
        self.writes: dict[int, _Write] = {}
        self.returns: dict[tuple[int, str], _Return] = {}
        self.faults: list[str] = []

    def add(self, matched: Matched) -> None:
        """Collect the writes, returns and faults of one tree, already matched with the States of the node."""
        self.faults += matched.contradictions(self.graphdef.layout)
        returns: list[_Return] = []
        for at, number in enumerate(matched.numbers):
            if number is not None:
                self._add_write(number, matched, at)
                continue
            try:
                returns += _returns_of(self.objects, self.graphdef, matched, at)
            except _ReturnError as error:
                self.faults.append(str(error))
        self.faults += _return_faults(returns)
        self.returns.update({item.vacancy.identity: item for item in returns})

    def _add_write(self, number: int, matched: Matched, at: int) -> None:
        """Note a write to State number `number` of the layout, of value number `at` in `matched`."""
        write = _Write(self.binding.states[number], matched.values[at], matched, at)
        self.writes[number] = write
        spec, cls = matched.specs[at], type(write.state)
        if self.check and spec is not None and not is_one_class(spec.cls, cls):
            self.faults.append(
                f"{write.where()}: expected {class_name(cls, spec.cls)}, found {class_name(spec.cls, cls)}"
            )

    def finish(self) -> None:
        """Check everything that was collected, then write it.

        Raises:
            UpdateError: There are faults; names all.
        """
        returns, writes = list(self.returns.values()), list(self.writes.values())
        faults = self.faults + _joint_faults(returns) + _double_faults(returns, writes)
        for write in writes:
            faults += _write_faults(write, self.check)
        if faults:
            raise UpdateError(
                f"cannot update {self.graphdef.type.__name__}: {listed(faults)}"
            )
        for item in returns:
            check_may_change(item.vacancy.holder, item.vacancy.key)
        contents = [
            value_to_store(write.state, write.value, write.where) for write in writes
        ]
        states = [write.state for write in writes]
        undivided(lambda: _commit(returns, states, contents))


def _write_faults(write: _Write, check: bool) -> list[str]:
    """For `finish`: how a value that is to be written differs from what is there, or else breaks a contract."""
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
    """For `finish`: put popped States back, and write values. All was checked; no signal handler interrupts it.

    Args:
        returns: The popped States, and where they belong.
        states: The States that are written.
        contents: Their values, as `value_to_store` gives them.
    """
    for (_, holder, key), state, _ in returns:
        if isinstance(holder, TrackedDict):
            holder.put_back(key, state)
        else:
            setattr(holder, key, state)
    store_all(states, contents)


def _returns_of(
    objects: Callable[[], Sequence[Any]],
    graphdef: GraphDef[Any],
    matched: Matched,
    at: int,
) -> list[_Return]:
    """For `_Update.add`: how to put a popped State back at all its paths.

    Args:
        objects: Gives the objects of the node by their number.
        graphdef: The structure of the node.
        matched: A collection, matched with the States of the node.
        at: The number of a value in it that is for none of these States.

    Raises:
        _ReturnError: That is not possible at one of the paths.
    """
    spec = matched.specs[at]
    state = matched.states[at] if matched.states else None
    returns: dict[tuple[int, str], _Return] = {}
    for path in matched.paths(at):
        if graphdef.layout.index(path) is not None:
            continue  # a State is there, which takes the value
        vacancy = _vacancy(objects, graphdef, path)
        if vacancy is None:
            text = matched.globs.get(at) or path_str(path)
            raise _ReturnError(
                f"{text}: {graphdef.type.__name__} has no State there{nearest(graphdef.layout, text)}"
            )
        if spec is None:
            raise _ReturnError(
                f"{path_str(path)}: it was popped; put it back as a State, or with a StateTree that describes it"
            )
        if vacancy.identity in returns:
            continue  # by another path of the node
        if state is None:
            state = new_state(moved_spec(spec), matched.values[at])
        _check_accepted(vacancy, state)
        returns[vacancy.identity] = _Return(vacancy, state, path)
    return list(returns.values())


def _return_faults(returns: Sequence[_Return]) -> list[str]:
    """For `_Update.add`: the faults of a collection that puts two States back into one vacancy, by two paths."""
    first_into: dict[tuple[int, str], _Return] = {}
    faults: list[str] = []
    for item in returns:
        first = first_into.setdefault(item.vacancy.identity, item)
        if first.state is not item.state:
            where = path_str(first.path)
            faults.append(
                f"{where} is given two States, by {where} and by {path_str(item.path)}"
            )
    return faults


def _double_faults(returns: Sequence[_Return], writes: Iterable[_Write]) -> list[str]:
    """For `finish`: faults of a State that is put back, and is elsewhere in the node, where it gets another value."""
    by_state = {id(write.state): write for write in writes}
    faults: list[str] = []
    for item in returns:
        write = by_state.get(id(item.state))
        if write is not None and not is_one_value(item.state.value, write.value):
            where = write.where()
            faults.append(
                f"{where} is given two values, by {path_str(item.path)} and by {where}"
            )
    return faults


def _joint_faults(returns: Sequence[_Return]) -> list[str]:
    """For `finish`: how States put back into one node break its contracts together, though each alone keeps them."""
    by_node: dict[int, list[_Return]] = {}
    for item in returns:
        by_node.setdefault(id(item.vacancy.node), []).append(item)
    faults: list[str] = []
    for group in by_node.values():
        placed = [item.vacancy.placed(item.state) for item in group]
        try:
            check_placed(group[0].vacancy.node, placed)
        except ContractError as error:
            faults.append(str(error))
    return faults


def _check_accepted(vacancy: _Vacancy, state: State[Any]) -> None:
    """For `_returns_of`: raise if a field or dict would refuse a State, before anything is written.

    Raises:
        _ReturnError: It would.
    """
    holder, key = vacancy.holder, vacancy.key
    try:
        if isinstance(holder, TrackedDict):
            holder.admit(key, state)
        else:
            admitted = plan_of(type(holder)).admit[key](holder, state)
            check_contracts(holder, {key: admitted})
    except (FieldError, ContractError) as error:
        raise _ReturnError(str(error)) from None


def _vacancy(
    objects: Callable[[], Sequence[Any]], graphdef: GraphDef[Any], path: Path
) -> _Vacancy | None:
    """For `_returns_of`: the unset field, or the popped key of a dict, at a path; `None` if neither is there.

    Args:
        objects: Gives the objects of the node by their number.
        graphdef: The structure of the node, without what was popped.
        path: The path.

    Raises:
        _ReturnError: The container of the State is gone; names the outermost missing one.
    """
    # The innermost node on the path: within it the path has a field, and keys.
    for length in range(len(path) - 1, -1, -1):
        number = graphdef.find(path[:length])
        if number is not None:
            break
    else:
        return None
    if isinstance(graphdef.table.specs[number], StateSpec):
        return None
    node, edge = objects()[number], path[length:]
    field = schema(type(node)).fields.get(str(edge[0]))
    if field is None or field.kind is not Kind.STATE:
        return None
    if len(edge) == 1:
        is_set = field.name in node.__dict__
        return None if is_set else _Vacancy(node, node, field.name)
    if any(isinstance(key, int) and key < 0 for key in edge):
        return None  # a path counts from the start
    missing = missing_part(node, edge[:-1])
    if missing is not None:
        container = path_str((*path[:length], *missing))
        raise _ReturnError(f"{path_str(path)}: {container} is gone, in which it was")
    holder = reach(node, edge[:-1])
    is_vacant = isinstance(holder, TrackedDict) and holder.is_vacant(edge[-1])
    return _Vacancy(node, holder, str(edge[-1])) if is_vacant else None


def _mismatch(write: _Write) -> str | None:
    """For `check=True`: how a value differs in structure, shape or dtype from what its State holds, if it does."""
    held = looked_at(write.state)
    structures: list[object] = [
        jax.tree.structure(held),
        jax.tree.structure(write.value),
    ]
    if structures[0] != structures[1]:
        return (
            f"{write.where()}: expected the tree {structures[0]}, found {structures[1]}"
        )
    leaves = jax.tree.leaves(write.value)
    for (key_path, current), leaf in zip(
        jax.tree.leaves_with_path(held), leaves, strict=True
    ):
        if leaf_form(current) != leaf_form(leaf):
            where = write.where() + jax.tree_util.keystr(key_path)
            return f"{where}: expected {leaf_text(current)}, found {leaf_text(leaf)}"
    return None


def leaf_form(leaf: Any) -> object:
    """What leaves have to agree in: shape and dtype of an array or number; the class of others.

    For values that are written over others, or stacked with them.
    """
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return tuple(leaf.shape), leaf.dtype
    if isinstance(leaf, bool | int | float | complex):
        return (), jax.dtypes.canonicalize_dtype(type(leaf))
    return type(leaf)


def leaf_text(leaf: Any) -> str:
    """A leaf for a message: `float32[2,3]` for an array or a number, otherwise a description."""
    form = leaf_form(leaf)
    if not isinstance(form, tuple):
        return describe(leaf)
    shape, dtype = form
    return f"{dtype}[{','.join(map(str, shape))}]"


# Any: a value is any pytree.
def value_form(value: Any) -> list[object]:
    """What two values have to agree in: the structure, and the form of each leaf."""
    return [jax.tree.structure(value), *map(leaf_form, jax.tree.leaves(value))]


# Any: as above.
def value_text(value: Any) -> str:
    """The leaves of a value for a message."""
    return ", ".join(map(leaf_text, jax.tree.leaves(value)))


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
    for at in itertools.chain.from_iterable(numbers for numbers, _ in selection):
        for parent, edge in places[at]:
            fault = _unpoppable(graphdef, objects, parent, edge)
            if fault is not None:
                faults.append(fault)
                continue
            removals.append(_Removal(objects[parent], edge, binding.states[at]))
    if faults:
        raise PopError(f"cannot pop from {graphdef.type.__name__}: {listed(faults)}")
    for removal in removals:
        check_may_change(*removal.container_and_key())
    undivided(lambda: _remove(removals))
    popped = [
        FlatStates(layout, tuple([binding.states[at] for at in numbers]))
        for numbers, layout in selection
    ]
    return popped[0] if len(filters) == 1 else tuple(popped)


class _Removal(NamedTuple):
    """A place that a State is about to be taken out of: the node, the path within it, the State."""

    node: Any
    edge: Path
    state: State[Any]

    def container_and_key(self) -> tuple[Any, str]:
        """For `pop_states`: the node or dict that the State is taken out of, and the field or key there."""
        container = (
            self.node if len(self.edge) == 1 else reach(self.node, self.edge[:-1])
        )
        return container, str(self.edge[-1])


def check_may_change(holder: Any, key: Key) -> None:
    """Check that a field of a node, or an item of a list or dict in one, may be changed now.

    Before a change of several places, so that none is changed unless all may be.

    Raises:
        TraceError: A JAX transformation runs that the node was not made in.
    """
    if isinstance(holder, (TrackedDict, TrackedList)):
        holder.check_owner()
    else:
        check_field_owner(holder, str(key))


def _remove(removals: Sequence[_Removal]) -> None:
    """For `pop_states`: take the States out of their places. Everything was checked before."""
    for removal in removals:
        node, edge, state = removal
        container, key = removal.container_and_key()
        if isinstance(container, TrackedDict):
            container.vacate(key)
        else:
            delattr(container, key)
        if state._contracts:
            # What is put back may have the shape that was there before, such as one
            # axis more than the contract says, in a stack.
            form = leaf_form(looked_at(state))
            if isinstance(form, tuple):
                popped_shapes(node)[path_str(edge)] = jax.ShapeDtypeStruct(*form)  # type: ignore[no-untyped-call]


def _places(graphdef: GraphDef[Any]) -> list[list[Reference]]:
    """For `pop_states`: for each State in layout order, all references to it; that of its first path comes first."""
    return [
        references
        for references, spec in zip(
            references_to(graphdef), graphdef.table.specs, strict=True
        )
        if isinstance(spec, StateSpec)
    ]


def _unpoppable(
    graphdef: GraphDef[Any], objects: Sequence[Any], parent: int, edge: Path
) -> str | None:
    """For `pop_states`: why a State cannot be taken out of a place, or `None`.

    Args:
        graphdef: The structure.
        objects: Its objects, by number.
        parent: The number of the node there; -1 above the root.
        edge: The path within that node.
    """
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
