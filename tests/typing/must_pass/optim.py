"""A call of one of optax's factories is of the type that the factory gives."""

from typing import assert_type

import optax

import graphnode as gn
from graphnode.optim import Schedule, Transformation


def descent(rate: float | Schedule, momentum: float = 0.0) -> Transformation:
    made: Transformation = optax.sgd(rate, momentum)
    return made


def constant(rate: float) -> Schedule:
    made: Schedule = optax.constant_schedule(rate)
    return made


gn.config.register("typed_descent", descent)
assert_type(gn.optim.call(constant, rate=0.1), Schedule)
assert_type(gn.optim.call(descent, 0.1), Transformation)
assert_type(gn.optim.call(descent, gn.optim.call(constant, 0.1), momentum=0.9), Transformation)

schedule = gn.optim.call(optax.cosine_decay_schedule, 1e-3, decay_steps=100)
adam = gn.optim.call(optax.adam, schedule, b1=0.8)
chain = gn.optim.call(optax.chain, gn.optim.call(optax.clip, 1.0), adam)
several = gn.optim.call(optax.MultiSteps, chain, 2)


class Training(gn.Node):
    tx: Transformation = gn.static()
    rate: Schedule = gn.static()


Training(adam, schedule)
Training(optax.adam(1e-3), optax.constant_schedule(0.1))
Training(gn.optim.call(descent, 0.1), gn.optim.call(constant, 0.1))
gn.optim.Optimizer(gn.nn.Linear(2, 3), chain)
gn.optim.Optimizer(gn.nn.Linear(2, 3), {gn.Under("weight"): adam, ...: None})
