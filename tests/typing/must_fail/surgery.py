"""Mistakes in selections of nodes, and in what is done with them."""

import graphnode as gn
from graphnode import ParamState, Selection, nn


class Net(gn.Node):
    head: nn.Linear
    norm: nn.LayerNorm


net = Net(nn.Linear(2, 2), nn.LayerNorm(2))
linears = gn.select(net, nn.Linear)

# What is no class of nodes

gn.select(net, ParamState)  # E: a class of States
gn.select(net, "head")  # E: a path
gn.select(net, nn.Linear(2, 2))  # E: a node
gn.select(net, [nn.Linear, nn.Conv])  # E: a list
gn.select(net).of(int)  # E: no node

# What it is not of

norms: Selection[nn.LayerNorm] = linears  # E: of linear maps
for _, node in linears:
    print(node.width)  # E: a Linear has none
linears.where(lambda linear: linear.width > 2)  # E: a Linear has none
linears.under(3)  # E: no path
linears.exactly("3")  # E: no number


def of_norm(norm: nn.LayerNorm) -> nn.LayerNorm:
    return norm


def to_width(linear: nn.Linear) -> int:
    return linear.out_features


def none(linear: nn.Linear) -> None:
    return None


linears.replace(of_norm)  # E: of another class
linears.replace(to_width)  # E: to no node
linears.replace(none)  # E: to no node
linears.replace(nn.Linear(2, 2))  # E: no function of a node
linears.map(1)  # E: no function
linears.reinit("key")  # E: no key
linears.freeze(3)  # E: no filter

# Adapters

nn.LoRALinear(2, 3)  # E: no rank
nn.LoRALinear.of(net.norm, 2)  # E: no linear map
nn.LoRALinear.of(net.head)  # E: no rank
adapter: nn.LoRALinear = nn.LoRALinear.of(net.head, 2).fold()  # E: a plain one
