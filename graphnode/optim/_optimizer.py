"""`Optimizer`: an optax gradient transformation as a node, whose memory mirrors the States of the model.

One step (`Optimizer.update`):

    model ──► params, a StateTree at the paths of `layout` ──┐
    memory ──► Form.join ──► optax's state ──────────────────┼─► tx.update
    grads ──► StateTree like params ─────────────────────────┘       │
                                                                     ▼
    model, memory, steps ◄── write_all ◄── apply_updates, take_apart

optax is only imported when an optimizer is made; for how its state becomes States, see
`optim._memory`.
"""

import contextlib
import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, Final, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr
from jaxtyping import Array, Int
from typing_extensions import TypeVar

from .._declare._node import Node, check_field_owner
from .._errors import FilterError, UpdateError, listed
from .._fields import state, static
from .._filters import Filter, Matcher, as_filter
from .._graph._graphdef import GraphDef
from .._graph._layout import Layout
from .._lookup import States, match, numbers_of
from .._paths import Path, path_str
from .._pretty._records import Record
from .._signals import undivided, write_all
from .._split import graphdef, states
from .._state import (
    LongTermState,
    ParamState,
    State,
    new_state,
    spec_of,
)
from .._statetree import FlatStates, StateTree
from .._update import update_states
from .._value import all_rebuilt
from ._arguments import check_arguments, imported_optax, initial_state
from ._follow import Remembered, kept_memory, remember
from ._groups import grouped, shown
from ._members import members_of
from ._memory import Form, Part, Transformation, form_of, nested, take_apart, unshared

T = TypeVar("T", default=jax.Array)


class OptimizerState(LongTermState[T]):
    """What an optimizer remembers from one step to the next: a moment of a parameter, a count.

    Example:
        >>> import optax
        >>> optimizer = gn.optim.Optimizer(gn.nn.Linear(2, 3), optax.adam(1e-3))
        >>> for path in gn.states(optimizer, gn.optim.OptimizerState):
        ...     print(gn.path_str(path))
        memory.0.count
        memory.0.mu.bias
        memory.0.mu.weight
        memory.0.nu.bias
        memory.0.nu.weight
        steps
    """


