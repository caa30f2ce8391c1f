"""The bindings that are kept on nodes: why the second split, or the second call, is free."""

import functools
import weakref
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import jax

from .._caches import Memo
from .._fields import NodeBase, set_binding, set_joint
from .._versions import (
    CLOCK,
)
from ._binding import Binding
from ._flatten import walk_undisturbed
from ._graphdef import GraphDef
from ._table import RootSpec, data_keys_of


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
        """Whether these are the roots, and the structure below them is what it was.

        The first root has the entry, and needs no check that it lives.
        """
        # Entries are found by the ids of roots. An interrupt in a weak reference's
        # callback can leave a dead entry, and its ids may belong to other roots by now.
        if self.others and any(
            ref() is not root for ref, root in zip(self.others, roots[1:], strict=True)
        ):
            return False
        return self.binding.clock is CLOCK.now or self.binding.is_current(roots)

    def is_of(self, treedef: Hashable) -> bool:
        """Whether a treedef that equals its own is also the same: one may have `True` where the other has `1`.

        `JointBindings` finds entries by equality, and for such two trees the graphdefs
        differ.
        """
        root = self.binding.graphdef.tokens[0]
        assert isinstance(root, RootSpec)
        return not root.data_keys or root.data_keys == data_keys_of(treedef)

    def completed(self, roots: Sequence[Any]) -> Binding:
        """The binding with all States.

        The roots that are States come from the caller: the entry was kept without them,
        so that it keeps no State alive.
        """
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
            binding = walk_undisturbed(root, (root,))
            set_binding(root, binding)
    else:
        leaves, treedef = jax.tree.flatten(root)
        binding = _joint_binding(root, leaves, treedef)
    if binding.traces:
        binding.check_traces()
    return binding


def binding_of_list(roots: list[Any]) -> Binding:
    """The binding of a list of nodes and States: `binding_of(roots)`, for a list without pytrees in it.

    For transformed functions: their roots are the nodes and States among the arguments.
    """
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
    """The binding of a pytree of nodes, kept on its first node while the others live.

    So that the second call with the same nodes takes nothing apart. Without a node in
    front there is nowhere to keep it.
    """
    if not leaves or not isinstance(leaves[0], NodeBase):
        return walk_undisturbed(root, leaves)
    first = leaves[0]
    bindings: JointBindings | None = getattr(first, "_joint", None)
    if bindings is None:
        bindings = JointBindings()
        set_joint(first, bindings)
    key = joint_key(treedef, leaves)
    entry = bindings.get(key)
    if entry is not None and entry.is_of(treedef) and entry.is_current(leaves):
        return entry.completed(leaves)
    binding = walk_undisturbed(root, leaves)
    keep_joint(bindings, key, binding, leaves)
    return binding


def joint_key(treedef: Hashable, leaves: Sequence[Any]) -> Hashable:
    """The key of a joint binding; that of a list, as arguments are, without the treedef.

    So that `binding_of_list` finds its entry by the ids alone, with no treedef to hash.
    """
    ids = tuple(map(id, leaves))
    return ids if treedef == _list_def(len(leaves)) else (treedef, ids)


@functools.cache
def _list_def(length: int) -> Hashable:
    """The treedef of a list of so many leaves.

    For `joint_key`: to tell the list of a call's arguments from other pytrees. Asked
    for at each call.
    """
    return jax.tree.structure([0] * length)


def keep_joint(
    bindings: JointBindings, key: Hashable, binding: Binding, roots: Sequence[Any]
) -> None:
    """Keep a binding of several roots on the first, until another one dies: its id may then be a new object's.

    For `binding_of` of several roots, and for rebuilt graphs: the next call with them
    finds it.
    """
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
    """The States that are roots: their positions in the binding, and among the roots.

    For `keep_joint`, which takes these States out, and `_JointEntry.completed`, which
    puts them back.
    """
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
    """Whether a node of the graph refers to a root other than the first, as a parent pointer does.

    For `keep_joint`: a binding that held such a node would keep that root alive, and so
    itself, as it is dropped when the root dies.
    """
    table = graphdef.table
    roots = set(table.top[1:])
    return any(table.parents[root] >= 0 for root in roots) or any(
        parent >= 0 and target in roots for parent, _, target in table.repeats
    )
