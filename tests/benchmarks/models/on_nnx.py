"""The model in flax.nnx, in its default graph mode; `jit_partial` alone is made for its tree mode."""

import importlib
from functools import partial
from typing import Any, cast

from ..library import NNX, Library, Parts
from ..steps import NNX_CACHED_PARTIAL, NNX_JIT, NNX_JIT_PARTIAL, Step, stateful
from ..timing import Call

nnx: Any = importlib.import_module("flax.nnx")


class Count(nnx.Variable):  # type: ignore[misc]
    pass


class Linear(nnx.Module):  # type: ignore[misc]
    def __init__(self, w: Any, b: Any) -> None:
        self.w = w
        self.b = b


class Norm(nnx.Module):  # type: ignore[misc]
    def __init__(self, scale: Any, bias: Any, mean: Any, var: Any) -> None:
        self.scale = scale
        self.bias = bias
        self.mean = mean
        self.var = var


class Block(nnx.Module):  # type: ignore[misc]
    def __init__(self, linear: Linear, norm: Norm) -> None:
        self.linear = linear
        self.norm = norm


class Model(nnx.Module):  # type: ignore[misc]
    def __init__(self, blocks: list[Block], counter: Count) -> None:
        self.blocks = nnx.List(blocks)
        self.counter = counter


def construct(parts: Parts) -> Model:
    blocks = [
        Block(linear=Linear(w=w, b=b), norm=Norm(scale=scale, bias=bias, mean=mean, var=var))
        for w, b, scale, bias, mean, var in parts.rows
    ]
    return Model(blocks=blocks, counter=parts.counter)


def merge(model: Model) -> Call:
    graphdef, state = nnx.split(model)
    return partial(nnx.merge, graphdef, state)


def fresh(step: Step) -> Any:
    return stateful(step, nnx.Variable.get_value, nnx.Variable.set_value)


def jit(model: Model, step: Step) -> Call:
    return waiting(model, partial(nnx.jit(fresh(step)), model))


def jit_partial(model: Model, step: Step) -> Call:
    return waiting(model, nnx.jit_partial(fresh(step), model, graph=False))


def cached_partial(model: Model, step: Step) -> Call:
    return waiting(model, nnx.cached_partial(nnx.jit(fresh(step), graph=True, graph_updates=True), model))


def waiting(model: Model, compiled: Call) -> Call:
    def call() -> None:
        compiled()
        model.counter.get_value().block_until_ready()

    return call


LIBRARY = Library(
    name=NNX,
    module="flax.nnx",
    param=nnx.Param,
    batch=nnx.BatchStat,
    count=cast(Any, Count),  # ty takes what is derived from Any for something without a constructor
    construct=construct,
    split=lambda model: partial(nnx.split, model),
    split_params=lambda model: partial(nnx.split, model, nnx.Param, ...),
    collect_params=lambda model: partial(nnx.state, model, nnx.Param),
    merge=merge,
    update=lambda model, other: partial(nnx.update, model, nnx.state(other)),
    state_tree=nnx.state,
    graphdef=nnx.graphdef,
    steps={NNX_JIT: jit, NNX_JIT_PARTIAL: jit_partial, NNX_CACHED_PARTIAL: cached_partial},
)
