"""Read the tokens of a structure: its objects as arrays, the layout of its States, the work of a rebuild.

Tokens are in canonical pre-order (`_flatten.walk` has a picture): a `NodeSpec` or
`StateSpec` for an object that is seen for the first time, the number of an object that
was seen before; first a `RootSpec`, if the root is a pytree of nodes. Each function here
makes one pass over them, without recursion.
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
    data_keys: tuple[Hashable, ...]  # in which roots of equal treedefs may differ
    edges: tuple[Path, ...]  # canonical order
    order: tuple[int, ...]  # the number, among the edges, of each leaf of the treedef

    def __reduce__(self) -> tuple[Callable[..., "RootSpec"], tuple[object, ...]]:
        return root_spec, (self.treedef, self.edges, self.order)


Token: TypeAlias = RootSpec | NodeSpec | StateSpec | int


@named_in_pickles("_pickled_root_spec")
def root_spec(
    treedef: Any, edges: tuple[Path, ...], order: tuple[int, ...]
) -> RootSpec:
    """The one root spec of these parts.

    By its `data_keys` too: JAX holds the dicts `{1: ...}` and `{True: ...}` for one
    structure.
    """
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
    """For `root_spec`: a new one of these parts, if there is none yet."""
    spec = RootSpec()
    spec.treedef, spec.data_keys, spec.edges, spec.order = (
        treedef,
        data_keys,
        edges,
        order,
    )
    return spec


def data_keys_of(treedef: Any) -> tuple[Hashable, ...]:
    """What equal treedefs may differ in: the static data of their pytrees, of which `1` and `True` are equal.

    For what is looked up by a treedef, as a cache that took one for the other would
    answer wrongly.

    Empty for most: lists, tuples, and dicts with strings as keys have no other data.
    """
    keys: list[Hashable] = []
    todo: list[Any] = [treedef]
    while todo:
        part = todo.pop()
        node_data = part.node_data()
        if node_data is None:  # a leaf
            continue
        _, data = node_data
        items = data if isinstance(data, (list, tuple)) else (data,)
        if any(item is not None and type(item) is not str for item in items):
            keys.append(tuple(map(_data_key, items)))
        todo += part.children()
    return tuple(keys)


def _data_key(data: Any) -> Hashable:
    """The static key of one item of a pytree's data; its class, if it has no key.

    For `data_keys_of`, which tells `1` from `True` by it.
    """
    try:
        return static_key(data)
    except StaticValueError:  # JAX takes anything that has `==`
        cls: type = type(data)
        return cls


def canonical_root(treedef: Any, edges: Sequence[Path]) -> RootSpec:
    """The root spec of a pytree whose leaves, in the order of its treedef, have these paths.

    For `walk` and for graphdefs from JSON. JAX has leaves in an order of its own, and
    structures are compared in ours.
    """
    # JAX has the keys of a dict in the order of strings, where ours is that of paths.
    canonical_order = sorted(range(len(edges)), key=lambda at: path_order(edges[at]))
    order = [0] * len(edges)
    for rank, at in enumerate(canonical_order):
        order[at] = rank
    canonical_edges = tuple([edges[at] for at in canonical_order])
    return root_spec(treedef, canonical_edges, tuple(order))


class Table(NamedTuple):
    """A graphdef's tokens as arrays over its objects (nodes and States), by their number.

    Attributes:
        specs: The spec of each object.
        parents: The node that each object was first seen in; -1 for the root.
        edges: The path of each object within that node.
        rows: For each node, the number of each of its States and nodes, in the order of
            its spec's edges.
        top: The number of each leaf of a root that is a pytree; else of the root alone.
        repeats: Each later reference: node, path within it, object.
    """

    specs: tuple[NodeSpec | StateSpec, ...]
    parents: tuple[int, ...]
    edges: tuple[Path, ...]
    rows: dict[int, list[int]]
    top: list[int]
    repeats: tuple[tuple[int, Path, int], ...]


def tabulate(tokens: Sequence[Token]) -> Table:
    """The table of some tokens.

    For `GraphDef.table`: to go from an object to its parent without reading the tokens
    up to it.
    """
    specs: list[NodeSpec | StateSpec] = []
    parents: list[int] = []
    edges: list[Path] = []
    # -1 stands for the root's parent: its row is `top`.
    rows: dict[int, list[int]] = {-1: []}
    repeats: list[tuple[int, Path, int]] = []
    first = tokens[0]
    # A stack of the places that the next tokens fill: a node, and an edge of it.
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
            # Reversed, as the stack gives the last one first.
            pending.extend([(number, inner) for inner in reversed(token.edges)])
    top = rows.pop(-1)
    return Table(tuple(specs), tuple(parents), tuple(edges), rows, top, tuple(repeats))


@gc_paused
def lay_out(tokens: Sequence[Token]) -> Layout:
    """The layout of all States of a structure.

    For `GraphDef.layout`: the order of all values of such a graph, and their paths.

    Each token fills the next edge of the node above it. Tokens and entries are in one
    order, so that entries are appended as they come; only if a node leads to no State,
    the trie has to be pruned.

        tokens       edges left (a stack)                 appended
        Net          a, b, layers.0                       entry 0, the root
        Linear       bias, weight / b, layers.0           entry 1 "a"
        State        weight / b, layers.0                 entry 2 "bias", a leaf
        State        / b, layers.0                        entry 3 "weight", a leaf
        1            layers.0                             reference (0, "b", entry of object 1)
        State                                             entry 4 "layers", a container; entry 5 0, a leaf
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
    # The stack: edges that are left of a node, its entry, and how many leaves came
    # before it.
    above: list[tuple[Iterator[Path], int, int]] = []
    needs_pruning = False
    while True:
        for edge in edges:
            token = next(todo)
            key = edge[-1] if edge else ""
            source = parent
            if len(edge) > 1:
                source = _container(parents, keys, containers, parent, edge[:-1])
            if isinstance(token, int):
                references.append((source, key, entries[token]))
                continue
            entry = 0
            if edge:  # it is not the root itself
                entry = len(parents)
                parents.append(source)
                keys.append(key)
            entries.append(entry)
            if isinstance(token, StateSpec):
                leaves.append(entry)
                specs.append(token)
            else:
                assert isinstance(token, NodeSpec)
                above.append((edges, parent, leaves_before))
                edges, parent, leaves_before = iter(token.edges), entry, len(leaves)
                break  # on to its children
        else:
            needs_pruning |= len(leaves) == leaves_before
            if not above:
                break
            edges, parent, leaves_before = above.pop()
    if needs_pruning:
        spec_by_leaf = dict(zip(leaves, specs, strict=True))
        sources = by_target(references)
        layout, _ = layout_of_trie(parents, keys, spec_by_leaf, sources)
        return layout
    references.sort(key=reference_order)
    return intern_layout(
        tuple(parents), tuple(keys), tuple(leaves), tuple(specs), tuple(references)
    )


