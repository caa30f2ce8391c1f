"""Flatten live graphs, and cache the result on the root as a binding: why the second call is free.

`walk` flattens a graph; `_unflatten.rebuild` is the inverse. Both end in a `Binding`, which
remembers the versions of all nodes and tracked containers that it was made from:

    root --a--> node ---> w        binding of root, kept on root:
      |                              graphdef, States [w, v]
      `--layers--> [node ---> v]     watched [a, layers, layers[0]]   versions [v1, v2, v3]
                                     root_versions [v0]               clock c0

    second call:      is CLOCK.now still c0?           yes: nothing in the process has changed
                      no: are the versions the same?   yes: something else has changed; note the clock
                                                       no: walk again

The versions of the roots are apart, as a binding must not hold its roots. A write to
`.value` replaces no version: values are not structure. See `_versions` for the argument
that this holds with threads.
"""

import functools
import weakref
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from .._arguments import public_caller, wrong_argument
from .._caches import Memo
from .._class_faults import check_unregistered
from .._compat import TraceRef, is_live, is_tracing
from .._describe import describe
from .._errors import StructureError
from .._fields import NodeBase, set_binding, set_joint, set_version
from .._gc import gc_paused
from .._hints import with_article
from .._marks import any_marked, is_marked, trace_of
from .._paths import Key, path_str
from .._state import State, check_alive, read, state_label
from .._static import NO_TEMPLATE, GraphObject
from .._value import take_in
from .._versions import (
    CLOCK,
    AnyVersion,
    Constructing,
    Version,
    first_version,
    unmade,
)
from ._graphdef import GraphDef, intern_graphdef
from ._table import RootSpec, Token, canonical_root, data_keys_of
from ._template import Watch, template_of

# Another thread may disturb some walks; one that disturbs so many never stops.
_MAX_WALKS: Final = 100


class Binding:
    """A graphdef with the live States of one graph, in layout order.

    It must not hold its roots (the node, or the nodes and States of a pytree of them):
    a root holds it, and a model without cycles should die when its last reference does.
    """

    __slots__ = (
        "clock",
        "graphdef",
        "groups",
        "has_marks",
        "root_versions",
        "states",
        "traces",
        "versions",
        "watched",
    )

    graphdef: GraphDef[Any]
    states: tuple[State[Any], ...]
    watched: list[Any]  # nodes and tracked containers, or weak proxies of them
    versions: list[object]  # of what is watched, before it was read
    root_versions: list[object]
    clock: object
    traces: tuple[TraceRef, ...]
    has_marks: bool
    groups: Memo[Hashable, Any]

    def __init__(
        self,
        graphdef: GraphDef[Any],
        states: Sequence[State[Any]],
        watch: Watch,
        root_versions: list[object],
        clock: object,
        traces: tuple[TraceRef, ...],
        has_marks: bool | None = None,
    ) -> None:
        self.graphdef = graphdef
        self.states = tuple(states)
        self.watched, self.versions = watch
        self.root_versions = root_versions
        self.clock = clock
        self.traces = traces
        self.has_marks = any_marked(self.states) if has_marks is None else has_marks
        self.groups = Memo()

    def is_current(self, roots: Sequence[Any]) -> bool:
        """Whether the structure below the roots is what it was when the binding was made."""
        # Read first: what changes after this line has another clock, and is found the
        # next time.
        now = CLOCK.now
        if self.clock is now:
            return True
        try:
            is_same = [watched._version for watched in self.watched] == self.versions
        except ReferenceError:
            # A joint binding watches by weak proxies: one has left the graph, and died.
            return False
        if not is_same or versions_of(roots) != self.root_versions:
            return False
        # To mark a State moves the clock, so this is up to date for as long as the clock
        # does not move.
        self.has_marks = any_marked(self.states)
        self.clock = now
        return True

    def with_states(self, states: Sequence[State[Any]]) -> "Binding":
        """A binding of the same structure with other States, with a memory of its own."""
        watch = Watch(self.watched, self.versions)
        return Binding(
            self.graphdef, states, watch, self.root_versions, self.clock, self.traces
        )

    def remember(self, question: Hashable, answer: object) -> None:
        """Keep a group of its States under the filters or layout that ask for it; bounded."""
        self.groups.keep(question, answer)

    def values(self) -> tuple[Any, ...]:
        """The values of all States, in layout order, with containers of their own."""
        if self.has_marks or is_tracing():
            return self.values_of(self.states)
        # The fast path of every call of a transformed function: no State needs a check.
        return tuple([state._value for state in self.states])

    def values_of(self, states: Sequence[State[Any]]) -> tuple[Any, ...]:
        """The values of some of its States, with containers of their own.

        Raises:
            TraceError, DonationError: One of them must not be read now; see
                `State.value`.
        """
        if self.has_marks or is_tracing():
            return tuple([self._value_of(state) for state in states])
        return tuple([state._value for state in states])

    def _value_of(self, state: State[Any]) -> Any:
        """The value of one State, which may be marked, with a container of its own."""
        value = (
            read(state, functools.partial(self._place_of, state))
            if is_marked(state)
            else state._value
        )
        # Not only rebuilt: whatever may have been put into its container in place.
        return take_in(value, lambda: state_label(state, self._place_of(state)))

    def _place_of(self, state: State[Any]) -> str:
        """The path of one of its States, for messages."""
        return path_str(self.graphdef.layout.path(self.states.index(state)))

    def check_traces(self) -> None:
        """Raise if a State was made in a trace that has ended, and still holds its tracer."""
        if not all(map(is_live, self.traces)):
            for at, state in enumerate(self.states):
                check_alive(state, path_str(self.graphdef.layout.path(at)))


