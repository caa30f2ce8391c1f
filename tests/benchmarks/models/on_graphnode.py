"""The model in graphnode."""

from collections.abc import Hashable
from functools import partial
from typing import Any

import jax

import graphnode as gn

from ..library import GRAPHNODE, Library, Parts
from ..steps import GN_JIT, Step, descend, forward, loss_of, stateful
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


def get(state: gn.State[jax.Array]) -> jax.Array:
    return state.value


def put(state: gn.State[jax.Array], value: jax.Array) -> None:
    state.value = value


def loss(model: Model) -> jax.Array:
    x: Any = 0.5
    for block in model.blocks:
        linear, norm = block.linear, block.norm
        arrays = (linear.w, linear.b, norm.scale, norm.bias, norm.mean, norm.var)
        x, norm.mean.value, norm.var.value = forward(x, *[state.value for state in arrays])
    return loss_of(x)  # type: ignore[no-any-return]  # of arrays, an array


def train(model: Model) -> jax.Array:
    value, gradients = gn.value_and_grad(loss)(model)
    gn.update_states(model, jax.tree.map(descend, gn.treefy_states(model, gn.ParamState), gradients))
    model.counter.value += 1
    return value


def fresh(step: Step) -> Any:
    if step is Step.TRAIN:
        return lambda model: train(model)  # a new function each time
    return stateful(step, get, put)


def jit(model: Model, step: Step) -> Call:
    compiled = gn.jit(fresh(step))

    def call() -> None:
        compiled(model)
        model.counter.value.block_until_ready()

    return call


def dispatch(model: Model, step: Step) -> Call:
    return partial(gn.jit(fresh(step)), model)


def trace(model: Model, step: Step) -> Call:
    return partial(gn.make_jaxpr(fresh(step)), model)


def compile_donating(model: Model, step: Step) -> jax.stages.Compiled:
    return gn.jit(fresh(step), donate=True).lower(model).compile()


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
    steps={GN_JIT: jit},
    dispatches={GN_JIT: dispatch},
    trace=trace,
    compile=compile_donating,
)
