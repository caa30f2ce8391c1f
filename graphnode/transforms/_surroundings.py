"""Where a function finds nodes that it did not get as arguments.

    def fit(trainer):                 places of `step`
        best = trainer.model            "best"          a cell of its closure
        @gn.jit                         "self.model"    an attribute of the plain object
        def step(x):                                    that a method is bound to
            return best(x) - base(x)    "base"          a global name

What JAX traces reads these nodes at the time of the trace. Their States are inputs of
what is compiled (see `_reads`); but which node stands there, and its structure, are part
of the trace. So the places that held nodes are read at each call, and what they hold is
part of the key of what was compiled.
"""

import functools
import weakref
from collections.abc import Callable, Hashable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

from .._errors import TraceError
from .._graph._binding_cache import binding_of_list
from .._graph._graphdef import GraphDef
from .._paths import path_str
from .._state import State
from .._static import GraphObject
from ._arguments import Function


class Place(NamedTuple):
    """One place that may hold nodes.

    Attributes:
        name: What messages call it.
        holder: What has the place: a cell, the dict of an object or module, or a method.
        read: Gives what it holds.
    """

    name: str
    holder: object
    read: Callable[[], object]

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from other places; the holder lives as long."""
        return self.name, id(self.holder)


class Held(NamedTuple):
    """What the places of a function hold at one time.

    Attributes:
        places: Their names, each as often as there are nodes in it.
        nodes: These nodes and States, in the same order.
        graphdef: Of all of them, in a list; `None` where there are none.
        states: Their States, in layout order.
        helpers: The functions that lead to further places, weakly.
    """

    places: tuple[str, ...] = ()
    nodes: tuple[GraphObject, ...] = ()
    graphdef: GraphDef[Any] | None = None
    states: tuple[State[Any], ...] = ()
    helpers: tuple[Hashable, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """What a trace depends on, beside the values: nodes of equal structure may stand in for each other."""
        return self.places, self.graphdef, self.helpers

    @property
    def context(self) -> Hashable:
        """What JAX's memory of inner functions depends on: it has the very States, not only the structure.

        Never `None`: where nothing is noted, what is captured is a constant, and what
        JAX keeps there is of no use here.
        """
        # Weak: JAX keeps the context with what it traced.
        return self.graphdef, tuple(map(weakref.ref, self.states)), self.helpers

    def state_name(self, number: int) -> str:
        """What a message calls the State of that number."""
        assert self.graphdef is not None
        return self.path_name(self.graphdef.layout.path(number))

    def path_name(self, path: tuple[Any, ...]) -> str:
        """What a message calls what stands at a path of the graph of all nodes."""
        if not path:
            return "what the function closes over"
        below = path_str(path[1:])
        place = self.places[int(path[0])]
        return f"{place}.{below}" if below else place


NOTHING: Final = Held()


class Surroundings:
    """The places around one function that held nodes when it was traced.

    Attributes:
        places: These places.
    """

    def __init__(self) -> None:
        """Begin without places: `look` finds them."""
        self.places: tuple[Place, ...] = ()
        # Those of functions that lead to others of the places.
        self._helpers: tuple[Place, ...] = ()

    @classmethod
    def of(cls, *functions: Function) -> "Surroundings":
        """The places around some functions that hold nodes now."""
        surroundings = cls()
        surroundings.look(*functions)
        return surroundings

    def look(self, *functions: Function) -> None:
        """Find the places that hold nodes now; those that held some before stay, as long as they are there."""
        search = _Search()
        for function in functions:
            search.look_from(function)
        places = {
            place.key: place for place in self.places if place.key in search.seen_places
        }
        places |= {place.key: place for place in search.places}
        self.places, self._helpers = tuple(places.values()), tuple(search.helpers)

    def held(self) -> Held:
        """What the places hold now."""
        # Nearly all functions: what they use is given to them.
        if not self.places:
            return NOTHING
        pairs = [
            (place.name, node)
            for place in self.places
            for node in nodes_in(place.read())
        ]
        helpers = [
            weakref.ref(function)
            for place in self._helpers
            for function in _functions_in(place.read())
        ]
        try:
            held = _held_of(pairs)
        except TraceError:
            # Left there by a trace that has ended: no function can read it.
            held = _held_of([pair for pair in pairs if _is_alive(pair[1])])
        return held._replace(helpers=tuple(helpers)) if helpers else held


def _held_of(pairs: list[tuple[str, GraphObject]]) -> Held:
    """What places hold, from their names and the nodes there."""
    if not pairs:
        return NOTHING
    # Nodes first: what is known of their structure is kept on the first.
    pairs.sort(key=lambda pair: isinstance(pair[1], State))
    names, nodes = zip(*pairs, strict=True)
    binding = binding_of_list(list(nodes))
    return Held(names, nodes, binding.graphdef, binding.states)


def _is_alive(node: GraphObject) -> bool:
    """Whether a node is not one of a trace that has ended."""
    try:
        binding_of_list([node])
    except TraceError:
        return False
    return True


def nodes_in(value: object) -> list[GraphObject]:
    """The nodes and States that a value is, or has in its lists, tuples and dicts."""
    return [part for part in _parts_of(value) if isinstance(part, GraphObject)]


def _parts_of(value: object) -> Iterator[object]:
    """What a value has in its lists, tuples and dicts, in order; any other value itself.

    Not as JAX would flatten it: any object may stand around a function, and some pytrees
    raise. Of long lists, such as a log of losses, none is looked into.
    """
    seen: set[int] = set()
    todo = [value]
    while todo:
        part = todo.pop()
        if not isinstance(part, (list, tuple, dict)):
            yield part
        elif id(part) not in seen:
            seen.add(id(part))
            if len(part) <= _MAX_ITEMS:
                items = part.values() if isinstance(part, dict) else part
                # Reversed, as the last is taken first.
                todo += reversed(list(items))


_MAX_ITEMS: Final = 1000


class _Search:
    """A search for nodes around functions, and around those of their closures and their module.

    Attributes:
        places: The places that hold nodes.
        helpers: The places of functions that lead to some of these.
        seen_places: The keys of all places that there are.
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.helpers: list[Place] = []
        self.seen_places: set[tuple[str, int]] = set()
        self._seen: set[int] = set()
        self._module: object = None

    def look_from(self, function: Function) -> None:
        """Look around a function; of the functions that its module has, around those that are defined there."""
        self._module = getattr(_plain(function), "__globals__", None)
        self._look(function)

    def _look(self, function: object) -> bool:
        """Look around a function; returns whether there were nodes, or functions with nodes around them."""
        part = _plain(function)
        if id(part) in self._seen:
            return False
        self._seen.add(id(part))
        count = len(self.places)
        for place in _candidates(part):
            self._look_at(place)
        if isinstance(part, MethodType):
            self._look(part.__func__)
        return len(self.places) > count

    def _look_at(self, place: Place) -> None:
        """Take a place if it holds nodes, or go on from the functions that it holds."""
        self.seen_places.add(place.key)
        value = place.read()
        functions = _functions_in(value)
        if nodes_in(value):
            self.places.append(place)
        elif not functions:
            for attribute in _attributes(place.name, place.read):
                self.seen_places.add(attribute.key)
                if nodes_in(attribute.read()):
                    self.places.append(attribute)
        # Of other modules there are too many, such as all of JAX.
        followed = [
            function
            for function in functions
            if place.holder is not self._module
            or getattr(function, "__globals__", None) is self._module
        ]
        if any([self._look(function) for function in followed]):
            self.helpers.append(place)


