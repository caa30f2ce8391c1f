"""Bindings: a live graph's graphdef and States, cached on its root; why the second call is free.

`walk` flattens a live graph with the templates and an explicit stack; `rebuild` is its inverse. Both end in a
`Binding`, valid while nothing that it watches has changed: see `_tracked` for how that is known without a walk.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from itertools import repeat, starmap
from typing import Any, Final

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from ._collector import uncollected
from ._compat import TraceRef, current_trace, is_live
from ._errors import StructureError
from ._fields import NodeBase
from ._graphdef import GraphDef, intern_graphdef
from ._paths import Key, Path, path_str
from ._state import State, check_alive, describe
from ._static import NO_TEMPLATE, GraphObject
from ._table import RootSpec, Token, root_spec
from ._template import Watch, fill, template_of
from ._tracked import CLOCK, CONSTRUCTING, set_binding, set_version

_new: Final = object.__new__

_MAX_WALKS: Final = 100
_GROUP_LIMIT: Final = 64


class Binding:
    """A graphdef with the live States of one graph, in layout order.

    It must not hold its root: the root holds it, and a model without cycles should die when its last reference does.
    """

    __slots__ = ("clock", "graphdef", "groups", "root_version", "states", "traces", "versions", "watched")

    graphdef: GraphDef[Any]
    states: tuple[State[Any], ...]
    watched: list[Any]
    versions: list[object]
    root_version: object
    clock: object
    traces: tuple[TraceRef, ...]
    groups: dict[Hashable, Any]

    def __init__(
        self,
        graphdef: GraphDef[Any],
        states: Sequence[State[Any]],
        watch: Watch,
        root_version: object,
        clock: object,
        traces: tuple[TraceRef, ...],
    ) -> None:
        self.graphdef = graphdef
        self.states = tuple(states)
        self.watched, self.versions = watch
        self.root_version = root_version
        self.clock = clock
        self.traces = traces
        self.groups = {}

    def is_current(self, root: Any) -> bool:
        """Whether the structure below `root` is what it was when the binding was made."""
        now = CLOCK.now
        if self.clock is now:
            return True
        is_same_root = self.root_version is None or root._version is self.root_version
        if is_same_root and [one._version for one in self.watched] == self.versions:
            self.clock = now
            return True
        return False

    def remember(self, question: Hashable, answer: object) -> None:
        """Keep a group of its States under the filters or layout that ask for it; bounded."""
        if len(self.groups) >= _GROUP_LIMIT:
            self.groups.clear()
        self.groups[question] = answer

    def check_traces(self) -> None:
        """Raise if a State was made in a trace that has ended, and still holds its tracer."""
        if not all(map(is_live, self.traces)):
            for at, state in enumerate(self.states):
                check_alive(state, path_str(self.graphdef.layout.path(at)))


def binding_of(root: Any) -> Binding:
    """The binding of a node or pytree of nodes: the cached one while it is valid, else made by a walk.

    Raises:
        StructureError: `root`, or a leaf of it, is no node; a node's constructor still runs; or another thread never
            stops to change the graph.
        TraceError: A State still holds a tracer of a trace that has ended.
    """
    binding: Binding
    if isinstance(root, NodeBase):
        cached: Binding | None = getattr(root, "_binding", None)
        if cached is not None and cached.is_current(root):
            binding = cached
        else:
            binding = _walk_undisturbed(root)
            set_binding(root, binding)
    else:
        binding = _walk_undisturbed(root)
    if binding.traces:
        binding.check_traces()
    return binding


def _walk_undisturbed(root: Any) -> Binding:
    """A walk during which no other thread changed the graph: one that did would show parts of two structures."""
    for _ in range(_MAX_WALKS):
        binding = walk(root)
        if binding.is_current(root):
            return binding
    raise StructureError(f"the graph was changed by another thread in each of {_MAX_WALKS} walks; hold a lock")


@uncollected
def walk(root: Any) -> Binding:
    """Flatten a live graph afresh. `binding_of` is the cached way."""
    clock = CLOCK.now  # before anything is read: a write during the walk makes the binding stale, not wrong
    tokens: list[Token] = []
    items: Iterator[Any] = iter((root,))
    if not isinstance(root, NodeBase):
        spec, leaves = _flatten_root(root)
        tokens, items = [spec], iter(leaves)
    states: list[State[Any]] = []
    watched: list[Any] = []
    versions: list[object] = []
    watch = (watched, versions)
    seen: dict[Any, int] = {}  # nodes and States hash by identity; their templates and classes make sure of it
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
            version = item._version
            if version is None:
                version = object()
                set_version(item, version)
            elif version is CONSTRUCTING:
                raise StructureError(f"a {type(item).__name__} of the graph is still being constructed")
            watched.append(item)
            versions.append(version)
            node_spec, children = (template or template_of(type(item))).visit(item, watch)
            emit(node_spec)
            above.append(items)
            items = iter(children)
            break
        else:
            if not above:
                break
            items = above.pop()
    root_version = None
    if isinstance(root, NodeBase):
        root_version = versions.pop(0)
        del watched[0]
    graphdef = intern_graphdef(tuple(tokens))
    return Binding(graphdef, states, watch, root_version, clock, traces_of(states))


def traces_of(states: Sequence[State[Any]]) -> tuple[TraceRef, ...]:
    """The traces that the States were made in, each once."""
    return tuple({trace for state in states if (trace := state._trace) is not None})


def _flatten_root(root: Any) -> tuple[RootSpec, list[Any]]:
    if root is None:
        raise StructureError("graph operations take a node or a pytree of nodes; found None")
    pairs, treedef = jax.tree_util.tree_flatten_with_path(root)
    faults: list[str] = []
    edges: list[Path] = []
    for key_path, leaf in pairs:
        edge = tuple([_key(entry) for entry in key_path])
        edges.append(edge)
        if not isinstance(leaf, GraphObject):
            place = f" at {path_str(edge)}" if edge else ""
            faults.append(f"{describe(leaf)}{place}")
    if faults:
        raise StructureError(f"graph operations take a node or a pytree of nodes; found {', '.join(faults)}")
    ranked = sorted(range(len(edges)), key=lambda at: [(isinstance(key, str), key) for key in edges[at]])
    order = [0] * len(ranked)
    for rank, at in enumerate(ranked):
        order[at] = rank
    spec = root_spec(treedef, tuple([edges[at] for at in ranked]), tuple(order))
    return spec, [pairs[at][1] for at in ranked]


def _key(entry: Any) -> Key:
    match entry:
        case SequenceKey(idx=int(key)) | FlattenedIndexKey(key=int(key)):
            return key
        case DictKey(key=str(key) | int(key)) | GetAttrKey(name=str(key)):
            return key
        case _:
            raise StructureError(f"the key {entry} of the pytree of nodes is neither a name nor a position")


@uncollected
def build(graphdef: GraphDef[Any], values: Sequence[Any]) -> Any:
    """The live graph of a graphdef with new States that hold these values, in layout order."""
    trace = current_trace()
    states = _new_states(graphdef, values, trace)
    return rebuild(graphdef, states, () if trace is None else (trace,))


def _new_states(graphdef: GraphDef[Any], values: Sequence[Any], trace: TraceRef | None) -> list[State[Any]]:
    assembly = graphdef.assembly
    states: list[State[Any]] = list(starmap(_new, assembly.state_classes))
    for spec, column in assembly.states:
        spec.cls._fill(column(states), column(values), spec, trace)
    return states


def rebuild(graphdef: GraphDef[Any], states: list[State[Any]], traces: tuple[TraceRef, ...]) -> Any:
    """The live graph of a graphdef around these States, in layout order. No user code runs.

    Args:
        graphdef: The structure.
        states: The States, in layout order.
        traces: The traces that the States were made in.

    Returns:
        The root; when it is a node, with its binding.
    """
    clock = CLOCK.now
    assembly = graphdef.assembly
    nodes: list[Any] = list(starmap(_new, assembly.node_classes))
    objects = nodes + states
    watched: list[Any] = nodes[1:]
    version = object()
    versions: list[object] = [version] * len(watched)
    for spec, pick in assembly.groups:
        fill(spec, pick(objects), (watched, versions))
    deque(map(set_version, nodes, repeat(version)), maxlen=0)
    first = graphdef.tokens[0]
    if isinstance(first, RootSpec):
        return first.treedef.unflatten([objects[assembly.top[at]] for at in first.order])
    root = nodes[0]
    set_binding(root, Binding(graphdef, states, (watched, versions), version, clock, traces))
    return root
