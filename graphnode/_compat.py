"""All uses of JAX's internals: which traces are running, what a tracer is, and what a loop changes.

`jax.extend.core.get_opaque_trace_state` tells two traces apart, but neither whether no
trace runs at all nor whether one encloses another, and both are needed to name a leak.
Every other module asks here.
"""

import inspect
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import FrameType
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from jax._src import distributed, linear_util, source_info_util
from jax._src.ad_util import zeros_like_aval
from jax._src.array import ArrayImpl
from jax._src.config import disable_jit
from jax._src.core import (
    InconclusiveDimensionOperation,
    Trace,
    eval_trace,
    mapped_aval,
    pvary,
    trace_ctx,
    unmapped_aval,
)
from jax._src.core import jaxpr_as_fun as jaxpr_as_fun
from jax._src.export.shape_poly import _DimExpr
from jax._src.interpreters import ad, batching, mlir, partial_eval
from jax._src.interpreters.batching import BatchTracer
from jax._src.lax.lax import _convert_element_type
from jax._src.named_sharding import UNSPECIFIED as UNSPECIFIED
from jax._src.source_info_util import Scope as Scope
from jax._src.source_info_util import Traceback as SourceTraceback
from jax._src.source_info_util import current_name_stack, set_name_stack
from jax.core import AbstractValue as AbstractValue
from jax.core import Tracer as Tracer
from jax.extend.core import ClosedJaxpr as ClosedJaxpr
from jax.extend.core import Jaxpr as Jaxpr
from jax.extend.core import Literal, Primitive

try:
    from jax._src.random.prng import PRNGKeyArray
except ImportError:  # before JAX 0.10
    from jax._src.prng import PRNGKeyArray  # type: ignore[import-not-found, no-redef, unused-ignore]  # ty: ignore

try:
    from jax.tree_util import is_tree_node
except ImportError:  # before JAX 0.10
    from jax._src.tree_util import _registry

    def _is_tree_node(typ: type[Any]) -> bool:
        """What newer versions of JAX have: whether a class is registered as one of pytrees."""
        return typ in _registry

    is_tree_node = _is_tree_node

try:
    from jax._src.core import trace_state_strong_ref as _running
except ImportError:  # before JAX 0.10

    class _Running:
        """What newer versions of JAX have: the running trace of this thread, without a call of Python."""

        @property
        def value(self) -> Any:
            return trace_ctx.trace

    _running = _Running()  # type: ignore[assignment, unused-ignore]

# The class of JAX's symbolic sizes, with which `jax.export` and `gn.summary` trace; and
# what is raised where the answer depends on the value of one.
SymbolicSize: Final[type[Any]] = _DimExpr
InconclusiveSizeError: Final[type[Exception]] = InconclusiveDimensionOperation

# Where JAX's arrays have their operators.
_ARRAY_OPERATORS: Final = "jax._src.numpy.array_methods"

# A concrete array's exact type: one identity test tells it from a tracer, where
# `isinstance` asks a metaclass.
CONCRETE: Final[type] = ArrayImpl

# The exact types of concrete arrays, typed keys included: a value of another type is
# looked into.
PLAIN: Final[frozenset[type]] = frozenset({ArrayImpl, PRNGKeyArray})

# Weak: a State must not keep a finished trace, and all that it captured, alive.
TraceRef: TypeAlias = weakref.ReferenceType[Any]


def is_pytree_class(cls: type[Any]) -> bool:
    """For `registration_fault`: whether a class is registered with JAX as a pytree."""
    return is_tree_node(cls)


# Its `value` says whether `jax.disable_jit` is on. The object itself, as each call of
# `gn.jit` asks, and a function around it would cost a Python call.
DISABLE_JIT: Final = disable_jit


def is_tracing() -> bool:
    """Whether a JAX transformation runs in this thread: the cheap form of `current_trace() is not None`."""
    return _running.value is not eval_trace