class _JointEntry(NamedTuple):
    """The binding of a pytree of nodes as its first node keeps it, without holding the other roots.

    Attributes:
        binding: The binding, without those of its States that are roots.
        gaps: For each of these, its position among all States and among the roots;
            ascending.
        others: Weak references to the other roots, which remove the entry when one of
            them dies.
    """

    binding: Binding
    gaps: Sequence[tuple[int, int]]
    others: Sequence["weakref.ref[Any]"]

    def is_current(self, roots: Sequence[Any]) -> bool:
        """Whether these are the roots, and the structure below them is what it was."""
        # Entries are found by the ids of roots. An interrupt in a weak reference's
        # callback can leave a dead entry, and its ids may belong to other roots by now.
        if self.others and any(
            ref() is not root for ref, root in zip(self.others, roots[1:], strict=True)
        ):
            return False
        return self.binding.clock is CLOCK.now or self.binding.is_current(roots)

    def is_of(self, treedef: Hashable) -> bool:
        """Whether a treedef that equals its own is also the same: one may have `True` where the other has `1`."""
        root = self.binding.graphdef.tokens[0]
        assert isinstance(root, RootSpec)
        return not root.data_keys or root.data_keys == data_keys_of(treedef)

    def completed(self, roots: Sequence[Any]) -> Binding:
        """The binding with all States."""
        if not self.gaps:
            return self.binding
        states = list(self.binding.states)
        # In ascending order, so that each position counts those that were put in
        # before.
        for position, root in self.gaps:
            states.insert(position, roots[root])
        return self.binding.with_states(states)


class JointBindings(Memo[Hashable, _JointEntry]):
    """The bindings of the pytrees whose first root a node is, by treedef and the ids of the roots."""

    __slots__ = ("__weakref__",)

    # A node is the first root of few pytrees at a time: the arguments of some
    # functions.
    limit: ClassVar[int] = 8


def binding_of(root: Any) -> Binding:
    """The binding of a node or pytree of nodes: the cached one while it is valid, else made by a walk.

    Raises:
        StructureError: `root`, or a leaf of it, is not a node; a node's constructor
            still runs; or another thread never stops to change the graph.
        TraceError: A State still holds a tracer of a trace that has ended.
    """
    binding: Binding
    if isinstance(root, NodeBase):
        cached: Binding | None = getattr(root, "_binding", None)
        if cached is not None and cached.is_current((root,)):
            binding = cached
        else:
            binding = _walk_undisturbed(root, (root,))
            set_binding(root, binding)
    else:
        leaves, treedef = jax.tree.flatten(root)
        binding = _joint_binding(root, leaves, treedef)
    if binding.traces:
        binding.check_traces()
    return binding


