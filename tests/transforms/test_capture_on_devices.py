"""capture_grads and intervene where arrays are spread over devices: inside of shard_map, and on an explicit mesh."""

import pytest

from tests.devices import run_with_devices

START = """
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
import graphnode as gn
from graphnode import nn

class Net(gn.Node):
    a: nn.Linear
    b: nn.Linear

    def __call__(self, x):
        return self.b(self.a(x))

class Stack(gn.Node):
    blocks: nn.Linear

    def __call__(self, x):
        return gn.scan(lambda x, block: (jnp.tanh(block(x)), None), x, self.blocks)[0]

def loss(net, x):
    return jnp.sum(net(x) ** 2)

gn.random.seed(0)
net = Net(nn.Linear(4, 4), nn.Linear(4, 4))
x = jax.random.normal(jax.random.key(0), (4, 4))
close = lambda found, expected: np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
"""

SHARDS = (
    START
    + """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))

def sharded(function, out=jax.P("d"), **options):
    return gn.shard_map(function, mesh=mesh, in_specs=(jax.P(), jax.P("d")), out_specs=out, **options)
"""
)


@pytest.mark.slow
def test_gradients_inside_of_a_shard_map_are_those_of_each_shard():
    """What is added has the type of what the node gives: no sum over the shards, and one axis for each loop."""
    run_with_devices(
        SHARDS
        + """
grads = lambda net, x: gn.capture_grads(loss, "a")(net, x)[2]["a"]
expected = grads(net, x)
for options in ({}, {"check_vma": False}):
    close(sharded(grads, **options)(net, x), expected)
    close(gn.jit(sharded(grads, **options))(net, x), expected)
again = lambda net, x: gn.capture_grads(gn.remat(loss), "a")(net, x)[2]["a"]
close(sharded(again)(net, x), expected)
stack = Stack(gn.stack([nn.Linear(4, 4) for _ in range(3)]))
grads = lambda stack, x: gn.capture_grads(loss, "blocks")(stack, x)[2]["blocks"]
close(sharded(grads, jax.P(None, "d"))(stack, x), grads(stack, x))

# What is the same in all shards has the sum, as by jax.grad.
same = lambda net, x: gn.capture_grads(lambda net, x: jnp.sum(net.a(jnp.ones((1, 4))) * x), "a")(net, x)[2]["a"]
close(sharded(same, jax.P())(net, x), jnp.sum(x, 0, keepdims=True))
""",
        4,
    )


@pytest.mark.slow
def test_what_a_change_gives_has_the_type_of_what_was_there():
    """Inside of a shard_map it may differ between shards, as a carry does; over an explicit mesh it is laid out."""
    run_with_devices(
        SHARDS
        + """
def run(net, x):
    return jax.lax.scan(lambda x, _: (net.a(x), None), x, length=2)[0]

ones = gn.intervene(run, {"a": lambda y: jnp.ones((1, 4))})
close(sharded(ones)(net, x), jnp.ones((4, 4)))
explicit = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(explicit):
    spread = jax.device_put(x, jax.NamedSharding(explicit, jax.P("d", None)))
    types = []

    def run(net, x):
        y = net.a(x)
        types.append(str(jax.typeof(y).sharding.spec))
        return y

    close(gn.intervene(run, {"a": lambda y: jnp.ones((4, 4))})(net, spread), jnp.ones((4, 4)))
    assert set(types) == {str(jax.P("d", None))}, types
""",
        4,
    )


@pytest.mark.slow
def test_values_go_in_inside_of_a_shard_map():
    """Also one that is the same in all shards, where the node gives something else in each."""
    run_with_devices(
        SHARDS
        + """
captured = lambda net, x: gn.intervene(net, gn.capture(net, "a")(x)[1])(2 * x)
close(sharded(captured)(net, x), net(x))
close(gn.jit(sharded(captured))(net, x), net(x))
close(sharded(lambda net, x: gn.intervene(net, {"a": jnp.ones((1, 4))})(x))(net, x), net.b(jnp.ones((4, 4))))
stack = Stack(gn.stack([nn.Linear(4, 4) for _ in range(3)]))
close(sharded(lambda s, x: gn.intervene(s, {"blocks": jnp.ones((3, 1, 4))})(x))(stack, x), jnp.tanh(jnp.ones((4, 4))))
""",
        4,
    )


@pytest.mark.slow
def test_a_value_that_differs_between_shards_is_refused_where_the_result_does_not():
    """What comes after would be of another type than it was traced with."""
    run_with_devices(
        SHARDS
        + """
constant = lambda net, x: net.a(jnp.ones((1, 4)))
try:
    sharded(lambda net, x: gn.intervene(constant, {"a": x})(net, x), jax.P())(net, x)
except gn.CaptureError as error:
    assert str(error) == (
        "gn.intervene: net.a returns the same in all shards along d of the mesh; found a value that differs there: "
        "give one that is the same, such as its jax.lax.pmean"
    ), error
else:
    raise AssertionError("not refused")
""",
        4,
    )


@pytest.mark.slow
def test_gradients_and_values_have_the_layout_of_what_was_captured():
    """On an explicit mesh, where it is part of the type."""
    run_with_devices(
        START
        + """
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
jax.set_mesh(mesh)
out = jax.NamedSharding(mesh, jax.P("data", "model"))

class Laid(gn.Node):
    a: nn.Linear

    def __call__(self, x):
        return jax.sharding.reshard(self.a(x), out)

class Outer(gn.Node):
    laid: Laid

    def __call__(self, x):
        return jnp.tanh(self.laid(x))

model, x = Outer(Laid(net.a)), jax.sharding.reshard(x, jax.P("data", None))
for run in (gn.capture_grads(loss, "laid"), gn.jit(gn.capture_grads(loss, "laid"))):
    _, seen, grads = run(model, x)
    assert jax.typeof(grads["laid"]).sharding.spec == jax.P("data", "model"), jax.typeof(grads["laid"])
    assert jax.typeof(grads["laid"]) == jax.typeof(seen["laid"])
for value in (seen["laid"], np.asarray(seen["laid"]), jax.sharding.reshard(seen["laid"], jax.P(None, "data"))):
    for run in (gn.intervene(model, {"laid": value}), gn.jit(gn.intervene(model, {"laid": value}))):
        result = run(2 * x)
        assert jax.typeof(result).sharding.spec == jax.P("data", "model")
        close(result, model(x))
""",
        4,
    )