def _functions_in(value: object) -> list[FunctionType | MethodType]:
    """The functions and methods that a value is, or has in its lists, tuples and dicts, without wrappers."""
    parts = [_plain(part) for part in _parts_of(value)]
    return [part for part in parts if isinstance(part, FunctionType | MethodType)]


def _plain(part: object) -> object:
    """A function without what is wrapped around it, such as a decorator or another `jit`; any other object as it is."""
    for _ in range(_MAX_WRAPPERS):
        if isinstance(part, functools.partial):
            part = part.func
        elif isinstance(part, FunctionType | MethodType) or not callable(part):
            break
        else:
            part = getattr(part, "__wrapped__", part)
    return part


# An object may answer for any attribute, and give itself or another of its kind.
_MAX_WRAPPERS: Final = 16


def _candidates(part: object) -> Iterator[Place]:
    """All places of one function: its self or the attributes of that, the cells of its closure, its globals."""
    if isinstance(part, MethodType):
        owner = part.__self__
        if isinstance(owner, GraphObject):
            yield Place("self", part, lambda: owner)
        else:
            yield from _attributes("self", lambda: owner)
    if not isinstance(part, FunctionType):
        return
    cells = part.__closure__ or ()
    for name, cell in zip(part.__code__.co_freevars, cells, strict=True):
        yield Place(name, cell, functools.partial(_cell_content, cell))
    variables = part.__globals__
    # In the same order at each look.
    for name in sorted(_global_names(part.__code__)):
        if name in variables:
            yield Place(name, variables, functools.partial(variables.get, name))


def _attributes(name: str, read: Callable[[], object]) -> Iterator[Place]:
    """The attributes of a plain object, such as a trainer.

    Args:
        name: What messages call the object.
        read: Gives the object: another one may stand in its place later.
    """
    owner = read()
    # Modules and classes hold much, and change rarely.
    is_plain = not isinstance(owner, type | ModuleType | FunctionType | GraphObject)
    variables = getattr(owner, "__dict__", None)
    if is_plain and isinstance(variables, dict):
        for attribute in list(variables):
            read_now = functools.partial(_attribute_content, read, attribute)
            yield Place(f"{name}.{attribute}", variables, read_now)


def _attribute_content(read: Callable[[], object], attribute: str) -> object:
    """What an attribute of a plain object holds; `None` while it is not there."""
    variables = getattr(read(), "__dict__", None)
    return variables.get(attribute) if isinstance(variables, dict) else None


def _cell_content(cell: Any) -> object:
    """What a cell of a closure holds; `None` while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _global_names(code: CodeType) -> set[str]:
    """The names that a function, and those that are defined in it, may look up among the globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names
