"""The steps that narrow down a selection of nodes: by class, path, condition and State.

A step says which nodes stay, and what a message says where it has found nothing: rules
that match nothing are the most common accident of model surgery.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple

from ._describe import describe
from ._errors import FilterError, FilterTypeError
from ._fields import NodeBase
from ._filters import Filter, Matcher, OfType, PathIn, Under, as_filter
from ._graph._graphdef import GraphDef
from ._hints import bare_class_hint, did_you_mean, similarity, with_hint
from ._inspect import NodeItem
from ._nesting import leaves
from ._paths import Path, path_str
from ._redefinition import distinct_class_name, instance_text
from ._selection import check_class_filters, group_by_filter
from ._split import states
from ._state import State


class Graph(NamedTuple):
    """The graph whose nodes are selected, as it is at one use of a selection.

    Attributes:
        root: Its root.
        graphdef: Its structure.
        items: Its nodes, in canonical order. Steps know them by their numbers here.
    """

    root: object
    graphdef: GraphDef[Any]
    items: Sequence[NodeItem]

    @property
    def name(self) -> str:
        """What messages call the root."""
        return self.graphdef.type.__name__

    def numbers(self, matcher: Matcher) -> Set[int]:
        """The numbers of the nodes that a filter selects."""
        (group,), _ = group_by_filter(
            lambda: self.graphdef.nodes, self.items, (matcher,), "node"
        )
        return set(group)

    def texts(self, numbers: Set[int]) -> list[str]:
        """The paths of some nodes, for messages."""
        return [where(self.items[at]) for at in sorted(numbers)]


def where(item: NodeItem) -> str:
    """The path of a node, for messages."""
    return path_str(item.path) or "the root"


def nodes_text(count: int) -> str:
    """A number of nodes, for messages."""
    return "1 node" if count == 1 else f"{count} nodes"


class Step(abc.ABC):
    """One narrowing of a selection."""

    @property
    @abc.abstractmethod
    def text(self) -> str:
        """How it was written, for messages."""

    @abc.abstractmethod
    def narrow(self, graph: Graph, before: Set[int]) -> Set[int]:
        """The numbers of the nodes that stay, of those that earlier steps have left."""

    @abc.abstractmethod
    def fault(self, graph: Graph, before: Set[int], after: Set[int]) -> str:
        """What the step did not find; empty if it has found something.

        Args:
            graph: The graph.
            before: The nodes that earlier steps have left.
            after: The nodes that stay.
        """


@dataclasses.dataclass(frozen=True)
class OfClass(Step):
    """The step to the nodes of a class, or of any of several."""

    classes: tuple[type[Any], ...]

    @classmethod
    def checked(cls, written: object) -> "OfClass":
        """The step for a class, or for a tuple of classes.

        Raises:
            FilterTypeError: It is something else.
        """
        classes: tuple[object, ...] = (
            written if isinstance(written, tuple) else (written,)
        )
        if not classes or not all(isinstance(part, type) for part in classes):
            text = f"select takes a node class or a tuple of node classes; found {describe(written)}"
            raise FilterTypeError(with_hint(text, bare_class_hint(*classes)))
        matchers = [OfType(part) for part in classes if isinstance(part, type)]
        check_class_filters(
            matchers, State, "nodes by node classes; gn.states selects States"
        )
        return cls(tuple([part for part in classes if isinstance(part, type)]))

    @property
    def text(self) -> str:
        names = ", ".join([cls.__name__ for cls in self.classes])
        return f"of({names})" if len(self.classes) == 1 else f"of(({names}))"

    def narrow(self, graph: Graph, before: Set[int]) -> Set[int]:
        return before & graph.numbers(as_filter(self.classes))

    def fault(self, graph: Graph, before: Set[int], after: Set[int]) -> str:
        if after:
            return ""
        if not before:
            return "there are no nodes"
        others = dict.fromkeys([graph.items[at].cls for at in sorted(before)])
        names = [instance_text(cls, *others) for cls in self.classes]
        others_text = ", ".join(
            dict.fromkeys([distinct_class_name(cls, *self.classes) for cls in others])
        )
        if len(before) == 1:
            return f"the one node, of {others_text}, is not {' or '.join(names)}"
        return f"none of the {nodes_text(len(before))}, of {others_text}, is {' or '.join(names)}"


@dataclasses.dataclass(frozen=True)
class AtPaths(Step):
    """The step to the nodes at some paths (`PathIn`), or also below them (`Under`); or to all others."""

    method: str
    matchers: tuple[Under | PathIn, ...]
    is_outside: bool = False

    @classmethod
    def checked(
        cls,
        method: str,
        matcher: type[Under | PathIn],
        paths: Sequence[Path | str],
        *,
        is_outside: bool = False,
    ) -> "AtPaths":
        """The step for paths as they were written.

        Args:
            method: The method that takes them.
            matcher: The class of the filters.
            paths: The paths.
            is_outside: Whether the nodes there are left out.

        Raises:
            FilterTypeError: There are none, or something is not a path.
            PathError: A text does not parse.
        """
        if not paths:
            raise FilterTypeError(f"{method} takes at least one path")
        for path in paths:
            if isinstance(path, list):
                raise FilterTypeError(
                    f"{method} takes texts and tuples of keys; found {describe(path)}; "
                    f"pass several paths as arguments of their own: {method}(*paths)"
                )
        # One filter for each: every path has to lead to something.
        matchers = tuple([matcher(path, missing_ok=True) for path in paths])
        return cls(method, matchers, is_outside)

    @property
    def text(self) -> str:
        return f"{self.method}({', '.join(map(_path_text, self.matchers))})"

    def narrow(self, graph: Graph, before: Set[int]) -> Set[int]:
        groups = [graph.numbers(matcher) for matcher in self.matchers]
        for matcher, group in zip(self.matchers, groups, strict=True):
            # A mistake whatever count is expected: there is nothing of any class.
            if not group:
                raise FilterError(self._missing_text(graph, matcher))
        there = frozenset[int]().union(*groups)
        return before - there if self.is_outside else before & there

    def fault(self, graph: Graph, before: Set[int], after: Set[int]) -> str:
        for matcher in self.matchers:
            if not before & graph.numbers(matcher):
                nearest = ", ".join(_nearest(matcher.texts[0], graph.texts(before)))
                of_nodes = (
                    "the only node so far is not"
                    if len(before) == 1
                    else f"none of the {nodes_text(len(before))} so far is"
                )
                return f"{of_nodes} {self._where()} {_path_text(matcher)}; the nearest: {nearest}"
        if after:
            return ""
        if len(before) == 1:
            return "the only node so far is there"
        return f"all of the {nodes_text(len(before))} so far are there"

    def _where(self) -> str:
        """How messages call the places of the paths."""
        return "at" if self.method == "at" else "at or below"

    def _missing_text(self, graph: Graph, matcher: Under | PathIn) -> str:
        """What is wrong with a path that leads to no node at all."""
        spellings = graph.graphdef.nodes.spellings(inner=True)
        hint = did_you_mean(matcher.texts[0], spellings)
        text = f"{self.text}: no node of {graph.name} is {self._where()} {_path_text(matcher)}"
        return with_hint(text, hint)


def _path_text(matcher: Under | PathIn) -> str:
    """The one path of a filter, as it is written."""
    return repr(matcher.texts[0])


def _nearest(text: str, paths: Sequence[str]) -> list[str]:
    """The three paths that are most like a text, the nearest first."""
    return sorted(paths, key=lambda path: -similarity(text, path))[:3]


@dataclasses.dataclass(frozen=True)
class Condition(Step):
    """The step to the nodes that a function accepts."""

    # Any: of the class that the selection has there.
    function: Callable[[Any], bool]

    @property
    def text(self) -> str:
        return f"where({getattr(self.function, '__name__', '...')})"

    def narrow(self, graph: Graph, before: Set[int]) -> Set[int]:
        return {at for at in sorted(before) if self._accepts(graph.items[at])}

    def _accepts(self, item: NodeItem) -> bool:
        """Whether the function accepts a node. An error says at which it was raised."""
        try:
            return bool(self.function(item.live))
        except Exception as error:
            error.add_note(f"while {where(item)} was asked for by {self.text}")
            raise

    def fault(self, graph: Graph, before: Set[int], after: Set[int]) -> str:
        return (
            "" if after else _none_of(graph, before, "is accepted", "is not accepted")
        )


@dataclasses.dataclass(frozen=True)
class Holding(Step):
    """The step to the nodes that hold a State which a filter selects, in a field of their own."""

    filter: Filter

    @property
    def text(self) -> str:
        return f"holding({as_filter(self.filter)!r})"

    def narrow(self, graph: Graph, before: Set[int]) -> Set[int]:
        selected = {id(state) for state in states(graph.root, self.filter).values()}
        return {at for at in before if _holds(graph.items[at].live, selected)}

    def fault(self, graph: Graph, before: Set[int], after: Set[int]) -> str:
        return (
            ""
            if after
            else _none_of(graph, before, "holds such a State", "holds no such State")
        )


def _holds(node: NodeBase, states_by_id: Set[int]) -> bool:
    """Whether a node holds one of some States itself, in whatever container."""
    return any(
        id(leaf) in states_by_id
        for value in node.__dict__.values()
        for _, leaf in leaves(value)
    )


def _none_of(graph: Graph, before: Set[int], what: str, negated: str) -> str:
    """For a message: none of the nodes so far is what a step looks for; with the first of their paths.

    Args:
        graph: The graph.
        before: The nodes.
        what: What the step looks for: `is accepted`.
        negated: That it is not so of a single node: `is not accepted`.
    """
    paths = ", ".join(graph.texts(before)[:3])
    if len(before) == 1:
        return f"the only node so far {negated}: {paths}"
    further = f" and {len(before) - 3} more" if len(before) > 3 else ""
    return f"none of the {nodes_text(len(before))} so far {what}: {paths}{further}"
