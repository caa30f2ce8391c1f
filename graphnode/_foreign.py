"""Names from other libraries, and what to write instead: names in modules, and methods of nodes.

They are not part of graphnode's interface: `dir` and type checkers do not see them,
`hasattr` is false, and a class may use each of them for a field, method or property of
its own.
"""

import opcode
import sys
from collections.abc import Collection, Mapping
from typing import Final

import jax

from ._hints import did_you_mean
from ._mistaken import Hint, NoPytree

_MOVE: Final = (
    "gn.update_states(model, jax.device_put(gn.treefy_states(model), device))"
)
_NODES: Final = "gn.nodes(model), by their paths"

METHODS: Final[Mapping[str, str]] = {
    "add_module": "declare a field",
    "apply": "call the node itself, model(...); gn.nodes(model) has the nodes in it",
    "bind": "a node holds its States: call it",
    "buffers": "gn.states(model, gn.BatchState)",
    "children": _NODES,
    "cpu": _MOVE,
    "cuda": _MOVE,
    "eval": "gn.view(model, deterministic=True)",
    "init": "a node has its States once it is made: call it",
    "iter_children": _NODES,
    "iter_modules": _NODES,
    "load_state_dict": "gn.update_states(model, ...)",
    "modules": _NODES,
    "named_buffers": "gn.states(model, gn.BatchState)",
    "named_children": _NODES,
    "named_modules": _NODES,
    "named_parameters": "gn.states(model, gn.ParamState)",
    "parameters": "gn.states(model, gn.ParamState)",
    "perturb": "gn.capture_grads(f, path), for gradients of f with respect to what a node gives",
    "register_buffer": "declare a field: name: gn.BatchState",
    "register_forward_hook": "gn.capture(f, path), to see what a node gives, or gn.intervene(f, {path: change})",
    "register_parameter": "declare a field: name: gn.ParamState",
    "requires_grad_": "gn.grad(..., wrt=filter)",
    "sow": "gn.capture(f, path), for what a node gives; or a field, name: gn.ShortTermState, whose value is written",
    "state_dict": "gn.treefy_states(model)",
    "to": _MOVE,
    "train": "gn.view(model, deterministic=False)",
    "zero_grad": "nothing keeps gradients: gn.grad returns new ones at each call",
}
"""Methods of PyTorch's and flax's modules."""

_OF_LOSS: Final = "write the loss with optax or jax.numpy"
_FIELDS: Final = "annotate the fields in the class: layers: list[gn.nn.Linear]"
_FIELDS_BY_KEY: Final = (
    "annotate the fields in the class: layers: dict[str, gn.nn.Linear]"
)
_RECURRENT: Final = "gn.nn.RNN(gn.nn.{}(...))"

