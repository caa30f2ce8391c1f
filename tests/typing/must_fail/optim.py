"""Mistakes in calls of optax's factories."""

import optax

import graphnode as gn
from graphnode.optim import Schedule, Transformation


def descent(rate: float) -> Transformation:
    made: Transformation = optax.sgd(rate)
    return made


def constant(rate: float) -> Schedule:
    made: Schedule = optax.constant_schedule(rate)
    return made


class Training(gn.Node):
    tx: Transformation = gn.static()
    rate: Schedule = gn.static()


gn.optim.call(descent, "a")  # E: a text for a number
gn.optim.call(descent)  # E: an argument is missing
gn.optim.call(descent, rate=0.1, momentum=0.9)  # E: no such argument
gn.optim.call(descent(0.1), 0.1)  # E: a transformation for a function
gn.optim.call(len, [1])  # E: it gives a number
gn.optim.call(optax.adam, 1e-3, b9=0.8)  # E: misspelt (missed by mypy: optax says that it has no types)
gn.optim.call(optax.clip, "a")  # E: a text for a number (missed by mypy: optax says that it has no types)
Training(gn.optim.call(constant, 0.1), gn.optim.call(constant, 0.1))  # E: a schedule
Training(gn.optim.call(descent, 0.1), gn.optim.call(descent, 0.1))  # E: a transformation
