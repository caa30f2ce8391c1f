"""A small graph with a shared node, a list, a dict and a cycle, for tests of pictures."""

import jax.numpy as jnp

import graphnode as gn


class Leaf(gn.Node):
    """A leaf."""

    size: int
    weight: gn.ParamState
    bias: gn.ParamState | None = None


class Net(gn.Node):
    """A net."""

    leaves: list[Leaf]
    named: dict[str, Leaf]
    extra: Leaf | None = None
    parent: "Net | None" = gn.subnode(default=None)
    next: "Net | None" = gn.subnode(default=None)


def leaf(size: int = 2) -> Leaf:
    return Leaf(size, gn.ParamState(jnp.ones(size)))


def example() -> Net:
    """A list, a dict, a shared node and a cycle."""
    net = Net([leaf(), leaf()], {"a": leaf(3)})
    net.extra, net.parent = net.named["a"], net
    return net
