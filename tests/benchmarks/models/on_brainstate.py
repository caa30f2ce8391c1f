"""The model in brainstate."""

import importlib
from functools import partial
from typing import Any, cast

from ..library import BRAINSTATE, Library, Parts
from ..steps import BRAINSTATE_JIT, Step, stateful
from ..timing import Call

brainstate: Any = importlib.import_module("brainstate")
graph: Any = brainstate.graph


class Count(brainstate.State):  # type: ignore[misc]
    pass


class Linear(graph.Node):  # type: ignore[misc]
    def __init__(self, w: Any, b: Any) -> None:
        self.w = w
        self.b = b


class Norm(graph.Node):  # type: ignore[misc]
    def __init__(self, scale: Any, bias: Any, mean: Any, var: Any) -> None:
        self.scale = scale
        self.bias = bias
        self.mean = mean
        self.var = var


class Block(graph.Node):  # type: ignore[misc]
    def __init__(self, linear: Linear, norm: Norm) -> None:
        self.linear = linear
        self.norm = norm


class Model(graph.Node):  # type: ignore[misc]
    def __init__(self, blocks: list[Block], counter: Count) -> None:
        self.blocks = blocks
        self.counter = counter


def construct(parts: Parts) -> Model:
    blocks = [
        Block(linear=Linear(w=w, b=b), norm=Norm(scale=scale, bias=bias, mean=mean, var=var))
        for w, b, scale, bias, mean, var in parts.rows
    ]
    return Model(blocks=blocks, counter=parts.counter)


def merge(model: Model) -> Call:
    graphdef, states = graph.treefy_split(model)
    return partial(graph.treefy_merge, graphdef, states)


def get(state: Any) -> Any:
    return state.value


def put(state: Any, value: Any) -> None:
    state.value = value


def jit(model: Model, step: Step) -> Call:
    """The step closes over the model: brainstate hands to JAX the States that it touches."""
    compiled = brainstate.transform.jit(partial(stateful(step, get, put), model))

    def call() -> None:
        compiled()
        model.counter.value.block_until_ready()

    return call


LIBRARY = Library(
    name=BRAINSTATE,
    module="brainstate",
    param=brainstate.ParamState,
    batch=brainstate.BatchState,
    count=cast(Any, Count),  # ty takes what is derived from Any for something without a constructor
    construct=construct,
    split=lambda model: partial(graph.treefy_split, model),
    split_params=lambda model: partial(graph.treefy_split, model, brainstate.ParamState, ...),
    collect_params=lambda model: partial(graph.states, model, brainstate.ParamState),
    merge=merge,
    update=lambda model, other: partial(graph.update_states, model, graph.treefy_states(other)),
    state_tree=graph.treefy_states,
    graphdef=graph.graphdef,
    steps={BRAINSTATE_JIT: jit},
)