class Optimizer(Node):
    """An optax gradient transformation and its memory, as a node: it splits, merges and prints as a model does.

    The memory has the paths of the model. With `optax.adam`, the State at
    `memory.0.mu.layers.0.weight` is the first moment of the model's State at
    `layers.0.weight`: of class `OptimizerState`, with its tag and metadata, and its
    sharding where the shapes are the same. What belongs to no State of the model, such
    as a count, has a State of its own (`memory.0.count`). A State that the model shares
    has one memory.

    The model is not kept: each `update` is given it, so that both may be merged copies
    inside of `jax.jit`.

    Args:
        model: The node (or pytree of nodes) to optimize.
        tx: The transformation, such as `optax.adam(1e-3)`. It is part of the structure,
            compared by identity. Or a mapping from filters to transformations,
            `{gn.Under("encoder"): optax.sgd(0.1), ...: optax.adam(1e-3)}`, each for the
            States that its filter selects: `...`, which stands last, is for what no
            other one selects, and `None` leaves States alone, as `wrt` does. It becomes
            one `optax.multi_transform`, with `labels`.
        wrt: Which States of the model are optimized; the others are left alone, and
            take no memory.

    Attributes:
        layout: The paths and descriptions of the States that are optimized.
        steps: How many updates were made.
        memory: The States that hold what optax calls the optimizer state, in lists and
            dicts along its key paths; what does not hold an array is left out, in a list as
            `None`.

    Raises:
        FieldError: The paths of the model are longer than lists and dicts may nest in a
            field.
        FilterError: `wrt` selects no State of the model, or there is nothing at a path
            of a filter. Of a mapping, two filters select one State, with different
            transformations, or none selects some State of `wrt`; names all.
        FilterTypeError: `wrt`, or a key of the mapping, is not a filter.
        ImportError: optax is not installed.
        StructureError: `model` is neither a node nor a pytree of nodes.
        TypeError: `tx` is not a transformation, or stands first; it has a mask that is
            not a tree like the parameters; or it is `optax.lookahead`, whose parameters
            are pairs.

    Example:
        >>> import optax
        >>> model = gn.nn.Linear(2, 3)
        >>> optimizer = gn.optim.Optimizer(model, optax.sgd(0.1))
        >>> before = model.bias.value
        >>> updates = optimizer.update(model, jax.tree.map(jnp.ones_like, gn.treefy_states(model)))
        >>> model.bias.value - before
        Array([-0.1, -0.1, -0.1], dtype=float32)
        >>> int(optimizer.steps.value)
        1
    """

    tx: Transformation = static()
    """The transformation."""
    wrt: Matcher = static()
    """Which States of the model are optimized."""
    layout: Layout = static()
    """The paths and descriptions of these States."""
    steps: OptimizerState[Int[Array, ""]] = state(init=False)
    """How many updates were made."""
    # Any: how it nests is the transformation's.
    memory: Any = state(init=False)
    """What the transformation remembers."""

    # Any: a mapping takes no keys but of its own type, so that one of `Under` alone
    # would be refused.
    def __init__(
        self,
        model: object,
        tx: Transformation | Mapping[Any, Transformation | None],
        wrt: Filter | EllipsisType = ParamState,
    ) -> None:
        imported_optax()
        check_arguments(model, tx)
        self.wrt = as_filter(wrt)
        if isinstance(tx, Mapping):
            self.tx, self.wrt = grouped(
                tx, self.wrt, lambda matcher: _values(states(model, matcher))
            )
        else:
            self.tx = tx
        selected = _selected(model, self.wrt)
        self.layout = selected.layout
        params = _values(selected)
        memory = {
            part.path: _remembered(part, params)
            for part in _initial_parts(self.tx, params)
        }
        self.memory = nested(memory, "memory")
        self.steps = OptimizerState(jnp.int32(0))

    # Any: what the transformation takes beside, such as a loss.
    def update(self, model: object, grads: States, /, **extra: Any) -> StateTree:
        """Make one step, in place: new values in the selected States of the model, in the memory and in `steps`.

        The parameters keep their dtypes.

        Args:
            model: The model that the optimizer was made for, or a copy of it.
            grads: A gradient for each selected State, of its structure and shapes: a
                `StateTree` such as `jax.grad` gives for `treefy_states(model, wrt)`,
                `FlatStates` or a nested mapping by path. Gradients of further States of
                the model are left out.
            **extra: What the transformation wants beside, such as `value=loss`.

        Returns:
            What was added to the parameters, at the paths of `layout`: what optax calls
            the updates.

        Raises:
            UpdateError: The gradients, the model or the memory do not fit; names all
                paths. Nothing was written.
            TraceError: A traced value would leak into a State from outside its trace.
                Nothing was written.
            TypeError: `grads` is not a collection of States; or the transformation does
                not take `extra`.
            StructureError: `model` is neither a node nor a pytree of nodes.

        Example:
            >>> import optax
            >>> model = gn.nn.Linear(2, 3)
            >>> optimizer = gn.optim.Optimizer(model, optax.sgd(0.1, momentum=0.9))
            >>> graphdef, values = gn.treefy_split((model, optimizer))
            >>> @jax.jit
            ... def step(values, grads):
            ...     model, optimizer = gn.treefy_merge(graphdef, values)
            ...     updates = optimizer.update(model, grads)
            ...     return gn.treefy_states((model, optimizer))
            >>> grads = jax.tree.map(jnp.ones_like, gn.treefy_states(model))
            >>> gn.update_states((model, optimizer), step(values, grads))
            >>> optimizer.memory[0]["trace"]["bias"].value
            Array([1., 1., 1.], dtype=float32)
        """
        members = self._members(model)
        params = self._params(members)
        gradients = _gradients(graphdef(model), params, grads)
        form = form_of(self.tx, params)
        memory = self._memory(form)
        before = form.join([state.value for state in memory])
        updates, after = self.tx.update(gradients, before, params, **extra)
        parts = take_apart(after)
        # A transformation whose state changes its structure has no place for it in the
        # memory.
        faults = _part_faults(form.parts, parts)
        if faults:
            raise UpdateError(
                f"the transformation changed the structure of its state: {listed(faults)}"
            )
        stepped: StateTree = imported_optax().apply_updates(params, updates)
        writes: list[tuple[Path, State[Any], Any]] = list(
            zip(self.layout.paths(), members, stepped._values, strict=True)
        )
        for part, remembered in zip(parts, memory, strict=True):
            writes.append((part.path, remembered, part.value))
        # Model, memory and count together: either all are of this step, or none.
        writes.append((("steps",), self.steps, self.steps.value + 1))
        _write(writes)
        return cast("StateTree", updates)

    # Any: of the transformation's own classes.
    def native_state(self, model: object, /) -> Any:
        """The memory as the transformation's own state, for functions of optax that take an optimizer state.

        What follows the parameters is a `StateTree` in it, at the paths of `layout`.
        Arrays keep their identity; a write into it does not change the memory.

        Args:
            model: The model that the optimizer was made for, or a copy of it: the
                shapes of its parameters say which form the state has.

        Raises:
            UpdateError: The model or the memory does not fit; names all paths.
            StructureError: `model` is neither a node nor a pytree of nodes.

        Example:
            >>> import optax
            >>> model = gn.nn.Linear(2, 3)
            >>> optimizer = gn.optim.Optimizer(model, optax.adam(1e-3))
            >>> optax.tree_utils.tree_get(optimizer.native_state(model), "mu")["bias"].value
            Array([0., 0., 0.], dtype=float32)

        See also: `set_native_state`, the inverse.
        """
        form = form_of(self.tx, self._params(self._members(model)))
        values = tuple([state.value for state in self._memory(form)])
        return form.join(
            all_rebuilt(values)
        )  # containers anew: optax may write into them

    # Any: of the transformation's own classes.
    def set_native_state(self, model: object, state: Any, /) -> None:
        """Write a state of the transformation into the memory, all or none.

        Its paths, structures, shapes and dtypes must be those of the memory. An array
        that is a parameter too, or stands in it twice, is copied, as at construction.

        Args:
            model: The model that the optimizer was made for, or a copy of it.
            state: What `native_state` gave, changed.

        Raises:
            UpdateError: The state, the model or the memory does not fit; names all
                paths. Nothing was written.
            TraceError: A traced value would leak into a State from outside its trace.
                Nothing was written.
            StructureError: `model` is neither a node nor a pytree of nodes.

        Example:
            >>> import optax
            >>> model = gn.nn.Linear(2, 3)
            >>> optimizer = gn.optim.Optimizer(model, optax.adam(1e-3))
            >>> state = optimizer.native_state(model)
            >>> optimizer.set_native_state(model, optax.tree_utils.tree_set(state, count=jnp.int32(7)))
            >>> optimizer.memory[0]["count"].value
            Array(7, dtype=int32)

        See also: `native_state`, the inverse.
        """
        params = self._params(self._members(model))
        memory = form_of(self.tx, params).parts
        parts = take_apart(unshared(state, params))
        faults = _part_faults(memory, parts)
        if faults:
            raise UpdateError(
                f"the state does not fit the transformation of the optimizer: {listed(faults)}"
            )
        update_states(self, {part.path: part.value for part in parts})

    @contextlib.contextmanager
    def following(self, model: object, /) -> Generator[None]:
        """A `with` block in which the model may be changed; at its end the memory follows.

        States that are still there keep their memory, wherever they stand now: they are
        known by their identity. New ones get memory as at construction, that of those
        that are gone is dropped, and `steps` and counts go on. If the block raises, the
        memory stays as it is.

        Args:
            model: The model that the optimizer was made for.

        Raises:
            UpdateError: The model is not the one that the optimizer was made for; or,
                at the end, what a State has in the memory no longer fits, or would be
                lost, as the State comes into another group of a mapping; or a part of
                the memory is of all States together, and these are others now, or in
                another order. The memory stays as it is.
            FilterError: At the end, `wrt` selects no State of the model.
            StructureError: `model` is neither a node nor a pytree of nodes.
            TraceError: A JAX transformation runs that the optimizer was not made in.

        Example:
            >>> import optax
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> optimizer = gn.optim.Optimizer(model, optax.adam(1e-3))
            >>> with optimizer.following(model):
            ...     gn.select(model, gn.nn.Linear).replace(lambda linear: gn.nn.LoRALinear.of(linear, 4))
            >>> list(optimizer.memory[0]["mu"]["layers"][0])
            ['bias', 'lora_a', 'lora_b', 'weight']
        """
        members = self._members(model)
        form = form_of(self.tx, self._params(members))
        before = remember(self.layout.paths(), members, form.parts, self._memory(form))
        yield
        self._follow(model, before)

    def _follow(self, model: object, before: Remembered) -> None:
        """For `following`: lay the memory out for the model as it is now."""
        selected = _selected(model, self.wrt)
        params = _values(selected)
        parts = _initial_parts(self.tx, params)
        kept = kept_memory(before, parts, dict(selected))
        memory = {
            part.path: kept[part.path]
            if part.path in kept
            else _remembered(part, params)
            for part in parts
        }
        check_field_owner(self, "memory")

        def assign() -> None:
            """Both together: a layout without its memory fits no model."""
            self.layout = selected.layout
            self.memory = nested(memory, "memory")

        undivided(assign)

    def _members(self, model: object) -> list[State[Any]]:
        """The States of a model that are optimized, in the order of `layout`, as its memory was made for them."""
        return members_of(model, self.wrt, self.layout, "optimizer", _REMEDY)

    def _params(self, members: Sequence[State[Any]]) -> StateTree:
        """The values of the States that are optimized, as a state tree: what optax calls the parameters."""
        return StateTree(self.layout, tuple([member.value for member in members]))

    def _memory(self, form: Form) -> list[State[Any]]:
        """The States of the memory, one for each part of an optax state: where a step reads and writes it.

        Raises:
            UpdateError: The memory has others, or values of other shapes; names all.
        """
        memory = {
            path: state for path, state in states(self).items() if path[0] == "memory"
        }
        faults = _path_faults([part.path for part in form.parts], list(memory))
        for part in form.parts:
            if part.path in memory:
                faults += _mismatches(part.path, part.value, memory[part.path].value)
        if faults:
            raise UpdateError(
                f"the memory of the optimizer does not fit its transformation: {listed(faults)}"
            )
        return [memory[part.path] for part in form.parts]

    def __pretty__(self) -> Record:
        record = super().__pretty__()
        fields = [
            (name, shown(value) if name == "tx" else value)
            for name, value in record.fields
        ]
        return record._replace(fields=fields)


