"""The model in graphnode."""

from collections.abc import Hashable
from functools import partial
from typing import Any

import graphnode as gn

from ..library import GRAPHNODE, Library, Parts
from ..timing import Call


class Count(gn.State):
    """A State class of the user's own."""


class Linear(gn.Node):
    w: gn.ParamState
    b: gn.ParamState


class Norm(gn.Node):
    scale: gn.ParamState
    bias: gn.ParamState
    mean: gn.BatchState
    var: gn.BatchState


class Block(gn.Node):
    linear: Linear
    norm: Norm


class Model(gn.Node):
    blocks: list[Block]
    counter: Count


def construct(parts: Parts) -> Model:
    blocks = [
        Block(linear=Linear(w=w, b=b), norm=Norm(scale=scale, bias=bias, mean=mean, var=var))
        for w, b, scale, bias, mean, var in parts.rows
    ]
    return Model(blocks=blocks, counter=parts.counter)


def split(model: Model) -> Call:
    return partial(gn.treefy_split, model)


def split_params(model: Model) -> Call:
    return partial(gn.treefy_split, model, gn.ParamState, ...)


def collect_params(model: Model) -> Call:
    return partial(gn.states, model, gn.ParamState)


def merge(model: Model) -> Call:
    graphdef, tree = gn.treefy_split(model)
    return partial(gn.treefy_merge, graphdef, tree)


def update(model: Model, other: Model) -> Call:
    return partial(gn.update_states, model, state_tree(other))


def state_tree(model: Model) -> Any:
    _, tree = gn.treefy_split(model)
    return tree


def graphdef(model: Model) -> Hashable:
    return gn.graphdef(model)


LIBRARY = Library(
    name=GRAPHNODE,
    module="graphnode",
    param=gn.ParamState,
    batch=gn.BatchState,
    count=Count,
    construct=construct,
    split=split,
    split_params=split_params,
    collect_params=collect_params,
    merge=merge,
    update=update,
    state_tree=state_tree,
    graphdef=graphdef,
)
