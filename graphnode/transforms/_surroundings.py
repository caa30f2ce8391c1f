"""Where a function finds nodes that it did not get as arguments.

    def fit(trainer):                 places of `step`
        best = trainer.model            best            a cell of its closure
        @gn.jit                         trainer         another, and in it trainer.model
        def step(x):                    base            a global name
            return best(x) - base(x) + trainer.model(x)

What JAX traces reads these nodes at the time of the trace. Their States are inputs of
what is compiled (see `_reads`); but which node stands where, and its structure, are part
of the trace. So the places are read at each call, and what they hold is part of the key
of what was compiled: the paths of the nodes, their graphdef, and the functions and
classes that lead to further places.

    Surroundings.look      before a trace: which places hold nodes, or may hold some later
    Surroundings.held      at each call: what these hold now
"""

import dis
import functools
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, NamedTuple, TypeAlias

from .._errors import TraceError
from .._graph._binding_cache import binding_of_list
from .._graph._graphdef import GraphDef
from .._paths import path_str
from .._state import State
from .._static import GraphObject
from ._arguments import Function
from ._content import ContentPath, Walk, content_text, is_library, is_of, is_wrapper

# The name of a place, and the id of what has it.
_PlaceKey: TypeAlias = tuple[str, int]


class Place(NamedTuple):
    """One place that may hold nodes.

    Attributes:
        name: What messages call it.
        holder: What has the place: a cell, the dict of a module, or a method.
        read: Gives what it holds.
    """

    name: str
    holder: object
    read: Callable[[], object]

    @property
    def key(self) -> _PlaceKey:
        """What tells it from other places; the holder lives as long."""
        return self.name, id(self.holder)

    @property
    def is_global(self) -> bool:
        """Whether it is a global name."""
        return isinstance(self.holder, dict)


class Paths(tuple[ContentPath, ...]):
    """Where nodes stand: a tuple, which is hashed at each call, and so once."""

    def __hash__(self) -> int:
        known: int | None = self.__dict__.get("known")
        if known is None:
            known = self.__dict__["known"] = super().__hash__()
        return known


class Held(NamedTuple):
    """What the places of a function hold at one time.

    Attributes:
        paths: Where the nodes stand.
        nodes: The nodes and States there, in the same order.
        graphdef: Of all of them, in a list; `None` where there are none.
        states: Their States, in layout order.
        helpers: The functions that lead to further places and the classes of the objects
            there, each weakly.
        helper_paths: Where these stand.
    """

    paths: Paths = Paths()
    nodes: tuple[GraphObject, ...] = ()
    graphdef: GraphDef[Any] | None = None
    states: tuple[State[Any], ...] = ()
    helpers: tuple[Hashable, ...] = ()
    helper_paths: Paths = Paths()

    @property
    def key(self) -> tuple[object, ...]:
        """What a trace depends on, beside the values: nodes of equal structure may stand in for each other."""
        return self.paths, self.graphdef, self.helper_paths, self.helpers

    @property
    def context(self) -> Hashable:
        """What JAX's memory of inner functions depends on: it has the very States, not only the structure.

        Never `None`: where nothing is noted, what is captured is a constant, and what
        JAX keeps there is of no use here.
        """
        # Weak: JAX keeps the context with what it traced.
        return self.graphdef, tuple(map(weakref.ref, self.states)), self.helpers

    @property
    def names(self) -> list[str]:
        """What messages call the nodes."""
        return [content_text(path) for path in self.paths]

    def state_name(self, number: int) -> str:
        """What a message calls the State of that number."""
        assert self.graphdef is not None
        return self.path_name(self.graphdef.layout.path(number))

    def path_name(self, path: tuple[Any, ...]) -> str:
        """What a message calls what stands at a path of the graph of all nodes."""
        if not path:
            return "what the function closes over"
        below = path_str(path[1:])
        name = content_text(self.paths[int(path[0])])
        return f"{name}.{below}" if below else name


NOTHING: Final = Held()


