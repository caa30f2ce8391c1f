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

# Changes
gn.checkpoint.Rename("a")  # E: the new path is missing
gn.checkpoint.Split("a", 3)  # E: not a list of paths
gn.checkpoint.Changes(["a"])  # E: not a change
gn.checkpoint.restore("run", model, changes={"a": "b"})  # E: not changes
gn.checkpoint.read("file.npz", model)  # E: into is given by name
gn.checkpoint.write("file.npz")  # E: the model comes first


class Former(gn.Node, was=3):  # E: not a name
    width: int = gn.static(default=3, was=4)  # E: not a name
