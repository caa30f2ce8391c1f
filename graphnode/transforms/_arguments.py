"""The parameters of a user's function: their names and positions, and arguments that are static.

`argnums` and `argnames` of a transform are checked here against the function, and static
arguments are wrapped, so that JAX keeps them in the treedef of the arguments.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any, Final, NamedTuple, TypeAlias

import jax

from .._arguments import checked_positions
from .._errors import FieldError
from .._hints import with_article
from .._static import GraphObject, StaticValueError, frozen, static_key

Function: TypeAlias = Callable[..., Any]
Values: TypeAlias = tuple[Any, ...]


def name_of(function: Function) -> str:
    """What a message calls a function: a partial by what it calls, another object that has no name by its class."""
    while isinstance(function, functools.partial) and not hasattr(function, "__name__"):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def code_of(function: Function) -> CodeType | None:
    """The code of a function, below what is wrapped around it; `None` where there is none, as for a builtin."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        target = inspect.unwrap(function)
    # Wrapped around itself
    except ValueError:
        return None
    code = getattr(target, "__code__", None)
    return code if isinstance(code, CodeType) else None


def show_as(run: Function, function: Function) -> None:
    """Have JAX, and so profiles and compiler logs, call a function that runs a user's function by the name of that.

    Its messages have the file and line of the user's function, too.
    """
    assert isinstance(run, FunctionType)
    run.__name__ = run.__qualname__ = name_of(function)
    code = code_of(function)
    if code is not None:
        # JAX asks what stands below all wrappers for name and code. Not the function
        # itself: JAX may keep `run` for longer. The parameters stay those of `run`.
        run.__dict__["__signature__"] = inspect.signature(run)
        run.__dict__["__wrapped__"] = SimpleNamespace(
            __name__=run.__name__, __code__=code
        )


class Static:
    """A static argument in the pytree of the arguments: a part of its treedef, compared by type and value.

    Raises:
        FieldError: The value is not hashable, is traced, or holds a node.
    """

    __slots__ = ("_key", "value")

    def __init__(self, name: str, value: Any) -> None:
        """Take a static argument; `name` is what messages call it."""
        if isinstance(value, GraphObject):
            raise FieldError(
                f"the static argument {name} is {with_article(type(value).__name__)}: a node is passed as arrays are"
            )
        try:
            self.value = frozen(value)
            # By type and value: `1`, `1.0` and `True` are equal to Python, and trace
            # differently.
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

# For what can be written to, what has the same contents and cannot.
_READ_ONLY: Final[Mapping[type[Any], type[Any]]] = {set: frozenset, bytearray: bytes}


class StaticContents:
    """A list, dict or set of static values as a static argument, compared by its contents and their order.

    Attributes:
        name: What messages call it.

    Raises:
        FieldError: There is a value in it that cannot be one.
    """

    __slots__ = ("_contents", "name")

    def __init__(self, name: str, container: Any) -> None:
        """Take a container; `name` is what messages call it."""
        self.name = name
        self._contents = _contents_of(name, container, ())

    @property
    def value(self) -> Any:
        """A new container with these contents."""
        return _container_of(self._contents)

    def is_in(self, container: Any) -> bool:
        """Whether a container, such as the one that a function has got, has these contents still."""
        try:
            return _contents_of(self.name, container, ()) == self._contents
        except FieldError:
            return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StaticContents) and self._contents == other._contents

    def __hash__(self) -> int:
        return hash(self._contents)

    def __repr__(self) -> str:
        return repr(self.value)


class _Contents(NamedTuple):
    """What is in a container.

    Attributes:
        cls: The class of the container.
        parts: The contents of each item, or the container as one that cannot be written to.
        keys: The keys of a dict.
    """

    cls: type[Any]
    parts: "tuple[_Contents | Static, ...]"
    keys: tuple[Static, ...] = ()


def _contents_of(
    name: str, value: Any, around: tuple[int, ...]
) -> "_Contents | Static":
    """The contents of a container; what is none is static in itself.

    Args:
        name: What messages call it.
        value: The container, or a value in one.
        around: The ids of the containers that it is in.

    Raises:
        FieldError: There is a value that cannot be static, or a container in itself.
    """
    cls = type(value)
    if cls in _READ_ONLY:
        return _Contents(cls, (Static(name, _READ_ONLY[cls](value)),))
    if cls not in (list, tuple, dict):
        return Static(name, value)
    if id(value) in around:
        raise FieldError(f"the static argument {name}: a {cls.__name__} is in itself")
    keys = tuple([Static(name, key) for key in value]) if cls is dict else ()
    items = value.values() if cls is dict else value
    inner = (*around, id(value))
    return _Contents(
        cls, tuple([_contents_of(name, item, inner) for item in items]), keys
    )


def _container_of(contents: "_Contents | Static") -> Any:
    """The inverse of `_contents_of`: a new container, which the function may keep."""
    if isinstance(contents, Static):
        return contents.value
    items = map(_container_of, contents.parts)
    if contents.cls in _READ_ONLY:
        return contents.cls(next(items))
    if contents.cls is dict:
        return {key.value: item for key, item in zip(contents.keys, items, strict=True)}
    return contents.cls(items)


