"""`Sequential`, `MLP`, `TransformerBlock` and `Activation`; and views of models of layers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import graphnode as gn
from graphnode import nn
from tests.nn.layers import WITH_PARAMETERS, abstract, called, inputs, make
from tests.nn.peers import BF16, Arrays, compare, drawn, numbers, permissive, pure, pure_eqx, pure_nnx, rngs

# Each compiles by itself.
pytestmark = pytest.mark.slow

MLPS: dict[str, dict[str, Any]] = {
    "one hidden layer": {},
    "two": {"depth": 2},
    "none": {"depth": 0},
    "no biases, another activation": {"use_bias": False, "act": jax.nn.gelu},
    "another one at the end, and no bias there": {"final_act": jax.nn.tanh, "use_final_bias": False},
    "a bias at the end alone": {"use_bias": False, "use_final_bias": True},
    "no hidden layer, a bias at the end": {"depth": 0, "use_bias": False, "use_final_bias": True},
}


@pytest.mark.parametrize("options", MLPS.values(), ids=MLPS)
def test_an_mlp_is_that_of_equinox(options: dict[str, Any]):
    """Of any depth, with any activation: result and gradients."""
    theirs: dict[str, Any] = {"depth": options.get("depth", 1), "activation": options.get("act", jax.nn.relu)}
    bias = options.get("use_bias", True)
    theirs |= {"use_bias": bias, "use_final_bias": options.get("use_final_bias", bias)}
    if "final_act" in options:
        theirs["final_activation"] = options["final_act"]

    def transposed(arrays: Arrays) -> Arrays:
        return {name.replace("weight.", "", 1): array.T for name, array in arrays.items()}

    with permissive():
        other = eqx.filter_eval_shape(lambda: eqx.nn.MLP(3, 4, 5, **theirs, key=jax.random.key(0)))
    one = nn.MLP(3, 5, 4, w_init=drawn, **options)
    compare(pure(one), pure_eqx(other, lambda mlp, x: jax.vmap(mlp)(x)), numbers(2, 3), names=transposed)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("use_final_bias", [True, False, None])
def test_the_biases_of_an_mlp_are_written_into_files(depth: int, use_bias: bool, use_final_bias: bool | None):
    """And what is the same is one structure."""
    layer = abstract("MLP", depth=depth, use_bias=use_bias, use_final_bias=use_final_bias)
    final = use_bias if use_final_bias is None else use_final_bias
    biases = [None if one.bias is None else one.bias.value.shape for one in layer.layers]
    assert biases == [(3,) if use_bias else None] * depth + [(4,) if final else None]
    text = gn.config.dump(gn.config.to_config(layer))
    again = gn.eval_shape(lambda: gn.config.build(gn.config.loads(text, nn.MLP)))
    assert gn.graphdef(again) is gn.graphdef(layer)
    same = abstract("MLP", depth=depth, use_bias=use_bias, use_final_bias=final)
    assert gn.graphdef(same) is gn.graphdef(layer)


def test_the_activation_at_the_end_is_a_function():
    """No name, which is for files."""
    untyped: Any = nn.MLP
    with pytest.raises(gn.ContractError) as caught:
        untyped(2, 3, 4, final_act="tanh")
    assert str(caught.value) == "MLP.final_act: expected a function, such as jax.nn.relu; found 'tanh'"


class Block(nnx.Module):
    """A block of flax's parts."""

    def __init__(self, **attention: Any) -> None:
        inits: dict[str, Any] = {"kernel_init": drawn, "rngs": rngs()}
        self.attention_norm = nnx.LayerNorm(4, rngs=rngs())
        self.attention = nnx.MultiHeadAttention(2, 4, decode=False, **inits, **attention)
        self.mlp_norm = nnx.LayerNorm(4, rngs=rngs())
        self.first = nnx.Linear(4, 6, **inits)
        self.second = nnx.Linear(6, 4, **inits)

    def __call__(self, x: Any, mask: Any) -> Any:
        x = x + self.attention(self.attention_norm(x), mask=mask)
        return x + self.second(nnx.gelu(self.first(self.mlp_norm(x))))


