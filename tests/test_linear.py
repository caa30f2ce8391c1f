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


def test_a_linear_prints_its_sizes_and_states():
    """The layer's fields in order, a ParamState for each array; the last sizes are not shown twice."""
    assert str(Linear(2, 3)) == (
        "Linear(  # 9 parameters, 36 B\n"
        "  in_size=(2,), out_size=(3,), weight=ParamState(f32[2,3]), bias=ParamState(f32[3])\n"
        ")"
    )


def test_a_linear_is_a_module_and_a_node():
    """`Module` is the common class of layers."""
    assert issubclass(Linear, Module)
    assert issubclass(Module, gn.Node)
    assert gn.schema(Module).fields == {}


def test_a_linear_is_a_state_for_each_array():
    """Weight and bias are apart, so that a filter, an update or an optimizer can take either."""
    layer = Linear(2, 3)
    assert list(gn.states(layer)) == [("bias",), ("weight",)]
    assert list(gn.states(layer, gn.PathContains("bias"))) == [("bias",)]
    before = layer.weight.value
    gn.update_states(layer, {"bias": jnp.ones(3)})
    assert layer(jnp.zeros(2)).tolist() == [1.0, 1.0, 1.0]
    assert layer.weight.value is before


def test_a_snapshot_or_a_copy_does_not_follow_a_bias_that_is_written():
    """Trees and clones have the arrays of their time."""
    layer = Linear(2, 3)
    best, twin = gn.treefy_states(layer), gn.clone(layer)
    state: Any = layer.bias
    state.value = jnp.ones(3)
    assert best["bias"].value.tolist() == [0.0, 0.0, 0.0]
    assert twin(jnp.zeros(2)).tolist() == [0.0, 0.0, 0.0]
    gn.update_states(layer, best)
    assert layer(jnp.zeros(2)).tolist() == [0.0, 0.0, 0.0]


def test_the_last_sizes_are_fields_that_contracts_use():
    """A State of another shape or kind is refused where it is assigned, with field and sizes."""
    layer = Linear((4, 2), (4, 3))
    assert (layer.in_features, layer.out_features) == (2, 3)
    wrong: list[tuple[str, Any, str]] = [
        (
            "weight", jnp.ones((2, 4)),
            'expected out_features = 3 of Inexact[Array, "in_features out_features"], found shape (2, 4)',
        ),
        (
            "weight", jnp.ones((2, 3), jnp.int32),
            'expected dtype Inexact of Inexact[Array, "in_features out_features"], found int32',
        ),
        ("bias", jnp.ones(2), 'expected out_features = 3 of Inexact[Array, "out_features"], found shape (2,)'),
    ]  # fmt: skip
    for name, value, text in wrong:
        with pytest.raises(gn.ContractError) as caught:
            setattr(layer, name, ParamState(value))
        assert str(caught.value) == f"Linear.{name}: {text}"
    assert layer(jnp.ones((4, 2))).shape == (4, 3)


def test_a_linear_may_be_complex():
    """Parameters and results."""
    layer = Linear(2, 3, param_dtype=jnp.complex64)
    assert gn.eval_shape(lambda layer: layer(jnp.ones(2, jnp.complex64)), layer).dtype == jnp.complex64


@pytest.mark.parametrize("shape", [(2,), (5, 2), (4, 5, 2), (0, 2)], ids=str)
def test_a_linear_maps_the_last_axis(shape: tuple[int, ...]):
    """`y = x @ weight + bias` over any leading axes, under strict rank promotion."""
    with gn.random.scope(0):
        layer = Linear(2, 3, b_init=jax.nn.initializers.ones)
    x = jnp.arange(float(np.prod(shape))).reshape(shape)
    w = np.asarray(layer.weight.value)
    assert layer(x).shape == (*shape[:-1], 3)
    np.testing.assert_allclose(np.asarray(layer(x)), np.asarray(x) @ w + 1.0, rtol=1e-5, atol=1e-6)


def test_sizes_may_be_tuples():
    """The last size is what the map is over; the others agree and are kept."""
    layer = Linear((4, 2), (4, 3))
    assert (layer.in_size, layer.out_size) == ((4, 2), (4, 3))
    assert layer.weight.value.shape == (2, 3)
    assert layer(jnp.ones((4, 2))).shape == (4, 3)
    assert make(2, 3).in_size == (2,)


def test_a_linear_without_bias_has_none():
    """`use_bias=False` leaves the weight alone, and draws the same; it is another structure."""
    gn.random.seed(5)
    with_bias = Linear(2, 3)
    gn.random.seed(5)
    without = Linear(2, 3, use_bias=False)
    assert without.bias is None
    assert list(gn.states(without)) == [("weight",)]
    assert gn.graphdef(without) != gn.graphdef(with_bias)
    assert without.weight.value.tolist() == with_bias.weight.value.tolist()
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
    layer = Linear(200, 100)
    weight = np.asarray(layer.weight.value)
    assert abs(weight.mean()) < 0.003
    assert abs(weight.std() * 10.0 - 1.0) < 0.03
    assert layer.bias is not None
    assert not layer.bias.value.any()


def test_a_linear_draws_from_the_ambient_stream():
    """The same seed makes the same layer, the next layer another."""
    gn.random.seed(3)
    first, second = Linear(2, 3), Linear(2, 3)
    gn.random.seed(3)
    again = Linear(2, 3)
    assert again.weight.value.tolist() == first.weight.value.tolist()
    assert second.weight.value.tolist() != first.weight.value.tolist()


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
    assert grads["bias"].value.tolist() == [2.0, 2.0, 2.0]
    assert grads["weight"].value.tolist() == [[4.0] * 3, [6.0] * 3]


def test_the_weight_is_replaced_only_by_a_param_state():
    """The layer's States are typed as any field; the bias may be taken away."""
    layer: Any = Linear(2, 3, b_init=jax.nn.initializers.ones)
    with pytest.raises(gn.FieldError, match=r"^Linear\.weight takes ParamState; found "):
        layer.weight = gn.ShortTermState(jnp.ones(2))
    layer.weight = ParamState(jnp.ones((2, 3)))
    assert layer(jnp.ones(2)).tolist() == [3.0, 3.0, 3.0]
    layer.bias = None
    assert layer(jnp.ones(2)).tolist() == [2.0, 2.0, 2.0]
    assert gn.graphdef(layer) is gn.graphdef(Linear(2, 3, use_bias=False))


def test_a_config_of_a_layer_says_what_it_was_made_with():
    """Bias and dtype are read from the parameters: another layer of the config has parameters of the same form."""
    cases: list[dict[str, Any]] = [{}, {"use_bias": False}, {"dtype": jnp.bfloat16}]
    for options in cases:
        layer = gn.nn.Linear(2, 3, **options)
        config = gn.config.to_config(layer)
        again = gn.config.build(gn.config.loads(gn.config.dump(config), gn.nn.Linear))
        assert gn.graphdef(again) is gn.graphdef(layer)
        assert again.weight.value.dtype == layer.weight.value.dtype
    assert gn.config.dump(gn.config.to_config(gn.nn.Linear(2, 3))) == "type: Linear\nin_size: [2]\nout_size: [3]"
