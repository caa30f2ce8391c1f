"""The arguments of a call, apart from what varies: how nodes stand in them, and what messages call them.

Data in: arguments with nodes anywhere in them. Data out: a form, which is hashable, and
fills them in again.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax.tree_util import DictKey, SequenceKey, keystr

from .._arguments import checked_positions
from .._errors import FieldError
from .._graph._graphdef import GraphDef
from .._hints import with_article
from .._paths import Path, path_str
from .._static import GraphObject, StaticValueError, frozen, static_key

Function: TypeAlias = Callable[..., Any]
Values: TypeAlias = tuple[Any, ...]


def name_of(function: Function) -> str:
    """What a message calls a function: a callable object that has no name by its class."""
    return getattr(function, "__name__", type(function).__name__)


class Static:
    """A static argument in the pytree of the arguments: a part of its treedef, compared by type and value.

    Raises:
        FieldError: The value is not hashable, is traced, or holds a node.
    """

    __slots__ = ("_key", "value")

    def __init__(self, name: str, value: Any) -> None:
        if isinstance(value, GraphObject):
            raise FieldError(
                f"the static argument {name} is {with_article(type(value).__name__)}: a node is passed as arrays are"
            )
        try:
            self.value = frozen(value)
            self._key = static_key(self.value)
        except StaticValueError as error:
            raise FieldError(f"the static argument {name}: {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.value)


jax.tree_util.register_static(Static)


class LeafPlace(NamedTuple):
    """Where a leaf stands.

    Attributes:
        leaf: Its number among all leaves.
        rest: Its number among those that are no nodes; `None` for a node or State.
    """

    leaf: int
    rest: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """All about the arguments of a call but values: equal forms may share one trace.

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
        self, nodes: Sequence[Any], rest: Sequence[Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with these nodes and these other leaves in them."""
        args, kwargs = self.treedef.unflatten(placed(self.places, nodes, rest))
        return tuple(map(_unwrapped, args)), {
            name: _unwrapped(arg) for name, arg in kwargs.items()
        }

    def owners(self) -> list[int | str]:
        """The argument that each leaf is part of: its position, or its name."""
        return [
            first.idx if isinstance(first, SequenceKey) else first.key
            for _, first, *_ in self.key_paths
        ]

    def leaf_places(self, positions: Iterable[int]) -> list[list[LeafPlace]]:
        """The leaves of the arguments at some positions, each in order."""
        nodes, following = set(self.places), itertools.count()
        places = [
            LeafPlace(at, None if at in nodes else next(following))
            for at in range(len(self.key_paths))
        ]
        by_owner: dict[int | str, list[LeafPlace]] = {}
        for place, owner in zip(places, self.owners(), strict=True):
            by_owner.setdefault(owner, []).append(place)
        return [by_owner.get(position, []) for position in positions]

    def names(self, function: Function) -> list[str]:
        """How to call each leaf in a message: by its parameter, and the path below it."""
        return [_name(function, key_path) for key_path in self.key_paths]

    def argument_def(self, position: int) -> Any:
        """The treedef of the argument at a position."""
        args_def, _ = self.treedef.children()
        return args_def.children()[position]

    def statics(self, function: Function) -> dict[str, Static]:
        """The static arguments, by name."""
        args_def, kwargs_def = self.treedef.children()
        _, keywords = kwargs_def.node_data()
        names = [
            _name(function, (SequenceKey(0), SequenceKey(at)))
            for at in range(len(args_def.children()))
        ]
        parts = zip(
            [*names, *keywords],
            [*args_def.children(), *kwargs_def.children()],
            strict=True,
        )
        data = [(name, part.node_data()) for name, part in parts]
        return {
            name: node[1]
            for name, node in data
            if node is not None and node[0] is Static
        }

    def where(self, function: Function, path: Path) -> str:
        """The name of what stands at a path of the graph in a message: its argument, and the path below."""
        if not path:
            return "the arguments"
        return _below(self.names(function)[self.places[int(path[0])]], path)

    def state_names(self, function: Function) -> list[str]:
        """The names of all States in a message, in layout order."""
        names = self.names(function)
        return [
            _below(names[self.places[int(path[0])]], path)
            for path in self.graphdef.layout.paths()
        ]

    def rest_names(self, function: Function) -> list[str]:
        """The names of the leaves that are no nodes in a message."""
        places = set(self.places)
        return [
            name for at, name in enumerate(self.names(function)) if at not in places
        ]


def placed(
    places: Sequence[int], nodes: Sequence[Any], rest: Sequence[Any]
) -> list[Any]:
    """All leaves, in order."""
    leaves = list(rest)
    for place, node in zip(places, nodes, strict=True):
        leaves.insert(place, node)
    return leaves


def _below(name: str, path: Path) -> str:
    below = path_str(path[1:])
    return f"{name}.{below}" if below else name


def _unwrapped(argument: Any) -> Any:
    return argument.value if isinstance(argument, Static) else argument


def _name(function: Function, key_path: tuple[Any, ...]) -> str:
    group, first, *below = key_path
    if group == SequenceKey(1):
        assert isinstance(first, DictKey)
        return f"{first.key}{keystr(tuple(below))}"
    position: int = first.idx
    parameters = parameters_of(function)
    positional = positional_names(function)
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
    named = (
        positional[position]
        if position < len(positional)
        else f"{rest}[{position - len(positional)}]"
    )
    return f"{named}{keystr(tuple(below))}"


def parameters_of(function: Function) -> list[inspect.Parameter]:
    """The parameters of a function; none for a builtin that does not tell."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def positional_names(function: Function) -> list[str]:
    """The names of the parameters that can be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        parameter.name
        for parameter in parameters_of(function)
        if parameter.kind in kinds
    ]


def with_statics(
    function: Function,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    argnums: frozenset[int],
    argnames: frozenset[str],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the static ones marked: they become a part of the treedef."""
    names = positional_names(function)
    shown = [names[at] if at < len(names) else str(at) for at in range(len(args))]
    marked = [
        Static(shown[at], arg) if at in argnums else arg for at, arg in enumerate(args)
    ]
    return tuple(marked), {
        name: Static(name, arg) if name in argnames else arg
        for name, arg in kwargs.items()
    }


def named_arguments(
    function: Function,
    offset: int,
    argnums: int | Sequence[int] | None,
    argnames: frozenset[str],
) -> tuple[frozenset[int], frozenset[str]]:
    """The positions and the names of some arguments of a plain function, when either is given.

    Args:
        function: The function.
        offset: How many arguments are bound before the caller's first.
        argnums: The caller's positions; negative ones count from the last parameter.
        argnames: The names.

    Raises:
        ValueError: The function has no such parameters; names all.
    """
    names = positional_names(function)
    # `None` as in JAX
    given = (
        ()
        if argnums is None
        else checked_positions("a position of an argument", argnums)
    )
    placed = {at: at + offset if at >= 0 else len(names) + at for at in given}
    unknown = [
        str(at)
        for at, position in placed.items()
        if not offset <= position < len(names)
    ]
    parameters = parameters_of(function)
    kinds = {parameter.kind for parameter in parameters}
    faults = [] if inspect.Parameter.VAR_POSITIONAL in kinds else unknown
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        faults += sorted(
            map(repr, argnames - {parameter.name for parameter in parameters})
        )
    if faults and parameters:  # a builtin may not tell what it takes
        name, takes = (
            getattr(function, "__name__", repr(function)),
            ", ".join(map(str, parameters)),
        )
        raise ValueError(
            f"{name} has no argument {', '.join(faults)}: it takes ({takes})"
        )
    positions = set(placed.values())
    positions |= {names.index(name) for name in argnames if name in names}
    return frozenset(positions), argnames | {
        names[at] for at in positions if at < len(names)
    }
