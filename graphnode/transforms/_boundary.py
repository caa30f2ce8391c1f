"""The boundary between live nodes and a JAX transformation: the one mechanism under all transforms.

In: a function, and its arguments with nodes anywhere in them. A `Call` takes the nodes out, all of them as one graph,
so that what is left is a flat tuple of State values and a list of other leaves. Its `Pure` is the function of those
two that JAX transforms: it builds nodes from the values, calls the user's function, and gives a `Written`, the values
of the States that the function wrote, and its result with a `ResultNode` in place of each node. `Call.finish` writes
these values into the caller's States and puts live nodes into the result. Nothing of the caller's changes before that.
"""

import dataclasses
import functools
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any, Final, Literal, NamedTuple, SupportsIndex, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, SequenceKey, keystr, tree_flatten, tree_flatten_with_path

from .._arguments import checked_positions, wrong_argument
from .._caches import LOCK, TRANSFORMED, Memo, StaysHere
from .._compat import PLAIN, TraceRef, current_trace, is_tracing
from .._describe import describe, shape_text
from .._errors import ContractError, FieldError, StructureError, TraceError, listed
from .._graph._binding import Binding, binding_of_list, build, check_leaf_classes, graft, is_graph_object, walk
from .._graph._diff import differences
from .._graph._graphdef import GraphDef
from .._graph_to_tree import part_of
from .._hints import with_article
from .._importable import importable_name
from .._inspect import live_objects
from .._marks import captured, check_marks, close_copies, drop_loans, is_marked, take_back_loans, trace_of
from .._paths import Path, path_str
from .._rngs import RngState
from .._signals import put_all
from .._state import State, check_writable, contract_faults, located, mark_container, renew
from .._statetree import StateTree
from .._static import GraphObject, StaticValueError, frozen, static_key
from .._value import is_container
from .._versions import trace_of_version
from ._result_nodes import ResultNode, is_result_node

Function: TypeAlias = Callable[..., Any]
Values: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

REFUSAL: Final = "must not be written here"


