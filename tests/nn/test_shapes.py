"""Shapes and dtypes of every layer: of its parameters, of its result, and of what replaces them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn import layers
from tests.nn.layers import CACHES, CASES, F32, WITH_PARAMETERS, abstract, arrays, called, inputs, make
from tests.nn.peers import BF16

NORMS = ("BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm")


def test_the_table_has_every_layer():
    """So that each claim below is of all of them."""
    classes = {name for name, one in vars(nn).items() if isinstance(one, type)}
    assert classes == set(CASES) | layers.ABSTRACT | layers.RECORDS


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_known_without_an_array(name: str):
    """`gn.eval_shape` of the constructor makes no array, and the shapes are those of the contracts."""
    layer = abstract(name)
    found = arrays(layer)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in found.values())
    assert {path: leaf.shape for path, leaf in found.items()} == CASES[name].states


@pytest.mark.parametrize("name", CASES)
def test_a_summary_counts_parameters_and_bytes(name: str):
    """`gn.config.summary` has a row for each State, also when the parameters are of another dtype."""
    shapes = CASES[name].states
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    summary = gn.config.summary(layers.config(name))
    assert (summary.parameters, summary.bytes) == (total, 4 * total)
    paths = {path.removesuffix(".weight").removesuffix(".bias") if "weight." in path else path for path in shapes}
    assert {gn.path_str(row.path) for row in summary.rows} == paths
    if name in WITH_PARAMETERS:
        kept = sum(int(np.prod(shapes[path])) for path in {"mean", "u", "var"} & set(shapes))
        summary = gn.config.summary(layers.config(name, param_dtype=jnp.bfloat16))
        assert summary.bytes == 2 * (total - kept) + 4 * kept


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.inputs])
def test_the_result_has_the_shape_that_is_promised(name: str):
    """And the dtype of the input, where parameters have it too."""
    found = gn.eval_shape(called, abstract(name), *inputs(name))
    assert jax.tree.map(lambda leaf: leaf.shape, found) == CASES[name].output
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {F32}


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_param_dtype_is_the_dtype_of_the_parameters(name: str):
    """Of all of them; running averages stay in float32."""
    layer = abstract(name, param_dtype=jnp.bfloat16)
    params, rest = gn.states(layer, gn.ParamState, ...)
    assert {leaf.dtype for state in params.values() for leaf in jax.tree.leaves(state.value)} == {BF16}
    assert {state.value.dtype for state in rest.values()} <= {F32}


@pytest.mark.parametrize("name", [name for name in WITH_PARAMETERS if CASES[name].inputs])
def test_dtype_is_the_dtype_of_the_result(name: str):
    """Whatever the dtypes of input and parameters, also where JAX is told to refuse promotion."""
    for dtype, input_dtype, param_dtype in [(BF16, F32, F32), (F32, BF16, BF16), (BF16, F32, BF16)]:
        layer = abstract(name, dtype=dtype, param_dtype=param_dtype)
        found = gn.eval_shape(called, layer, *inputs(name, input_dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {dtype}


@pytest.mark.parametrize("name", [name for name in WITH_PARAMETERS if CASES[name].inputs])
def test_without_dtype_input_and_parameters_are_promoted(name: str):
    """As JAX is told to; a normalisation gives the dtype of its input, an embedding that of its weight."""
    expected = BF16 if name in NORMS else F32
    with jax.numpy_dtype_promotion("standard"):
        found = gn.eval_shape(called, abstract(name), *inputs(name, BF16))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {expected}


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_the_form_in_which_a_dtype_is_written_makes_no_structure(name: str):
    """A class, a name and a dtype are one dtype, so that nothing is compiled again; kept is a `np.dtype`."""
    one, two, three = (abstract(name, dtype=dtype) for dtype in (jnp.bfloat16, "bfloat16", BF16))
    assert gn.graphdef(one) is gn.graphdef(two) is gn.graphdef(three)
    assert one.dtype == BF16
    assert isinstance(one.dtype, np.dtype)


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_a_dtype_that_is_no_floating_point_one_is_refused(name: str):
    """Named by class and argument; that of parameters by the argument."""
    for bad, text in [(jnp.int32, "<class 'jax.numpy.int32'>"), ("bf16", "'bf16'")]:
        with pytest.raises(gn.ContractError) as caught:
            make(name, dtype=bad)
        assert str(caught.value) == f"{name}.dtype: expected a floating-point or complex dtype; found {text}"
        with pytest.raises(gn.ContractError) as caught:
            make(name, param_dtype=bad)
        assert str(caught.value) == f"param_dtype: expected a floating-point or complex dtype; found {text}"


CONTRACTS: dict[str, dict[str, str]] = {
    "BatchNorm": dict.fromkeys(("bias", "mean", "scale", "var"), "width"),
    "Bilinear": {"weight": "left_size right_size out_size", "bias": "out_size"},
    "Conv": {"weight": "*kernel_size in_size//groups out_size", "bias": "out_size"},
    "ConvTranspose": {"weight": "*kernel_size _ _", "bias": "out_size"},
    "Einsum": {"weight": "*shape", "bias": "*bias_shape"},
    "Embedding": {"weight": "num_embeddings width"},
    "GRUCell": {
        "weight": "in_size 3*hidden_size",
        "recurrent": "hidden_size 3*hidden_size",
        "bias": "3*hidden_size",
        "candidate_bias": "hidden_size",
    },
    "GroupNorm": {"scale": "width", "bias": "width"},
    "LSTMCell": {
        "weight": "in_size 4*hidden_size",
        "recurrent": "hidden_size 4*hidden_size",
        "bias": "4*hidden_size",
    },
    **{
        cache: {
            "keys": "batch_size length num_heads head_size",
            "values": "batch_size length num_heads value_head_size",
        }
        for cache in sorted(CACHES)
    },
    "InstanceNorm": {"scale": "width", "bias": "width"},
    "LayerNorm": {"scale": "*width", "bias": "*width"},
    "RMSNorm": {"scale": "*width"},
    "LRU": {
        **dict.fromkeys(("gamma_log", "nu_log", "theta_log"), "state_size"),
        "skip": "width",
        **dict.fromkeys(("B_imag", "B_real"), "width state_size"),
        **dict.fromkeys(("C_imag", "C_real"), "state_size width"),
    },
    "Mamba2": {
        **dict.fromkeys(("A_log", "dt_bias", "skip"), "num_heads"),
        "norm_scale": "inner_size",
        "conv_bias": "channels",
        "conv_weight": "kernel_size channels",
    },
    "Mamba2Cache": {
        "conv_state": "batch_size window_size channels",
        "ssm_state": "batch_size num_heads head_size state_size",
    },
    "MixtureOfExperts": {
        "router": "width num_experts",
        "down": "num_experts hidden_size width",
        **dict.fromkeys(("gate", "up"), "num_experts width hidden_size"),
    },
    "RNNCell": {"weight": "in_size hidden_size", "recurrent": "hidden_size hidden_size", "bias": "hidden_size"},
}
STATES = [(name, field) for name, fields in CONTRACTS.items() for field in fields]


@pytest.mark.parametrize(("name", "field"), STATES, ids=map(".".join, STATES))
def test_a_state_of_another_shape_is_refused(name: str, field: str):
    """The first axis that differs is named, with its size; the State stays."""
    layer = make(name)
    state, shape = getattr(layer, field), CASES[name].states[field]
    contract = CONTRACTS[name][field]
    with pytest.raises(gn.ContractError) as caught:
        setattr(layer, field, type(state)(jnp.zeros((shape[0] + 1, *shape[1:]))))
    first = contract.split()[0]
    variadic = {"*kernel_size": shape[:-2], "*shape": shape, "*bias_shape": shape, "*width": shape}
    wanted, found = variadic.get(first, shape[0]), (shape[0] + 1, *shape[1:])
    text = f'{name}.{field}: expected {first} = {wanted} of Float[Array, "{contract}"], found shape {found}'
    assert str(caught.value) == text
    assert getattr(layer, field) is state
    setattr(layer, field, type(state)(jnp.ones(shape)))


def test_a_state_that_is_left_out_may_stay_so():
    """A bias that is `None` is none, and a layer gets one by assignment."""
    layer = make("Conv", use_bias=False)
    assert layer.bias is None
    layer.bias = gn.ParamState(jnp.ones(6))
    with pytest.raises(gn.ContractError) as caught:
        layer.bias = gn.ParamState(jnp.ones(5))
    text = 'Conv.bias: expected out_size = 6 of Float[Array, "out_size"], found shape (5,)'
    assert str(caught.value) == text


def test_an_initialiser_that_gives_another_shape_is_told_by_the_contract():
    """As if its value were assigned."""

    def wrong(key: Any, shape: Any, dtype: Any) -> Any:
        return jnp.zeros((3,), dtype)

    with pytest.raises(gn.ContractError) as caught:
        make("Conv", w_init=wrong)
    contract = 'Float[Array, "*kernel_size in_size//groups out_size"]'
    assert str(caught.value) == f"Conv.weight: expected rank 4 of {contract}, found shape (3,)"
