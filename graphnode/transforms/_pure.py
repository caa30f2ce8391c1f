"""`Pure`, the function that JAX transforms: a user's function of nodes as one of State values and other leaves.

    values, other leaves          tracers, when JAX traces
          │ build, fill
    args with new nodes           copies: the caller's nodes are elsewhere
          │ the user's function
    result, nodes written to
          │ Before.written        which States hold another value than was given
    Written, new values, result   `ResultNode`s in place of the nodes in it

A `Pure` knows nothing of the caller's nodes. What is wrong with reading them while it
runs, the call says that runs it (`ACTIVE`).
"""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import CodeType
from typing import Any, Final, Literal, Protocol, TypeAlias, runtime_checkable

import jax
from jax.tree_util import keystr, tree_flatten_with_path

from .._calls import Arguments, Label, current_arguments, has_handlers
from .._compat import TraceRef, current_trace, is_tracing
from .._describe import describe
from .._errors import StructureError, TraceError, listed
from .._graph._binding import Binding
from .._graph._binding_cache import binding_of_list
from .._graph._diff import differences
from .._graph._flatten import walk
from .._graph._graphdef import GraphDef
from .._graph._unflatten import build
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
from .._method_wrappers import call_method, naming
from .._paths import Path, path_str
from .._reads import Reads
from .._rngs import RngState
from .._state import State, state_label
from .._statetree import StateTree
from .._static import GraphObject
from .._value import all_rebuilt, is_container
from .._versions import trace_of_version
from ._arguments import Values, code_of, name_of
from ._kept import remembered
from ._result_nodes import ResultNode
from ._signature import CallSite
from ._type_text import is_jax_type
from ._written import Before, Written, is_reshaped, settled

REFUSAL: Final = "must not be written here"

# What a pure function returns: what it wrote, the values of these States, its result.
Outcome: TypeAlias = tuple[Written, Values, Any]

# The binding of a call without nodes: it is the same at each, and shared.
NO_NODES: Final = walk([])


@runtime_checkable
class NodesAround(Protocol):
    """What is asked of the nodes around a function: of `Held`."""

    @property
    def nodes(self) -> Sequence[Any]:
        """The nodes and States."""
        ...

    @property
    def graphdef(self) -> GraphDef[Any] | None:
        """Of these, in a list; `None` where there are none."""
        ...


class ActiveCall(Protocol):
    """What is asked of the call that JAX is working on: a `Call`."""

    binding: Binding

    @property
    def places(self) -> tuple[int, ...]:
        """The numbers, among the leaves of its arguments, of the nodes and States."""
        ...

    @property
    def held(self) -> "NodesAround":
        """The nodes around its function."""
        ...

    def labels_in(self, around: Arguments) -> Sequence[Label]:
        """What the nodes of its arguments are called in the trace around it."""
        ...

    def labels_of_held(self, around: Arguments | None) -> Sequence[Label]:
        """What the nodes around its function are called."""
        ...

    def explain_capture(
        self, state: State[Any], action: Literal["read", "written"]
    ) -> str:
        """For a `TraceError`: what is wrong with using a State of the caller's in place of the copy."""
        ...

    def check_contracts(self, written: Written, values: Values) -> None:
        """Raise if what was written breaks a contract of a State of the caller's."""
        ...


class _Active(threading.local):
    """The innermost call of this thread that JAX is working on."""

    call: ActiveCall | None = None