class _TraceOfStandIn(Trace):  # type: ignore[type-arg, unused-ignore]  # newer versions of JAX have a parameter
    """The trace of a stand-in, which belongs to no transformation, and to which nothing is staged."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # JAX's own
        self._check = check

    def is_valid(self) -> bool:
        """For JAX, at each use of the stand-in: that it may be used here; raises where it may not."""
        # Not by returning false: JAX's own error could not say what it stands for.
        self._check()
        return True


class StandIn(Tracer):  # type: ignore[type-arg, unused-ignore]  # newer versions of JAX have a parameter
    """A tracer that stands for an array which is looked up when a computation runs.

    In any trace JAX takes it for a constant, by identity: in nested traces, and in those
    that it keeps for the next call of a function. So it stays what it is until whoever
    made it puts an input in its place; where JAX computes with it, it is `current()`.
    """

    __slots__ = ("_abstract",)

    def __init__(self, aval: Any, check: Callable[[], None] = lambda: None) -> None:
        """A stand-in.

        Args:
            aval: Shape and dtype of the array, as `jax.typeof` gives them.
            check: Raises where it must not be used; it must not hold the stand-in.
        """
        # Not by the constructor of `Tracer`: its arguments differ between versions.
        self._trace = _TraceOfStandIn(check)
        self._abstract = aval

    @property
    def aval(self) -> Any:  # type: ignore[override, unused-ignore]  # ty: ignore  # an attribute, in newer versions
        """The shape and dtype, as JAX knows them."""
        return self._abstract

    def current(self) -> Any:
        """The array that it stands for now."""
        raise NotImplementedError  # pragma: no cover  # each subclass defines it

    def check_usable(self) -> None:
        """Raise if it must not be used here, as JAX asks wherever it computes with it."""
        self._trace.is_valid()

    def full_lower(self) -> Any:
        """For JAX: itself while something is traced, and the array where JAX is about to compute with it."""
        if is_tracing():
            return self
        self.check_usable()
        return self.current()


def check_stand_ins(leaves: Iterable[object]) -> None:
    """Raise if there is a stand-in among some leaves that must not be used here."""
    for leaf in leaves:
        if isinstance(leaf, StandIn):
            leaf.check_usable()


_CONTEXT: Final = jax.make_user_context(None)  # type: ignore[no-untyped-call]  # JAX's own


def using_context(context: Hashable) -> AbstractContextManager[object]:
    """While it is open, JAX takes what it traces for another thing than in any other context.

    JAX keeps the traces of the functions that its loops and branches get, by their
    identity: what those read from outside must be told by the context. `None` is that of
    all other code.
    """
    return _CONTEXT(context)  # type: ignore[no-any-return]  # JAX's stubs


class PathScope(str):
    """The name of a scope of JAX that is a path, told from those of others by its class."""

    __slots__ = ()


def path_scope(path: str) -> AbstractContextManager[object]:
    """As `jax.named_scope`, for the text of a path; in place of the innermost scope, if that is where the path begins.

    So the name of an operation has the path once: `net.blocks.0`, and not
    `net/net.blocks/net.blocks.0`.
    """
    stack = current_name_stack()
    last = stack.stack[-1] if stack.stack else None
    if isinstance(last, Scope) and goes_on(path, last.name):
        stack = stack[:-1]
    return set_name_stack(stack.extend(PathScope(path)))


def goes_on(path: str, start: str) -> bool:
    """Whether a path is another one, or goes on from there."""
    return f"{path}.".startswith(f"{start}.")


# Any: a function of JAX.
def checks_are_of_calls(checkify: Any) -> bool:
    """Whether `checkify`, which takes time to import, tells checks in what is traced once apart by their calls."""
    return "CheckifyContext" in checkify.__globals__


def new_traceback() -> object:
    """What JAX keeps of where an operation was made, made here: an object that is equal to no other."""
    return SourceTraceback.get_traceback()


def enclosing_traces() -> list[Any]:
    """The traces that run around the innermost one of this thread, as far as JAX says; see `is_live`."""
    traces: list[Any] = []
    running: Any = getattr(_running.value, "parent_trace", None)
    while running is not eval_trace and running is not None:
        traces.append(running)
        running = getattr(running, "parent_trace", None)
    return traces


def closed_over(traced: jax.stages.Traced) -> list[Any]:
    """The tracers that a function closed over, which are the first inputs of the jaxpr of its trace."""
    found: Any = traced
    if hasattr(found, "_consts"):
        return list(found._consts)
    return list(found._args_flat[: found._num_consts])  # before JAX 0.10


def is_array_operator(frame: FrameType | None) -> bool:
    """Whether the innermost frame of JAX around a frame is an operator of its arrays, such as `array @ other`.

    For `__jax_array__` of States and nodes: an operator looks that up before it asks
    the right operand, and must not be stopped there.
    """
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("jax."):
            return module == _ARRAY_OPERATORS
        frame = frame.f_back
    return False


def current_trace() -> TraceRef | None:
    """The innermost running trace of this thread, or `None` when JAX runs eagerly.

    States, versions and random streams keep it, to tell later whether they are used
    outside of it.
    """
    trace = _running.value
    # Not by its parent: the trace of an eager shard_map has none.
    return None if trace is eval_trace or trace is None else weakref.ref(trace)


def is_live(trace: TraceRef) -> bool:
    """Whether `trace` is still running: the current trace of this thread, or one that encloses it.

    A State with a tracer of a trace that is over has a leak; a loan to such a trace has
    ended.
    """
    target = trace()
    if target is None:
        return False
    running: Any = trace_ctx.trace
    while running is not eval_trace and running is not None:
        if running is target:
            return True
        running = getattr(running, "parent_trace", None)
    # JAX does not always say what encloses a trace. That of a function with a rule of
    # its own (`jax.custom_jvp`, `jax.custom_vjp`) has the eager one as its parent, or
    # is the eager one itself; that of `jax.shard_map` has none.
    return _encloses_current(trace)


class _Enclosing(threading.local):
    """The traces that are known to enclose `inner`, in this thread; they do for as long as it runs."""

    inner: TraceRef | None = None
    outer: frozenset[TraceRef] = frozenset()


_ENCLOSING: Final = _Enclosing()


def _encloses_current(trace: TraceRef) -> bool:
    """For `is_live`: whether the code that runs now was called by code under `trace`."""
    inner = current_trace()
    if inner is None:
        return _is_on_stack(trace())
    if _ENCLOSING.inner != inner:
        _ENCLOSING.inner, _ENCLOSING.outer = inner, frozenset()
    if trace in _ENCLOSING.outer:
        return True
    if not _is_on_stack(trace()):
        return False
    _ENCLOSING.outer |= {trace}
    return True


def _is_on_stack(trace: object) -> bool:
    """For `_encloses_current`: whether a running function of JAX has a trace in a local variable: it works on it."""
    # No attribute of a trace says whether it runs: JAX invalidates only some kinds, and
    # none that ends with an exception.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("jax._src.") and _has_local(
            frame, trace
        ):
            return True
        frame = frame.f_back
    return False


def _has_local(frame: FrameType, value: object) -> bool:
    """For `_is_on_stack`: whether a frame of a function has a value, by identity, in a local variable."""
    # A module or class body, whose variables are not a copy, and not looked at.
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return False
    variables = frame.f_locals
    has_it = any(local is value for local in variables.values())
    # Before Python 3.13 this is a copy, which the frame keeps, and which would keep
    # alive what JAX deletes. A debugger writes its copy back, so that is left alone.
    if isinstance(variables, dict) and frame.f_trace is None:
        variables.clear()
    return has_it


def tracer_in(value: object) -> object | None:
    """The first tracer among the leaves of the pytree `value`, or `None`.

    For writes to States: a tracer from outside of a State's own trace would leak.
    """
    if type(value) is CONCRETE:
        return None
    if isinstance(value, Tracer):
        return value
    return next(
        (leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, Tracer)), None
    )


def is_mapped(value: object) -> bool:
    """Whether an array depends on the axis of the innermost running `jax.vmap`, by JAX's own rules of batching.

    For `gn.vmap`, which refuses random streams that are the same in all lanes.
    """
    # `out_axes=None`, which JAX refuses for mapped outputs, would tell too, but take a
    # second trace of the function.
    if not isinstance(value, BatchTracer) or value.batch_dim is None:
        return False
    # Where vmaps are nested, the tracer may be that of an outer one.
    return value._trace.tag is getattr(trace_ctx.trace, "tag", None)


def varying_axes(value: jax.Array) -> frozenset[Any]:
    """The axes of the mesh of the running `jax.shard_map` along which an array may differ, if that checks them.

    For `gn.shard_map`, which refuses random streams that are the same in all shards.
    """
    return varying_axes_of(jax.typeof(value))


def varying_axes_of(aval: Any) -> frozenset[Any]:
    """The same, of an abstract value."""
    # Before JAX 0.10
    varying: frozenset[Any] = aval.mat.varying if hasattr(aval, "mat") else aval.vma
    return varying


def item_aval(array: Any, axis: int) -> Any:
    """The abstract value of one item of an array along an axis, as `jax.lax.scan` passes it to its function.

    Beside shape and dtype it has the layout over an explicit mesh, the axes of a mesh
    along which shards may differ, and whether the type is weak. Functions can be traced
    with it as an argument: for `gn.scan`, one round without values.
    """
    shape = jnp.shape(array)
    # JAX takes no negative axis here.
    position = axis % len(shape)
    return mapped_aval(shape[position], position, jax.typeof(array))


def stacked_aval(aval: Any, length: int) -> Any:
    """The abstract value of several arrays with an axis in front, as `jax.lax.scan` gives them: see `item_aval`."""
    return unmapped_aval(length, 0, aval)


def zeros_of(aval: Any) -> jax.Array:
    """Zeros of a type: shape, dtype, layout over an explicit mesh, and the axes along which shards may differ.

    Without these axes, `jax.shard_map` takes them for the same in all shards, and what is
    differentiated with respect to them has the sum over the shards.
    """
    return zeros_like_aval(aval)  # type: ignore[no-any-return, unused-ignore]  # JAX's own


def in_form_of(value: Any, aval: Any) -> jax.Array:
    """An array of the shape and dtype of a type, as one that is wholly of that type: see `zeros_of`."""
    array = jnp.asarray(value)
    of_array: Any = jax.typeof(array)
    # Any: JAX has no types for these two.
    vary: Any = pvary
    reshard: Any = jax.sharding.reshard
    lacking = varying_axes_of(aval) - varying_axes_of(of_array)
    varying: jax.Array = vary(array, tuple(lacking))
    if of_array.sharding == aval.sharding or aval.sharding.mesh.empty:
        return varying
    laid_out: jax.Array = reshard(varying, aval.sharding)
    return laid_out


_JIT_NAMES: Final = ("jit", "pjit")


def changing_outputs(body: Any, carry: int) -> list[bool]:
    """For each output of the jaxpr of one round of a loop, whether it may differ from round to round.

    For `gn.scan`, which looks for random streams that would be the same in every round.

    Args:
        body: The closed jaxpr, from carry and items to the next carry and the outputs.
        carry: How many inputs, and outputs, are the carry. An input that is returned
            as it is stays the same.
    """
    jaxpr = body.jaxpr
    pairs = zip(jaxpr.invars[:carry], jaxpr.outvars[:carry], strict=True)
    return _changing(
        jaxpr,
        [old is not new for old, new in pairs] + [True] * (len(jaxpr.invars) - carry),
    )


def _changing(jaxpr: Any, inputs: list[bool]) -> list[bool]:
    """For `changing_outputs`: which outputs of a jaxpr may change from round to round.

    Args:
        jaxpr: The jaxpr, not closed.
        inputs: For each input, whether it may change.
    """
    # By id, as literals among the operands are not hashable.
    changing = set(map(id, itertools.compress(jaxpr.invars, inputs)))
    for equation in jaxpr.eqns:
        operands = [id(variable) in changing for variable in equation.invars]
        # An effect may give another result each time. Other nested jaxprs than those of
        # jit are not looked into: all their outputs count as changing.
        outputs = [any(operands) or bool(equation.effects)] * len(equation.outvars)
        if equation.primitive.name in _JIT_NAMES:
            outputs = _changing(equation.params["jaxpr"].jaxpr, operands)
        changing.update(map(id, itertools.compress(equation.outvars, outputs)))
    return [id(variable) in changing for variable in jaxpr.outvars]


def scope_names(equation: Any) -> tuple[str, ...]:
    """The names of `jax.named_scope` around an equation of a jaxpr, outermost first, from where its jaxpr begins.

    For `gn.summary`: jaxprs that are nested in others begin without the names around them.
    """
    entries = equation.source_info.name_stack.stack
    # The others are of transformations, such as `vmap`.
    return tuple([entry.name for entry in entries if type(entry).__name__ == "Scope"])


# Any: jaxlib has no types for it.
def coordinator() -> Any:
    """What the processes of `jax.distributed` exchange texts by; `None` without it."""
    return distributed.global_state.client


def alias_of(array: jax.Array) -> jax.Array:
    """Another array object on the same memory: what is looked up in it is not kept with the first.

    For checksums: an array on a device keeps the copy that NumPy has asked for.
    """
    return _with_aval(array, array.aval, array.committed)


def weakly_typed(array: jax.Array) -> jax.Array:
    """The array on the same memory with a weak dtype, as that of a Python number, which no public function gives."""
    return _with_aval(array, array.aval.update(weak_type=True), array.committed)


def with_weak_type(array: jax.Array, is_weak: bool) -> jax.Array:
    """An array whose dtype is weak, or is not: in a trace, too."""
    return _convert_element_type(array, array.dtype, weak_type=is_weak)  # type: ignore[no-any-return, unused-ignore]


def unplaced(array: jax.Array) -> jax.Array:
    """The array on the same memory, bound to its device no more than a new array is, which may be used with others."""
    return _with_aval(array, array.aval, False)


def _with_aval(array: Any, aval: Any, committed: bool) -> jax.Array:
    """An array on the memory of another one, with this abstract value, bound to its devices or not."""
    return ArrayImpl(  # type: ignore[no-any-return, unused-ignore]  # JAX's own
        aval, array.sharding, array._arrays, committed=committed
    )


class Tap:
    """What one tap of a program is known by: by identity, as JAX keeps it with what it has traced."""

    __slots__ = ("__weakref__", "owner")

    def __init__(self, owner: object) -> None:
        """A tap.

        Args:
            owner: Who has put it there, and looks for it.
        """
        self.owner = owner

    def __repr__(self) -> str:
        return "Tap"


# An identity that marks its operands in a jaxpr, so that they can be found there.
_TAP: Final[Any] = Primitive("graphnode_tap")  # Any: JAX has no types for it
_TAP.multiple_results = True
_TAP.def_impl(lambda *operands, **_: list(operands))
_TAP.def_abstract_eval(lambda *avals, **_: list(avals))
mlir.register_lowering(_TAP, lambda _, *operands, **__: list(operands))


def tapped(
    values: Iterable[Any],
    tap: Tap,
    *,
    replaces: bool = False,
    adds: bool = False,
    notes: bool = False,
) -> list[Any]:
    """Some arrays, marked in the jaxpr of whatever traces them.

    Each `vmap` around adds an axis in front, also where an array is the same in all
    lanes.

    Args:
        values: The arrays.
        tap: What the mark is known by.
        replaces: Whether other arrays are put there: they have no derivative with
            respect to what stands there, and are others in each lane of a `vmap`.
        adds: Whether other arrays are added, which are others in each lane as well.
        notes: Whether only the place counts: the arrays stay what they are, also under `vmap`.
    """
    if replaces:
        values = [jax.lax.stop_gradient(value) for value in values]
    return _TAP.bind(  # type: ignore[no-any-return]  # as bound
        *values,
        tap=tap,
        replaces=replaces,
        adds=adds,
        notes=notes,
        is_again=False,
    )


def _batch_tap(
    axis: Any, operands: Iterable[Any], dims: Iterable[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    """JAX's rule for `vmap`: the axis of the lanes goes to the front, and what had none goes on without it."""
    dims = list(dims)
    if params["notes"]:
        return _TAP.bind(*operands, **params), dims
    # Lanes of a backward pass alone, as of `jax.jacrev`: what it computes again is that of the forward pass.
    if params["is_again"] and all(dim is None for dim in dims):
        return _TAP.bind(*operands, **params), dims
    mapped = [
        jnp.broadcast_to(value, (axis.size, *jnp.shape(value)))
        if dim is None
        else jnp.moveaxis(value, dim, 0)
        for value, dim in zip(operands, dims, strict=True)
    ]
    outputs = _TAP.bind(*mapped, **params)
    if _is_changed(params):
        return outputs, [0] * len(dims)
    # Otherwise what depends on it would be computed in each lane.
    return [
        output[0] if dim is None else output
        for output, dim in zip(outputs, dims, strict=True)
    ], [None if dim is None else 0 for dim in dims]


