"""The initial values of all layers, and `nn.initializers`."""

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import DTypeLike

import graphnode as gn
from graphnode import nn
from tests.nn.layers import WITH_PARAMETERS, arrays, make

# Each compiles by itself.
pytestmark = pytest.mark.slow

# The layer's weights, and their variance by formula: He 2 / fan_in, LeCun 1 / fan_in.
VARIANCES: dict[str, tuple[Any, float]] = {
    "Linear": (lambda: nn.Linear(64, 150).weight.value, 2 / 64),
    "Conv with groups": (lambda: nn.Conv(16, 100, 12, groups=2).weight.value, 1 / (8 * 12)),
    "Bilinear": (lambda: nn.Bilinear(8, 32, 40).weight.value, 1 / (8 * 32)),
    "GRUCell": (lambda: nn.GRUCell(64, 50).weight.value, 1 / 64),
    "Embedding": (lambda: nn.Embedding(150, 64).weight.value, 1 / 64),
    # Of each expert, and each block, by itself
    "MixtureOfExperts": (lambda: nn.MixtureOfExperts(64, 25, 4).up.value, 1 / 64),
    "RGLRU": (lambda: nn.RGLRU(256, 4).input_weight.value, 1 / 64),
    # Of both parts of a complex number together
    "LRU": (lambda: nn.LRU(64, 100).B_real.value, 1 / 128),
}


def test_weights_have_the_mean_and_variance_of_the_formula():
    """Of thousands of numbers, within five standard errors; all are compiled together."""

    @jax.jit
    def made(key: jax.Array) -> Any:
        with gn.random.scope(key):
            return {name: make() for name, (make, _) in VARIANCES.items()}

    for name, weight in made(jax.random.key(0)).items():
        values, variance = np.asarray(weight).ravel(), VARIANCES[name][1]
        assert abs(values.mean()) < 5 * np.sqrt(variance / values.size), name
        assert abs(values.var() / variance - 1) < 5 * np.sqrt(2 / values.size), (name, values.var(), variance)


