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
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, NamedTuple, TypeAlias

from .._errors import TraceError
from .._graph._binding_cache import binding_of_list
from .._graph._graphdef import GraphDef
from .._graph._template import NodeSpec
from .._method_wrappers import original_of
from .._paths import path_str
from .._state import State
from .._static import GraphObject
from ._arguments import Function
from ._content import (
    Content,
    ContentPath,
    Walk,
    class_items,
    content_of,
    content_text,
    is_library,
    is_of,
    is_wrapper,
    module_of,
    mro_of,
)


class Place(NamedTuple):
    """One place that may hold nodes.

    Attributes:
        name: What messages call it.
        key: What tells it from other places.
        read: Gives what it holds. It does not keep the function alive that has it.
        variables: Of a global name the globals; else `None`.
    """

    name: str
    key: Hashable
    read: Callable[[], object]
    variables: dict[str, Any] | None = None


class Identity:
    """A weak reference to a function or class: equal to others of the very same."""

    __slots__ = ("_id", "_ref")

    def __init__(self, value: object) -> None:
        self._id = id(value)
        self._ref = _reference_to(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity) or self._id != other._id:
            return False
        # Not by the references: those of classes ask the metaclass.
        value = self._ref()
        return value is not None and value is other._ref()

    def __hash__(self) -> int:
        return self._id


def _reference_to(value: object) -> Callable[[], object]:
    """What gives an object as long as it lives; it keeps one alive that takes no weak references."""
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


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
        helpers: The classes of the objects that lead there, and functions that lead to
            further places.
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
        # Of the arguments of all looks.
        self._classes: weakref.WeakSet[type] = weakref.WeakSet()

    @classmethod
    def of(
        cls, functions: Sequence[Function], graphdef: GraphDef[Any]
    ) -> "Surroundings":
        """The places around some functions, and around the methods of their arguments, that hold nodes now."""
        surroundings = cls()
        surroundings.look(functions, graphdef)
        return surroundings

    @property
    def is_empty(self) -> bool:
        """Whether there are no places: nearly all functions are given what they use."""
        return not self._view.places

    def look(self, functions: Sequence[Function], graphdef: GraphDef[Any]) -> None:
        """Find the places that hold nodes now; those that held some before stay, as long as they are there.

        Args:
            functions: The functions.
            graphdef: Of the nodes among their arguments, whose methods they may call.
        """
        self._classes.update(_classes_of(graphdef))
        used: frozenset[str] = frozenset()
        # The code of a helper may use attributes of what was looked at before it.
        while True:
            search = _Search(used)
            search.run(functions, list(self._classes))
            if search.names <= used:
                break
            used |= search.names
        leading, to_nodes = search.leading()
        places = {
            place.key: place for place in self._view.places if place.key in search.found
        }
        places |= {
            key: found.place
            for key, found in search.found.items()
            if found.is_open or key in to_nodes
        }
        known = self._view.known
        self._view, _ = _View.of(tuple(places.values()), used, leading, known)

    def held(self) -> Held:
        """What the places hold now."""
        view = self._view
        if not view.places:
            return NOTHING
        parts = view.walk.again([place.read() for place in view.places])
        if parts is None:
            view, parts = _View.of(view.places, view.used, view.leading, view.known)
            # As a whole: another thread may be here, too.
            self._view = view
        helpers = view.classes
        if view.functions:
            helpers = *helpers, *[Identity(parts[at]) for at in view.functions]
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


# Where a function or object stands: the key of its place, and its path.
_Site: TypeAlias = tuple[Hashable, ContentPath]


class _View(NamedTuple):
    """Places, and the form of what they hold.

    Attributes:
        places: The places.
        used: The names of attributes that the code around uses.
        leading: Where functions and objects are that lead to nodes.
        known: The ways to where nodes are, or were before: others may come there.
        walk: The way to these, and to the nodes.
        nodes: The positions of nodes and States among all parts.
        paths: Of these.
        classes: Those of the objects on the way.
        functions: The positions of the functions that lead to other places.
        helper_paths: Where these objects are, then these functions.
    """

    places: tuple[Place, ...]
    used: frozenset[str]
    leading: frozenset[_Site]
    known: frozenset[ContentPath]
    walk: Walk
    nodes: list[int]
    paths: Paths
    classes: tuple[Hashable, ...]
    functions: list[int]
    helper_paths: Paths

    @classmethod
    def of(
        cls,
        places: tuple[Place, ...],
        used: frozenset[str],
        leading: frozenset[_Site],
        known: frozenset[ContentPath],
    ) -> "tuple[_View, list[object]]":
        """A view of places, and all parts of what they hold now that its walk leads by."""
        values = [place.read() for place in places]
        content = content_of(values, [place.name for place in places], used)
        parts = content.parts
        nodes = [at for at, part in enumerate(parts) if is_of(part.value, GraphObject)]
        # Nodes first: what is known of their structure is kept on the first.
        nodes.sort(key=lambda at: isinstance(parts[at].value, State))
        helpers = [
            at
            for at, part in enumerate(parts)
            if (places[part.root].key, part.path) in leading
        ]
        functions = [at for at in helpers if is_of(parts[at].value, FunctionType)]
        on_the_way = content.above([*nodes, *helpers])
        objects = [at for at in content.objects if at in on_the_way]
        # Not without end, where each node comes to a place of its own.
        if len(known) > _MOST_KNOWN:
            known = frozenset()
        known |= {parts[at].path for at in content.above(nodes)}
        earlier = [at for at, part in enumerate(parts) if part.path in known]
        walk = Walk(content, [*nodes, *helpers, *earlier, *_open_parts(content, used)])
        found = walk.again(values)
        # Another thread has changed something since: once more.
        if found is None:
            return cls.of(places, used, leading, known)
        view = cls(
            places,
            used,
            leading,
            known,
            walk,
            [walk.positions[at] for at in nodes],
            Paths([parts[at].path for at in nodes]),
            tuple([Identity(type(parts[at].value)) for at in objects]),
            [walk.positions[at] for at in functions],
            Paths([parts[at].path for at in (*objects, *functions)]),
        )
        return view, found


