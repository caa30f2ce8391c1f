"""Mistakes in a class whose annotations are strings."""

from __future__ import annotations

from dataclasses import InitVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import BatchState, ParamState, State

ones = jax.nn.initializers.ones
zero = jnp.zeros(())


class Layer(gn.Node):
    width: int
    scale: InitVar[float] = 1.0
    weight: ParamState[Float[Array, "width"]] = gn.state(ones)
    sum: State[Float[Array, ""]] = gn.state(init=False)
    next: Layer | None = None

    def __post_init__(self, scale: float) -> None:
        self.sum = ParamState(zero)
        self.sum = scale  # E: a number for a State
        self.total = scale  # OK
        self.widht = 2  # OK


class Typo(gn.Node, kw_onyl=True):  # E: misspelt
    width: int


class Unnamed(gn.Node):
    layer: Lyaer  # E: misspelt


class Overriding(gn.Node):
    width: int

    def __post_init__(self, scale: float) -> None:  # E: no field gives it
        print(scale)


Layer("3")  # E: a string for a number
Layer(3, "1")  # E: a string for a number
Layer(3, 1.0, ParamState(zero))  # E: a State for a node
Layer(3, sum=State(zero))  # E: __post_init__ sets it
Layer(3, wieght=None)  # E: misspelt
Layer(3, next=Layer)  # E: a class for a node
layer = Layer(3, next=Layer(3))
print(layer.next.width)  # E: may be None
print(layer.weight.value.shpae)  # E: misspelt
layer.weight = BatchState(zero)  # E: another kind of State
layer.next = 3  # E: a number for a node
text: str = layer.sum.value  # E: an array
