"""A small model and what is done with it: the program in which the probes complete."""

from dataclasses import InitVar
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

import graphnode as gn

N = TypeVar("N", bound=gn.Node)


def zero() -> gn.ShortTermState[Array]:
    """A count that starts at nothing."""
    return gn.ShortTermState(jnp.int32(0))


class Layer(gn.Node):
    """A linear map that counts its calls."""

    in_size: int
    """Features of the input."""
    out_size: int
    """Features of the output."""
    scale: InitVar[float] = 1.0
    """What the weight is multiplied with."""
    weight: gn.ParamState[Float[Array, "in_size out_size"]] = gn.state(jax.nn.initializers.lecun_normal())
    """The coefficients, a row for each feature of the input."""
    shift: gn.ParamState[Float[Array, "out_size"]] | None = gn.state(default=None)
    """Added to the output."""
    calls: gn.ShortTermState[Array] = gn.state(default_factory=zero)
    """How often the layer was called."""

    def __post_init__(self, scale: float) -> None:
        """Scale the weight."""
        self.weight.value *= scale

    def __call__(self, x: Float[Array, "batch in_size"]) -> Float[Array, "batch out_size"]:
        """Map a batch, and count the call."""
        self.calls.value += 1
        return x @ self.weight.value


class Sensor(Layer, kw_only=True):
    """A layer with arguments by name."""

    gain: float = 1.0
    """Multiplied with the output."""
    channel: str = gn.static(default="left")
    """Where the signal comes from."""


class Model(gn.Node):
    """Layers, one after the other."""

    layers: list[Layer]
    """What the input goes through, in order."""
    head: Layer
    """What gives the output."""

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch out"]:
        """Map a batch through all layers."""
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Wrapped(gn.Node, Generic[N]):
    """Any node, held by another."""

    inner: N
    """What is wrapped."""


x = jnp.ones((4, 2))
sensor = Sensor(3, 3, scale=0.5, gain=2.0)
m = Model([Layer(2, 3), sensor], head=Layer(3, 1))
wrapped = Wrapped(m)
explicit: Wrapped[Model] = Wrapped(m)
graphdef, params, others = gn.treefy_split(m, gn.ParamState, ...)
merged = gn.treefy_merge(graphdef, params, others)
flat = gn.states(m, gn.ParamState)
path = gn.parse_path("head.weight")
copy = gn.clone(m)
rngs = gn.Rngs(0, dropout=1)
optimizer = gn.optim.Optimizer(m, optax.sgd(0.1))


def loss_of(model: Model, x: Float[Array, "batch features"]) -> Float[Array, ""]:
    """The mean square of the output."""
    return jnp.mean(model(x) ** 2)


gradients = gn.grad(loss_of)(m, x)
loss, gradients_too = gn.value_and_grad(loss_of)(m, x)


@gn.jit
def step(model: Model, x: Float[Array, "batch features"]) -> Model:
    """Make one step of training."""
    optimizer.update(model, gn.grad(loss_of)(model, x))
    return model


def build(key: jax.Array) -> Layer:
    """A layer of its own randomness."""
    with gn.random.scope(key):
        return Layer(2, 3)


ensemble = gn.vmap(build)(jax.random.split(jax.random.key(0), 5))