def lay_out_nodes(table: Table) -> Trie:
    """The paths of the nodes of a structure, in the order of their numbers, which is the canonical one.

    For `GraphDef.nodes`, by which `gn.nodes` finds nodes under their paths.
    """
    trie, entries = _trie_of(table)
    pairs = zip(entries, table.specs, strict=True)
    nodes = {entry for entry, spec in pairs if isinstance(spec, NodeSpec)}
    return canonical(trie.parents, trie.keys, nodes, trie.sources())[0]


def _trie_of(table: Table) -> tuple[TrieBuilder, list[int]]:
    """The paths of all objects and the references to them, and the entry of each object.

    For `lay_out_nodes`: nodes that reach no State are in no layout, and have paths,
    too.
    """
    trie = TrieBuilder()
    entries: list[int] = []
    for parent, edge in zip(table.parents, table.edges, strict=True):
        entries.append(trie.entry(edge, entries[parent] if parent >= 0 else 0))
    for parent, edge, target in table.repeats:
        # The containers on the way are entries of the trie; the last key is the
        # reference itself.
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
    """The entry of a container in a field, which several edges pass through.

    So that two items of one list stand below one entry, as they share the beginning of
    their paths.
    """
    for key in path:
        entry = containers.get((parent, key))
        if entry is None:
            entry = containers[parent, key] = len(parents)
            parents.append(parent)
            keys.append(key)
        parent = entry
    return parent


