"""`gn.metrics`: values as NumPy has them in float64, however the data is cut, mapped, looped over or split."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array

import graphnode as gn
from graphnode.metrics import (
    Accuracy,
    ConfusionMatrix,
    Mean,
    Metric,
    Metrics,
    MetricState,
    NamedMetrics,
    Statistics,
)
from tests.devices import run_with_devices


def floats(values: Sequence[object]) -> np.ndarray:
    """The values in float32."""
    return np.array(values, np.float32)


# One shape of a batch, so that each update is compiled once.
SIZE = 4
VALUES = floats([1.5, -2.0, 1e4, 0.1, 3.0, 1e-3, 7.0, -2.5, 1e4 + 1])
LABELS = np.array([0, 2, 1, 1, 0, 2, 2, 1, 0])
PREDICTIONS = np.array([0, 2, 2, 1, 1, 2, 0, 1, 0])


class Evaluation(Metrics):
    """Metrics as declared fields."""

    loss: Mean = gn.subnode(factory=lambda self: Mean())
    accuracy: Accuracy = gn.subnode(factory=lambda self: Accuracy())


def batches(order: Sequence[int], sizes: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions in the data, cut into batches of these sizes, each filled up with a mask."""
    result: list[tuple[np.ndarray, np.ndarray]] = []
    rest = list(order)
    for size in [*sizes, *[SIZE] * len(rest)]:
        if not rest:
            break
        positions, rest = rest[:size], rest[size:]
        filled = np.array(positions + [0] * (SIZE - len(positions)))
        result.append((filled, np.arange(SIZE) < len(positions)))
    return result


ALL = batches(range(9), [4, 4, 1])
ORDERS = st.permutations(range(9))
CUTS = st.lists(st.integers(1, SIZE), max_size=9)


def statistics_of(order: Sequence[int], sizes: Sequence[int]) -> Statistics:
    metric = Statistics()
    for positions, mask in batches(order, sizes):
        # What is left out may be anything.
        metric.update(np.where(mask, VALUES[positions], np.float32(np.nan)), mask=mask)
    return metric


# Values


def test_the_mean_is_that_of_all_values_and_not_of_the_means_of_batches():
    """The last batch is shorter, and counts as much as it has values."""
    metric = Mean()
    for positions, mask in ALL:
        metric.update(VALUES[positions], mask=mask)
    assert float(metric.compute()) == np.float32(VALUES.astype(np.float64).mean())


def test_ten_million_values_have_the_mean_that_float64_gives():
    """To the last bit in float32."""
    batch = np.linspace(0.1, 0.2, 10**6, dtype=np.float32)
    metric = Mean()
    for _ in range(10):
        metric.update(batch)
    assert float(metric.compute()) == np.float32(batch.astype(np.float64).mean())
    assert metric.weight.value.tolist() == [1e7, 0]


def test_a_count_goes_on_where_a_float_does_not():
    """2**24 + 1 has no float32, and is counted."""
    metric = Mean()
    metric.update(jnp.float32(1), weights=2**24)
    metric.update(jnp.float32(1))
    assert metric.weight.value.tolist() == [2.0**24, 1]
    assert float(metric.compute()) == 1


def test_weights_are_those_of_numpy():
    """`np.average` of what the mask leaves."""
    metric = Mean()
    weights = floats([0.5, 2.0, 0.0, 3.0])
    metric.update(np.where(weights > 0, VALUES[:4], np.float32(np.inf)), weights=weights)
    assert float(metric.compute()) == pytest.approx(np.average(VALUES[:4], weights=weights), rel=1e-7)


def test_integers_and_booleans_have_means():
    """Also integers that float32 would round."""
    metric = Mean()
    metric.update(jnp.array([2**30 + 1, 2**30 + 3, -(2**30), -(2**30)]))
    assert float(metric.compute()) == 1
    metric.reset()
    metric.update(np.array([True, False, True, True]))
    assert float(metric.compute()) == 0.75


def test_an_infinite_value_has_an_infinite_mean():
    """And no NaN, which the error of a sum would be."""
    metric = Mean()
    metric.update(floats([1, np.inf, 2, 3]))
    metric.update(floats([1, 1, 2, 3]))
    assert float(metric.compute()) == np.inf


