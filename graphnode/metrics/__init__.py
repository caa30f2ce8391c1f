"""Metrics as nodes: means, accuracies, statistics, and moving averages of models."""

from ._accuracy import Accuracy as Accuracy
from ._average import AverageState as AverageState
from ._average import ExponentialMovingAverage as ExponentialMovingAverage
from ._confusion_matrix import ConfusionMatrix as ConfusionMatrix
from ._mean import Mean as Mean
from ._metric import Metric as Metric
from ._metric import MetricState as MetricState
from ._metrics import Metrics as Metrics
from ._metrics import NamedMetrics as NamedMetrics
from ._statistics import Statistics as Statistics
from ._statistics import Summary as Summary
