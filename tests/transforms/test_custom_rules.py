"""Inside of a function with a derivative of its own, the transformation around it still runs.

JAX traces such a function apart: the trace around it is not the parent of the inner one, or no trace runs at all.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.core import eval_context

import graphnode as gn
from graphnode import ParamState, State
from graphnode._compat import current_trace, is_live

Scalar: TypeAlias = Callable[[Any], Any]


class Cell(gn.Node):
    w: ParamState = gn.state(default_factory=lambda: ParamState(jnp.array([1.0, 2.0])))
    memory: State[Any] = gn.state(default_factory=lambda: State({"a": jnp.ones(2)}))


class Count(gn.Node):
    n: State[Any]


def with_jvp(function: Scalar) -> Scalar:
    surrogate = jax.custom_jvp(function)
    surrogate.defjvp(lambda primals, tangents: (function(*primals), 5.0 * tangents[0]))
    return surrogate


def with_vjp(function: Scalar) -> Scalar:
    surrogate = jax.custom_vjp(function)
    surrogate.defvjp(lambda x: (function(x), None), lambda _, cotangent: (5.0 * cotangent,))
    return surrogate


def with_node_vjp(function: Scalar) -> Scalar:
    surrogate = gn.custom_vjp(function)
    surrogate.defvjp(lambda x: (function(x), None), lambda _, cotangent: (5.0 * cotangent,))
    return surrogate


def with_node_jvp(function: Scalar) -> Scalar:
    surrogate = gn.custom_jvp(function)
    surrogate.defjvp(lambda primals, tangents: (function(*primals), 5.0 * tangents[0]))
    return surrogate


with_rule = pytest.mark.parametrize(
    "rule", [with_jvp, with_vjp, with_node_jvp, with_node_vjp], ids=["jvp", "vjp", "gn_jvp", "gn_vjp"]
)

# The function is `Cell, x -> sum(w * x)`, whose derivative for `x` is said to be 5.
CALLS: dict[str, tuple[Callable[[Callable[[Cell, Any], Any]], Any], Any]] = {
    "jit": (lambda f: gn.jit(f)(Cell(), 2.0), 6.0),
    "jit of vmap": (lambda f: gn.jit(lambda cell, x: gn.vmap(f, (None, 0))(cell, x))(Cell(), jnp.ones(3)), [3.0] * 3),
    "vmap of stacked": (lambda f: gn.vmap(f, (0, None))(gn.stack([Cell(), Cell()]), 2.0), [6.0, 6.0]),
    "jit of grad": (lambda f: gn.jit(gn.grad(f, argnums=1))(Cell(), 2.0), 5.0),
    "remat": (lambda f: gn.remat(f)(Cell(), 2.0), 6.0),
    "scan": (lambda f: gn.scan(lambda cell, x: (cell, f(cell, x)), Cell(), jnp.ones(3))[1], [3.0] * 3),
    "cond": (lambda f: gn.cond(True, f, f, Cell(), 2.0), 6.0),
    "jax.jit": (lambda f: jax.jit(lambda x: f(Cell(), x))(2.0), 6.0),
    "jax.jit of jax.grad": (lambda f: jax.jit(jax.grad(lambda x: f(Cell(), x)))(2.0), 5.0),
}


@with_rule
@pytest.mark.parametrize("name", CALLS)
def test_a_state_of_the_trace_around_is_read(rule: Callable[[Scalar], Scalar], name: str):
    """A surrogate gradient that closes over a node of the traced function computes what it says."""
    call, expected = CALLS[name]
    found = call(lambda cell, x: rule(lambda v: jnp.sum(cell.w.value * v))(x))
    np.testing.assert_allclose(found, expected)


@with_rule
def test_a_write_into_a_container_of_outside_is_found(rule: Callable[[Scalar], Scalar]):
    """A copy of a container that the trace around got is still out while the inner function runs."""
    cell, message = Cell(), "without having got the State as an argument"

    def through_reference(x: Any) -> Any:
        memory = cell.memory.value
        y = rule(lambda v: v * jnp.sum(cell.memory.value["a"]))(x)
        memory["a"] = x
        return y

    def inside(x: Any) -> Any:
        def write(v: Any) -> Any:
            cell.memory.value["a"] = v
            return v

        return rule(write)(x)

    with pytest.raises(gn.TraceError, match=message):
        gn.jit(through_reference)(1.0)
    with pytest.raises(gn.TraceError, match=message):
        gn.jit(inside)(1.0)
        _ = cell.memory.value
    np.testing.assert_array_equal(cell.memory.value["a"], [1.0, 1.0])


@with_rule
def test_a_state_with_a_plain_value_stays_in_its_trace(rule: Callable[[Scalar], Scalar]):
    """One that is made inside, and read by the inner function, may still be written."""

    def count(x: Any) -> Any:
        node = Count(State(np.float32(1)))
        y = rule(lambda v: v * node.n.value)(x)
        node.n.value = node.n.value + x
        return y, node

    y, node = gn.jit(count)(2.0)
    assert (y, node.n.value) == (2.0, 3.0)


@with_rule
def test_a_state_of_an_ended_trace_is_found_inside(rule: Callable[[Scalar], Scalar]):
    """What another transformation has left behind is an error there, also while its tracers are alive."""
    kept: list[Count] = []

    def leak(x: Any) -> Any:
        kept.append(Count(State(x)))
        return x

    jax.jit(leak)(1.0)
    with pytest.raises(gn.TraceError, match="of a JAX transformation that has ended"):
        gn.jit(lambda x: rule(lambda v: v * kept[0].n.value)(x))(1.0)

    def fail(x: Any) -> Any:
        kept[0] = Count(State(x))
        raise KeyError

    with pytest.raises(KeyError):
        jax.jit(fail)(1.0)
    with pytest.raises(gn.TraceError, match="of a JAX transformation that has ended"):
        gn.jit(lambda x: rule(lambda v: v * kept[0].n.value)(x))(1.0)


def test_a_trace_is_live_where_no_trace_runs_inside_of_it():
    """A trace goes on while something is computed eagerly inside of it; asking keeps nothing that JAX deletes."""
    kept: list[Any] = []

    def check(x: Any) -> Any:
        trace = current_trace()
        assert trace is not None
        with eval_context():
            assert current_trace() is None
            assert is_live(trace)
        kept.append(trace)
        return x

    with jax.checking_leaks():
        jax.jit(check)(1.0)
    assert not is_live(kept[0])