def test_statistics_are_those_of_numpy():
    """Of values whose mean is large beside their deviation, of which a mean of squares would leave nothing."""
    values = floats([10001.25, 9999.5, 10000.75, 10002.0, 9998.0, 10000.5, 9999.25, 10003.0])
    metric = Statistics(ddof=1)
    metric.update(values[:4])
    metric.update(values[4:])
    summary, exact = metric.compute(), values.astype(np.float64)
    assert float(summary.count) == 8
    assert float(summary.mean) == np.float32(exact.mean())
    assert float(summary.variance) == pytest.approx(exact.var(ddof=1), rel=1e-7)
    assert float(summary.std) == pytest.approx(exact.std(ddof=1), rel=1e-7)
    assert (float(summary.minimum), float(summary.maximum)) == (9998, 10003)


@pytest.mark.slow
def test_each_feature_has_statistics_of_its_own():
    """Over all axes but the last ones."""
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2) ** 2
    metric = Statistics(shape=(2,))
    metric.update(values, mask=np.ones((4, 3), bool))
    np.testing.assert_allclose(metric.compute().std, values.astype(np.float64).std((0, 1)), rtol=1e-7)


def test_the_metric_of_nothing_is_nan():
    """And not 0, which would look like a value."""
    empty = [Mean().compute(), Accuracy().compute(), ConfusionMatrix(2).accuracy()]
    summary = Statistics().compute()
    empty += [summary.mean, summary.variance, summary.std, summary.minimum, summary.maximum]
    assert np.isnan(np.array(empty)).all()
    assert float(summary.count) == 0


@pytest.mark.parametrize(
    ("top_k", "expected"), [(1, [0, 0, 0, 1, 0, 0]), (2, [0, 0, 1, 1, 0, 0])], ids=["argmax", "top 2"]
)
def test_a_prediction_is_right_if_its_label_is_among_the_largest(top_k: int, expected: list[int]):
    """Equal scores are not right at once, NaN never is, and a label without a class is wrong."""
    nan = np.nan
    scores = floats([[1, 1, 1], [0, nan, 2], [0, 1, 2], [0, 1, 2], [nan, nan, nan], [0, 1, 2]])
    metric = Accuracy(top_k=top_k)
    metric.update(scores, np.array([2, 1, 1, 2, 0, -1]))
    assert float(metric.compute()) == np.float32(np.mean(expected))


def test_a_threshold_says_which_labels_are_predicted():
    """Each label of an example counts by itself."""
    metric = Accuracy(threshold=0.5)
    metric.update(floats([[0.5, 0.2], [0.4, 0.9]]), np.array([[True, True], [False, True]]))
    assert float(metric.compute()) == 0.75


def test_a_confusion_matrix_counts_and_gives_rates():
    """Rows are labels, columns predictions; what is no class is left out."""
    matrix = ConfusionMatrix(3)
    for positions, mask in ALL:
        matrix.update(np.eye(3, dtype=np.float32)[PREDICTIONS[positions]], LABELS[positions], mask=mask)
    assert matrix.compute().tolist() == [[2, 1, 0], [0, 2, 1], [1, 0, 2]]
    matrix.update(np.array([0, 3, -1, 1], np.int8), np.array([5, 1, 1, 1], np.uint8))
    assert matrix.compute().tolist() == [[2, 1, 0], [0, 3, 1], [1, 0, 2]]
    np.testing.assert_allclose(matrix.precision(), [2 / 3, 3 / 4, 2 / 3], rtol=1e-7)
    np.testing.assert_allclose(matrix.recall(), [2 / 3, 3 / 4, 2 / 3], rtol=1e-7)
    np.testing.assert_allclose(matrix.f1(), [2 / 3, 3 / 4, 2 / 3], rtol=1e-7)
    assert float(matrix.accuracy()) == np.float32(0.7)


def test_a_count_goes_beyond_32_bits():
    """The matrix shows the largest integer then, and the rates are right."""
    matrix = ConfusionMatrix(2)
    matrix.counts.value = jnp.array([[[0, 0], [0, 0]], [[2**32 - 1, 5], [0, 2**31]]], jnp.uint32)
    matrix.merge(gn.clone(matrix))
    assert matrix.counts.value.tolist() == [[[1, 0], [0, 1]], [[2**32 - 2, 10], [0, 0]]]
    assert matrix.compute().tolist() == [[2**31 - 1, 10], [0, 2**31 - 1]]
    assert float(matrix.accuracy()) == np.float32(1 - 10 / (2**33 + 8 + 2**32))