_REMEDY: Final = "change a model inside of `with optimizer.following(model):`"


def _write(writes: Sequence[tuple[Path, State[Any], Any]]) -> None:
    """Give each State its value, all or none, as a step of half a model is none; errors name the paths."""
    paths, states_written, values = zip(*writes, strict=True)
    write_all(
        states_written, values, [functools.partial(path_str, path) for path in paths]
    )


def _selected(model: object, wrt: Matcher) -> FlatStates[Any]:
    """The States of a model that are optimized.

    Raises:
        FilterError: There are none.
    """
    selected = states(model, wrt)
    if not selected:
        raise FilterError(
            f"no State of {graphdef(model).type.__name__} is selected by wrt={wrt!r}"
        )
    return selected


def _initial_parts(tx: Transformation, params: StateTree) -> list[Part]:
    """The parts of the state that a transformation starts from, none of which is a parameter itself."""
    return take_apart(unshared(initial_state(tx, params), params))


def _values(selected: FlatStates[Any]) -> StateTree:
    """For construction: the values of the selected States as a state tree, which optax calls the parameters."""
    return StateTree(
        selected.layout, tuple([state.value for state in selected._states])
    )


def _remembered(part: Part, params: StateTree) -> OptimizerState[Any]:
    """The State of a part, described as the State of the model that it belongs to, so that it is sharded alike."""
    # A count, for example, belongs to no State of the model.
    if part.mirrors is None or params.layout.index(part.mirrors) is None:
        return OptimizerState(part.value)
    param = params[part.mirrors]
    # A moment that is kept as rows and columns (adafactor) is not laid out over devices
    # as its parameter is.
    has_its_shapes = _shapes(part.value).items() <= _shapes(param.value).items()
    sharding = param.sharding if has_its_shapes else None
    stacked = param.stacked if has_its_shapes else ()
    spec = spec_of(OptimizerState, None, param.tag, sharding, param.metadata, stacked)
    return cast("OptimizerState[Any]", new_state(spec, part.value))


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays in a value, by key path: to compare what is remembered of a parameter with it."""
    return {
        keystr(key_path): np.shape(leaf)
        for key_path, leaf in jax.tree.leaves_with_path(value)
    }


def _gradients(structure: GraphDef[Any], params: StateTree, grads: States) -> StateTree:
    """The gradients of the parameters, as a state tree like theirs.

    Raises:
        UpdateError: Some are missing, stand where there is no State, or have another
            structure or other shapes.
    """
    matched = match(structure, grads)
    by_number = dict(zip(matched.numbers, matched.values, strict=True))
    faults = matched.contradictions(structure.layout)
    faults += [
        f"{matched.key(at)}: {structure.type.__name__} has no State there"
        for at, number in enumerate(matched.numbers)
        if number is None
    ]
    numbers = numbers_of(structure, params.layout).numbers
    for path, number, value in zip(
        params.layout.paths(), numbers, params._values, strict=True
    ):
        if number in by_number:
            faults += _mismatches(path, value, by_number[number])
        else:
            faults.append(f"{path_str(path)}: no gradient")
    if faults:
        raise UpdateError(
            f"cannot update {structure.type.__name__} by these gradients: {listed(faults)}"
        )
    return StateTree(params.layout, tuple([by_number[number] for number in numbers]))


def _mismatches(path: Path, expected: Any, value: Any) -> Iterator[str]:
    """For a message: how a value differs from what is expected in its structure or its shapes; nothing if it fits."""
    treedefs: list[object] = [jax.tree.structure(expected), jax.tree.structure(value)]
    if treedefs[0] != treedefs[1]:
        yield f"{path_str(path)}: expected the tree {treedefs[0]}, found {treedefs[1]}"
        return
    pairs, leaves = jax.tree.leaves_with_path(expected), jax.tree.leaves(value)
    for (key_path, leaf), other in zip(pairs, leaves, strict=True):
        name, shape = f"{path_str(path)}{keystr(key_path)}", np.shape(leaf)
        if shape != np.shape(other):
            yield f"{name}: expected shape {shape}, found {np.shape(other)}"


def _part_faults(expected: Sequence[Part], parts: Sequence[Part]) -> list[str]:
    """For a message: how the parts of an optax state differ in their paths from those that are expected."""
    return _path_faults([part.path for part in expected], [part.path for part in parts])


def _path_faults(expected: Sequence[Path], paths: Sequence[Path]) -> list[str]:
    """For a message: the paths that are expected and missing, then those that are not expected."""
    missing, unknown = set(expected).difference(paths), set(paths).difference(expected)
    return [
        *[f"{path_str(path)} is missing" for path in expected if path in missing],
        *[f"{path_str(path)} is unknown" for path in paths if path in unknown],
    ]