def binding_of_list(roots: list[Any]) -> Binding:
    """The binding of a list of nodes and States: `binding_of(roots)`, for a list without pytrees in it."""
    bindings: JointBindings | None = getattr(roots[0], "_joint", None)
    entry = bindings.get(tuple(map(id, roots))) if bindings is not None else None
    if entry is not None and entry.is_current(roots):
        # Not `completed`: this is what each call of a transformed function runs.
        binding = entry.completed(roots) if entry.gaps else entry.binding
    else:
        binding = _joint_binding(roots, roots, _list_def(len(roots)))
    if binding.traces:
        binding.check_traces()
    return binding


def _joint_binding(root: Any, leaves: list[Any], treedef: Hashable) -> Binding:
    """The binding of a pytree of nodes, kept on its first node while the others live."""
    if not leaves or not isinstance(leaves[0], NodeBase):
        return _walk_undisturbed(root, leaves)
    first = leaves[0]
    bindings: JointBindings | None = getattr(first, "_joint", None)
    if bindings is None:
        bindings = JointBindings()
        set_joint(first, bindings)
    key = joint_key(treedef, leaves)
    entry = bindings.get(key)
    if entry is not None and entry.is_of(treedef) and entry.is_current(leaves):
        return entry.completed(leaves)
    binding = _walk_undisturbed(root, leaves)
    keep_joint(bindings, key, binding, leaves)
    return binding


def joint_key(treedef: Hashable, leaves: Sequence[Any]) -> Hashable:
    """The key of a joint binding; that of a list, as arguments are, without the treedef."""
    ids = tuple(map(id, leaves))
    return ids if treedef == _list_def(len(leaves)) else (treedef, ids)


@functools.cache
def _list_def(length: int) -> Hashable:
    """The treedef of a list of so many leaves."""
    return jax.tree.structure([0] * length)


def keep_joint(
    bindings: JointBindings, key: Hashable, binding: Binding, roots: Sequence[Any]
) -> None:
    """Keep a binding of several roots on the first, until another one dies: its id may then be a new object's."""
    # Weak: the references are in `bindings`, and by a cycle through them, a dead model
    # would stay until a collection.
    bindings_ref = weakref.ref(bindings)

    def forget(_: object) -> None:
        """Drop the entry: another root has died."""
        # The bindings may have died with the first root.
        live_bindings = bindings_ref()
        if live_bindings is not None:
            live_bindings.pop(key, None)

    gaps = _gaps(binding, roots)
    graphdef = binding.graphdef
    leads_back = graphdef.plans.to(_LEADS_BACK, lambda: _leads_back(graphdef))
    if gaps or leads_back:
        # What is kept must not hold the other roots: not those that are States, and not
        # the nodes that refer to one.
        missing = {position for position, _ in gaps}
        states = [
            state
            for position, state in enumerate(binding.states)
            if position not in missing
        ]
        binding = binding.with_states(states)
        # Proxies: the nodes below may refer to a root, and would keep it alive.
        binding.watched = [weakref.proxy(watched) for watched in binding.watched]
    others = [weakref.ref(other, forget) for other in roots[1:]]
    bindings.pop(key, None)  # one of a structure of before
    bindings.keep(key, _JointEntry(binding, gaps, others))


def _gaps(binding: Binding, roots: Sequence[Any]) -> list[tuple[int, int]]:
    """The States that are roots: their positions in the binding, and among the roots."""
    if all(isinstance(root, NodeBase) for root in roots):
        return []
    # States hash by identity.
    root_positions = {root: at for at, root in enumerate(roots)}
    return [
        (position, root_positions[state])
        for position, state in enumerate(binding.states)
        if state in root_positions
    ]