# Cuts and orders


@given(ORDERS, CUTS)
def test_batches_in_any_order_and_cut_give_the_same(order: list[int], sizes: list[int]):
    """Mean and deviation are those of float64, up to the last bit; minimum and maximum are exact."""
    summary, exact = statistics_of(order, sizes).compute(), VALUES.astype(np.float64)
    assert float(summary.mean) == pytest.approx(exact.mean(), rel=1e-7)
    assert float(summary.std) == pytest.approx(exact.std(), rel=3e-7)
    assert (float(summary.minimum), float(summary.maximum)) == (exact.min(), exact.max())


@given(ORDERS, CUTS, st.integers(0, 9))
def test_merging_is_as_updating_with_both(order: list[int], sizes: list[int], cut: int):
    """Of two metrics, one of which may have seen nothing."""
    merged = statistics_of(order[:cut], sizes)
    merged.merge(statistics_of(order[cut:], sizes))
    of_both = statistics_of(order, sizes).compute()
    for value, expected in zip(jax.tree.leaves(merged.compute()), jax.tree.leaves(of_both), strict=True):
        np.testing.assert_allclose(value, expected, rtol=3e-7)


# Transforms


def metrics_of_each() -> NamedMetrics:
    return NamedMetrics(statistics=Statistics(), accuracy=Accuracy(), confusion=ConfusionMatrix(3))


def add_batch(metrics: NamedMetrics, values: Array, predictions: Array, labels: Array, mask: Array) -> None:
    classes = (predictions, labels)
    metrics.update(statistics=values, accuracy=classes, confusion=classes, mask=mask)


STACKED = [
    jnp.stack([jnp.asarray(data[positions]) for positions, _ in ALL]) for data in (VALUES, PREDICTIONS, LABELS)
] + [jnp.stack([jnp.asarray(mask) for _, mask in ALL])]


def test_updates_in_a_compiled_scan_are_those_outside():
    """As the carry, and with the caller's metrics written."""
    eager, scanned = metrics_of_each(), metrics_of_each()
    for batch in zip(*STACKED, strict=True):
        add_batch(eager, *batch)

    def body(metrics: NamedMetrics, batch: tuple[Array, ...]) -> tuple[NamedMetrics, None]:
        add_batch(metrics, batch[0], batch[1], batch[2], batch[3])
        return metrics, None

    gn.jit(lambda metrics, xs: gn.scan(body, metrics, xs)[1])(scanned, tuple(STACKED))
    jax.tree.map(np.testing.assert_array_equal, gn.treefy_states(eager), gn.treefy_states(scanned))
    assert scanned["confusion"].compute().tolist() == [[2, 1, 0], [0, 2, 1], [1, 0, 2]]


def test_metrics_of_an_ensemble_are_mapped_and_merged():
    """Each lane has its own; together they are one metric of all."""
    lanes = gn.stack([Mean() for _ in range(3)])
    gn.vmap(lambda metric, values, mask: metric.update(values, mask=mask))(lanes, STACKED[0], STACKED[3])
    each = gn.vmap(lambda metric: metric.compute())(lanes)
    assert each.tolist() == [np.float32(VALUES[cut].astype(np.float64).mean()) for cut in (np.s_[:4], np.s_[4:8], [8])]
    first, *others = gn.unstack(lanes)
    for other in others:
        first.merge(other)
    assert float(first.compute()) == np.float32(VALUES.astype(np.float64).mean())


@pytest.mark.slow
def test_a_metric_inside_of_a_loss_is_updated_and_not_differentiated():
    """The gradient is that of the loss alone."""
    layer, metric = gn.nn.Linear(2, 1, use_bias=False), Mean()

    def loss_of(layer: gn.nn.Linear, metric: Mean, x: Array) -> Array:
        losses = jnp.sum(layer(x), axis=1)
        metric.update(losses)
        return losses.mean() + 0 * metric.compute()

    gradient = gn.grad(loss_of)(layer, metric, jnp.ones((SIZE, 2)))
    assert gradient["weight"].value.tolist() == [[1], [1]]
    assert float(metric.compute()) == pytest.approx(float(layer.weight.value.sum()), rel=1e-6)


