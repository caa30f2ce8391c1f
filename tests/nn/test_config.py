"""Configurations of layers: files that make them, and files that are made of them."""

from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from hypothesis import strategies as st

import graphnode as gn
from graphnode import nn
from tests.nn import layers
from tests.nn.layers import CASES, WITH_PARAMETERS, abstract, make

BUILT: dict[str, dict[str, Any]] = {
    **{name: {} for name in CASES},
    **{f"{name}, {option}": {option: value} for name, case in CASES.items() for option, value in case.options.items()},
    **{f"{name}, of bfloat16": {"param_dtype": jnp.bfloat16} for name in WITH_PARAMETERS},
    **{f"{name}, in bfloat16": {"dtype": jnp.bfloat16} for name in WITH_PARAMETERS},
}


def forms(layer: Any) -> dict[str, Any]:
    return {path: (leaf.shape, leaf.dtype) for path, leaf in layers.arrays(layer).items()}


@pytest.mark.parametrize(("case", "options"), BUILT.items(), ids=BUILT)
def test_a_layer_goes_through_a_file(case: str, options: dict[str, Any]):
    """Its config, written and read again, builds the same structure and parameters of the same form."""
    name = case.partition(",")[0]
    layer = make(name, **options)
    text = gn.config.dump(gn.config.to_config(layer))
    config = gn.config.loads(text, getattr(nn, name))
    again = gn.eval_shape(lambda: gn.config.build(config))
    assert gn.graphdef(again) is gn.graphdef(layer)
    assert forms(again) == forms(layer)
    assert gn.config.dump(gn.config.to_config(again)) == text


