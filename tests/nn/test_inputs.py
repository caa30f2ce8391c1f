"""What layers refuse, in construction and in a call: literal texts, which name the place."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import nn
from tests.nn.layers import CACHES, CASES, PARTS, abstract, make
from tests.nn.peers import numbers

SIZE = "expected a positive integer; found"
SIZES = "expected a positive integer or a tuple of"


def message(function: Callable[..., Any], /, *arguments: Any, **options: Any) -> str:
    """The text of the ContractError that a call raises."""
    with pytest.raises(gn.ContractError) as caught:
        function(*arguments, **options)
    return str(caught.value)


# Construction

# Each argument that is one size, for every layer that has it.
ONE_SIZE: list[tuple[str, str]] = [
    *[
        ("BatchNorm", "width"),
        ("GroupNorm", "width"),
        ("InstanceNorm", "width"),
        ("PReLU", "width"),
        ("LayerNorm", "width"),
        ("RMSNorm", "width"),
    ],
    *[("Bilinear", "left_size"), ("Bilinear", "right_size"), ("Bilinear", "out_size")],
    *[("Conv", "in_size"), ("Conv", "out_size"), ("ConvTranspose", "in_size"), ("ConvTranspose", "out_size")],
    *[("Embedding", "num_embeddings"), ("Embedding", "width")],
    *[("GRUCell", "in_size"), ("GRUCell", "hidden_size"), ("LSTMCell", "in_size"), ("LSTMCell", "hidden_size")],
    *[("RNNCell", "in_size"), ("RNNCell", "hidden_size")],
    *[
        (cache, name)
        for cache in sorted(CACHES)
        for name in ("batch_size", "length", "num_heads", "head_size", "value_head_size")
    ],
    *[("GatedMLP", name) for name in ("width", "hidden_size", "out_size")],
    *[("LoRALinear", "rank"), ("SpectralNormLinear", "steps")],
    *[("LRU", "width"), ("LRU", "state_size"), ("RGLRU", "width")],
    *[("Mamba2", name) for name in ("width", "inner_size", "state_size", "kernel_size", "chunk_size")],
    *[("Mamba2Cache", name) for name in ("batch_size", "num_heads", "head_size", "state_size", "channels")],
    *[("MixtureOfExperts", name) for name in ("width", "hidden_size", "num_experts", "top_k")],
    *[("MLP", "in_size"), ("MLP", "hidden_size"), ("MLP", "out_size")],
    *[("MultiHeadAttention", name) for name in ("width", "head_size", "value_head_size", "out_size", "context_size")],
    *[("TransformerBlock", "width"), ("TransformerBlock", "hidden_size")],
]


@pytest.mark.parametrize(("name", "argument"), ONE_SIZE, ids=map(".".join, ONE_SIZE))
def test_a_size_is_a_positive_integer(name: str, argument: str):
    """Neither 0 nor negative nor a boolean."""
    for bad in (0, -1, True):
        assert message(make, name, **{argument: bad}) == f"{name}.{argument}: {SIZE} {bad!r}"


@pytest.mark.wrong_types
@pytest.mark.parametrize(("name", "argument"), ONE_SIZE, ids=map(".".join, ONE_SIZE))
def test_a_size_is_no_float(name: str, argument: str):
    """Also not one that is a whole number."""
    assert message(make, name, **{argument: 2.0}) == f"{name}.{argument}: {SIZE} 2.0"


NAMED = "'SAME', 'VALID', 'CIRCULAR', 'REFLECT'"
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "Conv kernel": ("Conv", {"kernel_size": (3, 0)}, f"Conv.kernel_size: {SIZES} 1 to 3; found (3, 0)"),
    "Conv, four axes": ("Conv", {"kernel_size": (1,) * 4}, f"Conv.kernel_size: {SIZES} 1 to 3; found (1, 1, 1, 1)"),
    "Conv, no axis": ("Conv", {"kernel_size": ()}, f"Conv.kernel_size: {SIZES} 1 to 3; found ()"),
    "Conv strides": ("Conv", {"strides": (1, 1, 1)}, f"Conv.strides: {SIZES} 2; found (1, 1, 1)"),
    "Conv strides 0": ("Conv", {"strides": 0}, f"Conv.strides: {SIZES} 2; found 0"),
    "Conv dilation": ("Conv", {"dilation": (1,)}, f"Conv.dilation: {SIZES} 2; found (1,)"),
    "Conv groups of inputs": (
        "Conv",
        {"groups": 3},
        "Conv.groups: expected a positive integer that divides in_size=4; found 3",
    ),
    "Conv groups of outputs": (
        "Conv",
        {"groups": 4},
        "Conv.groups: expected a positive integer that divides out_size=6; found 4",
    ),
    "Conv groups 0": (
        "Conv",
        {"groups": 0},
        "Conv.groups: expected a positive integer that divides in_size=4; found 0",
    ),
    "Conv padding, causal over two axes": (
        "Conv",
        {"padding": "CAUSAL"},
        f"Conv.padding: expected {NAMED}, an integer, or 2 integers or pairs of them; found 'CAUSAL'",
    ),
    "Conv padding, negative": (
        "Conv",
        {"padding": -1},
        f"Conv.padding: expected {NAMED}, an integer, or 2 integers or pairs of them; found -1",
    ),
    "Conv padding, of another rank": (
        "Conv",
        {"padding": (1, 1, 1)},
        f"Conv.padding: expected {NAMED}, an integer, or 2 integers or pairs of them; found (1, 1, 1)",
    ),
    "ConvTranspose kernel": (
        "ConvTranspose",
        {"kernel_size": 0},
        f"ConvTranspose.kernel_size: {SIZES} 1 to 3; found 0",
    ),
    "ConvTranspose strides": ("ConvTranspose", {"strides": (1, 2)}, f"ConvTranspose.strides: {SIZES} 1; found (1, 2)"),
    "ConvTranspose dilation": ("ConvTranspose", {"dilation": 0}, f"ConvTranspose.dilation: {SIZES} 1; found 0"),
    "MaxPool window": ("MaxPool", {"window": 0}, f"MaxPool.window: {SIZES} 1 to 3; found 0"),
    "MaxPool strides": ("MaxPool", {"strides": (2,)}, f"MaxPool.strides: {SIZES} 2; found (2,)"),
    "AdaptiveMaxPool": (
        "AdaptiveMaxPool",
        {"out_size": (2, 0)},
        f"AdaptiveMaxPool.out_size: {SIZES} 1 to 3; found (2, 0)",
    ),
    "AdaptiveAvgPool": ("AdaptiveAvgPool", {"out_size": 0}, f"AdaptiveAvgPool.out_size: {SIZES} 1 to 3; found 0"),
    "GroupNorm groups": (
        "GroupNorm",
        {"num_groups": 3},
        "GroupNorm.num_groups: expected a positive integer that divides width=4; found 3",
    ),
    "GroupNorm axes": (
        "GroupNorm",
        {"batch_axes": -1},
        "GroupNorm.batch_axes: expected an integer of at least 0; found -1",
    ),
    "GroupNorm epsilon": ("GroupNorm", {"epsilon": 0.0}, "GroupNorm.epsilon: expected a positive number; found 0.0"),
    "LayerNorm epsilon": ("LayerNorm", {"epsilon": -1.0}, "LayerNorm.epsilon: expected a positive number; found -1.0"),
    "RMSNorm epsilon": (
        "RMSNorm",
        {"epsilon": float("nan")},
        "RMSNorm.epsilon: expected a positive number; found nan",
    ),
    "MLP depth": ("MLP", {"depth": -1}, "MLP.depth: expected an integer of at least 0; found -1"),
    "Mamba2 heads": (
        "Mamba2",
        {"head_size": 3},
        "Mamba2.head_size: expected a positive integer that divides inner_size=8; found 3",
    ),
    "Mamba2 groups": (
        "Mamba2",
        {"num_groups": 3},
        "Mamba2.num_groups: expected a positive integer that divides num_heads=4; found 3",
    ),
    "Mamba2 epsilon": ("Mamba2", {"epsilon": 0.0}, "Mamba2.epsilon: expected a positive number; found 0.0"),
    "RGLRU heads": (
        "RGLRU",
        {"num_heads": 3},
        "RGLRU.num_heads: expected a positive integer that divides width=4; found 3",
    ),
    "LRU radii": (
        "LRU",
        {"r_min": 0.9, "r_max": 0.8},
        "LRU.r_min, LRU.r_max: expected 0 <= r_min < r_max <= 1; found 0.9 and 0.8",
    ),
    "LRU radius": (
        "LRU",
        {"r_max": 1.5},
        "LRU.r_min, LRU.r_max: expected 0 <= r_min < r_max <= 1; found 0.0 and 1.5",
    ),
    "LRU phase": ("LRU", {"max_phase": 0.0}, "LRU.max_phase: expected a positive number; found 0.0"),
    "more choices than experts": (
        "MixtureOfExperts",
        {"top_k": 4},
        "MixtureOfExperts.top_k: expected at most num_experts=3; found 4",
    ),
    "a capacity for nobody": (
        "MixtureOfExperts",
        {"capacity_factor": 0.0},
        "MixtureOfExperts.capacity_factor: expected a positive number; found 0.0",
    ),
    "attention heads": (
        "MultiHeadAttention",
        {"num_heads": 3},
        "MultiHeadAttention.num_heads: expected a positive integer that divides width=8; found 3",
    ),
    "attention, no heads": (
        "MultiHeadAttention",
        {"num_heads": 0, "head_size": 2},
        f"MultiHeadAttention.num_heads: {SIZE} 0",
    ),
    "attention, heads of keys": (
        "MultiHeadAttention",
        {"num_kv_heads": 3},
        "MultiHeadAttention.num_kv_heads: expected a positive integer that divides num_heads=4; found 3",
    ),
    "attention, odd heads": (
        "MultiHeadAttention",
        {"head_size": 3, "rotary_base": 10.0},
        "MultiHeadAttention.head_size: expected an even number for rotary positions; found 3",
    ),
    "attention, rotary base": (
        "MultiHeadAttention",
        {"rotary_base": 0.0},
        "MultiHeadAttention.rotary_base: expected a positive number; found 0.0",
    ),
    "TransformerBlock heads": (
        "TransformerBlock",
        {"num_heads": 3},
        "TransformerBlock.num_heads: expected a positive integer that divides width=4; found 3",
    ),
    "TransformerBlock, heads of keys": (
        "TransformerBlock",
        {"num_kv_heads": 4},
        "MultiHeadAttention.num_kv_heads: expected a positive integer that divides num_heads=2; found 4",
    ),
    "Einsum, one operand": (
        "Einsum",
        {"equation": "ij->j"},
        "Einsum.equation: expected two operands and a result, as in '...i,io->...o'; found 'ij->j'",
    ),
    "Einsum, no result": (
        "Einsum",
        {"equation": "i,ij"},
        "Einsum.equation: expected two operands and a result, as in '...i,io->...o'; found 'i,ij'",
    ),
    "Einsum, another rank": (
        "Einsum",
        {"shape": (4, 2)},
        "Einsum.shape: expected a weight with the axes 'ihd' of the equation; found (4, 2)",
    ),
    "Einsum, an ellipsis in the weight alone": (
        "Einsum",
        {"equation": "i,...j->ij", "shape": (4, 2)},
        "Einsum.equation: expected an ellipsis in the result, as in the weight; found 'i,...j->ij'",
    ),
    "Einsum, fewer axes than letters": (
        "Einsum",
        {"equation": "...i,...ij->...j", "shape": (4,)},
        "Einsum.shape: expected a weight with the axes '...ij' of the equation; found (4,)",
    ),
    "LoRALinear, no weight": (
        "LoRALinear",
        {"alpha": 0.0},
        "LoRALinear.alpha: expected a positive number; found 0.0",
    ),
    "LoRALinear, a mask": (
        "LoRALinear",
        {"w_mask": jnp.ones((3, 4))},
        "LoRALinear.w_mask: expected no mask, which the product of lora_a and lora_b would not keep",
    ),
    "SpectralNormLinear, complex": (
        "SpectralNormLinear",
        {"param_dtype": jnp.complex64},
        "SpectralNormLinear.param_dtype: expected a floating-point dtype; found complex64",
    ),
    "SpectralNormLinear, epsilon": (
        "SpectralNormLinear",
        {"epsilon": 0.0},
        "SpectralNormLinear.epsilon: expected a positive number; found 0.0",
    ),
    "PReLU slope": (
        "PReLU",
        {"negative_slope_init": float("inf")},
        "PReLU.negative_slope_init: expected a finite number; found inf",
    ),
    "Einsum, a size": (
        "Einsum",
        {"shape": (4, 2, 0)},
        "Einsum.shape: expected a tuple of positive integers; found (4, 2, 0)",
    ),
    "Einsum, a size of the bias": (
        "Einsum",
        {"bias_shape": (0,)},
        "Einsum.bias_shape: expected a tuple of positive integers; found (0,)",
    ),
    "Einsum, another bias": (
        "Einsum",
        {"bias_shape": (3, 2)},
        "Einsum.bias_shape: expected the last axes of the output '...hd', for a weight of shape (4, 2, 3); "
        "found (3, 2)",
    ),
}


@pytest.mark.parametrize(("name", "options", "text"), BAD.values(), ids=BAD)
def test_bad_options_are_refused(name: str, options: dict[str, Any], text: str):
    """The class, the argument, what would do, and what was found."""
    assert message(make, name, **options) == text


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "Conv padding, a name": (
        "Conv",
        {"padding": "same"},
        f"Conv.padding: expected {NAMED}, an integer, or 2 integers or pairs of them; found 'same'",
    ),
    "Conv padding over one axis": (
        "Conv",
        {"kernel_size": 3, "padding": "FULL"},
        f"Conv.padding: expected {NAMED}, 'CAUSAL', an integer, or 1 integers or pairs of them; found 'FULL'",
    ),
    "ConvTranspose padding": (
        "ConvTranspose",
        {"padding": "REFLECT"},
        "ConvTranspose.padding: expected 'SAME', 'VALID', 'CIRCULAR', an integer, or 1 integers or pairs of them; "
        "found 'REFLECT'",
    ),
    "AvgPool padding": (
        "AvgPool",
        {"padding": "CAUSAL"},
        "AvgPool.padding: expected 'SAME', 'VALID', an integer, or 1 integers or pairs of them; found 'CAUSAL'",
    ),
    "TransformerBlock norm": (
        "TransformerBlock",
        {"norm": "layernorm"},
        "TransformerBlock.norm: expected 'LayerNorm' or 'RMSNorm'; found 'layernorm'",
    ),
    "Activation by name": (
        "Activation",
        {"function": "relu"},
        "Activation.function: expected a function, such as jax.nn.relu; found 'relu'",
    ),
    "GatedMLP's activation by name": (
        "GatedMLP",
        {"act": "silu"},
        "GatedMLP.act: expected a function, such as jax.nn.relu; found 'silu'",
    ),
    "MLP's activation by name": (
        "MLP",
        {"act": "relu"},
        "MLP.act: expected a function, such as jax.nn.relu; found 'relu'",
    ),
    "RNNCell's activation by name": (
        "RNNCell",
        {"act": "tanh"},
        "RNNCell.act: expected a function, such as jax.nn.relu; found 'tanh'",
    ),
    "a float in a tuple": ("Conv", {"strides": (1.0, 2.0)}, f"Conv.strides: {SIZES} 2; found (1.0, 2.0)"),
    "a norm by class": (
        "TransformerBlock",
        {"norm": nn.RMSNorm},
        "TransformerBlock.norm: expected 'LayerNorm' or 'RMSNorm'; found <class 'graphnode.nn._rms_norm.RMSNorm'>",
    ),
    "a bias of one number": (
        "Einsum",
        {"bias_shape": 3},
        "Einsum.bias_shape: expected a tuple of positive integers; found 3",
    ),
}


@pytest.mark.wrong_types
@pytest.mark.parametrize(("name", "options", "text"), WRONG.values(), ids=WRONG)
def test_what_no_type_checker_accepts_is_refused(name: str, options: dict[str, Any], text: str):
    """With the same kind of text."""
    assert message(make, name, **options) == text


@pytest.mark.wrong_types
def test_lists_and_other_nodes_are_refused_by_the_fields():
    """A static field is hashable, a node stands in its slot."""
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: make("Conv", kernel_size=[3, 3]), "Conv.kernel_size: a list ([3, 3]) is not hashable: write a tuple"),
        (lambda: make("TransformerBlock", dropout=0.1), "TransformerBlock.dropout takes Dropout; found float 0.1"),
        (lambda: make("RNN", cell=make("BatchNorm")), "RNN.cell takes Cell; found a BatchNorm"),
    ]
    for function, text in cases:
        with pytest.raises(gn.FieldError) as caught:
            function()
        assert str(caught.value) == text


@pytest.mark.parametrize("name", ["Layer", "Module", "Cell"])
def test_abstract_classes_are_not_made(name: str):
    """A layer has a call, a cell an initial carry too."""
    cls: Any = getattr(nn, name)
    if name == "Module":
        with pytest.raises(TypeError):
            cls()(1)
        return
    with pytest.raises(TypeError, match=f"Can't instantiate abstract class {name}"):
        cls()


# Calls


def f32(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def boolean(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


WIDTH = 'Float[Array, "... width"]'
TIME = 'Float[Array, "*batch time width"]'
CELL = 'Float[Array, "*batch hidden_size"]'
TWO_AXES = "expected an input of shape (..., spatial, spatial, channels); found"
INPUTS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    "InstanceNorm, another width": (
        "InstanceNorm",
        (f32(3, 5, 3),),
        {},
        'x: expected width = 4 of Float[Array, "... width"], found shape (3, 5, 3)',
    ),
    "PReLU, another width": (
        "PReLU",
        (f32(3, 5),),
        {},
        'x: expected width = 4 of Float[Array, "... width"], found shape (3, 5)',
    ),
    "AdaptiveAvgPool, too few axes": (
        "AdaptiveAvgPool",
        (f32(3, 4),),
        {},
        "expected an input of shape (..., at least 2, at least 1, channels); found (3, 4)",
    ),
    "AdaptiveMaxPool, too small": (
        "AdaptiveMaxPool",
        (f32(1, 4),),
        {},
        "expected an input of shape (..., at least 2, channels); found (1, 4)",
    ),
    "AdaptiveAvgPool, integers": (
        "AdaptiveAvgPool",
        (i32(4, 4, 1),),
        {},
        'x: expected dtype Float of Float[Array, "... channels"], found int32',
    ),
    "AvgPool, integers": (
        "AvgPool",
        (i32(4, 1),),
        {},
        'x: expected dtype Float of Float[Array, "... channels"], found int32',
    ),
    "MaxPool, booleans": (
        "MaxPool",
        (boolean(4, 4, 1),),
        {},
        'x: expected dtype Num of Num[Array, "... channels"], found bool',
    ),
    "MinPool, booleans": (
        "MinPool",
        (boolean(4, 4, 1),),
        {},
        'x: expected dtype Num of Num[Array, "... channels"], found bool',
    ),
    "MaxPool, too few axes": ("MaxPool", (f32(4, 4),), {}, f"{TWO_AXES} (4, 4)"),
    "BatchNorm": (
        "BatchNorm",
        (f32(3, 5),),
        {},
        'x: expected width = 4 of Float[Array, "*batch width"], found shape (3, 5)',
    ),
    "BatchNorm's mask": (
        "BatchNorm",
        (f32(3, 4),),
        {"mask": boolean(3, 1)},
        'mask: expected *batch = (3,) of Bool[Array, "*batch"], found shape (3, 1)',
    ),
    "BatchNorm's mask of numbers": (
        "BatchNorm",
        (f32(3, 4),),
        {"mask": f32(3)},
        'mask: expected dtype Bool of Bool[Array, "*batch"], found float32',
    ),
    "BatchNorm, an empty batch": (
        "BatchNorm",
        (f32(0, 4),),
        {},
        "an empty batch has no mean; found an input of shape (0, 4)",
    ),
    "Bilinear": (
        "Bilinear",
        (f32(5, 2), f32(4, 3)),
        {},
        'right: expected *batch = (5,) of Float[Array, "*batch right_size"], found shape (4, 3)',
    ),
    "Conv, channels first": (
        "Conv",
        (f32(2, 4, 5, 5),),
        {},
        'x: expected in_size = 4 of Float[Array, "... in_size"], found shape (2, 4, 5, 5)',
    ),
    "Conv, too few axes": ("Conv", (f32(5, 4),), {}, f"{TWO_AXES} (5, 4)"),
    "Conv, integers": (
        "Conv",
        (i32(5, 5, 4),),
        {},
        'x: expected dtype Float of Float[Array, "... in_size"], found int32',
    ),
    "GatedMLP": ("GatedMLP", (f32(5, 3),), {}, f"x: expected width = 4 of {WIDTH}, found shape (5, 3)"),
    "MixtureOfExperts": (
        "MixtureOfExperts",
        (f32(5, 3),),
        {},
        f"x: expected width = 4 of {WIDTH}, found shape (5, 3)",
    ),
    "Mamba2": ("Mamba2", (f32(2, 5, 3),), {}, f"x: expected width = 4 of {TIME}, found shape (2, 5, 3)"),
    "Mamba2, no time": ("Mamba2", (f32(4),), {}, f"x: expected rank at least 2 of {TIME}, found shape (4,)"),
    "LRU": ("LRU", (f32(2, 5, 4),), {}, f"x: expected width = 3 of {TIME}, found shape (2, 5, 4)"),
    "RGLRU": ("RGLRU", (f32(5, 3),), {}, f"x: expected width = 4 of {TIME}, found shape (5, 3)"),
    "ConvTranspose": (
        "ConvTranspose",
        (f32(5, 3),),
        {},
        'x: expected in_size = 4 of Float[Array, "... in_size"], found shape (5, 3)',
    ),
    "ConvTranspose, too few axes": (
        "ConvTranspose",
        (f32(4),),
        {},
        "expected an input of shape (..., spatial, channels); found (4,)",
    ),
    "Einsum": (
        "Einsum",
        (f32(5, 3),),
        {},
        "expected an input that fits '...i,ihd->...hd' with a weight of shape (4, 2, 3); found (5, 3)",
    ),
    "Embedding, one-hot": (
        "Embedding",
        (f32(3, 5),),
        {},
        'tokens: expected dtype Integer of Integer[Array, "*batch"], found float32',
    ),
    "GRUCell": (
        "GRUCell",
        (f32(2, 5), f32(2, 3)),
        {},
        f"carry: expected hidden_size = 4 of {CELL}, found shape (2, 5)",
    ),
    "GRUCell, another batch": (
        "GRUCell",
        (f32(2, 4), f32(3)),
        {},
        'x: expected *batch = (2,) of Float[Array, "*batch in_size"], found shape (3,)',
    ),
    "LSTMCell": (
        "LSTMCell",
        ((f32(2, 4), f32(2, 5)), f32(2, 3)),
        {},
        f"output: expected hidden_size = 4 of {CELL}, found shape (2, 5)",
    ),
    "LSTMCell, one array of two rows": (
        "LSTMCell",
        (f32(2, 4), f32(3)),
        {},
        "carry: expected a pair of memory and output; found a {array}",
    ),
    "RNNCell": (
        "RNNCell",
        (f32(4), f32(4)),
        {},
        'x: expected in_size = 3 of Float[Array, "*batch in_size"], found shape (4,)',
    ),
    "RNN, no time": ("RNN", (f32(3),), {}, "x: expected shape (..., time, features); found (3,)"),
    "GroupNorm": ("GroupNorm", (f32(3, 5),), {}, f"x: expected width = 4 of {WIDTH}, found shape (3, 5)"),
    "GroupNorm, the batch alone": (
        "GroupNorm",
        (f32(4),),
        {},
        "x: expected more axes than the 1 of the batch; found shape (4,)",
    ),
    "LayerNorm": ("LayerNorm", (f32(3, 5),), {}, f"x: expected width = 4 of {WIDTH}, found shape (3, 5)"),
    "LayerNorm, integers": ("LayerNorm", (i32(4),), {}, f"x: expected dtype Float of {WIDTH}, found int32"),
    "RMSNorm": ("RMSNorm", (f32(3, 5),), {}, f"x: expected width = 4 of {WIDTH}, found shape (3, 5)"),
    **{
        name: (name, (f32(4, 2),), {}, "expected an input of shape (..., in_size[-1]=3); found (4, 2)")
        for name in ("Linear", "LoRALinear", "SpectralNormLinear", "WeightNormLinear")
    },
    "attention": (
        "MultiHeadAttention",
        (f32(3, 7), f32(3, 5)),
        {},
        'x: expected width = 8 of Float[Array, "*batch time width"], found shape (3, 7)',
    ),
    "attention's context": (
        "MultiHeadAttention",
        (f32(2, 3, 8), f32(2, 3, 8)),
        {},
        'context: expected context_size = 5 of Float[Array, "*batch context context_size"], found shape (2, 3, 8)',
    ),
    "attention's batch": (
        "MultiHeadAttention",
        (f32(2, 3, 8), f32(3, 5)),
        {},
        'context: expected *batch = (2,) of Float[Array, "*batch context context_size"], found shape (3, 5)',
    ),
    "attention's mask": (
        "MultiHeadAttention",
        (f32(2, 3, 8), f32(2, 7, 5)),
        {"mask": boolean(3, 7)},
        "mask: expected bool of shape (2, 4, 3, 7), where any axis may have size 1; found bool of shape (3, 7)",
    ),
    "attention's mask of numbers": (
        "MultiHeadAttention",
        (f32(2, 3, 8), f32(2, 7, 5)),
        {"mask": f32(1, 1, 3, 7)},
        "mask: expected bool of shape (2, 4, 3, 7), where any axis may have size 1; found float32 of shape "
        "(1, 1, 3, 7)",
    ),
}


class Holder(gn.Node):
    """Layers where models have them: in a nested list."""

    layers: list[list[gn.Node]]

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.apply(self.layers[0][1], *inputs, **options)

    def apply(self, layer: Any, *inputs: Any, **options: Any) -> Any:
        return layer(*inputs, **options)


def called(layer: Any, *inputs: Any, **options: Any) -> Any:
    return layer(*inputs, **options)


@pytest.mark.no_runtime_types
@pytest.mark.parametrize(("name", "inputs", "options", "text"), INPUTS.values(), ids=INPUTS)
def test_bad_inputs_are_refused(name: str, inputs: tuple[Any, ...], options: dict[str, Any], text: str):
    """Alone by the class, in a model by the path; nothing is written."""
    layer = abstract(name)
    found = message(gn.eval_shape, called, layer, *inputs, **options)
    text = text.replace("{array}", found.rpartition(" ")[2])  # JAX's class of arrays while it traces
    assert found == f"{name}: {text}"
    before = [state._value for state in gn.states(layer).values()]
    found = message(gn.eval_shape, called, Holder([[make("Dropout"), layer]]), *inputs, **options)
    assert found == f"Holder.layers.0.1 ({name}): {text}"
    assert all(state._value is value for state, value in zip(gn.states(layer).values(), before, strict=True))


def test_every_fault_of_a_call_is_told():
    """Not only the first."""
    layer = abstract("Bilinear")
    assert message(gn.eval_shape, called, layer, f32(5, 3), f32(5, 2)) == (
        "2 faults:\n"
        '  Bilinear: left: expected left_size = 2 of Float[Array, "*batch left_size"], found shape (5, 3)\n'
        '  Bilinear: right: expected right_size = 3 of Float[Array, "*batch right_size"], found shape (5, 2)'
    )


def test_what_attends_to_itself_alone_takes_no_context():
    """Neither causal attention, nor with rotary positions, nor with a cache."""
    x = f32(2, 3, 8)
    for options in ({"is_causal": True}, {"rotary_base": 10.0}):
        layer = abstract("MultiHeadAttention", context_size=8, **options)
        reason = "which is causal or has rotary positions"
        assert message(gn.eval_shape, called, layer, x, x) == (
            f"MultiHeadAttention: expected no context in attention {reason}; found (2, 3, 8)"
        )
    layer = make("MultiHeadAttention", context_size=8)
    layer.init_cache(2, 3)
    assert message(gn.eval_shape, called, layer, x, x) == (
        "MultiHeadAttention: expected no context in attention which has a cache; found (2, 3, 8)"
    )


def test_attend_takes_features():
    """The way back of an embedding, by its path."""
    assert message(gn.eval_shape, lambda layer, x: layer.attend(x), abstract("Embedding"), f32(3, 5)) == (
        'Embedding: x: expected width = 4 of Float[Array, "*batch width"], found shape (3, 5)'
    )


@pytest.mark.wrong_types
def test_what_is_no_array_is_refused():
    """A list or nothing: told by the name of its class."""
    expected = 'x: expected Float[Array, "... in_size"], found'
    conv, linear = make("Conv"), make("Linear")
    assert message(conv, [[1.0]]) == f"Conv: {expected} a list"
    assert message(conv, None) == f"Conv: {expected} None"
    assert message(linear, [1.0]) == "Linear: expected an input of shape (..., in_size[-1]=3); found a list"
    assert message(linear, None) == "Linear: expected an input of shape (..., in_size[-1]=3); found a NoneType"


class Classifier(gn.Node):
    head: nn.Linear
    norms: dict[str, nn.LayerNorm]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.norms["first"](x))


TEXT = f"Classifier.norms.first (LayerNorm): x: expected width = 4 of {WIDTH}, found shape (2, 5)"
HEAD = "Classifier.head (Linear): expected an input of shape (..., in_size[-1]=3); found (2, 4)"


def classifier() -> Classifier:
    return Classifier(make("Linear"), {"first": make("LayerNorm")})


WAYS: dict[str, Callable[[Classifier, jax.Array], Any]] = {
    "a call": lambda model, x: model(x),
    "gn.jit": lambda model, x: gn.jit(lambda model, x: model(x))(model, x),
    "jax.jit of a lambda": lambda model, x: jax.jit(lambda x: model(x))(x),
    "gn.grad": lambda model, x: gn.grad(lambda model, x: model(x).sum())(model, x),
    "split and merge": lambda model, x: gn.treefy_merge(*gn.treefy_split(model))(x),
    "jax.vmap": lambda model, x: jax.vmap(model)(x[None]),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_refused_input_is_told_with_the_path_of_the_layer(way: Callable[[Classifier, jax.Array], Any]):
    """However the model is called."""
    model = classifier()
    assert message(way, model, jnp.ones((2, 5))) == TEXT
    assert message(way, model, jnp.ones((2, 4))) == HEAD


def test_the_path_is_that_in_the_outermost_node():
    """Not that in the node next to it, and for a layer that is shared, the first of its paths."""

    class Outer(gn.Node):
        inner: list[Classifier]

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.inner[1](x)

    first, second = classifier(), classifier()
    assert message(Outer([first, second]), jnp.ones((2, 4))) == HEAD.replace("Classifier.", "Outer.inner.1.")
    assert message(Outer([second, second]), jnp.ones((2, 4))) == HEAD.replace("Classifier.", "Outer.inner.0.")


def test_parts_of_composites_are_told_with_their_path():
    """An MLP, a block and a sequence check what they pass on by their parts."""
    assert message(gn.eval_shape, called, abstract("MLP"), f32(5, 3)) == (
        'MLP: x: expected in_size = 2 of Float[Array, "... in_size"], found shape (5, 3)'
    )
    assert message(gn.eval_shape, called, abstract("TransformerBlock"), f32(3, 5)) == (
        f"TransformerBlock.attention_norm (LayerNorm): x: expected width = 4 of {WIDTH}, found shape (3, 5)"
    )
    block = abstract("TransformerBlock")
    assert message(gn.eval_shape, lambda block, x: block(x, mask=jnp.ones((3, 3), bool)), block, f32(2, 3, 4)) == (
        "TransformerBlock.attention (MultiHeadAttention): mask: expected bool of shape (2, 2, 3, 3), where any axis "
        "may have size 1; found bool of shape (3, 3)"
    )


def test_a_cell_is_told_with_its_place_in_the_rnn():
    """Which is what calls it, as it runs in a scan; also a carry of another shape."""
    layer = abstract("RNN")
    assert message(gn.eval_shape, called, layer, f32(2, 5, 4)) == (
        'RNN.cell (RNNCell): x: expected in_size = 3 of Float[Array, "*batch in_size"], found shape (2, 4)'
    )
    assert message(gn.eval_shape, lambda rnn, x, h: rnn.run(x, h), layer, f32(5, 3), f32(5)) == (
        f"RNN.cell (RNNCell): carry: expected hidden_size = 4 of {CELL}, found shape (5,)"
    )


@pytest.mark.no_runtime_types
def test_nothing_is_written_by_a_refused_call():
    """Neither running averages nor a cache, also when another array of the same call was right."""
    norm = make("BatchNorm")
    attention = make("MultiHeadAttention", context_size=8)
    attention.init_cache(2, 3)
    before = [state.value for layer in (norm, attention) for state in gn.states(layer).values()]
    message(norm, numbers(3, 4), mask=jnp.ones((4,), bool))
    message(attention, numbers(2, 2, 7))
    message(attention, numbers(3, 2, 8))
    message(attention, numbers(2, 4, 8))
    message(attention.cache.append, jnp.ones((2, 1, 2, 2)), jnp.ones((2, 2, 2, 2)))
    after = [state.value for layer in (norm, attention) for state in gn.states(layer).values()]
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_a_refused_mask_with_a_cache_writes_nothing():
    """Keys and values of a call that is refused are not kept."""
    attention = make("MultiHeadAttention", context_size=8)
    cache = attention.init_cache(2, 3)
    message(attention, numbers(2, 1, 8), mask=jnp.ones((2, 1, 1, 2), bool))
    assert int(cache.position.value) == 0


def test_every_layer_that_takes_arrays_is_in_the_table():
    """Other than those that take any array, the composites, whose parts are told, and those with tests of their own."""
    layers = {name for name, _, _, _ in INPUTS.values()}
    composites = {"Activation", "Bidirectional", "Dropout", "Identity", "MLP", "Sequential", "TransformerBlock"}
    composites |= {"EncoderDecoder", "TransformerStack"}
    others = {"ExponentialSynapse", "LIF", "Mamba2Cache"}
    assert set(CASES) - layers - CACHES - PARTS == composites | others


# Stacked layers

REMEDY = "Call it under gn.vmap or gn.scan, or take the axis away: gn.unstack, gn.unbroadcast_states"
ONES: dict[str, tuple[Any, ...]] = {
    **{name: tuple(map(jnp.ones, case.inputs)) for name, case in CASES.items() if case.states and case.inputs},
    "Embedding": (jnp.zeros(3, jnp.int32),),
    "LSTMCell": ((jnp.ones((2, 4)), jnp.ones((2, 4))), jnp.ones((2, 3))),
}


def test_all_layers_with_states_are_there():
    """A cache is not called; see below."""
    assert set(ONES) == {name for name, case in CASES.items() if case.states} - CACHES - PARTS - {"Mamba2Cache"}


@pytest.mark.parametrize("name", ONES)
def test_a_stacked_layer_that_is_called_by_itself_is_refused(name: str):
    """Whatever the sizes are, JAX would broadcast the parameters of all layers over the input, or fail at it."""
    text = message(gn.stack([make(name), make(name)]), *ONES[name])
    assert " is stacked: " in text
    assert text.endswith(f". {REMEDY}")


@pytest.mark.parametrize("name", ONES)
def test_a_stacked_layer_is_called_under_vmap_and_scan(name: str):
    """There each layer has the axes that its fields declare, and so has each that was taken out."""
    stacked = gn.stack([make(name), make(name)])

    def mapped(stacked: Any) -> Any:
        return gn.vmap(lambda layer: layer(*ONES[name]))(stacked)

    def scanned(stacked: Any) -> Any:
        return gn.scan(lambda carry, layer: (carry, layer(*ONES[name])), 0, stacked)[1]

    alone = shapes(gn.eval_shape(called, gn.unstack(stacked)[1], *ONES[name]))
    expected = [(2, *shape) for shape in alone]
    assert shapes(gn.eval_shape(mapped, stacked)) == shapes(gn.eval_shape(scanned, stacked)) == expected


def shapes(tree: Any) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(tree)]


def test_a_stacked_layer_is_named_with_its_field():
    """The place, the shape that is there and what was declared."""
    square = gn.stack([nn.Linear(3, 3) for _ in range(3)])
    assert message(square, jnp.ones((3, 3))) == (
        "Linear is stacked: weight has the shape (3, 3, 3), and is declared "
        f'Inexact[Array, "in_features out_features"]. {REMEDY}'
    )
    model = nn.Sequential([nn.Linear(2, 3), gn.stack([nn.LayerNorm(3), nn.LayerNorm(3)])])
    assert message(model, jnp.ones((5, 2))) == (
        "Sequential.layers.1 (LayerNorm) is stacked: scale has the shape (2, 3), and is declared "
        f'Float[Array, "*width"]. {REMEDY}'
    )
    convs = gn.stack([nn.Conv(2, 3, (3, 3)), nn.Conv(2, 3, (3, 3))])
    assert message(convs, jnp.ones((1, 4, 4, 2))).startswith(
        'Conv is stacked: weight has the shape (2, 3, 3, 2, 3), and is declared Float[Array, "*kernel_size '
    )
    caches = gn.stack([make("KeyValueCache"), make("KeyValueCache")])
    assert message(caches.append, jnp.ones((1, 1, 2, 4)), jnp.ones((1, 1, 2, 4))).startswith(
        "KeyValueCache is stacked: keys has the shape (2, 1, 3, 2, 4), "
    )


def test_a_layer_with_one_stacked_state_is_refused():
    """Also if its first one is not."""
    norm = nn.BatchNorm(3)
    gn.broadcast_states(norm, gn.BatchState, 2)
    assert message(norm, jnp.ones((5, 3))).startswith("BatchNorm is stacked: mean has the shape (2, 3), ")


def test_fields_that_a_class_of_layers_adds_are_none_of_the_layers():
    """A list of States, and one that holds nothing, are passed over."""

    class Adapted(nn.Linear):
        more: list[gn.ParamState[Float[Array, "in_features"]]] = gn.state(default_factory=list, kw_only=True)

    assert Adapted(2, 3, use_bias=False)(jnp.ones((5, 2))).shape == (5, 3)