@pytest.mark.slow
def test_metrics_of_batches_over_eight_devices_are_those_of_one():
    """With axes that the compiler lays out and with explicit ones; the sums are on all devices."""
    program = """
    import jax, jax.numpy as jnp, numpy as np
    import graphnode as gn
    from graphnode import metrics

    rng = np.random.default_rng(0)
    scores = rng.normal(3, 1, (16, 6)).astype(np.float32)
    labels, mask = rng.integers(0, 6, 16), rng.random(16) < 0.8
    weights = rng.random(16).astype(np.float32)

    def build():
        return metrics.NamedMetrics(
            mean=metrics.Mean(),
            statistics=metrics.Statistics(shape=(6,)),
            accuracy=metrics.Accuracy(top_k=2),
            confusion=metrics.ConfusionMatrix(6),
        )

    @gn.jit(donate=True)
    def update(metrics, scores, labels, mask, weights):
        mean = {"values": scores.sum(1), "weights": weights}
        classes = (scores, labels)
        metrics.update(mean=mean, statistics=scores, accuracy=classes, confusion=classes, mask=mask)

    one = build()
    for _ in range(2):
        update(one, scores, labels, mask, weights)
    expected = one.compute()
    mean = np.average(scores.astype(np.float64).sum(1)[mask], weights=weights[mask])
    np.testing.assert_allclose(expected["mean"], mean, rtol=2e-7)
    for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
        mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
        for spec in (jax.P("data"), jax.P("data", "model")):
            with jax.set_mesh(mesh):
                rows = [jax.device_put(array, jax.P("data")) for array in (labels, mask, weights)]
                several = build()
                for _ in range(2):
                    update(several, jax.device_put(scores, spec), *rows)
                for value, of_one in zip(jax.tree.leaves(several.compute()), jax.tree.leaves(expected)):
                    np.testing.assert_allclose(value, of_one, rtol=3e-7)
    """
    run_with_devices(textwrap.dedent(program), 8)


# Several metrics


def test_declared_metrics_are_updated_by_name():
    """With one argument, several, or some by name; the mask goes to all."""
    metrics = Evaluation()
    mask = np.array([True, True, False, True])
    metrics.update(loss=VALUES[:4], accuracy=(PREDICTIONS[:4], LABELS[:4]), mask=mask)
    metrics.update(loss={"values": jnp.float32(1), "weights": 0}, accuracy={"predictions": 0, "labels": 0})
    assert {name: float(value) for name, value in metrics.compute().items()} == {
        "loss": np.float32(VALUES[[0, 1, 3]].astype(np.float64).mean()),
        "accuracy": 1,
    }
    metrics.merge(gn.clone(metrics))
    assert float(metrics.accuracy.weight.value[0]) == 8
    metrics.reset()
    assert np.isnan(float(metrics.loss.compute()))


def test_an_update_that_fails_has_changed_no_metric():
    """Neither those before the one that raises."""
    metrics = Evaluation()
    with pytest.raises(gn.ContractError):
        metrics.update(loss=VALUES[:4], accuracy=(PREDICTIONS[:4], VALUES[:4]))
    assert not any(state.value.any() for state in gn.states(metrics).values())


def test_states_of_metrics_are_selected_by_their_class():
    """Beside a model they are neither parameters nor lasting."""
    tree = [gn.nn.Linear(2, 1), Mean(), Statistics()]
    assert len(gn.states(tree, MetricState)) == 7
    assert not gn.states(tree[1:], gn.ParamState, gn.LongTermState)[0]


class PerHead(Metrics):
    """Metrics in a list."""

    heads: list[Mean]


def test_metrics_in_a_list_are_refused():
    """They would be left out of every update and reset."""
    with pytest.raises(gn.StructureError) as caught:
        PerHead([Mean()]).reset()
    assert str(caught.value) == (
        "PerHead.heads has metrics that have no names; declare gn.metrics.NamedMetrics in its place"
    )


