"""A transformed function has the signature of the function; its result is of the type that can be said."""

from collections.abc import Callable
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

import graphnode as gn
from graphnode import ParamState, ShortTermState, StateTree


class Net(gn.Node):
    weight: ParamState
    seen: ShortTermState

    def __call__(self, x: Array) -> Array:
        self.seen.value = x
        return self.weight.value * x

    @gn.jit
    def compiled(self, x: Array, *, power: int = 1) -> Array:
        return self(x) ** power

    def loss(self, x: Array) -> Array:
        return jnp.sum(self(x))


x = jnp.ones(2)
net = Net(ParamState(x), ShortTermState(x))


def apply(model: Net, x: Array, *, scale: float = 1.0) -> Array:
    return scale * model(x)


def loss(model: Net, x: Array) -> Array:
    return jnp.sum(model(x))


def loss_and_more(model: Net, x: Array) -> tuple[Array, dict[str, Array]]:
    return loss(model, x), {"x": x}


# Compiled: by a call, as a decorator with and without arguments, as a method.

assert_type(gn.jit(apply)(net, x, scale=2.0), Array)


@gn.jit
def step(model: Net, x: Array) -> tuple[Array, int]:
    return model(x), 3


@gn.jit(static_argnames="power", donate=True)
def powered(model: Net, power: int) -> Array:
    return model.weight.value**power


assert_type(step(net, x), tuple[Array, int])
assert_type(powered(net, power=2), Array)
assert_type(net.compiled(x), Array)
assert_type(net.compiled(x, power=2), Array)
assert_type(Net.compiled(net, x), Array)
lowered: jax.stages.Lowered = step.lower(net, x)
assert_type(step.lower(net, x).compile()(net, x), tuple[Array, int])
assert_type(step.trace(net, x).lower().compile()(net, x), tuple[Array, int])
assert_type(step.eval_shape(net, x), tuple[Array, int])
as_function: Callable[[Net, Array], tuple[Array, int]] = step

# Derivatives: of what they are is known at run time alone, the auxiliary result is typed.

gradient: StateTree = gn.grad(loss)(net, x)
of_both: tuple[StateTree, Array] = gn.grad(loss, argnums=(0, 1))(net, x)
assert_type(gn.grad(loss_and_more, has_aux=True)(net, x), tuple[Any, dict[str, Array]])
assert_type(gn.grad(has_aux=True)(loss_and_more)(net, x)[1]["x"], Array)
assert_type(gn.value_and_grad(loss)(net, x), tuple[Array, Any])
assert_type(gn.value_and_grad(loss_and_more, has_aux=True)(net, x)[0], tuple[Array, dict[str, Array]])
assert_type(gn.jacrev(loss_and_more, has_aux=True)(net, x)[1], dict[str, Array])
assert_type(gn.jacfwd(loss_and_more, has_aux=True)(net, x)[1], dict[str, Array])
assert_type(gn.hessian(loss_and_more, has_aux=True)(net, x)[1], dict[str, Array])


@gn.value_and_grad(wrt=ParamState)
def decorated(model: Net, x: Array) -> Array:
    return loss(model, x)


value, _ = decorated(net, x)
assert_type(value, Array)
of_lambda = gn.grad(lambda model, x: model.loss(x))(net, x)  # OK (reported by pyright: a lambda has no types)
of_method: Array = gn.grad(net.loss)(x)

result, pull_back = gn.vjp(apply, net, x)
assert_type(result, Array)
assert_type(pull_back(result), tuple[Any, ...])
result, pull_back, more = gn.vjp(loss_and_more, net, x, has_aux=True)
assert_type(more, dict[str, Array])
result, along = gn.linearize(apply, net, x)
assert_type(result, Array)
assert_type(along(gradient, x), Array)
assert_type(gn.linearize(loss_and_more, net, x, has_aux=True)[2], dict[str, Array])
primal, tangent = gn.jvp(loss, (net, x), (gradient, x))
assert_type(primal, Array)
assert_type(gn.jvp(loss_and_more, (net, x), (gradient, x), has_aux=True)[2], dict[str, Array])

# Maps


def make(key: Array) -> Net:
    return Net(ParamState(jax.random.normal(key, (2,))), ShortTermState(x))