class Surroundings:
    """The places around one function that held nodes when it was traced, or may hold some later."""

    def __init__(self) -> None:
        """Begin without places: `look` finds them."""
        self._view: _View = _NO_VIEW

    @classmethod
    def of(cls, *functions: Function) -> "Surroundings":
        """The places around some functions that hold nodes now."""
        surroundings = cls()
        surroundings.look(*functions)
        return surroundings

    @property
    def is_empty(self) -> bool:
        """Whether there are no places: nearly all functions are given what they use."""
        return not self._view.places

    def look(self, *functions: Function) -> None:
        """Find the places that hold nodes now; those that held some before stay, as long as they are there."""
        search = _Search(frozenset())
        # The code of a helper may use attributes of what was looked at before it.
        while True:
            for function in functions:
                search.look_from(function)
            if search.names <= search.used:
                break
            search = _Search(search.used | search.names)
        places = {
            place.key: place
            for place in self._view.places
            if place.key in search.seen_places
        }
        places |= {place.key: place for place in search.places}
        leading = frozenset(search.leading)
        self._view, _ = _View.of(tuple(places.values()), search.used, leading)

    def held(self) -> Held:
        """What the places hold now."""
        view = self._view
        if not view.places:
            return NOTHING
        parts = view.walk.again([place.read() for place in view.places])
        if parts is None:
            view, parts = view.renewed()
            # As a whole: another thread may be here, too.
            self._view = view
        helpers = view.classes
        if view.functions:
            helpers = *helpers, *[weakref.ref(parts[at]) for at in view.functions]
        nodes: list[Any] = [parts[at] for at in view.nodes]
        try:
            held = _held_of(view.paths, nodes)
        except TraceError:
            # Left there by a trace that has ended: no function can read it.
            alive = [at for at, node in enumerate(nodes) if _is_alive(node)]
            paths = Paths([view.paths[at] for at in alive])
            held = _held_of(paths, [nodes[at] for at in alive])
        if helpers:
            return held._replace(helpers=helpers, helper_paths=view.helper_paths)
        return held


def _held_of(paths: Paths, nodes: list[Any]) -> Held:
    """What places hold, from the nodes there and where they stand."""
    if not nodes:
        return NOTHING
    binding = binding_of_list(nodes)
    return Held(paths, tuple(nodes), binding.graphdef, binding.states)


def _is_alive(node: GraphObject) -> bool:
    """Whether a node is not one of a trace that has ended."""
    try:
        binding_of_list([node])
    except TraceError:
        return False
    return True


class _View(NamedTuple):
    """Places, and the form of what they hold.

    Attributes:
        places: The places.
        used: The names of attributes that the code around uses.
        leading: The keys of the places whose functions lead to others.
        walk: The form of what they hold.
        nodes: The positions of nodes and States among all parts.
        paths: Of these.
        classes: The classes of the objects, weakly.
        functions: The positions of the functions that lead to other places.
        helper_paths: Where these objects are, then these functions.
    """

    places: tuple[Place, ...] = ()
    used: frozenset[str] = frozenset()
    leading: frozenset[_PlaceKey] = frozenset()
    walk: Walk = Walk()
    nodes: tuple[int, ...] = ()
    paths: Paths = Paths()
    classes: tuple[Hashable, ...] = ()
    functions: tuple[int, ...] = ()
    helper_paths: Paths = Paths()

    @classmethod
    def of(
        cls,
        places: tuple[Place, ...],
        used: frozenset[str],
        leading: frozenset[_PlaceKey],
    ) -> "tuple[_View, list[object]]":
        """A view of places, and all parts of what they hold now."""
        values = [place.read() for place in places]
        walk, parts = Walk.of(values, [place.name for place in places], used)
        nodes = [at for at, part in enumerate(parts) if is_of(part, GraphObject)]
        # Nodes first: what is known of their structure is kept on the first.
        nodes.sort(key=lambda at: isinstance(parts[at], State))
        functions = [
            at
            for at, part in enumerate(parts)
            if is_of(part, FunctionType) and places[walk.roots[at]].key in leading
        ]
        classes = [weakref.ref(type(parts[at])) for at in walk.objects]
        view = cls(
            places,
            used,
            leading,
            walk,
            tuple(nodes),
            Paths([walk.paths[at] for at in nodes]),
            tuple(classes),
            tuple(functions),
            Paths([walk.paths[at] for at in (*walk.objects, *functions)]),
        )
        return view, parts

    def renewed(self) -> "tuple[_View, list[object]]":
        """The same places, where they hold something of another form, and all parts of it."""
        return _View.of(self.places, self.used, self.leading)


_NO_VIEW: Final = _View()


