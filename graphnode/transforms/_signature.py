"""What a call of a transform is apart from values: its signature, and the call site with the function.

    gn.jit(step)(model, x, 3)           args_kwargs = ((model, x, 3), {})
             │                               │
             │                  ┌────────────┴─────────────┐
             │              Signature                 what varies
             │     treedef   ((*, *, *), {})          other leaves [x, 3]
             │     places    (0,): the model          State values (w, b)
             │     graphdef  of [model]
             └──── CallSite("jit", step, signature)

Equal signatures may share one trace. A signature fills in nodes and leaves again
(`Signature.fill`); a call site knows what messages call each of them.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jax.tree_util import DictKey, SequenceKey, keystr

from .._calls import Label
from .._errors import CaptureError
from .._graph._graphdef import GraphDef
from .._paths import Key, Path, as_key, path_str
from ._arguments import Function, Static, StaticContents, positional_name
from ._traits import TRAITS, Traits


class LeafPlace(NamedTuple):
    """Where a leaf stands.

    Attributes:
        leaf: Its number among all leaves.
        other: Its number among those that are not nodes; `None` for a node or State.
    """

    leaf: int
    other: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """All about the arguments of a call but values: equal signatures may share one trace.

    Attributes:
        treedef: Of `(args, kwargs)`.
        places: The numbers, among the leaves, of the nodes and States.
        graphdef: The structure of all nodes, in a list.
        key_paths: Of all leaves, for messages. A treedef does not tell them: it would
            have to build objects of the user's classes, which may refuse what is not an
            argument of theirs.
    """

    treedef: Any
    places: tuple[int, ...]
    graphdef: GraphDef[Any]
    key_paths: tuple[tuple[Any, ...], ...] = dataclasses.field(
        compare=False, repr=False
    )

    def fill(
        self, nodes: Sequence[Any], other_leaves: Sequence[Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the user's function takes them, with these nodes and these other leaves in them."""
        args, kwargs = self.treedef.unflatten(
            all_leaves(self.places, nodes, other_leaves)
        )
        return (
            tuple(map(_unwrapped, args)),
            {name: _unwrapped(arg) for name, arg in kwargs.items()},
        )

    def check_unwritten(
        self,
        transform: str,
        filled: tuple[tuple[Any, ...], dict[str, Any]],
        nodes: Sequence[Any],
        other_leaves: Sequence[Any],
    ) -> None:
        """Raise if a function has written to a list, dict or set that is static, where what it writes is lost.

        Args:
            transform: The name of the transform.
            filled: The arguments, as `fill` has given them to the function.
            nodes: What they were filled with.
            other_leaves: What they were filled with.

        Raises:
            CaptureError: Names all such arguments.
        """
        args, kwargs = self.treedef.unflatten(
            all_leaves(self.places, nodes, other_leaves)
        )
        pairs = [*zip(args, filled[0], strict=True)]
        pairs += [(kwargs[name], filled[1][name]) for name in kwargs]
        names = [
            static.name
            for static, given in pairs
            if isinstance(static, StaticContents) and not static.is_in(given)
        ]
        if names:
            raise CaptureError(
                f"gn.{transform}: the function writes to {', '.join(names)}, which is static, so that what it writes "
                "is lost; return it"
            )

    def owners(self) -> list[int | str]:
        """The argument that each leaf is part of, by position or name: options such as `argnums` speak of arguments."""
        return [
            first.idx if isinstance(first, SequenceKey) else first.key
            for _, first, *_ in self.key_paths
        ]

    def leaf_places(self, arguments: Iterable[int | str]) -> list[list[LeafPlace]]:
        """For what is said of whole arguments, such as which to donate or differentiate: the leaves of each."""
        node_places = set(self.places)
        # The numbers of the leaves that are not nodes, in order.
        following = itertools.count()
        by_owner: dict[int | str, list[LeafPlace]] = {}
        for at, owner in enumerate(self.owners()):
            other = None if at in node_places else next(following)
            by_owner.setdefault(owner, []).append(LeafPlace(at, other))
        return [by_owner.get(argument, []) for argument in arguments]

    def argument_def(self, position: int) -> Any:
        """The treedef of the argument at a position: for `Carry`, what the function of a round must give back."""
        args_def, _ = self.treedef.children()
        return args_def.children()[position]


