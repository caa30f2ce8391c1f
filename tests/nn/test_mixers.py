"""Gated perceptrons, mixtures of experts, and layers that mix a sequence by a linear recurrence."""

import math
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.layers import make
from tests.nn.peers import Numbers, numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow

F64 = np.dtype("float64")


@pytest.fixture
def float64() -> Generator[None]:
    """JAX with float64."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


def host(layer: Any, name: str) -> Numbers:
    """A parameter as NumPy has it."""
    return np.asarray(getattr(layer, name).value)


def sigmoid(x: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-x))


def silu(x: Numbers) -> Numbers:
    return x * sigmoid(x)


def waves(seed: int, *shape: int) -> Numbers:
    """Numbers that any language can make again."""
    numbers: Numbers = 0.6 * np.sin(np.arange(math.prod(shape)) * 1.7 + seed)
    return numbers.reshape(shape)


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


# Gated perceptrons


def test_a_gated_perceptron_is_its_formula():
    """With biases, another activation, and another output."""
    layer = nn.GatedMLP(3, 5, out_size=2, act=jnp.tanh, use_bias=True, w_init=numbers_of, b_init=numbers_of)
    x = numbers(4, 3)

    def linear(part: nn.Linear, x: Numbers) -> Numbers:
        assert part.bias is not None
        y: Numbers = x @ np.asarray(part.weight.value) + np.asarray(part.bias.value)
        return y

    hidden = np.tanh(linear(layer.gate, np.asarray(x))) * linear(layer.up, np.asarray(x))
    close(layer(x), linear(layer.down, hidden), 1e-5)


def numbers_of(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """An initialiser that compiles nothing, and gives each parameter numbers of its own."""
    seed = np.asarray(jax.random.key_data(key)).tolist()
    return jnp.asarray(np.random.default_rng(seed).normal(0, 0.7, shape), dtype)


# Mixtures of experts


def looped(layer: nn.MixtureOfExperts, x: jax.Array, room: float = math.inf) -> Numbers:
    """A loop over choices, tokens and experts; of each expert, so many tokens find room."""
    tokens = np.asarray(x).reshape(-1, layer.width)
    router, up, down = (host(layer, name) for name in ("router", "up", "down"))
    shares = np.exp(tokens @ router)
    shares /= shares.sum(-1, keepdims=True)
    order = np.argsort(-shares, -1)[:, : layer.top_k]
    used = [0] * layer.num_experts
    y = np.zeros_like(tokens)
    for choice in range(layer.top_k):
        for at, token in enumerate(tokens):
            expert = order[at, choice]
            used[expert] += 1
            if used[expert] > room:
                continue
            hidden = token @ up[expert]
            hidden = (
                silu(token @ host(layer, "gate")[expert]) * hidden if layer.gate is not None else np.maximum(hidden, 0)
            )
            whole = shares[at, order[at]].sum() if layer.normalize else 1
            y[at] += shares[at, expert] / whole * (hidden @ down[expert])
    return y.reshape(x.shape)


MIXTURES: dict[str, tuple[dict[str, Any], float]] = {
    "two of three": ({}, math.inf),
    "one, without a gate": ({"top_k": 1, "use_gate": False, "act": jax.nn.relu}, math.inf),
    "all, by probability": ({"top_k": 3, "normalize": False}, math.inf),
    # 2 choices of 10 tokens for 3 experts, by half
    "half the room": ({"capacity_factor": 0.5}, 4),
    "room for all": ({"capacity_factor": 3.0}, math.inf),
}


@pytest.mark.parametrize(("options", "room"), MIXTURES.values(), ids=MIXTURES)
def test_a_mixture_is_a_loop_over_its_experts(options: dict[str, Any], room: float):
    """With and without a gate and a capacity; first choices and earlier tokens find room first."""
    layer = make("MixtureOfExperts", **options, w_init=numbers_of)
    x = numbers(2, 5, 4)
    close(gn.jit(lambda layer, x: layer(x))(layer, x), looped(layer, x, room), 1e-5)


@pytest.mark.slow
def test_room_for_all_is_no_capacity():
    """Also in the gradients of parameters and inputs, those of the router among them."""
    free = make("MixtureOfExperts", w_init=numbers_of)
    roomy = gn.clone(free)
    roomy.capacity_factor = 3.0
    x = numbers(2, 5, 4)

    @gn.jit
    def gradients(layer: nn.MixtureOfExperts, x: jax.Array) -> Any:
        return gn.grad(lambda layer, x: jnp.sum(jnp.sin(layer(x))), (0, 1))(layer, x)

    for one, other in zip(*(jax.tree.leaves(gradients(layer, x)) for layer in (free, roomy)), strict=True):
        assert np.any(one)
        close(one, other, 1e-5)


def test_one_choice_has_its_probability():
    """Were it 1, the router would get no gradient; with several, their weights sum to 1."""
    assert not nn.MixtureOfExperts(2, 2, 3, top_k=1, w_init=numbers_of).normalize
    assert nn.MixtureOfExperts(2, 2, 3, w_init=numbers_of).normalize


def test_the_losses_of_a_routing_are_those_of_the_papers():
    """1 if all experts are as busy, their number if one is, 0 for no tokens; squares of logsumexp."""
    losses = jax.jit(lambda routing: (routing.load_balance_loss(), routing.z_loss()))
    even = nn.Routing(jnp.zeros((2, 2, 4)), jnp.arange(4).reshape(2, 2, 1), jnp.ones((2, 2, 1)))
    close(losses(even), (1, math.log(4) ** 2), 1e-6)
    logits = jnp.asarray(np.tile([0, 100, 0, 0], (2, 2, 1)), jnp.float32)
    close(losses(nn.Routing(logits, jnp.ones((2, 2, 1), jnp.int32), even.weights)), (4, 100**2), 1e-6)
    close(losses(nn.Routing(logits[:0], even.experts[:0], even.weights[:0])), (0, 0))


def test_a_routing_says_who_went_where():
    """Experts from the best on, with weights that sum to 1, in float32."""
    layer = make("MixtureOfExperts", w_init=numbers_of, dtype=jnp.bfloat16)
    x = numbers(5, 4)
    y, routing = gn.jit(lambda layer, x: layer.run(x))(layer, x)
    assert (y.dtype, routing.logits.dtype) == (jnp.bfloat16, jnp.float32)
    best = np.argsort(-np.asarray(routing.logits), -1)[:, :2]
    np.testing.assert_array_equal(np.asarray(routing.experts), best)
    close(np.asarray(routing.weights).sum(-1), np.ones(5), 1e-6)


def test_an_input_alone_cannot_be_mapped_over_ragged_rows():
    """JAX knows no such product; with a capacity it can."""
    layer, x = make("MixtureOfExperts"), numbers(2, 5, 4)
    mapped = gn.vmap(lambda layer, x: layer(x), in_axes=(None, 0))
    with pytest.raises(gn.ContractError) as caught:
        gn.eval_shape(mapped, layer, x)
    assert str(caught.value) == (
        "MixtureOfExperts: JAX cannot map an input without its experts by vmap, as they get rows of any number; "
        "pass batch axes to the layer itself, or give it a capacity_factor"
    )
    layer.capacity_factor = 1.0
    assert gn.eval_shape(mapped, layer, x).shape == x.shape


def test_experts_are_spread_over_devices_by_their_role():
    """As are the hidden features of each."""
    mesh = jax.sharding.AbstractMesh((3, 2), ("expert", "model"))
    rules = gn.sharding.Rules(params={"expert": "expert", "mlp": "model", "embed": None})
    plan = gn.sharding.plan(gn.eval_shape(lambda: make("MixtureOfExperts")), mesh, rules)
    specs = {gn.path_str(row.path): row.spec for row in plan.rows}
    assert specs["up"] == jax.P("expert", None, "model")
    assert specs["down"] == jax.P("expert", "model", None)
    assert specs["router"] == jax.P(None, "expert")


# State-space layers


def mamba2_step_by_step(layer: nn.Mamba2, u: Numbers) -> Numbers:
    """The recurrence, one token after the other."""
    time, inner, heads = len(u), layer.inner_size, layer.num_heads
    groups, size = layer.num_groups, layer.state_size
    packed = u @ np.asarray(layer.in_proj.weight.value)
    z, mixed, dt = np.split(packed, [inner, inner + layer.channels], -1)
    padded = np.concatenate([np.zeros((layer.kernel_size - 1, layer.channels)), mixed])
    windows = np.array([padded[at : at + layer.kernel_size] for at in range(time)])
    mixed = silu((windows * host(layer, "conv_weight")).sum(1) + host(layer, "conv_bias"))
    dt = np.log1p(np.exp(dt + host(layer, "dt_bias")))
    h = np.zeros((heads, layer.head_size, size))
    rows = []
    for at in range(time):
        x, b, c = np.split(mixed[at], [inner, inner + groups * size])
        x = x.reshape(heads, layer.head_size)
        b, c = (np.repeat(part.reshape(groups, size), heads // groups, 0) for part in (b, c))
        decay = np.exp(-np.exp(host(layer, "A_log")) * dt[at])
        h = decay[:, None, None] * h + dt[at][:, None, None] * x[:, :, None] * b[:, None, :]
        rows.append(((h * c[:, None, :]).sum(-1) + host(layer, "skip")[:, None] * x).reshape(inner))
    of_groups = (np.array(rows) * silu(z)).reshape(time, groups, inner // groups)
    of_groups /= np.sqrt(np.square(of_groups).mean(-1, keepdims=True) + layer.epsilon)
    normalized = of_groups.reshape(time, inner) * host(layer, "norm_scale")
    y: Numbers = normalized @ np.asarray(layer.out_proj.weight.value)
    return y


def mamba2(**options: Any) -> nn.Mamba2:
    layer: nn.Mamba2 = make("Mamba2", w_init=numbers_of, b_init=numbers_of, **options)
    return layer


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "chunk_size", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)]
)
def test_chunks_of_mamba2_are_its_recurrence(chunk_size: int):
    """In float64, whether chunks fill the sequence or not, token by token with a cache, or in parts."""
    layer = mamba2(chunk_size=chunk_size, param_dtype=F64)
    x = numbers(1, 5, 4, dtype=F64)
    call = gn.jit(lambda layer, x: layer(x))
    whole = call(layer, x)
    close(whole[0], mamba2_step_by_step(layer, np.asarray(x[0])))
    cache = layer.init_cache(1)
    assert cache.ssm_state.value.dtype == F64
    parts = [call(layer, x[:, :3]), call(layer, x[:, 3:4]), call(layer, x[:, 4:])]
    close(np.concatenate(parts, 1), whole)


# Of `Mamba2Mixer` of transformers 5.24 with hidden_size=6, num_heads=4, head_dim=3, state_size=5, n_groups=2,
# chunk_size=4, in float64 (but for the scan, which it computes in float32), with `waves` as parameters and as input of
# shape [1, 7, 6]: outputs for the first and the last token.
MAMBA2 = [
    [-0.27061353, -0.63782561, 0.24465295, 0.6477834, -0.21828707, -0.65666805],
    [-0.4010741, -0.14329972, 0.39524156, 0.15938672, -0.38875425, -0.17520967],
]


def test_mamba2_is_that_of_transformers():
    """To the digits that float32 has."""
    layer = nn.Mamba2(6, head_size=3, state_size=5, num_groups=2, chunk_size=4)
    values: dict[str, Numbers] = {
        "in_proj.weight": waves(0, 48, 6).T,
        "conv_weight": waves(1, 32, 4).T,
        "conv_bias": waves(2, 32),
        "dt_bias": waves(3, 4),
        "A_log": waves(4, 4),
        "skip": waves(5, 4),
        "norm_scale": waves(6, 12),
        "out_proj.weight": waves(7, 6, 12).T,
    }
    updates = {gn.parse_path(path): jnp.asarray(value, jnp.float32) for path, value in values.items()}
    gn.update_states(layer, updates)
    y = gn.jit(lambda layer, x: layer(x))(layer, jnp.asarray(waves(9, 1, 7, 6), jnp.float32))
    close(np.asarray(y)[0, [0, 6]], MAMBA2, 2e-6)


def test_a_cache_of_mamba2_begins_anew():
    """Kept in at least float32 unless it is said; `reset` makes zeros; no tokens change nothing."""
    layer = make("Mamba2", dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert layer.init_cache(2).ssm_state.value.dtype == jnp.float32
    cache = layer.init_cache(2, jnp.bfloat16)
    call = gn.jit(lambda layer, x: layer(x))
    assert call(layer, jnp.ones((2, 1, 4), jnp.bfloat16)).dtype == jnp.bfloat16
    assert cache.conv_state.value.dtype == cache.ssm_state.value.dtype == jnp.bfloat16
    before = np.asarray(cache.ssm_state.value)
    assert np.any(before)
    assert call(layer, jnp.ones((2, 0, 4), jnp.bfloat16)).shape == (2, 0, 4)
    np.testing.assert_array_equal(np.asarray(cache.ssm_state.value), before)
    cache.reset()
    assert not np.any(cache.ssm_state.value)
    assert not np.any(cache.conv_state.value)


def test_a_cache_of_mamba2_is_of_one_batch():
    """Another one is refused, and nothing is written."""
    layer = make("Mamba2")
    cache = layer.init_cache(2)
    before = cache.ssm_state.value
    with pytest.raises(gn.ContractError) as caught:
        layer(jnp.ones((3, 1, 4)))
    assert str(caught.value) == (
        'Mamba2: x: expected batch = 2 of Float[Array, "batch time width"], found shape (3, 1, 4)'
    )
    assert cache.ssm_state.value is before


@pytest.mark.slow
def test_first_steps_and_decays_of_mamba2_are_in_their_ranges():
    """Those of the authors' code."""
    layer = nn.Mamba2(16, head_size=1, state_size=2)
    steps = np.log1p(np.exp(host(layer, "dt_bias").astype(F64)))
    assert 0.9e-3 < steps.min() < steps.max() < 0.11
    decays = np.exp(host(layer, "A_log"))
    assert 1 <= decays.min() < decays.max() <= 16