def _differentiate_tap(
    primals: Iterable[Any], tangents: Iterable[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    """JAX's rule for derivatives: tangents go through, without a mark."""
    return _TAP.bind(*primals, **params), list(tangents)


def _partially_evaluate_tap(
    _: object, unknown: Sequence[bool], instantiated: Sequence[bool], equation: Any
) -> tuple[Any, Any, list[bool], list[bool], list[Any]]:
    """JAX's rule for `jax.checkpoint`: what the backward pass computes again is marked only if it is changed there."""
    count = len(equation.outvars)
    residuals = [
        operand
        for operand, is_there in zip(equation.invars, instantiated, strict=True)
        if not (is_there or isinstance(operand, Literal))
    ]
    if any(unknown):
        return None, equation, [True] * count, [True] * count, residuals
    # A change belongs to both: the backward pass computes with what it made.
    if _is_changed(equation.params):
        params = {**equation.params, "is_again": True}
    else:
        params = {**equation.params, "tap": Tap(None)}
    again = equation.replace(params=params)
    return equation, again, [False] * count, [True] * count, residuals


def _is_changed(params: Any) -> bool:
    """Whether arrays are put at a tap, by its parameters."""
    return params["replaces"] or params["adds"]  # type: ignore[no-any-return]  # as bound


batching.fancy_primitive_batchers[_TAP] = _batch_tap
ad.primitive_jvps[_TAP] = _differentiate_tap
ad.primitive_transposes[_TAP] = lambda cotangents, *_, **__: list(cotangents)
partial_eval.partial_eval_jaxpr_custom_rules[_TAP] = _partially_evaluate_tap


def tap_of(equation: Any) -> Tap | None:
    """The tap that an equation of a jaxpr is; `None` for any other equation."""
    return equation.params["tap"] if equation.primitive is _TAP else None


def jaxprs_in(equation: Any) -> list[Any]:
    """The jaxprs that an equation computes with, such as the body of a loop."""
    parts = jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr)
    return [part for part in parts if _is_jaxpr(part)]


def _is_jaxpr(part: object) -> bool:
    return isinstance(part, ClosedJaxpr | Jaxpr)


def map_equations(jaxpr: Any, function: Callable[[Any], Any]) -> Any:
    """A jaxpr, closed or not, of what a function makes of its equations, which give the same."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    mapped = inner.replace(eqns=list(map(function, inner.eqns)))
    # In newer versions of JAX both are one.
    return mapped if inner is jaxpr else jaxpr.replace(jaxpr=mapped)


def map_jaxprs(equation: Any, function: Callable[[Any], Any]) -> Any:
    """An equation that computes with what a function makes of its jaxprs."""

    def mapped(part: Any) -> Any:
        return function(part) if _is_jaxpr(part) else part

    params = {
        name: jax.tree.map(mapped, value, is_leaf=_is_jaxpr)
        for name, value in equation.params.items()
        if any(map(_is_jaxpr, jax.tree.leaves(value, is_leaf=_is_jaxpr)))
    }
    return equation.replace(params={**equation.params, **params})


# Functions that JAX traces only where it needs them: when what has been traced is
# differentiated, or computed in lanes, which may be long after. By the primitive, the
# name of the parameter.
LATE_RULES: Final[Mapping[str, str]] = {
    "custom_jvp_call": "jvp_jaxpr_fun",
    "custom_vjp_call": "fwd_jaxpr_thunk",
    "custom_vmap_call": "rule",
}


def checked_rule(equation: Any, check: Callable[[Any], None]) -> Any:
    """An equation of `LATE_RULES` whose rule is checked when JAX traces it.

    Args:
        equation: The equation.
        check: Gets the jaxpr of the rule; `None` where JAX makes none. It may raise.
    """
    name = LATE_RULES[equation.primitive.name]
    rule: Any = equation.params[name]

    def checked(*args: Any) -> Any:
        """What JAX calls for a jaxpr, and what belongs to it."""
        traced = rule.call_wrapped(*args)
        check(traced[0])
        return traced

    def checked_before(*args: Any) -> Any:
        """What JAX calls for the result."""
        check(None)
        return rule(*args)

    if isinstance(rule, linear_util.WrappedFun):
        late: Any = linear_util.wrap_init(checked, debug_info=rule.debug_info)
    else:
        late = checked_before
    return equation.replace(params={**equation.params, name: late})


def evaluate_jaxpr(
    jaxpr: Any, arguments: Iterable[Any], bind: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """The outputs of a jaxpr, whose equations are computed one by one, under the names that they have.

    Args:
        jaxpr: A jaxpr, or a closed one.
        arguments: Its arguments; of one that is not closed, after what it closes over.
        bind: From an equation and its operands to its outputs, such as `bind_again`.
    """
    consts = getattr(jaxpr, "consts", [])
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    variables = [*inner.constvars, *inner.invars]
    known = dict(zip(variables, [*consts, *arguments], strict=True))

    def value_of(atom: Any) -> Any:
        """What stands for a variable, or a literal."""
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in inner.eqns:
        operands = [value_of(atom) for atom in equation.invars]
        with _names_and_options(equation):
            outputs = bind(equation, operands)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [value_of(atom) for atom in inner.outvars]


def _names_and_options(equation: Any) -> ExitStack:
    """While it is open, what is computed has the names and options of JAX that the equation was traced with."""
    info = equation.source_info
    names = source_info_util.current_name_stack() + info.name_stack
    stack = ExitStack()
    stack.enter_context(source_info_util.user_context(info.traceback, name_stack=names))
    stack.enter_context(equation.ctx.manager)
    return stack


def bind_again(equation: Any, operands: Iterable[Any], **params: Any) -> list[Any]:
    """The outputs of an equation for these operands; parameters of the equation may be others."""
    primitive = equation.primitive
    bound = primitive.get_bind_params({**equation.params, **params})
    # Before JAX 0.10, the functions of a call apart.
    functions, rest = bound if isinstance(bound, tuple) else ((), bound)
    outputs = primitive.bind(*functions, *operands, **rest)
    return list(outputs) if primitive.multiple_results else [outputs]


def scan_counts(params: Any) -> tuple[int, int]:
    """How many operands of an equation of `jax.lax.scan` are constants, and how many the carry, by its parameters."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))
