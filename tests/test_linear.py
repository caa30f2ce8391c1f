"""`nn.Linear` and `nn.Module`: the tutorial's layer, declared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import ParamState
from graphnode.nn import Linear, Module

make: Any = Linear


def test_a_linear_prints_as_the_tutorial_shows_it():
    """The layer's fields in order, one ParamState of `bias` and `weight`."""
    assert str(Linear(2, 3)) == (
        "Linear(\n"
        "  in_size=(2,),\n"
        "  out_size=(3,),\n"
        "  w_mask=None,\n"
        "  weight=ParamState(\n"
        "    value={\n"
        "      'bias': ShapedArray(float32[3]),\n"
        "      'weight': ShapedArray(float32[2,3])\n"
        "    }\n"
        "  )\n"
        ")"
    )


def test_a_linear_is_a_module_and_a_node():
    """`Module` is the common class of layers."""
    assert issubclass(Linear, Module)
    assert issubclass(Module, gn.Node)
    assert gn.schema(Module).fields == {}


def test_a_linear_is_one_state_at_one_path():
    """Weight and bias are one leaf of the graph."""
    assert list(gn.states(Linear(2, 3))) == [("weight",)]


@pytest.mark.parametrize("shape", [(2,), (5, 2), (4, 5, 2), (0, 2)], ids=str)
def test_a_linear_maps_the_last_axis(shape: tuple[int, ...]):
    """`y = x @ weight + bias` over any leading axes, under strict rank promotion."""
    layer = Linear(2, 3, b_init=jax.nn.initializers.ones)
    x = jnp.arange(float(np.prod(shape))).reshape(shape)
    w = np.asarray(layer.weight.value["weight"])
    assert layer(x).shape == (*shape[:-1], 3)
    np.testing.assert_allclose(np.asarray(layer(x)), np.asarray(x) @ w + 1.0, rtol=1e-5)


def test_sizes_may_be_tuples():
    """The last size is what the map is over; the others agree and are kept."""
    layer = Linear((4, 2), (4, 3))
    assert (layer.in_size, layer.out_size) == ((4, 2), (4, 3))
    assert layer.weight.value["weight"].shape == (2, 3)
    assert layer(jnp.ones((4, 2))).shape == (4, 3)
    assert make(2, 3).in_size == (2,)


def test_a_linear_without_bias_has_no_such_key():
    """`use_bias=False` leaves the dict with the weight alone, and draws the same weight."""
    gn.random.seed(5)
    with_bias = Linear(2, 3)
    gn.random.seed(5)
    without = Linear(2, 3, use_bias=False)
    assert set(without.weight.value) == {"weight"}
    assert without.weight.value["weight"].tolist() == with_bias.weight.value["weight"].tolist()
    assert without(jnp.zeros(2)).tolist() == [0.0, 0.0, 0.0]


def test_a_mask_is_multiplied_with_the_weight_and_is_structure():
    """Masked weights do not count; the mask is compared by content."""
    mask = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    layer = Linear(2, 3, mask, w_init=jax.nn.initializers.ones)
    assert layer(jnp.ones(2)).tolist() == [1.0, 0.0, 2.0]
    assert gn.graphdef(layer) == gn.graphdef(Linear(2, 3, mask.copy()))
    assert gn.graphdef(layer) != gn.graphdef(Linear(2, 3, 1 - mask))
    assert gn.graphdef(layer) != gn.graphdef(Linear(2, 3))


def test_the_default_weight_is_hes_normal():
    """The variance is 2 / fan-in (He et al. 2015), the bias zero."""
    gn.random.seed(0)
    value = Linear(200, 100).weight.value
    weight = np.asarray(value["weight"])
    assert abs(weight.mean()) < 0.003
    assert abs(weight.std() * 10.0 - 1.0) < 0.03
    assert not value["bias"].any()


def test_a_linear_draws_from_the_ambient_stream():
    """The same seed makes the same layer, the next layer another."""
    gn.random.seed(3)
    first, second = Linear(2, 3), Linear(2, 3)
    gn.random.seed(3)
    again = Linear(2, 3)
    assert again.weight.value["weight"].tolist() == first.weight.value["weight"].tolist()
    assert second.weight.value["weight"].tolist() != first.weight.value["weight"].tolist()


