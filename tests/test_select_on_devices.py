"""gn.select of a model that is spread over devices."""

import pytest

from tests.devices import run_with_devices

PROGRAM = """
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
import graphnode as gn
from graphnode import nn

mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.{kind},) * 2)
gn.random.seed(0)
net = nn.Linear(4, 8, axes=("in", "out"))
rules = gn.sharding.Rules(params={{"in": "data", "out": "model"}}, default=None)
plan = gn.sharding.plan(net, mesh, rules)
gn.sharding.place(net, plan)
before = {{path: state.value.sharding for path, state in gn.states(net).items()}}
assert before["weight",].spec == jax.P("data", "model")

def check():
    for path, state in gn.states(net).items():
        assert state.value.sharding == before[path], (path, state.value.sharding)
        assert state.value.committed

plain = nn.Linear(4, 8)
gn.select(plain, nn.Linear).reinit(0)
assert not plain.weight.value.committed
gn.select(net, nn.Linear).reinit(0)
check()
np.testing.assert_array_equal(net.weight.value, plain.weight.value)
with plan:
    gn.select(net, nn.Linear).reinit(1)
check()
with jax.set_mesh(mesh):
    gn.select(net, nn.Linear).reinit(2)
    check()

    @gn.jit
    def again(net):
        gn.select(net, nn.Linear).reinit(0)
        if "{kind}" == "Explicit":
            assert jax.typeof(net.weight.value).sharding.spec == jax.P("data", "model")

    again(net)
np.testing.assert_allclose(net.weight.value, plain.weight.value, rtol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_states_that_are_made_again_stay_where_they_are(kind: str):
    """On the devices of the old value, and laid out as it was, whether or not a plan or a mesh is active."""
    run_with_devices(PROGRAM.format(kind=kind), 4)
