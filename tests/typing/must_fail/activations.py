"""Mistakes with what layers return inside of a function."""

import jax.numpy as jnp
from jaxtyping import Array

import graphnode as gn


class Net(gn.Node):
    lin: gn.nn.Linear

    def __call__(self, x: Array) -> Array:
        return self.lin(x)


net = Net(gn.nn.Linear(2, 2))
x = jnp.ones((3, 2))


def loss(model: Net, x: Array) -> Array:
    return jnp.sum(model(x))


gn.capture(loss)  # E: nothing is selected
gn.capture(loss, 3)  # E: a number
gn.capture(net, "lin")(x, x)  # E: one argument too many
gn.capture(loss, "lin")(net)  # E: x is missing
gn.capture(loss, "lin", mehtod="encode")  # E: misspelt
out: Array = gn.capture(loss, "lin")(net, x)  # E: a pair
text: str = gn.capture(loss, gn.nn.Linear)(net, x)[1]["lin"]  # E: an array
gn.capture(loss, "lin")(net, x)[1]["lin"] = x  # E: it does not change
gn.capture(loss, "lin")(net, x)[1].clals  # E: misspelt
value, seen = gn.capture_grads(loss, "lin")(net, x)  # E: a triple
gn.intervene(loss, "lin")  # E: a path for a mapping
gn.intervene(loss, {3: jnp.zeros_like})  # E: a number selects nothing
gn.intervene(loss, {"lin": jnp.zeros_like})(net)  # E: x is missing
text = gn.intervene(loss, {"lin": jnp.zeros_like})(net, x)  # E: an array