@dataclasses.dataclass(frozen=True, slots=True)
class CallSite:
    """A user's function under a transform, and the signature of its arguments.

    Attributes:
        transform: The name of the transform, for messages.
        function: The user's function.
        signature: Of its arguments.
    """

    transform: str
    function: Function
    signature: Signature

    @property
    def traits(self) -> Traits:
        """What tells the transform from others."""
        return TRAITS[self.transform]

    def leaf_names(self) -> list[str]:
        """What a message calls each leaf: its parameter, and the path below it."""
        return [
            _argument_name(self.function, key_path)
            for key_path in self.signature.key_paths
        ]

    def other_leaf_names(self) -> list[str]:
        """What a message calls each leaf that is neither a node nor a State."""
        node_places = set(self.signature.places)
        return [
            name for at, name in enumerate(self.leaf_names()) if at not in node_places
        ]

    def state_names(self) -> list[str]:
        """What a message calls each State, in layout order: its argument, and the path below."""
        names, places = self.leaf_names(), self.signature.places
        return [
            _name_below(names[places[int(path[0])]], path)
            for path in self.signature.graphdef.layout.paths()
        ]

    def state_name(self, number: int) -> str:
        """What a message calls the State of that number."""
        return self.path_name(self.signature.graphdef.layout.path(number))

    def path_name(self, path: Path) -> str:
        """What a message calls what stands at a path of the graph of all arguments."""
        if not path:
            return "the arguments"
        return _name_below(self.leaf_names()[self.signature.places[int(path[0])]], path)

    def labels(self) -> list[Label]:
        """What JAX's names call each node or State: its parameter, and the path below; a `self` by its class."""
        graphdef = self.signature.graphdef
        specs, top = graphdef.table.specs, graphdef.table.top
        labels: list[Label] = []
        for root, place in enumerate(self.signature.places):
            group, argument, *below = self.signature.key_paths[place]
            name = _argument_name(self.function, (group, argument))
            if name == "self":
                name = specs[top[root]].cls.__name__
            labels.append(Label(name, ()).below(tuple(map(_path_key, below))))
        return labels

    def statics(self) -> dict[str, Static]:
        """For `gn.explain_retrace`: the static arguments, by name."""
        args_def, kwargs_def = self.signature.treedef.children()
        positional = args_def.children()
        _, keywords = kwargs_def.node_data()
        names = [
            _argument_name(self.function, (SequenceKey(0), SequenceKey(at)))
            for at in range(len(positional))
        ]
        treedefs = [*positional, *kwargs_def.children()]
        statics: dict[str, Static] = {}
        for name, treedef in zip([*names, *keywords], treedefs, strict=True):
            # A static argument is a node of the pytree without children, whose data
            # is itself.
            node_data = treedef.node_data()
            if node_data is not None and node_data[0] is Static:
                statics[name] = node_data[1]
        return statics


def all_leaves(
    places: Sequence[int], nodes: Sequence[Any], other_leaves: Sequence[Any]
) -> list[Any]:
    """All leaves of the arguments, in order, from the nodes at their places and the others."""
    leaves = list(other_leaves)
    for place, node in zip(places, nodes, strict=True):
        # From left to right: each place counts all leaves before it.
        leaves.insert(place, node)
    return leaves


def _name_below(argument: str, path: Path) -> str:
    """The name of an argument with the path below it, which begins after that of the root."""
    below = path_str(path[1:])
    return f"{argument}.{below}" if below else argument


def _path_key(entry: Any) -> Key:
    """A key of a path of JAX's as one of ours; of a pytree of the user's own it may be anything."""
    attributes = [name for name in ("idx", "key", "name") if hasattr(entry, name)]
    value = getattr(entry, attributes[0]) if attributes else entry
    key = as_key(value)
    return str(value) if key is None else key


def _unwrapped(argument: Any) -> Any:
    """An argument as the user's function gets it: a static one without its wrapper."""
    is_static = isinstance(argument, Static | StaticContents)
    return argument.value if is_static else argument


def _argument_name(function: Function, key_path: tuple[Any, ...]) -> str:
    """What a message calls a leaf: its parameter, and the path below it.

    Args:
        function: The user's function.
        key_path: Of the leaf, from `(args, kwargs)` on.
    """
    group, first, *below = key_path
    # In `kwargs`, the second part of the pair.
    if group == SequenceKey(1):
        assert isinstance(first, DictKey)
        return f"{first.key}{keystr(tuple(below))}"
    parameter = positional_name(function, first.idx)
    return f"{parameter}{keystr(tuple(below))}"
