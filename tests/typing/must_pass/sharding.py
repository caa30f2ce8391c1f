"""Models keep their types through plans."""

from typing import assert_type

import jax

import graphnode as gn

rules = gn.sharding.Rules(
    params={"embed": "data", "mlp": ("data", "model"), gn.nn.Linear: {"embed": None}, gn.PathIn("bias"): jax.P()},
    activations={"batch": "data"},
    states={gn.optim.OptimizerState: {"embed": "model"}},
    default=None,
)


def build() -> gn.nn.Linear:
    return gn.nn.Linear(2, 3, axes=("embed", "mlp"))


mesh = jax.make_mesh((1, 1), ("data", "model"))
assert_type(gn.sharding.plan(build(), jax.sharding.AbstractMesh((1, 1), ("data", "model")), rules), gn.sharding.Plan)
plan = gn.sharding.plan(build(), mesh, rules)
assert_type(plan, gn.sharding.Plan)
assert_type(gn.sharding.init(build, jax.random.key(0), plan), gn.nn.Linear)
assert_type(gn.sharding.place(build(), plan), gn.nn.Linear)
assert_type(gn.sharding.gather(build(), plan), gn.nn.Linear)
assert_type(gn.sharding.abstract(build(), plan), gn.nn.Linear)
with plan:
    assert_type(gn.sharding.constrain(jax.numpy.ones((2, 3)), "batch", None), jax.Array)
with gn.sharding.use(plan) as used:
    assert_type(used, gn.sharding.Plan)