jax.tree_util.register_static(StaticContents)


class BoundFirst:
    """A function whose first arguments are nodes that its caller does not pass; its signature is that of the caller.

    Attributes:
        function: What it calls.
        bound_names: What messages call these arguments.
        fills: The functions that it makes other arguments with.
    """

    fills: Sequence[Callable[..., Any]] = ()

    # In slots, as `functools.wraps` hands on what is in the `__dict__`
    __slots__ = ("__dict__", "__signature__", "__weakref__", "bound_names", "function")

    def __init__(
        self,
        function: Function,
        bound_names: tuple[str, ...],
        signature: inspect.Signature,
    ) -> None:
        # With the name of the function, and as something that is wrapped around it
        functools.update_wrapper(self, function, updated=())
        self.__name__ = name_of(function)
        self.function = function
        self.bound_names = bound_names
        self.__signature__ = signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, with the nodes first."""
        raise NotImplementedError  # pragma: no cover  # each class defines it


def bound_names(function: Function) -> tuple[str, ...]:
    """What messages call the nodes that a function, or what a transform made of it, takes before all else."""
    try:
        target = inspect.unwrap(
            function, stop=lambda part: isinstance(part, BoundFirst)
        )
    # Wrapped around itself
    except ValueError:
        return ()
    return target.bound_names if isinstance(target, BoundFirst) else ()


def parameters_of(function: Function) -> list[inspect.Parameter]:
    """The parameters of a function, to check `argnums` and name leaves by; none for a builtin that does not tell."""
    try:
        return list(inspect.signature(function).parameters.values())
    # What `inspect.signature` raises for builtins of C.
    except (TypeError, ValueError):
        return []


def positional_names(function: Function) -> list[str]:
    """The names of the parameters that can be given by position: what the positions of arguments are called."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [
        parameter.name
        for parameter in parameters_of(function)
        if parameter.kind in kinds
    ]
    return [*bound_names(function), *names]


def positional_name(function: Function, position: int) -> str:
    """What messages call the argument at a position: its parameter, or an item of `*args`."""
    names = positional_names(function)
    if position < len(names):
        return names[position]
    # Beyond the parameters with a name: an item of `*args`, whatever that is called
    # here.
    variadic = [p.name for p in parameters_of(function) if p.kind is p.VAR_POSITIONAL]
    return f"{variadic[0] if variadic else 'args'}[{position - len(names)}]"


def with_statics(
    function: Function,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    argnums: frozenset[int],
    argnames: frozenset[str],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the static ones marked: part of the treedef, so that another value is another trace."""
    names = positional_names(function)
    marked = list(args)
    for at in sorted(argnums.intersection(range(len(args)))):
        # By position for what `*args` takes
        marked[at] = Static(names[at] if at < len(names) else str(at), args[at])
    marked_kwargs = dict(kwargs)
    for name in sorted(argnames.intersection(kwargs)):
        marked_kwargs[name] = Static(name, kwargs[name])
    return tuple(marked), marked_kwargs


def named_arguments(
    function: Function,
    offset: int,
    argnums: int | Sequence[int] | None,
    argnames: frozenset[str],
) -> tuple[frozenset[int], frozenset[str]]:
    """The positions and the names of some arguments of a plain function, when either is given.

    For options such as `static_argnums` and `donate_argnames`: a call may give the same
    argument by position or by name, and it is meant either way.

    Args:
        function: The function.
        offset: How many arguments are bound before the caller's first.
        argnums: The caller's positions; negative ones count from the last parameter.
        argnames: The names.

    Raises:
        ValueError: The function has no such parameters; names all.
    """
    names = positional_names(function)
    positions: set[int] = set()
    unknown: list[str] = []
    if argnums is not None:  # `None` as in JAX
        for at in checked_positions("a position of an argument", argnums):
            position = at + offset if at >= 0 else len(names) + at
            positions.add(position)
            # Perhaps for `*args`, which `_check_known` knows.
            if not offset <= position < len(names):
                unknown.append(str(at))
    # Before names become positions: a message is to have them as the caller wrote them.
    _check_known(function, list(dict.fromkeys(unknown)), argnames)
    # An argument that can be given both ways is named both ways.
    positions |= {at for at, name in enumerate(names) if name in argnames}
    argnames |= {names[position] for position in positions if position < len(names)}
    return frozenset(positions), argnames


def _check_known(
    function: Function, unknown: list[str], argnames: frozenset[str]
) -> None:
    """Raise if there are unknown positions that `*args` does not take, or unknown names that `**kwargs` does not."""
    parameters = parameters_of(function)
    if not parameters:
        return  # a builtin may not tell what it takes
    kinds = {parameter.kind for parameter in parameters}
    faults = [] if inspect.Parameter.VAR_POSITIONAL in kinds else unknown
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        parameter_names = {parameter.name for parameter in parameters}
        parameter_names.update(bound_names(function))
        faults = faults + sorted(map(repr, argnames - parameter_names))
    if faults:
        name = getattr(function, "__name__", repr(function))
        takes = ", ".join(map(str, parameters))
        raise ValueError(
            f"{name} has no argument {', '.join(faults)}: it takes ({takes})"
        )
