"""The model as nested dicts and lists of arrays, and what JAX itself does with those.

This is the baseline: whatever takes a model apart is compared with `jax.tree.flatten` of this, and
whatever puts one together with `jax.tree.unflatten`.
"""

from collections.abc import Hashable
from functools import partial
from typing import Any

import jax

from ..library import JAX, Library, Parts
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
)