MODULE_NAMES: Final[Mapping[str, str]] = {
    # flax.nnx
    "BatchStat": "gn.BatchState",
    "Cache": "gn.ShortTermState",
    "Carry": "gn.HiddenState",
    "DiffState": "gn.grad(..., wrt=filter)",
    "Everything": "write `...`",
    "FlatState": "gn.FlatStates",
    "GraphState": "gn.StateTree",
    "Intermediate": "gn.ShortTermState",
    "Metric": "gn.metrics.Metric",
    "ModelAndOptimizer": "gn.optim.Optimizer",
    "Nothing": "write `None`",
    "Object": "gn.Node",
    "Optimizer": "gn.optim.Optimizer",
    "Param": "gn.ParamState",
    "Pytree": "gn.Node",
    "StateAxes": "gn.axes",
    "Variable": "gn.State",
    "VariableState": "gn.TreefyState",
    "WithTag": "write the tag itself as the filter",
    "bitcast": "jax.lax.bitcast_convert_type",
    "cached_partial": "gn.jit, which is as fast",
    "call": "call the merged node: gn.treefy_merge(graphdef, states)(...)",
    "data": "gn.subnode or gn.state",
    "dataclass": "derive from gn.Node: each subclass is a dataclass",
    "display": "print the node",
    "from_flat_state": "gn.update_states, which takes whole paths as keys",
    "iter_children": "gn.iter_node",
    "iter_graph": "gn.iter_node or gn.iter_leaf",
    "iter_modules": "gn.iter_node",
    "merge": "gn.treefy_merge",
    "pmap": "gn.shard_map",
    "pop": "gn.pop_states",
    "pure": "gn.treefy_states(...).to_dict()",
    "split": "gn.treefy_split",
    "split_rngs": "gn.Rngs.fork",
    "tabulate": "gn.summary",
    "to_flat_state": "gn.treefy_states(...).flat()",
    "to_pure_dict": "gn.treefy_states(...).to_dict()",
    "update": "gn.update_states",
    "with_partitioning": "gn.state(..., sharding=...)",
    # flax.linen
    "FrozenDict": "gn.StateTree",
    "compact": "declare the layers as fields",
    # equinox
    "apply_updates": "gn.optim.Optimizer.update",
    "combine": "gn.treefy_merge",
    "field": "gn.static, gn.state or gn.subnode",
    "filter": "gn.treefy_states",
    "partition": "gn.treefy_split",
    "static_field": "gn.static",
    "tree_at": "assign, or use gn.select or gn.update_states",
    "tree_inference": "gn.view(model, deterministic=True)",
    **{
        f"filter_{name}": f"gn.{name}"
        for name in (
            "custom_jvp", "custom_vjp", "eval_shape", "grad", "hessian", "jacfwd", "jacrev", "jit", "jvp",
            "make_jaxpr", "value_and_grad", "vjp", "vmap",
        )
    },
    "filter_checkpoint": "gn.remat",
    "filter_pmap": "gn.shard_map",
    "filter_shard": "gn.shard_map",
    # JAX, PyTorch
    "Parameter": "gn.ParamState",
    "Tensor": "jax.Array",
    "compile": "gn.jit",
    "no_grad": "jax.lax.stop_gradient",
    "tree": "jax.tree",
    "tree_map": "jax.tree.map",
}  # fmt: skip
"""Names at the top of other libraries, and JAX's own under other names."""

_ACTIVATIONS: Final[Mapping[str, str]] = {
    "CELU": "celu", "ELU": "elu", "GELU": "gelu", "GLU": "glu", "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_swish", "Hardtanh": "hard_tanh", "LeakyReLU": "leaky_relu", "LogSigmoid": "log_sigmoid",
    "LogSoftmax": "log_softmax", "Mish": "mish", "ReLU": "relu", "ReLU6": "relu6", "SELU": "selu", "SiLU": "silu",
    "Sigmoid": "sigmoid", "Softmax": "softmax", "Softplus": "softplus", "Softsign": "soft_sign", "Swish": "swish",
    "Tanh": "tanh",
}  # fmt: skip

LAYER_NAMES: Final[Mapping[str, str]] = {
    **{
        f"{name}{axes}": f"gn.nn.{name}"
        for name in ("AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "BatchNorm", "Conv", "ConvTranspose", "Dropout",
                     "InstanceNorm", "MaxPool")
        for axes in ("1d", "2d", "3d")
    },
    **{
        name: f"jax.nn.{function}, or gn.nn.Activation(jax.nn.{function}) as a layer"
        for name, function in _ACTIVATIONS.items()
    },
    "BatchStat": "gn.BatchState",
    "CrossEntropyLoss": f"{_OF_LOSS}: optax.softmax_cross_entropy_with_integer_labels",
    "Dense": "gn.nn.Linear",
    "DenseGeneral": "gn.nn.Einsum",
    "Dict": _FIELDS_BY_KEY,
    "Embed": "gn.nn.Embedding",
    "Flatten": "write x.reshape(len(x), -1) in __call__",
    "GRU": _RECURRENT.format("GRUCell"),
    "LSTM": _RECURRENT.format("LSTMCell"),
    "Lambda": "gn.nn.Activation",
    "LinearGeneral": "gn.nn.Einsum",
    "List": _FIELDS,
    "LoRA": "gn.nn.LoRALinear.of(linear, rank)",
    "LoRAParam": "gn.nn.LoRAState",
    "MSELoss": f"{_OF_LOSS}: optax.squared_error",
    "ModuleDict": _FIELDS_BY_KEY,
    "ModuleList": _FIELDS,
    "MultiHeadDotProductAttention": "gn.nn.MultiHeadAttention",
    "MultiheadAttention": "gn.nn.MultiHeadAttention",
    "OptimizedLSTMCell": "gn.nn.LSTMCell",
    "Param": "gn.ParamState",
    "ParameterList": "annotate the field in the class: weights: list[gn.ParamState]",
    "Parameter": "gn.ParamState",
    "RNNBase": "gn.nn.RNN",
    "RNNCellBase": "gn.nn.Cell",
    "RotaryPositionalEmbedding": "gn.nn.rotary",
    "SelfAttention": "gn.nn.MultiHeadAttention",
    "SimpleCell": "gn.nn.RNNCell",
    "SpectralNorm": "gn.nn.SpectralNormLinear.of(linear)",
    "Transformer": "gn.nn.EncoderDecoder",
    "TransformerDecoder": "gn.nn.TransformerStack",
    "TransformerDecoderLayer": "gn.nn.TransformerBlock",
    "TransformerEncoder": "gn.nn.TransformerStack",
    "TransformerEncoderLayer": "gn.nn.TransformerBlock",
    "Variable": "gn.State",
    "WeightNorm": "gn.nn.WeightNormLinear.of(linear)",
    "avg_pool": "gn.nn.AvgPool",
    "compact": "declare the layers as fields",
    "functional": "jax.nn",
    "init": "gn.nn.initializers",
    "inference_mode": "gn.view(model, deterministic=True)",
    "max_pool": "gn.nn.MaxPool",
}  # fmt: skip
"""Layers, activations and variables of other libraries."""


