"""linearize: the derivative at one place as a function of tangents."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn

X = jnp.array([1.0, 2.0])
UNTYPED: Any = gn  # for calls that type checkers refuse


class Cell(gn.Node):
    weight: gn.ParamState
    gain: gn.ShortTermState
    count: gn.ShortTermState

    def __call__(self, x: jax.Array) -> jax.Array:
        self.count.value += 1
        return jnp.sin(self.weight.value * x) * self.gain.value


def cell() -> Cell:
    return Cell(
        gn.ParamState(jnp.array([0.5, -1.0])), gn.ShortTermState(jnp.float32(3)), gn.ShortTermState(jnp.int32(0))
    )


def message(error: type[Exception], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def apply(one: Cell, x: jax.Array) -> jax.Array:
    return one(x)


def test_a_linearisation_is_that_of_the_split_parts():
    """The result and the derivative are JAX's, along state trees and mappings, whole or partial."""
    one = cell()
    graphdef, rest, trained = gn.treefy_split(one, gn.PathContains("count"), ...)

    def plain(trained: Any, x: jax.Array) -> jax.Array:
        return gn.treefy_merge(graphdef, rest, trained)(x)

    expected, along = jax.linearize(plain, trained, X)
    found, derivative = gn.linearize(apply, one, X)
    assert jnp.array_equal(found, expected)
    tangent = jax.tree.map(lambda leaf: 2 * jnp.ones_like(leaf), trained)
    assert jnp.array_equal(derivative(tangent, 3 * X), along(tangent, 3 * X))
    zeros = jax.tree.map(jnp.zeros_like, trained)
    assert jnp.array_equal(derivative({}, X), along(zeros, X))
    assert jnp.array_equal(derivative({"weight": X}, X), gn.jvp(apply, (cell(), X), ({"weight": X}, X))[1])


def test_what_the_function_writes_is_written_once():
    """At the linearisation; the derivative runs nothing, and stays that of the values of then."""
    one = cell()
    _, derivative = gn.linearize(apply, one, X)
    assert one.count.value == 1
    before = derivative({}, X)
    one.weight.value = jnp.zeros(2)
    assert jnp.array_equal(derivative({}, X), before)
    assert one.count.value == 1


def test_integers_and_keys_have_tangents_of_float0():
    """A whole tree of tangents has float0 for them, as under `gn.jvp`; left out, they have zero."""

    class Noisy(gn.Node):
        count: gn.ShortTermState
        rngs: gn.Rngs

    def noise(one: Noisy, x: jax.Array) -> jax.Array:
        return x * one.count.value.astype(x.dtype) * jax.random.normal(one.rngs())

    one = Noisy(gn.ShortTermState(jnp.int32(2)), gn.Rngs(0))
    whole = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), gn.treefy_states(one))
    y, derivative = gn.linearize(noise, one, X)
    assert jnp.array_equal(derivative(whole, X), y)
    assert jnp.array_equal(derivative({}, 2 * X), 2 * y)
    assert one.rngs["default"].count.value == 1


def test_the_auxiliary_result_may_hold_nodes():
    """With `has_aux` the function gives a pair, and the second goes along as it is."""
    one = cell()
    y, derivative, aux = gn.linearize(lambda one, x: (one(x), [one, cell(), "text"]), one, X, has_aux=True)
    assert aux[0] is one
    assert isinstance(aux[1], Cell)
    assert aux[2] == "text"
    assert jnp.array_equal(derivative({}, X), gn.linearize(apply, cell(), X)[1]({}, X))
    assert y.shape == (2,)


def test_the_node_of_a_method_or_a_callable_node_has_no_tangent():
    """It is not among the primals; what it writes is written."""
    one = cell()
    expected = gn.linearize(apply, cell(), X)[1]({}, X)
    for function in (one, one.__call__):
        assert jnp.array_equal(gn.linearize(function, X)[1](X), expected)
    assert one.count.value == 2