TEXTS: dict[str, str] = {
    "Conv": (
        "type: Conv\nin_size: 4\nout_size: 6\nkernel_size: [3, 2]\nstrides: [1, 1]\npadding: VALID\ndilation: [1, 1]\n"
        "input_dilation: [1, 1]\ngroups: 2"
    ),
    "LayerNorm": "type: LayerNorm\nwidth: 4",
    "LSTMCell": "type: LSTMCell\nin_size: 3\nhidden_size: 4",
    "Activation": "type: Activation\nfunction: relu",
    "RNN": "type: RNN\ncell:\n  type: RNNCell\n  in_size: 3\n  hidden_size: 4",
    "Sequential": (
        "type: Sequential\nlayers:\n  - type: Linear\n    in_size: [3]\n    out_size: [4]\n"
        "  - type: Activation\n    function: tanh"
    ),
    "Einsum": 'type: Einsum\nequation: "...i,ihd->...hd"\nshape: [4, 2, 3]\nbias_shape: [2, 3]',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_config_says_what_differs_from_the_defaults(name: str):
    """Options that were not given are left out, in the order of the fields."""
    assert gn.config.dump(gn.config.to_config(make(name))) == TEXTS[name]


READ: dict[str, tuple[str, Any]] = {
    "an activation by name": ("{type: MLP, in_size: 2, hidden_size: 3, out_size: 1, act: gelu}", {"act": jax.nn.gelu}),
    "a size for all axes": (
        "{type: Conv, in_size: 1, out_size: 2, kernel_size: [3, 3], strides: 2}",
        {"strides": (2, 2)},
    ),
    "one axis": ("{type: Conv, in_size: 1, out_size: 2, kernel_size: 3, padding: CAUSAL}", {"padding": "CAUSAL"}),
    "pairs": (
        "{type: Conv, in_size: 1, out_size: 2, kernel_size: [3, 3], padding: [[0, 1], [2, 0]]}",
        {"padding": ((0, 1), (2, 0))},
    ),
    "a dtype": ("{type: RMSNorm, width: 3, dtype: bfloat16}", {"dtype": jnp.dtype("bfloat16")}),
}


@pytest.mark.parametrize(("text", "expected"), READ.values(), ids=READ)
def test_a_file_names_what_it_means(text: str, expected: dict[str, Any]):
    """Functions, dtypes, and sizes in each of their forms."""
    config: Any = gn.config.loads(text, nn.Layer)
    layer: Any = gn.eval_shape(lambda: gn.config.build(config))
    assert {name: getattr(layer, name) for name in expected} == expected


def test_initialisers_by_name_fill_the_parameters():
    """Of each kind that a layer has."""
    text = "{type: GRUCell, in_size: 2, hidden_size: 3, w_init: ones, recurrent_init: zeros, b_init: ones}"
    config: Any = gn.config.loads(text, nn.GRUCell)
    found = {path: set(leaf.ravel().tolist()) for path, leaf in layers.arrays(gn.config.build(config)).items()}
    assert found == {"bias": {1.0}, "candidate_bias": {1.0}, "recurrent": {0.0}, "weight": {1.0}}


def test_a_refused_option_is_told_with_the_path_in_the_file():
    """The error of the constructor has a note."""
    text = "{type: Sequential, layers: [{type: Conv, in_size: 3, out_size: 4, kernel_size: 3, groups: 2}]}"
    config: Any = gn.config.loads(text, nn.Sequential)
    with pytest.raises(gn.ContractError) as caught:
        gn.config.build(config)
    assert str(caught.value) == "Conv.groups: expected a positive integer that divides in_size=3; found 2"
    assert caught.value.__notes__ == ["while layers.0 was built from its configuration"]


@pytest.mark.parametrize("name", CASES)
def test_two_layers_with_the_same_options_are_one_structure(name: str):
    """So that what was compiled for one is used for the other."""
    assert gn.graphdef(abstract(name)) is gn.graphdef(abstract(name))


def test_a_model_that_is_built_again_is_not_traced_again():
    """Nor is one with fresh arrays, or one of a file."""
    traced: list[str] = []

    @gn.jit
    def apply(model: nn.Layer, x: jax.Array) -> jax.Array:
        traced.append(type(model).__name__)
        return model(x)

    x = jnp.ones((2, 3))
    config = gn.config.to_config(make("Sequential"))
    for one in (make("Sequential"), make("Sequential"), gn.config.build(config), gn.config.build(config)):
        apply(one, x)
    assert traced == ["Sequential"]
    apply(make("Sequential", layers=[make("Linear", use_bias=False)]), x)
    assert traced == ["Sequential"] * 2


def block_of_other_parts() -> nn.Sequential:
    block = make("TransformerBlock")
    block.attention.out = nn.Linear(4, 4, jnp.ones((4, 4)), use_bias=False)
    block.mlp.layers[0] = nn.Linear(4, 6, param_dtype=jnp.bfloat16)
    return nn.Sequential([block])


def perceptron_without_a_bias() -> nn.MLP:
    layer: nn.MLP = make("MLP")
    layer.layers[0] = nn.Linear(2, 3, use_bias=False)
    return layer


def deeper_perceptron() -> nn.MLP:
    layer: nn.MLP = make("MLP")
    layer.layers.append(nn.Linear(4, 4))
    return layer


def stack_of_other_parts() -> nn.TransformerStack:
    return nn.TransformerStack([make("TransformerBlock") for _ in range(2)], scan=True)


REPLACED: dict[str, tuple[Any, list[str]]] = {
    "a bias less in a perceptron": (
        perceptron_without_a_bias,
        [f"MLP.layers.{at}.use_bias: expected False, as layers.0 has; found True" for at in (1, 2)],
    ),
    "a layer more": (deeper_perceptron, ["MLP.layers: expected 3, depth + 1; found 4"]),
    "parts of parts": (
        block_of_other_parts,
        [
            "layers.0.mlp.layers.1.param_dtype: expected bfloat16, as layers.0 has; found float32",
            "layers.0.attention.out.w_mask: expected None, as the constructor sets it; found float32[4, 4]",
        ],
    ),
    "blocks that are stacked": (
        stack_of_other_parts,
        [
            "TransformerStack.blocks: expected a list of blocks, which a file has; found blocks that are stacked; "
            "gn.unstack takes them apart",
        ],
    ),
}


@pytest.mark.parametrize(("replaced", "faults"), REPLACED.values(), ids=REPLACED)
def test_a_part_that_no_option_makes_is_told(replaced: Any, faults: list[str]):
    """A configuration would build another model without a word; all such parts are named, with their paths."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.to_config(replaced())
    assert str(caught.value) == "\n".join(faults)


@hypothesis.settings(max_examples=6)
@hypothesis.given(st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_config_builds_the_same_biases(has_bias: list[bool]):
    """Whichever of the linear maps of attention have one."""
    layer: nn.MultiHeadAttention = abstract("MultiHeadAttention")
    for part, kept in zip((layer.query, layer.key, layer.value, layer.out), has_bias, strict=True):
        if not kept:
            part.bias = None
    config = gn.config.to_config(layer)
    assert gn.graphdef(gn.eval_shape(lambda: gn.config.build(config))) is gn.graphdef(layer)


def test_parts_that_an_option_makes_are_said():
    """If all of them were replaced alike, there is an option for it."""
    layer = make("MultiHeadAttention")
    for name in ("query", "key", "value", "out"):
        getattr(layer, name).bias = None
    again = gn.eval_shape(lambda: gn.config.build(gn.config.to_config(layer)))
    assert gn.graphdef(again) is gn.graphdef(layer)
    assert forms(again) == forms(layer)


def test_whatever_is_in_a_block_goes_through_a_file():
    """Its parts are written out: also those that were replaced by others."""
    block = make("TransformerBlock", norm_position="both", mlp=nn.GatedMLP(4, 6), hidden_size=None)
    block.mlp_norm = nn.RMSNorm(4, epsilon=1e-3)
    block.attention.window, block.attention.soft_cap = 2, 5.0
    text = gn.config.dump(gn.config.to_config(block))
    again = gn.eval_shape(lambda: gn.config.build(gn.config.loads(text, nn.TransformerBlock)))
    assert gn.graphdef(again) is gn.graphdef(block)


def test_a_whole_model_goes_through_a_file():
    """Blocks that share a dropout keep sharing it."""
    dropout = nn.Dropout(0.1)
    model = nn.Sequential([make("TransformerBlock", dropout=dropout) for _ in range(2)])
    text = gn.config.dump(gn.config.to_config(model))
    config = gn.config.loads(text, nn.Sequential)
    again: Any = gn.eval_shape(lambda: gn.config.build(config))
    assert gn.graphdef(again) is gn.graphdef(model)
    assert again[0].dropout is again[1].dropout
