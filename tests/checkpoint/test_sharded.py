"""Arrays over several devices: saved from one mesh, and restored straight onto another; eight devices, in a process."""

import pytest

from tests.devices import run_with_devices

PROGRAM = """
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

import graphnode as gn
from jaxtyping import Array, Float


class Net(gn.Node):
    n: int
    wide: gn.ParamState[Float[Array, "n n"]] = gn.state(jax.nn.initializers.lecun_normal())
    bias: gn.ParamState[Float[Array, "n"]] = gn.state(jax.nn.initializers.ones)
    keys: gn.State = gn.state(init=False)

    def __post_init__(self):
        self.keys = gn.State(jax.random.split(jax.random.key(0), 8))


assert len(jax.devices()) == 8
auto = (AxisType.Auto, AxisType.Auto)
first = jax.make_mesh((4, 2), ("data", "model"), axis_types=auto)
second = jax.make_mesh((2, 2), ("a", "b"), axis_types=auto, devices=jax.devices()[:4])
explicit = jax.make_mesh((8,), ("x",))


def on(mesh, *names):
    return jax.NamedSharding(mesh, jax.P(*names))


def place(net, mesh, row, column):
    net.wide.value = jax.device_put(net.wide.value, on(mesh, row, column))
    net.bias.value = jax.device_put(net.bias.value, on(mesh))
    net.keys.value = jax.device_put(net.keys.value, on(mesh, row))


def assert_same(net, other):
    assert np.array_equal(net.wide.value, other.wide.value)
    assert np.array_equal(net.bias.value, other.bias.value)
    assert np.array_equal(jax.random.key_data(net.keys.value), jax.random.key_data(other.keys.value))


net = Net(16)
place(net, first, "data", "model")
with tempfile.TemporaryDirectory() as folder:
    gn.checkpoint.save(f"{folder}/run", {"net": net})

    # Where the live arrays are.
    live = Net(16)
    place(live, second, "b", None)
    gn.checkpoint.restore(f"{folder}/run", {"net": live})
    assert_same(live, net)
    assert live.wide.value.sharding == on(second, "b", None)
    assert live.wide.value.addressable_shards[0].data.shape == (8, 16)
    assert live.keys.value.sharding.is_equivalent_to(on(second, "b"), 1)

    # From shapes alone, straight onto what is said.
    abstract = gn.eval_shape(lambda: Net(16))
    shardings = {"net.wide": on(explicit, "x", None), "**.keys": on(explicit, "x"), "**": on(explicit)}
    gn.checkpoint.restore(f"{folder}/run", {"net": abstract}, shardings=shardings)
    assert_same(abstract, net)
    assert abstract.wide.value.sharding == on(explicit, "x", None)
    assert abstract.wide.value.addressable_shards[3].data.shape == (2, 16)

    # As a new node, on one device and on eight.
    assert_same(gn.checkpoint.load(f"{folder}/run", Net, at="net"), net)
    loaded = gn.checkpoint.load(f"{folder}/run", Net, at="net", shardings={"wide": on(first, None, "model")})
    assert_same(loaded, net)
    assert loaded.wide.value.sharding == on(first, None, "model")
    assert len(loaded.bias.value.sharding.device_set) == 1
"""


@pytest.mark.slow
def test_arrays_are_restored_onto_another_mesh():
    """With the sharding of the live arrays, or one that is given; of shapes alone, and of new nodes."""
    run_with_devices(PROGRAM, 8)
