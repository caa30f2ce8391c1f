"""The model as nested dicts and lists of arrays, and what JAX itself does with those.

This is the baseline: whatever takes a model apart is compared with `jax.tree.flatten` of this, and
whatever puts one together with `jax.tree.unflatten`. A compiled step is compared with functions of the arrays in a flat
tuple, and of these dicts.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax

from ..library import JAX, Library, Parts
from ..steps import JAX_DICT, JAX_TUPLE, Step, advance, advance_by, descend, forward, loss_of
from ..timing import Call


def construct(parts: Parts) -> Any:
    return {
        "blocks": [
            {"linear": {"w": w, "b": b}, "norm": {"scale": scale, "bias": bias, "mean": mean, "var": var}}
            for w, b, scale, bias, mean, var in parts.rows
        ],
        "counter": parts.counter,
    }


def flatten(model: Any) -> Call:
    return partial(jax.tree.flatten, model)


def unflatten(model: Any) -> Call:
    leaves, treedef = jax.tree.flatten(model)
    return partial(jax.tree.unflatten, treedef, leaves)


def graphdef(model: Any) -> Hashable:
    return jax.tree.structure(model)


def jit_tuple(model: Any, step: Step) -> Call:
    """A step from a flat tuple, the counter last: to a flat tuple, or to the counter alone."""
    values = tuple(jax.tree.leaves(model))
    if step is not Step.ALL:
        one = jax.jit(on_tuple(step))
        return lambda: one(values).block_until_ready()
    every = jax.jit(on_tuple(step))

    def call() -> None:
        nonlocal values
        values = every(values)
        values[-1].block_until_ready()

    return call


def dispatch_tuple(model: Any, step: Step) -> Call:
    return partial(jax.jit(on_tuple(step)), tuple(jax.tree.leaves(model)))


def on_tuple(step: Step) -> Callable[[tuple[Any, ...]], Any]:
    return {
        Step.ALL: lambda values: tuple([advance(value) for value in values]),
        Step.ONE: lambda values: advance(values[-1]),
        Step.TOTAL: lambda values: advance_by(values[-1], values),
    }[step]


def jit_dict(model: Any, step: Step) -> Call:
    """The same with nested dicts; who needs the counter alone puts it into them."""
    compiled = jax.jit(fresh(step))

    def call() -> None:
        nonlocal model
        model = compiled(model)
        model["counter"].block_until_ready()

    def call_one() -> None:
        model["counter"] = compiled(model)
        model["counter"].block_until_ready()

    return call if step is Step.ALL else call_one


def advance_all(model: Any) -> Any:
    return {
        "blocks": [
            {layer: {name: advance(value) for name, value in values.items()} for layer, values in block.items()}
            for block in model["blocks"]
        ],
        "counter": advance(model["counter"]),
    }


def train(model: Any) -> Any:
    """The training step as it is written by hand, on a model whose params are a dict of their own."""

    def loss(params: Any, statistics: Any) -> Any:
        x: Any = 0.5
        new: list[Any] = []
        for block, before in zip(params, statistics, strict=True):
            linear, norm = block["linear"], block["norm"]
            x, mean, var = forward(
                x, linear["w"], linear["b"], norm["scale"], norm["bias"], before["mean"], before["var"]
            )
            new.append({"mean": mean, "var": var})
        return loss_of(x), new

    params = model["params"]
    (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(params, model["statistics"])
    new_params = jax.tree.map(descend, params, gradients)
    return {"params": new_params, "statistics": statistics, "counter": model["counter"] + 1}, value


def parted(model: Any) -> Any:
    """The params apart from the running statistics."""
    blocks = model["blocks"]
    return {
        "params": [
            {"linear": block["linear"], "norm": {name: block["norm"][name] for name in ("scale", "bias")}}
            for block in blocks
        ],
        "statistics": [{name: block["norm"][name] for name in ("mean", "var")} for block in blocks],
        "counter": model["counter"],
    }


def fresh(step: Step) -> Callable[[Any], Any]:
    """The step as a new function on nested dicts."""
    return {
        Step.ALL: lambda model: advance_all(model),
        Step.ONE: lambda model: advance(model["counter"]),
        Step.TOTAL: lambda model: advance_by(model["counter"], jax.tree.leaves(model)),
        Step.TRAIN: lambda model: train(model),
    }[step]


def trace(model: Any, step: Step) -> Call:
    return partial(jax.make_jaxpr(fresh(step)), _given(model, step))


def compile_donating(model: Any, step: Step) -> jax.stages.Compiled:
    return jax.jit(fresh(step), donate_argnums=0).lower(_given(model, step)).compile()


def _given(model: Any, step: Step) -> Any:
    return parted(model) if step is Step.TRAIN else model


LIBRARY = Library(
    name=JAX,
    module="jax",
    construct=construct,
    split=flatten,
    split_params=flatten,
    collect_params=flatten,
    merge=unflatten,
    update=lambda model, _: flatten(model),
    state_tree=lambda model: model,
    graphdef=graphdef,
    steps={JAX_TUPLE: jit_tuple, JAX_DICT: jit_dict},
    dispatches={JAX_TUPLE: dispatch_tuple},
    trace=trace,
    compile=compile_donating,
)
