"""Bindings: a live graph's graphdef and States, cached on its root; why the second call is free.

`walk` flattens a live graph with the templates and an explicit stack;
`_unflatten.rebuild` is its inverse. Both end in a `Binding`, valid while nothing that
it watches has changed: see `_versions` for how that is known without a walk.
"""

import functools
import weakref
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

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
from .._paths import Key, Path, path_str
from .._state import State, check_alive, located, read
from .._static import NO_TEMPLATE, GraphObject
from .._value import take_in
from .._versions import CLOCK, Constructing, Version, first_version, unmade
from ._graphdef import GraphDef, intern_graphdef
from ._table import RootSpec, Token, data_keys_of, ranked_root
from ._template import Watch, template_of

_MAX_WALKS: Final = 100
_JOINT_LIMIT: Final = 8


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
    watched: list[Any]
    versions: list[object]
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
        now = CLOCK.now
        if self.clock is now:
            return True
        try:
            is_same = [watched._version for watched in self.watched] == self.versions
        except ReferenceError:  # one that a joint binding does not keep was taken out of the graph, and is gone
            return False
        if not is_same or versions_of(roots) != self.root_versions:
            return False
        # A State that is marked moves the clock, too.
        self.has_marks = any_marked(self.states)
        self.clock = now
        return True

    def with_states(self, states: Sequence[State[Any]]) -> "Binding":
        """The same of other States, with a memory of its own."""
        watch = (self.watched, self.versions)
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
        value = (
            read(state, functools.partial(self._place_of, state))
            if is_marked(state)
            else state._value
        )
        # Not only rebuilt: whatever may have been put into its container in place.
        return take_in(value, lambda: located(state, self._place_of(state)))

    def _place_of(self, state: State[Any]) -> str:
        return path_str(self.graphdef.layout.path(self.states.index(state)))

    def check_traces(self) -> None:
        """Raise if a State was made in a trace that has ended, and still holds its tracer."""
        if not all(map(is_live, self.traces)):
            for at, state in enumerate(self.states):
                check_alive(state, path_str(self.graphdef.layout.path(at)))


class _Kept(NamedTuple):
    """The binding of a pytree of nodes as its first node keeps it: it must not keep the other roots.

    Attributes:
        binding: The binding, without the States that are roots themselves.
        gaps: Where these belong among its States: their number there, and among the
            roots; ascending.
        others: Weak references to the other roots, which drop the entry when one of
            them dies.
    """

    binding: Binding
    gaps: Sequence[tuple[int, int]]
    others: Sequence["weakref.ref[Any]"]

    def is_current(self, roots: Sequence[Any]) -> bool:
        """Whether these are the roots, and the structure below them is what it was."""
        # Roots are known by their ids, and an id may be another's: an interrupt in a
        # callback can leave a dead entry.
        if self.others and any(
            ref() is not root for ref, root in zip(self.others, roots[1:], strict=True)
        ):
            return False
        return self.binding.clock is CLOCK.now or self.binding.is_current(roots)

    def is_of(self, treedef: Hashable) -> bool:
        """Whether an equal treedef is also the same: its data may be `True` where this one has `1`."""
        root = self.binding.graphdef.tokens[0]
        assert isinstance(root, RootSpec)
        return not root.data_keys or root.data_keys == data_keys_of(treedef)

    def completed(self, roots: Sequence[Any]) -> Binding:
        """The binding with all States."""
        binding = self.binding
        states = list(binding.states)
        for number, root in self.gaps:
            states.insert(number, roots[root])
        return binding.with_states(states)


class Joint(dict[Hashable, _Kept]):
    """The bindings of the pytrees that a node comes first in, by treedef and the ids of the nodes."""

    __slots__ = ("__weakref__",)


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
    """The binding of a list of nodes and States: `binding_of(roots)`, without a look for pytrees in it."""
    known: Joint | None = getattr(roots[0], "_joint", None)
    found = known.get(tuple(map(id, roots))) if known is not None else None
    if found is not None and found.is_current(roots):
        binding = found.completed(roots) if found.gaps else found.binding
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
    known: Joint | None = getattr(first, "_joint", None)
    if known is None:
        set_joint(first, known := Joint())
    key = joint_key(treedef, leaves)
    found = known.get(key)
    if found is not None and found.is_of(treedef) and found.is_current(leaves):
        return found.completed(leaves) if found.gaps else found.binding
    binding = _walk_undisturbed(root, leaves)
    keep_joint(known, key, binding, leaves)
    return binding


def joint_key(treedef: Hashable, leaves: Sequence[Any]) -> Hashable:
    ids = tuple(map(id, leaves))
    return ids if treedef == _list_def(len(leaves)) else (treedef, ids)


@functools.cache
def _list_def(length: int) -> Hashable:
    return jax.tree.structure([0] * length)


def keep_joint(
    known: Joint, key: Hashable, binding: Binding, roots: Sequence[Any]
) -> None:
    """Keep a binding under the ids of its roots, until one beside the first dies: an id may then be another's."""
    if len(known) >= _JOINT_LIMIT:
        known.clear()

    # Weak: the references live in `known`, and a cycle through them would keep a dead
    # model until a collection.
    known_ref = weakref.ref(known)

    def forget(_: object) -> None:
        alive = known_ref()
        if alive is not None:
            alive.pop(key, None)

    gaps = _gaps(binding, roots)
    graphdef = binding.graphdef
    leads_back = graphdef.plans.to(_LEADS_BACK, lambda: _leads_back(graphdef))
    if gaps or leads_back:
        missing = {number for number, _ in gaps}
        states = [
            state
            for number, state in enumerate(binding.states)
            if number not in missing
        ]
        binding = binding.with_states(states)
        binding.watched = [weakref.proxy(watched) for watched in binding.watched]
    known[key] = _Kept(
        binding, gaps, [weakref.ref(other, forget) for other in roots[1:]]
    )


