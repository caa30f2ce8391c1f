"""The tokens of a structure, and what is read off them: its objects as arrays, its layout, the work of a rebuild.

Tokens stand in canonical pre-order: a `NodeSpec` for a node seen first, a `StateSpec`
for a State seen first, the number of an object seen before; a `RootSpec` stands first
when the root is a pytree of nodes. All is made in one pass over them, with no
recursion.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from .._caches import Interned
from .._contract import Requirement
from .._declare._node import plan_of
from .._declare._plan import requirement_of, with_requirement
from .._errors import StructureError
from .._gc import gc_paused
from .._paths import Key, Path, path_order, path_str
from .._public import named_in_pickles
from .._redefinition import first_moved
from .._state import Requirements, StateSpec
from .._static import StaticValueError, static_key
from .._trie import Reference, Trie, by_target, canonical, reference_order
from ._layout import Layout, TrieBuilder, intern_layout, layout_of_trie
from ._template import Column, NodeSpec, Picker, column_of, picker

_ROOTS: "Interned[Hashable, RootSpec]" = Interned()


class RootSpec:
    """The root of a graph that is a pytree of nodes: its treedef, and the canonical paths of its leaves. Interned."""

    __slots__ = ("__weakref__", "data_keys", "edges", "order", "treedef")

    treedef: Any
    data_keys: tuple[Hashable, ...]  # what tells it from roots of equal treedefs
    edges: tuple[Path, ...]  # canonical order
    order: tuple[int, ...]  # the number, among the edges, of each leaf of the treedef

    def __reduce__(self) -> tuple[Callable[..., "RootSpec"], tuple[object, ...]]:
        return root_spec, (self.treedef, self.edges, self.order)


Token: TypeAlias = RootSpec | NodeSpec | StateSpec | int


@named_in_pickles("_pickled_root_spec")
def root_spec(
    treedef: Any, edges: tuple[Path, ...], order: tuple[int, ...]
) -> RootSpec:
    """The one root spec of these parts."""
    data_keys = data_keys_of(treedef)
    # Types too: the position 0 and the key False are equal, and not the same.
    key = (treedef, data_keys, edges, tuple(tuple(map(type, edge)) for edge in edges))
    return _ROOTS.of(key, lambda: _new_root_spec(treedef, data_keys, edges, order))


def _new_root_spec(
    treedef: Any,
    data_keys: tuple[Hashable, ...],
    edges: tuple[Path, ...],
    order: tuple[int, ...],
) -> RootSpec:
    spec = RootSpec()
    spec.treedef, spec.data_keys, spec.edges, spec.order = (
        treedef,
        data_keys,
        edges,
        order,
    )
    return spec


def data_keys_of(treedef: Any) -> tuple[Hashable, ...]:
    """What equal treedefs may differ in: the static data of their pytrees, which `==` compares, as `1` and `True`.

    Nothing for most, which have no data but names: those of lists, tuples, and dicts
    with texts as keys.
    """
    keys: list[Hashable] = []
    todo: list[Any] = [treedef]
    while todo:
        part = todo.pop()
        found = part.node_data()
        if found is None:  # a leaf
            continue
        _, data = found
        parts = data if isinstance(data, (list, tuple)) else (data,)
        if any(one is not None and type(one) is not str for one in parts):
            keys.append(tuple(map(_data_key, parts)))
        todo += part.children()
    return tuple(keys)


def _data_key(data: Any) -> Hashable:
    try:
        return static_key(data)
    except StaticValueError:  # to JAX it may be anything that has `==`
        cls: type = type(data)
        return cls


def ranked_root(treedef: Any, edges: Sequence[Path]) -> RootSpec:
    """The root spec of a pytree whose leaves, in the order of its treedef, have these paths."""
    ranked = sorted(range(len(edges)), key=lambda at: path_order(edges[at]))
    order = [0] * len(ranked)
    for rank, at in enumerate(ranked):
        order[at] = rank
    return root_spec(treedef, tuple([edges[at] for at in ranked]), tuple(order))


class Table(NamedTuple):
    """A graphdef's tokens as arrays over its objects (nodes and States), by their number.

    Attributes:
        specs: The spec of each object.
        parents: The node that each object was first seen in; -1 for the root.
        edges: The path of each object within that node.
        rows: For each node, the number of each of its States and nodes, in the order of
            its spec's edges.
        top: The same for a root that is a pytree; the root alone otherwise.
        repeats: Each later reference: node, path within it, object.
    """

    specs: tuple[NodeSpec | StateSpec, ...]
    parents: tuple[int, ...]
    edges: tuple[Path, ...]
    rows: dict[int, list[int]]
    top: list[int]
    repeats: tuple[tuple[int, Path, int], ...]


def tabulate(tokens: Sequence[Token]) -> Table:
    specs: list[NodeSpec | StateSpec] = []
    parents: list[int] = []
    edges: list[Path] = []
    rows: dict[int, list[int]] = {-1: []}
    repeats: list[tuple[int, Path, int]] = []
    first = tokens[0]
    pending: list[tuple[int, Path]] = [(-1, ())]
    if isinstance(first, RootSpec):
        pending = [(-1, edge) for edge in reversed(first.edges)]
        tokens = tokens[1:]
    for token in tokens:
        parent, edge = pending.pop()
        if isinstance(token, int):
            rows[parent].append(token)
            repeats.append((parent, edge, token))
            continue
        assert not isinstance(token, RootSpec)
        number = len(specs)
        rows[parent].append(number)
        specs.append(token)
        parents.append(parent)
        edges.append(edge)
        if isinstance(token, NodeSpec):
            rows[number] = []
            pending.extend([(number, inner) for inner in reversed(token.edges)])
    return Table(
        tuple(specs), tuple(parents), tuple(edges), rows, rows.pop(-1), tuple(repeats)
    )


@gc_paused
def lay_out(tokens: Sequence[Token]) -> Layout:
    """The layout of all States of a structure.

    Tokens come in the order of the layout, so that entries can be written down as they
    come; only where some lead to no State does the trie have to be pruned.
    """
    parents: list[int] = [-1]
    keys: list[Key] = [""]
    leaves: list[int] = []
    specs: list[StateSpec] = []
    references: list[Reference] = []
    entries: list[int] = []  # of all objects, by number
    containers: dict[tuple[int, Key], int] = {}
    todo = iter(tokens)
    first = tokens[0]
    edges: Iterator[Path] = iter(((),))
    if isinstance(first, RootSpec):
        next(todo)
        edges = iter(first.edges)
    parent, leaves_before = 0, 0
    # What is left of the nodes that enclose this one
    above: list[tuple[Iterator[Path], int, int]] = []
    needs_pruning = False
    while True:
        for edge in edges:
            token = next(todo)
            key = edge[-1] if edge else ""
            holder = (
                parent
                if len(edge) < 2
                else _container(parents, keys, containers, parent, edge[:-1])
            )
            if isinstance(token, int):
                references.append((holder, key, entries[token]))
                continue
            entry = 0
            if edge:  # it is not the root itself
                entry = len(parents)
                parents.append(holder)
                keys.append(key)
            entries.append(entry)
            if isinstance(token, StateSpec):
                leaves.append(entry)
                specs.append(token)
            else:
                assert isinstance(token, NodeSpec)
                above.append((edges, parent, leaves_before))
                edges, parent, leaves_before = iter(token.edges), entry, len(leaves)
                break
        else:
            needs_pruning |= len(leaves) == leaves_before
            if not above:
                break
            edges, parent, leaves_before = above.pop()
    if needs_pruning:
        return layout_of_trie(
            parents, keys, dict(zip(leaves, specs, strict=True)), by_target(references)
        )[0]
    references.sort(key=reference_order)
    return intern_layout(
        tuple(parents), tuple(keys), tuple(leaves), tuple(specs), tuple(references)
    )


def lay_out_nodes(table: Table) -> Trie:
    """The paths of the nodes of a structure, in the order of their numbers, which is the canonical one."""
    trie, entries = _trie_of(table)
    nodes = {
        entry
        for entry, spec in zip(entries, table.specs, strict=True)
        if isinstance(spec, NodeSpec)
    }
    return canonical(trie.parents, trie.keys, nodes, trie.sources())[0]


def _trie_of(table: Table) -> tuple[TrieBuilder, list[int]]:
    """The paths of all objects and the references to them, and the entry of each object."""
    trie = TrieBuilder()
    entries: list[int] = []
    for parent, edge in zip(table.parents, table.edges, strict=True):
        entries.append(trie.entry(edge, entries[parent] if parent >= 0 else 0))
    for parent, edge, target in table.repeats:
        *containers, key = edge
        source = trie.entry(containers, entries[parent] if parent >= 0 else 0)
        trie.references[source, key] = entries[target]
    return trie, entries


def _container(
    parents: list[int],
    keys: list[Key],
    containers: dict[tuple[int, Key], int],
    parent: int,
    path: Path,
) -> int:
    """The entry of a container in a field, which several edges pass through."""
    for key in path:
        entry = containers.get((parent, key))
        if entry is None:
            entry = containers[parent, key] = len(parents)
            parents.append(parent)
            keys.append(key)
        parent = entry
    return parent


class Assembly(NamedTuple):
    """A graphdef as work for rebuilding: objects are numbered anew, all nodes before all States.

    Attributes:
        node_classes: The class of each node, alone in a tuple: what `starmap` hands on
            without making one.
        state_classes: The class of each State, in layout order, likewise.
        states: For each State spec and contracts, what picks such States, or their
            values, from all in layout order.
        groups: For each node spec, what picks its nodes and their parts from all
            objects.
        top: The numbers of the root, or of the leaves of a root that is a pytree.
    """

    node_classes: tuple[tuple[type[Any]], ...]
    state_classes: tuple[tuple[type[Any]], ...]
    states: tuple[tuple[StateSpec, Requirements, Column], ...]
    groups: tuple[tuple[NodeSpec, Picker], ...]
    top: tuple[int, ...]


def requirements_of(table: Table) -> dict[int, list[tuple[int, Requirement]]]:
    """What the fields of each node ask of which State, by the numbers of both; of nodes that ask anything."""
    found: dict[int, list[tuple[int, Requirement]]] = {}
    for number, row in table.rows.items():
        spec = table.specs[number]
        assert isinstance(spec, NodeSpec)
        if not plan_of(spec.cls).contracts:
            continue
        sizes = dict(zip(spec.template.statics, spec.statics, strict=True))
        for child, (path, form) in zip(row, spec.forms(), strict=True):
            child_spec = table.specs[child]
            if isinstance(child_spec, StateSpec):
                requirement = requirement_of(
                    spec.cls, path_str(path), form, child_spec.cls, sizes
                )
                if requirement is not None:
                    found.setdefault(number, []).append((child, requirement))
    return found


def contracts_of(table: Table, start: int = 0) -> dict[int, Requirements]:
    """What the fields that each State stands in ask of it, by its number; of those that are asked anything.

    Args:
        table: The structure.
        start: The number of the first node whose fields count.
    """
    found: dict[int, Requirements] = {}
    for number, asked in requirements_of(table).items():
        if number >= start:
            for state, requirement in asked:
                found[state] = with_requirement(found.get(state, ()), requirement)
    return found


def assemble(table: Table) -> Assembly:
    """What rebuilding needs.

    Raises:
        StructureError: A class was defined again since, and what is rebuilt would run
            the code of before.
    """
    moved = first_moved(spec.cls for spec in table.specs)
    if moved is not None:
        raise StructureError(
            f"this graphdef was made before {moved.__name__} was defined again; make another one from the node: "
            "gn.treefy_split(node), or gn.graphdef(node)"
        )
    is_node = [isinstance(spec, NodeSpec) for spec in table.specs]
    count = sum(is_node)
    nodes, states = iter(range(count)), iter(range(count, len(is_node)))
    renumbered = [next(nodes) if node else next(states) for node in is_node]
    groups: dict[NodeSpec, list[tuple[int, ...]]] = {}
    for number, row in table.rows.items():
        spec = table.specs[number]
        assert isinstance(spec, NodeSpec)
        groups.setdefault(spec, []).append(
            (renumbered[number], *[renumbered[child] for child in row])
        )
    state_specs = [spec for spec in table.specs if isinstance(spec, StateSpec)]
    contracts = contracts_of(table)
    asked = [
        contracts.get(at, ())
        for at, spec in enumerate(table.specs)
        if isinstance(spec, StateSpec)
    ]
    by_spec: dict[tuple[StateSpec, Requirements], list[int]] = {}
    for at, key in enumerate(zip(state_specs, asked, strict=True)):
        by_spec.setdefault(key, []).append(at)
    return Assembly(
        tuple([(spec.cls,) for spec in table.specs if isinstance(spec, NodeSpec)]),
        tuple([(spec.cls,) for spec in state_specs]),
        tuple(
            [
                (spec, asked, column_of(numbers))
                for (spec, asked), numbers in by_spec.items()
            ]
        ),
        tuple([(spec, picker(rows)) for spec, rows in groups.items()]),
        tuple([renumbered[number] for number in table.top]),
    )