# Linear recurrent units


def lru_step_by_step(layer: nn.LRU, x: Numbers) -> Numbers:
    """The recurrence, one element after the other."""
    turn = np.exp(-np.exp(host(layer, "nu_log")) + 1j * np.exp(host(layer, "theta_log")))
    inward = host(layer, "B_real") + 1j * host(layer, "B_imag")
    outward = host(layer, "C_real") + 1j * host(layer, "C_imag")
    h = np.zeros(layer.state_size, complex)
    rows = []
    for element in x:
        h = turn * h + np.exp(host(layer, "gamma_log")) * (element @ inward)
        rows.append((h @ outward).real + host(layer, "skip") * element)
    return np.array(rows)


def rg_lru_step_by_step(layer: nn.RGLRU, x: Numbers) -> Numbers:
    """The recurrence, one element after the other."""

    def gate(name: str, element: Numbers) -> Numbers:
        parts = zip(np.split(element, layer.num_heads), host(layer, f"{name}_weight"), strict=True)
        return sigmoid(np.concatenate([part @ block for part, block in parts]) + host(layer, f"{name}_bias"))

    h = np.zeros(layer.width)
    rows = []
    for element in x:
        a = np.exp(-8 * np.log1p(np.exp(host(layer, "decay_log"))) * gate("decay", element))
        h = a * h + np.sqrt(1 - a**2) * gate("input", element) * element
        rows.append(h)
    return np.array(rows)