def _gaps(binding: Binding, roots: Sequence[Any]) -> list[tuple[int, int]]:
    """The States that are roots: their number in the binding, and among the roots."""
    if all(isinstance(root, NodeBase) for root in roots):
        return []
    positions = {root: at for at, root in enumerate(roots)}
    return [
        (number, positions[state])
        for number, state in enumerate(binding.states)
        if state in positions
    ]


_LEADS_BACK: Final = "leads back"


def _leads_back(graphdef: GraphDef[Any]) -> bool:
    """Whether a root beside the first is also referred to from within the graph, as by a parent pointer."""
    table = graphdef.table
    roots = set(table.top[1:])
    return any(table.parents[root] >= 0 for root in roots) or any(
        parent >= 0 and target in roots for parent, _, target in table.repeats
    )


def versions_of(roots: Sequence[Any]) -> list[object]:
    # A State has none, and needs none
    return [getattr(root, "_version", None) for root in roots]


def _walk_undisturbed(root: Any, roots: Sequence[Any]) -> Binding:
    """A walk during which no other thread changed the graph: one that did would show parts of two structures."""
    for _ in range(_MAX_WALKS):
        binding = walk(root)
        if binding.is_current(roots):
            return binding
    raise StructureError(
        f"the graph was changed by another thread in each of {_MAX_WALKS} walks; hold a lock"
    )


@gc_paused
def walk(root: Any) -> Binding:
    """Flatten a live graph afresh. `binding_of` is the cached way."""
    # Before anything is read: a write during the walk makes the binding stale, not
    # wrong
    clock = CLOCK.now
    tokens: list[Token] = []
    items: Iterator[Any] = iter((root,))
    if not isinstance(root, NodeBase):
        spec, leaves = _flatten_root(root)
        tokens.append(spec)
        items = iter(leaves)
    states: list[State[Any]] = []
    watched: list[Any] = []
    versions: list[object] = []
    watch = (watched, versions)
    fresh = Version()
    # Nodes and States hash by identity; their templates and classes make sure of it
    seen: dict[Any, int] = {}
    number_of, emit, number = seen.setdefault, tokens.append, 0
    above: list[Iterator[Any]] = []  # what is left of the nodes that enclose this one
    while True:
        for item in items:
            first = number_of(item, number)
            if first != number:
                emit(first)
                continue
            number += 1
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
                # Most: made and walked outside of all traces
                if version is None and fresh.trace is None:
                    version = fresh
                elif isinstance(version, Constructing):
                    raise StructureError(
                        f"{with_article(type(item).__name__)} of the graph is still being constructed"
                    )
                else:
                    version = first_version(version, fresh)
                set_version(item, version)
            watched.append(item)
            versions.append(version)
            node_spec, children = (template or template_of(type(item))).visit(
                item, watch
            )
            emit(node_spec)
            above.append(items)
            items = iter(children)
            break
        else:
            if not above:
                break
            items = above.pop()
    if isinstance(root, NodeBase):
        root_versions = [versions.pop(0)]
        del watched[0]
    else:
        root_versions = _without_roots(jax.tree.leaves(root), watch)
    graphdef = intern_graphdef(tuple(tokens))
    marked = [state for state in states if state._mark is not None]  # few, mostly
    return Binding(
        graphdef,
        states,
        watch,
        root_versions,
        clock,
        traces_of(marked),
        any_marked(marked),
    )


def _without_roots(roots: Sequence[Any], watch: Watch) -> list[object]:
    """Take the roots of a pytree out of the watch; gives their versions."""
    watched, versions = watch
    found = dict(zip(map(id, watched), versions, strict=True))
    root_ids = set(map(id, roots))
    kept = [
        (one, version)
        for one, version in zip(watched, versions, strict=True)
        if id(one) not in root_ids
    ]
    watched[:] = [one for one, _ in kept]
    versions[:] = [version for _, version in kept]
    return [found.get(id(root)) for root in roots]


def traces_of(states: Sequence[State[Any]]) -> tuple[TraceRef, ...]:
    """The traces that the States were made in, each once."""
    # By identity: a reference to a trace that has ended may have no hash.
    return tuple(
        {
            id(trace): trace
            for state in states
            if (trace := trace_of(state)) is not None
        }.values()
    )


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
    if root is None:
        raise StructureError(wrong_argument("a node or a pytree of nodes", None))
    pairs, treedef = jax.tree_util.tree_flatten_with_path(root, is_leaf=is_graph_object)
    check_leaf_classes([leaf for _, leaf in pairs])
    faults: list[str] = []
    edges: list[Path] = []
    for key_path, leaf in pairs:
        edge = tuple([_key(entry) for entry in key_path])
        edges.append(edge)
        if not isinstance(leaf, GraphObject):
            place = f" at {path_str(edge)}" if edge else ""
            faults.append(f"{describe(leaf)}{place}")
    if faults:
        takes = f"{public_caller() or 'a graph operation'} takes a node or a pytree of nodes"
        raise StructureError(f"{takes}; found {', '.join(faults)}")
    spec = ranked_root(treedef, edges)
    ranked = sorted(range(len(pairs)), key=spec.order.__getitem__)
    return spec, [pairs[at][1] for at in ranked]


def _key(entry: Any) -> Key:
    match entry:
        case SequenceKey(idx=int(key)) | FlattenedIndexKey(key=int(key)):
            return key
        case DictKey(key=str(key) | int(key)) | GetAttrKey(name=str(key)):
            return key
        case _:
            raise StructureError(
                f"the key {entry} of the pytree of nodes is neither a name nor a position"
            )
