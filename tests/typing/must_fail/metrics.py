"""Mistakes with metrics."""

import jax.numpy as jnp

import graphnode as gn
from graphnode import metrics

x, labels = jnp.ones((3, 2)), jnp.zeros(3, int)


class Incomplete(metrics.Metric):
    def reset(self) -> None: ...


metrics.Mean(2)  # E: the shape goes by name
metrics.Mean(shape=2)  # E: a number for a shape
metrics.Mean().update("a")  # E: a text for values
metrics.Mean().update(x, labels)  # E: one argument too many
metrics.Mean().update(x, mark=labels)  # E: misspelt
metrics.Mean().merge(metrics.Accuracy())  # E: another metric
metrics.Accuracy().update(x)  # E: the labels are missing
metrics.Accuracy(threshold="a")  # E: a text for a number
metrics.ConfusionMatrix()  # E: the number of classes is missing
metrics.ConfusionMatrix(2).update(x, labels, weights=x)  # E: it counts, and takes no weights
metrics.Statistics().compute().deviation  # E: misspelt
metrics.NamedMetrics(loss=x)  # E: an array for a metric
Incomplete()  # E: methods are missing
metrics.ExponentialMovingAverage(gn.nn.Linear(2, 3))  # E: the decay is missing
metrics.ExponentialMovingAverage(gn.nn.Linear(2, 3), "a")  # E: a text for a number
metrics.ExponentialMovingAverage(gn.nn.Linear(2, 3), 0.9).view()  # E: the model is missing
