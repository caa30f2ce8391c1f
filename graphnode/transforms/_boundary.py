"""The boundary between live nodes and a JAX transformation: the one mechanism under all transforms.

What a call does, from its arguments to written States:

    caller's side                  │ JAX's side
    ───────────────────────────────┼──────────────────────────────────────────
    args, kwargs                   │
      │ Call(...): flatten         │
    roots (nodes), other leaves    │
      │ binding_of_list            │
    values of all States, ─────────┼─► Call.run(jax_transform(Call.pure()), ...)
    other leaves                   │      Pure builds nodes, calls the function
    Written, new values, result ◄──┼─── and sees what it wrote
      │ Call.write                 │
    caller's States written        │
      │ Call.result_of             │
    result with live nodes         │

All nodes of the arguments are taken out as one graph, so that what they share stays
shared. Nothing of the caller's changes before `Call.write`, which writes all States or
none; `Call.finish` does both steps behind JAX.
"""

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal

import jax
from jax.tree_util import tree_flatten, tree_flatten_with_path

from .._calls import Arguments, Label, current_arguments
from .._compat import PLAIN, current_trace, is_tracing, path_scope
from .._describe import describe
from .._errors import ContractError, TraceError, listed
from .._graph._binding import Binding
from .._graph._binding_cache import binding_of_list
from .._graph._flatten import check_leaf_classes, is_graph_object
from .._graph._graphdef import GraphDef
from .._graph._unflatten import build_missing
from .._inspect import live_objects
from .._marks import trace_of
from .._signals import put_all
from .._state import State, check_writable, contract_faults, mark_container, renew
from .._static import GraphObject
from ._arguments import Function, Values, positional_name
from ._pure import ACTIVE, NO_NODES, REFUSAL, Outcome, Pure, pure_of
from ._result_nodes import ResultNode, is_result_node
from ._signature import CallSite, Signature, all_leaves
from ._surroundings import NOTHING, Held
from ._type_text import is_jax_type
from ._written import Written, as_arrays

# Of so many leaves by position, and nothing else.
_FLAT_DEFS: Final = {
    count: jax.tree.structure(((0,) * count, {})) for count in range(16)
}


