"""`Metrics` and `NamedMetrics`: several metrics that are updated, computed and reset at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import ContractError, FieldError, StructureError, listed
from .._fields import subnode
from .._hints import did_you_mean
from .._signals import write_all
from .._split import states
from ..nn._checks import place
from ._metric import Metric, check_alike


class Metrics(Metric):
    """Several metrics as one: a class that extends it declares them as fields, so that each has its type.

    Example:
        >>> class Evaluation(gn.metrics.Metrics):
        ...     loss: gn.metrics.Mean = gn.subnode(factory=lambda self: gn.metrics.Mean())
        ...     accuracy: gn.metrics.Accuracy = gn.subnode(factory=lambda self: gn.metrics.Accuracy())
        >>> evaluation = Evaluation()
        >>> evaluation.update(loss=jnp.array([1.0, 2.0]), accuracy=(jnp.array([0, 1]), jnp.array([1, 1])))
        >>> evaluation.compute()
        {'loss': Array(1.5, dtype=float32), 'accuracy': Array(0.5, dtype=float32)}
        >>> evaluation.accuracy.compute()
        Array(0.5, dtype=float32)

    See also: `NamedMetrics`, which needs no class.
    """

    # Any: what each metric takes.
    def update(self, *, mask: Any = None, **values: Any) -> None:
        """Add a batch to all metrics, or to none if one of them raises.

        Args:
            mask: Of the shape of the batch: which examples count. Every metric gets it.
            **values: By the name of each metric, what it is updated with: one argument,
                several in a tuple, or a mapping of arguments by name.

        Raises:
            ContractError: There is nothing for a metric, or something for a name that none
                has; what a metric raises.
        """
        metrics = self._named()
        self._check_names(metrics, values)
        common = {} if mask is None else {"mask": mask}
        live = list(states(self).values())
        before = [state.value for state in live]
        try:
            for name, metric in metrics.items():
                _update(metric, values[name], common)
        except BaseException:
            write_all(live, before)
            raise

    # Any: what each metric gives.
    def compute(self) -> dict[str, Any]:
        """What each metric computes, by its name."""
        return {name: metric.compute() for name, metric in self._named().items()}

    def reset(self) -> None:
        """Reset all metrics."""
        for metric in self._named().values():
            metric.reset()

    def merge(self, other: "Metrics") -> None:
        """Add all batches of other metrics, each to the one of its name.

        Raises:
            StructureError: They have another class or other metrics, or are these
                themselves.
        """
        check_alike(self, other)
        others = other._named()
        for name, metric in self._named().items():
            metric.merge(others[name])

    def _named(self) -> Mapping[str, Metric]:
        """The metrics by their names.

        Raises:
            StructureError: Some are in a list, tuple or dict, where they have no names.
        """
        metrics: dict[str, Metric] = {}
        for name, value in vars(self).items():
            if isinstance(value, Metric):
                metrics[name] = value
            elif isinstance(value, (list, tuple, dict)) and _has_metrics(value):
                raise StructureError(
                    f"{place(self)}.{name} has metrics that have no names; "
                    "declare gn.metrics.NamedMetrics in its place"
                )
        return metrics

    def _check_names(
        self, metrics: Mapping[str, Metric], values: Mapping[str, object]
    ) -> None:
        """Raise if values and metrics have not the same names."""
        faults = [_unknown(name, metrics) for name in values if name not in metrics]
        faults += [
            f"nothing for {name}, which takes {name}=..."
            for name in metrics
            if name not in values
        ]
        if faults:
            raise ContractError(f"{place(self)}.update: {listed(faults)}")


class NamedMetrics(Metrics):
    """Several metrics as one, by names that are given to the constructor.

    Args:
        **metrics: The metrics by name.

    Raises:
        FieldError: There are none, a name is that of an argument of `update`, or a value
            is not a metric.

    Example:
        >>> metrics = gn.metrics.NamedMetrics(loss=gn.metrics.Mean(), accuracy=gn.metrics.Accuracy())
        >>> metrics.update(loss=jnp.array([1.0, 2.0]), accuracy=(jnp.array([0, 1]), jnp.array([1, 1])))
        >>> metrics.compute()
        {'loss': Array(1.5, dtype=float32), 'accuracy': Array(0.5, dtype=float32)}
        >>> metrics["loss"].compute()
        Array(1.5, dtype=float32)

    See also: `Metrics`, for declared fields, which type checkers and editors know.
    """

    metrics: dict[str, Metric] = subnode()
    """The metrics by name."""

    def __init__(self, **metrics: Metric) -> None:
        if not metrics:
            raise FieldError(
                "NamedMetrics takes metrics by name, such as loss=gn.metrics.Mean(); found none"
            )
        if "mask" in metrics:
            raise FieldError(
                "NamedMetrics: mask is an argument of update; give the metric another name"
            )
        self.metrics = metrics

    def __getitem__(self, name: str) -> Metric:
        """The metric of a name."""
        return self.metrics[name]

    def _named(self) -> Mapping[str, Metric]:
        return self.metrics


def _has_metrics(value: Sequence[object] | Mapping[str, object]) -> bool:
    """Whether there is a metric among the items of a list, tuple or dict."""
    items = value.values() if isinstance(value, Mapping) else value
    return any(isinstance(item, Metric) for item in items)


# Any: what the metric takes.
def _update(metric: Metric, values: Any, common: Mapping[str, Any]) -> None:
    """Update one metric: with one argument, those of a tuple, or those of a mapping by name."""
    if isinstance(values, tuple):
        metric.update(*values, **common)
    elif isinstance(values, Mapping):
        metric.update(**{**common, **values})
    else:
        metric.update(values, **common)


def _unknown(name: str, metrics: Mapping[str, Metric]) -> str:
    """For a message: that no metric has a name, and which is meant."""
    hint = did_you_mean(name, list(metrics))
    return f"there is no metric {name!r}" + (f"; {hint}" if hint else "")
