"""`gn.metrics.ExponentialMovingAverage`: averages of a model as they are by hand, in a model of their own."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.typing import DTypeLike
from jaxtyping import Array, Float

import graphnode as gn
from graphnode.metrics import AverageState, ExponentialMovingAverage
from tests.devices import run_with_devices


def floats(values: Sequence[object]) -> np.ndarray:
    """The values in float32."""
    return np.array(values, np.float32)


class Cell(gn.Node):
    """A parameter, a statistic and a count."""

    weight: gn.ParamState[Float[Array, "2"]]
    mean: gn.BatchState[Float[Array, "2"]]
    steps: gn.ShortTermState[Array]


class Tied(gn.Node):
    cells: list[Cell]


def cell(dtype: DTypeLike = jnp.float32) -> Cell:
    count = gn.ShortTermState(jnp.int32(0))
    return Cell(gn.ParamState(jnp.full(2, 100, dtype), tag="slow"), gn.BatchState(jnp.zeros(2)), count)


def train(model: Cell, ema: ExponentialMovingAverage) -> None:
    """A step in which the weight becomes 1, 2, 4, 8 and so on."""
    model.weight.value = 2.0 ** model.steps.value.astype(jnp.float32) * jnp.ones(2)
    model.mean.value = model.mean.value + 1
    model.steps.value += 1
    ema.update(model)


STEP = gn.jit(train, donate=True)
UPDATE = gn.jit(lambda model, ema: ema.update(model))


@pytest.mark.parametrize(
    ("debias", "expected"),
    [
        # Weights 1/4, 1/2 and 1 over their sum
        (True, (0.25 * 1 + 0.5 * 2 + 1 * 4) / 1.75),
        (False, 100 / 8 + (1 / 8 + 2 / 4 + 4 / 2)),
    ],
    ids=["debiased", "from the start"],
)
def test_the_average_is_that_by_hand(debias: bool, expected: float):
    """Of the updates alone, or of what the model started with, too; in a compiled step that donates."""
    model = cell()
    ema = ExponentialMovingAverage(model, 0.5, debias=debias)
    for _ in range(3):
        STEP(model, ema)
    assert ema.view(model).weight.value.tolist() == pytest.approx([expected] * 2)
    assert model.weight.value.tolist() == [4, 4]
    assert int(ema.updates.value) == 3


def test_the_debiased_average_is_right_at_a_large_decay():
    """For which float32 has few digits of `1 - decay**count`."""
    model = cell()
    ema = ExponentialMovingAverage(model, 0.9999)
    values = [floats([1.5, -3.0]), floats([2.5, 1.0]), floats([-0.5, 7.0])]
    for value in values:
        model.weight.value = jnp.asarray(value)
        UPDATE(model, ema)
    weights = 0.9999 ** np.arange(2, -1, -1)
    exact = (weights[:, None] * np.array(values, np.float64)).sum(0) / weights.sum()
    np.testing.assert_allclose(ema.average["weight"].value, exact, rtol=2e-7)


@pytest.mark.slow
def test_the_debiased_average_is_that_of_optax():
    """Of `optax.ema`, which has fewer digits."""
    model = cell()
    ema = ExponentialMovingAverage(model, 0.9)
    transformation: Any = optax.ema(0.9)  # its pytrees have no types
    optax_state = transformation.init(jnp.zeros(2))
    averaged = jnp.zeros(2)
    for value in (jnp.float32([1.5, -3.0]), jnp.float32([2.5, 1.0]), jnp.float32([-0.5, 7.0])):
        model.weight.value = value
        ema.update(model)
        # optax computes with integer counts, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            averaged, optax_state = transformation.update(value, optax_state)
    np.testing.assert_allclose(ema.average["weight"].value, averaged, rtol=1e-5)


def test_a_value_that_stays_is_its_average():
    """To the last bit, after any number of updates."""
    model = cell()
    ema = ExponentialMovingAverage(model, 0.999)
    model.weight.value = jnp.float32([0.1, 1e30])

    def body(_: Array, ema: ExponentialMovingAverage) -> ExponentialMovingAverage:
        ema.update(model)
        return ema

    gn.fori_loop(0, 2000, body, ema)
    assert ema.view(model).weight.value.tolist() == floats([0.1, 1e30]).tolist()


def test_a_view_shares_what_is_not_averaged():
    """States that are averaged are its own; before the first update they have the model's values."""
    model = cell()
    ema = ExponentialMovingAverage(model, 0.5)
    view = ema.view(model)
    assert view.mean is model.mean
    assert view.weight is not model.weight
    assert (view.weight.tag, view.weight.value.tolist()) == ("slow", [100, 100])
    view.weight.value = jnp.zeros(2)
    assert model.weight.value.tolist() == ema.average["weight"].value.tolist() == [100, 100]
    with pytest.raises(gn.ContractError):
        view.weight.value = jnp.zeros(3)


def test_a_view_inside_of_a_compiled_function_has_its_averages():
    """A model is evaluated there without a copy outside."""
    model = cell()
    ema = ExponentialMovingAverage(model, 0.5)
    model.weight.value = jnp.ones(2)
    assert gn.jit(lambda model, ema: ema.view(model).weight.value + 1)(model, ema).tolist() == [101, 101]