def name_of(function: Function) -> str:
    """What a message calls a function: a callable object that has no name by its class."""
    return getattr(function, "__name__", type(function).__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a pure function gives beside arrays; static to JAX.

    Attributes:
        numbers: The States whose values it gives, by their number among those of the arguments.
        untouched: Those of them that it did not write.
        containers: Those of them that hold containers afterwards.
        has_nodes: Whether there are nodes in its result.
        reshaped: Those of them that it gave another structure, shape or dtype; none where a transform forbids that.
    """

    numbers: tuple[int, ...]
    untouched: frozenset[int]
    containers: frozenset[int]
    has_nodes: bool
    reshaped: frozenset[int] = frozenset()


jax.tree_util.register_static(Written)

# What a pure function returns.
Outcome: TypeAlias = tuple[Written, Values, Any]


class Static:
    """A static argument in the pytree of the arguments: a part of its treedef, compared by type and value.

    Raises:
        FieldError: The value is not hashable, is traced, or holds a node.
    """

    __slots__ = ("_key", "value")

    def __init__(self, name: str, value: Any) -> None:
        if isinstance(value, GraphObject):
            raise FieldError(
                f"the static argument {name} is {with_article(type(value).__name__)}: a node is passed as arrays are"
            )
        try:
            self.value = frozen(value)
            self._key = static_key(self.value)
        except StaticValueError as error:
            raise FieldError(f"the static argument {name}: {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.value)


jax.tree_util.register_static(Static)


class LeafPlace(NamedTuple):
    """Where a leaf stands.

    Attributes:
        leaf: Its number among all leaves.
        rest: Its number among those that are no nodes; `None` for a node or State.
    """

    leaf: int
    rest: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """All about the arguments of a call but values: equal forms may share one trace.

    Attributes:
        treedef: Of `(args, kwargs)`.
        places: The numbers, among the leaves, of the nodes and States.
        graphdef: The structure of all nodes, in a list.
        key_paths: Of all leaves, for messages. A treedef does not tell them: it would have to build objects of the
            user's classes, which may refuse what is no argument of theirs.
    """

    treedef: Any
    places: tuple[int, ...]
    graphdef: GraphDef[Any]
    key_paths: tuple[tuple[Any, ...], ...] = dataclasses.field(compare=False, repr=False)

    def fill(self, nodes: Sequence[Any], rest: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with these nodes and these other leaves in them."""
        args, kwargs = self.treedef.unflatten(placed(self.places, nodes, rest))
        return tuple(map(_unwrapped, args)), {name: _unwrapped(arg) for name, arg in kwargs.items()}

    def owners(self) -> list[int | str]:
        """The argument that each leaf is part of: its position, or its name."""
        return [first.idx if isinstance(first, SequenceKey) else first.key for _, first, *_ in self.key_paths]

    def leaf_places(self, positions: Iterable[int]) -> list[list[LeafPlace]]:
        """The leaves of the arguments at some positions, each in order."""
        nodes, following = set(self.places), itertools.count()
        places = [LeafPlace(at, None if at in nodes else next(following)) for at in range(len(self.key_paths))]
        by_owner: dict[int | str, list[LeafPlace]] = {}
        for place, owner in zip(places, self.owners(), strict=True):
            by_owner.setdefault(owner, []).append(place)
        return [by_owner.get(position, []) for position in positions]

    def names(self, function: Function) -> list[str]:
        """How to call each leaf in a message: by its parameter, and the path below it."""
        return [_name(function, key_path) for key_path in self.key_paths]

    def argument_def(self, position: int) -> Any:
        """The treedef of the argument at a position."""
        args_def, _ = self.treedef.children()
        return args_def.children()[position]

    def statics(self, function: Function) -> dict[str, Static]:
        """The static arguments, by name."""
        args_def, kwargs_def = self.treedef.children()
        _, keywords = kwargs_def.node_data()
        names = [_name(function, (SequenceKey(0), SequenceKey(at))) for at in range(len(args_def.children()))]
        parts = zip([*names, *keywords], [*args_def.children(), *kwargs_def.children()], strict=True)
        data = [(name, part.node_data()) for name, part in parts]
        return {name: node[1] for name, node in data if node is not None and node[0] is Static}

    def where(self, function: Function, path: Path) -> str:
        """The name of what stands at a path of the graph in a message: its argument, and the path below."""
        if not path:
            return "the arguments"
        return _below(self.names(function)[self.places[int(path[0])]], path)

    def state_names(self, function: Function) -> list[str]:
        """The names of all States in a message, in layout order."""
        names = self.names(function)
        return [_below(names[self.places[int(path[0])]], path) for path in self.graphdef.layout.paths()]

    def rest_names(self, function: Function) -> list[str]:
        """The names of the leaves that are no nodes in a message."""
        places = set(self.places)
        return [name for at, name in enumerate(self.names(function)) if at not in places]


def placed(places: Sequence[int], nodes: Sequence[Any], rest: Sequence[Any]) -> list[Any]:
    """All leaves, in order."""
    leaves = list(rest)
    for place, node in zip(places, nodes, strict=True):
        leaves.insert(place, node)
    return leaves


def _below(name: str, path: Path) -> str:
    below = path_str(path[1:])
    return f"{name}.{below}" if below else name


def _unwrapped(argument: Any) -> Any:
    return argument.value if isinstance(argument, Static) else argument


def _name(function: Function, key_path: tuple[Any, ...]) -> str:
    group, first, *below = key_path
    if group == SequenceKey(1):
        assert isinstance(first, DictKey)
        return f"{first.key}{keystr(tuple(below))}"
    position: int = first.idx
    parameters = parameters_of(function)
    positional = positional_names(function)
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
    named = positional[position] if position < len(positional) else f"{rest}[{position - len(positional)}]"
    return f"{named}{keystr(tuple(below))}"


def parameters_of(function: Function) -> list[inspect.Parameter]:
    """The parameters of a function; none for a builtin that does not tell."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def positional_names(function: Function) -> list[str]:
    """The names of the parameters that can be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters_of(function) if parameter.kind in kinds]


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
        self, transform: str, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
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
        self.key: tuple[Any, tuple[int, ...], GraphDef[Any]] = (treedef, places, self.binding.graphdef)

    @property
    def form(self) -> Form:
        """All about the arguments but values."""
        form: Form | None = getattr(self, "_form", None)
        if form is None:
            treedef, places, _ = self.key
            arguments = treedef.unflatten(placed(places, self.roots, self.rest))
            pairs, _ = tree_flatten_with_path(arguments, is_leaf=is_graph_object)
            check_leaf_classes([leaf for _, leaf in pairs])
            form = self._form = Form(*self.key, tuple([key_path for key_path, _ in pairs]))
        return form

    @property
    def values(self) -> Values:
        """The values of all States, in layout order."""
        return self.binding.values()

    def pure(self, numbers: tuple[int, ...] | None = None, *, is_open: bool = False, refusal: str = REFUSAL) -> "Pure":
        """The function of values and leaves; see `Pure`."""
        return pure_of(self.transform, self.function, self.form, numbers, is_open=is_open, refusal=refusal)

    def finish(self, outcome: Outcome) -> Any:
        """Write what was written into the caller's States, and put live nodes into the result."""
        self.write(outcome[0], tuple(map(_as_arrays, outcome[1])))
        return self.result_of(outcome)

    def result_of(self, outcome: Outcome) -> Any:
        """The result of a pure function with live nodes in it, once the writes are made."""
        return self.revive(outcome[2]) if outcome[0].has_nodes else outcome[2]

    def write(self, written: "Written", values: Values) -> None:
        """Write what was written into the caller's States: all or none.

        Raises:
            ContractError: A value breaks the contract of a field; see `check_contracts`.
            TraceError: A tracer would leave its transformation.
        """
        numbers = written.numbers
        if not numbers:
            return
        if written.reshaped:
            self.check_contracts(written, values)
        if written.untouched:
            pairs = [pair for pair in zip(numbers, values, strict=True) if pair[0] not in written.untouched]
            numbers, values = tuple([number for number, _ in pairs]), tuple([value for _, value in pairs])
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

        A copy that a function works on knows the fields of its arguments alone; the caller's State may stand in further
        ones. What keeps its shape and dtype needs no look: that is known where the function is traced.

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
                faults += [f"{self.where(number)} is held to {fault}" for fault in broken]
        if faults:
            raise ContractError(f"gn.{self.transform}: {listed(faults)}")

    def revive(self, result: Any) -> Any:
        """The result of a pure function with live nodes: those that came in as themselves, new ones made."""
        leaves, treedef = jax.tree.flatten(result, is_leaf=is_result_node)
        parts = {leaf.place: leaf for leaf in leaves if isinstance(leaf, ResultNode)}
        graphdef = next(iter(parts.values())).graphdef
        known = live_objects(self.roots, self.binding.graphdef)
        values = [value for place in sorted(parts) for value in parts[place].states._values]
        objects = graft(graphdef, known, values)
        top = graphdef.table.top
        live = [objects[top[leaf.place]] if isinstance(leaf, ResultNode) else leaf for leaf in leaves]
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

        While it runs, this is the call whose States are captured when they are read, and no memory is donated.
        """
        before = ACTIVE.call
        try:
            ACTIVE.call = self
            return function(*args)
        finally:
            ACTIVE.call = before

    def explain_capture(self, state: State[Any], action: Literal["read", "written"]) -> str:
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
    return texts[0] if leaves and leaves[0] is value else f"{treedef} of {', '.join(texts)}"


def leaf_text(leaf: Any) -> str:
    """What a message says of the type of an array: dtype and shape, and how it is laid out over an explicit mesh."""
    aval: Any = jax.typeof(leaf)
    text, sharding = shape_text(aval), getattr(aval, "sharding", None)
    if sharding is None or sharding.mesh.empty:  # most: each trace notes the types of all States
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

# What gives back only what JAX computes with; the others hand on what is not differentiated, or not mapped, as it is.
_ARRAYS_ALONE: Final = frozenset(
    {"jit", "remat", "scan", "fori_loop", "while_loop", "cond", "switch", "eval_shape", "make_jaxpr", "checkify"}
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

    Kept on the function (see `remembered`), since JAX knows by identity what it has traced before.

    Attributes:
        transform: The name of the transform, for messages.
        function: The user's function.
        form: The form of its arguments.
        numbers: The States whose values it gives; `None` for those that it writes, which a trace finds out.
        is_open: Whether it may write others beside `numbers`, and gives them too; all that it gives counts as written.
        refusal: What is wrong with a State that it may not write, for the message; `CLASSES` in it stands for theirs.
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
        # Not of its fields: JAX prints a function that it traces, and a graphdef is long.
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
                if is_marked(state):  # a transformation of JAX's own, inside, may have written into a copy
                    check_marks(state, functools.partial(self.where, number))
            result, has_nodes = self._take_nodes(result, nodes)
        wrote = before.written(binding.states)
        numbers = self.given(wrote)
        # Of `numbers` that is open the caller has given the values away, and needs all of them back.
        untouched = frozenset() if self.is_open else frozenset(numbers) - frozenset(wrote)
        containers = frozenset(number for number in numbers if is_container(binding.states[number]._value))
        reshaped = frozenset(number for number in wrote if _is_reshaped(binding.states[number]._value, values[number]))
        new = tuple([_settled(binding.states[number]._value, values[number]) for number in numbers])
        # Whatever holds a copy from here on, such as a method in the result, would read and write what nobody sees.
        close_copies(binding.states, f"gn.{self.transform}")
        return Written(numbers, untouched, containers, has_nodes, reshaped), new, result

    def _captured(self) -> AbstractContextManager[None]:
        """While it runs, the originals of the arguments must not be read: not by the function, nor for its result."""
        call = ACTIVE.call
        return nullcontext() if call is None else captured(call.binding.states, call.explain_capture)

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the function, and see that it wrote into no container of outside."""
        try:
            result = self.function(*args, **kwargs)
        except BaseException:
            drop_loans()
            raise
        take_back_loans(located)
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
            TraceError: A node of the result is neither an argument nor made inside: it would come back as a copy.
        """
        leaves, treedef = jax.tree.flatten(result)
        places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, GraphObject)]
        if not places:
            return result, False
        # One graph with the arguments, which come first: what is theirs is theirs in the result, too.
        roots = [*nodes, *[leaves[at] for at in places]]
        binding = walk(roots)
        if self.transform not in _ABSTRACT:
            self._check_made_inside(result, roots, binding.graphdef)
        whole = StateTree(binding.graphdef.layout, binding.values())
        for number, at in enumerate(places, len(nodes)):
            leaves[at] = ResultNode(binding.graphdef, number, part_of(whole, number))
        return jax.tree.unflatten(treedef, leaves), True

    def _check_made_inside(self, result: Any, roots: list[Any], graphdef: GraphDef[Any]) -> None:
        count = len(self.form.graphdef.table.specs) if self.form.places else 0
        made = enumerate(live_objects(roots, graphdef)[count:], count)
        trace = current_trace()
        outside = next((number for number, found in made if _trace_of_object(found) != trace), None)
        if outside is None:
            return
        root, *below = graphdef.path(outside)
        key_paths = [key_path for key_path, leaf in tree_flatten_with_path(result)[0] if isinstance(leaf, GraphObject)]
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
            found = itertools.islice(differences(binding.graphdef, now.graphdef, place, place), 10)
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
                RngState if issubclass(cls, RngState) else cls for cls in (specs[number].cls for number in surplus)
            ]
            classes = ", ".join(dict.fromkeys(f"{cls.__name__}: 0" for cls in kinds))
            places = ", ".join(map(self.where, surplus))
            raise TraceError(f"gn.{self.transform}: {places} {self.refusal.replace('CLASSES', classes)}")
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
        function, ("pure", transform), key, lambda: Pure(transform, function, form, numbers, is_open, refusal)
    )


class Made(Memo[Hashable, Any]):
    """What was made of one function, of one kind."""

    __slots__ = ("__weakref__",)
    limit = 256


class _Kept(StaysHere):
    """All that was made of one function, by kind; in its `__dict__`, so that it goes with it.

    `functools.wraps` and `copy.copy` hand the attribute on to others, which must not use it. To pickle, and so to a
    process of joblib or dask, it is empty: what was compiled is made again there.
    """

    __slots__ = ("kinds", "owner")

    def __init__(self, owner: Function | None = None) -> None:
        self.owner = None if owner is None else weakref.ref(owner)
        self.kinds: dict[Hashable, Made] = {}

    def is_of(self, function: Function) -> bool:
        return self.owner is not None and self.owner() is function


def _made_of(function: Function, kind: Hashable) -> Made | None:
    """Where what is made of a function is kept; `None` for one that takes no attributes."""
    try:
        kept: _Kept | None = function.__dict__.get(TRANSFORMED)
        if kept is None or not kept.is_of(function):
            kept = _attached(function)
    except (AttributeError, TypeError):  # a builtin, or a class
        return None
    made = kept.kinds.get(kind)
    if made is None:
        _check_hashable(function, kind)
        return kept.kinds.setdefault(kind, Made())
    return made


# What runs its function at every call.
_EAGER: Final = frozenset(
    ("pure", transform)
    for transform in ("checkify", "grad", "hessian", "jacfwd", "jacrev", "jvp", "value_and_grad", "vjp", "vmap")
)


def _check_hashable(function: Function, kind: Hashable) -> None:
    """Raise if a callable object may change where what was traced of it is kept: JAX knows it by its hash.

    Raises:
        TypeError: Says what would do.
    """
    if kind in _EAGER:
        return
    try:
        hash(function)
    except TypeError as error:
        name = type(function).__name__
        raise TypeError(
            f"a {name} is called by a transformed function, and is not hashable ({error}): it may change, and what was "
            "traced of it would stay. Make it a frozen dataclass of hashable values, or a node; or pass what changes "
            "as an argument"
        ) from None


def _attached(function: Function) -> _Kept:
    fresh = _Kept(function)
    with LOCK:
        kept: _Kept | None = function.__dict__.get(TRANSFORMED)
        if kept is None or not kept.is_of(function):
            function.__dict__[TRANSFORMED] = kept = fresh
    return kept


def remembered(function: Function, kind: Hashable, key: Hashable, make: Callable[[], T]) -> T:
    """What was made of a function before, or is made now: kept on the function, and as long as it.

    Args:
        function: The function.
        kind: What sort of thing it is: each has room of its own.
        key: Which of them. Neither this nor what is made may hold another function of the user's: it would live as
            long as this one. For what is made of several see `remembered_together`.
        make: Makes it.
    """
    if isinstance(function, MethodType):  # its attributes are those of the function, and would keep the instance
        return make()
    made = _made_of(function, kind)
    return make() if made is None else made.of(key, make)


def remembered_together(
    functions: Sequence[Function], kind: Hashable, key: Hashable, make: Callable[[Callable[[], list[Any]]], T]
) -> T:
    """What was made of several functions: kept on the first, and dropped as soon as one of them is gone.

    What is made of a bound method of a plain object is not kept, as by `jax.lax`: it is another function each time,
    which may find other attributes.

    Args:
        functions: The functions, known by identity.
        kind: What sort of thing it is.
        key: Which of them, beside the functions.
        make: Makes it. It gets what gives the functions, for as long as they live, and must hold them in no other way:
            no reference from one of them may keep another.
    """
    made = None if any(isinstance(each, MethodType) for each in functions) else _made_of(functions[0], kind)
    if made is None:
        return make(lambda: list(functions))
    full_key = (tuple(map(id, functions)), key)
    found = made.get(full_key)
    # Known by their ids, which may be others': an interrupt can keep a callback from dropping an entry.
    if found is not None and all(ref() is function for ref, function in zip(found[1], functions, strict=True)):
        return found[0]  # type: ignore[no-any-return]  # `T`, as `make`
    made_ref = weakref.ref(made)  # weak, like all here: a cycle would wait for the collector

    def forget(_: object) -> None:
        alive = made_ref()
        if alive is not None:
            alive.pop(full_key, None)

    try:
        refs = [weakref.ref(function, forget) for function in functions]
    except TypeError:  # an object of a class with slots
        return make(lambda: list(functions))
    made.pop(full_key, None)
    return made.keep(full_key, (make(lambda: [ref() for ref in refs]), refs))[0]  # type: ignore[no-any-return]


def forget_kept(wrapper: Any) -> None:
    """Drop what `functools.wraps` copied from another function: a wrapper is to keep no other's."""
    wrapper.__dict__.pop(TRANSFORMED, None)


