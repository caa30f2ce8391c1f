"""How exactly layers compute their products, and the dtype that these are summed in; beside flax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import graphnode as gn
from graphnode import nn
from tests.nn.layers import abstract, inputs, make
from tests.nn.peers import BF16, drawn, numbers, permissive, rngs

HIGHEST = jax.lax.Precision.HIGHEST
WITH_BOTH = ["Conv", "ConvTranspose", "Einsum", "Linear"]
UNTYPED: Any = nn
EXPECTED = (
    "expected 'default', 'high', 'highest', a pair of them, or the name of an algorithm of jax.lax.DotAlgorithmPreset, "
    "such as 'BF16_BF16_F32'"
)


def products(function: Callable[..., Any], *inputs: Any) -> list[Any]:
    """The products of a function, as JAX has them."""
    names = ("conv_general_dilated", "dot_general")
    return [one for one in jax.make_jaxpr(function)(*inputs).jaxpr.eqns if one.primitive.name in names]


def called(layer: Any) -> Callable[..., Any]:
    """A call of an abstract layer, as a function of its inputs."""
    graphdef, states = gn.treefy_split(layer)

    def call(*inputs: jax.Array) -> Any:
        return gn.treefy_merge(graphdef, jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), states))(*inputs)

    return call


@pytest.mark.parametrize("name", [*WITH_BOTH, "Bilinear"])
def test_every_product_has_the_precision_of_its_layer(name: str):
    """Which a view can say, too."""
    layer = abstract(name, precision="highest")
    found = products(called(layer), *inputs(name))
    assert found
    assert {one.params["precision"] for one in found} == {(HIGHEST, HIGHEST)}
    seen = gn.view(abstract(name), precision="highest")
    assert gn.graphdef(seen) is gn.graphdef(layer)
    assert {one.params["precision"] for one in products(called(abstract(name)), *inputs(name))} == {None}


def test_the_scores_of_an_embedding_have_its_precision():
    """Those of `attend`: the way there is no product."""
    layer = nn.Embedding(5, 4, w_init=drawn, precision="highest")
    assert [one.params["precision"] for one in products(layer.attend, numbers(3, 4))] == [(HIGHEST, HIGHEST)]


def test_a_pair_is_for_input_and_weight():
    """In this order."""
    layer = nn.Linear(3, 4, w_init=drawn, precision=("highest", "default"))
    assert [one.params["precision"] for one in products(layer, numbers(2, 3))] == [(HIGHEST, jax.lax.Precision.DEFAULT)]


@pytest.mark.no_runtime_types  # an algorithm is no member of the annotation
@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (HIGHEST, "highest"),
        ("float32", "highest"),
        ((HIGHEST, "bfloat16"), ("highest", "default")),
        (jax.lax.DotAlgorithmPreset.BF16_BF16_F32, "BF16_BF16_F32"),
        (None, None),
    ],
)
def test_a_precision_is_kept_by_its_name(written: Any, kept: Any):
    """However it was written: equal ones are one structure."""
    assert nn.Linear(3, 4, w_init=drawn, precision=written).precision == kept


@pytest.mark.parametrize("name", WITH_BOTH)
@pytest.mark.parametrize("value", ["exact", 2, ("high",), ("high", "BF16_BF16_F32")], ids=str)
@pytest.mark.no_runtime_types
def test_an_unknown_precision_is_refused(name: str, value: Any):
    """With what there is."""
    with pytest.raises(gn.ContractError) as caught:
        abstract(name, precision=value)
    assert str(caught.value) == f"{name}.precision: {EXPECTED}; found {value!r}"


@pytest.mark.parametrize("name", [*WITH_BOTH, "Bilinear"])
def test_a_view_is_checked_where_it_is_called(name: str):
    """As it sets fields of a layer that there is already."""
    seen = gn.view(abstract(name), precision="exact")
    with pytest.raises(gn.ContractError) as caught:
        products(called(seen), *inputs(name))
    assert str(caught.value) == f"{name}.precision: {EXPECTED}; found 'exact'"


def test_products_are_not_summed_in_integers():
    """Not even of numbers that are whole."""
    with pytest.raises(gn.ContractError) as caught:
        UNTYPED.Linear(3, 4, preferred_element_type=jnp.int32)
    assert str(caught.value).startswith(
        "Linear.preferred_element_type: expected a floating-point or complex dtype; found <class"
    )


def test_a_layer_whose_products_are_exact_is_another_part():
    """Of a perceptron that `to_config` would make without."""
    mlp = abstract("MLP")
    mlp.layers[0] = abstract("Linear", in_size=2, out_size=3, precision="high")
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.to_config(mlp)
    assert str(caught.value) == "MLP.layers.0.precision: expected None, as the constructor sets it; found 'high'"


OPTIONS: dict[str, Any] = {"dtype": BF16, "precision": "high", "preferred_element_type": jnp.float32}
INITS: dict[str, Any] = {"kernel_init": drawn, "bias_init": drawn, **OPTIONS}
BESIDE: dict[str, tuple[dict[str, Any], Callable[[], Any], tuple[int, ...]]] = {
    "Linear": ({"in_size": 64}, lambda: nnx.Linear(64, 4, rngs=rngs(), **INITS), (2, 64)),
    "Einsum": (
        {"shape": (64, 2, 3)},
        lambda: nnx.Einsum("...i,ihd->...hd", (64, 2, 3), (2, 3), rngs=rngs(), **INITS),
        (5, 64),
    ),
    "Conv": (
        {"kernel_size": 3, "groups": 1, "padding": "SAME"},
        lambda: nnx.Conv(4, 6, 3, rngs=rngs(), **INITS),
        (2, 9, 4),
    ),
    "ConvTranspose": (
        {},
        lambda: nnx.ConvTranspose(4, 6, 3, 2, transpose_kernel=True, rngs=rngs(), **INITS),
        (2, 5, 4),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_BOTH)
def test_products_are_summed_in_the_preferred_dtype(name: str):
    """As in flax: of bfloat16, and not rounded to it again."""
    options, peer, shape = BESIDE[name]
    layer, x = make(name, **OPTIONS, **options), numbers(*shape)
    y = layer(x)
    with permissive():
        expected = peer()(x)
    assert y.dtype == expected.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(y), np.asarray(expected))
    rounded = y.astype(BF16).astype(jnp.float32)
    assert not np.array_equal(np.asarray(y), np.asarray(rounded))
    gradients = gn.grad(lambda layer, x: layer(x).sum())(layer, x)
    assert {one.value.dtype for one in gn.states(layer).values()} == {jnp.dtype("float32")}
    assert all(np.isfinite(np.asarray(one)).all() for one in jax.tree.leaves(gradients))
