"""A selection has the type of its nodes: what is done with them knows their fields."""

from contextlib import AbstractContextManager
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import optax

import graphnode as gn
from graphnode import FlatStates, ParamState, Path, Selection, State, nn


class Net(gn.Node):
    blocks: list[nn.MLP]
    head: nn.Linear
    conv: nn.Conv


net = Net([nn.MLP(2, 3, 2)], nn.Linear(2, 2), nn.Conv(2, 2, 3))

# The class that is asked for, or a union of several.

linears = gn.select(net, nn.Linear)
assert_type(linears, Selection[nn.Linear])
assert_type(gn.select(net), Selection[gn.Node])
assert_type(gn.select([net], Net), Selection[Net])
both = gn.select(net, (nn.Linear, nn.Conv))
assert_type(both, Selection[nn.Linear | nn.Conv])
three = gn.select(net, (nn.Linear, nn.Conv, nn.MLP))
assert_type(three, Selection[nn.Linear | nn.Conv | nn.MLP])
assert_type(gn.select(net).of(nn.Linear), Selection[nn.Linear])
assert_type(gn.select(net).of((nn.Linear, nn.Conv)), Selection[nn.Linear | nn.Conv])

# Steps keep it.

assert_type(linears.under("blocks.*", ("head",)), Selection[nn.Linear])
assert_type(linears.at("head").outside("blocks"), Selection[nn.Linear])
assert_type(linears.where(lambda linear: linear.out_features > 1).exactly(3), Selection[nn.Linear])
assert_type(linears.holding("slow").holding(ParamState), Selection[nn.Linear])

# What is done with the nodes.

for path, linear in linears:
    assert_type(path, Path)
    assert_type(linear, nn.Linear)
for _, either in both:
    assert_type(either, nn.Linear | nn.Conv)
assert_type(len(linears), int)
assert_type(linears.states(), FlatStates[State[Any]])
assert_type(linears.states(ParamState[jax.Array]), FlatStates[ParamState[jax.Array]])
assert_type(linears.states(gn.PathContains("weight")), FlatStates[State[Any]])


def halved(value: jax.Array) -> jax.Array:
    return value / 2


def loss(net: Net) -> jax.Array:
    return net.head.weight.value.sum()


def adapter(linear: nn.Linear) -> nn.LoRALinear:
    return nn.LoRALinear.of(linear, 4, alpha=8.0)


linears.replace(adapter)
linears.replace(lambda linear: nn.Linear(linear.in_size, linear.out_size))
linears.replace(nn.WeightNormLinear.of)
linears.set(dtype=jnp.bfloat16, bias=None)
linears.map(halved)
linears.map(lambda value: value * 2, ParamState)
linears.at("head").reinit(0, w_init=nn.initializers.zeros)
linears.at("head").reinit(jax.random.key(0))
gn.states(net, linears.freeze())
wrt: gn.Filter = linears.freeze()
gn.grad(loss, wrt=linears.freeze())(net)

# A selection of a class is one of its base.


def count(selection: Selection[gn.Node]) -> int:
    return len(selection)


count(linears)

# Adapters are linear maps, and fold back into plain ones.

layer = nn.LoRALinear(2, 3, rank=2)
assert_type(layer.fold(), nn.Linear)
plain = nn.Linear(2, 2)
assert_type(nn.LoRALinear.of(plain, 2), nn.LoRALinear)
assert_type(nn.WeightNormLinear.of(plain), nn.WeightNormLinear)
assert_type(nn.SpectralNormLinear.of(plain, steps=2), nn.SpectralNormLinear)
assert_type(layer.scale, float)
assert_type(layer.delta(), jax.Array)
net.head = layer
optimizer = gn.optim.Optimizer(net, optax.sgd(0.1), wrt=nn.LoRAState)
following: AbstractContextManager[None] = optimizer.following(net)