def _as_arrays(value: Any) -> Any:
    """What a transformation gives for a State, with arrays of JAX alone.

    Eager ones hand on what they were given and nobody computed with: the caller's own buffer of NumPy, a number, or
    JAX's private stand-ins for both.
    """
    if type(value) in PLAIN:
        return value
    return jax.tree.map(lambda leaf: leaf if _is_array(leaf) else jnp.array(leaf), value)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array)


class Before(NamedTuple):
    """The values of some States at one time, to know which are written afterwards."""

    values: Values
    flattened: Sequence[tuple[list[Any], Any] | None]

    @classmethod
    def of(cls, values: Values) -> "Before":
        """Taken now: containers are taken apart, as they may be changed in place."""
        return cls(values, [None if _is_array(value) else jax.tree.flatten(value) for value in values])

    def written(self, states: Sequence[State[Any]]) -> list[int]:
        """The numbers of the States that hold another value now."""
        rows = enumerate(zip(states, self.values, self.flattened, strict=True))
        return [number for number, (state, value, parts) in rows if _is_written(state._value, value, parts)]


def _is_written(now: Any, value: Any, before: tuple[list[Any], Any] | None) -> bool:
    """Whether a State holds another value than it was given; a pytree may have been changed in place."""
    if before is None:
        return now is not value
    leaves, treedef = jax.tree.flatten(now)
    return treedef != before[1] or any(new is not old for new, old in zip(leaves, before[0], strict=True))


