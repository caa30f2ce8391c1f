"""A small one of every layer: what it is made with, what it is called with, and what comes out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import graphnode as gn
from graphnode import nn
from tests.nn.peers import drawn

ABSTRACT = {"Cell", "Layer", "Module", "RotaryScaling", "ScoreBias"}
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


CASES: dict[str, Case] = {
    "ALiBi": Case({"num_heads": 2}, (), (), dtypes=()),
    "Activation": Case({"function": jax.nn.relu}, ((3, 4),), (3, 4), dtypes=()),
    "AdaptiveAvgPool": Case({"out_size": (2, 1)}, ((3, 2, 4),), (2, 1, 4), dtypes=()),
    "AdaptiveMaxPool": Case({"out_size": 2}, ((3, 4),), (2, 4), dtypes=()),
    "AvgPool": Case({"window": 2, "padding": 1}, ((3, 4),), (4, 4), {}, {"count_include_pad": False}, dtypes=()),
    "BatchNorm": Case(
        {"width": 4}, ((3, 4),), (3, 4),
        {"bias": (4,), "mean": (4,), "scale": (4,), "var": (4,)}, {"use_scale": False, "momentum": 0.5},
    ),
    "Bilinear": Case(
        {"left_size": 2, "right_size": 3, "out_size": 4}, ((5, 2), (5, 3)), (5, 4),
        {"bias": (4,), "weight": (2, 3, 4)}, {"use_bias": False},
    ),
    "ContextCache": Case(
        {"batch_size": 1, "length": 3, "num_heads": 2, "head_size": 4}, (), (),
        {"keys": (1, 3, 2, 4), "lengths": (1,), "values": (1, 3, 2, 4)}, {"dtype": jnp.bfloat16, "value_head_size": 3},
        dtypes=(),
    ),
    "Conv": Case(
        {"in_size": 4, "out_size": 6, "kernel_size": (3, 2), "groups": 2, "padding": "VALID"}, ((2, 5, 5, 4),),
        (2, 3, 4, 6), {"bias": (6,), "weight": (3, 2, 2, 6)},
        {"use_bias": False, "strides": 2, "padding": ((0, 1), (2, 0))},
    ),
    "ConvTranspose": Case(
        {"in_size": 4, "out_size": 6, "kernel_size": 3, "strides": 2, "transpose_kernel": True}, ((2, 5, 4),),
        (2, 10, 6), {"bias": (6,), "weight": (3, 6, 4)}, {"use_bias": False, "padding": "VALID"},
    ),
    "Dropout": Case({"rate": 0.5, "rngs": None, "deterministic": True}, ((3, 4),), (3, 4), dtypes=()),
    "Einsum": Case(
        {"equation": "...i,ihd->...hd", "shape": (4, 2, 3), "bias_shape": (2, 3)}, ((5, 4),), (5, 2, 3),
        {"bias": (2, 3), "weight": (4, 2, 3)}, {"bias_shape": None},
    ),
    "Embedding": Case({"num_embeddings": 5, "width": 4}, ((3,),), (3, 4), {"weight": (5, 4)}),
    "ExponentialSynapse": Case(
        {"n_before": 3, "n_after": 4}, ((3,),), (4,), {"current": (4,), "weight": (3, 4)}, {"tau": 2.0}, dtypes=(),
    ),
    "GRUCell": Case(
        {"in_size": 3, "hidden_size": 4}, ((2, 4), (2, 3)), ((2, 4), (2, 4)),
        {"bias": (12,), "candidate_bias": (4,), "recurrent": (4, 12), "weight": (3, 12)},
    ),
    "GroupNorm": Case(
        {"width": 4, "num_groups": 2}, ((3, 5, 4),), (3, 5, 4), {"bias": (4,), "scale": (4,)}, {"use_bias": False},
    ),
    "KeyValueCache": Case(
        {"batch_size": 1, "length": 3, "num_heads": 2, "head_size": 4}, (), (),
        {"keys": (1, 3, 2, 4), "position": (), "values": (1, 3, 2, 4)},
        {"dtype": jnp.bfloat16, "value_head_size": 3, "ragged": True}, dtypes=(),
    ),
    "LIF": Case(
        {"size": 3}, ((3,),), (3,), dict.fromkeys(("refractory", "spikes", "voltage"), (3,)), {"dt": 0.5}, dtypes=(),
    ),
    "LSTMCell": Case(
        {"in_size": 3, "hidden_size": 4}, (), (), {"bias": (16,), "recurrent": (4, 16), "weight": (3, 16)},
    ),
    "LayerNorm": Case(
        {"width": 4}, ((3, 4),), (3, 4), {"bias": (4,), "scale": (4,)}, {"use_scale": False, "use_bias": False},
    ),
    "LinearScaling": Case({"factor": 2.0}, (), (), dtypes=()),
    "Llama3Scaling": Case({"factor": 8.0}, (), (), {}, {"original_length": 64, "high_freq_factor": 8.0}, dtypes=()),
    "Linear": Case({"in_size": 3, "out_size": 4}, ((2, 3),), (2, 4), linear("", 3, 4), {"use_bias": False}),
    "MLP": Case(
        {"in_size": 2, "hidden_size": 3, "out_size": 4, "depth": 2}, ((5, 2),), (5, 4),
        {**linear("layers.0.", 2, 3), **linear("layers.1.", 3, 3), **linear("layers.2.", 3, 4)},
        {"use_bias": False, "act": jax.nn.gelu},
    ),
    "MaxPool": Case({"window": (2, 2), "strides": 2}, ((4, 4, 3),), (2, 2, 3), {}, {"padding": "SAME"}, dtypes=()),
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
    "RMSNorm": Case({"width": 4}, ((3, 4),), (3, 4), {"scale": (4,)}, {"use_scale": False}),
    "RNN": Case(
        {"cell": Made("RNNCell", {"in_size": 3, "hidden_size": 4})}, ((2, 5, 3),), (2, 5, 4),
        {"cell.bias": (4,), "cell.recurrent": (4, 4), "cell.weight": (3, 4)}, {"reverse": True}, dtypes=(),
    ),
    "RNNCell": Case(
        {"in_size": 3, "hidden_size": 4}, ((2, 4), (2, 3)), ((2, 4), (2, 4)),
        {"bias": (4,), "recurrent": (4, 4), "weight": (3, 4)}, {"act": jax.nn.relu},
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
    "TransformerBlock": Case(
        {"width": 4, "num_heads": 2, "hidden_size": 6}, ((2, 3, 4),), (2, 3, 4),
        {
            **{f"{norm}.{name}": (4,) for norm in ("attention_norm", "mlp_norm") for name in ("bias", "scale")},
            **{
                name: shape
                for part in ("key", "out", "query", "value")
                for name, shape in linear(f"attention.{part}.", 4, 4).items()
            },
            **linear("mlp.layers.0.", 4, 6), **linear("mlp.layers.1.", 6, 4),
        },
        {
            "use_bias": False, "is_causal": True, "rotary_base": 100.0, "norm": "RMSNorm", "num_kv_heads": 1,
            "act": jax.nn.silu,
        },
    ),
    "YarnScaling": Case(
        {"factor": 2.0, "original_length": 64}, (), (), {}, {"attention_factor": 1.5, "beta_fast": 16.0}, dtypes=(),
    ),
}  # fmt: skip
WITH_PARAMETERS = [name for name, case in CASES.items() if "param_dtype" in case.dtypes]
INITIALISERS = ("w_init", "recurrent_init", "b_init")


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
    return _new(value.name, value.arguments)


def _configured(value: Any) -> Any:
    if isinstance(value, list):
        return [_configured(item) for item in value]
    if not isinstance(value, Made):
        return value
    of: Any = gn.config.config_of(getattr(nn, value.name))
    return of(**value.arguments)