def test_a_transformer_block_is_the_same_parts_of_flax():
    """Result and gradients of a causal block with grouped heads and a mask."""
    mask = np.array([[True, False, True], [True, True, True], [False, True, True]])[None, None]
    kinds = {"weight": "kernel", "bias": "bias"}
    parts = {f"attention.{part}": f"attention.{part}" for part in ("query", "key", "value", "out")}
    parts |= {"mlp.layers.0": "first", "mlp.layers.1": "second"}
    names = {f"{ours}.{a}": f"{theirs}.{b}" for ours, theirs in parts.items() for a, b in kinds.items()}
    with permissive():
        other = Block(num_kv_heads=1)
    one = nn.TransformerBlock(4, 2, hidden_size=6, num_kv_heads=1, is_causal=True, w_init=drawn)
    causal = mask & np.tril(np.ones((3, 3), bool))
    compare(
        pure(one, lambda block, x: block(x, mask=jnp.asarray(mask))),
        pure_nnx(other, lambda block, x: block(x, causal)),
        numbers(1, 3, 4),
        names=names,
    )


def test_a_block_hands_its_options_to_its_parts():
    """Which are those that are made so by hand."""
    block = nn.TransformerBlock(
        4, 2, norm="RMSNorm", num_kv_heads=1, is_causal=True, rotary_base=10.0, act=jax.nn.silu, use_bias=False,
        dtype=jnp.bfloat16, w_init=drawn,
    )  # fmt: skip
    options: dict[str, Any] = {"use_bias": False, "w_init": drawn, "dtype": jnp.bfloat16}
    attention = nn.MultiHeadAttention(4, 2, num_kv_heads=1, is_causal=True, rotary_base=10.0, **options)
    assert gn.graphdef(block.attention) is gn.graphdef(attention)
    assert gn.graphdef(block.mlp) is gn.graphdef(nn.MLP(4, 16, 4, act=jax.nn.silu, **options))
    assert gn.graphdef(block.attention_norm) is gn.graphdef(nn.RMSNorm(4, dtype=jnp.bfloat16))
    assert gn.graphdef(block.mlp_norm) is gn.graphdef(nn.RMSNorm(4, dtype=jnp.bfloat16))
    assert block.attention_norm is not block.mlp_norm


def test_a_block_drops_what_both_parts_give():
    """With everything dropped it is the identity; the streams of the call are used; blocks may share one dropout."""
    dropout = nn.Dropout(1.0)
    blocks = [nn.TransformerBlock(4, 2, w_init=drawn, dropout=dropout) for _ in range(2)]
    x = numbers(3, 4)
    y = gn.jit(lambda blocks, x: blocks[1](blocks[0](x)))(blocks, x)
    np.testing.assert_array_equal(np.asarray(y), np.asarray(x))
    assert blocks[0].dropout is blocks[1].dropout
    half = nn.TransformerBlock(4, 2, w_init=drawn, dropout=nn.Dropout(0.5))
    streams = gn.Rngs(0)
    gn.eval_shape(lambda half, x, rngs: half(x, rngs=rngs), half, x, streams)
    with pytest.raises(gn.RngError) as caught:
        gn.eval_shape(lambda half, x: half(x), half, x)
    assert str(caught.value).startswith("TransformerBlock.dropout (Dropout) has no rngs to draw from")


def test_a_sequence_is_its_layers_one_after_the_other():
    """None is the identity."""
    first, last = make("Linear"), nn.Linear(4, 2, w_init=drawn)
    model = nn.Sequential([first, nn.Activation(jax.nn.relu), last])
    x = numbers(5, 3)
    np.testing.assert_array_equal(np.asarray(model(x)), np.asarray(last(jax.nn.relu(first(x)))))
    assert nn.Sequential([])(x) is x


def test_a_sequence_is_read_as_a_list():
    """Its length, its items from both ends, iteration; a layer may be put in."""
    layers: list[nn.Layer] = [make("Linear"), nn.Activation(jax.nn.relu)]
    model = nn.Sequential(layers)
    assert len(model) == 2
    assert model[0] is layers[0]
    assert model[-1] is layers[1]
    assert list(model) == layers
    with pytest.raises(IndexError):
        model[2]
    model.layers.append(nn.Linear(4, 1, w_init=drawn))
    assert len(model) == 3
    assert model(numbers(3)).shape == (1,)


