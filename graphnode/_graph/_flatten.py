"""Flatten a live graph: one walk over nodes and States, which notices what is shared.

`walk` is the way in; `_unflatten.rebuild` is the inverse.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from .._arguments import public_caller, wrong_argument
from .._class_faults import check_unregistered
from .._describe import describe
from .._errors import StructureError
from .._fields import NodeBase, set_version
from .._gc import gc_paused
from .._hints import with_article
from .._marks import any_marked
from .._paths import Key, path_str
from .._state import State
from .._static import NO_TEMPLATE, GraphObject
from .._versions import (
    CLOCK,
    AnyVersion,
    Constructing,
    Version,
    first_version,
    unmade,
)
from ._binding import Binding, traces_of
from ._graphdef import intern_graphdef
from ._table import RootSpec, Token, canonical_root
from ._template import Watch, template_of

# Another thread may disturb some walks; one that disturbs so many never stops.
_MAX_WALKS: Final = 100


def walk_undisturbed(root: Any, roots: Sequence[Any]) -> Binding:
    """The binding of a walk during which no other thread changed the graph: others may mix two structures.

    For `binding_of`. It walks again until the versions that were read still hold.
    """
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

    For `binding_of`, where a graph was never seen or has changed.

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
    """The version that `walk` gives a node that has none yet, as it comes into its first binding.

    `fresh` if the node was made in the running trace, else a new one with the trace of
    its birth: only nodes that were made in a trace may be restructured there.

    Args:
        node: The node.
        before: What it has in place of a version: the trace of its birth, or `None` if it
            was made outside of all.
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
    """Take the roots of a pytree out of the watch; returns their versions.

    For `walk`: the binding is kept on a root, and must not hold it. So it has the
    versions of the roots alone, and is given the roots whenever it is asked whether it
    holds.
    """
    pairs = list(zip(watch.objects, watch.versions, strict=True))
    version_by_id = {id(watched): version for watched, version in pairs}
    root_ids = set(map(id, roots))
    others = [pair for pair in pairs if id(pair[0]) not in root_ids]
    # In place: the caller holds the lists.
    watch.objects[:] = [watched for watched, _ in others]
    watch.versions[:] = [version for _, version in others]
    return [version_by_id.get(id(root)) for root in roots]


def is_graph_object(leaf: object) -> bool:
    """Whether a leaf of a pytree is a node or State.

    For JAX, as `is_leaf`: what graphnode takes apart itself, and JAX must leave whole.
    """
    return isinstance(leaf, GraphObject)


def check_leaf_classes(leaves: Iterable[Any]) -> None:
    """Raise the `SchemaError` of a class of nodes or States that was registered with JAX after its first use.

    JAX would take their objects apart by the registration, so that they are missed
    here.

    Args:
        leaves: The leaves of a pytree, in which all nodes and States are leaves.
    """
    for leaf in leaves:
        if isinstance(leaf, GraphObject):
            check_unregistered(type(leaf))


def _flatten_root(root: Any) -> tuple[RootSpec, list[Any]]:
    """The spec of a root that is a pytree, and its nodes and States in the order of the spec's edges.

    For `walk`, which begins with that spec as its first token, and goes on from these
    objects.

    Raises:
        StructureError: A leaf is neither a node nor a State; names all.
    """
    # To JAX, `None` is a pytree without leaves.
    if root is None:
        raise StructureError(wrong_argument("a node or a pytree of nodes", None))
    pairs, treedef = jax.tree_util.tree_flatten_with_path(root, is_leaf=is_graph_object)
    check_leaf_classes([leaf for _, leaf in pairs])
    edges = [tuple([path_key(entry) for entry in key_path]) for key_path, _ in pairs]
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


def path_key(entry: Any) -> Key:
    """A key of a JAX key path as a key of our paths.

    So that paths into a pytree of nodes print, sort and are written to files as all
    others.

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