_LEADS_BACK: Final = "leads back"


def _leads_back(graphdef: GraphDef[Any]) -> bool:
    """Whether a node of the graph refers to a root other than the first, as by a parent pointer."""
    table = graphdef.table
    roots = set(table.top[1:])
    return any(table.parents[root] >= 0 for root in roots) or any(
        parent >= 0 and target in roots for parent, _, target in table.repeats
    )


def versions_of(roots: Sequence[Any]) -> list[object]:
    """The version of each root; `None` for a State."""
    # A State has none, and needs none
    return [getattr(root, "_version", None) for root in roots]


def _walk_undisturbed(root: Any, roots: Sequence[Any]) -> Binding:
    """The binding of a walk during which no other thread changed the graph: others may mix two structures."""
    for _ in range(_MAX_WALKS):
        binding = walk(root)
        if binding.is_current(roots):
            return binding
    raise StructureError(
        f"the graph was changed by another thread in each of {_MAX_WALKS} walks; hold a lock"
    )


@gc_paused
def walk(root: Any) -> Binding:
    """Flatten a live graph without looking for a cached binding. `binding_of` is the cached way.

    Objects are numbered as they are met, depth first, in the order of edges. An object
    that was met before is its number, which is all there is to sharing and cycles:

        net (0) --a--> linear (1) --bias---> State (2)
          |               `---------weight-> State (3)
          |`----b--> linear (1) again
           `----c--> State (4)

        tokens     NodeSpec(Net)  NodeSpec(Linear)  StateSpec  StateSpec  1  StateSpec
        number           0               1              2          3             4

    So tokens need no parentheses: each `NodeSpec` has its edges, which say how many
    tokens follow below it.
    """
    # Before anything is read: a write during the walk makes the binding stale, not
    # wrong.
    clock = CLOCK.now
    tokens: list[Token] = []
    items: Iterator[Any] = iter((root,))
    if not isinstance(root, NodeBase):
        spec, leaves = _flatten_root(root)
        tokens.append(spec)
        items = iter(leaves)
    states: list[State[Any]] = []
    watch = Watch([], [])
    watched, versions = watch
    # One version for all nodes that come into their first binding: it is replaced in
    # each of them by itself.
    fresh = Version()
    # Nodes and States hash by identity: their classes are refused otherwise.
    seen: dict[Any, int] = {}
    number_of, emit, number = seen.setdefault, tokens.append, 0
    # The stack: the children that are left of each node above the current one. No
    # recursion, as a graph may be deeper than Python's stack.
    above: list[Iterator[Any]] = []
    while True:
        for item in items:
            first = number_of(item, number)
            if first != number:
                emit(first)
                continue
            number += 1
            # By the class, not by `isinstance`: this line runs for each object.
            template = item.__class__._template
            if template is NO_TEMPLATE:
                emit(item._spec)
                states.append(item)
                continue
            try:
                version = item._version
            except AttributeError:
                raise StructureError(unmade(type(item))) from None
            if version.__class__ is not Version:
                # Most nodes were made outside of all traces, and are walked there.
                is_outside = version is None and fresh.trace is None
                version = fresh if is_outside else _first_version(item, version, fresh)
                set_version(item, version)
            # Before the visit reads the node: see `_versions`.
            watched.append(item)
            versions.append(version)
            template = template or template_of(type(item))
            node_spec, children = template.visit(item, watch)
            emit(node_spec)
            above.append(items)
            items = iter(children)
            break  # on to its children; the `for` goes on with what is left of `items`
        else:
            if not above:
                break
            items = above.pop()
    if isinstance(root, NodeBase):
        # The walk has met the root first.
        root_versions = [versions.pop(0)]
        del watched[0]
    else:
        root_versions = _without_roots(jax.tree.leaves(root), watch)
    graphdef = intern_graphdef(tuple(tokens))
    # Outside of transformations, few States have a mark or trace.
    marked = [state for state in states if state._mark is not None]
    traces = traces_of(marked)
    has_marks = any_marked(marked)
    return Binding(graphdef, states, watch, root_versions, clock, traces, has_marks)


