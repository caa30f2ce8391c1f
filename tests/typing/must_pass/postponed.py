"""Annotations that are strings, those of jaxtyping among them, give the types that they name."""

from __future__ import annotations

from dataclasses import InitVar
from typing import ClassVar, Protocol, assert_type

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import graphnode as gn
from graphnode import BatchState, ParamState, ShortTermState, State

normal = jax.nn.initializers.normal()


class Activation(Protocol):
    """What a static field may hold: any function of this form."""

    def __call__(self, x: Array, /) -> Array: ...


class Layer(gn.Node):
    units: ClassVar[int] = 0
    width: int
    key: InitVar[PRNGKeyArray | None] = None
    act: Activation = gn.static(default=jax.nn.relu)
    shape: tuple[int, ...] = gn.static(default=(2, 3))
    weight: ParamState[Float[Array, "width width"]] = gn.state(normal)
    kernel: ParamState[Float[Array, "*shape"]] = gn.state(normal, tag="kernel")
    mask: State[Bool[Array, "width"]] = gn.state(init=False)
    count: BatchState[Int[Array, ""]] = gn.state(default_factory=lambda: BatchState(jnp.int32(0)))
    trace: ShortTermState | None = None
    next: Layer | None = None

    def __post_init__(self, key: PRNGKeyArray | None) -> None:
        self.mask = State(jnp.ones(self.width, bool))

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
        return self.act(x @ self.weight.value)


class Deep(Layer):
    """Its own fields come after its parent's."""

    others: dict[str, Layer] = gn.subnode(default_factory=dict[str, Layer])


layer = Layer(3, next=Layer(3, jax.random.key(0), jax.nn.tanh))
assert_type(layer.act(jnp.ones(3)), Array)
assert_type(layer.shape, tuple[int, ...])
assert_type(layer.weight.value, Array)
assert_type(layer.kernel, ParamState[Array])
assert_type(layer.mask.value, Array)
assert_type(layer.count.value, Array)
assert_type(layer.trace, ShortTermState[Array] | None)
assert_type(layer.next, Layer | None)
assert_type(layer(jnp.ones((2, 3))), Array)
assert_type(Layer.units, int)
deep = Deep(3, others={"a": layer})
assert_type(deep.others["a"].weight.value, Array)
assert_type(gn.clone(deep).next, Layer | None)
assert_type(gn.states(deep, BatchState[Array])["count",].value, Array)
if layer.next is not None:
    assert_type(layer.next.next, Layer | None)