keys = jax.random.split(jax.random.key(0), 3)
ensemble = gn.vmap(make)(keys)
rows_of = jnp.ones((3, 2))
assert_type(gn.vmap(make, out_axes=gn.axes({ParamState: 0, ...: None}))(keys), Net)
assert_type(gn.vmap(apply)(ensemble, rows_of), Array)
assert_type(gn.vmap(in_axes=(gn.axes({ParamState: 0, ...: 0}), 0))(apply)(ensemble, rows_of), Array)
assert_type(ensemble, Net)
assert_type(gn.unstack(ensemble), list[Net])
assert_type(gn.stack([net, net]), Net)
assert_type(gn.view(net), Net)

# Loops and branches


def advance(model: Net, x: Array) -> tuple[Net, Array]:
    return model, model(x)


last, rows = gn.scan(advance, net, jnp.ones((3, 2)))
assert_type(last, Net)
assert_type(rows, Array)


def again(i: Array, model: Net) -> Net:
    return model


def is_first(carry: tuple[Net, int]) -> bool:
    return carry[1] < 3


def following(carry: tuple[Net, int]) -> tuple[Net, int]:
    return carry[0], carry[1] + 1


assert_type(gn.fori_loop(0, 3, again, net), Net)
assert_type(gn.while_loop(is_first, following, (net, 0)), tuple[Net, int])
of_a_lambda: Net = gn.fori_loop(0, 3, lambda i, model: model, net)


def positive(model: Net, x: Array) -> Array:
    return model(x)


def negative(model: Net, x: Array) -> Array:
    return -model(x)


assert_type(gn.cond(x[0] > 0, positive, negative, net, x), Array)
assert_type(gn.switch(1, [positive, negative], net, x), Array)
either = gn.cond(True, lambda model: model.weight.value, lambda model: -model.weight.value, net)

assert_type(gn.associative_scan(jnp.add, x), Array)


def second(a: Net, b: Net) -> Net:
    return b


assert_type(gn.associative_scan(second, ensemble), Net)

# Others

assert_type(gn.remat(apply)(net, x, scale=2.0), Array)
ruled = gn.custom_jvp(loss)


@ruled.defjvp
def rule(primals: tuple[Net, Array], tangents: tuple[Any, Array]) -> tuple[Array, Array]:
    return loss(*primals), tangents[1].sum()


assert_type(ruled(net, x), Array)
assert_type(rule((net, x), ({}, x)), tuple[Array, Array])
assert_type(gn.eval_shape(apply, net, x, scale=2.0), Array)
assert_type(gn.checkify(apply)(net, x)[1], Array)

# An optimizer

optimizer = gn.optim.Optimizer(net, optax.sgd(1e-3))
assert_type(optimizer, gn.optim.Optimizer)
assert_type(optimizer.update(net, gradient), gn.StateTree)
in_two_steps = gn.optim.Optimizer(net, optax.MultiSteps(optax.sgd(1e-3), 2), wrt=gn.ParamState)
in_parts = {gn.PathContains("weight"): optax.sgd(1e-3), gn.PathContains("b", missing_ok=True): None}
gn.optim.Optimizer(net, in_parts)
gn.optim.Optimizer(
    net,
    {gn.PathIn("b", missing_ok=True): optax.adam(1e-3), ParamState: optax.MultiSteps(optax.sgd(1e-3), 2), ...: None},
)
of_weights = gn.optim.labels({gn.PathContains("weight"): True, gn.ShortTermState: False, ...: False})
assert_type(of_weights(gradient), gn.StateTree)
gn.optim.Optimizer(net, gn.optim.lookahead(optax.adamw(1e-3, mask=of_weights), 5, 0.5))
in_two_steps.set_native_state(net, in_two_steps.native_state(net))
rngs = gn.Rngs(0, dropout=1)
assert_type(rngs["dropout"], gn.RngStream)
assert_type(rngs["dropout"](), Array)
assert_type(rngs.normal((2, 3), dtype=float), Array)
assert_type(rngs["dropout"].bernoulli(0.5, (3,)), Array)
assert_type(rngs.choice(5, (2,), replace=False), Array)
assert_type(rngs.multinomial(3.0, x, shape=None), Array)
drawing: Callable[[tuple[int, ...]], Array] = rngs.uniform