class Assembly(NamedTuple):
    """A graphdef as work for rebuilding: objects are renumbered, all nodes before all States.

    Attributes:
        node_classes: The class of each node, in a tuple of its own, as `starmap` takes
            it.
        state_classes: The class of each State, in layout order, in a tuple of its own.
        states: For each State spec with its contracts, what picks such States, or their
            values, from all in layout order.
        groups: For each node spec, what picks rows of a node and its children from all
            objects.
        top: The numbers of the root, or of the leaves of a root that is a pytree.
    """

    node_classes: tuple[tuple[type[Any]], ...]
    state_classes: tuple[tuple[type[Any]], ...]
    states: tuple[tuple[StateSpec, Requirements, Column], ...]
    groups: tuple[tuple[NodeSpec, Picker], ...]
    top: tuple[int, ...]


def requirements_of(table: Table) -> dict[int, list[tuple[int, Requirement]]]:
    """What the fields of each node require of States: the number of the State, and the requirement.

    Worked out once for a structure, so that a rebuilt graph need not read its
    annotations for each State.

    By the number of the node, without those that require nothing.
    """
    by_node: dict[int, list[tuple[int, Requirement]]] = {}
    for number, row in table.rows.items():
        spec = table.specs[number]
        assert isinstance(spec, NodeSpec)
        cls = spec.cls
        # Most classes: their rows are not looked at.
        if not plan_of(cls).contracts:
            continue
        sizes = dict(zip(spec.template.statics, spec.statics, strict=True))
        for child, (path, form) in zip(row, spec.forms(), strict=True):
            state = table.specs[child]
            if not isinstance(state, StateSpec):
                continue
            place = path_str(path)
            requirement = requirement_of(cls, place, form, state.cls, sizes)
            if requirement is not None:
                by_node.setdefault(number, []).append((child, requirement))
    return by_node


def contracts_of(table: Table, start: int = 0) -> dict[int, Requirements]:
    """The requirements of each State, by its number, without States that have none.

    What `rebuild` attaches to a State, so that a later write to `.value` is checked
    without its nodes.

    Args:
        table: The structure.
        start: The number of the first node whose fields count.
    """
    by_state: dict[int, Requirements] = {}
    for number, requirements in requirements_of(table).items():
        if number < start:
            continue
        for state, requirement in requirements:
            before = by_state.get(state, ())
            by_state[state] = with_requirement(before, requirement)
    return by_state


def assemble(table: Table) -> Assembly:
    """The assembly of a structure; see `_unflatten`.

    Worked out once for a structure; `rebuild` and `_new_states` only run through it.

    Raises:
        StructureError: A class was defined again since: what is rebuilt would run its
            old code.
    """
    moved = first_moved(spec.cls for spec in table.specs)
    if moved is not None:
        raise StructureError(
            f"this graphdef was made before {moved.__name__} was defined again; make another one from the node: "
            "gn.treefy_split(node), or gn.graphdef(node)"
        )
    node_classes: list[tuple[type[Any]]] = []
    state_classes: list[tuple[type[Any]]] = []
    new_numbers: list[int] = []
    # The States of one spec and the same contracts, by their positions among States.
    positions: dict[tuple[StateSpec, Requirements], list[int]] = {}
    contracts = contracts_of(table)
    node_count = len(table.rows)
    for number, spec in enumerate(table.specs):
        if isinstance(spec, NodeSpec):
            new_numbers.append(len(node_classes))
            node_classes.append((spec.cls,))
            continue
        position = len(state_classes)
        # Behind all nodes, where the list of all objects has the States.
        new_numbers.append(node_count + position)
        state_classes.append((spec.cls,))
        key = (spec, contracts.get(number, ()))
        positions.setdefault(key, []).append(position)
    # By spec, so that one generated fill serves all nodes of it.
    rows: dict[NodeSpec, list[tuple[int, ...]]] = {}
    for number, children in table.rows.items():
        spec = table.specs[number]
        assert isinstance(spec, NodeSpec)
        row = [new_numbers[number], *[new_numbers[child] for child in children]]
        rows.setdefault(spec, []).append(tuple(row))
    states = [(*key, column_of(numbers)) for key, numbers in positions.items()]
    return Assembly(
        tuple(node_classes),
        tuple(state_classes),
        tuple(states),
        tuple([(spec, picker(of_spec)) for spec, of_spec in rows.items()]),
        tuple([new_numbers[number] for number in table.top]),
    )