def _open_parts(content: Content, used: Collection[str]) -> list[int]:
    """Where a node may come, and nothing is: places, items and used attributes that are `None`, or empty containers."""
    return [
        at
        for at, part in enumerate(content.parts)
        if (not part.is_attribute or part.path[-1] in used)
        and (part.value is None or (is_of(part.value, list, dict) and not part.value))
    ]


_MOST_KNOWN: Final = 1000

_NO_VIEW: Final = _View(
    places=(),
    used=frozenset(),
    leading=frozenset(),
    known=frozenset(),
    walk=Walk(content_of([], []), []),
    nodes=[],
    paths=Paths(),
    classes=(),
    functions=[],
    helper_paths=Paths(),
)


class _Around(NamedTuple):
    """A function to look around.

    Attributes:
        function: The function, a method, or another callable object.
        has_globals: Whether to look at the globals that it reads, too: not of functions
            of other modules that stand in a global, of which there are too many.
    """

    function: Any
    has_globals: bool

    @property
    def key(self) -> tuple[int, bool]:
        """What tells it from others."""
        return id(self.function), self.has_globals


class _Found(NamedTuple):
    """What a search found at a place.

    Attributes:
        place: The place.
        has_nodes: Whether there are nodes.
        functions: The keys of functions there, and of methods of what is there, each
            with the path of that.
        is_open: Whether nodes may come there later.
    """

    place: Place
    has_nodes: bool
    functions: list[tuple[ContentPath, tuple[int, bool]]]
    is_open: bool


class _Search:
    """A search for nodes around functions, and around those that these use.

    Attributes:
        used: The names of attributes to look at, where not all are.
        names: The names that the code around uses.
        found: What is at each place, by its key.
    """

    def __init__(self, used: frozenset[str]) -> None:
        self.used: frozenset[str] = used
        self.names: set[str] = set()
        self.found: dict[Hashable, _Found] = {}
        # The places around each function; with the function, so that no other gets its id.
        self._around: dict[tuple[int, bool], tuple[_Around, list[Hashable]]] = {}
        self._todo: list[_Around] = []

    def run(self, functions: Sequence[Function], classes: Sequence[type]) -> None:
        """Look around functions, and around the methods of classes."""
        self._todo += [_Around(function, True) for function in functions]
        for cls in classes:
            self._todo += self._methods(cls)
        while self._todo:
            around = self._todo.pop()
            if around.key not in self._around:
                self._look_around(around)

    def leading(self) -> tuple[frozenset[_Site], set[Hashable]]:
        """What leads to nodes, directly or not: where functions and objects with such methods are, and all places."""
        sites: set[_Site] = set()
        users: dict[Hashable, list[tuple[int, bool]]] = {}
        for key, (_, places) in self._around.items():
            for place in places:
                users.setdefault(place, []).append(key)
        standing: dict[tuple[int, bool], list[_Site]] = {}
        for place, found in self.found.items():
            for path, function in found.functions:
                standing.setdefault(function, []).append((place, path))
        # From places with nodes to the functions around which they are, and on to the
        # places of these.
        todo = [place for place, found in self.found.items() if found.has_nodes]
        reached = set(todo)
        while todo:
            for function in users.get(todo.pop(), ()):
                sites.update(standing.get(function, ()))
                further = {place for place, _ in standing.get(function, ())} - reached
                reached |= further
                todo += further
        return frozenset(sites), reached

    def _look_around(self, around: _Around) -> None:
        """Look at all places around a function."""
        keys: list[Hashable] = []
        self._around[around.key] = around, keys
        function = around.function
        if is_of(function, MethodType):
            self._todo.append(around._replace(function=function.__func__))
        if is_of(function, FunctionType) and not _is_of_library(function):
            self.names.update(*[code.co_names for code in _codes(function)])
        for place in _places_around(function, has_globals=around.has_globals):
            keys.append(place.key)
            if place.key not in self.found:
                self.found[place.key] = self._look_at(place)

    def _look_at(self, place: Place) -> _Found:
        """What is at a place."""
        content = content_of([place.read()], [place.name], self.used)
        objects = set(content.objects)
        functions: list[tuple[ContentPath, _Around]] = []
        has_nodes = False
        for at, part in enumerate(content.parts):
            methods: list[_Around] = []
            if is_of(part.value, FunctionType):
                has_globals = place.variables in (None, part.value.__globals__)
                methods = [_Around(part.value, has_globals)]
            elif is_of(part.value, GraphObject):
                has_nodes = True
                for cls in _classes_below(part.value):
                    methods += self._methods(cls)
            elif is_of(part.value, type) and at in objects:
                # The code around may make objects of it.
                methods = self._methods(part.value)
                methods += self._methods(part.value, "__init__")
            elif at in objects:
                methods = self._methods(type(part.value))
            functions += [(part.path, method) for method in methods]
        self._todo += [function for _, function in functions]
        keys = [(path, function.key) for path, function in functions]
        return _Found(place, has_nodes, keys, bool(_open_parts(content, self.used)))

    def _methods(self, cls: type, name: str | None = None) -> list[_Around]:
        """The methods of a class that the code around uses by name or by an operator; or that of one name."""
        found = [
            _plain(attribute)
            for base in mro_of(cls)
            if not is_library(module_of(base))
            for known, attribute in class_items(base)
            if (self._is_used(known) if name is None else known == name)
        ]
        return [
            _Around(part, True)
            for part in found
            if is_of(part, FunctionType) and not _is_of_library(part)
        ]

    def _is_used(self, name: str) -> bool:
        """Whether the code around may use an attribute of a class."""
        is_operator = name.startswith("__") and name not in vars(object)
        return name in self.used or is_operator


