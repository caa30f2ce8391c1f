"""`gn.nn.Linear` multiplies matrices, where nothing is spread over devices."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import graphnode as gn


def products(layer: gn.nn.Linear, x: jax.Array) -> list[tuple[int, ...]]:
    """The shapes of the left operands of all products in a call."""
    jaxpr = gn.make_jaxpr(lambda layer, x: layer(x))(layer, x).jaxpr
    return [one.invars[0].aval.shape for one in jaxpr.eqns if one.primitive.name == "dot_general"]


@pytest.mark.parametrize("batch", [(), (5,), (2, 5), (4, 2, 5), (0, 5), (2, 0)])
def test_the_batch_is_one_axis_of_a_product_of_matrices(batch: tuple[int, ...]):
    """However many axes it has, also if one has size 0; the result has them all."""
    layer = gn.nn.Linear(3, 2)
    x = jax.random.normal(jax.random.key(0), (*batch, 3))
    (shape,) = products(layer, x)
    assert len(shape) == min(len(batch) + 1, 2)
    values = layer.weight.value
    expected = jnp.einsum("...i,ij->...j", x, values["weight"])
    assert layer(x).shape == (*batch, 2)
    assert jnp.allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_an_array_on_a_mesh_keeps_its_axes(kind: AxisType):
    """One of them might be spread over devices: joined with another, it would have to be gathered, or is refused."""
    mesh = jax.make_mesh((1,), ("time",), axis_types=(kind,))
    x = jax.device_put(jnp.ones((2, 5, 3)), NamedSharding(mesh, PartitionSpec(None, "time", None)))
    layer = gn.nn.Linear(3, 2)
    with jax.set_mesh(mesh):
        layer.weight.value = jax.tree.map(
            lambda one: jax.device_put(one, NamedSharding(mesh, PartitionSpec())), layer.weight.value
        )
        assert products(layer, x) == [(2, 5, 3)]
        assert gn.jit(layer)(x).shape == (2, 5, 2)