ACTIVE: Final = _Active()


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class Pure:
    """A function of nodes as a function of State values and other leaves: what JAX transforms.

    Kept on the user's function (`pure_of`): JAX knows by the identity of a function
    what it has traced before.

    Attributes:
        site: The user's function under a transform, and the signature of its arguments.
        numbers: The States whose values it returns; `None` for those that it writes,
            which a trace finds out.
        refusal: What is wrong with a State that it may not write, for the message;
            `CLASSES` in it stands for theirs.
    """

    site: CallSite
    numbers: tuple[int, ...] | None = None
    refusal: str = REFUSAL

    @property
    def __name__(self) -> str:
        """The name of the user's function, for what JAX compiles."""
        return name_of(self.site.function)

    @property
    def __code__(self) -> CodeType:
        """The code of the user's function, by which JAX's messages say where it is."""
        code = code_of(self.site.function)
        if code is None:
            raise AttributeError("__code__")
        return code

    def __repr__(self) -> str:
        # Without its fields: JAX prints a function that it traces, and a graphdef is
        # long.
        return f"<{self.__name__} under {self._name}>"

    @property
    def _name(self) -> str:
        """The transform as messages call it, such as `gn.jit`."""
        return f"gn.{self.site.transform}"

    def __call__(self, values: Values, other_leaves: Sequence[Any]) -> Outcome:
        """Build nodes around the values, call the user's function, and take its result apart.

        This is what JAX traces. It gives what was written, the values of the States that are
        returned, and the result with a `ResultNode` in place of each node.
        """
        return self.noted(values, other_leaves, None)

    def noted(
        self, values: Values, other_leaves: Sequence[Any], reads: Reads | None
    ) -> Outcome:
        """The outcome of a call, and notes of the States of the arguments that the function looks at."""
        signature = self.site.signature
        # Before the function runs, which may change a container in place.
        before = Before.of(values)
        nodes = build(signature.graphdef, values)
        binding = binding_of_list(nodes) if nodes else NO_NODES
        args, kwargs = signature.fill(nodes, other_leaves)
        if reads is not None:
            reads.number(binding.states)
        with self._captured():
            with naming(self._arguments(nodes)):
                result = self._call(args, kwargs)
            if self.site.traits.takes_python:
                signature.check_unwritten(
                    self.site.transform, (args, kwargs), nodes, other_leaves
                )
            # Where JAX runs it without a trace, nothing is compiled, and any result
            # will do.
            if self.site.traits.only_arrays and is_tracing():
                self._check_result(result)
            # Before the nodes of the result are taken: to tell them from those of the
            # arguments, objects are counted, as many as the arguments had.
            self.check_structure(nodes, binding)
            for number, state in enumerate(binding.states):
                # A transformation of JAX's own, inside, may have written into a copy.
                if is_marked(state):
                    # A name costs a walk over the paths, and only an error asks for it.
                    name = functools.partial(self.site.state_name, number)
                    check_marks(state, name)
            result, has_nodes = self._take_nodes(result, nodes)
        written, new_values = self._written(before, binding.states, has_nodes)
        # Whatever holds a copy from here on, such as a method in the result, would read
        # and write what nobody sees.
        close_copies(binding.states, self._name)
        return written, new_values, result

    def _written(
        self, before: Before, states: Sequence[State[Any]], has_nodes: bool
    ) -> tuple[Written, Values]:
        """Two parts of the outcome: what the function wrote, and the values of the States that are returned."""
        written = before.written(states)
        numbers = self.returned(written)
        unchanged = frozenset(numbers) - {*written}
        values = [
            settled(states[number]._value, before.values[number]) for number in numbers
        ]
        return Written(
            numbers,
            unchanged,
            containers=frozenset(
                [n for n in numbers if is_container(states[n]._value)]
            ),
            has_nodes=has_nodes,
            reshaped=frozenset(
                [n for n in written if is_reshaped(states[n]._value, before.values[n])]
            ),
        ), tuple(values)

    def _captured(self) -> AbstractContextManager[None]:
        """While it is open, reading an original of the arguments raises: in the function, and for its result."""
        call = ACTIVE.call
        if call is None:
            return nullcontext()
        return captured(call.binding.states, call.explain_capture)

    def _arguments(self, nodes: Sequence[Any]) -> Arguments:
        """The nodes whose methods the function may call: its arguments, those around it, those of a trace around.

        Args:
            nodes: The copies of the nodes among its arguments.
        """
        around, call = current_arguments(), ACTIVE.call
        # What is kept may serve another place the next time, where the nodes around it
        # have other names.
        if self.site.traits.is_kept and not has_handlers():
            around = None
        signature = self.site.signature
        of_roots: Callable[[], Sequence[Label]] = self.site.labels
        if call is None:
            return Arguments(nodes, signature.graphdef, of_roots, around)
        # The same arguments, which the trace around may have names for.
        if around is not None and call.places == signature.places:
            of_roots = functools.partial(call.labels_in, around)
        held = call.held
        if held.graphdef is not None:
            of_held = functools.partial(call.labels_of_held, around)
            around = Arguments(held.nodes, held.graphdef, of_held, around)
        return Arguments(nodes, signature.graphdef, of_roots, around)

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the user's function; raise if it wrote into a container that it read from a State of outside."""
        try:
            result = call_method(self.site.function, *args, **kwargs)
        # Loans are taken back even then, or the containers of outside would stay lent
        # to a trace that is over. Their writes are not checked: the error is what
        # counts.
        except BaseException:
            drop_loans()
            raise
        take_back_loans(state_label)
        return result

    def _check_result(self, result: Any) -> None:
        """Raise if the function returns what no compiled function can return; JAX would give its place in the outcome.

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
                f"{self._name}: {self.__name__} must return arrays, numbers and nodes: {listed(faults)}"
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
        # One graph with the arguments, which come first: so a State that an argument
        # and the result share is the argument's, and keeps its identity.
        roots = [*nodes, *[leaves[at] for at in places]]
        binding = walk(roots)
        if not self.site.traits.is_abstract:
            self._check_made_inside(result, roots, binding.graphdef)
        # Not by reading them: those of the arguments are not looked at.
        tree = StateTree(binding.graphdef.layout, all_rebuilt(binding.peek()))
        for number, at in enumerate(places, len(nodes)):
            leaves[at] = ResultNode(binding.graphdef, number, part_of(tree, number))
        return jax.tree.unflatten(treedef, leaves), True

    def _check_made_inside(
        self, result: Any, roots: list[Any], graphdef: GraphDef[Any]
    ) -> None:
        """Raise if a node in the result was neither an argument nor made while the function ran.

        Args:
            result: The result, with nodes in it.
            roots: The nodes of the arguments, then those of the result.
            graphdef: Of these, in a list.

        Raises:
            TraceError: Names the first such node.
        """
        signature = self.site.signature
        root_count = len(signature.places)
        # The objects of the arguments come first, since their roots do.
        argument_count = len(signature.graphdef.table.specs) if root_count else 0
        trace = current_trace()
        objects = enumerate(live_objects(roots, graphdef))
        new_objects = itertools.islice(objects, argument_count, None)
        outside = next(
            (at for at, node in new_objects if _trace_of_object(node) != trace), None
        )
        if outside is None:
            return
        root, *below = graphdef.path(outside)
        name = _name_in_result(result, int(root) - root_count, tuple(below))
        raise TraceError(
            f"{self._name}: {name} is from outside of the function, and would come back as a copy, to which "
            "writes are lost: give its node to the function as an argument, or return a gn.clone of it"
        )

    def check_structure(self, nodes: list[Any], binding: Binding) -> None:
        """Raise if the function changed the structure of its arguments: only values are written back.

        Raises:
            StructureError: Names the transform and every place that differs.
        """
        # Almost always: one comparison of versions, and no walk.
        if not nodes or binding.is_current(nodes):
            return
        now = walk(nodes)
        # Graphdefs are interned: equal ones are the same object.
        if now.graphdef is not binding.graphdef:
            name = self.site.path_name
            changes = differences(binding.graphdef, now.graphdef, name, name)
            faults = [
                f"{name(change.path)}: {change.left} != {change.right}"
                for change in itertools.islice(changes, 10)
            ]
        else:
            # The structure is equal, around other States: what they hold would not be
            # written back.
            pairs = enumerate(zip(binding.states, now.states, strict=True))
            faults = [
                f"{self.site.state_name(number)} is another {type(new).__name__}; write to its .value instead"
                for number, (old, new) in pairs
                if old is not new
            ]
        if faults:
            raise StructureError(
                f"the structure of an argument changed inside of {self._name}: {'; '.join(faults)}. Change it "
                "outside, or return a new node"
            )

    def returned(self, written: Sequence[int]) -> tuple[int, ...]:
        """The States whose values are returned, when these were written.

        Raises:
            TraceError: Some may not be written here; names all.
        """
        if self.numbers is None:
            return tuple(written)
        refused = sorted({*written}.difference(self.numbers))
        if refused:
            specs = self.site.signature.graphdef.layout.specs
            # A stream's key and count go together.
            classes = [
                RngState if issubclass(cls, RngState) else cls
                for cls in [specs[number].cls for number in refused]
            ]
            # A dict rather than a set: each class once, in the order of the States.
            axes = ", ".join(dict.fromkeys(f"{cls.__name__}: 0" for cls in classes))
            names = ", ".join(map(self.site.state_name, refused))
            refusal = self.refusal.replace("CLASSES", axes)
            raise TraceError(f"{self._name}: {names} {refusal}")
        return self.numbers


def pure_of(
    site: CallSite, numbers: tuple[int, ...] | None = None, refusal: str = REFUSAL
) -> Pure:
    """The pure function of a call site: the same object every time, so that JAX finds what it has traced of it."""
    return remembered(
        site.function,
        ("pure", site.transform),
        (site.signature, numbers, refusal),
        lambda: Pure(site, numbers, refusal),
    )


def _name_in_result(result: Any, root: int, below: Path) -> str:
    """For a message: the name of an object in the result of a function.

    Args:
        result: The result, with nodes in it.
        root: The number of the node that holds the object, among those of the result.
        below: The path of the object from that node.
    """
    key_paths = [
        key_path
        for key_path, leaf in tree_flatten_with_path(result)[0]
        if isinstance(leaf, GraphObject)
    ]
    name = f"result{keystr(key_paths[root])}"
    return f"{name}.{path_str(below)}" if below else name


def _trace_of_object(node: Any) -> TraceRef | None:
    """The trace that a node or State was made in; `None` outside of all. Tells what was made inside of the function."""
    if isinstance(node, State):
        return trace_of(node)
    return trace_of_version(node._version)