def _is_reshaped(now: Any, before: Any) -> bool:
    """Whether a value has another structure, shape or dtype than the one that it replaces."""
    if _is_array(now) and _is_array(before):
        return bool(now.shape != before.shape or now.dtype != before.dtype)
    return bool(kind_of_value(now) != kind_of_value(before))


def kind_of_value(value: Any) -> Any:  # Any: JAX's stubs give treedefs no equality
    """The structure of a value, with the shapes and dtypes in it."""
    leaves, treedef = jax.tree.flatten(value)
    return treedef, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


def _settled(now: Any, before: Any) -> Any:
    """A value as its State goes on holding it.

    A number of weak type takes the dtype that it would keep anyway, so that the next call meets the trace of this one.
    """
    if now is before or jax.tree.structure(now) != jax.tree.structure(before):  # type: ignore[operator]  # JAX's stubs
        return now
    return jax.tree.map(_settled_leaf, now, before)


def _settled_leaf(now: Any, before: Any) -> Any:
    is_settled = not _is_weak(now) or _is_weak(before)
    if is_settled or jnp.shape(now) != jnp.shape(before) or jnp.result_type(now) != jnp.result_type(before):
        return now
    return jnp.asarray(now, dtype=before.dtype)


def _is_weak(leaf: Any) -> bool:
    return bool(getattr(leaf, "weak_type", isinstance(leaf, int | float | complex)))