class Call:
    """One call of a transformed function: its arguments, taken apart.

    Attributes:
        transform: The name of the transform, for messages.
        function: The user's function.
        roots: The nodes and States among the arguments, in the order of the leaves.
        binding: Of all roots, in a list.
        other_leaves: The other leaves.
        held: The nodes around the function, for `jit`.
        trace: The `Trace` that was made for it, and that `jit` is about to use.
        stacks: The roots that are stacks of which the function gets one member, by number.
        key: What `signature` is made of: a plain tuple, since one is made at every
            call.
    """

    __slots__ = (
        "_signature",
        "binding",
        "function",
        "held",
        "key",
        "other_leaves",
        "roots",
        "stacks",
        "trace",
        "transform",
    )

    def __init__(
        self,
        transform: str,
        function: Function,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.transform: str = transform
        self.function: Function = function
        self.held: Held = NOTHING
        self.trace: Any = None
        self.stacks: frozenset[int] = frozenset()
        roots: list[Any] = []
        others: list[Any] = []
        # A tuple from the start, since it is a part of `key`.
        places: tuple[int, ...] = ()
        treedef: Any = None if kwargs else _FLAT_DEFS.get(len(args))
        # Most calls pass nodes and arrays by position, and are spared the way through
        # JAX's flattening.
        for at, leaf in enumerate(args):
            if isinstance(leaf, GraphObject):
                roots.append(leaf)
                places += (at,)
            elif type(leaf) in PLAIN:
                others.append(leaf)
            else:
                treedef = None
                break
        if treedef is None:
            roots, others, places, treedef = _taken_apart(args, kwargs or {})
        self.roots: list[Any] = roots
        self.other_leaves: list[Any] = others
        self.binding: Binding = binding_of_list(roots) if places else NO_NODES
        self.key: tuple[Any, tuple[int, ...], GraphDef[Any]] = (
            treedef,
            places,
            self.binding.graphdef,
        )

    @property
    def signature(self) -> Signature:
        """All about the arguments but values; made when it is first asked for, as a compiled call needs `key` alone."""
        signature: Signature | None = getattr(self, "_signature", None)
        if signature is None:
            treedef, places, _ = self.key
            arguments = treedef.unflatten(
                all_leaves(places, self.roots, self.other_leaves)
            )
            # A class of nodes that was registered with JAX would be flattened: it is
            # kept as a leaf here, and refused with a reason.
            pairs, _ = tree_flatten_with_path(arguments, is_leaf=is_graph_object)
            check_leaf_classes([leaf for _, leaf in pairs])
            key_paths = tuple([key_path for key_path, _ in pairs])
            signature = self._signature = Signature(*self.key, key_paths)
        return signature

    @property
    def site(self) -> CallSite:
        """The function under its transform, and the signature: what `pure` is made for, and what names States."""
        return CallSite(self.transform, self.function, self.signature)

    @property
    def values(self) -> Values:
        """The values of all States, in layout order."""
        return self.binding.values()

    def pure(
        self,
        numbers: tuple[int, ...] | None = None,
        refusal: str = REFUSAL,
    ) -> Pure:
        """The function of values and leaves that JAX transforms; see `Pure`."""
        return pure_of(self.site, numbers, refusal)

    @property
    def places(self) -> tuple[int, ...]:
        """The numbers, among the leaves, of the nodes and States."""
        return self.key[1]

    def labels_around(self) -> tuple[Label, ...] | None:
        """What its nodes are called (`labels_in`) in the trace around it; `None` where there is none."""
        around = current_arguments()
        return None if around is None else self.labels_in(around)

    def labels_in(self, around: Arguments) -> tuple[Label, ...]:
        """What its nodes are called in a trace; those that are not known there, as arguments of the function."""
        labels: list[Label] = []
        for number, (root, own) in enumerate(
            zip(self.roots, self.site.labels(), strict=True)
        ):
            label = around.label_of(root)
            if label is None:
                label = own
            elif number in self.stacks:
                label = label.member()
            labels.append(label)
        return tuple(labels)

    def labels_of_held(self, around: Arguments | None) -> list[Label]:
        """What the nodes around the function are called: as in a trace, or else by where they stand."""
        labels: list[Label] = []
        for node, name in zip(self.held.nodes, self.held.names, strict=True):
            label = None if around is None else around.label_of(node)
            name = type(node).__name__ if name == "self" else name
            labels.append(label or Label(name, ()))
        return labels

    def scope(self) -> AbstractContextManager[object]:
        """While it is open, JAX names operations by the node that the call is for, if the trace around knows it.

        For what is kept, and so has names that begin with the function's own arguments: what stands
        around it says which node it is.
        """
        around = current_arguments()
        is_for_one = len(self.roots) == 1 or (
            bool(self.roots) and positional_name(self.function, 0) == "self"
        )
        label = around.label_of(self.roots[0]) if around and is_for_one else None
        return nullcontext() if label is None else path_scope(label.scope)

    def state_name(self, number: int) -> str:
        """What a message calls a State: its argument, and the path below."""
        return self.site.state_name(number)

    def run(self, function: Function, *args: Any) -> Any:
        """Call what JAX made of the pure function; leaves that JAX refuses are named in the error."""
        try:
            return self.work(function, *args)
        except TypeError:
            # JAX names no argument of the user's. Where all leaves are good, the error
            # is one of the function itself, and goes on as it is.
            self.check_leaves()
            raise

    def work(self, function: Function, *args: Any) -> Any:
        """Call a function that works on copies of the nodes, also later, as a pullback does.

        While it runs, this is the call whose States are captured when they are read,
        and no memory is donated.
        """
        # Calls nest: the one around this is active again afterwards.
        before = ACTIVE.call
        try:
            ACTIVE.call = self
            return function(*args)
        finally:
            ACTIVE.call = before

    def finish(self, outcome: Outcome) -> Any:
        """Write what was written into the caller's States, and put live nodes into the result."""
        # `Jitted` calls `write` itself: what is compiled gives arrays of JAX alone.
        self.write(outcome[0], tuple(map(as_arrays, outcome[1])))
        return self.result_of(outcome)

    def result_of(self, outcome: Outcome) -> Any:
        """The result of a pure function with live nodes in it, once the writes are made."""
        return self.with_live_nodes(outcome[2]) if outcome[0].has_nodes else outcome[2]

    def write(
        self, written: Written, values: Values, before: Sequence[Any] | None = None
    ) -> None:
        """Write what was written into the caller's States: all or none.

        Args:
            written: Which States were written, and what they became.
            values: Their values.
            before: What holds the values of all States until this returns, if the
                caller has them.

        Raises:
            ContractError: A value breaks the contract of a field; see
                `check_contracts`.
            TraceError: A tracer would leave its transformation.
        """
        numbers = written.numbers
        if not numbers:
            return
        # Everything that can fail stands before `put_all`.
        if written.reshaped:
            self.check_contracts(written, values)
        # Returned, but not written: a State of another trace may be among them, and must
        # not meet the check below.
        if written.unchanged:
            changed = [
                (number, value)
                for number, value in zip(numbers, values, strict=True)
                if number not in written.unchanged
            ]
            numbers = tuple([number for number, _ in changed])
            values = tuple([value for _, value in changed])
        states: Sequence[State[Any]] = self.binding.states
        # In layout order: as many are all of them.
        if len(numbers) != len(states):
            states = [states[number] for number in numbers]
        if is_tracing():
            self._check_writable(numbers, states, values)
        for number in written.containers:
            mark_container(self.binding.states[number])
        put_all(states, values, before)
        # What was lent of the old value, or lost with it, is of no concern to the new
        # one.
        if self.binding.has_marks:
            for state in states:
                renew(state)

    def _check_writable(
        self, numbers: Sequence[int], states: Sequence[State[Any]], values: Values
    ) -> None:
        """Raise if a State is of another trace than the one that writes it: a tracer would leave its transformation."""
        trace = current_trace()
        for number, state, value in zip(numbers, states, values, strict=True):
            # Most States are of this trace, and need no further look.
            if trace_of(state) != trace:
                name = functools.partial(self.state_name, number)
                check_writable(state, value, name)

    def check_contracts(self, written: Written, values: Values) -> None:
        """Raise if what was written breaks the contract of a field that the caller's State stands in.

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
                    f"{self.state_name(number)} is held to {fault}" for fault in broken
                ]
        if faults:
            raise ContractError(f"gn.{self.transform}: {listed(faults)}")

    def with_live_nodes(self, result: Any) -> Any:
        """The result of a pure function with live nodes: those that came in as themselves, new ones made."""
        leaves, treedef = jax.tree.flatten(result, is_leaf=is_result_node)
        parts = {leaf.place: leaf for leaf in leaves if isinstance(leaf, ResultNode)}
        # All of them were taken as one graph, whose graphdef each one has.
        graphdef = next(iter(parts.values())).graphdef
        caller_objects = live_objects(self.roots, self.binding.graphdef)
        # Each State is in the part where it is first seen: in order of their places the
        # parts have the values of all States that the caller does not have.
        values = [
            value for place in sorted(parts) for value in parts[place].states._values
        ]
        objects = build_missing(graphdef, caller_objects, values)
        top = graphdef.table.top
        live = [
            # By object, not by place: a node that stands at two places is one object.
            objects[top[leaf.place]] if isinstance(leaf, ResultNode) else leaf
            for leaf in leaves
        ]
        return jax.tree.unflatten(treedef, live)

    def explain_capture(
        self, state: State[Any], action: Literal["read", "written"]
    ) -> str:
        """For a `TraceError`: what is wrong with using the caller's State, of which the function has a copy."""
        name = self.state_name(self.binding.states.index(state))
        fault = f"gn.{self.transform}: {name} is {action} from outside of the function"
        if action == "read":
            return (
                f"{fault}, as a constant, though its node is an argument of this call. Use the argument, or compute "
                "the constant outside"
            )
        return f"{fault}, though its node is an argument of this call, which works on a copy. Write to the argument"

    def refuse_captured(self, states: Sequence[State[Any]]) -> None:
        """Raise if one of these States, which the function reads from outside, is one of its arguments.

        Raises:
            TraceError: Names the first.
        """
        # Nearly always.
        if not states:
            return
        own = set(self.binding.states)
        for state in states:
            if state in own:
                raise TraceError(self.explain_capture(state, "read"))

    def check_leaves(self) -> None:
        """Raise if a value or leaf is not one that JAX takes, naming it; for when JAX has refused one.

        Raises:
            TypeError: Names all such values.
        """
        faults = [
            f"{self.state_name(number)} holds {describe(leaf)}"
            for number, value in enumerate(self.values)
            for leaf in jax.tree.leaves(value)
            if not is_jax_type(leaf)
        ]
        faults += [
            f"{name} is {describe(leaf)}"
            for name, leaf in zip(
                self.site.other_leaf_names(), self.other_leaves, strict=True
            )
            if not is_jax_type(leaf)
        ]
        if faults:
            remedy = (
                "pass it in an argument of plain lists, dicts and sets without arrays, bind it with functools.partial, "
                "or make it a static field of a node"
                if self.site.traits.takes_python
                else "make it a static argument, or a static field of a node"
            )
            raise TypeError(
                f"gn.{self.transform} takes arrays, numbers and nodes; {', '.join(faults)}: {remedy}"
            )


def _taken_apart(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[list[Any], list[Any], tuple[int, ...], Any]:
    """Arguments of any form: their nodes and States, the other leaves, the places of the former, and the treedef."""
    leaves, treedef = tree_flatten((args, kwargs))
    places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, GraphObject)]
    others = [leaf for leaf in leaves if not isinstance(leaf, GraphObject)]
    return [leaves[at] for at in places], others, tuple(places), treedef
