"""Which node is called while one of our transforms traces: its path, its name for JAX, and who wants to know.

    trace of step(net, x)             Arguments: the copy of `net`, its graphdef, Label("net", ())
      │ net.blocks[0](x)              a wrapper in the class (`_method_wrappers`) asks for the label
      │                               Label("net.blocks.0", ("blocks", 0)), made when it is first called
      │   scope of JAX                an operation inside is named jit(step)/net.blocks.0/dot_general
      │   handlers                    each may change arguments and result (`calls_through`)
      ▼ the method itself

A node that is no part of the arguments of a running trace (one that is made inside, or that
a kept trace has captured) has no label: its operations belong to whoever calls it.
"""

import functools
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from ._graph._graphdef import GraphDef
from ._graph._template import NodeSpec
from ._inspect import reach
from ._paths import Path, path_str


class Label(NamedTuple):
    """Where a node stands, seen from the function that is traced.

    Attributes:
        scope: The name of the argument and the path below it, as JAX's names have it; a member of
            a stack that is scanned has the key `*`.
        path: The path below the argument.
    """

    scope: str
    path: Path

    def below(self, path: Path) -> "Label":
        """The label of what stands at a path below."""
        if not path:
            return self
        return Label(f"{self.scope}.{path_str(path)}", (*self.path, *path))

    def member(self) -> "Label":
        """The label of a member, where this is that of a stack."""
        return Label(f"{self.scope}.*", self.path)


class NodeCall(NamedTuple):
    """One call of a method of a node, in a trace.

    Attributes:
        node: The node: the copy in the trace.
        method: The name of the method, such as `__call__`.
        path: The path below the outermost argument that the node is part of.
        scope: The name of that argument and the path; in a scan over a stack the key is `*`.
    """

    node: Any  # Any: of whatever class
    method: str
    path: Path
    scope: str


# Any: methods take and give whatever they like.
Proceed: TypeAlias = Callable[..., Any]
# It calls `proceed(*args, **kwargs)`, and returns what the call is to return.
Handler: TypeAlias = Callable[[NodeCall, Proceed, tuple[Any, ...], dict[str, Any]], Any]


class Arguments:
    """The nodes of the arguments of one trace, and what they are called; made lazily, node by node.

    Attributes:
        graphdef: Of the nodes and States among them, in a list.
        around: Those of the trace around it whose nodes may be called here, too.
    """

    __slots__ = (
        "_known",
        "_labels",
        "_nodes",
        "_of_roots",
        "_roots",
        "around",
        "graphdef",
    )

    def __init__(
        self,
        roots: Sequence[Any],
        graphdef: GraphDef[Any],
        of_roots: Callable[[], Sequence[Label]],
        around: "Arguments | None",
    ) -> None:
        """Take what a trace has as its arguments.

        Args:
            roots: The nodes and States among them.
            graphdef: Of these, in a list.
            of_roots: Gives the label of each.
            around: The arguments of the trace around it, unless what is traced may be kept for
                other places: then it must not know them.
        """
        self.graphdef: GraphDef[Any] = graphdef
        self._roots, self._of_roots = roots, of_roots
        self._labels: Sequence[Label] | None = None
        self._nodes: dict[int, tuple[int, Any]] | None = None
        self._known: dict[int, Label] = {}
        self.around: Arguments | None = around

    def label_of(self, node: object) -> Label | None:
        """The label of a node; `None` for one that is not known here."""
        arguments: Arguments | None = self
        while arguments is not None:
            label = arguments._own_label(node)
            if label is not None:
                return label
            arguments = arguments.around
        return None

    def _own_label(self, node: object) -> Label | None:
        """The label of a node of these arguments alone."""
        if self._nodes is None:
            self._nodes = _live_nodes(self._roots, self.graphdef)
        number, _ = self._nodes.get(id(node), (None, None))
        if number is None:
            return None
        label = self._known.get(number)
        if label is None:
            label = self._known[number] = self._new_label(number)
        return label

    def _new_label(self, number: int) -> Label:
        """The label of the node of that number in the graphdef."""
        if self._labels is None:
            self._labels = self._of_roots()
        root, *below = self.graphdef.path(number)
        return self._labels[int(root)].below(tuple(below))


