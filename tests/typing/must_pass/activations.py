"""What is captured has the type that a call of the selected class gives; a function keeps its parameters."""

from collections.abc import Callable
from typing import Any, assert_type

import jax.numpy as jnp
from jaxtyping import Array

import graphnode as gn
from graphnode import Captured


class Block(gn.Node):
    lin: gn.nn.Linear

    def __call__(self, x: Array) -> tuple[Array, Array]:
        y = self.lin(x)
        return y, x

    def encode(self, x: Array) -> Array:
        return self.lin(x)


class Net(gn.Node):
    blocks: list[Block]

    def __call__(self, x: Array, *, scale: float = 1.0) -> Array:
        for block in self.blocks:
            x, _ = block(x)
        return scale * x


net = Net([Block(gn.nn.Linear(2, 2)) for _ in range(2)])
x = jnp.ones((3, 2))


def loss(model: Net, x: Array, power: int = 2) -> Array:
    return jnp.sum(model(x) ** power)


def doubled(y: Array) -> Array:
    return 2 * y


# A class says what its call gives

out, seen = gn.capture(net, Block)(x, scale=2.0)
assert_type(out, Array)
assert_type(seen, Captured[tuple[Array, Array]])
assert_type(seen["blocks.0"], tuple[Array, Array])
assert_type(seen.calls["blocks.0"], tuple[tuple[Array, Array], ...])
assert_type(gn.capture(loss, gn.nn.Linear)(net, x)[1]["blocks.0.lin"], Array)

# A path says nothing of what is there

assert_type(gn.capture(loss, "blocks.*")(net, x, power=3), tuple[Array, Captured[Any]])
assert_type(gn.capture(loss, gn.Under("blocks"), method="encode", missing_ok=True)(net, x)[1], Captured[Any])
assert_type(gn.capture(loss, ...)(net, x)[1], Captured[Any])
assert_type(gn.capture(loss, ["blocks.0", Block], missing_ok=True)(net, x)[1], Captured[Any])

# Gradients have the type of what they are with respect to

assert_type(
    gn.capture_grads(loss, gn.nn.Linear)(net, x),
    tuple[Array, Captured[Array], Captured[Array]],
)
assert_type(gn.capture_grads(loss, "blocks.0")(net, x)[2]["blocks.0"], Any)

# An intervention has the type of the function

assert_type(gn.intervene(loss, {"blocks.*": lambda y: y})(net, x, power=3), Array)
assert_type(gn.intervene(loss, {gn.nn.Linear: doubled})(net, x), Array)
assert_type(gn.intervene(net, seen)(x, scale=2.0), Array)
assert_type(gn.intervene(loss, {Block: lambda y: y, "blocks.0.lin": x})(net, x), Array)
changes: dict[type[Block], Callable[[Any], Any]] = {Block: lambda y: y}
assert_type(gn.intervene(loss, changes)(net, x), Array)

# Transforms keep them

assert_type(gn.jit(gn.capture(loss, gn.nn.Linear))(net, x)[1], Captured[Array])
assert_type(gn.capture(gn.jit(loss), gn.nn.Linear)(net, x)[1], Captured[Array])
