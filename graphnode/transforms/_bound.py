"""Nodes in a `functools.partial` or in a default value: arguments of a transformed function, before the caller's.

    def step(scale, model, x, head=net): ...

    of                        arguments       target, which is transformed
    step                      (net,)          from (net, scale, model, x) to step(scale, model, x, head=net)
    partial(step, 2.0, m)     (net, m)        from (net, m, x) to step(2.0, m, x, head=net)

So writes to these nodes are seen, and nothing of them is a constant. A target is kept on
the function, or on the partial if that has other arguments, too; and what is compiled is
kept on the target. It holds none of the nodes.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

import jax

from .._graph._flatten import is_graph_object
from .._method_wrappers import call_method
from .._static import GraphObject
from ._arguments import BoundFirst, Function, bound_names, positional_name
from ._kept import remembered

# A function, and the nodes (or pytrees of nodes) that are its first arguments.
Target: TypeAlias = tuple[Function, tuple[Any, ...]]

# From an iterator over the first arguments of a target to an argument of its function.
_Fill: TypeAlias = Callable[[Iterator[Any]], Any]


_NODES_ALONE: Final = "nodes alone"


class _Part(NamedTuple):
    """One argument in a partial.

    Attributes:
        bound: A tuple with its nodes, as they are passed as an argument; empty for a
            constant.
        fill: Gives the argument, with the next of the nodes that a target is called with.
        key: What tells it from arguments that another target is made for.
    """

    bound: tuple[Any, ...]
    fill: _Fill
    key: Any  # Any: of several forms, which are only compared

    @classmethod
    def of(cls, value: Any) -> "_Part":
        """An argument, taken apart."""
        try:
            leaves, treedef = jax.tree.flatten(value, is_leaf=is_graph_object)
        # Whatever a pytree class of the user's raises. A node in it could be no
        # argument either; and as a constant any object will do.
        except Exception:
            leaves, treedef = [value], None
        is_node = list(map(is_graph_object, leaves))
        if not any(is_node):
            return cls((), lambda _: value, id(value))
        # The value itself: a list may get another node before the next call.
        if all(is_node):
            return cls((value,), next, _NODES_ALONE)
        constants = [
            None if node else leaf for leaf, node in zip(leaves, is_node, strict=True)
        ]
        nodes = [
            leaf if node else None for leaf, node in zip(leaves, is_node, strict=True)
        ]

        def fill(given: Iterator[Any]) -> Any:
            """The pytree with the next of the nodes, and with its own constants."""
            following = iter(jax.tree.leaves(next(given), is_leaf=is_graph_object))
            rows = zip(constants, is_node, strict=True)
            filled = [next(following) if node else leaf for leaf, node in rows]
            return jax.tree.unflatten(treedef, filled)

        key = (treedef, tuple(is_node), tuple(map(id, constants)))
        return cls((jax.tree.unflatten(treedef, nodes),), fill, key)


def target_of_partial(
    partial: "functools.partial[Any]", inner: Function, inner_bound: tuple[Any, ...]
) -> Target:
    """The target of a partial, and the nodes in it; the partial itself if there are none.

    Args:
        partial: The partial.
        inner: The target of its function.
        inner_bound: The nodes bound to that.
    """
    positional = [_Part.of(value) for value in partial.args]
    keywords = {name: _Part.of(value) for name, value in partial.keywords.items()}
    parts = [*positional, *keywords.values()]
    bound = (*inner_bound, *[node for part in parts for node in part.bound])
    if not bound:
        return partial, ()
    key = (
        len(inner_bound),
        tuple([part.key for part in positional]),
        tuple([(name, part.key) for name, part in keywords.items()]),
    )

    def make() -> _PartialTarget:
        """The target of a partial whose arguments are of this form."""
        count = len(inner_bound)
        signature = _signature_of_call(partial, inner, count, keywords)
        return _PartialTarget(inner, count, positional, keywords, signature)

    # Without constants, all such partials of a function have one target.
    is_of_function = isinstance(inner, FunctionType | BoundFirst) and all(
        part.key is _NODES_ALONE for part in parts
    )
    holder = inner if is_of_function else partial
    return remembered(holder, "partial", key, make), bound


class _PartialTarget(BoundFirst):
    """The function of a partial, which takes the nodes in the partial first."""

    __slots__ = ("_inner_count", "_keywords", "_positional", "fills")

    def __init__(
        self,
        inner: Function,
        inner_count: int,
        positional: Sequence[_Part],
        keywords: Mapping[str, _Part],
        signature: inspect.Signature,
    ) -> None:
        names = [
            positional_name(inner, at) for at in range(inner_count + len(positional))
        ]
        own = zip(names[inner_count:], positional, strict=True)
        bound_names = [
            *names[:inner_count],
            *[name for name, part in own if part.bound],
        ]
        bound_names += [name for name, part in keywords.items() if part.bound]
        super().__init__(inner, tuple(bound_names), signature)
        # Not the parts, which hold the nodes
        self._inner_count = inner_count
        self._positional = [part.fill for part in positional]
        self._keywords = {name: part.fill for name, part in keywords.items()}
        self.fills = (*self._positional, *self._keywords.values())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        count = len(self.bound_names)
        nodes = iter(args[self._inner_count : count])
        positional = [fill(nodes) for fill in self._positional]
        keywords = {name: fill(nodes) for name, fill in self._keywords.items()}
        # A partial again: it knows which of two arguments wins, and where positions are
        # left open.
        partial = functools.partial(
            call_method,
            self.function,
            *args[: self._inner_count],
            *positional,
            **keywords,
        )
        return partial(*args[count:], **kwargs)


def _signature_of_call(
    partial: "functools.partial[Any]",
    inner: Function,
    inner_count: int,
    keywords: Mapping[str, _Part],
) -> inspect.Signature:
    """The parameters that the caller of a partial may give, without those of nodes in it by name."""
    # Those that are bound to a target are no part of its signature
    visible = [None] * (inner_count - len(bound_names(inner)))
    known = functools.partial(inner, *visible, *partial.args, **partial.keywords)
    try:
        signature = inspect.signature(known)
    # Of a builtin that does not tell
    except (TypeError, ValueError):
        return inspect.signature(lambda *args, **kwargs: None)
    parameters = [
        parameter
        for name, parameter in signature.parameters.items()
        if name not in keywords or not keywords[name].bound
    ]
    return signature.replace(parameters=parameters)


def target_of_defaults(function: Function) -> Target:
    """The target of a function with nodes among the defaults of its parameters, and these; else the function itself.

    A default that can be given by position alone is left where it is.
    """
    if not isinstance(function, FunctionType):
        return function, ()
    if not (function.__defaults__ or function.__kwdefaults__):
        return function, ()
    defaults = _default_nodes(function)
    if not defaults:
        return function, ()
    names = tuple(defaults)
    # With the code, which a reloader replaces in place
    key = (names, function.__code__)
    make = functools.partial(_DefaultsTarget, function, names)
    return remembered(function, "defaults", key, make), tuple(defaults.values())


def _default_nodes(function: FunctionType) -> dict[str, GraphObject]:
    """The nodes and States that are defaults, by the name of their parameter."""
    code = function.__code__
    positional_only = code.co_varnames[: code.co_posonlyargcount]
    pairs = zip(_default_names(function), function.__defaults__ or (), strict=True)
    by_name = {**dict(pairs), **(function.__kwdefaults__ or {})}
    return {
        name: default
        for name, default in by_name.items()
        if isinstance(default, GraphObject) and name not in positional_only
    }


class _DefaultsTarget(BoundFirst):
    """A function with nodes among its defaults, which takes these first."""

    __slots__ = ("_positions",)

    def __init__(self, function: FunctionType, names: tuple[str, ...]) -> None:
        """Make it of the function, and of the names of the parameters with such a default."""
        signature = inspect.signature(function, follow_wrapped=False)
        parameters = [
            parameter.replace(default=None) if name in names else parameter
            for name, parameter in signature.parameters.items()
        ]
        super().__init__(
            _without_defaults(function, names),
            names,
            signature.replace(parameters=parameters),
        )
        by_position = [
            parameter.name
            for parameter in parameters
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            or parameter.kind is parameter.POSITIONAL_ONLY
        ]
        # `None` for one that is given by name alone
        self._positions = [
            by_position.index(name) if name in by_position else None for name in names
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        count = len(self.bound_names)
        given = args[count:]
        rows = zip(self.bound_names, self._positions, args[:count], strict=True)
        for name, position, node in rows:
            if position is None or position >= len(given):
                kwargs.setdefault(name, node)
        return self.function(*given, **kwargs)


def _without_defaults(function: FunctionType, names: tuple[str, ...]) -> FunctionType:
    """A copy of a function with `None` for some defaults.

    The function itself has its target, and the nodes: a cycle would keep both until the
    collector comes.
    """
    defaults = function.__defaults__ or ()
    nodes_at = zip(_default_names(function), defaults, strict=True)
    twin = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        tuple([None if name in names else default for name, default in nodes_at]),
        function.__closure__,
    )
    by_name = function.__kwdefaults__ or {}
    twin.__kwdefaults__ = {
        name: None if name in names else default for name, default in by_name.items()
    }
    twin.__qualname__, twin.__module__ = function.__qualname__, function.__module__
    twin.__doc__ = function.__doc__
    return twin


def _default_names(function: FunctionType) -> tuple[str, ...]:
    """The names of the parameters that `__defaults__` is of: the last of those with a position."""
    code = function.__code__
    count = len(function.__defaults__ or ())
    return code.co_varnames[code.co_argcount - count : code.co_argcount]
