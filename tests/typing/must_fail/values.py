"""Mistakes in making a State, and in reading and writing its value."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import graphnode as gn
from graphnode import BatchState, HiddenState, LongTermState, ParamState, ShortTermState, State


class Membrane(HiddenState[Array]):
    """A State class of the caller's own."""


class Neurons(gn.Node):
    v: HiddenState[Float[Array, "n"]]
    spikes: BatchState[Int[Array, ""]]
    pair: State[tuple[Array, Array]]
    table: ParamState[dict[str, Array]]
    membrane: Membrane


zero = jnp.zeros(())
neurons = Neurons(HiddenState(zero), BatchState(zero), State((zero, zero)), ParamState({"a": zero}), Membrane(zero))

# Reading a value

value: Array = neurons.v.value
number: int = neurons.v.value  # E: an array
table: Array = neurons.table.value  # E: a dict
item: int = neurons.table.value["a"]  # E: an array
print(neurons.v.vlaue)  # E: misspelt
print(neurons.v + 1)  # E: a State is not an array
print(jnp.sin(neurons.v))  # E: a State is not an array
print(neurons.v[0])  # E: a State is not an array
print(1 - neurons.v)  # E: a State is not an array
print(zero @ neurons.v)  # E: a State is not an array
print(-neurons.v)  # E: a State is not an array
print(neurons.v < 1)  # E: a State is not an array
print(float(neurons.v))  # E: a State is not an array
print(len(neurons.v))  # E: a State is not an array
print(list(neurons.v))  # E: a State is not an array
print(neurons.v.shape)  # E: a State is not an array
print(neurons.v.at[0])  # E: a State is not an array
print(neurons.v.astype(int))  # E: a State is not an array
print(abs(neurons.v))  # E: a State is not an array
print(neurons.pair.value[2])  # E: it has two items

# Writing a value

neurons.v.value = jnp.ones(3)
neurons.v.value = 3  # E: a number for an array
neurons.v.value = "3"  # E: a string for an array
neurons.v.value = None  # E: None for an array
neurons.v.value = [zero]  # E: a list for an array
neurons.v.value = State(zero)  # E: a State for an array
neurons.v.value = neurons.table.value  # E: a dict for an array
neurons.pair.value = (zero,)  # E: a tuple that is too short
neurons.pair.value = zero  # E: an array for a tuple
neurons.table.value["b"] = None  # E: None for an array
neurons.table.value = {"a": 3}  # E: a number for an array
neurons.membrane.value = {"a": zero}  # E: a dict for an array
neurons.v.vlaue = zero  # E: misspelt
neurons.v = neurons.v.value + 1  # E: an array for a State
state = State(zero)
state += zero  # E: a State is not an array
gn.State(zero)[0] = zero  # E: a State is not an array

# Making a State

ParamState(zero, tag="t", name="n", sharding=("x",), metadata={"unit": "mV"})
ParamState()  # E: the value is missing
ParamState(zero, "t")  # E: a tag by position
ParamState(zero, tga="t")  # E: misspelt
ParamState(zero, tag=3)  # E: a number for a tag
ParamState(zero, metadata={"unit": ["mV"]})  # E: metadata that is not hashable
ParamState(zero, metadata="mV")  # E: metadata that is not a mapping
of_array: ParamState = ParamState(3)  # E: a State of another value
of_number: ParamState[int] = ParamState("3")  # E: a State of another value

# What describes a State is fixed.

neurons.v.tag = "t"  # E: read-only
neurons.v.name = "n"  # E: read-only
neurons.v.sharding = None  # E: read-only
neurons.v.metadata["unit"] = "mV"  # E: read-only
neurons.v.metadata = {}  # E: read-only
neurons.v.replace(tag="t")
neurons.v.replace(tga="t")  # E: misspelt
neurons.v.replace(tag=3)  # E: a number for a tag
neurons.v.replace(value=3)  # E: a number for an array
renamed: BatchState = neurons.v.replace(tag="t")  # E: it keeps its class


# Kinds of States


def decay(state: ParamState) -> None:
    state.value = 0.9 * state.value


def reset(state: ShortTermState) -> None:
    state.value = jnp.zeros_like(state.value)


decay(ParamState(zero))
decay(neurons.spikes)  # E: no parameter
decay(neurons.table)  # E: a parameter of another value
decay(zero)  # E: an array
reset(neurons.membrane)
reset(neurons.spikes)  # E: no short-term State
short: ShortTermState = ParamState(zero)  # E: a long-term State
long: LongTermState = Membrane(zero)  # E: a short-term State
hidden: list[HiddenState] = [Membrane(zero), State(zero)]  # E: a State that is not hidden

# Other libraries' names

print(gn.Param)  # E: gn.ParamState
print(gn.split)  # E: gn.treefy_split
print(gn.Linear)  # E: gn.nn.Linear
print(gn.nn.Dense)  # E: gn.nn.Linear
print(gn.nn.ReLU)  # E: jax.nn.relu
print(gn.nn.relu)  # E: jax.nn.relu
print(neurons.eval())  # E: gn.view
print(neurons.train)  # E: gn.view
print(neurons.parameters())  # E: gn.states
neurons.train = True  # E: no field