_NODES: Final = "nodes by place"


def _live_nodes(
    roots: Sequence[Any], graphdef: GraphDef[Any]
) -> dict[int, tuple[int, Any]]:
    """The nodes of a graph by their ids: the number of each in the graphdef, and itself, so that its id stays its own.

    For the first call of a method in a trace. What a traced function has taken out of its place
    is left out.
    """
    places = graphdef.plans.to(_NODES, lambda: _node_places(graphdef))
    by_number: dict[int, Any] = {}
    for number, parent, edge in places:
        if parent < 0:
            by_number[number] = roots[int(edge[0])]
        elif parent in by_number:
            try:
                by_number[number] = reach(by_number[parent], edge)
            except (AttributeError, KeyError, IndexError, TypeError):
                continue
    return {id(node): (number, node) for number, node in by_number.items()}


def _node_places(graphdef: GraphDef[Any]) -> list[tuple[int, int, Path]]:
    """The number of each node of a structure, that of the node above it, and the path within that."""
    table = graphdef.table
    rows = zip(table.specs, table.parents, table.edges, strict=True)
    return [
        (number, parent, edge)
        for number, (spec, parent, edge) in enumerate(rows)
        if isinstance(spec, NodeSpec)
    ]


class _Local(threading.local):
    """What is traced in this thread, and who wants to know of calls."""

    arguments: Arguments | None = None
    handlers: tuple[Handler, ...] = ()


_LOCAL: Final = _Local()

# The handlers of all threads. Only whether there are any is asked: a call of what is
# compiled must not cost a look into what is local to a thread.
HANDLERS: Final[list[Handler]] = []


def current_arguments() -> Arguments | None:
    """The arguments of the innermost trace of this thread that one of our transforms runs."""
    return _LOCAL.arguments


def label_of(node: object) -> Label | None:
    """The label of a node in what is traced now; `None` where nothing is, and for a node that is not known."""
    arguments = _LOCAL.arguments
    return None if arguments is None else arguments.label_of(node)


@contextmanager
def tracing(arguments: Arguments) -> Generator[None]:
    """While it is open, calls of methods of these nodes have names, and are told to handlers."""
    before = _LOCAL.arguments
    _LOCAL.arguments = arguments
    try:
        yield
    finally:
        _LOCAL.arguments = before


@contextmanager
def calls_through(handler: Handler) -> Generator[None]:
    """While it is open, each call of a public method of a node goes through a handler, in what this thread traces.

    That is: of a node of the arguments of what one of our transforms traces, and of one inside of these.
    What was traced before is traced again, and not kept. Of nested handlers the outer one sees
    what the inner one gives.
    """
    before = _LOCAL.handlers
    _LOCAL.handlers = (*before, handler)
    HANDLERS.append(handler)
    try:
        yield
    finally:
        _LOCAL.handlers = before
        HANDLERS.remove(handler)


def has_handlers() -> bool:
    """Whether calls go through a handler in this thread: then nothing that is traced is kept."""
    return bool(_LOCAL.handlers)


# Any: whatever a method takes and gives.
def through_handlers(
    label: Label,
    method: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a method, whose node is the first argument, through the handlers of this thread."""
    node, *rest = args
    call = NodeCall(node, method, label.path, label.scope)
    proceed: Proceed = functools.partial(function, node)
    # The last is the innermost, next to the method.
    for handler in reversed(_LOCAL.handlers):
        proceed = functools.partial(_handled, handler, call, proceed)
    return proceed(*rest, **kwargs)


def _handled(
    handler: Handler, call: NodeCall, proceed: Proceed, *args: Any, **kwargs: Any
) -> Any:
    """For `through_handlers`: what one handler makes of a call."""
    return handler(call, proceed, args, kwargs)
