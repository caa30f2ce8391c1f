"""The model in equinox.

An equinox module is a pytree, so it has no States: a split is a `partition` by a filter, a merge is
`combine`, and there is nothing to update in place. Which arrays are params is a pytree of bools, made once.
"""

import importlib
from functools import partial
from typing import Any

import jax

from ..library import EQUINOX, Library, Parts
from ..steps import FILTER_JIT, Step, advance, advance_by, arrays_in
from ..timing import Call

eqx: Any = importlib.import_module("equinox")


class Linear(eqx.Module):  # type: ignore[misc]
    w: jax.Array
    b: jax.Array


class Norm(eqx.Module):  # type: ignore[misc]
    scale: jax.Array
    bias: jax.Array
    mean: jax.Array
    var: jax.Array


class Block(eqx.Module):  # type: ignore[misc]
    linear: Linear
    norm: Norm


class Model(eqx.Module):  # type: ignore[misc]
    blocks: list[Block]
    counter: jax.Array


def construct(parts: Parts) -> Model:
    blocks = [
        Block(linear=Linear(w=w, b=b), norm=Norm(scale=scale, bias=bias, mean=mean, var=var))
        for w, b, scale, bias, mean, var in parts.rows
    ]
    return Model(blocks=blocks, counter=parts.counter)


def params_of(model: Model) -> list[Any]:
    layers = [(block.linear, block.norm) for block in model.blocks]
    return [param for linear, norm in layers for param in (linear.w, linear.b, norm.scale, norm.bias)]


def filter_spec(model: Model) -> Any:
    nothing = jax.tree.map(lambda _: False, model)
    return eqx.tree_at(params_of, nothing, replace_fn=lambda _: True)


def merge(model: Model) -> Call:
    arrays, rest = eqx.partition(model, eqx.is_array)
    return partial(eqx.combine, arrays, rest)


def jit(model: Model, step: Step) -> Call:
    """A step gives a new model, or the new counter alone: that is cheaper than to put it into a new model."""
    if step is Step.ALL:
        every = eqx.filter_jit(lambda model: jax.tree.map(advance, model))

        def call() -> None:
            nonlocal model
            model = every(model)
            model.counter.block_until_ready()

        return call
    one = eqx.filter_jit(
        (lambda model: advance(model.counter))
        if step is Step.ONE
        else (lambda model: advance_by(model.counter, arrays_in(model)))
    )
    return lambda: one(model).block_until_ready()


LIBRARY = Library(
    name=EQUINOX,
    module="equinox",
    construct=construct,
    split=lambda model: partial(eqx.partition, model, eqx.is_array),
    split_params=lambda model: partial(eqx.partition, model, filter_spec(model)),
    collect_params=lambda model: partial(eqx.filter, model, filter_spec(model)),
    merge=merge,
    state_tree=lambda model: model,
    graphdef=jax.tree.structure,
    steps={FILTER_JIT: jit},
)