HE, LECUN = nn.initializers.he_normal, nn.initializers.lecun_normal
# The default of w_init, and the shapes that it is called with.
DEFAULTS: dict[str, tuple[Any, list[tuple[int, ...]]]] = {
    "Bilinear": (LECUN, [(2, 3, 4)]),
    "Conv": (LECUN, [(3, 2, 2, 6)]),
    "ConvTranspose": (LECUN, [(3, 6, 4)]),
    "Einsum": (LECUN, [(4, 2, 3)]),
    "GRUCell": (LECUN, [(3, 4)] * 3),
    "GatedMLP": (LECUN, [(4, 6), (4, 6), (6, 3)]),
    "LRU": (LECUN, [(3, 4), (3, 4), (4, 3), (4, 3)]),
    "LSTMCell": (LECUN, [(3, 4)] * 4),
    "Linear": (HE, [(3, 4)]),
    "LoRALinear": (HE, [(3, 4)]),
    "MLP": (HE, [(2, 3), (3, 3), (3, 4)]),
    "Mamba2": (LECUN, [(4, 32), (8, 4), (4, 20)]),
    "MixtureOfExperts": (LECUN, [(4, 3), *[(4, 6)] * 6, *[(6, 4)] * 3]),
    "MultiHeadAttention": (LECUN, [(8, 8), (5, 4), (5, 4), (8, 8)]),
    "RGLRU": (LECUN, [(2, 2)] * 4),
    "RNNCell": (LECUN, [(3, 4)]),
    "SpectralNormLinear": (HE, [(3, 4)]),
    "TransformerBlock": (LECUN, [(4, 4), (4, 4), (4, 4), (4, 4), (4, 6), (6, 4)]),
    "WeightNormLinear": (HE, [(3, 4)]),
}


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_the_default_initialiser_is_that_of_the_field(name: str):
    """He's for layers that a ReLU follows, LeCun's for others; all weights are drawn by it."""
    parameters = inspect.signature(getattr(nn, name)).parameters
    if name not in DEFAULTS:
        assert "w_init" not in parameters or name == "Embedding"
        return
    calls: list[tuple[int, ...]] = []

    def recording(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        calls.append(shape)
        return jnp.zeros(shape, dtype)

    make(name, w_init=recording)
    assert (parameters["w_init"].default, calls) == DEFAULTS[name]
    if "b_init" in parameters:
        assert parameters["b_init"].default is nn.initializers.zeros
    if "recurrent_init" in parameters:
        assert parameters["recurrent_init"].default is nn.initializers.orthogonal


@pytest.mark.parametrize(("name", "parts"), [("GRUCell", 3), ("LSTMCell", 4), ("RNNCell", 1)])
def test_recurrent_weights_are_orthogonal_for_each_gate(name: str, parts: int):
    """Each square part by itself, and no two are alike."""
    recurrent = np.asarray(getattr(nn, name)(2, 5).recurrent.value)
    squares = np.split(recurrent, parts, 1)
    for square in squares:
        np.testing.assert_allclose(square.T @ square, np.eye(5), atol=1e-5)
    assert len({square.tobytes() for square in squares}) == parts


def test_each_gate_is_drawn_by_itself():
    """An initialiser is called for each part, with its own shape and key, so that its fans are those of one gate."""
    calls: list[Any] = []

    def recording(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        calls.append((np.asarray(jax.random.key_data(key)).tobytes(), shape))
        return jnp.zeros(shape, dtype)

    nn.LSTMCell(2, 5, w_init=recording, recurrent_init=recording, b_init=recording)
    assert [shape for _, shape in calls] == [(2, 5)] * 4 + [(5, 5)] * 4 + [(20,)]
    assert len({key for key, _ in calls}) == 9


# The scale of `WeightNormLinear` is the length of its weight.
@pytest.mark.parametrize("name", [name for name in WITH_PARAMETERS if name != "WeightNormLinear"])
def test_scales_are_one_and_biases_zero(name: str):
    """Exactly, everywhere; running averages are 0 and 1."""
    expected = {"bias": 0.0, "candidate_bias": 0.0, "scale": 1.0, "mean": 0.0, "var": 1.0}
    takes = getattr(nn, name).__init__.__annotations__
    layer = make(name, **({"b_init": nn.initializers.zeros} if "b_init" in takes else {}))
    for path, state in gn.states(layer).items():
        leaves = state.value if isinstance(state.value, dict) else {str(path[-1]): state.value}
        for key, leaf in leaves.items():
            if key in expected:
                assert np.all(np.asarray(leaf) == expected[key]), (path, key)


def test_initialisers_are_one_object_each_and_known_by_name():
    """A file may name them, and two layers with the same one have equal options."""
    names = list(nn.initializers.__annotations__)
    assert sorted(names) == [
        "delta_orthogonal", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "kaiming_normal",
        "kaiming_uniform", "lecun_normal", "lecun_uniform", "normal", "ones", "orthogonal", "truncated_normal",
        "uniform", "xavier_normal", "xavier_uniform", "zeros",
    ]  # fmt: skip
    for name in names:
        config = gn.config.loads(f"{{in_size: 2, out_size: 3, w_init: {name}}}", nn.Linear)
        assert config.w_init is getattr(nn.initializers, name)


# In a file, in Python, and JAX's own.
PRESETS: dict[str, tuple[str, Any, Any]] = {
    "constant": ("value: 0.5", nn.initializers.Constant(0.5), jax.nn.initializers.constant(0.5)),
    "normal": ("stddev: 2.0", nn.initializers.Normal(2.0), jax.nn.initializers.normal(2.0)),
    "truncated_normal": (
        "stddev: 0.02, upper: 3.0",
        nn.initializers.TruncatedNormal(0.02, upper=3.0),
        jax.nn.initializers.truncated_normal(0.02, upper=3.0),
    ),
    "uniform": ("scale: 2.0", nn.initializers.Uniform(2.0), jax.nn.initializers.uniform(2.0)),
    "variance_scaling": (
        "scale: 2.0, mode: fan_out, distribution: uniform, in_axis: [0]",
        nn.initializers.VarianceScaling(2.0, "fan_out", "uniform", in_axis=(0,)),
        jax.nn.initializers.variance_scaling(2.0, "fan_out", "uniform", (0,)),
    ),
    "orthogonal": ("scale: 2.0", nn.initializers.Orthogonal(2.0), jax.nn.initializers.orthogonal(2.0)),
    "delta_orthogonal": (
        "scale: 2.0, column_axis: -2",
        nn.initializers.DeltaOrthogonal(2.0, -2),
        jax.nn.initializers.delta_orthogonal(2.0, -2),
    ),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_file_says_an_initialiser_with_its_arguments(name: str):
    """As an object that is equal to one of Python, and is written as it was read."""
    text, preset, _ = PRESETS[name]
    whole = f"type: Linear\nin_size: 3\nout_size: 3\nw_init: {{type: {name}, {text}}}"
    config = gn.config.loads(whole, nn.Linear)
    assert (config.w_init, gn.config.dump(config)) == (preset, whole)
    assert pickle.loads(pickle.dumps(preset)) == preset


@pytest.mark.slow
def test_an_initialiser_with_arguments_is_that_of_jax():
    """For the same key; those that JAX makes in float32 alone are made for half precision, too."""

    @jax.jit
    def both(key: jax.Array) -> Any:
        """What our presets and JAX's initialisers draw, and ours in half precision."""
        rows: dict[str, Any] = {}
        for name, (_, preset, own) in PRESETS.items():
            arrays = [function(key, (3, 3, 3), jnp.float32) for function in (preset, own)]
            rows[name] = (*arrays, preset(key, (3, 3, 3), jnp.bfloat16) if "orthogonal" in name else None)
        return rows

    for ours, own, half in both(jax.random.key(0)).values():
        np.testing.assert_array_equal(ours, own)
        if half is not None:
            np.testing.assert_array_equal(half, ours.astype(jnp.bfloat16))


WRONG: dict[str, str] = {
    "constant": "a mapping with `type` is expected here, found 'constant'; write {type: constant, ...}",
    "{type: constant}": "constant: value: Field required",
    "{type: trunc_normal}": "unknown type 'trunc_normal'; did you mean 'truncated_normal'?",
    "{type: truncated_normal, stdev: 0.1}": "truncated_normal: stdev: Extra inputs are not permitted",
    "{type: normal, stddev: wide}": "normal: stddev: Input should be a valid number, found str 'wide'",
    "{stddev: 0.1}": (
        "type is missing: one of constant, delta_orthogonal, normal, orthogonal, truncated_normal, uniform, "
        "variance_scaling"
    ),
    "he_norml": "nothing is registered as 'he_norml'; did you mean 'he_normal'?",
    "relu": "'relu' is not a function of 3 arguments: register one with gn.config.register(name, value)",
}


@pytest.mark.parametrize(("text", "fault"), WRONG.items(), ids=WRONG)
def test_an_initialiser_that_is_none_is_told_with_its_place(text: str, fault: str):
    """The line and the field; what would do."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads(f"in_size: 2\nout_size: 3\nw_init: {text}\n", nn.Linear)
    assert str(caught.value) == f"3:9: w_init: {fault}"


def test_an_editor_completes_initialisers_with_arguments():
    """The schema has their names and the types of their arguments, beside the names of those without."""
    definitions = gn.config.json_schema(nn.Linear)["$defs"]
    assert definitions["truncated_normal"]["properties"]["stddev"] == {"default": 0.01, "type": "number"}
    assert {f"#/$defs/{name}" for name in PRESETS} == {one["$ref"] for one in refs(definitions["Preset"])}


def refs(schema: Any) -> Any:
    """All references in a schema."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema
        for part in schema.values():
            yield from refs(part)
    if isinstance(schema, list):
        for part in schema:
            yield from refs(part)


class Custom(gn.Node):
    """A node of one's own with initialisers."""

    init: Callable[[jax.Array, tuple[int, ...], DTypeLike], jax.Array] = gn.static(default=nn.initializers.zeros)


def test_a_field_of_ones_own_takes_an_initialiser_with_arguments():
    """By the type of initialisers; two that are equal are one structure."""
    text = "type: Custom\ninit: {type: constant, value: 2.0}"
    node = gn.config.build(gn.config.loads(text, Custom))
    assert gn.config.dump(gn.config.to_config(node)) == text
    assert gn.graphdef(node) is gn.graphdef(Custom(nn.initializers.Constant(2.0)))


def keyed(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Numbers that depend on the key, drawn without compiling."""
    seed = np.asarray(jax.random.key_data(key)).tolist()
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("name", ["Conv", "GRUCell", "TransformerBlock"])
def test_a_layer_draws_from_the_ambient_stream(name: str):
    """The same seed makes the same layer, the next layer is another, and no two weights are alike."""
    gn.random.seed(3)
    first, second = (arrays(make(name, w_init=keyed)) for _ in range(2))
    gn.random.seed(3)
    again = arrays(make(name, w_init=keyed))
    weights = [path for path in first if path.endswith("weight")]
    for path in weights:
        np.testing.assert_array_equal(np.asarray(first[path]), np.asarray(again[path]))
        assert np.all(np.asarray(first[path]) != np.asarray(second[path]))
    assert len({np.asarray(first[path]).tobytes() for path in weights}) == len(weights)


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", [name for name in WITH_PARAMETERS if name != "PReLU" and "Norm" not in name])
def test_the_name_of_an_initialiser_is_none(name: str):
    """Names are for configurations."""
    with pytest.raises(gn.ContractError) as caught:
        make(name, w_init="he_normal")
    expected = "expected an initialiser, a function of key, shape and dtype; found 'he_normal'"
    assert str(caught.value) == f"{expected}; gn.nn.initializers has some by their names"


def test_orthogonal_weights_of_half_precision_are_made_in_float32():
    """And cast: JAX's QR decomposition knows no half precision."""
    key = jax.random.key(0)
    half = nn.initializers.orthogonal(key, (4, 4), jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    whole = nn.initializers.orthogonal(key, (4, 4), jnp.float32)
    np.testing.assert_array_equal(half, whole.astype(jnp.bfloat16))
    np.testing.assert_allclose(whole @ whole.T, np.eye(4), atol=1e-5)