def _trace_of_object(found: Any) -> TraceRef | None:
    """The trace that a node or State was made in; `None` outside of all."""
    return trace_of(found) if isinstance(found, State) else trace_of_version(found._version)


class Transformed:
    """A transformed function that is an object of its own class; a node may be bound as its first argument."""

    _bound: tuple[Any, ...]

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
        name = importable_name(self)
        return super().__reduce_ex__(protocol) if name is None else name

    def _unbound(self) -> Function:
        """The same, with the bound node as an argument."""
        raise NotImplementedError  # pragma: no cover  # each transform defines it


def target_of(function: Function) -> tuple[Function, tuple[Any, ...]]:
    """The plain function behind a callable node or a method of a node (or State), and that, which is an argument then.

    Raises:
        TypeError: It is nothing that can be called.
    """
    if isinstance(function, Transformed) and function._bound:
        return function._unbound(), function._bound
    if isinstance(function, GraphObject) and callable(function):
        return type(function).__call__, (function,)
    if isinstance(function, MethodType) and isinstance(function.__self__, GraphObject):
        return function.__func__, (function.__self__,)
    if not callable(function):
        raise TypeError(wrong_argument("a function, a method or a callable node", function))
    return function, ()


class TransformedMethod(Transformed, functools.partial[Any]):
    """What a transform made of a method of a node, or of a callable node.

    No method of Python's: pickle, `copy.copy` and joblib take one for the attribute of its object that has its name,
    which is the method before the transform. A partial, as its call is no frame of Python.
    """

    _original: Function
    _transform: Callable[[Function], Any]

    def __new__(
        cls, function: Function, bound: tuple[Any, ...], original: Function, transform: Callable[[Function], Any]
    ) -> "TransformedMethod":
        method = super().__new__(cls, function, *bound)
        functools.update_wrapper(method, function)
        forget_kept(method)
        method.__dict__["__wrapped__"] = original  # whose signature it has
        method._bound, method._original, method._transform = bound, original, transform
        return method

    def __reduce__(self) -> tuple[Any, ...]:
        return self._transform, (self._original,)

    def __get__(self, instance: object, owner: type | None = None, /) -> "TransformedMethod":
        return self  # a partial becomes a method of whatever class has it, from Python 3.14 on

    def _unbound(self) -> Function:
        return self.func


