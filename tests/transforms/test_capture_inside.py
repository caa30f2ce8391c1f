"""capture, capture_grads and intervene of functions that differentiate, with remat and loops inside."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import graphnode as gn
from graphnode.transforms._capture_grads import _have_shapes_of

X = jnp.array([1.0, 2.0, 3.0])


class Wave(gn.Node):
    """A layer, with a State that is added to what it returns."""

    weight: gn.ParamState[Array] = gn.state(default_factory=lambda: gn.ParamState(jnp.full(3, 0.5)))
    added: gn.ParamState[Array] = gn.state(default_factory=lambda: gn.ParamState(jnp.zeros(3)))

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return jnp.sin(x * self.weight.value) + self.added.value


class Pair(gn.Node):
    """Two of them, each of which may be a stack."""

    first: Wave
    second: Wave


def pair(*shape: int) -> Pair:
    waves = [gn.stack([Wave(), Wave()]) if shape else Wave() for _ in range(2)]
    model = Pair(*waves)
    model.second.weight.value = model.second.weight.value * 1.5
    return model


def plain(model: Pair, x: Any) -> Any:
    return jnp.cos(model.second(jnp.cos(model.first(x)))) * x


def in_each(model: Pair, x: Any) -> Any:
    first, second = gn.remat(lambda one, x: one(x)), gn.remat(lambda one, x: one(x))
    return jnp.cos(second(model.second, jnp.cos(first(model.first, x)))) * x


def nested(model: Pair, x: Any) -> Any:
    return gn.remat(in_each)(model, x)


def in_scan(model: Pair, x: Any) -> Any:
    return jnp.cos(gn.scan(lambda x, one: (plain(one, x), None), x, model)[0])


def remat_in_scan(model: Pair, x: Any) -> Any:
    return jnp.cos(gn.scan(lambda x, one: (gn.remat(plain)(one, x), None), x, model)[0])


def checkpointed_scan(model: Pair, x: Any) -> Any:
    return jnp.cos(gn.scan(lambda x, one: (plain(one, x), None), x, model, checkpoint=True)[0])


Model = Callable[[Pair, Any], Any]
MODELS: dict[str, tuple[Model, tuple[int, ...]]] = {
    "plain": (plain, ()),
    "gn.remat": (gn.remat(plain), ()),
    "jax.checkpoint": (lambda model, x: jax.checkpoint(lambda x: plain(model, x))(x), ()),
    "remat in each": (in_each, ()),
    "remat of remat": (nested, ()),
    "jit": (gn.jit(plain), ()),
    "remat of jit": (gn.remat(gn.jit(plain)), ()),
    "jit of remat": (gn.jit(gn.remat(plain)), ()),
    "scan": (in_scan, (2,)),
    "remat in scan": (remat_in_scan, (2,)),
    "scan with checkpoint": (checkpointed_scan, (2,)),
    "remat of scan": (gn.remat(in_scan), (2,)),
}


def of_grad(run: Model, model: Pair) -> Any:
    return jnp.sum(jax.grad(lambda x: jnp.sum(run(model, x) ** 2))(X) ** 2)


def of_states(run: Model, model: Pair) -> Any:
    return jnp.sum(gn.grad(lambda model: jnp.sum(run(model, X) ** 2))(model)["first", "weight"].value ** 2)


def of_value(run: Model, model: Pair) -> Any:
    value, slope = gn.value_and_grad(lambda model: jnp.sum(run(model, X) ** 2))(model)
    return value + 0 * jnp.sum(slope["second", "weight"].value)


def of_vjp(run: Model, model: Pair) -> Any:
    out, pull = jax.vjp(lambda x: run(model, x), X)
    return jnp.sum(out * pull(jnp.ones(3))[0])


def of_linearize(run: Model, model: Pair) -> Any:
    out, push = jax.linearize(lambda x: run(model, x), X)
    return jnp.sum(out * push(X))


def of_jvp(run: Model, model: Pair) -> Any:
    return jnp.sum(jax.jvp(lambda x: run(model, x), (X,), (X,))[1])


def of_jacrev(run: Model, model: Pair) -> Any:
    return jnp.sum(jax.jacrev(lambda x: run(model, x))(X) ** 2)


def of_grad_of_grad(run: Model, model: Pair) -> Any:
    return jnp.sum(jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(run(model, x)))(x) ** 2))(X))


INNER: list[Callable[[Model, Pair], Any]] = [
    of_grad,
    of_states,
    of_value,
    of_vjp,
    of_linearize,
    of_jvp,
    of_jacrev,
    of_grad_of_grad,
]
SOME = [("gn.remat", of_grad), ("gn.remat", of_value), ("remat in scan", of_grad), ("scan", of_value)]
PROGRAMS = [
    pytest.param(name, inner, marks=[] if (name, inner) in SOME else [pytest.mark.slow])
    for inner in INNER
    for name in MODELS
]


@pytest.mark.parametrize(("name", "inner"), PROGRAMS)
def test_gradients_are_those_with_respect_to_states_that_are_added(name: str, inner: Any):
    """Wherever a node is called in a derivative, also where that computes it a second time: of each place and round."""
    run, shape = MODELS[name]
    model = pair(*shape)
    _, seen, grads = gn.capture_grads(lambda model: inner(run, model), ["first", "second"])(model)
    expected = gn.grad(lambda model: inner(run, model))(model)
    for path in ("first", "second"):
        assert seen[path].shape == grads[path].shape == (*shape, 3)
        np.testing.assert_allclose(grads[path], expected[path, "added"].value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "inner"), SOME)
def test_a_value_stands_wherever_a_derivative_computes_it_again(name: str, inner: Any):
    """The backward pass computes with what was put in: the result is that of a function which returns it."""
    run, shape = MODELS[name]
    model = pair(*shape)
    value = jnp.array([0.1, 0.2, 0.3])
    of_values = gn.intervene(lambda model: inner(run, model), {"first": jnp.broadcast_to(value, (*shape, 3))})
    of_function = gn.intervene(lambda model: inner(run, model), {"first": lambda y: value})
    np.testing.assert_allclose(of_values(model), of_function(model), rtol=1e-6)


def test_gradients_have_the_shapes_of_what_was_captured():
    """Each of its own result; the check knows more or fewer axes, and more or fewer calls."""
    result = {"y": jnp.zeros((2, 3)), "count": 4}
    assert _have_shapes_of([{"y": jnp.ones((2, 3)), "count": None}], [result])
    assert not _have_shapes_of([{"y": jnp.ones(3), "count": None}], [result])
    assert not _have_shapes_of([], [result])


class Constant(gn.Node):
    """Gives the same in each round."""

    weight: gn.ParamState[Array] = gn.state(default_factory=lambda: gn.ParamState(jnp.ones(3)))

    def __call__(self) -> Any:
        """Call it."""
        return jnp.sin(self.weight.value)


def test_what_is_computed_again_and_has_other_axes_there_is_refused():
    """JAX moves what is the same in each round out of the loop, but not where a backward pass computes it again."""

    def loss(one: Constant, x: Any) -> Any:
        step = jax.checkpoint(lambda h, _: (h * one(), None))
        return jnp.sum(jax.grad(lambda x: jnp.sum(jax.lax.scan(step, x, None, length=2)[0] ** 2))(x))

    with pytest.raises(gn.CaptureError) as caught:
        gn.capture_grads(loss, "")(Constant(), X)
    assert str(caught.value) == (
        "gn.capture_grads: one is called inside of a gradient of gn.remat, which computes it once more, and JAX does "
        "not say for which of its calls or rounds: leave the gn.remat (jax.checkpoint) out"
    )
