"""The boundary between live nodes and a JAX transformation: the one mechanism under all transforms.

In: a function, and its arguments with nodes anywhere in them. A `Call` takes the nodes
out, all of them as one graph, so that what is left is a flat tuple of State values and
a list of other leaves. Its `Pure` is the function of those two that JAX transforms: it
builds nodes from the values, calls the user's function, and gives a `Written`, the
values of the States that the function wrote, and its result with a `ResultNode` in
place of each node. `Call.finish` writes these values into the caller's States and puts
live nodes into the result. Nothing of the caller's changes before that.
"""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal, TypeAlias

import jax
from jax.tree_util import keystr, tree_flatten, tree_flatten_with_path

from .._compat import TraceRef, current_trace, is_tracing
from .._describe import describe, shape_text
from .._errors import ContractError, StructureError, TraceError, listed
from .._graph._binding import (
    Binding,
    binding_of_list,
    check_leaf_classes,
    is_graph_object,
    walk,
)
from .._graph._diff import differences
from .._graph._graphdef import GraphDef
from .._graph._unflatten import build, build_missing
from .._graph_to_tree import part_of
from .._inspect import live_objects
from .._marks import (
    captured,
    check_marks,
    close_copies,
    drop_loans,
    is_marked,
    take_back_loans,
    trace_of,
)
from .._paths import path_str
from .._rngs import RngState
from .._signals import put_all
from .._state import (
    State,
    check_writable,
    contract_faults,
    mark_container,
    renew,
    state_label,
)
from .._statetree import StateTree
from .._static import GraphObject
from .._value import is_container
from .._versions import trace_of_version
from ._arguments import Form, Function, Values, name_of, placed
from ._kept import remembered
from ._result_nodes import ResultNode, is_result_node
from ._written import Before, Written, as_arrays, is_reshaped, settled

REFUSAL: Final = "must not be written here"


# What a pure function returns.
Outcome: TypeAlias = tuple[Written, Values, Any]