def test_initialisers_get_key_shape_and_dtype():
    """`w_init` and `b_init` are called with a key of their own, the shape and the dtype."""
    calls: list[Any] = []

    def recording(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        calls.append((tuple(np.asarray(jax.random.key_data(key)).tolist()), shape, jnp.dtype(dtype)))
        return jnp.zeros(shape, dtype)

    layer = Linear((2,), (3,), w_init=recording, b_init=recording, param_dtype=jnp.bfloat16)
    assert [call[1:] for call in calls] == [((2, 3), jnp.dtype("bfloat16")), ((3,), jnp.dtype("bfloat16"))]
    assert calls[0][0] != calls[1][0]
    assert layer(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def untyped(in_size: Any, found: str) -> Any:
    """A size that no type checker accepts either."""
    text = f"Linear.in_size: expected a positive integer or a tuple of them; found {found}"
    return pytest.param(in_size, 3, text, marks=pytest.mark.wrong_types)


BAD_SIZES: dict[str, Any] = {
    "zero": (0, 3, "Linear.in_size: expected a positive integer or a tuple of them; found 0"),
    "negative": (2, -3, "Linear.out_size: expected a positive integer or a tuple of them; found -3"),
    "boolean": (True, 3, "Linear.in_size: expected a positive integer or a tuple of them; found True"),
    "empty": ((), 3, "Linear.in_size: expected a positive integer or a tuple of them; found ()"),
    "float": untyped(2.5, "2.5"),
    "float in a tuple": untyped((2.0,), "(2.0,)"),
    "text": untyped("23", "'23'"),
    "None": untyped(None, "None"),
    "disagreement": (
        (4, 2),
        (5, 3),
        "Linear.out_size: expected (4,) before the last size, as in_size has; found (5, 3)",
    ),
}


@pytest.mark.parametrize(("in_size", "out_size", "text"), BAD_SIZES.values(), ids=BAD_SIZES)
def test_bad_sizes_are_refused(in_size: Any, out_size: Any, text: str):
    """Sizes are positive integers or tuples of them that agree; the error names the argument."""
    with pytest.raises(gn.ContractError) as caught:
        make(in_size, out_size)
    assert str(caught.value) == text


def test_a_mask_of_another_shape_is_refused():
    """A mask has the shape of the weight."""
    with pytest.raises(gn.ContractError) as caught:
        Linear(2, 3, jnp.ones((3, 2)))
    assert str(caught.value) == "Linear.w_mask: expected shape (2, 3) of the weight; found (3, 2)"


@pytest.mark.parametrize("shape", [(3,), (2, 5), (), (2, 1)], ids=str)
def test_an_input_of_another_size_is_refused(shape: tuple[int, ...]):
    """The last axis of the input is the last of `in_size`."""
    with pytest.raises(gn.ContractError) as caught:
        Linear(2, 3)(jnp.ones(shape))
    assert str(caught.value) == f"Linear: expected an input of shape (..., in_size[-1]=2); found {shape}"


def test_a_linear_goes_through_plain_jax():
    """Split, differentiate and merge: the gradient of the sum is that of the formula."""
    layer = Linear(2, 3)
    graphdef, params = gn.treefy_split(layer)
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    grads = jax.jit(jax.grad(lambda params: gn.treefy_merge(graphdef, params)(x).sum()))(params)
    assert grads["weight"].value["bias"].tolist() == [2.0, 2.0, 2.0]
    assert grads["weight"].value["weight"].tolist() == [[4.0] * 3, [6.0] * 3]


def test_the_weight_is_replaced_only_by_a_param_state():
    """The layer's State is typed as any field."""
    layer: Any = Linear(2, 3)
    with pytest.raises(gn.FieldError, match=r"^Linear\.weight takes ParamState; found "):
        layer.weight = gn.ShortTermState(jnp.ones(2))
    layer.weight = ParamState({"weight": jnp.ones((2, 3))})
    assert layer(jnp.ones(2)).tolist() == [2.0, 2.0, 2.0]


def test_a_config_of_a_layer_says_what_it_was_made_with():
    """Bias and dtype are read from the parameters: another layer of the config has parameters of the same form."""
    cases: list[dict[str, Any]] = [{}, {"use_bias": False}, {"dtype": jnp.bfloat16}]
    for options in cases:
        layer = gn.nn.Linear(2, 3, **options)
        config = gn.config.to_config(layer)
        again = gn.config.build(gn.config.loads(gn.config.dump(config), gn.nn.Linear))
        assert gn.graphdef(again) is gn.graphdef(layer)
        assert jax.tree.map(jnp.shape, again.weight.value) == jax.tree.map(jnp.shape, layer.weight.value)
        assert again.weight.value["weight"].dtype == layer.weight.value["weight"].dtype
    assert gn.config.dump(gn.config.to_config(gn.nn.Linear(2, 3))) == "type: Linear\nin_size: [2]\nout_size: [3]"