@pytest.mark.wrong_types
def test_only_layers_stand_in_a_sequence():
    """A function, a class, a cell and a tuple are refused by the field, at the item."""
    untyped: Any = nn.Sequential
    cases: list[tuple[Any, str]] = [
        (
            [make("Linear"), abs],
            "Sequential.layers.1 takes Layer; found builtin_function_or_method <built-in function abs>",
        ),
        ([make("GRUCell")], "Sequential.layers.0 takes Layer; found a GRUCell"),
        ([nn.Dropout], "Sequential.layers.0 takes Layer; found the class Dropout"),
    ]
    for layers, text in cases:
        with pytest.raises(gn.FieldError) as caught:
            nn.Sequential(layers)
        assert str(caught.value) == text
    with pytest.raises(gn.FieldError, match=r"^Sequential\.layers takes list\[Layer\]; found tuple"):
        untyped((make("Linear"),))


def test_an_activation_is_structure():
    """The same function is the same structure, another one another."""
    assert gn.graphdef(nn.Activation(jax.nn.relu)) is gn.graphdef(nn.Activation(jax.nn.relu))
    assert gn.graphdef(nn.Activation(jax.nn.relu)) != gn.graphdef(nn.Activation(jax.nn.gelu))
    assert nn.Activation(jnp.negative)(jnp.ones(2)).tolist() == [-1.0, -1.0]


# Views


class Model(gn.Node):
    norm: nn.BatchNorm
    dropout: nn.Dropout
    block: nn.TransformerBlock

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.block(self.dropout(self.norm(x)))


def model() -> Model:
    return Model(nn.BatchNorm(4), nn.Dropout(0.5), nn.TransformerBlock(4, 2, w_init=drawn, dropout=nn.Dropout(0.5)))


def test_a_deterministic_view_draws_and_writes_nothing():
    """Of all layers that have the field; the model itself is as it was, and the States are shared."""
    trained = model()
    view = gn.view(trained, deterministic=True)
    before = trained.norm.mean.value
    y = gn.jit(lambda view, x: view(x))(view, numbers(3, 4))
    assert y.shape == (3, 4)
    assert trained.norm.mean.value is before
    assert not trained.norm.deterministic
    assert view.norm.mean is trained.norm.mean
    with pytest.raises(gn.RngError):
        gn.eval_shape(lambda model, x: model(x), trained, numbers(3, 4))


def test_a_view_computes_in_another_dtype():
    """Everywhere, from the same float32 parameters: as a model that was made so."""
    view = gn.view(gn.view(model(), deterministic=True), dtype=BF16)
    made = nn.TransformerBlock(4, 2, w_init=drawn, dropout=nn.Dropout(0.5, deterministic=True), dtype=BF16)
    assert gn.graphdef(view.block) is gn.graphdef(made)
    assert gn.eval_shape(lambda view, x: view(x), view, numbers(3, 4)).dtype == BF16
    assert isinstance(view.block.mlp, nn.MLP)
    assert view.block.mlp.layers[0].weight.value.dtype == jnp.float32


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_a_view_in_a_dtype_of_integers_computes_nothing(name: str):
    """A view is not constructed, so the call tells it."""
    if not inputs(name):
        return
    view = gn.view(abstract(name), dtype=jnp.int32)
    with pytest.raises(gn.ContractError) as caught:
        gn.eval_shape(called, view, *inputs(name))
    expected = "dtype: expected a floating-point or complex dtype; found <class 'jax.numpy.int32'>"
    assert str(caught.value) == expected


def test_part_of_a_sequence_is_a_sequence():
    """By a slice, which shares the layers."""
    layers: list[nn.Layer] = [make("Linear"), nn.Activation(jax.nn.relu), make("Linear")]
    model = nn.Sequential(layers)
    assert list(model[1:]) == layers[1:]
    assert type(model[:2]) is nn.Sequential
    assert model[-1] is layers[-1]


def test_layers_are_shown_with_their_dtype_if_they_have_one():
    """Most have none, which is not shown."""
    assert "dtype=None" not in str(make("Conv"))
    assert "dtype=dtype(bfloat16)" in str(make("Conv", dtype=BF16))
