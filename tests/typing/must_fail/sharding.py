"""Mistakes in rules and plans."""

import jax

import graphnode as gn

rules = gn.sharding.Rules(default=None)
mesh = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
model = gn.nn.Linear(2, 3)
plan = gn.sharding.plan(model, mesh, rules)

gn.sharding.Rules({"in": "data"})  # E: params is given by name
gn.sharding.Rules(activations={"batch": 3})  # E: not a mesh axis
gn.sharding.Rules(states={gn.nn.Linear: {"in": "data"}})  # E: not a class of States
gn.sharding.plan(model, mesh, {"in": "data"})  # E: rules are not a mapping
gn.sharding.init(model, jax.random.key(0), plan)  # E: a node for a function
gn.sharding.constrain(model.weight.value, 3)  # E: a role is a text
gn.nn.Linear(2, 3, axes=("embed",))  # E: two roles
