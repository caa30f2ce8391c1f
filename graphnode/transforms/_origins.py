"""Where the equations of a jaxpr come from, for the errors of `gn.checkify`.

    jaxpr of the function          copy of it                      error of checkify
    log   traceback a, "net.0"     traceback t1 ──► net.0, a       of t1: "nan ..., in net.0"
    jit(softmax) "net.1"           traceback t2 ──► net.1, b
      div  traceback c               traceback t3 ──► net.1, c     of t3: "nan ..., in net.1"
    jit(softmax) "net.2"           traceback t4 ──► net.2, d
      div  traceback c               traceback t5 ──► net.2, c     of t5: "nan ..., in net.2"

JAX's checks keep the traceback of the equation that they check, and no other part of where that
comes from. One traceback may be that of many equations: of all that call a function which JAX
traces once, such as `jax.nn.softmax`. So each equation gets one of its own.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
from jax.experimental import checkify

from .._compat import (
    ClosedJaxpr,
    Jaxpr,
    PathScope,
    Scope,
    checks_are_of_calls,
    goes_on,
    jaxpr_as_fun,
    new_traceback,
)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an equation of a jaxpr comes from.

    Attributes:
        path: The names of `path_scope` around it, joined by slashes; empty without one.
        is_backward: Whether it is part of a backward pass.
        traceback: Of the line that made it.
    """

    path: str
    is_backward: bool
    traceback: Any

    @property
    def place(self) -> str:
        """What a message calls it; nothing without a path."""
        is_part = self.is_backward and self.path
        return f"the backward pass of {self.path}" if is_part else self.path


class Origins:
    """The origins of the equations of a jaxpr, each of which gets a traceback of its own to be known by."""

    def __init__(self) -> None:
        # With the new traceback, so that its id stays its own.
        self._by_id: dict[int, tuple[object, Origin]] = {}
        self._by_code: dict[Any, list[Origin]] = {}

    def of(self, code: object, traceback: object) -> list[Origin]:
        """The origins of a check, by its code and the traceback that it has; none for one of no equation.

        Before JAX 0.12 a check of the user's own in what is traced once is one for all that
        call it.
        """
        _, origin = self._by_id.get(id(traceback), (None, None))
        if origin is None:
            return []
        if checks_are_of_calls(checkify.checkify):
            return [origin]
        return self._by_code.get(code, [origin])

    def _new_traceback(self, origin: Origin) -> Any:
        """A traceback that no other check has, for one of this origin."""
        traceback = new_traceback()
        self._by_id[id(traceback)] = traceback, origin
        return traceback

    def copied(self, closed: Any, around: Sequence[Any] = ()) -> Any:
        """A copy of a closed jaxpr, and of each in it, where each equation has a traceback of its own.

        Args:
            closed: The jaxpr.
            around: The names of what stands around it, from outside to inside.
        """
        return closed.replace(jaxpr=self._copied(closed.jaxpr, around))

    def _copied(self, jaxpr: Any, around: Sequence[Any]) -> Any:
        """The same of a jaxpr that is not closed."""
        return jaxpr.replace(
            eqns=[self._copied_equation(equation, around) for equation in jaxpr.eqns]
        )

    def _copied_equation(self, equation: Any, around: Sequence[Any]) -> Any:
        """The same of one equation, which may have jaxprs among its parameters."""
        info = equation.source_info
        names = (*around, *info.name_stack.stack)
        origin = _origin_of(names, info.traceback)

        def copy(part: Any) -> Any:
            """A parameter, or an item of one."""
            if isinstance(part, ClosedJaxpr):
                return self.copied(part, names)
            return self._copied(part, names) if isinstance(part, Jaxpr) else part

        params = {
            name: tuple(map(copy, value)) if type(value) is tuple else copy(value)
            for name, value in equation.params.items()
        }
        # Of a check of the user's own, which has its traceback already.
        if "err_tree" in params:
            params["err_tree"] = self._copied_faults(params["err_tree"], origin)
        new_info = info.replace(traceback=self._new_traceback(origin))
        return equation.replace(params=params, source_info=new_info)

    # Any: of an error of checkify, whose class is private.
    def _copied_faults(self, treedef: Any, origin: Origin) -> Any:
        """The treedef of an error whose exceptions are known to come from an origin."""
        metadata: dict[Any, Any] = {}
        for code, fault in _faults_of(treedef):
            own = dataclasses.replace(origin, traceback=fault.traceback_info)
            fault.traceback_info = self._new_traceback(own)
            self._by_code.setdefault(code, []).append(own)
            metadata[code] = jax.tree.structure(fault)
        error = dataclasses.replace(_unflattened(treedef), _metadata=metadata)
        return jax.tree.structure(error)


