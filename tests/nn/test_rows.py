"""The axes of a batch are joined once by attention and perceptrons, where nothing is spread over devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import graphnode as gn
from tests.nn.layers import make
from tests.nn.peers import numbers

# Each compiles by itself.
pytestmark = pytest.mark.slow


def products(layer: Any, x: jax.Array) -> list[tuple[int, ...]]:
    """The shapes of what the weights are multiplied with in a call."""
    jaxpr = gn.make_jaxpr(lambda layer, x: layer(x))(layer, x).jaxpr
    weights = [one for one in jaxpr.eqns if one.primitive.name == "dot_general" and one.invars[1].aval.ndim == 2]
    return [one.invars[0].aval.shape for one in weights]


@pytest.mark.parametrize("batch", [(), (5,), (3, 5), (4, 3, 5), (0, 5)], ids=str)
def test_a_perceptron_multiplies_matrices(batch: tuple[int, ...]):
    """However many axes the batch has, also if one has size 0; the result has them all."""
    layer, x = make("MLP"), numbers(*batch, 2)
    assert {len(shape) for shape in products(layer, x)} == {min(len(batch) + 1, 2)}
    y = layer(x)
    assert y.shape == (*batch, 4)
    one_by_one = np.array([layer(row) for row in x.reshape(-1, 2)]).reshape(y.shape)
    np.testing.assert_allclose(y, one_by_one, atol=1e-6)


# Which axis is spread: that of time in a perceptron, that of the batch where elements attend to each other.
SPREAD: dict[str, tuple[dict[str, Any], PartitionSpec, tuple[int, ...]]] = {
    "MLP": ({}, PartitionSpec(None, "devices", None), (2, 5, 2)),
    "MultiHeadAttention": ({"context_size": 8}, PartitionSpec("devices", None, None), (2, 5, 8)),
}


@pytest.mark.parametrize("name", SPREAD)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_an_array_on_a_mesh_keeps_its_axes(name: str, kind: AxisType):
    """One of them might be spread over devices: joined with another, it would be gathered, or is refused."""
    options, spec, shape = SPREAD[name]
    layer = make(name, **options)
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(kind,))
    whole = NamedSharding(mesh, PartitionSpec())
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones(shape), NamedSharding(mesh, spec))
        for state in gn.states(layer).values():
            state.value = jax.device_put(state.value, whole)
        assert {len(shape) for shape in products(layer, x)} == {3}
