"""Select nodes of a live graph by class, path and condition, and change them together: `gn.select`.

    gn.select(model, nn.Linear)        a selection: a graph, and steps that narrow down its nodes
      .under("blocks.*.mlp")           one step more: another selection
      .exactly(12)                     what is expected
      .replace(make_adapter)           finds the nodes, checks all, and changes all or nothing

A selection keeps no nodes. They are found at each use, so that it cannot go stale.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from types import EllipsisType
from typing import Any, Generic, SupportsIndex, overload

import jax
from typing_extensions import TypeVar

from ._declare._node import Node
from ._describe import describe
from ._errors import (
    ContractError,
    FieldError,
    FilterError,
    FilterTypeError,
    StructureError,
    listed,
)
from ._exchange import exchange_nodes, shared_write_faults, undone_on_error
from ._filters import (
    All,
    Filter,
    Not,
    PathIn,
    Selector,
    Under,
    as_filter,
)
from ._graph._binding_cache import binding_of
from ._inspect import NodeItem, live_objects, node_items
from ._narrowing import (
    AtPaths,
    Condition,
    Graph,
    Holding,
    OfClass,
    Step,
    nodes_text,
    where,
)
from ._paths import Path, path_str
from ._patterns import pattern_of
from ._reads import looked_at
from ._reinit import laid_out_as, values_anew
from ._set_fields import assign_fields
from ._signals import write_all
from ._split import states
from ._state import ParamState, State, contract_faults
from ._statetree import S1, FlatStates
from ._stream import checked_seed

N_co = TypeVar("N_co", bound=Node, default=Node, covariant=True)
N1 = TypeVar("N1", bound=Node)
N2 = TypeVar("N2", bound=Node)
N3 = TypeVar("N3", bound=Node)


@overload
def select(node: object, /) -> "Selection[Node]": ...
@overload
def select(node: object, cls: type[N1], /) -> "Selection[N1]": ...
@overload
def select(node: object, cls: tuple[type[N1], type[N2]], /) -> "Selection[N1 | N2]": ...
@overload
def select(
    node: object, cls: tuple[type[N1], type[N2], type[N3]], /
) -> "Selection[N1 | N2 | N3]": ...
@overload
def select(node: object, cls: tuple[type[N1], ...], /) -> "Selection[N1]": ...
def select(node: object, cls: Any = Node, /) -> "Selection[Any]":
    """Select nodes of a graph by their class, to look at them or to change them together.

    The selection is narrowed by its methods, and keeps no nodes: they are found at each
    use, as the graph is then. That nothing is found is an error, which names what was
    probably meant.

    Args:
        node: A node, or a pytree of nodes.
        cls: A node class, or a tuple of classes of which any will do; subclasses count.
            Left out, all nodes are selected.

    Raises:
        FilterTypeError: `cls` is not a node class, or a tuple of them.
        StructureError: `node` is neither a node nor a pytree of nodes.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> gn.select(model, gn.nn.Linear)
        gn.select(MLP, Linear): 2 nodes
          layers.0
          layers.1
        >>> gn.select(model, gn.nn.Linear).under("layers.1").set(bias=None)
        >>> model.layers[1].bias is None
        True

    See also: `nodes`, a dict of nodes; `states`, which selects States.
    """
    # What is no graph is refused here, and not where the selection is used.
    binding_of(node)
    return Selection(node, (OfClass.checked(cls),))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Selection(Generic[N_co]):
    """Nodes of a live graph, found at each use, and what can be done with all of them. `gn.select` makes one.

    The methods that narrow it down give another selection: `of`, `under`, `at`,
    `outside`, `where`, `holding`, `exactly`. Iteration gives each node with its first path,
    in canonical order, and `len` their number. Each use raises a `FilterError` where a
    step has left nothing, unless `exactly(0)` allows it.

    Example:
        >>> model = gn.nn.MLP(2, 8, 3)
        >>> for path, linear in gn.select(model, gn.nn.Linear):
        ...     print(gn.path_str(path), linear.out_features)
        layers.0 8
        layers.1 3
    """

    _root: object
    _steps: tuple[Step, ...]
    _count: int | None = None

    # Narrowing

    @overload
    def of(self, cls: type[N1], /) -> "Selection[N1]": ...
    @overload
    def of(self, cls: tuple[type[N1], type[N2]], /) -> "Selection[N1 | N2]": ...
    @overload
    def of(self, cls: tuple[type[N1], ...], /) -> "Selection[N1]": ...
    def of(self, cls: Any, /) -> "Selection[Any]":
        """Those of a class, or of any of a tuple of classes.

        Raises:
            FilterTypeError: `cls` is not a node class, or a tuple of them.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> len(gn.select(model).under("layers").of(gn.nn.Linear))
            2
        """
        return self._narrowed(OfClass.checked(cls))

    def under(self, *paths: Path | str) -> "Selection[N_co]":
        """Those at one of some paths or below it, as `gn.Under` selects: texts with globs, or tuples of keys.

        Each path must lead to one of the nodes so far.

        Raises:
            PathError: A text does not parse.
            FilterTypeError: Something is not a path.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> [gn.path_str(path) for path, _ in gn.select(model, gn.nn.Linear).under("layers.*")]
            ['layers.0', 'layers.1']
        """
        return self._narrowed(AtPaths.checked("under", Under, paths))

    def at(self, *paths: Path | str) -> "Selection[N_co]":
        """Those at one of some paths, as `gn.PathIn` selects: texts with globs, or tuples of keys.

        Each path must lead to one of the nodes so far.

        Raises:
            PathError: A text does not parse.
            FilterTypeError: Something is not a path.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> len(gn.select(model).at("layers.0"))
            1
        """
        return self._narrowed(AtPaths.checked("at", PathIn, paths))

    def outside(self, *paths: Path | str) -> "Selection[N_co]":
        """Those that are neither at one of some paths nor below it: what `under` selects is left out.

        A shared node is left out by any of its paths. Each path must lead to a node.

        Raises:
            PathError: A text does not parse.
            FilterTypeError: Something is not a path.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> [gn.path_str(path) for path, _ in gn.select(model, gn.nn.Linear).outside("layers.1")]
            ['layers.0']
        """
        return self._narrowed(AtPaths.checked("outside", Under, paths, is_outside=True))

    def where(self, condition: Callable[[N_co], bool], /) -> "Selection[N_co]":
        """Those that a function of the node accepts. It is called for the nodes so far, at each use.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> len(gn.select(model, gn.nn.Linear).where(lambda linear: linear.out_features > 4))
            1
        """
        if not callable(condition):
            raise FilterTypeError(
                f"where takes a function of a node; found {describe(condition)}"
            )
        return self._narrowed(Condition(condition))

    def holding(self, filter: Filter, /) -> "Selection[N_co]":
        """Those that hold, in a field of their own, a State that a filter selects: by a tag, a State class, a path.

        Raises:
            FilterTypeError: `filter` is not a filter of States.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> len(gn.select(model).holding(gn.ParamState))
            2
        """
        as_filter(filter)  # refused here, and not where the selection is used
        return self._narrowed(Holding(filter))

    def exactly(self, count: SupportsIndex, /) -> "Selection[N_co]":
        """The same nodes, of which there must be so many, now and at each use.

        Raises:
            FilterError: There are more or fewer; names them.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).exactly(3)
            Traceback (most recent call last):
                ...
            graphnode.FilterError: gn.select(MLP, Linear): expected 3 nodes; found 2: layers.0, layers.1
        """
        selection = dataclasses.replace(self, _count=count.__index__())
        selection._find()
        return selection

    def _narrowed(self, step: Step) -> "Selection[Any]":
        """The selection with one more step. What was counted before is not what it counts."""
        if self._count is not None:
            raise FilterError(
                f"{self._text()}: exactly({self._count}) counts what is selected in the end; put it last"
            )
        return Selection(self._root, (*self._steps, step))

    # Looking

    def __iter__(self) -> Iterator[tuple[Path, N_co]]:
        for item in self._find()[1]:
            yield item.path, item.live

    def __len__(self) -> int:
        return len(self._find()[1])

    def __repr__(self) -> str:
        try:
            _, items = self._find()
        except FilterError as error:
            return str(error)
        paths = [f"\n  {where(item)}" for item in items]
        if len(paths) > 20:
            paths[20:] = [f"\n  and {len(paths) - 20} more"]
        return f"{self._text()}: {nodes_text(len(items))}{''.join(paths)}"

    @overload
    def states(self, /) -> FlatStates[State[Any]]: ...
    @overload
    def states(self, only: type[S1] | Selector | EllipsisType, /) -> FlatStates[S1]: ...
    def states(self, only: Any = ..., /) -> FlatStates[Any]:
        """The live States of the nodes and of all below them, by their paths from the root, as `gn.states` gives them.

        Args:
            only: Which of them.

        Raises:
            FilterError: There are none; or nothing is selected.
            FilterTypeError: `only` is not a filter of States.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> list(gn.select(model, gn.nn.Linear).under("layers.1").states())
            [('layers', 1, 'bias'), ('layers', 1, 'weight')]
        """
        _, items = self._find()
        if not items:  # as `exactly(0)` allows
            return states(self._root, None)
        selected = states(self._root, All(_below(items), only))
        if not selected:
            raise FilterError(
                f"{self._text()}: no State of {nodes_text(len(items))} is selected by {as_filter(only)!r}"
            )
        return selected

    def freeze(self, among: Filter = ParamState, /) -> All:
        """A filter for `wrt` that leaves out the States of the nodes, and of all below them; nothing is changed.

        By paths: of a model whose structure is changed, make the filter anew. Where one of
        the paths leads to nothing, the use of the filter is an error.

        Args:
            among: Which other States it selects.

        Raises:
            FilterError: The nodes have no States; or nothing is selected.
            FilterTypeError: `among` is not a filter of States.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> wrt = gn.select(model).at("layers.0").freeze()
            >>> list(gn.states(model, wrt))
            [('layers', 1, 'bias'), ('layers', 1, 'weight')]
        """
        _, items = self._find()
        if not items:
            return All(among)
        self.states()
        # Each must lead to States, wherever the filter is used: what froze nothing would not be seen.
        paths = [item.path for item in items if states(item.live)]
        return All(among, Not(Under(*paths)))

    # Changing

    def replace(self, fn: Callable[[N_co], Node], /) -> None:
        """Put the node that a function gives for each node in its place, in the live graph.

        The function is called once for each node. A node that is shared is replaced at
        all its places: fields, and items of lists, tuples and dicts. The fields decide
        what they take, before anything is changed. If an error is raised, States that
        the function has written hold again what they held. For an optimizer of the model see
        `gn.optim.Optimizer.following`.

        Raises:
            FieldError: A field does not take its new node: says which annotation would;
                or the root is to be replaced, which stands in no node; names all.
                Nothing was replaced.
            FilterError: Nothing is selected; or a node is selected inside of another,
                which is replaced as a whole.
            StructureError: The function has changed the structure of the graph; or has
                written a State of a node, as `fold` does, that others share, which would
                map otherwise.
            TraceError: A JAX transformation runs that the nodes were not made in.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).replace(lambda linear: gn.nn.LoRALinear.of(linear, 4))
            >>> list(gn.states(model, gn.nn.LoRAState))
            [('layers', 0, 'lora_a'), ('layers', 0, 'lora_b'), ('layers', 1, 'lora_a'), ('layers', 1, 'lora_b')]
        """
        graph, items = self._find()
        self._check_apart(graph, items)
        with undone_on_error(live_objects(self._root, graph.graphdef)) as written:
            self._exchange(graph, _called(fn, items), written)

    def _exchange(
        self, graph: Graph, new: Mapping[int, object], written: Callable[[], list[int]]
    ) -> None:
        """For `replace`: put the new nodes in place, if what the function has done allows it.

        Args:
            graph: The graph.
            new: The new nodes, by the numbers of the old ones.
            written: Gives the numbers of the States that the function has written.
        """
        if binding_of(self._root).graphdef is not graph.graphdef:
            raise StructureError(
                f"{self._text()}: fn has changed the structure of {graph.name} itself; let it return a new node. "
                "Nothing was replaced"
            )
        faults = shared_write_faults(graph.graphdef, written(), new.keys())
        if faults:
            raise StructureError(
                f"{self._text()}: {listed(faults)}; the others would map otherwise, so give each a State of its own "
                "first. Nothing was replaced or written"
            )
        exchange_nodes(graph.graphdef, live_objects(self._root, graph.graphdef), new)

    def set(self, **fields: object) -> None:
        """Give fields of each node a value: a static field by assignment, that of a State by a write to `.value`.

        `None` empties a field that allows it. Nodes are put in with `replace`. As by
        assignment, the types of fields and the shapes of States are checked, but not
        what a constructor checks beyond that: a dtype, a size that follows from another.

        Raises:
            FieldError: A node without such a field, or a value that it does not take;
                names all. Nothing was changed.
            FilterError: Nothing is selected.
            TraceError: A JAX transformation runs that the nodes were not made in.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).set(bias=None)
            >>> len(gn.states(model))
            2
        """
        _, items = self._find()
        assign_fields(items, fields)

    # Any: a value is any pytree.
    def map(
        self, fn: Callable[[Any], Any], only: Filter | EllipsisType = ..., /
    ) -> None:
        """Write `fn(value)` into each State of the nodes and of all below them.

        A State is written once, and keeps its identity; the contracts of its fields
        decide what it takes.

        Args:
            fn: From a value to the new one.
            only: Which of the States.

        Raises:
            ContractError: A value that a field does not take; names all, by their paths.
                Nothing was written.
            FilterError: There are no such States; or nothing is selected.
            TraceError: A JAX transformation runs that the States are not part of.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).under("layers.1").map(jnp.zeros_like)
            >>> model(jnp.ones(2))
            Array([0., 0., 0.], dtype=float32)
        """
        selected = self.states(only)
        members = list(selected.values())
        values = [_mapped(fn, path, state) for path, state in selected.items()]
        faults = [
            f"{path_str(path)}: {fault}"
            for (path, state), value in zip(selected.items(), values, strict=True)
            for fault in contract_faults(state, value)
        ]
        if faults:
            raise ContractError(f"cannot map: {listed(faults)}")
        write_all(members, values, _names(list(selected)))

    def reinit(self, key: jax.Array | SupportsIndex, /, **arguments: object) -> None:
        """Make the States of the nodes again, as their constructors make them: other values in the same States.

        The node whose constructor makes a State is constructed once more, from its own
        fields: where a layer makes its own linear maps, that is the layer, also if only
        the maps are selected; so it is where a part may be left out, and is what the
        constructor makes then. New values are where the old ones were, laid out over
        devices in the same way; under `gn.jit` only over an explicit mesh, as JAX tells a
        trace of no other layout. A State that is shared is made as at its first path. The
        draws follow from the key and the path of that node, and not from what else is
        selected. What an init variable was given, such as an initialiser, is not kept,
        and its default is taken: pass it again, as `w_init=...`.

        Args:
            key: A key, or the integer that it is made from.
            **arguments: Init variables for the constructors of the selected nodes, which
                must make States themselves.

        Raises:
            FieldError: A class whose `__init__` is written by hand; a constructor that
                makes another structure, other shapes or dtypes, or needs further
                arguments; a State that it was given; an argument that would be ignored;
                an abstract model; names all. Nothing was written.
            FilterError: Nothing is selected.
            TraceError: A JAX transformation runs that the States are not part of.
            TypeError: `key` is neither an integer nor a key.

        Example:
            >>> model = gn.nn.MLP(2, 8, 3)
            >>> gn.select(model, gn.nn.Linear).reinit(0)
            >>> before = model.layers[0].weight.value
            >>> gn.select(model, gn.nn.Linear).under("layers.0").reinit(0)
            >>> bool((before == model.layers[0].weight.value).all())
            True
        """
        graph, items = self._find()
        seed = checked_seed(key)
        if not items:
            return
        selected = self.states()
        members = [graph.items[at] for at in sorted(graph.numbers(_below(items)))]
        values = values_anew(self._root, items, members, seed, arguments)
        faults = [
            f"{path_str(path)} was given to a constructor, and not made by one"
            for path, state in selected.items()
            if id(state) not in values
        ]
        if faults:
            raise FieldError(f"cannot make States again: {listed(faults)}")
        live = list(selected.values())
        new = [laid_out_as(values[id(state)], looked_at(state)) for state in live]
        write_all(live, new, _names(list(selected)))

    # Finding

    def _find(self) -> tuple[Graph, list[NodeItem]]:
        """The nodes, as the graph is now.

        Raises:
            FilterError: A step leaves nothing, or there are not as many as expected.
        """
        graphdef = binding_of(self._root).graphdef
        graph = Graph(self._root, graphdef, node_items(self._root, graphdef))
        numbers: Set[int] = set(range(len(graph.items)))
        for at, step in enumerate(self._steps, start=1):
            narrowed = step.narrow(graph, numbers)
            fault = "" if self._count == 0 else step.fault(graph, numbers, narrowed)
            if fault:
                raise FilterError(
                    f"{self._text(at)}: {fault}; if that may be, end with .exactly(0)"
                )
            numbers = narrowed
        if self._count is not None and len(numbers) != self._count:
            paths = ", ".join(graph.texts(numbers)[:20])
            raise FilterError(
                f"{self._text()}: expected {nodes_text(self._count)}; found {len(numbers)}: {paths}",
                [graph.items[at].path for at in sorted(numbers)],
            )
        return graph, [graph.items[at] for at in sorted(numbers)]

    def _text(self, count: int | None = None) -> str:
        """How the selection was written, up to a step, for messages."""
        first, *others = self._steps[:count]
        name = binding_of(self._root).graphdef.type.__name__
        # `select` itself takes the first classes, and `of` further ones.
        of_class = first.text.removeprefix("of(").removesuffix(")")
        arguments = name if of_class == "Node" else f"{name}, {of_class}"
        return ".".join([f"gn.select({arguments})", *[step.text for step in others]])

    def _check_apart(self, graph: Graph, items: Sequence[NodeItem]) -> None:
        """Raise if a node is selected inside of another: is it that in the new node, or in the old one?"""
        below = {
            pattern_of(".".join(filter(None, [path_str(item.path), "*", "**"]))): item
            for item in items
        }
        matching = graph.graphdef.nodes.matching(frozenset(below))
        selected = {item.at for item in items}
        faults = [
            f"{path_str(graph.items[at].path)} is below {where(item)}"
            for pattern, item in below.items()
            for at in sorted(selected & matching[pattern])
            if at != item.at
        ]
        if faults:
            raise FilterError(
                f"{self._text()}: {listed(faults)}; replace one after the other, each by a selection of its own"
            )


def _below(items: Sequence[NodeItem]) -> Under:
    """The filter of all that is at and below some nodes: of States, or of nodes."""
    return Under(*[item.path for item in items], missing_ok=True)


def _called(
    fn: Callable[[Any], object], items: Sequence[NodeItem]
) -> dict[int, object]:
    """What a function gives for each node, by the numbers of the nodes. An error says at which it was raised."""
    new: dict[int, object] = {}
    for item in items:
        try:
            new[item.number] = fn(item.live)
        except Exception as error:
            error.add_note(f"while {where(item)} was replaced")
            raise
    return new


# Any: a value is any pytree.
def _mapped(fn: Callable[[Any], Any], path: Path, state: State[Any]) -> Any:
    """What a function gives for the value of a State. An error says of which."""
    try:
        return fn(state.value)
    except Exception as error:
        error.add_note(f"while {path_str(path)} was mapped")
        raise


def _names(paths: Sequence[Path]) -> list[Callable[[], str]]:
    """What gives the path of each State for a message, which most writes do not need."""
    return [functools.partial(path_str, path) for path in paths]