# graphnode, and what wraps its functions where calls are checked at run time.
_WITHIN: Final = frozenset({"graphnode", "jaxtyping", "beartype"})


class NodeHints(NoPytree):
    """A base of nodes: other libraries' methods raise an `AttributeError` that says what to write."""

    __slots__ = ()


def _advice(instead: str) -> str:
    """For messages: what an entry of a table says to do. `gn.jit` becomes `use gn.jit`, and prose stays."""
    is_code = instead.startswith(("gn.", "jax.", "optax."))
    return f"use {instead}" if is_code else instead


for _name, _instead in METHODS.items():
    setattr(NodeHints, _name, Hint(_name, _advice(_instead)))


def instead_of_name(name: str, layers: Collection[str]) -> str | None:
    """What to write in place of `gn.<name>`.

    For the error of a name that other libraries have, such as `gn.Param`.

    Args:
        name: The name.
        layers: The names of `gn.nn`.
    """
    if name in layers and not name.startswith("_"):
        return f"gn.nn.{name}"
    return MODULE_NAMES.get(name) or LAYER_NAMES.get(name)


def instead_of_layer(name: str, names: Collection[str]) -> str | None:
    """What to write in place of `gn.nn.<name>`.

    For the error of a name that other libraries have, such as `gn.nn.Dense`.

    Args:
        name: The name.
        names: The names of `gn`.
    """
    if name in names and not name.startswith("_"):
        return f"gn.{name}"
    if name in LAYER_NAMES:
        return LAYER_NAMES[name]
    if not name.startswith("_") and callable(getattr(jax.nn, name, None)):
        return f"jax.nn.{name}"
    return MODULE_NAMES.get(name)


def missing_name(
    module: str, name: str, instead: str | None, names: Collection[str]
) -> Exception:
    """The error for a name that a module does not have; called by its `__getattr__`.

    For `gn` and `gn.nn`: says what to write, where the name is one of another library
    or misspelt.

    Args:
        module: The module.
        name: The name.
        instead: What to write in its place, if that is known.
        names: The names that the module has.
    """
    hint = ""
    if instead is not None:
        hint = _advice(instead)
    elif not name.startswith("_"):
        public_names = [other for other in names if not other.startswith("_")]
        hint = did_you_mean(name, public_names)
    if hint and _is_import_from():
        # `from ... import ...` would turn an AttributeError into an ImportError without
        # the hint.
        return ImportError(
            f"cannot import name {name!r} from {module!r}: {hint}", name=name
        )
    text = f"module {module!r} has no attribute {name!r}"
    return AttributeError(f"{text}: {hint}" if hint else text)


def _is_import_from() -> bool:
    """For `missing_name`: whether the code that asked the module for a name is a `from ... import ...`."""
    frame = sys._getframe(1)
    while (
        frame.f_back is not None
        and str(frame.f_globals.get("__name__")).partition(".")[0] in _WITHIN
    ):
        frame = frame.f_back
    return frame.f_code.co_code[frame.f_lasti] == opcode.opmap["IMPORT_FROM"]