def _origin_of(names: Sequence[Any], traceback: Any) -> Origin:
    """The origin of an equation, by the names that stand around it."""
    paths: list[str] = []
    for name in names:
        if isinstance(name.name, PathScope):
            if paths and goes_on(name.name, paths[-1]):
                paths.pop()
            paths.append(name.name)
    is_backward = any(
        not isinstance(name, Scope) and name.name == "transpose" for name in names
    )
    return Origin("/".join(paths), is_backward, traceback)


def with_origins(error: checkify.Error, origins: Origins) -> checkify.Error:
    """An error of a jaxpr that `origins` has copied, whose messages end with where they come from."""
    metadata: dict[Any, Any] = {}
    for code, fault in _faults_of(jax.tree.structure(error)):
        found = origins.of(code, fault.traceback_info)
        if found:
            fault.traceback_info = found[0].traceback
            fault = _placed(fault, _text_of(found))
        metadata[code] = jax.tree.structure(fault)
    return dataclasses.replace(error, _metadata=metadata)


# Any: the exceptions of checkify are JAX's own, and private.
def _faults_of(treedef: Any) -> list[tuple[Any, Any]]:
    """The exceptions that an error of a treedef may be, by the codes of their checks."""
    error: Any = _unflattened(treedef)
    return [(code, _unflattened(fault)) for code, fault in error._metadata.items()]


def _unflattened(treedef: Any) -> Any:
    """A pytree of a treedef, with zeros as its leaves."""
    return jax.tree.unflatten(treedef, [0] * treedef.num_leaves)


def _text_of(origins: Sequence[Origin]) -> str:
    """What is put behind a message: where the check may have failed; nothing without a path."""
    places = [origin.place for origin in origins if origin.place]
    return f", in {' or '.join(dict.fromkeys(places))}" if places else ""


def _placed(fault: Any, text: str) -> Any:
    """An exception of checkify whose message has a text behind it."""
    if not text:
        return fault
    children, data = fault.tree_flatten()
    kind: Any = type(fault)
    return _placed_class(kind).tree_unflatten((data, text), children)


@functools.cache
def _placed_class(cls: Hashable) -> Any:
    """A class of such exceptions, which extends the one of checkify, and is called as it."""
    base: Any = cls

    class Placed(base):  # type: ignore[misc]  # a base that no checker knows
        text = ""

        def tree_flatten(self) -> tuple[Any, Any]:
            children, data = super().tree_flatten()
            return children, (data, self.text)

        @classmethod
        def tree_unflatten(cls, metadata: Any, payload: Any) -> Any:
            data, text = metadata
            fault = super().tree_unflatten(data, payload)
            fault.text = text
            return fault

        def __str__(self) -> str:
            message: str = super().__str__()
            return message.rstrip(". ") + self.text

    Placed.__name__ = Placed.__qualname__ = base.__name__
    return Placed


# Any: of a pure function.
def checked(
    function: Callable[[], Any], errors: frozenset[Any]
) -> tuple[checkify.Error, Any]:
    """The error and the result of a function under `checkify`; its messages say in which node it was.

    The function is traced once, and its trace is checked.
    """
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)()
    origins = Origins()
    evaluate = jaxpr_as_fun(origins.copied(jaxpr))
    error, leaves = checkify.checkify(lambda: evaluate(), errors=errors)()
    result = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return with_origins(error, origins), result
