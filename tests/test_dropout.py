"""`Dropout`: what it drops, keeps and scales, and whom it asks for numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.nn import Dropout

make: Any = Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_an_element_is_zero_with_the_probability_of_the_rate(rate: float):
    """About `rate` of the elements are zero, the others are divided by `1 - rate`, so that the mean stays."""
    y = np.asarray(Dropout(rate, rngs=gn.Rngs(0))(jnp.ones((200, 200))))
    assert abs((y == 0).mean() - rate) < 0.02
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-5)
    assert abs(y.mean() - 1) < 0.1


def test_draws_come_from_the_stream_dropout():
    """The stream "dropout" gives a key for each call, the default one if there is none of that name."""
    x, expected = jnp.ones(100), gn.Rngs(0, dropout=1)
    rngs = gn.Rngs(0, dropout=1)
    layer = Dropout(0.5, rngs=rngs)
    for _ in range(2):
        kept = jax.random.bernoulli(expected("dropout"), 0.5, (100,))
        assert layer(x).tolist() == jnp.where(kept, 2.0, 0.0).tolist()
    assert [int(rngs[name].count.value) for name in ("default", "dropout")] == [0, 2]
    rngs = gn.Rngs(0)
    Dropout(0.5, rngs=rngs)(x)
    assert int(rngs["default"].count.value) == 1


def test_draws_may_come_from_a_stream_of_another_name():
    """So that two layers draw apart from one `Rngs`."""
    rngs = gn.Rngs(0, noise=1)
    layer = Dropout(0.5, rngs=rngs, rng_collection="noise")
    kept = jax.random.bernoulli(gn.Rngs(noise=1)("noise"), 0.5, (100,))
    assert layer(jnp.ones(100)).tolist() == jnp.where(kept, 2.0, 0.0).tolist()
    assert [int(rngs[name].count.value) for name in ("default", "noise")] == [0, 1]


def test_the_rngs_of_the_call_come_first():
    """Rngs that the call is given are drawn from instead of the layer's own."""
    own, given = gn.Rngs(0), gn.Rngs(0)
    Dropout(0.5, rngs=own)(jnp.ones(3), rngs=given)
    assert [int(rngs["dropout"].count.value) for rngs in (own, given)] == [0, 1]
    Dropout(0.5)(jnp.ones(3), rngs=given)
    assert int(given["dropout"].count.value) == 2


def test_a_deterministic_layer_passes_its_input():
    """The result is the input itself and nothing is drawn; the argument of the call comes before the field."""
    x, rngs = jnp.ones(100), gn.Rngs(0)
    training, evaluating = Dropout(0.5, rngs=rngs), Dropout(0.5, rngs=rngs, deterministic=True)
    assert evaluating(x) is x
    assert training(x, deterministic=True) is x
    assert Dropout(0.5)(x, deterministic=True) is x
    assert int(rngs["dropout"].count.value) == 0
    assert evaluating(x, deterministic=False) is not x


def test_rate_zero_passes_the_input_and_rate_one_nothing():
    """Neither draws."""
    x, rngs = jnp.ones(5, jnp.bfloat16), gn.Rngs(0)
    assert make(0.0, rngs=rngs)(x) is x
    nothing = make(1.0, rngs=rngs)(x)
    assert (nothing.tolist(), nothing.dtype) == ([0.0] * 5, jnp.bfloat16)
    assert int(rngs["dropout"].count.value) == 0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_shape_and_dtype_are_kept(dtype: Any):
    """Under strict promotion, for all floating-point and complex dtypes and ranks."""
    for shape in ((), (3,), (2, 0), (2, 3, 4)):
        y = Dropout(0.5, rngs=gn.Rngs(0))(jnp.ones(shape, dtype))
        assert (y.shape, y.dtype) == (shape, dtype)


def test_elements_along_broadcast_axes_share_a_decision():
    """Whole rows or columns are dropped together; axes may be negative."""
    for axes, over in (((0,), 0), ((-1,), 1)):
        y = np.asarray(Dropout(0.5, rngs=gn.Rngs(0), broadcast_axes=axes)(jnp.ones((50, 50))))
        lines = np.moveaxis(y, over, 0)
        assert (lines == lines[:1]).all()
        assert len(np.unique(lines[0])) == 2
    y = np.asarray(Dropout(0.5, rngs=gn.Rngs(0), broadcast_axes=(0, 1))(jnp.ones((3, 3))))
    assert len(np.unique(y)) == 1


