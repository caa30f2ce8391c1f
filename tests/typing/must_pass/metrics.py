"""Metrics give arrays, and a model with averages is of the model's type."""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np

import graphnode as gn
from graphnode import metrics

x, labels = jnp.ones((3, 2)), jnp.zeros(3, int)


class Evaluation(metrics.Metrics):
    loss: metrics.Mean = gn.subnode(factory=lambda self: metrics.Mean())
    accuracy: metrics.Accuracy = gn.subnode(factory=lambda self: metrics.Accuracy(top_k=1))


class Largest(metrics.Metric):
    value: metrics.MetricState[jax.Array]

    def update(self, values: jax.Array) -> None:
        self.value.value = jnp.maximum(self.value.value, values.max())

    def compute(self) -> jax.Array:
        return self.value.value

    def reset(self) -> None:
        self.value.value = jnp.float32(0)

    def merge(self, other: "Largest") -> None:
        self.update(other.value.value)


mean = metrics.Mean(shape=(2,))
mean.update(x, mask=np.ones(3, bool), weights=jnp.ones(3))
assert_type(mean.compute(), jax.Array)
mean.merge(metrics.Mean(shape=(2,)))

statistics = metrics.Statistics(ddof=1)
statistics.update(1.0)
assert_type(statistics.compute(), metrics.Summary)
assert_type(statistics.compute().std, jax.Array)

matrix = metrics.ConfusionMatrix(2)
matrix.update(x, labels, mask=labels >= 0)
assert_type(matrix.f1(), jax.Array)

evaluation = Evaluation()
evaluation.update(loss=x, accuracy=(x, labels))
assert_type(evaluation.compute(), dict[str, Any])
assert_type(evaluation.accuracy, metrics.Accuracy)
assert_type(evaluation.accuracy.compute(), jax.Array)
several = metrics.NamedMetrics(evaluation=evaluation, largest=Largest(metrics.MetricState(jnp.float32(0))))
assert_type(several["largest"], metrics.Metric)

model = gn.nn.Linear(2, 3)
ema = metrics.ExponentialMovingAverage(model, 0.99, (gn.ParamState, gn.BatchState), debias=False)
ema.update(model)
assert_type(ema.view(model), gn.nn.Linear)
pair = (model, gn.nn.Embedding(2, 3))
assert_type(metrics.ExponentialMovingAverage(pair, 0.9).view(pair), tuple[gn.nn.Linear, gn.nn.Embedding])
assert_type(ema.updates.value, jax.Array)
