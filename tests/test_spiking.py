"""`nn.LIF`, `nn.ExponentialSynapse` and `nn.spike`: closed forms, contracts, and what they cost under a trace."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.nn import LIF, ExponentialSynapse, spike
from tests.interrupting import interrupt_everywhere

make_lif: Any = LIF
make_synapse: Any = ExponentialSynapse


def spike_times(neurons: LIF, current: float, steps: int) -> np.ndarray:
    """The steps at which the first neuron spikes under a constant current."""

    def at_one_time(neurons: LIF, _: None) -> tuple[LIF, jax.Array]:
        return neurons, neurons(jnp.full(neurons.size, current))

    _, spikes = gn.scan(at_one_time, neurons, length=steps)
    return np.flatnonzero(np.asarray(spikes)[:, 0])


# The spike and its derivative


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_a_spike_is_one_from_the_threshold_on(dtype: Any):
    """1 at zero and above, 0 below, in the dtype of the input."""
    found = spike(jnp.array([-1.0, -1e-6, 0.0, 1e-6, 5.0], dtype))
    assert found.dtype == dtype
    assert found.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("x", [-30.0, -1.0, 0.0, 0.5, 8.0])
def test_the_surrogate_derivative_is_that_of_superspike(x: float):
    """`1 / (1 + |x|)**2`, forwards and backwards."""
    expected = 1 / (1 + abs(x)) ** 2
    assert float(jax.grad(spike)(jnp.float32(x))) == pytest.approx(expected, rel=1e-6)
    value, tangent = jax.jvp(spike, (jnp.float32(x),), (jnp.float32(2.0),))
    assert value == float(x >= 0)
    assert float(tangent) == pytest.approx(2 * expected, rel=1e-6)


# The neuron


@pytest.mark.parametrize("v_rest", [0.0, -65.0])
def test_without_input_the_voltage_decays_to_rest(v_rest: float):
    """`v_rest + (V - v_rest) * exp(-t / tau)`, exactly, with steps of any length."""
    for dt in (0.1, 5.0):
        neurons = LIF(2, tau=10.0, v_rest=v_rest, v_reset=v_rest, v_threshold=v_rest + 20, dt=dt)
        neurons.voltage.value = v_rest + jnp.array([5.0, -8.0])
        for _ in range(3):
            assert neurons().tolist() == [0.0, 0.0]
        expected = v_rest + np.array([5.0, -8.0]) * math.exp(-3 * dt / 10)
        np.testing.assert_allclose(neurons.voltage.value, expected, rtol=1e-6, atol=1e-6)


def test_a_constant_current_is_integrated_exactly():
    """`v_inf * (1 - exp(-t / tau))` below the threshold, where `v_inf` is resistance times current."""
    neurons = LIF(1, tau=20.0, resistance=2.0, dt=3.0)
    for step in range(1, 9):
        neurons(jnp.array([7.0]))
        assert float(neurons.voltage.value[0]) == pytest.approx(14 * (1 - math.exp(-3 * step / 20)), rel=1e-6)


@pytest.mark.parametrize("t_refractory", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("current", [21.0, 30.0, 80.0])
def test_the_interval_between_spikes_is_the_closed_form(t_refractory: float, current: float):
    """`t_refractory + tau * log((v_inf - v_reset) / (v_inf - v_threshold))`, the logarithm rounded up to a step."""
    neurons = LIF(2, tau=20.0, v_reset=10.0, t_refractory=t_refractory)
    crossing = 20 * math.log((current - 10) / (current - 20))
    times = spike_times(neurons, current, 3000)
    assert len(times) > 4
    expected = round(t_refractory / 0.1) + math.ceil(crossing / 0.1)
    assert set(np.diff(times)) == {expected}
    assert times[0] + 1 == math.ceil(20 * math.log(current / (current - 20)) / 0.1)  # from rest


def test_a_neuron_at_rest_after_a_spike_hears_nothing():
    """During `t_refractory` the voltage is `v_reset`, whatever arrives; the step after that, input counts again."""
    neurons = LIF(1, v_rest=-5.0, v_reset=3.0, t_refractory=0.3)
    assert neurons(jump=jnp.array([40.0])).tolist() == [1.0]
    assert neurons.spikes.value.tolist() == [1.0]
    assert neurons.voltage.value.tolist() == [3.0]
    for left in (3, 2, 1):
        assert neurons.refractory.value.tolist() == [left]
        assert neurons(jnp.array([1e3]), jump=jnp.array([40.0])).tolist() == [0.0]
        assert neurons.voltage.value.tolist() == [3.0]
    assert neurons(jump=jnp.array([40.0])).tolist() == [1.0]


def test_a_jump_is_added_after_the_decay():
    """A jump that arrives in a step is there in full at its end."""
    neurons = LIF(2, tau=10.0, dt=1.0)
    neurons.voltage.value = jnp.array([1.0, 2.0])
    neurons(jnp.array([0.5, 0.0]), jump=jnp.array([0.25, -3.0]))
    decay = math.exp(-0.1)
    expected = [decay + 0.5 * (1 - decay) + 0.25, 2 * decay - 3.0]
    np.testing.assert_allclose(neurons.voltage.value, expected, rtol=1e-6)


def test_reset_is_as_new():
    """`reset` sets every state to what construction set it to, and keeps dtype and shape."""
    neurons = LIF(2, v_rest=-1.0, v_reset=-2.0, t_refractory=1.0)
    new = {path: one.value.tolist() for path, one in gn.states(neurons).items()}
    assert new == {("refractory",): [0, 0], ("spikes",): [0.0, 0.0], ("voltage",): [-1.0, -1.0]}
    neurons(jump=jnp.array([50.0, 1.0]))
    assert new != {path: one.value.tolist() for path, one in gn.states(neurons).items()}
    neurons.voltage.value = neurons.voltage.value.astype(jnp.float16)
    neurons.reset()
    assert new == {path: one.value.tolist() for path, one in gn.states(neurons).items()}
    assert neurons.voltage.value.dtype == jnp.float16


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_inputs_are_converted_to_the_dtype_of_the_states(dtype: Any):
    """Half-precision inputs are integrated in float32, under strict promotion."""
    neurons = LIF(1)
    assert neurons(jnp.array([1.0], dtype), jump=jnp.array([1.0], dtype)).dtype == jnp.float32
    assert neurons.voltage.value.dtype == jnp.float32
    assert ExponentialSynapse(1, 1)(jnp.array([1.0], dtype)).dtype == jnp.float32
    half = ExponentialSynapse(1, 1, param_dtype=dtype)
    assert half(jnp.array([1.0])).dtype == half.weight.value.dtype == half.current.value.dtype == dtype
    assert gn.config.build(gn.config.to_config(half)).current.value.dtype == dtype


# The synapse


def test_the_current_decays_exponentially():
    """One spike moves the current by the weight; t later it is `exp(-t / tau)` of that."""
    for dt in (0.1, 4.0):
        synapse = ExponentialSynapse(2, 3, tau=5.0, dt=dt)
        weight = np.asarray(synapse.weight.value)
        np.testing.assert_allclose(synapse(jnp.array([0.0, 1.0])), weight[1], rtol=1e-6)
        for step in range(1, 5):
            np.testing.assert_allclose(synapse(jnp.zeros(2)), weight[1] * math.exp(-step * dt / 5), rtol=1e-5)
        synapse.reset()
        assert synapse.current.value.tolist() == [0.0] * 3


def test_currents_of_several_spikes_add_up():
    """`spikes @ weight`, on top of what is left."""
    synapse = ExponentialSynapse(2, 2, tau=1.0, dt=1.0, w_init=jax.nn.initializers.ones)
    synapse(jnp.ones(2))
    np.testing.assert_allclose(synapse(jnp.array([1.0, 0.0])), 1 + 2 * math.exp(-1), rtol=1e-6)


def test_weights_are_parameters_with_a_contract():
    """The weight is the one parameter, drawn from the ambient stream; a State of another shape is refused."""
    gn.random.seed(0)
    synapse = ExponentialSynapse(2, 3)
    gn.random.seed(0)
    assert ExponentialSynapse(2, 3).weight.value.tolist() == synapse.weight.value.tolist()
    assert list(gn.states(synapse, gn.ParamState)) == [("weight",)]
    with pytest.raises(gn.ContractError) as caught:
        synapse.weight = gn.ParamState(jnp.ones((3, 2)))
    assert str(caught.value) == (
        'ExponentialSynapse.weight: expected n_before = 2 of Float[Array, "n_before n_after"], found shape (3, 2)'
    )


# What is refused

BAD: dict[str, Any] = {
    "size": (make_lif, {"size": 0}, "LIF.size: expected a positive integer; found 0"),
    "tau": (make_lif, {"size": 1, "tau": 0.0}, "LIF.tau: expected a positive number; found 0.0"),
    "dt": (make_lif, {"size": 1, "dt": -0.1}, "LIF.dt: expected a positive number; found -0.1"),
    "resistance": (make_lif, {"size": 1, "resistance": 0.0}, "LIF.resistance: expected a positive number; found 0.0"),
    "v_rest": (make_lif, {"size": 1, "v_rest": math.inf}, "LIF.v_rest: expected a finite number; found inf"),
    "v_rest True": pytest.param(
        make_lif,
        {"size": 1, "v_rest": True},
        "LIF.v_rest: expected a finite number; found True",
        marks=pytest.mark.wrong_types,
    ),
    "v_threshold": (
        make_lif,
        {"size": 1, "v_threshold": math.nan},
        "LIF.v_threshold: expected a finite number; found nan",
    ),
    "v_reset": (
        make_lif,
        {"size": 1, "v_reset": 20.0},
        "LIF.v_reset: expected less than v_threshold=20.0; found 20.0",
    ),
    "t_refractory < 0": (
        make_lif,
        {"size": 1, "t_refractory": -0.1},
        "LIF.t_refractory: expected a multiple of dt=0.1; found -0.1",
    ),
    "t_refractory": (
        make_lif,
        {"size": 1, "t_refractory": 2.0, "dt": 0.3},
        "LIF.t_refractory: expected a multiple of dt=0.3; found 2.0",
    ),
    "n_before": (
        make_synapse,
        {"n_before": -1, "n_after": 2},
        "ExponentialSynapse.n_before: expected a positive integer; found -1",
    ),
    "n_after": (
        make_synapse,
        {"n_before": 1, "n_after": True},
        "ExponentialSynapse.n_after: expected a positive integer; found True",
    ),
    "tau of a synapse": (
        make_synapse,
        {"n_before": 1, "n_after": 2, "tau": math.nan},
        "ExponentialSynapse.tau: expected a positive number; found nan",
    ),
    "dt of a synapse": (
        make_synapse,
        {"n_before": 1, "n_after": 2, "dt": 0.0},
        "ExponentialSynapse.dt: expected a positive number; found 0.0",
    ),
}


@pytest.mark.parametrize(("make", "arguments", "text"), BAD.values(), ids=BAD)
def test_bad_constants_are_refused(make: Any, arguments: dict[str, Any], text: str):
    """The error names the field and what was found."""
    with pytest.raises(gn.ContractError) as caught:
        make(**arguments)
    assert str(caught.value) == text


CALLS: dict[str, tuple[Any, str]] = {
    "current": (
        lambda: LIF(3)(jnp.ones(4)),
        'LIF: current: expected size = 3 of Float[Array, "size"], found shape (4,)',
    ),
    "jump": (
        lambda: LIF(3)(jump=jnp.ones(())),
        'LIF: jump: expected rank 1 of Float[Array, "size"], found shape ()',
    ),
    "dtype": (
        lambda: LIF(3)(jnp.ones(3, int)),
        'LIF: current: expected dtype Float of Float[Array, "size"], found int32',
    ),
    "spikes": (
        lambda: ExponentialSynapse(2, 3)(jnp.ones((1, 2))),
        'ExponentialSynapse: spikes: expected rank 1 of Float[Array, "n_before"], found shape (1, 2)',
    ),
    "dtype of spikes": (
        lambda: ExponentialSynapse(2, 3)(jnp.ones(2, bool)),
        'ExponentialSynapse: spikes: expected dtype Float of Float[Array, "n_before"], found bool',
    ),
}


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("call", "text"), CALLS.values(), ids=CALLS)
def test_inputs_of_another_shape_or_dtype_are_refused(call: Any, text: str):
    """The error names the argument, the field that gives its size, and what was found."""
    with pytest.raises(gn.ContractError) as caught:
        call()
    assert str(caught.value) == text


# Under transformations


def test_a_population_steps_under_jit_and_scan():
    """Under both, spikes and states are those of a plain loop."""
    plain, scanned = (LIF(3, tau=5.0, t_refractory=0.2, dt=0.1) for _ in range(2))
    currents = 90 * jax.random.uniform(jax.random.key(0), (200, 3))

    @gn.jit
    def step(neurons: LIF, current: jax.Array) -> jax.Array:
        return neurons(current)

    looped = jnp.stack([step(plain, current) for current in currents])
    _, spikes = gn.scan(lambda neurons, current: (neurons, neurons(current)), scanned, currents)
    assert looped.sum() > 10
    assert spikes.tolist() == looped.tolist()
    np.testing.assert_allclose(scanned.voltage.value, plain.voltage.value, rtol=1e-5)


def test_a_batch_is_a_map():
    """`gn.vmap` runs independent copies of a population, each as it would run alone."""
    currents = jnp.array([[0.0, 300.0], [300.0, 0.0]])
    copies, alone = gn.stack([LIF(2), LIF(2)]), LIF(2)
    for _ in range(20):
        spikes = gn.vmap(lambda neurons, current: neurons(current))(copies, currents)
        assert spikes[0].tolist() == alone(currents[0]).tolist()
    assert copies.spikes.value.shape == (2, 2)
    np.testing.assert_allclose(copies.voltage.value[0], alone.voltage.value)
    assert alone.voltage.value[1] > 5


class Two(gn.Node):
    """Neurons that drive neurons through synapses."""

    first: LIF
    synapse: ExponentialSynapse
    second: LIF

    def __call__(self, current: jax.Array) -> jax.Array:
        return self.second(self.synapse(self.first(current)))


def test_a_network_learns_through_its_spikes():
    """Descending the surrogate gradient of the weights brings the number of spikes to the one that is wanted."""
    gn.random.seed(0)
    lif: dict[str, Any] = {"tau": 10.0, "v_threshold": 1.0, "dt": 1.0}
    network = Two(LIF(5, **lif), ExponentialSynapse(5, 2, dt=1.0), LIF(2, **lif))
    wanted = jnp.array([10.0, 3.0])

    def loss_of(network: Two) -> tuple[jax.Array, jax.Array]:
        for population in (network.first, network.second):
            population.reset()
        network.synapse.reset()
        current = jnp.linspace(1.2, 2.0, 5)
        _, spikes = gn.scan(lambda network, _: (network, network(current)), network, length=50)
        return jnp.mean((spikes.sum(axis=0) - wanted) ** 2), spikes.sum(axis=0)

    learn = gn.jit(gn.grad(loss_of, has_aux=True))
    counts: list[list[float]] = []
    for _ in range(40):
        gradients, found = learn(network)
        counts.append(found.tolist())
        network.synapse.weight.value -= 1e-2 * gradients["synapse"]["weight"].value
    assert counts[0] != wanted.tolist()
    assert counts[-1] == wanted.tolist()


def test_another_spike_function_may_stand_in_its_place():
    """The field `spike` decides what gradients pass through."""

    def straight(x: jax.Array) -> jax.Array:
        hard = (x >= 0).astype(x.dtype)
        return x + jax.lax.stop_gradient(hard - x)

    def slope(neurons: LIF) -> float:
        return float(jax.grad(lambda jump: gn.clone(neurons)(jump=jump).sum())(jnp.array([12.0]))[0])

    assert slope(LIF(1)) == pytest.approx(1 / 81)
    assert slope(LIF(1, spike=straight)) == 1.0


def count(f: Any, *args: Any) -> int:
    """The equations of a traced function, at every depth."""

    def of(jaxpr: Any) -> int:
        inner = [getattr(one, "jaxpr", one) for equation in jaxpr.eqns for one in equation.params.values()]
        return len(jaxpr.eqns) + sum(of(one) for one in inner if hasattr(one, "eqns"))

    return of(jax.make_jaxpr(f)(*args).jaxpr)


def test_a_traced_call_is_no_larger_than_the_function_by_hand():
    """The node and its contracts leave nothing in the compiled program."""
    neurons, synapse = LIF(4, t_refractory=2.0), ExponentialSynapse(3, 4)

    def lif_by_hand(v: Any, left: Any, current: Any, jump: Any) -> Any:
        v_inf = 0.0 + 1.0 * current
        v = v_inf + math.exp(-0.1 / 20) * (v - v_inf) + jump
        v = jnp.where(left > 0, 0.0, v)
        spikes = spike(v - 20.0)
        left = jnp.where(spikes > 0, 20, jnp.maximum(left - 1, 0))
        return spikes, jnp.where(spikes > 0, 0.0, v), left

    def synapse_by_hand(weight: Any, current: Any, spikes: Any) -> Any:
        return math.exp(-0.1 / 5) * current + spikes @ weight

    def stepped(model: gn.Node, step: Any) -> int:
        graphdef, tree = gn.treefy_split(model)

        def traced(tree: gn.StateTree) -> Any:
            merged = gn.treefy_merge(graphdef, tree)
            return step(merged), gn.treefy_states(merged)

        return count(traced, tree)

    row, before = jnp.ones(4), jnp.ones(3)
    by_hand = count(lif_by_hand, row, row.astype(int), row, row)
    assert stepped(neurons, lambda neurons: neurons(row, jump=row)) <= by_hand
    by_hand = count(synapse_by_hand, synapse.weight.value, row, before)
    assert stepped(synapse, lambda synapse: synapse(before)) <= by_hand


def test_states_are_those_of_a_simulation():
    """Filters tell what a reset sets from what is learned."""
    network = Two(LIF(2), ExponentialSynapse(2, 1), LIF(1))
    params, states = gn.states(network, gn.ParamState, gn.HiddenState)
    assert [gn.path_str(path) for path in params] == ["synapse.weight"]
    assert len(states) == 7


def test_a_configuration_describes_a_population():
    """A file gives the constants and may name `spike`; a live population gives them back."""
    text = "{size: 3, tau: 10, v_rest: -65.0, v_reset: -65.0, v_threshold: -50.0, t_refractory: 2.0, spike: spike}"
    neurons = gn.config.build(gn.config.loads(text, LIF))
    assert (neurons.tau, neurons.spike) == (10.0, spike)
    assert neurons.voltage.value.tolist() == [-65.0] * 3
    again = gn.config.build(gn.config.loads(gn.config.dump(gn.config.to_config(neurons)), LIF))
    assert gn.graphdef(again) == gn.graphdef(neurons)
    assert gn.GraphDef.from_json(gn.graphdef(neurons).to_json()) == gn.graphdef(neurons)


def test_an_interrupted_step_has_moved_all_states_or_none():
    """A signal handler that raises anywhere in a step, or a reset, leaves the States of before or of after it."""
    neurons = LIF(1, tau=10.0, dt=1.0, v_threshold=1.0, v_reset=-1.0, t_refractory=2.0)
    found: set[tuple[float, ...]] = set()

    def check() -> None:
        found.add(tuple([float(state.value[0]) for state in (neurons.voltage, neurons.refractory, neurons.spikes)]))

    def step() -> None:
        neurons.reset()
        neurons(jnp.array([100.0]))

    for file in ("nn/_spiking.py", "graphnode/_signals.py"):
        assert interrupt_everywhere(file, step, check) > 3
    assert found == {(0.0, 0.0, 0.0), (-1.0, 2.0, 1.0)}