def _first_version(node: NodeBase, before: AnyVersion, fresh: Version) -> Version:
    """The version of a node that comes into its first binding.

    Args:
        node: The node.
        before: What it has in place of a version.
        fresh: The version that this walk gives to the nodes that were made in its trace.

    Raises:
        StructureError: Its constructor still runs.
    """
    if isinstance(before, Constructing):
        raise StructureError(
            f"{with_article(type(node).__name__)} of the graph is still being constructed"
        )
    return first_version(before, fresh)


def _without_roots(roots: Sequence[Any], watch: Watch) -> list[object]:
    """Take the roots of a pytree out of the watch; returns their versions."""
    pairs = list(zip(watch.objects, watch.versions, strict=True))
    version_by_id = {id(watched): version for watched, version in pairs}
    root_ids = set(map(id, roots))
    others = [pair for pair in pairs if id(pair[0]) not in root_ids]
    # In place: the caller holds the lists.
    watch.objects[:] = [watched for watched, _ in others]
    watch.versions[:] = [version for _, version in others]
    return [version_by_id.get(id(root)) for root in roots]


def traces_of(states: Sequence[State[Any]]) -> tuple[TraceRef, ...]:
    """The traces that the States were made in, each once."""
    # By identity: a reference to a trace that has ended may have no hash.
    by_id: dict[int, TraceRef] = {}
    for state in states:
        trace = trace_of(state)
        if trace is not None:
            by_id[id(trace)] = trace
    return tuple(by_id.values())


def is_graph_object(leaf: object) -> bool:
    """Whether a leaf of a pytree is a node or State."""
    return isinstance(leaf, GraphObject)


def check_leaf_classes(leaves: Iterable[Any]) -> None:
    """Raise the `SchemaError` of a class of nodes or States that was registered with JAX after its first use.

    Args:
        leaves: The leaves of a pytree, in which all nodes and States are leaves.
    """
    for leaf in leaves:
        if isinstance(leaf, GraphObject):
            check_unregistered(type(leaf))


def _flatten_root(root: Any) -> tuple[RootSpec, list[Any]]:
    """The spec of a root that is a pytree, and its nodes and States in the order of the spec's edges.

    Raises:
        StructureError: A leaf is neither a node nor a State; names all.
    """
    # To JAX, `None` is a pytree without leaves.
    if root is None:
        raise StructureError(wrong_argument("a node or a pytree of nodes", None))
    pairs, treedef = jax.tree_util.tree_flatten_with_path(root, is_leaf=is_graph_object)
    check_leaf_classes([leaf for _, leaf in pairs])
    edges = [tuple([_path_key(entry) for entry in key_path]) for key_path, _ in pairs]
    leaves = [leaf for _, leaf in pairs]
    faults: list[str] = []
    for edge, leaf in zip(edges, leaves, strict=True):
        if not isinstance(leaf, GraphObject):
            place = f" at {path_str(edge)}" if edge else ""
            faults.append(f"{describe(leaf)}{place}")
    if faults:
        caller = public_caller() or "a graph operation"
        raise StructureError(
            f"{caller} takes a node or a pytree of nodes; found {', '.join(faults)}"
        )
    spec = canonical_root(treedef, edges)
    # The number of each leaf among the edges is in `spec.order`: this is the inverse.
    in_edge_order = sorted(range(len(leaves)), key=spec.order.__getitem__)
    return spec, [leaves[at] for at in in_edge_order]


def _path_key(entry: Any) -> Key:
    """A key of a JAX key path as a key of our paths.

    Raises:
        StructureError: It is neither a name nor a position.
    """
    match entry:
        case SequenceKey(idx=int(key)) | FlattenedIndexKey(key=int(key)):
            return key
        case DictKey(key=str(key) | int(key)) | GetAttrKey(name=str(key)):
            return key
        case _:
            raise StructureError(
                f"the key {entry} of the pytree of nodes is neither a name nor a position"
            )
