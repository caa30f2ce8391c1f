"""A config knows the class that is built from it."""

from typing import assert_type

import graphnode as gn
from graphnode.config import Change, Config, Summary


class Layer(gn.Node):
    width: int


class Net(gn.Node):
    layers: list[Layer]
    depth: int = 1


config = gn.config.loads("layers: [{width: 3}]", Net)
assert_type(config, Config[Net])
assert_type(gn.config.validate({"layers": []}, Net), Config[Net])
assert_type(gn.config.build(config), Net)
assert_type(gn.config.build(config).layers[0].width, int)
assert_type(gn.config.to_config(gn.config.build(config)), Config[Net])
assert_type(gn.config.override(config, ["depth=2"]), Config[Net])
assert_type(gn.config.config_of(Layer), type[Config[Layer]])
assert_type(gn.config.dump(config), str)
assert_type(gn.config.diff(config, config), tuple[Change, ...])
assert_type(gn.config.summary(config), Summary)
assert_type(gn.config.summary(config).parameters, int)
assert_type(gn.config.summary(config).view(depth=1), gn.Summary)
of_any: Config[gn.Node] = config


@gn.config.register("half")
def half(x: float) -> float:
    return x / 2


assert_type(half(1.0), float)
