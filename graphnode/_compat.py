"""The one place that touches what JAX does not publish: which traces are running, and what a tracer is.

`jax.extend.core.get_opaque_trace_state` tells two traces apart, but neither whether no trace runs at all nor
whether one encloses another, and both are needed to name a leak. Every other module asks here.
"""

import weakref
from typing import Any, Final, TypeAlias

import jax
from jax._src.array import ArrayImpl
from jax._src.core import eval_trace, trace_ctx
from jax._src.core import jaxpr_as_fun as jaxpr_as_fun
from jax.core import Tracer as Tracer

try:
    from jax._src.random.prng import PRNGKeyArray
except ImportError:  # before JAX 0.10
    from jax._src.prng import PRNGKeyArray  # type: ignore[import-not-found, no-redef, unused-ignore]

# A concrete array's exact type: one identity test tells it from a tracer, where `isinstance` asks a metaclass.
CONCRETE: Final[type] = ArrayImpl

# The exact types of concrete arrays, typed keys included: a value of another type is looked into.
PLAIN: Final[frozenset[type]] = frozenset({ArrayImpl, PRNGKeyArray})

# Weak: a State must not keep a finished trace, and all that it captured, alive.
TraceRef: TypeAlias = weakref.ReferenceType[Any]


def is_tracing() -> bool:
    """Whether a JAX transformation runs in this thread: the cheap form of `current_trace() is not None`."""
    return trace_ctx.trace is not eval_trace


def current_trace() -> TraceRef | None:
    """The innermost running trace of this thread, or `None` when JAX runs eagerly."""
    trace = trace_ctx.trace
    # Not by its parent: the trace of an eager shard_map has none.
    return None if trace is eval_trace or trace is None else weakref.ref(trace)


def is_live(trace: TraceRef) -> bool:
    """Whether `trace` is still running: the current trace of this thread, or one that encloses it."""
    running: Any = trace_ctx.trace
    wanted = trace()
    while running is not eval_trace and wanted is not None:
        if running is wanted:
            return True
        if not hasattr(running, "parent_trace"):
            return True  # that of `jax.shard_map` does not say what encloses it
        running = running.parent_trace
    return False


def tracer_in(value: object) -> object | None:
    """The first tracer among the leaves of the pytree `value`, or `None`."""
    if type(value) is CONCRETE:
        return None
    if isinstance(value, Tracer):
        return value
    return next((leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, Tracer)), None)
