"""`Choice`: which nodes `capture` and `intervene` are about, among those of a call's arguments.

    "blocks.3", "**.mlp"  a path, or with stars a glob, below the argument that has the node
    "student.blocks.3"    the same after the name of the argument
    nn.Linear             a class; subclasses count
    gn.Under("encoder")   any filter of nodes by class and path
    gn.select(model, ...) the nodes that it selects now, by their paths
    ...                   all

Where a text stands it is a path, as in a mapping by path.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .._calls import Label
from .._declare._node import Node
from .._describe import describe
from .._errors import CaptureError, FilterError, FilterTypeError
from .._filters import Everything, Matcher, Nothing, OfType, PathIn, as_filter
from .._graph._template import NodeSpec
from .._inspect import live_objects, nodes
from .._method_wrappers import is_public
from .._paths import Path, path_str
from .._redefinition import distinct_class_name, instance_text
from ._boundary import Call


class Item(NamedTuple):
    """One thing that selects nodes.

    Attributes:
        text: How it was written, for messages.
        matcher: The filter that it stands for.
    """

    text: str
    matcher: Matcher

    @property
    def is_all(self) -> bool:
        """Whether it selects whatever is called."""
        return isinstance(self.matcher, Everything)


class Place(NamedTuple):
    """A node of the arguments.

    Attributes:
        argument: The name of the argument.
        path: The first path below it.
    """

    argument: str
    path: Path

    @property
    def text(self) -> str:
        """What messages call it: `net.blocks.3`."""
        below = path_str(self.path)
        return f"{self.argument}.{below}" if below else self.argument


def place_of(label: Label) -> Place:
    """The place of a node by its label below the arguments of the function."""
    return Place(label.scope.split(".")[0], label.path)


def items_of(selection: object, function: str) -> tuple[Item, ...]:
    """The items of a selection, each of which has to select something.

    Args:
        selection: As the caller wrote it.
        function: The public function, for messages.

    Raises:
        FilterTypeError: Something in it does not select nodes.
        PathError: A text is not a path.
    """
    items = _items_of(selection, function)
    if not items:
        raise FilterTypeError(
            f"{function}: nothing is selected; found an empty {type(selection).__name__}"
        )
    return items


def _items_of(selection: object, function: str) -> tuple[Item, ...]:
    """For `items_of`: those of a selection, or of a part of one."""
    if isinstance(selection, str):
        return (Item(repr(selection), PathIn(selection)),)
    if isinstance(selection, Iterable) and not isinstance(selection, type):
        parts = [_items_of_part(part, function) for part in selection]
        return tuple([item for items in parts for item in items])
    written: Any = selection  # Any: what is not a filter is refused
    try:
        matcher = as_filter(written)
    except FilterTypeError:
        matcher = None
    if matcher is None or isinstance(matcher, Nothing) or not matcher.is_fixed:
        takes = "paths, globs, node classes, filters by path such as gn.Under, a gn.select(...), or several of these"
        raise FilterTypeError(
            f"{function} selects by {takes}; found {describe(selection)}"
        )
    text = selection.__name__ if isinstance(selection, type) else repr(matcher)
    return (Item(text, matcher),)


def _items_of_part(part: object, function: str) -> tuple[Item, ...]:
    """Those of a part of an iterable: a selection, or a path with its node, as `gn.select` gives them."""
    if isinstance(part, tuple) and len(part) == 2 and isinstance(part[1], Node):
        return (Item(repr(path_str(part[0])), PathIn(part[0])),)
    return _items_of(part, function)


def checked_method(method: object, function: str) -> str:
    """The name of the method whose calls are meant.

    Args:
        method: As the caller wrote it.
        function: The public function, for messages.

    Raises:
        TypeError: It is not a text.
        CaptureError: Calls of it are never seen, as it is private.
    """
    if not isinstance(method, str):
        raise TypeError(
            f"{function}: method is the name of a method; found {describe(method)}"
        )
    if not is_public(method):
        raise CaptureError(
            f"{function}: only calls of public methods and of __call__ are seen; found {method!r}"
        )
    return method


class Choice:
    """The nodes of a call's arguments, and those of them that items select."""

    def __init__(self, call: Call) -> None:
        """Take the nodes of the arguments of a call."""
        roots = call.site.labels()
        graphdef = call.binding.graphdef
        objects = live_objects(call.roots, graphdef) if roots else []
        self.places: dict[int, Place] = {}
        self.classes: dict[Place, type[Any]] = {}
        for number, spec in enumerate(graphdef.table.specs):
            if isinstance(spec, NodeSpec):
                root, *below = graphdef.path(number)
                place = place_of(roots[int(root)].below(tuple(below)))
                self.places[id(objects[number])] = place
                self.classes[place] = spec.cls
        self._arguments = _arguments(call.roots, roots)

    def selected(self, item: Item) -> list[Place]:
        """The nodes that an item selects, in canonical order.

        Raises:
            FilterError: There are none, or paths may begin at arguments and at their names,
                and lead to different nodes.
        """
        if not self._arguments:
            raise FilterError("no argument has a node; pass the model as an argument")
        below = self._places(self._arguments.values(), item)
        # With a single argument its name says nothing: `*` are its own nodes.
        by_name = (
            self._places([self._arguments], item)
            if self.is_named or not below
            else below
        )
        if not below and not by_name:
            raise FilterError(self._missing_text(item))
        if below - by_name and by_name - below:
            raise FilterError(_ambiguous_text(item, below, by_name))
        return [
            place
            for place in self.places.values()
            if place in below or place in by_name
        ]

    @property
    def is_named(self) -> bool:
        """Whether several arguments have nodes, so that a path alone does not say which is meant."""
        return len({place.argument for place in self.places.values()}) > 1

    def _places(self, roots: Iterable[Any], item: Item) -> set[Place]:
        """The nodes that an item selects by paths from some roots on."""
        return {self.places[id(node)] for root in roots for node in _nodes(root, item)}

    def _missing_text(self, item: Item) -> str:
        """What is wrong with an item that selects nothing."""
        root = self._arguments
        try:
            nodes(next(iter(root.values())) if len(root) == 1 else root, item.matcher)
        except FilterError as error:
            return str(error).split("; if that may be")[0]
        if isinstance(item.matcher, OfType):
            return self._no_class_text(item.matcher.classes)
        return f"{item.text} selects none of the nodes"

    def _no_class_text(self, classes: Sequence[type[Any]]) -> str:
        """What is wrong with classes of which no node is."""
        others = dict.fromkeys(self.classes.values())
        names = dict.fromkeys([distinct_class_name(cls, *classes) for cls in others])
        text = " or ".join([instance_text(cls, *others) for cls in classes])
        return f"none of the nodes is {text}; there are {', '.join(names)}"


def _nodes(root: Any, item: Item) -> Iterable[Node]:
    """The nodes of a graph that an item selects; none where its paths lead to nothing."""
    try:
        return nodes(root, item.matcher).values()
    except FilterError:
        return ()


def _ambiguous_text(item: Item, below: set[Place], by_name: set[Place]) -> str:
    """What is wrong with an item that selects other nodes below the arguments than by their names."""
    of_path = min([place.text for place in below - by_name])
    of_name = min([place.text for place in by_name - below])
    return (
        f"{item.text} is {of_path} by its path in an argument, and {of_name} by the name of an argument; "
        f"write {of_path!r} for the first, or give the argument another name"
    )


def _arguments(roots: Sequence[Any], labels: Sequence[Label]) -> Mapping[str, Any]:
    """The arguments that have nodes, by name: the node itself, or dicts that lead to several."""
    arguments: dict[str, Any] = {}
    for root, label in zip(roots, labels, strict=True):
        if isinstance(root, Node):
            *above, last = place_of(label).argument, *label.path
            inner: dict[Any, Any] = arguments
            for key in above:
                inner = inner.setdefault(key, {})
            inner[last] = root
    return arguments