@pytest.mark.parametrize(
    "rate",
    [-0.1, 1.5, float("nan"), *(pytest.param(rate, marks=pytest.mark.wrong_types) for rate in (True, "0.5", None))],
    ids=repr,
)
def test_a_rate_outside_of_its_interval_is_refused(rate: Any):
    """Also one that is assigned later is refused, in the next call."""
    with pytest.raises(gn.ContractError) as caught:
        make(rate)
    assert str(caught.value) == f"Dropout.rate: expected a number in [0, 1]; found {rate!r}"
    layer = make(0.5, rngs=gn.Rngs(0))
    layer.rate = rate
    with pytest.raises(gn.ContractError):
        layer(jnp.ones(2))


def test_an_input_that_cannot_be_scaled_is_refused():
    """An integer times 1 / (1 - rate) is not an integer."""
    with pytest.raises(gn.ContractError) as caught:
        Dropout(0.5, rngs=gn.Rngs(0))(jnp.ones(3, jnp.int32))
    assert str(caught.value) == "Dropout: expected an input of a floating-point or complex dtype; found int32"


def test_an_input_without_the_broadcast_axes_is_refused():
    """The error names the axes and the shape."""
    with pytest.raises(gn.ContractError) as caught:
        Dropout(0.5, rngs=gn.Rngs(0), broadcast_axes=(0, 2))(jnp.ones((2, 3)))
    assert str(caught.value) == "Dropout: expected an input with the axes (0, 2) of broadcast_axes; found (2, 3)"


def test_a_layer_without_rngs_says_what_to_pass():
    """Training without any source of numbers is an error, not a silent pass."""
    with pytest.raises(gn.RngError) as caught:
        Dropout(0.5)(jnp.ones(2))
    assert str(caught.value) == (
        "Dropout has no rngs to draw from: pass rngs=gn.Rngs(0) to the layer or to the call, or deterministic=True to "
        "drop nothing"
    )


def test_rngs_that_layers_share_are_one_node():
    """Two layers of one Rngs draw different masks, before and after a merge."""
    rngs = gn.Rngs(0)
    layers = [Dropout(0.5, rngs=rngs), Dropout(0.5, rngs=rngs)]
    merged = gn.treefy_merge(*gn.treefy_split(layers))
    assert merged[0].rngs is merged[1].rngs
    x = jnp.ones(64)
    assert merged[0](x).tolist() == layers[0](x).tolist()
    assert merged[1](x).tolist() == layers[1](x).tolist() != layers[0](x).tolist()


def test_dropout_goes_through_plain_jax():
    """Under jit and grad, the gradient is the mask, and the count comes out."""
    layer, same = Dropout(0.5, rngs=gn.Rngs(0)), Dropout(0.5, rngs=gn.Rngs(0))
    graphdef, states = gn.treefy_split(layer)

    @jax.jit
    def gradient(x: jax.Array, states: gn.StateTree) -> tuple[jax.Array, gn.StateTree]:
        def loss(x: jax.Array) -> tuple[jax.Array, gn.StateTree]:
            layer = gn.treefy_merge(graphdef, states)
            return layer(x).sum(), gn.treefy_states(layer, gn.RngCount)

        found, counts = jax.grad(loss, has_aux=True)(x)
        return found, counts

    x = jnp.ones(50)
    found, counts = gradient(x, states)
    assert found.tolist() == same(x).tolist()
    gn.update_states(layer, counts)
    assert layer(x).tolist() == same(x).tolist()


def test_each_of_a_batch_drops_for_itself_with_forked_rngs():
    """Under vmap, forks of the rngs give each element a mask of its own."""
    layer, n = Dropout(0.5), 4
    graphdef, states = gn.treefy_split(gn.Rngs(0).fork(n))
    masks = jax.vmap(lambda x, states: layer(x, rngs=gn.treefy_merge(graphdef, states)))(jnp.ones((n, 32)), states)
    assert len({tuple(row) for row in masks.tolist()}) == n
