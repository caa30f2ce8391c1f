"""Trace a call of a model, to see which of its nodes are called with what, and what the program computes.

Nothing runs: JAX traces the method with shapes, and each call of a node in it passes
through a recorder.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from .._calls import NodeCall, Proceed, calls_through
from .._contract import Size
from .._declare._node import Node
from .._graph._flatten import is_graph_object
from .._method_wrappers import call_method
from .._paths import Path, path_str
from ..transforms import make_jaxpr
from ._flops import Scopes, work_of
from ._inputs import Inputs
from ._rows import Activity, CallShapes
from ._shapes import shapes_text


class Invocation(NamedTuple):
    """A method, and what it is called with, as shapes.

    Attributes:
        function: The method as its class has it: the node is the first argument.
        node: The node.
        inputs: The other arguments.
    """

    function: Callable[..., Any]
    node: Node
    inputs: Inputs


def activity_of(invocation: Invocation) -> Activity:
    """What the call of a method does.

    Raises:
        Exception: Whatever the method raises, such as where shapes do not fit.
    """
    recorder = Recorder(type(invocation.node).__name__)
    jaxpr = traced(invocation, recorder)
    work = work_of(jaxpr)
    flops: dict[Path, Size] = {}
    for scopes, size in work.flops.items():
        path = recorder.path_of(scopes)
        flops[path] = flops.get(path, 0) + size
    notes = dict.fromkeys(
        [(recorder.path_of(scopes), text) for scopes, text in work.notes]
    )
    calls = {path: list(row) for path, row in recorder.calls.items()}
    return Activity(calls, flops, tuple(notes), invocation.inputs.symbols)


# Any: the closed jaxpr, whose class differs between versions of JAX.
def traced(invocation: Invocation, handler: Callable[..., Any]) -> Any:
    """The jaxpr of a call, each call of a node in it through a handler."""
    leaves, treedef = jax.tree.flatten(invocation.inputs[:2], is_leaf=is_graph_object)
    are_traced = [_is_traced(leaf) for leaf in leaves]
    arguments = [leaf for leaf in leaves if _is_traced(leaf)]

    # The names of the parameters are those of the scopes; see `_is_of_model`.
    def run(model: Node, inputs: list[Any]) -> Any:
        """The call, with flags and functions as they are."""
        rest = iter(inputs)
        filled = [
            next(rest) if is_traced else leaf
            for leaf, is_traced in zip(leaves, are_traced, strict=True)
        ]
        args, kwargs = jax.tree.unflatten(treedef, filled)
        result = call_method(invocation.function, model, *args, **kwargs)
        # The recorder has seen it. Here, what it is computed by counts, and else it may
        # be anything.
        return [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)]

    with calls_through(handler):
        return make_jaxpr(run)(invocation.node, arguments)


def _is_traced(leaf: object) -> bool:
    """Whether a leaf of an input is an argument of the program: an array or a node; others are constants."""
    return isinstance(leaf, jax.ShapeDtypeStruct) or is_graph_object(leaf)


def _is_of_model(call: NodeCall) -> bool:
    """Whether a node that is called is part of the model, and not of an input such as a cache."""
    return call.scope.partition(".")[0] == "model"


class Recorder:
    """Notes each call of a node.

    Attributes:
        calls: The different calls of each node, by its path.
    """

    def __init__(self, root: str) -> None:
        self.calls: dict[Path, dict[CallShapes, None]] = {}
        self._root = root
        self._paths: dict[str, Path] = {}
        self._open: list[str] = []

    def __call__(
        self,
        call: NodeCall,
        proceed: Proceed,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """For `calls_through`: one call of a public method of a node."""
        if not _is_of_model(call):
            return proceed(*args, **kwargs)
        # By its name: a transformation in a method has another copy of the node.
        is_own = bool(self._open) and self._open[-1] == call.scope
        self._paths[call.scope] = call.path
        if not is_own:
            # Now, so that a node is ahead of those that it calls.
            self.calls.setdefault(call.path, {})
        self._open.append(call.scope)
        try:
            result = self.run(call, proceed, args, kwargs)
        finally:
            self._open.pop()
        # What a node calls of itself is a part of the call that is noted.
        if not is_own:
            shapes = CallShapes(
                call.method, inputs_text(args, kwargs), shapes_text(result)
            )
            self.calls[call.path][shapes] = None
        return result

    def run(
        self,
        call: NodeCall,
        proceed: Proceed,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call."""
        return proceed(*args, **kwargs)

    def path_of(self, scopes: Scopes) -> Path:
        """The path of the innermost node that some scopes are of; that of the model without one."""
        for scope in reversed(scopes):
            if scope in self._paths:
                return self._paths[scope]
        return ()

    def name_of(self, path: Path) -> str:
        """A path for messages; the class for the model itself."""
        return path_str(path) or self._root


# Texts


def inputs_text(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The inputs of a call, as a text; what is `None` by name says nothing."""
    named = [
        f"{name}={shapes_text(value)}"
        for name, value in kwargs.items()
        if value is not None
    ]
    return ", ".join([*map(shapes_text, args), *named])
