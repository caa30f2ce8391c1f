"""Mistakes in calls of transforms, and of the functions that they make."""

import jax.numpy as jnp
import optax
from jaxtyping import Array

import graphnode as gn
from graphnode import ParamState, ShortTermState, StateTree


class Net(gn.Node):
    weight: ParamState
    seen: ShortTermState

    def __call__(self, x: Array) -> Array:
        return self.weight.value * x

    @gn.jit
    def compiled(self, x: Array, *, power: int = 1) -> Array:
        return self(x) ** power


x = jnp.ones(2)
net = Net(ParamState(x), ShortTermState(x))


@gn.jit
def step(model: Net, x: Array, *, scale: float = 1.0) -> Array:
    return scale * model(x)


def loss(model: Net, x: Array) -> Array:
    return jnp.sum(model(x))


def loss_and_more(model: Net, x: Array) -> tuple[Array, dict[str, Array]]:
    return loss(model, x), {"x": x}


# What a compiled function takes and gives

step(net)  # E: x is missing
step(net, x, x)  # E: one too many
step(x, net)  # E: in the wrong order
step(net, x, scael=2.0)  # E: misspelt
step(net, x, scale="2")  # E: a string for a number
step(net, None)  # E: None for an array
text: str = step(net, x)  # E: an array
print(step(net, x).shpae)  # E: misspelt
net.compiled()  # E: x is missing
net.compiled(x, 2)  # E: by position
net.compiled(net)  # E: a node for an array
net.compiled(x, power="2")  # E: a string for a number
Net.compiled(x)  # E: the node is missing
step.lower(net)  # E: x is missing


@gn.jit(static_argname="scale")  # E: misspelt
def misspelt(model: Net, scale: float) -> Array:
    return scale * model.weight.value


@gn.jit
def inside(model: Net, x: Array) -> Array:
    model.seen.valeu = x  # E: misspelt
    model.seen.value = 3  # E: a number for an array
    model.sene.value = x  # E: misspelt
    return model.weight  # E: a State for an array


gn.jit(3)  # E: no function
gn.jit(step, donate="yes")  # E: a string for a flag

# Derivatives

gn.grad(loss)(net)  # E: x is missing
gn.grad(loss)(x, net)  # E: in the wrong order
gn.grad(loss)(net, x, x)  # E: one too many
gn.grad(loss, has_aux=True)  # E: the function gives no pair
gn.grad(has_aux=True)(loss)  # E: the function gives no pair
gn.grad(loss, wrt=3)  # E: a number for a filter
gn.grad(loss, wrt=Net)  # E: a node class for a filter of States
gn.grad(loss, argnum=1)  # E: misspelt
more: str = gn.grad(loss_and_more, has_aux=True)(net, x)[1]  # E: a dict
wrong_value: str = gn.value_and_grad(loss)(net, x)[0]  # E: an array
gn.value_and_grad(loss)(net)  # E: x is missing
gn.jacrev(loss, has_aux=True)  # E: the function gives no pair
gn.jacfwd(loss)(x)  # E: x for the node
gn.hessian(loss)(net, x, x)  # E: one too many
gn.vjp(loss, net, x, has_aux=True)  # E: the function gives no pair
gn.vjp(loss, net)  # E: x is missing (missed by ty: ty#4011)
a, b, c = gn.vjp(loss, net, x)  # E: a pair
gn.linearize(loss, net, x, has_aux=True)  # E: the function gives no pair
gn.linearize(loss, net)  # E: x is missing (missed by ty: ty#4011)
d, e, f = gn.jvp(loss, (net, x), (None, x))  # E: a pair

# Maps, loops and branches

gn.vmap(loss)(net)  # E: x is missing
gn.vmap(loss, in_axis=0)  # E: misspelt
mapped: str = gn.vmap(loss)(net, x)  # E: an array
gn.scan(loss, net, x)  # E: the function gives no pair
gn.scan(lambda model, x: (model, model(x)), net, x, checkpoint="all")  # E: a string
last, rows = gn.scan(lambda model, x: (model, model(x)), net, x)
last.wieght  # E: misspelt
gn.associative_scan(jnp.sin, x)  # E: a function of one element
looped: StateTree = gn.fori_loop(0, 3, lambda i, model: model, net)  # E: a node
gn.cond(True, loss, step, net, x)
gn.cond(True, loss, net, net, x)  # E: a function of other arguments
gn.switch(0, loss, net, x)  # E: a function for a list of them
chosen: str = gn.cond(True, loss, loss, net, x)  # E: an array

# Others

gn.remat(loss)(net)  # E: x is missing
gn.eval_shape(loss, net)  # E: x is missing
gn.checkify(loss)(net)  # E: x is missing
gn.custom_jvp(loss)(net)  # E: x is missing
gn.custom_jvp(loss).defjvp(loss)  # E: the rule gives no pair
gn.custom_vjp(loss)(net)  # E: x is missing
gn.stack(net)  # E: a node for a list of them
optimizer = gn.optim.Optimizer(net, 1e-3)  # E: a number
gn.optim.Optimizer(net, {gn.Under("a"): 1e-3})  # E: a number
gn.optim.Optimizer(net, optax.sgd(1e-3)).update(net)  # E: the gradients are missing
gn.optim.Optimizer(net, optax.sgd(1e-3)).updaet(net, {})  # E: misspelt
gn.Rngs("0")  # E: a string for a seed
gn.Rngs(0)["dropout"](3)  # E: a stream takes no argument
gn.Rngs(0).normal("3")  # E: a string for a shape
gn.Rngs(0)["dropout"].randint((3,))  # E: the limits are missing
gn.Rngs(0).norml((3,))  # E: misspelt