UNITS: dict[str, tuple[dict[str, Any], Callable[[Any, Numbers], Numbers]]] = {
    "LRU": ({}, lru_step_by_step),
    "RGLRU": ({"b_init": numbers_of}, rg_lru_step_by_step),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", UNITS)
def test_a_scan_is_the_recurrence(name: str):
    """In float64; and it goes on from what is carried, in parts and in steps."""
    options, by_hand = UNITS[name]
    layer = make(name, w_init=numbers_of, param_dtype=F64, **options)
    x = numbers(1, 5, layer.width, dtype=F64)
    carry, whole = gn.jit(lambda layer, x: layer.run(x))(layer, x)
    close(whole[0], by_hand(layer, np.asarray(x[0])))
    before, _ = layer.run(x[:, :0])
    np.testing.assert_array_equal(np.asarray(before), np.asarray(layer.initial_carry((1,))))

    @gn.jit
    def in_parts(layer: Any, before: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        before, first = layer.run(x[:, :3], before)
        before, then = layer.step(before, x[:, 3])
        before, rest = layer.run(x[:, 4:], before)
        return before, jnp.concatenate([first, then[:, None], rest], 1)

    found, parts = in_parts(layer, before, x)
    close(parts, whole)
    close(found, carry)


@pytest.mark.slow
def test_numbers_of_an_lru_begin_in_the_ring():
    """Between the radii, with angles up to the largest; what comes in is scaled by what decays."""
    layer = nn.LRU(2, 500, r_min=0.4, r_max=0.9, max_phase=0.3, w_init=numbers_of)
    radii = np.exp(-np.exp(host(layer, "nu_log")))
    angles = np.exp(host(layer, "theta_log"))
    assert 0.4 <= radii.min() < 0.5 < 0.85 < radii.max() <= 0.9
    assert 0 < angles.min() < angles.max() <= 0.3
    close(np.exp(host(layer, "gamma_log")), np.sqrt(1 - radii**2), 1e-5)
    # Uniform in the plane: in the square of the radius.
    assert abs(np.square(radii).mean() - (0.4**2 + 0.9**2) / 2) < 0.03


@pytest.mark.slow
def test_an_rg_lru_begins_by_keeping_most():
    """0.9 to 0.999 of each feature, if its gate is 1."""
    kept = np.exp(-8 * np.log1p(np.exp(host(nn.RGLRU(500, 5, w_init=numbers_of), "decay_log"))))
    assert 0.899 < kept.min() < 0.91 < 0.99 < kept.max() < 0.9991


@pytest.mark.slow
def test_a_gate_that_is_shut_has_finite_gradients():
    """Where nothing is forgotten, the root has no slope."""
    layer = make("RGLRU")
    layer.decay_bias.value = jnp.full(4, -200.0)

    @gn.jit
    def gradients(layer: nn.RGLRU, x: jax.Array) -> Any:
        return gn.grad(lambda layer: layer(x).sum())(layer)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients(layer, jnp.ones((3, 4)))))


def test_a_carry_of_another_size_is_refused():
    """In a run and in a step."""
    layer = make("RGLRU")
    text = 'RGLRU: carry: expected width = 4 of Float[Array, "*batch width"], found shape (2, 3)'
    for call, x in ((layer.run, jnp.ones((2, 5, 4))), (layer.step, jnp.ones((2, 4)))):
        with pytest.raises(gn.ContractError) as caught:
            call(carry=jnp.ones((2, 3)), x=x)
        assert str(caught.value) == text
