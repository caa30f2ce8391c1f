"""`BatchNorm`: what it computes in both modes, and what it writes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.nn import BatchNorm
from tests.interrupting import interrupt_everywhere

make: Any = BatchNorm


def batch(*shape: int) -> jax.Array:
    return 3 + 2 * jax.random.normal(jax.random.key(0), shape)


@pytest.mark.parametrize("shape", [(64, 3), (4, 5, 3), (2, 3, 4, 5, 3)], ids=str)
def test_a_batch_is_normalised_over_all_axes_but_the_last(shape: tuple[int, ...]):
    """Each feature has mean 0 and variance 1 afterwards, as NumPy has it, under strict rank promotion."""
    x = batch(*shape)
    y = BatchNorm(3)(x)
    axes = tuple(range(len(shape) - 1))
    values = np.asarray(x)
    expected = (values - values.mean(axes)) / np.sqrt(values.var(axes) + 1e-5)
    np.testing.assert_allclose(np.asarray(y), expected, atol=1e-5)


def test_scale_and_bias_are_applied_after_it():
    """`y = scale * normalised + bias`."""
    layer, x = BatchNorm(2), batch(16, 2)
    plain = np.asarray(layer(x))
    assert layer.scale is not None
    assert layer.bias is not None
    layer.scale.value, layer.bias.value = jnp.array([2.0, 3.0]), jnp.array([-1.0, 1.0])
    np.testing.assert_allclose(np.asarray(layer(x)), plain * [2.0, 3.0] + [-1.0, 1.0], atol=1e-5)


def test_scale_and_bias_may_be_left_out():
    """Then the layer has no parameters."""
    layer = BatchNorm(2, use_scale=False, use_bias=False)
    assert (layer.scale, layer.bias) == (None, None)
    assert [gn.path_str(path) for path in gn.states(layer)] == ["mean", "var"]
    x = batch(16, 2)
    assert layer(x).tolist() == BatchNorm(2)(x).tolist()


def test_a_call_in_training_moves_the_running_averages():
    """`running = momentum * running + (1 - momentum) * batch`, with the biased variance, from 0 and 1."""
    layer, mean, var = BatchNorm(3, momentum=0.9), np.zeros(3), np.ones(3)
    for scale in (1.0, 2.0):
        x = scale * batch(8, 3)
        layer(x)
        mean = 0.9 * mean + 0.1 * np.asarray(x).mean(0)
        var = 0.9 * var + 0.1 * np.asarray(x).var(0)
    np.testing.assert_allclose(np.asarray(layer.mean.value), mean, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(layer.var.value), var, rtol=1e-5)


def test_an_interrupted_call_has_moved_both_averages_or_none():
    """A signal handler that raises anywhere in a call leaves mean and variance of before, or of after the call."""
    layer, x = BatchNorm(1, momentum=0.0), jnp.array([[0.0], [200.0]])
    found: set[tuple[float, float]] = set()

    def check() -> None:
        found.add((float(layer.mean.value[0]), float(layer.var.value[0])))
        gn.update_states(layer, {"mean": jnp.zeros(1), "var": jnp.ones(1)})

    for file in ("nn/_batch_norm.py", "graphnode/_signals.py"):
        assert interrupt_everywhere(file, lambda: layer(x), check) > 3
    assert found == {(0.0, 1.0), (100.0, 10000.0)}


def test_a_deterministic_call_uses_the_running_averages_and_writes_nothing():
    """The argument of the call comes before the field."""
    layer, x = BatchNorm(3), batch(8, 3)
    layer(x)
    before = (layer.mean.value, layer.var.value)
    expected = (np.asarray(x) - np.asarray(before[0])) / np.sqrt(np.asarray(before[1]) + 1e-5)
    np.testing.assert_allclose(np.asarray(layer(x, deterministic=True)), expected, rtol=1e-4)
    layer.deterministic = True
    np.testing.assert_allclose(np.asarray(layer(x)), expected, rtol=1e-4)
    assert layer.mean.value is before[0]
    assert layer.var.value is before[1]
    layer(x, deterministic=False)
    assert layer.mean.value is not before[0]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_result_has_the_dtype_of_the_input(dtype: Any):
    """Statistics are computed and kept in float32, also those of half-precision inputs."""
    layer, x = BatchNorm(3), batch(1000, 3).astype(dtype)
    assert layer(x).dtype == layer(x, deterministic=True).dtype == dtype
    assert layer.mean.value.dtype == layer.var.value.dtype == jnp.float32
    mean = 0.01 * np.asarray(x.astype(jnp.float32)).mean(0)
    np.testing.assert_allclose(np.asarray(layer.mean.value), mean, rtol=1e-5)


def test_parameters_and_statistics_are_selected_by_class():
    """Scale and bias are parameters, the averages are not: an optimiser does not see them."""
    params, statistics = gn.states(BatchNorm(3), gn.ParamState, gn.BatchState)
    assert [gn.path_str(path) for path in params] == ["bias", "scale"]
    assert [gn.path_str(path) for path in statistics] == ["mean", "var"]


BAD: dict[str, Any] = {
    "width 0": ({"width": 0}, "BatchNorm.width: expected a positive integer; found 0"),
    "width True": ({"width": True}, "BatchNorm.width: expected a positive integer; found True"),
    "width 2.0": pytest.param(
        {"width": 2.0},
        "BatchNorm.width: expected a positive integer; found 2.0",
        marks=pytest.mark.wrong_types,
    ),
    "momentum": ({"width": 2, "momentum": 1.1}, "BatchNorm.momentum: expected a number in [0, 1]; found 1.1"),
    "epsilon": ({"width": 2, "epsilon": 0.0}, "BatchNorm.epsilon: expected a positive number; found 0.0"),
}


@pytest.mark.parametrize(("arguments", "text"), BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(arguments: dict[str, Any], text: str):
    """The error names the argument and what was found."""
    with pytest.raises(gn.ContractError) as caught:
        make(**arguments)
    assert str(caught.value) == text


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(
    ("shape", "expected"), [((3,), "width = 2"), ((2, 5), "width = 2"), ((), "rank at least 1")], ids=str
)
@pytest.mark.parametrize("deterministic", [True, False])
def test_an_input_of_another_size_is_refused(shape: tuple[int, ...], expected: str, deterministic: bool):
    """In both modes, and nothing is written."""
    layer = BatchNorm(2)
    before = layer.mean.value
    with pytest.raises(gn.ContractError) as caught:
        layer(jnp.ones(shape), deterministic=deterministic)
    contract = 'Float[Array, "*batch width"]'
    assert str(caught.value) == f"BatchNorm: x: expected {expected} of {contract}, found shape {shape}"
    assert layer.mean.value is before


@pytest.mark.no_runtime_types
def test_an_input_of_another_kind_is_refused():
    """Integers are not normalised, and an empty batch would write NaN."""
    layer = BatchNorm(2)
    with pytest.raises(gn.ContractError) as caught:
        layer(jnp.ones((3, 2), jnp.int32))
    assert str(caught.value) == 'BatchNorm: x: expected dtype Float of Float[Array, "*batch width"], found int32'
    with pytest.raises(gn.ContractError) as caught:
        layer(jnp.ones((0, 2)))
    assert str(caught.value) == "BatchNorm: an empty batch has no mean; found an input of shape (0, 2)"
    assert layer(jnp.ones((0, 2)), deterministic=True).shape == (0, 2)


def test_batch_norm_goes_through_plain_jax():
    """Under jit, the written averages come out and are those of an eager call."""
    layer, same, x = BatchNorm(3), BatchNorm(3), batch(8, 3)
    graphdef, states = gn.treefy_split(layer)

    @jax.jit
    def apply(states: gn.StateTree, x: jax.Array) -> tuple[jax.Array, gn.StateTree]:
        layer = gn.treefy_merge(graphdef, states)
        return layer(x), gn.treefy_states(layer, gn.BatchState)

    y, statistics = apply(states, x)
    gn.update_states(layer, statistics)
    np.testing.assert_allclose(np.asarray(y), np.asarray(same(x)), atol=1e-5)
    np.testing.assert_allclose(np.asarray(layer.var.value), np.asarray(same.var.value), rtol=1e-5)


def test_a_jitted_function_that_closes_over_a_layer_evaluates_but_does_not_train():
    """The running averages must not hold tracers; a deterministic call writes none."""
    layer = BatchNorm(3)
    with pytest.raises(gn.TraceError, match=r"^BatchState was made outside of the running JAX transformation: "):
        jax.jit(layer)(batch(8, 3))
    assert jax.jit(gn.view(layer, deterministic=True))(batch(8, 3)).shape == (8, 3)


def test_a_config_of_a_layer_says_what_it_was_made_with():
    """A layer without scale or bias comes back without."""
    cases: list[dict[str, Any]] = [{"use_scale": False, "use_bias": True}, {"use_scale": True, "use_bias": False}]
    for options in cases:
        layer = gn.nn.BatchNorm(3, momentum=0.5, **options)
        again = gn.config.build(gn.config.loads(gn.config.dump(gn.config.to_config(layer)), gn.nn.BatchNorm))
        assert gn.graphdef(again) is gn.graphdef(layer)
