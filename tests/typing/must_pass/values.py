"""A State's value has the type that the State was declared or made with; `State` alone holds an array."""

from collections.abc import Hashable
from typing import Any, TypedDict, assert_type

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode import BatchState, HiddenState, LongTermState, ParamState, ShortTermState, State


class Weights(TypedDict):
    kernel: Array
    bias: Array


class Membrane(HiddenState[Array]):
    """A State class of the caller's own."""


class Neurons(gn.Node):
    v: HiddenState
    shaped: ParamState[Float[Array, "rows cols"]]
    spikes: BatchState[Int[Array, ""]]
    pair: State[tuple[Array, Array]]
    weights: ParamState[Weights]
    table: ParamState[dict[str, Array]]
    membrane: Membrane
    optional: ParamState[Array | None]
    anything: State[Any]


zero = jnp.zeros(())
neurons = Neurons(
    HiddenState(zero),
    ParamState(jnp.ones((2, 3))),
    BatchState(jnp.int32(0)),
    State((zero, zero)),
    ParamState({"kernel": zero, "bias": zero}),  # OK (reported by pyrefly: to it the dict is not a Weights here)
    ParamState({"a": zero}),
    Membrane(zero),
    ParamState(None),
    State("anything"),
)

# Reading

assert_type(neurons.v.value, Array)
assert_type(neurons.shaped.value, Array)
assert_type(neurons.spikes.value, Array)
assert_type(neurons.pair.value, tuple[Array, Array])
assert_type(neurons.pair.value[1], Array)
assert_type(neurons.weights.value, Weights)
assert_type(neurons.weights.value["kernel"], Array)
assert_type(neurons.table.value["a"], Array)
assert_type(neurons.membrane.value, Array)
assert_type(neurons.anything.value, Any)

# Writing

neurons.v.value = jnp.ones(3)
neurons.v.value = neurons.v.value + 1
neurons.v.value += 1
neurons.pair.value = (zero, neurons.v.value)
neurons.weights.value = {"kernel": zero, "bias": zero}
neurons.table.value = {"b": zero}
neurons.optional.value = zero
neurons.optional.value = None
neurons.anything.value = 3

# A State that is made has the type of its value.

assert_type(ParamState(zero), ParamState[Array])
assert_type(ParamState(3), ParamState[int])
assert_type(State({"a": zero}).value, dict[str, Array])
assert_type(Membrane(zero), Membrane)
assert_type(BatchState(zero, name="n", tag="t", sharding=(), metadata={"unit": "mV"}), BatchState[Array])

# Its description

assert_type(neurons.v.name, str | None)
assert_type(neurons.v.tag, str | None)
assert_type(neurons.v.sharding, Hashable)
assert_type(list(neurons.v.metadata), list[str])

# `replace` keeps the class.

assert_type(neurons.v.replace(tag="t"), HiddenState[Array])
assert_type(neurons.membrane.replace(value=zero, name=None, metadata={}), Membrane)

# Each class is also its parents'.

long_term: list[LongTermState] = [ParamState(zero), BatchState(zero)]
short_term: list[ShortTermState] = [HiddenState(zero), Membrane(zero)]
every: list[State] = [*long_term, *short_term, State(zero)]
assert_type([state.value for state in every], list[Array])