def rebind(
    function: Function, bound: tuple[Any, ...], original: Function, transform: Callable[[Function], Any]
) -> Function:
    """What a transform made of the plain function, bound to the node that `target_of` found.

    The next transform finds the node again. If the transformed function held it, it would be a constant of what the
    next one traces.

    Args:
        function: What the transform made.
        bound: The node, if any.
        original: What was transformed: the method, or the node itself.
        transform: Makes the same of it again, where it was pickled or copied.
    """
    return TransformedMethod(function, bound, original, transform) if bound else function


def with_statics(
    function: Function,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    argnums: frozenset[int],
    argnames: frozenset[str],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the static ones marked: they become a part of the treedef."""
    names = positional_names(function)
    shown = [names[at] if at < len(names) else str(at) for at in range(len(args))]
    marked = [Static(shown[at], arg) if at in argnums else arg for at, arg in enumerate(args)]
    return tuple(marked), {name: Static(name, arg) if name in argnames else arg for name, arg in kwargs.items()}


def named_arguments(
    function: Function, offset: int, argnums: int | Sequence[int] | None, argnames: frozenset[str]
) -> tuple[frozenset[int], frozenset[str]]:
    """The positions and the names of some arguments of a plain function, when either is given.

    Args:
        function: The function.
        offset: How many arguments are bound before the caller's first.
        argnums: The caller's positions; negative ones count from the last parameter.
        argnames: The names.

    Raises:
        ValueError: The function has no such parameters; names all.
    """
    names = positional_names(function)
    given = () if argnums is None else checked_positions("a position of an argument", argnums)  # `None` as in JAX
    placed = {at: at + offset if at >= 0 else len(names) + at for at in given}
    unknown = [str(at) for at, position in placed.items() if not offset <= position < len(names)]
    parameters = parameters_of(function)
    kinds = {parameter.kind for parameter in parameters}
    faults = [] if inspect.Parameter.VAR_POSITIONAL in kinds else unknown
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        faults += sorted(map(repr, argnames - {parameter.name for parameter in parameters}))
    if faults and parameters:  # a builtin may not tell what it takes
        name, takes = getattr(function, "__name__", repr(function)), ", ".join(map(str, parameters))
        raise ValueError(f"{name} has no argument {', '.join(faults)}: it takes ({takes})")
    positions = set(placed.values())
    positions |= {names.index(name) for name in argnames if name in names}
    return frozenset(positions), argnames | {names[at] for at in positions if at < len(names)}
