"""A small one of every layer: what it is made with, what it is called with, and what comes out."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import graphnode as gn
from graphnode import nn
from tests.nn.peers import drawn

ABSTRACT = {"Attention", "Block", "Cell", "Decoder", "Layer", "Module", "RotaryScaling", "ScoreBias"}
RECORDS = {"Generated", "LoRAState", "Routing"}  # what layers give beside arrays; a class of States
# What layers are made with, which are no layers themselves.
PARTS = {"ALiBi", "LinearScaling", "Llama3Scaling", "RelativePositionBias", "Rotary", "YarnScaling"}
CACHES = {"ContextCache", "KeyValueCache", "RollingCache"}
F32 = jnp.dtype("float32")


class Case(NamedTuple):
    """One layer."""

    arguments: dict[str, Any]
    """What its constructor takes."""
    inputs: tuple[tuple[int, ...], ...]
    """Shapes of what a call takes."""
    output: Any
    """Shape of what it gives."""
    states: dict[str, tuple[int, ...]] = {}
    """Shapes of its States, by path."""
    options: dict[str, Any] = {}
    """Further options that a configuration may have: init variables, which the node does not keep."""
    dtypes: tuple[str, ...] = ("dtype", "param_dtype")
    """Which of both it has."""


class Made(NamedTuple):
    """A layer inside another one: a node, or its config."""

    name: str
    arguments: dict[str, Any]


def linear(path: str, in_size: int, out_size: int) -> dict[str, tuple[int, ...]]:
    return {f"{path}bias": (out_size,), f"{path}weight": (in_size, out_size)}


def norm(path: str) -> dict[str, tuple[int, ...]]:
    return {f"{path}bias": (4,), f"{path}scale": (4,)}


def block(path: str, *attention: str) -> dict[str, tuple[int, ...]]:
    """The States of a small block with these attentions."""
    shapes = {
        **norm(f"{path}mlp_norm."),
        **linear(f"{path}mlp.layers.0.", 4, 6),
        **linear(f"{path}mlp.layers.1.", 6, 4),
    }
    for part in attention or ("attention",):
        shapes |= norm(f"{path}{part}_norm.")
        for name in ("key", "out", "query", "value"):
            shapes |= linear(f"{path}{part}.{name}.", 4, 4)
    return shapes


BLOCK = Made("TransformerBlock", {"width": 4, "num_heads": 2, "hidden_size": 6})
CROSS_BLOCK = Made(
    "TransformerBlock",
    {**BLOCK.arguments, "cross_attention": Made("MultiHeadAttention", {"width": 4, "num_heads": 2})},
)

CASES: dict[str, Case] = {
    "ALiBi": Case({"num_heads": 2}, (), (), dtypes=()),
    "Activation": Case({"function": jax.nn.relu}, ((3, 4),), (3, 4), dtypes=()),
    "AdaptiveAvgPool": Case({"out_size": (2, 1)}, ((3, 2, 4),), (2, 1, 4), dtypes=()),
    "AdaptiveMaxPool": Case({"out_size": 2}, ((3, 4),), (2, 4), {}, {"overlap": True}, dtypes=()),
    "AvgPool": Case({"window": 2, "padding": 1}, ((3, 4),), (4, 4), {}, {"count_include_pad": False}, dtypes=()),
    "BatchNorm": Case(
        {"width": 4}, ((3, 4),), (3, 4),
        {"bias": (4,), "mean": (4,), "scale": (4,), "var": (4,)}, {"use_scale": False, "momentum": 0.5, "axis": 1},
    ),
    "Bidirectional": Case(
        {
            "forward_rnn": Made("RNN", {"cell": Made("RNNCell", {"in_size": 3, "hidden_size": 4})}),
            "backward_rnn": Made("RNN", {"cell": Made("RNNCell", {"in_size": 3, "hidden_size": 4})}),
        },
        ((2, 5, 3),), (2, 5, 8),
        {
            f"{side}_rnn.cell.{name}": shape
            for side in ("backward", "forward")
            for name, shape in (("bias", (4,)), ("recurrent", (4, 4)), ("weight", (3, 4)))
        },
        {"time_major": True}, dtypes=(),
    ),
    "Bilinear": Case(
        {"left_size": 2, "right_size": 3, "out_size": 4}, ((5, 2), (5, 3)), (5, 4),
        {"bias": (4,), "weight": (2, 3, 4)}, {"use_bias": False, "precision": ("high", "default")},
    ),
    "ContextCache": Case(
        {"batch_size": 1, "length": 3, "num_heads": 2, "head_size": 4}, (), (),
        {"keys": (1, 3, 2, 4), "lengths": (1,), "values": (1, 3, 2, 4)}, {"dtype": jnp.bfloat16, "value_head_size": 3},
        dtypes=(),
    ),
    "Conv": Case(
        {"in_size": 4, "out_size": 6, "kernel_size": (3, 2), "groups": 2, "padding": "VALID"}, ((2, 5, 5, 4),),
        (2, 3, 4, 6), {"bias": (6,), "weight": (3, 2, 2, 6)},
        {
            "use_bias": False, "strides": 2, "padding": ((0, 1), (2, 0)), "input_dilation": (1, 2),
            "mask": jnp.ones((3, 2, 2, 6)), "precision": "high", "preferred_element_type": jnp.float32,
        },
    ),
    "ConvTranspose": Case(
        {"in_size": 4, "out_size": 6, "kernel_size": 3, "strides": 2, "transpose_kernel": True}, ((2, 5, 4),),
        (2, 10, 6), {"bias": (6,), "weight": (3, 6, 4)}, {
            "use_bias": False, "padding": "CIRCULAR", "groups": 2, "output_padding": 1, "mask": jnp.ones((3, 6, 4)),
            "precision": ("high", "highest"), "preferred_element_type": jnp.float32,
        },
    ),
    "Dropout": Case({"rate": 0.5, "rngs": None, "deterministic": True}, ((3, 4),), (3, 4), dtypes=()),
    "Einsum": Case(
        {"equation": "...i,ihd->...hd", "shape": (4, 2, 3), "bias_shape": (2, 3)}, ((5, 4),), (5, 2, 3),
        {"bias": (2, 3), "weight": (4, 2, 3)}, {
            "bias_shape": None, "equation": "...i,i...->...", "precision": "BF16_BF16_F32",
            "preferred_element_type": jnp.float32,
        },
    ),
    "EncoderDecoder": Case(
        {
            "encoder": Made("TransformerStack", {"blocks": [BLOCK]}),
            "decoder": Made("TransformerStack", {"blocks": [CROSS_BLOCK], "norm": Made("LayerNorm", {"width": 4})}),
        },
        ((2, 5, 4), (2, 3, 4)), (2, 3, 4),
        {
            **block("encoder.blocks.0."), **block("decoder.blocks.0.", "attention", "cross_attention"),
            **norm("decoder.norm."),
        },
        dtypes=(),
    ),
    "Embedding": Case({"num_embeddings": 5, "width": 4}, ((3,),), (3, 4), {"weight": (5, 4)}, {"precision": "highest"}),
    "ExponentialSynapse": Case(
        {"n_before": 3, "n_after": 4}, ((3,),), (4,), {"current": (4,), "weight": (3, 4)}, {"tau": 2.0}, dtypes=(),
    ),
    "GRUCell": Case(
        {"in_size": 3, "hidden_size": 4}, ((2, 4), (2, 3)), ((2, 4), (2, 4)),
        {"bias": (12,), "candidate_bias": (4,), "recurrent": (4, 12), "weight": (3, 12)}, {"use_bias": False},
    ),
    "GatedMLP": Case(
        {"width": 4, "hidden_size": 6, "out_size": 3}, ((5, 4),), (5, 3),
        {"down.weight": (6, 3), "gate.weight": (4, 6), "up.weight": (4, 6)},
        {"use_bias": True, "act": jax.nn.gelu, "out_size": 4},
    ),
    "GroupNorm": Case(
        {"width": 4, "num_groups": 2}, ((3, 5, 4),), (3, 5, 4), {"bias": (4,), "scale": (4,)},
        {"use_bias": False},
    ),
    "Identity": Case({}, ((3, 4),), (3, 4), dtypes=()),
    "InstanceNorm": Case({"width": 4}, ((3, 5, 4),), (3, 5, 4), {"bias": (4,), "scale": (4,)}, {"use_bias": False}),
    "KeyValueCache": Case(
        {"batch_size": 1, "length": 3, "num_heads": 2, "head_size": 4}, (), (),
        {"keys": (1, 3, 2, 4), "position": (), "values": (1, 3, 2, 4)},
        {"dtype": jnp.bfloat16, "value_head_size": 3, "ragged": True}, dtypes=(),
    ),
    "LIF": Case(
        {"size": 3}, ((3,),), (3,), dict.fromkeys(("refractory", "spikes", "voltage"), (3,)), {"dt": 0.5}, dtypes=(),
    ),
    "LRU": Case(
        {"width": 3, "state_size": 4}, ((2, 5, 3),), (2, 5, 3),
        {
            **dict.fromkeys(("gamma_log", "nu_log", "theta_log"), (4,)), "skip": (3,),
            **dict.fromkeys(("B_imag", "B_real"), (3, 4)), **dict.fromkeys(("C_imag", "C_real"), (4, 3)),
        },
    ),
    "LSTMCell": Case(
        {"in_size": 3, "hidden_size": 4}, (), (), {"bias": (16,), "recurrent": (4, 16), "weight": (3, 16)},
        {"gate_fn": jax.nn.hard_sigmoid, "carry_init": nn.initializers.Constant(0.5), "use_bias": False},
    ),
    "LayerNorm": Case(
        {"width": 4}, ((3, 4),), (3, 4), {"bias": (4,), "scale": (4,)},
        {"use_scale": False, "use_bias": False, "width": (3, 4), "reduction_axes": (0, -1), "axis_name": "devices"},
    ),
    "LinearScaling": Case({"factor": 2.0}, (), (), dtypes=()),
    "Llama3Scaling": Case({"factor": 8.0}, (), (), {}, {"original_length": 64, "high_freq_factor": 8.0}, dtypes=()),
    "Linear": Case(
        {"in_size": 3, "out_size": 4}, ((2, 3),), (2, 4), linear("", 3, 4),
        {"use_bias": False, "precision": "highest", "preferred_element_type": jnp.float32},
    ),
    "LoRALinear": Case(
        {"in_size": 3, "out_size": 4, "rank": 2, "alpha": 3.0}, ((2, 3),), (2, 4),
        {**linear("", 3, 4), "lora_a": (3, 2), "lora_b": (2, 4)},
        {"use_bias": False, "rank_stabilized": True, "lora_dtype": jnp.bfloat16, "precision": "highest"},
    ),
    "MLP": Case(
        {"in_size": 2, "hidden_size": 3, "out_size": 4, "depth": 2}, ((5, 2),), (5, 4),
        {**linear("layers.0.", 2, 3), **linear("layers.1.", 3, 3), **linear("layers.2.", 3, 4)},
        {"use_bias": False, "act": jax.nn.gelu, "final_act": jax.nn.tanh, "use_final_bias": True},
    ),
    "Mamba2": Case(
        {"width": 4, "head_size": 2, "state_size": 3, "num_groups": 2, "chunk_size": 2}, ((2, 5, 4),), (2, 5, 4),
        {
            **dict.fromkeys(("A_log", "dt_bias", "skip"), (4,)), "norm_scale": (8,),
            "conv_bias": (20,), "conv_weight": (4, 20), "in_proj.weight": (4, 32), "out_proj.weight": (8, 4),
        },
        {"use_bias": True, "use_conv_bias": False, "inner_size": 4, "kernel_size": 2, "epsilon": 1e-6},
    ),
    "Mamba2Cache": Case(
        {"batch_size": 1, "num_heads": 2, "head_size": 3, "state_size": 4, "window_size": 3, "channels": 5}, (), (),
        {"conv_state": (1, 3, 5), "ssm_state": (1, 2, 3, 4)}, {"dtype": jnp.bfloat16}, dtypes=(),
    ),
    "MaxPool": Case(
        {"window": (2, 2), "strides": 2}, ((4, 4, 3),), (2, 2, 3), {}, {"padding": "SAME", "use_ceil": True}, dtypes=(),
    ),
    "MinPool": Case({"window": 2, "padding": 1}, ((3, 4),), (4, 4), {}, {"padding": "SAME", "strides": 2}, dtypes=()),
    "MixtureOfExperts": Case(
        {"width": 4, "hidden_size": 6, "num_experts": 3}, ((2, 5, 4),), (2, 5, 4),
        {"down": (3, 6, 4), "gate": (3, 4, 6), "router": (4, 3), "up": (3, 4, 6)},
        {"use_gate": False, "top_k": 1, "normalize": False, "capacity_factor": 1.5, "act": jax.nn.gelu},
    ),
    "MultiHeadAttention": Case(
        {"width": 8, "num_heads": 4, "num_kv_heads": 2, "context_size": 5}, ((2, 3, 8), (2, 7, 5)), (2, 3, 8),
        {**linear("key.", 5, 4), **linear("out.", 8, 8), **linear("query.", 8, 8), **linear("value.", 5, 4)},
        {
            "use_bias": ("query", "value"), "context_size": 8, "is_causal": True, "rotary_base": 100.0, "head_size": 4,
            "value_head_size": 3, "out_size": 6, "window": (2, 0), "scale": 1.0, "soft_cap": 5.0, "normalize_qk": True,
            "rotary": Made("Rotary", {"base": 100.0}), "score_bias": Made("RelativePositionBias", {"num_heads": 4}),
            "dropout": Made("Dropout", {"rate": 0.5, "deterministic": True}),
            "query_norm": Made("LayerNorm", {"width": 2}), "key_norm": Made("RMSNorm", {"width": 4}),
        },
    ),
    "PReLU": Case({"width": 4}, ((3, 4),), (3, 4), {"negative_slope": (4,)}, {"width": None}),
    "RGLRU": Case(
        {"width": 4, "num_heads": 2}, ((2, 5, 4),), (2, 5, 4),
        {
            **dict.fromkeys(("decay_bias", "decay_log", "input_bias"), (4,)),
            **dict.fromkeys(("decay_weight", "input_weight"), (2, 2, 2)),
        },
    ),
    "RMSNorm": Case({"width": 4}, ((3, 4),), (3, 4), {"scale": (4,)}, {"use_scale": False, "feature_axes": 0}),
    "RNN": Case(
        {"cell": Made("RNNCell", {"in_size": 3, "hidden_size": 4})}, ((2, 5, 3),), (2, 5, 4),
        {"cell.bias": (4,), "cell.recurrent": (4, 4), "cell.weight": (3, 4)},
        {"reverse": True, "time_major": True, "unroll": 2}, dtypes=(),
    ),
    "RNNCell": Case(
        {"in_size": 3, "hidden_size": 4}, ((2, 4), (2, 3)), ((2, 4), (2, 4)),
        {"bias": (4,), "recurrent": (4, 4), "weight": (3, 4)}, {"act": jax.nn.relu, "use_bias": False},
    ),
    "RelativePositionBias": Case(
        {"num_heads": 2, "num_buckets": 8}, (), (), {"weight": (8, 2)},
        {"bidirectional": False, "max_distance": 20, "param_dtype": jnp.bfloat16}, dtypes=(),
    ),
    "RollingCache": Case(
        {"batch_size": 1, "length": 3, "num_heads": 2, "head_size": 4}, (), (),
        {"keys": (1, 3, 2, 4), "position": (), "values": (1, 3, 2, 4)},
        {"dtype": jnp.bfloat16, "value_head_size": 3, "ragged": True}, dtypes=(),
    ),
    "Rotary": Case(
        {"fraction": 0.5}, (), (), {},
        {"base": 100.0, "pairs": "neighbours", "scaling": Made("YarnScaling", {"factor": 2.0, "original_length": 64})},
        dtypes=(),
    ),
    "Sequential": Case(
        {"layers": [Made("Linear", {"in_size": 3, "out_size": 4}), Made("Activation", {"function": jax.nn.tanh})]},
        ((2, 3),), (2, 4), linear("layers.0.", 3, 4), dtypes=(),
    ),
    "SpectralNormLinear": Case(
        {"in_size": 3, "out_size": 4}, ((2, 3),), (2, 4), {**linear("", 3, 4), "u": (4,)},
        {"use_bias": False, "steps": 2, "deterministic": True},
    ),
    "TransformerBlock": Case(
        BLOCK.arguments, ((2, 3, 4),), (2, 3, 4), block(""),
        {
            "use_bias": False, "is_causal": True, "rotary_base": 100.0, "norm": "RMSNorm", "num_kv_heads": 1,
            "act": jax.nn.silu, "epsilon": 1e-5, "norm_position": "both", "parallel": True,
        },
    ),
    "TransformerStack": Case(
        {"blocks": [BLOCK, BLOCK], "norm": Made("RMSNorm", {"width": 4})}, ((2, 3, 4),), (2, 3, 4),
        {**block("blocks.0."), **block("blocks.1."), "norm.scale": (4,)}, {"remat": True}, dtypes=(),
    ),
    "WeightNormLinear": Case(
        {"in_size": 3, "out_size": 4}, ((2, 3),), (2, 4), {**linear("", 3, 4), "scale": (4,)}, {"use_bias": False},
    ),
    "YarnScaling": Case(
        {"factor": 2.0, "original_length": 64}, (), (), {}, {"attention_factor": 1.5, "beta_fast": 16.0}, dtypes=(),
    ),
}  # fmt: skip
# Their scans, sorts and chunks take seconds to compile.
LONG_TO_COMPILE = {"LRU", "Mamba2", "MixtureOfExperts", "RGLRU"}
WITH_PARAMETERS = [name for name, case in CASES.items() if "param_dtype" in case.dtypes]
INITIALISERS = ("w_init", "recurrent_init", "b_init")


def marked(cases: Iterable[str]) -> list[Any]:
    """For tests that compile a layer, perhaps in several ways: those that take long are marked as slow."""
    return [
        pytest.param(case, marks=pytest.mark.slow) if case.partition(",")[0] in LONG_TO_COMPILE else case
        for case in cases
    ]


def make(name: str, **options: Any) -> Any:
    """The layer, with initialisers that compile nothing unless others are given."""
    return _new(name, {key: _made(value) for key, value in {**CASES[name].arguments, **options}.items()})


def _new(name: str, arguments: dict[str, Any]) -> Any:
    cls: Any = getattr(nn, name)
    inits = dict.fromkeys(set(INITIALISERS) & set(cls.__init__.__annotations__), drawn)
    return cls(**{**inits, **arguments})


def abstract(name: str, **options: Any) -> Any:
    """The same, without an array."""
    return gn.eval_shape(lambda: make(name, **options))


def config(name: str, **options: Any) -> Any:
    """Its config."""
    of: Any = gn.config.config_of(getattr(nn, name))
    return of(**{key: _configured(value) for key, value in {**CASES[name].arguments, **options}.items()})


def arrays(layer: Any) -> dict[str, Any]:
    """The arrays of its States, by path."""
    return {gn.path_str(path): state.value for path, state in gn.states(layer).items()}


def inputs(name: str, dtype: Any = F32) -> list[jax.ShapeDtypeStruct]:
    """Abstract arrays to call it with."""
    kind = jnp.int32 if name == "Embedding" else dtype
    return [jax.ShapeDtypeStruct(shape, kind) for shape in CASES[name].inputs]


def called(layer: Any, *inputs: Any) -> Any:
    return layer(*inputs)


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(item) for item in value]
    if not isinstance(value, Made):
        return value
    return _new(value.name, {key: _made(argument) for key, argument in value.arguments.items()})


def _configured(value: Any) -> Any:
    if isinstance(value, list):
        return [_configured(item) for item in value]
    if not isinstance(value, Made):
        return value
    of: Any = gn.config.config_of(getattr(nn, value.name))
    return of(**{key: _configured(argument) for key, argument in value.arguments.items()})