class _Search:
    """A search for nodes around functions, and around those that these use.

    Attributes:
        used: The names of attributes to look at, where not all are.
        names: The names that the code around uses.
        places: The places that hold nodes, or may hold some later.
        leading: The keys of those with functions or objects around which there are more.
        seen_places: The keys of all places that there are.
    """

    def __init__(self, used: frozenset[str]) -> None:
        self.used: frozenset[str] = used
        self.names: set[str] = set()
        self.places: list[Place] = []
        self.leading: set[_PlaceKey] = set()
        self.seen_places: set[_PlaceKey] = set()
        # With what it is of, so that nothing else gets its id.
        self._found: dict[int, tuple[object, bool]] = {}

    def look_from(self, function: Function) -> bool:
        """Look around a function; returns whether nodes were found."""
        known = self._found.get(id(function))
        if known is not None:
            return known[1]
        self._found[id(function)] = function, False
        found = any([self._look_at(place) for place in self._places_of(function)])
        if isinstance(function, MethodType):
            found |= self.look_from(function.__func__)
        self._found[id(function)] = function, found
        return found

    def _places_of(self, function: object) -> Iterator[Place]:
        """The places around one function: cells of its closure, globals and defaults; of another callable itself."""
        if isinstance(function, MethodType):
            yield Place("self", function, lambda: function.__self__)
        elif isinstance(function, FunctionType):
            if not _is_of_library(function):
                self.names.update(*[code.co_names for code in _codes(function)])
            yield from _places_of_function(function)
        else:
            yield Place("self", function, lambda: function)

    def _look_at(self, place: Place) -> bool:
        """Take a place if it holds nodes, or functions around which there are some, or may do so later."""
        self.seen_places.add(place.key)
        walk, parts = Walk.of([place.read()], [place.name], self.used)
        leads = any(
            [self.look_from(part) for part in self._functions(place, walk, parts)]
        )
        if leads:
            self.leading.add(place.key)
        found = leads or any([is_of(part, GraphObject) for part in parts])
        if found or self._is_open(walk, parts):
            self.places.append(place)
        return found

    def _functions(
        self, place: Place, walk: Walk, parts: Sequence[object]
    ) -> list[FunctionType]:
        """The functions and methods that the code around may call of what a place holds."""
        functions = [part for part in parts if is_of(part, FunctionType)]
        for at, part in enumerate(parts):
            if is_of(part, GraphObject) or at in walk.objects:
                functions += self._methods(part)
        # Of other modules there are too many.
        if place.is_global:
            return [part for part in functions if part.__globals__ is place.holder]
        return functions

    def _methods(self, part: object) -> list[FunctionType]:
        """The methods of an object, or of a class, that the code around uses by name or by an operator."""
        is_class = is_of(part, type)
        classes = part.__mro__ if is_of(part, type) else type(part).__mro__
        found = [
            _plain(attribute)
            for base in classes
            if not is_library(base.__module__)
            for name, attribute in list(vars(base).items())
            if name in self.used
            or (name.startswith("__") and name not in vars(object))
            or (name == "__init__" and is_class)
        ]
        return [
            part
            for part in found
            if isinstance(part, FunctionType) and not _is_of_library(part)
        ]

    def _is_open(self, walk: Walk, parts: Sequence[object]) -> bool:
        """Whether a node may come where there is nothing: at a place, in an empty container, in an attribute in use."""
        return any(
            [
                part is None or (is_of(part, list, dict) and not part)
                for part, path in zip(parts, walk.paths, strict=True)
                if len(path) == 1 or path[-1] in self.used
            ]
        )


def _places_of_function(function: FunctionType) -> Iterator[Place]:
    """The places around one function in Python."""
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        yield Place(name, cell, functools.partial(_cell_content, cell))
    defaults = function.__defaults__, function.__kwdefaults__
    if any(defaults):
        name = function.__name__
        yield Place(
            name, function, lambda: (function.__defaults__, function.__kwdefaults__)
        )
    variables = function.__globals__
    if _is_of_library(function):
        return
    # In the same order at each look.
    for name in sorted(_global_names(function)):
        if name in variables:
            yield Place(name, variables, functools.partial(variables.get, name))


def _is_of_library(function: FunctionType) -> bool:
    """Whether a function is one of JAX's or of graphnode's: around it are nodes in its closure alone."""
    return is_library(function.__globals__.get("__name__"))


def _plain(attribute: object) -> object:
    """The function of a method, a property or the like; any other attribute itself."""
    if isinstance(attribute, (staticmethod, classmethod)):
        attribute = attribute.__func__
    elif isinstance(attribute, property):
        attribute = attribute.fget
    elif isinstance(attribute, (functools.cached_property, functools.partialmethod)):
        attribute = attribute.func
    # One may be wrapped around itself.
    for _ in range(_MAX_WRAPPERS):
        # A decorator of the user's own may close over a node.
        is_own = isinstance(attribute, FunctionType) and not _is_of_library(attribute)
        if is_own or not is_wrapper(attribute):
            break
        attribute = vars(attribute)["__wrapped__"]
    return attribute


_MAX_WRAPPERS: Final = 16


def _cell_content(cell: Any) -> object:
    """What a cell of a closure holds; `None` while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _codes(function: FunctionType) -> list[CodeType]:
    """The code of a function, and of the functions that are defined in it."""
    codes = [function.__code__]
    # It grows on the way.
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
    return codes


def _global_names(function: FunctionType) -> set[str]:
    """The names of globals that the code of a function reads: `co_names` has attributes, too."""
    return {
        instruction.argval
        for code in _codes(function)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