# Errors


ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "mask": (
        lambda: Mean().update(jnp.ones(3), mask=jnp.ones(2, bool)),
        "Mean: mask: expected booleans of the shape (3,) of the batch; found bool[2]",
    ),
    "mask of floats": (
        lambda: Mean().update(jnp.ones(3), mask=jnp.ones(3)),
        "Mean: mask: expected booleans of the shape (3,) of the batch; found float32[3]",
    ),
    "weights": (
        lambda: Mean().update(jnp.ones(3), weights=jnp.ones((3, 1))),
        "Mean: weights: expected numbers of the shape (3,) of the batch; found float32[3,1]",
    ),
    "shape": (
        lambda: Statistics(shape=(3,)).update(jnp.ones((2, 4))),
        "Statistics: values: expected the shape [*batch, 3]; found float32[2,4]",
    ),
    "complex": (
        lambda: Mean().update(jnp.ones(3, complex)),
        "Mean: values: expected real numbers; found complex64[3]",
    ),
    "one-hot labels": (
        lambda: Accuracy().update(jnp.ones((3, 2)), jnp.ones((3, 2))),
        "Accuracy: labels: expected integers; found float32[3,2]. Of one-hot rows, take jnp.argmax(labels, axis=-1)",
    ),
    "scores": (
        lambda: ConfusionMatrix(4).update(jnp.ones((3, 2)), jnp.ones(3, int)),
        "ConfusionMatrix: predictions: expected floats of the shape [3, 4], which are scores, or integers of the "
        "shape (3,) of labels; found float32[3,2]",
    ),
    "threshold": (
        lambda: Accuracy(threshold=0.5).update(jnp.ones((3, 1)), jnp.ones(3, int)),
        "Accuracy: predictions: expected floats of the shape (3,) of labels, as there is a threshold; "
        "found float32[3,1]",
    ),
    "classes for top_k": (
        lambda: Accuracy(top_k=2).update(jnp.ones(3, int), jnp.ones(3, int)),
        "Accuracy: predictions: expected scores of the classes for top_k=2; found int32[3]",
    ),
    "few classes": (
        lambda: Accuracy(top_k=2).update(jnp.ones((3, 2)), jnp.ones(3, int)),
        "Accuracy: predictions: expected more classes than top_k=2, of which a label always is one; found float32[3,2]",
    ),
    "top_k and threshold": (
        lambda: Accuracy(top_k=2, threshold=0.5),
        "Accuracy: a threshold is for labels that are 0 or 1, which have no top_k; found top_k=2",
    ),
    "stacked": (
        lambda: gn.stack([Mean(), Mean()]).compute(),
        'Mean is stacked: total has the shape (2, 2), and is declared Float[Array, "2 *shape"]. Call it under '
        "gn.vmap or gn.scan, or take the axis away: gn.unstack, gn.unbroadcast_states",
    ),
    "names": (
        lambda: Evaluation().update(los=jnp.ones(3), loss=jnp.ones(3)),
        "Evaluation.update: 2 faults:\n  there is no metric 'los'; did you mean 'loss'?\n"
        "  nothing for accuracy, which takes accuracy=...",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_update_says_what_was_expected(name: str):
    """The metric, the argument, what was found and what would do."""
    call, text = ERRORS[name]
    with pytest.raises(gn.ContractError) as caught:
        call()
    assert str(caught.value) == text


MERGES: dict[str, tuple[Callable[[Metric], Any], str]] = {
    "itself": (
        lambda metric: metric,
        "Mean: merge takes another metric; found the metric itself, which would count twice",
    ),
    "another shape": (
        lambda _: Mean(shape=(2,)),
        "Mean: merge takes a metric of the same class and fields; they differ at shape: () != (2,)",
    ),
    "another class": (
        lambda _: Accuracy(),
        "Mean: merge takes a metric of the same class and fields; they differ at the root: Mean != Accuracy",
    ),
}


@pytest.mark.parametrize("name", MERGES)
def test_a_wrong_merge_says_how_the_metrics_differ(name: str):
    """Nothing is added."""
    metric: Metric = Mean()
    other, text = MERGES[name]
    with pytest.raises(gn.StructureError) as caught:
        metric.merge(other(metric))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "NamedMetrics takes metrics by name, such as loss=gn.metrics.Mean(); found none"),
        (["mask"], "NamedMetrics: mask is an argument of update; give the metric another name"),
    ],
    ids=["none", "mask"],
)
def test_names_that_cannot_be_updated_are_refused(names: list[str], text: str):
    """Before there is a metric of that name."""
    with pytest.raises(gn.FieldError) as caught:
        NamedMetrics(**{name: Mean() for name in names})
    assert str(caught.value) == text