def test_statistics_are_averaged_where_wrt_says_so():
    """And a State that is shared has one average."""
    shared = cell()
    model = Tied([shared, shared])
    ema = ExponentialMovingAverage(model, 0.5, (gn.ParamState, gn.BatchState))
    assert [gn.path_str(path) for path in gn.states(ema, AverageState)] == [
        "average.cells.0.mean",
        "average.cells.0.weight",
        "updates",
    ]
    view = ema.view(model)
    assert view.cells[0] is view.cells[1]


def test_averages_of_bfloat16_are_kept_in_float32():
    """A small step would be rounded off; the view has the dtype of the model."""
    model = cell(jnp.bfloat16)
    ema = ExponentialMovingAverage(model, 0.999, debias=False)
    model.weight.value = jnp.full(2, 101, jnp.bfloat16)
    for _ in range(3):
        UPDATE(model, ema)
    np.testing.assert_allclose(ema.average["weight"].value, 101 - 0.999**3, rtol=1e-6)
    assert ema.view(model).weight.value.dtype == jnp.bfloat16


@pytest.mark.slow
def test_an_ensemble_has_averages_of_each_member():
    """Made and updated under `gn.vmap`."""
    members = gn.stack([cell(), cell()])
    averages = gn.vmap(lambda member: ExponentialMovingAverage(member, 0.5))(members)
    members.weight.value = jnp.float32([[1, 2], [3, 4]])
    gn.vmap(lambda ema, member: ema.update(member))(averages, members)
    assert averages.average["weight"].value.tolist() == [[1, 2], [3, 4]]


def test_a_plan_lays_averages_out_as_their_parameters():
    """By the roles of the model's axes, as it does for an optimizer."""

    def build() -> tuple[gn.nn.Linear, ExponentialMovingAverage]:
        model = gn.nn.Linear(4, 8)
        return model, ExponentialMovingAverage(model, 0.9)

    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    plan = gn.sharding.plan(gn.eval_shape(build), mesh, gn.sharding.Rules(params={"in": None, "out": "model"}))
    specs = {gn.path_str(path): sharding.spec for path, sharding in plan.shardings.items()}
    assert specs["1.average.weight"] == specs["0.weight"] == jax.P(None, "model")


ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "decay": (
        lambda: ExponentialMovingAverage(cell(), 1.0),
        gn.ContractError,
        "ExponentialMovingAverage.decay: expected a number in [0, 1); found 1.0",
    ),
    "counts": (
        lambda: ExponentialMovingAverage(cell(), 0.9, ...),
        gn.ContractError,
        "ExponentialMovingAverage averages floats: steps is int32[]; leave out what is not, by wrt",
    ),
    "nothing": (
        lambda: ExponentialMovingAverage(gn.Rngs(0), 0.9),
        gn.FilterError,
        "no State of Rngs is selected by wrt=ParamState",
    ),
    "another model": (
        lambda: ExponentialMovingAverage(cell(), 0.9).update(Tied([cell()])),
        gn.UpdateError,
        "cannot update Tied: the average was made for other States: 2 faults:\n"
        "  weight: expected ParamState(tag='slow'), found nothing\n"
        "  cells.0.weight: expected nothing, found ParamState(tag='slow'); "
        "make a new average for a model that has changed",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_averaged_says_why(name: str):
    """By its path in the model."""
    call, error, text = ERRORS[name]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.slow
def test_averages_over_eight_devices_stay_where_their_parameters_are():
    """Made by a plan, updated by a compiled step, saved and restored."""
    program = """
    import tempfile
    import jax, jax.numpy as jnp, numpy as np
    import graphnode as gn

    def build():
        model = gn.nn.Linear(4, 8)
        return [model, gn.metrics.ExponentialMovingAverage(model, 0.5)]

    @gn.jit(donate=True)
    def step(both):
        model, ema = both
        model.weight.value = model.weight.value + 1
        ema.update(model)

    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    rules = gn.sharding.Rules(params={"in": None, "out": "model"})
    plan = gn.sharding.plan(gn.eval_shape(build), mesh, rules)
    both = gn.sharding.init(build, jax.random.key(0), plan)
    start = np.asarray(both[0].weight.value, np.float64)
    for _ in range(3):
        step(both)
    average = both[1].average["weight"].value
    assert average.sharding.is_equivalent_to(jax.NamedSharding(mesh, jax.P(None, "model")), 2)
    np.testing.assert_allclose(average, start + (0.25 * 1 + 0.5 * 2 + 3) / 1.75, rtol=1e-6)
    with tempfile.TemporaryDirectory() as folder:
        gn.checkpoint.save(folder + "/both", both)
        other = gn.sharding.init(build, jax.random.key(1), plan)
        gn.checkpoint.restore(folder + "/both", other)
    np.testing.assert_array_equal(other[1].view(other[0]).weight.value, average)
    """
    run_with_devices(textwrap.dedent(program), 8)
