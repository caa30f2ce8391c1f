"""The figures of what names cost."""

from contextlib import nullcontext
from unittest import mock

import jax.numpy as jnp
import pytest

import graphnode as gn
from tests.work import calls_of

from .name_figures import measure_names
from .timing import Effort


def test_every_figure_is_measured():
    """In a hurry."""
    results = measure_names(Effort(rounds=1, seconds=0.0001))
    assert [result.title for result in results] == [
        "trace the gradient of a transformer",
        "call of a layer outside of a trace",
    ]
    assert all(result.value > 0 for result in results)


@pytest.mark.no_runtime_types
def test_names_add_little_to_a_trace():
    """Counted in calls, as a busy machine would falsify times: a few in a hundred, in a small model."""
    model = gn.nn.TransformerStack([gn.nn.TransformerBlock(4, 2) for _ in range(2)])
    trace = gn.make_jaxpr(lambda model, x: model(x))
    x = jnp.ones((2, 4))
    for _ in range(2):
        trace(model, x)
    named = calls_of(lambda: trace(model, x))
    with mock.patch("graphnode.transforms._pure.naming", return_value=nullcontext()):
        plain = calls_of(lambda: trace(model, x))
    assert plain < named < 1.05 * plain