def test_a_shared_state_has_one_tangent():
    """It is given at one of its places, or the same at all."""

    def product(a: Cell, b: Cell) -> jax.Array:
        return a.weight.value * b.weight.value

    one = cell()
    _, derivative = gn.linearize(product, one, one)
    assert derivative({"weight": X}, {}).tolist() == (2 * one.weight.value * X).tolist()
    assert jnp.array_equal(derivative({"weight": X}, {"weight": X}), derivative({}, {"weight": X}))
    assert message(gn.AliasError, derivative, {"weight": X}, {"weight": 2 * X}) == (
        "gn.linearize: give the tangent of a State at one of its places alone: a.weight and b.weight are one "
        "ParamState with two tangents"
    )


def test_jax_transforms_the_derivative():
    """It is mapped, compiled and transposed as that of `jax.linearize`; the whole may run under gn.jit and gn.vmap."""
    one = cell()
    _, derivative = gn.linearize(lambda one, x: (one(x) * 1.0).sum(), one, X)
    gradient = jax.vmap(lambda of_x: derivative({}, of_x))(jnp.eye(2))
    expected = gn.grad(lambda one, x: one(x).sum(), 1)(cell(), X)
    assert jnp.allclose(gradient, expected)
    assert jnp.allclose(jax.jit(lambda of_x: derivative({}, of_x))(X), expected @ X)
    (transposed,) = jax.linear_transpose(lambda of_x: derivative({}, of_x), X)(jnp.float32(1))
    assert jnp.allclose(transposed, expected)

    def inside(one: Cell, x: jax.Array) -> jax.Array:
        y, along = gn.linearize(apply, one, x)
        return y + along({}, x)

    two = cell()
    compiled = gn.jit(inside)(two, X)
    assert two.count.value == 1
    assert jnp.allclose(compiled, inside(cell(), X))
    mapped = gn.vmap(inside)(gn.stack([cell(), cell()]), jnp.stack([X, X]))
    assert jnp.allclose(mapped, jnp.stack([compiled, compiled]))
    assert jnp.isfinite(gn.grad(lambda one: inside(one, X).sum())(cell())["weight"].value).all()


def test_zeros_are_laid_out_as_what_they_are_of():
    """Over an explicit mesh, a State without a tangent has one of its own sharding."""
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        split = jax.device_put(X, jax.NamedSharding(mesh, jax.P("rows")))
        one = Cell(gn.ParamState(split), gn.ShortTermState(jnp.float32(3)), gn.ShortTermState(jnp.int32(0)))
        _, derivative = gn.linearize(apply, one, split)
        assert derivative({}, split).shape == (2,)


# Errors


def test_wrong_tangents_are_named():
    """There is one for each primal, at paths that are there, of the shape of what it is of."""
    _, derivative = gn.linearize(apply, cell(), X)
    assert message(TypeError, derivative, {}) == (
        "gn.linearize: the derivative takes a tangent for each primal; found 2 primals, 1 tangents"
    )
    assert message(gn.FilterError, derivative, {"bias": X}, X) == (
        "gn.linearize: a tangent has bias, where its node has no State"
    )
    assert message(ValueError, derivative, {"weight": jnp.ones(3)}, X) == (
        "gn.linearize: the tangent of one.weight must have its shape, (2,); found (3,)"
    )
    assert message(TypeError, derivative, 3, X) == (
        "gn.linearize: the tangent of one must be a StateTree, FlatStates or a nested mapping by path; found int 3"
    )


def test_a_result_that_has_no_derivative_is_refused():
    """A node, and no pair with `has_aux`."""
    assert message(gn.StructureError, gn.linearize, lambda one: one, cell()) == (
        "gn.linearize differentiates arrays, but the result holds a node; give it as aux"
    )
    assert message(TypeError, lambda: UNTYPED.linearize(lambda x: x, X, has_aux=True)) == (
        "gn.linearize: with has_aux=True the function gives (result, aux); found a tracer float32[2]"
    )
    assert message(TypeError, gn.linearize, lambda x: x, "text") == (
        "gn.linearize takes arrays, numbers and nodes; x is str 'text': make it a static argument, or a static field "
        "of a node"
    )
