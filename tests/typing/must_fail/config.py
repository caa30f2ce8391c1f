"""Mistakes in what is built from a configuration."""

import graphnode as gn
from graphnode.config import Config


class Layer(gn.Node):
    width: int


class Net(gn.Node):
    layer: Layer


config = gn.config.loads("layer: {width: 3}", Net)
gn.config.load(3, Net)  # E: a number for a path
gn.config.load("net.yaml")  # E: the class is missing
gn.config.load("net.yaml", int)  # E: no node class
gn.config.load("net.yaml", Net(Layer(3)))  # E: a node for a class
gn.config.loads("", Net, fromat="json")  # E: misspelt
of_layer: Config[Layer] = config  # E: of a Net
layer: Layer = gn.config.build(config)  # E: a Net
print(gn.config.build(config).layer.widht)  # E: misspelt
gn.config.build(Net(Layer(3)))  # E: a node for a config
gn.config.build(config, 3)  # E: a number for a key
gn.config.to_config(config)  # E: a config for a node
gn.config.to_config(3)  # E: no node
gn.config.dump(config, format="ini")  # E: no such format
gn.config.override(config, [3])  # E: a number for a change
gn.config.summary(Net)  # E: a class for a config
gn.config.config_of(int)  # E: no node class