def _classes_of(graphdef: GraphDef[Any]) -> list[type]:
    """The classes of the nodes in a structure."""
    return list({token.cls for token in graphdef.tokens if isinstance(token, NodeSpec)})


def _classes_below(node: Any) -> list[type]:
    """The classes of a node and of those below it; none for one of a trace that has ended."""
    try:
        return _classes_of(binding_of_list([node]).graphdef)
    except TraceError:
        return []


def _places_around(function: Any, *, has_globals: bool) -> Iterator[Place]:
    """The places around a function (Any: of any kind): cells, defaults and globals; of another callable itself."""
    if is_of(function, FunctionType):
        yield from _places_of_function(function, has_globals=has_globals)
    elif is_of(function, MethodType):
        yield Place("self", id(function.__self__), lambda: function.__self__)
    else:
        yield Place("self", id(function), _reference_to(function))


def _places_of_function(
    function: FunctionType, *, has_globals: bool
) -> Iterator[Place]:
    """The places around one function in Python."""
    ref, own = weakref.ref(function), id(function)
    for at, name in enumerate(function.__code__.co_freevars):
        yield Place(name, (own, at), functools.partial(_cell_content, ref, at))
    if function.__defaults__ or function.__kwdefaults__:
        defaults = functools.partial(_defaults, ref)
        yield Place(function.__name__, (own, "defaults"), defaults)
    variables = function.__globals__
    if not has_globals or _is_of_library(function):
        return
    # In the same order at each look.
    for name in sorted(_global_names(function)):
        if name in variables:
            read = functools.partial(variables.get, name)
            yield Place(name, (id(variables), name), read, variables)


def _cell_content(ref: "weakref.ref[FunctionType]", at: int) -> object:
    """What a cell of the closure of a function holds; `None` while it is empty, or the function is gone."""
    function = ref()
    try:
        return function and (function.__closure__ or ())[at].cell_contents
    except ValueError:
        return None


def _defaults(ref: "weakref.ref[FunctionType]") -> object:
    """The defaults of the parameters of a function; `None` if it is gone."""
    function = ref()
    return function and (function.__defaults__, function.__kwdefaults__)


def _is_of_library(function: FunctionType) -> bool:
    """Whether a function is one of a library: around it are nodes in its closure alone."""
    return is_library(function.__globals__.get("__name__"))


def _plain(attribute: object) -> object:
    """The function of a method, a property or the like; any other attribute itself."""
    attribute = original_of(attribute)
    if isinstance(attribute, (staticmethod, classmethod)):
        attribute = attribute.__func__
    elif isinstance(attribute, property):
        attribute = attribute.fget
    elif isinstance(attribute, (functools.cached_property, functools.partialmethod)):
        attribute = attribute.func
    # One may be wrapped around itself.
    for _ in range(_MAX_WRAPPERS):
        # A decorator of the user's own may close over a node.
        is_own = is_of(attribute, FunctionType) and not _is_of_library(attribute)
        if is_own or not is_wrapper(attribute):
            break
        attribute = vars(attribute)["__wrapped__"]
    return attribute


_MAX_WRAPPERS: Final = 16


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