class Call:
    """One call of a transformed function: its arguments, taken apart.

    Attributes:
        transform: The name of the transform, for messages.
        function: The user's function.
        roots: The nodes and States among the arguments, in the order of the leaves.
        binding: Of all roots, in a list.
        rest: The other leaves.
        key: What `form` is made of: a plain tuple, since one is made at every call.
    """

    __slots__ = ("_form", "binding", "function", "key", "rest", "roots", "transform")

    def __init__(
        self,
        transform: str,
        function: Function,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.transform, self.function = transform, function
        leaves, treedef = tree_flatten((args, kwargs or {}))
        self.roots: list[Any] = []
        self.rest: list[Any] = []
        places: tuple[int, ...] = ()
        for at, leaf in enumerate(leaves):
            if isinstance(leaf, GraphObject):
                self.roots.append(leaf)
                places += (at,)
            else:
                self.rest.append(leaf)
        self.binding: Binding = binding_of_list(self.roots) if places else NO_NODES
        self.key: tuple[Any, tuple[int, ...], GraphDef[Any]] = (
            treedef,
            places,
            self.binding.graphdef,
        )

    @property
    def form(self) -> Form:
        """All about the arguments but values."""
        form: Form | None = getattr(self, "_form", None)
        if form is None:
            treedef, places, _ = self.key
            arguments = treedef.unflatten(placed(places, self.roots, self.rest))
            pairs, _ = tree_flatten_with_path(arguments, is_leaf=is_graph_object)
            check_leaf_classes([leaf for _, leaf in pairs])
            form = self._form = Form(
                *self.key, tuple([key_path for key_path, _ in pairs])
            )
        return form

    @property
    def values(self) -> Values:
        """The values of all States, in layout order."""
        return self.binding.values()

    def pure(
        self,
        numbers: tuple[int, ...] | None = None,
        *,
        is_open: bool = False,
        refusal: str = REFUSAL,
    ) -> "Pure":
        """The function of values and leaves; see `Pure`."""
        return pure_of(
            self.transform,
            self.function,
            self.form,
            numbers,
            is_open=is_open,
            refusal=refusal,
        )

    def finish(self, outcome: Outcome) -> Any:
        """Write what was written into the caller's States, and put live nodes into the result."""
        self.write(outcome[0], tuple(map(as_arrays, outcome[1])))
        return self.result_of(outcome)

    def result_of(self, outcome: Outcome) -> Any:
        """The result of a pure function with live nodes in it, once the writes are made."""
        return self.revive(outcome[2]) if outcome[0].has_nodes else outcome[2]

    def write(self, written: "Written", values: Values) -> None:
        """Write what was written into the caller's States: all or none.

        Raises:
            ContractError: A value breaks the contract of a field; see
                `check_contracts`.
            TraceError: A tracer would leave its transformation.
        """
        numbers = written.numbers
        if not numbers:
            return
        if written.reshaped:
            self.check_contracts(written, values)
        if written.untouched:
            pairs = [
                pair
                for pair in zip(numbers, values, strict=True)
                if pair[0] not in written.untouched
            ]
            numbers, values = (
                tuple([number for number, _ in pairs]),
                tuple([value for _, value in pairs]),
            )
        states = [self.binding.states[number] for number in numbers]
        if is_tracing():
            trace = current_trace()
            for number, state, value in zip(numbers, states, values, strict=True):
                if trace_of(state) != trace:
                    check_writable(state, value, functools.partial(self.where, number))
        for number in written.containers:
            mark_container(self.binding.states[number])
        put_all(states, values)
        if self.binding.has_marks:
            for state in states:
                renew(state)

    def check_contracts(self, written: "Written", values: Values) -> None:
        """Raise if what was written breaks the contract of a field that the State stands in.

        A copy that a function works on knows the fields of its arguments alone; the
        caller's State may stand in further ones. What keeps its shape and dtype needs
        no look: that is known where the function is traced.

        Args:
            written: What the function wrote.
            values: The values, or their shapes and dtypes.

        Raises:
            ContractError: Names all; nothing was written.
        """
        faults: list[str] = []
        for number, value in zip(written.numbers, values, strict=True):
            if number in written.reshaped:
                broken = contract_faults(self.binding.states[number], value)
                faults += [
                    f"{self.where(number)} is held to {fault}" for fault in broken
                ]
        if faults:
            raise ContractError(f"gn.{self.transform}: {listed(faults)}")

    def revive(self, result: Any) -> Any:
        """The result of a pure function with live nodes: those that came in as themselves, new ones made."""
        leaves, treedef = jax.tree.flatten(result, is_leaf=is_result_node)
        parts = {leaf.place: leaf for leaf in leaves if isinstance(leaf, ResultNode)}
        graphdef = next(iter(parts.values())).graphdef
        known = live_objects(self.roots, self.binding.graphdef)
        values = [
            value for place in sorted(parts) for value in parts[place].states._values
        ]
        objects = build_missing(graphdef, known, values)
        top = graphdef.table.top
        live = [
            objects[top[leaf.place]] if isinstance(leaf, ResultNode) else leaf
            for leaf in leaves
        ]
        return jax.tree.unflatten(treedef, live)

    def where(self, number: int) -> str:
        """The name of a State in a message: its argument, and the path below."""
        return self.pure().where(number)

    def rest_names(self) -> list[str]:
        """The names of the other leaves in a message."""
        return self.form.rest_names(self.function)

    def run(self, function: Function, *args: Any) -> Any:
        """What a function gives that JAX made of the pure one; what JAX refuses is told by its name."""
        try:
            return self.work(function, *args)
        except TypeError:
            self.check_leaves()
            raise

    def work(self, function: Function, *args: Any) -> Any:
        """What a function gives that works on copies of the nodes, also later, as a pullback does.

        While it runs, this is the call whose States are captured when they are read,
        and no memory is donated.
        """
        before = ACTIVE.call
        try:
            ACTIVE.call = self
            return function(*args)
        finally:
            ACTIVE.call = before

    def explain_capture(
        self, state: State[Any], action: Literal["read", "written"]
    ) -> str:
        """What is wrong with reading or writing the caller's State, of which the function has got a copy."""
        place = self.where(self.binding.states.index(state))
        start = f"gn.{self.transform}: {place} is {action} from outside of the function"
        if action == "read":
            return (
                f"{start}, as a constant, though its node is an argument of this call. Use the argument, or compute "
                "the constant outside"
            )
        return f"{start}, though its node is an argument of this call, which works on a copy. Write to the argument"

    def check_leaves(self) -> None:
        """Raise if a value or leaf is nothing that JAX takes, naming it; for when JAX has refused one.

        Raises:
            TypeError: Names all such values.
        """
        faults = [
            f"{self.where(number)} holds {describe(leaf)}"
            for number, value in enumerate(self.values)
            for leaf in jax.tree.leaves(value)
            if not is_jax_type(leaf)
        ]
        faults += [
            f"{name} is {describe(leaf)}"
            for name, leaf in zip(self.rest_names(), self.rest, strict=True)
            if not is_jax_type(leaf)
        ]
        if faults:
            raise TypeError(
                f"gn.{self.transform} takes arrays, numbers and nodes; {', '.join(faults)}: make it a static argument, "
                "or a static field of a node"
            )


def type_text(value: Any) -> str:
    """What a message says of the type of a value: dtype and shape of an array, the tree of others with those in it."""
    leaves, treedef = jax.tree.flatten(value)
    texts = list(map(leaf_text, leaves))
    return (
        texts[0]
        if leaves and leaves[0] is value
        else f"{treedef} of {', '.join(texts)}"
    )


def leaf_text(leaf: Any) -> str:
    """What a message says of the type of an array: dtype and shape, and how it is laid out over an explicit mesh."""
    aval: Any = jax.typeof(leaf)
    text, sharding = shape_text(aval), getattr(aval, "sharding", None)
    # Most: each trace notes the types of all States
    if sharding is None or sharding.mesh.empty:
        return text
    axes = mesh_axes(leaf)
    return f"{text} as P({', '.join(map(repr, axes))})" if axes else text


def mesh_axes(leaf: Any) -> tuple[Any, ...]:
    """The axes of an explicit mesh that an array is laid out over, which are part of its type; none if it is not."""
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    axes = tuple(getattr(sharding, "spec", ()))
    return axes if any(axis is not None for axis in axes) else ()


def told(result: Any) -> str:
    """What a message says of a part of the result of a pure function."""
    return "a node" if isinstance(result, ResultNode) else describe(result)


def is_jax_type(leaf: object) -> bool:
    """Whether JAX computes with a leaf."""
    try:
        jax.typeof(leaf)
    except TypeError:
        return False
    return True


NO_NODES: Final = walk([])


# What gives back only what JAX computes with; the others hand on what is not
# differentiated, or not mapped, as it is.
_ARRAYS_ALONE: Final = frozenset(
    {
        "jit",
        "remat",
        "scan",
        "fori_loop",
        "while_loop",
        "cond",
        "switch",
        "eval_shape",
        "make_jaxpr",
        "checkify",
    }
)


# What gives the structure of a result, and no node that anybody could write to.
_ABSTRACT: Final = frozenset({"eval_shape", "make_jaxpr"})


class _Active(threading.local):
    """The call of this thread that JAX is working on, the innermost."""

    call: Call | None = None


ACTIVE: Final = _Active()


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class Pure:
    """A function of nodes as a function of State values and other leaves: what JAX transforms.

    Kept on the function (see `remembered`), since JAX knows by identity what it has
    traced before.

    Attributes:
        transform: The name of the transform, for messages.
        function: The user's function.
        form: The form of its arguments.
        numbers: The States whose values it gives; `None` for those that it writes,
            which a trace finds out.
        is_open: Whether it may write others beside `numbers`, and gives them too; all
            that it gives counts as written.
        refusal: What is wrong with a State that it may not write, for the message;
            `CLASSES` in it stands for theirs.
    """

    transform: str
    function: Function
    form: Form
    numbers: tuple[int, ...] | None = None
    is_open: bool = False
    refusal: str = REFUSAL

    @property
    def __name__(self) -> str:
        """The name of the user's function, for what JAX compiles."""
        return name_of(self.function)

    def __repr__(self) -> str:
        # Not of its fields: JAX prints a function that it traces, and a graphdef is
        # long.
        return f"<{self.__name__} under gn.{self.transform}>"

    def __call__(self, values: Values, rest: Sequence[Any]) -> Outcome:
        before = Before.of(values)
        nodes = build(self.form.graphdef, values)
        binding = binding_of_list(nodes) if nodes else NO_NODES
        args, kwargs = self.form.fill(nodes, rest)
        with self._captured():
            result = self._call(args, kwargs)
            if self.transform in _ARRAYS_ALONE and is_tracing():
                self._check_result(result)
            self.check_structure(nodes, binding)
            for number, state in enumerate(binding.states):
                # A transformation of JAX's own, inside, may have written into a copy
                if is_marked(state):
                    check_marks(state, functools.partial(self.where, number))
            result, has_nodes = self._take_nodes(result, nodes)
        wrote = before.written(binding.states)
        numbers = self.given(wrote)
        # Of `numbers` that is open the caller has given the values away, and needs all
        # of them back.
        untouched = (
            frozenset() if self.is_open else frozenset(numbers) - frozenset(wrote)
        )
        containers = frozenset(
            number for number in numbers if is_container(binding.states[number]._value)
        )
        reshaped = frozenset(
            number
            for number in wrote
            if is_reshaped(binding.states[number]._value, values[number])
        )
        new = tuple(
            [
                settled(binding.states[number]._value, values[number])
                for number in numbers
            ]
        )
        # Whatever holds a copy from here on, such as a method in the result, would read
        # and write what nobody sees.
        close_copies(binding.states, f"gn.{self.transform}")
        return Written(numbers, untouched, containers, has_nodes, reshaped), new, result

    def _captured(self) -> AbstractContextManager[None]:
        """While it runs, the originals of the arguments must not be read: not by the function, nor for its result."""
        call = ACTIVE.call
        return (
            nullcontext()
            if call is None
            else captured(call.binding.states, call.explain_capture)
        )

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the function, and see that it wrote into no container of outside."""
        try:
            result = self.function(*args, **kwargs)
        except BaseException:
            drop_loans()
            raise
        take_back_loans(state_label)
        return result

    def _check_result(self, result: Any) -> None:
        """Raise if the function gives what no compiled function can give back.

        Raises:
            TypeError: Names all such leaves of the result.
        """
        faults = [
            f"result{keystr(key_path)} is {describe(leaf)}"
            for key_path, leaf in tree_flatten_with_path(result)[0]
            if not isinstance(leaf, GraphObject) and not is_jax_type(leaf)
        ]
        if faults:
            raise TypeError(
                f"gn.{self.transform}: {name_of(self.function)} must return arrays, numbers and nodes: {listed(faults)}"
            )

    def _take_nodes(self, result: Any, nodes: list[Any]) -> tuple[Any, bool]:
        """The result with a `ResultNode` in place of each node, and whether there are any.

        Raises:
            TraceError: A node of the result is neither an argument nor made inside: it
                would come back as a copy.
        """
        leaves, treedef = jax.tree.flatten(result)
        places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, GraphObject)]
        if not places:
            return result, False
        # One graph with the arguments, which come first: what is theirs is theirs in
        # the result, too.
        roots = [*nodes, *[leaves[at] for at in places]]
        binding = walk(roots)
        if self.transform not in _ABSTRACT:
            self._check_made_inside(result, roots, binding.graphdef)
        whole = StateTree(binding.graphdef.layout, binding.values())
        for number, at in enumerate(places, len(nodes)):
            leaves[at] = ResultNode(binding.graphdef, number, part_of(whole, number))
        return jax.tree.unflatten(treedef, leaves), True

    def _check_made_inside(
        self, result: Any, roots: list[Any], graphdef: GraphDef[Any]
    ) -> None:
        count = len(self.form.graphdef.table.specs) if self.form.places else 0
        made = enumerate(live_objects(roots, graphdef)[count:], count)
        trace = current_trace()
        outside = next(
            (number for number, found in made if _trace_of_object(found) != trace), None
        )
        if outside is None:
            return
        root, *below = graphdef.path(outside)
        key_paths = [
            key_path
            for key_path, leaf in tree_flatten_with_path(result)[0]
            if isinstance(leaf, GraphObject)
        ]
        name = "result" + keystr(key_paths[int(root) - len(self.form.places)])
        if below:
            name += "." + path_str(tuple(below))
        raise TraceError(
            f"gn.{self.transform}: {name} is from outside of the function, and would come back as a copy, to which "
            "writes are lost: give its node to the function as an argument, or return a gn.clone of it"
        )

    def check_structure(self, nodes: list[Any], binding: Binding) -> None:
        """Raise if the function changed the structure of its arguments.

        Raises:
            StructureError: Names the transform and every place that differs.
        """
        if not nodes or binding.is_current(nodes):
            return
        now = walk(nodes)
        if now.graphdef is not binding.graphdef:
            place = functools.partial(self.form.where, self.function)
            found = itertools.islice(
                differences(binding.graphdef, now.graphdef, place, place), 10
            )
            faults = [f"{place(one.path)}: {one.left} != {one.right}" for one in found]
        else:
            pairs = enumerate(zip(binding.states, now.states, strict=True))
            faults = [
                f"{self.where(number)} is another {type(new).__name__}; write to its .value instead"
                for number, (old, new) in pairs
                if old is not new
            ]
        if faults:
            raise StructureError(
                f"the structure of an argument changed inside of gn.{self.transform}: {'; '.join(faults)}. Change it "
                "outside, or return a new node"
            )

    def given(self, wrote: Sequence[int]) -> tuple[int, ...]:
        """The States whose values are given, when these were written.

        Raises:
            TraceError: Some may not be written here; names all.
        """
        if self.numbers is None:
            return tuple(wrote)
        if self.is_open:
            return tuple(sorted({*wrote, *self.numbers}))
        allowed = set(self.numbers)
        surplus = [number for number in wrote if number not in allowed]
        if surplus:
            specs = self.form.graphdef.layout.specs
            # A stream's key and count go together.
            kinds = [
                RngState if issubclass(cls, RngState) else cls
                for cls in (specs[number].cls for number in surplus)
            ]
            classes = ", ".join(dict.fromkeys(f"{cls.__name__}: 0" for cls in kinds))
            places = ", ".join(map(self.where, surplus))
            raise TraceError(
                f"gn.{self.transform}: {places} {self.refusal.replace('CLASSES', classes)}"
            )
        return self.numbers

    def where(self, number: int) -> str:
        """The name of a State in a message: its argument, and the path below."""
        return self.form.where(self.function, self.form.graphdef.layout.path(number))


def pure_of(
    transform: str,
    function: Function,
    form: Form,
    numbers: tuple[int, ...] | None = None,
    *,
    is_open: bool = False,
    refusal: str = REFUSAL,
) -> Pure:
    """The pure function of a user's function and a form of its arguments: the same object every time."""
    key = (form, numbers, is_open, refusal)
    return remembered(
        function,
        ("pure", transform),
        key,
        lambda: Pure(transform, function, form, numbers, is_open, refusal),
    )


def _trace_of_object(found: Any) -> TraceRef | None:
    """The trace that a node or State was made in; `None` outside of all."""
    return (
        trace_of(found)
        if isinstance(found, State)
        else trace_of_version(found._version)
    )
