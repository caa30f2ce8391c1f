"""Mistakes in calls about checkpoints."""

import graphnode as gn

model = gn.nn.Linear(2, 3)

gn.checkpoint.save(model, "run")  # E: the path comes first
gn.checkpoint.save("run")  # E: nothing to save
gn.checkpoint.save("run", model, True)  # E: overwrite is given by name
gn.checkpoint.load("run", model)  # E: a node for its class
gn.checkpoint.load("run", dict)  # E: not a class of nodes
gn.checkpoint.load("run", gn.nn.Linear, "model")  # E: at is given by name
loaded: gn.nn.Conv = gn.checkpoint.load("run", gn.nn.Linear)  # E: another class
gn.checkpoint.restore("run", model, only=3)  # E: not a filter
gn.checkpoint.restore("run", model, strict=False)  # E: no such argument
